//! Real argus and its clients: `argus` makes records of a capture, `ra` prints them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use std::{fs, io};

use panoptes_bounded as bounded;

use panoptes_needs::check;

use crate::row::{FIELDS, Row, SEPARATOR};

/// How long a run may take. A capture of a million packets takes seconds.
const TIME_MAX: Duration = Duration::from_mins(2);
/// The folder in the cache with argus 3 (`tests/rig/src/boxes.rs`).
const UNPACKED: &str = "argus-3";

/// The programs of Debian's packages argus-server and argus-client.
#[derive(Clone, Debug)]
pub struct Argus {
    sensor: PathBuf,
    ra: PathBuf,
    racluster: PathBuf,
    rasort: PathBuf,
}

impl Argus {
    /// Finds the programs.
    ///
    /// # Errors
    ///
    /// A program is missing. The message names the packages.
    pub fn find() -> Result<Self, String> {
        Ok(Self {
            sensor: program("argus")?,
            ra: program("ra")?,
            racluster: program("racluster")?,
            rasort: program("rasort")?,
        })
    }

    /// The programs of a folder, such as those of argus 5.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            sensor: folder.join("argus"),
            ra: folder.join("ra"),
            racluster: folder.join("racluster"),
            rasort: folder.join("rasort"),
        }
    }

    /// The sensor, to be run with options of one's own.
    pub fn sensor(&self) -> Command {
        Command::new(&self.sensor)
    }

    /// A client of the package argus-client, such as `rabins`. It reads no configuration.
    ///
    /// # Errors
    ///
    /// It is not installed.
    pub fn client(&self, name: &str) -> Result<Command, String> {
        program(name).map(|path| client(&path))
    }

    /// Writes the records of a capture to a new file. Argus reads no configuration but the
    /// options, such as `-A` for application bytes or `-S 3600` for the status interval.
    ///
    /// # Errors
    ///
    /// Argus fails, or takes minutes; or the path of the records has a blank, behind which argus
    /// expects a filter.
    pub fn argus(&self, capture: &Path, options: &[&str], records: &Path) -> Result<(), String> {
        if records.to_string_lossy().contains(char::is_whitespace) {
            return Err(format!("a blank in the path {}", records.display()));
        }
        // An existing file would be continued.
        if let Err(error) = fs::remove_file(records)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(format!("cannot remove {}: {error}", records.display()));
        }
        let mut command = Command::new(&self.sensor);
        command.arg("-X").args(options).arg("-r").arg(capture).arg("-w").arg(records);
        run(&mut command).map(drop)
    }

    /// The flow records of a file with the usual fields.
    ///
    /// # Errors
    ///
    /// `ra` fails, or prints what is no table.
    pub fn ra(&self, records: &Path) -> Result<Vec<Row>, String> {
        self.ra_fields(records, FIELDS)
    }

    /// The flow records of a file with some fields.
    ///
    /// # Errors
    ///
    /// `ra` fails, or prints what is no table.
    pub fn ra_fields(&self, records: &Path, fields: &[&str]) -> Result<Vec<Row>, String> {
        let mut command = client(&self.ra);
        command.args(["-n", "-u", "-p", "6", "-c"]).arg(SEPARATOR.to_string());
        command.arg("-r").arg(records).arg("-s").args(fields).args(["-", "not", "man"]);
        let output = run(&mut command)?;
        Row::parse(&String::from_utf8_lossy(&output.stdout), fields)
    }

    /// The sequence numbers of the flow records that match a filter, in the order of the file.
    ///
    /// # Errors
    ///
    /// `ra` fails, such as at a mistake in the filter, or prints what is no number.
    pub fn ra_matching(&self, records: &Path, filter: &str) -> Result<Vec<u32>, String> {
        let mut command = client(&self.ra);
        command
            .args(["-L", "-1", "-n", "-r"])
            .arg(records)
            .args(["-s", "seq", "-M", "noman", "--"]);
        let output = run_to_its_end(command.arg(filter))?;
        // Without any record, the exit code is 1, as after a mistake.
        if !output.stderr.is_empty() || !matches!(output.status.code(), Some(0 | 1)) {
            return Err(failed(&self.ra.display().to_string(), &output));
        }
        let words = String::from_utf8_lossy(&output.stdout);
        let number = |word: &str| word.parse().map_err(|_| format!("{word:?} is no number"));
        words.split_whitespace().map(number).collect()
    }

    /// Merges the records of each flow, and writes them to a new file.
    ///
    /// # Errors
    ///
    /// `racluster` fails.
    pub fn racluster(&self, records: &Path, merged: &Path) -> Result<(), String> {
        let mut command = client(&self.racluster);
        command.arg("-r").arg(records).arg("-w").arg(merged);
        run(&mut command).map(drop)
    }

    /// Writes the records, in the order of a field, to a new file.
    ///
    /// # Errors
    ///
    /// `rasort` fails.
    pub fn rasort(&self, records: &Path, field: &str, sorted: &Path) -> Result<(), String> {
        let mut command = client(&self.rasort);
        command.arg("-m").arg(field).arg("-r").arg(records).arg("-w").arg(sorted);
        run(&mut command).map(drop)
    }
}

/// A client that reads no configuration.
fn client(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-X").env("HOME", "/nonexistent").env_remove("ARGUSHOME").env("TZ", "UTC");
    command
}

/// Where a program is: on the search path, else where `cargo xtask test` has unpacked it.
fn program(name: &str) -> Result<PathBuf, String> {
    check::on_path(name).or_else(|| check::unpacked(UNPACKED, name)).ok_or_else(|| {
        format!("there is no {name} of argus 3; `cargo xtask test` fetches it into the cache")
    })
}

/// Runs a program that succeeds.
fn run(command: &mut Command) -> Result<Output, String> {
    let output = run_to_its_end(command)?;
    if output.status.success() {
        return Ok(output);
    }
    Err(failed(&command.get_program().display().to_string(), &output))
}

fn failed(name: &str, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{name} failed ({}): {}", output.status, errors.trim())
}

/// Runs a program to its end, or ends it when it takes too long.
fn run_to_its_end(command: &mut Command) -> Result<Output, String> {
    let output = bounded::output_within(command, TIME_MAX);
    output.map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))
}
