//! Writing by io_uring from registered buffers to a registered file.
//!
//! Buffered writes are done by the kernel's worker threads, so buffers are big and few: one
//! submission per record would be slower than `write`. What the kernel supports is probed at start,
//! and [`RingWriter::new`] returns its arguments when something is missing or refused, as in many
//! containers.
//!
//! The one rule of the unsafe code: a buffer that the kernel may
//! read is neither changed nor freed. `OutputBuffers` changes only free buffers, and `Drop` leaks a
//! buffer that is still under way instead of freeing it.
#![allow(unsafe_code, reason = "io_uring reads buffers by address")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};

use super::buffers::{OutputBuffers, PendingWrite};
use super::transport::{OutputTransport, Target};
use super::{LAST_WAIT, LAST_WAITS, OutputCounters, OutputKind};

#[derive(Debug)]
pub(crate) struct RingWriter {
    ring: OutputRing,
    file: File,
    target: Target,
    buffers: OutputBuffers,
    counters: Arc<OutputCounters>,
    is_syncing: bool,
    error: Option<io::Error>,
}

/// A wrapper so that `RingWriter` can derive `Debug`.
struct OutputRing(IoUring);

impl std::fmt::Debug for OutputRing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// The only registered file.
const FILE: Fixed = Fixed(0);
/// `user_data` of a sync; writes use their buffer's number.
const SYNC: u64 = u64::MAX;
/// The offset that means "the stream's current position".
const AT_POSITION: u64 = u64::MAX;

impl RingWriter {
    /// Sets up a ring; when the kernel refuses, returns the file and the buffers.
    pub(crate) fn new(
        file: File,
        target: Target,
        buffers: OutputBuffers,
        counters: Arc<OutputCounters>,
    ) -> Result<Self, (File, OutputBuffers)> {
        match set_up(&file, &buffers) {
            Ok(ring) => Ok(Self {
                ring: OutputRing(ring),
                file,
                target,
                buffers,
                counters,
                is_syncing: false,
                error: None,
            }),
            Err(_) => Err((file, buffers)),
        }
    }

    fn push_write(&mut self, piece: PendingWrite) {
        let bytes = self.buffers.bytes(piece);
        let offset = match self.target {
            Target::File => piece.offset,
            Target::Stream => AT_POSITION,
        };
        let entry =
            opcode::WriteFixed::new(FILE, bytes.as_ptr(), bytes.len() as u32, piece.slot as u16)
                .offset(offset)
                .build()
                .user_data(piece.slot as u64);
        if !self.push(&entry) {
            // There is a place for every buffer and a sync, but the kernel may not yet have taken
            // earlier entries.
            self.buffers.failed(piece.slot);
            self.set_error(io::ErrorKind::ResourceBusy.into());
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the entry is a sync or reads a piece of a registered buffer. `OutputBuffers`
        // counts the piece as under way until its completion was seen, and meanwhile neither
        // changes nor frees it; `Drop` leaks it instead of freeing it.
        unsafe { self.ring.0.submission().push(entry).is_ok() }
    }

    /// Submits the pushed entries, and waits for one completion when `wait` is not zero.
    fn enter(&self, wait: Duration) -> io::Result<()> {
        let submitter = self.ring.0.submitter();
        let result = if wait.is_zero() {
            submitter.submit()
        } else {
            let time = Timespec::from(wait);
            submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
        };
        match result {
            Ok(_) => Ok(()),
            // No completion in time, or the kernel needs completions reaped first: the next step
            // handles both.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Collects completions.
    fn reap(&mut self) {
        loop {
            let next = self.ring.0.completion().next();
            let Some(entry) = next else {
                return;
            };
            let result = entry.result();
            if entry.user_data() == SYNC {
                self.is_syncing = false;
                if result < 0 {
                    self.counters.add_failed_sync(&io::Error::from_raw_os_error(-result));
                } else {
                    OutputCounters::add(&self.counters.syncs, 1);
                }
                continue;
            }
            let slot = entry.user_data() as usize;
            match result {
                1.. => {
                    OutputCounters::add(&self.counters.ring_writes, 1);
                    OutputCounters::add(&self.counters.bytes, result as usize);
                    let records = self.buffers.wrote(slot, result as usize);
                    OutputCounters::add(&self.counters.records, records);
                }
                0 => {
                    self.buffers.failed(slot);
                    self.set_error(io::ErrorKind::WriteZero.into());
                }
                _ if -result == libc::EINTR => {
                    self.buffers.wrote(slot, 0);
                }
                _ => {
                    self.buffers.failed(slot);
                    self.set_error(io::Error::from_raw_os_error(-result));
                }
            }
        }
    }

    fn set_error(&mut self, error: io::Error) {
        self.error.get_or_insert(error);
    }

    fn is_under_way(&self) -> bool {
        self.is_syncing || self.buffers.under_way() > 0
    }
}

/// A ring with every needed operation, with file and buffers registered.
fn set_up(file: &File, buffers: &OutputBuffers) -> io::Result<IoUring> {
    let memory: Vec<_> = buffers
        .memory()
        .map(|memory| libc::iovec {
            iov_base: memory.as_ptr().cast_mut().cast(),
            iov_len: memory.len(),
        })
        .collect();
    // One place for each buffer and one for a sync.
    let ring = IoUring::new((memory.len() as u32 + 1).next_power_of_two())?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [opcode::WriteFixed::CODE, opcode::Fsync::CODE];
    let is_able = needed.into_iter().all(|code| probe.is_supported(code))
        && ring.params().is_feature_ext_arg()
        && ring.params().is_feature_nodrop();
    if !is_able {
        return Err(io::ErrorKind::Unsupported.into());
    }
    ring.submitter().register_files(&[file.as_raw_fd()])?;
    // SAFETY: the buffers are heap memory that keeps its address and length while `RingWriter`
    // lives, which owns both them and the ring; the kernel only reads them, and only for writes
    // that `push` answers for.
    unsafe { ring.submitter().register_buffers(&memory)? };
    Ok(ring)
}

impl OutputTransport for RingWriter {
    fn kind(&self) -> OutputKind {
        OutputKind::IoUring
    }

    fn buffers(&mut self) -> &mut OutputBuffers {
        &mut self.buffers
    }

    fn advance(&mut self, wait: Duration) -> io::Result<()> {
        self.reap();
        let mut is_pushed = false;
        while let Some(piece) = self.buffers.begin() {
            self.push_write(piece);
            is_pushed = true;
        }
        let is_waiting = !wait.is_zero() && self.is_under_way();
        // A submission that was put off is visible in the queue's length.
        if is_pushed || is_waiting || !self.ring.0.submission().is_empty() {
            let wait = if is_waiting { wait } else { Duration::ZERO };
            self.enter(wait)?;
            self.reap();
        }
        self.error.take().map_or(Ok(()), Err)
    }

    fn begin_sync(&mut self) {
        if self.is_syncing {
            return;
        }
        let entry = opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build().user_data(SYNC);
        self.is_syncing = self.push(&entry);
        if !self.is_syncing {
            self.counters.add_failed_sync(&io::ErrorKind::ResourceBusy.into());
        }
    }

    fn is_syncing(&self) -> bool {
        self.is_syncing
    }

    fn file(&self) -> &File {
        &self.file
    }

    fn set_file(&mut self, file: File) -> io::Result<()> {
        debug_assert!(!self.is_under_way(), "a file is changed only at rest");
        self.ring.0.submitter().register_files_update(0, &[file.as_raw_fd()])?;
        self.file = file;
        Ok(())
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        for _ in 0..LAST_WAITS {
            if !self.is_under_way() || self.enter(LAST_WAIT).is_err() {
                break;
            }
            self.reap();
        }
        if self.buffers.under_way() > 0 {
            // A reader that never reads: the kernel may still read the buffers, so they must stay.
            std::mem::forget(std::mem::replace(&mut self.buffers, OutputBuffers::new(1, 0, 1)));
        }
    }
}
