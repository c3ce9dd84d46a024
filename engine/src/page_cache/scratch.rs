//! Buffers that jobs share: a window of a file, the places of its pages, and their content.

use super::pages::{Finder, Place, WINDOW_PAGES_MAX};
use crate::address::{Reader, ReaderSizes};

/// Number of bytes of a file that are read at a time.
pub(super) const WINDOW_BYTES: u64 = 256 << 10;
/// Approximate number of bytes of memory that finding a page's place reads.
pub(super) const PLACE_BYTES: u64 = 128;

/// What hashing needs only while it works. The machines that one thread watches share it.
#[derive(Debug)]
pub struct Buffers {
    /// For the kernel's page descriptors.
    pub(super) reader: Reader,
    pub(super) scratch: Scratch,
}

impl Buffers {
    #[expect(clippy::new_without_default, reason = "it allocates")]
    pub fn new() -> Self {
        Self { reader: reader_of_pages(), scratch: Scratch::new() }
    }
}

/// Buffers that jobs share. They keep nothing from one step to the next.
#[derive(Debug)]
pub(super) struct Scratch {
    /// For the pages' content.
    pub(super) bytes: Reader,
    pub(super) finder: Finder,
    pub(super) places: [Place; WINDOW_PAGES_MAX],
    pub(super) again: [Place; WINDOW_PAGES_MAX],
    /// By page, the request that has its bytes and their offset in it.
    pub(super) runs: [(u32, u32); WINDOW_PAGES_MAX],
}

/// A page without a request.
pub(super) const NO_RUN: (u32, u32) = (u32::MAX, 0);

/// The batch for the kernel's page descriptors of a window.
fn reader_of_pages() -> Reader {
    Reader::new(ReaderSizes {
        objects: WINDOW_PAGES_MAX,
        arena_bytes: WINDOW_PAGES_MAX * PLACE_BYTES as usize,
        walks: WINDOW_PAGES_MAX * 8,
    })
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
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

    pub(super) fn content(&self) -> Content<'_> {
        Content { bench: self, at: 0 }
    }
}

/// A page of the window.
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
    bench: &'a Scratch,
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
