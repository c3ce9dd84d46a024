//! The sensor under test: its options, its outputs and who reads them, its memory, its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use panoptes_bounded as bounded;

use super::network::RIGHT;
use super::quiet::FILTER;

/// Where clients connect, and where mirrored packets come.
pub(crate) const CLIENTS: u16 = 5610;
pub(crate) const MIRRORS: u16 = 4789;
/// Flows that are tracked at once: fewer than the senders make, so that the table is always full.
const FLOWS: &str = "50000";
/// How often what is waited for is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Files of a run, in its folder.
pub(crate) mod files {
    /// The records of the neighbour's flows, and all records of the sensor itself.
    pub(crate) const JUDGED: &str = "judged.json";
    /// The neighbour's flows in files that are moved, and made again by somebody else.
    pub(crate) const MOVED: &str = "moved.json";
    /// The same in a file that is copied and cut.
    pub(crate) const CUT: &str = "cut.json";
    /// All records, in a pipe whose reader stands still until the end.
    pub(crate) const HUNG: &str = "hung.fifo";
    /// All records, by a receiver that stands still, and continues before the end.
    pub(crate) const RECEIVED: &str = "received.json";
    pub(crate) const PASSIVE_DNS: &str = "passive_dns.json";
}

/// A program; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        let spawned = command.spawn();
        let program = command.get_program().display();
        spawned.map(Self).map_err(|error| format!("{program}: {error}"))
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal)
            .map_err(|error| format!("{signal}: {error}"))
    }

    /// Its memory now, and the most that it has had, in bytes (`proc_pid_status(5)`).
    pub(crate) fn memory(&self) -> Option<(u64, u64)> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let line = |name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
        };
        Some((line("VmRSS:")?, line("VmHWM:")?))
    }

    /// Its exit code, if it has ended; 128 and the number of a signal that has ended it.
    pub(crate) fn ended(&mut self) -> Result<Option<i32>, String> {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.0.try_wait().map_err(|error| error.to_string())?;
        Ok(status.map(|status| status.code().unwrap_or(128 + status.signal().unwrap_or(0))))
    }

    /// Waits for its end, for up to `most`. How long it took, and the exit code.
    pub(crate) fn wait(&mut self, most: Duration) -> Result<(Duration, i32), String> {
        let begin = Instant::now();
        loop {
            if let Some(code) = self.ended()? {
                return Ok((begin.elapsed(), code));
            }
            if begin.elapsed() > most {
                return Err(format!("a program has not ended in {most:?}"));
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = bounded::wait(&mut self.0);
    }
}

/// The sensor, and the readers of two of its outputs.
#[derive(Debug)]
pub(crate) struct Sensor {
    pub(crate) running: Running,
    /// Reads [`files::HUNG`].
    pub(crate) hung: Running,
    /// Reads standard output.
    pub(crate) receiver: Running,
    messages: PathBuf,
}

impl Sensor {
    /// Starts the sensor in an empty folder; returns when it receives packets.
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self, String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
        let path = |name: &str| folder.join(name);
        let json = |name: &str| format!("json:{}", path(name).display());
        mkfifo(&path(files::HUNG), Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|error| format!("a pipe with a name: {error}"))?;
        let mut cat = Command::new("cat");
        cat.stdin(Stdio::null()).stdout(Stdio::null());
        let hung = Running::start(cat.arg(path(files::HUNG)))?;
        let (reader, writer) = std::io::pipe().map_err(wrong)?;
        let received = File::create(path(files::RECEIVED)).map_err(wrong)?;
        let receiver = Running::start(Command::new("cat").stdin(reader).stdout(received))?;
        let messages = path("messages");
        let mut command = Command::new(program);
        command.args(["flow", "-X", "-A", "-S", "1", "-M", "1", "--flows", FLOWS]);
        command.args(["--application", "all", "-i", RIGHT[0], "-i", RIGHT[1], "-i"]);
        command.arg(format!("vxlan:127.0.0.1:{MIRRORS}"));
        command.args(["-P", &CLIENTS.to_string(), "-B", "127.0.0.1"]);
        command.args(["-w", &json(files::JUDGED), &format!("man or ({FILTER})")]);
        command.args(["-w", &json(files::MOVED), FILTER, "-w", &json(files::CUT), FILTER]);
        command.args(["-w", &json(files::HUNG), "-w", "json:-"]);
        command.arg("--passive-dns").arg(path(files::PASSIVE_DNS));
        command.stdin(Stdio::null()).stdout(writer);
        command.stderr(File::create(&messages).map_err(wrong)?);
        let running = Running::start(&mut command)?;
        let mut sensor = Self { running, hung, receiver, messages };
        for name in RIGHT {
            sensor.wait_for(&format!("{name}: auditing"), 1)?;
        }
        Ok(sensor)
    }

    /// What it has printed.
    pub(crate) fn messages(&self) -> String {
        let bytes = fs::read(&self.messages).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until it has printed a text so many times. How long it took.
    pub(crate) fn wait_for(&mut self, text: &str, count: usize) -> Result<Duration, String> {
        let begin = Instant::now();
        loop {
            let messages = self.messages();
            if messages.matches(text).count() >= count {
                return Ok(begin.elapsed());
            }
            if let Some(code) = self.running.ended()? {
                return Err(format!("the sensor has ended with {code}: {}", last(&messages)));
            }
            if begin.elapsed() > bounded::BOUND {
                return Err(format!("the sensor has not printed `{text}`: {}", last(&messages)));
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The last lines.
fn last(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
