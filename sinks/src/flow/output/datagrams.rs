//! Flow records as datagrams, one in each: `-w argus-udp://HOST:PORT`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::background::{BlockingOutput, each_record};
use crate::output::socket::{Connected, Peer, Socket};
use crate::output::{Counters, OutputKind};

/// How far datagrams to a group go (`argus/ArgusOutput.c` of argus 3.0.8).
const MULTICAST_TTL: u32 = 128;
/// How long the last records may take.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// How long a record waits for room.
const WAIT: Duration = Duration::from_millis(1);

/// A receiver, or a group of receivers.
#[derive(Debug)]
pub struct Datagrams {
    address: SocketAddr,
    peer: Peer,
    socket: Socket,
    lost: u64,
}

impl Datagrams {
    /// Prepares to send. Nobody has to listen yet.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let mut opened = Self {
            address,
            peer: Peer::udp(&address.ip().to_string(), address.port()),
            socket: Socket::new(OutputKind::IoUring, &counters),
            lost: 0,
        };
        opened.connect()?;
        Ok(opened)
    }

    /// Records that could not be sent.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Where records go.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    fn connect(&mut self) -> io::Result<()> {
        // Without bind(2), which the thread of an output may not call.
        let family = match self.address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let socket = UdpSocket::from(socket);
        if self.address.is_ipv4() {
            socket.set_multicast_ttl_v4(MULTICAST_TTL)?;
        }
        socket.connect(self.address)?;
        self.socket.open(Connected::new(self.peer.clone(), socket.into(), false)?);
        Ok(())
    }

    /// Sends a record, or counts it as lost.
    pub fn push(&mut self, record: &[u8]) {
        if self.socket.append(record) < record.len() {
            self.advance(WAIT);
            if self.socket.append(record) < record.len() {
                self.lost += 1;
                return;
            }
        }
        self.advance(Duration::ZERO);
    }

    /// Waits up to `wait` until everything is sent.
    pub fn finish(&mut self, wait: Duration) {
        let begin = std::time::Instant::now();
        while !self.socket.is_idle() && begin.elapsed() < wait {
            self.advance(WAIT);
        }
    }

    fn advance(&mut self, wait: Duration) {
        // A receiver that does not listen refuses: the kernel reports that with the next datagram.
        if self.socket.advance(wait).is_err() {
            self.lost += 1;
            self.socket.close();
            // Without a route there is no socket, and records are counted as lost.
            let _ = self.connect();
        }
    }
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
        self.lost
    }

    fn finish(&mut self) -> io::Result<()> {
        Self::finish(self, LAST_WAIT);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
        let address = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = address.expect("a free port");
        let mut sender = Datagrams::open(address).expect("a sender");
        for _ in 0..10 {
            sender.push(b"lost");
        }
        sender.finish(Duration::from_millis(100));
        assert!(sender.lost() > 0, "nobody has listened");
        let receiver = UdpSocket::bind(address).expect("a receiver");
        receiver.set_read_timeout(Some(panoptes_bounded::BOUND)).expect("a time limit");
        for _ in 0..10 {
            sender.push(b"later");
            sender.finish(Duration::from_millis(100));
        }
        let mut room = [0; 9];
        let length = receiver.recv(&mut room).expect("a datagram");
        assert_eq!(&room[..length], b"later");
    }
}
