//! A scan that keeps the rows of the one before finds what a whole scan finds.

#[path = "races/actor.rs"]
mod actor;
mod common;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use actor::Actor;
use common::setup::{KEY, everything, setup};
use common::{RELEASES, found, kernel, line, take_records, walker};
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};
use panoptes_engine::limits::Limits;
use panoptes_engine::time::Now;
use panoptes_engine::walk::{Budget, Kernel, ProcessRow, Scope, Snapshot, WalkCheckpoint, Walker};
use panoptes_engine::watch::{WatchedMachine, Workspace};
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_synthetic::{Machine, Size, Source, profile};
use serde_json::Value;

const INTERVAL_NS: i64 = 10_000_000;

fn limits() -> Limits {
    Limits { processes: 256, threads: 512, ..Limits::default() }
}

fn machine(release: &str) -> Machine {
    let size = Size { processes: 6, threads: 2, containers: 2, processors: 2, ..Size::default() };
    Machine::builder(&profile(release)).size(size).memory(512 << 20).build()
}

/// Scans a machine, and keeps the rows if it has rested.
fn scan<'w>(
    walker: &'w mut Walker,
    kept: &mut WalkCheckpoint,
    kernel: &Kernel,
    machine: &mut Machine,
) -> &'w Snapshot {
    walker.resume(kept);
    let source = &mut Source::new(machine);
    let scanned = walker.scan_changes(source, kernel, Scope::ALL, &Budget::NONE).map(drop);
    scanned.expect("processes are found");
    walker.keep(kept);
    walker.snapshot()
}

/// All rows of a scan.
fn rows(snapshot: &Snapshot) -> Vec<String> {
    let mut all = vec![format!("{:?}", (snapshot.losses, snapshot.left))];
    macro_rules! add {
        ($($table:ident)*) => {
            $(all.extend(snapshot.$table.iter().map(|row| {
                format!(concat!(stringify!($table), ": {:?}"), row)
            }));)*
        };
    }
    add!(threads processes by_pid by_tid files_structs files_threads descriptors mms vmas);
    add!(files inodes dentries mounts super_blocks names css_sets css_states cgroups);
    add!(kernfs_nodes containers connections sockets terminals nets user_namespaces interfaces);
    all
}

#[test]
fn what_is_kept_is_what_a_whole_scan_finds() {
    for release in RELEASES {
        let mut machine = machine(release);
        let kernel = kernel(&mut machine);
        let (mut walker, mut kept) = (walker(&limits()), WalkCheckpoint::new(&limits()));
        let mut whole = Vec::new();
        for number in 0..6 {
            machine.tick(INTERVAL_NS as u64);
            let snapshot = scan(&mut walker, &mut kept, &kernel, &mut machine);
            // The first scan finds the run queues, so the second one knows the counts.
            assert_eq!(snapshot.is_kept, number > 1, "{release}: scan {number}");
            let found = rows(snapshot);
            assert!(found.len() > 300, "{release}: {} rows", found.len());
            if number > 1 {
                assert_eq!(whole, found, "{release}: scan {number}");
            }
            whole = found;
        }
    }
}

#[test]
fn whatever_a_task_has_done_is_in_the_next_scan() {
    for release in RELEASES {
        let mut machine = machine(release);
        let kernel = kernel(&mut machine);
        let (mut walker, mut kept) = (walker(&limits()), WalkCheckpoint::new(&limits()));
        let (mut actor, mut kept_scans) = (Actor::new(7), 0);
        for number in 0..200 {
            machine.tick(INTERVAL_NS as u64);
            let done = if number % 3 == 0 { actor.act(&mut machine) } else { "nothing".to_owned() };
            let snapshot = scan(&mut walker, &mut kept, &kernel, &mut machine);
            kept_scans += u32::from(snapshot.is_kept);
            assert_eq!(found(snapshot), common::expected(&machine), "{release}: {number} {done}");
        }
        assert!(kept_scans > 80, "{release}: {kept_scans} scans have kept the rows");
    }
}

#[test]
fn an_operation_that_goes_on_is_no_rest() {
    let mut machine = machine(RELEASES[1]);
    let kernel = kernel(&mut machine);
    let (mut walker, mut kept) = (walker(&limits()), WalkCheckpoint::new(&limits()));
    for _ in 0..3 {
        scan(&mut walker, &mut kept, &kernel, &mut machine);
    }
    assert!(walker.snapshot().is_kept);
    machine.slowly(|machine| machine.fork(1));
    machine.step(10);
    for _ in 0..3 {
        assert!(!scan(&mut walker, &mut kept, &kernel, &mut machine).is_kept);
    }
    machine.step(usize::MAX);
    assert!(!scan(&mut walker, &mut kept, &kernel, &mut machine).is_kept);
    assert!(scan(&mut walker, &mut kept, &kernel, &mut machine).is_kept);
}

/// What packets do to a connection, and to those in TIME_WAIT.
const PACKETS: [fn(&mut Machine, u32, u32); 6] = [
    |machine, pid, descriptor| machine.transfer(pid, descriptor, 1000, 10),
    |_, _, _| (),
    |machine, _, _| machine.time_wait(address("10.0.0.1:8080"), address("10.0.0.3:1")),
    |machine, pid, descriptor| machine.transfer(pid, descriptor, 10, 1000),
    |machine, pid, descriptor| machine.close_by_peer(pid, descriptor),
    |machine, _, _| machine.end_time_wait(0),
];

fn address(text: &str) -> SocketAddr {
    text.parse().expect("it is an address")
}

/// The TCP sockets of a scan.
fn sockets(snapshot: &Snapshot) -> Vec<String> {
    snapshot.connections.iter().map(|row| format!("{row:?}")).collect()
}

#[test]
fn packets_change_sockets_without_a_task() {
    for release in RELEASES {
        let mut machine = machine(release);
        let kernel = kernel(&mut machine);
        let pid = machine.processes().map(|process| process.pid).max().expect("it has some");
        let descriptor = machine.accept(pid, address("10.0.0.1:8080"), address("10.0.0.2:999"));
        let (mut walker, mut other) = (walker(&limits()), walker(&limits()));
        let mut kept = WalkCheckpoint::new(&limits());
        for _ in 0..3 {
            scan(&mut walker, &mut kept, &kernel, &mut machine);
        }
        assert!(walker.snapshot().is_kept);
        for (number, packet) in PACKETS.into_iter().enumerate() {
            let before = walker.snapshot().connections_version;
            machine.interrupt(|machine| packet(machine, pid, descriptor));
            let snapshot = scan(&mut walker, &mut kept, &kernel, &mut machine);
            assert!(snapshot.is_kept);
            assert_eq!(snapshot.connections_version == before, number == 1, "packet {number}");
            let kept = (found(snapshot), sockets(snapshot));
            let source = &mut Source::new(&mut machine);
            let whole = other.scan(source, &kernel, Scope::ALL).expect("processes are found");
            assert_eq!(kept, (found(whole), sockets(whole)), "{release}: packet {number}");
        }
    }
}

/// Light scans have no rows that are worth keeping. Once the machine rests, one scan reads all.
#[test]
fn a_machine_that_comes_to_rest_is_read_whole_once() {
    let mut machine = machine(RELEASES[2]);
    let kernel = kernel(&mut machine);
    let pid = machine.processes().map(|process| process.pid).max().expect("it has some");
    let (mut walker, mut kept) = (walker(&limits()), WalkCheckpoint::new(&limits()));
    machine.tick(1_000_000_000);
    let mut light = |machine: &mut Machine| {
        walker.set_light(true);
        let snapshot = scan(&mut walker, &mut kept, &kernel, machine);
        (snapshot.is_light, snapshot.is_kept, snapshot.has_run)
    };
    // The first scan has no count, and the second one has none to compare it with.
    light(&mut machine);
    light(&mut machine);
    for rests in [8, 40, 8] {
        for _ in 0..3 {
            machine.act_as(pid);
            machine.open(pid, "/tmp/opened");
            assert_eq!(light(&mut machine), (true, false, true));
        }
        let scans: Vec<_> = (0..rests).map(|_| light(&mut machine)).collect();
        let (left, whole, same) =
            ((true, false, false), (false, false, false), (false, true, false));
        assert_eq!(scans[..8], [left, left, left, whole, same, same, same, same]);
        if rests == 40 {
            assert_eq!(scans[19..22], [same, left, (true, true, false)]);
        }
    }
}

/// After some scans, the rows of a light scan are kept. Sockets are read all the same, and so is
/// everything once a task has run.
#[test]
fn rows_that_are_kept_for_long_are_those_of_a_light_scan() {
    let mut machine = machine(RELEASES[2]);
    let kernel = kernel(&mut machine);
    let pid = machine.processes().map(|process| process.pid).max().expect("it has some");
    let descriptor = machine.accept(pid, address("10.0.0.1:8080"), address("10.0.0.2:999"));
    let (mut walker, mut other) = (walker(&limits()), walker(&limits()));
    let mut kept = WalkCheckpoint::new(&limits());
    machine.tick(1_000_000_000);
    for number in 0..30 {
        walker.set_light(number > 1);
        let snapshot = scan(&mut walker, &mut kept, &kernel, &mut machine);
        let is_kept = number > 1 && number != 18;
        assert_eq!((snapshot.is_kept, snapshot.is_light), (is_kept, number >= 18), "{number}");
    }
    let light = walker.snapshot();
    let source = &mut Source::new(&mut machine);
    let whole = other.scan(source, &kernel, Scope::ALL).expect("processes are found");
    let has_more = |row: &&ProcessRow| whole.files_structs_of(row).any(|it| it.max_fds > 3);
    let all = whole.processes.iter().filter(has_more);
    let all: Vec<_> = all.filter_map(|row| Some(whole.leader(row)?.task.tgid)).collect();
    assert!(all.len() > 5 && left(light) == all, "{all:?}");
    assert!(light.left.total() == u64::from(light.left.of_resting) && !light.is_partial());
    for (row, all) in light.processes.iter().zip(whole.processes.iter()) {
        let first = |snapshot: &Snapshot, row| {
            let table = snapshot.files_structs.at(row).expect("it has a table");
            let rows = snapshot.descriptors.range(table.descriptors).iter();
            rows.map(|row| row.index).filter(|&index| index < 3).collect::<Vec<_>>()
        };
        if row.files.is_some() {
            assert_eq!(first(light, row.files), first(whole, all.files));
        }
        let mm = light.mms.at(row.mm);
        assert!(mm.is_none_or(|mm| mm.left && mm.vmas.is_empty() && !mm.complete));
    }
    for packet in PACKETS {
        machine.interrupt(|machine| packet(machine, pid, descriptor));
        let snapshot = scan(&mut walker, &mut kept, &kernel, &mut machine);
        assert!(snapshot.is_kept && snapshot.is_light);
        let light = sockets(snapshot);
        let source = &mut Source::new(&mut machine);
        let whole = other.scan(source, &kernel, Scope::ALL).expect("processes are found");
        assert_eq!(light, sockets(whole));
    }
    // Something waits for all descriptors.
    walker.set_light(false);
    let snapshot = scan(&mut walker, &mut kept, &kernel, &mut machine);
    assert!(!snapshot.is_kept && !snapshot.is_light && snapshot.left.is_empty());
    machine.open(pid, "/tmp/opened");
    let snapshot = scan(&mut walker, &mut kept, &kernel, &mut machine);
    assert_eq!(found(snapshot), common::expected(&machine));
}

#[test]
fn the_rows_of_another_system_or_of_an_older_scan_are_not_kept() {
    let mut machines = [machine(RELEASES[1]), machine(RELEASES[1])];
    let kernels = machines.each_mut().map(kernel);
    let mut kept = [WalkCheckpoint::new(&limits()), WalkCheckpoint::new(&limits())];
    let mut walkers = [(); 2].map(|()| Box::new(walker(&limits())));
    let mut scan = |walker: usize, system: usize| {
        let (kernel, machine) = (&kernels[system], &mut machines[system]);
        scan(&mut walkers[walker], &mut kept[system], kernel, machine).is_kept
    };
    assert_eq!([0, 0, 0].map(|system| scan(0, system)), [false, false, true]);
    assert_eq!([1, 0, 1, 0, 0].map(|system| scan(0, system)), [false, false, false, false, true]);
    // The other walker has a newer scan.
    assert_eq!([scan(1, 0), scan(0, 0), scan(0, 0)], [false, false, true]);
}

/// A machine that is watched.
struct Watch {
    workspace: Workspace,
    watched: WatchedMachine,
    producer: Producer,
    consumer: Consumer,
    now: Now,
}

impl Watch {
    fn new(machine: &mut Machine, shortcuts: bool) -> Self {
        let profile = machine.discover();
        let mut watched =
            WatchedMachine::new(setup(&limits(), &profile, everything(), Arc::default()));
        watched.set_shortcuts(shortcuts);
        watched.set_scan_interval(INTERVAL_NS as u64);
        let size = QueueSize { blocks: 8, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        let workspace = Workspace::new(&limits(), KEY);
        Self { workspace, watched, producer, consumer, now: Now::at(1_795_000_000_000_000_000) }
    }

    /// Scans once; returns the records, and whether the rows were kept.
    fn scan(&mut self, machine: &mut Machine) -> (Vec<Value>, bool) {
        let records = self.scan_after(INTERVAL_NS, machine);
        (records, self.workspace.snapshot().is_kept)
    }

    /// Whether the last scan asks for an early one.
    fn wants_scan(&mut self, machine: &mut Machine) -> bool {
        self.watched.wants_scan(&mut self.workspace, &mut Source::new(machine))
    }

    /// Scans once, so long after the last time; returns the records.
    fn scan_after(&mut self, ns: i64, machine: &mut Machine) -> Vec<Value> {
        self.now = self.now.after(ns);
        self.watched.set_early(ns < INTERVAL_NS);
        let source = &mut Source::new(machine);
        let Self { workspace, watched, producer, consumer, .. } = self;
        watched.scan(workspace, source, self.now, producer).expect("it can be scanned");
        take_records(producer, consumer)
    }
}

#[test]
fn records_are_the_same_with_and_without_shortcuts() {
    for (seed, release) in RELEASES.into_iter().enumerate().skip(1) {
        let mut machine = machine(release);
        let (mut with, mut without) =
            (Watch::new(&mut machine, true), Watch::new(&mut machine, false));
        let mut actor = Actor::new(seed as u64);
        let (mut kept, mut records) = (0, 0);
        let mut late = Vec::new();
        for number in 0..600 {
            machine.tick(INTERVAL_NS as u64);
            if actor.chance(4) {
                actor.act(&mut machine);
            }
            let (found, is_kept) = with.scan(&mut machine);
            let (expected, _) = without.scan(&mut machine);
            if found != expected || !late.is_empty() {
                println!("{release}: scan {number}");
                late = late_closings(&found, &expected, late);
            }
            kept += u32::from(is_kept);
            records += found.len();
        }
        assert!(kept > 200, "{release}: {kept} scans have kept the rows");
        assert!(records > 200, "{release}: {records} records");
    }
}

/// Compares the records of a scan with those without shortcuts, but for files that a process closed
/// at its end: a shortcut may leave their contents to the next scan, not to a later one. Returns
/// the claims that the next scan must make, by those that this one must make.
#[track_caller]
fn late_closings(found: &[Value], expected: &[Value], late: Vec<String>) -> Vec<String> {
    let claims = |records: &[Value], is_closing: bool| {
        let of = |record: &&Value| {
            let name = &record["activity_data"]["name"];
            (name == "file_descriptor_file_content_change") == is_closing
        };
        records.iter().filter(of).map(claim).collect::<Vec<_>>()
    };
    assert_eq!(claims(found, false), claims(expected, false));
    let mut left = claims(expected, true);
    let mut due = late;
    for closing in claims(found, true) {
        let of = if due.contains(&closing) { &mut due } else { &mut left };
        let place = of.iter().position(|one| *one == closing);
        of.swap_remove(place.unwrap_or_else(|| panic!("it was not reported without: {closing}")));
    }
    assert!(due.is_empty(), "they are two scans late: {due:#?}");
    left
}

/// What a record claims, without what a light scan may know a scan later: the holder of a
/// connection, and the size and the times of a file that another process has changed.
fn claim(record: &Value) -> String {
    let data = &record["activity_data"];
    let name = data["name"].as_str().unwrap_or_default();
    let is_connection = name.contains("network_connection");
    let mut keys = vec![
        ("process_details", "process_id"),
        ("process_details", "process_creation_time_iso_8601_ns"),
        ("process_details", "process_executable_path"),
        ("process_details", "process_command_line_arguments"),
        ("thread_details", "thread_id"),
        ("container_details", "container_id"),
        ("file_descriptor_details", "file_descriptor_index"),
        ("file_descriptor_details", "file_descriptor_inode_number"),
        ("file_descriptor_details", "file_descriptor_name"),
        ("process_memory_details", "virtual_memory_area_start_address"),
        ("process_memory_details", "virtual_memory_area_end_address"),
        ("process_memory_details", "memory_permissions"),
        ("process_memory_details", "file_path"),
        ("network_connection_details", "connection_state"),
        ("network_connection_details", "source_port"),
        ("network_connection_details", "destination_ip_address"),
        ("system_activity_details", "changes_found_late"),
    ];
    keys.retain(|(of, _)| !(is_connection && *of == "process_details"));
    line(data, &keys)
}

/// Light scans leave what processes have that have not run since the scan before. In the end the
/// same is reported, and nothing is found late.
#[test]
fn records_are_the_same_with_light_scans() {
    let runs = RELEASES.into_iter().skip(1).flat_map(|release| [(release, 7), (release, 8)]);
    for (release, seed) in runs {
        let mut machine = machine(release);
        let (mut with, mut without) =
            (Watch::new(&mut machine, true), Watch::new(&mut machine, false));
        let mut actor = Actor::new(seed);
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        let (mut left, mut early) = (0, 0);
        for number in 0..1300 {
            let is_over = number >= 1200;
            let is_early = !is_over && actor.chance(2);
            let ns = if is_early { INTERVAL_NS / 5 } else { INTERVAL_NS };
            machine.tick(ns as u64);
            if !is_over && actor.chance(2) {
                actor.act(&mut machine);
            }
            found.extend(with.scan_after(ns, &mut machine).iter().map(claim));
            expected.extend(without.scan_after(ns, &mut machine).iter().map(claim));
            let snapshot = with.workspace.snapshot();
            left += u64::from(snapshot.left.tables);
            early += u32::from(is_early && snapshot.is_light);
        }
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{release}");
        assert!(early > 200, "{release}: {early} early scans were light");
        assert!(left > 2000, "{release}: {left} tables were left");
    }
}

/// A source that answers no request after the first batches of a scan.
struct Failing<S> {
    source: S,
    batches: u32,
}

impl<S: MemorySource> MemorySource for Failing<S> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.source.read_batch(requests, arena);
        self.batches += 1;
        if self.batches > 3 {
            for request in requests {
                request.outcome = ReadOutcome::Failed;
            }
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }
}

#[test]
fn rows_of_a_scan_that_could_not_read_are_not_kept() {
    let mut machine = machine(RELEASES[2]);
    let mut watch = Watch::new(&mut machine, true);
    // One scan in a second reads everything: those with the numbers 38 and 138. After sixteen scans
    // that keep its rows comes a light one, and after 128 scans, run queues are searched for.
    let is_new = |number| matches!(number, 0 | 1 | 18 | 38 | 39 | 56 | 129 | 138);
    for number in 0..140 {
        machine.tick(INTERVAL_NS as u64);
        watch.now = watch.now.after(INTERVAL_NS);
        let Watch { workspace, watched, producer, consumer, now } = &mut watch;
        let mut source = Source::new(&mut machine);
        let scanned = if number == 38 {
            watched.scan(workspace, &mut Failing { source, batches: 0 }, *now, producer)
        } else {
            watched.scan(workspace, &mut source, *now, producer)
        };
        let is_kept = scanned.is_ok() && workspace.snapshot().is_kept;
        assert_eq!(is_kept, !is_new(number), "{number}");
        // The first scans report what exists.
        for record in take_records(producer, consumer).iter().filter(|_| number > 5) {
            let name = record["activity_data"]["name"].as_str().unwrap_or_default();
            assert!(name.starts_with("coverage_"), "scan {number}: {name}");
        }
    }
}

/// The processes that a light scan has left, by id.
fn left(snapshot: &Snapshot) -> Vec<u32> {
    let is_left = |row: &&ProcessRow| {
        let table = snapshot.files_structs.at(row.files);
        table.is_some_and(|table| !table.complete)
    };
    let rows = snapshot.processes.iter().filter(is_left);
    rows.filter_map(|row| Some(snapshot.leader(row)?.task.tgid)).collect()
}

#[test]
fn a_light_scan_leaves_what_processes_have_that_have_not_run() {
    let mut machine = machine(RELEASES[2]);
    let kernel = kernel(&mut machine);
    let (mut walker, mut kept) = (walker(&limits()), WalkCheckpoint::new(&limits()));
    let mut light = |machine: &mut Machine| {
        walker.set_light(true);
        left(scan(&mut walker, &mut kept, &kernel, machine))
    };
    let users = machine.processes().filter(|it| it.parent == 1 && !it.is_kernel);
    let users: Vec<u32> = users.map(|it| it.pid).collect();
    let &[one, other, ..] = &users[..] else { panic!("{users:?}") };
    assert!(light(&mut machine).is_empty(), "nothing is known before the first scan");
    machine.tick(1_000_000_000);
    machine.act_as(one);
    machine.open(one, "/tmp/one");
    let all = light(&mut machine);
    assert!(all.contains(&other) && !all.contains(&one) && !all.contains(&1), "{all:?}");
    // One that can run, or runs, may do anything.
    let processor = 1;
    machine.act_as(other);
    machine.run(other, processor);
    for _ in 0..2 {
        let all = light(&mut machine);
        assert!(all.contains(&one) && !all.contains(&other), "{all:?}");
    }
    machine.sleep(other, processor, 1000);
    machine.act_as(one);
    let child = machine.fork(one);
    for _ in 0..2 {
        let all = light(&mut machine);
        assert!(![one, other, child, 1].iter().any(|pid| all.contains(pid)), "{all:?}");
        // The child is young, and its parent is read with it.
        machine.act_as(other);
        machine.open(other, "/tmp/other");
    }
}

/// A clock that only counts ticks shows no run time of a thread that runs between two of them.
#[test]
fn a_light_scan_leaves_nothing_if_the_clock_counts_only_ticks() {
    let mut machine = machine(RELEASES[2]);
    let kernel = kernel(&mut machine);
    let (mut walker, mut kept) = (walker(&limits()), WalkCheckpoint::new(&limits()));
    machine.tick(1_000_000_000);
    let field = kernel.layouts.task_struct.sum_exec_runtime;
    let tasks: Vec<_> = machine.threads().map(|thread| thread.task).collect();
    for (ns, leaves_some) in [(7_000_001, true), (7_000_000, false)] {
        for &task in &tasks {
            machine.memory().put(task, field, ns);
        }
        let mut all = Vec::new();
        for _ in 0..2 {
            // The machine has not rested, or its rows would be kept.
            machine.set_name(1, "other");
            walker.set_light(true);
            all = left(scan(&mut walker, &mut kept, &kernel, &mut machine));
        }
        assert_eq!(!all.is_empty(), leaves_some, "{ns}: {all:?}");
    }
}

/// Code inside the kernel can open files for a process that does not run. A light scan leaves
/// them, and the next whole scan finds and counts them.
#[test]
fn what_a_process_gets_while_it_rests_is_found_within_a_second_and_counted() {
    let mut machine = machine(RELEASES[2]);
    let mut watch = Watch::new(&mut machine, true);
    let users = machine.processes().filter(|it| it.pid > 1 && !it.is_kernel);
    let users: Vec<u32> = users.map(|it| it.pid).collect();
    let (mut opened, mut late) = (None, None);
    for number in 0..1200 {
        machine.tick(INTERVAL_NS as u64);
        machine.act_as(users[0]);
        machine.set_name(users[0], &format!("n{number}"));
        if number == 20 {
            machine.interrupt(|machine| machine.open(users[1], "/tmp/hidden"));
        }
        for record in watch.scan(&mut machine).0 {
            let record = &record["activity_data"];
            let details = &record["system_activity_details"];
            if record["name"] == "file_descriptor_open" && number > 20 {
                opened = opened.or(Some(number));
            } else if !details["changes_found_late"].is_null() {
                late = Some(details["changes_found_late"].clone());
            }
        }
    }
    assert!(opened.is_some_and(|number| (22..=122).contains(&number)), "{opened:?}");
    assert_eq!(late.and_then(|count| count.as_u64()), Some(1));
}

/// Code inside the kernel can keep its own tasks from being counted.
#[test]
fn what_hides_from_the_counts_is_found_within_a_second_and_counted() {
    let mut machine = machine(RELEASES[2]);
    let mut watch = Watch::new(&mut machine, true);
    for _ in 0..10 {
        machine.tick(INTERVAL_NS as u64);
        watch.scan(&mut machine);
    }
    machine.interrupt(|machine| machine.open(1, "/tmp/hidden"));
    let (mut opened, mut late) = (None, None);
    for number in 0..1200 {
        machine.tick(INTERVAL_NS as u64);
        for record in watch.scan(&mut machine).0 {
            let record = &record["activity_data"];
            let details = &record["system_activity_details"];
            if record["name"] == "file_descriptor_open" {
                opened = opened.or(Some(number));
            } else if !details["changes_found_late"].is_null() {
                late = Some(details["changes_found_late"].clone());
            }
        }
    }
    assert!(opened.is_some_and(|number| (1..=100).contains(&number)), "{opened:?}");
    assert!(late.as_ref().is_some_and(|count| count.as_u64() >= Some(1)), "{late:?}");
}

/// A light scan shows no descriptors of a proxy that rests. It may show a shell that is connected
/// to the proxy, but not the proxy's own peer. The alert waits for the scan that shows both.
#[test]
fn a_shell_behind_a_proxy_that_rests_is_reported_with_the_proxy() {
    for seed in 0..4 {
        let mut machine = machine(RELEASES[2]);
        let mut watch = Watch::new(&mut machine, true);
        let users = machine.processes().filter(|it| it.pid > 1 && !it.is_kernel);
        let other = users.map(|it| it.pid).min().expect("it has some");
        let [inside, port] = ["127.0.0.1:4442", "127.0.0.1:40000"].map(address);
        let [proxy, shell] = [(); 2].map(|()| machine.fork(1));
        machine.accept(proxy, inside, port);
        machine.connect(proxy, address("10.0.2.15:40001"), address("203.0.113.7:4441"));
        let socket = machine.connect(shell, port, inside);
        let (mut alerts, mut light, begin) = (Vec::new(), 0, 150 + 7 * seed);
        for number in 0..300 {
            machine.tick(INTERVAL_NS as u64);
            machine.act_as(other);
            machine.set_name(other, &format!("n{number}"));
            if number == begin {
                (0..3).for_each(|standard| machine.dup2(shell, socket, standard));
                machine.exec(shell, "/bin/bash", &["bash", "-i"]);
            }
            let (records, _) = watch.scan(&mut machine);
            light += u32::from(watch.workspace.snapshot().is_light);
            alerts.extend(records.into_iter().filter_map(|mut record| {
                let found = record["activity_data"]["reverse_shell_details"].take();
                let list = found["process_list"].as_array()?;
                let ids = list.iter().map(|it| it["process_details"]["process_id"].as_u64());
                Some((number, ids.collect::<Vec<_>>()))
            }));
            let waits = number >= begin && alerts.is_empty();
            assert_eq!(watch.wants_scan(&mut machine), waits, "{seed}: scan {number}");
        }
        assert!(light > 200, "{light} scans were light");
        let expected = [proxy, shell].map(|pid| Some(pid.into()));
        let [(number, ids)] = &alerts[..] else { panic!("{seed}: {alerts:?}") };
        assert_eq!(ids[..], expected, "{seed}: in scan {number}");
        assert_eq!(*number, begin + 1, "{seed}");
    }
}
