//! Tracked descriptors: the open file of each number in each process's table.
//!
//! A descriptor is its number, the address of the open file and the inode. The address alone does
//! not suffice: a closed file and a newly opened one can have the same address, under the same
//! number. Nearly every process has one table. A thread may have its own; descriptors that such a
//! table copied from its process's are not reported again.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::mode::{S_IFMT, S_IFREG};
use panoptes_decoders::kernel::super_block::takes_orders;

use super::change::{Change, Opened};
use super::children::{Children, Entry, Untracked};
use super::emit::Emitter;
use super::facts::{
    DescriptorFacts, FileName, InodeFacts, OpenFlags, is_floating, numbered_kind, open_flags,
};
use super::file_names::{Named, is_numbered};
use super::open_files::OpenFiles;
use super::process::Process;
use crate::walk::{DescriptorRow, FileRow, FilesRow, Index, ProcessRow, Snapshot, ThreadRow};
use panoptes_tables::{Cursor, List, ListPool};
use panoptes_tables::{StringId, Strings};

/// One tracked descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Descriptor {
    /// 0 in the process's table; the address of a thread's own table.
    table: u64,
    index: u32,
    name: Option<StringId>,
    file: u64,
    inode: u64,
    open: OpenFlags,
    attributes: InodeFacts,
    opened: Opened,
    deleted: bool,
    floating: bool,
    close_on_exec: bool,
}

impl Descriptor {
    pub(super) fn facts<'a>(
        &self,
        strings: &'a Strings,
        threads: &'a [u32],
    ) -> DescriptorFacts<'a> {
        let numbered = numbered_kind(self.attributes.magic).filter(|_| self.floating);
        let name = match (self.name, numbered) {
            (Some(id), _) => Some(FileName::Text(strings.get(id))),
            (None, Some(kind)) => Some(FileName::Numbered(kind, self.attributes.number)),
            (None, None) => None,
        };
        DescriptorFacts {
            index: self.index,
            name,
            deleted: self.deleted,
            floating: self.floating,
            close_on_exec: self.close_on_exec,
            open: Some(self.open),
            inode: Some(self.attributes),
            threads,
        }
    }

    fn key(&self) -> (u64, u32) {
        (self.table, self.index)
    }

    /// Whether it can write a regular file that will still exist after the close.
    fn is_writer(&self) -> bool {
        let keeps_content =
            self.attributes.mode & S_IFMT == S_IFREG && !takes_orders(self.attributes.magic);
        is_writable(self.open) && keeps_content && !self.deleted
    }

    fn release(&self, strings: &mut Strings) {
        if let Some(id) = self.name {
            strings.release(id);
        }
    }
}

impl Named for Descriptor {
    fn name(&mut self) -> &mut Option<StringId> {
        &mut self.name
    }
}

/// Maximum number of threads' own tables compared for one process; further ones are ignored.
const OWN_TABLES_MAX: usize = 8;

/// Compares a process's descriptors with those of the last scan. `group` has its threads.
pub(super) fn update(
    descriptors: &mut ListPool<Descriptor>,
    open_files: &mut OpenFiles,
    entry: &mut Entry<'_>,
    group: &[Index<ThreadRow>],
    emitter: &mut Emitter<'_>,
) {
    let snapshot = emitter.snapshot;
    let Some(main) = snapshot.files_structs.at(entry.row.files) else { return };
    let unknown = entry.children.untracked.descriptors;
    let mut merge = Merge {
        cursor: ListPool::<Descriptor>::start(entry.children.descriptors),
        quiet: entry.quiet(entry.children.descriptors_taken),
        kept: 0,
        unknown,
        untracked: Untracked::default().descriptors,
        descriptors,
        open_files,
        entry,
        emitter,
    };
    merge.table(0, main, None);
    let mut own = [None; OWN_TABLES_MAX];
    let count = own_tables(snapshot, merge.entry.row.files, group, &mut own);
    for table in own[..count].iter().filter_map(|&index| snapshot.files_structs.at(index)) {
        merge.table(table.address.0, table, Some(main));
    }
    // Tables that ended with their threads.
    while merge.drop_row() {}
    let untracked = merge.untracked;
    let has_all = main.ends_a_round();
    entry.children.untracked.descriptors =
        if main.complete || has_all && !main.is_cut { untracked } else { untracked.min(unknown) };
    if has_all {
        entry.children.descriptors_taken = true;
        entry.children.descriptors_clock_ns = snapshot.machine.calendar_ns;
    }
}

/// Finds the tables of threads that do not share their process's, sorted by address; returns their
/// number.
fn own_tables(
    snapshot: &Snapshot,
    main: Option<Index<FilesRow>>,
    group: &[Index<ThreadRow>],
    found: &mut [Option<Index<FilesRow>>; OWN_TABLES_MAX],
) -> usize {
    let mut count = 0;
    for row in group.iter().filter_map(|&index| snapshot.threads.at(index)) {
        let is_new =
            row.files != main && row.files.is_some() && !found[..count].contains(&row.files);
        if is_new && count < OWN_TABLES_MAX {
            found[count] = row.files;
            count += 1;
        }
    }
    found[..count]
        .sort_unstable_by_key(|&index| snapshot.files_structs.at(index).map(|row| row.address));
    count
}

/// Modification times are those of the last tick. Ticks come every 4 ms in Debian's kernels
/// (`CONFIG_HZ_250`), and at least every 10 ms.
const TICK_NS: i64 = 4_000_000;

/// Whether a file is open for writing.
fn is_writable(open: OpenFlags) -> bool {
    /// `FMODE_WRITE` (include/linux/fs.h)
    const FMODE_WRITE: u32 = 0x2;
    open.mode & FMODE_WRITE != 0
}

/// Reports the writable descriptors of a process that has ended.
pub(super) fn tell_writers(
    descriptors: &ListPool<Descriptor>,
    list: List,
    process: &Process,
    emitter: &mut Emitter<'_>,
) {
    let mut cursor = ListPool::<Descriptor>::start(list);
    while let Some(old) = descriptors.row(cursor) {
        report_writer(old, process, &[], emitter);
        descriptors.advance(&mut cursor);
    }
}

fn report_writer(old: &Descriptor, process: &Process, threads: &[u32], emitter: &mut Emitter<'_>) {
    if old.is_writer() {
        let (file, inode, opened) = (KernelVa(old.file), KernelVa(old.inode), old.opened);
        emitter.emit_named(|names| {
            let descriptor = old.facts(&names.strings, threads);
            Change::WriterClosed { process, descriptor, file, inode, opened }
        });
    }
}

/// Whether a new process inherited a file: its parent has it open too, or may have it where the
/// scan has not looked.
fn is_inherited(
    open_files: &mut OpenFiles,
    snapshot: &Snapshot,
    process: &ProcessRow,
    file: Option<Index<FileRow>>,
) -> bool {
    let parent = snapshot.process_by_pid(process.parent_pid);
    let is_left = |parent: &ProcessRow| {
        snapshot.left.tables > 0
            && snapshot.files_structs.at(parent.files).is_some_and(|table| !table.complete)
    };
    parent.is_some_and(|parent| open_files.has(snapshot, parent.files, file) || is_left(parent))
}

/// Removes the rows of a process after the first `allowed` ones, which is not reported.
pub(super) fn cut(
    descriptors: &mut ListPool<Descriptor>,
    children: &mut Children,
    allowed: usize,
    strings: &mut Strings,
) {
    let mut cursor = ListPool::<Descriptor>::start(children.descriptors);
    for _ in 0..allowed {
        descriptors.advance(&mut cursor);
    }
    let from = cut_from(descriptors, children, &mut cursor, strings);
    children.untracked.descriptors = children.untracked.descriptors.min(from);
}

/// Removes the rows of a process from a position on; returns the first of them.
fn cut_from(
    descriptors: &mut ListPool<Descriptor>,
    children: &mut Children,
    cursor: &mut Cursor,
    strings: &mut Strings,
) -> (u64, u32) {
    let first = descriptors.row(*cursor).map(Descriptor::key);
    while let Some(old) = descriptors.remove(&mut children.descriptors, cursor) {
        old.release(strings);
    }
    first.unwrap_or(Untracked::default().descriptors)
}

/// Frees all descriptors of a process that has ended.
pub(super) fn release_all(
    descriptors: &mut ListPool<Descriptor>,
    list: &mut List,
    strings: &mut Strings,
) {
    let mut cursor = ListPool::<Descriptor>::start(*list);
    while let Some(old) = descriptors.remove(list, &mut cursor) {
        old.release(strings);
    }
}

struct Merge<'a, 'e, 't> {
    descriptors: &'a mut ListPool<Descriptor>,
    open_files: &'a mut OpenFiles,
    entry: &'a mut Entry<'e>,
    emitter: &'a mut Emitter<'t>,
    cursor: Cursor,
    quiet: bool,
    /// Number of rows before the cursor.
    kept: u32,
    /// From where on descriptors were not tracked before this scan.
    unknown: (u64, u32),
    /// From where on they are not from now on.
    untracked: (u64, u32),
}

impl Merge<'_, '_, '_> {
    /// Compares one table. A thread's own table began with the descriptors of `main`.
    fn table(&mut self, key: u64, table: &FilesRow, main: Option<&FilesRow>) {
        let snapshot = self.emitter.snapshot;
        let copied = main.map_or(&[][..], |main| snapshot.descriptors.range(main.descriptors));
        let threads = snapshot.files_threads.range(table.threads);
        let rows = snapshot.descriptors.range(table.descriptors);
        for row in rows {
            self.pass(key, row.index, table, threads);
            let file = snapshot.files.at(row.file);
            let Some((file, open)) = file.and_then(|file| Some((file, open_flags(file)?))) else {
                // Not readable this time: keep the old descriptor.
                if self.here(key, row.index) {
                    self.keep();
                }
                continue;
            };
            let ino = snapshot.inodes.at(file.inode).map(|inode| inode.attributes.ino);
            if self.here(key, row.index)
                && let Some(old) = self.descriptors.row_mut(self.cursor)
            {
                let is_same = old.file == file.address.0
                    && old.inode == file.open.inode.0
                    && ino.is_none_or(|ino| ino == old.attributes.number);
                if is_same {
                    old.open = open;
                    old.close_on_exec = row.close_on_exec;
                    if let Some(attributes) = InodeFacts::read(snapshot, file) {
                        old.attributes = attributes;
                    }
                    self.keep();
                    continue;
                }
                self.close(threads);
            }
            // The main table's slot may be one that the scan left.
            let is_copy = main.is_some_and(|main| !main.has_slot(row.index))
                || copied
                    .binary_search_by_key(&row.index, |row| row.index)
                    .is_ok_and(|at| copied[at].file == row.file);
            self.open(key, row, open, threads, is_copy);
        }
        self.pass(key, u32::MAX, table, threads);
        if let Some(last) = rows.last()
            && table.is_cut
        {
            // The scan had no room for the others.
            self.untracked = self.untracked.min((key, last.index.saturating_add(1)));
        }
    }

    /// Whether the cursor is at this descriptor.
    fn here(&self, table: u64, index: u32) -> bool {
        self.descriptors.row(self.cursor).is_some_and(|row| row.key() == (table, index))
    }

    /// Moves past all rows before a descriptor. Rows of this table are closed if the scan has their
    /// slots; other tables have ended, and so have their rows.
    fn pass(&mut self, key: u64, index: u32, table: &FilesRow, threads: &[u32]) {
        while let Some(old) = self.descriptors.row(self.cursor)
            && old.key() < (key, index)
        {
            if old.table != key {
                self.drop_row();
            } else if table.has_slot(old.index) {
                self.close(threads);
            } else {
                self.keep();
            }
        }
    }

    /// Moves past a row that stays.
    fn keep(&mut self) {
        self.descriptors.advance(&mut self.cursor);
        self.count_kept();
    }

    /// Counts the row before the cursor. If the process may have no more, removes the rest: its
    /// lowest descriptors stay.
    fn count_kept(&mut self) {
        self.kept += 1;
        if self.kept >= self.entry.allowed.descriptors {
            let strings = &mut self.emitter.names.strings;
            let children = &mut *self.entry.children;
            let from = cut_from(self.descriptors, children, &mut self.cursor, strings);
            self.untracked = self.untracked.min(from);
        }
    }

    /// Whether one more descriptor is tracked; counts it if not.
    fn has_room(&mut self, key: (u64, u32)) -> bool {
        if self.kept < self.entry.allowed.descriptors {
            return self.descriptors.has_room();
        }
        self.descriptors.refuse(1);
        self.untracked = self.untracked.min(key);
        false
    }

    fn open(
        &mut self,
        table: u64,
        row: &DescriptorRow,
        open: OpenFlags,
        threads: &[u32],
        is_copy: bool,
    ) {
        let key = (table, row.index);
        if !self.has_room(key) {
            return;
        }
        let quiet = self.quiet || key >= self.unknown;
        let emitter = &mut *self.emitter;
        let snapshot = emitter.snapshot;
        let Some(file) = snapshot.files.at(row.file) else { return };
        let attributes = InodeFacts::read(snapshot, file).unwrap_or_default();
        let name = if is_numbered(snapshot, row.file, attributes.magic) {
            super::file_names::FileName::default()
        } else {
            emitter.names.name(snapshot, row.file)
        };
        let is_first = !self.entry.children.descriptors_taken;
        let (open_files, process) = (&mut *self.open_files, self.entry.row);
        let mut is_taken_over =
            || is_copy || is_first && is_inherited(open_files, snapshot, process, row.file);
        // A new process opened its files after its creation, which may be some scans ago.
        let since_ns = if is_first {
            let creation = self.entry.process.creation_time_ns();
            creation.map(|creation| creation.saturating_sub(TICK_NS))
        } else {
            self.entry.children.descriptors_clock_ns.or(self.entry.clock_ns)
        };
        let is_recent = since_ns.is_some_and(|since| attributes.modify_time_ns >= since);
        let opened = Opened {
            size: attributes.size,
            modify_time_ns: attributes.modify_time_ns,
            written: is_recent && !quiet && is_writable(open) && !is_taken_over(),
        };
        let new = Descriptor {
            table,
            index: row.index,
            name: name.id,
            file: file.address.0,
            inode: file.open.inode.0,
            open,
            attributes,
            opened,
            deleted: name.deleted,
            floating: is_floating(snapshot, file),
            close_on_exec: row.close_on_exec,
        };
        let list = &mut self.entry.children.descriptors;
        self.descriptors.insert(list, &mut self.cursor, new);
        self.count_kept();
        if quiet || is_copy {
            return;
        }
        let process = self.entry.process;
        self.emitter.emit_named(|names| {
            let mut descriptor = new.facts(&names.strings, threads);
            if name.in_buffer {
                descriptor.name = Some(FileName::Text(names.buffer.text()));
            }
            Change::DescriptorOpened { process, descriptor }
        });
    }

    fn close(&mut self, threads: &[u32]) {
        let list = &mut self.entry.children.descriptors;
        let Some(old) = self.descriptors.remove(list, &mut self.cursor) else { return };
        let process = self.entry.process;
        self.emitter.emit_named(|names| {
            let descriptor = old.facts(&names.strings, threads);
            Change::DescriptorClosed { process, descriptor }
        });
        report_writer(&old, process, threads, self.emitter);
        old.release(&mut self.emitter.names.strings);
    }

    /// Frees a row without reporting a close, except of a writer; `false` at the end.
    fn drop_row(&mut self) -> bool {
        let list = &mut self.entry.children.descriptors;
        let old = self.descriptors.remove(list, &mut self.cursor);
        if let Some(old) = old {
            report_writer(&old, self.entry.process, &[], self.emitter);
            old.release(&mut self.emitter.names.strings);
        }
        old.is_some()
    }
}
