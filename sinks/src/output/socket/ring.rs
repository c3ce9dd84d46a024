//! Sending by io_uring, with a receive always under way: the end of the peer's stream and its
//! acknowledgements show without a call.
//!
//! What the kernel supports is probed at start, as for files.
//!
//! The rule for the unsafe code: memory that the kernel may read or write is neither used nor
//! freed. `Buffers` changes only free buffers. What arrives is looked at between two receives.
//! `close` asks the kernel to give up what is under way and waits for it, and leaks what it does
//! not give up.
#![allow(unsafe_code, reason = "io_uring reads and writes memory by address")]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::event::PollFlags;
use rustix::net::{Shutdown, shutdown};

use super::SocketBackend;
use super::connect::ConnectedSocket;
use super::ready::ready;
use super::wire::{Wire, WireError};
use crate::output::buffers::PendingWrite;
use crate::output::{LAST_WAIT, LAST_WAITS, OutputCounters, OutputKind};

pub(super) struct RingSocket {
    ring: IoUring,
    wire: Wire,
    /// The piece that is being sent.
    sending: Option<PendingWrite>,
    is_receiving: bool,
    /// The kernel had no room for a datagram.
    is_blocked: bool,
    fault: Option<WireError>,
    /// Completions of an earlier generation are those of leaked memory.
    generation: u64,
}

/// The lowest bits of `user_data`, below the generation.
const SEND: u64 = 0;
const RECEIVE: u64 = 1;
const CANCEL: u64 = 2;
const OPERATIONS: u64 = 4;
/// A send, a receive, and their cancellations.
const ENTRIES: u32 = 4;
/// Sends that complete at once are followed by the next; more follow in the next step.
const ROUNDS_MAX: usize = 16;

impl RingSocket {
    /// Sets up a ring; an error when the kernel refuses.
    pub(super) fn new(counters: &Arc<OutputCounters>) -> io::Result<Self> {
        Ok(Self {
            ring: set_up()?,
            wire: Wire::new(counters),
            sending: None,
            is_receiving: false,
            is_blocked: false,
            fault: None,
            generation: 0,
        })
    }

    /// Begins what can be begun; returns whether that was something.
    fn begin(&mut self) -> bool {
        let Some(socket) = &self.wire.socket else { return false };
        if self.is_blocked && !ready(socket, PollFlags::OUT, Duration::ZERO).is_empty() {
            self.is_blocked = false;
        }
        // While a datagram waits for room in a ring, the kernel counts what it has copied of it as
        // sent: it would send the rest, or nothing, as a datagram of its own (seen in Linux 6.18).
        let flags = if self.wire.is_stream { 0 } else { libc::MSG_DONTWAIT } | libc::MSG_NOSIGNAL;
        let socket = Fd(socket.as_raw_fd());
        let mut is_begun = false;
        if self.sending.is_none()
            && !self.is_blocked
            && let Some(piece) = self.wire.buffers.begin()
        {
            let bytes = self.wire.buffers.bytes(piece);
            let send = opcode::Send::new(socket, bytes.as_ptr(), bytes.len() as u32);
            if self.push(&send.flags(flags).build(), SEND) {
                self.sending = Some(piece);
                is_begun = true;
            } else {
                self.wire.buffers.wrote(piece.slot, 0);
            }
        }
        if !self.is_receiving && self.wire.arrived == 0 {
            let room = &mut self.wire.received;
            let receive = opcode::Recv::new(socket, room.as_mut_ptr(), room.len() as u32);
            self.is_receiving = self.push(&receive.build(), RECEIVE);
            is_begun |= self.is_receiving;
        }
        is_begun
    }

    /// Adds an entry; false if the kernel has not yet taken earlier ones.
    fn push(&mut self, entry: &squeue::Entry, operation: u64) -> bool {
        let entry = entry.clone().user_data(self.generation * OPERATIONS + operation);
        // SAFETY: the entry is a cancellation, or it reads the piece that `Buffers` counts as under
        // way, or it writes to `received` while `is_receiving` is set, when nobody else uses it.
        // Both stay until the completion was seen: `close` waits for it or leaks them.
        unsafe { self.ring.submission().push(&entry).is_ok() }
    }

    /// Submits the pushed entries, and waits for one completion when `wait` is not zero.
    fn enter(&self, wait: Duration) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let result = if wait.is_zero() {
            submitter.submit()
        } else {
            let time = Timespec::from(wait);
            submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
        };
        match result.map_err(|error| (error.raw_os_error(), error)) {
            // As for files: the next step handles these.
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY), _)) => {
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    /// Collects completions; returns whether there was one.
    fn reap(&mut self) -> bool {
        let mut is_some = false;
        loop {
            let next = self.ring.completion().next();
            let Some(entry) = next else { return is_some };
            if entry.user_data() / OPERATIONS != self.generation {
                continue;
            }
            let result = match entry.result() {
                count @ 0.. => Ok(count as usize),
                errno => Err(io::Error::from_raw_os_error(-errno)),
            };
            match entry.user_data() % OPERATIONS {
                SEND => self.end_send(result),
                RECEIVE => {
                    self.is_receiving = false;
                    let fault = self.wire.took(result);
                    self.set_fault(fault);
                }
                _ => continue,
            }
            is_some = true;
        }
    }

    fn end_send(&mut self, result: io::Result<usize>) {
        let Some(piece) = self.sending.take() else { return };
        match result {
            Ok(count @ 1..) => {
                self.wire.accepted(piece.slot, count, |counters| &counters.ring_writes);
            }
            result => {
                let error = result.err().unwrap_or(io::ErrorKind::WriteZero.into());
                self.is_blocked = error.raw_os_error() == Some(libc::EAGAIN);
                let fault = self.wire.refused(piece.slot, piece.end - piece.start, error);
                self.set_fault(fault);
            }
        }
    }

    fn set_fault(&mut self, fault: Option<WireError>) {
        self.fault = self.fault.take().or(fault);
    }

    fn is_under_way(&self) -> bool {
        self.sending.is_some() || self.is_receiving
    }
}

/// A ring with every needed operation.
fn set_up() -> io::Result<IoUring> {
    let ring = IoUring::new(ENTRIES)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [opcode::Send::CODE, opcode::Recv::CODE, opcode::AsyncCancel::CODE];
    let is_able = needed.into_iter().all(|code| probe.is_supported(code))
        && ring.params().is_feature_ext_arg()
        && ring.params().is_feature_nodrop()
        // Without it a worker thread of the kernel would wait for the peer.
        && ring.params().is_feature_fast_poll();
    if is_able { Ok(ring) } else { Err(io::ErrorKind::Unsupported.into()) }
}

impl SocketBackend for RingSocket {
    fn kind(&self) -> OutputKind {
        OutputKind::IoUring
    }

    fn wire(&self) -> &Wire {
        &self.wire
    }

    fn wire_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }

    fn open(&mut self, connected: ConnectedSocket) {
        self.wire.open(connected);
        (self.is_blocked, self.fault) = (false, None);
    }

    fn advance(&mut self, wait: Duration) -> Result<(), WireError> {
        let lost = |error| (super::Action::Send, error);
        let mut is_news = self.reap();
        for _ in 0..ROUNDS_MAX {
            let is_stopped = self.fault.is_some() || self.wire.arrived > 0;
            let is_begun = !is_stopped && self.begin();
            // A submission that was put off is visible in the queue's length.
            if !is_begun && self.ring.submission().is_empty() {
                break;
            }
            self.enter(Duration::ZERO).map_err(lost)?;
            is_news |= self.reap();
        }
        let is_waiting = !wait.is_zero() && !is_news;
        match &self.wire.socket {
            Some(socket) if is_waiting && self.is_blocked => {
                ready(socket, PollFlags::IN | PollFlags::OUT, wait);
            }
            Some(_) if is_waiting && self.is_under_way() => {
                self.enter(wait).map_err(lost)?;
                self.reap();
            }
            _ => {}
        }
        self.fault.take().map_or(Ok(()), Err)
    }

    fn close(&mut self) {
        let first = self.generation * OPERATIONS;
        for (is_under_way, operation) in
            [(self.sending.is_some(), SEND), (self.is_receiving, RECEIVE)]
        {
            if is_under_way {
                // If there is no room for it, the end of the connection must do.
                self.push(&opcode::AsyncCancel::new(first + operation).build(), CANCEL);
            }
        }
        for _ in 0..LAST_WAITS {
            if !self.is_under_way() || self.enter(LAST_WAIT).is_err() {
                break;
            }
            self.reap();
        }
        if self.is_under_way() {
            // The kernel may still use both, and the entry may still name the descriptor. The peer
            // sees the end nevertheless.
            let _ = self.wire.socket.as_ref().map(|socket| shutdown(socket, Shutdown::Both));
            std::mem::forget((self.wire.replace_memory(), self.wire.socket.take()));
            (self.sending, self.is_receiving) = (None, false);
            self.generation += 1;
        }
        self.wire.close();
    }
}

impl Drop for RingSocket {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for RingSocket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RingSocket").field("wire", &self.wire).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::super::{Peer, UnixKind};
    use super::*;

    fn connection() -> (ConnectedSocket, UnixStream) {
        let (own, peer) = UnixStream::pair().unwrap();
        let place = Peer::unix("/a/pair", UnixKind::Stream);
        (ConnectedSocket { peer: place, socket: own.into(), is_stream: true }, peer)
    }

    #[test]
    fn memory_that_the_kernel_keeps_is_leaked_and_what_it_says_of_it_later_is_ignored() {
        let mut socket = RingSocket::new(&Arc::default()).unwrap();
        let (connected, mut first) = connection();
        socket.open(connected);
        // As if a receive could not be cancelled.
        socket.is_receiving = true;
        let kept = socket.wire.received.as_ptr();
        socket.close();
        assert_ne!(socket.wire.received.as_ptr(), kept);
        assert!(socket.wire.socket.is_none() && !socket.is_under_way());
        assert_eq!(first.read(&mut [0]).unwrap(), 0, "the peer sees the end");

        let (connected, mut second) = connection();
        socket.open(connected);
        socket.advance(Duration::ZERO).unwrap();
        assert!(socket.is_receiving);
        // The kernel has not used the memory any more, so its operation can be another one here.
        socket.generation -= 1;
        assert!(socket.push(&opcode::Nop::new().build(), RECEIVE));
        socket.generation += 1;
        for _ in 0..3 {
            socket.advance(Duration::from_millis(1)).unwrap();
            assert!(socket.is_receiving && socket.wire.arrived == 0);
        }
        second.write_all(b"ok").unwrap();
        while socket.wire.arrived == 0 {
            socket.advance(Duration::from_millis(1)).unwrap();
        }
        assert_eq!(&socket.wire.received[..2], b"ok");
    }
}
