//! Page tables: from an entry's bits to the next step of a walk. Reading the entries is the engine's.

pub mod x86_64;

use core::ops::Range;

use crate::address::{KernelVa, PhysicalAddress};

/// How a kernel's own addresses translate: two linear ranges by arithmetic, all else by its page tables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KernelSpace {
    /// How many levels its page tables have.
    pub levels: x86_64::Levels,
    /// Physical address of its top table (`swapper_pg_dir`).
    pub root: PhysicalAddress,
    /// The direct map: virtual addresses of all physical memory from 0 on, in order.
    pub direct_map: Range<u64>,
    /// Virtual addresses of the kernel's image (`_text` to `_end`).
    pub image: Range<u64>,
    /// Physical address of the image's first byte.
    pub image_physical: PhysicalAddress,
    /// Address of the `struct page` of page frame 0; zero where it is not known.
    pub vmemmap_base: u64,
}

impl KernelSpace {
    /// The physical address of an address in one of the two linear ranges; `None` for all others.
    #[inline]
    pub const fn linear(&self, address: KernelVa) -> Option<PhysicalAddress> {
        if address.0 >= self.direct_map.start && address.0 < self.direct_map.end {
            return Some(PhysicalAddress(address.0 - self.direct_map.start));
        }
        if address.0 >= self.image.start && address.0 < self.image.end {
            return Some(PhysicalAddress(
                self.image_physical.0.wrapping_add(address.0 - self.image.start),
            ));
        }
        None
    }
}
