//! The changed files whose alerts are counted, for the records that sum these up.
//!
//! What was written to a file is no part of a cause, so the alert of another content is counted,
//! too. The sum has the path, and what the file held at the last of its alerts. An act that changes
//! many files has one cause: its sum has their paths. All causes share the room for these. Each has
//! a share that no other one takes, and what is left goes to those that come first. When it is used
//! up, the causes with most give some of it to those with less. A path that exceeds its share is
//! kept as a whole or not at all.

use panoptes_tables::room;

use super::causes::Cause;
use super::repetitions::CauseKey;
use crate::detect::file_content::paths::NewNames;
use crate::page_cache::Hashes;

/// Maximum number of causes at a time. The sums of further ones name the last alert in full only.
const CONTENTS_MAX: usize = 16;
/// Room for the paths of all causes in bytes, each with [`HEAD_BYTES`] before it.
const PATHS_BYTES: usize = 5120;
/// What each cause has of it at least: its paths within so many bytes always have room.
const SHARE_BYTES: usize = PATHS_BYTES / CONTENTS_MAX;
/// The number of the path's cause, and the path's length.
const HEAD_BYTES: usize = 3;
const _: () = {
    assert!(CONTENTS_MAX <= 1 << u8::BITS, "the number of a cause has one byte");
    assert!(PATHS_BYTES <= u16::MAX as usize, "the length of a path has two");
    assert!(HEAD_BYTES < SHARE_BYTES, "each cause has room for a path");
};
/// Maximum number of paths in a sum.
pub(super) const PATHS_MAX: usize = 64;

/// A changed file as its alert shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangedContent<'a> {
    pub(super) path: Option<&'a [u8]>,
    /// Other names that the same alert lists.
    pub(super) others: Option<&'a NewNames<'a>>,
    pub(super) size: u64,
    pub(super) modify_time_ns: i64,
    pub(super) hashes: Option<Hashes>,
    /// The cause of all changes that one act makes, if the file may be one of many.
    pub(super) act: Option<Cause>,
}

/// The last content of changed files with one cause.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastContent {
    key: CauseKey,
    /// Its number in the list of paths.
    number: u8,
    /// Whether a path found no room.
    pub(super) has_more: bool,
    pub(super) size: u64,
    pub(super) modify_time_ns: i64,
    pub(super) sha256: Option<[u8; 32]>,
}

/// The last contents of one machine's files. By default there is no room for any.
#[derive(Debug, Default)]
pub(super) struct LastContents {
    all: Vec<LastContent>,
    /// The paths, one after the other.
    paths: Vec<u8>,
}

impl LastContents {
    pub(super) fn new() -> Self {
        Self { all: room::list(CONTENTS_MAX), paths: room::list(PATHS_BYTES) }
    }

    /// Notes the content at an alert that is counted.
    pub(super) fn note(&mut self, key: CauseKey, content: &ChangedContent<'_>) {
        let known = self.all.iter().position(|it| it.key == key);
        let at = known.or_else(|| {
            let is_free = |number: &u8| self.all.iter().all(|it| it.number != *number);
            let number = (0..CONTENTS_MAX as u8).find(is_free)?;
            let (has_more, sha256) = (false, None);
            self.all.push(LastContent {
                key,
                number,
                has_more,
                size: 0,
                modify_time_ns: 0,
                sha256,
            });
            Some(self.all.len() - 1)
        });
        let Some(at) = at else { return };
        let number = self.all[at].number;
        let mut is_listed = content.path.is_none_or(|path| self.add_path(number, path));
        if let Some(others) = content.others {
            let texts = others.paths.iter().filter_map(|id| Some(others.strings?.get(*id)));
            for path in texts {
                is_listed &= self.add_path(number, path);
            }
            is_listed &= others.count <= others.paths.len();
        }
        let known = &mut self.all[at];
        known.has_more |= !is_listed;
        (known.size, known.modify_time_ns) = (content.size, content.modify_time_ns);
        known.sha256 = content.hashes.map(|hashes| hashes.sha256);
    }

    /// Adds a path to those of a cause, each once. Returns whether the list has it now.
    fn add_path(&mut self, number: u8, path: &[u8]) -> bool {
        let mut count = 0;
        for known in self.paths_of(number) {
            if known == path {
                return true;
            }
            count += 1;
        }
        let Ok(length) = u16::try_from(path.len()) else { return false };
        let fits = count < PATHS_MAX && self.make_room(number, path.len() + HEAD_BYTES);
        if fits {
            self.paths.push(number);
            self.paths.extend_from_slice(&length.to_le_bytes());
            self.paths.extend_from_slice(path);
        }
        fits
    }

    /// Makes room for so many bytes of a cause. Others lose their last paths. Within the share of
    /// this cause, they lose those that exceed their own shares. Beyond it, they keep at least as
    /// much as this one has then. Returns whether there is room.
    fn make_room(&mut self, number: u8, bytes: usize) -> bool {
        let mut room = PATHS_BYTES - self.paths.len();
        if bytes <= room {
            return true;
        }
        let own: usize = self.paths_of(number).map(|path| path.len() + HEAD_BYTES).sum();
        let then = own + bytes;
        // Used by each cause, and kept by it at least: the first paths, each as a whole.
        let (mut used, mut kept) = ([0; CONTENTS_MAX], [0; CONTENTS_MAX]);
        for (of, path) in Paths(&self.paths).filter(|(of, _)| *of != number) {
            let (used, kept) = (&mut used[usize::from(of)], &mut kept[usize::from(of)]);
            let before = *used;
            *used += path.len() + HEAD_BYTES;
            if *used <= SHARE_BYTES || (then > SHARE_BYTES && before < then) {
                *kept = *used;
            }
        }
        let spare: usize = used.iter().zip(&kept).map(|(used, kept)| used - kept).sum();
        if room + spare < bytes {
            return false;
        }
        while room < bytes {
            let causes = (0..CONTENTS_MAX).filter(|&at| used[at] > kept[at]);
            let Some(most) = causes.max_by_key(|&at| used[at]) else { return false };
            let size = self.remove_last(most as u8);
            used[most] -= size;
            room += size;
        }
        true
    }

    /// Removes the last path of a cause that has one; returns its bytes.
    fn remove_last(&mut self, number: u8) -> usize {
        let (mut at, mut last) = (0, 0..0);
        for (of, path) in Paths(&self.paths) {
            let end = at + path.len() + HEAD_BYTES;
            if of == number {
                last = at..end;
            }
            at = end;
        }
        self.paths.copy_within(last.end.., last.start);
        self.paths.truncate(at - last.len());
        if let Some(cause) = self.all.iter_mut().find(|it| it.number == number) {
            cause.has_more = true;
        }
        last.len()
    }

    /// The paths of a cause, in the order in which they came.
    fn paths_of(&self, number: u8) -> impl Iterator<Item = &[u8]> {
        Paths(&self.paths).filter(move |(of, _)| *of == number).map(|(_, path)| path)
    }

    /// The paths of a content's cause, in the order in which they came.
    pub(super) fn paths(&self, content: &LastContent) -> impl Iterator<Item = &[u8]> {
        self.paths_of(content.number)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.paths.is_empty()
    }

    pub(super) fn get(&self, key: CauseKey) -> Option<LastContent> {
        self.all.iter().find(|it| it.key == key).copied()
    }

    /// Forgets the content of a cause: its sum was written.
    pub(super) fn forget(&mut self, key: CauseKey) {
        let Some(at) = self.all.iter().position(|it| it.key == key) else { return };
        let number = self.all.remove(at).number;
        let (mut from, mut to) = (0, 0);
        while let Some((of, path)) = Paths(self.paths.get(from..).unwrap_or(&[])).next() {
            let bytes = path.len() + HEAD_BYTES;
            if of != number {
                self.paths.copy_within(from..from + bytes, to);
                to += bytes;
            }
            from += bytes;
        }
        self.paths.truncate(to);
    }
}

/// Paths with the numbers of their causes.
struct Paths<'a>(&'a [u8]);

impl<'a> Iterator for Paths<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[number, low, high], rest) = self.0.split_first_chunk::<HEAD_BYTES>()?;
        let (path, rest) = rest.split_at_checked(u16::from_le_bytes([low, high]).into())?;
        self.0 = rest;
        Some((number, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::file_content::paths::NewNames;

    fn content(path: &[u8]) -> ChangedContent<'_> {
        let (others, hashes, act) = (None, None, None);
        ChangedContent { path: Some(path), others, size: 1, modify_time_ns: 2, hashes, act }
    }

    fn paths(contents: &LastContents, key: CauseKey) -> (Vec<String>, bool) {
        let last = contents.get(key).unwrap();
        let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
        (contents.paths(&last).map(text).collect(), last.has_more)
    }

    #[test]
    fn the_paths_of_causes_are_listed_once_each() {
        let mut contents = LastContents::new();
        let [one, other] = [1, 2].map(CauseKey::of_test);
        for path in ["/etc/a", "/etc/b", "/etc/a"] {
            contents.note(one, &content(path.as_bytes()));
            contents.note(other, &content(b"/etc/c"));
        }
        assert_eq!(paths(&contents, one), (vec!["/etc/a".into(), "/etc/b".into()], false));
        contents.forget(one);
        assert_eq!(paths(&contents, other), (vec!["/etc/c".into()], false));
        contents.note(one, &content(b"/etc/d"));
        assert_eq!(paths(&contents, one), (vec!["/etc/d".into()], false));
        contents.forget(one);
        contents.forget(other);
        assert!(contents.is_empty());
    }

    #[test]
    fn a_list_without_room_for_a_path_says_so() {
        let mut contents = LastContents::new();
        let [one, other, third] = [1, 2, 3].map(CauseKey::of_test);
        for number in 0..=PATHS_MAX {
            assert!(!contents.get(one).is_some_and(|it| it.has_more), "{number}");
            contents.note(one, &content(format!("/etc/{number}").as_bytes()));
        }
        assert_eq!((paths(&contents, one).0.len(), paths(&contents, one).1), (PATHS_MAX, true));
        contents.note(other, &content(&[b'x'; 4096]));
        assert!(!contents.get(other).unwrap().has_more);
        contents.note(other, &content(&[b'y'; 4096]));
        assert!(contents.get(other).unwrap().has_more);
        // New names beside it that the alert itself does not list.
        let others = NewNames { count: 3, ..NewNames::default() };
        contents.note(third, &ChangedContent { others: Some(&others), ..content(b"/etc/z") });
        assert!(contents.get(third).unwrap().has_more);
    }

    /// A path of 100 bytes.
    fn long(number: usize) -> Vec<u8> {
        format!("/etc/{number:0>95}").into_bytes()
    }

    #[test]
    fn a_cause_with_many_paths_leaves_room_for_those_of_others() {
        let mut contents = LastContents::new();
        let [one, other] = [1, 2].map(CauseKey::of_test);
        (0..60).for_each(|number| contents.note(one, &content(&long(number))));
        let before = paths(&contents, one).0;
        assert!(before.len() > 45, "{}", before.len());
        (0..10).for_each(|number| contents.note(other, &content(&long(number))));
        assert_eq!((paths(&contents, other).0.len(), paths(&contents, other).1), (10, false));
        let (after, has_more) = paths(&contents, one);
        assert!(has_more && after.len() > 35, "{}", after.len());
        assert_eq!(after, before[..after.len()], "the first ones stay");
        // Neither takes more than half from the other.
        for number in 0..2 * PATHS_MAX {
            contents.note(other, &content(&long(number)));
            contents.note(one, &content(&long(number)));
        }
        let counts = [one, other].map(|key| paths(&contents, key).0.len());
        assert!(counts[0].abs_diff(counts[1]) <= 1 && counts[0] + counts[1] > 45, "{counts:?}");
    }

    #[test]
    fn each_cause_has_a_share_that_no_other_one_takes() {
        for hogs in [1, 8, CONTENTS_MAX as u64 - 1] {
            let mut contents = LastContents::new();
            for number in 0..60 {
                (0..hogs)
                    .for_each(|it| contents.note(CauseKey::of_test(it), &content(&long(number))));
            }
            for it in hogs..CONTENTS_MAX as u64 {
                (0..3).for_each(|at| contents.note(CauseKey::of_test(it), &content(&long(at))));
            }
            for it in 0..CONTENTS_MAX as u64 {
                let count = paths(&contents, CauseKey::of_test(it)).0.len();
                assert!(count >= 3, "{count} paths of cause {it} beside {hogs}");
            }
        }
    }

    /// A path within a cause's share always finds room, but never at the cost of another share.
    #[test]
    fn a_path_longer_than_a_share_is_lost_to_shares_only() {
        const LONG: usize = 420;
        let key = |at: u8| CauseKey::of_test(at.into());
        let count = |contents: &LastContents, at| paths(contents, key(at)).0.len();
        let mut contents = LastContents::new();
        (0..12).for_each(|at| contents.note(key(at), &content(&[at + b'a'; LONG])));
        // A path larger than its share takes nothing from causes that keep less than that then.
        contents.note(key(12), &content(&[b'x'; 360]));
        assert_eq!(paths(&contents, key(12)), (vec![], true));
        assert!((0..12).all(|at| count(&contents, at) == 1));
        // One within its share does: one other cause has a path that exceeds its own.
        contents.note(key(12), &content(&[b'x'; 60]));
        assert_eq!(count(&contents, 12), 1);
        let losses = (0..12).filter(|&at| count(&contents, at) == 0);
        assert_eq!(losses.count(), 1);
    }

    #[test]
    fn paths_within_the_share_stay() {
        let key = |at: u8| CauseKey::of_test(at.into());
        let mut contents = LastContents::new();
        for at in 0..CONTENTS_MAX as u8 {
            contents.note(key(at), &content(&[at + b'a'; 60]));
            // Larger than the room that is left in the share.
            contents.note(key(at), &content(&[at + b'A'; 300]));
        }
        for at in 0..CONTENTS_MAX as u8 {
            let (paths, _) = paths(&contents, key(at));
            assert_eq!(paths.first().map(String::len), Some(60), "{at}");
        }
    }

    /// A path that is larger than its share of the room makes no other one leave for nothing.
    #[test]
    fn a_path_that_finds_no_room_removes_none() {
        let mut contents = LastContents::new();
        let [one, other] = [1, 2].map(CauseKey::of_test);
        (0..60).for_each(|number| contents.note(one, &content(&long(number))));
        let before = paths(&contents, one).0;
        contents.note(other, &content(&[b'x'; 4096]));
        assert_eq!(paths(&contents, other), (vec![], true));
        assert_eq!(paths(&contents, one).0, before);
        contents.note(other, &content(&vec![b'x'; 100_000]));
        assert_eq!(paths(&contents, other), (vec![], true));
    }

    #[test]
    fn more_causes_than_there_is_room_for_have_no_content() {
        let mut contents = LastContents::new();
        for number in 0..=CONTENTS_MAX as u64 {
            contents.note(CauseKey::of_test(number), &content(b"/etc/a"));
        }
        assert!(contents.get(CauseKey::of_test(CONTENTS_MAX as u64)).is_none());
        assert!(contents.get(CauseKey::of_test(0)).is_some());
    }
}
