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
/// The difference between resident memory and what `panoptes check` counts, as a part of that.
const COUNTED_DIFFERENCE: f64 = 0.05;
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
    let counted = watcher.counted_bytes();
    let stopped = watcher.stop().map_err(wrong)?;
    let records = records::read(&log).map_err(wrong)?;
    let scans = scans(&records, from, to);
    let counts = || systems.iter().map(|(name, _)| scans.get(name.as_str()).copied().unwrap_or(0));
    let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let factor = most as f64 / fewest.max(1) as f64;
    let intervals = intervals(&records, from, to);
    println!(
        "{count} systems: {fewest} scans at fewest, {most} at most: a factor of {factor:.2} (at \
         most {SCANS_FACTOR})\n\
         intervals: p50 {:.1} ms, p99 {:.1} ms\n\
         last record {:.0} ms after the request to stop, end after {:.0} ms",
        percentile(&intervals, 0.5).as_secs_f64() * 1e3,
        percentile(&intervals, 0.99).as_secs_f64() * 1e3,
        stopped.last_record.as_secs_f64() * 1e3,
        stopped.end.as_secs_f64() * 1e3,
    );
    Ok(memory_is_as_counted(&memory, counted, count) && fewest > 0 && factor <= SCANS_FACTOR)
}

/// Prints what was resident, in bytes; returns whether that is what was counted and does not grow.
fn memory_is_as_counted(resident: &[u64], counted: u64, systems: usize) -> bool {
    let (first, most) = (resident.get(resident.len() / 10), resident.iter().max());
    let (first, most) = (*first.unwrap_or(&1), *most.unwrap_or(&0));
    let growth = most as f64 / first as f64;
    let difference = most.abs_diff(counted) as f64 / counted.max(1) as f64;
    println!(
        "resident: {} MiB, {:.1} MiB a system; grew by a factor of {growth:.3} (at most {GROWTH})\n\
         counted before the start: {} MiB; the difference is {:.1} % (at most {:.0} %)",
        most >> 20,
        most as f64 / f64::from(1 << 20) / systems as f64,
        counted >> 20,
        difference * 100.0,
        COUNTED_DIFFERENCE * 100.0,
    );
    growth <= GROWTH && difference <= COUNTED_DIFFERENCE
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
    fn memory_must_neither_grow_nor_differ_from_what_was_counted() {
        let is_good = |resident: &[u64], counted| memory_is_as_counted(resident, counted, 2);
        assert!(is_good(&[1000; 20], 960));
        assert!(!is_good(&[1000; 20], 940) && !is_good(&[1000; 20], 1060));
        let growing: Vec<u64> = (0..20).map(|at| 1000 + at).collect();
        assert!(!is_good(&growing, 1000));
        assert!(!is_good(&[], 1000));
    }

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
