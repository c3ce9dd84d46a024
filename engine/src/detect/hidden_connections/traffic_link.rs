//! What the sensor of a system's packets and the scanner of its memory share.
//!
//! The scanner notes the sockets of each scan. The sensor asks whose a flow is, and has what it
//! has seen judged. Both take a lock: the scanner once a scan, and it does not wait for it;
//! the sensor once a record.

use core::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use arrayvec::ArrayVec;
use panoptes_tables::HashKey;

use super::judge::{HiddenConnection, Judge, SeenEnd};
use super::scans::{ScanCounts, Shows};
use super::sockets::{SocketKey, SocketOwner, Sockets, local};
use crate::limits::Limits;
use crate::time::Now;
use crate::walk::Snapshot;

/// Number of findings that wait: for the scanner, and until their reports are accepted.
const FOUND_MAX: usize = 64;
/// How far the calendar may be set without a consequence, in nanoseconds.
const CLOCK_STEP_NS: i64 = 100_000_000;

/// What was seen of a flow on the wire. The first end has begun it.
#[derive(Clone, Copy, Debug)]
pub struct SeenFlow {
    /// `IPPROTO_*`
    pub protocol: u8,
    pub ends: [SeenEnd; 2],
}

/// The processes that hold the sockets at the ends of a flow.
pub type FlowOwners = [Option<SocketOwner>; 2];

/// Findings that wait.
pub(super) type HiddenConnectionList = ArrayVec<HiddenConnection, FOUND_MAX>;

/// Shared by the sensor and the scanner of one system.
#[derive(Debug)]
pub struct TrafficLink(Mutex<TrafficLinkState>);

#[derive(Debug)]
struct TrafficLinkState {
    sockets: Sockets,
    judge: Judge,
    found: HiddenConnectionList,
    /// Number of findings that found no room, since the last scan.
    refused: u64,
    last_scan: Option<Now>,
}

/// What a scan adds to the search for hidden connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct SearchCoverage {
    /// Protocols of which it shows all sockets.
    pub(super) shows: Shows,
    /// Whether all addresses of the system found room.
    pub(super) has_all_addresses: bool,
    /// Number of suspects and findings without room, since the last scan.
    pub(super) forgotten: u64,
}

impl TrafficLink {
    /// Allocates everything for a system with these limits.
    pub fn new(limits: &Limits, key: HashKey) -> Self {
        let connections = limits.connections_seen_max();
        let others = limits.file_descriptors_seen_max().min(connections);
        Self(Mutex::new(TrafficLinkState {
            sockets: Sockets::new(connections, others, key.derive("sockets on the wire")),
            judge: Judge::new(key.derive("connections without a socket")),
            found: ArrayVec::new(),
            refused: 0,
            last_scan: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, TrafficLinkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges what was seen of a flow since it was reported last, and returns whose it is.
    pub fn seen(&self, flow: &SeenFlow) -> FlowOwners {
        let TrafficLinkState { sockets, judge, found, refused, .. } = &mut *self.lock();
        let [source, destination] = &flow.ends;
        judge.judge(sockets, flow.protocol, [source, destination], &mut |hidden| {
            let has_room = found.try_push(hidden).is_ok();
            *refused += u64::from(!has_room);
            has_room
        });
        let [source, destination] = flow.ends.map(|end| end.address);
        [(source, destination), (destination, source)]
            .map(|(own, peer)| owner(sockets, flow.protocol, own, peer))
    }

    /// Notes a scan that has begun at `now`, and adds what was found since the last one to `owed`,
    /// as far as there is room. A scan counts for nothing while the sensor uses what is shared:
    /// then it returns `None`.
    pub(super) fn note_scan(
        &self,
        snapshot: &Snapshot,
        now: Now,
        owed: &mut HiddenConnectionList,
    ) -> Option<SearchCoverage> {
        let mut shared = match self.0.try_lock() {
            Ok(shared) => shared,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let TrafficLinkState { sockets, judge, found, refused, last_scan } = &mut *shared;
        if last_scan.replace(now).is_some_and(|last| was_set(last, now)) {
            // Packets have times of the calendar.
            judge.clear();
            sockets.clear();
        }
        let shows = sockets.note(snapshot, now.real.ns());
        judge.note_scan(now.real.ns(), shows);
        let count = found.len().min(owed.remaining_capacity());
        owed.extend(found.drain(..count));
        Some(SearchCoverage {
            shows,
            has_all_addresses: sockets.has_all_addresses(),
            forgotten: judge.take_forgotten() + core::mem::take(refused),
        })
    }

    /// Numbers of scans.
    pub fn scans(&self) -> ScanCounts {
        self.lock().judge.counts()
    }

    /// Forgets all sockets: another kernel may run now.
    pub fn forget(&self) {
        let TrafficLinkState { sockets, judge, found, last_scan, .. } = &mut *self.lock();
        sockets.clear();
        judge.clear();
        found.clear();
        *last_scan = None;
    }
}

/// Whether the calendar was set between two scans.
fn was_set(last: Now, now: Now) -> bool {
    let passed = now.monotonic.since(last.monotonic);
    let by_calendar = now.real.ns().saturating_sub(last.real.ns());
    by_calendar.saturating_sub(passed).abs() > CLOCK_STEP_NS
}

/// Returns the owner of the socket at an end of a flow. That socket is the one of the connection,
/// else the one with the same peer behind NAT, else the one that receives at the port.
fn owner(
    sockets: &Sockets,
    protocol: u8,
    own: SocketAddr,
    peer: SocketAddr,
) -> Option<SocketOwner> {
    let port = own.port();
    let keys = [
        SocketKey::Connection { protocol, own, peer },
        SocketKey::Peer { protocol, peer },
        local(protocol, own),
        SocketKey::Local { protocol, own: None, port },
    ];
    // Addresses of others may be translated, too, but only the system's ends have its sockets.
    if !sockets.is_own(own.ip()) {
        return None;
    }
    keys.iter().find_map(|key| sockets.find(key)?.owner.clone())
}
