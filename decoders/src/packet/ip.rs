//! IPv4 (RFC 791) and IPv6 (RFC 8200) with their options and extension headers.

use super::bytes::{FrameRemainder, be16, be32};

/// Protocol numbers of IANA.
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const GRE: u8 = 47;
    pub const ESP: u8 = 50;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
}

/// Extension headers of IPv6, by their protocol numbers.
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
}

/// The number of extension headers that are read.
const EXTENSIONS_MAX: u32 = 16;

/// Where a fragment lies in its packet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fragment {
    /// In bytes.
    pub offset: u16,
    /// Whether further ones follow.
    pub more: bool,
    pub id: u32,
}

/// An IP header with its options or extension headers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ip<'a> {
    pub is_v6: bool,
    /// As a number; an IPv4 address has its 32 bits in the lowest ones.
    pub source: u128,
    pub destination: u128,
    /// The protocol behind all extension headers and behind AH.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// The identification of IPv4; 0 for IPv6.
    pub id: u16,
    /// The flow label of IPv6.
    pub flow_label: u32,
    /// For a fragment of a larger packet.
    pub fragment: Option<Fragment>,
    /// Whether AH (RFC 4302) is between this header and the payload.
    pub has_ah: bool,
    /// The options of IPv4 that are present: bits of [`options`].
    pub options: u32,
    /// What was captured behind this header.
    pub payload: &'a [u8],
    /// Length in bytes on the wire of what is behind this header.
    pub payload_length: u32,
}

/// Bits for the options of IPv4 (`include/argus_def.h` of argus 3.0.8).
mod options {
    pub(super) const RECORD_ROUTE: u32 = 0x1;
    pub(super) const TIMESTAMP: u32 = 0x2;
    pub(super) const SECURITY: u32 = 0x4;
    pub(super) const LOOSE_ROUTE: u32 = 0x8;
    pub(super) const STREAM_ID: u32 = 0x10;
    pub(super) const STRICT_ROUTE: u32 = 0x20;
    pub(super) const ROUTER_ALERT: u32 = 0x40;
}

/// Decodes the header of either version, of a packet or of one that ICMP quotes.
#[inline(never)]
pub(super) fn header(rest: FrameRemainder<'_>) -> Option<Ip<'_>> {
    let mut ip = fixed_header(rest)?;
    if ip.is_v6 {
        ip.pass_extensions();
    } else if ip.protocol == protocol::AH && ip.is_first_fragment() {
        ip.pass_ah();
    }
    Some(ip)
}

/// Decodes the header without AH and the extension headers of IPv6. Nothing here takes the address
/// of the result, so that it stays in registers.
#[expect(clippy::inline_always, reason = "what is returned would go through memory")]
#[inline(always)]
pub(super) fn fixed_header(rest: FrameRemainder<'_>) -> Option<Ip<'_>> {
    match rest.bytes.first()? >> 4 {
        4 => version_4(rest),
        6 => version_6(rest),
        _ => None,
    }
}

#[inline]
fn version_4(mut rest: FrameRemainder<'_>) -> Option<Ip<'_>> {
    let header: &[u8; 20] = rest.peek()?;
    let header_length = usize::from(header[0] & 15) * 4;
    if header_length < 20 {
        return None;
    }
    let total = u32::from(be16(header, 2)?);
    let fragment = be16(header, 6)?;
    let id = be16(header, 4)?;
    // A length of 0: the network card divides the packet after the capture.
    let length = if total == 0 { rest.length } else { total };
    let payload_length = length.saturating_sub(header_length as u32);
    let options = rest.bytes.get(20..header_length).map_or(0, options_of);
    rest.bytes = rest.bytes.get(header_length..).unwrap_or_default();
    Some(Ip {
        is_v6: false,
        source: u128::from(be32(header, 12)?),
        destination: u128::from(be32(header, 16)?),
        protocol: header[9],
        ttl: header[8],
        tos: header[1],
        id,
        flow_label: 0,
        has_ah: false,
        fragment: (fragment & 0x3fff != 0).then(|| Fragment {
            offset: (fragment & 0x1fff) << 3,
            more: fragment & 0x2000 != 0,
            id: u32::from(id),
        }),
        options,
        payload: up_to(rest.bytes, payload_length),
        payload_length,
    })
}

/// At most `length` bytes: what follows the packet in its frame is padding.
#[inline]
fn up_to(bytes: &[u8], length: u32) -> &[u8] {
    bytes.get(..length as usize).unwrap_or(bytes)
}

fn options_of(mut bytes: &[u8]) -> u32 {
    let mut found = 0;
    // Each turn takes a byte at least.
    while let Some((&kind, after)) = bytes.split_first() {
        found |= match kind {
            0 => break,
            1 => {
                bytes = after;
                continue;
            }
            7 => options::RECORD_ROUTE,
            68 => options::TIMESTAMP,
            130 | 133 => options::SECURITY,
            131 => options::LOOSE_ROUTE,
            136 => options::STREAM_ID,
            137 => options::STRICT_ROUTE,
            148 => options::ROUTER_ALERT,
            _ => 0,
        };
        let length = after.first().map_or(0, |&length| usize::from(length));
        match bytes.get(length.max(2)..) {
            Some(next) if length >= 2 => bytes = next,
            _ => break,
        }
    }
    found
}

#[inline]
fn version_6(mut rest: FrameRemainder<'_>) -> Option<Ip<'_>> {
    let header: &[u8; 40] = rest.take()?;
    let word = be32(header, 0)?;
    // A length of 0: a jumbogram (RFC 2675), or the network card divides the packet.
    let payload_length = match be16(header, 4)? {
        0 => rest.length,
        length => u32::from(length),
    };
    Some(Ip {
        is_v6: true,
        source: u128::from_be_bytes(*header[8..].first_chunk()?),
        destination: u128::from_be_bytes(*header[24..].first_chunk()?),
        protocol: header[6],
        ttl: header[7],
        tos: (word >> 20) as u8,
        flow_label: word & 0xf_ffff,
        payload: up_to(rest.bytes, payload_length),
        payload_length,
        ..Ip::default()
    })
}

impl Ip<'_> {
    pub(super) const fn is_udp(&self) -> bool {
        self.protocol == protocol::UDP
    }

    /// Whether the transport header is in this packet.
    #[inline]
    pub fn is_first_fragment(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.offset == 0)
    }

    /// Goes behind the extension headers of IPv6.
    #[inline]
    fn pass_extensions(&mut self) {
        for _ in 0..EXTENSIONS_MAX {
            match self.protocol {
                extension::HOP_BY_HOP
                | extension::ROUTING
                | extension::DESTINATION_OPTIONS
                | extension::MOBILITY => {
                    let Some(&[next, length]) = self.payload.first_chunk() else { return };
                    if self.protocol == extension::MOBILITY && next == 59 {
                        return;
                    }
                    if !self.pass(next, (usize::from(length) + 1) * 8) {
                        return;
                    }
                }
                extension::FRAGMENT => {
                    let Some(&header) = self.payload.first_chunk::<8>() else { return };
                    let place = u16::from_be_bytes([header[2], header[3]]);
                    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                    // A packet in one piece may have such a header (RFC 6946).
                    if place & 0xfff9 != 0 {
                        let (offset, more) = (place & 0xfff8, place & 1 != 0);
                        self.fragment = Some(Fragment { offset, more, id });
                    }
                    if !self.pass(header[0], 8) || !self.is_first_fragment() {
                        return;
                    }
                }
                protocol::AH => {
                    if !self.pass_ah() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// Goes behind AH, whose length counts words less two (RFC 4302 §2.2).
    fn pass_ah(&mut self) -> bool {
        let Some(&[next, length]) = self.payload.first_chunk() else { return false };
        self.has_ah = self.pass(next, (usize::from(length) + 2) * 4);
        self.has_ah
    }

    fn pass(&mut self, next: u8, length: usize) -> bool {
        let Some(payload) = self.payload.get(length..) else { return false };
        self.protocol = next;
        self.payload = payload;
        self.payload_length = self.payload_length.saturating_sub(length as u32);
        true
    }
}
