//! Records of containers and of their contents: contexts, filters, lines.

use core::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::container_config::{ContainerConfig, Glob, Images};

const ID: &str = "4f1c0de5a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";
/// Number of the namespaces inside a container.
const NAMESPACE: u32 = 4_026_531_840 + 1000;

fn globs(patterns: &[&str]) -> Vec<Glob> {
    patterns.iter().map(|pattern| Glob::new(pattern)).collect()
}

/// A world with a container in which a shell with all its objects runs.
fn with_contained_shell(container: &str) -> World {
    let mut world = with_shell();
    world.processes.last_mut().unwrap().container = container.into();
    world
}

/// An interface inside a container.
fn inner(name: &[u8], addresses: &[Ipv4Addr]) -> InterfaceRow {
    let mut row = InterfaceRow { network_namespace: NAMESPACE, ..InterfaceRow::default() };
    row.name[..name.len()].copy_from_slice(name);
    for address in addresses {
        row.ipv4.push(*address);
    }
    row
}

fn context(record: &Value) -> &Value {
    &record["workload_information"]["container_context"]
}

/// The records of two scans, after an empty one.
fn scan_twice(reader: &mut Reader, world: &World) -> Vec<Value> {
    reader.scan(&World::default());
    let mut records = reader.scan(world);
    records.extend(reader.scan(world));
    records
}

#[test]
fn records_name_the_container_while_it_exists() {
    let mut reader = Reader::new(&limits());
    reader.snapshot.machine.hostname.extend(*b"node");
    reader.snapshot.interfaces.push(inner(b"lo", &[Ipv4Addr::LOCALHOST]));
    reader.snapshot.interfaces.push(inner(b"eth0", &[Ipv4Addr::new(10, 244, 0, 7)]));
    let world = with_contained_shell(&format!("{ID}@web-0"));
    let records = scan_twice(&mut reader, &world);
    assert!(names(&records).contains(&"container_started"));
    for record in &records {
        assert_eq!(details(record, "process_details")["process_container_id"], ID);
        let expected = json!({
            "container_id": ID, "pod_uid": "6aa3c8f5", "pod_name": "web-0",
            "pod_ip_address": "10.244.0.7", "node_name": "node",
        });
        assert_eq!(*context(record), expected);
    }
    let started = records.iter().find(|r| names(&[(*r).clone()])[0] == "container_started");
    let expected = json!({
        "container_id": ID, "container_runtime": "containerd",
        "container_cgroup_path": format!("/pods/{ID}"),
        "container_pid_namespace": "pid:[4026532836]",
        "container_mount_points_namespace": "mnt:[4026532841]",
        "container_network_namespace": "net:[4026532840]",
        "container_first_process_id": 714,
        "container_hostname": "web-0", "container_pod_uid": "6aa3c8f5",
    });
    assert_eq!(*details(started.unwrap(), "container_details"), expected);
    // A process that has left it is not in it.
    reader.scan(&with_shell());
    reader.scan(&with_shell());
    let records = reader.scan(&World::default());
    assert_eq!(names(&records)[0], "process_terminated");
    assert!(details(&records[0], "process_details").get("process_container_id").is_none());
    assert!(records.iter().all(|record| context(record).is_null()));
    // An object that ends in it was in it to the end.
    let world = with_contained_shell("web");
    scan_twice(&mut reader, &world);
    let mut records = reader.scan(&World::default());
    records.extend(reader.scan(&World::default()));
    // Connections end separately, also after their container.
    records.retain(|record| details(record, "network_connection_details").is_null());
    assert_eq!(names(&records), ["process_terminated", "container_terminated"]);
    assert!(records.iter().all(|record| context(record)["container_id"] == "web"), "{records:?}");
}

#[test]
fn images_are_recorded_under_their_configured_names() {
    let reader = || {
        let mut reader = Reader::new(&limits());
        let images = Images::new([("4f1c0de5a7b3", "nginx:1.27@sha256:aa"), ("w*", "web")]);
        reader.policy.set_containers(Arc::new(ContainerConfig { images, ..Default::default() }));
        reader
    };
    for record in scan_twice(&mut reader(), &with_contained_shell(ID)) {
        let expected = json!({
            "container_id": ID, "container_image_name": "nginx:1.27",
            "container_image_digest": "sha256:aa",
        });
        assert_eq!(*context(&record), expected);
    }
    for record in scan_twice(&mut reader(), &with_contained_shell("other")) {
        assert!(context(&record).get("container_image_name").is_none());
    }
}

#[test]
fn alerts_of_containers_that_are_not_wanted_are_reported() {
    let with = |flags| {
        let area = FakeArea::anonymous(0x7f1c_3000_0000, 0x7f1c_3000_1000, flags).written(1 << 40);
        let process = FakeProcess { areas: vec![area], ..FakeProcess::new(900) };
        World::default().with(process.in_container("db"))
    };
    for (include, exclude) in [(&["web-*"][..], &[][..]), (&[], &["*"])] {
        let mut reader = Reader::new(&limits());
        let (include, exclude) = (globs(include), globs(exclude));
        let config = ContainerConfig { include, exclude, ..ContainerConfig::default() };
        reader.policy.set_containers(Arc::new(config));
        assert_eq!(scan_twice(&mut reader, &with(R | W)).len(), 0);
        let records = reader.scan(&with(R | X));
        assert_eq!(names(&records), ["executable_permissions_added"]);
        assert_eq!(context(&records[0])["container_id"], "db");
    }
}

#[test]
fn containers_that_are_not_wanted_are_not_reported_but_tracked() {
    let config = |include: &[&str], exclude: &[&str]| {
        let (include, exclude) = (globs(include), globs(exclude));
        Arc::new(ContainerConfig { include, exclude, ..ContainerConfig::default() })
    };
    let mut world = with_contained_shell(&format!("{ID}@web-0"));
    world.processes.push(FakeProcess::new(900));
    world.processes.push(FakeProcess::new(901).in_container("db"));
    let whose = |records: &[Value]| {
        let mut ids: Vec<u64> = records
            .iter()
            .filter_map(|record| details(record, "process_details")["process_id"].as_u64())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    for (include, exclude, expected) in [
        (&[][..], &[][..], &[714, 900, 901][..]),
        (&["web-*"], &[], &[714, 900]),
        (&["4f1c0de5a7b3"], &[], &[714, 900]),
        (&[], &["db"], &[714, 900]),
        (&["*"], &["6aa3c8f5"], &[900, 901]),
        (&["nothing"], &[], &[900]),
    ] {
        let mut reader = Reader::new(&limits());
        reader.policy.set_containers(config(include, exclude));
        let mut records = scan_twice(&mut reader, &world);
        assert_eq!(whose(&records), expected, "{include:?} {exclude:?}");
        // Nor are their remaining objects when they have ended: connections last longer.
        let mut rest = World::default();
        rest.sockets.push(FakeSocket::new(SOCK, 58848, TIME_WAIT));
        records.extend(reader.scan(&rest));
        records.extend(reader.scan(&rest));
        records.extend(reader.scan(&World::default()));
        records.extend(reader.scan(&World::default()));
        assert_eq!(whose(&records), expected, "{include:?} {exclude:?} {records:?}");
        let filtered = !expected.contains(&714);
        let connections = names(&records).iter().filter(|name| name.contains("connection")).count();
        assert_eq!(connections == 0, filtered, "{include:?} {exclude:?} {records:?}");
        let containers = names(&records).iter().filter(|name| name.contains("container")).count();
        assert_eq!(containers, 2 * expected.iter().filter(|&&id| id != 900).count());
    }
    // A new configuration applies from then on: existing objects are known.
    let mut reader = Reader::new(&limits());
    reader.policy.set_containers(config(&[], &["*"]));
    assert_eq!(whose(&scan_twice(&mut reader, &world)), [900]);
    reader.policy.set_containers(config(&[], &[]));
    assert_eq!(names(&reader.scan(&world)), Vec::<&str>::new());
    let records = reader.scan(&World::default());
    assert_eq!(whose(&records), [714, 900, 901]);
}

#[test]
fn objects_in_untracked_containers_are_filtered_by_the_container_s_id() {
    let small = Limits { containers: 1, ..limits() };
    let mut reader = Reader::new(&small);
    let exclude = globs(&["b"]);
    reader.policy.set_containers(Arc::new(ContainerConfig { exclude, ..Default::default() }));
    let world = ["a", "b", "c"].iter().zip(50..).fold(World::default(), |world, (id, pid)| {
        world.with(FakeProcess::new(pid).in_container(id))
    });
    let records = scan_twice(&mut reader, &world);
    let created: Vec<&Value> = records
        .iter()
        .filter(|record| names(std::slice::from_ref(record))[0] == "process_created")
        .map(|record| &context(record)["container_id"])
        .collect();
    assert_eq!(created, ["a", "c"]);
}

#[test]
fn containers_have_lines() {
    let mut snapshot = Snapshot::empty(&limits());
    let world = World::default()
        .with(FakeProcess::new(52).in_container("b@web-1"))
        .with(FakeProcess::new(51).in_container("a"))
        .with(FakeProcess::new(53).in_container("a"));
    world.show(&mut snapshot);
    let mut writer = LineWriter::new(&limits());
    let mut seen = Vec::new();
    let counts = writer.write::<()>(&snapshot, Kinds::ALL, &Traits::default(), &mut |line| {
        let line: Value = serde_json::from_slice(line).unwrap();
        assert!(LINES.is_valid(&line), "{line}");
        if line["kind"] == "container" {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let first = &line["container_first_process_id"];
            seen.push(format!("{} {first} {}", text("container_id"), text("container_hostname")));
        }
        Ok(())
    });
    assert_eq!(seen, ["a 51 ", "b 52 web-1"]);
    assert_eq!(counts.unwrap().too_long, 0);
}

#[test]
fn rules_of_containers_say_nothing_about_what_users_made() {
    for (include, exclude) in [(&["web-*"][..], &[][..]), (&[], &["*"])] {
        let (include, exclude) = (globs(include), globs(exclude));
        let config = Arc::new(ContainerConfig { include, exclude, ..Default::default() });
        let is_reported = |containers: u32, id: &str| {
            let mut reader = Reader::new(&Limits { containers, ..limits() });
            reader.policy.set_containers(Arc::clone(&config));
            // A container that comes first may take the only row.
            let world = World::default().with(FakeProcess::new(49).in_container("first"));
            let world = world.with(FakeProcess::new(50).in_container(id));
            let records = scan_twice(&mut reader, &world);
            let ended = reader.scan(&World::default());
            (names(&records).contains(&"process_created"), !ended.is_empty())
        };
        for containers in [1, 8] {
            assert_eq!(is_reported(containers, "db"), (false, false), "{config:?}");
            assert_eq!(is_reported(containers, "users-db"), (true, true), "{config:?}");
        }
    }
}
