//! What became of a list of commands between two looks at it: pure, so that each rule has its test.
//!
//! Commands are told apart by where their entries lie, and what these point to. They never change places: new ones come
//! at the end, and old ones go. Which went, and why, is what is decided here:
//!
//! | what went | why | told |
//! |---|---|---|
//! | from the front, and `history_base` rose | the list is full (`HISTSIZE`) | no |
//! | from the front, and `history_max_entries` fell | `HISTSIZE` was made smaller | no |
//! | all, and `history_max_entries` is 0 | `HISTSIZE=0` | cleared |
//! | the last | what bash does itself for `history -p`, `history -s` and `fc` | no |
//! | some, and the same line was added | `HISTCONTROL=erasedups` | no |
//! | all | `history -c` | cleared |
//! | some | `history -d` | cleared |

/// How many commands of a list are looked at: the last ones.
pub(super) const KEPT_MAX: usize = 1024;

/// A list as it was at one look.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<'a> {
    /// How many commands it has.
    pub(super) length: u32,
    /// `history_base`, where it is known.
    pub(super) base: Option<i32>,
    /// `history_max_entries`, where it is known.
    pub(super) most: Option<i32>,
    /// One number for each of the last commands, oldest first: another for each.
    pub(super) keys: &'a [u32],
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Changed {
    /// How many of the last commands are new.
    pub(super) added: usize,
    /// What was taken out of it.
    pub(super) cleared: Option<Clearing>,
}

/// How a shell's history was cleared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clearing {
    /// All of it went.
    All {
        /// How many commands that was.
        count: u32,
    },
    /// All of it went because it may have none any more.
    Size {
        /// How many commands that was.
        count: u32,
    },
    /// Some went.
    Some {
        /// How many.
        removed: u32,
        /// Out of how many.
        count: u32,
    },
}

/// Compares two looks at a list. `replaces` says whether bash itself takes out older commands like those that are added
/// (`erasedups`).
pub(super) fn compare(old: &List<'_>, new: &List<'_>, replaces: bool) -> Changed {
    let (mut front, mut middle, mut tail, mut kept) = (0_u32, 0_u32, 0_u32, 0_usize);
    for key in old.keys {
        if new.keys.get(kept) == Some(key) {
            kept += 1;
            middle += tail;
            tail = 0;
        } else if kept == 0 {
            front += 1;
        } else {
            tail += 1;
        }
    }
    let added = new.keys.len() - kept;
    let cleared = removal(old, new, (front, middle, tail), kept, replaces);
    Changed { added, cleared }
}

fn removal(
    old: &List<'_>,
    new: &List<'_>,
    (front, middle, tail): (u32, u32, u32),
    kept: usize,
    replaces: bool,
) -> Option<Clearing> {
    let count = old.length;
    let is_smaller = old.most.zip(new.most).is_some_and(|(old, new)| new < old);
    // In `history_base` every command is counted that was pushed out.
    let pushed_out = old.base.zip(new.base).map_or(0, |(old, new)| new.saturating_sub(old).max(0));
    if kept == 0 {
        if count == 0 {
            return None;
        }
        if new.length == 0 && new.most == Some(0) {
            return Some(Clearing::Size { count });
        }
        let was_pushed_out = new.length > 0 && (is_smaller || pushed_out as u32 >= front);
        // bash takes out the very command that asks it for a substitution.
        let was_only_one = count == 1;
        return (!was_pushed_out && !was_only_one).then_some(Clearing::All { count });
    }
    let is_full = new.most.is_some_and(|most| most > 0 && i64::from(new.length) >= i64::from(most));
    let is_windowed = count as usize > old.keys.len();
    let from_front = if pushed_out > 0 || is_smaller || is_full || is_windowed { 0 } else { front };
    let removed = from_front + middle + if tail > 1 { tail } else { 0 };
    (removed > 0 && !replaces).then_some(Clearing::Some { removed, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(keys: &[u32], base: i32, most: i32) -> List<'_> {
        List { length: keys.len() as u32, base: Some(base), most: Some(most), keys }
    }

    fn of(old: List<'_>, new: List<'_>) -> (usize, Option<Clearing>) {
        let Changed { added, cleared } = compare(&old, &new, false);
        (added, cleared)
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
        // Without a base the list's limit says so.
        let (mut old, mut new) = (list(&[1, 2, 3], 0, 3), list(&[2, 3, 4], 0, 3));
        (old.base, new.base) = (None, None);
        assert_eq!(of(old, new), (1, None));
    }

    #[test]
    fn a_smaller_list_is_not_a_cleared_one() {
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 500), list(&[3, 4, 5], 1, 3)), (1, None));
        // `HISTSIZE=1` leaves itself alone.
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[9], 1, 1)), (1, None));
    }

    #[test]
    fn a_cleared_list_is_told_of() {
        let all = Some(Clearing::All { count: 3 });
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[], 1, 500)), (0, all));
        // Something was typed already since.
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[7, 8], 1, 500)), (2, all));
        // 5.3 begins to count anew.
        assert_eq!(of(list(&[1, 2, 3], 9, 3), list(&[], 1, 3)), (0, all));
        assert_eq!(of(list(&[], 1, 500), list(&[], 1, 500)), (0, None));
    }

    #[test]
    fn a_list_without_room_is_told_of() {
        let size = Some(Clearing::Size { count: 3 });
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[], 2, 0)), (0, size));
        assert_eq!(of(list(&[], 1, 500), list(&[], 1, 0)), (0, None));
    }

    #[test]
    fn commands_that_are_taken_out_are_told_of() {
        let one = Some(Clearing::Some { removed: 1, count: 4 });
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 500), list(&[1, 3, 4], 1, 500)), (0, one));
        // With the command that does it.
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 500), list(&[1, 3, 4, 5], 1, 500)), (1, one));
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 500), list(&[2, 3, 4], 1, 500)), (0, one));
        let two = Some(Clearing::Some { removed: 2, count: 4 });
        assert_eq!(of(list(&[1, 2, 3, 4], 1, 500), list(&[1, 2], 1, 500)), (0, two));
    }

    #[test]
    fn what_bash_takes_out_itself_is_not() {
        // `history -p`, `history -s`.
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[1, 2], 1, 500)), (0, None));
        assert_eq!(of(list(&[1, 2, 3], 1, 500), list(&[1, 2, 4], 1, 500)), (1, None));
        assert_eq!(of(list(&[1], 1, 500), list(&[], 1, 500)), (0, None));
        // `erasedups`.
        let changed = compare(&list(&[1, 2, 3], 1, 500), &list(&[1, 3, 4], 1, 500), true);
        assert_eq!(changed, Changed { added: 1, cleared: None });
    }

    #[test]
    fn of_a_long_list_only_the_end_is_compared() {
        let mut old = list(&[3, 4, 5], 1, 5000);
        let mut new = list(&[4, 5, 6], 1, 5000);
        (old.length, new.length) = (2000, 2001);
        assert_eq!(of(old, new), (1, None));
    }
}
