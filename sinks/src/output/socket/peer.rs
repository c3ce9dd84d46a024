//! Where a receiver is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A receiver's place. A copy shares it and allocates nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer(Arc<PeerEndpoint>);

#[derive(Debug, Eq, PartialEq)]
pub(super) enum PeerEndpoint {
    Network { host: String, port: u16, is_stream: bool, is_tls: bool },
    Unix { path: PathBuf, kind: UnixKind },
}

/// Which sockets are looked for at a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnixKind {
    /// One for datagrams, else one for a stream: /dev/log is either, as the syslog daemon likes.
    Any,
    Stream,
}

/// The addresses of a name, as many as are tried.
pub(super) type PeerAddresses = [Option<SocketAddr>; ADDRESSES_MAX];

/// Addresses of one name that are tried. More are those of a pool, of which any will do.
pub(super) const ADDRESSES_MAX: usize = 8;

impl Peer {
    /// `host` is a name, an IPv4 address, or an IPv6 address without brackets.
    pub fn tcp(host: &str, port: u16) -> Self {
        Self::network(host, port, true, false)
    }

    /// The same, for TLS over TCP.
    pub fn tls(host: &str, port: u16) -> Self {
        Self::network(host, port, true, true)
    }

    /// The same, for datagrams.
    pub fn udp(host: &str, port: u16) -> Self {
        Self::network(host, port, false, false)
    }

    fn network(host: &str, port: u16, is_stream: bool, is_tls: bool) -> Self {
        Self(Arc::new(PeerEndpoint::Network { host: host.to_owned(), port, is_stream, is_tls }))
    }

    /// A socket of this host.
    pub fn unix(path: impl AsRef<Path>, kind: UnixKind) -> Self {
        Self(Arc::new(PeerEndpoint::Unix { path: path.as_ref().to_owned(), kind }))
    }

    pub(super) fn place(&self) -> &PeerEndpoint {
        &self.0
    }

    /// The addresses if no name must be resolved.
    pub(super) fn known(&self) -> Option<PeerAddresses> {
        match self.place() {
            PeerEndpoint::Network { host, port, .. } => {
                let address: IpAddr = host.parse().ok()?;
                Some(first(std::iter::once(SocketAddr::new(address, *port))))
            }
            PeerEndpoint::Unix { .. } => Some(first(std::iter::empty())),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            PeerEndpoint::Network { host, port, is_stream, is_tls } => {
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                let protocol = match (is_stream, is_tls) {
                    (_, true) => "tls",
                    (true, false) => "tcp",
                    (false, false) => "udp",
                };
                write!(out, "{open}{host}{close}:{port} ({protocol})")
            }
            PeerEndpoint::Unix { path, .. } => path.display().fmt(out),
        }
    }
}

/// The first addresses.
pub(super) fn first(mut all: impl Iterator<Item = SocketAddr>) -> PeerAddresses {
    std::array::from_fn(|_| all.next())
}
