//! `cargo xtask test`: every check of the project in one command, on a fresh host.
//!
//! Format, lints, all tests, and a short run of each fuzz target. A failure does not end the run,
//! so one run shows all failures; the last line is the sum.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use panoptes_rig::disk::Format;
use panoptes_rig::{Architecture, Emulator, Flavor, Kernel, initramfs, setup, snapshot};
use panoptes_rig::{strangers, turn, userland};

use crate::busy::Loops;
use crate::cargo::{self, Executable, WORKSPACE};
use crate::live;
use crate::stages::Stages;

pub(crate) const USAGE: &str = "\
  test
        checks format and lints, runs all tests and, briefly, the fuzz targets; the last line is
        `N passed, N failed`
  test [--live] [--load N] [--repeat N] [NAME]…
        runs only the tests with guests, or those with NAME in their name, beside N busy loops,
        N times
";

/// Number of checks that passed and failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    const fn of_one(held: bool) -> Self {
        Self { passed: held as u64, failed: !held as u64 }
    }
}

/// The command's options.
#[derive(Debug, Eq, PartialEq)]
struct Options {
    /// Whether only the tests with guests run.
    is_live: bool,
    /// Number of busy loops beside them.
    load: usize,
    repeat: usize,
    /// Parts of test names; empty for all tests.
    names: Vec<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { is_live: false, load: 0, repeat: 1, names: Vec::new() };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut number = || -> Result<usize, String> {
                let value =
                    words.next().ok_or_else(|| format!("{word} needs a number after it"))?;
                value.parse().map_err(|e| format!("{word} {value}: {e}"))
            };
            match word.as_str() {
                "--live" => {}
                "--load" => options.load = number()?,
                "--repeat" => options.repeat = number()?,
                option if option.starts_with('-') => {
                    return Err(format!("test has no option {option:?}; see `cargo xtask help`"));
                }
                name => options.names.push(name.to_owned()),
            }
            options.is_live = true;
        }
        if options.repeat == 0 {
            return Err("--repeat needs at least 1".to_owned());
        }
        Ok(options)
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let begin = Instant::now();
    let mut stages = Stages::default();
    let count =
        if options.is_live { live_alone(&options, &mut stages)? } else { everything(&mut stages)? };
    println!("== stages\n{}", stages.table().trim_end());
    println!("the slowest stages:\n{}", stages.slowest().trim_end());
    println!("{:8.1} s  in all", begin.elapsed().as_secs_f64());
    if count.failed > 0 {
        eprintln!("xtask: some checks failed; see above");
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    // The sum stays the last line.
    if count.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// All checks, as in CI.
fn everything(stages: &mut Stages) -> Result<Count, String> {
    let mut count = Count::default();
    let saved = snapshot::Folder::new().map_err(|e| e.to_string())?;
    saved.use_here();
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
    count.add(part(stages, "scripts", || crate::scripts::check().map(Count::of_one)));
    count.add(part(stages, "instructions", || crate::cost::check().map(Count::of_one)));
    let record = || crate::recorded::record_all().map(|()| Count::default());
    let live = || live_tests(&executables, &[], saved.path());
    count.add(part(stages, "recording", record));
    count.add(part(stages, "tests without guests", tests_without_guests));
    count.add(part(stages, "fuzz targets", fuzz_targets));
    count.add(part(stages, "live tests", live));
    Ok(count)
}

/// Runs one stage. A stage that cannot run counts as one failure, and the next stages run.
fn part(stages: &mut Stages, name: &str, work: impl FnOnce() -> Result<Count, String>) -> Count {
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
    cargo::build(&[&["test", "--no-run"][..], &WORKSPACE].concat())
}

/// A thousand executions of each fuzz target.
fn fuzz_targets() -> Result<Count, String> {
    let outcome = crate::fuzz::smoke()?;
    let count = |names: &[String]| names.len() as u64;
    println!("fuzz targets: {} passed, failed: {:?}", outcome.passed.len(), outcome.failed);
    Ok(Count { passed: count(&outcome.passed), failed: count(&outcome.failed) })
}

/// Runs only the tests with guests, as often as requested.
fn live_alone(options: &Options, stages: &mut Stages) -> Result<Count, String> {
    stages.run("fetching what guests need", prepare)?;
    let executables = stages.run("build", build)?;
    let mut count = Count::default();
    let _loops = Loops::start(options.load);
    for run in 1..=options.repeat {
        let name = format!("live tests, {run} of {}, {} busy loops", options.repeat, options.load);
        let saved = snapshot::Folder::new().map_err(|e| e.to_string())?;
        let names = &options.names;
        count.add(stages.run(&name, || live_tests(&executables, names, saved.path()))?);
    }
    Ok(count)
}

/// Runs live tests and prints their results.
fn live_tests(executables: &[Executable], names: &[String], saved: &Path) -> Result<Count, String> {
    let tests = live::list(executables, names)?;
    let folder = new_log_folder()?;
    println!("logs: {}", folder.display());
    let report = live::run(tests, saved, &folder);
    report.print();
    let count = Count { passed: report.passed(), failed: report.failed() };
    println!(
        "live tests: {} passed, {} failed, {} skipped",
        count.passed,
        count.failed,
        report.skipped()
    );
    Ok(count)
}

/// A new folder for the logs of one run of the live tests.
fn new_log_folder() -> Result<PathBuf, String> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/live");
    let wrong = |e: std::io::Error| format!("cannot make a folder in {}: {e}", all.display());
    std::fs::create_dir_all(&all).map_err(wrong)?;
    let all = all.canonicalize().map_err(wrong)?;
    let is_made = |folder: &PathBuf| std::fs::create_dir(folder).is_ok();
    (1..10_000)
        .map(|number| all.join(format!("{number:04}")))
        .find(is_made)
        .ok_or_else(|| format!("{} is full of folders", all.display()))
}

/// Fetches what the tests of real kernels need, so a host without it fails before any test runs.
fn prepare() -> Result<(), String> {
    let text = |e: panoptes_rig::Error| e.to_string();
    let _preparing = turn::to_prepare().map_err(text)?;
    setup::ensure().map_err(text)?;
    setup::ensure_for_format(Format::Ext4).map_err(text)?;
    let emulator = Emulator::obtain(Architecture::Amd64).map_err(text)?;
    println!("guests run in QEMU {}", emulator.version());
    panoptes_rig::shellcheck().map_err(text)?;
    panoptes_rig::valgrind().map_err(text)?;
    for flavor in Flavor::EVERY_DAY {
        let kernel = Kernel::obtain(*flavor).map_err(text)?;
        initramfs::build(&kernel).map_err(text)?;
    }
    userland::debian(Architecture::Amd64).map_err(text)?;
    strangers().map(drop).map_err(text)
}

/// Runs one cargo command as a check.
fn check(arguments: &[&str]) -> Result<Count, String> {
    println!("cargo {}", arguments.join(" "));
    let held = cargo::succeeds(arguments)?;
    if !held {
        println!("== FAILED: cargo {}", arguments.join(" "));
    }
    Ok(Count::of_one(held))
}

/// Runs all tests of the workspace but the live ones, which are ignored there.
fn tests_without_guests() -> Result<Count, String> {
    let mut command = cargo::command();
    command.arg("test").args(WORKSPACE).arg("--no-fail-fast");
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|e| format!("cannot start cargo: {e}"))?;
    let output = child.stdout.take().ok_or("cargo test has no output")?;
    let mut count = Count::default();
    let mut failures = Failures::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|e| format!("cannot read from cargo test: {e}"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        count.add(result_line(&line).unwrap_or_default());
        failures.take(&line);
    }
    let status = child.wait().map_err(|e| format!("cannot wait for cargo test: {e}"))?;
    if !status.success() && count.failed == 0 {
        // A test that does not compile, or a harness that was killed, prints no result.
        println!("== FAILED without a result ({status})");
        count.failed += 1;
    }
    if !failures.lines.is_empty() {
        println!("== the failures again");
        for line in &failures.lines {
            println!("{line}");
        }
    }
    Ok(count)
}

/// The output of failing tests, printed again at the end: the first time it is hidden among
/// thousands of lines.
#[derive(Debug, Default)]
struct Failures {
    lines: Vec<String>,
    /// Number of lines kept of the present test.
    of_this: Option<usize>,
}

impl Failures {
    /// Maximum number of lines kept of each test, and of characters of each line.
    const LINES_MAX: usize = 60;
    const LINE_CHARACTERS_MAX: usize = 2000;

    /// Processes a line of libtest: `---- NAME stdout ----` begins a test's output, `failures:`
    /// ends it.
    fn take(&mut self, line: &str) {
        if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.of_this = Some(0);
        } else if line == "failures:" {
            self.of_this = None;
        }
        if let Some(kept) = self.of_this.as_mut().filter(|kept| **kept < Self::LINES_MAX) {
            *kept += 1;
            self.lines.push(line.chars().take(Self::LINE_CHARACTERS_MAX).collect());
        }
    }
}

/// The numbers in libtest's `test result: ok. 3 passed; 0 failed; …`.
fn result_line(line: &str) -> Option<Count> {
    let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |name: &str| {
        rest.split("; ").find_map(|part| part.trim().strip_suffix(name)?.trim().parse().ok())
    };
    Some(Count { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(result_line(line), Some(Count { passed: 12, failed: 0 }));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; finished in 0.00s";
        assert_eq!(result_line(line), Some(Count { passed: 1, failed: 2 }));
        assert_eq!(result_line("test some::name ... ok"), None);
    }

    #[test]
    fn what_failed_is_printed_again_and_no_more() {
        let mut failures = Failures::default();
        let output = "test one ... FAILED\n\nfailures:\n\n\
                      ---- one stdout ----\nleft: 1\n\nfailures:\n    one\n";
        output.lines().for_each(|line| failures.take(line));
        assert_eq!(failures.lines, ["---- one stdout ----", "left: 1", ""]);
        (0..100).for_each(|_| failures.take("---- two stdout ----"));
        assert_eq!(failures.lines.len(), 3 + 100);
        (0..100).for_each(|_| failures.take("a"));
        assert_eq!(failures.lines.len(), 3 + 100 + Failures::LINES_MAX - 1);
    }

    #[test]
    fn options_are_for_the_live_tests_alone() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Options::parse(&words)
        };
        let options = |is_live, load, repeat, names: &[&str]| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            Ok(Options { is_live, load, repeat, names })
        };
        assert_eq!(parse(""), options(false, 0, 1, &[]));
        assert_eq!(parse("--live"), options(true, 0, 1, &[]));
        assert_eq!(parse("--load 4 --repeat 5"), options(true, 4, 5, &[]));
        assert_eq!(parse("acts storm"), options(true, 0, 1, &["acts", "storm"]));
        for wrong in ["--load", "--load x", "--repeat -1", "--repeat 0", "--loud 4"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
