//! `cargo xtask scenarios`: compares what guests do with what Panoptes reports.

use panoptes_rig::scenarios::{self, Choice};
use panoptes_rig::{Flavor, product};
use serde_json::Value;

use crate::{program, tamper};

pub(crate) const USAGE: &str = "\
  scenarios [--list] [--kernel NAME]… [--repeat N] [--json] [--log-folder DIR] [NAME]…
        runs hostile and merely similar harmless activity in guests of 6.1 and 6.12 while Panoptes
        watches them; prints for each scenario what was expected, seen and extra, and how long it
        took; NAME: the beginning of an id (F04), or a part of its description; all records are
        written to DIR
";

/// The default kernels.
const FLAVORS: [Flavor; 2] = [Flavor::V6_1, Flavor::V6_12];

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut flavors = Vec::new();
    let mut names = Vec::new();
    let mut log_folder = None;
    let (mut list, mut json, mut repeat) = (false, false, 1);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value =
            || words.next().cloned().ok_or_else(|| format!("{word} needs a value after it"));
        match word.as_str() {
            "--list" => list = true,
            "--json" => json = true,
            "--log-folder" => log_folder = Some(value()?.into()),
            "--kernel" => flavors.push(Flavor::from_name(&value()?).map_err(|e| e.to_string())?),
            "--repeat" => repeat = value()?.parse().map_err(|e| format!("--repeat: {e}"))?,
            option if option.starts_with('-') => {
                return Err(format!("scenarios has no option {option:?}; see `cargo xtask help`"));
            }
            name => names.push(name.to_owned()),
        }
    }
    if flavors.is_empty() {
        flavors.extend(FLAVORS);
    }
    let mut choice = Choice::new(flavors[0], &names).map_err(|e| e.to_string())?;
    if list {
        for scenario in &choice.scenarios {
            println!("{:<6} {}", scenario.id, scenario.name);
        }
        return Ok(());
    }
    if let Some(again) = tamper::AGAIN {
        return again();
    }
    choice.log_folder = log_folder;
    choice.host = tamper::ACT;
    choice.scenarios =
        choice.scenarios.iter().flat_map(|s| std::iter::repeat_n(*s, repeat)).collect();
    play(choice, &flavors, json)
}

/// Plays scenarios on each kernel and prints their outcomes.
pub(crate) fn play(mut choice: Choice, flavors: &[Flavor], json: bool) -> Result<(), String> {
    // The variable may name another program than the one built now.
    let program = match std::env::var_os(product::VARIABLE) {
        Some(path) => path.into(),
        None => program::build()?,
    };
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
        });
        let report = report.map_err(|e| e.to_string())?;
        if !json {
            println!("{}", report.table());
        }
        reports.push(report);
    }
    if json {
        println!(
            "{}",
            Value::from(reports.iter().map(scenarios::Report::json).collect::<Vec<_>>())
        );
    }
    if reports.iter().all(scenarios::Report::is_good) {
        Ok(())
    } else {
        Err("not everything is as expected; see the table".into())
    }
}
