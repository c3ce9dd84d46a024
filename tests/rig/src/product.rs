//! Runs the `panoptes` program of the same build.
//!
//! This crate tests guests without depending on the product: it uses the command line, as users do.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
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

/// Scans a guest's memory file and returns the printed lines. The kernel's layout is found in its
/// memory, even if a table for it is built in.
pub fn scan(guest: &Guest, arguments: &[&str]) -> Result<Vec<String>> {
    scan_with(&program()?, guest, arguments)
}

/// The same with a program of the caller's choice.
pub fn scan_with(program: &Path, guest: &Guest, arguments: &[&str]) -> Result<Vec<String>> {
    lines_of(scan_command(program, guest, arguments).arg("--set=built_in_profiles=false"))
}

/// The same with the profile that the program has built in for the guest's kernel, if any.
pub fn scan_built_in(program: &Path, guest: &Guest, arguments: &[&str]) -> Result<Vec<String>> {
    lines_of(&mut scan_command(program, guest, arguments))
}

fn scan_command(program: &Path, guest: &Guest, arguments: &[&str]) -> Command {
    let mut scan = Command::new(program);
    scan.arg("scan").arg(format!("file:{}", guest.ram_path().display())).args(arguments);
    scan
}

fn lines_of(scan: &mut Command) -> Result<Vec<String>> {
    Ok(command::output(scan)?.lines().map(str::to_owned).collect())
}
