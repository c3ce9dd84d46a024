//! What a thread waits between two steps of its work: for the work itself, or for its core.
//!
//! Reading a thread's processor time is a system call, so it is read only after a step that took
//! long. The time that passes and the processor time drift apart only while the thread has no core.

use std::time::{Duration, Instant};

use crate::times::processor_time;

/// A shorter step is not looked at more closely.
const LONG: Duration = Duration::from_micros(20);
/// A longer time without a core counts.
const GAP: Duration = Duration::from_millis(1);

/// The steps of one thread.
#[derive(Debug)]
pub struct Steps {
    last: Instant,
    begin: Instant,
    /// Time without a core so far, when it was looked at last.
    without_core: Duration,
    began_at: Duration,
    /// The longest step, without the time in which the thread had no core.
    longest: Duration,
    /// Steps of more than [`LONG`] by that measure.
    pub long: u64,
    /// Times without a core of more than a millisecond: how many, their sum, the longest.
    pub gaps: u64,
    pub gaps_sum: Duration,
    pub longest_gap: Duration,
}

impl Steps {
    /// Begins to count on this thread.
    pub fn begin() -> Self {
        let (begin, began_at) = (Instant::now(), processor_time());
        Self {
            last: begin,
            begin,
            without_core: Duration::ZERO,
            began_at,
            longest: Duration::ZERO,
            long: 0,
            gaps: 0,
            gaps_sum: Duration::ZERO,
            longest_gap: Duration::ZERO,
        }
    }

    /// A wait that the thread has chosen is over: the next step begins.
    pub fn resume(&mut self) {
        self.without_core = self.lost();
        self.last = Instant::now();
    }

    /// The longest step since the last call.
    pub fn take_longest(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }

    /// A step ends.
    pub fn note(&mut self) {
        let now = Instant::now();
        let step = now - self.last;
        self.last = now;
        if step < LONG {
            self.longest = self.longest.max(step);
            return;
        }
        let lost = self.lost();
        let gap = lost.saturating_sub(self.without_core);
        self.without_core = lost;
        let own = step.saturating_sub(gap);
        self.longest = self.longest.max(own);
        self.long += u64::from(own >= LONG);
        if gap > GAP {
            self.gaps += 1;
            self.gaps_sum += gap;
            self.longest_gap = self.longest_gap.max(gap);
        }
        // The look itself is no step.
        self.last = Instant::now();
    }

    /// The time since the begin in which the thread had no core or waited.
    fn lost(&self) -> Duration {
        let used = processor_time().saturating_sub(self.began_at);
        self.begin.elapsed().saturating_sub(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_gap_and_work_is_a_step() {
        let mut steps = Steps::begin();
        std::thread::sleep(Duration::from_millis(20));
        steps.note();
        assert!(steps.gaps == 1 && steps.longest_gap >= Duration::from_millis(19), "{steps:?}");
        assert!(steps.take_longest() < Duration::from_millis(10), "{steps:?}");
        let used = processor_time();
        while processor_time().saturating_sub(used) < Duration::from_millis(15) {
            std::hint::black_box(0);
        }
        steps.note();
        assert!(steps.take_longest() >= Duration::from_millis(14), "{steps:?}");
    }

    #[test]
    fn a_wait_before_a_step_is_not_counted() {
        let mut steps = Steps::begin();
        std::thread::sleep(Duration::from_millis(20));
        steps.resume();
        steps.note();
        // Another program may have the core meanwhile.
        assert!(steps.gaps_sum < Duration::from_millis(15), "{steps:?}");
    }
}
