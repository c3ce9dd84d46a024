//! What both ways of sending have: the socket, the bytes to send, and those that arrived.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::connect::ConnectedSocket;
use super::error::Action;
use crate::output::OutputCounters;
use crate::output::buffers::OutputBuffers;

pub(super) struct Wire {
    pub(super) socket: Option<OwnedFd>,
    pub(super) is_stream: bool,
    /// One is sent at a time. Each has one datagram, or a part of the stream.
    pub(super) buffers: OutputBuffers,
    /// A vector, since the kernel may write to it while its owner moves. It is only looked at when
    /// something has arrived.
    pub(super) received: Vec<u8>,
    /// Bytes at its beginning that have arrived. A receive is only begun while there are none.
    pub(super) arrived: usize,
    pub(super) sent: SentCounts,
    /// The connection is over; only [`super::Socket::close`] follows.
    pub(super) is_failed: bool,
    counters: Arc<OutputCounters>,
}

/// What the kernel has accepted since the connection was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SentCounts {
    pub bytes: u64,
    pub datagrams: u64,
    /// Datagrams that are too long for the network or for the peer, and were left out.
    pub refused: u64,
}

/// Why a connection is over.
pub(super) type WireError = (Action, io::Error);

/// Buffers, and their size: a datagram has at most 65,507 bytes.
const BUFFERS: usize = 4;
const BUFFER_BYTES: usize = 64 * 1024;
/// Receivers send acknowledgements only.
const RECEIVED_BYTES: usize = 8 * 1024;

impl Wire {
    pub(super) fn new(counters: &Arc<OutputCounters>) -> Self {
        Self {
            socket: None,
            is_stream: true,
            buffers: new_buffers(),
            received: vec![0; RECEIVED_BYTES],
            arrived: 0,
            sent: SentCounts::default(),
            is_failed: false,
            counters: Arc::clone(counters),
        }
    }

    pub(super) fn open(&mut self, connected: ConnectedSocket) {
        (self.socket, self.is_stream) = (Some(connected.socket), connected.is_stream);
        (self.sent, self.arrived, self.is_failed) = (SentCounts::default(), 0, false);
    }

    /// Ends the connection. Nothing may be under way.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.arrived = 0;
        self.buffers.abandon();
    }

    /// Memory in which nothing is under way, for that of which the kernel does not give up its
    /// part.
    pub(super) fn replace_memory(&mut self) -> (OutputBuffers, Vec<u8>) {
        let buffers = std::mem::replace(&mut self.buffers, new_buffers());
        (buffers, std::mem::replace(&mut self.received, vec![0; RECEIVED_BYTES]))
    }

    /// Takes bytes to send, as many as there is room for, or the whole datagram or nothing.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && self.socket.is_some() {
            let (left, room) = (bytes.len() - taken, self.buffers.room());
            if room == 0 || !self.is_stream && room < left {
                break;
            }
            let count = left.min(room);
            self.buffers.append(&bytes[taken..taken + count], 1);
            taken += count;
            if !self.is_stream || count == room {
                self.buffers.seal(0);
            }
        }
        taken
    }

    /// Counts what the kernel accepted of the buffer that is sent.
    pub(super) fn accepted(
        &mut self,
        slot: usize,
        bytes: usize,
        way: fn(&OutputCounters) -> &AtomicU64,
    ) {
        let datagrams = self.buffers.wrote(slot, bytes);
        self.sent.bytes += bytes as u64;
        self.sent.datagrams += if self.is_stream { 0 } else { datagrams as u64 };
        OutputCounters::add(way(&self.counters), 1);
        OutputCounters::add(&self.counters.bytes, bytes);
    }

    /// What to do when a send failed. The buffer is sent again, left out, or stays.
    pub(super) fn refused(
        &mut self,
        slot: usize,
        bytes: usize,
        error: io::Error,
    ) -> Option<WireError> {
        match error.raw_os_error() {
            // The kernel cancels what a thread has under way when that thread ends.
            Some(libc::EINTR | libc::EAGAIN | libc::ECANCELED) => {
                self.buffers.wrote(slot, 0);
                None
            }
            Some(libc::EMSGSIZE) if !self.is_stream => {
                self.buffers.wrote(slot, bytes);
                self.sent.refused += 1;
                self.counters.add_error(&error);
                None
            }
            _ => {
                self.buffers.failed(slot);
                Some((Action::Send, error))
            }
        }
    }

    /// Takes the result of a receive.
    pub(super) fn took(&mut self, result: io::Result<usize>) -> Option<WireError> {
        match result {
            // An empty datagram is no end.
            Ok(0) if self.is_stream => Some((Action::Receive, io::ErrorKind::UnexpectedEof.into())),
            Ok(arrived) => {
                self.arrived = arrived.min(self.received.len());
                None
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::ECANCELED) => None,
                _ => Some((Action::Receive, error)),
            },
        }
    }

    /// What has arrived.
    pub(super) fn received(&self) -> &[u8] {
        if self.arrived == 0 { &[] } else { &self.received[..self.arrived] }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.buffers.is_idle() && self.buffers.filled() == 0
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the memory: the kernel may write to it.
        let mut wire = formatter.debug_struct("Wire");
        wire.field("socket", &self.socket).field("sent", &self.sent).finish_non_exhaustive()
    }
}

fn new_buffers() -> OutputBuffers {
    OutputBuffers::new(BUFFERS, BUFFER_BYTES, 1)
}
