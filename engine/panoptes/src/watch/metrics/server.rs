//! Answers HTTP requests, a few at a time, on one thread.
//!
//! A client of the port may send anything, or nothing. So a request has a maximum length, a
//! connection a deadline, and a new connection takes the place of the oldest one if there are too
//! many. Each connection has one answer.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Request};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::config::NetworkAddress;

/// Connections at one time.
pub(super) const CONNECTIONS_MAX: usize = 8;
/// Maximum length of a request, in bytes, and the number of its header fields.
pub(super) const REQUEST_BYTES_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
/// Bytes of a connection to read after its answer. If something were left, the kernel would reset
/// the connection, and the client might not see the answer.
const REST_BYTES_MAX: usize = 64 << 10;
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for a connection before the next look at deadlines and at requests to stop.
const WAIT: Duration = Duration::from_millis(250);
const _: () = assert!(WAIT.as_nanos() < PATIENCE.as_nanos(), "deadlines are looked at in time");
/// The pause after a connection could not be accepted, as without a free file descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// What to answer to a request.
#[derive(Debug)]
pub(super) struct MetricsResponse {
    /// Whether the status is 200, or 503.
    pub(super) is_good: bool,
    /// One line, or more.
    pub(super) body: String,
}

/// Answers to requests, by path; `None`: there is no such page.
pub(super) type Pages<'a> = &'a dyn Fn(&str) -> Option<MetricsResponse>;

#[derive(Debug)]
pub(in crate::watch) struct Server {
    listener: TcpListener,
    patience: Duration,
}

impl Server {
    pub(super) fn bind(address: &NetworkAddress) -> io::Result<Self> {
        let listener = TcpListener::bind((&*address.host, address.port))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, patience: PATIENCE })
    }

    /// A server at a free port of this machine.
    #[cfg(test)]
    pub(super) fn for_tests(patience: Duration) -> (Self, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (Self { listener, patience }, address)
    }

    /// Whether only this machine can reach it.
    pub(super) fn is_local(&self) -> bool {
        self.listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
    }

    /// Answers requests until one of `stops`.
    pub(super) fn run(&self, stops: &[&AtomicBool], pages: Pages<'_>) {
        let mut connections = Vec::with_capacity(CONNECTIONS_MAX);
        while stops.iter().all(|stop| !stop.load(Ordering::Relaxed)) {
            self.wait(&connections);
            self.accept(&mut connections);
            connections.retain_mut(|connection| connection.advance(pages));
        }
    }

    /// Waits until there is something to do.
    fn wait(&self, connections: &[Connection]) {
        let polled = connections.iter().map(|one| PollFd::new(one.stream.as_fd(), one.awaits()));
        let listener = PollFd::new(self.listener.as_fd(), PollFlags::POLLIN);
        let mut polled: Vec<_> = polled.chain([listener]).collect();
        let timeout = PollTimeout::try_from(WAIT).unwrap_or(PollTimeout::ZERO);
        // An error here is an interrupted wait.
        let _ = poll(&mut polled, timeout);
    }

    fn accept(&self, connections: &mut Vec<Connection>) {
        for _ in 0..CONNECTIONS_MAX {
            match self.listener.accept() {
                Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                    if connections.len() >= CONNECTIONS_MAX {
                        connections.remove(0);
                    }
                    connections.push(Connection::new(stream, Instant::now() + self.patience));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return sleep(PAUSE),
            }
        }
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    until: Instant,
    /// What was received of the request.
    request: Vec<u8>,
    /// The answer, and how much of it was sent. It is empty until the request is whole.
    response: Vec<u8>,
    sent: usize,
    /// How much was received after the request.
    rest: usize,
}

impl Connection {
    fn new(stream: TcpStream, until: Instant) -> Self {
        let (request, response) = (Vec::new(), Vec::new());
        Self { stream, until, request, response, sent: 0, rest: 0 }
    }

    /// What it waits for.
    fn awaits(&self) -> PollFlags {
        let is_sending = self.sent < self.response.len();
        if is_sending { PollFlags::POLLOUT } else { PollFlags::POLLIN }
    }

    /// Does what can be done without a wait; returns whether more is to do later.
    fn advance(&mut self, pages: Pages<'_>) -> bool {
        // An error is a client that has gone.
        Instant::now() < self.until && self.step(pages).unwrap_or(false)
    }

    fn step(&mut self, pages: Pages<'_>) -> io::Result<bool> {
        let mut room = [0; 2048];
        while self.response.is_empty() {
            match without_wait(self.stream.read(&mut room))? {
                None => return Ok(true),
                Some(0) => return Ok(false),
                Some(count) => self.request.extend_from_slice(&room[..count]),
            }
            self.response = respond(&self.request, pages).unwrap_or_default();
        }
        while self.sent < self.response.len() {
            match without_wait(self.stream.write(&self.response[self.sent..]))? {
                None => return Ok(true),
                Some(0) => return Ok(false),
                Some(count) => self.sent += count,
            }
            if self.sent == self.response.len() {
                self.stream.shutdown(Shutdown::Write)?;
            }
        }
        while self.rest < REST_BYTES_MAX {
            match without_wait(self.stream.read(&mut room))? {
                None => return Ok(true),
                Some(0) => break,
                Some(count) => self.rest += count,
            }
        }
        Ok(false)
    }
}

/// `None` if there is nothing to do without a wait.
fn without_wait(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the response to a request; `None` as long as the request may be incomplete.
fn respond(request: &[u8], pages: Pages<'_>) -> Option<Vec<u8>> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = Request::new(&mut headers);
    let result = parsed.parse(request);
    // RFC 9110, 9.3.2: an answer to HEAD has no body, whatever its status.
    let has_body = parsed.method != Some("HEAD");
    let refusal = |status: &str| Some(response(status, &format!("{status}\n"), has_body));
    match result {
        Ok(status) if status.is_complete() => {}
        Ok(_) if request.len() < REQUEST_BYTES_MAX => return None,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return refusal("431 Request Header Fields Too Large");
        }
        Err(_) => return refusal("400 Bad Request"),
    }
    if !matches!(parsed.method, Some("GET" | "HEAD")) {
        return refusal("405 Method Not Allowed");
    }
    let path = parsed.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let Some(MetricsResponse { is_good, body }) = pages(path) else {
        return refusal("404 Not Found");
    };
    let status = if is_good { "200 OK" } else { "503 Service Unavailable" };
    Some(response(status, &body, has_body))
}

fn response(status: &str, body: &str, has_body: bool) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    let (length, body) = (body.len(), if has_body { body } else { "" });
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {length}\r\n\
         Allow: GET, HEAD\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    );
    text.into_bytes()
}
