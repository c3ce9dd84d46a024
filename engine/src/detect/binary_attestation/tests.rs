//! Worlds made by hand: what is checked, when, and how often it is reported.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod many;

use std::collections::HashMap;

use super::*;
use crate::detect::Acceptance;
use crate::detect::tests::Unreadable;
use crate::page_cache::{Asker, ContentFacts, ElfKind, MachineMemory, Partial, Traits};
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::task_struct::PF_FORKNOEXEC;
use panoptes_tables::HashKey;

use crate::state::tests::watch::{at_once, limits, next_scan};
use crate::state::tests::world::{FakeArea, FakeFile, FakeProcess, FileKind, R, World, X};
use crate::state::{Change, ScanContext, StateSettings};
use crate::time::Now;
use crate::walk::{Kernel, Snapshot};

/// Contents by inode number.
#[derive(Default)]
struct Files {
    known: HashMap<u64, ContentFacts>,
    /// Change times that are not 0.
    changed: HashMap<u64, i64>,
    asked: u32,
}

impl Files {
    fn hold(&mut self, ino: u64, content: u8) {
        let hashes = Hashes { sha256: [content; 32], sha1: [content; 20], md5: [content; 16] };
        let format = ContentFormat::Elf(ElfKind::SharedObject);
        self.known.insert(
            ino,
            ContentFacts {
                outcome: HashOutcome::Whole { hashes },
                format,
                traits: Traits::default(),
            },
        );
    }
}

impl ContentSource for Files {
    fn ask(&mut self, file: &FileIdentity, _: Asker) -> Option<ContentFacts> {
        self.asked += 1;
        if self.changed.get(&file.number).copied().unwrap_or(0) != file.change_time_ns {
            return Some(ContentFacts {
                outcome: HashOutcome::Nothing,
                format: ContentFormat::Unknown,
                traits: Traits::default(),
            });
        }
        self.known.get(&file.number).copied()
    }

    fn stop_of(&self, file: &FileIdentity) -> Option<EarlyStop> {
        Some(EarlyStop::Changed { address: file.inode })
    }
}

/// Attests a [`World`] and collects one line per alert.
struct Watch {
    state: MachineState,
    snapshot: Snapshot,
    attest: BinaryAttestation,
    files: Files,
    /// Whether alerts are accepted.
    now: Now,
}

const BASH: u64 = 17;
const LIBC: u64 = 71;

fn file(ino: u64, name: &str) -> FakeFile {
    FakeFile::regular(0xffff_8885_0000_0000 + ino * 0x100, ino, name)
}

/// `/bin/bash` with content 1, `/lib/libc.so` with content 2, `/lib/ld-linux.so.2` with content 3,
/// `/etc/rc` with content 4.
fn shipped() -> ShippedFiles {
    let mut builder = ShippedBuilder::new();
    let system = builder.subject(&ShippedSubject::System).unwrap();
    let files = ["/bin/bash", "/lib/libc.so", "/lib/ld-linux.so.2", "/etc/rc"];
    for (path, content) in files.iter().zip(1..) {
        let file = ShippedFile {
            path: Some(path.as_bytes()),
            size: Some(4096),
            sha256: Some([content; 32]),
            ..ShippedFile::default()
        };
        builder.add(system, &file).unwrap();
    }
    let patterns = ["web-*".to_owned()];
    let entrypoint = [b"bash".to_vec(), b"-i".to_vec()];
    let web = ShippedSubject::Image {
        name: Some("web:1"),
        digest: None,
        containers: &patterns,
        entrypoint: &entrypoint,
    };
    let web = builder.subject(&web).unwrap();
    let bash = ShippedFile {
        path: Some(b"/bin/bash"),
        size: Some(4096),
        sha256: Some([1; 32]),
        ..ShippedFile::default()
    };
    builder.add(web, &bash).unwrap();
    builder.build()
}

impl Watch {
    fn with(limits: &Limits, settings: StateSettings, shipped: ShippedFiles) -> Self {
        let mut files = Files::default();
        files.hold(BASH, 1);
        files.hold(LIBC, 2);
        Self {
            state: MachineState::new(limits, settings, HashKey::new(7)),
            snapshot: Snapshot::empty(limits),
            attest: BinaryAttestation::new(
                limits,
                Arc::new(shipped),
                Images::default(),
                HashKey::new(9),
            ),
            files,
            now: Now::at(1_000_000),
        }
    }

    fn new() -> Self {
        Self::with(&limits(), at_once(), shipped())
    }

    fn scan(&mut self, world: &World) -> Vec<String> {
        world.show(&mut self.snapshot);
        for inode in self.snapshot.inodes.iter_mut() {
            let changed = self.files.changed.get(&inode.attributes.ino);
            inode.attributes.ctime_ns = changed.copied().unwrap_or(0);
        }
        self.now = next_scan(self.now);
        let quiet = &mut |_: &ScanContext<'_>, _: &Change<'_>| ();
        self.state.update(&self.snapshot, self.now, quiet);
        let cx = self.state.scan_context(&self.snapshot, self.now);
        let mut found = Vec::new();
        let out = &mut |_: &ScanContext<'_>, finding: &Finding<'_>| {
            let Finding::BinaryAttestation(alert) = finding else { panic!("{finding:?}") };
            found.push(line(alert));
            Acceptance::Yes
        };
        let memory = MachineMemory { source: &mut Unreadable, kernel: &Kernel::default() };
        let context = &mut DetectorContext { memory, cx: &cx, out };
        self.attest.update(context, &self.state, &mut self.files);
        found
    }

    /// Number of tracked programs, of pairs of program and file, and of those that are open.
    fn usage(&self) -> (usize, usize, usize) {
        let BinaryAttestation { programs, items, waiting, .. } = &self.attest;
        (programs.len(), items.len(), waiting.len())
    }

    /// The lines of this many scans.
    fn scans(&mut self, world: &World, count: usize) -> Vec<String> {
        (0..count).flat_map(|_| self.scan(world)).collect()
    }
}

fn line(alert: &Alert<'_>) -> String {
    let what = match alert.finding.wrong {
        FileFault::Foreign { other_size: Some(_), .. } => "other size",
        FileFault::Foreign { instead: Some(_), .. } => "modified",
        FileFault::Foreign { .. } => "foreign",
        FileFault::Elsewhere { .. } => "elsewhere",
        FileFault::Arguments { entrypoint: true } => "not the entrypoint",
        FileFault::Arguments { entrypoint: false } => "arguments",
    };
    let role = match alert.role {
        Role::Program => "program",
        Role::Library => "library",
        Role::Script => "script",
    };
    let path = String::from_utf8_lossy(alert.file.path.unwrap_or(b"?"));
    let hash = alert.file.hashes.map_or("", |_| " hashed");
    format!("{} {what} {role} {path}{hash}", alert.process.process_id)
}

/// Process 1 runs `/bin/bash`.
fn world() -> World {
    let mut world = World::default();
    world.process(1).executable = Some(file(BASH, "bin/bash"));
    world
}

fn process(pid: u32, executable: &FakeFile) -> FakeProcess {
    let mut process = FakeProcess::new(pid);
    process.executable = Some(executable.clone());
    process.with_area(FakeArea::of_file(0x1000, 0x2000, R | X, executable))
}

fn library(process: FakeProcess, file: &FakeFile, start: u64) -> FakeProcess {
    process.with_area(FakeArea::of_file(start, start + 0x1000, R | X, file))
}

#[test]
fn a_foreign_program_is_reported_once() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    assert_eq!(watch.scans(&world(), 3), [""; 0]);
    let evil = world().with(process(9, &file(20, "tmp/evil")));
    assert_eq!(watch.scans(&evil, 5), ["9 foreign program /tmp/evil hashed"]);
    assert_eq!(watch.scans(&world(), 3), [""; 0]);
    let again = world().with(process(10, &file(20, "tmp/evil")));
    assert_eq!(watch.scans(&again, 5), ["10 foreign program /tmp/evil hashed"]);
}

/// A user may name a scope like a container: it must not count as a container of no known image.
#[test]
fn a_container_that_a_user_made_is_judged_by_the_systems_sbom() {
    for (container, expected) in
        [("users-1", &["9 foreign program /tmp/evil hashed"][..]), ("db-1", &[])]
    {
        let mut watch = Watch::new();
        watch.files.hold(20, 9);
        watch.scan(&world());
        let mut evil = process(9, &file(20, "tmp/evil"));
        evil.container = container.into();
        evil.mount_namespace += 5;
        assert_eq!(watch.scans(&world().with(evil), 5), expected, "{container}");
    }
}

#[test]
fn programs_that_exist_at_start_are_checked_too() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    let there = library(process(9, &file(BASH, "bin/bash")), &file(20, "tmp/x.so"), 0x5000);
    assert_eq!(watch.scans(&world().with(there), 3), ["9 foreign library /tmp/x.so hashed"]);
}

#[test]
fn shipped_files_raise_no_alert() {
    let mut watch = Watch::new();
    let bash = library(process(9, &file(BASH, "bin/bash")), &file(LIBC, "lib/libc.so"), 0x5000);
    assert_eq!(watch.scans(&world().with(bash), 5), [""; 0]);
    assert_eq!(watch.usage(), (2, 3, 0));
    assert_eq!(watch.scans(&world(), 2), [""; 0]);
    let (programs, files, _) = watch.usage();
    assert_eq!((programs, files), (1, 1), "nothing is kept of ended processes");
}

#[test]
fn a_program_that_has_ended_still_gets_its_verdict() {
    let mut watch = Watch::new();
    watch.scan(&world());
    let evil = world().with(process(9, &file(20, "tmp/evil")));
    assert_eq!(watch.scan(&evil), [""; 0], "it is not hashed yet");
    assert_eq!(watch.scans(&world(), 3), [""; 0]);
    watch.files.hold(20, 9);
    assert_eq!(watch.scans(&world(), 12), ["9 foreign program /tmp/evil hashed"]);
    assert_eq!(watch.usage(), (1, 1, 0));
    assert_eq!(watch.attest.strings.used_bytes(), names_of_init(), "names are released");
}

#[test]
fn a_file_that_is_removed_before_it_is_hashed_still_gets_its_verdict() {
    let mut watch = Watch::new();
    watch.scan(&world());
    let evil = world().with(process(9, &file(20, "tmp/evil")));
    assert_eq!(watch.scan(&evil), [""; 0], "it is not hashed yet");
    watch.files.changed.insert(20, 5);
    watch.files.hold(20, 9);
    assert_eq!(watch.scans(&evil, 5), ["9 foreign program /tmp/evil hashed"]);
    assert_eq!(watch.scans(&evil, 100), [""; 0]);
}

#[test]
fn a_process_that_seems_to_be_inside_exec_for_ever_is_checked() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    watch.scan(&world());
    let mut evil = process(9, &file(20, "tmp/evil"));
    evil.in_exec = true;
    let evil = world().with(evil);
    assert_eq!(watch.scans(&evil, 50), [""; 0]);
    assert_eq!(watch.scans(&evil, 100), ["9 foreign program /tmp/evil hashed"]);
}

#[test]
fn a_process_of_any_age_is_not_checked_inside_exec() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    // It has run for longer than an exec takes.
    watch.scans(&world().with(process(9, &file(BASH, "bin/bash"))), 200);
    let mut evil = process(9, &file(20, "tmp/evil"));
    evil.in_exec = true;
    // Still the last program's number (`exec_mmap`, fs/exec.c, releases the last memory before it
    // is raised).
    assert_eq!(watch.scans(&world().with(evil.clone()), 3), [""; 0]);
    evil.exec_id += 1;
    assert_eq!(watch.scans(&world().with(evil.clone()), 3), [""; 0]);
    evil.in_exec = false;
    assert_eq!(watch.scans(&world().with(evil), 3), ["9 foreign program /tmp/evil hashed"]);
}

/// Bytes of the names that belong to process 1 alone.
fn names_of_init() -> usize {
    let mut watch = Watch::new();
    watch.scans(&world(), 2);
    watch.attest.strings.used_bytes()
}

#[test]
fn the_wait_for_hashes_is_limited_when_the_size_suffices() {
    let mut watch = Watch::new();
    watch.scan(&world());
    // The file shipped there has 4096 bytes, as all files of these worlds have.
    let mut builder = ShippedBuilder::new();
    let system = builder.subject(&ShippedSubject::System).unwrap();
    let small = ShippedFile {
        path: Some(b"/bin/bash"),
        size: Some(100),
        sha256: Some([1; 32]),
        ..ShippedFile::default()
    };
    builder.add(system, &small).unwrap();
    let mut watch = Watch::with(&limits(), at_once(), builder.build());
    watch.files.known.clear();
    assert_eq!(watch.scans(&world(), 100), [""; 0]);
    assert_eq!(watch.scans(&world(), 200), ["1 other size program /bin/bash"]);
}

#[test]
fn an_exec_is_checked_and_a_fork_is_not() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    let evil = process(9, &file(20, "tmp/evil"));
    let alone = world().with(evil.clone());
    assert_eq!(watch.scans(&alone, 3).len(), 1);
    let mut child = process(10, &file(20, "tmp/evil"));
    child.parent = 9;
    let forked = alone.clone().with(child.clone());
    assert_eq!(watch.scans(&forked, 5), [""; 0], "it still runs its parent's program");
    child.exec_id += 1;
    child.mm += 0x10;
    let other = alone.clone().with(child);
    assert_eq!(watch.scans(&other, 5), ["10 foreign program /tmp/evil hashed"]);
}

#[test]
fn a_fork_inherits_from_a_parent_that_has_ended() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    let evil = process(9, &file(20, "tmp/evil"));
    assert_eq!(watch.scans(&world().with(evil), 3).len(), 1);
    let mut daemon = process(10, &file(20, "tmp/evil"));
    daemon.flags = PF_FORKNOEXEC;
    assert_eq!(watch.scans(&world().with(daemon.clone()), 5), [""; 0]);
    // A child of the last process, and another process that runs the same file.
    let mut again = process(11, &file(20, "tmp/evil"));
    again.flags = PF_FORKNOEXEC;
    let mut other = process(12, &file(20, "tmp/evil"));
    (other.flags, other.arguments_at) = (PF_FORKNOEXEC, 0x7ffd_0000_1000);
    let found = watch.scans(&world().with(again).with(other), 5);
    assert_eq!(found, ["12 foreign program /tmp/evil hashed"]);
}

#[test]
fn a_fork_inherits_only_what_was_checked() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    watch.files.hold(30, 2);
    let evil = library(process(9, &file(20, "tmp/evil")), &file(30, "lib/libc.so"), 0x5000);
    let alone = world().with(evil);
    assert_eq!(watch.scans(&alone, 3), ["9 foreign program /tmp/evil hashed"]);
    let mut child = library(process(10, &file(20, "tmp/evil")), &file(30, "lib/libc.so"), 0x5000);
    (child.parent, child.flags) = (9, PF_FORKNOEXEC);
    let forked = alone.clone().with(child.clone());
    assert_eq!(watch.scans(&forked, 3), [""; 0]);
    // The reported file stays reported when it is unlinked, which changes its time.
    watch.files.changed.insert(20, 5);
    let heap = FakeArea::anonymous(0x9000, 0xa000, R);
    assert_eq!(watch.scans(&alone.clone().with(child.clone().with_area(heap)), 3), [""; 0]);
    // A file that was overwritten before the fork was not checked with that content.
    watch.files.hold(30, 9);
    watch.files.changed.insert(30, 5);
    (child.pid, child.start, child.address) = (11, 11_000_000, 0xffff_8880_0000_b000);
    let found = watch.scans(&alone.with(child), 3);
    assert_eq!(found, ["11 modified library /lib/libc.so hashed"]);
}

#[test]
fn a_running_program_may_be_renamed() {
    let mut watch = Watch::new();
    let bash = process(9, &file(BASH, "bin/bash"));
    assert_eq!(watch.scans(&world().with(bash.clone()), 3), [""; 0]);
    watch.files.changed.insert(BASH, 5);
    let mut renamed = process(9, &FakeFile { name: "bin/bash.old".into(), ..file(BASH, "") });
    renamed.areas.push(FakeArea::anonymous(0x9000, 0xa000, R));
    assert_eq!(watch.scans(&world().with(renamed), 3), [""; 0]);
}

#[test]
fn a_process_that_a_scan_misses_is_not_reported_again() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    let evil = world().with(process(9, &file(20, "tmp/evil")));
    assert_eq!(watch.scans(&evil, 3).len(), 1);
    let torn = World { task_list_closed: false, idr_complete: false, ..world() };
    assert_eq!(watch.scan(&torn), [""; 0]);
    assert_eq!(watch.scans(&evil, 3), [""; 0]);
}

#[test]
fn a_new_process_waits_for_its_container_to_be_known() {
    let mut watch = Watch::new();
    watch.files.hold(20, 1);
    watch.scan(&world());
    // The container's image ships no library, and the system's program is not one of the
    // container's.
    let mut inside = process(9, &file(20, "bin/web"));
    inside.container_known = false;
    assert_eq!(watch.scans(&world().with(inside.clone()), 2), [""; 0]);
    let alerts = watch.scans(&world().with(inside), 8);
    assert_eq!(alerts, ["9 elsewhere program /bin/web hashed"], "the wait for it is limited");
}

/// A process that maps and unmaps memory all the time is never read as a whole.
#[test]
fn a_library_of_a_process_whose_areas_are_never_read_as_a_whole_is_checked() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    let mut bash = process(9, &file(BASH, "bin/bash"));
    bash.mm_complete = false;
    assert_eq!(watch.scans(&world().with(bash.clone()), 3), [""; 0]);
    let loaded = library(bash, &file(20, "tmp/x.so"), 0x5000);
    let found = watch.scans(&world().with(loaded.clone()), 3);
    assert_eq!(found, ["9 foreign library /tmp/x.so hashed"]);
    // A library that the torn scans did not show is checked when a scan shows it.
    watch.files.hold(21, 9);
    let mut more = library(loaded, &file(21, "tmp/y.so"), 0x9000);
    more.mm_complete = true;
    let found = watch.scans(&world().with(more), 3);
    assert_eq!(found, ["9 foreign library /tmp/y.so hashed"]);
}

#[test]
fn a_library_is_reported_once_per_process_however_often_it_is_mapped() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    let bash = process(9, &file(BASH, "bin/bash"));
    let x = file(20, "tmp/x.so");
    assert_eq!(watch.scans(&world().with(bash.clone()), 3), [""; 0]);
    let loaded = library(bash.clone(), &x, 0x5000);
    let found = watch.scans(&world().with(loaded.clone()), 3);
    assert_eq!(found, ["9 foreign library /tmp/x.so hashed"]);
    let twice = library(loaded, &x, 0x9000);
    assert_eq!(watch.scans(&world().with(twice), 3), [""; 0]);
    assert_eq!(watch.scans(&world().with(bash.clone()), 3), [""; 0]);
    assert_eq!(watch.scans(&world().with(library(bash, &x, 0x5000)), 3), [""; 0]);
}

#[test]
fn an_overwritten_library_is_checked_again_when_it_is_mapped_again() {
    let mut watch = Watch::new();
    watch.files.hold(20, 2);
    let bash = process(9, &file(BASH, "bin/bash"));
    let x = file(20, "lib/libc.so");
    let loaded = library(bash.clone(), &x, 0x5000);
    assert_eq!(watch.scans(&world().with(loaded.clone()), 3), [""; 0]);
    assert_eq!(watch.scans(&world().with(bash.clone()), 3), [""; 0]);
    watch.files.hold(20, 9);
    watch.files.changed.insert(20, 5);
    let found = watch.scans(&world().with(loaded.clone()), 3);
    assert_eq!(found, ["9 modified library /lib/libc.so hashed"]);
    // Later changes of the file are not reported.
    assert_eq!(watch.scans(&world().with(bash.clone()), 3), [""; 0]);
    watch.files.changed.insert(20, 6);
    assert_eq!(watch.scans(&world().with(loaded), 3), [""; 0]);
    assert_eq!(watch.scans(&world().with(bash), 3), [""; 0]);
    assert_eq!(watch.scans(&world(), 3), [""; 0]);
    assert_eq!(watch.usage(), (1, 1, 0));
}

#[test]
fn a_mapping_that_is_not_executable_is_not_a_library() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    let area = FakeArea::of_file(0x5000, 0x6000, R, &file(20, "usr/lib/locale-archive"));
    let bash = process(9, &file(BASH, "bin/bash")).with_area(area);
    assert_eq!(watch.scans(&world().with(bash), 5), [""; 0]);
    assert!(watch.usage().1 == 2);
}

#[test]
fn matching_parts_stay_open_and_are_checked_less_and_less() {
    let mut watch = Watch::new();
    let partial = Partial { pages: 1, resident: 0, best_match: None };
    let known = ContentFacts {
        outcome: HashOutcome::Partial(partial),
        format: ContentFormat::Unknown,
        traits: Traits::default(),
    };
    watch.files.known.insert(LIBC, known);
    let bash = library(process(9, &file(BASH, "bin/bash")), &file(LIBC, "lib/libc.so"), 0x5000);
    let world = world().with(bash);
    assert_eq!(watch.scans(&world, 2000), [""; 0]);
    assert_eq!(watch.usage().2, 1);
    let before = watch.files.asked;
    watch.scans(&world, 640);
    assert_eq!(watch.files.asked - before, 10, "every 64 scans");
    watch.files.hold(LIBC, 9);
    assert_eq!(watch.scans(&world, 65), ["9 modified library /lib/libc.so hashed"]);
}

#[test]
fn a_loader_s_program_and_an_interpreter_s_script_count_as_executed() {
    let mut watch = Watch::new();
    watch.files.hold(20, 9);
    watch.files.hold(30, 3);
    watch.files.hold(40, 9);
    let loader = file(30, "lib/ld-linux.so.2");
    let mut loaded = library(process(9, &loader), &file(20, "tmp/evil"), 0x5000);
    loaded.arguments = b"/lib/ld-linux.so.2\0/tmp/evil\0".to_vec();
    assert_eq!(watch.scans(&world().with(loaded), 3), ["9 foreign program /tmp/evil hashed"]);
    let script = |name: &str, path: &str, open: &str| {
        let mut script = process(9, &file(BASH, "bin/bash")).with_file(255, file(40, open));
        script.name = name.into();
        script.arguments = format!("/bin/bash\0{path}\0").into_bytes();
        script.exec_id += 10;
        world().with(script)
    };
    watch.scans(&world(), 3);
    let found = watch.scans(&script("rc", "/etc/rc", "etc/rc"), 3);
    assert_eq!(found, ["9 modified script /etc/rc hashed"]);
    watch.scans(&world(), 3);
    // The interpreter starts before it opens its script.
    assert_eq!(watch.scans(&script("rc", "/etc/rc", "etc/other"), 3), [""; 0]);
    let found = watch.scans(&script("rc", "/etc/rc", "etc/rc"), 3);
    assert_eq!(found, ["9 modified script /etc/rc hashed"]);
    watch.scans(&world(), 3);
    assert_eq!(watch.scans(&script("x.sh", "/home/x.sh", "home/x.sh"), 3), [""; 0]);
    watch.scans(&world(), 3);
    assert_eq!(watch.scans(&script("bash", "/etc/rc", "etc/rc"), 3), [""; 0], "bash FILE");
}

#[test]
fn a_container_is_checked_against_its_image_and_its_first_process_against_the_entrypoint() {
    let mut watch = Watch::new();
    watch.scan(&world());
    let inside = |pid, container: &str, arguments: &[u8]| {
        let mut inside =
            library(process(pid, &file(BASH, "bin/bash")), &file(LIBC, "lib/libc.so"), 0x5000);
        inside.container = container.into();
        inside.arguments = arguments.to_vec();
        inside.mount_namespace += 5;
        inside
    };
    let unknown = inside(9, "db-1", b"bash\0");
    assert_eq!(watch.scans(&world().with(unknown), 3), [""; 0], "a container of no known image");
    let web = inside(10, "web-1", b"bash\0-i\0");
    let found = watch.scans(&world().with(web.clone()), 3);
    assert_eq!(found, ["10 foreign library /lib/libc.so hashed"], "the image has none");
    let mut second = inside(12, "web-1", b"bash\0-c\0evil\0");
    second.areas.pop();
    assert_eq!(watch.scans(&world().with(web).with(second), 3), [""; 0], "not the first process");
    let mut other = inside(13, "web-2", b"bash\0-c\0evil\0");
    other.areas.pop();
    assert_eq!(
        watch.scans(&world().with(other.clone()), 3),
        ["13 not the entrypoint program /bin/bash hashed"]
    );
    let mut there = Watch::new();
    assert_eq!(there.scans(&world().with(other), 3), [""; 0], "its arguments may be rewritten");
}

/// A process in a container that should run `bash -i`, with other arguments.
fn in_web(pid: u32, arguments: &[u8]) -> FakeProcess {
    let mut web = process(pid, &file(BASH, "bin/bash"));
    web.container = "web-1".into();
    web.arguments = arguments.to_vec();
    web.mount_namespace += 5;
    web
}

#[test]
fn arguments_are_those_of_the_first_check_however_late_the_content_is_known() {
    let judged = |first: &[u8], later: &[u8]| {
        let mut watch = Watch::new();
        watch.scan(&world());
        watch.files.known.remove(&BASH);
        let first = in_web(9, first);
        assert_eq!(watch.scans(&world().with(first.clone()), 2), [""; 0]);
        // It has overwritten them by now, and one of its areas is new.
        let mut later = FakeProcess { arguments: later.to_vec(), ..first };
        later.areas.push(FakeArea::anonymous(0x9000, 0xa000, R));
        assert_eq!(watch.scans(&world().with(later.clone()), 2), [""; 0]);
        watch.files.hold(BASH, 1);
        watch.scans(&world().with(later), 9)
    };
    assert_eq!(judged(b"bash\0-i\0", b"bash: idle\0"), [""; 0]);
    let found = judged(b"bash\0-c\0evil\0", b"bash\0-i\0");
    assert_eq!(found, ["9 not the entrypoint program /bin/bash hashed"]);
}

#[test]
fn the_previous_program_is_kept_until_the_next_is_known() {
    let mut watch = Watch::new();
    watch.scan(&world());
    // A container's runtime, from the system's own files, becomes something that is not the
    // entrypoint.
    let mut runtime = in_web(9, b"runc\0init\0");
    let outside = FakeFile { kind: FileKind::Memfd, ..file(30, "runc") };
    watch.files.hold(30, 1);
    runtime.executable = Some(outside.clone());
    runtime.areas = vec![FakeArea::of_file(0x1000, 0x2000, R | X, &outside)];
    assert_eq!(watch.scans(&world().with(runtime.clone()), 3), [""; 0]);
    let mut next = in_web(9, b"other\0-l\0");
    next.exec_id = runtime.exec_id + 1;
    next.in_exec = true;
    assert_eq!(watch.scans(&world().with(next.clone()), 2), [""; 0]);
    next.in_exec = false;
    let found = watch.scans(&world().with(next), 3);
    assert_eq!(found, ["9 not the entrypoint program /bin/bash hashed"]);
}

#[test]
fn arguments_of_existing_programs_are_not_checked_at_start_or_after_a_reload() {
    let mut watch = Watch::new();
    let there = in_web(9, b"bash\0-c\0title\0");
    assert_eq!(watch.scans(&world().with(there.clone()), 3), [""; 0]);
    let began = watch.scans(&world().with(there.clone()).with(in_web(10, b"bash\0-i\0")), 3);
    assert_eq!(began, [""; 0]);
    // The other process has overwritten its arguments by now, too.
    let later = world().with(there).with(in_web(10, b"bash: idle\0"));
    let images = Images::default();
    watch.attest = BinaryAttestation::new(&limits(), Arc::new(shipped()), images, HashKey::new(9));
    assert_eq!(watch.scans(&later, 3), [""; 0]);
}

#[test]
fn arguments_of_programs_that_began_while_contact_was_lost_are_checked() {
    let other = in_web(9, b"bash\0-c\0evil\0");
    for (until, expected) in [
        (other.start, &[][..]),
        (other.start - 1, &["9 not the entrypoint program /bin/bash hashed"]),
    ] {
        let (mut watch, world) = (Watch::new(), world().with(other.clone()));
        watch.state.go_on_after(until);
        world.show(&mut watch.snapshot);
        watch.state.note_baseline(&watch.snapshot);
        assert_eq!(watch.scans(&world, 3), expected);
    }
}

#[test]
fn files_without_room_are_counted_and_retried() {
    // Room for 4096 / 5 + 1024 files, of which 4096 / 16 + 1024 may be open. One program has no
    // more than 7 / 8 of it.
    let mut watch = Watch::with(&Limits { vmas: 4096, ..limits() }, at_once(), shipped());
    let mut crowd = process(9, &file(BASH, "bin/bash"));
    for number in 0..2200 {
        let x = file(1000 + number, &format!("lib/{number}.so"));
        watch.files.hold(1000 + number, 2);
        crowd = library(crowd, &x, 0x10_0000 + number * 0x1000);
    }
    let world = world().with(crowd);
    assert_eq!(watch.scan(&world), [""; 0]);
    let usage = |watch: &mut Watch| (watch.usage().1, watch.attest.unchecked().standing());
    assert_eq!(usage(&mut watch), (1120, 2202 - 1120));
    watch.scans(&world, 10);
    assert_eq!(usage(&mut watch), (1120, 2202 - 1120), "as long as it lasts");
    assert_eq!(watch.attest.unchecked().process_id(), Some(9));
    watch.scans(&world, 64);
    assert_eq!(usage(&mut watch), (1613, 2202 - 1613));
}

#[test]
fn nothing_is_kept_where_nothing_was_shipped() {
    let mut watch = Watch::with(&limits(), at_once(), ShippedFiles::default());
    watch.scans(&world().with(process(9, &file(20, "tmp/evil"))), 3);
    assert_eq!(watch.usage(), (0, 0, 0));
    assert_eq!(watch.attest.unchecked().missed(), 0);
    assert_eq!(watch.files.asked, 0);
}
