//! The third road: a kernel's page tables by their shape, when no VMCOREINFO holds.
//!
//! In `level3_kernel_pgt` (arch/x86/kernel/head_64.S) all but the last two of 512 entries are empty: entry
//! 510 leads to the image's own table of large pages, 511 to the fixmap's. The tables above lie near, in
//! the same image. So a sweep for that shape finds the image, and the image the rest.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::paging::x86_64::{Levels, Step, step};
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use crate::discovery::candidate::{
    Candidate, KERNEL_IMAGE_BYTES, LARGE_PAGE_BYTES, START_KERNEL_MAP, kernel_offset,
};
use crate::memory::KernelMemory;
use crate::report::{Refusal, Trace};
use crate::sweep::Chunk;
use crate::symbols::Symbols;
use crate::vmcoreinfo::is_release;

/// Most pages of that shape that are kept.
const FOUND_MAX: usize = 4096;

/// Largest distance of the top table from `level3_kernel_pgt`: both lie in the image's data.
const DISTANCE_MAX: u64 = 64 << 20;

/// How the kernel's version begins (init/version.c, `linux_banner`).
const BANNER: &[u8] = b"Linux version ";

/// A page shaped like `level3_kernel_pgt`, with what leads there.
#[derive(Debug)]
pub(crate) struct Found {
    level3: PhysicalAddress,
    level2: PhysicalAddress,
}

impl Found {
    pub(crate) const fn at(&self) -> PhysicalAddress {
        self.level3
    }
}

/// Sweeps all memory for pages of that shape.
pub(crate) fn find<S: MemorySource + ?Sized>(source: &mut S) -> Vec<Found> {
    let mut found = Vec::new();
    let mut chunk = Chunk::new();
    let mut at = 0;
    while let Some((start, bytes)) = chunk.next(source, &mut at, u64::MAX) {
        for (index, page) in bytes.as_chunks::<{ PAGE_BYTES as usize }>().0.iter().enumerate() {
            let level3 = PhysicalAddress(start + index as u64 * PAGE_BYTES);
            if let (Some(level2), Some(_)) = (table(page, 510), table(page, 511))
                && page[..510 * 8].iter().all(|&byte| byte == 0)
                && found.len() < FOUND_MAX
            {
                found.push(Found { level3, level2 });
            }
        }
    }
    found
}

/// Finds the tables above and the image below, and reads the kernel's release from the image.
pub(crate) fn prove<S: MemorySource + ?Sized>(
    source: &mut S,
    found: &Found,
) -> Result<Candidate, Refusal> {
    let elsewhere = |what| Refusal::PageTables { what, fault: None };
    let (start, image_physical) =
        image_start(source, found.level2).ok_or(elsewhere("the image's first page"))?;
    let (root, levels) = top(source, found.level3).ok_or(elsewhere("the top page table"))?;
    let mut memory = KernelMemory::new(source, root, levels);
    let first = memory
        .translate(KernelVa(start))
        .map_err(|fault| Refusal::PageTables { what: "the image", fault: Some(fault) })?;
    if first.physical != image_physical {
        return Err(elsewhere("the image"));
    }
    let mut candidate = Candidate {
        trace: Trace::PageTables,
        at: found.level3,
        release: String::new(),
        build_id: None,
        kernel_offset: kernel_offset(start),
        root,
        levels,
        image: start..START_KERNEL_MAP + KERNEL_IMAGE_BYTES,
        image_physical,
        vmcoreinfo: None,
        symbols: Symbols { stext: Some(KernelVa(start)), ..Symbols::default() },
    };
    candidate.refine_image(&mut memory);
    candidate.release =
        release(&mut memory, &candidate).ok_or(Refusal::Lacks("a release in its image"))?;
    Ok(candidate)
}

/// The first large page that the image's table maps: its virtual and its physical address.
fn image_start<S: MemorySource + ?Sized>(
    source: &mut S,
    level2: PhysicalAddress,
) -> Option<(u64, PhysicalAddress)> {
    let page = read_page(source, level2)?;
    (0..512).find_map(|index| {
        let address = START_KERNEL_MAP + index * LARGE_PAGE_BYTES;
        let physical = match step(entry(&page, index as usize), address, 2) {
            Step::Page(physical) => physical,
            // Split into small pages, for their permissions: the first says where.
            Step::Table(level1) => match step(entry(&*read_page(source, level1)?, 0), address, 1) {
                Step::Page(physical) => physical,
                _ => return None,
            },
            Step::NotPresent => return None,
        };
        Some((address, physical))
    })
}

/// The table whose last entry leads to `level3`: the top one with four levels; with five the one below
/// the top.
fn top<S: MemorySource + ?Sized>(
    source: &mut S,
    level3: PhysicalAddress,
) -> Option<(PhysicalAddress, Levels)> {
    let parents = parents(source, level3);
    // With five levels `level4_kernel_pgt` lies in the image too and has a parent there.
    for &parent in &parents {
        for grandparent in self::parents(source, parent) {
            if grandparent != parent && has_direct_map(source, grandparent) {
                return Some((grandparent, Levels::Five));
            }
        }
    }
    parents
        .into_iter()
        .find(|&parent| has_direct_map(source, parent))
        .map(|parent| (parent, Levels::Four))
}

/// Pages near `child` whose last entry leads to it.
fn parents<S: MemorySource + ?Sized>(
    source: &mut S,
    child: PhysicalAddress,
) -> Vec<PhysicalAddress> {
    let mut found = Vec::new();
    let mut chunk = Chunk::new();
    let mut at = child.0.saturating_sub(DISTANCE_MAX) & !(PAGE_BYTES - 1);
    let end = child.0.saturating_add(DISTANCE_MAX);
    while let Some((start, bytes)) = chunk.next(source, &mut at, end) {
        for (index, page) in bytes.as_chunks::<{ PAGE_BYTES as usize }>().0.iter().enumerate() {
            if table(page, 511) == Some(child) && found.len() < 16 {
                found.push(PhysicalAddress(start + index as u64 * PAGE_BYTES));
            }
        }
    }
    found
}

/// Whether a table has entries in the upper half besides the last: the direct map and its kind. Only
/// the kernel's own top table lies in the image, but an early one, without them, lies there too.
fn has_direct_map<S: MemorySource + ?Sized>(source: &mut S, at: PhysicalAddress) -> bool {
    read_page(source, at).is_some_and(|page| (256..511).any(|index| table(&page, index).is_some()))
}

/// The release that the image's banner gives.
fn release<S: MemorySource + ?Sized>(
    memory: &mut KernelMemory<'_, S>,
    candidate: &Candidate,
) -> Option<String> {
    let mut address = candidate.image.start;
    while address < candidate.image.end {
        let length = LARGE_PAGE_BYTES.min(candidate.image.end - address) as usize;
        // A banner across the border is read with the piece before it.
        let piece = memory.read_prefix(KernelVa(address), length + 128).unwrap_or_default();
        for offset in memchr::memmem::find_iter(&piece, BANNER) {
            let text = &piece[offset + BANNER.len()..];
            let end = memchr::memchr(b' ', text).unwrap_or(0);
            // The kernel's format strings have the same beginning and then no release.
            if let Ok(text) = str::from_utf8(&text[..end])
                && is_release(text)
            {
                return Some(text.to_owned());
            }
        }
        address += LARGE_PAGE_BYTES;
    }
    None
}

fn read_page<S: MemorySource + ?Sized>(source: &mut S, at: PhysicalAddress) -> Option<Box<Page>> {
    let mut page = Box::new([0; PAGE_BYTES as usize]);
    source.read_exact(at, page.as_mut_slice()).then_some(page)
}

/// A page's bytes.
type Page = [u8; PAGE_BYTES as usize];

fn entry(page: &Page, index: usize) -> u64 {
    page.as_chunks().0.get(index).copied().map_or(0, u64::from_le_bytes)
}

/// Where the table that an entry leads to lies; `None` for what is no such entry.
fn table(page: &Page, index: usize) -> Option<PhysicalAddress> {
    match step(entry(page, index), 0, 4) {
        Step::Table(table) if table.0 != 0 => Some(table),
        _ => None,
    }
}
