//! eBPF: a scan lists exactly those programs, maps and links that the kernel of the guest itself
//! does, and knows the helpers that programs call, and who holds them.

use std::collections::BTreeMap;
use std::path::Path;

use panoptes_rig::{Flavor, Guest, compare, gate, product};
use serde_json::{Value, json};

use crate::inside;

/// How often a truth may change during its check.
const ATTEMPTS: u32 = 5;
/// Number of programs that the agent loads.
const PROGRAMS: usize = 9;

/// Compares a scan of eBPF with what the kernel tells root, both ways. Returns the number of
/// objects.
fn assert_exact(guest: &mut Guest) -> usize {
    let program = Path::new(env!("CARGO_BIN_EXE_panoptes"));
    let report = compare::exact(guest, "bpf", ATTEMPTS, |guest| {
        product::scan_with(program, guest, &["--only", "bpf"])
    });
    let report = report.unwrap();
    println!("{report}");
    assert!(report.is_exact(), "{report}");
    report.kind("ebpf_object").truth
}

/// The helpers of each program with a name, by name.
fn helpers(lines: &[Value]) -> BTreeMap<&str, &Value> {
    let programs = lines.iter().filter(|line| line["ebpf_object"] == "program");
    let named = programs.filter_map(|line| Some((line["ebpf_name"].as_str()?, line)));
    named.map(|(name, line)| (name, &line["ebpf_helpers"])).collect()
}

fn objects_are_listed(flavor: Flavor) {
    let mut guest = inside::boot(flavor);
    let before = assert_exact(&mut guest);
    let answer = guest.agent("bpf open").unwrap();
    assert!(answer.is_empty(), "{}", answer.join("\n"));
    assert!(assert_exact(&mut guest) > before + PROGRAMS);
    let lines = inside::scan(&guest, "bpf");
    let helpers = helpers(&lines);
    assert_eq!(helpers["writes_to_user"], &json!(["bpf_probe_write_user"]));
    assert_eq!(helpers["signals"], &json!(["bpf_send_signal"]));
    assert_eq!((helpers["asks"], helpers["filter"]), (&Value::Null, &Value::Null));
    // The agent is no part of a truth, but it holds them all.
    let held = lines.iter().filter(|line| line["ebpf_holder_process_id"].is_u64());
    assert_eq!(held.count(), lines.len(), "{lines:#?}");
    guest.agent("bpf close").unwrap();
    assert_eq!(assert_exact(&mut guest), before);
}

#[test]
#[ignore = "boots a guest"]
fn bpf_of_6_1_is_listed() {
    objects_are_listed(Flavor::V6_1);
}

#[test]
#[ignore = "boots a guest"]
fn bpf_of_6_12_is_listed() {
    objects_are_listed(Flavor::V6_12);
}

#[test]
#[ignore = "boots a guest"]
fn bpf_of_any_kernel_is_listed() {
    let name = "bpf_of_any_kernel_is_listed";
    if !gate::is_long_allowed(name, "boots 5.10 and 7") {
        return;
    }
    objects_are_listed(Flavor::V5_10);
    objects_are_listed(Flavor::V7);
}
