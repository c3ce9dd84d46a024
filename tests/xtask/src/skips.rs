//! What could not run in this command, and why: printed once more at its end.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Each once, in the order of names.
static ALL: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notes what was skipped: `TEST needs NEED (what it is for)`.
pub(crate) fn note(skip: &str) {
    ALL.lock().unwrap_or_else(PoisonError::into_inner).insert(skip.to_owned());
}

/// Prints the number of skips, and each of them.
pub(crate) fn print() {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    if !all.is_empty() {
        println!("== skipped: {}", all.len());
        all.iter().for_each(|skip| println!("{skip}"));
    }
}
