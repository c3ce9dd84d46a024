//! Tunnels: IP packets that contain packets.

use super::bytes::{FrameRemainder, be16, be32};
use super::ip::protocol;
use super::link::LinkLayer;
use super::{Encapsulation, Ip, NextLayer, Packet, ethertype};

/// Ports of UDP that announce a tunnel (IANA).
mod port {
    pub(super) const L2TP: u16 = 1701;
    pub(super) const GTP_USER: u16 = 2152;
    pub(super) const TEREDO: u16 = 3544;
    pub(super) const VXLAN: u16 = 4789;
    /// VXLAN of Linux before it had a number.
    pub(super) const VXLAN_OLD: u16 = 8472;
    pub(super) const GENEVE: u16 = 6081;
}

/// The most extension headers of a packet of GTP-U that are passed.
const GTP_EXTENSIONS_MAX: usize = 8;

/// Whether a port of UDP announces a tunnel.
#[inline]
pub(super) fn may_be_udp(payload: &[u8]) -> bool {
    let may_be = |at: usize| {
        let of_tunnel =
            [port::L2TP, port::GTP_USER, port::TEREDO, port::VXLAN, port::VXLAN_OLD, port::GENEVE];
        be16(payload, at).is_some_and(|port| of_tunnel.contains(&port))
    };
    may_be(0) || may_be(2)
}

/// Opens a tunnel; `None` if there is none, and then `rest` is unchanged.
pub(super) fn decode(
    ip: &Ip<'_>,
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
) -> Option<NextLayer> {
    let mut inner = *rest;
    let outer = if ip.is_v6 { Encapsulation::IPV6 } else { Encapsulation::IPV4 };
    let Tunnel { header, bits, vni } = match ip.protocol {
        protocol::GRE => gre(&mut inner)?,
        protocol::IPV4 | protocol::IPV6 => Tunnel::new(NextLayer::Ip, outer),
        protocol::UDP => udp(&mut inner)?,
        _ => return None,
    };
    if header == NextLayer::Ip && !matches!(inner.bytes.first()? >> 4, 4 | 6) {
        return None;
    }
    packet.encapsulation.add(bits);
    packet.vni = vni.or(packet.vni);
    *rest = inner;
    Some(header)
}

/// A tunnel: what is in it, what it is, and its number if it has one.
pub(super) struct Tunnel {
    pub(super) header: NextLayer,
    pub(super) bits: u32,
    pub(super) vni: Option<u32>,
}

impl Tunnel {
    const fn new(header: NextLayer, bits: u32) -> Self {
        Self { header, bits, vni: None }
    }

    /// `word` has the number in its upper three bytes.
    const fn numbered(header: NextLayer, bits: u32, word: u32) -> Self {
        Self { header, bits, vni: Some(word >> 8) }
    }
}

/// GRE of RFC 2784 and RFC 2890, and version 1, which carries PPP (RFC 2637).
pub(super) fn gre(rest: &mut FrameRemainder<'_>) -> Option<Tunnel> {
    let header: &[u8; 4] = rest.take()?;
    let (flags, kind) = (be16(header, 0)?, be16(header, 2)?);
    let has = |bit: u16| usize::from(flags & bit != 0);
    let (checksum, routing, key, sequence) = (0x8000, 0x4000, 0x2000, 0x1000);
    match flags & 7 {
        0 => {
            let checksum = usize::from(flags & (checksum | routing) != 0);
            let number = be32(rest.bytes, 4 * checksum);
            rest.skip(4 * (checksum + has(key) + has(sequence)))?;
            if flags & routing != 0 {
                return None; // Source routes of RFC 1701, which RFC 2784 has removed.
            }
            // A frame of ERSPAN without a sequence number has no ERSPAN header.
            if kind == ethertype::ERSPAN && flags & sequence == 0 {
                return Some(Tunnel::new(NextLayer::Link(LinkLayer::Ethernet), Encapsulation::GRE));
            }
            // NVGRE: RFC 7637 §3.2.
            if kind == ethertype::BRIDGE && flags & key != 0 {
                let header = NextLayer::Ethertype(kind);
                return Some(Tunnel::numbered(header, Encapsulation::GRE, number?));
            }
        }
        1 => rest.skip(4 * (1 + has(sequence) + has(0x80)))?,
        _ => return None,
    }
    Some(Tunnel::new(NextLayer::Ethertype(kind), Encapsulation::GRE))
}

/// A tunnel in UDP, by its port.
fn udp(rest: &mut FrameRemainder<'_>) -> Option<Tunnel> {
    let header: &[u8; 8] = rest.take()?;
    let (source, destination) = (be16(header, 0)?, be16(header, 2)?);
    let is = |port: u16| destination == port || source == port;
    if is(port::VXLAN) || is(port::VXLAN_OLD) {
        vxlan(rest)
    } else if is(port::GENEVE) {
        geneve(rest)
    } else if is(port::GTP_USER) {
        gtp_user(rest)
    } else if is(port::L2TP) {
        // RFC 2661 §8.1: each end may choose its own port.
        l2tp(rest)
    } else if is(port::TEREDO) {
        teredo(rest)
    } else {
        None
    }
}

/// A packet of the user in GTP-U, version 1: 3GPP TS 29.281 §5.1.
fn gtp_user(rest: &mut FrameRemainder<'_>) -> Option<Tunnel> {
    let header: &[u8; 8] = rest.take()?;
    if header[0] & 0xf0 != 0x30 || header[1] != 0xff {
        return None;
    }
    if header[0] & 7 != 0 {
        let [_, _, _, next] = *rest.take()?;
        if header[0] & 4 != 0 {
            pass_extensions(next, rest)?;
        }
    }
    Some(Tunnel::new(NextLayer::Ip, Encapsulation::GTP_USER))
}

/// Extension headers of GTP-U: 3GPP TS 29.281 §5.2. Each has its length in words of four bytes, and
/// the type of the next one at its end; `next` is the first one's.
fn pass_extensions(mut next: u8, rest: &mut FrameRemainder<'_>) -> Option<()> {
    for _ in 0..GTP_EXTENSIONS_MAX {
        if next == 0 {
            return Some(());
        }
        let length = usize::from(*rest.bytes.first()?) * 4;
        next = *rest.bytes.get(length.checked_sub(1)?)?;
        rest.skip(length)?;
    }
    None
}

/// RFC 7348 §5: only the flag of a valid number, and the last byte is 0.
pub(super) fn vxlan(rest: &mut FrameRemainder<'_>) -> Option<Tunnel> {
    let header: &[u8; 8] = rest.take()?;
    let (inner, number) = (NextLayer::Link(LinkLayer::Ethernet), be32(header, 4)?);
    let is_valid = header[0] & 8 != 0 && header[7] == 0;
    is_valid.then_some(Tunnel::numbered(inner, Encapsulation::VXLAN, number))
}

/// RFC 8926 §3.4: version 0, the length of the options in words.
pub(super) fn geneve(rest: &mut FrameRemainder<'_>) -> Option<Tunnel> {
    let header: &[u8; 8] = rest.take()?;
    let (inner, number) = (NextLayer::Ethertype(be16(header, 2)?), be32(header, 4)?);
    if header[0] & 0xc0 != 0 {
        return None;
    }
    rest.skip(usize::from(header[0] & 0x3f) * 4)?;
    Some(Tunnel::numbered(inner, Encapsulation::GENEVE, number))
}

/// L2TP version 2, a data message: RFC 2661 §3.1.
fn l2tp(rest: &mut FrameRemainder<'_>) -> Option<Tunnel> {
    let flags = u16::from_be_bytes(*rest.take()?);
    let has = |bit: u16| usize::from(flags & bit != 0);
    if flags & 0x8000 != 0 || flags & 15 != 2 {
        return None;
    }
    // Length, tunnel and session, numbers, and an offset with that many bytes behind it.
    rest.skip(2 * has(0x4000) + 4 + 4 * has(0x800))?;
    if flags & 0x200 != 0 {
        let offset = u16::from_be_bytes(*rest.take()?);
        rest.skip(usize::from(offset))?;
    }
    Some(Tunnel::new(NextLayer::Link(LinkLayer::Ppp), Encapsulation::L2TP))
}

/// Teredo: RFC 4380 §5.1.1, an authentication header and an origin may come first.
fn teredo(rest: &mut FrameRemainder<'_>) -> Option<Tunnel> {
    for _ in 0..2 {
        match *rest.peek::<4>()? {
            [0, 1, identifier, authentication] => {
                rest.skip(13 + usize::from(identifier) + usize::from(authentication))?;
            }
            [0, 0, ..] => rest.skip(8)?,
            _ => break,
        }
    }
    (rest.bytes.first()? >> 4 == 6).then_some(Tunnel::new(NextLayer::Ip, Encapsulation::TEREDO))
}
