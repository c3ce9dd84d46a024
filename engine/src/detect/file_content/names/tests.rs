//! Closings of files that are renamed, in machines made by hand.

use panoptes_decoders::kernel::inode::mode;

use super::super::TEMPORARY_MAX;
use super::super::paths::tests::Machine;
use super::*;
use crate::state::FileAtOpen;
use crate::state::described::ProcessDescription;
use crate::walk::tests::memory::Sparse;

/// A machine with folders, whose first sweep is over.
struct Tree {
    machine: Machine,
    etc: u64,
    ssh: u64,
    /// The names `/etc/passwd` and `/etc/ssh/sshd_config`.
    passwd: u64,
    sshd: u64,
}

impl Tree {
    fn new() -> Self {
        let mut machine = Machine::new();
        let root = machine.root;
        let etc = machine.folder(root, "etc");
        let ssh = machine.folder(etc, "ssh");
        let passwd = machine.dentry(etc, "passwd", mode::S_IFREG, 4);
        let sshd = machine.dentry(ssh, "sshd_config", mode::S_IFREG, 4);
        assert_eq!(machine.run(2000), []);
        machine.checks_closings = true;
        Self { machine, etc, ssh, passwd, sshd }
    }

    /// Writes a file, and closes it; returns its name.
    fn write(&mut self, folder: u64, path: &str) -> u64 {
        let seconds = self.machine.seconds();
        let inode = self.machine.inode(mode::S_IFREG, 9, seconds);
        let name = path.rsplit_once('/').unwrap().1;
        let dentry = self.machine.name(folder, name, inode);
        self.machine.close(path, inode);
        dentry
    }

    /// Runs until a sweep has found a change.
    fn await_change(&mut self) {
        while !self.machine.files.paths.has_pending() {
            assert_eq!(self.run(10), nothing());
        }
    }

    /// Runs for so long; returns what was reported of closings, as path and earlier path, and the
    /// changed paths.
    fn run(&mut self, milliseconds: i64) -> (Vec<(String, Option<String>)>, Vec<String>) {
        let paths = self.machine.run(milliseconds).into_iter().map(|(path, ..)| path).collect();
        (core::mem::take(&mut self.machine.closed), paths)
    }
}

fn only(path: &str, previous: Option<&str>) -> (Vec<(String, Option<String>)>, Vec<String>) {
    (vec![(path.to_owned(), previous.map(str::to_owned))], vec![])
}

fn nothing() -> (Vec<(String, Option<String>)>, Vec<String>) {
    (vec![], vec![])
}

#[test]
fn a_file_that_keeps_its_name_is_one_record() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    etc.write(folder, "/etc/fstab");
    assert_eq!(etc.run(100), nothing(), "it may be renamed yet");
    assert_eq!(etc.run(3000), only("/etc/fstab", None));
}

/// Cases 02 and 09: `sed -i` and `useradd` named their temporary files only.
#[test]
fn a_file_that_is_renamed_when_it_is_complete_has_its_last_name() {
    for delay_ms in [0, 10, 100, 140] {
        let mut etc = Tree::new();
        let (folder, passwd) = (etc.etc, etc.passwd);
        let temporary = etc.write(folder, "/etc/passwd+");
        let before = etc.run(delay_ms);
        etc.machine.rename(temporary, folder, "passwd", passwd);
        assert_eq!(before, nothing(), "{delay_ms}");
        assert_eq!(etc.run(4000), only("/etc/passwd", Some("/etc/passwd+")), "{delay_ms}");
    }
}

#[test]
fn a_rename_after_the_report_is_a_second_record_with_the_last_name() {
    for (name, is_known) in [("passwd", true), ("nologin", false)] {
        let mut etc = Tree::new();
        let (folder, passwd) = (etc.etc, if is_known { etc.passwd } else { 0 });
        let temporary = etc.write(folder, "/etc/passwd+");
        assert_eq!(etc.run(1500), only("/etc/passwd+", None));
        etc.machine.rename(temporary, folder, name, passwd);
        assert_eq!(etc.run(5000), (vec![], vec![format!("/etc/{name}")]));
        assert_eq!(etc.run(3000), nothing());
    }
}

/// `vipw`, `visudo` and systemd write a file whose name is in the list of those that never matter.
#[test]
fn a_copy_that_does_not_matter_and_becomes_a_file_that_does_is_a_record_of_its_writer() {
    for (temporary, last, delay_ms) in [
        ("passwd.edit", "passwd", 0),
        ("passwd.edit", "passwd", 700),
        ("sudoers.tmp", "sudoers", 30),
        ("sudoers.tmp", "sudoers", 6000),
        (".#hostname4f1c09ab", "hostname", 10),
    ] {
        let mut etc = Tree::new();
        let folder = etc.etc;
        let old = match last {
            "passwd" => etc.passwd,
            _ => etc.machine.dentry(folder, last, mode::S_IFREG, 4),
        };
        assert_eq!(etc.run(1500), nothing());
        let [temporary, last] = [temporary, last].map(|name| format!("/etc/{name}"));
        let dentry = etc.write(folder, &temporary);
        assert_eq!(etc.run(delay_ms), nothing(), "{temporary}");
        etc.machine.rename(dentry, folder, last.strip_prefix("/etc/").unwrap(), old);
        assert_eq!(etc.run(5000), only(&last, Some(&temporary)), "{delay_ms}");
        assert_eq!(etc.run(12_000), nothing(), "{temporary}");
    }
}

/// `sed -i` in a home.
#[test]
fn a_file_without_importance_that_becomes_a_start_file_of_a_shell_is_a_record_of_its_writer() {
    let mut etc = Tree::new();
    let root = etc.machine.root;
    let home = etc.machine.folder(root, "root");
    let old = etc.machine.dentry(home, ".bashrc", mode::S_IFREG, 4);
    assert_eq!(etc.run(1500), nothing());
    let temporary = etc.write(home, "/root/sedJu1sqd");
    let note = etc.write(home, "/root/note.new");
    assert_eq!(etc.run(50), nothing());
    etc.machine.rename(temporary, home, ".bashrc", old);
    etc.machine.rename(note, home, "note", 0);
    assert_eq!(etc.run(5000), only("/root/.bashrc", Some("/root/sedJu1sqd")));
    assert!(etc.machine.files.closings.is_empty());
}

/// `visudo` copies the file, an editor writes the copy, and then `visudo` renames it.
#[test]
fn a_temporary_file_that_is_written_twice_is_one_record() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let temporary = etc.write(folder, "/etc/sudoers.tmp");
    assert_eq!(etc.run(3000), nothing());
    let inode = etc.machine.inode_of(temporary);
    let seconds = etc.machine.seconds();
    etc.machine.set_content(inode, 12, seconds);
    etc.machine.close_as("/etc/sudoers.tmp", inode, 0x200);
    assert_eq!(etc.run(20), nothing());
    etc.machine.rename(temporary, folder, "sudoers", 0);
    assert_eq!(etc.run(5000), only("/etc/sudoers", Some("/etc/sudoers.tmp")));
}

/// `visudo` with `sed -i` as its editor: `sed` renames its file to the copy's name, and `visudo`
/// opens that to check it, and renames it. Each has written it, as far as a scan shows.
#[test]
fn a_file_that_is_opened_after_its_change_is_one_record_of_its_writer() {
    for is_first in [false, true] {
        let mut etc = Tree::new();
        let folder = etc.etc;
        let modify_time_ns = etc.machine.seconds() * 1_000_000_000;
        let dentry = etc.write(folder, "/etc/sedn2RUIe");
        let inode = etc.machine.inode_of(dentry);
        etc.machine.close_as("/etc/sudoers.tmp", inode, if is_first { 0x80 } else { 0x200 });
        let reopened = etc.machine.files.closings.last_mut().unwrap();
        reopened.opened = FileAtOpen { size: 9, modify_time_ns, written: true };
        etc.machine.rename(dentry, folder, "sudoers", 0);
        assert_eq!(etc.run(5000), only("/etc/sudoers", Some("/etc/sedn2RUIe")), "{is_first}");
    }
}

/// `vipw` of a user who saves nothing, and a temporary file that stays.
#[test]
fn a_temporary_file_that_stays_or_is_removed_is_no_change() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    etc.write(folder, "/etc/passwd.edit");
    let copy = etc.write(folder, "/etc/shadow.edit");
    assert_eq!(etc.run(1000), nothing());
    let inode = etc.machine.inode_of(copy);
    etc.machine.memory.set(inode, "inode", "i_nlink", 0);
    etc.machine.memory.set(copy, "dentry", "d_inode", 0);
    assert_eq!(etc.run(12_000), nothing());
    assert!(etc.machine.files.closings.is_empty());
}

/// Anyone may write files in a home.
#[test]
fn of_very_many_temporary_files_the_last_ones_are_awaited() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    for at in 0..3 * TEMPORARY_MAX {
        etc.write(folder, &format!("/etc/.#f{at}"));
    }
    assert_eq!(etc.run(20), nothing());
    assert_eq!(etc.machine.files.closings.len(), TEMPORARY_MAX);
    // The last ones are.
    let last = etc.write(folder, "/etc/sudoers.tmp");
    assert_eq!(etc.run(20), nothing());
    assert_eq!(etc.machine.files.closings.len(), TEMPORARY_MAX);
    etc.machine.rename(last, folder, "sudoers", 0);
    assert_eq!(etc.run(12_000), only("/etc/sudoers", Some("/etc/sudoers.tmp")));
    assert!(etc.machine.files.closings.is_empty());
}

/// The file has a second name, by which it matters.
#[test]
fn a_temporary_file_that_is_linked_to_a_name_that_matters_is_a_changed_path() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let temporary = etc.write(folder, "/etc/sudoers.tmp");
    let inode = etc.machine.inode_of(temporary);
    etc.machine.name(folder, "cron.allow", inode);
    assert_eq!(etc.run(5000), (vec![], vec!["/etc/cron.allow".to_owned()]));
}

/// An admin puts aside what was changed some time ago.
#[test]
fn a_new_name_long_after_the_report_is_no_record() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let file = etc.write(folder, "/etc/fstab");
    assert_eq!(etc.run(15_000), only("/etc/fstab", None));
    etc.machine.rename(file, folder, "fstab.disabled", 0);
    assert_eq!(etc.run(5000), nothing());
}

/// An editor puts the old file aside, which it wrote itself before.
#[test]
fn a_backup_of_what_was_reported_before_is_no_record() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let old = etc.write(folder, "/etc/fstab");
    let aside = etc.machine.dentry(folder, "fstab~", mode::S_IFREG, 3);
    assert_eq!(etc.run(3000), only("/etc/fstab", None));
    etc.machine.rename(old, folder, "fstab~", aside);
    etc.write(folder, "/etc/fstab");
    assert_eq!(etc.run(5000), only("/etc/fstab", None));
}

/// A file that was reported replaces one that matters, and gets a successor at its old path.
#[test]
fn a_file_that_replaces_another_one_is_no_backup_although_its_old_name_is_written_anew() {
    for (name, is_known) in [("passwd", true), ("cron.allow", false), ("fstabs", false)] {
        let mut etc = Tree::new();
        let (folder, passwd) = (etc.etc, if is_known { etc.passwd } else { 0 });
        let file = etc.write(folder, "/etc/fstab");
        assert_eq!(etc.run(3000), only("/etc/fstab", None));
        etc.machine.rename(file, folder, name, passwd);
        etc.write(folder, "/etc/fstab");
        let (closed, paths) = etc.run(6000);
        assert_eq!(closed, only("/etc/fstab", None).0);
        assert_eq!(paths, [format!("/etc/{name}")]);
    }
}

/// An admin's copy has the date in its name.
#[test]
fn a_new_backup_of_what_was_reported_may_have_any_ending() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let old = etc.write(folder, "/etc/fstab");
    assert_eq!(etc.run(3000), only("/etc/fstab", None));
    etc.machine.rename(old, folder, "fstab.2026-11-29", 0);
    etc.write(folder, "/etc/fstab");
    assert_eq!(etc.run(6000), only("/etc/fstab", None));
}

#[test]
fn a_file_that_is_gone_when_its_name_is_read_again_is_no_change() {
    for is_reused in [false, true] {
        let mut etc = Tree::new();
        let folder = etc.etc;
        let temporary = etc.write(folder, "/etc/lock");
        assert_eq!(etc.run(100), nothing());
        let inode = etc.machine.inode_of(temporary);
        let (field, value) = if is_reused { ("i_ino", 999) } else { ("i_nlink", 0) };
        etc.machine.memory.set(inode, "inode", field, value);
        etc.machine.memory.set(temporary, "dentry", "d_inode", 0);
        assert_eq!(etc.run(4000), nothing(), "{is_reused}");
    }
}

/// `useradd` links its lock `/etc/passwd.2477` to `/etc/passwd.lock`, and removes both in the end.
#[test]
fn locks_of_accounts_are_no_change() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let lock = etc.write(folder, "/etc/passwd.2477");
    let inode = etc.machine.inode_of(lock);
    etc.machine.name(folder, "passwd.lock", inode);
    assert_eq!(etc.run(4000), nothing());
}

#[test]
fn what_is_renamed_to_a_name_that_does_not_matter_is_no_change() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let temporary = etc.write(folder, "/etc/passwd.new");
    assert_eq!(etc.run(100), nothing());
    etc.machine.rename(temporary, folder, "passwd-", 0);
    assert_eq!(etc.run(4000), nothing());
}

#[test]
fn a_rename_to_another_folder_is_followed_through_mounts() {
    let mut etc = Tree::new();
    let (folder, ssh, sshd) = (etc.etc, etc.ssh, etc.sshd);
    let temporary = etc.write(folder, "/etc/new");
    etc.machine.rename(temporary, ssh, "sshd_config", sshd);
    assert_eq!(etc.run(4000), only("/etc/ssh/sshd_config", Some("/etc/new")));
    // The other way round: the old folder has the names of the new one at its end.
    let inner = etc.machine.folder(ssh, "etc");
    let temporary = etc.write(inner, "/etc/ssh/etc/new");
    let passwd = etc.passwd;
    etc.machine.rename(temporary, folder, "passwd", passwd);
    assert_eq!(etc.run(4000), only("/etc/passwd", Some("/etc/ssh/etc/new")));
}

/// Its paths are those that it sees, and process 1 has others for them.
#[test]
fn a_file_of_a_container_is_renamed_in_its_folder() {
    let mut etc = Tree::new();
    let root = etc.machine.folder(0, "");
    let inside = etc.machine.folder(root, "etc");
    let temporary = etc.write(inside, "/etc/passwd+");
    let moved = etc.write(inside, "/etc/moved");
    for closing in &mut etc.machine.files.closings {
        closing.process = ProcessDescription::default().contained();
    }
    etc.machine.rename(temporary, inside, "passwd", 0);
    let elsewhere = etc.machine.folder(root, "srv");
    etc.machine.rename(moved, elsewhere, "moved", 0);
    let (mut closed, paths) = etc.run(4000);
    closed.sort();
    let expected = [
        ("/etc/moved".to_owned(), None),
        ("/etc/passwd".to_owned(), Some("/etc/passwd+".to_owned())),
    ];
    assert_eq!((closed.as_slice(), paths.len()), (&expected[..], 0));
}

#[test]
fn a_file_with_several_names_keeps_the_one_that_it_was_opened_by() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let file = etc.write(folder, "/etc/fstab");
    let inode = etc.machine.inode_of(file);
    for at in 0..2 {
        etc.machine.name(folder, &format!("link{at}"), inode);
    }
    assert_eq!(etc.run(300).0, only("/etc/fstab", None).0);
}

/// Memory that a guest has made up.
#[test]
fn names_that_lead_in_circles_delay_a_record_by_no_more_than_its_hashes_may() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let mut record = |broken: fn(&mut Tree, u64)| {
        let file = etc.write(folder, "/etc/fstab");
        broken(&mut etc, file);
        let before = etc.machine.memory.requests;
        assert_eq!(etc.run(2100).0, only("/etc/fstab", None).0);
        let requests = etc.machine.memory.requests - before;
        assert!(requests < 100 * 210, "{requests} requests in 210 scans");
    };
    // Its list of names.
    record(|etc, file| {
        let link = Sparse::field(file, "dentry", "d_u.d_alias.next");
        etc.machine.memory.set(file, "dentry", "d_u.d_alias.next", link);
        etc.machine.memory.set(file, "dentry", "d_name.len", 3);
    });
    // Its folders.
    record(|etc, file| {
        let inner = etc.machine.folder(file, "inner");
        etc.machine.memory.set(file, "dentry", "d_parent", inner);
    });
    // A name of another file, and no memory at all.
    record(|etc, file| {
        let inode = etc.machine.inode_of(file);
        let other = Sparse::field(etc.passwd, "dentry", "d_u.d_alias.next");
        etc.machine.memory.set(inode, "inode", "i_dentry.first", other);
    });
    record(|etc, file| {
        let inode = etc.machine.inode_of(file);
        etc.machine.memory.set(inode, "inode", "i_dentry.first", 0xffff_8880_7fff_fff8);
    });
}

/// A machine that stands still in the middle of a rename.
#[test]
fn a_name_that_just_changes_is_read_again() {
    let mut etc = Tree::new();
    let (folder, passwd) = (etc.etc, etc.passwd);
    let temporary = etc.write(folder, "/etc/passwd+");
    etc.machine.memory.set(temporary, "dentry", "d_seq", 1);
    assert_eq!(etc.run(1000), nothing());
    etc.machine.memory.set(temporary, "dentry", "d_seq", 2);
    etc.machine.rename(temporary, folder, "passwd", passwd);
    assert_eq!(etc.run(3000), only("/etc/passwd", Some("/etc/passwd+")));
}

#[test]
fn a_machine_whose_clock_stands_still_delays_a_record_by_no_more_than_its_hashes_may() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    etc.machine.is_still = true;
    etc.write(folder, "/etc/fstab");
    assert_eq!(etc.run(1900), nothing());
    assert_eq!(etc.run(200), only("/etc/fstab", None));
}

#[test]
fn who_renames_again_and_again_delays_a_record_by_no_more_than_its_hashes_may() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let file = etc.write(folder, "/etc/new");
    let mut closed = Vec::new();
    for at in 0..23 {
        closed.extend(etc.run(100).0);
        etc.machine.rename(file, folder, &format!("new{at}"), 0);
    }
    assert_eq!(closed.len(), 1, "{closed:?}");
    assert_eq!(closed[0].1.as_deref(), Some("/etc/new"));
}

#[test]
fn changes_that_wait_when_watching_ends_are_reported() {
    let mut etc = Tree::new();
    let (folder, passwd) = (etc.etc, etc.passwd);
    let temporary = etc.write(folder, "/etc/passwd+");
    etc.machine.rename(temporary, folder, "passwd", passwd);
    assert_eq!(etc.run(50), nothing());
    assert_eq!(etc.machine.finish(), ["/etc/passwd"]);
    assert_eq!(etc.machine.finish().len(), 0);
}

/// No scan has seen a descriptor.
#[test]
fn a_changed_path_that_is_renamed_while_it_waits_has_its_last_name() {
    let mut etc = Tree::new();
    let (folder, passwd) = (etc.etc, etc.passwd);
    let inode = etc.machine.inode(mode::S_IFREG, 9, etc.machine.seconds());
    let temporary = etc.machine.name(folder, "passwd+", inode);
    // A sweep comes to the old name.
    etc.await_change();
    etc.machine.rename(temporary, folder, "passwd", passwd);
    assert_eq!(etc.run(3000), (vec![], vec!["/etc/passwd".to_owned()]));
    assert_eq!(etc.machine.previous, [Some("/etc/passwd+".to_owned())]);
    assert_eq!(etc.run(3000), nothing());
    // One that becomes a copy which nobody reads, and one that is gone.
    for (name, links) in [("passwd-", 1), ("passwd.new", 0)] {
        let inode = etc.machine.inode(mode::S_IFREG, 9, etc.machine.seconds());
        let temporary = etc.machine.name(folder, "temporary", inode);
        etc.await_change();
        etc.machine.rename(temporary, folder, name, 0);
        etc.machine.memory.set(inode, "inode", "i_nlink", links);
        assert_eq!(etc.run(3000), nothing(), "{name}");
    }
}

/// No scan has seen a descriptor, and sweeps have seen the name that does not matter.
#[test]
fn a_new_name_of_a_file_that_did_not_matter_is_a_changed_path() {
    let mut etc = Tree::new();
    let folder = etc.etc;
    let inode = etc.machine.inode(mode::S_IFREG, 9, etc.machine.seconds());
    let hidden = etc.machine.name(folder, ".#x", inode);
    assert_eq!(etc.run(3000), nothing());
    etc.machine.rename(hidden, folder, "cron.allow", 0);
    assert_eq!(etc.run(3000), (vec![], vec!["/etc/cron.allow".to_owned()]));
    // It had a name by which it matters, for a moment.
    let inode = etc.machine.inode(mode::S_IFREG, 9, etc.machine.seconds());
    let hidden = etc.machine.name(folder, "x", inode);
    etc.await_change();
    etc.machine.rename(hidden, folder, ".#x", 0);
    assert_eq!(etc.run(3000), nothing());
    etc.machine.rename(hidden, folder, "cron.deny", 0);
    assert_eq!(etc.run(3000), (vec![], vec!["/etc/cron.deny".to_owned()]));
}

/// Shadow's tools, PAM, crontab, sed, rsync, git, dpkg-divert, rpm, ucf, systemd, emacs, and what
/// libraries of Go, Rust, Python and Node write.
#[test]
fn files_of_all_ways_to_write_are_one_record_each() {
    const WAYS: [&str; 22] = [
        "group+",
        "nshadow",
        "tmp.w9xTVZ",
        "sedJu1sqd",
        ".motd.Xy12ab",
        "hosts.lock",
        "f.dpkg-tmp",
        "f.dpkg-new",
        "f;5f3a1c20",
        "f.ucf-new",
        ".#hostname4f1c09ab",
        "#motd#",
        ".hosts123456",
        "hosts.tmp-123",
        ".tmpab12cd",
        ".tmp123456789",
        "tmpab12cd34",
        "hosts.12345.tmp",
        "hosts.1234567890",
        "hosts.new",
        "hosts~",
        "4913",
    ];
    let mut etc = Tree::new();
    let ssh = etc.ssh;
    let mut old = |at| etc.machine.dentry(ssh, &format!("file{at:02}"), mode::S_IFREG, 4);
    let before: Vec<u64> = (0..WAYS.len()).map(&mut old).collect();
    assert_eq!(etc.run(1500), nothing());
    for (at, temporary) in WAYS.iter().enumerate() {
        let written = etc.write(ssh, &format!("/etc/ssh/{temporary}"));
        etc.machine.rename(written, ssh, &format!("file{at:02}"), before[at]);
    }
    let (closed, paths) = etc.run(5000);
    let mut closed: Vec<_> = closed.into_iter().map(|(path, _)| path).collect();
    closed.sort();
    let expected: Vec<_> = (0..WAYS.len()).map(|at| format!("/etc/ssh/file{at:02}")).collect();
    assert_eq!((closed, paths), (expected, vec![]));
}

#[test]
fn paths_are_split_and_compared_by_folders() {
    assert_eq!(split(b"/etc/passwd"), (&b"/etc"[..], &b"passwd"[..]));
    assert_eq!(split(b"/vmlinuz"), (&b""[..], &b"vmlinuz"[..]));
    assert_eq!(split(b""), (&b""[..], &b""[..]));
    assert_eq!(common_folders(b"/etc/ssh/a", b"/etc/ssh/b"), 3);
    assert_eq!(common_folders(b"/etc/a", b"/etc/ssh/b"), 2);
    assert_eq!(common_folders(b"/etc/a", b"/srv/b"), 1);
}
