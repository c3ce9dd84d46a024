//! Ports for servers that start later.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::BOUND;

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

/// A receiver of datagrams at 127.0.0.1 that refuses all of them until [`hear`]. Its port is its
/// own. Reading fails after [`BOUND`].
///
/// It is connected to itself. That its port was named keeps the port when the connection ends
/// (`__udp_disconnect` in net/ipv4/udp.c); another socket holds it until then.
///
/// # Errors
///
/// As the system calls fail.
pub fn deaf_receiver() -> io::Result<UdpSocket> {
    let any = datagrams(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let receiver = datagrams(any.local_addr()?)?;
    receiver.set_read_timeout(Some(BOUND))?;
    receiver.connect(receiver.local_addr()?)?;
    Ok(receiver)
}

/// Lets a [`deaf_receiver`] receive what anybody sends.
///
/// # Errors
///
/// As the system call fails.
pub fn hear(receiver: &UdpSocket) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(receiver)?)
}

/// A socket for datagrams that shares its port.
fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket.into())
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

    #[test]
    fn a_deaf_receiver_hears_with_the_same_port() {
        let receiver = deaf_receiver().unwrap();
        let address = receiver.local_addr().unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        sender.connect(address).unwrap();
        sender.send(b"refused").unwrap();
        assert_eq!(sender.send(b"next").unwrap_err().kind(), ErrorKind::ConnectionRefused);
        hear(&receiver).unwrap();
        assert_eq!(receiver.local_addr().unwrap(), address);
        sender.send(b"heard").unwrap();
        let mut room = [0; 9];
        assert_eq!(receiver.recv(&mut room).unwrap(), 5);
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
