//! Formats of flow records, against the programs that read them.

mod argus_5;
mod json;
mod nfdump;

use panoptes_decoders::packet::{self, Tunnels};
use panoptes_flow::{FlowTableSettings, Flows, Reports, Timeouts};
use panoptes_records::flow::{Extra, FlowRecord};
use panoptes_tables::HashKey;
use panoptes_traffic::{Capture, Clock};

/// LINKTYPE_ETHERNET, and the sizes of the headers of a pcap file.
const ETHERNET: u16 = 1;
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

/// Calls a function for each record of a capture, of `panoptes flow -A -J -U 64 -S 3600`.
fn audit(capture: &Capture, report: &mut dyn FnMut(&FlowRecord, &Extra<'_>)) {
    let reports = &mut Each(report);
    let settings = FlowTableSettings {
        capacity: 1000,
        status_interval_ns: 3600 * 1_000_000_000,
        timeouts: Timeouts::default(),
        has_jitter: true,
        user_bytes: 64,
        ..FlowTableSettings::default()
    };
    let mut flows = Flows::new(&settings, HashKey::new(7));
    let file = capture.pcap(Clock::Nanoseconds);
    let mut rest = &file[FILE_HEADER..];
    while let Some((header, frame)) = rest.split_at_checked(PACKET_HEADER) {
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let time_ns = i64::from(number(0)) * 1_000_000_000 + i64::from(number(4));
        let (bytes, length) = (&frame[..number(8) as usize], number(12));
        let packet = packet::decode(ETHERNET, bytes, length, Tunnels::Declared);
        flows.packet(&packet, time_ns, length, reports);
        rest = &frame[bytes.len()..];
    }
    flows.finish(reports);
}

/// Calls a function for each record.
struct Each<'a>(&'a mut dyn FnMut(&FlowRecord, &Extra<'_>));

impl Reports for Each<'_> {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        (self.0)(record, extra);
    }
}
