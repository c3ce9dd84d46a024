//! From addresses to bytes: the batch that every round of the walk fills ([`Reader`]) with its
//! page-table walk, and the table of addresses already visited ([`AddressMap`]).
//!
//! Not for: what the bytes mean.
//!
//! Start reading at [`Reader`].

mod map;
mod reader;
mod tlb;

pub use map::{AddressMap, Insertion};
pub use reader::{Reader, ReaderSizes};
