//! The watcher's records, as far as they matter here.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::machines::METRONOME_PORT;
use crate::plants::Kind;

/// What a record shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A scan of the system.
    Scan,
    /// An alert that names these processes.
    Alert(Kind, Vec<u32>),
    /// Something that is not seen, and the processes that are named for it.
    Loss(Loss, Vec<u32>),
    /// That it is seen again.
    Restored(Loss),
    /// What the watcher reports about the system and itself.
    Figures(Value),
    /// That a system is scanned from now on.
    Ready,
    Other(String),
}

/// A reported loss of sight: the activity, and its gap or its limit.
pub(crate) type Loss = (String, Option<String>);

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) at: SystemTime,
    pub(crate) system: String,
    pub(crate) what: What,
}

/// Activities that say that something is not seen.
const LOSSES: [&str; 5] =
    [DEGRADED, "records_dropped", "details_gathering_failed", "system_stalled", "clock_tampered"];
/// That something begins to be missed, and the end of that.
const DEGRADED: &str = "coverage_degraded";
const RESTORED: &str = "coverage_restored";
/// The end of the names of those that say that a table is full.
const LIMIT: &str = "_limit_reached";

/// Whether a line may matter: most records are events, and reading all of them takes long.
fn may_matter(line: &str) -> bool {
    let Some((_, rest)) = line.split_once("\"activity_data\":{\"name\":\"") else { return true };
    let name = rest.split('"').next().unwrap_or_default();
    Kind::ALL.iter().any(|kind| kind.activity() == name)
        || LOSSES.contains(&name)
        || name.ends_with(LIMIT)
        || name.starts_with("coverage_")
        || matches!(
            name,
            "tcp_network_connection_status"
                | "host_initialization_successful"
                | "host_initialization_failed"
                | "events_summed_up"
        )
}

/// Reads a log; ignores a last line that is not whole.
pub(crate) fn read(log: &Path) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for line in BufReader::new(File::open(log)?).lines() {
        let line = line?;
        if may_matter(&line) {
            records.extend(serde_json::from_str(&line).ok().and_then(|value| record(&value)));
        }
    }
    Ok(records)
}

/// The record in a line.
fn record(value: &Value) -> Option<Record> {
    let at = time(value["occurred_message_time_iso_8601_ns"].as_str()?)?;
    let system = value["workload_information"]["unique_identifier"].as_str().unwrap_or_default();
    let data = &value["activity_data"];
    let name = data["name"].as_str()?;
    let details = &data["system_activity_details"];
    let text = |key: &str| details[key].as_str().map(str::to_owned);
    let kind = Kind::ALL.into_iter().find(|kind| kind.activity() == name);
    let what = if let Some(kind) = kind {
        let mut pids = Vec::new();
        collect_pids(data, &mut pids);
        What::Alert(kind, pids)
    } else if name == "tcp_network_connection_status" {
        let port = data["network_connection_details"]["destination_port"].as_u64();
        if port != Some(METRONOME_PORT.into()) {
            return None;
        }
        What::Scan
    } else if LOSSES.contains(&name) || name.ends_with(LIMIT) {
        let mut pids = Vec::new();
        collect_pids(data, &mut pids);
        What::Loss((name.to_owned(), text("gap").or_else(|| text("limit"))), pids)
    } else if name == RESTORED {
        What::Restored((DEGRADED.to_owned(), text("gap")))
    } else if name == "coverage_report" {
        What::Figures(details.clone())
    } else if name == "host_initialization_successful" {
        What::Ready
    } else {
        What::Other(name.to_owned())
    };
    Some(Record { at, system: system.to_owned(), what })
}

fn pid_of(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

/// Adds all processes that a part of a record names.
fn collect_pids(value: &Value, pids: &mut Vec<u32>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("process_id", pid) => pids.extend(pid_of(pid)),
                    ("process_ids", Value::Array(all)) => {
                        pids.extend(all.iter().filter_map(pid_of));
                    }
                    _ => collect_pids(value, pids),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_pids(value, pids)),
        _ => {}
    }
}

/// The time in a record: `2026-11-20T07:31:46.811203117+00:00`.
fn time(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let nanoseconds = number(20, 29)?;
    // Days since 1970 (the proleptic Gregorian calendar, with years that begin in March).
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let day = (year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day)
        .checked_sub(719_469)?;
    let seconds = ((day * 24 + hour) * 60 + minute) * 60 + second;
    let since = Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: u64, nanoseconds: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
    }

    #[test]
    fn times_are_read() {
        assert_eq!(time("1970-01-01T00:00:00.000000001+00:00"), Some(at(0, 1)));
        assert_eq!(time("2000-02-29T12:00:00.000000000+00:00"), Some(at(951_825_600, 0)));
        let expected = at(1_795_159_906, 811_203_117);
        assert_eq!(time("2026-11-20T07:31:46.811203117+00:00"), Some(expected));
        assert_eq!(time("soon"), None);
    }

    fn line(activity: &str, (key, details): (&str, &Value)) -> Value {
        json!({
            "occurred_message_time_iso_8601_ns": "1970-01-01T00:00:02.000000000+00:00",
            "workload_information": { "unique_identifier": "quiet-1" },
            "activity_data": { "name": activity, key: details },
        })
    }

    #[test]
    fn records_are_told_apart() {
        let what = |value: &Value| record(value).map(|record| record.what);
        let shell = json!({ "process_list": [{ "process_details": { "process_id": 71 } }] });
        let expected = What::Alert(Kind::ReverseShell, vec![71]);
        let shell = line("reverse_shell_detected", ("reverse_shell_details", &shell));
        assert_eq!(what(&shell), Some(expected));
        let status = |port: u16| {
            let details = json!({ "destination_port": port });
            line("tcp_network_connection_status", ("network_connection_details", &details))
        };
        assert_eq!(what(&status(METRONOME_PORT)), Some(What::Scan));
        assert_eq!(what(&status(443)), None);
        let details = json!({ "gap": "events", "process_id": 4, "process_ids": [4, 5] });
        let gap = line("coverage_degraded", ("system_activity_details", &details));
        let events = ("coverage_degraded".to_owned(), Some("events".to_owned()));
        assert_eq!(what(&gap), Some(What::Loss(events.clone(), vec![4, 4, 5])));
        let end =
            line("coverage_restored", ("system_activity_details", &json!({ "gap": "events" })));
        assert_eq!(what(&end), Some(What::Restored(events)));
        assert_eq!(
            record(&gap).map(|record| (record.at, record.system)),
            Some((at(2, 0), "quiet-1".to_owned()))
        );
    }

    #[test]
    fn events_are_skipped_before_they_are_read() {
        let text =
            |name: &str| format!(r#"{{"x":1,"activity_data":{{"name":"{name}","y":{{}}}}}}"#);
        for name in ["process_hidden", "coverage_degraded", "threads_limit_reached"] {
            assert!(may_matter(&text(name)), "{name}");
        }
        assert!(!may_matter(&text("file_descriptor_open")));
    }
}
