//! Names that do not exist. Any user can look them up, and the kernel keeps them before all others.

use super::*;

/// Number of such names.
const FLOOD: usize = 60_000;
/// How long a sweep takes that passes them, in milliseconds.
const SWEEP_MS: i64 = FLOOD as i64 / 256 * 10;

/// A swept machine whose `/usr/bin` is flooded then, while a sweep passes the flood.
fn flooded() -> (Machine, u64, u64) {
    let (mut machine, bin, tail) = swept();
    flood(&mut machine, bin);
    // The running sweep ends, and the next one has begun.
    assert_eq!(machine.run(1000), []);
    assert!(machine.files.paths.sweep.is_delayed());
    (machine, bin, tail)
}

fn flood(machine: &mut Machine, folder: u64) {
    (0..FLOOD).for_each(|at| _ = machine.name(folder, &format!("zz{at}"), 0));
}

/// The gap of names that are seen late: how many folders, and one of them.
fn gap(machine: &mut Machine) -> (u64, String) {
    let (loss, folder) = machine.files.paths.late();
    (loss.standing(), String::from_utf8_lossy(folder).into_owned())
}

#[test]
fn names_without_a_file_hide_no_change() {
    let (mut machine, bin, tail) = swept();
    flood(&mut machine, bin);
    // The running sweep, and the next one.
    assert_eq!(machine.run(2 * SWEEP_MS + 1000), []);
    let inode = machine.inode_of(tail);
    machine.set_content(inode, 5, machine.seconds());
    assert_eq!(machine.run(2 * SWEEP_MS), found("/usr/bin/tail", Some(4), 5));
}

#[test]
fn a_change_in_place_is_found_long_before_the_sweep_is_over() {
    let (mut machine, _, tail) = flooded();
    let inode = machine.inode_of(tail);
    machine.set_content(inode, 5, machine.seconds());
    assert_eq!(machine.run(500), found("/usr/bin/tail", Some(4), 5));
    assert!(machine.files.paths.sweep.is_delayed());
    assert_eq!(machine.run(3 * SWEEP_MS), []);
}

#[test]
fn another_file_of_a_known_name_is_found_soon() {
    let (mut machine, bin, tail) = swept();
    machine.scan_ns = 10 * SCAN_NS;
    flood(&mut machine, bin);
    assert_eq!(machine.run(2000), []);
    machine.memory.set(tail, "dentry", "d_inode", 0);
    let other = machine.inode(mode::S_IFREG, 9, machine.seconds());
    machine.name(bin, "tail", other);
    // The sweep would continue for 20 s.
    assert_eq!(machine.run(4000), found("/usr/bin/tail", Some(4), 9));
}

#[test]
fn a_name_that_is_not_there_any_more_delays_no_other() {
    let (mut machine, bin, tail) = swept();
    let (root, others) = (machine.root, 200);
    let home = machine.folder(root, "home");
    let eve = machine.folder(home, "eve");
    let ssh = machine.folder(eve, ".ssh");
    let names: Vec<_> =
        (0..others).map(|at| machine.dentry(ssh, &format!("id{at}"), mode::S_IFREG, 4)).collect();
    assert_eq!(machine.run(3000), []);
    flood(&mut machine, bin);
    assert_eq!(machine.run(1000), []);
    // A user removes all of hers: the sweep continues.
    for &name in &names {
        machine.memory.set(name, "dentry", "d_inode", 0);
    }
    let began = machine.files.paths.began;
    assert_eq!(machine.run(1200), []);
    assert_eq!(machine.files.paths.began, began);
    let inode = machine.inode_of(tail);
    machine.set_content(inode, 5, machine.seconds());
    assert_eq!(machine.run(500), found("/usr/bin/tail", Some(4), 5));
}

#[test]
fn what_has_another_path_now_is_no_change_of_the_known_one() {
    // A folder was renamed, or something is mounted over the file or its folder.
    for case in 0..3 {
        let (mut machine, bin, tail) = flooded();
        let root = machine.root;
        match case {
            0 => {
                let text = Sparse::field(bin, "dentry", "d_iname");
                machine.memory.put(text, u64::from_le_bytes(*b"nib\0\0\0\0\0"));
            }
            1 => {
                let other = machine.inode_of(tail);
                let srv = machine.folder(root, "srv");
                let same = machine.name(srv, "same", other);
                machine.mount_over(tail, same);
            }
            _ => {
                let empty = machine.folder(0, "");
                machine.mount_over(bin, empty);
            }
        }
        // Mounts are read when a sweep begins.
        machine.files.paths.sweep.end();
        let usr = machine.memory.get(Sparse::field(bin, "dentry", "d_parent"));
        flood(&mut machine, usr);
        assert_eq!(machine.run(500), []);
        assert!(machine.files.paths.sweep.is_delayed(), "{case}");
        let inode = machine.inode_of(tail);
        machine.set_content(inode, 5, machine.seconds());
        let paths: Vec<_> = machine.run(1000).into_iter().map(|(path, ..)| path).collect();
        assert!(!paths.contains(&"/usr/bin/tail".to_owned()), "{case}: {paths:?}");
    }
}

#[test]
fn names_that_delay_a_sweep_for_long_are_a_gap_with_their_folder() {
    let (mut machine, bin, tail) = swept();
    assert_eq!(gap(&mut machine), (0, String::new()));
    machine.scan_ns = 10 * SCAN_NS;
    flood(&mut machine, bin);
    assert_eq!(machine.run(9000), []);
    assert_eq!(gap(&mut machine).0, 0, "not for ten seconds yet");
    assert_eq!(machine.run(4000), []);
    assert_eq!(gap(&mut machine), (1, "/usr/bin/".to_owned()));
    // It lasts while the next sweep is as late.
    for _ in 0..40 {
        assert_eq!(machine.run(1000), []);
        assert_ne!(gap(&mut machine).0, 0);
    }
    // The kernel needs memory, and gives all of them up.
    let link = Sparse::field(tail, "dentry", "d_sib.next");
    machine.memory.set(bin, "dentry", "d_children.first", link);
    assert_eq!(machine.run(30_000), []);
    assert_eq!(gap(&mut machine).0, 0);
}

#[test]
fn a_list_that_is_not_read_to_its_end_is_a_gap() {
    let (mut machine, bin, _) = swept();
    let inode = machine.inode(mode::S_IFREG, 4, START - 1000);
    (0..33_000).for_each(|at| _ = machine.name(bin, &format!("f{at}"), inode));
    machine.run(33_000 / 12 * 10 + 2000);
    assert_eq!(gap(&mut machine).0, 1);
}
