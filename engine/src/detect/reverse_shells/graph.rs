//! How bytes can get from one process to another: which processes hold the ends of which pipes,
//! socket pairs, pseudoterminals and connections.
//!
//! [`Graph::build`] indexes a scan's descriptors. [`Search`] follows bytes from a descriptor,
//! breadth first, towards their sources or their targets. A process relays bytes only if it holds
//! both ends: a source open for reading, and a target open for writing. Every step is bounded, and
//! nothing is allocated.

use core::cell::Cell;
use core::net::IpAddr;

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};
use panoptes_decoders::kernel::inode::mode;
use panoptes_decoders::kernel::sock::{AF_INET, AF_INET6, SOCK_STREAM, TcpState};
use panoptes_decoders::kernel::unix_sock::AF_UNIX;

use crate::limits::Limits;
use crate::walk::{
    ConnectionRow, DescriptorRow, FileRow, FilesRow, Index, InodeRow, ProcessRow, Snapshot,
    SocketRow, TerminalRow,
};

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
    /// A pipe or FIFO, by its inode.
    Pipe(Index<InodeRow>),
    /// One AF_UNIX socket.
    Unix(Index<SocketRow>),
    /// One end of a pseudoterminal.
    Terminal(Index<TerminalRow>),
    /// A TCP connection.
    Connection(Index<ConnectionRow>),
    /// An IPv4 or IPv6 socket that is not a TCP connection and has a destination.
    Datagram(Index<SocketRow>),
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
    /// Its table of descriptors.
    pub table: Index<FilesRow>,
    /// The object further away from the start.
    pub object: Object,
    /// The descriptor for that object.
    pub outer: Index<DescriptorRow>,
    /// The descriptor towards the search's start, or `None` at the start.
    pub inner: Option<Index<DescriptorRow>>,
    /// The previous hop.
    pub parent: Option<Index<Self>>,
    depth: u32,
}

/// Index of the holders of objects in one scan.
#[derive(Debug)]
pub struct Graph {
    /// By open file, its descriptors.
    descriptors: Lists<DescriptorRow>,
    /// By descriptor, its table.
    tables: Vec<Option<Index<FilesRow>>>,
    /// By inode, the open files of a pipe; behind those, by terminal, its open files.
    files: Lists<FileRow>,
    /// The number of inodes.
    first_terminal: usize,
    /// By table of descriptors, its processes, the oldest first.
    processes: Lists<ProcessRow>,
    /// By AF_UNIX socket, those that send to it and receive nothing from it.
    senders: Lists<SocketRow>,
    /// By connection, its open file.
    file_of_connection: Vec<Option<Index<FileRow>>>,
    steps: Cell<u32>,
}

/// Lists of rows, by the position of their owner. A row is in one list, once.
#[derive(Debug)]
struct Lists<Row> {
    /// By owner, the first row; by row, the next one of the same owner.
    first: Vec<Option<Index<Row>>>,
    next: Vec<Option<Index<Row>>>,
}

impl<Row> Lists<Row> {
    fn new(owners: usize, rows: usize) -> Self {
        Self { first: Vec::with_capacity(owners), next: Vec::with_capacity(rows) }
    }

    fn reset(&mut self, owners: usize, rows: usize) {
        reset(&mut self.first, owners);
        reset(&mut self.next, rows);
    }

    /// Inserts `index` at the front of the list of `owner`.
    fn insert(&mut self, owner: usize, index: Index<Row>) {
        let first = self.first.get_mut(owner);
        if let (Some(first), Some(next)) = (first, self.next.get_mut(index.position())) {
            *next = first.replace(index);
        }
    }

    fn of(&self, owner: usize) -> impl Iterator<Item = Index<Row>> + use<'_, Row> {
        let mut at = self.first.get(owner).copied().flatten();
        (0..=self.next.len()).map_while(move |_| {
            let this = at?;
            at = linked(&self.next, this);
            Some(this)
        })
    }
}

fn reset<Row>(list: &mut Vec<Option<Index<Row>>>, length: usize) {
    list.clear();
    list.resize(length.min(list.capacity()), None);
}

/// What a list has for an index.
fn linked<At, Row>(list: &[Option<Index<Row>>], at: Index<At>) -> Option<Index<Row>> {
    list.get(at.position()).copied().flatten()
}

impl Graph {
    pub fn new(limits: &Limits) -> Self {
        let files = limits.files_seen_max();
        let descriptors = limits.file_descriptors_seen_max();
        let processes = limits.processes_seen_max();
        Self {
            descriptors: Lists::new(files, descriptors),
            tables: Vec::with_capacity(descriptors),
            files: Lists::new(2 * files, files),
            first_terminal: 0,
            processes: Lists::new(processes, processes),
            senders: Lists::new(files, files),
            file_of_connection: Vec::with_capacity(limits.connections_seen_max()),
            steps: Cell::new(0),
        }
    }

    pub fn build(&mut self, snapshot: &Snapshot) {
        self.steps.set(0);
        self.descriptors.reset(snapshot.files.len(), snapshot.descriptors.len());
        for (index, row) in snapshot.descriptors.indexed() {
            if let Some(file) = row.file {
                self.descriptors.insert(file.position(), index);
            }
        }
        reset(&mut self.tables, snapshot.descriptors.len());
        for (index, table) in snapshot.files_structs.indexed() {
            let range = table.descriptors.positions();
            self.tables.get_mut(range).unwrap_or_default().fill(Some(index));
        }
        self.first_terminal = snapshot.inodes.len();
        let ends = self.first_terminal + snapshot.terminals.len();
        self.files.reset(ends, snapshot.files.len());
        reset(&mut self.file_of_connection, snapshot.connections.len());
        for (index, file) in snapshot.files.indexed() {
            if let Some(terminal) = file.terminal {
                self.files.insert(self.first_terminal + terminal.position(), index);
            } else if let Some(inode) = file.inode.filter(|_| is_pipe(snapshot, file)) {
                self.files.insert(inode.position(), index);
            }
            if let Some(at) = file.connection
                && snapshot.connections.at(at).is_some_and(|row| row.file == file.address)
                && let Some(place) = self.file_of_connection.get_mut(at.position())
            {
                *place = Some(index);
            }
        }
        self.processes.reset(snapshot.files_structs.len(), snapshot.processes.len());
        // The oldest process is added last, so that it comes first.
        for index in snapshot.processes.indexes().rev() {
            if let Some(table) = snapshot.processes[index].files {
                self.processes.insert(table.position(), index);
            }
        }
        self.senders.reset(snapshot.sockets.len(), snapshot.sockets.len());
        for (index, socket) in snapshot.sockets.indexed() {
            if let Some(at) = socket.peer
                && snapshot.sockets.at(at).is_none_or(|peer| peer.peer != Some(index))
            {
                self.senders.insert(at.position(), index);
            }
        }
    }

    /// Number of descriptors checked since [`Self::build`].
    #[cfg(test)]
    pub(super) fn steps(&self) -> u32 {
        self.steps.get()
    }

    /// Counts descriptors that were checked.
    pub(super) fn spend(&self, steps: usize) {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.steps.set(self.steps.get().saturating_add(steps));
    }

    /// Whether the scan's limit of checked descriptors is reached.
    pub fn is_exhausted(&self) -> bool {
        self.steps.get() >= STEPS_MAX
    }

    /// The table of a descriptor.
    fn table_of(&self, descriptor: Index<DescriptorRow>) -> Option<Index<FilesRow>> {
        linked(&self.tables, descriptor)
    }

    /// The processes that share a table of descriptors.
    pub fn processes_of(&self, table: Index<FilesRow>) -> impl Iterator<Item = Index<ProcessRow>> {
        self.processes.of(table.position())
    }

    /// Whether a table has a descriptor of a connection or another socket.
    pub fn holds(&self, snapshot: &Snapshot, table: Index<FilesRow>, object: Object) -> bool {
        let file = match object {
            Object::Connection(at) => linked(&self.file_of_connection, at),
            Object::Unix(at) | Object::Datagram(at) => snapshot.sockets.at(at).map(|row| row.file),
            Object::Pipe(_) | Object::Terminal(_) => None,
        };
        file.is_some_and(|file| self.has_file(table, file))
    }

    /// Whether a table has a descriptor of an open file.
    fn has_file(&self, table: Index<FilesRow>, file: Index<FileRow>) -> bool {
        for descriptor in self.descriptors.of(file.position()) {
            self.spend(1);
            if self.table_of(descriptor) == Some(table) {
                return true;
            }
            if self.is_exhausted() {
                return false;
            }
        }
        false
    }

    /// Whether a table has so many AF_UNIX connections that its process serves many others.
    /// Connections of the process with itself, and duplicates, do not count. A table that cannot be
    /// checked completely counts as such.
    fn is_a_hub(&self, snapshot: &Snapshot, table: Index<FilesRow>) -> bool {
        let Some(row) = snapshot.files_structs.at(table) else { return false };
        let mut sockets = ArrayVec::<Index<SocketRow>, HUB_CONNECTIONS>::new();
        let mut own = ArrayVec::<Index<SocketRow>, HUB_CONNECTIONS>::new();
        for row in snapshot.descriptors.range(row.descriptors) {
            self.spend(1);
            if self.is_exhausted() {
                return true;
            }
            let Some(at) = snapshot.files.at(row.file).and_then(|file| file.socket) else {
                continue;
            };
            let Some(socket) = snapshot.sockets.at(at) else { continue };
            if socket.peer.is_none() || sockets.contains(&at) || own.contains(&at) {
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
        &self,
        snapshot: &Snapshot,
        object: Object,
        wanted: u32,
        take: &mut dyn FnMut(Index<DescriptorRow>),
    ) {
        let mut each = |file| self.each_descriptor(snapshot, file, wanted, take);
        match object {
            Object::Pipe(inode) => self.files.of(inode.position()).for_each(each),
            Object::Terminal(terminal) => {
                let link = snapshot.terminals.at(terminal).and_then(|row| row.link);
                if let Some(link) = link {
                    self.files.of(self.first_terminal + link.position()).for_each(each);
                }
            }
            Object::Unix(socket) => {
                let peer = snapshot.sockets.at(socket).and_then(|row| row.peer);
                if let Some(peer) = snapshot.sockets.at(peer) {
                    each(peer.file);
                }
                // Sockets that send to it and receive nothing from it.
                if wanted == FMODE_WRITE {
                    let senders = self.senders.of(socket.position());
                    senders.filter_map(|at| snapshot.sockets.at(at)).for_each(|row| each(row.file));
                }
            }
            Object::Connection(connection) => {
                let far = mirror(snapshot, connection);
                if let Some(file) = far.and_then(|far| linked(&self.file_of_connection, far)) {
                    each(file);
                }
            }
            Object::Datagram(_) => {}
        }
    }

    fn each_descriptor(
        &self,
        snapshot: &Snapshot,
        file: Index<FileRow>,
        wanted: u32,
        take: &mut dyn FnMut(Index<DescriptorRow>),
    ) {
        if snapshot.files.at(file).is_none_or(|row| row.open.mode & wanted == 0) {
            return;
        }
        for descriptor in self.descriptors.of(file.position()) {
            self.spend(1);
            if self.is_exhausted() {
                return;
            }
            take(descriptor);
        }
    }
}

fn is_pipe(snapshot: &Snapshot, file: &FileRow) -> bool {
    snapshot.inodes.at(file.inode).is_some_and(|row| row.attributes.kind() == mode::S_IFIFO)
}

/// The object of an open file, if any.
pub fn object_of(snapshot: &Snapshot, file: Option<Index<FileRow>>) -> Option<Object> {
    let row = snapshot.files.at(file)?;
    if row.open.mode & (FMODE_READ | FMODE_WRITE) == 0 {
        return None;
    }
    if let Some(at) = row.connection {
        let connection = snapshot.connections.at(at)?;
        return is_open(connection).then_some(Object::Connection(at));
    }
    if let Some(at) = row.socket {
        let socket = snapshot.sockets.at(at)?;
        let endpoints = socket.endpoints?;
        return match endpoints.family {
            AF_UNIX => Some(Object::Unix(at)),
            // A socket without a destination has no far end.
            AF_INET | AF_INET6
                if socket.kind != SOCK_STREAM && !endpoints.destination.is_unspecified() =>
            {
                Some(Object::Datagram(at))
            }
            _ => None,
        };
    }
    if let Some(at) = row.terminal {
        return Some(Object::Terminal(at));
    }
    row.inode.filter(|_| is_pipe(snapshot, row)).map(Object::Pipe)
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

/// Both ends of a connection. The scan's connections are sorted by it.
pub(super) type Tuple = (IpAddr, u16, IpAddr, u16);

pub(super) fn tuple_of(row: &ConnectionRow) -> Tuple {
    let ends = &row.endpoints;
    (ends.source, ends.source_port, ends.destination, ends.destination_port)
}

/// The other end of a connection, if it is on this machine too. That is the socket with addresses
/// and ports swapped, in the same network namespace, or in another one unless the addresses are
/// loopback addresses.
pub fn mirror(
    snapshot: &Snapshot,
    connection: Index<ConnectionRow>,
) -> Option<Index<ConnectionRow>> {
    let row = snapshot.connections.at(connection)?;
    let ends = &row.endpoints;
    // One end may have the IPv4 address in IPv6 form.
    let forms: [fn(IpAddr) -> IpAddr; 2] = [|address| address.to_canonical(), mapped];
    let only_here = ends.source.to_canonical().is_loopback();
    let mut found = None;
    for form in forms {
        let key =
            (form(ends.destination), ends.destination_port, form(ends.source), ends.source_port);
        let start = snapshot.connections.partition_point(|row| tuple_of(row) < key);
        let span = snapshot.connections.span_from(start);
        let rows = snapshot.connections.range(span).iter().zip(span.indexes());
        // At most one in each network namespace.
        for (other, at) in rows.take_while(|(row, _)| tuple_of(row) == key).take(MIRRORS_MAX) {
            if at == connection || !is_open(other) {
                continue;
            }
            if other.net == row.net {
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
fn is_same_link(snapshot: &Snapshot, one: Object, other: Object) -> bool {
    one == other
        || match (one, other) {
            (Object::Unix(one), Object::Unix(other)) => {
                snapshot.sockets.at(one).is_some_and(|row| row.peer == Some(other))
                    || snapshot.sockets.at(other).is_some_and(|row| row.peer == Some(one))
            }
            (Object::Terminal(one), Object::Terminal(other)) => {
                snapshot.terminals.at(one).is_some_and(|row| row.link == Some(other))
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
    pub fn path(&self, hop: Option<Index<Hop>>) -> impl Iterator<Item = &Hop> {
        let mut at = hop;
        (0..=DEPTH_MAX).map_while(move |_| {
            let hop = self.hops.get(at?.position())?;
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
    pub fn begin_at(
        &mut self,
        snapshot: &Snapshot,
        table: Index<FilesRow>,
        descriptor: Option<Index<DescriptorRow>>,
    ) -> Option<Object> {
        let outer = descriptor?;
        let row = snapshot.descriptors.at(outer)?;
        let object = self.passable(snapshot, row)?;
        if !self.hops.iter().any(|hop| hop.object == object) {
            self.push(Hop { table, object, outer, inner: None, parent: None, depth: 0 });
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
    pub fn run(&mut self, snapshot: &Snapshot, graph: &Graph) {
        let origin = self.hops.first().map(|hop| hop.table);
        let mut at = 0;
        while let Some(&hop) = self.hops.get(at) {
            if hop.depth < DEPTH_MAX && !graph.is_exhausted() {
                let inner_mode = self.way.inner_mode();
                // Descriptors of one table are adjacent, and lead to the same objects.
                let mut last = None;
                graph.other_end(snapshot, hop.object, inner_mode, &mut |inner| {
                    if let Some(table) = graph.table_of(inner)
                        && table != hop.table
                        && Some(table) != origin
                        && Some(table) != last
                        && !self.is_own_input(snapshot, hop, inner)
                    {
                        last = Some(table);
                        self.pass_through(snapshot, graph, Index::new(at), hop, table, inner);
                    }
                });
            }
            at += 1;
        }
    }

    /// Whether a descriptor is its holder's standard input and the same open FIFO that `hop` reads.
    /// A process that inherited it (`bash <>fifo`, and its commands) reads from it too, and does
    /// not write answers to it.
    fn is_own_input(&self, snapshot: &Snapshot, hop: Hop, inner: Index<DescriptorRow>) -> bool {
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
        graph: &Graph,
        parent: Option<Index<Hop>>,
        hop: Hop,
        table: Index<FilesRow>,
        inner: Index<DescriptorRow>,
    ) {
        let Some(inner_row) = snapshot.descriptors.at(inner) else { return };
        let Some(inner_object) = object_of(snapshot, inner_row.file) else { return };
        let Some(span) = snapshot.files_structs.at(table).map(|row| row.descriptors) else {
            return;
        };
        let mut is_hub = None;
        for (outer, row) in span.indexes().zip(snapshot.descriptors.range(span)) {
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
            self.push(Hop { table, object, outer, inner: Some(inner), parent, depth });
        }
    }
}
