//! Machines whose clock or whose count of forks was tampered with, and machines whose state was
//! restored.

mod common;

use std::sync::Arc;

use panoptes_engine::detect::binary_attestation::{
    ShippedBuilder, ShippedFile, ShippedFiles, ShippedSubject,
};
use panoptes_engine::limits::Limits;
use panoptes_engine::time::Now;
use panoptes_engine::walk::{ScanError, Walker};
use panoptes_engine::watch::{LastContact, SLICE_BYTES, Setup, WatchedMachine, Workspace};
use panoptes_profiles::Profile;
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_synthetic::{Machine, Size, Source, profile};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use common::setup::{KEY, everything, setup};
use common::{RELEASES, take_records};

const INTERVAL_NS: u32 = 10_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;

/// A machine, and what watches it.
struct Watch {
    machine: Machine,
    profile: Profile,
    walker: Walker,
    workspace: Workspace,
    watched: WatchedMachine,
    producer: Producer,
    consumer: Consumer,
    now: Now,
    shipped: Arc<ShippedFiles>,
}

fn machine() -> Machine {
    let size = Size { processes: 12, threads: 1, descriptors: 4, areas: 4, ..Size::default() };
    Machine::builder(&profile(RELEASES[1])).size(size).build()
}

fn watched(profile: &Profile, shipped: &Arc<ShippedFiles>) -> WatchedMachine {
    WatchedMachine::new(Setup {
        report_existing: false,
        ..setup(&Limits::default(), profile, everything(), Arc::clone(shipped))
    })
}

impl Watch {
    /// Begins to watch a machine for which these contents were shipped.
    fn new(mut machine: Machine, contents: &[&[u8]]) -> Self {
        let limits = Limits::default();
        let mut shipped = ShippedBuilder::new();
        let everywhere = shipped.subject(&ShippedSubject::Everywhere).expect("there is room");
        for content in contents {
            let sha256 = Some(Sha256::digest(content).into());
            shipped
                .add(everywhere, &ShippedFile { sha256, ..ShippedFile::default() })
                .expect("there is room");
        }
        let (shipped, profile) = (Arc::new(shipped.build()), machine.discover());
        let size = QueueSize { blocks: 8, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        let mut watch = Self {
            watched: watched(&profile, &shipped),
            machine,
            profile,
            walker: common::walker(&limits),
            workspace: Workspace::new(&limits, KEY),
            producer,
            consumer,
            now: Now::at(1_795_000_000_000_000_000),
            shipped,
        };
        watch.attach(7, None);
        watch
    }

    /// Attaches to the machine, whose boot is taken for that of a number.
    fn attach(&mut self, boot: u8, seen: Option<&LastContact>) {
        self.watched = watched(&self.profile, &self.shipped);
        let source = &mut Source::new(&mut self.machine);
        self.watched.first_process(&mut self.walker, source).expect("process 1 is there");
        self.watched.set_boot_uuid([boot; 16]);
        if let Some(seen) = seen {
            self.watched.go_on(seen);
        }
    }

    /// Scans once after an interval, and hashes files; returns the records.
    fn try_scan(&mut self) -> Result<Vec<Value>, ScanError> {
        self.now = self.now.after(INTERVAL_NS.into());
        let source = &mut Source::new(&mut self.machine);
        let Self { watched, workspace, producer, consumer, .. } = self;
        let scanned = watched.scan(workspace, source, self.now, producer);
        watched.work(workspace, source, SLICE_BYTES);
        let records = take_records(producer, consumer);
        scanned.map(|()| records)
    }

    /// Scans often, while time passes in the machine.
    fn scans(&mut self, count: u32) -> Vec<Value> {
        let mut records = Vec::new();
        for _ in 0..count {
            self.machine.tick(INTERVAL_NS.into());
            records.extend(self.try_scan().expect("it can be scanned"));
        }
        records
    }

    /// Starts a program.
    fn start(&mut self, path: &str) -> u32 {
        let pid = self.machine.fork(1);
        self.machine.exec(pid, path, &[path]);
        pid
    }

    fn set_forks(&mut self, forks: u64) {
        let at = self.machine.symbol("total_forks").expect("the kernel has it");
        self.machine.memory().put_word(at, forks);
    }

    fn forks(&mut self) -> u64 {
        let at = self.machine.symbol("total_forks").expect("the kernel has it");
        self.machine.memory().word(at)
    }
}

/// The records of an activity.
fn of<'a>(records: &'a [Value], activity: &'a str) -> impl Iterator<Item = &'a Value> {
    records.iter().filter(move |record| record["activity_data"]["name"] == activity)
}

/// The processes that records of an activity are about, and whether they began while contact was
/// lost.
fn processes(records: &[Value], activity: &str) -> Vec<(u64, bool)> {
    let of = of(records, activity).map(|record| &record["activity_data"]["process_details"]);
    of.map(|process| {
        let pid = process["process_id"].as_u64().expect("it has an id");
        (pid, process["process_began_while_not_watched"] == true)
    })
    .collect()
}

#[test]
fn what_began_while_contact_was_lost_is_new_whatever_the_count_of_forks_is() {
    for forks in [None, Some(5)] {
        let mut watch = Watch::new(machine(), &[b"shipped"]);
        assert_eq!(processes(&watch.scans(8), "process_created"), []);
        let seen = watch.watched.seen().expect("it was scanned");
        let meanwhile = watch.start("/opt/stranger");
        if let Some(forks) = forks {
            watch.set_forks(forks);
        }
        watch.attach(7, Some(&seen));
        let records = watch.scans(4);
        let began = [(meanwhile.into(), true)];
        assert_eq!(processes(&records, "process_created"), began, "{forks:?}");
        let later = watch.start("/opt/stranger");
        let created = processes(&watch.scans(4), "process_created");
        assert_eq!(created, [(later.into(), false)], "{forks:?}");
    }
}

#[test]
fn a_machine_that_is_taken_for_another_boot_is_known_by_its_processes() {
    let mut watch = Watch::new(machine(), &[b"shipped"]);
    watch.scans(8);
    let seen = watch.watched.seen().expect("it was scanned");
    let meanwhile = watch.start("/opt/stranger");
    watch.attach(8, Some(&seen));
    let created = processes(&watch.scans(4), "process_created");
    assert_eq!(created, [(meanwhile.into(), true)]);
}

#[test]
fn what_runs_after_another_boot_is_not_new() {
    let mut watch = Watch::new(machine(), &[b"shipped"]);
    watch.scans(8);
    let seen = watch.watched.seen().expect("it was scanned");
    let all: Vec<u32> = watch.machine.processes().map(|process| process.pid).collect();
    for pid in all.into_iter().filter(|&pid| pid > 2) {
        watch.machine.kill(pid);
    }
    watch.start("/opt/stranger");
    watch.attach(8, Some(&seen));
    assert_eq!(processes(&watch.scans(4), "process_created"), []);
}

/// A kernel whose count of forks was set back must not be taken for another one.
#[test]
fn a_count_of_forks_that_is_set_back_is_reported_and_the_machine_is_watched_on() {
    let mut watch = Watch::new(machine(), &[b"shipped"]);
    watch.scans(8);
    let mut records = Vec::new();
    let mut pids = Vec::new();
    for round in 0..60 {
        if round % 20 == 3 {
            pids.push((watch.start("/opt/stranger").into(), false));
        }
        // Whenever it grows, it is set back once more.
        watch.set_forks(5);
        records.extend(watch.scans(1));
    }
    assert_eq!(of(&records, "clock_tampered").count(), 1, "{records:#?}");
    assert_eq!(processes(&records, "process_created"), pids);
}

#[test]
fn a_machine_whose_state_is_restored_is_lost() {
    let mut watch = Watch::new(machine(), &[b"shipped"]);
    watch.scans(8);
    // It is paused while memory is loaded, and the count of forks comes first.
    let forks = watch.forks();
    watch.set_forks(forks - 3);
    for _ in 0..30 {
        assert_eq!(watch.try_scan(), Ok(vec![]));
    }
    watch.machine.rewind(60_000_000);
    assert_eq!(watch.try_scan(), Err(ScanError::WentBack));
}

/// The page of the clock is loaded before that of the count of forks.
#[test]
fn a_machine_whose_clock_is_restored_first_shows_nothing_until_it_is_lost() {
    let mut watch = Watch::new(machine(), &[b"shipped"]);
    watch.scans(8);
    watch.machine.rewind(60_000_000);
    // What began after the saved state is missing, and did not end.
    let began_later = watch.machine.processes().last().expect("there are processes").pid;
    watch.machine.kill(began_later);
    for _ in 0..30 {
        assert_eq!(watch.try_scan(), Ok(vec![]));
    }
    let forks = watch.forks();
    watch.set_forks(forks - 3);
    assert_eq!(watch.try_scan(), Err(ScanError::WentBack));
}

/// A program that is replaced by another one of the same size, with the same times, behind the back
/// of the clock.
fn replace(watch: &mut Watch, path: &str, content: &[u8], written_at: u64) {
    let ago = i64::try_from(watch.machine.calendar_ns() - written_at).expect("it is long ago");
    watch.machine.step_clock(-ago);
    watch.machine.write_file(path, content);
    assert_eq!(watch.machine.calendar_ns(), written_at);
    watch.scans(1);
    watch.machine.step_clock(ago);
}

/// Two contents with the same times must not be taken for one.
#[test]
fn a_file_that_is_replaced_while_the_clock_is_set_back_is_hashed_again() {
    let (shipped, foreign) = ([b"\x7fELF", &[1; 9000][..]].concat(), [7; 9004]);
    let mut machine = machine();
    machine.write_file("/opt/tool", &shipped);
    let written_at = machine.calendar_ns();
    machine.tick(HOUR_NS.unsigned_abs());
    let mut watch = Watch::new(machine, &[&shipped]);
    let alerts = |watch: &mut Watch| processes(&watch.scans(12), "foreign_binary_executed");
    alerts(&mut watch);
    watch.start("/opt/tool");
    assert_eq!(alerts(&mut watch), []);
    replace(&mut watch, "/opt/tool", &foreign, written_at);
    let second = watch.start("/opt/tool");
    assert_eq!(alerts(&mut watch), [(second.into(), false)]);
}

#[test]
fn a_clock_that_is_set_without_end_does_not_keep_files_from_being_judged() {
    // More than one scan hashes.
    let (mut shipped, foreign) = (b"\x7fELF".to_vec(), vec![7; 2_000_000]);
    shipped.resize(900_000, 1);
    let mut machine = machine();
    machine.write_file("/opt/tool", &shipped);
    machine.write_file("/opt/stranger", &foreign);
    machine.tick(HOUR_NS.unsigned_abs());
    let mut watch = Watch::new(machine, &[&shipped]);
    watch.scans(12);
    watch.start("/opt/tool");
    let stranger = watch.start("/opt/stranger");
    let mut records = Vec::new();
    for _ in 0..100 {
        watch.machine.step_clock(-1_000_000);
        records.extend(watch.scans(1));
    }
    assert_eq!(processes(&records, "foreign_binary_executed"), [(stranger.into(), false)]);
}
