//! Network packets: the headers from the link layer to the transport layer.
//!
//! [`decode`] takes a captured frame and gives a [`Packet`]. It opens VLAN tags, MPLS, PPPoE, GRE,
//! IP in IP and, if [`Tunnels::Discover`] asks for it, tunnels that only a UDP port shows. What a
//! [`Packet`] describes is the innermost header that it could read. A header that the capture cut
//! off ends the way inwards and is no error.
//!
//! [`transport`] has the headers behind IP, [`program`] classic BPF filters.
//!
//! The crate `etherparse` reads neither MPLS, PPPoE and GRE nor the tunnels, which argus(8) opens
//! to find the innermost flow. Half of the headers would still be decoded here.
//!
//! Every length comes from a stranger. Each function checks it, takes a bounded number of steps and
//! allocates nothing.

mod arp;
mod bytes;
mod ip;
mod link;
pub mod link_type;
pub mod mirror;
pub mod program;
pub mod transport;
mod tunnel;

pub use arp::{Arp, ArpOperation};
pub use ip::{Fragment, Ip};
pub use link::{Ether, Llc, Mpls};

use bytes::FrameRemainder;

/// The number of headers that are opened in one packet. More occur only in forged packets.
const HEADERS_MAX: u32 = 24;

/// Values of the Ethernet type field (IEEE 802 numbers of IANA).
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    /// Ethernet in GRE: RFC 1701, NVGRE.
    pub const BRIDGE: u16 = 0x6558;
    pub const RARP: u16 = 0x8035;
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    pub const PPP: u16 = 0x880b;
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_MULTICAST: u16 = 0x8848;
    pub const PPPOE_SESSION: u16 = 0x8864;
    /// The outer tag of 802.1ad.
    pub const QINQ: u16 = 0x88a8;
    /// ERSPAN type II, in GRE.
    pub const ERSPAN: u16 = 0x88be;
    /// ERSPAN type III, in GRE.
    pub const ERSPAN_3: u16 = 0x22eb;
    /// The outer tag of switches before 802.1ad.
    pub const QINQ_OLD: u16 = 0x9100;
    /// Smaller values are lengths: IEEE 802.3 §3.2.6.
    pub const FIRST: u16 = 0x0600;
}

/// The headers around an innermost one, as a set of bits. They are those of the argus record
/// (`ARGUS_ENCAPS_*`, `include/argus_encapsulations.h` of argus 5.0.3), and two more that it has
/// not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Encapsulation(pub u32);

impl Encapsulation {
    pub const MPLS: u32 = 0x1;
    pub const ETHERNET: u32 = 0x2;
    pub const VLAN: u32 = 0x4;
    pub const LLC: u32 = 0x8;
    pub const PPP: u32 = 0x10;
    pub const GRE: u32 = 0x40;
    pub const AH: u32 = 0x80;
    pub const IPV4: u32 = 0x100;
    pub const IPV6: u32 = 0x200;
    pub const HDLC: u32 = 0x400;
    pub const CISCO_HDLC: u32 = 0x800;
    pub const LINUX_COOKED: u32 = 0x2000;
    pub const WIRELESS: u32 = 0x2_0000;
    pub const TEREDO: u32 = 0x40_0000;
    pub const VXLAN: u32 = 0x400_0000;
    pub const L2TP: u32 = 0x800_0000;
    pub const GENEVE: u32 = 0x1000_0000;
    /// No bit of argus 5. In argus 3, it is that of VXLAN.
    pub const ERSPAN: u32 = 0x2000_0000;
    /// No bit of argus.
    pub const GTP_USER: u32 = 0x4000_0000;

    /// Adds one.
    pub(crate) fn add(&mut self, bit: u32) {
        self.0 |= bit;
    }
}

/// Which tunnels are opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tunnels {
    /// Those that a protocol number declares: GRE, IP in IP.
    #[default]
    Declared,
    /// Also those that a UDP port suggests: VXLAN, Geneve, GTP-U, L2TP, Teredo.
    Discover,
}

/// The innermost header of a packet below the transport layer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Network<'a> {
    Ip(Ip<'a>),
    Arp(Arp),
    Llc(Llc),
    /// Something that has an Ethernet type, and that is not decoded or was cut off.
    Other(u16),
    /// A frame of IEEE 802.11 whose contents are encrypted, missing, or of the network itself.
    Wireless,
    /// A whole frame without a sender and without a packet: what the ends of a link agree upon in
    /// PPP, what acknowledges a frame of IEEE 802.11.
    Control,
    /// A link layer that is not decoded, or a frame that was cut off within it.
    #[default]
    Unknown,
}

/// What the headers of a packet contain.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Packet<'a> {
    /// The innermost Ethernet header, or the addresses of a frame of IEEE 802.11.
    pub ether: Option<Ether>,
    pub encapsulation: Encapsulation,
    /// The last tag of 802.1Q or 802.1ad: priority, drop eligibility and id.
    pub vlan: Option<u16>,
    pub mpls: Option<Mpls>,
    /// The number of the innermost overlay: the VNI of VXLAN (RFC 7348) or Geneve (RFC 8926), the
    /// VSID of NVGRE (RFC 7637), the session of ERSPAN.
    pub vni: Option<u32>,
    pub network: Network<'a>,
}

/// Whether frames of a link layer are read. `link` is a LINKTYPE number of tcpdump.org.
pub fn reads_link(link: u16) -> bool {
    link::first(link) != NextLayer::Link(link::LinkLayer::Unknown)
}

/// Decodes a frame. `link` is a LINKTYPE number of tcpdump.org, `wire_length` the frame's length
/// in bytes before the capture cut it.
#[inline]
pub fn decode(link: u16, bytes: &[u8], wire_length: u32, tunnels: Tunnels) -> Packet<'_> {
    let rest = FrameRemainder { bytes, length: wire_length };
    if link == link_type::ETHERNET
        && let Some(packet) = plain(rest, tunnels)
    {
        return packet;
    }
    header_by_header(link, rest, tunnels)
}

/// Decodes a packet as most are: IP in Ethernet, and no tunnel behind it. `None` for others. The
/// result is that of [`header_by_header`], sooner.
#[allow(clippy::inline_always, reason = "a packet that is returned would go through memory")]
#[inline(always)]
fn plain(mut rest: FrameRemainder<'_>, tunnels: Tunnels) -> Option<Packet<'_>> {
    use transport::protocol;
    let ether = link::ether(rest.take()?);
    if !matches!(ether.kind, ethertype::IPV4 | ethertype::IPV6) {
        return None;
    }
    let ip = ip::fixed_header(rest)?;
    // Neither a tunnel nor an extension header.
    let is_last = match ip.protocol {
        protocol::TCP | protocol::ICMP | protocol::ICMPV6 => true,
        protocol::UDP => tunnels == Tunnels::Declared || !tunnel::may_be_udp(ip.payload),
        _ => false,
    };
    if !is_last {
        return None;
    }
    Some(Packet {
        ether: Some(ether),
        encapsulation: Encapsulation(Encapsulation::ETHERNET),
        network: Network::Ip(ip),
        ..Packet::default()
    })
}

/// Decodes any packet, header by header.
#[inline(never)]
fn header_by_header(link: u16, mut rest: FrameRemainder<'_>, tunnels: Tunnels) -> Packet<'_> {
    let mut packet = Packet::default();
    // The packet with a tunnel in UDP, which only its port announces.
    let mut outer = None;
    let mut next = link::first(link);
    for _ in 0..HEADERS_MAX {
        let step = match next {
            NextLayer::Link(kind) => link::decode(kind, &mut packet, &mut rest),
            NextLayer::Ethertype(kind) => ethertype(kind, &mut packet, &mut rest),
            NextLayer::Ip => {
                let (encapsulation, vni) = (packet.encapsulation, packet.vni);
                let step = internet(&mut packet, &mut rest, tunnels);
                if step.is_some() && matches!(packet.network, Network::Ip(ip) if ip.is_udp()) {
                    outer = Some(Packet { encapsulation, vni, ..packet });
                }
                step
            }
        };
        match step {
            Some(header) => next = header,
            None => break,
        }
    }
    match (packet.network, outer) {
        // Nothing was found behind the tunnel's header.
        (network, Some(outer)) if network == outer.network => outer,
        (Network::Ip(_) | Network::Arp(_), _) => packet,
        (_, outer) => outer.unwrap_or(packet),
    }
}

/// Decodes an IP header; `Some` if a tunnel behind it leads to another header.
#[inline]
fn internet<'a>(
    packet: &mut Packet<'a>,
    rest: &mut FrameRemainder<'a>,
    tunnels: Tunnels,
) -> Option<NextLayer> {
    let ip = ip::header(*rest)?;
    packet.network = Network::Ip(ip);
    if ip.has_ah {
        packet.encapsulation.add(Encapsulation::AH);
    }
    *rest = FrameRemainder { bytes: ip.payload, length: ip.payload_length };
    match ip.protocol {
        transport::protocol::TCP | transport::protocol::ICMP => None,
        transport::protocol::UDP if tunnels == Tunnels::Declared => None,
        _ if ip.fragment.is_some() => None,
        _ => tunnel::decode(&ip, packet, rest),
    }
}

/// Decodes what an Ethernet type announces.
#[inline]
fn ethertype(
    kind: u16,
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
) -> Option<NextLayer> {
    packet.network = Network::Other(kind);
    match kind {
        ethertype::IPV4 | ethertype::IPV6 => Some(NextLayer::Ip),
        ethertype::ARP | ethertype::RARP => {
            packet.network = Network::Arp(arp::decode(rest.bytes)?);
            None
        }
        _ => link::between(kind, packet, rest),
    }
}

/// The header that comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NextLayer {
    Link(link::LinkLayer),
    Ethertype(u16),
    /// IPv4 or IPv6: the first four bits decide.
    Ip,
}

#[cfg(test)]
mod tests;
