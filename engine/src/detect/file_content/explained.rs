//! What was reported, or is in a package manager's event: a changed path with that content is no
//! second record, unless the file got another name since.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::Attributes;
use panoptes_tables::RecentList;

/// How long after a report a file may get another name, by the machine's clock, so that this counts
/// as part of the change. Later, a new name of a known file is none.
const LATE_NAME_NS: i64 = 10_000_000_000;

/// The content of a file whose change was reported, or is in a package manager's event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ReportedContent {
    /// `struct inode *`, and its number: the kernel reuses addresses.
    pub(super) inode: KernelVa,
    pub(super) number: u64,
    pub(super) modify_time_ns: i64,
    pub(super) size: u64,
    /// Under which name; none if all of its names are explained.
    pub(super) name: Option<ReportedName>,
}

/// Under which name a change was reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ReportedName {
    /// The hash of the path.
    pub(super) path: u64,
    /// The inode's change time: a rename sets it.
    pub(super) change_time_ns: i64,
    /// Whether another file was reported at that path since.
    pub(super) is_replaced: bool,
}

/// Whether a content was reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ContentExplanation {
    No,
    /// Under another name, which the file has lost since, or was given beside.
    UnderOldName,
    /// Under another name, with this hash of its path, which another file has now.
    UnderReplacedName(u64),
    Yes,
}

impl ReportedContent {
    /// The content of a file at a path with this hash.
    pub(super) fn of((inode, it): (KernelVa, &Attributes), path: u64) -> Self {
        let name = Some(ReportedName { path, change_time_ns: it.ctime_ns, is_replaced: false });
        let (modify_time_ns, size) = (it.mtime_ns, it.size);
        Self { inode, number: it.ino, modify_time_ns, size, name }
    }

    fn is_same_content(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.inode, it.number, it.modify_time_ns, it.size);
        of(self) == of(other)
    }

    /// Whether this explains a content at a path.
    fn explains(&self, content: &Self) -> ContentExplanation {
        match (self.name, content.name) {
            _ if !self.is_same_content(content) => ContentExplanation::No,
            (Some(was), Some(is))
                if was.path != is.path && is.change_time_ns > was.change_time_ns =>
            {
                if was.is_replaced {
                    ContentExplanation::UnderReplacedName(was.path)
                } else {
                    ContentExplanation::UnderOldName
                }
            }
            _ => ContentExplanation::Yes,
        }
    }

    /// Whether a new name of a content that was reported under another one is part of the change.
    pub(super) fn is_late_name(&self, content: &Self) -> bool {
        let since = |(was, is): (ReportedName, ReportedName)| {
            is.change_time_ns.saturating_sub(was.change_time_ns) <= LATE_NAME_NS
        };
        !matches!(self.explains(content), ContentExplanation::No | ContentExplanation::Yes)
            && self.name.zip(content.name).is_some_and(since)
    }
}

/// Whether one of them explains a content.
pub(super) fn explanation(
    all: &[ReportedContent],
    content: &ReportedContent,
) -> ContentExplanation {
    let mut answers = all.iter().map(|reported| reported.explains(content));
    // Most contents were not reported.
    answers
        .try_fold(ContentExplanation::No, |best, answer| match answer {
            ContentExplanation::Yes => Err(()),
            ContentExplanation::UnderReplacedName(_) => Ok(answer),
            ContentExplanation::UnderOldName if best == ContentExplanation::No => Ok(answer),
            ContentExplanation::UnderOldName | ContentExplanation::No => Ok(best),
        })
        .unwrap_or(ContentExplanation::Yes)
}

/// Adds a reported content. What was reported at that path before has another name now, if any.
pub(super) fn note(all: &mut RecentList<ReportedContent>, new: ReportedContent) {
    let path = new.name.map(|name| name.path);
    for older in all.iter_mut().filter(|it| it.inode != new.inode || it.number != new.number) {
        if let Some(name) = older.name.as_mut().filter(|name| Some(name.path) == path) {
            name.is_replaced = true;
        }
    }
    all.insert(new);
}

/// What editors and tools add to the name of a file that they put aside: GNU's `cp`, `install`,
/// `patch` and `sed -i`, vim, nano and emacs, dpkg, rpm, ucf, the tools of shadow.
const BACKUP_ENDINGS: &[&str] = &[
    "~",
    "-",
    ".bak",
    ".backup",
    ".old",
    ".orig",
    ".save",
    ".dpkg-bak",
    ".dpkg-old",
    ".dpkg-tmp",
    ".rpmorig",
    ".rpmsave",
    ".ucf-old",
];

/// Whether a path is that of a backup, by its name: `/etc/fstab~`, `/etc/fstab.~3~`. `is_original`
/// tells whether a path is that of the file that was put aside. A name that is new may have any
/// ending that begins like one: `/etc/fstab.2026-11-29`.
pub(super) fn is_backup(path: &[u8], is_new: bool, is_original: impl Fn(&[u8]) -> bool) -> bool {
    let mut usual = BACKUP_ENDINGS.iter().filter_map(|it| path.strip_suffix(it.as_bytes()));
    let name = memchr::memrchr(b'/', path).map_or(0, |at| at + 1);
    let begins_ending = |at: &usize| !path[*at].is_ascii_alphanumeric();
    let mut beginnings = (name + 1..path.len()).filter(begins_ending).map(|at| &path[..at]);
    usual.any(&is_original)
        || numbered(path).is_some_and(&is_original)
        || is_new && beginnings.any(is_original)
}

/// The original's path of a numbered backup (`.~3~`, gnulib's lib/backupfile.c).
fn numbered(path: &[u8]) -> Option<&[u8]> {
    let path = path.strip_suffix(b"~")?;
    let digits = path.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    path[..path.len() - digits].strip_suffix(b".~").filter(|_| digits > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: u64 = 7;
    const OTHER: u64 = 8;
    const SECOND_NS: i64 = 1_000_000_000;

    fn content(inode: u64, name: Option<(u64, i64)>) -> ReportedContent {
        ReportedContent {
            inode: KernelVa(inode),
            number: inode,
            modify_time_ns: 3,
            size: 4,
            name: name.map(|(path, change_time_ns)| ReportedName {
                path,
                change_time_ns,
                is_replaced: false,
            }),
        }
    }

    #[test]
    fn a_content_is_explained_unless_it_got_another_name_since() {
        let reported = [content(1, Some((PATH, 50)))];
        let of = |name| explanation(&reported, &content(1, Some(name)));
        assert_eq!(of((PATH, 50)), ContentExplanation::Yes);
        // A change of permissions.
        assert_eq!(of((PATH, 60)), ContentExplanation::Yes);
        // The same name, seen from another place.
        assert_eq!(of((OTHER, 50)), ContentExplanation::Yes);
        assert_eq!(of((OTHER, 60)), ContentExplanation::UnderOldName);
        assert_eq!(explanation(&reported, &content(2, Some((PATH, 50)))), ContentExplanation::No);
        // It was reported again under the new name.
        let both = [reported[0], content(1, Some((OTHER, 60)))];
        assert_eq!(explanation(&both, &content(1, Some((OTHER, 60)))), ContentExplanation::Yes);
        let of_manager = [content(1, None)];
        assert_eq!(
            explanation(&of_manager, &content(1, Some((OTHER, 60)))),
            ContentExplanation::Yes
        );
    }

    #[test]
    fn a_backup_of_what_was_replaced_is_explained_by_the_name_of_that() {
        let mut reported = RecentList::new(4);
        note(&mut reported, content(1, Some((PATH, 50))));
        let backup = content(1, Some((OTHER, 60)));
        assert_eq!(explanation(&reported, &backup), ContentExplanation::UnderOldName);
        note(&mut reported, content(2, Some((PATH, 70))));
        assert_eq!(explanation(&reported, &backup), ContentExplanation::UnderReplacedName(PATH));
        // It was reported under the other name, too.
        note(&mut reported, backup);
        assert_eq!(explanation(&reported, &backup), ContentExplanation::Yes);
    }

    #[test]
    fn a_backup_has_the_name_of_its_original_with_a_usual_ending() {
        for (path, is_usual, is_new) in [
            ("/etc/fstab~", true, true),
            ("/etc/fstab.~12~", true, true),
            ("/etc/fstab-", true, true),
            ("/etc/fstab.bak", true, true),
            ("/etc/fstab.dpkg-old", true, true),
            ("/etc/fstab.rpmsave", true, true),
            ("/etc/fstab.2026-11-29", false, true),
            ("/etc/fstab.~~", false, true),
            ("/etc/fstab2", false, false),
            ("/etc/fstab", false, false),
            ("/etc/passwd", false, false),
            ("/etc/passwd~", false, false),
            ("/srv/fstab~", false, false),
            ("/etc/~", false, false),
            ("/etc/", false, false),
            ("", false, false),
        ] {
            let of = |is_new| is_backup(path.as_bytes(), is_new, |it| it == b"/etc/fstab");
            assert_eq!((of(false), of(true)), (is_usual, is_new), "{path}");
        }
    }

    #[test]
    fn a_new_name_long_after_the_report_is_no_part_of_the_change() {
        let reported = content(1, Some((PATH, 50)));
        let at = |path, time| content(1, Some((path, time)));
        assert!(reported.is_late_name(&at(OTHER, 50 + 10 * SECOND_NS)));
        assert!(!reported.is_late_name(&at(OTHER, 51 + 10 * SECOND_NS)));
        assert!(!reported.is_late_name(&at(OTHER, 50)) && !reported.is_late_name(&at(PATH, 60)));
    }
}
