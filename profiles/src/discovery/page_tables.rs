//! The third method: finds a kernel's page tables by their shape, if no VMCOREINFO is valid.
//!
//! In `level3_kernel_pgt` (arch/x86/kernel/head_64.S) all but the last two of 512 entries are
//! empty: entry 510 leads to the image's own table of large pages, 511 to the fixmap's. The tables
//! above are near it in the same image, and their last entries lead down to it. So one sweep for
//! these shapes finds the image, and the image leads to the rest.

use std::collections::HashMap;

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::paging::x86_64::{X86Levels, step};
use panoptes_decoders::paging::{self, PageTableEntry};
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use crate::discovery::candidate::{
    KERNEL_IMAGE_BYTES, KernelCandidate, LARGE_PAGE_BYTES, kernel_offset,
};
use crate::memory::{KernelMemory, START_KERNEL_MAP};
use crate::report::{CandidateRefusal, KernelEvidence};
use crate::sweep::Chunk;
use crate::symbols::Symbols;
use crate::vmcoreinfo::{find_banner, find_release};

/// Maximum number of pages with the lower table's shape that are tried: a kernel has one, a
/// rebooted machine a few.
const IMAGES_MAX: usize = 256;

/// Maximum number of possible upper tables: every process has one, so busy machines have thousands.
const PARENTS_MAX: usize = 1 << 20;

/// Largest distance of the top table from `level3_kernel_pgt`: both are in the image's data.
const DISTANCE_MAX: u64 = 64 << 20;

/// Bytes of an image that are searched for its banner, which is among the constants.
const BANNER_BYTES_MAX: u64 = 128 << 20;

/// `_KERNPG_TABLE` (arch/x86/include/asm/pgtable_types.h) and its equivalent for user tables:
/// present, writable, accessed, dirty.
const TABLE_FLAGS: u64 = 0x63;

/// Bits of an entry that may differ between tables: user, and those that the hardware ignores.
const TABLE_FLAGS_ANY: u64 = 0x4 | 0xe00;

type TablePage = [u8; PAGE_BYTES as usize];

/// The result of a sweep for page tables.
#[derive(Debug, Default)]
pub(crate) struct PageTableSweep {
    /// Pages with the shape of `level3_kernel_pgt`, and the target of their entry 510.
    pub(crate) images: Vec<(PhysicalAddress, PhysicalAddress)>,
    /// Pages by the table that their last entry leads to.
    parents: HashMap<PhysicalAddress, Vec<PhysicalAddress>>,
    /// Address and release of the first banner of a kernel.
    pub(crate) banner: Option<(PhysicalAddress, String)>,
}

/// Sweeps all memory.
pub(crate) fn find(source: &mut dyn MemorySource) -> PageTableSweep {
    let mut found = PageTableSweep::default();
    let mut parents = 0;
    let mut chunk = Chunk::new();
    let mut at = 0;
    while let Some((start, bytes)) = chunk.next(source, &mut at, u64::MAX) {
        if found.banner.is_none()
            && let Some((offset, release)) = find_banner(bytes)
        {
            found.banner = Some((PhysicalAddress(start + offset as u64), release.to_owned()));
        }
        for (index, page) in bytes.as_chunks::<{ PAGE_BYTES as usize }>().0.iter().enumerate() {
            let Some(last) = table(page, 511) else { continue };
            let address = PhysicalAddress(start + index as u64 * PAGE_BYTES);
            if parents < PARENTS_MAX {
                found.parents.entry(last).or_default().push(address);
                parents += 1;
            }
            if let Some(level2) = table(page, 510)
                && page[..510 * 8].iter().all(|&byte| byte == 0)
                && found.images.len() < IMAGES_MAX
            {
                found.images.push((address, level2));
            }
        }
    }
    found
}

/// Finds the tables above and the image below one of the found pages, and reads the kernel's
/// release from the image.
pub(crate) fn prove(
    source: &mut dyn MemorySource,
    found: &PageTableSweep,
    (level3, level2): (PhysicalAddress, PhysicalAddress),
) -> Result<KernelCandidate, CandidateRefusal> {
    let elsewhere = |what| CandidateRefusal::PageTables { what, fault: None };
    let (start, image_physical) =
        image_start(source, level2).ok_or(elsewhere("the image's first page"))?;
    let (root, levels) = found.top(source, level3).ok_or(elsewhere("the top page table"))?;
    let levels = paging::PageTableLevels::X86_64(levels);
    let mut memory = KernelMemory::new(source, root, levels);
    let first = memory
        .translate(KernelVa(start))
        .map_err(|fault| CandidateRefusal::PageTables { what: "the image", fault: Some(fault) })?;
    if first.physical != image_physical {
        return Err(elsewhere("the image"));
    }
    let mut candidate = KernelCandidate {
        trace: KernelEvidence::PageTables,
        at: level3,
        release: String::new(),
        build_id: None,
        kernel_offset: kernel_offset(start),
        root,
        levels,
        moved: 0,
        image: start..START_KERNEL_MAP + KERNEL_IMAGE_BYTES,
        image_physical,
        vmcoreinfo: None,
        symbols: Symbols { stext: Some(KernelVa(start)), ..Symbols::default() },
        is_assumed: false,
        all_symbols: false,
    };
    candidate.refine_image(&mut memory);
    candidate.release =
        release(&mut memory, &candidate).ok_or(CandidateRefusal::Lacks("release in its image"))?;
    Ok(candidate)
}

impl PageTableSweep {
    /// The top table above `level3`: with four levels the page whose last entry leads to `level3`,
    /// with five the parent of that page.
    fn top(
        &self,
        source: &mut dyn MemorySource,
        level3: PhysicalAddress,
    ) -> Option<(PhysicalAddress, X86Levels)> {
        // With five levels `level4_kernel_pgt` is in the image too and has a parent there.
        for parent in self.parents_near(level3) {
            let above = self.parents_near(parent);
            for grandparent in above.filter(|&grandparent| grandparent != parent) {
                if has_direct_map(source, grandparent) {
                    return Some((grandparent, X86Levels::Five));
                }
            }
        }
        self.parents_near(level3)
            .find(|&parent| has_direct_map(source, parent))
            .map(|parent| (parent, X86Levels::Four))
    }

    /// Pages near `child` whose last entry leads to it, the 16 nearest.
    fn parents_near(&self, child: PhysicalAddress) -> impl Iterator<Item = PhysicalAddress> {
        let all = self.parents.get(&child).map_or(&[][..], Vec::as_slice);
        let near = move |parent: &PhysicalAddress| parent.0.abs_diff(child.0) <= DISTANCE_MAX;
        let mut near: Vec<PhysicalAddress> = all.iter().copied().filter(near).collect();
        near.sort_by_key(|parent| parent.0.abs_diff(child.0));
        near.truncate(16);
        near.into_iter()
    }
}

/// Virtual and physical address of the first large page that the image's table maps.
fn image_start(
    source: &mut dyn MemorySource,
    level2: PhysicalAddress,
) -> Option<(u64, PhysicalAddress)> {
    let page = read_page(source, level2)?;
    (0..512).find_map(|index| {
        let address = START_KERNEL_MAP + index * LARGE_PAGE_BYTES;
        let physical = match step(entry(&page, index as usize), address, 2) {
            PageTableEntry::Page(physical) => physical,
            // Split into small pages, for their permissions: the first one has the address.
            PageTableEntry::Table(level1) => {
                match step(entry(&*read_page(source, level1)?, 0), address, 1) {
                    PageTableEntry::Page(physical) => physical,
                    _ => return None,
                }
            }
            PageTableEntry::NotPresent => return None,
        };
        Some((address, physical))
    })
}

/// Whether a table has entries in the upper half besides the last: the direct map and similar. Of
/// the processes' tables none is in the image, but an early table without these entries is.
fn has_direct_map(source: &mut dyn MemorySource, at: PhysicalAddress) -> bool {
    read_page(source, at).is_some_and(|page| (256..511).any(|index| table(&page, index).is_some()))
}

/// The release in the image's banner.
fn release(memory: &mut KernelMemory<'_>, candidate: &KernelCandidate) -> Option<String> {
    let start = candidate.image.start;
    let end = candidate.image.end.min(start + BANNER_BYTES_MAX);
    (start..end).step_by(LARGE_PAGE_BYTES as usize).find_map(|address| {
        let length = LARGE_PAGE_BYTES.min(end - address) as usize;
        // A banner across the border is read with the previous piece.
        let piece = memory.read_prefix(KernelVa(address), length + 128).ok()?;
        find_release(&piece).map(str::to_owned)
    })
}

pub(super) fn read_page(
    source: &mut dyn MemorySource,
    at: PhysicalAddress,
) -> Option<Box<TablePage>> {
    let mut page = Box::new([0; PAGE_BYTES as usize]);
    source.read_exact(at, page.as_mut_slice()).then_some(page)
}

pub(super) fn entry(page: &TablePage, index: usize) -> u64 {
    page.as_chunks().0.get(index).copied().map_or(0, u64::from_le_bytes)
}

/// The table that an entry leads to; `None` for other entries.
fn table(page: &TablePage, index: usize) -> Option<PhysicalAddress> {
    let entry = entry(page, index);
    if entry & 0xfff & !TABLE_FLAGS_ANY != TABLE_FLAGS {
        return None;
    }
    match step(entry, 0, 4) {
        PageTableEntry::Table(table) if table.0 != 0 => Some(table),
        _ => None,
    }
}
