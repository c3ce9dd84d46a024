//! The figures of one system. Its scanner writes them once a scan, and any thread reads them.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use panoptes_engine::limits::{Limit, PerLimit};
use panoptes_engine::policy::gaps::GAPS_MAX;
use panoptes_engine::time::{Monotonic, Now};
use panoptes_engine::watch::{ScanStage, WatchedMachine};

use super::clocks::nanoseconds;

/// The upper bounds of a histogram's buckets, in nanoseconds. A last bucket has the rest.
pub(super) const BOUNDS_NS: [u64; 12] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(super) struct Durations {
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl Durations {
    pub(super) fn add(&self, ns: u64) {
        let bucket = BOUNDS_NS.partition_point(|&bound| bound < ns);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// How many durations are in each bucket, and their sum in nanoseconds.
    pub(super) fn get(&self) -> ([u64; BOUNDS_NS.len() + 1], u64) {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        (buckets, self.sum_ns.load(Ordering::Relaxed))
    }
}

/// How full a table is.
#[derive(Debug, Default)]
pub(super) struct TableFigures {
    pub(super) used: AtomicU64,
    pub(super) capacity: AtomicU64,
    /// Entries that found no room in the last scan.
    pub(super) untracked: AtomicU64,
}

/// Figures of all systems together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sums {
    /// The number of systems, and of those that a scanner has.
    pub(super) systems: usize,
    pub(super) watched: usize,
    /// Scans since the start, and the time that they took, without the hashing of files.
    pub(super) scans: u64,
    pub(super) scan_ns: u64,
    /// Tracked objects.
    pub(super) objects: u64,
    /// Alerts since the start.
    pub(super) alerts: u64,
}

/// Aligned to two cache lines, which processors fetch together: scanners on other cores write to
/// those of other systems at the same time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct SystemFigures {
    /// Control thread: whether a scanner has it.
    pub(super) is_watched: AtomicBool,
    /// Scans, and parts of scans; the number of such parts; scans that failed.
    pub(super) scans: AtomicU64,
    pub(super) partial: AtomicU64,
    /// Scans that have kept the rows of the ones before; light scans; early scans.
    pub(super) kept: AtomicU64,
    pub(super) light: AtomicU64,
    pub(super) early: AtomicU64,
    pub(super) failed: AtomicU64,
    /// When the last scan began, by the monotonic clock; 0 if there was none.
    began_ns: AtomicI64,
    /// When the last scan that did not fail began, in nanoseconds since 1970; 0 if there was none.
    pub(super) last_scan_ns: AtomicI64,
    pub(super) stages: [Durations; ScanStage::ALL.len()],
    /// From the start of one scan to the start of the next.
    pub(super) intervals: Durations,
    pub(super) tables: PerLimit<TableFigures>,
    /// What was missed since each gap began; 0 if there is none.
    pub(super) gaps: [AtomicU64; GAPS_MAX],
    pub(super) read_bytes: AtomicU64,
    pub(super) read_batches: AtomicU64,
    pub(super) read_errors: AtomicU64,
}

impl SystemFigures {
    /// Control thread: sets whether a scanner has the system.
    pub(super) fn set_watched(&self, is_watched: bool) {
        // What passes until the next attempt to attach to it is no interval.
        self.began_ns.store(0, Ordering::Relaxed);
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }

    /// Adds the system to the sums of all systems. Objects of one that is not watched do not count.
    pub(super) fn add_to(&self, sums: &mut Sums) {
        let is_watched = self.is_watched.load(Ordering::Relaxed);
        sums.systems += 1;
        sums.watched += usize::from(is_watched);
        sums.scans += self.scans.load(Ordering::Relaxed);
        for (stage, durations) in ScanStage::ALL.iter().zip(&self.stages) {
            if *stage != ScanStage::Hash {
                sums.scan_ns += durations.get().1;
            }
        }
        if is_watched {
            let objects =
                self.tables.iter().zip(Limit::ALL).filter(|(_, limit)| *limit != Limit::Strings);
            sums.objects +=
                objects.map(|(table, _)| table.used.load(Ordering::Relaxed)).sum::<u64>();
        }
    }

    /// Scanner: a scan begins.
    pub(super) fn begins(&self, now: Now) {
        let now_ns = now.monotonic.since(Monotonic::default()).max(1);
        let before = self.began_ns.swap(now_ns, Ordering::Relaxed);
        if before > 0 {
            self.intervals.add(now_ns.saturating_sub(before).max(0).cast_unsigned());
        }
    }

    /// Scanner: the scan that began at `now` has ended.
    pub(super) fn ended(&self, watched: &WatchedMachine, now: Now) {
        let add = |place: &AtomicU64, count: u64| _ = place.fetch_add(count, Ordering::Relaxed);
        let set = |place: &AtomicU64, value: u64| place.store(value, Ordering::Relaxed);
        add(&self.scans, 1);
        add(&self.partial, watched.is_partial().into());
        self.last_scan_ns.store(now.real.ns(), Ordering::Relaxed);
        let figures = watched.figures();
        add(&self.kept, figures.has_kept.into());
        add(&self.light, figures.is_light.into());
        add(&self.early, figures.is_early.into());
        for (durations, &ns) in self.stages.iter().zip(&figures.stages_ns) {
            if ns > 0 {
                durations.add(ns);
            }
        }
        add(&self.read_bytes, figures.work.bytes);
        add(&self.read_batches, figures.work.batches);
        add(&self.read_errors, figures.work.failed);
        for (table, limit) in self.tables.iter().zip(Limit::ALL) {
            let usage = watched.usage(limit);
            set(&table.used, usage.used);
            set(&table.capacity, usage.capacity);
            set(&table.untracked, usage.untracked);
        }
        for (place, count) in self.gaps.iter().zip(watched.gaps()) {
            set(place, count);
        }
    }

    /// Scanner: a scan has failed.
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Scanner: files were hashed between two scans.
    pub(super) fn hashed(&self, time: Duration) {
        self.stages[ScanStage::Hash as usize].add(nanoseconds(time));
    }
}
