//! What a round says of each check of the kernel's code: it holds, it is violated, or it was not
//! made.
//!
//! A check holds only if all its places were read. So a reader never takes what nobody looked at
//! for what is as it should be.

use panoptes_records::record::kernel_code::{IntegrityCheckDetails, IntegrityVerdict};
use panoptes_records::record::system_activity::SystemActivityDetails;

use super::intervals::{self, ScanIntervalStats};
use super::{Policy, Reporter};
use crate::kernel_code::{Check, CheckFacts, RoundFacts};

/// Why a check was not made of which nothing else is known.
const NO_PLACE: &str = "no such place was found";
/// Why a check was not made wholly if some reads failed.
const UNREAD: &str = "places could not be read";
/// Why a check has no verdict of which only one round has seen a violation.
const UNCONFIRMED: &str = "a violation was seen in one round only";

/// Number of checks by their verdicts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct VerdictCounts {
    holding: u32,
    violated: u32,
    not_made: u32,
}

/// The violations of a check, besides those that the facts of the round count.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckViolations {
    /// Number of violations that the facts do not count: hooks of modules.
    pub(super) further: u64,
    /// Whether enough rounds have seen one.
    pub(super) is_confirmed: bool,
}

/// Describes what a round has shown of a check.
pub(super) fn describe_check(
    check: Check,
    facts: &CheckFacts,
    seen: CheckViolations,
) -> IntegrityCheckDetails {
    let CheckFacts { places, unread, not_checked, .. } = *facts;
    let violations = u64::from(facts.violations).saturating_add(seen.further);
    let unread_why = (unread > 0).then_some(UNREAD);
    let none_why = (places == 0 && violations == 0).then_some(NO_PLACE);
    let is_violated = violations > 0 && seen.is_confirmed;
    let unconfirmed_why = (violations > 0 && !is_violated).then_some(UNCONFIRMED);
    let reason = unconfirmed_why.or(not_checked).or(unread_why).or(none_why);
    let verdict = match reason {
        _ if is_violated => IntegrityVerdict::Violated,
        None => IntegrityVerdict::Holds,
        Some(_) => IntegrityVerdict::NotChecked,
    };
    IntegrityCheckDetails { check: check.name(), verdict, places, violations, unread, reason }
}

impl VerdictCounts {
    fn of(round: &RoundFacts) -> Option<Self> {
        let mut counts = Self::default();
        for &check in Check::ALL {
            let seen = CheckViolations { further: 0, is_confirmed: true };
            let count = match describe_check(check, &round.of(check), seen).verdict {
                IntegrityVerdict::Holds => &mut counts.holding,
                IntegrityVerdict::Violated => &mut counts.violated,
                IntegrityVerdict::NotChecked => &mut counts.not_made,
            };
            *count += 1;
        }
        (round.rounds > 0).then_some(counts)
    }
}

impl Policy {
    /// Notes what the last round of checks of the kernel's code has shown.
    pub fn note_round(&mut self, round: &RoundFacts) {
        self.checks = VerdictCounts::of(round);
    }
}

impl Reporter<'_> {
    /// What every `coverage_report` has: the times between scans, and the checks of the last round.
    pub(super) fn coverage(
        &self,
        reached: Option<ScanIntervalStats>,
    ) -> SystemActivityDetails<'static> {
        let checks = self.policy.checks;
        SystemActivityDetails {
            checks_holding: checks.map(|checks| checks.holding),
            checks_violated: checks.map(|checks| checks.violated),
            checks_not_made: checks.map(|checks| checks.not_made),
            ..intervals::details(reached)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(facts: CheckFacts, further: u64) -> (&'static str, Option<&'static str>) {
        let seen = CheckViolations { further, is_confirmed: true };
        let details = describe_check(Check::Kprobes, &facts, seen);
        (details.verdict.word(), details.reason)
    }

    #[test]
    fn only_what_was_read_wholly_holds() {
        let facts = CheckFacts { places: 9, ..CheckFacts::default() };
        assert_eq!(verdict(facts, 0), ("holds", None));
        let unread = CheckFacts { unread: 1, ..facts };
        assert_eq!(verdict(unread, 0), ("not_checked", Some(UNREAD)));
        let partly = CheckFacts { not_checked: Some("the list is too long"), ..unread };
        assert_eq!(verdict(partly, 0), ("not_checked", Some("the list is too long")));
        assert_eq!(verdict(CheckFacts::default(), 0), ("not_checked", Some(NO_PLACE)));
    }

    #[test]
    fn what_is_violated_says_so_though_it_was_not_read_wholly() {
        let facts = CheckFacts { places: 9, violations: 1, ..CheckFacts::default() };
        assert_eq!(verdict(facts, 0), ("violated", None));
        let facts = CheckFacts { not_checked: Some("no symbol"), ..CheckFacts::default() };
        assert_eq!(verdict(facts, 2), ("violated", Some("no symbol")));
        // A step may note a violation without counting its place.
        let facts = CheckFacts { violations: 1, ..CheckFacts::default() };
        assert_eq!(verdict(facts, 0), ("violated", None));
    }

    #[test]
    fn what_one_round_alone_has_seen_is_no_violation_and_does_not_hold() {
        let facts = CheckFacts { places: 9, violations: 1, ..CheckFacts::default() };
        let seen = CheckViolations { further: 0, is_confirmed: false };
        let details = describe_check(Check::Kprobes, &facts, seen);
        assert_eq!(details.verdict, IntegrityVerdict::NotChecked);
        assert_eq!((details.reason, details.violations), (Some(UNCONFIRMED), 1));
    }

    #[test]
    fn no_round_has_no_counts() {
        assert_eq!(VerdictCounts::of(&RoundFacts::default()), None);
        let one = RoundFacts::with(&[]);
        let not_made = Check::ALL.len() as u32;
        assert_eq!(VerdictCounts::of(&one), Some(VerdictCounts { not_made, ..<_>::default() }));
    }
}
