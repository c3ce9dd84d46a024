//! System V message queues by which one process passes bytes to another.
//!
//! Nothing shows what a message had in it, and daemons use queues for jobs. So a process passes
//! bytes on over a queue only if it serves nobody else, as one does over memory ([`mappings`]).
//!
//! [`mappings`]: super::mappings

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};

use super::{ChannelEnd, Graph, fact};
use crate::walk::{FilesRow, Index, Snapshot};

/// Maximum number of queues that are remembered.
pub(in super::super) const HISTORIES_MAX: usize = 24;
/// Maximum number of processes that use the queue of a relay.
pub(in super::super) const USERS_MAX: usize = 4;
/// Maximum number of uses of all queues together.
pub(in super::super) const USES_MAX: usize = HISTORIES_MAX * USERS_MAX;
/// Maximum number of queues that a relay uses. A process with more serves many others.
const QUEUES_OF_ONE_MAX: usize = 4;
/// Number of scans that must show a new message from one process to another: fewer may be chance.
const SURE_SCANS: u8 = 2;

const _: () = assert!(USERS_MAX * Senders::BITS as usize <= u8::BITS as usize);

/// A queue of this scan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueEnd {
    /// Its place among those that are remembered.
    pub slot: u32,
    /// The number that users have.
    pub id: u32,
}

/// The users of its queue whose messages a process has received: for each of them the number of
/// scans that have shown it, up to 3.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Senders(u8);

impl Senders {
    /// Bits for each user, by its place among them.
    const BITS: u32 = 2;
    const MOST: u8 = (1 << Self::BITS) - 1;

    const fn count(self, user: u8) -> u8 {
        match self.0.checked_shr(Self::BITS * user as u32) {
            Some(bits) => bits & Self::MOST,
            None => 0,
        }
    }

    /// Counts a scan that has shown a new message from the user at a place below [`USERS_MAX`].
    pub(in super::super) const fn add(&mut self, user: u8) {
        if self.count(user) < Self::MOST
            && let Some(one) = 1_u8.checked_shl(Self::BITS * user as u32)
        {
            self.0 += one;
        }
    }

    /// Removes a user: those behind it move by one place.
    pub(in super::super) const fn remove(&mut self, user: u8) {
        let at = Self::BITS * user as u32;
        let Some(bits) = u8::MAX.checked_shl(at) else { return };
        let behind = match (self.0 & bits).checked_shr(Self::BITS) {
            Some(behind) => behind & bits,
            None => 0,
        };
        self.0 = self.0 & !bits | behind;
    }
}

/// The use of a queue by a process.
#[derive(Clone, Copy, Debug)]
pub struct QueueUse {
    pub queue: QueueEnd,
    pub table: Index<FilesRow>,
    /// Its place among the users of the queue.
    pub user: u8,
    /// Whether a scan has shown it to send, and to receive.
    pub sends: bool,
    pub receives: bool,
    pub senders: Senders,
}

impl QueueUse {
    const fn has_mode(&self, mode: u32) -> bool {
        mode & FMODE_READ != 0 && self.receives || mode & FMODE_WRITE != 0 && self.sends
    }

    /// Whether several scans have shown messages of another user to this one.
    const fn receives_from(&self, other: &Self) -> bool {
        self.senders.count(other.user) >= SURE_SCANS
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
    ) -> ArrayVec<ChannelEnd, QUEUES_OF_ONE_MAX> {
        let own = self.queue_uses.iter().filter(|it| it.table == table && it.has_mode(mode));
        own.map(|it| ChannelEnd::Queue(it.queue)).take(QUEUES_OF_ONE_MAX).collect()
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
        one.receives_from(other) || other.receives_from(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_counted_by_their_places() {
        let mut senders = Senders::default();
        let counts = |senders: Senders| [0, 1, 2, 3].map(|user| senders.count(user));
        for (user, times) in [(0, 1), (1, 2), (3, 9)] {
            (0..times).for_each(|_| senders.add(user));
        }
        assert_eq!(counts(senders), [1, 2, 0, 3]);
        for (user, expected) in
            [(0, [2, 0, 3, 0]), (1, [1, 0, 3, 0]), (2, [1, 2, 3, 0]), (3, [1, 2, 0, 0])]
        {
            let mut left = senders;
            left.remove(user);
            assert_eq!(counts(left), expected, "{user}");
        }
        senders.add(4);
        senders.remove(255);
        assert_eq!((counts(senders), senders.count(4)), ([1, 2, 0, 3], 0));
    }
}
