//! Several machines at once, and the cost of watching for a machine's memory.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use panoptes_rig::Flavor;

use crate::record::{Record, count};
use crate::watcher::Watch;
use crate::{barrier, inside, laws};

/// A file system in memory, where a newly allocated page is visible at once.
const IN_MEMORY: &str = "/dev/shm";

/// A folder for memory files, removed at the end of the test.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("panoptes-live-").tempdir_in(IN_MEMORY).unwrap()
}

#[test]
#[ignore = "boots a guest"]
fn two_machines_are_distinguished() {
    let folder = folder();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    let boot = |flavor, ram: &Path, beside_others| {
        inside::boot_with(flavor, |spec| {
            spec.memory_mib = 256;
            spec.ram_file = Some(ram.to_owned());
            spec.beside_others = beside_others;
        })
    };
    // The first waits for its turn in the rig, the second runs beside it.
    let mut first = boot(Flavor::V6_1, &one, false);
    let mut second = boot(Flavor::V6_12, &two, true);
    let watcher = Watch::files(&[&one, &two]).attached();
    let sleeps = [(&mut first, "sleep 7001"), (&mut second, "sleep 7002")]
        .map(|(guest, command)| barrier::started(guest, &watcher, command));
    let systems = [("one", "7001", "Linux Kernel 6.1"), ("two", "7002", "Linux Kernel 6.12")];
    for (guest, life) in [&mut first, &mut second].into_iter().zip(&sleeps) {
        barrier::end(guest, &watcher, life);
    }
    let ended = watcher.stop();
    assert_eq!(ended.code, Some(0));
    laws::hold(&ended.records);
    let mut boots = Vec::new();
    for ((system, seconds, version), life) in systems.into_iter().zip(sleeps) {
        let its: Vec<&Record> =
            ended.records.iter().filter(|record| record.system() == system).collect();
        let of_process = |record: &&&Record| record.life().as_ref() == Some(&life);
        for name in ["process_created", "process_terminated"] {
            let of_name = its.iter().filter(of_process).filter(|record| record.is(name));
            assert_eq!(of_name.count(), 1, "{name} in {system}");
        }
        let events: Vec<&&Record> =
            its.iter().filter(|record| record.0["message_type"] == "EVENT").collect();
        for record in &events {
            let workload = &record.0["workload_information"];
            assert_eq!(workload["os_version"], version, "{record}");
            assert_eq!(workload["hostname"], "guest", "{record}");
            assert_eq!(workload["boot_uuid"], events[0].0["workload_information"]["boot_uuid"]);
            let interfaces = &workload["workload_networking_interfaces"];
            assert!(interfaces.to_string().contains("10.0.2.15"), "{record}");
            let arguments = record.process()["process_command_line_arguments"].as_str();
            let others = arguments.is_some_and(|text| text.starts_with("sleep 70"));
            assert!(!others || arguments.unwrap().ends_with(seconds), "{record}");
        }
        boots.push(events[0].0["workload_information"]["boot_uuid"].clone());
        println!("{system}: {} records, {} events", its.len(), events.len());
    }
    assert_ne!(boots[0], boots[1]);
    assert_eq!(count(&ended.records, "host_initialization_successful"), 2);
}

#[test]
#[ignore = "boots a guest"]
fn memory_does_not_grow_by_being_watched() {
    let folder = folder();
    let ram = folder.path().join("ram");
    let mut guest = inside::boot_with(Flavor::V6_1, |spec| {
        spec.memory_mib = 256;
        spec.ram_file = Some(ram.clone());
    });
    guest.agent("zoo").unwrap();
    guest.pause().unwrap();
    let blocks = || std::fs::metadata(&ram).unwrap().blocks();
    let before = blocks();
    // From a cold start: the search for the kernel in all of memory, then seconds of scans.
    let watcher = Watch::files(&[&ram]).log_only().set("service.log_level=debug").attached();
    barrier::stood_still(&watcher);
    let ended = watcher.stop();
    assert_eq!(ended.code, Some(0));
    let after = blocks();
    println!("{} of {} KiB are allocated; {}", after / 2, 256 << 10, ended.said.last().unwrap());
    assert!(after < 256 << 11, "the guest has touched all of its memory, so this tests nothing");
    assert_eq!(before, after, "blocks of 512 bytes");
}
