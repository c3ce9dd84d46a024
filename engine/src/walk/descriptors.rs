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
//! If there are more descriptors than rows, the tables with the most descriptors are cut, so that
//! no process takes the rows of others ([`fair_share`]).
//!
//! If the scan's budget does not suffice for all tables, it reads the first slots of those that it
//! leaves, and the next scan begins with them.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{View, u64_at};

use super::budget::{Cursor, FILE_BYTES, Mark, Turn};
use super::fd_slices::{GAP_PLACES, RUNS_PER_WORD_MAX, SLICE_PLACES, Slice, add_runs};
use super::snapshot::{DescriptorRow, FilesRow, Span, row_at};
use super::tables::Snapshot;
use super::{Kernel, Memory, Walker, fetch};
use crate::address::Reader;
use panoptes_tables::fair_share;

/// Largest table that is read. The kernel's maximum for a process is `fs.nr_open`, 1 Mi by default.
const TABLE_MAX: u32 = 1 << 24;

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
const KEPT_MIN: u32 = 3;

/// Number of slots that a scan reads whatever its budget is, beside the first ones of each table.
const PLACES_MIN: u32 = 2048;

/// Descriptors whose slots are read again; the first of them is in slot `first`.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedSlots {
    rows: Span<DescriptorRow>,
    first: u32,
}

impl Walker {
    /// Fills `descriptors`, and each table's range of them.
    pub(super) fn read_descriptors(&mut self, memory: &mut Memory<'_>) {
        self.read_fdtables(memory);
        self.share_words();
        self.read_fd_arrays(memory);
        self.link_descriptors();
        self.group_files_threads();
        self.snapshot.limit_sharing();
    }

    fn read_fdtables(&mut self, memory: &mut Memory<'_>) {
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
                losses.unreadable += 1;
                table.complete = false;
                return;
            };
            let view = View::new(bytes);
            let max_fds = view.unsigned(layout.max_fds) as u32;
            table.max_fds = max_fds.min(TABLE_MAX);
            if max_fds > TABLE_MAX {
                table.complete = false;
                losses.dropped += 1;
            }
            table.fd = view.pointer(layout.fd);
            table.open_fds = view.pointer(layout.open_fds);
            table.close_on_exec = view.pointer(layout.close_on_exec);
        });
    }

    /// Cuts the largest tables if all bitmaps together are larger than a scan reads.
    fn share_words(&mut self) {
        let tables = &mut self.snapshot.files_structs;
        let share = fair_share(WORDS_MAX, || tables.iter().map(bitmap_words));
        for table in tables.iter_mut().filter(|table| bitmap_words(table) > share) {
            table.max_fds = (share as u32 * 64).max(WHOLE_PLACES);
            table.complete = false;
            self.snapshot.losses.dropped += 1;
        }
    }

    fn read_fd_arrays(&mut self, memory: &mut Memory<'_>) {
        let tables = &self.snapshot.files_structs;
        let resume = self.hints.resume;
        let begin = resume.table.find(tables).unwrap_or(0);
        self.scratch.table_turn = Turn::new(begin, tables.len());
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
        // Number of descriptors that a table may have.
        let mut most = u32::try_from(self.snapshot.descriptors.capacity()).unwrap_or(u32::MAX);
        let end = self.read_tables_from(memory, resumed, &mut most, &mut slices);
        self.read_first_slots(memory, end, &mut most, &mut slices);
        self.scratch.slices = slices;
        self.leave_tables(resumed, end);
    }

    /// Reads the tables in turn, the first from slot `resumed` on, as far as the budget allows.
    /// Returns the first slot that was left.
    fn read_tables_from(
        &mut self,
        memory: &mut Memory<'_>,
        resumed: u32,
        most: &mut u32,
        slices: &mut Vec<Slice>,
    ) -> Slice {
        let (rows, files) = (self.snapshot.count_rows(), self.snapshot.files.len() as u64);
        let mark = memory.meter.mark(rows, files, (1, 2));
        let mut next = Slice::default();
        let mut is_first = true;
        while next.table < self.snapshot.files_structs.len() {
            slices.clear();
            next = self.list_slices(memory, (next, resumed), *most, slices);
            let mut done = 0;
            while let Some(&slice) = slices.get(done) {
                let Some(places) = self.places_left(memory, &mark, is_first) else {
                    return slice;
                };
                is_first = false;
                done = self.read_slices(memory, slices, (done, places), most);
            }
        }
        next
    }

    /// How many slots to read next; `None` if the budget is spent.
    fn places_left(&self, memory: &Memory<'_>, mark: &Mark, is_first: bool) -> Option<u32> {
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
        memory: &mut Memory<'_>,
        slices: &mut [Slice],
        (done, places): (usize, u32),
        most: &mut u32,
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
            *most = self.take_slice(at * 2, slice, *most);
        }
        if cut > 0
            && let Some(slice) = slices.get_mut(end)
        {
            *most = self.take_slice((end - done) * 2, &Slice { count: cut, ..*slice }, *most);
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
        memory: &mut Memory<'_>,
        end: Slice,
        most: &mut u32,
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
                done = self.read_slices(memory, slices, (done, u32::MAX), most);
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
                (Cursor { address: table.address, position }, end.first / 64 * 64)
            }
            _ => (Cursor::default(), 0),
        };
    }

    /// Lists the slices to read next, from `from` on, as many as there is room for, with about as
    /// many used slots as there are rows. Returns where the others begin. No table gets more than
    /// `most` descriptors. Tables are numbered by their turn; the first one begins at slot
    /// `resumed`, after its first slots.
    fn list_slices(
        &mut self,
        memory: &mut Memory<'_>,
        (from, resumed): (Slice, u32),
        most: u32,
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
                    let unlisted = list_used(table, words, &mut next, most, slices, &mut left);
                    table.is_cut |= unlisted > 0;
                    descriptors.dropped = descriptors.dropped.saturating_add(unlisted);
                } else {
                    losses.unreadable += 1;
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
    fn read_bitmaps(&mut self, memory: &mut Memory<'_>, from: Slice, resumed: u32) {
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
    /// and the addresses of their files. No table gets more than `most` descriptors. Returns how
    /// many the tables that follow may get.
    fn take_slice(&mut self, object: usize, slice: &Slice, mut most: u32) -> u32 {
        let Self { reader, snapshot, scratch, .. } = self;
        let turn = scratch.table_turn;
        let files = &mut scratch.addresses;
        let position = turn.at(slice.table);
        let Some(table) = snapshot.files_structs.get_mut(position) else { return most };
        if slice.first == 0 {
            table.descriptors = snapshot.descriptors.span_from(snapshot.descriptors.len());
        }
        let Some(array) = reader.object(object) else {
            table.complete = false;
            snapshot.losses.unreadable += 1;
            return most;
        };
        let close_on_exec = reader.object(object + 1).unwrap_or(&[]);
        for place in 0..slice.count {
            let file = KernelVa(u64_at(array, place as usize * 8));
            if file.is_null() {
                continue;
            }
            let is_full = snapshot.descriptors.len() == snapshot.descriptors.capacity();
            let table = snapshot.files_structs.get_mut(position);
            let own = table.map_or(0, |table| table.descriptors.len());
            if is_full && own < most as usize {
                most = snapshot.cut_tables(files, turn);
            }
            let end = snapshot.descriptors.span_from(snapshot.descriptors.len());
            let Some(table) = snapshot.files_structs.get_mut(position) else { return most };
            if table.descriptors.is_empty() {
                // Its rows come after those that are left.
                table.descriptors = end;
            }
            let bit = slice.first % 64 + place;
            let row = DescriptorRow {
                index: slice.first + place,
                file: None,
                close_on_exec: u64_at(close_on_exec, (bit / 64) as usize * 8) >> (bit % 64) & 1
                    == 1,
                moved: false,
            };
            if table.descriptors.len() >= most as usize {
                snapshot.descriptors.dropped = snapshot.descriptors.dropped.saturating_add(1);
                (table.complete, table.is_cut) = (false, true);
            } else if snapshot.descriptors.push(row).is_none() {
                (table.complete, table.is_cut) = (false, true);
            } else {
                files.push(file);
                table.descriptors.extend();
            }
        }
        most
    }

    /// Adds the descriptors' files, first those in the first slots of tables.
    fn link_descriptors(&mut self) {
        let (snapshot, scratch) = (&mut self.snapshot, &mut self.scratch);
        let files = &scratch.addresses;
        for is_first in [true, false] {
            for (row, &file) in snapshot.descriptors.iter_mut().zip(files) {
                if (row.index < KEPT_MIN) == is_first {
                    row.file = row_at(&mut snapshot.files, file);
                }
            }
            if is_first {
                scratch.first_files = snapshot.files.len();
            }
        }
        scratch.descriptor_files = snapshot.files.len();
    }

    /// Reads every table's slots again after their files were read.
    ///
    /// Since Linux commit 0ede61d8589c ("file: convert to SLAB_TYPESAFE_BY_RCU") (in v6.7), the
    /// kernel reuses the memory of a closed file at once, even for another process. If a slot has
    /// changed, what was read through it may belong to another file.
    pub(super) fn check_descriptors(&mut self, memory: &mut Memory<'_>) {
        let mut checked = mem::take(&mut self.scratch.checked_slots);
        let mut tables = self.snapshot.files_structs.indexes();
        let mut table = tables.next();
        let mut done = 0;
        while table.is_some() {
            self.reader.clear();
            checked.clear();
            while let Some(at) = self.snapshot.files_structs.at(table)
                && checked.len() < checked.capacity()
            {
                let rest = at.descriptors.skip(done);
                let rows = self.snapshot.descriptors.range(rest);
                let Some(first) = rows.first() else {
                    table = tables.next();
                    done = 0;
                    continue;
                };
                let count = near_rows(rows);
                let last = rows[..count].last().map_or(first.index, |row| row.index);
                let places = (last - first.index + 1) * 8;
                let array = at.fd.plus(u64::from(first.index) * 8);
                if self.reader.push_bytes(&memory.kernel.space, array, places).is_none() {
                    break;
                }
                checked.push(CheckedSlots { rows: rest.take(count), first: first.index });
                done += count;
            }
            if checked.is_empty() {
                // Nothing is left, or a slot that cannot be read.
                table = tables.next();
                done = 0;
                continue;
            }
            memory.run(&mut self.reader);
            for (object, slots) in checked.iter().enumerate() {
                let array = self.reader.object(object).unwrap_or(&[]);
                for descriptor in self.snapshot.descriptors.range_mut(slots.rows) {
                    let now = u64_at(array, (descriptor.index - slots.first) as usize * 8);
                    let file = self.snapshot.files.at(descriptor.file);
                    if file.is_some_and(|file| file.address.0 != now) {
                        descriptor.file = None;
                        descriptor.moved = true;
                    }
                }
            }
        }
        self.scratch.checked_slots = checked;
    }

    /// Lists each table's threads: all that share it, ascending.
    fn group_files_threads(&mut self) {
        let snapshot = &mut self.snapshot;
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
}

impl Snapshot {
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
    /// from `files`. Returns how many descriptors a table may have now.
    ///
    /// It frees about half of the rows, so that this happens rarely: each table keeps at least half
    /// of an equal share. If there are so many tables that less than a quarter becomes free, no
    /// table gets more in this scan.
    fn cut_tables(&mut self, files: &mut Vec<KernelVa>, turn: Turn) -> u32 {
        let Self { files_structs: tables, descriptors: rows, .. } = self;
        let counts = || tables.iter().map(|table| table.descriptors.len() as u64);
        let share = fair_share(rows.capacity() as u64 / 2, counts).max(KEPT_MIN.into());
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let mut end = 0;
        // Their rows are in the order in which the tables were read.
        for at in turn.all() {
            let Some(table) = tables.get_mut(at).filter(|table| !table.descriptors.is_empty())
            else {
                continue;
            };
            let all = table.descriptors;
            let kept = all.take(share as usize);
            if kept.len() < all.len() {
                (table.complete, table.is_cut) = (false, true);
                rows.dropped = rows.dropped.saturating_add((all.len() - kept.len()) as u32);
            }
            rows.as_mut_slice().copy_within(kept.positions(), end);
            files.copy_within(kept.positions(), end);
            table.descriptors = Span::new(end as u32, (end + kept.len()) as u32);
            end += kept.len();
        }
        rows.truncate(end);
        files.truncate(end);
        if end > rows.capacity() / 4 * 3 { 0 } else { share }
    }
}

/// Number of words of a table's bitmap that are read.
fn bitmap_words(table: &FilesRow) -> u64 {
    table.max_fds.saturating_sub(WHOLE_PLACES).div_ceil(64).into()
}

/// Lists the used slots of a table from `next` on, by these words of its bitmap, as many as there
/// is room for and `left` allows, and moves `next` past them. The table gets no more than `most`
/// descriptors; returns the number of further ones.
fn list_used(
    table: &mut FilesRow,
    words: &[u8],
    next: &mut Slice,
    most: u32,
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
        if listed >= most as usize {
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

/// Number of the first rows that are read again in one piece.
fn near_rows(rows: &[DescriptorRow]) -> usize {
    let Some(first) = rows.first() else { return 0 };
    let is_far = |pair: &[DescriptorRow]| {
        let [one, next] = pair else { return false };
        next.index - one.index > GAP_PLACES || next.index - first.index >= SLICE_PLACES
    };
    rows.windows(2).position(is_far).map_or(rows.len(), |at| at + 1)
}

/// Adds a slice's slots and their close-on-exec bits to the batch; `false` when the batch is full.
fn push_slice(reader: &mut Reader, kernel: &Kernel, table: &FilesRow, slice: &Slice) -> bool {
    let before = reader.len();
    let array = table.fd.plus(u64::from(slice.first) * 8);
    let bits = table.close_on_exec.plus(u64::from(slice.first / 64) * 8);
    let words = (slice.first % 64 + slice.count).div_ceil(64);
    let pushed = reader.push_bytes(&kernel.space, array, slice.count * 8).and(reader.push_bytes(
        &kernel.space,
        bits,
        words * 8,
    ));
    if pushed.is_none() {
        reader.truncate(before);
    }
    pushed.is_some()
}

#[cfg(test)]
mod tests;
