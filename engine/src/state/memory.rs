//! Tracked memory areas: the mappings of each process.
//!
//! The kernel's areas differ from what users think of as mappings: they grow, split where
//! permissions change, and merge with their neighbours. An area therefore goes on as long as any of
//! it is left where it was, mapping the same file or none. A growing heap, a stack, or a library
//! whose pages get other permissions one by one is neither mapped nor unmapped. An area is *mapped*
//! where nothing of the kind was, and *unmapped* when nothing of it is left. A new address space
//! (exec) starts anew: the areas of the old one ended with it.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE};
use panoptes_decoders::source::PAGE_BYTES;

use super::area_name::AreaName;
use super::change::{AreaBefore, Change};
use super::children::Entry;
use super::described::set_text;
use super::emit::Emitter;
use super::facts::{AreaFacts, HeapRule, is_main_executable};
use super::sharing::Sharing;
use crate::limits::Limits;
use crate::walk::{MmRow, Snapshot, VmaRow};
use panoptes_tables::{END, ListPool};
use panoptes_tables::{StringId, Strings};

/// One tracked area.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Area {
    start: u64,
    end: u64,
    file: u64,
    inode: u64,
    /// Its `anon_vma`, as of the last scan.
    anon_vma: u64,
    /// The low half of `VM_*`, which has all that /proc shows.
    flags: u32,
    /// The low half of its offset in its file, in pages.
    page_offset: u32,
    /// Its file's path or, without a file, its own name.
    name: Option<StringId>,
    /// Whether it is a special mapping of the kernel, such as the vDSO.
    special: bool,
    is_main_executable: bool,
    /// Whether any of it was executable at some time.
    was_executable: bool,
}

/// The permissions that /proc shows.
const PERMISSIONS: u32 = (VM_READ | VM_WRITE | VM_EXEC | VM_MAYSHARE) as u32;
/// The permission that is reported if areas merge.
const EXECUTE: u32 = VM_EXEC as u32;

impl Area {
    fn new(snapshot: &Snapshot, mm: &MmRow, row: &VmaRow) -> Self {
        let vma = &row.vma;
        Self {
            start: vma.start,
            end: vma.end,
            flags: vma.flags as u32,
            file: vma.file.0,
            inode: inode(snapshot, row),
            anon_vma: vma.anon_vma.0,
            page_offset: vma.page_offset as u32,
            was_executable: vma.flags & VM_EXEC != 0,
            name: None,
            special: vma.file.is_null() && !vma.ops.is_null(),
            is_main_executable: is_main_executable(snapshot, mm, row),
        }
    }

    /// Whether the scan shows it unchanged.
    #[inline]
    fn is(&self, snapshot: &Snapshot, row: &VmaRow) -> bool {
        let vma = &row.vma;
        self.start == vma.start
            && self.end == vma.end
            && self.flags == vma.flags as u32
            && self.file == vma.file.0
            && self.inode == inode(snapshot, row)
    }

    /// Whether both map the same object.
    fn is_like(&self, other: &Self) -> bool {
        self.file == other.file && self.inode == other.inode && self.special == other.special
    }

    fn facts<'a>(&self, process_id: u32, strings: &'a Strings) -> AreaFacts<'a> {
        let name = self.name.map(|id| strings.get(id));
        let has_file = self.file != 0;
        AreaFacts {
            process_id,
            start: self.start,
            end: self.end,
            flags: self.flags.into(),
            is_main_executable: self.is_main_executable,
            file: name.filter(|_| has_file),
            name: name.filter(|_| !has_file),
            has_file,
            special: self.special,
            anon_vma: KernelVa(self.anon_vma),
        }
    }

    /// The part of it that `new` replaces, as it was.
    ///
    /// `was_all_there` needs all old areas, so callers set it.
    fn before(&self, new: &Self) -> AreaBefore {
        AreaBefore {
            start: self.start.max(new.start),
            end: self.end.min(new.end),
            flags: self.flags.into(),
            anon_vma: KernelVa(self.anon_vma),
            was_executable: self.was_executable,
            was_all_there: false,
            had_other_part: self.file != 0
                && new.file != 0
                && self.first_page() != new.first_page(),
        }
    }

    /// The low half of the page at which the first byte of its file would be.
    fn first_page(&self) -> u32 {
        ((self.start / PAGE_BYTES) as u32).wrapping_sub(self.page_offset)
    }

    fn release(&self, strings: &mut Strings) {
        if let Some(id) = self.name {
            strings.release(id);
        }
    }
}

fn set_name(strings: &mut Strings, place: &mut Option<StringId>, name: Option<&[u8]>) {
    match name {
        Some(name) => set_text(strings, place, name),
        None => {
            if let Some(old) = place.take() {
                strings.release(old);
            }
        }
    }
}

fn inode(snapshot: &Snapshot, row: &VmaRow) -> u64 {
    if row.vma.file.is_null() {
        return 0;
    }
    snapshot.files.at(row.file).map_or(0, |file| file.open.inode.0)
}

/// An area of the last scan, while it is searched in this one.
#[derive(Clone, Copy, Debug)]
struct Old {
    /// Its row, which is in no list meanwhile.
    number: u32,
    /// Whether a new area continues it.
    claimed: bool,
    /// Whether any of it is left.
    touched: bool,
}

/// The origin of a new area.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// It continues the old area in this row, whose state before is given. It may also have merged
    /// with another one that was executable and is not any more, or the other way round.
    Claims(u32, AreaBefore, Option<AreaBefore>),
    /// It is a part of an old area that continues as another one.
    Part(AreaBefore),
    /// Nothing of the kind was there.
    New,
}

impl Origin {
    /// The origin when one more old area overlaps; `claim` is that area's row if the new area can
    /// continue it.
    fn with(self, claim: Option<u32>, before: AreaBefore, new: &Area) -> Self {
        let differs = |before: &AreaBefore| (before.flags as u32 ^ new.flags) & EXECUTE != 0;
        match (self, claim) {
            (Self::Claims(number, whole, other), _) => {
                Self::Claims(number, whole, other.or(Some(before).filter(differs)))
            }
            (Self::Part(part), Some(number)) => {
                Self::Claims(number, before, Some(part).filter(differs))
            }
            (Self::New, Some(number)) => Self::Claims(number, before, None),
            (Self::Part(part), None) if differs(&part) || !differs(&before) => Self::Part(part),
            (Self::Part(_) | Self::New, None) => Self::Part(before),
        }
    }

    /// Notes that all of it was mapped before.
    fn set_all_mapped_before(&mut self) {
        match self {
            Self::Claims(_, whole, other) => {
                whole.was_all_there = true;
                if let Some(other) = other {
                    other.was_all_there = true;
                }
            }
            Self::Part(before) => before.was_all_there = true,
            Self::New => {}
        }
    }

    /// Its state before, if anything was there. If only a part became executable or stopped being
    /// so, that part.
    fn before(&self, new: &Area) -> Option<AreaBefore> {
        match *self {
            Self::Claims(_, whole, other) => {
                let differs = (whole.flags as u32 ^ new.flags) & EXECUTE != 0;
                Some(other.filter(|_| !differs).unwrap_or(whole))
            }
            Self::Part(before) => Some(before),
            Self::New => None,
        }
    }
}

/// Compares areas, in memory allocated at start.
#[derive(Debug)]
pub(super) struct Areas {
    pub(super) rows: ListPool<Area>,
    heap: HeapRule,
    old: Vec<Old>,
    origins: Vec<Origin>,
    area_name: AreaName,
    sharing: Sharing,
}

impl Areas {
    pub(super) fn new(limits: &Limits, heap: HeapRule) -> Self {
        Self {
            rows: ListPool::new(limits.vmas as usize),
            heap,
            old: Vec::with_capacity(limits.vmas as usize),
            origins: Vec::with_capacity(limits.vmas_seen_max()),
            area_name: AreaName::default(),
            sharing: Sharing::new(limits.processes_seen_max(), limits.vmas_seen_max()),
        }
    }

    pub(super) fn begin_scan(&mut self) {
        self.sharing.begin_scan();
    }

    /// Compares a process's areas with those of the last scan, if this scan has them all.
    pub(super) fn update(&mut self, entry: &mut Entry<'_>, emitter: &mut Emitter<'_>) {
        let snapshot = emitter.snapshot;
        let Some(mm) = snapshot.mms.at(entry.row.mm).filter(|mm| mm.complete) else { return };
        let news = snapshot.vmas.range(mm.vmas);
        if entry.row.mm.is_some_and(|space| !self.sharing.admits(space, news.len())) {
            self.rows.refuse(news.len() as u32);
            return;
        }
        let in_order = news.windows(2).all(|pair| pair[0].vma.end <= pair[1].vma.start);
        if !in_order || news.len() > self.origins.capacity() {
            return;
        }
        let space = (mm.address, entry.process.self_exec_id());
        if entry.children.space != space {
            self.release_all(&mut entry.children.areas, &mut emitter.names.strings);
            entry.children.space = space;
        }
        if let Some(same_pages) = self.is_unchanged(entry.children.areas, snapshot, news) {
            if !same_pages {
                self.note_pages(entry.children.areas, news);
            }
            entry.children.areas_taken = true;
            return;
        }
        entry.children.areas_version = entry.children.areas_version.wrapping_add(1);
        let mut cursor =
            ListPool::<Area>::start(core::mem::replace(&mut entry.children.areas, END));
        self.old.clear();
        while self.rows.row(cursor).is_some() {
            let number = ListPool::<Area>::number(cursor);
            self.old.push(Old { number, claimed: false, touched: false });
            self.rows.advance(&mut cursor);
        }
        self.find_origins(snapshot, mm, news);
        self.unmap(entry, emitter);
        self.map(entry, mm, news, emitter);
        entry.children.areas_taken = true;
    }

    /// Returns `None` if the areas have changed, and otherwise whether their `anon_vma`s are the
    /// same.
    fn is_unchanged(&self, head: u32, snapshot: &Snapshot, news: &[VmaRow]) -> Option<bool> {
        let mut cursor = ListPool::<Area>::start(head);
        let mut same_pages = true;
        for row in news {
            let area = self.rows.row(cursor).filter(|area| area.is(snapshot, row))?;
            same_pages &= area.anon_vma == row.vma.anon_vma.0;
            self.rows.advance(&mut cursor);
        }
        self.rows.row(cursor).is_none().then_some(same_pages)
    }

    /// Updates the `anon_vma`s of areas in which nothing else has changed.
    fn note_pages(&mut self, head: u32, news: &[VmaRow]) {
        let mut cursor = ListPool::<Area>::start(head);
        for row in news {
            if self.rows.row(cursor).is_none() {
                return;
            }
            self.rows.at_mut(ListPool::<Area>::number(cursor)).anon_vma = row.vma.anon_vma.0;
            self.rows.advance(&mut cursor);
        }
    }

    /// Finds the origin of every new area. Both lists are sorted and neither has overlaps, so one
    /// pass is enough.
    fn find_origins(&mut self, snapshot: &Snapshot, mm: &MmRow, news: &[VmaRow]) {
        self.origins.clear();
        let mut first = 0;
        for row in news {
            let new = Area::new(snapshot, mm, row);
            while self.old.get(first).is_some_and(|old| self.rows.at(old.number).end <= new.start) {
                first += 1;
            }
            let mut origin = Origin::New;
            let mut covered = 0;
            for old in self.old.iter_mut().skip(first) {
                let area = self.rows.at(old.number);
                if area.start >= new.end {
                    break;
                }
                if !area.is_like(&new) {
                    continue;
                }
                old.touched = true;
                let before = area.before(&new);
                // Areas of a forged tree may overlap.
                covered = u64::saturating_add(covered, before.end.saturating_sub(before.start));
                let claim = (!old.claimed).then_some(old.number);
                origin = origin.with(claim, before, &new);
                old.claimed |= matches!(origin, Origin::Claims(number, ..) if number == old.number);
            }
            if covered == new.end - new.start {
                origin.set_all_mapped_before();
            }
            self.origins.push(origin);
        }
    }

    /// Removes the old areas that no new area continues.
    fn unmap(&mut self, entry: &Entry<'_>, emitter: &mut Emitter<'_>) {
        let process = entry.process;
        for old in self.old.iter().filter(|old| !old.claimed) {
            let row = *self.rows.at(old.number);
            if !old.touched {
                emitter.emit_named(|names| {
                    let area = row.facts(process.process_id(), &names.strings);
                    Change::AreaUnmapped { process, area }
                });
            }
            row.release(&mut emitter.names.strings);
            self.rows.give_back(old.number);
        }
    }

    /// Builds the list anew in the order of the scan.
    fn map(
        &mut self,
        entry: &mut Entry<'_>,
        mm: &MmRow,
        news: &[VmaRow],
        emitter: &mut Emitter<'_>,
    ) {
        let (snapshot, process) = (emitter.snapshot, entry.process);
        let quiet = entry.quiet(entry.children.areas_taken);
        let head = &mut entry.children.areas;
        let mut cursor = ListPool::<Area>::start(*head);
        for (row, origin) in news.iter().zip(&self.origins) {
            let mut area = Area::new(snapshot, mm, row);
            let mut in_buffer = false;
            let before = origin.before(&area);
            area.was_executable |= before.is_some_and(|before| before.was_executable);
            match *origin {
                Origin::Claims(number, ..) => {
                    let old = *self.rows.at(number);
                    area.name = old.name;
                    area.was_executable |= old.was_executable;
                    if area.file == 0 && (area.start, area.end) != (old.start, old.end) {
                        // It may have become the heap, or stopped being it.
                        let name = self.area_name.write(snapshot, mm, row, self.heap);
                        set_name(&mut emitter.names.strings, &mut area.name, name);
                    }
                    *self.rows.at_mut(number) = area;
                    self.rows.attach(head, &mut cursor, number);
                }
                Origin::Part(_) | Origin::New if !self.rows.has_room() => continue,
                Origin::Part(_) | Origin::New => {
                    if area.file == 0 {
                        let name = self.area_name.write(snapshot, mm, row, self.heap);
                        set_name(&mut emitter.names.strings, &mut area.name, name);
                    } else {
                        let name = emitter.names.name(snapshot, row.file);
                        area.name = name.id;
                        in_buffer = name.in_buffer;
                    }
                    self.rows.insert(head, &mut cursor, area);
                }
            }
            let differs =
                |before: AreaBefore| (before.flags as u32 ^ area.flags) & PERMISSIONS != 0;
            if quiet || !before.is_none_or(differs) {
                continue;
            }
            emitter.emit_named(|names| {
                let mut facts = area.facts(process.process_id(), &names.strings);
                if in_buffer {
                    facts.file = Some(names.buffer.text());
                }
                match before {
                    None => Change::AreaMapped { process, area: facts },
                    Some(before) => Change::AreaPermissionsChanged { process, area: facts, before },
                }
            });
        }
    }

    /// Frees all areas of an address space that has ended.
    pub(super) fn release_all(&mut self, head: &mut u32, strings: &mut Strings) {
        let mut cursor = ListPool::<Area>::start(*head);
        while let Some(old) = self.rows.remove(head, &mut cursor) {
            old.release(strings);
        }
    }
}
