//! A running `panoptes watch`: its records, with the time at which each arrived.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::ops::AddAssign;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use panoptes_bounded as bounded;
use serde_json::Value;

use super::outcome::name;
use super::{DEGRADED, PROCESS_CREATED};
use crate::error::{Error, Result};
use crate::guest::Guest;

/// Maximum time until the guest's kernel is found.
const ATTACH_TIMEOUT: Duration = Duration::from_mins(3);
/// Number of last lines of standard error shown in a failure.
const SHOWN: usize = 12;

/// One record, and its time of arrival.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) record: Value,
}

impl Arrival {
    pub(crate) fn is_alert(&self) -> bool {
        self.record["message_type"] == "ALERT"
    }
}

/// Which records are kept; all are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keep {
    /// Every record: for a few minutes.
    All,
    /// [Findings](is_finding), and what scripts wait for.
    Findings,
}

impl Keep {
    fn takes(self, record: &Value) -> bool {
        self == Self::All || is_finding(record) || is_marker(record)
    }
}

/// Whether a record is an alert, one of what was not seen, or a line that is no record.
pub(crate) fn is_finding(record: &Value) -> bool {
    !record.is_object() || record["message_type"] == "ALERT" || name(record) == DEGRADED
}

/// Whether a record is about a new marker of [`pace`](super::pace).
fn is_marker(record: &Value) -> bool {
    let command_line =
        &record["activity_data"]["process_details"]["process_command_line_arguments"];
    name(record) == PROCESS_CREATED && *command_line == "bash /run/pace/helper"
}

/// The size of some records.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Volume {
    /// Number of records.
    pub records: usize,
    pub bytes: u64,
}

impl Volume {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub fn megabytes(self) -> f64 {
        self.bytes as f64 / 1e6
    }
}

impl AddAssign for Volume {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// The output so far.
#[derive(Debug, Default)]
struct Heard {
    /// The kept records, without the first ones, which were dropped, and the number of those.
    arrivals: Vec<Arrival>,
    dropped: usize,
    activities: BTreeMap<String, Volume>,
    messages: Vec<String>,
}

impl Heard {
    /// Takes a record that was so many bytes long.
    fn take(&mut self, arrival: Arrival, bytes: u64, keep: Keep) {
        let name = name(&arrival.record);
        let volume = Volume { records: 1, bytes };
        match self.activities.get_mut(name) {
            Some(all) => *all += volume,
            None => _ = self.activities.insert(name.to_owned(), volume),
        }
        if keep.takes(&arrival.record) {
            self.arrivals.push(arrival);
        }
    }

    /// Number of records that were kept, with those that were dropped since.
    fn count(&self) -> usize {
        self.dropped + self.arrivals.len()
    }

    /// The kept records from index `from` on, none of which was dropped.
    fn since(&self, from: usize) -> &[Arrival] {
        &self.arrivals[from - self.dropped..]
    }

    /// Drops the records before index `end`.
    fn drop_before(&mut self, end: usize) {
        self.arrivals.drain(..end - self.dropped);
        self.dropped = end;
    }
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    more: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, add: impl FnOnce(&mut Heard)) {
        add(&mut self.lock());
        self.more.notify_all();
    }
}

/// The watcher; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    child: Child,
    shared: Arc<Shared>,
}

impl Watcher {
    /// Watches a guest every 10 ms until dropped; returns when Panoptes is watching it. Records go
    /// into the folder `log`, too.
    pub(crate) fn start(
        program: &Path,
        guest: &Guest,
        configuration: &Path,
        folder: &Path,
        log: Option<&Path>,
        keep: Keep,
    ) -> Result<Self> {
        let mut command = crate::tied(program);
        command
            .arg("watch")
            .arg(format!("file:{}", guest.ram_path().display()))
            .arg("--config")
            .arg(configuration)
            .arg("--interval=10ms")
            .arg(format!("--set=service.state_dir={}", folder.join("state").display()));
        if let Some(log) = log {
            command.arg("--log-folder").arg(log);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Error::new(format!("cannot start {}: {e}", program.display())))?;
        let shared = Arc::new(Shared::default());
        if let Some(records) = child.stdout.take() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for line in BufReader::new(records).lines().map_while(std::result::Result::ok) {
                    let at = Instant::now();
                    let bytes = line.len() as u64 + 1;
                    let record = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    shared.add(|heard| heard.take(Arrival { at, record }, bytes, keep));
                }
            });
        }
        if let Some(words) = child.stderr.take() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for line in BufReader::new(words).lines().map_while(std::result::Result::ok) {
                    shared.add(|heard| heard.messages.push(line));
                }
            });
        }
        let mut watcher = Self { child, shared };
        watcher.wait_until_attached()?;
        Ok(watcher)
    }

    fn wait_until_attached(&mut self) -> Result<()> {
        let deadline = Instant::now() + ATTACH_TIMEOUT;
        let is_attached = |heard: &Heard| {
            heard.messages.iter().any(|line| line.contains(" is being watched, found"))
        };
        while !self.wait(deadline.min(Instant::now() + Duration::from_millis(200)), is_attached) {
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() >= deadline {
                return Err(Error::new(format!("panoptes does not watch: {}", self.last_words())));
            }
        }
        Ok(())
    }

    /// Waits until `holds` is true of the output, at most until `deadline`, and returns whether it
    /// is.
    fn wait(&self, deadline: Instant, mut holds: impl FnMut(&Heard) -> bool) -> bool {
        let mut heard = self.shared.lock();
        loop {
            if holds(&heard) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            heard = self
                .shared
                .more
                .wait_timeout(heard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Checks each record from index `from` on, once, until `is_it`, at most until `deadline`.
    pub(crate) fn wait_for(
        &self,
        from: usize,
        deadline: Instant,
        mut is_it: impl FnMut(&Arrival) -> bool,
    ) -> bool {
        let mut next = from;
        self.wait(deadline, |heard| {
            let found = heard.since(next).iter().position(&mut is_it);
            next = heard.count();
            found.is_some()
        })
    }

    /// Number of records that were kept.
    pub(crate) fn count(&self) -> usize {
        self.shared.lock().count()
    }

    /// The kept records from index `from` on.
    pub(crate) fn records(&self, from: usize) -> Vec<Arrival> {
        self.shared.lock().since(from).to_vec()
    }

    /// Drops the kept records before index `end`, for which nobody will ask again: a million
    /// records take eight gigabytes.
    pub(crate) fn drop_before(&self, end: usize) {
        self.shared.lock().drop_before(end);
    }

    /// The records of each activity, kept or not.
    pub(crate) fn activities(&self) -> BTreeMap<String, Volume> {
        self.shared.lock().activities.clone()
    }

    /// Fails if the watcher has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(Error::new(format!("panoptes ended: {}", self.last_words()))),
        }
    }

    fn last_words(&self) -> String {
        let heard = self.shared.lock();
        heard.messages[heard.messages.len().saturating_sub(SHOWN)..].join("\n    ")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = bounded::wait(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_stay_when_the_first_records_are_dropped() {
        let mut heard = Heard::default();
        for number in 0..3 {
            let arrival = Arrival { at: Instant::now(), record: number.into() };
            heard.take(arrival, 1, Keep::All);
        }
        heard.drop_before(2);
        heard.drop_before(2);
        assert_eq!(heard.count(), 3);
        assert_eq!(heard.since(2)[0].record, 2);
        assert!(heard.since(3).is_empty());
        assert_eq!(heard.activities.values().map(|volume| volume.records).sum::<usize>(), 3);
    }
}
