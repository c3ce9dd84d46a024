//! `doca:` on the command line, with the stand-in for NVIDIA's library: systems are listed, a
//! failure to open has its reason, and a scan of a guest is the same as from its memory file, byte
//! for byte.
#![cfg(feature = "doca")]
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;
use std::process::{Command, Output};

use panoptes_bounded as bounded;
use panoptes_rig::standin::Standin;
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, setup};

fn panoptes(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panoptes"));
    bounded::output_within(command.args(arguments), bounded::LONG).unwrap()
}

/// The standard output and standard error of a successful run.
#[track_caller]
fn done(output: &Output) -> (String, String) {
    let err = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{err}");
    (String::from_utf8(output.stdout.clone()).unwrap(), err)
}

#[track_caller]
fn refused(output: &Output, code: i32, words: &str) {
    let err = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(err.contains(words) && err.trim_end().lines().count() == 1, "{err}");
}

/// A stand-in with a function that has `memory`, and 64 more functions.
fn standin(memory: &Path, faults: &str) -> Standin {
    Standin::new(&format!(
        "device mlx5_0 0000:03:00.0\nfunction HOST PF {}\n\
         functions MT2333XZ06YAMLNXS0D0F0VF 64\n{faults}\n",
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
fn a_failure_to_open_has_its_reason() {
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
    // Memory in which no kernel has ever run has no tables of its regions.
    refused(&scan("doca:mlx5_0/HOST", &[]), 66, "give memory_regions_path");
    let regions = standin.folder().join("regions");
    let set = format!("default.memory_regions_path={}", regions.display());
    refused(&scan("doca:mlx5_0/HOST", &["--set", &set]), 66, "No such file");
    std::fs::write(&regions, "nonsense").unwrap();
    refused(&scan("doca:mlx5_0/HOST", &["--set", &set]), 78, "neither App Shield's");
    std::fs::write(&regions, r#"{"allowed_regions": {"0": {"length": 1048575, "start": 0},}}"#)
        .unwrap();
    let output = scan("doca:mlx5_0/HOST", &["--set", &set]);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
}

/// The stand-in writes what the level is, and one line for each receiver of messages.
#[test]
fn the_level_of_the_sdk_makes_it_log_to_standard_error() {
    let memory = tempfile::NamedTempFile::new().unwrap();
    memory.as_file().set_len(1 << 20).unwrap();
    let standin = standin(memory.path(), "");
    let run = |more: &[&str]| {
        let library = library(&standin);
        let output = panoptes(&[&["scan", "doca:mlx5_0/HOST", "--set", &library], more].concat());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(!run(&[]).contains("doca stand-in"));
    let text = run(&["--set", "default.sdk_log_level=30"]);
    assert_eq!(text.matches("doca stand-in: messages come here").count(), 1, "{text}");
    assert_eq!(text.matches("doca stand-in: messages of level 30").count(), 1, "{text}");
}

/// A paused guest after some work.
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
    let (lines, err) = done(&panoptes(&["scan", "doca:mlx5_0/HOST", "--set", &library(&good)]));
    assert!(lines == expected, "the same lines, with the memory found from its first mebibyte");
    println!("{err}");

    let regions = good.folder().join("regions.json");
    let bytes = std::fs::metadata(guest.ram_path()).unwrap().len();
    let text =
        format!(r#"{{"allowed_regions": {{"0": {{"length": {}, "start": 0}},}}}}"#, bytes - 1);
    std::fs::write(&regions, text).unwrap();
    let set = format!("default.memory_regions_path={}", regions.display());
    let arguments = ["scan", "doca:mlx5_0/HOST", "--set", &library(&good), "--set", &set];
    assert!(done(&panoptes(&arguments)).0 == expected, "the same lines, with a file of regions");

    // Errors that a retry can correct change nothing.
    let poor = standin(guest.ram_path(), "error_every 97\nshort_every 89\nagain_every 7\ntasks 16");
    let (lines, _) = done(&panoptes(&["scan", "doca:mlx5_0/HOST", "--set", &library(&poor)]));
    assert!(lines == expected, "the same lines from a device that fails now and then");

    // Other errors are counted and reported, and the rest is printed.
    let bad = standin(guest.ram_path(), "lost_every 30000");
    let output = panoptes(&["scan", "doca:mlx5_0/HOST", "--set", &library(&bad), "--set", &set]);
    let err = String::from_utf8(output.stderr).unwrap();
    println!("{err}");
    assert!(matches!(output.status.code(), Some(0 | 1 | 65)), "{err}");
    assert!(err.contains("reads failed in DMA"), "{err}");
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
