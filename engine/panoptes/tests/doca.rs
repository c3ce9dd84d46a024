//! `doca:` from the command line, against the stand-in for NVIDIA's library: systems are listed, what can't be opened
//! says why, and a guest behind it is scanned as from its memory file, byte for byte.
#![cfg(feature = "doca")]
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;
use std::process::{Command, Output};

use panoptes_rig::standin::Standin;
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, setup};

fn panoptes(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_panoptes")).args(arguments).output().unwrap()
}

/// The standard output of a run that went well, and what it said.
#[track_caller]
fn done(output: &Output) -> (String, String) {
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    (String::from_utf8(output.stdout.clone()).unwrap(), told)
}

#[track_caller]
fn refused(output: &Output, code: i32, words: &str) {
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(told.contains(words) && told.trim_end().lines().count() == 1, "{told}");
}

/// A stand-in with 64 functions more than the one that has `memory`.
fn standin(memory: &Path, faults: &str) -> Standin {
    Standin::new(&format!(
        "device mlx5_0 0000:03:00.0\nfunction HOST PF {}\nfunctions MT2333XZ06YAMLNXS0D0F0VF 64\n{faults}\n",
        memory.display()
    ))
    .unwrap()
}

fn library(standin: &Standin) -> String {
    format!("service.doca_library_path={}", standin.library().display())
}

fn configuration(standin: &Standin) -> String {
    let path = standin.folder().join("panoptes.yaml");
    let text = format!("service: {{doca_library_path: {}}}", standin.library().display());
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn every_function_is_listed() {
    let memory = tempfile::NamedTempFile::new().unwrap();
    let standin = standin(memory.path(), "");
    let configuration = configuration(&standin);
    let (text, _) = done(&panoptes(&["systems", "--config", &configuration]));
    assert!(text.contains("\ndoca:mlx5_0/HOST "), "{text}");
    assert!(text.contains("\ndoca:mlx5_0/MT2333XZ06YAMLNXS0D0F0VF63  VF  "), "{text}");
    let (text, _) = done(&panoptes(&["systems", "--json", "--config", &configuration]));
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let is_doca = |system: &&serde_json::Value| {
        system["system"].as_str().is_some_and(|address| address.starts_with("doca:"))
    };
    let systems = list["systems"].as_array().unwrap();
    assert_eq!(systems.iter().filter(is_doca).count(), 65);
    assert_eq!(list["doca"]["version"], "3.2.0-standin");
}

#[test]
fn what_cannot_be_opened_says_why() {
    let nowhere = ["scan", "doca:mlx5_0/HOST", "--set", "service.doca_library_path=/nonexistent"];
    refused(&panoptes(&nowhere), 66, "cannot load NVIDIA DOCA (/nonexistent/libdoca_common.so.2");
    let memory = tempfile::NamedTempFile::new().unwrap();
    memory.as_file().set_len(1 << 20).unwrap();
    let standin = standin(memory.path(), "");
    let library = library(&standin);
    let scan = |system, more: &[&str]| {
        let arguments = [&["scan", system, "--set", &library][..], more].concat();
        panoptes(&arguments)
    };
    refused(&scan("doca:mlx5_9/HOST", &[]), 66, "there are mlx5_0");
    refused(&scan("doca:mlx5_0/NONE", &[]), 66, "no function with the VUID NONE among its 65");
    // Memory that no kernel has ever run in does not tell where it is.
    refused(&scan("doca:mlx5_0/HOST", &[]), 66, "give memory_regions_path");
    let regions = standin.folder().join("regions");
    let set = format!("default.memory_regions_path={}", regions.display());
    refused(&scan("doca:mlx5_0/HOST", &["--set", &set]), 66, "No such file");
    std::fs::write(&regions, "nonsense").unwrap();
    refused(&scan("doca:mlx5_0/HOST", &["--set", &set]), 78, "neither App Shield's");
    std::fs::write(&regions, r#"{"allowed_regions": {"0": {"length": 1048575, "start": 0},}}"#)
        .unwrap();
    let told = scan("doca:mlx5_0/HOST", &["--set", &set]);
    assert_eq!(told.status.code(), Some(65), "{told:?}");
}

/// A paused guest after some work, of `mib` MiB.
fn paused(five_level: bool) -> Guest {
    setup::ensure().unwrap();
    let mut spec = GuestSpec::new(Kernel::obtain(Flavor::V6_12).unwrap());
    spec.five_level = five_level;
    let mut guest = Guest::boot(&spec).unwrap();
    guest.agent("zoo").unwrap();
    guest.pause().unwrap();
    guest
}

fn scanned_as_from_its_file(five_level: bool) {
    let guest = paused(five_level);
    let (expected, _) = done(&panoptes(&["scan", &format!("file:{}", guest.ram_path().display())]));
    assert!(expected.lines().count() > 500, "{expected}");

    let good = standin(guest.ram_path(), "");
    let (lines, told) = done(&panoptes(&["scan", "doca:mlx5_0/HOST", "--set", &library(&good)]));
    assert!(lines == expected, "the same lines, with the memory found from its first mebibyte");
    println!("{told}");

    let regions = good.folder().join("regions.json");
    let bytes = std::fs::metadata(guest.ram_path()).unwrap().len();
    let text =
        format!(r#"{{"allowed_regions": {{"0": {{"length": {}, "start": 0}},}}}}"#, bytes - 1);
    std::fs::write(&regions, text).unwrap();
    let set = format!("default.memory_regions_path={}", regions.display());
    let arguments = ["scan", "doca:mlx5_0/HOST", "--set", &library(&good), "--set", &set];
    assert!(done(&panoptes(&arguments)).0 == expected, "the same lines, with a file of regions");

    // What can be mended is, and changes nothing.
    let poor = standin(guest.ram_path(), "error_every 97\nshort_every 89\nagain_every 7\ntasks 16");
    let (lines, _) = done(&panoptes(&["scan", "doca:mlx5_0/HOST", "--set", &library(&poor)]));
    assert!(lines == expected, "the same lines from a device that fails now and then");

    // What can't is counted and said, and what is left is printed.
    let bad = standin(guest.ram_path(), "lost_every 30000");
    let output = panoptes(&["scan", "doca:mlx5_0/HOST", "--set", &library(&bad), "--set", &set]);
    let told = String::from_utf8(output.stderr).unwrap();
    println!("{told}");
    assert!(matches!(output.status.code(), Some(0 | 1 | 65)), "{told}");
    assert!(told.contains("reads failed in DMA"), "{told}");
}

#[test]
#[ignore = "boots a guest"]
fn a_guest_is_scanned_as_from_its_file() {
    scanned_as_from_its_file(false);
}

#[test]
#[ignore = "boots a guest"]
fn a_guest_with_five_levels_is_scanned_as_from_its_file() {
    scanned_as_from_its_file(true);
}
