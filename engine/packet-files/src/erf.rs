//! Endace's Extensible Record Format (ERF), as Endace's "ERF Types Reference Guide" and
//! <https://wiki.wireshark.org/ERF> describe it.
//!
//! A file is a sequence of records without a header. A record has a little-endian time stamp, a
//! type, flags, and big-endian lengths; then extension headers, and the packet.

use crate::buffer::Buffer;
use crate::bytes::Order;
use crate::error::{CaptureFault, Problem};
use crate::frame::{BufferedPacket, CISCO_HDLC, ETHERNET, IPV4, IPV6, PPP_HDLC, SkippedCounts};

const ERF_HEADER_BYTES: usize = 16;
const EXTENSION_BYTES: usize = 8;
/// The frame check sequence of Ethernet: the length on the wire includes it.
const FCS_BYTES: usize = 4;
/// This bit of the type, and of the first byte of an extension: an extension header follows.
const HAS_EXTENSION: u8 = 0x80;

/// A file of records has no mark of its own. Years outside of 1990 to 2100 are not plausible.
const SECONDS_PLAUSIBLE: std::ops::Range<u64> = 631_152_000..4_102_444_800;

/// What a type of record holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ErfPayload {
    /// Two bytes of offset and padding, then Ethernet.
    Ethernet,
    /// PPP or Cisco's HDLC.
    Hdlc,
    /// Four bytes about the channel, then the same.
    ChannelHdlc,
    Ipv4,
    Ipv6,
    /// No packet: padding, or information on the capture.
    None,
    /// A type with packets that are not supported, with its number.
    Unsupported(u8),
    /// No type that Endace documents.
    Unknown,
}

impl ErfPayload {
    fn of(kind: u8) -> Self {
        match kind & !HAS_EXTENSION {
            2 | 11 | 16 | 20 => Self::Ethernet,
            1 | 10 | 15 | 19 => Self::Hdlc,
            5 | 17 => Self::ChannelHdlc,
            22 => Self::Ipv4,
            23 => Self::Ipv6,
            // Counters of IP and TCP flows, provenance, padding.
            13 | 14 | 27 | 48 => Self::None,
            // ATM, AAL5, AAL2, InfiniBand and raw links.
            number @ (3 | 4 | 6..=9 | 12 | 18 | 21 | 24 | 25) => Self::Unsupported(number),
            _ => Self::Unknown,
        }
    }

    /// Bytes between the headers and the packet.
    const fn head_bytes(self) -> usize {
        match self {
            Self::Ethernet => 2,
            Self::ChannelHdlc => 4,
            _ => 0,
        }
    }
}

/// Whether the capture begins with records. An error if they are of a type that is not supported.
pub(crate) fn detect(buffer: &mut Buffer) -> Result<bool, CaptureFault> {
    if !buffer.has(ERF_HEADER_BYTES)? || !is_plausible(buffer.window()) {
        return Ok(false);
    }
    let length = usize::from(Order::Big.u16(buffer.window(), 10));
    if buffer.has(length + ERF_HEADER_BYTES)? && !is_plausible(&buffer.window()[length..]) {
        return Ok(false);
    }
    // Padding at the start is nothing that a capture card writes, and a text may look like it.
    match ErfPayload::of(buffer.window()[8]) {
        ErfPayload::Unsupported(kind) => {
            Err(CaptureFault::Unsupported { records: "an ERF record", number: kind.into() })
        }
        content => Ok(content != ErfPayload::None || buffer.window()[8] & !HAS_EXTENSION == 27),
    }
}

fn is_plausible(header: &[u8]) -> bool {
    let seconds = Order::Little.u64(header, 0) >> 32;
    let length = usize::from(Order::Big.u16(header, 10));
    let content = ErfPayload::of(header[8]);
    content != ErfPayload::Unknown
        && length >= ERF_HEADER_BYTES + content.head_bytes()
        && (SECONDS_PLAUSIBLE.contains(&seconds) || content == ErfPayload::None)
}

/// The next packet.
pub(crate) fn next(
    buffer: &mut Buffer,
    skipped: &mut SkippedCounts,
) -> Result<Option<BufferedPacket>, CaptureFault> {
    loop {
        if !buffer.has(ERF_HEADER_BYTES)? {
            buffer.cut(skipped);
            return Ok(None);
        }
        let length = usize::from(Order::Big.u16(buffer.window(), 10));
        let wrong = |offset| {
            let problem = Problem::RecordLength(length as u32);
            Err(CaptureFault::Damaged { offset, problem })
        };
        if length < ERF_HEADER_BYTES {
            return wrong(buffer.offset());
        }
        if !buffer.has(length)? {
            buffer.cut(skipped);
            return Ok(None);
        }
        let record = &buffer.window()[..length];
        let content = ErfPayload::of(record[8]);
        match content {
            ErfPayload::None => {}
            ErfPayload::Unsupported(_) | ErfPayload::Unknown => skipped.unknown_records += 1,
            _ => {
                let Some(mut found) = packet(record, content) else {
                    return wrong(buffer.offset());
                };
                found.start += buffer.consume(length);
                return Ok(Some(found));
            }
        }
        buffer.consume(length);
    }
}

/// The packet of a whole record; `start` is relative to it. `None` if the headers do not fit.
fn packet(record: &[u8], content: ErfPayload) -> Option<BufferedPacket> {
    let start = headers(record)? + content.head_bytes();
    let room = record.get(start..)?;
    let stamp = Order::Little.u64(record, 0);
    let wire_bytes = usize::from(Order::Big.u16(record, 14));
    let (link, wire_bytes) = match content {
        ErfPayload::Ethernet => (ETHERNET, wire_bytes.saturating_sub(FCS_BYTES)),
        ErfPayload::Ipv4 => (IPV4, wire_bytes),
        ErfPayload::Ipv6 => (IPV6, wire_bytes),
        // RFC 1547 §4.3.1: Cisco's frames begin with the address 0x0f or 0x8f.
        _ if matches!(room.first(), Some(0x0f | 0x8f)) => (CISCO_HDLC, wire_bytes),
        _ => (PPP_HDLC, wire_bytes),
    };
    Some(BufferedPacket {
        time_ns: time_ns(stamp),
        link,
        wire_length: wire_bytes as u32,
        // Bits 0 and 1 of the flags are the interface.
        interface: u32::from(record[9] & 3),
        start,
        // Records are padded to a multiple of eight bytes.
        length: room.len().min(wire_bytes),
    })
}

/// The length of a record's header and of its extension headers.
fn headers(record: &[u8]) -> Option<usize> {
    let mut bytes = ERF_HEADER_BYTES;
    let mut has_more = record[8] & HAS_EXTENSION != 0;
    while has_more {
        has_more = record.get(bytes)? & HAS_EXTENSION != 0;
        bytes += EXTENSION_BYTES;
    }
    Some(bytes)
}

/// Nanoseconds of a time stamp in units of 2^-32 s, to the nearest.
fn time_ns(stamp: u64) -> i64 {
    let fraction = (stamp & u64::from(u32::MAX)) * 1_000_000_000;
    let seconds = (stamp >> 32) as i64;
    seconds * 1_000_000_000 + ((fraction + (1 << 31)) >> 32) as i64
}
