//! `reverse_shell_detected`: records of interpreters that a peer can command.

use core::fmt::{self, Display, Write};
use core::net::SocketAddr;

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::kernel::inode::mode;
use panoptes_decoders::kernel::sock::{AF_PACKET, IPPROTO_UDP};
use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::file_descriptor::FileDescriptorDetails;
use panoptes_records::record::network_connection::NetworkConnectionDetails;
use panoptes_records::record::reverse_shell::{ReverseShellDetails, ShellProcess};
use panoptes_records::record::value::{Flat, WrappedObjects};
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::describe;
use super::evidence::AlertEvidence;
use super::incidents::Party;
use super::techniques::{LANGUAGE, LANGUAGE_AT_KNOWN_PORT, SHELL, SHELL_AT_KNOWN_PORT, Techniques};
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::detect::reverse_shells::direction::ConnectionDirection;
use crate::detect::reverse_shells::interpreter::InterpreterKind;
use crate::detect::reverse_shells::judge::Reason;
use crate::detect::reverse_shells::{
    CONNECTIONS_MAX, ChainStep, ConnectionEnd, DESCRIPTORS_MAX, MEMBERS_MAX, MemberConnection,
    ProcessLink, ReverseShell, TURNS_BY_ORDER_SURE,
};
use crate::state::ScanContext;
use crate::state::facts::FileName;

/// Maximum length of the reason in bytes: two paths of a dozen processes.
const SHELL_REASON_BYTES: usize = 1024;

/// Ports at which connections of the web, mail and names are expected.
const KNOWN_PORTS: &[u16] = &[25, 53, 80, 110, 143, 443, 465, 587, 853, 993, 995, 8080, 8443];

impl Reporter<'_> {
    /// Reports an interpreter that a peer can command.
    pub(super) fn reverse_shell(
        &mut self,
        cx: &ScanContext<'_>,
        finding: &ReverseShell<'_>,
    ) -> Acceptance {
        let activity = Activity::ReverseShellDetected;
        let Some(shell) = finding.members.last() else { return Acceptance::Yes };
        if !self.admits(shell.process.key(), activity) {
            return Acceptance::No;
        }
        let machine = &cx.snapshot.machine;
        for member in finding.members {
            let details = describe::process(&member.process, machine.tsc_khz);
            self.write_beginning(cx, EventSubject::process(&member.process), &details);
        }
        let mut descriptors = ArrayVec::<FileDescriptorDetails<'_>, DESCRIPTORS_MAX>::new();
        let mut connections = ArrayVec::<NetworkConnectionDetails<'_>, CONNECTIONS_MAX>::new();
        for member in finding.members {
            for descriptor in member.descriptors.iter().take(descriptors.remaining_capacity()) {
                descriptors.push(describe::file_descriptor(descriptor));
            }
            for connection in member.connections.iter().take(connections.remaining_capacity()) {
                connections.push(connection_details(cx, connection));
            }
        }
        let mut processes = ArrayVec::<ShellProcess<'_>, MEMBERS_MAX>::new();
        let (mut descriptor, mut connection) = (0, 0);
        for member in finding.members.iter().take(MEMBERS_MAX) {
            let held = descriptor..(descriptor + member.descriptors.len()).min(descriptors.len());
            let of = connection..(connection + member.connections.len()).min(connections.len());
            (descriptor, connection) = (held.end, of.end);
            let held = descriptors.get(held).unwrap_or_default();
            let connections = connections.get(of).unwrap_or_default();
            processes.push(ShellProcess {
                process: Flat(describe::process(&member.process, machine.tsc_khz)),
                file_descriptor_list: WrappedObjects::cut_if(held, member.is_cut),
                network_connection_list: WrappedObjects::new(connections),
            });
        }
        let mut reason = ArrayString::<SHELL_REASON_BYTES>::new();
        // Text that does not fit is cut off: the sentence begins with the most important part.
        let _ = write_reason(&mut reason, finding);
        let evidence = AlertEvidence {
            reason: &reason,
            techniques: techniques(finding),
            confidence: confidence(finding),
            since_ns: finding.since_ns,
            scans: finding.scans,
            cause: self.cause().of_shell(finding),
        };
        let details = ReverseShellDetails {
            process_list: WrappedObjects::cut_if(&processes, finding.is_cut),
        };
        let interpreter = describe::process(&shell.process, machine.tsc_khz);
        let peer = connection_to_peer(finding).map(|held| connection_details(cx, &held));
        let mut apart = ArrayVec::<Details<'_>, 2>::new();
        if self.policy.header.dialect() == Dialect::DocaArgus {
            apart.push(Details::Process(&interpreter));
            apart.extend(peer.as_ref().map(Details::NetworkConnection));
        }
        let record = Record::new(activity, Details::ReverseShell(&details)).with_parents(&apart);
        let connection = match &finding.end {
            ConnectionEnd::Connection(facts) => Some(facts),
            ConnectionEnd::Datagram(..) => None,
        };
        let parties = parties(finding);
        let subject = EventSubject::process(&shell.process).with_parties(&parties, finding.members);
        self.alert(cx, subject.with_connection(connection), &record, evidence)
    }
}

/// A connection of a process, with when it was first seen.
fn connection_details<'a>(
    cx: &ScanContext<'a>,
    connection: &MemberConnection,
) -> NetworkConnectionDetails<'a> {
    let interface = describe::interface_of(cx.snapshot, &connection.facts);
    let creation = connection.first_seen_ns.map(|first| Timestamp::from_ns(first.ns()));
    NetworkConnectionDetails {
        tcp_connection_creation_time_iso_8601_ns: creation,
        ..describe::network_connection(&connection.facts, interface)
    }
}

/// The connection to the peer, as the first process that holds it has it.
fn connection_to_peer(finding: &ReverseShell<'_>) -> Option<MemberConnection> {
    let ends = (own(&finding.end), peer(&finding.end));
    let mut held = finding.members.iter().flat_map(|member| member.connections);
    let held = held.find(|held| {
        let end = ConnectionEnd::Connection(held.facts);
        (own(&end), peer(&end)) == ends
    });
    match (held, &finding.end) {
        (Some(held), _) => Some(*held),
        (None, &ConnectionEnd::Connection(facts)) => {
            Some(MemberConnection { facts, first_seen_ns: None })
        }
        (None, ConnectionEnd::Datagram(..)) => None,
    }
}

/// The processes of a shell. What others than the interpreter and the holders of the connection
/// start may be somebody else's: a terminal multiplexer starts shells for all of its users.
fn parties(finding: &ReverseShell<'_>) -> ArrayVec<Party, MEMBERS_MAX> {
    let last = finding.members.len().saturating_sub(1);
    let parties = finding.members.iter().enumerate().map(|(at, member)| Party {
        process: member.process.key(),
        includes_children: at == last || !member.connections.is_empty(),
    });
    parties.take(MEMBERS_MAX).collect()
}

fn techniques(finding: &ReverseShell<'_>) -> Techniques {
    let port = peer(&finding.end).port();
    let is_known =
        finding.direction != ConnectionDirection::Accepted && KNOWN_PORTS.contains(&port);
    match (finding.interpreter.kind, is_known) {
        (InterpreterKind::Shell, false) => SHELL,
        (InterpreterKind::Shell, true) => SHELL_AT_KNOWN_PORT,
        (InterpreterKind::Language, false) => LANGUAGE,
        (InterpreterKind::Language, true) => LANGUAGE_AT_KNOWN_PORT,
    }
}

fn confidence(finding: &ReverseShell<'_>) -> Confidence {
    let is_tcp = matches!(finding.end, ConnectionEnd::Connection(_));
    match (finding.reason, finding.direction) {
        (Reason::Commanded, ConnectionDirection::Accepted | ConnectionDirection::Outbound)
            if is_tcp
                && finding.out_end.is_none()
                && !finding.is_tunnel
                && !leads_over_files(finding) =>
        {
            Confidence::High
        }
        (Reason::TurnsByOrder { turns }, _) if turns < TURNS_BY_ORDER_SURE => Confidence::Low,
        (Reason::AnyPeer, _) if is_udp(finding) => Confidence::Low,
        (Reason::TwoPeers, _) if !is_tcp || leads_over_files(finding) => Confidence::Low,
        _ if is_memory_unsure(finding) || is_queue_unsure(finding) => Confidence::Low,
        _ => Confidence::Medium,
    }
}

/// Whether commands come by UDP.
fn is_udp(finding: &ReverseShell<'_>) -> bool {
    matches!(finding.end, ConnectionEnd::Datagram(_, IPPROTO_UDP))
}

/// Whether a process of the chain reads from a regular file, memory or a message queue what another
/// has written to it. It may do so for other reasons.
fn leads_over_files(finding: &ReverseShell<'_>) -> bool {
    use ProcessLink::{File, Memory, Queue};
    leads_through(finding, |link| matches!(link, File(_) | Memory { .. } | Queue { .. }))
}

/// Whether a way of the chain leads over such a link.
fn leads_through(finding: &ReverseShell<'_>, is_it: impl Fn(ProcessLink) -> bool) -> bool {
    let mut steps = finding.inward.iter().chain(finding.outward);
    steps.any(|step| step.through.is_some_and(&is_it))
}

/// Whether memory that processes of the chain share may serve another purpose: it is that of a file
/// on a disk, or carries bytes one way only. A counter for events that they share settles that.
fn is_memory_unsure(finding: &ReverseShell<'_>) -> bool {
    let memory = |steps: &[ChainStep]| {
        steps.iter().find_map(|step| match step.through {
            Some(ProcessLink::Memory { is_on_disk, has_events, .. }) => {
                Some((is_on_disk, has_events))
            }
            _ => None,
        })
    };
    match (memory(finding.inward), memory(finding.outward)) {
        (None, None) => false,
        (Some((_, has_events)), None) | (None, Some((_, has_events))) => !has_events,
        (Some(inward), Some(outward)) => (inward.0 || outward.0) && !inward.1 && !outward.1,
    }
}

/// Whether only one scan has shown messages that pass a queue of the chain. They may be others.
fn is_queue_unsure(finding: &ReverseShell<'_>) -> bool {
    leads_through(finding, |link| matches!(link, ProcessLink::Queue { is_sure: false, .. }))
}

fn peer(end: &ConnectionEnd) -> SocketAddr {
    let (address, port) = match end {
        ConnectionEnd::Connection(facts) => (facts.destination, facts.destination_port),
        ConnectionEnd::Datagram(ends, _) => (ends.destination, ends.destination_port),
    };
    SocketAddr::new(address.to_canonical(), port)
}

fn own(end: &ConnectionEnd) -> SocketAddr {
    let (address, port) = match end {
        ConnectionEnd::Connection(facts) => (facts.source, facts.source_port),
        ConnectionEnd::Datagram(ends, _) => (ends.source, ends.source_port),
    };
    SocketAddr::new(address.to_canonical(), port)
}

fn write_reason(out: &mut impl Write, finding: &ReverseShell<'_>) -> fmt::Result {
    let shell = name(finding, finding.members.len().saturating_sub(1));
    let (own, peer) = (own(&finding.end), peer(&finding.end));
    match finding.reason {
        Reason::Commanded => write!(out, "{shell} takes commands from {peer}")?,
        Reason::Opened => write!(
            out,
            "{shell}, which was given a program, opened a connection itself and takes input from \
             {peer}"
        )?,
        Reason::OneLiner => write!(
            out,
            "{shell} is run by a program that was given on a command line, with {peer} for input"
        )?,
        Reason::AnyPeer => write!(out, "{shell} takes commands that any address may send")?,
        Reason::Given => write!(out, "{shell} runs a command with {peer} for input")?,
        Reason::TwoPeers => {
            write!(out, "{shell} does something each time that {peer} sends something")?;
        }
        Reason::Turns { .. } | Reason::TurnsByOrder { .. } => {
            write!(out, "{shell} runs a process each time that {peer} sends something")?;
        }
    }
    if let Reason::TurnsByOrder { turns } = finding.reason {
        write!(out, ", and sends something there afterwards, {turns} times in a row")?;
    }
    out.write_str(match finding.reason {
        Reason::Turns { answers: true } => ", and what those write goes there, over ",
        Reason::Turns { answers: false } | Reason::TurnsByOrder { .. } | Reason::TwoPeers => {
            ", over "
        }
        Reason::AnyPeer => ", and what it writes goes back, over ",
        _ => " and what it writes goes there, over ",
    })?;
    match (&finding.end, finding.direction) {
        (ConnectionEnd::Datagram(ends, _), _) if ends.family == AF_PACKET => {
            out.write_str("a packet socket")?;
        }
        (ConnectionEnd::Datagram(_, IPPROTO_UDP), _) => write!(out, "a UDP socket at {own}")?,
        (ConnectionEnd::Datagram(_, protocol), _) => {
            write!(out, "a socket of IP protocol {protocol} at {own}")?;
        }
        (ConnectionEnd::Connection(_), ConnectionDirection::Accepted) => {
            write!(out, "a connection that was accepted at {own}")?;
        }
        (ConnectionEnd::Connection(_), ConnectionDirection::Outbound) => {
            write!(out, "an outbound connection from {own}")?;
        }
        (ConnectionEnd::Connection(_), ConnectionDirection::Unknown) => write!(
            out,
            "a connection at {own} (whether it is outbound or was accepted is not known: it was \
             there before it was watched)"
        )?,
    }
    let goes_back = !matches!(finding.reason, Reason::TwoPeers | Reason::Turns { answers: false });
    if let Some(other) = &finding.out_end {
        let own = self::own(other);
        if goes_back {
            write!(out, ", back over another one from {own}")?;
        } else {
            write!(out, ", and what it writes goes to {} from {own}", self::peer(other))?;
        }
    }
    write!(out, "; in: {}", way(finding, finding.inward))?;
    if finding.outward.is_empty() || !goes_back && finding.out_end.is_none() {
        return Ok(());
    }
    write!(out, "; out: {}", way(finding, finding.outward))
}

/// A process in a reason: `bash (pid 124)`.
fn name(finding: &ReverseShell<'_>, member: usize) -> impl Display {
    let member = finding.members.get(member);
    fmt::from_fn(move |f| {
        let Some(process) = member.map(|member| &member.process) else { return Ok(()) };
        write!(f, "{} (pid {})", process.name.escape_ascii(), process.process_id)
    })
}

/// The path of a FIFO or regular file with this inode number, if it has one.
fn path<'a>(finding: &ReverseShell<'a>, kind: u16, number: u64) -> Option<&'a [u8]> {
    let descriptors = finding.members.iter().flat_map(|member| member.descriptors);
    let mut ends = descriptors.filter(|descriptor| {
        let inode = descriptor.inode;
        inode.is_some_and(|inode| inode.number == number && inode.mode & mode::S_IFMT == kind)
    });
    ends.find_map(|descriptor| match descriptor.name? {
        FileName::Text(path) => Some(path),
        FileName::Numbered(..) => None,
    })
}

/// A chain of processes, with what connects them.
fn way(finding: &ReverseShell<'_>, steps: &[ChainStep]) -> impl Display {
    fmt::from_fn(move |f| {
        for step in steps {
            name(finding, step.member).fmt(f)?;
            match step.through {
                None => {}
                Some(ProcessLink::Pipe(number)) => match path(finding, mode::S_IFIFO, number) {
                    Some(path) => write!(f, " → FIFO {} → ", path.escape_ascii())?,
                    None => write!(f, " → pipe {number} → ")?,
                },
                Some(ProcessLink::File(number)) => match path(finding, mode::S_IFREG, number) {
                    Some(path) => write!(f, " → file {} → ", path.escape_ascii())?,
                    None => write!(f, " → file with inode {number} → ")?,
                },
                Some(ProcessLink::Memory { number, .. }) => {
                    match path(finding, mode::S_IFREG, number) {
                        Some(path) => write!(f, " → shared memory {} → ", path.escape_ascii())?,
                        None => write!(f, " → shared memory with inode {number} → ")?,
                    }
                }
                Some(ProcessLink::Queue { id, .. }) => write!(f, " → message queue {id} → ")?,
                Some(ProcessLink::Unix) => f.write_str(" → socket pair → ")?,
                Some(ProcessLink::Terminal(number)) => write!(f, " → pseudoterminal {number} → ")?,
                Some(ProcessLink::Connection) => {
                    f.write_str(" → connection within the machine → ")?;
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use panoptes_decoders::address::KernelVa;
    use panoptes_decoders::kernel::sock::Endpoints;

    use super::*;
    use crate::detect::reverse_shells::interpreter::{Commands, Interpreter};
    use crate::state::facts::ConnectionFacts;
    use crate::time::RealTime;

    /// A finding about an interpreter that a socket of UDP commands.
    fn finding(reason: Reason) -> ReverseShell<'static> {
        let (source, destination) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into());
        let ends = Endpoints {
            family: 2,
            state: 1,
            source,
            source_port: 40000,
            destination,
            destination_port: 4444,
            bound_device: 0,
            net: KernelVa::NULL,
            prot: KernelVa::NULL,
            next: 0,
        };
        ReverseShell {
            reason,
            direction: ConnectionDirection::Outbound,
            end: ConnectionEnd::Datagram(ends, IPPROTO_UDP),
            out_end: None,
            interpreter: Interpreter {
                kind: InterpreterKind::Language,
                commands: Commands::Argument,
            },
            is_tunnel: false,
            since_ns: RealTime::from_ns(0),
            scans: 1,
            members: &[],
            is_cut: false,
            inward: &[],
            outward: &[],
        }
    }

    #[test]
    fn six_turns_are_surer_than_three() {
        let of = finding;
        for turns in [3, 5] {
            assert_eq!(confidence(&of(Reason::TurnsByOrder { turns })), Confidence::Low);
        }
        for reason in [Reason::TurnsByOrder { turns: 6 }, Reason::Turns { answers: true }] {
            assert_eq!(confidence(&of(reason)), Confidence::Medium);
        }
        let mut text = String::new();
        assert!(write_reason(&mut text, &of(Reason::TurnsByOrder { turns: 3 })).is_ok());
        assert!(text.contains(", and sends something there afterwards, 3 times in a row, over a"));
    }

    #[test]
    fn sockets_without_a_destination_name_no_peer() {
        let any = finding(Reason::AnyPeer);
        let ConnectionEnd::Datagram(ends, _) = any.end else { panic!("{any:?}") };
        let unbound = Ipv4Addr::UNSPECIFIED.into();
        let ends = Endpoints { source: unbound, destination: unbound, ..ends };
        for (family, protocol, socket, expected) in [
            (2, IPPROTO_UDP, "a UDP socket at 0.0.0.0:40000", Confidence::Low),
            (2, 1, "a socket of IP protocol 1 at 0.0.0.0:40000", Confidence::Medium),
            (AF_PACKET, 0, "a packet socket", Confidence::Medium),
        ] {
            let end = ConnectionEnd::Datagram(Endpoints { family, ..ends }, protocol);
            let any = ReverseShell { end, ..any };
            assert_eq!(confidence(&any), expected);
            let mut text = String::new();
            assert!(write_reason(&mut text, &any).is_ok());
            let expected = format!(
                " takes commands that any address may send, and what it writes goes back, over \
                 {socket}; in: "
            );
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn commands_of_one_peer_with_answers_to_another_name_both() {
        let facts = |port, address: [u8; 4]| ConnectionFacts {
            source: Ipv4Addr::LOCALHOST.into(),
            source_port: port,
            destination: address.into(),
            destination_port: 514,
            ..ConnectionFacts::default()
        };
        let out_end = Some(ConnectionEnd::Connection(facts(40001, [198, 51, 100, 7])));
        let datagram = ReverseShell { out_end, ..finding(Reason::TwoPeers) };
        assert_eq!(confidence(&datagram), Confidence::Low);
        let end = ConnectionEnd::Connection(facts(40000, [203, 0, 113, 9]));
        let both = ReverseShell { end, ..datagram };
        assert_eq!(confidence(&both), Confidence::Medium);
        let file = [ChainStep { member: 0, through: Some(ProcessLink::File(7)) }];
        assert_eq!(confidence(&ReverseShell { inward: &file, ..both }), Confidence::Low);
        for (reason, what) in [
            (Reason::TwoPeers, "does something"),
            (Reason::Turns { answers: false }, "runs a process"),
        ] {
            let mut text = String::new();
            let both = ReverseShell { reason, outward: &file, ..both };
            assert!(write_reason(&mut text, &both).is_ok());
            let expected = format!(
                " {what} each time that 203.0.113.9:514 sends something, over an outbound \
                 connection from 127.0.0.1:40000, and what it writes goes to 198.51.100.7:514 \
                 from 127.0.0.1:40001; in: ; out:  → file with inode 7 → "
            );
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn memory_of_no_disk_that_carries_both_ways_is_surer() {
        let step =
            |through| [ChainStep { member: 0, through }, ChainStep { member: 0, through: None }];
        let memory = |is_on_disk, has_events| {
            step(Some(ProcessLink::Memory { number: 9, is_on_disk, has_events }))
        };
        let (pipe, plain, disk) =
            (&step(Some(ProcessLink::Pipe(7))), &memory(false, false), &memory(true, false));
        let of = |(inward, outward): (&[ChainStep; 2], &[ChainStep; 2])| {
            confidence(&ReverseShell { inward, outward, ..finding(Reason::Commanded) })
        };
        assert_eq!(of((plain, plain)), Confidence::Medium);
        for ways in [(plain, pipe), (pipe, plain), (disk, disk), (plain, disk)] {
            assert_eq!(of(ways), Confidence::Low);
        }
        for paced in [&memory(false, true), &memory(true, true)] {
            for ways in [(paced, paced), (paced, pipe), (pipe, paced)] {
                assert_eq!(of(ways), Confidence::Medium);
            }
        }
        let mut text = String::new();
        let over = ReverseShell { inward: plain, ..finding(Reason::Commanded) };
        assert!(write_reason(&mut text, &over).is_ok());
        assert!(text.contains(" → shared memory with inode 9 → "), "{text}");
    }
}
