//! `cargo xtask scenarios`: compares what guests do with what Panoptes reports.

use std::path::PathBuf;

use clap::Args;
use panoptes_rig::Flavor;
use panoptes_rig::scenarios::{self, Choice};
use serde_json::Value;

use crate::{program, tamper};

/// Runs hostile and merely similar harmless activity in guests while Panoptes watches them
///
/// Prints for each scenario what was expected, seen and extra, and how long it took.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// List the scenarios instead
    #[arg(long)]
    list: bool,
    /// A kernel of the guests; may be repeated
    #[arg(long = "kernel", value_name = "NAME", default_values = ["6.1", "6.12"])]
    #[arg(value_parser = Flavor::from_name)]
    kernels: Vec<Flavor>,
    /// How often each scenario is played
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: usize,
    /// Print the outcomes as JSON
    #[arg(long)]
    json: bool,
    /// Write all records to this folder
    #[arg(long, value_name = "DIR")]
    log_folder: Option<PathBuf>,
    /// The beginning of an id (F04), or a part of a description
    names: Vec<String>,
}

pub(crate) fn run(options: Options) -> Result<(), String> {
    let flavors = options.kernels;
    let mut choice = Choice::new(flavors[0], &options.names)?;
    if options.list {
        for scenario in &choice.scenarios {
            println!("{:<6} {}", scenario.id, scenario.name);
        }
        return Ok(());
    }
    if let Some(again) = tamper::AGAIN {
        return again();
    }
    choice.log_folder = options.log_folder;
    choice.host = tamper::ACT;
    choice.scenarios =
        choice.scenarios.iter().flat_map(|s| std::iter::repeat_n(*s, options.repeat)).collect();
    play(choice, &flavors, options.json)
}

/// Plays scenarios on each kernel and prints their outcomes.
pub(crate) fn play(mut choice: Choice, flavors: &[Flavor], json: bool) -> Result<(), String> {
    let program = program::obtain()?;
    let mut reports = Vec::new();
    for &flavor in flavors {
        choice.flavor = flavor;
        eprintln!("scenarios: booting {} …", flavor.name());
        let report = scenarios::run(&choice, &program, |outcome| {
            if outcome.is_good() {
                eprintln!("{:<6} as expected", outcome.id);
            } else {
                eprint!("{:<6} NOT as expected:\n{}", outcome.id, outcome.lines());
            }
        })?;
        if !json {
            println!("{}", report.table());
        }
        reports.push(report);
    }
    if json {
        println!("{}", reports.iter().map(scenarios::Report::json).collect::<Value>());
    }
    if reports.iter().all(scenarios::Report::is_good) {
        Ok(())
    } else {
        Err("not everything is as expected; see the table".into())
    }
}
