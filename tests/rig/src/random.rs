//! Random numbers for tests and seeds: the same numbers on every machine.
//!
//! Not for: anything that must not be guessed.

/// SplitMix64 (Steele, Lea, Flood 2014; constants of <https://prng.di.unimi.it/splitmix64.c>).
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "never ends, so it is no iterator's next")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator's first numbers from seed 1234567, as <https://rosettacode.org> lists them.
    #[test]
    fn numbers_are_those_of_the_reference() {
        let mut random = Random(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn bytes_are_as_many_as_wanted() {
        assert_eq!(Random(1).bytes(9).len(), 9);
        assert_eq!(Random(1).bytes(9), Random(1).bytes(9));
        assert_ne!(Random(1).bytes(8), Random(2).bytes(8));
    }
}
