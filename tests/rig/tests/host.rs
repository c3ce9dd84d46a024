//! A machine scans itself: the program runs inside a guest, on `host:`.
//!
//! `cargo xtask arm64` does the same on an arm64 machine.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, gate, itself, setup};

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
    let built = bounded::status_within(
        Command::new(cargo)
            .args(["build", "-p", "panoptes", "--target", TARGET, "--target-dir"])
            .arg(&folder)
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))),
        bounded::LONG,
    )
    .unwrap();
    assert!(built.success());
    folder.join(TARGET).join("debug/panoptes")
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
    let report = itself::exact(&mut guest, "/bin/panoptes").unwrap();
    println!("{report}");
    assert!(report.is_exact(), "{report}");
    assert!(report.kind("process").truth > 30, "{report}");
}
