//! Queries of a scan's rows: a process's ancestors, its program, and the objects that it holds.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::sock::TcpCounters;

use super::graph::{ChannelEnd, object_of};
use super::interpreter;
use crate::state::process::ProcessKey;
use crate::walk::{DentryRow, Index, PathRef, ProcessRow, Snapshot};

/// Maximum number of generations in which a connection's first holder is searched.
const HOLDER_GENERATIONS_MAX: usize = 16;

/// A process and its ancestors, up to the limit.
pub(super) fn line_of(
    snapshot: &Snapshot,
    process: Index<ProcessRow>,
) -> impl Iterator<Item = &ProcessRow> {
    let mut at = snapshot.processes.at(process);
    (0..HOLDER_GENERATIONS_MAX).map_while(move |_| {
        let this = at?;
        at = parent_of(snapshot, this);
        Some(this)
    })
}

/// The parent of a process. `init_task` does not count.
pub(super) fn parent_of<'a>(
    snapshot: &'a Snapshot,
    process: &ProcessRow,
) -> Option<&'a ProcessRow> {
    (process.parent_pid != 0).then(|| snapshot.process_by_pid(process.parent_pid)).flatten()
}

/// The process with this key, if it has not ended.
pub(super) fn process_of_key<'a>(
    snapshot: &'a Snapshot,
    key: &ProcessKey,
) -> Option<&'a ProcessRow> {
    let process = snapshot.process_by_pid(key.process_id)?;
    let task = &snapshot.leader(process)?.task;
    (ProcessKey::of(task) == *key && task.exit_state == 0).then_some(process)
}

/// `struct inode *` of the file that a process executes.
pub(super) fn program_of(snapshot: &Snapshot, process: &ProcessRow) -> Option<KernelVa> {
    let file = snapshot.files.at(snapshot.mms.at(process.mm)?.exe_file)?;
    Some(file.open.inode).filter(|inode| !inode.is_null())
}

/// Whether a descriptor of a process's table, or a slot of its rings, leads to an object.
pub(super) fn holds(snapshot: &Snapshot, process: &ProcessRow, object: ChannelEnd) -> bool {
    let mut rows = process.files.into_iter().flat_map(|table| snapshot.descriptors_of(table));
    rows.any(|row| object_of(snapshot, row.file) == Some(object))
}

/// Whether an object is a process's standard input, output or error.
pub(super) fn holds_at_stdio(
    snapshot: &Snapshot,
    process: &ProcessRow,
    object: ChannelEnd,
) -> bool {
    let rows = process.files.into_iter().flat_map(|table| snapshot.descriptors_of(table));
    // Descriptors are in ascending order.
    rows.take_while(|row| row.index < 3).any(|row| object_of(snapshot, row.file) == Some(object))
}

/// What was counted of a connection.
pub(super) fn counters_of(snapshot: &Snapshot, object: ChannelEnd) -> Option<TcpCounters> {
    let ChannelEnd::Connection(at) = object else { return None };
    snapshot.connections.at(at)?.counters
}

/// The name of a process's program, if it is short enough to be a known one. Where the dynamic
/// loader was started, it is that of the program that the loader was given.
pub(super) fn name_of<'a>(snapshot: &'a Snapshot, process: &ProcessRow) -> &'a [u8] {
    let name = name_of_file(snapshot, process);
    let loaded = || interpreter::loaded(name, whole_line(snapshot, process)?);
    loaded().map_or(name, |(name, _)| name)
}

/// The name of a process's file, as [`short_name`].
fn name_of_file<'a>(snapshot: &'a Snapshot, process: &ProcessRow) -> &'a [u8] {
    let file = snapshot.mms.at(process.mm).and_then(|mm| snapshot.files.at(mm.exe_file));
    file.and_then(|file| short_name(snapshot, file.path)).unwrap_or_default()
}

/// A file's name without its directories, if it is short enough for the kernel to keep it inline.
pub(super) fn short_name(snapshot: &Snapshot, path: PathRef) -> Option<&[u8]> {
    let row: &DentryRow = snapshot.dentries.at(path.dentry)?;
    let is_short = row.readable && row.name.long_name.is_null();
    is_short.then(|| row.text.get(..row.name.length as usize)).flatten()
}

/// The command line of a process's program, without the dynamic loader's part.
pub(super) fn line<'a>(snapshot: &'a Snapshot, process: &ProcessRow) -> Option<&'a [u8]> {
    let line = whole_line(snapshot, process)?;
    let loaded = interpreter::loaded(name_of_file(snapshot, process), line);
    Some(loaded.map_or(line, |(_, line)| line))
}

fn whole_line<'a>(snapshot: &'a Snapshot, process: &ProcessRow) -> Option<&'a [u8]> {
    let mm = snapshot.mms.at(process.mm)?;
    let text = snapshot.text(mm.command_line);
    (mm.has_command_line && !text.is_empty()).then_some(text)
}

/// Programs that only relay bytes: what they pass to a shell is not a script with an end. The names
/// only make detection faster.
const RELAYS: &[&[u8]] =
    &[b"socat", b"socat1", b"nc", b"ncat", b"nc.openbsd", b"nc.traditional", b"netcat", b"telnet"];

pub(super) fn is_relay(name: &[u8]) -> bool {
    RELAYS.contains(&name)
}

pub(super) fn runs_its_argument(snapshot: &Snapshot, process: &ProcessRow) -> bool {
    interpreter::runs_its_argument(name_of(snapshot, process), line(snapshot, process))
}
