//! One client.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::PENDING_MAX;
use super::events::{ClientEvent, Events};
use crate::output::socket::{ConnectedSocket, Peer, Socket};
use crate::output::{OutputCounters, OutputKind};

/// How long a client has until it begins.
pub(super) const BEGIN_NS: u64 = 5_000_000_000;
/// The longest message of a client, and the most messages before it begins.
const MESSAGE_BYTES_MAX: usize = 8192;
const MESSAGES_MAX: u32 = 16;

/// A client.
#[derive(Debug)]
pub(super) struct Client<F> {
    address: SocketAddr,
    filter: Option<F>,
    expression: String,
    stage: ClientStage,
    ends: Option<ClientEvent>,
}

#[derive(Debug)]
enum ClientStage {
    /// It asks. Nothing was allocated for it yet.
    Asking {
        stream: TcpStream,
        until_ns: u64,
        messages: u32,
    },
    /// It receives records.
    Receiving(ReceivingClient),
    Closed,
}

#[derive(Debug)]
struct ReceivingClient {
    socket: Socket,
    /// What the socket has not accepted, from `sent` on.
    pending: Vec<u8>,
    sent: usize,
}

impl<F> Client<F> {
    /// Greets a client.
    pub(super) fn new(
        stream: TcpStream,
        address: SocketAddr,
        first: &[u8],
        now_ns: u64,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // It is the first thing that is sent, so there is room.
        (&stream).write_all(first)?;
        let stage =
            ClientStage::Asking { stream, until_ns: now_ns.saturating_add(BEGIN_NS), messages: 0 };
        Ok(Self { address, filter: None, expression: String::new(), stage, ends: None })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) const fn filter(&self) -> Option<&F> {
        self.filter.as_ref()
    }

    pub(super) const fn has_started(&self) -> bool {
        matches!(self.stage, ClientStage::Receiving(_))
    }

    /// Whether nothing waits for it.
    pub(super) fn is_idle(&self) -> bool {
        self.ends.is_some()
            || match &self.stage {
                ClientStage::Receiving(receiving) => receiving.is_idle(),
                ClientStage::Asking { .. } | ClientStage::Closed => true,
            }
    }

    pub(super) fn is_nearly_full(&self) -> bool {
        let ClientStage::Receiving(receiving) = &self.stage else { return false };
        self.ends.is_none() && receiving.waiting() > PENDING_MAX / 2
    }

    /// Ends the connection.
    pub(super) fn leave(&mut self) {
        self.ends.get_or_insert(ClientEvent::Left(self.address));
    }

    /// Ends the connection: records are missing that it should have.
    pub(super) fn miss(&mut self) {
        self.ends.get_or_insert(ClientEvent::Missing(self.address));
    }

    pub(super) const fn take_end(&mut self) -> Option<ClientEvent> {
        self.ends.take()
    }

    pub(super) fn close(&mut self) {
        if let ClientStage::Receiving(receiving) = &mut self.stage {
            receiving.socket.close();
        }
        self.stage = ClientStage::Closed;
    }

    /// Adds a record, or ends the connection if there is no room.
    pub(super) fn push(&mut self, record: &[u8]) {
        let ClientStage::Receiving(receiving) = &mut self.stage else { return };
        if self.ends.is_some() {
            return;
        }
        match receiving.push(record) {
            Ok(true) => {}
            Ok(false) => self.ends = Some(ClientEvent::TooSlow(self.address)),
            Err(()) => self.ends = Some(ClientEvent::Left(self.address)),
        }
    }

    /// Sends what waits, and receives.
    pub(super) fn send(&mut self, wait: Duration) {
        if let ClientStage::Receiving(receiving) = &mut self.stage
            && receiving.send(wait).is_err()
        {
            self.leave();
        }
    }

    pub(super) fn step(
        &mut self,
        compile: fn(&str) -> Result<F, String>,
        events: &mut Events,
        now_ns: u64,
    ) {
        match &mut self.stage {
            ClientStage::Asking { until_ns, .. } if now_ns >= *until_ns => {
                self.refuse("it has not begun in time");
            }
            ClientStage::Asking { stream, messages, .. } => {
                let mut room = [0; MESSAGE_BYTES_MAX];
                match stream.read(&mut room) {
                    Ok(0) => self.leave(),
                    Ok(_) if *messages >= MESSAGES_MAX => self.refuse("it asks too much"),
                    Ok(length) => {
                        *messages += 1;
                        let message = String::from_utf8_lossy(&room[..length]).into_owned();
                        self.obey(&message, compile, events);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => self.leave(),
                }
            }
            ClientStage::Receiving(receiving) => {
                if receiving.send(Duration::ZERO).is_err() {
                    return self.leave();
                }
                // Only a farewell has a meaning now.
                if receiving.socket.received().starts_with(b"DONE: ") {
                    self.leave();
                }
            }
            ClientStage::Closed => {}
        }
    }

    fn refuse(&mut self, why: &str) {
        self.ends.get_or_insert(ClientEvent::Refused(self.address, why.to_owned()));
    }

    /// Follows the commands of a client. Each comes in a segment of its own; several in one are
    /// understood, too.
    fn obey(&mut self, message: &str, compile: fn(&str) -> Result<F, String>, events: &mut Events) {
        let mut rest = message.trim_start_matches(['\0', '\n', '\r', ' ']);
        while !rest.is_empty() && self.ends.is_none() && !self.has_started() {
            // A filter ends where the segment or its string does, or where it begins.
            let end = rest.find('\0').or_else(|| rest.find("START: ").filter(|at| *at > 0));
            let (command, after) = rest.split_at(end.unwrap_or(rest.len()));
            if let Some(expression) = command.strip_prefix("FILTER: ") {
                self.set_filter(expression.trim(), compile);
            } else if command.starts_with("START: ") {
                self.start(events);
            } else if command.starts_with("DONE: ") {
                self.leave();
            } else if !["MODEL: ", "PROJECT: ", "FILE: "].iter().any(|one| command.starts_with(one))
            {
                self.refuse("it has sent an unknown command");
            }
            rest = after.trim_start_matches(['\0', '\n', '\r', ' ']);
        }
    }

    fn set_filter(&mut self, expression: &str, compile: fn(&str) -> Result<F, String>) {
        let ClientStage::Asking { stream, .. } = &mut self.stage else { return };
        // The answer has room, or the client has gone.
        match compile(expression) {
            Ok(filter) => {
                self.filter = Some(filter);
                expression.clone_into(&mut self.expression);
                let _ = stream.write_all(b"OK");
            }
            Err(error) => {
                let _ = stream.write_all(b"SY");
                self.refuse(&format!("its filter has a mistake: {error}"));
            }
        }
    }

    /// Makes what records take.
    fn start(&mut self, events: &mut Events) {
        let ClientStage::Asking { stream, .. } =
            std::mem::replace(&mut self.stage, ClientStage::Closed)
        else {
            return;
        };
        let peer = Peer::tcp(&self.address.ip().to_string(), self.address.port());
        let Ok(connected) = ConnectedSocket::stream(peer, stream.into()) else {
            return self.leave();
        };
        let mut socket = Socket::new(OutputKind::Plain, &Arc::new(OutputCounters::default()));
        socket.open(connected);
        let pending = Vec::with_capacity(PENDING_MAX);
        self.stage = ClientStage::Receiving(ReceivingClient { socket, pending, sent: 0 });
        events.push(ClientEvent::Started(self.address, self.expression.clone()));
    }
}

impl ReceivingClient {
    fn is_idle(&self) -> bool {
        self.waiting() == 0 && self.socket.is_idle()
    }

    const fn waiting(&self) -> usize {
        self.pending.len() - self.sent
    }

    /// Adds bytes; `false` if there is no room.
    fn push(&mut self, bytes: &[u8]) -> Result<bool, ()> {
        if self.pending.len() + bytes.len() > PENDING_MAX {
            self.send(Duration::ZERO)?;
            self.pending.copy_within(self.sent.., 0);
            self.pending.truncate(self.pending.len() - self.sent);
            self.sent = 0;
        }
        if self.pending.len() + bytes.len() > PENDING_MAX {
            return Ok(false);
        }
        self.pending.extend_from_slice(bytes);
        Ok(true)
    }

    /// Sends what waits, and receives. An error ends the connection.
    fn send(&mut self, wait: Duration) -> Result<(), ()> {
        self.sent += self.socket.append(&self.pending[self.sent..]);
        if self.sent == self.pending.len() {
            self.pending.clear();
            self.sent = 0;
        }
        self.socket.advance(wait).map(drop).map_err(drop)
    }
}
