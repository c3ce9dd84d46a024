//! Programs that run a process for each message of a peer: `system $_ while <$peer>`.
//!
//! Such a program takes commands from a connection of its own and runs them, one after the other.
//! No input of a shell leads to the peer, and each process may be gone within milliseconds. What
//! differs from a client is the order of what happens. A *turn* has three steps:
//!
//! 1. The peer sends something unasked: this end has sent nothing for a while.
//! 2. The program starts a process that writes to the connection, or to a pipe of the program.
//! 3. After that, something is sent to the peer.
//!
//! A client of a database, or a health check, sends first, and the answer comes at once. Only
//! programs that are nobody's file are watched ([`interpreter::is_makeshift`]): agents of build and
//! configuration systems take turns, too.

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::file::FMODE_READ;
use panoptes_tables::HashKey;

use super::graph::{Object, object_of};
use super::pairs::{Pair, Pairs};
use super::pending::Seen;
use super::rows::{counters_of, line, name_of};
use super::search::Hop;
use super::shell::{Program, Shell};
use super::{Candidate, Direction, Reason, Shells, ends_of, interpreter, servers};
use crate::detect::Scene;
use crate::state::State;
use crate::time::{Monotonic, Now, RealTime};
use crate::walk::{DescriptorRow, Index, ProcessRow, Snapshot};

/// Maximum number of pairs of program and connection that are watched.
const WATCHED_MAX: usize = 256;
/// Number of turns after which a program is reported, if the peer was the first to send something.
/// One may be the greeting of a server that is slow.
const TURNS: u32 = 2;
/// The same if this end was, or if that is not known: so do clients.
const TURNS_OF_CLIENT: u32 = 8;
/// For how long this end has sent nothing when the peer sends something unasked. Answers of servers
/// come earlier, as a rule.
const QUIET_NS: i64 = 100_000_000;
/// For how long after that the program may start a process for it.
const START_NS: i64 = 1_000_000_000;
/// A pair is forgotten when so many scans in a row have not shown it. A program that has just
/// changed its descriptors is not shown.
const ABSENT_SCANS: u32 = 64;
/// Number of a program's descriptors, and of new processes, that are looked through in a scan.
const DESCRIPTORS_OF_ONE: usize = 256;
const NEW_PROCESSES: usize = 1024;
/// Maximum number of a program's connections that are watched.
const CONNECTIONS_OF_ONE: usize = 8;

/// A program and a connection in one scan.
#[derive(Clone, Copy, Debug)]
struct Question {
    pair: Pair,
    /// Whose program it is ([`Snapshot::group_of`]).
    group: u64,
    /// Number of bytes that the peer has sent, and that were sent to it.
    received: u64,
    sent: u64,
    /// Whether the processes' output goes back to the peer.
    answers: bool,
    /// When the newest process of the scan was started.
    newest: u64,
}

/// The step that a turn waits for.
#[derive(Clone, Copy, Debug)]
enum Step {
    Message,
    /// A process that was started after `newest`, the newest one of the scan before the message.
    Start {
        newest: u64,
        since: Monotonic,
    },
    Answer,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    received: u64,
    sent: u64,
    newest: u64,
    /// Whether the peer was the first to send something; unknown while nobody has.
    peer_was_first: Option<bool>,
    /// When this end was last seen to have sent something.
    spoke: Monotonic,
    step: Step,
    turns: u32,
    /// When the first turn was complete.
    since: RealTime,
    scans: u32,
}

/// All pairs that are watched.
#[derive(Debug)]
pub(super) struct Turns(Pairs<Watched>);

impl Turns {
    pub(super) fn new(key: HashKey) -> Self {
        Self(Pairs::new(WATCHED_MAX, key))
    }

    /// Forgets pairs that no recent scan has shown.
    pub(super) fn begin_scan(&mut self, was_cut: bool) {
        if was_cut {
            self.0.see_all();
        }
        self.0.begin_scan(ABSENT_SCANS);
    }

    /// The process of a pair that has found no room or made room since the last call.
    fn take_refused(&mut self) -> Option<u32> {
        self.0.take_refused()
    }

    /// Takes note of a pair in this scan. Returns since when the program has taken turns with the
    /// peer, if there were enough. `has_started` answers whether the program has a process that was
    /// started after another one.
    fn observe(
        &mut self,
        question: &Question,
        now: Now,
        has_started: impl FnOnce(u64) -> bool,
    ) -> Option<Seen> {
        let Some((watched, is_first)) = self.0.see(question.pair) else {
            self.add(question, now);
            return None;
        };
        if is_first {
            watched.scans = watched.scans.saturating_add(1);
            watched.take_step(question, now, has_started);
        }
        let needed = if watched.peer_was_first == Some(true) { TURNS } else { TURNS_OF_CLIENT };
        let seen = Seen { since_ns: watched.since, scans: watched.scans };
        (watched.turns >= needed).then_some(seen)
    }

    fn add(&mut self, question: &Question, now: Now) {
        let Question { pair, group, received, sent, newest, .. } = *question;
        let watched = Watched {
            received,
            sent,
            newest,
            peer_was_first: (received > 0 || sent > 0).then_some(sent == 0),
            spoke: now.monotonic,
            step: Step::Message,
            turns: 0,
            since: now.real,
            scans: 1,
        };
        self.0.add(pair, group, watched);
    }
}

impl Watched {
    fn take_step(&mut self, question: &Question, now: Now, has_started: impl FnOnce(u64) -> bool) {
        let has_heard = question.received > self.received;
        let has_spoken = question.sent > self.sent;
        if (has_heard || has_spoken) && self.peer_was_first.is_none() {
            self.peer_was_first = Some(!has_spoken);
        }
        let is_unasked = has_heard && !has_spoken && now.monotonic.since(self.spoke) >= QUIET_NS;
        if let (Step::Message, true) = (self.step, is_unasked) {
            self.step = Step::Start { newest: self.newest, since: now.monotonic };
        }
        if let Step::Start { newest, since } = self.step {
            if has_started(newest) {
                self.step = Step::Answer;
            } else if has_spoken || now.monotonic.since(since) >= START_NS {
                self.step = Step::Message;
            }
        }
        if let Step::Answer = self.step
            && (has_spoken || !question.answers)
        {
            if self.turns == 0 {
                self.since = now.real;
            }
            (self.turns, self.step) = (self.turns.saturating_add(1), Step::Message);
        }
        if has_spoken {
            self.spoke = now.monotonic;
        }
        (self.received, self.sent, self.newest) =
            (question.received, question.sent, question.newest);
    }
}

impl Shells {
    /// Watches a program with connections of its own, and reports it if it takes turns with a peer.
    pub(super) fn watch_turns(&mut self, scene: &mut Scene<'_>, state: &State, one: &Program<'_>) {
        let snapshot = one.snapshot;
        let Some(known) = one.interpreter else { return };
        let (name, line) = (name_of(snapshot, one.row), line(snapshot, one.row));
        let Some(table) = one.row.files else { return };
        let mut connections = ArrayVec::<Object, CONNECTIONS_OF_ONE>::new();
        for row in descriptors_of(snapshot, one.row) {
            if let Some(object @ Object::Connection(_)) = object_of(snapshot, row.file)
                && !connections.contains(&object)
                && !connections.is_full()
            {
                connections.push(object);
            }
        }
        if connections.is_empty() || !interpreter::is_makeshift(known, name, line) {
            return;
        }
        let stdio = [None; 3];
        let (interpreter, process) = (Some(known), one.index);
        let shell = Shell { snapshot, process, table, interpreter, stdio, script: None };
        for object in connections {
            self.watch_turns_with(scene, state, &shell, object, None);
        }
    }

    /// Watches an interpreter whose input comes from peers while its output does not go there. The
    /// search for its input is that of [`Self::follow`].
    pub(super) fn watch_lines(&mut self, scene: &mut Scene<'_>, state: &State, shell: &Shell<'_>) {
        let mut found = ArrayVec::<_, CONNECTIONS_OF_ONE>::new();
        found.extend(ends_of(&self.inward).take(CONNECTIONS_OF_ONE));
        for (object, hop) in found {
            // A client that has asked gets a list, as it expects.
            let sent = counters_of(shell.snapshot, object).map(|counters| counters.bytes_out);
            if sent == Some(0) {
                self.watch_turns_with(scene, state, shell, object, hop);
            }
        }
    }

    /// Watches one connection of an interpreter. `inward` is the way of its input, if the output is
    /// not followed.
    fn watch_turns_with(
        &mut self,
        scene: &mut Scene<'_>,
        state: &State,
        shell: &Shell<'_>,
        object: Object,
        inward: Option<Index<Hop>>,
    ) {
        let snapshot = shell.snapshot;
        let direction = self.direction_of(snapshot, object);
        let row = snapshot.processes.at(shell.process);
        let (Some(row), Some(counters)) = (row, counters_of(snapshot, object)) else { return };
        if direction != Direction::Outbound || self.reported.has(snapshot, object) {
            return;
        }
        if servers::is_named(&self.login_servers, snapshot, row, &mut self.path) {
            return;
        }
        let Some(pair) = self.pair(shell, object) else { return };
        let answers = inward.is_none();
        let question = Question {
            pair,
            group: snapshot.group_of(row),
            received: counters.bytes_in,
            sent: counters.bytes_out,
            answers,
            newest: snapshot.processes.iter().last().map_or(0, |last| started(snapshot, last)),
        };
        let has_started = |after| has_started(snapshot, row, object, after, answers);
        let seen = self.turns.observe(&question, scene.cx.now, has_started);
        if let Some(process_id) = self.turns.take_refused() {
            self.lost.add(1, Some(process_id));
        }
        let Some(seen) = seen else { return };
        let reason = Some(Reason::Turns { answers });
        let (out_object, outward) = (object, None);
        let candidate = Candidate { object, inward, outward, out_object, direction, reason, seen };
        if !answers {
            self.outward.begin();
        }
        self.report_first(scene, state, shell, &[candidate], &candidate);
    }
}

/// The time at which a process was started.
fn started(snapshot: &Snapshot, process: &ProcessRow) -> u64 {
    snapshot.leader(process).map_or(0, |leader| leader.task.start_boottime)
}

fn descriptors_of<'a>(
    snapshot: &'a Snapshot,
    process: &ProcessRow,
) -> impl Iterator<Item = &'a DescriptorRow> {
    let table = snapshot.files_structs.at(process.files);
    let rows = table.map_or(&[][..], |table| snapshot.descriptors.range(table.descriptors));
    rows.iter().take(DESCRIPTORS_OF_ONE)
}

/// Whether a program has a child that was started after a time and, if it `answers`, writes to the
/// connection or to a pipe or a socket pair that the program reads.
fn has_started(
    snapshot: &Snapshot,
    program: &ProcessRow,
    connection: Object,
    after: u64,
    answers: bool,
) -> bool {
    let Some(parent) = snapshot.leader(program).map(|leader| leader.task.tgid) else {
        return false;
    };
    // The newest come last.
    let new = snapshot.processes.iter().rev().take(NEW_PROCESSES);
    let mut new = new.take_while(|process| started(snapshot, process) > after);
    new.any(|process| {
        let is_child = process.parent_pid == parent && process.stable && process.files_stable;
        is_child && (!answers || writes_to(snapshot, process, program, connection))
    })
}

fn writes_to(
    snapshot: &Snapshot,
    process: &ProcessRow,
    program: &ProcessRow,
    connection: Object,
) -> bool {
    let output = descriptors_of(snapshot, process).filter(|row| matches!(row.index, 1 | 2));
    let mut output = output.filter_map(|row| object_of(snapshot, row.file));
    output.any(|object| {
        let far = match object {
            Object::Connection(_) => return object == connection,
            Object::Pipe(_) => object,
            Object::Unix(at) => match snapshot.sockets.at(at).and_then(|row| row.peer) {
                Some(peer) => Object::Unix(peer),
                None => return false,
            },
            Object::Terminal(_) | Object::Datagram(_) => return false,
        };
        descriptors_of(snapshot, program).any(|row| {
            let is_read =
                snapshot.files.at(row.file).is_some_and(|it| it.open.mode & FMODE_READ != 0);
            row.index > 2 && is_read && object_of(snapshot, row.file) == Some(far)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::process::ProcessKey;

    #[test]
    fn programs_of_one_user_leave_room_for_those_of_others() {
        let mut turns = Turns::new(HashKey::new(1));
        let observe = |turns: &mut Turns, process_id: u32, group, scan: u64| {
            let process = ProcessKey { process_id, start_boottime: 1 };
            let pair = Pair { key: process_id.into(), process, exec_id: 1 };
            let (received, sent) = (scan / 2, scan.div_ceil(2));
            let question = Question { pair, group, received, sent, answers: true, newest: scan };
            let now = Now::at(scan as i64 * 200_000_000);
            turns.observe(&question, now, |after| after < scan).is_some()
        };
        let crowd = 1000..1000 + WATCHED_MAX as u32 + 50;
        let mut found = [false; 2];
        for scan in 0..40 {
            turns.begin_scan(false);
            for process_id in crowd.clone() {
                observe(&mut turns, process_id, 1000, scan);
            }
            assert!(turns.take_refused().is_some_and(|process_id| crowd.contains(&process_id)));
            let others =
                [(7, 0), (8, 1001)].map(|(id, group)| observe(&mut turns, id, group, scan));
            found = others;
            assert_eq!(turns.0.list.len(), WATCHED_MAX);
        }
        assert_eq!(found, [true; 2]);
        // What is not seen any more makes room.
        (0..=ABSENT_SCANS).for_each(|_| turns.begin_scan(false));
        assert_eq!((turns.0.list.len(), turns.0.groups.owners()), (0, 0));
    }
}
