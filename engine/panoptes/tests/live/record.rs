//! One record, as a reader of the log parses it.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// How long a record about a file's size or its changed content waits for the hashes.
pub(crate) const HASHES_NS: i64 = 2_000_000_000;

/// One record.
#[derive(Clone, Debug)]
pub(crate) struct Record(pub(crate) Value);

/// The identity of a process in records.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Life {
    pub(crate) process_id: u64,
    /// The time of its creation.
    pub(crate) created: String,
}

impl Life {
    /// Reads `process_details`, or a line of `panoptes scan`; `None` if the time is unknown.
    pub(crate) fn of(details: &Value) -> Option<Self> {
        let process_id = number(&details["process_id"])?;
        let created = details["process_creation_time_iso_8601_ns"].as_str()?.to_owned();
        Some(Self { process_id, created })
    }
}

/// A number, which is a string in records as DOCA Argus writes them.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

impl Record {
    pub(crate) fn parse(line: &str) -> Self {
        match serde_json::from_str(line) {
            Ok(value) => Self(value),
            Err(error) => panic!("not a record ({error}): {line}"),
        }
    }

    /// `activity_data.name`
    pub(crate) fn name(&self) -> &str {
        self.0["activity_data"]["name"].as_str().unwrap_or("")
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name() == name
    }

    /// The details object of that name; null if the record has none.
    pub(crate) fn details(&self, of: &str) -> &Value {
        &self.0["activity_data"][format!("{of}_details")]
    }

    pub(crate) fn process(&self) -> &Value {
        self.details("process")
    }

    pub(crate) fn process_id(&self) -> u64 {
        number(&self.process()["process_id"]).unwrap_or(0)
    }

    pub(crate) fn process_name(&self) -> &str {
        self.process()["process_name"].as_str().unwrap_or("")
    }

    /// The process of the record, if any.
    pub(crate) fn life(&self) -> Option<Life> {
        Life::of(self.process())
    }

    /// The name of the machine; empty for a record about the service itself.
    pub(crate) fn system(&self) -> &str {
        self.0["workload_information"]["unique_identifier"].as_str().unwrap_or("")
    }

    /// The machine and its boot.
    pub(crate) fn boot(&self) -> String {
        format!("{} {}", self.system(), self.0["workload_information"]["boot_uuid"])
    }

    pub(crate) fn time(&self) -> &str {
        self.0["occurred_message_time_iso_8601_ns"].as_str().unwrap_or("")
    }

    /// The time from `time` to the record, in nanoseconds.
    pub(crate) fn nanoseconds_after(&self, time: &Value) -> i64 {
        nanoseconds(self.time()) - nanoseconds(time.as_str().expect("a time"))
    }

    /// `system_activity_details.reason`
    pub(crate) fn reason(&self) -> &str {
        self.details("system_activity")["reason"].as_str().unwrap_or("")
    }
}

impl fmt::Display for Record {
    /// The parts of a record that matter when a test fails.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.time(), self.system(), self.0["activity_data"])?;
        if !self.0["detection"].is_null() {
            write!(f, " {}", self.0["detection"])?;
        }
        Ok(())
    }
}

/// Converts `2025-10-22T07:31:46.123456789+00:00` to nanoseconds since 1970.
pub(crate) fn nanoseconds(text: &str) -> i64 {
    let number = |at: core::ops::Range<usize>| text[at].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    // Days from civil: years begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let seconds = number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    ((days - 719_468) * 86_400 + seconds) * 1_000_000_000 + number(20..29)
}

/// Records, one a line, for the message of an assertion.
pub(crate) fn list<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let lines: Vec<String> = records.into_iter().map(|record| format!("\n    {record}")).collect();
    lines.concat()
}

/// The only record that matches.
#[track_caller]
pub(crate) fn only<'a>(
    records: &'a [Record],
    what: &str,
    matches: impl Fn(&Record) -> bool,
) -> &'a Record {
    let found: Vec<&Record> = records.iter().filter(|record| matches(record)).collect();
    assert_eq!(found.len(), 1, "{what} is reported once:{}", list(found.iter().copied()));
    found[0]
}

/// Checks that no end of these processes is reported.
#[track_caller]
pub(crate) fn assert_no_end(records: &[Record], lives: &BTreeSet<Life>) {
    let is_wrong = |record: &&Record| {
        record.is("process_terminated") && record.life().is_some_and(|life| lives.contains(&life))
    };
    let wrong: Vec<&Record> = records.iter().filter(is_wrong).collect();
    assert!(wrong.is_empty(), "{}", list(wrong));
}

/// The number of records of an activity.
pub(crate) fn count(records: &[Record], name: &str) -> usize {
    records.iter().filter(|record| record.is(name)).count()
}
