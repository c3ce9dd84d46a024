//! The times of frames: from stamps of CLOCK_MONOTONIC to nanoseconds since 1970.
//!
//! Between two steps of the time of day, both clocks run equally fast. So their difference is kept
//! as long as it can be right. Else times would go back and forth by what a reading takes.

use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Readings at the start; the fastest one counts.
const READINGS: usize = 5;
/// The kernel rounds both clocks on its own.
const ROUNDING_NS: i64 = 1000;

/// The time when frames were looked for, and how stamps relate to the time of day.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "each has its unit")]
pub(super) struct Time {
    /// The first moment; stamps are not earlier.
    begin_ns: u64,
    now_ns: u64,
    /// Time of day minus CLOCK_MONOTONIC.
    difference_ns: i64,
}

impl Time {
    pub(super) fn begin() -> Self {
        let begin_ns = nanoseconds(ClockId::Monotonic);
        let readings = (0..READINGS).map(|_| read());
        let best = readings.min_by_key(|(_, range)| range.end() - range.start());
        let difference_ns = best.map_or(0, |(_, range)| middle(&range));
        Self { begin_ns, now_ns: begin_ns, difference_ns }
    }

    /// Takes the present time.
    pub(super) fn renew(&mut self) {
        let (now_ns, range) = read();
        self.now_ns = now_ns;
        self.difference_ns = agreed(self.difference_ns, &range);
    }

    /// The time of a frame. For one without a stamp, it is when frames were looked for.
    #[inline]
    pub(super) fn of(&self, stamp_ns: u64) -> i64 {
        let is_stamp = (self.begin_ns..=self.now_ns).contains(&stamp_ns);
        (if is_stamp { stamp_ns } else { self.now_ns }) as i64 + self.difference_ns
    }
}

/// The time of CLOCK_MONOTONIC, and between which bounds the difference is.
fn read() -> (u64, RangeInclusive<i64>) {
    let before = nanoseconds(ClockId::Monotonic);
    let real = nanoseconds(ClockId::Realtime);
    let after = nanoseconds(ClockId::Monotonic);
    (after, (real - after) as i64..=(real - before) as i64)
}

/// The difference if it can be right, and else the middle of what can.
fn agreed(difference_ns: i64, range: &RangeInclusive<i64>) -> i64 {
    let least = range.start() - ROUNDING_NS;
    let can_be = (least..=range.end() + ROUNDING_NS).contains(&difference_ns);
    if can_be { difference_ns } else { middle(range) }
}

fn middle(range: &RangeInclusive<i64>) -> i64 {
    i64::midpoint(*range.start(), *range.end())
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    now.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_changes_only_with_the_time_of_day() {
        let range = 1_000_000..=1_000_080;
        for difference in [999_000, 1_000_000, 1_000_070, 1_001_080] {
            assert_eq!(agreed(difference, &range), difference);
        }
        for difference in [0, 998_999, 1_001_081, i64::MIN, i64::MAX] {
            assert_eq!(agreed(difference, &range), 1_000_040);
        }
    }

    #[test]
    fn what_is_no_stamp_has_the_time_of_looking() {
        let time = Time { begin_ns: 100, now_ns: 200, difference_ns: 5000 };
        assert_eq!([100, 150, 200].map(|stamp| time.of(stamp)), [5100, 5150, 5200]);
        assert_eq!([0, 99, 201, u64::MAX].map(|stamp| time.of(stamp)), [5200; 4]);
    }

    #[test]
    fn both_clocks_agree() {
        let mut time = Time::begin();
        let before = nanoseconds(ClockId::Realtime) as i64;
        let stamp = nanoseconds(ClockId::Monotonic);
        let after = nanoseconds(ClockId::Realtime) as i64;
        time.renew();
        let least = before - ROUNDING_NS;
        assert!((least..=after + ROUNDING_NS).contains(&time.of(stamp)));
    }
}
