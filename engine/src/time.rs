//! The two clocks of the machine that Panoptes runs on.
//!
//! Anyone who sets the calendar time makes it step. So every duration, wait and order is measured
//! by the monotonic clock, and calendar time goes into records only. A type for each keeps them
//! apart: neither can be compared with, or subtracted from, the other.

pub use panoptes_records::json::time::SECOND_NS;

/// Nanoseconds of a minute.
pub const MINUTE_NS: i64 = 60 * SECOND_NS;

/// A point in time by the monotonic clock, which nobody can set. Its zero has no meaning.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Monotonic(i64);

impl Monotonic {
    /// From nanoseconds since any fixed point.
    pub const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since `earlier`.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Calendar time, for records. It has no order and no difference on purpose.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RealTime(i64);

impl RealTime {
    /// From nanoseconds since 1970.
    pub const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since 1970, as a record has them.
    pub const fn ns(self) -> i64 {
        self.0
    }
}

/// The time of a scan by both clocks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// For durations and waits.
    pub monotonic: Monotonic,
    /// For records.
    pub real: RealTime,
}

impl Now {
    /// The calendar time of an earlier point, by the calendar of now.
    pub const fn real_of(self, earlier: Monotonic) -> RealTime {
        RealTime(self.real.0.saturating_sub(self.monotonic.since(earlier)))
    }

    /// The time at which both clocks show these nanoseconds; for replays and tests.
    pub const fn at(ns: i64) -> Self {
        Self { monotonic: Monotonic(ns), real: RealTime(ns) }
    }

    /// The time some nanoseconds later, by both clocks.
    #[must_use]
    pub const fn after(self, ns: i64) -> Self {
        Self {
            monotonic: Monotonic(self.monotonic.0.saturating_add(ns)),
            real: RealTime(self.real.0.saturating_add(ns)),
        }
    }
}
