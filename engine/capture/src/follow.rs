//! Waiting at the end of a capture that is still being written (`-f`).

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// Time between two looks for more.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Tells whether a capture is over whose end was reached.
pub(crate) type Over = Box<dyn FnMut() -> bool + Send>;

/// A reader whose end is not reached before the capture is over.
pub(crate) struct Following<R> {
    reader: R,
    over: Over,
    /// It is over; what was written before is still read.
    is_over: bool,
    position: u64,
    /// Waits until there may be more, for at most [`POLL_INTERVAL`].
    wait: fn(&R) -> io::Result<()>,
    /// Whether there is less than what was read.
    was_cut: fn(&R, u64) -> bool,
}

impl<R: Read> Following<R> {
    pub(crate) fn new(reader: R, over: Over) -> Self {
        let wait = |_: &R| {
            std::thread::sleep(POLL_INTERVAL);
            Ok(())
        };
        Self { reader, over, is_over: false, position: 0, wait, was_cut: |_, _| false }
    }
}

impl Following<File> {
    /// Opens a regular file or a FIFO. Neither opening nor reading waits for a writer without
    /// asking `over`.
    pub(crate) fn open(path: &Path, over: Over) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let reader = File::options().read(true).custom_flags(flags).open(path)?;
        Ok(Self::of_file(reader, over))
    }

    /// The same, of an open file.
    pub(crate) fn of_file(reader: File, over: Over) -> Self {
        let is_over = false;
        Self { reader, over, is_over, position: 0, wait: wait_for_writer, was_cut: is_shorter }
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

impl<R: Read> Read for Following<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            let has_writer = match self.reader.read(target) {
                // A FIFO without a writer and a regular file at its end are always readable.
                Ok(0) => false,
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.is_over || (self.was_cut)(&self.reader, self.position) {
                return Ok(0);
            }
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
