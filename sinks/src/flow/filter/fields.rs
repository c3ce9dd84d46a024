//! Numbers of a record that a filter compares.

use std::cmp::Ordering;

use panoptes_records::flow::{Detail, Extra, FlowRecord, FlowSide, Intervals, status};

use super::terms::FlowEnds;

/// Real numbers are equal if so many digits behind the point are. It is what ra prints at most.
const PRECISION: f64 = 1e6;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

impl Comparison {
    const fn allows(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Greater => order.is_gt(),
        }
    }
}

/// A whole number. Those of an end are unknown if the end has not sent what has the number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NumberField {
    Packets,
    Bytes,
    ApplicationBytes,
    Lost,
    Ttl,
    Tos,
    CodePoint,
    Identification,
    VlanId,
    VlanPriority,
    /// The number of the overlay.
    Vni,
    Label,
    TcpBase,
    /// The sequence number of the record.
    Sequence,
    /// The security parameter index of ESP.
    Spi,
    /// How many records were merged: one.
    Merged,
    /// What a sensor does not know.
    Unknown,
}

/// A number with a fraction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RealField {
    /// Packets and bits per second.
    Rate,
    Load,
    /// Lost packets in percent.
    LossPercentage,
    /// The balance of application bytes, from -1 (all to the source) to 1.
    ProducerConsumer,
    /// Seconds.
    Duration,
    /// Times between packets in milliseconds: means, and standard deviations.
    Interval,
    IntervalIdle,
    Jitter,
    JitterIdle,
}

/// A comparison with a whole number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    pub field: NumberField,
    pub ends: FlowEnds,
    pub comparison: Comparison,
    pub value: i64,
}

/// A comparison with a real number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Real {
    pub field: RealField,
    pub ends: FlowEnds,
    pub comparison: Comparison,
    pub value: f64,
}

impl Number {
    pub(super) fn holds(&self, record: &FlowRecord) -> bool {
        self.ends.any(|is_destination| {
            number(self.field, record, is_destination)
                .is_some_and(|number| self.comparison.allows(number.cmp(&self.value)))
        })
    }
}

impl Real {
    pub(super) fn holds(&self, record: &FlowRecord, extra: &Extra<'_>) -> bool {
        let round = |number: f64| (number * PRECISION).round() / PRECISION;
        let is_jitter = matches!(
            self.field,
            RealField::Interval
                | RealField::IntervalIdle
                | RealField::Jitter
                | RealField::JitterIdle
        );
        // As in ra, the intervals of both ends count if none is named.
        let ends = match self.ends {
            FlowEnds::Default if is_jitter => FlowEnds::Both,
            ends => ends,
        };
        ends.any(|is_destination| {
            real(self.field, record, extra, is_destination).is_some_and(|number| {
                // Negative zero is below zero: it is the ratio of no bytes.
                self.comparison.allows(round(number).total_cmp(&round(self.value)))
            })
        })
    }
}

pub(super) const fn side(record: &FlowRecord, is_destination: bool) -> &FlowSide {
    if is_destination { &record.destination } else { &record.source }
}

fn number(field: NumberField, record: &FlowRecord, is_destination: bool) -> Option<i64> {
    let side = side(record, is_destination);
    let has = |bit: u8| side.status & bit != 0;
    let wide = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let ip = |number: u16| has(status::IP).then_some(i64::from(number));
    let vlan = |number: u16| has(status::VLAN).then_some(i64::from(number));
    match field {
        NumberField::Packets => Some(wide(side.packets)),
        NumberField::Bytes => Some(wide(side.bytes)),
        NumberField::ApplicationBytes => Some(wide(side.application_bytes)),
        NumberField::Lost => Some(i64::from(lost(record, is_destination))),
        NumberField::Ttl => ip(u16::from(side.ttl)),
        NumberField::Tos => ip(u16::from(side.tos)),
        NumberField::CodePoint => ip(u16::from(side.tos >> 2)),
        NumberField::Identification => ip(side.ip_id),
        NumberField::VlanId => vlan(side.vlan & 0xfff),
        NumberField::Vni => record.vnis[usize::from(is_destination)].map(i64::from),
        NumberField::VlanPriority => vlan(side.vlan >> 13),
        NumberField::Label => (side.mpls_depth > 0).then_some(i64::from(side.mpls >> 12)),
        NumberField::TcpBase => match &record.detail {
            Detail::Tcp(tcp) => {
                let end = if is_destination { &tcp.destination } else { &tcp.source };
                end.has_begun.then_some(i64::from(end.sequence_base))
            }
            _ => None,
        },
        NumberField::Sequence => Some(i64::from(record.sequence)),
        NumberField::Spi => match &record.detail {
            Detail::Esp(esp) => Some(i64::from(esp.spi)),
            _ => None,
        },
        NumberField::Merged => Some(1),
        NumberField::Unknown => None,
    }
}

/// Packets that an end had to send again, or that did not arrive.
fn lost(record: &FlowRecord, is_destination: bool) -> u32 {
    if side(record, is_destination).packets == 0 {
        return 0;
    }
    match &record.detail {
        Detail::Tcp(tcp) if is_destination => tcp.destination.retransmitted,
        Detail::Tcp(tcp) => tcp.source.retransmitted,
        Detail::Esp(esp) => esp.lost,
        Detail::Rtp(rtp) if rtp.is_certain => {
            let side = if is_destination { &rtp.destination } else { &rtp.source };
            u32::from(side.lost)
        }
        _ => 0,
    }
}

fn real(
    field: RealField,
    record: &FlowRecord,
    extra: &Extra<'_>,
    is_destination: bool,
) -> Option<f64> {
    let intervals = || {
        let jitter = extra.jitter?;
        let ends = [&jitter.source, &jitter.destination];
        let has_any = |end: &&Intervals| end.active.count > 0 || end.idle.count > 0;
        ends.iter().any(has_any).then_some(ends[usize::from(is_destination)])
    };
    let milliseconds = |time_us: f64| time_us / 1000.0;
    let side = side(record, is_destination);
    match field {
        RealField::Duration => Some(f64::from(duration_s(record))),
        RealField::Rate => Some(per_second(record, side.packets, |count| count - 1)),
        RealField::Load => {
            let bytes = |count: u64| side.bytes.saturating_sub(side.bytes / count) * 8;
            Some(per_second(record, side.packets, bytes))
        }
        RealField::LossPercentage => {
            let lost = f64::from(lost(record, is_destination));
            let all = side.packets as f64 + lost;
            Some(if all > 0.0 { lost * 100.0 / all } else { 0.0 })
        }
        RealField::ProducerConsumer => Some(producer_consumer(record)),
        RealField::Interval => intervals().map(|end| milliseconds(end.active.mean())),
        RealField::IntervalIdle => intervals().map(|end| milliseconds(end.idle.mean())),
        RealField::Jitter => intervals().map(|end| milliseconds(end.active.deviation())),
        RealField::JitterIdle => intervals().map(|end| milliseconds(end.idle.deviation())),
    }
}

/// Whole microseconds, as they are written, with the precision that clients have.
fn duration_s(record: &FlowRecord) -> f32 {
    let (first, last) = record.times();
    let time_us = last.div_euclid(1000) - first.div_euclid(1000);
    (time_us as f64 / 1e6) as f32
}

/// What came after the first packet, divided by the time.
fn per_second(record: &FlowRecord, packets: u64, amount: impl Fn(u64) -> u64) -> f64 {
    let time_s = f64::from(duration_s(record));
    if packets < 2 || time_s <= 0.0 {
        return 0.0;
    }
    f64::from((f64::from(amount(packets) as f32) / time_s) as f32)
}

fn producer_consumer(record: &FlowRecord) -> f64 {
    let [source, destination] =
        [&record.source, &record.destination].map(|side| side.application_bytes as f64);
    let all = source + destination;
    if all > 0.0 { f64::from(((source - destination) / all) as f32) } else { -0.0 }
}
