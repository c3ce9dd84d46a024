//! Where records go: files and streams, by io_uring or by plain writes.
//!
//! An output never waits for its disk or its reader. It takes what its buffers hold and leaves the
//! rest in the queue. The writer (`crate::writer`) drops and counts records that an output cannot
//! accept in time.
//!
//! Layers: `file.rs` and `stream.rs` decide what is written where and when (rotation, sync, flush);
//! `transport.rs` writes buffers to a descriptor, with `ring.rs` and `plain.rs` as its two ways;
//! `buffers.rs` tracks how much of each buffer is written.

mod buffers;
pub mod file;
mod plain;
mod ring;
pub mod stream;
pub mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// How an output writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputKind {
    /// io_uring, from registered buffers.
    IoUring,
    /// `write` and `pwrite`.
    Plain,
}

/// Counters of an output; any thread may read them at any time.
#[derive(Debug, Default)]
pub struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    ring_writes: AtomicU64,
    plain_writes: AtomicU64,
    syncs: AtomicU64,
    rotations: AtomicU64,
    errors: AtomicU64,
    last_error: AtomicI32,
}

macro_rules! counters {
    ($($(#[$docs:meta])* $name:ident;)*) => {
        impl Counters {
            $($(#[$docs])*
            pub fn $name(&self) -> u64 {
                self.$name.load(Ordering::Relaxed)
            })*
        }
    };
}

counters! {
    /// Records that reached the kernel, and all records before them too.
    records;
    /// Bytes that reached the kernel.
    bytes;
    /// Records that this output could not accept in time.
    dropped;
    /// Writes completed by io_uring.
    ring_writes;
    /// Writes completed by `write` and `pwrite`.
    plain_writes;
    /// Completed syncs.
    syncs;
    rotations;
    /// Failed operations, retries included.
    errors;
}

impl Counters {
    /// The `errno` of the last failed operation; 0 before the first failure.
    pub fn last_error(&self) -> i32 {
        self.last_error.load(Ordering::Relaxed)
    }

    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_dropped(&self, records: usize) {
        Self::add(&self.dropped, records);
    }

    pub(crate) fn add_error(&self, error: &std::io::Error) {
        Self::add(&self.errors, 1);
        self.last_error.store(error.raw_os_error().unwrap_or(-1), Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub enum Output {
    /// A file that rotates.
    File(file::FileOutput),
    /// Standard output, a pipe, a terminal.
    Stream(stream::StreamOutput),
}

/// The state of an output after a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// All records that it took have reached the kernel.
    Idle,
    /// A write or sync is under way, or records wait for their flush time.
    Busy,
    /// The last operation failed and is retried.
    Failing,
    /// The reader is gone, which is no error. Later records are discarded and not counted.
    Closed,
}

impl Output {
    /// Takes records from `index` on, as many as there is room for, and returns their number.
    pub(crate) fn append(
        &mut self,
        block: &crate::queue::Block,
        index: usize,
        now_ns: u64,
    ) -> usize {
        match self {
            Self::File(output) => output.append(block, index, now_ns),
            Self::Stream(output) => output.append(block, index),
        }
    }

    /// Does the work that is due and collects completions. Waits up to `wait` for one when a write
    /// or sync is under way.
    pub(crate) fn advance(&mut self, now_ns: u64, wait: std::time::Duration) -> Standing {
        match self {
            Self::File(output) => output.advance(now_ns, wait),
            Self::Stream(output) => output.advance(now_ns, wait),
        }
    }

    /// Ends the output: records that could not be written are dropped and counted.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::File(output) => output.finish(),
            Self::Stream(output) => output.finish(),
        }
    }

    pub fn kind(&self) -> OutputKind {
        match self {
            Self::File(output) => output.kind(),
            Self::Stream(output) => output.kind(),
        }
    }

    pub fn counters(&self) -> &Arc<Counters> {
        match self {
            Self::File(output) => output.counters(),
            Self::Stream(output) => output.counters(),
        }
    }
}
