//! Blocks of records, and what outputs must know of each record to choose among them.

use std::ops::Range;

use crate::activities::{Activity, Severity};
use crate::filter::{Filter, FilterSubject, RecordAttributes};
use crate::preset::Preset;

/// What a record is, and how important.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordClass {
    pub activity: Activity,
    pub severity: Severity,
    /// Whether its severity is MEDIUM or above: it may use the reserved blocks.
    pub is_urgent: bool,
    /// Whether it is an alert: outputs may take alerts alone.
    pub is_alert: bool,
    /// Whether it is one of the sensor of flows, whatever the activity is.
    pub is_flow: bool,
    /// The smallest preset that contains it.
    pub preset: Preset,
    /// Offset in bytes of the part that is the same in all records with this header. The offsets in
    /// `lists` count from there.
    pub middle: u16,
    /// The lists of interfaces in it.
    pub lists: HeaderLists,
}

impl Default for RecordClass {
    /// That of an event in a header without lists.
    fn default() -> Self {
        Self {
            activity: Activity::ProcessCreated,
            severity: Severity::Info,
            is_urgent: false,
            is_alert: false,
            is_flow: false,
            preset: Preset::default(),
            middle: 0,
            lists: HeaderLists::default(),
        }
    }
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

impl HeaderLists {
    /// A record without these lists, in pieces; `None` if it has no such places. Its middle begins
    /// there.
    pub fn leave_out(self, record: &[u8], middle: u16) -> Option<[&[u8]; 3]> {
        let place = |place: u16| usize::from(middle) + usize::from(place);
        let [first, second] = self.places;
        Some([
            record.get(..place(first.0))?,
            record.get(place(first.1)..place(second.0))?,
            record.get(place(second.1)..)?,
        ])
    }
}

/// Maximum number of times that the system, or the lists in its header, change within a block.
pub(super) const TURNS_MAX: usize = 128;

/// Lower bound on a record's size, which bounds the number of ends in a block.
pub(super) const RECORD_BYTES_MIN: usize = 16;

/// The metadata of a record, kept beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordMetadata {
    mark: RecordAttributes,
    middle: u16,
}

impl RecordMetadata {
    const fn of(class: &RecordClass) -> Self {
        let RecordClass { activity, severity, is_alert, is_flow, preset, middle, .. } = *class;
        Self { mark: RecordAttributes { activity, severity, is_alert, preset, is_flow }, middle }
    }
}

/// Consecutive records about one system, with the same lists in their headers.
#[derive(Clone, Copy, Debug)]
struct RecordRun {
    first: u32,
    of: RecordRunKey,
}

/// What a record is about, and the lists in its header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RecordRunKey {
    pub(super) subject: FilterSubject,
    pub(super) lists: HeaderLists,
}

/// Whole records, one after the other.
#[derive(Debug)]
pub struct RecordBlock {
    bytes: Box<[u8]>,
    /// Where each record ends, its line feed included.
    ends: Box<[u32]>,
    /// One for each record.
    known: Box<[RecordMetadata]>,
    turns: Vec<RecordRun>,
    records: usize,
    pub(super) number: u64,
}

impl RecordBlock {
    pub fn new(bytes: usize) -> Self {
        let records_max = bytes / RECORD_BYTES_MIN + 1;
        Self {
            bytes: vec![0; bytes].into_boxed_slice(),
            ends: vec![0; records_max].into_boxed_slice(),
            known: vec![RecordMetadata::of(&RecordClass::default()); records_max]
                .into_boxed_slice(),
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

    /// The next consecutive records that an output takes, from record `index` on; empty at the end
    /// if there is none.
    pub fn next_wanted(&self, filter: &Filter, index: usize) -> Range<usize> {
        let mut run = self.records..self.records;
        for turn in self.turns_of(filter, index) {
            if !run.is_empty() && run.end != turn.start {
                break;
            }
            if run.is_empty() {
                let mut known = self.known[turn.clone()].iter();
                let Some(first) = known.position(|known| filter.takes(known.mark)) else {
                    continue;
                };
                run = turn.start + first..turn.start + first;
            }
            let rest = self.known[run.end..turn.end].iter();
            run.end += rest.take_while(|known| filter.takes(known.mark)).count();
            if run.end < turn.end {
                break;
            }
        }
        run
    }

    /// The number of records that an output takes, from record `index` on.
    pub fn wanted_from(&self, filter: &Filter, index: usize) -> usize {
        let count = |turn: Range<usize>| {
            self.known[turn].iter().filter(|known| filter.takes(known.mark)).count()
        };
        self.turns_of(filter, index).map(count).sum()
    }

    /// The records of each turn about what an output takes, from record `index` on.
    fn turns_of(&self, filter: &Filter, index: usize) -> impl Iterator<Item = Range<usize>> {
        let ends = self.turns.iter().skip(1).map(|turn| turn.first as usize);
        let turns = self.turns.iter().zip(ends.chain([self.records]));
        let own = turns.filter(|(turn, _)| filter.takes_subject(&turn.of.subject));
        own.map(move |(turn, end)| (turn.first as usize).max(index)..end)
            .filter(|turn| !turn.is_empty())
    }

    /// Whether such a record continues the last turn.
    fn continues(&self, of: RecordRunKey) -> bool {
        self.turns.last().is_some_and(|turn| turn.of == of)
    }

    /// The lists in the header of record `index`.
    pub fn lists(&self, index: usize) -> HeaderLists {
        let turn = self.turns.partition_point(|turn| turn.first as usize <= index);
        self.turns[turn - 1].of.lists
    }

    /// What record `index` is.
    pub fn mark(&self, index: usize) -> RecordAttributes {
        self.known[index].mark
    }

    /// Offset in record `index`, in bytes, of the part that is the same in all records with its
    /// header.
    pub fn middle(&self, index: usize) -> u16 {
        self.known[index].middle
    }

    /// Record `index` without the lists in its header, in pieces.
    pub fn without_lists(&self, index: usize) -> [&[u8]; 3] {
        let pieces = self.lists(index).leave_out(self.slice(index, 1), self.middle(index));
        pieces.expect("a header knows where its lists are")
    }

    /// Copies records of another block, as many as there is room for; returns their number.
    pub fn append_from(&mut self, other: &Self, range: Range<usize>) -> usize {
        for (count, index) in range.clone().enumerate() {
            let turn = other.turns.partition_point(|turn| turn.first as usize <= index);
            let of = other.turns[turn - 1].of;
            let record = other.slice(index, 1);
            let has_turn = self.turns.len() < TURNS_MAX || self.continues(of);
            if !has_turn || record.len() > self.left() + 1 {
                return count;
            }
            if !self.continues(of) {
                self.turns.push(RecordRun { first: self.records as u32, of });
            }
            let start = self.start(self.records);
            self.bytes[start..start + record.len()].copy_from_slice(record);
            self.ends[self.records] = (start + record.len()) as u32;
            self.known[self.records] = other.known[index];
            self.records += 1;
        }
        range.len()
    }

    /// Removes all records.
    pub fn clear(&mut self) {
        self.records = 0;
        self.turns.clear();
    }

    /// The records one by one, without their line feeds.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.records).map(|index| self.slice(index, 1).strip_suffix(b"\n").unwrap_or_default())
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        let is_full = self.records == self.ends.len();
        if is_full { 0 } else { (self.bytes.len() - 1).saturating_sub(self.start(self.records)) }
    }

    /// Room for one more such record, without its line feed.
    pub(super) fn room(&mut self, of: RecordRunKey) -> &mut [u8] {
        let start = self.start(self.records);
        let has_turn = self.turns.len() < TURNS_MAX || self.continues(of);
        let length = if has_turn { self.left() } else { 0 };
        &mut self.bytes[start..start + length]
    }

    /// Adds the record that was written at the start of the room.
    pub(super) fn commit(&mut self, length: usize, class: RecordClass, of: RecordRunKey) {
        debug_assert!(length <= self.room(of).len(), "the record was written into the room");
        if !self.continues(of) {
            self.turns.push(RecordRun { first: self.records as u32, of });
        }
        let end = self.start(self.records) + length;
        self.bytes[end] = b'\n';
        self.ends[self.records] = end as u32 + 1;
        self.known[self.records] = RecordMetadata::of(&class);
        self.records += 1;
    }
}
