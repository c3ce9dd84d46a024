//! The steps of a round, one file each.

mod ftrace;
mod interrupts;
mod kprobes;
mod lists;
mod module_space;
mod owners;
mod pages;
mod pointers;
mod system_calls;

use super::context::{CheckContext, Cursor, Progress};

/// A step of a round.
pub(super) type Step = fn(&mut CheckContext<'_>, &mut Cursor) -> Progress;

/// The steps, in their order: those that find owners come first.
pub(super) const STEPS: &[Step] = &[
    owners::step,
    system_calls::step,
    interrupts::step,
    ftrace::step,
    kprobes::step,
    pointers::step,
    pages::step,
];
