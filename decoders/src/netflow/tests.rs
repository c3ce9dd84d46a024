//! Datagrams of exporters, of documents and made by hand, and what is read of them.

use std::vec::Vec;

use super::*;

mod exports;
mod hand_made;
mod limits;
mod properties;

/// The bytes of hexadecimal digits; spaces are left out.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn v4(address: [u8; 4]) -> u128 {
    u32::from_be_bytes(address).into()
}

/// When the datagrams of tests are received: 2023-11-14 22:13:24 UTC.
const NOW_NS: i64 = 1_700_000_004_000_000_000;

/// Decodes a datagram of an exporter.
fn add(exporters: &mut Exporters, exporter: u128, payload: &[u8]) -> Vec<NetFlow> {
    let wire_length = payload.len() as u32;
    let datagram = Datagram { exporter, received_ns: NOW_NS, payload, wire_length };
    let mut flows = Vec::new();
    decode(&datagram, exporters, |item| match item {
        Item::Flow(flow) | Item::Sample(flow, _) => flows.push(*flow),
    });
    flows
}

/// The flows of datagrams of one exporter, and what was counted.
fn decoded(datagrams: &[Vec<u8>]) -> (Vec<NetFlow>, ExporterCounts) {
    let mut exporters = Exporters::default();
    let flows = datagrams.iter().flat_map(|payload| add(&mut exporters, 1, payload)).collect();
    (flows, exporters.counts())
}
