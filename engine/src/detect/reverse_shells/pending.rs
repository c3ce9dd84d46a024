//! Interpreters with a connection that may be about to change: between fork and exec, inside exec,
//! or in the middle of a command.

use panoptes_decoders::address::KernelVa;
use panoptes_tables::HashKey;

use super::direction::ConnectionDirection;
use super::finding::{ConnectionEnd, ProcessLink};
use super::interpreter::Interpreter;
use super::judge::ConnectionPosition;
use super::pairs::{Pair, Pairs};
use crate::state::process::ProcessKey;
use crate::time::{Monotonic, Now, RealTime};
use crate::walk::Snapshot;

/// Maximum number of pairs of interpreter and connection that are watched.
const PENDING_PAIRS_MAX: usize = 256;
/// In how many scans a process may be seen at work before its current state counts. On a busy
/// machine the way from fork to exec takes that long.
const PATIENCE_SCANS: u32 = 64;

/// Time and number of consecutive scans for which the state must last while no process works.
#[derive(Clone, Copy, Debug)]
pub(super) struct SettlingTime {
    ns: i64,
    scans: u32,
    /// Whether what the peer sends ends the wait for work, once the state has lasted: an agent has
    /// its script before it starts a shell, while a session gets its commands one after the other.
    by_commands: bool,
}

impl SettlingTime {
    /// A process between fork and exec, or moving a descriptor for one command, is working.
    pub(super) const AT_REST: Self = Self { ns: 0, scans: 2, by_commands: false };
    /// A process that passes a script to a shell may wait for more of it.
    pub(super) const FED: Self = Self { ns: 100_000_000, scans: 3, by_commands: true };
    /// An interactive shell may wait for a server's answer (`read -r line <&3`).
    pub(super) const HELD: Self = Self { ns: 2_000_000_000, scans: 3, by_commands: false };
    /// A command of a terminal multiplexer asks a peer, and ends.
    pub(super) const OF_MULTIPLEXER: Self =
        Self { ns: 60_000_000_000, scans: 3, by_commands: false };
}

/// When a state was first seen, and in how many scans since.
#[derive(Clone, Copy, Debug)]
pub(super) struct StateAge {
    pub(super) since_ns: RealTime,
    pub(super) scans: u32,
}

/// The state of a pair in one scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct PairObservation {
    pub(super) pair: Pair,
    /// Owner of the interpreter ([`crate::walk::Snapshot::group_of`]).
    pub(super) group: u64,
    /// How they are linked.
    pub(super) shape: (ConnectionPosition, ConnectionPosition),
    /// Whether any byte was written to the connection.
    pub(super) has_spoken: bool,
    /// Number of bytes that the peer has sent, if that is counted.
    pub(super) received: u64,
    /// Whether the interpreter, or the process that feeds it, is working.
    pub(super) works: bool,
    /// How often the scan counts: 1, or 0 for an early one.
    pub(super) counts: u32,
    pub(super) settled: SettlingTime,
    /// What to keep of it for its end.
    pub(super) fed: Option<FedShell>,
}

/// What a report needs of a shell and its starter after either has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct FedShell {
    pub(super) starter: ProcessKey,
    /// The shell's `comm`: its other attributes end with it.
    pub(super) name: [u8; 16],
    /// The starter's end of the pipe: its descriptor and its `struct file *`.
    pub(super) held: (u32, KernelVa),
    pub(super) through: ProcessLink,
    pub(super) end: ConnectionEnd,
    pub(super) direction: ConnectionDirection,
    pub(super) interpreter: Interpreter,
}

/// A pair that has ended before it was settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct UndecidedPair {
    pub(super) pair: Pair,
    pub(super) fed: FedShell,
    /// When its last state was first seen, and in how many scans.
    pub(super) begun: Monotonic,
    pub(super) scans: u32,
}

#[derive(Clone, Copy, Debug)]
struct PendingPairState {
    shape: (ConnectionPosition, ConnectionPosition),
    /// Whether any byte had been written to the connection when this state was first seen.
    had_spoken: bool,
    /// Number of bytes that the peer had sent when the state had not yet lasted: what comes before
    /// an agent closes its end is no command.
    received: u64,
    /// When this state was first seen, and in how many scans.
    begun: Monotonic,
    lasted_scans: u32,
    /// In how many scans the pair was seen, whatever its state.
    seen_scans: u32,
    /// Since when, and in how many consecutive scans, no process has worked.
    since: Now,
    scans: u32,
    fed: Option<FedShell>,
}

/// All pairs that are watched.
#[derive(Debug)]
pub(super) struct PendingList(Pairs<PendingPairState>);

impl PendingList {
    pub(super) fn new(key: HashKey) -> Self {
        Self(Pairs::new(PENDING_PAIRS_MAX, key))
    }

    /// The process of a pair that has found no room or made room since the last call.
    pub(super) fn take_refused(&mut self) -> Option<u32> {
        self.0.take_refused()
    }

    /// Removes pairs that the last scan did not show; see [`Pairs::begin_scan`].
    pub(super) fn begin_scan(&mut self, was_cut: Option<&Snapshot>) {
        self.0.begin_scan(was_cut, 1);
    }

    /// Whether any byte had been written to the connection when a pair with this shape was first
    /// seen; `None` for a new one.
    pub(super) fn had_spoken(
        &self,
        pair: Pair,
        shape: (ConnectionPosition, ConnectionPosition),
    ) -> Option<bool> {
        let pending = self.0.get(pair).filter(|pending| pending.shape == shape);
        pending.map(|pending| pending.had_spoken)
    }

    /// Returns since when a pair has been in its state, if that is long enough. A pair is not
    /// settled while the interpreter, or the process that feeds it, is working, which takes longer
    /// on a busy machine; unless it works for too long, or the peer sends commands meanwhile.
    pub(super) fn settled(&mut self, question: &PairObservation, now: Now) -> Option<StateAge> {
        let PairObservation { pair, shape, has_spoken, received, works, counts, settled, .. } =
            *question;
        let Some((pending, is_first)) = self.0.see(pair) else {
            self.add(question, now);
            return None;
        };
        if !is_first {
            return None;
        }
        pending.fed = question.fed;
        pending.seen_scans = pending.seen_scans.saturating_add(counts);
        let is_busy = works && pending.seen_scans <= PATIENCE_SCANS;
        if pending.shape != shape {
            (pending.shape, pending.had_spoken, pending.scans) = (shape, has_spoken, 0);
            (pending.begun, pending.lasted_scans) = (now.monotonic, 0);
        }
        pending.lasted_scans = pending.lasted_scans.saturating_add(counts);
        if is_busy || pending.scans == 0 {
            (pending.since, pending.scans) = (now, 0);
        }
        pending.scans += if is_busy { 0 } else { counts };
        let has_lasted = pending.lasted_scans >= settled.scans
            && now.monotonic.since(pending.begun) >= settled.ns;
        if !has_lasted {
            pending.received = received;
        } else if settled.by_commands && received > pending.received {
            let since_ns = now.real_of(pending.begun);
            return Some(StateAge { since_ns, scans: pending.lasted_scans });
        }
        let lasted = now.monotonic.since(pending.since.monotonic);
        let seen = StateAge { since_ns: pending.since.real, scans: pending.scans };
        (seen.scans >= settled.scans && lasted >= settled.ns).then_some(seen)
    }

    /// The fed pairs that the last scan showed, and this one does not.
    pub(super) fn undecided(&self) -> impl Iterator<Item = UndecidedPair> {
        let missed = self.0.missed().filter(|(_, it)| it.lasted_scans >= SettlingTime::FED.scans);
        missed.filter_map(|(pair, it)| {
            let PendingPairState { begun, lasted_scans: scans, .. } = *it;
            Some(UndecidedPair { pair, fed: it.fed?, begun, scans })
        })
    }

    /// Begins to watch a pair, if there is room.
    fn add(&mut self, question: &PairObservation, now: Now) {
        let pending = PendingPairState {
            shape: question.shape,
            had_spoken: question.has_spoken,
            received: question.received,
            begun: now.monotonic,
            lasted_scans: question.counts,
            seen_scans: question.counts,
            since: now,
            scans: if question.works { 0 } else { question.counts },
            fed: question.fed,
        };
        self.0.add(question.pair, question.group, pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(process_id: u32, group: u64) -> PairObservation {
        let process = ProcessKey { process_id, start_boottime: 1 };
        let pair = Pair { key: process_id.into(), process, exec_id: 1 };
        let shape = (ConnectionPosition::Stdio, ConnectionPosition::Stdio);
        let settled = SettlingTime::AT_REST;
        PairObservation {
            pair,
            group,
            shape,
            has_spoken: false,
            received: 0,
            works: false,
            counts: 1,
            settled,
            fed: None,
        }
    }

    /// Early scans come right after forks, when descriptors move.
    #[test]
    fn an_early_scan_settles_nothing() {
        let mut pending = PendingList::new(HashKey::new(1));
        let mut settles = |ms: i64, counts| {
            pending.begin_scan(None);
            let question = PairObservation { counts, ..question(1, 1) };
            pending.settled(&question, Now::at(ms * 1_000_000)).is_some()
        };
        // The first look is an early scan, and one that counts follows at once.
        assert_eq!([settles(7, 0), settles(8, 1), settles(9, 0)], [false; 3]);
        assert!(settles(18, 1));
    }

    /// One user's shells took the places of all others'.
    #[test]
    fn interpreters_of_one_user_leave_room_for_those_of_others() {
        let mut pending = PendingList::new(HashKey::new(1));
        let crowd = 1000..1000 + PENDING_PAIRS_MAX as u32 + 50;
        for scan in 0..10 {
            pending.begin_scan(None);
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
            assert_eq!(pending.0.list.len(), PENDING_PAIRS_MAX);
        }
        // A pair that is not seen any more makes room.
        pending.begin_scan(None);
        pending.begin_scan(None);
        assert_eq!((pending.0.list.len(), pending.0.groups.owners()), (0, 0));
    }
}
