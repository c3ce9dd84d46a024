//! One process, user or network namespace wants more rows than all others together.

use proptest::prelude::*;

use super::watch::{Watch, at_once, limits};
use super::world::{
    ESTABLISHED, FakeArea, FakeFile, FakeProcess, FakeSocket, FakeThread, R, TIME_WAIT, W, World,
};
use crate::limits::{Limit, Limits};
use crate::loss::BlamedProcess;

fn file(ino: u64) -> FakeFile {
    FakeFile::regular(0xffff_8885_0000_0000 + ino * 512, ino, &format!("file{ino}"))
}

fn with_files(mut process: FakeProcess, count: u32) -> FakeProcess {
    process.files = (0..count).map(|index| (index, FakeFile::pipe(0x9000, 9))).collect();
    process
}

fn with_areas(mut process: FakeProcess, count: u64) -> FakeProcess {
    let area = |at: u64| FakeArea::anonymous(at << 20, (at << 20) + 4096, R | W);
    process.areas = (1..=count).map(area).collect();
    process
}

/// A watch whose scans see far more than is tracked.
fn watch(tracked: &Limits, first: &World) -> Watch {
    let seen = Limits {
        file_descriptors: (tracked.file_descriptors * 2).max(2000),
        vmas: (tracked.vmas * 2).max(2000),
        connections: tracked.connections * 2,
        ..*tracked
    };
    let mut watch = Watch::new(tracked, at_once());
    watch.snapshot = crate::walk::Snapshot::empty(&seen);
    assert!(watch.scan(first).iter().all(|line| line.starts_with("limit ")));
    watch
}

fn blamed(watch: &Watch, limit: Limit) -> Option<u32> {
    watch.state.untracked()[limit as usize].process_id()
}

/// 170,000 duplicates of one descriptor, opened before the attack.
#[test]
fn descriptors_of_others_are_tracked_beside_a_process_with_170_000() {
    let tracked = Limits { file_descriptors: 131_072, processes: 1000, ..limits() };
    let mut world = World::default().with(with_files(FakeProcess::new(7), 170_000));
    let mut watch = watch(&tracked, &world);
    world.processes.push(FakeProcess::new(9).with_file(0, file(1)).with_file(300, file(2)));
    let lines = watch.scan(&world);
    let reported: Vec<_> = lines.iter().filter(|line| !line.starts_with("limit")).collect();
    assert_eq!(reported, ["+process 9 task9", "+fd 9/0 /file1", "+fd 9/300 /file2"]);
    assert_eq!(blamed(&watch, Limit::Descriptors), Some(7));
    world.process(9).files.pop();
    let expected: [String; 2] = ["-fd 9/300 /file2".into(), "+fd 9/1 /file3".into()];
    world.process(9).files.push((1, file(3)));
    let mut lines = watch.scan(&world);
    lines.sort();
    assert_eq!(lines, {
        let mut all = expected;
        all.sort();
        all
    });
    assert_eq!(watch.scan(&world), Vec::<String>::new(), "nothing flaps");
}

/// Each thread of one process has its own table.
#[test]
fn descriptors_of_others_are_tracked_beside_threads_with_own_tables() {
    let tracked = Limits { file_descriptors: 64, ..limits() };
    let mut hog = with_files(FakeProcess::new(7), 3);
    for tid in 71..91 {
        let files = Some(with_files(FakeProcess::new(7), 20).files);
        hog.threads.push(FakeThread { files, ..FakeThread::new(tid) });
    }
    let mut world = World::default().with(hog);
    let mut watch = watch(&tracked, &world);
    assert_eq!(blamed(&watch, Limit::Descriptors), Some(7));
    for pid in [9, 10] {
        world.processes.push(with_files(FakeProcess::new(pid), 15));
        let lines = watch.scan(&world);
        let opened = lines.iter().filter(|line| line.starts_with(&format!("+fd {pid}/")));
        assert_eq!(opened.count(), 15, "{lines:?}");
        assert_eq!(without_limits(&lines).len(), 16, "{lines:?}");
        for _ in 0..3 {
            assert_eq!(without_limits(&watch.scan(&world)), Vec::<&str>::new());
            assert_eq!(watch.state.rows_of(pid, Limit::Descriptors), 15);
        }
    }
    assert_eq!(blamed(&watch, Limit::Descriptors), Some(7));
}

/// What was cut was neither closed nor, when it is tracked again, opened.
#[test]
fn rows_that_return_are_not_reported() {
    let tracked = Limits { file_descriptors: 64, vmas: 64, ..limits() };
    let hog = with_areas(with_files(FakeProcess::new(7), 60), 60);
    let mut world = World::default().with(hog);
    let mut watch = watch(&tracked, &world);
    let other = with_areas(with_files(FakeProcess::new(9), 20), 20);
    world.processes.push(other);
    let lines = watch.scan(&world);
    assert_eq!(lines.iter().filter(|line| line.starts_with("+fd 9/")).count(), 20);
    assert_eq!(lines.iter().filter(|line| line.starts_with("+area 9 ")).count(), 20);
    assert!(lines.iter().all(|line| !line.contains("fd 7/") && !line.contains("area 7")));
    assert_eq!(watch.state.usage(Limit::Descriptors).used, 60);
    // The highest descriptor is closed while it is not tracked, another one while it is.
    world.process(7).files.retain(|file| file.0 != 59 && file.0 != 2);
    assert_eq!(watch.scan(&world), ["-fd 7/2 pipe:[9]"]);
    world.remove(9);
    assert_eq!(watch.scan(&world)[0], "-process 9 task9");
    let lines = watch.scan(&world);
    assert!(lines.iter().all(|line| line.starts_with("cleared")), "{lines:?}");
    assert_eq!(watch.state.usage(Limit::Descriptors).used, 58);
    assert_eq!(watch.state.usage(Limit::Areas).used, 60);
    world.process(7).files.push((61, file(4)));
    assert_eq!(watch.scan(&world), ["+fd 7/61 /file4"]);
}

/// Five processes with as many areas as the kernel allows.
#[test]
fn areas_of_others_are_tracked_beside_processes_with_65_530() {
    let tracked = Limits { vmas: 262_144, processes: 1000, ..limits() };
    let mut world = World::default();
    for pid in 10..15 {
        world.processes.push(with_areas(FakeProcess::new(pid), 65_530));
    }
    let mut watch = watch(&tracked, &world);
    world.processes.push(with_areas(FakeProcess::new(20), 50));
    let lines = watch.scan(&world);
    assert_eq!(lines.iter().filter(|line| line.starts_with("+area 20")).count(), 50);
    assert!((10..15).contains(&blamed(&watch, Limit::Areas).unwrap()));
    let processes: Vec<_> = watch.state.processes().map(|(id, _)| id).collect();
    let versions = |watch: &Watch| -> Vec<_> {
        processes.iter().map(|&id| watch.state.areas_version(id)).collect()
    };
    let before = versions(&watch);
    assert_eq!(watch.scan(&world), Vec::<String>::new());
    assert_eq!(versions(&watch), before, "a process that is partly tracked has not changed");
    // An area beyond the share changes.
    world.process(10).areas.last_mut().unwrap().flags = R;
    assert_eq!(watch.scan(&world), Vec::<String>::new());
    let changed =
        versions(&watch).iter().zip(&before).filter(|(now, before)| now != before).count();
    assert_eq!(changed, 1);
}

#[test]
fn threads_of_others_are_tracked_beside_a_process_with_thousands() {
    let tracked = Limits { threads: 1000, ..limits() };
    let mut hog = FakeProcess::new(7);
    for tid in 10_000..13_000 {
        hog = hog.with_thread(tid);
    }
    let mut world = World::default().with(hog);
    let mut watch = watch(&tracked, &world);
    world.processes.push(FakeProcess::new(9).with_thread(90).with_thread(91));
    let lines = watch.scan(&world);
    let reported: Vec<_> = lines.iter().filter(|line| !line.starts_with("limit")).collect();
    assert_eq!(reported, ["+process 9 task9", "+thread 9/90", "+thread 9/91"]);
    assert_eq!(blamed(&watch, Limit::Threads), Some(7));
    assert_eq!(watch.scan(&world), Vec::<String>::new());
    world.process(7).threads.truncate(100);
    let lines = watch.scan(&world);
    let ended = lines.iter().filter(|line| line.starts_with("-thread 7/")).count();
    assert!((800..1000).contains(&ended), "{ended} of those that were tracked");
    assert!(lines.iter().all(|line| !line.starts_with("+thread")));
}

fn of_user(pid: u32, uid: u32) -> FakeProcess {
    FakeProcess { uid, ..FakeProcess::new(pid) }
}

fn without_limits(lines: &[String]) -> Vec<&str> {
    let is_limit = |line: &&str| line.starts_with("limit ") || line.starts_with("cleared ");
    lines.iter().map(String::as_str).filter(|line| !is_limit(line)).collect()
}

/// As many sleepers of one user as processes are tracked.
#[test]
fn processes_of_others_are_tracked_beside_4096_sleepers() {
    let tracked = Limits { processes: 4096, ..limits() };
    let mut world = World::default();
    world.processes.extend((100..4300).map(|pid| of_user(pid, 1000)));
    let mut watch = watch(&tracked, &world);
    world.processes.push(FakeProcess::new(5000).with_file(3, file(1)));
    world.processes.push(of_user(5001, 1001));
    let expected = ["+process 5000 task5000", "+process 5001 task5001", "+fd 5000/3 /file1"];
    assert_eq!(without_limits(&watch.scan(&world)), expected);
    let process = watch.state.processes().find(|(_, process)| process.process_id() == 5000);
    let cx = watch.state.scan_context(&watch.snapshot, watch.now);
    assert_eq!(process.unwrap().1.facts(cx.strings).executable, Some(&b"/bash"[..]));
    let blamed = blamed(&watch, Limit::Processes).unwrap();
    assert!((100..4300).contains(&blamed), "{blamed}");
    for _ in 0..20 {
        assert_eq!(watch.scan(&world), Vec::<String>::new(), "nothing flaps");
    }
    // A further process of the crowd has no row, and is named. The others count once.
    let untracked = world.processes.len() as u64 - watch.state.usage(Limit::Processes).used;
    assert!(untracked >= 4206 - 4096);
    let lost = &mut watch.state.losses(&watch.snapshot, watch.now).2[Limit::Processes as usize];
    assert_eq!((lost.missed(), lost.standing()), (untracked, untracked));
    lost.begin_period();
    world.processes.push(of_user(6000, 1000));
    world.processes.push(of_user(6001, 1000));
    watch.scan(&world);
    let lost = &watch.state.untracked()[Limit::Processes as usize];
    let last: Vec<_> = lost.blamed().iter().map(|blamed| blamed.process_id).collect();
    assert_eq!(last[last.len() - 2..], [6000, 6001]);
    assert_eq!((lost.names_another(), lost.standing()), (true, untracked + 2));
}

/// A process with much more than others kept those from being named that lose rows beside it.
#[test]
fn each_process_above_its_share_is_named_with_what_it_lost() {
    let tracked = Limits { file_descriptors: 64, vmas: 64, threads: 64, ..limits() };
    let mut hog = with_areas(with_files(FakeProcess::new(7), 90), 90);
    hog.threads.extend((701..800).map(FakeThread::new));
    let mut world = World::default().with(hog);
    let mut watch = watch(&tracked, &world);
    let mut other = with_areas(with_files(FakeProcess::new(9), 45), 45);
    other.threads.extend((901..950).map(FakeThread::new));
    world.processes.push(other);
    for _ in 0..20 {
        watch.scan(&world);
    }
    for limit in [Limit::Threads, Limit::Descriptors, Limit::Areas] {
        let lost = &watch.state.untracked()[limit as usize];
        let of =
            |pid| lost.blamed().iter().find(|it| it.process_id == pid).map(BlamedProcess::missed);
        let seen = if limit == Limit::Threads { 99 + 49 } else { 90 + 45 };
        let used = watch.state.usage(limit).used;
        assert_eq!(lost.standing(), seen - used, "{limit:?}: each counts once");
        assert!(of(7) > of(9) && of(9) > Some(10), "{limit:?}: {:?} {:?}", of(7), of(9));
    }
}

/// An evicted process has not ended, and one that returns has not begun.
#[test]
fn evicted_processes_return_without_a_record() {
    let tracked = Limits { processes: 32, ..limits() };
    let mut world = World::default();
    let mut watch = watch(&tracked, &world);
    world.processes.extend((100..130).map(|pid| of_user(pid, 1000).with_file(0, file(1))));
    assert_eq!(without_limits(&watch.scan(&world)).len(), 60, "all fit");
    world.processes.extend((200..206).map(FakeProcess::new));
    let lines = watch.scan(&world);
    let expected: Vec<_> = (200..206).map(|pid| format!("+process {pid} task{pid}")).collect();
    assert_eq!(without_limits(&lines), expected);
    assert_eq!(watch.state.usage(Limit::Processes).used, 32);
    // One evicted process ends, and then all of root.
    world.remove(129);
    assert_eq!(without_limits(&watch.scan(&world)), Vec::<&str>::new());
    (200..206).for_each(|pid| world.remove(pid));
    let lines = watch.scan(&world);
    assert_eq!(without_limits(&lines).len(), 6, "{lines:?}");
    assert_eq!(without_limits(&watch.scan(&world)), Vec::<&str>::new());
    assert_eq!(watch.state.usage(Limit::Processes).used, 30);
    // They are tracked like all others again.
    world.process(128).files.push((1, file(2)));
    world.remove(127);
    let mut lines = watch.scan(&world);
    lines.retain(|line| !line.starts_with("cleared"));
    assert_eq!(lines, ["-process 127 task127", "+fd 128/1 /file2"]);
}

/// A container counts as one, even if its processes are root's. The groups that a user makes do not
/// count as containers.
#[test]
fn containers_take_no_processes_of_the_host() {
    let tracked = Limits { processes: 32, ..limits() };
    for is_users in [false, true] {
        let mut world = World::default();
        let mut watch = watch(&tracked, &world);
        world.processes.extend((100..130).map(|pid| {
            let (uid, name) =
                if is_users { (1000, format!("users-{pid}")) } else { (0, "c0ffee".into()) };
            of_user(pid, uid).in_container(&name)
        }));
        watch.scan(&world);
        world.processes.extend((200..206).map(FakeProcess::new));
        let lines = watch.scan(&world);
        let ended = lines.iter().filter(|line| line.starts_with("-process")).count();
        let new = lines.iter().filter(|line| line.starts_with("+process 2")).count();
        assert_eq!((new, ended), (6, 0), "{lines:?}");
    }
}

/// 1,300 names of 4,095 bytes.
#[test]
fn names_of_processes_always_have_room() {
    let tracked = Limits { file_descriptors: 4096, processes: 100, ..limits() };
    let deep = format!("/{:039}", 0).repeat(102);
    let long = |ino: u64| FakeFile { name: format!("{deep}/{ino:010}"), ..file(ino) };
    let mut hog = FakeProcess::new(7);
    hog.files = (0..1300).map(|index| (index, long(u64::from(index) + 10))).collect();
    let mut world = World::default().with(hog);
    let mut watch = watch(&tracked, &world);
    let mut other = FakeProcess::new(9).in_container("c0ffee").with_file(3, file(5000));
    other.executable = Some(FakeFile::regular(0x6000, 6000, "implant"));
    other.arguments = [b"x\0".repeat(40), b"y".repeat(3000)].concat();
    world.processes.push(other);
    let lines = watch.scan(&world);
    assert!(lines.contains(&"+fd 9/3 /file5000".into()), "{lines:?}");
    let check = |watch: &Watch| {
        let cx = watch.state.scan_context(&watch.snapshot, watch.now);
        let (_, process) =
            watch.state.processes().find(|(_, process)| process.process_id() == 9).unwrap();
        let facts = process.facts(cx.strings);
        assert_eq!(facts.executable, Some(&b"/implant"[..]));
        assert_eq!(facts.directory, Some(&b"/"[..]));
        assert_eq!(facts.container, Some(&b"c0ffee"[..]));
        let line = facts.command_line.unwrap();
        assert!(line.starts_with(b"x\0x\0") && line.len() >= 160);
    };
    check(&watch);
    assert_eq!(blamed(&watch, Limit::Strings), Some(7));
    for _ in 0..3 {
        watch.scan(&world);
    }
    check(&watch);
    // The hog's names were cut, so there is room for those of others, which stay whole.
    world.process(9).files.push((4, FakeFile { name: "a/name".into(), ..file(5001) }));
    world.process(9).files.push((5, long(5002)));
    assert_eq!(watch.scan(&world)[0], "+fd 9/4 /a/name");
    world.process(9).files.clear();
    let lines = watch.scan(&world);
    assert_eq!(without_limits(&lines)[..2], ["-fd 9/3 /file5000", "-fd 9/4 /a/name"]);
    assert!(lines.iter().any(|line| line.starts_with("-fd 9/5 /0000") && line.len() > 4000));
    world.process(7).files.retain(|file| file.0 != 11);
    let lines = watch.scan(&world);
    let closed = lines.iter().find(|line| line.starts_with("-fd 7/11 /0000")).unwrap();
    assert!(closed.contains('~') && closed.len() < 80, "{closed}");
}

/// Names of a few bytes take few bytes each, but as many places as long ones.
#[test]
fn very_many_short_names_leave_nobody_nameless() {
    let tracked = Limits { file_descriptors: 4096, processes: 100, ..limits() };
    let short = |ino: u64| FakeFile { name: format!("{ino:x}"), ..file(ino) };
    let mut world = World::default().with(FakeProcess::new(7));
    let mut watch = watch(&tracked, &world);
    // When the other one comes, there is no room: only its record has its name.
    let flood = (0..3000).map(|index| (index, short(u64::from(index) + 16)));
    world.process(7).files.extend(flood);
    let mapped = FakeArea::of_file(0x7000, 0x8000, R, &file(5001));
    let other = FakeProcess::new(9).with_file(3, file(5000)).with_area(mapped);
    world.processes.push(other);
    let lines = watch.scan(&world);
    assert!(lines.contains(&"+fd 9/3 /file5000".into()), "{lines:?}");
    // The hog opens more files, and gets no more room.
    for scan in 0..200 {
        let index = 3000 + scan % 16;
        world.process(7).files.retain(|file| file.0 != index);
        world.process(7).files.push((index, short(9000 + u64::from(scan))));
        world.process(7).files.sort_by_key(|file| file.0);
        watch.scan(&world);
        assert_eq!(blamed(&watch, Limit::Strings), Some(7));
    }
    world.process(9).files.clear();
    world.process(9).areas.clear();
    let lines = watch.scan(&world);
    assert_eq!(without_limits(&lines), ["-fd 9/3 /file5000", "-area 9 7000-8000 /file5001"]);
    // Without it, all have names again.
    world.process(7).files.truncate(1000);
    for _ in 0..200 {
        watch.scan(&world);
    }
    world.process(7).files.clear();
    let closed = watch.scan(&world);
    let is_named = |line: &&String| line.starts_with("-fd 7/") && line.contains(" /");
    assert_eq!(closed.iter().filter(is_named).count(), 1000);
}

const SOCK: u64 = 0xffff_8887_0000_0000;

/// Adds `count` connections from `port` on to a process.
fn connect(world: &mut World, pid: u32, port: u16, count: u16) {
    for number in 0..count {
        let sock = SOCK + u64::from(port + number) * 0x1000;
        let file = FakeFile::socket(sock + 0x200, u64::from(port + number), sock);
        world.process(pid).files.push((u32::from(number), file));
        world.sockets.push(FakeSocket::new(sock, port + number, ESTABLISHED));
    }
}

/// A busy proxy, and then a flood of connections that wait.
#[test]
fn connections_of_others_are_tracked_beside_a_busy_proxy() {
    let tracked = Limits { connections: 64, file_descriptors: 1000, ..limits() };
    let mut world = World::default().with(FakeProcess::new(7));
    connect(&mut world, 7, 10_000, 200);
    let mut watch = watch(&tracked, &world);
    world.processes.push(FakeProcess::new(9));
    connect(&mut world, 9, 58_848, 1);
    for port in 20_000..20_300 {
        let at = SOCK + u64::from(port) * 0x1000;
        world.sockets.push(FakeSocket::new(at, port, TIME_WAIT));
    }
    let lines = watch.scan(&world);
    let connections: Vec<_> = lines.iter().filter(|line| line.contains("connection ")).collect();
    assert_eq!(connections.len(), 1, "{connections:?}");
    assert!(connections[0].starts_with("+connection 58848 ESTABLISHED 9/0 task9"));
    assert_eq!(blamed(&watch, Limit::Connections), Some(7));
    for _ in 0..12 {
        assert_eq!(watch.scan(&world), Vec::<String>::new(), "nothing flaps");
    }
    // With fewer of them, those that wait have the rest.
    world.sockets.retain(|socket| !(10_030..20_000).contains(&socket.source.1));
    world.process(7).files.truncate(30);
    for _ in 0..3 {
        watch.scan(&world);
    }
    let used = watch.state.usage(Limit::Connections).used;
    assert!((58..=64).contains(&used), "{used}");
}

/// Each scan shows a quarter of a busy proxy's connections, and of those of others.
#[test]
fn connections_of_others_are_tracked_while_chains_take_turns() {
    const TURNS: usize = 4;
    let tracked = Limits { connections: 64, file_descriptors: 1000, ..limits() };
    let mut world = World::default().with(FakeProcess::new(7));
    connect(&mut world, 7, 10_000, 200);
    let mut watch = Watch::new(&tracked, at_once());
    watch.snapshot = crate::walk::Snapshot::empty(&tracked);
    let mut scans = 0..;
    let mut round = |world: &World| {
        let mut lines = Vec::new();
        for scan in scans.by_ref().take(TURNS) {
            let mut some = world.clone();
            some.sockets.retain(|socket| usize::from(socket.source.1) % TURNS == scan % TURNS);
            some.show(&mut watch.snapshot);
            watch.snapshot.chains_in_turn = true;
            watch.snapshot.chains_round = (scan / TURNS) as u32;
            lines.extend(watch.update_from());
        }
        let is_connection = |line: &String| line.contains("connection ");
        let lines: Vec<_> = lines.into_iter().filter(is_connection).collect();
        (lines, blamed(&watch, Limit::Connections))
    };
    for _ in 0..5 {
        assert_eq!(round(&world), (Vec::new(), Some(7)));
    }
    world.processes.push(FakeProcess::new(9));
    connect(&mut world, 9, 58_845, 4);
    let (lines, _) = round(&world);
    for number in 0..4 {
        let expected = format!("+connection {} ESTABLISHED 9/{number} task9", 58_845 + number);
        assert!(lines.iter().any(|line| line.starts_with(&expected)), "{lines:?}");
    }
    assert_eq!(lines.len(), 4, "{lines:?}");
    for _ in 0..5 {
        assert_eq!(round(&world), (Vec::new(), Some(7)), "nothing flaps");
    }
    world.sockets.retain(|socket| socket.source.1 < 58_845);
    let lines: Vec<_> = (0..8).flat_map(|_| round(&world).0).collect();
    let ended: Vec<_> = lines.iter().filter(|line| line.starts_with('-')).collect();
    assert!(ended.iter().all(|line| line.starts_with("-connection 5884")), "{ended:?}");
    assert_eq!(ended.len(), 4, "{ended:?}");
}

/// A connection that made room has not ended, and is not new when it is tracked again.
#[test]
fn evicted_connections_return_without_a_record() {
    let tracked = Limits { connections: 64, file_descriptors: 1000, ..limits() };
    let mut world = World::default().with(FakeProcess::new(7)).with(of_user(9, 1000));
    let mut watch = watch(&tracked, &world);
    connect(&mut world, 7, 10_000, 60);
    let count = |lines: &[String], sign: &str| {
        lines.iter().filter(|line| line.starts_with(&format!("{sign}connection"))).count()
    };
    assert_eq!(count(&watch.scan(&world), "+"), 60);
    connect(&mut world, 9, 20_000, 20);
    let lines = watch.scan(&world);
    assert_eq!((count(&lines, "+"), count(&lines, "-")), (20, 0));
    world.sockets.truncate(60);
    world.process(9).files.clear();
    let mut all = Vec::new();
    for _ in 0..6 {
        all.extend(watch.scan(&world));
    }
    assert_eq!((count(&all, "+"), count(&all, "-")), (0, 20));
    assert_eq!(watch.state.usage(Limit::Connections).used, 60);
    world.sockets.clear();
    world.process(7).files.clear();
    all.clear();
    for _ in 0..3 {
        all.extend(watch.scan(&world));
    }
    assert_eq!((count(&all, "+"), count(&all, "-")), (0, 60));
}

#[derive(Clone, Debug)]
enum Step {
    Fork(u32),
    Exit(u32),
    Files(u32, u32),
    Areas(u32, u64),
    Open(u32, u32),
    Scan,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pid = || 2..8_u32;
    let step = prop_oneof![
        2 => pid().prop_map(Step::Fork),
        1 => pid().prop_map(Step::Exit),
        2 => (pid(), 0..90_u32).prop_map(|(pid, count)| Step::Files(pid, count)),
        2 => (pid(), 0..90_u64).prop_map(|(pid, count)| Step::Areas(pid, count)),
        1 => (pid(), 0..90_u32).prop_map(|(pid, index)| Step::Open(pid, index)),
        4 => Just(Step::Scan),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// A process that wants no more than an equal part has all its rows tracked, and each of them
    /// is reported once. A process that wants more has at least that part. A scan like the last
    /// reports nothing.
    #[test]
    fn nobody_takes_the_part_of_others(steps in steps()) {
        const ROWS: u32 = 64;
        let mut watch = watch(&limits(), &World::default());
        let mut world = World::default();
        for step in steps {
            match step {
                Step::Fork(pid) if world.processes.iter().all(|process| process.pid != pid) => {
                    world.processes.push(FakeProcess::new(pid));
                }
                Step::Exit(pid) => world.remove(pid),
                _ => {}
            }
            let find = |pid: u32, world: &mut World| {
                world.processes.iter().position(|process| process.pid == pid)
            };
            match step {
                Step::Files(pid, count) => {
                    if let Some(at) = find(pid, &mut world) {
                        let process = world.processes[at].clone();
                        world.processes[at] = with_files(process, count);
                    }
                }
                Step::Areas(pid, count) => {
                    if let Some(at) = find(pid, &mut world) {
                        let process = world.processes[at].clone();
                        world.processes[at] = with_areas(process, count);
                    }
                }
                Step::Open(pid, index) => {
                    if let Some(at) = find(pid, &mut world) {
                        let files = &mut world.processes[at].files;
                        match files.binary_search_by_key(&index, |file| file.0) {
                            Ok(place) => files[place].1 = file(77),
                            Err(place) => files.insert(place, (index, file(77))),
                        }
                    }
                }
                Step::Scan => {
                    watch.scan(&world);
                    // Rows that were closed make room in the second scan.
                    watch.scan(&world);
                    let lines = watch.scan(&world);
                    prop_assert_eq!(&lines, &Vec::<String>::new());
                    let count = world.processes.len() as u32;
                    for (wanted, limit) in [
                        (
                            world.processes.iter().map(|it| it.files.len()).collect::<Vec<_>>(),
                            Limit::Descriptors,
                        ),
                        (
                            world.processes.iter().map(|it| it.areas.len()).collect(),
                            Limit::Areas,
                        ),
                    ] {
                        let usage = watch.state.usage(limit);
                        prop_assert!(usage.used <= u64::from(ROWS));
                        let part = ((ROWS - ROWS / 16) / count) as usize;
                        let total: usize = wanted.iter().sum();
                        for (process, &wanted) in world.processes.iter().zip(&wanted) {
                            let tracked = watch.state.rows_of(process.pid, limit);
                            let fits = total <= ROWS as usize;
                            let least = if fits { wanted } else { wanted.min(part) };
                            prop_assert!(
                                (least..=wanted).contains(&tracked),
                                "{limit:?} of {}: {tracked} of {wanted}, part {part}", process.pid
                            );
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
