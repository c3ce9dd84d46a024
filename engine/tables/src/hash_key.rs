//! Secret keys for hashes.

use xxhash_rust::xxh3::xxh3_64_with_seed;

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

    #[test]
    fn messages_do_not_show_the_key() {
        assert_eq!(format!("{:?}", HashKey::new(0x1234)), "HashKey(..)");
    }
}
