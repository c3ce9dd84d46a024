//! `cargo xtask bench`: the cost of a scan and its lower bound, measured in one run.
//!
//! A separate campaign, not part of `cargo xtask test`. PERFORMANCE.md has its figures.

use std::path::Path;
use std::process::Command;

use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, setup};

use crate::{before_after, recorded};

pub(crate) const USAGE: &str = "\
  bench [--all]
        scans loaded, paused guests and compares with copying the pages that a scan reads, and
        with each part of watching; --all also runs the criterion benchmarks of single parts
  bench --compare REV
        measures a scan of the recorded images with the code of a revision and with this one
";

/// The loaded guest of PERFORMANCE.md.
const LOAD: &str = "load processes=300 threads=5 fds=50 areas=100 connections=5";

/// Bashes that wait for a user to type.
const SHELLS: &str = "run busybox mkfifo /tmp/silent; for i in $(busybox seq 50); do \
    bash --norc -i <>/tmp/silent >/dev/null 2>&1 & done; sleep 5";
/// Number of scans of each kind.
const RUNS: &str = "100";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let all = match arguments {
        [] => false,
        [word] if word == "--all" => true,
        [word, revision] if word == "--compare" => return before_after::compare(revision),
        [word, ..] => return Err(format!("bench has no option {word:?}; see `cargo xtask help`")),
    };
    let text = |e: panoptes_rig::Error| e.to_string();
    setup::ensure().map_err(text)?;
    // Built before any guest runs: a build and a guest would compete for the processor.
    cargo(&["build", "--release", "--package", "panoptes-benches", "--bins"])?;
    for flavor in [Flavor::V6_1, Flavor::V6_12] {
        let kernel = Kernel::obtain(flavor).map_err(text)?;
        println!("== Linux {}", kernel.release());
        let spec = GuestSpec { memory_mib: 1024, ..GuestSpec::new(kernel) };
        let mut guest = Guest::boot(&spec).map_err(text)?;
        guest.agent(LOAD).map_err(text)?;
        guest.pause().map_err(text)?;
        measure("scan_floor", &[], guest.ram_path())?;
        guest.resume().map_err(text)?;
        guest.agent(SHELLS).map_err(text)?;
        guest.pause().map_err(text)?;
        measure("watch_parts", &["--runs", RUNS], guest.ram_path())?;
    }
    if all {
        recorded::record_all()?;
        cargo(&["bench", "--package", "panoptes-benches"])?;
    }
    Ok(())
}

fn measure(program: &str, options: &[&str], ram: &Path) -> Result<(), String> {
    let ram = ram.to_str().ok_or("the name of the guest's memory file is not UTF-8")?;
    let package =
        ["run", "--release", "--quiet", "--package", "panoptes-benches", "--bin", program];
    cargo(&[&package[..], &["--"], options, &[ram]].concat())
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(arguments)
        .status()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", arguments.join(" "))) }
}
