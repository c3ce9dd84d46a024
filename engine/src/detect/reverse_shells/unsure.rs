//! Findings that wait, because the scan left what may exempt them.

use super::rows::line_of;
use super::search::Hop;
use super::servers::KnownProcesses;
use super::shell::Shell;
use super::{ReverseShells, ShellCandidate};
use crate::walk::{FilesRow, Index};

/// For how long scans that leave something for the next may leave an exemption unknown. After that,
/// what they do not show does not count.
const UNSURE_NS: i64 = 2_000_000_000;

impl ReverseShells {
    /// Whether the scan left something that may exempt a candidate or belong to its path: sockets
    /// that listen, descriptors of a process on the path, or those of a process at the other end of
    /// its connection. The same holds for the program of a process that had begun to end when it
    /// was first seen. A later scan judges it then.
    pub(super) fn is_unsure(
        &self,
        known: &KnownProcesses<'_>,
        shell: &Shell<'_>,
        candidate: &ShellCandidate,
    ) -> bool {
        let (snapshot, now) = (shell.snapshot, known.cx.now.monotonic);
        let (inward, outward) = (candidate.inward, candidate.outward);
        let hops = || self.inward.path(inward).chain(self.outward.path(outward));
        let is_ending = |hop: &Hop| {
            let process = self.process_of(shell, hop.table);
            let since = process.and_then(|process| known.ends_unseen_since(process));
            since.is_some_and(|since| now.since(since) < UNSURE_NS)
        };
        if hops().any(is_ending) {
            return true;
        }
        let Some(since) = self.partial_since else { return false };
        if now.since(since) >= UNSURE_NS {
            return false;
        }
        let is_left = |table: Option<Index<FilesRow>>| {
            snapshot.files_structs.at(table).is_some_and(|table| !table.complete)
        };
        let ends = [candidate.object, candidate.out_object];
        snapshot.left.chains > 0
            || snapshot.left.tables > 0
                && ends.into_iter().any(|end| self.graph.lacks_other_holder(snapshot, end))
            || hops().any(|hop| is_left(Some(hop.table)))
            || line_of(snapshot, shell.process).any(|process| is_left(process.files))
    }
}
