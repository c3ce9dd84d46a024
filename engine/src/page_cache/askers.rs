//! How many entries each process has caused: nobody takes the whole room of [`super::Contents`].

use panoptes_tables::{HashKey, Key, Row, RowId, Scan, Table};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct ProcessId(u32);

impl Key for ProcessId {
    fn hash(&self, key: HashKey) -> u64 {
        key.hash_numbers([self.0.into()])
    }
}

#[derive(Clone, Copy, Debug)]
struct Asker {
    process: ProcessId,
    entries: u32,
}

impl Row for Asker {
    type Key = ProcessId;

    fn key(&self) -> ProcessId {
        self.process
    }
}

/// The processes that have asked for files.
#[derive(Debug)]
pub(super) struct Askers(Table<Asker>);

impl Askers {
    /// Allocates for so many entries.
    pub(super) fn new(entries: usize, key: HashKey) -> Self {
        Self(Table::new(entries, key.derive("contents: askers")))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts one more entry of a process.
    pub(super) fn add(&mut self, process_id: u32) {
        let process = ProcessId(process_id);
        let found = self.0.find(&process);
        let id = found.or_else(|| self.0.insert(Asker { process, entries: 0 }, Scan::default()));
        if let Some(asker) = id.and_then(|id| self.0.get_mut(id)) {
            asker.entries += 1;
        }
    }

    /// Counts one entry of a process less.
    pub(super) fn remove(&mut self, process_id: u32) {
        let Some(id) = self.0.find(&ProcessId(process_id)) else { return };
        let Some(asker) = self.0.get_mut(id) else { return };
        asker.entries -= 1;
        if asker.entries == 0 {
            self.0.remove(id);
        }
    }

    /// Whether a process has an equal part of `room` entries, or more. One alone has a half.
    /// Requests for no process (0) have no limit.
    pub(super) fn is_above_its_share(&self, process_id: u32, room: usize) -> bool {
        let id: Option<RowId> = self.0.find(&ProcessId(process_id));
        let entries = id.and_then(|id| self.0.get(id)).map_or(0, |asker| asker.entries);
        let askers = (self.0.len() + usize::from(entries == 0)).max(2);
        process_id != 0 && entries as usize >= room / askers
    }
}
