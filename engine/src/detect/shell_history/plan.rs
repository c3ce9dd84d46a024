//! What to do with a shell's list that was read: which commands are reported, and what the next
//! scan starts from. The functions are pure, so that each rule has its test.
//!
//! [`plan`] decides before the commands are read, and [`Plan::keep`] after that.
//! [`changes`](super::changes) compares the lists.

use super::changes::{
    HistoryAlignment, HistoryClearing, HistoryList, HistoryListDiff, IntervalFacts, compare,
};
use super::{TRIES_MAX, TYPED_MAX};

/// The shell's list as known before the present read.
#[derive(Clone, Copy, Debug)]
pub(super) enum PreviousHistoryList<'a> {
    /// The list was not read yet. This many commands were typed while the shell was watched.
    Nothing { typed: usize },
    /// It was read by an earlier scan.
    List {
        old: HistoryList<'a>,
        aligned: HistoryAlignment,
        interval: IntervalFacts,
        /// Maximum number of commands that were begun and are not counted as run.
        lines: usize,
    },
}

/// The commands at the end of a list that are new, and how the list was cleared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Plan {
    pub(super) added: usize,
    /// How many of them are reported, beginning with the first: the others were read from a file.
    pub(super) reported: usize,
    pub(super) cleared: Option<HistoryClearing>,
}

/// Decides what a list means.
pub(super) fn plan(before: &PreviousHistoryList<'_>, new: &HistoryList<'_>) -> Plan {
    let (old, aligned, interval, lines) = match before {
        PreviousHistoryList::Nothing { typed } => {
            let added = (*typed).min(new.keys.len());
            return Plan { added, reported: added, cleared: None };
        }
        PreviousHistoryList::List { old, aligned, interval, lines } => {
            (old, aligned, interval, lines)
        }
    };
    let HistoryListDiff { added, cleared } = compare(old, new, aligned, interval);
    let run = interval.run;
    if added <= run.unwrap_or(TYPED_MAX) + lines {
        return Plan { added, reported: added, cleared };
    }
    // Commands beyond the number that can have been typed were read from a file.
    let is_as_long = new.length >= old.length || new.is_full();
    match cleared {
        // A list that was replaced and is as long as before was read from the file again
        // (`history -c; history -r`). The commands that were typed last are at its end.
        Some(HistoryClearing::All { .. }) if is_as_long => {
            let added = run.unwrap_or(TYPED_MAX).min(added);
            Plan { added, reported: added, cleared: None }
        }
        Some(HistoryClearing::All { .. }) => Plan { added, reported: 0, cleared },
        // `history -r`: they follow the typed ones.
        _ => Plan { added, reported: run.unwrap_or(0).min(added), cleared },
    }
}

/// How far the commands of a plan were reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PlanProgress {
    /// Index in the list of the first command that was not reported.
    pub(super) next: usize,
    /// Whether that command seems unfinished, and waits for its other lines.
    pub(super) is_waiting: bool,
}

/// What the next scan starts from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PlanResult {
    /// Number of commands, from the first, that are known from now on.
    pub(super) keys: usize,
    /// Whether more of them remain to be reported.
    pub(super) is_behind: bool,
    /// Number of consecutive scans in which the next command could not be read.
    pub(super) tries: u8,
    /// Whether a command is left out because it cannot be read.
    pub(super) is_skipped: bool,
}

impl Plan {
    /// Decides what is kept of a list of `length` commands, after `tries` consecutive scans in
    /// which the next command could not be read.
    pub(super) fn keep(&self, length: usize, progress: &PlanProgress, tries: u8) -> PlanResult {
        let first = length - self.added;
        let PlanProgress { next, is_waiting } = *progress;
        let is_behind = next < first + self.reported && !is_waiting;
        let tries = if is_behind && next == first { tries + 1 } else { 0 };
        if tries >= TRIES_MAX {
            // An unreadable command must not block those behind it.
            let keys = next + 1;
            return PlanResult { keys, is_behind: keys < length, tries: 0, is_skipped: true };
        }
        let keys = if is_behind || is_waiting { next } else { length };
        PlanResult { keys, is_behind, tries, is_skipped: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(keys: &[u32]) -> HistoryList<'_> {
        HistoryList { length: keys.len() as u32, base: Some(1), most: Some(500), keys }
    }

    /// The plan after this many commands were run: added, reported, cleared.
    fn after(
        run: Option<usize>,
        old: &[u32],
        new: &[u32],
    ) -> (usize, usize, Option<HistoryClearing>) {
        let interval = IntervalFacts { run, ..IntervalFacts::default() };
        let aligned = HistoryAlignment::of(old, new);
        let before = PreviousHistoryList::List { old: list(old), aligned, interval, lines: 1 };
        let Plan { added, reported, cleared } = plan(&before, &list(new));
        (added, reported, cleared)
    }

    #[test]
    fn a_first_list_has_the_commands_that_were_typed() {
        for (typed, expected) in [(0, 0), (2, 2), (9, 3)] {
            let plan = plan(&PreviousHistoryList::Nothing { typed }, &list(&[1, 2, 3]));
            assert_eq!(plan, Plan { added: expected, reported: expected, cleared: None });
        }
    }

    #[test]
    fn the_plan_row_by_row() {
        let few = &[1, 2, 3][..];
        let many: Vec<u32> = (100..120).collect();
        let read: Vec<u32> = (10..30).collect();
        let behind: Vec<u32> = few.iter().chain(&read).copied().collect();
        let one = Some(HistoryClearing::Some { removed: 1, count: 3 });
        let all = |count| Some(HistoryClearing::All { count });
        for (name, run, old, new, expected) in [
            ("nothing", Some(0), few, few, (0, 0, None)),
            ("a command", Some(1), few, &[1, 2, 3, 4], (1, 1, None)),
            ("one that is being run", Some(0), few, &[1, 2, 3, 4], (1, 1, None)),
            ("uncounted", None, few, &[1, 2, 3, 4], (1, 1, None)),
            ("history -c", Some(1), few, &[], (0, 0, all(3))),
            ("history -c, and a command", Some(1), few, &[4], (1, 1, all(3))),
            ("history -d", Some(1), few, &[1, 3, 4], (1, 1, one)),
            ("history -r", Some(1), few, &behind, (20, 1, None)),
            ("history -r, uncounted", None, few, &behind, (20, 0, None)),
            ("history -c; history -r", Some(2), &many, &read, (2, 2, None)),
            ("history -c; history -r FILE", Some(2), &many, &read[..9], (9, 0, all(20))),
        ] {
            assert_eq!(after(run, old, new), expected, "{name}");
        }
    }

    #[test]
    fn commands_that_were_not_reported_remain() {
        let plan = Plan { added: 4, reported: 3, cleared: None };
        let keep = |next, is_waiting, tries| {
            let PlanResult { keys, is_behind, tries, is_skipped } =
                plan.keep(10, &PlanProgress { next, is_waiting }, tries);
            (keys, is_behind, tries, is_skipped)
        };
        // All three, which the next scan need not look at again, nor at the one from a file.
        assert_eq!(keep(9, false, 0), (10, false, 0, false));
        // Two of them, and none.
        assert_eq!(keep(8, false, 5), (8, true, 0, false));
        assert_eq!(keep(6, false, 5), (6, true, 6, false));
        // The next one is unfinished.
        assert_eq!(keep(8, true, 5), (8, false, 0, false));
        // It cannot be read.
        assert_eq!(keep(6, false, TRIES_MAX - 1), (7, true, 0, true));
        // Nothing is new.
        assert_eq!(
            Plan::default().keep(0, &PlanProgress { next: 0, is_waiting: false }, 3).tries,
            0
        );
    }
}
