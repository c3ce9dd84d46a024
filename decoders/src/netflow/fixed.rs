//! NetFlow versions 1, 5, 6, 7 and 8, whose records have fixed layouts.
//!
//! The layouts are those of "NetFlow Export Datagram Formats" in Cisco's NetFlow FlowCollector
//! User Guide.

use super::clock::Clock;
use super::flow::{ExportFormat, NetFlow, NetFlowCounters};
use super::reader::DatagramReader;

/// What the header of a datagram says of all its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetFlowHeader {
    pub(super) format: ExportFormat,
    pub(super) clock: Clock,
    /// Number of records.
    pub(super) count: u16,
    /// Number of the first flow; `None` in version 1.
    pub(super) sequence: Option<u32>,
    /// Engine type and id.
    pub(super) domain: u32,
    pub(super) sampling: u32,
    /// How version 8 has added flows up.
    method: u8,
}

/// Reads the header behind the version.
pub(super) fn header(format: ExportFormat, rest: &mut DatagramReader<'_>) -> Option<NetFlowHeader> {
    let count = rest.short()?;
    let uptime_ms = rest.number()?;
    let (seconds, nanoseconds) = (rest.number()?, rest.number()?);
    let clock =
        Clock::new(Some(uptime_ms), i64::from(seconds) * 1_000_000_000 + i64::from(nanoseconds));
    let mut header =
        NetFlowHeader { format, clock, count, sequence: None, domain: 0, sampling: 1, method: 0 };
    if format == ExportFormat::NetflowV1 {
        return Some(header);
    }
    header.sequence = Some(rest.number()?);
    let engine = rest.short()?;
    let last = rest.take::<2>()?;
    match format {
        // A mode in two bits and the interval in 14.
        ExportFormat::NetflowV5 => {
            header.sampling = u32::from(u16::from_be_bytes(last) & 0x3fff).max(1);
        }
        ExportFormat::NetflowV8 => {
            header.method = last[0];
            rest.number()?;
        }
        _ => {}
    }
    if format != ExportFormat::NetflowV7 {
        header.domain = u32::from(engine);
    }
    Some(header)
}

impl NetFlowHeader {
    /// The length of a record in bytes; `None` for an unknown way of adding up.
    pub(super) const fn record_bytes(&self) -> Option<usize> {
        Some(match (self.format, self.method) {
            (ExportFormat::NetflowV1 | ExportFormat::NetflowV5, _) => 48,
            (ExportFormat::NetflowV8, 1 | 2) => 28,
            (ExportFormat::NetflowV8, 3 | 4 | 6 | 9..=12) => 32,
            (ExportFormat::NetflowV8, 5 | 7 | 13 | 14) => 40,
            (ExportFormat::NetflowV8, 8) => 44,
            (ExportFormat::NetflowV8, _) => return None,
            _ => 52,
        })
    }

    /// Reads a record.
    pub(super) fn record(&self, rest: &mut DatagramReader<'_>) -> Option<NetFlow> {
        let mut flow = NetFlow {
            format: self.format,
            domain: self.domain,
            sampling: self.sampling,
            ..NetFlow::default()
        };
        match (self.format, self.method) {
            (ExportFormat::NetflowV8, 6..=8) => {
                switched(&self.clock, self.method, rest, &mut flow)?;
            }
            (ExportFormat::NetflowV8, method) => added(&self.clock, method, rest, &mut flow)?,
            _ => single(&self.clock, rest, &mut flow)?,
        }
        if flow.protocol == 1 {
            flow.icmp = Some(flow.destination_port.to_be_bytes());
        }
        Some(flow)
    }
}

/// Packets and bytes, and the times of the first and of the last packet.
fn counters(clock: &Clock, rest: &mut DatagramReader<'_>) -> Option<NetFlowCounters> {
    Some(NetFlowCounters {
        packets: rest.number()?.into(),
        bytes: rest.number()?.into(),
        first_ns: clock.at(rest.number()?)?,
        last_ns: clock.at(rest.number()?)?,
        tcp_flags: 0,
    })
}

/// A record of versions 1, 5, 6 and 7.
fn single(clock: &Clock, rest: &mut DatagramReader<'_>, flow: &mut NetFlow) -> Option<()> {
    flow.source = rest.number()?.into();
    flow.destination = rest.number()?.into();
    flow.next_hop = rest.number()?.into();
    interfaces(rest, flow)?;
    flow.forward = counters(clock, rest)?;
    ports(rest, flow)?;
    if flow.format == ExportFormat::NetflowV1 {
        rest.short()?;
        [flow.protocol, flow.tos, flow.forward.tcp_flags] = rest.take()?;
        return rest.take::<7>().map(drop);
    }
    [_, flow.forward.tcp_flags, flow.protocol, flow.tos] = rest.take()?;
    numbers_of_systems(rest, flow)?;
    [flow.source_mask, flow.destination_mask] = rest.take()?;
    // Padding, the sizes of encapsulations, or flags that say which fields a switch left out.
    rest.short()?;
    if flow.format != ExportFormat::NetflowV5 {
        // The next hop within the peer, or the router that is bypassed.
        rest.number()?;
    }
    Some(())
}

/// A record of version 8 that a router has added up.
fn added(
    clock: &Clock,
    method: u8,
    rest: &mut DatagramReader<'_>,
    flow: &mut NetFlow,
) -> Option<()> {
    flow.flows = rest.number()?;
    flow.forward = counters(clock, rest)?;
    match method {
        1 | 9 => {
            numbers_of_systems(rest, flow)?;
            interfaces(rest, flow)?;
            if method == 9 {
                [flow.tos, _, _, _] = rest.take()?;
            }
        }
        2 | 10 => {
            [flow.protocol, flow.tos, _, _] = rest.take()?;
            ports(rest, flow)?;
            if method == 10 {
                interfaces(rest, flow)?;
            } else {
                flow.tos = 0; // padding
            }
        }
        3 | 11 => {
            flow.source = rest.number()?.into();
            [flow.source_mask, flow.tos] = rest.take()?;
            flow.source_as = rest.short()?.into();
            flow.input = rest.short()?.into();
            rest.short()?;
        }
        4 | 12 => {
            flow.destination = rest.number()?.into();
            [flow.destination_mask, flow.tos] = rest.take()?;
            flow.destination_as = rest.short()?.into();
            flow.output = rest.short()?.into();
            rest.short()?;
        }
        _ => {
            flow.source = rest.number()?.into();
            flow.destination = rest.number()?.into();
            [flow.destination_mask, flow.source_mask, flow.tos, flow.protocol] = rest.take()?;
            if method == 14 {
                ports(rest, flow)?;
            } else {
                flow.protocol = 0; // padding
                numbers_of_systems(rest, flow)?;
            }
            interfaces(rest, flow)?;
        }
    }
    if matches!(method, 3..=5) {
        flow.tos = 0; // padding
    }
    Some(())
}

/// A record of version 8 that a Catalyst switch has added up.
fn switched(
    clock: &Clock,
    method: u8,
    rest: &mut DatagramReader<'_>,
    flow: &mut NetFlow,
) -> Option<()> {
    flow.destination = rest.number()?.into();
    if method != 6 {
        flow.source = rest.number()?.into();
    }
    if method == 8 {
        flow.destination_port = rest.short()?;
        flow.source_port = rest.short()?;
    }
    flow.forward = counters(clock, rest)?;
    flow.output = rest.short()?.into();
    if method != 6 {
        flow.input = rest.short()?.into();
    }
    // The type of service as received and as marked.
    match method {
        6 => [flow.tos, _] = rest.take()?,
        7 => [flow.tos, _, _, _] = rest.take()?,
        _ => [flow.tos, flow.protocol, _, _] = rest.take()?,
    }
    // Packets beyond the contract, the router that is bypassed.
    rest.take::<8>().map(drop)
}

fn interfaces(rest: &mut DatagramReader<'_>, flow: &mut NetFlow) -> Option<()> {
    flow.input = rest.short()?.into();
    flow.output = rest.short()?.into();
    Some(())
}

fn ports(rest: &mut DatagramReader<'_>, flow: &mut NetFlow) -> Option<()> {
    flow.source_port = rest.short()?;
    flow.destination_port = rest.short()?;
    Some(())
}

fn numbers_of_systems(rest: &mut DatagramReader<'_>, flow: &mut NetFlow) -> Option<()> {
    flow.source_as = rest.short()?.into();
    flow.destination_as = rest.short()?.into();
    Some(())
}
