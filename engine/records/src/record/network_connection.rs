//! `network_connection_details` (guide §11.4).

use std::net::IpAddr;

use crate::json::time::Timestamp;
use crate::words::words;

use super::interface::WorkloadInterface;
use super::macros::details;
use super::value::{Flat, Namespace, Objects};

details! {
    /// A TCP connection. `source` is the watched machine's end, whichever end opened it.
    pub struct NetworkConnectionDetails<'a> "network_connection_details" {
        /// The descriptor's index in the owner; left out when no process holds the socket, or an
        /// io_uring of it does.
        file_descriptor_id: Option<u32>,
        connection_state: ConnectionState,
        /// `TCP`; the connections of a reverse shell may have other protocols.
        protocol: ConnectionProtocol,
        /// The watched machine's end.
        source_ip_address as local_address: Ip,
        /// The watched machine's end.
        source_port as local_port: u16,
        /// The peer's end; all zeros for a listener.
        destination_ip_address as peer_address: Ip,
        /// The peer's end; 0 for a listener.
        destination_port as peer_port: u16,
        tcp_bytes_in: Option<u64>,
        /// Bytes sent, retransmissions included.
        tcp_bytes_out: Option<u64>,
        /// Segments received.
        tcp_segments_in: Option<u64>,
        /// Segments sent.
        tcp_segments_out: Option<u64>,
        /// The four `workload_network_interface_*` keys.
        interface: Option<Flat<WorkloadInterface<'a>>>,
        /// Panoptes' clock at the first scan with the connection; absent from scan lines.
        tcp_connection_creation_time_iso_8601_ns: Option<Timestamp>,
        /// Panoptes' clock at the first scan without it; absent from scan lines.
        tcp_connection_termination_time_iso_8601_ns: Option<Timestamp>,
        /// Termination minus creation time; absent from scan lines.
        tcp_connection_overall_duration_ns: Option<u64>,
        /// Bytes received per data segment received.
        tcp_average_bytes_in: Option<u64>,
        /// Bytes sent per data segment sent.
        tcp_average_bytes_out: Option<u64>,
        /// The other processes that hold the socket.
        other_holders: Option<Objects<'a, Holder>>,
        /// The namespace in which the addresses and ports stand for this connection.
        network_namespace: Option<Namespace>,
    }
}

details! {
    /// A process that also holds the socket.
    pub struct Holder "other_holders" {
        /// The tgid.
        process_id: u32,
        /// The descriptor's index in that process; left out when an io_uring of it holds the
        /// socket.
        file_descriptor_id: Option<u32>,
    }
}

words! {
    pub enum ConnectionState {
        Closed = "CLOSED",
        Established = "ESTABLISHED",
        SynSent = "SYN_SENT",
        SynReceived = "SYN_RECEIVED",
        FinWait1 = "FIN_WAIT_1",
        FinWait2 = "FIN_WAIT_2",
        TimeWait = "TIME_WAIT",
        CloseWait = "CLOSE_WAIT",
        LastAck = "LAST_ACK",
        Listen = "LISTEN",
        Closing = "CLOSING",
    }
}

words! {
    pub enum ConnectionProtocol {
        Tcp = "TCP",
        Udp = "UDP",
        Icmp = "ICMP",
        Sctp = "SCTP",
        Dccp = "DCCP",
        Raw = "RAW",
    }
}

/// An IP address. A type of its own so that a details object can be made with
/// `..Default::default()`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ip(pub IpAddr);

impl Default for Ip {
    fn default() -> Self {
        Self(IpAddr::from([0; 4]))
    }
}

impl<T: Into<IpAddr>> From<T> for Ip {
    fn from(address: T) -> Self {
        Self(address.into())
    }
}

impl super::value::Scalar for Ip {
    fn write(
        &self,
        before: &'static str,
        out: &mut crate::json::JsonWriter<'_>,
    ) -> Result<(), crate::json::Full> {
        self.0.write(before, out)
    }

    fn schema() -> crate::schema_type::SchemaType {
        IpAddr::schema()
    }
}
