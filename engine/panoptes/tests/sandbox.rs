//! What the threads of the running service may still do, as the kernel sees it.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded::{self as bounded, Port};
use panoptes_sources::{MemorySource as _, Replay};
use tempfile::TempDir;

/// Maximum time to wait for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);

struct Service {
    folder: TempDir,
    child: Child,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = bounded::wait(&mut self.child);
    }
}

/// Writes the memory of the recorded machine; returns whether it can be unpacked here.
fn write_machine(path: &Path) -> bool {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/images/6.1.image.xz");
    let Ok(unpacked) = bounded::output(Command::new("xz").arg("-dc").arg(packed)) else {
        return false;
    };
    let mut replay = Replay::from_bytes(unpacked.stdout).unwrap();
    let pages: Vec<_> = replay.page_addresses().collect();
    let file = fs::File::create(path).unwrap();
    file.set_len(replay.regions().last().unwrap().end).unwrap();
    let mut page = [0; 4096];
    for &address in &pages {
        assert!(replay.read_exact(address, &mut page));
        file.write_all_at(&page, address.0).unwrap();
    }
    true
}

impl Service {
    /// Watches a machine; records go to a log and to a receiver.
    fn start(receiver: u16, metrics: u16) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if !write_machine(&folder.path().join("a")) {
            panoptes_needs::skip::test("xz");
            return None;
        }
        let text = format!(
            "auto_scan: false\n\
             service: {{state_dir: state, log_level: DEBUG}}\n\
             output:\n  \
               stdout: false\n  \
               log_folder: log\n  \
               sync: 10ms\n  \
               metrics: {{address: \"127.0.0.1:{metrics}\"}}\n  \
               telemetry: [{{address: \"localhost:{receiver}\", transport: tcp}}]\n\
             systems: {{a: {{system: a, file_format: raw}}}}\n"
        );
        fs::write(folder.path().join("p.yaml"), text).unwrap();
        let said = fs::File::create(folder.path().join("said")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_panoptes"))
            .args(["run", "--config", "p.yaml"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        Some(Self { folder, child })
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap()
    }

    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < PATIENCE, "{what}\n{}", self.said());
            sleep(Duration::from_millis(20));
        }
    }

    fn log_has(&self, text: &str) -> bool {
        let folder = fs::read_dir(self.folder.path().join("log"));
        let files = folder.into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).any(|it| it.contains(text))
    }

    /// A line of /proc/PID/task/TID/status, of each thread of this name.
    fn status(&self, thread: &str, key: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let status = tasks.flatten().map(|task| fs::read_to_string(task.path().join("status")));
        let of = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key).map(str::trim));
            line.unwrap_or_default().to_owned()
        };
        let status = status.flatten().filter(|text| of(text, "Name:") == thread);
        status.map(|text| of(&text, key)).collect()
    }
}

fn answer(port: u16, path: &str) -> String {
    let Ok(mut stream) = bounded::connect(("127.0.0.1", port)) else { return String::new() };
    let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn threads_are_restricted_and_the_service_does_all_that_it_did() {
    let ports = [(); 2].map(|()| Port::reserve().unwrap());
    let [receiver, metrics] = ports.each_ref().map(Port::number);
    let Some(mut service) = Service::start(receiver, metrics) else { return };
    service.wait_until("a system is watched", || service.log_has("\"os_identifier_found\""));
    // The receiver appears late, so the writer connects again.
    let listener = TcpListener::bind(("127.0.0.1", receiver)).unwrap();
    let client = bounded::accept(&listener);
    let client = client.unwrap_or_else(|error| panic!("{error}: {}", service.said()));
    let mut lines = BufReader::new(client).lines();
    assert!(lines.next().unwrap().unwrap().starts_with('{'));
    assert!(answer(metrics, "/metrics").contains("panoptes_"), "{}", service.said());
    for (thread, kept) in [
        // CAP_IPC_LOCK; CAP_DAC_OVERRIDE and CAP_FOWNER (include/uapi/linux/capability.h).
        ("panoptes-scanne", 1 << 14),
        ("panoptes-writer", 1 << 1 | 1 << 3),
        ("panoptes-metric", 0_u64),
    ] {
        let filters = service.status(thread, "Seccomp:");
        assert!(
            !filters.is_empty() && filters.iter().all(|one| one == "2"),
            "{thread} {filters:?}"
        );
        for key in ["CapEff:", "CapPrm:"] {
            for found in service.status(thread, key) {
                let found = u64::from_str_radix(&found, 16).unwrap();
                assert_eq!(found & !kept, 0, "{thread} {key}");
            }
        }
    }
    // CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_SYS_MODULE: no file needs them.
    for found in service.status("panoptes", "CapPrm:") {
        let found = u64::from_str_radix(&found, 16).unwrap();
        assert_eq!(found & (1 << 19 | 1 << 21 | 1 << 16), 0);
    }
    // A program that rotates logs itself.
    let pid = Pid::from_raw(service.child.id().cast_signed());
    let log = service.folder.path().join("log/events.jsonl");
    fs::rename(&log, log.with_extension("moved")).unwrap();
    kill(pid, Signal::SIGUSR1).unwrap();
    service.wait_until("the log is opened again", || log.exists());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(bounded::wait(&mut service.child).unwrap().code(), Some(0), "{}", service.said());
    assert!(service.log_has("\"service_gracefully_shutdown\""));
    assert!(!service.said().contains("not implemented"), "{}", service.said());
    assert!(!service.said().contains("restricted"), "{}", service.said());
}
