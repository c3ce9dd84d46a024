//! What QUIC does not encrypt: the long headers of version 1 (RFC 9000 §17.2), of version 2
//! (RFC 9369), and of any version as far as all have it (RFC 8999).
//!
//! The client's hello is in an Initial packet. A key that everybody can derive from the connection
//! id encrypts it (RFC 9001 §5.2). Decryption needs AES-128-GCM and HKDF and is not here.

use super::WireReader;

/// Version 1: RFC 9000.
pub const VERSION_1: u32 = 1;
/// Version 2: RFC 9369.
pub const VERSION_2: u32 = 0x6b33_43cf;
/// Maximum length in bytes of a connection id in these versions.
pub const CONNECTION_ID_LENGTH_MAX: usize = 20;
/// Length in bytes of the integrity tag at the end of a Retry (RFC 9001 §5.8).
const RETRY_TAG_LENGTH: usize = 16;

/// The type of a packet with a long header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LongPacketKind<'a> {
    /// Data before the handshake is complete.
    EarlyData,
    Handshake,
    /// The first packets of a connection. The token is one that the server gave before.
    Initial {
        token: &'a [u8],
    },
    /// The client has to ask again with this token.
    Retry {
        token: &'a [u8],
    },
    /// The header belongs to a version that is not decoded.
    Unknown,
    /// The versions that the server speaks, in four bytes each.
    VersionNegotiation {
        versions: &'a [u8],
    },
}

/// A packet with a long header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LongHeader<'a> {
    /// 0 in a version negotiation.
    pub version: u32,
    pub destination_id: &'a [u8],
    pub source_id: &'a [u8],
    pub kind: LongPacketKind<'a>,
    /// The protected packet number and the encrypted payload, as far as the data has them. Empty if
    /// the kind has none.
    pub payload: &'a [u8],
    /// Length in bytes of the header: where `payload` begins.
    pub header_length: usize,
    /// Length in bytes of the part of the payload that the data did not have.
    pub missing: usize,
    /// The packets behind this one in the same datagram.
    pub rest: &'a [u8],
}

impl<'a> LongHeader<'a> {
    /// Decodes the first packet of a datagram; `None` if it has a short header, or is no QUIC.
    pub fn decode(datagram: &'a [u8]) -> Option<Self> {
        let mut reader = WireReader::new(datagram);
        let first = reader.u8()?;
        if first & 0x80 == 0 {
            return None;
        }
        let version = reader.u32()?;
        let (destination_id, source_id) = (reader.vector8()?, reader.vector8()?);
        let mut header = Self {
            version,
            destination_id,
            source_id,
            kind: LongPacketKind::Unknown,
            payload: &[],
            header_length: datagram.len() - reader.bytes.len(),
            missing: 0,
            rest: &[],
        };
        if version == 0 {
            header.kind = LongPacketKind::VersionNegotiation { versions: reader.bytes };
        }
        if version != VERSION_1 && version != VERSION_2 {
            return Some(header);
        }
        // The second bit is set; a client may clear it only if both sides agree (RFC 9287).
        if first & 0x40 == 0 || destination_id.len().max(source_id.len()) > CONNECTION_ID_LENGTH_MAX
        {
            return None;
        }
        header.read_kind(first >> 4 & 3, reader)?;
        Some(header)
    }

    fn read_kind(&mut self, number: u8, mut reader: WireReader<'a>) -> Option<()> {
        // Version 2 has the same types under numbers higher by one (RFC 9369 §3.2).
        let number = if self.version == VERSION_2 { number.wrapping_sub(1) & 3 } else { number };
        let before = reader.bytes.len();
        self.kind = match number {
            0 => {
                let length = variable(&mut reader)?;
                LongPacketKind::Initial { token: reader.take(usize::try_from(length).ok()?)? }
            }
            1 => LongPacketKind::EarlyData,
            2 => LongPacketKind::Handshake,
            _ => {
                let length = reader.bytes.len().checked_sub(RETRY_TAG_LENGTH)?;
                self.kind = LongPacketKind::Retry { token: reader.take(length)? };
                self.header_length += before;
                return Some(());
            }
        };
        let length = usize::try_from(variable(&mut reader)?).ok()?;
        self.header_length += before - reader.bytes.len();
        self.payload = reader.take_up_to(length);
        self.missing = length - self.payload.len();
        self.rest = reader.bytes;
        Some(())
    }
}

/// Reads a number of 1, 2, 4 or 8 bytes: RFC 9000 §16.
fn variable(reader: &mut WireReader<'_>) -> Option<u64> {
    let first = reader.u8()?;
    let more = (1 << (first >> 6)) - 1;
    let bytes = reader.take(more)?;
    Some(bytes.iter().fold(u64::from(first & 0x3f), |all, &byte| all << 8 | u64::from(byte)))
}
