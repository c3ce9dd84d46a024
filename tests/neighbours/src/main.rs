//! Measures what a hostile system costs its neighbours (`cargo xtask neighbours`).
//!
//! Watches synthetic machines in files with the real program. Eight of them are ordinary, and
//! attacks are planted in them. The ninth runs one hostile load after the other. For each, the
//! table has the neighbours' intervals, whether their attacks were reported, and what was reported
//! of the hostile system itself.
//!
//! The status of one connection in each system is recorded in every scan, so the times of these
//! records are the intervals. They count without the time in which a scanner waited for a
//! processor: the machines of this measure need one, too.
//!
//! Not here: real programs; scenarios in live guests have those (`cargo xtask scenarios`).
//!
//! With `--flow`, it measures the sensor of flows instead ([`flow`]).
//!
//! Start reading at [`phase`]; [`attacks`] has a row for each attack.
#![forbid(unsafe_code)]

mod attacks;
mod flow;
mod hostile;
mod machines;
mod many;
mod measure;
mod phase;
mod plants;
mod quiet;
mod records;
mod table;
mod times;
mod watcher;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, value_parser};

use crate::phase::{Alone, Outcome, Plan};
use crate::quiet::Quiets;

/// Watches ordinary systems beside a hostile one, and prints what it costs them
///
/// Ends with 1 if a bound is missed.
#[derive(Debug, Parser)]
#[command(name = "neighbours", bin_name = "cargo xtask neighbours", max_term_width = 100)]
struct Options {
    /// The attacks (A1, B1, C10); all by default
    #[arg(long = "attack", value_name = "NAME", num_args = 1..)]
    attacks: Vec<String>,
    /// List the attacks instead
    #[arg(long)]
    list: bool,
    /// Seconds beside each attack; half as long before it
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = value_parser!(u64).range(2..))]
    seconds: u64,
    /// Seconds from one planted attack in a system to the next
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    every: u64,
    /// Number of ordinary systems
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = value_parser!(u16).range(1..=1024))]
    systems: u16,
    /// Instead watch that many ordinary systems alone, for so many minutes; with --flow, the
    /// minutes of each run (10)
    #[arg(long, value_name = "N", conflicts_with_all = ["attacks", "seconds", "every", "json"])]
    minutes: Option<f64>,
    /// Instead audit the flows of a neighbour, alone and beside everything hostile (root)
    #[arg(long, conflicts_with_all = ["attacks", "seconds", "every", "json", "systems", "cores"])]
    flow: bool,
    /// With --flow: packets of hostile senders a second
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "flow")]
    #[arg(value_parser = value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// The cores to scan on, as `service.cores`
    #[arg(long, value_name = "CORES", default_value = "auto")]
    cores: String,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
    /// Keep the machines and the last log in this folder, which must exist
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// The program `panoptes`
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("neighbours: {message}");
            ExitCode::from(2)
        }
    }
}

/// How long each run of `--flow` lasts.
const FLOW: Duration = Duration::from_mins(10);

/// Runs everything; returns whether all bounds hold.
fn run(options: &Options) -> Result<bool, String> {
    if options.list {
        for attack in attacks::ATTACKS {
            println!("{:<6} {}", attack.id, attack.name);
        }
        for (id, name, shown) in attacks::ELSEWHERE {
            println!("{id:<6} {name}: not here, but {shown}");
        }
        return Ok(true);
    }
    let wrong = |why: std::io::Error| why.to_string();
    let temporary;
    let folder = if let Some(folder) = &options.keep {
        folder.canonicalize().map_err(wrong)?
    } else {
        temporary = tempfile::tempdir().map_err(wrong)?;
        temporary.path().to_owned()
    };
    let minutes = options.minutes.map(|minutes| Duration::from_secs_f64(minutes.max(0.1) * 60.0));
    if options.flow {
        return flow::measure(&flow::Plan {
            program: &options.program,
            folder: &folder,
            time: minutes.unwrap_or(FLOW),
            rate: options.rate,
        });
    }
    let sbom = folder.join("sbom.json");
    std::fs::write(&sbom, machines::sbom().to_string()).map_err(wrong)?;
    let plan = Plan {
        program: &options.program,
        folder: &folder,
        sbom: &sbom,
        cores: &options.cores,
        time: minutes.unwrap_or(Duration::from_secs(options.seconds)),
        period: Duration::from_secs(options.every),
    };
    let systems = usize::from(options.systems);
    if minutes.is_some() {
        return many::run(&plan, systems);
    }
    matrix(options, &plan, systems)
}

/// How often a row is measured whose only missed bound is the interval.
const TRIES: usize = 3;

fn matrix(options: &Options, plan: &Plan<'_>, systems: usize) -> Result<bool, String> {
    let chosen = attacks::chosen(&options.attacks)?;
    let mut quiets = Quiets::boot(plan.folder, systems).map_err(|why| why.to_string())?;
    let mut outcomes = Vec::new();
    let mut alone = Alone::default();
    if !options.json {
        println!("{}", table::heading());
    }
    for (number, attack) in std::iter::once(&attacks::ALONE).chain(&chosen).enumerate() {
        let mut tries = Vec::<Outcome>::new();
        while tries.is_empty() || tries[0].is_doubtful() && tries.len() < TRIES {
            let again = if tries.is_empty() { "" } else { "again: " };
            eprintln!("neighbours: {again}{number} of {}: {} …", chosen.len(), attack.name);
            let run = phase::run(plan, &mut quiets, attack)?;
            phase::add_alone(&mut alone, &run.planted_before, &run.records);
            if number == 0 {
                // Nothing of it is beside an attack.
                phase::add_alone(&mut alone, &run.plants, &run.records);
            }
            tries.push(Outcome::of(*attack, run, &alone));
        }
        let outcome = Outcome::of_tries(tries);
        if !options.json {
            println!("{}", table::line(&outcome));
        }
        outcomes.push(outcome);
    }
    if options.json {
        println!("{}", table::json(&outcomes));
    } else {
        println!("\n{}", table::LEGEND);
    }
    Ok(outcomes.iter().all(|outcome| outcome.missed.is_empty()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_options_are_sound() {
        super::Options::command().debug_assert();
    }
}
