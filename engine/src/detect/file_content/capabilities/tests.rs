//! Processes with capabilities, and where these come from.

use core::ops::Range;

use panoptes_decoders::kernel::inode::mode;

use super::super::paths::tests::{Machine, START};
use super::*;
use crate::detect::{Acceptance, Finding};
use crate::page_cache::MachineMemory;
use crate::state::tests::watch::limits;
use crate::state::tests::world::{FakeFile, FakeProcess, World};
use crate::state::{Change, MachineState, ScanContext, StateSettings};
use crate::walk::{CapabilitySet, UserGroupIds};
use panoptes_tables::HashKey;

const PARENT: u32 = 100;
const SYS_ADMIN: u64 = 1 << 21;

/// A user's shell and a program that it has begun, or what is like that.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "a test turns each by itself")]
struct Case {
    parent: (u32, CapabilitySet),
    child: (u32, CapabilitySet),
    path: &'static str,
    permissions: u16,
    /// When the program's inode was changed, in seconds after the start of watching.
    changed: i64,
    is_same_program: bool,
    is_in_container: bool,
    is_in_user_namespace: bool,
    has_other_mounts: bool,
}

fn set(permitted: u64, ambient: u64) -> CapabilitySet {
    CapabilitySet { permitted, ambient }
}

/// A user runs a copy of an interpreter with `cap_setuid+ep`.
fn usual() -> Case {
    Case {
        parent: (1000, set(0, 0)),
        child: (1000, set(SETUID, 0)),
        path: "usr/local/bin/copy",
        permissions: 0o755,
        changed: 1,
        is_same_program: false,
        is_in_container: false,
        is_in_user_namespace: false,
        has_other_mounts: false,
    }
}

impl Case {
    /// Whether a change of the program waits to be reported.
    fn is_found(&self) -> bool {
        self.after_scan(1).files.paths.has_pending()
    }

    /// A machine after a scan that shows the parent and so many new children.
    fn after_scan(&self, children: u32) -> Machine {
        let mut machine = Machine::new();
        assert_eq!(machine.run(2000), []);
        self.scan(&mut machine, children);
        machine
    }

    /// A scan that shows the parent and so many new children.
    fn scan(&self, machine: &mut Machine, children: u32) {
        let file = |number: u64, path: &str| {
            Some(FakeFile::regular(0xffff_8881_0000_7000 + 256 * number, number, path))
        };
        let program = if self.is_same_program { 78 } else { 77 };
        let parent = FakeProcess {
            uid: self.parent.0,
            executable: file(78, if self.is_same_program { self.path } else { "bin/sh" }),
            ..FakeProcess::new(PARENT)
        };
        let mount_namespace = if self.has_other_mounts { 9 } else { parent.mount_namespace };
        let child = |process_id: u32| {
            let child = FakeProcess {
                uid: self.child.0,
                parent: PARENT,
                exec_id: parent.exec_id + 1,
                mount_namespace,
                executable: file(program, self.path),
                ..FakeProcess::new(process_id)
            };
            if self.is_in_container { child.in_container("4f1c0de5a7b3") } else { child }
        };
        let limits = limits();
        let snapshot = &mut Snapshot::empty(&limits);
        let mut state = MachineState::new(&limits, StateSettings::default(), HashKey::new(7));
        let before = World::default().with(parent.clone());
        before.show(snapshot);
        state.update(snapshot, machine.now, &mut |_: &ScanContext<'_>, _: &Change<'_>| {});
        let all = PARENT + 1..PARENT + 1 + children;
        all.clone().map(child).fold(before, World::with).show(snapshot);
        snapshot.machine.calendar_ns = Some(machine.calendar_ns);
        self.set_rows(snapshot, program, all);
        let files = &mut machine.files;
        let on_change = &mut |cx: &ScanContext<'_>, change: &Change<'_>| {
            if let Change::ProcessCreated(process) = change {
                files.note_capabilities(cx.snapshot, process);
            }
        };
        state.update(snapshot, machine.now.after(10_000_000), on_change);
        let cx = state.scan_context(snapshot, machine.now);
        let out = &mut |_: &ScanContext<'_>, finding: &Finding<'_>| -> Acceptance {
            panic!("{finding:?}");
        };
        let memory = MachineMemory { source: &mut machine.memory, kernel: &machine.kernel };
        machine.files.look_at_capabilities(&mut DetectorContext { memory, cx: &cx, out });
    }

    /// Sets what the rows of a scan have of users, capabilities and the program.
    fn set_rows(&self, snapshot: &mut Snapshot, program: u64, children: Range<u32>) {
        let own = children.map(|process_id| (process_id, self.child));
        for (process_id, (uid, capabilities)) in own.chain([(PARENT, self.parent)]) {
            let index = snapshot.index_by_pid(process_id).unwrap();
            let ids = UserGroupIds { uid, gid: uid, euid: uid, egid: uid };
            snapshot.processes[index].ids = Some(ids);
            let is_known = uid != 0 && (process_id == PARENT || !self.is_in_user_namespace);
            let mm = snapshot.processes[index].mm.unwrap();
            if is_known {
                snapshot.mms[mm].capabilities = snapshot.capability_sets.id_of(capabilities);
            }
        }
        let inodes = &mut snapshot.inodes;
        let at = inodes.iter().position(|row| row.attributes.ino == program).unwrap();
        let attributes = &mut inodes[Index::new(at).unwrap()].attributes;
        attributes.mode = mode::S_IFREG | self.permissions;
        attributes.ctime_ns = (START + self.changed) * 1_000_000_000;
    }
}

#[test]
fn a_program_that_gives_a_user_capabilities_is_found() {
    let usual = usual();
    assert!(usual.is_found());
    for path in ["usr/bin/python3.11", "tmp/x", "usr/local/bin/ping", "home/eve/ping"] {
        assert!(Case { path, ..usual.clone() }.is_found(), "{path}");
    }
    // More than its package gives it.
    let (child, path) = ((1000, set(NET_RAW | SETUID, 0)), "usr/bin/ping");
    assert!(Case { child, path, ..usual.clone() }.is_found());
    // Some of them are ambient, or the parent has others.
    let (parent, child) = ((1000, set(NET_RAW, NET_RAW)), (1000, set(NET_RAW | SETUID, NET_RAW)));
    assert!(Case { parent, child, ..usual.clone() }.is_found());
    let parent = (1000, set(NET_RAW, 0));
    assert!(Case { parent, ..usual.clone() }.is_found());
    // A set-gid file that its group may not execute is one with mandatory locks.
    assert!(Case { permissions: 0o2705, ..usual }.is_found());
}

#[test]
fn capabilities_that_no_program_gives_are_no_finding() {
    let usual = usual();
    let (root, all) = ((0, set(0, 0)), (33, set(SETUID | NET_RAW, 0)));
    for (what, case) in [
        ("a user without any", Case { child: (1000, set(0, 0)), ..usual.clone() }),
        // `setpriv --ambient-caps`, or `AmbientCapabilities=` of a service.
        (
            "ambient ones",
            Case { parent: root, child: (1000, set(NET_RAW, NET_RAW)), ..usual.clone() },
        ),
        // `PR_SET_KEEPCAPS`: chronyd, ntpd, nginx.
        ("a daemon that was root", Case { parent: root, child: all, ..usual.clone() }),
        // `doas chronyd -n`
        ("a daemon that a user has started as root", Case { child: all, ..usual.clone() }),
        ("a fork of such a daemon", Case { parent: all, child: all, ..usual.clone() }),
        (
            "a fork whose parent has given them up",
            Case { parent: (33, set(0, 0)), child: all, is_same_program: true, ..usual.clone() },
        ),
        // It has cleared those that are ambient.
        ("those of the parent", Case { parent: (1000, set(SETUID, SETUID)), ..usual.clone() }),
        ("root", Case { child: (0, set(u64::MAX, 0)), ..usual.clone() }),
        ("a set-uid program", Case { permissions: 0o4755, ..usual.clone() }),
        ("a set-gid program", Case { permissions: 0o2755, ..usual.clone() }),
        ("what was so before watching", Case { changed: -5, ..usual.clone() }),
        ("a container", Case { is_in_container: true, ..usual.clone() }),
        ("a user namespace", Case { is_in_user_namespace: true, ..usual.clone() }),
        ("other mounts", Case { has_other_mounts: true, ..usual.clone() }),
        (
            "a packaged program",
            Case { path: "usr/bin/ping", child: (1000, set(NET_RAW, 0)), ..usual },
        ),
    ] {
        assert!(!case.is_found(), "{what}");
    }
}

/// `chmod`, `restorecon` or a rename sets the change time of a program that has capabilities.
#[test]
fn a_program_that_has_given_its_capabilities_before_gets_none_by_a_change_of_its_inode() {
    let (old, now) = (Case { changed: -5, ..usual() }, usual());
    let mut machine = old.after_scan(1);
    assert!(!machine.files.paths.has_pending());
    now.scan(&mut machine, 1);
    assert!(!machine.files.paths.has_pending());
    let more = Case { child: (1000, set(SETUID | SYS_ADMIN, 0)), ..now.clone() };
    more.scan(&mut machine, 1);
    assert!(machine.files.paths.has_pending(), "it has got more");
    // A daemon that has kept its capabilities had none from its program.
    let daemon = Case { parent: (0, set(0, 0)), ..old.clone() };
    let mut machine = daemon.after_scan(1);
    now.scan(&mut machine, 1);
    assert!(machine.files.paths.has_pending(), "its program has none");
}

#[test]
fn a_program_of_a_distribution_that_is_renamed_has_had_its_capabilities() {
    let (child, path) = ((1000, set(NET_RAW, 0)), "usr/bin/ping");
    let shipped = Case { child, path, ..usual() };
    let mut machine = shipped.after_scan(1);
    Case { path: "usr/bin/ping.orig", changed: 2, ..shipped }.scan(&mut machine, 1);
    assert!(!machine.files.paths.has_pending());
}

/// What a script of the start sets counts later, if the program runs again.
#[test]
fn capabilities_that_are_set_while_a_machine_starts_are_found_later() {
    let mut machine = Machine::new();
    assert_eq!(machine.run(2000), []);
    for is_starting in [true, false] {
        machine.files.paths.set_starting(is_starting);
        usual().scan(&mut machine, 1);
        assert_eq!(machine.files.paths.has_pending(), !is_starting);
    }
}

/// Programs that are no change take no room from those that are.
#[test]
fn many_programs_of_before_watching_leave_room_for_new_ones() {
    let old = Case { changed: -5, parent: (0, set(0, 0)), ..usual() };
    let mut machine = old.after_scan(3 * LOOKED_MAX as u32);
    assert_eq!(machine.files.lost.missed(), 0);
    usual().scan(&mut machine, 1);
    assert!(machine.files.paths.has_pending());
}

#[test]
fn programs_beyond_the_room_are_a_gap() {
    for (children, expected) in [(LOOKED_MAX, 0), (LOOKED_MAX + 5, 5)] {
        let machine = usual().after_scan(children as u32);
        assert!(machine.files.paths.has_pending());
        assert_eq!(machine.files.lost.missed(), expected);
    }
}

#[test]
fn programs_of_distributions_have_their_own_capabilities_only() {
    for (path, capabilities, expected) in [
        ("/usr/bin/ping", NET_RAW, true),
        ("/bin/ping", NET_RAW | NET_ADMIN, true),
        ("/usr/bin/ping", NET_RAW | SYS_ADMIN, false),
        ("/usr/lib/x86_64-linux-gnu/gstreamer1.0/gstreamer-1.0/gst-ptp-helper", SYS_NICE, true),
        ("/usr/local/bin/ping", NET_RAW, false),
        ("/tmp/ping", NET_RAW, false),
        ("/usr/bin/python3", NET_RAW, false),
        ("", NET_RAW, false),
    ] {
        assert_eq!(is_shipped(path.as_bytes(), capabilities), expected, "{path}");
    }
}

/// A stack as exec leaves it, with so many pointers before the vector.
fn stack(pointers: u64, [uid, euid, secure]: [u64; 3]) -> Vec<u8> {
    let mut words = vec![1, 0x7ffc_0000_1000, 0];
    words.extend((0..pointers).map(|at| 0x7ffc_0000_2000 + at));
    words.push(0);
    for (key, value) in [
        (33, 0x7ffc_0000_9000),
        (9, 0x5555_0000_1000),
        (AT_UID, uid),
        (AT_EUID, euid),
        (AT_GID, 1000),
        (AT_EGID, 1000),
        (AT_SECURE, secure),
        (25, 0x7ffc_0000_1fff),
        (0, 0),
    ] {
        words.extend([key, value]);
    }
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

#[test]
fn the_auxiliary_vector_tells_who_began_a_program() {
    for (values, is_gain) in [
        ([1000, 1000, 1], true),
        ([1000, 1000, 0], false),
        // A daemon that was root, and a set-uid program.
        ([0, 0, 0], false),
        ([0, 0, 1], false),
        ([1000, 0, 1], false),
    ] {
        for pointers in [0, 1, 50] {
            let found = AtExec::find(&stack(pointers, values)).unwrap();
            let [uid, euid, secure] = values;
            assert_eq!(found, AtExec { uid, euid, is_secure: secure == 1 });
            assert_eq!(found.is_gain(), is_gain, "{values:?}");
        }
    }
    let whole = stack(3, [1000, 1000, 1]);
    let last = whole.len() - 4 * 8;
    assert!(AtExec::find(&whole[..last]).is_some());
    for length in (0..last).step_by(4) {
        assert_eq!(AtExec::find(&whole[..length]), None, "{length}");
    }
    assert_eq!(AtExec::find(&[0; 4096]), None);
}
