//! What waits for a receiver that is slow or gone: entries in a bounded memory.
//!
//! Entries leave in the order in which they came. An entry is first sent, then confirmed. After a
//! lost connection, what was sent and not confirmed is sent again, from the start of an entry.
//!
//! Alerts and other entries have a chain of blocks each, and reading merges them by sequence. A
//! backlog accepts everything. Without a free block, it drops the oldest block of other entries,
//! and alerts only for later alerts. What was sent and not confirmed stays, since a part of it may
//! have arrived: a stream goes on where it was. It takes half of the blocks at most.
//!
//! A receiver confirms in one of two ways:
//!
//! ```
//! # use panoptes_sinks::output::backlog::Backlog;
//! let mut backlog = Backlog::new(1 << 20);
//! for record in ["{\"a\":1}\n", "{\"a\":2}\n"] {
//!     backlog.push(false, 0, &[record.as_bytes()]);
//! }
//! // By bytes, as the peer's kernel does for a stream: the socket takes 10 and then 6.
//! for room in [10, 6] {
//!     let mut left = room;
//!     while let Some(entry) = backlog.peek().filter(|_| left > 0) {
//!         let taken = left.min(entry.bytes.len());
//!         left -= taken;
//!         backlog.send(taken);
//!     }
//! }
//! backlog.confirm_bytes(12);
//! assert_eq!(backlog.waiting().entries, 1);
//! // The connection was lost. On the next one, the receiver acknowledges batches.
//! backlog.rewind();
//! let batch = backlog.peek().unwrap();
//! assert_eq!(batch.bytes, b"{\"a\":2}\n");
//! let (length, last) = (batch.bytes.len(), batch.sequence);
//! backlog.send(length);
//! backlog.confirm(last);
//! assert_eq!(backlog.waiting().entries, 0);
//! ```

mod chain;
mod memory;
#[cfg(test)]
mod tests;

pub use self::memory::Entry;

use self::chain::Chain;
use self::memory::{BLOCK_BYTES, Blocks, HEAD_BYTES};

/// Entries that wait for a receiver.
#[derive(Debug)]
pub struct Backlog {
    blocks: Blocks,
    alerts: Chain,
    others: Chain,
    next_sequence: u64,
    /// How many bytes of the first entry have arrived.
    arrived: usize,
    waiting: Waiting,
    dropped: Dropped,
}

/// What is not confirmed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Waiting {
    pub entries: usize,
    pub bytes: usize,
}

/// How many entries were dropped since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dropped {
    /// Without room for them.
    pub full: u64,
    /// Longer than a block.
    pub too_long: u64,
}

/// Both chains have a block that is filled, and half of the blocks may be in flight.
const BLOCKS_MIN: usize = 4;

impl Backlog {
    /// A backlog of about `bytes`.
    pub fn new(bytes: usize) -> Self {
        let count = (bytes / BLOCK_BYTES).max(BLOCKS_MIN);
        Self {
            blocks: Blocks::new(count),
            alerts: Chain::new(count),
            others: Chain::new(count),
            next_sequence: 0,
            arrived: 0,
            waiting: Waiting::default(),
            dropped: Dropped::default(),
        }
    }

    /// Adds an entry, which is passed in pieces, with a stamp. Drops what has to make room, or the
    /// entry itself if nothing may.
    pub fn push(&mut self, is_alert: bool, stamp: u64, pieces: &[&[u8]]) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if HEAD_BYTES + bytes > BLOCK_BYTES {
            self.dropped.too_long += 1;
        } else if let Some(block) = self.block_for(is_alert, HEAD_BYTES + bytes) {
            self.blocks.push(block, sequence, stamp, pieces);
            self.waiting.entries += 1;
            self.waiting.bytes += bytes;
        } else {
            self.dropped.full += 1;
        }
    }

    /// The next entry to send: what was not sent of it. `None` also if too much is in flight.
    pub fn peek(&self) -> Option<Entry<'_>> {
        self.next().map(|(_, entry)| entry)
    }

    /// Marks so many bytes of the next entry as sent.
    pub fn send(&mut self, bytes: usize) {
        if let Some((is_alert, _)) = self.next() {
            let chain = if is_alert { &mut self.alerts } else { &mut self.others };
            chain.send(bytes, &self.blocks);
        }
    }

    /// Removes the entries that were sent, up to the one of this sequence.
    pub fn confirm(&mut self, sequence: u64) {
        while let Some((is_alert, entry)) = self.first_sent()
            && entry.sequence <= sequence
        {
            let bytes = entry.bytes.len();
            self.remove_first(is_alert, bytes);
        }
    }

    /// Removes the entries that were sent and of which so many further bytes were the rest.
    pub fn confirm_bytes(&mut self, bytes: usize) {
        self.arrived += bytes;
        while let Some((is_alert, entry)) = self.first_sent()
            && entry.bytes.len() <= self.arrived
        {
            let bytes = entry.bytes.len();
            self.arrived -= bytes;
            self.remove_first(is_alert, bytes);
        }
    }

    /// Sends what is not confirmed again, from the start of an entry: the connection is a new one.
    pub fn rewind(&mut self) {
        self.arrived = 0;
        self.alerts.rewind();
        self.others.rewind();
    }

    pub const fn waiting(&self) -> Waiting {
        self.waiting
    }

    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// The next entry to send, and whether it is an alert.
    fn next(&self) -> Option<(bool, Entry<'_>)> {
        let entries = [&self.alerts, &self.others].map(|chain| chain.next(&self.blocks));
        let (is_alert, entry) = earlier(entries)?;
        let chain = if is_alert { &self.alerts } else { &self.others };
        let in_flight = self.alerts.in_flight() + self.others.in_flight();
        let may_send = !chain.sends_from_new_block() || in_flight < self.blocks.count() / 2;
        may_send.then_some((is_alert, entry))
    }

    /// The first entry that was sent and not confirmed, and whether it is an alert.
    fn first_sent(&self) -> Option<(bool, Entry<'_>)> {
        earlier([&self.alerts, &self.others].map(|chain| chain.first_sent(&self.blocks)))
    }

    fn remove_first(&mut self, is_alert: bool, bytes: usize) {
        let chain = if is_alert { &mut self.alerts } else { &mut self.others };
        chain.confirm(&mut self.blocks);
        self.waiting.entries -= 1;
        self.waiting.bytes -= bytes;
    }

    /// A block with room for so many bytes at its end.
    fn block_for(&mut self, is_alert: bool, bytes: usize) -> Option<u32> {
        let chain = if is_alert { &self.alerts } else { &self.others };
        if let Some(last) = chain.last()
            && self.blocks.length(last) + bytes <= BLOCK_BYTES
        {
            return Some(last);
        }
        let block = self.blocks.take_free().or_else(|| {
            self.drop_oldest(is_alert);
            self.blocks.take_free()
        })?;
        let chain = if is_alert { &mut self.alerts } else { &mut self.others };
        chain.extend(block, &self.blocks);
        Some(block)
    }

    /// Drops the oldest block of other entries; if there is none, that of alerts for an alert.
    fn drop_oldest(&mut self, is_alert: bool) {
        let lost = match self.others.drop_oldest(&mut self.blocks) {
            None if is_alert => self.alerts.drop_oldest(&mut self.blocks),
            lost => lost,
        };
        if let Some(lost) = lost {
            self.dropped.full += lost.entries as u64;
            self.waiting.entries -= lost.entries;
            self.waiting.bytes -= lost.bytes;
        }
    }
}

/// The earlier one of an alert and another entry, and whether it is the alert.
fn earlier([alert, other]: [Option<Entry<'_>>; 2]) -> Option<(bool, Entry<'_>)> {
    match (alert, other) {
        (Some(alert), Some(other)) if other.sequence < alert.sequence => Some((false, other)),
        (Some(alert), _) => Some((true, alert)),
        (None, other) => other.map(|other| (false, other)),
    }
}
