//! The connections that were reported, while they exist.

use panoptes_decoders::address::KernelVa;
use panoptes_tables::HashKey;

use super::direction::{key_of, key_of_datagram};
use super::graph::{Object, Tuple, tuple_of};
use crate::walk::Snapshot;

/// Maximum number of connections that are remembered. While all of them exist, no other is
/// reported.
const REPORTED_MAX: usize = 1024;
/// A connection is forgotten when more than this many scans in a row have not shown it.
const ABSENT_SCANS: u32 = 2;

/// How a connection is found in a scan.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Connections are sorted by this.
    Connection(Tuple),
    /// `struct sock *` of another socket.
    Datagram(KernelVa),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    place: Place,
    absent: u32,
}

/// The connections that were reported.
#[derive(Debug)]
pub(super) struct Reported {
    key: HashKey,
    list: Vec<Entry>,
}

impl Reported {
    pub(super) fn new(key: HashKey) -> Self {
        Self::with_room_for(REPORTED_MAX, key)
    }

    pub(super) fn with_room_for(count: usize, key: HashKey) -> Self {
        Self { key, list: Vec::with_capacity(count) }
    }

    /// The key of a connection; `None` for other objects.
    pub(super) fn key(&self, snapshot: &Snapshot, object: Object) -> Option<u64> {
        match object {
            Object::Connection(at) => snapshot.connections.at(at).map(|row| key_of(row, self.key)),
            Object::Datagram(at) => key_of_datagram(snapshot.sockets.at(at)?, self.key),
            Object::Pipe(_) | Object::Unix(_) | Object::Terminal(_) => None,
        }
    }

    pub(super) fn has(&self, snapshot: &Snapshot, object: Object) -> bool {
        let key = self.key(snapshot, object);
        key.is_some_and(|key| self.list.iter().any(|entry| entry.key == key))
    }

    pub(super) fn is_full(&self) -> bool {
        self.list.len() == self.list.capacity()
    }

    pub(super) fn add(&mut self, snapshot: &Snapshot, object: Object) {
        let Some(key) = self.key(snapshot, object) else { return };
        if self.list.iter().any(|entry| entry.key == key) {
            return;
        }
        let place = match object {
            Object::Connection(at) => {
                snapshot.connections.at(at).map(|row| Place::Connection(tuple_of(row)))
            }
            Object::Datagram(at) => snapshot.sockets.at(at).map(|row| Place::Datagram(row.address)),
            _ => None,
        };
        if let Some(place) = place.filter(|_| !self.is_full()) {
            self.list.push(Entry { key, place, absent: 0 });
        }
    }

    /// Removes connections that have ended.
    pub(super) fn forget_ended(&mut self, snapshot: &Snapshot) {
        let secret = self.key;
        for entry in &mut self.list {
            let is_there = match entry.place {
                Place::Connection(tuple) => {
                    let rows = &snapshot.connections;
                    let start = rows.partition_point(|row| tuple_of(row) < tuple);
                    // At most one in each network namespace.
                    let same = rows.iter().skip(start).take_while(|row| tuple_of(row) == tuple);
                    same.take(64).any(|row| key_of(row, secret) == entry.key)
                }
                Place::Datagram(address) => snapshot.sockets.iter().any(|row| {
                    row.address == address && key_of_datagram(row, secret) == Some(entry.key)
                }),
            };
            entry.absent = if is_there { 0 } else { entry.absent + 1 };
        }
        self.list.retain(|entry| entry.absent <= ABSENT_SCANS);
    }
}
