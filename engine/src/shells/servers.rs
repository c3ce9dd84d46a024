//! Servers whose purpose it is to give logins: those that every system has, and those that the user names.
//!
//! They are known by their file's name only where nobody but root could have put it there.

use panoptes_decoders::kernel::inode::mode;

use super::rows::{line, name_of};
use crate::containers::Glob;
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

/// Whether a process is a server that the user names by its path, where the machine's first process sees the same paths:
/// elsewhere anybody may be root, or mount one file over another.
pub(super) fn is_named(
    named: &[Glob],
    snapshot: &Snapshot,
    process: &ProcessRow,
    buffer: &mut PathBuffer,
) -> bool {
    if named.is_empty() || !snapshot.shares_first_mounts(process) {
        return false;
    }
    let path = path_of_roots(snapshot, process, buffer);
    path.is_some_and(|path| named.iter().any(|glob| glob.matches(path)))
}

/// Whether a process executes a file of root's from where systems keep their programs.
fn is_the_systems(snapshot: &Snapshot, process: &ProcessRow, buffer: &mut PathBuffer) -> bool {
    path_of_roots(snapshot, process, buffer)
        .is_some_and(|path| FOLDERS.iter().any(|folder| path.starts_with(folder)))
}

/// The path of what a process executes, if that is a file of root's that nobody else may write.
fn path_of_roots<'b>(
    snapshot: &Snapshot,
    process: &ProcessRow,
    buffer: &'b mut PathBuffer,
) -> Option<&'b [u8]> {
    let file = snapshot.mms.at(process.mm).and_then(|mm| snapshot.files.at(mm.exe_file))?;
    let attributes = &snapshot.inodes.at(file.inode)?.attributes;
    let is_roots = attributes.uid == 0
        && attributes.mode & 0o022 == 0
        && attributes.mode & mode::S_IFMT == mode::S_IFREG;
    // An upgrade replaces the file of sessions that go on, so a deleted one counts.
    write_path(snapshot, file.path, buffer).filter(|_| is_roots)?;
    Some(buffer.text())
}
