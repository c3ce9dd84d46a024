//! Which interpreters that a peer can command are told of, and why the others are not.
//!
//! The table of [`judge`] is all there is to it: what comes in are facts, found by the modules beside this one.

use super::direction::Direction;
use super::interpreter::{Commands, Interpreter, Kind};

/// How an interpreter and a connection hang together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Case {
    /// What takes the commands.
    pub interpreter: Interpreter,
    /// Where the connection's bytes come in.
    pub inward: At,
    /// Where the interpreter's go out.
    pub outward: At,
    /// Who began the connection.
    pub direction: Direction,
    /// Whether the way from the connection leads through a server of logins that accepted it, or through one that the user
    /// names.
    pub by_login: bool,
    /// Whether the connection ends outside of the container that the interpreter is in.
    pub into_container: bool,
    /// Whether the first one of its line to hold the connection is the interpreter's own program.
    pub opened_by_interpreter: bool,
    /// Whether something has been written to the connection already.
    pub has_spoken: bool,
    /// Whether a program on the way was given on a command line.
    pub relayed_by_one_liner: bool,
    /// Whether what started it feeds its standard input by a pipe or a pair of sockets, and is no mere relay: it may
    /// be about to close that again, as agents do that hand a shell its script.
    pub fed_by_starter: bool,
    /// Whether its input is fetched by somebody else than who gets its output, over two connections to one peer.
    pub fetched: bool,
}

/// Which of an interpreter's descriptors bytes go through, and whether they come through other processes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    /// Its standard input is the connection; its standard output or error is.
    Stdio,
    /// Its standard input comes from processes that get it from the connection, its standard output or error goes to
    /// processes that give it there.
    Relayed,
    /// The connection itself, at a descriptor that is none of these.
    Beside,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is told of.
    Told(Reason),
    /// It is not.
    Quiet(Why),
}

/// Why it is told of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// An interpreter that reads commands from its input has a peer for one.
    Commanded,
    /// An interpreter that was given a program has opened the connection itself, and takes input from it.
    Opened,
    /// An interpreter that was given a program is served by a one-liner.
    OneLiner,
}

/// Why it is not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// A server of logins is what they are for.
    Login,
    /// A container's runtime hands its own connection to what runs inside (`docker exec`, `kubectl exec`).
    ContainerExec,
    /// It holds the connection and does nothing with it that shows: it was handed down, or is asked something.
    OnlyHeld,
    /// It runs a program that it was given: what comes in is that one's input (services, CGI, agents that run scripts).
    Program,
}

impl Case {
    /// Whether a program that has opened the connection itself takes its input from there and answers. One that asks a
    /// server something writes first, and reads the answer with its output going elsewhere.
    fn takes_input(&self) -> bool {
        match (self.inward, self.outward) {
            (At::Stdio | At::Relayed, At::Stdio | At::Relayed) => true,
            (At::Relayed, At::Beside) => !self.has_spoken,
            (At::Stdio, At::Beside) | (At::Beside, _) => false,
        }
    }

    /// Whether an interpreter that reads commands from elsewhere, or writes elsewhere, moves a connection that it holds
    /// to its standard input or output.
    pub fn is_held_beside(&self) -> bool {
        matches!(self.interpreter.commands, Commands::Input { .. })
            && matches!(
                (self.inward, self.outward),
                (At::Stdio, At::Beside) | (At::Beside, At::Stdio)
            )
    }

    /// Whether what it is told of for may be over in a moment: a process that was only just forked still has its parent's
    /// command line, and one within exec has none; one that is given its script as input has that soon; and a shell that
    /// somebody works in moves its own descriptors for one command (`echo GET >&3`).
    pub fn may_change(&self, reason: Reason) -> bool {
        reason == Reason::Opened
            || self.inward == At::Beside
            || self.outward == At::Beside
            || self.interpreter.commands == Commands::Unknown
            || (reason == Reason::Commanded && self.fed_by_starter)
    }
}

/// The table.
pub fn judge(case: &Case) -> Verdict {
    use Commands::{Argument, Input, Script, Unknown};
    let Interpreter { kind, commands } = case.interpreter;
    match (kind, commands, case.direction) {
        _ if case.by_login => Verdict::Quiet(Why::Login),
        _ if case.into_container => Verdict::Quiet(Why::ContainerExec),
        _ if case.inward == At::Beside && case.outward == At::Beside => {
            Verdict::Quiet(Why::OnlyHeld)
        }
        // `echo GET >&3; read -r line <&3`, typed.
        _ if case.is_held_beside() && case.has_spoken => Verdict::Quiet(Why::OnlyHeld),
        _ if case.fetched => Verdict::Quiet(Why::Program),
        (_, Input { .. }, _) | (Kind::Shell, Unknown, Direction::Outbound) => {
            Verdict::Told(Reason::Commanded)
        }
        (Kind::Shell, Argument | Script, Direction::Outbound | Direction::Unknown)
            if case.opened_by_interpreter && case.takes_input() =>
        {
            Verdict::Told(Reason::Opened)
        }
        (Kind::Shell, Argument, Direction::Outbound | Direction::Unknown)
            if case.relayed_by_one_liner =>
        {
            Verdict::Told(Reason::OneLiner)
        }
        _ => Verdict::Quiet(Why::Program),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: Commands = Commands::Input { interactive: false };

    fn case(kind: Kind, commands: Commands, direction: Direction) -> Case {
        Case {
            interpreter: Interpreter { kind, commands },
            inward: At::Stdio,
            outward: At::Stdio,
            direction,
            by_login: false,
            into_container: false,
            opened_by_interpreter: false,
            has_spoken: false,
            relayed_by_one_liner: false,
            fed_by_starter: false,
            fetched: false,
        }
    }

    #[test]
    fn whoever_reads_commands_from_a_peer_is_told_of() {
        for direction in [Direction::Accepted, Direction::Outbound, Direction::Unknown] {
            for kind in [Kind::Shell, Kind::Language] {
                let case = case(kind, INPUT, direction);
                assert_eq!(judge(&case), Verdict::Told(Reason::Commanded));
            }
        }
    }

    #[test]
    fn servers_of_logins_are_quiet() {
        let case = Case { by_login: true, ..case(Kind::Shell, INPUT, Direction::Accepted) };
        assert_eq!(judge(&case), Verdict::Quiet(Why::Login));
    }

    #[test]
    fn what_a_runtime_hands_into_a_container_is_quiet() {
        let case = Case { into_container: true, ..case(Kind::Shell, INPUT, Direction::Accepted) };
        assert_eq!(judge(&case), Verdict::Quiet(Why::ContainerExec));
    }

    #[test]
    fn a_connection_that_is_only_held_is_quiet() {
        let one = Case {
            inward: At::Beside,
            outward: At::Beside,
            opened_by_interpreter: true,
            ..case(Kind::Shell, INPUT, Direction::Outbound)
        };
        assert_eq!(judge(&one), Verdict::Quiet(Why::OnlyHeld));
        let used = Case { outward: At::Stdio, ..one };
        assert_eq!(judge(&used), Verdict::Told(Reason::Commanded));
        let asked = Case { has_spoken: true, ..used };
        assert_eq!(judge(&asked), Verdict::Quiet(Why::OnlyHeld));
    }

    #[test]
    fn what_an_agents_job_fetches_is_quiet() {
        let job = Case { fetched: true, ..case(Kind::Shell, INPUT, Direction::Outbound) };
        assert_eq!(judge(&job), Verdict::Quiet(Why::Program));
    }

    #[test]
    fn programs_of_services_and_agents_are_quiet() {
        for commands in [Commands::Script, Commands::Argument] {
            for direction in [Direction::Accepted, Direction::Outbound, Direction::Unknown] {
                for kind in [Kind::Shell, Kind::Language] {
                    let case = case(kind, commands, direction);
                    assert_eq!(judge(&case), Verdict::Quiet(Why::Program), "{case:?}");
                }
            }
        }
    }

    #[test]
    fn a_program_that_commands_itself_over_its_own_connection_is_told_of() {
        let opened = Case {
            opened_by_interpreter: true,
            ..case(Kind::Shell, Commands::Argument, Direction::Outbound)
        };
        assert_eq!(judge(&opened), Verdict::Told(Reason::Opened));
        let read_from = Case { inward: At::Relayed, outward: At::Beside, ..opened };
        assert_eq!(judge(&read_from), Verdict::Told(Reason::Opened));
        // A health check: `exec 3<>/dev/tcp/…; echo GET >&3; cat <&3 | while read …`.
        let asked = Case { has_spoken: true, ..read_from };
        assert_eq!(judge(&asked), Verdict::Quiet(Why::Program));
        // `read -r line <&3`, `echo >&3`.
        for (inward, outward) in [(At::Stdio, At::Beside), (At::Beside, At::Stdio)] {
            let asked = Case { inward, outward, ..opened };
            assert_eq!(judge(&asked), Verdict::Quiet(Why::Program));
        }
        let accepted = Case { direction: Direction::Accepted, ..opened };
        assert_eq!(judge(&accepted), Verdict::Quiet(Why::Program));
    }

    #[test]
    fn commands_that_a_one_liner_hands_on_are_told_of() {
        let one = Case {
            relayed_by_one_liner: true,
            ..case(Kind::Shell, Commands::Argument, Direction::Outbound)
        };
        assert_eq!(judge(&one), Verdict::Told(Reason::OneLiner));
        let accepted = Case { direction: Direction::Accepted, ..one };
        assert_eq!(judge(&accepted), Verdict::Quiet(Why::Program));
    }

    #[test]
    fn a_command_line_that_cannot_be_read_counts_against_what_began_the_connection_only() {
        let outbound = case(Kind::Shell, Commands::Unknown, Direction::Outbound);
        assert_eq!(judge(&outbound), Verdict::Told(Reason::Commanded));
        let accepted = case(Kind::Shell, Commands::Unknown, Direction::Accepted);
        assert_eq!(judge(&accepted), Verdict::Quiet(Why::Program));
    }
}
