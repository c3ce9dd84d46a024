//! Compares two versions of a list of commands. The functions are pure, so that each rule has its
//! test.
//!
//! Commands are identified by the addresses of their entries and of what these point to. New ones
//! are added at the end, and old ones are removed. bash puts an edited command from the history
//! back as another entry in the same place (`replace_history_entry`, readline's history.c). Entries
//! that are in both versions determine where the others belong: between two of them, as many were
//! replaced as there are in both versions. Behind the last of them, the number of commands run
//! distinguishes new commands from replaced ones. Which commands were removed, and why, is decided
//! here:
//!
//! | removed | why | reported |
//! |---|---|---|
//! | from the front, and `history_base` rose | the list is full (`HISTSIZE`) | no |
//! | from the front, and `history_max_entries` fell | `HISTSIZE` was made smaller | no |
//! | all, and the size may now be 0 | `HISTSIZE=0` | cleared |
//! | the last | bash itself, for `history -p`, `history -s` and `fc` | no |
//! | some, and the same line was added | `HISTCONTROL=erasedups` | no |
//! | all | `history -c` | cleared |
//! | some | `history -d` | cleared |

/// Maximum number of commands of a list that are compared: the last ones.
pub(super) const KEPT_MAX: usize = 1024;

/// A list as one scan read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HistoryList<'a> {
    /// Number of commands.
    pub(super) length: u32,
    /// `history_base`, if known.
    pub(super) base: Option<i32>,
    /// `history_max_entries`, if known.
    pub(super) most: Option<i32>,
    /// One distinct number for each of the last commands, oldest first.
    pub(super) keys: &'a [u32],
}

impl HistoryList<'_> {
    /// Whether it has its maximum length.
    pub(super) fn is_full(&self) -> bool {
        self.most.is_some_and(|most| most > 0 && i64::from(self.length) >= i64::from(most))
    }
}

/// The difference between two versions of a list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct HistoryListDiff {
    /// Number of commands at the end that are new.
    pub(super) added: usize,
    pub(super) cleared: Option<HistoryClearing>,
}

/// How a shell's history was cleared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HistoryClearing {
    /// All commands were removed.
    All {
        /// Number of commands before.
        count: u32,
    },
    /// All commands were removed because the maximum length became 0.
    Size {
        /// Number of commands before.
        count: u32,
    },
    /// Some commands were removed.
    Some {
        removed: u32,
        /// Number of commands before.
        count: u32,
    },
}

/// Facts about the time between two versions, beside their lists.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IntervalFacts {
    /// Whether bash itself removes older commands that equal a new one (`erasedups`).
    pub(super) replaces: bool,
    /// Whether `HISTSIZE` is 0.
    pub(super) has_no_size: bool,
    /// Number of commands that were run, where bash counts them.
    pub(super) run: Option<usize>,
    /// Whether the text of the entry that [`HistoryAlignment::in_place_of_last`] finds is that of
    /// the last command before.
    pub(super) is_same_text: bool,
}

/// Which entries two lists have in common, and what is around those.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct HistoryAlignment {
    /// Number of entries in both.
    kept: usize,
    /// Number of entries before the first common one, in the old and in the new list.
    front: (usize, usize),
    /// Number of entries removed between common ones.
    middle: usize,
    /// Number of entries behind the last common one, in the old and in the new list.
    tail: (usize, usize),
}

impl HistoryAlignment {
    /// Aligns the keys of two lists.
    pub(super) fn of(old: &[u32], new: &[u32]) -> Self {
        let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        // Places in the old list, by key.
        let mut places = [(0, 0); KEPT_MAX];
        let rest = old.len().min(KEPT_MAX).saturating_sub(same);
        let places = &mut places[..rest];
        for (place, (at, key)) in places.iter_mut().zip(old.iter().enumerate().skip(same)) {
            *place = (*key, at);
        }
        places.sort_unstable();
        let mut aligned = Self { kept: same, ..Self::default() };
        // The places behind the last common entry, in the old and in the new list.
        let mut next = (same, same);
        for (now, key) in new.iter().enumerate().skip(same) {
            let Ok(found) = places.binary_search_by_key(key, |&(key, _)| key) else { continue };
            let (_, once) = places[found];
            if once < next.0 {
                continue;
            }
            let between = (once - next.0, now - next.1);
            if aligned.kept == 0 {
                aligned.front = between;
            } else {
                aligned.middle += between.0.saturating_sub(between.1);
            }
            aligned.kept += 1;
            next = (once + 1, now + 1);
        }
        aligned.tail = (old.len() - next.0, new.len() - next.1);
        aligned
    }

    /// Number of entries in the new list behind the last common one.
    pub(super) const fn added(&self) -> usize {
        self.tail.1
    }

    /// The index in the new list of an entry that has replaced the old list's last one, if any.
    pub(super) fn in_place_of_last(&self, new: &HistoryList<'_>) -> Option<usize> {
        let (once, now) = self.tail;
        (once > 0 && now >= once).then(|| new.keys.len() - now + once - 1)
    }
}

/// Compares two versions of a list, which are `aligned`.
pub(super) fn compare(
    old: &HistoryList<'_>,
    new: &HistoryList<'_>,
    aligned: &HistoryAlignment,
    interval: &IntervalFacts,
) -> HistoryListDiff {
    let (once, now) = aligned.tail;
    let is_smaller = old.most.zip(new.most).is_some_and(|(old, new)| new < old);
    // `history_base` counts every command that a full list has pushed out.
    let pushed_out = old.base.zip(new.base).map_or(0, |(old, new)| new.saturating_sub(old).max(0));
    let pushed_out = pushed_out as usize;
    let may_be_replaced =
        now >= once && (aligned.kept > 0 || !is_smaller && pushed_out < once.max(1));
    let replaced = if !may_be_replaced {
        0
    } else if interval.is_same_text {
        once
    } else if once == 1 && now == 1 {
        // bash has replaced the command that asked for a substitution.
        0
    } else {
        interval.run.map_or(once, |run| now.saturating_sub(run).min(once))
    };
    if aligned.kept == 0 && replaced < once {
        let count = old.length;
        let added = now;
        if count == 0 {
            return HistoryListDiff { added, cleared: None };
        }
        let had_size = old.most.is_some_and(|most| most > 0);
        let has_none = interval.has_no_size || (had_size && new.most == Some(0));
        let was_pushed_out = new.length > 0 && (is_smaller || pushed_out >= once);
        // bash removes the very command that asks it for a substitution.
        let was_only_one = count == 1;
        let was_replaced = interval.replaces && added >= count as usize;
        let cleared = if new.length == 0 && has_none {
            Some(HistoryClearing::Size { count })
        } else if was_pushed_out || was_only_one || was_replaced {
            None
        } else {
            Some(HistoryClearing::All { count })
        };
        return HistoryListDiff { added, cleared };
    }
    let added = now - replaced;
    let is_windowed = [old, new].into_iter().any(|list| list.length as usize > list.keys.len());
    let is_excused = pushed_out > 0 || is_smaller || new.is_full() || is_windowed;
    let front = if is_excused { 0 } else { aligned.front.0.saturating_sub(aligned.front.1) };
    let tail = once - replaced;
    // bash itself may remove the last one.
    let tail = if tail > 1 { tail } else { 0 };
    let seen = front + aligned.middle + tail;
    // The number of commands that are left shows how many were removed before those that are
    // compared.
    let went = (old.length as usize + added).saturating_sub(new.length as usize + pushed_out);
    let is_counted = is_windowed && !is_smaller && old.base.is_some() && new.base.is_some();
    let removed = if is_counted && went > 1 { seen.max(went) } else { seen };
    let removed = u32::try_from(removed).unwrap_or(u32::MAX);
    let cleared = (removed > 0 && !interval.replaces)
        .then_some(HistoryClearing::Some { removed, count: old.length });
    HistoryListDiff { added, cleared }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(keys: &[u32], base: i32, most: i32) -> HistoryList<'_> {
        HistoryList { length: keys.len() as u32, base: Some(base), most: Some(most), keys }
    }

    fn of(old: HistoryList<'_>, new: HistoryList<'_>) -> (usize, Option<HistoryClearing>) {
        with(old, new, &IntervalFacts::default())
    }

    fn with(
        old: HistoryList<'_>,
        new: HistoryList<'_>,
        interval: &IntervalFacts,
    ) -> (usize, Option<HistoryClearing>) {
        let HistoryListDiff { added, cleared } =
            compare(&old, &new, &HistoryAlignment::of(old.keys, new.keys), interval);
        (added, cleared)
    }

    fn after(run: usize) -> IntervalFacts {
        IntervalFacts { run: Some(run), ..IntervalFacts::default() }
    }

    #[test]
    fn new_commands_come_at_the_end() {
        assert_eq!(of(list(&[], 1, 500), list(&[1], 1, 500)), (1, None));
        assert_eq!(of(list(&[1, 2], 1, 500), list(&[1, 2, 3, 4], 1, 500)), (2, None));
        assert_eq!(of(list(&[1, 2], 1, 500), list(&[1, 2], 1, 500)), (0, None));
    }

    #[test]
    fn a_full_list_pushes_the_oldest_out() {
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 4), list(&[2, 3, 4, 5], 2, 4)), (1, None));
        // All of them at once.
        assert_eq!(of(list(&[1, 2], 1, 2), list(&[5, 6], 5, 2)), (2, None));
        assert_eq!(of(list(&[1], 7, 1), list(&[2], 8, 1)), (1, None));
        // Without a base, the list's limit decides.
        let (mut old, mut new) = (list(&[1, 2, 3], 0, 3), list(&[2, 3, 4], 0, 3));
        (old.base, new.base) = (None, None);
        assert_eq!(of(old, new), (1, None));
    }

    #[test]
    fn a_smaller_list_is_not_a_cleared_one() {
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 500), list(&[3, 4, 5], 1, 3)), (1, None));
        // `HISTSIZE=1` leaves only itself.
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[9], 1, 1)), (1, None));
    }

    #[test]
    fn a_cleared_list_is_reported() {
        let all = Some(HistoryClearing::All { count: 3 });
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[], 1, 500)), (0, all));
        // A command was typed since.
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[7, 8], 1, 500)), (2, all));
        // bash 5.3 restarts its count.
        assert_eq!(of(list(&[1, 2, 3], 9, 3), list(&[], 1, 3)), (0, all));
        assert_eq!(of(list(&[], 1, 500), list(&[], 1, 500)), (0, None));
    }

    #[test]
    fn a_list_without_room_is_reported() {
        let size = Some(HistoryClearing::Size { count: 3 });
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[], 2, 0)), (0, size));
        assert_eq!(of(list(&[], 1, 500), list(&[], 1, 0)), (0, None));
        // A list without a limit has 0 there, too.
        let all = Some(HistoryClearing::All { count: 3 });
        assert_eq!(of(list(&[1, 2, 3], 1, 0), list(&[], 1, 0)), (0, all));
        let none = IntervalFacts { has_no_size: true, ..IntervalFacts::default() };
        assert_eq!(with(list(&[1, 2, 3], 1, 0), list(&[], 1, 0), &none), (0, size));
    }

    #[test]
    fn removed_commands_are_reported() {
        let one = Some(HistoryClearing::Some { removed: 1, count: 4 });
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 500), list(&[1, 3, 4], 1, 500)), (0, one));
        // Together with the command that does it.
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 500), list(&[1, 3, 4, 5], 1, 500)), (1, one));
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 500), list(&[2, 3, 4], 1, 500)), (0, one));
        let two = Some(HistoryClearing::Some { removed: 2, count: 4 });
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 500), list(&[1, 2], 1, 500)), (0, two));
    }

    #[test]
    fn commands_that_bash_itself_removes_are_not_reported() {
        // `history -p`, `history -s`.
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[1, 2], 1, 500)), (0, None));
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[1, 2, 4], 1, 500)), (1, None));
        assert_eq!(of(list(&[1], 1, 500), list(&[], 1, 500)), (0, None));
        // `erasedups`.
        let erases = IntervalFacts { replaces: true, ..after(2) };
        assert_eq!(with(list(&[1, 2, 3], 1, 500), list(&[1, 3, 4], 1, 500), &erases), (1, None));
        // Both were typed again between two scans.
        assert_eq!(with(list(&[1, 2], 1, 500), list(&[3, 4], 1, 500), &erases), (2, None));
    }

    #[test]
    fn a_command_that_was_called_up_and_edited_is_replaced_in_its_place() {
        // The second of four, and the third; the edited command is run behind them.
        let old = list(&[1, 2, 3, 4], 1, 500);
        assert_eq!(with(old, list(&[1, 22, 3, 4, 5], 1, 500), &after(1)), (1, None));
        assert_eq!(with(old, list(&[1, 22, 33, 4, 5], 1, 500), &after(1)), (1, None));
        // The first, and the last.
        assert_eq!(with(old, list(&[11, 2, 3, 4, 5], 1, 500), &after(1)), (1, None));
        assert_eq!(with(old, list(&[1, 2, 3, 44, 5], 1, 500), &after(1)), (1, None));
        let new = list(&[1, 2, 3, 44, 5], 1, 500);
        assert_eq!(HistoryAlignment::of(old.keys, new.keys).in_place_of_last(&new), Some(3));
        // Every entry.
        assert_eq!(with(list(&[1], 1, 500), list(&[11, 2], 1, 500), &after(1)), (1, None));
        assert_eq!(with(list(&[1, 2], 1, 500), list(&[11, 22, 3], 1, 500), &after(1)), (1, None));
        // Its text is that of the old one, whatever was run since.
        let same = IntervalFacts { is_same_text: true, ..after(2) };
        assert_eq!(with(old, list(&[1, 2, 3, 44, 5], 1, 500), &same), (1, None));
        assert_eq!(with(old, list(&[1, 2, 3, 44], 1, 500), &same), (0, None));
        // The list is full, too.
        assert_eq!(with(list(&[1, 2, 3], 1, 3), list(&[22, 3, 4], 2, 3), &after(1)), (1, None));
        // One is replaced, another is removed.
        let one = Some(HistoryClearing::Some { removed: 1, count: 4 });
        assert_eq!(with(old, list(&[11, 2, 4, 5], 1, 500), &after(1)), (1, one));
    }

    #[test]
    fn of_a_long_list_only_the_end_is_compared() {
        let mut old = list(&[3, 4, 5], 1, 5000);
        let mut new = list(&[4, 5, 6], 1, 5000);
        (old.length, new.length) = (2000, 2001);
        assert_eq!(of(old, new), (1, None));
        // All of it was compared before.
        (old.length, new.length) = (3, 4);
        assert_eq!(of(old, new), (1, None));
    }

    #[test]
    fn removals_before_the_end_of_a_long_list_show_in_its_length() {
        let mut old = list(&[3, 4, 5], 1, 5000);
        let mut new = list(&[4, 5, 6], 1, 5000);
        (old.length, new.length) = (2000, 1999);
        assert_eq!(of(old, new), (1, Some(HistoryClearing::Some { removed: 2, count: 2000 })));
        // Removed from the part that is compared: older ones move into that part.
        let mut old = list(&[3, 4, 5, 6], 1, 5000);
        let mut new = list(&[1, 2, 3, 7], 1, 5000);
        (old.length, new.length) = (2000, 1998);
        assert_eq!(of(old, new), (1, Some(HistoryClearing::Some { removed: 3, count: 2000 })));
    }

    #[test]
    fn lists_are_aligned_by_common_entries() {
        let aligned = |old: &[u32], new: &[u32]| {
            let HistoryAlignment { kept, front, middle, tail } = HistoryAlignment::of(old, new);
            (kept, front, middle, tail)
        };
        assert_eq!(aligned(&[], &[]), (0, (0, 0), 0, (0, 0)));
        assert_eq!(aligned(&[1, 2], &[1, 2, 3]), (2, (0, 0), 0, (0, 1)));
        assert_eq!(aligned(&[1, 2, 3], &[9, 2]), (1, (1, 1), 0, (1, 0)));
        assert_eq!(aligned(&[1, 2, 3, 4], &[1, 4]), (2, (0, 0), 2, (0, 0)));
        // An entry that moves counts as another.
        assert_eq!(aligned(&[1, 2, 3], &[2, 1, 3]), (2, (1, 0), 0, (0, 0)));
        let all: Vec<u32> = (0..KEPT_MAX as u32).collect();
        let others: Vec<u32> = (5000..5000 + KEPT_MAX as u32).collect();
        assert_eq!(aligned(&all, &others), (0, (0, 0), 0, (KEPT_MAX, KEPT_MAX)));
        assert_eq!(aligned(&all, &all), (KEPT_MAX, (0, 0), 0, (0, 0)));
    }
}
