//! Pages of a process's own, as their `struct page` shows them.
//!
//! The kernel takes the array of `struct page` from the top of memory while it starts
//! (`memblock_alloc`, mm/memblock.c), so a copy has it last. It keeps there of which address space,
//! and where in it, each anonymous page is.

use arrayvec::ArrayVec;
use panoptes_decoders::address::{KernelVa, UserVa};
use panoptes_decoders::kernel::page::CachedPage;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::kernel::vm_area_struct::Vma;
use panoptes_decoders::source::PAGE_BYTES;

use super::super::snapshot::{MmRow, ProcessRow, VmaRow};
use super::TearProbe;
use panoptes_tables::Rows;

/// `PAGE_MAPPING_ANON` (include/linux/page-flags.h): `mapping` leads to a `struct anon_vma`.
const ANONYMOUS: u64 = 1;

/// Pages at each end of an area of which one of the process's own is noted.
const PAGES_MAX: u64 = 4;
/// Areas that are looked at.
const AREAS_MAX: usize = 8;
/// A process has as many areas, at least, with a page of its own.
const OWN_AREAS: usize = 2;
/// Address spaces with the same heap that are compared.
const ALIKE_MAX: usize = 64;
/// Ancestors of a process that are compared.
const COMPARED_ANCESTORS_MAX: usize = 16;

/// The rows that show what pages a process has.
#[derive(Clone, Copy)]
pub(super) struct Spaces<'a> {
    pub processes: &'a Rows<ProcessRow>,
    pub mms: &'a Rows<MmRow>,
    pub vmas: &'a Rows<VmaRow>,
}

/// A page of an address space and its `struct page`.
#[derive(Clone, Copy)]
struct OwnPage {
    at: UserVa,
    entry: KernelVa,
}

impl TearProbe<'_, '_> {
    /// Notes where the `struct page` of pages of the process's own are.
    ///
    /// If the process has ended, its pages are free, or another process has them by now: one that
    /// was forked by the same parent may have the same addresses. So pages of two areas are needed,
    /// each with the area's own `struct anon_vma`. A child of the process keeps the pages that
    /// nobody has written to since: most of those of files.
    pub(super) fn look_at_pages(
        &mut self,
        spaces: Spaces<'_>,
        process: &ProcessRow,
        has_name: bool,
    ) {
        let Some(mm) = spaces.mms.at(process.mm) else { return };
        // With `vfork`, it has its parent's until it executes a program.
        let is_other = |other: &&ProcessRow| other.leader != process.leader;
        let mut others = spaces.processes.iter().filter(is_other);
        if others.any(|other| other.mm == process.mm) || !self.has_space(spaces, mm, has_name) {
            return;
        }
        let Some(heirs) = self.heirs(spaces, mm) else { return };
        let areas = spaces.vmas.range(mm.vmas).iter().map(|row| row.vma);
        let is_anonymous = |area: &Vma| area.file.is_null() && !area.anon_vma.is_null();
        let mut last = KernelVa::NULL;
        let mut count = 0;
        for area in areas.filter(is_anonymous).take(AREAS_MAX) {
            // Areas that were one before may share it.
            if area.anon_vma == last {
                continue;
            }
            let Some((page, place)) = self.own_page(mm, &area) else { continue };
            if self.is_shared(&heirs, page) {
                continue;
            }
            last = area.anon_vma;
            count += 1;
            if count == OWN_AREAS {
                self.evidence.shows.add(place);
                return;
            }
        }
    }

    /// Whether the address space is the process's own. If the process has ended, the memory of its
    /// `mm_struct` may be that of a newer one by now.
    ///
    /// A newer one has a higher number than all that existed when the process was last seen. Where
    /// nothing shows that, the name of the program (`has_name`) decides.
    fn has_space(&self, spaces: Spaces<'_>, mm: &MmRow, has_name: bool) -> bool {
        if self.page(mm.address).is_some_and(|at| self.evidence.is_alive_at(at)) {
            return true;
        }
        let Some(seen) = self.evidence.last_seen().map(|last| self.time_of(last)) else {
            return false;
        };
        let (mut others, mut newer) = (0_u32, 0_u32);
        for other in spaces.mms.iter().filter(|other| other.address != mm.address) {
            let Some(process) = spaces.processes.at(other.process) else { continue };
            let start = self.threads[process.leader].task.start_boottime;
            if start > self.task.start_boottime && start <= seen {
                others += 1;
                newer += u32::from(other.ctx_id > mm.ctx_id);
            }
        }
        if mm.ctx_id == 0 || others == 0 { has_name } else { newer * 2 > others }
    }

    /// A page at one end of an area whose `struct page` has the area's own `struct anon_vma`, and
    /// the page of memory where that is.
    fn own_page(&mut self, mm: &MmRow, area: &Vma) -> Option<(OwnPage, u64)> {
        let bytes = self.memory.kernel.space.levels.page_bytes();
        let count = area.end.saturating_sub(area.start) / bytes;
        let last = count.saturating_sub(PAGES_MAX).max(PAGES_MAX);
        let first = area.page_offset.checked_mul(PAGE_BYTES)?.checked_div(bytes)?;
        for number in (0..count.min(PAGES_MAX)).chain(last..count) {
            let at = UserVa(area.start + number * bytes);
            let Some(entry) = self.page_struct_of(mm.pgd, at) else { continue };
            let index = first.checked_add(number)?;
            if let Some(place) = self.place_of_page(entry, area.anon_vma, index) {
                return Some((OwnPage { at, entry }, place));
            }
        }
        None
    }

    /// Where a `struct page` is, if it is that of an anonymous page.
    fn place_of_page(&mut self, entry: KernelVa, anon_vma: KernelVa, index: u64) -> Option<u64> {
        let layout = &self.memory.kernel.layouts.page;
        self.reader.clear();
        self.reader.push(&self.memory.kernel.space, entry, &layout.packing)?;
        self.memory.run(self.reader);
        let page = CachedPage::decode(layout, self.reader.object(0)?);
        let is_own = page.mapping.0 == anon_vma.0 | ANONYMOUS && page.index == index;
        self.reader.physical(0).filter(|_| is_own).map(|at| at.0 / PAGE_BYTES)
    }

    /// The page tables of other processes that may have pages of this one: children that were
    /// forked. If their parent has ended, they have one of the older processes as their parent now.
    /// `None` if there are too many.
    fn heirs(&self, spaces: Spaces<'_>, mm: &MmRow) -> Option<ArrayVec<KernelVa, ALIKE_MAX>> {
        let is_alike =
            |other: &&MmRow| other.address != mm.address && other.heap.start == mm.heap.start;
        let mut heirs = ArrayVec::new();
        for other in spaces.mms.iter().filter(is_alike) {
            let process = spaces.processes.at(other.process);
            if process.is_none_or(|process| self.may_be_child(process)) {
                heirs.try_push(other.pgd).ok()?;
            }
        }
        Some(heirs)
    }

    /// Whether another process may have the same page, since it has not written to it.
    fn is_shared(&mut self, heirs: &[KernelVa], page: OwnPage) -> bool {
        heirs.iter().any(|&pgd| {
            let theirs = self.page_struct_of(pgd, page.at);
            theirs.is_none_or(|theirs| theirs == page.entry)
        })
    }

    /// Whether a process may be a child of this one, or one that lost this one as its parent.
    fn may_be_child(&self, other: &ProcessRow) -> bool {
        let other = &self.threads[other.leader].task;
        if other.start_boottime < self.task.start_boottime {
            return false;
        }
        let Some(parent) = self.parent_of(other) else { return true };
        let mut at = self.task.address;
        for _ in 0..COMPARED_ANCESTORS_MAX {
            if parent == at {
                return true;
            }
            let Some(index) = self.threads.find(at.0) else { return true };
            match self.parent_of(&self.threads[index].task) {
                Some(next) if next != at => at = next,
                Some(_) => return false,
                None => return true,
            }
        }
        true
    }

    /// First thread of a task's parent: the parent is the thread that forked it.
    fn parent_of(&self, task: &Task) -> Option<KernelVa> {
        let parent = self.threads.find(task.real_parent.0)?;
        Some(self.threads[parent].task.group_leader)
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
