//! Frames of IEEE 802.11, and the header that `radiotap` puts before them.
//!
//! A data frame that is not encrypted leads to its packet, and has the addresses of its ends. Any
//! other frame has those of its hop, as argus 3.0.8 has them.

use super::{Ether, LinkLayer, without_network};
use crate::packet::bytes::FrameRemainder;
use crate::packet::{Encapsulation, Network, NextLayer, Packet};

/// Bits of the first byte of frame control: version and type (IEEE 802.11-2020 §9.2.4.1).
const VERSION: u8 = 0x03;
const TYPE: u8 = 0x0c;
const DATA: u8 = 0x08;
const EXTENSION: u8 = 0x0c;
/// Control frames that name their receiver only: a wrapper of another one, clear to send, an
/// acknowledgement (§9.3.1).
const WITHOUT_SENDER: [u8; 3] = [0x74, 0xc4, 0xd4];
/// Bits of the subtypes of data frames: without data, and with quality of service.
const WITHOUT_DATA: u8 = 0x40;
const QUALITY: u8 = 0x80;
/// Bits of its second byte.
const TO_SYSTEM: u8 = 0x01;
const FROM_SYSTEM: u8 = 0x02;
const PROTECTED: u8 = 0x40;
const ORDER: u8 = 0x80;
/// The bit of quality of service that announces several frames in one (§9.2.4.5.9).
const AGGREGATE: u8 = 0x80;

/// Length in bytes of the shortest header of `radiotap`: one word names fields.
const RADIO_TAP_BYTES_MIN: usize = 8;
/// Bits of the words of `radiotap` that name fields: a time stamp, flags, another word
/// (radiotap.org).
const TIME_STAMP: u32 = 1;
const FLAGS: u32 = 2;
const NEXT_WORD: u32 = 1 << 31;
/// The flag: the header of the frame is padded to words of four bytes.
const PADDED: u8 = 0x20;
/// The most words that name fields.
const WORDS_MAX: usize = 8;

/// Version, padding, and the length, little-endian; then words with a bit for each field.
pub(super) fn radio_tap(
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
) -> Option<NextLayer> {
    let header: &[u8; 4] = rest.peek()?;
    let length = usize::from(u16::from_le_bytes([header[2], header[3]]));
    if length < RADIO_TAP_BYTES_MIN {
        return None;
    }
    let is_padded = rest.bytes.get(..length).and_then(flags).unwrap_or(0) & PADDED != 0;
    rest.skip(length)?;
    decode(packet, rest, if is_padded { 4 } else { 1 })
}

/// The flags of a header of `radiotap`.
fn flags(header: &[u8]) -> Option<u8> {
    let (words, _) = header.get(4..)?.as_chunks::<4>();
    let first = u32::from_le_bytes(*words.first()?);
    if first & FLAGS == 0 {
        return None;
    }
    let is_last = |word: &[u8; 4]| u32::from_le_bytes(*word) & NEXT_WORD == 0;
    let count = words.iter().take(WORDS_MAX).position(is_last)? + 1;
    let mut at = 4 + 4 * count;
    if first & TIME_STAMP != 0 {
        at = at.next_multiple_of(8) + 8;
    }
    header.get(at).copied()
}

/// Decodes a frame whose header is padded to a multiple of `unit` bytes.
pub(super) fn decode(
    packet: &mut Packet<'_>,
    rest: &mut FrameRemainder<'_>,
    unit: usize,
) -> Option<NextLayer> {
    packet.encapsulation.add(Encapsulation::WIRELESS);
    let &[kind, flags] = rest.peek()?;
    let receiver = address(rest, 4)?;
    if kind & VERSION != 0 || kind & TYPE == EXTENSION || WITHOUT_SENDER.contains(&kind) {
        return without_network(packet);
    }
    let transmitter = address(rest, 10)?;
    packet.network = Network::Wireless;
    packet.ether = Some(Ether { destination: receiver, source: transmitter, kind: 0 });
    let is_data = kind & (VERSION | TYPE | WITHOUT_DATA) == DATA;
    if !is_data || flags & PROTECTED != 0 {
        return None;
    }
    let [third, fourth] = [16, 24].map(|at| address(rest, at));
    let between_systems = flags & TO_SYSTEM != 0 && flags & FROM_SYSTEM != 0;
    let mut length = if between_systems { 30 } else { 24 };
    let mut is_aggregate = false;
    if kind & QUALITY != 0 {
        is_aggregate = rest.bytes.get(length)? & AGGREGATE != 0;
        // The order bit announces the HT control field.
        length += if flags & ORDER != 0 { 6 } else { 2 };
    }
    // IEEE 802.11-2020, table 9-30.
    let (destination, source) = match (flags & TO_SYSTEM != 0, flags & FROM_SYSTEM != 0) {
        (false, false) => (receiver, transmitter),
        (false, true) => (receiver, third?),
        (true, false) => (third?, transmitter),
        (true, true) => (third?, fourth?),
    };
    rest.skip(length.next_multiple_of(unit))?;
    packet.ether = Some(if is_aggregate {
        // The first of the frames: addresses and length, as in IEEE 802.3.
        Ether { kind: 0, ..super::ether(rest.take()?) }
    } else {
        Ether { destination, source, kind: 0 }
    });
    Some(NextLayer::Link(LinkLayer::Llc))
}

fn address(rest: &FrameRemainder<'_>, at: usize) -> Option<[u8; 6]> {
    rest.bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::packet::{Llc, Tunnels, decode, ethertype};

    /// Addresses by their last byte.
    const fn address(last: u8) -> [u8; 6] {
        [2, 0, 0, 0, 0, last]
    }

    /// A frame with addresses 1, 2 and 3, the fourth one in what follows.
    fn frame(control: [u8; 2], after: &[&[u8]]) -> Vec<u8> {
        let mut bytes = [control[0], control[1], 0, 0].to_vec();
        for last in 1..=3 {
            bytes.extend(address(last));
        }
        bytes.extend([0x10, 0]);
        for part in after {
            bytes.extend(*part);
        }
        bytes
    }

    fn read(link: u16, bytes: &[u8]) -> Packet<'_> {
        decode(link, bytes, bytes.len() as u32, Tunnels::Declared)
    }

    /// EAPOL, as a station sends it before anything is encrypted.
    const EAPOL: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0, 0x88, 0x8e, 2, 3, 0, 0];

    #[test]
    fn a_packet_has_the_addresses_of_its_ends() {
        let fourth = address(4);
        for (control, before, [source, destination]) in [
            ([0x08, 0], &[][..], [2, 1]),
            ([0x08, 1], &[][..], [2, 3]),
            ([0x08, 2], &[][..], [3, 1]),
            ([0x08, 3], &fourth[..], [4, 3]),
            ([0x88, 1], &[0, 0][..], [2, 3]),
            ([0x88, 0x81], &[0, 0, 0, 0, 0, 0][..], [2, 3]),
        ] {
            let bytes = frame(control, &[before, EAPOL]);
            let packet = read(105, &bytes);
            let kind = 0x888e;
            let (source, destination) = (address(source), address(destination));
            assert_eq!(packet.ether, Some(Ether { destination, source, kind }), "{control:x?}");
            assert_eq!(packet.network, Network::Other(kind), "{control:x?}");
        }
        let stp = frame([0x08, 2], &[&[0x42, 0x42, 3, 0, 0]]);
        let llc = Llc { destination: 0x42, source: 0x42 };
        assert_eq!(read(105, &stp).network, Network::Llc(llc));
    }

    /// As argus 3.0.8.2 has it.
    #[test]
    fn other_frames_have_the_addresses_of_their_hop() {
        let beacon = frame([0x80, 0], &[&[0; 12], b"\0\x04test"]);
        let encrypted = frame([0x08, 0x41], &[&[0; 40]]);
        let without_data = frame([0xc8, 1], &[&[0, 0]]);
        let request_to_send = frame([0xb4, 0], &[])[..16].to_vec();
        let hop = Some(Ether { destination: address(1), source: address(2), kind: 0 });
        for bytes in [beacon, encrypted, without_data, request_to_send] {
            let packet = read(105, &bytes);
            assert_eq!((packet.network, packet.ether), (Network::Wireless, hop), "{bytes:x?}");
        }
    }

    #[test]
    fn a_frame_without_a_sender_has_none() {
        for control in [0xc4, 0xd4] {
            let bytes = &frame([control, 0], &[])[..10];
            let packet = read(105, bytes);
            assert_eq!((packet.network, packet.ether), (Network::Control, None));
            let cut = read(105, &bytes[..9]);
            assert_eq!((cut.network, cut.ether), (Network::Unknown, None));
        }
    }

    #[test]
    fn the_first_frame_of_an_aggregate_is_read() {
        let inner = [&address(3)[..], &address(2), &[0, EAPOL.len() as u8]].concat();
        let bytes = frame([0x88, 1], &[&[0x80, 0], &inner, EAPOL]);
        let ether = Ether { destination: address(3), source: address(2), kind: 0x888e };
        assert_eq!(read(105, &bytes).ether, Some(ether));
    }

    /// Some cards pad the header of the frame, and say so (radiotap.org, "Flags").
    #[test]
    fn padding_is_behind_the_header() {
        let bytes = frame([0x88, 1], &[&[0, 0], &[0, 0], EAPOL]);
        let flags = [0, 0, 9, 0, 2, 0, 0, 0, PADDED];
        let behind_time =
            [&[0, 0, 25, 0, 3, 0, 0, 0x80, 0, 0, 0, 0][..], &[0; 12], &[PADDED]].concat();
        for header in [&flags[..], &behind_time] {
            let bytes = [header, &bytes].concat();
            assert_eq!(read(127, &bytes).network, Network::Other(0x888e));
        }
    }

    #[test]
    fn headers_of_cards_lead_to_the_frame() {
        let beacon = frame([0x80, 0], &[&[0; 12]]);
        // Prism in both byte orders, AVS.
        let prism = [&[0x44, 0, 0, 0, 144, 0, 0, 0][..], &[0; 136]].concat();
        let big = [&[0, 0, 0, 0x44, 0, 0, 0, 144][..], &[0; 136]].concat();
        let avs = [&[0x80, 0x21, 0x10, 1, 0, 0, 0, 64][..], &[0; 56]].concat();
        for (link, header) in [(119, &prism), (119, &big), (119, &avs), (163, &avs)] {
            let bytes = [&header[..], &beacon].concat();
            assert_eq!(read(link, &bytes).network, Network::Wireless, "link type {link}");
        }
        // A packet behind them has its own type.
        let ip = frame([0x08, 1], &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &[0; 4]]);
        assert_eq!(read(105, &ip).network, Network::Other(ethertype::IPV4));
    }
}
