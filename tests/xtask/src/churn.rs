//! `cargo xtask churn`: ten minutes of everyday work with attacks in between. Only the attacks may
//! be reported, and the records must stay within their limits.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use panoptes_records::activities::Preset;
use panoptes_rig::Flavor;
use panoptes_rig::scenarios::twins::{self, TwinChoice, TwinReport};

use crate::program;

/// Runs the harmless twins of detected activity in a guest, plants an attack each minute, and
/// measures how much is written
///
/// Runs twice: without an SBOM, and with one of the guest's root. All attacks must be reported, and
/// nothing else. Prints the works, the attacks, the alerts, and the records of each activity, with
/// their volume for each 1,000 processes that came and went.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How long each run lasts
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// Kernel of the guest
    #[arg(long, value_name = "NAME", default_value = "6.1", value_parser = Flavor::from_name)]
    kernel: Flavor,
    /// Only the run with an SBOM
    #[arg(long, conflicts_with = "no_sbom")]
    sbom: bool,
    /// Only the run without an SBOM
    #[arg(long)]
    no_sbom: bool,
    /// Write all records to this folder
    #[arg(long, value_name = "DIR")]
    log_folder: Option<PathBuf>,
    /// Names of twins; all by default
    names: Vec<String>,
}

/// The attacks of a run without an SBOM, and of one with it. A run of ten minutes has all of them.
/// Their scripts find their processes among all those of the works.
const ATTACKS: [&[&str]; 2] = [
    &["R12e", "R01", "M02", "R04", "F12b", "H04", "R22", "M03", "R26", "R12f"],
    &["F04", "R01", "F08b", "R04", "F01", "F12b", "R12f", "F07", "H04", "F02b"],
];

/// The largest volume of each preset with compact headers: MB for 1,000 processes that came and
/// went.
const LIMITS: [(Preset, f64); 2] = [(Preset::Security, 7.0), (Preset::Everything, 170.0)];

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let program = program::obtain()?;
    let runs = [(false, !options.sbom), (true, !options.no_sbom)];
    let mut is_good = true;
    for (sbom, _) in runs.into_iter().filter(|(_, is_wanted)| *is_wanted) {
        let name = if sbom { "sbom" } else { "no-sbom" };
        let choice = TwinChoice {
            flavor: options.kernel,
            names: options.names.clone(),
            time: Duration::from_mins(options.minutes),
            log_folder: options.log_folder.as_ref().map(|folder| folder.join(name)),
            sbom,
            attacks: ATTACKS[usize::from(sbom)],
        };
        let report = twins::run(&choice, &program, |line| eprintln!("churn: {line}"))?;
        println!("{}{}", report.table(), volumes(&report));
        is_good &= report.is_good() && LIMITS.iter().all(|limit| is_within(&report, *limit));
    }
    if is_good { Ok(()) } else { Err("not everything is as it must be; see above".into()) }
}

/// MB for 1,000 processes.
#[allow(clippy::cast_precision_loss, reason = "for people")]
fn by_thousand(report: &TwinReport, preset: Preset) -> f64 {
    report.volume(preset).megabytes() * 1e3 / report.processes() as f64
}

fn is_within(report: &TwinReport, (preset, limit): (Preset, f64)) -> bool {
    by_thousand(report, preset) <= limit
}

fn volumes(report: &TwinReport) -> String {
    let mut out = format!(
        "{:<11} {:>9} {:>9} {:>23} {:>6}\n",
        "preset", "records", "MB", "MB for 1,000 processes", "limit"
    );
    for limit in LIMITS {
        let volume = report.volume(limit.0);
        let _ = writeln!(
            out,
            "{:<11} {:>9} {:>9.1} {:>23.2} {:>6} {}",
            limit.0.word(),
            volume.records,
            volume.megabytes(),
            by_thousand(report, limit.0),
            limit.1,
            if is_within(report, limit) { "" } else { "EXCEEDED" }
        );
    }
    out
}
