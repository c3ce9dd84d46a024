//! Where argus 3.0.8.2 differs from the truth, and why.

/// Fields in which argus is wrong for some kinds of conversations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exception {
    pub(crate) kinds: &'static [&'static str],
    /// Fields of `ra`; `missing` is a flow without a record, `extra` a record without a flow.
    pub(crate) fields: &'static [&'static str],
    pub(crate) reason: &'static str,
}

/// Tunnels that argus does not open. It reports the outer flow.
pub(crate) const UNOPENED: &[(&str, &str)] = &[
    ("ipip", "argus 3 has a protocol for it, but does not open it"),
    ("6in4", "argus 3 has a protocol for it, but does not open it"),
    ("vxlan", "argus 3 does not know it"),
    ("geneve", "argus 3 does not know it"),
    ("teredo", "argus 3 opens it only with ARGUS_TUNNEL_DISCOVERY=yes"),
];

const MERGED: &[&str] =
    &["spkts", "dpkts", "sbytes", "dbytes", "sappbytes", "dappbytes", "ltime", "missing"];

pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception {
        kinds: &["tcp congestion"],
        fields: &["synack", "ackdat", "tcprtt"],
        reason: "the handshake is timed only if SYN, and SYN and ACK, are the only flags; ECN has \
                 ECE and CWR",
    },
    Exception {
        kinds: &["tcp port reuse"],
        fields: MERGED,
        reason: "after FINs of both sides and the last ACK, a new SYN starts no new flow; it does \
                 after a reset and after one FIN",
    },
    Exception {
        kinds: &["tcp port reuse after a reset"],
        fields: &["ltime"],
        reason: "the new SYN ends the old record, whose last time is stretched to it",
    },
    Exception {
        kinds: &["tcp without the syn", "tcp without the syn from the higher address"],
        fields: &["ackdat", "tcprtt"],
        reason: "no time is taken without the SYN",
    },
    Exception {
        kinds: &["tcp reset twice"],
        fields: &["dloss"],
        reason: "nothing counts as sent again after a reset",
    },
    Exception {
        kinds: &["tcp retransmitted in vain"],
        fields: &["sloss", "dloss"],
        reason: "a segment below the peer's ACK is a retransmission only if the distance is less \
                 than the sender's own window, shifted right by the scale instead of left",
    },
    Exception {
        kinds: &["rtp", "rtp with a gap"],
        fields: &["sappbytes"],
        reason: "the 12 bytes of the RTP header do not count, but in the first packet",
    },
    Exception {
        kinds: &[
            "udp unreachable",
            "icmp time exceeded",
            "udp unreachable from the higher address",
        ],
        fields: &["ltime"],
        reason: "the ICMP error is mapped on the UDP flow, whose last time is stretched to it",
    },
    Exception {
        kinds: &[
            "udp unreachable",
            "icmp time exceeded",
            "icmp redirect",
            "udp unreachable from the higher address",
        ],
        fields: &["sappbytes"],
        reason: "the application bytes of an ICMPv4 error are the length in the UDP header of the \
                 quoted packet, seen or not",
    },
    Exception {
        kinds: &[
            "udp unreachable",
            "icmp echo",
            "icmp echo with lost replies",
            "udp unreachable from the higher address",
            "icmp echo from the higher address",
        ],
        fields: &["dport"],
        reason: "the echo's id, and the quoted port, are in the order of the processor's bytes",
    },
    Exception {
        kinds: &["icmp timestamp"],
        fields: &["dport"],
        reason: "only echoes have their id in the key",
    },
    Exception {
        kinds: &["icmpv6 neighbour", "icmpv6 router"],
        fields: &["sport", "state"],
        reason: "the type of an answer is replaced by the type of its question: 136 by 135, and \
                 134 by 133, although source and destination are not exchanged",
    },
    Exception {
        kinds: &["dns over ipv6"],
        fields: MERGED,
        reason: "the DNS id is part of the key only over IPv4",
    },
    Exception {
        kinds: &[
            "fragments",
            "fragments of three datagrams",
            "fragments reversed",
            "fragments from the higher address",
        ],
        fields: &["sappbytes"],
        reason: "only the first fragment of a datagram has application bytes",
    },
    Exception {
        kinds: &["fragments reversed"],
        fields: &["ltime"],
        reason: "the time of a first fragment that comes last does not count",
    },
    Exception {
        kinds: &["fragments over ipv6", "fragments reversed over ipv6"],
        fields: &["spkts", "sbytes", "sappbytes", "extra"],
        reason: "later IPv6 fragments are a flow of their own; its destination port is the \
                 fragment's id, its bytes exchanged",
    },
    Exception {
        kinds: &["fragments over ipv6"],
        fields: &["ltime"],
        reason: "the later fragments are another flow",
    },
    Exception {
        kinds: &["fragments reversed over ipv6"],
        fields: &["stime"],
        reason: "the later fragments are another flow",
    },
    Exception {
        kinds: &["arp", "arp from the higher address", "arp unanswered", "arp gratuitous", "rarp"],
        fields: &["sappbytes"],
        reason: "the length of the frame, with its Ethernet header, less the 28 bytes of ARP or \
                 RARP counts as application bytes",
    },
    Exception {
        kinds: &["arp", "arp from the higher address"],
        fields: &["dappbytes"],
        reason: "as for the source",
    },
    Exception {
        kinds: &["rarp"],
        fields: &["dpkts", "dbytes", "ltime", "state", "extra"],
        reason: "the key has both hardware addresses, which differ in the answer",
    },
    Exception {
        kinds: &["llc stp", "lldp", "ethertype unknown"],
        fields: &["saddr", "daddr"],
        reason: "the lower hardware address is the source",
    },
    Exception {
        kinds: &["llc stp", "lldp", "ethertype unknown", "ethertype unknown to a higher address"],
        fields: &["sappbytes"],
        reason: "the whole frame counts as application bytes",
    },
    Exception {
        kinds: &["igmp report", "igmp query"],
        fields: &["spkts", "sbytes", "sappbytes", "ltime", "extra"],
        reason: "the IP id is part of the key, so each message is a flow",
    },
    Exception {
        kinds: &["sctp"],
        fields: &["sport", "dport"],
        reason: "argus 3 knows no ports of SCTP",
    },
    Exception {
        kinds: &["esp", "esp from the higher address"],
        fields: &["dport"],
        reason: "the client overwrites the upper half of the SPI with 0x2020",
    },
    Exception {
        kinds: &["ah"],
        fields: &[
            "sport",
            "dport",
            "state",
            "dir",
            "sappbytes",
            "dappbytes",
            "synack",
            "ackdat",
            "tcprtt",
        ],
        reason: "12 bytes of the authentication header are skipped, whatever its length; the \
                 integrity check value is taken for the TCP header",
    },
    Exception {
        kinds: &["vlan of a provider"],
        fields: &["missing", "extra"],
        reason: "the ethertype 0x88a8 is not opened; the frames are a flow of that ethertype",
    },
];
