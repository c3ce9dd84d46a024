//! One tracked connection: what is kept of it, and which sockets continue it.
//!
//! Not here: comparing the sockets of a scan with those of the last (`connections.rs`).

use core::net::IpAddr;

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::sock::TcpState;
use panoptes_decoders::layout::c_string;
use panoptes_tables::RowId;

use super::facts::ConnectionFacts;
use super::keys::{ContainerKey, ProcessKey};
use super::thresholds::{ConnectionThresholds, Exceeded, Measures, is_open};
use crate::time::{Monotonic, Now};
use crate::walk::ConnectionRow;

pub(super) type Tuple = (IpAddr, u16, IpAddr, u16);

pub(super) fn tuple_of(facts: &ConnectionFacts) -> Tuple {
    (facts.source, facts.source_port, facts.destination, facts.destination_port)
}

/// Whether a socket of the scan is one of the small ones that stand for a full one before and after
/// it.
pub(super) fn is_small(row: &ConnectionRow) -> bool {
    let state = TcpState::from_number(row.endpoints.state);
    row.counters.is_none()
        && matches!(state, Some(TcpState::TimeWait | TcpState::FinWait2 | TcpState::SynReceived))
}

/// One tracked connection, or socket that listens.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states")]
pub struct Connection {
    /// Facts from the last scan that showed it.
    pub facts: ConnectionFacts,
    /// When it was first seen.
    pub first_seen: Now,
    /// When it was first absent, if it is.
    pub absent_since: Option<Now>,
    /// The last process that held it.
    pub owner: Option<Owner>,
    /// Whether it existed when watching started, so that it began at an unknown time before
    /// `first_seen`.
    pub preexisting: bool,
    pub(super) measures: Measures,
    pub(super) address: u64,
    pub(super) absent_scans: u32,
    /// The round of chains in which a scan showed it last
    /// ([`crate::walk::Snapshot::chains_round`]).
    pub(super) seen_round: u32,
    /// Number of scans in a row, complete or not, that did not show it.
    pub(super) unseen_scans: u32,
    /// Whether it was reported, or recorded as baseline.
    pub(super) reported: bool,
    /// Number of scans that showed it before that.
    pub(super) unreported_scans: u32,
    /// Whether its socket is a timewait socket: the connection is over for its process.
    pub(super) waits: bool,
    /// Whether its group's pass has not found it yet.
    pub(super) stray: bool,
}

/// The holder of a connection: the lowest descriptor of the lowest process, if there are several.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    pub process: ProcessKey,
    /// The process's row.
    pub(super) row: RowId,
    pub descriptor: u32,
    /// The process's container.
    pub container: Option<ContainerKey>,
    pub(super) name: [u8; 16],
}

impl Owner {
    pub fn name(&self) -> &[u8] {
        c_string(&self.name)
    }
}

/// Whether a socket is an `inet_timewait_sock`: those have no counters, and are in FIN_WAIT_2 or
/// TIME_WAIT.
pub(super) fn waits(facts: &ConnectionFacts) -> bool {
    facts.state == TcpState::TimeWait
        || facts.state == TcpState::FinWait2 && facts.counters.is_none()
}

impl Connection {
    pub(super) fn listens(&self) -> bool {
        self.facts.state == TcpState::Listen
    }

    /// Whether data can still go over it; a timewait socket does not count.
    pub(super) fn is_open(&self) -> bool {
        is_open(self.facts.state) && !self.waits
    }

    /// The exceeded thresholds that were not reported yet.
    pub(super) fn exceed(
        &mut self,
        thresholds: &ConnectionThresholds,
        now: Monotonic,
    ) -> ArrayVec<Exceeded, 3> {
        if self.listens() {
            return ArrayVec::new();
        }
        let is_open = self.is_open();
        self.measures.exceed(thresholds, self.facts.counters, is_open, now)
    }

    /// Whether a socket of the same 4-tuple at another address continues this connection.
    pub(super) fn continues_as(&self, next: &ConnectionFacts) -> bool {
        self.facts.network_namespace == next.network_namespace
            && !self.listens()
            && next.state != TcpState::Listen
            && !self.waits
            && (waits(next) || self.facts.state == TcpState::SynReceived)
    }

    /// Whether the socket at this address is another connection: it starts again, or its counters
    /// have dropped.
    pub(super) fn was_replaced_by(&self, next: &ConnectionFacts) -> bool {
        let begins = |state| matches!(state, TcpState::SynSent | TcpState::SynReceived);
        let restarted = begins(next.state) && !begins(self.facts.state) && !self.listens();
        let lost_count = self.facts.counters.zip(next.counters).is_some_and(|(before, after)| {
            after.bytes_in < before.bytes_in || after.bytes_out < before.bytes_out
        });
        restarted
            || lost_count
            || self.listens() != (next.state == TcpState::Listen)
            || self.facts.network_namespace != next.network_namespace
    }
}
