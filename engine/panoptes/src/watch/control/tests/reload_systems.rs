//! Systems that a changed configuration adds, changes and removes.

use panoptes_bounded as bounded;
use panoptes_sources::file_identity;

use super::reload::{details, refuse, reload, reload_whole};
use super::*;
use crate::watch::finder::Finder;

const WATCHED: &str = " is being watched, found in ";
const REMOVED: &str = "it is not watched any more";
const AGAIN: &str = "the configuration has changed; attaching again";

/// Finds this guest, and looks for no other.
fn meet(control: &mut ControlThread, guest: Guest) {
    control.systems.finder = Some(Finder::new(Instant::now() + AGES));
    control.systems.update_guests(&mut control.cx, &[guest]);
}

fn systems(all: &[String]) -> String {
    format!("systems: {{{}}}\n", all.join(", "))
}

#[test]
fn systems_are_added_and_removed_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ram) = machine(folder.path()) else {
        panoptes_needs::skip::test("xz");
        return;
    };
    let copy = folder.path().join("copy");
    fs::copy(&ram, &copy).unwrap();
    let of = |name: &str, ram: &Path| format!("{name}: {{system: {}}}", ram.display());
    let (a, b) = (of("a", &ram), of("b", &copy));
    let file = configure(folder.path(), &systems(std::slice::from_ref(&a)));
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait(&format!("a: Linux 6.1.0-50-amd64{WATCHED}"), 1);
        reload(driver, &systems(&[a.clone(), b.clone()]));
        driver.wait(WATCHED, 2);
        reload(driver, &systems(std::slice::from_ref(&b)));
        driver.wait(REMOVED, 1);
        // One of another name, at the same address, begins when the old one has ended.
        reload(driver, &systems(&[of("c", &copy)]));
        driver.wait(WATCHED, 3);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let text = kept.text();
    let order: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(WATCHED) || line.contains(REMOVED))
        .map(|line| line.split(": ").find(|part| part.len() == 1).unwrap_or(line))
        .collect();
    assert_eq!(order, ["a", "b", "a", "b", "c"], "{text}");
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let all: Vec<Value> =
        details(&log, "configuration_reloaded").iter().map(|one| one["keys"].clone()).collect();
    let expected = [
        serde_json::json!(["systems.b"]),
        serde_json::json!(["systems.a"]),
        serde_json::json!(["systems.c", "systems.b"]),
    ];
    assert_eq!(all, expected, "{log}");
    // What the user wants is no failure.
    assert!(details(&log, "details_gathering_failed").is_empty(), "{log}");
}

#[test]
fn other_limits_have_a_system_attached_to_again_and_scanned_within_them() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ram) = machine(folder.path()) else {
        panoptes_needs::skip::test("xz");
        return;
    };
    let with = |more: &str| systems(&[format!("a: {{system: {}{more}}}", ram.display())]);
    let file = configure(folder.path(), &with(", limits: {processes: 16, threads: 64}"));
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait(WATCHED, 1);
        driver.wait_for("record", || driver.log().contains("\"process_limit_reached\""));
        // More than the scanners' memory was made for.
        reload(driver, &with(", limits: {processes: 2000, threads: 4000}"));
        driver.wait(AGAIN, 1);
        driver.wait(WATCHED, 2);
        sleep(Duration::from_millis(300));
        reload(driver, &with(", limits: {processes: 2000, threads: 4000}"));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!((kept.count(AGAIN), kept.count(WATCHED)), (1, 2), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let after = log.split_once("\"configuration_reloaded\"").unwrap().1;
    assert!(!after.contains("limit_reached"), "{after}");
    assert!(details(&log, "details_gathering_failed").is_empty(), "{log}");
}

#[test]
fn limits_that_need_more_memory_than_there_is_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /a}}");
    let text = fs::read_to_string(&file).unwrap();
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
        let many: Vec<String> = (0..200).map(|at| format!("s{at}: {{system: /{at}}}")).collect();
        let many = format!(
            "{}default: {{limits: {{processes: 4000000, threads: 4000000}}}}\n",
            systems(&many)
        );
        let text = text.replace("systems: {a: {system: /a}}", &many);
        refuse(driver, &text, " of memory more, and this machine has ");
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
}

/// A guest that was found, and has a name and settings of its own from now on.
#[test]
fn a_found_guest_that_gets_a_name_is_watched_once() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ram) = machine(folder.path()) else {
        panoptes_needs::skip::test("xz");
        return;
    };
    let pid = std::process::id();
    let guest = Guest {
        pid,
        name: Some("web".to_owned()),
        user: "root".to_owned(),
        files: vec![file_identity(&ram).unwrap()],
        ..Guest::default()
    };
    let file = configure(folder.path(), "");
    let text = fs::read_to_string(&file).unwrap().replace("auto_scan: false", "auto_scan: true");
    fs::write(&file, &text).unwrap();
    let found = guest.clone();
    let work = WorkerJobs { search: search_recorded, ..REAL };
    let meet = move |control: &mut ControlThread, _: &Signals| meet(control, found);
    let (exit, kept, _) = run_changed(&folder, &file, work, meet, |driver| {
        driver.wait(WATCHED, 1);
        reload_whole(driver, &format!("{text}systems: {{own: {{system: {}}}}}\n", ram.display()));
        driver.wait(WATCHED, 2);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let text = kept.text();
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what}: {text}"));
    let removed = place(&format!("web: {}", "the configuration has changed; it is not watched"));
    assert!(removed < place("own: Linux 6.1"), "{text}");
    assert_eq!(kept.count("found as qemu:"), 1, "{text}");
}

/// A source belongs to an allowed user, also after the list of users has changed.
#[test]
fn a_guest_whose_user_is_not_allowed_any_more_is_given_up() {
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir().unwrap();
    if !nix::unistd::geteuid().is_root() {
        panoptes_needs::skip::test("root");
        return;
    }
    let Some(_ram) = machine(folder.path()) else {
        panoptes_needs::skip::test("xz");
        return;
    };
    let mut process = Command::new("sleep").arg("1000").uid(NOBODY).spawn().unwrap();
    let guest = Guest { pid: process.id(), name: Some("web".to_owned()), ..Guest::default() };
    let file = configure(folder.path(), "");
    let text = fs::read_to_string(&file).unwrap().replace("auto_scan: false", "auto_scan: true");
    let with = |user: &str| {
        text.replace("state_dir: state", &format!("state_dir: state, guest_users: [{user}]"))
    };
    fs::write(&file, with("'65534'")).unwrap();
    let work = WorkerJobs { search: search_recorded, ..REAL };
    let meet = move |control: &mut ControlThread, _: &Signals| meet(control, guest);
    let (exit, kept, _) = run_changed(&folder, &file, work, meet, |driver| {
        driver.wait(WATCHED, 1);
        reload_whole(driver, &with("'65534', daemon"));
        assert_eq!(driver.kept.count(AGAIN), 0);
        reload_whole(driver, &with("daemon"));
        driver.wait(AGAIN, 1);
    });
    process.kill().unwrap();
    bounded::wait(&mut process).unwrap();
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
}

/// A guest that the patterns do not take any more is not watched, and another was not at all.
#[test]
fn guests_come_and_go_with_the_patterns_of_auto_scan() {
    let folder = tempfile::tempdir().unwrap();
    let guest = |pid, name: &str| Guest { pid, name: Some(name.to_owned()), ..Guest::default() };
    let guests = [guest(4_200_001, "web"), guest(4_200_002, "web-test")];
    let file = configure(folder.path(), "systems: {a: {system: /a}}\n");
    let off = fs::read_to_string(&file).unwrap();
    let of = |patterns: &str| off.replace("auto_scan: false", &format!("auto_scan: {patterns}"));
    fs::write(&file, of("{include: ['w*'], exclude: ['*-test']}")).unwrap();
    let meet = move |control: &mut ControlThread, _: &Signals| {
        control.systems.finder = Some(Finder::new(Instant::now() + AGES));
        control.systems.update_guests(&mut control.cx, &guests);
    };
    let (exit, kept, _) = run_changed(&folder, &file, REAL, meet, |driver| {
        driver.wait("web-test (qemu:4200002): auto_scan leaves it out", 1);
        driver.wait("qemu:4200001", 2);
        reload_whole(
            driver,
            &of("{include: [{name: 'w*', memory: '>1GiB'}], exclude: ['*-test']}"),
        );
        driver.wait_for("end", || driver.kept.count(REMOVED) + driver.kept.count("gone") > 0);
    });
    let text = kept.text();
    assert_eq!(exit, Ok(Exit::Done), "{text}");
    assert!(!text.contains("found as qemu:4200002"), "{text}");
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let keys = details(&log, "configuration_reloaded")[0]["keys"].clone();
    assert_eq!(keys, serde_json::json!(["auto_scan.include[0].memory"]), "{log}");
}

/// Without `auto_scan`, guests that were found are not watched any more, and with it they are.
#[test]
fn found_guests_end_with_auto_scan() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest { pid: 4_200_001, name: Some("web".to_owned()), ..Guest::default() };
    let file = configure(folder.path(), "systems: {a: {system: /a}}\n");
    let off = fs::read_to_string(&file).unwrap();
    let on = off.replace("auto_scan: false", "auto_scan: true");
    fs::write(&file, &on).unwrap();
    let meet = move |control: &mut ControlThread, _: &Signals| meet(control, guest);
    let (exit, kept, _) = run_changed(&folder, &file, REAL, meet, |driver| {
        driver.wait("qemu:4200001", 2);
        reload_whole(driver, &off);
        driver.wait_for("end", || driver.kept.count(REMOVED) + driver.kept.count("gone") > 0);
        reload_whole(driver, &on);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let all: Vec<Value> =
        details(&log, "configuration_reloaded").iter().map(|one| one["keys"].clone()).collect();
    assert_eq!(all, [serde_json::json!(["auto_scan"]), serde_json::json!(["auto_scan"])], "{log}");
}
