//! Pieces of TCP streams, datagrams of DNS and Initial packets of QUIC with any frames: put
//! together, read, and written as JSON.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::packet::transport::{flag, protocol};
use panoptes_decoders::packet::{Ip, Network, Packet};
use panoptes_flow::{ApplicationSettings, FlowTableSettings, Flows, Protocols, Reports, Timeouts};
use panoptes_fuzz::fuzz_target;
use panoptes_records::flow::application::Application;
use panoptes_records::flow::{Extra, FlowRecord, NameResolution};
use panoptes_sinks::flow::json::{JsonLineFormat, PLAIN_LINE_BYTES_MAX, RESOLUTION_BYTES_MAX};
use panoptes_tables::HashKey;
use ring::aead::quic::HeaderProtectionKey;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// An id from RFC 9001 §A.1, and the client's keys that derive from it.
const ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
const KEY: [u8; 16] = [
    0x1f, 0x36, 0x96, 0x13, 0xdd, 0x76, 0xd5, 0x46, 0x77, 0x30, 0xef, 0xcb, 0xe3, 0xb1, 0xa2, 0x2d,
];
const IV: [u8; 12] = [0xfa, 0x04, 0x4b, 0x2f, 0x42, 0xa3, 0xfd, 0x3b, 0x46, 0xfb, 0x25, 0x5c];
const HEADER_KEY: [u8; 16] = [
    0x9f, 0x50, 0x44, 0x9e, 0x04, 0xa0, 0xe8, 0x10, 0x28, 0x3a, 0x1e, 0x99, 0x33, 0xad, 0xed, 0xd2,
];

/// Writes each record, and keeps the last application.
struct Written {
    out: Vec<u8>,
    last: Application,
}

impl Reports for Written {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        let out = &mut self.out[..PLAIN_LINE_BYTES_MAX];
        let length = JsonLineFormat::default().write(out, record, extra).expect("there is room");
        check(&out[..length]);
        self.last = extra.application.copied().unwrap_or_default();
    }

    fn resolved(&mut self, resolution: &NameResolution<'_>) {
        assert!(resolution.count > 0 && resolution.first_ns <= resolution.last_ns);
        let out = &mut self.out[..RESOLUTION_BYTES_MAX];
        let length = JsonLineFormat::default().resolution(out, resolution).expect("there is room");
        check(&out[..length]);
    }
}

fn check(line: &[u8]) {
    assert!(line.ends_with(b"}\n"));
    serde_json::from_slice::<serde_json::Value>(line).expect("JSON");
}

/// An Initial packet with these frames.
fn initial(number: u8, frames: &[u8]) -> Vec<u8> {
    let mut frames = frames.to_vec();
    frames.resize(frames.len().max(4), 0);
    let length = (1 + frames.len() + 16) as u16 | 0x4000;
    let mut packet = [&[0xc0, 0, 0, 0, 1, 8][..], &ID, &[0, 0]].concat();
    packet.extend(length.to_be_bytes());
    packet.push(number);
    let mut nonce = IV;
    nonce[11] ^= number;
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &KEY).expect("a key"));
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&packet), &mut frames);
    let header = packet.len();
    packet.extend(&frames);
    packet.extend(tag.expect("a tag").as_ref());
    let key = HeaderProtectionKey::new(&ring::aead::quic::AES_128, &HEADER_KEY).expect("a key");
    let mask = key.new_mask(&packet[header + 3..header + 19]).expect("a mask");
    packet[0] ^= mask[0] & 0x0f;
    packet[header - 1] ^= mask[1];
    packet
}

// A packet: what it is and from whom, its place in a stream, the length of its data, its data.
fuzz_target!(|data: &[u8]| {
    let application = ApplicationSettings {
        protocols: Protocols::ALL,
        has_passive_dns: true,
        sequence_packets: 30,
        ..Default::default()
    };
    let settings = FlowTableSettings {
        capacity: 5,
        status_interval_ns: 5_000_000_000,
        timeouts: Timeouts::default(),
        has_jitter: false,
        user_bytes: 0,
        application,
        ..FlowTableSettings::default()
    };
    let mut flows = Flows::new(&settings, HashKey::new(1));
    let mut written = Written { out: vec![0; 16_384], last: Application::Unknown };
    let (mut rest, mut now_ns) = (data, 1_700_000_000_000_000_000);
    while let Some((&[kind, low, high, length_low, length_high], after)) = rest.split_first_chunk()
    {
        let length = usize::from(u16::from_le_bytes([length_low, length_high])) % 2000;
        let (data, after) = after.split_at(after.len().min(length));
        rest = after;
        now_ns += 100_000_000;
        let is_client = kind & 0x80 == 0;
        let server: u16 = [443, 53, 22, 443][usize::from(kind >> 2 & 3)];
        let ports = if is_client { [50_000, server] } else { [server, 50_000] };
        let mut bytes: Vec<u8> = ports.into_iter().flat_map(u16::to_be_bytes).collect();
        let protocol = if kind & 1 == 0 {
            bytes.extend(u32::from(u16::from_le_bytes([low, high])).to_be_bytes());
            let flags = if kind & 2 == 0 { flag::ACK } else { flag::SYN };
            bytes.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0, 0, 0, 0, 0]);
            bytes.extend(data);
            protocol::TCP
        } else {
            bytes.extend([0; 4]);
            let sealed = if kind & 2 == 0 { initial(low, data) } else { data.to_vec() };
            bytes.extend(sealed);
            protocol::UDP
        };
        let [source, destination] = if is_client { [1, 2] } else { [2, 1] };
        let payload_length = bytes.len() as u32;
        let payload = &bytes[..];
        let ip = Ip { source, destination, protocol, payload, payload_length, ..Ip::default() };
        let packet = Packet { network: Network::Ip(ip), ..Packet::default() };
        flows.packet(&packet, now_ns, payload_length, &mut written);
    }
    flows.finish(&mut written);
    if let Application::Quic(quic) = written.last {
        let name = quic.client.map(|client| client.server_name);
        assert!(name.is_none_or(|name| name.bytes().len() <= data.len()));
    }
});
