//! Tracked processes: their identity, their attributes and their progress.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::{EXIT_DEAD, EXIT_ZOMBIE, Task};
use panoptes_decoders::layout::c_string;

use super::described::{
    CONTAINER_ID_BYTES, DIRECTORY_BYTES, EXECUTABLE_BYTES, LINE_BYTES, ProcessDescription,
    ProgramDescription, set_reserved,
};
use super::facts::{self, ProcessFacts, ProcessNumbers};
use super::file_names::FileNames;
use super::keys::ContainerKey;
pub use super::keys::ProcessKey;
use super::path_identity::PathIdentity;
use crate::page_cache::{Asker, ContentSource};
use crate::path::{write_file_name, write_path};
use crate::time::{Monotonic, RealTime};
use crate::walk::{Index, ProcessRow, Snapshot, TaskFate, ThreadRow, Views, view};
use panoptes_tables::{CutText, Row, STRING_BYTES_MAX, ScanNumber, Strings};

#[derive(Debug, Default)]
pub struct Process {
    pub key: ProcessKey,
    /// Address of its leader's `task_struct`.
    pub address: KernelVa,
    /// When it was first seen.
    pub first_seen: Monotonic,
    /// Its row in the current scan, if that shows it.
    pub(super) row: Option<Index<ProcessRow>>,
    pub(super) life: Life,
    described: ProcessDescription,
    /// The files that the paths in its description were made from.
    executable_place: PathIdentity,
    directory_place: PathIdentity,
    /// The previous program, kept until a scan with stable data has shown which descriptors exec
    /// closed, and until the exec is reported.
    ran_before: Option<ProgramDescription>,
    /// Whether descriptors that exec closes may still be found closed.
    is_closing: bool,
    held_still: bool,
    /// Number of consecutive scans in which its program moved while it was read, saturating.
    moving_scans: u8,
    exec: Exec,
    /// `self_exec_id` when it was first seen.
    pub(super) first_exec_id: u32,
    in_exec_since: Option<Monotonic>,
    on_cpu: bool,
}

/// The exec of a process's present program.
#[derive(Clone, Copy, Debug, Default)]
struct Exec {
    /// Whether it is to be reported.
    is_due: bool,
    /// Whether a scan has shown the program, set up and stable.
    is_seen: bool,
    /// When the first such scan was, in milliseconds.
    since_ms: u32,
    /// The version of its areas in the last such scan, and since when it is that one.
    areas_version: u32,
    same_since_ms: u32,
}

/// How far an exec of a process is, as long as its end is worth the wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InExec {
    /// There is none, or it takes long.
    No,
    /// The memory is already that of the next program, but the process still counts as running the
    /// last one.
    Begun,
    /// The next program is not described yet: it has no arguments.
    Undescribed,
}

/// A time in milliseconds, which begins anew after some weeks: for short times between two.
fn milliseconds(now: Monotonic) -> u32 {
    (now.since(Monotonic::default()) / 1_000_000) as u32
}

/// A process as a scan shows it.
#[derive(Clone, Copy)]
pub(super) struct ScannedProcess<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) row: &'a ProcessRow,
    pub(super) leader: &'a ThreadRow,
}

/// How far a process was reported.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum LifeStage {
    #[default]
    Pending,
    /// It was reported, or recorded as baseline.
    Announced,
    /// Its end was reported; the row stays until no scan shows the process any more.
    Ended,
}

/// The progress of a process.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Life {
    pub(super) stage: LifeStage,
    /// Whether it existed when watching started, so that its creation is not reported.
    pub(super) existing: bool,
    /// Whether it was reported, made room for others, and is tracked again.
    pub(super) returned: bool,
    /// Whether a scan before has shown it, and one that counts.
    pub(super) was_shown: bool,
    was_counted: bool,
    /// Number of scans that count and have shown it after the first of these.
    pub(super) scans_before: u32,
    /// Number of consecutive complete scans from which it was absent.
    pub(super) absent_scans: u32,
    /// Number of consecutive scans, complete or not, that showed neither it nor any of its threads.
    pub(super) unseen_scans: u32,
    pub(super) hidden: HidingViews,
    /// Since when each scan that showed it has shown a zombie.
    pub(super) zombie_since: Option<Monotonic>,
    pub(super) zombie_reported: bool,
    /// Since when no scan has shown consistent data about it.
    pub(super) unstable_since: Option<Monotonic>,
}

impl Life {
    /// Notes a scan that shows it, and counts so often. Returns whether it is the first one.
    pub(super) fn note_scan(&mut self, counts: u8) -> bool {
        if self.was_counted {
            self.scans_before = self.scans_before.saturating_add(counts.into());
        }
        self.was_counted |= counts > 0;
        !core::mem::replace(&mut self.was_shown, true)
    }

    pub(super) fn is_announced(&self) -> bool {
        self.stage != LifeStage::Pending
    }

    pub(super) fn is_ended(&self) -> bool {
        self.stage == LifeStage::Ended
    }

    /// Whether it began while the machine was watched, and was not tracked before.
    pub(super) fn is_news(&self) -> bool {
        !self.existing && !self.returned
    }
}

/// How many scans must show that views hide a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confirm {
    /// Required number of consecutive scans.
    pub(super) scans: u32,
    /// How often this scan counts.
    pub(super) counts: u32,
    /// Whether it is a scan of a copy of memory, which never changes.
    pub(super) is_copied: bool,
}

/// The views that hide a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HidingViews {
    /// Number of consecutive scans in which the same views hid it.
    pub(super) scans: u32,
    from: Views,
    /// Address of the task that they hid.
    task: KernelVa,
    pub(super) since_ns: RealTime,
    pub(super) reported: bool,
}

/// Bytes of a command line that are kept.
pub(crate) const COMMAND_LINE_BYTES_MAX: usize = 4096;
const _: () = assert!(COMMAND_LINE_BYTES_MAX <= STRING_BYTES_MAX, "a whole line is kept");
/// A path is made again if its file or directory has changed, and every this many scans, because a
/// directory above it may have been renamed.
const REFRESH_SCANS: u32 = 64;
/// Time without a change of a new program's areas after which its loader counts as finished.
const LOADED_MS: u32 = 15;
/// Time after which an exec is reported although the program's areas still change.
const LOADING_MAX_MS: u32 = 100;
/// Number of scans after which a new process is reported although its data was never stable.
const PENDING_SCANS_MAX: u32 = 4;
/// Number of consecutive scans after which the program of a process that never holds still is
/// described by what a scan read. The process must have the same executable at the scan's end.
const MOVING_SCANS_MAX: u8 = 3;
/// Number of scans, in addition to the grace, that a process inside exec gets to come out of it.
const EXEC_SCANS_MAX: u32 = 2;
/// Time for which what scans show of a process inside exec waits for its program. An exec waits for
/// the disk if the program is not in memory.
const EXEC_WAIT_NS: i64 = 500_000_000;
/// Number of additional scans in which a view must hide a process if the kernel removes it from
/// that view for a moment (`css_set_move_task`, kernel/cgroup/cgroup.c). A guest's processor can
/// stand still for long in the middle of that.
const DOUBT_SCANS: u32 = 10;

impl Row for Process {
    type Key = ProcessKey;

    fn key(&self) -> ProcessKey {
        self.key
    }
}

impl Process {
    /// A process as the scan shows it first.
    pub(super) fn new(task: &Task, now: Monotonic) -> Self {
        Self {
            key: ProcessKey::of(task),
            address: task.address,
            first_seen: now,
            described: ProcessDescription::new(task),
            first_exec_id: task.self_exec_id,
            exec: Exec { is_due: !task.is_fork(), ..Exec::default() },
            on_cpu: task.on_cpu,
            ..Self::default()
        }
    }

    /// A process that a scan found only after its end. What it had is gone.
    pub(super) fn recovered(task: &Task, snapshot: &Snapshot, now: Monotonic) -> Self {
        let mut process = Self::new(task, now);
        process.life.stage = LifeStage::Ended;
        process.described.was_recovered = true;
        process.described.numbers = ProcessNumbers::of_ended(task, snapshot);
        process
    }

    pub fn process_id(&self) -> u32 {
        self.key.process_id
    }

    /// Number of execs in its line of descent.
    pub fn self_exec_id(&self) -> u32 {
        self.described.program.self_exec_id
    }

    /// Since when scans show it inside exec, in nanoseconds since 1970. Its memory is already that
    /// of the next program, while `self_exec_id` may still be that of the last.
    pub(crate) fn in_exec_since(&self) -> Option<Monotonic> {
        self.in_exec_since
    }

    /// How far its exec is.
    pub(super) fn exec_state(&self, now: Monotonic) -> InExec {
        match self.in_exec_since {
            Some(since) if now.since(since) < EXEC_WAIT_NS => {
                let is_described = self.described.program.command_line.is_some();
                if is_described { InExec::Begun } else { InExec::Undescribed }
            }
            _ => InExec::No,
        }
    }

    /// Its row in the last scan, if that showed it.
    pub(crate) fn row(&self) -> Option<Index<ProcessRow>> {
        self.row
    }

    /// The threads of the scan that share its descriptor table.
    pub(super) fn threads_of_table<'a>(&self, snapshot: &'a Snapshot) -> &'a [u32] {
        let row = snapshot.processes.at(self.row);
        let table = row.and_then(|row| snapshot.files_structs.at(row.files));
        table.map_or(&[], |table| snapshot.files_threads.range(table.threads))
    }

    /// Whether it existed when watching started.
    pub(crate) fn preexisting(&self) -> bool {
        self.life.existing
    }

    /// Whether its program already ran when watching started.
    pub(crate) fn program_preexisting(&self) -> bool {
        self.life.existing && self.first_exec_id == self.described.program.self_exec_id
    }

    /// Notes that it began while contact was lost: after the last scan before, and before the
    /// machine was watched again.
    pub(super) fn set_began_unwatched(&mut self) {
        self.described.began_unwatched = true;
    }

    pub(crate) fn began_unwatched(&self) -> bool {
        self.described.began_unwatched
    }

    /// Number of scans that showed it before this one, up to a few.
    pub(crate) fn scans_before(&self) -> u32 {
        self.life.scans_before
    }

    /// Time of its fork, in nanoseconds since 1970.
    pub(super) fn creation_time_ns(&self) -> Option<i64> {
        self.described.numbers.creation_time_ns.get()
    }

    /// `comm`
    pub fn name(&self) -> &[u8] {
        c_string(&self.described.program.name)
    }

    /// `EXIT_*` of its leader.
    pub fn exit_state(&self) -> u32 {
        self.described.numbers.state.map_or(0, |(_, exit_state)| exit_state)
    }

    /// Key of its container.
    pub fn container_key(&self) -> Option<ContainerKey> {
        self.described.container_key()
    }

    /// Identifier or name of its container.
    pub fn container<'a>(&self, strings: &'a Strings) -> Option<&'a [u8]> {
        self.described.container.map(|id| strings.get(id))
    }

    pub fn facts<'a>(&'a self, strings: &'a Strings) -> ProcessFacts<'a> {
        self.described.facts(strings)
    }

    /// Whether root alone could have put the file that it executes where it is, in its own mounts
    /// ([`Snapshot::is_put_by_root`]). That is kept after its end.
    pub(crate) fn ran_file_put_by_root(&self) -> bool {
        self.described.program.is_put_by_root
    }

    pub(crate) fn described(&self) -> &ProcessDescription {
        &self.described
    }

    /// Its description when it closed a descriptor that it wrote through: descriptors that close on
    /// exec belong to the previous program. (Records follow the order of observation: after an
    /// exec, no other record is about the previous program.)
    pub(crate) fn described_at_close(&self, close_on_exec: bool) -> ProcessDescription {
        let mut described = self.described;
        if let Some(before) = self.ran_before.filter(|_| close_on_exec && self.is_closing) {
            described.program = before;
        }
        described
    }

    /// Updates it from the scan. What the scan could not read stays, so that a process that has
    /// released everything can still be described.
    pub(super) fn refresh(
        &mut self,
        seen: ScannedProcess<'_>,
        container: Option<ContainerKey>,
        scan: ScanNumber,
        names: &mut FileNames,
    ) {
        let ScannedProcess { snapshot, row: process, leader } = seen;
        let task = &leader.task;
        let strings = &mut names.strings;
        self.forget_before(strings);
        if process.fate == TaskFate::Replaced {
            self.held_still = false;
            return;
        }
        self.address = task.address;
        self.held_still = process.stable && process.files_stable;
        self.on_cpu = task.on_cpu;
        let described = &mut self.described;
        let numbers = ProcessNumbers::read(snapshot, process, leader);
        if process.stable || !self.life.was_shown {
            described.numbers = numbers.or_before(&described.numbers);
            self.refresh_container(seen, container, strings);
        } else {
            described.numbers = numbers.only_state(&described.numbers);
        }
        let described = &mut self.described;
        if described.program.self_exec_id != task.self_exec_id {
            // Another program: nothing of the last one may stand for what cannot be read of it.
            let before = core::mem::replace(&mut described.program, ProgramDescription::new(task));
            self.executable_place = PathIdentity::default();
            self.is_closing = true;
            self.exec = Exec { is_due: true, ..Exec::default() };
            if let Some(older) = self.ran_before.replace(before) {
                older.release(strings);
            }
        }
        described.program.name = task.comm;
        // If it ended while it was read, its memory may already have belonged to another process.
        // Inside exec, its memory is the next program's.
        let is_its_own = process.stable && self.in_exec_since.is_none();
        // What ended cannot be read again, and what calls exec all the time never holds still.
        let is_last = process.fate == TaskFate::Ended
            || self.moving_scans >= MOVING_SCANS_MAX && process.fate != TaskFate::ProgramChanged;
        let moving_scans = self.moving_scans.saturating_add(snapshot.counts());
        self.moving_scans = if is_its_own { 0 } else { moving_scans };
        if is_its_own || is_last && described.program.executable.is_none() {
            let again = scan.after(self.key.process_id).0.is_multiple_of(REFRESH_SCANS);
            self.refresh_executable(seen, again, names);
            self.refresh_directory(seen, again, names);
            self.refresh_command_line(seen, &mut names.strings);
        } else if process.stable && self.counts_as_next(seen) {
            self.refresh_executable(seen, false, names);
        }
    }

    /// Whether it is inside exec and counts as running the program whose memory it has: exec sets
    /// the executable before the number (`begin_new_exec`, fs/exec.c).
    fn counts_as_next(&self, seen: ScannedProcess<'_>) -> bool {
        let program = &self.described.program;
        let is_new = program.self_exec_id != self.first_exec_id
            || parent_exec_id(seen).is_some_and(|parent| parent != program.self_exec_id);
        self.in_exec_since.is_some() && program.executable.is_none() && is_new
    }

    fn refresh_container(
        &mut self,
        seen: ScannedProcess<'_>,
        container: Option<ContainerKey>,
        strings: &mut Strings,
    ) {
        let ScannedProcess { snapshot, row: process, leader } = seen;
        let described = &mut self.described;
        match snapshot.container_of(process) {
            Some(id) => {
                set_reserved(
                    strings,
                    &mut described.container,
                    id,
                    CONTAINER_ID_BYTES,
                    CutText::new,
                );
                let is_roots = snapshot.is_in_container_of_root(process);
                described.set_container_key(container, is_roots);
            }
            // It left its container; but an ended process keeps its last one.
            None if leader.task.exit_state == 0 && process.container_known => {
                described.set_container_key(None, false);
                if let Some(id) = described.container.take() {
                    strings.release(id);
                }
            }
            None => {}
        }
    }

    fn refresh_executable(&mut self, seen: ScannedProcess<'_>, again: bool, names: &mut FileNames) {
        let ScannedProcess { snapshot, row, .. } = seen;
        let mm = snapshot.mms.at(row.mm);
        let Some(file) = mm.and_then(|mm| snapshot.files.at(mm.exe_file)) else { return };
        let program = &mut self.described.program;
        if let Some(inode) = snapshot.inodes.at(file.inode).filter(|inode| inode.was_read()) {
            program.set_executable_size(inode.attributes.size);
        }
        if let Some(place) = PathIdentity::of(snapshot, file.path)
            && (place != self.executable_place || again)
            && write_file_name(snapshot, file, &mut names.buffer).is_ok()
        {
            let (strings, text) = (&mut names.strings, names.buffer.text());
            set_reserved(strings, &mut program.executable, text, EXECUTABLE_BYTES, CutText::new);
            program.is_roots = snapshot.runs_program_of_root(row);
            program.is_put_by_root = snapshot.is_put_by_root(file);
            if place != self.executable_place {
                // Another file without an exec, by `PR_SET_MM_EXE_FILE`; or the same file, whose
                // hashes are soon known again.
                program.executable_hashes = None;
            }
            self.executable_place = place;
        }
    }

    fn refresh_directory(&mut self, seen: ScannedProcess<'_>, again: bool, names: &mut FileNames) {
        let ScannedProcess { snapshot, row, .. } = seen;
        if let Some(place) = PathIdentity::of(snapshot, row.cwd)
            && (place != self.directory_place || again)
            && write_path(snapshot, row.cwd, &mut names.buffer).is_ok()
        {
            let (strings, text) = (&mut names.strings, names.buffer.text());
            set_reserved(
                strings,
                &mut self.described.directory,
                text,
                DIRECTORY_BYTES,
                CutText::new,
            );
            self.directory_place = place;
        }
    }

    /// Notes whether the scan shows it inside exec.
    pub(super) fn watch_exec(&mut self, seen: ScannedProcess<'_>, now: Monotonic) {
        let since = self.in_exec_since.unwrap_or(now);
        self.in_exec_since = is_inside_exec(seen).then_some(since);
    }

    /// Asks for the hashes of its executable until they are known: while it runs, nothing can write
    /// to it.
    pub(super) fn refresh_hashes(
        &mut self,
        seen: ScannedProcess<'_>,
        files: &mut dyn ContentSource,
    ) {
        // Inside exec, its memory may be the next program's, which the path then is not about.
        let is_its_own = || {
            let mm = seen.snapshot.mms.at(seen.row.mm);
            let file = mm.and_then(|mm| seen.snapshot.files.at(mm.exe_file));
            let place = file.and_then(|file| PathIdentity::of(seen.snapshot, file.path));
            place == Some(self.executable_place)
        };
        if self.described.program.executable_hashes.is_none()
            && seen.row.stable
            && (self.in_exec_since.is_none() || is_its_own())
            && let Some(file) = facts::executable_of(seen.snapshot, seen.row)
        {
            let group = seen.snapshot.group_of(seen.row);
            let asker = Asker { process_id: self.key.process_id, group };
            let program = &mut self.described.program;
            program.executable_hashes = files.ask(&file, asker).and_then(|known| known.hashes());
        }
    }

    fn refresh_command_line(&mut self, seen: ScannedProcess<'_>, strings: &mut Strings) {
        let Some(mm) = seen.snapshot.mms.at(seen.row.mm) else { return };
        let Some(text) = facts::command_line(seen.snapshot, mm) else { return };
        let kept = text.get(..COMMAND_LINE_BYTES_MAX).unwrap_or(text);
        let program = &mut self.described.program;
        set_reserved(strings, &mut program.command_line, kept, LINE_BYTES, CutText::beginning);
        let length = program.command_line.map_or(0, |id| strings.get(id).len());
        program.command_line_cut = mm.command_line_cut || length < text.len();
    }

    /// Forgets the previous program, once the exec and the descriptors that it closed were
    /// reported.
    pub(super) fn forget_before(&mut self, strings: &mut Strings) {
        self.is_closing &= !self.held_still;
        let is_needed = self.is_closing || self.exec.is_due;
        if let Some(before) = self.ran_before.take_if(|_| !is_needed) {
            before.release(strings);
        }
    }

    /// Notes that the exec of its present program needs no report.
    pub(super) fn set_program_known(&mut self) {
        self.exec.is_due = false;
    }

    /// Whether the exec of the program that scans have shown so far is to be reported.
    pub(super) fn owes_exec(&self) -> bool {
        self.exec.is_due
            && self.life.is_announced()
            && self.in_exec_since.is_none()
            && self.described.program.executable.is_some()
    }

    /// The same before a scan that shows another program is taken into the description.
    pub(super) fn owes_exec_before(&self, task: &Task) -> bool {
        self.described.program.self_exec_id != task.self_exec_id
            && self.exec.is_seen
            && self.owes_exec()
    }

    /// Notes which areas a scan shows; returns whether its exec is to be reported now, because its
    /// loader has finished or takes long.
    pub(super) fn has_loaded(&mut self, areas_version: u32, now: Monotonic) -> bool {
        if !self.owes_exec() {
            return false;
        }
        let (now, exec) = (milliseconds(now), &mut self.exec);
        if !exec.is_seen {
            exec.since_ms = now;
        }
        if !exec.is_seen || exec.areas_version != areas_version {
            (exec.areas_version, exec.same_since_ms) = (areas_version, now);
        }
        exec.is_seen = true;
        now.wrapping_sub(exec.same_since_ms) >= LOADED_MS
            || now.wrapping_sub(exec.since_ms) >= LOADING_MAX_MS
    }

    /// Path of the program that it ran before, if a scan saw that.
    pub(super) fn executable_before<'a>(&self, strings: &'a Strings) -> Option<&'a [u8]> {
        self.ran_before?.executable.map(|id| strings.get(id))
    }

    /// Releases its names.
    pub(super) fn release(&mut self, strings: &mut Strings) {
        if let Some(before) = self.ran_before.take() {
            before.release(strings);
        }
        self.described.clear_names(strings);
    }

    /// Whether it has ended and only its exit code is left. A task that still runs is a zombie only
    /// until it has found out that no parent waits for it (`exit_notify`, kernel/exit.c), however
    /// long its processor lets it wait there.
    pub(super) fn is_zombie(&self) -> bool {
        self.exit_state() & EXIT_ZOMBIE != 0 && !self.on_cpu
    }

    /// Whether a new process can be reported: its data is stable and complete. A forked process may
    /// be about to exec, and its attributes are still its parent's, so it gets `grace` more scans.
    /// A process inside exec gets a few more, to have arguments.
    pub(super) fn is_whole_enough(&self, seen: ScannedProcess<'_>, grace: u32) -> bool {
        let pending = self.life.scans_before;
        let task = &seen.leader.task;
        let exec_grace = grace.saturating_add(EXEC_SCANS_MAX);
        pending >= PENDING_SCANS_MAX
            || task.exit_state != 0
            || (seen.row.stable
                && (pending >= exec_grace || !is_inside_exec(seen))
                && (pending >= grace
                    || task.is_kernel_thread()
                    || parent_exec_id(seen) != Some(task.self_exec_id)))
    }

    /// The views that hide it, if that is certain as of this scan and has to be reported.
    pub(super) fn begins_to_hide(
        &mut self,
        row: &ProcessRow,
        is_first: bool,
        confirm: Confirm,
        now: RealTime,
    ) -> Option<Views> {
        if is_first && !self.life.existing {
            // It may have begun in this scan, after its parent and the lists were read.
            return None;
        }
        let hidden = self.watch_views(row, confirm, now)?;
        let is_reported = self.life.is_announced() && !self.life.hidden.reported;
        self.life.hidden.reported |= is_reported;
        is_reported.then_some(hidden)
    }

    /// Counts the consecutive scans in which the same views hide it. Returns these views once that
    /// cannot be a coincidence. A copy of memory never changes, so its first scan shows as much as
    /// all others together.
    fn watch_views(&mut self, row: &ProcessRow, confirm: Confirm, now: RealTime) -> Option<Views> {
        let Confirm { scans: confirm_scans, counts, is_copied } = confirm;
        let hidden = &mut self.life.hidden;
        if hidden.task != self.address {
            // Another task in its place does not inherit the count.
            (hidden.task, hidden.scans) = (self.address, 0);
        }
        let before = if hidden.scans == 0 { Views::NONE } else { hidden.from };
        let still = before.and(row.missing);
        if !still.is_empty() {
            hidden.from = still;
            hidden.scans = hidden.scans.saturating_add(if is_copied { 0 } else { counts });
        } else if !before.and(row.unknown).is_empty() || !row.stable {
            // Nothing is known from this scan, except that some views show it again.
            if row.stable {
                hidden.from = before.and(row.unknown);
            }
            return None;
        } else {
            hidden.from = row.missing;
            hidden.scans = if row.missing.is_empty() { 0 } else { counts };
            hidden.since_ns = now;
        }
        let confirm_scans = if is_copied {
            1
        } else if hidden.from.has(view::CERTAIN) {
            confirm_scans
        } else {
            confirm_scans.saturating_add(DOUBT_SCANS)
        };
        (hidden.scans >= confirm_scans).then_some(hidden.from)
    }
}

/// Whether the scan shows a task that has ended for good and only waits for its memory to be freed.
pub(super) fn is_dead(task: &Task) -> bool {
    task.exit_state == EXIT_DEAD
}

/// Whether a process's new program is not set up yet: exec raises `self_exec_id` (`begin_new_exec`,
/// fs/exec.c) before it sets the end of the arguments (`create_elf_tables`, fs/binfmt_elf.c).
fn is_inside_exec(seen: ScannedProcess<'_>) -> bool {
    // No process can set this end to 0 (`prctl_set_mm_map`, kernel/sys.c, refuses addresses below
    // `mmap_min_addr`), though it could make the arguments empty.
    seen.snapshot.mms.at(seen.row.mm).is_some_and(|mm| mm.arguments.end == 0)
}

/// The exec id of a process's parent: equal to its own as long as neither has called exec since the
/// fork.
fn parent_exec_id(seen: ScannedProcess<'_>) -> Option<u32> {
    let parent = seen.snapshot.process_by_pid(seen.row.parent_pid)?;
    Some(seen.snapshot.leader(parent)?.task.self_exec_id)
}
