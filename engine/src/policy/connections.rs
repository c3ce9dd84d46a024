//! Network connections: their records, and alerts of connections that exceed a threshold.

use core::fmt::{self, Display, Write};
use core::net::{IpAddr, SocketAddr};

use arrayvec::{ArrayString, ArrayVec};
use panoptes_records::activities::Activity;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::file_descriptor::FileDescriptorDetails;
use panoptes_records::record::network_connection::Holder;
use panoptes_records::record::process::ProcessDetails;
use panoptes_records::record::value::Objects;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::changes::describe_process;
use super::evidence::AlertEvidence;
use super::write::EventSubject;
use super::{describe, techniques};
use crate::state::connection::Connection;
use crate::state::facts::ProcessFacts;
use crate::state::{ConnectionChange, ExceededThreshold, ScanContext};
use crate::time::Now;
use crate::walk::number_of;

/// Maximum number of other holders of a connection in a record.
const HOLDERS_MAX: usize = 64;
/// Maximum length of the reason in bytes: two numbers of 20 digits, two IPv6 addresses, and the
/// text between.
const REASON_BYTES: usize = 320;

impl Reporter<'_> {
    /// Writes the alert of a connection that has exceeded a threshold.
    pub(super) fn connection_exceeded(
        &mut self,
        cx: &ScanContext<'_>,
        change: &ConnectionChange<'_>,
        exceeded: ExceededThreshold,
    ) {
        let activity = match exceeded {
            ExceededThreshold::BytesIn { .. } | ExceededThreshold::BytesOut { .. } => {
                Activity::TcpConnectionExcessiveData
            }
            ExceededThreshold::Duration { .. } => Activity::TcpLongLastingConnection,
        };
        let mut reason = ArrayString::<REASON_BYTES>::new();
        // Text that does not fit is cut off: the sentence begins with the most important part.
        let _ = write_reason(&mut reason, change.connection, exceeded);
        let evidence = AlertEvidence {
            reason: &reason,
            techniques: techniques::of_connection(exceeded),
            // The value is counted, not inferred.
            confidence: Confidence::High,
            since_ns: change.connection.first_seen.real,
            scans: 1,
            cause: self.cause().of_threshold(
                &change.connection.facts(),
                &exceeded,
                change.process.map(|process| process.facts(cx.strings)).as_ref(),
            ),
        };
        self.connection(cx, activity, change, Some(evidence));
    }

    /// Writes a record of a connection; with evidence, an alert.
    pub(super) fn connection(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        change: &ConnectionChange<'_>,
        evidence: Option<AlertEvidence<'_>>,
    ) {
        let is_admitted = evidence.is_some()
            || change.process.is_none_or(|process| self.policy.floods.admit(process.key, activity));
        if !self.is_wanted(activity) || !is_admitted {
            return;
        }
        let connection = change.connection;
        let facts = connection.facts();
        let interface = describe::interface_of(cx.snapshot, &facts);
        let others = other_holders(change);
        let mut details = describe::network_connection(&facts, interface);
        details.tcp_connection_creation_time_iso_8601_ns =
            Some(Timestamp::from_ns(connection.first_seen.real.ns()));
        let lasted =
            |until: Now| u64::try_from(until.monotonic.since(connection.first_seen.monotonic)).ok();
        if activity == Activity::NetworkConnectionTerminated {
            let end = connection.absent_since().unwrap_or(cx.now);
            details.tcp_connection_termination_time_iso_8601_ns =
                Some(Timestamp::from_ns(end.real.ns()));
            details.tcp_connection_overall_duration_ns = lasted(end);
        } else if activity == Activity::TcpLongLastingConnection {
            details.tcp_connection_overall_duration_ns = lasted(cx.now);
        }
        details.other_holders = (!others.is_empty()).then_some(Objects::new(&others));
        // The connection itself has the name and number of an owner that has ended.
        let last_owner = connection.owner();
        let ended = change.ended.map(|ended| ended.facts(cx.strings));
        let owner = last_owner.as_ref().map(|owner| ProcessFacts {
            name: owner.name(),
            process_id: owner.process.process_id,
            ..ProcessFacts::default()
        });
        let process = match change.process {
            Some(process) => Some(describe_process(cx, process)),
            None => {
                ended.or(owner).map(|facts| describe::process(&facts, cx.snapshot.machine.tsc_khz))
            }
        };
        let descriptor = change.descriptor.as_ref().map(describe::file_descriptor);
        let own = Details::NetworkConnection(&details);
        let parents = parents(process.as_ref(), descriptor.as_ref());
        let subject = match (change.process, &ended, &last_owner) {
            (Some(process), ..) => EventSubject::of(cx, process),
            (None, Some(ended), _) => EventSubject::process(ended),
            (None, None, Some(owner)) => EventSubject::ended(owner.process, owner.container),
            (None, None, None) => EventSubject::default(),
        };
        let subject = subject.with_connection(Some(&facts));
        let record = Record::new(activity, own).with_parents(&parents);
        let _ = match evidence {
            Some(evidence) => self.alert(cx, subject, &record, evidence),
            None => self.try_write(cx, subject, &record),
        };
        if activity == Activity::NetworkConnectionTerminated {
            self.policy.incidents.end_connection(&facts);
        }
    }
}

/// The first holders after the owner.
fn other_holders(change: &ConnectionChange<'_>) -> ArrayVec<Holder, HOLDERS_MAX> {
    let others = change.holders.iter().skip(1).take(HOLDERS_MAX);
    others
        .map(|holder| Holder {
            process_id: holder.process_id,
            file_descriptor_id: number_of(holder.descriptor),
        })
        .collect()
}

/// The details that follow a connection's own in a record, in the contract's order.
fn parents<'a>(
    process: Option<&'a ProcessDetails<'a>>,
    descriptor: Option<&'a FileDescriptorDetails<'a>>,
) -> ArrayVec<Details<'a>, 2> {
    let descriptor = descriptor.map(Details::FileDescriptor);
    descriptor.into_iter().chain(process.map(Details::Process)).collect()
}

fn write_reason(
    out: &mut impl Write,
    connection: &Connection,
    exceeded: ExceededThreshold,
) -> fmt::Result {
    let facts = &connection.facts();
    let at = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
    let own = at(facts.source, facts.source_port);
    let peer = at(facts.destination, facts.destination_port);
    match exceeded {
        ExceededThreshold::BytesIn { bytes, threshold } => write!(
            out,
            "{bytes} bytes came in from {peer} to {own}, more than the threshold of {threshold} \
             (bytes_in)"
        ),
        ExceededThreshold::BytesOut { bytes, threshold } => write!(
            out,
            "{bytes} bytes went out from {own} to {peer}, more than the threshold of {threshold} \
             (bytes_out), retransmissions included"
        ),
        ExceededThreshold::Duration { lasted_ns, threshold_ns } => {
            write!(
                out,
                "the connection of {own} with {peer} has lasted {} s since it was first seen, more \
                 than the threshold of {} s (duration)",
                seconds(lasted_ns),
                seconds(threshold_ns)
            )?;
            if connection.preexisting() {
                out.write_str("; it was there when watching began and may be older")?;
            }
            Ok(())
        }
    }
}

/// A time in seconds, with milliseconds.
fn seconds(ns: u64) -> impl Display {
    fmt::from_fn(move |f| {
        let (seconds, milliseconds) = (ns / 1_000_000_000, ns / 1_000_000 % 1000);
        write!(f, "{seconds}.{milliseconds:03}")
    })
}
