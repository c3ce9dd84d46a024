//! An event log for each system, beside the common one (`output.log_per_system`): a system that
//! writes much rotates only its own.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use panoptes_records::filter::Filter;
use panoptes_records::queue::Waker;
use panoptes_sinks::output::file::FileOptions;
use panoptes_sinks::output::{Output, OutputCounters};
use panoptes_sinks::writer::OutputChange;

use super::outputs::{ConfiguredOutput, LogFolder, WatchedOutput, options};
use super::signals;
use super::threads::{EndedTask, OtherCores, TaskId, Urgency, Workers};
use crate::config::Configuration;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::sandbox::keep_those_of_outputs;

/// The folder of these logs, in the folder of all logs.
const FOLDER: &str = "systems";
/// The maximum length of a folder's name, in bytes. The kernel's is 255 (`NAME_MAX`).
const LOG_NAME_BYTES_MAX: usize = 200;

/// How soon a log that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long a log that is being opened is waited for: it is to have the first records of its
/// system.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same while the disk of another log does not answer: it may be the same disk.
const LESS_PATIENCE: Duration = Duration::from_millis(50);
/// Maximum number of threads that open logs at once.
const LOG_OPENER_THREADS_MAX: usize = 4;

/// A log that was opened, or why it was not.
type SystemLogResult = Result<(Box<dyn Output>, WatchedOutput), Failure>;

/// The threads that open logs.
pub(super) type Openers = Workers<SystemLogResult>;

/// Threads that open logs.
pub(super) fn openers(cores: OtherCores, waker: signals::Waker) -> Openers {
    Workers::new("logs", LOG_OPENER_THREADS_MAX, cores, waker)
}

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
    fn wanted(&self, system: &str, number: u32) -> ConfiguredOutput {
        let path = self.folder.path.join(FOLDER).join(folder_name(system)).join(self.name);
        let filter = Filter { system: Some(number), ..self.options.filter };
        let options = FileOptions { filter, ..self.options };
        ConfiguredOutput::file(path, options, Some(Arc::clone(&self.folder.lock)))
    }
}

/// A log that is open.
#[derive(Debug)]
struct OpenSystemLog {
    number: u32,
    counters: Weak<OutputCounters>,
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
    /// Log of each system, by the system's name; `None` if the log could not be opened.
    numbers: HashMap<String, Option<OpenSystemLog>>,
    next: u32,
    openers: Openers,
    /// The system and the number of each log that is being opened and not waited for any more.
    late: BTreeMap<TaskId, (String, u32)>,
    /// Whether logs were opened since the last call of [`Self::retry`].
    has_new: bool,
    /// Logs that were opened since the last call of [`Self::opened`].
    opened: Vec<WatchedOutput>,
    /// Logs that are being ended, of systems that are gone, by the system's name.
    ending: HashMap<String, Weak<OutputCounters>>,
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
        openers: Openers,
        messages: &Arc<Messages>,
    ) -> Self {
        let (numbers, opened, ending) = (HashMap::new(), Vec::new(), HashMap::new());
        Self {
            place,
            changes,
            waker,
            messages: Arc::clone(messages),
            numbers,
            next: 0,
            openers,
            late: BTreeMap::new(),
            has_new: false,
            opened,
            ending,
            retry_at: None,
            failures: Vec::new(),
        }
    }

    /// Has the logs at another place, or keeps them otherwise, from now on. Returns what becomes of
    /// those that are open; without a place, they have ended.
    pub(super) fn set_place(&mut self, place: Option<LogPlace>) -> Vec<ConfiguredOutput> {
        self.place = place;
        // Those that are being opened are at the old place, whose disk may never answer.
        self.late.clear();
        self.openers.leave_all_behind();
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
        self.open_by(system, number, move || {
            keep_those_of_outputs(&messages);
            wanted.open(&messages)
        })
    }

    /// Opens a system's log, which gets this number, on a thread. If its disk does not answer, it
    /// is added later.
    fn open_by(
        &mut self,
        system: &str,
        number: u32,
        open: impl FnOnce() -> SystemLogResult + Send + 'static,
    ) -> Option<u32> {
        let hangs = || Err(Failure::new(Exit::Output, "the disk does not answer"));
        // Two outputs would tear each other's lines.
        let is_late = self.late.values().any(|(late, _)| late == system);
        if is_late || !self.openers.has_room(Urgency::New) {
            return self.add(system, number, hangs());
        }
        let task = match self.openers.start(Urgency::New, |_| open()) {
            Ok(task) => task,
            Err(failure) => return self.add(system, number, Err(failure)),
        };
        let until = Instant::now() + if self.late.is_empty() { PATIENCE } else { LESS_PATIENCE };
        let opened = loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.openers.next_ended_within(left) {
                Some(ended) if ended.id == task => break opened_by(ended),
                Some(ended) => self.use_late(ended),
                None => {
                    self.late.insert(task, (system.to_owned(), number));
                    break hangs();
                }
            }
        };
        self.add(system, number, opened)
    }

    /// Adds a log that was opened too late, if its system is still there.
    fn use_late(&mut self, ended: EndedTask<SystemLogResult>) {
        // Without an entry, it is at an old place.
        let Some((system, number)) = self.late.remove(&ended.id) else { return };
        if let Some(None) = self.numbers.get(&system) {
            self.add(&system, number, opened_by(ended));
        }
    }

    /// Adds a system's log if it could be opened.
    fn add(&mut self, system: &str, number: u32, opened: SystemLogResult) -> Option<u32> {
        let log = match opened {
            Ok((output, watched)) => {
                let log = OpenSystemLog { number, counters: Arc::downgrade(&watched.counters) };
                self.opened.push(watched);
                self.has_new = true;
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

    /// Adds logs that were opened too late, and tries to open others again that could not be
    /// opened, when they are due. Returns whether logs were opened since the last call: systems
    /// have other numbers.
    pub(super) fn retry(&mut self, now: Instant) -> bool {
        while let Some(ended) = self.openers.next_ended() {
            self.use_late(ended);
        }
        if self.retry_at.take_if(|at| now >= *at).is_some() {
            let failed = self.numbers.iter().filter(|(_, log)| log.is_none());
            let failed: Vec<_> = failed.map(|(system, _)| system.clone()).collect();
            for system in failed {
                // While another one was opened, a late one may have come.
                if let Some(None) = self.numbers.get(&system) {
                    self.open(&system);
                }
            }
        }
        std::mem::take(&mut self.has_new)
    }

    /// Why logs could not be opened, since the last call.
    pub(super) fn failures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failures)
    }

    /// Ends the log of a system that is gone. If the system comes back, the log continues.
    pub(super) fn close(&mut self, system: &str) {
        self.ending.retain(|_, log| log.strong_count() > 0);
        if let Some(Some(OpenSystemLog { number, counters })) = self.numbers.remove(system) {
            self.ending.insert(system.to_owned(), counters);
            let _ = self.changes.send(OutputChange::End(number));
        }
    }

    /// Notes that a log is another output now.
    pub(super) fn renew(&mut self, output: &WatchedOutput) {
        let number = output.recipe.filter().system;
        let mut open = self.numbers.values_mut().flatten();
        if let Some(log) = open.find(|log| Some(log.number) == number) {
            log.counters = Arc::downgrade(&output.counters);
        }
    }

    /// The logs that were opened since the last call.
    pub(super) fn opened(&mut self) -> Vec<WatchedOutput> {
        std::mem::take(&mut self.opened)
    }
}

/// The log that a task has opened.
fn opened_by(ended: EndedTask<SystemLogResult>) -> SystemLogResult {
    let panicked = |_| Err(Failure::new(Exit::Failed, "it panicked while it was opened"));
    ended.result.unwrap_or_else(panicked)
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
    if name.len() > LOG_NAME_BYTES_MAX {
        let mut hasher = DefaultHasher::new();
        system.hash(&mut hasher);
        name.truncate(LOG_NAME_BYTES_MAX);
        let _ = write!(name, "-{:016x}", hasher.finish());
    }
    name
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel};

    use panoptes_sinks::output::folder::FolderLock;
    use tempfile::TempDir;

    use super::*;
    use crate::config::LogLevel;
    use crate::watch::signals::Signals;

    /// Logs in a new folder, with the other end of their changes.
    fn logs() -> (TempDir, SystemLogs, Receiver<OutputChange>) {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path());
        let messages = Arc::new(Messages::on_stderr(LogLevel::Disable));
        let (changes, changed) = channel();
        let waker = Signals::take().expect("signals").waker();
        let openers = openers(OtherCores::without(&[]), waker);
        let changes = (changes, Waker::default());
        (folder, SystemLogs::new(Some(place), changes, openers, &messages), changed)
    }

    fn place(path: &Path) -> LogPlace {
        let lock = FolderLock::take(path).expect("a lock");
        let folder = LogFolder { path: path.to_owned(), lock };
        LogPlace { folder, name: "events.jsonl", options: FileOptions::default() }
    }

    /// Has a log opened on a disk that answers when what is returned is dropped; `opened` is the
    /// log then.
    fn open_late(
        logs: &mut SystemLogs,
        (system, number): (&str, u32),
        opened: impl FnOnce() -> SystemLogResult + Send + 'static,
    ) -> Sender<()> {
        let (answer, answered) = channel::<()>();
        let hang = move || {
            let _ = panoptes_bounded::recv(&answered);
            opened()
        };
        assert_eq!(logs.open_by(system, number, hang), None);
        answer
    }

    fn full() -> SystemLogResult {
        Err(Failure::new(Exit::Output, "it is full"))
    }

    /// Waits until logs that were opened too late have ended.
    #[track_caller]
    fn wait_for_late(logs: &mut SystemLogs) -> bool {
        let begin = Instant::now();
        let mut has_new = false;
        while !logs.late.is_empty() {
            assert!(begin.elapsed() < Duration::from_mins(1), "{:?}", logs.late);
            has_new |= logs.retry(begin);
            std::thread::sleep(Duration::from_millis(1));
        }
        has_new
    }

    /// Maximum time for what is usually some milliseconds; disks that hang in a test do so longer.
    const SOON: Duration = Duration::from_secs(30);

    /// Waits until a log is open, on a machine that may have much to do; returns its number.
    #[track_caller]
    fn wait_for_log(logs: &mut SystemLogs, system: &str) -> u32 {
        let begin = Instant::now();
        loop {
            if let Some(number) = logs.number_of(system) {
                return number;
            }
            assert!(begin.elapsed() < SOON, "{:?}", logs.failures());
            logs.retry(Instant::now());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_disk_that_does_not_answer_delays_no_log_on_another_one() {
        let (_folder, mut logs, changed) = logs();
        let begin = Instant::now();
        let answer = open_late(&mut logs, ("a", 98), full);
        assert!(begin.elapsed() >= PATIENCE);
        // Its system is gone, and nothing of it comes later.
        logs.close("a");
        assert_eq!(
            logs.failures(),
            ["a has no log of its own until now: the disk does not answer"]
        );
        wait_for_log(&mut logs, "b");
        assert!(matches!(changed.try_recv(), Ok(OutputChange::Add(..))));
        logs.failures();
        // The system is there again, and two outputs would write to its file.
        assert_eq!(logs.number_of("a"), None);
        drop(answer);
        wait_for_late(&mut logs);
        assert!(changed.try_recv().is_err());
        assert_eq!((logs.number_of("a"), logs.failures().len()), (None, 1));
        logs.retry(Instant::now() + RETRY);
        wait_for_log(&mut logs, "a");
        assert!(matches!(changed.try_recv(), Ok(OutputChange::Add(..))));
        assert_eq!((logs.opened().len(), logs.failures().len()), (2, 0));
    }

    #[test]
    fn disks_that_do_not_answer_delay_the_next_log_for_a_moment() {
        let (_folder, mut logs, changed) = logs();
        let names: Vec<String> =
            (0..LOG_OPENER_THREADS_MAX).map(|number| number.to_string()).collect();
        let number = |name: &str| name.parse().expect("a number");
        let begin = Instant::now();
        let open = |name: &String| open_late(&mut logs, (name, number(name)), full);
        let answers: Vec<_> = names.iter().map(open).collect();
        assert!(begin.elapsed() < PATIENCE * 3, "{:?}", begin.elapsed());
        // All threads wait.
        let begin = Instant::now();
        assert_eq!(logs.number_of("b"), None);
        assert!(begin.elapsed() < PATIENCE);
        assert_eq!(logs.failures().len(), LOG_OPENER_THREADS_MAX + 1);
        // It is tried again, and is not reported twice.
        assert!(!logs.retry(Instant::now() + RETRY));
        assert_eq!((logs.number_of("b"), logs.failures().len()), (None, 0));
        drop(answers);
        assert!(!wait_for_late(&mut logs));
        assert!(changed.try_recv().is_err());
        logs.retry(Instant::now() + RETRY);
        wait_for_log(&mut logs, "b");
    }

    #[test]
    fn a_log_that_was_opened_too_late_is_used_unless_its_system_is_gone() {
        for is_gone in [false, true] {
            let (folder, mut logs, changed) = logs();
            let wanted = logs.place.as_ref().expect("a place").wanted("a", 7);
            let messages = Arc::clone(&logs.messages);
            let answer = open_late(&mut logs, ("a", 7), move || wanted.open(&messages));
            assert_eq!(logs.number_of("a"), None);
            if is_gone {
                logs.close("a");
            }
            drop(answer);
            assert_eq!(wait_for_late(&mut logs), !is_gone);
            let has_added = matches!(changed.try_recv(), Ok(OutputChange::Add(..)));
            assert_eq!(has_added, !is_gone);
            assert_eq!(logs.opened().len(), usize::from(!is_gone));
            if !is_gone {
                assert_eq!(logs.number_of("a"), Some(7));
            }
            drop(folder);
        }
    }

    #[test]
    fn another_place_is_used_although_the_old_disk_does_not_answer() {
        let (_folder, mut logs, changed) = logs();
        let open = |name: &str| open_late(&mut logs, (name, 90), full);
        let _answers = ["a", "b", "c", "d"].map(open);
        let other = tempfile::tempdir().expect("a folder");
        assert_eq!(logs.set_place(Some(place(other.path()))).len(), 0);
        wait_for_log(&mut logs, "a");
        assert!(matches!(changed.try_recv(), Ok(OutputChange::Add(..))));
        assert!(other.path().join("systems/a/events.jsonl").exists());
    }

    #[test]
    fn a_panic_is_why_a_log_was_not_opened() {
        let (_folder, mut logs, _changed) = logs();
        logs.openers.start(Urgency::New, |_| panic!("it is a test")).expect("a thread");
        // To print a panic may take longer than logs are waited for.
        let ended = logs.openers.next_ended_within(SOON).expect("an end");
        assert_eq!(logs.add("a", 7, opened_by(ended)), None);
        let failures = ["a has no log of its own until now: it panicked while it was opened"];
        assert_eq!(logs.failures(), failures);
        logs.retry(Instant::now() + RETRY);
        wait_for_log(&mut logs, "a");
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
