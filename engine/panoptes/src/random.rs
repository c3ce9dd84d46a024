//! A random key for each run, for hash tables whose keys the guests choose.

use panoptes_tables::HashKey;

pub(crate) fn hash_key() -> HashKey {
    HashKey::new(key())
}

/// Returns 64 random bits, from a version 4 UUID, which uses the system's generator.
pub(crate) fn key() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    // A UUID's version and variant bits are fixed. Combining both halves leaves no fixed bit.
    high.rotate_left(32) ^ low
}
