//! Classic pcap files (draft-ietf-opsawg-pcap, pcap-savefile(5)), in both byte orders.

use crate::buffer::Buffer;
use crate::bytes::{Order, nanoseconds};
use crate::error::{CaptureFault, Problem};
use crate::frame::{BufferedPacket, PACKET_BYTES_MAX, RAW, SkippedCounts};
use crate::header::{self, MICROSECONDS, MODIFIED, NANOSECONDS, PCAP_BYTES};

const RECORD_HEADER_BYTES: usize = 16;
/// Record header of Alexey Kuznetsov's modified libpcap: eight bytes about the interface follow the
/// usual ones (<https://wiki.wireshark.org/Development/LibpcapFileFormat>).
const MODIFIED_HEADER_BYTES: usize = 24;

/// Magic, nanoseconds of a unit of time, and length of a record's header.
const KINDS: [(u32, u32, usize); 3] = [
    (MICROSECONDS, 1000, RECORD_HEADER_BYTES),
    (NANOSECONDS, 1, RECORD_HEADER_BYTES),
    (MODIFIED, 1000, MODIFIED_HEADER_BYTES),
];

/// A reader of packets; the buffer is behind the file's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pcap {
    order: Order,
    /// Nanoseconds of one unit in the second half of a time stamp.
    unit_ns: u32,
    header_bytes: usize,
    link: u16,
}

impl Pcap {
    /// Reads the file's header; `None` if it is no pcap file.
    pub(crate) fn open(buffer: &mut Buffer) -> Result<Option<Self>, CaptureFault> {
        if !buffer.has(4)? {
            return Ok(None);
        }
        let Some((order, unit_ns, header_bytes)) = kind_of(buffer.window()) else {
            return Ok(None);
        };
        if !buffer.has(PCAP_BYTES)? {
            return Err(CaptureFault::Damaged { offset: 0, problem: Problem::Header });
        }
        // The upper half has the length of the frame check sequence.
        let link = order.u32(buffer.window(), 20) as u16;
        buffer.consume(PCAP_BYTES);
        // Some systems wrote their own number of raw IP, DLT_RAW: OpenBSD 14, others 12.
        let link = if matches!(link, 12 | 14) { RAW } else { link };
        Ok(Some(Self { order, unit_ns, header_bytes, link }))
    }

    /// The next packet. `None` at the end, and at the header of a further capture.
    #[inline]
    pub(crate) fn next(
        &mut self,
        buffer: &mut Buffer,
        skipped: &mut SkippedCounts,
    ) -> Result<Option<BufferedPacket>, CaptureFault> {
        if !buffer.has(self.header_bytes)? {
            buffer.cut(skipped);
            return Ok(None);
        }
        let Some(header) = buffer.window().first_chunk::<RECORD_HEADER_BYTES>() else {
            return Ok(None);
        };
        let seconds = self.order.u32(header, 0);
        let fraction = self.order.u32(header, 4);
        let captured = self.order.u32(header, 8);
        let wire_length = self.order.u32(header, 12);
        let length = captured as usize;
        // One comparison for those that are too long, and for those without a byte.
        if length.wrapping_sub(1) >= PACKET_BYTES_MAX {
            if header::length(buffer.window()).is_some() {
                return Ok(None);
            }
            if length > 0 {
                return Err(too_long(buffer, captured));
            }
        }
        if !buffer.has(self.header_bytes + length)? {
            buffer.cut(skipped);
            return Ok(None);
        }
        let start = buffer.consume(self.header_bytes + length) + self.header_bytes;
        Ok(Some(BufferedPacket {
            time_ns: nanoseconds(seconds, u64::from(fraction) * u64::from(self.unit_ns)),
            link: self.link,
            wire_length,
            interface: 0,
            start,
            length,
        }))
    }
}

/// The byte order, the nanoseconds of a unit of time and the length of a record's header of a file
/// that begins with these bytes, at least four.
fn kind_of(bytes: &[u8]) -> Option<(Order, u32, usize)> {
    [Order::Little, Order::Big].into_iter().find_map(|order| {
        let magic = order.u32(bytes, 0);
        let (_, unit_ns, header_bytes) = KINDS.into_iter().find(|kind| kind.0 == magic)?;
        Some((order, unit_ns, header_bytes))
    })
}

/// Where such a length is, the records after it cannot be found.
#[cold]
fn too_long(buffer: &Buffer, captured: u32) -> CaptureFault {
    CaptureFault::Damaged { offset: buffer.offset(), problem: Problem::PacketLength(captured) }
}
