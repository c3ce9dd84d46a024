//! Programs that run beside a test: both sensors, and argus's clients.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded as bounded;
use panoptes_traffic::{Argus, Capture, Clock};
use tempfile::TempDir;

/// The longest time that anything may take.
pub(crate) const PATIENCE: Duration = bounded::BOUND;
const POLL: Duration = Duration::from_millis(5);
/// How long a sensor may leave packets to the kernel: libpcap keeps them for 100 ms before argus
/// gets them, Panoptes for 10 ms. And some more.
const ARGUS_DELAY: Duration = Duration::from_millis(150);
const DELAY: Duration = Duration::from_millis(40);

/// The two sensors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sensor {
    Argus,
    Panoptes,
}

pub(crate) const BOTH: [Sensor; 2] = [Sensor::Argus, Sensor::Panoptes];

impl Sensor {
    /// The sensor, which reads the system's configuration.
    pub(crate) fn configured(self) -> Command {
        match self {
            Self::Argus => argus().sensor(),
            Self::Panoptes => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_panoptes"));
                command.arg("flow");
                command
            }
        }
    }

    /// The sensor with these options alone.
    pub(crate) fn with(self, options: &[&str]) -> Command {
        let mut command = self.configured();
        command.arg("-X").args(options);
        command
    }

    /// What it prints when it receives from an interface.
    pub(crate) fn has_begun(self, interface: &str) -> String {
        match self {
            Self::Argus => format!("interface {interface} is up"),
            Self::Panoptes => format!("{interface}: auditing"),
        }
    }
}

/// Argus and its clients.
pub(crate) fn argus() -> Argus {
    Argus::find().unwrap_or_else(|error| panic!("{error}"))
}

/// A client of argus.
pub(crate) fn client(name: &str, arguments: &[&str]) -> Command {
    let mut command = argus().client(name).unwrap_or_else(|error| panic!("{error}"));
    command.args(arguments);
    command
}

/// A running program; killed at the end of the test.
pub(crate) struct Running {
    name: String,
    child: Child,
    delay: Duration,
    messages: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// How a program has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What it has printed to standard error, and to standard output if that was piped.
    pub(crate) messages: String,
}

impl Running {
    /// Starts a program without input, whose output nobody needs.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))
    }

    /// Starts a program without input, and collects its output.
    pub(crate) fn collect(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))
    }

    /// Starts a program with the input and the output that it has.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let is_own = command.get_program() == env!("CARGO_BIN_EXE_panoptes");
        let delay = if is_own { DELAY } else { ARGUS_DELAY };
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let messages = Arc::default();
        let mut readers = Vec::new();
        if let Some(pipe) = child.stderr.take() {
            readers.push(reader(pipe, &messages));
        }
        if let Some(pipe) = child.stdout.take() {
            readers.push(reader(pipe, &messages));
        }
        Self { name, child, delay, messages, readers }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub(crate) fn messages(&self) -> String {
        lock(&self.messages).clone()
    }

    /// Waits until it has printed something.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let what = || format!("{}: no `{text}`: {}", self.name, self.messages());
        until(what, || self.messages().contains(text));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.child.id(), signal);
    }

    /// Stops it until SIGCONT. A signal that is not delivered yet would be taken back by that one.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let stat = format!("/proc/{}/stat", self.child.id());
        let state = || std::fs::read_to_string(&stat).unwrap_or_default();
        until(state, || state().contains(") T "));
    }

    /// Waits until it has nothing more to do with the packets that were sent.
    pub(crate) fn settle(&self) {
        settle_for(self.child.id(), self.delay);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("a child of this process") {
                Some(status) => break status,
                None if begin.elapsed() < PATIENCE => thread::sleep(POLL),
                None => panic!("{} does not end: {}", self.name, self.messages()),
            }
        };
        for reader in self.readers.drain(..) {
            // A program that it started may have its outputs, too.
            bounded::join(reader).expect("its outputs have an end");
        }
        Ended { status, messages: self.messages() }
    }

    /// Ends it by a signal, and waits for its end.
    #[track_caller]
    pub(crate) fn end(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.ended()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = bounded::wait(&mut self.child);
    }
}

impl Ended {
    /// Fails unless the program was successful.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        // Argus sometimes crashes at its end, when it has written its records.
        let has_crashed = self.messages.contains("ArgusAlert")
            && self.status.signal() == Some(Signal::SIGSEGV as i32);
        assert!(self.status.success() || has_crashed, "{}: {}", self.status, self.messages);
        self.messages
    }
}

/// Runs a program to its successful end; what it has printed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    Running::collect(command).ended().succeeded()
}

pub(crate) fn signal_to(process: u32, signal: Signal) {
    kill(Pid::from_raw(process as i32), signal).expect("a process of this test");
}

/// Waits until a process has read all packets.
pub(crate) fn settle(process: u32) {
    settle_for(process, ARGUS_DELAY);
}

/// Waits until a process sleeps, and has slept for so long.
fn settle_for(process: u32, delay: Duration) {
    let mut since = Instant::now();
    let begin = since;
    while since.elapsed() < delay && begin.elapsed() < PATIENCE {
        thread::sleep(POLL);
        if !is_asleep(process) {
            since = Instant::now();
        }
    }
}

/// Whether all threads of a process sleep: the state behind the name in `proc_pid_stat(5)`.
fn is_asleep(process: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    stats
        .into_iter()
        .all(|stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| !rest.starts_with('R')))
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: impl Fn() -> String, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{}", what());
        thread::sleep(POLL);
    }
}

fn lock(messages: &Mutex<String>) -> MutexGuard<'_, String> {
    messages.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reader(
    mut pipe: impl std::io::Read + Send + 'static,
    messages: &Arc<Mutex<String>>,
) -> JoinHandle<()> {
    let messages = Arc::clone(messages);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut bytes) {
            lock(&messages).push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    })
}

/// A folder of one test.
pub(crate) struct Folder {
    folder: TempDir,
    /// How many outputs there are.
    outputs: AtomicUsize,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, outputs: AtomicUsize::new(0) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("plain text").to_owned()
    }

    /// Writes a capture to a file; its path.
    pub(crate) fn capture(&self, name: &str, capture: &Capture) -> String {
        self.write(name, &capture.pcap(Clock::Microseconds))
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).expect("there is room");
        self.text(name)
    }

    /// Lets everybody write into the folder.
    pub(crate) fn open_to_all(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(self.folder.path(), everybody).expect("the owner may");
    }

    /// Runs both sensors at once over captures; their records. The filter comes last.
    #[track_caller]
    pub(crate) fn both(&self, options: &[&str], filter: &[&str]) -> [PathBuf; 2] {
        let number = self.outputs.fetch_add(1, Ordering::Relaxed);
        let started = BOTH.map(|sensor| {
            let records = self.path(&format!("{sensor:?}.{number}"));
            let mut command = sensor.with(options);
            let running = Running::start(command.arg("-w").arg(&records).args(filter));
            (running, records)
        });
        started.map(|(running, records)| {
            running.ended().succeeded();
            records
        })
    }
}

/// The bytes of a file.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes
}
