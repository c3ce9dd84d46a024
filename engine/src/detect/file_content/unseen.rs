//! Changes that no closing of a descriptor explains: of paths that matter.

use super::ClosedFiles;
use super::closing::{Closing, Stage};
use super::explained::ReportedContent;
use super::paths::{Pending, Step};
use crate::detect::{Accepted, Finding, Scene};
use crate::page_cache::ContentSource;

impl ClosedFiles {
    /// Looks for changed paths, and reports those that nothing else explains.
    pub(super) fn follow_paths(&mut self, scene: &mut Scene<'_>, files: &mut dyn ContentSource) {
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
        let (snapshot, now) = (scene.cx.snapshot, scene.cx.now);
        let memory = &mut scene.memory;
        paths.look((reader, memory), (snapshot, now), (rules, shipped), strings);
        for change in paths.settle((reader, memory), snapshot, strings) {
            let is_due = snapshot.left.is_empty() || change.has_waited(now);
            if !change.is_settled(now) || !is_due {
                *waits |= !is_due;
                continue;
            }
            let mut step = step(change, closings, explained);
            if let Step::Report = step {
                step = change.step_while_open(now).unwrap_or(step);
            }
            if let Step::Report = step
                && let Some(manager) =
                    packages.manager_at(change.change_time_ns(), &snapshot.machine)
            {
                change.set_manager(manager);
                match packages.is_trusted(manager, shipped, files) {
                    Some(true) => {
                        packages.count(manager, Some(change.path), strings);
                        explained.insert(change.content());
                        step = Step::Over;
                    }
                    None if !change.has_waited(now) => step = Step::Waits,
                    None | Some(false) => {}
                }
            }
            match step {
                Step::Waits => {}
                Step::Over => change.end(),
                Step::Report => {
                    let known = if change.is_regular() { change.ask(files) } else { None };
                    if change.is_regular() && known.is_none() && !change.has_waited(now) {
                        continue;
                    }
                    let severity = rules.severity(Some(strings.get(change.path)));
                    let found = change.change(strings, known.as_ref(), severity);
                    if scene.out.found(scene.cx, &Finding::PathChange(&found)) == Accepted::Yes {
                        explained.insert(change.content());
                        change.end();
                    }
                }
            }
        }
        paths.remove_over(strings);
    }
}

/// What becomes of a change, by the closings of its file and by what was reported.
fn step(change: &Pending, closings: &[Closing], explained: &[ReportedContent]) -> Step {
    if explained.contains(&change.content()) {
        return Step::Over;
    }
    let inode = change.content().inode;
    let of_file = closings.iter().find(|closing| closing.inode == inode);
    match of_file.map(|closing| closing.stage) {
        None | Some(Stage::Over | Stage::Waiting { matters: false }) => Step::Report,
        Some(Stage::Waiting { matters: true }) => Step::Over,
        Some(_) => Step::Waits,
    }
}
