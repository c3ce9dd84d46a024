//! Records of connections and ports that packets show and no socket accounts for.

use core::fmt::Write as _;
use core::net::IpAddr;

use arrayvec::ArrayString;
use panoptes_decoders::kernel::sock::{IPPROTO_UDP, TcpState};
use panoptes_decoders::layout::c_string;
use panoptes_records::activities::Activity;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::describe;
use super::evidence::AlertEvidence;
use super::techniques::{HIDDEN_CONNECTION, HIDDEN_LISTENER};
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::detect::hidden_connections::{HiddenConnection, HiddenConnectionKind};
use crate::state::ScanContext;
use crate::state::facts::ConnectionFacts;
use crate::time::RealTime;

/// Maximum length of the reason in bytes: two IPv6 addresses, three numbers, a name, and the text
/// between.
const REASON_BYTES: usize = 512;

impl Reporter<'_> {
    /// Reports a connection or a port without a socket.
    pub(super) fn hidden_connection(
        &mut self,
        cx: &ScanContext<'_>,
        hidden: &HiddenConnection,
    ) -> Acceptance {
        let activity = match hidden.what {
            HiddenConnectionKind::Connection => Activity::HiddenConnectionDetected,
            HiddenConnectionKind::Listener => Activity::HiddenListenerDetected,
        };
        let facts = facts(cx, hidden);
        let interface = describe::interface_of(cx.snapshot, &facts);
        let mut details = describe::network_connection(&facts, interface);
        details.tcp_connection_creation_time_iso_8601_ns =
            Some(Timestamp::from_ns(hidden.first_ns));
        let reason = reason(hidden);
        let evidence = AlertEvidence {
            reason: &reason,
            techniques: match hidden.what {
                HiddenConnectionKind::Connection => HIDDEN_CONNECTION,
                HiddenConnectionKind::Listener => HIDDEN_LISTENER,
            },
            // A packet socket may belong to a network stack of its own.
            confidence: match hidden.suspect {
                Some(_) => Confidence::Medium,
                None => Confidence::High,
            },
            since_ns: RealTime::from_ns(hidden.first_ns),
            scans: hidden.scans,
            cause: self.cause().of_packets(hidden),
        };
        let subject = EventSubject::default().with_connection(Some(&facts));
        let record = Record::new(activity, Details::NetworkConnection(&details));
        self.alert(cx, subject, &record, evidence)
    }
}

/// What the packets show, as if it were a socket.
fn facts(cx: &ScanContext<'_>, hidden: &HiddenConnection) -> ConnectionFacts {
    let own = hidden.own.ip();
    let has_own = |row: &&crate::walk::InterfaceRow| match own {
        IpAddr::V4(address) => row.ipv4.contains(&address),
        IpAddr::V6(address) => row.ipv6.contains(&address),
    };
    let interface = cx.snapshot.interfaces.iter().find(has_own);
    let nothing = match own {
        IpAddr::V4(_) => IpAddr::from([0_u8; 4]),
        IpAddr::V6(_) => IpAddr::from([0_u8; 16]),
    };
    let (state, peer, peer_port) = match hidden.what {
        HiddenConnectionKind::Connection => {
            (TcpState::Established, hidden.peer.ip(), hidden.peer.port())
        }
        HiddenConnectionKind::Listener => (TcpState::Listen, nothing, 0),
    };
    // An unconnected UDP socket is closed.
    let protocol = u16::from(hidden.protocol);
    let state = match (hidden.what, protocol) {
        (HiddenConnectionKind::Listener, IPPROTO_UDP) => TcpState::Closed,
        _ => state,
    };
    ConnectionFacts {
        protocol,
        state,
        source: own,
        source_port: hidden.own.port(),
        destination: peer,
        destination_port: peer_port,
        network_namespace: interface.map_or(0, |row| row.network_namespace),
        ..ConnectionFacts::default()
    }
}

/// One sentence: what was seen on the wire, and what scans have shown meanwhile.
fn reason(hidden: &HiddenConnection) -> ArrayString<REASON_BYTES> {
    let HiddenConnection { own, peer, scans, .. } = hidden;
    let mut reason = ArrayString::new();
    let ms = hidden.last_ns.saturating_sub(hidden.first_ns) / 1_000_000;
    // Text that does not fit is cut off: the sentence begins with the most important part.
    let is_udp = u16::from(hidden.protocol) == IPPROTO_UDP;
    let name = if is_udp { "UDP" } else { "TCP" };
    let _ = match hidden.what {
        HiddenConnectionKind::Connection => write!(
            reason,
            "{own} exchanged packets with {peer} over {name} for {ms} ms, and in that time {scans} \
             scans of all sockets showed none that accounts for them"
        ),
        HiddenConnectionKind::Listener if is_udp => write!(
            reason,
            "{own} answered {peer} over UDP for {ms} ms, and in that time {scans} scans of all \
             sockets showed none at this port"
        ),
        HiddenConnectionKind::Listener => write!(
            reason,
            "{own} accepted a TCP connection from {peer} that lasted {ms} ms, and in that time \
             {scans} scans of all sockets showed neither it nor one that listens at this port"
        ),
    };
    if let Some(suspect) = &hidden.suspect {
        let name = String::from_utf8_lossy(c_string(&suspect.name));
        let id = suspect.process_id;
        let _ = write!(reason, "; process {id} ({name}) has a packet socket, which can send them");
    }
    reason
}

#[cfg(test)]
mod tests {
    use arrayvec::ArrayVec;

    use super::*;
    use crate::detect::hidden_connections::SocketOwner;

    fn hidden(what: HiddenConnectionKind, own: &str, peer: &str) -> HiddenConnection {
        HiddenConnection {
            what,
            protocol: 6,
            own: own.parse().expect(own),
            peer: peer.parse().expect(peer),
            first_ns: 1_000_000_000,
            last_ns: 2_024_900_000,
            scans: 97,
            suspect: None,
        }
    }

    #[test]
    fn the_reason_has_both_ends_the_time_and_the_scans() {
        let connection =
            hidden(HiddenConnectionKind::Connection, "10.9.0.2:4444", "10.9.0.1:40972");
        assert_eq!(
            reason(&connection).as_str(),
            "10.9.0.2:4444 exchanged packets with 10.9.0.1:40972 over TCP for 1024 ms, and in that \
             time 97 scans of all sockets showed none that accounts for them"
        );
        let listener = HiddenConnection { what: HiddenConnectionKind::Listener, ..connection };
        assert_eq!(
            reason(&listener).as_str(),
            "10.9.0.2:4444 accepted a TCP connection from 10.9.0.1:40972 that lasted 1024 ms, and \
             in that time 97 scans of all sockets showed neither it nor one that listens at this \
             port"
        );
    }

    #[test]
    fn reasons_of_udp_name_it() {
        let listener = hidden(HiddenConnectionKind::Listener, "10.9.0.2:4444", "10.9.0.1:40972");
        let listener = HiddenConnection { protocol: 17, ..listener };
        assert_eq!(
            reason(&listener).as_str(),
            "10.9.0.2:4444 answered 10.9.0.1:40972 over UDP for 1024 ms, and in that time 97 scans \
             of all sockets showed none at this port"
        );
        let packets = HiddenConnection { what: HiddenConnectionKind::Connection, ..listener };
        assert!(reason(&packets).contains("exchanged packets with 10.9.0.1:40972 over UDP for"));
    }

    #[test]
    fn the_longest_reason_fits() {
        let end = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535";
        for what in [HiddenConnectionKind::Connection, HiddenConnectionKind::Listener] {
            let suspect = SocketOwner {
                process_id: u32::MAX,
                user_id: None,
                // Each byte becomes three.
                name: [0xff; 16],
                container: ArrayVec::new(),
            };
            let longest = HiddenConnection {
                first_ns: i64::MIN,
                last_ns: i64::MAX,
                scans: u32::MAX,
                suspect: Some(suspect),
                ..hidden(what, end, end)
            };
            let reason = reason(&longest);
            assert!(reason.ends_with(" has a packet socket, which can send them"), "{reason}");
        }
    }
}
