//! Page tables: from an entry's bits to the next step of a walk. Reading the entries is the engine's.

pub mod aarch64;
pub mod x86_64;

use core::ops::Range;

use crate::address::{KernelVa, PhysicalAddress};

/// What one entry leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The next lower table's physical address.
    Table(PhysicalAddress),
    /// The address is translated.
    Page(PhysicalAddress),
    /// Nothing is mapped there now (never was, or swapped out).
    NotPresent,
}

/// The levels of a machine's page tables: how many there are, and how their entries are read.
///
/// Levels count up from 1, the lowest, whatever the architecture calls them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Levels {
    /// Those of x86-64.
    X86_64(x86_64::Levels),
    /// Those of arm64.
    Aarch64(aarch64::Levels),
}

impl Default for Levels {
    fn default() -> Self {
        Self::X86_64(x86_64::Levels::Four)
    }
}

impl Levels {
    /// The number of the topmost level.
    #[inline]
    pub const fn top(self) -> u32 {
        match self {
            Self::X86_64(levels) => levels.top(),
            Self::Aarch64(levels) => levels.top(),
        }
    }

    /// Whether these tables can translate `address` at all.
    #[inline]
    pub const fn is_canonical(self, address: u64) -> bool {
        match self {
            Self::X86_64(levels) => levels.is_canonical(address),
            Self::Aarch64(levels) => levels.is_canonical(address),
        }
    }

    /// Physical address of the entry for `virtual_address` in the table at `table` of `level`.
    #[inline]
    pub const fn entry_address(
        self,
        table: PhysicalAddress,
        virtual_address: u64,
        level: u32,
    ) -> PhysicalAddress {
        match self {
            Self::X86_64(_) => x86_64::entry_address(table, virtual_address, level),
            Self::Aarch64(levels) => levels.entry_address(table, virtual_address, level),
        }
    }

    /// What `entry`, read at `level` for `virtual_address`, leads to.
    #[inline]
    pub const fn step(self, entry: u64, virtual_address: u64, level: u32) -> Step {
        match self {
            Self::X86_64(_) => x86_64::step(entry, virtual_address, level),
            Self::Aarch64(levels) => levels.step(entry, virtual_address, level),
        }
    }

    /// How many bytes an entry of `level` maps: at level 1 the size of a page.
    #[inline]
    pub const fn bytes(self, level: u32) -> u64 {
        match self {
            Self::X86_64(_) => 1 << (12 + 9 * (level - 1)),
            Self::Aarch64(levels) => levels.bytes(level),
        }
    }

    /// The size in bytes of the machine's pages (`PAGE_SIZE`).
    #[inline]
    pub const fn page_bytes(self) -> u64 {
        self.bytes(1)
    }
}

/// How a kernel's own addresses translate: two linear ranges by arithmetic, all else by its page tables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KernelSpace {
    /// The levels of its page tables.
    pub levels: Levels,
    /// Physical address of its top table (`swapper_pg_dir`).
    pub root: PhysicalAddress,
    /// The direct map: virtual addresses of all physical memory, in order.
    pub direct_map: Range<u64>,
    /// Physical address of the direct map's first byte: 0 on x86-64, where memory begins on arm64.
    pub direct_map_physical: PhysicalAddress,
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
            return Some(PhysicalAddress(
                self.direct_map_physical.0.wrapping_add(address.0 - self.direct_map.start),
            ));
        }
        if address.0 >= self.image.start && address.0 < self.image.end {
            return Some(PhysicalAddress(
                self.image_physical.0.wrapping_add(address.0 - self.image.start),
            ));
        }
        None
    }
}
