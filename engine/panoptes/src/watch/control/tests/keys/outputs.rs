//! The outputs on this machine, and the form of their records.

use serde_json::json;

use super::super::load::*;
use super::super::*;
use super::{Row, row};

const LOGS: &str = "each_key_of_the_logs_applies_to_what_follows_a_reload";
const PRESET: &str = "a_preset_applies_to_what_follows_a_reload";
const FILES: &str = "sizes_and_numbers_of_files_apply_to_the_next_file";

const ROWS: &[Row] = &[
    row("output.preset", "\"alerts\"", PRESET),
    row("output.header", "\"compact\"", LOGS),
    row("output.log_per_system", "true", LOGS),
    row("output.sync", "\"always\"", LOGS),
    row("output.log_folder", "\"other\"", LOGS),
    row("output.rotate_size", "\"64KiB\"", FILES),
    row("output.max_files", "3", FILES),
];

/// The rows of the table of keys.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    ROWS.iter().copied()
}

fn value(key: &str) -> Value {
    ROWS.iter().find(|row| row.key == key).unwrap().value()
}

/// Whether a record is an event of the machine.
fn is_event(record: &Value) -> bool {
    name(record) == "process_created"
}

#[test]
fn a_preset_applies_to_what_follows_a_reload() {
    let (folder, exit, kept) = watch(&[], REAL, |service| {
        service.set_and_scan(&[("output.preset", value("output.preset"))]);
        // What was collected before may still be on its way to the log.
        let quiet = service.live.act(|machine| machine.fork(1));
        let from = service.count();
        service.check("output.preset", false, (from, 20), |record| is_of(record, quiet));
        service.set_and_scan(&[("output.preset", Value::Null)]);
        service.record("event", from, is_event);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
    // Events that were on their way to the log have numbers, too.
    check_order(&logged(&folder.path().join("log")));
}

#[test]
fn each_key_of_the_logs_applies_to_what_follows_a_reload() {
    let (folder, exit, kept) = watch(&[], REAL, |service| {
        let lists = |record: &Value| record["bluefield_system_information"].to_string().len() > 100;
        service.record("list of interfaces", service.count(), lists);
        service.set_and_scan(&[("output.header", value("output.header"))]);
        let later = service.live.act(|machine| machine.fork(1));
        let from = service.count();
        let record = service.record("record", from, |record| is_of(record, later));
        assert!(!lists(&record), "{record}");
        service.set_and_scan(&[("output.header", Value::Null)]);
        service.record("list of interfaces", service.count(), lists);

        let own = service.driver.folder.join("log/systems/live/events.jsonl");
        assert!(!own.exists());
        service.set(&[("output.log_per_system", value("output.log_per_system"))]);
        let has_events = || own.exists() && records_of_whole_lines(&own).iter().any(is_event);
        service.driver.wait_for("log of the system", has_events);
        service.set(&[("output.log_per_system", json!(false))]);

        let log = service.driver.folder.join("log/events.jsonl").display().to_string();
        let syncs = || service.figures.counters(&log).map_or(0, |counters| counters.syncs());
        service.set(&[("output.sync", json!("never"))]);
        service.driver.wait_for("log without syncs", || syncs() == 0);
        service.set(&[("output.sync", value("output.sync"))]);
        service.driver.wait_for("syncs", || syncs() > 3);

        service.set(&[("output.log_folder", value("output.log_folder"))]);
        let other = service.driver.folder.join("other/events.jsonl");
        let has_events = || other.exists() && records_of_whole_lines(&other).iter().any(is_event);
        service.driver.wait_for("other log", has_events);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
    let mut all = logged(&folder.path().join("log"));
    all.extend(logged(&folder.path().join("other")));
    check_complete(&all);
}

/// The records of a file whose last line may not be whole yet.
fn records_of_whole_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn sizes_and_numbers_of_files_apply_to_the_next_file() {
    const SIZE: u64 = 64 << 10;
    let (folder, exit, kept) = watch(&[], REAL, |service| {
        let path = |number: u32| service.driver.folder.join(format!("log/events.jsonl.{number}"));
        let size = |number| fs::metadata(path(number)).map_or(0, |file| file.len());
        assert_eq!(size(1), 0);
        service.set(&[("output.rotate_size", value("output.rotate_size"))]);
        // The first one had the old size.
        service.driver.wait_for("files", || path(5).exists());
        // While all files get the next number, one of them is away.
        let is_right = |number| (SIZE / 2..=SIZE).contains(&size(number));
        service.driver.wait_for("files of that size", || (1..4).all(is_right));
        service.set(&[("output.max_files", value("output.max_files"))]);
        service.driver.wait_for("removal", || !path(3).exists() && path(2).exists());
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
    let left: Vec<Value> = logged(&folder.path().join("log"));
    assert!(!left.is_empty());
    check_row(&left);
}
