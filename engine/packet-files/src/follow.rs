//! Waiting at the end of a capture that is still being written (`-f`).

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::header;

/// Time between two looks for more.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes by which a file is known that was written anew. They hold the first packets.
const BEGINNING_BYTES: usize = 1024;
/// Where they begin: the length in the header of a pcapng section may be written at its end.
const BEGINNING_AT: usize = 24;

/// Tells whether a capture is over whose end was reached.
pub(crate) type CaptureEndCheck = Box<dyn FnMut() -> bool + Send>;

/// Kind of file: it decides how the end of a capture is noticed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CaptureFileKind {
    Regular,
    /// Writers may come one after the other.
    Fifo,
    Other,
}

/// A reader whose end is not reached before the capture is over.
pub(crate) struct FollowReader<R> {
    reader: R,
    kind: CaptureFileKind,
    over: CaptureEndCheck,
    /// It is over; what was written before is still read.
    is_over: bool,
    /// There is nothing more that belongs to what was read.
    has_ended: bool,
    position: u64,
    /// The first bytes of a regular file, from the first one on.
    beginning: Vec<u8>,
    /// The last read has found no writer.
    had_no_writer: bool,
    /// What the next writer of a FIFO has begun with.
    next: Vec<u8>,
    has_next: Arc<AtomicBool>,
    /// Waits until there may be more, for at most [`POLL_INTERVAL`].
    wait: fn(&R) -> io::Result<()>,
    /// Whether a regular file has other content than it had.
    was_written_anew: fn(&R, &[u8]) -> bool,
    /// Whether there is less than what was read.
    was_cut: fn(&R, u64) -> bool,
}

impl<R: Read> FollowReader<R> {
    pub(crate) fn new(reader: R, over: CaptureEndCheck) -> Self {
        let wait = |_: &R| {
            std::thread::sleep(POLL_INTERVAL);
            Ok(())
        };
        Self {
            reader,
            kind: CaptureFileKind::Other,
            over,
            is_over: false,
            has_ended: false,
            position: 0,
            beginning: Vec::new(),
            had_no_writer: false,
            next: Vec::new(),
            has_next: Arc::default(),
            wait,
            was_written_anew: |_, _| false,
            was_cut: |_, _| false,
        }
    }

    /// Takes what was read. How many bytes of it belong to what was read before; none is an end.
    fn accept(&mut self, bytes: &[u8]) -> usize {
        let is_first = self.position == 0;
        match self.kind {
            // What was read may be of either content.
            CaptureFileKind::Regular if (self.was_written_anew)(&self.reader, &self.beginning) => {
                self.has_ended = true;
                return 0;
            }
            // Its last writer may have ended within a packet.
            CaptureFileKind::Fifo
                if self.had_no_writer && !is_first && header::length(bytes).is_some() =>
            {
                self.had_no_writer = false;
                self.next.extend_from_slice(bytes);
                self.has_next.store(true, Ordering::Relaxed);
                return 0;
            }
            CaptureFileKind::Regular if self.position == self.beginning.len() as u64 => {
                let room = BEGINNING_BYTES - self.beginning.len();
                self.beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            _ => {}
        }
        self.had_no_writer = false;
        self.position += bytes.len() as u64;
        bytes.len()
    }

    /// Returns what the next writer has begun with.
    fn read_next(&mut self, target: &mut [u8]) -> usize {
        let count = self.next.len().min(target.len());
        target[..count].copy_from_slice(&self.next[..count]);
        self.next.drain(..count);
        self.position += count as u64;
        count
    }
}

impl FollowReader<File> {
    /// Opens a regular file or a FIFO. Neither opening nor reading waits for a writer without
    /// asking `over`.
    pub(crate) fn open(path: &Path, over: CaptureEndCheck) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let reader = File::options().read(true).custom_flags(flags).open(path)?;
        Ok(Self::of_file(reader, over))
    }

    /// The same, of an open file.
    pub(crate) fn of_file(reader: File, over: CaptureEndCheck) -> Self {
        let kind = match reader.metadata().map(|metadata| metadata.file_type()) {
            Ok(found) if found.is_file() => CaptureFileKind::Regular,
            Ok(found) if found.is_fifo() => CaptureFileKind::Fifo,
            _ => CaptureFileKind::Other,
        };
        Self {
            kind,
            wait: wait_for_writer,
            was_written_anew: has_other_beginning,
            was_cut: is_shorter,
            ..Self::new(reader, over)
        }
    }

    /// Set at an end behind which a further writer has begun a capture, which can be read on.
    pub(crate) fn has_next(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_next)
    }
}

/// A FIFO that is filled again ends the wait at once.
fn wait_for_writer(file: &File) -> io::Result<()> {
    let mut waits = [PollFd::new(file, PollFlags::IN)];
    let interval = Timespec { tv_sec: 0, tv_nsec: POLL_INTERVAL.subsec_nanos().into() };
    match poll(&mut waits, Some(&interval)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a file was emptied, and perhaps begun anew.
fn is_shorter(file: &File, position: u64) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < position)
}

/// Whether a file was emptied and begun anew, and may be longer by now than what was read. A hole
/// at its beginning is no such case: its writer continues where it was.
fn has_other_beginning(file: &File, beginning: &[u8]) -> bool {
    let Some(known) = beginning.get(BEGINNING_AT..).filter(|known| !known.is_empty()) else {
        return false;
    };
    let mut room = [0; BEGINNING_BYTES];
    let Ok(count) = file.read_at(&mut room[..known.len()], BEGINNING_AT as u64) else {
        return false;
    };
    room[..count] != *known && room[..count].iter().any(|byte| *byte != 0)
}

impl<R: Read> Read for FollowReader<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.has_ended {
            return Ok(0);
        }
        if !self.next.is_empty() {
            return Ok(self.read_next(target));
        }
        loop {
            let has_writer = match self.reader.read(target) {
                // A FIFO without a writer and a regular file at its end are always readable.
                Ok(0) => false,
                Ok(count) => return Ok(self.accept(&target[..count])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.is_over || (self.was_cut)(&self.reader, self.position) {
                self.has_ended = true;
                return Ok(0);
            }
            self.had_no_writer |= !has_writer;
            // Its writer may have written between the read and this.
            self.is_over = (self.over)();
            if self.is_over {
                continue;
            }
            if has_writer {
                (self.wait)(&self.reader)?;
            } else {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
    }
}
