//! The first process of each container, found without a search through all processes.

use crate::walk::{Index, ProcessRow, Snapshot};
use panoptes_tables::{AddressMap, HashKey, ScanNumber};

/// The oldest process of each container of a scan.
#[derive(Debug)]
pub(super) struct FirstProcesses {
    /// Numbers of rows of processes, by the hash of their container's id.
    by_container: AddressMap,
    key: HashKey,
    /// The scan that they are of.
    scan: Option<ScanNumber>,
    /// Number of processes that were looked at since the start.
    #[cfg(test)]
    pub(super) looked_at: u64,
}

impl FirstProcesses {
    /// Allocates for so many containers.
    pub(super) fn new(containers: usize, key: HashKey) -> Self {
        Self {
            by_container: AddressMap::new(containers, key.derive("attest: first processes")),
            key: key.derive("attest: ids of containers"),
            scan: None,
            #[cfg(test)]
            looked_at: 0,
        }
    }

    /// Whether no process of a container is older than this one.
    pub(super) fn is_first(
        &mut self,
        snapshot: &Snapshot,
        scan: ScanNumber,
        row: &ProcessRow,
        container: &[u8],
    ) -> bool {
        if self.scan.replace(scan) != Some(scan) {
            self.find(snapshot);
        }
        let start =
            |row: &ProcessRow| snapshot.leader(row).map(|leader| leader.task.start_boottime);
        let first = self.by_container.get(self.key.hash(container)).and_then(Index::from_number);
        snapshot.processes.at(first).is_none_or(|first| start(first) >= start(row))
    }

    /// The rows are ordered by age, so the first of each container is its oldest.
    fn find(&mut self, snapshot: &Snapshot) {
        self.by_container.clear();
        #[cfg(test)]
        {
            self.looked_at += snapshot.processes.len() as u64;
        }
        for (index, row) in snapshot.processes.indexed() {
            if let Some(container) = snapshot.container_of(row) {
                self.by_container.insert(self.key.hash(container), index.number());
            }
        }
    }
}
