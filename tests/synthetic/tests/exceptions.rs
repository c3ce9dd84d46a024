//! One noisy alert of a machine is silenced, and nothing else.

mod common;

use std::sync::Arc;

use panoptes_engine::container_config::Glob;
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::policy::exceptions::{Exception, Exceptions};
use panoptes_engine::time::Now;
use panoptes_engine::watch::{Setup, WatchedMachine, Workspace};
use panoptes_records::activities::Activity;
use panoptes_records::queue::{QueueSize, Waker, queue};
use panoptes_synthetic::{ForkOptions, Machine, Size, Source, profile};
use serde_json::Value;

use common::setup::{KEY, setup};
use common::take_records;

const INTERVAL_NS: u32 = 10_000_000;
const ADDED: &str = "executable_permissions_added";

/// Root's program that compiles, one that a user put beside it, and one with its name.
const PROGRAMS: [&str; 3] = ["/usr/bin/node", "/usr/bin/node-of-eve", "/usr/bin/python3"];
const EVE: u32 = 1000;

/// Has every program start and make written memory executable; returns the records.
fn records(exceptions: Arc<Exceptions>) -> Vec<Value> {
    let size = Size { processes: 12, threads: 1, descriptors: 4, areas: 4, ..Size::default() };
    let mut machine = Machine::builder(&profile("6.12.117+deb13-amd64")).size(size).build();
    let limits = Limits::default();
    let profile = machine.discover();
    let mut watched = WatchedMachine::new(Setup {
        exceptions,
        report_existing: false,
        ..setup(&limits, &profile, PolicyConfig::default(), Arc::default())
    });
    let (mut producer, mut consumer) =
        queue(QueueSize { blocks: 8, block_bytes: 1 << 20 }, &Waker::default());
    let mut workspace = Workspace::new(&limits, KEY);
    let mut now = Now::at(1_795_000_000_000_000_000);
    let mut records = Vec::new();
    let mut scans = |machine: &mut Machine, count: u32| {
        for _ in 0..count {
            machine.tick(INTERVAL_NS.into());
            now = now.after(INTERVAL_NS.into());
            let mut source = Source::new(&mut *machine);
            let scanned = watched.scan(&mut workspace, &mut source, now, &mut producer);
            scanned.expect("it can be scanned");
            records.extend(take_records(&mut producer, &mut consumer));
        }
    };
    scans(&mut machine, 2);
    let mut memory = Vec::new();
    for path in PROGRAMS {
        let pid = machine.fork_with(1, ForkOptions { container: 0, uid: EVE, new_session: false });
        machine.exec(pid, path, &["node", "--jit"]);
        machine.set_name(pid, "node");
        let start = machine.map_anonymous(pid, 1, 1);
        machine.write_to_area(pid, start);
        memory.push((pid, start));
    }
    machine.give_file(PROGRAMS[1], EVE);
    scans(&mut machine, 10);
    for (pid, start) in memory {
        // VM_READ | VM_EXEC
        machine.protect(pid, start, 5);
    }
    scans(&mut machine, 3);
    records
}

/// The programs of the processes that records of an activity are about, in order.
fn programs<'a>(records: &'a [Value], activity: &str) -> Vec<&'a str> {
    let data = records.iter().map(|record| &record["activity_data"]);
    let path = |data: &'a Value| data["process_details"]["process_executable_path"].as_str();
    let mut paths: Vec<_> = data.filter(|data| data["name"] == activity).filter_map(path).collect();
    paths.sort_unstable();
    paths
}

#[test]
fn one_noisy_alert_is_silenced_and_the_others_remain() {
    let exception = Exception {
        activity: Activity::ExecutablePermissionsAdded,
        process_executable_path: Some(Glob::new("/usr/bin/node*")),
        process_name: Some(Glob::new("node")),
        user_id: Some(EVE),
        container: None,
        image: None,
        address: None,
        kernel_module_name: None,
        command_line: Some(Glob::new("node --jit")),
        reason: "Node.js compiles JavaScript at run time".into(),
        until: None,
    };
    let with = Arc::new(Exceptions::new([exception]));
    let (all, left) = (records(Arc::default()), records(Arc::clone(&with)));
    assert_eq!(programs(&all, ADDED), PROGRAMS);
    assert_eq!(programs(&left, ADDED), PROGRAMS[1..]);
    let counts: Vec<u64> = with.counts().map(|(_, count)| count).collect();
    assert_eq!(counts, [1]);
    assert_eq!(all.len(), left.len() + 1, "nothing else is missing");
    assert_eq!(programs(&left, "process_executed"), PROGRAMS);
}
