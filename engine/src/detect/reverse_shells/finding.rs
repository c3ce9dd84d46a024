//! The report of a reverse shell: its processes in order, their objects that belong to the chain,
//! and the paths.

use core::ops::Range;

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::sock::Endpoints;

use super::direction::ConnectionDirection;
use super::graph::{ChannelEnd, is_in_memory, is_of_memory, object_of};
use super::interpreter::Interpreter;
use super::judge::Reason;
use super::rows::{holds, line_of};
use super::search::{GraphSearch, HOLDER_DEPTH_MAX, Hop};
use super::{ReverseShells, Shell, ShellCandidate};
use crate::detect::{Acceptance, DetectorContext, Finding};
use crate::state::facts::{ConnectionFacts, DescriptorFacts, FileName, ProcessFacts};
use crate::state::process::Process;
use crate::state::{Limit, MachineState};
use crate::time::RealTime;
use crate::walk::{DescriptorRow, FileRow, FilesRow, Index, ProcessRow, Snapshot};

/// Maximum number of processes of a chain in a report.
pub const MEMBERS_MAX: usize = 16;
const _: () = assert!((HOLDER_DEPTH_MAX as usize) < MEMBERS_MAX, "a report has a whole path");
/// Maximum number of descriptors, in total and per process.
pub const DESCRIPTORS_MAX: usize = 64;
const DESCRIPTORS_OF_ONE: usize = 8;
const _: () = assert!(DESCRIPTORS_OF_ONE < DESCRIPTORS_MAX, "one process leaves room for others");
/// Maximum number of connections, in total.
pub const CONNECTIONS_MAX: usize = 24;
/// Maximum number of ends of pipes, pairs and connections in a chain.
const OBJECTS_MAX: usize = 64;
/// Maximum length of all descriptors' names, in bytes.
pub(super) const NAMES_BYTES: usize = 16 * 1024;

/// An interpreter that a peer can command.
#[derive(Clone, Copy, Debug)]
pub struct ReverseShell<'a> {
    pub reason: Reason,
    pub direction: ConnectionDirection,
    /// The connection to the peer.
    pub end: ConnectionEnd,
    /// The connection that the interpreter's output goes to, if it is another one to the same peer.
    pub out_end: Option<ConnectionEnd>,
    pub interpreter: Interpreter,
    /// Whether what comes over the connection goes to a login server of this machine, as it comes:
    /// the peer has to log in.
    pub is_tunnel: bool,
    /// When the reason first applied, and in how many scans since.
    pub since_ns: RealTime,
    /// See [`Self::since_ns`].
    pub scans: u32,
    /// The processes, from the holder of the connection to the interpreter.
    pub members: &'a [ChainMember<'a>],
    /// Whether there are more processes.
    pub is_cut: bool,
    /// The path of commands, from the connection to the interpreter.
    pub inward: &'a [ChainStep],
    /// The path of output, from the interpreter to the connection.
    pub outward: &'a [ChainStep],
}

/// The local end of a connection.
#[derive(Clone, Copy, Debug)]
pub enum ConnectionEnd {
    Connection(ConnectionFacts),
    /// An end of another protocol, with the protocol's number (`IPPROTO_*`).
    Datagram(Endpoints, u16),
}

/// A process of the chain.
#[derive(Clone, Copy, Debug)]
pub struct ChainMember<'a> {
    pub process: ProcessFacts<'a>,
    /// Its descriptors that belong to the chain.
    pub descriptors: &'a [DescriptorFacts<'a>],
    /// Its connections that belong to the chain.
    pub connections: &'a [MemberConnection],
    /// Whether there are more of either.
    pub is_cut: bool,
}

/// A connection of a process of the chain.
#[derive(Clone, Copy, Debug)]
pub struct MemberConnection {
    pub facts: ConnectionFacts,
    /// When it was first seen, if it is tracked.
    pub first_seen_ns: Option<RealTime>,
}

/// One process of a path, and the link to the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChainStep {
    /// Index in [`ReverseShell::members`].
    pub member: usize,
    /// The link, or `None` at the end of the path.
    pub through: Option<ProcessLink>,
}

/// A link between two processes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProcessLink {
    /// Inode number of a pipe or FIFO.
    Pipe(u64),
    /// A pair of AF_UNIX sockets.
    Unix,
    /// Number of a pseudoterminal.
    Terminal(u32),
    /// A connection within the machine.
    Connection,
    /// Inode number of a regular file that one writes and the other reads.
    File(u64),
    /// A System V message queue.
    Queue {
        /// The number that users have.
        id: u32,
        /// Whether several scans have shown messages of one of the two to the other.
        is_sure: bool,
    },
    /// Memory that both map.
    Memory {
        /// Its inode number.
        number: u64,
        /// Whether it is that of a file on a disk, as databases map them.
        is_on_disk: bool,
        /// Whether both have one counter for events.
        has_events: bool,
    },
}

/// A process while the report is built.
#[derive(Clone, Copy, Debug)]
struct ChainProcess {
    process: Index<ProcessRow>,
    table: Index<FilesRow>,
}

type ChainProcesses = ArrayVec<ChainProcess, MEMBERS_MAX>;
type Objects = ArrayVec<ChannelEnd, OBJECTS_MAX>;

impl ReverseShells {
    /// Reports a connection and the interpreter that its peer commands. Returns `false` if that
    /// must wait, because a process of the chain has not been reported yet, or because there is no
    /// room for the record.
    pub(super) fn report(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: &Shell<'_>,
        candidate: &ShellCandidate,
    ) -> bool {
        let snapshot = shell.snapshot;
        let (parts, is_cut) = self.parts(shell, candidate);
        let objects = self.objects(snapshot, candidate);
        let Some(known) = processes_of(state, &parts) else { return false };
        self.name_descriptors(snapshot, &parts, &objects);
        let held = ChainHoldings::of(snapshot, state, &parts, &objects, &self.names);
        let mut members = ArrayVec::<ChainMember<'_>, MEMBERS_MAX>::new();
        for (process, (descriptors, connections, is_cut)) in known.iter().zip(&held.ranges) {
            members.push(ChainMember {
                process: process
                    .map(|process| process.facts(context.cx.strings))
                    .unwrap_or_default(),
                descriptors: &held.descriptors[descriptors.clone()],
                connections: &held.connections[connections.clone()],
                is_cut: *is_cut,
            });
        }
        let inward = self.steps(shell, &parts, &self.inward, candidate.inward);
        let mut outward = self.steps(shell, &parts, &self.outward, candidate.outward);
        outward.reverse();
        turn(&mut outward);
        let Some(end) = end_of(snapshot, candidate.object) else { return true };
        let out_end = end_of(snapshot, candidate.out_object);
        let (Some(reason), Some(interpreter)) = (candidate.reason, shell.interpreter) else {
            return true;
        };
        let finding = ReverseShell {
            reason,
            direction: candidate.direction,
            end,
            out_end: out_end.filter(|_| candidate.object != candidate.out_object),
            interpreter,
            is_tunnel: candidate.is_tunnel,
            since_ns: candidate.seen.since_ns,
            scans: candidate.seen.scans,
            members: &members,
            is_cut,
            inward: &inward,
            outward: &outward,
        };
        context.found(&Finding::ReverseShell(&finding)) == Acceptance::Yes
    }

    /// The chain's processes: ancestors of the interpreter that hold the connection too, then those
    /// on the path of commands, then those only on the path of output, then the interpreter. Also
    /// returns whether there are more.
    fn parts(&self, shell: &Shell<'_>, candidate: &ShellCandidate) -> (ChainProcesses, bool) {
        let snapshot = shell.snapshot;
        let mut parts = ChainProcesses::new();
        let mut is_cut = false;
        let mut push = |process: Index<ProcessRow>, table: Index<FilesRow>| {
            // The last place is reserved for the interpreter.
            let is_new = !parts.iter().any(|part: &ChainProcess| part.process == process);
            if !is_new || process == shell.process {
                return;
            }
            if parts.len() + 1 < MEMBERS_MAX {
                parts.push(ChainProcess { process, table });
            } else {
                is_cut = true;
            }
        };
        let index = |row: *const ProcessRow| {
            let mut rows = snapshot.processes.indexed();
            rows.find(|&(_, process)| core::ptr::eq(process, row)).map(|(index, _)| index)
        };
        let mut line = ArrayVec::<(Index<ProcessRow>, Index<FilesRow>), MEMBERS_MAX>::new();
        for process in line_of(snapshot, shell.process).skip(1) {
            if holds(snapshot, process, candidate.object)
                && let (Some(at), Some(table)) = (index(process), process.files)
                && !line.is_full()
            {
                line.push((at, table));
            }
        }
        for &(process, table) in line.iter().rev() {
            push(process, table);
        }
        let inward = self.inward.path(candidate.inward);
        for hop in inward.chain(self.outward.path(candidate.outward)) {
            if let Some(process) = self.index_of(shell, hop.table) {
                push(process, hop.table);
            }
        }
        parts.push(ChainProcess { process: shell.process, table: shell.table });
        (parts, is_cut)
    }

    /// All ends of the pipes, pairs and connections of a chain.
    fn objects(&self, snapshot: &Snapshot, candidate: &ShellCandidate) -> Objects {
        let mut objects = Objects::new();
        let mut push = |object: ChannelEnd| {
            if !objects.contains(&object) && !objects.is_full() {
                objects.push(object);
            }
        };
        push(candidate.object);
        push(candidate.out_object);
        let ways = [(&self.inward, candidate.inward), (&self.outward, candidate.outward)];
        for (search, hop) in ways {
            for hop in search.path(hop) {
                push(hop.object);
                let inner = snapshot.descriptors.at(hop.inner);
                if let Some(object) = inner.and_then(|row| end_at(snapshot, row)) {
                    push(object);
                }
            }
        }
        objects
    }

    /// The processes of a path, from the connection to the interpreter.
    fn steps(
        &self,
        shell: &Shell<'_>,
        parts: &ChainProcesses,
        search: &GraphSearch,
        hop: Option<Index<Hop>>,
    ) -> ArrayVec<ChainStep, MEMBERS_MAX> {
        let mut steps = ArrayVec::new();
        let member = |table| parts.iter().rposition(|part| part.table == table);
        let mut path = search.path(hop).peekable();
        while let Some(hop) = path.next() {
            let through = path.peek().map(|inner| self.link_of(shell.snapshot, hop, inner));
            if let Some(member) = member(hop.table)
                && !steps.is_full()
            {
                steps.push(ChainStep { member, through });
            }
        }
        if hop.is_none()
            && let Some(member) = member(shell.table)
        {
            steps.push(ChainStep { member, through: None });
        }
        steps
    }

    /// The link between the processes of two hops.
    fn link_of(&self, snapshot: &Snapshot, outer: &Hop, inner: &Hop) -> ProcessLink {
        if let ChannelEnd::Queue(queue) = inner.object {
            let is_sure = self.graph.is_queue_sure(queue, outer.table, inner.table);
            return ProcessLink::Queue { id: queue.id, is_sure };
        }
        match through(snapshot, inner.object) {
            ProcessLink::Memory { number, is_on_disk, .. } => {
                let has_events = self.graph.share_eventfd(snapshot, outer.table, inner.table);
                ProcessLink::Memory { number, is_on_disk, has_events }
            }
            link => link,
        }
    }

    /// Writes the names of the chain's descriptors one after the other, each preceded by its
    /// length.
    fn name_descriptors(&mut self, snapshot: &Snapshot, parts: &[ChainProcess], objects: &Objects) {
        let (names, buffers) = (&mut self.names, &mut self.buffers);
        names.clear();
        for &part in parts {
            each_descriptor(snapshot, part, objects, |descriptor, _| {
                let facts = DescriptorFacts::read(snapshot, descriptor, &[], buffers);
                let text = match facts.name {
                    Some(FileName::Text(text)) => text,
                    _ => &[],
                };
                let room = names.capacity() - names.len();
                let text = if text.len() + 2 <= room { text } else { &[] };
                if room >= 2 {
                    names.extend_from_slice(&(text.len() as u16).to_le_bytes());
                    names.extend_from_slice(text);
                }
                true
            });
        }
    }
}

/// The processes of a chain as the state tracks them; `None` if that has to wait. A process that
/// was only just forked is tracked one scan later. A process without room in the state never is.
fn processes_of<'a>(
    state: &'a MachineState,
    parts: &[ChainProcess],
) -> Option<ArrayVec<Option<&'a Process>, MEMBERS_MAX>> {
    let mut known: ArrayVec<Option<&Process>, MEMBERS_MAX> = ArrayVec::new();
    known.extend(parts.iter().map(|_| None));
    for (_, process) in state.processes() {
        let place = parts.iter().position(|part| Some(part.process) == process.row());
        if let Some(known) = place.and_then(|place| known.get_mut(place)) {
            *known = Some(process);
        }
    }
    let has_room = state.usage(Limit::Processes).untracked == 0;
    (!has_room || known.iter().all(Option::is_some)).then_some(known)
}

/// What the processes of a chain hold of it.
#[derive(Default)]
struct ChainHoldings<'a> {
    descriptors: ArrayVec<DescriptorFacts<'a>, DESCRIPTORS_MAX>,
    connections: ArrayVec<MemberConnection, CONNECTIONS_MAX>,
    /// For each process, its range in both, and whether there is more.
    ranges: ArrayVec<(Range<usize>, Range<usize>, bool), MEMBERS_MAX>,
}

impl<'a> ChainHoldings<'a> {
    /// `names` are those that [`ReverseShells::name_descriptors`] wrote.
    fn of(
        snapshot: &'a Snapshot,
        state: &MachineState,
        parts: &[ChainProcess],
        objects: &Objects,
        names: &'a [u8],
    ) -> Self {
        let Self { mut descriptors, mut connections, mut ranges } = Self::default();
        let mut at = 0;
        for &part in parts {
            let starts = (descriptors.len(), connections.len());
            let is_cut = each_descriptor(snapshot, part, objects, |descriptor, threads| {
                if descriptors.is_full() {
                    return false;
                }
                let facts = DescriptorFacts::read_unnamed(snapshot, descriptor, threads);
                let name = next_name(names, &mut at);
                descriptors.push(DescriptorFacts { name: name.or(facts.name), ..facts });
                let file = snapshot.files.at(descriptor.file);
                let new =
                    file.and_then(|file| connection_of(snapshot, state, file, descriptor.index));
                let Some(new) = new else { return true };
                // Each once, by its lowest descriptor.
                if connections[starts.1..]
                    .iter()
                    .any(|seen: &MemberConnection| is_same(&seen.facts, &new.facts))
                {
                    return true;
                }
                connections.try_push(new).is_ok()
            });
            ranges.push((starts.0..descriptors.len(), starts.1..connections.len(), is_cut));
        }
        Self { descriptors, connections, ranges }
    }
}

/// The local end of a connection.
pub(super) fn end_of(snapshot: &Snapshot, object: ChannelEnd) -> Option<ConnectionEnd> {
    match object {
        ChannelEnd::Connection(at) => {
            let row = snapshot.connections.at(at)?;
            Some(ConnectionEnd::Connection(ConnectionFacts::read(snapshot, row, None)))
        }
        ChannelEnd::Datagram(at) | ChannelEnd::AnyPeer(at) => {
            let row = snapshot.sockets.at(at)?;
            Some(ConnectionEnd::Datagram(row.endpoints?, row.protocol))
        }
        _ => None,
    }
}

/// The connection of an open file, in the form of a descriptor's.
fn connection_of(
    snapshot: &Snapshot,
    state: &MachineState,
    file: &FileRow,
    descriptor: u32,
) -> Option<MemberConnection> {
    let facts = if let Some(row) = snapshot.connections.at(file.connection) {
        ConnectionFacts::read(snapshot, row, Some(descriptor))
    } else {
        let socket = snapshot.sockets.at(file.socket)?;
        ConnectionFacts::read_datagram(snapshot, socket, Some(descriptor))?
    };
    let first_seen_ns = file.connection.and_then(|connection| state.first_seen_ns(connection));
    Some(MemberConnection { facts, first_seen_ns })
}

fn is_same(one: &ConnectionFacts, other: &ConnectionFacts) -> bool {
    let ends = |facts: &ConnectionFacts| {
        (facts.source, facts.source_port, facts.destination, facts.destination_port)
    };
    ends(one) == ends(other) && one.network_namespace == other.network_namespace
}

/// The next name that [`ReverseShells::name_descriptors`] wrote.
fn next_name<'a>(names: &'a [u8], at: &mut usize) -> Option<FileName<'a>> {
    let length = names.get(*at..*at + 2)?;
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    let text = names.get(*at + 2..*at + 2 + length)?;
    *at += 2 + length;
    (!text.is_empty()).then_some(FileName::Text(text))
}

/// Passes a process's descriptors that belong to a chain, and its table's threads, to `take`, which
/// returns whether it had room. Returns whether any were left out.
fn each_descriptor<'a>(
    snapshot: &'a Snapshot,
    part: ChainProcess,
    objects: &Objects,
    mut take: impl FnMut(&'a DescriptorRow, &'a [u32]) -> bool,
) -> bool {
    let Some(table) = snapshot.files_structs.at(part.table) else { return false };
    let threads = snapshot.files_threads.range(table.threads);
    let belongs = |end: ChannelEnd| {
        objects.iter().any(|&object| object == end || is_of_memory(snapshot, end, object))
    };
    let rows = snapshot.descriptors_of(part.table);
    let mut rows = rows.filter(|row| end_at(snapshot, row).is_some_and(belongs));
    let mut had_room = true;
    for row in rows.by_ref().take(DESCRIPTORS_OF_ONE) {
        had_room &= take(row, threads);
    }
    !had_room || rows.next().is_some()
}

/// What a descriptor of a chain leads to, which may be a regular file.
fn end_at(snapshot: &Snapshot, row: &DescriptorRow) -> Option<ChannelEnd> {
    object_of(snapshot, row.file).or_else(|| row.file.map(ChannelEnd::File))
}

/// Corrects the links of a reversed path: a link belongs to the process that writes to it.
fn turn(steps: &mut ArrayVec<ChainStep, MEMBERS_MAX>) {
    for at in 0..steps.len() {
        steps[at].through = steps.get(at + 1).and_then(|next| next.through);
    }
}

pub(super) fn through(snapshot: &Snapshot, object: ChannelEnd) -> ProcessLink {
    match object {
        ChannelEnd::Pipe(inode) => {
            ProcessLink::Pipe(snapshot.inodes.at(inode).map_or(0, |row| row.attributes.ino))
        }
        ChannelEnd::File(file) => {
            let inode = snapshot.files.at(file).and_then(|row| snapshot.inodes.at(row.inode));
            ProcessLink::File(inode.map_or(0, |row| row.attributes.ino))
        }
        ChannelEnd::Memory(inode) => {
            let number = snapshot.inodes.at(inode).map_or(0, |row| row.attributes.ino);
            let is_on_disk = !is_in_memory(snapshot, inode);
            ProcessLink::Memory { number, is_on_disk, has_events: false }
        }
        ChannelEnd::Queue(queue) => ProcessLink::Queue { id: queue.id, is_sure: false },
        ChannelEnd::Unix(_) => ProcessLink::Unix,
        ChannelEnd::Terminal(at) => {
            let row = snapshot.terminals.at(at);
            ProcessLink::Terminal(row.map_or(0, |row| row.number))
        }
        ChannelEnd::Connection(_) | ChannelEnd::Datagram(_) | ChannelEnd::AnyPeer(_) => {
            ProcessLink::Connection
        }
    }
}
