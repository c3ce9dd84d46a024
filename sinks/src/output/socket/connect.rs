//! Connecting without blocking, one address of a receiver after the other.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_ip_multicast_ttl, set_socket_keepalive, set_socket_send_buffer_size, set_tcp_keepcnt,
    set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay, set_tcp_user_timeout, socket_error,
};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, getpeername, getsockname,
    socket_with,
};

use super::error::{Action, SocketError};
use super::names::ResolvedAddresses;
use super::peer::{ADDRESSES_MAX, Peer, PeerAddresses, PeerEndpoint, UnixKind};
use super::ready::ready;

/// A connection that is being made.
#[derive(Debug)]
pub struct PendingConnection {
    peer: Peer,
    addresses: PeerAddresses,
    next: usize,
    attempt: Option<ConnectAttempt>,
}

/// One address, until the kernel knows whether somebody answers there.
#[derive(Debug)]
struct ConnectAttempt {
    socket: OwnedFd,
    until_ns: u64,
}

/// A socket with a peer.
#[derive(Debug)]
pub struct ConnectedSocket {
    pub(super) peer: Peer,
    pub(super) socket: OwnedFd,
    pub(super) is_stream: bool,
}

/// How long one address has to answer.
const ANSWER_NS: u64 = 5_000_000_000;
/// The kernel counts its own overhead and doubles what it is given: about 256 KiB can lie unsent,
/// or unread by a peer on this host, which is all that the death of a peer can cost.
const SEND_BUFFER: usize = 128 * 1024;
/// A peer that has vanished is noticed after this time without data, and a little later.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;
/// And with data on its way: without this the kernel would try for a quarter of an hour. A peer
/// that is stopped for longer is connected to anew.
const USER_TIMEOUT_MS: u32 = 120_000;

impl ConnectedSocket {
    /// Takes the stream of a client. The caller has made it one that does not block.
    pub fn stream(peer: Peer, socket: OwnedFd) -> io::Result<Self> {
        set_socket_send_buffer_size(&socket, SEND_BUFFER)?;
        set_patience(&socket)?;
        Ok(Self { peer, socket, is_stream: true })
    }

    /// A socket for datagrams to an address. Those to a group of IPv4 pass `multicast_ttl` routers.
    ///
    /// It takes neither bind(2) nor FIONBIO, which a thread of outputs may not call.
    pub fn datagrams(peer: Peer, address: SocketAddr, multicast_ttl: u32) -> io::Result<Self> {
        let socket = open(family_of(&address), false)?;
        if address.is_ipv4() {
            set_ip_multicast_ttl(&socket, multicast_ttl)?;
        }
        connect(&socket, &address)?;
        Ok(Self { peer, socket, is_stream: false })
    }
}

impl PendingConnection {
    pub fn new(peer: &Peer, ResolvedAddresses(addresses): ResolvedAddresses) -> Self {
        Self { peer: peer.clone(), addresses, next: 0, attempt: None }
    }

    /// Continues, and waits for an answer for up to `wait`; `None`: it is not known yet. After an
    /// error everything begins again.
    pub fn advance(
        &mut self,
        now_ns: u64,
        wait: Duration,
    ) -> Option<Result<ConnectedSocket, SocketError>> {
        let connected = match self.peer.place() {
            PeerEndpoint::Unix { path, kind } => connect_unix(path, *kind),
            PeerEndpoint::Network { is_stream, .. } => {
                let is_stream = *is_stream;
                self.step(is_stream, now_ns, wait)?.map(|socket| (socket, is_stream))
            }
        };
        let peer = self.peer.clone();
        Some(match connected {
            Ok((socket, is_stream)) => Ok(ConnectedSocket { peer, socket, is_stream }),
            Err(error) => Err(SocketError::new(Action::Connect, &peer, error)),
        })
    }

    fn step(
        &mut self,
        is_stream: bool,
        now_ns: u64,
        mut wait: Duration,
    ) -> Option<io::Result<OwnedFd>> {
        for _ in 0..=ADDRESSES_MAX {
            let attempt = match self.attempt.take() {
                Some(attempt) => Ok(attempt),
                None => self.begin(is_stream, now_ns),
            };
            let error = match attempt {
                Ok(attempt) => match attempt.result(now_ns, std::mem::take(&mut wait)) {
                    Some(Ok(())) => return Some(Ok(attempt.socket)),
                    Some(Err(error)) => error,
                    None => {
                        self.attempt = Some(attempt);
                        return None;
                    }
                },
                Err(error) => error,
            };
            if self.address().is_none() {
                self.next = 0;
                return Some(Err(error));
            }
        }
        None
    }

    /// The address to try next.
    fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.next).copied().flatten()
    }

    fn begin(&mut self, is_stream: bool, now_ns: u64) -> io::Result<ConnectAttempt> {
        let address = self.address().ok_or(io::ErrorKind::AddrNotAvailable)?;
        self.next += 1;
        let socket = open(family_of(&address), is_stream)?;
        if is_stream {
            set_patience(&socket)?;
        }
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(ConnectAttempt { socket, until_ns: now_ns.saturating_add(ANSWER_NS) })
    }
}

impl ConnectAttempt {
    /// How it went; `None`: there is no answer yet.
    fn result(&self, now_ns: u64, wait: Duration) -> Option<io::Result<()>> {
        if ready(&self.socket, PollFlags::OUT, wait).is_empty() {
            let is_over = now_ns >= self.until_ns;
            return is_over.then(|| Err(Errno::TIMEDOUT.into()));
        }
        let result = socket_error(&self.socket).and_then(|result| result);
        let result = result
            .and_then(|()| if is_own(&self.socket)? { Err(Errno::CONNREFUSED) } else { Ok(()) });
        Some(result.map_err(Into::into))
    }
}

/// Whether the socket is connected to itself: a port of this machine that nobody listens on may be
/// the one that the kernel chooses for the caller.
fn is_own(socket: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(getpeername(socket)?.is_some_and(|peer| getsockname(socket).is_ok_and(|own| own == peer)))
}

/// A Unix socket is connected to at once or not at all.
fn connect_unix(path: &Path, kind: UnixKind) -> io::Result<(OwnedFd, bool)> {
    let address = SocketAddrUnix::new(path)?;
    if kind == UnixKind::Any {
        let socket = open(AddressFamily::UNIX, false)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok((socket, false)),
            Err(Errno::PROTOTYPE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let socket = open(AddressFamily::UNIX, true)?;
    connect(&socket, &address)?;
    Ok((socket, true))
}

/// Sets how long a connection lives whose peer does not answer, and sends without delay.
fn set_patience(socket: &OwnedFd) -> rustix::io::Result<()> {
    set_tcp_nodelay(socket, true)?;
    set_socket_keepalive(socket, true)?;
    set_tcp_keepidle(socket, KEEPALIVE)?;
    set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
    set_tcp_user_timeout(socket, USER_TIMEOUT_MS)
}

const fn family_of(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn open(family: AddressFamily, is_stream: bool) -> io::Result<OwnedFd> {
    let kind = if is_stream { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    set_socket_send_buffer_size(&socket, SEND_BUFFER)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use rustix::net::bind;
    use rustix::net::sockopt::{
        socket_keepalive, socket_send_buffer_size, tcp_nodelay, tcp_user_timeout,
    };

    use super::super::names::PeerResolver;
    use panoptes_bounded::Port;

    use super::*;

    fn connecting(peer: &Peer) -> PendingConnection {
        let mut names = PeerResolver::start(peer).unwrap();
        PendingConnection::new(peer, names.answer().unwrap().unwrap())
    }

    #[test]
    fn what_a_dead_peer_can_cost_is_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Peer::tcp("127.0.0.1", listener.local_addr().unwrap().port());
        let connected = connecting(&peer).advance(0, Duration::from_secs(9)).unwrap().unwrap();
        let socket = &connected.socket;
        assert!(connected.is_stream);
        assert_eq!(socket_send_buffer_size(socket).unwrap(), 256 * 1024);
        assert!(tcp_nodelay(socket).unwrap() && socket_keepalive(socket).unwrap());
        assert_eq!(tcp_user_timeout(socket).unwrap(), USER_TIMEOUT_MS);
    }

    #[test]
    fn the_next_address_is_tried_when_one_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Port::reserve().unwrap();
        let refused = port.address();
        let address = listener.local_addr().unwrap();
        let mut addresses = PeerAddresses::default();
        (addresses[0], addresses[1], addresses[2]) = (Some(refused), Some(refused), Some(address));
        let mut connecting =
            PendingConnection::new(&Peer::tcp("pool", 1), ResolvedAddresses(addresses));
        let connected = connecting.advance(0, Duration::from_secs(9)).unwrap().unwrap();
        assert!(getpeername(&connected.socket).unwrap().is_some_and(|peer| peer == address.into()));
        connecting.addresses[2] = Some(refused);
        connecting.next = 0;
        let error = connecting.advance(0, Duration::from_secs(9)).unwrap().unwrap_err();
        assert_eq!(error.cause.raw_os_error(), Some(libc::ECONNREFUSED));
        assert_eq!(connecting.next, 0, "it begins again");
    }

    #[test]
    fn an_address_that_does_not_answer_has_its_time() {
        // A listener with a full queue answers nobody.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let peer = Peer::tcp("127.0.0.1", listener.local_addr().unwrap().port());
        let mut waiting = Vec::new();
        let mut last = loop {
            let mut next = connecting(&peer);
            match next.advance(0, Duration::from_millis(50)) {
                Some(connected) => waiting.push(connected.unwrap()),
                None => break next,
            }
            assert!(waiting.len() < 10, "the queue is not full");
        };
        assert!(last.advance(ANSWER_NS - 1, Duration::ZERO).is_none());
        let error = last.advance(ANSWER_NS, Duration::ZERO).unwrap().unwrap_err();
        assert_eq!(error.cause.raw_os_error(), Some(libc::ETIMEDOUT));
        assert!(error.to_string().contains("firewall"), "{error}");
    }

    #[test]
    fn a_socket_that_is_connected_to_itself_is_no_receiver() {
        let socket = open(AddressFamily::INET, true).unwrap();
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let own = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        let _ = connect(&socket, &own);
        let attempt = ConnectAttempt { socket, until_ns: u64::MAX };
        let error = attempt.result(0, Duration::from_secs(9)).unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(udp.local_addr().unwrap()).unwrap();
        assert!(is_own(&udp.into()).unwrap());
    }
}
