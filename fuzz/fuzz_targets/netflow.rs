//! Datagrams of several exporters: NetFlow, IPFIX and sFlow, written as argus records.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::netflow::{Datagram, Exporters, Item, decode};
use panoptes_flow::netflow::{exporter_of, record_of};
use panoptes_fuzz::fuzz_target;
use panoptes_records::flow::Extra;
use panoptes_sinks::flow::argus::{self, ArgusOptions, PLAIN_BYTES_MAX};

// A datagram: the number of its exporter, its length, its bytes.
fuzz_target!(|data: &[u8]| {
    let options = ArgusOptions { packet_sizes: true, ..ArgusOptions::default() };
    let mut exporters = Box::new(Exporters::default());
    let mut out = [0; PLAIN_BYTES_MAX];
    let (mut rest, mut now_ns, mut items) = (data, 1_700_000_000_000_000_000, 0);
    while let Some((&[exporter, high, low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (payload, after) = after.split_at(after.len().min(length));
        rest = after;
        // A minute each: templates expire.
        now_ns += 60_000_000_000;
        let datagram = Datagram {
            exporter: u128::from(exporter & 7),
            received_ns: now_ns,
            payload,
            wire_length: length as u32,
        };
        let mut found = 0;
        decode(&datagram, &mut exporters, |item| {
            found += 1;
            match item {
                Item::Flow(flow) => {
                    let extra = Extra { exporter: Some(exporter_of(flow)), ..Extra::default() };
                    let record = record_of(flow);
                    argus::write(&mut out, &options, &record, &extra).expect("there is room");
                    assert_eq!(out[0], 0x33);
                }
                Item::Sample(_, packet) => {
                    assert!(packet.header.len() <= packet.wire_length as usize);
                }
            }
        });
        assert!(found <= payload.len(), "each item has bytes");
        items += found as u64;
    }
    let counts = exporters.counts();
    assert_eq!(counts.flows + counts.samples, items);
});
