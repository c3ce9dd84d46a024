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
/// Number of rounds in which a violation must be seen.
const ROUNDS_TO_CONFIRM: u32 = 2;
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
    /// Number of rounds that have seen it.
    pub rounds: u32,
    /// Number of changes of modules and programs before it was seen first.
    generation: u32,
    seen_in: u32,
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

    /// Notes a violation. One that depends on what modules and programs there are counts anew when
    /// these have changed.
    pub(super) fn note(&mut self, violation: Violation, now: Monotonic, generation: u32) {
        let round = self.round;
        if let Some(row) = self.rows.iter_mut().find(|row| row.violation.is_same(&violation)) {
            if row.seen_in == round {
                return;
            }
            let is_next = row.seen_in.wrapping_add(1) == round;
            let of_text = violation.check.kind() == ViolationKind::TextModified;
            let is_doubtful = row.generation != generation && !of_text;
            if !row.is_reported && (!is_next || is_doubtful) {
                (row.rounds, row.first_seen, row.generation) = (0, now, generation);
            }
            row.rounds = row.rounds.saturating_add(1);
            row.seen_in = round;
            row.violation = violation;
        } else if self.rows.len() < VIOLATIONS_MAX {
            self.rows.push(ConfirmedViolation {
                violation,
                first_seen: now,
                rounds: 1,
                generation,
                seen_in: round,
                is_reported: false,
            });
        } else {
            self.untracked += 1;
        }
    }

    /// Ends a round that was whole: what it has not seen is over.
    pub(super) fn end_round(&mut self) {
        let round = self.round;
        self.rows.retain(|row| row.seen_in == round);
    }

    /// The violations that are confirmed.
    pub(super) fn confirmed(&self, rounds: u32) -> impl Iterator<Item = &ConfirmedViolation> {
        self.rows.iter().filter(move |row| row.rounds >= rounds)
    }

    /// The first violation that is confirmed, with what marks it as reported.
    pub(super) fn next_unreported(&mut self) -> Option<&mut ConfirmedViolation> {
        let rows = self.rows.iter_mut();
        rows.into_iter().find(|row| row.rounds >= ROUNDS_TO_CONFIRM && !row.is_reported)
    }
}

impl ConfirmedViolation {
    /// One that so many rounds have seen.
    #[cfg(test)]
    pub(crate) const fn seen(violation: Violation, first_seen: Monotonic, rounds: u32) -> Self {
        Self { violation, first_seen, rounds, generation: 0, seen_in: rounds, is_reported: false }
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

    fn round(violations: &mut Violations, places: &[u64], generation: u32) {
        violations.begin_round();
        for &place in places {
            violations.note(violation(place), Monotonic::default(), generation);
        }
        violations.end_round();
    }

    #[test]
    fn two_successive_rounds_confirm_a_violation_once() {
        let mut violations = Violations::new();
        round(&mut violations, &[1, 1], 0);
        assert!(violations.next_unreported().is_none());
        round(&mut violations, &[1], 0);
        violations.next_unreported().unwrap().set_reported();
        round(&mut violations, &[1], 5);
        assert!(violations.next_unreported().is_none());
        round(&mut violations, &[], 5);
        round(&mut violations, &[1], 5);
        assert!(violations.next_unreported().is_none());
    }

    #[test]
    fn a_change_of_modules_begins_anew() {
        let mut violations = Violations::new();
        for generation in 0..4 {
            round(&mut violations, &[1], generation);
            assert!(violations.next_unreported().is_none());
        }
        round(&mut violations, &[1], 3);
        assert!(violations.next_unreported().is_some());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut violations = Violations::new();
        violations.begin_round();
        for place in 0..VIOLATIONS_MAX as u64 + 3 {
            violations.note(violation(place), Monotonic::default(), 0);
        }
        assert_eq!(violations.untracked, 3);
    }
}
