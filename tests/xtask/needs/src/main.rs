//! `cargo xtask`: prints at once what follows, builds xtask, and starts it.
//!
//! This program depends on no other crate, so that its first line comes within seconds; xtask takes
//! minutes to build.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use panoptes_needs::{User, cargo, install};

/// What xtask's commands take on two processors, the build of xtask excluded.
const TEST_TIME: &str = "about 35 minutes on two processors";
const DEMO_TIME: &str = "about 5 minutes on two processors";
const BUILD_TIME: &str = "1 to 3 minutes";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match start(&arguments) {
        Ok(never) => match never {},
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Builds xtask and becomes it.
fn start(arguments: &[OsString]) -> Result<std::convert::Infallible, String> {
    let own = std::env::current_exe().map_err(|error| format!("it has no path: {error}"))?;
    let program = own.with_file_name("xtask");
    let first = arguments.first().map(|word| word.to_string_lossy().into_owned());
    for line in plan(first.as_deref().unwrap_or_default(), &program, &install::missing) {
        eprintln!("xtask: {line}");
    }
    build()?;
    Err(format!("{}: {}", program.display(), Command::new(&program).args(arguments).exec()))
}

/// The first lines: the program that is built, the packages that are installed, and the time.
fn plan(
    command: &str,
    program: &Path,
    missing: &dyn Fn(&[User]) -> Vec<&'static panoptes_needs::Need>,
) -> Vec<String> {
    let (users, fetched, time) = match command {
        "test" => (
            &[User::Build, User::Guests, User::Test, User::Fuzz][..],
            "QEMU, kernels, and programs that traffic is made with and compared to (600 MB)",
            TEST_TIME,
        ),
        "demo" => {
            (&[User::Build, User::Guests][..], "QEMU, busybox and a kernel (200 MB)", DEMO_TIME)
        }
        _ => (&[][..], "", ""),
    };
    let mut lines = Vec::new();
    if !program.exists() {
        lines.push(format!("first builds itself, in {BUILD_TIME}"));
    }
    if time.is_empty() {
        return lines;
    }
    let packages = install::packages(&missing(users));
    let installs = if packages.is_empty() {
        "installs nothing".to_owned()
    } else {
        format!("installs {}", packages.join(", "))
    };
    lines.push(format!("{command}: {installs}; takes {time}"));
    lines.push(format!("{command}: fetches into the cache what it lacks of {fetched}"));
    lines
}

/// Builds xtask; cargo's lines are shown, but for the last one.
fn build() -> Result<(), String> {
    let mut command = cargo::command();
    if std::io::stderr().is_terminal() && std::env::var_os("CARGO_TERM_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command.args(["build", "--package", "xtask"]).stderr(Stdio::piped());
    let wrong = |error| format!("cannot run cargo: {error}");
    let mut child = command.spawn().map_err(wrong)?;
    for line in BufReader::new(child.stderr.take().ok_or("cargo has no output")?).lines() {
        let line = line.map_err(wrong)?;
        if !line.contains("Finished") {
            eprintln!("{line}");
        }
    }
    let status = child.wait().map_err(wrong)?;
    if status.success() { Ok(()) } else { Err("it could not be built; see above".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_name_what_is_built_installed_and_fetched() {
        let none = |_: &[User]| Vec::new();
        let gcc = |users: &[User]| {
            assert!(users.contains(&User::Guests));
            vec![panoptes_needs::Need::named("gcc"), panoptes_needs::Need::named("cc")]
        };
        let here = Path::new("/");
        let lines = plan("demo", Path::new("/nonexistent/xtask"), &gcc);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("minutes") && lines[1].contains("installs gcc;"), "{lines:?}");
        assert!(plan("test", here, &none)[0].contains("installs nothing; takes about"));
        assert_eq!(plan("guest", here, &none), [""; 0]);
    }
}
