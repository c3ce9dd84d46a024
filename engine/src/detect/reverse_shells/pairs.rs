//! Pairs of interpreter and connection that are watched from scan to scan. Whose interpreters have
//! most of them makes room for those of others.

use panoptes_tables::{HashKey, OwnerCounts, ScanNumber, room};

use super::rows::process_of_key;
use crate::state::process::ProcessKey;
use crate::walk::{ProcessRow, Snapshot};

/// A pair is forgotten when so many consecutive scans have not shown it. A program that has just
/// changed its descriptors is not shown.
pub(super) const PAIR_ABSENT_SCANS: u32 = 64;
/// A pair is forgotten after so many scans that have not shown it, even if each may only have left
/// it out: its process may live longer than its connection. One scan in a second leaves nothing
/// that rests.
const UNSHOWN_SCANS_MAX: u32 = 2048;
const _: () = assert!(PAIR_ABSENT_SCANS < UNSHOWN_SCANS_MAX, "the second bound is the looser one");

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
pub(super) struct WatchedPair<T> {
    pair: Pair,
    /// Owner of the interpreter ([`crate::walk::Snapshot::group_of`]).
    group: u64,
    seen: ScanNumber,
    /// The last scan that showed it, and did not only leave it out.
    shown: ScanNumber,
    state: T,
}

/// All pairs that are watched.
#[derive(Debug)]
pub(super) struct Pairs<T> {
    scan: ScanNumber,
    pub(super) list: Vec<WatchedPair<T>>,
    pub(super) groups: OwnerCounts,
    /// The process of the last pair that found no room or made room.
    refused: Option<u32>,
}

impl<T> Pairs<T> {
    /// Has room for `most` pairs.
    pub(super) fn new(most: usize, key: HashKey) -> Self {
        let groups = OwnerCounts::new(most, key);
        Self { scan: ScanNumber::default(), list: room::list(most), groups, refused: None }
    }

    /// Counts pairs whose processes have not ended as seen in this scan, which may not have checked
    /// them. Most scans of a machine with much work leave something, so absence shows little there.
    fn see_living(&mut self, snapshot: &Snapshot) {
        self.see_those(|process| process_of_key(snapshot, process).is_some());
    }

    fn see_those(&mut self, lives: impl Fn(&ProcessKey) -> bool) {
        let scan = self.scan;
        let living = self.list.iter_mut().filter(|entry| lives(&entry.pair.process));
        living.for_each(|entry| entry.seen = scan);
    }

    /// Begins a scan, and forgets pairs that the last `absent_scans_max` scans have not shown. If
    /// the last scan `was_cut`, it may not have checked them. Then this one shows whose processes
    /// live.
    pub(super) fn begin_scan(&mut self, was_cut: Option<&Snapshot>, absent_scans_max: u32) {
        if let Some(snapshot) = was_cut {
            self.see_living(snapshot);
        }
        self.scan = self.scan.next();
        let (scan, groups) = (self.scan, &mut self.groups);
        self.list.retain(|entry| {
            let stays = scan.since(entry.seen) <= absent_scans_max
                && scan.since(entry.shown) <= UNSHOWN_SCANS_MAX;
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

    /// Returns the state of a pair, if it is watched.
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
        entry.shown = self.scan;
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
        let (seen, shown) = (self.scan, self.scan);
        self.list.push(WatchedPair { pair, group, seen, shown, state });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Light scans leave what rests, so each of them might have left out a pair.
    #[test]
    fn a_process_whose_connections_have_ended_has_room_for_others() {
        let mut pairs = Pairs::new(8, HashKey::new(1));
        let process = ProcessKey { process_id: 7, start_boottime: 1 };
        let [ended, lives] = [1, 2].map(|key| Pair { key, process, exec_id: 1 });
        pairs.add(ended, 0, ());
        pairs.add(lives, 0, ());
        for scan in 0..2 * UNSHOWN_SCANS_MAX {
            pairs.see_those(|_| true);
            pairs.begin_scan(None, PAIR_ABSENT_SCANS);
            // A whole scan.
            if scan % 1000 == 0 {
                assert!(pairs.see(lives).is_some(), "{scan}");
            }
            assert_eq!(pairs.get(ended).is_some(), scan < UNSHOWN_SCANS_MAX, "{scan}");
        }
        assert_eq!((pairs.list.len(), pairs.groups.owners()), (1, 1));
    }
}
