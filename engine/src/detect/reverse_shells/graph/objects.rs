//! What open files lead to, and what is at the other end.

use core::net::IpAddr;

use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};
use panoptes_decoders::kernel::inode::mode;
use panoptes_decoders::kernel::sock::{
    AF_INET, AF_INET6, AF_PACKET, Endpoints, IPPROTO_SCTP, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM,
    TcpState,
};
use panoptes_decoders::kernel::unix_sock::AF_UNIX;

use super::ChannelEnd;
use crate::walk::{ConnectionRow, FileRow, Index, Snapshot, SocketRow};

/// Whether a file is open for reading and writing.
pub(super) fn is_open_both_ways(snapshot: &Snapshot, file: Index<FileRow>) -> bool {
    let both = FMODE_READ | FMODE_WRITE;
    snapshot.files.at(file).is_some_and(|row| row.open.mode & both == both)
}

pub(super) fn is_pipe(snapshot: &Snapshot, file: &FileRow) -> bool {
    snapshot.inodes.at(file.inode).is_some_and(|row| row.attributes.kind() == mode::S_IFIFO)
}

/// The object of an open file, if any.
pub fn object_of(snapshot: &Snapshot, file: Option<Index<FileRow>>) -> Option<ChannelEnd> {
    let row = snapshot.files.at(file)?;
    if row.open.mode & (FMODE_READ | FMODE_WRITE) == 0 {
        return None;
    }
    if let Some(at) = row.connection {
        let connection = snapshot.connections.at(at)?;
        return is_open(connection).then_some(ChannelEnd::Connection(at));
    }
    if let Some(at) = row.socket {
        let socket = snapshot.sockets.at(at)?;
        let endpoints = socket.endpoints?;
        return match endpoints.family {
            AF_UNIX => Some(ChannelEnd::Unix(at)),
            AF_INET | AF_INET6 if has_peer(socket, &endpoints) => Some(ChannelEnd::Datagram(at)),
            _ => is_open_to_any(socket, &endpoints).then_some(ChannelEnd::AnyPeer(at)),
        };
    }
    if let Some(at) = row.terminal {
        return Some(ChannelEnd::Terminal(at));
    }
    row.inode.filter(|_| is_pipe(snapshot, row)).map(ChannelEnd::Pipe)
}

/// Whether a socket other than one of TCP has a peer. Those of TCP with a peer are connections. One
/// of SCTP in the style of TCP keeps its peer's address when it is closed.
fn has_peer(socket: &SocketRow, endpoints: &Endpoints) -> bool {
    let state = || TcpState::from_number(endpoints.state);
    let is_open = match (socket.kind, socket.protocol) {
        (SOCK_STREAM, IPPROTO_SCTP) => {
            matches!(state(), Some(TcpState::Established | TcpState::CloseWait))
        }
        (SOCK_STREAM, _) => false,
        _ => true,
    };
    is_open && !endpoints.destination.is_unspecified()
}

/// Whether a socket without a destination gets what other machines send. One of datagrams has a
/// port once it is bound or has sent something (`inet_autobind`, net/ipv4/af_inet.c).
fn is_open_to_any(socket: &SocketRow, endpoints: &Endpoints) -> bool {
    match endpoints.family {
        AF_PACKET => true,
        AF_INET | AF_INET6 => {
            let has_port = endpoints.source_port != 0;
            let is_local = endpoints.source.to_canonical().is_loopback();
            !is_local && (socket.kind == SOCK_RAW || socket.kind == SOCK_DGRAM && has_port)
        }
        _ => false,
    }
}

/// Whether bytes can go over a connection, in one direction at least. A connection that the peer
/// has closed counts: commands that were sent before are still executed and answered.
pub fn is_open(connection: &ConnectionRow) -> bool {
    let state = TcpState::from_number(connection.endpoints.state);
    is_established(connection)
        || state == Some(TcpState::CloseWait)
        || has_closed_sending(connection)
}

/// Whether neither side has closed its sending direction.
pub(in super::super) fn is_established(connection: &ConnectionRow) -> bool {
    TcpState::from_number(connection.endpoints.state) == Some(TcpState::Established)
}

/// Whether this side has closed its sending direction.
pub(in super::super) fn has_closed_sending(connection: &ConnectionRow) -> bool {
    let state = TcpState::from_number(connection.endpoints.state);
    matches!(state, Some(TcpState::FinWait1 | TcpState::FinWait2))
}

/// Both ends of a connection. The scan's connections are sorted by it.
pub(in super::super) type Tuple = (IpAddr, u16, IpAddr, u16);

pub(in super::super) fn tuple_of(row: &ConnectionRow) -> Tuple {
    let ends = &row.endpoints;
    (ends.source, ends.source_port, ends.destination, ends.destination_port)
}

/// The other end of a connection, if it is on this machine too. That is the socket with addresses
/// and ports swapped, in the same network namespace, or in another one unless the addresses are
/// loopback addresses.
pub fn mirror(
    snapshot: &Snapshot,
    connection: Index<ConnectionRow>,
) -> Option<Index<ConnectionRow>> {
    let row = snapshot.connections.at(connection)?;
    let ends = &row.endpoints;
    // One end may have the IPv4 address in IPv6 form.
    let forms: [fn(IpAddr) -> IpAddr; 2] = [|address| address.to_canonical(), mapped];
    let only_here = ends.source.to_canonical().is_loopback();
    let mut found = None;
    for form in forms {
        let key =
            (form(ends.destination), ends.destination_port, form(ends.source), ends.source_port);
        let start = snapshot.connections.partition_point(|row| tuple_of(row) < key);
        let span = snapshot.connections.span_from(start);
        let rows = snapshot.connections.range(span).iter().zip(span.indexes());
        // At most one in each network namespace.
        for (other, at) in rows.take_while(|(row, _)| tuple_of(row) == key).take(MIRRORS_MAX) {
            if at == connection || !is_open(other) {
                continue;
            }
            if other.net == row.net {
                return Some(at);
            }
            if !only_here {
                found = found.or(Some(at));
            }
        }
    }
    found
}

/// Maximum number of connections with the same addresses and ports that are checked.
const MIRRORS_MAX: usize = 64;

fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(_) => address,
    }
}

/// Whether two objects are ends of the same link, or the same end.
pub(in super::super) fn is_same_link(
    snapshot: &Snapshot,
    one: ChannelEnd,
    other: ChannelEnd,
) -> bool {
    one == other
        || match (one, other) {
            (ChannelEnd::Unix(one), ChannelEnd::Unix(other)) => {
                snapshot.sockets.at(one).is_some_and(|row| row.peer == Some(other))
                    || snapshot.sockets.at(other).is_some_and(|row| row.peer == Some(one))
            }
            (ChannelEnd::Terminal(one), ChannelEnd::Terminal(other)) => {
                snapshot.terminals.at(one).is_some_and(|row| row.link == Some(other))
            }
            (ChannelEnd::Connection(one), ChannelEnd::Connection(other)) => {
                mirror(snapshot, one) == Some(other)
            }
            (ChannelEnd::File(one), ChannelEnd::File(other)) => {
                let inode = |at| snapshot.files.at(at).and_then(|row| row.inode);
                inode(one) == inode(other)
            }
            _ => false,
        }
}

pub(in super::super) fn is_master(snapshot: &Snapshot, object: ChannelEnd) -> bool {
    let ChannelEnd::Terminal(at) = object else { return false };
    snapshot.terminals.at(at).is_some_and(|row| row.is_master)
}
