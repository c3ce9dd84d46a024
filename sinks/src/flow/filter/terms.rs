//! Parts of terms: ends of a flow, protocols and states.

/// Which ends of a flow a condition is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum FlowEnds {
    /// None is named: one of both.
    #[default]
    Default,
    Either,
    Both,
    Source,
    Destination,
}

impl FlowEnds {
    /// Whether something holds for these ends. Its argument is whether it is the destination.
    pub(super) fn any(self, holds: impl Fn(bool) -> bool) -> bool {
        match self {
            Self::Default | Self::Either => holds(false) || holds(true),
            Self::Both => holds(false) && holds(true),
            Self::Source => holds(false),
            Self::Destination => holds(true),
        }
    }
}

/// A protocol: what qualifies a term, or is one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FilterProtocol {
    /// The link layer.
    Link,
    Ip,
    Ipv4,
    Ipv6,
    Arp,
    Rarp,
    /// The number of a protocol in the header of IP.
    Number(u8),
    Mpls,
    Vlan,
    Rtp,
    Rtcp,
    /// Argus has its records, this sensor has not.
    Unseen,
}

/// Names of states. Numbers are bits of the record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FlowStateName {
    Management,
    Flow,
    /// All of these bits.
    Cause(u8),
    TcpStatus(u32),
    /// The bit of the source; that of the destination is the next one.
    TcpPair(u32),
    TcpFlag(u8),
    /// One of these bits.
    TcpOption(u32),
    Connected,
    Retransmitted,
    Fragments,
    FragmentsOnly,
    SeveralPaths,
    Echo,
    /// Groups of ICMP errors: 1 unreachable, 2 redirect, 4 time exceeded.
    Errors(u8),
    IgmpQuery,
    IgmpMember,
    IgmpLeave,
    /// Argus may have it, this sensor has not.
    Unseen,
}
