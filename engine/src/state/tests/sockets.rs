//! Sockets of hand-made machines.

use core::net::{IpAddr, Ipv4Addr};

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::sock::{Endpoints, TcpCounters};

use super::{MACHINE_NET, net};
use crate::walk::{ConnectionRow, Snapshot};

/// A connection's socket, or a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FakeSocket {
    pub(crate) address: u64,
    pub(crate) state: u8,
    pub(crate) source: (IpAddr, u16),
    pub(crate) destination: (IpAddr, u16),
    pub(crate) bytes_in: Option<u64>,
    /// Number of its network namespace.
    pub(crate) net: u32,
}

pub(crate) const ESTABLISHED: u8 = 1;
pub(crate) const SYN_SENT: u8 = 2;
pub(crate) const FIN_WAIT_1: u8 = 4;
pub(crate) const FIN_WAIT_2: u8 = 5;
pub(crate) const TIME_WAIT: u8 = 6;
pub(crate) const LISTEN: u8 = 10;
pub(crate) const NEW_SYN_RECV: u8 = 12;

impl FakeSocket {
    /// Number of another network namespace than the machine's own.
    pub(crate) const OTHER_NET: u32 = MACHINE_NET + 500;

    /// A connection from this local port.
    pub(crate) fn new(address: u64, port: u16, state: u8) -> Self {
        Self {
            address,
            state,
            source: (Ipv4Addr::new(10, 0, 2, 15).into(), port),
            destination: (Ipv4Addr::new(203, 0, 113, 9).into(), 4444),
            bytes_in: Some(0),
            net: MACHINE_NET,
        }
    }

    pub(crate) fn listener(address: u64, port: u16) -> Self {
        Self { destination: (Ipv4Addr::UNSPECIFIED.into(), 0), ..Self::new(address, port, LISTEN) }
    }

    /// Adds it to a scan.
    pub(super) fn push(&self, snapshot: &mut Snapshot) {
        let small = matches!(self.state, TIME_WAIT | NEW_SYN_RECV);
        let bytes_in = self.bytes_in.filter(|_| !small);
        let net = net(snapshot, self.net);
        snapshot.connections.push(ConnectionRow {
            address: KernelVa(self.address),
            endpoints: Endpoints {
                family: 2,
                state: self.state,
                source: self.source.0,
                source_port: self.source.1,
                destination: self.destination.0,
                destination_port: self.destination.1,
                bound_device: 0,
                net: KernelVa::NULL,
                prot: KernelVa::NULL,
                next: 1,
            },
            counters: bytes_in.map(|bytes_in| TcpCounters { bytes_in, ..TcpCounters::default() }),
            file: KernelVa::NULL,
            inode: 0,
            route_device: 0,
            net,
        });
    }
}
