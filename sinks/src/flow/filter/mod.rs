//! Selects flow records by the filter language of argus's clients, such as `tcp and port 443`.
//!
//! [`RecordFilter::parse`] compiles an expression once, and [`RecordFilter::matches`] applies it to
//! a record. The language is that of ra(1) 3.0.8.2 (`common/scanner.l`, `common/grammar.y` and
//! `common/argus_code.c` of its source). Terms are joined from left to right: `and` binds no
//! stronger than `or`. A term without qualifiers has those of the term before it, so
//! `port 80 or 443` names two ports.
//!
//! Expressions of network clients are hostile: the length of the text, its nesting and the length
//! of the program are limited, and [`NameSource::BuiltIn`] keeps an expression from asking the
//! resolver. A compiled filter is a list of steps which are run in one direction, so it always
//! ends. It allocates nothing.

mod condition;
mod fields;
mod hosts;
mod keywords;
mod names;
mod parser;
mod terms;
mod words;

use std::fmt;

use panoptes_records::flow::{Cause, Extra, FlowRecord};

use super::argus::SourceId;
use condition::{Condition, FilteredRecord};

/// The longest expression in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4096;
/// The most open parentheses.
const PARENTHESES_MAX: u32 = 50;
/// The most steps of a program.
const STEPS_MAX: usize = 4096;

/// Where names of hosts and of ports come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameSource {
    /// From the system: the resolver, `/etc/services` and `/etc/ethers`. It may take seconds. For
    /// expressions of who runs the program.
    System,
    /// Well-known ports are built in, and hosts are numbers. For expressions of network clients.
    BuiltIn,
}

/// A fault in an expression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilterError {
    /// Where: a byte of the expression, from 0.
    pub at: usize,
    what: String,
}

impl FilterError {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter, character {}: {}", self.at + 1, self.what)
    }
}

impl std::error::Error for FilterError {}

/// A step of a program. There is one value, which is true at the beginning.
#[derive(Clone, Debug)]
enum FilterStep {
    /// Sets the value.
    Test(Condition),
    /// Reverses the value.
    Not,
    /// Passes over so many steps if the value is this one.
    Skip(bool, u16),
}

/// A compiled expression.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    steps: Vec<FilterStep>,
}

impl RecordFilter {
    /// Compiles an expression. An empty one matches all records.
    ///
    /// # Errors
    ///
    /// The expression is none of the language, or too long, or a name is unknown.
    pub fn parse(text: &str, names: NameSource) -> Result<Self, FilterError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            let what = format!("the expression has more than {EXPRESSION_BYTES_MAX} bytes");
            return Err(FilterError::new(EXPRESSION_BYTES_MAX, what));
        }
        let words = words::words(text)?;
        Ok(Self { steps: parser::parse(&words, text.len(), names)? })
    }

    /// Number of its conditions.
    pub fn terms(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, FilterStep::Test(_))).count()
    }

    /// Whether a flow record of this sensor matches.
    pub fn matches(&self, record: &FlowRecord, extra: &Extra<'_>, source: SourceId) -> bool {
        self.run(&FilteredRecord { flow: Some((record, extra)), source, cause: record.cause })
    }

    /// Whether a management record of this sensor matches. Of the conditions, `man`, `srcid` and
    /// those of the cause (`start`, `status`, `stop`) can.
    pub fn matches_management(&self, source: SourceId, cause: Cause) -> bool {
        self.run(&FilteredRecord { flow: None, source, cause })
    }

    fn run(&self, subject: &FilteredRecord<'_>) -> bool {
        let (mut value, mut at) = (true, 0);
        while let Some(step) = self.steps.get(at) {
            at += 1;
            match step {
                FilterStep::Test(condition) => value = condition.holds(subject),
                FilterStep::Not => value = !value,
                FilterStep::Skip(on, count) if *on == value => at += usize::from(*count),
                FilterStep::Skip(..) => {}
            }
        }
        value
    }
}

#[cfg(test)]
mod tests;
