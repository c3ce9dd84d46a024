//! For tests: small writers of captures, and a reader that returns few bytes at a time.

use std::io::{self, Read};

use crate::bytes::Order;
use crate::{CaptureError, CaptureFile, CaptureOptions, SkippedCounts};

/// Returns so many bytes per call, in turn.
pub(crate) struct Trickle {
    bytes: io::Cursor<Vec<u8>>,
    steps: Vec<usize>,
    turn: usize,
}

impl Trickle {
    pub(crate) fn new(bytes: Vec<u8>, steps: &[usize]) -> Self {
        Self { bytes: io::Cursor::new(bytes), steps: steps.to_vec(), turn: 0 }
    }
}

impl Read for Trickle {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let step = self.steps[self.turn % self.steps.len()].min(target.len());
        self.turn += 1;
        self.bytes.read(&mut target[..step])
    }
}

/// A [`crate::Frame`] with bytes of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OwnedFrame {
    pub(crate) time_ns: i64,
    pub(crate) link: u16,
    pub(crate) wire_length: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) interface: u32,
}

/// An Ethernet packet.
pub(crate) fn packet(time_ns: i64, wire_length: u32, bytes: &[u8]) -> OwnedFrame {
    OwnedFrame { time_ns, link: 1, wire_length, bytes: bytes.to_vec(), interface: 0 }
}

/// All packets, the error at the end if there is one, and what was skipped.
#[derive(Debug)]
pub(crate) struct CaptureContents {
    pub(crate) packets: Vec<OwnedFrame>,
    pub(crate) error: Option<String>,
    pub(crate) skipped: SkippedCounts,
}

pub(crate) fn open(bytes: &[u8]) -> Result<CaptureFile, CaptureError> {
    CaptureFile::from_reader(io::Cursor::new(bytes.to_vec()), "test", &CaptureOptions::default())
}

/// Reads a capture to its end.
pub(crate) fn read(bytes: &[u8]) -> CaptureContents {
    drain(open(bytes).expect("the header is right"))
}

pub(crate) fn drain(mut file: CaptureFile) -> CaptureContents {
    let mut packets = Vec::new();
    let error = loop {
        match file.next() {
            Ok(Some(frame)) => packets.push(OwnedFrame {
                time_ns: frame.time_ns,
                link: frame.link,
                wire_length: frame.wire_length,
                bytes: frame.bytes.to_vec(),
                interface: frame.interface,
            }),
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    assert!(file.next().expect("no second error").is_none(), "reading ended");
    CaptureContents { packets, error, skipped: file.skipped() }
}

/// Writes numbers of one byte order.
#[derive(Clone, Debug)]
pub(crate) struct ByteOrderWriter {
    pub(crate) bytes: Vec<u8>,
    pub(crate) order: Order,
}

impl ByteOrderWriter {
    pub(crate) fn new(order: Order) -> Self {
        Self { bytes: Vec::new(), order }
    }

    pub(crate) fn u16s(&mut self, numbers: &[u16]) {
        for number in numbers {
            self.bytes.extend(match self.order {
                Order::Little => number.to_le_bytes(),
                Order::Big => number.to_be_bytes(),
            });
        }
    }

    pub(crate) fn u32s(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.bytes.extend(match self.order {
                Order::Little => number.to_le_bytes(),
                Order::Big => number.to_be_bytes(),
            });
        }
    }

    /// A block of pcapng with this body, padded.
    pub(crate) fn block(&mut self, kind: u32, body: &[u8]) {
        let length = (body.len().next_multiple_of(4) + 12) as u32;
        self.u32s(&[kind, length]);
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.u32s(&[length]);
    }

    /// A body of another block.
    pub(crate) fn body(&self, write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut body = Self::new(self.order);
        write(&mut body);
        body.bytes
    }

    pub(crate) fn section(&mut self) {
        let body = self.body(|body| {
            body.u32s(&[0x1a2b_3c4d]);
            body.u16s(&[1, 0]);
            body.u32s(&[u32::MAX, u32::MAX]);
        });
        self.block(0x0a0d_0d0a, &body);
    }

    /// Options are a code and a value.
    pub(crate) fn interface(&mut self, link: u16, snap: u32, options: &[(u16, &[u8])]) {
        let body = self.body(|body| {
            body.u16s(&[link, 0]);
            body.u32s(&[snap]);
            for (code, value) in options {
                body.u16s(&[*code, value.len() as u16]);
                body.bytes.extend(*value);
                body.bytes.resize(body.bytes.len().next_multiple_of(4), 0);
            }
        });
        self.block(1, &body);
    }

    pub(crate) fn enhanced(&mut self, interface: u32, time: u64, wire: u32, bytes: &[u8]) {
        let body = self.body(|body| {
            let captured = bytes.len() as u32;
            body.u32s(&[interface, (time >> 32) as u32, time as u32, captured, wire]);
            body.bytes.extend(bytes);
        });
        self.block(6, &body);
    }
}

/// A classic pcap file with time stamps in nanoseconds.
pub(crate) fn pcap(order: Order, packets: &[OwnedFrame]) -> Vec<u8> {
    let mut out = ByteOrderWriter::new(order);
    out.u32s(&[0xa1b2_3c4d]);
    out.u16s(&[2, 4]);
    out.u32s(&[0, 0, 65_535, 1]);
    for packet in packets {
        let (seconds, rest) = (packet.time_ns / 1_000_000_000, packet.time_ns % 1_000_000_000);
        let captured = packet.bytes.len() as u32;
        out.u32s(&[seconds as u32, rest as u32, captured, packet.wire_length]);
        out.bytes.extend(&packet.bytes);
    }
    out.bytes
}

/// A pcapng file with two interfaces and time stamps in nanoseconds.
pub(crate) fn pcapng(order: Order, packets: &[OwnedFrame]) -> Vec<u8> {
    let mut out = ByteOrderWriter::new(order);
    out.section();
    out.interface(1, 0, &[(9, &[9]), (0, &[])]);
    out.interface(1, 0, &[(2, b"eth1"), (9, &[9])]);
    for packet in packets {
        let time = packet.time_ns as u64;
        out.enhanced(packet.interface, time, packet.wire_length, &packet.bytes);
    }
    out.bytes
}
