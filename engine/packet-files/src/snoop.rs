//! Captures of Solaris' snoop (RFC 1761).

use crate::buffer::Buffer;
use crate::bytes::{Order, nanoseconds};
use crate::error::{CaptureFault, Problem};
use crate::frame::{BufferedPacket, ETHERNET, FDDI, PACKET_BYTES_MAX, SkippedCounts, TOKEN_RING};

const MAGIC: &[u8] = b"snoop\0\0\0";
const FILE_HEADER_BYTES: usize = 16;
const RECORD_HEADER_BYTES: usize = 24;
const SNOOP_VERSION: u32 = 2;
/// All numbers are in this order.
const SNOOP_ORDER: Order = Order::Big;

/// A reader of packets; the buffer is behind the file's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snoop {
    link: u16,
    /// Bytes between the last packet and the next record: reading on while they are skipped would
    /// overwrite the packet that was lent.
    padding: u64,
}

impl Snoop {
    /// Reads the file's header; `None` if it is no snoop file.
    pub(crate) fn open(buffer: &mut Buffer) -> Result<Option<Self>, CaptureFault> {
        if !buffer.has(MAGIC.len())? || !buffer.window().starts_with(MAGIC) {
            return Ok(None);
        }
        if !buffer.has(FILE_HEADER_BYTES)? {
            return Err(CaptureFault::Damaged { offset: 0, problem: Problem::Header });
        }
        let version = SNOOP_ORDER.u32(buffer.window(), 8);
        if version != SNOOP_VERSION {
            return Err(CaptureFault::Damaged { offset: 8, problem: Problem::Version(version) });
        }
        // "Datalink Type" of RFC 1761.
        let link = match SNOOP_ORDER.u32(buffer.window(), 12) {
            0 | 4 => ETHERNET,
            2 => TOKEN_RING,
            8 => FDDI,
            number => {
                return Err(CaptureFault::Unsupported { records: "a snoop data link", number });
            }
        };
        buffer.consume(FILE_HEADER_BYTES);
        Ok(Some(Self { link, padding: 0 }))
    }

    /// The next packet.
    pub(crate) fn next(
        &mut self,
        buffer: &mut Buffer,
        skipped: &mut SkippedCounts,
    ) -> Result<Option<BufferedPacket>, CaptureFault> {
        loop {
            buffer.skip(std::mem::take(&mut self.padding), skipped)?;
            if !buffer.has(RECORD_HEADER_BYTES)? {
                buffer.cut(skipped);
                return Ok(None);
            }
            let header = buffer.window();
            let wire_length = SNOOP_ORDER.u32(header, 0);
            let length = SNOOP_ORDER.u32(header, 4) as usize;
            let record = SNOOP_ORDER.u32(header, 8);
            let (seconds, microseconds) =
                (SNOOP_ORDER.u32(header, 16), SNOOP_ORDER.u32(header, 20));
            if (record as usize).saturating_sub(RECORD_HEADER_BYTES) < length
                || (record as usize) < RECORD_HEADER_BYTES
            {
                let problem = Problem::RecordLength(record);
                return Err(CaptureFault::Damaged { offset: buffer.offset(), problem });
            }
            if length > PACKET_BYTES_MAX {
                skipped.oversized_packets += 1;
                buffer.skip(u64::from(record), skipped)?;
                continue;
            }
            if !buffer.has(RECORD_HEADER_BYTES + length)? {
                buffer.cut(skipped);
                return Ok(None);
            }
            let start = buffer.consume(RECORD_HEADER_BYTES + length) + RECORD_HEADER_BYTES;
            self.padding = u64::from(record) - (RECORD_HEADER_BYTES + length) as u64;
            return Ok(Some(BufferedPacket {
                time_ns: nanoseconds(seconds, u64::from(microseconds) * 1000),
                link: self.link,
                wire_length,
                interface: 0,
                start,
                length,
            }));
        }
    }
}
