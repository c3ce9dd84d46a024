//! What waits for a receiver that is slow or gone: entries in a bounded memory, or on disk.
//!
//! Entries leave in the order in which they came. An entry is first sent, then confirmed. After a
//! lost connection, what was sent and not confirmed is sent again, from the start of an entry.
//!
//! Alerts and other entries have a chain of blocks each, and reading merges them by sequence. A
//! backlog accepts everything. Without a free block, it drops the oldest block of other entries,
//! and alerts only for later alerts. What was sent and not confirmed stays, since a part of it may
//! have arrived: a stream continues where it was. It takes half of the memory at most.
//!
//! With a disk, the memory holds what is sent next and what came last. Blocks between are in files,
//! until they are confirmed. What waits at the end is there after the next start; only a crash of
//! the program loses what was in memory, and sends what was just confirmed again.
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
mod disk;
mod memory;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

pub use self::disk::{FOLDER_MODE, entries_on_disk};
pub use self::memory::BacklogEntry;

use self::chain::{BacklogBlock, BacklogChain};
use self::disk::{Disk, Segment};
use self::memory::{BLOCK_BYTES, BacklogMemory, BacklogSlot, HEAD_BYTES, keep_whole};

/// Entries that wait for a receiver.
#[derive(Debug)]
pub struct Backlog {
    memory: BacklogMemory,
    disk: Option<Disk>,
    /// Maximum number of blocks, those on disk included.
    blocks_max: usize,
    alerts: BacklogChain,
    others: BacklogChain,
    next_sequence: u64,
    /// How many bytes of the first entry have arrived.
    arrived: usize,
    waiting: BacklogSize,
    dropped: BacklogDrops,
    error: Option<io::Error>,
    /// Whether the last block that was to be read could not be.
    is_unreadable: bool,
}

/// The number of entries that are not confirmed, and of their bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BacklogSize {
    pub entries: usize,
    pub bytes: usize,
}

/// How many entries were dropped since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BacklogDrops {
    /// Without room for them.
    pub full: u64,
    /// Longer than a block.
    pub too_long: u64,
    /// On disk, and damaged there.
    pub damaged: u64,
}

/// Both chains have a block that is filled, and as much is in flight.
const SLOTS_MIN: usize = 4;
/// With a disk, both have a block that is sent next, too, and one is on its way to the disk.
const SLOTS_MIN_WITH_DISK: usize = 10;
const _: () = assert!(SLOTS_MIN < SLOTS_MIN_WITH_DISK, "a disk needs more blocks");

impl Backlog {
    /// A backlog of about `bytes` in memory.
    pub fn new(bytes: usize) -> Self {
        Self::with_slots((bytes / BLOCK_BYTES).max(SLOTS_MIN))
    }

    fn with_slots(slots: usize) -> Self {
        Self {
            memory: BacklogMemory::new(slots),
            disk: None,
            blocks_max: slots,
            alerts: BacklogChain::new(slots),
            others: BacklogChain::new(slots),
            next_sequence: 0,
            arrived: 0,
            waiting: BacklogSize::default(),
            dropped: BacklogDrops::default(),
            error: None,
            is_unreadable: false,
        }
    }

    /// A backlog of about `disk_bytes` in a folder, which is created if it is missing, with what
    /// is there; about `bytes` of it, at most, are in memory too.
    pub fn open(bytes: usize, folder: &Path, disk_bytes: usize) -> io::Result<Self> {
        let disk = Disk::open(folder)?;
        let [slots, blocks_max] = [bytes.min(disk_bytes), disk_bytes]
            .map(|bytes| (bytes / BLOCK_BYTES).max(SLOTS_MIN_WITH_DISK));
        let mut backlog = Self { blocks_max, ..Self::with_slots(slots) };
        for (segment, length) in disk.segments()? {
            let Segment { first, last, entries, is_alert } = segment;
            backlog.next_sequence = backlog.next_sequence.max(last + 1);
            let length = length.min(BLOCK_BYTES);
            let (slot, is_on_disk, count) = (None, true, entries);
            let block = BacklogBlock { slot, is_on_disk, first, last, count, entries, length };
            backlog.chain(is_alert).extend(block);
            backlog.waiting.entries += entries;
            backlog.waiting.bytes += block.bytes(0);
        }
        backlog.disk = Some(disk);
        while backlog.blocks() > backlog.blocks_max && backlog.drop_oldest(true, false) {}
        backlog.load();
        Ok(backlog)
    }

    /// Adds an entry, which is passed in pieces, with a stamp. Drops what has to make room, or the
    /// entry itself if nothing may.
    pub fn push(&mut self, is_alert: bool, stamp: u64, pieces: &[&[u8]]) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let length = HEAD_BYTES + bytes;
        if length > BLOCK_BYTES {
            self.dropped.too_long += 1;
        } else if let Some((slot, offset)) = self.place_for(is_alert, sequence, length) {
            self.memory.write(slot, offset, (sequence, stamp), pieces);
            self.waiting.entries += 1;
            self.waiting.bytes += bytes;
        } else {
            self.dropped.full += 1;
        }
        self.load();
    }

    /// The next entry to send: what was not sent of it. `None` also if too much is in flight.
    pub fn peek(&self) -> Option<BacklogEntry<'_>> {
        self.next().map(|(_, entry)| entry)
    }

    /// Marks so many bytes of the next entry as sent.
    pub fn send(&mut self, bytes: usize) {
        if let Some((is_alert, _)) = self.next() {
            let chain = if is_alert { &mut self.alerts } else { &mut self.others };
            chain.send(bytes, &self.memory);
            self.load();
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
        self.load();
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
        self.load();
    }

    /// Sends what is not confirmed again, from the start of an entry: the connection is a new one.
    pub fn rewind(&mut self) {
        self.arrived = 0;
        self.alerts.rewind();
        self.others.rewind();
        self.load();
    }

    /// Whether what waits in it survives the program.
    pub const fn is_on_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Adds all that waits in another backlog. It must have no disk.
    pub fn take_over(&mut self, mut other: Self) {
        other.rewind();
        while let Some((is_alert, entry)) = other.next() {
            self.push(is_alert, entry.stamp, &[entry.bytes]);
            let (length, sequence) = (entry.bytes.len(), entry.sequence);
            other.send(length);
            other.confirm(sequence);
        }
    }

    /// Writes what is not confirmed to the disk. Returns how many entries are lost: all of them if
    /// there is no disk. Nothing may follow.
    pub fn finish(&mut self) -> usize {
        let Some(disk) = &self.disk else { return self.waiting.entries };
        let mut lost = 0;
        for (is_alert, chain) in [(true, &mut self.alerts), (false, &mut self.others)] {
            for index in 0..chain.blocks() {
                let start = chain.confirmed(index);
                let Some(block) = chain.block(index) else { continue };
                let Some(slot) = block.slot.filter(|_| !block.is_on_disk || start > 0) else {
                    continue;
                };
                let rest = self.memory.entry(slot, start).map(|entry| entry.sequence);
                let first = rest.unwrap_or(block.first);
                let rest = BacklogBlock { first, count: block.entries, ..*block }.segment(is_alert);
                let result = if block.is_on_disk {
                    disk.shorten(block.segment(is_alert), rest)
                } else {
                    disk.write(rest, self.memory.seal(slot, start, block.length))
                };
                if let Err(error) = result {
                    lost += if block.is_on_disk { 0 } else { block.entries };
                    self.error = Some(error);
                }
            }
        }
        lost
    }

    pub const fn waiting(&self) -> BacklogSize {
        self.waiting
    }

    pub const fn dropped(&self) -> BacklogDrops {
        self.dropped
    }

    /// Why the disk failed, if it has failed since the last call.
    pub const fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    const fn chain(&mut self, is_alert: bool) -> &mut BacklogChain {
        if is_alert { &mut self.alerts } else { &mut self.others }
    }

    fn blocks(&self) -> usize {
        self.alerts.blocks() + self.others.blocks()
    }

    /// The next entry to send, and whether it is an alert.
    fn next(&self) -> Option<(bool, BacklogEntry<'_>)> {
        let [alert, other] =
            [&self.alerts, &self.others].map(|chain| chain.next_sequence(&self.memory));
        let is_alert = alert.is_some_and(|alert| other.is_none_or(|other| alert < other));
        let chain = if is_alert { &self.alerts } else { &self.others };
        let in_flight = self.alerts.in_flight() + self.others.in_flight();
        let may_send = !chain.sends_from_new_block() || in_flight < self.memory.slots() / 2;
        chain.next(&self.memory).filter(|_| may_send).map(|entry| (is_alert, entry))
    }

    /// The first entry that was sent and not confirmed, and whether it is an alert.
    fn first_sent(&self) -> Option<(bool, BacklogEntry<'_>)> {
        let alert = self.alerts.first_sent(&self.memory).map(|entry| (true, entry));
        let other = self.others.first_sent(&self.memory).map(|entry| (false, entry));
        [alert, other].into_iter().flatten().min_by_key(|(_, entry)| entry.sequence)
    }

    fn remove_first(&mut self, is_alert: bool, bytes: usize) {
        self.waiting.entries -= 1;
        self.waiting.bytes -= bytes;
        let chain = if is_alert { &mut self.alerts } else { &mut self.others };
        if let Some(block) = chain.confirm(&self.memory) {
            self.release(is_alert, block);
        }
    }

    /// Frees the places of a block.
    fn release(&mut self, is_alert: bool, block: BacklogBlock) {
        if let Some(slot) = block.slot {
            self.memory.release(slot);
        }
        if let Some(disk) = self.disk.as_ref().filter(|_| block.is_on_disk) {
            disk.remove(block.segment(is_alert));
        }
    }

    /// Makes room for an entry of this length, head included: where to write it.
    fn place_for(
        &mut self,
        is_alert: bool,
        sequence: u64,
        length: usize,
    ) -> Option<(BacklogSlot, usize)> {
        let has_room = |block: &BacklogBlock| block.length + length <= BLOCK_BYTES;
        if !self.chain(is_alert).last().is_some_and(|last| has_room(last)) {
            if self.blocks() >= self.blocks_max && !self.drop_oldest(is_alert, false) {
                return None;
            }
            // The blocks that are sent next get memory first. Without them, nothing would be sent.
            self.load();
            if self.memory.free() == 0 && !self.leave_memory() {
                self.drop_oldest(is_alert, true);
            }
            let slot = self.memory.take()?;
            self.chain(is_alert).extend(BacklogBlock::new(slot, sequence));
        }
        let last = self.chain(is_alert).last()?;
        let place = (last.slot?, last.length);
        (last.last, last.length) = (sequence, last.length + length);
        (last.count, last.entries) = (last.count + 1, last.entries + 1);
        Some(place)
    }

    /// Drops the oldest block of other entries; if there is none, that of alerts for an alert.
    fn drop_oldest(&mut self, is_alert: bool, for_memory: bool) -> bool {
        for of_alerts in [false, true].into_iter().take(1 + usize::from(is_alert)) {
            let chain = self.chain(of_alerts);
            let Some(index) = chain.block_to_drop(for_memory) else { continue };
            let confirmed = chain.confirmed(index);
            let Some(block) = chain.remove(index) else { continue };
            self.dropped.full += block.entries as u64;
            self.waiting.entries -= block.entries;
            self.waiting.bytes -= block.bytes(confirmed);
            self.release(of_alerts, block);
            return true;
        }
        false
    }

    /// Frees the memory of a block that is on disk, or can be written to it.
    fn leave_memory(&mut self) -> bool {
        let Some(disk) = &self.disk else { return false };
        for is_on_disk in [true, false] {
            for (is_alert, chain) in [(false, &mut self.others), (true, &mut self.alerts)] {
                let index = chain.block_to_leave(is_on_disk);
                let Some(block) = index.and_then(|index| chain.block(index)) else { continue };
                let Some(slot) = block.slot else { continue };
                if !is_on_disk {
                    let bytes = self.memory.seal(slot, 0, block.length);
                    if let Err(error) = disk.write(block.segment(is_alert), bytes) {
                        self.error = Some(error);
                        return false;
                    }
                }
                (block.slot, block.is_on_disk) = (None, true);
                self.memory.release(slot);
                return true;
            }
        }
        false
    }

    /// Reads the blocks that are to be sent next, if they are on disk.
    fn load(&mut self) {
        while let Some(is_alert) = self.chain_to_load() {
            // Without a slot, until something is confirmed.
            let has_slot = self.memory.free() > 0 || self.leave_memory();
            if !has_slot || self.read(is_alert).is_none() {
                return;
            }
        }
    }

    /// Which chain has its next block on disk only: the earlier one of both.
    fn chain_to_load(&self) -> Option<bool> {
        let alert = self.alerts.block_to_load().map(|block| (block.first, true));
        let other = self.others.block_to_load().map(|block| (block.first, false));
        [alert, other].into_iter().flatten().min().map(|(_, is_alert)| is_alert)
    }

    /// Reads the next block of a chain. What is damaged is dropped: an entry, and all after it in
    /// the block. `None`: it cannot be read now.
    fn read(&mut self, is_alert: bool) -> Option<()> {
        let disk = self.disk.as_ref()?;
        let chain = if is_alert { &mut self.alerts } else { &mut self.others };
        let index = chain.next_block();
        let block = chain.block(index)?;
        let (segment, before) = (block.segment(is_alert), *block);
        let slot = self.memory.take()?;
        let bytes = self.memory.bytes_mut(slot);
        let read = disk.read(segment, bytes);
        let is_first = !std::mem::replace(&mut self.is_unreadable, read.is_err());
        let length = match read {
            Ok(length) => length,
            Err(error) => {
                let is_lost = is_lost(&error);
                if is_first {
                    self.error = Some(error);
                }
                if !is_lost {
                    self.memory.release(slot);
                    return None;
                }
                0
            }
        };
        (block.entries, block.length) =
            keep_whole(&mut bytes[..length], before.first, before.entries);
        block.slot = Some(slot);
        let lost = before.entries.saturating_sub(block.entries);
        self.dropped.damaged += lost as u64;
        self.waiting.entries -= lost;
        self.waiting.bytes -= before.bytes(0);
        self.waiting.bytes += block.bytes(0);
        if block.entries == 0 {
            chain.remove(index);
            self.memory.release(slot);
            disk.remove(segment);
        }
        Some(())
    }
}

/// Whether a block that could not be read is lost for good. Otherwise memory or descriptors were
/// short, or rights or a file system may come back.
fn is_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::EIO)
}
