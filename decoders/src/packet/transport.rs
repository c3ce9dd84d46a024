//! The headers behind IP: TCP (RFC 9293), UDP (RFC 768), SCTP (RFC 9260), ICMP (RFC 792, RFC 4443)
//! and the first words of others.

use super::bytes::{FrameRemainder, be16, be32};
use super::ip::{self, Ip};

pub use super::ip::protocol;

/// Length in bytes of the header of UDP.
pub const UDP_BYTES: usize = 8;

/// Bits of the flags of TCP.
pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// Bits for the options of TCP (`include/argus_def.h` of argus 3.0.8, `ARGUS_TCP_*`).
pub mod option {
    pub const SEGMENT_SIZE: u32 = 0x0010_0000;
    pub const WINDOW_SCALE: u32 = 0x0020_0000;
    pub const SACK_PERMITTED: u32 = 0x0040_0000;
    pub(super) const SACK: u32 = 0x0080_0000;
    pub const TIMESTAMP: u32 = 0x0400_0000;
}

/// The ports, which TCP, UDP and SCTP have at the same place; `None` if they were not captured.
#[inline]
pub fn ports(payload: &[u8]) -> Option<(u16, u16)> {
    Some((be16(payload, 0)?, be16(payload, 2)?))
}

/// The flags of TCP; 0 if they were not captured.
#[inline]
pub fn tcp_flags(payload: &[u8]) -> u8 {
    payload.get(13).copied().unwrap_or(0)
}

/// Whether the checksum of a whole TCP segment or UDP datagram is right (RFC 9293 §3.1). That of a
/// packet which the capture cut, and of one whose sender's card computes it, is not.
pub fn has_right_checksum(ip: &Ip<'_>) -> bool {
    if ip.fragment.is_some() || ip.payload.len() != ip.payload_length as usize {
        return false;
    }
    let words = |address: u128| (address >> 96) + (address >> 64 & WORD) + (address >> 32 & WORD);
    let low = |address: u128| address & WORD;
    let addresses = [ip.source, ip.destination].map(|one| (words(one) + low(one)) as u64);
    let header =
        addresses[0] + addresses[1] + u64::from(ip.payload_length + u32::from(ip.protocol));
    // Words of 32 bits have the same sum as those of 16 (RFC 1071 §2).
    let (words, rest) = ip.payload.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain([&last]).map(|word| u64::from(u32::from_be_bytes(*word)));
    (header + words.sum::<u64>()) % u64::from(u16::MAX) == 0
}

/// The lowest 32 bits.
const WORD: u128 = 0xffff_ffff;

/// A TCP header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tcp<'a> {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    /// The options that are present: bits of [`option`].
    pub options: u32,
    /// The shift of the window, if the option is present.
    pub window_scale: Option<u8>,
    /// What was captured of the data.
    pub data: &'a [u8],
    /// Length in bytes of the data on the wire.
    pub data_length: u32,
}

impl<'a> Tcp<'a> {
    /// Decodes a header; `None` if it was not captured whole but for its options.
    #[inline]
    pub fn decode(payload: &'a [u8], length: u32) -> Option<Self> {
        let header: &[u8; 20] = payload.first_chunk()?;
        let header_length = usize::from(header[12] >> 4) * 4;
        let mut tcp = Self {
            sequence: be32(header, 4)?,
            acknowledgement: be32(header, 8)?,
            flags: header[13],
            window: be16(header, 14)?,
            data: payload.get(header_length.max(20)..).unwrap_or_default(),
            data_length: length.saturating_sub(header_length.max(20) as u32),
            ..Self::default()
        };
        if header_length > 20 {
            tcp.read_options(payload.get(20..header_length.min(payload.len()))?);
        }
        Some(tcp)
    }

    #[inline]
    fn read_options(&mut self, mut bytes: &[u8]) {
        // As nearly all segments have them: padding, and a time stamp of ten bytes.
        if let [1, 1, 8, 10, _, _, _, _, _, _, _, _] = bytes {
            self.options |= option::TIMESTAMP;
            return;
        }
        // Each turn takes a byte at least.
        while let Some((&kind, after)) = bytes.split_first() {
            match kind {
                0 => break,
                1 => {
                    bytes = after;
                    continue;
                }
                _ => {}
            }
            let length = after.first().map_or(0, |&length| usize::from(length));
            let Some(option) = bytes.get(..length).filter(|option| option.len() >= 2) else {
                break;
            };
            self.options |= match kind {
                2 => option::SEGMENT_SIZE,
                3 => {
                    self.window_scale = option.get(2).copied();
                    option::WINDOW_SCALE
                }
                4 => option::SACK_PERMITTED,
                5 => option::SACK,
                // Echo and its reply, which RFC 6247 has retired.
                6 => 0x0100_0000,
                7 => 0x0200_0000,
                8 => option::TIMESTAMP,
                _ => 0,
            };
            bytes = &bytes[length..];
        }
    }
}

/// A header of ICMP or ICMPv6.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Icmp<'a> {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    /// The second word: identifier and sequence number, gateway, or others.
    pub word: u32,
    /// What was captured behind both words.
    pub rest: &'a [u8],
}

impl<'a> Icmp<'a> {
    /// Decodes a header; `None` if not even type and code were captured. What else was not captured
    /// is zero.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let &[kind, code] = payload.first_chunk()?;
        Some(Self {
            kind,
            code,
            checksum: be16(payload, 2).unwrap_or_default(),
            word: be32(payload, 4).unwrap_or_default(),
            rest: payload.get(8..).unwrap_or_default(),
        })
    }

    /// The identifier of an echo, a time stamp or a mask.
    pub const fn id(&self) -> u16 {
        (self.word >> 16) as u16
    }

    /// The sequence number of an echo, a time stamp or a mask.
    pub const fn sequence(&self) -> u16 {
        self.word as u16
    }

    /// The packet that an error message quotes; `None` if its header was not captured.
    pub fn quoted(&self) -> Option<Ip<'a>> {
        ip::header(FrameRemainder { bytes: self.rest, length: self.rest.len() as u32 })
    }
}

/// The beginning of an ESP packet: RFC 4303 §2.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Esp {
    /// The security parameter index.
    pub spi: u32,
    pub sequence: u32,
}

impl Esp {
    /// Decodes the header; `None` if it was not captured.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        Some(Self { spi: be32(payload, 0)?, sequence: be32(payload, 4)? })
    }
}
