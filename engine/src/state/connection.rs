//! Tracked TCP sockets, one row for each connection all through its life.
//!
//! A connection is a socket's address and its 4-tuple; the sockets that the kernel puts in its place keep the
//! 4-tuple: the request socket before it (SYN_RECEIVED) and the one that waits after it (TIME_WAIT). Both
//! lists, ours and the scan's, are ordered by 4-tuple, so they are compared side by side.
//!
//! A scan follows chains that change under it and can miss a socket, so one that is absent once is waited
//! for; it is *terminated*, as of its first absence, when the next scan does not see it either. Nor are
//! chains read at one moment: a scan may show a socket and the small one that took its place, which is no
//! connection of its own.
//!
//! A connection that comes in is nobody's until it is accepted, so one that nobody holds yet is told of a
//! scan later, with who has it by then; and never before its process is.

use core::cmp::Ordering;
use core::net::{IpAddr, Ipv4Addr};

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::sock::{IPPROTO_TCP, TcpState};
use panoptes_decoders::layout::c_string;

use super::chains::{Chains, Cursor, END};
use super::change::{Change, ConnectionChange};
use super::container::ContainerKey;
use super::facts::{ConnectionFacts, DescriptorFacts};
use super::holders::{Holder, Holders};
use super::measure::{Clocks, ConnectionThresholds, Exceeded, Measures, is_open};
use super::process::{Process, ProcessKey};
use super::table::{RowId, Table};
use super::{Telling, tell};
use crate::limits::Limits;
use crate::walk::ConnectionRow;

/// One tracked connection, or socket that listens.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is another thing about it")]
pub struct Connection {
    /// What the last scan that saw it says.
    pub facts: ConnectionFacts,
    /// When it was first seen, in nanoseconds since 1970.
    pub first_seen_ns: i64,
    /// When it was first absent, if it is.
    pub absent_since_ns: Option<i64>,
    /// Who held it last.
    pub owner: Option<Owner>,
    /// Whether it was there when we came, so that it began at an unknown time before `first_seen_ns`.
    pub was_there: bool,
    measures: Measures,
    address: u64,
    absent_scans: u32,
    /// Whether it was told of, or taken in silently.
    told: bool,
    /// In how many scans it was seen before that.
    untold_scans: u32,
    /// Whether its socket is the small one that waits when the connection is over for its process.
    waits: bool,
    /// Whether its group's pass has not met it yet.
    stray: bool,
}

/// Who holds a connection: the lowest descriptor of the lowest process, when there are several.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// Which process.
    pub process: ProcessKey,
    /// The row that it had.
    row: RowId,
    /// Which of its descriptors.
    pub descriptor: u32,
    /// The container that it is in.
    pub container: Option<ContainerKey>,
    name: [u8; 16],
}

impl Owner {
    /// What it was called.
    pub fn name(&self) -> &[u8] {
        c_string(&self.name)
    }
}

impl Default for Connection {
    fn default() -> Self {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            facts: ConnectionFacts {
                protocol: IPPROTO_TCP,
                state: TcpState::Closed,
                source: nowhere,
                source_port: 0,
                destination: nowhere,
                destination_port: 0,
                bound_device: 0,
                route_device: 0,
                counters: None,
                network_namespace: 0,
                descriptor: None,
            },
            first_seen_ns: 0,
            absent_since_ns: None,
            owner: None,
            was_there: false,
            measures: Measures::default(),
            address: 0,
            absent_scans: 0,
            told: false,
            untold_scans: 0,
            waits: false,
            stray: false,
        }
    }
}

/// In how many scans in a row a connection must be absent to be gone.
const ABSENT_SCANS_MAX: u32 = 2;
/// Among how many sockets of one 4-tuple the one that a small socket stands for is looked for: they are one
/// or two in each network namespace, and a crowd of them costs no more than its number.
const TWINS_MAX: usize = 64;
/// Of how many connections one scan tells the status: of a crowd that is due at once the rest follow in the next
/// scans, so that the records find room on their way out, and are spread for good.
const STATUSES_MAX: u32 = 256;

type Tuple = (IpAddr, u16, IpAddr, u16);

fn tuple_of(facts: &ConnectionFacts) -> Tuple {
    (facts.source, facts.source_port, facts.destination, facts.destination_port)
}

fn tuple_of_row(row: &ConnectionRow) -> Tuple {
    let ends = &row.endpoints;
    (ends.source, ends.source_port, ends.destination, ends.destination_port)
}

fn listens(row: &ConnectionRow) -> bool {
    TcpState::from_number(row.endpoints.state) == Some(TcpState::Listen)
}

/// Whether a socket is an `inet_timewait_sock`: those have no counters, and say FIN_WAIT_2 or TIME_WAIT.
fn waits(facts: &ConnectionFacts) -> bool {
    facts.state == TcpState::TimeWait
        || facts.state == TcpState::FinWait2 && facts.counters.is_none()
}

/// Whether a socket of the scan is one of the small ones that stand for a full one before and after it.
fn is_small(row: &ConnectionRow) -> bool {
    let state = TcpState::from_number(row.endpoints.state);
    row.counters.is_none()
        && matches!(state, Some(TcpState::TimeWait | TcpState::FinWait2 | TcpState::SynReceived))
}

impl Connection {
    fn listens(&self) -> bool {
        self.facts.state == TcpState::Listen
    }

    /// Whether something can still go over it; what waits when it is over does not count.
    fn is_open(&self) -> bool {
        is_open(self.facts.state) && !self.waits
    }

    /// What it has come to that was not told yet.
    fn exceed(
        &mut self,
        thresholds: &ConnectionThresholds,
        clocks: &Clocks,
    ) -> ArrayVec<Exceeded, 3> {
        if self.listens() {
            return ArrayVec::new();
        }
        let is_open = self.is_open();
        self.measures.exceed(thresholds, self.facts.counters, is_open, clocks)
    }

    /// Whether a socket of the same 4-tuple at another address is this connection's next.
    fn goes_on_as(&self, next: &ConnectionFacts) -> bool {
        self.facts.network_namespace == next.network_namespace
            && !self.listens()
            && next.state != TcpState::Listen
            && !self.waits
            && (waits(next) || self.facts.state == TcpState::SynReceived)
    }

    /// Whether the socket at this address is another connection: it begins again, or has counted less.
    fn was_replaced_by(&self, next: &ConnectionFacts) -> bool {
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

/// All connections, and what is needed to compare them, in memory allocated at start.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) rows: Chains<Connection>,
    head: u32,
    /// Whether a row of the scan has been found again or is tracked now, by its index.
    claimed: Box<[bool]>,
    /// When each row of the scan that is tracked was first seen.
    first_seen_ns: Box<[Option<i64>]>,
    pub(super) holders: Holders,
    accept_grace_scans: u32,
    pub(super) thresholds: ConnectionThresholds,
    /// From which connection on statuses are told in the next scan: all before had their turn.
    statuses_from: Option<Tuple>,
}

/// What connections are told against.
pub(super) struct Holding<'a> {
    pub(super) processes: &'a Table<Process>,
    /// Row of each process of the scan.
    pub(super) rows: &'a [Option<RowId>],
}

impl Holding<'_> {
    /// Whether a process is tracked that was not told of yet.
    fn is_unannounced(&self, owner: &Owner) -> bool {
        self.processes
            .get(owner.row)
            .is_some_and(|process| process.key == owner.process && !process.life.announced)
    }
}

impl Connections {
    pub(super) fn new(limits: &Limits, accept_grace_scans: u32) -> Self {
        Self {
            accept_grace_scans,
            thresholds: ConnectionThresholds::default(),
            rows: Chains::new(limits.connections as usize),
            head: END,
            claimed: vec![false; limits.connections_seen_max()].into_boxed_slice(),
            first_seen_ns: vec![None; limits.connections_seen_max()].into_boxed_slice(),
            holders: Holders::new(limits),
            statuses_from: None,
        }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.head = END;
    }

    /// When a connection of the last scan was first seen, by its index there, if it is tracked.
    pub(super) fn first_seen_ns(&self, index: u32) -> Option<i64> {
        self.first_seen_ns.get(index as usize).copied().flatten()
    }

    /// Compares all connections with those of the last scan; `quiet` when all that is new was there
    /// before we came.
    pub(super) fn update(&mut self, holding: &Holding<'_>, quiet: bool, telling: &mut Telling<'_>) {
        let snapshot = telling.snapshot;
        self.holders.find(snapshot);
        let complete = snapshot.losses.unbounded == 0 && snapshot.connections.dropped == 0;
        let news = &snapshot.connections[..snapshot.connections.len().min(self.claimed.len())];
        self.claimed[..news.len()].fill(false);
        self.first_seen_ns[..news.len()].fill(None);
        let machine = &snapshot.machine;
        let boot_ns = machine.calendar_ns.zip(machine.boot_to_real_ns);
        let boot_ns = boot_ns.map(|(calendar, offset)| calendar.saturating_sub(offset));
        let mut pass = Pass {
            cursor: Chains::<Connection>::start(self.head),
            clocks: Clocks { now_ns: telling.now_ns, boot_ns },
            thresholds: self.thresholds,
            statuses_left: STATUSES_MAX,
            statuses_next: None,
            connections: self,
            holding,
            telling,
            complete,
            quiet,
        };
        let mut start = 0;
        while let Some(row) = news.get(start) {
            let tuple = tuple_of_row(row);
            let count = news[start..].iter().take_while(|row| tuple_of_row(row) == tuple).count();
            pass.absent_before(&tuple);
            pass.group(&tuple, start, &news[start..start + count]);
            start += count;
        }
        pass.absent_to_end();
        let next = pass.statuses_next;
        self.statuses_from = next;
    }
}

struct Pass<'a, 't> {
    connections: &'a mut Connections,
    cursor: Cursor,
    holding: &'a Holding<'a>,
    telling: &'a mut Telling<'t>,
    complete: bool,
    quiet: bool,
    clocks: Clocks,
    thresholds: ConnectionThresholds,
    statuses_left: u32,
    /// The first connection that is due and has to wait for the next scan.
    statuses_next: Option<Tuple>,
}

impl Pass<'_, '_> {
    fn order(&self, tuple: &Tuple) -> Option<Ordering> {
        self.connections.rows.row(self.cursor).map(|row| tuple_of(&row.facts).cmp(tuple))
    }

    fn absent_before(&mut self, tuple: &Tuple) {
        while self.order(tuple) == Some(Ordering::Less) {
            self.absent();
        }
    }

    fn absent_to_end(&mut self) {
        while self.connections.rows.row(self.cursor).is_some() {
            self.absent();
        }
    }

    /// Compares the sockets of one 4-tuple: one, nearly always. `first` is the index of the first of
    /// `news` in the scan; they are ordered by address.
    fn group(&mut self, tuple: &Tuple, first: usize, news: &[ConnectionRow]) {
        let start = self.cursor;
        let mut strays = false;
        while self.order(tuple) == Some(Ordering::Equal) {
            strays |= !self.find_by_address(first, news);
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
        for small in [false, true] {
            for (number, row) in news.iter().enumerate() {
                if !self.connections.claimed[first + number]
                    && is_small(row) == small
                    && !(small && self.stands_for_another(row, first, news))
                {
                    self.create(first + number, row);
                }
            }
        }
    }

    /// Whether the connection of a small socket is tracked under another one that is still there; when
    /// that has gone, the next scan finds this one in its place.
    fn stands_for_another(
        &self,
        small: &ConnectionRow,
        first: usize,
        news: &[ConnectionRow],
    ) -> bool {
        news.iter().zip(&self.connections.claimed[first..]).take(TWINS_MAX).any(|(row, claimed)| {
            *claimed && !listens(row) && row.network_namespace == small.network_namespace
        })
    }

    /// Finds the row at the cursor among `news` by its address, and goes on; `false` when it is not there.
    fn find_by_address(&mut self, first: usize, news: &[ConnectionRow]) -> bool {
        let Some(old) = self.connections.rows.row_mut(self.cursor) else { return true };
        let found = news
            .binary_search_by_key(&old.address, |row| row.address.0)
            .ok()
            .filter(|&number| !old.was_replaced_by(&ConnectionFacts::read(&news[number], None)));
        old.stray = found.is_none();
        match found {
            Some(number) => self.go_on(first + number, &news[number]),
            None => self.connections.rows.advance(&mut self.cursor),
        }
        found.is_some()
    }

    /// Finds what a stray row at the cursor goes on as, and goes on; else it is absent.
    fn find_next_life(
        &mut self,
        first: usize,
        news: &[ConnectionRow],
        next: &mut usize,
        unclaimed: &mut usize,
    ) {
        let Some(old) = self.connections.rows.row(self.cursor) else { return };
        if !old.stray {
            self.connections.rows.advance(&mut self.cursor);
            return;
        }
        while let Some(row) = news.get(*next) {
            let number = first + *next;
            *next += 1;
            if !self.connections.claimed[number]
                && old.goes_on_as(&ConnectionFacts::read(row, None))
            {
                *unclaimed -= 1;
                self.go_on(number, row);
                return;
            }
        }
        // Two connections never have the same 4-tuple: where there is another, this one is over.
        if *unclaimed > 0 && !old.listens() { self.terminate() } else { self.absent() }
    }

    /// Takes in what the scan says now of the row at the cursor, and goes on.
    fn go_on(&mut self, number: usize, row: &ConnectionRow) {
        self.connections.claimed[number] = true;
        let mut owner = self.owner(number);
        let Some(old) = self.connections.rows.row_mut(self.cursor) else { return };
        if old.told && owner.as_ref().is_some_and(|owner| self.holding.is_unannounced(owner)) {
            // It is adopted when it has been told of: a table that was full may have room for it only now.
            owner = None;
        }
        let before = old.facts.state;
        let (counters, route_device) = (old.facts.counters, old.facts.route_device);
        old.facts = ConnectionFacts::read(row, owner.map(|owner| owner.descriptor));
        old.waits = waits(&old.facts);
        // What waits has no counters: those of the connection stay.
        old.facts.counters = old.facts.counters.or(counters);
        if old.facts.route_device == 0 {
            old.facts.route_device = route_device;
        }
        old.address = row.address.0;
        self.connections.first_seen_ns[number] = Some(old.first_seen_ns);
        old.absent_since_ns = None;
        old.absent_scans = 0;
        old.stray = false;
        old.owner = owner.or(old.owner);
        if !old.told {
            self.tell_of_new(number);
        } else if before != old.facts.state {
            self.tell_of_row(number, Kind::StateChanged);
        }
        self.tell_of_measures(number);
        self.connections.rows.advance(&mut self.cursor);
    }

    /// Tells of what the row at the cursor has come to, if it was told of itself.
    fn tell_of_measures(&mut self, number: usize) {
        let from = self.connections.statuses_from;
        let Some(row) = self.connections.rows.row_mut(self.cursor).filter(|row| row.told) else {
            return;
        };
        let all = row.exceed(&self.thresholds, &self.clocks);
        let tuple = tuple_of(&row.facts);
        let mut is_due = false;
        if let Some(period_ns) = self.thresholds.status_period_ns
            && row.is_open()
            // Those that had to wait come first.
            && from.is_none_or(|from| tuple >= from)
        {
            if self.statuses_left == 0 {
                self.statuses_next = self.statuses_next.or(Some(tuple));
            } else {
                is_due = row.measures.is_status_due(period_ns, self.clocks.now_ns);
            }
        }
        for exceeded in all {
            self.tell_of_row(number, Kind::Exceeded(exceeded));
        }
        if is_due {
            self.statuses_left -= 1;
            self.tell_of_row(number, Kind::Status);
        }
    }

    fn create(&mut self, number: usize, row: &ConnectionRow) {
        self.connections.claimed[number] = true;
        let owner = self.owner(number);
        let facts = ConnectionFacts::read(row, owner.map(|owner| owner.descriptor));
        let mut new = Connection {
            facts,
            first_seen_ns: self.telling.now_ns,
            absent_since_ns: None,
            owner,
            was_there: false,
            measures: Measures::new(self.clocks),
            address: row.address.0,
            absent_scans: 0,
            told: true,
            untold_scans: 0,
            waits: waits(&facts),
            stray: false,
        };
        // Whoever came later than we cannot have had it before.
        let existed = |owner: &Owner| {
            self.holding.processes.get(owner.row).is_none_or(|process| process.life.existing)
        };
        let quiet = self.quiet && new.owner.as_ref().is_none_or(existed);
        new.told = quiet || new.listens() || self.can_be_told(&new);
        new.was_there = quiet;
        let exceeded =
            if new.told { new.exceed(&self.thresholds, &self.clocks) } else { ArrayVec::new() };
        let Connections { rows, head, first_seen_ns, .. } = &mut *self.connections;
        if !rows.insert(head, &mut self.cursor, new) {
            return;
        }
        first_seen_ns[number] = Some(new.first_seen_ns);
        if new.told && !new.listens() {
            if !quiet {
                self.tell(&new, Some(number), Kind::Created);
            }
            for exceeded in exceeded {
                self.tell(&new, Some(number), Kind::Exceeded(exceeded));
            }
        }
    }

    /// Tells of the row at the cursor, which is new, unless that waits for another scan.
    fn tell_of_new(&mut self, number: usize) {
        let Some(row) = self.connections.rows.row_mut(self.cursor) else { return };
        row.untold_scans = row.untold_scans.saturating_add(1);
        let copy = *row;
        if self.can_be_told(&copy) {
            if let Some(row) = self.connections.rows.row_mut(self.cursor) {
                row.told = true;
            }
            self.tell(&copy, Some(number), Kind::Created);
        }
    }

    /// Whether it is known whose a new connection is, or not to be expected any more. One that is not
    /// accepted yet is nobody's; whoever holds it is told of first.
    fn can_be_told(&self, new: &Connection) -> bool {
        match &new.owner {
            None => new.untold_scans >= self.connections.accept_grace_scans,
            Some(owner) => !self.holding.is_unannounced(owner),
        }
    }

    /// Goes past a row that the scan does not show.
    fn absent(&mut self) {
        let now_ns = self.telling.now_ns;
        let Some(old) = self.connections.rows.row_mut(self.cursor) else { return };
        if self.complete {
            old.absent_scans += 1;
            old.absent_since_ns.get_or_insert(now_ns);
            // One that ended before its process was told of waits for that.
            let is_early =
                !old.told && old.owner.as_ref().is_some_and(|it| self.holding.is_unannounced(it));
            if old.absent_scans >= ABSENT_SCANS_MAX && !is_early {
                self.terminate();
                return;
            }
        }
        self.connections.rows.advance(&mut self.cursor);
    }

    /// Takes the row at the cursor out.
    fn terminate(&mut self) {
        let Connections { rows, head, .. } = &mut *self.connections;
        let Some(mut old) = rows.remove(head, &mut self.cursor) else { return };
        old.absent_since_ns.get_or_insert(self.telling.now_ns);
        if !old.told {
            self.tell(&old, None, Kind::Created);
            for exceeded in old.exceed(&self.thresholds, &self.clocks) {
                self.tell(&old, None, Kind::Exceeded(exceeded));
            }
        }
        if !old.listens() {
            self.tell(&old, None, Kind::Terminated);
        }
    }

    /// The owner of a connection of the scan, if its process is tracked.
    fn owner(&self, number: usize) -> Option<Owner> {
        self.connections.holders.of(number as u32).iter().find_map(|holder| {
            let row = self.holding.rows.get(holder.process as usize).copied().flatten()?;
            let process = self.holding.processes.get(row)?;
            let mut name = [0; 16];
            name.iter_mut().zip(process.name()).for_each(|(to, from)| *to = *from);
            let (descriptor, container) = (holder.descriptor, process.container_key());
            Some(Owner { process: process.key, row, descriptor, container, name })
        })
    }

    fn tell_of_row(&mut self, number: usize, kind: Kind) {
        if let Some(&row) = self.connections.rows.row(self.cursor) {
            self.tell(&row, Some(number), kind);
        }
    }

    /// Tells of a connection with what is known of its owner, unless that was not told of itself. `number` is the
    /// connection's index in the scan.
    fn tell(&mut self, connection: &Connection, number: Option<usize>, kind: Kind) {
        let snapshot = self.telling.snapshot;
        let mut connection = *connection;
        if connection.owner.as_ref().is_some_and(|owner| self.holding.is_unannounced(owner)) {
            (connection.owner, connection.facts.descriptor) = (None, None);
        }
        let connection = &connection;
        let owner = connection.owner.as_ref();
        let process = owner.and_then(|owner| {
            self.holding.processes.get(owner.row).filter(|process| process.key == owner.process)
        });
        let holders = number.map_or(&[][..], |number| self.connections.holders.of(number as u32));
        let descriptor = process.zip(owner).and_then(|(process, owner)| {
            let is_owner = |holder: &&Holder| {
                holder.process_id == process.process_id() && holder.descriptor == owner.descriptor
            };
            let holder = holders.iter().find(is_owner)?;
            let row = snapshot.descriptors.at(holder.descriptor_row)?;
            Some(DescriptorFacts::read_socket(snapshot, row, process.threads_of_table(snapshot)))
        });
        let change = ConnectionChange { connection, process, descriptor, holders };
        let change = match kind {
            Kind::Created => Change::ConnectionCreated(change),
            Kind::StateChanged => Change::ConnectionStateChanged(change),
            Kind::Terminated => Change::ConnectionTerminated(change),
            Kind::Exceeded(exceeded) => Change::ConnectionExceeded { change, exceeded },
            Kind::Status => Change::ConnectionStatus(change),
        };
        tell!(self.telling, change);
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Created,
    StateChanged,
    Terminated,
    Exceeded(Exceeded),
    Status,
}
