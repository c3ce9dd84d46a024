//! Getting buffers into a descriptor: what the two ways have in common, and which one is taken.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::buffers::Buffers;
use super::plain::PlainWriter;
use super::ring::RingWriter;
use super::{Counters, OutputKind};
use crate::record::RECORD_BYTES_MAX;

/// A way to write buffers to one descriptor.
pub(crate) trait Transport: std::fmt::Debug + Send {
    /// Which way it is.
    fn kind(&self) -> OutputKind;

    /// The buffers it writes.
    fn buffers(&mut self) -> &mut Buffers;

    /// Begins what is ready and takes in what is done, waiting for that up to `wait` when something
    /// is under way.
    ///
    /// An error is that of the first write or sync that failed since the last call. The buffer
    /// stays, failed, and is begun again after [`Buffers::retry`].
    fn advance(&mut self, wait: Duration) -> io::Result<()>;

    /// Begins to sync what has been written.
    fn begin_sync(&mut self);

    /// Whether a sync is under way.
    fn is_syncing(&self) -> bool;

    /// What it writes to.
    fn file(&self) -> &File;

    /// Writes to another file from now on. Only when nothing is under way.
    fn set_file(&mut self, file: File) -> io::Result<()>;
}

/// What a transport is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransportSettings {
    /// The way to try first; io_uring falls back to plain writes where it is refused.
    pub kind: OutputKind,
    /// How many buffers.
    pub buffers: usize,
    /// How long each is; never less than the longest record.
    pub buffer_bytes: usize,
}

impl Default for TransportSettings {
    /// Four buffers of 256 KiB, which is where buffered writes by io_uring are fastest.
    fn default() -> Self {
        Self { kind: OutputKind::IoUring, buffers: 4, buffer_bytes: 256 * 1024 }
    }
}

/// How a descriptor wants to be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// At explicit offsets, several writes at once.
    File,
    /// At its own position, one write at a time.
    Stream,
}

/// A transport, and why io_uring was not taken where it was asked for.
pub(crate) type Opened = (Box<dyn Transport>, Option<io::Error>);

/// Takes the way that was asked for, or plain writes.
pub(crate) fn open(
    file: File,
    target: Target,
    settings: TransportSettings,
    counters: &Arc<Counters>,
) -> Opened {
    let most = match target {
        Target::File => settings.buffers,
        Target::Stream => 1,
    };
    let bytes = settings.buffer_bytes.max(RECORD_BYTES_MAX);
    let buffers = Buffers::new(settings.buffers.max(2), bytes, most);
    if settings.kind == OutputKind::Plain {
        return (Box::new(PlainWriter::new(file, target, buffers, Arc::clone(counters))), None);
    }
    match RingWriter::new(file, target, buffers, Arc::clone(counters)) {
        Ok(writer) => (Box::new(writer), None),
        Err((error, file, buffers)) => {
            let plain = PlainWriter::new(file, target, buffers, Arc::clone(counters));
            (Box::new(plain), Some(error))
        }
    }
}
