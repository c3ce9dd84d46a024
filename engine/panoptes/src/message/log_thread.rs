//! A log on a thread of its own: a disk that does not answer delays nobody for long.
//!
//! The writer of a line waits until it is in the file, for [`LINE_WAIT`] at most. From then on
//! nobody waits until the thread has written all. What finds no room meanwhile is lost and counted.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use panoptes_sinks::output::file::FileOptions;

/// How long one line waits for the disk.
const LINE_WAIT: Duration = Duration::from_millis(100);
/// Bytes of lines that wait, at most.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What the thread does.
pub(super) trait LogThreadSink: Send + 'static {
    /// Writes a line, which ends with a line feed.
    fn write(&mut self, line: &[u8]) -> io::Result<()>;

    /// Notes that lines were lost before the next one.
    fn lose(&mut self, lines: u64);

    /// Opens the file again: another program has moved it.
    fn reopen(&mut self) -> io::Result<()>;

    /// Rotates by these options from now on.
    fn set_options(&mut self, options: &FileOptions);
}

/// The end of those who write.
#[derive(Debug)]
pub(super) struct LogThread(Arc<LogThreadQueue>);

#[derive(Debug, Default)]
struct LogThreadQueue {
    state: Mutex<LogThreadState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LogThreadState {
    waiting: VecDeque<LogThreadTask>,
    /// Bytes of the lines in it.
    bytes: usize,
    /// How much work was added, and how much is done.
    added: u64,
    done: u64,
    /// Lines that found no room.
    lost: u64,
    /// The first error that nobody has been told.
    failure: Option<io::Error>,
    /// Somebody has waited in vain, and the thread has not done all since.
    is_stalled: bool,
    /// Nobody writes any more.
    is_closed: bool,
    has_ended: bool,
}

#[derive(Debug)]
enum LogThreadTask {
    Line(Vec<u8>),
    Reopen,
    Options(FileOptions),
}

impl LogThread {
    /// Starts the thread. `enter` runs on it first.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(super) fn start(
        log: impl LogThreadSink,
        enter: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(LogThreadQueue::default());
        let end = LogThreadEndGuard(Arc::clone(&shared));
        let run = move || {
            let end = end;
            enter();
            end.0.run(log);
        };
        thread::Builder::new().name("panoptes-debug".to_owned()).spawn(run)?;
        Ok(Self(shared))
    }

    /// Has a line written.
    ///
    /// # Errors
    ///
    /// The log has failed, or its disk does not answer; each once until it is over.
    pub(super) fn write(&self, line: &[u8]) -> io::Result<()> {
        self.0.add(LogThreadTask::Line(line.to_vec()))
    }

    /// Has the file opened again. Errors are those of [`Self::write`].
    pub(super) fn reopen(&self) -> io::Result<()> {
        self.0.add(LogThreadTask::Reopen)
    }

    /// Has the log rotate by these options from now on.
    pub(super) fn set_options(&self, options: &FileOptions) {
        // The next line returns the error.
        if let Err(error) = self.0.add(LogThreadTask::Options(*options)) {
            self.0.lock().failure.get_or_insert(error);
        }
    }
}

impl LogThreadQueue {
    fn lock(&self) -> MutexGuard<'_, LogThreadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, work: LogThreadTask) -> io::Result<()> {
        let mut state = self.lock();
        if state.has_ended || state.bytes + work.bytes() > WAITING_BYTES_MAX {
            state.lost += 1;
            return Ok(());
        }
        state.bytes += work.bytes();
        state.added += 1;
        let own = state.added;
        state.waiting.push_back(work);
        self.changed.notify_all();
        let begin = Instant::now();
        while state.done < own && !state.is_stalled && !state.has_ended {
            let Some(left) = LINE_WAIT.checked_sub(begin.elapsed()) else {
                state.is_stalled = true;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "its disk does not answer"));
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.failure.take().map_or(Ok(()), Err)
    }

    fn run(&self, mut log: impl LogThreadSink) {
        let mut state = self.lock();
        loop {
            let Some(work) = state.waiting.pop_front() else {
                state.is_stalled = false;
                // Behind all lines that found room.
                log.lose(std::mem::take(&mut state.lost));
                if state.is_closed {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.bytes -= work.bytes();
            drop(state);
            let result = match work {
                LogThreadTask::Line(line) => log.write(&line),
                LogThreadTask::Reopen => log.reopen(),
                LogThreadTask::Options(options) => {
                    log.set_options(&options);
                    Ok(())
                }
            };
            state = self.lock();
            state.done += 1;
            if let Err(error) = result {
                state.failure.get_or_insert(error);
            }
            self.changed.notify_all();
        }
    }
}

impl LogThreadTask {
    const fn bytes(&self) -> usize {
        match self {
            Self::Line(line) => line.len(),
            Self::Reopen | Self::Options(_) => size_of::<Self>(),
        }
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

/// Marks the end of the thread, also after a panic: nobody waits for it then.
#[derive(Debug)]
struct LogThreadEndGuard(Arc<LogThreadQueue>);

impl Drop for LogThreadEndGuard {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A log that waits for a word before each line.
    struct SlowLog {
        words: Receiver<()>,
        written: Sender<String>,
        lost: u64,
    }

    impl LogThreadSink for SlowLog {
        fn write(&mut self, line: &[u8]) -> io::Result<()> {
            let _ = self.words.recv_timeout(panoptes_bounded::BOUND);
            let line = String::from_utf8_lossy(line);
            let _ = self.written.send(format!("{} {line}", std::mem::take(&mut self.lost)));
            Ok(())
        }

        fn lose(&mut self, lines: u64) {
            self.lost += lines;
        }

        fn reopen(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn set_options(&mut self, _: &FileOptions) {}
    }

    fn slow() -> (LogThread, Sender<()>, Receiver<String>) {
        let ((word, words), (written, all)) = (channel(), channel());
        let log = LogThread::start(SlowLog { words, written, lost: 0 }, || ()).unwrap();
        (log, word, all)
    }

    #[test]
    fn a_disk_that_does_not_answer_delays_one_line_and_loses_what_has_no_room() {
        let (log, word, all) = slow();
        let begin = Instant::now();
        assert_eq!(log.write(b"first").unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= LINE_WAIT);
        let line = [b'x'; 1 << 10];
        let begin = Instant::now();
        let lines = WAITING_BYTES_MAX / line.len();
        for _ in 0..lines + 7 {
            log.write(&line).unwrap();
        }
        assert!(
            begin.elapsed() < LINE_WAIT * lines as u32 / 2,
            "nobody waits: {:?}",
            begin.elapsed()
        );
        drop(word);
        let next = || panoptes_bounded::recv(&all).unwrap();
        assert_eq!(next(), "0 first");
        for _ in 0..lines {
            assert!(next().starts_with("0 x"));
        }
        // It waits again for each line.
        until_done(&log);
        log.write(b"last").unwrap();
        assert_eq!(next(), "7 last");
    }

    /// Waits until the thread has done all.
    fn until_done(log: &LogThread) {
        let begin = Instant::now();
        while log.0.lock().is_stalled {
            assert!(begin.elapsed() < panoptes_bounded::BOUND);
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_line_is_written_when_its_writer_goes_on_and_errors_are_returned() {
        let (log, word, all) = slow();
        drop(word);
        for number in 0..100 {
            log.write(format!("{number}").as_bytes()).unwrap();
            assert_eq!(all.try_recv().unwrap(), format!("0 {number}"));
        }
        assert_eq!(log.reopen().unwrap_err().kind(), io::ErrorKind::NotFound);
        log.write(b"next").unwrap();
    }
}
