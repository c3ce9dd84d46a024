//! The first bytes of a stream whose pieces come in any order.
//!
//! Pieces may overlap: what came first stays, unless only the later piece is sure.

use panoptes_decoders::application::quic::CONNECTION_ID_LENGTH_MAX;
use panoptes_records::flow::application::{Application, ApplicationProtocol};

/// The most bytes of a stream that are put together. A hello with a post-quantum key share has
/// about 1.8 KiB.
pub(super) const STREAM_BYTES_MAX: usize = 4096;

/// What a reader of a stream's beginning wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StreamDemand {
    /// Nothing more.
    Done,
    /// The first bytes, so many at least.
    Wait(usize),
}

/// The functions for a protocol whose first message stands at the beginning of a TCP stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamReader {
    pub(super) protocol: ApplicationProtocol,
    /// Whether a stream may begin with the protocol, as far as its data go.
    pub(super) may_begin: fn(&[u8]) -> bool,
    /// Whether data are the beginning of such a stream. They may come from the middle of another
    /// one, so more than a prefix must fit.
    pub(super) begins: fn(&[u8]) -> bool,
    /// Takes the message at the beginning of a stream; the flag says whether a client sends it.
    pub(super) read: fn(&[u8], bool, &mut Application) -> StreamDemand,
}

/// The first bytes of a stream.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    bytes: [u8; STREAM_BYTES_MAX],
    /// A bit for each byte that is present.
    there: [u64; STREAM_BYTES_MAX / 64],
    /// A bit for each byte that the receiver has taken, too, as far as that can be known.
    sure: [u64; STREAM_BYTES_MAX / 64],
    /// How many bytes are there without a gap.
    length: u16,
    /// How many of them the reader waits for.
    pub(super) need: u16,
    /// The connection id from which the keys of QUIC derive, and its length in bytes.
    id: [u8; CONNECTION_ID_LENGTH_MAX],
    id_length: u8,
}

impl Buffer {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; STREAM_BYTES_MAX],
            there: [0; STREAM_BYTES_MAX / 64],
            sure: [0; STREAM_BYTES_MAX / 64],
            length: 0,
            need: 0,
            id: [0; CONNECTION_ID_LENGTH_MAX],
            id_length: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.there.fill(0);
        self.sure.fill(0);
        (self.length, self.need, self.id_length) = (0, 0, 0);
    }

    /// Adds what is at an offset of the stream, as far as there is room. What is sure replaces what
    /// is not.
    pub(super) fn write(&mut self, offset: usize, data: &[u8], is_sure: bool) {
        let room = STREAM_BYTES_MAX.saturating_sub(offset);
        let (mut at, mut rest) = (offset, &data[..data.len().min(room)]);
        while !rest.is_empty() {
            let (word, bit) = (at / 64, at % 64);
            let (part, after) = rest.split_at(rest.len().min(64 - bit));
            let mask = u64::MAX >> (64 - part.len()) << bit;
            let known = if is_sure { self.sure[word] } else { self.there[word] };
            let bytes = &mut self.bytes[at..at + part.len()];
            if known & mask == 0 {
                bytes.copy_from_slice(part);
            } else {
                for (number, (byte, new)) in bytes.iter_mut().zip(part).enumerate() {
                    if known >> (bit + number) & 1 == 0 {
                        *byte = *new;
                    }
                }
            }
            self.there[word] |= mask;
            if is_sure {
                self.sure[word] |= mask;
            }
            (at, rest) = (at + part.len(), after);
        }
        let mut length = usize::from(self.length);
        while let Some(word) = self.there.get(length / 64) {
            let run = (word >> (length % 64)).trailing_ones() as usize;
            length += run;
            if run == 0 || length % 64 != 0 {
                break;
            }
        }
        self.length = length as u16;
    }

    /// The stream up to its first gap.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Whether its first byte may be none of the stream.
    pub(super) const fn has_doubtful_start(&self) -> bool {
        self.length > 0 && self.sure[0] & 1 == 0
    }

    /// Whether a part of it may be none of the stream.
    pub(super) fn is_doubtful(&self) -> bool {
        self.there != self.sure
    }

    /// Whether more of the stream can be kept.
    pub(super) const fn is_full(&self) -> bool {
        self.length as usize == STREAM_BYTES_MAX
    }

    pub(super) fn id(&self) -> &[u8] {
        &self.id[..usize::from(self.id_length)]
    }

    /// Keeps a connection id; longer ones do not exist.
    pub(super) fn set_id(&mut self, id: &[u8]) {
        if let Some(room) = self.id.get_mut(..id.len()) {
            room.copy_from_slice(id);
            self.id_length = id.len() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn buffers_agree_with_bytes(
            pieces in proptest::collection::vec(
                (0..5000_usize, 0..900_usize, any::<bool>()), 0..40,
            ),
        ) {
            let mut buffer = Buffer::new();
            // A byte, and whether it is sure.
            let mut model: Vec<Option<(u8, bool)>> = vec![None; STREAM_BYTES_MAX];
            for (number, (offset, length, is_sure)) in pieces.into_iter().enumerate() {
                let data: Vec<u8> = (0..length).map(|at| (number * 7 + at) as u8).collect();
                buffer.write(offset, &data, is_sure);
                for (at, byte) in (offset..STREAM_BYTES_MAX).zip(data) {
                    if model[at].is_none_or(|known| is_sure && !known.1) {
                        model[at] = Some((byte, is_sure));
                    }
                }
                let expected: Vec<u8> = model.iter().map_while(|byte| Some((*byte)?.0)).collect();
                prop_assert_eq!(buffer.bytes(), &expected[..]);
                prop_assert_eq!(buffer.is_full(), expected.len() == STREAM_BYTES_MAX);
                let is_doubtful = model.iter().flatten().any(|known| !known.1);
                prop_assert_eq!(buffer.is_doubtful(), is_doubtful);
            }
        }
    }
}
