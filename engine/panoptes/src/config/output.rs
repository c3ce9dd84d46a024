//! `output`: where records go.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use panoptes_sinks::activities::Preset;
use panoptes_sinks::output::lines::Form;

use super::section::Section;
use super::value::{AutoOr, ByteSize, FolderOrNone, Setting, Word};

/// Where records go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Output {
    /// Whether records go to standard output.
    pub stdout: bool,
    /// The folder of the event log; `None` is no event log.
    pub log_folder: Option<PathBuf>,
    /// Whether each system has an event log of its own, too.
    pub log_per_system: bool,
    /// A file that reaches this size is rotated.
    pub rotate_size: ByteSize,
    /// How many files are kept, including the current one.
    pub max_files: u32,
    pub sync: Sync,
    /// Which activities the outputs have; auto is everything, and security on a terminal.
    pub preset: AutoOr<Preset>,
    pub header: HeaderForm,
    /// `user_data` of every record.
    pub user_data: String,
    /// Remote receivers of records.
    pub telemetry: Vec<Telemetry>,
    /// The address that serves metrics of the program.
    pub metrics: Option<NetworkAddress>,
}

/// The form of the records' headers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HeaderForm {
    #[default]
    Full,
    /// The lists of interfaces are written only where they are new.
    Compact,
}

/// When written records are forced to the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sync {
    /// Left to the operating system.
    Never,
    /// At most this long after the write.
    Every(Duration),
    /// With every write.
    Always,
}

/// One receiver of records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Telemetry {
    pub address: TelemetryAddress,
    pub transport: Transport,
    /// Identifies Panoptes to the receiver.
    pub tag: String,
    pub format: TelemetryFormat,
    /// How much is buffered while the receiver is unreachable.
    pub backlog: ByteSize,
}

/// The address of a receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TelemetryAddress {
    Network(NetworkAddress),
    /// A Unix socket on this host.
    Unix(PathBuf),
}

/// The transport to a receiver.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Transport {
    #[default]
    Tcp,
    /// TLS over TCP.
    Tls,
    Udp,
    /// A Unix socket.
    Unix,
}

/// The format of records for a receiver.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TelemetryFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// RFC 5424.
    Syslog,
    /// The Forward protocol.
    Forward,
    /// Events of the Open Cybersecurity Schema Framework.
    Ocsf,
}

/// A host and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetworkAddress {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

impl Output {
    /// Reads the section. `log_folder` is the option of the command line, which may be a path that
    /// is not text.
    pub(crate) fn read(&mut self, log_folder: Option<&Path>, section: &mut Section<'_>) {
        section.value("stdout", &mut self.stdout);
        let mut folder = FolderOrNone(self.log_folder.take());
        section.value("log_folder", &mut folder);
        self.log_folder = log_folder.map(Path::to_owned).or(folder.0);
        section.value("log_per_system", &mut self.log_per_system);
        if self.log_per_system && self.log_folder.is_none() {
            let message = format!("`{}` needs a log_folder", section.full("log_per_system"));
            section.refuse("log_per_system", message);
        }
        section.value_in(
            "rotate_size",
            &mut self.rotate_size,
            ROTATE_SIZE_MIN..=ByteSize(u64::MAX),
        );
        section.value_in("max_files", &mut self.max_files, 1..=1000);
        section.value("sync", &mut self.sync);
        if let Sync::Every(duration) = self.sync
            && !(Duration::from_millis(1)..=Duration::from_hours(1)).contains(&duration)
        {
            let message = format!(
                "`{}` is {}; it must be from 1ms to 1h, or never or always",
                section.full("sync"),
                duration.show()
            );
            section.refuse("sync", message);
        }
        section.value("preset", &mut self.preset);
        section.value("header", &mut self.header);
        let mut user_data = UserData(std::mem::take(&mut self.user_data));
        section.value("user_data", &mut user_data);
        self.user_data = user_data.0;
        let telemetry = &mut self.telemetry;
        section.sections("telemetry", |section| telemetry.extend(Telemetry::read(section)));
        section.not_built("telemetry");
        if !self.stdout && self.log_folder.is_none() && self.telemetry.is_empty() {
            let message =
                "`output` sends records nowhere; give it a log_folder, stdout or telemetry";
            section.refuse("log_folder", message);
        }
        section.section("metrics", |section| section.value("address", &mut self.metrics));
        section.not_built("metrics");
    }
}

impl Output {
    /// The form of records for programs.
    pub fn form(&self) -> Form {
        match self.header {
            HeaderForm::Full => Form::Full,
            HeaderForm::Compact => Form::Compact,
        }
    }

    /// The preset of logs, and of standard output that is no terminal.
    pub fn preset(&self) -> Preset {
        self.preset_or(Preset::default())
    }

    /// The preset of a terminal on which a person watches.
    pub fn preset_on_terminal(&self) -> Preset {
        self.preset_or(Preset::Security)
    }

    fn preset_or(&self, preset: Preset) -> Preset {
        match self.preset {
            AutoOr::Auto => preset,
            AutoOr::Given(preset) => preset,
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self {
            stdout: false,
            log_folder: None,
            log_per_system: false,
            rotate_size: ByteSize::mebibytes(64),
            max_files: 10,
            sync: Sync::Every(Duration::from_secs(1)),
            preset: AutoOr::Auto,
            header: HeaderForm::Full,
            user_data: "NONE".to_owned(),
            telemetry: Vec::new(),
            metrics: None,
        }
    }
}

impl Telemetry {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let mut transport = Transport::default();
        section.value("transport", &mut transport);
        let mut tag = "panoptes".to_owned();
        section.value("tag", &mut tag);
        let mut format = TelemetryFormat::default();
        section.value("format", &mut format);
        let mut backlog = ByteSize::mebibytes(16);
        section.value_in("backlog", &mut backlog, ByteSize(1 << 16)..=ByteSize(1 << 40));
        let address = if transport == Transport::Unix {
            let mut path: Option<PathBuf> = None;
            section.value("address", &mut path);
            path.map(TelemetryAddress::Unix)
        } else {
            let mut network: Option<NetworkAddress> = None;
            section.value("address", &mut network);
            network.map(TelemetryAddress::Network)
        };
        if !section.has("address") {
            let message = format!("`{}` is missing; write host:port", section.full("address"));
            section.refuse("address", message);
        }
        if transport == Transport::Udp && format == TelemetryFormat::Forward {
            let message = "`format: forward` needs a stream; use `transport: tcp`, tls or unix";
            section.refuse("format", message);
        }
        Some(Self { address: address?, transport, tag, format, backlog })
    }
}

/// Free text of a bounded length, since every record contains it.
struct UserData(String);

impl Setting for UserData {
    const FORM: &'static str = "text";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        if text.len() > USER_DATA_BYTES_MAX {
            return Err(format!("is longer than {USER_DATA_BYTES_MAX} bytes"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Setting for Sync {
    const FORM: &'static str = "duration from 1ms to 1h, never or always";

    fn show(&self) -> String {
        match self {
            Self::Never => "never".to_owned(),
            Self::Always => "always".to_owned(),
            Self::Every(duration) => duration.show(),
        }
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            "always" => Ok(Self::Always),
            _ => Duration::read(text, base)
                .map(Self::Every)
                .map_err(|_| "is not one of never, always, or a duration such as 1s".to_owned()),
        }
    }
}

impl Word for Preset {
    const WORDS: &'static [(&'static str, Self)] = &[
        (Self::Alerts.word(), Self::Alerts),
        (Self::Security.word(), Self::Security),
        (Self::Everything.word(), Self::Everything),
    ];
}

impl Word for HeaderForm {
    const WORDS: &'static [(&'static str, Self)] =
        &[("full", Self::Full), ("compact", Self::Compact)];
}

impl Word for Transport {
    const WORDS: &'static [(&'static str, Self)] =
        &[("tcp", Self::Tcp), ("tls", Self::Tls), ("udp", Self::Udp), ("unix", Self::Unix)];
}

impl Word for TelemetryFormat {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("json", Self::Json),
        ("syslog", Self::Syslog),
        ("forward", Self::Forward),
        ("ocsf", Self::Ocsf),
    ];
}

impl Setting for NetworkAddress {
    const FORM: &'static str = "host:port";

    fn show(&self) -> String {
        self.to_string()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        const FORM: &str = "is not host:port; write for example 127.0.0.1:24224, [::1]:24224 or \
                            collector.example.com:24224";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| FORM.to_owned())?;
        let port: u16 =
            port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                format!("has no port from 1 to {} after its last colon", u16::MAX)
            })?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|_| inner),
            None => is_host_name(host).then_some(host),
        };
        let host = host.ok_or_else(|| FORM.to_owned())?.to_owned();
        Ok(Self { host, port })
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => write!(out, "[{address}]:{}", self.port),
            _ => write!(out, "{}:{}", self.host, self.port),
        }
    }
}

fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// A record is at most 31 KiB and is never split over two files.
const ROTATE_SIZE_MIN: ByteSize = ByteSize(64 << 10);

/// Leaves most of a record, which is at most 31 KiB, for other data.
const USER_DATA_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_named_by_host_and_port() {
        let read =
            |text| NetworkAddress::read(text, Path::new("")).map(|address| address.to_string());
        for good in ["127.0.0.1:24224", "[::1]:24224", "collector.example.com:514"] {
            assert_eq!(read(good).as_deref(), Ok(good));
        }
        for wrong in ["", "host", "host:", ":1", "host:0", "host:70000", "::1:5", "[x]:1", "a b:1"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn syncing_is_never_always_or_a_time() {
        let read = |text| Sync::read(text, Path::new(""));
        assert_eq!(read("never"), Ok(Sync::Never));
        assert_eq!(read("always"), Ok(Sync::Always));
        assert_eq!(read("1s"), Ok(Sync::Every(Duration::from_secs(1))));
        assert!(read("sometimes").is_err());
    }
}
