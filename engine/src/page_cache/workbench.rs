//! What jobs share: room for a window of a file, where its pages lie and what is in them.

use panoptes_decoders::source::MemorySource;

use super::pages::{Cached, Finder, Place, WINDOW_PAGES_MAX};
use super::tree::Broken;
use crate::address::{Reader, ReaderSizes};
use crate::walk::Kernel;

/// Bytes of a file that are read in one go.
pub(super) const WINDOW_BYTES: u64 = 256 << 10;
/// Bytes of memory that finding a page's place reads, about.
pub(super) const PLACE_BYTES: u64 = 128;

/// What jobs share: nothing of it is needed from one step to the next.
#[derive(Debug)]
pub(super) struct Workbench {
    /// For what the kernel keeps of pages.
    pub(super) reader: Reader,
    /// For what is in them.
    pub(super) bytes: Reader,
    pub(super) finder: Finder,
    pub(super) places: [Place; WINDOW_PAGES_MAX],
    pub(super) again: [Place; WINDOW_PAGES_MAX],
    /// By page, which request has its bytes and where in it they begin.
    pub(super) runs: [(u32, u32); WINDOW_PAGES_MAX],
}

/// A page that no request is for.
pub(super) const NO_RUN: (u32, u32) = (u32::MAX, 0);

impl Workbench {
    pub(super) fn new() -> Self {
        Self {
            reader: Reader::new(ReaderSizes {
                objects: WINDOW_PAGES_MAX,
                arena_bytes: WINDOW_PAGES_MAX * PLACE_BYTES as usize,
                walks: WINDOW_PAGES_MAX * 8,
            }),
            bytes: Reader::new(ReaderSizes {
                objects: WINDOW_PAGES_MAX,
                arena_bytes: WINDOW_BYTES as usize,
                walks: 8,
            }),
            finder: Finder::new(),
            places: [Place::Missing; WINDOW_PAGES_MAX],
            again: [Place::Missing; WINDOW_PAGES_MAX],
            runs: [NO_RUN; WINDOW_PAGES_MAX],
        }
    }

    /// Reads where a file's tree begins, and goes there.
    pub(super) fn read_tree<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        file: &Cached,
    ) -> Result<(), Broken> {
        self.finder.begin(&mut self.reader, source, kernel, file)
    }

    pub(super) fn content(&self) -> Content<'_> {
        Content { bench: self, at: 0 }
    }
}

/// What a page of the window holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    Missing,
    Unreadable,
    Hole,
    Bytes(&'a [u8]),
}

/// The window's pages, one after the other.
#[derive(Debug)]
pub(super) struct Content<'a> {
    bench: &'a Workbench,
    at: usize,
}

impl<'a> Content<'a> {
    pub(super) fn next(&mut self, length: usize) -> Piece<'a> {
        let (place, run) = (self.bench.places.get(self.at), self.bench.runs.get(self.at));
        self.at += 1;
        match (place, run) {
            (Some(Place::Hole), _) => Piece::Hole,
            (Some(Place::At(_)), Some(&(object, start))) => {
                let start = start as usize;
                let bytes = self.bench.bytes.object(object as usize);
                let bytes = bytes.and_then(|bytes| bytes.get(start..start + length));
                bytes.map_or(Piece::Unreadable, Piece::Bytes)
            }
            _ => Piece::Missing,
        }
    }
}
