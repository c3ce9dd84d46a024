//! [`Replay`]: a recorded image as a source of memory.
//!
//! Tests, benches and fuzzing use it instead of a guest. Its pages can be changed in memory, to
//! test how a scan copes with damage.

use std::io::{self, Write};
use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{
    MachineSource, MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest,
};

use super::image::{self, ImageProblem, PAGE};

/// Some pages of a machine's memory; all others are not backed.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    regions: Vec<Range<u64>>,
    /// The addresses of the pages / 4096, ascending.
    frames: Vec<u64>,
    index: PageFrameIndex,
    /// An image's bytes, or the pages alone.
    bytes: Vec<u8>,
    /// Index of the first page in `bytes`.
    pages_at: usize,
}

impl Replay {
    /// Parses an image that [`super::Recorder::write_image`] wrote. Any bytes give a valid image or
    /// an error.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ImageProblem> {
        let contents = image::parse(&bytes)?;
        let index = PageFrameIndex::new(&contents.frames);
        Ok(Self {
            regions: contents.regions,
            frames: contents.frames,
            index,
            bytes,
            pages_at: contents.pages.start,
        })
    }

    /// Creates a memory from pages. `frames` are their addresses / 4096, ascending and in the
    /// regions. `pages` are their contents in that order, cut or padded with zeros to the number of
    /// frames.
    pub fn from_pages(
        regions: Vec<Range<u64>>,
        frames: Vec<u64>,
        mut pages: Vec<u8>,
    ) -> Result<Self, ImageProblem> {
        image::check(&regions, &frames)?;
        pages.resize(frames.len() * PAGE, 0);
        let index = PageFrameIndex::new(&frames);
        Ok(Self { regions, frames, index, bytes: pages, pages_at: 0 })
    }

    /// Writes the current content of the memory as an image.
    pub fn write_image(&self, out: &mut impl Write) -> io::Result<()> {
        let mut next = self.pages_at;
        image::write(out, &self.regions, &self.frames, |_, page| {
            page.copy_from_slice(&self.bytes[next..next + PAGE]);
            next += PAGE;
            Ok(())
        })
    }

    pub fn page_count(&self) -> usize {
        self.frames.len()
    }

    /// The addresses of the pages, ascending.
    pub fn page_addresses(&self) -> impl ExactSizeIterator<Item = PhysicalAddress> + '_ {
        self.frames.iter().map(|frame| PhysicalAddress(frame * PAGE_BYTES))
    }

    /// All pages with their addresses, mutable.
    pub fn pages_mut(&mut self) -> impl ExactSizeIterator<Item = (PhysicalAddress, &mut [u8])> {
        let pages = self.bytes[self.pages_at..].chunks_exact_mut(PAGE).take(self.frames.len());
        let addresses = self.frames.iter().map(|frame| PhysicalAddress(frame * PAGE_BYTES));
        addresses.zip(pages)
    }

    /// Changes the bytes at an address. Returns `false` and changes nothing unless all of them are
    /// backed.
    pub fn write(&mut self, address: PhysicalAddress, bytes: &[u8]) -> bool {
        let here = |source: &Self, at: usize| source.piece(address.0, at, bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let Some(piece) = here(self, at) else { return false };
            at += piece.len();
        }
        at = 0;
        while let Some(piece) = (at < bytes.len()).then(|| here(self, at)).flatten() {
            let length = piece.len();
            self.bytes[piece].copy_from_slice(&bytes[at..at + length]);
            at += length;
        }
        true
    }

    /// Index in `bytes` of the page of a frame.
    #[inline]
    fn find(&self, frame: u64) -> Option<usize> {
        let range = self.index.candidates(frame)?;
        let page = range.start + self.frames.get(range)?.binary_search(&frame).ok()?;
        Some(self.pages_at + page * PAGE)
    }

    /// Range in `bytes` of the request's bytes from `done` on, cut at the end of the page.
    #[inline]
    fn piece(&self, address: u64, done: usize, length: usize) -> Option<Range<usize>> {
        let at = address.checked_add(done as u64)?;
        let offset = (at % PAGE_BYTES) as usize;
        let start = self.find(at / PAGE_BYTES)? + offset;
        Some(start..start + (length - done).min(PAGE - offset))
    }

    fn answer(&self, address: u64, target: &mut [u8]) -> ReadOutcome {
        let mut done = 0;
        while done < target.len() {
            let Some(piece) = self.piece(address, done, target.len()) else {
                target.fill(0);
                return ReadOutcome::NotBacked;
            };
            let length = piece.len();
            target[done..done + length].copy_from_slice(&self.bytes[piece]);
            done += length;
        }
        ReadOutcome::Read
    }
}

impl MachineSource for Replay {}

impl MemorySource for Replay {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        ReadRequest::answer_each(requests, arena, |address, bytes| self.answer(address, bytes));
    }

    fn regions(&self) -> &[Range<u64>] {
        &self.regions
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        let frame = from.0 / PAGE_BYTES;
        let left = &self.frames[self.frames.partition_point(|at| *at < frame)..];
        let first = *left.first()?;
        let run = left.iter().zip(first..).take_while(|(at, expected)| *at == expected).count();
        let end = (first + run as u64) * PAGE_BYTES;
        Some((first * PAGE_BYTES).max(from.0)..end)
    }
}

/// An index over a sorted list of numbers. The range of numbers is divided into about as many equal
/// spans as the list has entries. The entries of one span are few for an image of a real machine.
#[derive(Clone, Debug, Default)]
struct PageFrameIndex {
    first: u64,
    shift: u32,
    /// For each span the position of its first entry; the last element is the length of the list.
    starts: Vec<usize>,
}

impl PageFrameIndex {
    fn new(frames: &[u64]) -> Self {
        let (Some(&first), Some(&last)) = (frames.first(), frames.last()) else {
            return Self::default();
        };
        let mut shift = 0;
        while (last - first) >> shift > frames.len() as u64 * 2 {
            shift += 1;
        }
        let spans = ((last - first) >> shift) as usize + 1;
        let mut starts = Vec::with_capacity(spans + 1);
        for (position, frame) in frames.iter().enumerate() {
            let span = ((frame - first) >> shift) as usize;
            while starts.len() <= span {
                starts.push(position);
            }
        }
        starts.push(frames.len());
        Self { first, shift, starts }
    }

    #[inline]
    fn candidates(&self, frame: u64) -> Option<Range<usize>> {
        let span = usize::try_from(frame.checked_sub(self.first)? >> self.shift).ok()?;
        Some(*self.starts.get(span)?..*self.starts.get(span.checked_add(1)?)?)
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of regions with one region")]
mod tests;
