//! Flow records to a file or to standard output, by io_uring.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::output::Counters;
use crate::output::transport::{self, Target, Transport, TransportSettings};

/// How long one wait for the disk or for the reader lasts.
const WAIT: Duration = Duration::from_millis(100);

/// A file that records are appended to, or standard output.
#[derive(Debug)]
pub struct RecordFile {
    /// `None` for standard output.
    path: Option<PathBuf>,
    transport: Box<dyn Transport>,
    counters: Arc<Counters>,
    /// The reader of standard output has gone.
    has_ended: bool,
}

impl RecordFile {
    /// Opens a file, or makes it. An empty one begins with `first`, as argus does.
    pub fn open(path: &Path, first: &[u8]) -> io::Result<Self> {
        let (file, is_empty) = open(path)?;
        let mut opened = Self::new(file, Some(path.to_owned()));
        if is_empty {
            opened.push(first)?;
        }
        Ok(opened)
    }

    /// Standard output, which begins with `first`.
    pub fn standard_output(first: &[u8]) -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let mut opened = Self::new(file, None);
        opened.push(first)?;
        Ok(opened)
    }

    fn new(file: File, path: Option<PathBuf>) -> Self {
        let counters = Arc::new(Counters::default());
        // One write at a time, so that appended records stay in order.
        let settings = TransportSettings::default();
        let transport = transport::open(file, Target::Stream, settings, &counters);
        Self { path, transport, counters, has_ended: false }
    }

    /// The path of a file; `None` for standard output.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether the reader of standard output has gone.
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// How many writes io_uring has completed. 0 if the kernel refuses io_uring.
    pub fn ring_writes(&self) -> u64 {
        self.counters.ring_writes()
    }

    /// Adds a record, and waits for room if there is none. After an error, records wait until
    /// [`flush`](Self::flush) succeeds; this one is not added.
    pub fn push(&mut self, record: &[u8]) -> io::Result<()> {
        if self.has_ended {
            return Ok(());
        }
        while self.transport.buffers().room() < record.len() {
            self.transport.buffers().seal(0);
            let is_full = self.transport.buffers().room() == 0;
            self.advance(if is_full { WAIT } else { Duration::ZERO })?;
            if self.has_ended {
                return Ok(());
            }
        }
        self.transport.buffers().append(record, 1);
        Ok(())
    }

    /// Begins to write what was added, and writes again what has failed.
    pub fn flush(&mut self) -> io::Result<()> {
        let buffers = self.transport.buffers();
        buffers.retry();
        if buffers.is_idle() {
            buffers.seal(0);
        }
        self.advance(Duration::ZERO)
    }

    /// Writes everything.
    pub fn finish(&mut self) -> io::Result<()> {
        loop {
            self.flush()?;
            let buffers = self.transport.buffers();
            if self.has_ended || buffers.is_idle() && buffers.filled() == 0 {
                return Ok(());
            }
            self.advance(WAIT)?;
        }
    }

    /// Makes the file again if it is no longer at its path: somebody has moved it, as logrotate
    /// does. A new file begins with `first`. Whether there is a new one.
    pub fn reopen_if_moved(&mut self, first: &[u8]) -> io::Result<bool> {
        let Some(path) = self.path.clone().filter(|path| !path.exists()) else {
            return Ok(false);
        };
        self.finish()?;
        let (file, is_empty) = open(&path)?;
        self.transport.set_file(file)?;
        if is_empty {
            self.push(first)?;
        }
        Ok(true)
    }

    fn advance(&mut self, wait: Duration) -> io::Result<()> {
        match self.transport.advance(wait) {
            Err(error) if self.path.is_none() && error.kind() == io::ErrorKind::BrokenPipe => {
                self.has_ended = true;
                self.transport.buffers().abandon();
                Ok(())
            }
            // Another user of the descriptor made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
                self.transport.buffers().retry();
                Ok(())
            }
            result => result,
        }
    }
}

/// Opens a file to append to, or makes it. Whether it is empty.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let is_empty = file.metadata()?.len() == 0;
    Ok((file, is_empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_appended_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out");
        let mut expected = b"first".to_vec();
        for round in 0..2 {
            let mut file = RecordFile::open(&path, b"first").expect("a file");
            for number in 0..200_000_u32 {
                let record = [round, 1, 2, 3].into_iter().chain(number.to_be_bytes());
                let record: Vec<u8> = record.collect();
                file.push(&record).expect("written");
                expected.extend(record);
            }
            file.finish().expect("written");
        }
        assert!(std::fs::read(&path).expect("the file") == expected);
    }

    #[test]
    fn a_file_that_was_moved_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, moved] = ["out", "moved"].map(|name| folder.path().join(name));
        let mut file = RecordFile::open(&path, b"first").expect("a file");
        file.push(b"one").expect("written");
        assert!(!file.reopen_if_moved(b"first").expect("a look"));
        std::fs::rename(&path, &moved).expect("moved");
        assert!(file.reopen_if_moved(b"again").expect("a look"));
        file.push(b"two").expect("written");
        file.finish().expect("written");
        assert_eq!(std::fs::read(&moved).expect("the old file"), b"firstone");
        assert_eq!(std::fs::read(&path).expect("the new file"), b"againtwo");
    }

    #[test]
    fn a_full_disk_is_an_error_and_loses_nothing_later() {
        let full = Path::new("/dev/full");
        let mut file = RecordFile::open(full, b"first").expect("a device");
        let error = file.finish().expect_err("the device is full");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert!(file.flush().and_then(|()| file.finish()).is_err(), "it is tried again");
    }
}
