//! kdump-compressed dumps: makedumpfile's, and QEMU's `dump-guest-memory` with a kdump format.
//!
//! Pages that were left out are not backed: their content is unknown. They are zeros only if
//! nothing but pages of zeros was left out (dump level 1). Written pages of zeros share one block,
//! which their descriptors point to, so sweeps skip them.

use std::ops::Range;

use panoptes_decoders::layout::{u32_at, u64_at};
use panoptes_decoders::source::ReadOutcome;

use super::blocks::{BlockDump, DumpBlock, DumpIndex, RANGE_PAGES};
use super::bytes::DumpBytes;
use super::codec::{BlockCompression, Codec};
use super::kdump_header::KdumpHeader;
use super::{DumpProblem, Lacks, join};

const DESCRIPTOR_BYTES: u64 = 24;
/// Number of descriptors that are read at once.
const WINDOW: u64 = 256;
/// Number of pages in a group of a bitmap that is counted together.
const COUNTED_PAGES: u64 = 512;
const WORDS_COUNTED: usize = (COUNTED_PAGES / 64) as usize;
/// Block number of pages without a descriptor that are zeros.
const ZEROS: u64 = u64::MAX - 1;

/// Opens a dump; also returns what it lacks.
pub(crate) fn open(file: DumpBytes) -> Result<(BlockDump, Lacks), DumpProblem> {
    let header = KdumpHeader::read(&file)?;
    let mut present = bitmap(&file, &header, 0)?;
    let written = bitmap(&file, &header, 1)?;
    for (present, written) in present.iter_mut().zip(&written) {
        *present |= written;
    }
    let mut dump = Kdump::new(file, header, written);
    if dump.count == 0 && !header.left_out_is_zeros {
        return Err(DumpProblem::NoMemory);
    }
    let regions = runs(&present, header.block_bytes);
    let present: u64 = present.iter().map(|word| u64::from(word.count_ones())).sum();
    let left_out = if header.left_out_is_zeros {
        dump.present = Some(regions.clone());
        0
    } else {
        present - dump.count
    };
    let cut_short = dump.cut_short();
    if cut_short == dump.count && dump.count > 0 {
        return Err(DumpProblem::NoMemory);
    }
    let lacks = Lacks {
        cut_short: cut_short * header.block_bytes,
        left_out: left_out * header.block_bytes,
        unfinished: header.incomplete,
        ..Lacks::default()
    };
    Ok((BlockDump::new(Box::new(dump), regions), lacks))
}

/// Reads one of the two bitmaps.
fn bitmap(file: &DumpBytes, header: &KdumpHeader, which: u64) -> Result<Vec<u64>, DumpProblem> {
    // Both bitmaps are inside the file, as checked with the header.
    let mut bytes = vec![0; header.pages.div_ceil(64) as usize * 8];
    let there = (bytes.len() as u64).min(header.bitmap_bytes) as usize;
    if !file.read(header.bitmaps_at + which * header.bitmap_bytes, &mut bytes[..there]) {
        return Err(DumpProblem::Headers);
    }
    let (words, _) = bytes.as_chunks::<8>();
    let mut words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    if let Some(last) = words.last_mut()
        && !header.pages.is_multiple_of(64)
    {
        *last &= (1 << (header.pages % 64)) - 1;
    }
    Ok(words)
}

/// The runs of set bits, as addresses.
fn runs(words: &[u64], block_bytes: u64) -> Vec<Range<u64>> {
    let mut runs = Vec::new();
    for (index, &word) in words.iter().enumerate() {
        let mut left = word;
        while left != 0 {
            let first = u64::from(left.trailing_zeros());
            let length = u64::from((left >> first).trailing_ones());
            let start = (index as u64 * 64 + first) * block_bytes;
            join(&mut runs, start..start + length * block_bytes, super::REGIONS_MAX);
            if first + length >= 64 {
                break;
            }
            left = left >> (first + length) << (first + length);
        }
    }
    runs
}

/// Where the bytes of a page are in the file, and how they are packed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct PageDescriptor {
    offset: u64,
    bytes: u32,
    flags: u32,
}

impl PageDescriptor {
    /// Compression of the page (diskdump_mod.h: DUMP_DH_COMPRESSED_ZLIB and so on).
    fn compression(self) -> Option<BlockCompression> {
        match self.flags & 0x27 {
            0 => Some(BlockCompression::None),
            1 => Some(BlockCompression::Zlib),
            2 => Some(BlockCompression::Lzo),
            4 => Some(BlockCompression::Snappy),
            0x20 => Some(BlockCompression::Zstd),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Kdump {
    file: DumpBytes,
    header: KdumpHeader,
    /// A bit for each page: whether it was written.
    written: Vec<u64>,
    /// Number of written pages before each group of [`COUNTED_PAGES`].
    before: Vec<u64>,
    /// Number of written pages.
    count: u64,
    /// The regions of memory, if pages that were not written are zeros.
    present: Option<Vec<Range<u64>>>,
    /// Numbers of the descriptors in the window.
    window: Range<u64>,
    window_bytes: Vec<u8>,
    packed: Vec<u8>,
    codec: Codec,
    /// The descriptor that all pages of zeros have.
    zeros: Option<PageDescriptor>,
}

impl Kdump {
    fn new(file: DumpBytes, header: KdumpHeader, written: Vec<u64>) -> Self {
        let mut count = 0;
        let before = written
            .chunks(WORDS_COUNTED)
            .map(|words| {
                let before = count;
                count += words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
                before
            })
            .collect();
        let block_bytes = header.block_bytes as usize;
        let mut dump = Self {
            file,
            header,
            written,
            before,
            count,
            present: None,
            window: 0..0,
            window_bytes: vec![0; (WINDOW * DESCRIPTOR_BYTES) as usize],
            packed: vec![0; block_bytes],
            codec: Codec::new(),
            zeros: None,
        };
        // Both writers write a page of zeros before all others.
        let offset = header.descriptors_at.saturating_add(count.saturating_mul(DESCRIPTOR_BYTES));
        let mut first = vec![1; block_bytes];
        if dump.file.read(offset, &mut first) && first.iter().all(|byte| *byte == 0) {
            dump.zeros = Some(PageDescriptor { offset, bytes: block_bytes as u32, flags: 0 });
        }
        dump
    }

    fn is_written(&self, page: u64) -> bool {
        let word = usize::try_from(page / 64).ok().and_then(|index| self.written.get(index));
        word.is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    /// The number of a page's descriptor, if it was written.
    fn number(&self, page: u64) -> Option<u64> {
        if !self.is_written(page) {
            return None;
        }
        let (group, word) = ((page / COUNTED_PAGES) as usize, (page / 64) as usize);
        let words = self.written.get(group * WORDS_COUNTED..word)?;
        let whole: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
        let below = self.written.get(word)? & ((1 << (page % 64)) - 1);
        Some(self.before.get(group)? + whole + u64::from(below.count_ones()))
    }

    /// The descriptor of a number; `None` if the file ends before it.
    fn descriptor(&mut self, number: u64) -> Option<PageDescriptor> {
        if !self.window.contains(&number) {
            self.window = 0..0;
            let first = number / WINDOW * WINDOW;
            let at =
                first.checked_mul(DESCRIPTOR_BYTES)?.checked_add(self.header.descriptors_at)?;
            let there = self.file.len().saturating_sub(at) / DESCRIPTOR_BYTES;
            let count = there.min(WINDOW);
            if !self
                .file
                .read(at, self.window_bytes.get_mut(..(count * DESCRIPTOR_BYTES) as usize)?)
            {
                return None;
            }
            self.window = first..first + count;
        }
        let index =
            number.checked_sub(self.window.start).filter(|_| self.window.contains(&number))?;
        let bytes = self.window_bytes.get((index * DESCRIPTOR_BYTES) as usize..)?;
        Some(PageDescriptor {
            offset: u64_at(bytes, 0),
            bytes: u32_at(bytes, 8),
            flags: u32_at(bytes, 12),
        })
    }

    /// Whether the bytes of a page are inside the file. A makedumpfile that was interrupted leaves
    /// the descriptors of pages that it did not reach zero.
    fn is_filed(&self, descriptor: PageDescriptor) -> bool {
        if descriptor == PageDescriptor::default() {
            return false;
        }
        let end = descriptor.offset.checked_add(descriptor.bytes.into());
        end.is_some_and(|end| end <= self.file.len())
    }

    /// Number of pages that are missing because the file was cut or its writer was interrupted.
    /// Bytes are written in the order of pages, so if the last one exists, all do.
    fn cut_short(&mut self) -> u64 {
        let zeros = self.zeros;
        let last = (0..self.count)
            .rev()
            .map(|number| self.descriptor(number))
            .find(|descriptor| descriptor.is_none() || *descriptor != zeros);
        if last.is_none_or(|last| last.is_some_and(|last| self.is_filed(last))) {
            return 0;
        }
        let count = self.count;
        let there = (0..count).filter(|&number| {
            self.descriptor(number).is_some_and(|descriptor| self.is_filed(descriptor))
        });
        count - there.count() as u64
    }

    /// Whether a page was written and is not known to be zeros.
    fn is_data(&mut self, page: u64) -> bool {
        let Some(number) = self.number(page) else { return false };
        let Some(zeros) = self.zeros else { return true };
        self.descriptor(number) != Some(zeros)
    }
}

impl DumpIndex for Kdump {
    fn find(&mut self, address: u64) -> Option<DumpBlock> {
        let page = address / self.header.block_bytes;
        let start = page * self.header.block_bytes;
        let bytes = self.header.block_bytes;
        let block = self.number(page).or_else(|| {
            let present = self.present.as_ref()?;
            let after = present.partition_point(|range| range.start <= address);
            let inside = present.get(after.checked_sub(1)?)?.contains(&address);
            inside.then_some(ZEROS)
        })?;
        Some(DumpBlock { block, start, bytes })
    }

    fn load(&mut self, block: u64, target: &mut [u8]) -> ReadOutcome {
        if block == ZEROS {
            target.fill(0);
            return ReadOutcome::Read;
        }
        let Some(descriptor) = self.descriptor(block).filter(|found| self.is_filed(*found)) else {
            return ReadOutcome::NotBacked;
        };
        if Some(descriptor) == self.zeros {
            target.fill(0);
            return ReadOutcome::Read;
        }
        let Some(packed) = self.packed.get_mut(..descriptor.bytes as usize) else {
            return ReadOutcome::Failed;
        };
        if !self.file.read(descriptor.offset, packed) {
            return ReadOutcome::NotBacked; // a piece of a flattened dump can be missing
        }
        let Some(how) = descriptor.compression() else { return ReadOutcome::Failed };
        if self.codec.unpack(how, packed, target) { ReadOutcome::Read } else { ReadOutcome::Failed }
    }

    fn next_data(&mut self, from: u64) -> Option<Range<u64>> {
        let block_bytes = self.header.block_bytes;
        let mut page = from / block_bytes;
        while page < self.header.pages {
            // Skip words of the bitmap without a page.
            if page.is_multiple_of(64) && self.written.get((page / 64) as usize) == Some(&0) {
                page += 64;
                continue;
            }
            if self.is_data(page) {
                let first = page;
                while page < self.header.pages && page - first < RANGE_PAGES && self.is_data(page) {
                    page += 1;
                }
                return Some((first * block_bytes).max(from)..page * block_bytes);
            }
            page += 1;
        }
        None
    }

    fn block_bytes(&self) -> usize {
        self.header.block_bytes as usize
    }
}
