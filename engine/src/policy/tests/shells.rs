//! A shell that a peer commands, as the detector of reverse shells reports it.

use serde_json::Value;

use super::Reader;
use crate::detect::reverse_shells::direction::ConnectionDirection;
use crate::detect::reverse_shells::interpreter::{Commands, Interpreter, InterpreterKind};
use crate::detect::reverse_shells::judge::Reason;
use crate::detect::reverse_shells::{ChainMember, ConnectionEnd, ReverseShell};
use crate::detect::{Acceptance, Finding, Findings as _};
use crate::state::facts::ConnectionFacts;
use crate::time::RealTime;

/// The finding of one scan: members of the chain from the holder of the connection to the shell.
pub(super) fn commanded<'a>(
    connection: ConnectionFacts,
    members: &'a [ChainMember<'a>],
    since_ns: RealTime,
) -> ReverseShell<'a> {
    ReverseShell {
        reason: Reason::Commanded,
        direction: ConnectionDirection::Outbound,
        end: ConnectionEnd::Connection(connection),
        out_end: None,
        interpreter: Interpreter {
            kind: InterpreterKind::Shell,
            commands: Commands::Input { interactive: true },
        },
        is_tunnel: false,
        since_ns,
        scans: 1,
        members,
        is_cut: false,
        inward: &[],
        outward: &[],
    }
}

/// Reports the finding to the policy, and returns the records of it.
pub(super) fn report_commanded(
    reader: &mut Reader,
    connection: ConnectionFacts,
    members: &[ChainMember<'_>],
) -> Vec<Value> {
    let finding = commanded(connection, members, reader.now.real);
    let cx = reader.state.scan_context(&reader.snapshot, reader.now);
    let mut reporter = reader.policy.reporter(&mut reader.producer);
    assert_eq!(reporter.found(&cx, &Finding::ReverseShell(&finding)), Acceptance::Yes);
    reader.producer.flush();
    reader.records()
}
