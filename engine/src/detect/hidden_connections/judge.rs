//! Which TCP packets of a system have no socket in its kernel: the rule, over sockets that scans
//! have shown ([`super::sockets`]) and connections that the sensor has seen. UDP has a stricter one
//! ([`super::datagrams`]).
//!
//! A finding needs time: an end of the system has sent packets before and after several whole
//! scans, and none of them, nor any other scan that is remembered, shows a socket that accounts for
//! the packets. The rule leaves out:
//!
//! - packets that the kernel sends without a socket: an end that has sent RST;
//! - NAT: a socket in another network namespace has the same peer;
//! - packets that are forwarded: the system has several interfaces, and they lack the hop count
//!   that its own packets have;
//! - raw sockets for TCP and sockets of AF_XDP. They account for everything while they exist.
//!
//! TIME_WAIT and connections that have just ended need no exception: their sockets were shown.

use core::net::SocketAddr;

use panoptes_decoders::kernel::sock::{IPPROTO_TCP, IPPROTO_UDP};
use panoptes_decoders::packet::transport::flag;
use panoptes_tables::{HashIndex, HashKey, room};

use super::scans::{ScanCounts, Scans, Shows};
use super::sockets::{SocketKey, SocketOwner, Sockets, local};

/// Number of whole scans that must lie between the first and the last packet.
pub(super) const SCANS_MIN: u32 = 5;
/// The time that must lie between them, in nanoseconds.
const SPAN_MIN_NS: i64 = 500_000_000;
/// Number of connections and ports without a socket that are followed.
const SUSPECTS_MAX: usize = 8192;
/// Hop counts that kernels begin with: `net.ipv4.ip_default_ttl` and its usual settings.
const OWN_HOPS: [u8; 3] = [64, 128, 255];
/// `IPPROTO_TCP` and `IPPROTO_UDP`, as packets have them.
const TCP: u8 = IPPROTO_TCP as u8;
pub(super) const UDP: u8 = IPPROTO_UDP as u8;

/// What one end of a flow has sent since the flow was reported last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SeenEnd {
    pub address: SocketAddr,
    pub packets: u64,
    /// Times of the first and of the last packet, in nanoseconds since 1970; 0 if there is none.
    pub first_ns: i64,
    pub last_ns: i64,
    /// The flags of all packets, of TCP.
    pub flags: u8,
    /// The hop count of the last packet.
    pub hops: u8,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HiddenConnectionKind {
    /// A connection; of UDP, packets that go both ways.
    Connection,
    /// A port at which such a connection was accepted, or such packets were answered.
    Listener,
}

/// Packets of a system that no socket accounts for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HiddenConnection {
    pub what: HiddenConnectionKind,
    /// `IPPROTO_TCP` or `IPPROTO_UDP`
    pub protocol: u8,
    pub own: SocketAddr,
    /// The peer's address. For a listener: that of the peer whose connection was accepted.
    pub peer: SocketAddr,
    /// Times of the first and of the last packet of the system, in nanoseconds since 1970.
    pub first_ns: i64,
    pub last_ns: i64,
    /// Number of whole scans between them.
    pub scans: u32,
    /// A process with a packet socket, which may send them.
    pub suspect: Option<SocketOwner>,
}

/// A connection or a port without a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    pub(super) key: SocketKey,
    pub(super) first_ns: i64,
    /// Whether the system has answered what a peer began: a SYN, or the first datagram.
    pub(super) has_answered: bool,
    pub(super) is_reported: bool,
    /// Number of UDP packets that the system and the peer have sent since `first_ns`.
    pub(super) packets: [u64; 2],
}

/// The times of scans, and what has had no socket so far.
#[derive(Debug)]
pub(super) struct Judge {
    scans: Scans,
    suspects: Vec<Suspect>,
    index: HashIndex,
    key: HashKey,
    /// Number of suspects that were forgotten for lack of room, since the last scan.
    forgotten: u64,
}

impl Judge {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            scans: Scans::new(),
            suspects: room::list(SUSPECTS_MAX),
            index: HashIndex::new(SUSPECTS_MAX),
            key,
            forgotten: 0,
        }
    }

    /// Notes the beginning of a scan, and what it shows.
    pub(super) fn note_scan(&mut self, begin_ns: i64, shows: Shows) {
        self.scans.note(begin_ns, shows);
    }

    pub(super) const fn counts(&self) -> ScanCounts {
        self.scans.counts()
    }

    /// Returns the number of suspects that were forgotten for lack of room since the last call.
    pub(super) const fn take_forgotten(&mut self) -> u64 {
        core::mem::replace(&mut self.forgotten, 0)
    }

    /// Judges what was seen of a flow, whose first end has begun it. Offers findings until they are
    /// accepted.
    pub(super) fn judge(
        &mut self,
        sockets: &Sockets,
        protocol: u8,
        ends: [&SeenEnd; 2],
        offer: &mut dyn FnMut(HiddenConnection) -> bool,
    ) {
        let is_own = ends.map(|end| sockets.is_own(end.address.ip()));
        let (own, peer, is_inbound) = match is_own {
            [true, false] => (ends[0], ends[1], false),
            [false, true] => (ends[1], ends[0], true),
            _ => return,
        };
        match protocol {
            TCP => self.judge_connection(sockets, (own, peer), is_inbound, offer),
            UDP => self.judge_datagrams(sockets, (own, peer), is_inbound, offer),
            _ => {}
        }
    }

    fn judge_connection(
        &mut self,
        sockets: &Sockets,
        (own, peer): (&SeenEnd, &SeenEnd),
        is_inbound: bool,
        offer: &mut dyn FnMut(HiddenConnection) -> bool,
    ) {
        let flags = own.flags | peer.flags;
        let goes_both_ways = own.flags & flag::ACK != 0 && own.packets > 0 && peer.packets > 0;
        if !goes_both_ways || own.flags & flag::RST != 0 || is_accounted(sockets, own, peer) {
            return;
        }
        let key = SocketKey::Connection { protocol: TCP, own: own.address, peer: peer.address };
        // A SYN begins another connection.
        let known = self.known(&key).filter(|_| flags & flag::SYN == 0);
        let has_answered = is_inbound && own.flags & flag::SYN != 0;
        let fresh = Suspect {
            key,
            first_ns: own.first_ns,
            has_answered,
            is_reported: false,
            packets: [0; 2],
        };
        let mut suspect = known.unwrap_or(fresh);
        if suspect.is_reported {
            return;
        }
        // Before that, its socket may have been seen and forgotten.
        suspect.first_ns = suspect.first_ns.max(sockets.known_since_ns());
        if let Some(hidden) = self.weigh(sockets, TCP, &suspect, (own, peer)) {
            suspect.has_answered &= !listens(sockets, own.address);
            self.offer(hidden, &mut suspect, offer);
        }
        if flags & flag::FIN == 0 && peer.flags & flag::RST == 0 {
            self.keep(suspect);
        }
    }

    /// Offers a finding, and the port, if the system has answered and its port is new.
    pub(super) fn offer(
        &mut self,
        hidden: HiddenConnection,
        suspect: &mut Suspect,
        offer: &mut dyn FnMut(HiddenConnection) -> bool,
    ) {
        let HiddenConnection { protocol, own, .. } = hidden;
        let port = SocketKey::Local { protocol, own: Some(own.ip()), port: own.port() };
        let is_port_new = suspect.has_answered && self.find(&port).is_none();
        suspect.is_reported = offer(hidden.clone());
        if is_port_new && offer(HiddenConnection { what: HiddenConnectionKind::Listener, ..hidden })
        {
            self.keep(Suspect { key: port, is_reported: true, ..*suspect });
        }
    }

    /// The finding about a suspect, if enough scans have not shown it.
    pub(super) fn weigh(
        &self,
        sockets: &Sockets,
        protocol: u8,
        suspect: &Suspect,
        (own, peer): (&SeenEnd, &SeenEnd),
    ) -> Option<HiddenConnection> {
        let (first_ns, last_ns) = (suspect.first_ns, own.last_ns);
        let scans = self.scans.within(protocol, first_ns, last_ns);
        let is_enough = last_ns.saturating_sub(first_ns) >= SPAN_MIN_NS && scans >= SCANS_MIN;
        is_enough.then(|| HiddenConnection {
            what: HiddenConnectionKind::Connection,
            protocol,
            own: own.address,
            peer: peer.address,
            first_ns,
            last_ns,
            scans,
            suspect: sockets.packet_socket_since(first_ns).cloned(),
        })
    }

    /// Returns the suspect with this key, if it is known.
    pub(super) fn known(&self, key: &SocketKey) -> Option<Suspect> {
        self.find(key).and_then(|row| self.suspects.get(row as usize)).copied()
    }

    fn find(&self, key: &SocketKey) -> Option<u32> {
        let is = |row: u32| self.suspects.get(row as usize).is_some_and(|row| row.key == *key);
        self.index.find(key.hash(self.key), is)
    }

    /// Remembers a suspect. If there is no room, all begin anew: then a finding takes longer.
    pub(super) fn keep(&mut self, suspect: Suspect) {
        if let Some(row) = self.find(&suspect.key) {
            self.suspects[row as usize] = suspect;
            return;
        }
        if self.suspects.len() == self.suspects.capacity() {
            self.forgotten += self.suspects.len() as u64;
            self.clear_suspects();
        }
        let row = self.suspects.len() as u32;
        if self.index.insert(suspect.key.hash(self.key), row) {
            self.suspects.push(suspect);
        } else {
            self.forgotten += 1;
        }
    }

    fn clear_suspects(&mut self) {
        self.suspects.clear();
        self.index.clear();
    }

    /// Forgets everything: another kernel may run now, or the clock was set.
    pub(super) fn clear(&mut self) {
        self.scans.clear();
        self.clear_suspects();
    }
}

/// Whether something accounts for the packets of an end of the system.
fn is_accounted(sockets: &Sockets, own: &SeenEnd, peer: &SeenEnd) -> bool {
    let (own_end, peer_end) = (own.address, peer.address);
    let is_known = |key: SocketKey| sockets.find(&key).is_some();
    may_be_forwarded(sockets, own)
        || is_known(SocketKey::Connection { protocol: TCP, own: own_end, peer: peer_end })
        || is_known(SocketKey::Peer { protocol: TCP, peer: peer_end })
        || sockets.has_raw_since(TCP, own.first_ns)
}

/// Whether packets may have come from another machine.
pub(super) fn may_be_forwarded(sockets: &Sockets, own: &SeenEnd) -> bool {
    sockets.may_forward() && !OWN_HOPS.contains(&own.hops)
}

/// Whether a socket listens at the port of an end.
fn listens(sockets: &Sockets, own: SocketAddr) -> bool {
    let any = SocketKey::Local { protocol: TCP, own: None, port: own.port() };
    sockets.find(&local(TCP, own)).is_some() || sockets.find(&any).is_some()
}
