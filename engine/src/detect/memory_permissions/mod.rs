//! Changes of the right to execute memory, and which of them are findings.
//!
//! The state reports new areas and areas with other permissions ([`Change::AreaMapped`],
//! [`Change::AreaPermissionsChanged`]). This module collects the facts for the [`rule`]: whether
//! the area has pages of its own (`anon_vma`), so that something was written to it, the areas
//! around it, and the program headers of its file. The headers are read from the page cache, and
//! only for changes that the other facts do not decide: mapping a library costs nothing here.
//!
//! New memory that is executable, not writable, and has pages of its own became executable since
//! the last scan: it was written before that, or it could not have been written.
//!
//! A change that is undone between two scans is not seen. Only a few changes are reported per
//! program: a program with more is a runtime that the rule does not know. Of such a program one
//! more is reported now and then, and what is not reported is counted.
//!
//! Not here: areas themselves ([`crate::state`]), and the wording of the record (`policy`).

mod program;
mod reserved_space;
pub mod rule;
#[cfg(test)]
pub(crate) mod tests;

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::vm_area_struct::{
    VM_EXEC, VM_GROWSDOWN, VM_MAYSHARE, VM_READ, VM_WRITE,
};
use panoptes_tables::{RecentList, Tag, room};

use super::{Acceptance, Detector, DetectorContext, DetectorSetup, Finding, Findings};
use crate::address::MemoryReader;
use crate::limits::Limits;
use crate::loss::{GapKind, Loss};
use crate::page_cache::{ContentSource, FileIdentity, MachineMemory};
use crate::state::facts::AreaFacts;
use crate::state::process::{Process, ProcessKey};
use crate::state::{AreaBefore, Change, MachineState, ScanContext};
use crate::time::Monotonic;
use crate::walk::{MmRow, Snapshot};

use program::Programs;
use reserved_space::Surroundings;
use rule::{
    AreaKind, FindingKind, PermissionChange, PermissionDirection, PermissionVerdict, judge,
};

/// Maximum number of findings per program, for each direction, until the first pause.
const FINDINGS_MAX: u8 = 8;
/// After that many findings, a program's changes are reported once after each pause. The pause
/// begins with the first of these and doubles up to the second.
const PAUSES_NS: (i64, i64) = (60_000_000_000, 3_600_000_000_000);
/// Number of programs that claim to be runtimes and are remembered.
const CLAIMS: usize = 256;
/// Number of findings that wait until their reports are accepted.
const OWED_MAX: usize = 64;
/// Approximate maximum number of areas around changes that one scan checks: for one process, and in
/// total.
const STEPS_MAX: (u32, u32) = (1 << 18, 1 << 20);
/// Number of areas that are checked for each process even if others have used up the total.
const STEPS_MIN: u32 = 1 << 10;
const _: () = {
    assert!(STEPS_MIN <= STEPS_MAX.0 && STEPS_MAX.0 <= STEPS_MAX.1);
    assert!(PAUSES_NS.0 <= PAUSES_NS.1, "a pause doubles up to the longest one");
};
/// Number of first scans in which a process's memory may be inherited from its parent.
const FORK_SCANS: u32 = 4;
/// Number of programs whose findings are counted.
const PROGRAMS: usize = 1024;

/// A change of the right to execute, and the rule's verdict on it.
#[derive(Clone, Copy, Debug)]
pub struct JudgedAreaChange<'a> {
    pub process: &'a Process,
    /// The area as it is now.
    pub area: AreaFacts<'a>,
    /// The area that it, or a part of it, was before; `None` if there was none.
    pub before: Option<AreaBefore>,
    pub direction: PermissionDirection,
    pub backing: AreaKind,
    pub verdict: PermissionVerdict,
    /// Whether further findings of this program are reported only now and then.
    pub is_last: bool,
}

/// The findings of one program that were reported.
#[derive(Clone, Debug)]
struct ProgramFindings {
    key: ProcessKey,
    self_exec_id: u32,
    /// Address of its arguments: an exec changes it, a fork does not.
    arguments: u64,
    /// When its first finding was reported.
    since: Monotonic,
    /// Start addresses of the last areas that became executable.
    starts: ArrayVec<u64, { FINDINGS_MAX as usize }>,
    removed: u8,
    /// Pauses of reports, one a direction: the start, and the length in nanoseconds.
    pauses: [(Monotonic, i64); 2],
}

impl ProgramFindings {
    /// Whether changes in this direction are not reported now.
    fn pauses(&self, direction: PermissionDirection, now: Monotonic) -> bool {
        let (since, length) = self.pauses[direction as usize];
        now.since(since) < length
    }

    /// Counts a finding, and begins a pause after the last of [`FINDINGS_MAX`].
    fn count_one(&mut self, direction: PermissionDirection, start: u64, now: Monotonic) {
        match direction {
            PermissionDirection::Added => {
                if self.starts.is_full() {
                    self.starts.remove(0);
                }
                self.starts.push(start);
            }
            PermissionDirection::Removed => self.removed = (self.removed + 1).min(FINDINGS_MAX),
        }
        if self.count(direction) == FINDINGS_MAX {
            let (shortest, longest) = PAUSES_NS;
            let (_, length) = self.pauses[direction as usize];
            self.pauses[direction as usize] = (now, (length * 2).clamp(shortest, longest));
        }
    }

    fn count(&self, direction: PermissionDirection) -> u8 {
        match direction {
            PermissionDirection::Added => self.starts.len() as u8,
            PermissionDirection::Removed => self.removed,
        }
    }

    /// Whether an area was reported before a process was first seen that was forked from this one
    /// and has the area, too.
    fn has(&self, process: &Process, arguments: u64, area: &AreaFacts<'_>) -> bool {
        self.key != process.key
            && self.since <= process.first_seen
            && (self.self_exec_id, self.arguments) == (process.self_exec_id(), arguments)
            && self.starts.iter().any(|start| (area.start..area.end).contains(start))
    }
}

/// A finding whose report was not accepted, without the names of the area.
#[derive(Clone, Copy, Debug)]
struct PendingAreaChange {
    process: ProcessKey,
    area: AreaFacts<'static>,
    before: Option<AreaBefore>,
    direction: PermissionDirection,
    backing: AreaKind,
    verdict: PermissionVerdict,
    is_last: bool,
}

impl PendingAreaChange {
    fn of(judged: &JudgedAreaChange<'_>) -> Self {
        let &JudgedAreaChange { process, area, before, direction, backing, verdict, is_last } =
            judged;
        let area = AreaFacts { file: None, name: None, ..area };
        Self { process: process.key, area, before, direction, backing, verdict, is_last }
    }

    const fn judged<'a>(&self, process: &'a Process) -> JudgedAreaChange<'a> {
        let &Self { area, before, direction, backing, verdict, is_last, .. } = self;
        JudgedAreaChange { process, area, before, direction, backing, verdict, is_last }
    }
}

/// Checks changes against the rule, in memory allocated at start.
#[derive(Debug)]
pub struct MemoryPermissions {
    programs: Programs,
    reported: Vec<ProgramFindings>,
    /// The entry to replace when all are used.
    next: usize,
    /// Number of areas that may still be checked in this scan, and for the process of the last
    /// change.
    steps_left: u32,
    of_process: Option<(ProcessKey, u32)>,
    /// Programs that look like runtimes, and whose changes were reported.
    claims: RecentList<FileIdentity>,
    /// Findings whose reports were not accepted.
    owed: ArrayVec<PendingAreaChange, OWED_MAX>,
    /// The most of them that one process can have.
    owed_most: usize,
    /// The changes that were not checked or not reported.
    lost: Loss,
}

impl MemoryPermissions {
    /// Allocates everything, including the reader.
    #[expect(clippy::new_without_default, reason = "it allocates much")]
    pub fn new() -> Self {
        let mut permissions = Self::without_reader();
        permissions.exchange(&mut program::reader());
        permissions
    }

    /// Allocates everything; each scan needs a reader ([`Detector::exchange`]).
    pub fn without_reader() -> Self {
        Self {
            programs: Programs::new(),
            reported: room::list(PROGRAMS),
            next: 0,
            steps_left: STEPS_MAX.1,
            of_process: None,
            claims: RecentList::new(CLAIMS),
            owed: ArrayVec::new(),
            owed_most: 0,
            lost: Loss::new(),
        }
    }
}

impl Detector for MemoryPermissions {
    type Scratch = MemoryReader;

    const GAPS: &'static [GapKind] =
        &[GapKind::at_once("memory_permissions", "changes of permissions were not checked")];

    fn build(_setup: &DetectorSetup<'_>) -> Self {
        Self::without_reader()
    }

    fn scratch(_limits: &Limits) -> MemoryReader {
        program::reader()
    }

    fn exchange(&mut self, reader: &mut MemoryReader) {
        self.programs.exchange(reader);
    }

    fn begin_scan(&mut self) {
        self.programs.begin_scan();
        self.steps_left = STEPS_MAX.1;
        self.of_process = None;
    }

    fn observe(&mut self, context: &mut DetectorContext<'_>, change: &Change<'_>) {
        if let Some(judged) = self.judge(&mut context.memory, context.cx, change)
            && context.found(&Finding::MemoryPermissions(&judged)) == Acceptance::No
        {
            self.owe(&judged);
        }
    }

    /// Reports again what was not accepted.
    fn update(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        _files: &mut dyn ContentSource,
    ) {
        self.offer_owed(context.cx, context.out, state);
    }

    fn finish(
        &mut self,
        cx: &ScanContext<'_>,
        out: &mut dyn Findings,
        state: &MachineState,
        _files: &mut dyn ContentSource,
    ) -> u64 {
        self.offer_owed(cx, out, state);
        0
    }

    fn unchecked(&mut self) -> &mut Loss {
        &mut self.lost
    }
}

impl MemoryPermissions {
    fn offer_owed(&mut self, cx: &ScanContext<'_>, out: &mut dyn Findings, state: &MachineState) {
        let lost = &mut self.lost;
        self.owed.retain(|owed| {
            let Some(process) = state.find(&owed.process) else {
                lost.add(1, Some(owed.process.process_id));
                return false;
            };
            out.found(cx, &Finding::MemoryPermissions(&owed.judged(process))) == Acceptance::No
        });
    }

    /// Checks a change against the rule, if it changes the right to execute.
    fn judge<'a>(
        &mut self,
        memory: &mut MachineMemory<'_>,
        cx: &ScanContext<'_>,
        change: &Change<'a>,
    ) -> Option<JudgedAreaChange<'a>> {
        let (process, area, before) = match *change {
            Change::AreaPermissionsChanged { process, area, before } => {
                (process, area, Some(before))
            }
            Change::AreaMapped { process, area } => (process, area, None),
            _ => return None,
        };
        let seen = seen(&area, before.as_ref())?;
        let PermissionChange { direction, backing, .. } = seen;
        let judged = |verdict, is_last| JudgedAreaChange {
            process,
            area,
            before,
            direction,
            backing,
            verdict,
            is_last,
        };
        let reported = self.entry_of(process).and_then(|at| self.reported.get(at));
        let own = match self.of_process {
            Some((key, left)) if key == process.key => left,
            _ => STEPS_MAX.0,
        };
        let reserved = STEPS_MIN.saturating_sub(STEPS_MAX.0 - own);
        let steps = own.min(self.steps_left.max(reserved));
        // A process with very many changes costs no more than its findings.
        let now = cx.now.monotonic;
        if steps == 0 || reported.is_some_and(|reported| reported.pauses(direction, now)) {
            self.lost.add(1, Some(process.process_id()));
            let verdict = Err(rule::Exemption::Enough);
            return Some(judged(verdict, false));
        }
        let seen = PermissionChange { is_known: reported.is_some(), ..seen };
        let part = before.map_or(area.start..area.end, |before| before.start..before.end);
        let row = cx.snapshot.processes.at(process.row());
        let mm = row.and_then(|row| cx.snapshot.mms.at(row.mm));
        let arguments = mm.map_or(0, |mm| mm.arguments.start);
        let was_reported_before_fork =
            before.is_none() && self.was_reported_before_fork(cx.snapshot, process, &area);
        self.programs.steps_left = steps;
        let mut around = Surroundings {
            snapshot: cx.snapshot,
            parent_pid: row.map_or(0, |row| row.parent_pid),
            mm,
            start: area.start,
            part,
            was_reported_before_fork,
            is_by_generator: false,
            programs: &mut self.programs,
            memory,
        };
        let mut verdict = judge(&seen, &mut around);
        let left = self.programs.steps_left;
        self.steps_left = self.steps_left.saturating_sub(steps - left);
        self.of_process = Some((process.key, own.saturating_sub(steps - left)));
        if verdict == Ok(FindingKind::Claimed) && !self.is_first_claim(cx.snapshot, mm) {
            verdict = Err(rule::Exemption::Claimed);
        }
        let is_last = verdict.is_ok()
            && self.count(process, arguments, (&seen, area.start), cx.now.monotonic)
                == FINDINGS_MAX;
        Some(judged(verdict, is_last))
    }

    /// Whether an area was reported in a program from which a new process was forked.
    fn was_reported_before_fork(
        &self,
        snapshot: &Snapshot,
        process: &Process,
        area: &AreaFacts<'_>,
    ) -> bool {
        let Some(row) = snapshot.processes.at(process.row()) else { return false };
        let arguments = snapshot.mms.at(row.mm).map_or(0, |mm| mm.arguments.start);
        process.scans_before() <= FORK_SCANS
            && snapshot.leader(row).is_some_and(|leader| leader.task.is_fork())
            && self.reported.iter().any(|reported| reported.has(process, arguments, area))
    }

    /// Whether a program's claim to be a runtime was not reported before.
    fn is_first_claim(&mut self, snapshot: &Snapshot, mm: Option<&MmRow>) -> bool {
        let Some(file) = mm.and_then(|mm| FileIdentity::of(snapshot, mm.exe_file)) else {
            return true;
        };
        self.claims.insert(file)
    }

    /// Keeps a finding whose report was not accepted. Without room, the process with the most of
    /// them loses its newest one to a process that would have fewer.
    fn owe(&mut self, judged: &JudgedAreaChange<'_>) {
        let new = PendingAreaChange::of(judged);
        if self.owed.is_full() {
            let count = |key: ProcessKey| self.owed.iter().filter(|it| it.process == key).count();
            let own = count(new.process);
            let mut most = (0, 0);
            // Once they are equal, this is not counted again.
            if self.owed_most > own + 1 {
                let counts = self.owed.iter().map(|it| count(it.process)).zip(0..);
                most = counts.max().unwrap_or_default();
                self.owed_most = most.0;
            }
            if most.0 <= own + 1 {
                self.lost.add(1, Some(new.process.process_id));
                return;
            }
            let left_out = self.owed.remove(most.1);
            self.lost.add(1, Some(left_out.process.process_id));
        } else {
            self.owed_most = OWED_MAX;
        }
        self.owed.push(new);
    }

    /// Index of a program's entry in the list of reported findings, if it has one.
    fn entry_of(&self, process: &Process) -> Option<usize> {
        let is_it = |reported: &ProgramFindings| {
            reported.key == process.key && reported.self_exec_id == process.self_exec_id()
        };
        self.reported.iter().position(is_it)
    }

    /// Counts a finding of a program and returns the new count.
    fn count(
        &mut self,
        process: &Process,
        arguments: u64,
        (seen, start): (&PermissionChange, u64),
        since: Monotonic,
    ) -> u8 {
        let (key, self_exec_id) = (process.key, process.self_exec_id());
        let at = self.entry_of(process).unwrap_or_else(|| {
            let starts = ArrayVec::new();
            let pauses = [(since, 0); 2];
            let new =
                ProgramFindings { key, self_exec_id, arguments, since, starts, removed: 0, pauses };
            if self.reported.len() < self.reported.capacity() {
                self.reported.push(new);
                return self.reported.len() - 1;
            }
            let at = self.next % PROGRAMS;
            self.next = at + 1;
            self.reported[at] = new;
            at
        });
        let reported = &mut self.reported[at];
        reported.count_one(seen.direction, start, since);
        reported.count(seen.direction)
    }
}

/// The rule's input for a change; `None` if the right to execute is unchanged.
fn seen(area: &AreaFacts<'_>, before: Option<&AreaBefore>) -> Option<PermissionChange> {
    const OPEN: u64 = VM_READ | VM_WRITE | VM_EXEC;
    if area.special {
        return None;
    }
    let is_written = !area.anon_vma.is_none();
    let is_writable = area.flags & VM_WRITE != 0;
    let executes = area.flags & VM_EXEC != 0;
    let direction = match before {
        Some(before) if (before.flags ^ area.flags) & VM_EXEC == 0 => return None,
        Some(_) if !executes => PermissionDirection::Removed,
        Some(_) => PermissionDirection::Added,
        // It became executable since the last scan, or else it could not have been written.
        None if executes && !is_writable && is_written && !area.has_file => {
            PermissionDirection::Added
        }
        None => return None,
    };
    let before_pages =
        before.filter(|before| before.was_all_there).map_or(Tag::NONE, |before| before.anon_vma);
    Some(PermissionChange {
        direction,
        backing: backing(area),
        preexisting: before.is_some(),
        was_writable: before.is_some_and(|before| before.flags & VM_WRITE != 0),
        is_writable,
        is_open: area.flags & OPEN != 0,
        is_written,
        is_same: is_written && before_pages == area.anon_vma,
        had_other_part: before.is_some_and(|before| before.had_other_part),
        is_known: false,
    })
}

fn backing(area: &AreaFacts<'_>) -> AreaKind {
    if area.has_file {
        return if area.flags & VM_MAYSHARE != 0 { AreaKind::Shared } else { AreaKind::File };
    }
    match area.name {
        Some(b"[heap]") => AreaKind::Heap,
        Some(b"[stack]") => AreaKind::Stack,
        _ if area.flags & VM_GROWSDOWN != 0 => AreaKind::Stack,
        _ => AreaKind::Anonymous,
    }
}
