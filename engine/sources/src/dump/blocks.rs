//! [`BlockDump`]: memory that a dump stores in compressed blocks.
//!
//! A block is unpacked into a cache of fixed size, once for all requests that touch it. A request
//! for a whole block bypasses the cache, so a sweep unpacks each block once and evicts nothing.

use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MachineSource, MemorySource, ReadOutcome, ReadRequest};

use super::cache::Cache;
use crate::DUMP_CACHE_BYTES;
use crate::pieces::answer_pieces;

/// Longest range of [`DumpIndex::next_data`] in pages; the next call continues it.
pub(super) const RANGE_PAGES: u64 = 4096;

/// A block that holds an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct DumpBlock {
    pub(super) block: u64,
    /// Physical address of its first byte.
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// A dump's index: which block holds an address, and its bytes.
pub(super) trait DumpIndex: std::fmt::Debug + Send {
    /// The block that holds an address; `None` if the dump lacks it.
    fn find(&mut self, address: u64) -> Option<DumpBlock>;

    /// Unpacks a block into `target`.
    fn load(&mut self, block: u64, target: &mut [u8]) -> ReadOutcome;

    /// The first range at or after an address that may hold anything but zeros.
    fn next_data(&mut self, from: u64) -> Option<Range<u64>>;

    /// Size in bytes of the largest block.
    fn block_bytes(&self) -> usize;

    /// Number of possible layouts of the memory.
    fn layouts(&self) -> usize {
        1
    }

    /// Switches to one of the layouts; returns its regions. Blocks keep their numbers.
    fn choose_layout(&mut self, _index: usize) -> Option<Vec<Range<u64>>> {
        None
    }
}

/// Memory in a dump of compressed blocks.
#[derive(Debug)]
pub(crate) struct BlockDump {
    blocks: Box<dyn DumpIndex>,
    regions: Vec<Range<u64>>,
    cache: Cache,
}

impl BlockDump {
    pub(super) fn new(blocks: Box<dyn DumpIndex>, regions: Vec<Range<u64>>) -> Self {
        let cache = Cache::new(DUMP_CACHE_BYTES, blocks.block_bytes().max(1));
        Self { blocks, regions, cache }
    }

    fn answer(&mut self, address: u64, target: &mut [u8]) -> ReadOutcome {
        answer_pieces(address, target, |at, target| {
            let found = self.blocks.find(at).ok_or(ReadOutcome::NotBacked)?;
            let skip = (at - found.start) as usize;
            let length = (found.bytes as usize - skip).min(target.len());
            match self.piece(found, skip, &mut target[..length]) {
                ReadOutcome::Read => Ok(length),
                outcome => Err(outcome),
            }
        })
    }

    /// Copies a part of a block from the cache, unpacking the block if necessary.
    fn piece(&mut self, found: DumpBlock, skip: usize, target: &mut [u8]) -> ReadOutcome {
        if let Some(bytes) = self.cache.get(found.block) {
            target.copy_from_slice(&bytes[skip..skip + target.len()]);
            return ReadOutcome::Read;
        }
        if target.len() as u64 == found.bytes {
            return self.blocks.load(found.block, target);
        }
        let (slot, room) = self.cache.room(found.block);
        let outcome = self.blocks.load(found.block, &mut room[..found.bytes as usize]);
        if outcome == ReadOutcome::Read {
            target.copy_from_slice(&room[skip..skip + target.len()]);
            self.cache.keep(slot, found.block);
        }
        outcome
    }
}

impl MachineSource for BlockDump {
    fn layouts(&self) -> usize {
        self.blocks.layouts()
    }

    fn choose_layout(&mut self, index: usize) {
        if let Some(regions) = self.blocks.choose_layout(index) {
            self.regions = regions;
        }
    }
}

impl MemorySource for BlockDump {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        ReadRequest::answer_each(requests, arena, |address, bytes| self.answer(address, bytes));
    }

    fn regions(&self) -> &[Range<u64>] {
        &self.regions
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        self.blocks.next_data(from.0)
    }
}
