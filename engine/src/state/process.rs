//! Tracked processes: their identity, their attributes and their progress.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::{EXIT_DEAD, EXIT_ZOMBIE, Task};
use panoptes_decoders::layout::c_string;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::container::ContainerKey;
use super::facts::{self, ProcessFacts};
use crate::page_cache::{ContentSource, Hashes};
use crate::path::{PathBuffer, write_file_name, write_path};
use crate::walk::{Ids, NONE, PathRef, ProcessRow, Snapshot, Views, view};
use panoptes_tables::{Key, Row};
use panoptes_tables::{StringId, Strings};

/// Identifies a process: its process id and its start time.
///
/// The address of its `task_struct` is not part of the key: if a thread other than the leader calls
/// exec, it takes over both from the leader (`de_thread`, fs/exec.c), and the process goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProcessKey {
    /// The tgid.
    pub process_id: u32,
    /// Nanoseconds from boot to its creation.
    pub start_boottime: u64,
}

impl ProcessKey {
    pub(crate) fn of(task: &Task) -> Self {
        Self { process_id: task.tgid, start_boottime: task.start_boottime }
    }
}

impl Key for ProcessKey {
    fn hash(&self, seed: u64) -> u64 {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.start_boottime.to_le_bytes());
        bytes[8..].copy_from_slice(&self.process_id.to_le_bytes());
        xxh3_64_with_seed(&bytes, seed)
    }
}

#[derive(Debug)]
pub struct Process {
    pub key: ProcessKey,
    /// Address of its leader's `task_struct`.
    pub address: KernelVa,
    /// When it was first seen, in nanoseconds since 1970.
    pub first_seen_ns: i64,
    /// Its index in the current scan, or [`NONE`].
    pub(super) row: u32,
    pub(super) life: Life,
    runs: Program,
    /// The previous program, kept until a scan with stable data has shown which descriptors exec
    /// closed.
    ran_before: Option<Program>,
    held_still: bool,
    /// `self_exec_id` when it was first seen.
    first_exec_id: u32,
    in_exec_since_ns: Option<i64>,
    directory: Name,
    container: Option<StringId>,
    container_key: Option<ContainerKey>,
    creation_time_ns: Option<i64>,
    parent: Option<u32>,
    ids: Option<Ids>,
    state: u32,
    exit_state: u32,
    on_cpu: bool,
    cpu_time_ns: u64,
    pid_namespace: u32,
    mount_namespace: u32,
    network_namespace: u32,
}

/// The program of a process; exec replaces all of it.
#[derive(Clone, Copy, Debug, Default)]
struct Program {
    name: [u8; 16],
    self_exec_id: u32,
    executable: Name,
    executable_size: Option<u64>,
    executable_hashes: Option<Hashes>,
    command_line: Option<StringId>,
    command_line_cut: bool,
}

impl Program {
    fn new(task: &Task) -> Self {
        Self { name: task.comm, self_exec_id: task.self_exec_id, ..Self::default() }
    }

    /// Releases its names.
    fn release(&self, strings: &mut Strings) {
        for id in [self.executable.id, self.command_line].into_iter().flatten() {
            strings.release(id);
        }
    }
}

/// The progress of a process.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent one-shot flags")]
pub(super) struct Life {
    /// Whether it existed when watching started, so that its creation is not reported.
    pub(super) existing: bool,
    /// Whether it was reported, or recorded as baseline.
    pub(super) announced: bool,
    /// Number of scans that showed it before that.
    pub(super) pending_scans: u32,
    /// Whether its end was reported; the row stays until no scan shows the process any more.
    pub(super) ended: bool,
    /// Number of complete scans in a row from which it was absent.
    pub(super) absent_scans: u32,
    /// Number of scans in a row, complete or not, that showed neither it nor any of its threads.
    pub(super) unseen_scans: u32,
    /// Number of scans in a row in which the same views hid it; below, which views, and since when.
    pub(super) hidden_scans: u32,
    pub(super) hidden_from: Views,
    pub(super) hidden_task: KernelVa,
    pub(super) hidden_since_ns: i64,
    pub(super) hidden_reported: bool,
    /// Number of scans in a row in which it was a zombie.
    pub(super) zombie_scans: u32,
    pub(super) zombie_reported: bool,
}

/// A path, and the objects that it was made from.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    id: Option<StringId>,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Place {
    mount: KernelVa,
    dentry: KernelVa,
    unlinked: bool,
}

impl Place {
    fn of(snapshot: &Snapshot, path: PathRef) -> Option<Self> {
        let dentry = snapshot.dentries.at(path.dentry)?;
        let mount = snapshot.mounts.at(path.mount)?;
        Some(Self {
            mount: mount.address,
            dentry: dentry.name.address,
            unlinked: dentry.name.unlinked,
        })
    }
}

/// Bytes of a command line that are kept.
const COMMAND_LINE_BYTES_MAX: usize = 4096;
/// A path is made again if its file or directory has changed, and every this many scans, because a
/// directory above it may have been renamed.
const REFRESH_SCANS: u32 = 64;
/// Number of scans after which a new process is reported although its data was never stable.
const PENDING_SCANS_MAX: u32 = 4;
/// Number of scans, in addition to the grace, that a process inside exec gets to come out of it.
const EXEC_SCANS_MAX: u32 = 2;
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
    pub(super) fn new(task: &Task, now_ns: i64) -> Self {
        Self {
            key: ProcessKey::of(task),
            address: task.address,
            first_seen_ns: now_ns,
            row: NONE,
            life: Life::default(),
            runs: Program::new(task),
            ran_before: None,
            held_still: false,
            first_exec_id: task.self_exec_id,
            in_exec_since_ns: None,
            directory: Name::default(),
            container: None,
            container_key: None,
            creation_time_ns: None,
            parent: None,
            ids: None,
            state: task.state,
            exit_state: task.exit_state,
            on_cpu: task.on_cpu,
            cpu_time_ns: 0,
            pid_namespace: 0,
            mount_namespace: 0,
            network_namespace: 0,
        }
    }

    pub fn process_id(&self) -> u32 {
        self.key.process_id
    }

    /// Number of execs in its line of descent.
    pub fn self_exec_id(&self) -> u32 {
        self.runs.self_exec_id
    }

    /// Since when scans show it inside exec, in nanoseconds since 1970. Its memory is already that
    /// of the next program, while `self_exec_id` may still be that of the last.
    pub(crate) fn in_exec_since_ns(&self) -> Option<i64> {
        self.in_exec_since_ns
    }

    /// Its index among the processes of the last scan, or [`NONE`].
    pub(crate) fn row(&self) -> u32 {
        self.row
    }

    /// The threads of the scan that share its descriptor table.
    pub(super) fn threads_of_table<'a>(&self, snapshot: &'a Snapshot) -> &'a [u32] {
        let row = snapshot.processes.at(self.row);
        let table = row.and_then(|row| snapshot.files_structs.at(row.files));
        table.map_or(&[], |table| snapshot.files_threads.range(&table.threads))
    }

    /// Whether it existed when watching started.
    pub(crate) fn preexisting(&self) -> bool {
        self.life.existing
    }

    /// Whether its program already ran when watching started.
    pub(crate) fn program_preexisting(&self) -> bool {
        self.life.existing && self.first_exec_id == self.runs.self_exec_id
    }

    /// Number of scans that showed it before this one, up to a few.
    pub(crate) fn scans_before(&self) -> u32 {
        self.life.pending_scans.saturating_sub(1)
    }

    /// Time of its fork, in nanoseconds since 1970.
    pub(super) fn creation_time_ns(&self) -> Option<i64> {
        self.creation_time_ns
    }

    /// `comm`
    pub fn name(&self) -> &[u8] {
        c_string(&self.runs.name)
    }

    /// `EXIT_*` of its leader.
    pub fn exit_state(&self) -> u32 {
        self.exit_state
    }

    /// Key of its container.
    pub fn container_key(&self) -> Option<ContainerKey> {
        self.container_key
    }

    /// Identifier or name of its container.
    pub fn container<'a>(&self, strings: &'a Strings) -> Option<&'a [u8]> {
        self.container.map(|id| strings.get(id))
    }

    pub fn facts<'a>(&'a self, strings: &'a Strings) -> ProcessFacts<'a> {
        self.facts_of(&self.runs, strings)
    }

    /// Its facts when it closed a descriptor that it wrote through: descriptors that close on exec
    /// belong to the previous program. (Records follow the order of observation: after an exec, no
    /// other record is about the previous program.)
    pub fn facts_at_close<'a>(
        &'a self,
        close_on_exec: bool,
        strings: &'a Strings,
    ) -> ProcessFacts<'a> {
        let before = self.ran_before.as_ref().filter(|_| close_on_exec);
        self.facts_of(before.unwrap_or(&self.runs), strings)
    }

    fn facts_of<'a>(&'a self, runs: &'a Program, strings: &'a Strings) -> ProcessFacts<'a> {
        let text = |id: Option<StringId>| id.map(|id| strings.get(id));
        ProcessFacts {
            name: c_string(&runs.name),
            process_id: self.key.process_id,
            self_exec_id: Some(runs.self_exec_id),
            executable: text(runs.executable.id),
            executable_size: runs.executable_size,
            executable_hashes: runs.executable_hashes,
            directory: text(self.directory.id),
            command_line: text(runs.command_line),
            command_line_cut: runs.command_line_cut,
            creation_time_ns: self.creation_time_ns,
            parent_process_id: self.parent,
            ids: self.ids,
            state: Some((self.state, self.exit_state)),
            cpu_time_ns: Some(self.cpu_time_ns),
            pid_namespace: self.pid_namespace,
            mount_namespace: self.mount_namespace,
            network_namespace: self.network_namespace,
            container: text(self.container),
            container_key: self.container_key,
        }
    }

    /// Updates it from the scan. What the scan could not read stays, so that a process that has
    /// released everything can still be described.
    pub(super) fn refresh(
        &mut self,
        snapshot: &Snapshot,
        process: &ProcessRow,
        container: Option<ContainerKey>,
        scan: u32,
        strings: &mut Strings,
        buffer: &mut PathBuffer,
    ) {
        let Some(leader) = snapshot.leader(process) else { return };
        let task = &leader.task;
        self.address = task.address;
        self.forget_before(strings);
        self.held_still = process.stable;
        self.state = task.state;
        self.exit_state = task.exit_state;
        self.on_cpu = task.on_cpu;
        self.cpu_time_ns = facts::cpu_time_ns(process);
        self.ids = process.ids.or(self.ids);
        self.parent = facts::parent(snapshot, process).or(self.parent);
        for (kept, seen) in [
            (&mut self.pid_namespace, process.pid_namespace),
            (&mut self.mount_namespace, process.mount_namespace),
            (&mut self.network_namespace, process.network_namespace),
        ] {
            if seen != 0 {
                *kept = seen;
            }
        }
        match snapshot.container_of(process) {
            Some(id) => {
                set_text(strings, &mut self.container, id);
                self.container_key = container;
            }
            // It left its container; but an ended process keeps its last one.
            None if task.exit_state == 0 && process.container_known => {
                self.container_key = None;
                if let Some(id) = self.container.take() {
                    strings.release(id);
                }
            }
            None => {}
        }
        if self.creation_time_ns.is_none() {
            self.creation_time_ns = facts::creation_time_ns(snapshot, leader);
        }
        if self.runs.self_exec_id != task.self_exec_id {
            // Another program: nothing of the last one may stand for what cannot be read of it.
            let before = core::mem::replace(&mut self.runs, Program::new(task));
            if let Some(older) = self.ran_before.replace(before) {
                older.release(strings);
            }
        }
        self.runs.name = task.comm;
        // If it ended while it was read, its memory may already have belonged to another process.
        // Inside exec, its memory is the next program's.
        let is_its_own = process.stable && self.in_exec_since_ns.is_none();
        if !is_its_own && self.runs.executable.id.is_some() {
            return;
        }
        let again = scan.wrapping_add(self.key.process_id).is_multiple_of(REFRESH_SCANS);
        self.refresh_executable(snapshot, process, again, strings, buffer);
        if let Some(place) = Place::of(snapshot, process.cwd)
            && (place != self.directory.place || again)
            && write_path(snapshot, process.cwd, buffer).is_some()
        {
            set_text(strings, &mut self.directory.id, buffer.text());
            self.directory.place = place;
        }
        self.refresh_command_line(snapshot, process, strings);
    }

    fn refresh_executable(
        &mut self,
        snapshot: &Snapshot,
        process: &ProcessRow,
        again: bool,
        strings: &mut Strings,
        buffer: &mut PathBuffer,
    ) {
        let mm = snapshot.mms.at(process.mm);
        let Some(file) = mm.and_then(|mm| snapshot.files.at(mm.exe_file)) else { return };
        if let Some(inode) = snapshot.inodes.at(file.inode) {
            self.runs.executable_size = Some(inode.attributes.size);
        }
        if let Some(place) = Place::of(snapshot, file.path)
            && (place != self.runs.executable.place || again)
            && write_file_name(snapshot, file, buffer).is_some()
        {
            set_text(strings, &mut self.runs.executable.id, buffer.text());
            if place != self.runs.executable.place {
                // Another file without an exec, by `PR_SET_MM_EXE_FILE`; or the same file, whose
                // hashes are soon known again.
                self.runs.executable_hashes = None;
            }
            self.runs.executable.place = place;
        }
    }

    /// Notes whether the scan shows it inside exec.
    pub(super) fn watch_exec(&mut self, snapshot: &Snapshot, process: &ProcessRow, now_ns: i64) {
        let since = self.in_exec_since_ns.unwrap_or(now_ns);
        self.in_exec_since_ns = is_inside_exec(snapshot, process).then_some(since);
    }

    /// Asks for the hashes of its executable until they are known: while it runs, nothing can write
    /// to it.
    pub(super) fn refresh_hashes(
        &mut self,
        snapshot: &Snapshot,
        process: &ProcessRow,
        files: &mut dyn ContentSource,
    ) {
        if self.runs.executable_hashes.is_none()
            && process.stable
            && self.in_exec_since_ns.is_none()
            && let Some(file) = facts::executable_of(snapshot, process)
        {
            self.runs.executable_hashes = files.ask(&file).and_then(|known| known.hashes());
        }
    }

    fn refresh_command_line(
        &mut self,
        snapshot: &Snapshot,
        process: &ProcessRow,
        strings: &mut Strings,
    ) {
        let Some(mm) = snapshot.mms.at(process.mm) else { return };
        let Some(text) = facts::command_line(snapshot, mm) else { return };
        let kept = text.get(..COMMAND_LINE_BYTES_MAX).unwrap_or(text);
        set_text(strings, &mut self.runs.command_line, kept);
        self.runs.command_line_cut = mm.command_line_cut || kept.len() < text.len();
    }

    /// Forgets the previous program, once the descriptors that exec closed were reported.
    pub(super) fn forget_before(&mut self, strings: &mut Strings) {
        let held_still = self.held_still;
        if let Some(before) = self.ran_before.take_if(|_| held_still) {
            before.release(strings);
        }
    }

    /// Releases its names.
    pub(super) fn release(&mut self, strings: &mut Strings) {
        self.runs.release(strings);
        if let Some(before) = self.ran_before.take() {
            before.release(strings);
        }
        let Program { name, self_exec_id, .. } = self.runs;
        self.runs = Program { name, self_exec_id, ..Program::default() };
        for id in [self.directory.id.take(), self.container.take()].into_iter().flatten() {
            strings.release(id);
        }
    }

    /// Whether it has ended and only its exit code is left. A task that still runs is a zombie only
    /// until it has found out that no parent waits for it (`exit_notify`, kernel/exit.c), however
    /// long its processor lets it wait there.
    pub(super) fn is_zombie(&self) -> bool {
        self.exit_state & EXIT_ZOMBIE != 0 && !self.on_cpu
    }

    /// Whether a new process can be reported: its data is stable and complete. A forked process may
    /// be about to exec, and its attributes are still its parent's, so it gets `grace` more scans.
    /// A process inside exec gets a few more, to have arguments.
    pub(super) fn is_whole_enough(
        &self,
        snapshot: &Snapshot,
        process: &ProcessRow,
        grace: u32,
    ) -> bool {
        let pending = self.life.pending_scans;
        let Some(leader) = snapshot.leader(process) else { return false };
        let task = &leader.task;
        let exec_grace = grace.saturating_add(EXEC_SCANS_MAX);
        pending >= PENDING_SCANS_MAX
            || task.exit_state != 0
            || (process.stable
                && (pending >= exec_grace || !is_inside_exec(snapshot, process))
                && (pending >= grace
                    || task.is_kernel_thread()
                    || parent_exec_id(snapshot, process) != Some(task.self_exec_id)))
    }

    /// Counts the scans in a row in which the same views hide it. Returns these views once that
    /// cannot be a coincidence, after `confirm_scans`.
    pub(super) fn watch_views(
        &mut self,
        row: &ProcessRow,
        confirm_scans: u32,
        now_ns: i64,
    ) -> Option<Views> {
        let life = &mut self.life;
        if life.hidden_task != self.address {
            // Another task in its place does not inherit the count.
            (life.hidden_task, life.hidden_scans) = (self.address, 0);
        }
        let before = if life.hidden_scans == 0 { Views::NONE } else { life.hidden_from };
        let still = before.and(row.missing);
        if !still.is_empty() {
            life.hidden_from = still;
            life.hidden_scans = life.hidden_scans.saturating_add(1);
        } else if !before.and(row.unknown).is_empty() || !row.stable {
            // Nothing is known from this scan, except that some views show it again.
            if row.stable {
                life.hidden_from = before.and(row.unknown);
            }
            return None;
        } else {
            life.hidden_from = row.missing;
            life.hidden_scans = u32::from(!row.missing.is_empty());
            life.hidden_since_ns = now_ns;
        }
        let confirm_scans = if life.hidden_from.has(view::CERTAIN) {
            confirm_scans
        } else {
            confirm_scans.saturating_add(DOUBT_SCANS)
        };
        (life.hidden_scans >= confirm_scans).then_some(life.hidden_from)
    }
}

/// Whether the scan shows a task that has ended for good and only waits for its memory to be freed.
pub(super) fn is_dead(task: &Task) -> bool {
    task.exit_state == EXIT_DEAD
}

/// Whether a process's new program is not set up yet: exec raises `self_exec_id` (`begin_new_exec`,
/// fs/exec.c) before it sets the end of the arguments (`create_elf_tables`, fs/binfmt_elf.c).
fn is_inside_exec(snapshot: &Snapshot, process: &ProcessRow) -> bool {
    // No process can set this end to 0 (`prctl_set_mm_map`, kernel/sys.c, refuses addresses below
    // `mmap_min_addr`), though it could make the arguments empty.
    snapshot.mms.at(process.mm).is_some_and(|mm| mm.arguments.end == 0)
}

/// The exec id of a process's parent: equal to its own as long as neither has called exec since the
/// fork.
fn parent_exec_id(snapshot: &Snapshot, process: &ProcessRow) -> Option<u32> {
    let parent = snapshot.process_by_pid(process.parent_pid)?;
    Some(snapshot.leader(parent)?.task.self_exec_id)
}

/// Sets a row's text, unless it is the same.
pub(super) fn set_text(strings: &mut Strings, place: &mut Option<StringId>, text: &[u8]) {
    if place.is_some_and(|id| strings.get(id) == text) {
        return;
    }
    // Intern the new text first: if both share an entry, it must not be freed in between.
    let new = strings.intern(text);
    if let Some(old) = core::mem::replace(place, new) {
        strings.release(old);
    }
}
