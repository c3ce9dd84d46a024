//! §10.3: records of interpreters that a peer can command.

use core::fmt::{self, Write};
use core::net::IpAddr;

use arrayvec::{ArrayString, ArrayVec};
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::time::Timestamp;
use panoptes_sinks::record::detection::Confidence;
use panoptes_sinks::record::file_descriptor::FileDescriptorDetails;
use panoptes_sinks::record::network_connection::NetworkConnectionDetails;
use panoptes_sinks::record::reverse_shell::{ReverseShellDetails, ShellProcess};
use panoptes_sinks::record::value::{Flat, Wrapped};
use panoptes_sinks::record::{Details, Record};

use super::describe::{self, InterfaceAddresses};
use super::evidence::Evidence;
use super::reporter::{Reporter, Subject};
use super::techniques::{LANGUAGE, LANGUAGE_AT_KNOWN_PORT, SHELL, SHELL_AT_KNOWN_PORT, Techniques};
use crate::detect::Accepted;
use crate::detect::reverse_shells::direction::Direction;
use crate::detect::reverse_shells::interpreter::Kind;
use crate::detect::reverse_shells::judge::Reason;
use crate::detect::reverse_shells::{End, ReverseShell, Step, Through};
use crate::state::ScanContext;

/// Maximum length of the reason in bytes: two paths of a dozen processes.
const REASON_BYTES: usize = 1024;
/// Maximum number of each kind in a record: as many as a finding has.
const PROCESSES_MAX: usize = 16;
const DESCRIPTORS_MAX: usize = 64;
const CONNECTIONS_MAX: usize = 24;

/// Ports at which connections of the web, mail and names are expected.
const KNOWN_PORTS: &[u16] = &[25, 53, 80, 110, 143, 443, 465, 587, 853, 993, 995, 8080, 8443];

impl Reporter<'_> {
    /// Reports an interpreter that a peer can command.
    pub(super) fn reverse_shell(
        &mut self,
        cx: &ScanContext<'_>,
        finding: &ReverseShell<'_>,
    ) -> Accepted {
        let activity = Activity::ReverseShellDetected;
        let machine = &cx.snapshot.machine;
        let interfaces = &cx.snapshot.interfaces;
        let mut descriptors = ArrayVec::<FileDescriptorDetails<'_>, DESCRIPTORS_MAX>::new();
        let mut addresses = ArrayVec::<Option<InterfaceAddresses<'_>>, CONNECTIONS_MAX>::new();
        for member in finding.members {
            for descriptor in member.descriptors.iter().take(descriptors.remaining_capacity()) {
                descriptors.push(describe::file_descriptor(descriptor));
            }
            for connection in member.connections.iter().take(addresses.remaining_capacity()) {
                addresses.push(InterfaceAddresses::of_connection(interfaces, &connection.facts));
            }
        }
        let mut connections = ArrayVec::<NetworkConnectionDetails<'_>, CONNECTIONS_MAX>::new();
        let all = finding.members.iter().flat_map(|member| member.connections);
        for (connection, address) in all.zip(&addresses) {
            let mut details = describe::network_connection(&connection.facts, address.as_ref());
            details.tcp_connection_creation_time_iso_8601_ns =
                connection.first_seen_ns.map(Timestamp::from_ns);
            connections.push(details);
        }
        let mut processes = ArrayVec::<ShellProcess<'_>, PROCESSES_MAX>::new();
        let (mut descriptor, mut connection) = (0, 0);
        for member in finding.members.iter().take(PROCESSES_MAX) {
            let held = descriptor..(descriptor + member.descriptors.len()).min(descriptors.len());
            let of = connection..(connection + member.connections.len()).min(connections.len());
            (descriptor, connection) = (held.end, of.end);
            processes.push(ShellProcess {
                process: Flat(describe::process(&member.process, machine.tsc_khz)),
                file_descriptor_list: Wrapped::cut_if(
                    descriptors.get(held).unwrap_or_default(),
                    member.is_cut,
                ),
                network_connection_list: Wrapped::new(connections.get(of).unwrap_or_default()),
            });
        }
        let mut reason = ArrayString::<REASON_BYTES>::new();
        // Text that does not fit is cut off: the sentence begins with the most important part.
        let _ = write_reason(&mut reason, finding);
        let evidence = Evidence {
            reason: &reason,
            techniques: techniques(finding),
            confidence: confidence(finding),
            since_ns: finding.since_ns,
            scans: finding.scans,
        };
        let details =
            ReverseShellDetails { process_list: Wrapped::cut_if(&processes, finding.is_cut) };
        let record = Record::new(activity, Details::ReverseShell(&details));
        let Some(shell) = finding.members.last() else { return Accepted::Yes };
        self.alert(cx, Subject::process(&shell.process), &record, evidence)
    }
}

fn techniques(finding: &ReverseShell<'_>) -> Techniques {
    let (_, port) = peer(&finding.end);
    let is_known = finding.direction != Direction::Accepted && KNOWN_PORTS.contains(&port);
    match (finding.interpreter.kind, is_known) {
        (Kind::Shell, false) => SHELL,
        (Kind::Shell, true) => SHELL_AT_KNOWN_PORT,
        (Kind::Language, false) => LANGUAGE,
        (Kind::Language, true) => LANGUAGE_AT_KNOWN_PORT,
    }
}

fn confidence(finding: &ReverseShell<'_>) -> Confidence {
    let is_tcp = matches!(finding.end, End::Connection(_));
    match (finding.reason, finding.direction) {
        (Reason::Commanded, Direction::Accepted | Direction::Outbound)
            if is_tcp && finding.out_end.is_none() =>
        {
            Confidence::High
        }
        _ => Confidence::Medium,
    }
}

fn peer(end: &End) -> (IpAddr, u16) {
    match end {
        End::Connection(facts) => (facts.destination.to_canonical(), facts.destination_port),
        End::Datagram(ends, _) => (ends.destination.to_canonical(), ends.destination_port),
    }
}

fn own(end: &End) -> (IpAddr, u16) {
    match end {
        End::Connection(facts) => (facts.source.to_canonical(), facts.source_port),
        End::Datagram(ends, _) => (ends.source.to_canonical(), ends.source_port),
    }
}

fn write_reason(out: &mut impl Write, finding: &ReverseShell<'_>) -> fmt::Result {
    let shell = finding.members.len().saturating_sub(1);
    let (own, peer) = (Address(own(&finding.end)), Address(peer(&finding.end)));
    match finding.reason {
        Reason::Commanded => write!(out, "{} takes commands from {peer}", Name(finding, shell))?,
        Reason::Opened => write!(
            out,
            "{}, which was given a program, opened a connection itself and takes input from {peer}",
            Name(finding, shell)
        )?,
        Reason::OneLiner => write!(
            out,
            "{} is run by a program that was given on a command line, with {peer} for input",
            Name(finding, shell)
        )?,
    }
    out.write_str(" and what it writes goes there, over ")?;
    match (&finding.end, finding.direction) {
        (End::Datagram(_, protocol), _) => {
            write!(out, "a socket of IP protocol {protocol} at {own}")?;
        }
        (End::Connection(_), Direction::Accepted) => {
            write!(out, "a connection that was accepted at {own}")?;
        }
        (End::Connection(_), Direction::Outbound) => {
            write!(out, "an outbound connection from {own}")?;
        }
        (End::Connection(_), Direction::Unknown) => write!(
            out,
            "a connection at {own} (whether it is outbound or was accepted is not known: it was \
             there before it was watched)"
        )?,
    }
    if let Some(other) = &finding.out_end {
        write!(out, ", back over another one from {}", Address(self::own(other)))?;
    }
    write!(out, "; in: {}", Way(finding, finding.inward))?;
    write!(out, "; out: {}", Way(finding, finding.outward))
}

/// A process in a reason: `bash (pid 124)`.
struct Name<'a>(&'a ReverseShell<'a>, usize);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(member) = self.0.members.get(self.1) else { return Ok(()) };
        write!(f, "{} (pid {})", member.process.name.escape_ascii(), member.process.process_id)
    }
}

/// A chain of processes, with what connects them.
struct Way<'a>(&'a ReverseShell<'a>, &'a [Step]);

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.1 {
            Name(self.0, step.member).fmt(f)?;
            match step.through {
                None => {}
                Some(Through::Pipe(number)) => write!(f, " → pipe {number} → ")?,
                Some(Through::Unix) => f.write_str(" → socket pair → ")?,
                Some(Through::Terminal(number)) => write!(f, " → pseudoterminal {number} → ")?,
                Some(Through::Connection) => f.write_str(" → connection within the machine → ")?,
            }
        }
        Ok(())
    }
}

/// An address and a port.
struct Address((IpAddr, u16));

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            (IpAddr::V4(address), port) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), port) => write!(f, "[{address}]:{port}"),
        }
    }
}
