//! Processes that a scan finds only after their end.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::Task;

use super::watch::{NOTHING, Watch};
use super::world::{FakeProcess, World, two_processes as world};

fn ended(pid: u32, start: u64) -> Task {
    let address = KernelVa(0xffff_8880_0000_0000 + u64::from(pid) * 16_384);
    let mut comm = [0; 16];
    comm[..3].copy_from_slice(b"run");
    Task { address, pid, tgid: pid, comm, start_boottime: start, ..Task::default() }
}

impl Watch {
    /// Scans a machine in which these tasks have ended.
    fn scan_with(&mut self, world: &World, ended: &[Task]) -> Vec<String> {
        world.show(&mut self.snapshot);
        for &task in ended {
            self.snapshot.ended.push(task).expect("there is room");
        }
        self.update_from()
    }
}

/// A watched machine that has counted 100 forks, and one that has counted some more.
fn after_forks(more: u64) -> (Watch, World) {
    let mut world = world();
    world.forks = Some(100);
    let watch = Watch::after(&world);
    world.forks = Some(100 + more);
    (watch, world)
}

const BOTH: [&str; 2] = ["+process 900 run", "-process 900 run"];
const LATER_NS: u64 = 3_600_000_000_000;

#[test]
fn an_ended_process_that_no_scan_has_seen_is_reported_once() {
    let (mut watch, world) = after_forks(2);
    let tasks = [ended(900, LATER_NS)];
    assert_eq!(watch.scan_with(&world, &tasks), BOTH);
    assert_eq!(watch.scan_with(&world, &tasks), NOTHING);
    // It counts as seen; the other birth does not.
    let changes: Vec<String> = (0..300).flat_map(|_| watch.scan_with(&world, &tasks)).collect();
    assert_eq!(changes, ["missed 1 of 2"]);
}

#[test]
fn no_more_are_recovered_than_the_kernel_has_counted() {
    let (mut watch, world) = after_forks(1);
    let tasks = [ended(900, LATER_NS), ended(901, LATER_NS + 1)];
    assert_eq!(watch.scan_with(&world, &tasks), BOTH);
    assert_eq!(watch.scan_with(&world, &tasks), NOTHING);
    let (mut watch, world) = after_forks(0);
    assert_eq!(watch.scan_with(&world, &tasks), NOTHING);
}

#[test]
fn what_ended_before_watching_began_is_not_reported() {
    let (mut watch, world) = after_forks(5);
    let newest = world.processes.iter().map(|process| process.start).max().unwrap();
    assert_eq!(watch.scan_with(&world, &[ended(900, newest)]), NOTHING);
    assert_eq!(watch.scan_with(&world, &[ended(900, newest + 1)]), BOTH);
}

#[test]
fn a_process_that_was_seen_is_not_recovered() {
    let (mut watch, mut world) = after_forks(5);
    let mut seen = FakeProcess::new(900);
    seen.start = LATER_NS;
    world.processes.push(seen);
    assert_eq!(watch.scan(&world), ["+process 900 task900"]);
    assert_eq!(watch.scan_with(&world, &[ended(900, LATER_NS)]), NOTHING);
    world.remove(900);
    assert_eq!(watch.scan_with(&world, &[ended(900, LATER_NS)]), ["-process 900 task900"]);
    assert_eq!(watch.scan_with(&world, &[ended(900, LATER_NS)]), NOTHING);
    // A thread that called exec took the leader's id and start; the leader has the thread's id.
    assert_eq!(watch.scan_with(&world, &[ended(901, LATER_NS)]), NOTHING);
}

/// The list of births has room for so many; an older one is not taken for an unseen one.
#[test]
fn births_that_have_no_room_are_known_by_their_time() {
    let (mut watch, mut world) = after_forks(0);
    let births = 1..=1200;
    for birth in births.clone() {
        world.forks = world.forks.map(|forks| forks + 1);
        let start = LATER_NS + u64::from(birth);
        assert_eq!(watch.scan_with(&world, &[ended(2000 + birth, start)]).len(), 2);
    }
    // Others are missed.
    world.forks = world.forks.map(|forks| forks + 100);
    for birth in births.take(90) {
        let start = LATER_NS + u64::from(birth);
        assert_eq!(watch.scan_with(&world, &[ended(2000 + birth, start)]), NOTHING);
    }
}

#[test]
fn nothing_is_recovered_before_the_baseline_is_complete() {
    let mut watch = Watch::quiet();
    let mut world = world();
    world.idr_complete = false;
    world.forks = Some(100);
    assert_eq!(watch.scan(&world), NOTHING);
    world.forks = Some(101);
    assert_eq!(watch.scan_with(&world, &[ended(900, LATER_NS)]), NOTHING);
    world.idr_complete = true;
    assert_eq!(watch.scan_with(&world, &[ended(900, LATER_NS)]), NOTHING);
}
