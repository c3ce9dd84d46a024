//! Packets that a network mirrors in UDP datagrams.
//!
//! A receiver on a socket has no outer packet of such a datagram: [`open`] reads the payload behind
//! the header of UDP. Anybody can send there, so whatever it holds is an answer and no error.

use super::bytes::FrameRemainder;
use super::link::{self, LinkLayer};
use super::link_type::{ETHERNET, RAW, WIRELESS};
use super::tunnel::{self, Tunnel};
use super::{Encapsulation, NextLayer, Packet, Tunnels, decode, ethertype};

/// How packets lie in datagrams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mirror {
    /// RFC 7348. Traffic mirroring of AWS and virtual taps of other clouds use it.
    Vxlan,
    /// RFC 8926.
    Geneve,
    /// RFC 8086, also with ERSPAN in GRE.
    Gre,
    /// The TaZmen Sniffer Protocol, of access points and of MikroTik's routers.
    Tzsp,
}

impl Mirror {
    pub const ALL: [Self; 4] = [Self::Vxlan, Self::Geneve, Self::Gre, Self::Tzsp];

    /// Its name in options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
            Self::Tzsp => "tzsp",
        }
    }

    /// The port of UDP that it has by default: those of IANA, but for TZSP, whose is customary.
    pub const fn port(self) -> u16 {
        match self {
            Self::Vxlan => 4789,
            Self::Geneve => 6081,
            Self::Gre => 4754,
            Self::Tzsp => 37008,
        }
    }

    /// What a port suggests. Any other port has VXLAN, the most common one.
    pub fn of_port(port: u16) -> Self {
        Self::ALL.into_iter().find(|mirror| mirror.port() == port).unwrap_or(Self::Vxlan)
    }
}

/// What a datagram holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MirrorContent<'a> {
    Packet(MirrorPacket<'a>),
    /// Something that belongs to the protocol, for example a sign of life.
    Control,
    /// Something else.
    Other,
}

/// A packet in a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MirrorPacket<'a> {
    /// The LINKTYPE number of tcpdump.org of the packet: one of [`LINKS`].
    pub link: u16,
    /// What was received of it.
    pub bytes: &'a [u8],
    /// Its length in bytes before that.
    pub length: u32,
    pub outer: Outer,
}

/// What was before a mirrored packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outer {
    pub mirror: Mirror,
    /// The number of its overlay, as [`Packet::vni`].
    pub vni: Option<u32>,
    /// Bits of [`Encapsulation`].
    encapsulation: Encapsulation,
}

/// Link types of mirrored packets.
pub const LINKS: [u16; 3] = [ETHERNET, RAW, WIRELESS];

/// The most headers between that of the tunnel and the packet: those of GRE and of ERSPAN.
const BETWEEN_MAX: u32 = 2;

/// The most that is before a packet in bytes, but for longer tags of TZSP: the header of Geneve,
/// with 63 words of options.
pub const OUTER_BYTES: usize = 8 + 63 * 4;

/// Opens the payload of a datagram. `length` is the payload's length in bytes, of which `payload`
/// may be only the beginning.
pub fn open(mirror: Mirror, payload: &[u8], length: u32) -> MirrorContent<'_> {
    let mut rest = FrameRemainder { bytes: payload, length };
    if mirror == Mirror::Tzsp {
        return tzsp(rest);
    }
    packet(mirror, &mut rest).map_or(MirrorContent::Other, MirrorContent::Packet)
}

/// Decodes a mirrored packet as [`decode`] does.
#[inline]
pub fn decode_mirrored<'a>(mirrored: &MirrorPacket<'a>, tunnels: Tunnels) -> Packet<'a> {
    let mut packet = decode(mirrored.link, mirrored.bytes, mirrored.length, tunnels);
    packet.encapsulation.add(mirrored.outer.encapsulation.0);
    packet.vni = packet.vni.or(mirrored.outer.vni);
    packet
}

/// The packet behind a tunnel's header.
fn packet<'a>(mirror: Mirror, rest: &mut FrameRemainder<'a>) -> Option<MirrorPacket<'a>> {
    let Tunnel { mut header, bits, vni } = match mirror {
        Mirror::Vxlan => tunnel::vxlan(rest)?,
        Mirror::Geneve => tunnel::geneve(rest)?,
        Mirror::Gre => tunnel::gre(rest)?,
        Mirror::Tzsp => return None,
    };
    let mut scratch = Packet { vni, ..Packet::default() };
    scratch.encapsulation.add(bits);
    // GRE announces ERSPAN by an Ethernet type, which is before the frame.
    for _ in 0..BETWEEN_MAX {
        match header {
            NextLayer::Ethertype(
                kind @ (ethertype::BRIDGE | ethertype::ERSPAN | ethertype::ERSPAN_3),
            ) => header = link::between(kind, &mut scratch, rest)?,
            _ => break,
        }
    }
    let link = match header {
        NextLayer::Link(LinkLayer::Ethernet) => ETHERNET,
        NextLayer::Ip | NextLayer::Ethertype(ethertype::IPV4 | ethertype::IPV6) => RAW,
        _ => return None,
    };
    let outer = Outer { mirror, vni: scratch.vni, encapsulation: scratch.encapsulation };
    (!rest.bytes.is_empty()).then_some(MirrorPacket {
        link,
        bytes: rest.bytes,
        length: rest.length,
        outer,
    })
}

/// Types of TZSP that have a packet: received, or to be sent; and those that have none:
/// configuration, sign of life, opening of a port.
mod tzsp_type {
    pub(super) const RECEIVED: u8 = 0;
    pub(super) const TO_BE_SENT: u8 = 1;
    pub(super) const CONFIGURATION: u8 = 3;
    pub(super) const KEEP_ALIVE: u8 = 4;
    pub(super) const PORT_OPENER: u8 = 5;
}

/// Version 1, a type, the packet's protocol, and tags. A tag has a type, and but for padding (0)
/// and the end (1) a length and so many bytes.
fn tzsp(mut rest: FrameRemainder<'_>) -> MirrorContent<'_> {
    let Some(&[1, kind, high, low]) = rest.take::<4>() else { return MirrorContent::Other };
    match kind {
        tzsp_type::RECEIVED | tzsp_type::TO_BE_SENT => {}
        tzsp_type::CONFIGURATION | tzsp_type::KEEP_ALIVE | tzsp_type::PORT_OPENER => {
            return MirrorContent::Control;
        }
        _ => return MirrorContent::Other,
    }
    let link = match u16::from_be_bytes([high, low]) {
        1 => ETHERNET,
        18 => WIRELESS,
        _ => return MirrorContent::Other,
    };
    if pass_tags(&mut rest).is_none() || rest.bytes.is_empty() {
        return MirrorContent::Other;
    }
    let (mirror, encapsulation) = (Mirror::Tzsp, Encapsulation::default());
    let outer = Outer { mirror, vni: None, encapsulation };
    MirrorContent::Packet(MirrorPacket { link, bytes: rest.bytes, length: rest.length, outer })
}

/// Goes behind the last tag. Each turn takes a byte at least.
fn pass_tags(rest: &mut FrameRemainder<'_>) -> Option<()> {
    loop {
        match *rest.take()? {
            [0] => {}
            [1] => return Some(()),
            [_] => {
                let [length] = *rest.take()?;
                rest.skip(usize::from(length))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::super::Network;
    use super::*;

    /// An Ethernet frame with an IPv4 packet of ICMP from 10.0.0.1 to 10.0.0.2.
    fn frame() -> Vec<u8> {
        [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0][..], &packet()].concat()
    }

    fn packet() -> Vec<u8> {
        let header = [0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        [&header[..], &[8, 0, 0, 0, 0, 1, 0, 1]].concat()
    }

    /// The packet in a payload, which is read to its innermost header.
    #[track_caller]
    fn opened(mirror: Mirror, header: &[u8], inner: &[u8]) -> (u16, Option<u32>, u32) {
        let payload = [header, inner].concat();
        let MirrorContent::Packet(mirrored) = open(mirror, &payload, payload.len() as u32) else {
            panic!("{mirror:?}: no packet in {payload:x?}")
        };
        assert_eq!((mirrored.bytes, mirrored.length), (inner, inner.len() as u32));
        let packet = decode_mirrored(&mirrored, Tunnels::Discover);
        let Network::Ip(ip) = packet.network else { panic!("no IP: {packet:?}") };
        assert_eq!((ip.source, ip.destination), (0x0a00_0001, 0x0a00_0002));
        (mirrored.link, packet.vni, packet.encapsulation.0)
    }

    #[test]
    fn mirrored_packets_are_found_behind_each_header() {
        let (ether, gre) = (Encapsulation::ETHERNET, Encapsulation::GRE);
        let erspan = ether | gre | Encapsulation::ERSPAN;
        let (vxlan_bits, geneve_bits) = (Encapsulation::VXLAN, Encapsulation::GENEVE);
        let vxlan = [8, 0, 0, 0, 0x12, 0x34, 0x56, 0];
        assert_eq!(
            opened(Mirror::Vxlan, &vxlan, &frame()),
            (1, Some(0x12_3456), ether | vxlan_bits)
        );
        // A word of options, Ethernet and IPv4.
        let geneve = |kind: [u8; 2]| [&[1, 0, kind[0], kind[1], 0, 0, 7, 0][..], &[9; 4]].concat();
        let of_ethernet = geneve([0x65, 0x58]);
        assert_eq!(
            opened(Mirror::Geneve, &of_ethernet, &frame()),
            (1, Some(7), ether | geneve_bits)
        );
        let of_ip = opened(Mirror::Geneve, &geneve([8, 0]), &packet());
        assert_eq!(of_ip, (101, Some(7), geneve_bits));
        // With a key, without one, and the three types of ERSPAN.
        let keyed = [0x20, 0, 0x65, 0x58, 0, 0, 1, 2];
        assert_eq!(opened(Mirror::Gre, &keyed, &frame()), (1, Some(1), ether | gre));
        assert_eq!(opened(Mirror::Gre, &[0, 0, 8, 0], &packet()), (101, None, gre));
        assert_eq!(opened(Mirror::Gre, &[0, 0, 0x88, 0xbe], &frame()), (1, None, ether | gre));
        let second = [&[0x10, 0, 0x88, 0xbe][..], &[0; 12]].concat();
        assert_eq!(opened(Mirror::Gre, &second, &frame()), (1, Some(0), erspan));
        let third = |last: u8| [&[0x10, 0, 0x22, 0xeb][..], &[0; 15], &[last]].concat();
        assert_eq!(opened(Mirror::Gre, &third(0), &frame()), (1, Some(0), erspan));
        let longer = [&third(1)[..], &[0; 8]].concat();
        assert_eq!(opened(Mirror::Gre, &longer, &frame()), (1, Some(0), erspan));
        // A signal's strength, padding, the end.
        let tzsp = [1, 0, 0, 1, 10, 1, 0xc0, 0, 1];
        assert_eq!(opened(Mirror::Tzsp, &tzsp, &frame()), (1, None, ether));
    }

    #[test]
    fn what_has_no_packet_is_named() {
        fn content(mirror: Mirror, payload: &[u8]) -> MirrorContent<'_> {
            open(mirror, payload, payload.len() as u32)
        }
        for mirror in Mirror::ALL {
            assert_eq!(content(mirror, &[]), MirrorContent::Other);
            assert_eq!(content(mirror, &[0xff; 64]), MirrorContent::Other);
        }
        // Without the flag of a number, or without a frame.
        assert_eq!(content(Mirror::Vxlan, &[0; 64]), MirrorContent::Other);
        assert_eq!(content(Mirror::Vxlan, &[8, 0, 0, 0, 0, 0, 1, 0]), MirrorContent::Other);
        for kind in 3..=5 {
            assert_eq!(content(Mirror::Tzsp, &[1, kind, 0, 0]), MirrorContent::Control);
        }
        // The tags do not end.
        assert_eq!(content(Mirror::Tzsp, &[1, 0, 0, 1, 0, 0, 0]), MirrorContent::Other);
        assert_eq!(content(Mirror::Tzsp, &[1, 0, 0, 1, 9, 200, 1]), MirrorContent::Other);
    }

    #[test]
    fn ports_suggest_what_they_have() {
        let all = Mirror::ALL.map(|mirror| Mirror::of_port(mirror.port()));
        assert_eq!(all, Mirror::ALL);
        assert_eq!([8472, 5000].map(Mirror::of_port), [Mirror::Vxlan; 2]);
    }

    #[test]
    fn a_datagram_that_was_cut_keeps_its_length() {
        let payload = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame()].concat();
        let MirrorContent::Packet(mirrored) = open(Mirror::Vxlan, &payload, 1508) else {
            panic!("no packet")
        };
        assert_eq!((mirrored.length, mirrored.bytes.len()), (1500, frame().len()));
    }

    proptest! {
        /// Also with the beginnings of each header.
        #[test]
        fn any_datagram_is_opened(which in 0..4_usize, head in 0..5_usize, bytes: Vec<u8>) {
            let heads: [&[u8]; 5] = [
                &[], &[8, 0, 0, 0, 0, 0, 1, 0], &[1, 0, 0x65, 0x58], &[0x10, 0, 0x22, 0xeb],
                &[1, 0, 0, 1],
            ];
            let payload = [heads[head], &bytes].concat();
            if let MirrorContent::Packet(mirrored) = open(Mirror::ALL[which], &payload, 9000) {
                prop_assert!(payload.ends_with(mirrored.bytes) && !mirrored.bytes.is_empty());
                prop_assert!(LINKS.contains(&mirrored.link));
                decode_mirrored(&mirrored, Tunnels::Discover);
            }
        }
    }
}
