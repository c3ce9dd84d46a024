//! A table from address to index, emptied at every scan.
//!
//! Open addressing at no more than half load, over slots allocated at start; emptying it is one addition.
//! Only as many slots are in use as the last scan needed, so that a small machine's table stays in the
//! processor's cache however high the limits are; when that is not enough, more are taken and the entries
//! move to their new places within the same memory. Addresses are the guest's, so they are hashed with a
//! key of this run and probes are bounded.

/// Longest run of slots that is searched. At half load a run of 64 is beyond chance; only a guest that
/// guesses the key could make one, and then it is told that the table is full.
const PROBES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    value: u32,
    generation: u32,
}

/// What [`AddressMap::insert`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Insertion {
    /// It was not there, and now is.
    New,
    /// It was there, with this value.
    Old(u32),
    /// There is no room.
    Full,
}

/// Fewest slots in use.
const SLOTS_MIN: usize = 4096;

/// A table from address to index.
#[derive(Debug)]
pub struct AddressMap {
    slots: Box<[Slot]>,
    /// Slots in use less one: they are the first of `slots`, a power of two.
    mask: usize,
    key: u64,
    generation: u32,
    used: usize,
    capacity: usize,
}

impl AddressMap {
    /// A table for `capacity` addresses, hashed with `key` (of this run, secret from the guest).
    pub fn new(capacity: usize, key: u64) -> Self {
        let slots = (capacity.max(8) * 2).next_power_of_two();
        Self {
            slots: vec![Slot::default(); slots].into_boxed_slice(),
            mask: slots.min(SLOTS_MIN) - 1,
            key: key | 1,
            generation: 1,
            used: 0,
            capacity: capacity.max(8),
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        // A quarter full next time, if all stays as it is.
        let wanted = (self.used * 4).next_power_of_two();
        self.mask = wanted.clamp(SLOTS_MIN.min(self.slots.len()), self.slots.len()) - 1;
        self.used = 0;
        self.begin_generation();
    }

    fn begin_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.slots.fill(Slot::default());
            self.generation = 1;
        }
    }

    /// Takes four times as many slots. Entries that still have the old generation are yet to be moved:
    /// whoever's place one of them takes is moved next.
    fn grow(&mut self) {
        let old_slots = self.mask + 1;
        self.mask = (old_slots * 4).min(self.slots.len()) - 1;
        let old = self.generation;
        if old == u32::MAX {
            // Once in four thousand million scans: begin to count anew, with the same entries.
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
            // Each turn puts one entry in its new place, so there are no more turns than entries.
            loop {
                slot.generation = self.generation;
                let start = self.start(slot.key);
                let mask = self.mask;
                let place = (start..start + PROBES_MAX)
                    .map(|at| at & mask)
                    .find(|&at| self.slots[at].generation != self.generation);
                let Some(place) = place else {
                    // Beyond chance (see PROBES_MAX): the entry is lost, and found to be new again.
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

    /// How many addresses it holds.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    #[inline]
    fn start(&self, address: u64) -> usize {
        // Multiply-shift after folding: slab addresses differ in few bits.
        let folded = (address ^ (address >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.key;
        (folded.wrapping_mul(self.key) >> 32) as usize & self.mask
    }

    /// The index of `address`.
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

    /// Puts `address` in with `value` unless it is there already.
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
                if self.used == self.capacity {
                    return Insertion::Full;
                }
                *slot = Slot { key: address, value, generation: self.generation };
                self.used += 1;
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
        let mut map = AddressMap::new(1000, 0x1234_5678_9abc_def1);
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
            for (&address, &value) in &model {
                assert_eq!(map.get(address), Some(value));
            }
            assert_eq!(map.get(1), None);
            assert_eq!(map.len(), model.len());
            map.clear();
        }
    }

    #[test]
    fn it_grows_within_its_memory_and_keeps_everything() {
        let mut map = AddressMap::new(100_000, 0xfeed_f00d_dead_beef);
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
        // A small population in between, then a large one again.
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
    fn it_survives_the_end_of_its_generations() {
        let mut map = AddressMap::new(20_000, 0x1357_9bdf_0246_8ace);
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
