//! Page-table entries of x86-64 (Intel SDM vol. 3A §4.5, 4- and 5-level paging).

use super::{PageAccess, PageTableEntry};
use crate::address::PhysicalAddress;

/// Physical address bits of an entry: 12 to 51.
pub const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;
pub const PRESENT: u64 = 1;
/// The entry maps a page of 2 MiB or 1 GiB itself.
pub const LARGE: u64 = 1 << 7;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const NOT_EXECUTABLE: u64 = 1 << 63;
/// `_PAGE_PROTNONE` (arch/x86/include/asm/pgtable_types.h): a page in memory without access rights
/// (`PROT_NONE`, NUMA balancing). Bit 8, meaningful only while `PRESENT` is clear.
const PROTNONE: u64 = 1 << 8;

/// The number of page-table levels.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum X86Levels {
    /// 48-bit addresses.
    #[default]
    Four,
    /// 57-bit addresses (`LA57`).
    Five,
}

impl X86Levels {
    /// The number of the topmost level: 4 or 5.
    pub const fn top(self) -> u32 {
        match self {
            Self::Four => 4,
            Self::Five => 5,
        }
    }

    /// Number of address bits that the tables resolve.
    pub const fn address_bits(self) -> u32 {
        12 + 9 * self.top()
    }

    /// Whether `address` is sign-extended as the hardware requires.
    pub const fn is_canonical(self, address: u64) -> bool {
        let shift = match self {
            Self::Four => 16,
            Self::Five => 7,
        };
        ((address << shift) as i64 >> shift) as u64 == address
    }
}

/// Physical address of the entry for `virtual_address` in the table at `table` of `level` (1 is the
/// lowest).
pub const fn entry_address(
    table: PhysicalAddress,
    virtual_address: u64,
    level: u32,
) -> PhysicalAddress {
    let index = (virtual_address >> (12 + 9 * (level - 1))) & 511;
    PhysicalAddress((table.0 & ADDRESS_MASK) | (index * 8))
}

/// Decodes `entry`, read at `level` for `virtual_address`.
pub const fn step(entry: u64, virtual_address: u64, level: u32) -> PageTableEntry {
    if entry & PRESENT == 0 {
        if level == 1 && entry & PROTNONE != 0 {
            // The frame number is stored inverted, against L1TF
            // (arch/x86/include/asm/pgtable-invert.h).
            let base = !entry & ADDRESS_MASK;
            return PageTableEntry::Page(PhysicalAddress(base | (virtual_address & 0xfff)));
        }
        return PageTableEntry::NotPresent;
    }
    if level == 1 || (level <= 3 && entry & LARGE != 0) {
        let page_bits = 12 + 9 * (level - 1);
        let offset_mask = (1_u64 << page_bits) - 1;
        // Bit 12 of a large entry is its PAT bit: it is below the page's address bits, so it is
        // masked away.
        let base = entry & ADDRESS_MASK & !offset_mask;
        return PageTableEntry::Page(PhysicalAddress(base | (virtual_address & offset_mask)));
    }
    PageTableEntry::Table(PhysicalAddress(entry & ADDRESS_MASK))
}

/// What an entry that is present allows, of a table or of a page.
pub const fn access(entry: u64) -> PageAccess {
    PageAccess {
        is_executable: entry & NOT_EXECUTABLE == 0,
        is_writable: entry & WRITABLE != 0,
        is_user: entry & USER != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_addresses_depend_on_the_levels() {
        assert!(X86Levels::Four.is_canonical(0xffff_8880_0000_0000));
        assert!(!X86Levels::Four.is_canonical(0xff11_0000_0000_0000));
        assert!(X86Levels::Five.is_canonical(0xff11_0000_0000_0000));
        assert!(X86Levels::Four.is_canonical(0x7fff_ffff_f000));
    }

    #[test]
    fn entries_lead_down_to_pages_of_three_sizes() {
        let va = 0xffff_8880_1234_5678;
        assert_eq!(entry_address(PhysicalAddress(0x1000), va, 4).0, 0x1000 + 0x111 * 8);
        assert_eq!(step(0x2063, va, 4), PageTableEntry::Table(PhysicalAddress(0x2000)));
        assert_eq!(
            step(0x4000_00e3, va, 3),
            PageTableEntry::Page(PhysicalAddress(0x4000_0000 | 0x1234_5678))
        );
        assert_eq!(
            step(0x1220_10e3, va, 2),
            PageTableEntry::Page(PhysicalAddress(0x1220_0000 | 0x14_5678))
        );
        assert_eq!(
            step(0x8000_0000_0123_4063, va, 1),
            PageTableEntry::Page(PhysicalAddress(0x0123_4678))
        );
        assert_eq!(step(0, va, 1), PageTableEntry::NotPresent);
        assert_eq!(
            step(0x000f_ffff_ffff_a100, va, 1),
            PageTableEntry::Page(PhysicalAddress(0x5678))
        );
    }
}
