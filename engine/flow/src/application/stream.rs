//! The beginnings of streams whose pieces come in any order.
//!
//! A [`Buffer`] has the first bytes of a stream. Its pieces may overlap: what came first stays,
//! unless only the later piece is sure.
//! [`Buffers`] are as many as were made. If all are in use, one is given to another stream, and
//! that is counted: first those of streams whose other end is silent, the oldest of them. So
//! senders of forged packets take room from each other only. One source has a part of it at most.

use panoptes_tables::room;

/// The most bytes of a stream that are put together. A hello with a post-quantum key share has
/// about 1.8 KiB.
pub(super) const STREAM_BYTES_MAX: usize = 4096;
/// Number of streams that are put together at once.
const BUFFERS: usize = 1024;
/// The most of them that one source has for streams whose other end is silent.
const SILENT_MAX: usize = 64;
/// Length in bytes of the longest connection id of QUIC (RFC 9000 §17.2).
const CONNECTION_ID_BYTES_MAX: usize = 20;

/// What a reader of a stream's beginning wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Nothing more.
    Done,
    /// The first bytes, so many at least.
    Wait(usize),
}

/// The first bytes of a stream.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    bytes: [u8; STREAM_BYTES_MAX],
    /// A bit for each byte that is there.
    there: [u64; STREAM_BYTES_MAX / 64],
    /// A bit for each byte that the receiver has taken, too, as far as that can be known.
    sure: [u64; STREAM_BYTES_MAX / 64],
    /// How many bytes are there without a gap.
    length: u16,
    /// How many of them the reader waits for.
    pub(super) need: u16,
    /// Of QUIC, the id that the keys derive from, and its length.
    id: [u8; CONNECTION_ID_BYTES_MAX],
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
            id: [0; CONNECTION_ID_BYTES_MAX],
            id_length: 0,
        }
    }

    fn clear(&mut self) {
        self.there.fill(0);
        self.sure.fill(0);
        (self.length, self.need, self.id_length) = (0, 0, 0);
    }

    /// Adds what is at an offset of the stream, as far as there is room. What is sure replaces what
    /// is not.
    pub(super) fn write(&mut self, offset: usize, data: &[u8], is_sure: bool) {
        let room = STREAM_BYTES_MAX.saturating_sub(offset);
        for (at, &byte) in (offset..).zip(data.iter().take(room)) {
            let (word, bit) = (at / 64, 1 << (at % 64));
            let known = if is_sure { &mut self.sure } else { &mut self.there };
            if known[word] & bit == 0 {
                known[word] |= bit;
                self.there[word] |= bit;
                self.bytes[at] = byte;
            }
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

/// The owner of a buffer.
#[derive(Clone, Copy, Debug, Default)]
struct Owner {
    /// When the stream got it, counted in buffers. 0: it is free.
    since: u64,
    stream: u32,
    /// The source of the stream, as a hash.
    source: u32,
}

/// Buffers of some streams.
#[derive(Debug)]
pub(super) struct Buffers {
    all: Vec<Buffer>,
    free: Vec<u16>,
    owners: Box<[Owner]>,
    taken: u64,
    /// Buffers that were taken from a stream that still needed it.
    pub(super) reclaimed: u64,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            all: room::list(BUFFERS),
            free: room::list(BUFFERS),
            owners: room::copies(Owner::default(), BUFFERS),
            taken: 0,
            reclaimed: 0,
        }
    }

    /// An empty buffer for a stream of a source, and the stream that has lost it. `is_silent` tells
    /// whether the other end of a stream has sent nothing.
    pub(super) fn take(
        &mut self,
        stream: u32,
        source: u32,
        is_silent: impl Fn(u32) -> bool,
    ) -> (u16, Option<u32>) {
        self.taken += 1;
        let of_source = self.excess_of(source, &is_silent);
        let (number, lost) = if let Some(number) = of_source {
            (number, Some(self.reclaim(number)))
        } else if let Some(number) = self.free.pop() {
            (number, None)
        } else if self.all.len() < BUFFERS {
            self.all.push(Buffer::new());
            (self.all.len() as u16 - 1, None)
        } else {
            let number = self.oldest(&is_silent);
            (number, Some(self.reclaim(number)))
        };
        self.owners[usize::from(number)] = Owner { since: self.taken, stream, source };
        self.all[usize::from(number)].clear();
        (number, lost)
    }

    /// The oldest one of a source, if it has too many.
    fn excess_of(&self, source: u32, is_silent: &impl Fn(u32) -> bool) -> Option<u16> {
        let has =
            |owner: &Owner| owner.since > 0 && owner.source == source && is_silent(owner.stream);
        let all = || self.owners.iter().zip(0..).filter(|(owner, _)| has(owner));
        if all().count() < SILENT_MAX {
            return None;
        }
        all().min_by_key(|(owner, _)| owner.since).map(|(_, number)| number)
    }

    /// The oldest one of a stream whose other end is silent, or else of any.
    fn oldest(&self, is_silent: &impl Fn(u32) -> bool) -> u16 {
        let key = |owner: &Owner| (!is_silent(owner.stream), owner.since);
        let oldest = self.owners.iter().zip(0..).min_by_key(|(owner, _)| key(owner));
        oldest.map_or(0, |(_, number)| number)
    }

    fn reclaim(&mut self, number: u16) -> u32 {
        self.reclaimed += 1;
        self.owners[usize::from(number)].stream
    }

    /// Gives a buffer back.
    pub(super) fn give_back(&mut self, number: u16) {
        self.owners[usize::from(number)] = Owner::default();
        self.free.push(number);
    }

    pub(super) fn peek(&self, number: u16) -> &Buffer {
        &self.all[usize::from(number)]
    }

    pub(super) fn get(&mut self, number: u16) -> &mut Buffer {
        &mut self.all[usize::from(number)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn buffers_agree_with_bytes(
            pieces in proptest::collection::vec((0..5000_usize, 0..900_usize), 0..40),
        ) {
            let (mut buffer, mut model) = (Buffer::new(), vec![None; STREAM_BYTES_MAX]);
            for (number, (offset, length)) in pieces.into_iter().enumerate() {
                let data = vec![number as u8; length];
                buffer.write(offset, &data, true);
                for at in (offset..offset + length).filter(|at| *at < STREAM_BYTES_MAX) {
                    model[at].get_or_insert(number as u8);
                }
                let expected: Vec<u8> = model.iter().map_while(|byte| *byte).collect();
                prop_assert_eq!(buffer.bytes(), &expected[..]);
                prop_assert_eq!(buffer.is_full(), expected.len() == STREAM_BYTES_MAX);
            }
        }
    }

    /// Each stream has a source of its own.
    fn full(is_silent: impl Fn(u32) -> bool + Copy) -> Buffers {
        let mut buffers = Buffers::new();
        for stream in 0..BUFFERS as u32 {
            assert_eq!(buffers.take(stream, stream, is_silent).1, None);
        }
        buffers
    }

    #[test]
    fn the_buffer_that_was_taken_first_is_reclaimed() {
        let mut buffers = full(|_| true);
        buffers.give_back(0);
        buffers.get(1).write(0, b"old", true);
        assert_eq!(buffers.take(7000, 7000, |_| true), (0, None), "the free one");
        assert_eq!(buffers.take(7001, 7001, |_| true), (1, Some(1)));
        assert_eq!(buffers.get(1).bytes(), b"");
        assert_eq!(buffers.reclaimed, 1);
        assert_eq!(buffers.take(7002, 7002, |_| true), (2, Some(2)));
    }

    #[test]
    fn streams_whose_other_end_is_silent_are_reclaimed_first() {
        let is_silent = |stream: u32| stream % 100 == 50 || stream >= 7000;
        let mut buffers = full(is_silent);
        for (new, lost) in (7000..).zip((50..BUFFERS as u32).step_by(100)) {
            assert_eq!(buffers.take(new, new, is_silent).1, Some(lost));
        }
        // Then those that came instead of them.
        assert_eq!(buffers.take(8000, 8000, is_silent).1, Some(7000));
        assert_eq!(full(|_| false).take(8000, 8000, |_| false).1, Some(0));
    }

    #[test]
    fn a_source_loses_its_own_streams() {
        let mut buffers = Buffers::new();
        for stream in 0..SILENT_MAX as u32 {
            assert_eq!(buffers.take(stream, 1, |_| true).1, None);
        }
        assert_eq!(buffers.take(7000, 1, |_| true).1, Some(0));
        assert_eq!(buffers.take(7001, 2, |_| true).1, None);
        assert_eq!(buffers.take(7002, 1, |_| true).1, Some(1));
        // A machine with many clients behind it whose servers answer.
        assert_eq!(buffers.take(7003, 1, |_| false).1, None);
    }
}
