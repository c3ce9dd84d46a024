//! Opens the outputs to receivers from the configuration's `output.telemetry`.

use panoptes_sinks::output::form::syslog::{Framing, Syslog};
use panoptes_sinks::output::remote::{Forward, Messages, RemoteOutput, RemoteSettings};
use panoptes_sinks::output::socket::{Peer, UnixKind};
use panoptes_sinks::output::{Output, OutputKind};

use crate::config::{
    HeaderForm, SyslogFraming, Telemetry, TelemetryAddress, TelemetryFormat, Transport,
};
use crate::exit::{Exit, Failure};
use crate::random;

/// Makes the output to the receiver of this number; it connects when the writer runs.
pub(super) fn open(
    number: usize,
    receiver: &Telemetry,
) -> Result<(String, Box<dyn Output>), Failure> {
    let failed =
        |why: String| Failure::new(Exit::Output, format!("output.telemetry[{number}]: {why}"));
    let peer = peer(receiver)
        .ok_or_else(|| failed("a receiver of this kind is not built yet".to_owned()))?;
    let messages = messages(receiver)
        .ok_or_else(|| failed("a receiver of this format is not built yet".to_owned()))?;
    let settings = RemoteSettings {
        peer: peer.clone(),
        messages,
        filter: receiver.choice.filter(number),
        backlog_bytes: usize::try_from(receiver.backlog.memory.0).unwrap_or(usize::MAX),
        kind: OutputKind::IoUring,
        seed: random::key(),
    };
    let output = RemoteOutput::new(settings).map_err(|error| failed(error.to_string()))?;
    Ok((peer.to_string(), Box::new(output)))
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
