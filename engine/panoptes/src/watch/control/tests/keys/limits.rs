//! Limits.

use panoptes_engine::limits::{Limit, Limits};
use serde_json::json;

use super::super::load::*;
use super::super::*;
use super::{Row, row};

const TEST: &str = "each_limit_applies_after_a_reload";

const ROWS: &[Row] = &[
    row("default.limits.processes", "4", TEST),
    row("default.limits.threads", "1", TEST),
    row("default.limits.file_descriptors", "4", TEST),
    row("default.limits.vmas", "8", TEST),
    row("default.limits.connections", "1", TEST),
    row("default.limits.containers", "1", TEST),
    row("default.limits.string_length", "16", TEST),
    row("default.limits.events_per_second", "5", TEST),
];

/// It stands for all of these.
const PRESET: Row = row(
    "default.limits.preset",
    "\"small\"",
    "a_preset_stands_for_all_limits_that_are_not_written_beside_it",
);

/// The rows of the table of keys.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    ROWS.iter().copied().chain([PRESET])
}

#[test]
fn each_limit_applies_after_a_reload() {
    let is_limit = |row: &&Row| row.key.starts_with("default.limits.");
    assert_eq!(ROWS.iter().filter(is_limit).count(), Limits::SETTINGS.len());
    under_load(&[], REAL, |service| {
        let mut back: Option<(&str, Value)> = None;
        for row in ROWS {
            let from = service.count();
            let old = (row.key, service.value(row.key));
            let keys: Vec<_> =
                back.replace(old).into_iter().chain([(row.key, row.value())]).collect();
            service.set_and_attach(&keys);
            let limit = Limit::ALL.into_iter().find(|limit| row.key.ends_with(limit.key()));
            if let Some(limit) = limit {
                let activity = limit.activity().name();
                let record = service.record(activity, from, |record| name(record) == activity);
                let details = &record["activity_data"]["system_activity_details"];
                assert!(details.to_string().contains(&row.value().to_string()), "{record}");
            }
        }
        // The last of them, and what the one before was set back to.
        let from = service.count();
        let pid = service.live.act(|machine| {
            let pid = machine.fork(1);
            machine.exec(pid, "/usr/bin/many", &["many", &"x".repeat(100)]);
            for number in 0..50 {
                machine.open(pid, &format!("/tmp/{number}"));
            }
            pid
        });
        let of_it = |activity: &'static str| {
            move |record: &Value| name(record) == activity && is_of(record, pid)
        };
        service.record("events_summed_up", from, of_it("events_summed_up"));
        let opened = service.records(from, of_it("file_descriptor_open"));
        assert!(opened.len() <= 5, "{}", opened.len());
        let arguments = |record: &Value| {
            let details = &record["activity_data"]["process_details"];
            details["process_command_line_arguments"].as_str().unwrap_or_default().len()
        };
        assert!(opened.iter().all(|record| arguments(record) > 100), "{opened:?}");
        service.set_and_attach(&[("default.limits.string_length", json!(16))]);
        let from = service.count();
        let pid = service.live.act(|machine| {
            let pid = machine.fork(1);
            machine.exec(pid, "/usr/bin/long", &["long", &"x".repeat(100)]);
            pid
        });
        let record = service.record("record", from, |record| is_of(record, pid));
        assert!((1..=20).contains(&arguments(&record)), "{record}");
    });
}
