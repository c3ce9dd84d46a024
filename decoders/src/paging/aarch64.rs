//! Page-table descriptors of arm64 (Arm ARM, DDI 0487, chapter D8: VMSAv8-64 translation tables).
//!
//! The granule (4, 16 or 64 KiB) determines the size of pages and tables; the address size
//! determines the number of levels, 2 to 5. Arm counts levels down to 3 and begins with -1 if there
//! are five. In this crate the lowest level is always 1: Arm's level n is 4 - n.

use super::{PageAccess, PageTableEntry};
use crate::address::PhysicalAddress;

/// The size of a page: the lowest level maps pages, and a complete table fills one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Granule {
    Kib4,
    Kib16,
    Kib64,
}

impl Granule {
    /// The granule with pages of `bytes`.
    pub const fn of_page_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            0x1000 => Some(Self::Kib4),
            0x4000 => Some(Self::Kib16),
            0x1_0000 => Some(Self::Kib64),
            _ => None,
        }
    }

    /// Number of address bits within a page.
    const fn bits(self) -> u32 {
        match self {
            Self::Kib4 => 12,
            Self::Kib16 => 14,
            Self::Kib64 => 16,
        }
    }

    /// Number of address bits that a complete table resolves: a table is a page of 8-byte entries.
    const fn index_bits(self) -> u32 {
        self.bits() - 3
    }
}

/// Number of address bits that the tables can resolve. Linux uses at least 36
/// (`CONFIG_ARM64_VA_BITS_36`, two levels with 16 KiB pages); `FEAT_LVA` and `FEAT_LPA2` allow at
/// most 52.
const ADDRESS_BITS: core::ops::RangeInclusive<u32> = 36..=52;

const VALID: u64 = 1;
/// A page at the lowest level, a table at the others; without this bit a block.
const TABLE_OR_PAGE: u64 = 1 << 1;
/// `PTE_PROT_NONE` (arch/arm64/include/asm/pgtable-prot.h, to v6.10): a page in memory without
/// access rights (`PROT_NONE`, NUMA balancing). Such an entry is not valid but has bit 1.
const PROT_NONE: u64 = 1 << 58;
/// `PTE_PRESENT_INVALID` (the same file, from v6.11): the same, with another bit.
const PRESENT_INVALID: u64 = 1 << 11;

/// The rights of a page or block: `AP[1]`, `AP[2]`, `DBM` and `PXN` (D8.4). With `DBM`, the first
/// write makes a page writable (`PTE_WRITE`, arch/arm64/include/asm/pgtable-prot.h).
const USER: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const WRITABLE_WHEN_DIRTY: u64 = 1 << 51;
const NOT_EXECUTABLE: u64 = 1 << 53;
/// What a table takes from all below it: `PXNTable` and `APTable`.
const TABLE_NOT_EXECUTABLE: u64 = 1 << 59;
const TABLE_NOT_USER: u64 = 1 << 61;
const TABLE_READ_ONLY: u64 = 1 << 62;

/// What the entry of a page or block allows.
pub const fn page_access(entry: u64) -> PageAccess {
    PageAccess {
        is_executable: entry & NOT_EXECUTABLE == 0,
        is_writable: entry & READ_ONLY == 0 || entry & WRITABLE_WHEN_DIRTY != 0,
        is_user: entry & USER != 0,
    }
}

/// What the entry of a table allows below it.
pub const fn table_access(entry: u64) -> PageAccess {
    PageAccess {
        is_executable: entry & TABLE_NOT_EXECUTABLE == 0,
        is_writable: entry & TABLE_READ_ONLY == 0,
        is_user: entry & TABLE_NOT_USER == 0,
    }
}

/// The page-table levels of an arm64 machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Aarch64Levels {
    granule: Granule,
    /// Number of address bits that the tables resolve.
    address_bits: u8,
    /// Whether physical addresses have 52 bits with 4 or 16 KiB pages (`TCR_EL1.DS`, `FEAT_LPA2`).
    lpa2: bool,
}

impl Aarch64Levels {
    /// The tables of a kernel built for addresses of `built_bits` (`VA_BITS`) on a processor that
    /// supports `actual_bits` (64 minus `TCR_EL1.T1SZ`); `None` for impossible combinations.
    ///
    /// With 64 KiB pages the top table keeps the width that was built, and only its end is used
    /// (`TTBR1_BADDR_4852_OFFSET`, arch/arm64/include/asm/pgtable-hwdef.h). With smaller pages the
    /// top level is omitted (`pgtable_l5_enabled`, `pgtable_l4_enabled`,
    /// arch/arm64/include/asm/pgtable.h, v6.9). Addresses of more than 48 bits with 4 or 16 KiB
    /// pages need `FEAT_LPA2`, and Linux enables that for no others.
    pub const fn new(granule: Granule, built_bits: u32, actual_bits: u32) -> Option<Self> {
        if built_bits < *ADDRESS_BITS.start()
            || built_bits > *ADDRESS_BITS.end()
            || actual_bits < *ADDRESS_BITS.start()
            || actual_bits > built_bits
        {
            return None;
        }
        let lpa2 = actual_bits > 48 && !matches!(granule, Granule::Kib64);
        let same = levels(granule, built_bits) == levels(granule, actual_bits);
        let bits = if same { built_bits } else { actual_bits };
        Some(Self { granule, address_bits: bits as u8, lpa2 })
    }

    pub const fn granule(self) -> Granule {
        self.granule
    }

    /// Number of address bits that the tables resolve.
    pub const fn address_bits(self) -> u32 {
        self.address_bits as u32
    }

    /// The number of the topmost level: 2 to 5.
    #[inline]
    pub const fn top(self) -> u32 {
        levels(self.granule, self.address_bits())
    }

    /// Whether all bits above the resolved ones are equal: clear in user addresses (`TTBR0_EL1`),
    /// set in kernel addresses (`TTBR1_EL1`).
    #[inline]
    pub const fn is_canonical(self, address: u64) -> bool {
        let above = address >> self.address_bits;
        above == 0 || above == u64::MAX >> self.address_bits
    }

    /// Number of bytes that an entry of `level` maps.
    #[inline]
    pub const fn bytes(self, level: u32) -> u64 {
        1 << self.shift(level)
    }

    const fn shift(self, level: u32) -> u32 {
        let lower = level.saturating_sub(1);
        // Levels that exist stay below the limit; others must not overflow.
        let shift =
            self.granule.bits() + self.granule.index_bits() * if lower > 4 { 4 } else { lower };
        if shift > 63 { 63 } else { shift }
    }

    /// Physical address of the entry for `virtual_address` in the table at `table` of `level` (1 is
    /// the lowest). The top table may be smaller than a page and need not be page-aligned.
    #[inline]
    pub const fn entry_address(
        self,
        table: PhysicalAddress,
        virtual_address: u64,
        level: u32,
    ) -> PhysicalAddress {
        let resolved = virtual_address & ((1 << self.address_bits) - 1);
        let whole = (1_u64 << self.granule.index_bits()) - 1;
        let index = (resolved >> self.shift(level)) & whole;
        table.plus(index * 8)
    }

    /// Decodes `entry`, read at `level` for `virtual_address`.
    #[inline]
    pub const fn step(self, entry: u64, virtual_address: u64, level: u32) -> PageTableEntry {
        let offset_mask = self.bytes(level) - 1;
        let page = PageTableEntry::Page(PhysicalAddress(
            (self.output(entry) & !offset_mask) | (virtual_address & offset_mask),
        ));
        match (entry & (VALID | TABLE_OR_PAGE), level) {
            (0b11, 1) => page,
            // A swapped-out page has neither bit.
            (TABLE_OR_PAGE, 1) if entry & (PROT_NONE | PRESENT_INVALID) != 0 => page,
            (0b11, _) => PageTableEntry::Table(PhysicalAddress(self.output(entry))),
            (VALID, _) if self.has_blocks(level) => page,
            _ => PageTableEntry::NotPresent,
        }
    }

    /// Whether an entry of this level can be a block: 2 MiB and 1 GiB with 4 KiB pages, 32 MiB with
    /// 16 KiB, 512 MiB with 64 KiB. With 52-bit physical addresses also one level higher: 512 GiB,
    /// 64 GiB, 4 TiB (D8.3.1). With 64 KiB pages the address size is unknown here, so that level is
    /// always accepted: without 52 bits its blocks are not valid anyway.
    const fn has_blocks(self, level: u32) -> bool {
        match self.granule {
            Granule::Kib4 => level == 2 || level == 3 || (level == 4 && self.lpa2),
            Granule::Kib16 => level == 2 || (level == 3 && self.lpa2),
            Granule::Kib64 => level == 2 || level == 3,
        }
    }

    /// The address in an entry, of a table or of a page; the caller masks the lower bits of a block
    /// away. The contiguous bit has no effect: each entry of a run has its own address.
    const fn output(self, entry: u64) -> u64 {
        /// Bits 12 to 47, and 12 to 49.
        const TO_47: u64 = 0x0000_ffff_ffff_f000;
        const TO_49: u64 = 0x0003_ffff_ffff_f000;
        let page_mask = !((1_u64 << self.granule.bits()) - 1);
        match self.granule {
            // FEAT_LPA: bits 51 to 48 are in 15 to 12, which are zero without it.
            Granule::Kib64 => (entry & TO_47 & page_mask) | ((entry & 0xf000) << 36),
            // FEAT_LPA2: bits 51 and 50 are in 9 and 8, which otherwise hold the shareability.
            _ if self.lpa2 => (entry & TO_49 & page_mask) | ((entry & 0x300) << 42),
            _ => entry & TO_47 & page_mask,
        }
    }
}

/// Number of levels that resolve `bits` of an address.
const fn levels(granule: Granule, bits: u32) -> u32 {
    (bits - granule.bits()).div_ceil(granule.index_bits())
}

#[cfg(test)]
mod tests;
