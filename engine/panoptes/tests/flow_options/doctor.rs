//! `panoptes doctor --flow`, with interfaces of its own.

use std::process::Command;

use panoptes_bounded as bounded;
use serde_json::Value;

use crate::network::{RIGHT, enter, ip};
use crate::programs::Folder;

/// The exit code, and the state of each check by its name.
fn examined(folder: &Folder, configuration: &str) -> (Option<i32>, Vec<(String, String)>) {
    let file = folder.write("argus.conf", configuration.as_bytes());
    let mut command = Command::new(env!("CARGO_BIN_EXE_panoptes"));
    let output = bounded::output(command.args(["doctor", "--json", "--flow", &file]));
    let output = output.expect("it runs");
    let object: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = object["checks"].as_array().expect("a list").iter();
    let text = |check: &Value, key: &str| check[key].as_str().expect("text").to_owned();
    let states = checks.map(|check| (text(check, "check"), text(check, "state")));
    (output.status.code(), states.collect())
}

#[test]
fn doctor_examines_the_interfaces_of_a_sensor() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let output = folder.text("records");
    let text = |name: &str| format!("ARGUS_INTERFACE={name}\nARGUS_OUTPUT_FILE={output}\n");
    let state = |states: &[(String, String)], what: &str| {
        let found = states.iter().find(|(name, _)| name == what);
        found.map(|(_, state)| state.clone())
    };
    let (code, states) = examined(&folder, &text(RIGHT[0]));
    assert_eq!(code, Some(0), "{states:?}");
    for (what, expected) in [
        ("configuration", "ok"),
        ("interface", "ok"),
        // A veth has no ring.
        ("receive ring", "unused"),
        ("libpcap", "unused"),
        ("XDP", "unused"),
        ("output", "ok"),
    ] {
        assert_eq!(state(&states, what).as_deref(), Some(expected), "{what}: {states:?}");
    }
    assert!(state(&states, "offloads").is_some() && state(&states, "capabilities").is_some());
    ip(&format!("link set {} down", RIGHT[0]));
    let (code, states) = examined(&folder, &text(RIGHT[0]));
    assert_eq!((code, state(&states, "interface").as_deref()), (Some(0), Some("warning")));
    let (code, states) = examined(&folder, &text("no-such0"));
    assert_eq!((code, state(&states, "interface").as_deref()), (Some(1), Some("obstacle")));
}
