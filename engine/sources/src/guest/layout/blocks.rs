//! Layouts of blocks of memory whose use a saved state names, without a process.

use super::{
    Area, AreaBacking, ExpectedMemory, GIB, Machine, MemorySlot, PLUGGED_ALIGNMENT, PlacedArea,
    maps, place,
};
use crate::guest::areas::AreaLabel;

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
        areas.push(Area {
            range: next..end,
            backing: AreaBacking::Private,
            label: AreaLabel::None,
        });
        let Some(after) = end.checked_add(GIB) else { return Vec::new() };
        next = after;
    }
    let (main, blocks) = areas.split_at(main.len());
    let slots: Vec<MemorySlot> = blocks
        .iter()
        .zip(plugged)
        .map(|(block, &(bytes, at))| MemorySlot {
            block: Some(block.clone()),
            bytes,
            at,
            alignment: None,
            is_guess: false,
        })
        .collect();
    let total = main.iter().map(Area::bytes).fold(0, u64::saturating_add);
    let expected = ExpectedMemory { machine, ..ExpectedMemory::default() };
    let part = |placed: &PlacedArea| {
        let block = areas.partition_point(|area| area.range.end <= placed.address);
        let skip = placed.address - areas.get(block)?.range.start;
        Some(BlockPart { physical: placed.physical, bytes: placed.bytes, block, skip })
    };
    let layouts = maps::of_qemu(total, &expected).into_iter().filter_map(|map| {
        let map = (&map, PLUGGED_ALIGNMENT);
        let layout = place(main, total, &slots, map).or_else(|| place(main, total, &[], map))?;
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
