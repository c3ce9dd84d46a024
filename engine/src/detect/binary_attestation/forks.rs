//! Files that a program inherits from the one it was forked from: they were checked there.

use super::Attest;
use super::program::{ItemKey, Program, Version};
use crate::page_cache::FileIdentity;
use crate::walk::{ProcessRow, Snapshot};
use panoptes_tables::RowId;

impl Attest {
    /// Whether a program has inherited a file from the program it was forked from, with the same
    /// version. Returns `None` if not, otherwise whether the file was reported there.
    pub(super) fn inherited(
        &self,
        snapshot: &Snapshot,
        row: &ProcessRow,
        program: &Program,
        file: &FileIdentity,
    ) -> Option<bool> {
        let item_of = |serial: u32| {
            let key = ItemKey { serial, inode: file.inode, number: file.number };
            let item = self.items.get(self.items.find(&key)?)?;
            let is_the_same =
                item.is_open || item.is_reported || item.version == Version::from(file);
            is_the_same.then_some(item.is_reported)
        };
        let parent = self.forked_by(snapshot, row, program);
        parent.map(|it| it.serial).and_then(item_of).or_else(|| item_of(program.relative?))
    }

    /// The parent's program, if this one may have been forked from it.
    fn forked_by(
        &self,
        snapshot: &Snapshot,
        row: &ProcessRow,
        program: &Program,
    ) -> Option<&Program> {
        let parent = snapshot.process_by_pid(row.parent_pid)?;
        let parent = self.program_of(snapshot, parent)?;
        is_of_one_exec(parent, program).then_some(parent)
    }

    /// Searches for the program that this one was forked from, where that is not its parent's: a
    /// process that starts a daemon may end at once. Limited to [`super::SEARCHES_MAX`] searches
    /// per scan.
    pub(super) fn find_relative(&mut self, snapshot: &Snapshot, row: &ProcessRow, id: RowId) {
        let Some(own) = self.programs.get(id) else { return };
        let is_fork = snapshot.leader(row).is_some_and(|leader| leader.task.is_fork());
        let has_parent = self.forked_by(snapshot, row, own).is_some();
        if !is_fork || has_parent || self.searches_left == 0 {
            return;
        }
        self.searches_left -= 1;
        let is_relative = |other: &&Program| {
            is_of_one_exec(other, own)
                && other.arguments == own.arguments
                && other.key.process.start_boottime < own.key.process.start_boottime
        };
        let others = self.programs.ids().filter_map(|id| self.programs.get(id));
        let relative = { others }.find(is_relative).map(|other| other.serial);
        if let Some(own) = self.programs.get_mut(id) {
            own.relative = relative;
        }
    }
}

/// Whether one program may have been forked from the other.
fn is_of_one_exec(one: &Program, other: &Program) -> bool {
    (one.key.exec, one.is_inside) == (other.key.exec, other.is_inside)
}
