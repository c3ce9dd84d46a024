//! The programs and libraries that a machine has mapped, and their contents.

mod common;

use std::io::Read as _;

use common::{kernel, setup::KEY, walker};
use panoptes_engine::container_config::Glob;
use panoptes_engine::executables::{CachedFile, Executable, Executables, Processes, outcomes};
use panoptes_engine::limits::Limits;
use panoptes_engine::page_cache::{HashOutcome, MachineMemory};
use panoptes_engine::walk::Scope;
use panoptes_synthetic::{Area, ForkOptions, Machine, Source, profile};
use sha2::{Digest as _, Sha256};

const TOOL: &str = "/usr/bin/tool";
const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";

/// What a scan shows of one file.
#[derive(Debug, Eq, PartialEq)]
struct Seen {
    path: String,
    mode: u16,
    /// The SHA-256 of all of it.
    sha256: Option<[u8; 32]>,
    /// The content, read again.
    content: Option<Vec<u8>>,
    /// Number of pages that are missing, of the file and of its code.
    missing: (u32, u64),
}

/// The executables of a machine, and the counts of what is not among them: removed files, areas
/// without a path, and processes elsewhere.
fn seen(machine: &mut Machine, processes: Processes<'_>) -> (Vec<Seen>, (usize, u64, u64)) {
    let (limits, kernel) = (Limits::default(), kernel(machine));
    let mut walker = walker(&limits);
    let mut source = Source::new(machine);
    let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes are found");
    let found = Executables::new(snapshot, processes);
    assert_eq!(found.incomplete, 0);
    let mut known = Vec::new();
    let files: &[Executable] = &found.files;
    outcomes(files, (&mut source, &kernel), (&limits, KEY), &mut |_, outcome| known.push(outcome));
    let seen = files.iter().zip(known).map(|(file, outcome)| {
        let memory = &mut MachineMemory { source: &mut source, kernel: &kernel };
        let mut content = Vec::new();
        let read = CachedFile::new(memory, snapshot, file).read_to_end(&mut content);
        let (sha256, missing) = match outcome {
            HashOutcome::Whole { hashes } => (Some(hashes.sha256), 0),
            HashOutcome::Partial(part) => (None, part.pages - part.resident),
            HashOutcome::Nothing => (None, u32::MAX),
        };
        Seen {
            path: String::from_utf8(file.path.clone()).expect("it is ASCII"),
            mode: file.mode,
            sha256,
            content: read.is_ok().then_some(content),
            missing: (missing, file.missing_code(memory, snapshot)),
        }
    });
    (seen.collect(), (found.removed.len(), found.unnamed, found.elsewhere))
}

fn content(size: u32) -> Vec<u8> {
    let mut bytes = b"\x7fELF".to_vec();
    bytes.extend((4..size).map(|number| (number / 7 % 251) as u8));
    bytes
}

/// A machine in which a process runs a tool with a library.
fn machine(release: &str) -> (Machine, u32) {
    let mut machine = Machine::builder(&profile(release)).build();
    machine.write_file(TOOL, &content(700_001));
    machine.write_file(LIBC, &content(9_000));
    let pid = machine.fork(1);
    machine.exec(pid, TOOL, &["tool"]);
    machine.tick(60_000_000_000);
    (machine, pid)
}

fn of<'s>(seen: &'s [Seen], path: &str) -> &'s Seen {
    let mut found = seen.iter().filter(|one| one.path == path);
    let one = found.next().unwrap_or_else(|| panic!("no {path}: {seen:#?}"));
    assert_eq!(found.next(), None, "each file is there once");
    one
}

#[test]
fn files_whose_pages_are_all_in_memory_have_their_hashes() {
    for release in common::RELEASES {
        let (mut machine, _) = machine(release);
        let (seen, _) = seen(&mut machine, Processes::System);
        for (path, size) in [(TOOL, 700_001), (LIBC, 9_000)] {
            let one = of(&seen, path);
            let content = content(size);
            assert_eq!(one.sha256.unwrap(), Sha256::digest(&content)[..], "{release}: {path}");
            assert_eq!(one.content.as_ref(), Some(&content), "{release}: {path}");
            assert_eq!(one.missing, (0, 0), "{release}: {path}");
        }
        // Other programs of the machine have no pages.
        let init = of(&seen, "/usr/lib/systemd/systemd");
        assert!(init.sha256.is_none() && init.content.is_none(), "{release}: {init:?}");
    }
}

#[test]
fn a_file_that_lacks_pages_is_counted_with_those_of_its_code() {
    let (mut machine, pid) = machine(common::RELEASES[1]);
    // Code in the first three pages, and in two that the file has no pages for.
    let area = |start: u64, page_offset: u64, pages: u64| Area {
        start,
        end: start + pages * 4096,
        flags: 0x75,
        path: Some("/opt/lib.so".to_owned()),
        page_offset,
    };
    machine.write_file("/opt/lib.so", &content(5 * 4096));
    machine.map(pid, &[area(0x7000_0000, 0, 3), area(0x7100_0000, 6, 2)]);
    machine.set_size("/opt/lib.so", 9 * 4096);
    machine.tick(60_000_000_000);
    let (seen, _) = seen(&mut machine, Processes::System);
    let one = of(&seen, "/opt/lib.so");
    assert_eq!((one.sha256, one.missing), (None, (4, 2)));
    assert_eq!(one.content, None);
}

#[test]
fn a_file_that_was_removed_is_named_apart() {
    let (mut machine, _) = machine(common::RELEASES[1]);
    machine.unlink(TOOL);
    let (seen, (removed, ..)) = seen(&mut machine, Processes::System);
    assert!(seen.iter().all(|one| !one.path.starts_with(TOOL)), "{seen:#?}");
    assert_eq!(removed, 1);
}

#[test]
fn containers_have_their_own_files() {
    let (mut machine, _) = machine(common::RELEASES[1]);
    let (_, (.., elsewhere_before)) = seen(&mut machine, Processes::System);
    let path = format!("/system.slice/docker-{}.scope", "ab".repeat(32));
    let container = machine.add_container(&path, "web");
    let options = ForkOptions { container, uid: 0, new_session: true };
    let pid = machine.fork_with(1, options);
    machine.write_file("/srv/inside", &content(5_000));
    machine.exec(pid, "/srv/inside", &["inside"]);
    machine.tick(60_000_000_000);
    let (outside, (.., elsewhere)) = seen(&mut machine, Processes::System);
    assert!(outside.iter().all(|one| one.path != "/srv/inside"), "{outside:#?}");
    assert_eq!(elsewhere, elsewhere_before + 1);
    let paths = |machine: &mut Machine, glob: &str| {
        let globs = [Glob::new(glob)];
        let (seen, _) = seen(machine, Processes::Containers(&globs));
        seen.into_iter().map(|one| one.path).collect::<Vec<_>>()
    };
    for glob in ["ab*", &"ab".repeat(6)] {
        assert_eq!(paths(&mut machine, glob), ["/srv/inside", LIBC], "{glob}");
    }
    assert_eq!(paths(&mut machine, "cd*"), Vec::<String>::new());
}
