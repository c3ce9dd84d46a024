//! Reads descriptor tables again at the end of a scan: what has changed since it was read is
//! unknown.

use core::mem;

use panoptes_decoders::layout::{View, u64_at};

use super::fd_slices::{GAP_PLACES, SLICE_PLACES};
use super::snapshot::{DescriptorRow, FilesRow, Span};
use super::tables::Snapshot;
use super::{ScannedMemory, WalkScratch, Walker, fetch};

/// Descriptors whose slots are read again; the first of them is in slot `first`.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedSlots {
    rows: Span<DescriptorRow>,
    first: u32,
}

impl FilesRow {
    /// Whether its `struct fdtable` is its own memory, which the kernel does not reuse as long as
    /// the `files_struct` exists (`fdtab`, include/linux/fdtable.h).
    fn has_own_memory(&self, files_struct_bytes: u32) -> bool {
        self.table.0.wrapping_sub(self.address.0) < files_struct_bytes.into()
    }
}

impl Walker {
    /// Reads every table's slots again after their files were read.
    ///
    /// A table that grows gets new memory, and the kernel reuses the old one after a while
    /// (`expand_fdtable`, fs/file.c). What was read of such a table is unknown.
    ///
    /// Since Linux commit 0ede61d8589c ("file: convert to SLAB_TYPESAFE_BY_RCU") (in v6.7), the
    /// kernel reuses the memory of a closed file at once, even for another process. If a slot has
    /// changed, what was read through it may belong to another file.
    pub(super) fn check_descriptors(&mut self, memory: &mut ScannedMemory<'_>) {
        self.check_tables(memory);
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
            if memory.is_stopped() {
                break;
            }
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
        self.leave_torn_files();
    }

    /// Leaves out the descriptors of inodes that the kernel was about to make, and of files whose
    /// sockets have other files. Another file had the slot and the address before, so the slots are
    /// the same.
    fn leave_torn_files(&mut self) {
        let WalkScratch { blank_inodes, torn_files, .. } = &self.scratch;
        if blank_inodes.is_empty() && torn_files.is_empty() {
            return;
        }
        let Snapshot { descriptors, files, .. } = &mut self.snapshot;
        for row in descriptors.iter_mut() {
            let inode = files.at(row.file).and_then(|file| file.inode);
            let is_blank = inode.is_some_and(|inode| blank_inodes.contains(&inode));
            if is_blank || row.file.is_some_and(|file| torn_files.contains(&file)) {
                (row.file, row.moved) = (None, true);
            }
        }
    }

    /// Marks the tables that have other memory by now.
    fn check_tables(&mut self, memory: &mut ScannedMemory<'_>) {
        let layout = &memory.kernel.layouts.files_struct;
        let Self { reader, snapshot, scratch, .. } = self;
        let (places, addresses) = (&mut scratch.checked_tables, &mut scratch.addresses);
        places.clear();
        addresses.clear();
        for (index, table) in snapshot.files_structs.indexed() {
            if !table.table.is_null() && !table.has_own_memory(layout.size) {
                places.push(index);
                addresses.push(table.address);
            }
        }
        fetch(reader, memory, &layout.packing, addresses, |at, bytes| {
            let now = bytes.map(|bytes| View::new(bytes).pointer(layout.fdt));
            let Some(table) = snapshot.files_structs.at_mut(places[at]) else { return };
            if now == Some(table.table) {
                return;
            }
            table.complete = false;
            (table.first_slots, table.more_slots) = (0, 0..0);
            for row in snapshot.descriptors.range_mut(table.descriptors) {
                (row.file, row.moved) = (None, true);
            }
        });
    }
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
