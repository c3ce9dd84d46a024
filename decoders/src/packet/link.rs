//! Link layers, and the headers between them and the network layer.

mod pseudo;
mod wireless;

use self::pseudo::Pseudo;
use super::bytes::{Rest, be16};
use super::{Encapsulation, Header, Network, Packet, ethertype};

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
pub(crate) enum Kind {
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

/// LINKTYPE_ETHERNET.
pub(super) const ETHERNET: u16 = 1;

/// How a capture begins, by its number in the list of link-layer header types of tcpdump.org.
pub(super) const fn first(link: u16) -> Header {
    Header::Link(match link {
        ETHERNET => Kind::Ethernet,
        0 | 108 => Kind::Loopback,
        9 => Kind::Ppp,
        50 | 104 => Kind::Hdlc,
        // Raw IP: the number itself, and those of some systems.
        12 | 14 | 101 | 228 | 229 => return Header::Ip,
        100 => Kind::Llc,
        105 => Kind::Wireless,
        113 => Kind::CookedV1,
        127 => Kind::RadioTap,
        192 => Kind::PacketInformation,
        219 => return Header::Ethertype(ethertype::MPLS),
        276 => Kind::CookedV2,
        _ => match pseudo::of(link) {
            Some(kind) => Kind::Pseudo(kind),
            None => Kind::Unknown,
        },
    })
}

/// Decodes the header of a link layer; `None` if nothing behind it can be decoded.
#[inline]
pub(super) fn decode(kind: Kind, packet: &mut Packet<'_>, rest: &mut Rest<'_>) -> Option<Header> {
    match kind {
        Kind::Ethernet => ethernet(packet, rest),
        Kind::Loopback => loopback(packet, rest),
        Kind::CookedV1 => {
            packet.encapsulation.add(Encapsulation::LINUX_COOKED);
            let header: &[u8; 16] = rest.take()?;
            Some(behind_type(be16(header, 14)?))
        }
        Kind::CookedV2 => {
            packet.encapsulation.add(Encapsulation::LINUX_COOKED);
            let header: &[u8; 20] = rest.take()?;
            Some(behind_type(be16(header, 0)?))
        }
        Kind::Llc => llc(packet, rest),
        Kind::Ppp => ppp(packet, rest),
        Kind::Hdlc => hdlc(packet, rest),
        Kind::Wireless => wireless::decode(packet, rest, 1),
        Kind::RadioTap => wireless::radio_tap(packet, rest),
        Kind::PacketInformation => {
            // Version, flags, length, link type: all little-endian.
            let header: &[u8; 8] = rest.peek()?;
            let link = u32::from_le_bytes(*header.last_chunk()?);
            rest.skip(usize::from(u16::from_le_bytes([header[2], header[3]])).max(8))?;
            Some(first(u16::try_from(link).ok()?))
        }
        Kind::Pseudo(kind) => pseudo::decode(kind, packet, rest),
        Kind::Unknown => None,
    }
}

/// The end of a frame that is whole and that has neither addresses nor a packet of IP.
fn without_network(packet: &mut Packet<'_>) -> Option<Header> {
    if packet.network == Network::Unknown {
        packet.network = Network::Control;
    }
    None
}

/// A type field that a header has in place of an Ethernet header.
const fn behind_type(kind: u16) -> Header {
    match kind {
        // The "protocol" of 802.3 frames and of 802.2 ones in Linux (`if_ether.h`): the first ones
        // begin with 0xffff.
        1 | 4 => Header::Link(Kind::Llc),
        _ => Header::Ethertype(kind),
    }
}

#[inline]
fn ethernet(packet: &mut Packet<'_>, rest: &mut Rest<'_>) -> Option<Header> {
    let ether = ether(rest.take()?);
    packet.ether = Some(ether);
    packet.encapsulation.add(Encapsulation::ETHERNET);
    if ether.kind < ethertype::FIRST {
        return Some(Header::Link(Kind::Llc));
    }
    Some(Header::Ethertype(ether.kind))
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
fn loopback(packet: &mut Packet<'_>, rest: &mut Rest<'_>) -> Option<Header> {
    let word: &[u8; 4] = rest.take()?;
    let (little, big) = (u32::from_le_bytes(*word), u32::from_be_bytes(*word));
    // AF_INET is 2 everywhere; AF_INET6 is 10 (Linux), 23 (Windows), 24, 28 or 30.
    match little.min(big) {
        2 | 10 | 23 | 24 | 28 | 30 => Some(Header::Ip),
        _ => without_network(packet),
    }
}

/// IEEE 802.2: a SNAP header leads to an Ethernet type.
fn llc(packet: &mut Packet<'_>, rest: &mut Rest<'_>) -> Option<Header> {
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
        return Some(Header::Ethertype(kind));
    }
    // Unnumbered frames have one byte of control, others two.
    rest.skip(if control & 3 == 3 { 3 } else { 4 })?;
    // IP directly in 802.2, as some bridges send it (RFC 948).
    ((destination, source, control) == (6, 6, 3)).then_some(Header::Ip)
}

/// PPP in RFC 1662's frames, with or without address and control, the protocol cut or not.
fn ppp(packet: &mut Packet<'_>, rest: &mut Rest<'_>) -> Option<Header> {
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

pub(super) fn ppp_protocol(packet: &mut Packet<'_>, rest: &mut Rest<'_>) -> Option<Header> {
    let first = *rest.bytes.first()?;
    let protocol = if first & 1 == 1 {
        rest.skip(1)?;
        u16::from(first)
    } else {
        u16::from_be_bytes(*rest.take()?)
    };
    match protocol {
        0x21 | 0x57 => Some(Header::Ip),
        0x281 => Some(Header::Ethertype(ethertype::MPLS)),
        0x283 => Some(Header::Ethertype(ethertype::MPLS_MULTICAST)),
        _ => without_network(packet),
    }
}

/// Cisco's HDLC begins with 0x0f or 0x8f, PPP with 0xff.
fn hdlc(packet: &mut Packet<'_>, rest: &mut Rest<'_>) -> Option<Header> {
    match *rest.bytes.first()? {
        0x0f | 0x8f => {
            packet.encapsulation.add(Encapsulation::CISCO_HDLC);
            let header: &[u8; 4] = rest.take()?;
            Some(Header::Ethertype(be16(header, 2)?))
        }
        _ => {
            packet.encapsulation.add(Encapsulation::HDLC);
            ppp(packet, rest)
        }
    }
}

/// Headers that an Ethernet type announces and that lead to another header.
pub(super) fn between(kind: u16, packet: &mut Packet<'_>, rest: &mut Rest<'_>) -> Option<Header> {
    match kind {
        ethertype::VLAN | ethertype::QINQ | ethertype::QINQ_OLD => {
            let tag: &[u8; 4] = rest.take()?;
            packet.vlan = be16(tag, 0);
            packet.encapsulation.add(Encapsulation::VLAN);
            match be16(tag, 2)? {
                length if length < ethertype::FIRST => Some(Header::Link(Kind::Llc)),
                kind => Some(Header::Ethertype(kind)),
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
        ethertype::BRIDGE => Some(Header::Link(Kind::Ethernet)),
        ethertype::ERSPAN => {
            packet.encapsulation.add(Encapsulation::ERSPAN);
            // Type II: version, VLAN, class, and a session of ten bits.
            let header: &[u8; 8] = rest.take()?;
            packet.vni = Some(u32::from(be16(header, 2)? & 0x3ff));
            Some(Header::Link(Kind::Ethernet))
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
            Some(Header::Link(Kind::Ethernet))
        }
        _ => None,
    }
}

/// A stack of labels. The last one names no protocol: the first bits of what follows do.
fn mpls(packet: &mut Packet<'_>, rest: &mut Rest<'_>) -> Option<Header> {
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
                4 | 6 => Some(Header::Ip),
                // A pseudowire's control word (RFC 4385), then Ethernet.
                0 => {
                    rest.skip(4)?;
                    Some(Header::Link(Kind::Ethernet))
                }
                _ => None,
            };
        }
    }
    None
}
