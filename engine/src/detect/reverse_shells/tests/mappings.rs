//! Relays by memory that two processes map, and programs that share memory for other reasons.

use panoptes_decoders::kernel::super_block::{FilesKind, Filesystem, magic};
use panoptes_decoders::kernel::vm_area_struct::VM_MAYSHARE;

use super::*;
use crate::state::tests::world::{FakeArea, R, W, X};
use crate::walk::SuperBlockRow;

pub(super) const SHARED: u64 = R | W | VM_MAYSHARE;

/// Puts files on filesystems with these magic numbers, by the numbers of their inodes.
pub(super) fn put_filesystems(snapshot: &mut Snapshot, filesystems: &HashMap<u64, u64>) {
    for (&number, &magic) in filesystems {
        let filesystem = Filesystem { magic, files: FilesKind::of(magic), ..Filesystem::default() };
        let row = SuperBlockRow { filesystem, ..SuperBlockRow::default() };
        let at = snapshot.super_blocks.row_of(magic, || row);
        for inode in snapshot.inodes.iter_mut().filter(|it| it.attributes.ino == number) {
            inode.super_block = at;
        }
    }
}

/// Maps a file in a process.
pub(super) fn map(machine: &mut Machine, pid: u32, file: &FakeFile, flags: u64) {
    let process = machine.world.process(pid);
    let start = 0x7f00_0000_0000 + process.areas.len() as u64 * 0x10_0000;
    process.areas.push(FakeArea::of_file(start, start + 0x1000, flags, file));
}

/// Two open files of memory with an inode of this size.
pub(super) fn memory(machine: &mut Machine, size: u64) -> [FakeFile; 2] {
    let files = machine.relay([READ | WRITE; 2], 0);
    for file in &files {
        let relay = machine.relays.get_mut(&file.address).unwrap();
        (relay.size, relay.links) = (size, 0);
    }
    files
}

impl Machine {
    /// Gives a process a socket that listens at a port.
    pub(super) fn listen(&mut self, pid: u32, port: u16) {
        self.listener(port);
        let sock = self.world.sockets.last().unwrap().address;
        let address = self.address();
        let listener = FakeFile::socket(address, 7000, sock);
        self.world.process(pid).files.push((8, listener));
    }
}

/// A process with a connection, and another one with the two pipes of a shell. Nothing connects
/// them.
pub(super) fn apart() -> Machine {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (in_read, in_write) = machine.pipe();
    let (out_read, out_write) = machine.pipe();
    machine.run(20, "outer", "./outer", &[(3, &tcp)]);
    machine.run(21, "inner", "./inner", &[(4, &in_write), (5, &out_read)]);
    machine.run(22, "dash", "sh", &[(0, &in_read), (1, &out_write), (2, &out_write)]);
    machine.received = 3;
    machine
}

/// The same, and both map memory.
fn sharing() -> (Machine, [FakeFile; 2]) {
    let mut machine = apart();
    let files = memory(&mut machine, 4096);
    map(&mut machine, 20, &files[0], SHARED);
    map(&mut machine, 21, &files[1], SHARED);
    (machine, files)
}

const SHARING: &str = "Outbound 40000: 20,21,22 in 20>21>22 out 22>21>20";

/// Asserts that a machine raises no alert in many scans.
pub(super) fn assert_silent(machine: &Machine, why: &str) {
    assert_eq!(Watch::new().settle(machine), [""; 0], "{why}");
}

#[test]
fn a_shell_behind_memory_that_two_processes_map_is_reported() {
    let mut watch = Watch::new();
    let (machine, _) = sharing();
    assert_eq!(watch.settle(&machine), [SHARING]);
    assert_eq!(watch.settle(&machine), [""; 0], "once");
    assert_silent(&apart(), "they share nothing");
    // A child has inherited it, so that both have one open file.
    let mut machine = apart();
    let [file, _] = memory(&mut machine, 4096);
    map(&mut machine, 20, &file, SHARED);
    map(&mut machine, 21, &file, SHARED);
    assert_eq!(Watch::new().settle(&machine), [SHARING]);
}

#[test]
fn memory_for_each_direction_needs_one_writer() {
    let both = |first: [u64; 2], second: [u64; 2]| {
        let mut machine = apart();
        for flags in [first, second] {
            let files = memory(&mut machine, 4096);
            for (pid, file, flags) in [(20, &files[0], flags[0]), (21, &files[1], flags[1])] {
                machine.filesystems.insert(file.ino, magic::TMPFS);
                map(&mut machine, pid, file, flags | VM_MAYSHARE);
            }
        }
        Watch::new().settle(&machine)
    };
    assert_eq!(both([R | W, R], [R, R | W]), [SHARING]);
    assert_eq!(both([R | W, R], [R | W, R]), [""; 0], "nothing goes back");
    assert_eq!(both([R, R | W], [R, R | W]), [""; 0], "no command arrives");
    assert_eq!(both([R, R], [R, R]), [""; 0], "nobody writes");
}

#[test]
fn memory_for_one_direction_is_enough_beside_a_pipe() {
    let mut machine = apart();
    let [one, other] = memory(&mut machine, 4096);
    map(&mut machine, 20, &one, SHARED);
    map(&mut machine, 21, &other, SHARED);
    // The output of the shell goes to the holder of the connection.
    let output = machine.world.process(21).files.pop().unwrap().1;
    machine.world.process(20).files.push((5, output));
    let expected = ["Outbound 40000: 20,21,22 in 20>21>22 out 22>20"];
    assert_eq!(Watch::new().settle(&machine), expected);
}

#[test]
fn what_is_no_message_carries_nothing() {
    let with = |flags: u64, size: u64| {
        let mut machine = apart();
        let [one, other] = memory(&mut machine, size);
        map(&mut machine, 20, &one, flags);
        map(&mut machine, 21, &other, flags);
        Watch::new().settle(&machine)
    };
    assert_eq!(with(SHARED, 33), [SHARING]);
    assert_eq!(with(SHARED, 32), [""; 0], "a semaphore");
    assert_eq!(with(R | W, 4096), [""; 0], "private");
    assert_eq!(with(SHARED | X, 4096), [""; 0], "code");
    assert_eq!(with(R | VM_MAYSHARE, 4096), [""; 0], "data of the system");
}

#[test]
fn a_peer_that_sent_nothing_or_was_accepted_commands_nobody_over_memory() {
    let (mut machine, _) = sharing();
    machine.received = 0;
    assert_silent(&machine, "the peer has sent nothing");
    let (mut machine, _) = sharing();
    machine.listener(40000);
    assert_silent(&machine, "it was accepted");
}

/// A client of a database runs a script or a command (`COPY … TO PROGRAM`).
#[test]
fn a_shell_that_runs_a_job_from_memory_raises_no_alert() {
    let (mut machine, _) = sharing();
    for line in ["sh\0-c\0backup\0", "sh\0/srv/backup.sh\0"] {
        machine.world.process(22).arguments = line.as_bytes().to_vec();
        assert_silent(&machine, line);
    }
}

/// Backends and helpers of a database, or workers of a web server, have one piece of memory.
#[test]
fn memory_of_many_processes_raises_no_alert() {
    let (mut machine, [one, other]) = sharing();
    for pid in [30, 31] {
        machine.run(pid, "postgres", "postgres", &[]);
        map(&mut machine, pid, &one, SHARED);
    }
    assert_eq!(Watch::new().settle(&machine), [SHARING], "four are few");
    machine.run(32, "postgres", "postgres", &[]);
    map(&mut machine, 32, &other, R | VM_MAYSHARE);
    assert_silent(&machine, "five map it");
}

#[test]
fn processes_that_share_many_files_serve_others() {
    let (mut machine, _) = sharing();
    for _ in 0..3 {
        let [one, other] = memory(&mut machine, 4096);
        map(&mut machine, 20, &one, SHARED);
        map(&mut machine, 21, &other, SHARED);
    }
    assert_eq!(Watch::new().settle(&machine), [SHARING], "four are few");
    let [one, other] = memory(&mut machine, 4096);
    map(&mut machine, 20, &one, SHARED);
    map(&mut machine, 21, &other, SHARED);
    assert_silent(&machine, "five files");
}

/// A relay that maps many files of its own, as indexes of a program.
#[test]
fn what_nobody_else_maps_hides_no_relay() {
    let with_own = |older: usize, newer: usize, flags: u64| {
        let mut machine = apart();
        let own = |machine: &mut Machine, count: usize| {
            for _ in 0..count {
                let [own, _] = memory(machine, 4096);
                machine.filesystems.insert(own.ino, magic::TMPFS);
                map(machine, 21, &own, flags);
            }
        };
        own(&mut machine, older);
        let files = memory(&mut machine, 4096);
        map(&mut machine, 20, &files[0], SHARED);
        map(&mut machine, 21, &files[1], SHARED);
        own(&mut machine, newer);
        Watch::new().settle(&machine)
    };
    assert_eq!(with_own(0, 31, SHARED), [SHARING]);
    assert_eq!(with_own(0, 32, SHARED), [""; 0], "the newest come first");
    assert_eq!(with_own(100, 31, SHARED), [SHARING]);
    assert_eq!(with_own(100, 100, R | VM_MAYSHARE), [SHARING], "those for writing come first");
}

/// A process that shares its table of descriptors with an older one, which maps nothing.
#[test]
fn a_relay_behind_an_older_process_with_its_table_is_reported() {
    for pid in [20, 21] {
        let (mut machine, _) = sharing();
        machine.run(30, "older", "./older", &[]);
        machine.world.process(30).start = 1;
        let mut watch = Watch::new();
        let findings = (0..4).flat_map(|_| {
            watch.scan_with(&machine, |snapshot| {
                let table = snapshot.process_by_pid(pid).unwrap().files;
                let at = snapshot.processes.indexes().find(|&at| {
                    let leader = snapshot.leader(&snapshot.processes[at]).unwrap();
                    leader.task.tgid == 30
                });
                snapshot.processes.at_mut(at).unwrap().files = table;
            })
        });
        let found: Vec<_> = findings.collect();
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

/// Windows of one user are more than a scan looks for.
#[test]
fn windows_of_one_user_delay_no_search_for_another() {
    let (mut machine, _) = sharing();
    machine.world.process(21).uid = 7;
    for at in 0..40 {
        let (in_read, in_write) = machine.pipe();
        let (relay, shell) = (100 + 2 * at, 101 + 2 * at);
        machine.run(relay, "window", "window", &[(4, &in_write)]);
        machine.run(shell, "dash", "sh", &[(0, &in_read)]);
        for pid in [relay, shell] {
            machine.world.process(pid).start = u64::from(pid);
            machine.world.process(pid).uid = 1000;
        }
        let [file, _] = memory(&mut machine, 4096);
        map(&mut machine, relay, &file, SHARED);
    }
    let mut watch = super::many::watch_with(&super::many::roomy());
    assert_eq!(watch.settle(&machine), [SHARING]);
    assert!(watch.shells.unchecked().missed() > 0, "what was left is counted");
}

/// A terminal shares images with the server of windows, and a browser does so too.
#[test]
fn windows_and_browsers_raise_no_alert() {
    let mut machine = Machine::default();
    let tcp = machine.connection(40000, PEER);
    let (master, slave) = machine.terminal();
    let [terminal, terminal_shown] = memory(&mut machine, 1 << 20);
    let [page, page_shown] = memory(&mut machine, 1 << 20);
    machine.run(20, "Xorg", "Xorg", &[]);
    machine.run(21, "terminal", "terminal", &[(9, &master)]);
    machine.run(22, "browser", "browser", &[(9, &tcp)]);
    machine.run(23, "bash", "bash", &[(0, &slave), (1, &slave), (2, &slave)]);
    map(&mut machine, 21, &terminal, SHARED);
    map(&mut machine, 20, &terminal_shown, SHARED);
    map(&mut machine, 22, &page, SHARED);
    map(&mut machine, 20, &page_shown, SHARED);
    machine.received = 3;
    assert_silent(&machine, "the way leads over memory twice");
}

/// A desktop's program with a terminal, and its process for the network (Electron).
#[test]
fn a_process_that_has_others_to_talk_to_is_no_relay() {
    let desktop = |sockets: usize, pid: u32| {
        let (mut machine, _) = sharing();
        for at in 0..sockets {
            let (own, other) = machine.pair();
            machine.world.process(pid).files.push((10 + at as u32, own));
            machine.run(40 + at as u32, "bus", "bus", &[(7, &other)]);
        }
        Watch::new().settle(&machine)
    };
    for pid in [20, 21] {
        assert_eq!(desktop(1, pid), [SHARING], "one");
        assert_eq!(desktop(2, pid), [""; 0], "two, of process {pid}");
    }
    // A loop of events wakes itself over a pair.
    let (mut machine, _) = sharing();
    for at in [10, 12, 14] {
        let (one, other) = machine.pair();
        machine.world.process(21).files.extend([(at, one), (at + 1, other)]);
    }
    assert_eq!(Watch::new().settle(&machine), [SHARING]);
    // What a service prints goes to the journal.
    let (mut machine, _) = sharing();
    for at in 1..3 {
        let (own, journal) = machine.pair();
        for pid in [20, 21] {
            machine.world.process(pid).files.insert(at - 1, (at as u32, own.clone()));
        }
        machine.run(40 + at as u32, "journald", "journald", &[(7, &journal)]);
    }
    assert_eq!(Watch::new().settle(&machine), [SHARING]);
}

#[test]
fn a_holder_of_several_connections_serves_others() {
    let (mut machine, _) = sharing();
    let same = machine.connection(40001, (PEER.0, 4445));
    machine.world.process(20).files.push((4, same));
    assert_eq!(Watch::new().settle(&machine).len(), 1, "both lead to one peer");
    let other = machine.connection(40002, (Ipv4Addr::new(198, 51, 100, 7).into(), 443));
    machine.world.process(20).files.push((5, other));
    assert_silent(&machine, "two peers");
}

/// Workers of PHP have memory of their master, and one of them a client and a shell.
#[test]
fn workers_of_a_server_raise_no_alert() {
    for pid in [20, 21] {
        let (mut machine, _) = sharing();
        machine.listen(pid, 9000);
        assert_silent(&machine, "a worker listens");
    }
}

/// Memory of a process that the scan left may be that of many.
#[test]
fn a_scan_that_lacks_areas_shows_no_relay() {
    for pid in [20, 21] {
        let (mut machine, _) = sharing();
        machine.world.process(pid).mm_complete = false;
        let expected = if pid == 21 { &[""; 0][..] } else { &[SHARING] };
        assert_eq!(Watch::new().settle(&machine), expected);
    }
    let (machine, _) = sharing();
    let mut watch = Watch::new();
    let mut scan = |is_light: bool| {
        watch.snapshot.is_light = is_light;
        watch.scan(&machine)
    };
    assert_eq!((0..6).flat_map(|_| scan(true)).collect::<Vec<_>>(), [""; 0]);
    assert_eq!((0..4).flat_map(|_| scan(false)).collect::<Vec<_>>(), [SHARING]);
}

#[test]
fn a_counter_for_events_belongs_to_memory_if_both_have_it() {
    let has_events = |pids: &[u32], name: &str| {
        let (mut machine, _) = sharing();
        let counter = FakeFile::regular(machine.address(), 8000, name);
        machine.filesystems.insert(8000, magic::ANON_INODE);
        for &pid in pids {
            machine.world.process(pid).files.push((9, counter.clone()));
        }
        let mut watch = Watch::new();
        assert_eq!(watch.settle(&machine), [SHARING]);
        let snapshot = &watch.snapshot;
        let table = |pid| snapshot.process_by_pid(pid).unwrap().files.unwrap();
        watch.shells.graph.share_eventfd(snapshot, table(20), table(21))
    };
    assert!(has_events(&[20, 21], "[eventfd]"));
    assert!(!has_events(&[20], "[eventfd]"));
    assert!(!has_events(&[21], "[eventfd]"));
    assert!(!has_events(&[20, 21], "[eventpoll]"));
}

/// A crowd of processes with shared memory, more than a scan looks for, hides no relay.
#[test]
fn a_crowd_that_shares_memory_is_counted() {
    let (mut machine, _) = sharing();
    for at in 0..40 {
        let (in_read, in_write) = machine.pipe();
        let (out_read, out_write) = machine.pipe();
        let (relay, shell) = (100 + 2 * at, 101 + 2 * at);
        machine.run(relay, "crowd", "crowd", &[(4, &in_write), (5, &out_read)]);
        machine.run(shell, "dash", "sh", &[(0, &in_read), (1, &out_write)]);
        for pid in [relay, shell] {
            // They come before the others.
            machine.world.process(pid).start = u64::from(pid);
        }
        let [file, _] = memory(&mut machine, 4096);
        map(&mut machine, relay, &file, SHARED);
    }
    let mut watch = super::many::watch_with(&super::many::roomy());
    let mut findings = Vec::new();
    for _ in 0..100 {
        findings.extend(watch.scan(&machine));
        assert!(watch.shells.unchecked().missed() > 0, "what was left is counted");
        if !findings.is_empty() {
            break;
        }
    }
    assert_eq!(findings, [SHARING]);
}
