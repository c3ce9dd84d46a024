//! `panoptes scan --alerts`: every detector looks at a dump once.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

mod recorded;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use panoptes_bounded as bounded;
use panoptes_decoders::address::KernelVa;
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Scope, Walker};
use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_sources::FileSource;
use panoptes_tables::HashKey;
use serde_json::Value;
use tempfile::TempDir;

use recorded::write_machine;

fn dump() -> Option<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.raw");
    write_machine(std::slice::from_ref(&path)).then_some((folder, path))
}

fn scan(path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panoptes"));
    bounded::output(command.arg("scan").arg(path).args(arguments)).unwrap()
}

fn texts(output: &Output) -> [String; 2] {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap())
}

/// Takes a process out of the kernel's list of tasks, as a rootkit does (`list_del_init`,
/// include/linux/list.h); returns its id.
fn hide(path: &Path) -> u32 {
    let mut source = FileSource::open(path).unwrap();
    let options = DiscoveryOptions { use_builtin: true, ..DiscoveryOptions::default() };
    let profile = discover(&mut source, &options, &mut ()).unwrap();
    let kernel = kernel_of(&profile);
    let mut walker = Walker::new(&Limits::default(), HashKey::new(1));
    let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).unwrap();
    // The list's head is in the kernel's image, which is mapped elsewhere.
    let map = &profile.space.direct_map;
    let leaders = snapshot.processes.iter().filter(|process| process.mm.is_some());
    let task = leaders
        .filter_map(|process| Some(snapshot.threads.at(Some(process.leader))?.task))
        .rfind(|task| map.contains(&task.tasks_next.0) && map.contains(&task.tasks_prev.0))
        .unwrap();
    let file = File::options().write(true).open(path).unwrap();
    let put = |at: KernelVa, value: KernelVa| {
        file.write_all_at(&value.0.to_le_bytes(), at.0 - map.start).unwrap();
    };
    put(task.tasks_prev, task.tasks_next);
    put(task.tasks_next.plus(8), task.tasks_prev);
    let link = task.address.plus(kernel.layouts.task_struct.tasks.offset.into());
    put(link, link);
    put(link.plus(8), link);
    task.tgid
}

#[test]
fn a_dump_without_an_attack_has_no_alert_and_what_was_not_checked_is_named() {
    let Some((_folder, path)) = dump() else { return };
    let output = scan(&path, &["--alerts"]);
    let [alerts, messages] = texts(&output);
    assert_eq!((output.status.code(), &*alerts), (Some(0), ""), "{messages}");
    for what in ["a machine that runs", "no SBOM is configured", "the machine's packets"] {
        assert!(messages.contains(what), "{what}: {messages}");
    }
    assert!(messages.contains(": no alerts\n"), "{messages}");
    let [summary, _] = texts(&scan(&path, &["--summary"]));
    assert!(summary.starts_with("no alerts\nnot checked: "), "{summary}");
}

#[test]
fn a_hidden_process_in_a_dump_is_one_alert_with_the_confidence_of_a_copy() {
    let Some((_folder, path)) = dump() else { return };
    let pid = hide(&path);
    let output = scan(&path, &["--alerts"]);
    let [alerts, messages] = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{messages}");
    let records: Vec<Value> =
        alerts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [record] = &records[..] else { panic!("one alert: {alerts}\n{messages}") };
    assert_eq!(record["activity_data"]["name"], "process_hidden");
    assert_eq!(record["message_type"], "ALERT");
    let reason = record.to_string();
    let process = format!("(process {pid})");
    assert!(reason.contains(&process) && reason.contains("may be torn"), "{reason}");

    let [summary, _] = texts(&scan(&path, &["--summary", "--json"]));
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["alerts"]["process_hidden"], 1);
    let [summary, _] = texts(&scan(&path, &["--summary"]));
    assert!(summary.starts_with("1 alert (`--alerts` prints it)\nprocess_hidden "), "{summary}");
}

#[test]
fn alerts_exclude_objects_and_a_summary() {
    for (more, option) in [("--summary", "--summary"), ("--only=files", "--only")] {
        let output = scan(Path::new("x"), &["--alerts", more]);
        let [_, messages] = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{messages}");
        assert!(messages.contains(option), "{messages}");
    }
}
