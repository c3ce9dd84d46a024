//! Which areas of a QEMU process are the guest's memory, and their physical addresses.
//!
//! QEMU's monitor would know, but it is usually in use. QEMU gives each block of memory an area of
//! exactly its size, at the physical address that its type of machine has for it. The layouts found
//! here are guesses to be verified: a kernel with consistent page tables and lists is found only if
//! the guess is right.

use super::areas::{Area, Backing, FileIdentity};

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
/// Physical address of the memory of QEMU's arm64 machine `virt` (hw/arm/virt.c, `base_memmap`).
const VIRT_BASE: u64 = GIB;

/// QEMU's machines, by how they lay memory out.
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
    /// Unknown: all machines are tried.
    #[default]
    Unknown,
}

/// The guest's memory according to QEMU's arguments.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Expected {
    pub machine: Machine,
    /// Sizes in bytes of the consecutive blocks of main memory: one, or one per NUMA node.
    pub main: Vec<u64>,
    /// Memory in slots: size in bytes, and physical address if it was given.
    pub plugged: Vec<(u64, Option<u64>)>,
    /// Memory for other uses, such as that of two guests: QEMU maps it, too.
    pub other: Vec<u64>,
    /// All these blocks in the order in which QEMU makes them (`qemu_create_late_backends`, then
    /// `machine_run_board_init`, system/vl.c). Of equal ones it tells which is which. Empty if
    /// unknown: main memory is first.
    pub order: Vec<Use>,
    /// Whether memory can be plugged in while the guest runs.
    pub has_slots: bool,
    /// Limit of memory below 4 GiB in bytes, if it was given.
    pub low_bytes_max: Option<u64>,
}

/// What a block is used for: its position in the list of that use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    Main(usize),
    Plugged(usize),
    Other(usize),
}

impl Expected {
    /// The size of a block.
    fn bytes(&self, block: Use) -> u64 {
        let bytes = match block {
            Use::Main(at) => self.main.get(at).copied(),
            Use::Plugged(at) => self.plugged.get(at).map(|(bytes, _)| *bytes),
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
pub struct Placed {
    /// First physical address.
    pub physical: u64,
    /// First address in the process.
    pub address: u64,
    pub bytes: u64,
    /// Backing of the first byte.
    pub backing: Backing,
    /// Whether no argument names memory of this size: it only looks like memory that was plugged
    /// in.
    pub is_guess: bool,
}

impl Placed {
    /// Identity of the file, if opening it shows the same memory.
    pub fn file(&self) -> Option<FileIdentity> {
        match self.backing {
            Backing::File { identity, shared: true, .. } => Some(identity),
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
pub(super) fn layouts(areas: &[Area], expected: &Expected) -> Vec<Vec<Placed>> {
    let Some(Blocks { main, plugged, others }) = assign(areas, expected) else {
        return Vec::new();
    };
    let total = main.iter().map(Area::bytes).fold(0, u64::saturating_add);
    let mut orders = vec![main.clone()];
    if main.len() > 1 {
        orders.push(main.iter().rev().cloned().collect());
    }
    // Blocks of the same size that have another use: a tool may have made them in another order.
    let same = others.into_iter().filter(|block| block.bytes() == main[0].bytes());
    orders.extend(same.take(ALTERNATIVES_MAX).map(|block| {
        let mut other = main.clone();
        other[0] = block;
        other
    }));
    let mut found: Vec<Vec<Placed>> = Vec::new();
    for base in lows(total, expected) {
        for order in &orders {
            let is_free =
                |slot: &&Slot| slot.block.as_ref().is_none_or(|block| !order.contains(block));
            let plugged: Vec<Slot> = plugged.iter().filter(is_free).cloned().collect();
            let layout = place(order, &plugged, &base).or_else(|| place(order, &[], &base));
            if let Some(layout) = layout.filter(|layout| !found.contains(layout)) {
                found.push(layout);
            }
        }
    }
    found
}

/// A part of a block with its place in physical memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BlockPart {
    pub(crate) physical: u64,
    pub(crate) bytes: u64,
    /// Number of the block: first those of main memory, then those in slots.
    pub(crate) block: usize,
    /// Bytes of the block before this part.
    pub(crate) skip: u64,
}

/// The possible layouts of blocks whose uses are known, the likeliest first. `main` has the sizes
/// in bytes of main memory, in order; `plugged` the sizes and, if known, the addresses of memory in
/// slots.
pub(crate) fn layouts_of_blocks(
    main: &[u64],
    plugged: &[(u64, Option<u64>)],
    machine: Machine,
) -> Vec<Vec<BlockPart>> {
    // Each block gets an area of its own, none adjacent to another.
    let mut areas: Vec<Area> = Vec::with_capacity(main.len() + plugged.len());
    let mut next = 0_u64;
    for bytes in main.iter().copied().chain(plugged.iter().map(|slot| slot.0)) {
        let Some(end) = next.checked_add(bytes) else { return Vec::new() };
        areas.push(Area { range: next..end, backing: Backing::Private });
        let Some(after) = end.checked_add(GIB) else { return Vec::new() };
        next = after;
    }
    let (main, blocks) = areas.split_at(main.len());
    let slots: Vec<Slot> = blocks
        .iter()
        .zip(plugged)
        .map(|(block, &(bytes, at))| Slot {
            block: Some(block.clone()),
            bytes,
            at,
            is_guess: false,
        })
        .collect();
    let total = main.iter().map(Area::bytes).fold(0, u64::saturating_add);
    let expected = Expected { machine, ..Expected::default() };
    let part = |placed: &Placed| {
        let block = areas.partition_point(|area| area.range.end <= placed.address);
        let skip = placed.address - areas.get(block)?.range.start;
        Some(BlockPart { physical: placed.physical, bytes: placed.bytes, block, skip })
    };
    let layouts = lows(total, &expected).into_iter().filter_map(|low| {
        let layout = place(main, &slots, &low).or_else(|| place(main, &[], &low))?;
        layout.iter().map(part).collect()
    });
    let mut found: Vec<Vec<BlockPart>> = Vec::new();
    for layout in layouts {
        if !found.contains(&layout) {
            found.push(layout);
        }
    }
    found
}

/// Memory in a slot.
#[derive(Clone, Debug)]
struct Slot {
    /// `None` if the process has no area for it: memory that the guest may only read takes an
    /// address, too.
    block: Option<Area>,
    bytes: u64,
    at: Option<u64>,
    is_guess: bool,
}

/// The areas of a process by use.
struct Blocks {
    /// At least one.
    main: Vec<Area>,
    plugged: Vec<Slot>,
    /// All that is not main memory.
    others: Vec<Area>,
}

/// Assigns areas to what the arguments name; `None` if none can be the main memory.
fn assign(areas: &[Area], expected: &Expected) -> Option<Blocks> {
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
    if main.is_empty() {
        // No areas match the arguments: guess that the largest is the memory.
        let largest = (0..free.len()).rev().max_by_key(|&index| free[index].bytes());
        let index = largest.filter(|&index| free[index].bytes() >= MEMORY_BYTES_MIN)?;
        main.push(free.remove(index));
    }
    let named = plugged.into_iter().zip(&expected.plugged);
    let mut plugged: Vec<Slot> =
        named.map(|(block, &(bytes, at))| Slot { block, bytes, at, is_guess: false }).collect();
    if expected.has_slots {
        let can_be = |block: &Area| {
            block.bytes() >= PLUGGED_BYTES_MIN && block.bytes().is_multiple_of(PLUGGED_ALIGNMENT)
        };
        while main.len() + plugged.len() < GUESSED_BLOCKS_MAX
            && let Some(bytes) = free.iter().find(|block| can_be(block)).map(Area::bytes)
        {
            let block = take(&mut free, bytes);
            plugged.push(Slot { block, bytes, at: None, is_guess: true });
        }
    }
    others.extend(free);
    Some(Blocks { main, plugged, others })
}

/// The physical address of a machine's memory, and how much of it is below 4 GiB.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Low {
    base: u64,
    bytes: u64,
}

fn lows(total: u64, expected: &Expected) -> Vec<Low> {
    let at_most = expected.low_bytes_max.filter(|bytes| bytes % 4096 == 0 && *bytes > 0);
    let flat = Low { base: 0, bytes: u64::MAX };
    let q35 = |total| {
        let usual = if total >= 0xb000_0000 { 0x8000_0000 } else { 0xb000_0000 };
        Low { base: 0, bytes: at_most.map_or(usual, |most| usual.min(most)) }
    };
    let pc = |total| {
        let most = at_most.unwrap_or(0xe000_0000);
        let bytes = if total >= most { most.min(0xc000_0000) } else { most };
        Low { base: 0, bytes }
    };
    let microvm = {
        let bytes = if total > 0xc000_0000 { 0xc000_0000 } else { u64::MAX };
        Low { base: 0, bytes }
    };
    let virt = Low { base: VIRT_BASE, bytes: u64::MAX };
    match expected.machine {
        Machine::Q35 => vec![q35(total), pc(total), flat],
        Machine::Pc => vec![pc(total), q35(total), flat],
        Machine::Microvm => vec![microvm, pc(total), q35(total), flat],
        Machine::Virt => vec![virt],
        Machine::Unknown => vec![q35(total), pc(total), microvm, flat, virt],
    }
}

/// Assigns physical addresses to blocks; `None` if addresses overflow or blocks overlap.
fn place(main: &[Area], plugged: &[Slot], low: &Low) -> Option<Vec<Placed>> {
    let mut layout = Vec::new();
    let mut put = |block: &Area, skip: u64, bytes: u64, physical: u64, is_guess| -> Option<()> {
        physical.checked_add(bytes).filter(|end| *end <= 1 << 52)?;
        let backing = block.backing.after(skip)?;
        let address = block.range.start + skip;
        layout.push(Placed { physical, address, bytes, backing, is_guess });
        Some(())
    };
    let mut done = 0_u64;
    for block in main {
        let below = low.bytes.saturating_sub(done).min(block.bytes());
        if below > 0 {
            put(block, 0, below, low.base.checked_add(done)?, false)?;
        }
        if below < block.bytes() {
            let above = (done + below).checked_sub(low.bytes)?;
            put(block, below, block.bytes() - below, FOUR_GIB.checked_add(above)?, false)?;
        }
        done = done.checked_add(block.bytes())?;
    }
    // Slots begin behind all other memory, at a whole GiB (hw/i386/pc.c, `pc_memory_init`; on arm64
    // hw/arm/virt.c).
    let end = match low.base {
        0 => FOUR_GIB + done.saturating_sub(low.bytes.min(FOUR_GIB)),
        base => base.checked_add(done)?,
    };
    let base = end.checked_next_multiple_of(GIB)?;
    // In order of addresses.
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for slot in plugged {
        let at = match slot.at {
            Some(at) => at,
            None => first_gap(&taken, base, slot.bytes)?,
        };
        let place = taken.partition_point(|(start, _)| *start < at);
        taken.insert(place, (at, at.checked_add(slot.bytes)?));
        if let Some(block) = &slot.block {
            put(block, 0, block.bytes(), at, slot.is_guess)?;
        }
    }
    layout.sort_by_key(|placed| placed.physical);
    let fits = |pair: &[Placed]| pair[0].physical + pair[0].bytes <= pair[1].physical;
    layout.windows(2).all(fits).then_some(layout)
}

/// The lowest address from `base` on where a device that is memory has room
/// (hw/mem/memory-device.c, `memory_device_get_free_addr`).
fn first_gap(taken: &[(u64, u64)], base: u64, bytes: u64) -> Option<u64> {
    let mut at = base;
    for &(start, end) in taken {
        if at.checked_add(bytes)? <= start {
            break;
        }
        at = at.max(end).checked_next_multiple_of(PLUGGED_ALIGNMENT)?;
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
        blocks.push(Area { range, backing: first.backing.clone() });
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
    // QEMU rounds the size from its arguments up to whole pages of whatever size.
    let fits = |block: &&Area| block.bytes() == bytes;
    let block = free.iter().find(fits)?.clone();
    free.retain(|other| {
        other.range.end <= block.range.start || other.range.start >= block.range.end
    });
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn private(start: u64, bytes: u64) -> Area {
        Area { range: start..start + bytes, backing: Backing::Private }
    }

    fn memory(machine: Machine, sizes: &[u64]) -> Expected {
        Expected { machine, main: sizes.to_vec(), ..Expected::default() }
    }

    /// The likeliest layout as (physical, address, bytes).
    fn first(areas: &[Area], expected: &Expected) -> Vec<(u64, u64, u64)> {
        let layouts = layouts(areas, expected);
        layouts[0].iter().map(|one| (one.physical, one.address, one.bytes)).collect()
    }

    // From `info mtree` of QEMU 7.2 for these machines.
    #[test]
    fn memory_is_split_as_the_machines_split_it() {
        let at = 0x7f00_0000_0000;
        let check = |machine, mib: u64, expected: &[(u64, u64)]| {
            let bytes = mib * MIB;
            let found = first(&[private(at, bytes)], &memory(machine, &[bytes]));
            let mut done = 0;
            let expected: Vec<(u64, u64, u64)> = expected
                .iter()
                .map(|&(physical, bytes)| {
                    done += bytes;
                    (physical, at + done - bytes, bytes)
                })
                .collect();
            assert_eq!(found, expected, "{machine:?} {mib}");
        };
        check(Machine::Q35, 512, &[(0, 512 * MIB)]);
        check(Machine::Q35, 2815, &[(0, 2815 * MIB)]);
        check(Machine::Q35, 2816, &[(0, 2048 * MIB), (1 << 32, 768 * MIB)]);
        check(Machine::Pc, 3583, &[(0, 3583 * MIB)]);
        check(Machine::Pc, 3584, &[(0, 3072 * MIB), (1 << 32, 512 * MIB)]);
        check(Machine::Virt, 8192, &[(1 << 30, 8192 * MIB)]);
    }

    #[test]
    fn the_split_can_be_moved() {
        let area = [private(0x7f00_0000_0000, 2048 * MIB)];
        let mut expected = memory(Machine::Q35, &[2048 * MIB]);
        expected.low_bytes_max = Some(1 << 30);
        let split = [(0, 0x7f00_0000_0000, 1024 * MIB), (1 << 32, 0x7f00_4000_0000, 1024 * MIB)];
        assert_eq!(first(&area, &expected), split);
        expected.machine = Machine::Pc;
        assert_eq!(first(&area, &expected), split);
    }

    // -numa node,memdev=n0 -numa node,memdev=n1 with a dimm, as QEMU 7.2 maps them: the first one
    // has the highest address.
    #[test]
    fn nodes_follow_one_another_and_slots_follow_them() {
        let areas = [
            private(0x7fb4_efa0_0000, 256 * MIB),
            private(0x7fb4_ffc0_0000, 256 * MIB),
            private(0x7fb5_0fe0_0000, 256 * MIB),
        ];
        let mut expected = memory(Machine::Pc, &[256 * MIB, 256 * MIB]);
        expected.plugged = vec![(256 * MIB, None)];
        assert_eq!(
            first(&areas, &expected),
            [
                (0, 0x7fb5_0fe0_0000, 256 * MIB),
                (0x1000_0000, 0x7fb4_ffc0_0000, 256 * MIB),
                (1 << 32, 0x7fb4_efa0_0000, 256 * MIB),
            ]
        );
        // The other order of the nodes is tried too.
        assert!(layouts(&areas, &expected).iter().any(|one| one[0].address == 0x7fb4_ffc0_0000));
    }

    // -m 4G,slots=4,maxmem=16G with dimms of 130M and 128M.
    #[test]
    fn slots_begin_at_a_whole_gib_and_are_aligned() {
        let areas = [
            private(0x7f00_0000_0000, 128 * MIB),
            private(0x7f10_0000_0000, 130 * MIB),
            private(0x7f20_0000_0000, 4096 * MIB),
        ];
        let mut expected = memory(Machine::Q35, &[4096 * MIB]);
        expected.has_slots = true;
        let placed: Vec<u64> = first(&areas, &expected).iter().map(|one| one.0).collect();
        assert_eq!(placed, [0, 1 << 32, 0x1_8000_0000, 0x1_8820_0000]);
    }

    #[test]
    fn memory_may_touch_other_areas_or_be_cut_up() {
        let areas = [
            private(0x7f00_0000_0000, 8 * MIB),
            private(0x7f00_0080_0000, 512 * MIB),
            private(0x7f10_0000_0000, 100 * MIB),
            private(0x7f10_0640_0000, 100 * MIB),
        ];
        assert_eq!(
            first(&areas, &memory(Machine::Q35, &[512 * MIB])),
            [(0, 0x7f00_0080_0000, 512 * MIB)]
        );
        assert_eq!(
            first(&areas, &memory(Machine::Q35, &[200 * MIB])),
            [(0, 0x7f10_0000_0000, 200 * MIB)]
        );
    }

    #[test]
    fn a_wrong_size_is_ignored() {
        let areas = [private(0x1000_0000, 64 * MIB), private(0x7f10_0000_0000, 8 * MIB)];
        assert_eq!(first(&areas, &memory(Machine::Q35, &[1 << 60])), [(0, 0x1000_0000, 64 * MIB)]);
        assert_eq!(
            layouts(&[private(0x1000, 4096)], &Expected::default()),
            Vec::<Vec<Placed>>::new()
        );
        // Plugged memory that overlaps other memory or exceeds the address space is left out.
        let mut expected = memory(Machine::Q35, &[64 * MIB]);
        for at in [0, u64::MAX - 4095] {
            expected.plugged = vec![(8 * MIB, Some(at))];
            assert_eq!(first(&areas, &expected), [(0, 0x1000_0000, 64 * MIB)]);
        }
    }

    #[test]
    fn guesses_are_limited_and_marked_as_guesses() {
        let mut areas: Vec<Area> =
            (0..100).map(|n| private(0x1000_0000 + (n << 28), 128 * MIB)).collect();
        areas.push(private(0x7f20_0000_0000, 4096 * MIB));
        let mut expected = memory(Machine::Q35, &[4096 * MIB]);
        expected.plugged = vec![(128 * MIB, None)];
        expected.has_slots = true;
        let layout = layouts(&areas, &expected).swap_remove(0);
        // The main memory is in two pieces.
        assert_eq!(layout.len(), GUESSED_BLOCKS_MAX + 1);
        assert_eq!(layout.iter().filter(|one| one.is_guess).count(), GUESSED_BLOCKS_MAX - 2);
    }

    #[test]
    fn many_small_areas_cost_little() {
        // First each area is a block of its own, then all areas are one block.
        let begin = std::time::Instant::now();
        for step in [0x2000, 0x1000] {
            let mut areas: Vec<Area> =
                (0..1 << 17).map(|n| private(0x1000_0000 + n * step, 0x1000)).collect();
            areas.push(private(0x7f20_0000_0000, 512 * MIB));
            let found = first(&areas, &memory(Machine::Q35, &[512 * MIB]));
            assert_eq!(found[0].2, 512 * MIB);
        }
        assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}
