//! Records of connections and ports that packets show and no socket accounts for.

use core::fmt::Write as _;
use core::net::IpAddr;

use arrayvec::ArrayString;
use panoptes_decoders::kernel::sock::{IPPROTO_TCP, TcpState};
use panoptes_decoders::layout::c_string;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::time::Timestamp;
use panoptes_sinks::record::detection::Confidence;
use panoptes_sinks::record::{Details, Record};

use super::describe;
use super::evidence::Evidence;
use super::techniques::{HIDDEN_CONNECTION, HIDDEN_LISTENER};
use super::writing::{Reporter, Subject};
use crate::detect::Accepted;
use crate::detect::hidden_connections::{Hidden, What};
use crate::state::ScanContext;
use crate::state::facts::ConnectionFacts;
use crate::time::RealTime;

/// Maximum length of the reason in bytes: two IPv6 addresses, three numbers, a name, and the text
/// between.
const REASON_BYTES: usize = 448;

impl Reporter<'_> {
    /// Reports a connection or a port without a socket.
    pub(super) fn hidden_connection(&mut self, cx: &ScanContext<'_>, hidden: &Hidden) -> Accepted {
        let activity = match hidden.what {
            What::Connection => Activity::HiddenConnectionDetected,
            What::Listener => Activity::HiddenListenerDetected,
        };
        let facts = facts(cx, hidden);
        let interface = describe::interface_of(&cx.snapshot.interfaces, &facts);
        let mut details = describe::network_connection(&facts, interface);
        details.tcp_connection_creation_time_iso_8601_ns =
            Some(Timestamp::from_ns(hidden.first_ns));
        let reason = reason(hidden);
        let evidence = Evidence {
            reason: &reason,
            techniques: match hidden.what {
                What::Connection => HIDDEN_CONNECTION,
                What::Listener => HIDDEN_LISTENER,
            },
            // A packet socket may belong to a network stack of its own.
            confidence: match hidden.suspect {
                Some(_) => Confidence::Medium,
                None => Confidence::High,
            },
            since_ns: RealTime::from_ns(hidden.first_ns),
            scans: hidden.scans,
        };
        let subject = Subject::default().with_connection(Some(&facts));
        let record = Record::new(activity, Details::NetworkConnection(&details));
        self.alert(cx, subject, &record, evidence)
    }
}

/// What the packets show, as if it were a socket.
fn facts(cx: &ScanContext<'_>, hidden: &Hidden) -> ConnectionFacts {
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
        What::Connection => (TcpState::Established, hidden.peer.ip(), hidden.peer.port()),
        What::Listener => (TcpState::Listen, nothing, 0),
    };
    ConnectionFacts {
        protocol: IPPROTO_TCP,
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
fn reason(hidden: &Hidden) -> ArrayString<REASON_BYTES> {
    let Hidden { own, peer, scans, .. } = hidden;
    let mut reason = ArrayString::new();
    let ms = hidden.last_ns.saturating_sub(hidden.first_ns) / 1_000_000;
    // Text that does not fit is cut off: the sentence begins with the most important part.
    let _ = match hidden.what {
        What::Connection => write!(
            reason,
            "{own} exchanged packets with {peer} over TCP for {ms} ms, and in that time {scans} \
             scans of all sockets showed none that accounts for them"
        ),
        What::Listener => write!(
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
