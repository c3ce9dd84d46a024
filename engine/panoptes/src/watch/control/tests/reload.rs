//! What SIGHUP changes, and the records about it.

use caps::{CapSet, Capability};
use serde_json::json;

use super::*;

/// The details of the records of an activity, in their order.
pub(super) fn details(log: &str, activity: &str) -> Vec<Value> {
    let records = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let data = records.map(|mut record| record["activity_data"].take());
    let of_it = data.filter(|data| data["name"] == activity);
    of_it.map(|mut data| data["system_activity_details"].take()).collect()
}

pub(super) const AGAIN: &str = "the configuration was read again";

/// Reads the configuration again with these lines, and waits for it.
pub(super) fn reload(driver: &Driver, more: &str) {
    let count = driver.kept.count(AGAIN);
    configure(&driver.folder, more);
    driver.signal(Signal::SIGHUP);
    driver.wait(AGAIN, count + 1);
}

/// The same with another text of the whole file.
pub(super) fn reload_whole(driver: &Driver, text: &str) {
    let count = driver.kept.count(AGAIN);
    fs::write(driver.folder.join("p.yaml"), text).unwrap();
    driver.signal(Signal::SIGHUP);
    driver.wait(AGAIN, count + 1);
}

/// The same for a text that is refused, for a reason with these words.
#[track_caller]
pub(super) fn refuse(driver: &Driver, text: &str, why: &str) {
    let count = driver.kept.count(REFUSED);
    fs::write(driver.folder.join("p.yaml"), text).unwrap();
    driver.signal(Signal::SIGHUP);
    driver.wait(REFUSED, count + 1);
    let kept = driver.kept.text();
    let line = kept.lines().rfind(|line| line.contains(REFUSED)).unwrap();
    assert!(line.contains(why), "{line}");
}

const REFUSED: &str = "the configuration is refused and not changed: ";

#[test]
fn records_name_the_keys_that_have_changed_and_those_that_need_a_restart() {
    const SYSTEMS: &str = "systems: {a: {system: /a}}\n";
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), SYSTEMS);
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("state_dir: state", "state_dir: other");
    let text = text.replace("stdout: false", "stdout: false, user_data: x");
    let more = "profile_generation: false\n\
                default: {os_symbol_path: /x, containers: {exclude: [x]}}\n\
                systems: {a: {system: /a, containers: {include: [y]}}, b: {system: /b}}\n";
    let text = text.replace(SYSTEMS, more);
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        reload(driver, SYSTEMS);
        reload_whole(driver, &text);
        // What needs a restart is reported until then, and what applies once.
        reload_whole(driver, &text);
        reload(driver, SYSTEMS);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let reason = |what: &str| format!("{AGAIN}: {what}");
    let nothing = json!({"reason": reason("nothing has changed")});
    let mut keys = vec![
        "profile_generation",
        "default.os_symbol_path",
        "default.containers.exclude",
        "systems.a.containers.include",
        "systems.b",
    ];
    let needs_restart = ["service.state_dir", "output.user_data"];
    let all = json!({
        "reason": reason("5 keys have changed, and 2 keys need a restart"),
        "keys": keys,
        "needs_restart": needs_restart,
    });
    let rest = json!({"reason": reason("2 keys need a restart"), "needs_restart": needs_restart});
    let reloaded = details(&log, "configuration_reloaded");
    assert_eq!(reloaded[..3], [nothing, all, rest], "{log}");
    let mut back = reloaded[3].clone();
    let mut paths: Vec<_> = back["keys"].as_array().unwrap().iter().map(Value::to_string).collect();
    paths.sort_unstable();
    keys.sort_unstable();
    assert_eq!(paths, keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>());
    assert_eq!(back["reason"].take(), reason("5 keys have changed"), "{log}");
    assert_eq!(kept.count("need a restart: service.state_dir, output.user_data"), 2);
}

#[test]
fn a_configuration_with_mistakes_changes_nothing_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /a}}");
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        configure(&driver.folder, "auto_scan: maybe\nprofile_generation: often");
        driver.signal(Signal::SIGHUP);
        driver.wait("is refused and not changed", 1);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let refused = details(&log, "configuration_refused");
    assert_eq!(refused.len(), 1, "{log}");
    let reason = refused[0]["reason"].as_str().unwrap();
    for mistake in [
        ":4:1: `auto_scan` is given twice (first on line 1); keep one of them; ",
        ":5:21: `profile_generation`: `often` is not true or false",
    ] {
        assert!(reason.contains(mistake), "{reason}");
    }
    assert_eq!(refused[0]["path"], *file.to_string_lossy());
    assert!(details(&log, "configuration_reloaded").is_empty());
}

#[test]
fn sboms_have_records_of_their_own_when_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let systems = "systems: {a: {system: /a}}\n";
    let file = configure(folder.path(), systems);
    let hash = "0123456789abcdef0123456789abcdef";
    let with = format!("{systems}default: {{sbom: [{hash}]}}");
    let missing = format!("{systems}default: {{sbom: [/missing]}}");
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        reload(driver, &with);
        driver.wait("the SBOMs were read again", 1);
        reload(driver, &missing);
        driver.wait("the SBOMs are refused", 1);
        // Nothing of the refused file is left.
        reload(driver, &with);
        driver.wait("the SBOMs were read again", 2);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let follows = json!({"reason": format!("{AGAIN}: 1 key of SBOMs follows")});
    let read = json!({"reason": "the SBOMs were read again", "keys": ["default.sbom"]});
    let nothing = json!({"reason": format!("{AGAIN}: nothing has changed")});
    let reloaded = details(&log, "configuration_reloaded");
    assert_eq!(reloaded, [follows.clone(), read, follows, nothing], "{log}");
    let refused = details(&log, "configuration_refused");
    assert_eq!(refused.len(), 1, "{log}");
    assert!(refused[0]["reason"].as_str().unwrap().contains("/missing"), "{log}");
}

/// What parses files of others attaches to nothing.
#[test]
fn what_reads_sboms_has_no_capability_for_guests() {
    #[expect(clippy::unnecessary_wraps, reason = "the type of functions that load SBOMs")]
    fn load(_: &Configuration) -> Result<Sboms, Vec<SbomFault>> {
        let kept = caps::read(None, CapSet::Permitted).unwrap();
        assert!(!kept.contains(&Capability::CAP_SYS_PTRACE), "{kept:?}");
        Ok(Sboms::default())
    }
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /a}}\n");
    let (exit, kept, _) = run(&folder, &file, WorkerJobs { load, ..REAL }, |driver| {
        driver.signal(Signal::SIGHUP);
        driver.wait("the SBOMs were read again", 1);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
}

#[test]
fn a_new_system_whose_sbom_is_refused_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /a}}\n");
    let with = |sbom: &Path| {
        let sbom = sbom.display();
        format!("systems: {{a: {{system: /a, sbom: [{sbom}]}}, b: {{system: /b, sbom: [{sbom}]}}}}")
    };
    let sbom = folder.path().join("list");
    let unchecked = "; until they can be read, no program is checked of: b";
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        reload(driver, &with(&sbom));
        driver.wait("the SBOMs are refused", 1);
        fs::write(&sbom, format!("{}\n", "1".repeat(64))).unwrap();
        reload(driver, &with(&sbom));
        driver.wait("the SBOMs were read again", 1);
        fs::write(&sbom, "spoilt").unwrap();
        reload(driver, &with(&sbom));
        driver.wait("the SBOMs are refused", 2);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let refused = details(&log, "configuration_refused");
    let of_b: Vec<bool> = refused
        .iter()
        .map(|details| details["reason"].as_str().unwrap().ends_with(unchecked))
        .collect();
    assert_eq!(of_b, [true, false], "{log}");
}

#[test]
fn a_severity_applies_to_the_next_record_and_so_does_a_switch() {
    const SYSTEMS: &str = "systems: {a: {system: /a}}\n";
    let with =
        |setting| format!("{SYSTEMS}default: {{events: {{configuration_reloaded: {setting}}}}}");
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), SYSTEMS);
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        reload(driver, &with("{severity: HIGH}"));
        reload(driver, &with("false"));
        reload(driver, &with("{severity: LOW}"));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let of_it = log.lines().filter(|line| line.contains("\"configuration_reloaded\""));
    let severities: Vec<Value> =
        of_it.map(|line| serde_json::from_str::<Value>(line).unwrap()["severity"].take()).collect();
    assert_eq!(severities, ["HIGH", "LOW"], "{log}");
}

#[test]
fn a_detector_that_needs_memory_is_switched_by_attaching_again() {
    const PATHS: [&str; 2] = ["file_content_change", "file_permissions_changed"];
    let folder = tempfile::tempdir().unwrap();
    let Some(ram) = machine(folder.path()) else {
        panoptes_needs::skip::test("xz");
        return;
    };
    let systems = format!("systems: {{a: {{system: {}, file_format: raw}}}}\n", ram.display());
    let file = configure(folder.path(), &systems);
    let off = |names: &[&str]| {
        let all: Vec<String> = names.iter().map(|name| format!("{name}: false")).collect();
        format!("{systems}default: {{events: {{{}}}}}", all.join(", "))
    };
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait(" is being watched, found in ", 1);
        // The detector is still on for others.
        reload(driver, &off(&["shell_command_executed", "process_hidden"]));
        reload(driver, &off(&PATHS));
        driver.wait("the configuration has changed; attaching again", 1);
        driver.wait(" is being watched, found in ", 2);
        // What was read of processes' own memory before is forgotten.
        let more =
            off(&PATHS).replace("default: {", "default: {user_memory: {command_lines: false}, ");
        reload(driver, &more);
        driver.wait("the configuration has changed; attaching again", 2);
        driver.wait(" is being watched, found in ", 3);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("attaching again"), 2, "{}", kept.text());
}

#[test]
fn patterns_of_secrets_apply_at_once() {
    const SYSTEMS: &str = "systems: {a: {system: /a}}\n";
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), SYSTEMS);
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("log_folder: log", "log_folder: log, redact: [a+]")).unwrap();
        driver.signal(Signal::SIGHUP);
        driver.wait("the configuration was read again: 1 key has changed", 1);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let reloaded = details(&log, "configuration_reloaded");
    assert_eq!(reloaded[0]["keys"], json!(["output.redact"]), "{log}");
    assert_eq!(reloaded[0]["needs_restart"], Value::Null, "{log}");
}
