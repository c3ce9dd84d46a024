//! Runs `panoptes watch` and collects its records and messages.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded as bounded;
use panoptes_rig::{Guest, tied};
use tempfile::TempDir;

use crate::record::{Record, list};

/// Maximum time for any step, on a host that is busy with other work.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// Maximum time for the watcher to find a kernel, at first or again. It pauses for up to 10 s
/// between attempts.
pub(crate) const PATIENCE_TO_FIND: Duration = Duration::from_mins(3);
/// Time between two checks of a condition.
pub(crate) const ASK: Duration = Duration::from_millis(100);
/// How many of the last records are shown when a wait fails.
const SHOWN: usize = 12;

/// Runs the program to its end.
pub(crate) fn panoptes(arguments: &[&str]) -> std::process::Output {
    bounded::output_within(
        Command::new(env!("CARGO_BIN_EXE_panoptes")).args(arguments).stdin(Stdio::null()),
        bounded::LONG,
    )
    .expect("the program starts")
}

/// The settings of a watcher.
#[derive(Debug)]
pub(crate) struct Watch {
    systems: Vec<PathBuf>,
    /// How many systems will be found.
    expected: usize,
    options: Vec<String>,
    to_stdout: bool,
    to_log: bool,
    lines_read_max: usize,
}

impl Watch {
    /// At 10 ms, with records to standard output.
    pub(crate) fn of(guest: &Guest) -> Self {
        Self::files(&[guest.ram_path()])
    }

    pub(crate) fn files(systems: &[&Path]) -> Self {
        let systems: Vec<PathBuf> = systems.iter().map(|path| path.to_path_buf()).collect();
        let expected = systems.len();
        let (options, lines_read_max) = (vec!["--interval=10ms".to_owned()], usize::MAX);
        Self { systems, expected, options, to_stdout: true, to_log: false, lines_read_max }
    }

    /// A guest by QEMU's process id.
    pub(crate) fn process(guest: &Guest) -> Self {
        Self::files(&[Path::new(&format!("qemu:{}", guest.qemu_pid()))])
    }

    /// The systems that a configuration names, or that `auto_scan` finds.
    pub(crate) fn configured(configuration: &Path, expected: usize) -> Self {
        let watch = Self::files(&[]).with(&format!("--config={}", configuration.display()));
        Self { expected, ..watch }
    }

    /// One more option of the command line.
    pub(crate) fn with(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// At another interval.
    pub(crate) fn every(mut self, interval: &str) -> Self {
        self.options[0] = format!("--interval={interval}");
        self
    }

    /// One key of the configuration.
    pub(crate) fn set(self, setting: &str) -> Self {
        self.with(&format!("--set={setting}"))
    }

    /// Records to a log folder as well.
    pub(crate) fn with_log(mut self) -> Self {
        self.to_log = true;
        self
    }

    /// Records to a log folder only: nothing is read, and nothing is parsed, while it runs.
    pub(crate) fn log_only(mut self) -> Self {
        (self.to_log, self.to_stdout) = (true, false);
        self
    }

    /// Reads this many records, then closes standard output.
    pub(crate) fn closing_after(mut self, lines: usize) -> Self {
        self.lines_read_max = lines;
        self
    }

    pub(crate) fn start(self) -> Watcher {
        let folder = tempfile::tempdir().unwrap();
        let mut command = tied(env!("CARGO_BIN_EXE_panoptes"));
        command.arg("watch").args(&self.systems).args(&self.options);
        command.arg(format!("--set=service.state_dir={}", folder.path().join("state").display()));
        command.arg(format!("--set=output.stdout={}", self.to_stdout));
        if self.to_log {
            command.arg("--log-folder").arg(folder.path().join("log"));
        }
        let streams = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().expect("the program starts");
        let heard = Arc::new(Heard::default());
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let lines_read_max = self.lines_read_max;
        let (records, words) = (Arc::clone(&heard), Arc::clone(&heard));
        let readers = vec![
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().take(lines_read_max) {
                    let Ok(line) = line else { break };
                    records.add(|all| all.records.push(Record::parse(&line)));
                }
            }),
            std::thread::spawn(move || {
                for line in BufReader::new(err).lines() {
                    let Ok(line) = line else { break };
                    words.add(|all| all.said.push(line));
                }
            }),
        ];
        Watcher { child, heard, readers, folder, systems: self.expected }
    }

    /// Starts, and waits until every system is being watched.
    pub(crate) fn attached(self) -> Watcher {
        let watcher = self.start();
        let systems = watcher.systems;
        watcher.wait_to_find("every system is watched", |all| {
            let attached = all.said.iter().filter(|line| line.contains(" is being watched, found"));
            (attached.count() == systems).then_some(())
        });
        watcher
    }
}

/// The output so far.
#[derive(Debug, Default)]
pub(crate) struct All {
    /// The records on standard output.
    pub(crate) records: Vec<Record>,
    /// The messages on standard error.
    pub(crate) said: Vec<String>,
}

#[derive(Debug, Default)]
struct Heard {
    all: Mutex<All>,
    more: Condvar,
}

impl Heard {
    fn add(&self, add: impl FnOnce(&mut All)) {
        add(&mut self.all.lock().unwrap());
        self.more.notify_all();
    }
}

/// A running `panoptes watch`; killed on drop.
#[derive(Debug)]
pub(crate) struct Watcher {
    child: Child,
    heard: Arc<Heard>,
    readers: Vec<JoinHandle<()>>,
    folder: TempDir,
    systems: usize,
}

/// The exit code and all output of a watcher that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// The records on standard output or, without those, in the log.
    pub(crate) records: Vec<Record>,
    /// The messages on standard error.
    pub(crate) said: Vec<String>,
    /// The files of its event log, oldest first, as text.
    pub(crate) log: Vec<String>,
}

impl Watcher {
    /// Waits until `found` returns a value.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, found: impl FnMut(&All) -> Option<T>) -> T {
        self.wait_within(PATIENCE, what, found)
    }

    /// The same for a fact that requires the watcher to find a kernel.
    #[track_caller]
    pub(crate) fn wait_to_find<T>(&self, what: &str, found: impl FnMut(&All) -> Option<T>) -> T {
        self.wait_within(PATIENCE_TO_FIND, what, found)
    }

    #[track_caller]
    fn wait_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut found: impl FnMut(&All) -> Option<T>,
    ) -> T {
        let begin = Instant::now();
        let mut all = self.heard.all.lock().unwrap();
        loop {
            if let Some(found) = found(&all) {
                return found;
            }
            let left = patience.saturating_sub(begin.elapsed());
            assert!(!left.is_zero(), "never came: {what}; {}", last(&all));
            all = self.heard.more.wait_timeout(all, left).unwrap().0;
        }
    }

    /// Waits for a record and returns it.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, matches: impl Fn(&Record) -> bool) -> Record {
        self.wait_for_since(0, what, matches)
    }

    /// Waits for a record after the first `seen` ones ([`Self::seen`]), and returns it.
    #[track_caller]
    pub(crate) fn wait_for_since(
        &self,
        seen: usize,
        what: &str,
        matches: impl Fn(&Record) -> bool,
    ) -> Record {
        let mut seen = seen;
        self.wait(what, |all| {
            let found = all.records[seen..].iter().find(|record| matches(record)).cloned();
            seen = all.records.len();
            found
        })
    }

    /// Reads the output so far, without waiting.
    pub(crate) fn look<T>(&self, take: impl FnOnce(&All) -> T) -> T {
        take(&self.heard.all.lock().unwrap())
    }

    /// The number of records so far.
    pub(crate) fn seen(&self) -> usize {
        self.look(|all| all.records.len())
    }

    /// The records so far.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.look(|all| all.records.clone())
    }

    /// Makes the watcher read the configuration again, and waits until it has.
    #[track_caller]
    pub(crate) fn reload(&self) {
        const DONE: &str = "the SBOMs were read again";
        let count = |all: &All| all.said.iter().filter(|line| line.contains(DONE)).count();
        let before = self.look(count);
        kill(self.pid(), Signal::SIGHUP).unwrap();
        self.wait(DONE, |all| (count(all) > before).then_some(()));
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Stops the watcher, and waits until it has ended.
    pub(crate) fn stop(self) -> Ended {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        self.ended()
    }

    /// Waits until the watcher ends.
    pub(crate) fn ended(mut self) -> Ended {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end; {}", self.last());
            std::thread::sleep(Duration::from_millis(10));
        };
        for reader in self.readers.drain(..) {
            bounded::join(reader).unwrap();
        }
        let all = std::mem::take(&mut *self.heard.all.lock().unwrap());
        let log = log_files(&self.folder.path().join("log"));
        let mut records = all.records;
        if records.is_empty() {
            records = log.iter().flat_map(|text| text.lines()).map(Record::parse).collect();
        }
        Ended { code: status.code(), records, said: all.said, log }
    }

    /// The last messages and records, for the message of an assertion.
    pub(crate) fn last(&self) -> String {
        self.look(last)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = bounded::wait(&mut self.child);
    }
}

fn last(all: &All) -> String {
    let records = &all.records[all.records.len().saturating_sub(SHOWN)..];
    let said = &all.said[all.said.len().saturating_sub(SHOWN)..];
    format!(
        "it said:\n    {}\nof {} records the last:{}",
        said.join("\n    "),
        all.records.len(),
        list(records)
    )
}

/// The event log's files, oldest first: `events.jsonl.2`, `events.jsonl.1`, `events.jsonl`.
fn log_files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<(u32, PathBuf)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("/events.jsonl"))
        .map(|path| {
            let age = path.extension().and_then(|extension| extension.to_str()?.parse().ok());
            (age.unwrap_or(0), path)
        })
        .collect();
    files.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    files.iter().map(|(_, path)| std::fs::read_to_string(path).unwrap()).collect()
}
