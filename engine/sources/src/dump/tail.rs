//! Bytes behind the last range of a dump, and the search for a header that is not where it is due.
//!
//! Copies to block devices and tapes have zeros there, LiME over TCP a digest, netcat the messages
//! of other programs. LiME leaves out the rest of a range after a write error: then the next header
//! comes too early.

use super::bytes::DumpBytes;

/// Number of bytes that are read at once.
const TAIL_READ_BYTES: usize = 1 << 20;

/// Number of zeros behind a dump that are read, besides the last chunk. Others count as zeros: the
/// device that holds the copy may be much larger.
const ZEROS_MAX: u64 = 1 << 30;

/// Number of bytes from an offset to the end of the file; 0 if all of them are zeros, as far as
/// they are read.
pub(super) fn bytes_behind(file: &DumpBytes, at: u64) -> u64 {
    let count = file.len().saturating_sub(at);
    let mut chunk = vec![0; TAIL_READ_BYTES];
    let mut has_zeros = |from, bytes: u64| {
        let part = &mut chunk[..bytes.min(TAIL_READ_BYTES as u64) as usize];
        file.read(from, part) && part.iter().all(|byte| *byte == 0)
    };
    let mut done = 0;
    while done < count.min(ZEROS_MAX) {
        if !has_zeros(at + done, count - done) {
            return count;
        }
        done += TAIL_READ_BYTES as u64;
    }
    if done < count {
        let last = (TAIL_READ_BYTES as u64).min(count);
        if !has_zeros(file.len() - last, last) {
            return count;
        }
    }
    0
}

/// The first offset in a range at which `is_one` accepts `bytes` bytes that begin with `magic`.
pub(super) fn find(
    file: &DumpBytes,
    range: std::ops::Range<u64>,
    magic: [u8; 8],
    bytes: usize,
    mut is_one: impl FnMut(u64, &[u8]) -> bool,
) -> Option<u64> {
    let end = range.end.min(file.len());
    let mut chunk = vec![0; TAIL_READ_BYTES + bytes];
    let mut at = range.start;
    while at < end {
        let part = (end - at).min(chunk.len() as u64) as usize;
        let part = &mut chunk[..part];
        if part.len() < bytes || !file.read(at, part) {
            return None;
        }
        let mut hits = part.windows(bytes).enumerate();
        let mut is_hit = |(from, here): &(usize, &[u8])| {
            here.starts_with(&magic) && is_one(at + *from as u64, here)
        };
        if let Some((from, _)) = hits.find(&mut is_hit) {
            return Some(at + from as u64);
        }
        // The last bytes of this part may be the beginning of a header.
        at += (part.len() - bytes + 1) as u64;
    }
    None
}
