//! Each key that SIGHUP changes, and what shows that it does, while records flow.
//!
//! [`ROWS`] and the rows of the modules are one table: the key, its other value, and the test that
//! has the configuration read again with that value and checks the effect. A key without a row
//! fails a test.

mod detectors;
mod events;
mod exceptions;
mod limits;
mod outputs;
mod receivers;
mod service;
mod tls;
pub(super) mod turn;

use serde_json::Value;

use super::*;
use crate::config::{Effect, keys};

/// A key, and what shows its effect.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// As [`keys`] has it; `*` stands for an activity.
    key: &'static str,
    /// Another value of it, as JSON.
    to: &'static str,
    /// The test that shows the effect.
    test: &'static str,
}

const fn row(key: &'static str, to: &'static str, test: &'static str) -> Row {
    Row { key, to, test }
}

impl Row {
    fn value(&self) -> Value {
        serde_json::from_str(self.to).unwrap()
    }
}

/// Keys that tests with values of their own show.
const ROWS: &[Row] = &[
    row("service.guest_users", "", "a_guest_whose_user_is_not_allowed_any_more_is_given_up"),
    row(
        "default.events.ebpf_program_dangerous.allowed_tags",
        "",
        "allowed_programs_are_named_by_their_tags",
    ),
    row("auto_scan", "", "found_guests_end_with_auto_scan"),
    row("auto_scan.include", "", OF_GUESTS),
    row("auto_scan.include[0].name", "", OF_GUESTS),
    row("auto_scan.include[0].uuid", "", OF_GUESTS),
    row("auto_scan.include[0].user", "", OF_GUESTS),
    row("auto_scan.include[0].memory", "", OF_GUESTS),
    row("auto_scan.exclude", "", OF_GUESTS),
    row("flows.interfaces", "", "a_sensor_comes_and_goes_and_a_refused_one_changes_nothing"),
    row("flows.filter", "", OF_FLOWS),
    row("flows.system", "", "the_scanner_of_the_service_and_the_sensor_share_a_system"),
    row("flows.application", "", OF_FLOWS),
    row("flows.sequence", "", OF_FLOWS),
    row("flows.jitter", "", OF_FLOWS),
    row("flows.packet_sizes", "", OF_FLOWS),
    row("flows.hardware_addresses", "", OF_FLOWS),
    row("flows.user_data", "", OF_FLOWS),
    row("flows.status_interval", "", OF_FLOWS),
    row("flows.management_interval", "", OF_FLOWS),
    row("flows.flows", "", OF_FLOWS),
    row("flows.promiscuous", "", OF_FLOWS),
    row("flows.threads", "", "sensors_of_several_threads_follow_one_another"),
    row(
        "output.metrics.address",
        "",
        "metrics_move_to_another_port_and_a_taken_one_changes_nothing",
    ),
];

const OF_FLOWS: &str = "each_key_of_flows_applies_to_the_sensor_that_follows";
const OF_GUESTS: &str = "guests_come_and_go_with_the_patterns_of_auto_scan";
const OF_A_MACHINE: &str = "each_activity_of_a_machine_is_switched_and_weighed_by_a_reload";
const OF_THE_SERVICE: &str = "each_activity_of_the_service_is_switched_and_weighed_by_a_reload";

/// What no synthetic machine causes: shells have no histories in it, its clock is honest, nobody
/// sees its packets, nobody tests its outputs, no cause repeats for a minute, and it has neither
/// code nor eBPF.
const NOT_CAUSED: [&str; 20] = [
    "shell_command_executed",
    "shell_history_cleared",
    "shell_history_disabled",
    "file_content_change",
    "file_permissions_changed",
    "clock_tampered",
    "kernel_hook_detected",
    "kernel_code_without_owner",
    "kernel_text_modified",
    "hidden_connection_detected",
    "hidden_listener_detected",
    "ebpf_program_loaded",
    "ebpf_program_unloaded",
    "ebpf_program_attached",
    "ebpf_program_detached",
    "ebpf_program_hidden",
    "ebpf_program_dangerous",
    "flows_limit_reached",
    "test_alert",
    "alerts_summed_up",
];

/// The tests of the settings of activities.
fn test_of_activity(activity: &str, setting: &str) -> Option<&'static str> {
    let of_packets = activity.starts_with("hidden_") || activity == "flows_limit_reached";
    let others = ["clock_tampered", "test_alert", "alerts_summed_up"];
    let of_code = activity.starts_with("kernel_") || activity.starts_with("ebpf_program_");
    let has_memory = !others.contains(&activity) && !of_packets && !of_code;
    match setting {
        _ if turn::CAUSED.contains(&activity) => Some(OF_A_MACHINE),
        _ if events::of_the_service().contains(&activity) => Some(OF_THE_SERVICE),
        "enabled" if NOT_CAUSED.contains(&activity) && has_memory => {
            Some("a_detector_that_needs_memory_is_switched_by_attaching_again")
        }
        _ if NOT_CAUSED.contains(&activity) => {
            Some("each_activity_has_its_own_place_in_what_a_scanner_gets")
        }
        _ => None,
    }
}

fn all() -> Vec<Row> {
    let mut all = ROWS.to_vec();
    all.extend(detectors::rows());
    all.extend(exceptions::rows());
    all.extend(limits::rows());
    all.extend(outputs::rows());
    all.extend(receivers::rows());
    all.extend(service::rows());
    all
}

#[test]
fn a_test_shows_the_effect_of_each_key_that_a_reload_changes() {
    let rows = all();
    let mut missing = Vec::new();
    let mut shown = Vec::new();
    for key in keys() {
        if key.effect() == Effect::Restart || key.form.is_none() {
            continue;
        }
        let of_it = key.path.strip_prefix("default.events.").and_then(|path| path.split_once('.'));
        let test = of_it.and_then(|(activity, setting)| match setting {
            "enabled" | "severity" => test_of_activity(activity, setting),
            _ => None,
        });
        let row = rows.iter().find(|row| row.key == key.path);
        match test.or(row.map(|row| row.test)) {
            Some(test) => shown.push(test),
            None => missing.push(key.path.clone()),
        }
    }
    assert!(missing.is_empty(), "no test shows the effect of {missing:?}");
    for row in &rows {
        assert!(keys().iter().any(|key| key.path == row.key), "there is no key {}", row.key);
    }
    let sources = sources(Path::new(env!("CARGO_MANIFEST_DIR")));
    shown.sort_unstable();
    shown.dedup();
    for test in shown {
        let is_test = sources.iter().any(|text| text.contains(&format!("fn {test}(")));
        assert!(is_test, "there is no test {test}");
    }
}

/// The sources below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
    found
}
