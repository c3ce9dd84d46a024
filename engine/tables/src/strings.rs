//! Names, each kept once in one arena of fixed size.
//!
//! Paths, command lines and names of areas are interned: rows hold a counted [`StringId`], so that
//! ended objects can still be named. New strings are appended. When the arena is full, it is
//! compacted in place, which changes the offset of a string but not its id. A string that does not
//! fit even then is counted and has no id: its row has no name.

use core::num::NonZeroU32;

use crate::hash_index::HashIndex;
use crate::{CutText, HashKey, room};

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
struct StringEntry {
    /// Offset of its header, or the number of the next free entry.
    offset: u32,
    /// Number of its uses; with [`RESERVED`] if it is in the reserved room.
    uses: u32,
}

const _: () = assert!(size_of::<StringEntry>() == 8);

/// Marks a string in the reserved room. No string has so many uses.
const RESERVED: u32 = 1 << 31;

impl StringEntry {
    const fn uses(self) -> u32 {
        self.uses & !RESERVED
    }

    const fn is_reserved(self) -> bool {
        self.uses & RESERVED != 0
    }
}

/// Length of the longest string that is kept, in bytes.
pub const STRING_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the longest string that [`Strings::intern_cut`] does not cut.
const CUT_STRING_BYTES: usize = 99;

/// Header before each string: its entry and its length.
pub const HEADER_BYTES: usize = 8;
/// The entry number of a released string.
const NO_ENTRY: u32 = u32::MAX;
/// Smallest number of strings for which there is room.
const STRINGS_MIN: usize = 8;
/// Texts longer than this leave a part of the open room to shorter ones ([`SHORT_TEXT_PART`]), so
/// that the beginning of a name still fits when the whole one does not.
const LONG_BYTES: usize = 64;
/// The fraction of the open room that is kept from long texts.
const SHORT_TEXT_PART: usize = 16;
/// Compaction must free at least this fraction of the arena, or it would run at every string.
const GARBAGE_PART: usize = 16;

/// An arena of interned, counted strings.
#[derive(Debug)]
pub struct Strings {
    bytes: Box<[u8]>,
    end: usize,
    garbage: usize,
    entries: Box<[StringEntry]>,
    free: u32,
    used: u32,
    index: HashIndex,
    key: HashKey,
    refused: u32,
    /// Bytes and strings of the open room: its size, and what is used.
    open: StringRoom,
    open_used: StringRoom,
}

/// StringRoom for strings.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StringRoom {
    /// Number of bytes, with [`HEADER_BYTES`] for each string.
    pub bytes: usize,
    /// Number of strings.
    pub strings: usize,
}

impl Strings {
    /// Allocates for so many strings, and their bytes.
    pub fn new(room: StringRoom, key: HashKey) -> Self {
        Self::with_capacity(room, StringRoom::default(), key)
    }

    /// Allocates open room for [`Self::intern`], and reserved room that only
    /// [`Self::intern_reserved`] uses.
    pub fn with_capacity(open: StringRoom, reserved: StringRoom, key: HashKey) -> Self {
        let capacity = open.bytes.saturating_add(reserved.bytes);
        let has_reserve = reserved.bytes > 0;
        let capacity = if has_reserve { Self::bytes_for(capacity) } else { capacity };
        let capacity = capacity.min(u32::MAX as usize);
        let entries = open.strings.saturating_add(reserved.strings).max(STRINGS_MIN);
        let mut strings = Self {
            bytes: room::copies(0, capacity),
            end: 0,
            garbage: 0,
            entries: room::copies(StringEntry::default(), entries),
            free: NO_ENTRY,
            used: 0,
            index: HashIndex::new(entries),
            key,
            refused: 0,
            open: StringRoom { strings: entries - reserved.strings, ..open },
            open_used: StringRoom::default(),
        };
        strings.clear();
        strings
    }

    /// Bytes of an arena in which so many always fit, whatever compaction leaves unused.
    pub const fn bytes_for(bytes: usize) -> usize {
        bytes.saturating_add(bytes / (GARBAGE_PART - 1) + 1)
    }

    /// Adds a string, or one more use of it. If there is no room, counts it and returns `None`.
    pub fn intern(&mut self, text: &[u8]) -> Option<StringId> {
        self.intern_into(text, false)
    }

    /// The same, in reserved room: the caller limits the number of its strings and their lengths,
    /// so that all of them always fit.
    pub fn intern_reserved(&mut self, text: &[u8]) -> Option<StringId> {
        self.intern_into(text, true)
    }

    fn intern_into(&mut self, text: &[u8], reserved: bool) -> Option<StringId> {
        let hash = self.hash(text, reserved);
        let is =
            |at: u32| self.entries[at as usize].is_reserved() == reserved && self.text(at) == text;
        if let Some(entry) = self.index.find(hash, is) {
            debug_assert!(
                self.entries[entry as usize].uses() > 0,
                "the index has no released string"
            );
            self.entries[entry as usize].uses += 1;
            return StringId::new(entry);
        }
        let id = self.append(text, hash, reserved);
        if id.is_none() {
            self.refused = self.refused.saturating_add(1);
        }
        id
    }

    /// Adds a string if [`Self::room_for_cut`] so many others stays free besides. Others find room
    /// there that [`Self::intern_cut`] adds.
    pub fn intern_leaving(&mut self, text: &[u8], others: usize) -> Option<StringId> {
        let needed = Self::room_for_cut(others) + HEADER_BYTES + text.len();
        // As much may be garbage that is not worth a compaction.
        let capacity = self.bytes.len() - self.bytes.len() / GARBAGE_PART;
        let has_room = self.used_bytes() + needed <= capacity
            && self.used as usize + others < self.entries.len();
        if has_room { self.intern(text) } else { None }
    }

    /// Adds a string, cut if it is long ([`CutText`]).
    pub fn intern_cut(&mut self, text: &[u8]) -> Option<StringId> {
        self.intern(CutText::new(text, CUT_STRING_BYTES).bytes())
    }

    /// The same for a command line, without a hash ([`CutText::beginning`]).
    pub fn intern_beginning(&mut self, text: &[u8]) -> Option<StringId> {
        self.intern(CutText::beginning(text, CUT_STRING_BYTES).bytes())
    }

    /// Number of bytes that so many cut strings take at most.
    pub const fn room_for_cut(count: usize) -> usize {
        count.saturating_mul(HEADER_BYTES + CUT_STRING_BYTES)
    }

    /// The same text may be in both rooms: what fills one of them must not grow by what leaves the
    /// other.
    fn hash(&self, text: &[u8], reserved: bool) -> u64 {
        self.key.hash(text) ^ u64::from(reserved).wrapping_neg()
    }

    fn append(&mut self, text: &[u8], hash: u64, reserved: bool) -> Option<StringId> {
        let needed = HEADER_BYTES + text.len();
        if text.len() > STRING_BYTES_MAX
            || self.free == NO_ENTRY
            || !reserved && !self.has_open_room(needed)
        {
            return None;
        }
        let rest = self.bytes.len() - self.end;
        if needed > rest {
            if self.garbage < (needed - rest).max(self.bytes.len() / GARBAGE_PART) {
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
        debug_assert!(entry.uses() == 0, "a free entry has no string");
        self.free = entry.offset;
        let uses = 1 | if reserved { RESERVED } else { 0 };
        *entry = StringEntry { offset: offset as u32, uses };
        self.used += 1;
        if !reserved {
            self.open_used.bytes += needed;
            self.open_used.strings += 1;
        }
        StringId::new(number)
    }

    /// Whether a string, header included, may use the open room.
    fn has_open_room(&self, needed: usize) -> bool {
        let is_long = needed > HEADER_BYTES + LONG_BYTES && self.has_reserve();
        let kept = if is_long { self.open.bytes / SHORT_TEXT_PART } else { 0 };
        self.open_used.bytes + needed + kept <= self.open.bytes
            && self.open_used.strings < self.open.strings
    }

    fn has_reserve(&self) -> bool {
        self.open.bytes < self.bytes.len()
    }

    /// Bytes of the open room, and how many of them are used, or taken with the places of short
    /// strings.
    pub fn open_bytes(&self) -> (usize, usize) {
        let places = self.open_used.strings * self.place_bytes();
        (self.open.bytes, self.open_used.bytes.max(places))
    }

    /// Bytes of the open room for each string that fits in it.
    pub fn place_bytes(&self) -> usize {
        self.open.bytes / self.open.strings.max(1)
    }

    /// What one use of a string costs, in bytes: an equal part for each of its users. However short
    /// it is, it takes one of the places.
    pub fn cost(&self, id: StringId) -> usize {
        let uses = self.entries[id.entry() as usize].uses();
        let bytes = HEADER_BYTES + self.text(id.entry()).len();
        bytes.max(self.place_bytes()).div_ceil(uses.max(1) as usize)
    }

    /// Counts a string that the caller does not even try to add.
    pub fn refuse(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }

    /// Whether the open room has a place for a string of so many bytes.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.has_open_room(HEADER_BYTES + bytes)
    }

    /// Adds one more use of a string.
    pub fn retain(&mut self, id: StringId) {
        let entry = &mut self.entries[id.entry() as usize];
        debug_assert!(entry.uses() > 0, "a released string is not kept again");
        entry.uses += 1;
    }

    /// Removes one use of a string, and the string with its last use.
    pub fn release(&mut self, id: StringId) {
        let number = id.entry();
        let entry = &mut self.entries[number as usize];
        debug_assert!(entry.uses() > 0, "released more often than kept");
        if entry.uses() > 1 {
            entry.uses -= 1;
            return;
        }
        let StringEntry { offset, .. } = *entry;
        let is_reserved = entry.is_reserved();
        let hash = self.hash(self.text(number), is_reserved);
        let entry = &mut self.entries[number as usize];
        *entry = StringEntry { offset: self.free, uses: 0 };
        let length = self.length_at(offset);
        if !is_reserved {
            self.open_used.bytes -= HEADER_BYTES + length;
            self.open_used.strings -= 1;
        }
        self.free = number;
        self.used -= 1;
        let removed = self.index.remove(hash, number);
        debug_assert!(removed, "every string is in the index");
        self.bytes[offset as usize..offset as usize + 4].copy_from_slice(&NO_ENTRY.to_le_bytes());
        self.garbage += HEADER_BYTES + length;
    }

    #[inline]
    pub fn get(&self, id: StringId) -> &[u8] {
        debug_assert!(
            self.entries[id.entry() as usize].uses() > 0,
            "a released string is not read"
        );
        self.text(id.entry())
    }

    fn text(&self, entry: u32) -> &[u8] {
        let StringEntry { offset, .. } = self.entries[entry as usize];
        let start = offset as usize + HEADER_BYTES;
        &self.bytes[start..start + self.length_at(offset)]
    }

    /// Length of the string whose header is at an offset.
    fn length_at(&self, offset: u32) -> usize {
        u32_at(&self.bytes, offset as usize + 4) as usize
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
        self.open_used = StringRoom::default();
        self.index.clear();
        self.free = 0;
        let last = self.entries.len().wrapping_sub(1);
        for (number, entry) in self.entries.iter_mut().enumerate() {
            let next = if number == last { NO_ENTRY } else { number as u32 + 1 };
            *entry = StringEntry { offset: next, uses: 0 };
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

    /// StringRoom for strings of usual length.
    fn usual(bytes: usize) -> StringRoom {
        StringRoom { bytes, strings: bytes / 32 }
    }

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
            let mut strings = Strings::new(usual(capacity), HashKey::new(11));
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

    proptest! {
        #[test]
        fn reserved_strings_always_fit(
            steps in proptest::collection::vec((0..3_u8, 0..12_usize, 0..100_usize), 0..600),
            open in 0..2000_usize,
        ) {
            const RESERVED: usize = 12;
            let bytes = RESERVED * (HEADER_BYTES + 100);
            let reserve = StringRoom { bytes, strings: RESERVED };
            let mut strings = Strings::with_capacity(usual(open), reserve, HashKey::new(11));
            let mut reserved = [None; RESERVED];
            let mut others = Vec::new();
            for (number, (kind, place, length)) in steps.into_iter().enumerate() {
                // Different each time, or the same in both rooms.
                let text = vec![if number % 5 == 0 { 0 } else { number as u8 }; length];
                match kind {
                    0 => others.extend(strings.intern(&text)),
                    1 if !others.is_empty() => {
                        strings.release(others.swap_remove(place % others.len()));
                    }
                    _ => {
                        reserved[place].take().into_iter().for_each(|id| strings.release(id));
                        reserved[place] = strings.intern_reserved(&text);
                        let id = reserved[place].expect("it has room");
                        prop_assert_eq!(strings.get(id), &text[..]);
                    }
                }
                let (room, used) = strings.open_bytes();
                prop_assert!(used <= room && room == open);
            }
        }
    }

    #[test]
    fn long_strings_leave_room_for_short_ones() {
        let mut strings = Strings::with_capacity(usual(16_000), usual(1000), HashKey::new(3));
        let mut count = 0_u32;
        while strings.intern(&[&[b'x'; 500][..], &count.to_le_bytes()].concat()).is_some() {
            count += 1;
        }
        assert_eq!(count, 15_000 / 512);
        assert!(strings.intern(&[b'y'; LONG_BYTES]).is_some());
    }

    #[test]
    fn space_that_was_given_up_is_used_again() {
        let mut strings = Strings::new(usual(64 * 1024), HashKey::new(3));
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
    fn long_strings_leave_room_for_others_that_are_cut() {
        const OTHERS: usize = 100;
        let mut strings = Strings::new(usual(64 * 1024), HashKey::new(3));
        let mut kept = 0;
        for number in 0..100_u32 {
            let text = [&number.to_le_bytes()[..], &[b'x'; 4000]].concat();
            kept += usize::from(strings.intern_leaving(&text, OTHERS).is_some());
        }
        assert!((10..16).contains(&kept), "{kept}");
        for number in 0..OTHERS as u32 {
            let text = [&[b'y'; 4000][..], &number.to_le_bytes()].concat();
            let id = strings.intern_cut(&text).unwrap();
            assert_eq!(strings.get(id), CutText::new(&text, CUT_STRING_BYTES).bytes());
            assert_eq!(strings.get(id).len(), CUT_STRING_BYTES);
        }
        assert_eq!(strings.len(), kept + OTHERS, "each has a hash of its own");
        let short = strings.intern_cut(b"/usr/bin/bash").unwrap();
        assert_eq!(strings.get(short), b"/usr/bin/bash");
    }

    #[test]
    fn a_full_arena_refuses_counts_and_recovers() {
        let mut strings = Strings::new(usual(4096), HashKey::new(3));
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
