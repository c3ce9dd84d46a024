//! The addresses of modules and of other code that the kernel makes at run time.

use core::ops::Range;

use panoptes_decoders::paging::PageTableLevels;

use crate::walk::Kernel;

/// `MODULES_VADDR` (at least, arch/x86/include/asm/pgtable_64_types.h) and `MODULES_END`.
const X86_MODULES: Range<u64> = 0xffff_ffff_a000_0000..0xffff_ffff_ff00_0000;

/// What x86 fills unused executable memory with: a trap.
pub(super) const TRAP: u8 = 0xcc;

/// Binary logarithm of the bytes of a `struct page`, which determines where the map of pages begins
/// (`VMEMMAP_START`, arch/arm64/include/asm/memory.h).
const PAGE_STRUCT_BITS: u32 = 6;
/// Kernels of arm64 for longer addresses also run on processors with these (`VA_BITS_MIN`).
const ARM64_BITS_MIN: u32 = 48;

/// Whether an address may be one of code in the space of modules: outside of the kernel's image. On
/// arm64, code of BPF is anywhere in the memory of `vmalloc`, which has an upper part of the space.
pub(super) fn is_in_module_space(kernel: &Kernel, address: u64) -> bool {
    let space = &kernel.space;
    match space.levels {
        PageTableLevels::X86_64(_) => X86_MODULES.contains(&address) && address >= space.image.end,
        PageTableLevels::Aarch64(levels) => {
            let bits = levels.address_bits().min(ARM64_BITS_MIN);
            let pages = bits + PAGE_STRUCT_BITS - space.levels.page_bytes().ilog2();
            (u64::MAX << (bits - 1)..u64::MAX << pages).contains(&address)
                && address.is_multiple_of(4)
                && !space.image.contains(&address)
                && !space.direct_map.contains(&address)
        }
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::paging::aarch64::{Aarch64Levels, Granule};

    use super::super::testing::Scene;
    use super::*;

    #[test]
    fn code_of_arm64_is_in_the_memory_of_vmalloc() {
        let mut scene = Scene::new();
        let of = |granule, bits| {
            PageTableLevels::Aarch64(Aarch64Levels::new(granule, bits, bits).unwrap())
        };
        // arch/arm64/include/asm/memory.h with 4 KiB, 48 and 39 bits, and with 64 KiB and 52 bits.
        for (levels, start, end) in [
            (of(Granule::Kib4, 48), 0xffff_8000_0000_0000, 0xffff_fc00_0000_0000),
            (of(Granule::Kib4, 39), 0xffff_ffc0_0000_0000, 0xffff_fffe_0000_0000),
            (of(Granule::Kib64, 52), 0xffff_8000_0000_0000, 0xffff_ffc0_0000_0000_u64),
        ] {
            scene.kernel.space.levels = levels;
            scene.kernel.space.image = start + 0x1000..start + 0x2000;
            scene.kernel.space.direct_map = 0..start;
            let is_in = |address| is_in_module_space(&scene.kernel, address);
            assert!(is_in(start) && is_in(end - 4) && is_in(start + 0x2000), "{start:#x}");
            assert!(
                !is_in(start - 4) && !is_in(end) && !is_in(start + 0x1000) && !is_in(start + 2)
            );
        }
    }
}
