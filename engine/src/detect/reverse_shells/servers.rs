//! Login servers: those of the operating system, and those that the configuration names.
//!
//! A server is recognised by its file's name only where root alone could have put the file.

use super::rows::{line, name_of};
use crate::container_config::Glob;
use crate::path::{PathBuffer, write_path};
use crate::walk::{ProcessRow, Snapshot};

/// Names of their files.
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
/// Applet names in multi-call binaries.
const APPLETS: &[&[u8]] = &[b"telnetd", b"sshd"];
const BOXES: &[&[u8]] = &[b"busybox", b"toybox", b"busybox-static"];

/// Names of clients that pass a peer's connections on (`ssh -R`).
const CLIENTS: &[&[u8]] = &[b"ssh", b"dbclient"];

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

pub(super) fn serves_logins(
    snapshot: &Snapshot,
    process: &ProcessRow,
    buffer: &mut PathBuffer,
) -> bool {
    let line = || line(snapshot, process).unwrap_or_default();
    is_server(name_of(snapshot, process), line) && is_the_systems(snapshot, process, buffer)
}

/// Whether a process is the system's client for logins elsewhere. In a container, any user may be
/// root.
pub(super) fn is_client(
    snapshot: &Snapshot,
    process: &ProcessRow,
    buffer: &mut PathBuffer,
) -> bool {
    CLIENTS.contains(&name_of(snapshot, process))
        && snapshot.shares_first_mounts(process)
        && is_the_systems(snapshot, process, buffer)
}

/// Whether a program with this name is a login server; `line` is its command line.
fn is_server<'a>(name: &[u8], line: impl FnOnce() -> &'a [u8]) -> bool {
    SERVERS.contains(&name) || BOXES.contains(&name) && is_applet(line())
}

fn is_applet(line: &[u8]) -> bool {
    let mut arguments = line.split(|&byte| byte == 0);
    let mut next = || {
        let argument = arguments.next().unwrap_or_default();
        let start = argument.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        &argument[start..]
    };
    let first = next();
    APPLETS.contains(&first) || BOXES.contains(&first) && APPLETS.contains(&next())
}

/// Whether a process is a server that the configuration names by its path. The process must see the
/// same paths as the machine's first process: elsewhere any user may be root, or mount one file
/// over another.
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

/// Whether a process executes a file of root's in a system directory.
fn is_the_systems(snapshot: &Snapshot, process: &ProcessRow, buffer: &mut PathBuffer) -> bool {
    path_of_roots(snapshot, process, buffer).is_some_and(is_in_folder)
}

fn is_in_folder(path: &[u8]) -> bool {
    FOLDERS.iter().any(|folder| path.starts_with(folder))
}

/// The path of a process's executable, if it belongs to root and nobody else can write to it.
fn path_of_roots<'b>(
    snapshot: &Snapshot,
    process: &ProcessRow,
    buffer: &'b mut PathBuffer,
) -> Option<&'b [u8]> {
    let file = snapshot.mms.at(process.mm).and_then(|mm| snapshot.files.at(mm.exe_file))?;
    let is_roots = snapshot.is_put_by_root(file);
    // An upgrade replaces the file of running sessions, so a deleted file counts.
    write_path(snapshot, file.path, buffer).filter(|_| is_roots)?;
    Some(buffer.text())
}
