//! Waiting at the end of a capture that is still being written (`-f`).

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// Time between two looks for more.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A reader whose end is not reached before `stop` is set.
pub(crate) struct Following<R> {
    reader: R,
    stop: Option<Arc<AtomicBool>>,
    /// Waits until there may be more, for at most [`POLL_INTERVAL`].
    wait: fn(&R) -> io::Result<()>,
}

impl<R: Read> Following<R> {
    pub(crate) fn new(reader: R, stop: Option<Arc<AtomicBool>>) -> Self {
        let wait = |_: &R| {
            std::thread::sleep(POLL_INTERVAL);
            Ok(())
        };
        Self { reader, stop, wait }
    }
}

impl Following<File> {
    /// Opens a regular file or a FIFO. Neither opening nor reading waits for a writer without
    /// looking at `stop`.
    pub(crate) fn open(path: &Path, stop: Option<Arc<AtomicBool>>) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let reader = File::options().read(true).custom_flags(flags).open(path)?;
        Ok(Self { reader, stop, wait: wait_for_writer })
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

impl<R: Read> Read for Following<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            let has_writer = match self.reader.read(target) {
                // A FIFO without a writer and a regular file at its end are always readable.
                Ok(0) => false,
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Ok(0);
            }
            if has_writer {
                (self.wait)(&self.reader)?;
            } else {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
    }
}
