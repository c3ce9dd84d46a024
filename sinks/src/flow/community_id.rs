//! Community ids, version 1: one text for a flow that other tools make as well (Zeek, Suricata,
//! Arkime, Wireshark).
//!
//! The text is `1:` and the SHA-1 in base64 of seed, addresses, protocol, a zero and ports. The
//! smaller pair of address and port comes first, so both directions have the same id. Source:
//! `README.md` of corelight/community-id-spec; the types of ICMP are those of Zeek.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use panoptes_records::flow::{Detail, FlowKey, FlowKeyKind, FlowRecord};
use sha1::{Digest as _, Sha1};

use super::protocol;

/// Length in bytes of an id.
pub const COMMUNITY_ID_BYTES: usize = 30;

const PREFIX: &[u8] = b"1:";

/// Writes the id of a flow to the beginning of `out` and returns its length; `None` if there is no
/// room.
///
/// Also `None` if the version 1 has no id for the flow: it is not of IP, its ports are in a
/// fragment that was not seen, or its packets went to an address that is not known (IGMP).
pub fn write(out: &mut [u8], record: &FlowRecord, seed: u16) -> Option<usize> {
    let room = out.get_mut(..COMMUNITY_ID_BYTES)?;
    let mut input = Input::new();
    input.push(&seed.to_be_bytes());
    endpoints(record)?.write(&mut input);
    let digest = Sha1::digest(&input.bytes[..input.length]);
    let (prefix, text) = room.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(PREFIX);
    let length = BASE64.encode_slice(digest, text).ok()?;
    Some(PREFIX.len() + length)
}

/// Both ends of a flow, as the hash needs them.
struct Endpoints<'a> {
    key: &'a FlowKey,
    protocol: u8,
    /// Ports, or what stands for them; those of the source first.
    ports: Option<[u16; 2]>,
    /// Answers have an id of their own, so that the order of the ends means something.
    is_one_way: bool,
}

fn endpoints(record: &FlowRecord) -> Option<Endpoints<'_>> {
    let key = &record.key;
    let has_ports = matches!(key.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
    let plain = Endpoints { key, protocol: key.protocol, ports: None, is_one_way: false };
    match key.kind {
        FlowKeyKind::Ipv4 | FlowKeyKind::Ipv6 if has_ports => {
            let ports = Some([key.source_port, key.destination_port]);
            Some(Endpoints { ports, ..plain })
        }
        FlowKeyKind::Ipv4 | FlowKeyKind::Ipv6 | FlowKeyKind::EspV4 | FlowKeyKind::EspV6 => {
            Some(plain)
        }
        FlowKeyKind::FragmentV4 | FlowKeyKind::FragmentV6 => {
            let is_icmp = matches!(key.protocol, protocol::ICMP | protocol::ICMPV6);
            (!has_ports && !is_icmp).then_some(plain)
        }
        FlowKeyKind::Icmp => {
            let [kind, code] = key.source_port.to_be_bytes();
            let answer = answer_v4(kind);
            let mut ports = [u16::from(kind), u16::from(answer.unwrap_or(code))];
            // The key has the type of the question, also if its answer came first.
            if key.destination.0[0] != 0 {
                ports.reverse();
            }
            let is_one_way = answer.is_none();
            Some(Endpoints { protocol: protocol::ICMP, ports: Some(ports), is_one_way, ..plain })
        }
        FlowKeyKind::Icmpv6 => {
            let [mut kind, code] = key.source_port.to_be_bytes();
            // The key has the type of the question; the first message has its own.
            if let Detail::Icmp(message) = &record.detail {
                kind = message.kind;
            }
            let answer = answer_v6(kind);
            let ports = Some([u16::from(kind), u16::from(answer.unwrap_or(code))]);
            Some(Endpoints { ports, is_one_way: answer.is_none(), ..plain })
        }
        FlowKeyKind::Igmp
        | FlowKeyKind::Arp
        | FlowKeyKind::Rarp
        | FlowKeyKind::Ethernet
        | FlowKeyKind::Llc
        | FlowKeyKind::Wireless => None,
    }
}

/// The type that answers a type of ICMP, in both directions.
const fn answer_v4(kind: u8) -> Option<u8> {
    Some(match kind {
        8 => 0,
        0 => 8,
        13 => 14,
        14 => 13,
        15 => 16,
        16 => 15,
        10 => 9,
        9 => 10,
        17 => 18,
        18 => 17,
        _ => return None,
    })
}

/// The same for ICMPv6: echo, listeners, routers, neighbours, node information, home agents.
const fn answer_v6(kind: u8) -> Option<u8> {
    Some(match kind {
        128 | 130 | 133 | 135 | 139 | 144 => kind + 1,
        129 | 131 | 134 | 136 | 140 | 145 => kind - 1,
        _ => return None,
    })
}

impl Endpoints<'_> {
    fn write(&self, input: &mut Input) {
        let [source_port, destination_port] = self.ports.unwrap_or_default();
        let mut first = (self.key.source.v6(), source_port);
        let mut second = (self.key.destination.v6(), destination_port);
        // An IPv4 address is in the last bytes; those before it mark who asks.
        let start = if self.key.is_v6() { 0 } else { 12 };
        for end in [&mut first, &mut second] {
            end.0[..start].fill(0);
        }
        if !self.is_one_way && second < first {
            (first, second) = (second, first);
        }
        input.push(&first.0[start..]);
        input.push(&second.0[start..]);
        input.push(&[self.protocol, 0]);
        if self.ports.is_some() {
            input.push(&first.1.to_be_bytes());
            input.push(&second.1.to_be_bytes());
        }
    }
}

/// A seed, two IPv6 addresses, protocol and padding, ports.
const INPUT_BYTES_MAX: usize = 2 + 16 + 16 + 2 + 4;

/// The bytes that are hashed.
struct Input {
    bytes: [u8; INPUT_BYTES_MAX],
    length: usize,
}

impl Input {
    const fn new() -> Self {
        Self { bytes: [0; INPUT_BYTES_MAX], length: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use panoptes_records::flow::{Address, Icmp};

    use super::*;

    fn address(text: &str) -> (Address, bool) {
        match text.parse().expect("an address") {
            IpAddr::V4(address) => (Address::new(address.to_bits().into()), false),
            IpAddr::V6(address) => (Address::new(address.to_bits()), true),
        }
    }

    /// A flow as `panoptes_flow` identifies it. Of ICMP, the ports are type and code.
    fn record(protocol: u8, source: &str, destination: &str, ports: [u16; 2]) -> FlowRecord {
        let ((source, is_v6), (destination, _)) = (address(source), address(destination));
        let [source_port, destination_port] = ports;
        let kind = if is_v6 { FlowKeyKind::Ipv6 } else { FlowKeyKind::Ipv4 };
        let mut key = FlowKey { source, destination, kind, protocol, ..FlowKey::default() };
        let mut detail = Detail::None;
        match protocol {
            1 => {
                // Echo, time stamp, information and mask: the question is in the key.
                let is_answer = matches!(source_port, 0 | 14 | 16 | 18);
                let question = match source_port {
                    0 => 8,
                    14 | 16 | 18 => source_port - 1,
                    other => other,
                };
                let asker = if is_answer { &mut key.destination } else { &mut key.source };
                asker.0[0] = 1;
                (key.kind, key.protocol) = (FlowKeyKind::Icmp, 0);
                key.source_port = question << 8 | destination_port;
            }
            58 => {
                let question = match source_port {
                    129 | 134 | 136 => source_port - 1,
                    other => other,
                };
                key.kind = FlowKeyKind::Icmpv6;
                key.source_port = question << 8 | destination_port;
                detail = Detail::Icmp(Icmp { kind: source_port as u8, ..Icmp::default() });
            }
            _ => (key.source_port, key.destination_port) = (source_port, destination_port),
        }
        FlowRecord { key, detail, ..FlowRecord::default() }
    }

    fn id(record: &FlowRecord, seed: u16) -> Option<String> {
        let mut out = [0; COMMUNITY_ID_BYTES];
        let length = write(&mut out, record, seed)?;
        assert_eq!(write(&mut out[..length - 1], record, seed), None, "there is no room");
        Some(String::from_utf8(out[..length].to_vec()).expect("ASCII"))
    }

    const FE80_1: &str = "fe80:0001:0203:0405:0607:0809:0A0B:0C0D";
    const FE80_2: &str = "fe80:1011:1213:1415:1617:1819:1A1B:1C1D";

    /// Protocol, source, destination, ports, id, id with seed 1.
    type Row = (u8, &'static str, &'static str, [u16; 2], &'static str, &'static str);

    /// The tables of `baseline/README.md` of the specification: defaults, and seed 1.
    const BASELINE: &[Row] = &[
        (6, "1.2.3.4", "5.6.7.8", [1122, 3344], TCP.0, TCP.1),
        (6, "5.6.7.8", "1.2.3.4", [3344, 1122], TCP.0, TCP.1),
        (17, "1.2.3.4", "5.6.7.8", [1122, 3344], UDP.0, UDP.1),
        (17, "5.6.7.8", "1.2.3.4", [3344, 1122], UDP.0, UDP.1),
        (132, "1.2.3.4", "5.6.7.8", [1122, 3344], SCTP.0, SCTP.1),
        (132, "5.6.7.8", "1.2.3.4", [3344, 1122], SCTP.0, SCTP.1),
        (1, "1.2.3.4", "5.6.7.8", [8, 0], ECHO.0, ECHO.1),
        (1, "5.6.7.8", "1.2.3.4", [0, 0], ECHO.0, ECHO.1),
        (1, "1.2.3.4", "5.6.7.8", [11, 0], EXCEEDED.0, EXCEEDED.1),
        (58, FE80_1, FE80_2, [128, 0], ECHO_V6.0, ECHO_V6.1),
        (58, FE80_2, FE80_1, [129, 0], ECHO_V6.0, ECHO_V6.1),
        (58, FE80_1, FE80_2, [146, 0], ONE_WAY_V6.0, ONE_WAY_V6.1),
        (46, "1.2.3.4", "5.6.7.8", [0, 0], RSVP.0, RSVP.1),
        (46, "5.6.7.8", "1.2.3.4", [0, 0], RSVP.0, RSVP.1),
        (46, FE80_1, FE80_2, [0, 0], RSVP_V6.0, RSVP_V6.1),
        (46, FE80_2, FE80_1, [0, 0], RSVP_V6.0, RSVP_V6.1),
    ];
    const TCP: (&str, &str) = ("1:wCb3OG7yAFWelaUydu0D+125CLM=", "1:HhA1B+6CoLbiKPEs5nhNYN4XWfk=");
    const UDP: (&str, &str) = ("1:0Mu9InQx6z4ZiCZM/7HXi2WMhOg=", "1:OShq+iKDAMVouh/4bMxB9Sz4amw=");
    const SCTP: (&str, &str) = ("1:EKt4MsxuyaE6mL+hmrEkQ9csDD8=", "1:uitchpn5MMGAQKBJh7bIr/bAr7s=");
    const ECHO: (&str, &str) = ("1:crodRHL2FEsHjbv3UkRrfbs4bZ0=", "1:9pr4ZGTICiuZoIh90RRYE2RyXpU=");
    const EXCEEDED: (&str, &str) =
        ("1:f/YiSyWqczrTgfUCZlBUnvHRcPk=", "1:1DD7cWGC/Yg91YGsQeni8du3pIA=");
    const ECHO_V6: (&str, &str) =
        ("1:0bf7hyMJUwt3fMED7z8LIfRpBeo=", "1:IO27GQzPuCtNnwFvjWALMHu5tJE=");
    const ONE_WAY_V6: (&str, &str) =
        ("1:fYC8+pz24E+EhANP1EZhpX0Dw10=", "1:Cv4IKJe56BNkF0MBW2YxQ3Nwc3s=");
    const RSVP: (&str, &str) = ("1:ikv3kmf89luf73WPz1jOs49S768=", "1:/buhqeOmaRCopOZFy9HnoJd5XW8=");
    const RSVP_V6: (&str, &str) =
        ("1:wQ/2mwrnXP4lmJcHdGL5ePjR+e0=", "1:j6EyyfBzL4vWKHFXgUqb5Az3OxM=");

    #[test]
    fn ids_are_those_of_the_specification() {
        for &(protocol, source, destination, ports, plain, seeded) in BASELINE {
            let record = record(protocol, source, destination, ports);
            assert_eq!(id(&record, 0).as_deref(), Some(plain), "{protocol} {source} {ports:?}");
            assert_eq!(id(&record, 1).as_deref(), Some(seeded), "{protocol} {source} {ports:?}");
        }
    }

    /// The ids of `baseline/baseline_deflt.json`, which is made from captures.
    #[test]
    fn ids_are_those_of_the_captures_of_the_specification() {
        let [first, second] = ["fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea"];
        let mail = "2001:470:e5bf:dead:4957:2174:e82c:4887";
        for (protocol, source, destination, ports, expected) in [
            (58, first, second, [135, 0], "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
            (58, second, first, [136, 0], "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
            (58, second, first, [135, 0], "1:zavyT/cezQr1fmImYCwYnMXbgck="),
            (58, first, "ff02::2", [133, 0], "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="),
            (58, second, "ff02::1", [134, 0], "1:pkvHqCL88/tg1k4cPigmZXUtL00="),
            (
                58,
                "3ffe:501:410:0:2c0:dfff:fe47:33e",
                "3ffe:507:0:1:200:86ff:fe05:80da",
                [1, 4],
                "1:hLZd0XGWojozrvxqE0dWB1iM6R0=",
            ),
            (1, "192.168.0.89", "192.168.0.1", [8, 0], "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (1, "192.168.0.89", "192.168.0.1", [20, 1], "1:tz/fHIDUHs19NkixVVoOZywde+I="),
            (1, "10.0.0.1", "10.0.0.2", [11, 0], "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
            (6, mail, "2607:f8b0:400c:c03::1a", [63943, 25], "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
            (132, "192.168.170.8", "192.168.170.56", [7, 7], "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
            (6, "128.232.110.120", "66.35.250.204", [34855, 80], "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (6, "10.0.0.1", "10.0.0.2", [10, 11569], "1:SXBGMX1lBOwhhoDrZynfROxnhnM="),
            (17, "192.168.1.52", "8.8.8.8", [54585, 53], "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            (46, "10.1.12.1", "10.1.12.2", [0, 0], "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
        ] {
            let record = record(protocol, source, destination, ports);
            assert_eq!(id(&record, 0).as_deref(), Some(expected), "{protocol} {source} {ports:?}");
        }
    }

    #[test]
    fn what_is_not_known_has_no_id() {
        let udp = record(17, "1.2.3.4", "5.6.7.8", [1, 2]);
        let of_links = [
            FlowKeyKind::Arp,
            FlowKeyKind::Rarp,
            FlowKeyKind::Ethernet,
            FlowKeyKind::Llc,
            FlowKeyKind::Wireless,
        ];
        for kind in of_links.into_iter().chain([FlowKeyKind::FragmentV4, FlowKeyKind::Igmp]) {
            let record = FlowRecord { key: FlowKey { kind, ..udp.key }, ..udp };
            assert_eq!(id(&record, 0), None, "{kind:?}");
        }
        // Protocols without ports need no first fragment.
        let rsvp = record(46, "1.2.3.4", "5.6.7.8", [0, 0]);
        let fragment = FlowKey { kind: FlowKeyKind::FragmentV4, destination_port: 7, ..rsvp.key };
        assert_eq!(id(&FlowRecord { key: fragment, ..rsvp }, 0).as_deref(), Some(RSVP.0));
    }
}
