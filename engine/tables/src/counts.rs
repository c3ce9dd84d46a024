//! How many entries of a list or table each owner has.

use core::num::NonZeroU32;

use crate::{HashKey, Key, Row, ScanNumber, Table};

/// An owner: a process, a user or a container.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct OwnerKey(u64);

impl Key for OwnerKey {
    fn hash(&self, key: HashKey) -> u64 {
        key.hash_numbers([self.0])
    }
}

#[derive(Clone, Copy, Debug)]
struct OwnerCount {
    owner: OwnerKey,
    entries: NonZeroU32,
}

const _: () = assert!(size_of::<Option<OwnerCount>>() == 16);

impl Row for OwnerCount {
    type Key = OwnerKey;

    fn key(&self) -> OwnerKey {
        self.owner
    }
}

/// Counts the entries of each owner.
#[derive(Debug)]
pub struct OwnerCounts(Table<OwnerCount>);

impl OwnerCounts {
    /// Allocates for so many owners. Further ones are not counted.
    pub fn new(owners: usize, key: HashKey) -> Self {
        Self(Table::without_scans(owners, key))
    }

    /// Counts one more entry of an owner. Returns whether it is the first.
    pub fn add(&mut self, owner: u64) -> bool {
        let owner = OwnerKey(owner);
        let found = self.0.find(&owner);
        let Some(count) = found.and_then(|id| self.0.get_mut(id)) else {
            let first = OwnerCount { owner, entries: NonZeroU32::MIN };
            return self.0.insert(first, ScanNumber::default()).is_some();
        };
        count.entries = count.entries.saturating_add(1);
        false
    }

    /// Counts one entry of an owner less. Returns whether it was the last.
    pub fn remove(&mut self, owner: u64) -> bool {
        let Some(id) = self.0.find(&OwnerKey(owner)) else { return false };
        let Some(count) = self.0.get_mut(id) else { return false };
        if let Some(left) = NonZeroU32::new(count.entries.get() - 1) {
            count.entries = left;
            return false;
        }
        self.0.remove(id).is_some()
    }

    /// Number of entries of an owner.
    pub fn of(&self, owner: u64) -> u32 {
        let id = self.0.find(&OwnerKey(owner));
        id.and_then(|id| self.0.get(id)).map_or(0, |count| count.entries.get())
    }

    /// Number of owners with entries.
    pub fn owners(&self) -> usize {
        self.0.len()
    }

    /// An owner that can make room for one more entry of `owner`: the one with most, if it has
    /// at least two more.
    pub fn who_makes_room_for(&self, owner: u64) -> Option<u64> {
        let all = self.0.ids().filter_map(|id| self.0.get(id));
        let most = all.max_by_key(|count| count.entries)?;
        (most.entries.get() > self.of(owner) + 1).then_some(most.owner.0)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_by_owner() {
        let mut counts = OwnerCounts::new(3, HashKey::new(1));
        assert_eq!([7, 7, 8, 7].map(|owner| counts.add(owner)), [true, false, true, false]);
        assert_eq!((counts.of(7), counts.of(8), counts.of(9), counts.owners()), (3, 1, 0, 2));
        assert_eq!(counts.who_makes_room_for(9), Some(7));
        assert_eq!(counts.who_makes_room_for(8), Some(7));
        assert_eq!([7, 9, 8].map(|owner| counts.remove(owner)), [false, false, true]);
        assert_eq!((counts.of(7), counts.owners()), (2, 1));
        assert_eq!(counts.who_makes_room_for(7), None);
        counts.add(8);
        assert_eq!(counts.who_makes_room_for(8), None, "they would only change places");
        counts.clear();
        assert_eq!((counts.of(7), counts.who_makes_room_for(9)), (0, None));
    }

    #[test]
    fn an_owner_without_room_is_not_counted() {
        let mut counts = OwnerCounts::new(1, HashKey::new(1));
        assert_eq!([7, 8].map(|owner| counts.add(owner)), [true, false]);
        assert_eq!((counts.of(8), counts.remove(8)), (0, false));
    }
}
