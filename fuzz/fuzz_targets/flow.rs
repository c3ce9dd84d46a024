//! Frames of any link layer and any bytes: decoded, counted in flows, and written in all formats.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::packet::{Tunnels, decode};
use panoptes_flow::{FlowTableSettings, Flows, Reports, Timeouts};
use panoptes_fuzz::fuzz_target;
use panoptes_records::flow::{Extra, FlowRecord};
use panoptes_sinks::flow::argus::{ArgusOptions, Version};
use panoptes_sinks::flow::ipfix::Session;
use panoptes_sinks::flow::json::JsonLineFormat;
use panoptes_tables::HashKey;

/// Ethernet, loopback, PPP, IP, HDLC, 802.11, cooked, radiotap, cooked of version 2.
const LINKS: [u16; 9] = [1, 0, 9, 101, 104, 105, 113, 127, 276];

/// Writes each record, and counts what it has.
struct Written {
    out: Vec<u8>,
    packets: u64,
    session: Session,
}

impl Reports for Written {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        self.packets += record.source.packets + record.destination.packets;
        let options = ArgusOptions {
            application_bytes: true,
            hardware: true,
            packet_sizes: true,
            ..ArgusOptions::default()
        };
        let out = &mut self.out;
        for version in [Version::Three, Version::Five] {
            let length = version.write(out, &options, record, extra).expect("there is room");
            assert_eq!(usize::from(u16::from_be_bytes([out[2], out[3]])) * 4, length);
        }
        let lines = JsonLineFormat { options, community_id_seed: Some(0) };
        let length = lines.write(out, record, extra).expect("there is room");
        assert!(out[..length].is_ascii() && out[..length].ends_with(b"}\n"));
        self.session.write(out, record, extra, 0).expect("there is room");
        let length = self.session.finish(out, 0).expect("a record");
        assert_eq!(usize::from(u16::from_be_bytes([out[2], out[3]])), length);
    }
}

// A frame: the number of its link layer, the time since the last one, its length, its bytes.
fuzz_target!(|data: &[u8]| {
    let settings = FlowTableSettings {
        capacity: 7,
        status_interval_ns: 5_000_000_000,
        timeouts: Timeouts::default(),
        has_jitter: true,
        user_bytes: 9,
        ..FlowTableSettings::default()
    };
    let mut flows = Flows::new(&settings, HashKey::new(1));
    let mut written = Written { out: vec![0; 8192], packets: 0, session: Session::new(1, 0) };
    let (mut rest, mut now_ns) = (data, 1_700_000_000_000_000_000);
    while let Some((&[link, time, length], after)) = rest.split_first_chunk() {
        let (frame, after) = after.split_at(after.len().min(usize::from(length)));
        rest = after;
        now_ns += i64::from(time) * 50_000_000;
        let link = LINKS[usize::from(link) % LINKS.len()];
        let wire_length = frame.len() as u32 + u32::from(time);
        let packet = decode(link, frame, wire_length, Tunnels::Discover);
        flows.packet(&packet, now_ns, wire_length, &mut written);
    }
    flows.finish(&mut written);
    let counts = flows.counts();
    assert_eq!(written.packets + counts.unaccounted, counts.packets, "each packet is in a record");
});
