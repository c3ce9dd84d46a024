//! `struct timekeeper` (include/linux/timekeeper_internal.h): how boot time and calendar time relate.

crate::layout! {
    /// `struct timekeeper` (include/linux/timekeeper_internal.h).
    pub struct Timekeeper("timekeeper") {
        /// Nanoseconds from the monotonic clock to calendar time.
        offs_real: ["offs_real"],
        /// Nanoseconds from the monotonic clock to boot time (time asleep).
        offs_boot: ["offs_boot"],
        /// Calendar time in seconds at the last update.
        xtime_sec: ["xtime_sec"],
        /// Nanoseconds of it that have passed, shifted.
        xtime_nsec: ["tkr_mono.xtime_nsec"],
        /// By how many bits.
        shift: ["tkr_mono.shift"],
        /// What file systems take for them since Linux commit b71f9804f66c ("timekeeping: Prevent coarse clocks going
        /// backwards") (in v6.15).
        coarse_nsec?: ["coarse_nsec"],
    }
}
