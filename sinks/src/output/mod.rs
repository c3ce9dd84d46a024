//! Where records go: files and streams, by io_uring or by plain writes.
//!
//! An output never waits for its disk or its reader. It takes what its buffers hold and leaves the
//! rest to the queue; the writer (`crate::writer`) drops from the queue what an output cannot take
//! in time, and counts it.
//!
//! Layers: `file.rs` and `stream.rs` say what goes where and when (rotation, sync, flush);
//! `transport.rs` gets buffers into a descriptor, with `ring.rs` and `plain.rs` as its two ways;
//! `buffers.rs` keeps count of what is written of what.

mod buffers;
pub mod file;
mod plain;
mod ring;
pub mod stream;
pub mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Which way an output writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputKind {
    /// io_uring, from registered buffers.
    IoUring,
    /// `write` and `pwrite`.
    Plain,
}

/// What an output has done so far; anyone may read it at any time.
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
    /// Records that reached the kernel, with all before them.
    records;
    /// Bytes that reached the kernel.
    bytes;
    /// Records that this output could not take in time.
    dropped;
    /// Writes completed by io_uring.
    ring_writes;
    /// Writes completed by `write` and `pwrite`.
    plain_writes;
    /// Completed syncs.
    syncs;
    /// Files begun anew.
    rotations;
    /// Failed operations, retries included.
    errors;
}

impl Counters {
    /// The `errno` of the last failed operation; 0 before the first.
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

/// Any output.
#[derive(Debug)]
pub enum Output {
    /// A file that rotates.
    File(file::FileOutput),
    /// Standard output, a pipe, a terminal.
    Stream(stream::StreamOutput),
}

/// How an output stands after a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// All that it took has reached the kernel.
    Idle,
    /// Something is under way, or waits for its time.
    Busy,
    /// The last operation failed; it is tried again.
    Failing,
    /// The reader is gone, which is no error. Nothing more is taken or counted.
    Closed,
}

impl Output {
    /// Takes records from `index` on, as many as there is room for, and gives their number.
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

    /// Does what is due and takes in what is done; waits for that up to `wait` when something is
    /// under way.
    pub(crate) fn advance(&mut self, now_ns: u64, wait: std::time::Duration) -> Standing {
        match self {
            Self::File(output) => output.advance(now_ns, wait),
            Self::Stream(output) => output.advance(now_ns, wait),
        }
    }

    /// Ends it: what could not be written is dropped and counted.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::File(output) => output.finish(),
            Self::Stream(output) => output.finish(),
        }
    }

    /// Which way it writes.
    pub fn kind(&self) -> OutputKind {
        match self {
            Self::File(output) => output.kind(),
            Self::Stream(output) => output.kind(),
        }
    }

    /// What it has done so far.
    pub fn counters(&self) -> &Arc<Counters> {
        match self {
            Self::File(output) => output.counters(),
            Self::Stream(output) => output.counters(),
        }
    }
}
