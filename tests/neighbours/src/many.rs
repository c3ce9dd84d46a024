//! Many systems without an attack: whether each is scanned as often, and whether memory grows.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::measure::{Intervals, percentile};
use crate::phase::{Plan, wait};
use crate::quiet::Quiets;
use crate::records::{self, Record, What};
use crate::times::{self, Samples};
use crate::watcher::{Setup, Watcher};

/// The most scans of a system, as a factor of the fewest.
const SCANS_FACTOR: f64 = 1.2;
/// Growth of resident memory after the first tenth of the time that counts as growth.
const GROWTH: f64 = 1.01;
/// How long scans settle before they count.
const SETTLE: Duration = Duration::from_secs(5);

/// Watches `count` systems for the plan's time; returns whether all bounds hold.
pub(crate) fn run(plan: &Plan<'_>, count: usize) -> Result<bool, String> {
    let wrong = |why: std::io::Error| why.to_string();
    eprintln!("neighbours: booting {count} systems …");
    let mut quiets = Quiets::boot(plan.folder, count).map_err(wrong)?;
    let systems: Vec<_> =
        quiets.systems().map(|(name, path)| (name.to_owned(), path.to_owned())).collect();
    let setup = Setup {
        program: plan.program,
        folder: plan.folder,
        quiet: systems.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect(),
        hostile: None,
        cores: plan.cores,
        sbom: plan.sbom,
    };
    let mut watcher = Watcher::start(&setup).map_err(wrong)?;
    times::take_precedence(true);
    wait(&mut watcher, &mut quiets, count)?;
    quiets.run(Instant::now() + SETTLE);
    let (from, end) = (SystemTime::now(), Instant::now() + plan.time);
    let mut memory = Vec::new();
    while Instant::now() < end {
        quiets.run(end.min(Instant::now() + plan.time / 20));
        memory.extend(watcher.anonymous_bytes());
        eprintln!("neighbours: {} MiB resident", memory.last().unwrap_or(&0) >> 20);
    }
    let (to, log) = (SystemTime::now(), watcher.log().to_owned());
    let stopped = watcher.stop().map_err(wrong)?;
    let records = records::read(&log).map_err(wrong)?;
    let scans = scans(&records, from, to);
    let counts = || systems.iter().map(|(name, _)| scans.get(name.as_str()).copied().unwrap_or(0));
    let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let factor = most as f64 / fewest.max(1) as f64;
    let (first, last) = (memory.get(memory.len() / 10), memory.iter().max());
    let growth = *last.unwrap_or(&0) as f64 / *first.unwrap_or(&1) as f64;
    let intervals = intervals(&records, from, to);
    println!(
        "{count} systems: {fewest} scans at fewest, {most} at most: a factor of {factor:.2} (at \
         most {SCANS_FACTOR})\n\
         intervals: p50 {:.1} ms, p99 {:.1} ms\n\
         resident: {} MiB, {:.1} MiB a system; grew by a factor of {growth:.3} (at most {GROWTH})\n\
         stopped after {:.0} ms",
        percentile(&intervals, 0.5).as_secs_f64() * 1e3,
        percentile(&intervals, 0.99).as_secs_f64() * 1e3,
        last.unwrap_or(&0) >> 20,
        *last.unwrap_or(&0) as f64 / f64::from(1 << 20) / count as f64,
        stopped.as_secs_f64() * 1e3,
    );
    Ok(fewest > 0 && factor <= SCANS_FACTOR && growth <= GROWTH)
}

/// Number of scans of each system.
fn scans(records: &[Record], from: SystemTime, to: SystemTime) -> HashMap<&str, u64> {
    let mut scans = HashMap::new();
    for record in records.iter().filter(|record| record.what == What::Scan) {
        if (from..to).contains(&record.at) {
            *scans.entry(record.system.as_str()).or_default() += 1;
        }
    }
    scans
}

fn intervals(records: &[Record], from: SystemTime, to: SystemTime) -> Vec<Duration> {
    Intervals::of(records, &Samples::default(), from, to).real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_of_each_system_are_counted() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let scan = |seconds, system: &str| Record {
            at: at(seconds),
            system: system.to_owned(),
            what: What::Scan,
        };
        let records = [scan(1, "a"), scan(2, "a"), scan(2, "b"), scan(3, "a"), scan(9, "a")];
        let expected = HashMap::from([("a", 2), ("b", 1)]);
        assert_eq!(scans(&records, at(2), at(9)), expected);
    }
}
