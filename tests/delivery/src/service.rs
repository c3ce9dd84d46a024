//! Runs the program. Its standard output is a file that no fault disturbs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use memchr::{memchr_iter, memmem};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded::{self as bounded, Port};
use serde_json::{Value, json};

use crate::metrics::Metrics;
use crate::receivers::tied;

/// The exit code for an output that cannot be written (`EX_IOERR`).
pub(crate) const CANNOT_WRITE: i32 = 74;
/// The output that no fault disturbs, as metrics name it.
pub(crate) const UNDISTURBED: &str = "standard output";
/// How long it may take to end, with all that waits for it.
const END: Duration = Duration::from_mins(1);
/// With the connections of the machine, how often each is recorded.
const SCAN_INTERVAL: &str = "20ms";

/// The program, and the folder with everything that it writes.
#[derive(Debug)]
pub(crate) struct Service {
    program: PathBuf,
    pub(crate) folder: PathBuf,
    child: Option<Child>,
    /// What it has written to standard output, by start.
    truth: Vec<Truth>,
    /// The port of its metrics.
    port: Port,
    /// How many records the runs that are over have counted as dropped, by output.
    dropped: HashMap<String, usize>,
}

/// What the program has written to standard output.
#[derive(Debug)]
struct Truth {
    path: PathBuf,
    file: File,
    /// Number of whole lines.
    count: u64,
    /// The end of what was read.
    last: Vec<u8>,
}

impl Service {
    /// Prepares a service with these entries of `output.telemetry`.
    pub(crate) fn new(
        program: &Path,
        folder: &Path,
        telemetry: &[Value],
        rotate_size: u64,
    ) -> io::Result<Self> {
        // A process may cause any number of events.
        let limits = json!({
            "processes": 512, "threads": 1024, "file_descriptors": 4096, "vmas": 8192,
            "connections": 512, "containers": 64, "events_per_second": 1_000_000,
        });
        let status = json!({ "enabled": true, "period": "1ms" });
        let events = json!({ "tcp_network_connection_status": status });
        let port = Port::reserve()?;
        let configuration = json!({
            "service": { "scan_interval": SCAN_INTERVAL, "state_dir": folder.join("state") },
            "auto_scan": false,
            "default": { "file_format": "raw", "limits": limits, "events": events },
            "systems": { "machine": { "system": format!("file:{}", machine(folder).display()) } },
            "output": {
                "stdout": true, "preset": "everything", "log_folder": logs(folder),
                "rotate_size": rotate_size, "max_files": 1000, "telemetry": telemetry,
                "metrics": { "address": format!("127.0.0.1:{}", port.number()) },
            },
        });
        fs::write(folder.join("panoptes.json"), configuration.to_string())?;
        let (program, folder) = (program.to_owned(), folder.to_owned());
        let (truth, dropped) = (Vec::new(), HashMap::new());
        Ok(Self { program, folder, child: None, truth, port, dropped })
    }

    pub(crate) fn start(&mut self) -> io::Result<()> {
        let path = self.folder.join(format!("truth-{}", self.truth.len()));
        let output = File::create_new(&path)?;
        self.truth.push(Truth { file: File::open(&path)?, path, count: 0, last: Vec::new() });
        self.child = Some(self.command()?.stdout(output).spawn()?);
        Ok(())
    }

    fn command(&self) -> io::Result<Command> {
        let messages = self.folder.join("messages");
        let messages = File::options().create(true).append(true).open(messages)?;
        let mut command = tied(&self.program);
        command.arg("run").arg("--config").arg(self.folder.join("panoptes.json"));
        command.stdin(Stdio::null()).stderr(messages);
        Ok(command)
    }

    /// Runs a second one with the same configuration until it ends.
    pub(crate) fn run_another(&self) -> io::Result<ExitStatus> {
        wait(&mut self.command()?.stdout(Stdio::null()).spawn()?)
    }

    /// Whether its messages have this text.
    pub(crate) fn has_said(&self, text: &str) -> bool {
        fs::read_to_string(self.folder.join("messages")).is_ok_and(|said| said.contains(text))
    }

    /// Its last messages, for a report about a failure.
    pub(crate) fn messages(&self) -> String {
        let text = fs::read_to_string(self.folder.join("messages")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Its metrics now.
    pub(crate) fn metrics(&self) -> io::Result<Metrics> {
        Metrics::ask(self.port.number())
    }

    /// Kills it; returns its metrics just before.
    pub(crate) fn kill(&mut self) -> io::Result<Metrics> {
        let metrics = self.metrics()?;
        self.note_dropped(&metrics);
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            bounded::wait(&mut child)?;
        }
        Ok(metrics)
    }

    /// Asks it to end; it must end in good order, or for the records that it counts as dropped.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.note_dropped(&self.metrics()?);
        let Some(mut child) = self.child.take() else { return Ok(()) };
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
        let status = wait(&mut child)?;
        let has_dropped = self.dropped.values().any(|records| *records > 0);
        if status.success() || has_dropped && status.code() == Some(CANNOT_WRITE) {
            return Ok(());
        }
        Err(io::Error::other(format!("panoptes: {status}\n{}", self.messages())))
    }

    fn note_dropped(&mut self, metrics: &Metrics) {
        for (output, records) in metrics.dropped_by_output() {
            *self.dropped.entry(output).or_default() += records;
        }
    }

    /// How many records it has counted as dropped by this output, in all runs that are over.
    pub(crate) fn dropped(&self, output: &str) -> io::Result<usize> {
        let dropped = self.dropped.get(output).copied();
        dropped.ok_or_else(|| io::Error::other(format!("{output} has no metrics")))
    }

    /// How many records it has reported as dropped by this output (`records_dropped`).
    pub(crate) fn reported(&self, output: &str) -> io::Result<usize> {
        let mut sum = 0;
        for truth in &self.truth {
            sum += reported(BufReader::new(File::open(&truth.path)?), output)?;
        }
        Ok(sum)
    }

    /// How many records it has written.
    pub(crate) fn count(&mut self) -> io::Result<u64> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            let messages = self.messages();
            return Err(io::Error::other(format!("panoptes has ended: {status}\n{messages}")));
        }
        for truth in &mut self.truth {
            truth.read()?;
        }
        Ok(self.truth.iter().map(|truth| truth.count).sum())
    }

    /// The last record that it has written.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        self.truth.iter().rev().find_map(|truth| last_line(&truth.last))
    }

    pub(crate) fn truth(&self) -> Vec<PathBuf> {
        self.truth.iter().map(|truth| truth.path.clone()).collect()
    }

    pub(crate) fn logs(&self) -> PathBuf {
        logs(&self.folder)
    }

    /// The event log, as Panoptes names it in its metrics.
    pub(crate) fn event_log(&self) -> String {
        self.logs().join("events.jsonl").display().to_string()
    }

    pub(crate) fn machine(&self) -> PathBuf {
        machine(&self.folder)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // After an error.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = bounded::wait(child);
        }
    }
}

impl Truth {
    /// Counts what is new.
    fn read(&mut self) -> io::Result<()> {
        const ENOUGH: usize = 64 << 10;
        let mut new = Vec::new();
        self.file.read_to_end(&mut new)?;
        self.count += memchr_iter(b'\n', &new).count() as u64;
        self.last.extend(&new[new.len().saturating_sub(ENOUGH)..]);
        self.last.drain(..self.last.len().saturating_sub(ENOUGH));
        Ok(())
    }
}

/// The last whole line.
fn last_line(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().rposition(|byte| *byte == b'\n')?;
    text[..end].split(|byte| *byte == b'\n').next_back()
}

/// The sum of the `records_dropped` of this output in these lines.
fn reported(lines: impl BufRead, output: &str) -> io::Result<usize> {
    let mut sum = 0;
    for line in lines.split(b'\n') {
        let line = line?;
        if memmem::find(&line, b"\"records_dropped\"").is_none() {
            continue;
        }
        let record: Value = serde_json::from_slice(&line)?;
        let details = &record["activity_data"]["system_activity_details"];
        let reason = details["reason"].as_str().unwrap_or_default();
        // Lines that were removed from the end of a file are reported in the same way.
        if details["output"] == output && !reason.starts_with("broken lines") {
            sum += details["dropped"].as_u64().unwrap_or(0);
        }
    }
    usize::try_from(sum).map_err(io::Error::other)
}

fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begin.elapsed() > END {
            child.kill()?;
        }
        sleep(Duration::from_millis(5));
    }
}

fn logs(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn machine(folder: &Path) -> PathBuf {
    folder.join("machine.mem")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_output_has_dropped_is_added_up() {
        let line = |name: &str, output: &str, reason: &str, dropped: u64| {
            let details = json!({ "output": output, "reason": reason, "dropped": dropped });
            let data = json!({ "name": name, "system_activity_details": details });
            json!({ "activity_data": data }).to_string() + "\n"
        };
        let text = [
            line("records_dropped", "log", "it is late", 3),
            line("records_dropped", "receiver", "it is late", 100),
            line("records_dropped", "log", "broken lines at the end of the file were removed", 1),
            line("configuration_reloaded", "log", "", 1000),
            line("records_dropped", "log", "it is late", 7),
        ];
        assert_eq!(reported(text.concat().as_bytes(), "log").ok(), Some(10));
    }
}
