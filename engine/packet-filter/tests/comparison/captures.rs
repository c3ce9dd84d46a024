//! Captures with every kind of conversation, on several link layers.

use std::io::Cursor;

use panoptes_packet_files::{CaptureFile, CaptureOptions};
use panoptes_traffic::{Capture, Clock, kinds};

pub(crate) const NULL: u16 = 0;
pub(crate) const ETHERNET: u16 = 1;
pub(crate) const PPP: u16 = 9;
pub(crate) const RAW: u16 = 101;
pub(crate) const WIRELESS: u16 = 105;
pub(crate) const COOKED: u16 = 113;
pub(crate) const RADIOTAP: u16 = 127;
pub(crate) const COOKED_2: u16 = 276;

/// A packet, and its length before the capture cut it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) wire_length: u32,
}

impl Packet {
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() == self.wire_length as usize
    }
}

/// The packets of a capture in any format.
pub(crate) fn read(capture: Vec<u8>) -> Vec<Packet> {
    let options = CaptureOptions::default();
    let mut file =
        CaptureFile::from_reader(Cursor::new(capture), "capture", &options).expect("a capture");
    let mut packets = Vec::new();
    while let Some(frame) = file.next().expect("the capture is whole") {
        packets.push(Packet { bytes: frame.bytes.to_vec(), wire_length: frame.wire_length });
    }
    packets
}

/// A pcap file of packets, a microsecond apart, in the byte order of this machine.
pub(crate) fn pcap(link: u16, packets: &[Packet]) -> Vec<u8> {
    file(link, packets, u32::to_ne_bytes, u16::to_ne_bytes)
}

/// The same in the other byte order.
pub(crate) fn swapped_pcap(link: u16, packets: &[Packet]) -> Vec<u8> {
    let word = |word: u32| word.swap_bytes().to_ne_bytes();
    file(link, packets, word, |half| half.swap_bytes().to_ne_bytes())
}

fn file(
    link: u16,
    packets: &[Packet],
    word: fn(u32) -> [u8; 4],
    half: fn(u16) -> [u8; 2],
) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().copied().flat_map(word).collect::<Vec<_>>();
    let mut out = words(&[0xa1b2_c3d4]);
    out.extend([2, 4].map(half).as_flattened());
    out.extend(words(&[0, 0, 262_144, u32::from(link)]));
    for (number, packet) in (0..).zip(packets) {
        let captured = packet.bytes.len() as u32;
        out.extend(words(&[1_700_000_000, number, captured, packet.wire_length]));
        out.extend(&packet.bytes);
    }
    out
}

/// Ethernet frames of every kind of conversation, of a mix, and some that are cut off.
pub(crate) fn ethernet() -> Vec<Packet> {
    let mut all = Vec::new();
    for (_, capture) in kinds() {
        all.extend(read(capture.pcap(Clock::Microseconds)));
    }
    all.extend(read(Capture::mix(1, 100).pcap(Clock::Microseconds)));
    let short = Capture::new(2).snapped(41).with_mix(20);
    all.extend(read(short.pcap(Clock::Microseconds)));
    for (number, packet) in all.iter_mut().enumerate().skip(5).step_by(11) {
        packet.bytes.truncate(number % 70);
    }
    all
}

/// The same packets on another link layer. Where it has IP only, the others are missing.
pub(crate) fn on(link: u16, frames: &[Packet]) -> Vec<Packet> {
    frames.iter().filter_map(|frame| with_header(link, frame)).collect()
}

fn with_header(link: u16, frame: &Packet) -> Option<Packet> {
    if link == ETHERNET {
        return Some(frame.clone());
    }
    let (ethernet, rest) = frame.bytes.split_first_chunk::<14>()?;
    let [target, source] = [&ethernet[..6], &ethernet[6..12]];
    let kind = &ethernet[12..];
    let is_v6 = kind == [0x86, 0xdd];
    let is_ip = is_v6 || kind == [8, 0];
    let header = match link {
        RAW if is_ip => Vec::new(),
        // The families of macOS, in the byte order of this machine.
        NULL if is_ip => [if is_v6 { 30_u32 } else { 2 }.to_ne_bytes()].concat(),
        PPP if is_ip => vec![0xff, 3, 0, if is_v6 { 0x57 } else { 0x21 }],
        COOKED => [&[0, 4, 0, 1, 0, 6][..], source, &[0, 0], kind].concat(),
        COOKED_2 => [kind, &[0, 0, 0, 0, 0, 3, 0, 1, 4, 6], source, &[0, 0]].concat(),
        // A data frame to the access point, or a management frame, and LLC.
        WIRELESS | RADIOTAP => {
            let radio: &[u8] = if link == RADIOTAP { &[0, 0, 8, 0, 0, 0, 0, 0] } else { &[] };
            let control = if source[5] % 5 == 4 { [0x80, 0] } else { [8, source[5] & 1] };
            let addresses = [target, source, target].concat();
            let llc = [0xaa, 0xaa, 3, 0, 0, 0];
            [radio, &control, &[0, 0], &addresses, &[0, 0], &llc, kind].concat()
        }
        _ => return None,
    };
    let longer = header.len() as u32;
    let bytes = [&header, rest].concat();
    Some(Packet { bytes, wire_length: frame.wire_length + longer - 14 })
}
