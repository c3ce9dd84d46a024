//! Messages for people, by level.
//!
//! Each message is one line on stderr. Those of the service go to stdout, as §8.1 of the guide of
//! DOCA Argus says (`docs/compatibility.md`, "The guide"). A debug log receives messages of all
//! levels. For messages about a system that has a level of its own, that level holds in both
//! places. Control characters are escaped, so that text from a watched machine can't control the
//! terminal. On a terminal, a status line may stand below the messages: it is erased before each of
//! them, and drawn again.
//!
//! A reader of the service's messages that stops reading does not stop the service: messages are
//! dropped, and their number follows once it reads again.
//!
//! Not for: records (`panoptes-sinks`).

mod debug_log;
mod log_thread;
mod timed_write;

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use panoptes_records::json::time::Timestamp;
use panoptes_records::people::ERASE_LINE;
use panoptes_sinks::output::file::FileOptions;

use self::debug_log::DebugLog;
use self::log_thread::{LogThread, LogThreadSink as _};
use self::timed_write::TimedWrite;
use crate::config::{LogLevel, System, one_line};
use crate::exit::{Exit, Failure};

/// Writes messages up to a level, and messages of all levels to the debug log if there is one.
#[derive(Clone)]
pub struct Messages {
    shared: Arc<MessagesState>,
    /// The level of the system that they are about, if it has one of its own.
    level: Option<LogLevel>,
}

struct MessagesState {
    level: AtomicU8,
    colour: bool,
    /// Whether each message begins with its time: nobody else notes that.
    has_time: bool,
    out: Mutex<MessageOutput>,
    debug_log: Mutex<Option<DebugLogTarget>>,
}

/// Where the debug log is.
enum DebugLogTarget {
    /// A file that each writer of a message writes to.
    Here(DebugLog),
    /// A thread that writes to the file at this path.
    Thread(Arc<LogThread>, PathBuf),
}

impl DebugLogTarget {
    fn path(&self) -> PathBuf {
        match self {
            Self::Here(log) => log.path(),
            Self::Thread(_, path) => path.clone(),
        }
    }
}

/// Where messages go, and the status line there.
struct MessageOutput {
    to: Box<dyn Write + Send>,
    /// Empty while there is none.
    status: String,
    has_ended: bool,
    /// Number of messages since the last one that could be written.
    dropped: u64,
}

impl MessageOutput {
    /// Writes a line of text, or nothing, above the status line. One write, so that lines of
    /// several processes do not mix.
    fn write(&mut self, line: &str) {
        let erase = if self.status.is_empty() { "" } else { ERASE_LINE };
        let note = match self.dropped {
            0 => String::new(),
            1 => "panoptes: warning: 1 message was dropped here: nobody read it\n".to_owned(),
            count => {
                format!("panoptes: warning: {count} messages were dropped here: nobody read them\n")
            }
        };
        let text = format!("{erase}{note}{line}{}", self.status);
        // There is no other channel on which to report what can't be written.
        match self.to.write_all(text.as_bytes()).and_then(|()| self.to.flush()) {
            Ok(()) => self.dropped = 0,
            Err(_) => self.dropped += u64::from(!line.is_empty()),
        }
    }
}

impl Messages {
    /// Messages on stderr, coloured on a terminal unless `NO_COLOR` is set.
    pub fn on_stderr(level: LogLevel) -> Self {
        let colour = wants_colour(io::stderr().is_terminal());
        Self::new(Box::new(io::stderr()), colour, level)
    }

    /// The same for a program that watches: no reader delays it for long.
    pub fn of_watch_on_stderr(level: LogLevel) -> Self {
        let colour = wants_colour(io::stderr().is_terminal());
        Self::new(Box::new(TimedWrite::new(io::stderr())), colour, level)
    }

    /// Messages on stdout, for the service, with their times unless the journal notes these. No
    /// reader delays it for long.
    pub fn of_watch_on_stdout(level: LogLevel) -> Self {
        let colour = wants_colour(io::stdout().is_terminal());
        let has_time = !is_journal(io::stdout());
        Self::with_time(Box::new(TimedWrite::new(io::stdout())), colour, has_time, level)
    }

    /// Messages to a writer of the caller's choice.
    pub fn new(out: Box<dyn Write + Send>, colour: bool, level: LogLevel) -> Self {
        Self::with_time(out, colour, false, level)
    }

    fn with_time(
        out: Box<dyn Write + Send>,
        colour: bool,
        has_time: bool,
        level: LogLevel,
    ) -> Self {
        let shared = MessagesState {
            level: AtomicU8::new(level as u8),
            colour,
            has_time,
            out: Mutex::new(MessageOutput {
                to: out,
                status: String::new(),
                has_ended: false,
                dropped: 0,
            }),
            debug_log: Mutex::new(None),
        };
        Self { shared: Arc::new(shared), level: None }
    }

    /// Writes elsewhere from now on. That holds for all clones.
    pub fn redirect(&self, out: Box<dyn Write + Send>) {
        locked(&self.shared.out).to = out;
    }

    /// Changes the level from now on.
    pub fn set_level(&self, level: LogLevel) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
    }

    /// Writes every message, of every level, into `folder` as well, in files that rotate by these
    /// options.
    pub fn log_to(&self, folder: &Path, options: &FileOptions) -> Result<(), Failure> {
        let log = DebugLog::open(folder, options).map_err(|error| {
            let folder = folder.display();
            let what = format_args!("service.debug_log_folder: {folder} can't be written");
            Failure::io(&error, Exit::Output, what)
        })?;
        *locked(&self.shared.debug_log) = Some(DebugLogTarget::Here(log));
        Ok(())
    }

    /// Has a thread write the debug log from now on, if there is one: its disk may not answer.
    /// `enter` runs on the thread first.
    pub(crate) fn isolate_debug_log(&self, enter: impl FnOnce() + Send + 'static) {
        let mut place = locked(&self.shared.debug_log);
        match place.take() {
            Some(DebugLogTarget::Here(log)) => {
                let path = log.path();
                let started = LogThread::start(log, enter);
                let started = started.map(|log| DebugLogTarget::Thread(Arc::new(log), path));
                let error = started.as_ref().err().map(ToString::to_string);
                *place = started.ok();
                drop(place);
                if let Some(error) = error {
                    self.warning(format_args!("the debug log ends: it has no thread: {error}"));
                }
            }
            other => *place = other,
        }
    }

    /// Rotates the debug log by these options from now on.
    pub(crate) fn set_options(&self, options: &FileOptions) {
        let thread = match locked(&self.shared.debug_log).as_mut() {
            Some(DebugLogTarget::Here(log)) => return log.set_options(options),
            Some(DebugLogTarget::Thread(log, _)) => Arc::clone(log),
            None => return,
        };
        thread.set_options(options);
    }

    /// Opens the debug log again: another program has moved it.
    pub fn reopen(&self) {
        let mut place = locked(&self.shared.debug_log);
        let reopened = match place.as_mut() {
            None => return,
            Some(DebugLogTarget::Here(log)) => log.reopen(),
            Some(DebugLogTarget::Thread(log, _)) => {
                let log = Arc::clone(log);
                drop(place);
                log.reopen()
            }
        };
        if let Err(error) = reopened {
            self.warning(format_args!("the debug log is not opened again: {error}"));
        }
    }

    /// Messages about a system, at its level.
    #[must_use]
    pub fn of(&self, system: &System) -> Self {
        Self { shared: Arc::clone(&self.shared), level: system.settings.log_level }
    }

    /// Draws the status line, one row of text without control characters, in place of the last one.
    pub(crate) fn set_status(&self, status: String) {
        let mut out = locked(&self.shared.out);
        if !out.has_ended && !status.is_empty() {
            out.status = status;
            out.write("");
        }
    }

    /// Erases the status line for good.
    pub(crate) fn end_status(&self) {
        let mut out = locked(&self.shared.out);
        out.has_ended = true;
        if !out.status.is_empty() {
            out.status.clear();
            let _ = out.to.write_all(ERASE_LINE.as_bytes()).and_then(|()| out.to.flush());
        }
    }

    /// Writes a message about a failure.
    pub fn error(&self, text: impl Display) {
        self.say(LogLevel::Error, text);
    }

    /// Writes a message that a person should act on.
    pub fn warning(&self, text: impl Display) {
        self.say(LogLevel::Warning, text);
    }

    /// Writes a message about normal operation.
    pub fn info(&self, text: impl Display) {
        self.say(LogLevel::Info, text);
    }

    /// Writes a message for developers.
    pub fn debug(&self, text: impl Display) {
        self.say(LogLevel::Debug, text);
    }

    /// Writes a message at a level. A message that can't be written is lost: there is no other
    /// channel on which to report the error.
    pub fn say(&self, level: LogLevel, text: impl Display) {
        let (shown, shared) = (self.shows(level), &self.shared);
        if self.level.is_some() && !shown {
            return;
        }
        let mut debug_log = locked(&shared.debug_log);
        if !shown && debug_log.is_none() {
            return;
        }
        let text = one_line(&text.to_string());
        if shown {
            let time = if shared.has_time { format!("{} ", now()) } else { String::new() };
            let line = format!("{time}{}{text}\n", prefix(level, shared.colour));
            locked(&shared.out).write(&line);
        }
        let Some(place) = debug_log.as_mut() else { return };
        let line = format!("{} {} {text}\n", now(), format!("{level:?}").to_lowercase());
        let path = place.path();
        let written = match place {
            DebugLogTarget::Here(log) => log.write(line.as_bytes()),
            DebugLogTarget::Thread(log, _) => {
                let log = Arc::clone(log);
                drop(debug_log);
                log.write(line.as_bytes())
            }
        };
        if let Err(error) = written {
            let (path, what) = (path.display(), "cannot be written, and each message tries again");
            self.warning(format_args!("the debug log {path} {what}: {error}"));
        }
    }

    fn shows(&self, level: LogLevel) -> bool {
        let most = self.level.map_or(self.shared.level.load(Ordering::Relaxed), |own| own as u8);
        level as u8 <= most
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Messages")
            .field("level", &self.shared.level)
            .field("colour", &self.shared.colour)
            .finish_non_exhaustive()
    }
}

/// A poisoned lock only means that another thread panicked while it wrote a message.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether what is written to a terminal, or elsewhere, has colours.
pub(crate) fn wants_colour(terminal: bool) -> bool {
    // https://no-color.org: any value but the empty one.
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    terminal && !refused && !is_dumb()
}

/// Whether this is a stream to the journal, which systemd names by device and inode
/// (`JOURNAL_STREAM`, systemd.exec(5)).
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(stat) = rustix::fs::fstat(stream) else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|text| text == names(stat.st_dev, stat.st_ino))
}

/// A stream as systemd names it.
fn names(device: u64, inode: u64) -> String {
    format!("{device}:{inode}")
}

/// Whether stderr can have a status line: it is a terminal whose lines can be erased.
pub(crate) fn has_status_line() -> bool {
    io::stderr().is_terminal() && !is_dumb()
}

/// Whether the terminal understands no control sequences.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

fn prefix(level: LogLevel, colour: bool) -> String {
    // SGR: bold red, yellow, dim.
    let (word, style) = match level {
        LogLevel::Critical | LogLevel::Error => ("error: ", "1;31"),
        LogLevel::Warning => ("warning: ", "33"),
        LogLevel::Debug => ("debug: ", "2"),
        LogLevel::Trace => ("trace: ", "2"),
        LogLevel::Info | LogLevel::Disable => return "panoptes: ".to_owned(),
    };
    if colour {
        format!("panoptes: \u{1b}[{style}m{word}\u{1b}[0m")
    } else {
        format!("panoptes: {word}")
    }
}

/// The time of day in UTC, as RFC 3339 has it.
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = Timestamp::from_ns(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    String::from_utf8_lossy(&time.text()).replace("+00:00", "Z")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::config::{SystemAddress, SystemSettings};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn all_levels(level: LogLevel, colour: bool) -> String {
        let kept = Kept::default();
        let messages = Messages::new(Box::new(kept.clone()), colour, level);
        messages.say(LogLevel::Critical, "a");
        messages.error("b");
        messages.warning("c");
        messages.info("d");
        messages.debug("e");
        messages.say(LogLevel::Trace, "f");
        kept.text()
    }

    #[test]
    fn the_level_decides_what_is_written() {
        assert_eq!(all_levels(LogLevel::Disable, false), "");
        assert_eq!(all_levels(LogLevel::Critical, false), "panoptes: error: a\n");
        assert_eq!(
            all_levels(LogLevel::Info, false),
            "panoptes: error: a\npanoptes: error: b\npanoptes: warning: c\npanoptes: d\n"
        );
        assert!(all_levels(LogLevel::Trace, false).ends_with("debug: e\npanoptes: trace: f\n"));
    }

    #[test]
    fn clones_are_redirected_together() {
        let (before, after) = (Kept::default(), Kept::default());
        let messages = Messages::new(Box::new(before.clone()), false, LogLevel::Info);
        let clone = messages.clone();
        clone.info("a");
        messages.redirect(Box::new(after.clone()));
        clone.info("b");
        assert_eq!(
            (before.text().as_str(), after.text().as_str()),
            ("panoptes: a\n", "panoptes: b\n")
        );
    }

    #[test]
    fn colour_is_only_in_the_word() {
        let text = all_levels(LogLevel::Critical, true);
        assert_eq!(text, "panoptes: \u{1b}[1;31merror: \u{1b}[0ma\n");
    }

    #[test]
    fn a_message_is_one_line_without_control_characters() {
        let kept = Kept::default();
        let messages = Messages::new(Box::new(kept.clone()), false, LogLevel::Info);
        messages.info("a guest named \u{1b}[2J\nitself");
        assert_eq!(kept.text(), "panoptes: a guest named \\u{1b}[2J\\u{a}itself\n");
    }

    /// A reader that reads while the flag is set.
    #[derive(Clone, Default)]
    struct Sometimes(Kept, Arc<AtomicBool>);

    impl Write for Sometimes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.1.load(Ordering::Relaxed) {
                return self.0.write(bytes);
            }
            Err(io::ErrorKind::TimedOut.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn dropped_messages_are_counted_and_status_lines_are_not() {
        let reader = Sometimes::default();
        let messages = Messages::new(Box::new(reader.clone()), false, LogLevel::Info);
        let read = |is_on| reader.1.store(is_on, Ordering::Relaxed);
        let mut expected = String::new();
        for (count, note) in [
            (0, ""),
            (1, "panoptes: warning: 1 message was dropped here: nobody read it\n"),
            (2, "panoptes: warning: 2 messages were dropped here: nobody read them\n"),
        ] {
            read(false);
            for _ in 0..count {
                messages.info("lost");
                messages.debug("not shown");
                messages.set_status("status".to_owned());
            }
            read(true);
            messages.info("read");
            let erase = if count == 0 { "" } else { "\r\x1b[K" };
            let status = if count == 0 { "" } else { "status" };
            expected = format!("{expected}{erase}{note}panoptes: read\n{status}");
            assert_eq!(reader.0.text(), expected);
        }
    }

    #[test]
    fn a_message_stands_above_the_status_line() {
        let kept = Kept::default();
        let messages = Messages::new(Box::new(kept.clone()), false, LogLevel::Info);
        let mut expected = String::new();
        let mut check = |more: &str| {
            expected += more;
            assert_eq!(kept.text(), expected);
        };
        messages.info("a");
        check("panoptes: a\n");
        messages.set_status("1".to_owned());
        check("\r\x1b[K1");
        messages.info("b");
        check("\r\x1b[Kpanoptes: b\n1");
        messages.debug("not shown");
        messages.set_status("2".to_owned());
        check("\r\x1b[K2");
        messages.end_status();
        check("\r\x1b[K");
        messages.set_status("3".to_owned());
        messages.end_status();
        messages.info("c");
        check("panoptes: c\n");
    }

    #[test]
    fn the_debug_log_has_every_level() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("new");
        let kept = Kept::default();
        let messages = Messages::new(Box::new(kept.clone()), false, LogLevel::Error);
        messages.log_to(&inner, &FileOptions::default()).unwrap();
        messages.say(LogLevel::Trace, "quiet");
        messages.error("loud");
        assert_eq!(kept.text(), "panoptes: error: loud\n");
        let log = std::fs::read_to_string(inner.join("panoptes.log")).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("Z trace quiet"), "{log}");
        assert!(lines[1].ends_with("Z error loud"), "{log}");
    }

    fn system(log_level: Option<LogLevel>) -> System {
        let settings = SystemSettings { log_level, ..SystemSettings::default() };
        System { name: "a".to_owned(), address: SystemAddress::Host, settings }
    }

    #[test]
    fn a_system_may_have_a_level_of_its_own() {
        let kept = Kept::default();
        let messages = Messages::new(Box::new(kept.clone()), false, LogLevel::Warning);
        for (log_level, text) in [
            (None, "panoptes: warning: b\n"),
            (Some(LogLevel::Disable), ""),
            (Some(LogLevel::Debug), "panoptes: warning: b\npanoptes: c\npanoptes: debug: d\n"),
        ] {
            kept.0.lock().unwrap().clear();
            let system = system(log_level);
            let messages = messages.of(&system);
            messages.warning("b");
            messages.info("c");
            messages.debug("d");
            assert_eq!(kept.text(), text);
        }
    }

    #[test]
    fn the_level_of_a_system_holds_in_the_debug_log() {
        let folder = tempfile::tempdir().unwrap();
        let messages = Messages::new(Box::new(io::sink()), false, LogLevel::Critical);
        messages.log_to(folder.path(), &FileOptions::default()).unwrap();
        for log_level in [None, Some(LogLevel::Warning), Some(LogLevel::Debug)] {
            let messages = messages.of(&system(log_level));
            messages.warning(format_args!("{log_level:?}"));
            messages.debug(format_args!("{log_level:?}"));
        }
        let log = std::fs::read_to_string(folder.path().join("panoptes.log")).unwrap();
        let lines: Vec<_> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        let expected = [
            "warning None",
            "debug None",
            "warning Some(Warning)",
            "warning Some(Debug)",
            "debug Some(Debug)",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_debug_log_that_cannot_be_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let messages = Messages::new(Box::new(io::sink()), false, LogLevel::Error);
        let failure = messages.log_to(&file, &FileOptions::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Output);
        assert!(failure.message.starts_with("service.debug_log_folder: "), "{failure}");
    }
}
