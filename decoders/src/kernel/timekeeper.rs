//! `struct timekeeper` (include/linux/timekeeper_internal.h): relates boot time to calendar time.

crate::layout! {
    /// `struct timekeeper` (include/linux/timekeeper_internal.h).
    pub struct Timekeeper("timekeeper") {
        /// Nanoseconds to add to the monotonic clock for calendar time.
        offs_real: ["offs_real"],
        /// Nanoseconds to add to the monotonic clock for boot time (time suspended).
        offs_boot: ["offs_boot"],
        /// Calendar time in seconds at the last update.
        xtime_sec: ["xtime_sec"],
        /// Nanoseconds within that second, shifted left by `shift` bits.
        xtime_nsec: ["tkr_mono.xtime_nsec"],
        shift: ["tkr_mono.shift"],
        /// The nanoseconds that filesystems use since Linux commit b71f9804f66c ("timekeeping:
        /// Prevent coarse clocks going backwards") (in v6.15).
        coarse_nsec?: ["coarse_nsec"],
    }
}
