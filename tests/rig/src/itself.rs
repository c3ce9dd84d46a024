//! A machine that scans itself: the program runs inside a guest, on `host:`.
//!
//! Nothing can be paused here, and one process is missing from the truth: the program's own.

use serde_json::Value;

use crate::compare::{self, Report, Truth};
use crate::error::{Error, Result};
use crate::guest::Guest;

/// A truth may change this often during a scan before its last differences count.
const ATTEMPTS: u32 = 5;
/// The least number of lines about the program itself: the process, what it has open, its memory.
const OWN_LINES_MIN: usize = 10;

/// Compares a guest's scan of itself with its truth. `program` is Panoptes' path in the guest.
pub fn exact(guest: &mut Guest, program: &str) -> Result<Report> {
    let mut attempt = 1;
    loop {
        let before = Truth::of(guest, "")?;
        let lines = scan(guest, program)?;
        let after = Truth::of(guest, "")?;
        let report = compare::compare(&before, &after, &lines)?;
        if report.is_exact() || attempt == ATTEMPTS {
            return Ok(report);
        }
        attempt += 1;
    }
}

/// The program's scan of the machine that it runs on, without the program itself.
fn scan(guest: &mut Guest, program: &str) -> Result<Vec<String>> {
    let lines = guest.agent(&format!("run exec {program} scan host: 2>/run/errors"));
    let lines = lines.map_err(|error| {
        let said = guest.agent("run cat /run/errors").unwrap_or_default();
        Error::new(format!("{error}: {}", said.join("; ")))
    })?;
    let parsed: std::result::Result<Vec<Value>, _> =
        lines.iter().map(|line| serde_json::from_str(line)).collect();
    let parsed = parsed.map_err(|error| Error::new(format!("a line of a scan: {error}")))?;
    let mut own = parsed
        .iter()
        .filter(|line| line["kind"] == "process" && line["process_name"] == "panoptes")
        .map(|line| &line["process_id"]);
    let (Some(id), None) = (own.next(), own.next()) else {
        return Err(Error::new("the program does not see itself once"));
    };
    let is_own = |line: &Value| line["process_id"] == *id;
    if parsed.iter().filter(|line| is_own(line)).count() <= OWN_LINES_MIN {
        return Err(Error::new("the program does not see what it has open"));
    }
    let others = lines.iter().zip(&parsed).filter(|(_, line)| !is_own(line));
    Ok(others.map(|(line, _)| line.clone()).collect())
}
