//! Thresholds of connections: each record is compared with a scan of the same socket, which other
//! tests compare with the truth inside the guest.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use panoptes_rig::Guest;
use serde_json::Value;

use crate::record::{Record, only};
use crate::watcher::{PATIENCE, Watcher};
use crate::{barrier, inside};

const EXCESSIVE: &str = "tcp_connection_excessive_data";
const LONG: &str = "tcp_long_lasting_connection";
const STATUS: &str = "tcp_network_connection_status";
/// The number of bytes that are sent; one less is the threshold of both directions.
pub(crate) const SENT: u64 = 300_000;
const LASTS: Duration = Duration::from_secs(3);

/// Keys that depend on the time of the scan, and not on the socket.
const TIMES: [&str; 2] =
    ["tcp_connection_creation_time_iso_8601_ns", "tcp_connection_overall_duration_ns"];
const COUNTERS: [&str; 6] = [
    "tcp_bytes_in",
    "tcp_bytes_out",
    "tcp_segments_in",
    "tcp_segments_out",
    "tcp_average_bytes_in",
    "tcp_average_bytes_out",
];

/// Writes a configuration with thresholds that one connection of the test exceeds. Only its
/// duration does not.
pub(crate) fn with_thresholds(folder: &Path) -> PathBuf {
    let configuration = folder.join("thresholds.yaml");
    write_thresholds(&configuration, Duration::from_hours(1));
    configuration
}

fn write_thresholds(configuration: &Path, lasts: Duration) {
    let (bytes, seconds) = (SENT - 1, lasts.as_secs());
    let text = format!(
        "default:\n  events:\n    {EXCESSIVE}: {{ bytes_in: {bytes}, bytes_out: {bytes} }}\n    \
         {LONG}: {{ duration: {seconds}s }}\n    {STATUS}: {{ enabled: true, period: 500ms }}\n"
    );
    std::fs::write(configuration, text).unwrap();
}

/// One end of a connection: the end whose attribute `key` is `port`.
struct End<'a> {
    key: &'a str,
    port: u64,
}

impl End<'_> {
    fn is_in(&self, details: &Value) -> bool {
        details[self.key] == self.port
    }

    fn is_of(&self, record: &Record, name: &str) -> bool {
        record.is(name) && self.is_in(record.details("network_connection"))
    }
}

/// Scans until a connection is idle: all bytes were read and acknowledged, and two scans with a
/// barrier between them have the same counters for both ends.
fn settled(guest: &mut Guest, watcher: &Watcher, ends: &[End<'_>], port: u64) -> Vec<Value> {
    let of = |lines: &[Value]| -> Vec<Value> {
        let is_it =
            |line: &&Value| line["kind"] == "connection" && ends.iter().any(|end| end.is_in(line));
        let mut its: Vec<Value> = lines.iter().filter(is_it).cloned().collect();
        for line in its.iter_mut().filter_map(Value::as_object_mut) {
            line.retain(|key, _| !TIMES.contains(&key.as_str()));
        }
        its
    };
    let begin = Instant::now();
    loop {
        // The columns after the protocol are Recv-Q and Send-Q.
        let queues = format!("netstat -tn | grep :{port} | grep -qv \"^tcp  *0  *0 \"");
        inside::until(guest, &format!("! {queues}"));
        let before = of(&inside::scan(guest, "connections,files"));
        barrier::passed(guest, watcher);
        let lines = inside::scan(guest, "connections,files");
        if before == of(&lines) {
            return lines;
        }
        assert!(begin.elapsed() < PATIENCE, "it never comes to rest: {before:?}");
    }
}

/// Compares the alerts and the status of a connection with a scan. [`SENT`] bytes were sent to that
/// port, none in the other direction, and the connection is idle now.
pub(crate) fn are_reported_by_value(
    guest: &mut Guest,
    watcher: &Watcher,
    configuration: &Path,
    port: u64,
) {
    let ends = [End { key: "destination_port", port }, End { key: "source_port", port }];
    for end in &ends {
        watcher.wait_for("much went over it", |record| end.is_of(record, EXCESSIVE));
    }
    let lines = settled(guest, watcher, &ends, port);
    let before = watcher.seen();
    // Set the threshold of the duration only now: a slow guest could still send bytes after it.
    assert!(!watcher.records().iter().any(|record| record.is(LONG)));
    write_thresholds(configuration, LASTS);
    watcher.reload();
    for end in &ends {
        watcher.wait_for("it lasts", |record| end.is_of(record, LONG));
        watcher.wait_for_since(before, "its status", |record| end.is_of(record, STATUS));
        let is_it = |line: &&Value| line["kind"] == "connection" && end.is_in(line);
        let line =
            lines.iter().find(|line| is_it(line) && line["connection_state"] == "ESTABLISHED");
        let line = line.expect("a scan shows it");
        let records = watcher.records();
        let status = records.iter().rev().find(|record| end.is_of(record, STATUS)).unwrap();
        let excessive = only(&records, "much", |record| end.is_of(record, EXCESSIVE));
        let long = only(&records, "long", |record| end.is_of(record, LONG));
        let created =
            only(&records, "it", |record| end.is_of(record, "network_connection_created"));
        for record in [status, excessive, long] {
            println!("{record}");
            same_as_in_scan(record, line, &lines);
            let created = created.details("network_connection");
            let details = record.details("network_connection");
            assert_eq!(details[TIMES[0]], created[TIMES[0]], "{record}");
        }
        assert_reasons(excessive, long);
    }
}

/// Compares all attributes of a record's connection and of its descriptor with the lines of a scan.
fn same_as_in_scan(record: &Record, line: &Value, lines: &[Value]) {
    let details = record.details("network_connection").as_object().unwrap();
    for (key, value) in details.iter().filter(|(key, _)| !TIMES.contains(&key.as_str())) {
        // The alert precedes the last bytes, and then the sending process may hold the connection
        // too.
        if record.is(EXCESSIVE) && COUNTERS.contains(&key.as_str()) {
            assert!(value.as_u64() <= line[key].as_u64(), "{key} of {record}");
        } else if record.is(EXCESSIVE) && key == "other_holders" {
            let holders = value.as_array().unwrap();
            let child = holders.iter().all(|holder| holder["process_id"] != line["process_id"]);
            assert!(child && holders.len() <= 2, "{key} of {record}");
        } else {
            assert_eq!(*value, line[key], "{key} of {record}");
        }
    }
    let others = ["kind", "process_id"];
    for (key, _) in line.as_object().unwrap() {
        assert!(others.contains(&key.as_str()) || details.contains_key(key), "{key} of {record}");
    }
    assert_eq!(record.process()["process_id"], line["process_id"], "{record}");
    assert_eq!(
        record.process()["process_network_namespace"],
        line["network_namespace"],
        "{record}"
    );
    let descriptor = record.details("file_descriptor").as_object().unwrap();
    let is_it = |file: &&Value| {
        file["kind"] == "file_descriptor"
            && file["process_id"] == line["process_id"]
            && file["file_descriptor_index"] == line["file_descriptor_id"]
    };
    let file = lines.iter().find(is_it).expect("a scan shows the descriptor");
    for (key, value) in descriptor {
        assert_eq!(*value, file[key], "{key} of {record}");
    }
    assert_eq!(
        descriptor["file_descriptor_name"].as_str().unwrap().split(':').next(),
        Some("socket")
    );
}

fn assert_reasons(excessive: &Record, long: &Record) {
    let bytes =
        |record: &Record, key: &str| record.details("network_connection")[key].as_u64().unwrap();
    let went_out = bytes(excessive, "tcp_bytes_out") > bytes(excessive, "tcp_bytes_in");
    let (key, word) = if went_out { ("tcp_bytes_out", "out") } else { ("tcp_bytes_in", "in") };
    assert!(bytes(excessive, key) >= SENT, "{excessive}");
    let technique = if went_out { "T1041" } else { "T1105" };
    for (record, start, technique) in [
        (excessive, format!("{} bytes ", bytes(excessive, key)), technique),
        (long, "the connection of ".to_owned(), "T1572"),
    ] {
        let detection = &record.0["detection"];
        let reason = detection["reason"].as_str().unwrap();
        assert!(reason.starts_with(&start), "{record}");
        let threshold = if record.is(LONG) {
            format!("more than the threshold of {}.000 s (duration)", LASTS.as_secs())
        } else {
            format!("more than the threshold of {} (bytes_{word})", SENT - 1)
        };
        assert!(reason.contains(&threshold), "{record}");
        assert_eq!(detection["mitre_attack"][0], technique, "{record}");
        assert_eq!(detection["attack_version"], "19");
        assert_eq!(detection["sensor"], "PANOPTES");
        assert_eq!(detection["confidence"], "high");
        assert_eq!(detection["scans_confirmed"], 1);
        assert_eq!(detection["first_seen"], record.details("network_connection")[TIMES[0]]);
        assert_eq!(record.0["message_type"], "ALERT");
        assert_eq!(record.0["severity"], "LOW");
    }
    let lasted = long.details("network_connection")[TIMES[1]].as_u64().unwrap();
    assert!(u128::from(lasted) > LASTS.as_nanos(), "{long}");
}
