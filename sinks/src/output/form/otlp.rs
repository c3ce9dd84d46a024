//! Records as logs of OpenTelemetry: the JSON of an `ExportLogsServiceRequest`
//! (OTLP 1, "JSON Protobuf Encoding").
//!
//! A log's body is the whole record, as a text. Its attributes are those that receivers filter by.

use std::io::Write;

use panoptes_records::activities::Severity;
use panoptes_records::json::read::{JsonReader, Token};
use panoptes_records::json::time::Timestamp;

use super::syslog::{MessageSubject, RecordKind};

/// Makes the bodies of requests of one sender.
#[derive(Debug)]
pub struct Otlp {
    /// What comes before the first log.
    start: Vec<u8>,
}

impl Otlp {
    /// Bodies from this machine.
    pub fn new(hostname: &str) -> Self {
        let plain = |c: &char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        let hostname: String = hostname.chars().filter(plain).collect();
        let version = env!("CARGO_PKG_VERSION");
        let mut start = b"{\"resourceLogs\":[{\"resource\":{\"attributes\":[".to_vec();
        attribute("service.name", "panoptes", &mut start);
        start.push(b',');
        attribute("host.name", &hostname, &mut start);
        // Writing to memory does not fail.
        let _ = write!(
            start,
            "]}},\"scopeLogs\":[{{\"scope\":{{\"name\":\"panoptes\",\
             \"version\":\"{version}\"}},\"logRecords\":["
        );
        Self { start }
    }

    /// Begins a body.
    pub(crate) fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start);
    }

    /// Appends a record; `None`, and nothing, if it cannot be read.
    pub(crate) fn append(
        about: &MessageSubject<'_>,
        record: &[u8],
        is_first: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let (seconds, nanoseconds) = Timestamp::parse(about.time)?.parts();
        let time = u64::try_from(seconds).ok()? * 1_000_000_000 + u64::from(nanoseconds);
        let system = system(record);
        let comma = if is_first { "" } else { "," };
        let (number, severity) = (number(about.severity), about.severity.word());
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "{comma}{{\"timeUnixNano\":\"{time}\",\"observedTimeUnixNano\":\"{time}\",\
             \"severityNumber\":{number},\"severityText\":\"{severity}\",\
             \"body\":{{\"stringValue\":\"",
        );
        escape(record, out);
        out.extend_from_slice(b"\"},\"attributes\":[");
        attribute("activity", about.kind.name(), out);
        out.push(b',');
        attribute("severity", severity, out);
        if let Some(system) = system {
            out.push(b',');
            attribute("system", system, out);
        }
        // A record that cannot be read to its end has those before that place.
        let _ = match about.kind {
            RecordKind::Activity(_) => attributes_of_objects(record, out),
            RecordKind::Flow => attributes_of_flow(record, out),
        };
        out.extend_from_slice(b"]}");
        Some(())
    }

    /// Ends a body.
    pub(crate) fn end(out: &mut Vec<u8>) {
        out.extend_from_slice(b"]}]}]}");
    }
}

/// Appends an attribute; `value` is the inside of a JSON string.
fn attribute(key: &str, value: &str, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{{\"key\":\"{key}\",\"value\":{{\"stringValue\":\"{value}\"}}}}");
}

/// What receivers filter by, beside the activity: a key of the record's own objects, and the
/// attribute, whose name is that of OpenTelemetry's semantic conventions.
const ATTRIBUTES: &[(&str, &[(&str, &str)])] = &[
    (
        "process_details",
        &[
            ("process_id", "process.pid"),
            ("process_name", "process.executable.name"),
            ("process_executable_path", "process.executable.path"),
        ],
    ),
    (
        "network_connection_details",
        &[
            ("source_ip_address", "source.address"),
            ("source_port", "source.port"),
            ("destination_ip_address", "destination.address"),
            ("destination_port", "destination.port"),
        ],
    ),
    ("file_details", &[("file_path", "file.path")]),
    ("elf_file_details", &[("elf_file_path", "file.path")]),
    ("file_descriptor_details", &[("file_descriptor_name", "file.path")]),
];

/// The same for a record of a flow, in which they are keys of the record itself.
const ATTRIBUTES_OF_FLOW: &[(&str, &str)] = &[
    ("protocol", "network.transport"),
    ("source_address", "source.address"),
    ("source_port", "source.port"),
    ("destination_address", "destination.address"),
    ("destination_port", "destination.port"),
];

/// Appends the attributes of a record of a flow, each behind a comma.
fn attributes_of_flow(record: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = JsonReader::new(record).ok()?;
    if reader.read().ok()? != Token::Object {
        return None;
    }
    while let Token::Key(key) = reader.read().ok()? {
        let name = ATTRIBUTES_OF_FLOW.iter().find(|(from, _)| *from == key).map(|(_, to)| *to);
        value(&mut reader, name, out)?;
    }
    Some(())
}

/// Goes behind the next value. Appends it as an attribute, if it has a name.
fn value(reader: &mut JsonReader<'_>, name: Option<&str>, out: &mut Vec<u8>) -> Option<()> {
    match (reader.read().ok()?, name) {
        (Token::Object | Token::List, _) => reader.skip_rest().ok()?,
        (Token::Text(text), Some(name)) => {
            out.push(b',');
            attribute(name, text.as_written(), out);
        }
        (Token::Number(number), Some(name)) => {
            // Writing to memory does not fail.
            let _ = write!(out, ",{{\"key\":\"{name}\",\"value\":{{\"intValue\":\"{number}\"}}}}");
        }
        _ => {}
    }
    Some(())
}

/// Appends the attributes of the objects of a record, each behind a comma, and each once.
fn attributes_of_objects(record: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = JsonReader::new(record).ok()?;
    enter(&mut reader, "activity_data")?;
    if reader.read().ok()? != Token::Object {
        return None;
    }
    let mut has_path = false;
    while let Token::Key(object) = reader.read().ok()? {
        let known = ATTRIBUTES.iter().find(|(name, _)| *name == object).map(|(_, keys)| *keys);
        let first = reader.read().ok()?;
        match (first, known) {
            (Token::Object, Some(keys)) => {
                while let Token::Key(key) = reader.read().ok()? {
                    let name = keys.iter().find(|(from, _)| *from == key).map(|(_, to)| *to);
                    let name = name.filter(|name| *name != "file.path" || !has_path);
                    has_path |= name == Some("file.path");
                    value(&mut reader, name, out)?;
                }
            }
            (Token::Object | Token::List, _) => reader.skip_rest().ok()?,
            _ => {}
        }
    }
    Some(())
}

/// The number of a severity (OpenTelemetry, "Logs Data Model", SeverityNumber).
const fn number(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 9,
        Severity::Low => 10,
        Severity::Warning => 13,
        Severity::Medium => 14,
        Severity::High => 17,
        Severity::Error => 18,
        Severity::Critical => 21,
    }
}

/// Writes a record, in which no control character occurs, as the inside of a JSON string.
fn escape(record: &[u8], out: &mut Vec<u8>) {
    for part in record.split_inclusive(|byte| matches!(byte, b'"' | b'\\')) {
        match part.split_last() {
            Some((last @ (b'"' | b'\\'), before)) => {
                out.extend_from_slice(before);
                out.extend_from_slice(&[b'\\', *last]);
            }
            _ => out.extend_from_slice(part),
        }
    }
}

/// The name of the watched machine, as it is written; `None` for the service's own records.
pub(super) fn system(record: &[u8]) -> Option<&str> {
    let mut reader = JsonReader::new(record).ok()?;
    enter(&mut reader, "workload_information")?;
    enter(&mut reader, "unique_identifier")?;
    match reader.read() {
        Ok(Token::Text(name)) => Some(name.as_written()),
        _ => None,
    }
}

/// Goes to the value of a key of the object that comes next.
fn enter(reader: &mut JsonReader<'_>, wanted: &str) -> Option<()> {
    if reader.read().ok()? != Token::Object {
        return None;
    }
    loop {
        match reader.read().ok()? {
            Token::Key(key) if key == wanted => return Some(()),
            Token::Key(_) => {
                if let Token::Object | Token::List = reader.read().ok()? {
                    reader.skip_rest().ok()?;
                }
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use panoptes_records::activities::Activity;
    use serde_json::{Value, json};

    use super::*;

    fn about(severity: Severity) -> MessageSubject<'static> {
        let activity = Activity::ProcessCreated;
        MessageSubject {
            kind: RecordKind::Activity(activity),
            severity,
            time: b"2026-11-20T07:31:46.905224659+00:00",
        }
    }

    fn body(records: &[&str], severity: Severity) -> Value {
        let otlp = Otlp::new("sensor-1");
        let mut out = Vec::new();
        otlp.begin(&mut out);
        for (index, record) in records.iter().enumerate() {
            Otlp::append(&about(severity), record.as_bytes(), index == 0, &mut out).unwrap();
        }
        Otlp::end(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn logs_have_the_record_its_time_and_what_receivers_filter_by() {
        let first =
            r#"{"a":["x\"\\\u0001"],"workload_information":{"b":{},"unique_identifier":"w\"1"}}"#;
        let second = r#"{"workload_information":{}}"#;
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let log = |record: &str, attributes: Vec<Value>| {
            json!({
                "timeUnixNano": "1795159906905224659",
                "observedTimeUnixNano": "1795159906905224659",
                "severityNumber": 17,
                "severityText": "HIGH",
                "body": {"stringValue": record},
                "attributes": attributes,
            })
        };
        let common = || vec![text("activity", "process_created"), text("severity", "HIGH")];
        let with_system = [common(), vec![text("system", "w\"1")]].concat();
        let attributes = [text("service.name", "panoptes"), text("host.name", "sensor-1")];
        let scope = json!({"name": "panoptes", "version": env!("CARGO_PKG_VERSION")});
        let expected = json!({"resourceLogs": [{
            "resource": {"attributes": attributes},
            "scopeLogs": [{"scope": scope, "logRecords": [
                log(first, with_system),
                log(second, common()),
            ]}],
        }]});
        assert_eq!(body(&[first, second], Severity::High), expected);
    }

    #[test]
    fn attributes_name_the_process_the_file_and_both_ends_of_a_connection() {
        let record = json!({"activity_data": {
            "name": "x",
            "elf_file_details": {"elf_file_path": "/tmp/a\"b", "elf_file_size_bytes": 7},
            "network_connection_details": {
                "source_ip_address": "10.0.0.1", "source_port": 1, "list": [{"source_port": 9}],
                "destination_ip_address": "::1", "destination_port": "443",
            },
            "process_details": {"process_id": 714, "o": {"process_id": 9}, "process_name": "sh"},
            "file_descriptor_details": {"file_descriptor_name": "/other"},
        }});
        let body = body(&[&record.to_string()], Severity::Info);
        let log = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        let found = log["attributes"].as_array().unwrap().iter().skip(2);
        let mut found: Vec<String> =
            found.map(|one| format!("{} {}", one["key"].as_str().unwrap(), one["value"])).collect();
        found.sort();
        assert_eq!(
            found,
            [
                r#"destination.address {"stringValue":"::1"}"#,
                r#"destination.port {"stringValue":"443"}"#,
                r#"file.path {"stringValue":"/tmp/a\"b"}"#,
                r#"process.executable.name {"stringValue":"sh"}"#,
                r#"process.pid {"intValue":"714"}"#,
                r#"source.address {"stringValue":"10.0.0.1"}"#,
                r#"source.port {"intValue":"1"}"#,
            ]
        );
    }

    #[test]
    fn every_severity_has_its_number() {
        for (severity, number) in [
            (Severity::Info, 9),
            (Severity::Low, 10),
            (Severity::Warning, 13),
            (Severity::Medium, 14),
            (Severity::High, 17),
            (Severity::Error, 18),
            (Severity::Critical, 21),
        ] {
            let body = body(&["{}"], severity);
            let log = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
            assert_eq!(log["severityNumber"], number);
        }
    }

    #[test]
    fn a_record_without_a_time_adds_nothing() {
        let mut out = b"x".to_vec();
        let time = &[b'?'; 35];
        let about = MessageSubject { time, ..about(Severity::Info) };
        assert_eq!(Otlp::append(&about, b"{}", true, &mut out), None);
        assert_eq!(out, b"x");
    }
}
