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

/// Number of checks by their verdicts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct VerdictCounts {
    holding: u32,
    violated: u32,
    not_made: u32,
}

/// Describes what a round has shown of a check. `further` is the number of violations that the
/// facts do not count: hooks of modules.
pub(super) fn describe_check(
    check: Check,
    facts: &CheckFacts,
    further: u64,
) -> IntegrityCheckDetails {
    let CheckFacts { places, unread, not_checked, .. } = *facts;
    let violations = u64::from(facts.violations).saturating_add(further);
    let unread_why = (unread > 0).then_some(UNREAD);
    let none_why = (places == 0 && violations == 0).then_some(NO_PLACE);
    let reason = not_checked.or(unread_why).or(none_why);
    let verdict = match (violations, reason) {
        (1.., _) => IntegrityVerdict::Violated,
        (0, None) => IntegrityVerdict::Holds,
        (0, Some(_)) => IntegrityVerdict::NotChecked,
    };
    IntegrityCheckDetails { check: check.name(), verdict, places, violations, unread, reason }
}

impl VerdictCounts {
    fn of(round: &RoundFacts) -> Option<Self> {
        let mut counts = Self::default();
        for &check in Check::ALL {
            let count = match describe_check(check, &round.of(check), 0).verdict {
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
        let details = describe_check(Check::Kprobes, &facts, further);
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
    fn no_round_has_no_counts() {
        assert_eq!(VerdictCounts::of(&RoundFacts::default()), None);
        let one = RoundFacts::with(&[]);
        let not_made = Check::ALL.len() as u32;
        assert_eq!(VerdictCounts::of(&one), Some(VerdictCounts { not_made, ..<_>::default() }));
    }
}
