//! Settings for the applications of flows.

use std::net::{IpAddr, Ipv4Addr};

/// The most DNS servers that can be named.
pub const DNS_SERVERS_MAX: usize = 64;

/// A protocol whose data are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum ApplicationProtocol {
    Dns = 1,
    Http = 2,
    Quic = 4,
    Ssh = 8,
    Tls = 16,
}

/// Some protocols.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Protocols(u8);

impl Protocols {
    /// Each [`ApplicationProtocol`].
    pub const ALL: Self = Self(0b1_1111);

    pub const fn add(&mut self, protocol: ApplicationProtocol) {
        self.0 |= protocol as u8;
    }

    pub const fn has(self, protocol: ApplicationProtocol) -> bool {
        self.0 & protocol as u8 != 0
    }

    /// One of them, if it is one of them.
    pub(crate) const fn only(self, protocol: ApplicationProtocol) -> Self {
        Self(self.0 & protocol as u8)
    }

    /// Whether there is no protocol.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The servers of DNS that are expected to answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DnsServers {
    addresses: [IpAddr; DNS_SERVERS_MAX],
    count: usize,
}

impl Default for DnsServers {
    fn default() -> Self {
        Self { addresses: [Ipv4Addr::UNSPECIFIED.into(); DNS_SERVERS_MAX], count: 0 }
    }
}

impl DnsServers {
    /// Adds a server; `false` if there are too many.
    pub fn add(&mut self, address: IpAddr) -> bool {
        let Some(room) = self.addresses.get_mut(self.count) else { return false };
        *room = address;
        self.count += 1;
        true
    }

    /// Whether a server is one of them; `None` if there are none.
    pub(crate) fn has(&self, server: IpAddr) -> Option<bool> {
        let known = &self.addresses[..self.count];
        (!known.is_empty()).then(|| known.contains(&server))
    }
}

/// The protocols that are read, and what is kept of each flow's application.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ApplicationSettings {
    pub protocols: Protocols,
    /// The number of packets with data whose sizes and times are kept of each flow.
    pub sequence_packets: usize,
    pub dns_servers: DnsServers,
    /// Whether all answers of DNS are reported. It needs [`ApplicationProtocol::Dns`].
    pub has_passive_dns: bool,
}

impl ApplicationSettings {
    pub(crate) const fn is_on(&self) -> bool {
        !self.protocols.is_empty() || self.sequence_packets > 0
    }
}
