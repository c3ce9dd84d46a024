//! Shells with one foot in the network: commands come over a connection on which nothing was
//! asked, and the output goes elsewhere (`nc A P | sh >/dev/null`).
//!
//! `curl … | sh` asks first. A server that sends a script at once sends one, so a shell is reported
//! only when it has run processes for two messages ([`super::turns`]).

use arrayvec::ArrayVec;

use super::exemption::Login;
use super::interpreter::Commands;
use super::servers::KnownProcesses;
use super::shell::Shell;
use super::{CANDIDATES_MAX, ChannelEnd, ReverseShells, ShellCandidate, ends_of};

impl ReverseShells {
    /// The connections that feed an interpreter and that nothing exempts, nearest first. Its output
    /// goes to none of them. The searches are those of [`Self::follow`].
    ///
    /// Each connection counts for itself. A relay that a user starts in a login has the terminal as
    /// its standard input, so the login's own connection feeds the interpreter, too.
    pub(super) fn unasked_ends(
        &mut self,
        known: &KnownProcesses<'_>,
        shell: &Shell<'_>,
    ) -> ArrayVec<ShellCandidate, CANDIDATES_MAX> {
        let snapshot = shell.snapshot;
        let mut ends = ArrayVec::<ShellCandidate, CANDIDATES_MAX>::new();
        let reads_input = |commands| matches!(commands, Commands::Input { .. });
        if !shell.interpreter.is_some_and(|it| reads_input(it.commands)) || shell.is_fork() {
            return ends;
        }
        let all = || ends_of(&self.inward).take(CANDIDATES_MAX);
        // Most shells stop here: they are those of logins.
        if all().all(|(object, _)| self.goes_back(object)) {
            return ends;
        }
        ends.extend(all().map(|(object, inward)| {
            ShellCandidate::new(object, inward, self.direction_of(snapshot, object))
        }));
        let mut logins = ArrayVec::<ShellCandidate, CANDIDATES_MAX>::new();
        ends.retain(|end| {
            let is_login = self.login_of(known, shell, end) != Login::None;
            if is_login {
                logins.push(*end);
            }
            !is_login
        });
        ends.retain(|end| {
            !self.goes_back(end.object)
                && !self.is_passed_into_container(shell, end)
                && !self.is_of_login(known, shell, &logins, end)
        });
        ends
    }

    /// Whether output goes to a connection, too.
    fn goes_back(&self, object: ChannelEnd) -> bool {
        ends_of(&self.outward).any(|(other, _)| other == object)
    }
}
