//! Runs the program: its configuration, its threads' times, its end.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded as bounded;
use serde_json::{Map, Value, json};

use crate::quiet;

/// The beginning of the names of the scanners' threads.
const SCANNER: &str = "panoptes-scan";
/// What it records last.
const LAST_RECORD: &str = "service_gracefully_shutdown";
/// How long it may take to end.
const END: Duration = Duration::from_secs(30);

/// Systems to watch, and the program's settings.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) program: &'a Path,
    /// For everything that a run writes.
    pub(crate) folder: &'a Path,
    /// Names and memory files of quiet systems.
    pub(crate) quiet: Vec<(&'a str, &'a Path)>,
    pub(crate) hostile: Option<(&'a str, &'a Path)>,
    /// The value of `service.cores`.
    pub(crate) cores: &'a str,
    pub(crate) sbom: &'a Path,
}

/// The running program.
#[derive(Debug)]
pub(crate) struct Watcher {
    child: Child,
    log: PathBuf,
    messages: PathBuf,
    counted: u64,
}

/// How long threads of the scanners ran and waited, since they began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ThreadTimes {
    pub(crate) ran_ns: u64,
    /// Time in which a thread could run, but no processor was free.
    pub(crate) waited_ns: u64,
}

impl Watcher {
    /// Starts the program; its log is in a new folder.
    pub(crate) fn start(setup: &Setup<'_>) -> io::Result<Self> {
        let folder = setup.folder.join("run");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let log = folder.join("log");
        let config = folder.join("panoptes.json");
        fs::write(&config, configuration(setup, &folder, &log).to_string())?;
        let counted = counted_bytes(setup.program, &config)?;
        let messages = folder.join("messages");
        let child = Command::new(setup.program)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&messages)?)
            .spawn()?;
        Ok(Self { child, log: log.join("events.jsonl"), messages, counted })
    }

    /// The event log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Its last messages, for a report about a failure.
    pub(crate) fn messages(&self) -> String {
        let text = fs::read_to_string(&self.messages).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Anonymous resident memory in bytes.
    pub(crate) fn anonymous_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    }

    /// The bytes that `panoptes check` counts for this configuration.
    pub(crate) fn counted_bytes(&self) -> u64 {
        self.counted
    }

    /// Its threads.
    pub(crate) fn threads(&self) -> Threads {
        Threads(self.child.id())
    }

    /// Asks the program to end; returns how long that took. Fails if its last record is missing.
    pub(crate) fn stop(mut self) -> io::Result<Stopped> {
        let (begin, requested) = (Instant::now(), SystemTime::now());
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > END {
                self.child.kill()?;
                bounded::wait(&mut self.child)?;
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let end = begin.elapsed();
        if !last_line(&self.log)?.contains(LAST_RECORD) {
            return Err(io::Error::other(format!("{LAST_RECORD} is not the last record")));
        }
        let written = fs::metadata(&self.log)?.modified()?;
        Ok(Stopped { last_record: written.duration_since(requested).unwrap_or_default(), end })
    }
}

/// The last line of a log; of a long line, the end.
fn last_line(log: &Path) -> io::Result<String> {
    const MOST: u64 = 64 << 10;
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    Ok(end.lines().last().unwrap_or_default().to_owned())
}

/// Times from the request to stop.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stopped {
    /// To the last record in the event log.
    pub(crate) last_record: Duration,
    /// To the end of the program, which frees its memory.
    pub(crate) end: Duration,
}

/// The threads of a program, by its process id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads(u32);

impl Threads {
    /// The times of each scanner thread, by its id.
    pub(crate) fn scanners(self) -> Vec<(u32, ThreadTimes)> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/task", self.0)) else {
            return Vec::new();
        };
        let times = |entry: fs::DirEntry| {
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            let id = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            name.starts_with(SCANNER).then_some((id, thread_times(&text)?))
        };
        entries.flatten().filter_map(times).collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // After an error; a program that has ended is not affected.
        let _ = self.child.kill();
        let _ = bounded::wait(&mut self.child);
    }
}

/// The times in `/proc/PID/task/TID/schedstat`: running, waiting for a processor, time slices.
fn thread_times(text: &str) -> Option<ThreadTimes> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(ThreadTimes { ran_ns: next()?, waited_ns: next()? })
}

/// What `panoptes check` counts for a configuration, without what a reload of SBOMs would need.
fn counted_bytes(program: &Path, config: &Path) -> io::Result<u64> {
    let output = bounded::output(Command::new(program).arg("check").arg("--json").arg(config))?;
    let value: Value = serde_json::from_slice(&output.stdout).map_err(io::Error::other)?;
    let of = |key: &str| value[key].as_u64();
    let bytes = of("memory_bytes").zip(of("memory_bytes_for_reload"));
    let (all, reload) = bytes.ok_or_else(|| io::Error::other(format!("no size: {value}")))?;
    Ok(all.saturating_sub(reload))
}

fn configuration(setup: &Setup<'_>, folder: &Path, log: &Path) -> Value {
    let limits: Map<String, Value> =
        quiet::LIMITS.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
    let file = |path: &Path| format!("file:{}", path.display());
    // The status of a connection in each scan shows when a system was scanned.
    let metronome = json!({ "enabled": true, "period": "1ms" });
    let mut systems = Map::new();
    for (name, path) in &setup.quiet {
        let events = json!({ "tcp_network_connection_status": metronome });
        let system = json!({ "system": file(path), "limits": limits, "events": events });
        systems.insert((*name).to_owned(), system);
    }
    if let Some((name, path)) = setup.hostile {
        systems.insert(name.to_owned(), json!({ "system": file(path) }));
    }
    json!({
        "service": { "cores": setup.cores, "state_dir": folder.join("state") },
        "auto_scan": false,
        "default": { "sbom": [setup.sbom], "file_format": "raw" },
        "systems": systems,
        "output": {
            "log_folder": log, "rotate_size": "4GiB", "max_files": 2, "sync": "never",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_thread_are_read() {
        let expected = ThreadTimes { ran_ns: 12_345, waited_ns: 678 };
        assert_eq!(thread_times("12345 678 9\n"), Some(expected));
        assert_eq!(thread_times("12345\n"), None);
        assert_eq!(thread_times(""), None);
    }
}
