//! AVML's compressed dumps: each range of memory is a LiME header with another magic number and
//! version, a snappy stream, and the length of the stream.
//!
//! Sources: AVML's src/image.rs and snappy's framing_format.txt. A stream consists of chunks of at
//! most 64 KiB of memory, each with a type, its length in three bytes, and a checksum. The checksum
//! is not verified: a damaged chunk fails to unpack, or is handled as any damaged memory.

use std::ops::Range;

use panoptes_decoders::source::ReadOutcome;

use super::blocks::{BlockDump, DumpBlock, DumpIndex};
use super::bytes::DumpBytes;
use super::codec::{BlockCompression, Codec};
use super::lime::{HEADER_BYTES, RangeHeader, RangeHeaderLookup, is_cut};
use super::tail::bytes_behind;
use super::{DumpProblem, Lacks, SEGMENTS_MAX, join};

const CHUNK_HEADER_BYTES: u64 = 4;
const CHECKSUM_BYTES: u64 = 4;
/// Largest number of bytes of memory in a chunk.
const AVML_CHUNK_BYTES_MAX: u64 = 1 << 16;
/// Largest size of a packed chunk in bytes, snappy's own bound. Incompressible data is stored
/// unpacked.
const PACKED_BYTES: u64 = AVML_CHUNK_BYTES_MAX + AVML_CHUNK_BYTES_MAX / 6 + 32;
/// Largest number of consecutive chunks without memory, such as the beginning of a stream.
const EMPTY_CHUNKS_MAX: u32 = 16;
/// Size of the length field behind a stream.
const TRAILER_BYTES: u64 = 8;

/// Types of chunk (framing_format.txt).
const PACKED: u8 = 0;
const STORED: u8 = 1;
const SKIPPED: Range<u8> = 0x80..0xff;
const STREAM_BEGINS: u8 = 0xff;

#[derive(Clone, Copy, Debug)]
struct Chunk {
    start: u64,
    bytes: u32,
    packed_bytes: u32,
    offset: u64,
    how: BlockCompression,
}

#[derive(Debug)]
struct Avml {
    file: DumpBytes,
    chunks: Vec<Chunk>,
    packed: Vec<u8>,
    codec: Codec,
}

/// Opens a dump; also returns what it lacks.
pub(crate) fn open(file: DumpBytes) -> Result<(BlockDump, Lacks), DumpProblem> {
    let mut chunks = Vec::new();
    let mut described = Vec::new();
    let mut lacks = Lacks::default();
    let mut at = 0;
    loop {
        let header = match RangeHeader::read(&file, at, *b"AVML", 2)? {
            RangeHeaderLookup::Header(header) => header,
            RangeHeaderLookup::End => break,
            RangeHeaderLookup::Other => {
                lacks.trailing = bytes_behind(&file, at);
                at = file.len();
                break;
            }
        };
        let Some(end) = header.start.checked_add(header.bytes) else {
            return Err(DumpProblem::Header("a range of memory exceeds the address space"));
        };
        described.push(header.start..end);
        let mut stream =
            SnappyStream { file: &file, at: at + HEADER_BYTES, memory: header.start, end };
        while let Some(chunk) = stream.next()? {
            chunks.push(chunk);
            if chunks.len() > SEGMENTS_MAX {
                return Err(DumpProblem::TooLarge("pieces of memory"));
            }
        }
        if stream.memory < end {
            lacks.cut_short += end - stream.memory;
            break;
        }
        at = stream.at.saturating_add(TRAILER_BYTES);
    }
    // The file ends within the length field behind a stream, or within the next header.
    lacks.unfinished = lacks.cut_short == 0 && (at > file.len() || is_cut(&file, at));
    if chunks.is_empty() {
        return Err(DumpProblem::NoMemory);
    }
    chunks.sort_by_key(|chunk| chunk.start);
    if chunks.windows(2).any(|pair| pair[0].start + u64::from(pair[0].bytes) > pair[1].start) {
        return Err(DumpProblem::Header("two ranges of memory overlap"));
    }
    described.sort_by_key(|range| range.start);
    let mut regions = Vec::new();
    for range in described {
        join(&mut regions, range, super::REGIONS_MAX);
    }
    let packed = vec![0; PACKED_BYTES as usize];
    let avml = Avml { file, chunks, packed, codec: Codec::new() };
    Ok((BlockDump::new(Box::new(avml), regions), lacks))
}

/// The chunks of one range.
struct SnappyStream<'f> {
    file: &'f DumpBytes,
    at: u64,
    memory: u64,
    end: u64,
}

impl SnappyStream<'_> {
    /// The next chunk; `None` at the end of the range or of the file.
    fn next(&mut self) -> Result<Option<Chunk>, DumpProblem> {
        const DAMAGED: DumpProblem =
            DumpProblem::Header("a compressed range is not a snappy stream");
        // Skip chunks without memory.
        for _ in 0..EMPTY_CHUNKS_MAX {
            if self.memory >= self.end {
                break;
            }
            let mut header = [0; CHUNK_HEADER_BYTES as usize];
            if !self.file.read(self.at, &mut header) {
                return Ok(None);
            }
            let bytes = u64::from(u32::from_le_bytes([header[1], header[2], header[3], 0]));
            let offset = self.at + CHUNK_HEADER_BYTES;
            let next = offset + bytes;
            let kind = header[0];
            if kind == STREAM_BEGINS || SKIPPED.contains(&kind) {
                self.at = next;
                continue;
            }
            if next > self.file.len() {
                return Ok(None);
            }
            let packed = bytes.checked_sub(CHECKSUM_BYTES).filter(|n| *n <= PACKED_BYTES);
            let packed = packed.ok_or(DAMAGED)?;
            let offset = offset + CHECKSUM_BYTES;
            let (how, memory) = match kind {
                PACKED => (BlockCompression::Snappy, self.unpacked(offset, packed).ok_or(DAMAGED)?),
                STORED => (BlockCompression::None, packed),
                _ => return Err(DAMAGED),
            };
            if memory == 0 || memory > AVML_CHUNK_BYTES_MAX || memory > self.end - self.memory {
                return Err(DAMAGED);
            }
            let chunk = Chunk {
                start: self.memory,
                bytes: memory as u32,
                packed_bytes: packed as u32,
                offset,
                how,
            };
            self.at = next;
            self.memory += memory;
            return Ok(Some(chunk));
        }
        Ok(None)
    }

    /// Number of bytes of memory in a packed chunk, as its first bytes claim.
    fn unpacked(&self, offset: u64, packed: u64) -> Option<u64> {
        let mut head = [0; 5];
        let head = &mut head[..packed.min(5) as usize];
        self.file.read(offset, head).then_some(())?;
        Some(snap::raw::decompress_len(head).ok()? as u64)
    }
}

impl DumpIndex for Avml {
    fn find(&mut self, address: u64) -> Option<DumpBlock> {
        let after = self.chunks.partition_point(|chunk| chunk.start <= address);
        let block = after.checked_sub(1)?;
        let chunk = self.chunks[block];
        let bytes = u64::from(chunk.bytes);
        (address - chunk.start < bytes).then_some(DumpBlock {
            block: block as u64,
            start: chunk.start,
            bytes,
        })
    }

    fn load(&mut self, block: u64, target: &mut [u8]) -> ReadOutcome {
        let Some(&chunk) = self.chunks.get(block as usize) else { return ReadOutcome::Failed };
        let packed = &mut self.packed[..chunk.packed_bytes as usize];
        let there = self.file.read(chunk.offset, packed);
        if there && self.codec.unpack(chunk.how, packed, target) {
            ReadOutcome::Read
        } else {
            ReadOutcome::Failed
        }
    }

    fn next_data(&mut self, from: u64) -> Option<Range<u64>> {
        let next =
            self.chunks.partition_point(|chunk| chunk.start + u64::from(chunk.bytes) <= from);
        let chunk = self.chunks.get(next)?;
        Some(chunk.start.max(from)..chunk.start + u64::from(chunk.bytes))
    }

    fn block_bytes(&self) -> usize {
        AVML_CHUNK_BYTES_MAX as usize
    }
}
