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
//! urgent records ([`Class::is_urgent`]). And a scanner of several systems divides what is free
//! between those that it still has to scan ([`Producer::share`]).
//!
//! A record is framed by a line feed and by the block's own list of ends, so binary data can be
//! carried too.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use crate::activities::Preset;
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

/// One block of this many is reserved for urgent records.
const RESERVED_PART: usize = 8;

/// How important a record is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Class {
    /// Whether its severity is MEDIUM or above: it may use the reserved blocks.
    pub is_urgent: bool,
    /// Whether it is an alert: outputs may take alerts alone.
    pub is_alert: bool,
    /// The smallest preset that contains it.
    pub preset: Preset,
    /// Where the part begins in it that all records of a header have alike. The places of `lists`
    /// count from there.
    pub middle: u16,
    /// The lists of interfaces in it.
    pub lists: HeaderLists,
}

/// The two lists of interfaces in the header of a record: what an output with compact headers
/// leaves out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeaderLists {
    /// A hash of the system's name.
    pub system: u64,
    /// A hash of both lists.
    pub content: u64,
    /// Where each begins and ends, in the order of the record.
    pub places: [(u16, u16); 2],
}

/// Which records an output takes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Wanted {
    #[default]
    All,
    /// Alerts alone.
    Alerts,
    /// The records of a preset.
    Preset(Preset),
    /// The records about the system of this number ([`Producer::set_system`]).
    System(u32),
}

impl QueueSize {
    /// Approximate size in bytes of a queue.
    pub const fn bytes(&self) -> usize {
        let blocks = if self.blocks < BLOCKS_MIN { BLOCKS_MIN } else { self.blocks };
        // Each record that fits has the place of its end, and a mark.
        let records = self.block_bytes / RECORD_BYTES_MIN + 1;
        let of_record = size_of::<u32>() + size_of::<Mark>();
        blocks.saturating_mul(self.block_bytes + records * of_record)
    }
}

impl Default for QueueSize {
    /// 4 MiB: about two thousand records.
    fn default() -> Self {
        Self { blocks: 16, block_bytes: 256 * 1024 }
    }
}

/// Maximum number of times that the system, or the lists in its header, change within a block.
const TURNS_MAX: usize = 128;

/// Lower bound on a record's size, which bounds the number of ends in a block.
const RECORD_BYTES_MIN: usize = 16;

/// What outputs must know of a record to choose.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    is_alert: bool,
    preset: Preset,
    middle: u16,
}

impl Mark {
    const fn of(class: Class) -> Self {
        Self { is_alert: class.is_alert, preset: class.preset, middle: class.middle }
    }
}

/// Records in a row about one system, with the same lists in their headers.
#[derive(Clone, Copy, Debug)]
struct Turn {
    first: u32,
    of: Whose,
}

/// The number of a record's system, and the lists in its header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Whose {
    system: Option<u32>,
    lists: HeaderLists,
}

/// Whole records, one after the other.
#[derive(Debug)]
pub struct Block {
    bytes: Box<[u8]>,
    /// Where each record ends, its line feed included.
    ends: Box<[u32]>,
    /// One for each record.
    marks: Box<[Mark]>,
    turns: Vec<Turn>,
    records: usize,
    number: u64,
}

impl Block {
    fn new(bytes: usize) -> Self {
        let records_max = bytes / RECORD_BYTES_MIN + 1;
        Self {
            bytes: vec![0; bytes].into_boxed_slice(),
            ends: vec![0; records_max].into_boxed_slice(),
            marks: vec![Mark::default(); records_max].into_boxed_slice(),
            turns: Vec::with_capacity(TURNS_MAX),
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

    /// How many records from the start of `range` on fit into `room` bytes.
    pub fn fitting(&self, range: Range<usize>, room: usize) -> usize {
        let start = self.start(range.start);
        self.ends[range].partition_point(|&end| end as usize - start <= room)
    }

    /// The next wanted records in a row, from record `index` on; empty at the end if there is none.
    pub fn next_wanted(&self, wanted: Wanted, index: usize) -> Range<usize> {
        match wanted {
            Wanted::All => index..self.records,
            Wanted::Alerts => self.next_marked(index, |mark| mark.is_alert),
            Wanted::Preset(preset) => self.next_marked(index, |mark| mark.preset <= preset),
            Wanted::System(system) => {
                let mut own = self.turns_of(system).filter(|turn| turn.end > index);
                own.next()
                    .map_or(self.records..self.records, |turn| turn.start.max(index)..turn.end)
            }
        }
    }

    /// The number of wanted records from record `index` on.
    pub fn wanted_from(&self, wanted: Wanted, index: usize) -> usize {
        match wanted {
            Wanted::All => self.records - index,
            Wanted::Alerts => self.marked_from(index, |mark| mark.is_alert),
            Wanted::Preset(preset) => self.marked_from(index, |mark| mark.preset <= preset),
            Wanted::System(system) => self
                .turns_of(system)
                .map(|turn| turn.end.saturating_sub(turn.start.max(index)))
                .sum(),
        }
    }

    fn next_marked(&self, index: usize, is_wanted: impl Fn(&Mark) -> bool) -> Range<usize> {
        let rest = &self.marks[index..self.records];
        let start = rest.iter().position(&is_wanted).unwrap_or(rest.len());
        let count = rest[start..].iter().take_while(|mark| is_wanted(mark)).count();
        index + start..index + start + count
    }

    fn marked_from(&self, index: usize, is_wanted: impl Fn(&Mark) -> bool) -> usize {
        self.marks[index..self.records].iter().filter(|mark| is_wanted(mark)).count()
    }

    /// The records of each turn of a system.
    fn turns_of(&self, system: u32) -> impl Iterator<Item = Range<usize>> {
        let ends = self.turns.iter().skip(1).map(|turn| turn.first as usize);
        let ends = ends.chain([self.records]);
        let turns = self.turns.iter().zip(ends);
        turns
            .filter(move |(turn, _)| turn.of.system == Some(system))
            .map(|(turn, end)| turn.first as usize..end)
    }

    /// Whether such a record continues the last turn.
    fn continues(&self, of: Whose) -> bool {
        self.turns.last().is_some_and(|turn| turn.of == of)
    }

    /// The lists in the header of record `index`.
    pub fn lists(&self, index: usize) -> HeaderLists {
        let turn = self.turns.partition_point(|turn| turn.first as usize <= index);
        self.turns[turn - 1].of.lists
    }

    /// Record `index` without the lists in its header, in pieces.
    pub fn without_lists(&self, index: usize) -> [&[u8]; 3] {
        let (record, middle) = (self.slice(index, 1), usize::from(self.marks[index].middle));
        let [first, second] = self.lists(index).places;
        let place = |place: u16| middle + usize::from(place);
        [
            &record[..place(first.0)],
            &record[place(first.1)..place(second.0)],
            &record[place(second.1)..],
        ]
    }

    /// The records one by one, without their line feeds.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.records).map(|index| self.slice(index, 1).strip_suffix(b"\n").unwrap_or_default())
    }

    /// Bytes that are left.
    fn left(&self) -> usize {
        let is_full = self.records == self.ends.len();
        if is_full { 0 } else { (self.bytes.len() - 1).saturating_sub(self.start(self.records)) }
    }

    /// Room for one more such record, without its line feed.
    fn room(&mut self, of: Whose) -> &mut [u8] {
        let start = self.start(self.records);
        let has_turn = self.turns.len() < TURNS_MAX || self.continues(of);
        let length = if has_turn { self.left() } else { 0 };
        &mut self.bytes[start..start + length]
    }

    /// Adds the record that was written at the start of the room.
    fn commit(&mut self, length: usize, class: Class, of: Whose) {
        debug_assert!(length <= self.room(of).len(), "the record was written into the room");
        if !self.continues(of) {
            self.turns.push(Turn { first: self.records as u32, of });
        }
        let end = self.start(self.records) + length;
        self.bytes[end] = b'\n';
        self.ends[self.records] = end as u32 + 1;
        self.marks[self.records] = Mark::of(class);
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
    /// Number of free blocks that only urgent records may use.
    reserve: usize,
    /// Whether the current block is one of them.
    is_reserved: bool,
    /// Bytes that the present share still has, for urgent records and for others.
    left: [usize; 2],
    block_bytes: usize,
    refused: u64,
    /// The number of the system that records are about.
    system: Option<u32>,
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
        class: Class,
        write: impl FnMut(&mut [u8]) -> Result<usize, Full>,
    ) -> Result<(), Full> {
        self.offer_with(class, write).inspect_err(|_| self.count_refused(1))
    }

    /// As [`push_with`](Self::push_with), but a record without room is not counted: the caller
    /// offers it again, or counts it.
    pub fn offer_with(
        &mut self,
        class: Class,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, Full>,
    ) -> Result<(), Full> {
        if self.left[usize::from(!class.is_urgent)] == 0 {
            return Err(Full);
        }
        let of = Whose { system: self.system, lists: class.lists };
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
            if block.records == 0 {
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

    /// Sets the system that the next records are about, by a number of the caller's choice.
    pub fn set_system(&mut self, system: Option<u32>) {
        self.system = system;
    }

    /// Counts records that were offered, or summed up in one that was, and are lost.
    pub fn count_refused(&mut self, count: u64) {
        self.refused += count;
    }

    /// Copies one record, without a line feed, into the queue.
    pub fn try_push(&mut self, class: Class, record: &[u8]) -> Result<(), Full> {
        self.push_with(class, |room| {
            room.get_mut(..record.len()).ok_or(Full)?.copy_from_slice(record);
            Ok(record.len())
        })
    }

    /// Begins the turn of one of `turns` systems: its records may use that part of the free blocks,
    /// and the last of them may exceed it. Without this call, records may use all free blocks.
    pub fn share(&mut self, turns: usize) {
        let rest = self.current.as_ref().map_or(0, Block::left);
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
        let Some(mut block) = self.current.take_if(|block| block.records > 0) else {
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
        block.turns.clear();
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
        reserve: blocks / RESERVED_PART,
        is_reserved: false,
        left: [usize::MAX; 2],
        block_bytes: size.block_bytes,
        refused: 0,
        system: None,
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
            producer.try_push(Class::default(), number.to_string().as_bytes()).unwrap();
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
        producer.try_push(Class::default(), b"record").unwrap();
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
        while producer.try_push(Class::default(), &[b'x'; 30]).is_ok() {
            taken += 1;
        }
        assert_eq!((taken, producer.refused()), (8, 1));
        assert_eq!(producer.try_push(Class::default(), b"y"), Err(Full));
        let block = consumer.pop().unwrap();
        consumer.give_back(block);
        assert_eq!(producer.try_push(Class::default(), b"y"), Ok(()));
        assert_eq!(producer.refused(), 2);
    }

    #[test]
    fn a_record_longer_than_a_block_is_refused_and_others_still_pass() {
        let (mut producer, mut consumer) = queue(SMALL, &Waker::default());
        producer.try_push(Class::default(), b"before").unwrap();
        assert_eq!(producer.try_push(Class::default(), &[b'x'; 64]), Err(Full));
        assert_eq!(producer.try_push(Class::default(), &[b'x'; 64]), Err(Full));
        producer.try_push(Class::default(), &[b'x'; 63]).unwrap();
        drop(producer);
        assert_eq!(consumer.pop().unwrap().slice(0, 1), b"before\n");
        assert_eq!(consumer.pop().unwrap().slice(0, 1).len(), 64);
        assert!(consumer.is_finished());
    }

    /// The records of each system, found as an output finds them.
    fn records_of(block: &Block, system: u32) -> Vec<usize> {
        let (wanted, mut at, mut found) = (Wanted::System(system), 0, Vec::new());
        while at < block.records() {
            assert_eq!(block.wanted_from(wanted, at), block.wanted_from(wanted, 0) - found.len());
            let run = block.next_wanted(wanted, at);
            found.extend(run.clone());
            at = run.end;
        }
        found
    }

    #[test]
    fn the_records_of_a_system_are_found_in_a_block() {
        let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
        let systems = [None, Some(3), Some(3), Some(1), None, Some(3), Some(1), Some(1)];
        for system in systems {
            producer.set_system(system);
            producer.try_push(Class::default(), b"a record").unwrap();
        }
        producer.flush();
        let block = consumer.pop().unwrap();
        assert_eq!(records_of(&block, 3), [1, 2, 5]);
        assert_eq!(records_of(&block, 1), [3, 6, 7]);
        assert_eq!(records_of(&block, 2), [0; 0]);
    }

    #[test]
    fn systems_that_take_turns_often_use_more_blocks() {
        let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
        for turn in 0..3 * TURNS_MAX {
            producer.set_system(Some(turn as u32 % 2));
            producer.try_push(Class::default(), b"a record").unwrap();
        }
        producer.flush();
        let mut counts = [0; 2];
        while let Some(block) = consumer.pop() {
            for (system, count) in counts.iter_mut().enumerate() {
                *count += records_of(&block, system as u32).len();
            }
            consumer.give_back(block);
        }
        assert_eq!(counts, [3 * TURNS_MAX / 2; 2]);
    }

    fn urgent() -> Class {
        Class { is_urgent: true, is_alert: true, ..Class::default() }
    }

    const LARGE: QueueSize = QueueSize { blocks: 16, block_bytes: 64 };

    /// Pushes records of 30 bytes, two to a block, until one is refused; returns their number.
    fn fill(producer: &mut Producer, class: Class) -> usize {
        (0..1000).take_while(|_| producer.try_push(class, &[b'x'; 30]).is_ok()).count()
    }

    #[test]
    fn a_flood_leaves_room_for_urgent_records() {
        let (mut producer, mut consumer) = queue(LARGE, &Waker::default());
        assert_eq!(fill(&mut producer, Class::default()), 28);
        assert_eq!(fill(&mut producer, urgent()), 4);
        // What the writer gives back goes to urgent records first, then to others.
        for accepted in [0, 0, 2, 2] {
            let block = consumer.pop().unwrap();
            consumer.give_back(block);
            assert_eq!(fill(&mut producer, Class::default()), accepted);
        }
    }

    #[test]
    fn a_reserved_block_takes_events_when_there_is_room_again() {
        let (mut producer, mut consumer) = queue(LARGE, &Waker::default());
        fill(&mut producer, Class::default());
        producer.flush();
        assert_eq!(producer.try_push(Class::default(), b"event"), Err(Full));
        producer.try_push(urgent(), b"alert").unwrap();
        assert_eq!(producer.try_push(Class::default(), b"event"), Err(Full));
        for _ in 0..4 {
            let block = consumer.pop().unwrap();
            consumer.give_back(block);
        }
        assert_eq!(producer.try_push(Class::default(), b"event"), Ok(()));
    }

    #[test]
    fn each_system_has_its_share_of_what_is_free() {
        let (mut producer, mut consumer) = queue(LARGE, &Waker::default());
        let mut accepted = Vec::new();
        // The first of four systems floods; the writer takes nothing for five rounds.
        for _ in 0..5 {
            producer.share(4);
            let flood = fill(&mut producer, Class::default());
            for turns in (1..=3).rev() {
                producer.share(turns);
                assert_eq!(producer.try_push(urgent(), b"alert"), Ok(()));
            }
            accepted.push(flood);
        }
        assert!(accepted[0] <= 8, "{accepted:?}");
        assert!(accepted.is_sorted_by(|before, after| before >= after), "{accepted:?}");
        while let Some(block) = consumer.pop() {
            consumer.give_back(block);
        }
        producer.end_shares();
        assert!(fill(&mut producer, Class::default()) > 20);
    }

    #[test]
    fn alerts_are_found_in_a_block() {
        let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
        for class in [Class::default(), urgent(), urgent(), Class::default(), urgent()] {
            producer.try_push(class, b"x").unwrap();
        }
        producer.flush();
        let block = consumer.pop().unwrap();
        assert_eq!(
            [0, 2, 3, 5].map(|from| block.next_wanted(Wanted::Alerts, from)),
            [1..3, 2..3, 4..5, 5..5]
        );
        assert_eq!([0, 2, 5].map(|from| block.wanted_from(Wanted::Alerts, from)), [3, 2, 0]);
    }

    #[test]
    fn a_preset_has_the_records_of_smaller_ones() {
        let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
        for preset in [Preset::Security, Preset::Everything, Preset::Alerts, Preset::Security] {
            producer.try_push(Class { preset, ..Class::default() }, b"x").unwrap();
        }
        producer.flush();
        let block = consumer.pop().unwrap();
        let runs = |preset| {
            let wanted = Wanted::Preset(preset);
            let first = block.next_wanted(wanted, 0);
            (first.clone(), block.next_wanted(wanted, first.end), block.wanted_from(wanted, 0))
        };
        assert_eq!(runs(Preset::Alerts), (2..3, 4..4, 1));
        assert_eq!(runs(Preset::Security), (0..1, 2..4, 3));
        assert_eq!(runs(Preset::Everything), (0..4, 4..4, 4));
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
                producer.try_push(Class::default(), &vec![b'x'; length]).unwrap();
            }
            producer.flush();
            let block = consumer.pop().unwrap();
            for index in 0..block.records() {
                let count = block.fitting(index..block.records(), room);
                prop_assert!(block.slice(index, count).len() <= room);
                if index + count < block.records() {
                    prop_assert!(block.slice(index, count + 1).len() > room);
                }
            }
        }
    }
}
