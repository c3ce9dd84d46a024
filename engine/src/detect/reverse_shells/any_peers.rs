//! Shells whose relay uses a socket without a destination: raw sockets (shells over ICMP), packet
//! sockets, and datagram sockets that are not connected (`socat UDP-DATAGRAM:… EXEC:sh`).
//!
//! Such a socket shows no peer and counts no bytes, and many daemons have one. So the rule is
//! narrow:
//!
//! - The shell reads commands from its input. Its input and its output lead to one holder of such
//!   sockets, over pipes, pairs and pseudoterminals.
//! - The holder, and each process between, serves nobody else ([`Graph::is_alone`]).
//! - The shell has waited for its next command for a while.
//!
//! [`Graph::is_alone`]: super::graph::Graph::is_alone

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::sock::{AF_PACKET, IPPROTO_RAW};

use super::candidates::any_peers_of;
use super::direction::ConnectionDirection;
use super::graph::{ChannelEnd, Edges, is_master};
use super::interpreter::Commands;
use super::judge::{ConnectionPosition, Reason};
use super::pending::{PairObservation, SettlingTime};
use super::search::{GraphSearch, Hop};
use super::servers::KnownProcesses;
use super::shell::Shell;
use super::turns::has_started_after;
use super::{ReverseShells, ShellCandidate, of_content};
use crate::detect::DetectorContext;
use crate::page_cache::ContentSource;
use crate::state::MachineState;
use crate::walk::{Index, Snapshot};

/// Maximum number of sockets of one way that are checked.
const ENDS_MAX: usize = 16;

type ReachedSocket = (ChannelEnd, Option<Index<Hop>>);

impl ReverseShells {
    /// Reports an interpreter that gets commands by a socket without a destination, and answers by
    /// one of the same process. The search for its input is that of [`Self::follow_over`].
    pub(super) fn watch_any_peers(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: Shell<'_>,
        files: &mut dyn ContentSource,
    ) {
        let snapshot = shell.snapshot;
        if any_peers_of(&self.inward).next().is_none() {
            return;
        }
        // Findings about a table are kept only while there are steps.
        self.graph.begin_part();
        if any_peers_of(&self.inward).nth(ENDS_MAX).is_some() {
            self.count_cut(&shell);
        }
        let sources = self.sources(&shell);
        if sources.is_empty() {
            return;
        }
        let known = shell.interpreter.or_else(|| of_content(snapshot, shell.process, files));
        let shell = Shell { interpreter: known, ..shell };
        if !known.is_some_and(|it| matches!(it.commands, Commands::Input { .. })) {
            return;
        }
        self.graph.begin_part();
        if self.follow_on(&shell, Edges::Usual) {
            self.count_cut(&shell);
        }
        let Some(mut candidate) = self.any_peer(context, state, &shell, &sources) else { return };
        let Some(pair) = self.pair(&shell, candidate.object) else { return };
        let shape = (ConnectionPosition::Relayed, ConnectionPosition::Relayed);
        // Only a pair that is watched costs a look at other processes.
        let is_new = self.pending.had_spoken(pair, shape).is_none();
        let question = PairObservation {
            pair,
            group: shell.group(),
            shape,
            has_spoken: false,
            received: 0,
            works: is_new || has_work(&shell),
            counts: snapshot.counts().into(),
            settled: SettlingTime::HELD,
            fed: None,
        };
        if let Some(seen) = self.settled(&question, context.cx.now) {
            (candidate.reason, candidate.seen) = (Some(Reason::AnyPeer), seen);
            self.report_first(context, state, &shell, &[candidate], &candidate);
        }
    }

    /// The sockets that input may come from; none for a shell that forked for a part of a pipeline,
    /// which takes no commands from its input.
    fn sources(&self, shell: &Shell<'_>) -> ArrayVec<ReachedSocket, ENDS_MAX> {
        let snapshot = shell.snapshot;
        if shell.is_fork() {
            return ArrayVec::new();
        }
        let ends = any_peers_of(&self.inward).take(ENDS_MAX);
        let ends = ends.filter(|&(object, _)| receives(snapshot, object));
        ends.filter(|&(_, hop)| self.is_apart(shell, &self.inward, hop)).collect()
    }

    /// The first of these sockets that output goes back to and that nothing exempts, unless one of
    /// them was reported.
    fn any_peer(
        &mut self,
        context: &DetectorContext<'_>,
        state: &MachineState,
        shell: &Shell<'_>,
        sources: &[ReachedSocket],
    ) -> Option<ShellCandidate> {
        let candidates = sources.iter().filter_map(|&source| {
            let (out_object, outward) = self.target(shell, source)?;
            let candidate = ShellCandidate::new(source.0, source.1, ConnectionDirection::Unknown);
            Some(ShellCandidate { outward, out_object, ..candidate })
        });
        let candidates: ArrayVec<ShellCandidate, ENDS_MAX> = candidates.collect();
        if candidates.iter().any(|it| self.reported.has(shell.snapshot, it.object)) {
            return None;
        }
        candidates.into_iter().find(|it| !self.is_any_peer_exempt(context, state, shell, it))
    }

    /// The socket that output may go to: the same one, or else another one of the same process.
    fn target(&self, shell: &Shell<'_>, (object, inward): ReachedSocket) -> Option<ReachedSocket> {
        let holder = |search: &GraphSearch, hop| Some(search.path(hop).next()?.table);
        let own = holder(&self.inward, inward)?;
        let ends = || {
            let all = any_peers_of(&self.outward).take(ENDS_MAX);
            all.filter(|&(_, hop)| self.is_apart(shell, &self.outward, hop))
        };
        let same = ends().find(|&(other, _)| other == object);
        same.or_else(|| ends().find(|&(_, hop)| holder(&self.outward, hop) == Some(own)))
    }

    /// Whether a path leads from a shell to another process that holds a socket. Its links hold
    /// bytes for one reader, and its processes serve nobody else.
    fn is_apart(&self, shell: &Shell<'_>, search: &GraphSearch, hop: Option<Index<Hop>>) -> bool {
        let mut links = search.path(hop).skip(1).map(|hop| hop.object).peekable();
        let is_narrow = |link| {
            matches!(link, ChannelEnd::Pipe(_) | ChannelEnd::Unix(_) | ChannelEnd::Terminal(_))
        };
        links.peek().is_some()
            && links.all(is_narrow)
            && search.path(hop).all(|hop| {
                hop.table == shell.table || self.graph.is_alone(shell.snapshot, hop.table)
            })
    }

    /// Whether the holder of a socket is a login server, or passes what it gets into a container.
    fn is_any_peer_exempt(
        &mut self,
        context: &DetectorContext<'_>,
        state: &MachineState,
        shell: &Shell<'_>,
        candidate: &ShellCandidate,
    ) -> bool {
        let snapshot = shell.snapshot;
        if self.is_passed_into_container(shell, candidate) {
            return true;
        }
        let Some(&hop) = self.inward.path(candidate.inward).next() else { return true };
        let Some(process) = self.process_of(shell, hop.table) else { return true };
        let inner = snapshot.descriptors.at(hop.inner).and_then(|row| row.file);
        let inner = self.graph.object_of(snapshot, inner, Edges::Usual);
        let has_terminal = inner.is_some_and(|inner| is_master(snapshot, inner));
        let known = KnownProcesses { cx: context.cx, state };
        known.is_named(&self.login_servers, process, &mut self.path)
            || known.serves_logins(process, &mut self.path)
            || has_terminal && known.serves_datagram_logins(process, &mut self.path)
    }
}

/// Whether a shell works or has a child, as far as that is among the newest processes.
fn has_work(shell: &Shell<'_>) -> bool {
    let snapshot = shell.snapshot;
    let process = snapshot.processes.at(shell.process);
    let (Some(process), Some(leader)) = (process, process.and_then(|it| snapshot.leader(it)))
    else {
        return true;
    };
    snapshot.threads_of(process).any(|thread| thread.task.is_at_work())
        || has_started_after(snapshot, process, leader.task.start_boottime)
}

/// Whether a socket gets packets: `IPPROTO_RAW` only sends (raw(7)).
fn receives(snapshot: &Snapshot, object: ChannelEnd) -> bool {
    let ChannelEnd::AnyPeer(at) = object else { return false };
    let row = snapshot.sockets.at(at);
    row.is_some_and(|row| row.family() == AF_PACKET || row.protocol != IPPROTO_RAW)
}
