//! The heap's first page of a process, as its `struct page` shows it.
//!
//! The kernel takes the array of `struct page` from the top of memory while it starts
//! (`memblock_alloc`, mm/memblock.c), so a copy has it last. It keeps there of which address space,
//! and where in it, each anonymous page is. Where a heap begins is random for each program that is
//! executed (`arch_randomize_brk`), so a page with that address is the process's own as long as it
//! lives.

use panoptes_decoders::address::{KernelVa, UserVa};
use panoptes_decoders::kernel::page::CachedPage;
use panoptes_decoders::source::PAGE_BYTES;

use super::super::snapshot::MmRow;
use super::Probe;
use panoptes_tables::{Index, Rows};

/// `PAGE_MAPPING_ANON` (include/linux/page-flags.h): `mapping` leads to a `struct anon_vma`.
const ANONYMOUS: u64 = 1;
/// The bits of `mapping` that are no part of an address (`PAGE_MAPPING_FLAGS`).
const MAPPING_FLAGS: u64 = 3;

/// Pages at the beginning of a heap of which the first one in memory is looked at.
const PAGES_MAX: usize = 4;
/// Address spaces with the same heap that are compared.
const ALIKE_MAX: usize = 64;

impl Probe<'_, '_> {
    /// Notes the `struct page` of a page at the beginning of the heap, if that is the process's
    /// own. A process that was forked and has executed nothing has the same heap as others, and
    /// shares with them the pages that none of them has written to.
    ///
    /// If the process ended, its `mm_struct` may be another one's by now, unless something that was
    /// copied later shows the process, or it has the name of the program (`is_program`).
    pub(super) fn look_at_heap(&mut self, mms: &Rows<MmRow>, mm: Index<MmRow>, is_program: bool) {
        let mm = &mms[mm];
        let is_own = self.page(mm.address).is_some_and(|at| self.evidence.is_alive_at(at));
        if mm.heap.is_empty() || !is_own && !is_program {
            return;
        }
        // The first page may be one of the program's data, which end in it, or a guard.
        let start = mm.heap.start.next_multiple_of(PAGE_BYTES);
        for page in (start..mm.heap.end).step_by(PAGE_BYTES as usize).take(PAGES_MAX) {
            if let Some(entry) = self.page_struct_of(mm.pgd, UserVa(page)) {
                if !self.is_shared(mms, mm, page, entry) {
                    self.look_at_page(entry, page / PAGE_BYTES);
                }
                return;
            }
        }
    }

    /// Whether another address space with the same heap may have the same page.
    fn is_shared(&mut self, mms: &Rows<MmRow>, mm: &MmRow, page: u64, entry: KernelVa) -> bool {
        let others = mms.iter().filter(|other| other.address != mm.address);
        let alike = others.filter(|other| other.heap.start == mm.heap.start);
        for (number, other) in alike.enumerate() {
            let theirs = self.page_struct_of(other.pgd, UserVa(page));
            // A page of a process that ended may be the same page of another one by now.
            if self.is_young() || number >= ALIKE_MAX || theirs.is_none_or(|it| it == entry) {
                return true;
            }
        }
        false
    }

    /// Notes a `struct page` if it is that of an anonymous page at this address, in pages.
    fn look_at_page(&mut self, entry: KernelVa, address: u64) {
        let layout = &self.memory.kernel.layouts.page;
        self.reader.clear();
        self.reader.push(&self.memory.kernel.space, entry, &layout.packing);
        self.memory.run(self.reader);
        let Some(page) = self.reader.object(0).map(|bytes| CachedPage::decode(layout, bytes))
        else {
            return;
        };
        let is_anonymous = page.mapping.0 & MAPPING_FLAGS == ANONYMOUS;
        if is_anonymous
            && page.index == address
            && let Some(at) = self.reader.physical(0)
        {
            self.evidence.shows.add(at.0 / PAGE_BYTES);
        }
    }

    /// Address of the `struct page` of a user page.
    fn page_struct_of(&mut self, pgd: KernelVa, at: UserVa) -> Option<KernelVa> {
        let space = &self.memory.kernel.space;
        let root = space.linear(pgd)?;
        self.reader.clear();
        self.reader.push_user_page(space.levels, root, at)?;
        self.memory.run(self.reader);
        self.reader.object(0)?;
        let frame = self.reader.physical(0)?.0 / space.levels.page_bytes();
        let bytes = u64::from(self.memory.kernel.layouts.page.size);
        let distance = frame.checked_mul(bytes).filter(|_| space.vmemmap_base != 0)?;
        Some(KernelVa(space.vmemmap_base.checked_add(distance)?))
    }
}
