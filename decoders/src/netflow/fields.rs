//! The fields that templates announce: information elements of IANA's IPFIX registry. NetFlow
//! version 9 has the same numbers below 128.

use super::clock::{Clock, SECOND_NS, milliseconds, ntp, since_1970};
use super::flow::{NetFlow, NetFlowCounters};

/// Marks the elements of the other direction (RFC 5103 §6.1).
pub(super) const REVERSE: u16 = 0x8000;
/// An element that is not decoded.
pub(super) const UNKNOWN: u16 = u16::MAX;

/// The values of a record while it is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DataRecord {
    pub(super) flow: NetFlow,
    forward: RecordDirection,
    reverse: RecordDirection,
    /// A time that both ends may be given relative to, in nanoseconds since 1970.
    pub(super) started_ns: Option<i64>,
    /// One of so many packets was looked at.
    pub(super) sampling: Option<u32>,
    /// The number of packets between those that were looked at.
    sampling_space: Option<u32>,
    /// The packet count of PSAMP that goes with `sampling_space`.
    sampling_interval: Option<u32>,
}

/// Values of one direction.
#[derive(Clone, Copy, Debug, Default)]
struct RecordDirection {
    /// Packets and bytes since the last record, of the whole flow, and behind the exporter.
    counts: [(u64, u64); 3],
    tcp_flags: u8,
    first: Time,
    last: Time,
    duration_ns: Option<i64>,
}

/// A time, in the form in which it came.
#[derive(Clone, Copy, Debug, Default)]
enum Time {
    #[default]
    None,
    /// In nanoseconds since 1970.
    Absolute(i64),
    /// In milliseconds since the exporter was started.
    Uptime(u32),
    /// In nanoseconds before the datagram.
    Before(i64),
}

impl DataRecord {
    /// Takes a value. One with an unsuitable length is left out.
    pub(super) fn set(&mut self, element: u16, value: &[u8]) {
        match element {
            UNKNOWN => {}
            8 | 12 | 15 | 18 | 27 | 28 | 62 | 63 => self.address(element, value),
            56 | 57 | 80 | 81 => self.hardware(element, value),
            _ => {
                if let Some(number) = number(value) {
                    self.number(element, number);
                }
            }
        }
    }

    fn address(&mut self, element: u16, value: &[u8]) {
        let is_v6 = matches!(element, 27 | 28 | 62 | 63);
        let address = match (is_v6, value.first_chunk::<4>(), value.first_chunk::<16>()) {
            (false, Some(bytes), _) if value.len() == 4 => u32::from_be_bytes(*bytes).into(),
            (true, _, Some(bytes)) if value.len() == 16 => u128::from_be_bytes(*bytes),
            _ => return,
        };
        // Records of both versions may have the fields of both, those of the other being 0.
        let target = match element {
            8 | 27 => &mut self.flow.source,
            12 | 28 => &mut self.flow.destination,
            _ => &mut self.flow.next_hop,
        };
        if address != 0 || *target == 0 {
            *target = address;
            self.flow.is_v6 |= matches!(element, 27 | 28) && address != 0;
        }
    }

    fn hardware(&mut self, element: u16, value: &[u8]) {
        let Some(address) = value.first_chunk::<6>().filter(|_| value.len() == 6) else { return };
        let target = match element {
            56 | 81 => &mut self.flow.source_hardware,
            _ => &mut self.flow.destination_hardware,
        };
        if *target == [0; 6] {
            *target = *address;
        }
    }

    fn number(&mut self, element: u16, number: u64) {
        if element & REVERSE != 0 {
            self.reverse.number(element & !REVERSE, number);
            return;
        }
        let flow = &mut self.flow;
        let short = number as u16;
        match element {
            3 => flow.flows = number as u32,
            4 => flow.protocol = number as u8,
            5 => flow.tos = number as u8,
            7 | 180 | 182 | 184 => flow.source_port = short,
            11 | 181 | 183 | 185 => flow.destination_port = short,
            9 | 29 => flow.source_mask = flow.source_mask.max(number as u8),
            13 | 30 => flow.destination_mask = flow.destination_mask.max(number as u8),
            10 => flow.input = number as u32,
            14 => flow.output = number as u32,
            16 => flow.source_as = number as u32,
            17 => flow.destination_as = number as u32,
            25 => flow.length_min = number.min(0xffff) as u16,
            26 => flow.length_max = number.min(0xffff) as u16,
            32 | 139 => flow.icmp = Some(short.to_be_bytes()),
            // Type and code on their own: of version 4, of version 6.
            176 | 178 => flow.icmp.get_or_insert_default()[0] = number as u8,
            177 | 179 => flow.icmp.get_or_insert_default()[1] = number as u8,
            // The largest one of a flow, as argus has it, or the only one.
            53 | 192 => flow.ttl = number as u8,
            52 if flow.ttl == 0 => flow.ttl = number as u8,
            54 => flow.ip_id = short,
            58 | 243 => flow.source_vlan = Some(short).filter(|tag| *tag != 0),
            59 | 254 => flow.destination_vlan = Some(short).filter(|tag| *tag != 0),
            60 => flow.is_v6 |= number == 6,
            61 => flow.is_egress = number == 1,
            34 | 50 => self.sampling = Some(number as u32),
            160 => self.started_ns = milliseconds(number),
            305 => self.sampling_interval = Some(number as u32),
            306 => self.sampling_space = Some(number as u32),
            // The counters of firewalls: of who began, and of who answered.
            231 => self.forward.number(1, number),
            298 => self.forward.number(2, number),
            232 => self.reverse.number(1, number),
            299 => self.reverse.number(2, number),
            _ => self.forward.number(element, number),
        }
    }

    /// How many packets stand behind one that was looked at, if the record has that.
    pub(super) fn sampling(&self) -> Option<u32> {
        match (self.sampling, self.sampling_interval, self.sampling_space) {
            // RFC 5477 §8.2.1: so many packets are taken, and then so many are left.
            (None, Some(interval), Some(space)) if interval != 0 => {
                Some((space / interval).saturating_add(1))
            }
            // Also used in the sense of field 34.
            (None, interval, None) => interval,
            (sampling, ..) => sampling,
        }
    }

    /// The flow; `None` if nothing was counted. Times that are not told are the datagram's.
    pub(super) fn finish(mut self, clock: &Clock) -> Option<NetFlow> {
        let started_ns = self.started_ns;
        let flow = &mut self.flow;
        flow.forward = self.forward.finish(clock, started_ns);
        let mut reverse = self.reverse.finish(clock, started_ns);
        if reverse.packets != 0 || reverse.bytes != 0 {
            if matches!(self.reverse.first, Time::None) {
                (reverse.first_ns, reverse.last_ns) = (flow.forward.first_ns, flow.forward.last_ns);
            }
            flow.reverse = Some(reverse);
        } else if flow.forward.packets == 0 && flow.forward.bytes == 0 {
            return None;
        }
        if matches!(flow.protocol, 1 | 58) && flow.icmp.is_none() {
            flow.icmp = Some(flow.destination_port.to_be_bytes());
        }
        Some(self.flow)
    }
}

impl RecordDirection {
    fn number(&mut self, element: u16, number: u64) {
        match element {
            1 => self.counts[0].1 = number,
            2 => self.counts[0].0 = number,
            85 => self.counts[1].1 = number,
            86 => self.counts[1].0 = number,
            23 => self.counts[2].1 = number,
            24 => self.counts[2].0 = number,
            6 => self.tcp_flags = number as u8,
            22 => self.first = Time::Uptime(number as u32),
            21 => self.last = Time::Uptime(number as u32),
            150 => self.first = absolute(since_1970(number, SECOND_NS)),
            151 => self.last = absolute(since_1970(number, SECOND_NS)),
            152 => self.first = absolute(milliseconds(number)),
            153 => self.last = absolute(milliseconds(number)),
            154 | 156 => self.first = Time::Absolute(ntp(number)),
            155 | 157 => self.last = Time::Absolute(ntp(number)),
            158 => self.first = Time::Before(number as u32 as i64 * 1000),
            159 => self.last = Time::Before(number as u32 as i64 * 1000),
            161 => self.duration_ns = milliseconds(number),
            162 => self.duration_ns = since_1970(number, 1000),
            // A time of observation or of an event.
            258 | 323 if matches!(self.first, Time::None) => {
                self.first = absolute(milliseconds(number));
            }
            _ => {}
        }
    }

    fn finish(&self, clock: &Clock, started_ns: Option<i64>) -> NetFlowCounters {
        let at = |time| match (time, started_ns) {
            (Time::None, _) => None,
            (Time::Absolute(time_ns), _) => Some(time_ns),
            (Time::Before(before_ns), _) => Some(clock.now_ns - before_ns),
            (Time::Uptime(uptime_ms), Some(start_ns)) => {
                milliseconds(uptime_ms.into())?.checked_add(start_ns)
            }
            (Time::Uptime(uptime_ms), None) => clock.at(uptime_ms),
        };
        let duration_ns = match (self.duration_ns, self.first, self.last) {
            // Without the time of the start, only their difference is known.
            (None, Time::Uptime(first_ms), Time::Uptime(last_ms)) => {
                milliseconds(last_ms.wrapping_sub(first_ms).into()).unwrap_or(0)
            }
            (duration_ns, ..) => duration_ns.unwrap_or(0),
        };
        let (first_ns, last_ns) = match (at(self.first), at(self.last)) {
            (Some(first_ns), Some(last_ns)) => (first_ns, last_ns),
            (Some(first_ns), None) => (first_ns, first_ns.saturating_add(duration_ns)),
            (None, Some(last_ns)) => (last_ns.saturating_sub(duration_ns), last_ns),
            (None, None) => (clock.now_ns.saturating_sub(duration_ns), clock.now_ns),
        };
        let counted = self.counts.iter().find(|counts| **counts != (0, 0));
        let (packets, bytes) = counted.copied().unwrap_or_default();
        NetFlowCounters { packets, bytes, first_ns, last_ns, tcp_flags: self.tcp_flags }
    }
}

const fn absolute(time_ns: Option<i64>) -> Time {
    match time_ns {
        Some(time_ns) => Time::Absolute(time_ns),
        None => Time::None,
    }
}

/// A number of one to eight bytes (RFC 7011 §6.2 lets exporters shorten them).
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 8 {
        return None;
    }
    Some(value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
