//! Relays by regular files, shared memory and message queues: what one process writes there, and
//! another reads.
//!
//! Files and memory are followed only for an interpreter that reads commands, and only if nothing
//! else leads both ways. A file may be read by somebody else than its writer means, so each file on
//! the way must have been written since its writer began.

use panoptes_decoders::kernel::inode::Attributes;

use super::direction::ConnectionDirection;
use super::graph::{ChannelEnd, Edges};
use super::interpreter::{Commands, Interpreter};
use super::search::Hop;
use super::{DetectorContext, MachineState, ReverseShells, Shell, ShellCandidate, counters_of};
use crate::page_cache::ContentSource;
use crate::walk::{FileRow, FilesRow, Index, Snapshot};

/// Longest time by which a change may lie before its writer: the kernel takes its time from
/// a clock that moves with the timer (`current_time` in fs/inode.c), 100 times a second at least.
const TICK_NS: i64 = 10_000_000;

/// Whether an interpreter takes commands from its input.
pub(super) const fn reads_commands(interpreter: Interpreter) -> bool {
    matches!(interpreter.commands, Commands::Input { .. } | Commands::Lines)
}

impl ReverseShells {
    /// Follows the bytes of one interpreter over regular files and shared memory too. The ways of
    /// the last search are lost.
    pub(super) fn follow_over_files(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        shell: Shell<'_>,
        files: &mut dyn ContentSource,
    ) {
        if self.graph.begin_apart() {
            if !self.follow_over(context, state, shell, files, Edges::WithFiles) {
                let shell = self.recognised(shell, files);
                self.watch_one_foot(context, state, &shell, Edges::WithFiles);
            }
            self.graph.end_apart();
        } else {
            self.count_cut(&shell);
        }
    }

    /// Whether a search that follows files and memory may find more than the last one, which did
    /// not follow them.
    pub(super) fn may_lead_over_files(&self, shell: &Shell<'_>) -> bool {
        !shell.is_fork()
            && (self.inward.met_files() || self.outward.met_files())
            && shell.interpreter.is_none_or(reads_commands)
    }

    /// Whether an interpreter writes to a file that another process reads.
    pub(super) fn writes_to_relay(&self, shell: &Shell<'_>) -> bool {
        let (snapshot, [_, output, error]) = (shell.snapshot, shell.stdio);
        [output, error].into_iter().flatten().any(|at| {
            let file = snapshot.descriptors.at(at).and_then(|row| row.file);
            let object = self.graph.object_of(snapshot, file, Edges::WithFiles);
            matches!(object, Some(ChannelEnd::File(_)))
        })
    }

    /// Whether a candidate's paths lead over regular files, shared memory or message queues.
    pub(super) fn leads_over_files(&self, candidate: &ShellCandidate) -> bool {
        self.leads_over(candidate, |it| matches!(it, ChannelEnd::File(_)) || it.is_shared())
    }

    fn leads_over(&self, candidate: &ShellCandidate, is_it: impl Fn(ChannelEnd) -> bool) -> bool {
        let inward = self.inward.path(candidate.inward);
        let mut hops = inward.chain(self.outward.path(candidate.outward));
        hops.any(|hop| is_it(hop.object))
    }

    /// Whether bytes of the peer can have passed all files of a candidate: the peer has sent
    /// something, and each file has been written since its writer on the path began. When memory
    /// was written is not known, nor what a message had in it; servers use both for other reasons,
    /// so the connection must not be one that was accepted.
    pub(super) fn are_files_used(&self, shell: &Shell<'_>, candidate: &ShellCandidate) -> bool {
        let received = counters_of(shell.snapshot, candidate.object).map(|it| it.bytes_in);
        if received == Some(0) {
            return false;
        }
        let is_outbound = candidate.direction != ConnectionDirection::Accepted;
        if !is_outbound && self.leads_over(candidate, ChannelEnd::is_shared) {
            return false;
        }
        // A log that a shipper sends to where a script came from is no answer to that peer.
        if candidate.out_object != candidate.object && self.leads_over_files(candidate) {
            return false;
        }
        self.are_ways_used(shell, candidate)
    }

    /// The same for commands of one peer and answers to another. They lead over no shared memory
    /// and no message queue. Output that a shipper reads from a file is a log.
    pub(super) fn are_ways_of_two_used(
        &self,
        shell: &Shell<'_>,
        candidate: &ShellCandidate,
    ) -> bool {
        let mut answers = self.outward.path(candidate.outward);
        !self.leads_over(candidate, ChannelEnd::is_shared)
            && !answers.any(|hop| matches!(hop.object, ChannelEnd::File(_)))
            && self.are_ways_used(shell, candidate)
    }

    /// Whether bytes of the peer can have passed all regular files of a candidate.
    fn are_ways_used(&self, shell: &Shell<'_>, candidate: &ShellCandidate) -> bool {
        let received = counters_of(shell.snapshot, candidate.object).map_or(0, |it| it.bytes_in);
        let is_outbound = candidate.direction != ConnectionDirection::Accepted;
        let received = if is_outbound { received } else { 0 };
        let mut outer: Option<&Hop> = None;
        for hop in self.inward.path(candidate.inward) {
            if let (ChannelEnd::File(file), Some(writer)) = (hop.object, outer) {
                let is_meant = is_meant_for_reader(shell.snapshot, file, writer, received);
                if !is_meant || !self.is_written_by(shell, file, writer.table) {
                    return false;
                }
            }
            outer = Some(hop);
        }
        self.outward.path(candidate.outward).all(|hop| match hop.object {
            ChannelEnd::File(file) => self.is_written_by(shell, file, hop.table),
            _ => true,
        })
    }

    /// Whether a file has content and was changed since a process began, as far as the machine's
    /// clock is known. The time of the change is one that no program can set (`ctime`).
    fn is_written_by(
        &self,
        shell: &Shell<'_>,
        file: Index<FileRow>,
        writer: Index<FilesRow>,
    ) -> bool {
        let snapshot = shell.snapshot;
        let inode = snapshot.files.at(file).and_then(|row| snapshot.inodes.at(row.inode));
        let leader = self.process_of(shell, writer).and_then(|row| snapshot.leader(row));
        let (Some(inode), Some(leader)) = (inode, leader) else { return false };
        let began = snapshot
            .machine
            .boot_to_real_ns
            .map_or(0, |offset| offset.saturating_add_unsigned(leader.task.start_boottime));
        let changed_ns = inode.attributes.ctime_ns.saturating_add(TICK_NS);
        inode.attributes.size > 0 && changed_ns >= began
    }
}

/// Whether a process passes on to a file what it gets, other than a daemon that has a log or a
/// queue of its own. Then the file is its standard output, has no name, or has no more bytes than
/// the peer has sent.
fn is_meant_for_reader(
    snapshot: &Snapshot,
    file: Index<FileRow>,
    writer: &Hop,
    received: u64,
) -> bool {
    let inode = snapshot.files.at(file).and_then(|row| snapshot.inodes.at(row.inode));
    let is_at_stdio = snapshot.descriptors.at(writer.inner).is_some_and(|row| row.index < 3);
    let fits = |attributes: &Attributes| attributes.nlink == 0 || attributes.size <= received;
    is_at_stdio || inode.is_some_and(|row| fits(&row.attributes))
}
