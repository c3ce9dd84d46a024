//! Records as they wait for a receiver, and as messages for it.

use std::sync::LazyLock;

use memchr::memmem;
use panoptes_records::activities::{Activity, Severity};
use panoptes_records::filter::NETWORK_FLOW;
use panoptes_records::json::shorten::shorten;
use panoptes_records::json::time::TIMESTAMP_LENGTH;
use panoptes_records::queue::{HeaderLists, RecordBlock};
use panoptes_records::record::RECORD_BYTES_MAX;
use panoptes_records::record::header::TIME_KEY;

use super::forward::{self, Forward};
use super::http::{Body, Http};
use crate::output::backlog::Backlog;
use crate::output::form::otlp::Otlp;
use crate::output::form::syslog::{
    FRAME_BYTES_MAX, MessageFraming, MessageSubject, RecordKind, Syslog,
};
use crate::output::form::{Envelope, Schema};
use crate::output::lines::WrittenHeaderLists;

/// The form of what a receiver gets.
#[derive(Debug)]
pub enum Messages {
    /// Each record as a line of JSON, or as a datagram without its line feed.
    Json {
        /// Whether the lists of interfaces are left out where the receiver has them already, over
        /// this connection.
        is_compact: bool,
    },
    /// Each record as an event of a schema, a line or a datagram each.
    Events(Schema),
    /// Syslog messages, each with a record.
    Syslog {
        syslog: Syslog,
        /// How the receiver finds their ends in a stream.
        stream: MessageFraming,
    },
    /// Messages of the Forward protocol, each with many records, which the receiver acknowledges.
    Forward(Forward),
    /// Requests of HTTP, each with many records, which the receiver answers.
    Http(Http),
}

impl Messages {
    /// Whether the lists of interfaces are left out where the receiver has them. Connections to
    /// one URL may lead to several receivers.
    const fn is_compact(&self) -> bool {
        match self {
            Self::Json { is_compact } => *is_compact,
            Self::Forward(forward) => forward.is_compact,
            Self::Events(_) | Self::Syslog { .. } | Self::Http(_) => false,
        }
    }

    /// The text around each record.
    pub(super) const fn envelope(&self) -> Envelope {
        match self {
            Self::Http(http) => http.envelope,
            Self::Json { .. } | Self::Events(_) | Self::Syslog { .. } | Self::Forward(_) => {
                Envelope::None
            }
        }
    }
}

/// What must be known of a record that waits, beside its text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Note {
    kind: RecordKind,
    severity: Severity,
    middle: u16,
    lists: HeaderLists,
}

/// Makes the messages of one connection after the other.
#[derive(Debug)]
pub(super) struct Composer {
    messages: Messages,
    is_stream: bool,
    known: WrittenHeaderLists,
    message: Vec<u8>,
    /// Where the message begins in it.
    start: usize,
    /// A record whose lists are left out, if another form follows.
    record: Vec<u8>,
    frame: Box<[u8; FRAME_BYTES_MAX]>,
}

/// The records of a message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct MessageBatch {
    /// The sequence of the last one in the backlog.
    pub(super) sequence: u64,
    pub(super) records: u64,
    /// How many were left out, since no message can have them.
    pub(super) left_out: u64,
    /// The number by which the receiver acknowledges the message, or answers it, if it does.
    pub(super) chunk: Option<u64>,
}

/// A message of many records ends when it is so long.
const MESSAGE_BATCH_BYTES: usize = 32 * 1024;
/// A request, too. There is only one at a time, so it is longer.
const REQUEST_BYTES: usize = 128 * 1024;

/// Length of a note in a backlog.
pub(super) const NOTE_BYTES: usize = 4 + 1 + 2 + 4 * 2 + 2 * 8;

/// The number of each activity in a note. It may wait on a disk for a version with another table of
/// activities, so it follows from the name (FNV-1a).
static NUMBERS: LazyLock<Vec<u32>> =
    LazyLock::new(|| Activity::ALL.iter().map(|activity| number_of(activity.name())).collect());

const fn number_of(name: &str) -> u32 {
    let (mut hash, mut at) = (0x811c_9dc5_u32, 0);
    while at < name.len() {
        hash = (hash ^ name.as_bytes()[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// That of a clock that was never set.
const NO_TIME: &[u8; TIMESTAMP_LENGTH] = b"1970-01-01T00:00:00.000000000+00:00";

/// The time of a record of the sensor of flows: of a flow, and of its own state. The first such key
/// is that of the record itself: only sides and parts of it follow.
const FLOW_TIME_KEYS: [&[u8]; 2] = [b"\"last_time\":\"", b"\"time\":\""];

impl Note {
    pub(super) fn of(block: &RecordBlock, index: usize) -> Self {
        let mark = block.mark(index);
        let kind =
            if mark.is_flow { RecordKind::Flow } else { RecordKind::Activity(mark.activity) };
        let severity = mark.severity;
        Self { kind, severity, middle: block.middle(index), lists: block.lists(index) }
    }

    pub(super) fn to_bytes(self) -> [u8; NOTE_BYTES] {
        let HeaderLists { system, content, places } = self.lists;
        let [first, second] = places;
        let mut bytes = [0; NOTE_BYTES];
        let mut rest = &mut bytes[..];
        for part in [
            &self.number().to_le_bytes()[..],
            &[self.severity as u8],
            &self.middle.to_le_bytes(),
            &first.0.to_le_bytes(),
            &first.1.to_le_bytes(),
            &second.0.to_le_bytes(),
            &second.1.to_le_bytes(),
            &system.to_le_bytes(),
            &content.to_le_bytes(),
        ] {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        bytes
    }

    /// The number that stands for the kind.
    fn number(self) -> u32 {
        match self.kind {
            RecordKind::Activity(activity) => NUMBERS[activity as usize],
            RecordKind::Flow => number_of(NETWORK_FLOW),
        }
    }

    /// A note and the record behind it; `None` if these are no such bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (note, record) = bytes.split_first_chunk::<NOTE_BYTES>()?;
        let short = |at: usize| u16::from_le_bytes([note[at], note[at + 1]]);
        let long = |at: usize| note[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let places = [(short(7), short(9)), (short(11), short(13))];
        let lists = HeaderLists { system: long(15)?, content: long(23)?, places };
        let number = u32::from_le_bytes(*note.first_chunk()?);
        let severity = *Severity::ALL.get(usize::from(note[4]))?;
        let kind = match NUMBERS.iter().position(|known| *known == number) {
            Some(at) => RecordKind::Activity(*Activity::ALL.get(at)?),
            None if number == number_of(NETWORK_FLOW) => RecordKind::Flow,
            None => return None,
        };
        Some((Self { kind, severity, middle: short(5), lists }, record))
    }

    /// The record's time, which ends where the middle begins, if it has one.
    fn time(self, record: &[u8]) -> Option<&[u8; TIMESTAMP_LENGTH]> {
        if self.kind == RecordKind::Flow {
            let behind = |key: &&[u8]| {
                let at = memmem::find(record, key)?;
                record.get(at + key.len()..)?.first_chunk()
            };
            return Some(FLOW_TIME_KEYS.iter().find_map(behind).unwrap_or(NO_TIME));
        }
        let (before, time) = record.get(..usize::from(self.middle))?.split_last_chunk()?;
        Some(if before.ends_with(TIME_KEY.as_bytes()) { time } else { NO_TIME })
    }

    /// What forms need to know of the record.
    fn about(self, record: &[u8]) -> Option<MessageSubject<'_>> {
        let time = self.time(record)?;
        Some(MessageSubject { kind: self.kind, severity: self.severity, time })
    }
}

impl Composer {
    pub(super) fn new(messages: Messages) -> Self {
        // It allocates.
        LazyLock::force(&NUMBERS);
        let length = match &messages {
            Messages::Forward(_) => MESSAGE_BATCH_BYTES + 2 * RECORD_BYTES_MAX,
            Messages::Http(http) => http.head_bytes() + REQUEST_BYTES + 3 * RECORD_BYTES_MAX,
            // An event may be too long at first.
            Messages::Events(_) => 3 * RECORD_BYTES_MAX,
            _ => RECORD_BYTES_MAX + 1,
        };
        Self {
            is_stream: true,
            known: if messages.is_compact() {
                WrittenHeaderLists::new()
            } else {
                WrittenHeaderLists::default()
            },
            messages,
            message: Vec::with_capacity(length),
            start: 0,
            record: Vec::with_capacity(RECORD_BYTES_MAX),
            frame: Box::new([0; FRAME_BYTES_MAX]),
        }
    }

    /// Begins a connection: who is there now knows nothing.
    pub(super) fn begin(&mut self, is_stream: bool) {
        self.is_stream = is_stream;
        self.known.clear();
        if let Messages::Syslog { syslog, stream } = &mut self.messages {
            syslog.set_framing(if is_stream { *stream } else { MessageFraming::Datagram });
        }
    }

    /// What acknowledges messages, if the receiver does.
    pub(super) fn forward(&self) -> Option<&Forward> {
        match &self.messages {
            Messages::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    /// What makes requests, if the receiver gets such.
    pub(super) fn http(&mut self) -> Option<&mut Http> {
        match &mut self.messages {
            Messages::Http(http) => Some(http),
            _ => None,
        }
    }

    pub(super) const fn is_http(&self) -> bool {
        matches!(self.messages, Messages::Http(_))
    }

    /// Whether the receiver acknowledges messages, or answers them.
    pub(super) const fn awaits_acks(&self) -> bool {
        matches!(self.messages, Messages::Forward(_) | Messages::Http(_))
    }

    /// Makes the next message and marks its records as sent; `None`: nothing waits. The message is
    /// empty if none of its records can be in one.
    pub(super) fn compose(&mut self, backlog: &mut Backlog) -> Option<MessageBatch> {
        self.message.clear();
        self.start = 0;
        if let Some(batch) = self.compose_sample() {
            return Some(batch);
        }
        let chunk = match &mut self.messages {
            Messages::Forward(forward) => Some(forward.begin(&mut self.message)),
            Messages::Http(http) => Some(http.begin(&mut self.message)),
            _ => None,
        };
        let mut batch = MessageBatch { chunk, ..MessageBatch::default() };
        let mut is_any = false;
        while let Some(entry) = backlog.peek() {
            let (sequence, length) = (entry.sequence, entry.bytes.len());
            let is_added = self.add(entry.bytes, batch.records == 0).is_some();
            if batch.records == 0
                && is_added
                && let Messages::Http(http) = &mut self.messages
            {
                http.search.remember(entry.bytes);
            }
            backlog.send(length);
            is_any = true;
            batch.sequence = sequence;
            batch.records += u64::from(is_added);
            batch.left_out += u64::from(!is_added);
            if self.is_complete(&batch) {
                break;
            }
        }
        match &self.messages {
            _ if batch.records == 0 => self.message.clear(),
            Messages::Forward(forward) => forward.end(batch.records, &mut self.message),
            Messages::Http(http) => self.start = http.end(&mut self.message),
            _ => {}
        }
        is_any.then_some(batch)
    }

    /// Makes a request with the sample, if one is to be sent: no part of the backlog.
    fn compose_sample(&mut self) -> Option<MessageBatch> {
        let sample = self.http()?.search.sample()?.to_vec();
        let Messages::Http(http) = &mut self.messages else { return None };
        let chunk = Some(http.begin(&mut self.message));
        let is_added = self.add(&sample, true).is_some();
        let Messages::Http(http) = &mut self.messages else { return None };
        if !is_added {
            http.search.skip_sample();
            self.message.clear();
            return None;
        }
        self.start = http.end(&mut self.message);
        Some(MessageBatch { records: 1, chunk, ..MessageBatch::default() })
    }

    /// Whether the message has all records that it can have.
    fn is_complete(&self, batch: &MessageBatch) -> bool {
        match &self.messages {
            Messages::Forward(_) => self.message.len() >= MESSAGE_BATCH_BYTES,
            Messages::Http(http) => {
                self.message.len() >= REQUEST_BYTES
                    || http.search.is_complete(batch.sequence, batch.records)
            }
            _ => true,
        }
    }

    /// The last message that was made.
    pub(super) fn message(&self) -> &[u8] {
        &self.message[self.start..]
    }

    /// Adds a record to the message; `None` if it cannot be in one.
    fn add(&mut self, entry: &[u8], is_first: bool) -> Option<()> {
        let (note, record) = Note::read(entry)?;
        let mut pieces = [record, &[], &[]];
        // A datagram may be lost, and the lists in it.
        let is_compact = self.messages.is_compact() && self.is_stream;
        if is_compact && self.known.has(note.lists) {
            pieces = note.lists.leave_out(record, note.middle)?;
        }
        match &self.messages {
            Messages::Json { .. } => {
                for piece in pieces {
                    self.message.extend_from_slice(piece);
                }
                if self.is_stream {
                    self.message.push(b'\n');
                }
            }
            Messages::Events(schema) => {
                event(*schema, note, record, &mut self.record, &mut self.message)?;
                if self.is_stream {
                    self.message.push(b'\n');
                }
            }
            Messages::Forward(_) => {
                self.record.clear();
                for piece in pieces {
                    self.record.extend_from_slice(piece);
                }
                forward::append_entry(note.time(record)?, &self.record, &mut self.message)?;
            }
            Messages::Http(http) => match &http.body {
                Body::Lines | Body::Events(_) => {
                    let start = self.message.len();
                    let (envelope, message) = (http.envelope, &mut self.message);
                    // Only Splunk's has a time.
                    let about = (envelope == Envelope::Splunk).then(|| note.about(record));
                    let begun = envelope.begin(about.flatten().as_ref(), record, message);
                    let written = begun.and_then(|()| {
                        if let Body::Events(schema) = &http.body {
                            return event(*schema, note, record, &mut self.record, message);
                        }
                        message.extend_from_slice(record);
                        Some(())
                    });
                    if written.is_none() {
                        message.truncate(start);
                    }
                    written?;
                    envelope.end(message);
                }
                Body::Otlp(_) => {
                    Otlp::append(&note.about(record)?, record, is_first, &mut self.message)?;
                }
            },
            Messages::Syslog { syslog, .. } => {
                let about = note.about(record)?;
                let message = syslog.write(&about, record, &mut self.frame).ok()?;
                self.message.extend_from_slice(message);
            }
        }
        if is_compact {
            self.known.add(note.lists);
        }
        Some(())
    }
}

/// Appends a record as an event that is no longer than a record may be. What is longer is made of
/// the shortened record.
fn event(
    schema: Schema,
    note: Note,
    record: &[u8],
    short: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let start = out.len();
    let about = note.about(record)?;
    schema.append(&about, record, out)?;
    let mut room = record.len();
    while out.len() - start >= RECORD_BYTES_MAX {
        room = room.checked_sub(out.len() - start - RECORD_BYTES_MAX + 1)?;
        out.truncate(start);
        short.resize(room, 0);
        let length = shorten(record, short).ok()?;
        schema.append(&about, &short[..length], out)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_no_longer_than_a_record_may_be() {
        let time = "2026-11-20T07:31:46.905224659+00:00";
        let start = format!(
            "{{\"message_type\":\"EVENT\",\"message_id\":\"1\",\
             \"occurred_message_time_iso_8601_ns\":\"{time}"
        );
        let activity = Activity::ProcessCreated;
        let middle = start.len() as u16;
        let lists = HeaderLists::default();
        let kind = RecordKind::Activity(activity);
        let note = Note { kind, severity: Severity::Info, middle, lists };
        // The last name of the path is written twice.
        for (length, is_cut) in [(12_000, false), (20_000, true), (30_000, true)] {
            let path = "x".repeat(length);
            let record = format!(
                "{start}\",\"activity_data\":{{\"name\":\"process_created\",\"process_details\":\
                 {{\"process_name\":\"a\",\"process_id\":1,\
                 \"process_executable_path\":\"/{path}\"}}}}}}"
            );
            for schema in [Schema::Ocsf, Schema::Ecs] {
                let mut out = b"before".to_vec();
                event(schema, note, record.as_bytes(), &mut Vec::new(), &mut out).unwrap();
                let event = &out[b"before".len()..];
                assert!(event.len() < RECORD_BYTES_MAX, "{}", event.len());
                serde_json::from_slice::<serde_json::Value>(event).unwrap();
                let text = std::str::from_utf8(event).unwrap();
                let is_short = schema == Schema::Ecs && length < RECORD_BYTES_MAX - 1000;
                assert_eq!(text.contains("\"truncated\":true"), is_cut && !is_short);
            }
        }
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let lists = HeaderLists { system: u64::MAX - 1, content: 7, places: [(1, 2), (30, 65535)] };
        let all = Activity::ALL.iter().map(|activity| RecordKind::Activity(*activity));
        for kind in all.chain([RecordKind::Flow]) {
            let note = Note { kind, severity: Severity::Critical, middle: 400, lists };
            let bytes = [&note.to_bytes()[..], b"a record"].concat();
            assert_eq!(Note::read(&bytes), Some((note, &b"a record"[..])));
            assert_eq!(Note::read(&bytes[..NOTE_BYTES - 1]), None);
        }
        assert_eq!(Note::read(&[0xff; 99]), None);
    }

    /// Each form has the record of a flow as it is, or its values, and its time.
    #[test]
    fn records_of_flows_are_messages_in_each_form_but_schemas() {
        const RECORD: &str = concat!(
            r#"{"kind":"flow","first_time":"2026-11-20T07:31:45.000000000+00:00","#,
            r#""last_time":"2026-11-20T07:31:46.905224659+00:00","duration_us":1905224.659,"#,
            r#""protocol":"tcp","source_address":"10.0.0.1","source_port":40000,"#,
            r#""tcp":{"source_port":1},"packet_sequence":[[517,0],[-1400,1000]]}"#,
        );
        let lists = HeaderLists::default();
        let (kind, severity) = (RecordKind::Flow, Severity::Info);
        let note = Note { kind, severity, middle: 0, lists };
        let entry = [&note.to_bytes()[..], RECORD.as_bytes()].concat();
        let message = |messages| {
            let mut composer = Composer::new(messages);
            composer.begin(true);
            composer.add(&entry, true).map(|()| composer.message().to_vec())
        };
        let text = |messages| String::from_utf8(message(messages).unwrap()).unwrap();
        assert_eq!(text(Messages::Json { is_compact: true }), format!("{RECORD}\n"));
        let syslog = Syslog::new(MessageFraming::LineFeed, 16, "a", 7);
        let header = "<134>1 2026-11-20T07:31:46.905224Z a panoptes 7 network_flow - ";
        let syslog = Messages::Syslog { syslog, stream: MessageFraming::LineFeed };
        assert_eq!(text(syslog), format!("{header}{RECORD}\n"));
        for schema in [Schema::Ocsf, Schema::Ecs] {
            assert_eq!(message(Messages::Events(schema)), None);
        }
        let mut out = Vec::new();
        crate::output::form::msgpack::append(RECORD.as_bytes(), &mut out).unwrap();
        // -1400 as a signed number of 16 bits.
        assert!(out.windows(3).any(|part| part == [0xd1, 0xfa, 0x88]), "{out:?}");
        let state = concat!(
            r#"{"kind":"flow_sensor","begin_time":"2026-11-20T07:31:46.905224659+00:00","#,
            r#""time":"2026-11-20T07:31:47.905224659+00:00"}"#,
        );
        let expected = b"2026-11-20T07:31:47.905224659+00:00";
        assert_eq!(note.time(state.as_bytes()), Some(expected));
        let about = note.about(RECORD.as_bytes()).unwrap();
        let mut out = Vec::new();
        Envelope::Splunk.begin(Some(&about), RECORD.as_bytes(), &mut out).unwrap();
        assert!(out.starts_with(b"{\"time\":1795159906.905224659,"), "{out:?}");
        let mut out = Vec::new();
        Otlp::append(&about, RECORD.as_bytes(), true, &mut out).unwrap();
        let log: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(log["body"]["stringValue"], RECORD);
        let attribute = |key: &str| {
            let all = log["attributes"].as_array().unwrap();
            let named: Vec<_> = all.iter().filter(|one| one["key"] == key).collect();
            assert_eq!(named.len(), 1, "{key}: {log}");
            named[0]["value"].clone()
        };
        assert_eq!(attribute("activity")["stringValue"], "network_flow");
        assert_eq!(attribute("source.address")["stringValue"], "10.0.0.1");
        assert_eq!(attribute("source.port")["intValue"], "40000");
    }
}
