//! Objects from which the present scan's search has reached no connection.
//!
//! Many interpreters may read one pipe. The search from it is the same for each of them, unless it
//! led back to the interpreter itself.

use panoptes_tables::{AddressMap, HashKey};

use super::graph::{ChannelEnd, Edges, SearchDirection};
use crate::limits::Limits;

/// A search that has reached nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeadEnd {
    /// Whether that is so only as far as a search goes.
    pub(super) is_cut: bool,
    /// Whether a search that follows files and memory too may find more.
    pub(super) met_files: bool,
}

/// The objects from which nothing is reached, by the way that was followed.
#[derive(Debug)]
pub(super) struct DeadEnds(AddressMap);

impl DeadEnds {
    /// Allocates for `limits`. Further objects are searched from each time.
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        let objects = (limits.processes as usize).saturating_mul(2).min(1 << 16);
        Self(AddressMap::new(objects, key.derive("shells: dead ends")))
    }

    /// Begins a scan: positions of objects are those of one scan.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The state of an object as a dead end; `None` if it is none.
    pub(super) fn get(
        &self,
        object: ChannelEnd,
        way: SearchDirection,
        edges: Edges,
    ) -> Option<DeadEnd> {
        let bits = self.0.get(number(object, way, edges))?;
        Some(DeadEnd { is_cut: bits & 1 != 0, met_files: bits & 2 != 0 })
    }

    pub(super) fn add(
        &mut self,
        object: ChannelEnd,
        way: SearchDirection,
        edges: Edges,
        end: DeadEnd,
    ) {
        let bits = u32::from(end.is_cut) | u32::from(end.met_files) << 1;
        self.0.insert(number(object, way, edges), bits);
    }
}

/// A number of its own, not 0, for each object and kind of search.
fn number(object: ChannelEnd, way: SearchDirection, edges: Edges) -> u64 {
    let (kind, position) = match object {
        ChannelEnd::Pipe(at) => (1, at.position()),
        ChannelEnd::Unix(at) => (2, at.position()),
        ChannelEnd::Terminal(at) => (3, at.position()),
        ChannelEnd::Connection(at) => (4, at.position()),
        ChannelEnd::Datagram(at) => (5, at.position()),
        ChannelEnd::File(at) => (6, at.position()),
        ChannelEnd::Memory(at) => (7, at.position()),
        ChannelEnd::Queue(queue) => (8, queue.slot as usize),
        ChannelEnd::AnyPeer(at) => (9, at.position()),
    };
    let search = u64::from(way == SearchDirection::On) | u64::from(edges == Edges::WithFiles) << 1;
    (position as u64) << 6 | kind << 2 | search
}
