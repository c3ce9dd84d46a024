//! An event log for each system, beside the common one (`output.log_per_system`): a system that
//! writes much rotates only its own.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use panoptes_sinks::filter::Filter;
use panoptes_sinks::output::Counters;
use panoptes_sinks::output::file::FileOptions;
use panoptes_sinks::queue::Waker;
use panoptes_sinks::writer::OutputChange;

use super::log_opener::{LogOpener, Opened};
use super::outputs::{LogFolder, Wanted, Watched, options};
use crate::config::Configuration;
use crate::exit::Failure;
use crate::message::Messages;
use crate::sandbox::keep_those_of_outputs;

/// The folder of these logs, in the folder of all logs.
const FOLDER: &str = "systems";
/// The maximum length of a folder's name, in bytes. The kernel's is 255 (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 200;

/// How soon a log that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Where logs of systems are, and how they are kept.
#[derive(Clone, Debug)]
pub(super) struct LogPlace {
    pub(super) folder: LogFolder,
    /// The file name of each.
    pub(super) name: &'static str,
    pub(super) options: FileOptions,
}

impl LogPlace {
    /// The recipe for the log of a system, which has this number.
    fn wanted(&self, system: &str, number: u32) -> Wanted {
        let path = self.folder.path.join(FOLDER).join(folder_name(system)).join(self.name);
        let filter = Filter { system: Some(number), ..self.options.filter };
        let options = FileOptions { filter, ..self.options };
        Wanted::file(path, options, Some(Arc::clone(&self.folder.lock)))
    }
}

/// A log that is open.
#[derive(Debug)]
struct Log {
    number: u32,
    counters: Weak<Counters>,
}

/// Where the logs of single systems are, if they are wanted.
pub(super) fn log_place(
    configuration: &Configuration,
    folder: Option<&LogFolder>,
) -> Option<LogPlace> {
    let folder = folder.filter(|_| configuration.output.log_per_system)?.clone();
    let name = configuration.service.compatibility.event_log();
    Some(LogPlace { folder, name, options: options(&configuration.output) })
}

/// The logs of all systems that are or were seen.
#[derive(Debug)]
pub(super) struct SystemLogs {
    /// `None`: there are no such logs.
    place: Option<LogPlace>,
    changes: Sender<OutputChange>,
    /// Numbers the blocks of records.
    waker: Waker,
    messages: Arc<Messages>,
    /// By name of a system, the number of its log; `None` if the log could not be opened.
    numbers: HashMap<String, Option<Log>>,
    next: u32,
    opener: LogOpener,
    /// Logs that were opened since the last call of [`Self::opened`].
    opened: Vec<Watched>,
    /// By name of a system that is gone, its log that is being ended.
    ending: HashMap<String, Weak<Counters>>,
    /// When those that could not be opened are tried again.
    retry_at: Option<Instant>,
    /// Why, of those that are new since the last call of [`Self::failures`].
    failures: Vec<String>,
}

impl SystemLogs {
    /// Logs at this place, which the writer at the other end of `changes` writes.
    pub(super) fn new(
        place: Option<LogPlace>,
        (changes, waker): (Sender<OutputChange>, Waker),
        messages: Arc<Messages>,
    ) -> Self {
        let (numbers, opened, ending) = (HashMap::new(), Vec::new(), HashMap::new());
        Self {
            place,
            changes,
            waker,
            messages,
            numbers,
            next: 0,
            opener: LogOpener::default(),
            opened,
            ending,
            retry_at: None,
            failures: Vec::new(),
        }
    }

    /// Has the logs at another place, or keeps them otherwise, from now on. Returns what becomes of
    /// those that are open; without a place, they have ended.
    pub(super) fn set_place(&mut self, place: Option<LogPlace>) -> Vec<Wanted> {
        self.place = place;
        self.opener.forget_all();
        let Some(place) = &self.place else {
            self.numbers.clear();
            return Vec::new();
        };
        // What could not be opened may be possible now.
        self.numbers.retain(|_, number| number.is_some());
        let open = self.numbers.iter().filter_map(|(system, log)| Some((system, log.as_ref()?)));
        open.map(|(system, log)| place.wanted(system, log.number)).collect()
    }

    /// The number of a system's log, which is opened if it is not open.
    pub(super) fn number_of(&mut self, system: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(system) {
            return number.as_ref().map(|log| log.number);
        }
        // A disk may be full for long, and two outputs would tear each other's lines.
        if self.ending.get(system).is_some_and(|log| log.strong_count() > 0) {
            return None;
        }
        self.open(system)
    }

    /// Opens a system's log, and returns its number. A failure is reported unless the last try
    /// failed, too.
    fn open(&mut self, system: &str) -> Option<u32> {
        let number = self.next;
        let wanted = self.place.as_ref()?.wanted(system, number);
        self.next += 1;
        let messages = Arc::clone(&self.messages);
        let opened = self.opener.open((system, number), move || {
            keep_those_of_outputs(&messages);
            wanted.open(&messages)
        });
        self.add(system, number, opened)
    }

    /// Adds a system's log if it could be opened.
    fn add(&mut self, system: &str, number: u32, opened: Result<Opened, Failure>) -> Option<u32> {
        let log = match opened {
            Ok((output, watched)) => {
                let log = Log { number, counters: Arc::downgrade(&watched.counters) };
                self.opened.push(watched);
                // Without a writer, the program ends.
                let _ = self.changes.send(OutputChange::Add(output, self.waker.next()));
                Some(log)
            }
            Err(failure) => {
                self.retry_at.get_or_insert_with(|| Instant::now() + RETRY);
                if !self.numbers.contains_key(system) {
                    let reason = format!("{system} has no log of its own until now: {failure}");
                    self.messages.warning(&reason);
                    self.failures.push(reason);
                }
                None
            }
        };
        let number = log.as_ref().map(|log| log.number);
        self.numbers.insert(system.to_owned(), log);
        number
    }

    /// Adds a log that was opened too late, and tries to open others again that could not be
    /// opened, when they are due. Returns whether it has: numbers may be new.
    pub(super) fn retry(&mut self, now: Instant) -> bool {
        let late = self.opener.late();
        let has_late = late.is_some();
        if let Some((system, number, opened)) = late {
            self.add(&system, number, opened);
        }
        if self.retry_at.is_none_or(|at| now < at) {
            return has_late;
        }
        self.retry_at = None;
        let failed = self.numbers.iter().filter(|(_, log)| log.is_none());
        let failed: Vec<_> = failed.map(|(system, _)| system.clone()).collect();
        for system in failed {
            self.open(&system);
        }
        true
    }

    /// Why logs could not be opened, since the last call.
    pub(super) fn failures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failures)
    }

    /// Ends the log of a system that is gone. If the system comes back, the log goes on.
    pub(super) fn close(&mut self, system: &str) {
        self.ending.retain(|_, log| log.strong_count() > 0);
        self.opener.forget(system);
        if let Some(Some(Log { number, counters })) = self.numbers.remove(system) {
            self.ending.insert(system.to_owned(), counters);
            let _ = self.changes.send(OutputChange::End(number));
        }
    }

    /// Notes that a log is another output now.
    pub(super) fn renew(&mut self, output: &Watched) {
        let number = output.recipe.filter().system;
        let mut open = self.numbers.values_mut().flatten();
        if let Some(log) = open.find(|log| Some(log.number) == number) {
            log.counters = Arc::downgrade(&output.counters);
        }
    }

    /// The logs that were opened since the last call.
    pub(super) fn opened(&mut self) -> Vec<Watched> {
        std::mem::take(&mut self.opened)
    }
}

/// A folder's name for a system. A guest's owner chooses its name, which may be that of any path.
fn folder_name(system: &str) -> String {
    let mut name = String::new();
    for (at, byte) in system.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if is_plain || byte == b'.' && at > 0 {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "%{byte:02X}");
        }
    }
    if name.len() > NAME_BYTES_MAX {
        let mut hasher = DefaultHasher::new();
        system.hash(&mut hasher);
        name.truncate(NAME_BYTES_MAX);
        let _ = write!(name, "-{:016x}", hasher.finish());
    }
    name
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use panoptes_sinks::output::folder::FolderLock;

    use super::*;
    use crate::config::LogLevel;
    use crate::exit::Exit;

    /// The log of a system that is gone is opened at last, and that of another one can be opened.
    #[test]
    fn a_disk_that_does_not_answer_delays_logs_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_owned();
        let lock = FolderLock::take(&path).expect("a lock");
        let folder = LogFolder { path, lock };
        let place = LogPlace { folder, name: "events.jsonl", options: FileOptions::default() };
        let messages = Arc::new(Messages::on_stderr(LogLevel::Disable));
        let (changes, changed) = channel();
        let mut logs = SystemLogs::new(Some(place), (changes, Waker::default()), messages);
        let (answer, answered) = channel::<()>();
        let hang = move || {
            let _ = panoptes_bounded::recv(&answered);
            Err(Failure::new(Exit::Output, "it is full"))
        };
        assert!(logs.opener.open(("gone", 99), hang).is_err());
        logs.close("gone");
        assert_eq!(logs.number_of("a"), None);
        let failures = ["a has no log of its own until now: the disk does not answer"];
        assert_eq!(logs.failures(), failures);
        // It is tried again, and is not reported twice.
        assert!(logs.retry(Instant::now() + RETRY));
        assert_eq!((logs.number_of("a"), logs.failures().len()), (None, 0));
        drop(answer);
        let begin = Instant::now();
        while logs.number_of("a").is_none() && begin.elapsed() < Duration::from_mins(1) {
            logs.retry(Instant::now() + RETRY);
        }
        assert!(logs.number_of("a").is_some());
        assert!(matches!(changed.try_recv(), Ok(OutputChange::Add(..))));
        assert!(changed.try_recv().is_err());
        assert_eq!(logs.opened().len(), 1);
    }

    #[test]
    fn no_name_of_a_system_leaves_its_folder() {
        let names = [
            ("web-1.example_com", "web-1.example_com"),
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
            (".", "%2E"),
            ("..", "%2E."),
            ("a/b\n", "a%2Fb%0A"),
            ("host:", "host%3A"),
        ];
        for (name, expected) in names {
            assert_eq!(folder_name(name), expected);
        }
        let long = ["x".repeat(300), "x".repeat(299) + "y"].map(|name| folder_name(&name));
        assert!(long.iter().all(|name| name.len() < 255));
        assert_ne!(long[0], long[1]);
    }
}
