//! Runs cargo and finds the programs that it built.

use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

pub(crate) use panoptes_needs::cargo::command;
use serde_json::Value;

use crate::silence::{self, End, SILENCE_MAX};

/// All crates but the benchmarks, which have no tests and take long to build. Every command that
/// builds for tests names the same crates and features; otherwise cargo would rebuild most of them.
pub(crate) const WORKSPACE: [&str; 4] =
    ["--workspace", "--exclude", "panoptes-benches", "--all-features"];

/// Optimising at link time prints nothing, and takes long on a slow machine.
const OPTIMISING_MAX: Duration = Duration::from_hours(1);

/// A program that cargo built.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Executable {
    /// The name of a test's file, an example or a program.
    pub(crate) name: String,
    /// `bin`, `example`, `test`, `lib`, …
    pub(crate) kind: String,
    /// Whether it is the test harness of that target.
    pub(crate) is_test: bool,
    /// The folder of its package, in which cargo runs its tests.
    pub(crate) folder: PathBuf,
    pub(crate) path: PathBuf,
}

/// Runs a command to its end and returns whether it succeeded; its output goes to the terminal.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool, String> {
    let status = command.status();
    let wrong = |e| format!("cannot start {}: {e}", command.get_program().display());
    Ok(status.map_err(wrong)?.success())
}

/// Runs a command to its end; its output goes to the terminal. Returns an error with `title` if the
/// command fails.
pub(crate) fn must(command: &mut Command, title: &str) -> Result<(), String> {
    succeeds(command)?.then_some(()).ok_or_else(|| format!("{title} failed; see above"))
}

/// Runs a command to its end and passes on each line of its output meanwhile.
pub(crate) fn each_line(
    command: &mut Command,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let wrong = |e| format!("cannot run {name}: {e}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(wrong)?;
    let output = child.stdout.take().ok_or("a program has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        on_line(&String::from_utf8_lossy(&line.map_err(wrong)?));
    }
    child.wait().map_err(wrong)
}

/// Runs a cargo command that builds, and returns the programs that it built or found to be current.
/// It fails if it prints nothing for minutes.
pub(crate) fn build(command: Command) -> Result<Vec<Executable>, String> {
    build_within(command, SILENCE_MAX, &[])
}

/// The same for `cargo rustc`, with arguments of rustc.
pub(crate) fn build_with(command: Command, rustc: &[&str]) -> Result<Vec<Executable>, String> {
    build_within(command, SILENCE_MAX, rustc)
}

fn build_within(
    mut command: Command,
    silence_max: Duration,
    rustc: &[&str],
) -> Result<Vec<Executable>, String> {
    let words = words(&command);
    command.arg("--message-format=json-render-diagnostics");
    if !rustc.is_empty() {
        command.arg("--").args(rustc);
    }
    let mut executables = Vec::new();
    // Only messages begin with a brace.
    let succeeds = shown(command, silence_max, |line| {
        executables.extend(executable(line));
        !line.starts_with('{')
    })?;
    if succeeds { Ok(executables) } else { Err(format!("`{words}` failed; see above")) }
}

/// Runs a cargo command and prints its output as it comes. Returns whether it succeeded; it fails
/// if it prints nothing for minutes.
pub(crate) fn watched(command: Command) -> Result<bool, String> {
    shown(command, SILENCE_MAX, |_| true)
}

/// The same; prints only the lines for which `is_shown` is true.
fn shown(
    mut command: Command,
    silence_max: Duration,
    mut is_shown: impl FnMut(&str) -> bool,
) -> Result<bool, String> {
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let words = words(&command);
    let end = silence::run(command, silence_max, |line| {
        if is_shown(line) {
            println!("{line}");
        }
    });
    match end.map_err(|error| format!("cannot run `{words}`: {error}"))? {
        End::Status(status) => Ok(status.success()),
        End::Silent => {
            let minutes = silence_max.as_secs() / 60;
            Err(format!("`{words}` printed nothing for {minutes} minutes and was ended"))
        }
    }
}

/// A command as people type it.
fn words(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    let words = std::iter::once("cargo".to_owned()).chain(words);
    words.collect::<Vec<_>>().join(" ")
}

/// Runs a command of cargo's that builds, and returns where the program `name` is.
pub(crate) fn program(command: Command, kind: &str, name: &str) -> Result<PathBuf, String> {
    find(&build_within(command, OPTIMISING_MAX, &[])?, kind, name)
}

/// Where the program `name` is among built ones.
pub(crate) fn find(built: &[Executable], kind: &str, name: &str) -> Result<PathBuf, String> {
    let program = built.iter().find(|program| program.kind == kind && program.name == name);
    let program = program.map(|program| program.path.clone());
    program.ok_or_else(|| format!("cargo built no {kind} {name}"))
}

/// Builds an example as for the tests, and runs it.
pub(crate) fn example(name: &str, arguments: &[&Path]) -> Result<(), String> {
    let mut build = command();
    build.args(["build", "--quiet", "--example", name]).args(WORKSPACE);
    let program = program(build, "example", name)?;
    must(Command::new(program).args(arguments), &format!("the example {name}"))
}

/// The program in one of cargo's messages (the Cargo Book, External tools: JSON messages), if the
/// message names one.
fn executable(line: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(line).ok()?;
    let target = &message["target"];
    Some(Executable {
        name: target["name"].as_str()?.to_owned(),
        kind: target["kind"][0].as_str()?.to_owned(),
        is_test: message["profile"]["test"].as_bool()?,
        folder: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
        path: message["executable"].as_str()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_a_message() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/p/rig/Cargo.toml",
            "target":{"kind":["test"],"name":"scan"},"profile":{"test":true},
            "executable":"/t/deps/scan-1"}"#;
        let expected = Executable {
            name: "scan".into(),
            kind: "test".into(),
            is_test: true,
            folder: "/p/rig".into(),
            path: "/t/deps/scan-1".into(),
        };
        assert_eq!(executable(line), Some(expected));
        let library = line.replace(r#""/t/deps/scan-1""#, "null");
        assert_eq!(executable(&library), None);
        assert_eq!(executable("{}"), None);
    }
}
