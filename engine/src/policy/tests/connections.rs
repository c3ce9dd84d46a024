//! Alerts of connections: every value, and the reason.

use panoptes_records::activities::Activity;
use serde_json::{Value, json};

use super::{Reader, details, names, with_shell};
use crate::policy::PolicyConfig;
use crate::state::Thresholds;
use crate::state::tests::watch::limits;
use crate::state::tests::world::World;

fn reader(thresholds: Thresholds, status: bool) -> Reader {
    let mut config = PolicyConfig::default();
    config.set_enabled(Activity::TcpNetworkConnectionStatus, status);
    config.set_enabled(Activity::ProcessExecuted, false);
    config.thresholds = thresholds;
    let wanted = config.wanted(config.thresholds);
    let mut reader = Reader::with(&limits(), config);
    reader.state.set_thresholds(wanted);
    reader
}

fn with_bytes(bytes_in: u64) -> World {
    let mut world = with_shell();
    world.sockets[0].bytes_in = Some(bytes_in);
    world
}

#[test]
fn an_alert_of_a_connection_is_complete_and_has_a_reason() {
    let thresholds = Thresholds { bytes_in: 1000, duration_ns: 15_000_000, ..Default::default() };
    let mut reader = reader(thresholds, false);
    reader.scan(&World::default());
    reader.scan(&with_bytes(1000));
    let excessive = reader.scan(&with_bytes(1001));
    assert_eq!(names(&excessive), ["tcp_connection_excessive_data"]);
    let excessive = &excessive[0];
    assert_eq!(
        (&excessive["message_type"], &excessive["severity"]),
        (&json!("ALERT"), &json!("LOW"))
    );
    let connection = details(excessive, "network_connection_details");
    assert_eq!(connection["tcp_bytes_in"], 1001);
    assert_eq!(connection["tcp_connection_overall_duration_ns"], Value::Null);
    assert_eq!(details(excessive, "process_details")["process_name"], "bash");
    let descriptor = details(excessive, "file_descriptor_details");
    assert_eq!(descriptor["file_descriptor_name"], "socket:[13731]");
    let detection = &excessive["detection"];
    let reason = "1001 bytes came in from 203.0.113.9:4444 to 10.0.2.15:58848, more than the \
                  threshold of 1000 (bytes_in)";
    assert_eq!(detection["reason"], reason);
    assert_eq!(detection["mitre_attack"], json!(["T1105"]));
    assert_eq!(detection["first_seen"], connection["tcp_connection_creation_time_iso_8601_ns"]);

    let lasting = reader.scan(&with_bytes(1001));
    assert_eq!(names(&lasting), ["tcp_long_lasting_connection"]);
    let connection = details(&lasting[0], "network_connection_details");
    assert_eq!(connection["tcp_connection_overall_duration_ns"], 20_000_000);
    let reason = "the connection of 10.0.2.15:58848 with 203.0.113.9:4444 has lasted 0.020 s since \
                  it was first seen, more than the threshold of 0.015 s (duration)";
    assert_eq!(lasting[0]["detection"]["reason"], reason);
    assert_eq!(lasting[0]["detection"]["mitre_attack"], json!(["T1572", "T1095"]));
}

#[test]
fn connections_from_before_watching_may_be_older() {
    let thresholds = Thresholds { duration_ns: 5_000_000, ..Default::default() };
    let mut reader = reader(thresholds, false);
    reader.scan(&with_shell());
    let records = reader.scan(&with_shell());
    assert_eq!(names(&records), ["tcp_long_lasting_connection"]);
    let reason = records[0]["detection"]["reason"].as_str().unwrap();
    assert!(reason.ends_with("; it was there when watching began and may be older"), "{reason}");
}

#[test]
fn a_status_is_reported_where_it_is_wanted() {
    for wanted in [true, false] {
        let period = Thresholds { status_period_ns: Some(1), ..Default::default() };
        let mut reader = reader(period, wanted);
        reader.scan(&with_shell());
        let records = reader.scan(&with_shell());
        let expected: &[&str] = if wanted { &["tcp_network_connection_status"] } else { &[] };
        assert_eq!(names(&records), expected);
        for record in &records {
            assert_eq!(record["message_type"], "EVENT");
            assert_eq!(details(record, "process_details")["process_id"], 714);
        }
    }
}

#[test]
fn missed_processes_are_counted() {
    let mut reader = reader(Thresholds::default(), false);
    reader.policy.set_scan_interval(10_000_000);
    let mut world = World { forks: Some(1000), ..World::default() };
    reader.scan(&world);
    world.forks = Some(1100);
    let records: Vec<Value> = (0..200).flat_map(|_| reader.scan(&world)).collect();
    assert_eq!(names(&records), ["coverage_report"]);
    let details = details(&records[0], "system_activity_details");
    assert_eq!(
        (&details["processes_born"], &details["processes_seen"], &details["processes_unseen"]),
        (&json!(100), &json!(0), &json!(100))
    );
    assert_eq!(details["scan_interval_ns"], 10_000_000);
    assert_eq!(details["scan_interval_mean_ns"], 10_000_000);
}

#[test]
fn late_scans_are_counted() {
    let mut reader = reader(Thresholds::default(), false);
    reader.policy.set_scan_interval(4_000_000);
    let records: Vec<Value> = (0..1500).flat_map(|_| reader.scan(&World::default())).collect();
    assert_eq!(names(&records), ["coverage_report"]);
    let details = details(&records[0], "system_activity_details");
    assert_eq!(details["reason"], "scans are 10.0 ms apart on average, not 4.0 ms");
    // One scan each 10 ms for the 10 s of the first period.
    let expected = json!([4_000_000, 10_000_000, 10_000_000, 10_000_000, 1000]);
    let keys = ["", "mean_", "p99_", "max_"].map(|what| format!("scan_interval_{what}ns"));
    let found = keys.iter().map(String::as_str).chain(["scans"]).map(|key| &details[key]);
    assert_eq!(found.collect::<Vec<_>>(), expected.as_array().unwrap().iter().collect::<Vec<_>>());
    assert!(details.get("processes_born").is_none());
}
