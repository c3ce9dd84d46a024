//! Clients that connect over TCP and receive records: `ra -S HOST`, `radium`, and their like.
//!
//! The protocol is that of argus 3.0.8 (`argus/ArgusOutput.c`): the sensor sends a management
//! record; the client may send `FILTER: ` and an expression, which the sensor answers with `OK` or
//! `SY`; after `START: ` the records follow, until the client closes or sends `DONE: `.
//!
//! A client is a stranger. It has a few seconds to begin, a message of limited length, and room for
//! a limited number of bytes that it has not read. A client that exceeds its room is disconnected,
//! so that it knows that records are missing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::output::socket::{Connected, Peer, Socket};
use crate::output::{Counters, OutputKind};

/// The port of argus.
pub const PORT: u16 = 561;
/// Clients at once (`ARGUS_MAXLISTEN`).
const CLIENTS_MAX: usize = 10;
/// How long a client has until it begins.
const BEGIN_NS: u64 = 5_000_000_000;
/// Bytes that may wait for a client.
const PENDING_MAX: usize = 4 << 20;
/// What a refused client receives: an error, and the reason that there are too many (2) or that it
/// has no access (1).
const REFUSAL: [u8; 4] = [0x83, 0x80, 0, 1];
const TOO_MANY: u8 = 2;
const NO_ACCESS: u8 = 1;

/// Networks from which clients may connect.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Access(Vec<(IpAddr, u8)>);

impl Access {
    /// Whether a client may connect. Without networks, everybody may.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.is_empty()
            || self.0.iter().any(|(network, length)| within(address, *network, *length))
    }
}

impl FromStr for Access {
    type Err = String;

    /// Reads `ADDRESS[/LENGTH][,…]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let network = |word: &str| {
            let (address, length) = word
                .split_once('/')
                .map_or((word, None), |(address, length)| (address, Some(length)));
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let length = match length {
                None => most,
                Some(length) => length.parse().ok().filter(|length| *length <= most)?,
            };
            Some((address, length))
        };
        let networks = text.split(',').map(|word| {
            network(word.trim()).ok_or_else(|| format!("`{word}` is no address and no network"))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }
}

/// Whether an address is in a network.
fn within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let shifted = |bits: u128, width: u32| bits.checked_shr(width - u32::from(length)).unwrap_or(0);
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let bits = |address: std::net::Ipv4Addr| u128::from(address.to_bits());
            shifted(bits(address), 32) == shifted(bits(network), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            shifted(address.to_bits(), 128) == shifted(network.to_bits(), 128)
        }
        _ => false,
    }
}

/// Something that an operator wants to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientEvent {
    Connected(SocketAddr),
    /// It has begun, with this filter.
    Started(SocketAddr, String),
    /// It was refused: why.
    Refused(SocketAddr, String),
    Left(SocketAddr),
    /// It has not read fast enough.
    TooSlow(SocketAddr),
}

impl fmt::Display for ClientEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected(client) => write!(out, "client {client} has connected"),
            Self::Started(client, filter) if filter.is_empty() => {
                write!(out, "client {client} receives all records")
            }
            Self::Started(client, filter) => {
                write!(out, "client {client} receives records: {}", filter.escape_debug())
            }
            Self::Refused(client, why) => write!(out, "client {client} was refused: {why}"),
            Self::Left(client) => write!(out, "client {client} has left"),
            Self::TooSlow(client) => write!(
                out,
                "client {client} was disconnected: it has not read {} MiB of records",
                PENDING_MAX >> 20
            ),
        }
    }
}

/// Why clients cannot connect.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {error}")]
pub struct ClientsError {
    pub address: SocketAddr,
    #[source]
    pub error: io::Error,
}

/// All clients, and the addresses where they connect.
#[derive(Debug)]
pub struct Clients<F> {
    listeners: Vec<TcpListener>,
    access: Access,
    /// Reads the expression of a filter.
    compile: fn(&str) -> Result<F, String>,
    all: Vec<Client<F>>,
    events: Vec<ClientEvent>,
}

/// A client.
#[derive(Debug)]
struct Client<F> {
    address: SocketAddr,
    socket: Socket,
    filter: Option<F>,
    expression: String,
    has_started: bool,
    until_ns: u64,
    /// What the socket has not accepted, from `sent` on.
    pending: Vec<u8>,
    sent: usize,
    ends: Option<ClientEvent>,
}

impl<F> Clients<F> {
    /// Listens. `compile` reads a client's filter; it must not resolve names, which takes time.
    pub fn listen(
        addresses: &[SocketAddr],
        access: Access,
        compile: fn(&str) -> Result<F, String>,
    ) -> Result<Self, ClientsError> {
        let listeners = addresses.iter().map(|address| {
            let listener = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            listener.map_err(|error| ClientsError { address: *address, error })
        });
        let listeners = listeners.collect::<Result<_, _>>()?;
        let (all, events) = (Vec::with_capacity(CLIENTS_MAX), Vec::new());
        Ok(Self { listeners, access, compile, all, events })
    }

    /// The addresses where clients connect.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok())
    }

    /// Clients that are connected.
    pub const fn count(&self) -> usize {
        self.all.len()
    }

    /// Takes new clients, which receive `first`, reads what clients send, and sends what waits.
    /// `now_ns` is a time that never goes back.
    pub fn step(&mut self, first: &[u8], now_ns: u64) -> impl Iterator<Item = ClientEvent> {
        for index in 0..self.listeners.len() {
            while let Ok((stream, address)) = self.listeners[index].accept() {
                self.welcome(stream, address, first, now_ns);
            }
        }
        for client in &mut self.all {
            client.step(self.compile, &mut self.events, now_ns);
        }
        self.remove_ended();
        self.events.drain(..)
    }

    fn welcome(&mut self, stream: TcpStream, address: SocketAddr, first: &[u8], now_ns: u64) {
        let refusal = if !self.access.allows(address.ip()) {
            Some((NO_ACCESS, "it has no access"))
        } else if self.all.len() >= CLIENTS_MAX {
            Some((TOO_MANY, "there are too many clients"))
        } else {
            None
        };
        if let Some((reason, why)) = refusal {
            let mut bytes = REFUSAL;
            bytes[1] |= reason;
            // What cannot be sent at once need not be: the connection ends here.
            let _ = io::Write::write(&mut &stream, &bytes);
            self.events.push(ClientEvent::Refused(address, why.to_owned()));
            return;
        }
        let peer = Peer::tcp(&address.ip().to_string(), address.port());
        let Ok(connected) = Connected::new(peer, stream.into(), true) else { return };
        let mut socket = Socket::new(OutputKind::IoUring, &Arc::new(Counters::default()));
        socket.open(connected);
        let mut client = Client {
            address,
            socket,
            filter: None,
            expression: String::new(),
            has_started: false,
            until_ns: now_ns.saturating_add(BEGIN_NS),
            pending: Vec::with_capacity(PENDING_MAX),
            sent: 0,
            ends: None,
        };
        client.push(first);
        self.all.push(client);
        self.events.push(ClientEvent::Connected(address));
    }

    /// Sends a record to all clients that have begun, and whose filters match.
    pub fn push(&mut self, record: &[u8], matches: impl Fn(&F) -> bool) {
        for client in self.all.iter_mut().filter(|client| client.has_started) {
            if client.filter.as_ref().is_none_or(&matches) {
                client.push(record);
            }
        }
    }

    /// Sends what waits, for up to `wait`, and disconnects all.
    pub fn finish(&mut self, wait: Duration) -> impl Iterator<Item = ClientEvent> {
        let begin = std::time::Instant::now();
        while begin.elapsed() < wait {
            let mut is_idle = true;
            for client in &mut self.all {
                client.send(Duration::from_millis(1));
                is_idle &= client.is_idle() || client.ends.is_some();
            }
            if is_idle {
                break;
            }
        }
        for client in &mut self.all {
            client.ends.get_or_insert(ClientEvent::Left(client.address));
        }
        self.remove_ended();
        self.events.drain(..)
    }

    /// Waits until the clients have room again, for up to `wait`.
    pub fn make_room(&mut self, wait: Duration) {
        let begin = std::time::Instant::now();
        while begin.elapsed() < wait && self.all.iter().any(Client::is_nearly_full) {
            for client in &mut self.all {
                client.send(Duration::from_millis(1));
            }
        }
    }

    fn remove_ended(&mut self) {
        let events = &mut self.events;
        self.all.retain_mut(|client| {
            let Some(event) = client.ends.take() else { return true };
            client.socket.close();
            events.push(event);
            false
        });
    }
}

impl<F> Client<F> {
    fn is_idle(&self) -> bool {
        self.sent == self.pending.len() && self.socket.is_idle()
    }

    fn is_nearly_full(&self) -> bool {
        self.ends.is_none() && self.pending.len() - self.sent > PENDING_MAX / 2
    }

    /// Adds bytes, or ends the connection if there is no room.
    fn push(&mut self, bytes: &[u8]) {
        if self.ends.is_some() {
            return;
        }
        if self.pending.len() + bytes.len() > PENDING_MAX {
            self.send(Duration::ZERO);
            self.pending.copy_within(self.sent.., 0);
            self.pending.truncate(self.pending.len() - self.sent);
            self.sent = 0;
        }
        if self.pending.len() + bytes.len() > PENDING_MAX {
            self.ends = Some(ClientEvent::TooSlow(self.address));
            return;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// Sends what waits, and receives.
    fn send(&mut self, wait: Duration) {
        self.sent += self.socket.append(&self.pending[self.sent..]);
        if self.sent == self.pending.len() {
            self.pending.clear();
            self.sent = 0;
        }
        if self.socket.advance(wait).is_err() {
            self.ends.get_or_insert(ClientEvent::Left(self.address));
        }
    }

    fn step(
        &mut self,
        compile: fn(&str) -> Result<F, String>,
        events: &mut Vec<ClientEvent>,
        now_ns: u64,
    ) {
        self.send(Duration::ZERO);
        if !self.has_started && now_ns >= self.until_ns {
            let why = "it has not begun in time".to_owned();
            self.ends.get_or_insert(ClientEvent::Refused(self.address, why));
        }
        let received = self.socket.received();
        if received.is_empty() {
            return;
        }
        let message = String::from_utf8_lossy(received).into_owned();
        self.obey(&message, compile, events);
        self.send(Duration::ZERO);
    }

    /// Follows the commands of a client. Each comes in a segment of its own; several in one are
    /// understood, too.
    fn obey(
        &mut self,
        message: &str,
        compile: fn(&str) -> Result<F, String>,
        events: &mut Vec<ClientEvent>,
    ) {
        let mut rest = message.trim_start_matches(['\0', '\n', '\r', ' ']);
        while !rest.is_empty() && self.ends.is_none() {
            // A filter ends where the segment or its string does, or where it begins.
            let end = rest.find('\0').or_else(|| rest.find("START: ").filter(|at| *at > 0));
            let (command, after) = rest.split_at(end.unwrap_or(rest.len()));
            if let Some(expression) = command.strip_prefix("FILTER: ") {
                self.set_filter(expression.trim(), compile);
            } else if command.starts_with("START: ") {
                self.has_started = true;
                events.push(ClientEvent::Started(self.address, self.expression.clone()));
            } else if command.starts_with("DONE: ") {
                self.ends = Some(ClientEvent::Left(self.address));
            } else if !["MODEL: ", "PROJECT: ", "FILE: "].iter().any(|one| command.starts_with(one))
            {
                let why = "it has sent an unknown command".to_owned();
                self.ends = Some(ClientEvent::Refused(self.address, why));
            }
            rest = after.trim_start_matches(['\0', '\n', '\r', ' ']);
        }
    }

    fn set_filter(&mut self, expression: &str, compile: fn(&str) -> Result<F, String>) {
        match compile(expression) {
            Ok(filter) => {
                self.filter = Some(filter);
                expression.clone_into(&mut self.expression);
                self.push(b"OK");
            }
            Err(error) => {
                self.push(b"SY");
                self.send(Duration::ZERO);
                let why = format!("its filter has a mistake: {error}");
                self.ends = Some(ClientEvent::Refused(self.address, why));
            }
        }
    }
}

#[cfg(test)]
mod tests;
