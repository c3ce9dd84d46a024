//! Settings that change between two scans have their effect on the next record.

mod common;

use std::sync::Arc;

use panoptes_engine::container_config::Glob;
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::policy::exceptions::{Exception, Exceptions};
use panoptes_engine::time::Now;
use panoptes_engine::watch::{PolicySettings, Setup, WatchedMachine, Workspace};
use panoptes_records::activities::{Activity, Preset, Severity};
use panoptes_records::filter::Filter;
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_records::redact::{Pattern, Redactor};
use panoptes_synthetic::{Machine, Size, Source, profile};
use serde_json::Value;

use common::setup::{KEY, setup};

const INTERVAL_NS: u32 = 10_000_000;
const CREATED: Activity = Activity::ProcessCreated;

/// A machine that is watched.
struct Watch {
    machine: Machine,
    watched: WatchedMachine,
    workspace: Workspace,
    now: Now,
    producer: Producer,
    consumer: Consumer,
}

impl Watch {
    fn new() -> Self {
        let size = Size { processes: 12, threads: 1, descriptors: 4, areas: 4, ..Size::default() };
        let mut machine = Machine::builder(&profile("6.12.117+deb13-amd64")).size(size).build();
        let limits = Limits::default();
        let watched = WatchedMachine::new(Setup {
            report_existing: false,
            ..setup(&limits, &machine.discover(), PolicyConfig::default(), Arc::default())
        });
        let size = QueueSize { blocks: 8, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        let workspace = Workspace::new(&limits, KEY);
        let now = Now::at(1_795_000_000_000_000_000);
        let mut watch = Self { machine, watched, workspace, now, producer, consumer };
        watch.scan();
        watch.scan();
        watch
    }

    /// The records of one more scan.
    fn scan(&mut self) -> Vec<Value> {
        self.scan_for(Filter::ALL)
    }

    /// Those of one more scan that an output takes.
    fn scan_for(&mut self, filter: Filter) -> Vec<Value> {
        self.machine.tick(INTERVAL_NS.into());
        self.now = self.now.after(INTERVAL_NS.into());
        let Self { machine, watched, workspace, now, producer, consumer } = self;
        let scanned = watched.scan(workspace, &mut Source::new(machine), *now, producer);
        scanned.expect("it can be scanned");
        producer.flush();
        let mut records = Vec::new();
        while let Some(block) = consumer.pop() {
            let mut wanted = block.next_wanted(&filter, 0);
            while !wanted.is_empty() {
                let read = |index| serde_json::from_slice(block.slice(index, 1));
                records.extend(wanted.clone().map(|index| read(index).expect("it is JSON")));
                wanted = block.next_wanted(&filter, wanted.end);
            }
            consumer.give_back(block);
        }
        records
    }

    /// The severities of the records of a process that starts now.
    fn start(&mut self) -> Vec<String> {
        self.machine.fork(1);
        let mut records = [self.scan(), self.scan()].concat();
        records.retain(|record| record["activity_data"]["name"] == CREATED.name());
        records.iter().map(|one| one["severity"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// The settings at the start.
fn settings() -> PolicySettings {
    PolicySettings {
        config: PolicyConfig::default(),
        weights: Vec::new(),
        login_servers: Arc::default(),
        content_rules: Arc::default(),
        exceptions: Arc::default(),
        redactor: None,
    }
}

fn names(records: &[Value]) -> Vec<&str> {
    records.iter().filter_map(|record| record["activity_data"]["name"].as_str()).collect()
}

#[test]
fn a_severity_and_whether_an_activity_is_reported_change_with_the_next_scan() {
    let mut watch = Watch::new();
    assert_eq!(watch.start(), ["INFO"]);
    let weights = vec![(CREATED, Severity::High, Preset::Security)];
    watch.watched.set_policy(PolicySettings { weights, ..settings() });
    assert_eq!(watch.start(), ["HIGH"]);
    let mut config = PolicyConfig::default();
    config.set_enabled(CREATED, false);
    watch.watched.set_policy(PolicySettings { config, ..settings() });
    assert_eq!(watch.start(), [""; 0]);
    watch.watched.set_policy(settings());
    assert_eq!(watch.start(), ["HIGH"], "severities stay until others are set");
}

#[test]
fn a_preset_changes_with_the_next_scan() {
    let mut watch = Watch::new();
    let alerts = Filter { preset: Preset::Alerts, ..Filter::ALL };
    watch.machine.fork(1);
    assert_eq!(names(&watch.scan_for(alerts)), [""; 0]);
    let weights = vec![(CREATED, Severity::Info, Preset::Alerts)];
    watch.watched.set_policy(PolicySettings { weights, ..settings() });
    watch.machine.fork(1);
    assert_eq!(names(&watch.scan_for(alerts)), [CREATED.name()]);
}

#[test]
fn a_threshold_changes_with_the_next_scan() {
    let mut watch = Watch::new();
    let pid = watch.machine.fork(1);
    watch.scan();
    watch.machine.exit(pid);
    for _ in 0..5 {
        assert!(!names(&watch.scan()).contains(&"process_zombie"));
    }
    let mut config = PolicyConfig::default();
    config.thresholds.zombie_after_ns = 1;
    watch.watched.set_policy(PolicySettings { config, ..settings() });
    assert!(names(&watch.scan()).contains(&"process_zombie"));
}

#[test]
fn an_exception_applies_from_the_next_scan_on() {
    let mut watch = Watch::new();
    let areas: Vec<(u32, u64)> = (0..2)
        .map(|_| {
            let pid = watch.machine.fork(1);
            watch.machine.exec(pid, "/usr/bin/node", &["node"]);
            let start = watch.machine.map_anonymous(pid, 1, 1);
            watch.machine.write_to_area(pid, start);
            (pid, start)
        })
        .collect();
    (0..10).for_each(|_| drop(watch.scan()));
    let exception = Exception {
        activity: Activity::ExecutablePermissionsAdded,
        process_executable_path: Some(Glob::new("/usr/bin/node")),
        process_name: None,
        user_id: None,
        container: None,
        image: None,
        address: None,
        kernel_module_name: None,
        command_line: None,
        reason: "Node.js compiles JavaScript at run time".into(),
        until: None,
    };
    let with = Arc::new(Exceptions::new([exception]));
    let mut alerts = Vec::new();
    for (exceptions, (pid, start)) in [Arc::default(), Arc::clone(&with)].into_iter().zip(areas) {
        watch.watched.set_policy(PolicySettings { exceptions, ..settings() });
        // VM_READ | VM_EXEC
        watch.machine.protect(pid, start, 5);
        let records: Vec<Value> = (0..3).flat_map(|_| watch.scan()).collect();
        alerts.push(names(&records).contains(&"executable_permissions_added"));
    }
    assert_eq!(alerts, [true, false]);
    assert_eq!(with.counts().map(|(_, count)| count).collect::<Vec<_>>(), [1]);
}

/// The arguments of the program that a process runs from now on, as its record has them: as one
/// string, and one by one.
fn executed(watch: &mut Watch, arguments: &[&str]) -> (String, Vec<String>) {
    let pid = watch.machine.fork(1);
    watch.machine.exec(pid, "/usr/bin/mysql", arguments);
    let records = [watch.scan(), watch.scan(), watch.scan()].concat();
    let details = records.iter().find_map(|record| {
        let details = &record["activity_data"]["process_details"];
        (details["process_id"] == pid).then_some(details)
    });
    let details = details.expect("a record is about it");
    let list = details["process_command_line_argument_list"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&details["process_command_line_arguments"]), list.iter().map(text).collect())
}

#[test]
fn a_secret_in_arguments_is_replaced_from_the_next_record_on() {
    let mut watch = Watch::new();
    let arguments = ["mysql", "--user", "me", "--password", "hunter2"];
    assert_eq!(executed(&mut watch, &arguments).0, "mysql --user me --password hunter2");
    let pattern = Arc::new(Pattern::new("--password[= ]([^ ]+)").expect("it is a pattern"));
    let redactor = Redactor::new(&[pattern]);
    watch.watched.set_policy(PolicySettings { redactor, ..settings() });
    let (text, list) = executed(&mut watch, &arguments);
    assert_eq!(text, "mysql --user me --password ***");
    assert_eq!(list, ["mysql", "--user", "me", "--password", "***"]);
    watch.watched.set_policy(settings());
    assert_eq!(executed(&mut watch, &arguments).0, "mysql --user me --password hunter2");
}
