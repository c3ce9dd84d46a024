//! Writes that do not wait for a reader for long.
//!
//! A pipe or terminal that nobody reads blocks whoever writes to it. Messages are written by the
//! thread that controls the service, which must go on.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// For how long one message waits for the reader.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A pipe with room takes this many bytes at once: `PIPE_BUF` of pipe(7).
const AT_ONCE: usize = 4096;

/// Writes to a file, and drops what the reader leaves for longer than 100 ms.
pub(super) struct TimedWrite<T> {
    to: T,
    /// Since the reader took the last one.
    dropped: u64,
    /// Whether the last line ended in the middle.
    is_cut: bool,
}

impl<T: AsFd> TimedWrite<T> {
    pub(super) const fn new(to: T) -> Self {
        Self { to, dropped: 0, is_cut: false }
    }

    /// Waits until the file takes [`AT_ONCE`] bytes. After a message was dropped, the next ones do
    /// not wait.
    fn has_room(&self) -> bool {
        let wait = if self.dropped == 0 { WAIT } else { Timespec::default() };
        let mut file = [PollFd::new(&self.to, PollFlags::OUT)];
        loop {
            match poll(&mut file, Some(&wait)) {
                Err(Errno::INTR) => {}
                // The write gives the reason.
                Err(_) => return true,
                Ok(ready) => return ready > 0,
            }
        }
    }

    fn write_in_parts(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if !self.has_room() {
                return Err(ErrorKind::TimedOut.into());
            }
            match rustix::io::write(&self.to, &bytes[..bytes.len().min(AT_ONCE)]) {
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.is_cut = !bytes.is_empty();
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl<T: AsFd> Write for TimedWrite<T> {
    /// Writes all bytes, or drops the rest of them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let dropped = self.dropped;
        let result = if dropped == 0 {
            self.write_in_parts(bytes)
        } else {
            let cut = if self.is_cut { "\n" } else { "" };
            let s = if dropped == 1 { "" } else { "s" };
            let note = format!("{cut}panoptes: warning: {dropped} message{s} dropped: not read\n");
            let text = [note.as_bytes(), bytes].concat();
            self.write_in_parts(&text)
        };
        match result {
            Ok(()) => self.dropped = 0,
            Err(_) => self.dropped += 1,
        }
        result.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_reader_that_stops_delays_one_message_and_the_count_of_lost_ones_follows() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut timed = TimedWrite::new(writer);
        // More than PIPE_BUF, so a line can be cut.
        let line = |number: u32| format!("{number:09999}\n");
        let mut fits = 0;
        while timed.write_all(line(fits).as_bytes()).is_ok() {
            fits += 1;
        }
        assert!((1..=100).contains(&fits), "{fits}");
        let start = Instant::now();
        for _ in 0..1000 {
            assert_eq!(timed.write_all(b"lost\n").unwrap_err().kind(), ErrorKind::TimedOut);
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

        let read = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        while timed.write_all(b"again\n").is_err() {
            thread::yield_now();
        }
        timed.write_all(b"and again\n").unwrap();
        drop(timed);
        let text = read.join().unwrap();
        let mut lines = text.split_inclusive('\n');
        for number in 0..fits {
            assert_eq!(lines.next(), Some(line(number).as_str()));
        }
        let rest: Vec<&str> = lines.collect();
        let [cut @ .., note, again, last] = &rest[..] else { panic!("{}", rest.len()) };
        assert!(cut.len() <= 1 && cut.iter().all(|cut| line(fits).starts_with(cut.trim_end())));
        let number = note.strip_prefix("panoptes: warning: ").unwrap();
        let number = number.strip_suffix(" messages dropped: not read\n").unwrap();
        assert!(number.parse::<u32>().unwrap() > 1000, "{note}");
        assert_eq!([*again, *last], ["again\n", "and again\n"]);
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_at_once() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut timed = TimedWrite::new(writer);
        assert_eq!(timed.write_all(b"a\n").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
