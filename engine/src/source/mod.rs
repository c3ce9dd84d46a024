//! Sources: where the memory of a watched machine comes from.
//!
//! Each is a [`MemorySource`]: a scatter read of physical memory, in batches. [`MappedFile`] reads a live
//! guest's shared memory, a raw dump, and dumps that keep memory byte by byte behind headers; compressed dumps
//! have an index and a cache (`dump`); [`Replay`] reads the few pages of a recorded scan. [`FileSource`] tells
//! them apart. [`GuestMemory`] reads a QEMU process, [`Kcore`] this machine, `doca` a host through a BlueField's DMA
//! engine. [`AnySource`] is any of them. Around any of them go
//! the wrappers: [`Recorder`] remembers which pages were read and writes them out, [`Meter`] counts what is
//! asked, [`Fault`] damages what is read.
//!
//! Whatever the guest, or whoever owns the file, does to it: a request is read, not backed or failed, and
//! neither a panic nor a signal comes of it. Reading changes nothing: no page of the guest comes to be by it.
//! No `read_batch` allocates, but where a page of a dump is packed with zstd, whose decoder does. `unsafe` is in `mapping`, `sigbus`, `guest::private` and what calls the
//! DOCA library.
//!
//! Not for: virtual addresses, or what the bytes mean.
//!
//! Start reading at [`MappedFile`].

mod any;
#[cfg(feature = "doca")]
pub mod doca;
mod dump;
mod error;
mod extents;
mod fault;
mod format;
mod guest;
mod image;
mod kcore;
mod mapped;
mod mapping;
mod meter;
mod open;
mod pages;
mod record;
mod replay;
mod sigbus;

pub use any::AnySource;
pub use dump::{DumpProblem, Lacks};
pub use error::{ErrorClass, LayoutProblem, SourceError};
pub use fault::{Fault, FaultCounts, FaultRates, Hook};
pub use format::{FORMAT_HEAD_BYTES, FileFormat, Format};
pub use guest::{
    Area, Backing, Expected, GuestMemory, GuestProcess, Machine, Placed, file_identity,
};
pub use image::ImageProblem;
pub use kcore::Kcore;
pub use mapped::{MappedCounts, MappedFile, Refreshed, Segment};
pub use meter::{Counts, Detail, Meter};
pub use open::FileSource;
pub use panoptes_decoders::source::{MemorySource, Outcome, PAGE_BYTES, Request};
pub use record::{Recorded, Recorder};
pub use replay::Replay;
