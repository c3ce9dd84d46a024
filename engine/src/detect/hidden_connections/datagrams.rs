//! Which UDP packets of a system have no socket in its kernel.
//!
//! The rule is that of connections ([`super::judge`]), but stricter, as a datagram needs a socket
//! only while it is sent:
//!
//! - Any UDP socket at the system's port accounts for its packets, at whatever address, in whatever
//!   namespace, of a process or of the kernel: VXLAN, WireGuard, NFS.
//! - Packets must go both ways. The kernel itself sends without a socket at the source port
//!   (netconsole, VXLAN), but has no answers there.
//! - Who answers several datagrams of a peer needs a socket all the time between them. Who has
//!   begun may have had a socket for each datagram, so there must be so many that scans would have
//!   shown one.
//! - Nothing is found while the kernel may translate ports: an unconnected socket has no peer by
//!   which it could be recognized.

use super::judge::{HiddenConnection, Judge, SeenEnd, Suspect, UDP, may_be_forwarded};
use super::sockets::{SocketKey, Sockets};

/// Number of datagrams that each end must have sent.
const DATAGRAMS_MIN: u64 = 3;
/// How long a socket lives at least that sends a datagram and has an answer, in nanoseconds.
const SOCKET_LIFE_NS: i128 = 1_000_000;
/// Number of scans that would have shown such sockets.
const SIGHTINGS_MIN: i128 = 10;
/// Ports at which clients and servers of DHCP use packet sockets (RFC 2131, RFC 9915).
const DHCP_PORTS: [u16; 4] = [67, 68, 546, 547];
/// Ports of management controllers that share the machine's address (IANA: asf-rmcp,
/// asf-secure-rmcp).
const CONTROLLER_PORTS: [u16; 2] = [623, 664];

impl Judge {
    /// Judges what was seen of the datagrams between the system and a peer.
    pub(super) fn judge_datagrams(
        &mut self,
        sockets: &Sockets,
        (own, peer): (&SeenEnd, &SeenEnd),
        is_inbound: bool,
        offer: &mut dyn FnMut(HiddenConnection) -> bool,
    ) {
        if own.packets == 0 || is_accounted(sockets, own, peer) {
            return;
        }
        let key = SocketKey::Connection { protocol: UDP, own: own.address, peer: peer.address };
        let mut suspect = self.known(&key).unwrap_or(Suspect {
            key,
            first_ns: own.first_ns,
            has_answered: is_inbound && peer.packets > 0 && peer.first_ns <= own.first_ns,
            is_reported: false,
            packets: [0; 2],
        });
        if suspect.is_reported {
            return;
        }
        // Before that, its socket may have been seen and forgotten.
        let since_ns = sockets.known_since_ns();
        if suspect.first_ns < since_ns {
            (suspect.first_ns, suspect.packets) = (own.first_ns.max(since_ns), [0; 2]);
        }
        if own.first_ns >= suspect.first_ns {
            for (sum, end) in suspect.packets.iter_mut().zip([own, peer]) {
                *sum = sum.saturating_add(end.packets);
            }
        }
        let hidden = self.weigh(sockets, UDP, &suspect, (own, peer));
        if let Some(hidden) = hidden.filter(|hidden| needed_a_socket(&suspect, hidden)) {
            self.offer(hidden, &mut suspect, offer);
        }
        self.keep(suspect);
    }
}

/// Whether scans would have shown the sockets of such datagrams.
fn needed_a_socket(suspect: &Suspect, hidden: &HiddenConnection) -> bool {
    if suspect.packets.iter().any(|&count| count < DATAGRAMS_MIN) {
        return false;
    }
    // With a socket for each datagram, this part of the scans would have shown one.
    let span_ns = i128::from(hidden.last_ns) - i128::from(hidden.first_ns);
    let shown_ns = i128::from(suspect.packets[0]) * SOCKET_LIFE_NS * i128::from(hidden.scans);
    suspect.has_answered || shown_ns >= SIGHTINGS_MIN * span_ns
}

/// Whether something accounts for the packets of an end of the system.
fn is_accounted(sockets: &Sockets, own: &SeenEnd, peer: &SeenEnd) -> bool {
    let (port, peer_port) = (own.address.port(), peer.address.port());
    // Fragments have no ports.
    port == 0
        || peer_port == 0
        || sockets.has_udp_port(port)
        || may_be_forwarded(sockets, own)
        || sockets.has_raw_since(UDP, own.first_ns)
        || DHCP_PORTS.contains(&port) && sockets.has_packet_socket_since(own.first_ns)
        || CONTROLLER_PORTS.contains(&port)
}
