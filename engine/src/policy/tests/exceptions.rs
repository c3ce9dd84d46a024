//! Alerts that exceptions silence, and those that a user of the machine would like them to.

use std::sync::Arc;

use panoptes_records::activities::Activity;
use proptest::prelude::*;
use serde_json::Value;

use super::shells::report_commanded;
use super::{Reader, names, with_shell};
use crate::container_config::{ContainerConfig, Glob, Images};
use crate::detect::reverse_shells::ChainMember;
use crate::policy::exceptions::{AddressPattern, Exception, Exceptions};
use crate::state::Thresholds;
use crate::state::facts::{ConnectionFacts, ProcessFacts};
use crate::state::process::ProcessKey;
use crate::state::tests::watch::limits;
use crate::state::tests::world::{FakeArea, FakeFile, FakeProcess, FakeSocket, R, W, World, X};
use crate::time::RealTime;

const ADDED: Activity = Activity::ExecutablePermissionsAdded;
const ID: &str = "4f1c0de5a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";

/// An exception without any condition.
pub(super) fn all(activity: Activity) -> Exception {
    Exception {
        activity,
        process_executable_path: None,
        process_name: None,
        user_id: None,
        container: None,
        image: None,
        address: None,
        command_line: None,
        kernel_module_name: None,
        reason: "it is known".into(),
        until: None,
    }
}

fn glob(pattern: &str) -> Glob {
    Glob::new(pattern)
}

fn node_at(path: &str) -> Exception {
    Exception { process_executable_path: Some(glob(path)), ..all(ADDED) }
}

fn in_container(pattern: &str) -> Exception {
    Exception { container: Some(glob(pattern)), ..all(ADDED) }
}

/// Node.js of root's package, run by a user.
fn node() -> FakeProcess {
    FakeProcess {
        name: "node".into(),
        uid: 1000,
        executable: Some(FakeFile::regular(0xffff_8881_0000_0200, 90, "usr/bin/node")),
        arguments: b"node\0--jit\0/srv/app.js\0".to_vec(),
        ..FakeProcess::new(714)
    }
}

/// A process whose memory without a file has these permissions.
fn with_memory(process: FakeProcess, flags: u64) -> World {
    let area = FakeArea::anonymous(0x7f1c_3000_0000, 0x7f1c_3000_1000, flags);
    World::default().with(process.with_area(area.written(0xffff_8889_0000_0000)))
}

/// The records of a process that makes written memory executable, and how many alerts each
/// exception has silenced.
fn records(exceptions: Vec<Exception>, process: FakeProcess) -> (Vec<Value>, Vec<u64>) {
    let mut reader = Reader::new(&limits());
    let images = Images::new([("4f1c0de5*", "registry.example.com/node:22@sha256:ab")]);
    let config = ContainerConfig { images, ..ContainerConfig::default() };
    reader.policy.set_containers(Arc::new(config));
    let exceptions = Arc::new(Exceptions::new(exceptions));
    reader.policy.set_exceptions(Arc::clone(&exceptions));
    reader.scan(&World::default());
    let mut records = reader.scan(&with_memory(process.clone(), R | W));
    records.extend(reader.scan(&with_memory(process, R | X)));
    (records, exceptions.counts().map(|(_, count)| count).collect())
}

/// Whether an exception silences the alert of a process.
#[track_caller]
fn silences(exception: Exception, process: FakeProcess) -> bool {
    let (records, counts) = records(vec![exception], process);
    let is_reported = names(&records).contains(&"executable_permissions_added");
    assert_eq!(counts, [u64::from(!is_reported)], "what is silenced is counted");
    assert!(names(&records).contains(&"process_created"), "events are never silenced");
    !is_reported
}

#[test]
fn an_alert_is_silenced_by_each_key() {
    let inside = || node().in_container(&format!("{ID}@web-0"));
    let here = || node_at("/usr/bin/node");
    assert!(silences(here(), node()));
    assert!(silences(node_at("/usr/*/nod?"), node()));
    assert!(!silences(node_at("/usr/bin/nodejs"), node()));
    assert!(silences(Exception { user_id: Some(1000), ..all(ADDED) }, node()));
    assert!(!silences(Exception { user_id: Some(0), ..all(ADDED) }, node()));
    for container in [ID, "4f1c0de5a7b3", "web-?", "6aa3c8f5"] {
        assert!(silences(in_container(container), inside()), "{container}");
    }
    assert!(!silences(in_container("db-*"), inside()));
    assert!(!silences(in_container("*"), node()), "it is in no container");
    for (image, expected) in [("*/node:22", true), ("sha256:ab", true), ("*/node", false)] {
        let exception = Exception { image: Some(glob(image)), ..all(ADDED) };
        assert_eq!(silences(exception, inside()), expected, "{image}");
    }
    assert!(silences(Exception { process_name: Some(glob("n*")), ..here() }, node()));
    assert!(!silences(Exception { process_name: Some(glob("m*")), ..here() }, node()));
    for (line, expected) in [
        ("node --jit /srv/app.js", true),
        ("node --jit *", true),
        ("node", false),
        ("*evil*", false),
    ] {
        let exception = Exception { command_line: Some(glob(line)), ..here() };
        assert_eq!(silences(exception, node()), expected, "{line}");
    }
}

#[test]
fn all_keys_of_an_exception_must_match() {
    let of_user = |user| Exception { user_id: Some(user), ..node_at("/usr/bin/node") };
    assert!(silences(of_user(1000), node()));
    assert!(!silences(of_user(1001), node()));
    let other = Exception { user_id: Some(1000), ..node_at("/usr/bin/python3") };
    assert!(!silences(other, node()));
}

#[test]
fn a_program_that_a_user_put_there_is_not_silenced() {
    let of_user = FakeFile { owner: 1000, ..node().executable.unwrap() };
    let renamed = FakeProcess { executable: Some(of_user), ..node() };
    assert!(!silences(node_at("/usr/bin/node"), renamed.clone()));
    let named = Exception { process_name: Some(glob("node")), ..node_at("/usr/bin/node") };
    assert!(!silences(named, renamed));
    // In their own mount namespace, users may mount one file over another.
    let mounted = FakeProcess { mount_namespace: node().mount_namespace + 5, ..node() };
    assert!(!silences(node_at("/usr/bin/node"), mounted));
    // In their own user namespace, users may set another file as the executable.
    let set = FakeProcess { namespace_maker: 1000, ..node() };
    assert!(!silences(node_at("/usr/bin/node"), set));
}

#[test]
fn names_and_arguments_alone_silence_nothing() {
    let named = Exception { process_name: Some(glob("node")), ..all(ADDED) };
    let line = Exception { command_line: Some(glob("*")), user_id: Some(1000), ..all(ADDED) };
    for exception in [named, line] {
        assert!(!exception.can_apply());
        assert!(!silences(exception, node()));
    }
}

#[test]
fn a_container_of_a_user_silences_nothing() {
    let of_user = || node().in_container("users-web");
    assert!(!silences(in_container("users-web"), of_user()));
    let with_path = Exception { container: Some(glob("users-web")), ..node_at("/usr/bin/node") };
    assert!(!silences(with_path, of_user()));
    let image = Exception { image: Some(glob("*")), ..all(ADDED) };
    assert!(!silences(image, of_user()));
}

#[test]
fn a_path_in_a_container_counts_with_the_containers_name_only() {
    let inside = || node().in_container(ID);
    assert!(!silences(node_at("/usr/bin/node"), inside()));
    let both = |path| Exception { container: Some(glob("4f1c0de5a7b3")), ..node_at(path) };
    assert!(silences(both("/usr/bin/node"), inside()));
    assert!(!silences(both("/usr/bin/python3"), inside()));
}

#[test]
fn an_exception_ends() {
    // The reader's time.
    let until = |ns: i64| Some(RealTime::from_ns(1_795_159_906_905_224_659 + ns));
    let exception = |ns: i64| Exception { until: until(ns), ..node_at("/usr/bin/node") };
    assert!(silences(exception(60_000_000_000), node()));
    assert!(!silences(exception(0), node()));
}

#[test]
fn the_first_exception_that_matches_counts_the_alert() {
    let exceptions = [node_at("/usr/bin/python3"), node_at("/usr/bin/node"), node_at("/usr/*")];
    let (_, counts) = records(exceptions.into(), node());
    assert_eq!(counts, [0, 1, 0]);
}

/// Facts that are known only while a process runs are remembered for alerts after its end.
#[test]
fn whose_program_and_container_it_was_is_known_after_its_end() {
    for process in [node(), node().in_container(ID)] {
        let key = ProcessKey { process_id: 714, start_boottime: process.start };
        let mut reader = Reader::new(&limits());
        let mut world = World::default().with(process);
        let facts = |reader: &Reader| {
            let cx = reader.state.scan_context(&reader.snapshot, reader.now);
            let facts = reader.state.find(&key).unwrap().facts(cx.strings);
            (facts.executable_is_roots, facts.container_is_roots)
        };
        reader.scan(&world);
        let running = facts(&reader);
        assert_ne!(running.0, running.1);
        world.process(714).become_zombie();
        reader.scan(&world);
        assert_eq!(facts(&reader), running);
    }
}

/// Whether an exception silences the alert of a connection with 203.0.113.9.
fn silences_connection(address: AddressPattern, world: impl Fn(u64) -> World) -> bool {
    let mut reader = Reader::new(&limits());
    reader.state.set_thresholds(Thresholds { bytes_in: 1000, ..Thresholds::default() });
    let activity = Activity::TcpConnectionExcessiveData;
    let exceptions =
        Arc::new(Exceptions::new([Exception { address: Some(address), ..all(activity) }]));
    reader.policy.set_exceptions(Arc::clone(&exceptions));
    reader.scan(&World::default());
    reader.scan(&world(0));
    let records = reader.scan(&world(1001));
    let is_reported = names(&records).contains(&activity.name());
    assert_eq!(exceptions.counts().map(|(_, count)| count).sum::<u64>(), u64::from(!is_reported));
    !is_reported
}

#[test]
fn alerts_of_connections_are_silenced_by_the_peers_address() {
    let world = |bytes_in| {
        let mut world = with_shell();
        world.sockets[0].bytes_in = Some(bytes_in);
        world
    };
    let network = |text: &str, bits| AddressPattern::Network(text.parse().unwrap(), bits);
    let text = |text| AddressPattern::Glob(Glob::new(text));
    assert!(silences_connection(network("203.0.113.9", 32), world));
    assert!(silences_connection(network("203.0.113.0", 24), world));
    assert!(silences_connection(network("0.0.0.0", 0), world));
    assert!(silences_connection(text("203.0.113.*"), world));
    assert!(!silences_connection(network("203.0.113.8", 32), world));
    assert!(!silences_connection(network("::", 0), world));
    assert!(!silences_connection(text("10.*"), world), "that is its own address");
    // A user chooses all addresses in a network namespace of their own.
    let elsewhere = |bytes_in| {
        let mut world = world(bytes_in);
        world.sockets[0].net = FakeSocket::OTHER_NET;
        world
    };
    assert!(!silences_connection(text("203.0.113.*"), elsewhere));
}

/// Whether an exception silences the alert of an agent whose shell a peer commands.
fn silences_shell(exception: Exception) -> bool {
    let mut reader = Reader::new(&limits());
    let exceptions = Arc::new(Exceptions::new([exception]));
    reader.policy.set_exceptions(Arc::clone(&exceptions));
    reader.scan(&with_shell());
    let row = reader.snapshot.connections.iter().next().unwrap();
    let facts = ConnectionFacts::read(&reader.snapshot, row, Some(3));
    let process = |process_id, path: &'static [u8]| ProcessFacts {
        process_id,
        executable: Some(path),
        executable_is_roots: true,
        ..ProcessFacts::default()
    };
    let members = [process(713, b"/usr/bin/agent"), process(714, b"/usr/bin/bash")];
    let members = members.map(|process| ChainMember {
        process,
        descriptors: &[],
        connections: &[],
        is_cut: false,
    });
    report_commanded(&mut reader, facts, &members).is_empty()
}

#[test]
fn a_reverse_shell_is_silenced_by_any_of_its_processes() {
    let of = |path| Exception {
        process_executable_path: Some(glob(path)),
        address: Some(AddressPattern::Network("203.0.113.9".parse().unwrap(), 32)),
        ..all(Activity::ReverseShellDetected)
    };
    assert!(silences_shell(of("/usr/bin/agent")));
    assert!(silences_shell(of("/usr/bin/bash")));
    assert!(!silences_shell(of("/usr/bin/nc")));
    let elsewhere = Some(AddressPattern::Network("203.0.113.8".parse().unwrap(), 32));
    assert!(!silences_shell(Exception { address: elsewhere, ..of("/usr/bin/agent") }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Not even one that could not be configured, of an event or without a condition.
    #[test]
    fn an_exception_never_silences_another_activity(
        activities in prop::collection::vec(0..Activity::ALL.len(), 1..40),
        has_path in any::<bool>(),
        user_id in prop::option::of(Just(1000_u32)),
    ) {
        let activities = activities.iter().map(|&at| Activity::ALL[at]);
        let exceptions = activities.filter(|&activity| activity != ADDED).map(|activity| {
            let process_executable_path = Some(glob("*")).filter(|_| has_path);
            Exception { process_executable_path, user_id, ..all(activity) }
        });
        let (records, counts) = records(exceptions.collect(), node());
        prop_assert!(counts.iter().all(|&count| count == 0));
        let expected =
            ["process_created", "process_memory_created", "executable_permissions_added"];
        prop_assert_eq!(names(&records), expected);
    }
}
