//! The section `ram` of a migration stream (QEMU's migration/ram.c).
//!
//! Records follow one another, each behind a word: flags in its lowest bits, the offset of a page
//! in its block in the others. The first record lists the blocks. Page contents are the guest's and
//! can imitate records, so nothing is searched: each record is parsed in order.

use std::collections::HashMap;

use super::index::{RamPageContent, RamPageIndex};
use super::place::{RamBlock, number};
use super::stream::{MigrationStream, Stop, damage};
use crate::dump::DumpProblem;

/// Flags of a record (migration/ram.h and ram.c, RAM_SAVE_FLAG_…).
const ZERO: u64 = 0x2;
const MEM_SIZE: u64 = 0x4;
const PAGE: u64 = 0x8;
const EOS: u64 = 0x10;
const CONTINUE: u64 = 0x20;
const XBZRLE: u64 = 0x40;
const COMPRESS: u64 = 0x100;
const MULTIFD_FLUSH: u64 = 0x200;
const FLAGS: u64 = 0x3ff;

/// Maximum number of blocks; a machine has some dozens.
const BLOCKS_MAX: usize = 4096;
/// Largest sum of all blocks in bytes.
const SUM_MAX: u64 = 1 << 52;

/// Size of the header of a block of mapped-ram, as of its version 1.
const MAPPED_HEADER_BYTES: u64 = 28;
/// Number of bytes of a bitmap that are read at once.
const BITMAP_BYTES: u64 = 1 << 16;

/// What the stream's configuration says of its form.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MigrationForm {
    /// Pages are at fixed places of the file.
    pub(super) is_mapped: bool,
    /// Memory that is a shared file is not in the stream.
    pub(super) ignores_shared: bool,
    /// Blocks of huge pages have their size in the list.
    pub(super) has_page_sizes: bool,
}

/// The memory as far as it was read.
#[derive(Debug)]
pub(super) struct Ram {
    pub(super) blocks: Vec<RamBlock>,
    pub(super) index: RamPageIndex,
    /// Positions of the blocks by their names.
    positions: HashMap<Vec<u8>, usize>,
    /// The block of the last record.
    current: Option<usize>,
}

impl Ram {
    pub(super) fn new(page_bytes: usize) -> Self {
        Self {
            blocks: Vec::new(),
            index: RamPageIndex::new(page_bytes),
            positions: HashMap::new(),
            current: None,
        }
    }

    /// Number of pages of memory in all blocks.
    pub(super) fn pages(&self) -> u64 {
        let page_bytes = self.index.page_bytes() as u64;
        let memory = self.blocks.iter().filter(|block| block.first.is_some());
        memory.map(|block| block.bytes.div_ceil(page_bytes)).sum()
    }

    /// Reads the data of one section to its end.
    pub(super) fn read_section(
        &mut self,
        stream: &mut MigrationStream<'_>,
        form: MigrationForm,
    ) -> Result<(), Stop> {
        loop {
            let word = stream.number::<8>()?;
            let (flags, offset) = (word & FLAGS, word & !FLAGS);
            match flags & !CONTINUE {
                EOS => return Ok(()),
                MULTIFD_FLUSH => {}
                MEM_SIZE => self.read_blocks(stream, offset, form)?,
                kind @ (ZERO | PAGE | XBZRLE | COMPRESS) => {
                    self.read_page(stream, kind, flags & CONTINUE != 0, offset)?;
                }
                _ => return Err(damage("its memory has a record of no known kind")),
            }
        }
    }

    fn read_page(
        &mut self,
        stream: &mut MigrationStream<'_>,
        kind: u64,
        same_block: bool,
        offset: u64,
    ) -> Result<(), Stop> {
        if !same_block {
            let name = stream.name()?;
            self.current = self.positions.get(&name).copied();
        }
        let block = self.current.and_then(|block| self.blocks.get(block));
        let block = block.ok_or(damage("its memory has a page of no known block"))?;
        let page_bytes = self.index.page_bytes() as u64;
        if offset >= block.bytes || !offset.is_multiple_of(page_bytes) {
            return Err(damage("its memory has a page beyond its block"));
        }
        let page = block.first.map(|first| first + offset / page_bytes);
        let content = match kind {
            ZERO => RamPageContent::Filled(stream.number::<1>()? as u8),
            PAGE => {
                let at = stream.at();
                stream.skip(page_bytes)?;
                RamPageContent::Plain(at)
            }
            COMPRESS => {
                let at = stream.at();
                let bytes = stream.number::<4>()?;
                if bytes > page_bytes + page_bytes / 16 + 64 {
                    return Err(damage("its memory has a compressed page that is too long"));
                }
                stream.skip(bytes)?;
                RamPageContent::Packed(at)
            }
            _ => {
                if stream.number::<1>()? != 1 {
                    return Err(damage("its memory has a difference of no known kind"));
                }
                let at = stream.at();
                let bytes = stream.number::<2>()?;
                if bytes > page_bytes {
                    return Err(damage("its memory has a difference that is too long"));
                }
                stream.skip(bytes)?;
                if let Some(page) = page {
                    self.index.change(page, at)?;
                }
                return Ok(());
            }
        };
        if let Some(page) = page {
            self.index.set(page, content);
        }
        Ok(())
    }

    /// Reads the list of blocks, whose sizes add up to `sum`.
    fn read_blocks(
        &mut self,
        stream: &mut MigrationStream<'_>,
        sum: u64,
        form: MigrationForm,
    ) -> Result<(), Stop> {
        if !self.blocks.is_empty() || sum > SUM_MAX {
            return Err(damage("its list of blocks is impossible"));
        }
        let mut maps: Vec<(usize, MappedRamHeader)> = Vec::new();
        let listed = self.read_list(stream, sum, form, &mut maps);
        // A file that was cut among the pages of mapped-ram has known blocks before the cut.
        if let Err(Stop::Problem(problem)) = listed {
            return Err(problem.into());
        }
        let page_bytes = self.index.page_bytes() as u64;
        let pages = number(&mut self.blocks, page_bytes).ok_or(DumpProblem::TooLarge("pages"))?;
        self.index.reserve(pages)?;
        for (block, map) in maps {
            if let Some(first) = self.blocks[block].first {
                map.index(stream, first, &mut self.index)?;
            }
        }
        listed
    }

    fn read_list(
        &mut self,
        stream: &mut MigrationStream<'_>,
        sum: u64,
        form: MigrationForm,
        maps: &mut Vec<(usize, MappedRamHeader)>,
    ) -> Result<(), Stop> {
        let mut total = 0_u64;
        while total < sum {
            let name = stream.name()?;
            let bytes = stream.number::<8>()?;
            total = total.saturating_add(bytes);
            if total > sum || self.blocks.len() >= BLOCKS_MAX || name.is_empty() {
                return Err(damage("its list of blocks is impossible"));
            }
            if form.has_page_sizes {
                let size = stream.next_number::<8>()?;
                // Otherwise this is the name of the next block, or a record.
                if size.is_power_of_two() && size > self.index.page_bytes() as u64 {
                    stream.skip(8)?;
                }
            }
            if form.ignores_shared {
                stream.skip(8)?;
            }
            let index = self.blocks.len();
            self.positions.entry(name.clone()).or_insert(index);
            self.blocks.push(RamBlock { name, bytes, first: None });
            if form.is_mapped {
                let map = MappedRamHeader::read(stream, bytes, self.index.page_bytes() as u64)?;
                match map {
                    Some(map) => {
                        stream.go_to(map.end);
                        maps.push((index, map));
                    }
                    None => stream.skip(MAPPED_HEADER_BYTES)?,
                }
            }
        }
        Ok(())
    }
}

/// Where mapped-ram has the pages of a block.
#[derive(Clone, Copy, Debug)]
struct MappedRamHeader {
    bitmap_at: u64,
    pages_at: u64,
    pages: u64,
    /// Offset behind the last page.
    end: u64,
}

impl MappedRamHeader {
    /// Reads the next header without passing it; `None` if the block is not in the file.
    fn read(
        stream: &mut MigrationStream<'_>,
        bytes: u64,
        page_bytes: u64,
    ) -> Result<Option<Self>, Stop> {
        const WRONG: Stop = damage("its header of mapped-ram is impossible");
        let at = stream.at();
        let [version, size] = [stream.number::<4>()?, stream.number::<8>()?];
        let [bitmap_at, pages_at] = [stream.number::<8>()?, stream.number::<8>()?];
        let header_end = stream.at();
        stream.go_to(at);
        if version != 1 || size != page_bytes {
            return Err(WRONG);
        }
        if bitmap_at == 0 && pages_at == 0 {
            return Ok(None);
        }
        let pages = bytes.div_ceil(page_bytes);
        let bitmap_end = bitmap_at.checked_add(pages.div_ceil(64) * 8).ok_or(WRONG)?;
        let end = pages_at.checked_add(bytes).ok_or(WRONG)?;
        if bitmap_at < header_end || pages_at < bitmap_end || i64::try_from(end).is_err() {
            return Err(WRONG);
        }
        Ok(Some(Self { bitmap_at, pages_at, pages, end }))
    }

    /// Enters the pages of a block: those without a bit are zeros.
    fn index(
        self,
        stream: &MigrationStream<'_>,
        first: u64,
        index: &mut RamPageIndex,
    ) -> Result<(), Stop> {
        let page_bytes = index.page_bytes() as u64;
        let mut bits = vec![0; BITMAP_BYTES as usize];
        let bytes = self.pages.div_ceil(64) * 8;
        let mut done = 0;
        while done < bytes {
            let part = (bytes - done).min(BITMAP_BYTES) as usize;
            let bits = &mut bits[..part];
            if !stream.file().read(self.bitmap_at + done, bits) {
                return Err(Stop::Cut);
            }
            for page in done * 8..((done + part as u64) * 8).min(self.pages) {
                let bit = page - done * 8;
                let is_there = bits[(bit / 8) as usize] >> (bit % 8) & 1 != 0;
                let at = self.pages_at + page * page_bytes;
                let content = match is_there {
                    true if at + page_bytes <= stream.file().len() => RamPageContent::Plain(at),
                    true => continue,
                    false => RamPageContent::Filled(0),
                };
                index.set(first + page, content);
            }
            done += part as u64;
        }
        Ok(())
    }
}
