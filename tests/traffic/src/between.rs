//! Two hosts, and what lies between them: tags, labels, tunnels.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::truth::{Flow, Side};

/// One end of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    pub mac: [u8; 6],
    pub address: IpAddr,
    /// The time to live that the sensor sees.
    pub ttl: u8,
    /// The type of service or the traffic class of its packets.
    pub tos: u8,
}

impl Host {
    /// The host of a number, with an IPv4 address.
    pub fn v4(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(10, 1, high, low));
        Self { mac: [2, 0, 0, 4, high, low], address, ttl: 64, tos: 0 }
    }

    /// The host of a number, with an IPv6 address.
    pub fn v6(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        let address = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 1, number));
        Self { mac: [2, 0, 0, 6, high, low], address, ttl: 64, tos: 0 }
    }

    /// The same host with another address, such as a multicast address.
    #[must_use]
    pub const fn with_address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// The same host with another hardware address.
    #[must_use]
    pub const fn with_mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = mac;
        self
    }
}

/// A header, or several, around the packets of a conversation.
#[derive(Clone, Debug)]
pub enum Layer {
    /// 802.1Q, with the whole tag.
    Vlan(u16),
    /// 802.1ad, the outer tag of QinQ.
    Provider(u16),
    /// The labels from the outermost on, each below 2²⁰.
    Mpls(Vec<u32>),
    /// The session.
    Pppoe(u16),
    /// GRE version 0 without options, over IPv4.
    Gre,
    /// IPv4 over IPv4.
    Ipip,
    /// IPv6 over IPv4.
    SixInFour,
    /// Ethernet over UDP, with the network's number.
    Vxlan(u32),
    /// Ethernet over UDP, with the network's number.
    Geneve(u32),
    /// IPv6 over UDP.
    Teredo,
    /// An authentication header behind the IP header; the innermost layer, with its SPI.
    Ah(u32),
}

/// The ends of tunnels.
pub(crate) const TUNNEL_ENDS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

impl Layer {
    /// The outer protocol and ports of a tunnel, as `ra` prints them.
    pub(crate) fn outer(&self) -> Option<(&'static str, [&'static str; 2])> {
        Some(match self {
            Self::Gre => ("gre", ["", ""]),
            Self::Ipip => ("ipnip", ["", ""]),
            Self::SixInFour => ("ipv6", ["", ""]),
            Self::Vxlan(_) => ("udp", ["50000", "4789"]),
            Self::Geneve(_) => ("udp", ["50000", "6081"]),
            Self::Teredo => ("udp", ["50000", "3544"]),
            Self::Vlan(_) | Self::Provider(_) | Self::Mpls(_) | Self::Pppoe(_) | Self::Ah(_) => {
                return None;
            }
        })
    }
}

/// The two ends of a conversation: the source opens it.
#[derive(Clone, Debug)]
pub struct Between {
    pub hosts: [Host; 2],
    pub ports: [u16; 2],
    /// From the outermost on.
    pub layers: Vec<Layer>,
    /// IPv4 options (a multiple of 4 bytes), or IPv6 hop-by-hop options (8 n + 6 bytes).
    pub options: Vec<u8>,
}

impl Between {
    pub const fn new(hosts: [Host; 2], ports: [u16; 2]) -> Self {
        Self { hosts, ports, layers: Vec::new(), options: Vec::new() }
    }

    /// Between two hosts with IPv4 addresses; the destination's number is larger by 100.
    pub fn v4(number: u16, ports: [u16; 2]) -> Self {
        Self::new([Host::v4(number), Host::v4(number + 100)], ports)
    }

    /// Between two hosts with IPv6 addresses; the destination's number is larger by 100.
    pub fn v6(number: u16, ports: [u16; 2]) -> Self {
        Self::new([Host::v6(number), Host::v6(number + 100)], ports)
    }

    /// The same inside of one layer more.
    #[must_use]
    pub fn inside(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// The same with options in its IP headers.
    #[must_use]
    pub fn with_options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// The same from the other host to the first, with the same ports.
    #[must_use]
    pub fn exchanged(mut self) -> Self {
        self.hosts.reverse();
        self
    }

    /// The same between the same hosts with other ports.
    #[must_use]
    pub const fn with_ports(mut self, ports: [u16; 2]) -> Self {
        self.ports = ports;
        self
    }

    /// Whether the addresses are IPv6 addresses.
    pub const fn is_v6(&self) -> bool {
        self.hosts[0].address.is_ipv6()
    }

    pub(crate) const fn host(&self, side: Side) -> &Host {
        &self.hosts[side.index()]
    }

    /// An empty flow of a protocol with ports.
    pub(crate) fn flow(&self, protocol: &str) -> Flow {
        Flow {
            source_port: self.ports[0].to_string(),
            destination_port: self.ports[1].to_string(),
            ..self.portless_flow(protocol)
        }
    }

    /// An empty flow of a protocol without ports.
    pub(crate) fn portless_flow(&self, protocol: &str) -> Flow {
        Flow {
            protocol: protocol.to_owned(),
            source: self.hosts[0].address.to_string(),
            destination: self.hosts[1].address.to_string(),
            ..Flow::default()
        }
    }
}
