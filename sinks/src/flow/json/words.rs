//! Words of records: protocols by IANA's keywords, states and directions as `ra` prints them.
//!
//! The facts on states and directions are those of `common/argus_util.c` of the argus clients
//! 3.0.8.2.

use panoptes_records::flow::{Cause, Detail, FlowKey, FlowKeyKind, FlowRecord, tcp_status};

use crate::flow::protocol::TCP;

pub(super) const fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Start => "start",
        Cause::Status => "status",
        Cause::Stop => "stop",
        Cause::Shutdown => "shutdown",
    }
}

/// Whether the ports of a protocol are known.
pub(super) const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132)
}

/// The name of a flow's protocol if it has a usual one, and its number in the IP header.
pub(super) const fn protocol(key: &FlowKey) -> (Option<&'static str>, Option<u8>) {
    let number = match key.kind {
        FlowKeyKind::Icmp => 1,
        FlowKeyKind::Arp => return (Some("arp"), None),
        FlowKeyKind::Rarp => return (Some("rarp"), None),
        FlowKeyKind::Ethernet => return (Some("ethernet"), None),
        FlowKeyKind::Llc => return (Some("llc"), None),
        FlowKeyKind::Wireless => return (Some("wlan"), None),
        _ => key.protocol,
    };
    let word = match number {
        0 => "hopopt",
        1 => "icmp",
        2 => "igmp",
        4 => "ipv4",
        6 => "tcp",
        8 => "egp",
        9 => "igp",
        17 => "udp",
        33 => "dccp",
        41 => "ipv6",
        46 => "rsvp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        88 => "eigrp",
        89 => "ospf",
        94 => "ipip",
        97 => "etherip",
        103 => "pim",
        108 => "ipcomp",
        112 => "vrrp",
        115 => "l2tp",
        124 => "isis",
        132 => "sctp",
        136 => "udplite",
        137 => "mpls",
        _ => return (None, Some(number)),
    };
    (Some(word), Some(number))
}

/// The direction as an arrow: who sent, and who began. `who` for ARP and RARP.
pub(super) fn direction(record: &FlowRecord) -> &'static str {
    if matches!(record.key.kind, FlowKeyKind::Arp | FlowKeyKind::Rarp) {
        return "who";
    }
    let has_sent = (record.source.packets > 0, record.destination.packets > 0);
    if let Some(bits) = tcp_bits(record) {
        if bits & tcp_status::SAW_SYN != 0 {
            return "->";
        }
        // The answer alone was seen of the handshake. As a rule it was the first packet.
        if bits & tcp_status::SAW_SYN_ACK != 0 {
            return "<-";
        }
        return match has_sent {
            (true, true) => "<?>",
            (true, false) => "?>",
            (false, true) => "<?",
            (false, false) => "?",
        };
    }
    match has_sent {
        (true, true) => "<->",
        (true, false) => "->",
        (false, true) => "<-",
        (false, false) => "-",
    }
}

/// The state of a flow.
pub(super) fn state(record: &FlowRecord) -> &'static str {
    if let Some(bits) = tcp_bits(record) {
        return tcp_state(record, bits);
    }
    match record.key.kind {
        FlowKeyKind::Icmp => {
            let [kind, code] = record.key.source_port.to_be_bytes();
            // An error that refers to this flow takes precedence.
            match &record.error {
                Some(error) => icmp_state(error.kind, error.code),
                None => icmp_state(kind, code),
            }
        }
        FlowKeyKind::Icmpv6 => {
            let [kind, code] = record.key.source_port.to_be_bytes();
            icmpv6_state(kind, code)
        }
        _ => traffic_state(record),
    }
}

/// The status of a TCP connection; 0 if no TCP header was seen.
fn tcp_bits(record: &FlowRecord) -> Option<u32> {
    match (&record.detail, record.key.kind) {
        (Detail::Tcp(tcp), _) => Some(tcp.bits()),
        (
            _,
            FlowKeyKind::Ipv4
            | FlowKeyKind::Ipv6
            | FlowKeyKind::FragmentV4
            | FlowKeyKind::FragmentV6,
        ) => (record.key.protocol == TCP).then_some(0),
        _ => None,
    }
}

fn tcp_state(record: &FlowRecord, bits: u32) -> &'static str {
    let has = |mask: u32| bits & mask != 0;
    if bits == 0 {
        let is_answered = record.source.packets > 0 && record.destination.packets > 0;
        if is_answered { "CON" } else { "INT" }
    } else if has(tcp_status::RESET) {
        "RST"
    } else if has(tcp_status::FIN | tcp_status::FIN_ACKNOWLEDGED) {
        "FIN"
    } else if record.cause == Cause::Shutdown {
        "TIM"
    } else if has(tcp_status::ESTABLISHED) {
        "CON"
    } else if has(tcp_status::SAW_SYN_ACK) {
        "ACC"
    } else if has(tcp_status::SAW_SYN) {
        "REQ"
    } else {
        "CON"
    }
}

/// The state of what has no connections.
fn traffic_state(record: &FlowRecord) -> &'static str {
    match (record.source.packets, record.destination.packets) {
        (0, _) => "RSP",
        // Clients test one bit of the cause of a record, which "stop" has as well. They test
        // another field for ARP.
        (_, 0) => match (record.cause, record.key.kind) {
            (Cause::Status | Cause::Shutdown, kind)
                if !matches!(kind, FlowKeyKind::Arp | FlowKeyKind::Rarp) =>
            {
                "REQ"
            }
            _ => "INT",
        },
        _ => "CON",
    }
}

fn icmp_state(kind: u8, code: u8) -> &'static str {
    const UNREACHABLE: [&str; 16] = [
        "URN", "URH", "URO", "URP", "URF", "URS", "URNU", "URHU", "URISO", "URNPRO", "URHPRO",
        "URNTOS", "URHTOS", "URFIL", "URPRE", "URCUT",
    ];
    match kind {
        0 => "ECR",
        3 => UNREACHABLE.get(usize::from(code)).copied().unwrap_or("UR"),
        4 => "SRC",
        5 => "RED",
        6 => "AHA",
        8 => "ECO",
        9 => "RTA",
        10 => "RTS",
        11 => "TXD",
        12 => "PAR",
        13 => "TST",
        14 => "TSR",
        15 => "IRQ",
        16 => "IRR",
        17 => "MAS",
        18 => "MSR",
        30 => "TRC",
        _ => "UNK",
    }
}

const fn icmpv6_state(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (1, 0) => "URNR",
        (1, 1) => "URAD",
        (1, 2) => "URBS",
        (1, 3) => "URAR",
        (1, 4) => "URP",
        (1, 5) => "URSF",
        (1, 6) => "URRR",
        (1, 7) => "URES",
        (2, _) => "PTB",
        (3, 0) => "TXT",
        (3, 1) => "TXR",
        (4, 0) => "PPH",
        (4, 1) => "PPNH",
        (4, 2) => "PPO",
        (128, _) => "ECO",
        (129, _) => "ECR",
        (130, _) => "MRQ",
        (131 | 143, _) => "MHR",
        (133, _) => "NRS",
        (134, _) => "NRA",
        (135, _) => "NNS",
        (136, _) => "NNA",
        (137, _) => "RED",
        _ => "UNK",
    }
}
