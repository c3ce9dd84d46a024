//! Runs the `panoptes` program of the same build.
//!
//! This crate tests guests without depending on the product: it uses the command line, as users do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::command;
use crate::compare::{self, Report};
use crate::error::{Error, Result};
use crate::guest::Guest;

/// The variable that names another program than the one beside the tests.
pub const VARIABLE: &str = "PANOPTES_PROGRAM";

/// The program's path.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return Ok(path.into());
    }
    let test = std::env::current_exe()
        .map_err(|e| Error::new(format!("the path of the test program is unknown: {e}")))?;
    // target/PROFILE/deps/TEST, and examples one folder further up
    let beside = test.ancestors().skip(1).take(3).map(|folder| folder.join("panoptes"));
    beside.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::new(format!(
            "no program `panoptes` beside {}; run `cargo build -p panoptes`, or set {VARIABLE}",
            test.display()
        ))
    })
}

/// The option that makes a scan find the kernel's layout in its memory, even if a table for it is
/// built in.
pub const FROM_MEMORY: &str = "--set=built_in_profiles=false";

/// Scans a guest's memory file, as [`FROM_MEMORY`] does, and returns the printed lines.
pub fn scan(guest: &Guest, arguments: &[&str]) -> Result<Vec<String>> {
    scan_with(&program()?, guest, &[arguments, &[FROM_MEMORY]].concat())
}

/// A truth may change this often during a scan before the check fails.
const ATTEMPTS: u32 = 5;
/// A guest with a workload has more processes than this.
const PROCESSES_MIN: usize = 30;

/// Compares a scan of everything with the truth of a guest that has a workload. It prints the
/// comparison, and returns it, as the error if they differ.
pub fn check_scan(guest: &mut Guest) -> Result<Report> {
    let report = compare::exact(guest, "", ATTEMPTS, |guest| {
        let started = Instant::now();
        let lines = scan(guest, &[]);
        println!("scanned in {:.2} s", started.elapsed().as_secs_f64());
        lines
    })?;
    println!("{report}");
    if !report.is_exact() {
        return Err(Error::new(format!("the scan differs from the truth:\n{report}")));
    }
    if report.kind("process").truth <= PROCESSES_MIN {
        return Err(Error::new(format!("the workload does not run:\n{report}")));
    }
    Ok(report)
}

/// Scans with a program and options of the caller's choice.
pub fn scan_with(program: &Path, guest: &Guest, arguments: &[&str]) -> Result<Vec<String>> {
    let mut scan = Command::new(program);
    scan.arg("scan").arg(format!("file:{}", guest.ram_path().display())).args(arguments);
    Ok(command::output(&mut scan)?.lines().map(str::to_owned).collect())
}
