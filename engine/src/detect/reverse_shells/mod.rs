//! Reverse shells: command interpreters whose input comes from a peer, and whose output goes to it.
//!
//! [`Detector::update`] checks each process that takes commands ([`interpreter`]). It follows bytes
//! through all processes that relay them ([`search`]): from its standard input, or the FIFO that is
//! its script, back to their sources, and from its standard output and error on to their targets.
//! The peer of a connection that both paths reach can command the interpreter. [`direction`]
//! determines which end began the connection, and [`judge`] whether it is reported.
//!
//! A finding of one scan is reported in that scan. Descriptors that changed before the scan's end,
//! and processes that changed during it, wait for the next scan. Each connection is reported once.
//!
//! Not here: the wording of records ([`crate::policy`]).

mod any_peers;
mod candidates;
mod dead_ends;
pub mod direction;
mod ended;
mod exemption;
mod files;
mod finding;
pub mod graph;
pub mod interpreter;
pub mod judge;
mod pairs;
mod pending;
mod queues;
mod reported;
mod rows;
pub mod search;
mod servers;
mod shell;
mod shippers;
#[cfg(test)]
mod tests;
mod turns;
mod two_peers;
mod unasked;
mod unsure;
mod ways;

use std::sync::Arc;

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_records::activities::Activity;
use panoptes_tables::{HashKey, room};

use super::{Detector, DetectorContext, DetectorRules, DetectorSetup};
use crate::container_config::Glob;
use crate::limits::Limits;
use crate::loss::{GapKind, Loss};
use crate::page_cache::{Asker, ContentSource};
use crate::path::PathBuffer;
use crate::state::MachineState;
use crate::state::facts::{NameBuffers, executable_of};
use crate::state::process::ProcessKey;
use crate::time::{Monotonic, Now};
use crate::walk::{FilesRow, Index, ProcessRow, Snapshot};

use candidates::{CANDIDATES_MAX, ShellCandidate, at_other_descriptors, ends_of};
use dead_ends::DeadEnds;
use direction::{ConnectionDirection, Directions};
use exemption::Login;
use files::reads_commands;
use graph::{ChannelEnd, Edges, Graph, LookTurns, SearchDirection};
use interpreter::{Commands, Interpreter};
use judge::{Case, ConnectionPosition, Exemption, Reason};
use pairs::Pair;
use pending::{PairObservation, PendingList, SettlingTime, StateAge};
use queues::Queues;
use reported::{ReportedConnections, TURN_SCANS};
use rows::{counters_of, is_relay, line, line_of, name_of, program_of, runs_its_argument};
use search::GraphSearch;
use servers::KnownProcesses;
use shell::{Shell, StableProcess};
use turns::Turns;
use two_peers::TwoPeers;

pub use finding::{
    CONNECTIONS_MAX, ChainMember, ChainStep, ConnectionEnd, DESCRIPTORS_MAX, MEMBERS_MAX,
    MemberConnection, ProcessLink, ReverseShell,
};
pub(crate) use turns::TURNS_BY_ORDER_SURE;

/// Detects reverse shells on one machine.
#[derive(Debug)]
pub struct ReverseShells {
    wanted: bool,
    /// The login servers that the configuration names.
    login_servers: Arc<[Glob]>,
    graph: Graph,
    inward: GraphSearch,
    outward: GraphSearch,
    directions: Directions,
    reported: ReportedConnections,
    pending: PendingList,
    turns: Turns,
    queues: Queues,
    look_turns: LookTurns,
    two_peers: TwoPeers,
    /// Objects from which this scan's searches have reached no connection, and never would.
    dead_ends: DeadEnds,
    /// Whether the last scan had more to follow than an interpreter's share, or did not show
    /// everything.
    was_cut: bool,
    /// Since when all scans have left something for the next.
    partial_since: Option<Monotonic>,
    /// Whether a finding waits for what this scan left.
    waits: bool,
    /// Number of interpreters in the last scan.
    interpreters: usize,
    /// The process to start with, so that each has its turn to get what others leave.
    first: usize,
    /// The searches that this scan cut short.
    lost: Loss,
    buffers: NameBuffers,
    path: PathBuffer,
    names: Vec<u8>,
}

impl ReverseShells {
    /// Allocates for `limits`, including the graph. Unless it is `wanted`, nothing is checked.
    pub fn new(limits: &Limits, wanted: bool, key: HashKey) -> Self {
        Self { graph: Graph::new(limits), ..Self::without_graph(limits, wanted, key) }
    }

    /// Allocates for `limits`; each scan needs a graph ([`Detector::exchange`]).
    pub fn without_graph(limits: &Limits, wanted: bool, key: HashKey) -> Self {
        Self {
            wanted,
            login_servers: Arc::default(),
            graph: Graph::default(),
            inward: GraphSearch::new(SearchDirection::Back),
            outward: GraphSearch::new(SearchDirection::On),
            directions: Directions::new(limits, key),
            reported: ReportedConnections::new(limits, key.derive("shells: reported")),
            pending: PendingList::new(key.derive("shells: pending")),
            turns: Turns::new(key.derive("shells: turns")),
            queues: Queues::new(),
            look_turns: LookTurns::default(),
            two_peers: TwoPeers::new(key.derive("shells: two peers")),
            dead_ends: DeadEnds::new(limits, key),
            was_cut: false,
            partial_since: None,
            waits: false,
            interpreters: 0,
            first: 0,
            lost: Loss::new(),
            buffers: NameBuffers::default(),
            path: PathBuffer::default(),
            names: room::list(finding::NAMES_BYTES),
        }
    }

    /// Names further login servers, by patterns of their programs' paths: sessions through them are
    /// not reported, whichever end began the connection.
    #[must_use]
    pub fn with_login_servers(mut self, paths: Arc<[Glob]>) -> Self {
        self.login_servers = paths;
        self
    }
}

impl Detector for ReverseShells {
    type Scratch = Graph;

    const GAPS: &'static [GapKind] = &[GapKind::at_once(
        "reverse_shells",
        "searches for reverse shells did not follow all pipes and sockets",
    )];

    fn build(setup: &DetectorSetup<'_>) -> Self {
        let DetectorSetup { limits, rules, key, .. } = *setup;
        let wanted = (rules.is_enabled)(Activity::ReverseShellDetected);
        Self::without_graph(limits, wanted, key).with_login_servers(Arc::clone(rules.login_servers))
    }

    fn set_rules(&mut self, rules: &DetectorRules<'_>) {
        self.wanted = (rules.is_enabled)(Activity::ReverseShellDetected);
        self.login_servers = Arc::clone(rules.login_servers);
    }

    fn scratch(limits: &Limits) -> Graph {
        Graph::new(limits)
    }

    fn exchange(&mut self, graph: &mut Graph) {
        core::mem::swap(&mut self.graph, graph);
    }

    /// Checks the scan and reports new findings. `files` has the contents of programs whose names
    /// are not known.
    fn update(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        files: &mut dyn ContentSource,
    ) {
        if !self.wanted {
            return;
        }
        self.lost.begin_scan();
        let snapshot = context.cx.snapshot;
        let is_partial = !snapshot.left.is_empty();
        // An early scan often comes in the middle of a change.
        let was_cut = core::mem::replace(&mut self.was_cut, is_partial || snapshot.is_early);
        let cut = was_cut.then_some(snapshot);
        self.pending.begin_scan(cut);
        self.turns.begin_scan(cut);
        self.two_peers.begin_scan(cut);
        let now = context.cx.now.monotonic;
        self.partial_since = is_partial.then(|| self.partial_since.unwrap_or(now));
        self.waits = false;
        self.directions.update(snapshot);
        if self.directions.is_full() {
            self.lost.stand(1, None);
        }
        if let Some(process_id) = self.queues.update(snapshot) {
            self.lost.stand(1, Some(process_id));
        }
        self.reported.forget_ended(snapshot);
        self.dead_ends.clear();
        let mut interpreters = 0;
        let count = snapshot.processes.len();
        let begin = if self.first < count { self.first } else { 0 };
        for index in (begin..count).chain(0..begin) {
            let program =
                Index::new(index).and_then(|process| StableProcess::of(snapshot, process));
            let Some(program) = program else { continue };
            self.watch_turns(context, state, &program);
            let Some(shell) = Shell::of(&program) else { continue };
            if interpreters == 0 {
                self.graph.build(snapshot);
                self.graph.set_queue_uses(self.queues.uses(snapshot));
                self.graph.begin_looks(self.look_turns);
            }
            self.graph.begin_share(self.interpreters.saturating_sub(interpreters));
            interpreters += 1;
            self.check(context, state, shell, files);
            if self.graph.was_exhausted() {
                self.was_cut = true;
                self.count_cut(&shell);
            }
        }
        if interpreters > 0 && !snapshot.is_light {
            self.look_turns = self.graph.next_looks();
        }
        self.watch_resting_pairs(context);
        self.report_ended(context, state);
        self.interpreters = interpreters;
        self.first = if self.was_cut { begin + 1 } else { 0 };
    }

    fn waits_for_next(&self) -> bool {
        self.waits
    }

    fn unchecked(&mut self) -> &mut Loss {
        &mut self.lost
    }
}

impl ReverseShells {
    /// Checks one interpreter: whether a peer can command it.
    fn check(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: Shell<'_>,
        files: &mut dyn ContentSource,
    ) {
        let leads_over_files = self.follow(context, state, shell, files);
        let of_input = self.recognised(shell, files);
        if of_input.interpreter.is_some_and(|it| it.commands == Commands::Lines) {
            let ends = ends_of(&self.inward).take(CANDIDATES_MAX);
            let ends = ends.collect::<ArrayVec<_, CANDIDATES_MAX>>();
            self.watch_lines(context, state, &of_input, ends.into_iter());
        } else {
            self.watch_one_foot(context, state, &of_input, Edges::Usual);
        }
        if let Some(fed) = shell.fed_by_script() {
            self.graph.begin_part();
            let leads_over_files = self.follow(context, state, fed, files);
            self.watch_one_foot(context, state, &fed, Edges::Usual);
            if leads_over_files {
                self.follow_over_files(context, state, fed, files);
            }
        }
        if leads_over_files {
            self.follow_over_files(context, state, shell, files);
        }
    }

    /// The same interpreter, recognised by its content if its name is that of none and its input
    /// comes over connections.
    fn recognised<'a>(&self, shell: Shell<'a>, files: &mut dyn ContentSource) -> Shell<'a> {
        if shell.interpreter.is_some() || ends_of(&self.inward).next().is_none() {
            return shell;
        }
        Shell { interpreter: of_content(shell.snapshot, shell.process, files), ..shell }
    }

    /// Follows the bytes of one interpreter, and reports the connection whose peer can command it.
    /// Returns whether none was found, but regular files or shared memory may lead to one.
    fn follow(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: Shell<'_>,
        files: &mut dyn ContentSource,
    ) -> bool {
        if self.follow_over(context, state, shell, files, Edges::Usual) {
            return false;
        }
        let leads_over_files = self.may_lead_over_files(&shell);
        self.watch_any_peers(context, state, shell, files);
        leads_over_files
    }

    /// Follows the bytes of one interpreter over these edges, and reports what is found. Returns
    /// whether a connection was found.
    fn follow_over(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: Shell<'_>,
        files: &mut dyn ContentSource,
        edges: Edges,
    ) -> bool {
        let snapshot = shell.snapshot;
        let found = self.paths(&shell, files, edges);
        let found = found.filter(|(it, _)| edges == Edges::Usual || reads_commands(*it));
        let Some((interpreter, mut candidates)) = found else { return false };
        let shell = &Shell { interpreter: Some(interpreter), ..shell };
        if candidates.iter().any(|candidate| self.reported.has(snapshot, candidate.object)) {
            for candidate in &candidates {
                self.remember_way(snapshot, candidate);
            }
            return true;
        }
        let known = &KnownProcesses { cx: context.cx, state };
        let mut logins = ArrayVec::<ShellCandidate, CANDIDATES_MAX>::new();
        for candidate in &mut candidates {
            let login = self.login_of(known, shell, candidate);
            candidate.is_tunnel = login == Login::Tunnel;
            candidate.is_of_multiplexer = self.is_of_multiplexer(known, shell, candidate);
            match self.judge(shell, interpreter, candidate, login, context.cx.now) {
                Ok(Some((reason, seen))) => {
                    (candidate.reason, candidate.seen) = (Some(reason), seen);
                }
                Err(Exemption::Login) => logins.push(*candidate),
                Ok(None) | Err(_) => {}
            }
        }
        for candidate in candidates.iter_mut().filter(|it| it.reason.is_some()) {
            if self.is_of_login(known, shell, &logins, candidate) {
                candidate.reason = None;
            }
        }
        // The outermost connection is the peer's. Those between it and the interpreter connect
        // processes of the chain.
        let depth = |candidate: &ShellCandidate| self.inward.path(candidate.inward).count();
        let furthest =
            candidates.iter().filter(|it| it.reason.is_some()).max_by_key(|it| depth(it));
        let Some(&candidate) = furthest else { return false };
        self.report_first(context, state, shell, &candidates, &candidate);
        true
    }

    /// Reports one candidate, unless it has to wait, and remembers the connections of all. Returns
    /// whether it was reported.
    fn report_first(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: &Shell<'_>,
        candidates: &[ShellCandidate],
        candidate: &ShellCandidate,
    ) -> bool {
        let snapshot = shell.snapshot;
        if self.is_unsure(&KnownProcesses { cx: context.cx, state }, shell, candidate) {
            self.waits = true;
            return false;
        }
        let process = shell.key().and_then(|key| state.find(&key));
        let is_new = process.is_none_or(|it| it.scans_before() <= TURN_SCANS);
        if !self.reported.makes_room(is_new) {
            self.lost.stand(1, shell.process_id());
            return false;
        }
        let is_reported = self.report(context, state, shell, candidate);
        if is_reported {
            // First the connection that was reported.
            self.reported.add(snapshot, candidate.object);
            for candidate in candidates.iter().filter(|it| it.reason.is_some()) {
                self.remember_way(snapshot, candidate);
            }
        }
        is_reported
    }

    /// Follows the bytes of an interpreter both ways, and returns the connections that both ways
    /// reach; `None` if there are none, or if it is no interpreter.
    fn paths(
        &mut self,
        shell: &Shell<'_>,
        files: &mut dyn ContentSource,
        edges: Edges,
    ) -> Option<(Interpreter, ArrayVec<ShellCandidate, CANDIDATES_MAX>)> {
        let snapshot = shell.snapshot;
        let is_cut = self.follow_back(shell, edges);
        let beside = at_other_descriptors(snapshot, shell.table, &self.graph);
        if beside.is_empty() && ends_of(&self.inward).next().is_none() {
            if is_cut {
                self.count_cut(shell);
            }
            return None;
        }
        // Most interpreters with a connection stop here: what they run is a server.
        let known = shell.interpreter.or_else(|| of_content(snapshot, shell.process, files));
        let interpreter = known?;
        self.graph.begin_part();
        let is_cut = self.follow_on(shell, edges) || is_cut;
        self.graph.begin_part();
        let candidates = self.candidates(snapshot, &beside);
        if is_cut || beside.is_full() || candidates.is_full() {
            self.count_cut(shell);
        }
        (!candidates.is_empty()).then_some((interpreter, candidates))
    }

    /// Counts an interpreter whose bytes were not followed to their end.
    fn count_cut(&mut self, shell: &Shell<'_>) {
        self.lost.stand(1, shell.process_id());
    }

    /// Decides whether a candidate is a finding: its reason, and since when that applies. `None` if
    /// the reason has not lasted long enough.
    fn judge(
        &mut self,
        shell: &Shell<'_>,
        interpreter: Interpreter,
        candidate: &ShellCandidate,
        login: Login,
        now: Now,
    ) -> Result<Option<(Reason, StateAge)>, Exemption> {
        let snapshot = shell.snapshot;
        let mut case = self.case(shell, interpreter, candidate, login);
        let pair = self.pair(shell, candidate.object);
        let shape = (case.inward, case.outward);
        // Bytes written since the pair was first seen answer commands; they ask no server.
        let known = pair.and_then(|pair| self.pending.had_spoken(pair, shape));
        case.has_spoken = known.unwrap_or(case.has_spoken);
        let reason = judge::judge(&case)?;
        let over_files = self.leads_over_files(candidate);
        if over_files && !self.are_files_used(shell, candidate) {
            return Ok(None);
        }
        let is_of_multiplexer = candidate.is_of_multiplexer;
        if !over_files && !is_of_multiplexer && !case.may_change(reason) {
            return Ok(Some((reason, StateAge { since_ns: now.real, scans: 1 })));
        }
        let Some(pair) = pair else { return Ok(None) };
        let (who, settled) = match (case.stdin_from_ancestor, case.is_at_other_fd()) {
            _ if is_of_multiplexer => (0, SettlingTime::OF_MULTIPLEXER),
            (true, _) => (2, SettlingTime::FED),
            (false, true) => (1, SettlingTime::HELD),
            (false, false) => (1, SettlingTime::AT_REST),
        };
        let works = line_of(snapshot, shell.process).take(who).enumerate().any(|(at, process)| {
            // A shell that is fed may wait for the lock of its pipe, which a relay holds.
            let waits = |task: &Task| who > 1 && at == 0 && task.is_uninterruptible();
            let mut tasks = snapshot.threads_of(process).map(|thread| &thread.task);
            tasks.any(|task| task.is_at_work() && !waits(task))
        });
        let group = shell.group();
        let received = counters_of(snapshot, candidate.object).map_or(0, |it| it.bytes_in);
        let has_spoken = case.has_spoken;
        let fed = self.fed(shell, candidate);
        let counts = snapshot.counts().into();
        let question = PairObservation {
            pair,
            group,
            shape,
            has_spoken,
            received,
            works,
            counts,
            settled,
            fed,
        };
        Ok(self.settled(&question, now).map(|seen| (reason, seen)))
    }

    /// Since when the state of a pair has been settled, if it is. A pair without room is lost.
    fn settled(&mut self, question: &PairObservation, now: Now) -> Option<StateAge> {
        let settled = self.pending.settled(question, now);
        if let Some(process_id) = self.pending.take_refused() {
            self.lost.add(1, Some(process_id));
        }
        settled
    }

    /// The key of an interpreter and a connection, the same in each scan.
    fn pair(&self, shell: &Shell<'_>, object: ChannelEnd) -> Option<Pair> {
        let snapshot = shell.snapshot;
        let leader = snapshot.leader(snapshot.processes.at(shell.process)?)?;
        Some(Pair {
            key: self.reported.key(snapshot, object)?,
            process: ProcessKey::of(&leader.task),
            exec_id: leader.task.self_exec_id,
        })
    }

    /// Remembers a connection, and those on the paths to it.
    fn remember_way(&mut self, snapshot: &Snapshot, candidate: &ShellCandidate) {
        let mut objects = ArrayVec::<ChannelEnd, 32>::new();
        objects.extend([candidate.object, candidate.out_object]);
        let ways = [(&self.inward, candidate.inward), (&self.outward, candidate.outward)];
        for (search, hop) in ways {
            let ends = search.path(hop).map(|hop| hop.object);
            let ends = ends.filter(|object| self.reported.key(snapshot, *object).is_some());
            let room = objects.remaining_capacity();
            objects.extend(ends.take(room));
        }
        for object in objects {
            self.reported.add(snapshot, object);
        }
    }

    /// The facts of a candidate for the rule.
    fn case(
        &self,
        shell: &Shell<'_>,
        interpreter: Interpreter,
        candidate: &ShellCandidate,
        login: Login,
    ) -> Case {
        let snapshot = shell.snapshot;
        let at = |search: &GraphSearch, hop| match search.path(hop).count() {
            0 => ConnectionPosition::OtherFd,
            1 => ConnectionPosition::Stdio,
            _ => ConnectionPosition::Relayed,
        };
        // From the connection to the interpreter, without the interpreter itself.
        let relayed_by_one_liner = self.inward.path(candidate.inward).any(|hop| {
            hop.table != shell.table
                && self
                    .process_of(shell, hop.table)
                    .is_some_and(|it| runs_its_argument(snapshot, it))
        });
        let counters = counters_of(snapshot, candidate.object);
        Case {
            interpreter,
            inward: at(&self.inward, candidate.inward),
            outward: at(&self.outward, candidate.outward),
            direction: candidate.direction,
            by_login: login == Login::Peers,
            into_container: self.is_passed_into_container(shell, candidate),
            opened_by_interpreter: self.is_opened_by(shell, candidate.object),
            has_spoken: counters.is_some_and(|counters| counters.bytes_out > 0),
            is_one_connection: candidate.object == candidate.out_object,
            relayed_by_one_liner,
            stdin_from_ancestor: self.feeder_of(shell, candidate).is_some(),
            fetched: self.is_fetched(shell, candidate),
        }
    }

    /// Whether input comes over a connection of a process that did not start the interpreter, while
    /// output goes to one that did, over another connection to the same peer. So do agents' jobs
    /// that run a script (`curl … | bash`) from where the agent gets its jobs, or through the same
    /// proxy.
    fn is_fetched(&self, shell: &Shell<'_>, candidate: &ShellCandidate) -> bool {
        let snapshot = shell.snapshot;
        let holder = |search: &GraphSearch, hop| search.path(hop).next().map(|hop| hop.table);
        let starts = |table: Index<FilesRow>| {
            let mut starters = line_of(snapshot, shell.process).skip(1);
            starters.any(|it| it.files == Some(table) && !is_relay(name_of(snapshot, it)))
        };
        candidate.out_object != candidate.object
            && holder(&self.outward, candidate.outward).is_some_and(starts)
            && !holder(&self.inward, candidate.inward).is_some_and(starts)
    }

    /// Whether the interpreter's oldest ancestor that holds the connection runs the same program.
    fn is_opened_by(&self, shell: &Shell<'_>, object: ChannelEnd) -> bool {
        let snapshot = shell.snapshot;
        let Some(own) = snapshot.processes.at(shell.process) else { return false };
        let program = program_of(snapshot, own);
        let holds = |it: &&ProcessRow| {
            it.files.is_some_and(|table| self.graph.holds(snapshot, table, object))
        };
        let oldest = line_of(snapshot, shell.process).filter(holds).last();
        oldest.is_some_and(|process| program_of(snapshot, process) == program)
    }

    /// The process of a table: the interpreter, or else the oldest one with that table.
    fn process_of<'a>(&self, shell: &Shell<'a>, table: Index<FilesRow>) -> Option<&'a ProcessRow> {
        shell.snapshot.processes.at(self.index_of(shell, table)?)
    }

    fn index_of(&self, shell: &Shell<'_>, table: Index<FilesRow>) -> Option<Index<ProcessRow>> {
        if table == shell.table {
            return Some(shell.process);
        }
        self.graph.processes_of(table).next()
    }
}

/// Recognises a program by its file's content, if that is known by now.
fn of_content(
    snapshot: &Snapshot,
    index: Index<ProcessRow>,
    files: &mut dyn ContentSource,
) -> Option<Interpreter> {
    let process = snapshot.processes.at(index)?;
    let task = &snapshot.leader(process)?.task;
    let asker = Asker { process_id: task.tgid, group: snapshot.group_of(process) };
    let known = files.ask_last(&executable_of(snapshot, process)?, asker)?;
    let comm = task.name();
    interpreter::recognise_content(known.traits, line(snapshot, process), comm)
}
