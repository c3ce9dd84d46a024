//! Which areas of a monitor's process are the guest's memory, and their physical addresses.
//!
//! A monitor would know, but its socket is usually in use. QEMU gives each block of memory an area
//! of exactly its size, at the physical address that its type of machine has for it ([`maps`]).
//! Other monitors have an area for each range of physical addresses ([`monitors`]). The layouts
//! found here are guesses to be verified: a kernel with consistent page tables and lists is found
//! only if the guess is right.

mod blocks;
mod maps;
mod monitors;
#[cfg(test)]
mod tests;

use super::areas::{Area, AreaBacking, AreaLabel, FileIdentity};
pub(crate) use blocks::{BlockPart, layouts_of_blocks};
use maps::MachineMap;

const GIB: u64 = 1 << 30;
const FOUR_GIB: u64 = 4 * GIB;
/// Alignment of plugged memory, unless it is in larger pages (util/oslib-posix.c,
/// `qemu_anon_ram_alloc`).
const PLUGGED_ALIGNMENT: u64 = 2 << 20;
/// Smallest block that is guessed to be memory plugged in at run time: Linux accepts no smaller
/// one.
const PLUGGED_BYTES_MIN: u64 = 128 << 20;
/// Smallest block of memory, or part of one, that is considered by itself.
const BLOCK_BYTES_MIN: u64 = 1 << 20;
/// Largest number of blocks if some of them are guesses.
const GUESSED_BLOCKS_MAX: usize = 32;
/// Largest number of other blocks that are tried as the main memory.
const ALTERNATIVES_MAX: usize = 8;
/// Smallest memory of a guest.
const MEMORY_BYTES_MIN: u64 = 8 << 20;
/// Sizes of pages to which a size from the arguments is rounded up (system/physmem.c,
/// `file_ram_alloc`).
const PAGES: [u64; 2] = [2 << 20, 1 << 30];

/// Machines, by how they lay memory out: those of QEMU, and other monitors.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Machine {
    /// `q35`: 2 GiB below the hole if the guest has 2.75 GiB or more (hw/i386/pc_q35.c,
    /// `pc_q35_init`).
    Q35,
    /// `pc`: 3 GiB below the hole if the guest has 3.5 GiB or more (hw/i386/pc_piix.c, `pc_init1`).
    Pc,
    /// `microvm`: 3 GiB below the hole if the guest has more (hw/i386/microvm.c,
    /// `microvm_memory_init`).
    Microvm,
    /// `virt` of arm64: all memory is at 1 GiB.
    Virt,
    /// A machine of QEMU that is not known: all are tried.
    #[default]
    Unknown,
    Firecracker,
    CloudHypervisor,
    Crosvm,
    /// `lkvm` of kvmtool.
    Kvmtool,
    StratoVirt,
    /// The monitor inside of Kata's shim.
    Dragonball,
    /// Another monitor: all machines are tried.
    Other,
}

impl Machine {
    /// Whether it is one of QEMU's, whose arguments give the sizes of memory.
    const fn is_of_qemu(self) -> bool {
        matches!(self, Self::Q35 | Self::Pc | Self::Microvm | Self::Virt | Self::Unknown)
    }
}

/// The guest's memory according to QEMU's arguments.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExpectedMemory {
    pub machine: Machine,
    /// Sizes in bytes of the consecutive blocks of main memory: one, or one per NUMA node. Empty if
    /// the arguments do not tell.
    pub main: Vec<u64>,
    /// Devices that are memory.
    pub plugged: Vec<MemoryDevice>,
    /// Memory for other uses, such as that of two guests: QEMU maps it, too.
    pub other: Vec<u64>,
    /// All these blocks in the order in which QEMU makes them (`qemu_create_late_backends`, then
    /// `machine_run_board_init`, system/vl.c). Of equal ones it tells which is which. Empty if
    /// unknown: main memory is first.
    pub order: Vec<Use>,
    /// Whether memory can be plugged in while the guest runs.
    pub has_slots: bool,
    /// Number of slots.
    pub slots: u64,
    /// The most memory that the guest may have, in bytes; 0 if it is not given.
    pub maximum_bytes: u64,
    /// Limit of memory below 4 GiB in bytes, if it was given.
    pub low_bytes_max: Option<u64>,
    /// Memory of SGX behind the main memory, in bytes (hw/i386/sgx.c, `pc_machine_init_sgx_epc`).
    pub epc_bytes: u64,
}

/// A device that is memory: a DIMM, or a device of virtio.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MemoryDevice {
    /// Size of its area in bytes.
    pub bytes: u64,
    /// Bytes at the end of the area that the guest has elsewhere: labels of an NVDIMM.
    pub label_bytes: u64,
    /// Its physical address, if it was given.
    pub at: Option<u64>,
    /// The alignment of its address in bytes, if it was given.
    pub alignment: Option<u64>,
    /// Whether the guest may only read it. It takes addresses, but has no writable area.
    pub is_read_only: bool,
}

impl MemoryDevice {
    /// A device of this size, whose address is given or not.
    pub fn new(bytes: u64, at: Option<u64>) -> Self {
        Self { bytes, at, ..Self::default() }
    }

    /// What the guest has of it: an NVDIMM ends at a multiple of its alignment before the labels
    /// (hw/mem/nvdimm.c, `nvdimm_prepare_memory_region`).
    fn region_bytes(&self) -> u64 {
        if self.label_bytes == 0 {
            return self.bytes;
        }
        let alignment = self.alignment.unwrap_or(PLUGGED_ALIGNMENT).max(1);
        let rest = self.bytes.saturating_sub(self.label_bytes);
        rest - rest % alignment
    }
}

/// What a block is used for: its position in the list of that use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    Main(usize),
    Plugged(usize),
    Other(usize),
}

impl ExpectedMemory {
    /// The size of a block; 0 if it has no area.
    fn bytes(&self, block: Use) -> u64 {
        let writable = |device: &MemoryDevice| if device.is_read_only { 0 } else { device.bytes };
        let bytes = match block {
            Use::Main(at) => self.main.get(at).copied(),
            Use::Plugged(at) => self.plugged.get(at).map(writable),
            Use::Other(at) => self.other.get(at).copied(),
        };
        bytes.unwrap_or(0)
    }

    /// All blocks in the order in which they are made.
    fn blocks(&self) -> Vec<Use> {
        if !self.order.is_empty() {
            return self.order.clone();
        }
        let main = (0..self.main.len()).map(Use::Main);
        main.chain((0..self.plugged.len()).map(Use::Plugged)).collect()
    }
}

/// A part of an area with its place in the guest's physical memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlacedArea {
    /// First physical address.
    pub physical: u64,
    /// First address in the process.
    pub address: u64,
    pub bytes: u64,
    /// Backing of the first byte.
    pub backing: AreaBacking,
    /// Whether no argument names memory of this size: it only looks like memory that was plugged
    /// in.
    pub is_guess: bool,
}

impl PlacedArea {
    /// Identity of the file, if opening it shows the same memory.
    pub fn file(&self) -> Option<FileIdentity> {
        match self.backing {
            AreaBacking::File { identity, shared: true, .. } => Some(identity),
            _ => None,
        }
    }

    /// Whether the memory is a shared file.
    pub fn is_shared(&self) -> bool {
        self.file().is_some()
    }
}

/// The possible layouts of the guest, the likeliest first; none if no area could be its memory.
/// Each is in order of physical addresses.
pub fn layouts(areas: &[Area], expected: &ExpectedMemory) -> Vec<Vec<PlacedArea>> {
    if !expected.machine.is_of_qemu() {
        return monitors::layouts(areas, expected.machine);
    }
    let Some(AssignedAreas { main, plugged, others, total }) = assign(areas, expected) else {
        return Vec::new();
    };
    let mut orders = vec![main.clone()];
    if main.len() > 1 {
        orders.push(main.iter().rev().cloned().collect());
        if expected.main.is_empty() {
            // The first one is the memory, and the others were plugged in.
            orders.push(main[..1].to_vec());
        }
    }
    // Blocks of the same size that have another use: a tool may have made them in another order.
    let same = others.into_iter().filter(|block| block.bytes() == main[0].bytes());
    orders.extend(same.take(ALTERNATIVES_MAX).map(|block| {
        let mut other = main.clone();
        other[0] = block;
        other
    }));
    let mut found: Vec<Vec<PlacedArea>> = Vec::new();
    for map in maps::of_qemu(total, expected) {
        for order in &orders {
            let is_free =
                |slot: &&MemorySlot| slot.block.as_ref().is_none_or(|block| !order.contains(block));
            let mut plugged: Vec<MemorySlot> = plugged.iter().filter(is_free).cloned().collect();
            let rest = main.iter().filter(|block| !order.contains(block));
            plugged.extend(rest.map(|block| MemorySlot::guess(block.clone())));
            let total = if order.len() == main.len() { total } else { order[0].bytes() };
            for alignment in alignments(&plugged) {
                let layout = place(order, total, &plugged, (&map, alignment))
                    .or_else(|| place(order, total, &[], (&map, alignment)));
                if let Some(layout) = layout.filter(|layout| !found.contains(layout)) {
                    found.push(layout);
                }
            }
        }
    }
    found
}

/// Alignments of devices that are tried: that of files in the largest pages is not in the
/// arguments.
fn alignments(plugged: &[MemorySlot]) -> impl Iterator<Item = u64> + use<> {
    let is_in_file = |slot: &MemorySlot| {
        let block = slot.block.as_ref();
        block.is_some_and(|block| matches!(block.backing, AreaBacking::File { .. }))
    };
    let in_largest = plugged.len() > 1 && plugged.iter().any(is_in_file);
    [PLUGGED_ALIGNMENT].into_iter().chain(in_largest.then_some(GIB))
}

/// Memory in a slot.
#[derive(Clone, Debug)]
struct MemorySlot {
    /// `None` if the process has no area for it: memory that the guest may only read takes an
    /// address, too.
    block: Option<Area>,
    /// What the guest has of it.
    bytes: u64,
    at: Option<u64>,
    alignment: Option<u64>,
    is_guess: bool,
}

impl MemorySlot {
    /// An area that no argument names.
    fn guess(block: Area) -> Self {
        Self { bytes: block.bytes(), block: Some(block), at: None, alignment: None, is_guess: true }
    }
}

/// The areas of a process by use.
struct AssignedAreas {
    /// At least one.
    main: Vec<Area>,
    plugged: Vec<MemorySlot>,
    /// All that is not main memory.
    others: Vec<Area>,
    /// Size of the main memory as the guest has it, in bytes.
    total: u64,
}

/// Assigns areas to what the arguments name; `None` if none can be the main memory.
fn assign(areas: &[Area], expected: &ExpectedMemory) -> Option<AssignedAreas> {
    let mut free = blocks_of(areas);
    let mut main = vec![None; expected.main.len()];
    let mut plugged: Vec<Option<Area>> = vec![None; expected.plugged.len()];
    let mut others = Vec::new();
    for block in expected.blocks() {
        let area = take(&mut free, expected.bytes(block));
        match block {
            Use::Main(at) => main[at] = area,
            Use::Plugged(at) => {
                others.extend(area.clone());
                plugged[at] = area;
            }
            Use::Other(_) => others.extend(area),
        }
    }
    let mut main: Vec<Area> = main.into_iter().collect::<Option<_>>().unwrap_or_default();
    let mut total = expected.main.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    if main.is_empty() {
        main = guess_main(&mut free, expected)?;
        total = main.iter().map(Area::bytes).fold(0, u64::saturating_add);
    }
    let named = plugged.into_iter().zip(&expected.plugged);
    let mut plugged: Vec<MemorySlot> = named
        .map(|(block, device)| MemorySlot {
            block,
            bytes: device.region_bytes(),
            at: device.at,
            alignment: device.alignment,
            is_guess: false,
        })
        .collect();
    // If names tell what is memory, nothing else is.
    let has_names = expected.main.is_empty() && main[0].label == AreaLabel::Qemu;
    if expected.has_slots && !has_names {
        let can_be = |block: &Area| {
            block.bytes() >= PLUGGED_BYTES_MIN && block.bytes().is_multiple_of(PLUGGED_ALIGNMENT)
        };
        while main.len() + plugged.len() < GUESSED_BLOCKS_MAX
            && let Some(bytes) = free.iter().find(|block| can_be(block)).map(Area::bytes)
        {
            plugged.extend(take(&mut free, bytes).map(MemorySlot::guess));
        }
    }
    others.extend(free);
    Some(AssignedAreas { main, plugged, others, total })
}

/// The main memory if no areas match the arguments, or these give no sizes.
fn guess_main(free: &mut Vec<Area>, expected: &ExpectedMemory) -> Option<Vec<Area>> {
    if expected.main.is_empty() {
        let is_named =
            |block: &Area| block.label == AreaLabel::Qemu && block.bytes() >= MEMORY_BYTES_MIN;
        let mut main: Vec<Area> = Vec::new();
        while let Some(at) = free.iter().position(is_named)
            && main.len() < GUESSED_BLOCKS_MAX
        {
            let block = free[at].clone();
            remove(free, &block);
            main.push(block);
        }
        if !main.is_empty() {
            return Some(main);
        }
    }
    // Guess that the largest is the memory.
    let largest = (0..free.len()).rev().max_by_key(|&index| free[index].bytes());
    let index = largest.filter(|&index| free[index].bytes() >= MEMORY_BYTES_MIN)?;
    Some(vec![free.remove(index)])
}

/// Assigns physical addresses to blocks, of whose memory the guest has `total` bytes; `None` if
/// addresses overflow or blocks overlap. `alignment` is that of devices whose own is not known.
fn place(
    main: &[Area],
    total: u64,
    plugged: &[MemorySlot],
    (map, alignment): (&MachineMap, u64),
) -> Option<Vec<PlacedArea>> {
    let mut layout = Vec::new();
    let mut put = |block: &Area, skip: u64, bytes: u64, physical: u64, is_guess| -> Option<()> {
        physical.checked_add(bytes).filter(|end| *end <= 1 << 52)?;
        let backing = block.backing.after(skip)?;
        let address = block.range.start.checked_add(skip)?;
        layout.push(PlacedArea { physical, address, bytes, backing, is_guess });
        Some(())
    };
    let mut left = total;
    let mut ranges = map.ranges();
    let mut range = ranges.next()?;
    for block in main {
        let mut skip = 0;
        let size = block.bytes().min(left);
        while skip < size {
            while range.start >= range.end {
                range = ranges.next()?;
            }
            let bytes = (range.end - range.start).min(size - skip);
            put(block, skip, bytes, range.start, false)?;
            (skip, range.start) = (skip + bytes, range.start + bytes);
        }
        left -= size;
    }
    let base = map.first_device(range.start)?;
    // In order of addresses.
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for slot in plugged {
        let alignment = slot.alignment.unwrap_or(alignment).max(1);
        let at = match slot.at {
            Some(at) => at,
            None => first_gap(&taken, base, (slot.bytes, alignment))?,
        };
        let place = taken.partition_point(|(start, _)| *start < at);
        taken.insert(place, (at, at.checked_add(slot.bytes)?));
        if let Some(block) = &slot.block {
            put(block, 0, slot.bytes.min(block.bytes()), at, slot.is_guess)?;
        }
    }
    layout.sort_by_key(|placed| placed.physical);
    let fits = |pair: &[PlacedArea]| pair[0].physical + pair[0].bytes <= pair[1].physical;
    layout.windows(2).all(fits).then_some(layout)
}

/// The lowest address from `base` on where a device that is memory has room
/// (hw/mem/memory-device.c, `memory_device_get_free_addr`).
fn first_gap(taken: &[(u64, u64)], base: u64, (bytes, alignment): (u64, u64)) -> Option<u64> {
    let mut at = base.checked_next_multiple_of(alignment)?;
    for &(start, end) in taken {
        if at.checked_add(bytes)? <= start {
            break;
        }
        at = at.max(end).checked_next_multiple_of(alignment)?;
    }
    Some(at)
}

/// Candidates for blocks, in the order in which QEMU made them: areas, and joined adjacent areas.
fn blocks_of(areas: &[Area]) -> Vec<Area> {
    let mut blocks: Vec<Area> = Vec::new();
    // Adjacent areas of one file, or of one reservation that madvise(2) or mbind(2) has split.
    for parts in areas.chunk_by(Area::is_continued_by) {
        let [first, .., last] = parts else {
            blocks.extend_from_slice(parts);
            continue;
        };
        let range = first.range.start..last.range.end;
        blocks.push(Area { range, ..first.clone() });
        // Keep the single areas too: memory may be adjacent to something else.
        blocks.extend_from_slice(parts);
    }
    blocks.retain(|block| block.bytes() >= BLOCK_BYTES_MIN);
    // The kernel assigns addresses from the top down, so the first block has the highest.
    blocks.sort_by_key(|block| std::cmp::Reverse(block.range.start));
    blocks
}

/// Takes the first block of a size; removes all blocks that overlap it.
fn take(free: &mut Vec<Area>, bytes: u64) -> Option<Area> {
    if bytes == 0 {
        return None;
    }
    let is_exact = |block: &&Area| block.bytes() == bytes;
    let rounded = PAGES.map(|page| bytes.checked_next_multiple_of(page));
    let is_in_file = |block: &Area| matches!(block.backing, AreaBacking::File { .. });
    let is_rounded = |block: &&Area| is_in_file(block) && rounded.contains(&Some(block.bytes()));
    let block = free.iter().find(is_exact).or_else(|| free.iter().find(is_rounded))?.clone();
    remove(free, &block);
    Some(block)
}

/// Removes a block and all that overlap it.
fn remove(free: &mut Vec<Area>, block: &Area) {
    free.retain(|other| {
        other.range.end <= block.range.start || other.range.start >= block.range.end
    });
}
