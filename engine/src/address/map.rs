//! A table from address to index, emptied at every scan.
//!
//! Open addressing at no more than half load, over slots allocated at start; emptying it is one addition.
//! Addresses are the guest's, so they are hashed with a key of this run and probes are bounded.

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

/// A table from address to index.
#[derive(Debug)]
pub struct AddressMap {
    slots: Box<[Slot]>,
    shift: u32,
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
            shift: 64 - slots.trailing_zeros(),
            key: key | 1,
            generation: 1,
            used: 0,
            capacity: capacity.max(8),
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.used = 0;
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.slots.fill(Slot::default());
            self.generation = 1;
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
        (folded.wrapping_mul(self.key) >> self.shift) as usize
    }

    /// The index of `address`.
    #[inline]
    pub fn get(&self, address: u64) -> Option<u32> {
        let mask = self.slots.len() - 1;
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
        let mask = self.slots.len() - 1;
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
}
