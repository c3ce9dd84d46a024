//! Link layers, and the headers between them and the network layer.

mod pseudo;
mod wireless;

use self::pseudo::Pseudo;
use super::bytes::{FrameRemainder, be16};
use super::{Encapsulation, Network, NextLayer, Packet, ethertype, link_type};

/// An Ethernet header without its tags, or what frames of IEEE 802.11, 802.5 and FDDI have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ether {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    /// The type field, or the length in 802.3, as the header itself has it. Other frames
    /// have no such field: the type is then that of SNAP, or 0.
    pub kind: u16,
}

/// The header of IEEE 802.2, of a frame that is not SNAP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Llc {
    pub destination: u8,
    pub source: u8,
}

/// A stack of MPLS labels.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Mpls {
    /// The outermost word: label, traffic class, bottom of stack, time to live (RFC 3032 §2.1).
    pub word: u32,
    /// Number of labels.
    pub depth: u8,
}

/// A link layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LinkLayer {
    Ethernet,
    /// A word with the address family of the machine that captured.
    Loopback,
    CookedV1,
    CookedV2,
    Llc,
    Ppp,
    /// PPP behind an address and a control byte, or Cisco's HDLC.
    Hdlc,
    Wireless,
    RadioTap,
    PacketInformation,
    Pseudo(Pseudo),
    Unknown,
}

/// How a capture begins, by its number in the list of link-layer header types of tcpdump.org.
pub(super) const fn first(link: u16) -> NextLayer {
    NextLayer::Link(match link {
        link_type::ETHERNET => LinkLayer::Ethernet,
        0 | 108 => LinkLayer::Loopback,
        9 => LinkLayer::Ppp,
        50 | link_type::CISCO_HDLC => LinkLayer::Hdlc,
        // Raw IP: the number itself, and those of some systems.
        12 | 14 | link_type::RAW | 228 | 229 => return NextLayer::Ip,
        100 => LinkLayer::Llc,
        link_type::WIRELESS => LinkLayer::Wireless,
        link_type::COOKED => LinkLayer::CookedV1,
        link_type::RADIO_TAP => LinkLayer::RadioTap,
        192 => LinkLayer::PacketInformation,
        219 => return NextLayer::Ethertype(ethertype::MPLS),
        276 => LinkLayer::CookedV2,
        _ => match pseudo::of(link) {
            Some(kind) => LinkLayer::Pseudo(kind),
            None => LinkLayer::Unknown,
        },
    })
}

/// Decodes the header of a link layer; `None` if nothing behind it can be decoded.
#[inline]
pub(super) fn decode(
    kind: LinkLayer,
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
) -> Option<NextLayer> {
    match kind {
        LinkLayer::Ethernet => ethernet(packet, rest),
        LinkLayer::Loopback => loopback(packet, rest),
        LinkLayer::CookedV1 => {
            packet.encapsulation.add(Encapsulation::LINUX_COOKED);
            let header: &[u8; 16] = rest.take()?;
            Some(behind_type(be16(header, 14)?))
        }
        LinkLayer::CookedV2 => {
            packet.encapsulation.add(Encapsulation::LINUX_COOKED);
            let header: &[u8; 20] = rest.take()?;
            Some(behind_type(be16(header, 0)?))
        }
        LinkLayer::Llc => llc(packet, rest),
        LinkLayer::Ppp => ppp(packet, rest),
        LinkLayer::Hdlc => hdlc(packet, rest),
        LinkLayer::Wireless => wireless::decode(packet, rest, 1),
        LinkLayer::RadioTap => wireless::radio_tap(packet, rest),
        LinkLayer::PacketInformation => {
            // Version, flags, length, link type: all little-endian.
            let header: &[u8; 8] = rest.peek()?;
            let link = u32::from_le_bytes(*header.last_chunk()?);
            rest.skip(usize::from(u16::from_le_bytes([header[2], header[3]])).max(8))?;
            Some(first(u16::try_from(link).ok()?))
        }
        LinkLayer::Pseudo(kind) => pseudo::decode(kind, packet, rest),
        LinkLayer::Unknown => None,
    }
}

/// The end of a frame that is whole and that has neither addresses nor a packet of IP.
fn without_network(packet: &mut Packet<'_>) -> Option<NextLayer> {
    if packet.network == Network::Unknown {
        packet.network = Network::Control;
    }
    None
}

/// A type field that a header has in place of an Ethernet header.
const fn behind_type(kind: u16) -> NextLayer {
    match kind {
        // The "protocol" of 802.3 frames and of 802.2 ones in Linux (`if_ether.h`): the first ones
        // begin with 0xffff.
        1 | 4 => NextLayer::Link(LinkLayer::Llc),
        _ => NextLayer::Ethertype(kind),
    }
}

#[inline]
fn ethernet(packet: &mut Packet<'_>, rest: &mut FrameRemainder<'_>) -> Option<NextLayer> {
    let ether = ether(rest.take()?);
    packet.ether = Some(ether);
    packet.encapsulation.add(Encapsulation::ETHERNET);
    if ether.kind < ethertype::FIRST {
        return Some(NextLayer::Link(LinkLayer::Llc));
    }
    Some(NextLayer::Ethertype(ether.kind))
}

#[inline]
pub(super) fn ether(header: &[u8; 14]) -> Ether {
    let kind = u16::from_be_bytes([header[12], header[13]]);
    let mut ether = Ether { kind, ..Ether::default() };
    ether.destination.copy_from_slice(&header[..6]);
    ether.source.copy_from_slice(&header[6..12]);
    ether
}

/// The word has the family of the capturing system, in its byte order or in that of the network.
fn loopback(packet: &mut Packet<'_>, rest: &mut FrameRemainder<'_>) -> Option<NextLayer> {
    let word: &[u8; 4] = rest.take()?;
    let (little, big) = (u32::from_le_bytes(*word), u32::from_be_bytes(*word));
    // AF_INET is 2 everywhere; AF_INET6 is 10 (Linux), 23 (Windows), 24, 28 or 30.
    match little.min(big) {
        2 | 10 | 23 | 24 | 28 | 30 => Some(NextLayer::Ip),
        _ => without_network(packet),
    }
}

/// IEEE 802.2: a SNAP header leads to an Ethernet type.
fn llc(packet: &mut Packet<'_>, rest: &mut FrameRemainder<'_>) -> Option<NextLayer> {
    let header: &[u8; 3] = rest.peek()?;
    let [destination, source, control] = *header;
    packet.encapsulation.add(Encapsulation::LLC);
    packet.network = Network::Llc(Llc { destination, source });
    if (destination, source, control) == (0xaa, 0xaa, 3) {
        let snap: &[u8; 8] = rest.take()?;
        let kind = be16(snap, 6)?;
        if let Some(ether) = packet.ether.as_mut().filter(|ether| ether.kind == 0) {
            ether.kind = kind;
        }
        return Some(NextLayer::Ethertype(kind));
    }
    // Unnumbered frames have one byte of control, others two.
    rest.skip(if control & 3 == 3 { 3 } else { 4 })?;
    // IP directly in 802.2, as some bridges send it (RFC 948).
    ((destination, source, control) == (6, 6, 3)).then_some(NextLayer::Ip)
}

/// PPP in RFC 1662's frames, with or without address and control, the protocol cut or not.
fn ppp(packet: &mut Packet<'_>, rest: &mut FrameRemainder<'_>) -> Option<NextLayer> {
    // Cisco's HDLC: an address, a zero, an Ethernet type.
    if matches!(rest.bytes, [0x0f | 0x8f, 0, ..]) {
        return hdlc(packet, rest);
    }
    packet.encapsulation.add(Encapsulation::PPP);
    if rest.bytes.starts_with(&[0xff, 3]) {
        rest.skip(2)?;
    }
    ppp_protocol(packet, rest)
}

pub(super) fn ppp_protocol(
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
) -> Option<NextLayer> {
    let first = *rest.bytes.first()?;
    let protocol = if first & 1 == 1 {
        rest.skip(1)?;
        u16::from(first)
    } else {
        u16::from_be_bytes(*rest.take()?)
    };
    match protocol {
        0x21 | 0x57 => Some(NextLayer::Ip),
        0x281 => Some(NextLayer::Ethertype(ethertype::MPLS)),
        0x283 => Some(NextLayer::Ethertype(ethertype::MPLS_MULTICAST)),
        _ => without_network(packet),
    }
}

/// Cisco's HDLC begins with 0x0f or 0x8f, PPP with 0xff.
fn hdlc(packet: &mut Packet<'_>, rest: &mut FrameRemainder<'_>) -> Option<NextLayer> {
    match *rest.bytes.first()? {
        0x0f | 0x8f => {
            packet.encapsulation.add(Encapsulation::CISCO_HDLC);
            let header: &[u8; 4] = rest.take()?;
            Some(NextLayer::Ethertype(be16(header, 2)?))
        }
        _ => {
            packet.encapsulation.add(Encapsulation::HDLC);
            ppp(packet, rest)
        }
    }
}

/// Headers that an Ethernet type announces and that lead to another header.
pub(super) fn between(
    kind: u16,
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
) -> Option<NextLayer> {
    match kind {
        ethertype::VLAN | ethertype::QINQ | ethertype::QINQ_OLD => {
            let tag: &[u8; 4] = rest.take()?;
            packet.vlan = be16(tag, 0);
            packet.encapsulation.add(Encapsulation::VLAN);
            match be16(tag, 2)? {
                length if length < ethertype::FIRST => Some(NextLayer::Link(LinkLayer::Llc)),
                kind => Some(NextLayer::Ethertype(kind)),
            }
        }
        ethertype::MPLS | ethertype::MPLS_MULTICAST => mpls(packet, rest),
        ethertype::PPPOE_SESSION => {
            // Version and type, code, session, length (RFC 2516 §4); code 0 is data.
            let header: &[u8; 6] = rest.take()?;
            packet.encapsulation.add(Encapsulation::PPP);
            if header[1] == 0 { ppp_protocol(packet, rest) } else { None }
        }
        ethertype::PPP => ppp(packet, rest),
        ethertype::BRIDGE => Some(NextLayer::Link(LinkLayer::Ethernet)),
        ethertype::ERSPAN => {
            packet.encapsulation.add(Encapsulation::ERSPAN);
            // Type II: version, VLAN, class, and a session of ten bits.
            let header: &[u8; 8] = rest.take()?;
            packet.vni = Some(u32::from(be16(header, 2)? & 0x3ff));
            Some(NextLayer::Link(LinkLayer::Ethernet))
        }
        ethertype::ERSPAN_3 => {
            // draft-foschiano-erspan-03 §4.3: the frame's type is Ethernet (0); the lowest bit
            // announces eight more bytes.
            let header: &[u8; 12] = rest.take()?;
            packet.encapsulation.add(Encapsulation::ERSPAN);
            // The session is where type II has it.
            packet.vni = Some(u32::from(be16(header, 2)? & 0x3ff));
            if header[10] & 0x7c != 0 {
                return None;
            }
            rest.skip(8 * usize::from(header[11] & 1))?;
            Some(NextLayer::Link(LinkLayer::Ethernet))
        }
        _ => None,
    }
}

/// A stack of labels. The last one names no protocol: the first bits of what follows do.
fn mpls(packet: &mut Packet<'_>, rest: &mut FrameRemainder<'_>) -> Option<NextLayer> {
    packet.encapsulation.add(Encapsulation::MPLS);
    let mut stack = Mpls::default();
    for _ in 0..super::HEADERS_MAX {
        let word = u32::from_be_bytes(*rest.take()?);
        if stack.depth == 0 {
            stack.word = word;
        }
        stack.depth += 1;
        packet.mpls = Some(stack);
        if word & 0x100 != 0 {
            return match rest.bytes.first()? >> 4 {
                4 | 6 => Some(NextLayer::Ip),
                // A pseudowire's control word (RFC 4385), then Ethernet.
                0 => {
                    rest.skip(4)?;
                    Some(NextLayer::Link(LinkLayer::Ethernet))
                }
                _ => None,
            };
        }
    }
    None
}
