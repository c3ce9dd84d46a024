//! Checks whether a machine's memory is at the addresses that a source assumes: a kernel's direct
//! map maps all memory and nothing else.
//!
//! For sources that have to guess. Not for: finding the layout; the caller tries layouts.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::paging::PageTableLevels;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use crate::memory::KernelMemory;
use crate::profile::Profile;

/// Number of places checked in each region.
const PLACES: u64 = 64;

/// The share of places that the kernel maps to themselves, in the region with the lowest share,
/// from 0 to 1. It is 1 if the layout is right, except for memory that the firmware reserves or
/// that the kernel may not use (`mem=`).
pub fn mapped_share(source: &mut dyn MemorySource, profile: &Profile) -> f64 {
    let space = &profile.space;
    if !matches!(space.levels, PageTableLevels::X86_64(_)) {
        return 1.0; // discovery itself finds and verifies where arm64's memory begins
    }
    let regions = source.regions().to_vec();
    let mut memory = KernelMemory::new(source, space.root, space.levels);
    let base = space.direct_map.start.wrapping_sub(space.direct_map_physical.0);
    let share = regions.iter().map(|region| {
        let step = (region.end - region.start) / PLACES / PAGE_BYTES * PAGE_BYTES;
        let mapped = (0..PLACES).filter(|place| {
            let physical = region.start + place * step;
            let found = memory.translate(KernelVa(base.wrapping_add(physical)));
            found.is_ok_and(|found| found.physical.0 == physical)
        });
        mapped.count() as f64 / PLACES as f64
    });
    share.fold(1.0, f64::min)
}
