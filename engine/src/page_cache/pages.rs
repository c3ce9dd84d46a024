//! Finds the places of a file's pages in memory: from the tree's entries through `struct page` to
//! page frames.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::address_space::PageCacheMapping;
use panoptes_decoders::kernel::page::{CachedPage, head_of};
use panoptes_decoders::kernel::xarray::CacheSlot;
use panoptes_decoders::source::ADDRESS_END;

use super::memory::KernelMemory;
use super::tree::{PageTreeCursor, PageTreeEntry, SLOTS_MAX};
use crate::walk::Kernel;

/// Maximum number of pages of a window: the number of slots of a tree node.
pub(super) const WINDOW_PAGES_MAX: usize = SLOTS_MAX;

/// Maximum number of pages of one compound page: 16 GiB in pages of 4 KiB, the largest of any
/// architecture.
pub(super) const COMPOUND_PAGES_MAX: u64 = 1 << 22;

/// Maximum number of empty places that are skipped at a time: all slots of a few nodes.
const SKIPS_MAX: u32 = 256;

/// Maximum number of bits of a physical address (52 on x86-64 and arm64).
const PHYSICAL_BITS: u32 = 52;
const _: () = {
    assert!(SKIPS_MAX.is_multiple_of(SLOTS_MAX as u32), "whole nodes are skipped");
    assert!(1 << PHYSICAL_BITS == ADDRESS_END);
};

/// How a file's pages are found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FileAddressSpace {
    /// `struct address_space *`
    pub(super) mapping: KernelVa,
    /// Whether a page that is not in the tree is zeros, because the file is only in memory.
    pub(super) has_holes: bool,
    /// Size of a huge page of hugetlbfs in pages, as a power of two; 0 for all other files.
    pub(super) huge_order: u32,
}

/// The place of a file's page.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum FilePageLocation {
    /// Not cached, or not yet.
    #[default]
    Missing,
    /// In no place: it reads as zeros.
    Hole,
    At(PhysicalAddress),
}

/// One page of the file while its place is searched.
#[derive(Clone, Copy, Debug, Default)]
struct FilePageLookup {
    slot: CacheSlot,
    /// Its index in the units of the head's index.
    key: u64,
    /// Its distance from the head, where the head does not contain it.
    behind: Option<u64>,
    /// Which of the heads that are read is its head.
    head: u32,
    page: KernelVa,
}

/// Finds the places of one file's pages.
#[derive(Debug)]
pub(super) struct Finder {
    file: FileAddressSpace,
    tree: PageTreeCursor,
    looked: [FilePageLookup; WINDOW_PAGES_MAX],
    heads: [Option<CachedPage>; WINDOW_PAGES_MAX],
}

impl Finder {
    pub(super) fn new() -> Self {
        Self {
            file: FileAddressSpace::default(),
            tree: PageTreeCursor::new(),
            looked: [FilePageLookup::default(); WINDOW_PAGES_MAX],
            heads: [None; WINDOW_PAGES_MAX],
        }
    }

    /// Starts with a file: reads the head of its tree and resets the walk to it.
    pub(super) fn begin(
        &mut self,
        memory: &mut KernelMemory<'_>,
        file: &FileAddressSpace,
    ) -> Result<(), EarlyStop> {
        self.file = *file;
        let layout = &memory.kernel.layouts.address_space;
        let unreadable = EarlyStop::Unreadable { address: file.mapping };
        let mapping = memory.object(file.mapping, &layout.packing).ok_or(unreadable)?;
        self.tree.begin(PageCacheMapping::decode(layout, mapping).head);
        Ok(())
    }

    /// An index between `from` and `end` before which the tree has no entries. Skips only long
    /// empty ranges.
    pub(super) fn skip(
        &mut self,
        memory: &mut KernelMemory<'_>,
        from: u64,
        end: u64,
    ) -> Result<u64, EarlyStop> {
        // Huge pages may have other indices.
        if self.file.huge_order > 0 {
            return Ok(from);
        }
        let mut at = from;
        // The nodes are already read, or there are few more: each node shows which of its slots are
        // empty.
        for _ in 0..SKIPS_MAX {
            let found = self.tree.find(memory, at)?;
            if found.slot != CacheSlot::Empty {
                break;
            }
            if found.end >= end {
                return Ok(end);
            }
            at = found.end;
        }
        Ok(at)
    }

    /// Finds the places of the pages from index `from` on, as many as `places` has.
    pub(super) fn find(
        &mut self,
        memory: &mut KernelMemory<'_>,
        from: u64,
        places: &mut [FilePageLocation],
    ) -> Result<(), EarlyStop> {
        let count = places.len().min(WINDOW_PAGES_MAX);
        for at in 0..count {
            self.looked[at] = self.look_up(memory, from + at as u64)?;
        }
        self.read_heads(memory, count);
        self.place(memory.kernel, places);
        self.check_tails(memory, places);
        Ok(())
    }

    fn look_up(
        &mut self,
        memory: &mut KernelMemory<'_>,
        index: u64,
    ) -> Result<FilePageLookup, EarlyStop> {
        let file = self.file;
        let mut find = |index| self.tree.find(memory, index);
        let plain = |found: PageTreeEntry| FilePageLookup {
            slot: found.slot,
            key: index,
            ..FilePageLookup::default()
        };
        if file.huge_order == 0 {
            return find(index).map(plain);
        }
        // Until v6.7 hugetlbfs counts in huge pages: then an entry is for one index alone. In pages
        // it never is.
        let key = index >> file.huge_order;
        let found = find(key)?;
        let is_page = |found: &PageTreeEntry| matches!(found.slot, CacheSlot::Page(_));
        if is_page(&found) && found.single {
            let behind = Some(index - (key << file.huge_order));
            return Ok(FilePageLookup {
                slot: found.slot,
                key,
                behind,
                ..FilePageLookup::default()
            });
        }
        let found = find(index)?;
        if is_page(&found) && found.single {
            return Ok(FilePageLookup { slot: CacheSlot::Empty, ..plain(found) });
        }
        Ok(plain(found))
    }

    /// Reads the `struct page` of every head, once.
    fn read_heads(&mut self, memory: &mut KernelMemory<'_>, count: usize) {
        let KernelMemory { reader, kernel, .. } = memory;
        let layout = &kernel.layouts.page;
        reader.clear();
        let mut last = KernelVa::NULL;
        for looked in &mut self.looked[..count] {
            let CacheSlot::Page(page) = looked.slot else { continue };
            if (page != last || reader.is_empty())
                && reader.push(&kernel.space, page, &layout.packing).is_none()
            {
                // There is room for one window; a page beyond it counts as missing.
                looked.slot = CacheSlot::Gone;
                continue;
            }
            last = page;
            looked.head = reader.len() as u32 - 1;
        }
        if reader.is_empty() {
            return;
        }
        memory.run();
        for (index, head) in self.heads.iter_mut().enumerate() {
            *head = memory.reader.object(index).map(|bytes| CachedPage::decode(layout, bytes));
        }
    }

    /// Computes the places from the heads.
    fn place(&mut self, kernel: &Kernel, places: &mut [FilePageLocation]) {
        let file = self.file;
        let layout = &kernel.layouts.page;
        let uptodate = kernel.layouts.page_flags.and_then(|flags| flags.uptodate_bit());
        for (looked, place) in self.looked.iter_mut().zip(places) {
            looked.page = KernelVa::NULL;
            *place = match looked.slot {
                CacheSlot::Empty if file.has_holes => FilePageLocation::Hole,
                CacheSlot::Page(address) => {
                    let head = self.heads.get(looked.head as usize).copied().flatten();
                    let page = head.zip(uptodate).and_then(|(head, uptodate)| {
                        let is_head = head_of(address, head.compound_info) == address;
                        let is_ours = head.mapping == file.mapping;
                        let behind = match looked.behind {
                            Some(behind) => (head.index == looked.key).then_some(behind),
                            None => looked.key.checked_sub(head.index),
                        };
                        let behind = behind.filter(|&behind| behind < COMPOUND_PAGES_MAX)?;
                        (is_head && is_ours && head.flags & uptodate != 0)
                            .then(|| address.plus(behind * u64::from(layout.size)))
                    });
                    looked.page = page.unwrap_or_default();
                    page.and_then(|page| frame_of(kernel, page))
                        .map_or(FilePageLocation::Missing, FilePageLocation::At)
                }
                _ => FilePageLocation::Missing,
            };
        }
    }

    /// Checks that the tail pages of compound pages belong to their heads. Those of hugetlbfs are
    /// not checked: most of their structures need not exist
    /// (`CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP`), but the size is known.
    fn check_tails(&mut self, memory: &mut KernelMemory<'_>, places: &mut [FilePageLocation]) {
        let KernelMemory { reader, kernel, .. } = memory;
        let layout = &kernel.layouts.page;
        reader.clear();
        let mut asked = [0_u32; WINDOW_PAGES_MAX];
        for (at, (looked, place)) in self.looked.iter().zip(places.iter_mut()).enumerate() {
            let CacheSlot::Page(head) = looked.slot else { continue };
            if !matches!(place, FilePageLocation::At(_)) || looked.page == head {
                continue;
            }
            if self.file.huge_order > 0 {
                let behind = looked.page.0.wrapping_sub(head.0) / u64::from(layout.size.max(1));
                if behind >> self.file.huge_order != 0 {
                    *place = FilePageLocation::Missing;
                }
                continue;
            }
            match reader.push(&kernel.space, looked.page, &layout.packing) {
                Some(object) => asked[object as usize] = at as u32,
                None => *place = FilePageLocation::Missing,
            }
        }
        if reader.is_empty() {
            return;
        }
        memory.run();
        for (object, &at) in asked.iter().enumerate().take(memory.reader.len()) {
            let looked = &self.looked[at as usize];
            let info = memory.reader.object(object).map(|bytes| {
                let page = CachedPage::decode(layout, bytes);
                head_of(looked.page, page.compound_info)
            });
            if info.map(CacheSlot::Page) != Some(looked.slot) {
                places[at as usize] = FilePageLocation::Missing;
            }
        }
    }
}

/// The page frame of a `struct page` (`page_to_pfn`, include/asm-generic/memory_model.h, with
/// `CONFIG_SPARSEMEM_VMEMMAP`).
fn frame_of(kernel: &Kernel, page: KernelVa) -> Option<PhysicalAddress> {
    let space = &kernel.space;
    let bytes = u64::from(kernel.layouts.page.size);
    if space.vmemmap_base == 0 || bytes == 0 {
        return None;
    }
    let distance = page.0.wrapping_sub(space.vmemmap_base);
    let address = (distance / bytes).checked_mul(space.levels.page_bytes())?;
    (distance.is_multiple_of(bytes) && address >> PHYSICAL_BITS == 0)
        .then_some(PhysicalAddress(address))
}
