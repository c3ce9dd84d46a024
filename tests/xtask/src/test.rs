//! `cargo xtask test`: everything that must hold, in one command, on a fresh machine.
//!
//! Format, lints, then all tests, those that boot guests included. Goes on after a failure, so
//! that one run tells all; the last line is the sum.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use panoptes_rig::{Architecture, Flavor, Kernel, gate, initramfs, setup, turn, userland};

pub(crate) const USAGE: &str = "\
  test  [ARGUMENTS of cargo test]…
        format, lints and all tests, with guests; the last line is `N passed, N failed`
";

/// How many checks held and how many did not.
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

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    prepare()?;
    let mut count = Count::default();
    count.add(check("format", &["fmt", "--all", "--check"])?);
    let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    count.add(check("lints", &lints)?);
    crate::recorded::record_all()?;
    count.add(tests(arguments)?);
    if count.failed > 0 {
        eprintln!("xtask: some checks failed; they are named above");
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    // The sum stays the last line: there is nothing left to say.
    if count.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// What the tests of real kernels need; fetched before anything runs, so that a machine that
/// cannot have it says so at once.
fn prepare() -> Result<(), String> {
    setup::ensure().map_err(|e| e.to_string())?;
    for flavor in Flavor::EVERY_DAY {
        let kernel = Kernel::obtain(*flavor).map_err(|e| e.to_string())?;
        initramfs::build(&kernel).map_err(|e| e.to_string())?;
    }
    userland::debian(Architecture::Amd64).map_err(|e| e.to_string())?;
    Ok(())
}

/// cargo, the one that runs us, with nothing of this run's own environment that changes a build.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// One cargo command that holds or does not.
fn check(what: &str, arguments: &[&str]) -> Result<Count, String> {
    println!("== {what}: cargo {}", arguments.join(" "));
    let status =
        cargo().args(arguments).status().map_err(|e| format!("cannot start cargo: {e}"))?;
    if !status.success() {
        println!("== {what}: FAILED");
    }
    Ok(Count::of_one(status.success()))
}

/// All tests of the workspace, guests included.
fn tests(arguments: &[String]) -> Result<Count, String> {
    println!("== tests: cargo test --workspace");
    let mut command = cargo();
    // Benchmarks have no tests, but take long to build.
    command
        .args(["test", "--workspace", "--exclude", "panoptes-benches", "--no-fail-fast"])
        .args(arguments)
        .env(gate::VARIABLE, "1")
        // A guest under test mostly waits: on two processors two take little more time than one.
        .env(turn::VARIABLE, guests_at_once().to_string());
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
        println!("== tests: FAILED without a result ({status})");
        count.failed += 1;
    }
    if !failures.lines.is_empty() {
        println!("== what failed, once more");
        for line in &failures.lines {
            println!("{line}");
        }
    }
    Ok(count)
}

/// As many guests as there are processors, or a few: each takes up to a GiB of memory.
fn guests_at_once() -> usize {
    const GUESTS_MAX: usize = 4;
    std::thread::available_parallelism().map_or(1, |count| count.get().min(GUESTS_MAX))
}

/// What failing tests said, which is told again at the end: above it are thousands of lines.
#[derive(Debug, Default)]
struct Failures {
    lines: Vec<String>,
    /// How many lines of the test that is being told of are kept already.
    of_this: Option<usize>,
}

impl Failures {
    /// So much of each test is told again, as much of each line.
    const LINES_MAX: usize = 60;
    const LINE_CHARACTERS_MAX: usize = 2000;

    /// Takes a line of libtest's: `---- NAME stdout ----` begins what a test said, `failures:` ends it.
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
    fn what_failed_is_told_again_and_no_more() {
        let mut failures = Failures::default();
        let said = "test one ... FAILED\n\nfailures:\n\n---- one stdout ----\nleft: 1\n\nfailures:\n    one\n";
        said.lines().for_each(|line| failures.take(line));
        assert_eq!(failures.lines, ["---- one stdout ----", "left: 1", ""]);
        (0..100).for_each(|_| failures.take("---- two stdout ----"));
        assert_eq!(failures.lines.len(), 3 + 100);
        (0..100).for_each(|_| failures.take("a"));
        assert_eq!(failures.lines.len(), 3 + 100 + Failures::LINES_MAX - 1);
    }
}
