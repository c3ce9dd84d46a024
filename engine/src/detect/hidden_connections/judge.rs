//! Which TCP packets of a system have no socket in its kernel: the rule, over sockets that scans
//! have shown ([`super::sockets`]) and connections that the sensor has seen.
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

use panoptes_decoders::kernel::sock::IPPROTO_TCP;
use panoptes_tables::{HashIndex, HashKey, room};

use super::sockets::{Key, Owner, Sockets, local};

/// Number of whole scans that must lie between the first and the last packet.
const SCANS_MIN: u32 = 5;
/// The time that must lie between them, in nanoseconds.
const SPAN_MIN_NS: i64 = 500_000_000;
/// Number of scans whose times are remembered.
const SCANS_MAX: usize = 4096;
/// Number of connections and ports without a socket that are followed.
const SUSPECTS_MAX: usize = 8192;
/// Hop counts that kernels begin with: `net.ipv4.ip_default_ttl` and its usual settings.
const OWN_HOPS: [u8; 3] = [64, 128, 255];
/// `IPPROTO_TCP`, as packets have it.
const TCP: u8 = IPPROTO_TCP as u8;

/// Flags of TCP (RFC 9293 §3.1).
mod flag {
    pub(super) const FIN: u8 = 0x01;
    pub(super) const SYN: u8 = 0x02;
    pub(super) const RST: u8 = 0x04;
    pub(super) const ACK: u8 = 0x10;
}

/// What one end of a TCP connection has sent since the connection was reported last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SeenEnd {
    pub address: SocketAddr,
    pub packets: u64,
    /// Times of the first and of the last packet, in nanoseconds since 1970; 0 if there is none.
    pub first_ns: i64,
    pub last_ns: i64,
    /// The flags of all packets.
    pub flags: u8,
    /// The hop count of the last packet.
    pub hops: u8,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// A connection.
    Connection,
    /// A port at which such a connection was accepted.
    Listener,
}

/// Packets of a system that no socket accounts for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hidden {
    pub what: What,
    pub own: SocketAddr,
    /// Of a listener: the one whose connection was accepted.
    pub peer: SocketAddr,
    /// Times of the first and of the last packet of the system, in nanoseconds since 1970.
    pub first_ns: i64,
    pub last_ns: i64,
    /// Number of whole scans between them.
    pub scans: u32,
    /// A process with a packet socket, which may send them.
    pub suspect: Option<Owner>,
}

/// A connection or a port without a socket.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    key: Key,
    first_ns: i64,
    /// Whether the system has answered the SYN of a peer.
    has_answered: bool,
    is_reported: bool,
}

/// The times of scans, and what has had no socket so far.
#[derive(Debug)]
pub(super) struct Judge {
    /// When scans began, in nanoseconds since 1970, and whether they have shown all sockets.
    scans: Vec<(i64, bool)>,
    next_scan: usize,
    /// Number of scans, and of those that have not shown all sockets.
    counts: (u64, u64),
    suspects: Vec<Suspect>,
    index: HashIndex,
    key: HashKey,
}

impl Judge {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            scans: room::list(SCANS_MAX),
            next_scan: 0,
            counts: (0, 0),
            suspects: room::list(SUSPECTS_MAX),
            index: HashIndex::new(SUSPECTS_MAX),
            key,
        }
    }

    /// Notes the beginning of a scan, and whether it shows all sockets.
    pub(super) fn note_scan(&mut self, begin_ns: i64, has_all: bool) {
        let scan = (begin_ns, has_all);
        self.counts.0 += 1;
        self.counts.1 += u64::from(!has_all);
        if self.scans.len() < SCANS_MAX {
            self.scans.push(scan);
        } else {
            self.scans[self.next_scan] = scan;
        }
        self.next_scan = (self.next_scan + 1) % SCANS_MAX;
    }

    /// Number of scans, and of those that have not shown all sockets.
    pub(super) const fn counts(&self) -> (u64, u64) {
        self.counts
    }

    /// Number of whole scans that have begun and ended within a time. A scan has ended when the
    /// next one begins.
    fn scans_within(&self, first_ns: i64, last_ns: i64) -> u32 {
        let is_full = self.scans.len() == SCANS_MAX;
        let (recent, old) = self.scans.split_at(if is_full { self.next_scan } else { 0 });
        let mut count = 0;
        let mut before: Option<(i64, bool)> = None;
        for &(begin_ns, has_all) in old.iter().chain(recent) {
            let ended = before.is_some_and(|(begin, had_all)| had_all && begin >= first_ns);
            count += u32::from(ended && begin_ns <= last_ns);
            before = Some((begin_ns, has_all));
        }
        count
    }

    /// Judges what was seen of a connection, whose first end has begun it. Offers findings until
    /// they are accepted.
    pub(super) fn judge(
        &mut self,
        sockets: &Sockets,
        ends: [&SeenEnd; 2],
        offer: &mut dyn FnMut(Hidden) -> bool,
    ) {
        let is_own = ends.map(|end| sockets.is_own(end.address.ip()));
        let (own, peer, is_inbound) = match is_own {
            [true, false] => (ends[0], ends[1], false),
            [false, true] => (ends[1], ends[0], true),
            _ => return,
        };
        let flags = own.flags | peer.flags;
        let goes_both_ways = own.flags & flag::ACK != 0 && own.packets > 0 && peer.packets > 0;
        if !goes_both_ways || own.flags & flag::RST != 0 || is_accounted(sockets, own, peer) {
            return;
        }
        let key = Key::Connection { protocol: TCP, own: own.address, peer: peer.address };
        let known = self.find(&key).and_then(|row| self.suspects.get(row as usize));
        // A SYN begins another connection.
        let known = known.filter(|_| flags & flag::SYN == 0).copied();
        let has_answered = is_inbound && own.flags & flag::SYN != 0;
        let fresh = Suspect { key, first_ns: own.first_ns, has_answered, is_reported: false };
        let mut suspect = known.unwrap_or(fresh);
        if suspect.is_reported {
            return;
        }
        // Before that, its socket may have been seen and forgotten.
        suspect.first_ns = suspect.first_ns.max(sockets.known_since_ns());
        if let Some(hidden) = self.weigh(sockets, &suspect, own, peer) {
            let port =
                Key::Local { protocol: TCP, own: Some(own.address.ip()), port: own.address.port() };
            let is_port_new = suspect.has_answered
                && !listens(sockets, own.address)
                && self.find(&port).is_none();
            suspect.is_reported = offer(hidden.clone());
            if is_port_new && offer(Hidden { what: What::Listener, ..hidden }) {
                self.keep(Suspect { key: port, is_reported: true, ..suspect });
            }
        }
        if flags & flag::FIN == 0 && peer.flags & flag::RST == 0 {
            self.keep(suspect);
        }
    }

    /// The finding about a suspect, if enough scans have not shown it.
    fn weigh(
        &self,
        sockets: &Sockets,
        suspect: &Suspect,
        own: &SeenEnd,
        peer: &SeenEnd,
    ) -> Option<Hidden> {
        let (first_ns, last_ns) = (suspect.first_ns, own.last_ns);
        let scans = self.scans_within(first_ns, last_ns);
        let is_enough = last_ns.saturating_sub(first_ns) >= SPAN_MIN_NS && scans >= SCANS_MIN;
        is_enough.then(|| Hidden {
            what: What::Connection,
            own: own.address,
            peer: peer.address,
            first_ns,
            last_ns,
            scans,
            suspect: sockets.packet_socket_since(first_ns).cloned(),
        })
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let is = |row: u32| self.suspects.get(row as usize).is_some_and(|row| row.key == *key);
        self.index.find(key.hash(self.key), is)
    }

    /// Remembers a suspect. If there is no room, all begin anew: then a finding takes longer.
    fn keep(&mut self, suspect: Suspect) {
        if let Some(row) = self.find(&suspect.key) {
            self.suspects[row as usize] = suspect;
            return;
        }
        if self.suspects.len() == self.suspects.capacity() {
            self.clear_suspects();
        }
        let row = self.suspects.len() as u32;
        if self.index.insert(suspect.key.hash(self.key), row) {
            self.suspects.push(suspect);
        }
    }

    fn clear_suspects(&mut self) {
        self.suspects.clear();
        self.index.clear();
    }

    /// Forgets everything: another kernel may run now, or the clock was set.
    pub(super) fn clear(&mut self) {
        self.scans.clear();
        self.next_scan = 0;
        self.clear_suspects();
    }
}

/// Whether something accounts for the packets of an end of the system.
fn is_accounted(sockets: &Sockets, own: &SeenEnd, peer: &SeenEnd) -> bool {
    let (own_end, peer_end) = (own.address, peer.address);
    let is_forwarded = sockets.may_forward() && !OWN_HOPS.contains(&own.hops);
    let is_known = |key: Key| sockets.find(&key).is_some();
    is_forwarded
        || is_known(Key::Connection { protocol: TCP, own: own_end, peer: peer_end })
        || is_known(Key::Peer { protocol: TCP, peer: peer_end })
        || sockets.has_raw_since(own.first_ns)
}

/// Whether a socket listens at the port of an end.
fn listens(sockets: &Sockets, own: SocketAddr) -> bool {
    let any = Key::Local { protocol: TCP, own: None, port: own.port() };
    sockets.find(&local(TCP, own)).is_some() || sockets.find(&any).is_some()
}
