//! The processor time of repeated work.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time that this thread spends on its core for some work, and the result of the work.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begin = processor_time();
    let done = work();
    (processor_time().saturating_sub(begin), done)
}

/// The time that this thread has spent on its core.
pub fn processor_time() -> Duration {
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
        self.part(0.5)
    }

    /// The duration that this part of all does not exceed; the longest one for 1.
    pub fn part(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or_default()
    }
}

/// The median of some ratios, and where the middle four fifths of them begin and end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub p10: f64,
    pub p90: f64,
}

impl Spread {
    /// The spread of `over / under`, run by run: both were measured in the same turn.
    pub fn of(over: &Times, under: &Times) -> Self {
        let ratio = |(over, under): (&Duration, &Duration)| {
            over.as_secs_f64() / under.as_secs_f64().max(f64::MIN_POSITIVE)
        };
        Self::of_all(over.0.iter().zip(&under.0).map(ratio).collect())
    }

    /// The spread of these numbers.
    pub fn of_all(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let at = |tenths: usize| all.get((all.len() * tenths / 10).min(all.len().max(1) - 1));
        let [p10, median, p90] = [1, 5, 9].map(|tenths| at(tenths).copied().unwrap_or(f64::NAN));
        Self { median, p10, p90 }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.p10, self.p90)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_turn() {
        let times = |all: &[u64]| Times(all.iter().copied().map(Duration::from_millis).collect());
        let spread = Spread::of(&times(&[10, 40, 30]), &times(&[10, 20, 10]));
        assert_eq!(spread, Spread { median: 2.0, p10: 1.0, p90: 3.0 });
        let all = Spread::of_all((1..=10).map(f64::from).collect());
        assert_eq!(all, Spread { median: 6.0, p10: 2.0, p90: 10.0 });
    }
}
