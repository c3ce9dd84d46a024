//! QEMU guests by their processes: found, named, read, and let go.

use std::collections::BTreeSet;
use std::io::Write as _;

use panoptes_rig::{Flavor, Guest};
use serde_json::{Value, json};

use crate::record::{Life, Record, assert_no_end, count, list};
use crate::watcher::{Watch, panoptes};
use crate::{barrier, inside};

const UUID: &str = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0";

/// What `panoptes systems` says of a guest.
fn listed(guest: &Guest) -> Value {
    let output = panoptes(&["systems", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = format!("qemu:{}", guest.qemu_pid());
    let systems = list["systems"].as_array().unwrap();
    let found = systems.iter().find(|system| system["system"] == name.as_str());
    found.unwrap_or_else(|| panic!("{name} is not in {list}")).clone()
}

/// A scan of a guest, by its process.
fn scan(guest: &Guest, arguments: &[&str]) -> String {
    let system = format!("qemu:{}", guest.qemu_pid());
    let output = panoptes(&[&["scan", system.as_str()], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    println!("{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// How much of a process is in memory, and of its page tables, in KiB.
fn resident(guest: &Guest) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", guest.qemu_pid())).unwrap();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (value("VmRSS:"), value("VmPTE:"))
}

/// Memory of QEMU's own, around a hole, under a name: read without leaving a trace.
#[test]
#[ignore = "boots a guest"]
fn a_guest_with_private_memory_is_watched() {
    let mut guest = inside::boot_with(Flavor::V6_1, |spec| {
        spec.private_memory = true;
        spec.memory_mib = 3072;
        spec.qemu_arguments =
            ["-name", "guest=web,debug-threads=on", "-uuid", UUID].map(str::to_owned).to_vec();
    });
    guest.agent("zoo").unwrap();
    guest.pause().unwrap();
    let system = listed(&guest);
    println!("{system}");
    let expected = [("name", "web"), ("uuid", UUID), ("memory", "private"), ("accelerator", "tcg")];
    for (key, value) in expected {
        assert_eq!(system[key], value, "{system}");
    }
    assert_eq!(system["memory_bytes"], 3072_u64 << 20);
    assert_eq!(system["can_be_watched"], true);

    // The whole of it, and seconds of scans: nothing comes to be in QEMU. It may free something
    // by itself meanwhile.
    let before = resident(&guest);
    let scanned = scan(&guest, &[]);
    let watcher = Watch::process(&guest).log_only().set("service.log_level=debug").attached();
    barrier::stood_still(&watcher);
    assert_eq!(watcher.stop().code, Some(0));
    let after = resident(&guest);
    println!("QEMU has {before:?} KiB of memory and page tables before and {after:?} after");
    assert!(after.0 <= before.0 && after.1 <= before.1);

    assert!(scanned.lines().count() > 100, "{}", scanned.lines().count());

    guest.resume().unwrap();
    let watcher = Watch::process(&guest).attached();
    let life = barrier::started(&mut guest, &watcher, "sleep 7001");
    barrier::passed(&mut guest, &watcher);
    let there = permanent(&scan(&guest, &["--only", "processes"]));
    assert!(there.contains(&life) && there.len() > 10, "{there:?}");
    guest.quit().unwrap();
    let lost = watcher.wait_for("its end", |record| record.is("details_gathering_failed"));
    assert!(lost.to_string().contains("the guest has ended"), "{lost}");
    let ended = watcher.stop();
    assert_no_end(&ended.records, &there);
}

/// Guests that come and go are taken in and let go, whoever named them.
#[test]
#[ignore = "boots a guest"]
fn guests_are_found_as_they_come_and_go() {
    let mut configuration = tempfile::NamedTempFile::new().unwrap();
    // An empty file is a good configuration.
    configuration.flush().unwrap();
    let watcher = Watch::configured(configuration.path(), 0).start();
    let mut guest = inside::boot_with(Flavor::V6_12, |spec| {
        spec.memory_object = Some("memory-backend-memfd,id=m0,size=512M,share=on".to_owned());
        let words =
            "-name found,debug-threads=on -machine pc,memory-backend=m0 -m 512M,slots=4,maxmem=2G";
        spec.qemu_arguments = words.split(' ').map(str::to_owned).collect();
    });
    let system = listed(&guest);
    println!("{system}");
    assert_eq!((&system["name"], &system["memory"]), (&"found".into(), &"shared".into()));
    watcher.wait_to_find("it is found", |all| {
        all.said
            .iter()
            .any(|line| line.contains("found: Linux 6.12") && line.contains("is being watched"))
            .then_some(())
    });
    let process_id = inside::start(&mut guest, "sleep 7001");
    watcher.wait_for("a process", |record| {
        record.is("process_created")
            && record.system() == "found"
            && record.process_id() == process_id
    });

    // Memory that is plugged in is taken in; the boot is the same. (Guests of other tests are found too.)
    let created = |record: &Record| record.is("process_created") && record.system() == "found";
    let before = watcher.records().iter().rev().find(|record| created(record)).unwrap().boot();
    let memory = json!({"qom-type": "memory-backend-memfd", "id": "m1", "size": 256_u64 << 20});
    guest.qmp("object-add", Some(&memory)).unwrap();
    guest.qmp("device_add", Some(&json!({"driver": "pc-dimm", "memdev": "m1"}))).unwrap();
    assert_eq!(listed(&guest)["memory_bytes"], 768_u64 << 20);
    watcher.wait_to_find("it is taken in anew", |all| {
        let watched = all
            .said
            .iter()
            .filter(|line| line.contains("found: Linux 6.12") && line.contains("is being watched"));
        (watched.count() == 2).then_some(())
    });
    let process_id = inside::start(&mut guest, "sleep 7002");
    let after = watcher
        .wait_for("a process", |record| created(record) && record.process_id() == process_id);
    assert_eq!(after.boot(), before);

    // What is paused says nothing.
    guest.pause().unwrap();
    let scanned = scan(&guest, &["--only", "processes"]);
    assert!(scanned.lines().any(|line| line.contains(&format!(":{process_id},"))), "{scanned}");
    let there = processes(&scanned).filter_map(|line| Life::of(&line)).collect();
    let seen = watcher.records().len();
    guest.quit().unwrap();
    watcher.wait_for("its end", |record| {
        // Memory that was plugged in was told of likewise.
        record.system() == "found" && record.to_string().contains("the guest has ended")
    });
    let ended = watcher.stop();
    assert_eq!(ended.code, Some(0));
    let of_it = |record: &&Record| record.system() == "found";
    let last: Vec<Record> = ended.records[seen..].iter().filter(of_it).cloned().collect();
    assert_no_end(&ended.records, &there);
    assert_eq!(count(&last, "details_gathering_failed"), 1, "{}", list(&last));
    assert_eq!(count(&last, "host_initialization_started"), 0, "{}", list(&last));
}

/// The lines of a scan.
fn processes(scanned: &str) -> impl Iterator<Item = Value> {
    scanned.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// The processes of a scan that no test ends: the kernel's own may end by themselves.
fn permanent(scanned: &str) -> BTreeSet<Life> {
    let is_program = |line: &Value| line["process_executable_path"].is_string();
    processes(scanned).filter(is_program).filter_map(|line| Life::of(&line)).collect()
}
