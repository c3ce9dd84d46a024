//! The threads, descriptors and areas of one process.

use panoptes_decoders::address::KernelVa;
use panoptes_tables::{PoolList, Tag};

use super::process::{InExec, Process};
use crate::walk::ProcessRow;

/// The threads, descriptors and areas of one process.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Children {
    pub(super) threads: PoolList,
    pub(super) descriptors: PoolList,
    pub(super) areas: PoolList,
    /// Grows with every change of the areas.
    pub(super) areas_version: u32,
    /// The address space of the areas: its address, and `self_exec_id`.
    pub(super) space: (KernelVa, u32),
    pub(super) threads_taken: bool,
    pub(super) descriptors_taken: bool,
    /// Address of the main table of the last scan, or 0.
    pub(super) table: u64,
    /// Address of a table of its threads that was its main one. The main one is a copy.
    pub(super) copied_from: u64,
    /// Number of tables of its threads of which it may have descriptors.
    pub(super) own_tables: u16,
    /// The machine's calendar time at the last scan that had all descriptors.
    pub(super) descriptors_clock_ns: Option<i64>,
    pub(super) areas_taken: bool,
    /// Number of scans that showed some of its areas before that.
    pub(super) areas_scans: u8,
    pub(super) untracked: UntrackedStart,
    /// Whether some of its descriptors may wait to be reported ([`super::held`]).
    pub(super) descriptors_held: bool,
    /// Whether all of its areas wait.
    pub(super) areas_held: bool,
}

/// Number of scans that may show only some areas until all have been seen that were there before.
const AREAS_SCANS_MAX: u8 = 64;

impl Children {
    /// Records that areas were compared: all of them, or some, by a scan that counts 1 or 0
    /// times.
    pub(super) fn note_areas(&mut self, complete: bool, counts: u8) {
        self.areas_scans = self.areas_scans.saturating_add(counts);
        self.areas_taken |= complete || self.areas_scans >= AREAS_SCANS_MAX;
    }
}

/// First rows of a process that are not tracked, because it has more than its share. Objects that
/// are tracked later may be older than their row, so they are not reported as new.
#[derive(Clone, Copy, Debug)]
pub(super) struct UntrackedStart {
    /// A thread id.
    pub(super) threads: u32,
    /// A table and a descriptor's number in it.
    pub(super) descriptors: (Tag<3>, u32),
    /// An address.
    pub(super) areas: u64,
    /// A hash of the areas that are not tracked.
    pub(super) areas_hash: u64,
}

impl Default for UntrackedStart {
    /// Everything is tracked.
    fn default() -> Self {
        Self {
            threads: u32::MAX,
            descriptors: (Tag::MAX, u32::MAX),
            areas: u64::MAX,
            areas_hash: 0,
        }
    }
}

/// How many rows of each kind a process may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowAllowance {
    pub(super) threads: u32,
    pub(super) descriptors: u32,
    pub(super) areas: u32,
}

/// One process while its children are compared.
pub(super) struct ComparedProcess<'a> {
    pub(super) process: &'a Process,
    pub(super) row: &'a ProcessRow,
    pub(super) children: &'a mut Children,
    /// Whether the children found with it belong to the baseline.
    pub(super) silent: bool,
    /// How far its exec is.
    pub(super) in_exec: InExec,
    /// The machine's calendar time at the previous scan.
    pub(super) clock_ns: Option<i64>,
    pub(super) allowed: RowAllowance,
}

impl ComparedProcess<'_> {
    /// Whether new children of one kind belong to the baseline; `taken` if the first of that kind
    /// were recorded before.
    pub(super) fn quiet(&self, taken: bool) -> bool {
        self.silent && !taken
    }
}
