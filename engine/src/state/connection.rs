//! One tracked connection: what is kept of it, and which sockets continue it.
//!
//! Not here: comparing the sockets of a scan with those of the last (`connections.rs`).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::sock::{IPPROTO_TCP, TcpCounters, TcpState};
use panoptes_decoders::layout::c_string;
use panoptes_tables::RowId;

use super::facts::ConnectionFacts;
use super::keys::{ContainerKey, ProcessKey};
use super::thresholds::{ExceededThreshold, Measures, Thresholds, is_open};
use crate::time::{Monotonic, Now};
use crate::walk::{ConnectionRow, Snapshot};

/// A 4-tuple, and the network namespace in which it stands for one connection.
pub(super) type Tuple = (IpAddr, u16, IpAddr, u16, u32);

pub(super) fn tuple_of(facts: &ConnectionFacts) -> Tuple {
    let ConnectionFacts { source, source_port, destination, destination_port, .. } = *facts;
    (source, source_port, destination, destination_port, facts.network_namespace)
}

/// Whether two sockets have the same 4-tuple and network namespace.
pub(super) fn is_same_tuple(scan: &Snapshot, one: &ConnectionRow, next: &ConnectionRow) -> bool {
    tuple_of_row(scan, one) == tuple_of_row(scan, next)
}

/// The same of a socket of the scan, whose sockets are sorted by it
/// ([`Snapshot::sort_connections`]).
pub(super) fn tuple_of_row(snapshot: &Snapshot, row: &ConnectionRow) -> Tuple {
    let ends = &row.endpoints;
    let net = snapshot.net_number(row.net);
    (ends.source, ends.source_port, ends.destination, ends.destination_port, net)
}

/// Whether a socket of the scan is one of the small ones that stand for a full one before and after
/// it.
pub(super) fn is_small(row: &ConnectionRow) -> bool {
    let state = TcpState::from_number(row.endpoints.state);
    row.counters.is_none()
        && matches!(state, Some(TcpState::TimeWait | TcpState::FinWait2 | TcpState::SynReceived))
}

/// One tracked connection, or socket that listens.
///
/// There can be very many, so facts stand here without gaps, and what may be missing has a mark.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection {
    source: [u64; 2],
    destination: [u64; 2],
    counters: TcpCounters,
    /// When it was first seen.
    pub first_seen: Now,
    absent_since: Now,
    /// When its status was reported last.
    status: Monotonic,
    pub(super) address: u64,
    owner_start: u64,
    owner_container: ContainerKey,
    owner_name: [u8; 16],
    owner_process_id: u32,
    owner_row: u32,
    owner_descriptor: u32,
    bound_device: u32,
    route_device: u32,
    pub(super) network_namespace: u32,
    /// The round of chains in which a scan showed it last
    /// ([`crate::walk::Snapshot::chains_round`]).
    pub(super) seen_round: u32,
    source_port: u16,
    destination_port: u16,
    marks: u16,
    pub(super) state: TcpState,
    pub(super) absent_scans: u8,
    /// Number of consecutive scans, complete or not, that did not show it.
    pub(super) unseen_scans: u8,
    /// Number of scans that showed it before it was reported.
    pub(super) unreported_scans: u8,
}

const _: () = assert!(size_of::<Connection>() == 184);

/// Yes or no, of a connection.
pub(super) mod mark {
    /// Whether its addresses are those of IPv6.
    pub(super) const SOURCE_IPV6: u16 = 1 << 0;
    pub(super) const DESTINATION_IPV6: u16 = 1 << 1;
    pub(super) const COUNTERS: u16 = 1 << 2;
    /// Whether it has, or had, an owner, whose descriptor is known by the last scan, and who is in
    /// a container.
    pub(in crate::state) const OWNER: u16 = 1 << 3;
    pub(in crate::state) const DESCRIPTOR: u16 = 1 << 4;
    pub(super) const CONTAINER: u16 = 1 << 5;
    pub(super) const ABSENT: u16 = 1 << 6;
    /// Whether it existed when watching started, so that it began at an unknown time before
    /// `first_seen`.
    pub(in crate::state) const PREEXISTING: u16 = 1 << 7;
    /// Whether it was reported, or recorded as baseline.
    pub(in crate::state) const REPORTED: u16 = 1 << 8;
    /// Whether its socket is a timewait socket: the connection is over for its process.
    pub(in crate::state) const WAITS: u16 = 1 << 9;
    /// Whether its group's pass has not found it yet.
    pub(in crate::state) const STRAY: u16 = 1 << 10;
    /// Which exceeded thresholds were reported.
    pub(super) const BYTES_IN: u16 = 1 << 11;
    pub(super) const BYTES_OUT: u16 = 1 << 12;
    pub(super) const DURATION: u16 = 1 << 13;
}

/// The bits of an address, and whether it is one of IPv6.
fn bits_of(address: IpAddr) -> ([u64; 2], bool) {
    match address {
        IpAddr::V4(ip) => ([0, ip.to_bits().into()], false),
        IpAddr::V6(ip) => ([(ip.to_bits() >> 64) as u64, ip.to_bits() as u64], true),
    }
}

fn address_of([high, low]: [u64; 2], is_ipv6: bool) -> IpAddr {
    if is_ipv6 {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)))
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(low as u32))
    }
}

/// The holder of a connection: the lowest descriptor of the lowest process, if there are several.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOwner {
    pub process: ProcessKey,
    /// The process's row.
    pub(super) row: RowId,
    pub descriptor: u32,
    /// The process's container.
    pub container: Option<ContainerKey>,
    pub(super) name: [u8; 16],
}

impl ConnectionOwner {
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
    /// A connection that a scan shows first.
    pub(super) fn new(facts: &ConnectionFacts, owner: Option<ConnectionOwner>, now: Now) -> Self {
        let (source, is_source_ipv6) = bits_of(facts.source);
        let (destination, is_destination_ipv6) = bits_of(facts.destination);
        let mut new = Self {
            source,
            destination,
            first_seen: now,
            status: now.monotonic,
            network_namespace: facts.network_namespace,
            source_port: facts.source_port,
            destination_port: facts.destination_port,
            ..Self::default()
        };
        new.set(mark::SOURCE_IPV6, is_source_ipv6);
        new.set(mark::DESTINATION_IPV6, is_destination_ipv6);
        new.refresh(facts, owner);
        new
    }

    /// Notes what a scan shows of it; its ends stay the same. The last owner stays if there is none
    /// now. A timewait socket has neither counters nor a route; those of the connection stay.
    pub(super) fn refresh(&mut self, facts: &ConnectionFacts, owner: Option<ConnectionOwner>) {
        self.state = facts.state;
        self.set(mark::WAITS, waits(facts));
        self.bound_device = facts.bound_device;
        if let Some(counters) = facts.counters {
            self.counters = counters;
            self.marks |= mark::COUNTERS;
        }
        if facts.route_device != 0 {
            self.route_device = facts.route_device;
        }
        self.set(mark::DESCRIPTOR, owner.is_some());
        if let Some(ConnectionOwner { process, row, descriptor, container, name }) = owner {
            self.marks |= mark::OWNER;
            (self.owner_process_id, self.owner_start) =
                (process.process_id, process.start_boottime);
            (self.owner_row, self.owner_descriptor) = (row.0, descriptor);
            self.set(mark::CONTAINER, container.is_some());
            self.owner_container = container.unwrap_or_default();
            self.owner_name = name;
        }
    }

    pub(super) const fn is(&self, mark: u16) -> bool {
        self.marks & mark != 0
    }

    pub(super) const fn set(&mut self, mark: u16, applies: bool) {
        self.marks = self.marks & !mark | if applies { mark } else { 0 };
    }

    /// Facts from the last scan that showed it.
    pub fn facts(&self) -> ConnectionFacts {
        let (source, source_port, destination, destination_port, _) = self.tuple();
        ConnectionFacts {
            protocol: IPPROTO_TCP,
            state: self.state,
            source,
            source_port,
            destination,
            destination_port,
            bound_device: self.bound_device,
            route_device: self.route_device,
            counters: self.counters(),
            network_namespace: self.network_namespace,
            descriptor: self.is(mark::DESCRIPTOR).then_some(self.owner_descriptor),
        }
    }

    #[inline]
    pub(super) fn tuple(&self) -> Tuple {
        let source = address_of(self.source, self.is(mark::SOURCE_IPV6));
        let destination = address_of(self.destination, self.is(mark::DESTINATION_IPV6));
        (source, self.source_port, destination, self.destination_port, self.network_namespace)
    }

    fn counters(&self) -> Option<TcpCounters> {
        self.is(mark::COUNTERS).then_some(self.counters)
    }

    /// The last process that held it.
    pub fn owner(&self) -> Option<ConnectionOwner> {
        let (process_id, start_boottime) = (self.owner_process_id, self.owner_start);
        self.is(mark::OWNER).then_some(ConnectionOwner {
            process: ProcessKey { process_id, start_boottime },
            row: RowId(self.owner_row),
            descriptor: self.owner_descriptor,
            container: self.is(mark::CONTAINER).then_some(self.owner_container),
            name: self.owner_name,
        })
    }

    /// Forgets its owner.
    pub(super) const fn clear_owner(&mut self) {
        self.set(mark::OWNER | mark::DESCRIPTOR, false);
    }

    /// When it was first absent, if it is.
    pub fn absent_since(&self) -> Option<Now> {
        self.is(mark::ABSENT).then_some(self.absent_since)
    }

    /// Notes that it is absent, from now on if it was not before.
    pub(super) fn set_absent(&mut self, now: Now) {
        if !self.is(mark::ABSENT) {
            self.absent_since = now;
            self.marks |= mark::ABSENT;
        }
    }

    /// Notes that a scan shows it.
    pub(super) fn set_present(&mut self) {
        self.set(mark::ABSENT | mark::STRAY, false);
        (self.absent_scans, self.unseen_scans) = (0, 0);
    }

    /// Whether it existed when watching started, so that it began at an unknown time before
    /// [`Self::first_seen`].
    pub fn preexisting(&self) -> bool {
        self.is(mark::PREEXISTING)
    }

    pub(super) fn listens(&self) -> bool {
        self.state == TcpState::Listen
    }

    /// Whether data can still go over it; a timewait socket does not count.
    pub(super) fn is_open(&self) -> bool {
        is_open(self.state) && !self.is(mark::WAITS)
    }

    fn measures(&self) -> Measures {
        Measures {
            first: self.first_seen.monotonic,
            status: self.status,
            reported_bytes_in: self.is(mark::BYTES_IN),
            reported_bytes_out: self.is(mark::BYTES_OUT),
            reported_duration: self.is(mark::DURATION),
        }
    }

    /// The exceeded thresholds that were not reported yet.
    pub(super) fn exceed(
        &mut self,
        thresholds: &Thresholds,
        now: Monotonic,
    ) -> ArrayVec<ExceededThreshold, 3> {
        if self.listens() {
            return ArrayVec::new();
        }
        let mut measures = self.measures();
        let all = measures.exceed(thresholds, self.counters(), self.is_open(), now);
        if !all.is_empty() {
            self.set(mark::BYTES_IN, measures.reported_bytes_in);
            self.set(mark::BYTES_OUT, measures.reported_bytes_out);
            self.set(mark::DURATION, measures.reported_duration);
        }
        all
    }

    /// Whether its status is due now; notes it as reported if so.
    pub(super) fn is_status_due(&mut self, period_ns: u64, now: Monotonic) -> bool {
        let mut measures = self.measures();
        let is_due = measures.is_status_due(period_ns, now);
        self.status = measures.status;
        is_due
    }

    /// Whether a socket of the same 4-tuple at another address continues this connection.
    pub(super) fn continues_as(&self, next: &ConnectionFacts) -> bool {
        !self.listens()
            && next.state != TcpState::Listen
            && !self.is(mark::WAITS)
            && (waits(next) || self.state == TcpState::SynReceived)
    }

    /// Whether the socket at this address is another connection: it starts again, or its counters
    /// have dropped.
    pub(super) fn was_replaced_by(&self, next: &ConnectionFacts) -> bool {
        let begins = |state| matches!(state, TcpState::SynSent | TcpState::SynReceived);
        let restarted = begins(next.state) && !begins(self.state) && !self.listens();
        let lost_count = self.counters().zip(next.counters).is_some_and(|(before, after)| {
            after.bytes_in < before.bytes_in || after.bytes_out < before.bytes_out
        });
        restarted || lost_count || self.listens() != (next.state == TcpState::Listen)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = IpAddr> {
        // Also IPv6 addresses that have the bits of IPv4 ones.
        let small = any::<u32>().prop_map(|bits| Ipv6Addr::from_bits(bits.into()));
        let ipv6 = prop_oneof![any::<u128>().prop_map(Ipv6Addr::from_bits), small];
        prop_oneof![
            any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
            ipv6.prop_map(IpAddr::V6)
        ]
    }

    proptest! {
        #[test]
        fn facts_and_owner_are_kept(
            (source, destination) in (address(), address()),
            numbers in any::<[u32; 8]>(),
            counted in any::<Option<(u64, u64)>>(),
            owned in any::<Option<(u64, Option<u64>, [u8; 16])>>(),
        ) {
            let counters = counted.map(|(bytes_in, bytes_out)| {
                TcpCounters { bytes_in, bytes_out, ..TcpCounters::default() }
            });
            let owner = owned.map(|(start_boottime, container, name)| ConnectionOwner {
                process: ProcessKey { process_id: numbers[0], start_boottime },
                row: RowId(numbers[1]),
                descriptor: numbers[2],
                container: container.map(ContainerKey),
                name,
            });
            let facts = ConnectionFacts {
                state: TcpState::Established,
                source,
                source_port: numbers[3] as u16,
                destination,
                destination_port: numbers[4] as u16,
                bound_device: numbers[5],
                route_device: numbers[6],
                counters,
                network_namespace: numbers[7],
                descriptor: owner.map(|owner| owner.descriptor),
                ..ConnectionFacts::default()
            };
            let mut kept = Connection::new(&facts, owner, Now::at(5));
            prop_assert_eq!(format!("{:?}", kept.facts()), format!("{facts:?}"));
            prop_assert_eq!(format!("{:?}", kept.owner()), format!("{owner:?}"));
            prop_assert_eq!(kept.tuple(), tuple_of(&facts));
            prop_assert_eq!((kept.first_seen, kept.absent_since()), (Now::at(5), None));
            // A timewait socket shows less.
            let last = ConnectionFacts { state: TcpState::TimeWait, ..ConnectionFacts::default() };
            kept.refresh(&last, None);
            prop_assert!(kept.is(mark::WAITS));
            let expected = ConnectionFacts {
                state: TcpState::TimeWait,
                bound_device: 0,
                descriptor: None,
                ..facts
            };
            prop_assert_eq!(format!("{:?}", kept.facts()), format!("{expected:?}"));
            prop_assert_eq!(format!("{:?}", kept.owner()), format!("{owner:?}"));
        }
    }
}
