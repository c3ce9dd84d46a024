//! What both ends of a flow have sent.

use panoptes_records::flow::{
    Extra, FlowKey, FlowRecord, FlowSide, Interval, Intervals, header, status,
};

use super::{Full, JsonWriter, Timestamp, decimal};
use crate::flow::argus::ArgusOptions;

/// The key of an attribute for each end.
macro_rules! keys {
    ($name:literal) => {
        [concat!(",\"source_", $name, "\":"), concat!(",\"destination_", $name, "\":")]
    };
}
pub(super) use keys;

/// The headers around packets: a bit of `FlowSide::encapsulation`, and its word.
const ENCAPSULATIONS: [(u32, &str); 19] = [
    (0x1, "mpls"),
    (0x2, "ethernet"),
    (0x4, "vlan"),
    (0x8, "llc"),
    (0x10, "ppp"),
    (0x40, "gre"),
    (0x80, "ah"),
    (0x100, "ipv4"),
    (0x200, "ipv6"),
    (0x400, "hdlc"),
    (0x800, "cisco_hdlc"),
    (0x2000, "linux_cooked"),
    (0x2_0000, "wireless"),
    (0x40_0000, "teredo"),
    (header::VXLAN, "vxlan"),
    (header::L2TP, "l2tp"),
    (header::GENEVE, "geneve"),
    (header::ERSPAN, "erspan"),
    (header::GTP_USER, "gtp"),
];

/// The options of IPv4, likewise.
const IP_OPTIONS: [(u32, &str); 6] = [
    (0x02, "timestamp"),
    (0x04, "security"),
    (0x08, "loose_source_route"),
    (0x10, "satellite_id"),
    (0x20, "strict_source_route"),
    (0x40, "router_alert"),
];

pub(super) fn write(
    out: &mut JsonWriter<'_>,
    options: &ArgusOptions,
    record: &FlowRecord,
    extra: &Extra<'_>,
) -> Result<(), Full> {
    for (at, side) in [&record.source, &record.destination].into_iter().enumerate() {
        counters(out, options, side, at)?;
        if let Some(squares) = extra.size_squares.filter(|_| side.packets > 0) {
            let deviation = side.size_deviation(squares[at]);
            decimal(out, keys!("packet_size_deviation")[at], (deviation * 1000.0) as u64)?;
        }
        if side.status & status::IP != 0 {
            ip(out, &record.key, side, at)?;
        }
        link(out, side, record.vnis[at], at)?;
    }
    if let Some(jitter) = extra.jitter {
        for (at, intervals) in [&jitter.source, &jitter.destination].into_iter().enumerate() {
            write_intervals(out, intervals, at)?;
        }
    }
    for (key, bytes) in keys!("user_data").into_iter().zip(extra.user) {
        if !bytes.is_empty() {
            out.base64(key, bytes)?;
        }
    }
    Ok(())
}

fn counters(
    out: &mut JsonWriter<'_>,
    options: &ArgusOptions,
    side: &FlowSide,
    at: usize,
) -> Result<(), Full> {
    out.integer(keys!("packets")[at], side.packets)?;
    out.integer(keys!("bytes")[at], side.bytes)?;
    if options.application_bytes {
        out.integer(keys!("application_bytes")[at], side.application_bytes)?;
    }
    if side.packets == 0 {
        return Ok(());
    }
    out.timestamp(keys!("first_time")[at], Timestamp::from_ns(side.first_ns))?;
    out.timestamp(keys!("last_time")[at], Timestamp::from_ns(side.last_ns))?;
    if options.packet_sizes {
        out.integer(keys!("packet_size_min")[at], side.size_min.into())?;
        out.integer(keys!("packet_size_max")[at], side.size_max.into())?;
        let mean = u128::from(side.bytes) * 1000 / u128::from(side.packets);
        decimal(out, keys!("packet_size_mean")[at], mean as u64)?;
    }
    Ok(())
}

/// Writes the fields of the last packet's IP header.
fn ip(out: &mut JsonWriter<'_>, key: &FlowKey, side: &FlowSide, at: usize) -> Result<(), Full> {
    out.integer(keys!("ttl")[at], side.ttl.into())?;
    out.integer(keys!("tos")[at], side.tos.into())?;
    if !key.is_v6() {
        out.integer(keys!("ip_id")[at], side.ip_id.into())?;
    }
    list(out, keys!("ip_options")[at], &IP_OPTIONS, side.ip_options)?;
    if side.status & status::FRAGMENTS != 0 {
        out.boolean(keys!("fragments")[at], true)?;
    }
    Ok(())
}

/// Writes the fields of the headers around that of IP.
fn link(
    out: &mut JsonWriter<'_>,
    side: &FlowSide,
    vni: Option<u32>,
    at: usize,
) -> Result<(), Full> {
    list(out, keys!("encapsulation")[at], &ENCAPSULATIONS, side.encapsulation)?;
    if let Some(vni) = vni {
        out.integer(keys!("vni")[at], vni.into())?;
    }
    if side.status & status::VLAN != 0 {
        // IEEE 802.1Q: three bits of priority, one of eligibility, twelve of the id.
        out.integer(keys!("vlan")[at], u64::from(side.vlan & 0xfff))?;
        out.integer(keys!("vlan_priority")[at], u64::from(side.vlan >> 13))?;
    }
    if side.mpls_depth > 0 {
        // RFC 3032 §2.1: twenty bits of label, three of class, one for the last, eight of TTL.
        out.integer(keys!("mpls_label")[at], u64::from(side.mpls >> 12))?;
        out.integer(keys!("mpls_depth")[at], side.mpls_depth.into())?;
    }
    if side.status & status::SEVERAL_PATHS != 0 {
        out.boolean(keys!("several_paths")[at], true)?;
    }
    Ok(())
}

/// The words of all bits that are set; nothing if none is.
pub(super) fn list(
    out: &mut JsonWriter<'_>,
    key: &str,
    words: &[(u32, &str)],
    bits: u32,
) -> Result<(), Full> {
    let set = words.iter().filter(|(bit, _)| bits & bit != 0);
    if set.clone().next().is_none() {
        return Ok(());
    }
    out.raw(key.as_bytes())?;
    out.list(set, |out, (_, word)| out.word(",", word))
}

fn write_intervals(out: &mut JsonWriter<'_>, intervals: &Intervals, at: usize) -> Result<(), Full> {
    interval(out, keys!("jitter_active")[at], &intervals.active)?;
    interval(out, keys!("jitter_idle")[at], &intervals.idle)
}

/// Statistics of the times between packets; nothing if there is none.
fn interval(out: &mut JsonWriter<'_>, key: &str, interval: &Interval) -> Result<(), Full> {
    if interval.count == 0 {
        return Ok(());
    }
    out.raw(key.as_bytes())?;
    out.object(|out| {
        out.integer(",\"count\":", interval.count.into())?;
        out.integer(",\"min_us\":", interval.min.into())?;
        decimal(out, ",\"mean_us\":", (interval.mean() * 1000.0) as u64)?;
        decimal(out, ",\"deviation_us\":", (interval.deviation() * 1000.0) as u64)?;
        out.integer(",\"max_us\":", interval.max.into())
    })
}
