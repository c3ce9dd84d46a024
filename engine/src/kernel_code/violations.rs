//! Violations: seen in one round, confirmed by the next, reported once.

use core::fmt::{self, Write as _};

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::address::KernelVa;
use panoptes_tables::room;

use super::check::{Check, ViolationKind};
use super::owners::Owner;
use crate::time::Monotonic;

/// Maximum number of violations that are tracked.
pub(crate) const VIOLATIONS_MAX: usize = 128;
/// Number of rounds in which a violation must be seen for certain.
const ROUNDS_TO_CONFIRM: u32 = 2;
/// Number of successive rounds that confirm a violation while modules and programs come and go all
/// the time. Memory is without an owner for a moment then, by chance, but not in so many rounds.
const ROUNDS_IN_DOUBT: u32 = 16;
/// Maximum number of bytes of code that a violation shows.
pub(super) const SHOWN_BYTES: usize = 16;

/// Bytes of code; as many as are known.
pub type CodeBytes = ArrayVec<u8, SHOWN_BYTES>;

/// One place that violates a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    pub check: Check,
    /// The pointer, byte or page that violates it.
    pub place: KernelVa,
    /// What the place belongs to, as far as the check knows: `IPv4 pre-routing`, `vector 14`.
    pub label: ArrayString<48>,
    /// The function that is hooked; null if there is none, or if it is unknown.
    pub function: KernelVa,
    /// Where the place leads; null if it leads nowhere.
    pub target: KernelVa,
    pub owner: Owner,
    /// The bytes of code as they were, and as they are.
    pub before: CodeBytes,
    pub after: CodeBytes,
}

impl Violation {
    /// A place that leads to a target of nobody.
    pub(crate) fn new(check: Check, place: KernelVa, target: KernelVa) -> Self {
        Self {
            check,
            place,
            label: ArrayString::new(),
            function: KernelVa::NULL,
            target,
            owner: Owner::Nobody,
            before: ArrayVec::new(),
            after: ArrayVec::new(),
        }
    }

    /// Sets what the place belongs to, cut to the room that it has.
    pub(super) fn set_label(&mut self, label: fmt::Arguments<'_>) {
        self.label.clear();
        // What does not fit is left out.
        let _ = self.label.write_fmt(label);
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.check, self.place, self.target) == (other.check, other.place, other.target)
    }
}

/// A violation with the rounds that have seen it.
#[derive(Clone, Debug)]
pub struct ConfirmedViolation {
    pub violation: Violation,
    /// When it was seen first.
    pub first_seen: Monotonic,
    /// Number of successive rounds that have seen it.
    pub rounds: u32,
    /// Number of these in which it was certain.
    certain: u32,
    seen_in: u32,
    /// Whether the present slice has seen it.
    is_new: bool,
    is_reported: bool,
}

/// The violations of one machine.
#[derive(Debug)]
pub(super) struct Violations {
    rows: Vec<ConfirmedViolation>,
    round: u32,
    /// Violations that found no room.
    pub(super) untracked: u64,
}

impl Violations {
    pub(super) fn new() -> Self {
        Self { rows: room::list(VIOLATIONS_MAX), round: 0, untracked: 0 }
    }

    pub(super) fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// Notes a violation. [`Self::settle`] decides at the end of the slice whether it is certain.
    pub(super) fn note(&mut self, violation: Violation, now: Monotonic) {
        let round = self.round;
        if let Some(row) = self.rows.iter_mut().find(|row| row.violation.is_same(&violation)) {
            if row.seen_in == round {
                return;
            }
            row.rounds = row.rounds.saturating_add(1);
            (row.seen_in, row.is_new) = (round, true);
            row.violation = violation;
        } else if self.rows.len() < VIOLATIONS_MAX {
            self.rows.push(ConfirmedViolation {
                violation,
                first_seen: now,
                rounds: 1,
                certain: 0,
                seen_in: round,
                is_new: true,
                is_reported: false,
            });
        } else {
            self.untracked += 1;
        }
    }

    /// Whether the present slice has seen violations that depend on the owners of memory.
    pub(super) fn has_new(&self) -> bool {
        self.rows.iter().any(|row| row.is_new && !row.is_of_text())
    }

    /// Ends a slice. `are_owners_certain`: whether the owners of memory did not change.
    pub(super) fn settle(&mut self, are_owners_certain: bool) {
        for row in self.rows.iter_mut().filter(|row| row.is_new) {
            row.is_new = false;
            if are_owners_certain || row.is_of_text() {
                row.certain = row.certain.saturating_add(1);
            }
        }
    }

    /// Ends a round that was whole: what it has not seen is over.
    pub(super) fn end_round(&mut self) {
        let round = self.round;
        self.rows.retain(|row| row.seen_in == round);
    }

    /// The violations that so many rounds confirm.
    pub(super) fn confirmed(&self, rounds: u32) -> impl Iterator<Item = &ConfirmedViolation> {
        self.rows.iter().filter(move |row| row.is_confirmed(rounds))
    }

    /// The first violation that is confirmed, with what marks it as reported.
    pub(super) fn next_unreported(&mut self) -> Option<&mut ConfirmedViolation> {
        let rows = self.rows.iter_mut();
        rows.into_iter().find(|row| row.is_confirmed(ROUNDS_TO_CONFIRM) && !row.is_reported)
    }
}

impl ConfirmedViolation {
    /// One that so many rounds have seen.
    #[cfg(test)]
    pub(crate) const fn seen(violation: Violation, first_seen: Monotonic, rounds: u32) -> Self {
        Self {
            violation,
            first_seen,
            rounds,
            certain: rounds,
            seen_in: rounds,
            is_new: false,
            is_reported: false,
        }
    }

    /// Whether it does not depend on the owners of memory.
    fn is_of_text(&self) -> bool {
        self.violation.check.kind() == ViolationKind::TextModified
    }

    /// Whether so many certain rounds have seen it, or very many others.
    fn is_confirmed(&self, rounds: u32) -> bool {
        self.certain >= rounds || self.rounds >= ROUNDS_IN_DOUBT
    }

    /// Marks it as reported.
    pub(super) const fn set_reported(&mut self) {
        self.is_reported = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(place: u64) -> Violation {
        Violation::new(Check::FtraceHandlers, KernelVa(place), KernelVa(7))
    }

    fn round(violations: &mut Violations, places: &[u64], is_certain: bool) {
        violations.begin_round();
        for &place in places {
            violations.note(violation(place), Monotonic::default());
        }
        violations.settle(is_certain);
        violations.end_round();
    }

    #[test]
    fn two_successive_rounds_confirm_a_violation_once() {
        let mut violations = Violations::new();
        round(&mut violations, &[1, 1], true);
        assert!(violations.next_unreported().is_none());
        round(&mut violations, &[1], true);
        violations.next_unreported().unwrap().set_reported();
        round(&mut violations, &[1], true);
        assert!(violations.next_unreported().is_none());
        round(&mut violations, &[], true);
        round(&mut violations, &[1], true);
        assert!(violations.next_unreported().is_none());
    }

    #[test]
    fn rounds_in_doubt_confirm_only_when_there_are_many() {
        let mut violations = Violations::new();
        for _ in 0..ROUNDS_IN_DOUBT - 1 {
            round(&mut violations, &[1], false);
            assert!(violations.next_unreported().is_none());
        }
        round(&mut violations, &[1], false);
        assert!(violations.next_unreported().is_some());
        round(&mut violations, &[], false);
        // Doubt between two certain rounds changes nothing.
        for is_certain in [true, false, true] {
            assert!(violations.next_unreported().is_none());
            round(&mut violations, &[1], is_certain);
        }
        assert!(violations.next_unreported().is_some());
    }

    #[test]
    fn text_needs_no_owner() {
        let mut violations = Violations::new();
        for _ in 0..2 {
            assert!(violations.next_unreported().is_none());
            violations.begin_round();
            let of_text = Violation::new(Check::KernelText, KernelVa(1), KernelVa::NULL);
            violations.note(of_text, Monotonic::default());
            assert!(!violations.has_new());
            violations.settle(false);
            violations.end_round();
        }
        assert!(violations.next_unreported().is_some());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut violations = Violations::new();
        violations.begin_round();
        for place in 0..VIOLATIONS_MAX as u64 + 3 {
            violations.note(violation(place), Monotonic::default());
        }
        assert_eq!(violations.untracked, 3);
    }
}
