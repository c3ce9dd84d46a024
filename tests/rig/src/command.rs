//! Runs a program of the host and turns its failure into one readable error.

use std::process::Command;

use crate::error::{Error, Result};

/// Runs `command` to its end and returns its standard output as text.
pub fn output(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output_bytes(command)?).into_owned())
}

/// Runs `command` to its end and returns its standard output.
pub fn output_bytes(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command
        .output()
        .map_err(|e| Error::new(format!("cannot start {name}: {e}; is it installed?")))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let errors = String::from_utf8_lossy(&done.stderr);
    let arguments: Vec<_> = command.get_args().map(std::ffi::OsStr::to_string_lossy).collect();
    Err(Error::new(format!(
        "`{name} {}` failed ({}): {}",
        arguments.join(" "),
        done.status,
        errors.trim()
    )))
}

/// Whether a program with this name is on the search path.
pub(crate) fn exists(name: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}
