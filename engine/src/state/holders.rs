//! The descriptors that hold connections.
//!
//! Every scan builds this list anew from its descriptors, in memory allocated at start.

use core::ops::Range;

use crate::limits::Limits;
use crate::walk::{NONE, Snapshot};

/// One descriptor of a TCP socket.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Holder {
    /// Index of the connection in the snapshot.
    pub connection: u32,
    /// The tgid.
    pub process_id: u32,
    pub descriptor: u32,
    /// Index of the process in the snapshot.
    pub process: u32,
    /// Index of the descriptor in the snapshot.
    pub descriptor_row: u32,
}

/// All holders of a scan, sorted by connection, process and descriptor.
#[derive(Debug)]
pub struct Holders {
    list: Vec<Holder>,
    /// Number of holders that did not fit.
    pub dropped: u32,
}

impl Holders {
    /// Allocates for as many holders as one scan can read.
    pub fn new(limits: &Limits) -> Self {
        Self { list: Vec::with_capacity(limits.file_descriptors_seen_max()), dropped: 0 }
    }

    /// Finds all holders of a scan.
    pub fn find(&mut self, snapshot: &Snapshot) {
        self.list.clear();
        self.dropped = 0;
        for (process, row) in snapshot.processes.iter().enumerate() {
            let Some(leader) = snapshot.leader(row) else { continue };
            for table in snapshot.files_structs_of(row) {
                self.add(snapshot, process as u32, leader.task.tgid, &table.descriptors);
            }
        }
        self.list.sort_unstable();
    }

    fn add(
        &mut self,
        snapshot: &Snapshot,
        process: u32,
        process_id: u32,
        descriptors: &Range<u32>,
    ) {
        for (at, row) in snapshot.descriptors.range(descriptors).iter().enumerate() {
            let file = snapshot.files.at(row.file);
            let Some(connection) = file.map(|file| file.connection).filter(|&at| at != NONE) else {
                continue;
            };
            if self.list.len() == self.list.capacity() {
                self.dropped = self.dropped.saturating_add(1);
                continue;
            }
            self.list.push(Holder {
                connection,
                process_id,
                descriptor: row.index,
                process,
                descriptor_row: descriptors.start + at as u32,
            });
        }
    }

    /// The holders of one connection, lowest process and descriptor first; the first is the owner.
    pub fn of(&self, connection: u32) -> &[Holder] {
        let start = self.list.partition_point(|holder| holder.connection < connection);
        let count =
            self.list[start..].iter().take_while(|holder| holder.connection == connection).count();
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
