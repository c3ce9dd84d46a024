//! `cargo xtask test`: every check of the project in one command, on a fresh host.
//!
//! Format, lints, all tests, and a short run of each fuzz target. A failure does not end the run,
//! so one run shows all failures; the last line is the sum.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Args, value_parser};
use panoptes_rig::{Architecture, Emulator, Flavor, Kernel, headers, initramfs, setup, snapshot};
use panoptes_rig::{strangers, turn, userland};

use crate::cargo::{self, Executable, WORKSPACE};
use crate::machine::Machine;
use crate::results::Count;
use crate::stages::Stages;
use crate::{busy, cost, folders, live, skips, test_programs};

/// Checks format and lints, runs all tests and, briefly, the fuzz targets
///
/// The last line is `N passed, N failed, N skipped`. With any option or name, only tests with
/// guests run.
#[derive(Args, Debug, Eq, PartialEq)]
pub(crate) struct Options {
    /// Run only the tests with guests
    #[arg(long)]
    live: bool,
    /// Number of busy loops beside them
    #[arg(long, value_name = "N")]
    load: Option<usize>,
    /// How often they run
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Run only the tests with guests that have one of these in their names
    names: Vec<String>,
}

impl Options {
    const fn is_live(&self) -> bool {
        self.live || self.load.is_some() || self.repeat.is_some() || !self.names.is_empty()
    }
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let begin = Instant::now();
    let mut stages = Stages::default();
    let count = if options.is_live() {
        live_alone(options, &mut stages)?
    } else {
        everything(&mut stages)?
    };
    println!("== stages\n{}", stages.table().trim_end());
    println!("the slowest stages:\n{}", stages.slowest().trim_end());
    println!("{:8.1} s  in all", begin.elapsed().as_secs_f64());
    skips::print();
    if count.failed > 0 {
        eprintln!("xtask: some checks failed; see above");
    }
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    // The sum stays the last line.
    if count.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// All checks, as in CI.
fn everything(stages: &mut Stages) -> Result<Count, String> {
    let mut count = Count::default();
    let saved = snapshot::folder()?;
    snapshot::use_here(&saved);
    // Fetching waits for the network, building for the processors, so both run at once.
    let (built, prepared, took) = std::thread::scope(|scope| {
        let preparing = scope.spawn(|| {
            let begin = Instant::now();
            (prepare(), begin.elapsed())
        });
        let built = check_and_build(stages, &mut count);
        let (prepared, took) = preparing.join().unwrap_or_else(|_| {
            (Err("the thread that fetches kernels panicked".to_owned()), Duration::ZERO)
        });
        (built, prepared, took)
    });
    stages.note("fetching what guests need, beside the stages before", took);
    prepared?;
    let Some(executables) = built? else { return Ok(count) };
    let machine = Machine::prepare()?;
    count.add(part(stages, "scripts", || crate::scripts::check().map(Count::of_one)));
    count.add(part(stages, "instructions", || cost::check().map(Count::of_one)));
    let record = || crate::recorded::record_all().map(|()| Count::default());
    let live = || live_tests(&executables, &machine, &[], &saved);
    count.add(part(stages, "recording", record));
    count.add(part(stages, "tests without guests", || test_programs::run(&executables, &machine)));
    count.add(part(stages, "fuzz targets", fuzz_targets));
    count.add(part(stages, "live tests", live));
    Ok(count)
}

/// Runs one stage. A stage that cannot run counts as one failure, and the next stages run.
pub(crate) fn part(
    stages: &mut Stages,
    name: &str,
    work: impl FnOnce() -> Result<Count, String>,
) -> Count {
    stages.run(name, work).unwrap_or_else(|error| {
        println!("== FAILED: {name}: {error}");
        Count::of_one(false)
    })
}

/// Checks format and lints, and builds all programs that tests need; `None` if the build fails.
fn check_and_build(
    stages: &mut Stages,
    count: &mut Count,
) -> Result<Option<Vec<Executable>>, String> {
    count.add(stages.run("format", || check(&["fmt", "--all", "--check"]))?);
    let lints =
        ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    count.add(stages.run("lints", || check(&lints))?);
    let built = stages.run("build", build);
    if let Err(error) = &built {
        println!("{error}");
        count.failed += 1;
    }
    Ok(built.ok())
}

/// Builds all tests, and the programs that they use.
fn build() -> Result<Vec<Executable>, String> {
    let mut command = cargo::command();
    command.args(["test", "--no-run"]).args(WORKSPACE);
    cargo::build(command)
}

/// A thousand executions of each fuzz target.
fn fuzz_targets() -> Result<Count, String> {
    let outcome = crate::fuzz::smoke()?;
    let count = |names: &[String]| names.len() as u64;
    println!("fuzz targets: {} passed, failed: {:?}", outcome.passed.len(), outcome.failed);
    Ok(Count { passed: count(&outcome.passed), failed: count(&outcome.failed), skipped: 0 })
}

/// Runs only the tests with guests, as often as requested.
fn live_alone(options: &Options, stages: &mut Stages) -> Result<Count, String> {
    stages.run("fetching what guests need", prepare)?;
    let executables = stages.run("build", build)?;
    let machine = Machine::prepare()?;
    let mut count = Count::default();
    let (load, repeat) = (options.load.unwrap_or(0), options.repeat.unwrap_or(1));
    busy::spin(load);
    for run in 1..=repeat {
        let name = format!("live tests, {run} of {repeat}, {load} busy loops");
        let saved = snapshot::folder()?;
        let names = &options.names;
        count.add(stages.run(&name, || live_tests(&executables, &machine, names, &saved))?);
    }
    Ok(count)
}

/// Runs live tests and prints their results.
fn live_tests(
    executables: &[Executable],
    machine: &Machine,
    names: &[String],
    saved: &Path,
) -> Result<Count, String> {
    let tests = live::list(executables, names)?;
    let folder = folders::numbered("live")?;
    println!("logs: {}", folder.display());
    let report = live::run(tests, machine, saved, &folder);
    report.print();
    let skipped = report.skipped();
    let count = Count { passed: report.passed(), failed: report.failed(), skipped };
    println!("live tests: {} passed, {} failed, {} skipped", count.passed, count.failed, skipped);
    Ok(count)
}

/// Fetches what the tests of real kernels need, so a host without it fails before any test runs.
fn prepare() -> Result<(), String> {
    let _preparing = turn::to_prepare()?;
    setup::ensure_for_tests()?;
    let emulator = Emulator::obtain(Architecture::Amd64)?;
    println!("guests run in QEMU {}", emulator.version());
    panoptes_rig::shellcheck()?;
    panoptes_rig::valgrind()?;
    for flavor in Flavor::EVERY_DAY {
        let kernel = Kernel::obtain(*flavor)?;
        initramfs::build(&kernel)?;
        if headers::FLAVORS.contains(flavor)
            && let Err(error) = headers::obtain(&kernel)
        {
            // A mirror has those of its newest kernels alone: the test that takes them is skipped.
            println!("no headers of {}: {error}", kernel.release());
        }
    }
    userland::debian(Architecture::Amd64)?;
    strangers()?;
    Ok(())
}

/// Runs one cargo command as a check.
fn check(arguments: &[&str]) -> Result<Count, String> {
    println!("cargo {}", arguments.join(" "));
    let mut command = cargo::command();
    command.args(arguments);
    let held = cargo::watched(command)?;
    if !held {
        println!("== FAILED: cargo {}", arguments.join(" "));
    }
    Ok(Count::of_one(held))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn options_are_for_the_live_tests_alone() {
        let parse = |line: &str| -> Result<Options, clap::Error> {
            let words = format!("xtask test {line}");
            match crate::Command::try_parse_from(words.split_whitespace())? {
                crate::Command::Test(options) => Ok(options),
                other => panic!("{other:?}"),
            }
        };
        assert!(!parse("").unwrap().is_live());
        assert!(parse("--live").unwrap().is_live());
        let options = parse("--load 4 --repeat 5").unwrap();
        assert_eq!((options.load, options.repeat, options.is_live()), (Some(4), Some(5), true));
        let options = parse("acts storm").unwrap();
        assert_eq!(
            (&options.names[..], options.is_live()),
            (&["acts".into(), "storm".into()][..], true)
        );
        for wrong in ["--load", "--load x", "--repeat -1", "--repeat 0", "--loud 4"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
