//! The rule: which interpreters that a peer can command are reported, and why others are not.
//!
//! The match in [`judge`] is the whole rule. Its input are facts that the neighbouring modules
//! find.

use super::direction::ConnectionDirection;
use super::interpreter::{Commands, Interpreter, InterpreterKind};

/// Evidence that links an interpreter to a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Case {
    pub interpreter: Interpreter,
    /// How the connection's bytes reach the interpreter.
    pub inward: ConnectionPosition,
    /// How the interpreter's output reaches the connection.
    pub outward: ConnectionPosition,
    /// Which end began the connection.
    pub direction: ConnectionDirection,
    /// Whether a login server holds the connection, or gets what comes over it as it comes.
    pub by_login: bool,
    /// Whether a container's runtime holds the connection, and passes it to a process inside.
    pub into_container: bool,
    /// Whether the oldest process of its line that holds the connection runs the interpreter's own
    /// program.
    pub opened_by_interpreter: bool,
    /// Whether any byte was written to the connection.
    pub has_spoken: bool,
    /// Whether output goes back over the same connection.
    pub is_one_connection: bool,
    /// Whether a process on the path runs a program from its command line.
    pub relayed_by_one_liner: bool,
    /// Whether the process that started it writes to its standard input by a pipe or a pair of
    /// sockets, and is not a mere relay. It may be about to close that, as agents do that pass a
    /// script to a shell.
    pub stdin_from_ancestor: bool,
    /// Whether one process fetches its input and another gets its output, over two connections to
    /// one peer.
    pub fetched: bool,
}

/// How bytes get from a connection to an interpreter, or back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectionPosition {
    /// The connection itself is the standard input, or the standard output or error.
    Stdio,
    /// Other processes relay between the connection and the standard input, or the standard output
    /// or error.
    Relayed,
    /// The connection is at another descriptor.
    OtherFd,
}

/// Why an interpreter is reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// It reads commands from its input, and a peer provides them.
    Commanded,
    /// It runs a program, has opened the connection itself, and takes input from it.
    Opened,
    /// It runs a program, and a one-liner relays the peer's bytes to it.
    OneLiner,
    /// It runs a command that it was given by a process which made an outbound connection its input
    /// and output.
    Given,
    /// It runs a process for each message of the peer; whether what they write goes there.
    Turns { answers: bool },
    /// It does something each time that one peer sends something, and what it writes goes to
    /// another peer.
    TwoPeers,
    /// It starts a process after each message of the peer and sends something after that, in so
    /// many consecutive turns. Where the processes write is unknown.
    TurnsByOrder { turns: u32 },
    /// It reads commands from its input, and any address can provide them: a relay gets them by a
    /// socket without a destination.
    AnyPeer,
}

/// Why an interpreter is not reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exemption {
    /// The session is that of a login server, whose purpose it is.
    Login,
    /// A container's runtime passes its own connection to a process inside (`docker exec`, `kubectl
    /// exec`).
    ContainerExec,
    /// It holds the connection without visible use: it has inherited it, or asks a server
    /// something.
    OnlyHeld,
    /// It runs a program, whose input comes from the connection (services, CGI, agents that run
    /// scripts).
    Program,
}

impl Case {
    /// Whether a program that has opened the connection itself reads its input from it and answers.
    /// A client that asks a server writes first, and reads the answer while its output goes
    /// elsewhere.
    fn takes_input(&self) -> bool {
        match (self.inward, self.outward) {
            (
                ConnectionPosition::Stdio | ConnectionPosition::Relayed,
                ConnectionPosition::Stdio | ConnectionPosition::Relayed,
            ) => true,
            (ConnectionPosition::Relayed, ConnectionPosition::OtherFd) => !self.has_spoken,
            (ConnectionPosition::Stdio, ConnectionPosition::OtherFd)
            | (ConnectionPosition::OtherFd, _) => false,
        }
    }

    /// Whether an interpreter that reads commands from elsewhere, or writes elsewhere, moves a
    /// connection that it holds to its standard input or output.
    pub fn is_at_other_fd(&self) -> bool {
        matches!(self.interpreter.commands, Commands::Input { .. })
            && matches!(
                (self.inward, self.outward),
                (ConnectionPosition::Stdio, ConnectionPosition::OtherFd)
                    | (ConnectionPosition::OtherFd, ConnectionPosition::Stdio)
            )
    }

    /// Whether the reason may apply only for a moment. A process that was just forked still has its
    /// parent's command line, and one inside exec has none. A script that is passed as input has an
    /// end. An interactive shell moves its descriptors for one command (`echo GET >&3`).
    pub fn may_change(&self, reason: Reason) -> bool {
        reason == Reason::Opened
            || self.inward == ConnectionPosition::OtherFd
            || self.outward == ConnectionPosition::OtherFd
            || self.interpreter.commands == Commands::Unknown
            || (reason == Reason::Commanded && self.stdin_from_ancestor)
    }
}

/// Decides whether an interpreter is reported.
pub fn judge(case: &Case) -> Result<Reason, Exemption> {
    use Commands::{Argument, Input, Lines, Script, Unknown};
    let Interpreter { kind, commands } = case.interpreter;
    match (kind, commands, case.direction) {
        _ if case.by_login => Err(Exemption::Login),
        _ if case.into_container => Err(Exemption::ContainerExec),
        _ if case.inward == ConnectionPosition::OtherFd
            && case.outward == ConnectionPosition::OtherFd =>
        {
            Err(Exemption::OnlyHeld)
        }
        // An interactive `echo GET >&3; read -r line <&3`.
        _ if case.is_at_other_fd() && case.has_spoken => Err(Exemption::OnlyHeld),
        _ if case.fetched => Err(Exemption::Program),
        (_, Input { .. } | Lines, _)
        | (InterpreterKind::Shell, Unknown, ConnectionDirection::Outbound) => Ok(Reason::Commanded),
        (
            InterpreterKind::Shell,
            Argument | Script,
            ConnectionDirection::Outbound | ConnectionDirection::Unknown,
        ) if case.opened_by_interpreter && case.takes_input() => Ok(Reason::Opened),
        (
            InterpreterKind::Shell,
            Argument,
            ConnectionDirection::Outbound | ConnectionDirection::Unknown,
        ) if case.relayed_by_one_liner => Ok(Reason::OneLiner),
        // Servers do this with what they have accepted. A command of a client that only reads from
        // a connection, or only writes to it, has the other one elsewhere.
        (InterpreterKind::Shell, Argument, ConnectionDirection::Outbound)
            if case.is_one_connection
                && !case.opened_by_interpreter
                && (case.inward, case.outward)
                    == (ConnectionPosition::Stdio, ConnectionPosition::Stdio) =>
        {
            Ok(Reason::Given)
        }
        _ => Err(Exemption::Program),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: Commands = Commands::Input { interactive: false };

    fn case(kind: InterpreterKind, commands: Commands, direction: ConnectionDirection) -> Case {
        Case {
            interpreter: Interpreter { kind, commands },
            inward: ConnectionPosition::Stdio,
            outward: ConnectionPosition::Stdio,
            direction,
            by_login: false,
            into_container: false,
            opened_by_interpreter: false,
            has_spoken: false,
            is_one_connection: true,
            relayed_by_one_liner: false,
            stdin_from_ancestor: false,
            fetched: false,
        }
    }

    #[test]
    fn interpreters_that_read_commands_from_a_peer_are_reported() {
        for direction in [
            ConnectionDirection::Accepted,
            ConnectionDirection::Outbound,
            ConnectionDirection::Unknown,
        ] {
            for kind in [InterpreterKind::Shell, InterpreterKind::Language] {
                let case = case(kind, INPUT, direction);
                assert_eq!(judge(&case), Ok(Reason::Commanded));
            }
        }
    }

    #[test]
    fn login_servers_raise_no_alert() {
        let case = Case {
            by_login: true,
            ..case(InterpreterKind::Shell, INPUT, ConnectionDirection::Accepted)
        };
        assert_eq!(judge(&case), Err(Exemption::Login));
    }

    #[test]
    fn sessions_that_a_runtime_passes_into_a_container_raise_no_alert() {
        let case = Case {
            into_container: true,
            ..case(InterpreterKind::Shell, INPUT, ConnectionDirection::Accepted)
        };
        assert_eq!(judge(&case), Err(Exemption::ContainerExec));
    }

    #[test]
    fn a_connection_that_is_only_held_raises_no_alert() {
        let one = Case {
            inward: ConnectionPosition::OtherFd,
            outward: ConnectionPosition::OtherFd,
            opened_by_interpreter: true,
            ..case(InterpreterKind::Shell, INPUT, ConnectionDirection::Outbound)
        };
        assert_eq!(judge(&one), Err(Exemption::OnlyHeld));
        let used = Case { outward: ConnectionPosition::Stdio, ..one };
        assert_eq!(judge(&used), Ok(Reason::Commanded));
        let asked = Case { has_spoken: true, ..used };
        assert_eq!(judge(&asked), Err(Exemption::OnlyHeld));
    }

    #[test]
    fn an_agents_job_that_fetches_its_script_raises_no_alert() {
        let job = Case {
            fetched: true,
            ..case(InterpreterKind::Shell, INPUT, ConnectionDirection::Outbound)
        };
        assert_eq!(judge(&job), Err(Exemption::Program));
    }

    #[test]
    fn programs_of_services_and_agents_raise_no_alert() {
        for commands in [Commands::Script, Commands::Argument] {
            for direction in [
                ConnectionDirection::Accepted,
                ConnectionDirection::Outbound,
                ConnectionDirection::Unknown,
            ] {
                for kind in [InterpreterKind::Shell, InterpreterKind::Language] {
                    let case = Case {
                        inward: ConnectionPosition::Relayed,
                        ..case(kind, commands, direction)
                    };
                    assert_eq!(judge(&case), Err(Exemption::Program), "{case:?}");
                }
            }
        }
    }

    #[test]
    fn a_program_that_commands_itself_over_its_own_connection_is_reported() {
        let opened = Case {
            opened_by_interpreter: true,
            ..case(InterpreterKind::Shell, Commands::Argument, ConnectionDirection::Outbound)
        };
        assert_eq!(judge(&opened), Ok(Reason::Opened));
        let read_from = Case {
            inward: ConnectionPosition::Relayed,
            outward: ConnectionPosition::OtherFd,
            ..opened
        };
        assert_eq!(judge(&read_from), Ok(Reason::Opened));
        // A health check: `exec 3<>/dev/tcp/…; echo GET >&3; cat <&3 | while read …`.
        let asked = Case { has_spoken: true, ..read_from };
        assert_eq!(judge(&asked), Err(Exemption::Program));
        // `read -r line <&3`, `echo >&3`.
        for (inward, outward) in [
            (ConnectionPosition::Stdio, ConnectionPosition::OtherFd),
            (ConnectionPosition::OtherFd, ConnectionPosition::Stdio),
        ] {
            let asked = Case { inward, outward, ..opened };
            assert_eq!(judge(&asked), Err(Exemption::Program));
        }
        let accepted = Case { direction: ConnectionDirection::Accepted, ..opened };
        assert_eq!(judge(&accepted), Err(Exemption::Program));
    }

    #[test]
    fn a_command_with_an_outbound_connection_as_input_and_output_is_reported() {
        let given = case(InterpreterKind::Shell, Commands::Argument, ConnectionDirection::Outbound);
        assert_eq!(judge(&given), Ok(Reason::Given));
        for other in [
            case(InterpreterKind::Shell, Commands::Argument, ConnectionDirection::Accepted),
            case(InterpreterKind::Shell, Commands::Argument, ConnectionDirection::Unknown),
            case(InterpreterKind::Shell, Commands::Script, ConnectionDirection::Outbound),
            case(InterpreterKind::Language, Commands::Argument, ConnectionDirection::Outbound),
            Case { is_one_connection: false, ..given },
            Case { inward: ConnectionPosition::Relayed, ..given },
            Case { outward: ConnectionPosition::Relayed, ..given },
            Case { outward: ConnectionPosition::OtherFd, ..given },
        ] {
            assert_eq!(judge(&other), Err(Exemption::Program), "{other:?}");
        }
    }

    #[test]
    fn commands_that_a_one_liner_relays_are_reported() {
        let one = Case {
            relayed_by_one_liner: true,
            ..case(InterpreterKind::Shell, Commands::Argument, ConnectionDirection::Outbound)
        };
        assert_eq!(judge(&one), Ok(Reason::OneLiner));
        let accepted = Case { direction: ConnectionDirection::Accepted, ..one };
        assert_eq!(judge(&accepted), Err(Exemption::Program));
    }

    #[test]
    fn a_command_line_that_cannot_be_read_counts_against_what_began_the_connection_only() {
        let outbound =
            case(InterpreterKind::Shell, Commands::Unknown, ConnectionDirection::Outbound);
        assert_eq!(judge(&outbound), Ok(Reason::Commanded));
        let accepted =
            case(InterpreterKind::Shell, Commands::Unknown, ConnectionDirection::Accepted);
        assert_eq!(judge(&accepted), Err(Exemption::Program));
    }
}
