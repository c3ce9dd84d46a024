//! The references of the configuration's `sbom`: checked by `panoptes check`, at start, and on
//! SIGHUP.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded::{self as bounded, Bounded};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a configuration that refers to `sbom`, and to a system that does not exist.
fn configured(sbom: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let file = folder.path().join("p.yaml");
    let text = format!(
        "auto_scan: false\ndefault:\n  sbom: [{sbom}]\nsystems:\n  web: {{system: /missing/web}}\n\
         output: {{stdout: true, log_folder: none}}\n"
    );
    fs::write(&file, text).expect("there is room for a file");
    (folder, file)
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panoptes"));
    command.args(arguments).current_dir(folder).env("HOME", folder).stdin(Stdio::null());
    command
}

#[test]
fn a_bad_sbom_is_a_mistake_of_the_configuration() {
    let (folder, _) = configured("list, bad");
    fs::write(folder.path().join("list"), format!("{}\n", "1".repeat(64))).unwrap();
    fs::write(folder.path().join("bad"), "# hashes\nnone\n").unwrap();
    let output = bounded::output(&mut command(folder.path(), &["check", "p.yaml"])).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{err}");
    assert!(err.contains("p.yaml: sbom: ") && err.contains("bad:2:1: \"none\""), "{err}");

    let set = "default.sbom=[bad, nothing/]";
    let output =
        bounded::output(&mut command(folder.path(), &["watch", "/missing/web", "--set", set]))
            .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{err}");
    assert!(err.contains("bad:2:1: ") && err.contains("2 SBOMs"), "{err}");
    let records = String::from_utf8(output.stdout).unwrap();
    let records: Vec<Value> =
        records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| {
        records.iter().filter(|record| record["activity_data"]["name"] == name).count()
    };
    assert_eq!(of("invalid_sbom_configuration_file"), 2);
    assert_eq!(of("service_initialization_failed"), 1);
    let record = records
        .iter()
        .find(|record| record["activity_data"]["name"] == "invalid_sbom_configuration_file")
        .unwrap();
    assert_eq!(record["severity"], "ERROR");
    let details = &record["activity_data"]["system_activity_details"];
    assert!(details["path"].as_str().unwrap().ends_with("bad"), "{record}");
    assert!(details["reason"].as_str().unwrap().contains("bad:2:1: "), "{record}");
    let schema = bounded::output(&mut command(folder.path(), &["schema"])).unwrap().stdout;
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    jsonschema::validate(&schema, record).unwrap();

    fs::write(folder.path().join("bad"), "# none yet\n").unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join("p.yaml"), "default: {sbom: [empty, list]}\n").unwrap();
    let output =
        bounded::output(&mut command(folder.path(), &["check", "p.yaml", "--json"])).unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &answer["valid"]), (Some(78), &Value::from(false)));
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("empty holds no file"));
    fs::copy(folder.path().join("list"), folder.path().join("empty/list")).unwrap();
    let output = bounded::output(&mut command(folder.path(), &["check", "p.yaml"])).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// A service and its standard output; killed at the end of the test.
struct Service(Child, BufReader<Bounded<ChildStdout>>);

impl Service {
    /// The next record of an activity.
    fn next(&mut self, activity: &str) -> Value {
        let mut line = String::new();
        while self.1.read_line(&mut line).expect("it writes text") > 0 {
            let record: Value = serde_json::from_str(&line).expect("a record is JSON");
            if record["activity_data"]["name"] == activity {
                return record;
            }
            line.clear();
        }
        panic!("it ended without {activity}");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).expect("it runs");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = bounded::wait(&mut self.0);
    }
}

#[test]
fn sboms_are_read_again_on_sighup() {
    let (folder, file) = configured("list");
    let list = folder.path().join("list");
    fs::write(&list, format!("{}\n", "1".repeat(64))).unwrap();
    let mut child = command(folder.path(), &["run", "--config", &file.to_string_lossy()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = bounded::reader(child.stdout.take().unwrap());
    let mut service = Service(child, out);
    service.next("host_initialization_failed");
    fs::write(&list, "spoilt").unwrap();
    service.signal(Signal::SIGHUP);
    let record = service.next("invalid_sbom_configuration_file");
    let reason = &record["activity_data"]["system_activity_details"]["reason"];
    assert!(reason.as_str().unwrap().contains("list:1:1: \"spoilt\""), "{record}");
    // The service continues, and reads a correct list again.
    fs::write(&list, format!("{}\n", "2".repeat(64))).unwrap();
    service.signal(Signal::SIGHUP);
    let mut err = bounded::reader(service.0.stderr.take().unwrap()).lines();
    let said = |line: &String| line.contains("the SBOMs were read again");
    assert!(err.any(|line| said(&line.unwrap())));
    service.signal(Signal::SIGTERM);
    service.next("service_gracefully_shutdown");
}
