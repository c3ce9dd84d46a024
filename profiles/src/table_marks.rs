//! Marks in the built-in tables. `build.rs`, which writes them, includes this file.

/// The kernel lacks it.
pub(crate) const ABSENT: u32 = u32::MAX;

/// Not recorded when the table was generated.
pub(crate) const UNASKED: u32 = u32::MAX - 1;
