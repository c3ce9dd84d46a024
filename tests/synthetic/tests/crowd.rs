//! One user with very many processes, threads or long texts takes no row of a scan from others.

mod common;

use std::collections::BTreeSet;

use panoptes_engine::limits::Limits;
use panoptes_engine::walk::{Losses, Scope, Snapshot, Walker};
use panoptes_synthetic::{ForkOptions, Machine, Source, profile};

use common::{RELEASES, kernel, walker};

const USER: u32 = 4000;
const OTHER_USER: u32 = 4001;

/// A machine with so many bytes of memory.
fn machine(gigabytes: u64) -> Machine {
    Machine::builder(&profile(RELEASES[2])).memory(gigabytes << 30).build()
}

fn fork(machine: &mut Machine, container: usize, uid: u32) -> u32 {
    machine.fork_with(1, ForkOptions { container, uid, new_session: true })
}

/// What begins after the crowd: processes of root, of a user and in a container.
fn others(machine: &mut Machine) -> BTreeSet<u32> {
    let id = "0123456789abcdef".repeat(4);
    let container = machine.add_container(&format!("/system.slice/docker-{id}.scope"), "late");
    let others = [(0, 0), (0, OTHER_USER), (container, 0), (container, USER)];
    let others = others.map(|(container, uid)| fork(machine, container, uid));
    for pid in others {
        machine.exec(pid, "/usr/bin/nc", &["nc", "-l", &pid.to_string()]);
        machine.open(pid, &format!("/tmp/{}{pid}", "long".repeat(20)));
    }
    others.into()
}

fn scan<'a>(machine: &mut Machine, walker: &'a mut Walker) -> &'a Snapshot {
    let kernel = kernel(machine);
    let mut source = Source::new(machine);
    walker.scan(&mut source, &kernel, Scope::ALL).expect("processes are found")
}

/// Everything about the processes that began before or after the crowd is found.
fn assert_others_are_whole(machine: &Machine, snapshot: &Snapshot, crowd: &BTreeSet<u32>) {
    let is_other = |line: &&String| {
        let mut words = line.split([' ', ':']);
        let subject = match words.next() {
            Some("process") => words.next(),
            Some("descriptor" | "area") => words.nth(2),
            _ => None,
        };
        subject.and_then(|word| word.parse().ok()).is_some_and(|pid| !crowd.contains(&pid))
    };
    let (expected, found) = (common::expected(machine), common::found(snapshot));
    let missing: Vec<_> =
        expected.iter().filter(is_other).filter(|line| !found.contains(*line)).take(10).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(expected.iter().filter(is_other).count() > 50);
    for process in snapshot.processes.iter() {
        let pid = snapshot.leader(process).map_or(0, |leader| leader.task.pid);
        assert!(crowd.contains(&pid) || process.container_known, "{pid}");
    }
    let Losses { dropped, process_id, .. } = snapshot.losses;
    assert!(dropped > 0);
    assert!(process_id.is_some_and(|pid| crowd.contains(&pid)), "{process_id:?}");
}

#[test]
fn long_command_lines_of_one_user_leave_room_for_those_of_others() {
    let mut machine = machine(2);
    let long = "x".repeat(3900);
    let crowd: BTreeSet<_> = (0..3400)
        .map(|_| {
            let pid = fork(&mut machine, 0, USER);
            machine.exec(pid, "/bin/cat", &["cat", &long]);
            pid
        })
        .collect();
    others(&mut machine);
    let mut walker = walker(&Limits::default());
    let snapshot = scan(&mut machine, &mut walker);
    assert_others_are_whole(&machine, snapshot, &crowd);
    for &pid in &crowd {
        let process = snapshot.process_by_pid(pid).expect("it was forked");
        let mm = snapshot.mms.at(process.mm).expect("it has an address space");
        let line = snapshot.text(mm.command_line);
        assert!(mm.has_command_line && mm.command_line_cut, "{pid}");
        assert!(line.starts_with(b"cat\0xxx") && line.len() > 1500, "{pid}: {}", line.len());
    }
}

#[test]
fn processes_of_one_user_leave_room_for_those_of_others() {
    let mut machine = machine(4);
    let mut crowd = vec![fork(&mut machine, 0, USER)];
    for at in 0..33_500 {
        // Each has a few children.
        crowd.push(machine.fork(crowd[at / 64]));
    }
    let crowd = BTreeSet::from_iter(crowd);
    others(&mut machine);
    let mut walker = walker(&Limits::default());
    let snapshot = scan(&mut machine, &mut walker);
    assert_others_are_whole(&machine, snapshot, &crowd);
    assert!(snapshot.processes.len() > 25_000, "{}", snapshot.processes.len());
}

#[test]
fn threads_of_one_user_leave_room_for_those_of_others() {
    let mut machine = machine(4);
    let before = fork(&mut machine, 0, OTHER_USER);
    let crowd = BTreeSet::from([(); 2].map(|()| fork(&mut machine, 0, USER)));
    for at in 0..67_000 {
        let pid = crowd.iter().nth(at % crowd.len()).expect("it exists");
        machine.start_thread(*pid);
    }
    let mut others = others(&mut machine);
    others.insert(before);
    let threads: BTreeSet<u32> = others
        .iter()
        .flat_map(|&pid| [(); 20].map(|()| pid))
        .map(|pid| machine.start_thread(pid))
        .collect();
    let mut walker = walker(&Limits::default());
    let snapshot = scan(&mut machine, &mut walker);
    assert_others_are_whole(&machine, snapshot, &crowd);
    let found: BTreeSet<u32> = snapshot.threads.iter().map(|row| row.task.pid).collect();
    let missing: Vec<_> = threads.difference(&found).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for pid in crowd {
        let process = snapshot.process_by_pid(pid).expect("it was forked");
        assert!(process.threads.len() > 25_000, "{pid}: {}", process.threads.len());
    }
}
