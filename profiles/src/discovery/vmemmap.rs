//! Finds the start of the array of `struct page`.
//!
//! `vmemmap_base` holds it, and VMCOREINFO has it since v6.9 (on arm64 since v6.0, by other names).
//! If neither is known: the array begins at some mapped GiB of the kernel's half. With the right
//! one, the page of any slab object has a `struct page` whose slab cache has a name.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::page::head_of;
use panoptes_decoders::layout::{Members, c_string};
use panoptes_decoders::paging::{KernelSpace, PageTableEntry, PageTableLevels, x86_64};
use panoptes_decoders::source::PAGE_BYTES;

use crate::discovery::candidate::KernelCandidate;
use crate::discovery::{arm64, page_tables};
use crate::memory::KernelMemory;

/// Granularity by which KASLR moves the direct map and vmemmap (`PUD_SIZE`, arch/x86/mm/kaslr.c).
pub(super) const REGION_ALIGNMENT: u64 = 1 << 30;

/// Size of a `struct page` if it is unknown.
const PAGE_STRUCT_BYTES: u64 = 64;

/// Maximum number of third-level tables that are read: the kernel's half has few, besides one for
/// each 512 GiB of the direct map.
const TABLES_MAX: u32 = 4096;

/// Longest accepted name of a slab cache.
const CACHE_NAME_BYTES: usize = 32;

/// Offsets of the fields that identify a slab page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlabFields {
    page_bytes: u64,
    compound_head: u64,
    slab_cache: u64,
    name: u64,
}

impl SlabFields {
    /// Looks the fields up. `struct slab` exists since Linux commit d122019bf061 ("mm: Split slab
    /// into its own type") (in v5.17); before that it was a part of `struct page`.
    pub(crate) fn bind(members: &dyn Members) -> Option<Self> {
        let offset = |structure: &str, path: &str| {
            members.member(structure, path).map(|member| u64::from(member.offset))
        };
        Some(Self {
            page_bytes: u64::from(members.size_of("page")?).max(1),
            // Renamed in v7.1, when it became a mask if the size of `struct page` is a power of
            // two.
            compound_head: offset("page", "compound_info")
                .or_else(|| offset("page", "compound_head"))?,
            slab_cache: offset("slab", "slab_cache").or_else(|| offset("page", "slab_cache"))?,
            name: offset("kmem_cache", "name")?,
        })
    }
}

/// Finds the start of the array; zero if it remains unknown.
pub(crate) fn base(
    memory: &mut KernelMemory<'_>,
    candidate: &KernelCandidate,
    space: &KernelSpace,
    fields: Option<SlabFields>,
    object: KernelVa,
) -> u64 {
    let info = candidate.vmcoreinfo.as_ref();
    let page_bytes = fields
        .map(|fields| fields.page_bytes)
        .or_else(|| info.and_then(|info| info.size("page")))
        .filter(|bytes| (32..=256).contains(bytes))
        .unwrap_or(PAGE_STRUCT_BYTES);
    let named = candidate.symbols.vmemmap_base.and_then(|at| memory.read_u64(at).ok());
    let claimed = info.and_then(|info| match space.levels {
        PageTableLevels::X86_64(_) => info.symbol("vmemmap").filter(|&base| is_aligned(base)),
        PageTableLevels::Aarch64(levels) => arm64::vmemmap(info, levels, page_bytes),
    });
    let named = named.filter(|&base| is_aligned(base));
    let frame = candidate.root.0 / space.levels.page_bytes();
    let known = [named, claimed].into_iter().flatten().find(|&base| {
        let page = KernelVa(base.wrapping_add(frame * page_bytes));
        page.0 >> 63 == 1 && memory.translate(page).is_ok()
    });
    known.or_else(|| search(memory, space, fields?, object)).unwrap_or(0)
}

const fn is_aligned(base: u64) -> bool {
    base >> 63 == 1 && base.is_multiple_of(REGION_ALIGNMENT)
}

/// Tries every mapped GiB after the direct map. On arm64 page frame 0 has no `struct page` to find,
/// so only VMCOREINFO can have the address.
fn search(
    memory: &mut KernelMemory<'_>,
    space: &KernelSpace,
    fields: SlabFields,
    object: KernelVa,
) -> Option<u64> {
    let PageTableLevels::X86_64(levels) = space.levels else { return None };
    let frame = memory.translate(object).ok()?.physical.0 / PAGE_BYTES;
    let behind = space.direct_map.end.max(space.direct_map.start);
    mapped_regions(memory, space, levels)
        .into_iter()
        .filter(|&base| base >= behind && base < space.image.start)
        .find(|&base| is_slab_page(memory, fields, base, frame).is_some())
}

/// Whether a frame's `struct page`, in an array at `base`, belongs to a slab cache with a name.
fn is_slab_page(
    memory: &mut KernelMemory<'_>,
    fields: SlabFields,
    base: u64,
    frame: u64,
) -> Option<()> {
    let at = KernelVa(base.wrapping_add(frame.checked_mul(fields.page_bytes)?));
    let head = memory.read_u64(at.plus(fields.compound_head)).ok()?;
    let page = head_of(at, head);
    if page.0 < base || page > at || !(page.0 - base).is_multiple_of(fields.page_bytes) {
        return None;
    }
    let cache = memory.read_pointer(page.plus(fields.slab_cache)).ok()?;
    let name = memory.read_pointer(cache.plus(fields.name)).ok()?;
    let mut text = [0; CACHE_NAME_BYTES];
    memory.read(name, &mut text).ok()?;
    let text = c_string(&text);
    (text.len() > 2 && text.len() < CACHE_NAME_BYTES && text.iter().all(u8::is_ascii_graphic))
        .then_some(())
}

/// Every GiB of the kernel's half with a mapping, ascending.
fn mapped_regions(
    memory: &mut KernelMemory<'_>,
    space: &KernelSpace,
    levels: x86_64::X86Levels,
) -> Vec<u64> {
    // The upper half of the top table, sign-extended.
    let first = match levels {
        x86_64::X86Levels::Five => 0xff00_0000_0000_0000,
        x86_64::X86Levels::Four => 0xffff_8000_0000_0000,
    };
    let mut tables = vec![(first, space.root, levels.top(), 256_u64)];
    let mut regions = Vec::new();
    let mut read = 0;
    while let Some((base, table, level, from)) = tables.pop() {
        read += 1;
        if read > TABLES_MAX {
            break;
        }
        let table = x86_64::entry_address(table, 0, 1);
        let Some(page) = page_tables::read_page(memory.source(), table) else { continue };
        let mut below = Vec::new();
        for index in from..512 {
            let address = base + ((index - from) << (12 + 9 * (level - 1)));
            match x86_64::step(page_tables::entry(&page, index as usize), address, level) {
                PageTableEntry::NotPresent => {}
                _ if level == 3 => regions.push(address),
                PageTableEntry::Table(next) => below.push((address, next, level - 1, 0)),
                PageTableEntry::Page(_) => {}
            }
        }
        // A stack: lower addresses are read first.
        tables.extend(below.into_iter().rev());
    }
    regions
}
