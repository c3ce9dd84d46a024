//! `panoptes scan` of a real kernel is correct and complete.
//!
//! Here are the two kernels that differ most; `cargo xtask kernels` scans all of them.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use std::time::{Duration, Instant};

use panoptes_bounded as bounded;
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, Report, compare, gate, product, setup};

fn boot(flavor: Flavor, change: impl FnOnce(&mut GuestSpec)) -> Guest {
    setup::ensure().unwrap();
    let mut spec = GuestSpec::new(Kernel::obtain(flavor).unwrap());
    change(&mut spec);
    Guest::boot(&spec).unwrap()
}

fn scan_is_exact(guest: &mut Guest, workload: &str) -> Report {
    for note in guest.agent(workload).unwrap() {
        println!("{note}");
    }
    product::check_scan(guest).unwrap()
}

#[test]
#[ignore = "boots a guest"]
fn zoo_of_the_oldest_kernel_is_scanned_exactly() {
    scan_is_exact(&mut boot(Flavor::V5_10, |_| ()), "zoo");
}

#[test]
#[ignore = "boots a guest"]
fn zoo_of_the_newest_kernel_is_scanned_exactly() {
    let mut guest = boot(Flavor::V7, |spec| {
        spec.five_level = true;
        spec.page_table_isolation = true;
    });
    scan_is_exact(&mut guest, "zoo");
}

/// The agent's load comes to rest, has all that it was asked for beside what the guest had before,
/// and is scanned exactly.
fn load_is_exact(flavor: Flavor) {
    let mut guest = boot(flavor, |spec| spec.memory_mib = 1024);
    let bare = compare::exact(&mut guest, "", 5, |guest| product::scan(guest, &[])).unwrap();
    println!("{bare}");
    let load = "load processes=300 threads=5 fds=50 areas=100 connections=5";
    let report = scan_is_exact(&mut guest, load);
    let ends = 300 * 5 * 2;
    // Its processes have more than these: areas of their program, descriptors that they inherit.
    let counts = [("thread", 1500), ("file_descriptor", 300 * 60), ("memory", 300 * 100)];
    for (kind, count) in counts {
        let expected = bare.kind(kind).truth + count;
        assert!(report.kind(kind).truth >= expected, "{kind}, {expected} expected: {report}");
    }
    let expected = bare.kind("connection").truth + ends;
    assert_eq!(report.kind("connection").truth, expected, "{report}");
}

#[test]
#[ignore = "boots a guest"]
fn load_of_5_10_is_scanned_exactly() {
    load_is_exact(Flavor::V5_10);
}

#[test]
#[ignore = "boots a guest"]
fn load_of_6_12_is_scanned_exactly() {
    load_is_exact(Flavor::V6_12);
}

/// A table of this many descriptors is in vmalloc memory, and so are the kernel's big tables with
/// two nodes.
#[test]
#[ignore = "boots a guest"]
fn twenty_thousand_descriptors_on_two_nodes_are_scanned_exactly() {
    let change = |spec: &mut GuestSpec| {
        spec.memory_mib = 1024;
        spec.numa_nodes = 2;
    };
    let many = "fds process=1 count=20000";
    scan_is_exact(&mut boot(Flavor::V6_1, change), many);
}

/// Guests with a hole below 4 GiB: the file does not show it, the kernel's page tables do.
fn around_the_hole(machine: &str, memory_mib: u64) {
    let change = |spec: &mut GuestSpec| {
        spec.machine = Some(machine.to_owned());
        spec.memory_mib = memory_mib;
    };
    scan_is_exact(&mut boot(Flavor::V6_1, change), "zoo");
}

#[test]
#[ignore = "boots a guest"]
fn zoo_around_the_hole_of_q35_is_scanned_exactly() {
    around_the_hole("q35", 3072);
}

#[test]
#[ignore = "boots a guest"]
fn zoo_around_the_hole_of_i440fx_is_scanned_exactly() {
    if !gate::is_long_allowed("zoo_around_the_hole_of_i440fx", "boots guests of 3 and 4 GiB") {
        return;
    }
    around_the_hole("pc", 3072); // no hole: all of it is low
    around_the_hole("pc", 4096);
}

/// A kernel without type information, for which there is no profile: the error names the kernel and
/// why each source was refused, with the exit code for a kernel that cannot be read.
#[test]
#[ignore = "boots a guest"]
fn kernel_without_types_is_refused_by_name() {
    /// The beginning of BTF (include/uapi/linux/btf.h): its magic, its version and no flags.
    const BTF: [u8; 4] = [0x9f, 0xeb, 1, 0];
    let mut guest = boot(Flavor::V7, |_| ());
    guest.pause().unwrap();
    let mut memory = std::fs::read(guest.ram_path()).unwrap();
    let mut at = 0;
    while let Some(next) = memory[at..].windows(BTF.len()).position(|bytes| bytes == BTF) {
        at += next + BTF.len();
        memory[at - BTF.len()..at].fill(0);
    }
    let without = guest.ram_path().with_extension("without-types");
    std::fs::write(&without, memory).unwrap();
    let mut scan = std::process::Command::new(product::program().unwrap());
    scan.arg("scan").arg(&without).arg("--set=built_in_profiles=false");
    let done = bounded::output_within(&mut scan, bounded::LONG).unwrap();
    let output = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(65), "{output}");
    assert!(done.stdout.is_empty());
    for words in ["no profile fits the kernel", "(7.", "no BTF was found"] {
        assert!(output.contains(words), "{output}");
    }
}

/// The two names, in two folders, that the agent's `renames` gives a file in turn.
const RENAMED: [&str; 2] =
    ["/tmp/renames/left/one", "/tmp/renames/right/two-with-a-name-that-does-not-fit-into-a-dentry"];

/// Maximum time until scans have found both names.
const RENAMED_MAX: Duration = Duration::from_mins(3);

#[test]
#[ignore = "boots a guest"]
fn a_file_that_is_renamed_all_the_time_has_a_path_that_it_had() {
    let mut guest = boot(Flavor::V6_12, |_| ());
    guest.agent("renames").unwrap();
    let (started, mut scans, mut seen) = (Instant::now(), 0, [0; RENAMED.len()]);
    let is_enough =
        |seen: &[i32]| seen.iter().sum::<i32>() > 20 && seen.iter().all(|&count| count > 0);
    while (scans < 80 || !is_enough(&seen)) && started.elapsed() < RENAMED_MAX {
        scans += 1;
        // The machine changes fast, so a scan may fail, but a result must be correct.
        let Ok(lines) = product::scan(&guest, &["--only", "files"]) else { continue };
        for line in lines.iter().filter(|line| line.contains("/tmp/renames")) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = line["file_descriptor_name"].as_str().unwrap();
            let which = RENAMED.iter().position(|known| *known == name);
            seen[which.unwrap_or_else(|| panic!("the file never was {name}"))] += 1;
        }
    }
    println!("{scans} scans saw it under each name: {seen:?}");
    assert!(is_enough(&seen), "{scans} scans saw {seen:?}");
}

/// The alerts of a guest's attestation by a list.
fn attestation(guest: &Guest, list: &std::path::Path) -> Vec<String> {
    let list = format!("default.sbom=[{}]", list.display());
    let lines = product::scan(guest, &["--alerts", "--set", &list]).unwrap();
    lines.into_iter().filter(|line| line.contains("\"foreign_")).collect()
}

#[test]
#[ignore = "boots a guest"]
fn a_guest_is_what_the_sbom_of_its_running_programs_lists() {
    let guest = boot(Flavor::V6_12, |_| ());
    let list = guest.ram_path().with_extension("sbom.json");
    let mut build = std::process::Command::new(product::program().unwrap());
    build.args(["sbom", "build", "--running"]).arg(format!("file:{}", guest.ram_path().display()));
    let done = bounded::output_within(build.arg("-o").arg(&list), bounded::LONG).unwrap();
    let output = String::from_utf8_lossy(&done.stderr);
    // The root is in memory, so every file has all its pages.
    assert_eq!(done.status.code(), Some(0), "{output}");
    println!("{output}");
    assert_eq!(attestation(&guest, &list), Vec::<String>::new());
    std::fs::write(&list, format!("{}\n", "1".repeat(64))).unwrap();
    assert!(!attestation(&guest, &list).is_empty(), "nothing that runs is in this list");
}
