//! Changed permissions that no record about the content shows, and that no package manager explains.

use panoptes_tables::Strings;

use super::closing::{Closing, Stage};
use super::paths::{Paths, Pending, Step};
use super::rules::ContentRules;
use crate::detect::{Accepted, Finding, Scene};

/// What becomes of a change of permissions. A closing's record shows the permissions of its file.
pub(super) fn step(change: &Pending, closings: &[Closing]) -> Step {
    if change.is_reported() {
        return Step::Over;
    }
    let inode = change.content().inode;
    let of_file = closings.iter().find(|closing| closing.inode == inode);
    match of_file.map(|closing| closing.stage) {
        None | Some(Stage::Over | Stage::Waiting { matters: false }) => Step::Report,
        Some(_) => Step::Waits,
    }
}

/// Reports the changes of permissions that are due.
pub(super) fn report(
    paths: &mut Paths,
    (strings, rules): (&Strings, &ContentRules),
    scene: &mut Scene<'_>,
) {
    for at in 0..paths.waiting().len() {
        let change = paths.waiting()[at];
        if change.is_content() || !change.is_due() {
            continue;
        }
        let severity = rules.severity(Some(strings.get(change.path)));
        let found = paths.access_change(&change, strings, severity);
        if scene.found(&Finding::PermissionChange(&found)) == Accepted::Yes {
            paths.end(at);
        }
    }
}
