//! Finds out whether a receiver can be reached, without a record.

use std::io;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::http::{Http, ReceiverResponse, ResponseBuffer};
use super::link::ReceiverLink;
use super::message::Messages;
use super::tls::TlsConnector;
use crate::output::socket::{
    Action, ConnectedSocket, Peer, PeerResolver, PendingConnection, SocketError,
};
use crate::output::{OutputCounters, OutputKind};

/// The settings that are needed to reach a receiver.
#[derive(Debug)]
pub struct ReceiverProbe {
    pub peer: Peer,
    /// How the connection is encrypted, if it is.
    pub tls: Option<TlsConnector>,
    /// What the receiver would get. Only one of HTTP is asked something.
    pub messages: Messages,
    /// How long all of it may take.
    pub patience: Duration,
}

/// What a receiver has shown of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReachedLayer {
    /// It has an address, and no datagram was refused. Nothing tells whether it is there.
    Address,
    /// It accepts connections, and the handshake of TLS if there is one.
    Connection,
    /// It speaks HTTP, and answers an inquiry (OPTIONS) so.
    Http {
        status: u16,
        /// The status with the receiver's words for it.
        words: String,
    },
}

/// How often progress is looked for.
const PROBE_PROGRESS_INTERVAL: Duration = Duration::from_millis(5);
/// So long after the handshake a receiver may refuse: one of TLS 1.3 reads the own certificate
/// then, and another one closes a connection that it does not want.
pub const REFUSAL_WAIT: Duration = Duration::from_millis(300);

impl ReceiverProbe {
    /// Reaches for the receiver, and waits for what it does.
    ///
    /// # Errors
    ///
    /// The receiver cannot be reached, refuses the connection, or does not answer in time.
    pub fn run(mut self) -> Result<ReachedLayer, SocketError> {
        let start = Instant::now();
        let connected = self.connect(start)?;
        let counters = Arc::new(OutputCounters::default());
        let mut link = ReceiverLink::new(&self.peer, self.tls.take(), OutputKind::Plain, &counters);
        link.open(connected)?;
        while !link.is_ready() {
            link.advance(nanoseconds(start), PROBE_PROGRESS_INTERVAL)?;
            self.check_time(start, Action::Secure)?;
        }
        if let Messages::Http(http) = &self.messages {
            let ReceiverResponse { status, text: words, .. } = self.ask(http, &mut link, start)?;
            link.end();
            return Ok(ReachedLayer::Http { status, words });
        }
        let ready = Instant::now();
        while ready.elapsed() < REFUSAL_WAIT {
            link.advance(nanoseconds(start), PROBE_PROGRESS_INTERVAL)?;
        }
        let is_stream = link.is_stream();
        link.end();
        Ok(if is_stream { ReachedLayer::Connection } else { ReachedLayer::Address })
    }

    fn connect(&self, start: Instant) -> Result<ConnectedSocket, SocketError> {
        let mut names = PeerResolver::start(&self.peer)?;
        names.ask();
        let resolved = loop {
            match names.answer() {
                Some(answer) => break answer?,
                None => sleep(PROBE_PROGRESS_INTERVAL),
            }
            self.check_time(start, Action::Resolve)?;
        };
        let mut connecting = PendingConnection::new(&self.peer, resolved);
        loop {
            if let Some(connected) = connecting.advance(nanoseconds(start), PROBE_PROGRESS_INTERVAL)
            {
                return connected;
            }
            self.check_time(start, Action::Connect)?;
        }
    }

    /// Sends an inquiry and returns its answer.
    fn ask(
        &self,
        http: &Http,
        link: &mut ReceiverLink,
        start: Instant,
    ) -> Result<ReceiverResponse, SocketError> {
        let inquiry = http.inquiry();
        let (mut rest, mut answers) = (inquiry.as_bytes(), ResponseBuffer::new(http.envelope));
        loop {
            rest = &rest[link.append(rest)..];
            let advanced = link.advance(nanoseconds(start), PROBE_PROGRESS_INTERVAL);
            // An answer may come with the end of the connection.
            let answer = answers.read(link.received()).map_err(|error| {
                SocketError::new(Action::Deliver, &self.peer, io::Error::other(error))
            })?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            advanced?;
            self.check_time(start, Action::Receive)?;
        }
    }

    fn check_time(&self, start: Instant, action: Action) -> Result<(), SocketError> {
        if start.elapsed() < self.patience {
            return Ok(());
        }
        let cause = io::Error::from(io::ErrorKind::TimedOut);
        Err(SocketError::new(action, &self.peer, cause))
    }
}

/// The time since the start, in nanoseconds.
fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
