//! What the protocol of a flow adds.

use std::net::Ipv4Addr;

use panoptes_records::flow::{
    Detail, Esp, FlowKeyKind, FlowRecord, Icmp, Rtp, Tcp, TcpSide, TcpState, tcp_status,
};
use panoptes_records::json::address::MacAddress;

use super::sides::{keys, list};
use super::{Full, JsonWriter};

/// Options of a connection: a bit of `include/argus_def.h` of argus 3.0.8, and its word.
const TCP_OPTIONS: [(u32, &str); 7] = [
    (0x0010_0000, "mss"),
    (0x0020_0000, "window_scale"),
    (0x0040_0000, "sack_permitted"),
    (0x0080_0000, "sack"),
    (0x0400_0000, "timestamp"),
    (tcp_status::ECN_SOURCE, "ecn_source"),
    (tcp_status::ECN_DESTINATION, "ecn_destination"),
];

/// Letters of the flags of TCP from the lowest bit on, in the order of `ra`.
const FLAGS: &[u8; 8] = b"FSRPAUEC";

pub(super) fn write(out: &mut JsonWriter<'_>, record: &FlowRecord) -> Result<(), Full> {
    match &record.detail {
        Detail::Rtp(rtp) if rtp.is_certain => write_rtp(out, rtp)?,
        Detail::None | Detail::Rtp(_) => {}
        Detail::Tcp(tcp) => write_tcp(out, tcp)?,
        Detail::Icmp(icmp) => write_icmp(out, record, icmp)?,
        Detail::Esp(esp) => write_esp(out, esp)?,
        Detail::Arp(arp) => out.mac_address(",\"arp_responder\":", MacAddress(arp.responder))?,
    }
    match &record.error {
        Some(error) => write_error(out, error),
        None => Ok(()),
    }
}

fn write_rtp(out: &mut JsonWriter<'_>, rtp: &Rtp) -> Result<(), Full> {
    out.word(",\"application\":", if rtp.is_control { "rtcp" } else { "rtp" })?;
    for (at, side) in [&rtp.source, &rtp.destination].into_iter().enumerate() {
        if side.has_begun && !rtp.is_control {
            out.integer(keys!("lost_packets")[at], side.lost.into())?;
        }
    }
    Ok(())
}

fn write_tcp(out: &mut JsonWriter<'_>, tcp: &Tcp) -> Result<(), Full> {
    if tcp.has_continued {
        out.word(",\"tcp_state\":", state(tcp.state))?;
    }
    list(out, ",\"tcp_options\":", &TCP_OPTIONS, tcp.options)?;
    if tcp.syn_ack_us > 0 {
        out.integer(",\"syn_ack_us\":", tcp.syn_ack_us.into())?;
    }
    if tcp.ack_data_us > 0 {
        out.integer(",\"ack_data_us\":", tcp.ack_data_us.into())?;
    }
    if tcp.syn_ack_us > 0 && tcp.ack_data_us > 0 {
        let sum = u64::from(tcp.syn_ack_us) + u64::from(tcp.ack_data_us);
        out.integer(",\"round_trip_us\":", sum)?;
    }
    let bits = tcp.bits();
    for (at, side) in [&tcp.source, &tcp.destination].into_iter().enumerate() {
        let of_side = [tcp_status::OF_SOURCE, tcp_status::OF_DESTINATION][at];
        if side.has_begun {
            write_tcp_side(out, side, bits & of_side, at)?;
        }
    }
    Ok(())
}

const fn state(state: TcpState) -> &'static str {
    match state {
        TcpState::Closed => "closed",
        TcpState::Listen => "listen",
        TcpState::SynSent => "syn_sent",
        TcpState::SynReceived => "syn_received",
        TcpState::Established => "established",
        TcpState::FinWait1 => "fin_wait_1",
        TcpState::Closing => "closing",
        TcpState::FinWait2 => "fin_wait_2",
    }
}

fn write_tcp_side(
    out: &mut JsonWriter<'_>,
    side: &TcpSide,
    bits: u32,
    at: usize,
) -> Result<(), Full> {
    let mut flags = [0; FLAGS.len()];
    let mut length = 0;
    for (bit, letter) in FLAGS.iter().enumerate() {
        if side.flags & 1 << bit != 0 {
            flags[length] = *letter;
            length += 1;
        }
    }
    if length > 0 {
        out.text(keys!("tcp_flags")[at], &flags[..length].into())?;
    }
    let window = u64::from(side.window) << side.window_scale.min(14);
    out.integer(keys!("window")[at], window)?;
    out.integer(keys!("tcp_sequence_base")[at], side.sequence_base.into())?;
    out.integer(keys!("tcp_sequence")[at], side.sequence.into())?;
    if side.has_acknowledged {
        // The record has one less.
        out.integer(keys!("tcp_acknowledged")[at], side.acknowledged.wrapping_add(1).into())?;
    }
    out.integer(keys!("tcp_bytes")[at], side.bytes.into())?;
    out.integer(keys!("tcp_in_flight")[at], side.in_flight.into())?;
    out.integer(keys!("retransmissions")[at], side.retransmitted.into())?;
    for (mask, key) in [
        (tcp_status::OUT_OF_ORDER, keys!("out_of_order")),
        (tcp_status::WINDOW_CLOSED, keys!("window_closed")),
        (tcp_status::RESET, keys!("reset")),
        (tcp_status::CONGESTED, keys!("congested")),
    ] {
        if bits & mask != 0 {
            out.boolean(key[at], true)?;
        }
    }
    Ok(())
}

fn write_icmp(out: &mut JsonWriter<'_>, record: &FlowRecord, icmp: &Icmp) -> Result<(), Full> {
    out.integer(",\"icmp_type\":", icmp.kind.into())?;
    out.integer(",\"icmp_code\":", icmp.code.into())?;
    let is_v6 = record.key.kind == FlowKeyKind::Icmpv6;
    // Echo, time stamp, information and mask have an id, and a number.
    let has_id = !is_v6 && matches!(icmp.kind, 0 | 8 | 13..=18);
    if has_id {
        out.integer(",\"icmp_id\":", record.key.destination_port.into())?;
    }
    if has_id || is_v6 && matches!(icmp.kind, 128 | 129) {
        out.integer(",\"icmp_sequence\":", icmp.sequence.into())?;
    }
    write_quoted(out, icmp)
}

/// The packet that an error message quotes, and the gateway that a redirect names.
fn write_quoted(out: &mut JsonWriter<'_>, icmp: &Icmp) -> Result<(), Full> {
    for (key, address) in [
        (",\"quoted_source_address\":", icmp.quoted_source),
        (",\"quoted_destination_address\":", icmp.quoted_destination),
        (",\"gateway_address\":", if icmp.kind == 5 { icmp.gateway } else { 0 }),
    ] {
        if address != 0 {
            out.ip_address(key, Ipv4Addr::from_bits(address).into())?;
        }
    }
    Ok(())
}

/// The message that refers to this flow.
fn write_error(out: &mut JsonWriter<'_>, error: &Icmp) -> Result<(), Full> {
    out.integer(",\"error_icmp_type\":", error.kind.into())?;
    out.integer(",\"error_icmp_code\":", error.code.into())?;
    if error.sender != 0 {
        let sender = Ipv4Addr::from_bits(error.sender).into();
        out.ip_address(",\"error_sender_address\":", sender)?;
    }
    if error.kind == 5 && error.gateway != 0 {
        let gateway = Ipv4Addr::from_bits(error.gateway).into();
        out.ip_address(",\"error_gateway_address\":", gateway)?;
    }
    Ok(())
}

fn write_esp(out: &mut JsonWriter<'_>, esp: &Esp) -> Result<(), Full> {
    out.integer(",\"esp_sequence\":", esp.last_sequence.into())?;
    out.integer(",\"esp_lost\":", esp.lost.into())
}
