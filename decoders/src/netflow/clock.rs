//! Times of exporters, in nanoseconds since 1970.

const MILLISECOND_NS: i64 = 1_000_000;
pub(super) const SECOND_NS: i64 = 1_000_000_000;
/// From 1900, where the times of NTP begin, to 1970 in seconds (RFC 5905 §6).
const NTP_TO_UNIX_S: i64 = 2_208_988_800;

/// What the header of a datagram says of the time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// Milliseconds since the exporter was started, modulo 2^32, if the header has it.
    uptime_ms: Option<u32>,
    /// When that was, in nanoseconds since 1970.
    pub(super) now_ns: i64,
}

impl Clock {
    pub(super) const fn new(uptime_ms: Option<u32>, now_ns: i64) -> Self {
        Self { uptime_ms, now_ns }
    }

    /// A time in milliseconds since the start; `None` if the header does not tell that time. The
    /// number begins anew after 49.7 days: the time is the nearest one to the header's.
    pub(super) fn at(&self, uptime_ms: u32) -> Option<i64> {
        let after_ms = uptime_ms.wrapping_sub(self.uptime_ms?) as i32;
        Some(self.now_ns + i64::from(after_ms) * MILLISECOND_NS)
    }
}

/// A time in the units of a number since 1970; `None` if it is out of range.
pub(super) fn since_1970(number: u64, unit_ns: i64) -> Option<i64> {
    i64::try_from(number).ok()?.checked_mul(unit_ns)
}

/// A time in milliseconds since 1970.
pub(super) fn milliseconds(number: u64) -> Option<i64> {
    since_1970(number, MILLISECOND_NS)
}

/// A time stamp of NTP: seconds and 2^-32 seconds (RFC 7011 §6.1.9). Seconds without the highest
/// bit are those after February 2036 (RFC 4330 §3).
pub(super) fn ntp(stamp: u64) -> i64 {
    let (seconds, fraction) = ((stamp >> 32) as i64, stamp & 0xffff_ffff);
    let era = if seconds < 1 << 31 { 1 << 32 } else { 0 };
    let nanoseconds = (fraction * SECOND_NS as u64) >> 32;
    (seconds + era - NTP_TO_UNIX_S) * SECOND_NS + nanoseconds as i64
}
