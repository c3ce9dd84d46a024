//! From addresses to bytes: the batch that every round of the walk fills ([`MemoryReader`]), with
//! its page-table walk.
//!
//! Not for: what the bytes mean.
//!
//! Start reading at [`MemoryReader`].

mod blank;
mod reader;
mod tlb;

pub use reader::{MemoryReader, ReadCost, ReaderSizes};
