//! Changes of permissions and owners that sweeps find.

use panoptes_decoders::kernel::inode::Attributes;

use super::super::super::packages::Packages;
use super::super::reported_access::ReportedAccess;
use super::*;
use crate::container_config::Glob;

pub(super) type Accesses = Vec<(String, Option<u16>, u16, GrantedAccess)>;

/// The permissions that were reported so far: path, before and now, and what they give.
pub(super) fn accesses(machine: &mut Machine) -> Accesses {
    core::mem::take(&mut machine.accesses)
}

pub(super) fn one(path: &str, before: Option<u16>, now: u16, what: GrantedAccess) -> Accesses {
    vec![(path.to_owned(), before, now, what)]
}

/// Scans for some seconds, in which no content changes; returns the changes of permissions.
pub(super) fn changed(machine: &mut Machine) -> Accesses {
    assert_eq!(machine.run(3000), []);
    accesses(machine)
}

#[test]
fn a_program_that_becomes_set_uid_or_set_gid_is_found_once() {
    let (mut machine, _, tail) = swept();
    let inode = machine.inode_of(tail);
    machine.chmod(inode, 0o4755);
    assert_eq!(
        changed(&mut machine),
        one("/usr/bin/tail", Some(0o755), 0o4755, GrantedAccess::SetUid)
    );
    assert_eq!(changed(&mut machine), []);
    machine.chmod(inode, 0o755);
    assert_eq!(
        changed(&mut machine),
        one("/usr/bin/tail", Some(0o4755), 0o755, GrantedAccess::Other)
    );
    machine.chmod(inode, 0o2755);
    assert_eq!(
        changed(&mut machine),
        one("/usr/bin/tail", Some(0o755), 0o2755, GrantedAccess::SetGid)
    );
    // A file that its group may not execute has mandatory locks.
    machine.chmod(inode, 0o2745);
    assert_eq!(
        changed(&mut machine),
        one("/usr/bin/tail", Some(0o2755), 0o2745, GrantedAccess::Other)
    );
}

/// A machine with more programs than paths are known.
fn crowded() -> (Machine, u64) {
    let (mut machine, bin, _) = swept();
    machine.files.paths.known = KnownPaths::new(16, HashKey::new(5));
    (0..64).for_each(|at| _ = machine.dentry(bin, &format!("p{at}"), mode::S_IFREG, 4));
    (machine, bin)
}

/// The table of paths is full, and sweeps see all of its paths.
#[test]
fn a_set_uid_program_whose_path_finds_no_room_is_reported_once() {
    let (mut machine, bin) = crowded();
    assert_eq!(changed(&mut machine), []);
    let own = machine.dentry(bin, "zz", mode::S_IFREG, 4);
    let inode = machine.inode_of(own);
    machine.chmod(inode, 0o4755);
    assert_eq!(changed(&mut machine), one("/usr/bin/zz", None, 0o4755, GrantedAccess::SetUid));
    assert!(machine.files.paths.known.peek(machine.files.paths.hash(b"/usr/bin/zz")).is_none());
    assert_eq!(changed(&mut machine), []);
    // A rename sets its change time.
    machine.rename(own, bin, "zzz", 0);
    assert_eq!(changed(&mut machine), []);
    machine.chmod(inode, 0o6755);
    assert_eq!(changed(&mut machine), one("/usr/bin/zzz", None, 0o6755, GrantedAccess::SetUid));
    // Another file has the number of the first one.
    machine.set_content(inode, 5, machine.seconds());
    machine.files.explained.clear();
    assert_eq!(machine.run(3000).len(), 1);
    assert_eq!(changed(&mut machine), []);
}

/// When `dpkg` has ended, sweeps come to its programs again.
#[test]
fn a_set_uid_program_of_a_package_stays_explained_when_its_path_finds_no_room() {
    let (mut machine, bin) = crowded();
    machine.files.packages.add_of_root();
    assert_eq!(changed(&mut machine), []);
    let own = machine.dentry(bin, "zz", mode::S_IFREG, 4);
    let inode = machine.inode_of(own);
    machine.chmod(inode, 0o4755);
    assert_eq!(changed(&mut machine), []);
    machine.files.packages = Packages::new();
    assert_eq!(changed(&mut machine), []);
}

/// The same for a folder far below.
#[test]
fn an_open_folder_whose_path_finds_no_room_is_reported_once() {
    let (mut machine, _) = crowded();
    let root = machine.root;
    let etc = machine.folder(root, "etc");
    let deep = ["a", "b", "c"].iter().fold(etc, |folder, name| machine.folder(folder, name));
    let inode = machine.inode_of(deep);
    assert_eq!(changed(&mut machine), []);
    machine.chmod(inode, 0o777);
    assert_eq!(changed(&mut machine), one("/etc/a/b/c", None, 0o777, GrantedAccess::OpenFolder));
    assert_eq!(changed(&mut machine), []);
}

/// Programs of users push no program of root aside.
#[test]
fn reported_programs_of_users_leave_room_for_those_of_root() {
    let of = |uid: u32, number: u64| Attributes {
        ino: number,
        uid,
        mode: mode::S_IFREG | 0o4755,
        ..Attributes::default()
    };
    let mut reported = ReportedAccess::new(HashKey::new(5));
    (0..100).for_each(|number| reported.note(&of(0, number)));
    (0..1000).for_each(|number| reported.note(&of(1000, number)));
    assert!((0..100).all(|number| reported.has(&of(0, number))));
    assert!(reported.has(&of(1000, 999)) && !reported.has(&of(1000, 0)));
    assert!(!reported.has(&of(1000, 1)) && !reported.has(&of(0, 999)));
}

/// `chown` clears the bits of a program (`chown_common`, fs/open.c).
#[test]
fn another_owner_is_a_change_that_gives_no_rights() {
    let (mut machine, bin, _) = swept();
    let own = machine.dentry(bin, "own", mode::S_IFREG, 4);
    let own = machine.inode_of(own);
    machine.memory.set(own, "inode", "i_mode", u64::from(mode::S_IFREG | 0o4755));
    assert_eq!(changed(&mut machine), [], "it was so before watching started");
    machine.memory.set(own, "inode", "i_uid.val", 1000);
    machine.chmod(own, 0o755);
    assert_eq!(
        changed(&mut machine),
        one("/usr/bin/own", Some(0o4755), 0o755, GrantedAccess::Other)
    );
    machine.memory.set(own, "inode", "i_gid.val", 1000);
    machine.set_change_time(own, machine.seconds());
    assert_eq!(
        changed(&mut machine),
        one("/usr/bin/own", Some(0o755), 0o755, GrantedAccess::Other)
    );
}

#[test]
fn a_folder_of_the_system_that_becomes_writable_for_all_is_found() {
    let mut machine = Machine::new();
    let root = machine.root;
    let etc = machine.folder(root, "etc");
    let cron = machine.folder(etc, "cron.d");
    let deep = ["a", "b", "c"].iter().fold(etc, |folder, name| machine.folder(folder, name));
    let srv = machine.folder(root, "srv");
    let open = machine.folder(etc, "open");
    let inodes = [root, etc, cron, deep, srv, open].map(|folder| machine.inode_of(folder));
    let [root_inode, etc_inode, cron_inode, deep_inode, srv_inode, open_inode] = inodes;
    machine.memory.set(open_inode, "inode", "i_mode", u64::from(mode::S_IFDIR | 0o777));
    assert_eq!(changed(&mut machine), [], "it was so before watching started");
    machine.chmod(etc_inode, 0o777);
    assert_eq!(changed(&mut machine), one("/etc", Some(0o755), 0o777, GrantedAccess::OpenFolder));
    // With the sticky bit nobody may replace what is another one's.
    machine.chmod(etc_inode, 0o1777);
    assert_eq!(changed(&mut machine), one("/etc", Some(0o777), 0o1777, GrantedAccess::Other));
    machine.chmod(cron_inode, 0o1777);
    assert_eq!(
        changed(&mut machine),
        one("/etc/cron.d", Some(0o755), 0o1777, GrantedAccess::Other)
    );
    machine.chmod(root_inode, 0o757);
    assert_eq!(changed(&mut machine), one("/", Some(0o755), 0o757, GrantedAccess::OpenFolder));
    // What it was is not known of a folder far below.
    machine.chmod(deep_inode, 0o777);
    assert_eq!(changed(&mut machine), one("/etc/a/b/c", None, 0o777, GrantedAccess::OpenFolder));
    machine.chmod(srv_inode, 0o777);
    assert_eq!(changed(&mut machine), []);
}

/// A new name sets both times of a folder, and `chmod` one of them.
#[test]
fn a_folder_that_was_writable_for_all_before_it_is_known_is_no_change() {
    let (mut machine, ..) = swept();
    let root = machine.root;
    let etc = machine.folder(root, "etc");
    let folders = ["a", "b", "c"].iter().fold(etc, |folder, name| machine.folder(folder, name));
    let inode = machine.inode_of(folders);
    machine.chmod(inode, 0o777);
    let seconds = machine.seconds();
    machine.set_content(inode, 0, seconds);
    assert_eq!(changed(&mut machine), []);
}

#[test]
fn a_program_whose_path_was_not_known_is_set_uid_since_its_change_time() {
    let (mut machine, bin, _) = swept();
    let [old, new, sudo] = ["old", "new", "sudo"].map(|name| {
        let dentry = machine.dentry(bin, name, mode::S_IFREG, 4);
        machine.inode_of(dentry)
    });
    machine.memory.set(old, "inode", "i_mode", u64::from(mode::S_IFREG | 0o4755));
    machine.chmod(new, 0o4755);
    machine.chmod(sudo, 0o4755);
    let mut found = changed(&mut machine);
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let path = |name: &str| format!("/usr/bin/{name}");
    // Distributions ship `sudo` so: something else of it may have changed.
    let expected = [
        (path("new"), None, 0o4755, GrantedAccess::SetUid),
        (path("sudo"), None, 0o4755, GrantedAccess::Other),
    ];
    assert_eq!(found, expected);
    assert_eq!(changed(&mut machine), []);
}

/// A rename sets the change time, and the mode stays.
#[test]
fn a_program_that_is_renamed_or_linked_is_no_change() {
    let (mut machine, bin, _) = swept();
    let sudo = machine.dentry(bin, "sudo", mode::S_IFREG, 4);
    let inode = machine.inode_of(sudo);
    machine.memory.set(inode, "inode", "i_mode", u64::from(mode::S_IFREG | 0o4755));
    assert_eq!(changed(&mut machine), []);
    machine.rename(sudo, bin, "sudo.old", 0);
    assert_eq!(changed(&mut machine), []);
    machine.set_change_time(inode, machine.seconds());
    machine.name(bin, "sudo.link", inode);
    assert_eq!(changed(&mut machine), []);
    // Both names are of one file.
    machine.chmod(inode, 0o6755);
    let found = changed(&mut machine);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].1, found[0].3), (Some(0o4755), GrantedAccess::SetGid));
}

/// `install -m 4755` makes a file that only its owner may read, and sets the mode in the end.
#[test]
fn a_new_file_whose_mode_is_set_at_once_is_one_change() {
    for permissions in [0o755, 0o4755] {
        let (mut machine, bin, _) = swept();
        let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
        machine.chmod(inode, 0o600);
        machine.name(bin, "new", inode);
        // A sweep has come to it, and the change waits.
        while !machine.files.paths.has_pending() {
            assert_eq!(machine.run(10), []);
        }
        machine.chmod(inode, permissions);
        assert_eq!(machine.run(3000), found("/usr/bin/new", None, 6));
        assert_eq!(accesses(&mut machine), [], "{permissions:o}");
        assert_eq!(changed(&mut machine), [], "{permissions:o}");
    }
}

#[test]
fn a_file_that_becomes_set_uid_after_its_record_is_a_change_of_its_own() {
    let (mut machine, bin, _) = swept();
    let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
    machine.name(bin, "new", inode);
    while machine.run(10) != found("/usr/bin/new", None, 6) {}
    machine.chmod(inode, 0o4755);
    assert_eq!(
        changed(&mut machine),
        one("/usr/bin/new", Some(0o755), 0o4755, GrantedAccess::SetUid)
    );
    // Its other permissions were set within the act that wrote it.
    let (mut machine, bin, _) = swept();
    let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
    machine.name(bin, "new", inode);
    while machine.run(10) != found("/usr/bin/new", None, 6) {}
    machine.chmod(inode, 0o711);
    assert_eq!(changed(&mut machine), []);
    machine.run(3000);
    machine.chmod(inode, 0o755);
    assert_eq!(
        changed(&mut machine),
        one("/usr/bin/new", Some(0o711), 0o755, GrantedAccess::Other)
    );
}

/// The record of a closed descriptor has the mode of its file.
#[test]
fn what_a_closing_has_shown_is_no_change() {
    for (shown, expected) in
        [(0o4755, vec![]), (0o755, one("/usr/bin/new", Some(0o755), 0o4755, GrantedAccess::SetUid))]
    {
        let (mut machine, bin, _) = swept();
        let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
        machine.name(bin, "new", inode);
        machine.chmod(inode, 0o4755);
        let seconds = machine.seconds();
        let facts = InodeFacts {
            number: machine.inodes,
            size: 6,
            modify_time_ns: seconds * SECOND_NS,
            change_time_ns: seconds * SECOND_NS,
            mode: mode::S_IFREG | shown,
            ..InodeFacts::default()
        };
        let path = machine.files.paths.hash(b"/usr/bin/new");
        let attributes = Attributes {
            ino: machine.inodes,
            size: 6,
            mtime_ns: facts.modify_time_ns,
            ctime_ns: facts.change_time_ns,
            ..Attributes::default()
        };
        let reported = ReportedContent::of((KernelVa(inode), &attributes), path);
        machine.files.explained.push(reported);
        machine.files.paths.note(b"/usr/bin/new", &facts);
        assert_eq!(changed(&mut machine), expected, "{shown:o}");
    }
}

/// A closing's record is written while a sweep's change of the same file waits.
#[test]
fn a_change_that_a_closing_explains_may_be_one_of_permissions() {
    let (mut machine, bin, _) = swept();
    let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
    machine.name(bin, "new", inode);
    machine.chmod(inode, 0o4755);
    while !machine.files.paths.has_pending() {
        assert_eq!(machine.run(10), []);
    }
    let seconds = machine.seconds();
    let facts = InodeFacts {
        number: machine.inodes,
        size: 6,
        modify_time_ns: seconds * SECOND_NS,
        change_time_ns: seconds * SECOND_NS,
        mode: mode::S_IFREG | 0o755,
        ..InodeFacts::default()
    };
    machine.files.paths.note(b"/usr/bin/new", &facts);
    let reported = ReportedContent {
        inode: KernelVa(inode),
        number: machine.inodes,
        modify_time_ns: facts.modify_time_ns,
        size: 6,
        name: None,
    };
    machine.files.explained.push(reported);
    assert_eq!(
        changed(&mut machine),
        one("/usr/bin/new", Some(0o755), 0o4755, GrantedAccess::SetUid)
    );
}

/// The record of a closing names the old path or the new one, with the mode of its time.
#[test]
fn a_program_that_becomes_set_uid_while_it_is_renamed_is_found() {
    for (recorded, shown, expected) in [
        ("/usr/bin/new1", 0o755, one("/usr/bin/new", Some(0o755), 0o4755, GrantedAccess::SetUid)),
        ("/usr/bin/new", 0o755, one("/usr/bin/new", Some(0o755), 0o4755, GrantedAccess::SetUid)),
        ("/usr/bin/new1", 0o4755, vec![]),
        ("/usr/bin/new", 0o4755, vec![]),
    ] {
        let (mut machine, bin, _) = swept();
        let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
        let name = machine.name(bin, "new1", inode);
        while !machine.files.paths.has_pending() {
            assert_eq!(machine.run(10), []);
        }
        let seconds = machine.seconds();
        let facts = InodeFacts {
            number: machine.inodes,
            size: 6,
            modify_time_ns: seconds * SECOND_NS,
            change_time_ns: seconds * SECOND_NS,
            mode: mode::S_IFREG | shown,
            ..InodeFacts::default()
        };
        machine.files.paths.note(recorded.as_bytes(), &facts);
        machine.files.explained.push(ReportedContent {
            inode: KernelVa(inode),
            number: machine.inodes,
            modify_time_ns: facts.modify_time_ns,
            size: 6,
            name: None,
        });
        machine.chmod(inode, 0o4755);
        machine.rename(name, bin, "new", 0);
        assert_eq!(changed(&mut machine), expected, "{recorded} {shown:o}");
        assert_eq!(changed(&mut machine), [], "{recorded} {shown:o}");
    }
}

#[test]
fn what_changes_while_a_package_manager_runs_is_no_change() {
    let (mut machine, bin, tail) = swept();
    machine.files.packages.add_of_root();
    let root = machine.root;
    let etc = machine.folder(root, "etc");
    let [tail, etc] = [tail, etc].map(|dentry| machine.inode_of(dentry));
    assert_eq!(changed(&mut machine), []);
    machine.chmod(tail, 0o4755);
    machine.chmod(etc, 0o777);
    let new = machine.inode(mode::S_IFREG, 6, machine.seconds());
    machine.chmod(new, 0o4755);
    machine.name(bin, "new", new);
    assert_eq!(changed(&mut machine), []);
    assert!(!machine.files.paths.has_pending());
}

#[test]
fn a_mode_that_is_set_back_at_once_is_no_change() {
    let (mut machine, _, tail) = swept();
    let inode = machine.inode_of(tail);
    machine.chmod(inode, 0o4755);
    while !machine.files.paths.has_pending() {
        assert_eq!(machine.run(10), []);
    }
    machine.chmod(inode, 0o755);
    assert_eq!(changed(&mut machine), []);
}

#[test]
fn excluded_paths_and_files_that_do_not_matter_are_no_change() {
    let (mut machine, bin, tail) = swept();
    let root = machine.root;
    let root_home = machine.folder(root, "root");
    let notes = machine.dentry(root_home, "notes", mode::S_IFREG, 4);
    let usr = machine.folder(root, "usr2");
    let [tail, bin, notes, usr] = [tail, bin, notes, usr].map(|it| machine.inode_of(it));
    assert_eq!(changed(&mut machine), []);
    let exclude = vec![Glob::new("/usr/bin*")];
    machine.files.rules = ContentRules { exclude, ..ContentRules::default() }.into();
    machine.chmod(tail, 0o4755);
    machine.chmod(bin, 0o777);
    machine.chmod(notes, 0o600);
    machine.chmod(usr, 0o777);
    assert_eq!(changed(&mut machine), []);
    // Every user who starts it gets the rights of root, wherever it is.
    machine.chmod(notes, 0o4755);
    assert_eq!(changed(&mut machine), one("/root/notes", None, 0o4755, GrantedAccess::SetUid));
}

#[test]
fn a_machine_that_starts_sets_modes() {
    let (mut machine, bin, tail) = swept();
    machine.has_program = false;
    assert_eq!(machine.run(500), []);
    machine.has_program = true;
    let [tail, bin] = [tail, bin].map(|dentry| machine.inode_of(dentry));
    assert_eq!(changed(&mut machine), []);
    machine.chmod(tail, 0o4755);
    machine.chmod(bin, 0o777);
    assert_eq!(changed(&mut machine), []);
}

/// Without records of contents, nothing else shows the mode of a new file.
#[test]
fn without_records_of_contents_each_new_set_uid_file_is_a_change() {
    let (mut machine, bin, _) = swept();
    machine.files.paths.set_recorded(RecordedChanges { closings: false, paths: false });
    let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
    machine.chmod(inode, 0o4755);
    machine.name(bin, "new", inode);
    let other = machine.inode(mode::S_IFREG, 6, machine.seconds());
    machine.chmod(other, 0o755);
    machine.name(bin, "other", other);
    assert_eq!(changed(&mut machine), one("/usr/bin/new", None, 0o4755, GrantedAccess::SetUid));
}

/// A user may give files away to many others.
#[test]
fn owners_in_homes_are_not_compared() {
    let (mut machine, ..) = swept();
    let root = machine.root;
    let home = machine.folder(root, "home");
    let eve = machine.folder(home, "eve");
    let ssh = machine.folder(eve, ".ssh");
    let keys = machine.dentry(ssh, "authorized_keys", mode::S_IFREG, 4);
    let inode = machine.inode_of(keys);
    assert_eq!(changed(&mut machine), []);
    machine.memory.set(inode, "inode", "i_uid.val", 1001);
    machine.set_change_time(inode, machine.seconds());
    assert_eq!(changed(&mut machine), []);
    machine.chmod(inode, 0o666);
    let path = "/home/eve/.ssh/authorized_keys";
    assert_eq!(changed(&mut machine), one(path, Some(0o755), 0o666, GrantedAccess::Other));
}
