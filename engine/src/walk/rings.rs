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

mod shares;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::{PackedField, View, u64_at};
use panoptes_decoders::paging::KernelSpace;
use panoptes_tables::{AddressedRows, room};

use super::fair_share::TableShares;
use super::losses::WalkedStructure;
use super::places::count_places;
use super::ring_rows::{RING_SLOT, RINGS_MAX, RingRow};
use super::snapshot::{DentryRow, DescriptorRow, FileRow, Index, Span};
use super::tables::Snapshot;
use super::{ScannedMemory, WalkScratch, Walker, fetch, fetch_each};
use crate::address::MemoryReader;
use shares::{FILES, RANGES, Share, Shares, SlotRange};

pub(super) use shares::{REMEMBERED_MAX, RingSlot};

/// Maximum number of slots of a ring (`IORING_MAX_FIXED_FILES`, io_uring/rsrc.h).
const SLOTS_OF_ONE: u32 = 1 << 20;
// A table that is alone has half of the slots for what is behind its first ones.
const _: () = assert!(shares::SLOTS / 2 * shares::WHOLE_SCANS_MAX >= SLOTS_OF_ONE);
/// The name of a ring's file (`io_uring_get_file`, io_uring/io_uring.c).
const NAME: &[u8] = b"[io_uring]";
/// Flags in the lowest bits of a registered file's address (`FFS_MASK`, io_uring/filetable.h).
const FLAGS: u64 = 0b111;

/// What a scan's rounds pass to each other.
#[derive(Debug)]
pub(super) struct Rings {
    /// Their tables of files.
    tables: Vec<RingFileTable>,
    shares: Shares,
    /// The slots that are read, by table.
    ranges: Vec<SlotRange>,
    /// The used slots, by range and number.
    slots: Vec<RingFileSlot>,
    /// Address of the `struct file` of each used slot.
    files: Vec<KernelVa>,
}

#[derive(Clone, Copy, Debug)]
struct RingFileTable {
    ring: Index<RingRow>,
    array: KernelVa,
    slots: u32,
    share: Share,
}

#[derive(Clone, Copy, Debug)]
struct RingFileSlot {
    /// Its place in [`Rings::ranges`].
    range: u32,
    number: u32,
    value: u64,
}

/// How the slots of a table lie in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct SlotLayout {
    /// Bytes from one slot to the next.
    stride: u32,
    /// Where a slot has its address.
    offset: u32,
}

impl SlotLayout {
    /// The layout of a kernel. A structure that is larger than any kernel's is not believed.
    fn of(layouts: &Layouts) -> Self {
        const STRIDE_BYTES_MAX: u32 = 64;
        let pointers = Self { stride: 8, offset: 0 };
        let has_nodes = layouts.io_ring_ctx.is_some_and(|layout| layout.nodes.is_some());
        let fixed = layouts.io_fixed_file.filter(|_| !has_nodes);
        fixed.map_or(pointers, |layout| {
            let (stride, offset) = (layout.size, layout.file_ptr.offset);
            let is_possible = (8..=STRIDE_BYTES_MAX).contains(&stride) && offset <= stride - 8;
            if is_possible { Self { stride, offset } } else { pointers }
        })
    }

    fn value(self, bytes: &[u8], slot: u32) -> u64 {
        u64_at(bytes, (slot * self.stride + self.offset) as usize)
    }
}

impl Rings {
    pub(super) fn new() -> Self {
        Self {
            tables: room::list(RINGS_MAX),
            shares: Shares::new(),
            ranges: room::list(RANGES),
            slots: room::list(FILES),
            files: room::list(FILES),
        }
    }

    pub(super) fn clear(&mut self) {
        self.tables.clear();
        self.ranges.clear();
        self.slots.clear();
        self.files.clear();
    }
}

/// Adds a row for an open file of the filesystem of anonymous inodes if it is a ring.
pub(super) fn note_ring(
    rings: &mut AddressedRows<RingRow>,
    shares: &mut TableShares,
    (index, file): (Index<FileRow>, &FileRow),
    dentry: &DentryRow,
) {
    let (context, process) = (file.open.private_data, file.process);
    let name = dentry.text.get(..dentry.name.length as usize);
    if name == Some(NAME) && !context.is_null() {
        let (table, descriptors) = (None, Span::default());
        let row = || RingRow { file: index, context, process, table, descriptors };
        shares.row_of(rings, process, file.address.0, row);
    }
}

impl Walker {
    /// Reads the files of the rings.
    pub(super) fn read_rings(&mut self, memory: &mut ScannedMemory<'_>) {
        self.scratch.rings.clear();
        if self.snapshot.rings.is_empty() {
            self.ring_slots.clear();
            return;
        }
        self.name_ring_tables();
        self.read_ring_tables(memory);
        self.choose_ring_slots();
        self.read_ring_slots(memory);
        self.read_ring_nodes(memory);
        self.add_ring_files(memory);
    }

    /// Notes the table of descriptors of each ring's process.
    fn name_ring_tables(&mut self) {
        let Snapshot { rings, processes, .. } = &mut self.snapshot;
        for ring in rings.iter_mut() {
            ring.table = processes.at(ring.process).and_then(|process| process.files);
        }
        self.snapshot.sort_rings();
    }

    fn read_ring_tables(&mut self, memory: &mut ScannedMemory<'_>) {
        let Some(layout) = &memory.kernel.layouts.io_ring_ctx else { return };
        let Some(array) = layout.nodes.or(layout.files) else { return };
        let Snapshot { rings, losses, .. } = &mut self.snapshot;
        let WalkScratch { rings: Rings { tables, .. }, addresses, .. } = &mut self.scratch;
        addresses.clear();
        addresses.extend(rings.iter().map(|ring| ring.context));
        fetch(&mut self.reader, memory, &layout.packing, addresses, |at, bytes| {
            let (Some(view), Some(ring)) = (bytes.map(View::new), Index::new(at)) else {
                losses.miss(WalkedStructure::IoRing, addresses[at]);
                return;
            };
            let slots = layout.nr_user_files.map_or(0, |field| view.unsigned(field));
            let array = view.pointer(array);
            if slots > 0 && !array.is_null() {
                if slots > u64::from(SLOTS_OF_ONE) {
                    let stop = EarlyStop::TooLong { limit: SLOTS_OF_ONE };
                    losses.stop(WalkedStructure::IoRingTable, stop);
                }
                let slots = slots.min(SLOTS_OF_ONE.into()) as u32;
                tables.push(RingFileTable { ring, array, slots, share: Share::default() });
            }
        });
    }

    /// Chooses the slots that this scan reads.
    fn choose_ring_slots(&mut self) {
        let Self {
            snapshot,
            scratch: WalkScratch { rings, shares: table_shares, .. },
            ring_slots,
            ..
        } = self;
        let Rings { tables, shares, ranges, .. } = rings;
        shares.divide(tables, snapshot, table_shares);
        for (at, table) in (0..).zip(tables.iter()) {
            if table.list_ranges(at, self.scans, ring_slots, ranges) {
                let stop = EarlyStop::TooLong { limit: table.share.slots };
                snapshot.losses.stop(WalkedStructure::IoRingTable, stop);
            }
        }
    }

    /// Lists the used slots of all tables.
    fn read_ring_slots(&mut self, memory: &mut ScannedMemory<'_>) {
        let layout = SlotLayout::of(&memory.kernel.layouts);
        let Self { snapshot: Snapshot { losses, .. }, ring_slots, .. } = self;
        let Rings { tables, ranges, slots, .. } = &mut self.scratch.rings;
        ring_slots.clear();
        fetch_each(&mut self.reader, memory, ranges, push_range(layout), |at, bytes| {
            let range = &ranges[at];
            let Some(bytes) = bytes else {
                let first = u64::from(range.first) * u64::from(layout.stride);
                losses.miss(WalkedStructure::IoRingTable, range.array.plus(first));
                return;
            };
            let table = &mut tables[range.table as usize];
            for slot in 0..range.count {
                let (number, value) = (range.first + slot, layout.value(bytes, slot));
                if value == 0 {
                    continue;
                }
                let stop = EarlyStop::TooLong { limit: number };
                if table.share.files == 0 || slots.len() == slots.capacity() {
                    losses.stop(WalkedStructure::IoRingTable, stop);
                    return;
                }
                table.share.files -= 1;
                slots.push(RingFileSlot { range: at as u32, number, value });
                if !table.is_large() || number < table.first_slots() {
                    continue;
                }
                if table.share.remembered > 0 && ring_slots.len() < ring_slots.capacity() {
                    table.share.remembered -= 1;
                    ring_slots.push(RingSlot { array: table.array, number });
                } else {
                    losses.stop(WalkedStructure::IoRingTable, stop);
                }
            }
        });
    }

    /// Reads the open file of each used slot. A slot of an older kernel has it itself.
    fn read_ring_nodes(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let Rings { slots, files, .. } = &mut self.scratch.rings;
        files.extend(slots.iter().map(|slot| KernelVa(slot.value & !FLAGS)));
        let node = layouts.io_rsrc_node.as_ref().and_then(|it| Some((it, it.file_ptr?)));
        let has_nodes = layouts.io_ring_ctx.is_some_and(|layout| layout.nodes.is_some());
        let Some((layout, field)) = node.filter(|_| has_nodes) else { return };
        let (addresses, losses) = (&mut self.scratch.addresses, &mut self.snapshot.losses);
        addresses.clear();
        addresses.append(files);
        fetch(&mut self.reader, memory, &layout.packing, addresses, |at, bytes| {
            if bytes.is_none() {
                losses.miss(WalkedStructure::IoRingSlot, addresses[at]);
            }
            files.push(bytes.map_or(KernelVa::NULL, |bytes| file_of_node(bytes, field)));
        });
    }

    /// Adds the rows of the files, and reads what they lead to.
    fn add_ring_files(&mut self, memory: &mut ScannedMemory<'_>) {
        let Self { snapshot, scratch, .. } = self;
        let WalkScratch { rings: Rings { tables, ranges, slots, files, .. }, .. } = scratch;
        let known = count_places(snapshot);
        let before = snapshot.files.len();
        let of_slots = slots.iter().zip(files.iter());
        let mut of_slots = of_slots.map(|(slot, &address)| (slot, address)).peekable();
        for (at, table) in (0..).zip(tables.iter()) {
            let process = snapshot.rings[table.ring].process;
            let mut descriptors = snapshot.descriptors.span_from(snapshot.descriptors.len());
            let is_its = |slot: &RingFileSlot| ranges[slot.range as usize].table == at;
            while let Some((slot, address)) = of_slots.next_if(|(slot, _)| is_its(slot)) {
                if !address.is_plausible() {
                    continue;
                }
                let file = TableShares::granted(&mut snapshot.files, process, address);
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
    pub(super) fn check_rings(&mut self, memory: &mut ScannedMemory<'_>) {
        let layout = SlotLayout::of(&memory.kernel.layouts);
        let Self { reader, snapshot, scratch, .. } = self;
        let Rings { tables, ranges, slots, .. } = &scratch.rings;
        let Snapshot { rings, descriptors, .. } = snapshot;
        let mut before = slots.iter().peekable();
        // The rows of a ring are in the order of its ranges.
        let (mut last, mut checked) = (None, 0);
        fetch_each(reader, memory, ranges, push_range(layout), |at, bytes| {
            let range = &ranges[at];
            if last.replace(range.table) != Some(range.table) {
                checked = 0;
            }
            let ring = &rings[tables[range.table as usize].ring];
            let rows = descriptors.range_mut(ring.descriptors).iter_mut().skip(checked);
            let is_here =
                |number: u32| number.checked_sub(range.first).filter(|it| *it < range.count);
            for row in rows {
                let number = row.index - RING_SLOT;
                let Some(slot) = is_here(number) else { break };
                checked += 1;
                while before.next_if(|it| (it.range, it.number) < (at as u32, number)).is_some() {}
                let before =
                    before.peek().filter(|it| (it.range, it.number) == (at as u32, number));
                let now = bytes.map(|bytes| layout.value(bytes, slot));
                if now.is_none() || now != before.map(|it| it.value) {
                    (row.file, row.moved) = (None, true);
                }
            }
        });
    }
}

/// Adds a range of slots to a batch.
fn push_range(
    layout: SlotLayout,
) -> impl Fn(&mut MemoryReader, &KernelSpace, &SlotRange) -> Option<u32> {
    move |reader, space, range| {
        let distance = u64::from(range.first) * u64::from(layout.stride);
        let begin = range.array.0.wrapping_add(distance);
        reader.push_bytes(space, KernelVa(begin), range.count * layout.stride)
    }
}

fn file_of_node(bytes: &[u8], field: PackedField) -> KernelVa {
    KernelVa(View::new(bytes).pointer(field).0 & !FLAGS)
}

#[cfg(test)]
mod tests;
