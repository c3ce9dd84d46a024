//! `cargo xtask test`: everything that must hold, in one command, on a fresh machine.
//!
//! Format, lints, then all tests, those that boot guests included. Goes on after a failure, so
//! that one run tells all; the last line is the sum.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use panoptes_rig::{Architecture, Flavor, Kernel, gate, initramfs, setup, userland};

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
    let mut child = cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(arguments)
        .env(gate::VARIABLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    let output = child.stdout.take().ok_or("cargo test has no output")?;
    let mut count = Count::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|e| format!("cannot read from cargo test: {e}"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        count.add(result_line(&line).unwrap_or_default());
    }
    let status = child.wait().map_err(|e| format!("cannot wait for cargo test: {e}"))?;
    if !status.success() && count.failed == 0 {
        // A test that does not compile, or a harness that was killed, prints no result.
        println!("== tests: FAILED without a result ({status})");
        count.failed += 1;
    }
    Ok(count)
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
}
