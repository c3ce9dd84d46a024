//! Buffers of the streams whose beginnings are put together.
//!
//! They are as many as were made. If all are in use, one is given to another stream, and that is
//! counted: first those of streams whose other end is silent, the oldest of them. So senders of
//! forged packets take room from each other only. One source has a part of it at most.
//!
//! Senders of forged packets have a buffer taken with each packet. So the oldest one is found
//! without a search.

use panoptes_tables::{HashKey, room};

use super::stream::Buffer;

/// Number of streams that are put together at once.
const BUFFERS: usize = 1024;
/// The most of them that one source has for streams whose other end is silent.
const SILENT_MAX: usize = 64;
/// Bits of the number of a list, which has the buffers of some sources.
const LIST_BITS: u32 = 10;
/// The most entries in the order of age before stale ones are removed: rare enough to cost nothing.
const AGES: usize = 4 * BUFFERS;
/// No buffer.
const NONE: u16 = u16::MAX;
const _: () = assert!(SILENT_MAX < BUFFERS && BUFFERS < NONE as usize);

/// The owner of a buffer.
#[derive(Clone, Copy, Debug)]
struct BufferOwner {
    /// When the stream got it, counted in buffers. 0: it is free.
    since: u64,
    stream: u32,
    /// The source of the stream: an address of IPv4, or a hash.
    source: u32,
    /// The next older and the next newer buffer of the same list.
    older: u16,
    newer: u16,
}

impl BufferOwner {
    const NONE: Self = Self { since: 0, stream: 0, source: 0, older: NONE, newer: NONE };
}

/// When a stream got a buffer, and the number of the buffer.
#[derive(Clone, Copy, Debug)]
struct Age {
    since: u64,
    number: u16,
}

impl Age {
    /// Whether the stream still has it.
    fn is_valid(self, owners: &[BufferOwner]) -> bool {
        owners.get(usize::from(self.number)).is_some_and(|owner| owner.since == self.since)
    }
}

/// Buffers from the oldest one on, and stale entries of those that were given back or taken away.
#[derive(Debug)]
struct Ages {
    all: Vec<Age>,
    /// Those before this one have been looked at.
    at: usize,
}

impl Ages {
    fn new() -> Self {
        Self { all: room::list(AGES), at: 0 }
    }

    fn push(&mut self, age: Age, owners: &[BufferOwner]) {
        if self.all.len() == AGES {
            self.all.drain(..self.at);
            self.all.retain(|age| age.is_valid(owners));
            self.at = 0;
        }
        self.all.push(age);
    }

    /// Takes the oldest one that a stream still has.
    fn pop(&mut self, owners: &[BufferOwner]) -> Option<Age> {
        while let Some(age) = self.all.get(self.at).copied() {
            self.at += 1;
            if age.is_valid(owners) {
                return Some(age);
            }
        }
        None
    }
}

/// Buffers of some streams.
#[derive(Debug)]
pub(super) struct StreamBuffers {
    all: Vec<Buffer>,
    free: Vec<u16>,
    owners: Box<[BufferOwner]>,
    /// The newest buffer of each list.
    newest: Box<[u16]>,
    /// A secret odd number that chooses the list of a source: senders choose their addresses.
    factor: u32,
    /// Buffers of streams whose other end was silent when it was last looked at, and of others.
    silent: Ages,
    answered: Ages,
    taken: u64,
    /// Buffers that were taken from a stream that still needed it.
    pub(super) reclaimed: u64,
}

impl StreamBuffers {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            all: room::list(BUFFERS),
            free: room::list(BUFFERS),
            owners: room::copies(BufferOwner::NONE, BUFFERS),
            newest: room::copies(NONE, 1 << LIST_BITS),
            factor: key.derive("sources of streams").hash_numbers([0]) as u32 | 1,
            silent: Ages::new(),
            answered: Ages::new(),
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
        self.give(number, stream, source);
        self.all[usize::from(number)].clear();
        (number, lost)
    }

    /// The oldest one of a source, if it has too many.
    fn excess_of(&self, source: u32, is_silent: &impl Fn(u32) -> bool) -> Option<u16> {
        let (mut count, mut oldest) = (0, None);
        let mut number = self.newest[self.list_of(source)];
        while let Some(owner) = self.owners.get(usize::from(number)) {
            if owner.source == source && is_silent(owner.stream) {
                (count, oldest) = (count + 1, Some(number));
            }
            number = owner.older;
        }
        oldest.filter(|_| count >= SILENT_MAX)
    }

    /// The oldest one of a stream whose other end is silent, or else of any. All are in use.
    fn oldest(&mut self, is_silent: &impl Fn(u32) -> bool) -> u16 {
        while let Some(age) = self.silent.pop(&self.owners) {
            if is_silent(self.owners[usize::from(age.number)].stream) {
                return age.number;
            }
            self.answered.push(age, &self.owners);
        }
        self.answered.pop(&self.owners).map_or(0, |age| age.number)
    }

    /// Takes a buffer from its stream, which is returned.
    fn reclaim(&mut self, number: u16) -> u32 {
        self.reclaimed += 1;
        let stream = self.owners[usize::from(number)].stream;
        self.release(number);
        stream
    }

    fn give(&mut self, number: u16, stream: u32, source: u32) {
        let list = self.list_of(source);
        let older = std::mem::replace(&mut self.newest[list], number);
        if let Some(older) = self.owners.get_mut(usize::from(older)) {
            older.newer = number;
        }
        let since = self.taken;
        self.owners[usize::from(number)] =
            BufferOwner { since, stream, source, older, newer: NONE };
        self.silent.push(Age { since, number }, &self.owners);
    }

    /// Removes a buffer from the list of its source.
    fn release(&mut self, number: u16) {
        let owner = std::mem::replace(&mut self.owners[usize::from(number)], BufferOwner::NONE);
        let list = self.list_of(owner.source);
        if let Some(older) = self.owners.get_mut(usize::from(owner.older)) {
            older.newer = owner.newer;
        }
        match self.owners.get_mut(usize::from(owner.newer)) {
            Some(newer) => newer.older = owner.older,
            None => self.newest[list] = owner.older,
        }
    }

    /// Gives a buffer back.
    pub(super) fn give_back(&mut self, number: u16) {
        self.release(number);
        self.free.push(number);
    }

    /// The list of a source.
    const fn list_of(&self, source: u32) -> usize {
        (source.wrapping_mul(self.factor) >> (u32::BITS - LIST_BITS)) as usize
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
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Each stream has a source of its own.
    fn full(is_silent: impl Fn(u32) -> bool + Copy) -> StreamBuffers {
        let mut buffers = StreamBuffers::new(HashKey::new(7));
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
        let mut buffers = StreamBuffers::new(HashKey::new(7));
        for stream in 0..SILENT_MAX as u32 {
            assert_eq!(buffers.take(stream, 1, |_| true).1, None);
        }
        assert_eq!(buffers.take(7000, 1, |_| true).1, Some(0));
        assert_eq!(buffers.take(7001, 2, |_| true).1, None);
        assert_eq!(buffers.take(7002, 1, |_| true).1, Some(1));
        // A machine with many clients behind it whose servers answer.
        assert_eq!(buffers.take(7003, 1, |_| false).1, None);
    }

    /// What has a buffer: when it was taken, and the stream. All are searched each time.
    #[derive(Default)]
    struct Model {
        owners: Vec<(u64, u32)>,
        taken: u64,
    }

    /// Streams of the same hundred have the same source.
    const fn source_of(stream: u32) -> u32 {
        stream / 100
    }

    impl Model {
        fn take(&mut self, stream: u32, is_silent: impl Fn(u32) -> bool) -> Option<u32> {
            self.taken += 1;
            let of_source =
                |one: &&(u64, u32)| source_of(one.1) == source_of(stream) && is_silent(one.1);
            let count = self.owners.iter().filter(of_source).count();
            let lost = if count >= SILENT_MAX {
                self.owners.iter().filter(of_source).min().copied()
            } else if self.owners.len() == BUFFERS {
                self.owners.iter().min_by_key(|one| (!is_silent(one.1), one.0)).copied()
            } else {
                None
            };
            self.owners.retain(|one| Some(*one) != lost);
            self.owners.push((self.taken, stream));
            lost.map(|one| one.1)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn streams_lose_what_a_search_finds(
            steps in proptest::collection::vec((0..6_u8, 0..20_000_u32), 9000),
        ) {
            let (mut buffers, mut model) = (StreamBuffers::new(HashKey::new(7)), Model::default());
            let answered = RefCell::new(BTreeSet::new());
            let is_silent = |stream: u32| !answered.borrow().contains(&stream);
            let mut numbers = std::collections::BTreeMap::new();
            for (step, stream) in steps {
                match (step, numbers.get(&stream)) {
                    (0, Some(number)) => {
                        buffers.give_back(*number);
                        numbers.remove(&stream);
                        model.owners.retain(|one| one.1 != stream);
                        answered.borrow_mut().remove(&stream);
                    }
                    (1, _) => {
                        let all: Vec<u32> = numbers.keys().copied().collect();
                        if let Some(one) = all.get(stream as usize % all.len().max(1)) {
                            answered.borrow_mut().insert(*one);
                        }
                    }
                    (_, None) => {
                        answered.borrow_mut().remove(&stream);
                        let (number, lost) = buffers.take(stream, source_of(stream), is_silent);
                        prop_assert_eq!(lost, model.take(stream, is_silent));
                        if let Some(lost) = lost {
                            numbers.remove(&lost);
                        }
                        prop_assert!(numbers.insert(stream, number).is_none());
                    }
                    _ => {}
                }
                prop_assert_eq!(numbers.len(), model.owners.len());
            }
        }
    }
}
