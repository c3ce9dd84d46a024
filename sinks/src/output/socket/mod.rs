//! Connections to receivers: TCP, UDP, and Unix sockets of both kinds. Nothing here blocks.
//!
//! The user of this module has the state of the connection and the records; it makes these once:
//!
//! - [`PeerResolver`] resolves the receiver's name on a thread of its own;
//! - [`PendingConnection`] tries one address after the other;
//! - [`Socket`] sends and receives, by io_uring or by `send(2)`, over one connection after the
//!   other, with buffers that are made once;
//! - [`BackOff`] tells how long to wait after a failure.
//!
//! ```text
//! Down ──pause over──► Resolving ──answer──► Connecting ──Connected──► Up
//!  ▲                       │                     │                     │
//!  └────── SocketError ────┴─────────────────────┴─────────────────────┘
//! ```
//!
//! On a new connection the user sends again from the first record that was not confirmed. Over TCP
//! the peer's kernel has confirmed `sent().bytes - unsent()` bytes, also after an error and until
//! `close`. A datagram counts as confirmed when it is sent.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use std::time::{Duration, Instant};
//! # use panoptes_sinks::output::{OutputCounters, OutputKind};
//! use panoptes_sinks::output::socket::{BackOff, Peer, PeerResolver, PendingConnection, Socket};
//!
//! # let counters = Arc::new(OutputCounters::default());
//! # let start = Instant::now();
//! # let now_ns = || start.elapsed().as_nanos() as u64;
//! let peer = Peer::tcp("logs.example.org", 24224);
//! let mut names = PeerResolver::start(&peer)?;
//! let mut socket = Socket::new(OutputKind::IoUring, &counters);
//! let mut backoff = BackOff::new(7);
//!
//! // Each of these is one step: `None` and an empty `received` mean that it continues later.
//! names.ask();
//! if let Some(addresses) = names.answer() {
//!     let mut connecting = PendingConnection::new(&peer, addresses?);
//!     if let Some(connected) = connecting.advance(now_ns(), Duration::ZERO) {
//!         socket.open(connected?);
//!     }
//! }
//! let taken = socket.append(b"{\"a\":1}\n{\"a\":2}\n");
//! if let Err(error) = socket.advance(Duration::from_millis(2)) {
//!     let confirmed = socket.sent().bytes.saturating_sub(socket.unsent());
//!     eprintln!("{error}; {confirmed} of {taken} bytes have arrived");
//!     socket.close();
//!     let next_try_ns = now_ns() + backoff.pause_ns();
//! } else if socket.received() == b"ok" {
//!     backoff.reset();
//! }
//! # Ok::<(), panoptes_sinks::output::socket::SocketError>(())
//! ```

mod backoff;
mod connect;
mod error;
mod names;
mod peer;
mod plain;
mod ready;
mod ring;
mod unsent;
mod wire;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

pub use self::backoff::BackOff;
pub use self::connect::{ConnectedSocket, PendingConnection};
pub use self::error::{Action, SocketError};
pub use self::names::{PeerResolver, ResolvedAddresses};
pub use self::peer::{Peer, UnixKind};
pub use self::wire::SentCounts;

use self::plain::PlainSocket;
use self::ring::RingSocket;
use self::wire::{Wire, WireError};
use super::{OutputCounters, OutputKind};

/// One connection at a time, and the memory for all of them: 264 KiB.
#[derive(Debug)]
pub struct Socket {
    way: Box<dyn SocketBackend>,
    /// The peer of the connection, or of the last one.
    peer: Option<Peer>,
}

/// A way to send.
trait SocketBackend: std::fmt::Debug + Send {
    fn kind(&self) -> OutputKind;

    fn wire(&self) -> &Wire;

    fn wire_mut(&mut self) -> &mut Wire;

    fn open(&mut self, connected: ConnectedSocket);

    /// Begins what is ready and collects what is done. Waits up to `wait` for that.
    fn advance(&mut self, wait: Duration) -> Result<(), WireError>;

    /// Ends the connection, and everything under way.
    fn close(&mut self);
}

impl Socket {
    /// Makes the buffers. io_uring falls back to `send(2)` where it is refused.
    pub fn new(kind: OutputKind, counters: &Arc<OutputCounters>) -> Self {
        let ring = match kind {
            OutputKind::IoUring => RingSocket::new(counters).ok(),
            OutputKind::Plain => None,
        };
        let way: Box<dyn SocketBackend> = match ring {
            Some(ring) => Box::new(ring),
            None => Box::new(PlainSocket::new(counters)),
        };
        Self { way, peer: None }
    }

    pub fn kind(&self) -> OutputKind {
        self.way.kind()
    }

    /// Takes a new connection. An earlier one is closed.
    pub fn open(&mut self, connected: ConnectedSocket) {
        self.close();
        self.peer = Some(connected.peer.clone());
        self.way.open(connected);
    }

    /// Whether it has a connection. A failed one stays until it is closed.
    pub fn is_open(&self) -> bool {
        self.way.wire().socket.is_some()
    }

    /// Whether the connection is a stream; if not, each `append` is one datagram.
    pub fn is_stream(&self) -> bool {
        self.way.wire().is_stream
    }

    /// Takes bytes to send and returns their number: as many as there is room for, or a whole
    /// datagram (up to 64 KiB) or nothing.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        self.way.wire_mut().append(bytes)
    }

    /// Sends what was appended and receives. Waits up to `wait` until something happens.
    ///
    /// An error ends the connection: what the peer has confirmed can be asked for until `close`.
    pub fn advance(&mut self, wait: Duration) -> Result<(), SocketError> {
        let wire = self.way.wire_mut();
        wire.arrived = 0;
        let Some(peer) = self.peer.as_ref().filter(|_| wire.socket.is_some()) else {
            return Ok(());
        };
        if wire.is_failed {
            let cause = io::Error::from(io::ErrorKind::NotConnected);
            return Err(SocketError::new(Action::Send, peer, cause));
        }
        if wire.buffers.is_idle() {
            wire.buffers.seal(0);
        }
        let result = self.way.advance(wait);
        result.map_err(|(action, cause)| {
            self.way.wire_mut().is_failed = true;
            SocketError::new(action, peer, cause)
        })
    }

    /// What has arrived in the last step; the next one replaces it.
    pub fn received(&self) -> &[u8] {
        self.way.wire().received()
    }

    /// Whether the kernel has accepted everything that was appended.
    pub fn is_idle(&self) -> bool {
        self.way.wire().is_idle()
    }

    /// What the kernel has accepted on this connection, or on the last one.
    pub fn sent(&self) -> SentCounts {
        self.way.wire().sent
    }

    /// How many of the bytes accepted are still on this side; never too few. Over a Unix socket,
    /// those that the peer has not read, and the kernel's overhead for them.
    pub fn unsent(&self) -> u64 {
        let wire = self.way.wire();
        let unsent = wire.socket.as_ref().map(|socket| unsent::unsent(socket.as_fd()));
        // Without an answer, nothing is confirmed.
        unsent.map_or(0, |unsent| unsent.unwrap_or(wire.sent.bytes))
    }

    /// Ends the connection. What is under way is given up. What the kernel has accepted is still
    /// delivered, unless the peer has sent something that was not received: then the kernel resets
    /// the connection.
    pub fn close(&mut self) {
        self.way.close();
    }
}
