//! From addresses to bytes: the batch that every round of the walk fills ([`Reader`]), the page-table walk
//! behind it, and the table of addresses already seen ([`AddressMap`]).
//!
//! Not here: what the bytes mean.

mod map;
mod reader;
mod tlb;

pub use map::{AddressMap, Insertion};
pub use reader::{Reader, ReaderSizes};
