//! The steps of a round, one file each.

mod lists;
mod owners;
mod pages;

use super::context::{CheckContext, Cursor, Progress};

/// A step of a round.
pub(super) type Step = fn(&mut CheckContext<'_>, &mut Cursor) -> Progress;

/// The steps, in their order: those that find owners come first.
pub(super) const STEPS: &[Step] = &[owners::step, pages::step];
