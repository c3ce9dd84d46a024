//! Runs a program of the host and turns its failure into one readable error.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use panoptes_bounded as bounded;

use crate::error::{Error, Result};

/// How long a program may run: some fetch a gigabyte.
const TIME_MAX: Duration = Duration::from_hours(2);

/// Runs `command` to its end and returns its standard output as text.
pub fn output(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output_bytes(command)?).into_owned())
}

/// As [`output`], of a program that reads `input`.
pub(crate) fn output_from(command: &mut Command, input: impl Into<Stdio>) -> Result<String> {
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = command.spawn().and_then(|it| bounded::wait_with_output_within(it, TIME_MAX));
    Ok(String::from_utf8_lossy(&finished(command, done)?).into_owned())
}

/// Runs `command` to its end and returns its standard output.
pub fn output_bytes(command: &mut Command) -> Result<Vec<u8>> {
    let done = bounded::output_within(command, TIME_MAX);
    finished(command, done)
}

/// The standard output of a program that has ended.
fn finished(command: &Command, done: std::io::Result<Output>) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = done.map_err(|e| Error::new(format!("cannot run {name}: {e}; is it installed?")))?;
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
