//! Processes whose beginning was left out in a flood of them. It is written before an alert about
//! one of them, which would be about nothing known otherwise.

use panoptes_tables::{HashKey, Row, ScanNumber, Table};

use crate::limits::Limits;
use crate::state::process::ProcessKey;

#[derive(Clone, Copy, Debug)]
struct UnwrittenProcess(ProcessKey);

impl Row for UnwrittenProcess {
    type Key = ProcessKey;

    fn key(&self) -> ProcessKey {
        self.0
    }
}

/// The tracked processes whose beginning was not written.
#[derive(Debug)]
pub(super) struct UnwrittenProcesses(Table<UnwrittenProcess>);

impl UnwrittenProcesses {
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        Self(Table::without_scans(
            (limits.processes as usize / 4).max(64),
            key.derive("unwritten beginnings"),
        ))
    }

    pub(super) fn add(&mut self, process: ProcessKey) {
        if self.0.find(&process).is_none() {
            self.0.insert(UnwrittenProcess(process), ScanNumber::default());
        }
    }

    /// Forgets a process; returns whether its beginning was not written.
    pub(super) fn remove(&mut self, process: ProcessKey) -> bool {
        self.0.find(&process).is_some_and(|id| self.0.remove(id).is_some())
    }
}
