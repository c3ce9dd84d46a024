//! Secret keys for hashes.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// 2^64 divided by the golden ratio, an odd number. The products of different numbers with it
/// differ, and those of small numbers lie far apart (Knuth, "The Art of Computer Programming",
/// volume 3, 6.4).
pub const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// Digits of pi, so that both factors of a product have keys of their own.
const PATTERNS: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

/// A secret key for the hashes of one table. A guest that does not know it cannot choose objects
/// that collide.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct HashKey(u64);

impl HashKey {
    /// The key from which all others of a run derive. It must be random.
    pub const fn new(random: u64) -> Self {
        Self(random)
    }

    /// A key of its own for each purpose: tables must not share one, because a collision in one
    /// would be a collision in the other. A test of the repository's rules refuses a purpose that
    /// occurs twice.
    #[must_use]
    pub fn derive(self, purpose: &str) -> Self {
        Self(xxh3_64_with_seed(purpose.as_bytes(), self.0))
    }

    /// The key as a hash's seed.
    pub(crate) const fn seed(self) -> u64 {
        self.0
    }

    /// The hash of some bytes.
    #[inline]
    pub fn hash(self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.0)
    }

    /// The hash of some numbers.
    #[inline]
    pub fn hash_numbers<const N: usize>(self, numbers: [u64; N]) -> u64 {
        self.hash(numbers.map(u64::to_le_bytes).as_flattened())
    }

    /// The hash of three numbers, sooner. As in [`hash`](Self::hash), the halves of products are
    /// joined whose factors have the key in them (`mul128_fold64` of XXH3).
    #[inline]
    pub const fn hash_three(self, [one, two, three]: [u64; 3]) -> u64 {
        self.join(self.join(one, two), three)
    }

    #[inline]
    const fn join(self, one: u64, two: u64) -> u64 {
        let keys = (self.0 ^ PATTERNS[0], self.0.rotate_left(32) ^ PATTERNS[1]);
        let product = (one ^ keys.0) as u128 * (two ^ keys.1) as u128;
        (product >> 64) as u64 ^ product as u64
    }
}

/// Does not show the key.
impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_runs_have_keys_of_their_own() {
        let key = HashKey::new(1);
        assert_eq!(key.derive("a"), key.derive("a"));
        assert_ne!(key.derive("a"), key.derive("b"));
        assert_ne!(key.derive("a"), HashKey::new(2).derive("a"));
        assert_ne!(key.derive("a"), key);
    }

    /// Addresses and ports that follow each other spread over the upper and over the lower bits as
    /// evenly as random numbers: 64 of each part are expected, with a deviation of 8.
    #[test]
    fn similar_numbers_spread_evenly() {
        for key in [0, 1, 0x1234, u64::MAX, 0x243f_6a88_85a3_08d3].map(HashKey::new) {
            let mut parts = [[0_u32; 1024]; 2];
            for number in 0..0x1_0000_u64 {
                let address = 0x0a00_0000 + number / 256;
                let hash =
                    key.hash_three([(address << 16) | (number % 256), 0xc0a8_0001 << 16, 17]);
                parts[0][(hash >> 54) as usize] += 1;
                parts[1][(hash & 1023) as usize] += 1;
            }
            assert!(parts.as_flattened().iter().all(|count| (16..128).contains(count)), "{key:?}");
        }
    }

    #[test]
    fn messages_do_not_show_the_key() {
        assert_eq!(format!("{:?}", HashKey::new(0x1234)), "HashKey(..)");
    }
}
