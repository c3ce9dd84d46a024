//! Records and lines of kernel modules.

use core::cell::Cell;

use arrayvec::ArrayString;
use panoptes_decoders::kernel::module::{Module, ModulePart, ModuleStage};

use super::*;
use crate::policy::lines::ScanKind;
use crate::state::modules::{ModuleChange, ModuleFacts};
use crate::time::RealTime;
use crate::walk::{Index, ModuleBuildId, ModuleRow, ModuleSection, ModuleViews, Rows, module_view};

const ALL: ModuleViews = ModuleViews(module_view::LIST | module_view::TREE | module_view::KSET);
const TEXT: KernelVa = KernelVa(0xffff_ffff_c000_0000);

/// A live module in these views.
fn row(name: &str, views: ModuleViews) -> ModuleRow {
    let taints = 1 << 12 | 1 << 13;
    let mut module =
        Module { taints, total_bytes: 20_480, is_signed: Some(false), ..Module::default() };
    module.name[..name.len()].copy_from_slice(name.as_bytes());
    module.parts[0] = ModulePart { base: TEXT, size: 4096 };
    let address = KernelVa(TEXT.0 + 0x10_0000);
    let source_version = ArrayString::from("533BB7E5866E52F63B9ACCB").unwrap();
    let build_id = ModuleBuildId::new(&[0xa5; 20]);
    ModuleRow { address, module, views, source_version, build_id, ..ModuleRow::default() }
}

fn facts(views: ModuleViews) -> ModuleFacts {
    ModuleFacts::read(&row("dummy", views), ALL)
}

/// The records of these changes.
fn records(reader: &mut Reader, changes: &[Change<'_>]) -> Vec<Value> {
    let cx = reader.state.scan_context(&reader.snapshot, reader.now);
    for change in changes {
        reader.policy.reporter(&mut reader.producer).change(&cx, change);
    }
    reader.producer.flush();
    records_of(&mut reader.consumer)
}

#[test]
fn a_module_that_is_loaded_has_its_process() {
    let mut reader = Reader::new(&limits());
    reader.scan(&World::default().with(FakeProcess::new(714)));
    let mut processes = reader.state.processes().map(|(_, process)| process);
    let process = processes.find(|process| process.process_id() == 714);
    let module = facts(ALL);
    let cx = reader.state.scan_context(&reader.snapshot, reader.now);
    for change in [
        Change::ModuleLoaded { module: &module, process },
        Change::ModuleUnloaded { module: &module, process: None },
    ] {
        reader.policy.reporter(&mut reader.producer).change(&cx, &change);
    }
    reader.producer.flush();
    let mut records = records_of(&mut reader.consumer);
    records.retain(|record| details(record, "kernel_module_details").is_object());
    assert_eq!(names(&records), ["kernel_module_loaded", "kernel_module_unloaded"]);
    let expected = json!({
        "kernel_module_name": "dummy",
        "kernel_module_size": 20_480,
        "kernel_module_state": "Live",
        "kernel_module_taints": "OE",
        "kernel_module_source_version": "533BB7E5866E52F63B9ACCB",
        "kernel_module_build_id": "a5".repeat(20),
        "kernel_module_signature": "none",
        "kernel_module_address": "0xffffffffc0000000",
    });
    for record in &records {
        assert_eq!(*details(record, "kernel_module_details"), expected);
        assert_eq!(record["message_type"], "EVENT");
        assert_eq!(record["severity"], "INFO");
    }
    assert_eq!(details(&records[0], "process_details")["process_id"], 714);
    assert!(details(&records[1], "process_details").is_null());
}

#[test]
fn a_module_that_changes_names_what_has_changed() {
    let mut reader = Reader::new(&limits());
    let before = ModuleFacts { taints: 0, ..facts(ALL) };
    let what = ModuleChange(ModuleChange::TAINTS | ModuleChange::NAME);
    let module = facts(ALL);
    let change = Change::ModuleChanged { module: &module, before: &before, what };
    let found = records(&mut reader, &[change]);
    assert_eq!(names(&found), ["kernel_module_changed"]);
    let found = details(&found[0], "kernel_module_details");
    let changed = json!(["kernel_module_name", "kernel_module_taints"]);
    assert_eq!(found["kernel_module_changed"], changed);
    assert_eq!(found["kernel_module_taints"], "OE");
    assert_eq!(found["kernel_module_previous_taints"], "");
    assert_eq!(found["kernel_module_previous_name"], "dummy");
    assert!(found["kernel_module_previous_source_version"].is_null());
}

#[test]
fn a_hidden_module_raises_an_alert_with_all_views() {
    let mut reader = Reader::new(&limits());
    let shown = ModuleViews(module_view::TREE);
    let missing = ModuleViews(module_view::LIST | module_view::KSET);
    let (module, is_accepted) = (facts(ALL), Cell::new(false));
    let since_ns = RealTime::default();
    let hidden = Change::ModuleHidden {
        module: &module,
        missing,
        shown,
        scans: 2,
        since_ns,
        is_accepted: &is_accepted,
    };
    let found = records(&mut reader, &[hidden]);
    assert!(is_accepted.get());
    assert_eq!(names(&found), ["kernel_module_hidden"]);
    let record = &found[0];
    assert_eq!(record["message_type"], "ALERT");
    assert_eq!(record["severity"], "HIGH");
    let (detection, about) = (&record["detection"], details(record, "kernel_module_details"));
    assert_eq!(detection["mitre_attack"], json!(["T1014", "T1547.006"]));
    assert_eq!(detection["confidence"], "high");
    assert_eq!(detection["scans_confirmed"], 2);
    assert_eq!(about["kernel_module_views"], json!(["tree"]));
    assert_eq!(about["kernel_module_missing_views"], json!(["list", "kset"]));
    assert_eq!(
        detection["reason"],
        "the module dummy (4096 bytes of code at 0xffffffffc0000000) is not in the kernel's list \
         of modules or /sys/module, but in the tree of the addresses of modules, in 2 scans in a \
         row"
    );
}

#[test]
fn a_flood_of_modules_is_summed_up() {
    let mut reader = Reader::new(&Limits { events_per_second: 2, ..limits() });
    let module = facts(ALL);
    let loaded = Change::ModuleLoaded { module: &module, process: None };
    assert_eq!(names(&records(&mut reader, &[loaded; 5])), ["kernel_module_loaded"; 2]);
    assert_eq!(reader.finish(), 0);
    let sums = reader.records();
    assert_eq!(names(&sums), ["events_summed_up"]);
    let more = json!({
        "reason": "3 more events kernel_module_loaded were not written",
        "activity": "kernel_module_loaded",
        "count": 3,
    });
    assert_eq!(*details(&sums[0], "system_activity_details"), more);
}

/// The lines of a snapshot's modules, which must be valid.
fn lines_of(snapshot: &Snapshot) -> Vec<Value> {
    let kinds = [ScanKind::Modules].into_iter().collect();
    let mut lines = Vec::new();
    let mut writer = LineWriter::new(&limits());
    let counts = writer.write::<()>(snapshot, kinds, &Traits::default(), &mut |line| {
        let line: Value = serde_json::from_slice(line).unwrap();
        assert!(LINES.is_valid(&line), "{line}");
        lines.push(line);
        Ok(())
    });
    assert_eq!(counts.unwrap().lines, lines.len() as u64);
    lines
}

#[test]
fn the_lines_of_modules_are_those_that_the_machine_shows() {
    let mut snapshot = Snapshot::empty(&limits());
    let modules = &mut snapshot.modules;
    modules.complete = ALL;
    modules.sections = Rows::with_capacity(4);
    let [mut second, first] = ["nfs", "dummy"].map(|name| row(name, ALL));
    let holders = [Index::new(1), Index::new(2)].map(Option::unwrap);
    second.holders = modules.holders.extend(&holders).unwrap();
    let second = modules.rows.push(second).unwrap();
    modules.rows.push(first).unwrap();
    modules.rows.push(row("another", ModuleViews(module_view::TREE))).unwrap();
    // It is being loaded.
    let mut third = row("third", ALL);
    third.module.stage = ModuleStage::Unformed;
    modules.rows.push(third).unwrap();
    for name in [".text", ".data"] {
        let mut section = ModuleSection { module: second, name: [0; 32], address: TEXT.0 };
        section.name[..name.len()].copy_from_slice(name.as_bytes());
        modules.sections.push(section).unwrap();
    }
    let lines = lines_of(&snapshot);
    let names: Vec<&Value> = lines.iter().map(|line| &line["kernel_module_name"]).collect();
    assert_eq!(names, ["another", "dummy", "nfs"]);
    assert_eq!(lines[0]["kernel_module_missing_views"], json!(["list", "kset"]));
    assert!(lines[1]["kernel_module_views"].is_null());
    assert_eq!(lines[2]["kind"], "kernel_module");
    assert_eq!(lines[2]["kernel_module_holders"], json!(["another", "dummy"]));
    let address = "0xffffffffc0000000";
    let section = |name: &str| json!({ "section_name": name, "section_address": address });
    assert_eq!(lines[2]["kernel_module_sections"], json!([section(".data"), section(".text")]));
}
