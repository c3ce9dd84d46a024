//! The form in which an output writes records, and how many of them fit.

use std::ops::Range;

use panoptes_records::people::{LineStyle, line_of};
use panoptes_records::queue::{HeaderLists, RecordBlock};

use super::buffers::OutputBuffers;

/// The form of an output's records.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LineForm {
    /// As they are.
    #[default]
    Full,
    /// Without the two lists of interfaces in their headers, but for the first record about each
    /// system, and where a list has changed.
    Compact,
    /// As lines for people. Making one allocates memory.
    ForPeople(LineStyle),
}

/// Brings records into an output's form.
#[derive(Debug)]
pub(crate) struct LineFormatter {
    form: LineForm,
    known: WrittenHeaderLists,
    /// The line for people of the record that was asked about last.
    line: String,
}

impl LineFormatter {
    pub(crate) fn new(form: LineForm) -> Self {
        let known = if form == LineForm::Compact {
            WrittenHeaderLists::new()
        } else {
            WrittenHeaderLists::default()
        };
        Self { form, known, line: String::new() }
    }

    /// Begins anew: who reads on does not know what was written before.
    pub(crate) fn begin(&mut self) {
        self.known.clear();
    }

    /// How many records from the start of `range`, which is not empty, fit into `room` bytes; in
    /// any form but the full one, at most one.
    pub(crate) fn fitting(
        &mut self,
        block: &RecordBlock,
        range: Range<usize>,
        room: usize,
    ) -> usize {
        match self.form {
            LineForm::Full => block.fitting(range, room),
            LineForm::Compact => {
                let pieces = self.compact(block, range.start);
                usize::from(pieces.iter().map(|piece| piece.len()).sum::<usize>() <= room)
            }
            LineForm::ForPeople(_) if room == 0 => 0,
            LineForm::ForPeople(style) => {
                self.line = line_of(block.slice(range.start, 1), style);
                self.line.push('\n');
                usize::from(self.line.len() <= room)
            }
        }
    }

    /// Adds the `count` records from `index` on, which fit, to the buffers; returns their length.
    pub(crate) fn append(
        &mut self,
        block: &RecordBlock,
        index: usize,
        count: usize,
        buffers: &mut OutputBuffers,
    ) -> usize {
        let pieces = match self.form {
            LineForm::Full => [block.slice(index, count), &[], &[]],
            LineForm::Compact => self.compact(block, index),
            LineForm::ForPeople(_) => [self.line.as_bytes(), &[], &[]],
        };
        let [first, second, third] = pieces;
        buffers.append(first, count);
        buffers.append(second, 0);
        buffers.append(third, 0);
        let length = first.len() + second.len() + third.len();
        if self.form == LineForm::Compact {
            self.known.add(block.lists(index));
        }
        length
    }

    /// A record in pieces, without its lists of interfaces if they are known.
    fn compact<'b>(&self, block: &'b RecordBlock, index: usize) -> [&'b [u8]; 3] {
        if self.known.has(block.lists(index)) {
            block.without_lists(index)
        } else {
            [block.slice(index, 1), &[], &[]]
        }
    }
}

/// The systems whose lists of interfaces were written, and which lists those are, as hashes.
#[derive(Debug, Default)]
pub(crate) struct WrittenHeaderLists {
    systems: Vec<(u64, u64)>,
    /// The one to replace if there is no room.
    oldest: usize,
    /// The one of the last record.
    last: Option<(u64, u64)>,
}

/// Maximum number of systems. The lists of a further one are written more often.
const SYSTEMS_MAX: usize = 1024;

impl WrittenHeaderLists {
    pub(crate) fn new() -> Self {
        Self { systems: Vec::with_capacity(SYSTEMS_MAX), ..Self::default() }
    }

    pub(crate) fn clear(&mut self) {
        self.systems.clear();
        (self.oldest, self.last) = (0, None);
    }

    pub(crate) fn has(&self, lists: HeaderLists) -> bool {
        let lists = (lists.system, lists.content);
        self.last == Some(lists) || self.systems.contains(&lists)
    }

    pub(crate) fn add(&mut self, lists: HeaderLists) {
        let lists = (lists.system, lists.content);
        if self.last == Some(lists) {
            return;
        }
        self.last = Some(lists);
        if let Some(known) = self.systems.iter_mut().find(|known| known.0 == lists.0) {
            *known = lists;
        } else if self.systems.len() < SYSTEMS_MAX {
            self.systems.push(lists);
        } else {
            self.systems[self.oldest] = lists;
            self.oldest = (self.oldest + 1) % SYSTEMS_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_of_systems_forgets_the_oldest_and_goes_on() {
        let lists = |system, content| HeaderLists { system, content, ..HeaderLists::default() };
        let mut known = WrittenHeaderLists::new();
        let capacity = known.systems.capacity();
        for system in 0..=SYSTEMS_MAX as u64 {
            assert!(!known.has(lists(system, 7)));
            known.add(lists(system, 7));
            assert!(known.has(lists(system, 7)));
        }
        assert_eq!(known.systems.capacity(), capacity);
        assert!(!known.has(lists(0, 7)) && known.has(lists(1, 7)));
        // Another list of the same system.
        assert!(!known.has(lists(1, 8)));
        known.add(lists(1, 8));
        assert!(known.has(lists(1, 8)) && !known.has(lists(1, 7)));
        known.clear();
        assert!(!known.has(lists(1, 8)));
    }
}
