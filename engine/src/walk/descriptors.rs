//! Descriptors: from each table to its open files.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{View, u64_at};

use super::snapshot::{DescriptorRow, FilesRow, Span, row_at};
use super::{Kernel, Memory, Walker, fetch};
use crate::address::Reader;

/// Largest table that is read. The kernel's maximum for a process is `fs.nr_open`, 1 Mi by default.
const TABLE_MAX: u32 = 1 << 24;

/// Maximum number of slots of a table read at once: half a MiB.
const SLICE_PLACES: u32 = 1 << 16;

/// Maximum number of table slices in one batch.
pub(super) const SLICES_MAX: usize = 16_384;

/// A part of a table: `count` slots from `first` on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slice {
    table: usize,
    first: u32,
    count: u32,
}

/// Descriptors whose slots are read again; the first of them is in slot `first`.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedSlots {
    rows: Span<DescriptorRow>,
    first: u32,
}

/// Maximum number of slots read from all tables together: half a GiB of pointers. A guest can
/// present one piece of memory as the large tables of many processes.
const PLACES_MAX: u64 = 1 << 26;

impl Walker {
    /// Fills `descriptors`, and each table's range of them.
    pub(super) fn read_descriptors(&mut self, memory: &mut Memory<'_>) {
        self.read_fdtables(memory);
        self.read_fd_arrays(memory);
        self.group_files_threads();
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
            table.close_on_exec = view.pointer(layout.close_on_exec);
        });
    }

    fn read_fd_arrays(&mut self, memory: &mut Memory<'_>) {
        let count = self.snapshot.files_structs.len();
        let mut slices = mem::take(&mut self.scratch.slices);
        let mut left = PLACES_MAX;
        let mut next = Slice::default();
        while next.table < count {
            self.reader.clear();
            slices.clear();
            while next.table < count && slices.len() < slices.capacity() {
                let full = self.snapshot.descriptors.len() == self.snapshot.descriptors.capacity();
                let Some(table) = self.snapshot.files_structs.get_mut(next.table) else {
                    break;
                };
                let places = table.max_fds - next.first;
                if places > 0 && (full || u64::from(places) > left) {
                    table.max_fds = next.first;
                    table.complete = false;
                    self.snapshot.losses.dropped += 1;
                }
                let slice = Slice { count: (table.max_fds - next.first).min(SLICE_PLACES), ..next };
                if slice.count > 0 {
                    if !push_slice(&mut self.reader, memory.kernel, table, &slice) {
                        break;
                    }
                    slices.push(slice);
                    left -= u64::from(slice.count);
                }
                next.first += slice.count;
                if next.first == table.max_fds {
                    next = Slice { table: next.table + 1, ..Slice::default() };
                }
            }
            if slices.is_empty() {
                // Nothing is left, or a slice that never fits the reader.
                if let Some(table) = self.snapshot.files_structs.get_mut(next.table) {
                    table.complete = false;
                    self.snapshot.losses.dropped += 1;
                }
                next = Slice { table: next.table + 1, ..Slice::default() };
                continue;
            }
            memory.run(&mut self.reader);
            for (at, slice) in slices.iter().enumerate() {
                self.take_slice(at * 2, slice);
            }
        }
        self.scratch.slices = slices;
    }

    /// Adds the descriptors of one slice, read as objects `object` and `object + 1` of the batch.
    fn take_slice(&mut self, object: usize, slice: &Slice) {
        let snapshot = &mut self.snapshot;
        let Some(table) = snapshot.files_structs.get_mut(slice.table) else { return };
        if slice.first == 0 {
            table.descriptors = snapshot.descriptors.span_from(snapshot.descriptors.len());
        }
        let Some(array) = self.reader.object(object) else {
            table.complete = false;
            snapshot.losses.unreadable += 1;
            return;
        };
        let close_on_exec = self.reader.object(object + 1).unwrap_or(&[]);
        for place in 0..slice.count {
            let address = KernelVa(u64_at(array, place as usize * 8));
            if address.is_null() {
                continue;
            }
            let file = row_at(&mut snapshot.files, address);
            let word = u64_at(close_on_exec, (place / 64) as usize * 8);
            let row = DescriptorRow {
                index: slice.first + place,
                file,
                close_on_exec: word >> (place % 64) & 1 == 1,
                moved: false,
            };
            if snapshot.descriptors.push(row).is_none() {
                table.complete = false;
                break;
            }
            table.descriptors.extend();
        }
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
                let most = first.index.saturating_add(SLICE_PLACES);
                let count = rows.partition_point(|descriptor| descriptor.index < most);
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

/// Adds a slice's slots and their close-on-exec bits to the batch; `false` when the batch is full.
fn push_slice(reader: &mut Reader, kernel: &Kernel, table: &FilesRow, slice: &Slice) -> bool {
    let before = reader.len();
    let array = table.fd.plus(u64::from(slice.first) * 8);
    let bits = table.close_on_exec.plus(u64::from(slice.first / 64) * 8);
    let pushed = reader.push_bytes(&kernel.space, array, slice.count * 8).and(reader.push_bytes(
        &kernel.space,
        bits,
        slice.count.div_ceil(64) * 8,
    ));
    if pushed.is_none() {
        reader.truncate(before);
    }
    pushed.is_some()
}
