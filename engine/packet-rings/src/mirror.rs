//! [`MirrorSocket`]: mirrored packets that a network sends as UDP datagrams.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{setsockopt, sockopt};
use panoptes_decoders::packet::mirror::{
    LINKS, Mirror, MirrorContent, MirrorPacket, OUTER_BYTES, Outer, open,
};
use panoptes_decoders::packet::program::Instruction;
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_reuseport,
    socket_recv_buffer_size,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::division::Division;
use crate::error::InterfaceError;
use crate::filter::{self, Filter};
use crate::interface::Losses;
use crate::socket::{self, CONTROL_BYTES, DATAGRAMS, Datagram};

/// The longest datagram.
const DATAGRAM_BYTES_MAX: usize = 0xffff;
/// The kernel's number for a buffer has 31 bits, and it doubles what is asked for.
const BUFFER_BYTES_MAX: usize = 1 << 29;
const _: () = assert!(2 * BUFFER_BYTES_MAX <= i32::MAX as usize);

/// Where mirrored packets come, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MirrorOptions {
    /// Its name in messages.
    pub name: String,
    pub mirror: Mirror,
    /// An address of this machine, all of them (0.0.0.0 or ::), or that of a group.
    pub address: SocketAddr,
    /// Number of bytes of each packet that are taken.
    pub snap_length: u32,
    /// Memory for datagrams that are not read yet.
    pub buffer_bytes: usize,
}

/// An open port, which another socket can take over ([`MirrorSocket::take_over`]). What comes
/// there is kept meanwhile.
#[derive(Debug)]
pub struct MirrorPort {
    address: SocketAddr,
    socket: UdpSocket,
    last_drops: Arc<AtomicU32>,
}

/// Which packets of a link type are wanted.
#[derive(Debug)]
enum LinkFilter {
    All,
    None,
    Of(Filter),
}

/// Mirrored packets in UDP datagrams. It needs neither an interface nor a capability.
///
/// Anybody who reaches the port can send, so a datagram without a packet is counted and is no
/// error. System calls receive up to 32 datagrams at once, and nothing is allocated for them.
pub struct MirrorSocket {
    name: String,
    mirror: Mirror,
    snap_length: usize,
    socket: UdpSocket,
    buffer_bytes: usize,
    /// One for each of [`LINKS`].
    wanted: [LinkFilter; LINKS.len()],
    /// Room for a batch of datagrams, so many bytes for each.
    bytes: Box<[u8]>,
    room: usize,
    controls: Box<[[u8; CONTROL_BYTES]]>,
    batch: Box<[Datagram; DATAGRAMS]>,
    /// Datagrams of the batch, and how many of them were read.
    count: usize,
    next: usize,
    received: u64,
    others: u64,
    dropped: u64,
    /// The kernel's counter at the last look; it wraps. A successor on the port counts from there.
    last_drops: Arc<AtomicU32>,
    /// Another one still counts what is lost, until this one receives.
    follows: bool,
    /// Nothing more is received.
    has_left: bool,
}

/// A packet that was found in the batch.
struct MirroredPacket {
    time_ns: i64,
    link: u16,
    start: usize,
    captured: usize,
    length: u32,
    outer: Outer,
}

/// Sets the size of a socket's buffer: as CAP_NET_ADMIN allows, or as the system does.
fn set_buffer(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
    let bytes = bytes.min(BUFFER_BYTES_MAX);
    set_socket_recv_buffer_size_force(socket, bytes)
        .or_else(|_| set_socket_recv_buffer_size(socket, bytes))
        .map_err(io::Error::from)
}

impl MirrorSocket {
    /// Opens the port. From now on the kernel keeps what comes there.
    pub fn open(options: &MirrorOptions) -> Result<Self, InterfaceError> {
        let refused = |error| InterfaceError::Datagrams { name: options.name.clone(), error };
        let socket = bind(options.address).map_err(refused)?;
        set_buffer(&socket, options.buffer_bytes).map_err(refused)?;
        Self::of(socket, options)
    }

    /// Opens the port once for each part of a division. Each datagram comes to one of them: the
    /// kernel may choose another one than the division, see [`Division`]. Not for groups of
    /// multicast, whose datagrams come to all.
    pub fn open_parts(
        options: &MirrorOptions,
        division: &Division,
    ) -> Result<Vec<Self>, InterfaceError> {
        let refused = |error| InterfaceError::Datagrams { name: options.name.clone(), error };
        // Another program must not have the port, not even one that shares it.
        let alone = bind(options.address).map_err(refused)?;
        let address = alone.local_addr().map_err(refused)?;
        drop(alone);
        let mut parts = Vec::new();
        for _ in 0..division.parts() {
            let socket = bind_shared(address).map_err(refused)?;
            set_buffer(&socket, options.buffer_bytes).map_err(refused)?;
            parts.push(Self::of(socket, options)?);
        }
        if let Some(first) = parts.first() {
            let program = division.of_port(options.mirror);
            socket::choose_port_by(first.socket.as_fd(), &program).map_err(refused)?;
        }
        Ok(parts)
    }

    /// The port, for one that follows this one.
    pub fn port(&self, address: SocketAddr) -> io::Result<MirrorPort> {
        let last_drops = Arc::clone(&self.last_drops);
        Ok(MirrorPort { address, socket: self.socket.try_clone()?, last_drops })
    }

    /// Takes over a port. Each datagram comes to the one that receives it first, so the other one
    /// has to leave the port before ([`leave`](Self::leave)). The buffer gets larger if it may, and
    /// never smaller: it is shared with the receiver before, which may continue.
    pub fn take_over(port: MirrorPort, options: &MirrorOptions) -> Result<Self, InterfaceError> {
        let MirrorPort { socket, last_drops, .. } = port;
        let bytes = options.buffer_bytes.min(BUFFER_BYTES_MAX);
        if socket_recv_buffer_size(&socket).is_ok_and(|present| present / 2 < bytes) {
            // Without CAP_NET_ADMIN it stays as it is.
            let _ = set_socket_recv_buffer_size_force(&socket, bytes);
        }
        Ok(Self { follows: true, last_drops, ..Self::of(socket, options)? })
    }

    /// Receives nothing more. What was received can still be read.
    pub const fn leave(&mut self) {
        self.has_left = true;
    }

    fn of(socket: UdpSocket, options: &MirrorOptions) -> Result<Self, InterfaceError> {
        let refused = |error| InterfaceError::Datagrams { name: options.name.clone(), error };
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)
            .map_err(|error| refused(error.into()))?;
        let buffer = socket_recv_buffer_size(&socket).map_err(|error| refused(error.into()))?;
        let last_drops = socket::drops(socket.as_fd()).map_err(refused)?;
        Ok(Self {
            name: options.name.clone(),
            mirror: options.mirror,
            snap_length: options.snap_length.max(1) as usize,
            socket,
            // Half of it is for the kernel's own data.
            buffer_bytes: buffer / 2,
            wanted: [LinkFilter::All, LinkFilter::All, LinkFilter::All],
            bytes: Box::default(),
            room: 0,
            controls: vec![[0; CONTROL_BYTES]; DATAGRAMS].into_boxed_slice(),
            batch: Box::new([Datagram::default(); DATAGRAMS]),
            count: 0,
            next: 0,
            received: 0,
            others: 0,
            dropped: 0,
            last_drops: Arc::new(AtomicU32::new(last_drops)),
            follows: false,
            has_left: false,
        })
    }

    /// Begins to receive the packets that a filter accepts. `filter` gives its program for a link
    /// type: an empty one accepts all packets, and `None` accepts none. To be called once.
    pub fn start<'a>(
        &mut self,
        mut filter: impl FnMut(u16) -> Option<&'a [Instruction]>,
    ) -> Result<(), InterfaceError> {
        let mut is_filtered = false;
        for (wanted, link) in self.wanted.iter_mut().zip(LINKS) {
            *wanted = match filter(link).map(filter::own).transpose() {
                Ok(None) => LinkFilter::None,
                Ok(Some(None)) => LinkFilter::All,
                Ok(Some(Some(filter))) => LinkFilter::Of(filter),
                Err(error) => {
                    return Err(InterfaceError::of_call(&self.name, "run the filter", error));
                }
            };
            is_filtered |= !matches!(wanted, LinkFilter::All);
        }
        // A filter may look at any byte.
        let cut = self.snap_length.saturating_add(OUTER_BYTES).min(DATAGRAM_BYTES_MAX);
        self.room = if is_filtered { DATAGRAM_BYTES_MAX } else { cut };
        self.bytes = vec![0; self.room * DATAGRAMS].into_boxed_slice();
        Ok(())
    }

    /// The time in nanoseconds since 1970 and the next packet, if there is one. It never waits.
    ///
    /// After datagrams that are not wanted it may return `None`, although others wait: poll(2)
    /// shows that. So a flood of such ones keeps the caller from nothing.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "the packet borrows the batch")]
    pub fn next(&mut self) -> Option<(i64, MirrorPacket<'_>)> {
        let MirroredPacket { time_ns, link, start, captured, length, outer } = self.find()?;
        let bytes = self.bytes.get(start..)?.get(..captured)?;
        Some((time_ns, MirrorPacket { link, bytes, length, outer }))
    }

    /// The next packet that is wanted, in this batch or in the next one.
    fn find(&mut self) -> Option<MirroredPacket> {
        if self.next == self.count {
            self.receive();
        }
        while self.next < self.count {
            let number = self.next;
            self.next += 1;
            if let Some(found) = self.look_at(number) {
                return Some(found);
            }
        }
        None
    }

    /// The packet in a datagram of the batch, if it is wanted.
    #[inline]
    fn look_at(&mut self, number: usize) -> Option<MirroredPacket> {
        let datagram = self.batch.get(number)?;
        let (begin, captured) = (number * self.room, datagram.length.min(self.room));
        let payload = self.bytes.get(begin..)?.get(..captured)?;
        let mirrored = match open(self.mirror, payload, datagram.length as u32) {
            MirrorContent::Packet(mirrored) => mirrored,
            MirrorContent::Control => return None,
            MirrorContent::Other => {
                self.others += 1;
                return None;
            }
        };
        let at = LINKS.iter().position(|link| *link == mirrored.link)?;
        let is_wanted = match &self.wanted[at] {
            LinkFilter::All => true,
            LinkFilter::None => false,
            LinkFilter::Of(filter) => filter.run(mirrored.bytes, mirrored.length) > 0,
        };
        if !is_wanted {
            return None;
        }
        self.received += 1;
        let control = self.controls.get(number)?.get(..datagram.control)?;
        Some(MirroredPacket {
            time_ns: stamp(control).unwrap_or(0),
            link: mirrored.link,
            start: begin + captured - mirrored.bytes.len(),
            captured: mirrored.bytes.len().min(self.snap_length),
            length: mirrored.length,
            outer: mirrored.outer,
        })
    }

    /// Receives the next batch. One that was not full was all that there was: the next call only
    /// notes that, and poll(2) shows what has come since.
    fn receive(&mut self) {
        let was_all = (1..DATAGRAMS).contains(&self.count);
        (self.count, self.next) = (0, 0);
        if was_all || self.room == 0 || self.has_left {
            return;
        }
        self.follows = false;
        let (bytes, controls) = (&mut self.bytes[..], &mut self.controls[..]);
        // An error is one of the socket, which is gone with this call.
        let received =
            socket::receive(self.socket.as_fd(), bytes, self.room, controls, &mut self.batch);
        self.count = received.unwrap_or(0);
    }

    /// What was counted up to now. Datagrams that were lost did not pass the filter before.
    pub fn losses(&mut self) -> Losses {
        // It always succeeds on a socket.
        if !self.follows
            && let Ok(drops) = socket::drops(self.socket.as_fd())
        {
            let last = self.last_drops.swap(drops, Ordering::Relaxed);
            self.dropped += u64::from(drops.wrapping_sub(last));
        }
        Losses { received: self.received + self.dropped, dropped: self.dropped }
    }

    /// Datagrams that held no packet.
    pub fn others(&self) -> u64 {
        self.others
    }

    /// The memory in bytes that the kernel gives for datagrams that are not read yet.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// The port, if the options have left it to the kernel.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl MirrorPort {
    /// The address that it was opened for.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same port once more.
    pub fn again(&self) -> io::Result<Self> {
        let last_drops = Arc::clone(&self.last_drops);
        Ok(Self { address: self.address, socket: self.socket.try_clone()?, last_drops })
    }
}

impl fmt::Debug for MirrorSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("MirrorSocket");
        shown.field("name", &self.name).field("mirror", &self.mirror).finish_non_exhaustive()
    }
}

impl AsFd for MirrorSocket {
    /// To be polled for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket at an address; that of a group is joined.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    match address.ip() {
        IpAddr::V4(group) if group.is_multicast() => {
            socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
        }
        IpAddr::V6(group) if group.is_multicast() => socket.join_multicast_v6(&group, 0)?,
        _ => {}
    }
    Ok(socket)
}

/// A socket at an address that others of this program share.
fn bind_shared(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket.into())
}

/// The time among the control messages of a datagram: `struct cmsghdr` with the length of all, the
/// level and the type, then `struct timespec`, in the byte order of this machine.
fn stamp(control: &[u8]) -> Option<i64> {
    let word = |at: usize| Some(i32::from_ne_bytes(*control.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(i64::from_ne_bytes(*control.get(at..)?.first_chunk()?));
    // It is the only one that was asked for.
    let is_stamp = (word(8)?, word(12)?) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS);
    let (seconds, nanoseconds) = (long(16)?, long(24)?);
    is_stamp.then(|| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;

    /// Longest time that anything may take.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn opened(mirror: Mirror, snap_length: u32, buffer_bytes: usize) -> (MirrorSocket, UdpSocket) {
        let options = MirrorOptions {
            name: "udp".to_owned(),
            mirror,
            address: ([127, 0, 0, 1], 0).into(),
            snap_length,
            buffer_bytes,
        };
        let receiver = MirrorSocket::open(&options).expect("a socket");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        sender.connect(receiver.address().expect("an address")).expect("loopback");
        (receiver, sender)
    }

    /// A frame with a number, in VXLAN.
    fn datagram(number: u32, length: usize) -> Vec<u8> {
        let mut payload = vec![8, 0, 0, 0, 0, 0, 9, 0];
        payload.extend(number.to_be_bytes());
        payload.resize(8 + length, 7);
        payload
    }

    fn number_of(bytes: &[u8]) -> u32 {
        u32::from_be_bytes(*bytes.first_chunk().expect("a number"))
    }

    /// Receives until so many packets have come.
    #[track_caller]
    fn receive(
        receiver: &mut MirrorSocket,
        count: usize,
        mut take: impl FnMut(i64, MirrorPacket<'_>),
    ) {
        let (begin, mut received) = (Instant::now(), 0);
        while received < count {
            assert!(begin.elapsed() < PATIENCE, "{received} of {count}");
            if let Some((time_ns, mirrored)) = receiver.next() {
                take(time_ns, mirrored);
                received += 1;
            }
        }
    }

    #[test]
    fn what_is_lost_before_a_port_is_taken_over_is_counted_once() {
        const COUNT: usize = 1000;
        let (mut first, sender) = opened(Mirror::Vxlan, 64, 1);
        let send = || {
            for number in 0..COUNT {
                sender.send(&datagram(number as u32, 1000)).expect("loopback");
            }
        };
        send();
        let lost = first.losses().dropped;
        assert!(lost > 0);
        let address = first.address().expect("an address");
        let port = first.port(address).and_then(|port| port.again()).expect("a port");
        let name = "udp".to_owned();
        let (snap_length, buffer_bytes) = (64, 1);
        let options =
            MirrorOptions { name, mirror: Mirror::Vxlan, address, snap_length, buffer_bytes };
        let mut second = MirrorSocket::take_over(port, &options).expect("a socket");
        first.leave();
        drop(first);
        send();
        second.start(|_| Some(&[])).expect("it starts");
        assert_eq!(second.losses().dropped, 0, "nothing was received");
        let (begin, mut received) = (Instant::now(), 0);
        while received + lost + second.losses().dropped < 2 * COUNT as u64 {
            assert!(begin.elapsed() < PATIENCE, "{received} {lost} {:?}", second.losses());
            received += u64::from(second.next().is_some());
        }
        assert!(received > 0 && second.losses().dropped > 0, "{received} {:?}", second.losses());
        assert_eq!(received + lost + second.losses().dropped, 2 * COUNT as u64);
    }

    #[test]
    fn a_port_that_is_taken_over_has_no_smaller_buffer() {
        let (first, _) = opened(Mirror::Vxlan, 64, 1 << 16);
        let address = first.address().expect("an address");
        let before = first.buffer_bytes;
        for (buffer_bytes, is_larger) in [(1, false), (1 << 16, false), (before * 2, true)] {
            let port = first.port(address).and_then(|port| port.again()).expect("a port");
            let (name, mirror, snap_length) = ("udp".to_owned(), Mirror::Vxlan, 64);
            let options = MirrorOptions { name, mirror, address, snap_length, buffer_bytes };
            let second = MirrorSocket::take_over(port, &options).expect("a socket");
            // A larger one takes a capability.
            assert!(second.buffer_bytes >= before, "{buffer_bytes}");
            assert!(is_larger || second.buffer_bytes == before, "{buffer_bytes}");
        }
    }

    fn now_ns() -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        since.as_nanos() as i64
    }

    #[test]
    fn packets_in_datagrams_come_in_order_with_their_times() {
        let (mut receiver, sender) = opened(Mirror::Vxlan, 64, 1 << 20);
        receiver.start(|_| Some(&[])).expect("it starts");
        let begin = now_ns();
        for number in 0..100 {
            sender.send(&datagram(number, 20 + number as usize)).expect("loopback");
        }
        let (mut expected, mut last) = (0, begin);
        receive(&mut receiver, 100, |time_ns, mirrored| {
            assert_eq!(number_of(mirrored.bytes), expected);
            assert_eq!((mirrored.link, mirrored.length), (1, 20 + expected));
            assert_eq!(mirrored.bytes.len(), (20 + expected as usize).min(64));
            assert_eq!(mirrored.outer.vni, Some(9));
            assert!((last..=now_ns()).contains(&time_ns), "{time_ns} {last}");
            (expected, last) = (expected + 1, time_ns);
        });
        assert_eq!(receiver.losses(), Losses { received: 100, dropped: 0 });
    }

    /// What a stranger sends ends nothing, and each piece of it is counted.
    #[test]
    fn datagrams_without_a_packet_are_counted() {
        let (mut receiver, sender) = opened(Mirror::Vxlan, 64, 1 << 20);
        receiver.start(|_| Some(&[])).expect("it starts");
        let long = vec![0xff; 60_000];
        for payload in [&[][..], &[8], &[0; 100], &long, &[8, 0, 0, 0, 0, 0, 1, 0]] {
            sender.send(payload).expect("loopback");
        }
        sender.send(&datagram(1, 60)).expect("loopback");
        receive(&mut receiver, 1, |_, mirrored| assert_eq!(number_of(mirrored.bytes), 1));
        assert_eq!(receiver.others(), 5);
        // One call looks at one batch, whatever it is.
        for _ in 0..3 * DATAGRAMS {
            sender.send(&[0]).expect("loopback");
        }
        let mut calls = 0;
        while receiver.others() < 5 + 3 * DATAGRAMS as u64 {
            assert!(receiver.next().is_none());
            calls += 1;
        }
        assert!(calls >= 3, "{calls}");
    }

    #[test]
    fn a_filter_is_one_of_the_mirrored_packets() {
        let (mut receiver, sender) = opened(Mirror::Vxlan, 4, 1 << 20);
        // ldb [50]; jeq #1, accept; reject: behind the snap length, in the frame itself.
        let load = Instruction { code: 0x30, constant: 50, ..Instruction::default() };
        let jump = Instruction { code: 0x15, jump_false: 1, constant: 1, ..Instruction::default() };
        let [accept, reject] =
            [1, 0].map(|constant| Instruction { code: 6, constant, ..Instruction::default() });
        let program = [load, jump, accept, reject];
        receiver.start(|link| (link == 1).then_some(&program[..])).expect("it starts");
        for number in 0..6 {
            let mut payload = datagram(number, 60);
            payload[8 + 50] = (number % 2) as u8;
            sender.send(&payload).expect("loopback");
        }
        let mut numbers = Vec::new();
        receive(&mut receiver, 3, |_, mirrored| {
            assert_eq!((mirrored.bytes.len(), mirrored.length), (4, 60));
            numbers.push(number_of(mirrored.bytes));
        });
        assert_eq!(numbers, [1, 3, 5]);
    }

    #[test]
    fn datagrams_that_find_no_room_are_counted() {
        // The kernel has a least size, which is far smaller than what is sent.
        let (mut receiver, sender) = opened(Mirror::Vxlan, 64, 1);
        receiver.start(|_| Some(&[])).expect("it starts");
        for number in 0..500 {
            sender.send(&datagram(number, 1000)).expect("loopback");
        }
        while receiver.next().is_some() || receiver.next().is_some() {}
        let losses = receiver.losses();
        assert!(losses.dropped > 0, "{losses:?}");
        assert_eq!(losses.received, 500);
    }

    #[test]
    fn a_port_that_is_taken_is_refused() {
        let (receiver, _) = opened(Mirror::Geneve, 64, 1 << 16);
        let address = receiver.address().expect("an address");
        let options = MirrorOptions {
            name: "geneve:127.0.0.1".to_owned(),
            mirror: Mirror::Geneve,
            address,
            snap_length: 64,
            buffer_bytes: 1 << 16,
        };
        let error = MirrorSocket::open(&options).expect_err("it is taken").to_string();
        assert!(error.starts_with("cannot receive datagrams at geneve:127.0.0.1: "), "{error}");
    }
}
