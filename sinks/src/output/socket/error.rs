//! What went wrong with a receiver: what was done, where, why, and how to mend it.

use std::fmt;
use std::io;

use super::peer::{Peer, PeerEndpoint};

/// A receiver cannot be reached, or the connection to it has ended.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {} {peer}: {}{}",
    action.words(),
    SocketErrorCause(cause),
    hint(*action, peer, cause)
)]
pub struct SocketError {
    pub action: Action,
    pub peer: Peer,
    /// The end of a stream is `UnexpectedEof`.
    pub cause: io::Error,
}

/// What could not be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Resolve,
    Connect,
    /// The handshake of TLS.
    Secure,
    Send,
    /// The connection's end, or its failure, while nothing was sent.
    Receive,
    /// The receiver has answered something else than that it has the records.
    Deliver,
}

impl Action {
    const fn words(self) -> &'static str {
        match self {
            Self::Resolve => "find the address of",
            Self::Connect => "connect to",
            Self::Secure => "make a secure connection to",
            Self::Send => "send to",
            Self::Receive => "keep the connection to",
            Self::Deliver => "deliver records to",
        }
    }
}

impl SocketError {
    pub(crate) fn new(action: Action, peer: &Peer, cause: impl Into<io::Error>) -> Self {
        Self { action, peer: peer.clone(), cause: cause.into() }
    }
}

struct SocketErrorCause<'a>(&'a io::Error);

impl fmt::Display for SocketErrorCause<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            io::ErrorKind::UnexpectedEof => out.write_str("the receiver has closed it"),
            _ => self.0.fmt(out),
        }
    }
}

/// What to do about it, behind a semicolon; empty if there is nothing to add.
fn hint(action: Action, peer: &Peer, cause: &io::Error) -> &'static str {
    if action == Action::Resolve {
        return "; is the name right, and does this machine find others by name \
                (/etc/resolv.conf)?";
    }
    let is_unix = matches!(peer.place(), PeerEndpoint::Unix { .. });
    match cause.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ENOENT | libc::ENOTDIR) if is_unix => {
            "; is the receiver running, and is this its socket?"
        }
        Some(libc::ECONNREFUSED) => {
            "; is the receiver running, and does it listen on this address and port?"
        }
        Some(libc::EACCES | libc::EPERM) if is_unix => {
            "; allow Panoptes's user to write to the socket, and to enter its folder"
        }
        Some(libc::EACCES | libc::EPERM) => "; a firewall of this machine forbids it",
        Some(libc::ETIMEDOUT) => {
            "; is its machine up, and does every firewall on the way let it through?"
        }
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => "; does this machine have a route to it?",
        Some(libc::EPROTOTYPE) => "; the socket is of another kind than the format needs",
        Some(libc::EAGAIN) => "; it does not accept connections fast enough, or has stopped",
        Some(libc::ENAMETOOLONG) => "; the path of a socket has at most 107 bytes",
        Some(libc::EMFILE | libc::ENFILE) => "; raise the number of open files (LimitNOFILE)",
        Some(libc::ECONNRESET | libc::EPIPE) => "; its log should have the reason",
        None if cause.kind() == io::ErrorKind::TimedOut => match action {
            Action::Secure => "; does the receiver speak TLS on this port?",
            Action::Connect => {
                "; is its machine up, and does every firewall on the way let it through?"
            }
            _ => "; it has not answered: its log should have the reason",
        },
        None if cause.kind() == io::ErrorKind::UnexpectedEof => "; its log should have the reason",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::UnixKind;
    use super::*;

    #[test]
    fn a_message_names_what_where_why_and_what_to_do() {
        let check = |peer: &Peer, action, errno, words: &str| {
            let error = SocketError::new(action, peer, io::Error::from_raw_os_error(errno));
            assert_eq!(error.to_string(), words);
        };
        check(
            &Peer::tcp("::1", 601),
            Action::Connect,
            libc::ECONNREFUSED,
            "cannot connect to [::1]:601 (tcp): Connection refused (os error 111); is the \
             receiver running, and does it listen on this address and port?",
        );
        check(
            &Peer::unix("/dev/log", UnixKind::Any),
            Action::Connect,
            libc::EACCES,
            "cannot connect to /dev/log: Permission denied (os error 13); allow Panoptes's user \
             to write to the socket, and to enter its folder",
        );
        check(
            &Peer::udp("logs", 514),
            Action::Send,
            libc::ENOBUFS,
            "cannot send to logs:514 (udp): No buffer space available (os error 105)",
        );
        let late = io::Error::from(io::ErrorKind::TimedOut);
        let late = SocketError::new(Action::Secure, &Peer::tls("a", 1), late);
        assert_eq!(
            late.to_string(),
            "cannot make a secure connection to a:1 (tls): timed out; does the receiver speak TLS \
             on this port?"
        );
        let ended = io::ErrorKind::UnexpectedEof;
        let ended = SocketError::new(Action::Receive, &Peer::tcp("a", 1), ended);
        assert_eq!(
            ended.to_string(),
            "cannot keep the connection to a:1 (tcp): the receiver has closed it; its log should \
             have the reason"
        );
    }
}
