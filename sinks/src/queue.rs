//! The path from a scanner to the writer: bounded, one producer and one consumer, whole records
//! only.
//!
//! The queue circulates blocks, not bytes. The scanner writes records one after the other into the
//! block it holds, passes the block on when it is full or a scan ends, and gets an empty one back.
//! So records are serialised straight to where the writer reads them, no atomic is touched per
//! record, and no code here is unsafe (`rtrb` carries the blocks). When no empty block is left, the
//! record is refused and counted; neither side ever waits.
//!
//! A record is framed by a line feed and by the block's own list of ends, so binary data can be
//! carried too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use crate::json::Full;

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

impl Default for QueueSize {
    /// 4 MiB: about two thousand records.
    fn default() -> Self {
        Self { blocks: 16, block_bytes: 256 * 1024 }
    }
}

/// Lower bound on a record's size, which bounds the number of ends in a block.
const RECORD_BYTES_MIN: usize = 16;

/// Whole records, one after the other.
#[derive(Debug)]
pub struct Block {
    bytes: Box<[u8]>,
    /// Where each record ends, its line feed included.
    ends: Box<[u32]>,
    records: usize,
    number: u64,
}

impl Block {
    fn new(bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes].into_boxed_slice(),
            ends: vec![0; bytes / RECORD_BYTES_MIN + 1].into_boxed_slice(),
            records: 0,
            number: 0,
        }
    }

    pub const fn records(&self) -> usize {
        self.records
    }

    /// The block's sequence number among all blocks that reached this writer from any queue. A
    /// block that was passed on after another one was seen, or after its producer reported it to
    /// another thread, has a higher number.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Where record `index` begins, or where the last one ends.
    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] as usize }
    }

    /// The bytes of `count` records from `index` on, line feeds included.
    pub fn slice(&self, index: usize, count: usize) -> &[u8] {
        &self.bytes[self.start(index)..self.start(index + count)]
    }

    /// How many records from `index` on fit into `room` bytes.
    pub fn fitting(&self, index: usize, room: usize) -> usize {
        let start = self.start(index);
        self.ends[index..self.records].partition_point(|&end| end as usize - start <= room)
    }

    /// The records one by one, without their line feeds.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.records).map(|index| self.slice(index, 1).strip_suffix(b"\n").unwrap_or_default())
    }

    /// Room for one more record without its line feed.
    fn room(&mut self) -> &mut [u8] {
        let start = self.start(self.records);
        let end = if self.records == self.ends.len() { start } else { self.bytes.len() - 1 };
        &mut self.bytes[start..end.max(start)]
    }

    /// Adds the record that was written at the start of the room.
    fn commit(&mut self, length: usize) {
        debug_assert!(length <= self.room().len(), "the record was written into the room");
        let end = self.start(self.records) + length;
        self.bytes[end] = b'\n';
        self.ends[self.records] = end as u32 + 1;
        self.records += 1;
    }
}

/// Wakes the writer's thread and numbers the blocks passed to it.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Shared>);

/// State shared by all queues to one writer.
#[derive(Debug, Default)]
struct Shared {
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
    current: Option<Block>,
    full: rtrb::Producer<Block>,
    free: rtrb::Consumer<Block>,
    refused: u64,
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
    /// Lets `write` put one record, without a line feed, straight into the queue.
    ///
    /// `write` is called with the rest of a block and, if it returns [`Full`], again with a whole
    /// block.
    pub fn push_with(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, Full>,
    ) -> Result<(), Full> {
        if let Some(block) = &mut self.current {
            if let Ok(length) = write(block.room()) {
                block.commit(length);
                return Ok(());
            }
            if block.records == 0 {
                return self.refuse(); // too long for any block
            }
            self.flush();
        }
        let Some(mut block) = self.current.take().or_else(|| self.free.pop().ok()) else {
            return self.refuse();
        };
        let written = write(block.room());
        if let Ok(length) = written {
            block.commit(length);
        }
        self.current = Some(block);
        if written.is_err() { self.refuse() } else { Ok(()) }
    }

    /// Copies one record, without a line feed, into the queue.
    pub fn try_push(&mut self, record: &[u8]) -> Result<(), Full> {
        self.push_with(|room| {
            room.get_mut(..record.len()).ok_or(Full)?.copy_from_slice(record);
            Ok(record.len())
        })
    }

    /// Passes the current block on and wakes the writer. Call it when a scan ends.
    pub fn flush(&mut self) {
        let Some(mut block) = self.current.take_if(|block| block.records > 0) else {
            return;
        };
        block.number = self.waker.0.0.next.fetch_add(1, Ordering::SeqCst);
        // There is a place for every block that exists.
        let pushed = self.full.push(block);
        debug_assert!(pushed.is_ok(), "more blocks than places");
        self.waker.0.wake();
        self.current = self.free.pop().ok();
    }

    /// How many records were refused so far.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn refuse(&mut self) -> Result<(), Full> {
        self.refused += 1;
        Err(Full)
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
    full: rtrb::Consumer<Block>,
    free: rtrb::Producer<Block>,
    blocks: usize,
    waker: Waker,
}

impl Consumer {
    /// The oldest block passed on.
    pub fn pop(&mut self) -> Option<Block> {
        self.full.pop().ok()
    }

    /// Returns a block for reuse.
    pub fn give_back(&mut self, mut block: Block) {
        block.records = 0;
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
        let pushed = free_producer.push(Block::new(size.block_bytes));
        debug_assert!(pushed.is_ok(), "fewer places than blocks");
    }
    let producer = Producer {
        current: Some(Block::new(size.block_bytes)),
        full: full_producer,
        free: free_consumer,
        refused: 0,
        waker: WakeOnDrop(waker.clone()),
    };
    let consumer =
        Consumer { full: full_consumer, free: free_producer, blocks, waker: waker.clone() };
    (producer, consumer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: QueueSize = QueueSize { blocks: 4, block_bytes: 64 };

    #[test]
    fn records_come_out_whole_and_in_order() {
        let (mut producer, mut consumer) = queue(SMALL, &Waker::default());
        for number in 0..20_u32 {
            producer.try_push(number.to_string().as_bytes()).unwrap();
        }
        producer.flush();
        let mut seen = Vec::new();
        while let Some(block) = consumer.pop() {
            assert!(block.slice(0, block.records()).ends_with(b"\n"));
            seen.extend(block.iter().map(|record| String::from_utf8(record.to_vec()).unwrap()));
            consumer.give_back(block);
        }
        assert_eq!(seen, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_handed_over_before_a_flush_or_a_full_block() {
        let (mut producer, mut consumer) = queue(SMALL, &Waker::default());
        producer.try_push(b"record").unwrap();
        assert!(consumer.pop().is_none());
        producer.flush();
        assert_eq!(consumer.pop().unwrap().records(), 1);
        producer.flush();
        assert!(consumer.pop().is_none());
    }

    #[test]
    fn a_full_queue_refuses_counts_and_recovers() {
        let (mut producer, mut consumer) = queue(SMALL, &Waker::default());
        let mut taken = 0;
        while producer.try_push(&[b'x'; 30]).is_ok() {
            taken += 1;
        }
        assert_eq!((taken, producer.refused()), (8, 1));
        assert_eq!(producer.try_push(b"y"), Err(Full));
        let block = consumer.pop().unwrap();
        consumer.give_back(block);
        assert_eq!(producer.try_push(b"y"), Ok(()));
        assert_eq!(producer.refused(), 2);
    }

    #[test]
    fn a_record_longer_than_a_block_is_refused_and_others_still_pass() {
        let (mut producer, mut consumer) = queue(SMALL, &Waker::default());
        producer.try_push(b"before").unwrap();
        assert_eq!(producer.try_push(&[b'x'; 64]), Err(Full));
        assert_eq!(producer.try_push(&[b'x'; 64]), Err(Full));
        producer.try_push(&[b'x'; 63]).unwrap();
        drop(producer);
        assert_eq!(consumer.pop().unwrap().slice(0, 1), b"before\n");
        assert_eq!(consumer.pop().unwrap().slice(0, 1).len(), 64);
        assert!(consumer.is_finished());
    }

    proptest! {
        #[test]
        fn what_fits_is_never_cut(
            lengths in proptest::collection::vec(0_usize..20, 1..20),
            room in 0_usize..200,
        ) {
            let size = QueueSize { blocks: 4, block_bytes: 512 };
            let (mut producer, mut consumer) = queue(size, &Waker::default());
            for &length in &lengths {
                producer.try_push(&vec![b'x'; length]).unwrap();
            }
            producer.flush();
            let block = consumer.pop().unwrap();
            for index in 0..block.records() {
                let count = block.fitting(index, room);
                prop_assert!(block.slice(index, count).len() <= room);
                if index + count < block.records() {
                    prop_assert!(block.slice(index, count + 1).len() > room);
                }
            }
        }
    }
}
