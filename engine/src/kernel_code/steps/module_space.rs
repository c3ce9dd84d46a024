//! The addresses of modules and of other code that the kernel makes at run time.

use core::ops::Range;

use panoptes_decoders::paging::PageTableLevels;

use crate::walk::Kernel;

/// `MODULES_VADDR` (at least, arch/x86/include/asm/pgtable_64_types.h) and `MODULES_END`.
const MODULES: Range<u64> = 0xffff_ffff_a000_0000..0xffff_ffff_ff00_0000;

/// What x86 fills unused executable memory with: a trap.
pub(super) const TRAP: u8 = 0xcc;

/// Whether an address is one of the space of modules, outside of the kernel's image; `false` on
/// machines where that is not known.
pub(super) fn is_in_module_space(kernel: &Kernel, address: u64) -> bool {
    matches!(kernel.space.levels, PageTableLevels::X86_64(_))
        && MODULES.contains(&address)
        && address >= kernel.space.image.end
}
