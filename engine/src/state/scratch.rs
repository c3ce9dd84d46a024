//! What comparing a scan with the last needs only while it runs: indexes of rows of the scan.
//!
//! Systems that are scanned by one thread share it. Every part of it is filled anew in each scan.

use core::mem;

use panoptes_tables::{RowId, room};

use super::MachineState;
use super::connections_scratch::ConnectionsScratch;
use super::container::ContainersScratch;
use super::file_names::NamesScratch;
use super::memory::AreasScratch;
use super::open_files::OpenFiles;
use crate::limits::Limits;
use crate::walk::{FilesRow, Index};

/// What comparing a scan needs only while it runs.
#[derive(Debug)]
pub struct StateScratch {
    rows: Vec<Option<RowId>>,
    open_files: OpenFiles,
    own_tables: Vec<Index<FilesRow>>,
    areas: AreasScratch,
    connections: ConnectionsScratch,
    containers: ContainersScratch,
    names: NamesScratch,
}

impl StateScratch {
    /// Allocates for scans with these limits, or smaller ones.
    pub fn new(limits: &Limits) -> Self {
        Self {
            rows: room::list(limits.processes_seen_max()),
            open_files: OpenFiles::new(limits),
            own_tables: room::list(limits.processes_seen_max()),
            areas: AreasScratch::new(limits),
            connections: ConnectionsScratch::new(limits),
            containers: ContainersScratch::new(limits),
            names: NamesScratch::new(limits),
        }
    }
}

impl MachineState {
    /// Takes the scratch space before a scan, and returns it by a second call after the scan.
    /// Without it, a scan compares nothing.
    pub fn exchange(&mut self, scratch: &mut StateScratch) {
        mem::swap(&mut self.rows, &mut scratch.rows);
        mem::swap(&mut self.open_files, &mut scratch.open_files);
        mem::swap(&mut self.own_tables, &mut scratch.own_tables);
        self.areas.exchange(&mut scratch.areas);
        self.connections.exchange(&mut scratch.connections);
        self.containers.exchange(&mut scratch.containers);
        self.names.exchange(&mut scratch.names);
    }
}
