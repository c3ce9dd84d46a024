//! Records of a service that is ready, and of facts that could not be read.

use super::super::machines::HostSurvey;
use super::super::start::interfaces;
use super::*;
use crate::config::System;
use crate::watch::clock_watch::KernelIdentity;
use crate::watch::finder::Finder;

/// Makes it a service that looks for guests, and has no other systems.
fn look_for_guests(control: &mut ControlThread) {
    control.systems.candidates.clear();
    // This machine may have guests, so no look is due.
    control.systems.finder = Some(Finder::new(Instant::now() + AGES));
}

#[test]
fn a_node_without_guests_is_ready_after_the_first_look() {
    let ready = "\"service_initialization_successful\"";
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /a}}");
    let unknown = |control: &mut ControlThread, _: &Signals| look_for_guests(control);
    let (exit, kept, _) = run_changed(&folder, &file, REAL, unknown, |driver| {
        driver.wait_for("record", || driver.log().contains("service_initialization_started"));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = folder.path().join("log/events.jsonl");
    assert!(!fs::read_to_string(&log).unwrap().contains(ready));
    let none = |control: &mut ControlThread, _: &Signals| {
        look_for_guests(control);
        control.systems.update_guests(&mut control.cx, &[]);
    };
    let (exit, kept, _) = run_changed(&folder, &file, REAL, none, |driver| {
        driver.wait_for("record", || driver.log().contains(ready));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(fs::read_to_string(log).unwrap().matches(ready).count(), 1);
}

/// The names and reasons of a log's records of failures, in their order.
fn failures(folder: &TempDir) -> Vec<(String, String)> {
    let all = lines(&folder.path().join("log/events.jsonl"));
    let records = all.iter().map(|(_, line)| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |record: Value| {
        let data = &record["activity_data"];
        (text(&data["name"]), text(&data["system_activity_details"]["reason"]))
    };
    records.map(of).filter(|(name, _)| name.ends_with("_failed")).collect()
}

/// Runs until the log has this text, and for a few attempts more.
fn run_until(folder: &TempDir, file: &Path, work: WorkerJobs, text: &str) -> Vec<(String, String)> {
    let (exit, kept, _) = run(folder, file, work, |driver| {
        driver.wait_for("record", || driver.log().contains(text));
        sleep(Duration::from_secs(1));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let failures = failures(folder);
    for (_, reason) in &failures {
        assert_eq!(kept.count(reason), 1, "{reason}: {}", kept.text());
    }
    failures
}

#[test]
fn a_damaged_profile_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p.json"), "{\"damaged\":").unwrap();
    fs::write(folder.path().join("ram"), [0; 4096]).unwrap();
    let system = "systems: {a: {system: ram, file_format: raw, os_symbol_path: p.json}}";
    let file = configure(folder.path(), system);
    let failures = run_until(&folder, &file, REAL, "host_initialization_failed");
    let names: Vec<_> = failures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["profile_parsing_failed", "host_initialization_failed"]);
    for (_, reason) in failures {
        assert!(reason.starts_with("profile ") && reason.contains("p.json: "), "{reason}");
    }
}

#[test]
fn a_profile_that_cannot_be_read_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ram"), [0; 4096]).unwrap();
    let system = "systems: {a: {system: ram, file_format: raw, os_symbol_path: /dev/null}}";
    let file = configure(folder.path(), system);
    let failures = run_until(&folder, &file, REAL, "host_initialization_failed");
    let reason = "profile /dev/null: it is not a regular file".to_owned();
    let expected = ["details_gathering_failed", "host_initialization_failed"];
    assert_eq!(failures, expected.map(|name| (name.to_owned(), reason.clone())));
}

#[test]
fn a_damaged_file_in_a_folder_of_profiles_is_left_out_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    if machine(folder.path()).is_none() {
        panoptes_needs::skip::test("xz");
        return;
    }
    let profiles = folder.path().join("profiles");
    fs::create_dir(&profiles).unwrap();
    fs::write(profiles.join("p.json"), "{\"damaged\":").unwrap();
    let system = "systems: {a: {system: ram, file_format: raw, os_symbol_path: profiles}}";
    let file = configure(folder.path(), system);
    let failures = run_until(&folder, &file, REAL, "host_initialization_successful");
    let names: Vec<_> = failures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["details_gathering_failed"]);
    assert!(failures[0].1.contains("profiles/p.json: "), "{failures:?}");
}

#[test]
fn a_worker_that_panics_is_reported_once() {
    fn search(_: AttachTask, _: &AtomicBool) -> Result<Box<AttachedSystem>, NotAttached> {
        panic!("it is a test")
    }
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /a}}");
    let work = WorkerJobs { search, ..REAL };
    let failures = run_until(&folder, &file, work, "host_initialization_failed");
    let reason = "a worker ended unexpectedly; this is a bug in Panoptes".to_owned();
    assert_eq!(failures, [("host_initialization_failed".to_owned(), reason)]);
}

/// A system whose clock stands still is checked again and again.
#[test]
fn a_check_of_a_standstill_that_fails_is_reported_once() {
    static CHECKS: Mutex<u32> = Mutex::new(0);
    fn find_again(
        _: &System,
        _: &Configuration,
        _: &AtomicBool,
    ) -> Result<Option<KernelIdentity>, String> {
        *CHECKS.lock().unwrap() += 1;
        Err("it is a test".to_owned())
    }
    let folder = tempfile::tempdir().unwrap();
    if machine(folder.path()).is_none() {
        panoptes_needs::skip::test("xz");
        return;
    }
    let file = configure(folder.path(), "systems: {a: {system: ram, file_format: raw}}");
    let (exit, kept, _) = run(&folder, &file, WorkerJobs { find_again, ..REAL }, |driver| {
        driver.wait_for("checks", || *CHECKS.lock().unwrap() >= 2);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let expected = ("details_gathering_failed".to_owned(), "it is a test".to_owned());
    assert_eq!(failures(&folder), [expected]);
    assert_eq!(kept.count("a: it is a test"), 1, "{}", kept.text());
}

#[test]
fn a_state_folder_that_cannot_be_used_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state"), "no folder").unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /absent}}");
    let failures = run_until(&folder, &file, REAL, "host_initialization_failed");
    let names: Vec<_> = failures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["details_gathering_failed", "host_initialization_failed"]);
    assert!(failures[0].1.contains("boot_uuid will change"), "{failures:?}");
}

/// Interfaces that can't be read, and processes that can't be listed.
#[test]
fn what_cannot_be_found_out_of_this_machine_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /absent}}");
    let error = || io::Error::from(io::ErrorKind::QuotaExceeded);
    let fail = |control: &mut ControlThread, _: &Signals| {
        assert!(interfaces(Err(error()), &control.cx.notices.0).is_empty());
        for _ in 0..2 {
            control.systems.use_sighting(&mut control.cx, HostSurvey::of_guests(Err(error())));
        }
    };
    let (exit, kept, _) = run_changed(&folder, &file, REAL, fail, |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let found = failures(&folder);
    for what in ["cannot list this machine's processes", "cannot read this machine's interfaces"] {
        let expected = format!("{what}: {}", error());
        let reports = found.iter().filter(|(_, reason)| *reason == expected);
        let names: Vec<_> = reports.map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["details_gathering_failed"], "{found:?}");
        assert_eq!(kept.count(&expected), 1, "{}", kept.text());
    }
}
