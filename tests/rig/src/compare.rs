//! Compares a scan of a guest's memory with the guest's own truth: exactly, both ways.
//!
//! Every object and every attribute of the truth must be in the scan with the same value, and the
//! scan must have no other object. Attributes that only the scan has are not compared, unless they
//! are null in the truth: then the scan must not have them. Truth counts only if it was the same
//! before and after the moment of the scan.
//!
//! Left out on both sides are the agent itself and kworkers, which the kernel starts and ends at
//! any time; the report has the number of kworkers.

mod object;
mod report;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use panoptes_records::record::scan::ScanKind;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::guest::Guest;
use object::{Key, Objects, Side};
pub use report::{KindReport, Report};
use values::Clock;

/// How long a guest runs undisturbed at first between its truth and its pause, so that work woken
/// by the truth (RCU, timers) ends. A slow guest needs longer: the time doubles with each attempt.
const SETTLE: Duration = Duration::from_millis(150);
/// An object must differ in this many attempts to fail the scan; one moment can spoil one attempt.
const REPEATS: usize = 2;

/// The kinds of lines that are compared, in the order of `panoptes scan`. The guest's truth has no
/// commands of shells, and no checks of its kernel.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let is_compared =
        |kind: &&ScanKind| !matches!(kind, ScanKind::ShellHistory | ScanKind::Integrity);
    ScanKind::ALL.iter().filter(is_compared).map(|kind| kind.name())
}

/// A guest's report about itself at one moment.
#[derive(Clone, Debug)]
pub struct Truth {
    clock: Clock,
    agent_process_ids: BTreeSet<u64>,
    objects: Objects,
}

impl Truth {
    /// Parses the answer to the agent's command `truth`.
    pub fn parse<T: AsRef<str>>(lines: &[T]) -> Result<Self> {
        let values = parse_lines(lines)?;
        let guest = values
            .iter()
            .find(|value| value["kind"] == "_guest")
            .ok_or_else(|| Error::new("the agent's truth has no line about the guest"))?;
        let clock = Clock::parse(guest)?;
        let agent_process_ids = guest["_agent_process_ids"]
            .as_array()
            .map(|ids| ids.iter().filter_map(Value::as_u64).collect())
            .unwrap_or_default();
        Ok(Self { clock, agent_process_ids, objects: Objects::collect(values) })
    }

    /// Asks a guest for its truth.
    pub fn of(guest: &mut Guest, kinds: &str) -> Result<Self> {
        Self::parse(&guest.agent(&format!("truth {kinds}"))?)
    }

    /// Number of objects of a kind.
    pub fn count(&self, kind: &str) -> usize {
        self.objects.of_kind(kind).count()
    }

    /// Every object of a kind, in the order of its identity.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.of_kind(kind).map(|(_, value)| value)
    }

    /// Process ids of the agent itself and of kworkers, and the number of kworkers.
    fn excluded(&self) -> (BTreeSet<u64>, usize) {
        let mut ids = self.agent_process_ids.clone();
        let kworkers = self.objects.kworkers();
        ids.extend(&kworkers);
        (ids, kworkers.len())
    }
}

/// Compares scan lines (JSON text) with the truth before and after the scan.
pub fn compare<T: AsRef<str>>(before: &Truth, after: &Truth, scan: &[T]) -> Result<Report> {
    let scan = Objects::collect(parse_lines(scan)?);
    let (mut excluded, kworkers) = before.excluded();
    excluded.extend(after.excluded().0);
    excluded.extend(scan.kworkers());
    let mut report = Report { kworkers, ..Report::default() };
    for kind in kinds() {
        let truth = before.objects.without(kind, &excluded);
        let later = after.objects.without(kind, &excluded);
        let found = scan.without(kind, &excluded);
        if truth.is_empty() && later.is_empty() && found.is_empty() {
            continue;
        }
        let one = compare_kind(before.clock, &truth, &later, &found, &mut report);
        report.kinds.push((kind.to_owned(), one));
    }
    Ok(report)
}

/// Takes the truth, pauses the guest, runs `scan`, resumes the guest, takes the truth again and
/// compares. If the two truths have different objects, it begins again, up to `attempts` times;
/// objects that still disagree then are counted as unsettled and not compared.
///
/// The two truths and the scan are of three moments. A state that existed only in between (a kernel
/// thread that waited for its disk) is a difference, too. So differences are printed, and the
/// comparison is repeated. The scan is wrong if the same object differs in any two attempts, by any
/// values: moments seldom spoil one object twice.
pub fn exact(
    guest: &mut Guest,
    kinds: &str,
    attempts: u32,
    mut scan: impl FnMut(&Guest) -> Result<Vec<String>>,
) -> Result<Report> {
    let mut last = None;
    let mut differed: BTreeMap<String, usize> = BTreeMap::new();
    for attempt in 0..attempts.max(1) {
        let before = Truth::of(guest, kinds)?;
        std::thread::sleep(SETTLE * 2_u32.saturating_pow(attempt));
        guest.pause()?;
        let seen = scan(guest);
        guest.resume()?;
        let seen = seen?;
        let after = Truth::of(guest, kinds)?;
        let report = compare(&before, &after, &seen)?;
        let settled = report.kinds.iter().all(|(_, kind)| kind.unsettled == 0);
        if settled && report.is_exact() {
            return Ok(report);
        }
        if settled {
            for object in &report.differing {
                *differed.entry(object.clone()).or_insert(0) += 1;
            }
            if differed.values().any(|&count| count >= REPEATS) {
                return Ok(report);
            }
            println!("compared again, because of a difference:\n{report}");
        }
        last = Some(report);
    }
    last.ok_or_else(|| Error::new("no attempt was made to compare"))
}

fn compare_kind(
    clock: Clock,
    before: &Side<'_>,
    after: &Side<'_>,
    scan: &Side<'_>,
    all: &mut Report,
) -> KindReport {
    let mut report = KindReport { found: scan.len(), ..KindReport::default() };
    let mut unsettled: BTreeSet<&Key> = BTreeSet::new();
    let mut shown = 0;
    let mut say = |key: &Key, text: String| {
        all.differing.insert(key.to_string());
        shown += 1;
        if shown <= report::DIFFERENCES_SHOWN_PER_KIND {
            all.differences.push(text);
        }
    };
    for (&key, &truth) in before {
        let Some(later) = after.get(key) else {
            unsettled.insert(key);
            continue;
        };
        report.truth += 1;
        match scan.get(key) {
            None => {
                report.missing += 1;
                say(key, format!("missing {key}: {}", values::short(truth)));
            }
            Some(seen) => {
                let wrong = values::differences(clock, truth, later, seen);
                report.differing += usize::from(!wrong.is_empty());
                for text in wrong {
                    say(key, format!("{key}: {text}"));
                }
            }
        }
    }
    unsettled.extend(after.keys().filter(|key| !before.contains_key(*key)));
    report.unsettled = unsettled.len();
    for (&key, &seen) in scan {
        if !before.contains_key(key) && !unsettled.contains(key) {
            report.extra += 1;
            say(key, format!("not in the guest {key}: {}", values::short(seen)));
        }
    }
    report
}

fn parse_lines<T: AsRef<str>>(lines: &[T]) -> Result<Vec<Value>> {
    lines
        .iter()
        .map(AsRef::as_ref)
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            serde_json::from_str(line).map_err(|e| Error::new(format!("not JSON ({e}): {line}")))
        })
        .collect()
}

/// Counts objects by attribute, for tests that count a guest's objects.
pub fn tally<'a>(
    objects: impl Iterator<Item = &'a Value>,
    attribute: &str,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for object in objects {
        if let Some(text) = object[attribute].as_str() {
            *counts.entry(text.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests;
