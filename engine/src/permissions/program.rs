//! What the files that a process has mapped say of themselves: their program headers, read as the process would read them.

use core::ops::Range;

use panoptes_decoders::address::UserVa;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};
use panoptes_decoders::user::program_headers::{ProgramHeaders, has_text_relocations};

use super::rule::Says;
use crate::address::{Reader, ReaderSizes};
use crate::page_cache::{AddressSpace, MappedFiles};
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
    files: MappedFiles,
}

impl Programs {
    pub(super) fn new() -> Self {
        let sizes = ReaderSizes {
            objects: FILES,
            arena_bytes: FILES * HEADER_BYTES as usize,
            walks: FILES * 4,
        };
        Self { reader: Reader::new(sizes), files: MappedFiles::new() }
    }

    /// Forgets where pages are: before memory of another scan is read.
    pub(super) fn forget(&mut self) {
        self.reader.forget_translations();
    }

    /// Bytes of a process's memory.
    pub(super) fn read_at<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
        address: u64,
        bytes: u64,
    ) -> Option<&[u8]> {
        self.files.read(&mut self.reader, source, space, address, bytes)
    }

    /// What the file of an area says of it.
    pub(super) fn says<S: MemorySource>(
        &mut self,
        source: &mut S,
        space: &AddressSpace<'_>,
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
        let Some(file) = self.read(source, space, beginning, 0, HEADER_BYTES) else {
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
                && let Some(section) = self.read(source, space, row, skip, bytes)
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
        space: &AddressSpace<'_>,
        areas: &[VmaRow],
    ) -> bool {
        let wants = |file: &[u8]| {
            ProgramHeaders::find(file).is_some_and(|headers| headers.wants_executable_stack())
        };
        self.reader.forget_translations();
        let mut beginnings = areas
            .iter()
            .filter(|row| !row.vma.file.is_null() && row.vma.page_offset == 0)
            .take(FILES_MAX)
            .peekable();
        while beginnings.peek().is_some() {
            self.reader.clear();
            let mut rows = [None; FILES];
            for (place, row) in rows.iter_mut().zip(beginnings.by_ref()) {
                push(&mut self.reader, space, row, 0, HEADER_BYTES);
                *place = Some(row);
            }
            self.reader.run(source, space.kernel.space.levels);
            let mut is_any = false;
            for (object, row) in rows.iter_mut().enumerate() {
                if let Some(file) = self.reader.object(object) {
                    is_any |= wants(file);
                    *row = None;
                }
            }
            // What the process has not touched, one by one.
            let mut untouched = rows.into_iter().flatten();
            is_any = is_any
                || untouched
                    .any(|row| self.read(source, space, row, 0, HEADER_BYTES).is_some_and(wants));
            if is_any {
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
        space: &AddressSpace<'_>,
        row: &VmaRow,
        skip: u64,
        bytes: u32,
    ) -> Option<&[u8]> {
        let (address, bytes) = part(row, skip, bytes);
        self.files.read(&mut self.reader, source, space, address.0, bytes.into())
    }
}

/// How far behind an area's beginning it has what is at this offset of its file.
fn within(row: &VmaRow, offset: u64) -> Option<u64> {
    let first = row.vma.page_offset.checked_mul(PAGE_BYTES)?;
    let skip = offset.checked_sub(first)?;
    (skip < row.vma.end - row.vma.start).then_some(skip)
}

/// Where bytes of an area lie, and how many of them there are.
fn part(row: &VmaRow, skip: u64, bytes: u32) -> (UserVa, u32) {
    let left = (row.vma.end - row.vma.start).saturating_sub(skip);
    let bytes = u64::from(bytes).min(left) as u32;
    (UserVa(row.vma.start.wrapping_add(skip)), bytes)
}

fn push(reader: &mut Reader, space: &AddressSpace<'_>, row: &VmaRow, skip: u64, bytes: u32) {
    let (address, bytes) = part(row, skip, bytes);
    let _ = reader.push_user(space.kernel.space.levels, space.root(), address, bytes);
}
