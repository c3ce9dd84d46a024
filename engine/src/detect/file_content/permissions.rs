//! Changed permissions that no record about the content shows, and that no package manager
//! explains.

use panoptes_decoders::kernel::inode::Attributes;
use panoptes_tables::Strings;

use super::FileContent;
use super::capabilities::{executable, is_shipped};
use super::closing::{ClosedDescriptor, ClosingStage};
use super::paths::{PathChangeStep, Paths, PendingPathChange, is_set_id};
use super::rules::ContentRules;
use crate::detect::{Acceptance, DetectorContext, Finding};
use crate::state::ScanContext;
use crate::state::process::Process;
use crate::time::Now;
use crate::walk::ProcessRow;

impl FileContent {
    /// Looks at the program that a process begins to run, if it is set-uid or set-gid, and outside
    /// of containers: these have programs of their own.
    pub(super) fn look_at_program(&mut self, cx: &ScanContext<'_>, process: &Process) {
        let snapshot = cx.snapshot;
        let Some(row) = snapshot.processes.at(process.row()) else { return };
        let file = executable(snapshot, row);
        let Some(inode) = file.and_then(|file| snapshot.inodes.at(file.inode)) else { return };
        // A container has mounts of its own. Its name alone tells nothing: any user may give a
        // control group the name of a container's.
        if is_set_id(inode.attributes.mode) && snapshot.shares_first_mounts(row) {
            self.take_program(cx, row, 0);
        }
    }

    /// Follows the program of a process: a set-uid or set-gid one, or one that has given these
    /// capabilities. One that finds no room is counted: no sweep may come to it.
    pub(super) fn take_program(
        &mut self,
        cx: &ScanContext<'_>,
        row: &ProcessRow,
        capabilities: u64,
    ) {
        let snapshot = cx.snapshot;
        let Some(file) = executable(snapshot, row) else { return };
        let mount = snapshot.mounts.at(file.path.mount);
        let dentry = snapshot.dentries.at(file.path.dentry);
        let inode = snapshot.inodes.at(file.inode);
        let (Some(mount), Some(dentry), Some(inode)) = (mount, dentry, inode) else { return };
        let Self { packages, paths, strings, rules, shipped, lost, .. } = self;
        let Attributes { ctime_ns, uid, .. } = inode.attributes;
        let is_of_package = packages.ran_before(ctime_ns, uid == 0);
        let Some(path) = packages.path_of(snapshot, file.path) else { return };
        let is_usual = || snapshot.is_put_by_root(file) && is_shipped(path, capabilities);
        if capabilities != 0 && (is_of_package || is_usual()) {
            return paths.note_given(&inode.attributes, capabilities);
        }
        let has_no_room = paths.take_program(
            (path, mount.address, dentry.name.address),
            (inode.address, &inode.attributes, capabilities),
            (snapshot, cx.now),
            (rules, shipped),
            strings,
        );
        let process_id = snapshot.leader(row).map(|leader| leader.task.tgid);
        lost.add(u64::from(has_no_room), process_id);
    }
}

/// What becomes of a change of permissions. A closing's record shows the permissions of its file.
pub(super) fn step(
    change: &PendingPathChange,
    closings: &[ClosedDescriptor],
    now: Now,
) -> PathChangeStep {
    if change.is_reported() || change.is_of_image() {
        return PathChangeStep::Over;
    }
    let inode = change.content().inode;
    let of_file = closings.iter().find(|closing| closing.inode == inode);
    match of_file.map(|closing| closing.stage) {
        None | Some(ClosingStage::Over | ClosingStage::Waiting { matters: false }) => {
            PathChangeStep::Report
        }
        Some(_) if change.has_waited(now) => PathChangeStep::Report,
        Some(_) => PathChangeStep::Waits,
    }
}

/// Reports the changes of permissions that are due.
pub(super) fn report(
    paths: &mut Paths,
    (strings, rules): (&Strings, &ContentRules),
    context: &mut DetectorContext<'_>,
) {
    for at in 0..paths.waiting().len() {
        let change = paths.waiting()[at];
        if change.is_content() || !change.is_due() {
            continue;
        }
        let severity = rules.severity(Some(strings.get(change.path)));
        let found = paths.access_change(&change, strings, severity);
        if context.found(&Finding::PermissionChange(&found)) == Acceptance::Yes {
            paths.end(at);
        }
    }
}
