//! Sending by `send(2)`: used where io_uring is refused or not needed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::SocketBackend;
use super::connect::ConnectedSocket;
use super::ready::ready;
use super::wire::{Wire, WireError};
use crate::output::{OutputCounters, OutputKind};

#[derive(Debug)]
pub(super) struct PlainSocket {
    wire: Wire,
}

impl PlainSocket {
    pub(super) fn new(counters: &Arc<OutputCounters>) -> Self {
        Self { wire: Wire::new(counters) }
    }

    /// Sends until the kernel accepts no more.
    fn send(&mut self) -> Result<(), WireError> {
        let wire = &mut self.wire;
        while let (Some(socket), Some(piece)) = (&wire.socket, wire.buffers.begin()) {
            let bytes = wire.buffers.bytes(piece);
            let length = bytes.len();
            match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count @ 1..) => {
                    wire.accepted(piece.slot, count, |counters| &counters.plain_writes);
                }
                result => {
                    let error = result.err().map(io::Error::from);
                    let error = error.unwrap_or(io::ErrorKind::WriteZero.into());
                    let is_full = error.kind() == io::ErrorKind::WouldBlock;
                    if let Some(fault) = wire.refused(piece.slot, length, error) {
                        return Err(fault);
                    }
                    if is_full {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl SocketBackend for PlainSocket {
    fn kind(&self) -> OutputKind {
        OutputKind::Plain
    }

    fn wire(&self) -> &Wire {
        &self.wire
    }

    fn wire_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }

    fn open(&mut self, connected: ConnectedSocket) {
        self.wire.open(connected);
    }

    fn advance(&mut self, wait: Duration) -> Result<(), WireError> {
        let wire = &mut self.wire;
        let Some(socket) = &wire.socket else { return Ok(()) };
        let wanted = if wire.buffers.is_idle() { PollFlags::empty() } else { PollFlags::OUT };
        let found = ready(socket, PollFlags::IN | wanted, wait);
        if found.contains(PollFlags::IN) {
            let result = recv(socket, &mut wire.received[..], RecvFlags::DONTWAIT);
            let result = result.map(|(arrived, _)| arrived).map_err(Into::into);
            wire.took(result).map_or(Ok(()), Err)?;
        }
        if found.contains(PollFlags::OUT) { self.send() } else { Ok(()) }
    }

    fn close(&mut self) {
        self.wire.close();
    }
}
