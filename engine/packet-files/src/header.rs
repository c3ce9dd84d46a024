//! Headers of pcap files and of pcapng sections. One may begin a further capture within a stream: a
//! FIFO whose writer was started again, or captures one behind the other.
//!
//! They are searched only where a record begins, and no record of the other formats is like them: a
//! packet without a byte that had none on the wire, or a block of an unknown type.

use crate::bytes::Order;

/// Magic of a pcap file with time stamps in microseconds.
pub(crate) const MICROSECONDS: u32 = 0xa1b2_c3d4;
pub(crate) const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Magic of a file of the modified libpcap.
pub(crate) const MODIFIED: u32 = 0xa1b2_cd34;
/// Length of a pcap file's header.
pub(crate) const PCAP_BYTES: usize = 24;
/// The version of pcap that all programs write.
const PCAP_VERSION: (u16, u16) = (2, 4);

/// Type of a pcapng section's header, the same in both byte orders (draft-ietf-opsawg-pcapng §4.1).
pub(crate) const SECTION: u32 = 0x0a0d_0d0a;
/// "Byte-Order Magic" (the same section).
pub(crate) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// A section header without options.
pub(crate) const SECTION_BYTES: usize = 28;

/// Enough to recognise a header.
pub(crate) const MARK_BYTES: usize = 16;

/// The length of the header with which a further capture begins, if one does.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    let mark = bytes.first_chunk::<MARK_BYTES>()?;
    [Order::Little, Order::Big].into_iter().find_map(|order| {
        let is_pcap = is_pcap(mark, order).then_some(PCAP_BYTES);
        is_pcap.or_else(|| is_section(mark, order).then_some(SECTION_BYTES))
    })
}

/// The time zone and the accuracy, which are always 0, are where a packet has its two lengths.
fn is_pcap(mark: &[u8; MARK_BYTES], order: Order) -> bool {
    [MICROSECONDS, NANOSECONDS, MODIFIED].contains(&order.u32(mark, 0))
        && (order.u16(mark, 4), order.u16(mark, 6)) == PCAP_VERSION
        && mark[8..] == [0; 8]
}

fn is_section(mark: &[u8; MARK_BYTES], order: Order) -> bool {
    order.u32(mark, 0) == SECTION
        && order.u32(mark, 8) == BYTE_ORDER_MAGIC
        && order.u16(mark, 12) == 1
}
