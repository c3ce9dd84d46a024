//! Blocks of records, and what outputs must know of each record to choose among them.

use std::ops::Range;

use crate::preset::Preset;

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
    /// The records about the system of this number ([`super::Producer::set_system`]).
    System(u32),
}

/// Maximum number of times that the system, or the lists in its header, change within a block.
pub(super) const TURNS_MAX: usize = 128;

/// Lower bound on a record's size, which bounds the number of ends in a block.
pub(super) const RECORD_BYTES_MIN: usize = 16;

/// What outputs must know of a record to choose.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
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
pub(super) struct Whose {
    pub(super) system: Option<u32>,
    pub(super) lists: HeaderLists,
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
    pub(super) number: u64,
}

impl Block {
    pub(super) fn new(bytes: usize) -> Self {
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

    /// Removes all records.
    pub(super) fn clear(&mut self) {
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
    pub(super) fn room(&mut self, of: Whose) -> &mut [u8] {
        let start = self.start(self.records);
        let has_turn = self.turns.len() < TURNS_MAX || self.continues(of);
        let length = if has_turn { self.left() } else { 0 };
        &mut self.bytes[start..start + length]
    }

    /// Adds the record that was written at the start of the room.
    pub(super) fn commit(&mut self, length: usize, class: Class, of: Whose) {
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
