//! Checks a process: which files it runs, and which subjects apply to them.

use panoptes_decoders::kernel::task_struct::TASK_COMM_LEN;
use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;

use super::arguments::{arguments, base_name};
use super::program::{
    Item, ItemKey, NO_ITEM, ProgramKey, TrackedProgram, UndecidedFile, UndecidedFileState, Version,
};
use super::verdict::Role;
use super::{BinaryAttestation, FIRST_SCAN, NAMES};
use crate::page_cache::FileIdentity;
use crate::path::{own_name, top_mount, write_file_name};
use crate::shipped::{self, ProcessSubjects};
use crate::state::described::ProcessDescription;
use crate::state::facts::{is_floating, is_main_executable};
use crate::state::process::{Process, ProcessKey};
use crate::state::{MachineState, ScanContext};
use crate::walk::{FileRow, Index, MmRow, ProcessRow, Snapshot};
use panoptes_tables::{RowId, StringId};

/// Instead of a version of areas: never checked, and the scan left the areas.
const NEVER: u64 = u64::MAX;
const LEFT: u64 = u64::MAX - 1;
/// A number that changes with the areas that a scan has; the lowest bit is set if it has all.
fn version_of_areas(version: u32, mm: &MmRow) -> u64 {
    if mm.left { LEFT } else { u64::from(version) << 1 | u64::from(mm.complete) }
}

/// Whether a check of areas covers those of now. What some of them led to is checked once, and
/// again when a scan has them all.
fn covers(before: u64, now: u64) -> bool {
    match now {
        LEFT => before != NEVER,
        _ => before >> 1 == now >> 1 && before & 1 >= now & 1,
    }
}

/// Number of scans until something that found no room is tried again.
pub(super) const AGAIN_SCANS: u32 = 64;
/// Number of scans in which an interpreter's script is searched for. The interpreter opens the
/// script after it has started, and may close it soon.
const SCRIPT_SCANS: u8 = 64;
/// How long a process may be inside exec.
const EXEC_NS: i64 = 1_000_000_000;
/// Number of scans for which the container of a new process may be unknown.
const CONTAINER_SCANS: u32 = 4;
/// How many execs back the previous program is searched for: scans may miss the execs in between.
const EXECS_BEFORE: u32 = 4;
/// Maximum number of arguments that are searched for the name of a program or script.
const ARGUMENTS_MAX: usize = 16;
/// Maximum length of `comm`.
const COMM_BYTES: usize = TASK_COMM_LEN - 1;

/// A file that a process runs.
#[derive(Clone, Copy)]
struct ExecutedFile {
    /// Index in the snapshot.
    file: Option<Index<FileRow>>,
    role: Role,
    is_main_executable: bool,
}

impl BinaryAttestation {
    /// Checks one process if its program or its areas are new.
    pub(super) fn look_at(
        &mut self,
        cx: &ScanContext<'_>,
        state: &MachineState,
        id: RowId,
        process: &Process,
    ) {
        let snapshot = cx.snapshot;
        let key = ProgramKey { process: process.key, exec: process.self_exec_id() };
        let known = self.programs.find(&key);
        // The previous program is kept until the next one is admitted, which is compared with it.
        if let Some(latest) = known.or_else(|| self.before(&key)) {
            self.programs.see(latest, self.scan);
        }
        let Some(row) = snapshot.processes.at(process.row()) else { return };
        let Some(mm) = snapshot.mms.at(row.mm).filter(|mm| mm.exe_file.is_some()) else { return };
        // A row that was read while it changed may mix two states.
        if !row.stable {
            return;
        }
        // Inside exec a process has no arguments yet (`create_elf_tables`, fs/binfmt_elf.c). That
        // does not take long: a process that still seems to be inside exec after `EXEC_NS` is
        // checked.
        let is_brief = |since| cx.now.monotonic.since(since) < EXEC_NS;
        if process.in_exec_since().is_some_and(is_brief) {
            return;
        }
        // Skip processes whose container is still unknown.
        if known.is_none() && !row.container_known && process.scans_before() < CONTAINER_SCANS {
            return;
        }
        let areas = version_of_areas(state.areas_version(id), mm);
        let is_known = known.and_then(|known| self.programs.get(known)).is_some_and(|program| {
            let again = program.again;
            covers(program.areas, areas) && again.is_none_or(|again| again.is_after(self.scan))
        });
        if is_known {
            return;
        }
        let Some(program) = known.or_else(|| self.admit(cx, process, (row, mm), key)) else {
            return;
        };
        if known.is_some() {
            // Its name or directory may have changed.
            self.keep(cx, process, program);
        }
        if let Some(row) = self.programs.get_mut(program) {
            row.refused = 0;
        }
        let executable = self.run_executable(cx, row, mm, program);
        let seeks_script =
            !mm.left && self.run_libraries(cx, process, row, mm, program, executable);
        let has_descriptors =
            snapshot.left.tables == 0 || snapshot.files_structs_of(row).all(|table| table.complete);
        if let Some(row) = self.programs.get_mut(program) {
            let found_no_room = row.refused > 0;
            row.areas = areas;
            row.again = if seeks_script && row.script_scans < SCRIPT_SCANS {
                // A scan that left descriptors may have missed it.
                row.script_scans += if has_descriptors { snapshot.counts() } else { 0 };
                Some(self.scan.next())
            } else {
                // The next scan divides the room.
                let scans = if row.files == 0 { 1 } else { AGAIN_SCANS };
                found_no_room.then(|| self.scan.after(scans))
            };
        }
    }

    /// Adds a row for a program that is not tracked yet.
    fn admit(
        &mut self,
        cx: &ScanContext<'_>,
        process: &Process,
        (row, mm): (&ProcessRow, &MmRow),
        key: ProgramKey,
    ) -> Option<RowId> {
        let snapshot = cx.snapshot;
        let parent_row = snapshot.process_by_pid(row.parent_pid);
        let container = snapshot.container_of(row);
        let parents = parent_row.and_then(|parent| snapshot.container_of(parent));
        let is_from_outside = container.is_some() && parent_row.is_some() && parents != container;
        let (applied, is_inside) = self.applied_to(snapshot, row);
        let before = self.before(&key).and_then(|id| self.programs.get(id));
        let preexisting = self.is_preexisting(cx, process);
        let runtime = before.map(|before| before.is_inside && before.runs_outside);
        // The first of the container's own programs in the container's first process.
        let is_entrypoint = is_inside
            && is_from_outside
            && runtime != Some(false)
            && !preexisting
            && container
                .is_some_and(|id| self.first_processes.is_first(snapshot, self.scan, row, id));
        // Whether nothing can have run between the runtime and this program.
        let saw_runtime = runtime == Some(true)
            && before.is_some_and(|before| before.key.exec.wrapping_add(1) == key.exec);
        let before = before.and_then(|before| before.executable);
        let parent = parent_row.and_then(|row| self.program_of(snapshot, row));
        let parent = parent.and_then(|parent| parent.executable);
        self.serial = self.serial.wrapping_add(1);
        let program = TrackedProgram {
            key,
            serial: self.serial,
            areas: NEVER,
            again: None,
            script_scans: 0,
            first_item: NO_ITEM,
            files: 0,
            open: 0,
            refused: 0,
            group: snapshot.group_of(row),
            kept: ProcessDescription::default(),
            line: None,
            arguments: mm.arguments.start,
            relative: None,
            executable: None,
            before,
            parent,
            applied,
            is_inside,
            is_from_outside,
            is_entrypoint,
            saw_runtime,
            runs_outside: false,
            preexisting,
            is_gone: false,
            put_off: None,
            since: cx.now.monotonic,
        };
        let id = self.insert_program(program);
        match id {
            Some(id) => {
                self.keep(cx, process, id);
                self.find_relative(snapshot, row, id);
            }
            None => self.lost.stand(1, Some(key.process.process_id)),
        }
        id
    }

    /// Whether a process's program existed when watching started, or when the SBOMs were reloaded.
    fn is_preexisting(&self, cx: &ScanContext<'_>, process: &Process) -> bool {
        // One that began while contact was lost is checked as soon as it is seen.
        let is_new = process.began_unwatched() && process.first_seen == cx.now.monotonic;
        process.program_preexisting() || self.scan == FIRST_SCAN && !is_new
    }

    /// The subjects that apply to a process, and whether they are those of a container.
    fn applied_to(&self, snapshot: &Snapshot, row: &ProcessRow) -> (ProcessSubjects, bool) {
        match snapshot.attested_container_of(row) {
            Some(id) => {
                let name = None;
                let image = self.images.image_of(id, name);
                (self.shipped.of_container(id, name, image), true)
            }
            None => (self.system, false),
        }
    }

    /// The latest program that ran before in the same process and is still tracked.
    fn before(&self, key: &ProgramKey) -> Option<RowId> {
        (1..=EXECS_BEFORE).find_map(|ago| {
            let exec = key.exec.checked_sub(ago)?;
            self.programs.find(&ProgramKey { exec, ..*key })
        })
    }

    fn keep(&mut self, cx: &ScanContext<'_>, process: &Process, program: RowId) {
        let facts = process.facts(cx.strings);
        let (strings, others) = (&mut self.strings, self.programs.capacity() * NAMES);
        let kept = process.described().copy(cx.strings, strings, others);
        let Some(row) = self.programs.get_mut(program) else { return };
        core::mem::replace(&mut row.kept, kept).release(&mut self.strings);
        if row.line.is_none() {
            let line = facts.command_line.filter(|_| !facts.command_line_cut);
            // Only a whole line can be compared.
            row.line = line.and_then(|line| self.strings.intern_leaving(line, others));
        }
    }

    /// The tracked program of a process of the scan.
    pub(super) fn program_of(
        &self,
        snapshot: &Snapshot,
        row: &ProcessRow,
    ) -> Option<&TrackedProgram> {
        let task = &snapshot.leader(row)?.task;
        let key = ProgramKey { process: ProcessKey::of(task), exec: task.self_exec_id };
        self.programs.get(self.programs.find(&key)?)
    }

    /// Records what a process executes. Returns the index of the file that holds its pages.
    fn run_executable(
        &mut self,
        cx: &ScanContext<'_>,
        row: &ProcessRow,
        mm: &MmRow,
        program: RowId,
    ) -> Option<Index<FileRow>> {
        let snapshot = cx.snapshot;
        // On an overlay the mapped file is the one that holds the pages.
        let areas = snapshot.vmas.range(mm.vmas);
        let mapped = areas
            .iter()
            .find(|area| area.vma.flags & VM_EXEC != 0 && is_main_executable(snapshot, mm, area));
        let file = mapped.map_or(mm.exe_file, |area| area.file);
        let is_outside = |program: &TrackedProgram| {
            let file = snapshot.files.at(file);
            program.is_inside && file.is_some_and(|file| program.sees_outside(snapshot, row, file))
        };
        if let Some(program) = self.programs.get_mut(program) {
            program.executable = FileIdentity::of(snapshot, file);
            program.runs_outside = is_outside(program);
        }
        let ran = ExecutedFile { file, role: Role::Program, is_main_executable: true };
        self.run(cx, row, program, ran);
        file
    }

    /// Records the other files that a process has mapped executable, and the script that it runs.
    /// Returns whether it runs a script that was not found open.
    fn run_libraries(
        &mut self,
        cx: &ScanContext<'_>,
        process: &Process,
        row: &ProcessRow,
        mm: &MmRow,
        program: RowId,
        executable: Option<Index<FileRow>>,
    ) -> bool {
        let snapshot = cx.snapshot;
        let facts = process.facts(cx.strings);
        let line = facts.command_line.unwrap_or(&[]);
        let executed = facts.executable.map(base_name).unwrap_or_default();
        let loads = is_loader(executed).then(|| loaded_name(line)).flatten();
        let same = |one: Option<Index<FileRow>>, other| {
            let inode =
                |file: Option<_>| snapshot.files.at(file).map(|file: &FileRow| file.open.inode);
            one == other || inode(one) == inode(other)
        };
        let mut last = executable;
        for area in snapshot.vmas.range(mm.vmas) {
            if area.vma.flags & VM_EXEC == 0 || area.vma.file.is_null() || area.file == last {
                continue;
            }
            last = area.file;
            if same(area.file, executable) || is_main_executable(snapshot, mm, area) {
                continue;
            }
            let is_program = loads.is_some_and(|name| {
                let file = snapshot.files.at(area.file);
                file.is_some_and(|file| {
                    write_file_name(snapshot, file, &mut self.buffer).is_ok()
                        && base_name(self.buffer.text()) == name
                })
            });
            let role = if is_program { Role::Program } else { Role::Library };
            self.run(
                cx,
                row,
                program,
                ExecutedFile { file: area.file, role, is_main_executable: false },
            );
        }
        script_of(line, facts.name, executed)
            .is_some_and(|script| !self.run_script(cx, row, program, script, facts.directory))
    }

    /// Records the script that an interpreter runs, if the script is open and was shipped. Returns
    /// whether it was open, or is not searched for in this scan any more.
    pub(super) fn run_script(
        &mut self,
        cx: &ScanContext<'_>,
        row: &ProcessRow,
        program: RowId,
        script: &[u8],
        directory: Option<&[u8]>,
    ) -> bool {
        let snapshot = cx.snapshot;
        let Some(applied) = self.programs.get(program).map(|program| program.applied) else {
            return false;
        };
        let name = base_name(script);
        for table in snapshot.files_structs_of(row) {
            for descriptor in snapshot.descriptors.range(table.descriptors) {
                let Some(left) = self.script_steps_left.checked_sub(1) else {
                    // The process is looked at again later.
                    self.count_refused(program);
                    return true;
                };
                self.script_steps_left = left;
                let Some(file) = snapshot.files.at(descriptor.file) else { continue };
                if own_name(snapshot, file.path).is_some_and(|own| base_name(own) != name)
                    || FileIdentity::of_file(snapshot, file).is_none()
                    || write_file_name(snapshot, file, &mut self.other_buffer).is_err()
                {
                    continue;
                }
                let path = self.other_buffer.text();
                if is_path_of(script, path, directory) {
                    if self.is_shipped_at(&applied, path) {
                        let file = descriptor.file;
                        let ran =
                            ExecutedFile { file, role: Role::Script, is_main_executable: false };
                        self.run(cx, row, program, ran);
                    }
                    return true;
                }
            }
        }
        false
    }

    fn is_shipped_at(&self, applied: &ProcessSubjects, path: &[u8]) -> bool {
        applied.iter().any(|subject| self.shipped.at_path(subject, path).next().is_some())
    }

    /// Records that a program runs a file, unless the file was checked before.
    fn run(&mut self, cx: &ScanContext<'_>, row: &ProcessRow, program: RowId, ran: ExecutedFile) {
        let snapshot = cx.snapshot;
        let Some(file) = snapshot.files.at(ran.file) else { return };
        let Some(identity) = FileIdentity::of_file(snapshot, file) else { return };
        let Some(owner) = self.programs.get(program) else { return };
        let key = ItemKey { serial: owner.serial, inode: identity.inode, number: identity.number };
        let version = Version::of(&identity);
        let known = self.items.find(&key).and_then(|id| Some((id, self.items.get(id)?)));
        if let Some((_, item)) = known {
            if let Some(at) = item.waiting {
                self.identify_again(at, version, &identity);
                return;
            }
            // Skip it unless it was written to since, or was never decided.
            if item.is_reported || item.version == version {
                return;
            }
        }
        let inherited = match known {
            None => self.inherited(snapshot, row, owner, &identity),
            Some(_) => None,
        };
        let is_inherited = inherited.is_some();
        let again = known.is_some_and(|(_, item)| item.version != Version::NONE);
        let known = known.map(|(id, _)| id);
        let by_system = owner.is_inside && owner.sees_outside(snapshot, row, file);
        let named = write_file_name(snapshot, file, &mut self.buffer).ok();
        let (path, is_path_cut) = match named.filter(|_| !is_inherited) {
            Some(_) => self.keep_path(ran.is_main_executable),
            None => (None, false),
        };
        let is_nameless = !is_inherited && named.is_some() && path.is_none();
        if is_nameless || !self.has_room(program, known.is_none(), !is_inherited) {
            self.refuse(program, path);
            return;
        }
        let Some(owner) = self.programs.get(program) else { return };
        let waiting = if is_inherited { None } else { Index::new(self.waiting.len()) };
        let item = Item::new(owner.serial, &identity, owner.first_item);
        let item = Item { waiting, is_reported: inherited == Some(true), ..item };
        let Some(item) = self.put_item(program, known, item) else {
            self.refuse(program, path);
            return;
        };
        if is_inherited {
            return;
        }
        self.waiting.push(UndecidedFile {
            program,
            item,
            device: identity.device,
            role: ran.role,
            path,
            is_path_cut,
            is_deleted: named.is_some_and(|named| named.deleted),
            is_memfd: is_floating(snapshot, file),
            is_main_executable: ran.is_main_executable,
            again,
            by_system,
            standing: UndecidedFileState::Open,
            since: cx.now,
            since_scan: self.scan,
            asked: cx.now.monotonic,
            due: self.scan,
        });
        if let Some(owner) = self.programs.get_mut(program) {
            owner.open += 1;
        }
    }

    /// Keeps the path in the buffer. That of an executable always finds room, if need be cut:
    /// returns whether it is.
    fn keep_path(&mut self, is_main_executable: bool) -> (Option<StringId>, bool) {
        let (strings, text) = (&mut self.strings, self.buffer.text());
        let whole = strings.intern_leaving(text, self.programs.capacity() * NAMES);
        match whole {
            None if is_main_executable => (strings.intern_cut(text), true),
            _ => (whole, false),
        }
    }

    /// Counts a file of a program that found no room, and releases its path.
    fn refuse(&mut self, program: RowId, path: Option<StringId>) {
        if let Some(path) = path {
            self.strings.release(path);
        }
        self.count_refused(program);
    }

    /// Changes the row of a file of a program, or adds one. Returns its number, if there is room.
    fn put_item(&mut self, program: RowId, known: Option<RowId>, item: Item) -> Option<RowId> {
        if let Some(id) = known {
            if let Some(known) = self.items.get_mut(id) {
                *known = Item { next: known.next, ..item };
            }
            return known;
        }
        let id = self.items.insert(item, self.scan)?;
        if let Some(owner) = self.programs.get_mut(program) {
            owner.first_item = id.0;
            owner.files += 1;
        }
        Some(id)
    }

    /// Updates the version of the file of the open pair at a position: its times may have changed.
    fn identify_again(
        &mut self,
        at: Index<UndecidedFile>,
        version: Version,
        identity: &FileIdentity,
    ) {
        let Some(waiting) = self.waiting.get_mut(at.position()) else { return };
        let Some(item) = self.items.get_mut(waiting.item) else { return };
        if item.version != version || waiting.device != identity.device {
            item.version = version;
            (waiting.device, waiting.due) = (identity.device, self.scan);
        }
    }
}

impl TrackedProgram {
    /// Whether a file of a process in a container is not the container's: it is below another root,
    /// or in no directory while the process was started from outside.
    fn sees_outside(&self, snapshot: &Snapshot, row: &ProcessRow, file: &FileRow) -> bool {
        if is_floating(snapshot, file) {
            self.is_from_outside
        } else {
            is_of_other_root(snapshot, row, file)
        }
    }
}

/// Whether a file is below another root than the one its process sees: their mounts have different
/// topmost mounts.
fn is_of_other_root(snapshot: &Snapshot, row: &ProcessRow, file: &FileRow) -> bool {
    let tops = (top_mount(snapshot, file.path), top_mount(snapshot, row.cwd));
    matches!(tops, (Ok(of_file), Ok(of_process)) if of_file != of_process)
}

/// Whether a program of this name is a loader (`ld.so PROGRAM`).
fn is_loader(name: &[u8]) -> bool {
    [&b"ld-linux"[..], b"ld-musl", b"ld.so", b"ld64"].iter().any(|start| name.starts_with(start))
        || (name.starts_with(b"ld-") && name.windows(3).any(|part| part == b".so"))
}

/// Name of the program that a loader was started with: the first argument that is neither an option
/// nor the value of one (elf/rtld.c of glibc, ldso/dynlink.c of musl).
fn loaded_name(line: &[u8]) -> Option<&[u8]> {
    const WITH_VALUE: [&[u8]; 7] = [
        b"--library-path",
        b"--glibc-hwcaps-prepend",
        b"--glibc-hwcaps-mask",
        b"--inhibit-rpath",
        b"--audit",
        b"--preload",
        b"--argv0",
    ];
    let mut all = arguments(line).skip(1).take(ARGUMENTS_MAX);
    while let Some(argument) = all.next() {
        if WITH_VALUE.contains(&argument) {
            all.next();
        } else if !argument.starts_with(b"--") {
            return Some(base_name(argument));
        }
    }
    None
}

/// The script that an interpreter was started for. The kernel names the process after the script
/// (`load_script`, fs/binfmt_script.c; `begin_new_exec`, fs/exec.c) and passes the script's path as
/// an argument.
fn script_of<'a>(line: &'a [u8], comm: &[u8], executable: &[u8]) -> Option<&'a [u8]> {
    let cut = |name: &'a [u8]| name.get(..COMM_BYTES).unwrap_or(name);
    let own = executable.get(..COMM_BYTES).unwrap_or(executable);
    if comm == own || comm.is_empty() {
        return None;
    }
    arguments(line).skip(1).take(ARGUMENTS_MAX).find(|argument| cut(base_name(argument)) == comm)
}

/// Whether a file's path is the one that an argument names, relative to the process's directory.
fn is_path_of(argument: &[u8], path: &[u8], directory: Option<&[u8]>) -> bool {
    if argument.starts_with(b"/") {
        return argument == path || shipped::merged(argument) == shipped::merged(path);
    }
    let argument = argument.strip_prefix(b"./").unwrap_or(argument);
    let Some(rest) = path.strip_suffix(argument).filter(|_| !argument.is_empty()) else {
        return false;
    };
    let Some(folder) = rest.strip_suffix(b"/") else { return false };
    directory
        .is_none_or(|directory| directory == folder || (directory == b"/" && folder.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_are_recognised_by_name() {
        for (name, expected) in [
            ("ld-linux-x86-64.so.2", true),
            ("ld-musl-x86_64.so.1", true),
            ("ld.so", true),
            ("ld64.so.1", true),
            ("ld-2.31.so", true),
            ("ld", false),
            ("ldconfig", false),
            ("ld-gold", false),
        ] {
            assert_eq!(is_loader(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn the_loaded_program_is_the_first_argument_that_is_no_option() {
        for (line, expected) in [
            ("/lib/ld.so\0/tmp/x\0-a\0", Some("x")),
            ("/lib/ld.so\0--library-path\0/tmp\0--verify\0./y\0", Some("y")),
            ("/lib/ld.so\0--list\0", None),
            ("/lib/ld.so\0", None),
            ("", None),
        ] {
            assert_eq!(loaded_name(line.as_bytes()), expected.map(str::as_bytes), "{line:?}");
        }
    }

    #[test]
    fn scripts_are_recognised_by_their_process_s_name() {
        let script = |line: &'static [u8], comm: &[u8], exe: &[u8]| script_of(line, comm, exe);
        let line = b"/bin/sh\0/etc/init.d/networking\0start\0";
        assert_eq!(script(line, b"networking", b"dash"), Some(&b"/etc/init.d/networking"[..]));
        let long = b"/bin/sh\0/a/a-very-long-script-name\0";
        assert_eq!(
            script(long, b"a-very-long-scr", b"sh"),
            Some(&b"/a/a-very-long-script-name"[..])
        );
        assert_eq!(
            script(line, b"dash", b"dash"),
            None,
            "`sh SCRIPT` is not named after the script"
        );
        assert_eq!(script(b"ls\0ls\0", b"ls", b"ls"), None);
        assert_eq!(script(b"/bin/busybox\0", b"sh", b"busybox"), None);
        assert_eq!(script(b"", b"sh", b"busybox"), None);
    }

    #[test]
    fn relative_arguments_are_below_the_directory() {
        let is = |argument: &str, path: &str, directory: Option<&str>| {
            is_path_of(argument.as_bytes(), path.as_bytes(), directory.map(str::as_bytes))
        };
        assert!(is("/a/b.sh", "/a/b.sh", None));
        assert!(is("/usr/bin/b", "/bin/b", None));
        assert!(!is("/a/b.sh", "/c/b.sh", None));
        assert!(is("./b.sh", "/a/b.sh", Some("/a")));
        assert!(is("b.sh", "/b.sh", Some("/")));
        assert!(!is("b.sh", "/a/b.sh", Some("/c")));
        assert!(!is("b.sh", "/a/bb.sh", Some("/a")));
        assert!(!is("", "/a/", Some("/a")));
    }
}
