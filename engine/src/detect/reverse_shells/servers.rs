//! Login servers: those of the operating system, and those that the configuration names.
//!
//! A server is recognised by its file's name only where root alone could have put the file.

use super::rows::{line, name_of};
use crate::container_config::Glob;
use crate::path::{DELETED, PathBuffer, write_path};
use crate::state::process::ProcessKey;
use crate::state::{MachineState, ScanContext};
use crate::time::Monotonic;
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
/// Names of those that serve a terminal over datagrams.
const DATAGRAM_SERVERS: &[&[u8]] = &[b"mosh-server"];
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

/// A scan, and what the state remembers of its processes.
///
/// A process that ends releases its memory before its descriptors (`do_exit`, kernel/exit.c): in
/// between, only the state knows which program it ran.
#[derive(Clone, Copy)]
pub(super) struct KnownProcesses<'a> {
    pub(super) cx: &'a ScanContext<'a>,
    pub(super) state: &'a MachineState,
}

/// The program of a process that has released its memory.
struct RememberedProgram<'a> {
    path: &'a [u8],
    line: &'a [u8],
}

impl<'a> KnownProcesses<'a> {
    /// Whether a process is a login server of the system.
    pub(super) fn serves_logins(&self, process: &ProcessRow, buffer: &mut PathBuffer) -> bool {
        self.runs(process, buffer, is_server)
    }

    /// Whether a process is a login server of the system that uses datagrams.
    pub(super) fn serves_datagram_logins(
        &self,
        process: &ProcessRow,
        buffer: &mut PathBuffer,
    ) -> bool {
        self.runs(process, buffer, |name, _| DATAGRAM_SERVERS.contains(&name))
    }

    /// Whether a process is the system's terminal multiplexer that keeps pairs of sockets with the
    /// commands it runs.
    pub(super) fn multiplexes(&self, process: &ProcessRow, buffer: &mut PathBuffer) -> bool {
        self.runs(process, buffer, |name, _| name == b"tmux")
    }

    /// Whether a process runs a program of the system with such a name and command line.
    fn runs(
        &self,
        process: &ProcessRow,
        buffer: &mut PathBuffer,
        is_it: impl Fn(&[u8], &[u8]) -> bool,
    ) -> bool {
        let snapshot = self.cx.snapshot;
        if process.mm.is_some() {
            let line = line(snapshot, process).unwrap_or_default();
            return is_it(name_of(snapshot, process), line)
                && is_the_systems(snapshot, process, buffer);
        }
        self.remembered(process).is_some_and(|program| {
            let start = program.path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
            is_it(&program.path[start..], program.line) && is_in_folder(program.path)
        })
    }

    /// Whether a process is a server that the configuration names by its path.
    pub(super) fn is_named(
        &self,
        named: &[Glob],
        process: &ProcessRow,
        buffer: &mut PathBuffer,
    ) -> bool {
        let snapshot = self.cx.snapshot;
        if process.mm.is_some() || named.is_empty() || !snapshot.shares_first_mounts(process) {
            return is_named(named, snapshot, process, buffer);
        }
        let program = self.remembered(process);
        program.is_some_and(|program| named.iter().any(|glob| glob.matches(program.path)))
    }

    /// When a process was first seen, if it has released its memory before any scan has shown which
    /// program it ran.
    pub(super) fn ends_unseen_since(&self, process: &ProcessRow) -> Option<Monotonic> {
        if process.mm.is_some() {
            return None;
        }
        let task = &self.cx.snapshot.leader(process)?.task;
        let known = self.state.find(&ProcessKey::of(task))?;
        known.facts(self.cx.strings).executable.is_none().then_some(known.first_seen)
    }

    /// The program that a process ran, if the file belongs to root and nobody else can write to it.
    fn remembered(&self, process: &ProcessRow) -> Option<RememberedProgram<'a>> {
        let task = &self.cx.snapshot.leader(process)?.task;
        let known = self.state.find(&ProcessKey::of(task))?;
        let facts = known.facts(self.cx.strings);
        let path = facts.executable.filter(|_| known.ran_file_put_by_root())?;
        let path = path.strip_suffix(DELETED).unwrap_or(path);
        Some(RememberedProgram { path, line: facts.command_line.unwrap_or_default() })
    }
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
fn is_server(name: &[u8], line: &[u8]) -> bool {
    SERVERS.contains(&name) || BOXES.contains(&name) && is_applet(line)
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
    write_path(snapshot, file.path, buffer).ok().filter(|_| is_roots)?;
    Some(buffer.text())
}
