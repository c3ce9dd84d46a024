//! Runs the program. Its standard output is a file that no fault disturbs.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use memchr::memchr_iter;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::receivers::tied;

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
        let configuration = json!({
            "service": { "scan_interval": SCAN_INTERVAL, "state_dir": folder.join("state") },
            "auto_scan": false,
            "default": { "file_format": "raw", "limits": limits, "events": events },
            "systems": { "machine": { "system": format!("file:{}", machine(folder).display()) } },
            "output": {
                "stdout": true, "preset": "everything", "log_folder": logs(folder),
                "rotate_size": rotate_size, "max_files": 1000, "telemetry": telemetry,
            },
        });
        fs::write(folder.join("panoptes.json"), configuration.to_string())?;
        let (program, folder) = (program.to_owned(), folder.to_owned());
        Ok(Self { program, folder, child: None, truth: Vec::new() })
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

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// Asks it to end; it must end in good order.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
        let status = wait(&mut child)?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("panoptes: {status}\n{}", self.messages())))
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

    pub(crate) fn machine(&self) -> PathBuf {
        machine(&self.folder)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // After an error.
        let _ = self.kill();
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
pub(crate) fn last_line(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().rposition(|byte| *byte == b'\n')?;
    text[..end].split(|byte| *byte == b'\n').next_back()
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
