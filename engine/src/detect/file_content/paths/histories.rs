//! Histories of shells that are emptied, replaced by what is no file, or removed.
//!
//! A shell appends to its history when it ends, or writes it anew under another name, and renames
//! that (`history_do_write`, lib/readline/histfile.c of bash 5.2; `savehistfile`, Src/hist.c of zsh
//! 5.9). So one that grows, shrinks or becomes another file is no finding.
//!
//! The kernel keeps the name of a file that was removed, without an inode (`d_delete`,
//! fs/dcache.c of Linux 6.1), as it keeps names that were looked up in vain. A name that is in no
//! list tells nothing: nothing may have used it for long. A removed history counts when sweeps find
//! its name so for [`REMOVED_NS`]: an editor may put another file in its place, and a home that is
//! removed takes its names with it.

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_tables::{StringId, Strings};

use super::super::important::is_history;
use super::super::rules::ContentRules;
use super::known::PathTarget;
use super::pending::{HistoryLoss, NewNames, PathChange, PreviousTarget};
use super::sweep::SweptName;
use super::{Judge, Paths, is_set_id};
use crate::detect::{Acceptance, DetectorContext, Finding};
use crate::time::{Monotonic, Now};

/// How long a history's name must be without a file.
const REMOVED_NS: i64 = 1_500_000_000;
/// Time after which a name that sweeps do not find any more is forgotten.
const UNSEEN_NS: i64 = 30_000_000_000;
/// Number of names without a file that are followed at a time.
pub(super) const REMOVED_MAX: usize = 8;

/// A history whose name has no file any more.
#[derive(Clone, Copy, Debug)]
struct RemovedHistory {
    path: StringId,
    before: PathTarget,
    since: Now,
    /// When a sweep found its name last.
    last: Monotonic,
    is_due: bool,
}

/// The histories that are followed since they seem to be removed.
#[derive(Debug, Default)]
pub(super) struct Removals {
    all: ArrayVec<RemovedHistory, REMOVED_MAX>,
}

impl Removals {
    /// Notes that a sweep has found a history's name without a file.
    fn note(&mut self, path: &[u8], before: PathTarget, now: Now, strings: &mut Strings) {
        let known = self.all.iter_mut().find(|it| strings.get(it.path) == path);
        if let Some(known) = known {
            known.last = now.monotonic;
            known.is_due |= now.monotonic.since(known.since.monotonic) >= REMOVED_NS;
        } else if !self.all.is_full()
            && let Some(path) = strings.intern(path)
        {
            let last = now.monotonic;
            self.all.push(RemovedHistory { path, before, since: now, last, is_due: false });
        }
    }

    /// Forgets those for which this holds.
    fn forget(
        &mut self,
        strings: &mut Strings,
        is_over: impl Fn(&RemovedHistory, &Strings) -> bool,
    ) {
        self.all.retain(|it| {
            let is_over = is_over(it, strings);
            if is_over {
                strings.release(it.path);
            }
            !is_over
        });
    }
}

impl Judge<'_> {
    /// Compares a shell's history with what it was.
    pub(super) fn take_history(&mut self, found: &SweptName<'_>) {
        let is_wanted = !self.rules.is_excluded(found.path) && self.starting.is_none();
        if found.inode.is_null() {
            // What was mounted on a home, and is no longer, has not lost its files.
            if is_wanted
                && !self.known.is_elsewhere(found.path, found.place)
                && let Some(before) = self.content_before(found)
            {
                self.removals.note(found.path, before, self.now, self.strings);
            }
            return;
        }
        let named = PathTarget::of(found.attributes);
        let has_content = found.attributes.kind() == mode::S_IFREG && named.size > 0;
        self.removals.forget(self.strings, |it, strings| strings.get(it.path) == found.path);
        if has_content {
            self.known.set(found.path, named, Some(found.place));
            return;
        }
        // What another mount shows at this path has not taken the content. What is mounted on the
        // history itself hides it.
        if !found.is_mounted() && self.known.is_elsewhere(found.path, found.place) {
            return;
        }
        if self
            .content_before(found)
            .is_some_and(|before| is_wanted && !self.wait_as_history(found, before))
        {
            *self.has_left = true;
        }
    }

    /// Lets the loss of a history's content wait; `false` if there is no room.
    fn wait_as_history(&mut self, found: &SweptName<'_>, before: PathTarget) -> bool {
        let has_room = self.wait(found, Some(before), true);
        let inode = (found.inode, found.attributes.ino);
        if let Some(pending) = self.pending.iter_mut().find(|it| it.is_of(inode)) {
            pending.is_history |= has_room;
        }
        has_room
    }

    /// What a history was, if it had content. It is seen now.
    fn content_before(&mut self, found: &SweptName<'_>) -> Option<PathTarget> {
        self.known.get(found.path, found.place).filter(|before| before.size > 0)
    }

    /// Whether a name is that of a shell's history, and no other rule is about it. A file that is
    /// set-uid is a program.
    pub(super) fn is_history(&self, found: &SweptName<'_>) -> bool {
        let Attributes { mode, .. } = *found.attributes;
        let is_program = found.attributes.kind() == mode::S_IFREG && is_set_id(mode);
        let may_be = is_history(found.path) && !is_program;
        found.inode.is_null() || may_be && !self.matters(found)
    }
}

impl Paths {
    /// Reports the histories that were removed.
    pub(in super::super) fn report_removed(
        &mut self,
        context: &mut DetectorContext<'_>,
        strings: &mut Strings,
        rules: &ContentRules,
    ) {
        let now = context.cx.now.monotonic;
        self.removals.forget(strings, |it, _| now.since(it.last) >= UNSEEN_NS && !it.is_due);
        for at in (0..self.removals.all.len()).rev() {
            let removed = self.removals.all[at];
            let path = strings.get(removed.path);
            if !removed.is_due || !found(context, &removed.change(path, rules)) {
                continue;
            }
            self.known.forget_path(path);
            self.removals.all.swap_remove(at);
            strings.release(removed.path);
        }
    }
}

fn found(context: &mut DetectorContext<'_>, change: &PathChange<'_>) -> bool {
    context.out.found(context.cx, &Finding::PathChange(change)) == Acceptance::Yes
}

impl RemovedHistory {
    fn change<'a>(&self, path: &'a [u8], rules: &ContentRules) -> PathChange<'a> {
        let PathTarget { number, size, modify_time_ns, .. } = self.before;
        let before =
            PreviousTarget { number, size, modify_time_ns, is_same_file: false, hashes: None };
        PathChange {
            path,
            previous: None,
            attributes: Attributes::default(),
            device: 0,
            before: Some(before),
            hashes: None,
            partial: None,
            since_ns: self.since.real,
            severity: rules.severity(Some(path)),
            others: NewNames::default(),
            history: Some(HistoryLoss::Removed),
        }
    }
}
