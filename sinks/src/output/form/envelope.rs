//! What some receivers of HTTP want around each record in the body of a request.

use std::io::Write;

use panoptes_records::json::time::Timestamp;

use super::mapping::top_value;
use super::otlp::system;
use super::syslog::MessageSubject;

/// The text around each record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Envelope {
    /// Nothing.
    #[default]
    None,
    /// A line before it: the action `create` of the bulk API of Elasticsearch and OpenSearch, with
    /// the record's `message_id` as the document's id, so that a record that comes twice is stored
    /// once. Data streams take no other action.
    Elasticsearch,
    /// The object of an event of Splunk's HTTP Event Collector (`/services/collector/event`), with
    /// the record's own time.
    Splunk,
}

impl Envelope {
    /// Appends what comes before a record; `None` if what it needs of that cannot be read.
    pub(crate) fn begin(
        self,
        about: Option<&MessageSubject<'_>>,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        // Writing to memory does not fail.
        let _ = match self {
            Self::None => Ok(()),
            Self::Elasticsearch => match top_value(record, "message_id").ok()? {
                Some(id) => writeln!(out, "{{\"create\":{{\"_id\":{id}}}}}"),
                None => writeln!(out, "{{\"create\":{{}}}}"),
            },
            Self::Splunk => {
                let (seconds, nanoseconds) = Timestamp::parse(about?.time)?.parts();
                let _ = write!(out, "{{\"time\":{seconds}.{nanoseconds:09}");
                if let Some(system) = system(record) {
                    let _ = write!(out, ",\"host\":\"{system}\"");
                }
                write!(out, ",\"source\":\"panoptes\",\"sourcetype\":\"_json\",\"event\":")
            }
        };
        Some(())
    }

    /// Appends what comes after a record, with the end of the line.
    pub(crate) fn end(self, out: &mut Vec<u8>) {
        let end: &[u8] = if self == Self::Splunk { b"}\n" } else { b"\n" };
        out.extend_from_slice(end);
    }
}

#[cfg(test)]
mod tests {
    use panoptes_records::activities::{Activity, Severity};
    use serde_json::{Value, json};

    use super::*;
    use crate::output::form::syslog::RecordKind;

    const ABOUT: MessageSubject<'static> = MessageSubject {
        kind: RecordKind::Activity(Activity::ProcessCreated),
        severity: Severity::Info,
        time: b"2026-11-20T07:31:46.005224659+00:00",
    };

    fn lines(envelope: Envelope, record: &str) -> Vec<Value> {
        let mut out = Vec::new();
        envelope.begin(Some(&ABOUT), record.as_bytes(), &mut out).unwrap();
        out.extend_from_slice(record.as_bytes());
        envelope.end(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_document_follows_its_action_and_has_the_id_of_the_record() {
        let record = r#"{"message_id":"0198-1","a":1}"#;
        let [action, document] = &lines(Envelope::Elasticsearch, record)[..] else { panic!() };
        assert_eq!(*action, json!({"create": {"_id": "0198-1"}}));
        assert_eq!(*document, json!({"message_id": "0198-1", "a": 1}));
        assert_eq!(lines(Envelope::Elasticsearch, "{}")[0], json!({"create": {}}));
    }

    #[test]
    fn an_event_has_the_time_and_the_system_of_the_record() {
        let record = r#"{"workload_information":{"unique_identifier":"w\"1"}}"#;
        let [event] = &lines(Envelope::Splunk, record)[..] else { panic!() };
        let expected = json!({
            "time": 1_795_159_906.005_224_7_f64,
            "host": "w\"1",
            "source": "panoptes",
            "sourcetype": "_json",
            "event": {"workload_information": {"unique_identifier": "w\"1"}},
        });
        assert_eq!(*event, expected);
        assert_eq!(lines(Envelope::Splunk, "{}")[0].get("host"), None);
        assert_eq!(lines(Envelope::None, "{}"), [json!({})]);
    }
}
