//! The descriptors, and slots of rings, that hold connections.
//!
//! Every scan builds this list anew from its descriptors, in memory allocated at start.

use super::connection::ConnectionOwner;
use super::process::Process;
use crate::limits::Limits;
use crate::walk::{ConnectionRow, DescriptorRow, Index, ProcessRow, Snapshot, Span};
use panoptes_tables::{RowId, Table, room};

/// One descriptor of a TCP socket, or slot of a ring with one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Holder {
    pub connection: Index<ConnectionRow>,
    /// The tgid.
    pub process_id: u32,
    /// Its number; that of a slot has the mark [`crate::walk::RING_SLOT`].
    pub descriptor: u32,
    pub process: Index<ProcessRow>,
    pub descriptor_row: Index<DescriptorRow>,
}

/// The processes that connections refer to.
pub(super) struct HolderProcesses<'a> {
    pub(super) processes: &'a Table<Process>,
    /// Row of each process of the scan.
    pub(super) rows: &'a [Option<RowId>],
}

impl HolderProcesses<'_> {
    /// Whether a process is tracked but not reported yet.
    pub(super) fn is_unannounced(&self, owner: &ConnectionOwner) -> bool {
        self.processes
            .get(owner.row)
            .is_some_and(|process| process.key == owner.process && !process.life.is_announced())
    }
}

/// All holders of a scan, sorted by connection, process and descriptor.
#[derive(Debug, Default)]
pub struct Holders {
    list: Vec<Holder>,
    /// Number of holders that did not fit.
    pub dropped: u32,
}

impl Holders {
    /// Allocates for as many holders as one scan can read.
    pub fn new(limits: &Limits) -> Self {
        Self { list: room::list(limits.file_descriptors_seen_max()), dropped: 0 }
    }

    /// Finds all holders of a scan.
    pub fn find(&mut self, snapshot: &Snapshot) {
        self.list.clear();
        self.dropped = 0;
        // The memory of a table that was closed in this scan may be another process's table.
        for (process, row) in snapshot.processes.indexed().filter(|(_, row)| row.files_stable) {
            let Some(leader) = snapshot.leader(row) else { continue };
            for table in snapshot.files_structs_of(row) {
                self.add(snapshot, process, leader.task.tgid, table.descriptors);
            }
        }
        for ring in snapshot.rings.iter() {
            let Some(row) = snapshot.processes.at(ring.process) else { continue };
            if let Some(process) = ring.process.filter(|_| row.files_stable)
                && let Some(leader) = snapshot.leader(row)
            {
                self.add(snapshot, process, leader.task.tgid, ring.descriptors);
            }
        }
        self.list.sort_unstable();
    }

    fn add(
        &mut self,
        snapshot: &Snapshot,
        process: Index<ProcessRow>,
        process_id: u32,
        descriptors: Span<DescriptorRow>,
    ) {
        let rows = snapshot.descriptors.range(descriptors);
        for (descriptor_row, row) in descriptors.indexes().zip(rows) {
            let file = snapshot.files.at(row.file);
            let Some(connection) = file.and_then(|file| file.connection) else { continue };
            if self.list.len() == self.list.capacity() {
                self.dropped = self.dropped.saturating_add(1);
                continue;
            }
            self.list.push(Holder {
                connection,
                process_id,
                descriptor: row.index,
                process,
                descriptor_row,
            });
        }
    }

    /// The holders of one connection, lowest process and descriptor first; the first is the owner.
    pub fn of(&self, connection: impl Into<Option<Index<ConnectionRow>>>) -> &[Holder] {
        let connection = connection.into();
        let start = self.list.partition_point(|holder| Some(holder.connection) < connection);
        let is_it = |holder: &&Holder| Some(holder.connection) == connection;
        let count = self.list[start..].iter().take_while(is_it).count();
        &self.list[start..start + count]
    }

    pub fn all(&self) -> &[Holder] {
        &self.list
    }

    /// Sorts by process, then by connection and descriptor, as a scan prints them. [`Holders::of`]
    /// must not be called after that.
    pub fn sort_by_process(&mut self) {
        self.list.sort_unstable_by_key(|holder| {
            (holder.process_id, holder.process, holder.connection, holder.descriptor)
        });
    }
}
