//! What more cores would do than this machine has: a model, not a measurement.
//!
//! A core works for a part of a round alone, and for the rest it waits for lines from a memory that
//! all cores share. The memory serves one line after the other at its bandwidth; a line that comes
//! while others are served waits for them. That is a closed network of queues with one server, and
//! the mean value analysis (Reiser and Lavenberg, 1980) solves it exactly.
//!
//! The assumptions: each core has its own first and second cache and its own systems; the last
//! cache grows with the cores; nothing else is shared; memory waits of different cores are
//! independent.

/// A round of one core, measured.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Seconds of a round on one core with cold caches.
    pub round: f64,
    /// Seconds of `round` in which the core waits for memory.
    pub memory: f64,
    /// The lines in a second that one core gets while it waits.
    pub line_rate: f64,
}

impl Model {
    /// Lines that a round takes from memory.
    pub fn lines(&self) -> f64 {
        self.memory * self.line_rate
    }

    /// How much more `cores` cores do than one, if the memory gives all of them together this many
    /// lines in a second.
    pub fn speed_up(&self, cores: u32, lines_per_second: f64) -> f64 {
        let service = (self.lines() / lines_per_second).min(self.round);
        let alone = self.round - service;
        let (mut waiting, mut rate) = (0.0, 0.0);
        for count in 1..=cores {
            let answer = service * (1.0 + waiting);
            rate = f64::from(count) / (alone + answer);
            waiting = rate * answer;
        }
        rate * self.round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: Model = Model { round: 0.010, memory: 0.004, line_rate: 1e8 };

    fn is_near(value: f64, expected: f64) -> bool {
        (value - expected).abs() < 1e-9
    }

    #[test]
    fn one_core_is_what_was_measured() {
        assert!(is_near(MODEL.lines(), 400_000.0));
        for rate in [1e8, 1e9, 1e12] {
            assert!(is_near(MODEL.speed_up(1, rate), 1.0));
        }
    }

    /// Two cores by hand: with a service of 4 ms of 10 ms, the second core finds the first one
    /// waiting for 0.4 of the time, so an answer takes 5.6 ms and a round 11.6 ms.
    #[test]
    fn two_cores_wait_for_each_other() {
        assert!(is_near(MODEL.speed_up(2, 1e8), 2.0 / 1.16));
    }

    #[test]
    fn the_memory_is_the_limit_of_many_cores() {
        assert!((MODEL.speed_up(1000, 1e8) - 2.5).abs() < 1e-3);
        assert!((MODEL.speed_up(16, 1e15) - 16.0).abs() < 1e-3);
    }
}
