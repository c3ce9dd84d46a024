//! Histories of shells that lose their content, and what shells and editors do with them.

use super::super::histories::REMOVED_MAX;
use super::*;

/// A machine with `/root/.bash_history` of 400 bytes, after a first sweep; with its home and name.
fn with_history() -> (Machine, u64, u64) {
    let mut machine = Machine::new();
    let root = machine.root;
    let home = machine.folder(root, "root");
    let history = machine.dentry(home, ".bash_history", mode::S_IFREG, 400);
    assert_eq!(machine.run(2000), []);
    (machine, home, history)
}

/// Removes a file: its name stays, without an inode.
fn remove(machine: &mut Machine, name: u64) {
    let inode = machine.inode_of(name);
    machine.memory.set(inode, "inode", "i_nlink", 0);
    machine.memory.set(inode, "inode", "i_dentry.first", 0);
    machine.memory.set(name, "dentry", "d_inode", 0);
}

fn history(now: u64) -> Vec<(String, Option<u64>, u64)> {
    found("/root/.bash_history", Some(400), now)
}

#[test]
fn a_history_that_is_emptied_is_reported_once() {
    let (mut machine, _, name) = with_history();
    let inode = machine.inode_of(name);
    machine.set_content(inode, 0, machine.seconds());
    assert_eq!(machine.run(4000), history(0));
    assert_eq!(machine.run(4000), []);
    // Again.
    machine.set_content(inode, 30, machine.seconds());
    assert_eq!(machine.run(4000), []);
    machine.set_content(inode, 0, machine.seconds());
    assert_eq!(machine.run(4000), found("/root/.bash_history", Some(30), 0));
}

#[test]
fn a_history_that_is_removed_is_reported_once() {
    let (mut machine, home, name) = with_history();
    remove(&mut machine, name);
    assert_eq!(machine.run(1000), [], "another file may come in its place");
    assert_eq!(machine.run(4000), history(0));
    assert_eq!(machine.run(4000), []);
    // A new one, which is removed, too.
    machine.take_out(name);
    let name = machine.dentry(home, ".bash_history", mode::S_IFREG, 70);
    assert_eq!(machine.run(4000), []);
    remove(&mut machine, name);
    assert_eq!(machine.run(5000), found("/root/.bash_history", Some(70), 0));
}

#[test]
fn a_history_that_becomes_a_link_is_reported() {
    let (mut machine, home, name) = with_history();
    remove(&mut machine, name);
    machine.take_out(name);
    let link = machine.inode(mode::S_IFLNK, 9, machine.seconds());
    machine.name(home, ".bash_history", link);
    assert_eq!(machine.run(4000), history(9));
    assert_eq!(machine.run(4000), []);
}

#[test]
fn a_history_that_becomes_no_file_is_reported() {
    for kind in [mode::S_IFDIR, mode::S_IFIFO, mode::S_IFSOCK] {
        let (mut machine, home, name) = with_history();
        remove(&mut machine, name);
        machine.take_out(name);
        let other = machine.inode(kind, 0, machine.seconds());
        machine.chmod(other, 0o2755);
        machine.name(home, ".bash_history", other);
        assert_eq!(machine.run(4000), history(0), "{kind:o}");
        assert_eq!(machine.run(4000), []);
    }
}

/// `mount --bind /dev/null ~/.bash_history`
#[test]
fn what_is_mounted_over_a_history_hides_it() {
    for kind in [mode::S_IFCHR, mode::S_IFREG] {
        let (mut machine, _, name) = with_history();
        let dev = machine.folder(0, "");
        let null = machine.dentry(dev, "null", kind, 0);
        machine.mount_over(name, null);
        assert_eq!(machine.run(4000), history(0), "{kind:o}");
        assert_eq!(machine.run(4000), []);
    }
}

/// bash appends, or writes the last lines anew and renames them; zsh cuts its file for a moment.
#[test]
fn what_shells_do_with_their_histories_is_no_finding() {
    let (mut machine, home, name) = with_history();
    let inode = machine.inode_of(name);
    machine.set_content(inode, 450, machine.seconds());
    assert_eq!(machine.run(2000), []);
    let shorter = machine.inode(mode::S_IFREG, 90, machine.seconds());
    let new = machine.name(home, ".bash_history-714.tmp", shorter);
    machine.run(20);
    machine.rename(new, home, ".bash_history", name);
    assert_eq!(machine.run(4000), []);
    machine.set_content(shorter, 0, machine.seconds());
    for _ in 0..1000 {
        assert_eq!(machine.run(10), []);
        if machine.files.paths.has_pending() {
            break;
        }
    }
    assert!(machine.files.paths.has_pending());
    machine.set_content(shorter, 95, machine.seconds());
    assert_eq!(machine.run(4000), []);
}

/// An editor that puts the old file aside and then writes a new one.
#[test]
fn a_history_that_is_replaced_is_no_finding() {
    let (mut machine, home, name) = with_history();
    remove(&mut machine, name);
    assert_eq!(machine.run(1000), []);
    machine.take_out(name);
    machine.dentry(home, ".bash_history", mode::S_IFREG, 399);
    assert_eq!(machine.run(5000), []);
}

/// `userdel -r`: the home goes, too.
#[test]
fn the_history_of_a_home_that_is_removed_is_no_finding() {
    let (mut machine, home, name) = with_history();
    remove(&mut machine, name);
    assert_eq!(machine.run(1000), []);
    machine.memory.set(home, "dentry", "d_inode", 0);
    assert_eq!(machine.run(35_000), []);
}

/// A shell looks for a history that was never there, and one is made without content.
#[test]
fn a_history_that_had_no_content_is_no_finding() {
    let (mut machine, home, _) = with_history();
    machine.name(home, ".zsh_history", 0);
    let empty = machine.dentry(home, ".python_history", mode::S_IFREG, 0);
    machine.dentry(home, ".histfile", mode::S_IFLNK, 9);
    assert_eq!(machine.run(4000), []);
    remove(&mut machine, empty);
    assert_eq!(machine.run(4000), []);
}

/// A home that is encrypted is unmounted at logout.
#[test]
fn a_history_below_a_mount_that_is_gone_is_no_finding() {
    let mut machine = Machine::new();
    let root = machine.root;
    let homes = machine.folder(root, "home");
    let ann = machine.folder(homes, "ann");
    let inside = machine.folder(0, "");
    machine.dentry(inside, ".bash_history", mode::S_IFREG, 400);
    machine.mount_over(ann, inside);
    assert_eq!(machine.run(4000), []);
    machine.unmount();
    let absent = machine.name(ann, ".bash_history", 0);
    assert_eq!(machine.run(5000), []);
    // The folder below has its own.
    machine.take_out(absent);
    machine.dentry(ann, ".bash_history", mode::S_IFREG, 0);
    assert_eq!(machine.run(5000), []);
}

#[test]
fn more_histories_than_are_followed_at_a_time_are_reported_in_turn() {
    let mut machine = Machine::new();
    let root = machine.root;
    let homes = machine.folder(root, "home");
    let mut names = Vec::new();
    for at in 0..2 * REMOVED_MAX {
        let home = machine.folder(homes, &format!("u{at:02}"));
        names.push(machine.dentry(home, ".bash_history", mode::S_IFREG, 400));
    }
    assert_eq!(machine.run(4000), []);
    for name in names {
        remove(&mut machine, name);
    }
    let mut found: Vec<_> = machine.run(20_000).into_iter().map(|(path, ..)| path).collect();
    found.sort();
    let expected = (0..2 * REMOVED_MAX).map(|at| format!("/home/u{at:02}/.bash_history"));
    assert_eq!(found, expected.collect::<Vec<_>>());
}
