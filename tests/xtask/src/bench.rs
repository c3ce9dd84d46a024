//! `cargo xtask bench`: what a scan costs, against the floor, in one run.
//!
//! A campaign of its own, not part of `cargo xtask test`. The figures are PERFORMANCE.md's.

use std::path::Path;
use std::process::Command;

use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, setup};

use crate::recorded;

pub(crate) const USAGE: &str = "\
  bench [--all]
        scans loaded, paused guests and compares with copying the pages touched, and with each part of
        watching; --all runs the criterion benchmarks of the pieces too
";

/// The loaded guest of PERFORMANCE.md.
const LOAD: &str = "load processes=300 threads=5 fds=50 areas=100 connections=5";

/// Bashes that wait for what their users type.
const SHELLS: &str = "run busybox mkfifo /tmp/silent; for i in $(busybox seq 50); do \
    bash --norc -i <>/tmp/silent >/dev/null 2>&1 & done; sleep 5";
/// Scans of each way.
const RUNS: &str = "100";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let all = match arguments {
        [] => false,
        [word] if word == "--all" => true,
        [word, ..] => return Err(format!("bench has no option {word:?}; see `cargo xtask help`")),
    };
    let text = |e: panoptes_rig::Error| e.to_string();
    setup::ensure().map_err(text)?;
    // Before any guest runs: building takes the processor from it, and it from building.
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
    let ram = ram.to_str().ok_or("the guest's memory file has a name that is no text")?;
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
