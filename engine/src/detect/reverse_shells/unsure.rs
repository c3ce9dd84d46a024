//! Findings that wait, because the scan left what may exempt them.

use super::rows::line_of;
use super::shell::Shell;
use super::{Candidate, Shells};
use crate::time::Monotonic;
use crate::walk::{FilesRow, Index};

/// For how long scans that leave something for the next may leave an exemption unknown. After that,
/// what they do not show does not count.
const UNSURE_NS: i64 = 2_000_000_000;

impl Shells {
    /// Whether a finding waits for what the last scan left.
    pub const fn waits(&self) -> bool {
        self.waits
    }

    /// Whether the scan left something that may exempt a candidate or belong to its path: sockets
    /// that listen, descriptors of a process on the path, or those of a process at the other end of
    /// its connection. A later scan judges it then.
    pub(super) fn is_unsure(
        &self,
        shell: &Shell<'_>,
        candidate: &Candidate,
        now: Monotonic,
    ) -> bool {
        let Some(since) = self.partial_since else { return false };
        if now.since(since) >= UNSURE_NS {
            return false;
        }
        let snapshot = shell.snapshot;
        let is_left = |table: Option<Index<FilesRow>>| {
            snapshot.files_structs.at(table).is_some_and(|table| !table.complete)
        };
        let (inward, outward) = (candidate.inward, candidate.outward);
        let mut hops = self.inward.path(inward).chain(self.outward.path(outward));
        let ends = [candidate.object, candidate.out_object];
        snapshot.left.chains > 0
            || snapshot.left.tables > 0
                && ends.into_iter().any(|end| self.graph.lacks_other_holder(snapshot, end))
            || hops.any(|hop| is_left(Some(hop.table)))
            || line_of(snapshot, shell.process).any(|process| is_left(process.files))
    }
}
