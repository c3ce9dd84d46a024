//! Mutations of frames and of captures.

use panoptes_traffic::Random;

/// The longest frame that is kept.
pub(crate) const FRAME_BYTES_MAX: usize = 2048;
/// Room for a mutated frame.
const ROOM: usize = 3 * FRAME_BYTES_MAX;
/// Link types: those that are decoded, and some that are not.
const LINKS: [u16; 20] =
    [0, 1, 6, 9, 10, 12, 14, 50, 100, 101, 104, 105, 108, 113, 127, 147, 192, 228, 229, 276];
/// Bytes that often decide: versions, protocol numbers, lengths, ends of ranges.
const BYTES: [u8; 24] = [
    0, 1, 2, 4, 5, 6, 17, 41, 43, 44, 47, 50, 51, 58, 60, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0x81, 0x88,
    132, 0xff,
];
/// Ethernet types and ports that lead to other headers.
const SHORTS: [u16; 20] = [
    0, 1, 53, 0x3fff, 0x2000, 0x0800, 0x0806, 0x8035, 0x8100, 0x86dd, 0x8847, 0x8864, 0x88a8,
    0x6558, 4789, 6081, 2152, 1701, 3544, 0xffff,
];
/// Where headers often begin.
const EDGES: [usize; 8] = [0, 12, 14, 18, 22, 34, 42, 54];

/// A frame of a generator.
pub(crate) struct Frame {
    pub(crate) link: u16,
    pub(crate) bytes: Vec<u8>,
}

/// A packet: its link type, its bytes, and its length on the wire.
type Packet<'a> = (u16, &'a [u8], u32);

/// Writes the beginning of a capture, or a packet in it.
type Writer = fn(&mut Vec<u8>, Option<Packet<'_>>);

/// Makes mutated frames and captures out of others.
pub(crate) struct Mutator<'a> {
    seeds: &'a [Frame],
    random: Random,
    frame: Vec<u8>,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(seeds: &'a [Frame], seed: u64) -> Self {
        Self { seeds, random: Random::new(seed), frame: Vec::with_capacity(ROOM) }
    }

    fn seed(&mut self) -> &'a Frame {
        &self.seeds[self.random.below(self.seeds.len() as u64) as usize]
    }

    /// The next packet.
    pub(crate) fn packet(&mut self) -> Packet<'_> {
        let seed = self.seed();
        let mut link = seed.link;
        self.frame.clear();
        self.frame.extend_from_slice(&seed.bytes);
        if self.random.below(4) == 0 {
            link = self.random.of(&LINKS);
            // Many of them begin with IP, or with an Ethernet type.
            let edge = self.random.of(&[0, 0, 12, 14, 14]);
            self.frame.drain(..edge.min(self.frame.len()));
        }
        for _ in 0..self.random.below(5) {
            self.mutate();
        }
        let length = self.frame.len() as u32;
        let wire_length = match self.random.below(20) {
            0 => self.random.next() as u32,
            1 => self.random.below(70_000) as u32,
            2 => u32::MAX,
            _ => length,
        };
        (link, &self.frame, wire_length)
    }

    /// A position, more often in the headers.
    fn position(&mut self) -> usize {
        let length = self.frame.len().max(1) as u64;
        let end = if self.random.below(4) == 0 { length } else { length.min(80) };
        self.random.below(end) as usize
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if let Some(room) = self.frame.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }

    fn mutate(&mut self) {
        let at = self.position();
        match self.random.below(10) {
            0..3 => {
                let bit = 1 << self.random.below(8);
                if let Some(byte) = self.frame.get_mut(at) {
                    *byte ^= bit;
                }
            }
            3 => {
                let byte = self.random.of(&BYTES);
                self.write(at, &[byte]);
            }
            4 => {
                let short = self.random.of(&SHORTS);
                self.write(at, &short.to_be_bytes());
            }
            5 => {
                // A length that is off by little.
                let length = self.frame.len() as u64 + self.random.below(40);
                self.write(at, &(length.saturating_sub(60) as u16).to_be_bytes());
            }
            6 => self.frame.truncate(at),
            7 => {
                // The headers of this one before those of another one.
                let other = self.seed();
                let (here, there) = (self.random.of(&EDGES), self.random.of(&EDGES));
                self.frame.truncate(here);
                self.frame.extend_from_slice(other.bytes.get(there..).unwrap_or_default());
            }
            8 => {
                // A part twice.
                let end = (at + self.random.below(60) as usize).min(self.frame.len());
                if self.frame.len() + (end - at.min(end)) <= ROOM {
                    self.frame.extend_from_within(at.min(end)..end);
                    self.frame[at.min(end)..].rotate_right(end - at.min(end));
                }
            }
            _ => {
                for _ in 0..self.random.below(64) {
                    if self.frame.len() < ROOM {
                        let byte = self.random.next() as u8;
                        self.frame.push(byte);
                    }
                }
            }
        }
    }

    /// A capture of some mutated packets, which itself is cut and mutated.
    pub(crate) fn capture(&mut self) -> Vec<u8> {
        let writers: [Writer; 3] = [pcap, pcapng, snoop];
        let write = self.random.of(&writers);
        let mut out = Vec::new();
        write(&mut out, None);
        for _ in 0..self.random.below(40) {
            let packet = self.packet();
            write(&mut out, Some(packet));
        }
        for _ in 0..self.random.below(6) {
            let at = self.random.below(out.len() as u64 + 1) as usize;
            match self.random.below(8) {
                0 => out.truncate(at),
                1 => {
                    let end = (at + self.random.below(100) as usize).min(out.len());
                    out.drain(at..end);
                }
                2 if out.len() >= at + 4 => {
                    let word = self.random.next() as u32 >> self.random.below(32);
                    out[at..at + 4].copy_from_slice(&word.to_le_bytes());
                }
                _ => {
                    let bit = 1 << self.random.below(8);
                    if let Some(byte) = out.get_mut(at) {
                        *byte ^= bit;
                    }
                }
            }
        }
        out
    }
}

/// The header of a pcap file, or a packet in it.
fn pcap(out: &mut Vec<u8>, packet: Option<Packet<'_>>) {
    match packet {
        None => {
            for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
                out.extend(word.to_le_bytes());
            }
        }
        Some((_, bytes, wire_length)) => {
            for word in [1_700_000_000, 5, bytes.len() as u32, wire_length] {
                out.extend(word.to_le_bytes());
            }
            out.extend(bytes);
        }
    }
}

/// The section and the interface of a pcapng file, or a packet in it.
fn pcapng(out: &mut Vec<u8>, packet: Option<Packet<'_>>) {
    match packet {
        None => {
            let section = [0x0a0d_0d0a_u32, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28];
            let interface = [1, 20, 1, 65_535, 20];
            for word in section.into_iter().chain(interface) {
                out.extend(word.to_le_bytes());
            }
        }
        Some((_, bytes, wire_length)) => {
            let padded = bytes.len().next_multiple_of(4);
            let length = 32 + padded as u32;
            let time_us = 1_700_000_000_000_000_u64;
            let words = [6, length, 0, (time_us >> 32) as u32, time_us as u32];
            for word in words.into_iter().chain([bytes.len() as u32, wire_length]) {
                out.extend(word.to_le_bytes());
            }
            out.extend(bytes);
            out.extend(&[0; 3][..padded - bytes.len()]);
            out.extend(length.to_le_bytes());
        }
    }
}

/// The header of a snoop file (RFC 1761), or a packet in it.
fn snoop(out: &mut Vec<u8>, packet: Option<Packet<'_>>) {
    match packet {
        None => {
            out.extend(b"snoop\0\0\0");
            out.extend([0, 0, 0, 2, 0, 0, 0, 4]);
        }
        Some((_, bytes, wire_length)) => {
            let padded = bytes.len().next_multiple_of(4);
            let record = 24 + padded as u32;
            for word in [wire_length, bytes.len() as u32, record, 0, 1_700_000_000, 5] {
                out.extend(word.to_be_bytes());
            }
            out.extend(bytes);
            out.extend(&[0; 3][..padded - bytes.len()]);
        }
    }
}
