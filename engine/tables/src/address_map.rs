//! A hash table from address to number, cleared at every scan.
//!
//! The entries are in the order in which they were added. Slots of four bytes lead to them: a slot
//! has the number of an entry and a part of its hash, so that a search seldom looks at an entry of
//! another address. The table uses only as many slots as the last scan needed. So the slots of a
//! machine with 100,000 objects stay in the processor's second-level cache, and those of a small
//! machine in its first, however high the limits are. If more are needed, it grows within the same
//! memory. The guest controls the addresses, so they are hashed with a random key and probes are
//! bounded.
//!
//! A scan usually adds the same addresses in the same order as the one before. So the entries and
//! slots of the last scan stay, as what is *expected*: if an address is the next expected one, it
//! is new, since all before it are as in the last scan and the expected ones differ from each
//! other. Nothing is searched or written then. The first address that is neither expected next nor
//! there already ends that: the expected rest is dropped, and the slots are made anew.

use crate::hash_index::PROBES_MAX;
use crate::{HashKey, room};

/// Result of [`AddressMap::insert`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Insertion {
    /// The address was added.
    New,
    /// The address was in the table, with this value.
    Old(u32),
    /// The table has no room for the address.
    Full,
}

/// Smallest number of slots in use.
const SLOTS_MIN: usize = 4096;
const _: () = assert!(PROBES_MAX < SLOTS_MIN, "no run covers all slots");

#[derive(Clone, Copy, Debug)]
struct AddressMapEntry {
    address: u64,
    value: u32,
}

/// A hash table from address to number.
#[derive(Debug)]
pub struct AddressMap {
    /// An empty slot is 0. Any other has the position of its entry, plus one, in its lower bits and
    /// bits of the hash above.
    slots: Box<[u32]>,
    /// Number of slots in use, a power of two, less one. They are the first of `slots`.
    mask: usize,
    /// The bits of a slot that have the position.
    position_mask: u32,
    /// The entries, and behind them the expected ones.
    entries: Vec<AddressMapEntry>,
    /// Number of entries without the expected ones.
    used: usize,
    /// The position that was found or added last: several references to an object often follow
    /// each other.
    latest: usize,
    key: u64,
    capacity: usize,
}

impl AddressMap {
    /// A table for `capacity` addresses, hashed with `key`.
    pub fn new(capacity: usize, key: HashKey) -> Self {
        let slots = (capacity.max(8) * 2).next_power_of_two();
        // One more than the number of entries, because 0 is an empty slot.
        let positions = u32::try_from(capacity).unwrap_or(u32::MAX).max(8);
        Self {
            slots: room::copies(0, slots),
            mask: slots.min(SLOTS_MIN) - 1,
            position_mask: u32::MAX >> positions.leading_zeros(),
            entries: room::list(capacity.max(8)),
            used: 0,
            latest: 0,
            key: key.seed() | 1,
            capacity,
        }
    }

    /// Sets how many entries may be added from now on, at most as many as there is room for.
    pub fn set_capacity(&mut self, capacity: usize) {
        let most = self.entries.capacity().min(self.position_mask as usize);
        self.capacity = capacity.min(most);
    }

    /// Removes all entries, and adapts the number of slots in use to the last scan.
    pub fn clear(&mut self) {
        self.used = 0;
        // The table is less than half full next time if little changes.
        let wanted = (self.entries.len() * 9 / 4).next_power_of_two();
        let slots = wanted.clamp(SLOTS_MIN.min(self.slots.len()), self.slots.len());
        if slots != self.mask + 1 {
            self.mask = slots - 1;
            self.fill_slots();
        }
    }

    /// Removes the entries whose values are not kept.
    pub fn retain(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.entries.truncate(self.used);
        self.entries.retain(|entry| is_kept(entry.value));
        self.fill_slots();
        self.used = self.entries.len();
    }

    /// Drops the expected entries, and uses four times as many slots if half of them are taken.
    #[cold]
    fn make_room(&mut self) {
        self.entries.truncate(self.used);
        if self.is_half_full() {
            self.mask = ((self.mask + 1) * 4).min(self.slots.len()) - 1;
        }
        self.fill_slots();
        self.used = self.entries.len();
    }

    /// Whether half of the slots in use are taken, and there are more.
    #[inline]
    fn is_half_full(&self) -> bool {
        self.used * 2 > self.mask && self.mask + 1 < self.slots.len()
    }

    /// Makes the slots of all entries anew, and of the expected ones.
    fn fill_slots(&mut self) {
        let Self { slots, entries, mask, key, position_mask, .. } = self;
        slots[..=*mask].fill(0);
        let mut kept = 0;
        for at in 0..entries.len() {
            let entry = entries[at];
            let (start, tag) = split(hash(entry.address, *key), *position_mask);
            let free = (start..start + PROBES_MAX).map(|at| at & *mask).find(|&at| slots[at] == 0);
            // Without a free slot, which does not happen by chance (see PROBES_MAX), the entry is
            // lost, and counts as new when it is inserted again.
            if let Some(free) = free {
                entries[kept] = entry;
                kept += 1;
                slots[free] = tag | kept as u32;
            }
        }
        entries.truncate(kept);
    }

    /// Number of addresses in the table.
    pub fn len(&self) -> usize {
        self.used
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Loads the slot where the search for `address` begins, so that it is in the processor's
    /// cache soon after. Many such loads run at once. Does nothing as long as all is as expected.
    /// Returns a number without a meaning, which the caller passes to [`core::hint::black_box`]:
    /// otherwise the compiler removes the load.
    #[inline]
    pub fn touch(&self, address: u64) -> u32 {
        if self.used < self.entries.len() {
            return 0;
        }
        let (start, _) = split(hash(address, self.key), self.position_mask);
        self.slots[start & self.mask]
    }

    /// The position of an address in the list of entries, or the free slot where its search ends
    /// and what a new entry has there. An address that is only expected has neither.
    #[inline]
    fn find(&self, address: u64) -> Result<usize, Option<(usize, u32)>> {
        if self.latest < self.used && self.entries[self.latest].address == address {
            return Ok(self.latest);
        }
        let (start, tag) = split(hash(address, self.key), self.position_mask);
        for at in start..start + PROBES_MAX {
            let slot = self.slots[at & self.mask];
            if slot == 0 {
                return Err(Some((at & self.mask, tag)));
            }
            let position = (slot & self.position_mask) as usize - 1;
            if slot & !self.position_mask == tag && self.entries[position].address == address {
                return if position < self.used { Ok(position) } else { Err(None) };
            }
        }
        Err(None)
    }

    /// The value of `address`, if it is in the table.
    #[inline]
    pub fn get(&self, address: u64) -> Option<u32> {
        let position = self.find(address).ok()?;
        Some(self.entries[position].value)
    }

    /// Changes the value of `address`, if it is in the table.
    pub fn set(&mut self, address: u64, value: u32) {
        if let Ok(position) = self.find(address) {
            self.entries[position].value = value;
        }
    }

    /// Adds `address` with `value` unless it is in the table already.
    #[inline]
    pub fn insert(&mut self, address: u64, value: u32) -> Insertion {
        if let Some(expected) = self.entries.get_mut(self.used)
            && expected.address == address
            && self.used < self.capacity
        {
            expected.value = value;
            self.latest = self.used;
            self.used += 1;
            return Insertion::New;
        }
        match self.find(address) {
            Ok(position) => {
                self.latest = position;
                Insertion::Old(self.entries[position].value)
            }
            Err(_) if self.used >= self.capacity => Insertion::Full,
            Err(free) => self.add(address, value, free),
        }
    }

    /// Adds an address whose search has ended at a free slot. There is room for one more.
    #[inline]
    fn add(&mut self, address: u64, value: u32, free: Option<(usize, u32)>) -> Insertion {
        let free = if self.used < self.entries.len() || self.is_half_full() {
            self.make_room();
            self.find(address).err().flatten()
        } else {
            free
        };
        let Some((free, tag)) = free else { return Insertion::Full };
        self.entries.push(AddressMapEntry { address, value });
        self.latest = self.used;
        self.used += 1;
        self.slots[free] = tag | self.used as u32;
        Insertion::New
    }
}

/// A keyed hash: two products, and what is high in them added to what is low. Slab addresses
/// differ in few bits, and page addresses in none of the low ones.
#[inline]
fn hash(address: u64, key: u64) -> u64 {
    let first = (address ^ key).wrapping_mul(MIX);
    let second = (first ^ (first >> 32)).wrapping_mul(key);
    second ^ (second >> 29)
}

/// Any odd number with about as many bits set as not.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// The slot where the search of a hash begins, before it is masked, and what its slot has above the
/// position of its entry. The two have no bit of the hash in common.
#[inline]
fn split(hash: u64, position_mask: u32) -> (usize, u32) {
    ((hash >> 32) as usize, hash as u32 & !position_mask)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_agrees_with_a_simple_model() {
        let mut map = AddressMap::new(1000, HashKey::new(0x1234_5678_9abc_def1));
        for round in 0..3_u64 {
            let mut model = HashMap::new();
            for i in 0..1500_u64 {
                let address = 0xffff_8880_0000_0000 + (i % 1200) * 192 + round * 64;
                let expected = match model.get(&address) {
                    Some(&value) => Insertion::Old(value),
                    None if model.len() == 1000 => Insertion::Full,
                    None => {
                        model.insert(address, i as u32);
                        Insertion::New
                    }
                };
                assert_eq!(map.insert(address, i as u32), expected);
            }
            for (address, value) in &mut model {
                *value += 1;
                map.set(*address, *value);
            }
            for (&address, &value) in &model {
                assert_eq!(map.get(address), Some(value));
            }
            map.set(1, 1);
            assert_eq!(map.get(1), None);
            assert_eq!(map.len(), model.len());
            map.clear();
        }
    }

    #[test]
    fn it_grows_within_its_memory_and_keeps_everything() {
        let mut map = AddressMap::new(100_000, HashKey::new(0xfeed_f00d_dead_beef));
        for round in 0..3_u64 {
            for i in 0..100_000_u64 {
                let address = 0xffff_8880_0000_0000 + i * 64 + (round << 40);
                assert_eq!(map.insert(address, i as u32), Insertion::New, "{i}");
            }
            assert_eq!(map.insert(1, 1), Insertion::Full);
            for i in 0..100_000_u64 {
                let address = 0xffff_8880_0000_0000 + i * 64 + (round << 40);
                assert_eq!(map.get(address), Some(i as u32), "{i}");
            }
            map.clear();
            assert_eq!(map.get(0xffff_8880_0000_0000), None);
        }
        // First a small population, then a large one again.
        for i in 0..10_u64 {
            assert_eq!(map.insert(i * 8, 0), Insertion::New);
        }
        map.clear();
        for i in 0..50_000_u64 {
            assert_eq!(map.insert(i * 8, i as u32), Insertion::New);
        }
        assert_eq!(map.get(49_999 * 8), Some(49_999));
    }

    #[test]
    fn it_keeps_what_it_is_asked_to_keep() {
        let key = HashKey::new(0x1357_9bdf_0246_8ace);
        let mut map = AddressMap::new(6000, key);
        for round in 0..8_u32 {
            let address = |round: u32, at: u64| (u64::from(round) << 32) + at * 64 + 1;
            for at in 0..2000 {
                assert_eq!(map.insert(address(round, at), round), Insertion::New);
            }
            map.retain(|value| value + 1 >= round);
            assert_eq!(map.len(), 2000 * 2.min(round as usize + 1));
            for old in 0..=round {
                let is_kept = old + 1 >= round;
                let found = map.get(address(old, 7));
                assert_eq!(found, is_kept.then_some(old));
            }
        }
    }

    proptest! {
        /// Scan after scan adds about the same addresses, in about the same order.
        #[test]
        fn what_a_scan_adds_does_not_depend_on_the_scans_before(
            scans in vec(vec((0_u64..60, any::<bool>()), 0..80), 1..8),
            capacity in 1_usize..70,
        ) {
            let mut map = AddressMap::new(capacity, HashKey::new(0x1234_5678_9abc_def1));
            for scan in scans {
                map.clear();
                let mut model: Vec<(u64, u32)> = Vec::new();
                for (number, (address, sets)) in scan.into_iter().enumerate() {
                    let value = number as u32;
                    let is_full = model.len() == capacity;
                    let known = model.iter_mut().find(|(known, _)| *known == address);
                    prop_assert_eq!(map.get(address), known.as_ref().map(|known| known.1));
                    let expected = match known {
                        Some((_, known)) if sets => {
                            *known = value + 1000;
                            map.set(address, value + 1000);
                            Insertion::Old(*known)
                        }
                        Some((_, known)) => Insertion::Old(*known),
                        None if is_full => Insertion::Full,
                        None => {
                            model.push((address, value));
                            Insertion::New
                        }
                    };
                    prop_assert_eq!(map.insert(address, value), expected);
                    prop_assert_eq!(map.len(), model.len());
                }
                for address in 0..60 {
                    let known = model.iter().find(|(known, _)| *known == address);
                    prop_assert_eq!(map.get(address), known.map(|known| known.1));
                }
            }
        }
    }

    /// Slots of a large table have room for few bits of a hash, or none.
    #[test]
    fn positions_leave_as_many_bits_as_there_are() {
        for (capacity, mask) in [(0, 0xf), (8, 0xf), (15, 0xf), (16, 0x1f), (0xffff, 0xffff)] {
            let map = AddressMap::new(capacity, HashKey::new(7));
            assert_eq!(map.position_mask, mask, "{capacity}");
        }
        let mut map = AddressMap::new(0x1_0000, HashKey::new(7));
        for i in 0..0x1_0000_u64 {
            assert_eq!(map.insert(i, i as u32), Insertion::New);
        }
        assert_eq!(map.insert(0x1_0000, 0), Insertion::Full);
        assert!((0..0x1_0000).all(|i| map.get(i) == Some(i as u32)));
    }

    /// The addresses of slabs and of pages, which differ in few bits.
    #[test]
    fn runs_are_short() {
        for seed in [1, 0x1234_5678_9abc_def1, u64::MAX, 0] {
            for stride in [8, 64, 192, 704, 4096, 1 << 21] {
                let mut map = AddressMap::new(32_768, HashKey::new(seed));
                let address = |i: u64| 0xffff_8880_0000_0000 + i * stride;
                (0..32_768).for_each(|i| _ = map.insert(address(i), 0));
                let probes = |i: u64| {
                    let (start, _) = split(hash(address(i), map.key), map.position_mask);
                    let is_it = |at: &usize| {
                        let position = map.slots[at & map.mask] & map.position_mask;
                        map.entries[position as usize - 1].address == address(i)
                    };
                    (start..start + PROBES_MAX).position(|at| is_it(&at)).unwrap() + 1
                };
                // Linear probing at half load: 1.5 by Knuth, volume 3, 6.4.
                let mean = (0..32_768).map(probes).sum::<usize>() as f64 / 32_768.0;
                assert!(mean < 1.6, "{mean} probes, seed {seed}, stride {stride}");
            }
        }
    }
}
