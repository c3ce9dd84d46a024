//! Classic pcap files: `pcap-savefile(5)` of libpcap.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use thiserror::Error;

use crate::buffer::Buffer;

/// The largest packet, as in libpcap (`MAXIMUM_SNAPLEN`). Larger ones occur in damaged files.
const PACKET_BYTES_MAX: usize = 256 * 1024;
/// Length of the header of a file.
const FILE_HEADER: usize = 24;
/// Length of the header of a packet.
const PACKET_HEADER: usize = 16;

/// One packet as the capture has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// Nanoseconds since 1970, UTC.
    pub time_ns: i64,
    /// The LINKTYPE number of tcpdump.org: Ethernet is 1.
    pub link: u16,
    /// Bytes on the wire.
    pub wire_length: u32,
    /// The bytes that were captured.
    pub bytes: &'a [u8],
}

/// Why a capture cannot be read.
#[derive(Debug, Error)]
pub enum CaptureError {
    #[error("{name}: {error}")]
    Io { name: String, error: std::io::Error },
    #[error("{name}: the file is empty: no capture")]
    Empty { name: String },
    #[error("{name}: this is no pcap file; `editcap -F pcap IN OUT` converts other captures")]
    Unknown { name: String },
    #[error("{name}: damaged at byte {offset}: a packet of {length} bytes")]
    Damaged { name: String, offset: u64, length: u32 },
}

/// A capture that is read.
#[derive(Debug)]
pub struct CaptureFile {
    buffer: Buffer,
    name: String,
    is_big_endian: bool,
    /// Nanoseconds in a unit of the second field of a time.
    unit_ns: i64,
    link: u16,
    cut_bytes: u64,
}

impl CaptureFile {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::from_reader(file, &name),
            Err(error) => Err(CaptureError::Io { name, error }),
        }
    }

    /// Reads from anything; `name` is for messages.
    pub fn from_reader(
        reader: impl Read + Send + 'static,
        name: &str,
    ) -> Result<Self, CaptureError> {
        let (mut buffer, name) = (Buffer::new(Box::new(reader)), name.to_owned());
        match buffer.has(FILE_HEADER) {
            Ok(true) => {}
            Ok(false) if buffer.bytes().is_empty() => return Err(CaptureError::Empty { name }),
            Ok(false) => return Err(CaptureError::Unknown { name }),
            Err(error) => return Err(CaptureError::Io { name, error }),
        }
        let magic = u32::from_le_bytes(word(buffer.bytes(), 0));
        let (is_big_endian, unit_ns) = match magic {
            0xa1b2_c3d4 => (false, 1000),
            0xa1b2_3c4d => (false, 1),
            0xd4c3_b2a1 => (true, 1000),
            0x4d3c_b2a1 => (true, 1),
            _ => return Err(CaptureError::Unknown { name }),
        };
        let mut file = Self { buffer, name, is_big_endian, unit_ns, link: 0, cut_bytes: 0 };
        // The upper half tells whether frames end with a checksum.
        file.link = file.number(20) as u16;
        file.buffer.pass(FILE_HEADER);
        Ok(file)
    }

    /// A number at an offset of what comes next.
    #[inline]
    fn number(&self, at: usize) -> u32 {
        let word = word(self.buffer.bytes(), at);
        if self.is_big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }

    /// Whether another whole packet follows.
    #[inline]
    pub fn has_next(&mut self) -> Result<bool, CaptureError> {
        let length = if self.has(PACKET_HEADER)? { self.length()? } else { 0 };
        let has_next = self.has(PACKET_HEADER + length)?;
        if !has_next {
            self.cut_bytes = self.buffer.bytes().len() as u64;
        }
        Ok(has_next)
    }

    /// The length of the bytes behind a packet's header.
    #[inline]
    fn length(&self) -> Result<usize, CaptureError> {
        let captured = self.number(8);
        if captured as usize > PACKET_BYTES_MAX {
            let (name, offset) = (self.name.clone(), self.buffer.offset());
            return Err(CaptureError::Damaged { name, offset, length: captured });
        }
        Ok(captured as usize)
    }

    /// The next packet; `None` at the end.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a packet borrows from the file")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        if !self.has_next()? {
            return Ok(None);
        }
        let (seconds, fraction) = (self.number(0), self.number(4));
        let (length, wire_length) = (self.length()?, self.number(12));
        self.buffer.pass(PACKET_HEADER + length);
        Ok(Some(Frame {
            time_ns: i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * self.unit_ns,
            link: self.link,
            wire_length: wire_length.max(length as u32),
            bytes: self.buffer.passed(length),
        }))
    }

    #[inline]
    fn has(&mut self, count: usize) -> Result<bool, CaptureError> {
        self.buffer.has(count).map_err(|error| CaptureError::Io { name: self.name.clone(), error })
    }

    /// Bytes at the end of the file that are no whole packet.
    pub const fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// The link layer: a LINKTYPE number of tcpdump.org.
    pub const fn link(&self) -> u16 {
        self.link
    }
}

/// Four bytes at an offset; zeros behind the end.
#[inline]
fn word(bytes: &[u8], at: usize) -> [u8; 4] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;

    use super::*;

    /// A packet: seconds, fraction, length on the wire, bytes.
    type Packet = (u32, u32, u32, Vec<u8>);

    fn written(packets: &[Packet], magic: u32, is_big_endian: bool) -> Vec<u8> {
        let word = |number: u32| {
            if is_big_endian { number.to_be_bytes() } else { number.to_le_bytes() }
        };
        let mut out = Vec::new();
        for number in [magic, 0x0004_0002, 0, 0, 65_535, 113] {
            out.extend(word(number));
        }
        for (seconds, fraction, wire, bytes) in packets {
            for number in [*seconds, *fraction, bytes.len() as u32, *wire] {
                out.extend(word(number));
            }
            out.extend(bytes);
        }
        out
    }

    /// Gives a few bytes with each call.
    struct Slow(io::Cursor<Vec<u8>>, usize);

    impl Read for Slow {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.1);
            self.0.read(&mut bytes[..count])
        }
    }

    /// Time, length on the wire, bytes.
    type Found = (i64, u32, Vec<u8>);

    fn read(mut file: CaptureFile) -> Result<(Vec<Found>, u64), CaptureError> {
        let mut packets = Vec::new();
        while let Some(frame) = file.next()? {
            packets.push((frame.time_ns, frame.wire_length, frame.bytes.to_vec()));
        }
        Ok((packets, file.cut_bytes()))
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            packets in proptest::collection::vec(
                (any::<u32>(), 0..1_000_000_u32, 0..70_000_u32, proptest::collection::vec(any::<u8>(), 0..99)),
                0..9,
            ),
            is_big_endian in any::<bool>(),
            is_nano in any::<bool>(),
            step in 1_usize..200,
            cut in 0_usize..200,
        ) {
            let magic = if is_nano { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
            let mut bytes = written(&packets, magic, is_big_endian);
            let unit = if is_nano { 1 } else { 1000 };
            let mut expected: Vec<_> = packets.iter().map(|(seconds, fraction, wire, bytes)| {
                let time = i64::from(*seconds) * 1_000_000_000 + i64::from(*fraction) * unit;
                (time, (*wire).max(bytes.len() as u32), bytes.clone())
            }).collect();
            // Cut the end off.
            let cut = cut.min(bytes.len() - FILE_HEADER);
            bytes.truncate(bytes.len() - cut);
            let mut rest = bytes.len() - FILE_HEADER;
            let whole = expected.iter().take_while(|(_, _, packet)| {
                let length = PACKET_HEADER + packet.len();
                let fits = length <= rest;
                rest -= if fits { length } else { 0 };
                fits
            }).count();
            expected.truncate(whole);
            let file = CaptureFile::from_reader(Slow(io::Cursor::new(bytes), step), "test");
            let file = file.expect("a capture");
            prop_assert_eq!(file.link(), 113);
            prop_assert_eq!(read(file).expect("whole packets"), (expected, rest as u64));
        }

        #[test]
        fn no_bytes_cause_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 24..300)) {
            bytes[..4].copy_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
            let file = CaptureFile::from_reader(io::Cursor::new(bytes), "test").expect("a capture");
            let _ = read(file);
        }
    }

    #[test]
    fn what_is_no_capture_is_refused_with_a_reason() {
        let message = |bytes: &'static [u8]| {
            CaptureFile::from_reader(bytes, "a.pcap").expect_err("no capture").to_string()
        };
        assert_eq!(message(b""), "a.pcap: the file is empty: no capture");
        assert!(message(b"\x1f\x8b").starts_with("a.pcap: this is no pcap file"));
        assert!(message(&[7; 100]).starts_with("a.pcap: this is no pcap file"));
        let huge = written(&[], 0xa1b2_c3d4, false);
        let huge = [&huge[..], &[0; 8], &u32::MAX.to_le_bytes(), &[0; 4]].concat();
        let file = CaptureFile::from_reader(io::Cursor::new(huge), "a.pcap").expect("a capture");
        let error = read(file).expect_err("a damaged capture").to_string();
        assert_eq!(error, "a.pcap: damaged at byte 24: a packet of 4294967295 bytes");
    }
}
