//! Tracked descriptors: the open file of each number in each process's table.
//!
//! A descriptor is its number, a 16-bit tag of the open file's address, and the inode. The address
//! alone would not suffice: a closed file and a newly opened one can have the same address, under
//! the same number. Nearly every process has one table. A thread may have its own; descriptors that
//! such a table copied from its process's are not reported again.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::file::{FMODE_PATH, FMODE_WRITE};
use panoptes_decoders::kernel::inode::mode::{S_IFBLK, S_IFCHR, S_IFMT, S_IFREG};
use panoptes_decoders::kernel::super_block::FilesKind;

use super::change::{Change, FileAtOpen};
use super::children::{Children, ComparedProcess, UntrackedStart};
use super::emit::{Emitter, ROWS_A_QUESTION};
use super::facts::{
    DescriptorFacts, FileName, InodeFacts, OpenFlags, is_floating, numbered_kind, open_flags,
};
use super::file_names::{NamedRow, is_numbered};
use super::open_files::OpenFiles;
use super::process::{InExec, Process};
use crate::walk::{DescriptorRow, FileRow, FilesRow, Index, ProcessRow, Snapshot, TABLE_MAX};
use panoptes_tables::{ListPool, PoolCursor, PoolList};
use panoptes_tables::{StringId, Strings, Tag};

/// One tracked descriptor.
///
/// There can be very many, so the attributes of its inode ([`InodeFacts`]) stand here one by one,
/// and nothing leaves a gap. Where an address is not read again, its [`Tag`] stands for it. A file
/// with the same tag, under the same number, and of the same inode counts as the same open file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Descriptor {
    /// The `struct inode`, which is read again after the close.
    inode: u64,
    number: u64,
    size: u64,
    access_time_ns: i64,
    modify_time_ns: i64,
    change_time_ns: i64,
    /// Size of the file when the descriptor was first seen. Of a device, its number: nobody asks
    /// for its size.
    opened_size: u64,
    opened_modify_time_ns: i64,
    name: Option<StringId>,
    /// `O_*`
    flags: u32,
    uid: u32,
    gid: u32,
    device: u32,
    mode: u16,
    file: Tag<2>,
    index: Number,
    /// None in the process's table; of a thread's own table.
    pub(super) table: Tag<3>,
    files: FilesKind,
    marks: u8,
}

const _: () = assert!(size_of::<Descriptor>() == 96);

/// The number of a descriptor, which is below [`TABLE_MAX`].
#[derive(Clone, Copy, Debug, Default)]
struct Number([u8; 3]);

const _: () = assert!(TABLE_MAX == 1 << 24);

impl Number {
    fn of(index: u32) -> Self {
        let [low, middle, high, _] = index.to_le_bytes();
        Self([low, middle, high])
    }

    fn get(self) -> u32 {
        let [low, middle, high] = self.0;
        u32::from_le_bytes([low, middle, high, 0])
    }
}

/// Yes or no, of a descriptor.
mod mark {
    pub(super) const WRITABLE: u8 = 1 << 0;
    pub(super) const PATH_ONLY: u8 = 1 << 1;
    pub(super) const CLOSE_ON_EXEC: u8 = 1 << 2;
    /// Its name ends in ` (deleted)`.
    pub(super) const DELETED: u8 = 1 << 3;
    pub(super) const FLOATING: u8 = 1 << 4;
    /// See [`super::FileAtOpen::written`].
    pub(super) const WRITTEN: u8 = 1 << 5;
    /// It waits to be reported ([`super::super::held`]).
    pub(super) const HELD: u8 = 1 << 6;

    /// A mark if it applies.
    pub(super) const fn of(mark: u8, applies: bool) -> u8 {
        if applies { mark } else { 0 }
    }
}

/// Whether the inode of a file of this type has the number of a device.
const fn is_device(mode: u16) -> bool {
    matches!(mode & S_IFMT, S_IFCHR | S_IFBLK)
}

impl Descriptor {
    pub(super) fn facts<'a>(
        &self,
        strings: &'a Strings,
        threads: &'a [u32],
    ) -> DescriptorFacts<'a> {
        let numbered = numbered_kind(self.files).filter(|_| self.is(mark::FLOATING));
        let name = match (self.name, numbered) {
            (Some(id), _) => Some(FileName::Text(strings.get(id))),
            (None, Some(kind)) => Some(FileName::Numbered(kind, self.number)),
            (None, None) => None,
        };
        DescriptorFacts {
            index: self.index(),
            name,
            name_stop: None,
            deleted: self.is(mark::DELETED),
            floating: self.is(mark::FLOATING),
            close_on_exec: self.is(mark::CLOSE_ON_EXEC),
            open: Some(self.open()),
            inode: Some(self.attributes()),
            threads,
        }
    }

    fn set_name(&mut self, name: super::file_names::FileName) {
        self.name = name.id;
        self.marks = self.marks & !mark::DELETED | mark::of(mark::DELETED, name.deleted);
    }

    const fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// How its file is open: all flags, and those modes that anyone asks for.
    const fn open(&self) -> OpenFlags {
        let write = if self.is(mark::WRITABLE) { FMODE_WRITE } else { 0 };
        let path = if self.is(mark::PATH_ONLY) { FMODE_PATH } else { 0 };
        OpenFlags { flags: self.flags, mode: write | path }
    }

    /// Notes how its file is open in this scan.
    #[inline]
    fn set_open(&mut self, open: OpenFlags, close_on_exec: bool) {
        const OPEN: u8 = mark::WRITABLE | mark::PATH_ONLY | mark::CLOSE_ON_EXEC;
        self.flags = open.flags;
        self.marks = self.marks & !OPEN
            | mark::of(mark::WRITABLE, open.mode & FMODE_WRITE != 0)
            | mark::of(mark::PATH_ONLY, open.mode & FMODE_PATH != 0)
            | mark::of(mark::CLOSE_ON_EXEC, close_on_exec);
    }

    /// Whether it has attributes of an inode that was read.
    const fn is_known(&self) -> bool {
        self.number != 0 || self.mode != 0
    }

    /// The attributes of its inode. Inodes other than those of devices have no device number
    /// (`init_special_inode`, fs/inode.c).
    const fn attributes(&self) -> InodeFacts {
        InodeFacts {
            number: self.number,
            size: self.size,
            access_time_ns: self.access_time_ns,
            modify_time_ns: self.modify_time_ns,
            change_time_ns: self.change_time_ns,
            uid: self.uid,
            gid: self.gid,
            device: self.device,
            special_device: if is_device(self.mode) { self.opened_size as u32 } else { 0 },
            mode: self.mode,
            files: self.files,
        }
    }

    /// Notes the attributes that its inode has in this scan.
    #[inline]
    fn set_attributes(&mut self, now: &InodeFacts) {
        self.number = now.number;
        self.size = now.size;
        self.access_time_ns = now.access_time_ns;
        self.modify_time_ns = now.modify_time_ns;
        self.change_time_ns = now.change_time_ns;
        (self.uid, self.gid) = (now.uid, now.gid);
        (self.device, self.mode, self.files) = (now.device, now.mode, now.files);
        if is_device(now.mode) {
            self.opened_size = now.special_device.into();
        }
    }

    /// Its file when it was first seen.
    const fn opened(&self) -> FileAtOpen {
        FileAtOpen {
            size: self.opened_size,
            modify_time_ns: self.opened_modify_time_ns,
            written: self.is(mark::WRITTEN),
        }
    }

    /// Its number.
    pub(super) fn index(&self) -> u32 {
        self.index.get()
    }

    fn key(&self) -> (Tag<3>, u32) {
        (self.table, self.index())
    }

    /// Whether it can write a regular file that will still exist after the close.
    fn is_writer(&self) -> bool {
        let keeps_content = self.mode & S_IFMT == S_IFREG && self.files != FilesKind::Orders;
        self.is(mark::WRITABLE) && keeps_content && !self.is(mark::DELETED)
    }

    /// Whether it leads to a file of the scan.
    pub(super) fn is_file(&self, file: &FileRow) -> bool {
        self.file == Tag::of(file.address.0) && self.inode == file.open.inode.0
    }

    /// Notes that it does not wait to be reported ([`super::held`]).
    pub(super) fn release_held(&mut self) {
        self.marks &= !mark::HELD;
    }

    /// Counts one more row with its name.
    pub(super) fn retain(&self, strings: &mut Strings) {
        if let Some(id) = self.name {
            strings.retain(id);
        }
    }

    fn release(&self, strings: &mut Strings) {
        if let Some(id) = self.name {
            strings.release(id);
        }
    }
}

impl NamedRow for Descriptor {
    fn name(&mut self) -> &mut Option<StringId> {
        &mut self.name
    }

    fn lacks_name(&self) -> bool {
        let is_numbered = || self.is(mark::FLOATING) && numbered_kind(self.files).is_some();
        self.name.is_none() && !is_numbered()
    }
}

/// Compares a process's descriptors with those of the last scan. `own_tables` is room for the
/// tables of its threads.
pub(super) fn update(
    descriptors: &mut ListPool<Descriptor>,
    (open_files, own_tables): (&mut OpenFiles, &mut Vec<Index<FilesRow>>),
    entry: &mut ComparedProcess<'_>,
    emitter: &mut Emitter<'_>,
) {
    let snapshot = emitter.snapshot;
    let Some(main) = snapshot.files_structs.at(entry.row.files) else { return };
    let unknown = entry.children.untracked.descriptors;
    let mut merge = Merge {
        cursor: ListPool::<Descriptor>::start(entry.children.descriptors),
        quiet: entry.quiet(entry.children.descriptors_taken),
        kept: 0,
        has_one_table: false,
        unknown,
        untracked: UntrackedStart::default().descriptors,
        descriptors,
        open_files,
        entry,
        emitter,
    };
    let origin = snapshot.files_structs.find(merge.entry.children.copied_from);
    let left_out = find_own_tables(snapshot, merge.entry.row, own_tables);
    merge.has_one_table = own_tables.is_empty() && merge.entry.children.own_tables == 0;
    if !merge.table(Tag::NONE, main, snapshot.files_structs.at(origin)) {
        return;
    }
    merge.descriptors.refuse(left_out);
    merge.entry.children.own_tables = u16::try_from(own_tables.len()).unwrap_or(u16::MAX);
    for table in own_tables.iter().filter_map(|&index| snapshot.files_structs.at(index)) {
        if !merge.table(table_tag(table), table, Some(main)) {
            return;
        }
    }
    // Tables that ended with their threads.
    while !merge.is_over(main) && merge.emitter.goes_on() && merge.drop_row() {}
    if merge.emitter.is_stopped() {
        return;
    }
    let untracked = merge.untracked;
    let has_all = main.ends_a_round();
    entry.children.untracked.descriptors =
        if main.complete || has_all && !main.is_cut() { untracked } else { untracked.min(unknown) };
    if has_all {
        entry.children.copied_from = 0;
        entry.children.descriptors_taken = true;
        entry.children.descriptors_clock_ns = snapshot.machine.calendar_ns;
    }
}

/// Finds the tables of threads that do not share their process's, sorted by tag. A table that
/// threads of several processes share belongs to the lowest of them, so that each is compared once.
/// Of several tables with one tag, only that with the lowest address is found: the tag is the key
/// of the rows. Returns the number of descriptors in the others.
pub(super) fn find_own_tables(
    snapshot: &Snapshot,
    process: &ProcessRow,
    found: &mut Vec<Index<FilesRow>>,
) -> u32 {
    found.clear();
    for thread in snapshot.threads_of(process) {
        let Some(index) = thread.files.filter(|_| thread.files != process.files) else { continue };
        let table = snapshot.files_structs.at(index);
        let lowest = table.and_then(|table| snapshot.files_threads.at(table.threads.first()));
        if lowest == Some(&thread.task.pid) && found.len() < found.capacity() {
            found.push(index);
        }
    }
    let table = |index: Index<FilesRow>| snapshot.files_structs.at(index);
    let key = |index| table(index).map(|table| (table_tag(table), table.address));
    found.sort_unstable_by_key(|&index| key(index));
    let mut left_out = 0;
    found.dedup_by(|&mut next, &mut kept| {
        let is_same = table(next).map(table_tag) == table(kept).map(table_tag);
        // Two tasks with one pid: one takes over that of the other (`de_thread`, fs/exec.c).
        if is_same && next != kept {
            left_out += table(next).map_or(0, |table| table.descriptors.len() as u32);
        }
        is_same
    });
    left_out
}

/// The key of a thread's own table.
pub(super) fn table_tag(table: &FilesRow) -> Tag<3> {
    Tag::of(table.address.0)
}

/// Modification times are those of the last tick. Ticks come every 4 ms in Debian's kernels
/// (`CONFIG_HZ_250`), and at least every 10 ms.
const TICK_NS: i64 = 4_000_000;

/// Whether a file is open for writing.
fn is_writable(open: OpenFlags) -> bool {
    open.mode & FMODE_WRITE != 0
}

/// Reports the writable descriptors of a process that has ended.
pub(super) fn tell_writers(
    descriptors: &ListPool<Descriptor>,
    list: PoolList,
    process: &Process,
    emitter: &mut Emitter<'_>,
) {
    let mut cursor = ListPool::<Descriptor>::start(list);
    while let Some(old) = descriptors.row(cursor)
        && emitter.goes_on()
    {
        report_writer(old, process, &[], emitter);
        descriptors.advance(&mut cursor);
    }
}

fn report_writer(old: &Descriptor, process: &Process, threads: &[u32], emitter: &mut Emitter<'_>) {
    if old.is_writer() {
        let (file, inode, opened) = (old.file, KernelVa(old.inode), old.opened());
        emitter.emit_named(|names| {
            let descriptor = old.facts(&names.strings, threads);
            Change::WriterClosed { process, descriptor, file, inode, opened }
        });
    }
}

/// Reports that a descriptor was opened, if that waits, before something else is reported of it.
pub(super) fn report_first(
    row: &Descriptor,
    process: &Process,
    threads: &[u32],
    emitter: &mut Emitter<'_>,
) {
    if row.is(mark::HELD) {
        emitter.emit_named(|names| {
            let descriptor = row.facts(&names.strings, threads);
            Change::DescriptorOpened { process, descriptor }
        });
    }
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
    cursor: &mut PoolCursor,
    strings: &mut Strings,
) -> (Tag<3>, u32) {
    let first = descriptors.row(*cursor).map(Descriptor::key);
    while let Some(old) = descriptors.remove(&mut children.descriptors, cursor) {
        old.release(strings);
    }
    first.unwrap_or(UntrackedStart::default().descriptors)
}

/// Frees all descriptors of a process that has ended.
pub(super) fn release_all(
    descriptors: &mut ListPool<Descriptor>,
    list: &mut PoolList,
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
    entry: &'a mut ComparedProcess<'e>,
    emitter: &'a mut Emitter<'t>,
    cursor: PoolCursor,
    quiet: bool,
    /// Number of rows before the cursor.
    kept: u32,
    /// Whether the process has only its main table, as before.
    has_one_table: bool,
    /// From where on descriptors were not tracked before this scan.
    unknown: (Tag<3>, u32),
    /// From where on they are not from now on.
    untracked: (Tag<3>, u32),
}

impl Merge<'_, '_, '_> {
    /// Compares one table, which began with the descriptors of `main`; `false` if the comparison
    /// must end.
    fn table(&mut self, key: Tag<3>, table: &FilesRow, main: Option<&FilesRow>) -> bool {
        let snapshot = self.emitter.snapshot;
        let copied = main.map_or(&[][..], |main| snapshot.descriptors.range(main.descriptors));
        let threads = snapshot.files_threads.range(table.threads);
        let rows = snapshot.descriptors.range(table.descriptors);
        for (at, row) in (1..).zip(rows) {
            let is_here = self.pass(key, row.index, table, threads);
            let asks = u32::is_multiple_of(at, ROWS_A_QUESTION);
            if self.emitter.is_stopped() || asks && self.emitter.must_stop() {
                return false;
            }
            let file = snapshot.files.at(row.file);
            let Some((file, open)) = file.and_then(|file| Some((file, open_flags(file)?))) else {
                // Not readable this time: keep the old descriptor.
                if is_here {
                    self.keep();
                }
                continue;
            };
            let inode = snapshot.inodes.at(file.inode).filter(|inode| inode.was_read());
            if is_here && let Some(old) = self.descriptors.row_mut(self.cursor) {
                let is_same = old.is_file(file)
                    && (!old.is_known()
                        || inode.is_none_or(|inode| inode.attributes.ino == old.number));
                if is_same {
                    old.set_open(open, row.close_on_exec);
                    if let Some(now) = inode.and_then(|inode| InodeFacts::of(snapshot, inode)) {
                        if !old.is_known() {
                            // When it was first seen, they could not be read.
                            old.opened_size = now.size;
                            old.opened_modify_time_ns = now.modify_time_ns;
                        }
                        old.set_attributes(&now);
                    }
                    let names = &mut *self.emitter.names;
                    if old.lacks_name() && names.is_late_due(row.index.into()) {
                        old.set_name(names.name(snapshot, row.file));
                    }
                    self.keep();
                    continue;
                }
                self.close(threads);
            }
            if main.is_some_and(FilesRow::is_unknown) {
                // It may be a copy; the next scan can compare.
                continue;
            }
            // The main table's slot may be one that the scan left.
            let is_copy = main.is_some_and(|main| !main.has_slot(row.index))
                || copied
                    .binary_search_by_key(&row.index, |row| row.index)
                    .is_ok_and(|at| copied[at].file == row.file);
            self.open(key, row, open, threads, is_copy);
        }
        let end = if self.is_over(table) { table.first_slots } else { u32::MAX };
        self.pass(key, end, table, threads);
        if let Some(last) = rows.last()
            && table.is_cut()
        {
            // The scan had no room for the others.
            self.untracked = self.untracked.min((key, last.index.saturating_add(1)));
        }
        !self.emitter.is_stopped()
    }

    /// Whether all further rows stay as they are: a light scan has left their slots, and no other
    /// table has rows.
    fn is_over(&self, table: &FilesRow) -> bool {
        self.has_one_table && table.rests && !table.complete && table.more_slots.is_empty()
    }

    /// Moves past all rows before a descriptor. Rows of this table are closed if the scan has their
    /// slots; other tables have ended, and so have their rows. Returns whether the next row is that
    /// of the descriptor. It does not reach that row if the comparison must end.
    #[inline]
    fn pass(&mut self, key: Tag<3>, index: u32, table: &FilesRow, threads: &[u32]) -> bool {
        match self.descriptors.row(self.cursor) {
            Some(old) if old.key() < (key, index) => self.pass_rows(key, index, table, threads),
            Some(old) => old.key() == (key, index),
            None => false,
        }
    }

    #[cold]
    fn pass_rows(&mut self, key: Tag<3>, index: u32, table: &FilesRow, threads: &[u32]) -> bool {
        while let Some(old) = self.descriptors.row(self.cursor) {
            if old.key() >= (key, index) {
                return old.key() == (key, index);
            }
            if !self.emitter.goes_on() {
                return false;
            }
            if old.table != key {
                self.drop_row();
            } else if table.has_slot(old.index()) {
                self.close(threads);
            } else {
                self.keep();
            }
        }
        false
    }

    /// Moves past a row that stays.
    #[inline]
    fn keep(&mut self) {
        self.descriptors.advance(&mut self.cursor);
        self.count_kept();
    }

    /// Counts the row before the cursor. If the process may have no more, removes the rest: its
    /// lowest descriptors stay.
    #[inline]
    fn count_kept(&mut self) {
        self.kept += 1;
        if self.kept >= self.entry.allowed.descriptors {
            self.cut_rest();
        }
    }

    #[cold]
    fn cut_rest(&mut self) {
        let mut cursor = self.cursor;
        while let Some(row) = self.descriptors.row_mut(cursor)
            && self.emitter.goes_on()
        {
            report_first(row, self.entry.process, &[], self.emitter);
            // After a request to stop, the end of the watch reports what still waits.
            row.release_held();
            self.descriptors.advance(&mut cursor);
        }
        if self.emitter.is_stopped() {
            return;
        }
        let strings = &mut self.emitter.names.strings;
        let from = cut_from(self.descriptors, self.entry.children, &mut self.cursor, strings);
        self.untracked = self.untracked.min(from);
    }

    /// Whether one more descriptor is tracked; counts it if not.
    fn has_room(&mut self, key: (Tag<3>, u32)) -> bool {
        if self.kept < self.entry.allowed.descriptors {
            return self.descriptors.has_room();
        }
        self.descriptors.refuse(1);
        self.untracked = self.untracked.min(key);
        false
    }

    fn open(
        &mut self,
        table: Tag<3>,
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
        let name = if is_numbered(snapshot, row.file, attributes.files) {
            super::file_names::FileName::default()
        } else {
            emitter.names.name(snapshot, row.file)
        };
        let is_first = !self.entry.children.descriptors_taken;
        let (open_files, process) = (&mut *self.open_files, self.entry.row);
        let mut is_taken_over =
            || is_copy || is_first && open_files.inherits(snapshot, process, row.file);
        // A new process opened its files after its creation, which may be some scans ago.
        let since_ns = if is_first {
            let creation = self.entry.process.creation_time_ns();
            creation.map(|creation| creation.saturating_sub(TICK_NS))
        } else {
            self.entry.children.descriptors_clock_ns.or(self.entry.clock_ns)
        };
        let is_recent = since_ns.is_some_and(|since| attributes.modify_time_ns >= since);
        let written = is_recent && !quiet && is_writable(open) && !is_taken_over();
        // A name without room is known only now.
        let is_held = self.entry.in_exec == InExec::Undescribed && !name.in_buffer;
        let is_reported = !quiet && !is_copy;
        self.entry.children.descriptors_held |= is_reported && is_held;
        let mut new = Descriptor {
            table,
            index: Number::of(row.index),
            file: Tag::of(file.address.0),
            inode: file.open.inode.0,
            opened_size: attributes.size,
            opened_modify_time_ns: attributes.modify_time_ns,
            marks: mark::of(mark::FLOATING, is_floating(snapshot, file))
                | mark::of(mark::WRITTEN, written)
                | mark::of(mark::HELD, is_reported && is_held),
            ..Descriptor::default()
        };
        new.set_name(name);
        new.set_open(open, row.close_on_exec);
        new.set_attributes(&attributes);
        let list = &mut self.entry.children.descriptors;
        self.descriptors.insert(list, &mut self.cursor, new);
        self.count_kept();
        if !is_reported || is_held {
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
        report_first(&old, process, threads, self.emitter);
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
            report_first(&old, self.entry.process, &[], self.emitter);
            report_writer(&old, self.entry.process, &[], self.emitter);
            old.release(&mut self.emitter.names.strings);
        }
        old.is_some()
    }
}
