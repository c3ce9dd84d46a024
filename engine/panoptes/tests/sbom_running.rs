//! `panoptes sbom build --running`: what runs in a machine becomes the SBOM that the same machine
//! is checked with.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use panoptes_bounded as bounded;
use panoptes_synthetic::{Machine, profile};
use serde_json::Value;
use tempfile::TempDir;

const TOOL: &str = "/usr/bin/tool";
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";

/// A folder with the memory of a machine in which all files that run have content, the tool this
/// one.
fn folder(tool: &[u8]) -> (TempDir, Machine) {
    let mut machine = Machine::builder(&profile("6.1.0-50-amd64")).build();
    let pid = machine.fork(1);
    machine.exec(pid, TOOL, &["tool"]);
    let pids: Vec<u32> = machine.processes().map(|process| process.pid).collect();
    let paths = pids.into_iter().filter_map(|pid| machine.executable(pid));
    for path in paths.collect::<Vec<_>>() {
        machine.write_file(&path, format!("\x7fELF of {path}").as_bytes());
    }
    machine.write_file(LIBRARY, &[b"\x7fELF", vec![3; 20_000].as_slice()].concat());
    machine.write_file(TOOL, tool);
    machine.tick(60_000_000_000);
    let folder = tempfile::tempdir().expect("there is room for a folder");
    dump(&mut machine, folder.path());
    (folder, machine)
}

fn dump(machine: &mut Machine, folder: &Path) {
    machine.memory().flush();
    fs::write(folder.join("memory"), machine.memory().bytes()).expect("there is room for a file");
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panoptes"));
    command.args(arguments).current_dir(folder).env("HOME", folder);
    bounded::output(&mut command).expect("the program starts")
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The names of the alerts of a check with the SBOM.
fn alerts(folder: &Path) -> Vec<String> {
    let arguments = ["scan", "memory", "--alerts", "--set", "default.sbom=[sbom.json]"];
    let output = run(folder, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    records.map(|record| record["activity_data"]["name"].as_str().unwrap_or("").into()).collect()
}

#[test]
fn a_machine_is_what_its_own_sbom_lists() {
    let tool = [b"\x7fELF", &[1; 9_000][..]].concat();
    let (folder, mut machine) = folder(&tool);
    let folder = folder.path();
    let output = run(folder, &["sbom", "build", "--running", "memory", "-o", "sbom.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(err(&output).contains("a running machine: "), "{}", err(&output));
    assert!(err(&output).contains("trust it first"), "{}", err(&output));
    let sbom: Value =
        serde_json::from_slice(&fs::read(folder.join("sbom.json")).expect("it was written"))
            .expect("it is JSON");
    let schema = run(folder, &["schema", "--sbom"]).stdout;
    let schema: Value = serde_json::from_slice(&schema).expect("it is JSON");
    jsonschema::validate(&schema, &sbom).expect("the SBOM is as the schema says");
    assert_eq!(sbom["subject"]["kind"], "root");
    let file = |path: &str| {
        let files = sbom["files"].as_array().expect("it has files");
        files.iter().find(|file| file["path"] == path).expect("the file is listed").clone()
    };
    assert_eq!(file(TOOL)["size"], 9_004);
    // A base64 text of three digests.
    assert_eq!(file(TOOL)["pages"].as_str().map(str::len), Some(64));
    assert_eq!(file(LIBRARY)["size"], 20_004);

    assert_eq!(alerts(folder), Vec::<String>::new());
    machine.write_file(TOOL, &[b"\x7fELF", &[2; 9_000][..]].concat());
    machine.tick(60_000_000_000);
    dump(&mut machine, folder);
    assert_eq!(alerts(folder), ["foreign_binary_executed"]);
}

#[test]
fn files_that_are_not_in_memory_are_named() {
    let (folder, mut machine) = folder(b"\x7fELF of a tool");
    machine.set_size(TOOL, 3 * 4096);
    machine.tick(60_000_000_000);
    dump(&mut machine, folder.path());
    let output = run(folder.path(), &["sbom", "build", "--running", "memory"]);
    let err = err(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("/usr/bin/tool is left out: 2 of its 3 pages are not in memory"), "{err}");
    assert!(err.contains("missing in memory: 2 pages of 1 file"), "{err}");
    let sbom: Value = serde_json::from_slice(&output.stdout).expect("the rest is printed");
    let files = sbom["files"].as_array().expect("it has files");
    assert!(files.iter().all(|file| file["path"] != TOOL) && files.len() > 1, "{sbom}");
}

#[test]
fn what_does_not_apply_to_a_machine_is_refused() {
    let (folder, _) = folder(b"\x7fELF");
    for arguments in [
        &["sbom", "build"][..],
        &["sbom", "build", ".", "--running", "memory"],
        &["sbom", "build", "--running", "memory", "--trust-rpm"],
        &["sbom", "build", ".", "--config", "x"],
    ] {
        let output = run(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
    }
    let arguments = ["sbom", "build", "--running", "memory", "--container", "web-*"];
    let output = run(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(err(&output).contains("no process in such a container"), "{}", err(&output));
    let arguments = ["sbom", "build", "--running", "memory", "--exclude", "/usr/bin"];
    let output = run(folder.path(), &arguments);
    let sbom = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(sbom.contains(LIBRARY) && !sbom.contains("/usr/bin/"), "{}", err(&output));
}
