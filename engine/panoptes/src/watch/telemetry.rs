//! Opens the outputs to receivers from the configuration's `output.telemetry`.

use std::fs::DirBuilder;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use panoptes_sinks::output::backlog::{Backlog, FOLDER_MODE};
use panoptes_sinks::output::form::Schema;
use panoptes_sinks::output::form::otlp::Otlp;
use panoptes_sinks::output::form::syslog::{MessageFraming, Syslog};
use panoptes_sinks::output::remote::{
    Body, Forward, Http, Messages, ReachedLayer, ReceiverProbe, RemoteOutput, RemoteSettings,
    TlsConnector, TlsFiles,
};
use panoptes_sinks::output::socket::{Peer, UnixKind};
use panoptes_sinks::output::{Output, OutputKind};

use crate::config::{
    AutoOr, ByteSize, FieldName, FieldValue, HeaderForm, NetworkAddress, SyslogFraming, Telemetry,
    TelemetryAddress, TelemetryFormat, TelemetryTransport, Url,
};
use crate::random;

/// Makes the output to the receiver of this number; it connects when the writer runs.
pub(super) fn open(
    number: usize,
    receiver: &Telemetry,
    state_dir: Option<&Path>,
) -> io::Result<Box<dyn Output>> {
    let settings = RemoteSettings {
        peer: peer(receiver),
        tls: tls(receiver)?,
        messages: messages(receiver)?,
        filter: receiver.choice.filter(number),
        backlog: backlog(receiver, state_dir)?,
        kind: OutputKind::IoUring,
        seed: random::key(),
    };
    Ok(Box::new(RemoteOutput::new(settings).map_err(io::Error::other)?))
}

/// Reads the files that the settings of a receiver name.
pub(crate) fn check_files(receiver: &Telemetry) -> io::Result<()> {
    tls(receiver)?;
    messages(receiver)?;
    Ok(())
}

/// Does the same, and makes the folder of its backlog.
pub(super) fn check(receiver: &Telemetry, state_dir: Option<&Path>) -> io::Result<()> {
    check_files(receiver)?;
    if receiver.backlog.disk.is_some() {
        let folder = backlog_folder(receiver, state_dir)?;
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    }
    Ok(())
}

/// How long finding out whether a receiver can be reached may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// Finds out whether a receiver can be reached. No record is sent.
pub(crate) fn probe(receiver: &Telemetry) -> io::Result<ReachedLayer> {
    let probe = ReceiverProbe {
        peer: peer(receiver),
        tls: tls(receiver)?,
        messages: messages(receiver)?,
        patience: PROBE_PATIENCE,
    };
    probe.run().map_err(io::Error::other)
}

/// What a record counts as for a receiver that has taken it and does not answer with words.
pub(super) const fn confirmation(receiver: &Telemetry) -> &'static str {
    match (receiver.format, receiver.transport) {
        (TelemetryFormat::Forward, _) => "it acknowledges the record",
        (_, TelemetryTransport::Udp) => {
            "sent; nothing answers datagrams, so look for it at the receiver"
        }
        (_, TelemetryTransport::Tcp | TelemetryTransport::Tls) => {
            "its kernel has the record; this format has no answer, so look for it at the receiver"
        }
        (_, TelemetryTransport::Unix) => {
            "its socket has the record; this format has no answer, so look for it at the receiver"
        }
        (_, TelemetryTransport::Http) => "it has answered",
    }
}

/// The files that the settings of a receiver name.
pub(crate) fn files_of(receiver: &Telemetry) -> impl Iterator<Item = &Path> {
    let certificates = receiver.tls.iter().flat_map(|tls| {
        let ca = match &tls.ca {
            AutoOr::Given(path) => Some(path),
            AutoOr::Auto => None,
        };
        let own = tls.own.iter().flat_map(|(certificate, key)| [certificate, key]);
        ca.into_iter().chain(own).map(PathBuf::as_path)
    });
    let tokens = receiver.headers.iter().filter_map(|(_, value)| match value {
        FieldValue::File(path) => Some(path.as_path()),
        FieldValue::Text(_) => None,
    });
    certificates.chain(tokens)
}

/// A digest of the files that the settings of a receiver name: a certificate or a token that was
/// renewed makes it another receiver.
pub(super) fn digest_of_files(receiver: &Telemetry) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in files_of(receiver) {
        std::fs::read(path).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

/// What waits for it. On the disk, each receiver has a folder of its own, which another order of
/// the receivers does not change.
fn backlog(receiver: &Telemetry, state_dir: Option<&Path>) -> io::Result<Backlog> {
    let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
    let memory = bytes(receiver.backlog.memory);
    let Some(disk) = receiver.backlog.disk else { return Ok(Backlog::new(memory)) };
    let folder = backlog_folder(receiver, state_dir)?;
    Backlog::open(memory, &folder, bytes(disk))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))
}

/// Where the folders of all receivers are.
fn backlogs(state_dir: &Path) -> PathBuf {
    state_dir.join("backlog")
}

/// The folder of what waits for a receiver on the disk, if it may wait there.
pub(super) fn folder_of(receiver: &Telemetry, state_dir: Option<&Path>) -> Option<PathBuf> {
    receiver.backlog.disk.and_then(|_| backlog_folder(receiver, state_dir).ok())
}

/// The folders of all receivers that were there until now.
pub(super) fn folders(state_dir: &Path) -> Vec<PathBuf> {
    let Ok(all) = std::fs::read_dir(backlogs(state_dir)) else { return Vec::new() };
    let mut folders: Vec<_> = all.flatten().map(|folder| folder.path()).collect();
    folders.sort();
    folders
}

/// The folder of what waits for a receiver.
fn backlog_folder(receiver: &Telemetry, state_dir: Option<&Path>) -> io::Result<PathBuf> {
    let without = "`backlog.disk` needs `service.state_dir`";
    let folder = state_dir.ok_or_else(|| io::Error::other(without))?;
    Ok(backlogs(folder).join(receiver.folder_name()))
}

/// What messages call a receiver.
pub(crate) fn name_of(receiver: &Telemetry) -> String {
    match &receiver.address {
        TelemetryAddress::Url(url) => url.without_query(),
        _ => peer(receiver).to_string(),
    }
}

/// Where the receiver is.
fn peer(receiver: &Telemetry) -> Peer {
    match (&receiver.address, receiver.transport) {
        (TelemetryAddress::Network(at), TelemetryTransport::Udp) => Peer::udp(&at.host, at.port),
        (TelemetryAddress::Network(at) | TelemetryAddress::Url(Url { address: at, .. }), _) => {
            match receiver.tls {
                Some(_) => Peer::tls(&at.host, at.port),
                None => Peer::tcp(&at.host, at.port),
            }
        }
        (TelemetryAddress::Unix(path), _) => {
            // /dev/log takes datagrams or a stream, as the syslog daemon likes.
            let is_syslog = receiver.format == TelemetryFormat::Syslog;
            let kind = if is_syslog { UnixKind::Any } else { UnixKind::Stream };
            Peer::unix(path, kind)
        }
    }
}

/// How the connection is encrypted, if it is.
fn tls(receiver: &Telemetry) -> io::Result<Option<TlsConnector>> {
    let Some(settings) = &receiver.tls else { return Ok(None) };
    let (host, protocol) = match &receiver.address {
        TelemetryAddress::Network(at) => (at.host.as_str(), None),
        TelemetryAddress::Url(url) => (url.address.host.as_str(), Some("http/1.1")),
        TelemetryAddress::Unix(_) => return Ok(None),
    };
    let ca = match &settings.ca {
        AutoOr::Auto => None,
        AutoOr::Given(path) => Some(path.clone()),
    };
    let server_name = match &settings.server_name {
        AutoOr::Auto => host.to_owned(),
        AutoOr::Given(name) => name.0.clone(),
    };
    TlsConnector::read(&TlsFiles { ca, own: settings.own.clone(), server_name }, protocol).map(Some)
}

/// What it gets.
fn messages(receiver: &Telemetry) -> io::Result<Messages> {
    let is_compact = receiver.header == HeaderForm::Compact;
    let body = match receiver.format {
        TelemetryFormat::Syslog => {
            let stream = match receiver.framing {
                SyslogFraming::OctetCounting => MessageFraming::OctetCounting,
                SyslogFraming::LineFeed => MessageFraming::LineFeed,
            };
            let facility = receiver.facility.0;
            let syslog = Syslog::new(stream, facility, &hostname(), std::process::id());
            return Ok(Messages::Syslog { syslog, stream });
        }
        TelemetryFormat::Forward => {
            let forward = Forward::new(&receiver.tag, is_compact, random::key());
            return Ok(Messages::Forward(forward));
        }
        TelemetryFormat::Json => Body::Lines,
        TelemetryFormat::Otlp => Body::Otlp(Otlp::new(&hostname())),
        TelemetryFormat::Ocsf => Body::Events(Schema::Ocsf),
        TelemetryFormat::Ecs => Body::Events(Schema::Ecs),
    };
    let TelemetryAddress::Url(url) = &receiver.address else {
        return Ok(match body {
            Body::Events(schema) => Messages::Events(schema),
            Body::Lines | Body::Otlp(_) => Messages::Json { is_compact },
        });
    };
    let fields: io::Result<Vec<_>> = receiver.headers.iter().map(field).collect();
    let http = Http::new(&host(url), &url.path, &fields?, body);
    Ok(Messages::Http(http.with_envelope(receiver.envelope)))
}

/// The host in the head of a request: without the port, if that is the usual one.
fn host(url: &Url) -> String {
    let NetworkAddress { host, port } = &url.address;
    let address = url.address.to_string();
    let usual = if url.is_tls { 443 } else { 80 };
    if *port != usual {
        return address;
    }
    address.strip_suffix(&format!(":{port}")).unwrap_or(host).to_owned()
}

/// A field for the head of each request.
fn field((FieldName(name), value): &(FieldName, FieldValue)) -> io::Result<(String, String)> {
    let value = match value {
        FieldValue::Text(text) => text.clone(),
        FieldValue::File(path) => {
            let failed = |error: io::Error| {
                io::Error::new(error.kind(), format!("{name}: {}: {error}", path.display()))
            };
            let text = std::fs::read_to_string(path).map_err(failed)?;
            let line = text.lines().next().unwrap_or_default().trim();
            let is_plain = |c: char| c.is_ascii_graphic() || c == ' ' || c == '\t';
            if line.is_empty() || !line.chars().all(is_plain) {
                let wrong = "its first line is not the value of a header field";
                return Err(failed(io::Error::other(wrong)));
            }
            line.to_owned()
        }
    };
    Ok((name.clone(), value))
}

/// The name of this machine; empty if it cannot be read.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_the_host_as_its_servers_expect_it() {
        let url = |is_tls, host: &str, port| Url {
            is_tls,
            address: NetworkAddress { host: host.to_owned(), port },
            path: "/".to_owned(),
        };
        assert_eq!(host(&url(false, "a", 80)), "a");
        assert_eq!(host(&url(true, "a", 80)), "a:80");
        assert_eq!(host(&url(true, "::1", 443)), "[::1]");
    }

    #[test]
    fn a_token_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            field(&(FieldName("A".to_owned()), FieldValue::File(path.clone())))
        };
        let expected = ("A".to_owned(), "Bearer x".to_owned());
        assert_eq!(read("Bearer x\r\nsecond").unwrap(), expected);
        for wrong in ["", "\n", "\u{1}x", "\u{e9}"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.ends_with("is not the value of a header field"), "{error}");
        }
        let missing = FieldValue::File(folder.path().join("missing"));
        let error = field(&(FieldName("A".to_owned()), missing)).unwrap_err().to_string();
        assert!(error.starts_with("A: ") && error.contains("No such file"), "{error}");
    }
}
