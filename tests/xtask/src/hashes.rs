//! `cargo xtask hashes`: compares hashes from real kernels' page caches with the truth in the
//! guest.
//!
//! A separate campaign, of some minutes per kernel. `cargo xtask test` runs a part of it, and
//! `cargo xtask kernels` hashes fewer files on every kernel.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use panoptes_rig::setup;

pub(crate) const USAGE: &str = "\
  hashes [--count N] [--place NAME]… [--without-modules] [--calm] [KERNEL]…
        makes N files (1,000) on every filesystem of a guest of each kernel (6.1 and 6.12), hashes
        them from its page cache, also with pages missing, files changed and memory short, and
        compares with the truth in the guest; --without-modules: without the filesystems that
        modules provide; --calm: with enough memory
";

/// The result of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Outcome {
    /// How often a guest was stopped and checked.
    pub(crate) checks: u64,
    /// Files checked, summed over all checks and all ways.
    pub(crate) files: u64,
    /// Checks with a wrong result.
    pub(crate) failed: u64,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let outcome = compare(arguments, |line| println!("{line}"))?;
    if outcome.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// Compares, and passes on each line of the output meanwhile.
pub(crate) fn compare(
    arguments: &[String],
    mut on_line: impl FnMut(&str),
) -> Result<Outcome, String> {
    setup::ensure().map_err(|e| e.to_string())?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .args(["run", "--quiet", "--package", "panoptes-engine", "--example", "hash_truth", "--"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    let output = child.stdout.take().ok_or("cargo run has no output")?;
    let mut outcome = None;
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|e| format!("cannot read from cargo run: {e}"))?;
        outcome = sum(&line);
        on_line(&line);
    }
    let status = child.wait().map_err(|e| format!("cannot wait for cargo run: {e}"))?;
    outcome.ok_or_else(|| format!("the comparison of hashes ended early ({status})"))
}

/// The numbers in `58 looks at 110026 files, 0 of them not exact`, as the example `hash_truth`
/// prints them.
fn sum(line: &str) -> Option<Outcome> {
    let (checks, rest) = line.split_once(" looks at ")?;
    let (files, rest) = rest.split_once(" files, ")?;
    let failed = rest.strip_suffix(" of them not exact")?;
    Some(Outcome {
        checks: checks.parse().ok()?,
        files: files.parse().ok()?,
        failed: failed.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read_from_the_last_line() {
        let outcome = Outcome { checks: 58, files: 110_026, failed: 2 };
        assert_eq!(sum("58 looks at 110026 files, 2 of them not exact"), Some(outcome));
        assert_eq!(sum("6.1 ext4: skipped: the kernel has no ext4"), None);
    }
}
