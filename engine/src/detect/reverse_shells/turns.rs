//! Programs that run a process for each message of a peer: `system $_ while <$peer>`.
//!
//! Such a program takes commands from a connection of its own and runs them, one after the other.
//! No input of a shell leads to the peer, and each process may be gone within milliseconds. What
//! differs from a client is the order of what happens. A *turn* has three steps:
//!
//! 1. The peer sends something unasked: this end has sent nothing for a while.
//! 2. The program starts a process.
//! 3. After that, something is sent to the peer.
//!
//! A turn is *direct* if the process starts at once and writes to the connection, or to a pipe of
//! the program. Others count by their order alone, however long they take: where the process writes
//! is unknown. They need a peer that leads: it sent the first message, and a process came before
//! the first answer. Servers that greet do not lead, because their client logs in itself.
//!
//! A client of a database, or a health check, sends first, and the answer comes at once. Only
//! programs that are nobody's file are watched ([`interpreter::is_makeshift`]): agents of build and
//! configuration systems take turns, too.

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::file::FMODE_READ;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::layout::View;
use panoptes_tables::HashKey;

use super::graph::{ChannelEnd, object_of};
use super::interpreter::{Commands, Interpreter, InterpreterKind};
use super::pairs::{PAIR_ABSENT_SCANS, Pair, Pairs};
use super::pending::StateAge;
use super::rows::{counters_of, line, name_of};
use super::search::Hop;
use super::shell::{Shell, StableProcess};
use super::{ConnectionDirection, Reason, ReverseShells, ShellCandidate, interpreter, servers};
use crate::address::{MemoryReader, ReaderSizes};
use crate::detect::DetectorContext;
use crate::page_cache::MachineMemory;
use crate::state::MachineState;
use crate::time::{Monotonic, Now, RealTime};
use crate::walk::{DescriptorRow, Index, ProcessRow, Snapshot};

/// Maximum number of pairs of program and connection that are watched.
const WATCHED_MAX: usize = 256;
/// Number of direct turns after which a program is reported, if the peer was the first to send
/// something. The first may be a server's greeting and its client's login.
const TURNS: u32 = 2;
/// The same if this end was, or if that is not known: so do clients.
const TURNS_OF_CLIENT: u32 = 8;
/// For how long this end has sent nothing when the peer sends something unasked. Answers of servers
/// come earlier, as a rule.
const QUIET_NS: i64 = 100_000_000;
/// Number of consecutive turns after which a program is reported by their order alone, and again as
/// surely one.
const TURNS_BY_ORDER: u32 = 3;
pub(crate) const TURNS_BY_ORDER_SURE: u32 = 6;
/// For how long this end has sent nothing when the peer begins a turn that counts by its order.
const QUIET_BY_ORDER_NS: i64 = 300_000_000;
const _: () = {
    assert!(TURNS < TURNS_OF_CLIENT && TURNS_BY_ORDER < TURNS_BY_ORDER_SURE);
    assert!(QUIET_NS < QUIET_BY_ORDER_NS, "order alone needs a longer silence");
};
/// For how long after a message the program may start the process of a direct turn.
const START_NS: i64 = 1_000_000_000;
/// Number of a program's descriptors, and of new processes, that are looked through in a scan.
const DESCRIPTORS_OF_ONE: usize = 256;
const NEW_PROCESSES: usize = 1024;
/// Maximum number of a program's connections that are watched.
const CONNECTIONS_OF_ONE: usize = 8;

/// A program and a connection in one scan.
#[derive(Clone, Copy, Debug)]
struct TurnObservation {
    pair: Pair,
    /// Owner of the program ([`Snapshot::group_of`]).
    group: u64,
    /// Number of bytes that the peer has sent, and that were sent to it.
    received: u64,
    sent: u64,
    /// Whether the processes' output goes back to the peer.
    answers: bool,
    /// When the newest process of the scan was started.
    newest: u64,
    /// What the program's ended children did ([`Turns::ended_of`]), if known.
    ended: Option<u64>,
}

/// What a program has started since a message.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum StartedProcess {
    Nothing,
    /// A process whose output goes to an unknown place.
    Process,
    /// A process that writes to the connection or to the program.
    Writer,
}

/// A turn that a message of the peer has begun.
#[derive(Clone, Copy, Debug)]
struct PeerTurn {
    /// When the newest process of the scan before the message was started.
    newest: u64,
    /// What the program's children that had ended by then did.
    ended: Option<u64>,
    since: Monotonic,
    /// Whether the turn may be direct, and whether it may count by its order.
    may_be_direct: bool,
    counts_by_order: bool,
    started: StartedProcess,
}

#[derive(Clone, Copy, Debug)]
struct TurnPairState {
    received: u64,
    sent: u64,
    newest: u64,
    ended: Option<u64>,
    /// Whether the peer was the first to send something; unknown while nobody has.
    peer_was_first: Option<bool>,
    /// Whether a process, as far as is known, came before the first answer.
    leads: bool,
    /// When this end was last seen to have sent something.
    spoke: Monotonic,
    turn: Option<PeerTurn>,
    /// Number of direct turns.
    turns: u32,
    /// When the first direct turn was complete.
    since: RealTime,
    /// Number of consecutive turns of any kind, and when the first of them was complete.
    row: u32,
    row_since: RealTime,
    /// Number of consecutive turns that the last report by order named.
    reported: u32,
    scans: u32,
}

/// Why a pair is reported, and since when that has applied.
#[derive(Clone, Copy, Debug)]
struct TurnVerdict {
    /// Number of consecutive turns, if only their order counts.
    by_order: Option<u32>,
    seen: StateAge,
}

/// All pairs that are watched.
#[derive(Debug)]
pub(super) struct Turns {
    pairs: Pairs<TurnPairState>,
    reader: MemoryReader,
}

impl Turns {
    pub(super) fn new(key: HashKey) -> Self {
        let reader = MemoryReader::new(ReaderSizes { objects: 1, arena_bytes: 1024, walks: 8 });
        Self { pairs: Pairs::new(WATCHED_MAX, key), reader }
    }

    /// Forgets pairs that no recent scan has shown; see [`Pairs::begin_scan`].
    pub(super) fn begin_scan(&mut self, was_cut: Option<&Snapshot>) {
        self.pairs.begin_scan(was_cut, PAIR_ABSENT_SCANS);
    }

    /// The process of a pair that has found no room or made room since the last call.
    fn take_refused(&mut self) -> Option<u32> {
        self.pairs.take_refused()
    }

    /// A number that grows when a process waits for a child that has ended: the sum of what its
    /// ended children did (`wait_task_zombie`, kernel/exit.c).
    fn ended_of(&mut self, memory: &mut MachineMemory<'_>, task: &Task) -> Option<u64> {
        let MachineMemory { source, kernel } = memory;
        let layout = &kernel.layouts.signal_children;
        self.reader.forget_translations();
        self.reader.clear();
        self.reader.push(&kernel.space, task.signal, &layout.packing)?;
        self.reader.run(*source, kernel.space.levels);
        let view = View::new(self.reader.object(0)?);
        let fields = [layout.cmin_flt, layout.cmaj_flt, layout.cnvcsw, layout.cnivcsw];
        Some(fields.into_iter().fold(0, |sum, field| view.unsigned(field).wrapping_add(sum)))
    }

    /// Whether a pair's turns may count by their order. A pair that is new needs room.
    fn may_lead(&self, pair: Pair) -> bool {
        let watched = self.pairs.get(pair);
        watched.map_or(self.pairs.has_room(), |it| it.leads && it.peer_was_first != Some(false))
    }

    /// Takes note of a pair in this scan. Returns why it is to be reported, if it is. `started`
    /// answers what the program has started after another process.
    fn observe(
        &mut self,
        question: &TurnObservation,
        now: Now,
        started: impl FnOnce(u64) -> StartedProcess,
    ) -> Option<TurnVerdict> {
        let Some((watched, is_first)) = self.pairs.see(question.pair) else {
            self.pairs.add(question.pair, question.group, TurnPairState::new(question, now));
            return None;
        };
        if is_first {
            watched.scans = watched.scans.saturating_add(1);
            watched.observe(question, now, started);
        }
        watched.verdict()
    }

    /// Notes that a pair was reported by the order of its turns.
    fn note_reported(&mut self, pair: Pair, turns: u32) {
        if let Some((watched, _)) = self.pairs.see(pair) {
            watched.reported = turns;
        }
    }

    /// Whether a pair was reported by the order of its turns, and not yet as surely one.
    fn grows(&self, pair: Pair) -> bool {
        let watched = self.pairs.get(pair);
        watched.is_some_and(|it| (1..TURNS_BY_ORDER_SURE).contains(&it.reported))
    }
}

impl TurnPairState {
    fn new(question: &TurnObservation, now: Now) -> Self {
        let TurnObservation { received, sent, newest, ended, .. } = *question;
        // The peer has sent something before the first scan: that may be a command.
        let turn = (received > 0 && sent == 0).then_some(PeerTurn {
            newest,
            ended,
            since: now.monotonic,
            may_be_direct: false,
            counts_by_order: true,
            started: StartedProcess::Nothing,
        });
        Self {
            received,
            sent,
            newest,
            ended,
            peer_was_first: (received > 0 || sent > 0).then_some(sent == 0),
            leads: sent == 0,
            spoke: now.monotonic,
            turn,
            turns: 0,
            since: now.real,
            row: 0,
            row_since: now.real,
            reported: 0,
            scans: 1,
        }
    }

    fn observe(
        &mut self,
        question: &TurnObservation,
        now: Now,
        started: impl FnOnce(u64) -> StartedProcess,
    ) {
        let has_heard = question.received > self.received;
        let has_spoken = question.sent > self.sent;
        if (has_heard || has_spoken) && self.peer_was_first.is_none() {
            self.peer_was_first = Some(!has_spoken);
        }
        if has_heard && !has_spoken {
            self.hear(now.monotonic);
        }
        let has_run = has_ended(self.ended, question.ended);
        if let Some(turn) = &mut self.turn {
            turn.look(question, now.monotonic, started);
            if has_spoken && self.sent == 0 {
                self.leads = self.leads && turn.started != StartedProcess::Nothing;
            }
        } else if has_spoken {
            // All of a short command may happen between two scans.
            let may_be_turn = has_heard && has_run;
            let goes_on = now.monotonic.since(self.spoke) < QUIET_BY_ORDER_NS && !has_heard;
            if !may_be_turn && !goes_on {
                self.row = 0;
            }
            if self.sent == 0 {
                self.leads = self.leads && may_be_turn;
            }
        }
        self.end_turn(question, now, has_spoken);
        if has_spoken {
            self.spoke = now.monotonic;
        }
        (self.received, self.sent) = (question.received, question.sent);
        (self.newest, self.ended) = (question.newest, question.ended);
    }

    /// Begins a turn with a message of the peer, unless it was asked for.
    fn hear(&mut self, now: Monotonic) {
        let quiet = now.since(self.spoke);
        let may_be_direct = quiet >= QUIET_NS;
        let counts_by_order = quiet >= QUIET_BY_ORDER_NS || self.sent == 0;
        match self.turn {
            Some(turn) if turn.started == StartedProcess::Writer || !may_be_direct => {}
            None if !may_be_direct && !counts_by_order => self.row = 0,
            before => {
                self.turn = Some(PeerTurn {
                    newest: self.newest,
                    ended: self.ended,
                    since: now,
                    may_be_direct,
                    counts_by_order: counts_by_order || before.is_some_and(|it| it.counts_by_order),
                    // Several messages may come before the first answer.
                    started: before.map_or(StartedProcess::Nothing, |it| it.started),
                });
            }
        }
    }

    /// Ends the turn once something is sent, or when it can be none any more.
    fn end_turn(&mut self, question: &TurnObservation, now: Now, has_spoken: bool) {
        let Some(turn) = self.turn else { return };
        let is_direct = turn.started == StartedProcess::Writer;
        if !has_spoken && (question.answers || !is_direct) {
            // Only peers that lead have time.
            if !is_direct && self.peer_was_first != Some(true) && !turn.may_be_direct {
                self.turn = None;
            }
            return;
        }
        self.turn = None;
        if is_direct {
            if self.turns == 0 {
                self.since = now.real;
            }
            self.turns = self.turns.saturating_add(1);
        }
        if turn.started == StartedProcess::Nothing || !turn.counts_by_order {
            self.row = 0;
            return;
        }
        if self.row == 0 {
            self.row_since = now.real;
        }
        self.row = self.row.saturating_add(1);
    }

    /// Why the pair is to be reported, if it is.
    fn verdict(&self) -> Option<TurnVerdict> {
        let leads = self.leads && self.peer_was_first == Some(true);
        let needed = if self.peer_was_first == Some(true) { TURNS } else { TURNS_OF_CLIENT };
        if self.turns >= needed && self.reported == 0 {
            let seen = StateAge { since_ns: self.since, scans: self.scans };
            return Some(TurnVerdict { by_order: None, seen });
        }
        let next = if self.reported == 0 { TURNS_BY_ORDER } else { TURNS_BY_ORDER_SURE };
        let seen = StateAge { since_ns: self.row_since, scans: self.scans };
        let is_due = leads && self.row >= next && self.reported < next;
        is_due.then_some(TurnVerdict { by_order: Some(self.row), seen })
    }
}

impl PeerTurn {
    /// Takes note of what the program has started. `started` answers for processes that are newer
    /// than another one.
    fn look(
        &mut self,
        question: &TurnObservation,
        now: Monotonic,
        started: impl FnOnce(u64) -> StartedProcess,
    ) {
        if self.started == StartedProcess::Writer {
            return;
        }
        let mut new = started(self.newest);
        if new == StartedProcess::Writer && !self.may_be_direct {
            new = StartedProcess::Process;
        }
        if has_ended(self.ended, question.ended) {
            new = new.max(StartedProcess::Process);
        }
        self.started = self.started.max(new);
        if now.since(self.since) >= START_NS && question.answers {
            self.may_be_direct = false;
        }
    }
}

/// Whether a child has ended between two scans, by what all ended children did.
fn has_ended(before: Option<u64>, after: Option<u64>) -> bool {
    before.zip(after).is_some_and(|(before, after)| before != after)
}

impl ReverseShells {
    /// Watches a program with connections of its own, and reports it if it takes turns with a peer.
    pub(super) fn watch_turns(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        one: &StableProcess<'_>,
    ) {
        let snapshot = one.snapshot;
        let (name, line) = (name_of(snapshot, one.row), line(snapshot, one.row));
        // awk has connections of its own (`/inet/tcp`), but takes no commands from its input.
        let awk = || {
            let program =
                Interpreter { kind: InterpreterKind::Language, commands: Commands::Argument };
            interpreter::is_awk_one_liner(name, line).then_some(program)
        };
        let Some(known) = one.interpreter.or_else(awk) else { return };
        let Some(table) = one.row.files else { return };
        if !interpreter::is_makeshift(known, name, line) {
            return;
        }
        let mut connections = ArrayVec::<ChannelEnd, CONNECTIONS_OF_ONE>::new();
        let takes_input = matches!(known.commands, Commands::Input { .. });
        for row in descriptors_of(snapshot, one.row) {
            if let Some(object @ ChannelEnd::Connection(_)) = object_of(snapshot, row.file)
                && !connections.contains(&object)
                && !connections.is_full()
            {
                connections.push(object);
            }
        }
        let stdio = [None; 3];
        let (interpreter, process) = (Some(known), one.index);
        let shell = Shell { snapshot, process, table, interpreter, stdio, script: None };
        for object in connections {
            // While its input alone comes over a connection, `watch_one_foot` watches it, unless it
            // is a fork.
            let is_input = takes_input
                && !shell.is_fork()
                && counters_of(snapshot, object).is_some_and(|it| it.bytes_out == 0)
                && !holds_beside_input(snapshot, one.row, object);
            if !is_input {
                self.watch_turns_with(context, state, &shell, object, None);
            }
        }
    }

    /// Watches an interpreter whose input comes from these peers while its output does not go
    /// there. The search for its input is that of [`Self::follow`].
    pub(super) fn watch_lines(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: &Shell<'_>,
        ends: impl Iterator<Item = (ChannelEnd, Option<Index<Hop>>)>,
    ) {
        for (object, hop) in ends.take(CONNECTIONS_OF_ONE) {
            // A client that has asked gets a list, as it expects.
            let sent = counters_of(shell.snapshot, object).map(|counters| counters.bytes_out);
            if sent == Some(0) {
                self.watch_turns_with(context, state, shell, object, hop);
            }
        }
    }

    /// Watches one connection of an interpreter. `inward` is the way of its input, if the output is
    /// not followed.
    fn watch_turns_with(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: &Shell<'_>,
        object: ChannelEnd,
        inward: Option<Index<Hop>>,
    ) {
        let snapshot = shell.snapshot;
        let direction = self.direction_of(snapshot, object);
        let row = snapshot.processes.at(shell.process);
        let (Some(row), Some(counters)) = (row, counters_of(snapshot, object)) else { return };
        let Some(pair) = self.pair(shell, object) else { return };
        let is_reported = self.reported.has(snapshot, object) && !self.turns.grows(pair);
        if direction != ConnectionDirection::Outbound || is_reported {
            return;
        }
        if servers::is_named(&self.login_servers, snapshot, row, &mut self.path) {
            return;
        }
        let answers = inward.is_none();
        let leader = snapshot.leader(row).filter(|_| answers && self.turns.may_lead(pair));
        let ended = leader.and_then(|it| self.turns.ended_of(&mut context.memory, &it.task));
        let question = TurnObservation {
            pair,
            group: snapshot.group_of(row),
            received: counters.bytes_in,
            sent: counters.bytes_out,
            answers,
            newest: newest_of(snapshot),
            ended,
        };
        let started = |after| what_started(snapshot, row, object, after, answers);
        let verdict = self.turns.observe(&question, context.cx.now, started);
        if let Some(process_id) = self.turns.take_refused() {
            self.lost.add(1, Some(process_id));
        }
        let Some(TurnVerdict { by_order, seen }) = verdict else { return };
        let reason = Some(match by_order {
            Some(turns) => Reason::TurnsByOrder { turns },
            None => Reason::Turns { answers },
        });
        let out = if answers { None } else { self.other_peer(snapshot) };
        if !answers && out.is_none() {
            self.outward.begin();
        }
        let (out_object, outward) = out.unwrap_or((object, None));
        let candidate = ShellCandidate::new(object, inward, direction);
        let candidate = ShellCandidate { outward, out_object, reason, seen, ..candidate };
        if self.report_first(context, state, shell, &[candidate], &candidate)
            && let Some(turns) = by_order
        {
            self.turns.note_reported(pair, turns);
        }
    }
}

/// The time at which a process was started.
fn started(snapshot: &Snapshot, process: &ProcessRow) -> u64 {
    snapshot.leader(process).map_or(0, |leader| leader.task.start_boottime)
}

/// Whether a process has a connection at another descriptor than its standard input.
fn holds_beside_input(snapshot: &Snapshot, process: &ProcessRow, object: ChannelEnd) -> bool {
    let mut rows = descriptors_of(snapshot, process).filter(|row| row.index > 0);
    rows.any(|row| object_of(snapshot, row.file) == Some(object))
}

/// When the newest process of a scan was started.
pub(super) fn newest_of(snapshot: &Snapshot) -> u64 {
    snapshot.processes.iter().last().map_or(0, |last| started(snapshot, last))
}

/// The first descriptors and slots of rings of a process.
fn descriptors_of<'a>(
    snapshot: &'a Snapshot,
    process: &ProcessRow,
) -> impl Iterator<Item = &'a DescriptorRow> {
    let rows = process.files.into_iter().flat_map(|table| snapshot.descriptors_of(table));
    rows.take(DESCRIPTORS_OF_ONE)
}

/// The children of a program that were started after a time.
fn children_after<'a>(
    snapshot: &'a Snapshot,
    program: &ProcessRow,
    after: u64,
) -> impl Iterator<Item = &'a ProcessRow> {
    let parent = snapshot.leader(program).map(|leader| leader.task.tgid);
    // The newest come last.
    let new = snapshot.processes.iter().rev().take(NEW_PROCESSES);
    let new = new.take_while(move |process| started(snapshot, process) > after);
    new.filter(move |process| Some(process.parent_pid) == parent && process.stable)
}

/// Whether a program has started a process after a time.
pub(super) fn has_started_after(snapshot: &Snapshot, program: &ProcessRow, after: u64) -> bool {
    children_after(snapshot, program, after).next().is_some()
}

/// What a program has started after a time. A process that writes to the connection, or to a pipe
/// or a socket pair that the program reads, is a writer; unless the program `answers`, each is one.
fn what_started(
    snapshot: &Snapshot,
    program: &ProcessRow,
    connection: ChannelEnd,
    after: u64,
    answers: bool,
) -> StartedProcess {
    let kinds = children_after(snapshot, program, after).map(|process| {
        let is_writer =
            process.files_stable && (!answers || writes_to(snapshot, process, program, connection));
        if is_writer { StartedProcess::Writer } else { StartedProcess::Process }
    });
    kinds.max().unwrap_or(StartedProcess::Nothing)
}

fn writes_to(
    snapshot: &Snapshot,
    process: &ProcessRow,
    program: &ProcessRow,
    connection: ChannelEnd,
) -> bool {
    let output = descriptors_of(snapshot, process).filter(|row| matches!(row.index, 1 | 2));
    let mut output = output.filter_map(|row| object_of(snapshot, row.file));
    output.any(|object| {
        let far = match object {
            ChannelEnd::Connection(_) => return object == connection,
            ChannelEnd::Pipe(_) => object,
            ChannelEnd::Unix(at) => match snapshot.sockets.at(at).and_then(|row| row.peer) {
                Some(peer) => ChannelEnd::Unix(peer),
                None => return false,
            },
            ChannelEnd::Terminal(_)
            | ChannelEnd::Datagram(_)
            | ChannelEnd::AnyPeer(_)
            | ChannelEnd::File(_)
            | ChannelEnd::Memory(_)
            | ChannelEnd::Queue(_) => return false,
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
            let (answers, newest, ended) = (true, scan, None);
            let question = TurnObservation { pair, group, received, sent, answers, newest, ended };
            let now = Now::at(scan as i64 * 200_000_000);
            let started =
                |after| if after < scan { StartedProcess::Writer } else { StartedProcess::Nothing };
            turns.observe(&question, now, started).is_some()
        };
        let crowd = 1000..1000 + WATCHED_MAX as u32 + 50;
        let mut found = [false; 2];
        for scan in 0..40 {
            turns.begin_scan(None);
            for process_id in crowd.clone() {
                observe(&mut turns, process_id, 1000, scan);
            }
            assert!(turns.take_refused().is_some_and(|process_id| crowd.contains(&process_id)));
            let others =
                [(7, 0), (8, 1001)].map(|(id, group)| observe(&mut turns, id, group, scan));
            found = others;
            assert_eq!(turns.pairs.list.len(), WATCHED_MAX);
        }
        assert_eq!(found, [true; 2]);
        // A pair that is not seen any more makes room.
        (0..=PAIR_ABSENT_SCANS).for_each(|_| turns.begin_scan(None));
        assert_eq!((turns.pairs.list.len(), turns.pairs.groups.owners()), (0, 0));
    }

    /// Only of those is memory read.
    #[test]
    fn a_pair_beyond_those_that_are_watched_has_no_turns_by_order() {
        let mut turns = Turns::new(HashKey::new(1));
        let count = WATCHED_MAX as u32 + 50;
        for _ in 0..3 {
            turns.begin_scan(None);
            let mut read = 0;
            for process_id in 1..=count {
                let process = ProcessKey { process_id, start_boottime: 1 };
                let pair = Pair { key: 7, process, exec_id: 1 };
                read += usize::from(turns.may_lead(pair));
                let (group, received, sent, answers, newest, ended) = (0, 0, 0, true, 5, None);
                let question =
                    TurnObservation { pair, group, received, sent, answers, newest, ended };
                turns.observe(&question, Now::at(1), |_| StartedProcess::Nothing);
            }
            assert_eq!(read, WATCHED_MAX);
        }
    }

    /// A quick `id` is gone before the next scan, and only the counters of its parent show it.
    #[test]
    fn a_process_that_no_scan_saw_counts_once_its_parent_has_waited_for_it() {
        let found = |counts: bool| {
            let mut turns = Turns::new(HashKey::new(1));
            let process = ProcessKey { process_id: 7, start_boottime: 1 };
            let pair = Pair { key: 7, process, exec_id: 1 };
            let mut found = Vec::new();
            for scan in 0..40_u64 {
                turns.begin_scan(None);
                let (received, sent) = (scan.div_ceil(4), scan / 4);
                let ended = counts.then_some(100 + sent * 60);
                let (group, answers, newest) = (0, true, 5);
                let question =
                    TurnObservation { pair, group, received, sent, answers, newest, ended };
                let now = Now::at(scan as i64 * 400_000_000);
                if let Some(verdict) = turns.observe(&question, now, |_| StartedProcess::Nothing) {
                    turns.note_reported(pair, verdict.by_order.unwrap_or_default());
                    found.push(verdict.by_order);
                }
            }
            found
        };
        assert_eq!(found(true), [Some(TURNS_BY_ORDER), Some(TURNS_BY_ORDER_SURE)]);
        assert_eq!(found(false), []);
    }
}
