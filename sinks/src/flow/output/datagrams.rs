//! Flow records as datagrams, one in each: `-w argus-udp://HOST:PORT`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::background::{BlockingOutput, each_record};
use crate::output::socket::{Action, ConnectedSocket, Peer, Socket, SocketError};
use crate::output::{OutputCounters, OutputKind};

/// How far datagrams to a group go (`argus/ArgusOutput.c` of argus 3.0.8).
const MULTICAST_TTL: u32 = 128;
/// How long the last records may take.
const LAST_RECORDS_WAIT: Duration = Duration::from_secs(5);
/// How long a record waits for room.
const WAIT: Duration = Duration::from_millis(1);
/// How often a socket is made again that could not be.
const SOCKET_RETRY: Duration = Duration::from_secs(1);

/// A receiver, or a group of receivers.
#[derive(Debug)]
pub struct Datagrams {
    address: SocketAddr,
    peer: Peer,
    socket: Socket,
    /// Records that the present socket has taken.
    taken: u64,
    /// Records that had no socket or no room, and those that earlier sockets have lost.
    lost: u64,
    /// When there was last an attempt to make the socket.
    tried: Instant,
}

impl Datagrams {
    /// Prepares to send. Nobody has to listen yet.
    ///
    /// # Errors
    ///
    /// No socket can be made, or there is no route to the address.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let counters = Arc::new(OutputCounters::default());
        let mut opened = Self {
            address,
            peer: Peer::udp(&address.ip().to_string(), address.port()),
            socket: Socket::new(OutputKind::IoUring, &counters),
            taken: 0,
            lost: 0,
            tried: Instant::now(),
        };
        opened.connect()?;
        Ok(opened)
    }

    /// Records that could not be sent.
    pub fn lost(&self) -> u64 {
        let refused = if self.taken > 0 { self.socket.sent().refused } else { 0 };
        self.lost + refused
    }

    /// Where records go.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    fn connect(&mut self) -> io::Result<()> {
        self.tried = Instant::now();
        let connected = ConnectedSocket::datagrams(self.peer.clone(), self.address, MULTICAST_TTL)?;
        self.socket.open(connected);
        Ok(())
    }

    /// Sends a record, or counts it as lost.
    pub fn push(&mut self, record: &[u8]) {
        if !self.append(record) {
            self.advance(WAIT);
            if !self.append(record) {
                self.lost += 1;
                return;
            }
        }
        self.advance(Duration::ZERO);
    }

    /// Waits up to `wait` until everything is sent. What is not sent then is lost.
    pub fn finish(&mut self, wait: Duration) {
        let begin = Instant::now();
        while !self.socket.is_idle() && begin.elapsed() < wait {
            self.advance(WAIT);
        }
        if !self.socket.is_idle() {
            self.close();
        }
    }

    fn append(&mut self, record: &[u8]) -> bool {
        let is_taken = self.socket.append(record) == record.len();
        self.taken += u64::from(is_taken);
        is_taken
    }

    fn advance(&mut self, wait: Duration) {
        if let Err(error) = self.socket.advance(wait) {
            self.close();
            self.lost += u64::from(is_of_earlier(&error));
        } else if self.socket.is_open() || self.tried.elapsed() < SOCKET_RETRY {
            return;
        }
        // Without a route there is no socket, and records are lost until there is one.
        let _ = self.connect();
    }

    /// Counts what the kernel has not accepted as lost.
    fn close(&mut self) {
        self.lost += self.taken.saturating_sub(self.socket.sent().datagrams);
        self.taken = 0;
        self.socket.close();
    }
}

/// Whether an error is about a datagram that the kernel had accepted before: a receiver that does
/// not listen refuses it, and the next operation reports that.
fn is_of_earlier(error: &SocketError) -> bool {
    error.action == Action::Receive || error.cause.raw_os_error() == Some(libc::ECONNREFUSED)
}

impl BlockingOutput for Datagrams {
    fn write(&mut self, records: &[u8], ends: &[u32]) -> io::Result<()> {
        each_record(records, ends).for_each(|record| self.push(record));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.advance(Duration::ZERO);
        Ok(())
    }

    fn is_idle(&mut self) -> bool {
        self.socket.is_idle()
    }

    fn look(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn lost(&self) -> u64 {
        Self::lost(self)
    }

    fn finish(&mut self) -> io::Result<()> {
        Self::finish(self, LAST_RECORDS_WAIT);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn each_record_is_one_datagram() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a receiver");
        receiver.set_read_timeout(Some(panoptes_bounded::BOUND)).expect("a time limit");
        let mut sender = Datagrams::open(receiver.local_addr().expect("bound")).expect("a sender");
        for number in 0..30_u32 {
            sender.push(&number.to_be_bytes());
            sender.push(&[7; 1000]);
        }
        sender.finish(Duration::from_secs(9));
        let mut room = [0; 2000];
        for number in 0..30_u32 {
            assert_eq!(receiver.recv(&mut room).expect("a datagram"), 4);
            assert_eq!(room[..4], number.to_be_bytes());
            assert_eq!(receiver.recv(&mut room).expect("a datagram"), 1000);
        }
        assert_eq!(sender.lost(), 0);
    }

    #[test]
    fn a_receiver_may_come_later() {
        let receiver = panoptes_bounded::deaf_receiver().expect("a port");
        let mut sender = Datagrams::open(receiver.local_addr().expect("bound")).expect("a sender");
        for _ in 0..10 {
            sender.push(b"lost");
        }
        sender.finish(Duration::from_millis(100));
        assert!(sender.lost() > 0, "nobody has listened");
        panoptes_bounded::hear(&receiver).expect("it hears all");
        for _ in 0..10 {
            sender.push(b"later");
            sender.finish(Duration::from_millis(100));
        }
        let mut room = [0; 9];
        let length = receiver.recv(&mut room).expect("a datagram");
        assert_eq!(&room[..length], b"later");
    }

    #[test]
    fn what_is_too_long_for_a_datagram_is_lost() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a receiver");
        let mut sender = Datagrams::open(receiver.local_addr().expect("bound")).expect("a sender");
        sender.push(&vec![7; 65_508]);
        sender.push(b"next");
        sender.finish(Duration::from_secs(9));
        assert_eq!(sender.lost(), 1, "65,507 bytes are the longest one");
    }

    #[test]
    fn what_waits_behind_a_failure_is_lost() {
        let receiver = panoptes_bounded::deaf_receiver().expect("a port");
        let mut sender = Datagrams::open(receiver.local_addr().expect("bound")).expect("a sender");
        for _ in 0..3 {
            assert!(sender.append(b"waits"));
        }
        // As after an error.
        sender.close();
        assert_eq!(sender.lost(), 3);
        sender.finish(Duration::from_secs(9));
        assert_eq!(sender.lost(), 3, "each once");
    }

    #[test]
    fn a_socket_that_could_not_be_made_is_tried_again() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a receiver");
        receiver.set_read_timeout(Some(panoptes_bounded::BOUND)).expect("a time limit");
        let mut sender = Datagrams::open(receiver.local_addr().expect("bound")).expect("a sender");
        // As after an attempt without a route.
        sender.close();
        sender.push(b"lost");
        assert_eq!(sender.lost(), 1);
        sender.tried = Instant::now().checked_sub(SOCKET_RETRY).expect("it runs for longer");
        sender.push(b"later");
        sender.finish(Duration::from_secs(9));
        let mut room = [0; 9];
        let length = receiver.recv(&mut room).expect("a datagram");
        assert_eq!((&room[..length], sender.lost()), (&b"later"[..], 1));
    }
}
