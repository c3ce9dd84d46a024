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

    /// Whether the scan left something that may exempt a candidate: sockets that listen, or
    /// descriptors of a process on the path. A later scan judges it then.
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
        snapshot.left.chains > 0
            || hops.any(|hop| is_left(Some(hop.table)))
            || line_of(snapshot, shell.process).any(|process| is_left(process.files))
    }
}
