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
use super::children::Entry;
use super::emit::Emitter;
use super::facts::{
    DescriptorFacts, FileName, InodeFacts, OpenFlags, is_floating, numbered_kind, open_flags,
};
use super::file_names::is_numbered;
use super::open_files::OpenFiles;
use super::process::Process;
use crate::walk::{DescriptorRow, FileRow, FilesRow, Index, ProcessRow, Snapshot, ThreadRow};
use panoptes_tables::{Cursor, ListPool};
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
    let mut merge = Merge {
        cursor: ListPool::<Descriptor>::start(entry.children.descriptors),
        quiet: entry.quiet(entry.children.descriptors_taken),
        descriptors,
        open_files,
        entry,
        emitter,
    };
    merge.table(0, main, &[]);
    let mut own = [None; OWN_TABLES_MAX];
    let count = own_tables(snapshot, merge.entry.row.files, group, &mut own);
    let main_rows = snapshot.descriptors.range(main.descriptors);
    for table in own[..count].iter().filter_map(|&index| snapshot.files_structs.at(index)) {
        merge.table(table.address.0, table, main_rows);
    }
    // Tables that ended with their threads.
    while merge.drop_row() {}
    entry.children.descriptors_taken |= main.complete;
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
    head: u32,
    process: &Process,
    emitter: &mut Emitter<'_>,
) {
    let mut cursor = ListPool::<Descriptor>::start(head);
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

/// Whether a new process inherited a file: its parent has it open too.
fn is_inherited(
    open_files: &mut OpenFiles,
    snapshot: &Snapshot,
    process: &ProcessRow,
    file: Option<Index<FileRow>>,
) -> bool {
    let parent = snapshot.process_by_pid(process.parent_pid);
    parent.is_some_and(|parent| open_files.has(snapshot, parent.files, file))
}

/// Frees all descriptors of a process that has ended.
pub(super) fn release_all(
    descriptors: &mut ListPool<Descriptor>,
    head: &mut u32,
    strings: &mut Strings,
) {
    let mut cursor = ListPool::<Descriptor>::start(*head);
    while let Some(old) = descriptors.remove(head, &mut cursor) {
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
}

impl Merge<'_, '_, '_> {
    /// Compares one table. `copied` has the descriptors that a thread's own table began with.
    fn table(&mut self, key: u64, table: &FilesRow, copied: &[DescriptorRow]) {
        let snapshot = self.emitter.snapshot;
        let threads = snapshot.files_threads.range(table.threads);
        for row in snapshot.descriptors.range(table.descriptors) {
            self.pass(key, row.index, table.complete, threads);
            let file = snapshot.files.at(row.file);
            let Some((file, open)) = file.and_then(|file| Some((file, open_flags(file)?))) else {
                // Not readable this time: keep the old descriptor.
                if self.here(key, row.index) {
                    self.descriptors.advance(&mut self.cursor);
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
                    self.descriptors.advance(&mut self.cursor);
                    continue;
                }
                self.close(threads);
            }
            let is_copy = copied
                .binary_search_by_key(&row.index, |row| row.index)
                .is_ok_and(|at| copied[at].file == row.file);
            self.open(key, row, open, threads, is_copy);
        }
        self.pass(key, u32::MAX, table.complete, threads);
    }

    /// Whether the cursor is at this descriptor.
    fn here(&self, table: u64, index: u32) -> bool {
        self.descriptors.row(self.cursor).is_some_and(|row| row.key() == (table, index))
    }

    /// Moves past all rows before a descriptor. Rows of this table are closed if the scan has all
    /// of it; other tables have ended, and so have their rows.
    fn pass(&mut self, table: u64, index: u32, complete: bool, threads: &[u32]) {
        while let Some(old) = self.descriptors.row(self.cursor)
            && old.key() < (table, index)
        {
            if old.table != table {
                self.drop_row();
            } else if complete {
                self.close(threads);
            } else {
                self.descriptors.advance(&mut self.cursor);
            }
        }
    }

    fn open(
        &mut self,
        table: u64,
        row: &DescriptorRow,
        open: OpenFlags,
        threads: &[u32],
        is_copy: bool,
    ) {
        if !self.descriptors.has_room() {
            return;
        }
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
            self.entry.clock_ns
        };
        let is_recent = since_ns.is_some_and(|since| attributes.modify_time_ns >= since);
        let opened = Opened {
            size: attributes.size,
            modify_time_ns: attributes.modify_time_ns,
            written: is_recent && !self.quiet && is_writable(open) && !is_taken_over(),
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
        let head = &mut self.entry.children.descriptors;
        self.descriptors.insert(head, &mut self.cursor, new);
        if self.quiet || is_copy {
            return;
        }
        let process = self.entry.process;
        emitter.emit_named(|names| {
            let mut descriptor = new.facts(&names.strings, threads);
            if name.in_buffer {
                descriptor.name = Some(FileName::Text(names.buffer.text()));
            }
            Change::DescriptorOpened { process, descriptor }
        });
    }

    fn close(&mut self, threads: &[u32]) {
        let head = &mut self.entry.children.descriptors;
        let Some(old) = self.descriptors.remove(head, &mut self.cursor) else { return };
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
        let head = &mut self.entry.children.descriptors;
        let old = self.descriptors.remove(head, &mut self.cursor);
        if let Some(old) = old {
            report_writer(&old, self.entry.process, &[], self.emitter);
            old.release(&mut self.emitter.names.strings);
        }
        old.is_some()
    }
}
