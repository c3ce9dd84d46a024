//! Flow records as IPFIX messages (RFC 7011), both directions in one record (RFC 5103).
//!
//! A [`Session`] gathers records into a message of at most [`MESSAGE_BYTES_MAX`] bytes, which fits
//! a datagram of Ethernet. Templates go before the first record, and again at intervals: a
//! collector of UDP that starts late, or that lost one, waits for the next (RFC 7011 §8.1). The
//! elements are those of IANA's registry of IPFIX information elements, in network byte order.
//! Those of the reverse direction have the enterprise number 29305.
//!
//! Bytes are those on the wire with link-layer headers, as in all records of Panoptes; the registry
//! has those from the IP header on.

use panoptes_records::flow::{
    Cause, Detail, Extra, FlowKeyKind, FlowRecord, FlowSide, TcpSide, status, tcp_status,
};

/// The most bytes of a message.
pub const MESSAGE_BYTES_MAX: usize = 1400;

const VERSION: u16 = 10;
const MESSAGE_HEADER: usize = 16;
const SET_HEADER: usize = 4;
const TEMPLATE_SET: u16 = 2;
/// The enterprise number that marks an element of the reverse direction (RFC 5103 §6.1).
const REVERSE: u32 = 29305;

/// An element: its number, its length in bytes, and whether it is of the reverse direction.
type Element = (u16, u16, bool);

/// Elements in front, by addresses.
const V4: &[Element] = &[(8, 4, false), (12, 4, false)];
const V6: &[Element] = &[(27, 16, false), (28, 16, false)];
/// Hardware addresses and the Ethernet type.
const LINK: &[Element] = &[(56, 6, false), (80, 6, false), (256, 2, false)];
/// Ports and protocol.
const TRANSPORT: &[Element] = &[(7, 2, false), (11, 2, false), (4, 1, false)];
/// Elements of all records: times, reason of the end, who began, number of the flow.
const COMMON: &[Element] =
    &[(152, 8, false), (153, 8, false), (136, 1, false), (239, 1, false), (148, 8, false)];
/// Elements of each direction: bytes, packets, VLAN.
const DIRECTION: &[(u16, u16)] = &[(1, 8), (2, 8), (58, 2)];
/// With sizes of packets (`-Z`): the sum of their squares.
const SIZES: &[(u16, u16)] = &[(198, 8)];
/// Those of IP: TCP flags, type of service, TTL.
const IP_DIRECTION: &[(u16, u16)] = &[(6, 1), (5, 1), (192, 1)];
/// Type and code of ICMP: of version 4 and of version 6.
const ICMP_V4: &[Element] = &[(32, 2, false)];
const ICMP_V6: &[Element] = &[(139, 2, false)];

/// What a record needs a template for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
enum Template {
    V4 = 256,
    V6 = 257,
    Link = 258,
}

impl Template {
    const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Link];

    const fn of(kind: FlowKeyKind) -> Self {
        match kind {
            FlowKeyKind::Ipv4
            | FlowKeyKind::Icmp
            | FlowKeyKind::Igmp
            | FlowKeyKind::EspV4
            | FlowKeyKind::FragmentV4 => Self::V4,
            FlowKeyKind::Ipv6
            | FlowKeyKind::Icmpv6
            | FlowKeyKind::EspV6
            | FlowKeyKind::FragmentV6 => Self::V6,
            FlowKeyKind::Arp
            | FlowKeyKind::Rarp
            | FlowKeyKind::Ethernet
            | FlowKeyKind::Llc
            | FlowKeyKind::Wireless => Self::Link,
        }
    }

    /// The elements of a record, in their order.
    fn elements(self, has_sizes: bool) -> impl Iterator<Item = Element> {
        let (front, transport, icmp, ip): (_, _, _, &[_]) = match self {
            Self::V4 => (V4, TRANSPORT, ICMP_V4, IP_DIRECTION),
            Self::V6 => (V6, TRANSPORT, ICMP_V6, IP_DIRECTION),
            Self::Link => (LINK, &[][..], &[][..], &[]),
        };
        let of = |is_reverse: bool| {
            let sizes = if has_sizes { SIZES } else { &[] };
            let all = DIRECTION.iter().chain(ip).chain(sizes);
            all.map(move |(number, length)| (*number, *length, is_reverse))
        };
        let both = [front, transport, COMMON, icmp].into_iter().flatten().copied();
        both.chain(of(false)).chain(of(true))
    }
}

/// A stream of messages to a collector.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The observation domain: the sensor's number.
    domain: u32,
    /// Number of data records before the message (RFC 7011 §3.1).
    sequence: u32,
    /// Records in the message.
    records: u32,
    /// Bytes of the message that are written; 0 before it begins.
    length: usize,
    /// Where the set of records begins, and whose it is.
    set: Option<(usize, Template)>,
    templates_ns: i64,
    template_interval_ns: i64,
    has_sizes: bool,
}

impl Session {
    /// `template_interval_ns` is the time between templates; RFC 7011 §8.1 leaves it to the user,
    /// and collectors expect minutes at most.
    pub const fn new(domain: u32, template_interval_ns: i64) -> Self {
        let (sequence, records, length, set) = (0, 0, 0, None);
        // Before every time: the first message has templates.
        let templates_ns = i64::MIN;
        let has_sizes = false;
        Self {
            domain,
            sequence,
            records,
            length,
            set,
            templates_ns,
            template_interval_ns,
            has_sizes,
        }
    }

    /// Adds the sums of the squared sizes of packets (`-Z`).
    #[must_use]
    pub const fn with_sizes(self, has_sizes: bool) -> Self {
        Self { has_sizes, ..self }
    }

    /// Adds a record to the message in `out`, whose first [`MESSAGE_BYTES_MAX`] bytes are used.
    /// `None` if there is no room: send what [`finish`](Self::finish) returns, and try again.
    pub fn write(
        &mut self,
        out: &mut [u8],
        record: &FlowRecord,
        extra: &Extra<'_>,
        now_ns: i64,
    ) -> Option<usize> {
        let before = *self;
        let length = self.add(out, record, extra.size_squares.unwrap_or_default(), now_ns);
        if length.is_none() {
            *self = before;
        }
        length
    }

    fn add(
        &mut self,
        out: &mut [u8],
        record: &FlowRecord,
        squares: [u64; 2],
        now_ns: i64,
    ) -> Option<usize> {
        let room = out.len().min(MESSAGE_BYTES_MAX);
        let mut bytes = Bytes { bytes: &mut out[..room], length: self.length };
        if self.length == 0 {
            bytes.skip(MESSAGE_HEADER)?;
            if self.are_templates_due(now_ns) {
                write_templates(&mut bytes, self.has_sizes)?;
                self.templates_ns = now_ns;
            }
        }
        let template = Template::of(record.key.kind);
        if self.set.is_none_or(|(_, of)| of != template) {
            self.end_set(&mut bytes)?;
            self.set = Some((bytes.length, template));
            bytes.number(template as u16, 2)?;
            bytes.number(0_u16, 2)?;
        }
        let elements = template.elements(self.has_sizes);
        write_record(&mut bytes, elements, record, squares)?;
        self.length = bytes.length;
        self.records += 1;
        Some(self.length)
    }

    const fn are_templates_due(&self, now_ns: i64) -> bool {
        now_ns.saturating_sub(self.templates_ns) >= self.template_interval_ns
    }

    /// Ends the message in `out` and returns its length in bytes; `None` if it has no record.
    /// `now_ns` is the time of its export in nanoseconds since 1970.
    pub fn finish(&mut self, out: &mut [u8], now_ns: i64) -> Option<usize> {
        if self.length == 0 {
            return None;
        }
        let length = self.length;
        let mut bytes = Bytes { bytes: out, length };
        self.end_set(&mut bytes)?;
        bytes.length = 0;
        bytes.number(VERSION, 2)?;
        bytes.number(length as u64, 2)?;
        bytes.number((now_ns / 1_000_000_000) as u64, 4)?;
        bytes.number(self.sequence, 4)?;
        bytes.number(self.domain, 4)?;
        self.sequence = self.sequence.wrapping_add(self.records);
        (self.records, self.length) = (0, 0);
        Some(length)
    }

    /// Writes the length of the set of records.
    fn end_set(&mut self, bytes: &mut Bytes<'_>) -> Option<()> {
        let Some((at, _)) = self.set.take() else { return Some(()) };
        let length = bytes.length - at;
        bytes.number_at(at + 2, length as u16)
    }
}

fn write_templates(bytes: &mut Bytes<'_>, has_sizes: bool) -> Option<()> {
    let at = bytes.length;
    bytes.number(TEMPLATE_SET, 2)?;
    bytes.number(0_u16, 2)?;
    for template in Template::ALL {
        bytes.number(template as u16, 2)?;
        bytes.number(template.elements(has_sizes).count() as u64, 2)?;
        for (number, length, is_reverse) in template.elements(has_sizes) {
            // The highest bit: an enterprise number follows.
            bytes.number(number | u16::from(is_reverse) << 15, 2)?;
            bytes.number(length, 2)?;
            if is_reverse {
                bytes.number(REVERSE, 4)?;
            }
        }
    }
    let length = bytes.length - at;
    bytes.number_at(at + 2, length as u16)
}

/// Writes the values of a template's elements.
fn write_record(
    bytes: &mut Bytes<'_>,
    elements: impl Iterator<Item = Element>,
    record: &FlowRecord,
    squares: [u64; 2],
) -> Option<()> {
    let key = &record.key;
    for (number, length, is_reverse) in elements {
        let side = if is_reverse { &record.destination } else { &record.source };
        match number {
            27 => bytes.put(&key.source.v6())?,
            28 => bytes.put(&key.destination.v6())?,
            56 => bytes.put(&record.hardware[1])?,
            80 => bytes.put(&record.hardware[0])?,
            198 => bytes.number(squares[usize::from(is_reverse)], length)?,
            _ => bytes.number(value(record, side, number, is_reverse), length)?,
        }
    }
    Some(())
}

/// The value of an element that is a number.
fn value(record: &FlowRecord, side: &FlowSide, number: u16, is_reverse: bool) -> u64 {
    let key = &record.key;
    let has_ports = matches!(key.kind, FlowKeyKind::Ipv4 | FlowKeyKind::Ipv6);
    match number {
        1 => side.bytes,
        2 => side.packets,
        4 if key.kind == FlowKeyKind::Icmp => 1,
        4 => key.protocol.into(),
        5 => side.tos.into(),
        6 => tcp_side(record, is_reverse).map_or(0, |side| side.flags).into(),
        7 if has_ports => key.source_port.into(),
        11 if has_ports => key.destination_port.into(),
        8 => key.source.v4().into(),
        12 => key.destination.v4().into(),
        32 | 139 if matches!(key.kind, FlowKeyKind::Icmp | FlowKeyKind::Icmpv6) => {
            key.source_port.into()
        }
        58 if side.status & status::VLAN != 0 => u64::from(side.vlan & 0xfff),
        136 => end_reason(record),
        148 => record.sequence.into(),
        152 => milliseconds(record.times().0),
        153 => milliseconds(record.times().1),
        192 if side.status & status::IP != 0 => side.ttl.into(),
        239 => biflow_direction(record),
        256 => record.ethertype.into(),
        _ => 0,
    }
}

const fn tcp_side(record: &FlowRecord, is_reverse: bool) -> Option<&TcpSide> {
    match &record.detail {
        Detail::Tcp(tcp) if is_reverse => Some(&tcp.destination),
        Detail::Tcp(tcp) => Some(&tcp.source),
        _ => None,
    }
}

const fn milliseconds(time_ns: i64) -> u64 {
    (time_ns / 1_000_000) as u64
}

/// `flowEndReason`: 2, the flow continues; 3, its end was seen.
fn end_reason(record: &FlowRecord) -> u64 {
    let ends = tcp_status::FIN_ACKNOWLEDGED | tcp_status::RESET;
    let has_ended = match &record.detail {
        Detail::Tcp(tcp) => tcp.bits() & ends != 0,
        _ => false,
    };
    if has_ended || record.cause == Cause::Stop { 3 } else { 2 }
}

/// `biflowDirection` (RFC 5103 §6.3): 1, the source began; 2, the destination did; 0, not known.
const fn biflow_direction(record: &FlowRecord) -> u64 {
    match &record.detail {
        Detail::Tcp(tcp) if tcp.bits() & tcp_status::SAW_SYN != 0 => 1,
        Detail::Tcp(tcp) if tcp.bits() & tcp_status::SAW_SYN_ACK != 0 => 2,
        Detail::Tcp(_) => 0,
        _ => 1,
    }
}

/// A message that is being written.
struct Bytes<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl Bytes<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length + bytes.len();
        self.bytes.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    /// The lowest `length` bytes of a number, at most eight.
    fn number(&mut self, number: impl Into<u64>, length: u16) -> Option<()> {
        let bytes = number.into().to_be_bytes();
        self.put(bytes.get(bytes.len().checked_sub(length.into())?..)?)
    }

    fn number_at(&mut self, at: usize, number: u16) -> Option<()> {
        self.bytes.get_mut(at..at + 2)?.copy_from_slice(&number.to_be_bytes());
        Some(())
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.length += count;
        (self.length <= self.bytes.len()).then_some(())
    }
}

const _: () = assert!(MESSAGE_HEADER + SET_HEADER < MESSAGE_BYTES_MAX, "a record fits");

#[cfg(test)]
#[path = "ipfix_tests.rs"]
mod tests;
