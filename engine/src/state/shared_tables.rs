//! Descriptor tables that several processes use (`CLONE_FILES`).
//!
//! The descriptors of a table are in the rows of its processes: those whose main table it is, and
//! else the one with the lowest of its threads. When a process has left a table, or has ended, and
//! another one uses the table on, its rows go over to that one: nothing was opened or closed.

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_tables::{ListPool, PoolCursor, PoolList, RowId, Tag};

use super::MachineState;
use super::children::Children;
use super::descriptor::{Descriptor, find_own_tables, table_tag};
use super::emit::Update;
use crate::walk::{FilesRow, Index, ProcessRow, Snapshot};

/// Maximum number of tables that go over in one scan. Of others, the descriptors are reported as
/// opened by their next process.
const PASSED_MAX: usize = 64;

/// Maximum number of searches in one scan through all its tables, or all its threads. A table goes
/// over after at most one of each. What was not found counts too: thousands of tables of threads
/// can end at once.
pub(super) const SEARCHES_MAX: usize = 2 * PASSED_MAX;

/// `STDERR_FILENO`
const STANDARD_LAST: u32 = 2;

/// A table that a process has left.
#[derive(Clone, Copy, Debug)]
struct LeftTable {
    /// In the rows of the process ([`Descriptor::table`]).
    key: Tag<3>,
    index: Index<FilesRow>,
    /// Whether the process may have kept copies of its descriptors.
    is_copied: bool,
}

impl MachineState {
    /// Passes on the tables that processes have left since the last scan.
    pub(super) fn pass_on_tables(&mut self, update: &Update<'_>) {
        let snapshot = update.snapshot;
        for (index, row) in snapshot.processes.indexed().take(self.rows.len()) {
            if update.must_stop() {
                return;
            }
            if let Some(id) = self.rows[index.position()] {
                self.pass_on_tables_of(id, Some(row), snapshot);
            }
        }
    }

    /// Passes on the tables that a process has left; all if it has ended, and has no `row`.
    pub(super) fn pass_on_tables_of(
        &mut self,
        id: RowId,
        row: Option<&ProcessRow>,
        snapshot: &Snapshot,
    ) {
        let Some(children) = self.children.get_mut(id.0 as usize) else { return };
        let main = row.and_then(|row| snapshot.files_structs.at(row.files));
        let main = main.map_or(0, |table| table.address.0);
        let before = core::mem::replace(&mut children.table, main);
        let mut left = ArrayVec::<LeftTable, PASSED_MAX>::new();
        if before != 0
            && before != main
            && let Some(index) = snapshot.files_structs.find(before)
        {
            let is_copied = row.is_some_and(|row| !has_exited(snapshot, row));
            left.push(LeftTable { key: Tag::NONE, index, is_copied });
        }
        if children.own_tables > 0 {
            self.own_tables.clear();
            if let Some(row) = row {
                find_own_tables(snapshot, row, &mut self.own_tables);
            }
            let mut last = Tag::NONE;
            let mut cursor = ListPool::<Descriptor>::start(children.descriptors);
            while let Some(old) = self.descriptors.row(cursor) {
                if core::mem::replace(&mut last, old.table) != old.table
                    && !has_own(snapshot, &self.own_tables, old.table)
                    && !left.is_full()
                    && begins_search(&mut self.table_searches)
                    && let Some(index) = table_of(snapshot, old.table)
                {
                    left.push(LeftTable { key: old.table, index, is_copied: false });
                }
                self.descriptors.advance(&mut cursor);
            }
        }
        for table in left {
            self.pass_on(id, table, snapshot);
        }
    }

    /// Passes the rows of a table on to the process that uses it now, if there is one that has
    /// none.
    fn pass_on(&mut self, from: RowId, table: LeftTable, snapshot: &Snapshot) {
        let LeftTable { key, index, is_copied } = table;
        let Some(table) = snapshot.files_structs.at(Some(index)) else { return };
        let (address, tag) = (table.address.0, table_tag(table));
        let Some(&lowest) = snapshot.files_threads.at(table.threads.first()) else { return };
        // Nearly always, the lowest thread is the leader of a process with this main table.
        let leads = snapshot.process_by_pid(lowest);
        if leads.is_some_and(|row| row.files == Some(index))
            || !begins_search(&mut self.table_searches)
        {
            return;
        }
        let user = process_of(snapshot, lowest);
        let Some((user, row)) = user.and_then(|user| Some((user, snapshot.processes.at(user)?)))
        else {
            return;
        };
        let to = self.rows.get(user.position()).copied().flatten();
        let Some(to) = to.filter(|_| row.files != Some(index)) else { return };
        let after = self.after(to, tag);
        let has_rows = self.descriptors.row(after).is_some_and(|row| row.table == tag);
        if has_rows || !self.is_same_table(from, key, snapshot, index) {
            return;
        }
        let mut rows = self.take_rows(from, key, tag, is_copied && to != from);
        let Children { untracked, descriptors_held: is_held, .. } = self.children[from.0 as usize];
        let untracked = untracked.descriptors;
        let mut cursor = self.after(to, tag);
        let children = &mut self.children[to.0 as usize];
        let mut first = ListPool::<Descriptor>::start(rows);
        while let Some(row) = self.descriptors.remove(&mut rows, &mut first) {
            self.descriptors.insert(&mut children.descriptors, &mut cursor, row);
        }
        children.own_tables = children.own_tables.max(1);
        children.descriptors_held |= is_held;
        if untracked.0 <= key {
            let from = if untracked.0 == key { untracked.1 } else { 0 };
            let all = &mut children.untracked.descriptors;
            *all = (*all).min((tag, from));
        }
        if to == from {
            // What its main table has now began as a copy.
            children.copied_from = address;
        }
    }

    /// The place in a process's rows after those of lower tables.
    fn after(&self, process: RowId, tag: Tag<3>) -> PoolCursor {
        let list = self.children.get(process.0 as usize).map(|children| children.descriptors);
        let mut cursor = ListPool::<Descriptor>::start(list.unwrap_or_default());
        while self.descriptors.row(cursor).is_some_and(|row| row.table < tag) {
            self.descriptors.advance(&mut cursor);
        }
        cursor
    }

    /// Whether a table still has most of the descriptors in the rows: another one may have its
    /// address by now. Standard input and output do not count alone: many processes have the same.
    fn is_same_table(
        &self,
        process: RowId,
        key: Tag<3>,
        snapshot: &Snapshot,
        table: Index<FilesRow>,
    ) -> bool {
        let Some(table) = snapshot.files_structs.at(table) else { return false };
        let shown = snapshot.descriptors.range(table.descriptors);
        let Some(children) = self.children.get(process.0 as usize) else { return false };
        let mut cursor = ListPool::<Descriptor>::start(children.descriptors);
        let (mut equal, mut unequal) = ([0_u32; 2], [0_u32; 2]);
        while let Some(old) = self.descriptors.row(cursor) {
            let index = old.index();
            if old.table == key && table.has_slot(index) {
                let is_equal = match shown.binary_search_by_key(&index, |row| row.index) {
                    Ok(at) => snapshot.files.at(shown[at].file).map(|file| old.is_file(file)),
                    Err(_) => Some(false),
                };
                // What could not be read shows nothing.
                if let Some(is_equal) = is_equal {
                    let counts = if is_equal { &mut equal } else { &mut unequal };
                    counts[usize::from(index > STANDARD_LAST)] += 1;
                }
            }
            self.descriptors.advance(&mut cursor);
        }
        let [equal_standard, equal_others] = equal;
        let [unequal_standard, unequal_others] = unequal;
        equal_standard + equal_others > unequal_standard + unequal_others
            && (equal_others > 0 || unequal_others == 0)
    }

    /// Takes the rows of a table from a process, or copies of them, as those of `tag`.
    fn take_rows(&mut self, process: RowId, key: Tag<3>, tag: Tag<3>, is_copied: bool) -> PoolList {
        let Self { descriptors, children, names, .. } = self;
        let list = &mut children[process.0 as usize].descriptors;
        let mut taken = PoolList::default();
        let mut end = ListPool::<Descriptor>::start(taken);
        let mut cursor = ListPool::<Descriptor>::start(*list);
        while let Some(&old) = descriptors.row(cursor) {
            if old.table != key {
                descriptors.advance(&mut cursor);
                continue;
            }
            if is_copied {
                if !descriptors.has_room() {
                    break;
                }
                old.retain(&mut names.strings);
                descriptors.advance(&mut cursor);
            } else {
                descriptors.remove(list, &mut cursor);
            }
            let mut row = old;
            row.table = tag;
            if is_copied {
                // The process that keeps it reports it.
                row.release_held();
            }
            descriptors.insert(&mut taken, &mut end, row);
        }
        taken
    }
}

/// Whether all threads of a process have ended, or have begun to. Each gives up its table before it
/// has an exit state (`do_exit`, kernel/exit.c).
fn has_exited(snapshot: &Snapshot, process: &ProcessRow) -> bool {
    let has_exited = |task: &Task| task.exit_state != 0 || task.is_exiting();
    snapshot.threads_of(process).all(|thread| has_exited(&thread.task))
}

/// Counts one more search; `false` if there were too many.
fn begins_search(searches: &mut usize) -> bool {
    let begins = *searches < SEARCHES_MAX;
    *searches += usize::from(begins);
    begins
}

/// The process of a thread.
fn process_of(snapshot: &Snapshot, thread_id: u32) -> Option<Index<ProcessRow>> {
    let mut threads = snapshot.by_tid.iter().filter_map(|&thread| snapshot.threads.at(thread));
    threads.find(|row| row.task.pid == thread_id)?.process
}

/// Whether a table is one of those in `own`, which are sorted by tag.
fn has_own(snapshot: &Snapshot, own: &[Index<FilesRow>], tag: Tag<3>) -> bool {
    let tag_of = |index: &Index<_>| snapshot.files_structs.at(*index).map(table_tag);
    own.binary_search_by_key(&Some(tag), tag_of).is_ok()
}

/// The table that a tag stands for.
fn table_of(snapshot: &Snapshot, tag: Tag<3>) -> Option<Index<FilesRow>> {
    let mut tables = snapshot.files_structs.indexed();
    tables.find(|(_, table)| table_tag(table) == tag).map(|(index, _)| index)
}
