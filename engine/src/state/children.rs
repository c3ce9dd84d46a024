//! The threads, descriptors and areas of one process.

use panoptes_decoders::address::KernelVa;
use panoptes_tables::END;

use super::process::Process;
use crate::walk::ProcessRow;

/// The threads, descriptors and areas of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Children {
    pub(super) threads: u32,
    pub(super) descriptors: u32,
    pub(super) areas: u32,
    /// Grows with every change of the areas.
    pub(super) areas_version: u32,
    /// The address space of the areas: its address, and `self_exec_id`.
    pub(super) space: (KernelVa, u32),
    pub(super) threads_taken: bool,
    pub(super) descriptors_taken: bool,
    pub(super) areas_taken: bool,
}

impl Default for Children {
    fn default() -> Self {
        Self {
            threads: END,
            descriptors: END,
            areas: END,
            areas_version: 0,
            space: (KernelVa::NULL, 0),
            threads_taken: false,
            descriptors_taken: false,
            areas_taken: false,
        }
    }
}

/// One process while its children are compared.
pub(super) struct Entry<'a> {
    pub(super) process: &'a Process,
    pub(super) row: &'a ProcessRow,
    pub(super) children: &'a mut Children,
    /// Whether the children found with it belong to the baseline.
    pub(super) silent: bool,
    /// The machine's calendar time at the previous scan.
    pub(super) clock_ns: Option<i64>,
}

impl Entry<'_> {
    /// Whether new children of one kind belong to the baseline; `taken` if the first of that kind
    /// were recorded before.
    pub(super) fn quiet(&self, taken: bool) -> bool {
        self.silent && !taken
    }
}
