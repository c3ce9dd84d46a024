//! Sweeps over names made by hand, and what is found in them.

mod floods;
mod histories;
mod machine;
mod permissions;
mod programs;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::mode;

use super::super::closing::ClosingStage;
use super::super::explained::ReportedContent;
use super::super::tests::closing;
use super::*;
use crate::state::tests::world::BOOT_NS;
use crate::walk::tests::memory::Sparse;
pub(in super::super) use machine::{Machine, START};
use machine::{SCAN_NS, SECOND_NS};

/// A machine with `/usr/bin/tail` of 4 bytes, after a first sweep.
fn swept() -> (Machine, u64, u64) {
    let mut machine = Machine::new();
    let root = machine.root;
    let usr = machine.folder(root, "usr");
    let bin = machine.folder(usr, "bin");
    let tail = machine.dentry(bin, "tail", mode::S_IFREG, 4);
    assert_eq!(machine.run(2000), []);
    (machine, bin, tail)
}

fn found(path: &str, before: Option<u64>, now: u64) -> Vec<(String, Option<u64>, u64)> {
    vec![(path.to_owned(), before, now)]
}

#[test]
fn a_written_file_is_found_once() {
    let (mut machine, _, tail) = swept();
    let inode = machine.inode_of(tail);
    machine.set_content(inode, 5, machine.seconds());
    assert_eq!(machine.run(2000), found("/usr/bin/tail", Some(4), 5));
    assert_eq!(machine.run(2000), []);
}

#[test]
fn changes_of_permissions_and_of_files_that_do_not_matter_are_none() {
    let (mut machine, _, tail) = swept();
    let inode = machine.inode_of(tail);
    machine.set_change_time(inode, machine.seconds());
    let root = machine.root;
    let tmp = machine.folder(root, "tmp");
    machine.dentry(tmp, "note", mode::S_IFREG, 4);
    assert_eq!(machine.run(2000), []);
}

#[test]
fn a_path_that_names_another_file_has_changed() {
    let (mut machine, bin, tail) = swept();
    // The old name is gone, and the new one is the first of the list.
    machine.memory.set(tail, "dentry", "d_inode", 0);
    let other = machine.inode(mode::S_IFREG, 9, START - 500);
    machine.set_change_time(other, machine.seconds());
    machine.name(bin, "tail", other);
    assert_eq!(machine.run(2000), found("/usr/bin/tail", Some(4), 9));
}

#[test]
fn what_is_mounted_over_a_file_is_another_file() {
    let (mut machine, _, tail) = swept();
    let root = machine.root;
    let srv = machine.folder(root, "srv");
    let other = machine.dentry(srv, "other", mode::S_IFREG, 7);
    machine.mount_over(tail, other);
    assert_eq!(machine.run(2000), found("/usr/bin/tail", Some(4), 7));
}

#[test]
fn what_is_mounted_over_a_folder_is_swept() {
    let (mut machine, bin, _) = swept();
    let root = machine.folder(0, "");
    machine.dentry(root, "tail", mode::S_IFREG, 8);
    machine.dentry(root, "unknown", mode::S_IFREG, 8);
    machine.mount_over(bin, root);
    assert_eq!(machine.run(2000), found("/usr/bin/tail", Some(4), 8));
}

#[test]
fn a_new_file_is_found_if_it_was_written_or_named_since_watching_started() {
    let (mut machine, bin, _) = swept();
    let seconds = machine.seconds();
    let written = machine.inode(mode::S_IFREG, 6, seconds);
    machine.name(bin, "written", written);
    assert_eq!(machine.run(2000), found("/usr/bin/written", None, 6));
    // An old one that was moved here: the folder was changed at the same time.
    let moved = machine.inode(mode::S_IFREG, 7, START - 500);
    let seconds = machine.seconds();
    machine.set_change_time(moved, seconds);
    let folder = machine.inode_of(bin);
    machine.memory.set(folder, "inode", "i_mtime_sec", seconds as u64);
    machine.name(bin, "moved", moved);
    assert_eq!(machine.run(2000), found("/usr/bin/moved", None, 7));
    // One that is looked up for the first time, one whose mode has changed, and an empty one.
    machine.dentry(bin, "old", mode::S_IFREG, 3);
    let mode_changed = machine.inode(mode::S_IFREG, 8, START - 500);
    machine.set_change_time(mode_changed, START + 1);
    machine.name(bin, "mode", mode_changed);
    let empty = machine.inode(mode::S_IFREG, 0, machine.seconds());
    machine.name(bin, "empty", empty);
    assert_eq!(machine.run(2000), []);
}

/// An editor renames the old file, and writes a new one.
#[test]
fn a_file_that_is_renamed_is_no_change_of_the_new_name() {
    let (mut machine, bin, tail) = swept();
    let old = machine.inode_of(tail);
    let seconds = machine.seconds();
    machine.set_change_time(old, seconds);
    machine.memory.set(tail, "dentry", "d_inode", 0);
    machine.name(bin, "tail~", old);
    let new = machine.inode(mode::S_IFREG, 5, seconds);
    machine.name(bin, "tail", new);
    assert_eq!(machine.run(2000), found("/usr/bin/tail", Some(4), 5));
}

#[test]
fn many_new_names_in_a_folder_are_one_record() {
    let (mut machine, bin, _) = swept();
    let seconds = machine.seconds();
    for number in 0..200 {
        let inode = machine.inode(mode::S_IFLNK, 12, seconds);
        machine.name(bin, &format!("link{number}"), inode);
    }
    let written = machine.inode(mode::S_IFREG, 6, seconds);
    machine.name(bin, "written", written);
    let found = machine.run(3000);
    // Links and the file are apart. The last link is the first of the list.
    let first = ("/usr/bin/link199".to_owned(), None, 12);
    assert_eq!(found, [("/usr/bin/written".to_owned(), None, 6), first]);
    assert_eq!(machine.others, [0, 199]);
    // What was not new is not new now, and few names are a record each.
    for number in 0..TOGETHER_MIN - 1 {
        let inode = machine.inode(mode::S_IFLNK, 12, machine.seconds());
        machine.name(bin, &format!("more{number}"), inode);
    }
    assert_eq!(machine.run(3000).len(), TOGETHER_MIN - 1);
}

#[test]
fn many_new_names_hide_none_that_matters_for_another_reason() {
    let mut machine = Machine::new();
    let root = machine.root;
    let etc = machine.folder(root, "etc");
    machine.dentry(etc, "motd", mode::S_IFREG, 4);
    assert_eq!(machine.run(2000), []);
    let names = (0..40).map(|number| format!("a{number}"));
    for name in names.chain(["ld.so.preload".to_owned()]) {
        let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
        machine.name(etc, &name, inode);
    }
    let found = machine.run(3000);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|(path, ..)| path == "/etc/ld.so.preload"), "{found:?}");
}

/// The programs of an initramfs make links. Then process 1 sees the root of the system.
#[test]
fn a_new_name_is_no_finding_while_the_machine_starts() {
    let (mut machine, bin, tail) = swept();
    machine.has_program = false;
    assert_eq!(machine.run(500), []);
    machine.has_program = true;
    for number in 0..20 {
        let inode = machine.inode(mode::S_IFLNK, 12, machine.seconds());
        machine.name(bin, &format!("link{number}"), inode);
        assert_eq!(machine.run(1500), [], "{number}");
    }
    // dracut writes rules for udev line by line.
    let rules = machine.inode(mode::S_IFREG, 7, machine.seconds());
    machine.name(bin, "rules", rules);
    assert_eq!(machine.run(1500), []);
    machine.set_content(rules, 8, machine.seconds());
    assert_eq!(machine.run(1500), []);
    // A file of the initramfs that changes is a finding.
    let inode = machine.inode_of(tail);
    machine.set_content(inode, 5, machine.seconds());
    assert_eq!(machine.run(1500), found("/usr/bin/tail", Some(4), 5));
    machine.run(STARTED_NS / 1_000_000);
    machine.set_content(rules, 9, machine.seconds());
    assert_eq!(machine.run(1500), found("/usr/bin/rules", Some(8), 9));
    let late = machine.inode(mode::S_IFREG, 6, machine.seconds());
    machine.name(bin, "late", late);
    assert_eq!(machine.run(3000), found("/usr/bin/late", None, 6));
}

#[test]
fn a_start_ends_although_new_names_go_on_coming() {
    let (mut machine, bin, _) = swept();
    machine.has_program = false;
    assert_eq!(machine.run(500), []);
    machine.has_program = true;
    let step_ms = 100_000;
    for number in 0..STARTED_MAX_NS / 1_000_000 / step_ms {
        let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
        machine.name(bin, &format!("early{number}"), inode);
        assert_eq!(machine.run(step_ms), [], "{number}");
    }
    let late = machine.inode(mode::S_IFREG, 6, machine.seconds());
    machine.name(bin, "late", late);
    assert_eq!(machine.run(3000), found("/usr/bin/late", None, 6));
}

#[test]
fn what_was_reported_is_no_second_record() {
    let (mut machine, bin, _) = swept();
    let seconds = machine.seconds();
    let inode = machine.inode(mode::S_IFREG, 6, seconds);
    let reported = ReportedContent {
        inode: KernelVa(inode),
        number: machine.inodes,
        modify_time_ns: seconds * SECOND_NS,
        size: 6,
        name: None,
    };
    machine.files.explained.push(reported);
    machine.name(bin, "renamed", inode);
    assert_eq!(machine.run(2000), []);
    // Another inode at the address of one that is gone, with a copy of the file.
    let copy = machine.inode(mode::S_IFREG, 6, seconds);
    machine.files.explained.push(ReportedContent { inode: KernelVa(copy), ..reported });
    machine.name(bin, "copy", copy);
    assert_eq!(machine.run(2000), found("/usr/bin/copy", None, 6));
}

/// A descriptor that scans have seen wrote the file.
#[test]
fn a_closing_explains_the_change_of_its_file_if_it_is_reported() {
    for (stage, is_explained) in [
        (ClosingStage::Waiting { matters: true }, true),
        (ClosingStage::Open { absent_scans: 0 }, true),
        (ClosingStage::Waiting { matters: false }, false),
        (ClosingStage::Over, false),
    ] {
        let (mut machine, _, tail) = swept();
        let inode = machine.inode_of(tail);
        let mut closing = closing(0x1000, 4, true);
        (closing.stage, closing.inode) = (stage, KernelVa(inode));
        machine.files.closings.push(closing);
        machine.set_content(inode, 5, machine.seconds());
        let expected = if is_explained { vec![] } else { found("/usr/bin/tail", Some(4), 5) };
        assert_eq!(machine.run(2000), expected, "{stage:?}");
    }
}

#[test]
fn what_finds_no_room_is_found_by_the_next_sweep() {
    let (mut machine, bin, _) = swept();
    let files: Vec<_> = (0..3 * PENDING_MAX)
        .map(|at| machine.dentry(bin, &format!("f{at}"), mode::S_IFREG, 4))
        .collect();
    assert_eq!(machine.run(2000), []);
    let seconds = machine.seconds();
    for &file in &files {
        let inode = machine.inode_of(file);
        machine.set_content(inode, 5, seconds);
    }
    let (ended, seen) = (machine.now.monotonic, machine.run(500).len());
    assert!((1..files.len()).contains(&seen), "{seen}");
    // An event of a package manager that ended when they were written waits for the rest.
    assert!(machine.files.paths.may_find_until(ended, machine.now.monotonic));
    assert_eq!(seen + machine.run(6000).len(), files.len());
    assert!(!machine.files.paths.may_find_until(ended, machine.now.monotonic));
    assert_eq!(machine.run(2000), []);
}

/// A change that a sweep has found waits for a scan that leaves nothing.
#[test]
fn an_event_of_a_package_manager_waits_until_all_changes_are_decided() {
    let (mut machine, _, tail) = swept();
    let inode = machine.inode_of(tail);
    machine.set_content(inode, 5, machine.seconds());
    machine.left_tables = 1;
    let ended = machine.now.monotonic;
    let is_awaited =
        |machine: &Machine| machine.files.paths.may_find_until(ended, machine.now.monotonic);
    assert_eq!(machine.run(1500), []);
    let swept = machine.files.paths.complete;
    assert!(swept.is_some_and(|began| began.since(ended) > 0) && is_awaited(&machine));
    machine.left_tables = 0;
    assert_eq!(machine.run(500), found("/usr/bin/tail", Some(4), 5));
    assert!(!is_awaited(&machine));
}

/// A service does not end: its event comes when it has paused.
#[test]
fn what_a_service_of_packages_writes_is_one_event_and_nothing_else_is_hidden_by_it() {
    let (mut machine, _, tail) = swept();
    machine.checks_closings = true;
    machine.files.packages.add_service_of_root();
    let inode = machine.inode_of(tail);
    machine.set_content(inode, 5, machine.seconds());
    assert_eq!(machine.run(2000), found("/usr/bin/tail", Some(4), 5));
    machine.run(10_000);
    let (calendar_ns, now) = (machine.calendar_ns, machine.now);
    machine.files.packages.write_by_first(calendar_ns, now);
    machine.set_content(inode, 6, machine.seconds());
    assert_eq!((machine.run(4500), &machine.packaged[..]), (vec![], &[][..]));
    assert_eq!((machine.run(4000), &machine.packaged[..]), (vec![], &[1][..]));
    machine.set_content(inode, 7, machine.seconds());
    assert_eq!(machine.run(2000), found("/usr/bin/tail", Some(6), 7));
    // A user may ask it to do something at any time.
    let (calendar_ns, now) = (machine.calendar_ns, machine.now);
    machine.files.packages.write_by_first(calendar_ns, now);
    machine.set_content(inode, 8, machine.seconds());
    machine.memory.set(inode, "inode", "i_uid.val", 1000);
    assert_eq!(machine.run(2000), found("/usr/bin/tail", Some(7), 8));
    assert_eq!(machine.packaged, [1]);
}

#[test]
fn a_step_of_the_clock_makes_nothing_new() {
    let (mut machine, bin, _) = swept();
    let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
    // The clock goes forward by a day: a machine without one of its own asks others.
    machine.files.paths.boot_to_real_ns = Some(BOOT_NS - SECOND_NS);
    machine.run(20);
    machine.name(bin, "written", inode);
    assert_eq!(machine.run(2000), []);
}

#[test]
fn another_root_is_another_tree() {
    let (mut machine, _, _) = swept();
    let root = machine.folder(0, "");
    let usr = machine.folder(root, "usr");
    let bin = machine.folder(usr, "bin");
    machine.dentry(bin, "tail", mode::S_IFREG, 99);
    let fs = machine.fs;
    machine.memory.set(fs, "fs_struct", "root.dentry", root);
    assert_eq!(machine.run(2000), []);
}

#[test]
fn lists_that_a_guest_has_broken_end_a_sweep() {
    let (mut machine, bin, tail) = swept();
    let inode = machine.inode_of(tail);
    // A list that leads to itself, a folder in itself, and names that cannot be read.
    let loops = machine.dentry(bin, "loops", mode::S_IFREG, 1);
    let link = Sparse::field(loops, "dentry", "d_sib.next");
    machine.memory.set(loops, "dentry", "d_sib.next", link);
    let within = machine.folder(bin, "within");
    let own = Sparse::field(within, "dentry", "d_sib.next");
    machine.memory.set(within, "dentry", "d_children.first", own);
    let long = machine.dentry(bin, "long", mode::S_IFREG, 1);
    machine.memory.set(long, "dentry", "d_name.name", 0xffff_8880_0000_0000);
    machine.memory.set(long, "dentry", "d_name.len", u64::from(u32::MAX));
    machine.set_content(inode, 5, machine.seconds());
    let before = machine.memory.requests;
    // The list is cut before it comes to `tail`.
    assert_eq!(machine.run(1000), []);
    let requests = machine.memory.requests - before;
    assert!(requests < 100 * 1000, "{requests} requests in 100 scans");
}

#[test]
fn long_names_are_read() {
    let (mut machine, bin, _) = swept();
    let name = "a".repeat(180);
    let text = machine.memory.room(256);
    for at in (0..184).step_by(8) {
        machine.memory.put(text + at, u64::from_le_bytes(*b"aaaaaaaa"));
    }
    let inode = machine.inode(mode::S_IFREG, 6, machine.seconds());
    let dentry = machine.name(bin, "", inode);
    machine.memory.set(dentry, "dentry", "d_name.name", text);
    machine.memory.set(dentry, "dentry", "d_name.len", 180);
    assert_eq!(machine.run(2000), found(&format!("/usr/bin/{name}"), None, 6));
}

/// A user of the machine has more folders and names than a sweep reads in homes, and writes very
/// many files.
#[test]
fn a_user_with_very_many_names_delays_nothing_of_the_system() {
    let (mut machine, _, tail) = swept();
    let root = machine.root;
    let home = machine.folder(root, "home");
    let eve = machine.folder(home, "eve");
    let ssh = machine.folder(eve, ".ssh");
    let old = machine.inode(mode::S_IFREG, 4, 0);
    for at in 0..160 {
        let folder = machine.folder(ssh, &format!("d{at}"));
        (0..200).for_each(|_| _ = machine.name(folder, "name", old));
    }
    let scans_of_homes = i64::from(sweep::HOME_SCANS_MAX);
    assert_eq!(machine.run(10 * scans_of_homes), []);
    // Her own changes take no more than half of the room.
    for at in 0..2 * PENDING_MAX {
        let new = machine.inode(mode::S_IFREG, 4, machine.seconds());
        machine.name(ssh, &format!("new{at}"), new);
    }
    let inode = machine.inode_of(tail);
    machine.set_content(inode, 5, machine.seconds());
    let reported = machine.run(10 * scans_of_homes + 1500);
    assert!(reported.contains(&("/usr/bin/tail".into(), Some(4), 5)), "{}", reported.len());
}

#[test]
fn every_name_of_many_folders_is_seen() {
    let mut machine = Machine::new();
    let root = machine.root;
    let usr = machine.folder(root, "usr");
    let lib = machine.folder(usr, "lib");
    let mut inodes = Vec::new();
    for at in 0..300 {
        let folder = machine.folder(lib, &format!("d{at}"));
        let below = machine.folder(folder, "below");
        let file = machine.dentry(below, "file", mode::S_IFREG, 4);
        inodes.push(machine.inode_of(file));
    }
    assert_eq!(machine.run(3000), []);
    let seconds = machine.seconds();
    for (at, &inode) in inodes.iter().enumerate().filter(|(at, _)| at % 10 == 0) {
        machine.set_content(inode, 5 + at as u64, seconds);
    }
    let mut found = machine.run(3000);
    found.sort();
    assert_eq!(found.len(), 30);
    assert!(found.iter().all(|(_, before, _)| *before == Some(4)), "{found:?}");
}
