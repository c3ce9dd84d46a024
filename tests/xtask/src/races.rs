//! `cargo xtask races`: scans of synthetic machines that change between any two reads.
//!
//! A separate campaign. `cargo xtask test` runs a part of it, `tests/synthetic/tests/races`.

use clap::Args;

use crate::cargo::{self, WORKSPACE};

/// Scans synthetic machines that change between any two reads, by seed, and judges each record by
/// all that ever was in the machine
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Number of scans
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    scans: u64,
    /// One of so many reads is preceded by a change; fewer are a heavier storm than any real one
    #[arg(long, value_name = "N", default_value_t = 256)]
    rarity: u64,
    /// Plays only this seed, and prints what happened and what was reported
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let mut command = cargo::command();
    command.args(["test", "--quiet"]).args(WORKSPACE).args(["--test", "races"]);
    command.args(["--", "--nocapture", "records_are_true"]);
    command.env("PANOPTES_RACES", options.scans.to_string());
    command.env("PANOPTES_RACES_RARITY", options.rarity.max(1).to_string());
    if let Some(seed) = options.seed {
        command.env("PANOPTES_RACES_SEED", seed.to_string());
    }
    if cargo::succeeds(&mut command)? { Ok(()) } else { Err(String::new()) }
}
