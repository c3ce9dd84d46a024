//! Flow records to a file or to standard output, by io_uring.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::background::{BlockingOutput, WaitCondition};
use crate::output::folder::{FILE_MODE, has_name};
use crate::output::links;
use crate::output::transport::{OutputTransport, Target, TransportSettings};
use crate::output::{OutputCounters, open_transport};

/// How long one wait for the disk or for the reader lasts.
const DISK_WAIT: Duration = Duration::from_millis(100);

/// A file that records are appended to, or standard output.
#[derive(Debug)]
pub struct RecordFile {
    /// `None` for standard output.
    path: Option<PathBuf>,
    transport: Box<dyn OutputTransport>,
    counters: Arc<OutputCounters>,
    /// What a new file begins with.
    first: Vec<u8>,
    /// The length of the file at the last look.
    length: u64,
    /// Whether to keep waiting for a disk or a reader.
    goes_on: WaitCondition,
    /// The reader of standard output has gone.
    has_ended: bool,
}

impl RecordFile {
    /// Opens a file, or makes it. An empty one begins with `first`, as argus does.
    pub fn open(path: &Path, first: &[u8]) -> io::Result<Self> {
        let (file, is_empty) = open(path)?;
        let mut opened = Self::new(file, Some(path.to_owned()), first);
        if is_empty {
            opened.begin()?;
        }
        Ok(opened)
    }

    /// Standard output, which begins with `first`.
    pub fn standard_output(first: &[u8]) -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let mut opened = Self::new(file, None, first);
        opened.begin()?;
        Ok(opened)
    }

    fn new(file: File, path: Option<PathBuf>, first: &[u8]) -> Self {
        let counters = Arc::new(OutputCounters::default());
        // One write at a time, so that appended records stay in order.
        let settings = TransportSettings::default();
        let transport = open_transport(file, Target::Stream, settings, &counters);
        let first = first.to_vec();
        Self {
            path,
            transport,
            counters,
            first,
            length: 0,
            goes_on: WaitCondition(Box::new(|| true)),
            has_ended: false,
        }
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
            self.advance(if is_full { DISK_WAIT } else { Duration::ZERO })?;
            if self.has_ended {
                return Ok(());
            }
            if is_full {
                self.check_patience()?;
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
            self.advance(DISK_WAIT)?;
            self.check_patience()?;
        }
    }

    /// Waits only as long as this is true.
    pub fn wait_while(&mut self, goes_on: Box<dyn FnMut() -> bool + Send>) {
        self.goes_on = WaitCondition(goes_on);
    }

    fn check_patience(&mut self) -> io::Result<()> {
        let is_stuck = !self.transport.buffers().is_idle() && !(self.goes_on.0)();
        if is_stuck { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Makes the file again if another one, or none, is at its path: somebody has moved it, as
    /// logrotate does. One that somebody has emptied begins anew. Whether there is a new one.
    fn reopen_if_moved(&mut self) -> io::Result<bool> {
        let Some(path) = self.path.clone() else { return Ok(false) };
        let opened = self.transport.file().metadata()?;
        if has_name(&opened, &path) {
            let was_cut = opened.len() < std::mem::replace(&mut self.length, opened.len());
            if was_cut && opened.len() == 0 {
                self.begin()?;
            }
            return Ok(false);
        }
        self.finish()?;
        let (file, is_empty) = open(&path)?;
        self.transport.set_file(file)?;
        self.length = 0;
        if is_empty {
            self.begin()?;
        }
        Ok(true)
    }

    fn begin(&mut self) -> io::Result<()> {
        let first = std::mem::take(&mut self.first);
        let result = self.push(&first);
        self.first = first;
        result
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

impl BlockingOutput for RecordFile {
    fn write(&mut self, records: &[u8], _: &[u32]) -> io::Result<()> {
        self.push(records)
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::flush(self)
    }

    fn is_idle(&mut self) -> bool {
        let buffers = self.transport.buffers();
        buffers.is_idle() && buffers.filled() == 0
    }

    fn look(&mut self) -> io::Result<()> {
        self.reopen_if_moved().map(drop)
    }

    fn finish(&mut self) -> io::Result<()> {
        Self::finish(self)
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }
}

/// Opens a file to append to, or makes it. Whether it is empty.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(FILE_MODE);
    let file = links::open(&options, path)?;
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
        assert!(!file.reopen_if_moved().expect("a look"));
        std::fs::rename(&path, &moved).expect("moved");
        assert!(file.reopen_if_moved().expect("a look"));
        file.push(b"two").expect("written");
        file.finish().expect("written");
        assert_eq!(std::fs::read(&moved).expect("the old file"), b"firstone");
        assert_eq!(std::fs::read(&path).expect("the new file"), b"firsttwo");
    }

    /// `create` of logrotate makes the new file itself, and `copytruncate` empties the old one.
    #[test]
    fn a_file_that_others_made_or_emptied_is_continued() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, moved] = ["out", "moved"].map(|name| folder.path().join(name));
        let mut file = RecordFile::open(&path, b"first").expect("a file");
        file.push(b"one").expect("written");
        std::fs::rename(&path, &moved).expect("moved");
        std::fs::write(&path, b"").expect("made");
        assert!(file.reopen_if_moved().expect("a look"));
        file.push(b"two").expect("written");
        file.finish().expect("written");
        assert_eq!(std::fs::read(&moved).expect("the old file"), b"firstone");
        assert_eq!(std::fs::read(&path).expect("the new file"), b"firsttwo");
        assert!(!file.reopen_if_moved().expect("a look"));
        OpenOptions::new().write(true).truncate(true).open(&path).expect("emptied");
        assert!(!file.reopen_if_moved().expect("a look"));
        file.push(b"three").expect("written");
        file.finish().expect("written");
        assert_eq!(std::fs::read(&path).expect("the emptied file"), b"firstthree");
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
