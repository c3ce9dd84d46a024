//! Pairs of interpreter and connection that are watched from scan to scan. Whose interpreters have
//! most of them makes room for those of others.

use panoptes_tables::{Counts, HashKey, Scan, room};

use super::rows::process_of_key;
use crate::state::process::ProcessKey;
use crate::walk::{ProcessRow, Snapshot};

/// An interpreter and a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pair {
    pub(super) key: u64,
    /// The interpreter, and which of its programs.
    pub(super) process: ProcessKey,
    pub(super) exec_id: u32,
}

impl Pair {
    /// Whether this is the process of the pair, and runs the same program.
    pub(super) fn is_of(&self, snapshot: &Snapshot, process: &ProcessRow) -> bool {
        snapshot.leader(process).is_some_and(|leader| {
            (ProcessKey::of(&leader.task), leader.task.self_exec_id) == (self.process, self.exec_id)
        })
    }
}

/// A pair that is watched, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<T> {
    pair: Pair,
    /// Whose interpreter it is ([`crate::walk::Snapshot::group_of`]).
    group: u64,
    seen: Scan,
    state: T,
}

/// All pairs that are watched.
#[derive(Debug)]
pub(super) struct Pairs<T> {
    scan: Scan,
    pub(super) list: Vec<Entry<T>>,
    pub(super) groups: Counts,
    /// The process of the last pair that found no room or made room.
    refused: Option<u32>,
}

impl<T> Pairs<T> {
    /// Has room for `most` pairs.
    pub(super) fn new(most: usize, key: HashKey) -> Self {
        let groups = Counts::new(most, key);
        Self { scan: Scan::default(), list: room::list(most), groups, refused: None }
    }

    /// Counts pairs whose processes have not ended as seen in this scan, which may not have checked
    /// them. Most scans of a machine with much work leave something, so absence shows little there.
    pub(super) fn see_living(&mut self, snapshot: &Snapshot) {
        let scan = self.scan;
        let living =
            self.list.iter_mut().filter(|it| process_of_key(snapshot, &it.pair.process).is_some());
        living.for_each(|entry| entry.seen = scan);
    }

    /// Begins a scan, and forgets pairs that more than so many scans in a row have not shown.
    pub(super) fn begin_scan(&mut self, absent_scans_max: u32) {
        self.scan = self.scan.next();
        let (scan, groups) = (self.scan, &mut self.groups);
        self.list.retain(|entry| {
            let stays = scan.since(entry.seen) <= absent_scans_max;
            if !stays {
                groups.remove(entry.group);
            }
            stays
        });
    }

    /// The process of a pair that has found no room or made room since the last call.
    pub(super) fn take_refused(&mut self) -> Option<u32> {
        self.refused.take()
    }

    /// Whether one more pair has room without another one's.
    pub(super) const fn has_room(&self) -> bool {
        self.list.len() < self.list.capacity()
    }

    /// What is known of a pair.
    pub(super) fn get(&self, pair: Pair) -> Option<&T> {
        self.list.iter().find(|entry| entry.pair == pair).map(|entry| &entry.state)
    }

    /// The same, for a change. The pair does not count as seen.
    pub(super) fn get_mut(&mut self, pair: Pair) -> Option<&mut T> {
        self.list.iter_mut().find(|entry| entry.pair == pair).map(|entry| &mut entry.state)
    }

    /// The pairs that this scan has not shown so far.
    pub(super) fn unseen(&self) -> impl Iterator<Item = (Pair, &T)> {
        let unseen = self.list.iter().filter(|entry| entry.seen != self.scan);
        unseen.map(|entry| (entry.pair, &entry.state))
    }

    /// Notes that this scan shows a pair. Returns what is known of it, and whether the scan shows
    /// it for the first time.
    pub(super) fn see(&mut self, pair: Pair) -> Option<(&mut T, bool)> {
        let entry = self.list.iter_mut().find(|entry| entry.pair == pair)?;
        let is_first = core::mem::replace(&mut entry.seen, self.scan) != self.scan;
        Some((&mut entry.state, is_first))
    }

    /// The pairs that the last scan showed, and this one does not.
    pub(super) fn missed(&self) -> impl Iterator<Item = (Pair, &T)> {
        let missed = self.list.iter().filter(|entry| self.scan.since(entry.seen) == 1);
        missed.map(|entry| (entry.pair, &entry.state))
    }

    /// Begins to watch a pair, if there is room; another one may make it.
    pub(super) fn add(&mut self, pair: Pair, group: u64, state: T) {
        if self.list.len() == self.list.capacity() {
            let above = self.groups.who_makes_room_for(group);
            // The one that was seen last.
            let at = above.and_then(|above| self.list.iter().rposition(|it| it.group == above));
            let Some(at) = at else {
                self.refused = Some(pair.process.process_id);
                return;
            };
            let left_out = self.list.remove(at);
            self.groups.remove(left_out.group);
            self.refused = Some(left_out.pair.process.process_id);
        }
        self.groups.add(group);
        self.list.push(Entry { pair, group, seen: self.scan, state });
    }
}
