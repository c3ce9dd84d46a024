//! A hash table from address to index, cleared at every scan.
//!
//! It uses open addressing at half load at most, over slots allocated at start; clearing it is one
//! addition. It uses only as many slots as the last scan needed. So the table of a small machine
//! stays in the processor's cache, however high the limits are. If more are needed, it grows, and
//! the entries move within the same memory. The guest controls the addresses, so they are hashed
//! with a random key and probes are bounded.

use crate::{HashKey, room};

/// Longest run of slots that is searched. At half load a run of 64 does not happen by chance. Only
/// a guest that guesses the key could make one; [`AddressMap::insert`] then returns
/// [`Insertion::Full`].
const PROBES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    value: u32,
    generation: u32,
}

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

/// A hash table from address to index.
#[derive(Debug)]
pub struct AddressMap {
    slots: Box<[Slot]>,
    /// Number of slots in use, a power of two, less one. They are the first of `slots`.
    mask: usize,
    key: u64,
    generation: u32,
    used: usize,
    capacity: usize,
}

impl AddressMap {
    /// A table for `capacity` addresses, hashed with `key`.
    pub fn new(capacity: usize, key: HashKey) -> Self {
        let slots = (capacity.max(8) * 2).next_power_of_two();
        Self {
            slots: room::copies(Slot::default(), slots),
            mask: slots.min(SLOTS_MIN) - 1,
            key: key.seed() | 1,
            generation: 1,
            used: 0,
            capacity,
        }
    }

    /// Sets how many entries may be added from now on, at most as many as there is room for.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.min(self.slots.len() / 2);
    }

    /// Removes all entries, and adapts the number of slots in use to the last scan.
    pub fn clear(&mut self) {
        // The table is a quarter full next time if nothing changes.
        let wanted = (self.used * 4).next_power_of_two();
        self.mask = wanted.clamp(SLOTS_MIN.min(self.slots.len()), self.slots.len()) - 1;
        self.used = 0;
        self.begin_generation();
    }

    /// Removes the entries whose values are not kept.
    pub fn retain(&mut self, is_kept: impl Fn(u32) -> bool) {
        let (old_slots, old) = (self.mask + 1, self.generation);
        for slot in &mut self.slots[..old_slots] {
            if slot.generation == old && !is_kept(slot.value) {
                // No generation has this number.
                slot.generation = 0;
                self.used -= 1;
            }
        }
        self.move_all_to_next_generation(old_slots);
    }

    fn begin_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.slots.fill(Slot::default());
            self.generation = 1;
        }
    }

    /// Uses four times as many slots. Entries that still have the old generation are not moved yet.
    /// An entry that is displaced by another is moved next.
    fn grow(&mut self) {
        let old_slots = self.mask + 1;
        self.mask = (old_slots * 4).min(self.slots.len()) - 1;
        self.move_all_to_next_generation(old_slots);
    }

    fn move_all_to_next_generation(&mut self, old_slots: usize) {
        let old = self.generation;
        if old == u32::MAX {
            // Once in four thousand million scans: restart the generations with the same entries.
            for slot in &mut self.slots {
                slot.generation = u32::from(slot.generation == old);
            }
            self.generation = 1;
            return self.move_all(old_slots, 1);
        }
        self.move_all(old_slots, old);
    }

    fn move_all(&mut self, old_slots: usize, old: u32) {
        self.generation = old + 1;
        for index in 0..old_slots {
            let mut slot = self.slots[index];
            if slot.generation != old {
                continue;
            }
            self.slots[index].generation = 0;
            // Each iteration moves one entry to its new place, so there are at most as many
            // iterations as entries.
            loop {
                slot.generation = self.generation;
                let start = self.start(slot.key);
                let mask = self.mask;
                let place = (start..start + PROBES_MAX)
                    .map(|at| at & mask)
                    .find(|&at| self.slots[at].generation != self.generation);
                let Some(place) = place else {
                    // Not by chance (see PROBES_MAX): the entry is lost, and counts as new when
                    // inserted again.
                    self.used -= 1;
                    break;
                };
                let displaced = std::mem::replace(&mut self.slots[place], slot);
                if displaced.generation != old {
                    break;
                }
                slot = displaced;
            }
        }
    }

    /// Number of addresses in the table.
    pub fn len(&self) -> usize {
        self.used
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    #[inline]
    fn start(&self, address: u64) -> usize {
        // Multiply-shift after folding: slab addresses differ in few bits.
        let folded = (address ^ (address >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.key;
        (folded.wrapping_mul(self.key) >> 32) as usize & self.mask
    }

    /// The value of `address`, if it is in the table.
    #[inline]
    pub fn get(&self, address: u64) -> Option<u32> {
        let mask = self.mask;
        let start = self.start(address);
        for at in start..start + PROBES_MAX {
            let slot = &self.slots[at & mask];
            if slot.generation != self.generation {
                return None;
            }
            if slot.key == address {
                return Some(slot.value);
            }
        }
        None
    }

    /// Changes the value of `address`, if it is in the table.
    pub fn set(&mut self, address: u64, value: u32) {
        let mask = self.mask;
        let start = self.start(address);
        for at in start..start + PROBES_MAX {
            let slot = &mut self.slots[at & mask];
            if slot.generation != self.generation {
                return;
            }
            if slot.key == address {
                slot.value = value;
                return;
            }
        }
    }

    /// Adds `address` with `value` unless it is in the table already.
    #[inline]
    pub fn insert(&mut self, address: u64, value: u32) -> Insertion {
        if self.used * 2 > self.mask && self.mask + 1 < self.slots.len() {
            self.grow();
        }
        let mask = self.mask;
        let start = self.start(address);
        for at in start..start + PROBES_MAX {
            let slot = &mut self.slots[at & mask];
            if slot.generation != self.generation {
                if self.used >= self.capacity {
                    return Insertion::Full;
                }
                *slot = Slot { key: address, value, generation: self.generation };
                self.used += 1;
                debug_assert!(self.used * 2 <= self.slots.len(), "half of the slots are free");
                return Insertion::New;
            }
            if slot.key == address {
                return Insertion::Old(slot.value);
            }
        }
        Insertion::Full
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

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
        for generation in [1, u32::MAX - 1, u32::MAX] {
            let mut map = AddressMap::new(6000, key);
            map.generation = generation;
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
    }

    #[test]
    fn it_survives_the_end_of_its_generations() {
        let mut map = AddressMap::new(20_000, HashKey::new(0x1357_9bdf_0246_8ace));
        map.generation = u32::MAX - 1;
        map.clear();
        for i in 0..20_000_u64 {
            assert_eq!(map.insert(i * 8, i as u32), Insertion::New);
        }
        for i in 0..20_000_u64 {
            assert_eq!(map.get(i * 8), Some(i as u32));
        }
        map.clear();
        assert_eq!(map.get(8), None);
    }
}
