//! Which sessions are exempt: what holds the outermost connection decides, never what stands on
//! the way.
//!
//! A login exempts only what lies behind it. A peer that reaches a login server of this machine
//! through a relay has a chain of its own: `nc A P | ssh -T root@127.0.0.1` is a shell for the
//! peer at A. Bytes that reach the server over connections alone are those of a login: a proxy in
//! front of it passes them so, and the system's ssh client (`ssh -R`).

use super::direction::ConnectionDirection;
use super::graph::{ChannelEnd, mirror, object_of};
use super::rows::{holds_at_stdio, line_of};
use super::search::Hop;
use super::servers::{self, KnownProcesses};
use super::shell::Shell;
use super::{ReverseShells, ShellCandidate};
use crate::walk::Index;

/// Ports of X11 displays (`6000 + display`); those that a login forwards begin at the eleventh.
const X11_PORTS: core::ops::RangeInclusive<u16> = 6000..=6063;

/// How a login server of this machine stands on the path of a candidate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Login {
    /// It is none, or one that a relay on the path uses.
    None,
    /// The peer's own: the server holds the connection, or gets what comes over it as it comes.
    Peers,
    /// The same, but a process of this machine began the connection and passes it on. So do
    /// services for remote access, which `login_servers` may name.
    Tunnel,
}

impl ReverseShells {
    /// Whether a path leads through a command that a terminal multiplexer runs. The line of its
    /// status may show what a peer knows (`#(curl …)`): `job_run` (job.c of tmux 3.4) gives these
    /// commands the same pair of sockets as `pipe-pane` gives its own.
    pub(super) fn is_of_multiplexer(
        &mut self,
        known: &KnownProcesses<'_>,
        shell: &Shell<'_>,
        candidate: &ShellCandidate,
    ) -> bool {
        let snapshot = shell.snapshot;
        let mut outer = None;
        for hop in self.inward.path(candidate.inward) {
            let command = outer.replace(hop.table);
            if !hop.leads_from_master_to_socket(snapshot) {
                continue;
            }
            let Some(process) = self.process_of(shell, hop.table) else { continue };
            // Clients of the multiplexer have such pairs, too (`tmux -C`).
            let command = command.and_then(|table| self.index_of(shell, table));
            let mut line = command.into_iter().flat_map(|at| line_of(snapshot, at).take(3));
            let is_started = line.any(|it| core::ptr::eq(it, process));
            if is_started && known.multiplexes(process, &mut self.path) {
                return true;
            }
        }
        false
    }

    /// How a login server stands on the path of a candidate. Between the outermost connection and
    /// the server there may be further connections, but no pipe, pair, pseudoterminal or file:
    /// behind those, another program talks to the server.
    pub(super) fn login_of(
        &mut self,
        known: &KnownProcesses<'_>,
        shell: &Shell<'_>,
        candidate: &ShellCandidate,
    ) -> Login {
        let snapshot = shell.snapshot;
        let mut is_exempt = candidate.direction != ConnectionDirection::Outbound;
        for (at, hop) in self.inward.path(candidate.inward).enumerate() {
            let Some(process) = self.process_of(shell, hop.table) else { break };
            // A shell is not the server that the configuration names.
            let is_named = hop.table != shell.table
                && known.is_named(&self.login_servers, process, &mut self.path);
            // Agents that the user has named request sessions from their peer themselves.
            if at == 0 && is_named {
                return Login::Peers;
            }
            let ChannelEnd::Connection(_) = hop.object else { break };
            let is_server = self.direction_of(snapshot, hop.object)
                != ConnectionDirection::Outbound
                && (is_named || known.serves_logins(process, &mut self.path));
            if is_server {
                return if is_exempt { Login::Peers } else { Login::Tunnel };
            }
            is_exempt |= at == 0 && servers::is_client(snapshot, process, &mut self.path);
        }
        Login::None
    }

    /// Whether a candidate belongs to one of these logins.
    ///
    /// A login server also connects on behalf of the user (an editor's server, by `ssh -L`). The
    /// accepting end of such a connection belongs to the login, too.
    pub(super) fn is_of_login(
        &mut self,
        known: &KnownProcesses<'_>,
        shell: &Shell<'_>,
        logins: &[ShellCandidate],
        candidate: &ShellCandidate,
    ) -> bool {
        let object = candidate.object;
        logins.iter().any(|login| {
            let is_on_path = self.inward.path(login.inward).any(|hop| hop.object == object);
            is_on_path
                && (candidate.direction == ConnectionDirection::Accepted
                    || self.leads_to_windows(known, shell, login.inward, object))
                || self.is_beside(known, shell, (login, logins), candidate)
        })
    }

    /// Whether a candidate's peer is one that a server on the path connects to for the login's
    /// user, beside the login's own connection: `ssh -L`, `ssh -D`, or a proxy in front of the
    /// server that also serves others. For a proxy that counts only if the login comes from
    /// outside, perhaps by a further proxy: a relay could hold any other connection.
    fn is_beside(
        &mut self,
        known: &KnownProcesses<'_>,
        shell: &Shell<'_>,
        (login, logins): (&ShellCandidate, &[ShellCandidate]),
        candidate: &ShellCandidate,
    ) -> bool {
        let snapshot = shell.snapshot;
        let is_from_elsewhere = |end: ChannelEnd| match end {
            ChannelEnd::Connection(at) => mirror(snapshot, at).is_none(),
            _ => false,
        };
        let is_from_outside = logins.iter().any(|far| {
            far.direction == ConnectionDirection::Accepted
                && is_from_elsewhere(far.object)
                && self.inward.path(far.inward).any(|hop| hop.object == login.object)
        });
        if self.inward.path(candidate.inward).any(|hop| hop.object == login.object) {
            return false;
        }
        for hop in self.inward.path(candidate.inward) {
            let process = self.process_of(shell, hop.table);
            if self.graph.holds(snapshot, hop.table, login.object)
                && (is_from_outside
                    || process.is_some_and(|it| known.serves_logins(it, &mut self.path)))
            {
                return true;
            }
        }
        false
    }

    /// Whether a candidate on a login's path is the connection by which a program shows its windows
    /// to the logged-in user (`ssh -X`): its destination is an X11 port at which the login's server
    /// listens.
    fn leads_to_windows(
        &mut self,
        known: &KnownProcesses<'_>,
        shell: &Shell<'_>,
        login: Option<Index<Hop>>,
        object: ChannelEnd,
    ) -> bool {
        let snapshot = shell.snapshot;
        let ChannelEnd::Connection(at) = object else { return false };
        let port = snapshot.connections.at(at).map(|row| row.endpoints.destination_port);
        if !port.is_some_and(|port| X11_PORTS.contains(&port)) {
            return false;
        }
        // The process of the previous hop towards the peer holds the other end.
        let mut server = None;
        for hop in self.inward.path(login) {
            if hop.object == object {
                break;
            }
            server = Some(hop.table);
        }
        let process = server.and_then(|table| self.process_of(shell, table));
        process.is_some_and(|process| known.serves_logins(process, &mut self.path))
    }

    /// Whether a container's runtime passes its own connection to a process inside (`docker exec`,
    /// `kubectl exec`). What that process starts belongs to the session, too.
    ///
    /// A runtime and its helpers use descriptors of their own for that. A process that takes the
    /// bytes from its standard input, or passes them to its standard output, is a client that
    /// somebody else feeds: `nc A P | docker exec -i C sh`. A connection into the container leads
    /// to a service there.
    pub(super) fn is_passed_into_container(
        &self,
        shell: &Shell<'_>,
        candidate: &ShellCandidate,
    ) -> bool {
        let snapshot = shell.snapshot;
        let mut holder = None;
        let mut was_outside = false;
        for hop in self.inward.path(candidate.inward) {
            let Some(process) = self.process_of(shell, hop.table) else { return false };
            let holder = *holder.get_or_insert(process.container);
            if !process.container_known {
                return false;
            }
            if process.container.is_some() && process.container != holder {
                return was_outside && !matches!(hop.object, ChannelEnd::Connection(_));
            }
            was_outside |= process.container.is_none();
            let inner = snapshot.descriptors.at(hop.inner);
            let inner = inner.and_then(|row| object_of(snapshot, row.file));
            let mut objects = [Some(hop.object), inner].into_iter().flatten();
            if objects.any(|object| holds_at_stdio(snapshot, process, object)) {
                return false;
            }
        }
        false
    }
}
