//! Records of flows that a router or a probe has exported.
//!
//! What they contain is what argus 3.0.8 writes for `-r cisco:` (`argus/ArgusNetflow.c`). Where it
//! loses something that was exported, it is kept here: docs/flow.md has the list.

use panoptes_decoders::netflow::{ExportFormat, NetFlow, NetFlowCounters};
use panoptes_decoders::packet::ethertype;
use panoptes_decoders::packet::transport::{flag, protocol};
use panoptes_records::flow::{
    Address, Cause, Detail, Exporter, FlowKey, FlowKeyKind, FlowRecord, FlowSide, Tcp, TcpSide,
    status, tcp_status,
};

/// The record of a flow that was exported. [`exporter_of`] has what belongs beside it.
pub fn record_of(flow: &NetFlow) -> FlowRecord {
    let mut source = side(flow, &flow.forward);
    source.vlan = flow.source_vlan.unwrap_or(0);
    source.status |= if flow.source_vlan.is_some() { status::VLAN } else { 0 };
    source.ttl = flow.ttl;
    source.ip_id = flow.ip_id;
    source.size_min = flow.length_min;
    source.size_max = flow.length_max;
    let mut destination = flow.reverse.map(|reverse| side(flow, &reverse)).unwrap_or_default();
    destination.vlan = flow.destination_vlan.unwrap_or(0);
    destination.status |= if flow.destination_vlan.is_some() { status::VLAN } else { 0 };
    FlowRecord {
        key: key(flow),
        source,
        destination,
        detail: if flow.protocol == protocol::TCP { tcp(flow) } else { Detail::None },
        sequence: flow.sequence,
        hardware: hardware(flow),
        ethertype: match (has_hardware(flow), flow.is_v6) {
            (false, _) => 0,
            (true, false) => ethertype::IPV4,
            (true, true) => ethertype::IPV6,
        },
        cause: Cause::Status,
        ..FlowRecord::default()
    }
}

/// Returns the exporter of a flow, with the autonomous systems that it tells.
pub fn exporter_of(flow: &NetFlow) -> Exporter {
    Exporter {
        address: u32::try_from(flow.exporter).unwrap_or(0),
        source_as: flow.source_as,
        destination_as: flow.destination_as,
    }
}

fn side(flow: &NetFlow, counters: &NetFlowCounters) -> FlowSide {
    if counters.packets == 0 && counters.bytes == 0 {
        return FlowSide::default();
    }
    FlowSide {
        packets: counters.packets,
        bytes: counters.bytes,
        first_ns: counters.first_ns,
        last_ns: counters.last_ns,
        tos: flow.tos,
        status: status::IP,
        ..FlowSide::default()
    }
}

fn key(flow: &NetFlow) -> FlowKey {
    let mut key = FlowKey {
        source: Address::new(flow.source),
        destination: Address::new(flow.destination),
        source_port: flow.source_port,
        destination_port: flow.destination_port,
        extra: 0,
        protocol: flow.protocol,
        kind: if flow.is_v6 { FlowKeyKind::Ipv6 } else { FlowKeyKind::Ipv4 },
    };
    match (flow.icmp, flow.protocol, flow.is_v6) {
        (Some(icmp), protocol::ICMP, false) => {
            key.kind = FlowKeyKind::Icmp;
            (key.source_port, key.destination_port) = (u16::from_be_bytes(icmp), 0);
            key.protocol = 0; // of the packet that an error quotes
        }
        (Some(icmp), protocol::ICMPV6, true) => {
            key.kind = FlowKeyKind::Icmpv6;
            (key.source_port, key.destination_port) = (u16::from_be_bytes(icmp), 0);
        }
        // The place of the masks of IPv4.
        (.., false) => {
            key.extra = u16::from_be_bytes([flow.source_mask, flow.destination_mask]);
        }
        _ => {}
    }
    key
}

/// The addresses, or else the numbers of the interfaces, in the place where argus has them.
fn hardware(flow: &NetFlow) -> [[u8; 6]; 2] {
    if has_hardware(flow) {
        return [flow.destination_hardware, flow.source_hardware];
    }
    [flow.output, flow.input].map(|number| {
        let [a, b, c, d] = number.to_be_bytes();
        [0, 0, a, b, c, d]
    })
}

fn has_hardware(flow: &NetFlow) -> bool {
    flow.source_hardware != [0; 6] || flow.destination_hardware != [0; 6]
}

/// What the flags of all packets say of the connection.
fn tcp(flow: &NetFlow) -> Detail {
    let is_old = !matches!(flow.format, ExportFormat::NetflowV9 | ExportFormat::Ipfix);
    let side = |counters: &NetFlowCounters| {
        let seen = counters.tcp_flags;
        let has = |flag: u8, bits: u32| if seen & flag != 0 { bits } else { 0 };
        let mut bits = has(flag::FIN, tcp_status::FIN);
        bits |= has(flag::ACK | flag::PSH | flag::URG, tcp_status::ESTABLISHED);
        match (seen & (flag::SYN | flag::ACK), is_old) {
            (flag::SYN, _) => bits |= tcp_status::SAW_SYN,
            // argus takes the old versions' flags for those of who answers.
            (both, true) if both == flag::SYN | flag::ACK => {
                bits |= tcp_status::SAW_SYN_ACK;
                if counters.packets > 1 {
                    bits &= !tcp_status::ESTABLISHED;
                }
            }
            _ => {}
        }
        let end = TcpSide {
            flags: seen,
            status: has(flag::RST, tcp_status::RESET),
            last_ns: counters.last_ns,
            has_begun: counters.packets != 0,
            ..TcpSide::default()
        };
        (end, bits)
    };
    let (source, source_bits) = side(&flow.forward);
    let (destination, destination_bits) = side(&flow.reverse.unwrap_or_default());
    Detail::Tcp(Tcp {
        status: source_bits | destination_bits,
        source,
        destination,
        has_continued: flow.reverse.is_some(),
        ..Tcp::default()
    })
}
