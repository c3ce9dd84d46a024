//! One scan while it is compared with the state, and the way that its changes take.

use super::change::{Change, Changes, ScanContext};
use super::container::Containers;
use super::file_names::Names;
use crate::time::Now;
use crate::walk::Snapshot;

/// A scan and what it proves.
pub(super) struct Update<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Time of the scan.
    pub(super) now: Now,
    /// Number of scans in a row from which an object must be absent to have ended, as of this scan;
    /// `None` if absence from it proves nothing.
    pub(super) absent_scans_max: Option<u32>,
    /// Whether all that is new belongs to the baseline, except later arrivals.
    pub(super) quiet: bool,
    pub(super) out: &'a mut dyn Changes,
}

impl Update<'_> {
    /// Borrows what changes refer to, and leaves the other parts of the state free.
    pub(super) fn emitter<'b>(
        &'b mut self,
        containers: &'b Containers,
        names: &'b mut Names,
    ) -> Emitter<'b> {
        let Self { snapshot, now, .. } = *self;
        Emitter { snapshot, containers, names, now, out: self.out }
    }
}

/// Everything needed to report a change.
pub(super) struct Emitter<'a> {
    pub(super) snapshot: &'a Snapshot,
    containers: &'a Containers,
    pub(super) names: &'a mut Names,
    pub(super) now: Now,
    out: &'a mut dyn Changes,
}

impl Emitter<'_> {
    pub(super) fn emit(&mut self, change: &Change<'_>) {
        self.emit_named(|_| *change);
    }

    /// Reports a change that borrows names.
    pub(super) fn emit_named<'b>(&'b mut self, change: impl FnOnce(&'b Names) -> Change<'b>) {
        let names = &*self.names;
        let context = ScanContext {
            snapshot: self.snapshot,
            containers: self.containers,
            strings: &names.strings,
            now: self.now,
        };
        self.out.change(&context, &change(names));
    }
}
