//! One record, as `ra` prints it.

use std::collections::BTreeMap;

/// Separates columns. User data that `ra` prints do not have it.
pub(crate) const SEPARATOR: char = '\u{1f}';

/// The fields of `ra -s` that tests compare. `seq`, `srcid` and `trans` depend on the sensor.
pub const FIELDS: &[&str] = &[
    "stime",
    "ltime",
    "flgs",
    "proto",
    "saddr",
    "sport",
    "dir",
    "daddr",
    "dport",
    "spkts",
    "dpkts",
    "sbytes",
    "dbytes",
    "sappbytes",
    "dappbytes",
    "state",
    "cause",
    "tcprtt",
    "synack",
    "ackdat",
    "sloss",
    "dloss",
    "sretrans",
    "dretrans",
    "sgap",
    "dgap",
    "stos",
    "dtos",
    "sttl",
    "dttl",
    "sipid",
    "dipid",
    "smac",
    "dmac",
    "svlan",
    "dvlan",
    "smpls",
    "dmpls",
    "swin",
    "dwin",
    "stcpb",
    "dtcpb",
    "tcpopt",
    "sintpkt",
    "dintpkt",
    "sjit",
    "djit",
    "smaxsz",
    "dmaxsz",
    "sminsz",
    "dminsz",
    "suser:256",
    "duser:256",
];

/// The fields that distinguish flows.
const KEY: [&str; 5] = ["proto", "saddr", "sport", "daddr", "dport"];

/// The columns of one record by field, as texts without blanks at their ends.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Row(BTreeMap<String, String>);

impl Row {
    pub(crate) fn parse(text: &str, fields: &[&str]) -> Result<Vec<Self>, String> {
        // The first line has the names of the columns.
        text.lines().skip(1).map(|line| Self::parse_line(line, fields)).collect()
    }

    fn parse_line(line: &str, fields: &[&str]) -> Result<Self, String> {
        let columns: Vec<&str> = line.split(SEPARATOR).collect();
        if columns.len() != fields.len() {
            return Err(format!("{} columns instead of {}: {line}", columns.len(), fields.len()));
        }
        let name = |field: &str| field.split(':').next().unwrap_or(field).to_owned();
        let columns = columns.iter().map(|column| column.trim().to_owned());
        Ok(Self(fields.iter().map(|field| name(field)).zip(columns).collect()))
    }

    /// The text of a field; empty if the record has none.
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    /// The number of a field; 0 if the record has none.
    pub fn number(&self, field: &str) -> u64 {
        self.text(field).parse().unwrap_or(0)
    }

    /// The nanoseconds of a field in seconds; 0 if the record has none.
    pub fn nanoseconds(&self, field: &str) -> u64 {
        let (seconds, fraction) =
            self.text(field).split_once('.').unwrap_or((self.text(field), ""));
        let digits = fraction.get(..9).unwrap_or(fraction);
        let seconds: u64 = seconds.parse().unwrap_or(0);
        seconds * 1_000_000_000 + format!("{digits:0<9}").parse::<u64>().unwrap_or(0)
    }

    /// What distinguishes the flow from others at the same time: protocol, source address and
    /// port, destination address and port.
    pub fn key(&self) -> [&str; 5] {
        KEY.map(|field| self.text(field))
    }

    /// The fields in the order of their names.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(field, text)| (field.as_str(), text.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_parsed() {
        let text = "StartTime\u{1f}Proto\u{1f}Data\n1700000000.100007\u{1f} tcp \u{1f}s[1]=a,b\n";
        let rows = Row::parse(text, &["stime", "proto", "suser:9"]).expect("a table");
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(row.nanoseconds("stime"), 1_700_000_000_100_007_000);
        assert_eq!((row.text("proto"), row.text("suser")), ("tcp", "s[1]=a,b"));
        assert_eq!((row.number("spkts"), row.text("dir")), (0, ""));
        assert!(Row::parse(text, &["stime", "proto"]).is_err());
    }
}
