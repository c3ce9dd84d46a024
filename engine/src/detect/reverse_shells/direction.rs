//! Which end began a connection. The kernel does not keep that, so it is derived from listeners.
//!
//! A connection was accepted if a socket of its network namespace listens at its own port, or has
//! listened there since watching started. Any other connection began at this end, unless it existed
//! when watching started: the listener may have been closed before. A port without a listener and
//! without accepted connections is forgotten after a while: any process may use it again.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::sock::{Endpoints, TcpState};

use crate::limits::Limits;
use crate::state::{BEGINNING_ROUNDS, BEGINNING_SCANS_MAX};
use crate::walk::{ConnectionRow, Snapshot, SocketRow};
use panoptes_tables::{AddressMap, HashKey, Insertion, room};

/// Which end of a connection began it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectionDirection {
    /// The peer; this end accepted it.
    Accepted,
    /// This end.
    Outbound,
    /// The connection existed when watching started and nothing has listened at its port since, or
    /// there are more listeners than can be remembered.
    Unknown,
}

/// Maximum number of ports with a listener that are remembered.
const LISTENERS_MAX: usize = 16_384;
/// After this many scans, a port that was seen in none of them may be forgotten; after twice as
/// many, it is.
const KEPT_SCANS: u32 = 512;

/// Ports with listeners, and the connections that existed when watching started.
#[derive(Debug)]
pub struct Directions {
    port_key: HashKey,
    connection_key: HashKey,
    /// Ports, each with the period in which it was seen last.
    listeners: AddressMap,
    /// Number of the present period, of [`KEPT_SCANS`] scans.
    period: u32,
    scans: u32,
    /// Keys of the connections that existed when watching started, ascending.
    first: Vec<u64>,
    has_begun: bool,
    /// Whether there are more listeners at once than can be remembered: then no connection counts
    /// as outbound.
    is_full: bool,
}

impl Directions {
    /// Allocates for `limits`.
    pub fn new(limits: &Limits, key: HashKey) -> Self {
        let listeners = LISTENERS_MAX.min(limits.connections_seen_max());
        Self {
            port_key: key.derive("shells: ports"),
            connection_key: key.derive("shells: connections"),
            listeners: AddressMap::new(listeners, key.derive("shells: listeners")),
            period: 0,
            scans: 0,
            first: room::list(limits.connections_seen_max()),
            has_begun: false,
            is_full: false,
        }
    }

    /// Whether there are more listeners than can be remembered.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Limits the number of remembered listeners.
    #[cfg(test)]
    pub(super) fn remember_listeners(&mut self, count: usize) {
        self.listeners = AddressMap::new(count, self.port_key);
    }

    /// Records the current listeners.
    pub fn update(&mut self, snapshot: &Snapshot) {
        self.is_full = false;
        let counts = u32::from(snapshot.counts());
        self.scans = self.scans.wrapping_add(counts);
        if counts > 0 && self.scans.is_multiple_of(KEPT_SCANS) {
            self.forget_ports(snapshot);
        }
        if !self.note_listeners(snapshot) {
            // A guest that makes so many listeners causes those that have ended to be forgotten.
            self.listeners.clear();
            self.is_full = !self.note_listeners(snapshot);
        }
        if !self.has_begun {
            for row in snapshot.connections.iter().filter(|row| !listens(row)) {
                if self.first.len() < self.first.capacity() {
                    self.first.push(key_of(row, self.connection_key));
                }
            }
            self.first.sort_unstable();
            self.first.dedup();
        }
        let had_turns = !snapshot.chains_in_turn || snapshot.chains_round >= BEGINNING_ROUNDS;
        let is_whole = snapshot.left.chains == 0;
        self.has_begun |= is_whole || had_turns && self.scans >= BEGINNING_SCANS_MAX;
    }

    /// Forgets ports that were not seen recently, except those of accepted connections.
    fn forget_ports(&mut self, snapshot: &Snapshot) {
        for row in snapshot.connections.iter().filter(|row| !listens(row)) {
            if self.of(snapshot, row) == ConnectionDirection::Accepted {
                self.note(self.port(snapshot, row, row.endpoints.source));
            }
        }
        let period = self.period;
        self.listeners.retain(|seen| seen == period);
        self.period = period.wrapping_add(1);
    }

    /// Records that a port was seen in the present period. Returns whether there was room.
    fn note(&mut self, port: u64) -> bool {
        match self.listeners.insert(port, self.period) {
            Insertion::Old(seen) if seen != self.period => self.listeners.set(port, self.period),
            Insertion::Old(_) | Insertion::New => {}
            Insertion::Full => return false,
        }
        true
    }

    /// Records all current listeners. Returns whether there was room.
    fn note_listeners(&mut self, snapshot: &Snapshot) -> bool {
        let mut has_room = true;
        for row in snapshot.connections.iter().filter(|row| listens(row)) {
            let key = self.port(snapshot, row, row.endpoints.source);
            has_room &= self.note(key);
        }
        has_room
    }

    pub fn of(&self, snapshot: &Snapshot, row: &ConnectionRow) -> ConnectionDirection {
        let ends = &row.endpoints;
        let any = [
            ends.source,
            ends.source.to_canonical(),
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv6Addr::UNSPECIFIED.into(),
        ];
        let listens = |address| self.listeners.get(self.port(snapshot, row, address)).is_some();
        if any.into_iter().any(listens) {
            ConnectionDirection::Accepted
        } else if self.is_full || self.is_first(row) {
            ConnectionDirection::Unknown
        } else {
            ConnectionDirection::Outbound
        }
    }

    /// Whether a connection existed when watching started.
    fn is_first(&self, row: &ConnectionRow) -> bool {
        self.first.binary_search(&key_of(row, self.connection_key)).is_ok()
    }

    fn port(&self, snapshot: &Snapshot, row: &ConnectionRow, address: IpAddr) -> u64 {
        let namespace = snapshot.net_number(row.net);
        let mut bytes = [0; 22];
        bytes[..16].copy_from_slice(&octets(address));
        bytes[16..18].copy_from_slice(&row.endpoints.source_port.to_le_bytes());
        bytes[18..].copy_from_slice(&namespace.to_le_bytes());
        self.port_key.hash(&bytes) | 1
    }
}

pub(super) fn listens(row: &ConnectionRow) -> bool {
    TcpState::from_number(row.endpoints.state) == Some(TcpState::Listen)
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A key that distinguishes a connection from all others: hash of its socket, addresses and ports.
pub fn key_of(row: &ConnectionRow, key: HashKey) -> u64 {
    key_of_ends(&row.endpoints, row.address, u16::MAX, key)
}

/// The same for a socket that is not a TCP connection; `None` if it has no addresses. The kernel
/// reuses the memory of closed sockets.
pub fn key_of_datagram(row: &SocketRow, key: HashKey) -> Option<u64> {
    Some(key_of_ends(row.endpoints.as_ref()?, row.address, row.protocol, key))
}

fn key_of_ends(ends: &Endpoints, socket: KernelVa, protocol: u16, key: HashKey) -> u64 {
    let mut bytes = [0; 46];
    bytes[..16].copy_from_slice(&octets(ends.source));
    bytes[16..32].copy_from_slice(&octets(ends.destination));
    bytes[32..34].copy_from_slice(&ends.source_port.to_le_bytes());
    bytes[34..36].copy_from_slice(&ends.destination_port.to_le_bytes());
    bytes[36..44].copy_from_slice(&socket.0.to_le_bytes());
    bytes[44..].copy_from_slice(&protocol.to_le_bytes());
    key.hash(&bytes) | 1
}
