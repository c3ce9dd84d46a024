//! From a hash to the number of a row: open addressing with backward-shift deletion.
//!
//! The slots are allocated once, twice as many as rows, so that runs stay short. Removal
//! leaves no tombstones, so they stay short. The rows are stored elsewhere and never move; the
//! caller identifies them by a closure.
//!
//! An index may begin with a part of its slots ([`HashIndex::begin_small`]): few rows in a small
//! part of memory stay in the processor's cache. The caller lets it grow.
//!
//! The guest chooses the keys, so the hash must use a secret key of this run, and probes are
//! bounded.

use crate::room;

/// Maximum distance of an entry from its home slot, here and in an `AddressMap`. At half load, a
/// run of 64 does not occur by chance. Only a guest that guesses the key could make one, and then
/// `insert` finds no room.
pub(crate) const PROBES_MAX: usize = 64;
const _: () = assert!(PROBES_MAX.is_power_of_two(), "distances fill their bits");

/// Bits of a distance below [`PROBES_MAX`].
const DISTANCE_BITS: u32 = PROBES_MAX.ilog2();

const EMPTY: u32 = u32::MAX;

/// The slots that an index has at first, if it begins small: 64 KiB.
const SMALL_SLOTS: usize = 1 << 14;
/// How many times as many slots a grown index has. All rows are added anew, so growth is rare.
const GROWTH: usize = 4;

/// Finds rows by their hash.
#[derive(Debug)]
pub struct HashIndex {
    /// A slot has, from the lowest bit on, the number of its row, its distance from its home slot,
    /// and a part of the hash. So it takes four bytes and still tells apart nearly all hashes.
    slots: Box<[u32]>,
    /// The number of slots in use, from the first one on.
    used: usize,
    /// Number of rows.
    rows: usize,
    /// The bits of a row's number. No row has the number that has all of them.
    row_mask: u32,
}

impl HashIndex {
    /// Allocates for at most `capacity` rows at a time, with numbers below that. There is room for
    /// 2^26 rows at most.
    pub fn new(capacity: usize) -> Self {
        let slots = capacity.max(8).saturating_mul(2);
        let row_bits = (usize::BITS - capacity.leading_zeros()).clamp(1, u32::BITS - DISTANCE_BITS);
        let slots = room::copies(EMPTY, slots);
        Self { used: slots.len(), slots, rows: 0, row_mask: (1 << row_bits) - 1 }
    }

    /// Uses only a small part of the slots of an empty index, until [`grow`](Self::grow) is called.
    pub fn begin_small(&mut self) {
        self.used = self.slots.len().min(SMALL_SLOTS);
    }

    /// Whether the slots in use are so full that it is time to grow.
    #[inline]
    pub fn is_crowded(&self) -> bool {
        self.rows * 2 >= self.used && self.used < self.slots.len()
    }

    /// Uses more slots. `rows` are the hash and the number of each row that is in the index.
    #[cold]
    pub fn grow(&mut self, rows: impl Iterator<Item = (u64, u32)>) {
        self.slots[..self.used].fill(EMPTY);
        self.used = self.used.saturating_mul(GROWTH).min(self.slots.len());
        self.rows = 0;
        for (hash, row) in rows {
            // Nobody finds a row without room again, as if another had taken its place before.
            self.insert(hash, row);
        }
    }

    /// The slot where a search begins. It depends on those bits first that an entry does not keep.
    #[inline]
    fn home(&self, tag: u32) -> usize {
        let mixed = tag.rotate_left(self.row_mask.leading_zeros() - DISTANCE_BITS);
        ((u64::from(mixed) * self.used as u64) >> u32::BITS) as usize
    }

    /// The slot after one.
    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.used { 0 } else { at + 1 }
    }

    /// What an entry has above the number of its row when it is in its home slot.
    #[inline]
    const fn at_home(&self, tag: u32) -> u32 {
        let below = (self.row_mask << DISTANCE_BITS) | (PROBES_MAX as u32 - 1);
        tag & !below
    }

    /// What each slot of distance adds to an entry.
    #[inline]
    const fn step(&self) -> u32 {
        self.row_mask + 1
    }

    /// The row with this hash for which `is` returns true.
    #[expect(clippy::inline_always, reason = "what `is` knows stays in registers")]
    #[inline(always)]
    pub fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = Self::tag(hash);
        let mut at = self.home(tag);
        let mut wanted = self.at_home(tag);
        for _ in 0..PROBES_MAX {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            let row = slot & self.row_mask;
            if slot ^ row == wanted && is(row) {
                return Some(row);
            }
            wanted = wanted.wrapping_add(self.step());
            at = self.after(at);
        }
        None
    }

    /// Adds a row that is not in the index; `false` if there is no room near its home slot.
    #[inline]
    pub fn insert(&mut self, hash: u64, row: u32) -> bool {
        debug_assert!(self.find(hash, |other| other == row).is_none(), "a row is in it once");
        if row >= self.row_mask {
            return false;
        }
        let tag = Self::tag(hash);
        let mut at = self.home(tag);
        let mut entry = self.at_home(tag) | row;
        for _ in 0..PROBES_MAX {
            if self.slots[at] == EMPTY {
                self.slots[at] = entry;
                self.rows += 1;
                return true;
            }
            entry = entry.wrapping_add(self.step());
            at = self.after(at);
        }
        false
    }

    /// Removes a row; `false` if it is not in the index.
    pub fn remove(&mut self, hash: u64, row: u32) -> bool {
        let mut at = self.home(Self::tag(hash));
        let mut probes = 0;
        while self.slots[at] & self.row_mask != row {
            probes += 1;
            if self.slots[at] == EMPTY || probes == PROBES_MAX {
                return false;
            }
            at = self.after(at);
        }
        let mut hole = at;
        // Ends at an empty slot: half of them are empty.
        loop {
            at = self.after(at);
            let slot = self.slots[at];
            if slot == EMPTY {
                break;
            }
            let distance = (slot / self.step()) as usize % PROBES_MAX;
            // It may move back into the hole unless the hole is before its home.
            let back = if at < hole { at + self.used - hole } else { at - hole };
            if distance >= back {
                self.slots[hole] = slot - back as u32 * self.step();
                hole = at;
            }
        }
        self.slots[hole] = EMPTY;
        self.rows -= 1;
        true
    }

    /// The part of a hash that is used.
    #[inline]
    const fn tag(hash: u64) -> u32 {
        (hash ^ hash >> 32) as u32
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        self.slots.fill(EMPTY);
        self.rows = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few home slots and few hashes, so that runs are long and wrap around.
        #[test]
        fn an_index_agrees_with_a_hash_map(
            steps in proptest::collection::vec((any::<bool>(), 0..60_u32, 0..6_u64), 0..400),
            capacity in 1_usize..60,
        ) {
            let mut index = HashIndex::new(capacity);
            let mut model: HashMap<u32, u64> = HashMap::new();
            for (adds, row, hash) in steps {
                let hash = (hash % 3) << 31 | 0xffff_fff8 | hash;
                let row = row % capacity as u32;
                if adds && !model.contains_key(&row) {
                    prop_assert!(index.insert(hash, row));
                    model.insert(row, hash);
                } else if let Some(hash) = model.remove(&row) {
                    prop_assert!(index.remove(hash, row));
                    prop_assert!(!index.remove(hash, row));
                }
                for (&row, &hash) in &model {
                    prop_assert_eq!(index.find(hash, |other| other == row), Some(row));
                    prop_assert_eq!(index.find(hash ^ 1 << 31, |other| other == row), None);
                }
            }
        }
    }

    #[test]
    fn a_small_index_grows() {
        let count = 100_000_u32;
        let hash = |row: u32| u64::from(row).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut index = HashIndex::new(count as usize);
        index.begin_small();
        let mut growths = 0;
        for row in 0..count {
            if index.is_crowded() {
                index.grow((0..row).filter(|row| row % 3 > 0).map(|row| (hash(row), row)));
                growths += 1;
            }
            assert!(index.insert(hash(row), row));
            if row % 3 == 0 {
                assert!(index.remove(hash(row), row));
            }
        }
        assert_eq!((growths, index.used), (2, 2 * count as usize));
        for row in 0..count {
            let known = (row % 3 > 0).then_some(row);
            assert_eq!(index.find(hash(row), |other| other == row), known);
        }
    }

    #[test]
    fn rows_of_large_tables_are_found() {
        for capacity in [8, 65_535, 65_536, (1 << 25) + 1, (1 << 26) - 1] {
            let mut index = room_for(capacity);
            let last = capacity as u32 - 1;
            for hash in [0, u64::MAX, 0x1234_5678_9abc_def0] {
                assert!(index.insert(hash, last));
                assert_eq!(index.find(hash, |_| true), Some(last));
                assert!(index.remove(hash, last));
                assert_eq!(index.find(hash, |_| true), None);
            }
        }
    }

    /// An index that has few slots, but rows with numbers as of a large table.
    fn room_for(capacity: usize) -> HashIndex {
        let small = HashIndex::new(8);
        let row_bits = usize::BITS - capacity.leading_zeros();
        HashIndex { row_mask: (1 << row_bits) - 1, ..small }
    }

    #[test]
    fn rows_that_no_index_can_have_are_refused() {
        let mut index = room_for((1 << 26) - 1);
        assert!(index.insert(1, (1 << 26) - 2));
        assert!(!index.insert(2, (1 << 26) - 1));
    }
}
