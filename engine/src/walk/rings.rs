//! Files that an io_uring holds without a descriptor: its registered files, among them what it
//! opened itself (direct descriptors).
//!
//! A ring has a table of `struct file *`, as a process has. The process that leads to the ring
//! holds them, through a descriptor of the ring or an area that maps it. Of several processes, the
//! oldest counts.
//!
//! The files get rows as those of descriptors do. Their [`DescriptorRow`]s are behind those of all
//! tables, each with the mark [`RING_SLOT`] in its number. At the end of a scan the slots are read
//! again, for the same reason as those of descriptors ([`super::moved_descriptors`]).

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{Field, View, u64_at};
use panoptes_decoders::paging::KernelSpace;
use panoptes_tables::{Keyed, room};

use super::owners::Quotas;
use super::ring_rows::{RING_SLOT, RINGS_MAX, RingRow};
use super::snapshot::{DentryRow, DescriptorRow, FileRow, Index, Span};
use super::tables::Snapshot;
use super::{Memory, Part, Scratch, Walker, fetch, fetch_each};
use crate::address::Reader;

/// Number of slots that one scan reads of all rings together. Each ring has an equal share.
const SLOTS: u32 = 1 << 16;
/// Number of files that one scan has of all rings together. Each ring has an equal share.
const FILES: usize = 16_384;
/// The name of a ring's file (`io_uring_get_file`, io_uring/io_uring.c).
const NAME: &[u8] = b"[io_uring]";
/// Flags in the lowest bits of a registered file's address (`FFS_MASK`, io_uring/filetable.h).
const FLAGS: u64 = 0b111;

/// What a scan's rounds pass to each other.
#[derive(Debug)]
pub(super) struct Rings {
    /// Their tables of files.
    tables: Vec<Table>,
    /// The used slots, by table and number.
    slots: Vec<Slot>,
    /// By used slot, its `struct file`.
    files: Vec<KernelVa>,
}

#[derive(Clone, Copy, Debug)]
struct Table {
    ring: Index<RingRow>,
    array: KernelVa,
    slots: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Its place in [`Rings::tables`].
    table: u32,
    number: u32,
    value: u64,
}

impl Rings {
    pub(super) fn new() -> Self {
        let (tables, slots, files) = (room::list(RINGS_MAX), room::list(FILES), room::list(FILES));
        Self { tables, slots, files }
    }

    pub(super) fn clear(&mut self) {
        self.tables.clear();
        self.slots.clear();
        self.files.clear();
    }
}

/// Adds a row for an open file of the filesystem of anonymous inodes if it is a ring.
pub(super) fn note_ring(
    rings: &mut Keyed<RingRow>,
    quotas: &mut Quotas,
    (index, file): (Index<FileRow>, &FileRow),
    dentry: &DentryRow,
) {
    let (context, process) = (file.open.private_data, file.process);
    let name = dentry.text.get(..dentry.name.length as usize);
    if name == Some(NAME) && !context.is_null() {
        let (table, descriptors) = (None, Span::default());
        let row = || RingRow { file: index, context, process, table, descriptors };
        quotas.row_of(rings, process, file.address.0, row);
    }
}

impl Walker {
    /// Reads the files of the rings.
    pub(super) fn read_rings(&mut self, memory: &mut Memory<'_>) {
        self.scratch.rings.clear();
        if self.snapshot.rings.is_empty() {
            return;
        }
        self.read_ring_tables(memory);
        self.read_ring_slots(memory);
        self.read_ring_nodes(memory);
        self.add_ring_files(memory);
    }

    fn read_ring_tables(&mut self, memory: &mut Memory<'_>) {
        let Some(layout) = &memory.kernel.layouts.io_ring_ctx else { return };
        let Some(array) = layout.nodes.or(layout.files) else { return };
        let Snapshot { rings, losses, processes, .. } = &mut self.snapshot;
        let Scratch { rings: Rings { tables, .. }, addresses, .. } = &mut self.scratch;
        let share = SLOTS / rings.len().max(1) as u32;
        addresses.clear();
        for ring in rings.iter_mut() {
            ring.table = processes.at(ring.process).and_then(|process| process.files);
            addresses.push(ring.context);
        }
        fetch(&mut self.reader, memory, &layout.packing, addresses, |at, bytes| {
            let (Some(view), Some(ring)) = (bytes.map(View::new), Index::new(at)) else {
                losses.miss(Part::Files, 1);
                return;
            };
            let slots = layout.nr_user_files.map_or(0, |field| view.unsigned(field));
            let array = view.pointer(array);
            if slots > 0 && !array.is_null() {
                losses.cut(Part::Files, u32::from(slots > u64::from(share)));
                tables.push(Table { ring, array, slots: slots.min(share.into()) as u32 });
            }
        });
    }

    /// Lists the used slots of all tables.
    fn read_ring_slots(&mut self, memory: &mut Memory<'_>) {
        let losses = &mut self.snapshot.losses;
        let Rings { tables, slots, .. } = &mut self.scratch.rings;
        let share = FILES / tables.len().max(1);
        fetch_each(&mut self.reader, memory, tables, push_table, |table, bytes| {
            let Some(bytes) = bytes else {
                losses.miss(Part::Files, 1);
                return;
            };
            let mut used = used_slots(bytes, tables[table].slots);
            let first = used.by_ref().take(share);
            first.for_each(|(number, value)| {
                slots.push(Slot { table: table as u32, number, value });
            });
            losses.cut(Part::Files, u32::from(used.next().is_some()));
        });
    }

    /// Reads the open file of each used slot. A slot of an older kernel has it itself.
    fn read_ring_nodes(&mut self, memory: &mut Memory<'_>) {
        let layouts = &memory.kernel.layouts;
        let Rings { slots, files, .. } = &mut self.scratch.rings;
        files.extend(slots.iter().map(|slot| KernelVa(slot.value & !FLAGS)));
        let node = layouts.io_rsrc_node.as_ref().and_then(|it| Some((it, it.file_ptr?)));
        let has_nodes = layouts.io_ring_ctx.is_some_and(|layout| layout.nodes.is_some());
        let Some((layout, field)) = node.filter(|_| has_nodes) else { return };
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.append(files);
        fetch(&mut self.reader, memory, &layout.packing, addresses, |_, bytes| {
            files.push(bytes.map_or(KernelVa::NULL, |bytes| file_of_node(bytes, field)));
        });
    }

    /// Adds the rows of the files, and reads what they lead to.
    fn add_ring_files(&mut self, memory: &mut Memory<'_>) {
        let Self { snapshot, scratch, .. } = self;
        let Scratch { rings: Rings { tables, slots, files, .. }, .. } = scratch;
        let known = snapshot.count_places();
        let before = snapshot.files.len();
        let mut next = 0;
        for (at, table) in (0..).zip(tables.iter()) {
            let process = snapshot.rings[table.ring].process;
            let mut descriptors = snapshot.descriptors.span_from(snapshot.descriptors.len());
            let begin = next;
            next += slots[begin..].iter().take_while(|slot| slot.table == at).count();
            let of_ring = slots[begin..next].iter().zip(files.iter().skip(begin));
            for (slot, &address) in of_ring.filter(|(_, address)| address.is_plausible()) {
                let file = Quotas::granted(&mut snapshot.files, process, address);
                let index = RING_SLOT | slot.number;
                let row = DescriptorRow { index, file, ..DescriptorRow::default() };
                if snapshot.descriptors.push(row).is_some() {
                    descriptors.extend();
                }
            }
            snapshot.rings[table.ring].descriptors = descriptors;
        }
        self.read_more_files(memory, before, known);
    }

    /// Reads the slots again after their files, and leaves out what has changed.
    pub(super) fn check_rings(&mut self, memory: &mut Memory<'_>) {
        let Self { reader, snapshot, scratch, .. } = self;
        let Rings { tables, slots, .. } = &scratch.rings;
        let Snapshot { rings, descriptors, .. } = snapshot;
        fetch_each(reader, memory, tables, push_table, |at, bytes| {
            let ring = &rings[tables[at].ring];
            let before = |number: u32| {
                let it = slots
                    .binary_search_by_key(&(at as u32, number), |slot| (slot.table, slot.number));
                it.ok().and_then(|it| slots.get(it)).map(|slot| slot.value)
            };
            for row in descriptors.range_mut(ring.descriptors) {
                let number = row.index - RING_SLOT;
                let now = bytes.map(|bytes| u64_at(bytes, number as usize * 8));
                if now != before(number) {
                    (row.file, row.moved) = (None, true);
                }
            }
        });
    }
}

fn push_table(reader: &mut Reader, space: &KernelSpace, table: &Table) -> Option<u32> {
    reader.push_bytes(space, table.array, table.slots * 8)
}

/// The used ones of the first slots in an array.
fn used_slots(array: &[u8], slots: u32) -> impl Iterator<Item = (u32, u64)> {
    let values = (0..slots).map(|number| (number, u64_at(array, number as usize * 8)));
    values.filter(|&(_, value)| value != 0)
}

fn file_of_node(bytes: &[u8], field: Field) -> KernelVa {
    KernelVa(View::new(bytes).pointer(field).0 & !FLAGS)
}

#[cfg(test)]
mod tests;
