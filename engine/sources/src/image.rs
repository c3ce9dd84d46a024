//! The file format of a recorded image: some pages of a machine's memory with their addresses.
//!
//! All numbers are little endian and 64 bits wide unless noted:
//!
//! | field | what |
//! |---|---|
//! | magic | the eight bytes `PANOIMG\n` |
//! | version, page size | 32 bits each: 1, 4096 |
//! | regions, pages | number of regions, number of pages |
//! | regions | first address and the one after the last, ascending, page-aligned, not overlapping |
//! | frames | address / 4096 of each page, ascending, each in a region |
//! | pages | 4096 bytes each, in the order of the frames |
//! | checksum | of all 64-bit words before it |
//!
//! An image holds the machine's secrets, like any other dump.

use std::io::{self, Write};
use std::ops::Range;

use panoptes_decoders::layout::u64_at;
use panoptes_decoders::source::PAGE_BYTES;

pub(super) const MAGIC: [u8; 8] = *b"PANOIMG\n";
const IMAGE_VERSION: u32 = 1;
/// [`PAGE_BYTES`] as a length.
pub(super) const PAGE: usize = PAGE_BYTES as usize;
const IMAGE_HEADER_BYTES: usize = 32;
const WORD: usize = 8;
/// The largest image that is read: all of it is kept in memory.
pub(super) const IMAGE_BYTES_MAX: u64 = 1 << 32;
/// More regions than any machine's memory map has.
const REGIONS_MAX: u64 = 4096;

/// How a recorded image is damaged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ImageProblem {
    #[error("its magic number is wrong")]
    Magic,
    #[error("its version is {0}, and this program reads {IMAGE_VERSION}")]
    Version(u32),
    #[error("its page size is {0} bytes instead of {PAGE_BYTES}")]
    PageSize(u32),
    #[error("it is {found} bytes long instead of {expected}")]
    Length { expected: u64, found: u64 },
    /// The length that follows from the header overflows.
    #[error("it is {found} bytes long, and its header claims more than is possible")]
    Overflow { found: u64 },
    /// The region of this index is empty, unaligned, out of order, or one too many.
    #[error("its region {0} is invalid")]
    Region(u64),
    #[error("its page {0} is out of order or in no region")]
    Frame(u64),
    #[error("its checksum does not match its content")]
    Checksum,
}

/// A parsed image. The pages stay in the image's bytes.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) regions: Vec<Range<u64>>,
    pub(super) frames: Vec<u64>,
    /// Byte range of the pages in the image.
    pub(super) pages: Range<usize>,
}

/// FNV-1a's basis, for words.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// The checksum of an image without its last word: against accidents, not against malice. It
/// detects every change of a single word.
pub(super) fn checksum_of(bytes: &[u8]) -> u64 {
    continue_checksum(BASIS, bytes)
}

fn continue_checksum(before: u64, bytes: &[u8]) -> u64 {
    bytes.as_chunks::<WORD>().0.iter().fold(before, |sum, word| {
        (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
    })
}

/// Parses an image. Any bytes give a valid image or an error.
pub(super) fn parse(bytes: &[u8]) -> Result<Contents, ImageProblem> {
    let found = bytes.len() as u64;
    if !bytes.starts_with(&MAGIC) {
        return Err(ImageProblem::Magic);
    }
    if bytes.len() < IMAGE_HEADER_BYTES {
        return Err(ImageProblem::Length { expected: IMAGE_HEADER_BYTES as u64, found });
    }
    let versions = u64_at(bytes, 8);
    let (version, page_bytes) = (versions as u32, (versions >> 32) as u32);
    if version != IMAGE_VERSION {
        return Err(ImageProblem::Version(version));
    }
    if u64::from(page_bytes) != PAGE_BYTES {
        return Err(ImageProblem::PageSize(page_bytes));
    }
    let (region_count, page_count) = (u64_at(bytes, 16), u64_at(bytes, 24));
    if region_count > REGIONS_MAX {
        return Err(ImageProblem::Region(REGIONS_MAX));
    }
    let expected = page_count
        .checked_mul(PAGE_BYTES + WORD as u64)
        .and_then(|sum| sum.checked_add((IMAGE_HEADER_BYTES + WORD) as u64))
        .and_then(|sum| sum.checked_add(region_count * 2 * WORD as u64))
        .ok_or(ImageProblem::Overflow { found })?;
    if expected != found {
        return Err(ImageProblem::Length { expected, found });
    }
    // From here on all parts are known to be inside `bytes`.
    let (regions_end, page_count) =
        (IMAGE_HEADER_BYTES + region_count as usize * 2 * WORD, page_count as usize);
    let pages_start = regions_end + page_count * WORD;
    let pages = pages_start..pages_start + page_count * PAGE;
    if u64_at(bytes, pages.end) != checksum_of(&bytes[..pages.end]) {
        return Err(ImageProblem::Checksum);
    }
    let regions: Vec<Range<u64>> = bytes[IMAGE_HEADER_BYTES..regions_end]
        .chunks_exact(2 * WORD)
        .map(|pair| u64_at(pair, 0)..u64_at(pair, WORD))
        .collect();
    let frames = bytes[regions_end..pages_start].as_chunks().0;
    let frames: Vec<u64> = frames.iter().map(|frame| u64::from_le_bytes(*frame)).collect();
    check(&regions, &frames)?;
    Ok(Contents { regions, frames, pages })
}

/// Checks that regions and frames are as the format requires.
pub(super) fn check(regions: &[Range<u64>], frames: &[u64]) -> Result<(), ImageProblem> {
    let mut end = 0;
    for (index, region) in regions.iter().enumerate() {
        let aligned = region.start % PAGE_BYTES == 0 && region.end % PAGE_BYTES == 0;
        if region.start >= region.end || region.start < end || !aligned {
            return Err(ImageProblem::Region(index as u64));
        }
        end = region.end;
    }
    if regions.len() as u64 > REGIONS_MAX {
        return Err(ImageProblem::Region(REGIONS_MAX));
    }
    let mut left = regions;
    let mut next = 0;
    for (index, &frame) in frames.iter().enumerate() {
        let wrong = Err(ImageProblem::Frame(index as u64));
        let Some(address) = frame.checked_mul(PAGE_BYTES).filter(|_| frame >= next) else {
            return wrong;
        };
        next = frame + 1;
        while left.first().is_some_and(|region| region.end <= address) {
            left = &left[1..];
        }
        if left.first().is_none_or(|region| !region.contains(&address)) {
            return wrong;
        }
    }
    Ok(())
}

/// Writes an image; `page` fills in the page of each frame in turn.
pub(super) fn write(
    out: &mut impl Write,
    regions: &[Range<u64>],
    frames: &[u64],
    mut page: impl FnMut(u64, &mut [u8; PAGE]) -> io::Result<()>,
) -> io::Result<()> {
    let mut checksum = BASIS;
    let mut put = |out: &mut dyn Write, bytes: &[u8]| {
        checksum = continue_checksum(checksum, bytes);
        out.write_all(bytes)
    };
    put(out, &MAGIC)?;
    put(out, &(u64::from(IMAGE_VERSION) | PAGE_BYTES << 32).to_le_bytes())?;
    put(out, &(regions.len() as u64).to_le_bytes())?;
    put(out, &(frames.len() as u64).to_le_bytes())?;
    for region in regions {
        put(out, &region.start.to_le_bytes())?;
        put(out, &region.end.to_le_bytes())?;
    }
    for frame in frames {
        put(out, &frame.to_le_bytes())?;
    }
    let mut bytes = [0; PAGE];
    for &frame in frames {
        page(frame, &mut bytes)?;
        put(out, &bytes)?;
    }
    out.write_all(&checksum.to_le_bytes())?;
    out.flush()
}
