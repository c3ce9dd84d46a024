//! QEMU guests by process: the watcher finds, names, reads and removes them.

use std::collections::BTreeSet;
use std::io::Write as _;

use caps::{CapSet, Capability};
use panoptes_rig::{Flavor, Guest};
use serde_json::{Value, json};

use crate::record::{Life, Record, assert_no_end, count, list};
use crate::watcher::{Watch, panoptes};
use crate::{barrier, inside};

const UUID: &str = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0";
/// The private memory of a guest, enough for a hole in it.
const RAM_KIB: u64 = 3 << 20;
/// No other memory of QEMU has areas of this size that are writable and not executable.
const RAM_AREA_KIB: u64 = 1 << 20;

/// A guest in the list of `panoptes systems`.
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

/// The size of the guest's allocated memory, swapped out or not, and of QEMU's page tables, in KiB.
///
/// Other memory of QEMU is not counted: QEMU may free it, which would hide pages that reading
/// allocates.
fn resident(guest: &Guest) -> (u64, u64) {
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", guest.qemu_pid())).unwrap();
    let of_key = |line: &str, key: &str| -> Option<u64> {
        line.strip_prefix(key)?.trim().trim_end_matches(" kB").parse().ok()
    };
    let (mut is_ram, mut mapped, mut there) = (false, 0, 0);
    for line in read("smaps").lines() {
        // The area for QEMU's generated code can be as large, but is executable.
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let Some((start, end)) = words[0].split_once('-') {
            let address = |text| u64::from_str_radix(text, 16).unwrap();
            let kib = (address(end) - address(start)) >> 10;
            is_ram = kib >= RAM_AREA_KIB && words[1] == "rw-p";
            mapped += if is_ram { kib } else { 0 };
        } else if is_ram {
            there += of_key(line, "Rss:").or_else(|| of_key(line, "Swap:")).unwrap_or(0);
        }
    }
    assert!(mapped >= RAM_KIB, "{mapped} KiB of the guest's memory are mapped");
    let status = read("status");
    (there, status.lines().find_map(|line| of_key(line, "VmPTE:")).unwrap())
}

/// Whether a watcher may read a guest's process; if not, prints that this test is skipped. A
/// watcher of root gives up all capabilities that it does not need. Then the kernel demands
/// `CAP_SYS_PTRACE` to read a process that has more (`ptrace_may_access`, kernel/ptrace.c).
#[track_caller]
fn may_read_processes() -> bool {
    let may_trace = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_PTRACE);
    // Without any capability, nothing is given up.
    let has_any = caps::read(None, CapSet::Permitted).is_ok_and(|set| !set.is_empty());
    let may_read = !has_any || may_trace.is_ok_and(|may| may);
    if !may_read {
        panoptes_needs::skip::test_for("root", "CAP_SYS_PTRACE is missing");
    }
    may_read
}

/// A named guest with private memory, around a hole: reading it allocates nothing in QEMU.
#[test]
#[ignore = "boots a guest"]
fn a_guest_with_private_memory_is_watched() {
    if !may_read_processes() {
        return;
    }
    let mut guest = inside::boot_with(Flavor::V6_1, |spec| {
        spec.private_memory = true;
        spec.memory_mib = RAM_KIB >> 10;
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
    assert_eq!(system["memory_bytes"], RAM_KIB << 10);
    assert_eq!(system["can_be_watched"], true);

    // A full scan, and seconds of watching: nothing is allocated in QEMU.
    let before = resident(&guest);
    let scanned = scan(&guest, &[]);
    let watcher = Watch::process(&guest).log_only().set("service.log_level=debug").attached();
    barrier::stood_still(&watcher);
    assert_eq!(watcher.stop().code, Some(0));
    let after = resident(&guest);
    println!("QEMU has {before:?} KiB of memory and page tables before and {after:?} after");
    assert_eq!(after.0, before.0, "KiB of the guest's memory");
    assert!(after.1 <= before.1, "page tables were allocated");

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
    // It was the only system.
    let ended = watcher.ended();
    assert_eq!(ended.code, Some(0));
    assert_no_end(&ended.records, &there);
}

/// The watcher adds guests when they start, and removes them when they end.
#[test]
#[ignore = "boots a guest"]
fn guests_are_found_as_they_start_and_end() {
    if !may_read_processes() {
        return;
    }
    let mut configuration = tempfile::NamedTempFile::new().unwrap();
    // An empty file is a valid configuration.
    configuration.flush().unwrap();
    let watcher = Watch::configured(configuration.path(), 0).start();
    // Guests of other tests, and of other runs of this one, are found too.
    let name = &format!("found-{}", std::process::id());
    let mut guest = inside::boot_with(Flavor::V6_12, |spec| {
        spec.memory_object = Some("memory-backend-memfd,id=m0,size=512M,share=on".to_owned());
        let words = format!(
            "-name {name},debug-threads=on -machine pc,memory-backend=m0 \
             -m 512M,slots=4,maxmem=2G"
        );
        spec.qemu_arguments = words.split(' ').map(str::to_owned).collect();
    });
    let system = listed(&guest);
    println!("{system}");
    assert_eq!((&system["name"], &system["memory"]), (&json!(name), &"shared".into()));
    let is_watched = |line: &String| {
        line.contains(&format!("{name}: Linux 6.12")) && line.contains("is being watched")
    };
    watcher.wait_to_find("it is found", |all| all.said.iter().any(is_watched).then_some(()));
    // The message precedes the first scan: what starts before that scan was there already.
    let of_it = |record: &Record| record.system() == *name;
    barrier::found_again(&mut guest, &watcher, "sleep 7001", of_it);

    // After memory is plugged in, the guest is attached again with the same boot.
    let created = |record: &Record| record.is("process_created") && record.system() == *name;
    let before = watcher.records().iter().rev().find(|record| created(record)).unwrap().boot();
    let memory = json!({"qom-type": "memory-backend-memfd", "id": "m1", "size": 256_u64 << 20});
    guest.qmp("object-add", Some(&memory)).unwrap();
    guest.qmp("device_add", Some(&json!({"driver": "pc-dimm", "memdev": "m1"}))).unwrap();
    assert_eq!(listed(&guest)["memory_bytes"], 768_u64 << 20);
    watcher.wait_to_find("it is watched again", |all| {
        let watched = all.said.iter().filter(|line| is_watched(line));
        (watched.count() == 2).then_some(())
    });
    let after = barrier::found_again(&mut guest, &watcher, "sleep 7002", of_it);
    assert_eq!(after.boot(), before);

    // A paused guest causes no records.
    guest.pause().unwrap();
    let scanned = scan(&guest, &["--only", "processes"]);
    let process_id = format!(":{},", after.process_id());
    assert!(scanned.lines().any(|line| line.contains(&process_id)), "{scanned}");
    let there = processes(&scanned).filter_map(|line| Life::of(&line)).collect();
    let seen = watcher.records().len();
    guest.quit().unwrap();
    watcher.wait_for("its end", |record| {
        // The same activity reports memory that was plugged in.
        record.system() == *name && record.to_string().contains("the guest has ended")
    });
    let ended = watcher.stop();
    assert_eq!(ended.code, Some(0));
    let last = ended.records[seen..].iter().filter(|record| of_it(record));
    let last: Vec<Record> = last.cloned().collect();
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
