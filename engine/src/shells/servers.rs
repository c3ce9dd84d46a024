//! Servers whose purpose it is to give logins.
//!
//! They are known by their file's name only where nobody but root could have put it there.

use panoptes_decoders::kernel::inode::mode;

use super::rows::{line, name_of};
use crate::path::{PathBuffer, write_path};
use crate::walk::{ProcessRow, Snapshot};

/// By their files' names.
const SERVERS: &[&[u8]] = &[
    b"sshd",
    b"sshd-session",
    b"sshd-auth",
    b"dropbear",
    b"dropbearmulti",
    b"telnetd",
    b"in.telnetd",
    b"utelnetd",
    b"in.rlogind",
    b"in.rshd",
    b"rlogind",
    b"rshd",
];
/// By what a program that is many was called by.
const APPLETS: &[&[u8]] = &[b"telnetd", b"sshd"];
const BOXES: &[&[u8]] = &[b"busybox", b"toybox", b"busybox-static"];

/// Where systems keep their programs.
const FOLDERS: &[&[u8]] = &[
    b"/usr/sbin/",
    b"/usr/bin/",
    b"/sbin/",
    b"/bin/",
    b"/usr/lib/",
    b"/usr/libexec/",
    b"/usr/local/sbin/",
    b"/usr/local/bin/",
    b"/usr/local/lib/",
    b"/usr/local/libexec/",
    b"/nix/store/",
];

/// Whether a process is a server of logins.
pub(super) fn serves_logins(
    snapshot: &Snapshot,
    process: &ProcessRow,
    buffer: &mut PathBuffer,
) -> bool {
    let name = name_of(snapshot, process);
    let is_known = SERVERS.contains(&name) || BOXES.contains(&name) && is_applet(snapshot, process);
    is_known && is_the_systems(snapshot, process, buffer)
}

fn is_applet(snapshot: &Snapshot, process: &ProcessRow) -> bool {
    let mut arguments = line(snapshot, process).unwrap_or_default().split(|&byte| byte == 0);
    let mut next = || {
        let argument = arguments.next().unwrap_or_default();
        let start = argument.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        &argument[start..]
    };
    let first = next();
    APPLETS.contains(&first) || BOXES.contains(&first) && APPLETS.contains(&next())
}

/// Whether a process executes a file of root's that nobody else may write, from where systems keep their programs.
fn is_the_systems(snapshot: &Snapshot, process: &ProcessRow, buffer: &mut PathBuffer) -> bool {
    let file = snapshot.mms.at(process.mm).and_then(|mm| snapshot.files.at(mm.exe_file));
    let Some(file) = file else { return false };
    let Some(inode) = snapshot.inodes.at(file.inode) else { return false };
    let attributes = &inode.attributes;
    let is_roots = attributes.uid == 0
        && attributes.mode & 0o022 == 0
        && attributes.mode & mode::S_IFMT == mode::S_IFREG;
    // An upgrade replaces the file of sessions that go on, so a deleted one counts.
    is_roots
        && write_path(snapshot, file.path, buffer).is_some()
        && FOLDERS.iter().any(|folder| buffer.text().starts_with(folder))
}
