//! Sockets to receivers on this machine, by both ways of sending: receivers that read, stop, close,
//! reset, refuse, or do not exist.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use panoptes_bounded::{self as bounded, Port};
use panoptes_sinks::output::socket::{
    Action, ConnectedSocket, Peer, PeerResolver, PendingConnection, SentCounts, Socket,
    SocketError, UnixKind,
};
use panoptes_sinks::output::{OutputCounters, OutputKind};

const KINDS: [OutputKind; 2] = [OutputKind::IoUring, OutputKind::Plain];
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// A call that waits for a frozen peer would wait without end; a busy machine is only slow.
const BLOCKED: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_millis(2);

/// The kernel accepts one more piece while it has less than 256 KiB.
const UNSENT_MAX: u64 = 320 * 1024;

/// Repeats until there is a value.
fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = what() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "it takes too long");
    }
}

fn connect(peer: &Peer) -> Result<ConnectedSocket, SocketError> {
    let mut names = PeerResolver::start(peer).unwrap();
    names.ask();
    let addresses = wait_for(|| {
        thread::sleep(Duration::from_millis(1));
        names.answer()
    })?;
    let mut connecting = PendingConnection::new(peer, addresses);
    let start = Instant::now();
    wait_for(|| connecting.advance(start.elapsed().as_nanos() as u64, WAIT))
}

fn socket(kind: OutputKind) -> (Socket, Arc<OutputCounters>) {
    let counters = Arc::new(OutputCounters::default());
    let socket = Socket::new(kind, &counters);
    assert_eq!(socket.kind(), kind);
    (socket, counters)
}

fn connected(kind: OutputKind, peer: &Peer) -> (Socket, Arc<OutputCounters>) {
    let (mut socket, counters) = socket(kind);
    socket.open(connect(peer).unwrap());
    assert!(socket.is_open());
    (socket, counters)
}

fn tcp(address: SocketAddr) -> Peer {
    Peer::tcp(&address.ip().to_string(), address.port())
}

fn udp(receiver: &UdpSocket) -> Peer {
    let address = receiver.local_addr().unwrap();
    Peer::udp(&address.ip().to_string(), address.port())
}

fn check_way(counters: &OutputCounters, kind: OutputKind) {
    let (ring, plain) = (counters.ring_writes(), counters.plain_writes());
    match kind {
        OutputKind::IoUring => assert!(ring > 0 && plain == 0, "{counters:?}"),
        OutputKind::Plain => assert!(ring == 0 && plain > 0, "{counters:?}"),
    }
}

/// Bytes in which each place can be told from the others.
fn numbers(count: u32) -> Vec<u8> {
    (0..count).flat_map(u32::to_le_bytes).collect()
}

/// Appends and sends all of it.
fn send_all(socket: &mut Socket, mut bytes: &[u8]) -> Result<(), SocketError> {
    let start = Instant::now();
    while !bytes.is_empty() || !socket.is_idle() {
        bytes = &bytes[socket.append(bytes)..];
        socket.advance(WAIT)?;
        assert!(start.elapsed() < PATIENCE, "nobody reads");
    }
    Ok(())
}

/// Advances until there is an error.
fn failure(socket: &mut Socket) -> SocketError {
    wait_for(|| socket.advance(WAIT).err())
}

/// Fills the socket until nothing moves any more, and returns how much it took.
fn fill(socket: &mut Socket, bytes: &[u8]) -> usize {
    let mut taken = 0;
    let mut still = 0;
    while still < 50 {
        let start = Instant::now();
        let count = socket.append(&bytes[taken..]);
        socket.advance(Duration::ZERO).unwrap();
        assert!(start.elapsed() < BLOCKED, "the caller was blocked");
        taken += count;
        still = if count == 0 { still + 1 } else { 0 };
        assert!(taken < bytes.len(), "the kernel takes everything");
        thread::sleep(Duration::from_millis(1));
    }
    taken
}

/// Bytes of TCP that the peer's kernel has not yet confirmed arrive a little later.
fn wait_until_confirmed(socket: &Socket) {
    wait_for(|| (socket.unsent() == 0).then_some(()));
}

fn reader(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        text
    })
}

#[test]
fn a_peer_reads_everything_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let text = numbers(3_000_000);
    let check = |kind, peer: &Peer, accept: &dyn Fn() -> Box<dyn Read + Send>| {
        let (mut socket, counters) = connected(kind, peer);
        assert!(socket.is_stream());
        let reader = reader(accept());
        send_all(&mut socket, &text).unwrap();
        wait_until_confirmed(&socket);
        let sent = SentCounts { bytes: text.len() as u64, ..SentCounts::default() };
        assert_eq!((socket.sent(), counters.bytes()), (sent, text.len() as u64));
        check_way(&counters, kind);
        socket.close();
        assert!(!socket.is_open());
        assert!(reader.join().unwrap() == text);
    };
    for kind in KINDS {
        for host in ["127.0.0.1", "::1"] {
            let listener = match TcpListener::bind((host, 0)) {
                Err(error) if host == "::1" && error.kind() == ErrorKind::AddrNotAvailable => {
                    continue; // Many containers have no IPv6.
                }
                listener => listener.unwrap(),
            };
            let peer = tcp(listener.local_addr().unwrap());
            check(kind, &peer, &|| Box::new(bounded::accept(&listener).unwrap()));
        }
        for unix in [UnixKind::Any, UnixKind::Stream] {
            let path = folder.path().join("stream");
            let listener = UnixListener::bind(&path).unwrap();
            check(kind, &Peer::unix(&path, unix), &|| {
                Box::new(bounded::accept(&listener).unwrap())
            });
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn what_a_peer_answers_is_seen_in_order_and_before_its_end() {
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut socket, _) = connected(kind, &tcp(listener.local_addr().unwrap()));
        let mut peer = bounded::accept(&listener).unwrap();
        send_all(&mut socket, b"hello\n").unwrap();
        peer.read_exact(&mut [0; 6]).unwrap();
        let answers = numbers(20_000);
        peer.write_all(&answers).unwrap();
        drop(peer);
        let mut received = Vec::new();
        let error = wait_for(|| {
            let result = socket.advance(WAIT);
            received.extend_from_slice(socket.received());
            result.err()
        });
        assert_eq!(error.action, Action::Receive);
        assert_eq!(error.cause.kind(), ErrorKind::UnexpectedEof);
        assert!(received == answers, "{} bytes", received.len());
        assert!(socket.advance(WAIT).is_err(), "it stays failed");
        assert_eq!(socket.received(), b"");
    }
}

#[test]
fn a_frozen_peer_never_blocks_the_caller_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let text = numbers(8_000_000);
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = folder.path().join(format!("{kind:?}"));
        let unix = UnixListener::bind(&path).unwrap();
        let check = |peer: &Peer, accept: &dyn Fn() -> Box<dyn Read + Send>| {
            let (mut socket, _) = connected(kind, peer);
            let taken = fill(&mut socket, &text);
            assert!(!socket.is_idle() && socket.unsent() > 0);
            assert!(socket.unsent() < UNSENT_MAX, "{}", socket.unsent());
            assert!(socket.sent().bytes < taken as u64);
            let reader = reader(accept());
            send_all(&mut socket, &text[taken..]).unwrap();
            wait_until_confirmed(&socket);
            drop(socket);
            assert!(reader.join().unwrap() == text);
        };
        let peer = tcp(listener.local_addr().unwrap());
        check(&peer, &|| Box::new(bounded::accept(&listener).unwrap()));
        let peer = Peer::unix(&path, UnixKind::Stream);
        check(&peer, &|| Box::new(bounded::accept(&unix).unwrap()));
    }
}

#[test]
fn a_peer_that_never_stops_talking_gets_everything_too() {
    let text = numbers(2_000_000);
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut socket, _) = connected(kind, &tcp(listener.local_addr().unwrap()));
        let peer = bounded::accept(&listener).unwrap();
        let mut talker = peer.try_clone().unwrap();
        let talker = thread::spawn(move || while talker.write_all(&[b'!'; 8192]).is_ok() {});
        let reader = thread::spawn(move || {
            let mut received = vec![0; 8_000_000];
            (&peer).read_exact(&mut received).unwrap();
            received
        });
        let start = Instant::now();
        let (mut rest, mut heard) = (text.as_slice(), 0);
        // On a busy machine, the peer may begin to talk when it has read everything.
        while !rest.is_empty() || !socket.is_idle() || heard == 0 {
            rest = &rest[socket.append(rest)..];
            socket.advance(Duration::ZERO).unwrap();
            heard += socket.received().len();
            assert!(start.elapsed() < PATIENCE, "{} bytes are left", rest.len());
        }
        assert!(reader.join().unwrap() == text);
        drop(socket);
        talker.join().unwrap();
    }
}

#[test]
fn a_peer_that_closes_ends_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let path = folder.path().join(format!("{kind:?}"));
        let listener = UnixListener::bind(&path).unwrap();
        let (mut socket, _) = connected(kind, &Peer::unix(&path, UnixKind::Stream));
        socket.advance(WAIT).unwrap();
        drop(bounded::accept(&listener).unwrap());
        // It is seen without a send: a peer that is half closed gets no more records.
        let error = failure(&mut socket);
        assert_eq!(error.action, Action::Receive);
        assert!(error.to_string().contains("the receiver has closed it"), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        // The socket is good for the next connection.
        socket.open(connect(&Peer::unix(&path, UnixKind::Stream)).unwrap());
        let reader = reader(bounded::accept(&listener).unwrap());
        send_all(&mut socket, b"again").unwrap();
        drop(socket);
        assert_eq!(reader.join().unwrap(), b"again");
    }
}

#[test]
fn after_a_reset_what_the_peer_confirmed_is_still_known() {
    let text = numbers(8_000_000);
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut socket, _) = connected(kind, &tcp(listener.local_addr().unwrap()));
        let mut peer = bounded::accept(&listener).unwrap();
        fill(&mut socket, &text);
        let before = socket.unsent();
        // So little does not open the peer's window again.
        peer.read_exact(&mut [0]).unwrap();
        // It has more to read, so this resets the connection.
        drop(peer);
        let error = failure(&mut socket);
        let errno = error.cause.raw_os_error();
        assert!(matches!(errno, Some(libc::ECONNRESET | libc::EPIPE)), "{error}");
        let (sent, unsent) = (socket.sent().bytes, socket.unsent());
        assert!(0 < unsent && unsent <= before && before < sent, "{sent} {before} {unsent}");
        socket.close();
        assert_eq!((socket.sent().bytes, socket.unsent()), (sent, 0));
    }
}

#[test]
fn a_receiver_that_is_started_later_is_found() {
    for kind in KINDS {
        let port = Port::reserve().unwrap();
        let address = port.address();
        let peer = tcp(address);
        let error = connect(&peer).unwrap_err();
        assert_eq!((error.action, &error.peer), (Action::Connect, &peer));
        assert_eq!(error.cause.raw_os_error(), Some(libc::ECONNREFUSED));
        assert!(error.to_string().contains("is the receiver running"), "{error}");
        let listener = TcpListener::bind(address).unwrap();
        let (mut socket, _) = connected(kind, &peer);
        let reader = reader(bounded::accept(&listener).unwrap());
        send_all(&mut socket, b"at last").unwrap();
        drop(socket);
        assert_eq!(reader.join().unwrap(), b"at last");
    }
}

#[test]
fn names_are_resolved_or_named_in_the_error() {
    // RFC 6761: this name never exists.
    let error = connect(&Peer::tcp("receiver.invalid", 24224)).unwrap_err();
    assert_eq!(error.action, Action::Resolve);
    let text = error.to_string();
    assert!(text.starts_with("cannot find the address of receiver.invalid:24224 (tcp)"), "{text}");
    assert!(text.contains("/etc/resolv.conf"), "{text}");

    let receiver = UdpSocket::bind("localhost:0").unwrap();
    receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
    let peer = Peer::udp("localhost", receiver.local_addr().unwrap().port());
    let (mut socket, _) = connected(OutputKind::IoUring, &peer);
    send_all(&mut socket, b"found").unwrap();
}

#[test]
fn a_datagram_that_is_too_long_is_left_out_and_counted() {
    for kind in KINDS {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
        let (mut socket, counters) = connected(kind, &udp(&receiver));
        assert!(!socket.is_stream());
        assert_eq!(socket.append(&vec![0; 65_537]), 0, "no datagram is cut");
        // 65,507 bytes fit into one of IPv4.
        assert_eq!(socket.append(&vec![1; 65_508]), 65_508);
        assert_eq!(socket.append(b"short"), 5);
        send_all(&mut socket, b"").unwrap();
        assert_eq!(socket.sent(), SentCounts { bytes: 5, datagrams: 1, refused: 1 });
        assert_eq!((counters.errors(), counters.last_error()), (1, libc::EMSGSIZE));
        check_way(&counters, kind);
        let mut room = [0; 100];
        let length = receiver.recv(&mut room).unwrap();
        assert_eq!(&room[..length], b"short");
    }
}

#[test]
fn datagrams_keep_their_borders_and_their_order() {
    const COUNT: u32 = 200;
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let path = folder.path().join(format!("{kind:?}"));
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
        let (mut socket, _) = connected(kind, &Peer::unix(&path, UnixKind::Any));
        assert!(!socket.is_stream());
        // The receiver's queue is short (net.unix.max_dgram_qlen): it must not block the caller.
        let is_full = |socket: &mut Socket| {
            socket.append(&u32::MAX.to_le_bytes());
            socket.advance(Duration::ZERO).unwrap();
            socket.append(b"") == 0 && socket.sent().datagrams > 0 && !socket.is_idle()
        };
        let mut tries = 0;
        while !is_full(&mut socket) && tries < 10_000 {
            tries += 1;
        }
        assert!(tries < 10_000, "the queue never fills");
        let reader = thread::spawn(move || {
            let (mut next, mut room) = (0, [0; 100]);
            while next < COUNT {
                let length = receiver.recv(&mut room).unwrap();
                match u32::from_le_bytes(room[..length].try_into().unwrap()) {
                    u32::MAX => assert_eq!(next, 0),
                    number => {
                        assert_eq!(number, next);
                        next += 1;
                    }
                }
            }
        });
        for number in 0..COUNT {
            wait_for(|| {
                let taken = socket.append(&number.to_le_bytes());
                socket.advance(WAIT).unwrap();
                (taken > 0).then_some(())
            });
        }
        send_all(&mut socket, b"").unwrap();
        reader.join().unwrap();
    }
}

#[test]
fn a_datagram_to_nobody_is_an_error_of_the_next_step() {
    for kind in KINDS {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
        let peer = udp(&receiver);
        drop(receiver);
        let (mut socket, _) = connected(kind, &peer);
        socket.append(b"is anybody there?");
        let error = failure(&mut socket);
        assert_eq!(error.cause.raw_os_error(), Some(libc::ECONNREFUSED));
    }
}

#[test]
fn a_syslog_daemon_that_starts_again_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let path = folder.path().join(format!("{kind:?}"));
        let peer = Peer::unix(&path, UnixKind::Any);
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
        let (mut socket, _) = connected(kind, &peer);
        send_all(&mut socket, b"one").unwrap();
        drop(receiver);
        fs::remove_file(&path).unwrap();
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
        socket.append(b"two");
        let error = failure(&mut socket);
        assert_eq!(error.cause.raw_os_error(), Some(libc::ECONNREFUSED), "{error}");
        socket.open(connect(&peer).unwrap());
        assert!(socket.is_idle(), "the user sends again what was not sent");
        send_all(&mut socket, b"two").unwrap();
        let mut room = [0; 8];
        assert_eq!(receiver.recv(&mut room).unwrap(), 3);
        assert!(room.starts_with(b"two"));
    }
}

#[test]
fn a_socket_may_move_to_another_thread() {
    let text = numbers(2_000_000);
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = tcp(listener.local_addr().unwrap());
        let own = text.clone();
        // The thread ends with a send and a receive under way.
        let begin = thread::spawn(move || {
            let (mut socket, _) = connected(kind, &peer);
            let taken = fill(&mut socket, &own);
            (socket, taken)
        });
        let (mut socket, taken) = begin.join().unwrap();
        let reader = reader(bounded::accept(&listener).unwrap());
        send_all(&mut socket, &text[taken..]).unwrap();
        wait_until_confirmed(&socket);
        drop(socket);
        assert!(reader.join().unwrap() == text);
    }
}

#[test]
fn dev_log_is_of_either_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let peer = Peer::unix(&path, UnixKind::Any);
    assert_eq!(connect(&peer).unwrap_err().cause.raw_os_error(), Some(libc::ENOENT));
    let receiver = UnixDatagram::bind(&path).unwrap();
    receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
    assert!(!connected(OutputKind::Plain, &peer).0.is_stream());
    let error = connect(&Peer::unix(&path, UnixKind::Stream)).unwrap_err();
    assert_eq!(error.cause.raw_os_error(), Some(libc::EPROTOTYPE));
    drop(receiver);
    let error = connect(&peer).unwrap_err();
    assert!(error.to_string().contains("is this its socket?"), "{error}");
    fs::remove_file(&path).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    assert!(connected(OutputKind::Plain, &peer).0.is_stream());
    let error = connect(&Peer::unix(folder.path().join("x".repeat(200)), UnixKind::Any));
    assert!(error.unwrap_err().to_string().contains("107 bytes"));
}

#[test]
fn a_socket_may_be_closed_opened_and_dropped_while_it_sends() {
    let text = numbers(8_000_000);
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = tcp(listener.local_addr().unwrap());
        let (mut socket, _) = connected(kind, &peer);
        let first = accept(&listener);
        fill(&mut socket, &text);
        let start = Instant::now();
        // Closes the first connection: nothing of what it had left is in the second.
        socket.open(connect(&peer).unwrap());
        assert!(start.elapsed() < BLOCKED, "the caller was blocked");
        assert!(socket.is_idle());
        assert_eq!((socket.sent(), socket.received()), (SentCounts::default(), b"".as_slice()));
        let second = reader(accept(&listener));
        send_all(&mut socket, b"the second connection").unwrap();
        socket.close();
        assert_eq!(second.join().unwrap(), b"the second connection");
        // The first one got the beginning of the text, and no other byte.
        check_prefix(first, &text);

        socket.open(connect(&peer).unwrap());
        let third = accept(&listener);
        fill(&mut socket, &text);
        let start = Instant::now();
        drop(socket);
        assert!(start.elapsed() < BLOCKED, "the caller was blocked");
        check_prefix(third, &text);
    }
}

/// A connection of which the end must come.
fn accept(listener: &TcpListener) -> TcpStream {
    bounded::accept(listener).unwrap()
}

fn check_prefix(mut stream: TcpStream, text: &[u8]) {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert!(text.starts_with(&received) && !received.is_empty());
}

#[test]
fn without_a_connection_nothing_is_taken() {
    for kind in KINDS {
        let (mut socket, _) = socket(kind);
        assert_eq!(socket.append(b"x"), 0);
        socket.advance(WAIT).unwrap();
        assert_eq!((socket.received(), socket.unsent()), (b"".as_slice(), 0));
        assert!(!socket.is_open() && socket.is_idle());
    }
}
