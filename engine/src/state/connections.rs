//! Tracked TCP sockets, one row for each connection for all of its life.
//!
//! A connection is a socket's address, its 4-tuple and its network namespace. The sockets that the
//! kernel puts in its place keep the latter two: the request socket before it (SYN_RECEIVED) and
//! the timewait socket after it (TIME_WAIT). Both lists, the tracked one and the scan's, are
//! ordered by them, so they are compared side by side.
//!
//! A scan follows chains that change meanwhile and can miss a socket. A connection that is absent
//! once is kept; if the next scan does not show it either, it is *terminated* as of its first
//! absence. Chains are not read at one moment either: a scan may show a socket and the small one
//! that replaced it, which is no connection of its own.
//!
//! An incoming connection has no holder until it is accepted. A connection without a holder is
//! therefore reported a scan later, with the holder that it has by then, and never before its
//! process.

use core::cmp::Ordering;
use core::mem;

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::sock::TcpState;

use super::change::{Change, ConnectionChange};
use super::connection::{
    Connection, ConnectionOwner, Tuple, is_same_tuple, is_small, mark, tuple_of_row,
};
use super::connections_scratch::ConnectionsScratch;
use super::emit::Emitter;
use super::ended::EndedOwners;
use super::facts::{ConnectionFacts, DescriptorFacts};
use super::fair_share::connections::ConnectionShares;
use super::holders::{Holder, HolderProcesses, Holders};
use super::process::Process;
use super::thresholds::{ExceededThreshold, Thresholds};
use super::{BEGINNING_ROUNDS, BEGINNING_SCANS_MAX};
use crate::limits::Limits;
use crate::loss::Loss;
use crate::time::{Monotonic, RealTime};
use crate::walk::{ConnectionRow, Index, Snapshot};
use panoptes_tables::{HashKey, ListPool, PoolCursor, PoolList};

/// Number of consecutive scans from which a connection must be absent to be over.
const CONNECTION_ABSENT_SCANS: u8 = 2;
/// Number of rounds of chains that must begin and end without a connection for it to be over, while
/// chains take turns: all of them had two turns then.
const ABSENT_ROUNDS: u32 = 2 * BEGINNING_ROUNDS;
/// Number of additional scans that a connection without a holder waits while scans leave descriptor
/// tables to the next ones.
const LEFT_SCANS: u32 = 16;
/// Number of sockets with one 4-tuple that are searched for the one that a small socket stands for.
/// There are one or two; the bound keeps a forged crowd of them cheap.
const TWINS_MAX: usize = 64;
/// Maximum number of statuses reported in one scan. If more are due at once, the rest follow in the
/// next scans. That gives the output time to drain, and spreads them from then on.
const STATUSES_MAX: u32 = 256;

fn listens(row: &ConnectionRow) -> bool {
    TcpState::from_number(row.endpoints.state) == Some(TcpState::Listen)
}

/// All connections, and the lists to compare them, in memory allocated at start.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) rows: ListPool<Connection>,
    pub(super) list: PoolList,
    pub(super) shares: ConnectionShares,
    /// Whether each row of the scan belongs to a tracked connection, by its index.
    claimed: Box<[bool]>,
    /// When each tracked row of the scan was first seen.
    first_seen_ns: Box<[Option<RealTime>]>,
    pub(super) holders: Holders,
    pub(super) ended: EndedOwners,
    accept_grace_scans: u32,
    pub(super) thresholds: Thresholds,
    /// The first connection whose status may be reported in the next scan: all before had their
    /// turn.
    statuses_from: Option<Tuple>,
    /// Number of scans until one had all connections.
    beginning_scans: u32,
    /// The round of chains of the first scan.
    first_round: u32,
    /// Whether one had.
    pub(super) taken: bool,
    /// Whether a connection waits for a scan that has all descriptors, and whether one has lost its
    /// holder in a scan that has not.
    pub(super) waits_for_holder: bool,
    pub(super) lost_holder: bool,
    /// [`Snapshot::connections_version`] of the last scan, if all that it has is tracked and
    /// reported, and nothing else is.
    settled: Option<u64>,
}

impl Connections {
    pub(super) fn new(limits: &Limits, accept_grace_scans: u32, key: HashKey) -> Self {
        Self {
            shares: ConnectionShares::new(limits, key),
            ended: EndedOwners::new(limits, key),
            accept_grace_scans,
            thresholds: Thresholds::default(),
            rows: ListPool::new(limits.connections as usize),
            list: PoolList::default(),
            claimed: Box::default(),
            first_seen_ns: Box::default(),
            holders: Holders::default(),
            statuses_from: None,
            beginning_scans: 0,
            first_round: 0,
            taken: false,
            waits_for_holder: false,
            lost_holder: false,
            settled: None,
        }
    }

    pub(super) fn exchange(&mut self, scratch: &mut ConnectionsScratch) {
        mem::swap(&mut self.claimed, &mut scratch.claimed);
        mem::swap(&mut self.first_seen_ns, &mut scratch.first_seen_ns);
        mem::swap(&mut self.holders, &mut scratch.holders);
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.list = PoolList::default();
        self.shares.clear();
        self.ended.clear();
        (self.beginning_scans, self.taken, self.settled) = (0, false, None);
    }

    /// When a connection of the last scan was first seen, if it is tracked.
    pub(super) fn first_seen_ns(&self, index: Index<ConnectionRow>) -> Option<RealTime> {
        self.first_seen_ns.get(index.position()).copied().flatten()
    }

    /// Compares all connections with those of the last scan; `quiet` if everything new belongs to
    /// the baseline. Counts those that find no room.
    pub(super) fn update(
        &mut self,
        holding: &HolderProcesses<'_>,
        quiet: bool,
        lost: &mut Loss,
        emitter: &mut Emitter<'_>,
    ) {
        let snapshot = emitter.snapshot;
        if emitter.must_stop() {
            return;
        }
        if self.are_same(snapshot) {
            return;
        }
        (self.settled, self.waits_for_holder, self.lost_holder) = (None, false, false);
        self.holders.find(snapshot);
        let mut cut = ArrayVec::<u32, CUT_MAX>::new();
        let nets = snapshot.nets.iter().filter(|net| net.connections_cut);
        let is_crowded = nets.into_iter().any(|net| cut.try_push(net.inum).is_err());
        let complete =
            snapshot.connections_cut == 0 && snapshot.connections.dropped == 0 && !is_crowded;
        let is_whole = complete && cut.is_empty();
        self.note_beginning(snapshot, is_whole);
        let count = snapshot.connections.len().min(self.claimed.len());
        let news = &snapshot.connections.as_slice()[..count];
        let has_all = is_whole && !snapshot.chains_in_turn;
        let Self { shares, rows, list, holders, .. } = &mut *self;
        if shares.divide((rows, *list, has_all), holders, holding, snapshot, news) {
            shares.remove_above(rows, list, holding);
        }
        self.ended.begin_scan();
        self.claimed[..count].fill(false);
        self.first_seen_ns[..count].fill(None);
        let mut pass = Pass {
            cursor: ListPool::<Connection>::start(self.list),
            now: emitter.now.monotonic,
            thresholds: self.thresholds,
            statuses_left: STATUSES_MAX,
            statuses_next: None,
            waits: false,
            connections: self,
            holding,
            lost,
            emitter,
            complete,
            cut,
            quiet,
        };
        let mut start = 0;
        for group in news.chunk_by(|one, next| is_same_tuple(snapshot, one, next)) {
            let tuple = tuple_of_row(snapshot, &group[0]);
            let is_known = pass.absent_before(&tuple);
            if !pass.emitter.goes_on() {
                return;
            }
            pass.group(&tuple, is_known, start, group);
            start += group.len();
        }
        pass.absent_to_end();
        let (next, waits) = (pass.statuses_next, pass.waits);
        self.statuses_from = next;
        let waits = waits || !has_all || self.waits_for_holder || self.lost_holder;
        let is_settled = !waits && self.taken && self.list.len() == count;
        self.settled = is_settled.then_some(snapshot.connections_version);
        if !emitter.is_stopped() {
            self.ended.forget_unseen(&mut emitter.names.strings);
        }
    }

    /// Whether the scan has just what was compared before, and nothing else is due.
    fn are_same(&self, scan: &Snapshot) -> bool {
        let is_same = scan.is_kept && self.settled == Some(scan.connections_version);
        is_same && self.thresholds.status_period_ns.is_none()
    }

    /// Notes whether the connections of the baseline are complete with a scan.
    fn note_beginning(&mut self, snapshot: &Snapshot, is_whole: bool) {
        if self.beginning_scans == 0 {
            self.first_round = snapshot.chains_round;
        }
        self.beginning_scans = self.beginning_scans.saturating_add(snapshot.counts().into());
        let rounds = snapshot.chains_round.wrapping_sub(self.first_round);
        let had_turns = !snapshot.chains_in_turn || rounds >= BEGINNING_ROUNDS;
        self.taken |= had_turns && (is_whole || self.beginning_scans >= BEGINNING_SCANS_MAX);
    }
}

/// Maximum number of network namespaces with connections that a scan leaves out. With more of
/// them, no connection ends.
const CUT_MAX: usize = 64;

struct Pass<'a, 't> {
    connections: &'a mut Connections,
    cursor: PoolCursor,
    holding: &'a HolderProcesses<'a>,
    lost: &'a mut Loss,
    emitter: &'a mut Emitter<'t>,
    complete: bool,
    /// The network namespaces of which the scan does not have all connections.
    cut: ArrayVec<u32, CUT_MAX>,
    quiet: bool,
    now: Monotonic,
    thresholds: Thresholds,
    statuses_left: u32,
    /// The first due connection that has to wait for the next scan.
    statuses_next: Option<Tuple>,
    /// Whether the next scan must compare all connections, even if it shows the same.
    waits: bool,
}

impl Pass<'_, '_> {
    fn order(&self, tuple: &Tuple) -> Option<Ordering> {
        self.connections.rows.row(self.cursor).map(|row| row.tuple().cmp(tuple))
    }

    /// Moves past the rows before a tuple. Returns whether the next row has it.
    fn absent_before(&mut self, tuple: &Tuple) -> bool {
        loop {
            let order = self.order(tuple);
            if order != Some(Ordering::Less) || !self.emitter.goes_on() {
                return order == Some(Ordering::Equal);
            }
            self.absent();
        }
    }

    fn absent_to_end(&mut self) {
        while self.connections.rows.row(self.cursor).is_some() && self.emitter.goes_on() {
            self.absent();
        }
    }

    /// Compares the sockets of one 4-tuple and network namespace, nearly always one; `is_known` if
    /// there is a row of them. `first` is the index of the first of `news` in the scan; `news` is
    /// ordered by address.
    fn group(&mut self, tuple: &Tuple, is_known: bool, first: usize, news: &[ConnectionRow]) {
        let start = self.cursor;
        let mut strays = false;
        let mut is_equal = is_known;
        while is_equal {
            strays |= !self.find_by_address(first, news);
            is_equal = self.order(tuple) == Some(Ordering::Equal);
        }
        if strays {
            self.cursor = start;
            let mut next = 0;
            let mut unclaimed = news
                .iter()
                .zip(&self.connections.claimed[first..])
                .filter(|(row, claimed)| !**claimed && !listens(row))
                .count();
            while self.order(tuple) == Some(Ordering::Equal) {
                self.find_next_life(first, news, &mut next, &mut unclaimed);
            }
        }
        if self.connections.claimed[first..first + news.len()].iter().all(|claimed| *claimed) {
            return;
        }
        for small in [false, true] {
            for (number, row) in news.iter().enumerate() {
                if !self.connections.claimed[first + number]
                    && is_small(row) == small
                    && !(small && self.stands_for_another(first, news))
                {
                    self.create(first + number, row);
                }
            }
        }
    }

    /// Whether the connection of a small socket is tracked under another one that still exists. If
    /// that one is gone, the next scan finds this one in its place.
    fn stands_for_another(&self, first: usize, news: &[ConnectionRow]) -> bool {
        news.iter()
            .zip(&self.connections.claimed[first..])
            .take(TWINS_MAX)
            .any(|(row, claimed)| *claimed && !listens(row))
    }

    /// Finds the row at the cursor in `news` by its address, and moves on; `false` if it is not
    /// there.
    fn find_by_address(&mut self, first: usize, news: &[ConnectionRow]) -> bool {
        let snapshot = self.emitter.snapshot;
        let Some(old) = self.connections.rows.row_mut(self.cursor) else { return true };
        let found =
            news.binary_search_by_key(&old.address, |row| row.address.0).ok().filter(|&number| {
                !old.was_replaced_by(&ConnectionFacts::read(snapshot, &news[number], None))
            });
        old.set(mark::STRAY, found.is_none());
        match found {
            Some(number) => self.update_row(first + number, &news[number]),
            None => self.connections.rows.advance(&mut self.cursor),
        }
        found.is_some()
    }

    /// Finds the socket that continues a stray row at the cursor, and moves on; if there is none,
    /// the row is absent.
    fn find_next_life(
        &mut self,
        first: usize,
        news: &[ConnectionRow],
        next: &mut usize,
        unclaimed: &mut usize,
    ) {
        let snapshot = self.emitter.snapshot;
        let Some(old) = self.connections.rows.row(self.cursor) else { return };
        if !old.is(mark::STRAY) {
            self.connections.rows.advance(&mut self.cursor);
            return;
        }
        while let Some(row) = news.get(*next) {
            let number = first + *next;
            *next += 1;
            if !self.connections.claimed[number]
                && old.continues_as(&ConnectionFacts::read(snapshot, row, None))
            {
                *unclaimed -= 1;
                self.update_row(number, row);
                return;
            }
        }
        // Two connections never have the same 4-tuple: if there is another one, this one is over.
        if *unclaimed > 0 && !old.listens() { self.terminate() } else { self.absent() }
    }

    /// Updates the row at the cursor from the scan, and moves on.
    fn update_row(&mut self, number: usize, row: &ConnectionRow) {
        self.connections.claimed[number] = true;
        let mut owner = self.owner(number);
        let has_left = self.connections.rows.row(self.cursor).is_some_and(|old| self.has_left(old));
        let leaves_descriptors = self.leaves_descriptors();
        let Some(old) = self.connections.rows.row_mut(self.cursor) else { return };
        let is_reported = old.is(mark::REPORTED);
        if is_reported && owner.as_ref().is_some_and(|owner| self.holding.is_unannounced(owner)) {
            // The owner is set once its process has been reported: a full table may have room for
            // it only now.
            owner = None;
            self.waits = true;
        }
        let before = old.state;
        let snapshot = self.emitter.snapshot;
        // A light scan cannot describe its descriptor.
        let waits = has_left && snapshot.is_light;
        let state = TcpState::from_number(row.endpoints.state);
        if waits && is_reported && state.is_some_and(|state| state != before) {
            self.connections.waits_for_holder = true;
            self.waits = true;
            self.keep_row(number, row);
            return;
        }
        // Another holder may come after the owner, so it does not take its place.
        owner = if has_left { old.owner() } else { owner };
        let has_lost = leaves_descriptors && owner.is_none() && old.is(mark::DESCRIPTOR);
        self.connections.lost_holder |= has_lost;
        let descriptor = owner.map(|owner| owner.descriptor);
        old.refresh(&ConnectionFacts::read(snapshot, row, descriptor), owner);
        let is_changed = before != old.state;
        self.note_present(number, row);
        if !is_reported {
            self.waits = true;
            self.report_new(number);
        } else if is_changed {
            self.report_row(number, ConnectionChangeKind::StateChanged);
        }
        if !waits {
            self.report_measures(number);
        }
        match owner {
            Some(owner) => self.connections.ended.note_owner(owner.row),
            None => self.keep_ended_owner(),
        }
        self.connections.rows.advance(&mut self.cursor);
    }

    /// Notes that the scan shows the row at the cursor.
    fn note_present(&mut self, number: usize, row: &ConnectionRow) {
        let Some(old) = self.connections.rows.row_mut(self.cursor) else { return };
        old.address = row.address.0;
        old.set_present();
        old.seen_round = self.emitter.snapshot.chains_round;
        self.connections.first_seen_ns[number] = Some(old.first_seen.real);
    }

    /// Leaves the row at the cursor, which the scan shows, as it is.
    fn keep_row(&mut self, number: usize, row: &ConnectionRow) {
        self.note_present(number, row);
        if let Some(owner) = self.connections.rows.row(self.cursor).and_then(Connection::owner) {
            self.connections.ended.note_owner(owner.row);
        }
        self.connections.rows.advance(&mut self.cursor);
    }

    /// Keeps what is known of the owner of the row at the cursor, if that has ended.
    fn keep_ended_owner(&mut self) {
        let Connections { rows, ended, .. } = &mut *self.connections;
        if !ended.is_empty()
            && let Some(owner) = rows.row(self.cursor).and_then(Connection::owner)
        {
            ended.see(&owner.process);
        }
    }

    /// Reports exceeded thresholds and the status of the row at the cursor, if the row itself was
    /// reported.
    fn report_measures(&mut self, number: usize) {
        let from = self.connections.statuses_from;
        let row = self.connections.rows.row_mut(self.cursor);
        let Some(row) = row.filter(|row| row.is(mark::REPORTED)) else { return };
        let all = row.exceed(&self.thresholds, self.now);
        let mut is_due = false;
        if let Some(period_ns) = self.thresholds.status_period_ns
            && row.is_open()
            // Those that had to wait come first.
            && from.is_none_or(|from| row.tuple() >= from)
        {
            if self.statuses_left == 0 {
                self.statuses_next = self.statuses_next.or(Some(row.tuple()));
            } else {
                is_due = row.is_status_due(period_ns, self.now);
            }
        }
        for exceeded in all {
            self.report_row(number, ConnectionChangeKind::Exceeded(exceeded));
        }
        if is_due {
            self.statuses_left -= 1;
            self.report_row(number, ConnectionChangeKind::Status);
        }
    }

    fn create(&mut self, number: usize, row: &ConnectionRow) {
        self.connections.claimed[number] = true;
        let owner = self.owner(number);
        let facts =
            ConnectionFacts::read(self.emitter.snapshot, row, owner.map(|owner| owner.descriptor));
        let process = owner.as_ref().map(|owner| owner.row);
        if !self.connections.shares.admits(process, &facts) {
            self.connections.rows.refuse(1);
        } else if !self.connections.rows.has_room() {
            self.connections.shares.was_refused = true;
        }
        let refused = self.connections.rows.take_refused();
        if refused > 0 {
            let process = process.and_then(|row| self.holding.processes.get(row));
            self.lost.stand(refused.into(), process.map(Process::process_id));
            return;
        }
        self.waits = true;
        let returns = self.connections.shares.returns(&facts);
        let mut new = Connection::new(&facts, owner, self.emitter.now);
        (new.address, new.seen_round) = (row.address.0, self.emitter.snapshot.chains_round);
        // A process that started after watching did cannot have had the connection before.
        let existed = |owner: &ConnectionOwner| {
            self.holding.processes.get(owner.row).is_none_or(|process| process.life.existing)
        };
        let quiet = returns || self.quiet && owner.as_ref().is_none_or(existed);
        let is_reported = quiet || new.listens() || self.can_be_reported(&new);
        new.set(mark::REPORTED, is_reported);
        new.set(mark::PREEXISTING, quiet);
        let exceeded =
            if is_reported { new.exceed(&self.thresholds, self.now) } else { ArrayVec::new() };
        let Connections { rows, list, first_seen_ns, .. } = &mut *self.connections;
        if !rows.insert(list, &mut self.cursor, new) {
            return;
        }
        first_seen_ns[number] = Some(new.first_seen.real);
        if let Some(owner) = owner {
            self.connections.ended.note_owner(owner.row);
        }
        if is_reported && !new.listens() {
            if !quiet {
                self.report(&new, Some(number), ConnectionChangeKind::Created);
            }
            for exceeded in exceeded {
                self.report(&new, Some(number), ConnectionChangeKind::Exceeded(exceeded));
            }
        }
    }

    /// Reports the new row at the cursor, unless that waits for another scan.
    fn report_new(&mut self, number: usize) {
        let Some(row) = self.connections.rows.row_mut(self.cursor) else { return };
        let counts = self.emitter.snapshot.counts();
        row.unreported_scans = row.unreported_scans.saturating_add(counts);
        let copy = *row;
        let holders = self.connections.holders.of(Index::new(number));
        // A scan that left its owner's descriptors cannot describe the socket.
        let waits_for_owner = copy.is(mark::OWNER)
            && holders.is_empty()
            && self.leaves_descriptors()
            && u32::from(copy.unreported_scans) < LEFT_SCANS;
        if !waits_for_owner && self.can_be_reported(&copy) {
            if let Some(row) = self.connections.rows.row_mut(self.cursor) {
                row.set(mark::REPORTED, true);
            }
            self.report(&copy, Some(number), ConnectionChangeKind::Created);
        } else if self.leaves_descriptors() {
            self.connections.waits_for_holder = true;
        }
    }

    /// Whether the holder of a new connection is known or no longer expected. A connection has no
    /// holder until it is accepted; a holder is reported before it.
    fn can_be_reported(&self, new: &Connection) -> bool {
        match new.owner() {
            None => {
                let more = if self.leaves_descriptors() { LEFT_SCANS } else { 0 };
                let grace = self.connections.accept_grace_scans.saturating_add(more);
                u32::from(new.unreported_scans) >= grace.min(u8::MAX.into())
            }
            Some(owner) => !self.holding.is_unannounced(&owner),
        }
    }

    /// Whether the scan left descriptors of a connection's owner, which had one of it before.
    fn has_left(&self, old: &Connection) -> bool {
        if !self.leaves_descriptors() || !old.is(mark::DESCRIPTOR) {
            return false;
        }
        let snapshot = self.emitter.snapshot;
        let process = old.owner().and_then(|owner| {
            let process = self.holding.processes.get(owner.row)?;
            (process.key == owner.process).then(|| snapshot.processes.at(process.row()))?
        });
        let mut tables = process.into_iter().flat_map(|row| snapshot.files_structs_of(row));
        tables.any(|table| !table.complete)
    }

    /// Whether the scan left descriptors, so that holders may be missing.
    fn leaves_descriptors(&self) -> bool {
        let left = &self.emitter.snapshot.left;
        left.tables > 0 || left.files > 0
    }

    /// Handles a row that the scan does not show, and moves on.
    fn absent(&mut self) {
        let now = self.emitter.now;
        let Some(old) = self.connections.rows.row_mut(self.cursor) else { return };
        let snapshot = self.emitter.snapshot;
        // While chains take turns, its own may not have had one.
        let had_turn = !snapshot.chains_in_turn
            || snapshot.chains_round.wrapping_sub(old.seen_round) >= ABSENT_ROUNDS;
        let counts = if had_turn { snapshot.counts() } else { 0 };
        self.waits = true;
        old.unseen_scans = old.unseen_scans.saturating_add(counts);
        // Only the connection's network namespace decides. Another one must not keep it
        // permanently.
        if had_turn && self.complete && !self.cut.contains(&old.network_namespace) {
            old.absent_scans = old.absent_scans.saturating_add(counts);
            old.set_absent(now);
            // A connection that ended before its process was reported waits for that.
            let is_early = !old.is(mark::REPORTED)
                && old.owner().is_some_and(|it| self.holding.is_unannounced(&it));
            if old.absent_scans >= CONNECTION_ABSENT_SCANS && !is_early {
                self.terminate();
                return;
            }
        }
        self.keep_ended_owner();
        self.connections.rows.advance(&mut self.cursor);
    }

    /// Removes the row at the cursor.
    fn terminate(&mut self) {
        let Connections { rows, list, .. } = &mut *self.connections;
        let Some(mut old) = rows.remove(list, &mut self.cursor) else { return };
        old.set_absent(self.emitter.now);
        if !old.is(mark::REPORTED) {
            self.report(&old, None, ConnectionChangeKind::Created);
            for exceeded in old.exceed(&self.thresholds, self.now) {
                self.report(&old, None, ConnectionChangeKind::Exceeded(exceeded));
            }
        }
        if !old.listens() {
            self.report(&old, None, ConnectionChangeKind::Terminated);
        }
    }

    /// The owner of a connection of the scan, if its process is tracked.
    fn owner(&self, number: usize) -> Option<ConnectionOwner> {
        self.connections.holders.of(Index::new(number)).iter().find_map(|holder| {
            let row = self.holding.rows.get(holder.process.position()).copied().flatten()?;
            let process = self.holding.processes.get(row)?;
            let mut name = [0; 16];
            name.iter_mut().zip(process.name()).for_each(|(to, from)| *to = *from);
            let (descriptor, container) = (holder.descriptor, process.container_key());
            Some(ConnectionOwner { process: process.key, row, descriptor, container, name })
        })
    }

    fn report_row(&mut self, number: usize, kind: ConnectionChangeKind) {
        if let Some(&row) = self.connections.rows.row(self.cursor) {
            self.report(&row, Some(number), kind);
        }
    }

    /// Reports a connection with its owner, unless the owner itself was not reported yet. `number`
    /// is the connection's index in the scan.
    fn report(
        &mut self,
        connection: &Connection,
        number: Option<usize>,
        kind: ConnectionChangeKind,
    ) {
        let snapshot = self.emitter.snapshot;
        let mut connection = *connection;
        let mut owner = connection.owner();
        if owner.as_ref().is_some_and(|owner| self.holding.is_unannounced(owner)) {
            connection.clear_owner();
            owner = None;
        }
        let connection = &connection;
        let owner = owner.as_ref();
        let process = owner.and_then(|owner| {
            let process = self.holding.processes.get(owner.row);
            process.filter(|process| process.key == owner.process && !process.life.is_ended())
        });
        let ended = owner.filter(|_| process.is_none());
        let ended = ended.and_then(|owner| self.connections.ended.find(&owner.process));
        let holders =
            number.map_or(&[][..], |number| self.connections.holders.of(Index::new(number)));
        let descriptor = process.zip(owner).and_then(|(process, owner)| {
            let is_owner = |holder: &&Holder| {
                holder.process_id == process.process_id() && holder.descriptor == owner.descriptor
            };
            let holder = holders.iter().find(is_owner)?;
            let row = snapshot.descriptors.at(holder.descriptor_row)?;
            Some(DescriptorFacts::read_socket(snapshot, row, process.threads_of_table(snapshot)))
        });
        let change = ConnectionChange { connection, process, ended, descriptor, holders };
        let change = match kind {
            ConnectionChangeKind::Created => Change::ConnectionCreated(change),
            ConnectionChangeKind::StateChanged => Change::ConnectionStateChanged(change),
            ConnectionChangeKind::Terminated => Change::ConnectionTerminated(change),
            ConnectionChangeKind::Exceeded(exceeded) => {
                Change::ConnectionExceeded { change, exceeded }
            }
            ConnectionChangeKind::Status => Change::ConnectionStatus(change),
        };
        self.emitter.emit(&change);
    }
}

#[derive(Clone, Copy, Debug)]
enum ConnectionChangeKind {
    Created,
    StateChanged,
    Terminated,
    Exceeded(ExceededThreshold),
    Status,
}
