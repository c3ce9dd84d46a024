//! Datagrams with mirrored packets: opened, decoded and counted in flows.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::packet::Tunnels;
use panoptes_decoders::packet::mirror::{LINKS, Mirror, MirrorContent, decode_mirrored, open};
use panoptes_flow::{FlowTableSettings, Flows, Reports, Timeouts};
use panoptes_fuzz::fuzz_target;
use panoptes_records::flow::{Extra, FlowRecord};
use panoptes_tables::HashKey;

/// Counts the packets in records.
#[derive(Default)]
struct Counted(u64);

impl Reports for Counted {
    fn report(&mut self, record: &FlowRecord, _: &Extra<'_>) {
        self.0 += record.source.packets + record.destination.packets;
    }
}

// A datagram: its kind, how many bytes were cut off, its length, its bytes.
fuzz_target!(|data: &[u8]| {
    let settings = FlowTableSettings {
        capacity: 7,
        timeouts: Timeouts::default(),
        ..FlowTableSettings::default()
    };
    let mut flows = Flows::new(&settings, HashKey::new(1));
    let mut counted = Counted::default();
    let (mut rest, mut now_ns) = (data, 1_700_000_000_000_000_000);
    while let Some((&[kind, cut, length], after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(after.len().min(usize::from(length)));
        rest = after;
        now_ns += 1_000_000;
        let mirror = Mirror::ALL[usize::from(kind) % Mirror::ALL.len()];
        let wire_length = payload.len() as u32 + u32::from(cut);
        let MirrorContent::Packet(mirrored) = open(mirror, payload, wire_length) else { continue };
        assert!(payload.ends_with(mirrored.bytes) && !mirrored.bytes.is_empty());
        assert_eq!(mirrored.length as usize, mirrored.bytes.len() + usize::from(cut));
        assert!(LINKS.contains(&mirrored.link));
        let packet = decode_mirrored(&mirrored, Tunnels::Discover);
        flows.packet_apart(&packet, now_ns, mirrored.length, &mut counted);
    }
    flows.finish(&mut counted);
    let counts = flows.counts();
    assert_eq!(counted.0 + counts.unaccounted, counts.packets, "each packet is in a record");
});
