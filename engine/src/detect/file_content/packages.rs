//! Files that a package manager's processes write: one event of it, instead of an alert for each.
//!
//! A package manager is a process of root that runs one of the known ones ([`programs`]) from a
//! folder of the system, outside of containers. An SBOM of the system must approve its content.
//! Without one, it must be root's, and nobody else may write to it. What descends from such a
//! process belongs to it.
//!
//! While a machine starts, ldconfig is one, too, if process 1 has started it: systemd makes
//! `/etc/ld.so.cache` anew at the first start after `/usr` has changed (its `ldconfig.service`).
//!
//! What no descriptor shows belongs to the package manager that changed files at that time. Some
//! also run when they install nothing. Theirs are changes around the times at which their processes
//! were seen to write files; for services, files that matter. Only files of root count: a user may
//! ask a service to do something then.

mod programs;

use core::fmt;

use arrayvec::ArrayVec;
use panoptes_tables::{RecentList, StringId, Strings, room};

use self::programs::InstallTimes;
use super::important::is_installed;
use super::{ANY_EXECUTE, ShippedFiles};
use crate::detect::{Acceptance, DetectorContext, Finding};
use crate::page_cache::{Asker, ContentSource, FileIdentity, HashOutcome, Hashes};
use crate::path::{PathBuffer, write_path};
use crate::state::facts::{DescriptorFacts, FileName, NameBuffers, ProcessFacts, ProcessNumbers};
use crate::state::process::{Process, ProcessKey};
use crate::time::{Monotonic, Now};
use crate::walk::{Machine, PathRef, ProcessRow, Snapshot};

/// Time from boot on in which a slow machine has run all that it runs at its start.
const START_NS: u64 = 900_000_000_000;
/// Maximum number of package managers at a time. Changes by further ones are alerts.
const MANAGERS_MAX: usize = 8;
/// Number of files that one event lists.
pub const FILES_MAX: usize = 128;
/// Number of writers that are remembered with their package managers: a process that has ended has
/// no ancestors any more.
const WRITERS_MAX: usize = 232;
/// Maximum number of generations between a package manager and a writer.
const WRITER_GENERATIONS_MAX: usize = 16;
/// Number of times in which package managers ran that are remembered. Those of one installation are
/// one.
const PAST_MAX: usize = 48;
/// Time between two package managers of one installation, and between two writes of one.
const PAUSE_NS: i64 = 5_000_000_000;
/// Number of strings that package managers need: theirs, and their files' names.
pub(super) const STRINGS: usize = MANAGERS_MAX * (FILES_MAX + 4);

/// What one package manager's processes wrote.
#[derive(Clone, Copy)]
pub struct PackageFiles<'a> {
    /// The package manager as it was when it was first seen.
    pub process: ProcessFacts<'a>,
    /// Number of changed files that matter.
    pub count: u64,
    /// The names of the first of them.
    pub files: &'a [StringId],
    /// Where the names are.
    pub strings: &'a Strings,
}

impl fmt::Debug for PackageFiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackageFiles").field("process", &self.process).finish_non_exhaustive()
    }
}

/// A package manager.
#[derive(Clone, Debug)]
struct ManagerProcess {
    key: ProcessKey,
    executable: FileIdentity,
    asker: Asker,
    /// Whether its executable is root's, and nobody else may write to it.
    is_roots: bool,
    /// Whether an SBOM approves it, once that is known.
    is_approved: Option<bool>,
    ended: Option<ManagerEnd>,
    /// The times in which it changes files.
    times: InstallTimes,
    /// Writes of its processes, unless these times are the whole time for which it runs: the last
    /// ones, and those before the last pause, whose changes may still wait.
    writes: [Option<Writes>; 2],
    self_exec_id: Option<u32>,
    executable_size: Option<u64>,
    /// Hashes of its executable, where an SBOM asked for them.
    hashes: Option<Hashes>,
    name: Option<StringId>,
    path: Option<StringId>,
    directory: Option<StringId>,
    command_line: Option<StringId>,
    command_line_cut: bool,
    numbers: ProcessNumbers,
    files: ArrayVec<StringId, FILES_MAX>,
    count: u64,
}

/// Times at which processes were seen to write files, with short pauses, by the machine's clock.
#[derive(Clone, Copy, Debug)]
struct Writes {
    began_ns: i64,
    ended_ns: i64,
    /// When the last one was seen.
    at: Monotonic,
}

/// A time in which a package manager changed files, by the machine's clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct InstallPeriod {
    began_ns: i64,
    ended_ns: i64,
    /// Whether files of users count, too: see [`InstallTimes::AllAlong`].
    is_all_along: bool,
}

/// The time at which a package manager was seen to have ended.
#[derive(Clone, Copy, Debug)]
struct ManagerEnd {
    at: Monotonic,
    /// The same time by the machine's clock, in nanoseconds since 1970.
    calendar_ns: Option<i64>,
}

/// The package managers that run, and what they wrote.
#[derive(Debug)]
pub(super) struct Packages {
    managers: Vec<ManagerProcess>,
    /// Writers and their package managers.
    writers: RecentList<(ProcessKey, ProcessKey)>,
    /// Times in which trusted package managers ran that have ended.
    past: RecentList<InstallPeriod>,
    names: NameBuffers,
    buffer: PathBuffer,
}

impl Packages {
    pub(super) fn new() -> Self {
        Self {
            managers: room::list(MANAGERS_MAX),
            writers: RecentList::new(WRITERS_MAX),
            past: RecentList::new(PAST_MAX),
            names: NameBuffers::default(),
            buffer: PathBuffer::default(),
        }
    }

    /// The package manager that a process descends from, or is.
    pub(super) fn manager_of(
        &mut self,
        snapshot: &Snapshot,
        process: &Process,
        strings: &mut Strings,
    ) -> Option<ProcessKey> {
        let known = self.writers.iter().find(|(writer, _)| *writer == process.key);
        if let Some(&(_, manager)) = known {
            return Some(manager);
        }
        let mut row = snapshot.processes.at(process.row());
        for _ in 0..WRITER_GENERATIONS_MAX {
            let key = key_of(snapshot, row?)?;
            if self.is_known(key) || self.add(snapshot, row?, key, strings) {
                self.writers.push((process.key, key));
                return Some(key);
            }
            let parent = snapshot.process_by_pid(row?.parent_pid);
            row = parent.filter(|_| row.is_some_and(|row| row.parent_pid > 1));
        }
        None
    }

    /// The same for a process that has this file open for writing now, or has closed it.
    pub(super) fn manager_of_writer(
        &mut self,
        snapshot: &Snapshot,
        (process, descriptor): (&Process, &DescriptorFacts<'_>),
        now: Now,
        strings: &mut Strings,
    ) -> Option<ProcessKey> {
        let key = self.manager_of(snapshot, process, strings)?;
        let manager = self.managers.iter_mut().find(|manager| manager.key == key);
        let is_service =
            |manager: &ManagerProcess| manager.times == InstallTimes::AroundInstallations;
        let manager = manager.filter(|manager| !is_service(manager) || installs(descriptor));
        if let Some((manager, calendar_ns)) = manager.zip(snapshot.machine.calendar_ns) {
            let before = manager.note_write(calendar_ns, now.monotonic);
            if let Some(before) = before.filter(|_| manager.was_trusted()) {
                note_past(&mut self.past, before);
            }
        }
        Some(key)
    }

    fn is_known(&self, key: ProcessKey) -> bool {
        self.managers.iter().any(|manager| manager.key == key)
    }

    /// Adds a process if it is a package manager and there is room.
    fn add(
        &mut self,
        snapshot: &Snapshot,
        row: &ProcessRow,
        key: ProcessKey,
        strings: &mut Strings,
    ) -> bool {
        if self.managers.len() == MANAGERS_MAX {
            return false;
        }
        let found = programs::find(snapshot, row, key.start_boottime, &mut self.buffer);
        let Some((file, times)) = found else { return false };
        let Some(executable) = FileIdentity::of_file(snapshot, file) else { return false };
        let Some(facts) = ProcessFacts::read(snapshot, row, &mut self.names) else { return false };
        let mut keep = |text: &[u8]| strings.intern(text).or_else(|| strings.intern_cut(text));
        let (name, path) = (keep(facts.name), facts.executable.and_then(&mut keep));
        let directory = facts.directory.and_then(&mut keep);
        let line = facts.command_line.unwrap_or_default();
        let command_line = facts
            .command_line
            .and_then(|line| strings.intern(line).or_else(|| strings.intern_beginning(line)));
        let is_cut = command_line.is_some_and(|id| strings.get(id).len() < line.len());
        self.managers.push(ManagerProcess {
            key,
            executable,
            asker: Asker { process_id: key.process_id, group: snapshot.group_of(row) },
            is_roots: snapshot.is_put_by_root(file),
            is_approved: None,
            ended: None,
            times,
            writes: [None; 2],
            self_exec_id: facts.self_exec_id,
            executable_size: facts.executable_size,
            hashes: None,
            name,
            path,
            directory,
            command_line,
            command_line_cut: facts.command_line_cut || is_cut,
            numbers: facts.numbers,
            files: ArrayVec::new(),
            count: 0,
        });
        true
    }

    /// The path of a file; none if it cannot be read.
    pub(super) fn path_of(&mut self, snapshot: &Snapshot, path: PathRef) -> Option<&[u8]> {
        write_path(snapshot, path, &mut self.buffer).ok()?;
        Some(self.buffer.text())
    }

    /// Adds one that has run since the boot, and is trusted without an SBOM.
    #[cfg(test)]
    pub(super) fn add_of_root(&mut self) {
        self.managers.push(ManagerProcess {
            key: ProcessKey::default(),
            executable: FileIdentity::default(),
            asker: Asker::default(),
            is_roots: true,
            is_approved: None,
            ended: None,
            times: InstallTimes::AllAlong,
            writes: [None; 2],
            self_exec_id: None,
            executable_size: None,
            hashes: None,
            name: None,
            path: None,
            directory: None,
            command_line: None,
            command_line_cut: false,
            numbers: ProcessNumbers::default(),
            files: ArrayVec::new(),
            count: 0,
        });
    }

    /// Adds one that also runs when it installs nothing.
    #[cfg(test)]
    pub(super) fn add_service_of_root(&mut self) {
        self.add_of_root();
        self.managers[0].times = InstallTimes::AroundWrites;
    }

    /// Lets the first one write.
    #[cfg(test)]
    pub(super) fn write_by_first(&mut self, calendar_ns: i64, now: Now) {
        self.managers[0].note_write(calendar_ns, now.monotonic);
    }

    /// Whether changes by a package manager's processes are no alerts; `None` if that is not known
    /// yet.
    pub(super) fn is_trusted(
        &mut self,
        key: ProcessKey,
        shipped: &ShippedFiles,
        contents: &mut dyn ContentSource,
    ) -> Option<bool> {
        let Some(manager) = self.managers.iter_mut().find(|manager| manager.key == key) else {
            return Some(false);
        };
        let system = shipped.of_system();
        if system.is_empty() {
            return Some(manager.is_roots);
        }
        if manager.is_approved.is_none() {
            manager.is_approved = match contents.ask(&manager.executable, manager.asker)?.outcome {
                HashOutcome::Whole { hashes } => {
                    manager.hashes = Some(hashes);
                    Some(shipped.with_content(&hashes).any(|file| system.has(file.subject())))
                }
                // Most programs are only partly in memory.
                HashOutcome::Partial(partial) => partial.best_match.map(|best| best.differing == 0),
                HashOutcome::Nothing => None,
            };
        }
        manager.is_approved
    }

    /// Counts a file that a package manager's process has changed.
    pub(super) fn count(&mut self, key: ProcessKey, name: Option<StringId>, strings: &mut Strings) {
        let manager = self.managers.iter_mut().find(|manager| manager.key == key);
        let Some(manager) = manager else { return };
        manager.count += 1;
        if let Some(name) = name.filter(|_| !manager.files.is_full()) {
            strings.retain(name);
            manager.files.push(name);
        }
    }

    /// Notes that a process has ended.
    pub(super) fn note_end(&mut self, key: ProcessKey, now: Now, machine: &Machine) {
        for manager in self.managers.iter_mut().filter(|manager| manager.key == key) {
            let ended = ManagerEnd { at: now.monotonic, calendar_ns: machine.calendar_ns };
            manager.ended.get_or_insert(ended);
        }
    }

    /// The package manager that changed files at a time by the machine's clock. `is_roots`: whether
    /// the file is root's.
    pub(super) fn manager_at(
        &self,
        calendar_ns: i64,
        is_roots: bool,
        machine: &Machine,
    ) -> Option<ProcessKey> {
        let boot_to_real_ns = machine.boot_to_real_ns?;
        let ran = |manager: &&ManagerProcess| {
            let mut times = manager.times(boot_to_real_ns).into_iter().flatten();
            times.any(|time| time.has(calendar_ns, is_roots))
        };
        self.managers.iter().find(ran).map(|manager| manager.key)
    }

    /// Whether a trusted package manager changed files at a time by the machine's clock, and is
    /// over. `is_roots`: whether the file is root's.
    pub(super) fn ran_before(&self, calendar_ns: i64, is_roots: bool) -> bool {
        self.past.iter().any(|time| time.has(calendar_ns, is_roots))
    }

    /// Reports what package managers wrote that have ended or paused, or whose lists are full.
    /// `is_awaited`: whether a change by the processes of one until then is still being checked.
    /// Where there are as many as possible, those that have ended make room.
    pub(super) fn report(
        &mut self,
        context: &mut DetectorContext<'_>,
        strings: &mut Strings,
        is_awaited: impl Fn(ProcessKey, Monotonic) -> bool,
    ) {
        let is_full = self.managers.len() == MANAGERS_MAX;
        let is_over = |manager: &ManagerProcess| {
            let ended = manager.ended;
            ended.is_some_and(|ended| is_full || !is_awaited(manager.key, ended.at))
        };
        let now = context.cx.now.monotonic;
        let has_paused = |manager: &ManagerProcess| {
            match (manager.times, manager.writes) {
                (InstallTimes::AllAlong, _) => false,
                (_, [Some(writes), _]) => {
                    now.since(writes.at) > PAUSE_NS && !is_awaited(manager.key, writes.at)
                }
                // It has written files that matter, and has installed none.
                (_, [None, _]) => !is_awaited(manager.key, now),
            }
        };
        for manager in &mut self.managers {
            let is_due = is_over(manager) || has_paused(manager) || manager.files.is_full();
            if manager.count == 0 || !is_due {
                continue;
            }
            let found = PackageFiles {
                process: manager.facts(strings),
                count: manager.count,
                files: &manager.files,
                strings,
            };
            if context.found(&Finding::PackageFiles(&found)) == Acceptance::Yes {
                manager.count = 0;
                manager.files.drain(..).for_each(|name| strings.release(name));
            }
        }
        let Self { managers, writers, past, .. } = self;
        let boot_to_real_ns = context.cx.snapshot.machine.boot_to_real_ns;
        managers.retain(|manager| {
            let stays = manager.count > 0 || !is_over(manager);
            if !stays {
                let [last, _] = boot_to_real_ns.map_or([None; 2], |it| manager.times(it));
                if let Some(time) = last.filter(|_| manager.was_trusted()) {
                    note_past(past, time);
                }
                let ManagerProcess { name, path, directory, command_line, .. } = *manager;
                let names = [name, path, directory, command_line];
                names.into_iter().flatten().for_each(|name| strings.release(name));
                for (writer, of) in writers.iter_mut().filter(|(_, of)| *of == manager.key) {
                    (*writer, *of) = (ProcessKey::default(), ProcessKey::default());
                }
            }
            stays
        });
    }
}

/// Whether a file that is open for writing is one that is installed. Services also write caches,
/// logs and databases, and any user may ask for that (`pkcon refresh`).
fn installs(descriptor: &DescriptorFacts<'_>) -> bool {
    let Some(FileName::Text(path)) = descriptor.name else { return false };
    let mode = descriptor.inode.map_or(0, |inode| inode.mode);
    is_installed(path, mode & ANY_EXECUTE != 0)
}

/// Notes a time in which a package manager ran.
fn note_past(past: &mut RecentList<InstallPeriod>, new: InstallPeriod) {
    let is_near = |it: &&mut InstallPeriod| {
        it.is_all_along == new.is_all_along
            && new.began_ns.saturating_sub(it.ended_ns) <= PAUSE_NS
            && it.began_ns.saturating_sub(new.ended_ns) <= PAUSE_NS
    };
    match past.iter_mut().find(is_near) {
        Some(near) => {
            near.began_ns = near.began_ns.min(new.began_ns);
            near.ended_ns = near.ended_ns.max(new.ended_ns);
        }
        None => _ = past.push(new),
    }
}

impl InstallPeriod {
    /// Whether a change at a time belongs to it. `is_roots`: whether the file is root's.
    fn has(&self, calendar_ns: i64, is_roots: bool) -> bool {
        (self.began_ns..=self.ended_ns).contains(&calendar_ns) && (is_roots || self.is_all_along)
    }
}

impl Writes {
    /// The time in which what changes belongs to them.
    fn time(&self) -> InstallPeriod {
        InstallPeriod {
            began_ns: self.began_ns.saturating_sub(PAUSE_NS),
            ended_ns: self.ended_ns.saturating_add(PAUSE_NS),
            is_all_along: false,
        }
    }
}

impl ManagerProcess {
    /// The times in which it changes files, the last one first.
    fn times(&self, boot_to_real_ns: i64) -> [Option<InstallPeriod>; 2] {
        let began_ns = boot_to_real_ns.saturating_add_unsigned(self.key.start_boottime);
        let ended_ns = self.ended.map_or(i64::MAX, |ended| ended.calendar_ns.unwrap_or(began_ns));
        let within = |writes: Option<Writes>| {
            let time = writes?.time();
            let (began_ns, ended_ns) = (time.began_ns.max(began_ns), time.ended_ns.min(ended_ns));
            (began_ns <= ended_ns).then_some(InstallPeriod { began_ns, ended_ns, ..time })
        };
        match self.times {
            InstallTimes::AllAlong => {
                [Some(InstallPeriod { began_ns, ended_ns, is_all_along: true }), None]
            }
            InstallTimes::AroundWrites | InstallTimes::AroundInstallations => {
                self.writes.map(within)
            }
        }
    }

    /// Notes that one of its processes was seen to write. Returns the time before, if there was a
    /// pause.
    fn note_write(&mut self, calendar_ns: i64, at: Monotonic) -> Option<InstallPeriod> {
        if self.times == InstallTimes::AllAlong {
            return None;
        }
        let [last, before] = &mut self.writes;
        let new = Writes { began_ns: calendar_ns, ended_ns: calendar_ns, at };
        let is_near = |writes: &&mut Writes| {
            let (began, ended) = (writes.began_ns, writes.ended_ns.saturating_add(PAUSE_NS));
            (began..=ended).contains(&calendar_ns)
        };
        if let Some(writes) = last.as_mut().filter(is_near) {
            (writes.ended_ns, writes.at) = (writes.ended_ns.max(calendar_ns), at);
            return None;
        }
        *before = last.replace(new);
        before.map(|before| before.time())
    }

    fn was_trusted(&self) -> bool {
        self.is_approved.unwrap_or(self.is_roots)
    }

    fn facts<'a>(&self, strings: &'a Strings) -> ProcessFacts<'a> {
        let text = |id: Option<StringId>| id.map(|id| strings.get(id));
        ProcessFacts {
            name: text(self.name).unwrap_or_default(),
            process_id: self.key.process_id,
            start_boottime: self.key.start_boottime,
            self_exec_id: self.self_exec_id,
            executable: text(self.path),
            executable_size: self.executable_size,
            executable_hashes: self.hashes,
            directory: text(self.directory),
            command_line: text(self.command_line),
            command_line_cut: self.command_line_cut,
            numbers: self.numbers,
            ..ProcessFacts::default()
        }
    }
}

fn key_of(snapshot: &Snapshot, row: &ProcessRow) -> Option<ProcessKey> {
    snapshot.leader(row).map(|leader| ProcessKey::of(&leader.task))
}

#[cfg(test)]
mod tests;
