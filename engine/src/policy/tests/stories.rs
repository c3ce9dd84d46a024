//! Stories: which records share the incident of an alert, and what the first alert tells of before.

use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use serde_json::{Value, json};

use super::shells::report_commanded;
use super::{Reader, SOCK, details, names};
use crate::detect::file_content::ContentChange;
use crate::detect::reverse_shells::{ChainMember, MemberConnection};
use crate::detect::{Finding, Findings as _};
use crate::policy::PolicyConfig;
use crate::state::FileAtOpen;
use crate::state::facts::{ConnectionFacts, DescriptorFacts, ProcessFacts};
use crate::state::tests::watch::limits;
use crate::state::tests::world::{ESTABLISHED, FakeFile, FakeProcess, FakeSocket, World};
use crate::walk::view;

const SECOND_NS: i64 = 1_000_000_000;

fn reader() -> Reader {
    reader_in(Dialect::Panoptes)
}

fn reader_in(dialect: Dialect) -> Reader {
    let mut config = PolicyConfig::default();
    config.set_enabled(Activity::FileDescriptorOpen, false);
    config.set_enabled(Activity::ProcessExecuted, false);
    Reader::in_dialect(dialect, &limits(), config)
}

/// Shows a world until all of its processes are reported.
fn scan_twice(reader: &mut Reader, world: &World) -> Vec<Value> {
    let mut records = reader.scan(world);
    records.extend(reader.scan(world));
    records
}

fn process(process_id: u32, parent: u32) -> FakeProcess {
    FakeProcess { parent, ..FakeProcess::new(process_id) }
}

/// The id of the incident of a record, if it belongs to one.
fn incident(record: &Value) -> Option<&str> {
    record["detection"]["incident_id"].as_str()
}

fn message_id(record: &Value) -> &str {
    record["message_id"].as_str().unwrap()
}

/// Hides a process until that is reported; returns the alert.
fn hide(reader: &mut Reader, world: &mut World, process_id: u32) -> Value {
    world.process(process_id).views = view::CERTAIN & !view::TASK_LIST & !view::CHILDREN;
    reader.scan(world);
    let records = reader.scan(world);
    assert_eq!(names(&records), ["process_hidden"]);
    records[0].clone()
}

#[test]
fn an_alert_begins_an_incident_to_which_the_tree_of_its_process_belongs() {
    let mut reader = reader();
    reader.scan(&World::default());
    let mut world = World::default().with(process(700, 1)).with(process(714, 700));
    world.processes.extend([process(720, 714), process(721, 720), process(722, 700)]);
    let before = scan_twice(&mut reader, &world);
    assert!(before.iter().all(|record| record["detection"].is_null()), "{before:?}");
    let alert = hide(&mut reader, &mut world, 714);
    let id = message_id(&alert).to_owned();
    assert_eq!(incident(&alert), Some(&*id), "the first alert's own id");
    let of_714 =
        before.iter().filter(|record| details(record, "process_details")["process_id"] == 714);
    let earlier: Vec<&str> = of_714.map(message_id).collect();
    assert_eq!(earlier.len(), 1, "its beginning");
    assert_eq!(alert["detection"]["earlier_message_ids"], json!(earlier));
    let ancestors = &alert["detection"]["process_ancestors"];
    let expected = json!([{
        "process_id": 700,
        "process_name": "task700",
        "process_executable_path": "/bash",
        "process_real_user_id": 0,
    }]);
    assert_eq!(*ancestors, expected);
    // What it has started, what that starts, and nobody else.
    world.processes.extend([
        process(730, 714),
        process(731, 721),
        process(732, 700),
        process(733, 722),
    ]);
    let records = scan_twice(&mut reader, &world);
    let mut seen: Vec<_> = records
        .iter()
        .map(|record| {
            let details = details(record, "process_details");
            (details["process_id"].as_u64().unwrap(), incident(record) == Some(&*id))
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [(730, true), (731, true), (732, false), (733, false)]);
    for record in records.iter().filter(|record| incident(record).is_some()) {
        assert_eq!(record["detection"], json!({"incident_id": id}));
    }
    for process_id in [721, 731, 722] {
        world.remove(process_id);
    }
    reader.scan(&world);
    let ends = reader.scan(&world);
    let of = |process_id: u32| {
        let is_it =
            |record: &&Value| details(record, "process_details")["process_id"] == process_id;
        ends.iter().find(is_it).map(|record| incident(record).is_some())
    };
    assert!([of(721), of(731)].iter().all(|found| *found != Some(false)), "{ends:?}");
    assert!(of(722) != Some(true), "{ends:?}");
}

/// A change of a file that does not matter is an event, though its activity has alerts: sshd writes
/// its log while a peer gets its shell.
#[test]
fn an_event_of_an_activity_that_has_alerts_is_no_earlier_alert() {
    let reported = |matters: bool| {
        let mut reader = reader();
        reader.scan(&World::default());
        let mut world = World::default().with(process(714, 1));
        let before = scan_twice(&mut reader, &world);
        let cx = reader.state.scan_context(&reader.snapshot, reader.now);
        let mut reporter = reader.policy.reporter(&mut reader.producer);
        let process = ProcessFacts {
            process_id: 714,
            start_boottime: FakeProcess::new(714).start,
            ..ProcessFacts::default()
        };
        let change = ContentChange {
            process,
            descriptor: DescriptorFacts { index: 3, ..DescriptorFacts::default() },
            previous: None,
            opened: FileAtOpen::default(),
            hashes: None,
            partial: None,
            since_ns: cx.now.real,
            matters,
            severity: None,
        };
        reporter.found(&cx, &Finding::FileContent(&change));
        reader.producer.flush();
        let changes = reader.records();
        assert_eq!(names(&changes), ["file_descriptor_file_content_change"]);
        let alert = hide(&mut reader, &mut world, 714);
        let all: Vec<&str> = before.iter().chain(&changes).map(message_id).collect();
        let earlier = alert["detection"]["earlier_message_ids"].as_array().unwrap();
        let is_listed = |id: &&str| earlier.iter().any(|it| it == id);
        (changes[0]["message_type"].clone(), all.iter().filter(|id| is_listed(id)).count())
    };
    assert_eq!(reported(true), (json!("ALERT"), 2), "its beginning, and the change");
    assert_eq!(reported(false), (json!("EVENT"), 1), "its beginning");
}

#[test]
fn a_second_alert_about_the_same_tree_belongs_to_the_first_ones_incident() {
    let mut reader = reader();
    reader.scan(&World::default());
    let mut world = World::default().with(process(714, 1)).with(process(720, 714));
    world.processes.push(process(800, 1));
    scan_twice(&mut reader, &world);
    let first = hide(&mut reader, &mut world, 714);
    let second = hide(&mut reader, &mut world, 720);
    assert_eq!(incident(&second), Some(message_id(&first)));
    assert!(second["detection"]["earlier_message_ids"].is_null(), "only the first one lists them");
    assert!(!second["detection"]["process_ancestors"].is_null());
    let other = hide(&mut reader, &mut world, 800);
    assert_eq!(incident(&other), Some(message_id(&other)));
    assert!(other["detection"]["process_ancestors"].is_null(), "process 1 started it");
}

fn facts(process: &FakeProcess) -> ProcessFacts<'_> {
    ProcessFacts {
        name: process.name.as_bytes(),
        process_id: process.pid,
        start_boottime: process.start,
        ..ProcessFacts::default()
    }
}

/// Reports a shell that is commanded over `connection`, which `holder` holds; `relay` is between.
fn report_shell(reader: &mut Reader, world: &World, processes: [u32; 3]) -> Value {
    let row = reader.snapshot.connections.iter().next().unwrap();
    let connection = ConnectionFacts::read(&reader.snapshot, row, Some(3));
    let held = [MemberConnection { facts: connection, first_seen_ns: None }];
    let find = |id: u32| facts(world.processes.iter().find(|one| one.pid == id).unwrap());
    let member = |process: u32, connections| ChainMember {
        process: find(process),
        descriptors: &[],
        connections,
        is_cut: false,
    };
    let [holder, relay, shell] = processes;
    let members = [member(holder, &held[..]), member(relay, &[]), member(shell, &[])];
    let records = report_commanded(reader, connection, &members);
    assert_eq!(names(&records), ["reverse_shell_detected"]);
    records[0].clone()
}

/// 700 has a connection, and 714 is a child of 701.
fn world_of_a_shell() -> World {
    let socket = FakeFile::socket(0xffff_8885_0000_1200, 13_731, SOCK);
    let mut world = World::default().with(process(700, 1).with_file(3, socket));
    world.processes.extend([process(701, 1), process(714, 701)]);
    world.sockets.push(FakeSocket::new(SOCK, 58848, ESTABLISHED));
    world
}

#[test]
fn for_consumers_of_doca_argus_a_reverse_shell_has_its_shell_and_its_peer_apart() {
    for dialect in [Dialect::Panoptes, Dialect::DocaArgus] {
        let mut reader = reader_in(dialect);
        reader.scan(&World::default());
        let world = world_of_a_shell();
        scan_twice(&mut reader, &world);
        let alert = report_shell(&mut reader, &world, [700, 701, 714]);
        let data = &alert["activity_data"];
        let [list, shell, peer] =
            ["process_list", "process_details", "network_connection_details"].map(|key| &data[key]);
        if dialect == Dialect::Panoptes {
            assert!([list, shell, peer].iter().all(|value| value.is_null()), "{data}");
            continue;
        }
        assert_eq!(*list, data["reverse_shell_details"]["process_list"]);
        let chain: Vec<&Value> =
            list.as_array().unwrap().iter().map(|it| &it["process_details"]).collect();
        assert_eq!([0, 1, 2].map(|at| &chain[at]["process_id"]), ["700", "701", "714"]);
        assert_eq!(shell["process_id"], "714");
        assert!(shell["network_connection_list"].is_null());
        let held = &chain[0]["network_connection_list"][0]["network_connection_details"];
        assert_eq!(peer, held);
        assert_eq!([&peer["local_port"], &peer["file_descriptor_id"]], ["58848", "3"]);
        assert!(peer["peer_address"].is_string());
    }
}

#[test]
fn a_reverse_shells_incident_has_its_connection_and_not_what_a_mere_relay_starts() {
    let mut reader = reader();
    reader.scan(&World::default());
    let mut world = world_of_a_shell();
    let before = scan_twice(&mut reader, &world);
    let alert = report_shell(&mut reader, &world, [700, 701, 714]);
    let id = message_id(&alert).to_owned();
    let earlier: Vec<&str> = before.iter().map(message_id).collect();
    let mut kinds = names(&before);
    kinds.sort_unstable();
    let created = "process_created";
    assert_eq!(kinds, ["network_connection_created", created, created, created]);
    assert_eq!(alert["detection"]["earlier_message_ids"], json!(earlier));
    world.processes.extend([process(730, 700), process(731, 701), process(732, 714)]);
    let mut records = scan_twice(&mut reader, &world);
    records.sort_by_key(|record| details(record, "process_details")["process_id"].as_u64());
    let joined = records.iter().map(|record| incident(record) == Some(&*id)).collect::<Vec<_>>();
    assert_eq!(names(&records), ["process_created"; 3]);
    assert_eq!(joined, [true, false, true]);
    // Its holder ends; the connection ends after it.
    world.remove(700);
    world.sockets.clear();
    let mut records = Vec::new();
    for _ in 0..4 {
        records.extend(reader.scan(&world));
    }
    let ended = |name: &str| {
        let is_it = |record: &&Value| record["activity_data"]["name"] == name;
        incident(records.iter().find(is_it).unwrap_or_else(|| panic!("{name} in {records:?}")))
    };
    assert_eq!(ended("process_terminated"), Some(&*id));
    assert_eq!(ended("network_connection_terminated"), Some(&*id));
    // The ports are used again by somebody else, long after.
    reader.now = reader.now.after(60 * SECOND_NS);
    let socket = FakeFile::socket(0xffff_8885_0000_1300, 13_732, SOCK);
    world.processes.push(process(900, 1).with_file(3, socket));
    world.sockets.push(FakeSocket::new(SOCK, 58848, ESTABLISHED));
    let records = scan_twice(&mut reader, &world);
    assert_eq!(names(&records), ["process_created", "network_connection_created"]);
    assert!(records.iter().all(|record| incident(record).is_none()), "{records:?}");
}

#[test]
fn a_shell_over_the_connection_of_an_incident_belongs_to_it() {
    let mut reader = reader();
    reader.scan(&World::default());
    let socket = FakeFile::socket(0xffff_8885_0000_1200, 13_731, SOCK);
    let mut world = World::default().with(process(700, 1).with_file(3, socket));
    world.processes.extend([process(701, 1), process(714, 1), process(801, 1), process(814, 1)]);
    world.sockets.push(FakeSocket::new(SOCK, 58848, ESTABLISHED));
    scan_twice(&mut reader, &world);
    let first = report_shell(&mut reader, &world, [700, 701, 714]);
    let second = report_shell(&mut reader, &world, [801, 801, 814]);
    assert_eq!(incident(&second), Some(message_id(&first)));
}
