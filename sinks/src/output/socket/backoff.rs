//! How long to wait before the next try to connect.

/// Pauses of 0.1 s that double up to 30 s. Each is shortened by chance, by at most half: a receiver
/// that comes back is not called by all its senders at once.
#[derive(Clone, Copy, Debug)]
pub struct BackOff {
    longest_ns: u64,
    random: u64,
}

const FIRST_NS: u64 = 100_000_000;
const LAST_NS: u64 = 30_000_000_000;

impl BackOff {
    /// `seed` should differ between outputs and between machines.
    pub const fn new(seed: u64) -> Self {
        // A generator of this kind stays at zero.
        Self { longest_ns: FIRST_NS, random: seed | 1 << 63 }
    }

    /// Nanoseconds until the next try.
    pub const fn pause_ns(&mut self) -> u64 {
        let half = self.longest_ns / 2;
        let pause = half + self.next_random() % (half + 1);
        self.longest_ns *= 2;
        if self.longest_ns > LAST_NS {
            self.longest_ns = LAST_NS;
        }
        pause
    }

    /// Begins again with the shortest pause: to be called when the receiver has accepted something.
    /// One that accepts connections only to close them must not be called ten times a second.
    pub const fn reset(&mut self) {
        self.longest_ns = FIRST_NS;
    }

    /// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
    const fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_tenth_of_a_second_to_half_a_minute() {
        for seed in [0, 1, 1 << 63, u64::MAX] {
            let mut backoff = BackOff::new(seed);
            for longest_ms in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]
            {
                let pause_ms = backoff.pause_ns() / 1_000_000;
                assert!((longest_ms / 2..=longest_ms).contains(&pause_ms), "{pause_ms}");
            }
            backoff.reset();
            assert!(backoff.pause_ns() <= FIRST_NS);
        }
    }

    #[test]
    fn pauses_differ_between_seeds_and_fill_their_half() {
        let pauses: Vec<_> = (0..1000).map(|seed| BackOff::new(seed << 20).pause_ns()).collect();
        let count = |from_ms: u64| {
            let part = from_ms * 1_000_000..(from_ms + 10) * 1_000_000;
            pauses.iter().filter(|pause| part.contains(pause)).count()
        };
        for from_ms in [50, 60, 70, 80, 90] {
            assert!(count(from_ms) > 100, "{from_ms}: {}", count(from_ms));
        }
    }
}
