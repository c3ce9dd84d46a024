//! eBPF: a scan lists exactly those programs, maps and links that the kernel of the guest itself
//! does, and knows the helpers that programs call, and who holds them. Each load and attachment is
//! reported, and a program that a rootkit takes out of the kernel's list is an alert.

use std::collections::BTreeMap;
use std::path::Path;

use panoptes_rig::{Flavor, Guest, compare, gate, product};
use serde_json::{Value, json};

use crate::kernel::GuestKernel;
use crate::record::{Record, count};
use crate::watcher::Watch;
use crate::{barrier, hidden, inside, laws};

/// How often a truth may change during its check.
const ATTEMPTS: u32 = 5;
/// Number of programs that the agent loads.
const PROGRAMS: usize = 14;
/// Barriers after which every program was read again: a whole scan a second reads them all.
const BARRIERS: u32 = 7;

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

/// Waits until a scan lists no object. The kernel frees programs some time after their last user.
fn assert_none(guest: &Guest) {
    barrier::wait_for_scan(guest, "bpf", "no object", |lines| lines.is_empty().then_some(()));
}

/// The attachments without a link: type of attachment and number of the program, by name.
fn attachments(lines: &[Value]) -> BTreeMap<&str, (&str, &Value)> {
    let of = |kind: &'static str| lines.iter().filter(move |line| line["ebpf_object"] == kind);
    let name = |id: &Value| {
        let program = of("program").find(|line| line["ebpf_id"] == *id);
        program.and_then(|line| line["ebpf_name"].as_str()).expect("its program has a name")
    };
    of("attachment")
        .map(|line| {
            let places = [
                "ebpf_target_interface_index",
                "ebpf_target_control_group_id",
                "ebpf_target_tracepoint",
            ];
            let place = places.into_iter().find(|key| !line[*key].is_null()).expect("a place");
            let kind = line["ebpf_attach_type"].as_str().expect("a type");
            (name(&line["ebpf_program_id"]), (kind, &line[place]))
        })
        .collect()
}

fn objects_are_listed(flavor: Flavor) {
    let mut guest = inside::boot(flavor);
    // The init of these guests loads none.
    assert_none(&guest);
    let answer = guest.agent("bpf open").unwrap();
    assert!(answer.is_empty(), "{}", answer.join("\n"));
    assert!(assert_exact(&mut guest) > PROGRAMS);
    let lines = inside::scan(&guest, "bpf");
    let helpers = helpers(&lines);
    assert_eq!(helpers["writes_to_user"], &json!(["bpf_probe_write_user"]));
    assert_eq!(helpers["signals"], &json!(["bpf_send_signal"]));
    assert_eq!((helpers["asks"], helpers["filter"]), (&Value::Null, &Value::Null));
    let attached = attachments(&lines);
    let mut kinds: Vec<_> = attached.iter().map(|(name, (kind, _))| (*name, *kind)).collect();
    // tcx is there since v6.6.
    if matches!(flavor, Flavor::V5_10 | Flavor::V6_1) {
        kinds.insert(1, ("classifier", "tcx_ingress"));
    }
    let expected = [
        ("by_netlink", "xdp"),
        ("classifier", "tcx_ingress"),
        ("connects", "cgroup_inet4_connect"),
        ("devices", "cgroup_device"),
        ("forks", "perf_event"),
    ];
    assert_eq!(kinds, expected);
    let index = inside::run(&mut guest, "cat /sys/class/net/dummy0/ifindex");
    assert_eq!(attached["by_netlink"].1.to_string(), index[0]);
    assert_eq!(attached["forks"].1, "sched_process_fork");
    // The number of the first group is that of its directory.
    let group = inside::run(&mut guest, "stat -c %i /sys/fs/cgroup");
    assert_eq!(attached["devices"].1.to_string(), group[0]);
    let pinned: Vec<_> = lines.iter().filter(|line| !line["ebpf_pinned_path"].is_null()).collect();
    assert_eq!(pinned.len(), 1, "{pinned:#?}");
    assert_eq!(pinned[0]["ebpf_name"], "filter");
    assert_eq!(pinned[0]["ebpf_pinned_path"], "/folder/filter");
    // The agent is no part of a truth, but it holds them all.
    let objects = || lines.iter().filter(|line| line["ebpf_object"] != "attachment");
    let held = objects().filter(|line| line["ebpf_holder_process_id"].is_u64());
    assert_eq!(held.count(), objects().count(), "{lines:#?}");
    guest.agent("bpf close").unwrap();
    assert_none(&guest);
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

fn details(record: &Record) -> &Value {
    record.details("ebpf_program")
}

/// Whether a record is of an activity and about a program.
fn is_of(record: &Record, activity: &str, program: &str) -> bool {
    record.is(activity) && details(record)["ebpf_program_name"] == program
}

/// Programs come and go, two are dangerous, and one is hidden for a while.
fn programs_are_reported(flavor: Flavor) {
    let mut guest = inside::boot(flavor);
    let watcher = Watch::of(&guest).attached();
    barrier::passed(&mut guest, &watcher);
    let before = watcher.seen();
    guest.agent("bpf open").unwrap();
    let wait = |activity: &str, program: &str| {
        watcher.wait_for_since(before, activity, |record| is_of(record, activity, program))
    };
    let loaded = wait("ebpf_program_loaded", "filter");
    assert_eq!(details(&loaded)["ebpf_program_type"], "socket_filter");
    let attached = wait("ebpf_program_attached", "packets");
    assert_eq!(details(&attached)["ebpf_program_attach_target"], "interface 1");
    let attached = wait("ebpf_program_attached", "raw");
    assert_eq!(details(&attached)["ebpf_program_attach_target"], "sched_process_fork");
    let attached = wait("ebpf_program_attached", "by_netlink");
    assert_eq!(details(&attached)["ebpf_program_attach_type"], "xdp");
    assert_eq!(details(&attached)["ebpf_program_link_id"], Value::Null);
    let attached = wait("ebpf_program_attached", "devices");
    let target = details(&attached)["ebpf_program_attach_target"].as_str().unwrap();
    assert!(target.starts_with("cgroup "), "{attached}");
    for (program, helper) in
        [("writes_to_user", "bpf_probe_write_user"), ("signals", "bpf_send_signal")]
    {
        let alert = wait("ebpf_program_dangerous", program);
        assert_eq!(details(&alert)["ebpf_program_helpers"], json!([helper]));
    }
    let (mut kernel, mut place) = (GuestKernel::of(&guest), None);
    hidden::while_paused(&mut guest, || place = Some(kernel.hide_ebpf_program("asks")));
    let alert = wait("ebpf_program_hidden", "asks");
    assert_eq!(alert.0["detection"]["confidence"], "high", "{alert}");
    let views = details(&alert)["ebpf_program_views"].as_array().unwrap();
    assert!(views.contains(&json!("reference")), "{alert}");
    hidden::while_paused(&mut guest, || kernel.show(&place.unwrap()));
    for _ in 0..BARRIERS {
        barrier::passed(&mut guest, &watcher);
    }
    guest.agent("bpf close").unwrap();
    for program in ["packets", "by_netlink", "devices"] {
        wait("ebpf_program_detached", program);
    }
    for program in ["filter", "asks", "signals"] {
        wait("ebpf_program_unloaded", program);
    }
    barrier::passed(&mut guest, &watcher);
    let records = watcher.stop().records;
    laws::hold(&records);
    let count = |activity| count(&records[before..], activity);
    assert_eq!(count("ebpf_program_loaded"), count("ebpf_program_unloaded"));
    assert_eq!(count("ebpf_program_attached"), count("ebpf_program_detached"));
    assert_eq!((count("ebpf_program_dangerous"), count("ebpf_program_hidden")), (2, 1));
}

#[test]
#[ignore = "boots a guest"]
fn programs_of_6_1_are_reported() {
    programs_are_reported(Flavor::V6_1);
}

#[test]
#[ignore = "boots a guest"]
fn programs_of_6_12_are_reported() {
    programs_are_reported(Flavor::V6_12);
}
