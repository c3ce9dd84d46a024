//! System V message queues by which one process passes bytes to another.
//!
//! Nothing shows what a message had in it, and daemons use queues for jobs. So a process passes
//! bytes on over a queue only if it serves nobody else, as one does over memory ([`mappings`]).
//!
//! [`mappings`]: super::mappings

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};

use super::{Graph, Object, fact};
use crate::walk::{FilesRow, Index, Snapshot};

/// Maximum number of queues that are remembered.
pub(in super::super) const HISTORIES_MAX: usize = 24;
/// Maximum number of processes that use the queue of a relay.
pub(in super::super) const USERS_MAX: usize = 4;
/// Maximum number of uses of all queues together.
pub(in super::super) const USES_MAX: usize = HISTORIES_MAX * USERS_MAX;
/// Maximum number of queues that a relay uses. A process with more serves many others.
const QUEUES_OF_ONE_MAX: usize = 4;
/// Number of scans that must show a use: fewer may be chance.
const SURE_SCANS: u8 = 2;

/// A queue of this scan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueEnd {
    /// Its place among those that are remembered.
    pub slot: u32,
    /// The number that users have.
    pub id: u32,
}

/// The use of a queue by a process.
#[derive(Clone, Copy, Debug)]
pub struct QueueUse {
    pub queue: QueueEnd,
    pub table: Index<FilesRow>,
    /// Numbers of scans that have shown it to send, and to receive.
    pub sends: u8,
    pub receives: u8,
}

impl QueueUse {
    const fn has_mode(&self, mode: u32) -> bool {
        mode & FMODE_READ != 0 && self.receives > 0 || mode & FMODE_WRITE != 0 && self.sends > 0
    }
}

impl Graph {
    /// Sets the uses of queues in this scan.
    pub(in super::super) fn set_queue_uses(&mut self, uses: impl Iterator<Item = QueueUse>) {
        self.queue_uses.clear();
        let room = self.queue_uses.capacity();
        self.queue_uses.extend(uses.take(room));
    }

    /// Whether a process may pass bytes over queues. A light scan does not show all of its
    /// descriptors.
    pub(in super::super) fn passes_queues(
        &self,
        snapshot: &Snapshot,
        table: Index<FilesRow>,
    ) -> bool {
        let count = self.queue_uses.iter().filter(|it| it.table == table).count();
        !snapshot.is_light
            && (1..=QUEUES_OF_ONE_MAX).contains(&count)
            && self.is_alone(snapshot, table)
            && self.fact_of(table, fact::CONNECTED) == Some(false)
    }

    /// The queues that such a process uses in this mode.
    pub(in super::super) fn queues_of(
        &self,
        table: Index<FilesRow>,
        mode: u32,
    ) -> ArrayVec<Object, QUEUES_OF_ONE_MAX> {
        let own = self.queue_uses.iter().filter(|it| it.table == table && it.has_mode(mode));
        own.map(|it| Object::Queue(it.queue)).take(QUEUES_OF_ONE_MAX).collect()
    }

    /// The other processes that use a queue in this mode, and serve nobody else.
    pub(super) fn other_queue_users(
        &self,
        snapshot: &Snapshot,
        queue: QueueEnd,
        table: Index<FilesRow>,
        mode: u32,
    ) -> ArrayVec<Index<FilesRow>, USERS_MAX> {
        let all = self.queue_uses.iter().filter(|it| it.queue == queue && it.table != table);
        let others = all.filter(|it| it.has_mode(mode)).map(|it| it.table);
        let count = |table| self.queue_uses.iter().filter(|it| it.table == table).count();
        let few = others.filter(|&other| count(other) <= QUEUES_OF_ONE_MAX);
        few.filter(|&other| self.is_alone(snapshot, other)).take(USERS_MAX).collect()
    }

    /// Whether several scans have shown messages of one of two processes to the other.
    pub(in super::super) fn is_queue_sure(
        &self,
        queue: QueueEnd,
        one: Index<FilesRow>,
        other: Index<FilesRow>,
    ) -> bool {
        let uses =
            |table| self.queue_uses.iter().find(move |it| it.queue == queue && it.table == table);
        let (Some(one), Some(other)) = (uses(one), uses(other)) else { return false };
        let passes = |one: &QueueUse, other: &QueueUse| {
            one.sends >= SURE_SCANS && other.receives >= SURE_SCANS
        };
        passes(one, other) || passes(other, one)
    }
}
