//! What an exporter says of a flow.

/// The format in which an exporter sent something.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExportFormat {
    #[default]
    NetflowV1,
    NetflowV5,
    NetflowV6,
    NetflowV7,
    /// Flows that the router has added up.
    NetflowV8,
    NetflowV9,
    Ipfix,
    Sflow,
}

/// A flow, mostly of one direction. What the exporter does not send is 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NetFlow {
    pub format: ExportFormat,
    /// Address of the datagram's sender: an IPv4 address has its 32 bits in the lowest ones. For
    /// sFlow, the agent.
    pub exporter: u128,
    /// Engine type and id of versions 5 to 8, the source id of version 9, the observation domain
    /// of IPFIX, the sub-agent of sFlow.
    pub domain: u32,
    /// For versions 5 to 8 and IPFIX, the number of the flow at its exporter. For version 9 and
    /// sFlow, the number of the datagram.
    pub sequence: u32,
    /// One of so many packets was looked at. 1 if all were, or if that is not known.
    pub sampling: u32,
    pub is_v6: bool,
    /// Addresses as numbers: an IPv4 address has its 32 bits in the lowest ones.
    pub source: u128,
    pub destination: u128,
    pub next_hop: u128,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type and code of ICMP or ICMPv6.
    pub icmp: Option<[u8; 2]>,
    pub forward: NetFlowCounters,
    /// The other direction, if the exporter tells both in one record (RFC 5103).
    pub reverse: Option<NetFlowCounters>,
    /// Number of flows that are added up here; 0 if it is one.
    pub flows: u32,
    /// Indices of interfaces (`ifIndex` of SNMP).
    pub input: u32,
    pub output: u32,
    /// Numbers of autonomous systems.
    pub source_as: u32,
    pub destination_as: u32,
    /// Lengths of the prefixes in bits.
    pub source_mask: u8,
    pub destination_mask: u8,
    /// The tag at the input and at the output, if there is one.
    pub source_vlan: Option<u16>,
    pub destination_vlan: Option<u16>,
    pub source_hardware: [u8; 6],
    pub destination_hardware: [u8; 6],
    /// The smallest and the largest packet in bytes, with the IP header.
    pub length_min: u16,
    pub length_max: u16,
    /// The identification of IPv4.
    pub ip_id: u16,
    /// Whether the flow was seen as it left the exporter.
    pub is_egress: bool,
}

/// What one end has sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NetFlowCounters {
    pub packets: u64,
    /// With the IP header, without the link layer.
    pub bytes: u64,
    /// Times of the first and of the last packet in nanoseconds since 1970.
    pub first_ns: i64,
    pub last_ns: i64,
    /// The flags of all packets.
    pub tcp_flags: u8,
}

/// A packet that sFlow has sampled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sample<'a> {
    /// The link layer: a LINKTYPE number of tcpdump.org.
    pub link: u16,
    /// The first bytes of the packet.
    pub header: &'a [u8],
    /// The length of the packet in bytes on the wire, without what the agent stripped.
    pub wire_length: u32,
}

/// What a datagram contains.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Item<'a> {
    Flow(&'a NetFlow),
    /// A packet. The flow has what the agent says of it beyond its bytes.
    Sample(&'a NetFlow, Sample<'a>),
}
