//! Detects from a machine's clock whether the machine runs.
//!
//! Nothing happens in a machine whose clock stands still. Its memory may change all the same: a
//! reset or another kernel overwrites it, and QEMU loads a saved machine into it.

use crate::walk::Machine;

/// A machine is idle or stopped after this time without a tick: a busy machine's ticks come at
/// least every 10 ms.
const STILL_NS: i64 = 100_000_000;
/// Number of changes, beside the first value, after which a clock counts as running.
const TICKS_SEEN: u8 = 3;

/// The state of a clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Motion {
    /// It goes, or nothing proves the opposite.
    Goes,
    /// It went before and stands still now.
    StandsStill,
    /// It was not seen to go often enough.
    Unproven {
        /// Whether it went forward since the last scan: anything that started since then is new.
        went_forward: bool,
    },
}

/// A machine's clock, as scans have seen it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Changes with every tick.
    ticks: Option<u64>,
    ticked_ns: i64,
    /// The machine's own time, and its forks: both only grow while it runs.
    progress: (Option<i64>, Option<u64>),
    /// Number of different values seen, saturating.
    seen: u8,
    must_be_seen: bool,
}

impl Clock {
    /// With `must_be_seen`, the clock counts as running only after it was seen to change a few
    /// times.
    pub(super) const fn new(must_be_seen: bool) -> Self {
        Self { ticks: None, ticked_ns: 0, progress: (None, None), seen: 0, must_be_seen }
    }

    /// Updates from a scan; `now_ns` is the host's time.
    pub(super) fn read(&mut self, machine: &Machine, now_ns: i64) -> Motion {
        if machine.ticks.is_none() {
            return Motion::Goes;
        }
        let has_changed = machine.ticks != self.ticks;
        if has_changed {
            self.seen = self.seen.saturating_add(1);
            (self.ticks, self.ticked_ns) = (machine.ticks, now_ns);
        }
        let progress = (machine.calendar_ns, machine.total_forks);
        let (time, forks) = std::mem::replace(&mut self.progress, progress);
        if self.seen <= TICKS_SEEN {
            // A clock that was never seen to go proves nothing by standing still.
            if !self.must_be_seen {
                return Motion::Goes;
            }
            let is_first = time.is_none() && forks.is_none();
            if is_first || progress.0 < time || progress.1 < forks {
                // Another state of the machine was loaded.
                self.seen = 1;
                return Motion::Unproven { went_forward: false };
            }
            return Motion::Unproven { went_forward: (time, forks) != progress };
        }
        let is_still = !has_changed && now_ns.saturating_sub(self.ticked_ns) > STILL_NS;
        if is_still { Motion::StandsStill } else { Motion::Goes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn at(ticks: u64, forks: u64) -> Machine {
        Machine {
            ticks: Some(ticks),
            calendar_ns: Some(ticks as i64 * 4 * MS),
            total_forks: Some(forks),
            ..Machine::default()
        }
    }

    #[test]
    fn a_clock_that_went_and_stops_stands_still() {
        let mut clock = Clock::new(false);
        for tick in 0..4 {
            assert_eq!(clock.read(&at(tick, 0), tick as i64 * 10 * MS), Motion::Goes);
        }
        assert_eq!(clock.read(&at(3, 0), 130 * MS), Motion::Goes);
        assert_eq!(clock.read(&at(3, 0), 131 * MS), Motion::StandsStill);
        assert_eq!(clock.read(&at(4, 0), 140 * MS), Motion::Goes);
    }

    #[test]
    fn a_clock_that_never_went_proves_nothing() {
        let mut clock = Clock::new(false);
        for second in 0..10 {
            assert_eq!(clock.read(&at(7, 0), second * 1000 * MS), Motion::Goes);
        }
    }

    #[test]
    fn a_clock_that_must_be_seen_is_waited_for() {
        let mut clock = Clock::new(true);
        // Memory of an earlier state is loaded over it; nothing runs yet.
        let loading = [(9, 50), (9, 50), (9, 30), (2, 30), (2, 30)];
        for (scan, (ticks, forks)) in loading.into_iter().enumerate() {
            let motion = clock.read(&at(ticks, forks), scan as i64 * 200 * MS);
            assert_eq!(motion, Motion::Unproven { went_forward: false }, "{scan}");
        }
        // It runs: its forks show that within a tick, its clock at the next.
        let forward = Motion::Unproven { went_forward: true };
        assert_eq!(clock.read(&at(2, 31), 1300 * MS), forward);
        assert_eq!(clock.read(&at(3, 31), 1310 * MS), forward);
        assert_eq!(clock.read(&at(4, 31), 1320 * MS), forward);
        assert_eq!(clock.read(&at(5, 31), 1330 * MS), Motion::Goes);
        assert_eq!(clock.read(&at(5, 31), 1500 * MS), Motion::StandsStill);
    }

    #[test]
    fn an_unknown_clock_is_not_waited_for() {
        assert_eq!(Clock::new(true).read(&Machine::default(), 0), Motion::Goes);
    }
}
