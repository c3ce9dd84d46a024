//! Clients that come and servers that answer, or a failure.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::BOUND;
use crate::read::is_readable;

/// What accepts clients.
pub trait Listener: AsFd {
    type Stream;

    /// Accepts a waiting client. Its reads and writes have the bound.
    ///
    /// Fails as the system call does.
    fn accept_now(&self, bound: Duration) -> io::Result<Self::Stream>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn accept_now(&self, bound: Duration) -> io::Result<TcpStream> {
        bounded_tcp(self.accept()?.0, bound)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    fn accept_now(&self, bound: Duration) -> io::Result<UnixStream> {
        bounded_unix(self.accept()?.0, bound)
    }
}

/// The stream; each of its reads and writes waits for the bound at most.
fn bounded_tcp(stream: TcpStream, bound: Duration) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(bound))?;
    stream.set_write_timeout(Some(bound))?;
    Ok(stream)
}

/// As [`bounded_tcp`].
fn bounded_unix(stream: UnixStream, bound: Duration) -> io::Result<UnixStream> {
    stream.set_read_timeout(Some(bound))?;
    stream.set_write_timeout(Some(bound))?;
    Ok(stream)
}

/// The next client. Each of its reads and writes waits for [`BOUND`] at most, and fails then with
/// [`ErrorKind::WouldBlock`].
///
/// Fails with [`ErrorKind::TimedOut`] if none comes within [`BOUND`].
pub fn accept<L: Listener>(listener: &L) -> io::Result<L::Stream> {
    accept_within(listener, BOUND)
}

/// As [`accept`], with another bound.
pub fn accept_within<L: Listener>(listener: &L, bound: Duration) -> io::Result<L::Stream> {
    if !is_readable(listener, Instant::now() + bound)? {
        let text = format!("no client came within {} s", bound.as_secs());
        return Err(io::Error::new(ErrorKind::TimedOut, text));
    }
    listener.accept_now(bound)
}

/// Clients, as [`accept`] returns them. They end when none comes within [`BOUND`], so a thread that
/// serves until its test ends does not stay.
pub fn incoming<L: Listener>(listener: &L) -> Incoming<'_, L> {
    Incoming { listener, bound: BOUND }
}

/// What [`incoming`] returns.
#[derive(Debug)]
pub struct Incoming<'a, L> {
    listener: &'a L,
    bound: Duration,
}

impl<L: Listener> Iterator for Incoming<'_, L> {
    type Item = io::Result<L::Stream>;

    fn next(&mut self) -> Option<Self::Item> {
        let accepted = accept_within(self.listener, self.bound);
        let is_over = accepted.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut);
        (!is_over).then_some(accepted)
    }
}

/// Connects to the first address that answers. Each read and write waits for [`BOUND`] at most, and
/// fails then with [`ErrorKind::WouldBlock`].
///
/// Fails with the last address's error, which is [`ErrorKind::TimedOut`] after [`BOUND`].
pub fn connect(addresses: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(ErrorKind::InvalidInput, "no address");
    for address in addresses.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, BOUND) {
            Ok(stream) => return bounded_tcp(stream, BOUND),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Connects to a Unix socket. Each read and write waits for [`BOUND`] at most, and fails then with
/// [`ErrorKind::WouldBlock`].
///
/// Fails with the same error if the server's queue stays full for [`BOUND`].
pub fn connect_unix(path: impl AsRef<Path>) -> io::Result<UnixStream> {
    connect_unix_within(path.as_ref(), BOUND)
}

fn connect_unix_within(path: &Path, bound: Duration) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The bound of writes is that of connect(2), too (`unix_stream_connect` in net/unix/af_unix.c).
    let stream = bounded_unix(UnixStream::from(socket), bound)?;
    rustix::net::connect(&stream, &SocketAddrUnix::new(path)?)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Port;
    use std::io::{Read as _, Write as _};

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn a_client_that_never_comes_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = accept_within(&listener, SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(Incoming { listener: &listener, bound: SHORT }.next().is_none());
    }

    #[test]
    fn a_client_that_says_nothing_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = connect(listener.local_addr().unwrap()).unwrap();
        let mut served = accept_within(&listener, SHORT).unwrap();
        assert_eq!(served.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.write_all(b"a").unwrap();
        assert_eq!(served.read(&mut [0]).unwrap(), 1);
        assert_eq!(client.read_timeout().unwrap(), Some(BOUND));
    }

    #[test]
    fn nobody_at_an_address_is_a_failure() {
        let port = Port::reserve().unwrap();
        assert_eq!(connect(port.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let none: &[std::net::SocketAddr] = &[];
        assert_eq!(connect(none).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn unix_sockets_have_the_same_bounds() {
        let path = std::env::temp_dir().join(format!("bounded-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let client = connect_unix_within(&path, SHORT).unwrap();
        let mut served = incoming(&listener).next().unwrap().unwrap();
        drop(client);
        assert_eq!(served.read(&mut [0]).unwrap(), 0, "the end");
        // Nobody accepts, so the queue is full in the end.
        let mut waiting = Vec::new();
        let failure = loop {
            match connect_unix_within(&path, SHORT) {
                Ok(client) => waiting.push(client),
                Err(error) => break error,
            }
            assert!(waiting.len() < 100_000, "the queue has no end");
        };
        std::fs::remove_file(&path).unwrap();
        assert_eq!(failure.kind(), ErrorKind::WouldBlock);
        assert_eq!(connect_unix(&path).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
