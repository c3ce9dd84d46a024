//! What scans cost, in time of the scanner's CPU. `coverage_report` has the real times from scan to
//! scan.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use panoptes_tables::Histogram;

/// What the control thread knows of one scanner; both write to it.
///
/// Aligned to two cache lines, which processors fetch together: scanners on other cores write to
/// theirs at the same time.
#[derive(Debug)]
#[repr(align(128))]
pub(in crate::watch) struct ScannerState {
    /// Scanner: records that did not fit in its queue to the writer.
    pub(in crate::watch) refused: AtomicU64,
    /// Control thread: number of systems that it was given.
    pub(in crate::watch) systems: AtomicUsize,
    /// Control thread: what a scan may cost, in nanoseconds, if there are several systems.
    pub(in crate::watch) limit_ns: AtomicU64,
    /// Control thread: the time of each interval that a system may use, in nanoseconds.
    pub(in crate::watch) share_ns: AtomicU64,
    /// Scanner: when the scan that runs, or the hashing, began, in nanoseconds since the start; 0
    /// if none runs.
    pub(in crate::watch) scans_since_ns: AtomicU64,
    /// Scanner: the system that it scans, or has scanned last.
    pub(in crate::watch) scans: AtomicUsize,
    /// Scanner: when it made its last step, in nanoseconds since the start.
    pub(in crate::watch) step_ns: AtomicU64,
    /// Scanner: its thread id.
    pub(in crate::watch) thread_id: AtomicU32,
    /// Scanner: a panic that was not in the scan of a system.
    panic: Mutex<Option<String>>,
}

impl Default for ScannerState {
    /// Without bounds.
    fn default() -> Self {
        Self {
            refused: AtomicU64::default(),
            systems: AtomicUsize::default(),
            limit_ns: AtomicU64::new(u64::MAX),
            share_ns: AtomicU64::new(u64::MAX),
            scans_since_ns: AtomicU64::default(),
            scans: AtomicUsize::default(),
            step_ns: AtomicU64::default(),
            thread_id: AtomicU32::default(),
            panic: Mutex::default(),
        }
    }
}

impl ScannerState {
    /// Scanner: begins to read the memory of a system.
    pub(super) fn begins(&self, system: usize, now_ns: u64) {
        self.scans.store(system, Ordering::Relaxed);
        self.scans_since_ns.store(now_ns.max(1), Ordering::Relaxed);
    }

    /// Scanner: has read it.
    pub(super) fn ends(&self) {
        self.scans_since_ns.store(0, Ordering::Relaxed);
    }

    /// Scanner: has panicked, and continues.
    pub(super) fn report_panic(&self, panic: &str) {
        *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.to_owned());
    }

    /// Control thread: the panic since the last call, if there was one.
    pub(in crate::watch) fn take_panic(&self) -> Option<String> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether a scan must end after some time, because other systems wait for their turn.
    pub(in crate::watch) fn is_shared(&self) -> bool {
        self.systems.load(Ordering::Relaxed) > 1
    }
}

/// What a system costs, as its scanner has measured it. Aligned as [`ScannerState`].
#[derive(Debug, Default)]
#[repr(align(128))]
pub(in crate::watch) struct MeasuredCost {
    cost_ns: AtomicU64,
    scans: AtomicU64,
}

impl MeasuredCost {
    /// Scanner: sets the cost of a whole scan, and the number of whole scans.
    pub(in crate::watch) fn set(&self, cost_ns: u64, scans: u64) {
        self.cost_ns.store(cost_ns, Ordering::Relaxed);
        self.scans.store(scans, Ordering::Relaxed);
    }

    /// Control thread: the same.
    pub(in crate::watch) fn get(&self) -> (u64, u64) {
        (self.cost_ns.load(Ordering::Relaxed), self.scans.load(Ordering::Relaxed))
    }
}

/// The times of one system's scans since it was attached to.
#[derive(Debug, Default)]
pub(in crate::watch) struct ScanStats {
    /// Nanoseconds of the scanner's CPU time from the start of each scan to that of the next: what
    /// other programs use does not count.
    cpu_intervals: Histogram,
    /// Nanoseconds that a scan, or a part of one, cost.
    costs: Histogram,
    /// The CPU time of the scanner when the last scan began; `None` on another scanner.
    last: Option<u64>,
    late: u64,
    partial: u64,
    moves: u64,
}

impl ScanStats {
    /// A scan begins; `cpu_ns` is the CPU time of the scanner.
    pub(super) fn begins(&mut self, cpu_ns: u64) {
        if let Some(before) = self.last.replace(cpu_ns) {
            self.cpu_intervals.add(cpu_ns.saturating_sub(before));
        }
    }

    pub(super) fn ended(&mut self, cost_ns: u64, is_late: bool, is_partial: bool) {
        self.costs.add(cost_ns);
        self.late += u64::from(is_late);
        self.partial += u64::from(is_partial);
    }

    /// The system is passed to another scanner, whose thread has another clock.
    pub(super) fn moves(&mut self) {
        self.moves += 1;
        self.last = None;
    }

    /// Number of scans, or parts of scans.
    #[cfg(test)]
    pub(in crate::watch) fn scans(&self) -> u64 {
        self.costs.count()
    }

    /// The times from scan to scan in nanoseconds of the scanner's CPU time.
    #[cfg(test)]
    pub(in crate::watch) fn cpu_intervals(&self) -> &Histogram {
        &self.cpu_intervals
    }
}

impl fmt::Display for ScanStats {
    /// One line for people: how many scans, at what cost.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ns: u64| ns as f64 / 1e6;
        let Self { cpu_intervals, costs, late, partial, moves, .. } = self;
        write!(
            f,
            "{} scans, {late} late, {partial} in parts; a scan cost {:.2} ms on average and {:.2} \
             ms at worst; CPU time of the scanner from scan to scan: {:.2} ms on average, {:.2} ms \
             in 99 of 100 cases; moved {moves} times",
            costs.count(),
            ms(costs.mean()),
            ms(costs.largest()),
            ms(cpu_intervals.mean()),
            ms(cpu_intervals.percentile_99()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_system_are_one_line() {
        let mut stats = ScanStats::default();
        for scan in 0..101 {
            stats.begins(1 + scan * 2_000_000);
            stats.ended(500_000, scan == 7, false);
        }
        stats.moves();
        stats.begins(9);
        stats.ended(1_500_000, false, true);
        assert_eq!(
            stats.to_string(),
            "102 scans, 1 late, 1 in parts; a scan cost 0.51 ms on average and 1.50 ms at worst; \
             CPU time of the scanner from scan to scan: 2.00 ms on average, 2.00 ms in 99 of 100 \
             cases; moved 1 times"
        );
    }
}
