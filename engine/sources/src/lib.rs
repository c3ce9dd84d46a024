//! Sources: where the memory of a watched machine comes from.
//!
//! Each source is a [`MemorySource`]: a scatter read of physical memory, in batches. Those of
//! machines that can be watched are also a [`MachineSource`]: they may change or end.
//!
//! - [`MappedMemory`] reads a live guest's shared memory, a raw dump, and dumps that store memory
//!   uncompressed behind headers.
//! - `dump` reads compressed dumps through an index and a cache.
//! - [`Replay`] reads the few pages of a recorded scan.
//! - [`FileSource`] is the one of these three that the format of a file needs.
//! - [`GuestMemory`] reads a QEMU process, [`Kcore`] the host, `doca` a machine through a
//!   BlueField's DMA engine.
//! - [`AnySource`] is any of the above.
//! - Wrappers around any source: [`Recorder`] remembers which pages were read and writes them to an
//!   image, [`SourceMeter`] counts requests.
//!
//! Whatever the guest or the owner of the file does: a request is read, not backed or failed, and
//! causes neither a panic nor a signal that ends the process. Reading allocates no page of the
//! guest. No `read_batch` allocates on the host, except for pages of dumps compressed with zstd,
//! whose decoder allocates. `unsafe` is in `lock`, `mapping`, `sigbus`, `guest::private` and the
//! modules of `doca` that call the DOCA library.
//!
//! Not for: virtual addresses, or what the bytes mean.
//!
//! Start reading at [`MappedMemory`].

mod any;
#[cfg(feature = "doca")]
pub mod doca;
mod dump;
mod error;
mod extents;
mod file_system;
mod foreign;
mod format;
mod forward;
mod guest;
mod image;
mod kcore;
mod lock;
mod mapped;
mod mapping;
mod meter;
mod open;
mod pages;
mod partner;
mod pieces;
mod record;
mod replay;
mod sigbus;
mod timed;

/// Memory for the unpacked blocks of a compressed dump, in bytes: slightly more than a scan of 300
/// processes reads.
const DUMP_CACHE_BYTES: usize = 64 << 20;

pub use any::AnySource;
pub use dump::{DumpProblem, Lacks};
pub use error::{ErrorClass, LayoutProblem, SourceError};
pub use foreign::Foreign;
pub use format::{DetectedFormat, FORMAT_HEAD_BYTES, FileFormat};
pub use guest::{
    Area, AreaBacking, AreaLabel, ExpectedMemory, FileIdentity, GuestMemory, GuestProcess, Machine,
    MemoryDevice, PlacedArea, Use, file_identity, layouts,
};
pub use image::ImageProblem;
pub use kcore::Kcore;
pub use lock::lock_own_memory;
pub use mapped::{MappedCounts, MappedMemory, Segment};
pub use meter::{Detail, MeterCounts, SourceMeter};
pub use open::{FileSource, FileSourceOptions};
pub use panoptes_decoders::source::{
    MachineSource, MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest,
};
pub use record::{RecordedPages, Recorder, create_recording};
pub use replay::Replay;
