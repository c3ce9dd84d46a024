//! Single values of a receiver.

use std::path::{Path, PathBuf};

use panoptes_records::activities::Activity;
use panoptes_records::filter::NETWORK_FLOW;

use super::TelemetryTransport;
use crate::config::section::{Section, advice};
use crate::config::value::{ByteSize, KeywordSetting, Setting};

/// How much is kept while a receiver cannot be reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backlog {
    pub memory: ByteSize,
    /// How much is kept on the disk, if anything is; it survives a restart.
    pub disk: Option<ByteSize>,
}

/// How a receiver of syslog messages finds their ends in a stream (RFC 6587).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SyslogFraming {
    /// The message's length and a blank come first.
    OctetCounting,
    /// A line feed follows.
    LineFeed,
}

/// The number of a facility of syslog (RFC 5424, 6.2.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facility(pub u8);

/// The name of a field in the header of an HTTP request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldName(pub String);

/// The value of such a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FieldValue {
    Text(String),
    /// A file whose first line is the value, such as a token.
    File(PathBuf),
}

/// What a receiver can choose by name.
pub(super) enum ActivityName {
    Activity(Activity),
    /// The records of `flows`.
    NetworkFlow,
}

impl Backlog {
    /// The bounds of each part. A record can have 31 KiB.
    const MEMORY: [ByteSize; 2] = [ByteSize(64 << 10), ByteSize(1 << 40)];
    const DISK: [ByteSize; 2] = [ByteSize::mebibytes(1), ByteSize(1 << 50)];

    /// Reads `key`: a size in memory, or sizes in memory and on the disk.
    pub(super) fn read(&mut self, key: &'static str, section: &mut Section<'_>) {
        let [memory_min, memory_max] = Self::MEMORY;
        section.section_or_value(key, "memory", |section| {
            section.value_in("memory", &mut self.memory, memory_min..=memory_max);
            let [disk_min, disk_max] = Self::DISK.map(Some);
            section.value_in("disk", &mut self.disk, disk_min..=disk_max);
        });
    }
}

impl Default for Backlog {
    fn default() -> Self {
        Self { memory: ByteSize::mebibytes(16), disk: None }
    }
}

impl SyslogFraming {
    /// How most receivers read such a stream.
    pub(super) const fn default_of(transport: TelemetryTransport) -> Self {
        match transport {
            TelemetryTransport::Unix => Self::LineFeed,
            _ => Self::OctetCounting,
        }
    }
}

impl KeywordSetting for SyslogFraming {
    const WORDS: &'static [(&'static str, Self)] =
        &[("octet_counting", Self::OctetCounting), ("lf", Self::LineFeed)];
}

impl Facility {
    pub const LOCAL0: Self = Self(16);

    /// The names in `syslog.h`. The numbers 12 to 15 have none.
    const NAMES: [(&'static str, u8); 20] = [
        ("kern", 0),
        ("user", 1),
        ("mail", 2),
        ("daemon", 3),
        ("auth", 4),
        ("syslog", 5),
        ("lpr", 6),
        ("news", 7),
        ("uucp", 8),
        ("cron", 9),
        ("authpriv", 10),
        ("ftp", 11),
        ("local0", 16),
        ("local1", 17),
        ("local2", 18),
        ("local3", 19),
        ("local4", 20),
        ("local5", 21),
        ("local6", 22),
        ("local7", 23),
    ];
}

impl Setting for Facility {
    const FORM: &'static str = "facility of syslog";

    fn show(&self) -> String {
        let name = Self::NAMES.iter().find(|(_, number)| *number == self.0);
        name.map_or_else(|| self.0.to_string(), |(name, _)| (*name).to_owned())
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        let name = Self::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        let number = name.map(|(_, number)| *number).or_else(|| text.parse().ok());
        number.filter(|number| *number < 24).map(Self).ok_or_else(|| {
            "is not a facility of syslog; write a name, such as local0 or authpriv, or a number \
             from 0 to 23"
                .to_owned()
        })
    }
}

impl Setting for FieldName {
    const FORM: &'static str = "name";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        // RFC 9110, 5.6.2.
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || text.len() > FIELD_NAME_BYTES_MAX || !text.bytes().all(is_token) {
            return Err("is not the name of a header field, such as Authorization".to_owned());
        }
        if OWN_FIELDS.iter().any(|own| own.eq_ignore_ascii_case(text)) {
            return Err("is a header field that panoptes writes itself".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl Setting for FieldValue {
    const FORM: &'static str = "text or file:PATH";

    fn show(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => format!("file:{}", path.display()),
        }
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return PathBuf::read(path, base).map(Self::File);
        }
        let text = String::read(text, base)?;
        // RFC 9110, 5.5.
        if text.bytes().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t')) {
            Ok(Self::Text(text))
        } else {
            Err("has characters that a header field cannot have".to_owned())
        }
    }
}

impl Setting for ActivityName {
    const FORM: &'static str = "activity";

    fn show(&self) -> String {
        match self {
            Self::Activity(activity) => activity.name().to_owned(),
            Self::NetworkFlow => NETWORK_FLOW.to_owned(),
        }
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        if text == NETWORK_FLOW {
            return Ok(Self::NetworkFlow);
        }
        let names = Activity::ALL.iter().map(|activity| activity.name());
        let names: Vec<&str> = names.chain([NETWORK_FLOW]).collect();
        let found = Activity::from_name(text).map(Self::Activity);
        found.ok_or_else(|| format!("is no activity; {}", advice(text, &names)))
    }
}

const FIELD_NAME_BYTES_MAX: usize = 64;

/// Fields that depend on the body of a request, or on the connection.
const OWN_FIELDS: [&str; 6] = [
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Host",
    "Transfer-Encoding",
];
