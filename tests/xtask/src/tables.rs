//! `cargo xtask ways` and `cargo xtask acts`: tables of short scenarios, in guests.

use std::path::PathBuf;

use clap::Args;
use panoptes_rig::Flavor;
use panoptes_rig::scenarios::{self, Choice, Scenario};

use crate::scenarios::play;

/// The rows to run, and how.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A kernel of the guests; may be repeated
    #[arg(long = "kernel", value_name = "NAME", default_values = ["6.1", "6.12"])]
    #[arg(value_parser = Flavor::from_name)]
    kernels: Vec<Flavor>,
    /// Print the outcomes as JSON
    #[arg(long)]
    json: bool,
    /// Write all records to this folder
    #[arg(long, value_name = "DIR")]
    log_folder: Option<PathBuf>,
    /// Ids (W07, B07); all without one
    ids: Vec<String>,
}

/// Runs the table of ways to a shell.
pub(crate) fn ways(options: Options) -> Result<(), String> {
    run(options, scenarios::ways()?)
}

/// Runs the table of acts of administration.
pub(crate) fn acts(options: Options) -> Result<(), String> {
    run(options, scenarios::acts()?)
}

fn run(options: Options, rows: Vec<Scenario>) -> Result<(), String> {
    let rows: &'static [Scenario] = rows.leak();
    let is_chosen =
        |row: &&Scenario| options.ids.is_empty() || options.ids.iter().any(|id| id == row.id);
    let chosen: Vec<&Scenario> = rows.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        return Err("no row has such an id; tests/scenarios has the tables".into());
    }
    let mut choice = Choice::of(options.kernels[0], chosen);
    choice.log_folder = options.log_folder;
    play(choice, &options.kernels, options.json)
}
