//! pcapng files (draft-ietf-opsawg-pcapng), also with sections of both byte orders.

use crate::buffer::{Buffer, CAPTURE_BUFFER_BYTES};
use crate::bytes::Order;
use crate::error::{CaptureFault, Problem};
use crate::frame::{BufferedPacket, PACKET_BYTES_MAX, RAW, SkippedCounts};
use crate::header::{self, BYTE_ORDER_MAGIC, MARK_BYTES, SECTION, SECTION_BYTES};

/// Largest block that is read as a whole: a packet, and as much for its options.
const BLOCK_BYTES_MAX: usize = 2 * PACKET_BYTES_MAX;
const _: () = assert!(BLOCK_BYTES_MAX <= CAPTURE_BUFFER_BYTES, "the largest block is read whole");
/// Interfaces of one section. Files with more than some hundreds are not known.
const SECTION_INTERFACES_MAX: usize = 65_536;
/// Type, length, and the length again.
const BLOCK_BYTES_MIN: usize = 12;
/// Type, lengths, link type and limit of an interface's description without options.
const INTERFACE_BYTES: usize = 20;
/// Headers of blocks up to the packet's bytes.
const ENHANCED_HEADER_BYTES: usize = 28;
const SIMPLE_HEADER_BYTES: usize = 12;

const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Blocks without packets: names (4), counters (5), journal entries (9), keys (10).
const WITHOUT_PACKETS: [u32; 4] = [4, 5, 9, 10];
/// Higher types are rare, and one of them may be the magic of a pcap file.
const LAST_COMMON: u32 = 10;

/// `opt_endofopt` (§3.5).
const END_OF_OPTIONS: u16 = 0;
/// `if_tsresol` and `if_tsoffset` (§4.2).
const TIME_RESOLUTION: u16 = 9;
const TIME_OFFSET: u16 = 14;

/// How many nanoseconds a unit of time has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TimeResolution {
    /// A unit is so many nanoseconds.
    Multiple(u64),
    /// So many units are a nanosecond. 0 is more than 64 bits have.
    Divided(u64),
    /// A unit is 2^-n seconds.
    Binary(u8),
}

impl TimeResolution {
    const MICROSECONDS: Self = Self::Multiple(1000);

    /// The value of `if_tsresol`.
    fn of(option: u8) -> Self {
        let exponent = u32::from(option & 0x7f);
        if option & 0x80 != 0 {
            Self::Binary(option & 0x7f)
        } else if exponent <= 9 {
            Self::Multiple(10_u64.pow(9 - exponent))
        } else {
            Self::Divided(10_u64.checked_pow(exponent - 9).unwrap_or(0))
        }
    }

    #[inline]
    fn nanoseconds(self, units: u64) -> i64 {
        let all = match self {
            Self::Multiple(by) => units.saturating_mul(by),
            Self::Divided(by) => units.checked_div(by).unwrap_or(0),
            Self::Binary(bits) => {
                let all = (u128::from(units) * 1_000_000_000) >> bits;
                u64::try_from(all).unwrap_or(u64::MAX)
            }
        };
        i64::try_from(all).unwrap_or(i64::MAX)
    }
}

#[derive(Clone, Copy, Debug)]
struct PcapNgInterface {
    link: u16,
    /// Limit of captured bytes; 0 is none.
    snap_length: u32,
    resolution: TimeResolution,
    offset_ns: i64,
}

/// A reader of packets.
#[derive(Debug)]
pub(crate) struct PcapNg {
    order: Order,
    interfaces: Vec<PcapNgInterface>,
    /// Number in the capture of the section's first interface.
    first_interface: u32,
    last_ns: i64,
}

/// A packet in its block; `start` is relative to it.
struct PcapNgPacket {
    interface: u32,
    time: Option<u64>,
    captured: usize,
    wire_length: u32,
    start: usize,
}

/// Why the packet of a block is skipped.
enum Unusable {
    /// It does not fit in the block, or has no interface.
    Damaged,
    Oversized,
}

impl PcapNg {
    /// `None` if it is no pcapng file.
    pub(crate) fn open(buffer: &mut Buffer) -> Result<Option<Self>, CaptureFault> {
        if !buffer.has(4)? || Order::Little.u32(buffer.window(), 0) != SECTION {
            return Ok(None);
        }
        if !buffer.has(SECTION_BYTES)? {
            return Err(CaptureFault::Damaged { offset: 0, problem: Problem::Header });
        }
        let interfaces = Vec::new();
        Ok(Some(Self { order: Order::Little, interfaces, first_interface: 0, last_ns: 0 }))
    }

    /// The next packet. `None` at the end, and at the header of a further capture that is no
    /// pcapng.
    #[inline]
    pub(crate) fn next(
        &mut self,
        buffer: &mut Buffer,
        skipped: &mut SkippedCounts,
    ) -> Result<Option<BufferedPacket>, CaptureFault> {
        loop {
            if !buffer.has(BLOCK_BYTES_MIN)? {
                buffer.cut(skipped);
                return Ok(None);
            }
            let kind = self.order.u32(buffer.window(), 0);
            if kind == SECTION && !self.section(buffer)? {
                buffer.cut(skipped);
                return Ok(None);
            }
            if kind > LAST_COMMON && kind != SECTION && is_other_header(buffer)? {
                return Ok(None);
            }
            let length = self.block_length(buffer)?;
            if length > BLOCK_BYTES_MAX {
                skip_large(buffer, kind, length, skipped)?;
                continue;
            }
            if !buffer.has(length)? {
                buffer.cut(skipped);
                return Ok(None);
            }
            let offset = buffer.offset();
            let block = &buffer.window()[..length];
            let again = self.order.u32(block, length - 4);
            if again as usize != length {
                let problem = Problem::BlockLengths(length as u32, again);
                return Err(CaptureFault::Damaged { offset, problem });
            }
            match kind {
                ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET => {
                    let found = self.packet(kind, block);
                    let at = buffer.consume(length);
                    match found {
                        Ok(found) => {
                            return Ok(Some(BufferedPacket { start: found.start + at, ..found }));
                        }
                        Err(Unusable::Damaged) => skipped.damaged_packets += 1,
                        Err(Unusable::Oversized) => skipped.oversized_packets += 1,
                    }
                    continue;
                }
                INTERFACE => self.interface(block, offset)?,
                SECTION => {}
                _ if WITHOUT_PACKETS.contains(&kind) => {}
                _ => skipped.unknown_records += 1,
            }
            buffer.consume(length);
        }
    }

    /// The length of the block at the start of the window, checked.
    #[inline]
    fn block_length(&self, buffer: &Buffer) -> Result<usize, CaptureFault> {
        let length = self.order.u32(buffer.window(), 4);
        if (length as usize) < BLOCK_BYTES_MIN || !length.is_multiple_of(4) {
            let problem = Problem::RecordLength(length);
            return Err(CaptureFault::Damaged { offset: buffer.offset(), problem });
        }
        Ok(length as usize)
    }

    /// Begins a section; its block is not consumed. `false` if the capture ends within it.
    fn section(&mut self, buffer: &mut Buffer) -> Result<bool, CaptureFault> {
        let offset = buffer.offset();
        let damaged = |problem| Err(CaptureFault::Damaged { offset, problem });
        if !buffer.has(SECTION_BYTES)? {
            return Ok(false);
        }
        let header = buffer.window();
        let orders = [Order::Little, Order::Big];
        let found = orders.into_iter().find(|order| order.u32(header, 8) == BYTE_ORDER_MAGIC);
        let Some(order) = found else { return damaged(Problem::ByteOrder) };
        let length = order.u32(header, 4);
        if (length as usize) < SECTION_BYTES {
            return damaged(Problem::RecordLength(length));
        }
        let major = order.u16(header, 12);
        if major != 1 {
            return damaged(Problem::Version(major.into()));
        }
        self.order = order;
        self.first_interface = self.first_interface.saturating_add(self.interfaces.len() as u32);
        self.interfaces.clear();
        Ok(true)
    }

    /// Adds an interface.
    #[cold]
    fn interface(&mut self, block: &[u8], offset: u64) -> Result<(), CaptureFault> {
        let damaged = |problem| Err(CaptureFault::Damaged { offset, problem });
        if block.len() < INTERFACE_BYTES {
            return damaged(Problem::RecordLength(block.len() as u32));
        }
        if self.interfaces.len() >= SECTION_INTERFACES_MAX {
            return damaged(Problem::Interfaces(SECTION_INTERFACES_MAX));
        }
        let link = self.order.u16(block, 8);
        let mut interface = PcapNgInterface {
            link: if matches!(link, 12 | 14) { RAW } else { link },
            snap_length: self.order.u32(block, 12),
            resolution: TimeResolution::MICROSECONDS,
            offset_ns: 0,
        };
        let mut options = &block[INTERFACE_BYTES - 4..block.len() - 4];
        while options.len() >= 4 {
            let (code, length) = (self.order.u16(options, 0), self.order.u16(options, 2));
            let value = options.get(4..4 + usize::from(length)).unwrap_or_default();
            match (code, value) {
                (END_OF_OPTIONS, _) => break,
                (TIME_RESOLUTION, [resolution]) => {
                    interface.resolution = TimeResolution::of(*resolution);
                }
                (TIME_OFFSET, [_, _, _, _, _, _, _, _]) => {
                    let seconds = self.order.u64(value, 0) as i64;
                    interface.offset_ns = seconds.saturating_mul(1_000_000_000);
                }
                _ => {}
            }
            let next = 4 + usize::from(length).next_multiple_of(4);
            options = options.get(next..).unwrap_or_default();
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// The packet of a whole block; `start` is relative to it.
    #[inline]
    fn packet(&mut self, kind: u32, block: &[u8]) -> Result<BufferedPacket, Unusable> {
        let packet = match kind {
            ENHANCED_PACKET => self.enhanced(block),
            SIMPLE_PACKET => self.simple(block),
            _ => self.obsolete(block),
        };
        let packet = packet.ok_or(Unusable::Damaged)?;
        let interface = self.interfaces.get(packet.interface as usize);
        let interface = interface.ok_or(Unusable::Damaged)?;
        let room = block.len() - 4 - packet.start;
        if packet.captured > room {
            return Err(Unusable::Damaged);
        }
        if packet.captured > PACKET_BYTES_MAX {
            return Err(Unusable::Oversized);
        }
        if let Some(time) = packet.time {
            let since = interface.resolution.nanoseconds(time);
            self.last_ns = since.saturating_add(interface.offset_ns);
        }
        Ok(BufferedPacket {
            time_ns: self.last_ns,
            link: interface.link,
            wire_length: packet.wire_length,
            interface: self.first_interface.saturating_add(packet.interface),
            start: packet.start,
            length: packet.captured,
        })
    }

    /// §4.3.
    #[inline]
    fn enhanced(&self, block: &[u8]) -> Option<PcapNgPacket> {
        let (header, _) = checked_header::<ENHANCED_HEADER_BYTES>(block)?;
        let interface = self.order.u32(header, 8);
        Some(self.timed(header, interface))
    }

    /// §4.4: the interface is the first one, and its limit is how much was captured.
    fn simple(&self, block: &[u8]) -> Option<PcapNgPacket> {
        let (header, room) = checked_header::<SIMPLE_HEADER_BYTES>(block)?;
        let wire_length = self.order.u32(header, 8);
        let limit = match self.interfaces.first()?.snap_length {
            0 => u32::MAX,
            limit => limit,
        };
        let captured = room.min(wire_length.min(limit) as usize);
        Some(PcapNgPacket { interface: 0, time: None, captured, wire_length, start: header.len() })
    }

    /// "Packet Block" of the draft, which is obsolete. It has 16 bits of interface, 16 of drops.
    fn obsolete(&self, block: &[u8]) -> Option<PcapNgPacket> {
        let (header, _) = checked_header::<ENHANCED_HEADER_BYTES>(block)?;
        let interface = self.order.u16(header, 8).into();
        Some(self.timed(header, interface))
    }

    /// What follows the interface in both.
    #[inline]
    fn timed(&self, header: &[u8; ENHANCED_HEADER_BYTES], interface: u32) -> PcapNgPacket {
        let time = self.order.u32(header, 12);
        PcapNgPacket {
            interface,
            time: Some(u64::from(time) << 32 | u64::from(self.order.u32(header, 16))),
            captured: self.order.u32(header, 20) as usize,
            wire_length: self.order.u32(header, 24),
            start: ENHANCED_HEADER_BYTES,
        }
    }
}

/// The header of a block, and how many bytes are between it and the length at the end.
#[inline]
fn checked_header<const N: usize>(block: &[u8]) -> Option<(&[u8; N], usize)> {
    let room = block.len().checked_sub(N + 4)?;
    Some((block.first_chunk::<N>()?, room))
}

/// Whether another capture begins in the place of a block.
#[cold]
fn is_other_header(buffer: &mut Buffer) -> Result<bool, CaptureFault> {
    Ok(buffer.has(MARK_BYTES)? && header::length(buffer.window()).is_some())
}

/// Skips a block that is too large to be read as a whole.
#[cold]
fn skip_large(
    buffer: &mut Buffer,
    kind: u32,
    length: usize,
    skipped: &mut SkippedCounts,
) -> Result<(), CaptureFault> {
    match kind {
        ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET => skipped.oversized_packets += 1,
        // Packets after it could not be understood.
        INTERFACE => {
            let problem = Problem::RecordLength(length as u32);
            return Err(CaptureFault::Damaged { offset: buffer.offset(), problem });
        }
        SECTION => {}
        _ if WITHOUT_PACKETS.contains(&kind) => {}
        _ => skipped.unknown_records += 1,
    }
    buffer.skip(length as u64, skipped)?;
    Ok(())
}
