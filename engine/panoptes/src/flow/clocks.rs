//! The clocks of a live sensor: flows wait by the monotonic one, and packets have stamps of the
//! real one or of their card's.

use std::ops::Range;
use std::time::Instant;

use super::audit::Audit;

/// A smaller difference between the two clocks comes of NTP or PTP, which adjust the real one.
const SET_NS: i64 = 1_000_000_000;
/// How old a stamp may be: packets wait in a ring while the sensor does not run.
const OLDEST_NS: i64 = 60_000_000_000;
/// How far a stamp may be ahead of the clock of this machine.
const STAMP_AHEAD_NS_MAX: i64 = 1_000_000_000;

/// The real and the monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    start: Instant,
    /// The real time at the start: flows wait by this and by what has passed.
    start_ns: i64,
    /// The real time at the last look.
    last_ns: i64,
    /// How far the real clock was ahead of the other one then.
    ahead_ns: i64,
}

/// The times that packets may have which are read now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PlausibleTimes {
    pub(super) plausible: Range<i64>,
    pub(super) now_ns: i64,
}

impl Clocks {
    pub(super) fn start() -> Self {
        let start_ns = super::now_ns();
        Self { start: Instant::now(), start_ns, last_ns: start_ns, ahead_ns: 0 }
    }

    /// Passes the time of flows, and reports a clock that was set.
    pub(super) fn look(&mut self, auditor: &mut impl Audit) -> PlausibleTimes {
        let passed_ns = i64::try_from(self.start.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let (times, set_ns) = self.compare(passed_ns, super::now_ns());
        if let Some(by_ns) = set_ns {
            auditor.set_clock(by_ns);
        }
        auditor.pass_time(self.start_ns.saturating_add(passed_ns));
        times
    }

    /// The times that packets may have, and by how much the real clock was set since the last look.
    const fn compare(&mut self, passed_ns: i64, now_ns: i64) -> (PlausibleTimes, Option<i64>) {
        let ahead_ns = now_ns.saturating_sub(self.start_ns).saturating_sub(passed_ns);
        let by_ns = ahead_ns.saturating_sub(self.ahead_ns);
        self.ahead_ns = ahead_ns;
        let earliest_ns = if self.last_ns < now_ns { self.last_ns } else { now_ns };
        self.last_ns = now_ns;
        let plausible = earliest_ns - OLDEST_NS..now_ns.saturating_add(STAMP_AHEAD_NS_MAX);
        let was_set = by_ns.unsigned_abs() >= SET_NS as u64;
        (PlausibleTimes { plausible, now_ns }, if was_set { Some(by_ns) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: i64 = 1_000_000_000;
    const BEGIN_NS: i64 = 1_700_000_000 * SECOND_NS;

    /// Returns by how many seconds the real clock was set, for each look. A look has the seconds
    /// that have passed and those that the clock shows.
    fn set(looks: &[(i64, i64)]) -> Vec<Option<i64>> {
        let (start_ns, last_ns) = (BEGIN_NS, BEGIN_NS);
        let mut clocks = Clocks { start: Instant::now(), start_ns, last_ns, ahead_ns: 0 };
        let compare = |(passed, shown): &(i64, i64)| {
            let (_, by_ns) = clocks.compare(passed * SECOND_NS, BEGIN_NS + shown * SECOND_NS);
            by_ns.map(|by_ns| by_ns / SECOND_NS)
        };
        looks.iter().map(compare).collect()
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_once() {
        assert_eq!(set(&[(1, 1), (2, 2), (900, 900)]), [None; 3]);
        assert_eq!(set(&[(1, 1), (2, -3598), (3, -3597)]), [None, Some(-3600), None]);
        assert_eq!(set(&[(1, 7200), (2, 7201), (3, 3)]), [Some(7199), None, Some(-7199)]);
    }

    #[test]
    fn stamps_are_near_the_clock_now_or_at_the_last_look() {
        let (start_ns, last_ns) = (BEGIN_NS, BEGIN_NS);
        let mut clocks = Clocks { start: Instant::now(), start_ns, last_ns, ahead_ns: 0 };
        // The clock was set forward: packets from before that have waited in the ring.
        let (times, _) = clocks.compare(SECOND_NS, BEGIN_NS + 3600 * SECOND_NS);
        assert!(times.plausible.contains(&BEGIN_NS));
        assert!(times.plausible.contains(&(BEGIN_NS + 3600 * SECOND_NS)));
        let (times, _) = clocks.compare(2 * SECOND_NS, BEGIN_NS + 3601 * SECOND_NS);
        assert!(!times.plausible.contains(&BEGIN_NS));
        assert!(!times.plausible.contains(&i64::MAX) && !times.plausible.contains(&0));
    }
}
