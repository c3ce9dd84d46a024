//! How bytes can get from one process to another: which processes hold the ends of which pipes,
//! socket pairs, pseudoterminals and connections.
//!
//! [`Graph::build`] indexes a scan's descriptors; [`search`](super::search) follows bytes over it.
//! Each interpreter has a share of the steps of a scan. What many of them need is found out once.
//! Nothing is allocated.

mod lists;
mod looks;
mod mappings;
mod objects;
mod queues;
mod relays;
mod terminals;

use core::cell::{Cell, RefCell};
use core::ops::Range;

use panoptes_tables::room;

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};

use self::lists::{RowLists, linked, reset};
pub use self::looks::LookTurns;
use self::mappings::Mappings;
pub(super) use self::mappings::{is_in_memory, is_of_memory};
pub(super) use self::objects::{
    Tuple, has_closed_sending, is_established, is_master, is_same_link, tuple_of,
};
pub use self::objects::{is_open, mirror, object_of};
use self::objects::{is_open_both_ways, is_pipe};
pub(super) use self::queues::{HISTORIES_MAX, USERS_MAX};
pub use self::queues::{QueueEnd, QueueUse, Senders};
pub use self::relays::Edges;
use self::relays::{BOTH_WAYS_MAX, Relays};
use self::terminals::Terminals;
use crate::limits::Limits;
use crate::walk::{
    ConnectionRow, DescriptorRow, FileRow, FilesRow, Index, InodeRow, ProcessRow, Snapshot,
    SocketRow, TerminalRow,
};

/// Maximum number of descriptors that all searches of one scan check, except those of
/// [`STEPS_MIN`].
const STEPS_MAX: u32 = 100_000;
/// Maximum number of descriptors that the searches of one scan check besides, when they follow
/// regular files too.
const STEPS_APART_MAX: u32 = 20_000;
/// Number of descriptors that each part of an interpreter's share has in any scan.
const STEPS_MIN: u32 = 128;
/// An interpreter's share has a part for the way back, one for the way on, and one for what links
/// both.
const PARTS: u32 = 3;
/// In a table with more descriptors that carry bytes than this, connections come first: a search
/// that is cut short has seen them.
const FEW_CARRIERS: usize = 64;
/// A process with more AF_UNIX connections than this serves many others: bytes from one do not go
/// to another.
const HUB_CONNECTIONS: usize = 8;

/// An end of an object that carries bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChannelEnd {
    /// A pipe or FIFO, by its inode.
    Pipe(Index<InodeRow>),
    /// One AF_UNIX socket.
    Unix(Index<SocketRow>),
    /// One end of a pseudoterminal.
    Terminal(Index<TerminalRow>),
    /// A TCP connection.
    Connection(Index<ConnectionRow>),
    /// An IPv4 or IPv6 socket that is not of TCP and has a destination.
    Datagram(Index<SocketRow>),
    /// A socket of datagrams or raw packets without a destination, which any address reaches.
    AnyPeer(Index<SocketRow>),
    /// A regular file that one process writes and another reads, as one of them has it open.
    File(Index<FileRow>),
    /// Memory that several processes map as shared, by the inode that it has.
    Memory(Index<InodeRow>),
    /// A System V message queue.
    Queue(QueueEnd),
}

impl ChannelEnd {
    /// Whether it has no descriptors at its ends.
    pub(super) const fn is_shared(self) -> bool {
        matches!(self, Self::Memory(_) | Self::Queue(_))
    }
}

/// The direction in which a search follows bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SearchDirection {
    /// To their sources.
    Back,
    /// To their targets.
    On,
}

impl SearchDirection {
    /// The mode in which a process must hold the object from which bytes come, or to which they go.
    pub(super) const fn outer_mode(self) -> u32 {
        match self {
            Self::Back => FMODE_READ,
            Self::On => FMODE_WRITE,
        }
    }

    /// The mode in which the process at the other end must hold it.
    pub(super) const fn inner_mode(self) -> u32 {
        match self {
            Self::Back => FMODE_WRITE,
            Self::On => FMODE_READ,
        }
    }
}

/// Index of the holders of objects in one scan.
#[derive(Debug, Default)]
pub struct Graph {
    /// Descriptors of each open file: the last one of each table.
    descriptors: RowLists<DescriptorRow>,
    /// The table of each descriptor; `None` for the others of the same file in a table.
    tables: Vec<Option<Index<FilesRow>>>,
    carriers: RefCell<Carriers>,
    /// Open files by inode: those of a pipe, and those with descriptors of a regular file; behind
    /// those, by terminal, its open files.
    files: RowLists<FileRow>,
    /// The number of inodes.
    first_terminal: usize,
    /// Processes of each table of descriptors, the oldest first.
    processes: RowLists<ProcessRow>,
    /// Sockets that send to each AF_UNIX socket, and receive nothing from it.
    senders: RowLists<SocketRow>,
    /// The open file of each connection.
    file_of_connection: Vec<Option<Index<FileRow>>>,
    terminals: Terminals,
    relays: Relays,
    mappings: RefCell<Mappings>,
    queue_uses: Vec<QueueUse>,
    steps: Cell<u32>,
    /// The number of steps of a part of the present interpreter's share, and that at which the
    /// present part ends.
    part: Cell<u32>,
    limit: Cell<u32>,
    /// Whether a part was used up.
    was_exhausted: Cell<bool>,
    /// The number of steps of the searches that have steps of their own, and of the others when
    /// the present one of those began.
    apart: Cell<u32>,
    before_apart: Cell<u32>,
}

/// What was found out of tables of descriptors in one scan, each when it is needed first.
#[derive(Debug, Default)]
struct Carriers {
    /// Parts of the list by table, with its descriptors: its begin, where masters of
    /// pseudoterminals begin, and regular files, and its end.
    spans: Vec<Option<[u32; 4]>>,
    /// Facts about the process of each table: bits of [`fact`].
    facts: Vec<u8>,
    list: Vec<Index<DescriptorRow>>,
}

/// Facts of a process. The bit above that of a fact has whether it is known.
mod fact {
    /// It serves many others.
    pub(super) const HUB: u8 = 1 << 0;
    /// It maps memory that others may map too.
    pub(super) const MEMORY: u8 = 1 << 2;
    /// It may be a relay: it serves nobody else.
    pub(super) const ALONE: u8 = 1 << 4;
    /// It has a connection.
    pub(super) const CONNECTED: u8 = 1 << 6;
}

impl Carriers {
    fn new(tables: usize, descriptors: usize) -> Self {
        Self { spans: room::list(tables), facts: room::list(tables), list: room::list(descriptors) }
    }

    fn reset(&mut self, tables: usize) {
        self.list.clear();
        self.spans.clear();
        self.spans.resize(tables.min(self.spans.capacity()), None);
        self.facts.clear();
        self.facts.resize(tables.min(self.facts.capacity()), 0);
    }
}

impl Graph {
    pub fn new(limits: &Limits) -> Self {
        let files = limits.files_seen_max();
        let descriptors = limits.file_descriptors_seen_max();
        let processes = limits.processes_seen_max();
        Self {
            descriptors: RowLists::new(files, descriptors),
            tables: room::list(descriptors),
            files: RowLists::new(2 * files, files),
            first_terminal: 0,
            processes: RowLists::new(processes, processes),
            senders: RowLists::new(files, files),
            file_of_connection: room::list(limits.connections_seen_max()),
            carriers: RefCell::new(Carriers::new(processes, descriptors)),
            terminals: Terminals::new(processes),
            relays: Relays::new(files),
            mappings: RefCell::new(Mappings::new()),
            queue_uses: room::list(queues::USES_MAX),
            steps: Cell::new(0),
            part: Cell::new(STEPS_MAX),
            limit: Cell::new(STEPS_MAX),
            was_exhausted: Cell::new(false),
            apart: Cell::new(0),
            before_apart: Cell::new(0),
        }
    }

    pub fn build(&mut self, snapshot: &Snapshot) {
        self.index(snapshot);
        self.leave_out_inherited(snapshot);
    }

    /// Indexes all that a scan shows.
    pub(super) fn index(&mut self, snapshot: &Snapshot) {
        self.steps.set(0);
        self.apart.set(0);
        self.limit.set(STEPS_MAX);
        self.carriers.get_mut().reset(snapshot.files_structs.len());
        reset(&mut self.tables, snapshot.descriptors.len());
        for (index, table) in snapshot.files_structs.indexed() {
            let range = table.descriptors.positions();
            self.tables.get_mut(range).unwrap_or_default().fill(Some(index));
        }
        for ring in snapshot.rings.iter() {
            let range = ring.descriptors.positions();
            self.tables.get_mut(range).unwrap_or_default().fill(ring.table);
        }
        self.descriptors.reset(snapshot.files.len(), snapshot.descriptors.len());
        for (index, row) in snapshot.descriptors.indexed() {
            if let Some(file) = row.file {
                self.insert_descriptor(file, index);
            }
        }
        self.first_terminal = snapshot.inodes.len();
        let ends = self.first_terminal + snapshot.terminals.len();
        self.files.reset(ends, snapshot.files.len());
        self.relays.reset(snapshot.inodes.len());
        self.mappings.get_mut().reset();
        reset(&mut self.file_of_connection, snapshot.connections.len());
        for (index, file) in snapshot.files.indexed() {
            if let Some(terminal) = file.terminal {
                self.files.insert(self.first_terminal + terminal.position(), index);
            } else if let Some(inode) = file.inode
                && (is_pipe(snapshot, file) || self.relays.add(snapshot, index, &self.descriptors))
            {
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

    /// Inserts a descriptor of an open file, in place of one of the same table: a process that
    /// duplicates a descriptor adds no work.
    fn insert_descriptor(&mut self, file: Index<FileRow>, index: Index<DescriptorRow>) {
        let table = self.table_of(index);
        let before = self.descriptors.first_of(file);
        if let Some(before) = before.filter(|&before| self.table_of(before) == table) {
            self.descriptors.replace_first(file.position(), before, index);
            if let Some(place) = self.tables.get_mut(before.position()) {
                *place = None;
            }
        } else {
            self.descriptors.insert(file.position(), index);
        }
    }

    /// Begins with an interpreter. Its searches may use an equal part of the steps that are left
    /// for so many.
    pub(super) fn begin_share(&self, interpreters: usize) {
        let used = self.steps.get();
        let interpreters = u32::try_from(interpreters).unwrap_or(u32::MAX).max(1);
        let share = STEPS_MAX.saturating_sub(used) / interpreters;
        self.part.set((share / PARTS).max(STEPS_MIN));
        self.limit.set(used.saturating_add(self.part.get()));
        self.was_exhausted.set(false);
    }

    /// Begins with the next part of the present interpreter's share.
    pub(super) fn begin_part(&self) {
        self.was_exhausted.set(self.was_exhausted());
        self.limit.set(self.steps.get().saturating_add(self.part.get()));
    }

    /// Whether any part of the present interpreter's share was used up.
    pub(super) fn was_exhausted(&self) -> bool {
        self.was_exhausted.get() || self.is_exhausted()
    }

    /// Begins a search that has steps of its own, so that others lack none. Returns `false` if
    /// this scan has no more of those.
    pub(super) fn begin_apart(&self) -> bool {
        let has_steps = self.apart.get() < STEPS_APART_MAX;
        if has_steps {
            self.before_apart.set(self.steps.get());
            self.begin_part();
        }
        has_steps
    }

    /// Ends the search that [`Self::begin_apart`] began.
    pub(super) fn end_apart(&self) {
        let before = self.before_apart.get();
        let used = self.steps.get().saturating_sub(before);
        self.apart.set(self.apart.get().saturating_add(used));
        self.was_exhausted.set(self.was_exhausted());
        self.steps.set(before);
        self.limit.set(before.saturating_add(self.part.get()));
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

    /// Whether the present part of an interpreter's share of checked descriptors is used up.
    pub fn is_exhausted(&self) -> bool {
        self.steps.get() >= self.limit.get()
    }

    /// The descriptors of a table that carry bytes, as places for [`Self::carrier`]. Each table is
    /// looked through once in a scan, so that counts as no step.
    pub(super) fn carriers_of(
        &self,
        snapshot: &Snapshot,
        table: Index<FilesRow>,
        edges: Edges,
    ) -> Range<usize> {
        let [start, _, files, end] = self.span_of(snapshot, table);
        let end = if edges == Edges::WithFiles { end } else { files };
        start as usize..end as usize
    }

    /// Where masters of pseudoterminals are among these.
    pub(super) fn masters_of(&self, snapshot: &Snapshot, table: Index<FilesRow>) -> Range<usize> {
        let [_, masters, files, _] = self.span_of(snapshot, table);
        masters as usize..files as usize
    }

    /// Whether a process may pass bytes to or from regular files.
    pub(super) fn passes_files(&self, snapshot: &Snapshot, table: Index<FilesRow>) -> bool {
        let [.., files, end] = self.span_of(snapshot, table);
        files < end
    }

    fn span_of(&self, snapshot: &Snapshot, table: Index<FilesRow>) -> [u32; 4] {
        let mut carriers = self.carriers.borrow_mut();
        let Some(known) = carriers.spans.get(table.position()) else { return [0; 4] };
        if let &Some(span) = known {
            return span;
        }
        let object_at = |at: Index<DescriptorRow>| {
            let file = snapshot.descriptors.at(at).and_then(|row| row.file);
            self.object_of(snapshot, file, Edges::WithFiles)
        };
        let start = carriers.list.len();
        let (mut files, mut both_ways, mut masters) = (0, 0, 0);
        for at in snapshot.descriptor_indexes_of(table) {
            let object = object_at(at).filter(|_| self.table_of(at) == Some(table));
            let Some(object) = object else { continue };
            if carriers.list.len() < carriers.list.capacity() {
                carriers.list.push(at);
                masters += usize::from(is_master(snapshot, object));
                if let ChannelEnd::File(file) = object {
                    files += 1;
                    both_ways += usize::from(is_open_both_ways(snapshot, file));
                }
            }
        }
        let end = carriers.list.len();
        let are_many = end - start > FEW_CARRIERS;
        if files > 0 || masters > 0 || are_many {
            let class = |at: &Index<DescriptorRow>| match object_at(*at) {
                Some(ChannelEnd::File(_)) => 3,
                Some(ChannelEnd::Connection(_) | ChannelEnd::Datagram(_)) if are_many => 0,
                Some(object) if is_master(snapshot, object) => 2,
                _ => 1,
            };
            carriers.list[start..].sort_unstable_by_key(|at| (class(at), *at));
        }
        let first_file = end - files;
        // A process with many such files passes nothing to them.
        let end = if both_ways > BOTH_WAYS_MAX { first_file } else { end };
        let span = [start, first_file - masters, first_file, end].map(|at| at as u32);
        carriers.spans[table.position()] = Some(span);
        span
    }

    /// A descriptor by its place in [`Self::carriers_of`].
    pub(super) fn carrier(&self, place: usize) -> Option<Index<DescriptorRow>> {
        self.carriers.borrow().list.get(place).copied()
    }

    /// The table of a descriptor.
    pub(super) fn table_of(&self, descriptor: Index<DescriptorRow>) -> Option<Index<FilesRow>> {
        linked(&self.tables, descriptor)
    }

    /// The processes that share a table of descriptors.
    pub fn processes_of(&self, table: Index<FilesRow>) -> impl Iterator<Item = Index<ProcessRow>> {
        self.processes.of(table.position())
    }

    /// Whether a table has a descriptor of a connection or another socket.
    pub fn holds(&self, snapshot: &Snapshot, table: Index<FilesRow>, object: ChannelEnd) -> bool {
        let file = match object {
            ChannelEnd::Connection(at) => linked(&self.file_of_connection, at),
            ChannelEnd::Unix(at) | ChannelEnd::Datagram(at) | ChannelEnd::AnyPeer(at) => {
                snapshot.sockets.at(at).map(|row| row.file)
            }
            ChannelEnd::Pipe(_)
            | ChannelEnd::Terminal(_)
            | ChannelEnd::File(_)
            | ChannelEnd::Memory(_)
            | ChannelEnd::Queue(_) => None,
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
    pub(super) fn is_a_hub(&self, snapshot: &Snapshot, table: Index<FilesRow>) -> bool {
        self.fact_of(table, fact::HUB).unwrap_or_else(|| {
            let is_hub = self.has_many_pairs(snapshot, table);
            self.note_fact(table, fact::HUB, is_hub);
            is_hub
        })
    }

    /// A fact of a table's process, if it is known in this scan.
    fn fact_of(&self, table: Index<FilesRow>, fact: u8) -> Option<bool> {
        let facts = self.carriers.borrow().facts.get(table.position()).copied().unwrap_or(0);
        (facts & fact << 1 != 0).then_some(facts & fact != 0)
    }

    /// Notes a fact, unless it was not found out to the end.
    fn note_fact(&self, table: Index<FilesRow>, fact: u8, holds: bool) {
        if let Some(facts) = self.carriers.borrow_mut().facts.get_mut(table.position())
            && !self.is_exhausted()
        {
            *facts |= fact << 1 | if holds { fact } else { 0 };
        }
    }

    fn has_many_pairs(&self, snapshot: &Snapshot, table: Index<FilesRow>) -> bool {
        let mut sockets = ArrayVec::<Index<SocketRow>, HUB_CONNECTIONS>::new();
        let mut own = ArrayVec::<Index<SocketRow>, HUB_CONNECTIONS>::new();
        for place in self.carriers_of(snapshot, table, Edges::Usual) {
            self.spend(1);
            if self.is_exhausted() {
                return true;
            }
            let Some(row) = snapshot.descriptors.at(self.carrier(place)) else { continue };
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
    pub(super) fn other_end(
        &self,
        snapshot: &Snapshot,
        object: ChannelEnd,
        wanted: u32,
        take: &mut dyn FnMut(Index<DescriptorRow>),
    ) {
        let mut each = |file| self.each_descriptor(snapshot, file, wanted, take);
        match object {
            ChannelEnd::Pipe(inode) => self.files.of(inode.position()).for_each(each),
            ChannelEnd::Terminal(terminal) => {
                let link = snapshot.terminals.at(terminal).and_then(|row| row.link);
                if let Some(link) = link {
                    self.files.of(self.first_terminal + link.position()).for_each(each);
                }
            }
            ChannelEnd::Unix(socket) => {
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
            ChannelEnd::Connection(connection) => {
                let far = mirror(snapshot, connection);
                if let Some(file) = far.and_then(|far| linked(&self.file_of_connection, far)) {
                    each(file);
                }
            }
            ChannelEnd::File(file) => self.each_other_file(snapshot, file, &mut each),
            // Those of memory and queues are no descriptors.
            ChannelEnd::Datagram(_)
            | ChannelEnd::AnyPeer(_)
            | ChannelEnd::Memory(_)
            | ChannelEnd::Queue(_) => {}
        }
    }

    /// Whether the other end of a connection is on this machine, and no descriptor of it is known.
    pub(super) fn lacks_other_holder(&self, snapshot: &Snapshot, object: ChannelEnd) -> bool {
        let ChannelEnd::Connection(connection) = object else { return false };
        let file = |far| linked(&self.file_of_connection, far);
        let is_held =
            |far| file(far).is_some_and(|at| self.descriptors.of(at.position()).next().is_some());
        mirror(snapshot, connection).is_some_and(|far| !is_held(far))
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
