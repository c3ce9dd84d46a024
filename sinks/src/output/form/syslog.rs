//! Records as syslog messages (RFC 5424), framed for a stream (RFC 6587) or a datagram (RFC 5426).
//!
//! ```text
//! <134>1 2026-11-20T07:31:46.905224Z sensor-1 panoptes 4711 process_created - {"vendor_name":…
//! ```
//!
//! The header names the machine that watches; the watched one is in the record. Common receivers
//! set the rules: rsyslog cuts messages at 8,096 bytes and garbles times with more than six digits
//! after the second, and a byte order mark before the record breaks its reader's JSON.

use panoptes_records::activities::{Activity, Severity};
use panoptes_records::filter::NETWORK_FLOW;
use panoptes_records::json::shorten::shorten;
use panoptes_records::json::time::TIMESTAMP_LENGTH;
use panoptes_records::json::{Full, JsonWriter, Limits};

/// Maximum length of a message, its header included and its framing not.
pub const MESSAGE_BYTES_MAX: usize = 8000;

/// Maximum length of a message with its framing.
pub const FRAME_BYTES_MAX: usize = LENGTH_BYTES_MAX + MESSAGE_BYTES_MAX + 1;

/// `8000 ` before a message.
const LENGTH_BYTES_MAX: usize = 5;
const _: () = assert!(MESSAGE_BYTES_MAX < 10_usize.pow(LENGTH_BYTES_MAX as u32 - 1));

/// How a receiver finds the end of a message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MessageFraming {
    /// The message's length and a blank come first.
    #[default]
    OctetCounting,
    /// A line feed follows the message, which has none.
    LineFeed,
    /// Each message is a datagram.
    Datagram,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordKind {
    Activity(Activity),
    /// A record of the sensor of flows.
    Flow,
}

impl RecordKind {
    /// Its name in records, and that of a flow in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activity(activity) => activity.name(),
            Self::Flow => NETWORK_FLOW,
        }
    }

    fn message_id(self) -> &'static str {
        match self {
            Self::Activity(activity) => activity.info().short_id,
            Self::Flow => NETWORK_FLOW,
        }
    }
}

/// The parts of a record that the header of its message has.
#[derive(Clone, Copy, Debug)]
pub struct MessageSubject<'r> {
    pub kind: RecordKind,
    pub severity: Severity,
    /// `occurred_message_time_iso_8601_ns`; of the sensor of flows, `last_time` or `time`.
    pub time: &'r [u8; TIMESTAMP_LENGTH],
}

/// Makes the messages of one sender.
#[derive(Debug)]
pub struct Syslog {
    framing: MessageFraming,
    facility: u8,
    /// ` HOSTNAME APP-NAME PROCID `
    sender: String,
}

/// RFC 5424, 6: lengths of HOSTNAME and of PROCID.
const HOSTNAME_BYTES_MAX: usize = 255;
const APP_NAME: &str = "panoptes";

impl Syslog {
    /// Messages from this machine and process. The facility is a number (RFC 5424, 6.2.1).
    pub fn new(framing: MessageFraming, facility: u8, hostname: &str, process_id: u32) -> Self {
        let printable = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { '?' };
        let name: String = hostname.bytes().take(HOSTNAME_BYTES_MAX).map(printable).collect();
        let name = if name.is_empty() { "-" } else { name.as_str() };
        Self { framing, facility, sender: format!(" {name} {APP_NAME} {process_id} ") }
    }

    /// How the next messages are framed.
    pub fn set_framing(&mut self, framing: MessageFraming) {
        self.framing = framing;
    }

    /// Writes the message of a record, which has no line feed, into `out`. Returns the message in
    /// its frame.
    ///
    /// A record that is too long is shortened. Gives [`Full`] if that is impossible.
    pub fn write<'o>(
        &self,
        about: &MessageSubject<'_>,
        record: &[u8],
        out: &'o mut [u8; FRAME_BYTES_MAX],
    ) -> Result<&'o [u8], Full> {
        let message = &mut out[LENGTH_BYTES_MAX..LENGTH_BYTES_MAX + MESSAGE_BYTES_MAX];
        let header = self.header(about, message)?;
        let length = header + shorten(record, &mut message[header..])?;
        let end = LENGTH_BYTES_MAX + length;
        let frame = match self.framing {
            MessageFraming::OctetCounting => {
                let mut before = [0; LENGTH_BYTES_MAX];
                let mut writer = JsonWriter::new(&mut before, Limits::new(0));
                writer.number("", length as u64)?;
                writer.raw(b" ")?;
                let start = LENGTH_BYTES_MAX - writer.length();
                out[start..LENGTH_BYTES_MAX].copy_from_slice(&before[..LENGTH_BYTES_MAX - start]);
                start..end
            }
            MessageFraming::LineFeed => {
                out[end] = b'\n';
                LENGTH_BYTES_MAX..end + 1
            }
            MessageFraming::Datagram => LENGTH_BYTES_MAX..end,
        };
        Ok(&out[frame])
    }

    /// Writes the header and the blank behind it; returns their length.
    fn header(&self, about: &MessageSubject<'_>, out: &mut [u8]) -> Result<usize, Full> {
        let mut out = JsonWriter::new(out, Limits::new(0));
        out.number("<", u64::from(self.facility) * 8 + severity(about.severity))?;
        out.raw(b">1 ")?;
        if about.time.starts_with(NEVER_SET) {
            out.raw(b"-")?;
        } else {
            out.raw(&about.time[..SECONDS_BYTES])?;
            out.raw(b"Z")?;
        }
        out.raw(self.sender.as_bytes())?;
        out.raw(about.kind.message_id().as_bytes())?;
        // No structured data.
        out.raw(b" - ")?;
        Ok(out.length())
    }
}

/// `2026-11-20T07:31:46.905224`: six digits are the most that RFC 5424 allows (6.2.3).
const SECONDS_BYTES: usize = 26;

/// The time of a clock that was never set is left out (6.2.3).
const NEVER_SET: &[u8] = b"1970-01-01T";

/// The severity's number in RFC 5424, 6.2.1.
const fn severity(severity: Severity) -> u64 {
    match severity {
        Severity::Critical => 2,
        Severity::High | Severity::Error => 3,
        Severity::Warning | Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Info => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &[u8] = b"{\"vendor_name\":\"PANOPTES\"}";
    const TIME: &[u8; TIMESTAMP_LENGTH] = b"2026-11-20T07:31:46.905224659+00:00";

    fn message(syslog: &Syslog, activity: Activity, severity: Severity) -> String {
        let about = MessageSubject { kind: RecordKind::Activity(activity), severity, time: TIME };
        let mut out = [0; FRAME_BYTES_MAX];
        String::from_utf8(syslog.write(&about, RECORD, &mut out).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn messages_have_the_header_of_rfc_5424_in_the_frame_that_was_chosen() {
        let plain = "<134>1 2026-11-20T07:31:46.905224Z sensor-1 panoptes 4711 process_created - \
                     {\"vendor_name\":\"PANOPTES\"}";
        for (framing, expected) in [
            (MessageFraming::OctetCounting, format!("{} {plain}", plain.len())),
            (MessageFraming::LineFeed, format!("{plain}\n")),
            (MessageFraming::Datagram, plain.to_owned()),
        ] {
            let syslog = Syslog::new(framing, 16, "sensor-1", 4711);
            assert_eq!(message(&syslog, Activity::ProcessCreated, Severity::Info), expected);
        }
    }

    #[test]
    fn a_clock_that_was_never_set_gives_no_time() {
        let syslog = Syslog::new(MessageFraming::Datagram, 16, "a", 1);
        let (kind, severity) = (RecordKind::Activity(Activity::ProcessCreated), Severity::Info);
        let time = b"1970-01-01T00:00:12.905224659+00:00";
        let mut out = [0; FRAME_BYTES_MAX];
        let message =
            syslog.write(&MessageSubject { kind, severity, time }, RECORD, &mut out).unwrap();
        assert!(message.starts_with(b"<134>1 - a panoptes 1 process_created - {"), "{message:?}");
    }

    #[test]
    fn every_severity_has_its_priority() {
        let syslog = Syslog::new(MessageFraming::Datagram, 16, "sensor-1", 1);
        for (severity, priority) in [
            (Severity::Info, "<134>"),
            (Severity::Low, "<133>"),
            (Severity::Warning, "<132>"),
            (Severity::Medium, "<132>"),
            (Severity::High, "<131>"),
            (Severity::Error, "<131>"),
            (Severity::Critical, "<130>"),
        ] {
            let message = message(&syslog, Activity::ProcessZombie, severity);
            assert!(message.starts_with(&format!("{priority}1 ")), "{message}");
        }
    }

    #[test]
    fn the_message_id_is_the_activitys_short_id() {
        let syslog = Syslog::new(MessageFraming::Datagram, 16, "sensor-1", 1);
        for &activity in Activity::ALL {
            let message = message(&syslog, activity, Severity::Info);
            assert_eq!(message.split(' ').nth(5), Some(activity.info().short_id));
        }
    }

    #[test]
    fn a_flow_has_a_message_id_of_its_own() {
        let syslog = Syslog::new(MessageFraming::Datagram, 16, "a", 1);
        let about = MessageSubject { kind: RecordKind::Flow, severity: Severity::Info, time: TIME };
        let mut out = [0; FRAME_BYTES_MAX];
        let message = syslog.write(&about, b"{}", &mut out).unwrap();
        let expected = b"<134>1 2026-11-20T07:31:46.905224Z a panoptes 1 network_flow - {}";
        assert_eq!(message, expected);
    }

    #[test]
    fn hostnames_have_only_what_the_header_allows() {
        let check = |hostname: &str, expected: &str| {
            let syslog = Syslog::new(MessageFraming::Datagram, 16, hostname, 1);
            let message = message(&syslog, Activity::ProcessCreated, Severity::Info);
            assert_eq!(message.split(' ').nth(2), Some(expected));
        };
        check("", "-");
        check("a b\nc", "a?b?c");
        check("é", "??");
        check(&"x".repeat(300), &"x".repeat(255));
    }
}
