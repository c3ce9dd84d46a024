//! Which processes belong to a package manager, and which package manager is trusted.

use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_READ};
use panoptes_tables::{HashKey, StringRoom};

use super::*;
use crate::page_cache::{ContentFacts, ContentFormat, HashOutcome, Hashes, Traits};
use crate::shipped::{ShippedBuilder, ShippedFile, ShippedSubject};
use crate::state::facts::InodeFacts;
use crate::state::tests::watch::limits;
use crate::state::tests::world::{BOOT_NS, FakeArea, FakeFile, FakeProcess, World};
use crate::state::{Change, MachineState, ScanContext, StateSettings};
use crate::time::Now;
use crate::walk::Index;

const EXT4: u64 = 0xef53;
const SQUASHFS: u64 = 0x7371_7368;

fn process(pid: u32, parent: u32, executable: &str) -> FakeProcess {
    let address = 0xffff_8881_0000_0000 + u64::from(pid) * 0x100;
    let executable = FakeFile::regular(address, u64::from(pid), executable);
    // Each has called exec more often than its parent.
    let exec_id = pid - 90;
    FakeProcess { parent, exec_id, executable: Some(executable), ..FakeProcess::new(pid) }
}

fn strings() -> Strings {
    Strings::new(StringRoom { bytes: 1 << 16, strings: 256 }, HashKey::new(7))
}

/// Returns the id of each new process with a package manager, and the id of that manager.
fn managers(packages: &mut Packages, strings: &mut Strings, world: &World) -> Vec<(u32, u32)> {
    managers_on(EXT4, packages, strings, world)
}

/// The same where all programs are on a filesystem of this magic number.
fn managers_on(
    magic: u64,
    packages: &mut Packages,
    strings: &mut Strings,
    world: &World,
) -> Vec<(u32, u32)> {
    let limits = limits();
    let mut snapshot = Snapshot::empty(&limits);
    let mut state = MachineState::new(&limits, StateSettings::default(), HashKey::new(7));
    World::default().show(&mut snapshot);
    state.update(
        &snapshot,
        Now::at(1_795_159_906_905_224_659),
        &mut |_: &ScanContext<'_>, _: &Change<'_>| {},
    );
    world.show(&mut snapshot);
    snapshot.super_blocks[Index::new(0).unwrap()].filesystem.magic = magic;
    let mut found = Vec::new();
    let on_change = &mut |cx: &ScanContext<'_>, change: &Change<'_>| {
        if let Change::ProcessCreated(process) = change {
            let manager = packages.manager_of(cx.snapshot, process, strings);
            found.extend(manager.map(|manager| (process.process_id(), manager.process_id)));
        }
    };
    state.update(&snapshot, Now::at(1_795_159_906_915_224_659), on_change);
    found
}

#[test]
fn what_descends_from_a_package_manager_belongs_to_it() {
    let world = World::default()
        .with(process(100, 1, "usr/bin/apt"))
        .with(process(101, 100, "usr/bin/dpkg"))
        .with(process(102, 101, "bin/sh"))
        .with(process(103, 102, "usr/bin/install"))
        .with(process(104, 1, "bin/sh"))
        // Not where systems have it, and another name.
        .with(process(105, 1, "tmp/dpkg"))
        .with(process(106, 1, "usr/bin/dpkg-deb"))
        .with(FakeProcess { uid: 1000, ..process(109, 1, "usr/bin/dpkg") })
        .with(process(107, 1, "bin/rpm").in_container("4f1c0de5a7b3"));
    let (mut packages, mut strings) = (Packages::new(), strings());
    let found = managers(&mut packages, &mut strings, &world);
    assert_eq!(found, [(101, 101), (102, 101), (103, 101)]);
    // Those that write later are known, although their ancestors have ended.
    let mut world = World::default().with(process(103, 1, "usr/bin/install"));
    assert_eq!(managers(&mut packages, &mut strings, &world), [(103, 101)]);
    world.processes.push(process(108, 1, "usr/bin/install"));
    assert_eq!(managers(&mut packages, &mut strings, &world), [(103, 101)]);
}

/// A Python with these arguments, which has mapped a library.
fn python(pid: u32, arguments: &str, library: &str) -> FakeProcess {
    let address = 0xffff_8883_0000_0000 + u64::from(pid) * 0x100;
    let library = FakeFile::regular(address, 1000 + u64::from(pid), library);
    let arguments = arguments.as_bytes().to_vec();
    let area = FakeArea::of_file(0x7000_0000, 0x7000_1000, VM_READ | VM_EXEC, &library);
    FakeProcess { arguments, ..process(pid, 1, "usr/bin/python3.12") }.with_area(area)
}

#[test]
fn programs_that_install_packages_are_known_where_distributions_put_them() {
    let mut world = World::default();
    let programs = [
        "usr/bin/dnf5",
        "usr/bin/dnf5daemon-server",
        "usr/sbin/dnf5daemon-server",
        "usr/bin/microdnf",
        "usr/bin/pacman",
        "usr/bin/tdnf",
    ];
    // No more of them at a time than there is room for.
    let others = [
        "sbin/apk",
        "usr/libexec/packagekitd",
        "usr/lib/snapd/snapd",
        "usr/libexec/snapd/snapd",
        "usr/lib/zypp/zypp-rpm",
    ];
    let snaps =
        ["snap/snapd/2137/usr/lib/snapd/snapd", "var/lib/snapd/snap/core/7/usr/lib/snapd/snapd"];
    // Root may make files in folders of snaps, and nothing tells.
    for (programs, magic, are_known) in [
        (&programs[..], EXT4, true),
        (&others, EXT4, true),
        (&snaps, SQUASHFS, true),
        (&snaps, EXT4, false),
    ] {
        world.processes.truncate(1);
        let pids = 101..101 + programs.len() as u32;
        world.processes.extend(pids.clone().zip(programs).map(|(pid, it)| process(pid, 1, it)));
        let (mut packages, mut strings) = (Packages::new(), strings());
        let expected: Vec<_> = pids.filter(|_| are_known).map(|pid| (pid, pid)).collect();
        let found = managers_on(magic, &mut packages, &mut strings, &world);
        assert_eq!(found, expected, "{programs:?} {magic:x}");
    }
    let world = World::default()
        .with(process(101, 1, "home/bin/dnf5"))
        .with(process(102, 1, "tmp/snapd/1/usr/lib/snapd/snapd"))
        .with(process(103, 1, "usr/bin/packagekitd"))
        .with(FakeProcess { uid: 1000, ..process(104, 1, "usr/bin/pacman") })
        .with(process(105, 1, "usr/bin/dnf5").in_container("4f1c0de5a7b3"));
    let (mut packages, mut strings) = (Packages::new(), strings());
    assert_eq!(managers(&mut packages, &mut strings, &world), []);
}

/// Arguments alone prove nothing, nor does the library.
#[test]
fn a_script_is_one_if_its_python_has_mapped_librpm() {
    const DNF: &str = "/usr/bin/python3\0/usr/bin/dnf\0upgrade\0";
    const LIBRPM: &str = "usr/lib64/librpm.so.10.2.0";
    let written = |mut process: FakeProcess| {
        process.areas[0].flags = VM_READ;
        process
    };
    let world = World::default()
        .with(python(101, DNF, LIBRPM))
        .with(python(102, DNF, "usr/lib64/librpmio.so.10.2.0"))
        .with(python(103, DNF, "tmp/librpm.so.10"))
        .with(python(104, "/usr/bin/python3\0/usr/bin/x\0/usr/bin/dnf\0", LIBRPM))
        .with(python(105, "python3\0-c\0pass\0/usr/bin/dnf\0", LIBRPM))
        .with(FakeProcess { uid: 1000, ..python(106, DNF, LIBRPM) })
        .with(written(python(107, DNF, LIBRPM)))
        .with(FakeProcess { in_exec: true, ..python(108, DNF, LIBRPM) })
        .with(FakeProcess {
            executable: process(109, 1, "tmp/python3.12").executable,
            ..python(109, DNF, LIBRPM)
        })
        .with(process(110, 101, "usr/bin/install"));
    let (mut packages, mut strings) = (Packages::new(), strings());
    let found = managers(&mut packages, &mut strings, &world);
    assert_eq!(found, [(101, 101), (110, 101)]);
}

/// A service may run for months, and a program waits for an answer.
#[test]
fn what_changes_belongs_to_a_service_only_around_its_writes() {
    const SECOND: i64 = 1_000_000_000;
    let mut packages = Packages::new();
    let world = World::default().with(process(101, 1, "usr/lib/snapd/snapd"));
    managers(&mut packages, &mut strings(), &world);
    let key = packages.managers[0].key;
    let began = BOOT_NS + key.start_boottime as i64;
    let machine = Machine { boot_to_real_ns: Some(BOOT_NS), ..Machine::default() };
    let is_at = |packages: &Packages, seconds: i64, is_roots| {
        packages.manager_at(began + seconds * SECOND, is_roots, &machine) == Some(key)
    };
    assert!((0..200).all(|at| !is_at(&packages, at, true)));
    for at in [100, 104, 102] {
        let before = packages.managers[0].note_write(began + at * SECOND, Monotonic::default());
        assert!(before.is_none());
    }
    let seconds = |packages: &Packages| -> Vec<i64> {
        (0..200).filter(|at| is_at(packages, *at, true)).collect()
    };
    assert_eq!(seconds(&packages), (95..=109).collect::<Vec<_>>());
    assert!((0..200).all(|at| !is_at(&packages, at, false)), "a user's file");
    let before = packages.managers[0].note_write(began + 150 * SECOND, Monotonic::default());
    let before = before.map(|it| [it.began_ns, it.ended_ns].map(|at| (at - began) / SECOND));
    assert_eq!(before, Some([95, 109]));
    // Changes from before the pause may still wait.
    assert_eq!(seconds(&packages), (95..=109).chain(145..=155).collect::<Vec<_>>());
    packages.managers[0].note_write(began + 180 * SECOND, Monotonic::default());
    assert_eq!(seconds(&packages), (145..=155).chain(175..=185).collect::<Vec<_>>());
    // It ends.
    let calendar_ns = Some(began + 181 * SECOND);
    packages.note_end(key, Now::at(5), &Machine { calendar_ns, ..Machine::default() });
    assert_eq!(seconds(&packages), (145..=155).chain(175..=181).collect::<Vec<_>>());
}

/// A user may ask a service to do something, and change files of his own then.
#[test]
fn past_times_of_services_explain_files_of_root_only() {
    let mut packages = Packages::new();
    let past =
        |began_ns, ended_ns, is_all_along| InstallPeriod { began_ns, ended_ns, is_all_along };
    note_past(&mut packages.past, past(100, 110, false));
    assert_eq!([true, false].map(|is_roots| packages.ran_before(105, is_roots)), [true, false]);
    // dpkg runs at the same time.
    note_past(&mut packages.past, past(104, 107, true));
    assert_eq!(
        [103, 104, 107, 108].map(|at| packages.ran_before(at, false)),
        [false, true, true, false]
    );
    note_past(&mut packages.past, past(120, 130, false));
    assert!(packages.ran_before(115, true) && !packages.ran_before(115, false));
}

/// Any user may let packagekitd refresh its caches.
#[test]
fn only_files_that_matter_show_that_a_service_installs_something() {
    let inode = InodeFacts { mode: 0o100_644, ..InodeFacts::default() };
    let of = |name| DescriptorFacts { name, inode: Some(inode), ..DescriptorFacts::default() };
    for (path, is_shown) in [
        ("/usr/bin/hello;68f1c0de", true),
        ("/etc/systemd/system/snap-hello-42.mount.Ab12Cd34~", true),
        ("/usr/share/doc/hello/README", false),
        ("/var/cache/PackageKit/40/metadata/primary.xml", false),
        ("/var/lib/PackageKit/transactions.db", false),
        ("/var/log/dnf.log", false),
        ("/var/lib/snapd/state.json.Ab12Cd34~", false),
        ("/usr/lib/sysimage/rpm/rpmdb.sqlite-shm", false),
        ("/lib/apk/db/lock", false),
    ] {
        let descriptor = of(Some(FileName::Text(path.as_bytes())));
        let service = windows("usr/libexec/packagekitd", &descriptor);
        assert_eq!(service, (is_shown, is_shown), "{path}");
        // Root alone starts it, and small files are written too fast for any scan.
        assert_eq!(windows("usr/bin/dnf5", &descriptor), (true, true), "{path}");
    }
    assert_eq!(windows("usr/libexec/packagekitd", &of(None)), (false, false));
}

/// Whether a program that has this file open, and again a minute later, is seen to install
/// something, and whether the first time is remembered.
fn windows(program: &str, descriptor: &DescriptorFacts<'_>) -> (bool, bool) {
    let (limits, mut packages, mut strings) = (limits(), Packages::new(), strings());
    let world = World::default().with(process(101, 1, program));
    let snapshots = [0, 60].map(|seconds| {
        let mut snapshot = Snapshot::empty(&limits);
        world.show(&mut snapshot);
        snapshot.machine.calendar_ns = Some(BOOT_NS + seconds * 1_000_000_000);
        snapshot
    });
    let mut state = MachineState::new(&limits, StateSettings::default(), HashKey::new(7));
    let mut before = Snapshot::empty(&limits);
    World::default().show(&mut before);
    let no_change = &mut |_: &ScanContext<'_>, _: &Change<'_>| {};
    state.update(&before, Now::at(1_795_159_906_905_224_659), no_change);
    let on_change = &mut |cx: &ScanContext<'_>, change: &Change<'_>| {
        let Change::ProcessCreated(process) = change else { return };
        for snapshot in &snapshots {
            let writer = (*process, descriptor);
            let found = packages.manager_of_writer(snapshot, writer, cx.now, &mut strings);
            assert!(found.is_some());
        }
    };
    state.update(&snapshots[0], Now::at(1_795_159_906_915_224_659), on_change);
    let is_open = packages.managers[0].writes[0].is_some();
    (is_open, packages.past.iter().count() > 0)
}

/// systemd's ldconfig.service runs at the first start after an update.
#[test]
fn ldconfig_is_one_only_while_process_1_starts_the_machine() {
    let late = FakeProcess { start: START_NS, ..process(104, 1, "usr/sbin/ldconfig") };
    let world = World::default()
        .with(process(101, 1, "usr/sbin/ldconfig"))
        .with(process(102, 1, "bin/sh"))
        .with(process(103, 102, "usr/sbin/ldconfig"))
        .with(late)
        .with(process(105, 1, "tmp/ldconfig"))
        .with(FakeProcess { uid: 1000, ..process(106, 1, "sbin/ldconfig") });
    let (mut packages, mut strings) = (Packages::new(), strings());
    assert_eq!(managers(&mut packages, &mut strings, &world), [(101, 101)]);
}

/// The content of one file, once it is known.
struct Contents(Option<[u8; 32]>);

impl ContentSource for Contents {
    fn ask(&mut self, _: &FileIdentity, _: Asker) -> Option<ContentFacts> {
        let hashes = Hashes { sha256: self.0?, sha1: [0; 20], md5: [0; 16] };
        let outcome = HashOutcome::Whole { hashes };
        Some(ContentFacts { outcome, format: ContentFormat::Other, traits: Traits::default() })
    }
}

#[test]
fn a_package_manager_is_trusted_by_its_content_or_by_its_owner() {
    let mut packages = Packages::new();
    let world = World::default().with(process(101, 1, "usr/bin/dpkg"));
    managers(&mut packages, &mut strings(), &world);
    let key = packages.managers[0].key;
    let nothing = ShippedFiles::default();
    let unknown = ProcessKey { process_id: 102, ..key };
    assert_eq!(packages.is_trusted(unknown, &nothing, &mut Contents(None)), Some(false));
    for is_roots in [true, false] {
        packages.managers[0].is_roots = is_roots;
        assert_eq!(packages.is_trusted(key, &nothing, &mut Contents(None)), Some(is_roots));
    }
    let mut builder = ShippedBuilder::new();
    let system = builder.subject(&ShippedSubject::System).unwrap();
    let file = ShippedFile { sha256: Some([7; 32]), ..ShippedFile::default() };
    builder.add(system, &file).unwrap();
    let shipped = builder.build();
    packages.managers[0].is_roots = true;
    assert_eq!(packages.is_trusted(key, &shipped, &mut Contents(None)), None);
    assert_eq!(packages.is_trusted(key, &shipped, &mut Contents(Some([8; 32]))), Some(false));
    packages.managers[0].is_approved = None;
    assert_eq!(packages.is_trusted(key, &shipped, &mut Contents(Some([7; 32]))), Some(true));
    assert_eq!(packages.managers[0].hashes.map(|hashes| hashes.sha256), Some([7; 32]));
}

#[test]
fn a_package_manager_is_described_as_far_as_it_was_known() {
    let (mut packages, mut strings) = (Packages::new(), strings());
    let world = World::default().with(process(101, 1, "usr/bin/dpkg"));
    managers(&mut packages, &mut strings, &world);
    let manager = &mut packages.managers[0];
    let facts = manager.facts(&strings);
    assert_eq!((facts.self_exec_id, facts.executable), (Some(11), Some(&b"/usr/bin/dpkg"[..])));
    assert_eq!((facts.directory, facts.executable_hashes), (Some(&b"/"[..]), None));
    assert!(facts.executable_size.is_some());
    let hashes = Hashes { sha256: [7; 32], sha1: [0; 20], md5: [0; 16] };
    manager.hashes = Some(hashes);
    assert_eq!(manager.facts(&strings).executable_hashes, Some(hashes));
}

#[test]
fn what_changes_while_a_package_manager_runs_is_its_work() {
    let mut packages = Packages::new();
    let world = World::default().with(process(101, 1, "usr/bin/dpkg"));
    managers(&mut packages, &mut strings(), &world);
    let key = packages.managers[0].key;
    let began = BOOT_NS + key.start_boottime as i64;
    let mut machine = Machine { boot_to_real_ns: Some(BOOT_NS), ..Machine::default() };
    let manager_at =
        |packages: &Packages, at, machine: &Machine| packages.manager_at(at, false, machine);
    assert_eq!(manager_at(&packages, began - 1, &machine), None);
    assert_eq!(manager_at(&packages, began + 5_000_000_000, &machine), Some(key));
    machine.calendar_ns = Some(began + 1_000_000_000);
    packages.note_end(key, Now::at(5), &machine);
    // A later scan does not show it, either.
    let later = Machine { calendar_ns: Some(began + 9_000_000_000), ..machine };
    packages.note_end(key, Now::at(9), &later);
    assert_eq!(manager_at(&packages, began + 1_000_000_000, &later), Some(key));
    assert_eq!(manager_at(&packages, began + 1_000_000_001, &later), None);
    assert_eq!(manager_at(&packages, began, &Machine::default()), None);
}
