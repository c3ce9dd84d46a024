//! `cargo xtask install`: the Debian package on a new machine with systemd.
//!
//! The machine is a guest of the rig (`panoptes_rig::systemd`), with a guest of its own that the
//! service watches. What is done there is in `tests/install/run.sh`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use panoptes_rig::systemd::Machine;
use panoptes_rig::{Flavor, Kernel, death, setup};

use crate::folders::ROOT;
use crate::package;
use crate::platform::Platform;

/// Installs the Debian package on a new machine with systemd, and uses it there
///
/// A line for each step: install, start, a record about a guest at a receiver, reload, restart by
/// the watchdog, stop, purge. Takes some minutes, and root. The last line is `N passed, N failed`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A package that is already built; by default it is built first
    #[arg(long, value_name = "DEB")]
    package: Option<PathBuf>,
}

/// The steps, in order.
const STEPS: [&str; 16] = [
    "boot", "install", "exposure", "guest", "drop_in", "start", "threads", "record", "reload",
    "rotation", "watchdog", "upgrade", "stop", "host", "flow", "purge",
];
/// Longer than all steps may take, each by itself.
const TIMEOUT: Duration = Duration::from_hours(1);
const INTERVAL: Duration = Duration::from_millis(200);
/// How many of the last lines of the machine's console are shown if it reports nothing.
const CONSOLE_LINES: usize = 30;

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let begin = Instant::now();
    setup::ensure()?;
    let package = match &options.package {
        Some(package) => package.clone(),
        None => package::make(&Platform::default())?,
    };
    let kernel = Kernel::obtain(Flavor::V6_1)?;
    let report = death::survive(|| use_it(&kernel, &package))?;
    let passed = passed(&report);
    println!("{:8.1} s  in all", begin.elapsed().as_secs_f64());
    println!("{passed} passed, {} failed", STEPS.len() - passed);
    // The sum stays the last line.
    if passed == STEPS.len() { Ok(()) } else { Err(String::new()) }
}

/// Runs the steps on a new machine; prints the report as it comes, and returns it.
fn use_it(kernel: &Kernel, package: &Path) -> Result<String, String> {
    let script = Path::new(ROOT).join("tests/install/run.sh");
    let machine = Machine::boot(kernel, &[("run", &script), ("panoptes.deb", package)])?;
    let (begin, mut shown) = (Instant::now(), 0);
    loop {
        let is_off = machine.wait(INTERVAL);
        let report = machine.report();
        let whole = report.rfind('\n').map_or(0, |last| last + 1);
        print!("{}", &report[shown..whole]);
        shown = whole;
        if is_off && report.is_empty() {
            let console = machine.console();
            let lines: Vec<_> = console.lines().collect();
            let last = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n    ");
            return Err(format!("the machine has reported nothing; its console:\n    {last}"));
        }
        if is_off {
            return Ok(report);
        }
        if begin.elapsed() > TIMEOUT {
            return Err(format!("the machine has not ended in {} s", TIMEOUT.as_secs()));
        }
    }
}

/// How many steps a report says are done.
fn passed(report: &str) -> usize {
    let is_done = |step: &&&str| {
        let line = format!("ok {step}: ");
        report.lines().any(|one| one.starts_with(&line))
    };
    STEPS.iter().filter(is_done).count()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_lines_of_steps_count() {
        assert_eq!(passed(""), 0);
        assert_eq!(passed("ok boot: systemd (9 s)\nfailed install: no\n    ok stop: y\n"), 1);
        assert_eq!(passed("ok boot: a\nok boot: b\nok other: c\nok stop: d\n"), 2);
        let all = STEPS.map(|step| format!("ok {step}: it\n")).concat();
        assert_eq!(passed(&all), STEPS.len());
    }

    #[test]
    fn the_script_has_these_steps_in_this_order() {
        let path = Path::new(ROOT).join("tests/install/run.sh");
        let script = fs::read_to_string(path).expect("the script exists");
        let run = script.lines().filter_map(|line| line.strip_prefix("step ")?.split_once(' '));
        assert_eq!(run.map(|(name, _)| name).collect::<Vec<_>>(), STEPS);
    }
}
