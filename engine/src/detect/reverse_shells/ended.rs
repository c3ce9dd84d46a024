//! Shells that ended while it was undecided whether their starter would feed them any more.
//!
//! An agent closes its end of the pipe when it has passed on a script, and the shell ends after
//! that. If the shell has ended, or the connection, and the starter still holds its end of the
//! pipe, it was a session.

use arrayvec::ArrayVec;
use panoptes_decoders::layout::c_string;

use super::finding::{ChainMember, ChainStep, ReverseShell, end_of, through};
use super::graph::{ChannelEnd, object_of};
use super::judge::Reason;
use super::pending::{FedShell, UndecidedPair};
use super::rows::process_of_key;
use super::search::Hop;
use super::shell::Shell;
use super::{ReverseShells, ShellCandidate, is_relay, line_of, name_of};
use crate::detect::{Acceptance, DetectorContext, Finding};
use crate::state::MachineState;
use crate::state::facts::ProcessFacts;
use crate::state::process::ProcessKey;
use crate::walk::{DescriptorRow, ProcessRow, Snapshot};

/// Maximum number of shells that are reported when they end, in one scan.
const ENDED_OF_ONE_SCAN: usize = 16;

impl ReverseShells {
    /// The ancestor of an interpreter that writes to its standard input, by a pipe or a pair of
    /// sockets, and is more than a relay; and its hop.
    pub(super) fn feeder_of<'a>(
        &self,
        shell: &Shell<'a>,
        candidate: &ShellCandidate,
    ) -> Option<(&'a ProcessRow, Hop)> {
        let snapshot = shell.snapshot;
        // The last hop is the interpreter's own, the one before it that of the process that writes
        // its input.
        let (mut writer, mut own) = (None, None);
        for hop in self.inward.path(candidate.inward) {
            writer = own.replace(*hop);
        }
        let (writer, own) = (writer?, own?);
        let is_starter = |row: &&ProcessRow| {
            row.files == Some(writer.table) && !is_relay(name_of(snapshot, row))
        };
        let starter = line_of(snapshot, shell.process).skip(1).find(is_starter)?;
        matches!(own.object, ChannelEnd::Pipe(_) | ChannelEnd::Unix(_)).then_some((starter, writer))
    }

    /// Returns the facts to keep of a shell that its starter feeds.
    pub(super) fn fed(&self, shell: &Shell<'_>, candidate: &ShellCandidate) -> Option<FedShell> {
        let snapshot = shell.snapshot;
        let (starter, hop) = self.feeder_of(shell, candidate)?;
        let held = snapshot.descriptors.at(hop.inner)?;
        Some(FedShell {
            name: snapshot.leader(snapshot.processes.at(shell.process)?)?.task.comm,
            starter: ProcessKey::of(&snapshot.leader(starter)?.task),
            held: (held.index, snapshot.files.at(held.file)?.address),
            through: through(snapshot, object_of(snapshot, held.file)?),
            end: end_of(snapshot, candidate.object)?,
            direction: candidate.direction,
            interpreter: shell.interpreter?,
        })
    }

    /// Reports shells that this scan does not show any more, or not their connection, while their
    /// starters still hold what fed them.
    pub(super) fn report_ended(&mut self, context: &mut DetectorContext<'_>, state: &MachineState) {
        let snapshot = context.cx.snapshot;
        let mut ended = ArrayVec::<UndecidedPair, ENDED_OF_ONE_SCAN>::new();
        let all = self.pending.undecided();
        let all =
            all.filter(|one| has_ended(snapshot, one) && !self.reported.has_key(one.pair.key));
        ended.extend(all.take(ENDED_OF_ONE_SCAN));
        for one in ended {
            if !self.reported.makes_room(true) {
                self.lost.stand(1, Some(one.pair.process.process_id));
            } else if report(context, state, &one) == Acceptance::Yes {
                let rows = snapshot.connections.indexes().map(ChannelEnd::Connection);
                let key = Some(one.pair.key);
                let mut same = rows.filter(|&it| self.reported.key(snapshot, it) == key);
                if let Some(object) = same.next() {
                    self.reported.add(snapshot, object);
                }
            }
        }
    }
}

/// Whether a shell has ended, or its starter's connection, and the starter still holds its end of
/// the pipe.
fn has_ended(snapshot: &Snapshot, one: &UndecidedPair) -> bool {
    let Some(starter) = process_of_key(snapshot, &one.fed.starter) else { return false };
    let table = snapshot.files_structs.at(starter.files);
    let Some(table) = table.filter(|_| starter.stable && starter.files_stable) else {
        return false;
    };
    let rows = snapshot.descriptors.range(table.descriptors);
    let file = |row: &DescriptorRow| snapshot.files.at(row.file);
    let still_holds = rows.iter().any(|row| {
        (Some(row.index), file(row).map(|file| file.address))
            == (Some(one.fed.held.0), Some(one.fed.held.1))
    });
    let is_there = |row: &DescriptorRow| {
        matches!(
            object_of(snapshot, row.file),
            Some(ChannelEnd::Connection(_) | ChannelEnd::Datagram(_))
        )
    };
    let shell = process_of_key(snapshot, &one.pair.process);
    let is_unconnected = || table.complete && !rows.iter().any(is_there);
    still_holds && shell.is_none_or(|row| row.stable && row.files_stable && is_unconnected())
}

fn report(
    context: &mut DetectorContext<'_>,
    state: &MachineState,
    one: &UndecidedPair,
) -> Acceptance {
    let UndecidedPair { pair, fed, begun, scans } = *one;
    let facts = |key| state.find(key).map(|process| process.facts(context.cx.strings));
    let of_shell = ProcessFacts {
        name: c_string(&fed.name),
        process_id: pair.process.process_id,
        start_boottime: pair.process.start_boottime,
        self_exec_id: Some(pair.exec_id),
        ..ProcessFacts::default()
    };
    let Some(of_starter) = facts(&fed.starter) else { return Acceptance::Yes };
    let members = [of_starter, facts(&pair.process).unwrap_or(of_shell)]
        .map(|process| ChainMember { process, descriptors: &[], connections: &[], is_cut: true });
    let step = |member, through| ChainStep { member, through };
    let finding = ReverseShell {
        reason: Reason::Commanded,
        direction: fed.direction,
        end: fed.end,
        out_end: None,
        interpreter: fed.interpreter,
        is_tunnel: false,
        since_ns: context.cx.now.real_of(begun),
        scans,
        members: &members,
        is_cut: false,
        inward: &[step(0, Some(fed.through)), step(1, None)],
        outward: &[],
    };
    context.found(&Finding::ReverseShell(&finding))
}
