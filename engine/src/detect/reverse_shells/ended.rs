//! Shells that ended while it was undecided whether their starter would feed them any more.
//!
//! An agent closes its end of the pipe when it has passed on a script, and the shell ends after
//! that. If the shell has ended, or the connection, and the starter still holds its end of the
//! pipe, it was a session.

use arrayvec::ArrayVec;
use panoptes_decoders::layout::c_string;

use super::finding::{Member, ReverseShell, Step, end_of, through};
use super::graph::{Object, object_of};
use super::judge::Reason;
use super::pending::{Fed, Undecided};
use super::rows::process_of_key;
use super::search::Hop;
use super::shell::Shell;
use super::{Candidate, Shells, is_relay, line_of, name_of};
use crate::detect::{Accepted, Finding, Scene};
use crate::state::State;
use crate::state::facts::ProcessFacts;
use crate::state::process::ProcessKey;
use crate::walk::{DescriptorRow, ProcessRow, Snapshot};

/// Maximum number of shells that are reported when they end, in one scan.
const ENDED_OF_ONE_SCAN: usize = 16;

impl Shells {
    /// The ancestor of an interpreter that writes to its standard input, by a pipe or a pair of
    /// sockets, and is more than a relay; and its hop.
    pub(super) fn feeder_of<'a>(
        &self,
        shell: &Shell<'a>,
        candidate: &Candidate,
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
        matches!(own.object, Object::Pipe(_) | Object::Unix(_)).then_some((starter, writer))
    }

    /// What is kept of a shell that its starter feeds.
    pub(super) fn fed(&self, shell: &Shell<'_>, candidate: &Candidate) -> Option<Fed> {
        let snapshot = shell.snapshot;
        let (starter, hop) = self.feeder_of(shell, candidate)?;
        let held = snapshot.descriptors.at(hop.inner)?;
        Some(Fed {
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
    pub(super) fn report_ended(&mut self, scene: &mut Scene<'_>, state: &State) {
        let snapshot = scene.cx.snapshot;
        let mut ended = ArrayVec::<Undecided, ENDED_OF_ONE_SCAN>::new();
        let all = self.pending.undecided();
        let all =
            all.filter(|one| has_ended(snapshot, one) && !self.reported.has_key(one.pair.key));
        ended.extend(all.take(ENDED_OF_ONE_SCAN));
        for one in ended {
            if !self.reported.makes_room(true) {
                self.lost.stand(1, Some(one.pair.process.process_id));
            } else if report(scene, state, &one) == Accepted::Yes {
                let rows = snapshot.connections.indexes().map(Object::Connection);
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
fn has_ended(snapshot: &Snapshot, one: &Undecided) -> bool {
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
        matches!(object_of(snapshot, row.file), Some(Object::Connection(_) | Object::Datagram(_)))
    };
    let shell = process_of_key(snapshot, &one.pair.process);
    let is_unconnected = || table.complete && !rows.iter().any(is_there);
    still_holds && shell.is_none_or(|row| row.stable && row.files_stable && is_unconnected())
}

fn report(scene: &mut Scene<'_>, state: &State, one: &Undecided) -> Accepted {
    let Undecided { pair, fed, begun, scans } = *one;
    let facts = |key| state.find(key).map(|process| process.facts(scene.cx.strings));
    let of_shell = ProcessFacts {
        name: c_string(&fed.name),
        process_id: pair.process.process_id,
        start_boottime: pair.process.start_boottime,
        self_exec_id: Some(pair.exec_id),
        ..ProcessFacts::default()
    };
    let Some(of_starter) = facts(&fed.starter) else { return Accepted::Yes };
    let members = [of_starter, facts(&pair.process).unwrap_or(of_shell)].map(|process| Member {
        process,
        descriptors: &[],
        connections: &[],
        is_cut: true,
    });
    let step = |member, through| Step { member, through };
    let finding = ReverseShell {
        reason: Reason::Commanded,
        direction: fed.direction,
        end: fed.end,
        out_end: None,
        interpreter: fed.interpreter,
        is_tunnel: false,
        since_ns: begun,
        scans,
        members: &members,
        is_cut: false,
        inward: &[step(0, Some(fed.through)), step(1, None)],
        outward: &[],
    };
    scene.found(&Finding::ReverseShell(&finding))
}
