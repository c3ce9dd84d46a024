//! [`Frame`]: a packet as the capture has it, and [`SkippedCounts`]: what a reader did not return.

/// Maximum number of captured bytes of one packet, as in libpcap (`MAXIMUM_SNAPLEN`).
pub const PACKET_BYTES_MAX: usize = 256 << 10;

/// LINKTYPE_ETHERNET of <https://www.tcpdump.org/linktypes.html>, as are those below.
pub(crate) const ETHERNET: u16 = 1;
/// LINKTYPE_IEEE802_5: token ring.
pub(crate) const TOKEN_RING: u16 = 6;
/// LINKTYPE_FDDI.
pub(crate) const FDDI: u16 = 10;
/// LINKTYPE_PPP_HDLC.
pub(crate) const PPP_HDLC: u16 = 50;
/// LINKTYPE_RAW: IPv4 or IPv6.
pub(crate) const RAW: u16 = 101;
/// LINKTYPE_C_HDLC: Cisco's HDLC.
pub(crate) const CISCO_HDLC: u16 = 104;
/// LINKTYPE_IPV4.
pub(crate) const IPV4: u16 = 228;
/// LINKTYPE_IPV6.
pub(crate) const IPV6: u16 = 229;

/// One packet as the capture has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// Nanoseconds since 1970, UTC. A simple packet block of pcapng has no time, and gets the time
    /// of the packet before it.
    pub time_ns: i64,
    /// The LINKTYPE_ number of tcpdump.org (Ethernet is 1).
    pub link: u16,
    /// Bytes on the wire. Some captures have fewer here than in `bytes`. Ethernet in ERF is without
    /// its frame check sequence, as it is in most captures of other formats.
    pub wire_length: u32,
    /// The bytes that were captured. A TSH record has the first 20 bytes of the IP header and the
    /// first 16 bytes after the header: options of the IP header are missing between them.
    pub bytes: &'a [u8],
    /// Number of the interface within the capture: 0 except in pcapng, ERF and TSH. The sections of
    /// a pcapng file have interfaces of their own; the numbers continue from section to section.
    pub interface: u32,
}

/// What was in a capture and was not returned.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SkippedCounts {
    /// Blocks of pcapng and records of ERF of unknown types. Those that are known to hold no packet
    /// are not counted.
    pub unknown_records: u64,
    /// Packets longer than 256 KiB.
    pub oversized_packets: u64,
    /// Packets of pcapng whose lengths contradict each other, or whose interface is missing.
    pub damaged_packets: u64,
    /// Bytes at the end that are only the beginning of a record.
    pub cut_bytes: u64,
    /// The compressed data ended too early.
    pub is_compression_cut: bool,
}

/// A packet that a reader found; the bytes are still in the buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferedPacket {
    pub(crate) time_ns: i64,
    pub(crate) link: u16,
    pub(crate) wire_length: u32,
    pub(crate) interface: u32,
    /// Index of the first byte in the memory of the buffer.
    pub(crate) start: usize,
    /// Number of captured bytes.
    pub(crate) length: usize,
}
