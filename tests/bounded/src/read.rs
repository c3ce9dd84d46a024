//! Reads that end after a bound: poll comes before each.

use std::io::{self, BufReader, ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::BOUND;

/// A pipe, a terminal or a socket, each read of which waits for [`BOUND`] at most.
///
/// A later read fails with [`ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct Bounded<T> {
    inner: T,
    bound: Duration,
}

impl<T: Read + AsFd> Bounded<T> {
    pub fn new(inner: T) -> Self {
        Self::within(inner, BOUND)
    }

    /// The same with another bound.
    pub fn within(inner: T, bound: Duration) -> Self {
        Self { inner, bound }
    }
}

impl<T: Read + AsFd> Read for Bounded<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if !is_readable(&self.inner, Instant::now() + self.bound)? {
            let text = format!("nothing came within {} s", self.bound.as_secs());
            return Err(io::Error::new(ErrorKind::TimedOut, text));
        }
        self.inner.read(bytes)
    }
}

/// Reads a child's pipe, for example its lines. Each read waits for [`BOUND`] at most, and fails
/// then with [`ErrorKind::TimedOut`].
pub fn reader<T: Read + AsFd>(pipe: T) -> BufReader<Bounded<T>> {
    BufReader::new(Bounded::new(pipe))
}

/// Waits until a file can be read, or has its end; `false` if the time is over before.
pub(crate) fn is_readable(file: &impl AsFd, until: Instant) -> io::Result<bool> {
    poll_until(&mut [PollFd::new(file, PollFlags::IN)], until)
}

/// Waits until one of the files is as wanted; `false` if the time is over before.
pub(crate) fn poll_until(files: &mut [PollFd], until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(files, Some(&left)) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, Write as _};

    #[test]
    fn a_read_fails_after_the_bound() {
        let (reads, mut writes) = io::pipe().unwrap();
        let mut bounded = Bounded::within(reads, Duration::from_millis(20));
        let error = bounded.read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        writes.write_all(b"abc").unwrap();
        assert_eq!(bounded.read(&mut [0; 9]).unwrap(), 3);
        drop(writes);
        assert_eq!(bounded.read(&mut [0; 9]).unwrap(), 0, "the end");
    }

    #[test]
    fn lines_are_read() {
        let (reads, mut writes) = io::pipe().unwrap();
        writes.write_all(b"a\nb\n").unwrap();
        drop(writes);
        let lines: Vec<_> = reader(reads).lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["a", "b"]);
    }
}
