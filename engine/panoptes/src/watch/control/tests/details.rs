//! What is reported when the service is ready, and when something could not be found out.

use super::*;
use crate::watch::finder::Finder;

/// Makes it a service that looks for guests, and has no other systems.
fn look_for_guests(control: &mut Control) {
    control.candidates.clear();
    // This machine may have guests, so no look is due.
    control.finder = Some(Finder::new(Instant::now() + AGES));
}

#[test]
fn a_node_without_guests_is_ready_after_the_first_look() {
    let ready = "\"service_initialization_successful\"";
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /a}}");
    let unknown = |control: &mut Control, _: &Signals| look_for_guests(control);
    let (exit, kept, _) = run_changed(&folder, &file, REAL, unknown, |driver| {
        driver.wait_for("record", || driver.log().contains("service_initialization_started"));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = folder.path().join("log/events.jsonl");
    assert!(!fs::read_to_string(&log).unwrap().contains(ready));
    let none = |control: &mut Control, _: &Signals| {
        look_for_guests(control);
        control.update_guests(&[]);
    };
    let (exit, kept, _) = run_changed(&folder, &file, REAL, none, |driver| {
        driver.wait_for("record", || driver.log().contains(ready));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(fs::read_to_string(log).unwrap().matches(ready).count(), 1);
}
