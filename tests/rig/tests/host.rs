//! A machine scans itself: the program runs inside a guest, on `host:`.
//!
//! Nothing can be paused here, and one process is missing from the truth: the program's own.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, Truth, compare, gate, setup};
use serde_json::Value;

/// A truth may change this often during a scan before the test fails.
const ATTEMPTS: u32 = 5;
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The program without shared libraries, which the guest does not have.
fn static_program() -> PathBuf {
    if let Some(path) = std::env::var_os("PANOPTES_STATIC_PROGRAM") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().find(|folder| folder.ends_with("debug")).unwrap();
    // A folder of its own: other flags would cause a rebuild of everything in the common one.
    let folder = target.parent().unwrap().join("static");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "-p", "panoptes", "--target", TARGET, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .status()
        .unwrap();
    assert!(built.success());
    folder.join(TARGET).join("debug/panoptes")
}

/// The program's scan of the machine that it runs on, without the program itself.
fn scan_of_itself(guest: &mut Guest) -> Vec<String> {
    let lines =
        guest.agent("run exec /bin/panoptes scan host: 2>/run/errors").unwrap_or_else(|error| {
            panic!("{error}: {:?}", guest.agent("run cat /run/errors"));
        });
    let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let own: Vec<&Value> = parsed
        .iter()
        .filter(|line| line["kind"] == "process" && line["process_name"] == "panoptes")
        .map(|line| &line["process_id"])
        .collect();
    assert_eq!(own.len(), 1, "the program sees itself, once");
    let is_own = |line: &Value| line["process_id"] == *own[0];
    assert!(parsed.iter().filter(|line| is_own(line)).count() > 10, "and what it has open");
    let others = lines.iter().zip(&parsed).filter(|(_, line)| !is_own(line));
    others.map(|(line, _)| line.clone()).collect()
}

#[test]
#[ignore = "boots a guest"]
fn a_machine_scans_itself_exactly() {
    if !gate::is_long_allowed("a_machine_scans_itself_exactly", "builds the program once more") {
        return;
    }
    setup::ensure().unwrap();
    let mut spec = GuestSpec::new(Kernel::obtain(Flavor::V6_1).unwrap());
    spec.files = vec![("bin/panoptes".to_owned(), static_program())];
    let mut guest = Guest::boot(&spec).unwrap();
    guest.agent("zoo").unwrap();
    let summary = guest.agent("run /bin/panoptes scan host: --summary 2>&1; true").unwrap();
    println!("{}", summary.join("\n"));
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let before = Truth::of(&mut guest, "").unwrap();
        let lines = scan_of_itself(&mut guest);
        let after = Truth::of(&mut guest, "").unwrap();
        let report = compare::compare(&before, &after, &lines).unwrap();
        let exact = report.is_exact();
        last = Some(report);
        if exact {
            break;
        }
    }
    let report = last.unwrap();
    println!("{report}");
    assert!(report.is_exact(), "{report}");
    assert!(report.kind("process").truth > 30, "{report}");
}
