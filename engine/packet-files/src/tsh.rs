//! NLANR's Time Sequenced Headers (TSH): 44 bytes a packet, no file header.
//!
//! A record has four bytes of seconds, one byte with the number of the interface, three bytes of
//! microseconds, 20 bytes of the IPv4 header and 16 bytes of the TCP header, as NLANR's project
//! Passive Measurement and Analysis (PMA) published it.

use crate::buffer::Buffer;
use crate::bytes::{Order, nanoseconds};
use crate::error::{CaptureFault, Problem};
use crate::frame::{BufferedPacket, IPV4, SkippedCounts};

const RECORD_BYTES: usize = 44;
const TSH_STAMP_BYTES: usize = 8;
/// All numbers are in this order.
const TSH_ORDER: Order = Order::Big;

/// Checks that the first record has an IPv4 header.
pub(crate) fn check(buffer: &mut Buffer) -> Result<(), CaptureFault> {
    if buffer.has(RECORD_BYTES)? && buffer.window()[TSH_STAMP_BYTES] >> 4 != 4 {
        return Err(CaptureFault::Damaged { offset: 0, problem: Problem::NotIpv4 });
    }
    Ok(())
}

/// The next packet.
pub(crate) fn next(
    buffer: &mut Buffer,
    skipped: &mut SkippedCounts,
) -> Result<Option<BufferedPacket>, CaptureFault> {
    if !buffer.has(RECORD_BYTES)? {
        buffer.cut(skipped);
        return Ok(None);
    }
    let record = buffer.window();
    let seconds = TSH_ORDER.u32(record, 0);
    let interface = TSH_ORDER.u32(record, 4) >> 24;
    let microseconds = u64::from(TSH_ORDER.u32(record, 4) & 0xff_ffff);
    // "Total Length" of the IPv4 header (RFC 791).
    let wire_length = u32::from(TSH_ORDER.u16(record, TSH_STAMP_BYTES + 2));
    let start = buffer.consume(RECORD_BYTES) + TSH_STAMP_BYTES;
    Ok(Some(BufferedPacket {
        time_ns: nanoseconds(seconds, microseconds * 1000),
        link: IPV4,
        wire_length,
        interface,
        start,
        length: RECORD_BYTES - TSH_STAMP_BYTES,
    }))
}
