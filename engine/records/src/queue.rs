//! The path from a scanner to the writer: bounded, one producer and one consumer, whole records
//! only.
//!
//! The queue circulates blocks, not bytes. The scanner writes records one after the other into the
//! block it holds, passes the block on when it is full or a scan ends, and gets an empty one back.
//! So records are serialised straight to where the writer reads them, no atomic is touched per
//! record, and no code here is unsafe (`rtrb` carries the blocks). When no empty block is left, the
//! record is refused and counted; neither side ever waits.
//!
//! Two rules keep a flood from costing others their records. The last blocks are reserved for
//! urgent records ([`RecordClass::is_urgent`]). And a scanner of several systems divides what is
//! free between those that it still has to scan ([`Producer::share`]).
//!
//! A record is framed by a line feed and by the block's own list of ends, so binary data can be
//! carried too.

mod block;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use crate::filter::FilterSubject;
use crate::json::Full;
use block::{RECORD_BYTES_MIN, RecordMetadata, RecordRunKey};

pub use block::{HeaderLists, RecordBlock, RecordClass};

/// The capacity of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueSize {
    /// Number of blocks; at least four.
    pub blocks: usize,
    /// Bytes per block; at least the size of the largest record.
    pub block_bytes: usize,
}

/// One being filled, one under way, one being written, one spare.
const BLOCKS_MIN: usize = 4;

/// One block of this many is reserved for urgent records.
const URGENT_PART: usize = 8;

impl QueueSize {
    /// Approximate size in bytes of a queue.
    pub const fn bytes(&self) -> usize {
        let blocks = if self.blocks < BLOCKS_MIN { BLOCKS_MIN } else { self.blocks };
        // Each record that fits has the place of its end, and what is known of it.
        let records = self.block_bytes / RECORD_BYTES_MIN + 1;
        let of_record = size_of::<u32>() + size_of::<RecordMetadata>();
        blocks.saturating_mul(self.block_bytes + records * of_record)
    }
}

impl Default for QueueSize {
    /// 4 MiB: about two thousand records.
    fn default() -> Self {
        Self { blocks: 16, block_bytes: 256 * 1024 }
    }
}

/// Wakes the writer's thread and numbers the blocks passed to it.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<WakerState>);

/// State shared by all queues to one writer.
#[derive(Debug, Default)]
struct WakerState {
    thread: OnceLock<Thread>,
    /// The number of the next block.
    next: AtomicU64,
}

impl Waker {
    /// Registers the calling thread as the one to wake. Only the first call counts.
    pub fn set_to_this_thread(&self) {
        let _ = self.0.thread.set(std::thread::current());
    }

    /// Wakes the thread. Costs a system call only when the thread is really asleep.
    pub fn wake(&self) {
        if let Some(thread) = self.0.thread.get() {
            thread.unpark();
        }
    }

    /// The number that the next block will have. Blocks with lower numbers were passed on, or are
    /// about to be.
    pub fn next(&self) -> u64 {
        self.0.next.load(Ordering::SeqCst)
    }
}

/// The scanner's end.
#[derive(Debug)]
pub struct Producer {
    /// The block being filled; `None` when the writer has all blocks.
    current: Option<RecordBlock>,
    full: rtrb::Producer<RecordBlock>,
    free: rtrb::Consumer<RecordBlock>,
    /// Number of all blocks, and of free ones that only urgent records may use.
    blocks: usize,
    reserve: usize,
    /// Whether the current block is one of them.
    is_reserved: bool,
    /// Bytes that the present share still has, for urgent records and for others.
    left: [usize; 2],
    block_bytes: usize,
    refused: u64,
    /// What records are about.
    subject: FilterSubject,
    /// Declared last, so that the writer finds the queue abandoned when it wakes.
    waker: WakeOnDrop,
}

/// Wakes the writer when the producer is dropped.
#[derive(Debug)]
struct WakeOnDrop(Waker);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Producer {
    /// Lets `write` put one record, without a line feed, straight into the queue. A record without
    /// room is refused and counted.
    ///
    /// `write` is called with the rest of a block and, if it returns [`Full`], again with a whole
    /// block.
    pub fn push_with(
        &mut self,
        class: RecordClass,
        write: impl FnMut(&mut [u8]) -> Result<usize, Full>,
    ) -> Result<(), Full> {
        self.offer_with(class, write).inspect_err(|_| self.count_refused(1))
    }

    /// As [`push_with`](Self::push_with), but a record without room is not counted: the caller
    /// offers it again, or counts it.
    pub fn offer_with(
        &mut self,
        class: RecordClass,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, Full>,
    ) -> Result<(), Full> {
        if self.left[usize::from(!class.is_urgent)] == 0 {
            return Err(Full);
        }
        let of = RecordRunKey { subject: self.subject, lists: class.lists };
        if let Some(block) = &mut self.current {
            if self.is_reserved && !class.is_urgent {
                self.is_reserved = self.free.slots() < self.reserve;
                if self.is_reserved {
                    return Err(Full);
                }
            }
            if let Ok(length) = write(block.room(of)) {
                block.commit(length, class, of);
                self.spend(length);
                return Ok(());
            }
            if block.records() == 0 {
                return Err(Full); // too long for any block
            }
            self.pass_on();
        }
        if !class.is_urgent && self.free.slots() <= self.reserve || !self.take_block() {
            return Err(Full);
        }
        let block = self.current.as_mut().ok_or(Full)?;
        let length = write(block.room(of))?;
        block.commit(length, class, of);
        self.spend(length);
        Ok(())
    }

    /// Sets what the next records are about.
    pub fn set_subject(&mut self, subject: FilterSubject) {
        self.subject = subject;
    }

    /// Counts records that were offered, or summed up in one that was, and are lost.
    pub fn count_refused(&mut self, count: u64) {
        self.refused += count;
    }

    /// Copies one record, without a line feed, into the queue.
    pub fn try_push(&mut self, class: RecordClass, record: &[u8]) -> Result<(), Full> {
        self.push_with(class, |room| {
            room.get_mut(..record.len()).ok_or(Full)?.copy_from_slice(record);
            Ok(record.len())
        })
    }

    /// Begins the turn of one of `turns` systems: its records may use that part of the free blocks,
    /// and the last of them may exceed it. Without this call, records may use all free blocks.
    pub fn share(&mut self, turns: usize) {
        let rest = self.current.as_ref().map_or(0, RecordBlock::left);
        let free = self.free.slots();
        let events = free.saturating_sub(self.reserve);
        let turns = turns.max(1);
        // At least one byte: while there is room at all, each system may write one record.
        let bytes = |blocks: usize| ((blocks * self.block_bytes + rest) / turns).max(1);
        self.left = [bytes(free), bytes(events)];
    }

    /// Ends the turns: records may use all free blocks.
    pub fn end_shares(&mut self) {
        self.left = [usize::MAX; 2];
    }

    /// Passes the current block on and wakes the writer. Call it when a scan ends.
    pub fn flush(&mut self) {
        if self.pass_on() {
            self.take_block();
        }
    }

    /// Passes the current block on if it has records.
    fn pass_on(&mut self) -> bool {
        let Some(mut block) = self.current.take_if(|block| block.records() > 0) else {
            return false;
        };
        block.number = self.waker.0.0.next.fetch_add(1, Ordering::SeqCst);
        // There is a place for every block that exists.
        let pushed = self.full.push(block);
        debug_assert!(pushed.is_ok(), "more blocks than places");
        self.waker.0.wake();
        true
    }

    /// Takes a free block as the current one; false if there is none.
    fn take_block(&mut self) -> bool {
        self.current = self.free.pop().ok();
        self.is_reserved = self.free.slots() < self.reserve;
        self.current.is_some()
    }

    fn spend(&mut self, length: usize) {
        for left in &mut self.left {
            *left = left.saturating_sub(length + 1);
        }
    }

    /// Whether half of the blocks are free, with the one that is being filled. While they are, the
    /// writer has no reason to let a slow output lose records.
    pub fn is_half_free(&self) -> bool {
        (self.free.slots() + 1) * 2 >= self.blocks
    }

    /// How many records were refused so far.
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

impl Drop for Producer {
    /// Passes on the block being filled, too.
    fn drop(&mut self) {
        self.flush();
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct Consumer {
    full: rtrb::Consumer<RecordBlock>,
    free: rtrb::Producer<RecordBlock>,
    blocks: usize,
    waker: Waker,
}

impl Consumer {
    /// The oldest block passed on.
    pub fn pop(&mut self) -> Option<RecordBlock> {
        self.full.pop().ok()
    }

    /// Returns a block for reuse.
    pub fn give_back(&mut self, mut block: RecordBlock) {
        block.clear();
        // If the producer is gone, the block is not needed.
        let _ = self.free.push(block);
    }

    /// Number of blocks in all.
    pub const fn blocks(&self) -> usize {
        self.blocks
    }

    /// The waker that the producer uses.
    pub const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whether the producer is gone and every block was taken out.
    pub fn is_finished(&self) -> bool {
        self.full.is_abandoned() && self.full.is_empty()
    }
}

/// Creates a queue with all its memory. `waker` is the writer's; several queues may share one.
pub fn queue(size: QueueSize, waker: &Waker) -> (Producer, Consumer) {
    let blocks = size.blocks.max(BLOCKS_MIN);
    let (full_producer, full_consumer) = rtrb::RingBuffer::new(blocks);
    let (mut free_producer, free_consumer) = rtrb::RingBuffer::new(blocks);
    for _ in 1..blocks {
        let pushed = free_producer.push(RecordBlock::new(size.block_bytes));
        debug_assert!(pushed.is_ok(), "fewer places than blocks");
    }
    let producer = Producer {
        current: Some(RecordBlock::new(size.block_bytes)),
        full: full_producer,
        free: free_consumer,
        blocks,
        reserve: blocks / URGENT_PART,
        is_reserved: false,
        left: [usize::MAX; 2],
        block_bytes: size.block_bytes,
        refused: 0,
        subject: FilterSubject::SERVICE,
        waker: WakeOnDrop(waker.clone()),
    };
    let consumer =
        Consumer { full: full_consumer, free: free_producer, blocks, waker: waker.clone() };
    (producer, consumer)
}

#[cfg(test)]
mod tests;
