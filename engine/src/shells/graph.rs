//! How bytes can get from one process to another: which processes hold the ends of which pipes,
//! socket pairs, pseudoterminals and connections.
//!
//! [`Graph::build`] indexes a scan's descriptors. [`Search`] follows bytes from a descriptor,
//! breadth first, towards their sources or their targets. A process relays bytes only if it holds
//! both ends: a source open for reading, and a target open for writing. Every step is bounded, and
//! nothing is allocated.

use core::net::IpAddr;

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};
use panoptes_decoders::kernel::inode::mode;
use panoptes_decoders::kernel::sock::{AF_INET, AF_INET6, SOCK_STREAM, TcpState};
use panoptes_decoders::kernel::unix_sock::AF_UNIX;

use crate::limits::Limits;
use crate::walk::{ConnectionRow, DescriptorRow, FileRow, NONE, Snapshot};

/// Maximum number of hops of one search.
const HOPS_MAX: usize = 512;
/// Maximum number of processes in a row that a search passes.
const DEPTH_MAX: u32 = 12;
/// Maximum number of descriptors that all searches of one scan check.
const STEPS_MAX: u32 = 100_000;
/// A process with more AF_UNIX connections than this serves many others: bytes from one do not go
/// to another.
const HUB_CONNECTIONS: usize = 8;

/// An end of an object that carries bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Object {
    /// A pipe or FIFO, by the index of its inode.
    Pipe(u32),
    /// One AF_UNIX socket, by its index in [`Snapshot::sockets`].
    Unix(u32),
    /// One end of a pseudoterminal, by its index in [`Snapshot::terminals`].
    Terminal(u32),
    /// A TCP connection, by its index in [`Snapshot::connections`].
    Connection(u32),
    /// An IPv4 or IPv6 socket that is not a TCP connection and has a destination, by its index in
    /// [`Snapshot::sockets`].
    Datagram(u32),
}

/// The direction in which a search follows bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// To their sources.
    Back,
    /// To their targets.
    On,
}

impl Way {
    /// The mode in which a process must hold the object from which bytes come, or to which they go.
    const fn outer_mode(self) -> u32 {
        match self {
            Self::Back => FMODE_READ,
            Self::On => FMODE_WRITE,
        }
    }

    /// The mode in which the process at the other end must hold it.
    const fn inner_mode(self) -> u32 {
        match self {
            Self::Back => FMODE_WRITE,
            Self::On => FMODE_READ,
        }
    }
}

/// One step of a search: a process, and an object that it reads from or writes to.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// Index of its table of descriptors.
    pub table: u32,
    /// The object further away from the start.
    pub object: Object,
    /// Index of the descriptor for that object.
    pub outer: u32,
    /// Index of the descriptor towards the search's start, or [`NONE`] at the start.
    pub inner: u32,
    /// The previous hop, or [`NONE`].
    pub parent: u32,
    depth: u32,
}

/// Index of the holders of objects in one scan.
#[derive(Debug)]
pub struct Graph {
    /// By open file, its first descriptor; by descriptor, the next of the same file.
    first_descriptor: Vec<u32>,
    next_descriptor: Vec<u32>,
    /// By descriptor, its table.
    tables: Vec<u32>,
    /// By inode, the first open file of a pipe; by terminal, its first open file; by file, the next
    /// of the same object.
    first_of_pipe: Vec<u32>,
    first_of_terminal: Vec<u32>,
    next_file: Vec<u32>,
    /// By table of descriptors, its first process; by process, the next with the same table.
    first_process: Vec<u32>,
    next_process: Vec<u32>,
    /// By AF_UNIX socket, the first one that sends to it and receives nothing from it; by socket,
    /// the next of those.
    first_sender: Vec<u32>,
    next_sender: Vec<u32>,
    /// By connection, its open file.
    file_of_connection: Vec<u32>,
    steps: u32,
}

/// Inserts `index` at the front of the list of `owner`.
fn chain(first: &mut [u32], next: &mut [u32], owner: u32, index: u32) {
    if let (Some(first), Some(next)) = (first.get_mut(owner as usize), next.get_mut(index as usize))
    {
        *next = core::mem::replace(first, index);
    }
}

fn reset(list: &mut Vec<u32>, length: usize) {
    list.clear();
    list.resize(length.min(list.capacity()), NONE);
}

fn members<'a>(first: &'a [u32], next: &'a [u32], owner: u32) -> impl Iterator<Item = u32> + 'a {
    let mut at = first.get(owner as usize).copied().unwrap_or(NONE);
    // Each index is in one list, once.
    (0..=next.len()).map_while(move |_| {
        let this = at;
        at = next.get(this as usize).copied()?;
        Some(this)
    })
}

impl Graph {
    pub fn new(limits: &Limits) -> Self {
        let files = limits.files_seen_max();
        let descriptors = limits.file_descriptors_seen_max();
        let processes = limits.processes_seen_max();
        Self {
            first_descriptor: Vec::with_capacity(files),
            next_descriptor: Vec::with_capacity(descriptors),
            tables: Vec::with_capacity(descriptors),
            first_of_pipe: Vec::with_capacity(files),
            first_of_terminal: Vec::with_capacity(files),
            next_file: Vec::with_capacity(files),
            first_process: Vec::with_capacity(processes),
            next_process: Vec::with_capacity(processes),
            first_sender: Vec::with_capacity(files),
            next_sender: Vec::with_capacity(files),
            file_of_connection: Vec::with_capacity(limits.connections_seen_max()),
            steps: 0,
        }
    }

    pub fn build(&mut self, snapshot: &Snapshot) {
        self.steps = 0;
        reset(&mut self.first_descriptor, snapshot.files.len());
        reset(&mut self.next_descriptor, snapshot.descriptors.len());
        for (index, row) in snapshot.descriptors.iter().enumerate() {
            chain(&mut self.first_descriptor, &mut self.next_descriptor, row.file, index as u32);
        }
        reset(&mut self.tables, snapshot.descriptors.len());
        for (index, table) in snapshot.files_structs.iter().enumerate() {
            let range = table.descriptors.start as usize..table.descriptors.end as usize;
            self.tables.get_mut(range).unwrap_or_default().fill(index as u32);
        }
        reset(&mut self.first_of_pipe, snapshot.inodes.len());
        reset(&mut self.first_of_terminal, snapshot.terminals.len());
        reset(&mut self.next_file, snapshot.files.len());
        reset(&mut self.file_of_connection, snapshot.connections.len());
        for (index, file) in snapshot.files.iter().enumerate() {
            let index = index as u32;
            if file.terminal != NONE {
                chain(&mut self.first_of_terminal, &mut self.next_file, file.terminal, index);
            } else if is_pipe(snapshot, file) {
                chain(&mut self.first_of_pipe, &mut self.next_file, file.inode, index);
            }
            let connection = snapshot.connections.at(file.connection);
            if connection.is_some_and(|row| row.file == file.address)
                && let Some(place) = self.file_of_connection.get_mut(file.connection as usize)
            {
                *place = index;
            }
        }
        reset(&mut self.first_process, snapshot.files_structs.len());
        reset(&mut self.next_process, snapshot.processes.len());
        // The oldest process is added last, so that it comes first.
        for (index, process) in snapshot.processes.iter().enumerate().rev() {
            chain(&mut self.first_process, &mut self.next_process, process.files, index as u32);
        }
        reset(&mut self.first_sender, snapshot.sockets.len());
        reset(&mut self.next_sender, snapshot.sockets.len());
        for (index, socket) in snapshot.sockets.iter().enumerate() {
            let index = index as u32;
            let answers = snapshot.sockets.at(socket.peer).is_some_and(|peer| peer.peer == index);
            if socket.peer != NONE && !answers {
                chain(&mut self.first_sender, &mut self.next_sender, socket.peer, index);
            }
        }
    }

    /// Number of descriptors checked since [`Self::build`].
    #[cfg(test)]
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// Counts descriptors that were checked.
    pub(super) fn spend(&mut self, steps: usize) {
        self.steps = self.steps.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
    }

    /// Whether the scan's limit of checked descriptors is reached.
    pub fn is_exhausted(&self) -> bool {
        self.steps >= STEPS_MAX
    }

    /// The table of a descriptor.
    pub fn table_of(&self, descriptor: u32) -> Option<u32> {
        self.tables.get(descriptor as usize).copied().filter(|&table| table != NONE)
    }

    /// The processes that share a table of descriptors, by index.
    pub fn processes_of(&self, table: u32) -> impl Iterator<Item = u32> {
        members(&self.first_process, &self.next_process, table)
    }

    /// The descriptors of an open file, by index.
    pub fn descriptors_of(&self, file: u32) -> impl Iterator<Item = u32> {
        members(&self.first_descriptor, &self.next_descriptor, file)
    }

    /// The open file of a connection, if it has a descriptor.
    fn file_of_connection(&self, connection: u32) -> Option<u32> {
        self.file_of_connection.get(connection as usize).copied().filter(|&file| file != NONE)
    }

    /// Whether a table has a descriptor of a connection or another socket.
    pub fn holds(&mut self, snapshot: &Snapshot, table: u32, object: Object) -> bool {
        let file = match object {
            Object::Connection(at) => self.file_of_connection(at),
            Object::Unix(at) | Object::Datagram(at) => snapshot.sockets.at(at).map(|row| row.file),
            Object::Pipe(_) | Object::Terminal(_) => None,
        };
        file.is_some_and(|file| self.has_file(table, file))
    }

    /// Whether a table has a descriptor of an open file.
    fn has_file(&mut self, table: u32, file: u32) -> bool {
        let mut descriptor = self.first_descriptor.get(file as usize).copied().unwrap_or(NONE);
        while let Some(&next) = self.next_descriptor.get(descriptor as usize) {
            self.spend(1);
            if self.table_of(descriptor) == Some(table) {
                return true;
            }
            if self.is_exhausted() {
                return false;
            }
            descriptor = next;
        }
        false
    }

    /// Whether a table has so many AF_UNIX connections that its process serves many others.
    /// Connections of the process with itself, and duplicates, do not count. A table that cannot be
    /// checked completely counts as such.
    fn is_a_hub(&mut self, snapshot: &Snapshot, table: u32) -> bool {
        let Some(row) = snapshot.files_structs.at(table) else { return false };
        let mut sockets = ArrayVec::<u32, HUB_CONNECTIONS>::new();
        let mut own = ArrayVec::<u32, HUB_CONNECTIONS>::new();
        for row in snapshot.descriptors.range(&row.descriptors) {
            self.spend(1);
            if self.is_exhausted() {
                return true;
            }
            let at = snapshot.files.at(row.file).map_or(NONE, |file| file.socket);
            let Some(socket) = snapshot.sockets.at(at) else { continue };
            if socket.peer == NONE || sockets.contains(&at) || own.contains(&at) {
                continue;
            }
            let is_own = snapshot
                .sockets
                .at(socket.peer)
                .is_some_and(|peer| self.has_file(table, peer.file));
            if is_own {
                // Without room it is checked again.
                let _ = own.try_push(at);
            } else if sockets.try_push(at).is_err() {
                return true;
            }
        }
        false
    }

    /// Passes every descriptor at the other end of `object` to `take` that is open in a mode of
    /// `wanted`.
    fn other_end(
        &mut self,
        snapshot: &Snapshot,
        object: Object,
        wanted: u32,
        take: &mut dyn FnMut(&mut Self, u32),
    ) {
        match object {
            Object::Pipe(inode) => {
                let mut file = self.first_of_pipe.get(inode as usize).copied().unwrap_or(NONE);
                while let Some(&next) = self.next_file.get(file as usize) {
                    self.each_descriptor(snapshot, file, wanted, take);
                    file = next;
                }
            }
            Object::Terminal(terminal) => {
                let link = snapshot.terminals.at(terminal).map_or(NONE, |row| row.link);
                let mut file = self.first_of_terminal.get(link as usize).copied().unwrap_or(NONE);
                while let Some(&next) = self.next_file.get(file as usize) {
                    self.each_descriptor(snapshot, file, wanted, take);
                    file = next;
                }
            }
            Object::Unix(socket) => {
                let peer = snapshot.sockets.at(socket).map_or(NONE, |row| row.peer);
                if let Some(peer) = snapshot.sockets.at(peer) {
                    self.each_descriptor(snapshot, peer.file, wanted, take);
                }
                // Sockets that send to it and receive nothing from it.
                if wanted == FMODE_WRITE {
                    let mut sender =
                        self.first_sender.get(socket as usize).copied().unwrap_or(NONE);
                    while let Some(&next) = self.next_sender.get(sender as usize) {
                        if let Some(row) = snapshot.sockets.at(sender) {
                            self.each_descriptor(snapshot, row.file, wanted, take);
                        }
                        sender = next;
                    }
                }
            }
            Object::Connection(connection) => {
                let far = mirror(snapshot, connection);
                let file = far.and_then(|far| self.file_of_connection(far));
                if let Some(file) = file {
                    self.each_descriptor(snapshot, file, wanted, take);
                }
            }
            Object::Datagram(_) => {}
        }
    }

    fn each_descriptor(
        &mut self,
        snapshot: &Snapshot,
        file: u32,
        wanted: u32,
        take: &mut dyn FnMut(&mut Self, u32),
    ) {
        if snapshot.files.at(file).is_none_or(|row| row.open.mode & wanted == 0) {
            return;
        }
        let mut descriptor = self.first_descriptor.get(file as usize).copied().unwrap_or(NONE);
        while let Some(&next) = self.next_descriptor.get(descriptor as usize) {
            self.spend(1);
            if self.is_exhausted() {
                return;
            }
            take(self, descriptor);
            descriptor = next;
        }
    }
}

fn is_pipe(snapshot: &Snapshot, file: &FileRow) -> bool {
    snapshot.inodes.at(file.inode).is_some_and(|row| row.attributes.kind() == mode::S_IFIFO)
}

/// The object of an open file, if any.
pub fn object_of(snapshot: &Snapshot, file: u32) -> Option<Object> {
    let row = snapshot.files.at(file)?;
    if row.open.mode & (FMODE_READ | FMODE_WRITE) == 0 {
        return None;
    }
    if let Some(connection) = snapshot.connections.at(row.connection) {
        return is_open(connection).then_some(Object::Connection(row.connection));
    }
    if let Some(socket) = snapshot.sockets.at(row.socket) {
        let endpoints = socket.endpoints?;
        return match endpoints.family {
            AF_UNIX => Some(Object::Unix(row.socket)),
            // A socket without a destination has no far end.
            AF_INET | AF_INET6
                if socket.kind != SOCK_STREAM && !endpoints.destination.is_unspecified() =>
            {
                Some(Object::Datagram(row.socket))
            }
            _ => None,
        };
    }
    if row.terminal != NONE {
        return Some(Object::Terminal(row.terminal));
    }
    is_pipe(snapshot, row).then_some(Object::Pipe(row.inode))
}

/// Whether bytes can go over a connection, in one direction at least. A connection that the peer
/// has closed counts: commands that were sent before are still executed and answered.
pub fn is_open(connection: &ConnectionRow) -> bool {
    let state = TcpState::from_number(connection.endpoints.state);
    is_established(connection)
        || state == Some(TcpState::CloseWait)
        || has_closed_sending(connection)
}

/// Whether neither side has closed its sending direction.
fn is_established(connection: &ConnectionRow) -> bool {
    TcpState::from_number(connection.endpoints.state) == Some(TcpState::Established)
}

/// Whether this side has closed its sending direction.
fn has_closed_sending(connection: &ConnectionRow) -> bool {
    let state = TcpState::from_number(connection.endpoints.state);
    matches!(state, Some(TcpState::FinWait1 | TcpState::FinWait2))
}

/// The other end of a connection, if it is on this machine too. That is the socket with addresses
/// and ports swapped, in the same network namespace, or in another one unless the addresses are
/// loopback addresses.
pub fn mirror(snapshot: &Snapshot, connection: u32) -> Option<u32> {
    let row = snapshot.connections.at(connection)?;
    let ends = &row.endpoints;
    // One end may have the IPv4 address in IPv6 form.
    let forms: [fn(IpAddr) -> IpAddr; 2] = [|address| address.to_canonical(), mapped];
    let only_here = ends.source.to_canonical().is_loopback();
    let mut found = None;
    for form in forms {
        let key =
            (form(ends.destination), ends.destination_port, form(ends.source), ends.source_port);
        let of = |row: &ConnectionRow| {
            let ends = &row.endpoints;
            (ends.source, ends.source_port, ends.destination, ends.destination_port)
        };
        let start = snapshot.connections.partition_point(|row| of(row) < key);
        let rows = snapshot.connections.get(start..)?.iter().zip(start as u32..);
        // At most one in each network namespace.
        for (other, at) in rows.take_while(|(row, _)| of(row) == key).take(MIRRORS_MAX) {
            if at == connection || !is_open(other) {
                continue;
            }
            if other.network_namespace == row.network_namespace {
                return Some(at);
            }
            if !only_here {
                found = found.or(Some(at));
            }
        }
    }
    found
}

/// Maximum number of connections with the same addresses and ports that are checked.
const MIRRORS_MAX: usize = 64;

fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(_) => address,
    }
}

/// Whether two objects are ends of the same link, or the same end.
pub fn is_same_link(snapshot: &Snapshot, one: Object, other: Object) -> bool {
    one == other
        || match (one, other) {
            (Object::Unix(one), Object::Unix(other)) => {
                snapshot.sockets.at(one).is_some_and(|row| row.peer == other)
                    || snapshot.sockets.at(other).is_some_and(|row| row.peer == one)
            }
            (Object::Terminal(one), Object::Terminal(other)) => {
                snapshot.terminals.at(one).is_some_and(|row| row.link == other)
            }
            (Object::Connection(one), Object::Connection(other)) => {
                mirror(snapshot, one) == Some(other)
            }
            _ => false,
        }
}

fn is_master(snapshot: &Snapshot, object: Object) -> bool {
    let Object::Terminal(at) = object else { return false };
    snapshot.terminals.at(at).is_some_and(|row| row.is_master)
}

/// A breadth-first search for the sources or targets of bytes.
#[derive(Debug)]
pub struct Search {
    way: Way,
    hops: Vec<Hop>,
}

impl Search {
    /// Allocates room for one search in this direction.
    pub fn new(way: Way) -> Self {
        Self { way, hops: Vec::with_capacity(HOPS_MAX) }
    }

    /// All hops, those near the start first.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// The hops from one of them to the search's start.
    pub fn path(&self, hop: u32) -> impl Iterator<Item = &Hop> {
        let mut at = hop;
        (0..=DEPTH_MAX).map_while(move |_| {
            let hop = self.hops.get(at as usize)?;
            at = hop.parent;
            Some(hop)
        })
    }

    pub fn is_full(&self) -> bool {
        self.hops.len() == self.hops.capacity()
    }

    /// Clears the search.
    pub fn begin(&mut self) {
        self.hops.clear();
    }

    /// Starts at a descriptor, if bytes can pass it in this direction. A search may have several
    /// starts.
    pub fn begin_at(&mut self, snapshot: &Snapshot, table: u32, descriptor: u32) -> Option<Object> {
        let row = snapshot.descriptors.at(descriptor)?;
        let object = self.passable(snapshot, row)?;
        if !self.hops.iter().any(|hop| hop.object == object) {
            let hop = Hop { table, object, outer: descriptor, inner: NONE, parent: NONE, depth: 0 };
            self.push(hop);
        }
        Some(object)
    }

    /// The object of a descriptor, if it is open in the required mode.
    fn passable(&self, snapshot: &Snapshot, row: &DescriptorRow) -> Option<Object> {
        let file = snapshot.files.at(row.file)?;
        let is_open = file.open.mode & self.way.outer_mode() != 0;
        let object = object_of(snapshot, row.file).filter(|_| is_open)?;
        let is_done = |at| snapshot.connections.at(at).is_some_and(has_closed_sending);
        match (object, self.way) {
            (Object::Connection(at), Way::On) if is_done(at) => None,
            _ => Some(object),
        }
    }

    fn push(&mut self, hop: Hop) {
        if self.hops.len() < self.hops.capacity() {
            self.hops.push(hop);
        }
    }

    /// Follows bytes as far as possible.
    pub fn run(&mut self, snapshot: &Snapshot, graph: &mut Graph) {
        let origin = self.hops.first().map_or(NONE, |hop| hop.table);
        let mut at = 0;
        while let Some(&hop) = self.hops.get(at) {
            if hop.depth < DEPTH_MAX && !graph.is_exhausted() {
                let inner_mode = self.way.inner_mode();
                // Descriptors of one table are adjacent, and lead to the same objects.
                let mut last = NONE;
                graph.other_end(snapshot, hop.object, inner_mode, &mut |graph, inner| {
                    if let Some(table) = graph.table_of(inner)
                        && table != hop.table
                        && table != origin
                        && table != last
                        && !self.is_own_input(snapshot, hop, inner)
                    {
                        last = table;
                        self.pass_through(snapshot, graph, at as u32, hop, table, inner);
                    }
                });
            }
            at += 1;
        }
    }

    /// Whether a descriptor is its holder's standard input and the same open FIFO that `hop` reads.
    /// A process that inherited it (`bash <>fifo`, and its commands) reads from it too, and does
    /// not write answers to it.
    fn is_own_input(&self, snapshot: &Snapshot, hop: Hop, inner: u32) -> bool {
        let (inner, outer) = (snapshot.descriptors.at(inner), snapshot.descriptors.at(hop.outer));
        let is_same = |inner: &DescriptorRow| outer.is_some_and(|row| row.file == inner.file);
        self.way == Way::Back
            && matches!(hop.object, Object::Pipe(_))
            && inner.is_some_and(|inner| inner.index == 0 && is_same(inner))
    }

    /// Adds the other objects of the holder of `inner`, which is at the other end of `hop`'s
    /// object.
    fn pass_through(
        &mut self,
        snapshot: &Snapshot,
        graph: &mut Graph,
        parent: u32,
        hop: Hop,
        table: u32,
        inner: u32,
    ) {
        let Some(inner_row) = snapshot.descriptors.at(inner) else { return };
        let Some(inner_object) = object_of(snapshot, inner_row.file) else { return };
        let Some(range) = snapshot.files_structs.at(table).map(|row| row.descriptors.clone())
        else {
            return;
        };
        let mut is_hub = None;
        for (descriptor, row) in range.clone().zip(snapshot.descriptors.range(&range)) {
            graph.spend(1);
            if graph.is_exhausted() {
                return;
            }
            let Some(object) = self.passable(snapshot, row) else { continue };
            if is_same_link(snapshot, object, inner_object) {
                continue;
            }
            // A server that still holds a closed connection of an earlier client relays nothing to
            // that client.
            if let (Object::Connection(at), Object::Connection(_)) = (object, inner_object)
                && !snapshot.connections.at(at).is_some_and(is_established)
            {
                continue;
            }
            // A process that serves several terminals does not pass the output of one to another.
            if is_master(snapshot, object) && is_master(snapshot, inner_object) {
                continue;
            }
            if let (Object::Unix(_), Object::Unix(_)) = (object, inner_object)
                && *is_hub.get_or_insert_with(|| graph.is_a_hub(snapshot, table))
            {
                continue;
            }
            if self.hops.iter().any(|seen| seen.object == object) {
                continue;
            }
            let depth = hop.depth + 1;
            self.push(Hop { table, object, outer: descriptor, inner, parent, depth });
        }
    }
}
