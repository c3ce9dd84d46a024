//! What a file of JSON lines has: flows, the sensor's own counts, what was lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde_json::Value;

use super::quiet::{Flows, Key, add};

/// The sums over all lines of a file, or of several.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) flows: Flows,
    /// Records of flows, and other lines.
    pub(crate) flow_lines: u64,
    pub(crate) other_lines: u64,
    /// Lines that are incomplete or no JSON.
    pub(crate) broken_lines: u64,
    /// Packets that were counted and that were lost, and records that were made: by the records of
    /// the sensor itself.
    pub(crate) packets: u64,
    pub(crate) dropped_packets: u64,
    pub(crate) records: u64,
    /// What `coverage_degraded` and `coverage_restored` have, by gap.
    pub(crate) missed: BTreeMap<String, u64>,
    /// What `records_dropped` has, by output.
    pub(crate) dropped: BTreeMap<String, u64>,
}

impl Sums {
    pub(crate) fn lines(&self) -> u64 {
        self.flow_lines + self.other_lines
    }

    /// Adds the lines of a file.
    pub(crate) fn read(&mut self, path: &Path) -> Result<(), String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut reader = BufReader::new(File::open(path).map_err(wrong)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(wrong)? > 0 {
            self.add(&line);
            line.clear();
        }
        Ok(())
    }

    fn add(&mut self, line: &[u8]) {
        let whole = line.strip_suffix(b"\n");
        let Some(value) = whole.and_then(|line| serde_json::from_slice::<Value>(line).ok()) else {
            self.broken_lines += 1;
            return;
        };
        if value["kind"] == "flow" {
            self.flow_lines += 1;
            add(&mut self.flows, key(&value), sums(&value));
            return;
        }
        self.other_lines += 1;
        if value["kind"] == "flow_sensor" {
            self.packets += number(&value["packets"]);
            self.dropped_packets += number(&value["dropped_packets"]);
            self.records += number(&value["records"]);
            return;
        }
        let details = &value["activity_data"]["system_activity_details"];
        if let Some(gap) = details["gap"].as_str() {
            *self.missed.entry(gap.to_owned()).or_default() += number(&details["missed"]);
        }
        if let Some(output) = details["output"].as_str() {
            *self.dropped.entry(output.to_owned()).or_default() += number(&details["dropped"]);
        }
    }
}

/// A number; what is not there is 0.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn key(flow: &Value) -> Key {
    let text = |name: &str| match &flow[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let ends = ["source_address", "source_port", "destination_address", "destination_port"];
    let [source, source_port, destination, destination_port] = ends.map(text);
    [text("protocol"), source, source_port, destination, destination_port]
}

fn sums(flow: &Value) -> super::quiet::Sums {
    ["source_packets", "destination_packets", "source_bytes", "destination_bytes"]
        .map(|name| number(&flow[name]))
}

/// What messages at the end of the sensor count as lost, by output.
pub(crate) fn lost_at_end(messages: &str) -> BTreeMap<String, u64> {
    let lost = messages.lines().filter_map(|line| {
        let (before, output) = line.split_once(" records could not be written to ")?;
        Some((output.to_owned(), before.rsplit(' ').next()?.parse().ok()?))
    });
    lost.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added() {
        let mut all = Sums::default();
        let flow = br#"{"kind":"flow","protocol":"udp","source_address":"10.1.0.1",
            "source_port":7,"source_packets":2,"source_bytes":120}"#;
        let flow: Vec<_> = flow.iter().copied().filter(|byte| *byte != b'\n').collect();
        all.add(&[&flow[..], b"\n"].concat());
        all.add(&[&flow[..], b"\n"].concat());
        all.add(&flow);
        all.add(b"{\"kind\":\"flow_sensor\",\"packets\":9,\"dropped_packets\":1,\"records\":2}\n");
        for details in ["\"gap\":\"packets\",\"missed\":3", "\"output\":\"a\",\"dropped\":4"] {
            let line =
                format!("{{\"activity_data\":{{\"system_activity_details\":{{{details}}}}}}}\n");
            all.add(line.as_bytes());
        }
        let key = ["udp", "10.1.0.1", "7", "", ""].map(str::to_owned);
        assert_eq!(all.flows, Flows::from([(key, [4, 0, 240, 0])]));
        assert_eq!((all.flow_lines, all.other_lines, all.broken_lines), (2, 3, 1));
        assert_eq!((all.packets, all.dropped_packets, all.records), (9, 1, 2));
        assert_eq!(all.missed, BTreeMap::from([("packets".to_owned(), 3)]));
        assert_eq!(all.dropped, BTreeMap::from([("a".to_owned(), 4)]));
    }

    #[test]
    fn losses_of_the_end_are_read() {
        let text = "WARNING 7 records could not be written to /tmp/a b\nINFO 9 packets\n";
        assert_eq!(lost_at_end(text), BTreeMap::from([("/tmp/a b".to_owned(), 7)]));
    }
}
