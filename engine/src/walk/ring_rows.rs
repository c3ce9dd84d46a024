//! Rings of io_uring, and the slots in which they hold files without a descriptor. System V message
//! queues, to which no descriptor leads, either.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::msg_queue::IpcMessageQueue;

use super::snapshot::{DescriptorRow, FileRow, FilesRow, Index, ProcessRow, Span};

/// The mark in the number of a [`DescriptorRow`] that is a slot of a ring. Descriptors are below
/// it (`sysctl_nr_open_max`, fs/file.c: less than 2^31).
pub const RING_SLOT: u32 = 1 << 31;

/// Maximum number of rings in one scan.
pub(super) const RINGS_MAX: usize = 1024;

/// Maximum number of message queues in one scan.
pub(super) const QUEUES_MAX: usize = 256;

/// One ring.
#[derive(Clone, Copy, Debug)]
pub struct RingRow {
    /// Its open file.
    pub file: Index<FileRow>,
    /// `struct io_ring_ctx *`
    pub context: KernelVa,
    /// The process that holds it.
    pub process: Option<Index<ProcessRow>>,
    /// The table of descriptors of that process.
    pub table: Option<Index<FilesRow>>,
    /// Its files.
    pub descriptors: Span<DescriptorRow>,
}

/// A message queue that processes have used.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueRow {
    /// `struct msg_queue *`
    pub address: KernelVa,
    pub queue: IpcMessageQueue,
    /// The process that sent last, if it lives.
    pub sender: Option<Index<ProcessRow>>,
    /// The process that received last, if it lives.
    pub receiver: Option<Index<ProcessRow>>,
}

impl DescriptorRow {
    /// Its number; `None` for a slot of a ring.
    pub const fn number(&self) -> Option<u32> {
        number_of(self.index)
    }
}

/// The number of a descriptor; `None` for a slot of a ring.
pub const fn number_of(index: u32) -> Option<u32> {
    if index < RING_SLOT { Some(index) } else { None }
}

/// The slot of a ring; `None` for a descriptor.
pub const fn slot_of(index: u32) -> Option<u32> {
    if index < RING_SLOT { None } else { Some(index - RING_SLOT) }
}
