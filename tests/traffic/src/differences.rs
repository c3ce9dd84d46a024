//! Compares the records of two sensors, field by field.

use std::collections::BTreeMap;
use std::fmt;

use crate::row::Row;

/// How far numbers may be apart.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// For the first and the last time.
    pub time_ns: u64,
    /// For round trips.
    pub round_trip_ns: u64,
    /// For intervals and jitter: this part of the larger one.
    pub ratio: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { time_ns: 1000, round_trip_ns: 1500, ratio: 0.001 }
    }
}

/// What the two sensors disagree about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The key and the first time of the record.
    pub record: String,
    /// The field, or `record` where one sensor has no such record.
    pub field: String,
    pub left: String,
    pub right: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}: {:?} and {:?}", self.record, self.field, self.left, self.right)
    }
}

/// The differences between two sensors' records of the same packets, without those in the ignored
/// fields. Records of one key match in the order of their first times.
pub fn differences(
    left: &[Row],
    right: &[Row],
    tolerance: Tolerance,
    ignored: &[&str],
) -> Vec<Difference> {
    let (left, right) = (by_key(left), by_key(right));
    let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
    let mut all = Vec::new();
    for key in keys {
        let empty = Vec::new();
        let (left, right) = (left.get(key).unwrap_or(&empty), right.get(key).unwrap_or(&empty));
        for number in 0..left.len().max(right.len()) {
            match (left.get(number), right.get(number)) {
                (Some(left), Some(right)) => compare(left, right, tolerance, ignored, &mut all),
                (left, right) => {
                    let Some(record) = left.or(right) else { continue };
                    let presence =
                        |row: Option<_>| if row.is_some() { "present" } else { "missing" };
                    all.push(Difference {
                        record: describe(record),
                        field: "record".to_owned(),
                        left: presence(left).to_owned(),
                        right: presence(right).to_owned(),
                    });
                }
            }
        }
    }
    all
}

fn by_key(rows: &[Row]) -> BTreeMap<[&str; 5], Vec<&Row>> {
    let mut all: BTreeMap<[&str; 5], Vec<&Row>> = BTreeMap::new();
    for row in rows {
        all.entry(row.key()).or_default().push(row);
    }
    for rows in all.values_mut() {
        rows.sort_by_key(|row| row.nanoseconds("stime"));
    }
    all
}

fn describe(row: &Row) -> String {
    let [protocol, source, source_port, destination, destination_port] = row.key();
    let start = row.text("stime");
    format!("{start} {protocol} {source} {source_port} {destination} {destination_port}")
}

fn compare(
    left: &Row,
    right: &Row,
    tolerance: Tolerance,
    ignored: &[&str],
    all: &mut Vec<Difference>,
) {
    for (field, text) in left.fields().filter(|(field, _)| !ignored.contains(field)) {
        let other = right.text(field);
        if text == other || is_close(field, left, right, tolerance) {
            continue;
        }
        all.push(Difference {
            record: describe(left),
            field: field.to_owned(),
            left: text.to_owned(),
            right: other.to_owned(),
        });
    }
}

fn is_close(field: &str, left: &Row, right: &Row, tolerance: Tolerance) -> bool {
    let within = |most: u64| left.nanoseconds(field).abs_diff(right.nanoseconds(field)) <= most;
    let ratio = |row: &Row| row.text(field).parse::<f64>().ok();
    match field {
        "stime" | "ltime" => within(tolerance.time_ns),
        "tcprtt" | "synack" | "ackdat" => within(tolerance.round_trip_ns),
        "sintpkt" | "dintpkt" | "sjit" | "djit" => match (ratio(left), ratio(right)) {
            (Some(a), Some(b)) => (a - b).abs() <= tolerance.ratio * a.abs().max(b.abs()),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &[[&str; 5]]) -> Vec<Row> {
        let lines: Vec<_> = lines.iter().map(|line| line.join("\u{1f}")).collect();
        let text = format!("names\n{}\n", lines.join("\n"));
        Row::parse(&text, &["stime", "proto", "saddr", "spkts", "tcprtt"]).expect("a table")
    }

    fn found(left: &[[&str; 5]], right: &[[&str; 5]]) -> Vec<String> {
        let all = differences(&rows(left), &rows(right), Tolerance::default(), &[]);
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn small_differences_of_times_do_not_count() {
        let left = ["10.000001", "tcp", "a", "3", "0.500000"];
        assert!(found(&[left], &[["10.000002", "tcp", "a", "3", "0.500001"]]).is_empty());
        assert_eq!(
            found(&[left], &[["10.000003", "tcp", "a", "4", "0.500002"]]),
            [
                "10.000001 tcp a   : spkts: \"3\" and \"4\"",
                "10.000001 tcp a   : stime: \"10.000001\" and \"10.000003\"",
                "10.000001 tcp a   : tcprtt: \"0.500000\" and \"0.500002\"",
            ]
        );
    }

    #[test]
    fn records_match_by_key_and_order() {
        let first = ["10.0", "tcp", "a", "3", "0"];
        let second = ["20.0", "tcp", "a", "5", "0"];
        let other = ["15.0", "udp", "b", "1", "0"];
        assert!(found(&[first, other, second], &[second, first, other]).is_empty());
        assert_eq!(
            found(&[first, second], &[first, other]),
            [
                "20.0 tcp a   : record: \"present\" and \"missing\"",
                "15.0 udp b   : record: \"missing\" and \"present\"",
            ]
        );
    }
}
