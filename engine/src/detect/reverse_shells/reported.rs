//! The connections that were reported, while they exist.

use panoptes_tables::{HashKey, Key, Row, RowId, ScanNumber, Table};

use super::direction::{key_of, key_of_datagram};
use super::graph::{ChannelEnd, Tuple, tuple_of};
use crate::limits::Limits;
use crate::walk::Snapshot;

/// Maximum number of connections that are remembered.
const REPORTED_MAX: usize = 8192;
/// While all of them exist, so many make room for others in [`TURN_SCANS`] scans: for those of new
/// interpreters, and for those of old ones. What has made room is reported again.
const TURNS: [u32; 2] = [64, 16];
/// See [`TURNS`]; for as many scans an interpreter is new.
pub(super) const TURN_SCANS: u32 = 64;
/// A connection is forgotten when more than this many consecutive scans have not shown it.
const REPORTED_ABSENT_SCANS: u32 = 2;

/// How a connection is found in a scan.
#[derive(Clone, Copy, Debug)]
enum ConnectionLocator {
    /// Connections are sorted by this.
    Connection(Tuple),
    /// Another socket, by its key alone.
    Datagram,
}

/// The key of a reported connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct EntryKey(u64);

impl Key for EntryKey {
    fn hash(&self, key: HashKey) -> u64 {
        key.hash_numbers([self.0])
    }
}

#[derive(Clone, Copy, Debug)]
struct ReportedConnection {
    key: EntryKey,
    place: ConnectionLocator,
    absent: u32,
}

impl Row for ReportedConnection {
    type Key = EntryKey;

    fn key(&self) -> EntryKey {
        self.key
    }
}

/// The connections that were reported.
#[derive(Debug)]
pub(super) struct ReportedConnections {
    key: HashKey,
    table: Table<ReportedConnection>,
    /// The last row that was added.
    last: Option<RowId>,
    turns_left: [u32; 2],
    scan: ScanNumber,
}

impl ReportedConnections {
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        Self::with_room_for((limits.connections as usize).clamp(1024, REPORTED_MAX), key)
    }

    pub(super) fn with_room_for(count: usize, key: HashKey) -> Self {
        let table = Table::without_scans(count, key.derive("shells: reported rows"));
        Self { key, table, last: None, turns_left: TURNS, scan: ScanNumber::default() }
    }

    /// The secret of keys of connections.
    pub(super) const fn secret(&self) -> HashKey {
        self.key
    }

    /// The key of a connection; `None` for other objects.
    pub(super) fn key(&self, snapshot: &Snapshot, object: ChannelEnd) -> Option<u64> {
        match object {
            ChannelEnd::Connection(at) => {
                snapshot.connections.at(at).map(|row| key_of(row, self.key))
            }
            ChannelEnd::Datagram(at) | ChannelEnd::AnyPeer(at) => {
                key_of_datagram(snapshot.sockets.at(at)?, self.key)
            }
            _ => None,
        }
    }

    pub(super) fn has(&self, snapshot: &Snapshot, object: ChannelEnd) -> bool {
        self.key(snapshot, object).is_some_and(|key| self.has_key(key))
    }

    pub(super) fn has_key(&self, key: u64) -> bool {
        self.table.find(&EntryKey(key)).is_some()
    }

    /// Whether there is room for one more, of a new interpreter or an old one. If all places are
    /// taken, one that has ended makes room, or else the one that was added last, a few times.
    pub(super) fn makes_room(&mut self, is_new: bool) -> bool {
        if self.table.len() < self.table.capacity() {
            return true;
        }
        let has_ended = |id: &RowId| self.table.get(*id).is_some_and(|entry| entry.absent > 0);
        let ended = self.table.ids().find(has_ended);
        let id = ended.or_else(|| {
            let turns = &mut self.turns_left[usize::from(!is_new)];
            *turns = turns.checked_sub(1)?;
            self.last.take().or_else(|| self.table.ids().last())
        });
        id.is_some_and(|id| self.table.remove(id).is_some())
    }

    pub(super) fn add(&mut self, snapshot: &Snapshot, object: ChannelEnd) {
        let Some(key) = self.key(snapshot, object).map(EntryKey) else { return };
        if self.table.find(&key).is_some() {
            return;
        }
        let place = match object {
            ChannelEnd::Connection(at) => {
                snapshot.connections.at(at).map(|row| ConnectionLocator::Connection(tuple_of(row)))
            }
            ChannelEnd::Datagram(_) | ChannelEnd::AnyPeer(_) => Some(ConnectionLocator::Datagram),
            _ => None,
        };
        if let Some(place) = place {
            self.last = self.table.insert(ReportedConnection { key, place, absent: 0 }, self.scan);
        }
    }

    /// Removes connections that have ended. Absence from a scan that left something proves nothing.
    pub(super) fn forget_ended(&mut self, snapshot: &Snapshot) {
        if !snapshot.left.is_empty() && self.table.len() < self.table.capacity() {
            return;
        }
        let secret = self.key;
        self.scan = self.scan.next();
        if self.scan.0.is_multiple_of(TURN_SCANS) {
            self.turns_left = TURNS;
        }
        let mut has_datagrams = false;
        for number in 0..self.table.end() {
            let Some(entry) = self.table.get_mut(RowId(number)) else { continue };
            let is_there = match entry.place {
                ConnectionLocator::Connection(tuple) => {
                    let rows = &snapshot.connections;
                    let start = rows.partition_point(|row| tuple_of(row) < tuple);
                    // At most one in each network namespace.
                    let same = rows.iter().skip(start).take_while(|row| tuple_of(row) == tuple);
                    same.take(64).any(|row| key_of(row, secret) == entry.key.0)
                }
                ConnectionLocator::Datagram => false,
            };
            has_datagrams |= matches!(entry.place, ConnectionLocator::Datagram);
            entry.absent = if is_there { 0 } else { entry.absent + u32::from(snapshot.counts()) };
        }
        // One look at all sockets, however many were reported.
        for row in snapshot.sockets.iter().filter(|_| has_datagrams) {
            let found =
                key_of_datagram(row, secret).and_then(|key| self.table.find(&EntryKey(key)));
            if let Some(entry) = found.and_then(|id| self.table.get_mut(id)) {
                entry.absent = 0;
            }
        }
        for number in 0..self.table.end() {
            let id = RowId(number);
            if self.table.get(id).is_some_and(|entry| entry.absent > REPORTED_ABSENT_SCANS) {
                self.table.remove(id);
            }
        }
    }
}
