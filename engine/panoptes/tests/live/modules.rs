//! Kernel modules: a scan lists exactly those that the guest itself does, each load and unload is
//! reported, and one that a rootkit takes out of the kernel's list is an alert.
//!
//! Most tests use a module that every guest has, and take it out of the list from outside
//! (`kernel`). One uses a module that hides itself (`module`).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use panoptes_rig::{Flavor, Guest, compare, gate, product};
use serde_json::{Value, json};

use crate::kernel::GuestKernel;
use crate::record::{Record, count, list};
use crate::watcher::{Watch, Watcher};
use crate::{barrier, hidden, inside, laws, module};

/// A module that guests load at boot, and that nothing in them uses.
const MODULE: &str = "can_raw";
/// How often it is loaded and unloaded by one command.
const ROUNDS: u32 = 20;
/// How often a truth may change during its check.
const ATTEMPTS: u32 = 5;
/// Barriers after which every module was read again: a whole scan a second reads them all.
const BARRIERS: u32 = 7;
/// How long modules are loaded and unloaded.
const LOOP: Duration = Duration::from_mins(1);

fn details(record: &Record) -> &Value {
    record.details("kernel_module")
}

/// Whether a record is of an activity and about a module.
fn is_of(record: &Record, activity: &str, module: &str) -> bool {
    record.is(activity) && details(record)["kernel_module_name"] == module
}

/// The alerts so far, which must not be.
#[track_caller]
fn assert_no_alert(records: &[Record]) {
    let alerts = records.iter().filter(|record| record.0["message_type"] == "ALERT");
    let alerts: Vec<&Record> = alerts.collect();
    assert!(alerts.is_empty(), "{}", list(alerts));
}

/// Compares a scan of the modules with the guest's own lists of them, both ways.
fn assert_exact(guest: &mut Guest) {
    let program = Path::new(env!("CARGO_BIN_EXE_panoptes"));
    let report = compare::exact(guest, "modules", ATTEMPTS, |guest| {
        product::scan_with(program, guest, &["--only", "modules"])
    });
    let report = report.unwrap();
    println!("{report}");
    assert!(report.is_exact(), "{report}");
    assert!(report.kind("kernel_module").truth > 5, "{report}");
}

/// Loads a module, or unloads it, and waits for the record.
#[track_caller]
fn act(guest: &mut Guest, watcher: &Watcher, command: &str, activity: &str) -> Record {
    let seen = watcher.seen();
    inside::run(guest, command);
    watcher.wait_for_since(seen, activity, |record| is_of(record, activity, MODULE))
}

/// The module's file, as the guest has it.
fn file() -> String {
    format!("/modules/{MODULE}.ko")
}

/// Loads and unloads the module in turn, for as long; the module is loaded before and after.
fn assert_pairs(guest: &mut Guest, watcher: &Watcher, lasts: Duration) {
    barrier::passed(guest, watcher);
    let (seen, begin) = (watcher.seen(), Instant::now());
    let rounds = format!(
        "i=0; while [ $i -lt {ROUNDS} ]; do rmmod {MODULE}; insmod {}; i=$((i + 1)); done",
        file()
    );
    loop {
        inside::run(guest, &rounds);
        if begin.elapsed() >= lasts {
            break;
        }
    }
    barrier::passed(guest, watcher);
    let records = watcher.records();
    let of = |activity| {
        let all = records[seen..].iter().filter(|record| is_of(record, activity, MODULE));
        all.count()
    };
    let (loaded, unloaded) = (of("kernel_module_loaded"), of("kernel_module_unloaded"));
    println!("{loaded} loaded, {unloaded} unloaded");
    assert_eq!(loaded, unloaded);
    assert!(loaded > 0);
    assert_eq!(count(&records[seen..], "kernel_module_changed"), 0);
    assert_no_alert(&records[seen..]);
}

/// Takes the module out of the list while the guest is paused, and puts it back.
fn hides(guest: &mut Guest, watcher: &Watcher) {
    let mut kernel = GuestKernel::of(guest);
    let mut place = None;
    let before = watcher.seen();
    hidden::while_paused(guest, || place = Some(kernel.hide_module(MODULE)));
    let alert = watcher
        .wait_for_since(before, "the module is hidden", |record| record.is("kernel_module_hidden"));
    assert_alert(&alert, MODULE);
    assert_eq!(details(&alert)["kernel_module_missing_views"], json!(["list"]), "{alert}");
    let listed = inside::run(guest, &format!("grep -c '^{MODULE} ' /proc/modules; true"));
    assert_eq!(listed, ["0"]);
    for _ in 0..BARRIERS {
        barrier::passed(guest, watcher);
    }
    hidden::while_paused(guest, || kernel.show(&place.unwrap()));
    for _ in 0..BARRIERS {
        barrier::passed(guest, watcher);
    }
    let records = watcher.records();
    assert_eq!(count(&records[before..], "kernel_module_hidden"), 1);
    let about = records[before..].iter().filter(|record| !details(record).is_null());
    assert_eq!(about.clone().count(), 1, "{}", list(about));
}

#[track_caller]
fn assert_alert(alert: &Record, module: &str) {
    println!("{alert}");
    assert_eq!((&alert.0["message_type"], &alert.0["severity"]), (&"ALERT".into(), &"HIGH".into()));
    let detection = &alert.0["detection"];
    assert_eq!(detection["mitre_attack"], json!(["T1014", "T1547.006"]), "{alert}");
    assert!(detection["scans_confirmed"].as_u64() >= Some(2), "{alert}");
    assert_eq!(details(alert)["kernel_module_name"], module, "{alert}");
}

fn modules_are_listed_reported_and_found(flavor: Flavor) {
    let mut guest = inside::boot(flavor);
    assert_exact(&mut guest);
    let watcher = Watch::of(&guest).attached();
    // A module that is unloaded before the first scan is never seen.
    barrier::passed(&mut guest, &watcher);
    act(&mut guest, &watcher, &format!("rmmod {MODULE}"), "kernel_module_unloaded");
    let insert = format!("insmod {}", file());
    let loaded = act(&mut guest, &watcher, &insert, "kernel_module_loaded");
    // It starts too fast for a scan to see who loads it, unless the guest is slow.
    let process = loaded.process();
    assert!(process.is_null() || process.to_string().contains("insmod"), "{loaded}");
    assert_exact(&mut guest);
    assert_pairs(&mut guest, &watcher, Duration::ZERO);
    hides(&mut guest, &watcher);
    // It can be unloaded as ever.
    act(&mut guest, &watcher, &format!("rmmod {MODULE}"), "kernel_module_unloaded");
    assert_exact(&mut guest);
    laws::hold(&watcher.stop().records);
}

#[test]
#[ignore = "boots a guest"]
fn modules_of_6_1_are_listed_reported_and_found() {
    modules_are_listed_reported_and_found(Flavor::V6_1);
}

#[test]
#[ignore = "boots a guest"]
fn modules_of_6_12_are_listed_reported_and_found() {
    modules_are_listed_reported_and_found(Flavor::V6_12);
}

#[test]
#[ignore = "boots a guest"]
fn modules_of_any_kernel_are_listed_reported_and_found() {
    let name = "modules_of_any_kernel_are_listed_reported_and_found";
    if !gate::is_long_allowed(name, "boots 5.10 and 7") {
        return;
    }
    modules_are_listed_reported_and_found(Flavor::V5_10);
    modules_are_listed_reported_and_found(Flavor::V7);
}

/// Minutes of a module that is loaded and unloaded, as a driver's developer does.
#[test]
#[ignore = "boots a guest"]
fn a_module_that_comes_and_goes_for_a_minute_is_never_hidden() {
    let name = "a_module_that_comes_and_goes_for_a_minute_is_never_hidden";
    if !gate::is_long_allowed(name, "takes a minute") {
        return;
    }
    let mut guest = inside::boot(Flavor::V6_12);
    let watcher = Watch::of(&guest).attached();
    assert_pairs(&mut guest, &watcher, LOOP);
    laws::hold(&watcher.stop().records);
}

/// A module of the tests, built with the headers of Debian's kernel, takes itself out of the list
/// and of /sys/module when it starts, as most rootkits do.
#[test]
#[ignore = "boots a guest"]
fn a_module_that_hides_itself_is_reported() {
    let name = "a_module_that_hides_itself_is_reported";
    if !gate::is_long_allowed(name, "makes a kernel module") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let vanish = module::make(Flavor::V6_1, folder.path(), module::VANISH);
    let mut guest = inside::boot_with(Flavor::V6_1, |spec| {
        spec.files.push(("vanish.ko".to_owned(), vanish));
    });
    let watcher = Watch::of(&guest).attached();
    barrier::passed(&mut guest, &watcher);
    // A start that takes seconds: scans see who is in the system call. It has no signature.
    let process_id = inside::start(&mut guest, "insmod /vanish.ko milliseconds=3000");
    let loaded =
        watcher.wait_for("it is loaded", |record| is_of(record, "kernel_module_loaded", "vanish"));
    assert_eq!(loaded.process_id(), process_id, "{loaded}");
    assert_eq!(details(&loaded)["kernel_module_taints"], "OE", "{loaded}");
    inside::until(&mut guest, "grep -q '^vanish .* Live ' /proc/modules");
    assert_exact(&mut guest);
    inside::run(&mut guest, "rmmod vanish");
    watcher.wait_for("it is unloaded", |record| is_of(record, "kernel_module_unloaded", "vanish"));
    assert_no_alert(&watcher.records());

    guest.memory_is_patched();
    inside::run(&mut guest, "insmod /vanish.ko hides=1");
    watcher.wait_for("it is hidden", |record| record.is("kernel_module_hidden"));
    for _ in 0..BARRIERS {
        barrier::passed(&mut guest, &watcher);
    }
    let records = watcher.stop().records;
    laws::hold(&records);
    // Its start may have ended between the scans that confirm the first difference.
    let mut missing = BTreeSet::new();
    for alert in records.iter().filter(|record| record.is("kernel_module_hidden")) {
        assert_alert(alert, "vanish");
        let views = details(alert)["kernel_module_missing_views"].as_array().unwrap();
        let is_new = views.iter().filter(|view| missing.insert(view.to_string())).count() > 0;
        assert!(is_new, "{alert}");
    }
    assert_eq!(missing.into_iter().collect::<Vec<_>>(), ["\"kset\"", "\"list\""]);
    let unloaded =
        records.iter().filter(|record| is_of(record, "kernel_module_unloaded", "vanish"));
    assert_eq!(unloaded.count(), 1);
}
