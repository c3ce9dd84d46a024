//! Follows bytes from a descriptor over the [`Graph`], breadth first, towards their sources or
//! their targets.
//!
//! A process relays bytes only if it holds both ends: a source open for reading, and a target open
//! for writing. Every step is bounded, and nothing is allocated.

use arrayvec::ArrayVec;
use panoptes_tables::room;

use super::graph::{
    ChannelEnd, Edges, Graph, SearchDirection, has_closed_sending, is_established, is_master,
    is_same_link, object_of,
};
use crate::walk::{DescriptorRow, FilesRow, Index, Snapshot};

/// Maximum number of hops of one search.
const HOPS_MAX: usize = 512;
/// Maximum number of processes that one path of a search passes.
pub(super) const HOLDER_DEPTH_MAX: u32 = 12;

/// One step of a search: a process, and an object that it reads from or writes to.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// Its table of descriptors.
    pub table: Index<FilesRow>,
    /// The object further away from the start.
    pub object: ChannelEnd,
    /// The descriptor for that object; memory and queues have none.
    pub outer: Option<Index<DescriptorRow>>,
    /// The descriptor towards the search's start; `None` at the start, and behind memory and
    /// queues.
    pub inner: Option<Index<DescriptorRow>>,
    /// The previous hop.
    pub parent: Option<Index<Self>>,
    depth: u32,
}

impl Hop {
    /// What its holder has at the end towards the interpreter.
    pub(super) fn inner_object(&self, snapshot: &Snapshot) -> Option<ChannelEnd> {
        object_of(snapshot, snapshot.descriptors.at(self.inner)?.file)
    }

    /// Whether its holder has the master of a terminal, and an AF_UNIX socket for what passes it.
    pub(super) fn leads_from_master_to_socket(&self, snapshot: &Snapshot) -> bool {
        matches!(self.object, ChannelEnd::Unix(_))
            && self.inner_object(snapshot).is_some_and(|inner| is_master(snapshot, inner))
    }
}

/// A breadth-first search for the sources or targets of bytes.
#[derive(Debug)]
pub struct GraphSearch {
    way: SearchDirection,
    hops: Vec<Hop>,
    /// Whether something was left out since it belongs to the interpreter that the search began at.
    left_out_own: bool,
    edges: Edges,
    /// Whether a process on the way may pass bytes over regular files or shared memory.
    met_files: bool,
}

impl GraphSearch {
    /// Allocates room for one search in this direction.
    pub fn new(way: SearchDirection) -> Self {
        let hops = room::list(HOPS_MAX);
        Self { way, hops, left_out_own: false, edges: Edges::Usual, met_files: false }
    }

    /// Whether a search that follows files and memory too may find more.
    pub(super) const fn met_files(&self) -> bool {
        self.met_files
    }

    /// Notes that such a search may find more, if so.
    pub(super) const fn meet_files(&mut self, may_find_more: bool) {
        self.met_files |= may_find_more;
    }

    /// All hops, those near the start first.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// The hops from one of them to the search's start.
    pub fn path(&self, hop: Option<Index<Hop>>) -> impl Iterator<Item = &Hop> {
        let mut at = hop;
        (0..=HOLDER_DEPTH_MAX).map_while(move |_| {
            let hop = self.hops.get(at?.position())?;
            at = hop.parent;
            Some(hop)
        })
    }

    pub fn is_full(&self) -> bool {
        self.hops.len() == self.hops.capacity()
    }

    /// Whether a search from the same object finds the same, whichever interpreter it begins at.
    pub(super) fn holds_for_all(&self, graph: &Graph) -> bool {
        !self.left_out_own && !graph.is_exhausted()
    }

    /// Clears the search.
    pub fn begin(&mut self) {
        self.begin_with(Edges::Usual);
    }

    /// Clears the search, and determines what it follows.
    pub(super) fn begin_with(&mut self, edges: Edges) {
        self.hops.clear();
        self.left_out_own = false;
        self.met_files = false;
        self.edges = edges;
    }

    /// Starts at a descriptor, if bytes can pass it in this direction. A search may have several
    /// starts. A regular file as standard input has an end, so it is no start.
    pub fn begin_at(
        &mut self,
        snapshot: &Snapshot,
        graph: &Graph,
        table: Index<FilesRow>,
        descriptor: Option<Index<DescriptorRow>>,
    ) -> Option<ChannelEnd> {
        let row = snapshot.descriptors.at(descriptor)?;
        let object = self.passable(snapshot, graph, row)?;
        if self.way == SearchDirection::Back && matches!(object, ChannelEnd::File(_)) {
            return None;
        }
        if !self.hops.iter().any(|hop| hop.object == object) {
            let outer = descriptor;
            self.push(Hop { table, object, outer, inner: None, parent: None, depth: 0 });
        }
        Some(object)
    }

    /// The object of a descriptor, if it is open in the required mode.
    fn passable(
        &self,
        snapshot: &Snapshot,
        graph: &Graph,
        row: &DescriptorRow,
    ) -> Option<ChannelEnd> {
        let file = snapshot.files.at(row.file)?;
        let is_open = file.open.mode & self.way.outer_mode() != 0;
        let object = graph.object_of(snapshot, row.file, self.edges).filter(|_| is_open)?;
        let is_done = |at| snapshot.connections.at(at).is_some_and(has_closed_sending);
        match (object, self.way) {
            (ChannelEnd::Connection(at), SearchDirection::On) if is_done(at) => None,
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
            if hop.object.is_shared() {
                self.pass_shared(snapshot, graph, at, hop);
            } else if hop.depth < HOLDER_DEPTH_MAX && !graph.is_exhausted() {
                let inner_mode = self.way.inner_mode();
                // Descriptors of one table are adjacent, and lead to the same objects.
                let mut last = None;
                let mut left_out_own = false;
                graph.other_end(snapshot, hop.object, inner_mode, &mut |inner| {
                    let table = graph.table_of(inner);
                    let is_own = table == origin || self.is_own_input(snapshot, hop, inner);
                    left_out_own |= is_own;
                    if let Some(table) = table
                        && table != hop.table
                        && Some(table) != last
                        && !is_own
                        && !self.is_read_only(snapshot, hop, inner)
                    {
                        last = Some(table);
                        self.pass_through(snapshot, graph, at, hop, table, Some(inner));
                    }
                });
                self.left_out_own |= left_out_own;
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
        self.way == SearchDirection::Back
            && matches!(hop.object, ChannelEnd::Pipe(_))
            && inner.is_some_and(|inner| inner.index == 0 && is_same(inner))
    }

    /// Whether a process has a pair of sockets from a program with a pseudoterminal as its standard
    /// input alone. A terminal multiplexer passes what a pane shows to a command in this way (`tmux
    /// pipe-pane -O`), and the command types nothing into the pane.
    ///
    /// The graph has the last of the descriptors of one open file in a table.
    fn is_read_only(&self, snapshot: &Snapshot, hop: Hop, inner: Index<DescriptorRow>) -> bool {
        self.way == SearchDirection::Back
            && snapshot.descriptors.at(inner).is_some_and(|row| row.index == 0)
            && hop.leads_from_master_to_socket(snapshot)
    }

    /// Passes through the other processes that share the memory or the queue of a hop.
    fn pass_shared(&mut self, snapshot: &Snapshot, graph: &Graph, at: usize, hop: Hop) {
        let origin = self.hops.first().map(|hop| hop.table);
        let mode = self.way.inner_mode();
        for table in graph.others_of(snapshot, hop.object, hop.table, mode) {
            if Some(table) == origin {
                self.left_out_own = true;
            } else if hop.depth < HOLDER_DEPTH_MAX && !graph.is_exhausted() {
                self.pass_through(snapshot, graph, at, hop, table, None);
            }
        }
    }

    /// Adds the memory and queues that the holder of `inner` shares with others, or notes that a
    /// search which follows these may find more. A path leads over one of them once: what two
    /// processes pass to each other is seldom what a third gets.
    fn add_shared(
        &mut self,
        snapshot: &Snapshot,
        graph: &Graph,
        at: usize,
        (hop, table, inner): (Hop, Index<FilesRow>, Option<Index<DescriptorRow>>),
    ) {
        let is_usual = self.edges == Edges::Usual;
        if is_usual && self.met_files || self.path(Index::new(at)).any(|hop| hop.object.is_shared())
        {
            return;
        }
        let passes_memory = graph.passes_memory(snapshot, table);
        let passes_queues = graph.passes_queues(snapshot, table);
        if !passes_memory && !passes_queues {
            return;
        }
        self.met_files = true;
        if is_usual {
            return;
        }
        let mode = self.way.outer_mode();
        let (mut memory, mut queues) = (ArrayVec::new(), ArrayVec::new());
        if passes_memory {
            memory = graph.memory_of(snapshot, table, mode);
        }
        if passes_queues {
            queues = graph.queues_of(table, mode);
        }
        for object in memory.into_iter().map(ChannelEnd::Memory).chain(queues) {
            if !self.hops.iter().any(|seen| seen.object == object) {
                let (parent, depth) = (Index::new(at), hop.depth + 1);
                self.push(Hop { table, object, outer: None, inner, parent, depth });
            }
        }
    }

    /// Adds the other objects of the holder of `inner`, which is at the other end of the object of
    /// `hop`, the one at `at`; without `inner`, that object is memory or a queue.
    fn pass_through(
        &mut self,
        snapshot: &Snapshot,
        graph: &Graph,
        at: usize,
        hop: Hop,
        table: Index<FilesRow>,
        inner: Option<Index<DescriptorRow>>,
    ) {
        let inner_row = snapshot.descriptors.at(inner);
        let inner_object = match inner_row {
            Some(row) => graph.object_of(snapshot, row.file, self.edges),
            None => Some(hop.object).filter(|_| inner.is_none()),
        };
        let Some(inner_object) = inner_object else { return };
        let passes_files = graph.passes_files(snapshot, table);
        self.met_files |= passes_files;
        if matches!(inner_object, ChannelEnd::File(_)) && !passes_files {
            return;
        }
        self.add_shared(snapshot, graph, at, (hop, table, inner));
        let mut is_hub = None;
        // A process that serves several terminals does not pass the output of one to another.
        let is_master = is_master(snapshot, inner_object);
        let left_out = if is_master { graph.masters_of(snapshot, table) } else { 0..0 };
        for place in graph.carriers_of(snapshot, table, self.edges) {
            if left_out.contains(&place) {
                continue;
            }
            graph.spend(1);
            if graph.is_exhausted() || self.is_full() {
                return;
            }
            let Some(outer) = graph.carrier(place) else { continue };
            let Some(row) = snapshot.descriptors.at(outer) else { continue };
            let Some(object) = self.passable(snapshot, graph, row) else { continue };
            // A server's answers to many peers are no answers to one shell's.
            if matches!(object, ChannelEnd::AnyPeer(_)) && !graph.is_alone(snapshot, table) {
                continue;
            }
            if is_same_link(snapshot, object, inner_object) {
                continue;
            }
            // A server that still holds a closed connection of an earlier client relays nothing to
            // that client.
            if let (ChannelEnd::Connection(at), ChannelEnd::Connection(_)) = (object, inner_object)
                && !snapshot.connections.at(at).is_some_and(is_established)
            {
                continue;
            }
            if let (ChannelEnd::Unix(_), ChannelEnd::Unix(_)) = (object, inner_object)
                && *is_hub.get_or_insert_with(|| graph.is_a_hub(snapshot, table))
            {
                continue;
            }
            if self.hops.iter().any(|seen| seen.object == object) {
                continue;
            }
            let (outer, parent, depth) = (Some(outer), Index::new(at), hop.depth + 1);
            self.push(Hop { table, object, outer, inner, parent, depth });
        }
    }
}
