//! The sockets that scans have shown, with the processes that hold them.
//!
//! A socket stays known for a while after it was closed: packets are compared later than they were
//! sent, and a connection that has just ended is not hidden. So there are two tables. Each scan
//! writes to the newer one; when that is old, it replaces the older one, which is cleared.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::sock::{
    AF_INET, AF_INET6, AF_PACKET, IPPROTO_RAW, IPPROTO_TCP, IPPROTO_UDP, SOCK_RAW, TcpState,
};
use panoptes_tables::{HashIndex, HashKey, room};

use super::scans::Shows;
use crate::walk::{ConnectionRow, Index, InterfaceRow, PortSet, ProcessRow, Snapshot, SocketRow};

/// How long a table is the newer one, in nanoseconds.
const TABLE_AGE_NS: i64 = 60_000_000_000;
/// Bytes of a container's id that are kept.
const CONTAINER_BYTES: usize = 64;
/// Addresses of the system that are known.
const ADDRESSES_MAX: usize = 4096;
/// `AF_XDP` (include/linux/socket.h).
const AF_XDP: u16 = 44;
/// How old the last scan of everything may be: between such scans, those of processes that rest do
/// not show their descriptors.
pub(crate) const WHOLE_SCAN_NS: i64 = 2_000_000_000;

/// The process that holds a socket: the first one, if there are several.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SocketOwner {
    /// The tgid.
    pub process_id: u32,
    /// The real user id, if it could be read.
    pub user_id: Option<u32>,
    /// `comm`, NUL-padded.
    pub name: [u8; 16],
    /// The id of its container; empty if it is in none.
    pub container: ArrayVec<u8, CONTAINER_BYTES>,
}

impl SocketOwner {
    fn of(snapshot: &Snapshot, process: Index<ProcessRow>) -> Option<Self> {
        let process = snapshot.processes.at(Some(process))?;
        let task = &snapshot.leader(process)?.task;
        let id = snapshot.container_of(process).unwrap_or_default();
        let id = &id[..id.len().min(CONTAINER_BYTES)];
        Some(Self {
            process_id: task.tgid,
            user_id: process.ids.map(|ids| ids.uid),
            name: task.comm,
            container: id.iter().copied().collect(),
        })
    }
}

/// What accounts for packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SocketKey {
    /// A socket with a peer. Whose end it is does not matter: both may be the system's.
    Connection { protocol: u8, own: SocketAddr, peer: SocketAddr },
    /// A socket with this peer, at whatever address: the packets' may be translated (NAT).
    Peer { protocol: u8, peer: SocketAddr },
    /// A socket that receives at a port, from any peer. Without an address, at all of them.
    Local { protocol: u8, own: Option<IpAddr>, port: u16 },
}

impl SocketKey {
    pub(super) fn hash(&self, key: HashKey) -> u64 {
        let nothing = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let (kind, protocol, own, peer) = match *self {
            Self::Connection { protocol, own, peer } => (0, protocol, own, peer),
            Self::Peer { protocol, peer } => (1, protocol, nothing, peer),
            Self::Local { protocol, own: None, port } => {
                (2, protocol, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), nothing)
            }
            Self::Local { protocol, own: Some(own), port } => {
                (3, protocol, (own, port).into(), nothing)
            }
        };
        let words = |address: IpAddr| match address {
            IpAddr::V4(address) => (0, u64::from(address.to_bits())),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                ((bits >> 64) as u64, bits as u64)
            }
        };
        let ((a, b), (c, d)) = (words(own.ip()), words(peer.ip()));
        let ports = u64::from(own.port()) << 16 | u64::from(peer.port());
        key.hash_numbers([a, b, c, d, ports << 16 | u64::from(protocol) << 8 | kind])
    }
}

/// A socket, and who holds it.
#[derive(Clone, Debug)]
pub(super) struct OwnedSocket {
    key: SocketKey,
    pub(super) owner: Option<SocketOwner>,
}

/// One of the two tables.
#[derive(Debug)]
struct SocketTable {
    rows: Vec<OwnedSocket>,
    index: HashIndex,
    /// The ports of UDP sockets, of processes and of the kernel itself.
    udp_ports: PortSet,
    began_ns: i64,
    /// Whether a socket found no room.
    is_cut: bool,
}

impl SocketTable {
    fn new(capacity: usize) -> Self {
        Self {
            rows: room::list(capacity),
            index: HashIndex::new(capacity),
            udp_ports: PortSet::default(),
            began_ns: 0,
            is_cut: false,
        }
    }

    fn clear(&mut self, now_ns: i64) {
        self.rows.clear();
        self.index.clear();
        self.udp_ports.clear();
        (self.began_ns, self.is_cut) = (now_ns, false);
    }

    fn find(&self, hash: u64, key: &SocketKey) -> Option<u32> {
        let is = |row: u32| self.rows.get(row as usize).is_some_and(|row| row.key == *key);
        self.index.find(hash, is)
    }
}

/// What may send packets without being a socket of their protocol, and when a scan showed it last,
/// in nanoseconds since 1970; 0 if none did.
#[derive(Clone, Debug, Default)]
struct Bystanders {
    /// Raw sockets that can send TCP, and UDP.
    raw_tcp_ns: i64,
    raw_udp_ns: i64,
    /// A socket of AF_XDP.
    xdp_ns: i64,
    /// A socket of AF_PACKET. Most of them only receive.
    packet_ns: i64,
    packet: Option<SocketOwner>,
}

/// All sockets of a system.
#[derive(Debug)]
pub(super) struct Sockets {
    newer: SocketTable,
    older: SocketTable,
    key: HashKey,
    /// The process that holds each TCP socket of the scan.
    holders: Vec<Option<Index<ProcessRow>>>,
    /// The system's own addresses, in order.
    addresses: Vec<IpAddr>,
    /// Whether all of them found room.
    has_all_addresses: bool,
    /// Whether it has several interfaces, and so may forward packets of others.
    may_forward: bool,
    bystanders: Bystanders,
}

impl Sockets {
    /// Allocates for a scan's sockets, `connections` of them TCP sockets.
    pub(super) fn new(connections: usize, others: usize, key: HashKey) -> Self {
        let capacity = 2 * connections + 2 * others;
        Self {
            newer: SocketTable::new(capacity),
            older: SocketTable::new(capacity),
            key,
            holders: room::list(connections),
            addresses: room::list(ADDRESSES_MAX),
            has_all_addresses: true,
            may_forward: false,
            bystanders: Bystanders::default(),
        }
    }

    /// Notes what a scan shows. Returns of which protocols it shows all sockets, and all have found
    /// room.
    pub(super) fn note(&mut self, snapshot: &Snapshot, now_ns: i64) -> Shows {
        if now_ns.saturating_sub(self.newer.began_ns) > TABLE_AGE_NS {
            core::mem::swap(&mut self.newer, &mut self.older);
            self.newer.clear(now_ns);
        }
        self.note_interfaces(&snapshot.interfaces);
        self.find_holders(snapshot);
        for (index, row) in snapshot.connections.indexed() {
            let holder = self.holders.get(index.position()).copied().flatten();
            self.note_connection(
                row,
                holder.and_then(|process| SocketOwner::of(snapshot, process)),
            );
        }
        for (_, file) in snapshot.files.indexed() {
            let Some(socket) = snapshot.sockets.at(file.socket) else { continue };
            let owner = file.process.and_then(|process| SocketOwner::of(snapshot, process));
            self.note_socket(socket, owner, now_ns);
        }
        let udp = &snapshot.udp_ports;
        self.newer.udp_ports.add(&udp.all);
        let has_all = snapshot.connections_cut == 0
            && snapshot.connections.dropped == 0
            && !snapshot.chains_in_turn
            && !snapshot.nets.iter().any(|net| net.connections_cut);
        Shows {
            tcp: has_all && !self.newer.is_cut && !self.older.is_cut,
            // The owner of a translated port is unknown.
            udp: udp.is_whole && !udp.may_translate && snapshot.nets.dropped == 0,
        }
    }

    fn note_interfaces(&mut self, interfaces: &[InterfaceRow]) {
        self.addresses.clear();
        self.has_all_addresses = true;
        let mut links = 0_u32;
        for row in interfaces {
            let own = row.ipv4.iter().map(|&address| IpAddr::V4(address));
            let own = own.chain(row.ipv6.iter().map(|&address| IpAddr::V6(address)));
            let mut is_link = false;
            for address in own.filter(|address| !address.is_loopback()) {
                is_link = true;
                if self.addresses.len() < self.addresses.capacity() {
                    self.addresses.push(address);
                } else {
                    self.has_all_addresses = false;
                }
            }
            links += u32::from(is_link);
        }
        self.addresses.sort_unstable();
        self.may_forward = links > 1;
    }

    fn find_holders(&mut self, snapshot: &Snapshot) {
        let count = snapshot.connections.len().min(self.holders.capacity());
        self.holders.clear();
        self.holders.resize(count, None);
        for (_, file) in snapshot.files.indexed() {
            let Some(connection) = file.connection else { continue };
            if let Some(holder) = self.holders.get_mut(connection.position()) {
                *holder = holder.or(file.process);
            }
        }
    }

    fn note_connection(&mut self, row: &ConnectionRow, owner: Option<SocketOwner>) {
        let ends = &row.endpoints;
        let own = end(ends.source, ends.source_port);
        let protocol = IPPROTO_TCP as u8;
        if TcpState::from_number(ends.state) == Some(TcpState::Listen) {
            return self.add(local(protocol, own), owner);
        }
        let peer = end(ends.destination, ends.destination_port);
        self.add(SocketKey::Peer { protocol, peer }, owner.clone());
        self.add(SocketKey::Connection { protocol, own, peer }, owner);
    }

    fn note_socket(&mut self, socket: &SocketRow, owner: Option<SocketOwner>, now_ns: i64) {
        let Some(ends) = &socket.endpoints else { return };
        let bystanders = &mut self.bystanders;
        match ends.family {
            AF_PACKET => {
                bystanders.packet_ns = now_ns;
                bystanders.packet = owner;
            }
            AF_XDP => bystanders.xdp_ns = now_ns,
            AF_INET | AF_INET6 if socket.kind == SOCK_RAW => {
                let sends = |protocol| [protocol, IPPROTO_RAW].contains(&socket.protocol);
                if sends(IPPROTO_TCP) {
                    bystanders.raw_tcp_ns = now_ns;
                }
                if sends(IPPROTO_UDP) {
                    bystanders.raw_udp_ns = now_ns;
                }
            }
            AF_INET | AF_INET6 if socket.protocol == IPPROTO_UDP => {
                let protocol = IPPROTO_UDP as u8;
                let own = end(ends.source, ends.source_port);
                if ends.destination_port != 0 {
                    let peer = end(ends.destination, ends.destination_port);
                    self.add(SocketKey::Connection { protocol, own, peer }, owner.clone());
                }
                self.add(local(protocol, own), owner);
            }
            _ => {}
        }
    }

    /// Adds a socket to the newer table. A scan that does not show its holder keeps the one that is
    /// known.
    fn add(&mut self, key: SocketKey, owner: Option<SocketOwner>) {
        let hash = key.hash(self.key);
        if let Some(row) = self.newer.find(hash, &key) {
            if owner.is_some() {
                self.newer.rows[row as usize].owner = owner;
            }
            return;
        }
        let known = || {
            let row = self.older.find(hash, &key)?;
            self.older.rows[row as usize].owner.clone()
        };
        let owner = owner.or_else(known);
        let row = self.newer.rows.len();
        let has_room = row < self.newer.rows.capacity();
        if !has_room || !self.newer.index.insert(hash, row as u32) {
            self.newer.is_cut = true;
            return;
        }
        self.newer.rows.push(OwnedSocket { key, owner });
    }

    /// What accounts for packets, if a scan has shown it.
    pub(super) fn find(&self, key: &SocketKey) -> Option<&OwnedSocket> {
        let hash = key.hash(self.key);
        [&self.newer, &self.older].into_iter().find_map(|table| {
            let row = table.find(hash, key)?;
            table.rows.get(row as usize)
        })
    }

    /// Whether an address is one of the system's.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.binary_search(&address).is_ok()
    }

    /// Whether all addresses of the last scan found room.
    pub(super) const fn has_all_addresses(&self) -> bool {
        self.has_all_addresses
    }

    pub(super) const fn may_forward(&self) -> bool {
        self.may_forward
    }

    /// Whether a raw socket or one of AF_XDP may have sent packets of a protocol since a time.
    pub(super) fn has_raw_since(&self, protocol: u8, ns: i64) -> bool {
        let since = ns.saturating_sub(WHOLE_SCAN_NS);
        let Bystanders { raw_tcp_ns, raw_udp_ns, xdp_ns, .. } = self.bystanders;
        let is_udp = u16::from(protocol) == IPPROTO_UDP;
        let last = xdp_ns.max(if is_udp { raw_udp_ns } else { raw_tcp_ns });
        last >= since && last > 0
    }

    /// Whether any UDP socket has had a port, at whatever address.
    pub(super) fn has_udp_port(&self, port: u16) -> bool {
        self.newer.udp_ports.has(port) || self.older.udp_ports.has(port)
    }

    /// Whether there has been a packet socket since a time.
    pub(super) fn has_packet_socket_since(&self, ns: i64) -> bool {
        let last = self.bystanders.packet_ns;
        last >= ns.saturating_sub(WHOLE_SCAN_NS) && last > 0
    }

    /// Returns a process that has had a packet socket since a time.
    pub(super) fn packet_socket_since(&self, ns: i64) -> Option<&SocketOwner> {
        self.bystanders.packet.as_ref().filter(|_| self.has_packet_socket_since(ns))
    }

    /// The time from which on all sockets are known.
    pub(super) fn known_since_ns(&self) -> i64 {
        if self.older.began_ns == 0 { self.newer.began_ns } else { self.older.began_ns }
    }

    /// Forgets everything: another kernel may run now.
    pub(super) fn clear(&mut self) {
        for table in [&mut self.newer, &mut self.older] {
            table.clear(0);
        }
        self.bystanders = Bystanders::default();
        self.addresses.clear();
    }
}

/// An end of a socket. A socket of IPv6 may have addresses of IPv4.
fn end(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

pub(super) fn local(protocol: u8, own: SocketAddr) -> SocketKey {
    let address = Some(own.ip()).filter(|address| !address.is_unspecified());
    SocketKey::Local { protocol, own: address, port: own.port() }
}
