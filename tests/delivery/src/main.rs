//! Sends records to receivers through faults, and counts what arrives (`cargo xtask delivery`).
//!
//! The real program watches a synthetic machine and writes to its logs, to standard output, which
//! no fault disturbs, and to all receivers at once: rsyslog, syslog-ng, a Forward server of npm,
//! and our own. What is on standard output is the truth. Losses are compared with what the program
//! itself counts.
//!
//! Start reading at [`faults`]; [`outcome`] has the rules.
#![forbid(unsafe_code)]

mod faults;
mod machine;
mod metrics;
mod outcome;
mod receive;
mod receivers;
mod records;
mod service;
mod stage;
mod tls;

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::{Args, Parser, value_parser};
use panoptes_bounded as bounded;

use crate::faults::{Effect, Fault, Mount};
use crate::outcome::{Dropped, Row};
use crate::receive::Format;
use crate::receivers::Programs;
use crate::records::Sent;
use crate::stage::{Scale, Stage};

/// Sends records to receivers through faults, and prints what arrived
#[derive(Debug, Parser)]
#[command(name = "delivery", bin_name = "cargo xtask delivery", max_term_width = 100)]
enum Action {
    Run(Options),
    /// A receiver
    #[command(hide = true)]
    Receive {
        format: Format,
        port: u16,
        folder: PathBuf,
        run: u32,
    },
}

/// Sends records through faults, and prints what arrived
///
/// Ends with 1 if a rule is broken.
#[derive(Args, Debug)]
struct Options {
    /// Number of records, divided among the faults
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    #[arg(value_parser = value_parser!(u64).range(100..))]
    records: u64,
    /// The faults; all by default
    #[arg(long = "fault", value_name = "NAME", num_args = 1..)]
    faults: Vec<String>,
    /// List the faults instead
    #[arg(long)]
    list: bool,
    /// How often receivers are restarted
    #[arg(long, value_name = "N", default_value_t = 10)]
    restarts: u32,
    /// How many seconds receivers stand still
    #[arg(long, value_name = "N", default_value_t = 60)]
    freeze: u64,
    /// Keep everything in this folder, which must exist
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// The folder of the unpacked package rsyslog
    #[arg(long, value_name = "DIR")]
    rsyslog: Option<PathBuf>,
    /// The folder of the unpacked package syslog-ng-core
    #[arg(long, value_name = "DIR")]
    syslog_ng: Option<PathBuf>,
    /// The folder where npm installed @fluent-org/logger
    #[arg(long, value_name = "DIR")]
    fluent: Option<PathBuf>,
    /// The program `panoptes`
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
}

/// The variable of a run that may mount file systems: `1`, or `0` if that cannot be had.
const MAY_MOUNT: &str = "PANOPTES_DELIVERY_MAY_MOUNT";
/// About how many bytes a record has.
const RECORD_BYTES: u64 = 1500;
/// The least size at which a log rotates, and the size of the campaign.
const ROTATE_BYTES: (u64, u64) = (64 << 10, 1 << 20);
/// A size that no log here reaches.
const NEVER_BYTES: u64 = 1 << 40;

fn main() -> ExitCode {
    let result = match Action::parse() {
        Action::Run(options) => run(&options),
        Action::Receive { format, port, folder, run } => {
            receive::run(format, port, &folder, run).map(|()| true).map_err(|why| why.to_string())
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("delivery: {message}");
            ExitCode::from(2)
        }
    }
}

/// Runs everything; returns whether all rules hold.
fn run(options: &Options) -> Result<bool, String> {
    if options.list {
        for fault in faults::FAULTS {
            println!("{:<15} {}", fault.name, fault.what);
        }
        return Ok(true);
    }
    let chosen = faults::chosen(&options.faults)?;
    let wrong = |why: io::Error| why.to_string();
    let Some(may_mount) = std::env::var_os(MAY_MOUNT) else {
        return Err(run_where_it_may_mount().to_string());
    };
    let temporary;
    let folder = if let Some(folder) = &options.keep {
        folder.canonicalize().map_err(wrong)?
    } else {
        temporary = tempfile::tempdir().map_err(wrong)?;
        temporary.path().to_owned()
    };
    println!("{}", outcome::HEADING);
    let (mut is_good, mut rows_count) = (true, 0);
    let records = options.records.div_ceil(chosen.len() as u64);
    for fault in chosen {
        if fault.mount.is_some() && may_mount != "1" {
            println!("{:<15} left out: no file system can be mounted here", fault.name);
            continue;
        }
        let folder = folder.join(fault.name);
        let rows = suffer(options, fault, &folder, records);
        let rows = rows.map_err(|why| format!("{}: {why}", fault.name))?;
        for row in rows {
            println!("{row}");
            is_good &= row.broken().is_empty();
            rows_count += 1;
        }
        if options.keep.is_none() {
            fs::remove_dir_all(&folder).map_err(wrong)?;
        }
        // What this fault has left to the disk must not slow down the next one.
        nix::unistd::sync();
    }
    Ok(is_good && rows_count > 0)
}

/// Replaces this program by itself in a mount namespace of its own, where that can be had.
fn run_where_it_may_mount() -> io::Error {
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let works = |way: &&&[&str]| {
        let output = bounded::output(Command::new("unshare").args(**way).arg("true"));
        output.is_ok_and(|output| output.status.success())
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(why) => return why,
    };
    let mut command = if let Some(way) = ways.iter().find(works) {
        let mut command = Command::new("unshare");
        command.args(*way).arg(program).env(MAY_MOUNT, "1");
        command
    } else {
        let mut command = Command::new(program);
        command.env(MAY_MOUNT, "0");
        command
    };
    command.args(std::env::args_os().skip(1)).exec()
}

/// Sends records through one fault.
fn suffer(options: &Options, fault: Fault, folder: &Path, records: u64) -> io::Result<Vec<Row>> {
    eprintln!("delivery: {} …", fault.what);
    let begin = Instant::now();
    fs::create_dir(folder)?;
    let Options { rsyslog, syslog_ng, fluent, .. } = options;
    let programs =
        Programs { rsyslog: rsyslog.clone(), syslog_ng: syslog_ng.clone(), fluent: fluent.clone() };
    let (restarts, freeze) = (options.restarts, Duration::from_secs(options.freeze));
    let scale = Scale { records, restarts, freeze };
    let (least, most) = ROTATE_BYTES;
    let rotate = (records * RECORD_BYTES / 20).clamp(least, most);
    let rotate = if fault.has(Effect::Rotates) { rotate } else { NEVER_BYTES };
    let mut stage = Stage::build(&options.program, &programs, folder, scale, rotate)?;
    let bytes = records * RECORD_BYTES * 3 + (64 << 20);
    let mount = fault.mount.map(|options| options.replace("{bytes}", &bytes.to_string()));
    let mount = mount.map(|options| Mount::new(&stage.service.logs(), &options)).transpose()?;
    if !fault.has(Effect::StartsReceivers) {
        stage.start_receivers()?;
    }
    stage.service.start()?;
    stage.flow(1)?;
    (fault.run)(&mut stage)?;
    stage.end()?;
    let time = begin.elapsed();
    let sent = Sent::read(&stage.service.truth())?;
    let log = [faults::removed_files(folder), stage.log()?].concat();
    let mut places = vec![(None, stage.service.event_log(), log)];
    for receiver in &stage.receivers {
        places.push((Some(receiver.kind), receiver.output_name(), receiver.files()?));
    }
    let undisturbed = stage.service.dropped(service::UNDISTURBED)?;
    let row = |(receiver, output, files): (_, String, Vec<PathBuf>)| {
        let received = sent.compare(&files)?;
        let dropped = Dropped { here: stage.service.dropped(&output)?, undisturbed };
        Ok(Row { fault, receiver, sent: sent.count(), received, dropped, time })
    };
    let rows = places.into_iter().map(row).collect();
    drop(mount);
    rows
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_options_are_sound() {
        super::Action::command().debug_assert();
    }
}
