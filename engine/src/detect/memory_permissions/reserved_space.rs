//! The surroundings of an area whose permissions changed: from the scan, the process's page tables
//! and its files.

use core::cell::Cell;
use core::ops::Range;

use panoptes_decoders::kernel::vm_area_struct::{
    VM_EXEC, VM_MAYSHARE, VM_NORESERVE, VM_READ, VM_WRITE,
};

use super::program::{ElfQuestion, Programs};
use super::rule::{AreaContext, ElfClaim};
use crate::page_cache::MachineMemory;
use crate::walk::{MmRow, Snapshot, VmaRow};

/// Minimum address space that a runtime reserves for code: V8 takes 128 MiB, HotSpot 48 or 240,
/// SpiderMonkey and JavaScriptCore more. Counting stops there.
const RESERVED_BYTES: u64 = 8 << 20;
/// Minimum size of an inaccessible area in `SpiderMonkey`'s reserved space. A thread's heap has
/// less: 64 MiB at most (malloc/arena.c of glibc, `HEAP_MAX_SIZE`).
const MUCH_BYTES: u64 = 512 << 20;
/// Maximum number of areas on either side that are counted.
const NEIGHBOURS_MAX: usize = 4096;
/// Maximum number of bytes of data among code: code that is being written is not executable
/// meanwhile.
const DATA_BYTES_MAX: u64 = 1 << 20;

/// What the rule asks about one area.
pub(super) struct Surroundings<'a, 'm> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) parent_pid: u32,
    /// Its address space, if the scan has it.
    pub(super) mm: Option<&'a MmRow>,
    /// Start address of the area.
    pub(super) start: u64,
    /// The part of it that has changed.
    pub(super) part: Range<u64>,
    /// Whether it was reported in the process that its process was forked from.
    pub(super) was_reported_before_fork: bool,
    /// Whether a code generator is what explains the change.
    pub(super) is_by_generator: bool,
    pub(super) programs: &'a mut Programs,
    pub(super) memory: &'a mut MachineMemory<'m>,
}

impl<'a> Surroundings<'a, '_> {
    /// The areas of its address space, ascending, and the index of this one.
    fn areas(&self) -> Option<(&'a [VmaRow], usize)> {
        let areas = self.snapshot.vmas.range(self.mm?.vmas);
        let at = areas.binary_search_by_key(&self.start, |row| row.vma.start).ok()?;
        Some((areas, at))
    }

    /// Whether the answer of any file that its process has mapped executable is yes.
    fn any_file(&mut self, question: ElfQuestion) -> bool {
        let Some(mm) = self.mm else { return false };
        let areas = self.snapshot.vmas.range(mm.vmas);
        self.programs.spend(areas.len());
        self.programs.any_file(self.memory, (self.snapshot, areas), question)
    }

    fn parent(&self) -> Option<&'a MmRow> {
        let parent = self.snapshot.process_by_pid(self.parent_pid)?;
        self.snapshot.mms.at(parent.mm)
    }
}

impl AreaContext for Surroundings<'_, '_> {
    fn is_filled(&mut self) -> bool {
        let Some(mm) = self.mm else { return false };
        self.programs.is_filled(self.memory, mm, self.part.clone())
    }

    fn is_inherited(&mut self) -> bool {
        if self.was_reported_before_fork {
            return true;
        }
        let Some(parent) = self.parent() else { return false };
        let areas = self.snapshot.vmas.range(parent.vmas);
        let behind = areas.partition_point(|row| row.vma.start <= self.start);
        let Some(row) = behind.checked_sub(1).and_then(|at| areas.get(at)) else { return false };
        row.vma.end > self.start && is_anonymous(row) && row.vma.flags & VM_EXEC != 0
    }

    fn is_reserved(&mut self) -> bool {
        let Some((areas, at)) = self.areas() else { return false };
        if !is_kept_free(&areas[at]) {
            let (is_inside, looked_at) = is_inside_closed_range(areas, at);
            self.programs.spend(looked_at);
            return is_inside;
        }
        let first = at.saturating_sub(NEIGHBOURS_MAX);
        let looked_at = Cell::new(0);
        let count = || looked_at.set(looked_at.get() + 1);
        let below = areas[first..at].iter().rev().scan(areas[at].vma.start, |start, row| {
            count();
            let touches = row.vma.end == *start && is_kept_free(row);
            *start = row.vma.start;
            touches.then_some(row)
        });
        let above =
            areas[at + 1..].iter().take(NEIGHBOURS_MAX).scan(areas[at].vma.end, |end, row| {
                count();
                let touches = row.vma.start == *end && is_kept_free(row);
                *end = row.vma.end;
                touches.then_some(row)
            });
        let (mut below, mut above) = (below.peekable(), above.peekable());
        let (one, other) = (below.peek().copied(), above.peek().copied());
        // Data is adjacent: it is a part of some heap.
        if [one, other].into_iter().flatten().any(|row| !is_closed(row) && !is_executable(row))
            || one.is_none() && other.is_none()
        {
            return false;
        }
        let mut bytes = 0_u64;
        let is_much = below.chain(above).any(|row| {
            bytes = bytes.saturating_add(row.vma.end - row.vma.start);
            bytes >= RESERVED_BYTES
        });
        self.programs.spend(looked_at.get());
        is_much
    }

    fn has_generator(&mut self) -> bool {
        self.is_by_generator = self.any_file(ElfQuestion::Generator);
        self.is_by_generator
    }

    fn is_of_root(&mut self) -> bool {
        let snapshot = self.snapshot;
        self.mm.is_some_and(|mm| {
            let program = snapshot.files.at(mm.exe_file);
            program.is_some_and(|file| snapshot.is_put_by_root(file))
        }) && (!self.is_by_generator || self.any_file(ElfQuestion::RootsGenerator))
    }

    fn file_says(&mut self) -> ElfClaim {
        let Some((areas, at)) = self.areas() else { return ElfClaim::Unknown };
        self.programs.says(self.memory, self.snapshot, &areas[at])
    }

    fn wants_executable_stack(&mut self) -> bool {
        self.any_file(ElfQuestion::Stack)
    }
}

/// The adjoining areas on one side of an area.
#[derive(Clone, Copy, Debug, Default)]
struct AreaNeighbours {
    /// Whether the adjacent area is inaccessible.
    is_closed: bool,
    /// Size in bytes of the largest inaccessible area.
    closed: u64,
    /// Whether an inaccessible area was mapped with `VM_NORESERVE`.
    is_marked: bool,
    /// Number of bytes that are accessible and not executable.
    data: u64,
    /// Whether all areas were counted up to a gap.
    is_apart: bool,
    looked_at: usize,
}

impl AreaNeighbours {
    /// The adjoining areas from `edge` on. `ends` returns an area's near and far end.
    fn over<'r>(
        rows: impl Iterator<Item = &'r VmaRow>,
        mut edge: u64,
        ends: impl Fn(&VmaRow) -> (u64, u64),
    ) -> Self {
        let mut side = Self::default();
        for row in rows {
            if side.looked_at == NEIGHBOURS_MAX {
                return side;
            }
            side.looked_at += 1;
            let (near, far) = ends(row);
            if near != edge {
                break;
            }
            edge = far;
            let bytes = row.vma.end - row.vma.start;
            if !is_anonymous(row) {
                return side;
            } else if is_closed(row) {
                side.is_closed |= side.looked_at == 1;
                side.is_marked |= is_kept_free(row);
                side.closed = side.closed.max(bytes);
            } else if !is_executable(row) {
                side.data = side.data.saturating_add(bytes);
            }
        }
        side.is_apart = true;
        side
    }
}

/// Whether an area without `VM_NORESERVE` is inside a large inaccessible range. Also returns the
/// number of areas that were checked.
///
/// `SpiderMonkey` maps the memory it uses anew, over a part of the 2 GiB that it reserves in a
/// place of their own. Without overcommit (`vm.overcommit_memory`) no area has the flag (mm/mmap.c,
/// `do_mmap`): there each page of V8's code is between two gaps.
fn is_inside_closed_range(areas: &[VmaRow], at: usize) -> (bool, usize) {
    let area = &areas[at];
    if !is_anonymous(area) {
        return (false, 0);
    }
    let (below, above) = (areas[..at].iter().rev(), areas[at + 1..].iter());
    let below = AreaNeighbours::over(below, area.vma.start, |row| (row.vma.end, row.vma.start));
    let above = AreaNeighbours::over(above, area.vma.end, |row| (row.vma.start, row.vma.end));
    let closed = below.closed.max(above.closed);
    let data = below.data.saturating_add(above.data);
    let is_marked = below.is_marked || above.is_marked;
    let is_between = below.is_closed && above.is_closed && !is_marked;
    let is_much = closed >= MUCH_BYTES && data <= DATA_BYTES_MAX;
    let is_apart = below.is_apart && above.is_apart && is_much;
    let is_inside = is_apart || is_between && closed >= RESERVED_BYTES;
    (is_inside, below.looked_at + above.looked_at)
}

fn is_anonymous(row: &VmaRow) -> bool {
    row.vma.file.is_null() && !row.has_ops && row.vma.flags & VM_MAYSHARE == 0
}

/// Whether it was mapped as address space that costs nothing until it is used.
fn is_kept_free(row: &VmaRow) -> bool {
    is_anonymous(row) && row.vma.flags & VM_NORESERVE != 0
}

fn is_closed(row: &VmaRow) -> bool {
    row.vma.flags & (VM_READ | VM_WRITE | VM_EXEC) == 0
}

fn is_executable(row: &VmaRow) -> bool {
    row.vma.flags & VM_EXEC != 0
}
