//! Processes that come and go between two scans are found in memory that the kernel has not used
//! again.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::setup::{KEY, everything, setup};
use common::{RELEASES, take_records};
use panoptes_engine::limits::Limits;
use panoptes_engine::time::Now;
use panoptes_engine::watch::{Setup, WatchedMachine, Workspace};
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_synthetic::{Machine, Size, Source, profile};
use serde_json::Value;

const INTERVAL_NS: u32 = 10_000_000;

struct Watch {
    machine: Machine,
    workspace: Workspace,
    watched: WatchedMachine,
    producer: Producer,
    consumer: Consumer,
    now: Now,
}

impl Watch {
    fn new(release: &str) -> Self {
        let size = Size { processes: 12, threads: 2, ..Size::default() };
        let mut machine = Machine::builder(&profile(release)).size(size).memory(512 << 20).build();
        let limits = Limits { processes: 256, threads: 512, ..Limits::default() };
        let found = machine.discover();
        let setup = setup(&limits, &found, everything(), Arc::default());
        let watched = WatchedMachine::new(Setup { report_existing: false, ..setup });
        let size = QueueSize { blocks: 8, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        let workspace = Workspace::new(&limits, KEY);
        let now = Now::at(1_795_000_000_000_000_000);
        let mut watch = Self { machine, workspace, watched, producer, consumer, now };
        for _ in 0..3 {
            assert_eq!(lives(&watch.scan()), []);
        }
        watch
    }

    fn scan(&mut self) -> Vec<Value> {
        self.machine.tick(INTERVAL_NS.into());
        self.now = self.now.after(INTERVAL_NS.into());
        let source = &mut Source::new(&mut self.machine);
        let Self { watched, workspace, producer, consumer, .. } = self;
        watched.scan(workspace, source, self.now, producer).expect("it is scanned");
        take_records(producer, consumer)
    }

    /// Scans for a bit more than a second; returns what is reported about births that were missed.
    fn unseen(&mut self) -> u64 {
        let records: Vec<Value> = (0..110).flat_map(|_| self.scan()).collect();
        assert_eq!(lives(&records), [], "nothing is reported twice");
        let reports = records.iter().map(|it| &it["activity_data"]["system_activity_details"]);
        reports.filter_map(|it| it["processes_unseen"].as_u64()).sum()
    }

    /// Starts a process of another program; returns its id.
    fn start(&mut self, parent: u32, name: &str) -> u32 {
        let pid = self.machine.fork(parent);
        self.machine.exec(pid, &format!("/usr/bin/{name}"), &[name]);
        pid
    }
}

/// Returns a row for each record about a process's beginning or end: its activity, process, parent,
/// name, and whether it was recovered.
fn lives(records: &[Value]) -> Vec<(String, u64, Option<u64>, String, bool)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let data = records.iter().map(|record| &record["activity_data"]);
    let is_one = |data: &&Value| {
        matches!(data["name"].as_str(), Some("process_created" | "process_terminated"))
    };
    data.filter(is_one)
        .map(|data| {
            let process = &data["process_details"];
            (
                text(&data["name"]),
                process["process_id"].as_u64().expect("it has an id"),
                process["process_parent_process_id"].as_u64(),
                text(&process["process_name"]),
                process["process_recovered"] == true,
            )
        })
        .collect()
}

#[test]
fn processes_between_two_scans_are_recovered_once() {
    for release in RELEASES {
        let mut watch = Watch::new(release);
        let parent = watch.start(1, "parent");
        let before = [0; 6].map(|_| watch.start(parent, "before"));
        watch.scan();
        for pid in before {
            watch.machine.kill(pid);
        }
        // The slabs of these processes are known, and have room.
        watch.scan();
        let names = ["one", "two", "three", "four", "five"];
        let pids = names.map(|name| watch.start(parent, name));
        for pid in pids {
            watch.machine.kill(pid);
        }
        let found: BTreeSet<_> = lives(&watch.scan()).into_iter().collect();
        let expected = pids.iter().zip(names).flat_map(|(&pid, name)| {
            ["process_created", "process_terminated"].map(|activity| {
                (activity.to_owned(), pid.into(), Some(parent.into()), name.to_owned(), true)
            })
        });
        assert_eq!(found, expected.collect(), "{release}");
        assert_eq!(watch.unseen(), 0, "{release}");
    }
}

#[test]
fn a_process_that_a_scan_has_seen_is_not_recovered() {
    for release in RELEASES {
        let mut watch = Watch::new(release);
        let seen = watch.start(1, "seen");
        watch.scan();
        // Its end is found beside births that were missed.
        watch.machine.kill(seen);
        let missed = watch.machine.fork(1);
        watch.machine.kill(missed);
        let found = lives(&watch.scan());
        let recovered = found.iter().filter(|it| it.4).map(|it| it.1).collect::<BTreeSet<_>>();
        assert!(recovered.iter().all(|&pid| pid == u64::from(missed)), "{release}: {found:?}");
        watch.unseen();
    }
}

#[test]
fn what_was_overwritten_is_counted_as_missed() {
    for release in RELEASES {
        let mut watch = Watch::new(release);
        for name in ["one", "two", "three"] {
            // Each gets the place of the one before.
            let pid = watch.start(1, name);
            watch.machine.kill(pid);
        }
        let found = lives(&watch.scan());
        let names: Vec<_> = found.iter().map(|it| it.3.as_str()).collect();
        assert_eq!(names, ["three"; 2], "{release}");
        assert_eq!(watch.unseen(), 2, "{release}");
    }
}

/// A fork that a signal stops leaves a task that has an id and a start, and never ran
/// (`copy_process`, kernel/fork.c).
#[test]
fn a_fork_that_the_kernel_gave_up_was_no_process() {
    for release in RELEASES {
        let mut watch = Watch::new(release);
        let pid = watch.start(1, "never");
        watch.machine.give_up_fork(pid);
        assert_eq!(lives(&watch.scan()), [], "{release}");
        assert_eq!(watch.unseen(), 1, "{release}: the machine has counted it");
    }
}
