//! sFlow version 5: packets that a switch has sampled.
//!
//! The layouts are those of "sFlow Version 5" (sFlow.org, July 2004), §5.

use super::flow::{ExportFormat, NetFlow, NetFlowCounters, Sample};
use super::reader::DatagramReader;
use super::table::ExporterKey;
use super::{Datagram, Exporters, Item};

/// Numbers of samples and of the records in them, whose enterprise is 0.
mod format {
    pub(super) const FLOW: u32 = 1;
    pub(super) const COUNTERS: u32 = 2;
    pub(super) const EXPANDED_FLOW: u32 = 3;
    pub(super) const EXPANDED_COUNTERS: u32 = 4;

    pub(super) const RAW_HEADER: u32 = 1;
    pub(super) const ETHERNET: u32 = 2;
    pub(super) const IPV4: u32 = 3;
    pub(super) const IPV6: u32 = 4;
    pub(super) const SWITCH: u32 = 1001;
    pub(super) const ROUTER: u32 = 1002;
    pub(super) const GATEWAY: u32 = 1003;
}

/// Decodes a datagram behind the version; `None` if something is wrong.
pub(super) fn decode(
    datagram: &Datagram<'_>,
    mut rest: DatagramReader<'_>,
    exporters: &mut Exporters,
    each: &mut impl FnMut(Item<'_>),
) -> Option<()> {
    let (agent, _) = address(&mut rest)?;
    let (domain, sequence) = (rest.number()?, rest.number()?);
    let key = ExporterKey {
        exporter: datagram.exporter,
        domain,
        format: ExportFormat::Sflow,
        template: 0,
    };
    if let Some(source) = exporters.follow(&key, datagram.received_ns, Some(sequence)) {
        source.next = Some(sequence.wrapping_add(1));
    }
    rest.number()?; // milliseconds since the agent was started
    let context = NetFlow {
        format: ExportFormat::Sflow,
        exporter: agent,
        domain,
        sequence,
        forward: NetFlowCounters {
            packets: 1,
            first_ns: datagram.received_ns,
            last_ns: datagram.received_ns,
            ..NetFlowCounters::default()
        },
        ..NetFlow::default()
    };
    for _ in 0..rest.number()? {
        let kind = rest.number()?;
        let (sample, is_whole) = part(&mut rest)?;
        match kind {
            format::FLOW | format::EXPANDED_FLOW => {
                flow_sample(sample, kind == format::EXPANDED_FLOW, context, exporters, each)?;
            }
            format::COUNTERS | format::EXPANDED_COUNTERS => exporters.counts.options += 1,
            _ => {}
        }
        is_whole.then_some(())?;
    }
    Some(())
}

/// A sample of a packet.
fn flow_sample(
    mut rest: DatagramReader<'_>,
    is_expanded: bool,
    mut flow: NetFlow,
    exporters: &mut Exporters,
    each: &mut impl FnMut(Item<'_>),
) -> Option<()> {
    rest.number()?; // sequence number of the sample
    rest.bytes(if is_expanded { 8 } else { 4 })?; // the source in the agent
    flow.sampling = rest.number()?.max(1);
    rest.bytes(8)?; // packets that could have been sampled, samples that were dropped
    flow.input = interface(&mut rest, is_expanded)?;
    flow.output = interface(&mut rest, is_expanded)?;
    let mut packet = None;
    let mut is_whole = true;
    for _ in 0..rest.number()? {
        let kind = rest.number()?;
        let record;
        (record, is_whole) = part(&mut rest)?;
        // A record that ends too early counts as far as it was read.
        is_whole &= match kind {
            format::RAW_HEADER => raw_header(record, &mut packet),
            format::ETHERNET => ethernet(record, &mut flow),
            format::IPV4 | format::IPV6 => internet(record, kind == format::IPV6, &mut flow),
            format::SWITCH => switch(record, &mut flow),
            format::ROUTER => router(record, &mut flow),
            format::GATEWAY => gateway(record, &mut flow),
            _ => Some(()),
        }
        .is_some();
        if !is_whole {
            break;
        }
    }
    if let Some(packet) = packet {
        flow.forward.bytes = u64::from(packet.wire_length);
        exporters.counts.samples += 1;
        each(Item::Sample(&flow, packet));
    } else if flow.forward.bytes != 0 {
        exporters.counts.flows += 1;
        each(Item::Flow(&flow));
    }
    is_whole.then_some(())
}

/// The first bytes of the packet. Of several, the first ones.
fn raw_header<'a>(mut rest: DatagramReader<'a>, packet: &mut Option<Sample<'a>>) -> Option<()> {
    let (protocol, length, stripped) = (rest.number()?, rest.number()?, rest.number()?);
    let count = rest.number()? as usize;
    let is_whole = count <= rest.remaining();
    let header = rest.bytes(count.min(rest.remaining()))?;
    let link = match protocol {
        1 => 1,         // Ethernet
        4 => 10,        // FDDI
        7 => 9,         // PPP
        11 | 12 => 101, // IPv4, IPv6
        14 => 50,       // PPP in frames of HDLC (SONET)
        15 => 105,      // 802.11
        _ => return Some(()),
    };
    if packet.is_none() {
        // The length has the checksum of the frame, which was stripped, as captures do.
        let wire_length = length.saturating_sub(stripped).max(header.len() as u32);
        *packet = Some(Sample { link, header, wire_length });
    }
    is_whole.then_some(())
}

/// A packet of which the agent tells only its Ethernet header.
fn ethernet(mut rest: DatagramReader<'_>, flow: &mut NetFlow) -> Option<()> {
    let length = rest.number()?;
    let (source, destination) = (rest.take::<8>()?, rest.take::<8>()?);
    flow.source_hardware.copy_from_slice(&source[..6]);
    flow.destination_hardware.copy_from_slice(&destination[..6]);
    flow.forward.bytes = flow.forward.bytes.max(length.into());
    Some(())
}

/// A packet of which the agent tells only its IP header and its ports.
fn internet(mut rest: DatagramReader<'_>, is_v6: bool, flow: &mut NetFlow) -> Option<()> {
    flow.is_v6 = is_v6;
    flow.forward.bytes = rest.number()?.into();
    flow.protocol = rest.number()? as u8;
    for address in [&mut flow.source, &mut flow.destination] {
        *address = if is_v6 { u128::from_be_bytes(rest.take()?) } else { rest.number()?.into() };
    }
    flow.source_port = rest.number()? as u16;
    flow.destination_port = rest.number()? as u16;
    flow.forward.tcp_flags = rest.number()? as u8;
    flow.tos = rest.number()? as u8;
    Some(())
}

fn switch(mut rest: DatagramReader<'_>, flow: &mut NetFlow) -> Option<()> {
    let tag = |number: u32| (number != 0 && number < 0x1000).then_some(number as u16);
    flow.source_vlan = tag(rest.number()?);
    rest.number()?; // priority
    flow.destination_vlan = tag(rest.number()?);
    Some(())
}

fn router(mut rest: DatagramReader<'_>, flow: &mut NetFlow) -> Option<()> {
    (flow.next_hop, _) = address(&mut rest)?;
    flow.source_mask = rest.number()? as u8;
    flow.destination_mask = rest.number()? as u8;
    Some(())
}

fn gateway(mut rest: DatagramReader<'_>, flow: &mut NetFlow) -> Option<()> {
    address(&mut rest)?; // the next hop of BGP
    rest.number()?; // the router's own system
    flow.source_as = rest.number()?;
    rest.number()?; // the neighbour towards the source
    // The path: of its last part, the last system is the destination's.
    for _ in 0..rest.number()? {
        rest.number()?; // whether the part is in order
        for _ in 0..rest.number()? {
            flow.destination_as = rest.number()?;
        }
    }
    Some(())
}

/// The index of an interface; 0 if it is unknown or if there are several.
fn interface(rest: &mut DatagramReader<'_>, is_expanded: bool) -> Option<u32> {
    let (format, number) = if is_expanded {
        (rest.number()?, rest.number()?)
    } else {
        let number = rest.number()?;
        (number >> 30, number & 0x3fff_ffff)
    };
    let is_known = format == 0 && number != 0x3fff_ffff && number != u32::MAX;
    Some(if is_known { number } else { 0 })
}

/// An address, and whether it is one of IPv6. It may be unknown.
fn address(rest: &mut DatagramReader<'_>) -> Option<(u128, bool)> {
    match rest.number()? {
        0 => Some((0, false)),
        1 => Some((rest.number()?.into(), false)),
        2 => Some((u128::from_be_bytes(rest.take()?), true)),
        _ => None,
    }
}

/// A part that has its length before it. Also says whether it is all there.
fn part<'a>(rest: &mut DatagramReader<'a>) -> Option<(DatagramReader<'a>, bool)> {
    let length = rest.number()? as usize;
    Some(rest.part(length))
}
