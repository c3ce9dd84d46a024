//! DTLS: the records and fragments that carry the hellos in datagrams (RFC 6347 §4.1 and §4.2.2).
//! The first records of DTLS 1.3 are alike (RFC 9147 §4).

use super::Reader;

/// The type of a record with handshake messages.
const HANDSHAKE: u8 = 22;
/// The first byte of all versions, whose numbers go down: 0xfeff is 1.0, 0xfefd 1.2, 0xfefc 1.3.
const VERSION: u8 = 0xfe;

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
    matches!(datagram, [HANDSHAKE, VERSION, 0xfc..=0xff, 0, 0, ..])
}

/// The fragments of a datagram, in their order. They end with the first record that is of another
/// type or encrypted, and with the first fragment that is not whole.
pub const fn fragments(datagram: &[u8]) -> Fragments<'_> {
    Fragments { record: Reader::new(&[]), rest: Reader::new(datagram) }
}

/// Fragments in a row.
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    record: Reader<'a>,
    rest: Reader<'a>,
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
            self.record = Reader::new(self.rest.take_up_to(usize::from(length)));
        }
        let (kind, length) = (self.record.u8()?, number(self.record.array()?));
        let (sequence, offset) = (self.record.u16()?, number(self.record.array()?));
        let bytes = number(self.record.array()?) as usize;
        let data = self.record.take_up_to(bytes);
        if data.len() < bytes {
            (self.record, self.rest) = (Reader::default(), Reader::default());
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

    #[test]
    fn encrypted_records_and_those_of_tls_are_none() {
        let mut other = record(5, &[(0, b"abcde")]);
        other[4] = 1; // The epoch.
        assert!(!is_handshake(&other));
        assert!(!is_handshake(&[22, 3, 1, 0, 0]));
    }
}
