//! [`SourceMeter`]: counts the requests to a source.
//!
//! The number of batches must not grow with the population of the machine. Touched cache lines and
//! pages are the best measure of what a scan costs. Tests and benchmarks read both here.

use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{
    CACHE_LINE_BYTES, MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest,
};

use super::SourceError;
use super::pages::UnitSet;

/// Bytes of a cache line.
const LINE_BYTES: u64 = CACHE_LINE_BYTES as u64;

/// What a [`SourceMeter`] counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Detail {
    /// Batches and requests only: no cost per request.
    Batches,
    /// Also bytes, outcomes, cache lines and pages.
    Lines,
}

/// Counts of a [`SourceMeter`] since its last reset.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MeterCounts {
    pub batches: u64,
    /// Requests in all batches.
    pub requests: u64,
    /// Requests in the largest batch.
    pub largest_batch: u64,
    /// Bytes read. This count and those below are 0 with [`Detail::Batches`].
    pub bytes: u64,
    /// Requests answered [`ReadOutcome::NotBacked`].
    pub not_backed: u64,
    /// Requests answered [`ReadOutcome::Failed`].
    pub failed: u64,
    /// Different cache lines of 64 bytes that were read.
    pub lines: u64,
    /// Different pages that were read.
    pub pages: u64,
}

/// A source that counts what is read through it.
#[derive(Debug)]
pub struct SourceMeter<S> {
    source: S,
    detail: Detail,
    counts: MeterCounts,
    lines: UnitSet,
    pages: UnitSet,
}

impl<S: MemorySource> SourceMeter<S> {
    /// Wraps a source. With [`Detail::Lines`] this allocates a bit for each cache line and each
    /// page; nothing is allocated later.
    pub fn new(source: S, detail: Detail) -> Result<Self, SourceError> {
        let (lines, pages) = match detail {
            Detail::Batches => (UnitSet::default(), UnitSet::default()),
            Detail::Lines => (
                UnitSet::new(source.regions(), LINE_BYTES.trailing_zeros())?,
                UnitSet::new(source.regions(), PAGE_BYTES.trailing_zeros())?,
            ),
        };
        Ok(Self { source, detail, counts: MeterCounts::default(), lines, pages })
    }

    /// Counts since the last reset.
    pub fn counts(&self) -> MeterCounts {
        MeterCounts { lines: self.lines.count(), pages: self.pages.count(), ..self.counts }
    }

    /// Sets all counts to zero.
    pub fn reset(&mut self) {
        self.counts = MeterCounts::default();
        self.lines.clear();
        self.pages.clear();
    }

    /// The addresses of the cache lines that were read, ascending.
    pub fn lines(&self) -> impl Iterator<Item = PhysicalAddress> + '_ {
        self.lines.iter().map(|line| PhysicalAddress(line * LINE_BYTES))
    }

    /// The addresses of the pages that were read, ascending.
    pub fn pages(&self) -> impl Iterator<Item = PhysicalAddress> + '_ {
        self.pages.iter().map(|page| PhysicalAddress(page * PAGE_BYTES))
    }

    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }
}

impl<S: MemorySource> MemorySource for SourceMeter<S> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.source.read_batch(requests, arena);
        let size = requests.len() as u64;
        self.counts.batches += 1;
        self.counts.requests += size;
        self.counts.largest_batch = self.counts.largest_batch.max(size);
        if self.detail == Detail::Batches {
            return;
        }
        for request in requests {
            match request.outcome {
                ReadOutcome::Read => {
                    let bytes = u64::from(request.length);
                    self.counts.bytes += bytes;
                    self.lines.insert(request.address.0, bytes);
                    self.pages.insert(request.address.0, bytes);
                }
                ReadOutcome::NotBacked => self.counts.not_backed += 1,
                ReadOutcome::Failed | ReadOutcome::Pending => self.counts.failed += 1,
            }
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        self.source.next_data(from)
    }

    fn move_by(&mut self, bytes: u64) -> bool {
        let moved = self.source.move_by(bytes);
        if moved {
            self.lines.move_by(bytes);
            self.pages.move_by(bytes);
        }
        moved
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of regions with one region")]
mod tests {
    use super::*;
    use crate::Replay;

    fn read_twice(detail: Detail) -> SourceMeter<Replay> {
        let memory = Replay::from_pages(vec![0..0x10_0000], vec![0, 1, 4], Vec::new()).unwrap();
        let mut meter = SourceMeter::new(memory, detail).unwrap();
        let mut arena = [0; 512];
        for _ in 0..2 {
            let mut requests = [
                ReadRequest::new(PhysicalAddress(0), 64, 0),
                ReadRequest::new(PhysicalAddress(32), 64, 0),
                ReadRequest::new(PhysicalAddress(0xff0), 0x20, 0),
                ReadRequest::new(PhysicalAddress(0x2000), 8, 0),
                ReadRequest::new(PhysicalAddress(0x4000), 8, 511),
            ];
            meter.read_batch(&mut requests, &mut arena);
        }
        assert!(meter.read_exact(PhysicalAddress(0x4000), &mut [0; 1]));
        meter
    }

    #[test]
    fn lines_and_pages_count_once() {
        let mut meter = read_twice(Detail::Lines);
        let expected = MeterCounts {
            batches: 3,
            requests: 11,
            largest_batch: 5,
            bytes: 2 * (64 + 64 + 32) + 1,
            not_backed: 2,
            failed: 2,
            lines: 5,
            pages: 3,
        };
        assert_eq!(meter.counts(), expected);
        let pages: Vec<u64> = meter.pages().map(|page| page.0).collect();
        assert_eq!(pages, [0, 0x1000, 0x4000]);
        let lines: Vec<u64> = meter.lines().map(|line| line.0).collect();
        assert_eq!(lines, [0, 0x40, 0xfc0, 0x1000, 0x4000]);
        meter.reset();
        assert_eq!(meter.counts(), MeterCounts::default());
    }

    #[test]
    fn the_fast_mode_counts_batches_and_requests() {
        let meter = read_twice(Detail::Batches);
        let expected =
            MeterCounts { batches: 3, requests: 11, largest_batch: 5, ..MeterCounts::default() };
        assert_eq!(meter.counts(), expected);
    }
}
