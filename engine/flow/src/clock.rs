//! The steps of the times that packets have in captures.
//!
//! Flows wait by the times of packets. A packet whose time is wrong, or a clock that was set while
//! a capture was made, must pass no time for them: [`CaptureClock`] decides that.

/// The largest difference between the times of two consecutive packets that needs no confirmation,
/// in nanoseconds.
const NEAR_NS: i64 = 60_000_000_000;
/// The number of consecutive packets that confirm that time has passed without packets.
const CONFIRM_PAUSE: u32 = 2;
/// The longest pause behind which packets that are not near each other confirm it, and behind which
/// the last packet of a capture is right, in nanoseconds.
const PAUSE_NS_MAX: i64 = 86_400 * 1_000_000_000;
/// The number of consecutive packets that confirm that the clock was set back.
const CONFIRM_BACK: u32 = 8;
/// The most packets that are unclear at once.
pub const UNCLEAR_MAX: usize = CONFIRM_BACK as usize - 1;

/// What a packet far from those before it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClockJump {
    /// It is not known before the next packet.
    Unclear,
    /// Time has passed without packets.
    Pause,
    /// The clock was set by so many nanoseconds; no time has passed.
    Set(i64),
}

/// The times of packets, one after another.
#[derive(Clone, Copy, Debug, Default)]
pub struct CaptureClock {
    /// The greatest time that was accepted. `None` before the first packet.
    last_ns: Option<i64>,
    /// The time in nanoseconds of the latest of the consecutive packets that have another time, and
    /// their number.
    other: Option<(i64, u32)>,
    /// The last step back of the clock.
    set_back_ns: i64,
}

impl CaptureClock {
    /// Takes the time of a packet if it is near those before it; whether it is.
    #[inline]
    pub fn accept(&mut self, time_ns: i64) -> bool {
        let last_ns = *self.last_ns.get_or_insert(time_ns);
        if !is_near(time_ns, last_ns) {
            return false;
        }
        self.last_ns = Some(last_ns.max(time_ns));
        true
    }

    /// Takes the time of a packet that was not accepted. Those before it that were unclear and are
    /// not near it were wrong.
    pub fn take_other(&mut self, time_ns: i64) -> ClockJump {
        let last_ns = self.last_ns.unwrap_or(time_ns);
        let count = match self.other {
            Some((other_ns, count)) if self.go_on(other_ns, time_ns) => count + 1,
            _ => 1,
        };
        self.other = Some((time_ns, count));
        let needed = if time_ns > last_ns { CONFIRM_PAUSE } else { CONFIRM_BACK };
        if count < needed {
            return ClockJump::Unclear;
        }
        self.other = None;
        self.last_ns = Some(time_ns);
        let by_ns = time_ns.saturating_sub(last_ns);
        if by_ns > 0 && !is_near(by_ns, self.set_back_ns) {
            return ClockJump::Pause;
        }
        // Back to where it was before: two clocks, whose packets take turns.
        self.set_back_ns = by_ns.saturating_neg().max(0);
        ClockJump::Set(by_ns)
    }

    /// Whether the packets that are unclear stay so with one of this time; else they were wrong.
    pub fn is_with_others(&self, time_ns: i64) -> bool {
        self.other.is_some_and(|(other_ns, _)| self.go_on(other_ns, time_ns))
    }

    /// Whether a pause explains the time of a packet that is unclear, and that none follows.
    pub fn is_behind_pause(&self) -> bool {
        self.other.is_some_and(|(other_ns, _)| self.is_pause(other_ns))
    }

    /// Whether a packet of this time confirms one that was not accepted: it is near it, or some
    /// time behind it.
    fn go_on(&self, other_ns: i64, time_ns: i64) -> bool {
        let is_behind = time_ns > other_ns && self.is_pause(other_ns) && self.is_pause(time_ns);
        is_near(time_ns, other_ns) || is_behind
    }

    /// Whether so much time may have passed without packets.
    fn is_pause(&self, time_ns: i64) -> bool {
        self.last_ns.is_some_and(|last_ns| {
            let passed_ns = time_ns.saturating_sub(last_ns);
            (0..=PAUSE_NS_MAX).contains(&passed_ns)
        })
    }

    /// Forgets the packets that were unclear.
    pub const fn forget_others(&mut self) {
        self.other = None;
    }
}

const fn is_near(one_ns: i64, other_ns: i64) -> bool {
    one_ns.abs_diff(other_ns) <= NEAR_NS as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: i64 = 1_000_000_000;
    const HOUR_NS: i64 = 3600 * SECOND_NS;
    const BEGIN_NS: i64 = 1_700_000_000 * SECOND_NS;

    /// The steps that packets at these seconds show.
    fn steps(seconds: impl IntoIterator<Item = i64>) -> Vec<(i64, ClockJump)> {
        let mut clock = CaptureClock::default();
        let take = |second: i64| {
            let time_ns = BEGIN_NS + second * SECOND_NS;
            if clock.accept(time_ns) {
                clock.forget_others();
                return None;
            }
            Some((second, clock.take_other(time_ns)))
        };
        seconds.into_iter().filter_map(take).collect()
    }

    #[test]
    fn a_single_wrong_time_is_unclear_and_then_forgotten() {
        assert_eq!(steps([0, 1, 2, 1_000_000, 3, 4]), [(1_000_000, ClockJump::Unclear)]);
        assert_eq!(steps([0, 1, 2, -9000, 3, 4]), [(-9000, ClockJump::Unclear)]);
        let twice = steps([0, 1, 9000, 2, 9000, 3]);
        assert_eq!(twice, [(9000, ClockJump::Unclear), (9000, ClockJump::Unclear)]);
    }

    #[test]
    fn a_pause_passes_time() {
        assert_eq!(steps([0, 3600, 3601]), [(3600, ClockJump::Unclear), (3601, ClockJump::Pause)]);
        assert_eq!(steps((0..100).map(|number| number * 60)), []);
    }

    /// One packet each two minutes.
    #[test]
    fn packets_far_apart_confirm_each_other() {
        let found = steps((0..5).map(|number| number * 120));
        let [unclear, pause] = [ClockJump::Unclear, ClockJump::Pause];
        assert_eq!(found, [(120, unclear), (240, pause), (360, unclear), (480, pause)]);
        // Days are no pause that one packet shows.
        let found = steps([0, 1, 200_000, 300_000, 2, 3]);
        assert_eq!(found, [(200_000, unclear), (300_000, unclear)]);
    }

    #[test]
    fn the_last_packet_may_be_behind_a_pause() {
        for (second, is_right) in [
            (61, true),
            (3600, true),
            (86_400, true),
            (86_402, false),
            (-61, false),
            (-9000, false),
        ] {
            let mut clock = CaptureClock::default();
            assert!(clock.accept(BEGIN_NS) && !clock.is_behind_pause());
            let time_ns = BEGIN_NS + second * SECOND_NS;
            assert!(!clock.accept(time_ns));
            assert_eq!(clock.take_other(time_ns), ClockJump::Unclear);
            assert_eq!(clock.is_behind_pause(), is_right, "{second}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_needs_eight_packets() {
        let all = steps((0..10).chain(-3600..-3580));
        let (last, unclear) = all.split_last().expect("there are some");
        assert!(unclear.iter().all(|(_, step)| *step == ClockJump::Unclear));
        assert_eq!(*last, (-3593, ClockJump::Set(-3602 * SECOND_NS)));
    }

    /// Two clocks take turns: each has several consecutive packets.
    #[test]
    fn two_clocks_that_take_turns_pass_no_time() {
        let turns = (0..10).flat_map(|turn| {
            let (begin, offset) = (turn * 10, if turn % 2 == 0 { 0 } else { -HOUR_NS / SECOND_NS });
            (begin..begin + 10).map(move |second| second + offset)
        });
        let sum = steps(turns).into_iter().map(|(_, step)| match step {
            ClockJump::Unclear => 0,
            ClockJump::Pause => panic!("no time has passed"),
            ClockJump::Set(by_ns) => by_ns,
        });
        assert!(sum.sum::<i64>().abs() <= HOUR_NS + 100 * SECOND_NS);
    }

    proptest! {
        #[test]
        fn no_times_are_too_wild(times in proptest::collection::vec(any::<i64>(), 0..64)) {
            let mut clock = CaptureClock::default();
            let mut unclear = 0;
            for time_ns in times {
                if clock.accept(time_ns) {
                    clock.forget_others();
                    unclear = 0;
                    continue;
                }
                if !clock.is_with_others(time_ns) {
                    unclear = 0;
                }
                match clock.take_other(time_ns) {
                    ClockJump::Unclear => unclear += 1,
                    ClockJump::Pause | ClockJump::Set(_) => unclear = 0,
                }
                prop_assert!(unclear <= UNCLEAR_MAX);
            }
        }
    }
}
