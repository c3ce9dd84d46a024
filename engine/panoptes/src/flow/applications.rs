//! What the user wants to know of applications: `--application` and `--sequence`.

use panoptes_flow::Protocol;
use panoptes_sinks::flow::SEQUENCE_PACKETS_MAX;

use super::request::Request;
use super::values::{mistake, number};
use crate::exit::Failure;

/// The names of protocols.
const PROTOCOLS: [(&str, Protocol); 5] = [
    ("dns", Protocol::Dns),
    ("http", Protocol::Http),
    ("quic", Protocol::Quic),
    ("ssh", Protocol::Ssh),
    ("tls", Protocol::Tls),
];
/// Bytes of a packet: those of Ethernet without jumbo frames, and the headers of a tunnel.
const SNAP_LENGTH: u32 = 2048;

/// The options.
pub(super) const OPTIONS: [&str; 2] = ["--application", "--sequence"];

/// Takes one of the options and its value.
pub(super) fn set(request: &mut Request, option: &str, value: &str) -> Result<(), Failure> {
    match option {
        "--sequence" => {
            let packets = number(option, value, 1, SEQUENCE_PACKETS_MAX as u64)?;
            request.application.sequence_packets = packets as usize;
            Ok(())
        }
        _ => set_protocols(request, option, value),
    }
}

/// `--application`: names of protocols, separated by commas.
fn set_protocols(request: &mut Request, option: &str, value: &str) -> Result<(), Failure> {
    for word in value.split(',') {
        let mut is_known = false;
        for (name, protocol) in PROTOCOLS {
            if word == name || word == "all" {
                request.application.protocols.add(protocol);
                is_known = true;
            }
        }
        if !is_known {
            let message =
                format!("{option} needs `all` or some of dns,http,quic,ssh,tls, not `{word}`");
            return Err(mistake(message));
        }
    }
    request.need_data(SNAP_LENGTH);
    Ok(())
}
