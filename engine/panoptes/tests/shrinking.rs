//! Memory goes away while the service scans it: the kernel raises SIGBUS in a scanner, whose system
//! calls are filtered.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod recorded;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded as bounded;
use serde_json::Value;
use tempfile::TempDir;

use recorded::write_machine;

/// Maximum time to wait for what must happen.
const PATIENCE: Duration = Duration::from_mins(2);
/// The size of a memory file after it has shrunk, and whether it has its old size again at once:
/// then pages are gone that the scanner knows to be there.
const ROUNDS: [(u64, bool); 4] = [(0, false), (0, true), (64 << 20, true), (64 << 20, false)];

/// A service that watches two machines; a receiver gets its records.
struct Service {
    folder: TempDir,
    child: Child,
    received: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// `None` without xz.
    fn start() -> Option<Self> {
        // Like the memory of a guest. On a disk, pages that are gone read as zeros.
        let in_memory = Path::new("/dev/shm");
        let folder = if in_memory.is_dir() { in_memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(folder).unwrap();
        if !write_machine(&["a", "b"].map(|name| folder.path().join(name))) {
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let text = format!(
            "auto_scan: false\n\
             service: {{state_dir: state, scan_interval: 1ms}}\n\
             output:\n  \
               stdout: false\n  \
               log_folder: log\n  \
               telemetry: [{{address: '{}'}}]\n\
             default: {{limits: {{processes: 512, vmas: 16384, file_descriptors: 8192}}}}\n\
             systems:\n  \
               a: {{system: a, file_format: raw}}\n  \
               b: {{system: b, file_format: raw}}\n",
            listener.local_addr().unwrap()
        );
        fs::write(folder.path().join("p.yaml"), text).unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&received);
        thread::spawn(move || {
            let stream = bounded::accept_within(&listener, PATIENCE).unwrap();
            for line in BufReader::new(stream).lines() {
                keeps.lock().unwrap_or_else(PoisonError::into_inner).push(line.unwrap());
            }
        });
        let said = File::create(folder.path().join("said")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_panoptes"))
            .args(["run", "--config", "p.yaml"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        Some(Self { folder, child, received })
    }

    /// The records in the log.
    fn logged(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("log/events.jsonl"));
        let log = log.unwrap_or_default();
        // The last line may be on its way.
        let lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        lines.map(str::to_owned).collect()
    }

    /// The records at the receiver.
    fn received(&self) -> Vec<String> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until both the log and the receiver have so many records of an activity; returns the
    /// last one.
    #[track_caller]
    fn wait(&self, activity: &str, count: usize) -> Value {
        let begin = Instant::now();
        loop {
            let mut logged = of(activity, &self.logged());
            if logged.len() >= count && of(activity, &self.received()).len() >= count {
                return logged.remove(count - 1);
            }
            assert!(begin.elapsed() < PATIENCE, "{activity} {count}: {}", self.said());
            sleep(Duration::from_millis(10));
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = bounded::wait(&mut self.child);
    }
}

/// The records of an activity.
fn of(activity: &str, lines: &[String]) -> Vec<Value> {
    let records = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["activity_data"]["name"] == activity).collect()
}

/// The system that a record is about.
fn system(record: &Value) -> &str {
    record["workload_information"]["unique_identifier"].as_str().unwrap_or("")
}

#[test]
fn memory_that_goes_away_is_reported_and_watched_again_when_it_is_back() {
    let Some(mut service) = Service::start() else { return };
    let found = "host_initialization_successful";
    service.wait(found, 2);
    let both = of(found, &service.logged());
    let names: BTreeSet<&str> = both.iter().map(system).collect();
    assert_eq!(names.len(), 2, "{}", service.said());
    let file = service.folder.path().join("a");
    let mut shrunk = None;
    for (round, (bytes, grows)) in ROUNDS.into_iter().enumerate() {
        let memory = File::options().write(true).open(&file).unwrap();
        let before = memory.metadata().unwrap().len();
        memory.set_len(bytes).unwrap();
        if grows {
            memory.set_len(before).unwrap();
        }
        let failure = service.wait("details_gathering_failed", round + 1);
        assert_eq!(system(&failure), shrunk.get_or_insert(system(&failure).to_owned()));
        let new = service.folder.path().join("new");
        assert!(write_machine(std::slice::from_ref(&new)));
        fs::rename(new, &file).unwrap();
        let again = service.wait(found, 2 + round + 1);
        assert_eq!(Some(system(&again)), shrunk.as_deref(), "the other one was watched all along");
    }
    kill(Pid::from_raw(service.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(bounded::wait(&mut service.child).unwrap().code(), Some(0), "{}", service.said());
    service.wait("service_gracefully_shutdown", 1);
    for wrong in ["service_runtime_failure", "records_dropped"] {
        assert_eq!(of(wrong, &service.logged()), [] as [Value; 0]);
    }
    assert_eq!(service.logged(), service.received());
}
