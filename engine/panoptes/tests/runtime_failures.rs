//! Panics in the program itself: each part that can panic is made to, and what survives is checked.
//! `cargo test --package panoptes --features failpoints --test runtime_failures`
//!
//! `PANOPTES_PROGRAM` names another program with that feature, such as one of a release build.

#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, reason = "a test may")]

mod recorded;

use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded as bounded;
use panoptes_rig::product;
use serde_json::Value;
use tempfile::TempDir;

use recorded::write_machine;

/// Maximum time to wait for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// A service that watches two machines.
struct Service {
    folder: TempDir,
    child: Child,
}

impl Service {
    /// Starts a service whose failpoints are these; `None` without xz.
    fn start(failpoints: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if !write_machine(&["a", "b"].map(|name| folder.path().join(name))) {
            return None;
        }
        let text = "default: {limits: {processes: 512, vmas: 16384, file_descriptors: 8192}}\n\
                    systems:\n  \
                      a: {system: a, file_format: raw}\n  \
                      b: {system: b, file_format: raw}\n";
        Some(Self::start_with(folder, text, failpoints))
    }

    /// Starts a service with these lines in its configuration.
    fn start_with(folder: TempDir, lines: &str, failpoints: &str) -> Self {
        let text = format!(
            "auto_scan: false\n\
             service: {{state_dir: state}}\n\
             output: {{stdout: false, log_folder: log}}\n\
             {lines}"
        );
        fs::write(folder.path().join("p.yaml"), text).unwrap();
        let said = fs::File::create(folder.path().join("said")).unwrap();
        let child = Command::new(product::program().unwrap())
            .args(["run", "--config", "p.yaml"])
            .current_dir(folder.path())
            .env("PANOPTES_FAILPOINTS", failpoints)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        Self { folder, child }
    }

    fn records(&self) -> Vec<Value> {
        self.lines("events.jsonl")
    }

    /// The lines of a log.
    fn lines(&self, name: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.path().join("log").join(name));
        let log = log.unwrap_or_default();
        // The last line may be on its way.
        let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).expect("a record is JSON")).collect()
    }

    fn of(&self, activity: &str) -> Vec<Value> {
        let records = self.records().into_iter();
        records.filter(|record| record["activity_data"]["name"] == activity).collect()
    }

    /// Waits for so many records of an activity; returns them.
    #[track_caller]
    fn wait(&self, activity: &str, count: usize) -> Vec<Value> {
        let begin = Instant::now();
        loop {
            let found = self.of(activity);
            if found.len() >= count {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "{activity}: {}", self.said());
            sleep(Duration::from_millis(20));
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap()
    }

    /// Stops it, and returns its exit code.
    fn stop(&mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        bounded::wait(&mut self.child).unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = bounded::wait(&mut self.child);
    }
}

fn reason(record: &Value) -> &str {
    assert_eq!(record["severity"], "ERROR");
    record["activity_data"]["system_activity_details"]["reason"].as_str().unwrap()
}

/// Runs until it has reported its one failure, and some time after that.
fn run(failpoint: &str, begins: &str) -> Option<(Service, Value)> {
    let service = Service::start(failpoint)?;
    let failure = failure_of(&service, failpoint, begins);
    Some((service, failure))
}

/// Waits until a service has reported its one failure.
fn failure_of(service: &Service, failpoint: &str, begins: &str) -> Value {
    let failure = service.wait("service_runtime_failure", 1).remove(0);
    let (place, _) = failpoint.split_once('=').unwrap();
    let reason = reason(&failure);
    assert!(reason.starts_with(begins), "{reason}");
    assert!(reason.contains(&format!(": the failpoint {place} (")), "{reason}");
    let begin = Instant::now();
    while !service.said().contains(reason) {
        assert!(begin.elapsed() < PATIENCE, "{}", service.said());
        sleep(Duration::from_millis(20));
    }
    failure
}

#[test]
fn a_system_whose_scan_panics_is_attached_to_again() {
    let begins = "its scan panicked, and it is attached to again";
    let Some((mut service, failure)) = run("scan=200", begins) else { return };
    let name = &failure["workload_information"]["unique_identifier"];
    let attached = service.wait("host_initialization_successful", 3);
    let names: Vec<_> = attached
        .iter()
        .map(|record| &record["workload_information"]["unique_identifier"])
        .collect();
    assert_eq!(names[2], name, "the other one continues");
    assert_eq!(service.stop(), Some(0), "{}", service.said());
    assert_eq!(service.of("service_runtime_failure").len(), 1);
    assert_eq!(service.of("host_initialization_successful").len(), 3);
    assert_eq!(service.of("service_gracefully_shutdown").len(), 1);
}

#[test]
fn a_scanner_that_panics_goes_on() {
    let Some((mut service, _)) = run("loop=200", "a scanner panicked, and goes on") else { return };
    service.wait("host_initialization_successful", 2);
    assert_eq!(service.stop(), Some(0), "{}", service.said());
    assert_eq!(service.of("host_initialization_successful").len(), 2, "both stay attached");
    assert_eq!(service.of("service_gracefully_shutdown").len(), 1);
}

#[test]
fn an_output_that_panics_is_opened_again() {
    let begins = "the output panicked, and was opened again";
    let Some((mut service, _)) = run("output=20", begins) else { return };
    service.wait("host_initialization_successful", 1);
    assert_eq!(service.stop(), Some(0), "{}", service.said());
    assert_eq!(service.of("service_gracefully_shutdown").len(), 1);
}

#[test]
fn a_writer_that_panics_goes_on() {
    let Some((mut service, _)) = run("writer=20", "the writer panicked, and goes on") else {
        return;
    };
    service.wait("host_initialization_successful", 2);
    assert_eq!(service.stop(), Some(0), "{}", service.said());
    assert_eq!(service.of("service_gracefully_shutdown").len(), 1);
}

#[test]
fn a_control_thread_that_panics_ends_the_service_with_a_last_record() {
    let begins = "the control thread panicked, and the service ends";
    let Some((mut service, _)) = run("control=100", begins) else { return };
    assert_eq!(bounded::wait(&mut service.child).unwrap().code(), Some(1), "{}", service.said());
    let records = service.records();
    let last = &records.last().unwrap()["activity_data"]["name"];
    assert_eq!(last, "service_runtime_failure", "{}", service.said());
}

#[test]
fn a_sensor_of_flows_that_panics_is_started_again() {
    start_sensor_again(1, "flows=100");
}

#[test]
fn a_sensor_one_of_whose_threads_panics_is_started_again() {
    start_sensor_again(3, "packets=100");
}

#[test]
fn threads_of_a_sensor_that_panics_end() {
    start_sensor_again(3, "flows=100");
}

/// How many threads of a service divide packets.
fn packet_threads(service: &Service) -> usize {
    let threads = fs::read_dir(format!("/proc/{}/task", service.child.id())).unwrap();
    let names = threads.filter_map(|thread| fs::read(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(b"packets-")).count()
}

/// It panics while packets come. What it had counted is lost, and a record has that.
fn start_sensor_again(threads: usize, failpoint: &str) {
    if !nix::unistd::geteuid().is_root() {
        panoptes_needs::skip::test("root");
        return;
    }
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap();
    let flows = format!(
        "systems: {{a: {{system: /absent}}}}\n\
         flows: {{interfaces: [lo], filter: 'udp port {}', status_interval: 500ms, \
                  threads: {threads}}}\n",
        to.port()
    );
    let mut service = Service::start_with(tempfile::tempdir().unwrap(), &flows, failpoint);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let is_sent = |service: &Service, wanted: &dyn Fn(&[Value]) -> bool| {
        let begin = Instant::now();
        while !wanted(&service.lines("flows.jsonl")) {
            assert!(begin.elapsed() < PATIENCE, "{}", service.said());
            sender.send_to(b"datagram", to).unwrap();
            sleep(Duration::from_millis(5));
        }
    };
    let begins = |lines: &[Value]| {
        let is_start = |line: &&Value| line["kind"] == "flow_sensor" && line["cause"] == "start";
        lines.iter().filter(is_start).count()
    };
    is_sent(&service, &|lines| begins(lines) == 2);
    failure_of(&service, failpoint, "the sensor of flows has failed, and is started again");
    let flows_after_it = |lines: &[Value]| {
        let second = lines.iter().rposition(|line| line["cause"] == "start").unwrap();
        lines[second..].iter().any(|line| line["kind"] == "flow")
    };
    is_sent(&service, &flows_after_it);
    let expected = if threads > 1 { threads } else { 0 };
    let begin = Instant::now();
    while packet_threads(&service) != expected {
        assert!(begin.elapsed() < PATIENCE, "{}", service.said());
        sleep(Duration::from_millis(5));
    }
    assert_eq!(service.stop(), Some(0), "{}", service.said());
    let lines = service.lines("flows.jsonl");
    assert_eq!(begins(&lines), 2, "it continues");
    assert_eq!(lines.last().unwrap()["cause"], "stop");
    assert_eq!(service.of("service_runtime_failure").len(), 1);
    assert_eq!(service.of("service_gracefully_shutdown").len(), 1);
}
