//! Ports for servers that start later.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// A TCP port of 127.0.0.1 that is kept free for a server until this is dropped.
///
/// A socket is bound to it that does not listen, so connections are refused. The kernel gives the
/// port to nobody who names none: neither to other servers nor to outgoing connections
/// (`__inet_hash_connect` in net/ipv4/inet_hashtables.c). A server that names it may listen, if it
/// sets `SO_REUSEADDR` as `TcpListener` does (`inet_csk_bind_conflict` in
/// net/ipv4/inet_connection_sock.c).
#[derive(Debug)]
pub struct Port {
    number: u16,
    _socket: OwnedFd,
}

impl Port {
    /// Reserves a port. Fails as the system calls do.
    pub fn reserve() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&socket)?)
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, "no address of IPv4"))?;
        Ok(Self { number: address.port(), _socket: socket })
    }

    pub const fn number(&self) -> u16 {
        self.number
    }

    /// The port at 127.0.0.1.
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.number))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{accept, connect};

    #[test]
    fn a_port_is_kept_for_a_server_that_names_it() {
        let port = Port::reserve().unwrap();
        let address = port.address();
        for _ in 0..3 {
            assert_eq!(connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            let server = TcpListener::bind(address).unwrap();
            let client = connect(address).unwrap();
            accept(&server).unwrap();
            drop((server, client));
        }
    }

    /// Some hundreds only: there are too many ports to use them all.
    #[test]
    fn no_outgoing_connection_has_a_kept_port() {
        let port = Port::reserve().unwrap();
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = server.local_addr().unwrap();
        let mut open: Vec<(TcpStream, TcpStream)> = Vec::new();
        for _ in 0..400 {
            let Ok(client) = connect(address) else { break };
            assert_ne!(client.local_addr().unwrap().port(), port.number());
            open.push((client, accept(&server).unwrap()));
        }
        assert!(open.len() > 100);
    }
}
