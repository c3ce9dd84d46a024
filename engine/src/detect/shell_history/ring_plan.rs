//! What to do with a ring of zsh's commands that was read: which commands are reported, and whether
//! the list was cleared. The functions are pure, so that each rule has its test.
//!
//! zsh numbers its commands, and marks those that it has read from a file. Commands are never taken
//! out by a user, only by zsh itself: the oldest of a full list, duplicates, and commands that are
//! to be remembered until the next one. So only a list that begins anew counts as cleared: after
//! `fc -p`, which puts the whole list aside, the numbers begin with 1. A function may do that for
//! its own prompt (`fc -ap`); that is not judged.

use super::changes::HistoryClearing;
use super::ring::{HistoryRing, RingCommand};

/// Maximum number of commands between two scans that count as missed. The machine makes up their
/// numbers.
const MISSED_MAX: i64 = 1 << 20;

/// The state of a shell from before the ring was read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct BeforeRing {
    /// Number of commands; `None` if the ring was not read yet.
    pub(super) length: Option<u32>,
    /// The number of the newest command.
    pub(super) newest: i64,
    /// Whether the keys of commands are kept.
    pub(super) has_kept: bool,
    /// Whether commands of a ring that is read first are reported.
    pub(super) is_new: bool,
    /// Commands that began before this time, in seconds since 1970, were reported. They come back
    /// when a list that was put aside does (`fc -P`).
    pub(super) floor_s: Option<i64>,
    /// When the last command that was reported began.
    pub(super) last_s: Option<i64>,
    /// Whether a function runs.
    pub(super) in_function: bool,
}

/// What a ring means.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct RingPlan {
    pub(super) cleared: Option<HistoryClearing>,
    /// Commands up to this number are not reported.
    pub(super) above: i64,
    /// Number of commands that were typed and are not among those that were read.
    pub(super) missed: u64,
    reports: bool,
    floor_s: Option<i64>,
}

impl RingPlan {
    /// Whether a command is reported.
    pub(super) fn reports(&self, command: &RingCommand) -> bool {
        self.reports
            && command.is_typed
            && command.number > self.above
            && self.floor_s.is_none_or(|floor| command.time_s >= floor)
    }
}

/// Decides what a ring means; `None` if a later scan has to.
///
/// zsh reads its file in steps, and puts its list aside while it writes the file anew
/// (`savehistfile`, Src/hist.c of zsh 5.9). So a list without a typed command is not judged. One
/// with a command that began before the last known one has come back.
pub(super) fn plan(before: &BeforeRing, ring: &HistoryRing) -> Option<RingPlan> {
    let &BeforeRing { length, newest, has_kept, is_new, floor_s, last_s, in_function } = before;
    let all = RingPlan { above: i64::MIN, reports: true, floor_s, ..RingPlan::default() };
    let Some(length) = length else {
        return Some(RingPlan { reports: is_new, ..all });
    };
    if ring.met.is_some() || !has_kept {
        return Some(all);
    }
    let is_typed = |command: &RingCommand| command.is_typed;
    if in_function || !ring.entries.is_empty() && !ring.entries.iter().any(is_typed) {
        return None;
    }
    let all = RingPlan { floor_s: floor_s.or(last_s), ..all };
    let now = ring.entries.first().map_or(0, |command| command.number);
    if now >= newest {
        // So many commands that none of the known ones was read, or a list that has come back.
        let oldest = ring.entries.last().filter(|command| command.is_typed);
        let oldest = oldest.filter(|_| ring.entries.is_full() && floor_s.is_none());
        let between = |oldest: &RingCommand| oldest.number.saturating_sub(newest).saturating_sub(1);
        let missed = oldest.map_or(0, between).clamp(0, MISSED_MAX) as u64;
        return Some(RingPlan { above: newest, missed, ..all });
    }
    // A list that is read from another file takes the place of the one before.
    let is_read = ring.entries.iter().any(|command| !command.is_typed);
    // The command that does it is the only one.
    let has_come_back = |command: &RingCommand| last_s.is_some_and(|last| command.time_s < last);
    let is_cleared = length > 1 && !is_read && !ring.entries.iter().any(has_come_back);
    Some(RingPlan { cleared: is_cleared.then_some(HistoryClearing::All { count: length }), ..all })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(numbers: &[i64], met: Option<(usize, i64)>) -> HistoryRing {
        let typed = |&number| RingCommand {
            key: number as u32,
            number,
            time_s: 1000 + number,
            line: 0x5000,
            is_typed: true,
        };
        HistoryRing { entries: numbers.iter().map(typed).collect(), met }
    }

    const KNOWN: BeforeRing = BeforeRing {
        length: Some(5),
        newest: 5,
        has_kept: true,
        is_new: true,
        floor_s: None,
        last_s: None,
        in_function: false,
    };

    /// The numbers of the commands that are reported, and how the list was cleared.
    fn of(before: &BeforeRing, ring: &HistoryRing) -> Option<(Vec<i64>, Option<HistoryClearing>)> {
        let plan = plan(before, ring)?;
        let reported = ring.entries.iter().filter(|command| plan.reports(command));
        Some((reported.map(|command| command.number).collect(), plan.cleared))
    }

    #[test]
    fn new_commands_are_reported() {
        assert_eq!(of(&KNOWN, &ring(&[7, 6], Some((0, 5)))), Some((vec![7, 6], None)));
        assert_eq!(of(&KNOWN, &ring(&[], Some((0, 5)))), Some((vec![], None)));
        // The last one was replaced by the same command, or removed.
        assert_eq!(of(&KNOWN, &ring(&[5], Some((0, 5)))), Some((vec![5], None)));
        // The list keeps one command (`HISTSIZE=1`).
        assert_eq!(of(&KNOWN, &ring(&[6], None)), Some((vec![6], None)));
        let empty = BeforeRing { length: Some(0), newest: 0, has_kept: false, ..KNOWN };
        assert_eq!(of(&empty, &ring(&[2, 1], None)), Some((vec![2, 1], None)));
    }

    #[test]
    fn of_a_list_that_is_read_first_only_a_new_shell_has_new_commands() {
        let first = BeforeRing { length: None, has_kept: false, ..KNOWN };
        assert_eq!(of(&first, &ring(&[2, 1], None)), Some((vec![2, 1], None)));
        let old = BeforeRing { is_new: false, ..first };
        assert_eq!(of(&old, &ring(&[2, 1], None)), Some((vec![], None)));
    }

    #[test]
    fn commands_of_a_file_are_not_reported() {
        let mut ring = ring(&[7, 6], Some((0, 5)));
        ring.entries[1].is_typed = false;
        assert_eq!(of(&KNOWN, &ring), Some((vec![7], None)));
    }

    #[test]
    fn a_list_that_begins_anew_was_cleared() {
        let all = Some(HistoryClearing::All { count: 5 });
        assert_eq!(of(&KNOWN, &ring(&[], None)), Some((vec![], all)));
        assert_eq!(of(&KNOWN, &ring(&[2, 1], None)), Some((vec![2, 1], all)));
        // There was nothing but the command that does it.
        let one = BeforeRing { length: Some(1), newest: 1, ..KNOWN };
        assert_eq!(of(&one, &ring(&[], None)), Some((vec![], None)));
    }

    #[test]
    fn another_list_is_not_a_cleared_one() {
        // A function's own.
        let function = BeforeRing { in_function: true, ..KNOWN };
        assert_eq!(of(&function, &ring(&[2, 1], None)), None);
        assert_eq!(of(&function, &ring(&[6], Some((0, 5)))), Some((vec![6], None)));
        // One that was read from another file.
        let mut other = ring(&[3, 2, 1], None);
        other.entries[2].is_typed = false;
        assert_eq!(of(&KNOWN, &other), Some((vec![3, 2], None)));
    }

    #[test]
    fn commands_of_a_list_that_comes_back_are_not_reported_again() {
        let aside = BeforeRing { newest: 2, floor_s: Some(1008), ..KNOWN };
        assert_eq!(of(&aside, &ring(&[9, 8, 7, 6], None)), Some((vec![9, 8], None)));
    }

    #[test]
    fn a_list_that_zsh_puts_aside_while_it_writes_its_file_is_not_a_cleared_one() {
        // It reads the file first.
        let mut file = ring(&[3, 2, 1], None);
        file.entries.iter_mut().for_each(|command| command.is_typed = false);
        assert_eq!(of(&KNOWN, &file), None);
        // The old list comes back, after something of the other one was kept.
        let other = BeforeRing { newest: 90, last_s: Some(1006), ..KNOWN };
        assert_eq!(of(&other, &ring(&[7, 6, 5, 4], None)), Some((vec![7, 6], None)));
        let lower = BeforeRing { newest: 3, last_s: Some(1006), ..KNOWN };
        assert_eq!(of(&lower, &ring(&[7, 6, 5, 4], None)), Some((vec![7, 6], None)));
    }

    #[test]
    fn numbers_that_the_machine_makes_up_count_for_few_missed_commands() {
        let mut numbers: Vec<i64> = (i64::MAX - 1063..=i64::MAX - 1000).rev().collect();
        assert_eq!(plan(&KNOWN, &ring(&numbers, None)).unwrap().missed, 1 << 20);
        numbers[0] = 100;
        numbers[63] = i64::MIN;
        assert_eq!(plan(&KNOWN, &ring(&numbers, None)).unwrap().missed, 0);
    }

    #[test]
    fn commands_between_two_scans_that_are_too_many_count_as_missed() {
        let numbers: Vec<i64> = (100..164).rev().collect();
        let plan = plan(&KNOWN, &ring(&numbers, None)).unwrap();
        assert_eq!((plan.missed, plan.above), (94, 5));
    }
}
