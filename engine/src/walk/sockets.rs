//! Sockets behind descriptors. [`super::special_files`] joins the two ends of each AF_UNIX pair.
//!
//! They are read in the same three batches as the TCP sockets ([`super::connections`]): the
//! `struct socket` behind the open file, then the `struct sock` behind that, then the peer of an
//! AF_UNIX socket.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::sock::Endpoints;

use super::snapshot::{FileRow, Index, NetRow};

/// One socket that a descriptor leads to.
#[derive(Clone, Copy, Debug)]
pub struct SocketRow {
    /// `struct sock *`
    pub address: KernelVa,
    /// Its open file.
    pub file: Index<FileRow>,
    /// Family, state, network namespace and, for IPv4 and IPv6, addresses and ports; `None` if
    /// unreadable.
    pub endpoints: Option<Endpoints>,
    /// `SOCK_*`
    pub kind: u16,
    /// `IPPROTO_*`
    pub protocol: u16,
    /// `struct sock *` of the AF_UNIX socket that it is connected to.
    pub peer_address: KernelVa,
    /// The peer socket, if a descriptor leads to it.
    pub peer: Option<Index<Self>>,
    /// Network namespace.
    pub net: Option<Index<NetRow>>,
}

impl SocketRow {
    /// `AF_*`, or 0 if it could not be read.
    pub fn family(&self) -> u16 {
        self.endpoints.map_or(0, |endpoints| endpoints.family)
    }

    pub(super) fn new(address: KernelVa, file: Index<FileRow>) -> Self {
        Self {
            address,
            file,
            endpoints: None,
            kind: 0,
            protocol: 0,
            peer_address: KernelVa::NULL,
            peer: None,
            net: None,
        }
    }
}
