//! `output.telemetry`: remote receivers of records, and what each of them gets.
//!
//! A key that would have no effect beside the others is a mistake.
//!
//! Not for: looking up names, or reading the files of keys and tokens.

mod address;
mod choice;
mod known;
mod values;

use std::path::{Path, PathBuf};

use panoptes_records::activities::Preset;
use panoptes_records::filter::RECEIVERS_MAX;
use panoptes_sinks::output::form::Envelope;
use sha2::{Digest as _, Sha256};

pub use address::{HostName, NetworkAddress, Url};
pub use choice::RecordChoice;
use known::Objection;
pub use values::{Backlog, Facility, FieldName, FieldValue, SyslogFraming};

use super::events::Events;
use super::header::HeaderForm;
use super::problem::printable;
use super::section::Section;
use super::value::{AutoOr, KeywordSetting, Setting as _};

/// One receiver of records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Telemetry {
    pub address: TelemetryAddress,
    pub transport: TelemetryTransport,
    /// How the connection is encrypted, if it is.
    pub tls: Option<TelemetryTls>,
    /// Identifies Panoptes to the receiver.
    pub tag: String,
    pub format: TelemetryFormat,
    /// How a receiver of syslog messages finds their ends in a stream.
    pub framing: SyslogFraming,
    /// The facility of syslog messages.
    pub facility: Facility,
    /// The envelope of each record in the body of an HTTP request.
    pub envelope: Envelope,
    /// Fields of the header of each HTTP request.
    pub headers: Vec<(FieldName, FieldValue)>,
    pub backlog: Backlog,
    /// Which records it gets.
    pub choice: RecordChoice,
    pub header: HeaderForm,
}

/// The address of a receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TelemetryAddress {
    Network(NetworkAddress),
    /// A Unix socket on this host.
    Unix(PathBuf),
    /// Where HTTP requests go.
    Url(Url),
}

/// How a receiver proves who it is, and Panoptes to it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TelemetryTls {
    /// A file of the certificates that may sign the receiver's; auto: those of this machine.
    pub ca: AutoOr<PathBuf>,
    /// Files of Panoptes' own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The name in the receiver's certificate; auto: the host in the address.
    pub server_name: AutoOr<HostName>,
}

/// The transport to a receiver.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TelemetryTransport {
    #[default]
    Tcp,
    /// TLS over TCP.
    Tls,
    Udp,
    /// A Unix socket.
    Unix,
    /// Requests of HTTP/1.1, each with many records.
    Http,
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
    /// Logs of OpenTelemetry (OTLP/HTTP, JSON).
    Otlp,
    /// Events of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// The Elastic Common Schema.
    Ecs,
}

/// The settings of logs that those of a receiver depend on.
#[derive(Debug)]
pub(super) struct LogSettings<'a> {
    /// The preset of logs.
    pub(super) preset: Preset,
    /// The header of logs.
    pub(super) header: HeaderForm,
    /// Whether consumers know no compact header.
    pub(super) needs_full_header: bool,
    /// The events of `default` and of all systems.
    pub(super) events: Vec<&'a Events>,
}

/// Reads the list of receivers.
pub(super) fn read(others: &LogSettings<'_>, section: &mut Section<'_>) -> Vec<Telemetry> {
    let (mut receivers, mut count) = (Vec::new(), 0);
    section.sections("telemetry", |section| {
        if let Some(receiver) = Telemetry::read(others, section) {
            receiver.check_folder(&receivers, section);
            receivers.push(receiver);
        }
        count += 1;
    });
    if count > RECEIVERS_MAX {
        let path = section.full("telemetry");
        let message = format!("`{path}` has {count} receivers; there can be {RECEIVERS_MAX}");
        section.refuse("telemetry", message);
    }
    receivers
}

/// A longer name of a folder is cut there, and its digest follows.
const FOLDER_BYTES_MAX: usize = 200;

impl Telemetry {
    /// The name of the folder with what waits for it on the disk, at most 255 bytes (`NAME_MAX`).
    /// Another order of the receivers does not change it.
    pub fn folder_name(&self) -> String {
        let address = match &self.address {
            TelemetryAddress::Network(at) => at.to_string(),
            TelemetryAddress::Unix(path) => path.display().to_string(),
            TelemetryAddress::Url(url) => url.without_query(),
        };
        let mut name = format!("{address} {} {}", self.transport.show(), self.format.show());
        if self.format == TelemetryFormat::Forward {
            name.extend([" ", &self.tag]);
        }
        let plain = |byte: char| if byte.is_ascii_alphanumeric() { byte } else { '_' };
        let mut folder: String = name.chars().map(plain).collect();
        if folder.len() > FOLDER_BYTES_MAX {
            folder.truncate(FOLDER_BYTES_MAX);
            let digest = Sha256::digest(&name);
            folder.extend(digest.iter().take(16).map(|byte| format!("{byte:02x}")));
        }
        folder
    }

    /// Refuses the backlog if that of an earlier receiver is in the same folder.
    fn check_folder(&self, earlier: &[Self], section: &Section<'_>) {
        let has_folder = |receiver: &Self| receiver.backlog.disk.is_some();
        let is_same = |one: &Self| has_folder(one) && one.folder_name() == self.folder_name();
        if has_folder(self) && earlier.iter().any(is_same) {
            let key = section.full("backlog.disk");
            let message = format!(
                "`{key}` would be in the folder of an earlier receiver; receivers with a part of \
                 the backlog on disk need another address, format or tag each"
            );
            section.refuse("backlog", message);
        }
    }

    fn read(others: &LogSettings<'_>, section: &mut Section<'_>) -> Option<Self> {
        let (mut transport, mut format) =
            (TelemetryTransport::default(), TelemetryFormat::default());
        section.value("transport", &mut transport);
        section.value("format", &mut format);
        if let Err(why) = check_pair(transport, format) {
            section.refuse("format", why);
        }
        let address = TelemetryAddress::read(transport, format, section);
        let tls = read_tls(transport, address.as_ref(), section);
        let mut tag = "panoptes".to_owned();
        section.value("tag", &mut tag);
        if format != TelemetryFormat::Forward && section.has("tag") {
            let key = section.full("tag");
            section.warn("tag", format!("`{key}` has an effect only with `format: forward`"));
        }
        let (mut facility, mut headers) = (Facility::LOCAL0, Vec::new());
        let mut framing = SyslogFraming::default_of(transport);
        section.value("framing", &mut framing);
        section.value("facility", &mut facility);
        section.texts("headers", "names and texts", &mut headers);
        let mut envelope = Envelope::None;
        section.value("envelope", &mut envelope);
        let has_lines = transport == TelemetryTransport::Http && format != TelemetryFormat::Otlp;
        only_for(has_lines, "envelope", "`transport: http` with json, ocsf or ecs", section);
        if let Some(address) = &address {
            object(address, (transport, format, envelope), section);
        }
        let is_syslog = format == TelemetryFormat::Syslog;
        let is_stream = !matches!(transport, TelemetryTransport::Udp | TelemetryTransport::Http);
        only_for(is_syslog && is_stream, "framing", "`format: syslog` on a stream", section);
        only_for(is_syslog, "facility", "`format: syslog`", section);
        only_for(transport == TelemetryTransport::Http, "headers", "`transport: http`", section);
        let mut backlog = Backlog::default();
        backlog.read("backlog", section);
        let can_have_flows = !matches!(format, TelemetryFormat::Ocsf | TelemetryFormat::Ecs);
        let choice = RecordChoice::read(others, can_have_flows, section);
        let mut header = others.header;
        section.value("header", &mut header);
        let is_event = matches!(format, TelemetryFormat::Ocsf | TelemetryFormat::Ecs);
        only_for(!is_event, "header", "formats that have the record itself", section);
        if transport == TelemetryTransport::Http && !is_event {
            warn_of_compact(header, section);
        }
        if others.needs_full_header && header == HeaderForm::Compact && section.has("header") {
            section.refuse("header", HeaderForm::full_is_needed(&section.full("header")));
        }
        Some(Self {
            address: address?,
            transport,
            tls,
            tag,
            format,
            framing,
            facility,
            envelope,
            headers,
            backlog,
            choice,
            header,
        })
    }
}

impl TelemetryAddress {
    fn read(
        transport: TelemetryTransport,
        format: TelemetryFormat,
        section: &mut Section<'_>,
    ) -> Option<Self> {
        if !section.has("address") {
            let form = match transport {
                TelemetryTransport::Tcp | TelemetryTransport::Tls | TelemetryTransport::Udp => {
                    "host:port"
                }
                TelemetryTransport::Unix => "the path of a socket",
                TelemetryTransport::Http => Url::EXAMPLE,
            };
            let message = format!("`{}` is missing; write {form}", section.full("address"));
            section.refuse("address", message);
        }
        match transport {
            TelemetryTransport::Tcp | TelemetryTransport::Tls | TelemetryTransport::Udp => {
                let mut network = None;
                section.value("address", &mut network);
                network.map(Self::Network)
            }
            TelemetryTransport::Unix => {
                let mut path = None;
                section.value("address", &mut path);
                warn_of_host(section);
                path.map(Self::Unix)
            }
            TelemetryTransport::Http => {
                let mut url = None;
                section.value("address", &mut url);
                // Where receivers of OpenTelemetry take logs.
                let path = if format == TelemetryFormat::Otlp { "/v1/logs" } else { "/" };
                url.map(|url: Url| Self::Url(url.or_path(path)))
            }
        }
    }
}

/// Whether a receiver can get such a format over such a transport.
fn check_pair(transport: TelemetryTransport, format: TelemetryFormat) -> Result<(), String> {
    use TelemetryFormat as Format;
    match (transport, format) {
        (TelemetryTransport::Udp, Format::Forward) => {
            Err("`format: forward` needs a stream; use `transport: tcp`, tls or unix".to_owned())
        }
        (TelemetryTransport::Http, Format::Syslog | Format::Forward) => Err(format!(
            "`format: {}` is not for `transport: http`; use json, otlp, ocsf or ecs",
            format.show()
        )),
        (
            TelemetryTransport::Tcp
            | TelemetryTransport::Tls
            | TelemetryTransport::Udp
            | TelemetryTransport::Unix,
            Format::Otlp,
        ) => Err("`format: otlp` needs `transport: http`".to_owned()),
        _ => Ok(()),
    }
}

/// Refuses, or warns of, what a known receiver does not take.
fn object(
    address: &TelemetryAddress,
    (transport, format, envelope): (TelemetryTransport, TelemetryFormat, Envelope),
    section: &mut Section<'_>,
) {
    match known::objection(address, transport, format, envelope) {
        Some(Objection::Mistake(key, why)) => {
            section.refuse(key, format!("`{}`: {why}", section.full(key)));
        }
        Some(Objection::Doubt(key, why)) => {
            section.warn(key, format!("`{}`: {why}", section.full(key)));
        }
        None => {}
    }
}

/// Warns if the address of a Unix socket looks like a host and a port.
fn warn_of_host(section: &Section<'_>) {
    let Some(text) = section.text("address").filter(|text| !text.contains('/')) else { return };
    if NetworkAddress::read(text, Path::new("")).is_ok() {
        let (key, text) = (section.full("address"), printable(text));
        let message = format!(
            "`{key}`: `{text}` is host:port, which `transport: unix` takes for the path of a \
             socket; write another `transport`, or ./{text} for a socket of that name"
        );
        section.warn("address", message);
    }
}

/// Warns of a compact header in requests: connections to one URL may lead to several receivers.
fn warn_of_compact(header: HeaderForm, section: &Section<'_>) {
    if header == HeaderForm::Compact && section.has("header") {
        let key = section.full("header");
        let message =
            format!("`{key}: compact` has no effect with `transport: http`; leave it out");
        section.warn("header", message);
    }
}

/// Refuses `key`, which has an effect only with `what`.
fn only_for(has_effect: bool, key: &'static str, what: &str, section: &Section<'_>) {
    if !has_effect && section.has(key) {
        section.refuse(key, format!("`{}` is only for {what}", section.full(key)));
    }
}

/// Reads `tls`. Gives `None` where the connection is not encrypted.
fn read_tls(
    transport: TelemetryTransport,
    address: Option<&TelemetryAddress>,
    section: &mut Section<'_>,
) -> Option<TelemetryTls> {
    let mut tls = TelemetryTls::default();
    section.section("tls", |section| tls.read(section));
    let is_encrypted = match address {
        Some(TelemetryAddress::Url(url)) => url.is_tls,
        // The address is refused already.
        None if transport == TelemetryTransport::Http => return None,
        _ => transport == TelemetryTransport::Tls,
    };
    only_for(is_encrypted, "tls", "`transport: tls`, and for http with an https:// URL", section);
    is_encrypted.then_some(tls)
}

impl TelemetryTls {
    fn read(&mut self, section: &mut Section<'_>) {
        let (mut certificate, mut key) = (None, None);
        section.value("ca", &mut self.ca);
        section.value("certificate", &mut certificate);
        section.value("key", &mut key);
        section.value("server_name", &mut self.server_name);
        for (given, other) in [("certificate", "key"), ("key", "certificate")] {
            if section.has(given) && !section.has(other) {
                let (given_path, path) = (section.full(given), section.full(other));
                section.refuse(given, format!("`{given_path}` needs `{path}`, too"));
            }
        }
        self.own = certificate.zip(key);
    }
}

impl KeywordSetting for TelemetryTransport {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("tcp", Self::Tcp),
        ("tls", Self::Tls),
        ("udp", Self::Udp),
        ("unix", Self::Unix),
        ("http", Self::Http),
    ];
}

impl KeywordSetting for Envelope {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("elasticsearch", Self::Elasticsearch), ("splunk", Self::Splunk)];
}

impl KeywordSetting for TelemetryFormat {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("json", Self::Json),
        ("syslog", Self::Syslog),
        ("forward", Self::Forward),
        ("otlp", Self::Otlp),
        ("ocsf", Self::Ocsf),
        ("ecs", Self::Ecs),
    ];
}
