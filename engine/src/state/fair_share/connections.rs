//! Divides the table of connections, so that a busy process leaves room for those of others.
//!
//! The owner of a connection is its process or, if it has none, its network namespace. Small
//! sockets (TIME_WAIT, SYN_RECEIVED) get what the others leave. Connections above a share are
//! neither reported as over nor, when they are tracked again, as new. Nor are those that no scan
//! shows while scans do not show all.

use core::num::NonZeroU64;

use panoptes_decoders::kernel::sock::TcpState;
use panoptes_tables::{
    HashKey, Key, ListPool, PoolList, Row, RowId, ScanNumber, Shares, Table, room,
};

use crate::limits::Limits;
use crate::state::connection::{Connection, Tuple, is_small, mark, tuple_of, tuple_of_row};
use crate::state::facts::ConnectionFacts;
use crate::state::holders::{HolderProcesses, Holders};
use crate::walk::{ConnectionRow, Index, Snapshot};

/// Number of owners that stand for network namespaces; several namespaces can have the same.
const NETS: u32 = 64;
/// Begins the groups of network namespaces; below are users, far above containers.
const NETWORKS: u64 = 1 << 33;
/// Number of consecutive scans, complete or not, from which a connection is absent before it makes
/// room for others.
const UNSEEN_CONNECTION_SCANS_MAX: u8 = 8;
/// The part of the connections that is remembered after it made room.
const EVICTED_PART: usize = 4;

/// Identifies a connection: a hash of its 4-tuple and its network namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct EvictedKey(NonZeroU64);

impl Key for EvictedKey {
    fn hash(&self, key: HashKey) -> u64 {
        key.hash_numbers([self.0.get()])
    }
}

/// A connection that made room for others after it was reported.
#[derive(Debug)]
struct EvictedConnection(EvictedKey);

const _: () = assert!(size_of::<Option<EvictedConnection>>() == 8);

impl Row for EvictedConnection {
    type Key = EvictedKey;

    fn key(&self) -> EvictedKey {
        self.0
    }
}

/// Owner of a connection while the table is divided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ConnectionShareOwner {
    /// The number of a process's row, or of a network namespace after these.
    Full(u32),
    /// Owner of a small socket: the number of its network namespace.
    Small(u32),
}

/// How many connections each owner may have.
#[derive(Debug)]
pub(in crate::state) struct ConnectionShares {
    full: Shares,
    small: Shares,
    used: Box<[u32]>,
    used_small: [u32; NETS as usize],
    wanted: Box<[u32]>,
    wanted_small: [u32; NETS as usize],
    processes: u32,
    evicted: Table<EvictedConnection>,
    key: HashKey,
    scan: ScanNumber,
    /// The round of chains of the last scan.
    round: u32,
    is_crowded: bool,
    /// Whether a connection found no room in the last scan.
    pub(in crate::state) was_refused: bool,
}

impl ConnectionShares {
    pub(in crate::state) fn new(limits: &Limits, key: HashKey) -> Self {
        let owners = limits.processes as usize + NETS as usize;
        let evicted = limits.connections as usize / EVICTED_PART;
        Self {
            full: Shares::new(owners),
            small: Shares::new(NETS as usize),
            used: room::copies(0, owners),
            used_small: [0; NETS as usize],
            wanted: room::copies(0, owners),
            wanted_small: [0; NETS as usize],
            processes: limits.processes,
            evicted: Table::new(evicted, key.derive("state: evicted connections")),
            key: key.derive("state: owners of connections"),
            scan: ScanNumber::default(),
            round: 0,
            is_crowded: false,
            was_refused: false,
        }
    }

    pub(in crate::state) fn clear(&mut self) {
        self.evicted.clear();
        self.was_refused = false;
    }

    fn owner(&self, process: Option<RowId>, net: u32, small: bool) -> ConnectionShareOwner {
        let net = self.key.hash_numbers([net.into()]) as u32 % NETS;
        match process {
            _ if small => ConnectionShareOwner::Small(net),
            Some(RowId(row)) => ConnectionShareOwner::Full(row),
            None => ConnectionShareOwner::Full(self.processes + net),
        }
    }

    fn used(&mut self, owner: ConnectionShareOwner) -> Option<&mut u32> {
        match owner {
            ConnectionShareOwner::Full(owner) => self.used.get_mut(owner as usize),
            ConnectionShareOwner::Small(net) => self.used_small.get_mut(net as usize),
        }
    }

    /// Whether an owner may have one more; counts it if so.
    fn takes(&mut self, owner: ConnectionShareOwner) -> bool {
        let allowed = match owner {
            ConnectionShareOwner::Full(owner) => self.full.allowed(owner),
            ConnectionShareOwner::Small(net) => self.small.allowed(net),
        };
        let Some(used) = self.used(owner).filter(|used| **used < allowed) else { return false };
        *used += 1;
        true
    }

    fn key_of(&self, tuple: &Tuple) -> EvictedKey {
        let number = |address: &core::net::IpAddr| match address {
            core::net::IpAddr::V4(ip) => u128::from(u32::from(*ip)),
            core::net::IpAddr::V6(ip) => u128::from(*ip) ^ 1,
        };
        let (source, source_port, destination, destination_port, net) = tuple;
        let ends = [number(source), number(destination)];
        let ports = u64::from(*source_port) << 16 | u64::from(*destination_port);
        let hash = self.key.hash_numbers([
            ends[0] as u64,
            (ends[0] >> 64) as u64,
            ends[1] as u64,
            (ends[1] >> 64) as u64,
            ports,
            u64::from(*net),
        ]);
        EvictedKey(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN))
    }

    /// Whether a new connection is tracked.
    pub(in crate::state) fn admits(
        &mut self,
        process: Option<RowId>,
        facts: &ConnectionFacts,
    ) -> bool {
        if !self.is_crowded {
            return true;
        }
        let owner = self.owner(process, facts.network_namespace, is_small_now(facts));
        let admits = self.takes(owner);
        if !admits {
            self.was_refused = true;
            let key = self.key_of(&tuple_of(facts));
            if let Some(id) = self.evicted.find(&key) {
                self.evicted.see(id, self.scan);
            }
        }
        admits
    }

    /// Whether a connection that is tracked from now on was reported before.
    pub(in crate::state) fn returns(&mut self, facts: &ConnectionFacts) -> bool {
        if self.evicted.is_empty() {
            return false;
        }
        let key = self.key_of(&tuple_of(facts));
        let id = self.evicted.find(&key);
        id.is_some_and(|id| self.evicted.remove(id).is_some())
    }

    /// The process that wants most beyond its share.
    pub(in crate::state) fn above(&self) -> Option<RowId> {
        let above = self.full.above().filter(|_| self.is_crowded)?;
        (above.owner < self.processes).then_some(RowId(above.owner))
    }

    /// Forgets the evicted connections that no scan, or no round of chains, shows any more.
    fn forget_gone(&mut self, snapshot: &Snapshot) {
        let before = core::mem::replace(&mut self.round, snapshot.chains_round);
        if snapshot.chains_in_turn && before == snapshot.chains_round {
            return;
        }
        self.scan = self.scan.next();
        for number in 0..self.evicted.end() {
            let id = RowId(number);
            let last = self.evicted.last_seen(id);
            if last.is_some_and(|last| self.scan.since(last) > UNSEEN_CONNECTION_SCANS_MAX.into()) {
                self.evicted.remove(id);
            }
        }
    }
}

/// Whether a connection has only a small socket by now.
fn is_small_now(facts: &ConnectionFacts) -> bool {
    facts.counters.is_none()
        && matches!(facts.state, TcpState::TimeWait | TcpState::FinWait2 | TcpState::SynReceived)
}

impl ConnectionShares {
    /// Divides the table if not all connections fit; returns whether it did. Unless the scan has
    /// all connections, those that are tracked and that it does not show need room, too.
    pub(in crate::state) fn divide(
        &mut self,
        (rows, list, has_all): (&ListPool<Connection>, PoolList, bool),
        holders: &Holders,
        holding: &HolderProcesses<'_>,
        snapshot: &Snapshot,
        news: &[ConnectionRow],
    ) -> bool {
        self.forget_gone(snapshot);
        let capacity = rows.capacity();
        let was_refused = core::mem::take(&mut self.was_refused);
        let others = if has_all { 0 } else { rows.used() };
        self.is_crowded = was_refused || news.len() + others > capacity;
        if !self.is_crowded {
            return false;
        }
        self.used.fill(0);
        self.used_small.fill(0);
        self.wanted.fill(0);
        self.wanted_small.fill(0);
        for (number, row) in news.iter().enumerate() {
            let process = holders
                .of(Index::new(number))
                .iter()
                .find_map(|holder| holding.rows.get(holder.process.position()).copied().flatten());
            let net = snapshot.net_number(row.net);
            self.want(self.owner(process, net, is_small(row)));
        }
        if !has_all {
            self.want_unseen((rows, list), holding, snapshot, news);
        }
        let small: usize = self.wanted_small.iter().map(|&wanted| wanted as usize).sum();
        let total: usize = self.wanted.iter().map(|&wanted| wanted as usize).sum();
        if !was_refused && total + small <= capacity {
            self.is_crowded = false;
            return false;
        }
        self.full.begin();
        for (owner, &wanted) in (0..).zip(&self.wanted) {
            let process = holding.processes.get(RowId(owner)).filter(|_| owner < self.processes);
            let row = process.and_then(|process| snapshot.processes.at(process.row()));
            let group = row.map_or(NETWORKS + u64::from(owner), |row| snapshot.group_of(row));
            self.full.want(group, owner, wanted);
        }
        self.full.divide(capacity);
        self.small.begin();
        for (net, &wanted) in (0..).zip(&self.wanted_small) {
            self.small.want(net.into(), net, wanted);
        }
        self.small.divide(capacity.saturating_sub(total));
        true
    }

    /// Counts one more connection that an owner wants.
    fn want(&mut self, owner: ConnectionShareOwner) {
        let wanted = match owner {
            ConnectionShareOwner::Full(owner) => self.wanted.get_mut(owner as usize),
            ConnectionShareOwner::Small(net) => self.wanted_small.get_mut(net as usize),
        };
        if let Some(wanted) = wanted {
            *wanted += 1;
        }
    }

    /// Counts the tracked connections that the scan does not show. Both lists are ordered by
    /// 4-tuple and network namespace.
    fn want_unseen(
        &mut self,
        (rows, list): (&ListPool<Connection>, PoolList),
        holding: &HolderProcesses<'_>,
        snapshot: &Snapshot,
        news: &[ConnectionRow],
    ) {
        let mut news = news.iter().map(|row| tuple_of_row(snapshot, row)).peekable();
        let mut cursor = ListPool::<Connection>::start(list);
        while let Some(row) = rows.row(cursor) {
            let tuple = row.tuple();
            while news.next_if(|new| *new < tuple).is_some() {}
            if news.peek() != Some(&tuple) && row.unseen_scans < UNSEEN_CONNECTION_SCANS_MAX {
                self.want(self.owner_of(row, holding));
            }
            rows.advance(&mut cursor);
        }
    }

    /// The owner of a tracked connection.
    fn owner_of(&self, row: &Connection, holding: &HolderProcesses<'_>) -> ConnectionShareOwner {
        let process = row.owner().filter(|owner| {
            let process = holding.processes.get(owner.row);
            process.is_some_and(|process| process.key == owner.process)
        });
        let facts = &row.facts();
        let is_small = row.is(mark::WAITS) || is_small_now(facts);
        let net = facts.network_namespace;
        self.owner(process.map(|owner| owner.row), net, is_small)
    }

    /// Removes the connections of each owner above its share, and those that no scan shows.
    pub(in crate::state) fn remove_above(
        &mut self,
        rows: &mut ListPool<Connection>,
        list: &mut PoolList,
        holding: &HolderProcesses<'_>,
    ) {
        let mut cursor = ListPool::<Connection>::start(*list);
        while let Some(row) = rows.row(cursor) {
            let owner = self.owner_of(row, holding);
            let is_seen = row.unseen_scans < UNSEEN_CONNECTION_SCANS_MAX;
            if is_seen && self.takes(owner) {
                rows.advance(&mut cursor);
                continue;
            }
            let facts = &row.facts();
            let key = self.key_of(&tuple_of(facts));
            let is_known = row.is(mark::REPORTED) && self.evicted.find(&key).is_none();
            if is_known && self.evicted.insert(EvictedConnection(key), self.scan).is_none() {
                // It could not be remembered.
                rows.advance(&mut cursor);
                continue;
            }
            rows.remove(list, &mut cursor);
        }
    }
}
