//! Incidents: which records belong to one act.
//!
//! An alert of severity HIGH about a process begins an incident, unless the process already belongs
//! to one. The `message_id` of that alert is the incident's id. These belong to the incident:
//!
//! * the processes that the alert is about;
//! * what they start from then on, what they have started before, and so on. Of a reverse shell's
//!   processes, what the interpreter and the holders of its connection start; a terminal
//!   multiplexer that only relays also starts what others ask for;
//! * a reverse shell's connection.
//!
//! Later records about any of these have the incident's id. A process that was moved to process 1
//! before a scan saw its parent is not recognised.
//!
//! The first alert lists earlier records. So for each process the ids of a few records are kept:
//! its first one, and the last ones about its programs, connections, kernel modules, programs of
//! eBPF and alerts.

#[cfg(test)]
mod tests;

use core::net::IpAddr;

use arrayvec::ArrayVec;
use panoptes_records::activities::Activity;
use panoptes_records::record::message_id::OWN_BYTES;
use panoptes_records::record::value::Uuid;
use panoptes_tables::{HashKey, Key as _, Row, RowId, ScanNumber, Table};

use crate::limits::Limits;
use crate::state::container::ContainerKey;
use crate::state::facts::ConnectionFacts;
use crate::state::process::ProcessKey;
use crate::time::Monotonic;
use crate::walk::Snapshot;

/// Maximum number of incidents. A further one takes the place of one of those users or containers
/// that have most.
const INCIDENTS_MAX: usize = 128;
/// Number of message ids that are kept of each process.
const IDS: usize = 4;
/// Maximum number of earlier records in an alert.
pub(super) const EARLIER_MAX: usize = 32;
/// How long a process is remembered after its end: alerts about it may follow.
const ENDED_NS: i64 = 2_000_000_000;
/// The same of a process of an incident: its files are hashed before they are reported.
const ENDED_OF_INCIDENT_NS: i64 = 30_000_000_000;
const _: () = assert!(ENDED_NS < ENDED_OF_INCIDENT_NS, "an incident keeps processes for longer");
/// Number of rows that each scan checks for ended processes.
const ROWS_A_SCAN: u32 = 64;
/// Time between two searches for room.
const SEARCH_NS: i64 = 1_000_000_000;
/// The processes up to this one, init and kthreadd, start everything else.
const KTHREADD: u32 = 2;
/// Maximum number of generations below the processes of an alert, when it begins an incident.
const INCIDENT_GENERATIONS_MAX: usize = 16;

/// A process of an alert, and whether what it starts belongs to the same act.
#[derive(Clone, Copy, Debug)]
pub(super) struct Party {
    pub(super) process: ProcessKey,
    pub(super) includes_children: bool,
}

/// The part of a message id that differs between records.
type Id = [u8; OWN_BYTES];

/// A remembered process.
#[derive(Clone, Debug)]
struct IncidentProcess {
    process: ProcessKey,
    /// Number of its incident; 0 if it belongs to none.
    incident: u32,
    includes_children: bool,
    /// When it ended.
    ended: Option<Monotonic>,
    ids: ArrayVec<Id, IDS>,
}

impl Row for IncidentProcess {
    type Key = ProcessKey;

    fn key(&self) -> ProcessKey {
        self.process
    }
}

#[derive(Clone, Copy, Debug)]
struct Incident {
    id: Uuid,
    /// Never used again.
    number: u32,
    /// Hash of the container or of the user that caused it.
    owner: u64,
    /// Hash of its connection, or 0.
    connection: u64,
    last_used: Monotonic,
}

/// The incidents of one machine, and their processes.
#[derive(Debug)]
pub(super) struct Incidents {
    processes: Table<IncidentProcess>,
    list: ArrayVec<Incident, INCIDENTS_MAX>,
    last_number: u32,
    key: HashKey,
    now: Monotonic,
    next_row: u32,
    /// When room was last searched for.
    searched: Option<Monotonic>,
}

impl Incidents {
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        let key = key.derive("incidents");
        // Those that have just ended are kept too.
        let processes = limits.processes as usize * 5 / 4 + 16;
        Self {
            processes: Table::without_scans(processes, key),
            list: ArrayVec::new(),
            last_number: 0,
            key,
            now: Monotonic::default(),
            next_row: 0,
            searched: None,
        }
    }

    /// Notes that a scan begins, and forgets some of the processes that have ended.
    pub(super) fn note_time(&mut self, now: Monotonic) {
        self.now = now;
        for _ in 0..ROWS_A_SCAN.min(self.processes.end()) {
            let id = RowId(self.next_row);
            self.next_row = if id.0 + 1 < self.processes.end() { id.0 + 1 } else { 0 };
            let is_over = self.processes.get(id).is_some_and(|known| {
                let most = if known.incident == 0 { ENDED_NS } else { ENDED_OF_INCIDENT_NS };
                known.ended.is_some_and(|ended| now.since(ended) >= most)
            });
            if is_over {
                self.processes.remove(id);
            }
        }
    }

    /// Notes a process that has begun: whether it belongs to its parent's incident.
    pub(super) fn note_beginning(&mut self, snapshot: &Snapshot, process: ProcessKey) {
        if self.list.is_empty() {
            return;
        }
        let row = snapshot.process_by_pid(process.process_id);
        let Some(parent) = row.and_then(|row| key_of(snapshot, row.parent_pid)) else { return };
        let parent = self.known(parent).filter(|parent| parent.includes_children);
        if let Some(number) = parent.map(|parent| parent.incident).filter(|&number| number != 0) {
            self.join(snapshot, Party { process, includes_children: true }, number);
        }
    }

    /// Notes that a process has ended.
    pub(super) fn note_end(&mut self, process: ProcessKey) {
        let now = self.now;
        if let Some(known) = self.known_mut(process) {
            known.ended = Some(now);
        }
    }

    /// Notes that a record about a process was written. Some activities have alerts and events.
    pub(super) fn note_record(
        &mut self,
        snapshot: &Snapshot,
        process: ProcessKey,
        (activity, is_alert): (Activity, bool),
        id: Uuid,
    ) {
        let is_kept = matches!(
            activity,
            Activity::ProcessCreated
                | Activity::ProcessExecuted
                | Activity::NetworkConnectionCreated
                | Activity::KernelModuleLoaded
                | Activity::EbpfProgramLoaded
        );
        if !is_kept && !is_alert {
            return;
        }
        let mut own = Id::default();
        own.copy_from_slice(&id.0[..OWN_BYTES]);
        if let Some(known) = self.row(snapshot, process) {
            if known.ids.is_full() {
                known.ids.remove(1); // the first one stays
            }
            known.ids.push(own);
        }
    }

    /// The incident to which one of these processes or the connection belongs.
    pub(super) fn find(
        &mut self,
        processes: impl IntoIterator<Item = ProcessKey>,
        connection: Option<&ConnectionFacts>,
    ) -> Option<Uuid> {
        if self.list.is_empty() {
            return None;
        }
        let numbers = processes.into_iter().filter_map(|process| {
            self.known(process).map(|known| known.incident).filter(|&number| number != 0)
        });
        let by_process = numbers.max().and_then(|number| self.place(number));
        let place = by_process.or_else(|| {
            let hash = self.hash(connection?);
            self.list.iter().position(|incident| incident.connection == hash)
        })?;
        self.list[place].last_used = self.now;
        Some(self.list[place].id)
    }

    /// Adds the processes and the connection of an alert, and what those processes have started, to
    /// the incident with this id, which may be new. `container` is the last process's.
    pub(super) fn add(
        &mut self,
        snapshot: &Snapshot,
        id: Uuid,
        parties: &[Party],
        container: Option<ContainerKey>,
        connection: Option<&ConnectionFacts>,
    ) {
        let connection = connection.map(|connection| self.hash(connection));
        let found = self.list.iter_mut().find(|incident| incident.id == id);
        let number = if let Some(incident) = found {
            incident.connection = connection.unwrap_or(incident.connection);
            incident.number
        } else {
            let owner = self.owner_of(snapshot, parties.last(), container);
            self.make_room_for_incident();
            self.last_number = self.last_number.checked_add(1).unwrap_or(1);
            let (number, connection) = (self.last_number, connection.unwrap_or(0));
            self.list.push(Incident { id, number, owner, connection, last_used: self.now });
            number
        };
        let mut is_new = false;
        for &party in parties.iter().filter(|party| party.process.process_id > KTHREADD) {
            is_new |= self.join(snapshot, party, number) && party.includes_children;
        }
        for _ in 0..INCIDENT_GENERATIONS_MAX {
            if !is_new {
                return;
            }
            is_new = self.add_children(snapshot, number);
        }
    }

    /// Adds the children of an incident's processes; returns whether there were any new ones.
    fn add_children(&mut self, snapshot: &Snapshot, number: u32) -> bool {
        // A set that may have too many, because most processes are nobody's children.
        let mut parents = [0_u64; 64];
        let is_in = |known: &IncidentProcess| known.incident == number && known.includes_children;
        for id in self.processes.ids() {
            if let Some(known) = self.processes.get(id).filter(|known| is_in(known)) {
                let bit = known.process.process_id as usize % 4096;
                parents[bit / 64] |= 1 << (bit % 64);
            }
        }
        let mut has_new = false;
        for process in snapshot.processes.iter() {
            let bit = process.parent_pid as usize % 4096;
            if parents[bit / 64] >> (bit % 64) & 1 == 0 {
                continue;
            }
            let parent = key_of(snapshot, process.parent_pid);
            let is_child = parent.and_then(|parent| self.known(parent)).is_some_and(is_in);
            let own = snapshot.leader(process).map(|leader| ProcessKey::of(&leader.task));
            if let Some(process) = own.filter(|_| is_child)
                && self.known(process).is_none_or(|known| known.incident == 0)
            {
                has_new |= self.join(snapshot, Party { process, includes_children: true }, number);
            }
        }
        has_new
    }

    /// The ids of records about these processes, the oldest first. `id` is one of the same writer.
    pub(super) fn earlier(&self, parties: &[Party], id: Uuid) -> ArrayVec<Uuid, EARLIER_MAX> {
        let mut earlier = ArrayVec::new();
        let known = parties.iter().rev().filter_map(|party| self.known(party.process));
        for own in known.flat_map(|known| &known.ids) {
            let mut whole = id;
            whole.0[..OWN_BYTES].copy_from_slice(own);
            let _ = earlier.try_push(whole);
        }
        earlier.sort_unstable_by_key(|id: &Uuid| id.0);
        earlier
    }

    /// Forgets a connection that has ended: its ports may be used again.
    pub(super) fn end_connection(&mut self, connection: &ConnectionFacts) {
        if self.list.is_empty() {
            return;
        }
        let hash = self.hash(connection);
        for incident in self.list.iter_mut().filter(|one| one.connection == hash) {
            incident.connection = 0;
        }
    }

    /// Adds a process to an incident; returns whether that changed anything.
    fn join(&mut self, snapshot: &Snapshot, party: Party, number: u32) -> bool {
        let Some(known) = self.row(snapshot, party.process) else { return false };
        let before = (known.incident, known.includes_children);
        known.incident = number;
        known.includes_children |= party.includes_children;
        before != (known.incident, known.includes_children)
    }

    fn known(&self, process: ProcessKey) -> Option<&IncidentProcess> {
        self.processes.get(self.processes.find(&process)?)
    }

    fn known_mut(&mut self, process: ProcessKey) -> Option<&mut IncidentProcess> {
        self.processes.get_mut(self.processes.find(&process)?)
    }

    /// The row of a process, which may be new; `None` if there is no room.
    fn row(&mut self, snapshot: &Snapshot, process: ProcessKey) -> Option<&mut IncidentProcess> {
        let found = self.processes.find(&process).or_else(|| {
            if self.processes.len() == self.processes.capacity() {
                self.make_room(snapshot);
            }
            let (incident, includes_children, ended) = (0, false, None);
            let ids = ArrayVec::new();
            let known = IncidentProcess { process, incident, includes_children, ended, ids };
            self.processes.insert(known, ScanNumber::default())
        })?;
        self.processes.get_mut(found)
    }

    /// Forgets all processes that have ended, also those of which nobody reported the end.
    fn make_room(&mut self, snapshot: &Snapshot) {
        let is_due = self.searched.is_none_or(|last| self.now.since(last) >= SEARCH_NS);
        if !is_due {
            return;
        }
        self.searched = Some(self.now);
        for number in 0..self.processes.end() {
            let id = RowId(number);
            let is_over = self.processes.get(id).is_some_and(|known| {
                known.ended.is_some()
                    || key_of(snapshot, known.process.process_id) != Some(known.process)
            });
            if is_over {
                self.processes.remove(id);
            }
        }
    }

    /// Removes the least recently used incident of an owner that has most, if there is no room.
    fn make_room_for_incident(&mut self) {
        if !self.list.is_full() {
            return;
        }
        let count = |owner| self.list.iter().filter(|one| one.owner == owner).count();
        let age = |incident: &Incident| self.now.since(incident.last_used);
        let rank = |(_, one): &(usize, &Incident)| (count(one.owner), age(one));
        let oldest = self.list.iter().enumerate().max_by_key(rank).map(|(place, _)| place);
        if let Some(place) = oldest {
            let number = self.list.swap_remove(place).number;
            for row in 0..self.processes.end() {
                let known = self.processes.get_mut(RowId(row));
                if let Some(known) = known.filter(|known| known.incident == number) {
                    known.incident = 0;
                    known.includes_children = false;
                }
            }
        }
    }

    /// A hash of a process's container, or else of its user.
    fn owner_of(
        &self,
        snapshot: &Snapshot,
        party: Option<&Party>,
        container: Option<ContainerKey>,
    ) -> u64 {
        if let Some(container) = container {
            return container.hash(self.key);
        }
        let row = party.and_then(|party| snapshot.process_by_pid(party.process.process_id));
        let user = row.and_then(|row| row.ids).map(|ids| ids.uid);
        self.key.hash_numbers([user.map_or(u64::MAX, u64::from)])
    }

    fn place(&self, number: u32) -> Option<usize> {
        self.list.iter().position(|incident| incident.number == number)
    }

    /// A hash of a connection's ends; not 0.
    fn hash(&self, connection: &ConnectionFacts) -> u64 {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
        let [a, b] = halves(bits(connection.source));
        let [c, d] = halves(bits(connection.destination));
        let ports =
            u64::from(connection.source_port) << 16 | u64::from(connection.destination_port);
        let place = u64::from(connection.network_namespace) << 16 | u64::from(connection.protocol);
        self.key.hash_numbers([a, b, c, d, ports, place]).max(1)
    }
}

fn key_of(snapshot: &Snapshot, process_id: u32) -> Option<ProcessKey> {
    let process = snapshot.process_by_pid(process_id)?;
    Some(ProcessKey::of(&snapshot.leader(process)?.task))
}
