//! Records to a receiver: over TCP, TLS, UDP, or a Unix socket.
//!
//! Each record that the output takes goes into its backlog, so a receiver that is slow, or away,
//! delays neither the scanners nor other outputs. What does not fit there is dropped and counted:
//! the oldest events first, alerts last.
//!
//! ```text
//! Down ──pause over──► Resolving ──► Connecting ──► Up
//!  ▲                       │             │           │
//!  └───────── failure, with a longer pause each ─────┘
//! ```
//!
//! A record leaves the backlog when it is confirmed. A stream's receiver confirms what its kernel
//! has received; a datagram counts when it is sent. A new connection begins with the first record
//! that was not confirmed, and with its first byte: within a connection, no record is cut or
//! doubled.
//! With the Forward protocol, the receiver itself acknowledges each message; with HTTP, it answers
//! each request.

mod flight;
mod forward;
mod http;
mod link;
mod message;
mod probe;
mod rejection;
mod search;
mod tls;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use panoptes_records::filter::Filter;
use panoptes_records::queue::RecordBlock;

pub use self::forward::Forward;
pub use self::http::{Body, Http};
pub use self::message::Messages;
pub use self::probe::{REFUSAL_WAIT, ReachedLayer, ReceiverProbe};
pub use self::tls::{TlsConnector, TlsFiles};

use self::flight::Flight;
use self::forward::Acks;
use self::http::{ReceiverResponse, ResponseBuffer, ResponseVerdict};
use self::link::ReceiverLink;
use self::message::{Composer, MessageBatch, Note};
use self::search::RefusalStep;
use super::backlog::{Backlog, BacklogDrops};
use super::socket::{Action, BackOff, Peer, PeerResolver, PendingConnection, SocketError};
use super::{Output, OutputCounters, OutputKind, OutputStatus};

/// What an output to a receiver needs.
#[derive(Debug)]
pub struct RemoteSettings {
    pub peer: Peer,
    /// How the connection is encrypted, if it is.
    pub tls: Option<TlsConnector>,
    pub messages: Messages,
    pub filter: Filter,
    /// What waits, and perhaps has waited since before the start.
    pub backlog: Backlog,
    /// The way to send that is tried first.
    pub kind: OutputKind,
    /// Differs between outputs and machines, so that they do not all connect at the same time.
    pub seed: u64,
}

#[derive(Debug)]
pub struct RemoteOutput {
    peer: Peer,
    filter: Filter,
    names: PeerResolver,
    link: ReceiverLink,
    backoff: BackOff,
    state: RemoteState,
    /// While connecting.
    connecting: Option<PendingConnection>,
    /// When it came into this state, or last made progress in it.
    since_ns: u64,
    /// When the connection was made.
    up_ns: u64,
    backlog: Backlog,
    composer: Composer,
    /// The composer's message, if the socket has not taken all of it.
    begun: Option<PartialMessage>,
    flight: Flight,
    acks: Acks,
    answers: ResponseBuffer,
    /// Whether a request was answered on this connection.
    is_answered: bool,
    /// Whether the receiver has taken a record over this connection.
    is_accepting: bool,
    counters: Arc<OutputCounters>,
    /// How many dropped records of the backlog were counted.
    dropped: u64,
}

#[derive(Clone, Copy, Debug)]
enum RemoteState {
    /// Until this time.
    Down(u64),
    Resolving,
    Connecting,
    Up,
}

/// A message that is not wholly passed on to the socket.
#[derive(Clone, Copy, Debug)]
struct PartialMessage {
    batch: MessageBatch,
    /// How much of it the socket has taken.
    taken: usize,
}

/// Why a connection is over, or none could be made.
#[derive(Debug)]
enum DisconnectReason {
    Failed(SocketError),
    /// The receiver wants nothing for so many seconds.
    Busy(SocketError, u64),
    /// In good order: the next request has another connection.
    InOrder,
}

/// A receiver that makes no progress for this time is looked at now and then only.
const SOON_NS: u64 = 100_000_000;
/// The next request waits for the answer to the last one, so that one is looked for longer. A look
/// each half second adds a tenth to a longer time, at most.
const SOON_HTTP_NS: u64 = 5_000_000_000;
const _: () = assert!(SOON_NS < SOON_HTTP_NS, "an answer may take longer than a record");
/// A connection that ends sooner lengthens the pause before the next one, even if a part of the
/// records had arrived: a receiver that ends all connections is not called ten times a second.
const GOOD_NS: u64 = 1_000_000_000;
/// How long a receiver may take to acknowledge a message. What waits for that is sent again then.
const ACK_NS: u64 = 60_000_000_000;
/// How long the handshake of TLS may take.
const HANDSHAKE_NS: u64 = 10_000_000_000;
/// The longest pause that a receiver can ask for, in seconds.
const BUSY_SECONDS_MAX: u64 = 600;
/// In the reason of a failure: no other record would be taken.
const OF_ALL: &str = "; it refuses every record";
/// How long what is left may take at the end.
const LAST_PATIENCE_NS: u64 = 5_000_000_000;

impl RemoteOutput {
    /// About how many bytes an output needs beside its backlog.
    pub const BYTES: u64 = 768 * 1024;

    /// Makes the output's memory. It connects in its first steps.
    pub fn new(settings: RemoteSettings) -> Result<Self, SocketError> {
        let RemoteSettings { peer, tls, messages, filter, backlog, kind, seed } = settings;
        let counters = Arc::new(OutputCounters::default());
        Ok(Self {
            names: PeerResolver::start(&peer)?,
            link: ReceiverLink::new(&peer, tls, kind, &counters),
            backoff: BackOff::new(seed),
            state: RemoteState::Down(0),
            connecting: None,
            since_ns: 0,
            up_ns: 0,
            backlog,
            answers: ResponseBuffer::new(messages.envelope()),
            composer: Composer::new(messages),
            begun: None,
            flight: Flight::new(),
            acks: Acks::new(),
            is_answered: false,
            is_accepting: false,
            dropped: 0,
            peer,
            filter,
            counters,
        })
    }

    fn enter(&mut self, state: RemoteState, now_ns: u64) {
        (self.state, self.since_ns) = (state, now_ns);
    }

    /// Goes towards a connection; returns the wait that is left.
    fn connect(&mut self, now_ns: u64, wait: Duration) -> Result<Duration, SocketError> {
        // Servers of HTTP end connections that nobody uses.
        let is_needed = !self.composer.is_http() || !self.is_done();
        if let RemoteState::Down(until) = self.state
            && now_ns >= until
            && is_needed
        {
            self.names.ask();
            self.enter(RemoteState::Resolving, now_ns);
        }
        if let RemoteState::Resolving = self.state
            && let Some(resolved) = self.names.answer()
        {
            self.connecting = Some(PendingConnection::new(&self.peer, resolved?));
            self.enter(RemoteState::Connecting, now_ns);
        }
        let Some(connecting) = &mut self.connecting else { return Ok(wait) };
        if let Some(connected) = connecting.advance(now_ns, wait) {
            self.connecting = None;
            self.link.open(connected?)?;
            self.composer.begin(self.link.is_stream());
            (self.is_answered, self.is_accepting) = (false, false);
            OutputCounters::add(&self.counters.connections, 1);
            self.enter(RemoteState::Up, now_ns);
            self.up_ns = now_ns;
        }
        Ok(Duration::ZERO)
    }

    /// Sends what waits, as far as the kernel takes it.
    fn send(&mut self, now_ns: u64, wait: Duration) -> Result<(), DisconnectReason> {
        // The end of the connection shows before more is sent to nobody.
        self.receive(now_ns, Duration::ZERO)?;
        // The next request waits for the answer to this one.
        let is_answered = self.composer.is_http() && self.confirm();
        // A message that lacks only its acknowledgement gets it no sooner for those behind it.
        let is_overdue =
            self.composer.forward().is_some() && self.flight.is_overdue(self.link.arrived());
        let is_moved = self.link.is_ready() && self.fill() || is_answered;
        let wait = if is_moved || self.is_done() { Duration::ZERO } else { wait };
        self.receive(now_ns, wait)?;
        let is_confirmed = self.confirm() || is_answered;
        if is_confirmed || is_moved && !is_overdue {
            self.since_ns = now_ns;
        }
        if is_confirmed && now_ns > self.up_ns.saturating_add(GOOD_NS) {
            self.backoff.reset();
        }
        let (patience_ns, action) = if !self.link.is_ready() {
            (HANDSHAKE_NS, Action::Secure)
        } else if self.composer.awaits_acks() && !self.is_done() {
            (ACK_NS, Action::Receive)
        } else {
            return Ok(());
        };
        if now_ns > self.since_ns.saturating_add(patience_ns) {
            return Err(self.failed(action, io::ErrorKind::TimedOut.into()));
        }
        Ok(())
    }

    /// Sends what the socket has, and reads acknowledgements and answers.
    fn receive(&mut self, now_ns: u64, wait: Duration) -> Result<(), DisconnectReason> {
        if let Err(error) = self.link.advance(now_ns, wait) {
            // Nobody waits for an answer.
            let is_in_order = self.is_answered && self.flight.is_empty() && self.begun.is_none();
            return Err(if is_in_order {
                DisconnectReason::InOrder
            } else {
                DisconnectReason::Failed(error)
            });
        }
        if self.composer.is_http() {
            let read = self.answers.read(self.link.received());
            return match read {
                Ok(None) => Ok(()),
                Ok(Some(answer)) => self.answered(&answer),
                Err(error) => Err(self.failed(Action::Deliver, io::Error::other(error))),
            };
        }
        let Some(forward) = self.composer.forward() else { return Ok(()) };
        let flight = &mut self.flight;
        let read = self.acks.read(self.link.received(), forward, |chunk| flight.acknowledge(chunk));
        read.map_err(|error| self.failed(Action::Receive, io::Error::other(error)))
    }

    /// Does what the receiver's answer to the request demands. The connection continues only after
    /// an answer that took or refused the records.
    fn answered(&mut self, answer: &ReceiverResponse) -> Result<(), DisconnectReason> {
        // It may come before the whole request is sent, and then the rest is not.
        let begun = self.begun.take();
        if let Some(PartialMessage { batch, .. }) = begun {
            self.flight.push(batch, 0);
        }
        let error = self.answer_error(answer, if answer.is_of_all() { OF_ALL } else { "" });
        let (Some(batch), Some(http)) = (self.flight.first(), self.composer.http()) else {
            return Err(if self.is_answered {
                DisconnectReason::InOrder
            } else {
                DisconnectReason::Failed(error)
            });
        };
        let is_over = answer.is_last || begun.is_some();
        let is_sample_rejected = answer.rejected > 0 && http.search.sample().is_some();
        match answer.verdict() {
            ResponseVerdict::Taken if !is_sample_rejected => {
                self.is_answered = true;
                self.backoff.reset();
                if !self.is_accepting {
                    self.counters.set_answer(&answer.text);
                }
                if http.search.taken(batch.sequence, batch.records, answer.rejected) {
                    self.note_accepted();
                    self.send_again();
                } else {
                    self.drop_refused(answer.rejected, &error);
                }
                if is_over { Err(DisconnectReason::InOrder) } else { Ok(()) }
            }
            ResponseVerdict::Busy => {
                let seconds = answer.retry_after.unwrap_or_default().min(BUSY_SECONDS_MAX);
                Err(DisconnectReason::Busy(error, seconds))
            }
            ResponseVerdict::Refused | ResponseVerdict::Taken => {
                self.is_answered = true;
                let is_size = answer.is_too_large();
                match http.search.refused(batch.sequence, batch.records, is_size) {
                    RefusalStep::Drop => self.drop_refused(batch.records, &error),
                    RefusalStep::Smaller => self.send_again(),
                    RefusalStep::Sample if http.search.choose(&mut self.backlog) => {
                        self.send_again();
                    }
                    RefusalStep::Sample => {
                        let error = self.answer_error(answer, OF_ALL);
                        return Err(DisconnectReason::Failed(error));
                    }
                }
                if is_over { Err(DisconnectReason::InOrder) } else { Ok(()) }
            }
            ResponseVerdict::Failed => Err(DisconnectReason::Failed(error)),
        }
    }

    /// What an answer means for people: the receiver's words, then `more`, then what to do.
    fn answer_error(&self, answer: &ReceiverResponse, more: &str) -> SocketError {
        let cause = format!("it answers {}{more}{}", answer.text, answer.hint());
        SocketError::new(Action::Deliver, &self.peer, io::Error::other(cause))
    }

    /// Confirms the request that was answered, and drops so many of its records: the receiver
    /// refuses them.
    fn drop_refused(&mut self, records: u64, error: &SocketError) {
        let refused = self.flight.answer_first(records);
        if refused > 0 {
            self.counters.set_failure(error);
            OutputCounters::add(&self.counters.refused, refused as usize);
        }
    }

    /// Sends what was sent once more, in other requests.
    fn send_again(&mut self) {
        self.flight.clear();
        self.backlog.rewind();
    }

    /// A failure of the receiver.
    fn failed(&self, action: Action, cause: io::Error) -> DisconnectReason {
        DisconnectReason::Failed(SocketError::new(action, &self.peer, cause))
    }

    /// Passes messages on to the socket while it takes them; returns whether it took anything.
    fn fill(&mut self) -> bool {
        let mut is_moved = false;
        while self.may_send()
            && let Some(PartialMessage { batch, taken }) = self.begun.or_else(|| self.begin())
        {
            let rest = &self.composer.message()[taken..];
            let more = self.link.append(rest);
            is_moved |= more > 0;
            if more < rest.len() {
                self.begun = Some(PartialMessage { batch, taken: taken + more });
                break;
            }
            self.begun = None;
            let length = (taken + more) as u64;
            let size = if self.link.is_stream() { length } else { length.min(1) };
            // An answer confirms a request, whatever the kernel knows.
            self.flight.push(batch, if self.composer.is_http() { 0 } else { size });
        }
        is_moved
    }

    /// Whether more may be sent: one request at a time.
    fn may_send(&self) -> bool {
        if self.composer.is_http() { self.flight.is_empty() } else { !self.flight.is_full() }
    }

    fn begin(&mut self) -> Option<PartialMessage> {
        let batch = self.composer.compose(&mut self.backlog)?;
        Some(PartialMessage { batch, taken: 0 })
    }

    /// Removes what has arrived from the backlog; returns whether anything had.
    fn confirm(&mut self) -> bool {
        let (sent, arrived) = (self.link.sent(), self.link.arrived());
        let Some(confirmed) = self.flight.confirm(arrived) else { return false };
        self.backlog.confirm(confirmed.sequence);
        let refused = self.flight.newly_refused(sent.refused);
        let lost = confirmed.left_out + refused;
        let taken = confirmed.records.saturating_sub(refused);
        OutputCounters::add(&self.counters.records, taken as usize);
        self.counters.add_dropped(lost as usize);
        if taken > 0 {
            self.note_accepted();
        }
        true
    }

    /// Notes that the receiver has taken a record.
    fn note_accepted(&mut self) {
        if !mem::replace(&mut self.is_accepting, true) {
            OutputCounters::add(&self.counters.accepting, 1);
        }
    }

    /// Ends the connection, or the attempt to make one.
    fn go_down(&mut self, ended: &DisconnectReason, now_ns: u64) {
        if let RemoteState::Up = self.state {
            self.confirm();
        }
        let (error, pause_ns) = match ended {
            DisconnectReason::Failed(error) => (Some(error), self.backoff.pause_ns()),
            DisconnectReason::Busy(error, seconds) => {
                (Some(error), self.backoff.pause_ns().max(seconds * 1_000_000_000))
            }
            DisconnectReason::InOrder => (None, 0),
        };
        if let Some(error) = error {
            // Stored before it is counted: a reader of the count finds its cause.
            self.counters.set_failure(error);
            self.counters.add_error(&error.cause);
        }
        // A receiver that asks for a pause is still there. One that did so between any two requests
        // would never let a search find its record.
        if let DisconnectReason::Failed(_) = ended {
            self.pause_search();
        }
        self.link.close();
        self.backlog.rewind();
        self.flight.clear();
        self.connecting = None;
        self.acks.clear();
        self.answers.clear();
        self.begun = None;
        self.enter(RemoteState::Down(now_ns.saturating_add(pause_ns)), now_ns);
    }

    /// What follows may be another receiver.
    fn pause_search(&mut self) {
        if let Some(http) = self.composer.http() {
            http.search.pause();
        }
    }

    /// Counts the records that the backlog has dropped, and those that wait in it.
    fn count_backlog(&mut self) {
        let waiting = self.backlog.waiting();
        self.counters.set_waiting(waiting.entries, waiting.bytes);
        let BacklogDrops { full, too_long, damaged } = self.backlog.dropped();
        let dropped = full + too_long + damaged;
        self.counters.add_dropped((dropped - self.dropped) as usize);
        self.dropped = dropped;
        if let Some(error) = self.backlog.take_error() {
            self.counters.add_error(&error);
        }
    }

    /// Whether nothing waits, and all that was sent is confirmed.
    fn is_done(&self) -> bool {
        self.backlog.waiting().entries == 0
    }

    fn standing(&self, now_ns: u64) -> OutputStatus {
        if self.is_done() {
            return OutputStatus::Idle;
        }
        let soon_ns = if self.composer.is_http() { SOON_HTTP_NS } else { SOON_NS };
        let is_soon = now_ns < self.since_ns.saturating_add(soon_ns);
        match self.state {
            RemoteState::Up | RemoteState::Connecting if is_soon => OutputStatus::Busy,
            RemoteState::Resolving if is_soon => OutputStatus::Failing,
            RemoteState::Down(until) if until < now_ns.saturating_add(SOON_NS) => {
                OutputStatus::Failing
            }
            _ => OutputStatus::Away,
        }
    }
}

impl Output for RemoteOutput {
    fn kind(&self) -> OutputKind {
        self.link.kind()
    }

    fn counters(&self) -> &Arc<OutputCounters> {
        &self.counters
    }

    fn filter(&self) -> Filter {
        self.filter
    }

    /// Takes all of them: the backlog drops what has no room.
    fn append(&mut self, block: &RecordBlock, range: Range<usize>, now_ns: u64) -> usize {
        if self.is_done() {
            self.since_ns = now_ns;
            self.pause_search();
        }
        for index in range.clone() {
            let note = Note::of(block, index).to_bytes();
            let record = block.slice(index, 1);
            let record = record.strip_suffix(b"\n").unwrap_or(record);
            self.backlog.push(block.mark(index).is_alert, 0, &[&note, record]);
        }
        self.count_backlog();
        range.len()
    }

    fn advance(&mut self, now_ns: u64, wait: Duration) -> OutputStatus {
        let connected = self.connect(now_ns, wait).map_err(DisconnectReason::Failed);
        let step = connected.and_then(|wait| match self.state {
            RemoteState::Up => self.send(now_ns, wait),
            _ => Ok(()),
        });
        if let Err(ended) = step {
            self.go_down(&ended, now_ns);
        }
        self.count_backlog();
        self.standing(now_ns)
    }

    fn keeps_waiting(&self) -> bool {
        true
    }

    fn hand_over(&mut self) -> Option<Backlog> {
        if self.backlog.is_on_disk() {
            return None;
        }
        if let RemoteState::Up = self.state {
            self.confirm();
        }
        self.count_backlog();
        self.dropped = 0;
        Some(mem::replace(&mut self.backlog, Backlog::new(0)))
    }

    fn take_over(&mut self, waiting: Backlog) {
        self.backlog.take_over(waiting);
        self.count_backlog();
    }

    /// What was not confirmed waits on the disk for the next start, or is lost.
    fn finish(&mut self) {
        if let RemoteState::Up = self.state {
            self.confirm();
        }
        self.link.end();
        let lost = self.backlog.finish();
        self.counters.add_dropped(lost);
        self.count_backlog();
    }

    /// A receiver that refuses everything makes progress, too; one that is away makes none, though
    /// its backlog drops what has no room.
    fn progress(&self) -> u64 {
        self.counters.records() + self.counters.refused()
    }

    fn patience_ns(&self) -> u64 {
        LAST_PATIENCE_NS
    }
}
