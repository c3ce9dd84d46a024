//! How many entries each user and process has caused: nobody takes the whole room of
//! [`super::Contents`].

use panoptes_tables::{HashKey, OwnerCounts};

use super::Asker;

/// Maximum number of users and containers that are counted.
const GROUPS_MAX: usize = 1024;

/// The processes that have asked for files.
#[derive(Debug)]
pub(super) struct EntryShares {
    /// Number of entries of each user or container, and number of its processes that have entries.
    entries: OwnerCounts,
    processes: OwnerCounts,
    /// Number of entries of each process under each user or container.
    own: OwnerCounts,
}

impl EntryShares {
    /// Allocates for so many entries.
    pub(super) fn new(entries: usize, key: HashKey) -> Self {
        let groups = entries.min(GROUPS_MAX);
        Self {
            entries: OwnerCounts::new(groups, key.derive("contents: askers' entries")),
            processes: OwnerCounts::new(groups, key.derive("contents: askers' processes")),
            own: OwnerCounts::new(entries, key.derive("contents: askers")),
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.processes.clear();
        self.own.clear();
    }

    /// Counts one more entry.
    pub(super) fn add(&mut self, asker: Asker) {
        self.entries.add(asker.group);
        if self.own.add(of_process(asker)) {
            self.processes.add(asker.group);
        }
    }

    /// Counts one entry less.
    pub(super) fn remove(&mut self, asker: Asker) {
        self.entries.remove(asker.group);
        if self.own.remove(of_process(asker)) {
            self.processes.remove(asker.group);
        }
    }

    /// Whether a user has an equal part of `room` entries or more, or a process an equal part of
    /// its user's. A user alone has a half. Requests for no process have no limit.
    pub(super) fn is_above_its_share(&self, asker: Asker, room: usize) -> bool {
        let entries = self.entries.of(asker.group);
        let groups = self.entries.owners() + usize::from(entries == 0);
        let of_group = room / groups.max(2);
        let own = self.own.of(of_process(asker));
        let processes = self.processes.of(asker.group) as usize + usize::from(own == 0);
        let share = (of_group / processes.max(1)).max(1);
        asker.process_id != 0 && (entries as usize >= of_group || own as usize >= share)
    }
}

/// A number for a process as one of its user: a process may become another user's. Users are below
/// 2^32, and those of containers are random.
fn of_process(asker: Asker) -> u64 {
    asker.group.rotate_left(32) ^ u64::from(asker.process_id)
}
