//! What a flow record contains.

/// An address as two words, the most significant one first. What it is depends on the
/// [`FlowKeyKind`]: an IPv4 address has its bits in the lowest ones, and so has a hardware address.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Address(pub [u64; 2]);

impl Address {
    pub const fn new(value: u128) -> Self {
        Self([(value >> 64) as u64, value as u64])
    }

    /// Both words as one number.
    #[inline]
    pub const fn value(self) -> u128 {
        (self.0[0] as u128) << 64 | self.0[1] as u128
    }

    /// The lowest 32 bits: an IPv4 address.
    pub const fn v4(self) -> u32 {
        self.0[1] as u32
    }

    /// The bytes of an IPv6 address.
    pub fn v6(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_be_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_be_bytes());
        bytes
    }

    /// A hardware address of six bytes.
    pub fn hardware(address: [u8; 6]) -> Self {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&address);
        Self([0, u64::from_be_bytes(bytes)])
    }

    /// The six bytes of a hardware address in one of the words.
    pub fn hardware_in(self, word: usize) -> [u8; 6] {
        let bytes = self.0[word].to_be_bytes();
        [bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
    }
}

/// What identifies a flow, and so what the parts of a [`FlowKey`] contain.
///
/// Where "who asks" differs from who answers, the first word of the asker's address is not zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum FlowKeyKind {
    /// Addresses, protocol, ports. DNS over UDP: also the id of the query in `extra`.
    #[default]
    Ipv4,
    Ipv6,
    /// The first port is type and code, the second an identifier; `extra` is a sequence number. For
    /// an error, `protocol` and the second port come from the packet that it quotes.
    Icmp,
    /// The first port is type and code.
    Icmpv6,
    /// The first port is type and code, `extra` the identification of the IP packet.
    Igmp,
    /// Both ports together are the security parameter index.
    EspV4,
    EspV6,
    /// Fragments whose first one is missing: both ports together are the identification.
    FragmentV4,
    FragmentV6,
    /// The asker's IP address and the one asked for. The first word of the asker's address is its
    /// hardware address.
    Arp,
    /// The hardware address whose IP address is asked for, twice.
    Rarp,
    /// Hardware addresses, and the Ethernet type in `extra`.
    Ethernet,
    /// Hardware addresses, and the service access points in the ports.
    Llc,
    /// Hardware addresses of the transmitter and the receiver in IEEE 802.11.
    Wireless,
}

/// What identifies a flow.
///
/// The order of the fields behind the addresses is that of the last of its [`words`](Self::words):
/// a little-endian processor loads them as one number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct FlowKey {
    pub source: Address,
    pub destination: Address,
    pub kind: FlowKeyKind,
    pub protocol: u8,
    pub extra: u16,
    pub destination_port: u16,
    pub source_port: u16,
}

impl FlowKey {
    /// The same flow, seen from its other end.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        let (source_port, destination_port) = match self.kind {
            FlowKeyKind::Ipv4 | FlowKeyKind::Ipv6 | FlowKeyKind::Llc => {
                (self.destination_port, self.source_port)
            }
            _ => (self.source_port, self.destination_port),
        };
        Self {
            source: self.destination,
            destination: self.source,
            source_port,
            destination_port,
            ..self
        }
    }

    /// Whether the addresses are those of IPv6.
    pub const fn is_v6(&self) -> bool {
        matches!(
            self.kind,
            FlowKeyKind::Ipv6 | FlowKeyKind::Icmpv6 | FlowKeyKind::EspV6 | FlowKeyKind::FragmentV6
        )
    }

    /// Both ports as one number.
    pub const fn number(&self) -> u32 {
        (self.source_port as u32) << 16 | self.destination_port as u32
    }

    /// The words that a hash needs.
    #[inline]
    pub const fn words(&self) -> [u64; 5] {
        let ports = (self.source_port as u64) << 48 | (self.destination_port as u64) << 32;
        let rest = (self.extra as u64) << 16 | (self.protocol as u64) << 8 | self.kind as u64;
        let [source, destination] = [self.source.0, self.destination.0];
        [source[0], source[1], destination[0], destination[1], ports | rest]
    }
}

/// A direction of a flow. The source is who sent its first packet, or the SYN soon after it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FlowDirection {
    #[default]
    FromSource,
    FromDestination,
}

/// Why a record is written: the codes of the argus record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum Cause {
    /// The first record of a flow.
    #[default]
    Start = 0x10,
    /// A later one.
    Status = 0x20,
    /// The last one: the same addresses and ports begin another flow.
    Stop = 0x30,
    /// The last one: the sensor ends.
    Shutdown = 0x60,
}

/// Bits of [`FlowSide::status`].
pub mod status {
    pub const VLAN: u8 = 0x1;
    /// Fragments were seen.
    pub const FRAGMENTS: u8 = 0x2;
    /// Packets came with several pairs of hardware addresses.
    pub const SEVERAL_PATHS: u8 = 0x4;
    /// There is an IP header.
    pub const IP: u8 = 0x8;
}

/// Bits of [`FlowSide::encapsulation`] that records of argus 3 or 5 have not: those of the packet
/// decoder.
pub mod header {
    pub const VXLAN: u32 = 0x400_0000;
    pub const L2TP: u32 = 0x800_0000;
    pub const GENEVE: u32 = 0x1000_0000;
    pub const ERSPAN: u32 = 0x2000_0000;
    pub const GTP_USER: u32 = 0x4000_0000;
}

/// What one end of a flow has sent since the last record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FlowSide {
    pub packets: u64,
    /// On the wire, with the headers of the link layer.
    pub bytes: u64,
    /// Behind the transport header.
    pub application_bytes: u64,
    /// Times of the first and of the last packet, in nanoseconds since 1970; 0 if there is none.
    pub first_ns: i64,
    pub last_ns: i64,
    /// The headers around the packets: `ARGUS_ENCAPS_*` bits of argus 5, and of [`header`].
    pub encapsulation: u32,
    /// The outermost label word of the last packet.
    pub mpls: u32,
    /// The options of IPv4 in the last packet: `ARGUS_*` bits.
    pub ip_options: u32,
    /// The smallest and the largest packet, in bytes on the wire.
    pub size_min: u16,
    pub size_max: u16,
    /// The tag of the last packet.
    pub vlan: u16,
    /// The identification of the last packet.
    pub ip_id: u16,
    pub ttl: u8,
    pub tos: u8,
    /// Number of labels of the last packet.
    pub mpls_depth: u8,
    /// What was seen: bits of [`status`].
    pub status: u8,
}

impl FlowSide {
    /// The standard deviation of the sizes of all packets, from the sum of their squares.
    pub fn size_deviation(&self, squares: u64) -> f64 {
        let packets = self.packets.max(1) as f64;
        let mean = self.bytes as f64 / packets;
        (squares as f64 / packets - mean * mean).max(0.0).sqrt()
    }
}

/// Bits of [`Tcp::status`] and [`TcpSide::status`]: `include/argus_def.h` of argus 3.0.8. Those of
/// a side have the bits of both ends set.
pub mod tcp_status {
    pub const SAW_SYN: u32 = 0x1;
    pub const SAW_SYN_ACK: u32 = 0x2;
    pub const ESTABLISHED: u32 = 0x4;
    pub const FIN: u32 = 0x8;
    pub const FIN_ACKNOWLEDGED: u32 = 0x10;
    pub const RETRANSMITTED: u32 = 0x300;
    pub const WINDOW_CLOSED: u32 = 0xc00;
    pub const RESET: u32 = 0x3000;
    pub const CONGESTED: u32 = 0xc000;
    pub const OUT_OF_ORDER: u32 = 0x3_0000;
    /// The bit of each pair that stands for the source.
    pub const OF_SOURCE: u32 = 0x1_5500;
    /// The bit of each pair that stands for the destination.
    pub const OF_DESTINATION: u32 = 0x2_aa00;
    /// The pairs.
    pub const PAIRS: u32 = OF_SOURCE | OF_DESTINATION;
    /// ECN was agreed: bits of the options.
    pub const ECN_SOURCE: u32 = 0x4000_0000;
    pub const ECN_DESTINATION: u32 = 0x8000_0000;
}

/// The state of a TCP connection, by the numbers of BSD (`netinet/tcp_fsm.h`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum TcpState {
    #[default]
    Closed = 0,
    Listen = 1,
    SynSent = 2,
    SynReceived = 3,
    Established = 4,
    FinWait1 = 6,
    Closing = 7,
    FinWait2 = 9,
}

/// One end of a TCP connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TcpSide {
    /// Time of the last packet in nanoseconds since 1970.
    pub last_ns: i64,
    /// Bits of [`tcp_status`].
    pub status: u32,
    /// The sequence number before the first byte of this record.
    pub sequence_base: u32,
    /// The sequence number after the last byte.
    pub sequence: u32,
    /// The last acknowledgement sent, less one; see `has_acknowledged`.
    pub acknowledged: u32,
    /// How often everything sent was acknowledged.
    pub windows: u32,
    /// Bytes of data, those sent again included.
    pub bytes: u32,
    /// Number of segments sent again.
    pub retransmitted: u32,
    /// Bytes that are sent and not acknowledged.
    pub in_flight: u32,
    /// The last window, without its scale.
    pub window: u16,
    /// The flags of all packets.
    pub flags: u8,
    pub window_scale: u8,
    /// The identification in the IP header of the last packet with data.
    pub ip_id: u16,
    /// Whether a packet was seen, and so the sequence numbers are set.
    pub has_begun: bool,
    /// Whether an acknowledgement was sent.
    pub has_acknowledged: bool,
}

/// A TCP connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tcp {
    /// Bits of [`tcp_status`].
    pub status: u32,
    /// Options of both ends, and whether they agreed on ECN.
    pub options: u32,
    /// Microseconds from SYN to SYN+ACK, and from there to the ACK; 0 if not seen.
    pub syn_ack_us: u32,
    pub ack_data_us: u32,
    /// Time of the SYN in nanoseconds since 1970, if something else of the source came before the
    /// SYN+ACK; else 0.
    pub syn_ns: i64,
    pub source: TcpSide,
    pub destination: TcpSide,
    pub state: TcpState,
    /// Whether the identifications of IP of the source and of the destination do not count its
    /// packets.
    pub has_random_ids: [bool; 2],
    /// Whether there was more than one packet.
    pub has_continued: bool,
}

impl Tcp {
    /// The connection, seen from its other end.
    #[must_use]
    pub const fn reversed(self) -> Self {
        let [source, destination] = self.has_random_ids;
        Self {
            source: self.destination,
            destination: self.source,
            has_random_ids: [destination, source],
            ..self
        }
    }

    /// The status of the connection with that of both ends.
    pub const fn bits(&self) -> u32 {
        self.status & !tcp_status::PAIRS
            | self.source.status & tcp_status::OF_SOURCE
            | self.destination.status & tcp_status::OF_DESTINATION
    }
}

/// A message of ICMP: the first one of a flow, or one that refers to a flow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub sequence: u16,
    /// Source and destination of the message, for IPv4; otherwise 0.
    pub sender: u32,
    pub receiver: u32,
    /// The addresses of the packet that it quotes.
    pub quoted_source: u32,
    pub quoted_destination: u32,
    /// The second word of the message.
    pub gateway: u32,
}

/// What was seen of ESP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Esp {
    /// `ARGUS_*` bits.
    pub status: u32,
    pub spi: u32,
    pub last_sequence: u32,
    /// Number of missing sequence numbers.
    pub lost: u32,
}

/// Bits of the status of RTP (`ARGUS_SRC_OUTOFORDER` of `include/argus_def.h`).
pub mod rtp_status {
    pub const OUT_OF_ORDER_SOURCE: u32 = 0x1_0000;
    pub const OUT_OF_ORDER_DESTINATION: u32 = 0x2_0000;
}

/// RTP or RTCP (RFC 3550).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rtp {
    /// Bits of [`rtp_status`].
    pub status: u32,
    pub source: RtpSide,
    pub destination: RtpSide,
    /// It is RTCP.
    pub is_control: bool,
    /// It is not only possible: sequence numbers have followed each other.
    pub is_certain: bool,
}

/// One end of RTP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RtpSide {
    /// The header of the latest packet; of RTCP, the first 8 bytes.
    pub header: [u8; 12],
    /// Number of missing sequence numbers.
    pub lost: u16,
    pub has_begun: bool,
}

/// The hardware address that has answered for the IP address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Arp {
    pub responder: [u8; 6],
}

/// What only flows of a protocol have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Detail {
    #[default]
    None,
    Tcp(Tcp),
    Icmp(Icmp),
    Esp(Esp),
    Arp(Arp),
    Rtp(Rtp),
}

/// Statistics of the times between packets, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interval {
    pub count: u32,
    pub min: u32,
    pub max: u32,
    pub sum: f64,
    pub square_sum: f64,
}

impl Interval {
    /// Adds a time in microseconds.
    pub fn add(&mut self, time: u32) {
        self.min = if self.count == 0 { time } else { self.min.min(time) };
        self.max = self.max.max(time);
        self.count += 1;
        let time = f64::from(time);
        self.sum += time;
        self.square_sum += time * time;
    }

    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.count.max(1))
    }

    /// The standard deviation of all times.
    pub fn deviation(&self) -> f64 {
        let count = f64::from(self.count.max(1));
        (self.square_sum / count - self.mean() * self.mean()).max(0.0).sqrt()
    }
}

/// The times between the packets of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Intervals {
    /// Between packets that the protocol could send at once.
    pub active: Interval,
    /// Between other packets.
    pub idle: Interval,
    /// Time of the last packet in nanoseconds since 1970. It survives the record.
    pub last_ns: i64,
}

/// The times between the packets of both ends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Jitter {
    pub source: Intervals,
    pub destination: Intervals,
}

/// A record of a flow, with what is known since the last one.
///
/// The order of the fields is that in memory, so that a packet changes few lines of the processor's
/// cache: the key and what follows it have one, each side has one, TCP has two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct FlowRecord {
    /// From the source's end.
    pub key: FlowKey,
    /// The hardware addresses of the first packet: destination, source.
    pub hardware: [[u8; 6]; 2],
    /// The Ethernet type of the first packet; 0 if there was no Ethernet header.
    pub ethertype: u16,
    pub cause: Cause,
    /// Number of the flow: the same in all its records.
    pub sequence: u32,
    /// If the number of the overlay is part of what identifies a flow: the number plus one, or 0
    /// for packets outside of overlays.
    pub overlay: u32,
    pub source: FlowSide,
    pub destination: FlowSide,
    pub detail: Detail,
    /// The error message that refers to this flow.
    pub error: Option<Icmp>,
    /// The numbers of the overlays (VNI) in which the last packet of each end came.
    pub vnis: [Option<u32>; 2],
}

/// The size of a line of the processor's cache.
const LINE_BYTES: usize = 64;
const _: () = assert!(size_of::<FlowSide>() == LINE_BYTES);
const _: () = assert!(core::mem::offset_of!(FlowRecord, source) == LINE_BYTES);
const _: () = assert!(size_of::<Detail>() <= 2 * LINE_BYTES);

impl FlowRecord {
    /// What an end has sent. Which end it is cannot be predicted, so this does not branch.
    #[inline]
    pub fn side(&mut self, direction: FlowDirection) -> &mut FlowSide {
        let is_source = direction == FlowDirection::FromSource;
        core::hint::select_unpredictable(is_source, &mut self.source, &mut self.destination)
    }

    /// What RTP adds, if the flow certainly is RTP or RTCP.
    pub fn rtp(&self) -> Option<&Rtp> {
        match &self.detail {
            Detail::Rtp(rtp) if rtp.is_certain => Some(rtp),
            _ => None,
        }
    }

    /// The times of the first and of the last packet in nanoseconds since 1970.
    pub fn times(&self) -> (i64, i64) {
        let (a, b) = (&self.source, &self.destination);
        let first = match (a.first_ns, b.first_ns) {
            (0, other) | (other, 0) => other,
            (one, other) => one.min(other),
        };
        (first, a.last_ns.max(b.last_ns))
    }
}
