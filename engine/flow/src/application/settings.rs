//! Settings for the applications of flows.

use std::net::{IpAddr, Ipv4Addr};

use panoptes_records::flow::application::ApplicationProtocol;

/// The most DNS servers that can be named.
pub const DNS_SERVERS_MAX: usize = 64;

/// Some protocols: a bit for each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Protocols(u16);

impl Protocols {
    /// Each [`ApplicationProtocol`].
    pub const ALL: Self = Self((1_u16 << ApplicationProtocol::ALL.len()) - 1);

    const fn bit(protocol: ApplicationProtocol) -> u16 {
        1 << protocol as u32
    }

    pub const fn add(&mut self, protocol: ApplicationProtocol) {
        self.0 |= Self::bit(protocol);
    }

    pub const fn has(self, protocol: ApplicationProtocol) -> bool {
        self.0 & Self::bit(protocol) != 0
    }

    /// One of them, if it is one of them.
    pub(crate) const fn only(self, protocol: ApplicationProtocol) -> Self {
        Self(self.0 & Self::bit(protocol))
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
