//! Interpreters with a connection that may be about to change: between fork and exec, inside exec,
//! or in the middle of a command.

use panoptes_tables::{Counts, HashKey, Scan, room};

use super::judge::At;
use crate::state::process::ProcessKey;
use crate::time::{Monotonic, Now, RealTime};

/// Maximum number of pairs of interpreter and connection that are watched.
const PENDING_MAX: usize = 256;
/// How long a process may keep working before its current state counts.
const PATIENCE_NS: i64 = 5_000_000_000;

/// How long, and in how many scans in a row, the state must last while no process works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    ns: i64,
    scans: u32,
}

impl Settled {
    /// A process between fork and exec, or moving a descriptor for one command, is working.
    pub(super) const AT_REST: Self = Self { ns: 0, scans: 2 };
    /// A process that passes a script to a shell may wait for more of it.
    pub(super) const FED: Self = Self { ns: 100_000_000, scans: 3 };
    /// An interactive shell may wait for a server's answer (`read -r line <&3`).
    pub(super) const HELD: Self = Self { ns: 2_000_000_000, scans: 3 };
}

/// An interpreter and a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pair {
    pub(super) key: u64,
    /// The interpreter, and which of its programs.
    pub(super) process: ProcessKey,
    pub(super) exec_id: u32,
}

/// When a state was first seen, and in how many scans since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) since_ns: RealTime,
    pub(super) scans: u32,
}

/// The state of a pair in one scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) pair: Pair,
    /// Whose interpreter it is ([`crate::walk::Snapshot::group_of`]).
    pub(super) group: u64,
    /// How they are linked.
    pub(super) shape: (At, At),
    /// Whether any byte was written to the connection.
    pub(super) has_spoken: bool,
    /// Whether the interpreter, or the process that feeds it, is working.
    pub(super) works: bool,
    pub(super) settled: Settled,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    pair: Pair,
    group: u64,
    shape: (At, At),
    /// Whether any byte had been written to the connection when this state was first seen.
    had_spoken: bool,
    begun: Monotonic,
    since: Now,
    scans: u32,
    seen: Scan,
}

/// All pairs that are watched. Whose interpreters have most of them makes room for those of others.
#[derive(Debug)]
pub(super) struct PendingList {
    scan: Scan,
    list: Vec<Pending>,
    groups: Counts,
    /// The process of the last pair that found no room or made room.
    refused: Option<u32>,
}

impl PendingList {
    pub(super) fn new(key: HashKey) -> Self {
        let groups = Counts::new(PENDING_MAX, key);
        Self { scan: Scan::default(), list: room::list(PENDING_MAX), groups, refused: None }
    }

    /// The process of a pair that has found no room or made room since the last call.
    pub(super) fn take_refused(&mut self) -> Option<u32> {
        self.refused.take()
    }

    /// Whether there is room for one more pair; another one may make it.
    fn makes_room(&mut self, question: &Question) -> bool {
        if self.list.len() < self.list.capacity() {
            return true;
        }
        let above = self.groups.who_makes_room_for(question.group);
        // The one that was seen last.
        let at = above.and_then(|above| self.list.iter().rposition(|it| it.group == above));
        let Some(at) = at else {
            self.refused = Some(question.pair.process.process_id);
            return false;
        };
        let left_out = self.list.remove(at);
        self.groups.remove(left_out.group);
        self.refused = Some(left_out.pair.process.process_id);
        true
    }

    /// Removes pairs that the last scan did not show, unless it `was_cut`: then it may not have
    /// checked them.
    pub(super) fn begin_scan(&mut self, was_cut: bool) {
        if was_cut {
            let scan = self.scan;
            self.list.iter_mut().for_each(|pending| pending.seen = scan);
        }
        self.scan = self.scan.next();
        let (scan, groups) = (self.scan, &mut self.groups);
        self.list.retain(|pending| {
            let stays = scan.since(pending.seen) <= 1;
            if !stays {
                groups.remove(pending.group);
            }
            stays
        });
    }

    /// Whether any byte had been written to the connection when a pair with this shape was first
    /// seen; `None` for a new one.
    pub(super) fn had_spoken(&self, pair: Pair, shape: (At, At)) -> Option<bool> {
        let mut list = self.list.iter();
        list.find(|it| it.pair == pair && it.shape == shape).map(|pending| pending.had_spoken)
    }

    /// Returns since when a pair has been in its state, if that is long enough. A pair is not
    /// settled while the interpreter, or the process that feeds it, is working, which takes longer
    /// on a busy machine.
    pub(super) fn settled(&mut self, question: &Question, now: Now) -> Option<Seen> {
        let Question { pair, group, shape, has_spoken, works, settled } = *question;
        let scan = self.scan;
        let Some(pending) = self.list.iter_mut().find(|pending| pending.pair == pair) else {
            if !self.makes_room(question) {
                return None;
            }
            self.groups.add(group);
            self.list.push(Pending {
                pair,
                group,
                shape,
                had_spoken: has_spoken,
                begun: now.monotonic,
                since: now,
                scans: u32::from(!works),
                seen: scan,
            });
            return None;
        };
        if pending.seen == scan {
            return None;
        }
        pending.seen = scan;
        let is_busy = works && now.monotonic.since(pending.begun) < PATIENCE_NS;
        if pending.shape != shape {
            (pending.shape, pending.had_spoken, pending.scans) = (shape, has_spoken, 0);
        }
        if is_busy || pending.scans == 0 {
            (pending.since, pending.scans) = (now, 0);
        }
        pending.scans += u32::from(!is_busy);
        let lasted = now.monotonic.since(pending.since.monotonic);
        let seen = Seen { since_ns: pending.since.real, scans: pending.scans };
        (seen.scans >= settled.scans && lasted >= settled.ns).then_some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(process_id: u32, group: u64) -> Question {
        let process = ProcessKey { process_id, start_boottime: 1 };
        let pair = Pair { key: process_id.into(), process, exec_id: 1 };
        let shape = (At::Stdio, At::Stdio);
        Question { pair, group, shape, has_spoken: false, works: false, settled: Settled::AT_REST }
    }

    /// One user's shells took the places of all others'.
    #[test]
    fn interpreters_of_one_user_leave_room_for_those_of_others() {
        let mut pending = PendingList::new(HashKey::new(1));
        let crowd = 1000..1000 + PENDING_MAX as u32 + 50;
        for scan in 0..10 {
            pending.begin_scan(false);
            let now = Now::at(scan * 100_000_000);
            let settled = |pending: &mut PendingList, process_id, group| {
                pending.settled(&question(process_id, group), now).is_some()
            };
            for process_id in crowd.clone() {
                settled(&mut pending, process_id, 1000);
            }
            assert!(pending.take_refused().is_some_and(|process_id| crowd.contains(&process_id)));
            let others = [(7, 0), (8, 1001)].map(|(id, group)| settled(&mut pending, id, group));
            assert_eq!(others, [scan > 0; 2], "{scan}");
            assert_eq!(pending.list.len(), PENDING_MAX);
        }
        // What is not seen any more makes room.
        pending.begin_scan(false);
        pending.begin_scan(false);
        assert_eq!((pending.list.len(), pending.groups.owners()), (0, 0));
    }
}
