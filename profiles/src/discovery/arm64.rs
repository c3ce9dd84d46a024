//! The addresses in VMCOREINFO that differ on arm64. `arm64_moves.rs` finds the start of memory.

use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::paging::PageTableLevels;
use panoptes_decoders::paging::aarch64::{self, Granule};

use crate::report::CandidateRefusal;
use crate::vmcoreinfo::Vmcoreinfo;

/// Alignment of the image's sections (`SEGMENT_ALIGN`, arch/arm64/include/asm/memory.h).
pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;

/// Largest image that is accepted; usual are 30 to 50 MB.
pub(crate) const IMAGE_BYTES_MAX: u64 = 256 << 20;

/// The page-table levels, by `VA_BITS`, `TCR_EL1_T1SZ` and the page size.
pub(crate) fn levels(info: &Vmcoreinfo) -> Result<PageTableLevels, CandidateRefusal> {
    let number = |name: &str| info.number(name).and_then(|number| u32::try_from(number).ok());
    let built = number("VA_BITS").ok_or(CandidateRefusal::Lacks("VA_BITS in VMCOREINFO"))?;
    let actual = match number("TCR_EL1_T1SZ") {
        Some(size) => 64_u32
            .checked_sub(size)
            .ok_or(CandidateRefusal::Lacks("valid TCR_EL1_T1SZ in VMCOREINFO"))?,
        None => built,
    };
    info.page_size()
        .and_then(Granule::of_page_bytes)
        .and_then(|granule| aarch64::Aarch64Levels::new(granule, built, actual))
        .map(PageTableLevels::Aarch64)
        .ok_or(CandidateRefusal::Lacks("valid page size and address size in VMCOREINFO"))
}

/// Start of the image: one segment with the head precedes the code (`_text`, `.head.text`,
/// arch/arm64/kernel/vmlinux.lds.S).
pub(crate) const fn image_start(stext: u64) -> u64 {
    stext.saturating_sub(SEGMENT_BYTES)
}

/// The direct map of the memory in `regions`, whose addresses are `distance` above the physical
/// ones. It is below the image (arch/arm64/include/asm/memory.h, since v5.4).
pub(crate) fn direct_map(
    regions: &[Range<u64>],
    distance: u64,
    image: &Range<u64>,
) -> Option<(Range<u64>, PhysicalAddress)> {
    let first = regions.first()?.start;
    let last = regions.last()?.end;
    let start = first.wrapping_add(distance);
    let end = start.checked_add(last.checked_sub(first)?)?.min(image.start);
    (start >> 63 == 1 && start < end).then_some((start..end, PhysicalAddress(first)))
}

/// The distance of the direct map from the physical addresses. The map begins at `PAGE_OFFSET`, the
/// lowest address of the kernel's half, with what is at `PHYS_OFFSET`
/// (arch/arm64/include/asm/memory.h, since v5.4).
pub(crate) fn direct_map_distance(info: &Vmcoreinfo) -> Option<u64> {
    let bits = info.number("VA_BITS").filter(|bits| (36..=52).contains(bits))?;
    let page_offset = u64::MAX << bits;
    Some(page_offset.wrapping_sub(info.number("PHYS_OFFSET")? as u64))
}

/// Address that the `struct page` of page frame 0 would have. `VMEMMAP_START` is that of the frame
/// at `PHYS_OFFSET` (`vmemmap`, arch/arm64/include/asm/pgtable.h).
pub(crate) fn vmemmap(
    info: &Vmcoreinfo,
    levels: aarch64::Aarch64Levels,
    page_bytes: u64,
) -> Option<u64> {
    let start = info.number("VMEMMAP_START")? as u64;
    // `memstart_addr` is signed: KASLR can move it below 0.
    let frame = info.number("PHYS_OFFSET")? / levels.bytes(1) as i64;
    Some(start.wrapping_sub((frame as u64).wrapping_mul(page_bytes)))
}
