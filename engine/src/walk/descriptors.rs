//! Descriptors: from each table to its open files.
//!
//! The first slots of every table are read without asking, which is all of nearly every table. For
//! a larger one, its bitmap of descriptors in use is read first, and then only the slots in use: a
//! table can have a million slots and one descriptor. A bit only shows where to look. The kernel
//! sets it before it installs the file, and clears it after it has removed the file
//! (`alloc_fd`, `file_close_fd_locked`, fs/file.c), so every open file has its bit set, except for
//! a moment inside `dup2`. Code inside the kernel that clears a bit hides a file, unless it is in
//! one of the first slots.
//!
//! If there are more descriptors than rows, the tables with the most descriptors are cut, first
//! those of users with the most, so that nobody takes the rows of others ([`divide`]).
//!
//! If the scan's budget does not suffice for all tables, it reads the first slots of those that it
//! leaves, and the next scan begins with them.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{View, u64_at};

use super::budget::{BudgetMark, FILE_BYTES, ResumePoint, RowRotation};
use super::fair_share::{OwnedRow, TableShares, divide};
use super::fd_slices::{RUNS_PER_WORD_MAX, Slice, add_runs};
use super::losses::WalkedStructure;
use super::snapshot::{DescriptorRow, FileRow, FilesRow, Span};
use super::tables::Snapshot;
use super::{Kernel, ScannedMemory, Walker, each_ahead, fetch};
use crate::address::MemoryReader;
use panoptes_tables::{AddressedRows, fair_share};

/// Largest table that is read. The kernel's maximum for a process is `fs.nr_open`, 1 Mi by default.
pub(crate) const TABLE_MAX: u32 = 1 << 24;

/// Number of slots of every table that are read whatever its bitmap has. A multiple of 64.
const WHOLE_PLACES: u32 = 256;

/// Maximum number of table slices in one batch.
pub(super) const SLICES_MAX: usize = 16_384;

/// Maximum number of words of bitmaps in one batch: half a MiB.
const BATCH_WORDS: u32 = 1 << 16;

/// Maximum number of words of all bitmaps together: 8 MiB, for half a GiB of slots. A guest can
/// present one piece of memory as the large tables of many processes.
const WORDS_MAX: u64 = 1 << 20;

/// Number of descriptors that a table keeps however many others there are: standard input, output
/// and error.
pub(super) const KEPT_MIN: u32 = 3;

/// Number of slots that a scan reads whatever its budget is, beside the first ones of each table.
const PLACES_MIN: u32 = 2048;
const _: () = {
    assert!(WHOLE_PLACES.is_multiple_of(u64::BITS), "a word of a bitmap is read or not");
    assert!(KEPT_MIN <= WHOLE_PLACES, "what is kept is read");
    assert!((TABLE_MAX / u64::BITS) as u64 <= WORDS_MAX, "the largest table is read whole");
};
/// A table of no more descriptors has its bitmaps in one page (`alloc_fdtable`, fs/file.c), and
/// some of its descriptors are open.
const SHARED_BITMAP_PLACES: u32 = 8192;

impl FilesRow {
    fn may_have_more(&self) -> bool {
        self.descriptors.len() < self.most as usize
    }

    /// Counts descriptors without rows.
    fn drop_more(&mut self, count: u32) {
        self.complete = false;
        self.dropped = self.dropped.saturating_add(count);
    }
}

impl Walker {
    /// Fills `descriptors`, and each table's range of them.
    pub(super) fn read_descriptors(&mut self, memory: &mut ScannedMemory<'_>) {
        self.read_fdtables(memory);
        self.leave_resting_tables();
        self.share_words();
        self.read_fd_arrays(memory);
        self.link_descriptors();
        self.snapshot.group_files_threads();
        self.snapshot.limit_sharing();
    }

    fn read_fdtables(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let tables = self.snapshot.files_structs.as_mut_slice();
        let losses = &mut self.snapshot.losses;
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.extend(tables.iter().map(|table| table.address));
        let packing = &layouts.files_struct.packing;
        fetch(&mut self.reader, memory, packing, addresses, |index, bytes| {
            let table = bytes.map(|bytes| View::new(bytes).pointer(layouts.files_struct.fdt));
            tables[index].table = table.unwrap_or_default();
        });
        addresses.clear();
        addresses.extend(tables.iter().map(|table| table.table));
        let layout = &layouts.fdtable;
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let table = &mut tables[index];
            let Some(bytes) = bytes else {
                // Without the first structure, nothing leads to the second one.
                let is_first = table.table.is_null();
                let address = if is_first { table.address } else { table.table };
                losses.miss(WalkedStructure::DescriptorTable, address);
                table.complete = false;
                return;
            };
            let view = View::new(bytes);
            let max_fds = view.unsigned(layout.max_fds) as u32;
            table.max_fds = max_fds.min(TABLE_MAX);
            if max_fds > TABLE_MAX {
                table.complete = false;
                losses.cut(WalkedStructure::DescriptorTable, TABLE_MAX as usize);
            }
            table.fd = view.pointer(layout.fd);
            table.open_fds = view.pointer(layout.open_fds);
            table.close_on_exec = view.pointer(layout.close_on_exec);
        });
    }

    /// Cuts the largest tables if all bitmaps together are larger than a scan reads.
    fn share_words(&mut self) {
        let tables = &self.snapshot.files_structs;
        if tables.iter().map(bitmap_words).sum::<u64>() <= WORDS_MAX {
            return;
        }
        let owned = &mut self.scratch.owned_tables;
        self.snapshot.list_tables(owned);
        let Snapshot { files_structs: tables, losses, .. } = &mut self.snapshot;
        for it in owned.iter_mut() {
            it.wanted = bitmap_words(&tables[it.row]);
        }
        divide(WORDS_MAX, owned, |row, most| {
            let table = &mut tables[row];
            if bitmap_words(table) > most {
                table.max_fds = (most as u32 * 64).max(WHOLE_PLACES);
                table.complete = false;
                losses.cut(WalkedStructure::DescriptorTable, table.max_fds as usize);
            }
        });
    }

    fn read_fd_arrays(&mut self, memory: &mut ScannedMemory<'_>) {
        let tables = &self.snapshot.files_structs;
        let resume = self.hints.resume;
        let begin = resume.table.find(tables).unwrap_or(0);
        self.scratch.table_turn = RowRotation::new(begin, tables.len());
        // The slots before `WHOLE_PLACES` are read anyway.
        let is_it = |table: &&FilesRow| {
            table.address == resume.table.address
                && resume.slot > WHOLE_PLACES
                && resume.slot < table.max_fds
        };
        let resumed = tables.get(begin).filter(is_it).map_or(0, |_| resume.slot);
        self.scratch.resumed_slot = resumed;
        let mut slices = mem::take(&mut self.scratch.slices);
        self.scratch.addresses.clear();
        self.scratch.owned_tables.clear();
        let most = u32::try_from(self.snapshot.descriptors.capacity()).unwrap_or(u32::MAX);
        for table in self.snapshot.files_structs.iter_mut() {
            table.most = most;
        }
        let end = self.read_tables_from(memory, resumed, &mut slices);
        self.read_first_slots(memory, end, &mut slices);
        self.scratch.slices = slices;
        self.leave_tables(resumed, end);
        self.count_resting_tables();
    }

    /// Reads the tables in turn, the first from slot `resumed` on, as far as the budget allows.
    /// Returns the first slot that was left.
    fn read_tables_from(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        resumed: u32,
        slices: &mut Vec<Slice>,
    ) -> Slice {
        let (rows, files) = (self.snapshot.count_rows(), self.snapshot.files.len() as u64);
        let mark = memory.meter.mark(rows, files, (1, 2));
        let mut next = Slice::default();
        let mut is_first = true;
        while next.table < self.snapshot.files_structs.len() {
            slices.clear();
            next = self.list_slices(memory, (next, resumed), slices);
            let mut done = 0;
            while let Some(&slice) = slices.get(done) {
                let Some(places) = self.places_left(memory, &mark, is_first) else {
                    return slice;
                };
                is_first = false;
                done = self.read_slices(memory, slices, (done, places));
            }
        }
        next
    }

    /// How many slots to read next; `None` if the budget is spent.
    fn places_left(
        &self,
        memory: &ScannedMemory<'_>,
        mark: &BudgetMark,
        is_first: bool,
    ) -> Option<u32> {
        let rows = self.snapshot.count_rows();
        // The executables, and what descriptors lead to.
        let files = (self.snapshot.files.len() + self.snapshot.descriptors.len()) as u64;
        let room = memory.meter.room(mark, rows, files, FILE_BYTES);
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        (is_first || !memory.meter.is_beyond(mark, rows, files)).then_some(room.max(PLACES_MIN))
    }

    /// Reads one batch of slices from `done` on, with so many slots; the last slice may be cut.
    /// Returns the first that was not read.
    fn read_slices(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        slices: &mut [Slice],
        (done, places): (usize, u32),
    ) -> usize {
        self.reader.clear();
        let turn = self.scratch.table_turn;
        let (mut end, mut left, mut cut) = (done, places, 0);
        while let Some(&slice) = slices.get(end)
            && left > 0
            && let part = (Slice { count: slice.count.min(left.max(64)), ..slice })
            && let Some(table) = self.snapshot.files_structs.get(turn.at(part.table))
            && push_slice(&mut self.reader, memory.kernel, table, &part)
        {
            left = left.saturating_sub(part.count);
            if part.count < slice.count {
                cut = part.count;
                break;
            }
            end += 1;
        }
        memory.run(&mut self.reader);
        for (at, slice) in slices[done..end].iter().enumerate() {
            self.take_slice(at * 2, slice);
        }
        if cut > 0
            && let Some(slice) = slices.get_mut(end)
        {
            self.take_slice((end - done) * 2, &Slice { count: cut, ..*slice });
            slice.first += cut;
            slice.count -= cut;
            return end;
        }
        // A slice always fits an empty batch.
        end.max(done + 1)
    }

    /// Reads the first slots of the tables that were left, from `end` on.
    fn read_first_slots(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        end: Slice,
        slices: &mut Vec<Slice>,
    ) {
        let turn = self.scratch.table_turn;
        let mut next = if end.first == 0 { end.table } else { end.table + 1 };
        while next < self.snapshot.files_structs.len() {
            slices.clear();
            while let Some(table) = self.snapshot.files_structs.get(turn.at(next))
                && slices.len() < slices.capacity()
            {
                let count = table.max_fds.min(KEPT_MIN);
                if count > 0 {
                    slices.push(Slice { table: next, first: 0, count });
                }
                next += 1;
            }
            let mut done = 0;
            while done < slices.len() {
                done = self.read_slices(memory, slices, (done, u32::MAX));
            }
        }
    }

    /// Marks the tables that were left, from `end` on, and the part of the first table before slot
    /// `resumed`. The next scan begins at `end`.
    fn leave_tables(&mut self, resumed: u32, end: Slice) {
        let turn = self.scratch.table_turn;
        let Snapshot { files_structs: tables, left, .. } = &mut self.snapshot;
        let mut leave = |table: &mut FilesRow, first_slots, more_slots| {
            if table.max_fds == 0 {
                return;
            }
            if mem::take(&mut table.complete) {
                (table.first_slots, table.more_slots) = (first_slots, more_slots);
            }
            left.tables += 1;
        };
        if resumed > 0
            && let Some(first) = tables.get_mut(turn.at(0))
        {
            let end = if end.table == 0 { end.first } else { first.max_fds };
            leave(first, WHOLE_PLACES, resumed..end);
        }
        for position in end.table..tables.len() {
            let Some(table) = tables.get_mut(turn.at(position)) else { break };
            if position > end.table || end.first == 0 {
                leave(table, KEPT_MIN, 0..0);
            } else if position > 0 || resumed == 0 {
                leave(table, WHOLE_PLACES.min(end.first), 0..end.first);
            }
        }
        let resume = &mut self.hints.resume;
        let position = turn.at(end.table);
        (resume.table, resume.slot) = match tables.get(position) {
            Some(table) if end.table < tables.len() => {
                (ResumePoint { address: table.address, position }, end.first / 64 * 64)
            }
            _ => (ResumePoint::default(), 0),
        };
    }

    /// Lists the slices to read next, from `from` on, as many as there is room for, with about as
    /// many used slots as there are rows. Returns where the others begin. Tables are numbered by
    /// their turn; the first one begins at slot `resumed`, after its first slots.
    fn list_slices(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        (from, resumed): (Slice, u32),
        slices: &mut Vec<Slice>,
    ) -> Slice {
        self.read_bitmaps(memory, from, resumed);
        let turn = self.scratch.table_turn;
        let Self { reader, snapshot, .. } = self;
        let Snapshot { files_structs, descriptors, losses, .. } = snapshot;
        let mut next = from;
        let mut object = 0;
        let mut left = descriptors.capacity();
        while let Some(table) = files_structs.get_mut(turn.at(next.table))
            && slices.len() < slices.capacity()
            && left > 0
        {
            if next.first == 0 {
                let count = table.max_fds.min(WHOLE_PLACES);
                slices.push(Slice { count, ..next });
                next.first = if next.table == 0 { count.max(resumed) } else { count };
            }
            if next.first < table.max_fds {
                // Without an object, its bitmap is in the next batch.
                if object == reader.len() {
                    return next;
                }
                if let Some(words) = reader.object(object) {
                    let unlisted = list_used(table, words, &mut next, slices, &mut left);
                    table.dropped = table.dropped.saturating_add(unlisted);
                    descriptors.dropped = descriptors.dropped.saturating_add(unlisted);
                } else {
                    losses.miss(WalkedStructure::DescriptorTable, table.open_fds);
                    table.complete = false;
                    next.first = table.max_fds;
                }
                object += 1;
            }
            if next.first < table.max_fds {
                return next;
            }
            next = Slice { table: next.table + 1, ..Slice::default() };
        }
        next
    }

    /// Reads the next bitmaps of large tables, from slot `from` on: one object for each table.
    fn read_bitmaps(&mut self, memory: &mut ScannedMemory<'_>, from: Slice, resumed: u32) {
        self.reader.clear();
        let turn = self.scratch.table_turn;
        let mut left = BATCH_WORDS;
        for at in from.table..self.snapshot.files_structs.len() {
            let Some(table) = self.snapshot.files_structs.get(turn.at(at)) else { break };
            let start = match at {
                _ if at == from.table && from.first > 0 => from.first,
                0 => resumed,
                _ => 0,
            };
            let start = start.max(WHOLE_PLACES);
            let words = table.max_fds.saturating_sub(start).div_ceil(64).min(left);
            let bits = table.open_fds.plus(u64::from(start / 64) * 8);
            if words > 0 && self.reader.push_bytes(&memory.kernel.space, bits, words * 8).is_none()
            {
                break;
            }
            left -= words;
            if left == 0 {
                break;
            }
        }
        if !self.reader.is_empty() {
            memory.run(&mut self.reader);
        }
    }

    /// Adds the descriptors of one slice, read as objects `object` and `object + 1` of the batch,
    /// and the addresses of their files.
    fn take_slice(&mut self, object: usize, slice: &Slice) {
        let Self { reader, snapshot, scratch, .. } = self;
        let turn = scratch.table_turn;
        let (files, owned) = (&mut scratch.addresses, &mut scratch.owned_tables);
        let position = turn.at(slice.table);
        let Some(table) = snapshot.files_structs.get_mut(position) else { return };
        if slice.first == 0 {
            table.descriptors = snapshot.descriptors.span_from(snapshot.descriptors.len());
        }
        let Some(array) = reader.object(object) else {
            table.complete = false;
            let address = table.fd.plus(u64::from(slice.first) * 8);
            snapshot.losses.miss(WalkedStructure::DescriptorTable, address);
            return;
        };
        let close_on_exec = reader.object(object + 1);
        let close_on_exec_unknown = close_on_exec.is_none();
        if close_on_exec_unknown {
            snapshot.losses.miss(WalkedStructure::DescriptorTable, table.close_on_exec);
        }
        let close_on_exec = close_on_exec.unwrap_or(&[]);
        for place in 0..slice.count {
            let file = KernelVa(u64_at(array, place as usize * 8));
            if file.is_null() {
                continue;
            }
            let is_full = snapshot.descriptors.len() == snapshot.descriptors.capacity();
            let table = snapshot.files_structs.get(position);
            if is_full && table.is_some_and(FilesRow::may_have_more) {
                snapshot.cut_tables(files, turn, owned);
            }
            let Snapshot { files_structs, descriptors, .. } = &mut *snapshot;
            let Some(table) = files_structs.get_mut(position) else { return };
            if table.descriptors.is_empty() {
                // Its rows come after those that are left.
                table.descriptors = descriptors.span_from(descriptors.len());
            }
            let bit = slice.first % 64 + place;
            let row = DescriptorRow {
                index: slice.first + place,
                file: None,
                close_on_exec: u64_at(close_on_exec, (bit / 64) as usize * 8) >> (bit % 64) & 1
                    == 1,
                close_on_exec_unknown,
                moved: false,
            };
            if !table.may_have_more() {
                descriptors.dropped = descriptors.dropped.saturating_add(1);
                table.drop_more(1);
            } else if descriptors.push(row).is_none() {
                table.drop_more(1);
            } else {
                files.push(file);
                table.descriptors.extend();
            }
        }
    }

    /// Adds the descriptors' files, first those in the first slots of tables.
    fn link_descriptors(&mut self) {
        let (snapshot, scratch) = (&mut self.snapshot, &mut self.scratch);
        let Snapshot { files_structs: tables, descriptors, .. } = snapshot;
        let mut files = &mut snapshot.files;
        for is_first in [true, false] {
            for table in scratch.table_turn.all().filter_map(|position| tables.get(position)) {
                let addresses = scratch.addresses.get(table.descriptors.positions());
                let addresses = addresses.unwrap_or_default();
                let rows = descriptors.range_mut(table.descriptors);
                // The first pass searches for few.
                let touch = |files: &&mut AddressedRows<FileRow>, at: usize| {
                    if is_first { 0 } else { files.touch(addresses[at].0) }
                };
                let count = rows.len().min(addresses.len());
                each_ahead(&mut files, count, touch, |files, at| {
                    if (rows[at].index < KEPT_MIN) == is_first {
                        rows[at].file = TableShares::granted(files, table.process, addresses[at]);
                    }
                });
            }
            if is_first {
                scratch.first_files = files.len();
            }
        }
        scratch.descriptor_files = snapshot.files.len();
    }
}

impl Snapshot {
    /// Lists each table's threads: all that share it, ascending.
    pub fn group_files_threads(&mut self) {
        let snapshot = self;
        // Counting sort: count, compute starts, place. `by_tid` is ascending only within a process,
        // so each group is sorted at the end.
        for table in snapshot.files_structs.iter_mut() {
            table.threads = Span::default();
        }
        for &thread in snapshot.by_tid.iter() {
            let thread = &snapshot.threads[thread];
            if let Some(table) = snapshot.files_structs.at_mut(thread.files) {
                table.threads.extend();
            }
        }
        let mut end = 0;
        for table in snapshot.files_structs.iter_mut() {
            let start = end;
            end += table.threads.len() as u32;
            table.threads = Span::new(start, start);
        }
        snapshot.files_threads.clear();
        for _ in 0..end {
            snapshot.files_threads.push(0);
        }
        for &thread in snapshot.by_tid.iter() {
            let thread = &snapshot.threads[thread];
            if let Some(table) = snapshot.files_structs.at_mut(thread.files)
                && let Some(place) = snapshot.files_threads.get_mut(table.threads.end() as usize)
            {
                *place = thread.task.pid;
                table.threads.extend();
            }
        }
        for table in snapshot.files_structs.iter() {
            snapshot.files_threads.range_mut(table.threads).sort_unstable();
        }
    }

    /// Takes shared tables from the newest processes that share them, if all processes together
    /// have more than twice as many descriptors as there are rows. What follows looks at the
    /// descriptors of each process, and thousands can share one large table (`CLONE_FILES`). The
    /// oldest process of each table keeps it.
    fn limit_sharing(&mut self) {
        let Self { files_structs: tables, descriptors: rows, processes, .. } = self;
        for process in processes.iter() {
            if let Some(table) = tables.at_mut(process.files) {
                table.processes += 1;
            }
        }
        let more = |table: &FilesRow| {
            u64::from(table.processes.saturating_sub(1)) * table.descriptors.len() as u64
        };
        let share = fair_share(rows.capacity() as u64, || tables.iter().map(more));
        if share == u64::MAX {
            return;
        }
        for process in processes.iter_mut().rev() {
            let Some(table) = tables.at_mut(process.files) else { continue };
            let count = table.descriptors.len();
            if more(table) > share {
                table.processes -= 1;
                process.files = None;
                rows.dropped = rows.dropped.saturating_add(count as u32);
            }
        }
    }

    /// Makes room for descriptors by cutting the tables that have the most, and removes their files
    /// from `files`.
    ///
    /// It frees about half of the rows, so that this happens rarely: each user keeps at least half
    /// of an equal share. If there are so many tables that less than a quarter becomes free, no
    /// table gets more in this scan.
    fn cut_tables(
        &mut self,
        files: &mut Vec<KernelVa>,
        turn: RowRotation,
        owned: &mut Vec<OwnedRow<FilesRow>>,
    ) {
        if owned.is_empty() {
            self.list_tables(owned);
        }
        let Self { files_structs: tables, descriptors: rows, .. } = self;
        for it in owned.iter_mut() {
            it.wanted = tables[it.row].descriptors.len() as u64;
        }
        divide(rows.capacity() as u64 / 2, owned, |row, most| {
            tables[row].most = u32::try_from(most).unwrap_or(u32::MAX).max(KEPT_MIN);
        });
        let mut end = 0;
        // Their rows are in the order in which the tables were read.
        for at in turn.all() {
            let Some(table) = tables.get_mut(at) else { continue };
            if table.descriptors.is_empty() {
                // It may lie behind the rows that are left.
                table.descriptors = Span::default();
                continue;
            }
            let all = table.descriptors;
            let kept = all.take(table.most as usize);
            if kept.len() < all.len() {
                let dropped = (all.len() - kept.len()) as u32;
                table.drop_more(dropped);
                rows.dropped = rows.dropped.saturating_add(dropped);
            }
            rows.as_mut_slice().copy_within(kept.positions(), end);
            files.copy_within(kept.positions(), end);
            table.descriptors = Span::new(end as u32, (end + kept.len()) as u32);
            end += kept.len();
        }
        rows.truncate(end);
        files.truncate(end);
        if end > rows.capacity() / 4 * 3 {
            for table in tables.iter_mut() {
                table.most = 0;
            }
        }
    }
}

/// Number of words of a table's bitmap that are read.
fn bitmap_words(table: &FilesRow) -> u64 {
    table.max_fds.saturating_sub(WHOLE_PLACES).div_ceil(64).into()
}

/// Lists the used slots of a table from `next` on, by these words of its bitmap, as many as there
/// is room for and `left` allows, and moves `next` past them. Returns the number of those that the
/// table may not have.
fn list_used(
    table: &mut FilesRow,
    words: &[u8],
    next: &mut Slice,
    slices: &mut Vec<Slice>,
    left: &mut usize,
) -> u32 {
    let mut listed = table.descriptors.len();
    let mut unlisted = 0;
    for word in words.chunks_exact(8) {
        // A forged capacity may end inside a word.
        let places = table.max_fds.saturating_sub(next.first).min(64);
        let bits = u64_at(word, 0) & u64::MAX.unbounded_shr(64 - places);
        let used = bits.count_ones();
        if listed >= table.most as usize {
            unlisted += used;
            table.complete &= bits == 0;
        } else if slices.len() + RUNS_PER_WORD_MAX > slices.capacity() || *left == 0 {
            break;
        } else {
            add_runs(slices, next, bits);
            listed += used as usize;
            *left = left.saturating_sub(used as usize);
        }
        next.first += 64;
    }
    unlisted
}

/// Adds a slice's slots and their close-on-exec bits to the batch; `false` when the batch is full.
fn push_slice(reader: &mut MemoryReader, kernel: &Kernel, table: &FilesRow, slice: &Slice) -> bool {
    let before = reader.len();
    let array = table.fd.plus(u64::from(slice.first) * 8);
    let bits = table.close_on_exec.plus(u64::from(slice.first / 64) * 8);
    let words = (slice.first % 64 + slice.count).div_ceil(64);
    let array = reader.push_bytes(&kernel.space, array, slice.count * 8);
    // A small bitmap shares its page with others. A page of a large one may have no bit set.
    let pushed = array.and(if table.max_fds <= SHARED_BITMAP_PLACES {
        reader.push_filled(&kernel.space, bits, words * 8)
    } else {
        reader.push_bytes(&kernel.space, bits, words * 8)
    });
    if pushed.is_none() {
        reader.truncate(before);
    }
    pushed.is_some()
}

#[cfg(test)]
mod tests;
