//! The blocks of one kind of entries, oldest first, and how far they are sent and confirmed.

use std::collections::VecDeque;

use super::disk::Segment;
use super::memory::{BacklogEntry, BacklogMemory, BacklogSlot, HEAD_BYTES};

#[derive(Debug)]
pub(super) struct BacklogChain {
    blocks: VecDeque<BacklogBlock>,
    /// Where the first entry is that is not confirmed: in the first block.
    confirmed: usize,
    sent: SendPosition,
}

/// Entries in memory, on disk, or both.
#[derive(Clone, Copy, Debug)]
pub(super) struct BacklogBlock {
    /// Its place in memory. A block that is in flight, is sent next, or gets further entries has
    /// one.
    pub(super) slot: Option<BacklogSlot>,
    pub(super) is_on_disk: bool,
    /// The sequences in it.
    pub(super) first: u64,
    pub(super) last: u64,
    /// Entries, those that are confirmed included.
    pub(super) count: usize,
    /// Entries that are not confirmed.
    pub(super) entries: usize,
    pub(super) length: usize,
}

/// Where the first entry is that was not sent as a whole; at the end of the last block if there is
/// none.
#[derive(Clone, Copy, Debug, Default)]
struct SendPosition {
    /// Which of the chain's blocks.
    block: usize,
    offset: usize,
    /// How many bytes of it were sent.
    part: usize,
}

impl BacklogBlock {
    /// An empty block for the entry of this sequence.
    pub(super) const fn new(slot: BacklogSlot, sequence: u64) -> Self {
        let (first, last, slot) = (sequence, sequence, Some(slot));
        Self { slot, is_on_disk: false, first, last, count: 0, entries: 0, length: 0 }
    }

    /// Its file.
    pub(super) const fn segment(&self, is_alert: bool) -> Segment {
        Segment { first: self.first, last: self.last, entries: self.count, is_alert }
    }

    /// The bytes of the entries that are not confirmed, which begin there.
    pub(super) const fn bytes(&self, confirmed: usize) -> usize {
        self.length.saturating_sub(confirmed + self.entries * HEAD_BYTES)
    }
}

impl BacklogChain {
    /// A chain with room for so many blocks.
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            blocks: VecDeque::with_capacity(blocks),
            confirmed: 0,
            sent: SendPosition::default(),
        }
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn block(&mut self, index: usize) -> Option<&mut BacklogBlock> {
        self.blocks.get_mut(index)
    }

    /// The last block, if it can get further entries.
    pub(super) fn last(&mut self) -> Option<&mut BacklogBlock> {
        self.blocks.back_mut().filter(|block| !block.is_on_disk)
    }

    /// Where the first entry of a block is that is not confirmed.
    pub(super) fn confirmed(&self, index: usize) -> usize {
        if index == 0 { self.confirmed } else { 0 }
    }

    /// Adds a block at the end.
    pub(super) fn extend(&mut self, block: BacklogBlock) {
        // All before it was sent: the next entry is the first of this block.
        if let Some(last) = self.blocks.back()
            && self.sent.block + 1 == self.blocks.len()
            && self.sent.offset == last.length
        {
            self.sent = SendPosition { block: self.blocks.len(), ..SendPosition::default() };
        }
        self.blocks.push_back(block);
    }

    /// How many blocks have bytes that were sent and not confirmed. They are the first ones.
    pub(super) fn in_flight(&self) -> usize {
        let SendPosition { block, offset, part } = self.sent;
        block + usize::from(offset > self.confirmed(block) || part > 0)
    }

    /// Whether sending the next entry adds a block to those in flight.
    pub(super) fn sends_from_new_block(&self) -> bool {
        self.sent.block >= self.in_flight()
    }

    /// The block to send from next.
    pub(super) const fn next_block(&self) -> usize {
        self.sent.block
    }

    /// The block to send from next, if it is not in memory.
    pub(super) fn block_to_load(&self) -> Option<&BacklogBlock> {
        self.blocks.get(self.sent.block).filter(|block| block.slot.is_none())
    }

    /// The oldest block, on disk or not, whose memory others may have.
    pub(super) fn block_to_leave(&self, is_on_disk: bool) -> Option<usize> {
        let may_grow = |index| index + 1 == self.blocks.len() && !self.blocks[index].is_on_disk;
        (self.sent.block + 1..self.blocks.len()).find(|&index| {
            let block = &self.blocks[index];
            block.slot.is_some() && block.is_on_disk == is_on_disk && !may_grow(index)
        })
    }

    /// The oldest block in which nothing is in flight. For its memory, it is not the next one.
    pub(super) fn block_to_drop(&self, for_memory: bool) -> Option<usize> {
        let first = if for_memory { self.sent.block + 1 } else { self.in_flight() };
        let may_drop = |index: &usize| !for_memory || self.blocks[*index].slot.is_some();
        (first..self.blocks.len()).find(may_drop)
    }

    /// The sequence of the next entry to send.
    pub(super) fn next_sequence(&self, memory: &BacklogMemory) -> Option<u64> {
        let block = self.blocks.get(self.sent.block)?;
        if self.sent.offset == 0 {
            return Some(block.first);
        }
        self.next(memory).map(|entry| entry.sequence)
    }

    /// The next entry to send: what was not sent of it.
    pub(super) fn next<'m>(&self, memory: &'m BacklogMemory) -> Option<BacklogEntry<'m>> {
        let block = self.blocks.get(self.sent.block)?;
        let entry = memory.entry(block.slot?, self.sent.offset);
        let entry = entry.filter(|_| self.sent.offset < block.length)?;
        Some(BacklogEntry { bytes: &entry.bytes[self.sent.part..], ..entry })
    }

    /// Marks so many further bytes of the next entry as sent.
    pub(super) fn send(&mut self, bytes: usize, memory: &BacklogMemory) {
        let Some(entry) = self.next(memory) else { return };
        if bytes < entry.bytes.len() {
            self.sent.part += bytes;
            return;
        }
        let offset = self.sent.offset + HEAD_BYTES + self.sent.part + entry.bytes.len();
        let is_last = self.sent.block + 1 == self.blocks.len();
        self.sent = if offset == self.blocks[self.sent.block].length && !is_last {
            SendPosition { block: self.sent.block + 1, ..SendPosition::default() }
        } else {
            SendPosition { block: self.sent.block, offset, part: 0 }
        };
    }

    /// The first entry that is not confirmed, if it was sent.
    pub(super) fn first_sent<'m>(&self, memory: &'m BacklogMemory) -> Option<BacklogEntry<'m>> {
        let is_sent = self.sent.block > 0 || self.confirmed < self.sent.offset;
        let first = self.blocks.front().filter(|_| is_sent)?;
        memory.entry(first.slot?, self.confirmed)
    }

    /// Removes the first entry, which was sent, and returns its block with the last of its entries.
    pub(super) fn confirm(&mut self, memory: &BacklogMemory) -> Option<BacklogBlock> {
        let entry = self.first_sent(memory)?;
        self.confirmed += HEAD_BYTES + entry.bytes.len();
        let first = self.blocks.front_mut()?;
        first.entries -= 1;
        if first.entries > 0 {
            return None;
        }
        self.confirmed = 0;
        // All of it was sent: the next place is in the next block, or nowhere.
        self.sent = match self.sent.block.checked_sub(1) {
            Some(block) => SendPosition { block, ..self.sent },
            None => SendPosition::default(),
        };
        self.blocks.pop_front()
    }

    /// Everything that is not confirmed is to be sent again.
    pub(super) fn rewind(&mut self) {
        self.sent = SendPosition { offset: self.confirmed, ..SendPosition::default() };
    }

    /// Takes a block out in which nothing is in flight.
    pub(super) fn remove(&mut self, index: usize) -> Option<BacklogBlock> {
        let block = self.blocks.remove(index)?;
        if index == 0 {
            self.confirmed = 0;
            self.sent = SendPosition::default();
        } else if self.sent.block == self.blocks.len() {
            // The block before it is the last one now, and may get further entries.
            let offset = self.blocks[index - 1].length;
            self.sent = SendPosition { block: index - 1, offset, part: 0 };
        }
        Some(block)
    }
}
