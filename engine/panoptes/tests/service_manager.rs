//! What the service reports to a service manager through `NOTIFY_SOCKET`.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded as bounded;
use tempfile::TempDir;

/// Maximum time to wait for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// A service with a manager's socket; killed at the end of the test.
struct Managed {
    socket: UnixDatagram,
    service: Child,
    folder: TempDir,
}

impl Managed {
    /// Starts a service that is expected to give a sign of life each `watchdog`.
    fn start(configuration: &str, watchdog: Option<Duration>) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket can be made");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time can be set");
        let file = folder.path().join("p.yaml");
        fs::write(&file, configuration).expect("there is room for a file");
        let service = command(folder.path())
            .args(["run", "--config"])
            .arg(&file)
            .arg("--log-folder")
            .arg(folder.path().join("log"))
            .env("NOTIFY_SOCKET", &path)
            .envs(watchdog.map(|time| ("WATCHDOG_USEC", time.as_micros().to_string())))
            .spawn()
            .expect("the program starts");
        Self { socket, service, folder }
    }

    /// The next message to the manager.
    #[track_caller]
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a message comes");
        String::from_utf8(bytes[..length].to_vec()).expect("it is text")
    }

    /// The next message that is no sign of life.
    #[track_caller]
    fn next_state(&self) -> String {
        loop {
            let message = self.next();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.service.id().cast_signed()), signal).expect("it runs");
    }

    /// Reads the configuration again, and checks what the manager learns of that.
    #[track_caller]
    fn reload(&self) {
        self.signal(Signal::SIGHUP);
        let message = self.next_state();
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").map(str::trim_end);
        assert!(time.is_some_and(|time| time.parse::<u64>().is_ok()), "{message:?}");
        assert_eq!(self.next_state(), "READY=1\n");
    }

    /// Stops the service; returns its exit code.
    fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.next_state(), "STOPPING=1\n");
        bounded::wait(&mut self.service).expect("it ends").code()
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = bounded::wait(&mut self.service);
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panoptes"));
    command.current_dir(folder).env("HOME", folder).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Finds no guest, unless this user runs one.
const NO_GUESTS: &str = "service: {guest_users: []}\n\
                         default: {limits: {processes: 64, vmas: 16384, file_descriptors: 8192}}\n";

#[test]
fn a_manager_learns_of_start_reload_and_end() {
    let mut managed = Managed::start(NO_GUESTS, None);
    // The first look at this machine has found no guest.
    assert_eq!(managed.next(), "READY=1\n");
    managed.reload();
    // A configuration that is refused ends a reload, too.
    fs::write(managed.folder.path().join("p.yaml"), "service: 1\n").unwrap();
    managed.reload();
    assert_eq!(managed.stop(), Some(0));
}

#[test]
fn a_service_is_ready_though_a_system_is_missing() {
    let text = "auto_scan: false\nsystems: {web: {system: /missing/web}}\n";
    let mut managed = Managed::start(text, None);
    assert_eq!(managed.next(), "READY=1\n");
    assert_eq!(managed.stop(), Some(0));
}

#[test]
fn the_watchdog_gets_signs_of_life() {
    let mut managed = Managed::start(NO_GUESTS, Some(Duration::from_millis(200)));
    let messages: Vec<_> = (0..4).map(|_| managed.next()).collect();
    let signs = messages.iter().filter(|message| *message == "WATCHDOG=1\n").count();
    assert!(signs >= 3, "{messages:?}");
    assert_eq!(managed.stop(), Some(0));
}

/// The header of a capture without packets: pcap, Ethernet.
const NO_PACKETS: [u8; 24] =
    [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];

#[test]
fn a_manager_learns_when_the_flow_sensor_is_ready() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket can be made");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time can be set");
    fs::write(folder.path().join("a.pcap"), NO_PACKETS).expect("there is room");
    let mut sensor = command(folder.path());
    sensor.args(["flow", "-X", "-r", "a.pcap", "-w", "records"]).env("NOTIFY_SOCKET", &path);
    assert!(bounded::status(&mut sensor).expect("the program starts").success());
    let mut bytes = [0; 64];
    let length = socket.recv(&mut bytes).expect("a message comes");
    assert_eq!(&bytes[..length], b"READY=1\n");
}

/// An allocation beyond this limit would end the process by SIGABRT, at some time.
#[test]
fn an_address_space_that_is_too_small_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    fs::write(folder.path().join("p.yaml"), "service: {guest_users: []}\n").expect("there is room");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v 1300000 && exec \"$0\" run --config p.yaml --log-folder log"]);
    shell.arg(env!("CARGO_BIN_EXE_panoptes")).current_dir(folder.path()).env("HOME", folder.path());
    let output = bounded::output(shell.stdin(Stdio::null())).expect("a shell");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.code(), Some(78), "{}: {text}", output.status);
    assert!(text.contains("the limit of the address space"), "{text}");
    fs::write(folder.path().join("a.pcap"), NO_PACKETS).expect("there is room");
    for (flows, code) in [("1000", 0), ("60000000", 78)] {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -v 1300000 && exec \"$0\" flow -X -r a.pcap -w out --flows $1"]);
        shell.args([env!("CARGO_BIN_EXE_panoptes"), flows]).current_dir(folder.path());
        let output = bounded::output(shell.stdin(Stdio::null())).expect("a shell");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{}: {text}", output.status);
        assert_eq!(text.contains("the tables for 60000000 flows"), code == 78, "{text}");
    }
}
