//! Writing buffers to a descriptor: the interface of the two ways.

use std::fs::File;
use std::io;
use std::time::Duration;

use super::OutputKind;
use super::buffers::OutputBuffers;

/// A way to write buffers to one descriptor.
pub(crate) trait OutputTransport: std::fmt::Debug + Send {
    fn kind(&self) -> OutputKind;

    fn buffers(&mut self) -> &mut OutputBuffers;

    /// Begins ready buffers and collects completions. Waits up to `wait` for one when a write or
    /// sync is under way.
    ///
    /// An error is that of the first write that failed since the last call. The buffer stays,
    /// failed, and is begun again after [`OutputBuffers::retry`].
    fn advance(&mut self, wait: Duration) -> io::Result<()>;

    /// Begins to sync what has been written. A failure is counted when it is known.
    fn begin_sync(&mut self);

    /// Whether a sync is under way.
    fn is_syncing(&self) -> bool;

    fn file(&self) -> &File;

    /// Replaces the file. Only allowed while nothing is under way.
    fn set_file(&mut self, file: File) -> io::Result<()>;
}

/// How to create a transport.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransportSettings {
    /// The way to try first; io_uring falls back to plain writes where it is refused.
    pub kind: OutputKind,
    pub buffers: usize,
    /// Bytes per buffer; never less than the longest record.
    pub buffer_bytes: usize,
}

impl Default for TransportSettings {
    /// Four buffers of 256 KiB, the fastest size for buffered writes by io_uring.
    fn default() -> Self {
        Self { kind: OutputKind::IoUring, buffers: 4, buffer_bytes: 256 * 1024 }
    }
}

/// How a descriptor must be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// At explicit offsets, several writes at once.
    File,
    /// At its own position, one write at a time.
    Stream,
}
