//! The blocks of one kind of entries, oldest first, and how far they are sent and confirmed.

use std::collections::VecDeque;

use super::memory::{Blocks, Entry, Filled, HEAD_BYTES};

#[derive(Debug)]
pub(super) struct Chain {
    blocks: VecDeque<u32>,
    /// Where the first entry is that is not confirmed: in the first block.
    confirmed: usize,
    sent: Place,
}

/// Where the first entry is that was not sent as a whole; at the end of the last block if there is
/// none.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Which of the chain's blocks.
    block: usize,
    offset: usize,
    /// How many bytes of it were sent.
    part: usize,
}

/// What a block had whose entries are dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

impl Chain {
    /// A chain of at most so many blocks.
    pub(super) fn new(blocks: usize) -> Self {
        Self { blocks: VecDeque::with_capacity(blocks), confirmed: 0, sent: Place::default() }
    }

    /// The last block, which may have room for more.
    pub(super) fn last(&self) -> Option<u32> {
        self.blocks.back().copied()
    }

    /// Adds an empty block at the end.
    pub(super) fn extend(&mut self, block: u32, blocks: &Blocks) {
        // All before it was sent: the next entry is the first of this block.
        if let Some(last) = self.last()
            && self.sent.block + 1 == self.blocks.len()
            && self.sent.offset == blocks.length(last)
        {
            self.sent = Place { block: self.blocks.len(), ..Place::default() };
        }
        self.blocks.push_back(block);
    }

    /// How many blocks have bytes that were sent and not confirmed. They are the first ones.
    pub(super) fn in_flight(&self) -> usize {
        let Place { block, offset, part } = self.sent;
        let confirmed = if block == 0 { self.confirmed } else { 0 };
        block + usize::from(offset > confirmed || part > 0)
    }

    /// Whether sending the next entry adds a block to those in flight.
    pub(super) fn sends_from_new_block(&self) -> bool {
        self.sent.block >= self.in_flight()
    }

    /// The next entry to send: what was not sent of it.
    pub(super) fn next<'b>(&self, blocks: &'b Blocks) -> Option<Entry<'b>> {
        let entry = blocks.entry(*self.blocks.get(self.sent.block)?, self.sent.offset)?;
        Some(Entry { bytes: &entry.bytes[self.sent.part..], ..entry })
    }

    /// Marks so many further bytes of the next entry as sent.
    pub(super) fn send(&mut self, bytes: usize, blocks: &Blocks) {
        let Some(entry) = self.next(blocks) else { return };
        if bytes < entry.bytes.len() {
            self.sent.part += bytes;
            return;
        }
        let offset = self.sent.offset + HEAD_BYTES + self.sent.part + entry.bytes.len();
        let is_last = self.sent.block + 1 == self.blocks.len();
        self.sent = if offset == blocks.length(self.blocks[self.sent.block]) && !is_last {
            Place { block: self.sent.block + 1, ..Place::default() }
        } else {
            Place { block: self.sent.block, offset, part: 0 }
        };
    }

    /// The first entry that is not confirmed, if it was sent.
    pub(super) fn first_sent<'b>(&self, blocks: &'b Blocks) -> Option<Entry<'b>> {
        let is_sent = self.sent.block > 0 || self.confirmed < self.sent.offset;
        let first = self.blocks.front().filter(|_| is_sent)?;
        blocks.entry(*first, self.confirmed)
    }

    /// Removes the first entry, which was sent, and its block with the last of its entries.
    pub(super) fn confirm(&mut self, blocks: &mut Blocks) {
        let Some(entry) = self.first_sent(blocks) else { return };
        self.confirmed += HEAD_BYTES + entry.bytes.len();
        let first = self.blocks[0];
        if blocks.confirm(first) > 0 {
            return;
        }
        blocks.release(first);
        self.blocks.pop_front();
        self.confirmed = 0;
        // All of it was sent: the next place is in the next block, or nowhere.
        self.sent = match self.sent.block.checked_sub(1) {
            Some(block) => Place { block, ..self.sent },
            None => Place::default(),
        };
    }

    /// Everything that is not confirmed is to be sent again.
    pub(super) fn rewind(&mut self) {
        self.sent = Place { offset: self.confirmed, ..Place::default() };
    }

    /// Drops the oldest block in which nothing is in flight.
    pub(super) fn drop_oldest(&mut self, blocks: &mut Blocks) -> Option<Lost> {
        let index = self.in_flight();
        let block = self.blocks.remove(index)?;
        let Filled { length, entries } = blocks.release(block);
        let mut lost = Lost { entries, bytes: length - entries * HEAD_BYTES };
        if index == 0 {
            lost.bytes -= self.confirmed;
            self.confirmed = 0;
            self.sent = Place::default();
        } else if self.sent.block == self.blocks.len() {
            // The block before it is the last one now, and may get further entries.
            let (block, offset) = (index - 1, blocks.length(self.blocks[index - 1]));
            self.sent = Place { block, offset, part: 0 };
        }
        Some(lost)
    }
}
