//! Programs that begin to run, and what they give.

use std::sync::Arc;

use panoptes_decoders::kernel::inode::Attributes;

use super::super::super::packages::Packages;
use super::permissions::{accesses, changed, one};
use super::*;
use crate::container_config::Glob;
use crate::state::tests::watch::limits;
use crate::state::tests::world::{FakeFile, FakeProcess, World};
use crate::state::{Change, MachineState, ScanContext, StateSettings};
use crate::walk::Index;

/// A process runs a set-uid program of this owner, whose mode was set then; returns whether that
/// found no room.
fn runs(machine: &mut Machine, path: &str, dentry: u64, (uid, change): (u32, i64)) -> bool {
    let inode = machine.inode_of(dentry);
    machine.memory.set(inode, "inode", "i_uid.val", uid.into());
    machine.chmod(inode, 0o4755);
    machine.set_change_time(inode, change);
    begins(machine, path, dentry, 0)
}

/// A process begins a program, which has given it capabilities, or is set-uid; returns whether that
/// found no room.
fn begins(machine: &mut Machine, path: &str, dentry: u64, capabilities: u64) -> bool {
    let inode = machine.inode_of(dentry);
    let mut value = |field| machine.memory.get(Sparse::field(inode, "inode", field));
    let attributes = Attributes {
        ino: value("i_ino"),
        uid: value("i_uid.val") as u32,
        mode: value("i_mode") as u16,
        size: value("i_size"),
        ctime_ns: value("i_ctime_sec").cast_signed() * SECOND_NS,
        mtime_ns: value("i_mtime_sec").cast_signed() * SECOND_NS,
        super_block: KernelVa(machine::SUPER_BLOCK),
        ..Attributes::default()
    };
    let rules = Arc::clone(&machine.files.rules);
    machine.files.paths.take_program(
        (path.as_bytes(), KernelVa(machine.mount), KernelVa(dentry)),
        (KernelVa(inode), &attributes, capabilities),
        (&machine.snapshot, machine.now),
        (&rules, &ShippedFiles::default()),
        &mut machine.files.strings,
    )
}

/// Each of two users has a part of the room, and root the rest.
#[test]
fn set_uid_programs_of_one_user_leave_room_for_those_of_others() {
    let (mut machine, ..) = swept();
    let root = machine.root;
    let tmp = machine.folder(root, "tmp");
    let crowd = |machine: &mut Machine, uid: u32, count: usize| -> usize {
        let dropped = (0..count).filter(|at| {
            let name = machine.dentry(tmp, &format!("u{uid}-{at}"), mode::S_IFREG, 4);
            let inode = machine.inode_of(name);
            let seconds = machine.seconds();
            machine.chmod(inode, 0o4755);
            runs(machine, &format!("/tmp/u{uid}-{at}"), name, (uid, seconds))
        });
        dropped.count()
    };
    let own = PENDING_OF_USER_MAX;
    assert_eq!(crowd(&mut machine, 1000, PENDING_MAX + 40), PENDING_MAX + 40 - own);
    // She has a block of further ids.
    let of_block: usize = (0..200).map(|at| crowd(&mut machine, 200_000 + at, 1)).sum();
    assert_eq!(of_block, 200 - own);
    assert_eq!(crowd(&mut machine, 1001, own), 0);
    assert_eq!(crowd(&mut machine, 0, 100), 0);
    let found = changed(&mut machine);
    let of =
        |uid: u32| found.iter().filter(|it| it.0.starts_with(&format!("/tmp/u{uid}-"))).count();
    assert_eq!((of(1000), of(1001), of(0)), (own, own, 100));
    assert_eq!(found.len(), 3 * own + 100);
}

/// No sweep comes to `/tmp`. A process runs a program there.
#[test]
fn a_set_uid_program_that_runs_is_found_in_any_folder() {
    let (mut machine, _, tail) = swept();
    let root = machine.root;
    let tmp = machine.folder(root, "tmp");
    let shell = machine.dentry(tmp, ".x", mode::S_IFREG, 4);
    let inode = machine.inode_of(shell);
    let runs = |machine: &mut Machine, path: &str, dentry: u64, change: i64| {
        assert!(!runs(machine, path, dentry, (0, change)));
    };
    // It was so before watching started.
    runs(&mut machine, "/tmp/.x", shell, START - 500);
    assert_eq!(changed(&mut machine), []);
    let seconds = machine.seconds();
    machine.chmod(inode, 0o4755);
    for _ in 0..3 {
        runs(&mut machine, "/tmp/.x", shell, seconds);
    }
    assert_eq!(changed(&mut machine), one("/tmp/.x", None, 0o4755, GrantedAccess::SetUid));
    runs(&mut machine, "/tmp/.x", shell, seconds);
    assert_eq!(changed(&mut machine), []);
    // A sweep finds what is in other folders.
    runs(&mut machine, "/usr/bin/tail", tail, seconds);
    assert!(!machine.files.paths.has_pending());
}

/// A container has set-uid programs of its own.
#[test]
fn the_program_of_a_process_outside_of_containers_is_looked_at() {
    let process = || {
        let executable = FakeFile::regular(0xffff_8881_0000_7700, 77, "tmp/.x");
        FakeProcess { executable: Some(executable), ..FakeProcess::new(100) }
    };
    for (process, permissions, is_looked_at) in [
        (process(), 0o4755, true),
        (process(), 0o2755, true),
        (process(), 0o755, false),
        (process().in_container("4f1c0de5a7b3"), 0o4755, false),
        (FakeProcess { mount_namespace: 9, ..process() }, 0o4755, false),
    ] {
        let (mut machine, ..) = swept();
        let limits = limits();
        let mut snapshot = Snapshot::empty(&limits);
        let mut state = MachineState::new(&limits, StateSettings::default(), HashKey::new(7));
        World::default().show(&mut snapshot);
        state.update(&snapshot, machine.now, &mut |_: &ScanContext<'_>, _: &Change<'_>| {});
        World::default().with(process).show(&mut snapshot);
        snapshot.machine.calendar_ns = Some(machine.calendar_ns);
        let inodes = &mut snapshot.inodes;
        let inode = inodes.iter().position(|row| row.attributes.ino == 77).unwrap();
        let attributes = &mut inodes[Index::new(inode).unwrap()].attributes;
        attributes.mode = mode::S_IFREG | permissions;
        attributes.ctime_ns = machine.calendar_ns;
        let files = &mut machine.files;
        let on_change = &mut |cx: &ScanContext<'_>, change: &Change<'_>| {
            if let Change::ProcessCreated(process) = change {
                files.look_at_program(cx, process);
            }
        };
        state.update(&snapshot, machine.now.after(SCAN_NS), on_change);
        assert_eq!(machine.files.paths.has_pending(), is_looked_at, "{permissions:o}");
    }
}

const SETUID: u64 = 1 << 7;
const NET_RAW: u64 = 1 << 13;
const SYS_ADMIN: u64 = 1 << 21;

/// A swept machine with a program at this path that was changed now.
fn with_program(folders: &[&str], path: &str) -> (Machine, u64) {
    let (mut machine, ..) = swept();
    let root = machine.root;
    let folder = folders.iter().fold(root, |folder, name| machine.folder(folder, name));
    let name = path.rsplit('/').next().unwrap();
    let program = machine.dentry(folder, name, mode::S_IFREG, 4);
    assert_eq!(changed(&mut machine), []);
    let inode = machine.inode_of(program);
    machine.set_change_time(inode, machine.seconds());
    (machine, program)
}

#[test]
fn capabilities_of_a_program_are_found_once() {
    for (folders, path) in
        [(&["tmp"][..], "/tmp/x"), (&["opt", "app"], "/opt/app/x"), (&["etc"], "/etc/x")]
    {
        let (mut machine, program) = with_program(folders, path);
        for capabilities in [SETUID, SETUID, NET_RAW] {
            assert!(!begins(&mut machine, path, program, capabilities));
        }
        let both = GrantedAccess::Capabilities(SETUID | NET_RAW);
        assert_eq!(changed(&mut machine), one(path, None, 0o755, both));
        for _ in 0..3 {
            assert!(!begins(&mut machine, path, program, SETUID));
            assert_eq!(changed(&mut machine), []);
        }
    }
}

#[test]
fn a_program_that_has_got_further_capabilities_is_found_again() {
    let (mut machine, program) = with_program(&["tmp"], "/tmp/x");
    let inode = machine.inode_of(program);
    assert!(!begins(&mut machine, "/tmp/x", program, SETUID | NET_RAW));
    assert_eq!(changed(&mut machine).len(), 1);
    // `chmod`, `restorecon`, a rename: the capabilities stay.
    machine.chmod(inode, 0o750);
    assert!(!begins(&mut machine, "/tmp/x", program, SETUID));
    assert_eq!(changed(&mut machine), []);
    // `setcap` with others.
    let others = GrantedAccess::Capabilities(SETUID | SYS_ADMIN);
    assert!(!begins(&mut machine, "/tmp/x", program, SETUID | SYS_ADMIN));
    assert_eq!(changed(&mut machine), one("/tmp/x", None, 0o750, others));
    // `chown` and writes take capabilities away: a program that has them again has got them.
    machine.memory.set(inode, "inode", "i_uid.val", 1000);
    machine.set_change_time(inode, machine.seconds());
    let own = one("/tmp/x", None, 0o750, GrantedAccess::Capabilities(SETUID));
    assert!(!begins(&mut machine, "/tmp/x", program, SETUID));
    assert_eq!(changed(&mut machine), own);
    machine.set_content(inode, 5, machine.seconds());
    assert!(!begins(&mut machine, "/tmp/x", program, SETUID));
    assert_eq!(changed(&mut machine), own);
}

/// `cp`, `setcap`, and a user runs it at once.
#[test]
fn a_new_program_with_capabilities_is_a_change_of_its_own() {
    let (mut machine, bin, _) = swept();
    let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
    let name = machine.name(bin, "new", inode);
    while !machine.files.paths.has_pending() {
        assert_eq!(machine.run(10), []);
    }
    assert!(!begins(&mut machine, "/usr/bin/new", name, SETUID));
    assert_eq!(machine.run(3000), found("/usr/bin/new", None, 6));
    let expected = one("/usr/bin/new", None, 0o755, GrantedAccess::Capabilities(SETUID));
    assert_eq!(accesses(&mut machine), expected);
    assert_eq!(changed(&mut machine), []);
    assert!(!machine.files.paths.has_pending());
}

/// `dpkg` unpacks a program and sets its capabilities. A user runs it then, or much later.
#[test]
fn capabilities_that_a_package_manager_sets_are_no_change() {
    let (mut machine, program) = with_program(&["tmp"], "/tmp/x");
    machine.files.packages.add_of_root();
    assert!(!begins(&mut machine, "/tmp/x", program, SETUID));
    assert_eq!(changed(&mut machine), []);
    assert!(!machine.files.paths.has_pending());
    machine.files.packages = Packages::new();
    assert!(!begins(&mut machine, "/tmp/x", program, SETUID));
    assert_eq!(changed(&mut machine), []);
    let inode = machine.inode_of(program);
    machine.chmod(inode, 0o750);
    assert!(!begins(&mut machine, "/tmp/x", program, SETUID));
    assert_eq!(changed(&mut machine), []);
}

#[test]
fn capabilities_from_before_watching_and_of_excluded_programs_are_no_change() {
    let (mut machine, program) = with_program(&["tmp"], "/tmp/x");
    let inode = machine.inode_of(program);
    machine.set_change_time(inode, START - 500);
    assert!(!begins(&mut machine, "/tmp/x", program, SETUID));
    machine.set_change_time(inode, machine.seconds());
    let exclude = vec![Glob::new("/tmp/x")];
    machine.files.rules = ContentRules { exclude, ..ContentRules::default() }.into();
    assert!(!begins(&mut machine, "/tmp/x", program, SETUID));
    assert_eq!(changed(&mut machine), []);
}

/// squashfs, erofs, iso9660, cramfs and romfs.
const IMAGES: [u64; 5] = [0x7371_7368, 0xe0f5_e1e2, 0x9660, 0x28cd_3d45, 0x7275];
const EXT4: u64 = 0xef53;

/// A snap is mounted whose image was built while the machine was watched. Nobody can change a file
/// there.
#[test]
fn programs_of_read_only_images_are_no_change() {
    for (magics, is_found) in [(&IMAGES[..], false), (&[EXT4], true)] {
        for (&magic, capabilities) in magics.iter().flat_map(|it| [(it, 0), (it, SETUID)]) {
            let (mut machine, program) = with_program(&["tmp"], "/tmp/x");
            machine.memory.set(machine::SUPER_BLOCK, "super_block", "s_magic", magic);
            let inode = machine.inode_of(program);
            if capabilities == 0 {
                machine.chmod(inode, 0o4755);
            }
            assert!(!begins(&mut machine, "/tmp/x", program, capabilities));
            assert_eq!(changed(&mut machine).len(), usize::from(is_found), "{magic:x}");
            // It does not wait again each time that it runs.
            assert!(!begins(&mut machine, "/tmp/x", program, capabilities));
            assert!(!machine.files.paths.has_pending(), "{magic:x}");
        }
    }
}

/// An image is mounted over a folder that is swept: its names are new contents, and no changes of
/// permissions.
#[test]
fn a_new_name_of_a_read_only_image_is_a_content_alone() {
    let (mut machine, bin, _) = swept();
    machine.memory.set(machine::SUPER_BLOCK, "super_block", "s_magic", IMAGES[0]);
    let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
    let name = machine.name(bin, "new", inode);
    while !machine.files.paths.has_pending() {
        assert_eq!(machine.run(10), []);
    }
    assert!(!begins(&mut machine, "/usr/bin/new", name, SETUID));
    assert_eq!(machine.run(3000), found("/usr/bin/new", None, 6));
    assert_eq!(accesses(&mut machine), []);
    // One that was written before watching started gets its name by the mount.
    let old = machine.inode(mode::S_IFREG, 6, START - 500);
    machine.chmod(old, 0o4755);
    machine.name(bin, "old", old);
    machine.files.paths.set_recorded(RecordedChanges { closings: true, paths: false });
    for _ in 0..2 {
        assert_eq!(changed(&mut machine), []);
        assert!(!machine.files.paths.has_pending());
    }
}
