//! Whether a machine's memory is where a source says that it is: a kernel maps all of it, and nothing else, in its
//! direct map.
//!
//! For sources that had to guess. Not for: finding the layout; whoever guesses tries.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::paging::Levels;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use crate::memory::KernelMemory;
use crate::profile::Profile;

/// Places looked at in each region.
const PLACES: u64 = 64;

/// Of the places in the region that is mapped worst, what share the kernel maps to themselves: 1 where the layout is
/// right, but for what the firmware keeps for itself, or where the kernel was told to use less (`mem=`).
pub fn mapped_share<S: MemorySource + ?Sized>(source: &mut S, profile: &Profile) -> f64 {
    let space = &profile.space;
    if !matches!(space.levels, Levels::X86_64(_)) {
        return 1.0; // the beginning of arm64's memory is found and proven by discovery itself
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
