//! Compares the kernel's own count of births with the number of births that scans saw.
//!
//! The kernel counts every fork, of processes and of threads (`total_forks`, kernel/fork.c). No
//! scan sees what lives only between two scans; this module counts these births. It reports them
//! when a burst is over, and once a minute while a burst lasts.

use crate::time::Monotonic;

/// Births over some time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Births {
    /// Number of births by the kernel's count.
    pub born: u64,
    /// Number of these that a scan saw, or found after their end.
    pub seen: u64,
}

impl Births {
    /// Number of births that no scan saw.
    pub fn unseen(&self) -> u64 {
        self.born.saturating_sub(self.seen)
    }
}

/// A burst is over after this time without a miss. It also covers the time until the last births of
/// a burst are scanned.
const QUIET_NS: i64 = 1_000_000_000;
/// Minimum time between two reports; `BURST_NS` is the time between reports of one burst.
const APART_NS: i64 = 5_000_000_000;
const BURST_NS: i64 = 60_000_000_000;
const _: () = assert!(QUIET_NS < APART_NS && APART_NS < BURST_NS);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coverage {
    last: Option<u64>,
    births: Births,
    /// The number unseen as of the last scan, when the first of these was missed, and when the
    /// number last grew.
    unseen: u64,
    since: Monotonic,
    grew: Monotonic,
    reported: Option<Monotonic>,
}

impl Coverage {
    /// The kernel's count of forks at the start of the last scan that knew it.
    pub(super) const fn total(&self) -> Option<u64> {
        self.last
    }

    /// Adds one scan; `total` is the kernel's count at the scan's start.
    pub(super) fn update(&mut self, total: Option<u64>, seen: u64) {
        let Some(total) = total else { return };
        if let Some(last) = self.last {
            // The guest controls this count.
            self.births.born = self.births.born.saturating_add(total.saturating_sub(last));
            self.births.seen = self.births.seen.saturating_add(seen);
        }
        self.last = Some(total);
    }

    /// The number of births that no scan saw so far.
    pub(super) fn unseen(&self) -> u64 {
        self.births.unseen()
    }

    /// Adds births that no scan saw in time, but that were found after their end.
    pub(super) fn note_recovered(&mut self, count: u64) {
        self.births.seen = self.births.seen.saturating_add(count);
    }

    /// Births to report as of now, if any were missed.
    pub(super) fn report(&mut self, now: Monotonic) -> Option<Births> {
        let unseen = self.births.unseen();
        if unseen > self.unseen {
            if self.unseen == 0 {
                self.since = now;
            }
            self.grew = now;
        }
        // Some births are seen late. The next ones of these must not pass for births that were
        // missed a while ago.
        self.unseen = unseen;
        let is_past = |since, time| now.since(since) >= time;
        let is_over = is_past(self.grew, QUIET_NS)
            && self.reported.is_none_or(|reported| is_past(reported, APART_NS));
        if unseen == 0 || !is_over && !is_past(self.since, BURST_NS) {
            return None;
        }
        self.reported = Some(now);
        self.take()
    }

    /// Births still to be reported at the end.
    pub(super) fn rest(&mut self) -> Option<Births> {
        self.take().filter(|births| births.unseen() > 0)
    }

    /// The births since the last call; `None` if the kernel's count is unknown.
    pub(super) fn take(&mut self) -> Option<Births> {
        self.last?;
        self.unseen = 0;
        let births = core::mem::take(&mut self.births);
        // A scan reads the count first, so it can show tasks that the count lacks: they belong to
        // the next births.
        self.births.seen = births.seen.saturating_sub(births.born);
        Some(Births { born: births.born, seen: births.seen.min(births.born) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_that_no_scan_saw_are_counted() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.take(), None);
        coverage.update(Some(1000), 300);
        assert_eq!(coverage.take(), Some(Births::default()), "earlier forks are no births");
        coverage.update(Some(1100), 68);
        let births = coverage.take().unwrap();
        assert_eq!(births, Births { born: 100, seen: 68 });
        assert_eq!(births.unseen(), 32);
    }

    /// Reports of scans every 10 ms for `seconds`. `missed` returns the number of births that a
    /// scan missed, by the scan's number.
    fn reports(seconds: u64, missed: impl Fn(u64) -> u64) -> Vec<(u64, u64)> {
        let mut coverage = Coverage::default();
        let (mut total, mut all) = (1000, Vec::new());
        for scan in 0..seconds * 100 {
            // One more birth, which is seen.
            total += 1 + missed(scan);
            coverage.update(Some(total), 1);
            if let Some(births) = coverage.report(Monotonic::from_ns(scan as i64 * 10_000_000)) {
                all.push((scan, births.unseen()));
            }
        }
        all
    }

    #[test]
    fn nothing_is_reported_where_nothing_was_missed() {
        assert_eq!(reports(200, |_| 0), []);
    }

    #[test]
    fn a_burst_is_reported_once_when_it_is_over() {
        let burst = |scan| u64::from((100..250).contains(&scan)) * 3;
        assert_eq!(reports(200, burst), [(349, 450)]);
    }

    #[test]
    fn a_burst_that_goes_on_is_reported_every_minute() {
        assert_eq!(reports(130, |scan| u64::from(scan > 0)), [(6001, 6001), (12002, 6001)]);
    }

    #[test]
    fn bursts_in_a_row_are_reported_some_seconds_apart() {
        let trickle = |scan| u64::from(scan % 200 == 50);
        assert_eq!(reports(11, trickle), [(150, 1), (750, 3)]);
    }

    #[test]
    fn a_birth_that_is_seen_late_is_not_reported() {
        let mut coverage = Coverage::default();
        coverage.update(Some(10), 0);
        for scan in 1..300 {
            let (total, seen) = if scan < 5 { (15, 0) } else { (15, u64::from(scan == 5) * 5) };
            coverage.update(Some(total), seen);
            assert_eq!(coverage.report(Monotonic::from_ns(scan * 10_000_000)), None);
        }
        assert_eq!(coverage.rest(), None);
        coverage.update(Some(20), 3);
        assert_eq!(coverage.rest(), Some(Births { born: 5, seen: 3 }));
    }

    /// Scans right after forks often see a process one scan late.
    #[test]
    fn births_that_are_seen_late_again_and_again_are_not_reported() {
        let mut coverage = Coverage::default();
        coverage.update(Some(10), 0);
        for scan in 1..1000 {
            let is_late = scan % 150 == 0;
            let seen = u64::from(!is_late) + u64::from(scan % 150 == 1 && scan > 1);
            coverage.update(Some(10 + scan), seen);
            let now = Monotonic::from_ns(scan as i64 * 10_000_000);
            assert_eq!(coverage.report(now), None, "{scan}");
        }
        assert_eq!(coverage.rest(), None);
    }

    #[test]
    fn a_count_that_swings_does_not_overflow() {
        let mut coverage = Coverage::default();
        for total in [0, u64::MAX, 0, u64::MAX, 0, 7] {
            coverage.update(Some(total), u64::MAX);
        }
        assert_eq!(coverage.take(), Some(Births { born: u64::MAX, seen: u64::MAX }));
        assert_eq!(coverage.take(), Some(Births::default()));
    }

    #[test]
    fn one_seen_before_it_is_counted_is_counted_once() {
        let mut coverage = Coverage::default();
        coverage.update(Some(10), 0);
        coverage.update(Some(10), 1);
        assert_eq!(coverage.take(), Some(Births { born: 0, seen: 0 }));
        coverage.update(Some(11), 0);
        assert_eq!(coverage.take(), Some(Births { born: 1, seen: 1 }));
    }
}
