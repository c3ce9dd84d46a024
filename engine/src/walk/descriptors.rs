//! Descriptors: from each table to its open files.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{View, u64_at};
use panoptes_decoders::source::MemorySource;

use super::snapshot::{DescriptorRow, FileRow, FilesRow};
use super::{Kernel, NONE, Walker, fetch, row_of};
use crate::address::Reader;

/// Largest table that is read. The kernel's maximum for a process is `fs.nr_open`, 1 Mi by default.
const TABLE_MAX: u32 = 1 << 24;

/// Maximum number of slots of a table read at once: half a MiB.
const SLICE_PLACES: u32 = 1 << 16;

/// Maximum number of table slices in one batch.
pub(super) const SLICES_MAX: usize = 16_384;

/// A part of a table: `count` slots from `first` on. In `check_descriptors`, `table` is the index
/// of the first descriptor's row, and `count` counts rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slice {
    table: u32,
    first: u32,
    count: u32,
}

/// Maximum number of slots read from all tables together: half a GiB of pointers. A guest can
/// present one piece of memory as the large tables of many processes.
const PLACES_MAX: u64 = 1 << 26;

impl Walker {
    /// Fills `descriptors`, and each table's range of them.
    pub(super) fn read_descriptors<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        self.read_fdtables(source, kernel);
        self.read_fd_arrays(source, kernel);
        self.group_files_threads();
    }

    fn read_fdtables<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layouts = &kernel.layouts;
        let tables = &mut self.snapshot.files_structs;
        let losses = &mut self.snapshot.losses;
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.extend(tables.iter().map(|table| table.address));
        let packing = &layouts.files_struct.packing;
        fetch(&mut self.reader, source, kernel, packing, addresses, |index, bytes| {
            tables[index].table = bytes
                .map_or(KernelVa::NULL, |bytes| View::new(bytes).pointer(layouts.files_struct.fdt));
        });
        addresses.clear();
        addresses.extend(tables.iter().map(|table| table.table));
        let layout = &layouts.fdtable;
        fetch(&mut self.reader, source, kernel, &layout.packing, addresses, |index, bytes| {
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

    fn read_fd_arrays<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let count = self.snapshot.files_structs.len() as u32;
        let mut slices = mem::take(&mut self.scratch.slices);
        let mut left = PLACES_MAX;
        let mut next = Slice::default();
        while next.table < count {
            self.reader.clear();
            slices.clear();
            while next.table < count && slices.len() < slices.capacity() {
                let full = self.snapshot.descriptors.len() == self.snapshot.descriptors.capacity();
                let Some(table) = self.snapshot.files_structs.get_mut(next.table as usize) else {
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
                    if !push_slice(&mut self.reader, kernel, table, &slice) {
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
                if let Some(table) = self.snapshot.files_structs.get_mut(next.table as usize) {
                    table.complete = false;
                    self.snapshot.losses.dropped += 1;
                }
                next = Slice { table: next.table + 1, ..Slice::default() };
                continue;
            }
            self.reader.run(source, kernel.space.levels);
            for (at, slice) in slices.iter().enumerate() {
                self.take_slice(at * 2, slice);
            }
        }
        self.scratch.slices = slices;
    }

    /// Adds the descriptors of one slice, read as objects `object` and `object + 1` of the batch.
    fn take_slice(&mut self, object: usize, slice: &Slice) {
        let snapshot = &mut self.snapshot;
        let Some(table) = snapshot.files_structs.get_mut(slice.table as usize) else { return };
        let end = snapshot.descriptors.len() as u32;
        if slice.first == 0 {
            table.descriptors = end..end;
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
            let file = row_of(&mut self.maps.files, &mut snapshot.files, address, || {
                FileRow::new(address)
            });
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
        }
        table.descriptors.end = snapshot.descriptors.len() as u32;
    }

    /// Reads every table's slots again after their files were read.
    ///
    /// Since Linux commit 0ede61d8589c ("file: convert to SLAB_TYPESAFE_BY_RCU") (in v6.7), the
    /// kernel reuses the memory of a closed file at once, even for another process. If a slot has
    /// changed, what was read through it may belong to another file.
    pub(super) fn check_descriptors<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let mut slices = mem::take(&mut self.scratch.slices);
        let (mut table, mut row) = (0, 0);
        while table < self.snapshot.files_structs.len() {
            self.reader.clear();
            slices.clear();
            while let Some(at) = self.snapshot.files_structs.get(table)
                && slices.len() < slices.capacity()
            {
                row = row.max(at.descriptors.start);
                let rest = self.snapshot.descriptors.range(&(row..at.descriptors.end));
                let Some(first) = rest.first() else {
                    table += 1;
                    row = 0;
                    continue;
                };
                let most = first.index.saturating_add(SLICE_PLACES);
                let count = rest.partition_point(|descriptor| descriptor.index < most);
                let last = rest[..count].last().map_or(first.index, |row| row.index);
                let places = (last - first.index + 1) * 8;
                let array = at.fd.plus(u64::from(first.index) * 8);
                if self.reader.push_bytes(&kernel.space, array, places).is_none() {
                    break;
                }
                slices.push(Slice { table: row, first: first.index, count: count as u32 });
                row += count as u32;
            }
            if slices.is_empty() {
                // Nothing is left, or a slot that cannot be read.
                table += 1;
                row = 0;
                continue;
            }
            self.reader.run(source, kernel.space.levels);
            for (object, slice) in slices.iter().enumerate() {
                let array = self.reader.object(object).unwrap_or(&[]);
                let rows = slice.table as usize..(slice.table + slice.count) as usize;
                for descriptor in self.snapshot.descriptors.get_mut(rows).into_iter().flatten() {
                    let now = u64_at(array, (descriptor.index - slice.first) as usize * 8);
                    let file = self.snapshot.files.at(descriptor.file);
                    if file.is_some_and(|file| file.address.0 != now) {
                        descriptor.file = NONE;
                        descriptor.moved = true;
                    }
                }
            }
        }
        self.scratch.slices = slices;
    }

    /// Lists each table's threads: all that share it, ascending.
    fn group_files_threads(&mut self) {
        let snapshot = &mut self.snapshot;
        // Counting sort: count, compute starts, place. `by_tid` is ascending only within a process,
        // so each group is sorted at the end.
        for table in snapshot.files_structs.iter_mut() {
            table.threads = 0..0;
        }
        for &thread in snapshot.by_tid.iter() {
            let thread = &snapshot.threads[thread as usize];
            if let Some(table) = snapshot.files_structs.get_mut(thread.files as usize) {
                table.threads.end += 1;
            }
        }
        let mut start = 0;
        for table in snapshot.files_structs.iter_mut() {
            let count = table.threads.end;
            table.threads = start..start;
            start += count;
        }
        snapshot.files_threads.clear();
        for _ in 0..start {
            snapshot.files_threads.push(0);
        }
        for &thread in snapshot.by_tid.iter() {
            let thread = &snapshot.threads[thread as usize];
            if let Some(table) = snapshot.files_structs.get_mut(thread.files as usize)
                && let Some(place) = snapshot.files_threads.get_mut(table.threads.end as usize)
            {
                *place = thread.task.pid;
                table.threads.end += 1;
            }
        }
        for table in snapshot.files_structs.iter() {
            let range = table.threads.start as usize..table.threads.end as usize;
            if let Some(threads) = snapshot.files_threads.get_mut(range) {
                threads.sort_unstable();
            }
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
