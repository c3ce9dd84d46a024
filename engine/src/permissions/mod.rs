//! Who may execute memory: what becomes of that right, and whether it is a finding.
//!
//! The state says which areas are new and which have other permissions ([`Change::AreaMapped`],
//! [`Change::AreaPermissionsChanged`]). Here the facts are gathered on which the [`rule`] decides: whether the area has pages
//! of its own (`anon_vma`), so that something was written to it; what lies around it; what the program headers of its file
//! say of it. Those are read out of the page cache, and only for changes that the rest does not decide: a library's mapping
//! costs nothing here.
//!
//! Memory that is new, can be executed and not written, and has pages of its own, got that right since the last scan: it
//! was written before it had it, or it could not have been written.
//!
//! What is changed and changed back between two scans is not seen. Of one program at most a few changes are told of:
//! what goes on after that is a runtime that this does not know.
//!
//! Not here: areas themselves ([`crate::state`]), and the words of the record (`policy`).

mod around;
mod program;
pub mod rule;
#[cfg(test)]
pub(crate) mod tests;

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::vm_area_struct::{
    VM_EXEC, VM_GROWSDOWN, VM_MAYSHARE, VM_READ, VM_WRITE,
};
use panoptes_decoders::source::MemorySource;

use crate::state::facts::AreaFacts;
use crate::state::process::{Process, ProcessKey};
use crate::state::{AreaBefore, Change, Scene};
use crate::walk::Kernel;

use around::Surroundings;
use program::Programs;
use rule::{Backing, Direction, Seen, Verdict, judge};

/// Most findings of one program, added and removed each.
const FINDINGS_MAX: u8 = 8;
/// Most areas that are looked at around changes in one scan, about: of one process, and of all.
const STEPS_MAX: (u32, u32) = (1 << 18, 1 << 20);
/// What a process has from its parent is there in its first scans.
const FORK_SCANS: u32 = 4;
/// For how many programs that is counted.
const PROGRAMS: usize = 1024;

/// A change of the right to execute, and what the rule says of it.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// Whose memory.
    pub process: &'a Process,
    /// The area as it is now.
    pub area: AreaFacts<'a>,
    /// What it, or a part of it, was; nothing where it was not there.
    pub before: Option<AreaBefore>,
    /// Which way it went.
    pub direction: Direction,
    /// What it is.
    pub backing: Backing,
    /// What the rule says.
    pub verdict: Verdict,
    /// Whether it is the last of this program that is told of.
    pub is_last: bool,
}

/// How much was told of one program.
#[derive(Clone, Debug)]
struct Told {
    key: ProcessKey,
    self_exec_id: u32,
    /// Where in its memory its arguments begin: at another address after each exec, and at the same after a fork.
    arguments: u64,
    /// When it was told of first, in nanoseconds since 1970.
    since_ns: i64,
    /// Where that began which can be executed.
    starts: ArrayVec<u64, { FINDINGS_MAX as usize }>,
    removed: u8,
}

impl Told {
    fn count(&self, direction: Direction) -> u8 {
        match direction {
            Direction::Added => self.starts.len() as u8,
            Direction::Removed => self.removed,
        }
    }

    /// Whether it was told of an area before a process was seen that comes from it by forks and has that, too.
    fn has(&self, process: &Process, arguments: u64, area: &AreaFacts<'_>) -> bool {
        self.key != process.key
            && self.since_ns <= process.first_seen_ns
            && (self.self_exec_id, self.arguments) == (process.self_exec_id(), arguments)
            && self.starts.iter().any(|start| (area.start..area.end).contains(start))
    }
}

/// Judges changes, in memory allocated at start.
#[derive(Debug)]
pub struct Permissions {
    programs: Programs,
    told: Vec<Told>,
    /// Which entry gives way when all are taken.
    next: usize,
    /// How many areas may still be looked at in this scan, and for the process whose changes came last.
    steps_left: u32,
    of_process: Option<(ProcessKey, u32)>,
    refused: u64,
}

impl Permissions {
    /// Allocates all that it takes.
    #[expect(clippy::new_without_default, reason = "it allocates much")]
    pub fn new() -> Self {
        Self {
            programs: Programs::new(),
            told: Vec::with_capacity(PROGRAMS),
            next: 0,
            steps_left: STEPS_MAX.1,
            of_process: None,
            refused: 0,
        }
    }

    /// Begins to judge the changes of another scan.
    pub fn begin_scan(&mut self) {
        self.programs.begin_scan();
        self.steps_left = STEPS_MAX.1;
        self.of_process = None;
    }

    /// How many changes were not judged, because there was more around them than one scan looks at.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Judges a change, if it is one of the right to execute.
    pub fn judge<'a, S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        scene: &Scene<'_>,
        change: &Change<'a>,
    ) -> Option<Judged<'a>> {
        let (process, area, before) = match *change {
            Change::AreaPermissionsChanged { process, area, before } => {
                (process, area, Some(before))
            }
            Change::AreaMapped { process, area } => (process, area, None),
            _ => return None,
        };
        let seen = seen(&area, before.as_ref())?;
        let told = self.told_of(process).and_then(|at| self.told.get(at));
        let steps = match self.of_process {
            Some((key, left)) if key == process.key => left,
            _ => STEPS_MAX.0,
        };
        let steps = steps.min(self.steps_left);
        self.refused += u64::from(steps == 0);
        // Whoever changes very much costs no more than what is told of it.
        if steps == 0 || told.is_some_and(|told| told.count(seen.direction) >= FINDINGS_MAX) {
            let verdict = Verdict::Quiet(rule::Why::Enough);
            let (direction, backing) = (seen.direction, seen.backing);
            return Some(Judged {
                process,
                area,
                before,
                direction,
                backing,
                verdict,
                is_last: false,
            });
        }
        let seen = Seen { is_known: told.is_some(), ..seen };
        let part = before.map_or(area.start..area.end, |before| before.start..before.end);
        let row = scene.snapshot.processes.at(process.row());
        let mm = row.and_then(|row| scene.snapshot.mms.at(row.mm));
        let arguments = mm.map_or(0, |mm| mm.arguments.start);
        let was_told_before_fork = before.is_none()
            && process.scans_before() <= FORK_SCANS
            && row.and_then(|row| scene.snapshot.leader(row)).is_some_and(|leader| {
                leader.task.is_fork()
                    && self.told.iter().any(|told| told.has(process, arguments, &area))
            });
        let mut left = steps;
        let mut around = Surroundings {
            snapshot: scene.snapshot,
            parent_pid: row.map_or(0, |row| row.parent_pid),
            mm,
            start: area.start,
            part,
            was_told_before_fork,
            programs: &mut self.programs,
            source,
            kernel,
            steps_left: &mut left,
        };
        let verdict = judge(&seen, &mut around);
        self.steps_left = self.steps_left.saturating_sub(steps - left);
        self.of_process = Some((process.key, left));
        let is_last = matches!(verdict, Verdict::Told(_))
            && self.count(process, arguments, (&seen, area.start), scene.now_ns) == FINDINGS_MAX;
        let (direction, backing) = (seen.direction, seen.backing);
        Some(Judged { process, area, before, direction, backing, verdict, is_last })
    }

    /// Where it is counted how much of a program was told of, if anything was.
    fn told_of(&self, process: &Process) -> Option<usize> {
        let is_it =
            |told: &Told| told.key == process.key && told.self_exec_id == process.self_exec_id();
        self.told.iter().position(is_it)
    }

    /// Counts a finding of a program, and says how many there were.
    fn count(
        &mut self,
        process: &Process,
        arguments: u64,
        (seen, start): (&Seen, u64),
        since_ns: i64,
    ) -> u8 {
        let (key, self_exec_id) = (process.key, process.self_exec_id());
        let at = self.told_of(process).unwrap_or_else(|| {
            let starts = ArrayVec::new();
            let new = Told { key, self_exec_id, arguments, since_ns, starts, removed: 0 };
            if self.told.len() < self.told.capacity() {
                self.told.push(new);
                return self.told.len() - 1;
            }
            let at = self.next % PROGRAMS;
            self.next = at + 1;
            self.told[at] = new;
            at
        });
        let told = &mut self.told[at];
        match seen.direction {
            // More than there is room for are not judged.
            Direction::Added => _ = told.starts.try_push(start),
            Direction::Removed => told.removed = told.removed.saturating_add(1),
        }
        told.count(seen.direction)
    }
}

/// What the rule is told of a change; `None` where it is none of the right to execute.
fn seen(area: &AreaFacts<'_>, before: Option<&AreaBefore>) -> Option<Seen> {
    const OPEN: u64 = VM_READ | VM_WRITE | VM_EXEC;
    if area.special {
        return None;
    }
    let is_written = !area.anon_vma.is_null();
    let is_writable = area.flags & VM_WRITE != 0;
    let executes = area.flags & VM_EXEC != 0;
    let direction = match before {
        Some(before) if (before.flags ^ area.flags) & VM_EXEC == 0 => return None,
        Some(_) if !executes => Direction::Removed,
        Some(_) => Direction::Added,
        // Made executable since the last scan, or else it could not have been written.
        None if executes && !is_writable && is_written && !area.has_file => Direction::Added,
        None => return None,
    };
    let before_pages = before
        .filter(|before| before.was_all_there)
        .map_or(KernelVa::NULL, |before| before.anon_vma);
    Some(Seen {
        direction,
        backing: backing(area),
        was_there: before.is_some(),
        was_writable: before.is_some_and(|before| before.flags & VM_WRITE != 0),
        is_writable,
        is_open: area.flags & OPEN != 0,
        is_written,
        is_same: is_written && before_pages == area.anon_vma,
        had_other_part: before.is_some_and(|before| before.had_other_part),
        is_known: false,
    })
}

fn backing(area: &AreaFacts<'_>) -> Backing {
    if area.has_file {
        return if area.flags & VM_MAYSHARE != 0 { Backing::Shared } else { Backing::File };
    }
    match area.name {
        Some(b"[heap]") => Backing::Heap,
        Some(b"[stack]") => Backing::Stack,
        _ if area.flags & VM_GROWSDOWN != 0 => Backing::Stack,
        _ => Backing::Anonymous,
    }
}
