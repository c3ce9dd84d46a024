//! Protocols that control networks: `-C` keeps all of their data.
//!
//! argus 3.0.8 knows OpenFlow only (`ArgusControlPlaneProtocol`, `argus/ArgusApp.c`). argus 5 has
//! the variable `ARGUS_CONTROLPLANE_PROTO`; its argus.conf suggests the others here.

use panoptes_decoders::packet::transport::protocol::{TCP, UDP};
use panoptes_flow::ControlPorts;

use super::values::{mistake, number};
use crate::exit::Failure;

/// Ports to follow unless a variable names others.
pub(super) const DEFAULT: &str = "tcp:openflow,tcp:6633,sip,udp:name,udp:nicname,udp:domain,\
    udp:netbios-ns,xns-time,udp:ntp,udp:router,udp:ripng,timed,mdns,mdnsresponder,bootps,bootpc";

/// Names that the default has, and that not each `/etc/services` has.
const NAMES: &[(&str, u16)] = &[
    ("bootpc", 68),
    ("bootps", 67),
    ("domain", 53),
    ("mdns", 5353),
    ("mdnsresponder", 5354),
    ("name", 42),
    ("netbios-ns", 137),
    ("nicname", 43),
    ("ntp", 123),
    ("openflow", 6653),
    ("ripng", 521),
    ("router", 520),
    ("sip", 5060),
    ("timed", 525),
    ("xns-time", 52),
];

/// Reads `NAME,udp:NAME,tcp:NUMBER`.
pub(super) fn ports(what: &str, text: &str) -> Result<ControlPorts, Failure> {
    let mut ports = ControlPorts::default();
    for word in text.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
        let (protocols, name) = match word.split_once(':') {
            None => (&[TCP, UDP][..], word),
            Some(("tcp", name)) => (&[TCP][..], name),
            Some(("udp", name)) => (&[UDP][..], name),
            Some((other, _)) => {
                return Err(mistake(format!("{what}: protocols are tcp and udp, not `{other}`")));
            }
        };
        let port = match named(name) {
            Some(port) => port,
            None if name.starts_with(|first: char| first.is_ascii_digit()) => {
                number(what, name, 1, 0xffff)? as u16
            }
            None => return Err(mistake(format!("{what}: no port has the name `{name}`"))),
        };
        for protocol in protocols {
            if !ports.add(*protocol, port) {
                return Err(mistake(format!("{what} has room for 64 ports")));
            }
        }
    }
    Ok(ports)
}

fn named(name: &str) -> Option<u16> {
    if let Some((_, port)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*port);
    }
    // services(5): a name, a port and its protocol, other names.
    let services = std::fs::read_to_string("/etc/services").ok()?;
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (first, port) = (words.next()?, words.next()?);
        let is_it = first == name || words.any(|other| other == name);
        port.split('/').next()?.parse().ok().filter(|_| is_it)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_names_and_numbers() {
        let ports = |text: &str| ports("V", text).map_err(|failure| failure.to_string());
        let mut expected = ControlPorts::default();
        for (protocol, port) in [(TCP, 6633), (UDP, 53), (TCP, 5060), (UDP, 5060)] {
            assert!(expected.add(protocol, port));
        }
        assert_eq!(ports("tcp:6633, udp:domain,sip"), Ok(expected));
        assert!(ports(DEFAULT).is_ok());
        let mistake = |text: &str| ports(text).expect_err(text);
        assert_eq!(mistake("sctp:5060"), "V: protocols are tcp and udp, not `sctp`");
        assert_eq!(mistake("udp:no-such"), "V: no port has the name `no-such`");
        assert_eq!(mistake("70000"), "V needs a number from 1 to 65535, not `70000`");
    }
}
