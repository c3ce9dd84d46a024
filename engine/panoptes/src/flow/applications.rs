//! What the user wants to know of applications.

use panoptes_flow::{DNS_SERVERS_MAX, DnsServers, Protocols};
use panoptes_records::flow::SEQUENCE_PACKETS_MAX;
use panoptes_records::flow::application::ApplicationProtocol;

use super::request::{FlowRequest, Target};
use super::values::{mistake, number};
use crate::exit::Failure;

/// The names of protocols, with commas between them, as one literal.
macro_rules! application_names {
    (
        $first:ident: $first_protocol:ident($first_facts:ty),
        $($name:ident: $protocol:ident($facts:ty),)*
    ) => {
        concat!(stringify!($first) $(, ",", stringify!($name))*)
    };
}
pub(super) use application_names;

const NAMES: &str = panoptes_records::applications!(application_names);
/// Bytes of a packet: those of Ethernet without jumbo frames, and the headers of a tunnel.
const SNAP_LENGTH: u32 = 2048;

/// `--sequence`: how many packets have their sizes and times in records.
pub(super) fn set_sequence(
    request: &mut FlowRequest,
    option: &str,
    value: &str,
) -> Result<(), Failure> {
    let packets = number(option, value, 1, SEQUENCE_PACKETS_MAX as u64)?;
    request.records.application.sequence_packets = packets as usize;
    Ok(())
}

/// `--passive-dns`: a file for answers of DNS.
pub(super) fn set_passive_dns(
    request: &mut FlowRequest,
    option: &str,
    value: &str,
) -> Result<(), Failure> {
    request.records.application.has_passive_dns = true;
    request.records.passive_dns = Some(match value {
        "" => return Err(mistake(format!("{option} needs a file"))),
        "-" => Target::StandardOutput,
        file => Target::File(file.into()),
    });
    set_protocols(request, option, "dns")
}

/// `--dns-servers`: addresses, separated by commas.
pub(super) fn set_dns_servers(
    request: &mut FlowRequest,
    option: &str,
    value: &str,
) -> Result<(), Failure> {
    request.records.application.dns_servers = DnsServers::default();
    for word in value.split(',') {
        let message = || format!("{option} needs addresses, not `{word}`");
        let address = word.parse().map_err(|_| mistake(message()))?;
        if !request.records.application.dns_servers.add(address) {
            return Err(mistake(format!(
                "{option}: there are more than {DNS_SERVERS_MAX} servers"
            )));
        }
    }
    set_protocols(request, option, "dns")
}

/// `--application`: names of protocols, separated by commas.
pub(super) fn set_protocols(
    request: &mut FlowRequest,
    option: &str,
    value: &str,
) -> Result<(), Failure> {
    let protocols = &mut request.records.application.protocols;
    for word in value.split(',') {
        if word == "all" {
            *protocols = Protocols::ALL;
        } else if let Some(protocol) = ApplicationProtocol::from_name(word) {
            protocols.add(protocol);
        } else {
            let message = format!("{option} needs `all` or some of {NAMES}, not `{word}`");
            return Err(mistake(message));
        }
    }
    request.need_data(SNAP_LENGTH);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users read the names in these places.
    #[test]
    fn documents_have_each_application() {
        let chapter = include_str!("../../../../docs/flow.md");
        let attributes = include_str!("../../../../docs/flow-attributes.md");
        let configuration = include_str!("../../panoptes.yaml");
        for protocol in ApplicationProtocol::ALL {
            let name = protocol.name();
            assert!(chapter.contains(&format!("\n| `{name}` | ")), "{name}");
            let mut keys = attributes.lines().filter(|line| line.ends_with("| `--application` |"));
            assert!(keys.any(|line| line.contains(&format!("`{name}`"))), "{name}");
        }
        let words = NAMES.replace(',', ", ");
        assert!(configuration.contains(&format!("tell: all, {words}.")), "{words}");
    }
}
