//! A connection to a receiver, encrypted or not: places in it are those of the records.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::tls::{Session, TlsConnector};
use crate::output::socket::{Action, ConnectedSocket, Peer, SentCounts, Socket, SocketError};
use crate::output::{LAST_WAIT, LAST_WAITS, OutputCounters, OutputKind};

/// One connection after the other.
#[derive(Debug)]
pub(super) struct ReceiverLink {
    peer: Peer,
    socket: Socket,
    tls: Option<TlsConnector>,
    /// The session of TLS, if the connection is encrypted.
    session: Option<Session>,
}

impl ReceiverLink {
    pub(super) fn new(
        peer: &Peer,
        tls: Option<TlsConnector>,
        kind: OutputKind,
        counters: &Arc<OutputCounters>,
    ) -> Self {
        Self { peer: peer.clone(), socket: Socket::new(kind, counters), tls, session: None }
    }

    pub(super) fn kind(&self) -> OutputKind {
        self.socket.kind()
    }

    /// Takes a new connection.
    pub(super) fn open(&mut self, connected: ConnectedSocket) -> Result<(), SocketError> {
        self.socket.open(connected);
        let session = self.tls.as_ref().map(TlsConnector::begin).transpose();
        self.session = session.map_err(|cause| self.insecure(cause))?;
        Ok(())
    }

    pub(super) fn is_stream(&self) -> bool {
        self.socket.is_stream()
    }

    /// Whether records can be sent: no handshake is under way.
    pub(super) fn is_ready(&self) -> bool {
        self.session.as_ref().is_none_or(Session::is_ready)
    }

    /// Takes bytes to send and returns their number, as the socket does.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let socket = &mut self.socket;
        match &mut self.session {
            Some(session) => session.append(bytes, |bytes| socket.append(bytes)),
            None => socket.append(bytes),
        }
    }

    /// Sends and receives. Waits up to `wait` until something happens.
    pub(super) fn advance(&mut self, now_ns: u64, wait: Duration) -> Result<(), SocketError> {
        let is_ready = self.is_ready();
        let socket = &mut self.socket;
        let Some(session) = &mut self.session else { return socket.advance(wait) };
        session.flush(|bytes| socket.append(bytes));
        let advanced = socket.advance(wait);
        // The reason of a failure may have arrived with it.
        let taken = session.take(socket.received(), now_ns);
        session.flush(|bytes| socket.append(bytes));
        match taken {
            Ok(()) => advanced.map_err(|error| {
                if is_ready { error } else { SocketError { action: Action::Secure, ..error } }
            }),
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                Err(SocketError::new(Action::Receive, &self.peer, cause))
            }
            Err(cause) => {
                // The receiver's log can have the reason, too.
                let _ = socket.advance(Duration::ZERO);
                Err(self.insecure(cause))
            }
        }
    }

    fn insecure(&self, cause: io::Error) -> SocketError {
        SocketError::new(Action::Secure, &self.peer, cause)
    }

    /// What has arrived in the last step.
    pub(super) fn received(&self) -> &[u8] {
        match &self.session {
            Some(session) => session.received(),
            None => self.socket.received(),
        }
    }

    /// What the kernel has accepted.
    pub(super) fn sent(&self) -> SentCounts {
        self.socket.sent()
    }

    /// How many bytes of records, or datagrams, have arrived on this connection, or on the last one
    /// until it is closed.
    pub(super) fn arrived(&mut self) -> u64 {
        let sent = self.socket.sent();
        if !self.socket.is_stream() {
            return sent.datagrams + sent.refused;
        }
        let arrived = sent.bytes.saturating_sub(self.socket.unsent());
        self.session.as_mut().map_or(arrived, |session| session.arrived(arrived))
    }

    /// Ends the connection so that the receiver knows that nothing is missing.
    pub(super) fn end(&mut self) {
        let socket = &mut self.socket;
        if let Some(session) = self.session.as_mut().filter(|session| session.is_ready()) {
            session.end();
            session.flush(|bytes| socket.append(bytes));
            for _ in 0..LAST_WAITS {
                if socket.advance(LAST_WAIT).is_err() || socket.is_idle() {
                    break;
                }
                session.flush(|bytes| socket.append(bytes));
            }
        }
        self.close();
    }

    /// Ends the connection at once.
    pub(super) fn close(&mut self) {
        self.socket.close();
        self.session = None;
    }
}
