//! A fixed number of rows, found by key.
//!
//! Rows are allocated at start and never move, so a row's number is valid as long as the row
//! exists. The table knows the last scan that saw each row, unless it is made without that. A new
//! row that finds no room is counted; the table never grows.

use crate::hash_index::HashIndex;
use crate::{HashKey, ScanNumber, room};

pub trait Key: Copy + Eq {
    fn hash(&self, key: HashKey) -> u64;
}

/// A row of a [`Table`].
pub trait Row {
    type Key: Key;

    /// Its key, which must not change while the row is in the table.
    fn key(&self) -> Self::Key;
}

/// The number of a row.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RowId(pub u32);

/// A fixed number of rows, found by key.
#[derive(Debug)]
pub struct Table<R> {
    slots: Box<[Option<R>]>,
    /// The last scan that saw each row; empty if that is not kept.
    last_seen: Box<[ScanNumber]>,
    /// The empty slots below `fresh`.
    free: Free,
    /// The first slot that was never used.
    fresh: u32,
    index: HashIndex,
    key: HashKey,
    newcomers: u32,
}

impl<R: Row> Table<R> {
    /// Allocates for `capacity` rows.
    pub fn new(capacity: usize, key: HashKey) -> Self {
        Self::with_capacity(capacity, capacity, key)
    }

    /// Allocates for `capacity` rows of which nobody asks when they were seen.
    pub fn without_scans(capacity: usize, key: HashKey) -> Self {
        Self::with_capacity(capacity, 0, key)
    }

    /// Allocates for `capacity` rows, and for the last scans of the first `scans` of them.
    fn with_capacity(capacity: usize, scans: usize, key: HashKey) -> Self {
        Self {
            slots: room::filled(capacity, || None),
            last_seen: room::copies(ScanNumber::default(), scans),
            free: Free::new(capacity),
            fresh: 0,
            index: HashIndex::new(capacity),
            key,
            newcomers: 0,
        }
    }

    /// The row with this key.
    #[inline]
    pub fn find(&self, key: &R::Key) -> Option<RowId> {
        let is = |row: u32| self.get(RowId(row)).is_some_and(|row| row.key() == *key);
        self.index.find(key.hash(self.key), is).map(RowId)
    }

    /// Adds a row whose key is not in the table, seen in `scan`. If there is no room, counts the
    /// row and returns `None`.
    pub fn insert(&mut self, row: R, scan: ScanNumber) -> Option<RowId> {
        debug_assert!(self.find(&row.key()).is_none(), "a row is inserted once");
        let hash = row.key().hash(self.key);
        let number = match self.free.first() {
            Some(number) => number,
            None if (self.fresh as usize) < self.slots.len() => self.fresh,
            None => {
                self.newcomers = self.newcomers.saturating_add(1);
                return None;
            }
        };
        if !self.index.insert(hash, number) {
            self.newcomers = self.newcomers.saturating_add(1);
            return None;
        }
        if number == self.fresh {
            self.fresh += 1;
        } else {
            self.free.remove(number);
        }
        let before = self.slots[number as usize].replace(row);
        debug_assert!(before.is_none(), "a free slot is empty");
        if let Some(last_seen) = self.last_seen.get_mut(number as usize) {
            *last_seen = scan;
        }
        Some(RowId(number))
    }

    pub fn remove(&mut self, id: RowId) -> Option<R> {
        let row = self.slots.get_mut(id.0 as usize)?.take()?;
        let removed = self.index.remove(row.key().hash(self.key), id.0);
        debug_assert!(removed, "every row is in the index");
        debug_assert!(id.0 < self.fresh, "a free slot was used before");
        self.free.add(id.0);
        Some(row)
    }

    #[inline]
    pub fn get(&self, id: RowId) -> Option<&R> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, id: RowId) -> Option<&mut R> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    /// Notes that `scan` saw a row; `false` if that was noted before.
    pub fn see(&mut self, id: RowId, scan: ScanNumber) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        let last_seen = self.last_seen.get_mut(id.0 as usize);
        last_seen.is_some_and(|last_seen| core::mem::replace(last_seen, scan) != scan)
    }

    /// The last scan that saw a row.
    pub fn last_seen(&self, id: RowId) -> Option<ScanNumber> {
        self.get(id).and_then(|_| self.last_seen.get(id.0 as usize).copied())
    }

    /// One more than the highest row number ever used.
    pub fn end(&self) -> u32 {
        self.fresh
    }

    /// The numbers of all rows, ascending.
    pub fn ids(&self) -> impl Iterator<Item = RowId> + '_ {
        (0..self.fresh).map(RowId).filter(|&id| self.get(id).is_some())
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.fresh as usize - self.free.count
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of rows that fit.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Number of new rows that found no room since the last call.
    pub fn take_newcomers(&mut self) -> u32 {
        core::mem::take(&mut self.newcomers)
    }

    pub fn clear(&mut self) {
        for slot in &mut self.slots {
            *slot = None;
        }
        self.free.clear();
        self.fresh = 0;
        self.index.clear();
        self.newcomers = 0;
    }
}

/// A set of slots, one bit each.
#[derive(Debug)]
struct Free {
    words: Box<[u64]>,
    /// No word before this one has a slot.
    from: usize,
    count: usize,
}

impl Free {
    fn new(capacity: usize) -> Self {
        Self { words: room::copies(0, capacity.div_ceil(64)), from: 0, count: 0 }
    }

    /// The lowest slot.
    fn first(&mut self) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        self.from += self.words[self.from..].iter().position(|&word| word != 0)?;
        Some(self.from as u32 * 64 + self.words[self.from].trailing_zeros())
    }

    fn add(&mut self, slot: u32) {
        let at = slot as usize / 64;
        self.words[at] |= 1 << (slot % 64);
        self.from = self.from.min(at);
        self.count += 1;
    }

    fn remove(&mut self, slot: u32) {
        self.words[slot as usize / 64] &= !(1 << (slot % 64));
        self.count -= 1;
    }

    fn clear(&mut self) {
        self.words.fill(0);
        (self.from, self.count) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    struct Number(u16);

    impl Key for Number {
        /// Bad on purpose: deletion goes wrong in long runs. These stay shorter than the distance
        /// at which the index refuses a row, since each four numbers have a home of their own.
        fn hash(&self, key: HashKey) -> u64 {
            let group = u64::from(self.0 / 4);
            key.seed().wrapping_add(group.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        }
    }

    #[derive(Debug)]
    struct Pair(Number, u64);

    impl Row for Pair {
        type Key = Number;

        fn key(&self) -> Number {
            self.0
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u64),
        Remove(u16),
        See(u16),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = 0..200_u16;
        let step = prop_oneof![
            6 => (key.clone(), any::<u64>()).prop_map(|(key, value)| Step::Insert(key, value)),
            4 => key.clone().prop_map(Step::Remove),
            2 => key.prop_map(Step::See),
            1 => Just(Step::Clear),
        ];
        proptest::collection::vec(step, 0..600)
    }

    proptest! {
        #[test]
        fn a_table_agrees_with_a_hash_map(steps in steps(), capacity in 1_usize..150) {
            let mut table = Table::new(capacity, HashKey::new(7));
            let mut model: HashMap<u16, (u64, ScanNumber, RowId)> = HashMap::new();
            let mut newcomers = 0;
            for (scan, step) in steps.into_iter().enumerate() {
                let scan = ScanNumber(scan as u32);
                match step {
                    Step::Insert(key, value) => {
                        let found = table.find(&Number(key));
                        prop_assert_eq!(found, model.get(&key).map(|row| row.2));
                        if found.is_none() {
                            let id = table.insert(Pair(Number(key), value), scan);
                            prop_assert_eq!(id.is_some(), model.len() < capacity);
                            match id {
                                Some(id) => { model.insert(key, (value, scan, id)); }
                                None => newcomers += 1,
                            }
                        }
                    }
                    Step::Remove(key) => {
                        if let Some((value, _, id)) = model.remove(&key) {
                            prop_assert_eq!(table.remove(id).map(|row| row.1), Some(value));
                        }
                        prop_assert_eq!(table.find(&Number(key)), None);
                    }
                    Step::See(key) => {
                        if let Some(row) = model.get_mut(&key) {
                            prop_assert_eq!(table.see(row.2, scan), row.1 != scan);
                            row.1 = scan;
                        }
                    }
                    Step::Clear => {
                        table.clear();
                        model.clear();
                        newcomers = 0;
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                for (&key, &(value, seen, id)) in &model {
                    prop_assert_eq!(table.find(&Number(key)), Some(id));
                    prop_assert_eq!(table.get(id).map(|row| row.1), Some(value));
                    prop_assert_eq!(table.last_seen(id), Some(seen));
                }
                prop_assert_eq!(table.ids().count(), model.len());
            }
            prop_assert_eq!(table.take_newcomers(), newcomers);
        }
    }

    #[test]
    fn a_flood_of_equal_hashes_is_refused_and_counted() {
        struct Same(u32);
        #[derive(Clone, Copy, Eq, PartialEq)]
        struct SameKey(u32);
        impl Key for SameKey {
            fn hash(&self, _: HashKey) -> u64 {
                1
            }
        }
        impl Row for Same {
            type Key = SameKey;
            fn key(&self) -> SameKey {
                SameKey(self.0)
            }
        }
        let mut table = Table::new(1000, HashKey::new(0));
        let taken = (0..1000).filter(|&n| table.insert(Same(n), ScanNumber(0)).is_some()).count();
        assert_eq!(taken, 64);
        assert_eq!(table.take_newcomers(), 1000 - 64);
        assert!(table.find(&SameKey(63)).is_some());
        assert!(table.find(&SameKey(64)).is_none());
    }
}
