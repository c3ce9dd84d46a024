//! Shells with one foot in the network: commands come over a connection on which nothing was
//! asked, and the output goes elsewhere (`nc A P | sh >/dev/null`).
//!
//! `curl … | sh` asks first. A server that sends a script at once sends one, so a shell is reported
//! only when it has run processes for two messages ([`super::turns`]).

use arrayvec::ArrayVec;

use super::exemption::Login;
use super::interpreter::Commands;
use super::search::Hop;
use super::servers::Known;
use super::shell::Shell;
use super::{CANDIDATES_MAX, Candidate, Object, Shells, ends_of};
use crate::walk::Index;

impl Shells {
    /// Whether nothing exempts the peers that an interpreter's input comes from, and its output
    /// goes to none of them. The searches are those of [`Self::follow`].
    pub(super) fn is_fed_unasked(&mut self, known: &Known<'_>, shell: &Shell<'_>) -> bool {
        let snapshot = shell.snapshot;
        let reads_input = |commands| matches!(commands, Commands::Input { .. });
        if !shell.interpreter.is_some_and(|it| reads_input(it.commands)) {
            return false;
        }
        // A shell that forks for a part of a pipeline takes no commands from its input
        // (`nc A P | while read line; do …`).
        let process = snapshot.processes.at(shell.process);
        let leader = process.and_then(|process| snapshot.leader(process));
        if leader.is_none_or(|leader| leader.task.is_fork()) {
            return false;
        }
        let mut ends = ArrayVec::<(Object, Option<Index<Hop>>), CANDIDATES_MAX>::new();
        ends.extend(ends_of(&self.inward).take(CANDIDATES_MAX));
        !ends.is_empty()
            && ends.into_iter().all(|(object, inward)| {
                let direction = self.direction_of(snapshot, object);
                let candidate = Candidate::new(object, inward, direction);
                let goes_back = ends_of(&self.outward).any(|(other, _)| other == object);
                !goes_back
                    && self.login_of(known, shell, &candidate) == Login::None
                    && !self.is_passed_into_container(shell, &candidate)
            })
    }
}
