//! Opens the outputs to receivers from the configuration's `output.telemetry`.

use std::io;
use std::path::Path;

use panoptes_sinks::output::backlog::Backlog;
use panoptes_sinks::output::form::syslog::{Framing, Syslog};
use panoptes_sinks::output::remote::{Forward, Messages, RemoteOutput, RemoteSettings};
use panoptes_sinks::output::socket::{Peer, UnixKind};
use panoptes_sinks::output::{Output, OutputKind};

use crate::config::{
    ByteSize, HeaderForm, SyslogFraming, Telemetry, TelemetryAddress, TelemetryFormat, Transport,
};
use crate::random;

/// Makes the output to the receiver of this number; it connects when the writer runs.
pub(super) fn open(
    number: usize,
    receiver: &Telemetry,
    state_dir: Option<&Path>,
) -> io::Result<Box<dyn Output>> {
    let (Some(peer), Some(messages)) = (peer(receiver), messages(receiver)) else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let settings = RemoteSettings {
        peer,
        messages,
        filter: receiver.choice.filter(number),
        backlog: backlog(receiver, state_dir)?,
        kind: OutputKind::IoUring,
        seed: random::key(),
    };
    Ok(Box::new(RemoteOutput::new(settings).map_err(io::Error::other)?))
}

/// What waits for it. On the disk, each receiver has a folder of its own, which another order of
/// the receivers does not change.
fn backlog(receiver: &Telemetry, state_dir: Option<&Path>) -> io::Result<Backlog> {
    let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
    let memory = bytes(receiver.backlog.memory);
    let Some(disk) = receiver.backlog.disk else { return Ok(Backlog::new(memory)) };
    let without = "`backlog.disk` needs `service.state_dir`";
    let folder = state_dir.ok_or_else(|| io::Error::other(without))?;
    let name = format!("{} {:?}", name_of(receiver), receiver.format);
    let plain = |byte: char| if byte.is_ascii_alphanumeric() { byte } else { '_' };
    let folder = folder.join("backlog").join(name.chars().map(plain).collect::<String>());
    Backlog::open(memory, &folder, bytes(disk))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))
}

/// What messages call a receiver.
pub(super) fn name_of(receiver: &Telemetry) -> String {
    peer(receiver).map(|peer| peer.to_string()).unwrap_or_default()
}

/// Where the receiver is; `None`: that is not built yet.
fn peer(receiver: &Telemetry) -> Option<Peer> {
    match (&receiver.address, receiver.transport) {
        (TelemetryAddress::Network(at), Transport::Tcp) => Some(Peer::tcp(&at.host, at.port)),
        (TelemetryAddress::Network(at), Transport::Udp) => Some(Peer::udp(&at.host, at.port)),
        (TelemetryAddress::Unix(path), _) => {
            // /dev/log takes datagrams or a stream, as the syslog daemon likes.
            let is_syslog = receiver.format == TelemetryFormat::Syslog;
            let kind = if is_syslog { UnixKind::Any } else { UnixKind::Stream };
            Some(Peer::unix(path, kind))
        }
        _ => None,
    }
}

/// What it gets; `None`: that is not built yet.
fn messages(receiver: &Telemetry) -> Option<Messages> {
    let is_compact = receiver.header == HeaderForm::Compact;
    match receiver.format {
        TelemetryFormat::Json => Some(Messages::Json { is_compact }),
        TelemetryFormat::Syslog => {
            let stream = match receiver.framing {
                SyslogFraming::OctetCounting => Framing::OctetCounting,
                SyslogFraming::LineFeed => Framing::LineFeed,
            };
            let facility = receiver.facility.0;
            let syslog = Syslog::new(stream, facility, &hostname(), std::process::id());
            Some(Messages::Syslog { syslog, stream })
        }
        TelemetryFormat::Forward => {
            Some(Messages::Forward(Forward::new(&receiver.tag, is_compact, random::key())))
        }
        TelemetryFormat::Otlp | TelemetryFormat::Ocsf | TelemetryFormat::Ecs => None,
    }
}

/// The name of this machine; empty if it cannot be read.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}
