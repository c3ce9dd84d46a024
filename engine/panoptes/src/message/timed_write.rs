//! Writes that do not wait for a reader for long.
//!
//! A pipe or terminal that nobody reads blocks each thread that writes to it. The thread that
//! controls the service writes messages, and must not block.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

/// For how long one message waits for the reader.
const READER_WAIT: Duration = Duration::from_millis(100);

/// A pipe with room takes this many bytes at once: `PIPE_BUF` of pipe(7).
const AT_ONCE: usize = 4096;

/// Writes to a file, and fails if the reader takes nothing for 100 ms.
pub(super) struct TimedWrite<T> {
    to: T,
    /// The same file, opened so that no write waits.
    no_wait: Option<OwnedFd>,
    /// Whether the last write failed: the next ones do not wait.
    is_stuck: bool,
    /// Whether the last line ended in the middle.
    is_cut: bool,
}

impl<T: AsFd> TimedWrite<T> {
    pub(super) fn new(to: T) -> Self {
        let no_wait = open_again(to.as_fd());
        Self { to, no_wait, is_stuck: false, is_cut: false }
    }

    fn file(&self) -> BorrowedFd<'_> {
        self.no_wait.as_ref().map_or_else(|| self.to.as_fd(), AsFd::as_fd)
    }

    /// Waits until the file takes some bytes.
    fn has_room(&self, until: Instant) -> bool {
        let mut file = [PollFd::from_borrowed_fd(self.file(), PollFlags::OUT)];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(&mut file, Some(&left)) {
                Err(Errno::INTR) => {}
                // The write gives the reason.
                Err(_) => return true,
                Ok(ready) => return ready > 0,
            }
        }
    }

    fn write_in_parts(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let until = Instant::now() + if self.is_stuck { Duration::ZERO } else { READER_WAIT };
        while !bytes.is_empty() {
            if !self.has_room(until) {
                return Err(ErrorKind::TimedOut.into());
            }
            match rustix::io::write(self.file(), &bytes[..bytes.len().min(AT_ONCE)]) {
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.is_cut = !bytes.is_empty();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if Instant::now() < until => std::thread::yield_now(),
                Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl<T: AsFd> Write for TimedWrite<T> {
    /// Writes all bytes, or drops the rest of them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = if self.is_cut {
            self.write_in_parts(&[b"\n", bytes].concat())
        } else {
            self.write_in_parts(bytes)
        };
        self.is_stuck = written.is_err();
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a pipe or a terminal again. A terminal polls as ready while a single byte has room, and
/// the flag on the file itself would hold for all programs that share it.
fn open_again(file: BorrowedFd<'_>) -> Option<OwnedFd> {
    let kind = FileType::from_raw_mode(fstat(file).ok()?.st_mode);
    if !matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
        return None;
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use nix::pty::openpty;
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

    use super::*;

    /// Writes until the reader would have to read; returns the number of lines that it got.
    fn fill(timed: &mut TimedWrite<impl AsFd>, line: &str) -> u32 {
        let mut fits = 0;
        while timed.write_all(line.as_bytes()).is_ok() {
            fits += 1;
            assert!(fits < 100_000, "everything fits");
        }
        fits
    }

    /// Writes until somebody reads, and nothing before.
    fn check(mut timed: TimedWrite<impl AsFd>, mut reader: impl io::Read, line: &str) {
        let begin = Instant::now();
        let fits = fill(&mut timed, line);
        assert!(fits > 0 && begin.elapsed() >= READER_WAIT, "{fits} lines");
        let begin = Instant::now();
        for _ in 0..100 {
            let error = timed.write_all(b"lost\n").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        assert!(begin.elapsed() < 50 * READER_WAIT, "{:?}", begin.elapsed());
        let (mut text, mut part) = (Vec::new(), [0; 4096]);
        while timed.write_all(b"again\n").is_err() {
            let length = reader.read(&mut part).unwrap();
            text.extend_from_slice(&part[..length]);
        }
        while !text.ends_with(b"again\n") {
            let length = reader.read(&mut part).unwrap();
            text.extend_from_slice(&part[..length]);
        }
        let text = String::from_utf8(text).unwrap();
        let mut lines = text.split_inclusive('\n');
        for _ in 0..fits {
            assert_eq!(lines.next(), Some(line));
        }
        let rest: Vec<&str> = lines.collect();
        let [cut @ .., last] = &rest[..] else { panic!("nothing follows") };
        assert_eq!(*last, "again\n");
        assert!(cut.len() <= 1 && cut.iter().all(|cut| line.starts_with(cut.trim_end())));
    }

    #[test]
    fn who_writes_to_a_pipe_that_nobody_reads_goes_on() {
        for length in [200, 9999] {
            let (reader, writer) = io::pipe().unwrap();
            check(TimedWrite::new(writer), reader, &format!("{}\n", "x".repeat(length)));
        }
    }

    #[test]
    fn who_writes_to_a_socket_that_nobody_reads_goes_on() {
        let (reader, writer) = UnixStream::pair().unwrap();
        check(TimedWrite::new(writer), reader, &format!("{}\n", "x".repeat(200)));
    }

    #[test]
    fn who_writes_to_a_terminal_that_nobody_reads_goes_on() {
        let ends = openpty(None, None).unwrap();
        let mut settings = tcgetattr(&ends.slave).unwrap();
        cfmakeraw(&mut settings);
        tcsetattr(&ends.slave, SetArg::TCSANOW, &settings).unwrap();
        let line = format!("{}\n", "x".repeat(199));
        check(TimedWrite::new(ends.slave), std::fs::File::from(ends.master), &line);
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_at_once() {
        let (reader, writer) = io::pipe().unwrap();
        let mut timed = TimedWrite::new(writer);
        drop(reader);
        assert_eq!(timed.write_all(b"a\n").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
