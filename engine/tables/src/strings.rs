//! Names, each kept once in one arena of fixed size.
//!
//! Paths, command lines and names of areas are interned: rows hold a counted [`StringId`], so that
//! ended objects can still be named. New strings are appended. When the arena is full, it is
//! compacted in place, which changes the offset of a string but not its id. A string that does not
//! fit even then is counted and has no id: its row has no name.

use core::num::NonZeroU32;

use crate::HashKey;
use crate::hash_index::HashIndex;

/// A string in the arena.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct StringId(NonZeroU32);

impl StringId {
    fn new(entry: u32) -> Option<Self> {
        NonZeroU32::new(entry.wrapping_add(1)).map(Self)
    }

    fn entry(self) -> u32 {
        self.0.get() - 1
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: u64,
    /// Offset of its header, or the number of the next free entry.
    offset: u32,
    length: u32,
    uses: u32,
}

/// Length of the longest string that is kept, in bytes.
pub const STRING_BYTES_MAX: usize = 16 * 1024;

/// Header before each string: its entry and its length.
const HEADER_BYTES: usize = 8;
/// The entry number of a released string.
const NO_ENTRY: u32 = u32::MAX;
/// Assumed mean length of strings, which sets their maximum number.
const MEAN_BYTES: usize = 32;
/// Compaction must free at least this fraction of the arena, or it would run at every string.
const GARBAGE_PART: usize = 16;

/// An arena of interned, counted strings.
#[derive(Debug)]
pub struct Strings {
    bytes: Box<[u8]>,
    end: usize,
    garbage: usize,
    entries: Box<[Entry]>,
    free: u32,
    used: u32,
    index: HashIndex,
    key: HashKey,
    refused: u32,
}

impl Strings {
    /// Allocates `capacity` bytes, headers included.
    pub fn new(capacity: usize, key: HashKey) -> Self {
        let capacity = capacity.min(u32::MAX as usize);
        let entries = (capacity / MEAN_BYTES).max(8);
        let mut strings = Self {
            bytes: vec![0; capacity].into_boxed_slice(),
            end: 0,
            garbage: 0,
            entries: vec![Entry::default(); entries].into_boxed_slice(),
            free: NO_ENTRY,
            used: 0,
            index: HashIndex::new(entries),
            key,
            refused: 0,
        };
        strings.clear();
        strings
    }

    /// Adds a string, or one more use of it. If there is no room, counts it and returns `None`.
    pub fn intern(&mut self, text: &[u8]) -> Option<StringId> {
        let hash = self.key.hash(text);
        if let Some(entry) = self.index.find(hash, |entry| self.text(entry) == text) {
            debug_assert!(
                self.entries[entry as usize].uses > 0,
                "the index has no released string"
            );
            self.entries[entry as usize].uses += 1;
            return StringId::new(entry);
        }
        let id = self.append(text, hash);
        if id.is_none() {
            self.refused = self.refused.saturating_add(1);
        }
        id
    }

    fn append(&mut self, text: &[u8], hash: u64) -> Option<StringId> {
        let needed = HEADER_BYTES + text.len();
        if text.len() > STRING_BYTES_MAX || self.free == NO_ENTRY {
            return None;
        }
        if needed > self.bytes.len() - self.end {
            if self.garbage < needed.max(self.bytes.len() / GARBAGE_PART) {
                return None;
            }
            self.compact();
        }
        let number = self.free;
        let offset = self.end;
        let room = self.bytes.get_mut(offset..offset + needed)?;
        if !self.index.insert(hash, number) {
            return None;
        }
        room[..4].copy_from_slice(&number.to_le_bytes());
        room[4..8].copy_from_slice(&(text.len() as u32).to_le_bytes());
        room[HEADER_BYTES..].copy_from_slice(text);
        self.end += needed;
        let entry = &mut self.entries[number as usize];
        debug_assert!(entry.uses == 0, "a free entry has no string");
        self.free = entry.offset;
        *entry = Entry { hash, offset: offset as u32, length: text.len() as u32, uses: 1 };
        self.used += 1;
        StringId::new(number)
    }

    /// Adds one more use of a string.
    pub fn retain(&mut self, id: StringId) {
        let entry = &mut self.entries[id.entry() as usize];
        debug_assert!(entry.uses > 0, "a released string is not kept again");
        entry.uses += 1;
    }

    /// Removes one use of a string, and the string with its last use.
    pub fn release(&mut self, id: StringId) {
        let number = id.entry();
        let entry = &mut self.entries[number as usize];
        debug_assert!(entry.uses > 0, "released more often than kept");
        entry.uses = entry.uses.saturating_sub(1);
        if entry.uses > 0 {
            return;
        }
        let Entry { hash, offset, length, .. } = *entry;
        entry.offset = self.free;
        self.free = number;
        self.used -= 1;
        let removed = self.index.remove(hash, number);
        debug_assert!(removed, "every string is in the index");
        self.bytes[offset as usize..offset as usize + 4].copy_from_slice(&NO_ENTRY.to_le_bytes());
        self.garbage += HEADER_BYTES + length as usize;
    }

    #[inline]
    pub fn get(&self, id: StringId) -> &[u8] {
        debug_assert!(self.entries[id.entry() as usize].uses > 0, "a released string is not read");
        self.text(id.entry())
    }

    fn text(&self, entry: u32) -> &[u8] {
        let Entry { offset, length, .. } = self.entries[entry as usize];
        let start = offset as usize + HEADER_BYTES;
        &self.bytes[start..start + length as usize]
    }

    /// Moves every string down over the released ones before it.
    fn compact(&mut self) {
        let (mut from, mut to) = (0, 0);
        while from < self.end {
            let number = u32_at(&self.bytes, from);
            let length = HEADER_BYTES + u32_at(&self.bytes, from + 4) as usize;
            if number != NO_ENTRY {
                self.bytes.copy_within(from..from + length, to);
                self.entries[number as usize].offset = to as u32;
                to += length;
            }
            from += length;
        }
        debug_assert_eq!(to, self.end - self.garbage, "released strings are garbage");
        self.end = to;
        self.garbage = 0;
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.used as usize
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Bytes in use, headers included.
    pub fn used_bytes(&self) -> usize {
        self.end - self.garbage
    }

    /// Size of the arena in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Number of strings that found no room since the last call.
    pub fn take_refused(&mut self) -> u32 {
        core::mem::take(&mut self.refused)
    }

    pub fn clear(&mut self) {
        self.end = 0;
        self.garbage = 0;
        self.used = 0;
        self.refused = 0;
        self.index.clear();
        self.free = 0;
        let last = self.entries.len() - 1;
        for (number, entry) in self.entries.iter_mut().enumerate() {
            let next = if number == last { NO_ENTRY } else { number as u32 + 1 };
            *entry = Entry { offset: next, ..Entry::default() };
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Intern(Vec<u8>),
        Release(usize),
        Retain(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let text = prop_oneof![
            proptest::collection::vec(b'a'..=b'c', 0..3),
            proptest::collection::vec(any::<u8>(), 0..120),
        ];
        let step = prop_oneof![
            5 => text.prop_map(Step::Intern),
            4 => any::<usize>().prop_map(Step::Release),
            1 => any::<usize>().prop_map(Step::Retain),
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn strings_agree_with_a_hash_map(steps in steps(), capacity in 256_usize..2048) {
            let mut strings = Strings::new(capacity, HashKey::new(11));
            let mut model: HashMap<Vec<u8>, (StringId, u32)> = HashMap::new();
            let mut refused = 0;
            let pick = |model: &HashMap<Vec<u8>, (StringId, u32)>, at: usize| {
                let mut keys: Vec<_> = model.keys().cloned().collect();
                keys.sort();
                (!keys.is_empty()).then(|| keys[at % keys.len()].clone())
            };
            for step in steps {
                match step {
                    Step::Intern(text) => match (strings.intern(&text), model.get_mut(&text)) {
                        (Some(id), Some(row)) => {
                            prop_assert_eq!(id, row.0);
                            row.1 += 1;
                        }
                        (Some(id), None) => { model.insert(text, (id, 1)); }
                        (None, row) => {
                            prop_assert!(row.is_none(), "a known string needs no room");
                            refused += 1;
                        }
                    },
                    Step::Release(at) => {
                        if let Some(text) = pick(&model, at) {
                            let row = model.get_mut(&text).unwrap();
                            strings.release(row.0);
                            row.1 -= 1;
                            if row.1 == 0 {
                                model.remove(&text);
                            }
                        }
                    }
                    Step::Retain(at) => {
                        if let Some(text) = pick(&model, at) {
                            let row = model.get_mut(&text).unwrap();
                            strings.retain(row.0);
                            row.1 += 1;
                        }
                    }
                }
                for (text, row) in &model {
                    prop_assert_eq!(strings.get(row.0), &text[..]);
                }
                prop_assert_eq!(strings.len(), model.len());
                let bytes: usize = model.keys().map(|text| text.len() + HEADER_BYTES).sum();
                prop_assert_eq!(strings.used_bytes(), bytes);
            }
            prop_assert_eq!(strings.take_refused(), refused);
        }
    }

    #[test]
    fn space_that_was_given_up_is_used_again() {
        let mut strings = Strings::new(64 * 1024, HashKey::new(3));
        let keep = strings.intern(b"/usr/bin/bash").unwrap();
        for round in 0..100_000_u32 {
            let id = strings.intern(format!("/proc/{round}/task").as_bytes()).unwrap();
            strings.release(id);
        }
        assert_eq!(strings.get(keep), b"/usr/bin/bash");
        assert_eq!(strings.len(), 1);
        assert_eq!(strings.take_refused(), 0);
    }

    #[test]
    fn a_full_arena_refuses_counts_and_recovers() {
        let mut strings = Strings::new(4096, HashKey::new(3));
        let mut kept = Vec::new();
        for number in 0..1000_u32 {
            kept.extend(strings.intern(format!("a name of some length {number:04}").as_bytes()));
        }
        assert!(kept.len() > 100 && kept.len() < 130, "{}", kept.len());
        assert_eq!(strings.take_refused(), 1000 - kept.len() as u32);
        for id in kept.drain(..) {
            strings.release(id);
        }
        assert!(strings.is_empty());
        assert!(strings.intern(b"there is room again").is_some());
        assert_eq!(strings.intern(&vec![b'x'; STRING_BYTES_MAX + 1]), None);
    }
}
