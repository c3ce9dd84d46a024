//! Tracked memory areas: what is mapped where in each process.
//!
//! The kernel's areas are not what people think of as mappings: they grow, split where permissions change,
//! and merge with their neighbours. So an area goes on as long as anything of it, mapping the same file or
//! nothing, is left where it was: a heap that grows, a stack, a library whose pages get other permissions
//! one by one say nothing. Something is *mapped* where nothing of the kind was, and *unmapped* when nothing
//! is left of it. A new address space (exec) begins anew: what was in the old one ended with it.

use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE};

use super::chains::Chains;
use super::change::Change;
use super::facts::{AreaFacts, AreaName, HeapRule, is_main_executable};
use super::process::set_text;
use super::strings::{StringId, Strings};
use super::{Entry, Telling, tell};
use crate::limits::Limits;
use crate::walk::{MmRow, Snapshot, VmaRow};

/// One tracked area.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Area {
    start: u64,
    end: u64,
    flags: u64,
    file: u64,
    inode: u64,
    /// Its file's path or, without a file, its own name.
    name: Option<StringId>,
    /// One of the kernel's own: the vDSO and its kind.
    special: bool,
    is_main_executable: bool,
}

/// The permissions, as /proc shows them.
const PERMISSIONS: u64 = VM_READ | VM_WRITE | VM_EXEC | VM_MAYSHARE;

impl Area {
    fn new(snapshot: &Snapshot, mm: &MmRow, row: &VmaRow) -> Self {
        let vma = &row.vma;
        Self {
            start: vma.start,
            end: vma.end,
            flags: vma.flags,
            file: vma.file.0,
            inode: inode(snapshot, row),
            name: None,
            special: vma.file.is_null() && !vma.ops.is_null(),
            is_main_executable: is_main_executable(snapshot, mm, row),
        }
    }

    /// Whether it is, unchanged, what the scan shows.
    #[inline]
    fn is(&self, snapshot: &Snapshot, row: &VmaRow) -> bool {
        let vma = &row.vma;
        self.start == vma.start
            && self.end == vma.end
            && self.flags == vma.flags
            && self.file == vma.file.0
            && self.inode == inode(snapshot, row)
    }

    /// Whether both map the same.
    fn is_like(&self, other: &Self) -> bool {
        self.file == other.file && self.inode == other.inode && self.special == other.special
    }

    /// What is known of it.
    fn facts<'a>(&self, process_id: u32, strings: &'a Strings) -> AreaFacts<'a> {
        let name = self.name.map(|id| strings.get(id));
        let has_file = self.file != 0;
        AreaFacts {
            process_id,
            start: self.start,
            end: self.end,
            flags: self.flags,
            is_main_executable: self.is_main_executable,
            file: name.filter(|_| has_file),
            name: name.filter(|_| !has_file),
            has_file,
            special: self.special,
        }
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

/// An area of the last scan, while it is looked for in this one.
#[derive(Clone, Copy, Debug)]
struct Old {
    area: Area,
    /// Whether a new one goes on as this one.
    claimed: bool,
    /// Whether something of it is left.
    touched: bool,
}

/// What a new area is.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// It goes on as the old one of that number.
    Claims(u32),
    /// It is a part of one that had those permissions and goes on as another.
    Part(u64),
    /// Nothing of the kind was there.
    New,
}

/// Compares areas, in memory allocated at start.
#[derive(Debug)]
pub(super) struct Areas {
    pub(super) rows: Chains<Area>,
    heap: HeapRule,
    old: Vec<Old>,
    origins: Vec<Origin>,
    area_name: AreaName,
}

impl Areas {
    pub(super) fn new(limits: &Limits, heap: HeapRule) -> Self {
        Self {
            rows: Chains::new(limits.vmas as usize),
            heap,
            old: Vec::with_capacity(limits.vmas as usize),
            origins: Vec::with_capacity(limits.vmas_seen_max()),
            area_name: AreaName::default(),
        }
    }

    /// Compares a process's areas with those of the last scan, if this one has them all.
    pub(super) fn update(&mut self, entry: &mut Entry<'_>, telling: &mut Telling<'_>) {
        let snapshot = telling.snapshot;
        let Some(mm) = snapshot.mms.at(entry.row.mm).filter(|mm| mm.complete) else { return };
        let news = snapshot.vmas.range(&mm.vmas);
        let in_order = news.windows(2).all(|pair| pair[0].vma.end <= pair[1].vma.start);
        if !in_order || news.len() > self.origins.capacity() {
            return;
        }
        let space = (mm.address, entry.process.self_exec_id());
        if entry.children.space != space {
            self.release_all(&mut entry.children.areas, telling.strings);
            entry.children.space = space;
        }
        if self.is_unchanged(entry.children.areas, snapshot, news) {
            entry.children.areas_taken = true;
            return;
        }
        let mut cursor = Chains::<Area>::start(entry.children.areas);
        self.old.clear();
        while let Some(area) = self.rows.remove(&mut entry.children.areas, &mut cursor) {
            self.old.push(Old { area, claimed: false, touched: false });
        }
        self.find_origins(snapshot, mm, news);
        self.unmap(entry, telling);
        self.map(entry, mm, news, telling);
        entry.children.areas_taken = true;
    }

    fn is_unchanged(&self, head: u32, snapshot: &Snapshot, news: &[VmaRow]) -> bool {
        let mut cursor = Chains::<Area>::start(head);
        for row in news {
            match self.rows.row(cursor) {
                Some(area) if area.is(snapshot, row) => self.rows.advance(&mut cursor),
                _ => return false,
            }
        }
        self.rows.row(cursor).is_none()
    }

    /// Says of every new area what it is. Both lists are in order and none overlaps another in its own, so
    /// one pass over both is enough.
    fn find_origins(&mut self, snapshot: &Snapshot, mm: &MmRow, news: &[VmaRow]) {
        self.origins.clear();
        let mut first = 0;
        for row in news {
            let new = Area::new(snapshot, mm, row);
            while self.old.get(first).is_some_and(|old| old.area.end <= new.start) {
                first += 1;
            }
            let mut origin = Origin::New;
            for (number, old) in self.old.iter_mut().enumerate().skip(first) {
                if old.area.start >= new.end {
                    break;
                }
                if !old.area.is_like(&new) {
                    continue;
                }
                old.touched = true;
                if !old.claimed && !matches!(origin, Origin::Claims(_)) {
                    old.claimed = true;
                    origin = Origin::Claims(number as u32);
                } else if matches!(origin, Origin::New) {
                    origin = Origin::Part(old.area.flags);
                }
            }
            self.origins.push(origin);
        }
    }

    /// Lets go of the old areas that nothing goes on as.
    fn unmap(&mut self, entry: &Entry<'_>, telling: &mut Telling<'_>) {
        let process = entry.process;
        for old in self.old.iter().filter(|old| !old.claimed) {
            if !old.touched {
                let area = old.area.facts(process.process_id(), telling.strings);
                tell!(telling, Change::AreaUnmapped { process, area });
            }
            old.area.release(telling.strings);
        }
    }

    /// Builds the list anew in the order of the scan.
    fn map(
        &mut self,
        entry: &mut Entry<'_>,
        mm: &MmRow,
        news: &[VmaRow],
        telling: &mut Telling<'_>,
    ) {
        let (snapshot, process) = (telling.snapshot, entry.process);
        let quiet = entry.quiet(entry.children.areas_taken);
        let mut waiting = self.old.iter().filter(|old| old.claimed).count();
        let head = &mut entry.children.areas;
        let mut cursor = Chains::<Area>::start(*head);
        for (number, row) in news.iter().enumerate() {
            let mut area = Area::new(snapshot, mm, row);
            let mut in_buffer = false;
            let before = match self.origins[number] {
                Origin::Claims(old) => {
                    waiting -= 1;
                    let old = &self.old[old as usize].area;
                    area.name = old.name;
                    if area.file == 0 && (area.start, area.end) != (old.start, old.end) {
                        // It may have become the heap, or stopped to be it.
                        let name = self.area_name.write(snapshot, mm, row, self.heap);
                        set_name(telling.strings, &mut area.name, name);
                    }
                    Some(old.flags)
                }
                Origin::Part(_) | Origin::New
                    if self.rows.capacity() - self.rows.len() <= waiting =>
                {
                    // What is left of room belongs to those that are tracked already.
                    self.rows.refuse();
                    continue;
                }
                origin => {
                    in_buffer = self.name(&mut area, mm, row, telling);
                    if let Origin::Part(flags) = origin { Some(flags) } else { None }
                }
            };
            if !self.rows.insert(head, &mut cursor, area) {
                area.release(telling.strings);
                continue;
            }
            let mut facts = area.facts(process.process_id(), telling.strings);
            if in_buffer {
                facts.file = Some(telling.namer.buffer.text());
            }
            match before {
                None if !quiet => tell!(telling, Change::AreaMapped { process, area: facts }),
                Some(before) if !quiet && (before ^ area.flags) & PERMISSIONS != 0 => {
                    let change = Change::AreaPermissionsChanged { process, area: facts, before };
                    tell!(telling, change);
                }
                _ => {}
            }
        }
    }

    /// Names a new area; `true` when its file's name found no room in the arena and is in the buffer.
    fn name(
        &mut self,
        area: &mut Area,
        mm: &MmRow,
        row: &VmaRow,
        telling: &mut Telling<'_>,
    ) -> bool {
        let snapshot = telling.snapshot;
        if area.file != 0 {
            let name = telling.namer.name(snapshot, row.file, telling.strings);
            area.name = name.id;
            return name.in_buffer;
        }
        if let Some(name) = self.area_name.write(snapshot, mm, row, self.heap) {
            area.name = telling.strings.intern(name);
        }
        false
    }

    /// Gives back all areas of an address space that has ended.
    pub(super) fn release_all(&mut self, head: &mut u32, strings: &mut Strings) {
        let mut cursor = Chains::<Area>::start(*head);
        while let Some(old) = self.rows.remove(head, &mut cursor) {
            old.release(strings);
        }
    }
}
