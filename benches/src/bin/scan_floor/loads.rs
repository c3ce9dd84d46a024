//! What a scan requests from its source, recorded to be requested again without a scan.

use std::collections::HashSet;
use std::ops::Range;

use panoptes_benches::model::LINE_BYTES;
use panoptes_benches::{LineWriter, write_lines};
use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES, ReadRequest};
use panoptes_engine::walk::{Kernel, Scope, Walker};
use panoptes_sources::{Detail, FileSource, MeterCounts, SourceMeter};

use crate::{Error, look};

/// The requests of a scan, counted and recorded.
pub(crate) struct Seen {
    pub(crate) counts: MeterCounts,
    /// Addresses of the different lines and pages that were read, ascending.
    pub(crate) lines: Vec<PhysicalAddress>,
    pages: Vec<PhysicalAddress>,
    batches: Vec<Vec<ReadRequest>>,
}

impl Seen {
    pub(crate) fn new(
        walker: &mut Walker,
        source: &mut FileSource,
        kernel: &Kernel,
        lines: &mut LineWriter,
    ) -> Result<Self, Error> {
        let mut meter = SourceMeter::new(&mut *source, Detail::Lines)?;
        look(walker, &mut meter, kernel, Scope::ALL)?;
        let counts = meter.counts();
        let (touched, pages) = (meter.lines().collect(), meter.pages().collect());
        let mut tape = Tape { source, batches: Vec::new() };
        walker.forget();
        let snapshot = walker.scan(&mut tape, kernel, Scope::ALL)?;
        write_lines(snapshot, kernel, lines);
        Ok(Self { counts, lines: touched, pages, batches: tape.batches })
    }
}

/// Records every batch that is requested.
struct Tape<S> {
    source: S,
    batches: Vec<Vec<ReadRequest>>,
}

impl<S: MemorySource> MemorySource for Tape<S> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.batches.push(requests.to_vec());
        self.source.read_batch(requests, arena);
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }
}

/// The same memory in other requests.
pub(crate) struct Load {
    batches: Vec<Vec<ReadRequest>>,
    lines: Vec<ReadRequest>,
    joined: Vec<ReadRequest>,
    in_order: Vec<ReadRequest>,
    pages: Vec<ReadRequest>,
    arena: Vec<u8>,
}

impl Load {
    pub(crate) fn new(seen: &Seen) -> Self {
        let batches = seen.batches.clone();
        let each = |all: &[PhysicalAddress], bytes: u64| -> Vec<ReadRequest> {
            let request = |(index, &at): (usize, &PhysicalAddress)| {
                ReadRequest::new(at, bytes as u32, index as u32 * bytes as u32)
            };
            all.iter().enumerate().map(request).collect()
        };
        let lines = each(&seen.lines, LINE_BYTES);
        let in_order = each(&first_touches(&batches), LINE_BYTES);
        let pages = each(&seen.pages, PAGE_BYTES);
        let ends = batches.iter().flatten().chain(&lines).chain(&pages);
        let end = ends.map(|request| request.target + request.length).max().unwrap_or(0) as usize;
        // Never-written memory of the benchmark itself would cause page faults.
        let arena = vec![1; end];
        Self { batches, joined: join(&lines), lines, in_order, pages, arena }
    }

    /// The scan's own requests.
    pub(crate) fn read(&mut self, source: &mut FileSource) {
        for batch in &mut self.batches {
            source.read_batch(batch, &mut self.arena);
        }
    }

    /// Each line once, by address.
    pub(crate) fn copy_lines(&mut self, source: &mut FileSource) {
        source.read_batch(&mut self.lines, &mut self.arena);
    }

    /// The same, neighbours in one request.
    pub(crate) fn copy_joined(&mut self, source: &mut FileSource) {
        source.read_batch(&mut self.joined, &mut self.arena);
    }

    /// Each line once, in the order in which the scan reads them first.
    pub(crate) fn copy_in_order(&mut self, source: &mut FileSource) {
        source.read_batch(&mut self.in_order, &mut self.arena);
    }

    pub(crate) fn copy_pages(&mut self, source: &mut FileSource) {
        source.read_batch(&mut self.pages, &mut self.arena);
    }

    /// Number of requests for all lines with neighbours joined.
    pub(crate) fn runs(&self) -> usize {
        self.joined.len()
    }
}

/// The lines of all requests, each once, in the order of the requests.
fn first_touches(batches: &[Vec<ReadRequest>]) -> Vec<PhysicalAddress> {
    let mut known = HashSet::new();
    let mut found = Vec::new();
    for request in batches.iter().flatten().filter(|request| request.length > 0) {
        let last = request.address.0 + u64::from(request.length) - 1;
        for line in request.address.0 / LINE_BYTES..=last / LINE_BYTES {
            if known.insert(line) {
                found.push(PhysicalAddress(line * LINE_BYTES));
            }
        }
    }
    found
}

/// Joins requests whose bytes follow each other, there and in the arena, within a page.
fn join(lines: &[ReadRequest]) -> Vec<ReadRequest> {
    let mut joined: Vec<ReadRequest> = Vec::new();
    for line in lines {
        let end = |last: &ReadRequest| last.address.0 + u64::from(last.length);
        match joined.last_mut() {
            Some(last) if end(last) == line.address.0 && line.address.0 % PAGE_BYTES != 0 => {
                last.length += line.length;
            }
            _ => joined.push(*line),
        }
    }
    joined
}
