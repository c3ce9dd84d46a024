//! The processor time of repeated work.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time that this thread spends on its core for some work, and the result of the work.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = processor_time();
    let done = work();
    (processor_time().saturating_sub(begin), done)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The durations of repeated runs.
#[derive(Debug, Default)]
pub struct Times(pub Vec<Duration>);

impl Times {
    pub fn take<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (time, done) = timed(work);
        self.0.push(time);
        done
    }

    pub fn least(&self) -> Duration {
        self.0.iter().min().copied().unwrap_or_default()
    }

    pub fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}
