//! Descriptors: from each table to the open files in it.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{View, u64_at};
use panoptes_decoders::source::MemorySource;

use super::snapshot::{DescriptorRow, FileRow};
use super::{Kernel, Walker, fetch, row_of};

/// Largest table that is read: half of the reader's arena, at eight bytes a descriptor. The kernel's own
/// most for a process is `fs.nr_open`, 1 Mi by default.
const TABLE_MAX: u32 = 1 << 19;

/// Most places in all tables together that are looked at: half a GiB of pointers. Many processes can be made
/// to seem to have large tables by what is one piece of memory.
const PLACES_MAX: u64 = 1 << 26;

impl Walker {
    /// Fills `descriptors` in, and each table's range of them.
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
        let count = self.snapshot.files_structs.len();
        let mut left = PLACES_MAX;
        let mut next = 0;
        while next < count {
            let first = next;
            self.reader.clear();
            let full = self.snapshot.descriptors.len() == self.snapshot.descriptors.capacity();
            while next < count {
                let table = &mut self.snapshot.files_structs[next];
                if table.max_fds > 0 && (full || u64::from(table.max_fds) > left) {
                    table.max_fds = 0;
                    table.complete = false;
                    self.snapshot.losses.dropped += 1;
                }
                let before = self.reader.len();
                let pushed = self
                    .reader
                    .push_bytes(&kernel.space, table.fd, table.max_fds * 8)
                    .and(self.reader.push_bytes(
                        &kernel.space,
                        table.close_on_exec,
                        table.max_fds.div_ceil(64) * 8,
                    ));
                if pushed.is_none() {
                    self.reader.truncate(before);
                    break;
                }
                left -= u64::from(table.max_fds);
                next += 1;
            }
            if next == first {
                // One table that the reader has no room for at all.
                self.snapshot.files_structs[next].complete = false;
                self.snapshot.losses.dropped += 1;
                next += 1;
                continue;
            }
            self.reader.run(source, kernel.space.levels);
            let snapshot = &mut self.snapshot;
            for at in first..next {
                let table = &mut snapshot.files_structs[at];
                let start = snapshot.descriptors.len() as u32;
                table.descriptors = start..start;
                let object = (at - first) * 2;
                if table.max_fds == 0 {
                    continue;
                }
                let Some(array) = self.reader.object(object) else {
                    table.complete = false;
                    snapshot.losses.unreadable += 1;
                    continue;
                };
                let close_on_exec = self.reader.object(object + 1).unwrap_or(&[]);
                for index in 0..table.max_fds {
                    let address = KernelVa(u64_at(array, index as usize * 8));
                    if address.is_null() {
                        continue;
                    }
                    let file = row_of(&mut self.maps.files, &mut snapshot.files, address, || {
                        FileRow::new(address)
                    });
                    let word = u64_at(close_on_exec, (index / 64) as usize * 8);
                    let row =
                        DescriptorRow { index, file, close_on_exec: word >> (index % 64) & 1 == 1 };
                    if snapshot.descriptors.push(row).is_none() {
                        table.complete = false;
                        break;
                    }
                }
                table.descriptors.end = snapshot.descriptors.len() as u32;
            }
        }
    }

    /// Lists each table's threads: all that share it, ascending.
    fn group_files_threads(&mut self) {
        let snapshot = &mut self.snapshot;
        // Counting sort: how many, where they begin, put them there. by_tid is ascending only within a
        // process, so each group is sorted at the end.
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
