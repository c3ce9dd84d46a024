//! Link layers of captures that few interfaces have: tags of switches, frame relay, and headers
//! that a program or a kernel puts before a packet. All are described at
//! <https://www.tcpdump.org/linktypes.html>.

use super::{Ether, LinkLayer, first, ppp_protocol, without_network};
use crate::packet::bytes::{FrameRemainder, be16};
use crate::packet::{Encapsulation, NextLayer, Packet, ethertype};

/// A kind of such a link layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pseudo {
    /// A tag of so many bytes between the addresses of Ethernet and its type.
    SwitchTag(u8),
    /// So many bytes before a link layer.
    Behind(u8, Inner),
    FrameRelay,
    /// FDDI and IEEE 802.5: so many bytes of control, addresses, perhaps a route, then 802.2.
    Ring(u8),
    /// Attributes of Linux's netfilter, one of which is the packet (`NFULA_PAYLOAD`).
    NetfilterLog,
    /// A header of macOS that says its length and the link layer.
    PacketTap,
    /// A header of OpenBSD's packet filter, whose first byte is its length.
    PacketFilterLog,
    /// A header with its length at byte 4, before IEEE 802.11: Prism, or AVS.
    Monitor,
}

/// The layer behind a header of a fixed length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Inner {
    Ethernet,
    FrameRelay,
    Hdlc,
    Ip,
    Llc,
    Ppp,
    PppProtocol,
    /// An Ethernet type, which is the last two bytes of the header.
    Ethertype,
    /// The same, and two bytes behind it.
    EthertypeAndTwo,
}

/// The link layer with a LINKTYPE number.
pub(super) const fn of(link: u16) -> Option<Pseudo> {
    Some(match link {
        6 => Pseudo::Ring(2),
        // SLIP: direction, kind, the header in its compressed form.
        8 => Pseudo::Behind(16, Inner::Ip),
        10 => Pseudo::Ring(1),
        // RFC 1483, and the same behind what Solaris puts before it: flags and a circuit.
        11 => Pseudo::Behind(0, Inner::Llc),
        123 => Pseudo::Behind(4, Inner::Llc),
        // Fibre Channel: the names of both ports (RFC 2625 §3).
        122 => Pseudo::Behind(16, Inner::Llc),
        // PPPoE: version, code, session, length.
        51 => Pseudo::Behind(6, Inner::PppProtocol),
        107 => Pseudo::FrameRelay,
        // OpenBSD's IPsec: address family, index, flags.
        109 => Pseudo::Behind(12, Inner::Ip),
        117 => Pseudo::PacketFilterLog,
        119 | 163 => Pseudo::Monitor,
        // IP over FireWire: two addresses and the type.
        138 => Pseudo::Behind(18, Inner::Ethertype),
        // A byte with the direction.
        166 => Pseudo::Behind(2, Inner::PppProtocol),
        204 => Pseudo::Behind(1, Inner::Ppp),
        205 => Pseudo::Behind(1, Inner::Hdlc),
        206 => Pseudo::Behind(1, Inner::FrameRelay),
        239 => Pseudo::NetfilterLog,
        // IP over InfiniBand: a header of 40 bytes, the type, two bytes that are reserved.
        242 => Pseudo::Behind(44, Inner::EthertypeAndTwo),
        240 | 282 => Pseudo::Behind(4, Inner::Ethernet),
        241 => Pseudo::Behind(12, Inner::Ethernet),
        258 => Pseudo::PacketTap,
        // Preamble and start of frame.
        274 => Pseudo::Behind(8, Inner::Ethernet),
        281 | 284 => Pseudo::SwitchTag(4),
        285 => Pseudo::SwitchTag(8),
        _ => return None,
    })
}

/// Decodes the header of such a link layer; `None` if nothing behind it can be decoded.
pub(super) fn decode(
    kind: Pseudo,
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
) -> Option<NextLayer> {
    match kind {
        Pseudo::SwitchTag(length) => switch_tag(usize::from(length), packet, rest),
        Pseudo::Behind(length, inner) => behind(usize::from(length), inner, packet, rest),
        Pseudo::FrameRelay => frame_relay(packet, rest),
        Pseudo::Ring(control) => ring(usize::from(control), packet, rest),
        Pseudo::NetfilterLog => netfilter_log(packet, rest),
        Pseudo::PacketTap => packet_tap(packet, rest),
        Pseudo::PacketFilterLog => {
            // The length is that without padding to words of four bytes.
            let length = usize::from(*rest.bytes.first()?);
            rest.skip(length.next_multiple_of(4))?;
            Some(NextLayer::Ip)
        }
        Pseudo::Monitor => {
            let header: &[u8; 8] = rest.peek()?;
            // AVS is big-endian; Prism has the byte order of the machine that captured.
            let length: [u8; 4] = *header.last_chunk()?;
            let length = u32::from_le_bytes(length).min(u32::from_be_bytes(length));
            rest.skip(usize::try_from(length).ok()?)?;
            Some(NextLayer::Link(LinkLayer::Wireless))
        }
    }
}

fn behind(
    length: usize,
    inner: Inner,
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
) -> Option<NextLayer> {
    let header = *rest;
    rest.skip(length)?;
    Some(match inner {
        Inner::Ethernet => NextLayer::Link(LinkLayer::Ethernet),
        Inner::FrameRelay => NextLayer::Link(LinkLayer::Pseudo(Pseudo::FrameRelay)),
        Inner::Hdlc => NextLayer::Link(LinkLayer::Hdlc),
        Inner::Ip => NextLayer::Ip,
        Inner::Llc => NextLayer::Link(LinkLayer::Llc),
        Inner::Ppp => NextLayer::Link(LinkLayer::Ppp),
        Inner::PppProtocol => return ppp_protocol(packet, rest),
        Inner::Ethertype => NextLayer::Ethertype(be16(header.bytes, length.checked_sub(2)?)?),
        Inner::EthertypeAndTwo => NextLayer::Ethertype(be16(header.bytes, length.checked_sub(4)?)?),
    })
}

/// The tag that a switch adds for the machine that controls it.
fn switch_tag(
    length: usize,
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
) -> Option<NextLayer> {
    let addresses: &[u8; 12] = rest.take()?;
    rest.skip(length)?;
    let kind = u16::from_be_bytes(*rest.take()?);
    let mut ether = Ether { kind, ..Ether::default() };
    ether.destination.copy_from_slice(&addresses[..6]);
    ether.source.copy_from_slice(&addresses[6..]);
    packet.ether = Some(ether);
    packet.encapsulation.add(Encapsulation::ETHERNET);
    if kind < ethertype::FIRST {
        return Some(NextLayer::Link(LinkLayer::Llc));
    }
    Some(NextLayer::Ethertype(kind))
}

/// The highest bit of the source announces a route, whose first byte has its length.
fn ring(
    control: usize,
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
) -> Option<NextLayer> {
    rest.skip(control)?;
    let addresses: &[u8; 12] = rest.take()?;
    let mut ether = Ether::default();
    ether.destination.copy_from_slice(&addresses[..6]);
    ether.source.copy_from_slice(&addresses[6..]);
    if ether.source[0] & 0x80 != 0 {
        ether.source[0] &= 0x7f;
        rest.skip(usize::from(*rest.bytes.first()? & 0x1f))?;
    }
    packet.ether = Some(ether);
    Some(NextLayer::Link(LinkLayer::Llc))
}

/// An address of Q.922, and what RFC 2427 or Cisco puts behind it.
fn frame_relay(packet: &mut Packet<'_>, rest: &mut FrameRemainder<'_>) -> Option<NextLayer> {
    // The lowest bit marks the last byte: two bytes, at most four.
    let length = rest.bytes.iter().take(4).position(|byte| byte & 1 == 1)? + 1;
    rest.skip(length)?;
    // The control byte of an unnumbered frame; Cisco has an Ethernet type here.
    if *rest.bytes.first()? != 3 {
        let kind = u16::from_be_bytes(*rest.take()?);
        return Some(NextLayer::Ethertype(kind));
    }
    rest.skip(1)?;
    if *rest.bytes.first()? == 0 {
        rest.skip(1)?;
    }
    // Identifiers of network layers (ISO/IEC TR 9577).
    match *rest.take::<1>()? {
        [0xcc | 0x8e] => Some(NextLayer::Ip),
        [0x80] => {
            // SNAP: an organisation and a type.
            let snap: &[u8; 5] = rest.take()?;
            let kind = be16(snap, 3)?;
            match &snap[..3] {
                [0, 0, 0] => Some(NextLayer::Ethertype(kind)),
                // Bridged Ethernet, with its checksum or without.
                [0, 0x80, 0xc2] if matches!(kind, 1 | 7) => {
                    Some(NextLayer::Link(LinkLayer::Ethernet))
                }
                _ => without_network(packet),
            }
        }
        _ => without_network(packet),
    }
}

/// Family, version and resource, then attributes: length, type, value, padding to four bytes.
fn netfilter_log(packet: &mut Packet<'_>, rest: &mut FrameRemainder<'_>) -> Option<NextLayer> {
    let &[family, version, _, _] = rest.take()?;
    if version != 0 {
        return None;
    }
    // Each attribute takes four bytes at least.
    loop {
        let &[a, b, c, d] = rest.take()?;
        // In the byte order of the machine that captured; no type is above 255.
        let (length, kind) =
            if d == 0 { (u16::from_le_bytes([a, b]), c) } else { (u16::from_be_bytes([a, b]), d) };
        let length = usize::from(length).checked_sub(4)?;
        if kind == PAYLOAD {
            return match family {
                FAMILY_IPV4 | FAMILY_IPV6 => Some(NextLayer::Ip),
                _ => without_network(packet),
            };
        }
        rest.skip(length.next_multiple_of(4))?;
    }
}

/// `NFULA_PAYLOAD` (include/uapi/linux/netfilter/nfnetlink_log.h).
const PAYLOAD: u8 = 9;
/// `AF_INET` and `AF_INET6` of Linux.
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;

/// Its length, the type of the record and the link layer, in little-endian words.
fn packet_tap(packet: &mut Packet<'_>, rest: &mut FrameRemainder<'_>) -> Option<NextLayer> {
    let header: &[u8; 12] = rest.peek()?;
    let word =
        |at: usize| -> Option<u32> { Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?)) };
    let (length, kind, link) = (word(0)?, word(4)?, word(8)?);
    // A packet, and not a comment.
    if kind != 1 || length < 12 {
        return without_network(packet);
    }
    rest.skip(usize::try_from(length).ok()?)?;
    Some(first(u16::try_from(link).ok()?))
}
