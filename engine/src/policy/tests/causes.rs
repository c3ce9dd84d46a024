//! Alerts of one cause: the first ones are in full, further ones are counted, and nothing else is
//! held back by that.

use core::net::SocketAddr;
use std::cell::Cell;
use std::rc::Rc;

use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_records::activities::{Activity, MessageType};
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::{Details, Record};
use panoptes_tables::{HashKey, StringId, StringRoom, Strings};
use serde_json::{Value, json};

use super::shells::commanded;
use super::{Reader, attest, details, names};
use crate::detect::binary_attestation::{self as attestation, ShippedBuilder, ShippedFile};
use crate::detect::file_content::ContentChange;
use crate::detect::file_content::paths::{
    GrantedAccess, NewNames, PathChange, PermissionChange, PreviousTarget,
};
use crate::detect::hidden_connections::{HiddenConnection, HiddenConnectionKind};
use crate::detect::reverse_shells::{ChainMember, ReverseShell};
use crate::detect::shell_history::{
    DisableMethod, HistoryChange, HistoryClearing, HistoryEvent, ShellKind,
};
use crate::detect::{Finding, Findings as _};
use crate::limits::Limits;
use crate::page_cache::{
    Asker, ContentFacts, ContentFormat, ContentSource, ElfKind, FileIdentity, HashOutcome, Hashes,
    Traits,
};
use crate::policy::Reporter;
use crate::policy::evidence::AlertEvidence;
use crate::policy::techniques::ROOTKIT;
use crate::policy::write::EventSubject;
use crate::policy::{ClockTampering, PolicyConfig, SetBack};
use crate::state::container::ContainerKey;
use crate::state::facts::{
    ConnectionFacts, DescriptorFacts, FileName, InodeFacts, ProcessFacts, ProcessNumbers,
};
use crate::state::tests::watch::limits;
use crate::state::tests::world::{FakeArea, FakeFile, FakeProcess, R, W, World, X};
use crate::state::{ExceededThreshold, FileAtOpen, ScanContext};
use crate::time::RealTime;
use crate::walk::{UserGroupIds, Views};

mod repeats;

pub(super) use repeats::path_change;
use repeats::{
    Repeat, access, cleared, clock, connection, content, history, packets, path, port, shell,
    shell_of_another_program,
};

pub(super) const SECOND_NS: i64 = 1_000_000_000;
pub(super) const MINUTE_NS: i64 = 60 * SECOND_NS;
pub(super) const SUM: &str = "alerts_summed_up";

/// The content of every file whose inode number is at least 1000; a byte of it can be changed.
struct Foreign(Rc<Cell<u8>>);

impl ContentSource for Foreign {
    fn ask(&mut self, file: &FileIdentity, _: Asker) -> Option<ContentFacts> {
        let hashes = Hashes { sha256: [self.0.get(); 32], sha1: [9; 20], md5: [9; 16] };
        let format = ContentFormat::Elf(ElfKind::SharedObject);
        let outcome = HashOutcome::Whole { hashes };
        let known = ContentFacts { outcome, format, traits: Traits::default() };
        (file.number >= 1000).then_some(known)
    }
}

pub(super) fn reader(content: &Rc<Cell<u8>>) -> Reader {
    let limits = Limits { vmas: 16_384, processes: 1024, threads: 2048, ..limits() };
    let mut config = PolicyConfig::default();
    for activity in Activity::ALL {
        let is_alert = activity.info().message_type == MessageType::Alert;
        config.set_enabled(*activity, is_alert);
    }
    let mut builder = ShippedBuilder::new();
    let system = builder.subject(&attestation::ShippedSubject::System).unwrap();
    let sha256 = Some([1; 32]);
    let file = ShippedFile { path: Some(b"/lib/libc.so"), sha256, ..ShippedFile::default() };
    builder.add(system, &file).unwrap();
    let reader = Reader::with(&limits, config);
    let files = Box::new(Foreign(Rc::clone(content)));
    let mut reader = Reader { attest: attest(&limits, builder.build()), files, ..reader };
    reader.scan(&World::default());
    reader
}

fn library(number: u64) -> FakeArea {
    let file = FakeFile::regular(0xffff_8885_0000_0000 + number * 0x100, number, "tmp/x.so");
    FakeArea::of_file(0x10_0000, 0x10_1000, R | X, &file)
}

/// A process that has loaded a foreign library; its user is this one.
fn loaded(process_id: u32, number: u64, uid: u32) -> FakeProcess {
    let process = FakeProcess::new(process_id).with_area(library(number));
    FakeProcess { uid, name: format!("p{}", process_id % 3), ..process }
}

fn world(processes: impl IntoIterator<Item = FakeProcess>) -> World {
    let mut world = World::default();
    world.processes.extend(processes);
    world
}

fn incident(record: &Value) -> &Value {
    &record["detection"]["incident_id"]
}

/// `/etc/ld.so.preload` gave an alert for every process.
#[test]
fn a_library_in_a_hundred_processes_is_in_full_eight_times_and_then_counted() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let mut all = world((700..750).map(|id| loaded(id, 1000, 0)));
    let mut records = reader.scan(&all);
    reader.now = reader.now.after(SECOND_NS);
    all.processes.extend((750..800).map(|id| loaded(id, 1000, 0)));
    records.extend(reader.scan(&all));
    assert_eq!(names(&records), ["foreign_library_loaded"; 8]);
    reader.now = reader.now.after(MINUTE_NS);
    let sums = reader.scan(&all);
    assert_eq!(names(&sums), [SUM]);
    let sum = &sums[0];
    assert_eq!([&sum["message_type"], &sum["severity"]], ["ALERT", "HIGH"]);
    // 700 to 707 are in full, and 708 is p0.
    let expected = json!({
        "reason": "92 more alerts foreign_library_loaded with the cause of one that was written: \
                   counted for 61 s; in p0, p1, p2",
        "activity": "foreign_library_loaded",
        "count": 92,
        "process_names": ["p0", "p1", "p2"],
    });
    assert_eq!(*details(sum, "system_activity_details"), expected);
    let detection = &sum["detection"];
    assert_eq!(detection["mitre_attack"], records[0]["detection"]["mitre_attack"]);
    assert_eq!(detection["confidence"], "high");
    assert_eq!(detection["earlier_message_ids"], json!([records[7]["message_id"]]));
    // One story.
    let id = &records[0]["message_id"];
    assert!(records.iter().chain(&sums).all(|record| incident(record) == id), "{records:?}");
    reader.now = reader.now.after(MINUTE_NS);
    assert!(reader.scan(&all).is_empty(), "nothing came since");
    assert_eq!(reader.finish(), 0);
    assert!(reader.records().is_empty());
}

#[test]
fn processes_whose_alert_was_counted_belong_to_the_incident() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let mut all = world((700..720).map(|id| loaded(id, 1000, 0)));
    let first = reader.scan(&all);
    // Another kind of alert, about a process whose first one was only counted.
    all.process(719).views = view_without_the_task_list();
    reader.scan(&all);
    let records = reader.scan(&all);
    assert_eq!(names(&records), ["process_hidden"]);
    assert_eq!(incident(&records[0]), &first[0]["message_id"]);
}

/// A service that starts the same program each few hours is no single act.
#[test]
fn an_incident_of_a_cause_ends_an_hour_after_its_last_alert() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let mut run = |id: u32, pause_ns: i64| {
        reader.now = reader.now.after(pause_ns);
        let records = reader.scan(&world([loaded(id, 1000, 0)]));
        assert_eq!(names(&records), ["foreign_library_loaded"]);
        (incident(&records[0]).clone(), records[0]["message_id"].clone())
    };
    let (first, id) = run(700, 0);
    assert_eq!(first, id);
    assert_eq!(run(701, 59 * MINUTE_NS).0, first);
    assert_eq!(run(702, 59 * MINUTE_NS).0, first, "an hour counts from the last alert");
    let (other, id) = run(703, 60 * MINUTE_NS);
    assert_eq!(other, id, "it begins another incident");
    assert_eq!(run(704, MINUTE_NS).0, other);
}

#[test]
fn a_sum_names_the_container_that_has_ended() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    reader.scan(&jits(R | W, "web"));
    let records = reader.scan(&jits(R | X, "web"));
    assert_eq!(names(&records), ["executable_permissions_added"; 8]);
    for _ in 0..16 {
        assert!(reader.scan(&World::default()).is_empty());
    }
    reader.now = reader.now.after(MINUTE_NS);
    let sums = reader.scan(&World::default());
    assert_eq!(names(&sums), [SUM]);
    let id = |record: &Value| {
        record["workload_information"]["container_context"]["container_id"].clone()
    };
    assert_eq!([id(&records[0]), id(&sums[0])], ["web", "web"]);
}

fn view_without_the_task_list() -> u16 {
    use crate::walk::view;
    view::CERTAIN & !view::TASK_LIST & !view::CHILDREN
}

#[test]
fn what_differs_from_a_repeated_library_is_in_full_at_once() {
    let content = Rc::new(Cell::new(9));
    let mut reader = reader(&content);
    let mut all = world((700..800).map(|id| loaded(id, 1000, 0)));
    assert_eq!(reader.scan(&all).len(), 8);
    let mut expect = |reader: &mut Reader, what: &str, process: FakeProcess| {
        let id = process.pid;
        all.processes.push(process);
        let records = reader.scan(&all);
        assert_eq!(names(&records), ["foreign_library_loaded"], "{what}");
        assert_eq!(details(&records[0], "process_details")["process_id"], id, "{what}");
    };
    expect(&mut reader, "another file", loaded(801, 1001, 0));
    expect(&mut reader, "another user", loaded(802, 1000, 1000));
    content.set(10);
    expect(&mut reader, "other content", loaded(804, 1000, 0));
}

#[test]
fn a_foreign_program_in_a_loop_is_counted_each_minute() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let mut records = Vec::new();
    // Two a second, each of which ends.
    for run in 0..300_u32 {
        let program = FakeFile::regular(0xffff_8885_0000_0000, 1000, "tmp/x");
        let process = FakeProcess { executable: Some(program), ..FakeProcess::new(1000 + run) };
        records.extend(reader.scan(&world([process.with_area(library(1000))])));
        reader.now = reader.now.after(SECOND_NS / 2);
    }
    let of = |name: &str| names(&records).into_iter().filter(|one| *one == name).count();
    assert_eq!([of("foreign_binary_executed"), of(SUM)], [8, 2], "{:?}", names(&records));
    assert_eq!(reader.finish(), 0);
    let rest = reader.records();
    assert_eq!(names(&rest), [SUM]);
    let sums = records.iter().chain(&rest).filter(|record| record["activity_data"]["name"] == SUM);
    let counts =
        sums.map(|record| details(record, "system_activity_details")["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 300 - 8);
}

/// A hundred processes of a container with memory of these permissions.
fn jits(flags: u64, container: &str) -> World {
    let memory = FakeArea::anonymous(0x7f1c_3000_0000, 0x7f1c_3000_1000, flags).written(1 << 40);
    world((700..800).map(|id| {
        let process = FakeProcess::new(id).with_area(memory.clone());
        FakeProcess { name: "node".into(), container: container.into(), ..process }
    }))
}

#[test]
fn a_jit_in_a_hundred_processes_is_in_full_eight_times() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    reader.scan(&jits(R | W, ""));
    assert_eq!(names(&reader.scan(&jits(R | X, ""))), ["executable_permissions_added"; 8]);
    assert_eq!(reader.finish(), 0);
    let records = reader.records();
    assert_eq!(names(&records), [SUM]);
    assert_eq!(records[0]["severity"], "MEDIUM");
    assert_eq!(details(&records[0], "system_activity_details")["count"], 92);
    assert!(incident(&records[0]).is_null(), "alerts of severity MEDIUM begin none");
}

#[test]
fn a_sum_that_finds_no_room_at_the_stop_is_a_lost_record() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    assert_eq!(reader.scan(&world((700..720).map(|id| loaded(id, 1000, 0)))).len(), 8);
    reader.fill();
    assert_eq!(reader.finish(), 1);
}

#[test]
fn alerts_are_in_full_where_their_sum_is_not_wanted() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let mut config = PolicyConfig::default();
    config.set_enabled(Activity::AlertsSummedUp, false);
    reader.policy.set_config(config);
    let all = world((700..720).map(|id| loaded(id, 1000, 0)));
    let is_alert = |record: &&Value| record["message_type"] == "ALERT";
    assert_eq!(reader.scan(&all).iter().filter(is_alert).count(), 20);
    assert_eq!(reader.finish(), 0);
    assert!(!names(&reader.records()).contains(&SUM));
}

pub(super) fn process_facts(process_id: u32) -> ProcessFacts<'static> {
    let ids = Some(UserGroupIds::default());
    ProcessFacts {
        name: b"sh",
        process_id,
        start_boottime: process_id.into(),
        executable: Some(b"/usr/bin/dash"),
        numbers: ProcessNumbers { ids, ..ProcessNumbers::default() },
        ..ProcessFacts::default()
    }
}

/// An alert's own details, empty.
fn with_details(activity: Activity, take: &mut dyn FnMut(Details<'_>)) {
    match format!("{:?}", activity.info().own).as_str() {
        "Process" => take(Details::Process(&<_>::default())),
        "NetworkConnection" => take(Details::NetworkConnection(&<_>::default())),
        "ReverseShell" => take(Details::ReverseShell(&<_>::default())),
        "ElfFile" => take(Details::ElfFile(&<_>::default())),
        "ProcessMemory" => take(Details::ProcessMemory(&<_>::default())),
        "FileDescriptor" => take(Details::FileDescriptor(&<_>::default())),
        "File" => take(Details::File(&<_>::default())),
        "ShellHistory" => take(Details::ShellHistory(&<_>::default())),
        "KernelModule" => take(Details::KernelModule(&<_>::default())),
        "KernelCode" => take(Details::KernelCode(&<_>::default())),
        "EbpfProgram" => take(Details::EbpfProgram(&<_>::default())),
        "SystemActivity" => take(Details::SystemActivity(&<_>::default())),
        other => panic!("an alert of {other} needs its details here"),
    }
}

/// The alerts that detectors can repeat: all but the one of a test, and the sum itself.
fn alerts() -> impl Iterator<Item = Activity> {
    let is_alert = |one: &Activity| one.info().message_type == MessageType::Alert;
    let others = [Activity::TestAlert, Activity::AlertsSummedUp];
    Activity::ALL.iter().copied().filter(is_alert).filter(move |one| !others.contains(one))
}

/// Writes an alert about a process, with this cause.
fn write(
    reporter: &mut Reporter<'_>,
    cx: &ScanContext<'_>,
    activity: Activity,
    cause: u64,
    process: &ProcessFacts<'_>,
) {
    let cause = reporter.cause().number(cause);
    let (reason, since_ns, confidence) = ("it is so", RealTime::default(), Confidence::High);
    let evidence =
        AlertEvidence { reason, techniques: ROOTKIT, confidence, since_ns, scans: 1, cause };
    with_details(activity, &mut |own| {
        let record = Record::new(activity, own);
        let _ = reporter.alert(cx, EventSubject::process(process), &record, evidence);
    });
}

#[test]
fn a_bound_holds_for_each_alert_and_a_different_cause_is_in_full_at_once() {
    for activity in alerts() {
        let mut reader = reader(&Rc::new(Cell::new(9)));
        let name = activity.name();
        let mut written = Vec::new();
        // A hundred in 55 s.
        for id in 0..100 {
            reader.now = reader.now.after(550_000_000);
            written.extend(reader.scan(&World::default()));
            let cx = reader.state.scan_context(&reader.snapshot, reader.now);
            let mut reporter = reader.policy.reporter(&mut reader.producer);
            write(&mut reporter, &cx, activity, 1, &process_facts(700 + id));
            reader.producer.flush();
            written.extend(reader.records());
        }
        assert_eq!(names(&written), [name; 8], "{name}");
        let cx = reader.state.scan_context(&reader.snapshot, reader.now);
        let mut reporter = reader.policy.reporter(&mut reader.producer);
        write(&mut reporter, &cx, activity, 2, &process_facts(800));
        // The same of somebody else.
        let ids = Some(UserGroupIds { uid: 1000, ..UserGroupIds::default() });
        let numbers = ProcessNumbers { ids, ..ProcessNumbers::default() };
        let of_user = ProcessFacts { numbers, ..process_facts(801) };
        write(&mut reporter, &cx, activity, 1, &of_user);
        let container_key = Some(ContainerKey::default());
        let in_container = ProcessFacts { container_key, ..process_facts(802) };
        write(&mut reporter, &cx, activity, 1, &in_container);
        reader.producer.flush();
        assert_eq!(names(&reader.records()), [name; 3], "{name}");
        reader.now = reader.now.after(10 * SECOND_NS);
        let sums = reader.scan(&World::default());
        assert_eq!(names(&sums), [SUM], "{name}");
        let sum = details(&sums[0], "system_activity_details");
        assert_eq!((&sum["activity"], &sum["count"]), (&json!(name), &json!(92)));
        assert_eq!(sums[0]["severity"], activity.info().severity.word(), "{name}");
    }
}

#[test]
fn what_changes_by_itself_is_no_part_of_a_cause_and_what_it_is_about_is() {
    let table: [(&str, Repeat); 10] = [
        ("file_descriptor_file_content_change", content),
        ("file_content_change", path),
        ("file_permissions_changed", access),
        ("reverse_shell_detected", shell),
        ("reverse_shell_detected", shell_of_another_program),
        ("shell_history_disabled", history),
        ("shell_history_cleared", cleared),
        ("hidden_connection_detected", packets),
        ("hidden_listener_detected", port),
        ("clock_tampered", clock),
    ];
    for (name, repeat) in table {
        let mut reader = reader(&Rc::new(Cell::new(9)));
        let cx = reader.state.scan_context(&reader.snapshot, reader.now);
        let mut reporter = reader.policy.reporter(&mut reader.producer);
        (0..20).for_each(|time| repeat(&mut reporter, &cx, time, false));
        reader.producer.flush();
        assert_eq!(names(&reader.records()), [name; 8]);
        let cx = reader.state.scan_context(&reader.snapshot, reader.now);
        let mut reporter = reader.policy.reporter(&mut reader.producer);
        repeat(&mut reporter, &cx, 20, true);
        reader.producer.flush();
        assert_eq!(names(&reader.records()), [name], "another cause");
    }
}

/// Each alert is about another content.
#[test]
fn a_sum_of_changed_files_has_the_path_and_the_last_content() {
    let table: [(Repeat, &str); 2] = [(content, "/etc/passwd"), (path, "/usr/bin/tail")];
    for (repeat, name) in table {
        let mut reader = reader(&Rc::new(Cell::new(9)));
        let cx = reader.state.scan_context(&reader.snapshot, reader.now);
        let mut reporter = reader.policy.reporter(&mut reader.producer);
        (0..20).for_each(|time| repeat(&mut reporter, &cx, time, false));
        reader.producer.flush();
        reader.records();
        reader.now = reader.now.after(MINUTE_NS);
        let sums = reader.scan(&World::default());
        let sum = details(&sums[0], "system_activity_details");
        assert_eq!((&sum["count"], &sum["path"]), (&json!(12), &json!(name)));
        assert_eq!(sum["last_file_size_bytes"], 20 + 19);
        assert_eq!(sum["last_file_hash_sha256"], json!("13".repeat(32)), "the last of 20");
        let modified = sum["last_file_modify_time_iso_8601_ns"].as_str().unwrap();
        assert!(modified.contains(".000000019"), "{modified}");
        // The next sum has nothing of it.
        assert!(reader.policy.last_contents.is_empty());
    }
}

/// Sixteen new names are one alert. The ninth such alert in a minute may be about others.
#[test]
fn other_new_names_in_a_folder_are_another_cause() {
    let mut strings = Strings::new(StringRoom { bytes: 4096, strings: 16 }, HashKey::new(1));
    let names = ["/usr/bin/a", "/usr/bin/b", "/usr/bin/c"];
    let ids = names.map(|name| strings.intern(name.as_bytes()).unwrap());
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let reporter = reader.policy.reporter(&mut reader.producer);
    let of = |count: usize, paths: &[StringId]| {
        let others = NewNames { count, paths, strings: Some(&strings) };
        let change = PathChange { others, ..path_change(0, false) };
        reporter.cause().of_path(&change).hash()
    };
    assert_eq!(of(2, &ids[..2]), of(2, &ids[..2]));
    assert_ne!(of(2, &ids[..2]), of(2, &ids[1..]), "another name");
    assert_ne!(of(2, &ids[..2]), of(3, &ids[..2]), "one more");
}

/// Users make as many programs of their own as they like.
#[test]
fn set_uid_programs_of_one_user_are_one_cause() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let reporter = reader.policy.reporter(&mut reader.producer);
    let of = |path: &str, user: Option<u32>, what: GrantedAccess| {
        let change = PermissionChange {
            path: path.as_bytes(),
            previous: None,
            attributes: Attributes { uid: user.unwrap_or(0), ..Attributes::default() },
            device: 8 << 20 | 1,
            before: None,
            what,
            user,
            since_ns: RealTime::from_ns(5),
            severity: None,
        };
        reporter.cause().of_access(&change).hash()
    };
    let eve = of("/tmp/a", Some(1000), GrantedAccess::SetUid);
    assert_eq!(eve, of("/home/eve/b", Some(1000), GrantedAccess::SetUid));
    assert_ne!(eve, of("/tmp/a", Some(1001), GrantedAccess::SetUid));
    assert_ne!(eve, of("/tmp/a", Some(1000), GrantedAccess::SetGid));
    assert_ne!(eve, of("/tmp/a", None, GrantedAccess::SetUid));
    let [one, other] = ["/tmp/a", "/tmp/b"].map(|path| of(path, None, GrantedAccess::SetUid));
    assert_ne!(one, other, "of root");
}

/// The causes of alerts that the state raises.
#[test]
fn thresholds_and_hidden_processes_have_their_peer_and_their_program() {
    let mut reader = reader(&Rc::new(Cell::new(9)));
    let reporter = reader.policy.reporter(&mut reader.producer);
    let of = |facts: ConnectionFacts, exceeded: ExceededThreshold, process: &ProcessFacts<'_>| {
        reporter.cause().of_threshold(&facts, &exceeded, Some(process)).hash()
    };
    let bytes = |bytes: u64| ExceededThreshold::BytesIn { bytes, threshold: 1000 };
    let long = ExceededThreshold::Duration { lasted_ns: 2, threshold_ns: 1 };
    let process = process_facts(700);
    let first = of(connection(1, false), bytes(1001), &process);
    assert_eq!(first, of(connection(2, false), bytes(1002), &process_facts(701)));
    assert_ne!(first, of(connection(1, true), bytes(1001), &process), "another peer");
    assert_ne!(first, of(connection(1, false), long, &process), "another threshold");
    let other = ProcessFacts { executable: Some(b"/tmp/x"), ..process };
    assert_ne!(first, of(connection(1, false), bytes(1001), &other), "another program");
    let hidden = |process: &ProcessFacts<'_>, views| {
        reporter.cause().of_hidden(process, Views(views)).hash()
    };
    assert_eq!(hidden(&process, 1), hidden(&process_facts(701), 1));
    assert_ne!(hidden(&process, 1), hidden(&process, 3), "other views");
    assert_ne!(hidden(&process, 1), hidden(&other, 1), "another program");
    assert_ne!(hidden(&process, 1), hidden(&ProcessFacts { name: b"x", ..process }, 1));
}
