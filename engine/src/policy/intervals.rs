//! The time from one scan of a machine to the next: how long it really is, and how much of its
//! budget a scan uses.
//!
//! A machine that costs too much, or has too many neighbours, is scanned less often than wanted.
//! What begins and ends between two scans is not seen, so `coverage_report` has the times. It is
//! also emitted if they are more than twice as long as wanted, or if a scan has used more than its
//! budget of work.

use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_tables::Histogram;

use super::gaps::AGAIN_NS;
use crate::time::Monotonic;

/// Scans that are on average this many times farther apart than wanted are reported.
const LATE_FACTOR: u64 = 2;
/// A scan that uses more of its budget is reported, in percent.
pub(super) const BUDGET_PERCENT: u32 = 100;
/// The first report follows after this time, the next ones after [`AGAIN_NS`] each, as those of
/// gaps do.
const FIRST_NS: i64 = 10_000_000_000;
const _: () = assert!(FIRST_NS < AGAIN_NS, "the first report comes early");

/// Times between scans, in nanoseconds, since the last report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ScanIntervalStats {
    pub(super) wanted: u64,
    /// Number of times.
    pub(super) count: u64,
    pub(super) mean: u64,
    pub(super) percentile_99: u64,
    pub(super) longest: u64,
    /// The most that a scan has used of its budget, in percent.
    pub(super) budget_used: u32,
    /// Number of changes that only a scan of everything found.
    pub(super) found_late: u64,
}

impl ScanIntervalStats {
    pub(super) fn is_late(&self) -> bool {
        self.mean > self.wanted.saturating_mul(LATE_FACTOR)
    }
}

/// The attributes of a record; none if there are no times.
pub(super) fn details(reached: Option<ScanIntervalStats>) -> SystemActivityDetails<'static> {
    SystemActivityDetails {
        scan_interval_ns: reached.map(|reached| reached.wanted),
        scan_interval_mean_ns: reached.map(|reached| reached.mean),
        scan_interval_p99_ns: reached.map(|reached| reached.percentile_99),
        scan_interval_max_ns: reached.map(|reached| reached.longest),
        scans: reached.map(|reached| reached.count),
        scan_budget_used_max_percent: reached.map(|reached| reached.budget_used),
        changes_found_late: reached.map(|reached| reached.found_late).filter(|&count| count > 0),
        ..SystemActivityDetails::default()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Intervals {
    /// Wanted nanoseconds between scans; 0 if nobody scans regularly.
    pub(super) wanted: u64,
    times: Histogram,
    last: Option<Monotonic>,
    /// The beginning of the present period, and its length.
    since: Monotonic,
    period_ns: i64,
    /// The most that a scan has used of its budget since the last report, in percent.
    budget_used: u32,
    /// Number of changes that only a scan of everything found, since the last report.
    found_late: u64,
}

impl Intervals {
    pub(super) fn new() -> Self {
        Self {
            wanted: 0,
            times: Histogram::new(),
            last: None,
            since: Monotonic::default(),
            period_ns: FIRST_NS,
            budget_used: 0,
            found_late: 0,
        }
    }

    /// Adds changes that only a scan of everything found.
    pub(super) fn note_found_late(&mut self, count: u64) {
        self.found_late = self.found_late.saturating_add(count);
    }

    /// Notes how much of its budget a scan has used, in percent.
    pub(super) fn note_budget_used(&mut self, percent: u32) {
        self.budget_used = self.budget_used.max(percent);
    }

    pub(super) fn note_scan(&mut self, now: Monotonic) {
        match self.last.replace(now) {
            Some(last) => self.times.add(now.since(last).max(0) as u64),
            None => self.since = now,
        }
    }

    /// At the end of a period: the times, if scans were late or a scan used more than its budget.
    pub(super) fn late(&mut self, now: Monotonic) -> Option<ScanIntervalStats> {
        if now.since(self.since) < self.period_ns {
            return None;
        }
        let (budget_used, found_late) = (self.budget_used, self.found_late);
        let is_reported = |it: &ScanIntervalStats| {
            it.is_late() || it.budget_used > BUDGET_PERCENT || it.found_late > 0
        };
        let reached = self.take(now).filter(is_reported);
        if reached.is_none() {
            // The next report has it.
            (self.budget_used, self.found_late) = (budget_used, found_late);
        }
        self.period_ns = if reached.is_some() { AGAIN_NS } else { FIRST_NS };
        reached
    }

    /// The times since the last call; `None` if nobody scans regularly, or there is none.
    pub(super) fn take(&mut self, now: Monotonic) -> Option<ScanIntervalStats> {
        let reached = ScanIntervalStats {
            wanted: self.wanted,
            count: self.times.count(),
            mean: self.times.mean(),
            percentile_99: self.times.percentile_99(),
            longest: self.times.largest(),
            budget_used: self.budget_used,
            found_late: self.found_late,
        };
        self.times.clear();
        self.since = now;
        let is_regular = reached.wanted > 0 && reached.count > 0;
        if is_regular {
            (self.budget_used, self.found_late) = (0, 0);
        }
        is_regular.then_some(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// The seconds at which late scans are reported, and the means in milliseconds. `time` gives
    /// the milliseconds from each scan to the next, by the second.
    fn reports(seconds: i64, time: impl Fn(i64) -> i64) -> Vec<(i64, u64)> {
        let mut intervals = Intervals { wanted: 10 * MS as u64, ..Intervals::new() };
        let (mut now, mut all) = (0, Vec::new());
        while now < seconds * 1000 {
            intervals.note_scan(Monotonic::from_ns(now * MS));
            if let Some(reached) = intervals.late(Monotonic::from_ns(now * MS)) {
                all.push((now / 1000, reached.mean / MS as u64));
            }
            now += time(now / 1000);
        }
        all
    }

    #[test]
    fn scans_in_time_are_not_reported() {
        assert_eq!(reports(200, |_| 10), []);
        assert_eq!(reports(200, |_| 20), [], "up to twice as long");
        assert_eq!(reports(200, |second| if second == 50 { 900 } else { 10 }), []);
    }

    #[test]
    fn late_scans_are_reported_after_ten_seconds_and_then_each_minute() {
        assert_eq!(reports(140, |_| 25), [(10, 25), (70, 25), (130, 25)]);
        let late = |second| if (20..40).contains(&second) { 50 } else { 10 };
        assert_eq!(reports(100, late), [(30, 50)]);
    }

    #[test]
    fn a_scan_beyond_its_budget_is_reported_and_others_with_the_next_report() {
        let mut intervals = Intervals { wanted: 10 * MS as u64, ..Intervals::new() };
        let mut all = Vec::new();
        for scan in 0..4000_i64 {
            let now = Monotonic::from_ns(scan * 10 * MS);
            intervals.note_scan(now);
            intervals.note_budget_used(match scan {
                0..1500 => 70,
                1500 => 160,
                _ => 30,
            });
            all.extend(intervals.late(now).map(|reached| (scan / 100, reached.budget_used)));
        }
        assert_eq!(all, [(20, 160)]);
        let now = Monotonic::from_ns(40_000 * MS);
        let used = |intervals: &mut Intervals| intervals.take(now).map(|it| it.budget_used);
        assert_eq!(used(&mut intervals), Some(30));
        intervals.note_scan(now);
        intervals.note_scan(now);
        assert_eq!(used(&mut intervals), Some(0));
    }

    #[test]
    fn figures_are_those_since_the_last_report() {
        let mut intervals = Intervals { wanted: 10 * MS as u64, ..Intervals::new() };
        let at = |ms| Monotonic::from_ns(ms * MS);
        assert_eq!(intervals.take(at(0)), None);
        for now in [0, 10, 20, 50] {
            intervals.note_scan(at(now));
        }
        let reached = intervals.take(at(50)).unwrap();
        assert_eq!((reached.count, reached.longest), (3, 30 * MS as u64));
        assert_eq!(reached.mean, 50 * MS as u64 / 3);
        assert_eq!(intervals.take(at(60)), None);
        intervals.wanted = 0;
        intervals.note_scan(at(70));
        assert_eq!(intervals.take(at(70)), None, "nobody scans regularly");
    }
}
