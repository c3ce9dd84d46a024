//! Tracked containers: their attributes and their progress.
//!
//! A container exists as long as it, or a container inside it, has a living process. It is
//! identified by the path of its control group. If the path is reused after all its processes
//! ended, that is another container.

use core::mem;
use core::net::{IpAddr, Ipv6Addr};

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::container::{Maker, Runtime};

pub(crate) use super::described::CONTAINER_ID_BYTES;
use super::described::{CONTAINER_NAME_BYTES, set_reserved};
pub use super::keys::ContainerKey;
use super::keys::ProcessKey;
use super::process::Process;
use crate::limits::Limits;
use crate::time::Monotonic;
use crate::walk::{ContainerRow, Index, ProcessRow, Snapshot};
use panoptes_tables::{
    CutText, HashKey, OwnerCounts, Row, RowId, ScanNumber, StringId, Strings, Table, room,
};

/// Number of consecutive scans from which a container must be absent to have ended. What a scan
/// reads of a process's control groups can be torn although the process lives.
const CONTAINER_ABSENT_SCANS: u32 = 2;
/// The same if no scan is complete.
const UNSEEN_CONTAINER_SCANS_MAX: u32 = 8;
const _: () = assert!(CONTAINER_ABSENT_SCANS < UNSEEN_CONTAINER_SCANS_MAX);
/// Number of scans after which a container is reported although its first process was not.
const PENDING_SCANS_MAX: u32 = 8;
/// The same if all processes seen in it may belong to its runtime, which comes first.
const PENDING_OUTSIDE_SCANS_MAX: u32 = 32;
const _: () = assert!(PENDING_SCANS_MAX < PENDING_OUTSIDE_SCANS_MAX);
/// For this long, a busy process with the machine's own namespaces counts as a runtime that still
/// works. On a busy machine that takes time.
const WORKING_NS_MAX: i64 = 5_000_000_000;
/// Maximum parts of the table, as fractions, that users may fill with containers that they made
/// themselves: the part of each user, and that of all users together.
const USERS_PARTS: [(usize, usize); 2] = [(1, 4), (3, 4)];

/// One tracked container.
#[derive(Debug, Default)]
pub struct Container {
    pub(crate) key: ContainerKey,
    /// `struct kernfs_node *` of its control group.
    node: KernelVa,
    /// Its row in the current scan, if that shows it.
    row: Option<Index<ContainerRow>>,
    pub(super) first: ProcessKey,
    /// The user that made it, unless root's runtime did.
    user: Option<u32>,
    inside: Inside,
    /// Start of its newest process in the last scan that showed it.
    newest_start: u64,
    /// Whether it was reported, or recorded as baseline.
    announced: bool,
    /// Whether another container has taken its place.
    replaced: bool,
    /// Number of scans that showed it before it was reported.
    pending_scans: u32,
    /// When it was first seen.
    begun: Monotonic,
    absent_scans: u32,
    unseen_scans: u32,
    /// Grows with each change of its names.
    pub(crate) version: u32,
    id: Option<StringId>,
    is_name: bool,
    runtime: Option<Runtime>,
    path: Option<StringId>,
    parent: Option<StringId>,
    pod_uid: Option<StringId>,
    host_name: Option<StringId>,
    pid_namespace: u32,
    mount_namespace: u32,
    network_namespace: u32,
}

/// Whether scans show a process in a container that cannot belong to its runtime.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Inside {
    #[default]
    Never,
    /// Earlier ones did; the first process of the last one may belong to the runtime.
    Before,
    Now,
}

impl Row for Container {
    type Key = ContainerKey;

    fn key(&self) -> ContainerKey {
        self.key
    }
}

/// The attributes of a container, from a scan or from a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContainerFacts<'a> {
    /// Its identifier, or the name from its runtime.
    pub id: &'a [u8],
    /// Whether `id` is a name that a user chose.
    pub is_name: bool,
    /// The runtime that made it.
    pub runtime: Option<Runtime>,
    pub path: Option<&'a [u8]>,
    /// Identifier or name of the enclosing container.
    pub parent: Option<&'a [u8]>,
    pub pod_uid: Option<&'a [u8]>,
    /// Its host name, if that is not the machine's.
    pub host_name: Option<&'a [u8]>,
    /// Number of its first process's pid namespace, or 0.
    pub pid_namespace: u32,
    /// Number of its first process's mount namespace, or 0.
    pub mount_namespace: u32,
    /// Number of its first process's network namespace, or 0.
    pub network_namespace: u32,
    /// The tgid of its first process.
    pub first_process_id: Option<u32>,
}

impl<'a> ContainerFacts<'a> {
    /// Reads the facts about a container from a scan.
    pub fn read(snapshot: &'a Snapshot, row: &'a ContainerRow) -> Self {
        let text = |bytes: &'a [u8]| (!bytes.is_empty()).then_some(bytes);
        // A process that could not be read may be older.
        let is_known = !snapshot.lacks_members;
        let first = snapshot.processes.at(row.first).filter(|_| is_known);
        let leader = first.and_then(|first| snapshot.leader(first));
        let parent = snapshot.containers.at(row.parent).filter(|parent| parent.is_alive());
        Self {
            id: snapshot.text(row.id),
            is_name: row.is_name,
            runtime: row.runtime,
            path: text(snapshot.text(row.path)),
            parent: parent.and_then(|parent| text(snapshot.text(parent.id))),
            pod_uid: text(snapshot.text(row.pod_uid)),
            host_name: text(&row.host_name).filter(|_| is_known),
            pid_namespace: first.map_or(0, |first| first.pid_namespace),
            mount_namespace: first.map_or(0, |first| first.mount_namespace),
            network_namespace: first.map_or(0, |first| snapshot.net_number(first.net)),
            first_process_id: leader.map(|leader| leader.task.tgid),
        }
    }

    /// Its name, if its runtime identifies it by a name.
    pub fn name(&self) -> Option<&'a [u8]> {
        self.is_name.then_some(self.id)
    }

    /// The name of its Kubernetes pod, which is the host name inside it.
    pub fn pod_name(&self) -> Option<&'a [u8]> {
        self.host_name.filter(|_| self.pod_uid.is_some())
    }

    /// The address of its Kubernetes pod, by the interfaces that the scan read: the first address
    /// in its network namespace that is reachable from outside.
    pub fn pod_address(&self, snapshot: &Snapshot) -> Option<IpAddr> {
        let machine = snapshot.nets.first().map_or(0, |net| net.inum);
        let own = self.network_namespace;
        if self.pod_uid.is_none() || own == 0 || own == machine {
            return None;
        }
        let rows = || snapshot.interfaces.iter().filter(move |row| row.network_namespace == own);
        let ipv4 = rows().flat_map(|row| &row.ipv4).find(|ip| !ip.is_loopback()).copied();
        let is_global = |ip: &Ipv6Addr| !ip.is_loopback() && !ip.is_unicast_link_local();
        let ipv6 = || rows().flat_map(|row| &row.ipv6).copied().find(is_global);
        ipv4.map(IpAddr::V4).or_else(|| ipv6().map(IpAddr::V6))
    }
}

impl Container {
    fn new(
        key: ContainerKey,
        snapshot: &Snapshot,
        row: &ContainerRow,
        now: Monotonic,
    ) -> Option<Self> {
        let made_by = snapshot.processes.at(row.first).filter(|_| key.is_by_user());
        Some(Self {
            key,
            node: row.node,
            first: first_of(snapshot, row)?,
            user: made_by.map(|process| snapshot.user_of(process)),
            begun: now,
            is_name: row.is_name,
            runtime: row.runtime,
            ..Self::default()
        })
    }

    pub fn facts<'a>(&self, strings: &'a Strings) -> ContainerFacts<'a> {
        let text = |id: Option<StringId>| id.map(|id| strings.get(id));
        ContainerFacts {
            id: text(self.id).unwrap_or_default(),
            is_name: self.is_name,
            runtime: self.runtime,
            path: text(self.path),
            parent: text(self.parent),
            pod_uid: text(self.pod_uid),
            host_name: text(self.host_name),
            pid_namespace: self.pid_namespace,
            mount_namespace: self.mount_namespace,
            network_namespace: self.network_namespace,
            first_process_id: Some(self.first.process_id),
        }
    }

    /// Whether all its processes started after all known ones, so that the container ended in
    /// between. If one runtime puts several processes of its own into the group one after another,
    /// the group stays, and they have no own pid namespace yet.
    fn is_another(&self, snapshot: &Snapshot, row: &ContainerRow) -> bool {
        let machine = of_machine(snapshot, |process| process.pid_namespace);
        let had_own = self.pid_namespace != 0 && machine != 0 && self.pid_namespace != machine;
        row.oldest_start > self.newest_start && (row.node != self.node || had_own)
    }

    /// Whether its first process has its own mounts. A process that only passes through its control
    /// group on the way to another place has not.
    fn has_own_mounts(&self, snapshot: &Snapshot) -> bool {
        let machine = of_machine(snapshot, |process| process.mount_namespace);
        self.mount_namespace != 0 && machine != 0 && self.mount_namespace != machine
    }

    /// Updates it from the scan.
    fn refresh(&mut self, snapshot: &Snapshot, row: &ContainerRow, strings: &mut Strings) {
        let facts = ContainerFacts::read(snapshot, row);
        // Once it is reported, its first process stays, though other processes may outlive that
        // one.
        if !self.announced
            && let Some(first) = first_of(snapshot, row)
        {
            self.first = first;
        }
        self.node = row.node;
        if row.first_is_inside && self.inside == Inside::Never {
            // Its own first process gets as many scans to be reported as any other.
            self.pending_scans = self.pending_scans.min(2);
        }
        self.inside = match self.inside {
            _ if row.first_is_inside => Inside::Now,
            Inside::Never => Inside::Never,
            Inside::Before | Inside::Now => Inside::Before,
        };
        self.newest_start = row.newest_start;
        for (kept, seen) in [
            (&mut self.pid_namespace, facts.pid_namespace),
            (&mut self.mount_namespace, facts.mount_namespace),
            (&mut self.network_namespace, facts.network_namespace),
        ] {
            if seen != 0 {
                *kept = seen;
            }
        }
        let before = (self.id, self.pod_uid, self.host_name);
        for (kept, seen) in [
            (&mut self.id, Some(facts.id)),
            (&mut self.path, facts.path),
            (&mut self.parent, facts.parent),
            (&mut self.pod_uid, facts.pod_uid),
            (&mut self.host_name, facts.host_name),
        ] {
            if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
                set_reserved(strings, kept, seen, CONTAINER_NAME_BYTES, CutText::new);
            }
        }
        if before != (self.id, self.pod_uid, self.host_name) {
            self.version = self.version.wrapping_add(1);
        }
    }

    fn release(&mut self, strings: &mut Strings) {
        let names = [
            &mut self.id,
            &mut self.path,
            &mut self.parent,
            &mut self.pod_uid,
            &mut self.host_name,
        ];
        for id in names.into_iter().filter_map(Option::take) {
            strings.release(id);
        }
    }
}

/// Number of the machine's own namespace of a kind, or 0.
fn of_machine(snapshot: &Snapshot, number: impl Fn(&ProcessRow) -> u32) -> u32 {
    snapshot.init().map_or(0, number)
}

/// Whether all processes of a container have the machine's own namespaces, including mounts, and
/// the first one is busy. A runtime that sets up a container looks like this.
fn is_runtime_at_work(snapshot: &Snapshot, row: &ContainerRow) -> bool {
    let Some(first) = snapshot.processes.at(row.first) else { return false };
    let machine = of_machine(snapshot, |process| process.mount_namespace);
    !row.first_is_inside
        && machine != 0
        && first.mount_namespace == machine
        && snapshot.threads_of(first).any(|thread| thread.task.is_at_work())
}

fn first_of(snapshot: &Snapshot, row: &ContainerRow) -> Option<ProcessKey> {
    let leader = snapshot.leader(snapshot.processes.at(row.first)?)?;
    Some(ProcessKey::of(&leader.task))
}

/// What to report about a container that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedContainer {
    pub(super) id: RowId,
    /// Whether to report its start first.
    pub(super) unannounced: bool,
    /// Whether to report its end.
    pub(super) is_news: bool,
}

/// What finding the tracked containers of a scan needs only during that scan.
#[derive(Debug)]
pub(super) struct ContainersScratch {
    keys: Vec<ContainerKey>,
    rows: Vec<Option<RowId>>,
}

impl ContainersScratch {
    pub(super) fn new(limits: &Limits) -> Self {
        let seen = limits.containers_seen_max();
        Self { keys: room::list(seen), rows: room::list(seen) }
    }
}

/// All tracked containers.
#[derive(Debug)]
pub struct Containers {
    pub(super) table: Table<Container>,
    /// The key of each container of the current scan.
    keys: Vec<ContainerKey>,
    /// The row of each, if it has one.
    rows: Vec<Option<RowId>>,
    path_key: HashKey,
    /// Number of containers that each user made.
    users: OwnerCounts,
    of_users: usize,
    /// Number of containers in this scan of users with too many, and a process in one of them.
    refused: (u32, Option<u32>),
}

impl Containers {
    pub(crate) fn new(limits: &Limits, key: HashKey) -> Self {
        Self {
            table: Table::new(limits.containers as usize, key.derive("state: containers")),
            keys: Vec::default(),
            rows: Vec::default(),
            path_key: key.derive("state: paths of containers"),
            users: OwnerCounts::new(
                limits.containers as usize,
                key.derive("state: users' containers"),
            ),
            of_users: 0,
            refused: (0, None),
        }
    }

    pub(super) fn exchange(&mut self, scratch: &mut ContainersScratch) {
        mem::swap(&mut self.keys, &mut scratch.keys);
        mem::swap(&mut self.rows, &mut scratch.rows);
    }

    /// The container with that key, and the number of its row.
    pub fn find(&self, key: ContainerKey) -> Option<(RowId, &Container)> {
        let id = self.table.find(&key)?;
        Some((id, self.table.get(id)?))
    }

    /// The container of a process.
    pub fn of(&self, process: &Process) -> Option<(RowId, &Container)> {
        self.find(process.container_key()?)
    }

    /// The key of a container of the current scan.
    pub(super) fn key(&self, row: Index<ContainerRow>) -> Option<ContainerKey> {
        self.keys.get(row.position()).copied()
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.users.clear();
        self.of_users = 0;
    }

    /// Number of new containers that found no room since the last call, and a process in one of
    /// them of a user with too many.
    pub(super) fn take_newcomers(&mut self) -> (u32, Option<u32>) {
        let (refused, process_id) = core::mem::take(&mut self.refused);
        (self.table.take_newcomers().saturating_add(refused), process_id)
    }

    /// Whether a container finds room. A user can make any number of control groups that look like
    /// containers: they leave room for those of other users, and of root's runtimes.
    fn admits(&mut self, new: &Container) -> bool {
        let Some(user) = new.user else { return true };
        let [own, all] = USERS_PARTS.map(|(part, of)| (self.table.capacity() * part / of).max(1));
        let is_admitted = (self.users.of(user.into()) as usize) < own && self.of_users < all;
        if !is_admitted {
            self.refused = (self.refused.0.saturating_add(1), Some(new.first.process_id));
        }
        is_admitted
    }

    fn insert(&mut self, new: Container, scan: ScanNumber) -> Option<RowId> {
        let user = new.user;
        let id = self.table.insert(new, scan);
        if let Some(user) = user.filter(|_| id.is_some()) {
            self.users.add(user.into());
            self.of_users += 1;
        }
        id
    }

    /// Finds the tracked containers that the scan shows.
    pub(super) fn match_rows(&mut self, snapshot: &Snapshot, scan: ScanNumber) {
        self.keys.clear();
        self.rows.clear();
        for (index, row) in snapshot.containers.indexed().take(self.keys.capacity()) {
            let key = self.key_of(snapshot, row);
            self.keys.push(key);
            let id = self.table.find(&key).filter(|_| row.is_alive());
            let is_it = id.is_some_and(|id| self.see(id, index, snapshot, row, scan));
            self.rows.push(id.filter(|_| is_it));
        }
    }

    fn key_of(&self, snapshot: &Snapshot, row: &ContainerRow) -> ContainerKey {
        let hash = match snapshot.text(row.path) {
            [] => self.path_key.hash(&row.node.0.to_le_bytes()),
            path => self.path_key.hash(path),
        };
        ContainerKey::new(hash, row.maker == Maker::User)
    }

    /// Notes that the scan shows a container; `false` if the scan shows another one in its place.
    fn see(
        &mut self,
        id: RowId,
        index: Index<ContainerRow>,
        snapshot: &Snapshot,
        row: &ContainerRow,
        scan: ScanNumber,
    ) -> bool {
        let Some(container) = self.table.get_mut(id) else { return false };
        if container.replaced || container.is_another(snapshot, row) {
            container.replaced = true;
            return false;
        }
        // The same path in two hierarchies is one container.
        if self.table.see(id, scan)
            && let Some(container) = self.table.get_mut(id)
        {
            container.row = Some(index);
            (container.absent_scans, container.unseen_scans) = (0, 0);
        }
        true
    }

    /// The next ended container from `from` on, which the caller must remove.
    pub(super) fn next_gone(
        &mut self,
        from: u32,
        snapshot: &Snapshot,
        scan: ScanNumber,
        whole: bool,
        is_alive: impl Fn(&ProcessKey) -> bool,
    ) -> Option<EndedContainer> {
        for number in from..self.table.end() {
            let id = RowId(number);
            let seen = self.table.last_seen(id) == Some(scan);
            let Some(container) = self.table.get_mut(id) else { continue };
            if !container.replaced {
                if seen {
                    continue;
                }
                container.row = None;
                let counts = u32::from(snapshot.counts());
                container.absent_scans += if whole { counts } else { 0 };
                container.unseen_scans += if snapshot.processes.is_empty() { 0 } else { counts };
                if container.absent_scans < CONTAINER_ABSENT_SCANS
                    && container.unseen_scans < UNSEEN_CONTAINER_SCANS_MAX
                {
                    continue;
                }
            }
            // A container that was seen only once was misread if its process lives outside of it.
            let preexisting = container.pending_scans > 1 || !is_alive(&container.first);
            // A container with the machine's pid namespace may have ended before it was reported.
            let was_one = container.inside != Inside::Never || container.has_own_mounts(snapshot);
            let unannounced = !container.announced && was_one && preexisting;
            return Some(EndedContainer {
                id,
                unannounced,
                is_news: container.announced || unannounced,
            });
        }
        None
    }

    pub(super) fn remove(&mut self, id: RowId, strings: &mut Strings) {
        if let Some(mut container) = self.table.remove(id) {
            container.release(strings);
            if let Some(user) = container.user {
                self.users.remove(user.into());
                self.of_users -= 1;
            }
        }
    }

    /// Adds rows for new containers and updates all from the scan. `existing` decides by its first
    /// process whether a container belongs to the baseline.
    pub(super) fn update_from(
        &mut self,
        snapshot: &Snapshot,
        (scan, now): (ScanNumber, Monotonic),
        strings: &mut Strings,
        existing: impl Fn(&ProcessKey) -> bool,
    ) {
        for (index, row) in snapshot.containers.indexed().take(self.rows.len()) {
            if !row.is_alive() {
                continue;
            }
            let key = self.keys[index.position()];
            let id = self.rows[index.position()].or_else(|| {
                if let Some(id) = self.table.find(&key) {
                    return Some(id);
                }
                let mut new = Container::new(key, snapshot, row, now)?;
                new.announced = existing(&new.first);
                new.row = Some(index);
                if self.admits(&new) { self.insert(new, scan) } else { None }
            });
            self.rows[index.position()] = id;
            let Some(container) = id.and_then(|id| self.table.get_mut(id)) else { continue };
            if container.row == Some(index) {
                let is_being_made = container.pending_scans >= 2
                    && now.since(container.begun) < WORKING_NS_MAX
                    && is_runtime_at_work(snapshot, row);
                if !is_being_made {
                    let counts = u32::from(snapshot.counts());
                    container.pending_scans = container.pending_scans.saturating_add(counts);
                }
                container.refresh(snapshot, row, strings);
            }
        }
    }

    /// The container that begins with a process that is reported, if the container is due to be
    /// reported.
    pub(super) fn begins_with(
        &mut self,
        row: Index<ContainerRow>,
        process: &ProcessKey,
    ) -> Option<RowId> {
        let id = (*self.rows.get(row.position())?)?;
        let container = self.table.get_mut(id)?;
        // A container that was seen twice is not misread from a process that lives elsewhere.
        let is_due =
            container.inside == Inside::Now || container.pending_scans > PENDING_OUTSIDE_SCANS_MAX;
        if container.announced
            || container.first != *process
            || container.pending_scans < 2
            || !is_due
        {
            return None;
        }
        container.announced = true;
        Some(id)
    }

    /// The next container from `from` on that has waited long enough for its first process to be
    /// reported.
    pub(super) fn next_overdue(&mut self, from: u32) -> Option<RowId> {
        for number in from..self.table.end() {
            let id = RowId(number);
            let Some(container) = self.table.get_mut(id) else { continue };
            let most = if container.inside == Inside::Now {
                PENDING_SCANS_MAX
            } else {
                PENDING_OUTSIDE_SCANS_MAX
            };
            if !container.announced && container.pending_scans > most {
                container.announced = true;
                return Some(id);
            }
        }
        None
    }
}
