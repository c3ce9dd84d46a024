//! Kernel modules: a scan finds each one with its details, and a watcher reports what becomes of
//! them. Whatever loads and unloads them, none is hidden before an attacker hides it.

mod common;
#[path = "races/watcher.rs"]
#[allow(dead_code, reason = "the races use all of it")]
mod watcher;

use std::collections::BTreeSet;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::kernel::module::MODULE_NAME_BYTES;
use panoptes_engine::limits::Limits;
use panoptes_engine::walk::{ModuleRow, Scope, Snapshot, module_view};
use panoptes_synthetic::{HideModule, Machine, Module, ModuleChange, Size, Source, profile};
use serde_json::Value;

use common::RELEASES;
use watcher::{INTERVAL_NS, Watcher};

/// A kernel of each way to describe the memory of modules.
const KERNELS: [&str; 2] = [RELEASES[1], RELEASES[4]];
/// Scans in which all modules are read at least once.
const SCANS: u32 = 130;
/// `enum module_state` (include/linux/module.h).
const COMING: u8 = 1;
const GOING: u8 = 2;
const UNFORMED: u32 = 3;
/// Each view that a module can be taken out of, and its name in records.
const VIEWS: [(HideModule, &str); 3] =
    [(HideModule::List, "list"), (HideModule::Tree, "tree"), (HideModule::Kset, "kset")];

fn machine(release: &str, modules: u32) -> Machine {
    let size = Size { processes: 4, threads: 0, modules, ..Size::default() };
    Machine::builder(&profile(release)).size(size).build()
}

/// A machine, and what watches it.
struct Watch {
    machine: Machine,
    watcher: Watcher,
}

impl Watch {
    /// Begins to watch. The modules of the machine are reported as loaded.
    fn new(release: &str) -> Self {
        let mut machine = machine(release, 6);
        let watcher = Watcher::new(&machine.discover());
        let mut watch = Self { machine, watcher };
        let records = watch.scans(3);
        let loaded = of(&records, "kernel_module_loaded");
        assert_eq!((loaded.len(), records.len()), (6, 6), "{release}: {records:#?}");
        watch
    }

    /// Scans while time passes. Returns the records about modules.
    fn scans(&mut self, count: u32) -> Vec<Value> {
        let mut records = Vec::new();
        for _ in 0..count {
            self.machine.tick_amid(INTERVAL_NS.into());
            let mut source = Source::new(&mut self.machine);
            records.extend(self.watcher.scan(&mut source, INTERVAL_NS).expect("it can be scanned"));
        }
        records.retain(|record| !details(record).is_null());
        records
    }

    /// Scans between the stores of an operation.
    fn play(&mut self) -> Vec<Value> {
        let mut records = Vec::new();
        while self.machine.step(10) > 0 {
            records.extend(self.scans(1));
        }
        records
    }

    /// Plays the stores of an operation until the module there is in a state, and some more.
    fn step_until(&mut self, module: PhysicalAddress, state: u8, more: usize) {
        let layout = self.machine.layouts().module.expect("the profile has modules");
        let at = module.0 as usize + layout.state.offset as usize;
        while self.machine.memory().bytes()[at] != state {
            assert!(self.machine.step(1) > 0, "it never is in state {state}");
        }
        self.machine.step(more);
    }

    /// Plays the rest of an operation.
    fn finish(&mut self) {
        self.machine.step(usize::MAX);
    }
}

fn details(record: &Value) -> &Value {
    &record["activity_data"]["kernel_module_details"]
}

/// The records of an activity.
fn of<'a>(records: &'a [Value], activity: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["activity_data"]["name"] == activity).collect()
}

/// The only record, which is of this activity and about this module.
#[track_caller]
fn only<'a>(records: &'a [Value], activity: &str, module: &str) -> &'a Value {
    let found = of(records, activity);
    assert_eq!((found.len(), records.len()), (1, 1), "{records:#?}");
    assert_eq!(details(found[0])["kernel_module_name"], module, "{records:#?}");
    found[0]
}

/// A module of the machine, in a line.
fn expected(module: &Module) -> String {
    let mut holders = module.holders.clone();
    holders.sort();
    let mut sections: Vec<String> =
        module.sections.iter().map(|(name, address)| format!("{name} {:x}", address.0)).collect();
    sections.sort();
    format!(
        "{} at {} of {} bytes, code at {}, {} {:x?} used by {holders:?}, {sections:?}",
        module.name,
        module.address,
        module.bytes,
        module.text,
        module.source_version,
        module.build_id
    )
}

/// The same of a scan.
fn found(snapshot: &Snapshot, row: &ModuleRow) -> String {
    let modules = &snapshot.modules;
    let name = |row: &ModuleRow| String::from_utf8_lossy(row.module.name()).into_owned();
    let mut holders: Vec<String> = modules.holders_of(row).map(name).collect();
    holders.sort();
    let of_it = modules.sections.iter().filter(|it| modules.rows[it.module].address == row.address);
    let mut sections: Vec<String> = of_it
        .map(|section| {
            let name = String::from_utf8_lossy(&section.name).into_owned();
            format!("{} {:x}", name.trim_end_matches('\0'), section.address)
        })
        .collect();
    sections.sort();
    assert_eq!(row.module.references.get(), Some(holders.len() as u32), "{}", name(row));
    format!(
        "{} at {} of {} bytes, code at {}, {} {:x?} used by {holders:?}, {sections:?}",
        name(row),
        row.address,
        row.module.total_bytes,
        row.module.text().base,
        row.source_version,
        row.build_id.bytes()
    )
}

#[test]
fn a_scan_finds_every_module_with_its_details() {
    for release in RELEASES {
        let mut machine = machine(release, 60);
        let long = "m".repeat(MODULE_NAME_BYTES - 1);
        machine.load_module(&long, 100_000);
        machine.use_module("module_3", "module_7");
        machine.use_module("module_3", &long);
        machine.unload_module("module_11");
        let kernel = common::kernel(&mut machine);
        let mut walker = common::walker(&Limits::default()).with_sections();
        let scope = Scope { module_details: true, ..Scope::ALL };
        // The second scan begins with what the first one has found.
        for _ in 0..2 {
            let expected: BTreeSet<String> = machine.modules().map(expected).collect();
            let mut source = Source::new(&mut machine);
            let snapshot = walker.scan(&mut source, &kernel, scope).expect("processes are found");
            let modules = &snapshot.modules;
            let all = module_view::LIST | module_view::TREE | module_view::KSET;
            assert_eq!((modules.complete.0, modules.stopped.0), (all, 0), "{release}");
            assert!(modules.is_fresh && modules.quiet, "{release}");
            assert!(modules.rows.iter().all(|row| row.views.0 == all), "{release}");
            let found: BTreeSet<String> =
                modules.rows.iter().map(|row| found(snapshot, row)).collect();
            assert_eq!(found, expected, "{release}");
            assert_eq!(modules.rows.len(), 60, "{release}");
        }
    }
}

#[test]
fn a_module_is_reported_with_the_process_that_loads_and_unloads_it() {
    for release in RELEASES {
        let mut watch = Watch::new(release);
        let pid = watch.machine.fork(1);
        watch.machine.exec(pid, "/sbin/insmod", &["insmod", "zram.ko"]);
        watch.scans(2);
        watch.machine.slowly(|machine| machine.load_module_as(pid, "zram", 40_000));
        let mut records = watch.play();
        records.extend(watch.scans(SCANS));
        let loaded = only(&records, "kernel_module_loaded", "zram");
        assert_eq!(loaded["message_type"], "EVENT", "{loaded:#}");
        assert_eq!(loaded["activity_data"]["process_details"]["process_id"], pid, "{loaded:#}");
        let (module, details) = (watch.machine.module("zram"), details(loaded));
        assert_eq!(details["kernel_module_source_version"], module.source_version, "{loaded:#}");
        let address = format!("{:#x}", module.text.0);
        assert_eq!(details["kernel_module_address"], address, "{loaded:#}");

        watch.machine.slowly(|machine| machine.unload_module_as(pid, "zram"));
        let mut records = watch.play();
        records.extend(watch.scans(SCANS));
        only(&records, "kernel_module_unloaded", "zram");
    }
}

#[test]
fn a_module_that_one_view_lacks_is_hidden_once() {
    for (release, (from, view)) in RELEASES.iter().zip(VIEWS.iter().cycle()) {
        let mut watch = Watch::new(release);
        watch.machine.hide_module("module_2", *from);
        let records = watch.scans(2 * SCANS);
        let alert = only(&records, "kernel_module_hidden", "module_2");
        assert_eq!((&alert["message_type"], &alert["severity"]), (&"ALERT".into(), &"HIGH".into()));
        assert_eq!(details(alert)["kernel_module_missing_views"], serde_json::json!([view]));
        assert!(alert["detection"]["scans_confirmed"].as_u64() >= Some(2), "{alert:#}");
        watch.machine.show_module("module_2", *from);
        let records = watch.scans(2 * SCANS);
        assert!(records.is_empty(), "{release}: {records:#?}");
        watch.machine.unload_module("module_2");
        only(&watch.scans(SCANS), "kernel_module_unloaded", "module_2");
    }
}

#[test]
fn a_module_that_only_the_tree_has_is_hidden_although_it_has_no_state() {
    for release in RELEASES {
        let mut watch = Watch::new(release);
        watch.machine.poison_module("module_4");
        let records = watch.scans(2 * SCANS);
        let alerts = of(&records, "kernel_module_hidden");
        assert_eq!(alerts.len(), 1, "{release}: {records:#?}");
        let details = details(alerts[0]);
        assert_eq!(details["kernel_module_name"], "module_4");
        assert_eq!(details["kernel_module_missing_views"], serde_json::json!(["list"]));
        assert!(of(&records, "kernel_module_unloaded").is_empty(), "{release}: {records:#?}");
    }
}

#[test]
fn a_module_that_takes_minutes_to_start_and_to_end_is_not_hidden() {
    // Stores after the state is set: at its start, and at its end before it loses its state.
    let stops = [(0, 0), (3, 2), (12, 4), (40, 6)];
    for (release, (after_coming, after_going)) in RELEASES.iter().zip(stops.into_iter().cycle()) {
        let mut watch = Watch::new(release);
        let address = watch.machine.slowly(|machine| machine.load_module("slow", 20_000));
        // When it is unloaded, it has no other address any more.
        let module = watch.machine.memory().physical(address);
        watch.step_until(module, COMING, after_coming);
        only(&watch.scans(2 * SCANS), "kernel_module_loaded", "slow");
        watch.finish();
        let records = watch.scans(SCANS);
        assert!(records.is_empty(), "{release}: {records:#?}");

        watch.machine.slowly(|machine| machine.unload_module("slow"));
        watch.step_until(module, GOING, after_going);
        let mut records = watch.scans(2 * SCANS);
        watch.finish();
        records.extend(watch.scans(SCANS));
        only(&records, "kernel_module_unloaded", "slow");
    }
}

#[test]
fn a_held_lock_delays_the_alert_by_a_second() {
    for release in KERNELS {
        let mut watch = Watch::new(release);
        let task = watch.machine.process(1).task;
        watch.machine.lock_modules(task);
        let records = watch.scans(SCANS);
        assert!(records.is_empty(), "{release}: {records:#?}");
        watch.machine.hide_module("module_1", HideModule::List);
        let records = watch.scans(50);
        assert!(records.is_empty(), "{release}: {records:#?}");
        only(&watch.scans(3 * SCANS), "kernel_module_hidden", "module_1");
    }
}

#[test]
fn a_list_that_leads_nowhere_proves_nothing() {
    for release in KERNELS {
        let mut watch = Watch::new(release);
        let layout = watch.machine.layouts().module.expect("the profile has modules");
        let head = watch.machine.symbol("modules").expect("the kernel has it");
        let link = watch.machine.module("module_3").address.plus(layout.list.offset.into());
        for (at, to) in [(link, link.0), (link, 0x1234_5678), (head, 0)] {
            let before = watch.machine.memory().word(at);
            for to in [to, before] {
                watch.machine.memory().put_word(at, to);
                let records = watch.scans(SCANS);
                assert!(records.is_empty(), "{release}, {at} leads to {to:x}: {records:#?}");
            }
        }
    }
}

#[test]
fn what_is_written_over_in_a_module_is_a_change() {
    let changes = [
        (ModuleChange::SourceVersion("0123456789ABCDEF0123456"), "kernel_module_source_version"),
        (ModuleChange::Taints(1 << 12), "kernel_module_taints"),
        (ModuleChange::Signed(false), "kernel_module_signature"),
    ];
    for release in KERNELS {
        let mut watch = Watch::new(release);
        for (change, attribute) in changes {
            watch.machine.change_module("module_5", change);
            let records = watch.scans(SCANS);
            let changed = only(&records, "kernel_module_changed", "module_5");
            let attributes = &details(changed)["kernel_module_changed"];
            assert_eq!(*attributes, serde_json::json!([attribute]), "{release}");
        }
        // It still runs, but no listing shows it.
        watch.machine.set_module_stage("module_5", UNFORMED);
        let records = watch.scans(4 * SCANS);
        let changed = only(&records, "kernel_module_changed", "module_5");
        let attributes = &details(changed)["kernel_module_changed"];
        assert_eq!(*attributes, serde_json::json!(["kernel_module_state"]), "{release}");
    }
}
