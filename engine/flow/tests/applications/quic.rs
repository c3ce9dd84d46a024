//! Initial packets of QUIC: those of RFCs, and some that are encrypted here in the same way.

use panoptes_records::flow::application::{Application, Hello};
use proptest::prelude::*;
use ring::aead::quic::HeaderProtectionKey;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::recorded::{bytes, data, parts};
use crate::wire::Wire;

/// The keys of RFC 9001 §A.1 for the id 8394c8f03e515708.
const KEY: &str = "1f369613dd76d5467730efcbe3b1a22d";
const IV: &str = "fa044b2f42a3fd3b46fb255c";
const HEADER_KEY: &str = "9f50449e04a0e810283a1e9933adedd2";
const ID: &str = "8394c8f03e515708";

fn packets() -> Vec<(String, Vec<u8>)> {
    parts(include_str!("quic.txt"))
}

/// A packet of version 1 to an id that is not the one that the keys derive from, if it is another.
fn packet(id: &str, number: u8, frames: &[u8]) -> Vec<u8> {
    let id = bytes(id);
    let mut frames = frames.to_vec();
    frames.resize(frames.len().max(4), 0);
    let length = (1 + frames.len() + 16) as u16 | 0x4000;
    let mut packet = [&[0xc0, 0, 0, 0, 1, id.len() as u8][..], &id, &[0, 0]].concat();
    packet.extend(length.to_be_bytes());
    packet.push(number);
    let mut nonce: [u8; 12] = bytes(IV).try_into().expect("12 bytes");
    nonce[11] ^= number;
    let key = UnboundKey::new(&AES_128_GCM, &bytes(KEY)).expect("a key");
    let tag = LessSafeKey::new(key).seal_in_place_separate_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(&packet),
        &mut frames,
    );
    let header = packet.len();
    packet.extend(&frames);
    packet.extend(tag.expect("a tag").as_ref());
    let key = HeaderProtectionKey::new(&ring::aead::quic::AES_128, &bytes(HEADER_KEY));
    let sample = &packet[header + 3..header + 19];
    let mask = key.expect("a key").new_mask(sample).expect("a mask");
    packet[0] ^= mask[0] & 0x0f;
    packet[header - 1] ^= mask[1];
    packet
}

/// A CRYPTO frame.
fn frame(offset: usize, data: &[u8]) -> Vec<u8> {
    let [offset, length] =
        [offset, data.len()].map(|number| (number as u16 | 0x4000).to_be_bytes());
    [&[6][..], &offset, &length, data].concat()
}

/// The message in a recorded record.
fn hello() -> Vec<u8> {
    data("curl")[5..].to_vec()
}

fn of(datagrams: &[Vec<u8>]) -> Option<Hello> {
    let mut wire = Wire::new(4);
    for datagram in datagrams {
        wire.udp(true, datagram);
    }
    let quic = wire.quic();
    assert_eq!(quic.version, 1);
    quic.client
}

#[test]
fn packets_of_the_rfcs_are_decrypted() {
    for ((name, packet), version) in packets().into_iter().zip([1, 0x6b33_43cf]) {
        let mut wire = Wire::new(4);
        wire.udp(true, &packet);
        let quic = wire.quic();
        let client = quic.client.expect("a hello");
        assert_eq!(quic.version, version, "{name}");
        assert_eq!(client.server_name.bytes(), b"example.com", "{name}");
        assert_eq!(client.protocols.bytes(), b"\x04alpn", "{name}");
        assert_eq!(client.version, 0x0304, "{name}");
        assert_eq!(&client.ja4.expect("a fingerprint")[..10], b"q13d0211an", "{name}");
    }
}

/// Anybody may use the ports of DNS for something else.
#[test]
fn the_ports_of_dns_hide_nothing() {
    for (name, packet) in packets() {
        for port in [53, 5353, 5355] {
            let mut wire = Wire::new(4);
            wire.datagram([40_000, port], &packet);
            assert!(wire.quic().client.is_some(), "{name}, port {port}");
        }
    }
}

#[test]
fn packets_that_are_changed_are_none() {
    for (name, packet) in packets() {
        for at in [0, 5, 10, 17, 20, 100, 1199] {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            let mut wire = Wire::new(4);
            wire.udp(true, &changed);
            assert_eq!(wire.only(), Application::Unknown, "{name}, {at}");
        }
        let mut wire = Wire::new(4);
        wire.udp(true, &packet[..1199]);
        assert_eq!(wire.only(), Application::Unknown, "{name}, cut");
    }
}

#[test]
fn a_recorded_hello_has_its_fingerprint() {
    let client = of(&[packet(ID, 0, &frame(0, &hello()))]).expect("a hello");
    let ja4 = client.ja4.expect("a fingerprint");
    // That of the same hello over TCP, but for its first letter.
    assert_eq!(ja4, *b"q13d3112h2_e8f1e7e78f70_b26ce05bbdd6");
}

#[test]
fn other_frames_and_packets_are_skipped() {
    let hello = hello();
    let (first, second) = hello.split_at(100);
    // PING, ACK with two ranges, ACK with counts of ECN, padding.
    let others = [1, 2, 9, 0, 1, 0, 0, 0, 3, 9, 0, 0, 0, 1, 1, 1, 0, 0, 0];
    let frames = [&others[..], &frame(100, second), &[0; 30], &frame(0, first)].concat();
    let expected = of(&[packet(ID, 0, &frame(0, &hello))]);
    assert_eq!(of(&[packet(ID, 1, &frames)]), expected);
    // Two packets in a datagram, as with 0-RTT data between them.
    let both = [packet(ID, 0, &frame(0, first)), packet(ID, 1, &frame(100, second))].concat();
    assert_eq!(of(&[both]), expected);
    // After its answer, the client uses the server's id and the same keys.
    let parts = [packet(ID, 0, &frame(0, first)), packet("00112233", 1, &frame(100, second))];
    assert_eq!(of(&parts), expected);
}

#[test]
fn a_server_alone_is_nothing() {
    let mut wire = Wire::new(4);
    for number in 0..40 {
        wire.udp(false, &packet("0011223344556677", number, &frame(0, &hello())));
    }
    // Nor is what comes after so many.
    wire.udp(true, &packet(ID, 0, &frame(0, &hello())));
    assert_eq!(wire.only(), Application::Unknown);
}

proptest! {
    #[test]
    fn the_order_of_frames_does_not_matter(
        cuts in proptest::collection::btree_set(1..500_usize, 0..12),
        order in any::<u64>(),
        per_packet in 1..5_usize,
    ) {
        let hello = hello();
        let mut ends: Vec<usize> = cuts.into_iter().filter(|cut| *cut < hello.len()).collect();
        ends.push(hello.len());
        let mut frames = Vec::new();
        let mut begin = 0;
        for end in ends {
            frames.push(frame(begin, &hello[begin..end]));
            begin = end;
        }
        let hash = |at: usize| (at as u64 ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
        let mut numbered: Vec<_> = frames.into_iter().enumerate().collect();
        numbered.sort_by_key(|(number, _)| hash(*number));
        let frames: Vec<_> = numbered.into_iter().map(|(_, frame)| frame).collect();
        let datagrams: Vec<_> = frames
            .chunks(per_packet)
            .zip(0..)
            .map(|(frames, number)| packet(ID, number, &frames.concat()))
            .collect();
        prop_assert_eq!(of(&datagrams), of(&[packet(ID, 0, &frame(0, &hello))]));
    }
}
