//! The packets in a block of the ring, and the bytes that the kernel took out of them.
//!
//! The kernel removes the outer VLAN tag of a packet and keeps it beside the packet. A cooked one
//! has lost its link layer too. Both are written back in front of the packet. The ring has room for
//! that (PACKET_RESERVE), as libpcap uses it, so the packet is not copied.
//!
//! Every offset in a block is checked against the block.

use panoptes_decoders::packet::link_type::{COOKED, ETHERNET};

use crate::link::COOKED_BYTES;
use crate::ring::prefetch;

/// Length of a VLAN tag: its type, and the tag itself.
pub(crate) const TAG_BYTES: usize = 4;
/// Two addresses come before the tag in an Ethernet header.
const ADDRESSES_BYTES: usize = 12;
/// Type of a tag if the kernel does not give it (IEEE 802.1Q).
const TYPE_VLAN: u16 = 0x8100;

/// Number of packets beyond the next one whose memory is fetched. In `examples/live_speed.rs` 3
/// packets halve the time of long ones, and 1 changes little.
const PACKETS_AHEAD: usize = 3;

/// Offsets in the header of a block (`struct tpacket_block_desc`, `struct tpacket_hdr_v1`).
const PACKETS: usize = 12;
const FIRST_PACKET: usize = 16;

/// Offsets in the header of a packet (`struct tpacket3_hdr`).
const NEXT: usize = 0;
const SECONDS: usize = 4;
const NANOSECONDS: usize = 8;
const CAPTURED: usize = 12;
const LENGTH: usize = 16;
const STATUS: usize = 20;
const START: usize = 24;
const TAG: usize = 32;
const TAG_TYPE: usize = 36;
/// Length of the header of a packet, to where its address begins.
const HEADER_BYTES: usize = 48;

/// Offsets in the address of a packet (`struct sockaddr_ll`).
const PROTOCOL: usize = HEADER_BYTES + 2;
const INDEX: usize = HEADER_BYTES + 4;
const HARDWARE: usize = HEADER_BYTES + 8;
const PACKET_TYPE: usize = HEADER_BYTES + 10;
const ADDRESS_LENGTH: usize = HEADER_BYTES + 11;
const ADDRESS: usize = HEADER_BYTES + 12;
/// Length of both; what is between them and the packet is free.
const HEADERS_BYTES: usize = HEADER_BYTES + 20;

/// The place in a block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BlockCursor {
    /// Offset of the next packet.
    at: usize,
    /// Number of packets that are left.
    left: u32,
}

/// A packet that was found in a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BlockPacket {
    pub(crate) time_ns: i64,
    pub(crate) wire_length: u32,
    /// Offset of the first byte in the block, and number of captured bytes.
    pub(crate) start: usize,
    pub(crate) length: usize,
    /// Number of the interface.
    pub(crate) index: u32,
    /// ARPHRD_ of the interface.
    pub(crate) hardware: u16,
    /// PACKET_HOST and the others of `include/uapi/linux/if_packet.h`.
    pub(crate) packet_type: u8,
}

/// How the packets of a socket are completed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LinkHeaderKind {
    /// The packet is whole but for its VLAN tag.
    Ethernet,
    Cooked,
    /// No tag belongs into it.
    Other,
}

impl LinkHeaderKind {
    pub(crate) fn of_link(link: u16) -> Self {
        match link {
            ETHERNET => Self::Ethernet,
            COOKED => Self::Cooked,
            _ => Self::Other,
        }
    }
}

impl BlockCursor {
    /// The beginning of a block.
    pub(crate) fn begin(block: &[u8]) -> Self {
        let at = word(block, FIRST_PACKET).map_or(usize::MAX, |at| at as usize);
        Self { at, left: word(block, PACKETS).unwrap_or(0) }
    }

    /// Number of packets that are left.
    pub(crate) fn left(self) -> u32 {
        self.left
    }

    /// The next packet, completed. `None` at the end, and if a length in the block is wrong.
    #[inline]
    pub(crate) fn next(&mut self, block: &mut [u8], form: LinkHeaderKind) -> Option<BlockPacket> {
        if self.left == 0 {
            return None;
        }
        let packet = block.get_mut(self.at..)?;
        let headers: &[u8; HEADERS_BYTES] = packet.first_chunk()?;
        let next = word(headers, NEXT)? as usize;
        let mut found = BlockPacket {
            time_ns: i64::from(word(headers, SECONDS)?) * 1_000_000_000
                + i64::from(word(headers, NANOSECONDS)?),
            wire_length: word(headers, LENGTH)?,
            start: usize::from(half(headers, START)?),
            length: word(headers, CAPTURED)? as usize,
            index: word(headers, INDEX)?,
            hardware: half(headers, HARDWARE)?,
            packet_type: headers[PACKET_TYPE],
        };
        if found.start < HEADERS_BYTES || packet.len() - HEADERS_BYTES < found.length {
            return None;
        }
        let tag = tag(headers);
        match (form, tag) {
            (LinkHeaderKind::Cooked, tag) => cook(packet, &mut found, tag)?,
            (LinkHeaderKind::Ethernet, Some(tag)) => insert(packet, &mut found, tag)?,
            _ => {}
        }
        packet.get(found.start..found.start.checked_add(found.length)?)?;
        found.start += self.at;
        self.left -= 1;
        if self.left > 0 {
            self.at = self.at.checked_add(next)?;
            // The kernel wrote it on another processor. Packets of a transfer are of one length, so
            // the place of a later packet can be guessed.
            prefetch(block, self.at.wrapping_add(next.wrapping_mul(PACKETS_AHEAD)));
        }
        Some(found)
    }
}

/// The VLAN tag that the kernel removed, with its type, as on the wire.
#[inline]
fn tag(headers: &[u8; HEADERS_BYTES]) -> Option<[u8; TAG_BYTES]> {
    let (status, tag) = (word(headers, STATUS)?, word(headers, TAG)?);
    if status & libc::TP_STATUS_VLAN_VALID == 0 && tag == 0 {
        return None;
    }
    let kind = match status & libc::TP_STATUS_VLAN_TPID_VALID {
        0 => TYPE_VLAN,
        _ => half(headers, TAG_TYPE)?,
    };
    let ([a, b], [c, d]) = (kind.to_be_bytes(), (tag as u16).to_be_bytes());
    Some([a, b, c, d])
}

/// Inserts a tag behind the addresses of an Ethernet header; the addresses move.
fn insert(packet: &mut [u8], found: &mut BlockPacket, tag: [u8; TAG_BYTES]) -> Option<()> {
    if found.length < ADDRESSES_BYTES {
        return Some(()); // cut before the tag
    }
    let start = found.start.checked_sub(TAG_BYTES).filter(|start| *start >= HEADERS_BYTES)?;
    let end = found.start + ADDRESSES_BYTES;
    if end > packet.len() {
        return None;
    }
    packet.copy_within(found.start..end, start);
    packet[end - TAG_BYTES..end].copy_from_slice(&tag);
    found.start = start;
    lengthen(found, TAG_BYTES);
    Some(())
}

/// Writes a cooked header: packet type, hardware, length of the address, address, protocol. A tag
/// stands between the address and the protocol, as in Ethernet.
fn cook(packet: &mut [u8], found: &mut BlockPacket, tag: Option<[u8; TAG_BYTES]>) -> Option<()> {
    let mut header = [0; COOKED_BYTES + TAG_BYTES];
    header[1] = found.packet_type;
    header[2..4].copy_from_slice(&found.hardware.to_be_bytes());
    header[5] = *packet.get(ADDRESS_LENGTH)?;
    header[6..14].copy_from_slice(packet.get(ADDRESS..ADDRESS + 8)?);
    let mut length = COOKED_BYTES;
    if let Some(tag) = tag {
        header[length - 2..length + 2].copy_from_slice(&tag);
        length += TAG_BYTES;
    }
    header[length - 2..length].copy_from_slice(packet.get(PROTOCOL..PROTOCOL + 2)?);
    let start = found.start.checked_sub(length).filter(|start| *start >= HEADERS_BYTES)?;
    packet.get_mut(start..found.start)?.copy_from_slice(&header[..length]);
    found.start = start;
    lengthen(found, length);
    Some(())
}

fn lengthen(found: &mut BlockPacket, bytes: usize) {
    found.length += bytes;
    found.wire_length = found.wire_length.saturating_add(bytes as u32);
}

/// A word of the kernel, in the byte order of this machine.
#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline]
fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
