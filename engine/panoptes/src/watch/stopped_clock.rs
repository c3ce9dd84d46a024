//! Detects a machine that runs while the clock of its watched kernel stands still.
//!
//! The memory of a machine that was paused stays as it is, and its virtual processors use no time.
//! If they do, the machine runs something that scans do not show: firmware, a crashed kernel, or
//! another kernel elsewhere in its memory.

use std::time::{Duration, Instant};

/// A machine is stalled when it has run for this time while its clock stood still.
const STALLED: Duration = Duration::from_secs(10);
/// Time between two looks at a machine that stands still.
const STOPPED_CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// Processors that use less of that time are idle: one percent of one processor.
const IDLE_SHARE: u32 = 100;

/// One machine, as the control thread looks at it from time to time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    /// The first look at a machine that stands still: when, and the CPU time of its processors.
    first: Option<(Instant, Duration)>,
    last: Option<Instant>,
    is_reported: bool,
}

impl Stall {
    /// The machine does not stand still.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether it is time for another look at a machine that stands still.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= STOPPED_CLOCK_INTERVAL);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// The machine stands still at `now`, and its processors have used `cpu_time` since they
    /// started. Returns how much they used while it stood still, and for how long it did, if that
    /// is due to be reported: once.
    pub(super) fn look(
        &mut self,
        cpu_time: Duration,
        now: Instant,
    ) -> Option<(Duration, Duration)> {
        let (since, before) = *self.first.get_or_insert((now, cpu_time));
        let still = now.saturating_duration_since(since);
        let used = cpu_time.saturating_sub(before);
        if still < STALLED {
            return None;
        }
        if used < still / IDLE_SHARE {
            // It was paused, and may continue later.
            self.first = Some((now, cpu_time));
            return None;
        }
        (!std::mem::replace(&mut self.is_reported, true)).then_some((used, still))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: [u64; 0] = [];

    /// The seconds at which a standstill is reported, with one look a second. `cpu_ms` gives the
    /// CPU time that the processors use in each second; `None` while the clock goes.
    fn reported(seconds: u64, cpu_ms: impl Fn(u64) -> Option<u64>) -> Vec<u64> {
        let (start, mut stall, mut cpu_time) = (Instant::now(), Stall::default(), Duration::ZERO);
        let mut all = Vec::new();
        for second in 0..seconds {
            let Some(used) = cpu_ms(second) else {
                stall.clear();
                continue;
            };
            cpu_time += Duration::from_millis(used);
            if stall.look(cpu_time, start + Duration::from_secs(second)).is_some() {
                all.push(second);
            }
        }
        all
    }

    #[test]
    fn a_machine_is_looked_at_once_a_second() {
        let (start, mut stall) = (Instant::now(), Stall::default());
        let looks = |millisecond: &u64| stall.is_due(start + Duration::from_millis(*millisecond));
        let looks: Vec<u64> = (0..3500).step_by(20).filter(looks).collect();
        assert_eq!(looks, [0, 1000, 2000, 3000]);
    }

    #[test]
    fn a_machine_that_runs_on_is_reported_once_in_a_standstill() {
        assert_eq!(reported(100, |_| Some(1000)), [10]);
        assert_eq!(reported(100, |_| Some(20)), [10], "it is almost idle");
        assert_eq!(reported(100, |second| (second != 50).then_some(1000)), [10, 61]);
    }

    #[test]
    fn a_machine_that_is_paused_or_idle_is_not_reported() {
        assert_eq!(reported(100, |_| Some(0)), NEVER);
        assert_eq!(reported(100, |second| Some(u64::from(second % 10 == 0) * 10)), NEVER, "idle");
        assert_eq!(reported(100, |second| (second % 10 != 0).then_some(1000)), NEVER, "it runs");
    }

    #[test]
    fn a_machine_that_runs_after_a_pause_is_reported() {
        assert_eq!(reported(100, |second| Some(if second < 35 { 0 } else { 500 })), [40]);
    }
}
