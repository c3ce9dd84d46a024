//! From a hash to the number of a row: open addressing with backward-shift deletion.
//!
//! The slots are allocated once, at least twice as many as rows, so that runs stay short. Removal
//! leaves no tombstones, so they stay short. The rows are stored elsewhere and never move; the
//! caller identifies them by a closure.
//!
//! The guest chooses the keys, so the hash must use a secret key of this run, and probes are
//! bounded.

use crate::room;

/// Maximum distance of an entry from its home slot. At half load, a run of 64 does not occur by
/// chance. Only a guest that guesses the key could make one, and then `insert` finds no room.
const PROBES_MAX: usize = 64;

/// A row number that no row has.
const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u32,
    row: u32,
}

const EMPTY_SLOT: Slot = Slot { tag: 0, row: EMPTY };

/// Finds rows by their hash.
#[derive(Debug)]
pub struct HashIndex {
    slots: Box<[Slot]>,
    mask: usize,
}

impl HashIndex {
    /// Allocates for at most `capacity` rows at a time.
    pub fn new(capacity: usize) -> Self {
        let slots = (capacity.max(8) * 2).next_power_of_two();
        Self { slots: room::copies(EMPTY_SLOT, slots), mask: slots - 1 }
    }

    /// The row with this hash for which `is` returns true.
    #[inline]
    pub fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let mut at = tag as usize & self.mask;
        for _ in 0..PROBES_MAX {
            let slot = self.slots[at];
            if slot.row == EMPTY {
                return None;
            }
            if slot.tag == tag && is(slot.row) {
                return Some(slot.row);
            }
            at = (at + 1) & self.mask;
        }
        None
    }

    /// Adds a row that is not in the index; `false` if there is no room near its home slot.
    #[inline]
    pub fn insert(&mut self, hash: u64, row: u32) -> bool {
        debug_assert!(row != EMPTY, "no row has this number");
        debug_assert!(self.find(hash, |other| other == row).is_none(), "a row is in it once");
        let tag = tag(hash);
        let mut at = tag as usize & self.mask;
        for _ in 0..PROBES_MAX {
            if self.slots[at].row == EMPTY {
                self.slots[at] = Slot { tag, row };
                return true;
            }
            at = (at + 1) & self.mask;
        }
        false
    }

    /// Removes a row; `false` if it is not in the index.
    pub fn remove(&mut self, hash: u64, row: u32) -> bool {
        let mut at = tag(hash) as usize & self.mask;
        let mut probes = 0;
        while self.slots[at].row != row {
            probes += 1;
            if self.slots[at].row == EMPTY || probes == PROBES_MAX {
                return false;
            }
            at = (at + 1) & self.mask;
        }
        let mut hole = at;
        // Ends at an empty slot: half of them are empty.
        loop {
            at = (at + 1) & self.mask;
            let slot = self.slots[at];
            if slot.row == EMPTY {
                break;
            }
            let home = slot.tag as usize & self.mask;
            // It may move back into the hole unless the hole is before its home.
            if at.wrapping_sub(home) & self.mask >= at.wrapping_sub(hole) & self.mask {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = EMPTY_SLOT;
        true
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        self.slots.fill(EMPTY_SLOT);
    }
}

/// The part of a hash that is kept.
const fn tag(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}
