//! Page tables: decodes an entry to the next step of a walk. The engine reads the entries.

pub mod aarch64;
pub mod x86_64;

use core::ops::Range;

use crate::address::{KernelVa, PhysicalAddress};

/// The result of decoding one entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PageTableEntry {
    /// Physical address of the next lower table.
    Table(PhysicalAddress),
    /// The translated physical address.
    Page(PhysicalAddress),
    /// Nothing is mapped now: never mapped, or swapped out.
    NotPresent,
}

/// What the entries on the way to a page allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageAccess {
    /// Whether the kernel may execute it.
    pub is_executable: bool,
    /// Whether the kernel may write to it.
    pub is_writable: bool,
    /// Whether user programs reach it.
    pub is_user: bool,
}

impl PageAccess {
    /// Before the first entry.
    pub const ALL: Self = Self { is_executable: true, is_writable: true, is_user: true };

    /// The rights after another entry: each entry takes rights, and none gives any.
    #[must_use]
    pub const fn and(self, entry: Self) -> Self {
        Self {
            is_executable: self.is_executable && entry.is_executable,
            is_writable: self.is_writable && entry.is_writable,
            is_user: self.is_user && entry.is_user,
        }
    }
}

/// The page-table levels of a machine: their number, and the encoding of their entries.
///
/// Levels count up from 1, the lowest, on all architectures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PageTableLevels {
    X86_64(x86_64::X86Levels),
    Aarch64(aarch64::Aarch64Levels),
}

impl Default for PageTableLevels {
    fn default() -> Self {
        Self::X86_64(x86_64::X86Levels::Four)
    }
}

impl PageTableLevels {
    /// The number of the topmost level.
    #[inline]
    pub const fn top(self) -> u32 {
        match self {
            Self::X86_64(levels) => levels.top(),
            Self::Aarch64(levels) => levels.top(),
        }
    }

    /// Whether these tables can translate `address`.
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

    /// Decodes `entry`, read at `level` for `virtual_address`.
    #[inline]
    pub const fn step(self, entry: u64, virtual_address: u64, level: u32) -> PageTableEntry {
        match self {
            Self::X86_64(_) => x86_64::step(entry, virtual_address, level),
            Self::Aarch64(levels) => levels.step(entry, virtual_address, level),
        }
    }

    /// What an entry that is present allows. `step` is the entry, decoded by [`Self::step`].
    #[inline]
    pub const fn access(self, entry: u64, step: PageTableEntry) -> PageAccess {
        match (self, step) {
            (Self::X86_64(_), _) => x86_64::access(entry),
            (Self::Aarch64(_), PageTableEntry::Table(_)) => aarch64::table_access(entry),
            (Self::Aarch64(_), _) => aarch64::page_access(entry),
        }
    }

    /// The first address of the kernel's half: all that its tables translate are from there on.
    #[inline]
    pub const fn kernel_half(self) -> u64 {
        match self {
            Self::X86_64(levels) => u64::MAX << (levels.address_bits() - 1),
            Self::Aarch64(levels) => u64::MAX << levels.address_bits(),
        }
    }

    /// Number of bytes that an entry of `level` maps: the size of a page at level 1.
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

/// Offset of an object in the range that has all of it.
#[inline]
const fn offset_in(range: &Range<u64>, address: KernelVa, bytes: u32) -> Option<u64> {
    let offset = address.0.wrapping_sub(range.start);
    let length = range.end.saturating_sub(range.start);
    if offset < length && length - offset >= bytes as u64 { Some(offset) } else { None }
}

/// How kernel addresses translate: two linear ranges by arithmetic, all others by the page tables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KernelSpace {
    pub levels: PageTableLevels,
    /// Physical address of the top table (`swapper_pg_dir`).
    pub root: PhysicalAddress,
    /// The direct map: the virtual addresses of all physical memory, in order.
    pub direct_map: Range<u64>,
    /// Physical address of the direct map's first byte: 0 on x86-64, the start of memory on arm64.
    pub direct_map_physical: PhysicalAddress,
    /// Virtual addresses of the kernel's image (`_text` to `_end`).
    pub image: Range<u64>,
    /// Physical address of the image's first byte.
    pub image_physical: PhysicalAddress,
    /// Address of the `struct page` of page frame 0; zero if unknown.
    pub vmemmap_base: u64,
}

impl KernelSpace {
    /// Translates an object that is in one of the two linear ranges as a whole; `None` for all
    /// others.
    #[inline]
    pub const fn linear_all(&self, address: KernelVa, bytes: u32) -> Option<PhysicalAddress> {
        if let Some(offset) = offset_in(&self.direct_map, address, bytes) {
            return Some(PhysicalAddress(self.direct_map_physical.0.wrapping_add(offset)));
        }
        if let Some(offset) = offset_in(&self.image, address, bytes) {
            return Some(PhysicalAddress(self.image_physical.0.wrapping_add(offset)));
        }
        None
    }

    /// Translates an address in one of the two linear ranges; `None` for all others.
    #[inline]
    pub const fn linear(&self, address: KernelVa) -> Option<PhysicalAddress> {
        self.linear_all(address, 1)
    }
}
