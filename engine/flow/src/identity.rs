//! What identifies the flow of a packet.
//!
//! [`of`] gives a key as the sender of the packet sees it. An answer has the key of its question,
//! reversed. So a flow is found by its key or by its reverse, and that also gives the direction.

use panoptes_decoders::packet::transport::{Esp, Icmp, ports, protocol};
use panoptes_decoders::packet::{Arp, ArpOperation, Ether, Ip, Network, Packet};
use panoptes_records::flow::{Address, FlowKey, FlowKeyKind};

use crate::flow::is_error;

/// The port of DNS servers. Queries to it are flows of their own.
pub(crate) const DNS: u16 = 53;

/// Which packets are of the same flow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FlowIdentity {
    /// Addresses, protocol and ports: the usual one.
    #[default]
    Conversation,
    /// IP addresses alone (`LAYER_3_MATRIX`). Other packets as usual.
    Layer3,
    /// Hardware addresses and the Ethernet type (`LAYER_2_MATRIX`). Packets without, as usual.
    Layer2,
}

impl FlowIdentity {
    /// The key of a packet's flow; `None` if not even its link layer could be read, or has no
    /// sender.
    #[inline]
    pub(crate) fn of(self, packet: &Packet<'_>) -> Option<FlowKey> {
        match (self, &packet.network, &packet.ether) {
            (Self::Layer3, Network::Ip(ip), _) => Some(FlowKey {
                source: Address::new(ip.source),
                destination: Address::new(ip.destination),
                kind: if ip.is_v6 { FlowKeyKind::Ipv6 } else { FlowKeyKind::Ipv4 },
                ..FlowKey::default()
            }),
            (Self::Layer2, Network::Ip(_) | Network::Arp(_), Some(ether)) => Some(of_ether(ether)),
            _ => of(packet),
        }
    }
}

/// The key of a packet's flow; `None` if not even its link layer could be read, or has no sender.
#[expect(clippy::inline_always, reason = "part of the work for each packet")]
#[inline(always)]
pub fn of(packet: &Packet<'_>) -> Option<FlowKey> {
    match &packet.network {
        Network::Ip(ip) => Some(of_ip(ip)),
        Network::Arp(arp) => Some(of_arp(arp)),
        Network::Llc(llc) => Some(FlowKey {
            kind: FlowKeyKind::Llc,
            extra: 0,
            source_port: u16::from(llc.source),
            destination_port: u16::from(llc.destination),
            ..of_ether(&packet.ether.unwrap_or_default())
        }),
        Network::Other(kind) => {
            let ether = packet.ether.unwrap_or_default();
            Some(FlowKey { extra: *kind, ..of_ether(&ether) })
        }
        Network::Wireless => Some(FlowKey {
            kind: FlowKeyKind::Wireless,
            extra: 0,
            ..of_ether(&packet.ether.unwrap_or_default())
        }),
        Network::Control => None,
        Network::Unknown => packet.ether.as_ref().map(of_ether),
    }
}

fn of_ether(ether: &Ether) -> FlowKey {
    FlowKey {
        source: Address::hardware(ether.source),
        destination: Address::hardware(ether.destination),
        extra: ether.kind,
        kind: FlowKeyKind::Ethernet,
        ..FlowKey::default()
    }
}

/// The key of an IP packet, also of one that an error message quotes.
#[expect(clippy::inline_always, reason = "part of the work for each packet")]
#[inline(always)]
pub(crate) fn of_ip(ip: &Ip<'_>) -> FlowKey {
    let mut key = FlowKey {
        source: Address::new(ip.source),
        destination: Address::new(ip.destination),
        protocol: ip.protocol,
        kind: if ip.is_v6 { FlowKeyKind::Ipv6 } else { FlowKeyKind::Ipv4 },
        ..FlowKey::default()
    };
    if !ip.is_first_fragment() {
        return of_fragment(ip, key);
    }
    match ip.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            (key.source_port, key.destination_port) = ports(ip.payload).unwrap_or_default();
            let is_dns = key.source_port == DNS || key.destination_port == DNS;
            if is_dns && ip.protocol == protocol::UDP && !ip.is_v6 {
                let id = ip.payload.get(8..).and_then(<[u8]>::first_chunk);
                key.extra = id.copied().map(u16::from_be_bytes).unwrap_or_default();
            }
            key
        }
        protocol::ICMP if !ip.is_v6 => of_icmp(ip, key),
        protocol::ICMPV6 if ip.is_v6 => of_icmpv6(ip, key),
        protocol::IGMP if !ip.is_v6 => of_igmp(ip, key),
        protocol::ESP => of_esp(ip, key),
        _ => key,
    }
}

/// The addresses of the packet that an error message of ICMP quotes, the source first; `None` for
/// other packets.
#[inline]
pub fn quoted_addresses(packet: &Packet<'_>) -> Option<(u128, u128)> {
    let Network::Ip(ip) = &packet.network else { return None };
    if !matches!(ip.protocol, protocol::ICMP | protocol::ICMPV6) {
        return None;
    }
    let (_, quoted) = error_of(ip)?;
    Some((quoted.source, quoted.destination))
}

/// The error message in a packet, and the packet that it quotes.
pub(crate) fn error_of<'a>(ip: &Ip<'a>) -> Option<(Icmp<'a>, Ip<'a>)> {
    let wanted = if ip.is_v6 { protocol::ICMPV6 } else { protocol::ICMP };
    if ip.protocol != wanted || !ip.is_first_fragment() {
        return None;
    }
    let message = Icmp::decode(ip.payload).filter(|message| is_error(ip, message))?;
    Some((message, message.quoted()?))
}

/// The key of the fragments of a packet, without its ports.
pub(crate) fn of_fragment(ip: &Ip<'_>, key: FlowKey) -> FlowKey {
    let id = ip.fragment.unwrap_or_default().id;
    FlowKey {
        kind: if ip.is_v6 { FlowKeyKind::FragmentV6 } else { FlowKeyKind::FragmentV4 },
        source_port: (id >> 16) as u16,
        destination_port: id as u16,
        extra: 0,
        ..key
    }
}

/// Marks who asks, so that the same question of the other end is another flow.
const fn asked_by_source(mut key: FlowKey) -> FlowKey {
    key.source.0[0] = 1;
    key
}

const fn asked_by_destination(mut key: FlowKey) -> FlowKey {
    key.destination.0[0] = 1;
    key
}

fn of_icmp(ip: &Ip<'_>, key: FlowKey) -> FlowKey {
    let icmp = Icmp::decode(ip.payload).unwrap_or_default();
    // The kind of the question, and whether this is an answer.
    let (kind, is_answer) = match icmp.kind {
        0 => (8, true),
        14 => (13, true),
        16 => (15, true),
        18 => (17, true),
        kind => (kind, false),
    };
    let is_question = matches!(kind, 8 | 10 | 13 | 15 | 17);
    let code = if is_question { 0 } else { icmp.code };
    let mut key = FlowKey {
        kind: FlowKeyKind::Icmp,
        protocol: 0,
        source_port: u16::from_be_bytes([kind, code]),
        ..key
    };
    if is_question {
        key.destination_port = icmp.id();
        key.extra = if kind == 8 { icmp.sequence() } else { 0 };
    } else if let Some(quoted) = icmp.quoted().filter(|_| !is_question) {
        of_quoted(&mut key, &icmp, &quoted);
    }
    if is_answer { asked_by_destination(key) } else { asked_by_source(key) }
}

/// What an error message adds to its key from the packet that it quotes.
fn of_quoted(key: &mut FlowKey, icmp: &Icmp<'_>, quoted: &Ip<'_>) {
    let destination = (quoted.destination as u32).to_be_bytes();
    match (icmp.kind, icmp.code) {
        (3, 2) => key.destination_port = u16::from(quoted.protocol),
        (3, 3) => {
            key.protocol = quoted.protocol;
            key.destination_port = ports(quoted.payload).unwrap_or_default().1;
        }
        // Net or host: its address in both fields.
        (3 | 5, 0 | 1) => {
            key.destination_port = u16::from_be_bytes([destination[0], destination[1]]);
            key.extra = u16::from_be_bytes([destination[2], destination[3]]);
        }
        (5, 2 | 3) => key.protocol = quoted.tos,
        _ => {}
    }
}

fn of_icmpv6(ip: &Ip<'_>, key: FlowKey) -> FlowKey {
    let icmp = Icmp::decode(ip.payload).unwrap_or_default();
    let kind = match icmp.kind {
        129 => 128,       // Echo.
        131 | 132 => 130, // Multicast listeners.
        134 => 133,       // Routers.
        136 => 135,       // Neighbours.
        145 => 144,       // Home agents.
        kind => kind,
    };
    let source_port = u16::from_be_bytes([kind, icmp.code]);
    FlowKey { kind: FlowKeyKind::Icmpv6, source_port, ..key }
}

fn of_igmp(ip: &Ip<'_>, mut key: FlowKey) -> FlowKey {
    key.kind = FlowKeyKind::Igmp;
    if let Some(&[kind, code, _, _, a, b, c, d]) = ip.payload.first_chunk() {
        key.source_port = u16::from_be_bytes([kind, code]);
        let group = u32::from_be_bytes([a, b, c, d]);
        // A report or a query names its group; a general query names none.
        if group != 0 {
            key.destination = Address::new(u128::from(group));
        }
    }
    key.extra = ip.id;
    asked_by_source(key)
}

fn of_esp(ip: &Ip<'_>, mut key: FlowKey) -> FlowKey {
    let esp = Esp::decode(ip.payload).unwrap_or_default();
    key.kind = if ip.is_v6 { FlowKeyKind::EspV6 } else { FlowKeyKind::EspV4 };
    (key.source_port, key.destination_port) = ((esp.spi >> 16) as u16, esp.spi as u16);
    // Each direction has an index of its own, and the same one may be in use in both.
    if ip.is_v6 { key } else { asked_by_source(key) }
}

fn of_arp(arp: &Arp) -> FlowKey {
    let [sender, target] =
        [arp.sender_hardware, arp.target_hardware].map(|address| Address::hardware(address).0[1]);
    let key = FlowKey {
        source: Address([0, u64::from(arp.sender)]),
        destination: Address([0, u64::from(arp.target)]),
        kind: FlowKeyKind::Arp,
        ..FlowKey::default()
    };
    // Which hardware the question is about decides, and not who answers.
    let about = FlowKey { source: Address([0, target]), destination: Address([0, target]), ..key };
    let about = FlowKey { kind: FlowKeyKind::Rarp, ..about };
    match arp.operation {
        ArpOperation::Request => FlowKey { source: Address([sender, key.source.0[1]]), ..key },
        ArpOperation::Reply => {
            FlowKey { destination: Address([target, key.destination.0[1]]), ..key }
        }
        ArpOperation::ReverseRequest => asked_by_source(about),
        ArpOperation::ReverseReply => asked_by_destination(about),
    }
}
