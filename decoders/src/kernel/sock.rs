//! `struct sock_common`, `struct sock` (include/net/sock.h) and `struct tcp_sock`
//! (include/linux/tcp.h).
//!
//! Sockets in TIME_WAIT and NEW_SYN_RECV are smaller structures that share only `sock_common`.

use core::net::IpAddr;

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct sock_common` (include/net/sock.h).
    pub struct SockCommon("sock_common") {
        /// Peer's IPv4 address, in network byte order.
        skc_daddr: ["skc_daddr"],
        /// Own IPv4 address, in network byte order.
        skc_rcv_saddr: ["skc_rcv_saddr"],
        /// Peer's port, in network byte order.
        skc_dport: ["skc_dport"],
        /// Own port, in the machine's byte order.
        skc_num: ["skc_num"],
        /// `AF_*`
        skc_family: ["skc_family"],
        /// `TCP_*`
        skc_state: ["skc_state"],
        /// Index of the device that it is bound to, or zero.
        skc_bound_dev_if: ["skc_bound_dev_if"],
        /// `struct proto *`
        skc_prot: ["skc_prot"],
        /// `struct net *`
        skc_net: ["skc_net.net"],
        /// Peer's IPv6 address.
        skc_v6_daddr: ["skc_v6_daddr"],
        /// Own IPv6 address.
        skc_v6_rcv_saddr: ["skc_v6_rcv_saddr"],
        /// Link in its bucket's list.
        skc_node: ["skc_nulls_node", "skc_node"],
    }
}

crate::layout! {
    /// `struct sock` (include/net/sock.h).
    pub struct Sock("sock") {
        /// `struct socket *`; null if no process holds the socket.
        sk_socket: ["sk_socket"],
        /// `SOCK_*`
        sk_type: ["sk_type"],
        /// `IPPROTO_*`
        sk_protocol: ["sk_protocol"],
        /// `struct dst_entry *`: the route of its last packets.
        sk_dst_cache: ["sk_dst_cache"],
    }
}

crate::layout! {
    /// `struct dst_entry` (include/net/dst.h): a cached route.
    pub struct DstEntry("dst_entry") {
        /// `struct net_device *` of the outgoing device.
        dev: ["dev"],
    }
}

crate::layout! {
    /// `struct tcp_sock` (include/linux/tcp.h).
    pub struct TcpSock("tcp_sock") {
        /// Bytes received in order (RFC 4898 tcpEStatsAppHCThruOctetsReceived).
        bytes_received: ["bytes_received"],
        /// Bytes sent, retransmissions included.
        bytes_sent: ["bytes_sent"],
        segs_in: ["segs_in"],
        segs_out: ["segs_out"],
        /// Segments received that carried data.
        data_segs_in: ["data_segs_in"],
        /// Segments sent that carried data.
        data_segs_out: ["data_segs_out"],
    }
}

crate::layout! {
    /// `struct inet_timewait_sock` (include/net/inet_timewait_sock.h): the rest of a closed
    /// connection.
    pub struct InetTimewaitSock("inet_timewait_sock") {
        /// `TCP_TIME_WAIT`, or `TCP_FIN_WAIT2` while the peer has not closed.
        tw_substate: ["tw_substate"],
    }
}

/// `AF_INET` (include/linux/socket.h).
pub const AF_INET: u16 = 2;
/// `AF_INET6`
pub const AF_INET6: u16 = 10;
/// `AF_PACKET`
pub const AF_PACKET: u16 = 17;
/// `SOCK_STREAM` (include/linux/net.h).
pub const SOCK_STREAM: u16 = 1;
/// `SOCK_DGRAM`
pub const SOCK_DGRAM: u16 = 2;
/// `SOCK_RAW`
pub const SOCK_RAW: u16 = 3;
/// `IPPROTO_TCP` (include/uapi/linux/in.h).
pub const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_UDP` (include/uapi/linux/in.h).
pub const IPPROTO_UDP: u16 = 17;
/// `IPPROTO_SCTP`
pub const IPPROTO_SCTP: u16 = 132;
/// `IPPROTO_RAW`: the packets of such a socket have headers of any protocol.
pub const IPPROTO_RAW: u16 = 255;

/// State of a TCP connection (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum TcpState {
    /// `TCP_ESTABLISHED`
    Established = 1,
    /// `TCP_SYN_SENT`
    SynSent = 2,
    /// `TCP_SYN_RECV`, and `TCP_NEW_SYN_RECV` of request sockets
    SynReceived = 3,
    /// `TCP_FIN_WAIT1`
    FinWait1 = 4,
    /// `TCP_FIN_WAIT2`
    FinWait2 = 5,
    /// `TCP_TIME_WAIT`
    TimeWait = 6,
    /// `TCP_CLOSE`
    #[default]
    Closed = 7,
    /// `TCP_CLOSE_WAIT`
    CloseWait = 8,
    /// `TCP_LAST_ACK`
    LastAck = 9,
    /// `TCP_LISTEN`
    Listen = 10,
    /// `TCP_CLOSING`
    Closing = 11,
}

impl TcpState {
    /// Converts the kernel's number; `None` if no TCP socket can have it.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Closed,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
    }
}

/// The decoded fields of a `struct sock_common`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Endpoints {
    /// `AF_*`
    pub family: u16,
    /// `TCP_*` as in the kernel. In states 6 and 12 (request sockets) the structure is smaller.
    pub state: u8,
    pub source: IpAddr,
    pub source_port: u16,
    pub destination: IpAddr,
    pub destination_port: u16,
    /// Index of the device that it is bound to, or zero.
    pub bound_device: u32,
    /// `struct net *`
    pub net: KernelVa,
    /// `struct proto *`
    pub prot: KernelVa,
    /// Next socket in the bucket; the lowest bit marks the end of the list.
    pub next: u64,
}

impl Endpoints {
    /// Decodes the packed copy of a `struct sock_common`.
    pub fn decode(layout: &SockCommon, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let family = view.unsigned(layout.skc_family) as u16;
        let v4 = |field| view.bytes(field).first_chunk::<4>().copied().unwrap_or_default().into();
        let v6 = |field| view.bytes(field).first_chunk::<16>().copied().unwrap_or_default().into();
        let (source, destination) = if family == AF_INET6 {
            (v6(layout.skc_v6_rcv_saddr), v6(layout.skc_v6_daddr))
        } else {
            (v4(layout.skc_rcv_saddr), v4(layout.skc_daddr))
        };
        Self {
            family,
            state: view.unsigned(layout.skc_state) as u8,
            source,
            source_port: view.unsigned(layout.skc_num) as u16,
            destination,
            destination_port: (view.unsigned(layout.skc_dport) as u16).swap_bytes(),
            bound_device: view.unsigned(layout.skc_bound_dev_if) as u32,
            net: view.pointer(layout.skc_net),
            prot: view.pointer(layout.skc_prot),
            next: view.u64_at(layout.skc_node, 0),
        }
    }
}

/// Counters of a TCP connection since it began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TcpCounters {
    pub bytes_in: u64,
    /// Bytes sent, retransmissions included.
    pub bytes_out: u64,
    pub segments_in: u32,
    pub segments_out: u32,
    /// Segments received that carried data.
    pub data_segments_in: u32,
    /// Segments sent that carried data.
    pub data_segments_out: u32,
}

impl TcpCounters {
    /// Decodes the packed copy of a `struct tcp_sock`.
    pub fn decode(layout: &TcpSock, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        Self {
            bytes_in: view.unsigned(layout.bytes_received),
            bytes_out: view.unsigned(layout.bytes_sent),
            segments_in: view.unsigned(layout.segs_in) as u32,
            segments_out: view.unsigned(layout.segs_out) as u32,
            data_segments_in: view.unsigned(layout.data_segs_in) as u32,
            data_segments_out: view.unsigned(layout.data_segs_out) as u32,
        }
    }
}
