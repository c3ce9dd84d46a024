//! `cargo xtask hashes`: compares hashes from real kernels' page caches with the truth in the
//! guest.
//!
//! A separate campaign, of some minutes per kernel. `cargo xtask test` runs a part of it, and
//! `cargo xtask kernels` hashes fewer files on every kernel.

use clap::Args;
use panoptes_rig::setup;

use crate::cargo;

/// Makes files on every filesystem of a guest of each kernel, hashes them from its page cache, also
/// with pages missing, files changed and memory short, and compares with the truth in the guest
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// [--count N (1,000)] [--place NAME]… [--without-modules: those filesystems that modules
    /// provide] [--calm: with enough memory] [KERNEL (6.1 and 6.12)]…
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

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

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let outcome = compare(&options.options, |line| println!("{line}"))?;
    if outcome.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// Compares, and passes on each line of the output meanwhile.
pub(crate) fn compare(
    arguments: &[String],
    mut on_line: impl FnMut(&str),
) -> Result<Outcome, String> {
    setup::ensure()?;
    let mut command = cargo::command();
    command.args(["run", "--quiet", "--package", "panoptes-engine", "--example", "hash_truth"]);
    let mut outcome = None;
    let status = cargo::each_line(command.arg("--").args(arguments), |line| {
        outcome = sum(line);
        on_line(line);
    })?;
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
