//! `cargo xtask hashes`: hashes of files in real kernels' page caches, held against what is true inside.
//!
//! A campaign of its own, of some minutes a kernel; the tests of every day have a slice of it, and `cargo xtask
//! kernels` fewer files on every kernel.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use panoptes_rig::setup;

pub(crate) const USAGE: &str = "\
  hashes [--count N] [--place NAME]… [--without-modules] [--calm] [KERNEL]…
        makes N files (1,000) on every filesystem of a guest of each kernel (6.1 and 6.12), hashes them out
        of its page cache, with pages missing, files changed and memory short too, and compares with what is true
        inside; --without-modules: without the types that modules carry; --calm: with enough memory
";

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Outcome {
    /// How often a guest was stopped and looked at.
    pub(crate) looks: u64,
    /// Files that were looked at, each time and each way.
    pub(crate) files: u64,
    /// Looks of which not all was true.
    pub(crate) failed: u64,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let outcome = compare(arguments, |line| println!("{line}"))?;
    if outcome.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// Compares; hands on each line of what is said meanwhile.
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

/// The numbers in `58 looks at 110026 files, 0 of them not exact`.
fn sum(line: &str) -> Option<Outcome> {
    let (looks, rest) = line.split_once(" looks at ")?;
    let (files, rest) = rest.split_once(" files, ")?;
    let failed = rest.strip_suffix(" of them not exact")?;
    Some(Outcome {
        looks: looks.parse().ok()?,
        files: files.parse().ok()?,
        failed: failed.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read_from_the_last_line() {
        let outcome = Outcome { looks: 58, files: 110_026, failed: 2 };
        assert_eq!(sum("58 looks at 110026 files, 2 of them not exact"), Some(outcome));
        assert_eq!(sum("6.1 ext4: skipped: the kernel has no ext4"), None);
    }
}
