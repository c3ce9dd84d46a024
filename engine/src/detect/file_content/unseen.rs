//! Changes that no closing of a descriptor explains: of paths that matter.

use arrayvec::ArrayVec;
use panoptes_tables::{RecentList, StringId, Strings};

use super::FileContent;
use super::closing::{ClosedDescriptor, ClosingStage};
use super::explained::{self, ContentExplanation, ReportedContent, explanation, is_backup};
use super::paths::{
    NAMES_MAX, NewNames, PENDING_MAX, PathChangeStep, PendingPathChange, TOGETHER_MIN,
};
use super::permissions;
use super::rules::ContentRules;
use crate::detect::{Acceptance, DetectorContext, Finding};
use crate::page_cache::ContentSource;
use crate::time::Now;

impl FileContent {
    /// Looks for changed paths, and reports those that nothing else explains.
    pub(super) fn follow_paths(
        &mut self,
        context: &mut DetectorContext<'_>,
        files: &mut dyn ContentSource,
    ) {
        let Self {
            paths,
            packages,
            closings,
            strings,
            rules,
            shipped,
            reader,
            explained,
            waits,
            ..
        } = self;
        if !paths.is_wanted {
            return;
        }
        let (snapshot, now, memory) = (context.cx.snapshot, context.cx.now, &mut context.memory);
        let by = (&**rules, &**shipped);
        paths.look((reader, memory), (snapshot, now), by, explained, strings);
        let hash = paths.hasher();
        let changes = paths.settle((reader, memory), (snapshot, now), by, strings);
        for change in changes.iter_mut() {
            let is_due = snapshot.left.is_empty() || change.has_waited(now);
            if !change.is_settled(now) || !is_due {
                *waits |= !is_due;
                continue;
            }
            if change.is_refilled() {
                change.end();
                continue;
            }
            let path = strings.get(change.path);
            let is_new = change.is_new();
            let is_backup = |of| is_backup(path, is_new, |original| hash(original) == of);
            let mut step = step(change, closings, (explained, &is_backup), now);
            if let PathChangeStep::Report = step
                && change.history().is_none()
                && let Some(manager) = packages.manager_at(
                    change.change_time_ns(),
                    change.is_roots(),
                    &snapshot.machine,
                )
            {
                change.set_manager(manager);
                match packages.is_trusted(manager, shipped, files) {
                    Some(true) => {
                        if change.is_content() {
                            packages.count(manager, Some(change.path), strings);
                            explained::note(explained, change.content());
                        }
                        step = PathChangeStep::Over;
                    }
                    None if !change.has_waited(now) => step = PathChangeStep::Waits,
                    None | Some(false) => {}
                }
            }
            change.set_due(matches!(step, PathChangeStep::Report));
            if let PathChangeStep::Over = step {
                change.end();
            }
        }
        report(changes, (strings, rules), explained, (context, files));
        permissions::report(paths, (strings, rules), context);
        paths.remove_over(strings);
        paths.report_removed(context, strings, rules);
    }
}

/// Reports the changes that are due. Many new names in one folder are one record.
fn report(
    changes: &mut [PendingPathChange],
    (strings, rules): (&Strings, &ContentRules),
    explained: &mut RecentList<ReportedContent>,
    (context, files): (&mut DetectorContext<'_>, &mut dyn ContentSource),
) {
    let severity = |change: &PendingPathChange| rules.severity(Some(strings.get(change.path)));
    for at in 0..changes.len() {
        let mut change = changes[at];
        if !change.is_due() || !change.is_content() {
            continue;
        }
        let (first, may_wait) = (change, !change.has_waited(context.cx.now));
        let is_beside = |other: &&PendingPathChange| !other.is_over() && other.is_beside(&first);
        let beside = changes.iter().filter(is_beside).count();
        let are_together = beside >= TOGETHER_MIN;
        let due = changes.iter().filter(is_beside).filter(|other| other.is_due()).count();
        if are_together && due < beside && may_wait {
            continue;
        }
        let known = if change.is_regular() { change.ask(files) } else { None };
        changes[at] = change;
        if change.is_regular() && known.is_none() && may_wait && !are_together {
            continue;
        }
        let weight = severity(&first);
        let is_with = |other: &PendingPathChange| {
            are_together && is_beside(&other) && other.is_due() && severity(other) == weight
        };
        let with = changes.iter().filter(|other| is_with(other)).map(|other| other.path);
        let others: ArrayVec<StringId, PENDING_MAX> =
            with.filter(|path| *path != first.path).collect();
        let mut found = change.change(strings, known.as_ref(), weight);
        let paths = &others[..others.len().min(NAMES_MAX)];
        found.others = NewNames { count: others.len(), paths, strings: Some(strings) };
        if context.out.found(context.cx, &Finding::PathChange(&found)) != Acceptance::Yes {
            continue;
        }
        for other in changes.iter_mut().filter(|other| is_with(other)) {
            explained::note(explained, other.content());
            other.end();
        }
        explained::note(explained, change.content());
        changes[at].end();
    }
}

/// What becomes of a change. Of one of content that something else explains, that of permissions is
/// left.
fn step(
    change: &mut PendingPathChange,
    closings: &[ClosedDescriptor],
    by: (&[ReportedContent], &dyn Fn(u64) -> bool),
    now: Now,
) -> PathChangeStep {
    if !change.is_content() {
        return permissions::step(change, closings, now);
    }
    match step_of_content(change, closings, by, now) {
        PathChangeStep::Over if change.turns_to_permissions() => PathChangeStep::Waits,
        PathChangeStep::Report => change.step_while_open(now).unwrap_or(PathChangeStep::Report),
        step => step,
    }
}

/// What becomes of a change of content, by the closings of its file and by what was reported.
/// `is_backup`: whether its path is that of a backup of the path with this hash.
fn step_of_content(
    change: &PendingPathChange,
    closings: &[ClosedDescriptor],
    (explained, is_backup): (&[ReportedContent], &dyn Fn(u64) -> bool),
    now: Now,
) -> PathChangeStep {
    match explanation(explained, &change.content()) {
        ContentExplanation::Yes => return PathChangeStep::Over,
        ContentExplanation::UnderReplacedName(of) if is_backup(of) => return PathChangeStep::Over,
        // What comes to its old name may come yet: then this one is a backup.
        ContentExplanation::UnderOldName if !change.has_waited(now) => {
            return PathChangeStep::Waits;
        }
        ContentExplanation::UnderOldName
        | ContentExplanation::UnderReplacedName(_)
        | ContentExplanation::No => {}
    }
    let inode = change.content().inode;
    let of_file = closings.iter().find(|closing| closing.inode == inode);
    match of_file.map(|closing| closing.stage) {
        None | Some(ClosingStage::Over | ClosingStage::Waiting { matters: false }) => {
            PathChangeStep::Report
        }
        // It has another name beside this one.
        Some(ClosingStage::TemporaryName { .. }) if change.has_waited(now) => {
            PathChangeStep::Report
        }
        // Its record explains this one, if it names the same path.
        Some(_) => PathChangeStep::Waits,
    }
}
