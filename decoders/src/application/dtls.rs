//! DTLS: the records and fragments that carry the hellos in datagrams (RFC 6347 §4.1 and §4.2.2).
//! The first records of DTLS 1.3 are alike (RFC 9147 §4).

use super::WireReader;
use super::tls::HANDSHAKE;

/// The first byte of all versions, whose numbers go down: 0xfeff is 1.0, 0xfefd 1.2, 0xfefc 1.3.
const VERSION: u8 = 0xfe;
/// The version of OpenSSL before 0.9.8f, which Cisco's AnyConnect still has (`DTLS1_BAD_VER`).
const VERSION_OLD: [u8; 2] = [1, 0];
/// Length in bytes of the header of a fragment.
const FRAGMENT_HEADER: usize = 12;
/// The highest type of a handshake message that versions of TLS define (IANA).
const KIND_MAX: u8 = 24;

/// A fragment of a handshake message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fragment<'a> {
    /// 1 is a client's hello, 2 a server's.
    pub kind: u8,
    /// Length in bytes of the whole message; 24 bits.
    pub length: u32,
    /// Number of the message among those of its sender.
    pub sequence: u16,
    /// Where the data begin in the message, in bytes.
    pub offset: u32,
    /// What the datagram has of them.
    pub data: &'a [u8],
}

/// Whether a datagram begins with a handshake record that is not encrypted.
pub fn is_handshake(datagram: &[u8]) -> bool {
    match *datagram {
        [HANDSHAKE, VERSION, 0xfc..=0xff, 0, 0, ..] => true,
        [HANDSHAKE, major, minor, 0, 0, ref after @ ..] if [major, minor] == VERSION_OLD => {
            is_old_record(after).unwrap_or(false)
        }
        _ => false,
    }
}

/// Whether this is the rest of a record of the old version, behind its epoch. Other protocols have
/// datagrams that begin as it does, so the rest has to agree.
fn is_old_record(after: &[u8]) -> Option<bool> {
    let mut after = WireReader::new(after);
    let record: [u8; 6] = after.array()?;
    let length = usize::from(after.u16()?);
    let (kind, message) = (after.u8()?, number(after.array()?));
    let _sequence = after.u16()?;
    let (offset, bytes) = (number(after.array()?), number(after.array()?));
    let is_whole = length == FRAGMENT_HEADER + bytes as usize && offset + bytes <= message;
    // No handshake takes so many records.
    let is_early = record[..4] == [0; 4];
    // The bodies of the hellos, and of a server that asks for another one, begin with it.
    let has_version = kind > 3 || offset > 0 || after.array()? == VERSION_OLD;
    Some(is_whole && is_early && (1..=KIND_MAX).contains(&kind) && has_version)
}

/// The fragments of a datagram, in their order. They end with the first record that is of another
/// type or encrypted, and with the first fragment that is not whole.
pub const fn fragments(datagram: &[u8]) -> Fragments<'_> {
    Fragments { record: WireReader::new(&[]), rest: WireReader::new(datagram) }
}

/// Iterator over the fragments of a datagram.
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    record: WireReader<'a>,
    rest: WireReader<'a>,
}

impl<'a> Iterator for Fragments<'a> {
    type Item = Fragment<'a>;

    fn next(&mut self) -> Option<Fragment<'a>> {
        if self.record.bytes.is_empty() {
            if !is_handshake(self.rest.bytes) {
                return None;
            }
            // Type, version, epoch, number of the record.
            self.rest.take(11)?;
            let length = self.rest.u16()?;
            self.record = WireReader::new(self.rest.take_up_to(usize::from(length)));
        }
        let (kind, length) = (self.record.u8()?, number(self.record.array()?));
        let (sequence, offset) = (self.record.u16()?, number(self.record.array()?));
        let bytes = number(self.record.array()?) as usize;
        let data = self.record.take_up_to(bytes);
        if data.len() < bytes {
            (self.record, self.rest) = (WireReader::default(), WireReader::default());
        }
        Some(Fragment { kind, length, sequence, offset, data })
    }
}

const fn number([high, middle, low]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, high, middle, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of version 1.2 with fragments, each with its offset.
    fn record(length: u8, fragments: &[(u8, &[u8])]) -> [u8; 64] {
        let mut all = [0; 64];
        all[..5].copy_from_slice(&[HANDSHAKE, VERSION, 0xfd, 0, 0]);
        let mut at = 13;
        for (offset, data) in fragments {
            let bytes = data.len() as u8;
            let header = [1, 0, 0, length, 0, 7, 0, 0, *offset, 0, 0, bytes];
            all[at..at + 12].copy_from_slice(&header);
            all[at + 12..at + 12 + data.len()].copy_from_slice(data);
            at += 12 + data.len();
        }
        all[12] = (at - 13) as u8;
        all
    }

    #[test]
    fn a_record_has_several_fragments() {
        let record = record(5, &[(0, b"abc"), (3, b"de")]);
        let mut all = fragments(&record);
        let first = all.next().expect("a fragment");
        assert_eq!((first.kind, first.length, first.sequence), (1, 5, 7));
        assert_eq!((first.offset, first.data), (0, &b"abc"[..]));
        let second = all.next().expect("a fragment");
        assert_eq!((second.offset, second.data), (3, &b"de"[..]));
        assert_eq!(all.next(), None, "zeros are no record");
    }

    #[test]
    fn a_fragment_that_is_cut_is_the_last_one() {
        let record = record(5, &[(0, b"abcde")]);
        let mut all = fragments(&record[..13 + 12 + 2]);
        assert_eq!(all.next().expect("a fragment").data, b"ab");
        assert_eq!(all.next(), None);
        assert_eq!(fragments(&record[..20]).next(), None);
        assert_eq!(fragments(&[]).next(), None);
    }

    /// `DTLS1_BAD_VER` of OpenSSL: only the version differs.
    #[test]
    fn the_old_version_is_read_if_the_rest_agrees() {
        let mut old = record(5, &[(0, &[1, 0, 7, 7, 7])]);
        old[1..3].copy_from_slice(&VERSION_OLD);
        assert_eq!(fragments(&old).next().map(|one| one.data), Some(&[1, 0, 7, 7, 7][..]));
        // Another number of the record is right, each other change is not.
        old[10] = 3;
        assert!(is_handshake(&old));
        for (at, byte) in [(3, 1), (5, 1), (12, 16), (13, 25), (16, 4), (21, 1), (24, 6), (25, 3)] {
            let mut other = old;
            other[at] = byte;
            assert!(!is_handshake(&other), "byte {at}");
        }
        assert!(!is_handshake(&old[..24]), "too short");
    }

    #[test]
    fn encrypted_records_and_those_of_tls_are_none() {
        let mut other = record(5, &[(0, b"abcde")]);
        other[4] = 1; // The epoch.
        assert!(!is_handshake(&other));
        assert!(!is_handshake(&[22, 3, 1, 0, 0]));
    }
}
