//! Capacities of an empty snapshot.

use super::snapshot::{Losses, Machine, Snapshot};
use super::{CGROUPS_MAX, CSS_SETS_MAX, ends};
use crate::limits::Limits;
use panoptes_tables::Rows;

/// Maximum number of names in directories: one for each file, and the directories above them.
pub(super) fn dentries_max(limits: &Limits) -> usize {
    let files = limits.files_seen_max();
    files + files / 4
}

/// Maximum number of sets of control groups.
pub(super) fn css_sets_max(limits: &Limits) -> usize {
    limits.containers_seen_max().max(CSS_SETS_MAX)
}

impl Snapshot {
    /// Allocates for `limits`.
    pub fn empty(limits: &Limits) -> Self {
        let threads = limits.threads_seen_max();
        let processes = limits.processes_seen_max();
        let files = limits.files_seen_max();
        Self {
            machine: Machine::default(),
            threads: Rows::with_capacity(threads),
            processes: Rows::with_capacity(processes),
            by_pid: Rows::with_capacity(processes),
            by_tid: Rows::with_capacity(threads),
            files_structs: Rows::with_capacity(processes),
            files_threads: Rows::with_capacity(threads),
            descriptors: Rows::with_capacity(limits.file_descriptors_seen_max()),
            mms: Rows::with_capacity(processes),
            vmas: Rows::with_capacity(limits.vmas_seen_max()),
            files: Rows::with_capacity(files),
            inodes: Rows::with_capacity(files),
            dentries: Rows::with_capacity(dentries_max(limits)),
            mounts: Rows::with_capacity(8192),
            super_blocks: Rows::with_capacity(4096),
            names: Rows::with_capacity(4096),
            nets: Rows::with_capacity(4096),
            css_sets: Rows::with_capacity(css_sets_max(limits)),
            css_states: Rows::with_capacity(CGROUPS_MAX),
            cgroups: Rows::with_capacity(CGROUPS_MAX),
            kernfs_nodes: Rows::with_capacity(CGROUPS_MAX),
            containers: Rows::with_capacity(limits.containers_seen_max()),
            connections: Rows::with_capacity(limits.connections_seen_max()),
            sockets: Rows::with_capacity(files),
            terminals: Rows::with_capacity(ends::TERMINALS_MAX),
            interfaces: Rows::with_capacity(256),
            bytes: Rows::with_capacity(processes * 256 + (4 << 20)),
            task_list_closed: false,
            idr_complete: false,
            losses: Losses::default(),
        }
    }
}
