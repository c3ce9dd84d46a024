//! Writing by `write(2)` and `pwrite(2)`: used where io_uring is refused or not needed.
//!
//! A file is written at once; it is synced on a thread of its own. A stream is written only as far
//! as it does not block: after `poll` reports room, a pipe accepts at least `PIPE_BUF` bytes, so no
//! more than that is written at a time.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::buffers::OutputBuffers;
use super::syncer::Syncer;
use super::transport::{OutputTransport, Target};
use super::{OutputCounters, OutputKind};

#[derive(Debug)]
pub(crate) struct PlainWriter {
    file: File,
    target: Target,
    /// A regular file as a stream never blocks.
    is_regular: bool,
    buffers: OutputBuffers,
    counters: Arc<OutputCounters>,
    /// The thread that syncs a file. Without it, a sync fails.
    syncer: Option<Syncer>,
}

/// Bytes that a writable pipe accepts without blocking (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;

impl PlainWriter {
    pub(crate) fn new(
        file: File,
        target: Target,
        buffers: OutputBuffers,
        counters: Arc<OutputCounters>,
    ) -> Self {
        let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let syncer = if target == Target::File { Syncer::start().ok() } else { None };
        Self { file, target, is_regular, buffers, counters, syncer }
    }

    /// Whether a write would not block, now or within `wait`.
    fn is_writable(&self, wait: Duration) -> bool {
        if self.is_regular || self.target == Target::File {
            return true;
        }
        let wait = Timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
        // An error or a hangup also ends the wait: the write will return it.
        poll(&mut fds, Some(&wait)).is_ok_and(|ready| ready > 0)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut file = &self.file;
        match self.target {
            Target::File => file.write_at(bytes, offset),
            Target::Stream if self.is_regular => file.write(bytes),
            Target::Stream => file.write(&bytes[..bytes.len().min(PIPE_BUF)]),
        }
    }

    /// Counts the sync under way, once its result is known.
    fn end_sync(&mut self, wait: Duration) {
        match self.syncer.as_mut().and_then(|syncer| syncer.result(wait)) {
            Some(Ok(())) => OutputCounters::add(&self.counters.syncs, 1),
            Some(Err(error)) => self.counters.add_failed_sync(&error),
            None => {}
        }
    }
}

impl OutputTransport for PlainWriter {
    fn kind(&self) -> OutputKind {
        OutputKind::Plain
    }

    fn buffers(&mut self) -> &mut OutputBuffers {
        &mut self.buffers
    }

    fn advance(&mut self, mut wait: Duration) -> io::Result<()> {
        while let Some(piece) = self.buffers.begin() {
            if !self.is_writable(std::mem::take(&mut wait)) {
                self.buffers.wrote(piece.slot, 0);
                break;
            }
            match self.write(self.buffers.bytes(piece), piece.offset) {
                Ok(0) => {
                    self.buffers.failed(piece.slot);
                    return Err(io::ErrorKind::WriteZero.into());
                }
                Ok(count) => {
                    OutputCounters::add(&self.counters.plain_writes, 1);
                    OutputCounters::add(&self.counters.bytes, count);
                    let records = self.buffers.wrote(piece.slot, count);
                    OutputCounters::add(&self.counters.records, records);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.buffers.wrote(piece.slot, 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.buffers.wrote(piece.slot, 0);
                    break;
                }
                Err(error) => {
                    self.buffers.failed(piece.slot);
                    return Err(error);
                }
            }
        }
        self.end_sync(wait);
        Ok(())
    }

    fn begin_sync(&mut self) {
        let begun = match &mut self.syncer {
            Some(syncer) => syncer.begin(&self.file),
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        if let Err(error) = begun {
            self.counters.add_failed_sync(&error);
        }
    }

    fn is_syncing(&self) -> bool {
        self.syncer.as_ref().is_some_and(Syncer::is_syncing)
    }

    fn file(&self) -> &File {
        &self.file
    }

    fn set_file(&mut self, file: File) -> io::Result<()> {
        self.file = file;
        Ok(())
    }
}
