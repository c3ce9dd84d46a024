//! How regularly scans run, and what they cost.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use panoptes_tables::Histogram;

/// What the control thread knows of one scanner; both write to it.
#[derive(Debug, Default)]
pub(in crate::watch) struct ScannerState {
    /// Scanner: records that did not fit in its queue to the writer.
    pub(in crate::watch) refused: AtomicU64,
    /// Control thread: number of systems that it was given.
    pub(in crate::watch) systems: AtomicUsize,
    /// Control thread: what a scan may cost, in nanoseconds, if there are several systems.
    pub(in crate::watch) limit_ns: AtomicU64,
    /// Control thread: how many times its cost the interval of a system is at least.
    pub(in crate::watch) pace: AtomicU64,
    /// Scanner: when the scan that runs began, in nanoseconds since the start; 0 if none runs.
    pub(in crate::watch) scans_since_ns: AtomicU64,
    /// Scanner: the system that it scans, or has scanned last.
    pub(in crate::watch) scans: AtomicUsize,
}

impl ScannerState {
    /// Whether a scan must end after some time, because other systems wait for their turn.
    pub(in crate::watch) fn is_shared(&self) -> bool {
        self.systems.load(Ordering::Relaxed) > 1
    }
}

/// What a system costs, as its scanner has measured it.
#[derive(Debug, Default)]
pub(in crate::watch) struct Measured {
    cost_ns: AtomicU64,
    scans: AtomicU64,
}

impl Measured {
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
    /// Nanoseconds from the start of each scan to that of the next.
    intervals: Histogram,
    /// The same in CPU time of the scanner: what other programs use does not count.
    cpu_intervals: Histogram,
    /// Nanoseconds that a scan, or a part of one, cost.
    costs: Histogram,
    /// When the last scan began, by both clocks.
    last: Option<(u64, u64)>,
    late: u64,
    partial: u64,
    moves: u64,
}

impl ScanStats {
    /// A scan begins; `cpu_ns` is the CPU time of the scanner.
    pub(super) fn begins(&mut self, now_ns: u64, cpu_ns: u64) {
        if let Some((now_before, cpu_before)) = self.last.replace((now_ns, cpu_ns)) {
            self.intervals.add(now_ns.saturating_sub(now_before));
            // Another thread has another clock.
            if cpu_before > 0 {
                self.cpu_intervals.add(cpu_ns.saturating_sub(cpu_before));
            }
        }
    }

    pub(super) fn ended(&mut self, cost_ns: u64, is_late: bool, is_partial: bool) {
        self.costs.add(cost_ns);
        self.late += u64::from(is_late);
        self.partial += u64::from(is_partial);
    }

    /// The system is passed to another scanner.
    pub(super) fn moves(&mut self) {
        self.moves += 1;
        if let Some((_, cpu)) = &mut self.last {
            *cpu = 0;
        }
    }

    /// The times from scan to scan in nanoseconds of the scanner's CPU time.
    #[cfg(test)]
    pub(in crate::watch) fn cpu_intervals(&self) -> &Histogram {
        &self.cpu_intervals
    }
}

impl fmt::Display for ScanStats {
    /// One line for people: how many scans, how far apart, at what cost.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ns: u64| ns as f64 / 1e6;
        let Self { intervals, cpu_intervals, costs, late, partial, moves, .. } = self;
        write!(
            f,
            "{} scans, {:.2} ms apart on average, {:.2} ms in 99 of 100 cases and {:.2} ms at \
             worst, {late} late, {partial} in parts; a scan cost {:.2} ms on average and {:.2} ms \
             at worst; CPU time of the scanner from scan to scan: {:.2} ms on average, {:.2} ms in \
             99 of 100 cases; moved {moves} times",
            costs.count(),
            ms(intervals.mean()),
            ms(intervals.percentile_99()),
            ms(intervals.largest()),
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
            stats.begins(1 + scan * 10_000_000, 1 + scan * 2_000_000);
            stats.ended(500_000, scan == 7, false);
        }
        stats.moves();
        stats.begins(1_030_000_001, 9);
        stats.ended(1_500_000, false, true);
        assert_eq!(
            stats.to_string(),
            "102 scans, 10.20 ms apart on average, 10.22 ms in 99 of 100 cases and 30.00 ms at \
             worst, 1 late, 1 in parts; a scan cost 0.51 ms on average and 1.50 ms at worst; CPU \
             time of the scanner from scan to scan: 2.00 ms on average, 2.00 ms in 99 of 100 \
             cases; moved 1 times"
        );
    }
}
