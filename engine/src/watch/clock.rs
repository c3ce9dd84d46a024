//! Whether a machine runs, by its clock.
//!
//! Nothing happens in a machine whose clock stands still. Its memory may change all the same: a reset or another
//! kernel overwrites it, and QEMU loads a saved machine into it.

/// A machine is idle, or does not run, after so long without a tick: a busy one's come every 10 ms at most.
const STILL_NS: i64 = 100_000_000;
/// A clock must have gone on more often than this before it counts as running. The first look counts, and so does a
/// load of another clock's memory over this one's.
const TICKS_SEEN: u8 = 3;

/// What a clock shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Motion {
    /// It goes, or nothing is known that contradicts that.
    Goes,
    /// It went before and stands still now.
    StandsStill,
    /// It was not seen to go yet, and must be.
    NotSeenYet,
}

/// A machine's clock, as scans have seen it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    ticks: Option<u64>,
    ticked_ns: i64,
    /// How often it was seen to go on, up to a few.
    seen: u8,
    must_be_seen: bool,
}

impl Clock {
    /// With `must_be_seen`, the clock counts as running only after it was seen to go on a few times.
    pub(super) const fn new(must_be_seen: bool) -> Self {
        Self { ticks: None, ticked_ns: 0, seen: 0, must_be_seen }
    }

    /// Takes note of a scan's reading, which is another number after every tick; `None` where it is not known.
    pub(super) fn read(&mut self, ticks: Option<u64>, now_ns: i64) -> Motion {
        if ticks.is_none() {
            return Motion::Goes;
        }
        let has_gone_on = ticks != self.ticks;
        if has_gone_on {
            self.seen = self.seen.saturating_add(1);
            (self.ticks, self.ticked_ns) = (ticks, now_ns);
        }
        if self.seen <= TICKS_SEEN {
            // A clock that was never seen to go proves nothing by standing still.
            return if self.must_be_seen { Motion::NotSeenYet } else { Motion::Goes };
        }
        let is_still = !has_gone_on && now_ns.saturating_sub(self.ticked_ns) > STILL_NS;
        if is_still { Motion::StandsStill } else { Motion::Goes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn a_clock_that_went_and_stops_stands_still() {
        let mut clock = Clock::new(false);
        for tick in 0..4 {
            assert_eq!(clock.read(Some(tick), tick as i64 * 10 * MS), Motion::Goes);
        }
        assert_eq!(clock.read(Some(3), 130 * MS), Motion::Goes);
        assert_eq!(clock.read(Some(3), 131 * MS), Motion::StandsStill);
        assert_eq!(clock.read(Some(4), 140 * MS), Motion::Goes);
    }

    #[test]
    fn a_clock_that_never_went_proves_nothing() {
        let mut clock = Clock::new(false);
        for second in 0..10 {
            assert_eq!(clock.read(Some(7), second * 1000 * MS), Motion::Goes);
        }
    }

    #[test]
    fn a_clock_that_must_be_seen_is_waited_for() {
        let mut clock = Clock::new(true);
        // Memory of an older state is loaded over it; nothing runs yet.
        for (scan, ticks) in [9, 9, 9, 2, 2, 2].into_iter().enumerate() {
            assert_eq!(clock.read(Some(ticks), scan as i64 * 200 * MS), Motion::NotSeenYet);
        }
        assert_eq!(clock.read(Some(3), 1300 * MS), Motion::NotSeenYet);
        assert_eq!(clock.read(Some(4), 1310 * MS), Motion::Goes);
        assert_eq!(clock.read(Some(4), 1500 * MS), Motion::StandsStill);
    }

    #[test]
    fn a_clock_that_is_not_known_is_not_waited_for() {
        assert_eq!(Clock::new(true).read(None, 0), Motion::Goes);
    }
}
