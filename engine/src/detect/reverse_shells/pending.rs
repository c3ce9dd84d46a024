//! Interpreters with a connection that may be about to change: between fork and exec, inside exec,
//! or in the middle of a command.

use panoptes_decoders::address::KernelVa;
use panoptes_tables::{Counts, HashKey, Scan, room};

use super::direction::Direction;
use super::finding::{End, Through};
use super::interpreter::Interpreter;
use super::judge::At;
use crate::state::process::ProcessKey;
use crate::time::{Now, RealTime};

/// Maximum number of pairs of interpreter and connection that are watched.
const PENDING_MAX: usize = 256;
/// In how many scans a process may be seen at work before its current state counts. On a busy
/// machine the way from fork to exec takes that long.
const PATIENCE_SCANS: u32 = 64;

/// Length of a `comm`, with its NUL.
pub(super) const NAME_BYTES: usize = 16;

/// How long, and in how many scans in a row, the state must last while no process works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    ns: i64,
    scans: u32,
    /// Whether what the peer sends while the state lasts ends the wait: an agent has its script
    /// before it starts a shell, while a session gets its commands one after the other.
    by_commands: bool,
}

impl Settled {
    /// A process between fork and exec, or moving a descriptor for one command, is working.
    pub(super) const AT_REST: Self = Self { ns: 0, scans: 2, by_commands: false };
    /// A process that passes a script to a shell may wait for more of it.
    pub(super) const FED: Self = Self { ns: 100_000_000, scans: 3, by_commands: true };
    /// An interactive shell may wait for a server's answer (`read -r line <&3`).
    pub(super) const HELD: Self = Self { ns: 2_000_000_000, scans: 3, by_commands: false };
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
    /// Number of bytes that the peer has sent, if that is counted.
    pub(super) received: u64,
    /// Whether the interpreter, or the process that feeds it, is working.
    pub(super) works: bool,
    pub(super) settled: Settled,
    /// What to keep of it for its end.
    pub(super) fed: Option<Fed>,
}

/// What a report needs of a shell and its starter after either has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fed {
    pub(super) starter: ProcessKey,
    /// The shell's `comm`: its other attributes end with it.
    pub(super) name: [u8; NAME_BYTES],
    /// The starter's end of the pipe: its descriptor and its `struct file *`.
    pub(super) held: (u32, KernelVa),
    pub(super) through: Through,
    pub(super) end: End,
    pub(super) direction: Direction,
    pub(super) interpreter: Interpreter,
}

/// A pair that has ended before it was settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undecided {
    pub(super) pair: Pair,
    pub(super) fed: Fed,
    /// When its last state was first seen, and in how many scans.
    pub(super) begun: RealTime,
    pub(super) scans: u32,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    pair: Pair,
    group: u64,
    shape: (At, At),
    /// Whether any byte had been written to the connection when this state was first seen.
    had_spoken: bool,
    /// Number of bytes that the peer had sent then.
    received: u64,
    /// When this state was first seen, and in how many scans.
    begun: RealTime,
    lasted_scans: u32,
    /// In how many scans the pair was seen, whatever its state.
    seen_scans: u32,
    /// Since when, and in how many scans in a row, no process has worked.
    since: Now,
    scans: u32,
    seen: Scan,
    fed: Option<Fed>,
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
    /// on a busy machine; unless it works for too long, or the peer sends commands meanwhile.
    pub(super) fn settled(&mut self, question: &Question, now: Now) -> Option<Seen> {
        let Question { pair, shape, has_spoken, received, works, settled, .. } = *question;
        let scan = self.scan;
        let Some(pending) = self.list.iter_mut().find(|pending| pending.pair == pair) else {
            self.add(question, now);
            return None;
        };
        if pending.seen == scan {
            return None;
        }
        (pending.seen, pending.fed) = (scan, question.fed);
        pending.seen_scans = pending.seen_scans.saturating_add(1);
        let is_busy = works && pending.seen_scans <= PATIENCE_SCANS;
        if pending.shape != shape {
            (pending.shape, pending.had_spoken, pending.scans) = (shape, has_spoken, 0);
            (pending.received, pending.begun, pending.lasted_scans) = (received, now.real, 0);
        }
        pending.lasted_scans = pending.lasted_scans.saturating_add(1);
        if is_busy || pending.scans == 0 {
            (pending.since, pending.scans) = (now, 0);
        }
        pending.scans += u32::from(!is_busy);
        let is_commanded = settled.by_commands && received > pending.received;
        if is_commanded && pending.lasted_scans >= settled.scans {
            return Some(Seen { since_ns: pending.begun, scans: pending.lasted_scans });
        }
        let lasted = now.monotonic.since(pending.since.monotonic);
        let seen = Seen { since_ns: pending.since.real, scans: pending.scans };
        (seen.scans >= settled.scans && lasted >= settled.ns).then_some(seen)
    }

    /// The fed pairs that the last scan showed, and this one does not.
    pub(super) fn undecided(&self) -> impl Iterator<Item = Undecided> {
        let missed = self.list.iter().filter(|it| self.scan.since(it.seen) == 1);
        missed.filter(|it| it.lasted_scans >= Settled::FED.scans).filter_map(|it| {
            let Pending { pair, begun, lasted_scans: scans, .. } = *it;
            Some(Undecided { pair, fed: it.fed?, begun, scans })
        })
    }

    /// Begins to watch a pair, if there is room.
    fn add(&mut self, question: &Question, now: Now) {
        if !self.makes_room(question) {
            return;
        }
        self.groups.add(question.group);
        self.list.push(Pending {
            pair: question.pair,
            group: question.group,
            shape: question.shape,
            had_spoken: question.has_spoken,
            received: question.received,
            begun: now.real,
            lasted_scans: 1,
            seen_scans: 1,
            since: now,
            scans: u32::from(!question.works),
            seen: self.scan,
            fed: question.fed,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(process_id: u32, group: u64) -> Question {
        let process = ProcessKey { process_id, start_boottime: 1 };
        let pair = Pair { key: process_id.into(), process, exec_id: 1 };
        let shape = (At::Stdio, At::Stdio);
        let settled = Settled::AT_REST;
        Question {
            pair,
            group,
            shape,
            has_spoken: false,
            received: 0,
            works: false,
            settled,
            fed: None,
        }
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
