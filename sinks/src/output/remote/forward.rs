//! The Forward protocol of Fluentd and Fluent Bit, version 1, in its Forward mode:
//! `[tag, [[time, record], …], {"size": number, "chunk": text}]`. The receiver answers each message
//! with `{"ack": text}` when it has it.

use panoptes_records::json::time::{TIMESTAMP_LENGTH, Timestamp};
use rmp::encode::{write_array_len, write_map_len, write_str, write_uint};

use crate::output::form::msgpack::{self, ARRAY_32};

/// Makes messages for one receiver.
#[derive(Debug)]
pub struct Forward {
    tag: String,
    /// Whether the lists of interfaces are left out where the receiver has them already, over this
    /// connection.
    pub(super) is_compact: bool,
    /// The chunks of this sender have this prefix.
    seed: u64,
    chunk: u64,
    /// Where the number of records belongs in the message that is made.
    count_at: usize,
}

/// 16 digits for the sender, 16 for the message.
const CHUNK_BYTES: usize = 32;
/// `EventTime`: an extension of type 0 with 8 bytes.
const EVENT_TIME: [u8; 2] = [0xd7, 0x00];

impl Forward {
    /// Messages with this tag. `seed` differs between senders.
    pub fn new(tag: &str, is_compact: bool, seed: u64) -> Self {
        Self { tag: tag.to_owned(), is_compact, seed, chunk: 0, count_at: 0 }
    }

    /// Begins a message, up to its records; returns its chunk.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) -> u64 {
        self.chunk += 1;
        // Writing to memory does not fail.
        let _ = write_array_len(out, 3);
        let _ = write_str(out, &self.tag);
        out.extend_from_slice(&[ARRAY_32, 0, 0, 0, 0]);
        self.count_at = out.len() - 4;
        self.chunk
    }

    /// Ends the message, which has so many records.
    pub(super) fn end(&self, records: u64, out: &mut Vec<u8>) {
        let count = (records as u32).to_be_bytes();
        out[self.count_at..self.count_at + count.len()].copy_from_slice(&count);
        let _ = write_map_len(out, 2);
        let _ = write_str(out, "size");
        let _ = write_uint(out, records);
        let _ = write_str(out, "chunk");
        out.extend_from_slice(&[0xd9, CHUNK_BYTES as u8]);
        for half in [self.seed, self.chunk] {
            out.extend((0..16).map(|digit| HEX[(half >> (60 - 4 * digit) & 15) as usize]));
        }
    }

    /// The message that an acknowledgement is about, if it is one of this sender's.
    fn chunk_of(&self, text: &[u8]) -> Option<u64> {
        let text = str::from_utf8(text).ok().filter(|text| text.len() == CHUNK_BYTES)?;
        let (seed, chunk) = text.split_at_checked(CHUNK_BYTES / 2)?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        (number(seed)? == self.seed).then_some(number(chunk)?)
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends a record with its time; `None`, and nothing, if it cannot be read.
pub(super) fn append_entry(
    time: &[u8; TIMESTAMP_LENGTH],
    record: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    let start = out.len();
    let (seconds, nanoseconds) = Timestamp::parse(time)?.parts();
    let _ = write_array_len(out, 2);
    out.extend_from_slice(&EVENT_TIME);
    out.extend_from_slice(&u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&nanoseconds.to_be_bytes());
    if msgpack::append(record, out).is_err() {
        out.truncate(start);
        return None;
    }
    Some(())
}

/// What has arrived from the receiver and is not read.
#[derive(Debug)]
pub(super) struct Acks {
    bytes: Vec<u8>,
}

/// The receiver answers with something else than acknowledgements.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("its answer is no acknowledgement of the Forward protocol")]
pub(super) struct NoAck;

/// No acknowledgement is longer.
const ACK_BYTES_MAX: usize = 256;

impl Acks {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(2 * ACK_BYTES_MAX) }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Reads what has arrived: calls `acknowledged` with each message's chunk.
    pub(super) fn read(
        &mut self,
        mut arrived: &[u8],
        forward: &Forward,
        mut acknowledged: impl FnMut(u64),
    ) -> Result<(), NoAck> {
        loop {
            let room = (self.bytes.capacity() - self.bytes.len()).min(arrived.len());
            let (now, later) = arrived.split_at(room);
            self.bytes.extend_from_slice(now);
            arrived = later;
            let mut used = 0;
            while let Some((text, length)) = ack(&self.bytes[used..])? {
                if let Some(chunk) = forward.chunk_of(text) {
                    acknowledged(chunk);
                }
                used += length;
            }
            self.bytes.drain(..used);
            if self.bytes.len() > ACK_BYTES_MAX {
                return Err(NoAck);
            }
            if arrived.is_empty() {
                return Ok(());
            }
        }
    }
}

/// The text of the acknowledgement at the beginning of these bytes, and its length; `None` if there
/// is only a part of it.
fn ack(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, NoAck> {
    // A map with one entry, whose key is `ack`.
    const START: [u8; 5] = [0x81, 0xa3, b'a', b'c', b'k'];
    let known = bytes.len().min(START.len());
    if bytes[..known] != START[..known] {
        return Err(NoAck);
    }
    let (length, at) = match *bytes.get(START.len()..).unwrap_or_default() {
        [head @ 0xa0..=0xbf, ..] => (usize::from(head & 31), START.len() + 1),
        [0xd9 | 0xc4, length, ..] => (usize::from(length), START.len() + 2),
        [] | [0xd9 | 0xc4] => return Ok(None),
        _ => return Err(NoAck),
    };
    Ok(bytes.get(at..at + length).map(|text| (text, at + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack_of(forward: &Forward, chunk: u64) -> Vec<u8> {
        let text = format!("{:016x}{chunk:016x}", forward.seed);
        [&b"\x81\xa3ack\xd9\x20"[..], text.as_bytes()].concat()
    }

    fn read(acks: &mut Acks, arrived: &[u8], forward: &Forward) -> Result<Vec<u64>, NoAck> {
        let mut chunks = Vec::new();
        acks.read(arrived, forward, |chunk| chunks.push(chunk)).map(|()| chunks)
    }

    #[test]
    fn a_message_is_as_the_protocol_has_it() {
        let mut forward = Forward::new("t", false, 0xab);
        let mut out = Vec::new();
        assert_eq!(forward.begin(&mut out), 1);
        let time = b"1970-01-01T00:01:40.000000007+00:00";
        append_entry(time, b"{\"a\":1}", &mut out).unwrap();
        assert_eq!(append_entry(time, b"{", &mut out), None);
        forward.end(1, &mut out);
        let expected = [
            &b"\x93\xa1t\xdd\0\0\0\x01\x92\xd7\0\0\0\0\x64\0\0\0\x07\xdf\0\0\0\x01\xa1a\x01"[..],
            b"\x82\xa4size\x01\xa5chunk\xd9\x2000000000000000ab0000000000000001",
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn acknowledgements_are_read_in_any_pieces() {
        let forward = Forward::new("t", false, u64::MAX);
        let all: Vec<u8> = (1..=40).flat_map(|chunk| ack_of(&forward, chunk)).collect();
        for length in [1, 7, 39, 500, all.len()] {
            let mut acks = Acks::new();
            let pieces = all.chunks(length);
            let read: Vec<u64> =
                pieces.flat_map(|piece| read(&mut acks, piece, &forward).unwrap()).collect();
            assert!(read.into_iter().eq(1..=40));
        }
    }

    #[test]
    fn other_answers_are_refused_and_acknowledgements_of_others_ignored() {
        let forward = Forward::new("t", false, 1);
        let other = Forward::new("t", false, 2);
        assert_eq!(read(&mut Acks::new(), &ack_of(&other, 7), &forward), Ok(vec![]));
        assert_eq!(read(&mut Acks::new(), b"\x81\xa3ack\xa1x", &forward), Ok(vec![]));
        for wrong in [&b"HTTP/1.1 400"[..], b"\x81\xa3acx", b"\x81\xa3ack\x01"] {
            assert_eq!(read(&mut Acks::new(), wrong, &forward), Err(NoAck));
        }
    }
}
