//! The form in which an output writes records, and how many of them fit.

use std::ops::Range;

use super::buffers::Buffers;
use crate::people::{LineStyle, line_of};
use crate::queue::Block;

/// The form of an output's records.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Form {
    /// As they are.
    #[default]
    Full,
    /// As lines for people. Making one allocates memory.
    ForPeople(LineStyle),
}

/// Brings records into an output's form.
#[derive(Debug)]
pub(crate) struct Lines {
    form: Form,
    /// The line for people of the record that was asked about last.
    line: String,
}

impl Lines {
    pub(crate) const fn new(form: Form) -> Self {
        Self { form, line: String::new() }
    }

    /// How many records from the start of `range`, which is not empty, fit into `room` bytes; in
    /// any form but the full one, at most one.
    pub(crate) fn fitting(&mut self, block: &Block, range: Range<usize>, room: usize) -> usize {
        match self.form {
            Form::Full => block.fitting(range, room),
            Form::ForPeople(_) if room == 0 => 0,
            Form::ForPeople(style) => {
                self.line = line_of(block.slice(range.start, 1), style);
                self.line.push('\n');
                usize::from(self.line.len() <= room)
            }
        }
    }

    /// Adds the `count` records from `index` on, which fit, to the buffers; returns their length.
    pub(crate) fn append(
        &mut self,
        block: &Block,
        index: usize,
        count: usize,
        buffers: &mut Buffers,
    ) -> usize {
        let bytes = match self.form {
            Form::Full => block.slice(index, count),
            Form::ForPeople(_) => self.line.as_bytes(),
        };
        buffers.append(bytes, count);
        bytes.len()
    }
}
