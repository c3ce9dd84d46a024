//! IP protocols without ports, or whose ports few programs read.

use crate::between::Between;
use crate::capture::{Capture, Conversation};
use crate::headers;
use crate::truth::{Flow, Side};
use crate::wire::Wire;

/// IGMP messages of one type, from the source to a group.
#[derive(Clone, Debug)]
pub struct Igmp {
    pub between: Between,
    pub start_ns: u64,
    /// 0x11 is a query, 0x16 a report of version 2.
    pub kind: u8,
    pub group: [u8; 4],
    /// Messages, a second apart.
    pub count: u32,
}

impl Conversation for Igmp {
    fn write(&self, capture: &mut Capture) {
        let mut wire = Wire::new(capture, &self.between);
        let mut flow = self.between.portless_flow("igmp");
        for number in 0..self.count {
            let mut network = wire.network(Side::Source, headers::IGMP);
            network.ttl = 1;
            let message = headers::icmp(&network, [self.kind, 100], self.group, &[]);
            let at_ns = self.start_ns + u64::from(number) * 1_000_000_000;
            wire.send((&mut flow, Side::Source, at_ns), &network, &message, message.len());
        }
        flow.direction = flow.direction_by_counts();
        flow.state = flow.state_by_counts();
        wire.capture.push_flow(flow);
        wire.finish();
    }
}

/// Encrypted packets from the source, ten milliseconds apart.
#[derive(Clone, Debug)]
pub struct Esp {
    pub between: Between,
    pub start_ns: u64,
    pub spi: u32,
    /// Sequence numbers; a gap is a loss.
    pub sequences: Vec<u32>,
    pub bytes: usize,
}

impl Conversation for Esp {
    fn write(&self, capture: &mut Capture) {
        let mut wire = Wire::new(capture, &self.between);
        let mut flow = self.between.portless_flow("esp");
        flow.destination_port = format!("0x{:08x}", self.spi);
        let mut expected = self.sequences.first().copied();
        for (number, sequence) in self.sequences.iter().enumerate() {
            let network = wire.network(Side::Source, headers::ESP);
            let mut packet = self.spi.to_be_bytes().to_vec();
            packet.extend(sequence.to_be_bytes());
            packet.extend(headers::text(self.bytes));
            let at_ns = self.start_ns + number as u64 * 10_000_000;
            wire.send((&mut flow, Side::Source, at_ns), &network, &packet, packet.len());
            let lost = expected.map_or(0, |expected| sequence.saturating_sub(expected));
            flow.retransmissions[0] += u64::from(lost);
            expected = Some(sequence + 1);
        }
        flow.direction = flow.direction_by_counts();
        flow.state = flow.state_by_counts();
        wire.capture.push_flow(flow);
        wire.finish();
    }
}

/// The first two packets of an SCTP association.
#[derive(Clone, Debug)]
pub struct Sctp {
    pub between: Between,
    pub start_ns: u64,
}

impl Conversation for Sctp {
    fn write(&self, capture: &mut Capture) {
        let mut wire = Wire::new(capture, &self.between);
        let mut flow: Flow = self.between.flow("sctp");
        for (side, chunk) in [(Side::Source, 1), (Side::Destination, 2)] {
            let network = wire.network(side, headers::SCTP);
            let mut ports = self.between.ports;
            if side == Side::Destination {
                ports.reverse();
            }
            let mut packet = Vec::new();
            packet.extend(ports[0].to_be_bytes());
            packet.extend(ports[1].to_be_bytes());
            packet.extend([0; 8]);
            packet.extend([chunk, 0, 0, 20]);
            packet.extend([0, 0, 0, 7, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 9]);
            let checksum = crc32c(&packet);
            packet[8..12].copy_from_slice(&checksum.to_le_bytes());
            let at_ns = self.start_ns + side.index() as u64 * 900_000;
            wire.send((&mut flow, side, at_ns), &network, &packet, packet.len());
        }
        flow.direction = flow.direction_by_counts();
        flow.state = flow.state_by_counts();
        wire.capture.push_flow(flow);
        wire.finish();
    }
}

/// The checksum of SCTP.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc32c_has_its_check_value() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
