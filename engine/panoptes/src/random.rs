//! A random number for each run, with which tables hash what the guests choose.

/// 64 random bits. Where they come from is version 4 UUIDs, which draw on the system's own generator.
pub(crate) fn key() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    // Version and variant bits are fixed: the two halves together still leave no bit so.
    high.rotate_left(32) ^ low
}
