//! What became of a list of commands between two looks at it: pure, so that each rule has its test.
//!
//! Commands are told apart by where their entries lie, and what these point to. New ones come at the end, and old ones go;
//! one that is called up and edited is put back as another entry in the same place (`replace_history_entry`, readline's
//! history.c). Those that are there both times say where the others belong; between two of them as many were replaced as
//! there are of both, and behind the last the number of commands that were run tells new ones from replaced ones. Which went,
//! and why, is what is decided here:
//!
//! | what went | why | told |
//! |---|---|---|
//! | from the front, and `history_base` rose | the list is full (`HISTSIZE`) | no |
//! | from the front, and `history_max_entries` fell | `HISTSIZE` was made smaller | no |
//! | all, and it may have none any more | `HISTSIZE=0` | cleared |
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

impl List<'_> {
    /// Whether it has as many commands as it may have.
    pub(super) fn is_full(&self) -> bool {
        self.most.is_some_and(|most| most > 0 && i64::from(self.length) >= i64::from(most))
    }
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

/// What else is known of the time between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meanwhile {
    /// Whether bash itself takes out older commands like those that are added (`erasedups`).
    pub(super) replaces: bool,
    /// Whether `HISTSIZE` is 0.
    pub(super) has_no_size: bool,
    /// How many commands were run, where that is counted.
    pub(super) run: Option<usize>,
    /// Whether the text of what [`Aligned::in_place_of_last`] names is that of the command that was last before.
    pub(super) is_same_text: bool,
}

/// How much of two lists is in both, and what is around that.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Aligned {
    /// How many are in both.
    kept: usize,
    /// How many are before the first of these, once and now.
    front: (usize, usize),
    /// How many fewer there are between them.
    middle: usize,
    /// How many are behind the last of them, once and now.
    tail: (usize, usize),
}

impl Aligned {
    /// Aligns the keys of two lists.
    pub(super) fn of(old: &[u32], new: &[u32]) -> Self {
        let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        // By key, where it is in the old list.
        let mut places = [(0, 0); KEPT_MAX];
        let rest = old.len().min(KEPT_MAX).saturating_sub(same);
        let places = &mut places[..rest];
        for (place, (at, key)) in places.iter_mut().zip(old.iter().enumerate().skip(same)) {
            *place = (*key, at);
        }
        places.sort_unstable();
        let mut aligned = Self { kept: same, ..Self::default() };
        // Behind the last that is in both, once and now.
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

    /// Where in the new list that is which stands where the old one's last command stood, if it is another one.
    pub(super) fn in_place_of_last(&self, new: &List<'_>) -> Option<usize> {
        let (once, now) = self.tail;
        (once > 0 && now >= once).then(|| new.keys.len() - now + once - 1)
    }
}

/// Compares two looks at a list, which are `aligned`.
pub(super) fn compare(
    old: &List<'_>,
    new: &List<'_>,
    aligned: &Aligned,
    meanwhile: &Meanwhile,
) -> Changed {
    let (once, now) = aligned.tail;
    let is_smaller = old.most.zip(new.most).is_some_and(|(old, new)| new < old);
    // In `history_base` every command is counted that was pushed out.
    let pushed_out = old.base.zip(new.base).map_or(0, |(old, new)| new.saturating_sub(old).max(0));
    let pushed_out = pushed_out as usize;
    let may_be_replaced =
        now >= once && (aligned.kept > 0 || !is_smaller && pushed_out < once.max(1));
    let replaced = if !may_be_replaced {
        0
    } else if meanwhile.is_same_text {
        once
    } else if once == 1 && now == 1 {
        // What bash put in the place of the command that asked for it.
        0
    } else {
        meanwhile.run.map_or(once, |run| now.saturating_sub(run).min(once))
    };
    if aligned.kept == 0 && replaced < once {
        let count = old.length;
        let added = now;
        if count == 0 {
            return Changed { added, cleared: None };
        }
        let had_size = old.most.is_some_and(|most| most > 0);
        let has_none = meanwhile.has_no_size || (had_size && new.most == Some(0));
        let was_pushed_out = new.length > 0 && (is_smaller || pushed_out >= once);
        // bash takes out the very command that asks it for a substitution.
        let was_only_one = count == 1;
        let was_replaced = meanwhile.replaces && added >= count as usize;
        let cleared = if new.length == 0 && has_none {
            Some(Clearing::Size { count })
        } else if was_pushed_out || was_only_one || was_replaced {
            None
        } else {
            Some(Clearing::All { count })
        };
        return Changed { added, cleared };
    }
    let added = now - replaced;
    let is_windowed = [old, new].into_iter().any(|list| list.length as usize > list.keys.len());
    let is_excused = pushed_out > 0 || is_smaller || new.is_full() || is_windowed;
    let front = if is_excused { 0 } else { aligned.front.0.saturating_sub(aligned.front.1) };
    let tail = once - replaced;
    // The last one bash takes out itself.
    let tail = if tail > 1 { tail } else { 0 };
    let seen = front + aligned.middle + tail;
    // What went before those that are looked at is known by how many are left.
    let went = (old.length as usize + added).saturating_sub(new.length as usize + pushed_out);
    let is_counted = is_windowed && !is_smaller && old.base.is_some() && new.base.is_some();
    let removed = if is_counted && went > 1 { seen.max(went) } else { seen };
    let removed = u32::try_from(removed).unwrap_or(u32::MAX);
    let cleared = (removed > 0 && !meanwhile.replaces)
        .then_some(Clearing::Some { removed, count: old.length });
    Changed { added, cleared }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(keys: &[u32], base: i32, most: i32) -> List<'_> {
        List { length: keys.len() as u32, base: Some(base), most: Some(most), keys }
    }

    fn of(old: List<'_>, new: List<'_>) -> (usize, Option<Clearing>) {
        with(old, new, &Meanwhile::default())
    }

    fn with(old: List<'_>, new: List<'_>, meanwhile: &Meanwhile) -> (usize, Option<Clearing>) {
        let Changed { added, cleared } =
            compare(&old, &new, &Aligned::of(old.keys, new.keys), meanwhile);
        (added, cleared)
    }

    fn after(run: usize) -> Meanwhile {
        Meanwhile { run: Some(run), ..Meanwhile::default() }
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
        // One without a limit has 0 there, too.
        let all = Some(Clearing::All { count: 3 });
        assert_eq!(of(list(&[1, 2, 3], 1, 0), list(&[], 1, 0)), (0, all));
        let none = Meanwhile { has_no_size: true, ..Meanwhile::default() };
        assert_eq!(with(list(&[1, 2, 3], 1, 0), list(&[], 1, 0), &none), (0, size));
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
        let erases = Meanwhile { replaces: true, ..after(2) };
        assert_eq!(with(list(&[1, 2, 3], 1, 500), list(&[1, 3, 4], 1, 500), &erases), (1, None));
        // Both were typed again between two looks.
        assert_eq!(with(list(&[1, 2], 1, 500), list(&[3, 4], 1, 500), &erases), (2, None));
    }

    #[test]
    fn a_command_that_was_called_up_and_edited_is_replaced_in_its_place() {
        // The second of four, and the third; what came of it is behind them.
        let old = list(&[1, 2, 3, 4], 1, 500);
        assert_eq!(with(old, list(&[1, 22, 3, 4, 5], 1, 500), &after(1)), (1, None));
        assert_eq!(with(old, list(&[1, 22, 33, 4, 5], 1, 500), &after(1)), (1, None));
        // The first, and the last.
        assert_eq!(with(old, list(&[11, 2, 3, 4, 5], 1, 500), &after(1)), (1, None));
        assert_eq!(with(old, list(&[1, 2, 3, 44, 5], 1, 500), &after(1)), (1, None));
        let new = list(&[1, 2, 3, 44, 5], 1, 500);
        assert_eq!(Aligned::of(old.keys, new.keys).in_place_of_last(&new), Some(3));
        // All that there are.
        assert_eq!(with(list(&[1], 1, 500), list(&[11, 2], 1, 500), &after(1)), (1, None));
        assert_eq!(with(list(&[1, 2], 1, 500), list(&[11, 22, 3], 1, 500), &after(1)), (1, None));
        // Its text says that it is the old one, whatever was run since.
        let same = Meanwhile { is_same_text: true, ..after(2) };
        assert_eq!(with(old, list(&[1, 2, 3, 44, 5], 1, 500), &same), (1, None));
        assert_eq!(with(old, list(&[1, 2, 3, 44], 1, 500), &same), (0, None));
        // And the list is full.
        assert_eq!(with(list(&[1, 2, 3], 1, 3), list(&[22, 3, 4], 2, 3), &after(1)), (1, None));
        // One is replaced, another one taken out.
        let one = Some(Clearing::Some { removed: 1, count: 4 });
        assert_eq!(with(old, list(&[11, 2, 4, 5], 1, 500), &after(1)), (1, one));
    }

    #[test]
    fn of_a_long_list_only_the_end_is_compared() {
        let mut old = list(&[3, 4, 5], 1, 5000);
        let mut new = list(&[4, 5, 6], 1, 5000);
        (old.length, new.length) = (2000, 2001);
        assert_eq!(of(old, new), (1, None));
        // All of it was looked at before.
        (old.length, new.length) = (3, 4);
        assert_eq!(of(old, new), (1, None));
    }

    #[test]
    fn what_went_before_the_end_of_a_long_list_is_known_by_its_length() {
        let mut old = list(&[3, 4, 5], 1, 5000);
        let mut new = list(&[4, 5, 6], 1, 5000);
        (old.length, new.length) = (2000, 1999);
        assert_eq!(of(old, new), (1, Some(Clearing::Some { removed: 2, count: 2000 })));
        // From among those that are looked at: older ones come into view.
        let mut old = list(&[3, 4, 5, 6], 1, 5000);
        let mut new = list(&[1, 2, 3, 7], 1, 5000);
        (old.length, new.length) = (2000, 1998);
        assert_eq!(of(old, new), (1, Some(Clearing::Some { removed: 3, count: 2000 })));
    }

    #[test]
    fn lists_are_aligned_by_what_is_in_both() {
        let aligned = |old: &[u32], new: &[u32]| {
            let Aligned { kept, front, middle, tail } = Aligned::of(old, new);
            (kept, front, middle, tail)
        };
        assert_eq!(aligned(&[], &[]), (0, (0, 0), 0, (0, 0)));
        assert_eq!(aligned(&[1, 2], &[1, 2, 3]), (2, (0, 0), 0, (0, 1)));
        assert_eq!(aligned(&[1, 2, 3], &[9, 2]), (1, (1, 1), 0, (1, 0)));
        assert_eq!(aligned(&[1, 2, 3, 4], &[1, 4]), (2, (0, 0), 2, (0, 0)));
        // What changes its place is another.
        assert_eq!(aligned(&[1, 2, 3], &[2, 1, 3]), (2, (1, 0), 0, (0, 0)));
        let all: Vec<u32> = (0..KEPT_MAX as u32).collect();
        let others: Vec<u32> = (5000..5000 + KEPT_MAX as u32).collect();
        assert_eq!(aligned(&all, &others), (0, (0, 0), 0, (KEPT_MAX, KEPT_MAX)));
        assert_eq!(aligned(&all, &all), (KEPT_MAX, (0, 0), 0, (0, 0)));
    }
}
