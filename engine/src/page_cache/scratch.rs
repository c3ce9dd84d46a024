//! Buffers that jobs share: a window of a file, the places of its pages, and their content.

use super::PAGE_BYTES;
use super::pages::{FilePageLocation, Finder, WINDOW_PAGES_MAX};
use crate::address::{MemoryReader, ReaderSizes};

/// Number of bytes of a file that are read at a time.
pub(super) const WINDOW_BYTES: u64 = 256 << 10;
const _: () = assert!(WINDOW_BYTES == WINDOW_PAGES_MAX as u64 * PAGE_BYTES);
/// Approximate number of bytes of memory that finding a page's place reads.
pub(super) const PLACE_BYTES: u64 = 128;

/// What hashing needs only while it works. The machines that one thread watches share it.
#[derive(Debug)]
pub struct HashBuffers {
    /// For the kernel's page descriptors.
    pub(super) reader: MemoryReader,
    pub(super) scratch: HashScratch,
}

impl HashBuffers {
    #[expect(clippy::new_without_default, reason = "it allocates")]
    pub fn new() -> Self {
        Self { reader: reader_of_pages(), scratch: HashScratch::new() }
    }
}

/// Buffers that jobs share. They keep nothing from one step to the next.
#[derive(Debug)]
pub(super) struct HashScratch {
    /// For the pages' content.
    pub(super) bytes: MemoryReader,
    pub(super) finder: Finder,
    pub(super) places: [FilePageLocation; WINDOW_PAGES_MAX],
    pub(super) again: [FilePageLocation; WINDOW_PAGES_MAX],
    /// Number of the request that has each page's bytes, and their offset in it.
    pub(super) runs: [(u32, u32); WINDOW_PAGES_MAX],
}

/// A page without a request.
pub(super) const NO_RUN: (u32, u32) = (u32::MAX, 0);

/// The batch for the kernel's page descriptors of a window.
fn reader_of_pages() -> MemoryReader {
    MemoryReader::new(ReaderSizes {
        objects: WINDOW_PAGES_MAX,
        arena_bytes: WINDOW_PAGES_MAX * PLACE_BYTES as usize,
        walks: WINDOW_PAGES_MAX * 8,
    })
}

impl HashScratch {
    pub(super) fn new() -> Self {
        Self {
            bytes: MemoryReader::new(ReaderSizes {
                objects: WINDOW_PAGES_MAX,
                arena_bytes: WINDOW_BYTES as usize,
                walks: 8,
            }),
            finder: Finder::new(),
            places: [FilePageLocation::Missing; WINDOW_PAGES_MAX],
            again: [FilePageLocation::Missing; WINDOW_PAGES_MAX],
            runs: [NO_RUN; WINDOW_PAGES_MAX],
        }
    }

    pub(super) fn content(&self) -> WindowPages<'_> {
        WindowPages { bench: self, at: 0 }
    }
}

/// A page of the window.
#[derive(Clone, Copy, Debug)]
pub(super) enum WindowPage<'a> {
    Missing,
    Unreadable,
    Hole,
    Bytes(&'a [u8]),
}

/// The window's pages, one after the other.
#[derive(Debug)]
pub(super) struct WindowPages<'a> {
    bench: &'a HashScratch,
    at: usize,
}

impl<'a> WindowPages<'a> {
    pub(super) fn next(&mut self, length: usize) -> WindowPage<'a> {
        let (place, run) = (self.bench.places.get(self.at), self.bench.runs.get(self.at));
        self.at += 1;
        match (place, run) {
            (Some(FilePageLocation::Hole), _) => WindowPage::Hole,
            (Some(FilePageLocation::At(_)), Some(&(object, start))) => {
                let start = start as usize;
                let bytes = self.bench.bytes.object(object as usize);
                let bytes = bytes.and_then(|bytes| bytes.get(start..start + length));
                bytes.map_or(WindowPage::Unreadable, WindowPage::Bytes)
            }
            _ => WindowPage::Missing,
        }
    }
}
