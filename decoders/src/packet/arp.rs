//! ARP and RARP: RFC 826, RFC 903.

use super::bytes::{be16, be32};

/// What an ARP or RARP packet is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArpOperation {
    Request,
    Reply,
    /// RARP: which address has this hardware?
    ReverseRequest,
    ReverseReply,
}

/// An ARP or RARP packet of Ethernet and IPv4.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arp {
    pub operation: ArpOperation,
    pub sender_hardware: [u8; 6],
    pub sender: u32,
    pub target_hardware: [u8; 6],
    pub target: u32,
}

/// Length in bytes of a packet for Ethernet and IPv4.
const LENGTH: usize = 28;

/// Decodes a packet for Ethernet and IPv4; `None` for other ones.
pub(super) fn decode(bytes: &[u8]) -> Option<Arp> {
    let bytes: &[u8; LENGTH] = bytes.first_chunk()?;
    // Protocol IPv4, six bytes of hardware address, four of protocol address.
    if be16(bytes, 2)? != super::ethertype::IPV4 || bytes[4] != 6 || bytes[5] != 4 {
        return None;
    }
    let operation = match be16(bytes, 6)? {
        1 => ArpOperation::Request,
        2 => ArpOperation::Reply,
        3 => ArpOperation::ReverseRequest,
        4 => ArpOperation::ReverseReply,
        _ => return None,
    };
    Some(Arp {
        operation,
        sender_hardware: *bytes[8..].first_chunk()?,
        sender: be32(bytes, 14)?,
        target_hardware: *bytes[18..].first_chunk()?,
        target: be32(bytes, 24)?,
    })
}
