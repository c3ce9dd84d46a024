//! [`Cache`]: unpacked blocks, in memory of fixed size.
//!
//! The cache has sets of eight slots; a full set evicts its least recently used block. Nothing here
//! allocates after the start.

/// Slots in a set.
const WAYS: usize = 8;
/// No block has this number.
const NONE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct BlockCacheSlot {
    block: u64,
    asked: u64,
}

/// A set-associative LRU cache of blocks.
#[derive(Debug)]
pub(super) struct Cache {
    slots: Vec<BlockCacheSlot>,
    bytes: Vec<u8>,
    block_bytes: usize,
    asked: u64,
}

impl Cache {
    /// A cache for as many blocks of `block_bytes` as fit into `bytes`, and at least one set.
    pub(super) fn new(bytes: usize, block_bytes: usize) -> Self {
        let sets = (bytes / block_bytes / WAYS).max(1);
        Self {
            slots: vec![BlockCacheSlot { block: NONE, asked: 0 }; sets * WAYS],
            bytes: vec![0; sets * WAYS * block_bytes],
            block_bytes,
            asked: 0,
        }
    }

    /// The block, if it is cached.
    pub(super) fn get(&mut self, block: u64) -> Option<&[u8]> {
        let start = self.set(block);
        let way = self.slots[start..start + WAYS].iter().position(|slot| slot.block == block)?;
        self.asked += 1;
        self.slots[start + way].asked = self.asked;
        Some(&self.bytes[(start + way) * self.block_bytes..][..self.block_bytes])
    }

    /// Evicts a block to make room for another: returns the slot and its bytes. The new block is
    /// cached once [`Self::keep`] is called for the slot.
    pub(super) fn room(&mut self, block: u64) -> (usize, &mut [u8]) {
        let start = self.set(block);
        let slots = &self.slots[start..start + WAYS];
        let oldest = slots.iter().enumerate().min_by_key(|(_, slot)| slot.asked);
        let slot = start + oldest.map_or(0, |(way, _)| way);
        self.slots[slot].block = NONE;
        self.slots[slot].asked = 0;
        (slot, &mut self.bytes[slot * self.block_bytes..][..self.block_bytes])
    }

    /// Records that a slot now holds a block.
    pub(super) fn keep(&mut self, slot: usize, block: u64) {
        self.asked += 1;
        self.slots[slot] = BlockCacheSlot { block, asked: self.asked };
    }

    fn set(&self, block: u64) -> usize {
        let sets = self.slots.len() / WAYS;
        // Adjacent blocks are in adjacent sets, so a sweep uses all sets.
        (block % sets as u64) as usize * WAYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(cache: &mut Cache, block: u64) -> bool {
        if let Some(bytes) = cache.get(block) {
            assert_eq!(bytes, [block as u8; 4]);
            return true;
        }
        let (slot, room) = cache.room(block);
        room.fill(block as u8);
        cache.keep(slot, block);
        false
    }

    #[test]
    fn the_least_recently_used_block_is_evicted() {
        let mut cache = Cache::new(0, 4);
        assert!((0..8).all(|block| !ask(&mut cache, block)));
        assert!((0..8).all(|block| ask(&mut cache, block)));
        assert!(ask(&mut cache, 0));
        assert!(!ask(&mut cache, 8));
        assert!(ask(&mut cache, 0));
        assert!(!ask(&mut cache, 1), "the oldest");
        assert!(ask(&mut cache, 8));
    }

    #[test]
    fn a_slot_that_was_not_filled_holds_nothing() {
        let mut cache = Cache::new(64, 4);
        ask(&mut cache, 3);
        cache.room(5);
        assert!(cache.get(5).is_none());
        assert!(ask(&mut cache, 3));
    }
}
