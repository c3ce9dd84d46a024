//! Connections whose peers may command an interpreter: those that both of its ways reach, and those
//! that it holds.

use arrayvec::ArrayVec;

use super::ReverseShells;
use super::direction::ConnectionDirection;
use super::graph::{self, ChannelEnd, Graph, object_of};
use super::judge::Reason;
use super::pending::StateAge;
use super::search::{GraphSearch, Hop};
use crate::time::RealTime;
use crate::walk::{FilesRow, Index, Snapshot};

/// Maximum number of connections with a path to one interpreter.
pub(super) const CANDIDATES_MAX: usize = 32;

/// A connection with a path to and from an interpreter.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShellCandidate {
    pub(super) object: ChannelEnd,
    /// The hops that reached it; `None` if the interpreter holds it at a descriptor other than its
    /// standard input and output.
    pub(super) inward: Option<Index<Hop>>,
    pub(super) outward: Option<Index<Hop>>,
    /// The connection that output is written to, if it is another one to the same peer.
    pub(super) out_object: ChannelEnd,
    pub(super) direction: ConnectionDirection,
    /// Whether what comes over it goes to a login server of this machine, as it comes.
    pub(super) is_tunnel: bool,
    /// Whether a terminal multiplexer runs a command on the path.
    pub(super) is_of_multiplexer: bool,
    pub(super) reason: Option<Reason>,
    /// Since when, and in how many scans, the reason has applied.
    pub(super) seen: StateAge,
}

impl ShellCandidate {
    /// A connection that a search for input has reached.
    pub(super) fn new(
        object: ChannelEnd,
        inward: Option<Index<Hop>>,
        direction: ConnectionDirection,
    ) -> Self {
        Self {
            object,
            inward,
            outward: None,
            out_object: object,
            direction,
            is_tunnel: false,
            is_of_multiplexer: false,
            reason: None,
            seen: StateAge { since_ns: RealTime::default(), scans: 0 },
        }
    }
}

impl ReverseShells {
    /// The connections that both paths reach.
    pub(super) fn candidates(
        &self,
        snapshot: &Snapshot,
        beside: &[ChannelEnd],
    ) -> ArrayVec<ShellCandidate, CANDIDATES_MAX> {
        let mut found = ArrayVec::new();
        let inward = ends_of(&self.inward);
        for (object, inward) in inward.chain(beside.iter().map(|&object| (object, None))) {
            let outward = ends_of(&self.outward).find(|&(other, _)| other == object);
            let (out_object, outward) = match outward {
                Some(outward) => outward,
                None if beside.contains(&object) => (object, None),
                None => match self.other_of_same_peer(snapshot, object) {
                    Some(other) => other,
                    None => continue,
                },
            };
            let is_new = !found.iter().any(|seen: &ShellCandidate| seen.object == object);
            if is_new && !found.is_full() && !self.connects_the_chain(snapshot, object, inward) {
                let direction = self.direction_of(snapshot, object);
                let candidate = ShellCandidate::new(object, inward, direction);
                found.push(ShellCandidate { outward, out_object, ..candidate });
            }
        }
        found
    }

    /// Whether the other end of a connection is on the path from it: it connects two processes of a
    /// chain, and a FIFO leads back to it.
    fn connects_the_chain(
        &self,
        snapshot: &Snapshot,
        object: ChannelEnd,
        hop: Option<Index<Hop>>,
    ) -> bool {
        let ChannelEnd::Connection(at) = object else { return false };
        let mut hops = self.inward.path(hop).skip(1).peekable();
        hops.peek().is_some()
            && graph::mirror(snapshot, at)
                .is_some_and(|far| hops.any(|hop| hop.object == ChannelEnd::Connection(far)))
    }

    /// Another outgoing connection to the same peer: one to read commands from, one to write to.
    fn other_of_same_peer(
        &self,
        snapshot: &Snapshot,
        object: ChannelEnd,
    ) -> Option<(ChannelEnd, Option<Index<Hop>>)> {
        let ChannelEnd::Connection(one) = object else { return None };
        let peer =
            |at: Index<_>| Some(snapshot.connections.at(at)?.endpoints.destination.to_canonical());
        if self.direction_of(snapshot, object) == ConnectionDirection::Accepted {
            return None;
        }
        ends_of(&self.outward).find(|&(other, _)| {
            matches!(other, ChannelEnd::Connection(at) if at != one && peer(at) == peer(one))
                && self.direction_of(snapshot, other) != ConnectionDirection::Accepted
                && graph::mirror(snapshot, one)
                    .is_none_or(|far| other != ChannelEnd::Connection(far))
        })
    }

    pub(super) fn direction_of(
        &self,
        snapshot: &Snapshot,
        object: ChannelEnd,
    ) -> ConnectionDirection {
        match object {
            ChannelEnd::Connection(at) => snapshot
                .connections
                .at(at)
                .map_or(ConnectionDirection::Unknown, |row| self.directions.of(snapshot, row)),
            _ => ConnectionDirection::Unknown,
        }
    }
}

/// The connections that a search has reached, nearest first.
pub(super) fn ends_of(
    search: &GraphSearch,
) -> impl Iterator<Item = (ChannelEnd, Option<Index<Hop>>)> + '_ {
    search.hops().iter().enumerate().filter_map(|(at, hop)| {
        matches!(hop.object, ChannelEnd::Connection(_) | ChannelEnd::Datagram(_))
            .then_some((hop.object, Index::new(at)))
    })
}

/// The sockets without a destination that a search has reached, nearest first.
pub(super) fn any_peers_of(
    search: &GraphSearch,
) -> impl Iterator<Item = (ChannelEnd, Option<Index<Hop>>)> + '_ {
    let all = search.hops().iter().enumerate();
    let found = all.filter(|(_, hop)| matches!(hop.object, ChannelEnd::AnyPeer(_)));
    found.map(|(at, hop)| (hop.object, Index::new(at)))
}

/// Whether a search has reached nothing by which a peer may send or get bytes.
pub(super) fn is_dead_end(search: &GraphSearch) -> bool {
    ends_of(search).next().is_none() && any_peers_of(search).next().is_none()
}

/// The connections that a table holds at descriptors other than standard input, output and error,
/// or in slots of rings.
pub(super) fn at_other_descriptors(
    snapshot: &Snapshot,
    index: Index<FilesRow>,
    graph: &Graph,
) -> ArrayVec<ChannelEnd, 16> {
    let mut found = ArrayVec::new();
    // Tables have no more descriptors in total than the scan has read, but many processes may share
    // one.
    if graph.processes_of(index).nth(1).is_some() {
        graph.spend(snapshot.descriptor_indexes_of(index).count());
    }
    for row in snapshot.descriptors_of(index).filter(|row| row.index > 2) {
        let object = object_of(snapshot, row.file);
        if let Some(object @ (ChannelEnd::Connection(_) | ChannelEnd::Datagram(_))) = object
            && !found.contains(&object)
            && !found.is_full()
        {
            found.push(object);
        }
    }
    found
}
