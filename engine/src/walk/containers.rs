//! Containers: found by their control groups, and the processes in them.
//!
//! [`panoptes_decoders::container`] knows how runtimes name their groups. This module provides the
//! paths and adds what only processes show: whether a group with a bare name belongs to a
//! container, and which process is the container's first.

use panoptes_decoders::container::{
    CONTAINER_BYTES_MAX, CgroupContainer, Maker, POD_UID_BYTES_MAX, Runtime, container_of, pod_uid,
    unescape,
};
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::cgroup::KERNFS_NAME_BYTES_MAX;
use panoptes_decoders::kernel::uts_namespace::UtsNamespace;
use panoptes_decoders::layout::{View, c_string};

use super::container_rows::{ContainerRow, HOST_NAME_BYTES, HostName};
use super::losses::WalkedStructure;
use super::snapshot::{CgroupRow, CssSetRow, Index, KernfsRow, ProcessRow};
use super::tables::Snapshot;
use super::{ScannedMemory, WalkScratch, Walker, fetch};

/// Maximum depth of a control group; a container's is about three deep.
const CGROUP_DEPTH_MAX: usize = 64;
/// Maximum length of a control group's path, in bytes; a pod's has about 250.
const PATH_BYTES_MAX: usize = 1024;
const _: () = assert!((KERNFS_NAME_BYTES_MAX as usize) < PATH_BYTES_MAX, "any name is a path");

pub(super) fn host_name(layout: &UtsNamespace, view: View<'_>) -> HostName {
    c_string(view.bytes(layout.nodename)).iter().copied().take(HOST_NAME_BYTES).collect()
}

/// The directories from the top down to a control group, without the root.
struct GroupPath {
    nodes: [Option<Index<KernfsRow>>; CGROUP_DEPTH_MAX],
    length: usize,
}

impl GroupPath {
    /// `None` where a name or an owner could not be read. An error is the reason that the root was
    /// not reached.
    fn up_from(
        snapshot: &Snapshot,
        group: Option<Index<CgroupRow>>,
    ) -> Result<Option<Self>, EarlyStop> {
        let mut at = snapshot.cgroups.at(group).and_then(|group| group.node);
        let mut group_path = Self { nodes: [None; CGROUP_DEPTH_MAX], length: 0 };
        loop {
            let node = snapshot.kernfs_nodes.at(at);
            let Some(node) = node.filter(|node| node.text.is_some() && node.owner.is_some()) else {
                return Ok(None);
            };
            if node.is_root {
                group_path.nodes[..group_path.length].reverse();
                return Ok(Some(group_path));
            }
            let Some(place) = group_path.nodes.get_mut(group_path.length) else {
                return Err(EarlyStop::TooLong { limit: CGROUP_DEPTH_MAX as u32 });
            };
            *place = at;
            group_path.length += 1;
            at = node.parent;
        }
    }

    /// Calls `look` with the names of the first `length` directories from the top down.
    fn with_names<T>(
        &self,
        snapshot: &Snapshot,
        length: usize,
        look: impl FnOnce(&[&[u8]]) -> T,
    ) -> Option<T> {
        let mut names: [&[u8]; CGROUP_DEPTH_MAX] = [&[]; CGROUP_DEPTH_MAX];
        for (name, &node) in names.iter_mut().zip(self.nodes.get(..length)?) {
            *name = snapshot.text(snapshot.kernfs_nodes.at(node)?.text?);
        }
        Some(look(names.get(..length)?))
    }

    /// Whether one of the first `length` directories belongs to a user, who can make any name below
    /// it. The owner of a container's own directory says nothing: runtimes give it to the user who
    /// is root in there.
    fn is_users(&self, snapshot: &Snapshot, length: usize) -> bool {
        let owner = |&node| snapshot.kernfs_nodes.at(node)?.owner;
        self.nodes.iter().take(length).filter_map(owner).any(|owner| owner != 0)
    }
}

/// A container found in a path of control groups, copied out of the names.
struct ContainerClaim {
    at: usize,
    id: [u8; CONTAINER_BYTES_MAX],
    id_length: usize,
    is_name: bool,
    runtime: Option<Runtime>,
    maker: Maker,
}

impl ContainerClaim {
    fn new(found: &CgroupContainer<'_>) -> Self {
        let mut id = [0; CONTAINER_BYTES_MAX];
        let id_length = if found.is_name {
            unescape(found.id, &mut id)
        } else {
            id.iter_mut().zip(found.id).for_each(|(to, from)| *to = *from);
            found.id.len().min(id.len())
        };
        let CgroupContainer { at, is_name, runtime, maker, .. } = *found;
        Self { at, id, id_length, is_name, runtime, maker }
    }
}

impl Walker {
    /// Finds every container, and the container of each process.
    pub(super) fn find_containers(&mut self, memory: &mut ScannedMemory<'_>) {
        self.read_group_names(memory);
        self.read_group_owners(memory);
        for index in self.snapshot.css_sets.indexes() {
            let (container, known) = self.container_of_set(index);
            let set = &mut self.snapshot.css_sets[index];
            (set.container, set.known) = (container, known);
        }
        self.place_processes();
        self.read_host_names(memory);
    }

    /// Finds the container of the tasks of a `css_set`, in the version 2 hierarchy or else in the
    /// others; and whether it is known.
    fn container_of_set(&mut self, index: Index<CssSetRow>) -> (Option<Index<ContainerRow>>, bool) {
        let set = &self.snapshot.css_sets[index];
        let CssSetRow { unified, states, states_cut, process, .. } = *set;
        if unified.is_none() {
            return (None, false);
        }
        let mut last = None;
        let mut plain = None;
        for at in 0..=states.len() {
            let group = match at.checked_sub(1) {
                None => unified,
                Some(at) => {
                    let Some(state) = self.snapshot.css_states.at(states[at]) else { continue };
                    state.cgroup
                }
            };
            if group == last {
                continue;
            }
            last = group;
            let group_path = GroupPath::up_from(&self.snapshot, group).unwrap_or_else(|stop| {
                self.snapshot.losses.stop(WalkedStructure::GroupPath, stop);
                None
            });
            let Some(group_path) = group_path else { return (None, false) };
            match self.claim(&group_path, group_path.length) {
                Some(claim) if claim.maker == Maker::Unknown => {
                    plain = plain.or(Some((group_path, claim)));
                }
                Some(claim) => return self.row_of_claim(&group_path, claim, process),
                None => {}
            }
        }
        if states_cut {
            return (None, false);
        }
        plain.map_or((None, true), |(group_path, claim)| {
            self.row_of_claim(&group_path, claim, process)
        })
    }

    fn claim(&self, group_path: &GroupPath, length: usize) -> Option<ContainerClaim> {
        let claim = group_path.with_names(&self.snapshot, length, |path| {
            container_of(path).as_ref().map(ContainerClaim::new)
        })??;
        // A bare name's directory itself counts, too: nothing shows that a runtime made it.
        let length = claim.at + usize::from(claim.maker == Maker::Unknown);
        let is_users = group_path.is_users(&self.snapshot, length);
        Some(ContainerClaim { maker: if is_users { Maker::User } else { claim.maker }, ..claim })
    }

    /// Gives a container and its enclosing containers rows. Without room, it counts as unknown.
    fn row_of_claim(
        &mut self,
        group_path: &GroupPath,
        claim: ContainerClaim,
        process: Option<Index<ProcessRow>>,
    ) -> (Option<Index<ContainerRow>>, bool) {
        let mut innermost = None;
        let mut inner = None;
        let mut claim = Some(claim);
        while let Some(found) = claim {
            let before = self.snapshot.containers.len();
            let row = self.container_row(group_path, &found, process);
            innermost = innermost.or(row);
            if let Some(inner) = self.snapshot.containers.at_mut(inner) {
                inner.parent = row;
            }
            // An existing row already has all its enclosing containers.
            if row.is_none() || self.snapshot.containers.len() == before {
                break;
            }
            inner = row;
            claim = self.claim(group_path, found.at);
        }
        (innermost, innermost.is_some())
    }

    fn container_row(
        &mut self,
        group_path: &GroupPath,
        claim: &ContainerClaim,
        process: Option<Index<ProcessRow>>,
    ) -> Option<Index<ContainerRow>> {
        let Self { snapshot, scratch: WalkScratch { shares, .. }, path_key, .. } = self;
        let node = group_path.nodes.get(claim.at).and_then(|&node| snapshot.kernfs_nodes.at(node));
        let node = node?.address;
        let mut path = [0; PATH_BYTES_MAX];
        let length =
            group_path.with_names(snapshot, claim.at + 1, |names| write_path(names, &mut path));
        let length = match length {
            Some(Ok(length)) => length,
            Some(Err(stop)) => {
                snapshot.losses.stop(WalkedStructure::GroupPath, stop);
                0
            }
            None => 0,
        };
        let path = &path[..length];
        // The same path in two hierarchies is one container.
        let place = match path {
            [] => node.0,
            path => path_key.hash(path) | 1,
        };
        let before = snapshot.containers.len();
        let row = shares.row_of(&mut snapshot.containers, process, place, || ContainerRow {
            node,
            is_name: claim.is_name,
            runtime: claim.runtime,
            maker: claim.maker,
            ..ContainerRow::default()
        })?;
        if snapshot.containers.len() == before {
            return Some(row);
        }
        let mut uid = [0; POD_UID_BYTES_MAX];
        let uid_length =
            group_path.with_names(snapshot, claim.at + 1, |names| pod_uid(names, &mut uid));
        let uid_length = uid_length.unwrap_or_default();
        let texts = [&claim.id[..claim.id_length], path, &uid[..uid_length]];
        let [id, path, pod_uid] = texts.map(|text| {
            shares.add_group_text(&mut snapshot.bytes, process, text).unwrap_or_default()
        });
        let container = &mut snapshot.containers[row];
        (container.id, container.path, container.pod_uid) = (id, path, pod_uid);
        Some(row)
    }

    /// Sets the container of every process, and the first process of every container.
    fn place_processes(&mut self) {
        let host = host_of(&self.snapshot);
        for index in self.snapshot.processes.indexes() {
            let snapshot = &mut self.snapshot;
            let process = &snapshot.processes[index];
            let (row, known) = place(snapshot, process, host);
            let start = living_since(snapshot, process);
            let is_inside = has_own_namespaces(process, host);
            let process = &mut snapshot.processes[index];
            (process.container, process.container_known) = (row, known);
            let Some(start) = start else { continue };
            let mut at = row;
            for _ in 0..CGROUP_DEPTH_MAX {
                let Some(container) = snapshot.containers.at_mut(at) else { break };
                // A process in an inner container does not prove that a bare name above it is a
                // container.
                if at == row || container.maker != Maker::Unknown {
                    container.update_from(index, start, is_inside);
                }
                at = container.parent;
            }
        }
        let snapshot = &mut self.snapshot;
        snapshot.lacks_members = snapshot.lacks_tasks()
            || snapshot.copied.is_copy()
                && snapshot.processes.iter().any(|process| !process.container_known);
    }

    fn read_host_names(&mut self, memory: &mut ScannedMemory<'_>) {
        let kernel = memory.kernel;
        let layout = &kernel.layouts.uts_namespace;
        let snapshot = &mut self.snapshot;
        if snapshot.containers.is_empty() {
            return;
        }
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.extend(snapshot.containers.iter().map(|row| {
            let own = snapshot.processes.at(row.first).map(|first| first.uts_namespace);
            own.filter(|&own| own != kernel.roots.init_uts_ns).unwrap_or_default()
        }));
        let (rows, losses) = (snapshot.containers.as_mut_slice(), &mut snapshot.losses);
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let Some(view) = bytes.map(View::new) else {
                if !addresses[index].is_null() {
                    losses.miss(WalkedStructure::Namespace, addresses[index]);
                }
                return;
            };
            rows[index].host_name = host_name(layout, view);
        });
    }
}

/// Namespaces of process 1: the machine's own.
#[derive(Clone, Copy, Default)]
struct Host {
    pid: u32,
    mount: u32,
}

fn host_of(snapshot: &Snapshot) -> Host {
    let init = snapshot.init();
    init.map(|init| Host { pid: init.pid_namespace, mount: init.mount_namespace })
        .unwrap_or_default()
}

/// The container of a process, and whether that is known.
fn place(
    snapshot: &Snapshot,
    process: &ProcessRow,
    host: Host,
) -> (Option<Index<ContainerRow>>, bool) {
    let Some(set) = snapshot.css_sets.at(process.css_set).filter(|set| set.known) else {
        return (None, false);
    };
    let Some(row) = snapshot.containers.at(set.container) else { return (None, true) };
    if row.maker != Maker::Unknown {
        return (set.container, true);
    }
    // An exiting process has no namespaces any more.
    if process.pid_namespace == 0 || process.mount_namespace == 0 {
        return (None, false);
    }
    // Nor has the machine, if they could not be copied.
    if snapshot.copied.is_copy() && (host.pid == 0 || host.mount == 0) {
        return (None, false);
    }
    (set.container.filter(|_| has_own_namespaces(process, host)), true)
}

/// Whether both namespaces of a process are its own. A runtime's own processes never have both:
/// runc's have their own mounts before there is a pid namespace.
fn has_own_namespaces(process: &ProcessRow, host: Host) -> bool {
    let is_own = |number, machine| number != 0 && number != machine;
    is_own(process.pid_namespace, host.pid) && is_own(process.mount_namespace, host.mount)
}

/// Start of a process in nanoseconds since boot, if any of its threads lives.
fn living_since(snapshot: &Snapshot, process: &ProcessRow) -> Option<u64> {
    let leader = snapshot.leader(process)?;
    let lives = leader.task.exit_state == 0
        || (process.threads.len() > 1
            && snapshot.threads_of(process).any(|thread| thread.task.exit_state == 0));
    lives.then_some(leader.task.start_boottime)
}

/// Writes names as a path and returns its length, or the reason if it is too long.
fn write_path(names: &[&[u8]], out: &mut [u8; PATH_BYTES_MAX]) -> Result<usize, EarlyStop> {
    let mut length = 0;
    for name in names {
        let end = length + 1 + name.len();
        let Some(place) = out.get_mut(length..end) else {
            return Err(EarlyStop::TooLong { limit: PATH_BYTES_MAX as u32 });
        };
        place[0] = b'/';
        place[1..].copy_from_slice(name);
        length = end;
    }
    Ok(length)
}
