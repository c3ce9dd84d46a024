//! Cases from the Arm ARM, and a simple model.

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn of(granule: Granule, built: u32, actual: u32) -> Aarch64Levels {
    Aarch64Levels::new(granule, built, actual).unwrap()
}

fn table(address: u64) -> PageTableEntry {
    PageTableEntry::Table(PhysicalAddress(address))
}

fn page(address: u64) -> PageTableEntry {
    PageTableEntry::Page(PhysicalAddress(address))
}

/// Documentation/arch/arm64/memory.rst and Kconfig's `PGTABLE_LEVELS`.
#[test]
fn levels_follow_from_granule_and_address() {
    for (granule, bits, expected) in [
        (Granule::Kib4, 39, 3),
        (Granule::Kib4, 48, 4),
        (Granule::Kib4, 52, 5),
        (Granule::Kib16, 36, 2),
        (Granule::Kib16, 47, 3),
        (Granule::Kib16, 48, 4),
        (Granule::Kib16, 52, 4),
        (Granule::Kib64, 42, 2),
        (Granule::Kib64, 48, 3),
        (Granule::Kib64, 52, 3),
    ] {
        assert_eq!(of(granule, bits, bits).top(), expected, "{granule:?} {bits}");
    }
    for (built, actual) in [(35, 35), (53, 52), (48, 49), (52, 20), (0, 0), (64, 64)] {
        assert_eq!(Aarch64Levels::new(Granule::Kib4, built, actual), None, "{built} {actual}");
    }
}

#[test]
fn missing_address_bits_remove_levels_or_the_start_of_the_top_table() {
    assert_eq!(of(Granule::Kib4, 52, 48), of(Granule::Kib4, 48, 48));
    assert_eq!(of(Granule::Kib16, 52, 47), of(Granule::Kib16, 47, 47));
    let narrow = of(Granule::Kib64, 52, 48);
    // The last 64 of 1024 entries map the addresses of 48 bits.
    let first = narrow.entry_address(PhysicalAddress(0), 0xffff_0000_0000_0000, 3);
    assert_eq!(first.0, (1024 - 64) * 8);
    assert_eq!(narrow.entry_address(PhysicalAddress(0), 0x0000_ffff_ffff_ffff, 3).0, 63 * 8);
}

#[test]
fn canonical_addresses_are_the_two_ends() {
    let levels = of(Granule::Kib4, 48, 48);
    assert!(levels.is_canonical(0xffff_0000_0000_0000));
    assert!(levels.is_canonical(0x0000_ffff_ffff_ffff));
    assert!(!levels.is_canonical(0xfffe_ffff_ffff_ffff));
    assert!(!levels.is_canonical(0x0001_0000_0000_0000));
    let levels = of(Granule::Kib4, 52, 52);
    assert!(levels.is_canonical(0xfff0_0000_0000_0000));
    assert!(!levels.is_canonical(0xffe0_0000_0000_0000));
}

#[test]
fn four_kib_entries_lead_down_to_pages_of_three_sizes() {
    let levels = of(Granule::Kib4, 48, 48);
    let va = 0xffff_8000_1234_5678;
    assert_eq!(levels.entry_address(PhysicalAddress(0x1000), va, 4).0, 0x1000 + 0x100 * 8);
    assert_eq!(levels.entry_address(PhysicalAddress(0x1000), va, 1).0, 0x1000 + 0x145 * 8);
    assert_eq!(levels.step(0x8000_0000_4123_4003, va, 4), table(0x4123_4000));
    assert_eq!(levels.step(0x0068_0000_4000_0711, va, 3), page(0x4000_0000 | 0x1234_5678));
    assert_eq!(levels.step(0x0068_0000_4120_0711, va, 2), page(0x4120_0000 | 0x14_5678));
    assert_eq!(levels.step(0x0078_0000_4123_4713, va, 1), page(0x4123_4678));
    // A block at the top level and the encoding of a block at the lowest level are reserved.
    assert_eq!(levels.step(0x4000_0711, va, 4), PageTableEntry::NotPresent);
    assert_eq!(levels.step(0x4000_0711, va, 1), PageTableEntry::NotPresent);
    assert_eq!(levels.step(0, va, 1), PageTableEntry::NotPresent);
}

#[test]
fn contiguous_entries_and_no_translation_bits_change_no_address() {
    const CONTIGUOUS: u64 = 1 << 52;
    const NT: u64 = 1 << 16;
    let levels = of(Granule::Kib4, 48, 48);
    for at in (0x4123_0000..0x4124_0000).step_by(4096) {
        assert_eq!(levels.step(at | 0x713 | CONTIGUOUS, at | 0x123, 1), page(at | 0x123));
    }
    assert_eq!(levels.step(0x4020_0711 | NT, 0x1_0123, 2), page(0x4020_0000 | 0x1_0123));
}

#[test]
fn pages_without_access_rights_are_present_and_swapped_ones_are_not() {
    let levels = of(Granule::Kib4, 48, 48);
    assert_eq!(levels.step(0x4123_4002 | PROT_NONE, 0xabc, 1), page(0x4123_4abc));
    assert_eq!(levels.step(0x4123_4002 | PRESENT_INVALID, 0xabc, 1), page(0x4123_4abc));
    assert_eq!(levels.step(0x4123_4002, 0xabc, 1), PageTableEntry::NotPresent);
    // A swap entry of an old kernel, whose offset happens to set bit 11.
    assert_eq!(levels.step(0x4123_4800, 0xabc, 1), PageTableEntry::NotPresent);
}

/// D8.3.1 and D8.3.2: where the upper bits of 52-bit addresses are.
#[test]
fn physical_addresses_have_52_bits_in_two_forms() {
    let lpa = of(Granule::Kib64, 52, 52);
    assert_eq!(lpa.step(0x0000_1234_5678_a703, 0xffff, 1), page(0xa_1234_5678_ffff));
    assert_eq!(lpa.step(0x0000_1234_5678_a003, 0, 3), table(0xa_1234_5678_0000));
    assert_eq!(lpa.step(0x0000_1234_4000_f701, 0x1fff_ffff, 2), page(0xf_1234_5fff_ffff));
    let lpa2 = of(Granule::Kib4, 52, 52);
    assert_eq!(lpa2.step(0x0003_1234_5678_9703, 0xfff, 1), page(0xf_1234_5678_9fff));
    assert_eq!(lpa2.step(0x0003_1234_5678_9103, 0, 5), table(0x7_1234_5678_9000));
    // Without FEAT_LPA2, bits 9 and 8 are the shareability.
    let plain = of(Granule::Kib4, 48, 48);
    assert_eq!(plain.step(0x0000_1234_5678_9703, 0xfff, 1), page(0x1234_5678_9fff));
}

/// Maps pages into its own tables and walks them as the Arm ARM's pseudocode does, by
/// `addrselecttop` and `addrselectbottom` (`AArch64.S1Walk`).
struct Model {
    levels: Aarch64Levels,
    entries: BTreeMap<(u64, u64), u64>,
    /// The table that each entry leads to.
    children: BTreeMap<(u64, u64), u64>,
}

const ROOT: u64 = 0x10_0000_0000;

impl Model {
    fn encode(&self, address: u64, low: u64) -> u64 {
        let high = address >> 48;
        let address = address & 0xffff_ffff_ffff;
        match self.levels.granule {
            Granule::Kib64 => address | high << 12 | low,
            _ if self.levels.lpa2 => address | (high & 3) << 48 | (high >> 2) << 8 | low,
            _ => address | low,
        }
    }

    fn map(&mut self, va: u64, physical: u64, at_level: u32) {
        let (page_bits, index_bits) =
            (self.levels.granule.bits(), self.levels.granule.index_bits());
        let mut table = ROOT;
        for level in (at_level..=self.levels.top()).rev() {
            let bottom = page_bits + index_bits * (level - 1);
            let top = (bottom + index_bits).min(self.levels.address_bits());
            let index = va >> bottom & ((1 << (top - bottom)) - 1);
            if level == at_level {
                let kind = if level == 1 { 0b11 } else { 0b01 };
                let entry = self.encode(physical, kind);
                self.entries.insert((table, index), entry);
                return;
            }
            let new = ROOT + ((self.children.len() as u64 + 1) << page_bits);
            let child = *self.children.entry((table, index)).or_insert(new);
            self.entries.insert((table, index), self.encode(child, 0b11));
            table = child;
        }
    }

    fn walk(&self, va: u64) -> Option<u64> {
        let mut table = PhysicalAddress(ROOT);
        for level in (1..=self.levels.top()).rev() {
            let at = self.levels.entry_address(table, va, level);
            let entry = *self.entries.get(&(table.0, (at.0 - table.0) / 8))?;
            match self.levels.step(entry, va, level) {
                PageTableEntry::Table(next) => table = next,
                PageTableEntry::Page(physical) => return Some(physical.0),
                PageTableEntry::NotPresent => return None,
            }
        }
        None
    }
}

fn any_levels() -> impl Strategy<Value = Aarch64Levels> {
    prop_oneof![
        Just(of(Granule::Kib4, 39, 39)),
        Just(of(Granule::Kib4, 48, 48)),
        Just(of(Granule::Kib4, 52, 52)),
        Just(of(Granule::Kib16, 36, 36)),
        Just(of(Granule::Kib16, 47, 47)),
        Just(of(Granule::Kib16, 48, 48)),
        Just(of(Granule::Kib16, 52, 52)),
        Just(of(Granule::Kib64, 42, 42)),
        Just(of(Granule::Kib64, 48, 48)),
        Just(of(Granule::Kib64, 52, 48)),
        Just(of(Granule::Kib64, 52, 52)),
    ]
}

proptest! {
    #[test]
    fn walks_agree_with_a_simple_model(
        levels in any_levels(),
        pages: Vec<(u64, u64, bool, u64)>,
    ) {
        let mut model = Model { levels, entries: BTreeMap::new(), children: BTreeMap::new() };
        let wide = matches!(levels.granule, Granule::Kib64) || levels.lpa2;
        let output_bits = if wide { 52 } else { 48 };
        let mut mapped = Vec::new();
        for (index, (va, physical, kernel, offset)) in pages.into_iter().take(8).enumerate() {
            // Every other one is a block. Each has its own eighth of the addresses, for kernel and
            // user addresses alike: both index the model's one root.
            let bytes = levels.bytes(1 + index as u32 % 2);
            let eighth = levels.address_bits() - 3;
            let low = (va & ((1 << eighth) - 1)) | (index as u64) << eighth;
            let high = if kernel { u64::MAX << levels.address_bits() } else { 0 };
            let va = (high | low) & !(bytes - 1);
            let physical = physical & ((1 << output_bits) - 1) & !(bytes - 1);
            model.map(va, physical, 1 + index as u32 % 2);
            mapped.push((va, (physical, bytes, offset & (bytes - 1))));
        }
        for (va, (physical, bytes, offset)) in mapped {
            prop_assert!(levels.is_canonical(va));
            prop_assert_eq!(model.walk(va | offset), Some(physical | offset));
            prop_assert_eq!(model.walk(va | (bytes - 1)), Some(physical | (bytes - 1)));
        }
    }

    #[test]
    fn arbitrary_entries_never_panic(
        levels in any_levels(), entry: u64, va: u64, table: u64, level in 0..9_u32,
    ) {
        let _ = levels.entry_address(PhysicalAddress(table), va, level);
        let _ = levels.bytes(level);
        if let PageTableEntry::Page(physical) = levels.step(entry, va, level) {
            prop_assert_eq!(physical.0 >> 52, 0);
        }
    }
}
