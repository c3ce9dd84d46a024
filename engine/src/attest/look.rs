//! Looking at a process: which files it runs, and what applies to them.

use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;

use super::arguments::{arguments, base_name};
use super::program::{Item, ItemKey, NO_ITEM, Program, ProgramKey, Version, Waiting};
use super::shipped::Applied;
use super::verdict::Role;
use super::{Attest, FIRST_SCAN};
use crate::page_cache::FileIdentity;
use crate::path::{top_mount, write_file_name};
use crate::state::facts::{is_floating, is_main_executable};
use crate::state::kept::KeptProcess;
use crate::state::process::{Process, ProcessKey};
use crate::state::table::RowId;
use crate::state::{Scene, State};
use crate::walk::{FileRow, MmRow, NONE, ProcessRow, Snapshot};

/// Versions of areas that the state does not give: they were never looked at, or not all of them are known.
const NEVER: u64 = u64::MAX;
const INCOMPLETE: u64 = u64::MAX - 1;
/// After how many scans something that found no room is tried again.
const AGAIN_SCANS: u32 = 64;
/// In so many scans an interpreter's script is looked for: it opens that after it has started, and may close it soon.
const SCRIPT_SCANS: u8 = 64;
/// For so long a process may be inside exec.
const EXEC_NS: i64 = 1_000_000_000;
/// For so many scans it may not be known of a new process in which container it is.
const CONTAINER_SCANS: u32 = 4;
/// How many execs ago what a process ran before is looked for: some that came between were not seen.
const EXECS_BEFORE: u32 = 4;
/// Most arguments that are looked at for a program's or a script's name.
const ARGUMENTS_MAX: usize = 16;
/// `comm` has so many bytes at most (`TASK_COMM_LEN` less its NUL, include/linux/sched.h).
const COMM_BYTES: usize = 15;

/// A file that a process runs.
#[derive(Clone, Copy)]
struct Ran {
    /// Index in the snapshot.
    file: u32,
    role: Role,
    is_main_executable: bool,
}

impl Attest {
    /// Looks at one process, if something of it is new.
    pub(super) fn look_at(
        &mut self,
        scene: &Scene<'_>,
        state: &State,
        id: RowId,
        process: &Process,
    ) {
        let snapshot = scene.snapshot;
        let key = ProgramKey { process: process.key, exec: process.self_exec_id() };
        let known = self.programs.find(&key);
        // Until the next one is known, what ran before is not forgotten: that is judged by it, too.
        if let Some(latest) = known.or_else(|| self.before(&key)) {
            self.programs.see(latest, self.scan);
        }
        let Some(row) = snapshot.processes.at(process.row()) else { return };
        let Some(mm) = snapshot.mms.at(row.mm).filter(|mm| mm.exe_file != NONE) else { return };
        // What does not belong together says nothing.
        if !row.stable {
            return;
        }
        // Nor does a process that is inside exec, until its arguments are there (`create_elf_tables`, fs/binfmt_elf.c);
        // but that does not take long.
        let is_brief = |since_ns| scene.now_ns.saturating_sub(since_ns) < EXEC_NS;
        if process.in_exec_since_ns().is_some_and(is_brief) {
            return;
        }
        // Nor does one of which it is not known in which container it is.
        if known.is_none() && !row.container_known && process.scans_before() < CONTAINER_SCANS {
            return;
        }
        let areas = if mm.complete { state.areas_version(id).into() } else { INCOMPLETE };
        let is_known = known.and_then(|known| self.programs.get(known)).is_some_and(|program| {
            let again = program.again;
            program.areas == areas
                && again.is_none_or(|again| (self.scan.wrapping_sub(again) as i32) < 0)
        });
        if is_known {
            return;
        }
        let Some(program) = known.or_else(|| self.admit(scene, process, (row, mm), key)) else {
            return;
        };
        if known.is_some() {
            // By now it may have another name or directory.
            self.keep(scene, process, program);
        }
        let refused = self.refused;
        let executable = self.run_executable(scene, row, mm, program);
        let seeks_script =
            mm.complete && self.run_libraries(scene, process, row, mm, program, executable);
        let found_no_room = self.refused > refused;
        if let Some(row) = self.programs.get_mut(program) {
            row.areas = areas;
            row.again = if seeks_script && row.script_scans < SCRIPT_SCANS {
                row.script_scans += 1;
                Some(self.scan.wrapping_add(1))
            } else {
                found_no_room.then(|| self.scan.wrapping_add(AGAIN_SCANS))
            };
        }
    }

    /// Begins to know a program.
    fn admit(
        &mut self,
        scene: &Scene<'_>,
        process: &Process,
        (row, mm): (&ProcessRow, &MmRow),
        key: ProgramKey,
    ) -> Option<RowId> {
        let snapshot = scene.snapshot;
        let parent_row = snapshot.process_by_pid(row.parent_pid);
        let container = snapshot.container_of(row);
        let parents = parent_row.and_then(|parent| snapshot.container_of(parent));
        let is_from_outside = container.is_some() && parent_row.is_some() && parents != container;
        let (applied, is_inside) = match container {
            Some(id) if !snapshot.shares_first_mounts(row) => {
                let name = None;
                let image = self.images.image_of(id, name);
                (self.shipped.of_container(id, name, image), true)
            }
            _ => (self.system, false),
        };
        let before = self.before(&key).and_then(|id| self.programs.get(id));
        // What was there when we came, or when it was said anew what should run.
        let was_there = process.program_was_there() || self.scan == FIRST_SCAN;
        let runtime = before.map(|before| before.is_inside && before.runs_outside);
        // The first program of a container's first process that is the container's own.
        let is_entrypoint = is_inside
            && is_from_outside
            && runtime != Some(false)
            && !was_there
            && container.is_some_and(|id| is_first_of(snapshot, row, id));
        // If nothing can have come between the runtime and this.
        let saw_runtime = runtime == Some(true)
            && before.is_some_and(|before| before.key.exec.wrapping_add(1) == key.exec);
        let before = before.and_then(|before| before.executable);
        let parent = parent_row.and_then(|row| self.program_of(snapshot, row));
        let parent = parent.and_then(|parent| parent.executable);
        self.serial = self.serial.wrapping_add(1);
        let program = Program {
            key,
            serial: self.serial,
            areas: NEVER,
            again: None,
            script_scans: 0,
            first_item: NO_ITEM,
            open: 0,
            kept: KeptProcess::default(),
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
            was_there,
            is_gone: false,
            since_ns: scene.now_ns,
        };
        let id = self.programs.insert(program, self.scan);
        match id {
            Some(id) => {
                self.keep(scene, process, id);
                self.find_relative(snapshot, row, id);
            }
            None => self.refused += 1,
        }
        id
    }

    /// What ran in a process before, and is not forgotten.
    fn before(&self, key: &ProgramKey) -> Option<RowId> {
        (1..=EXECS_BEFORE).find_map(|ago| {
            let exec = key.exec.checked_sub(ago)?;
            self.programs.find(&ProgramKey { exec, ..*key })
        })
    }

    fn keep(&mut self, scene: &Scene<'_>, process: &Process, program: RowId) {
        let facts = process.facts(scene.strings);
        let kept = KeptProcess::new(&facts, &mut self.strings);
        let Some(row) = self.programs.get_mut(program) else { return };
        core::mem::replace(&mut row.kept, kept).release(&mut self.strings);
        if row.line.is_none() {
            let line = facts.command_line.filter(|_| !facts.command_line_cut);
            row.line = line.and_then(|line| self.strings.intern(line));
        }
    }

    /// The program of a process of the scan.
    pub(super) fn program_of(&self, snapshot: &Snapshot, row: &ProcessRow) -> Option<&Program> {
        let task = &snapshot.leader(row)?.task;
        let key = ProgramKey { process: ProcessKey::of(task), exec: task.self_exec_id };
        self.programs.get(self.programs.find(&key)?)
    }

    /// Notes what a process executes; gives the index of the file that has its pages.
    fn run_executable(
        &mut self,
        scene: &Scene<'_>,
        row: &ProcessRow,
        mm: &MmRow,
        program: RowId,
    ) -> u32 {
        let snapshot = scene.snapshot;
        // On an overlay the mapped file is the one with the pages.
        let areas = snapshot.vmas.range(&mm.vmas);
        let mapped = areas
            .iter()
            .find(|area| area.vma.flags & VM_EXEC != 0 && is_main_executable(snapshot, mm, area));
        let file = mapped.map_or(mm.exe_file, |area| area.file);
        let is_outside = |program: &Program| {
            let file = snapshot.files.at(file);
            program.is_inside && file.is_some_and(|file| program.sees_outside(snapshot, row, file))
        };
        if let Some(program) = self.programs.get_mut(program) {
            program.executable = FileIdentity::of(snapshot, file);
            program.runs_outside = is_outside(program);
        }
        let ran = Ran { file, role: Role::Program, is_main_executable: true };
        self.run(scene, row, program, ran);
        file
    }

    /// Notes what else a process has mapped to be executed, and the script that it runs. Says whether it runs one that
    /// was not found open.
    fn run_libraries(
        &mut self,
        scene: &Scene<'_>,
        process: &Process,
        row: &ProcessRow,
        mm: &MmRow,
        program: RowId,
        executable: u32,
    ) -> bool {
        let snapshot = scene.snapshot;
        let facts = process.facts(scene.strings);
        let line = facts.command_line.unwrap_or(&[]);
        let executed = facts.executable.map(base_name).unwrap_or_default();
        let loads = is_loader(executed).then(|| loaded_name(line)).flatten();
        let same = |one: u32, other: u32| {
            let inode = |file| snapshot.files.at(file).map(|file: &FileRow| file.open.inode);
            one == other || inode(one) == inode(other)
        };
        let mut last = executable;
        for area in snapshot.vmas.range(&mm.vmas) {
            if area.vma.flags & VM_EXEC == 0 || area.vma.file.is_null() || area.file == last {
                continue;
            }
            last = area.file;
            if same(area.file, executable) || is_main_executable(snapshot, mm, area) {
                continue;
            }
            let is_program = loads.is_some_and(|name| {
                let file = snapshot.files.at(area.file);
                file.and_then(|file| write_file_name(snapshot, file, &mut self.buffer))
                    .is_some_and(|_| base_name(self.buffer.text()) == name)
            });
            let role = if is_program { Role::Program } else { Role::Library };
            self.run(scene, row, program, Ran { file: area.file, role, is_main_executable: false });
        }
        script_of(line, facts.name, executed)
            .is_some_and(|script| !self.run_script(scene, row, program, script, facts.directory))
    }

    /// Notes the script that an interpreter runs, if it is open in it and was shipped; says whether it was open.
    fn run_script(
        &mut self,
        scene: &Scene<'_>,
        row: &ProcessRow,
        program: RowId,
        script: &[u8],
        directory: Option<&[u8]>,
    ) -> bool {
        let snapshot = scene.snapshot;
        let Some(applied) = self.programs.get(program).map(|program| program.applied) else {
            return false;
        };
        for table in snapshot.files_structs_of(row) {
            for descriptor in snapshot.descriptors.range(&table.descriptors) {
                let Some(file) = snapshot.files.at(descriptor.file) else { continue };
                if FileIdentity::of_file(snapshot, file).is_none()
                    || write_file_name(snapshot, file, &mut self.other_buffer).is_none()
                {
                    continue;
                }
                let path = self.other_buffer.text();
                if is_path_of(script, path, directory) {
                    if self.was_shipped_at(&applied, path) {
                        let file = descriptor.file;
                        let ran = Ran { file, role: Role::Script, is_main_executable: false };
                        self.run(scene, row, program, ran);
                    }
                    return true;
                }
            }
        }
        false
    }

    fn was_shipped_at(&self, applied: &Applied, path: &[u8]) -> bool {
        applied.iter().any(|subject| self.shipped.at_path(subject, path).next().is_some())
    }

    /// Notes that a program runs a file, unless that was seen before.
    fn run(&mut self, scene: &Scene<'_>, row: &ProcessRow, program: RowId, ran: Ran) {
        let snapshot = scene.snapshot;
        let Some(file) = snapshot.files.at(ran.file) else { return };
        let Some(identity) = FileIdentity::of_file(snapshot, file) else { return };
        let Some(owner) = self.programs.get(program) else { return };
        let key = ItemKey { serial: owner.serial, inode: identity.inode, number: identity.number };
        let version = Version::from(&identity);
        let known = self.items.find(&key).and_then(|id| Some((id, self.items.get(id)?)));
        if let Some((_, item)) = known {
            if item.is_open {
                self.identify_again(program, &identity);
                return;
            }
            // Unless somebody wrote to it meanwhile.
            if item.is_told || item.version == version {
                return;
            }
        }
        let inherited = match known {
            None => self.inherited(snapshot, row, owner, &identity),
            Some(_) => None,
        };
        let is_inherited = inherited.is_some();
        if !is_inherited && self.waiting.len() == self.waiting.capacity() {
            self.refused += 1;
            return;
        }
        let (again, is_told) = (known.is_some(), inherited == Some(true));
        let item = Item { key, next: owner.first_item, is_open: !is_inherited, is_told, version };
        let by_system = owner.is_inside && owner.sees_outside(snapshot, row, file);
        if let Some((id, _)) = known {
            if let Some(known) = self.items.get_mut(id) {
                *known = Item { next: known.next, ..item };
            }
        } else {
            let Some(id) = self.items.insert(item, self.scan) else {
                self.refused += 1;
                return;
            };
            if let Some(owner) = self.programs.get_mut(program) {
                owner.first_item = id.0;
            }
        }
        if is_inherited {
            return;
        }
        let named = write_file_name(snapshot, file, &mut self.buffer);
        let path = named.and_then(|_| self.strings.intern(self.buffer.text()));
        let is_memfd = is_floating(snapshot, file);
        self.waiting.push(Waiting {
            program,
            identity,
            role: ran.role,
            path,
            is_deleted: named.is_some_and(|named| named.deleted),
            is_memfd,
            is_main_executable: ran.is_main_executable,
            again,
            by_system,
            since_ns: scene.now_ns,
            since_scan: self.scan,
            due: self.scan,
        });
        if let Some(owner) = self.programs.get_mut(program) {
            owner.open += 1;
        }
    }

    /// Takes in by what an open file is known now: its times may have changed.
    fn identify_again(&mut self, program: RowId, identity: &FileIdentity) {
        let is_it = |waiting: &&mut Waiting| {
            waiting.program == program
                && (waiting.identity.inode, waiting.identity.number)
                    == (identity.inode, identity.number)
        };
        if let Some(waiting) = self.waiting.iter_mut().find(is_it)
            && waiting.identity != *identity
        {
            waiting.identity = *identity;
            waiting.due = self.scan;
        }
    }
}

impl Program {
    /// Whether a file of a process in a container is not the container's: it lies below another root, or nowhere and
    /// the process was started from outside.
    fn sees_outside(&self, snapshot: &Snapshot, row: &ProcessRow, file: &FileRow) -> bool {
        if is_floating(snapshot, file) {
            self.is_from_outside
        } else {
            is_of_other_root(snapshot, row, file)
        }
    }
}

/// Whether a process is the oldest one in its container.
fn is_first_of(snapshot: &Snapshot, row: &ProcessRow, container: &[u8]) -> bool {
    let start = |row: &ProcessRow| snapshot.leader(row).map(|leader| leader.task.start_boottime);
    let own = start(row);
    let mut others = snapshot.processes.iter();
    !others.any(|other| {
        start(other) < own && snapshot.container_of(other).is_some_and(|id| id == container)
    })
}

/// Whether a file lies below another root than what its process sees: its mounts end elsewhere.
fn is_of_other_root(snapshot: &Snapshot, row: &ProcessRow, file: &FileRow) -> bool {
    let tops = (top_mount(snapshot, file.path), top_mount(snapshot, row.cwd));
    matches!(tops, (Some(of_file), Some(of_process)) if of_file != of_process)
}

/// Whether a program of this name loads others: `ld.so PROGRAM`.
fn is_loader(name: &[u8]) -> bool {
    [&b"ld-linux"[..], b"ld-musl", b"ld.so", b"ld64"].iter().any(|start| name.starts_with(start))
        || (name.starts_with(b"ld-") && name.windows(3).any(|part| part == b".so"))
}

/// The name of the program that a loader was started with: its first argument that is no option, nor an option's
/// value (elf/rtld.c of glibc, ldso/dynlink.c of musl).
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

/// The script that an interpreter was started for: the kernel calls its process by the script's name (`load_script`,
/// fs/binfmt_script.c; `begin_new_exec`, fs/exec.c) and gives its path as an argument.
fn script_of<'a>(line: &'a [u8], comm: &[u8], executable: &[u8]) -> Option<&'a [u8]> {
    let cut = |name: &'a [u8]| name.get(..COMM_BYTES).unwrap_or(name);
    let own = executable.get(..COMM_BYTES).unwrap_or(executable);
    if comm == own || comm.is_empty() {
        return None;
    }
    arguments(line).skip(1).take(ARGUMENTS_MAX).find(|argument| cut(base_name(argument)) == comm)
}

/// Whether a file's path is what an argument says, below the directory of the process.
fn is_path_of(argument: &[u8], path: &[u8], directory: Option<&[u8]>) -> bool {
    if argument.starts_with(b"/") {
        return argument == path
            || super::shipped::merged(argument) == super::shipped::merged(path);
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
    fn loaders_are_known_by_their_names() {
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
    fn scripts_are_known_by_their_process_s_name() {
        let script = |line: &'static [u8], comm: &[u8], exe: &[u8]| script_of(line, comm, exe);
        let line = b"/bin/sh\0/etc/init.d/networking\0start\0";
        assert_eq!(script(line, b"networking", b"dash"), Some(&b"/etc/init.d/networking"[..]));
        let long = b"/bin/sh\0/a/a-very-long-script-name\0";
        assert_eq!(
            script(long, b"a-very-long-scr", b"sh"),
            Some(&b"/a/a-very-long-script-name"[..])
        );
        assert_eq!(script(line, b"dash", b"dash"), None, "sh SCRIPT says nothing of the kind");
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
