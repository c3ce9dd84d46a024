//! Tracked memory areas: the mappings of each process.
//!
//! The kernel's areas differ from what users think of as mappings: they grow, split where
//! permissions change, and merge with their neighbours. An area therefore exists as long as any of
//! it is left where it was, mapping the same file or none. A growing heap, a stack, or a library
//! whose pages get other permissions one by one is neither mapped nor unmapped. An area is *mapped*
//! where nothing of the kind was, and *unmapped* when nothing of it is left. A new address space
//! (exec) starts anew: the areas of the old one ended with it.
//!
//! If a scan shows only some areas of an address space, those are compared
//! ([`super::unread_areas`]).

use core::mem;

use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE};
use panoptes_decoders::source::PAGE_BYTES;

use super::area::{Area, AreaBefore, Old};
use super::area_name::AreaName;
use super::change::Change;
use super::children::{Children, ComparedProcess, UntrackedStart};
use super::described::set_text;
use super::emit::{Emitter, ROWS_A_QUESTION};
use super::facts::HeapRule;
use super::file_names::NamedRow as _;
use super::process::{InExec, Process};
use super::shared_spaces::ComparedSpaces;
use super::unread_areas::UnreadAreas;
use crate::limits::Limits;
use crate::walk::{MmRow, Snapshot, VmaRow};
use panoptes_tables::{HashKey, ListPool, PoolList};
use panoptes_tables::{StringId, Strings, room};

/// Number of scans for which a new process's areas wait for a scan that has its parent's, too: what
/// it inherited is not new.
const PARENT_SCANS: u32 = 16;

/// Whether a new process's areas wait, because the scan left its parent's.
fn waits_for_parent(snapshot: &Snapshot, entry: &ComparedProcess<'_>) -> bool {
    if snapshot.left.address_spaces == 0 || entry.children.areas_taken {
        return false;
    }
    let parent = snapshot.process_by_pid(entry.row.parent_pid);
    let mm = parent.and_then(|parent| snapshot.mms.at(parent.mm));
    entry.process.scans_before() < PARENT_SCANS && mm.is_some_and(|mm| mm.left)
}

/// The permissions that /proc shows.
const PERMISSIONS: u32 = (VM_READ | VM_WRITE | VM_EXEC | VM_MAYSHARE) as u32;
/// The permission that is reported if areas merge.
const EXECUTE: u32 = VM_EXEC as u32;

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

/// The origin of a new area.
#[derive(Clone, Copy, Debug)]
enum AreaOrigin {
    /// It continues the old area in this row, whose state before is given. It may also have merged
    /// with another one that was executable and is not any more, or the other way round.
    Claims(u32, AreaBefore, Option<AreaBefore>),
    /// It is a part of an old area that continues as another one.
    Part(AreaBefore),
    /// Nothing of the kind was there.
    New,
}

impl AreaOrigin {
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

/// What comparing areas needs only during a scan.
#[derive(Debug)]
pub(super) struct AreasScratch {
    old: Vec<Old>,
    origins: Vec<AreaOrigin>,
    sharing: ComparedSpaces,
}

impl AreasScratch {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            old: room::list(limits.vmas as usize),
            origins: room::list(limits.vmas_seen_max()),
            sharing: ComparedSpaces::new(limits.processes_seen_max()),
        }
    }
}

/// Compares areas, in memory allocated at start.
#[derive(Debug)]
pub(super) struct Areas {
    pub(super) rows: ListPool<Area>,
    heap: HeapRule,
    pub(super) old: Vec<Old>,
    origins: Vec<AreaOrigin>,
    area_name: AreaName,
    sharing: ComparedSpaces,
    /// Maximum number of areas in a scan.
    seen_max: usize,
    key: HashKey,
}

impl Areas {
    pub(super) fn new(limits: &Limits, heap: HeapRule, key: HashKey) -> Self {
        Self {
            key,
            rows: ListPool::new(limits.vmas as usize),
            heap,
            old: Vec::default(),
            origins: Vec::default(),
            area_name: AreaName::default(),
            sharing: ComparedSpaces::default(),
            seen_max: limits.vmas_seen_max(),
        }
    }

    pub(super) fn exchange(&mut self, scratch: &mut AreasScratch) {
        mem::swap(&mut self.old, &mut scratch.old);
        mem::swap(&mut self.origins, &mut scratch.origins);
        mem::swap(&mut self.sharing, &mut scratch.sharing);
    }

    pub(super) fn begin_scan(&mut self) {
        self.sharing.begin_scan(self.seen_max);
    }

    /// Compares a process's areas with those of the last scan, as far as this scan shows them.
    pub(super) fn update(&mut self, entry: &mut ComparedProcess<'_>, emitter: &mut Emitter<'_>) {
        let snapshot = emitter.snapshot;
        let Some(mm) = snapshot.mms.at(entry.row.mm) else { return };
        if waits_for_parent(snapshot, entry) || entry.in_exec == InExec::Begun {
            return;
        }
        let all = snapshot.vmas.range(mm.vmas);
        // What the files are that a scan left is unknown.
        if !mm.complete && (all.is_empty() || mm.left) {
            return;
        }
        let (news, others) = all.split_at(all.len().min(entry.allowed.areas as usize));
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
            entry.children.areas_held =
                entry.in_exec == InExec::Undescribed && !entry.quiet(entry.children.areas_taken);
            entry.children.untracked.areas = UntrackedStart::default().areas;
        }
        emitter.is_silent = entry.children.areas_held;
        self.rows.refuse(others.len() as u32);
        let quiet_from = if mm.complete {
            self.note_untracked(entry.children, others)
        } else {
            self.note_unread(entry.children, mm, all, others)
        };
        let is_noted = self.is_unchanged(entry.children.areas, emitter, news);
        if is_noted.is_none() && emitter.must_stop() {
            return;
        }
        if let Some(is_noted) = is_noted {
            if !is_noted {
                self.note(entry.children.areas, news, emitter);
            }
            entry.children.note_areas(mm.complete, snapshot.counts());
            return;
        }
        let mut cursor = ListPool::<Area>::start(mem::take(&mut entry.children.areas));
        self.old.clear();
        while self.rows.row(cursor).is_some() {
            let number = ListPool::<Area>::number(cursor);
            self.old.push(Old { number, claimed: false, touched: false });
            self.rows.advance(&mut cursor);
        }
        self.find_origins(mm, news, emitter);
        let is_changed = if mm.complete {
            self.unmap(entry, emitter);
            self.map(entry, mm, (news, quiet_from), emitter);
            true
        } else {
            self.map_read(entry, mm, (news, quiet_from), emitter)
        };
        entry.children.note_areas(mm.complete, snapshot.counts());
        let version = &mut entry.children.areas_version;
        *version = version.wrapping_add(u32::from(is_changed));
    }

    /// Notes the areas beyond a process's share. Returns from where on areas were not tracked
    /// before.
    fn note_untracked(&self, children: &mut Children, others: &[VmaRow]) -> u64 {
        let hash = others.iter().fold(0, |hash, VmaRow { vma, .. }| {
            self.key.hash_numbers([hash, vma.start, vma.end, vma.flags, vma.file.0])
        });
        let from = others.first().map_or(UntrackedStart::default().areas, |row| row.vma.start);
        let untracked = &mut children.untracked;
        if core::mem::replace(&mut untracked.areas_hash, hash) != hash {
            children.areas_version = children.areas_version.wrapping_add(1);
        }
        core::mem::replace(&mut untracked.areas, from)
    }

    /// The same for a scan that shows only some areas.
    fn note_unread(
        &self,
        children: &mut Children,
        mm: &MmRow,
        all: &[VmaRow],
        others: &[VmaRow],
    ) -> u64 {
        let from = children.untracked.areas;
        if !others.is_empty() {
            self.note_untracked(children, others);
        }
        // The scan had no room for those above.
        let end = all.last().filter(|_| mm.areas_left == 0).map_or(u64::MAX, |row| row.vma.end);
        let untracked = &mut children.untracked;
        untracked.areas = untracked.areas.min(from).min(end);
        from
    }

    /// Removes the rows of a process after the first `allowed` ones, which is not reported.
    pub(super) fn cut(&mut self, children: &mut Children, allowed: usize, strings: &mut Strings) {
        let mut cursor = ListPool::<Area>::start(children.areas);
        for _ in 0..allowed {
            self.rows.advance(&mut cursor);
        }
        if let Some(first) = self.rows.row(cursor) {
            children.untracked.areas = children.untracked.areas.min(first.start());
        }
        while let Some(old) = self.rows.remove(&mut children.areas, &mut cursor) {
            old.release(strings);
        }
    }

    /// Returns `None` if the areas have changed, and otherwise whether their rows are up to date.
    fn is_unchanged(&self, list: PoolList, emitter: &Emitter<'_>, news: &[VmaRow]) -> Option<bool> {
        let snapshot = emitter.snapshot;
        let mut cursor = ListPool::<Area>::start(list);
        let mut is_noted = true;
        for rows in news.chunks(ROWS_A_QUESTION as usize) {
            for row in rows {
                let area = self.rows.row(cursor).filter(|area| area.is(snapshot, row))?;
                is_noted &= area.is_noted(row);
                self.rows.advance(&mut cursor);
            }
            if rows.len() == ROWS_A_QUESTION as usize && emitter.must_stop() {
                return None;
            }
        }
        self.rows.row(cursor).is_none().then_some(is_noted)
    }

    /// Updates what the scan shows of areas in which nothing else has changed.
    fn note(&mut self, list: PoolList, news: &[VmaRow], emitter: &mut Emitter<'_>) {
        let mut cursor = ListPool::<Area>::start(list);
        for row in news {
            if self.rows.row(cursor).is_none() {
                return;
            }
            let area = self.rows.at_mut(ListPool::<Area>::number(cursor));
            area.note(emitter.snapshot, row);
            name_late(area, row, emitter);
            self.rows.advance(&mut cursor);
        }
    }

    /// Finds the origin of every new area. Both lists are sorted and neither has overlaps, so one
    /// pass is enough.
    fn find_origins(&mut self, mm: &MmRow, news: &[VmaRow], emitter: &mut Emitter<'_>) {
        let snapshot = emitter.snapshot;
        self.origins.clear();
        let mut first = 0;
        for row in news {
            if !emitter.goes_on() {
                return;
            }
            let new = Area::new(snapshot, mm, row);
            while self
                .old
                .get(first)
                .is_some_and(|old| self.rows.at(old.number).end() <= new.start())
            {
                first += 1;
            }
            let mut origin = AreaOrigin::New;
            let mut covered = 0;
            for old in self.old.iter_mut().skip(first) {
                let area = self.rows.at(old.number);
                if area.start() >= new.end() {
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
                old.claimed |=
                    matches!(origin, AreaOrigin::Claims(number, ..) if number == old.number);
            }
            if covered == new.end() - new.start() {
                origin.set_all_mapped_before();
            }
            self.origins.push(origin);
        }
    }

    /// Removes the old areas that no new area continues.
    fn unmap(&mut self, entry: &ComparedProcess<'_>, emitter: &mut Emitter<'_>) {
        let process = entry.process;
        for old in self.old.iter().filter(|old| !old.claimed) {
            if !emitter.goes_on() {
                return;
            }
            let row = *self.rows.at(old.number);
            if !old.touched && row.start() < entry.children.untracked.areas {
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
        entry: &mut ComparedProcess<'_>,
        mm: &MmRow,
        (news, quiet_from): (&[VmaRow], u64),
        emitter: &mut Emitter<'_>,
    ) {
        let snapshot = emitter.snapshot;
        let quiet = entry.quiet(entry.children.areas_taken);
        let list = &mut entry.children.areas;
        let mut cursor = ListPool::<Area>::start(*list);
        for (at, row) in news.iter().enumerate() {
            let Some(&origin) = self.origins.get(at).filter(|_| emitter.goes_on()) else { break };
            let mut area = Area::new(snapshot, mm, row);
            let before = origin.before(&area);
            area.note_executable(before.is_some_and(|before| before.was_executable));
            let mut in_buffer = false;
            if let AreaOrigin::Claims(number, ..) = origin {
                let old = *self.rows.at(number);
                area.continue_from(&old);
                name_late(&mut area, row, emitter);
                if !area.has_file() && !area.is_at(&old) {
                    // It may have become the heap, or stopped being it.
                    let name = self.area_name.write(snapshot, mm, row, self.heap);
                    set_name(&mut emitter.names.strings, &mut area.name, name);
                }
                *self.rows.at_mut(number) = area;
                self.rows.attach(list, &mut cursor, number);
            } else {
                if !self.rows.has_room() {
                    continue;
                }
                in_buffer = self.name(&mut area, (mm, row), emitter);
                self.rows.insert(list, &mut cursor, area);
            }
            if !quiet && (before.is_some() || area.start() < quiet_from) {
                report(entry.process, &area, in_buffer, before, emitter);
            }
        }
    }

    /// Adds the areas that the scan shows to the list, which keeps those that it does not show.
    /// Returns whether any area is not as before.
    fn map_read(
        &mut self,
        entry: &mut ComparedProcess<'_>,
        mm: &MmRow,
        (news, quiet_from): (&[VmaRow], u64),
        emitter: &mut Emitter<'_>,
    ) -> bool {
        let (snapshot, process) = (emitter.snapshot, entry.process);
        let quiet = entry.quiet(entry.children.areas_taken);
        let list = &mut entry.children.areas;
        let mut cursor = ListPool::<Area>::start(*list);
        let mut unread = UnreadAreas::new(mm.map_count as usize, self.old.len());
        let mut is_changed = false;
        for (at, row) in news.iter().enumerate() {
            let Some(&origin) = self.origins.get(at).filter(|_| emitter.goes_on()) else { break };
            let mut area = Area::new(snapshot, mm, row);
            let before = origin.before(&area);
            area.note_executable(before.is_some_and(|before| before.was_executable));
            // Before the old area that it continues is removed.
            let old = match origin {
                AreaOrigin::Claims(number, ..) => Some(*self.rows.at(number)),
                AreaOrigin::Part(_) | AreaOrigin::New => None,
            };
            let same = old.filter(|old| old.is(snapshot, row));
            is_changed |= same.is_none();
            let (old_rows, place) = ((&mut self.rows, &*self.old), (&mut *list, &mut cursor));
            unread.keep(area.start(), old_rows, place, process, emitter);
            let mut in_buffer = false;
            if let Some(old) = same {
                area.continue_from(&old);
                name_late(&mut area, row, emitter);
            } else {
                in_buffer = self.name(&mut area, (mm, row), emitter);
            }
            let is_full = self.rows.used() == self.rows.capacity();
            let reused = match origin {
                AreaOrigin::Claims(number, ..) if same.is_some() || is_full => Some(number),
                _ => None,
            };
            if let Some(number) = reused {
                let replaced = core::mem::replace(self.rows.at_mut(number), area);
                if same.is_none() {
                    replaced.release(&mut emitter.names.strings);
                }
            }
            unread.pass(area.end(), reused);
            let (old_rows, place) = ((&mut self.rows, &*self.old), (&mut *list, &mut cursor));
            unread.keep(area.end(), old_rows, place, process, emitter);
            if let Some(number) = reused {
                self.rows.attach(list, &mut cursor, number);
            } else if !self.rows.insert(list, &mut cursor, area) {
                area.release(&mut emitter.names.strings);
                continue;
            }
            // What was there before watching began may be seen now for the first time.
            if before.is_some() || !quiet && area.start() < quiet_from {
                report(process, &area, in_buffer, before, emitter);
            }
        }
        let old_rows = (&mut self.rows, &*self.old);
        unread.keep(u64::MAX, old_rows, (list, &mut cursor), process, emitter);
        is_changed
    }

    /// Sets the name of a new area. Returns whether it found no room and is in the buffer.
    fn name(
        &mut self,
        area: &mut Area,
        (mm, row): (&MmRow, &VmaRow),
        emitter: &mut Emitter<'_>,
    ) -> bool {
        let snapshot = emitter.snapshot;
        if !area.has_file() {
            let name = self.area_name.write(snapshot, mm, row, self.heap);
            set_name(&mut emitter.names.strings, &mut area.name, name);
            return false;
        }
        let name = emitter.names.name(snapshot, row.file);
        area.name = name.id;
        name.in_buffer
    }

    /// Reports all areas of a process as new, except the first ones, which were reported before a
    /// request to stop. Returns the number of areas that are reported.
    pub(super) fn report_after(
        &self,
        before: u32,
        list: PoolList,
        process: &Process,
        emitter: &mut Emitter<'_>,
    ) -> u32 {
        let mut cursor = ListPool::<Area>::start(list);
        let mut count = 0;
        while let Some(area) = self.rows.row(cursor)
            && emitter.goes_on()
        {
            if count >= before {
                report(process, area, false, None, emitter);
            }
            count += 1;
            self.rows.advance(&mut cursor);
        }
        count
    }

    /// Frees all areas of an address space that has ended.
    pub(super) fn release_all(&mut self, list: &mut PoolList, strings: &mut Strings) {
        let mut cursor = ListPool::<Area>::start(*list);
        while let Some(old) = self.rows.remove(list, &mut cursor) {
            old.release(strings);
        }
    }
}

/// Names an area of a file whose name found no room, or could not be read, when it was new.
fn name_late(area: &mut Area, row: &VmaRow, emitter: &mut Emitter<'_>) {
    let snapshot = emitter.snapshot;
    if area.lacks_name() && emitter.names.is_late_due(area.start() / PAGE_BYTES) {
        area.name = emitter.names.name(snapshot, row.file).id;
    }
}

/// Reports an area that was not there before, or that has other permissions than before.
fn report(
    process: &Process,
    area: &Area,
    in_buffer: bool,
    before: Option<AreaBefore>,
    emitter: &mut Emitter<'_>,
) {
    let differs = |before: AreaBefore| (before.flags as u32 ^ area.flags) & PERMISSIONS != 0;
    if !before.is_none_or(differs) {
        return;
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
