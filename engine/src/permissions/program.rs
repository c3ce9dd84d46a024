//! What the files that a process has mapped say of themselves: their program headers, read where they are mapped.

use core::ops::Range;

use panoptes_decoders::address::UserVa;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};
use panoptes_decoders::user::program_headers::{ProgramHeaders, has_text_relocations};

use super::rule::Says;
use crate::address::{Reader, ReaderSizes};
use crate::walk::{Kernel, MmRow, VmaRow};

/// Bytes of a file's beginning that are read: the program headers are in them.
const HEADER_BYTES: u32 = 2048;
/// Most bytes of a dynamic section that are read; usual are 500.
const DYNAMIC_BYTES: u32 = 2048;
/// How many files are read in one go, and at most of one process.
const FILES: usize = 64;
const FILES_MAX: usize = 1024;

/// Reads programs.
#[derive(Debug)]
pub(super) struct Programs {
    reader: Reader,
}

impl Programs {
    pub(super) fn new() -> Self {
        let sizes = ReaderSizes {
            objects: FILES,
            arena_bytes: FILES * HEADER_BYTES as usize,
            walks: FILES * 4,
        };
        Self { reader: Reader::new(sizes) }
    }

    /// Forgets where pages are: before memory of another scan is read.
    pub(super) fn forget(&mut self) {
        self.reader.forget_translations();
    }

    /// Bytes of a process's memory.
    pub(super) fn read_at<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        mm: &MmRow,
        address: u64,
        bytes: u64,
    ) -> Option<&[u8]> {
        let root = kernel.space.linear(mm.pgd).unwrap_or_default();
        self.reader.clear();
        let bytes = u32::try_from(bytes).ok()?;
        self.reader.push_user(kernel.space.levels, root, UserVa(address), bytes)?;
        self.reader.run(source, kernel.space.levels);
        self.reader.object(0)
    }

    /// What the file of an area says of it.
    pub(super) fn says<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        mm: &MmRow,
        areas: &[VmaRow],
        at: usize,
    ) -> Says {
        let area = &areas[at];
        let is_ours = |row: &VmaRow| row.vma.file == area.vma.file;
        // A file may be mapped more than once: of its beginnings the nearest before this.
        let beginning =
            areas[..=at].iter().rev().find(|row| is_ours(row) && row.vma.page_offset == 0);
        let Some(beginning) = beginning else { return Says::Unknown };
        self.reader.forget_translations();
        let Some(file) = self.read(source, kernel, mm, beginning, 0, HEADER_BYTES) else {
            return Says::Unknown;
        };
        let Some(headers) = ProgramHeaders::find(file) else { return Says::Unknown };
        let executes = headers.executes(area.vma.page_offset.saturating_mul(PAGE_BYTES));
        if let Some((offset, bytes)) = headers.dynamic() {
            let holds = |row: &&VmaRow| is_ours(row) && within(row, offset).is_some();
            let bytes = bytes.min(u64::from(DYNAMIC_BYTES)) as u32;
            // Loaded twice where pages are shared by two segments; the last has what the loader sees.
            if let Some(row) = areas.iter().rev().find(holds)
                && let Some(skip) = within(row, offset)
                && let Some(section) = self.read(source, kernel, mm, row, skip, bytes)
                && has_text_relocations(section)
            {
                return Says::Relocations;
            }
        }
        if executes { Says::Text } else { Says::NotText }
    }

    /// Whether any of the programs and libraries that are mapped wants an executable stack.
    pub(super) fn wants_executable_stack<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        mm: &MmRow,
        areas: &[VmaRow],
    ) -> bool {
        self.reader.forget_translations();
        let mut beginnings = areas
            .iter()
            .filter(|row| !row.vma.file.is_null() && row.vma.page_offset == 0)
            .take(FILES_MAX)
            .peekable();
        while beginnings.peek().is_some() {
            self.reader.clear();
            for row in beginnings.by_ref().take(FILES) {
                push(&mut self.reader, kernel, mm, row, 0, HEADER_BYTES);
            }
            self.reader.run(source, kernel.space.levels);
            let wants = (0..self.reader.len()).any(|object| {
                self.reader
                    .object(object)
                    .and_then(ProgramHeaders::find)
                    .is_some_and(|headers| headers.wants_executable_stack())
            });
            if wants {
                return true;
            }
        }
        false
    }

    /// Whether all pages of a range are there; of a large one those at its beginning.
    pub(super) fn is_filled<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        mm: &MmRow,
        range: Range<u64>,
    ) -> bool {
        let root = kernel.space.linear(mm.pgd).unwrap_or_default();
        self.reader.forget_translations();
        self.reader.clear();
        for page in range.step_by(PAGE_BYTES as usize).take(FILES) {
            let _ = self.reader.push_user(kernel.space.levels, root, UserVa(page), 1);
        }
        self.reader.run(source, kernel.space.levels);
        (0..self.reader.len()).all(|page| self.reader.object(page).is_some())
    }

    /// Bytes of an area, from `skip` on.
    fn read<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        mm: &MmRow,
        row: &VmaRow,
        skip: u64,
        bytes: u32,
    ) -> Option<&[u8]> {
        self.reader.clear();
        push(&mut self.reader, kernel, mm, row, skip, bytes);
        self.reader.run(source, kernel.space.levels);
        self.reader.object(0)
    }
}

/// How far behind an area's beginning it has what is at this offset of its file.
fn within(row: &VmaRow, offset: u64) -> Option<u64> {
    let first = row.vma.page_offset.checked_mul(PAGE_BYTES)?;
    let skip = offset.checked_sub(first)?;
    (skip < row.vma.end - row.vma.start).then_some(skip)
}

fn push(reader: &mut Reader, kernel: &Kernel, mm: &MmRow, row: &VmaRow, skip: u64, bytes: u32) {
    let left = (row.vma.end - row.vma.start).saturating_sub(skip);
    let bytes = u64::from(bytes).min(left) as u32;
    let root = kernel.space.linear(mm.pgd).unwrap_or_default();
    let address = UserVa(row.vma.start.wrapping_add(skip));
    let _ = reader.push_user(kernel.space.levels, root, address, bytes);
}
