//! Integrity of the kernel's code: a healthy kernel of each series violates no check, and each way
//! to hook the kernel is reported, with the check that it violates and the owner of the code.
//!
//! The kinds are those of `panoptes_rig::hooks`. `cargo xtask integrity` tries all of them, also
//! those that patch memory, and tells how long each takes.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Instant;

use panoptes_rig::hooks::{Kind, Means, SOURCES};
use panoptes_rig::{Flavor, Guest, gate, kernel_module};
use serde_json::Value;

use crate::kernel::GuestKernel;
use crate::record::{Record, list};
use crate::watcher::{ASK, PATIENCE, Watch, Watcher};
use crate::{barrier, hidden, inside, laws};

/// A module that guests load at boot, and that nothing in them uses.
const MODULE: &str = "can_raw";
/// Checks that every kernel of x86-64 has.
const CHECKS: &[&str] = &[
    "system_call_tables",
    "interrupt_descriptors",
    "ftrace_handlers",
    "kprobes",
    "tracepoints",
    "lsm_hooks",
    "netfilter_hooks",
    "packet_types",
    "protocols",
    "notifier_chains",
    "proc_files",
    "file_systems",
    "terminals",
    "binary_formats",
    "kernel_threads",
    "read_only_pointers",
    "executable_pages",
    "writable_executable_pages",
    "direct_map",
];

fn details(record: &Record) -> &Value {
    record.details("kernel_code")
}

/// The lines of `scan --only integrity`: of each check, and of each violation.
fn scan(guest: &Guest) -> Vec<Value> {
    inside::scan(guest, "integrity")
}

/// A scan of a healthy machine: no check is violated, and what must be checked holds.
fn assert_holds(guest: &Guest) {
    let lines = scan(guest);
    for line in &lines {
        println!("{line}");
    }
    let verdict = |name: &str| {
        let line = lines.iter().find(|line| line["check"] == name);
        line.map_or(Value::Null, |line| line["verdict"].clone())
    };
    for check in CHECKS {
        assert_eq!(verdict(check), "holds", "{check}");
    }
    assert!(lines.iter().all(|line| line["verdict"] != "violated"), "{lines:?}");
}

fn a_healthy_kernel_violates_no_check(flavor: Flavor) {
    let guest = inside::boot(flavor);
    assert_holds(&guest);
}

#[test]
#[ignore = "boots a guest"]
fn a_healthy_kernel_of_6_1_violates_no_check() {
    a_healthy_kernel_violates_no_check(Flavor::V6_1);
}

#[test]
#[ignore = "boots a guest"]
fn a_healthy_kernel_of_6_12_violates_no_check() {
    a_healthy_kernel_violates_no_check(Flavor::V6_12);
}

#[test]
#[ignore = "boots a guest"]
fn a_healthy_kernel_of_any_series_violates_no_check() {
    let name = "a_healthy_kernel_of_any_series_violates_no_check";
    if !gate::is_long_allowed(name, "boots 5.10 and 7") {
        return;
    }
    a_healthy_kernel_violates_no_check(Flavor::V5_10);
    a_healthy_kernel_violates_no_check(Flavor::V7);
}

/// A module that is taken out of the list from outside has executable pages that nobody owns.
#[test]
#[ignore = "boots a guest"]
fn the_code_of_a_hidden_module_has_no_owner() {
    let mut guest = inside::boot(Flavor::V6_1);
    let watcher = Watch::of(&guest).attached();
    barrier::passed(&mut guest, &watcher);
    let mut kernel = GuestKernel::of(&guest);
    let mut place = None;
    let before = watcher.seen();
    hidden::while_paused(&mut guest, || place = Some(kernel.hide_module(MODULE)));
    let alert = watcher.wait_for_since(before, "its code has no owner", |record| {
        record.is("kernel_code_without_owner")
    });
    println!("{alert}");
    assert_eq!(details(&alert)["kernel_code_check"], "executable_pages", "{alert}");
    hidden::while_paused(&mut guest, || kernel.show(&place.unwrap()));
    laws::hold(&watcher.stop().records);
}

/// The alerts about the kernel's code since a record, with their checks.
fn checks_since(watcher: &Watcher, before: usize) -> BTreeSet<String> {
    let records = watcher.records();
    let about = records[before..].iter().filter(|record| !details(record).is_null());
    about
        .filter_map(|record| details(record)["kernel_code_check"].as_str().map(str::to_owned))
        .collect()
}

/// The first record since another one that matches; `None` if there is none for a while.
fn look_for(watcher: &Watcher, before: usize, matches: impl Fn(&Record) -> bool) -> Option<Record> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let found =
            watcher.look(|all| all.records[before..].iter().find(|it| matches(it)).cloned());
        if found.is_some() {
            return found;
        }
        sleep(ASK);
    }
    None
}

/// Hooks a kernel in every way, one after the other. Each must be reported within two rounds.
fn every_hook_is_reported(flavor: Flavor) {
    let folder = tempfile::tempdir().unwrap();
    let hook = kernel_module::build(flavor, folder.path(), SOURCES).unwrap().join("hook.ko");
    let mut guest = inside::boot_with(flavor, |spec| {
        spec.files.push(("hook.ko".to_owned(), hook));
    });
    assert_holds(&guest);
    let watcher = Watch::of(&guest).every("100ms").attached();
    barrier::passed(&mut guest, &watcher);
    guest.memory_is_patched();
    let mut missed = Vec::new();
    let is_done = |kind: &&Kind| kind.is_in(flavor) && matches!(kind.means, Means::Hidden(_));
    for kind in Kind::ALL.iter().filter(is_done) {
        let name = kind.name;
        let before = watcher.seen();
        inside::run(&mut guest, &format!("insmod /hook.ko kind={name} hides=1"));
        let is_about = |record: &Record| details(record)["kernel_code_check"] == kind.check;
        match look_for(&watcher, before, is_about) {
            Some(alert) => println!("{name}: {alert}"),
            None => missed.push(name),
        }
        println!("{name}: {:?}", checks_since(&watcher, before));
    }
    let records = watcher.stop().records;
    laws::hold(&records);
    let alerts = records.iter().filter(|record| record.0["message_type"] == "ALERT");
    assert!(missed.is_empty(), "{missed:?}\n{}", list(alerts));
}

#[test]
#[ignore = "boots a guest"]
fn every_hook_of_each_series_is_reported() {
    let name = "every_hook_of_each_series_is_reported";
    if !gate::is_long_allowed(name, "makes kernel modules, and takes minutes") {
        return;
    }
    for &flavor in Flavor::EVERY_DAY {
        every_hook_is_reported(flavor);
    }
}
