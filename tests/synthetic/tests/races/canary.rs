//! A deliberate mistake: what was read once in a scan is not read again.

use std::collections::HashMap;
use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};

/// Answers a second look at a word with what the first one saw.
#[derive(Debug)]
pub(crate) struct Blind<'s, S> {
    source: &'s mut S,
    seen: HashMap<u64, u8>,
}

impl<'s, S> Blind<'s, S> {
    pub(crate) fn new(source: &'s mut S) -> Self {
        Self { source, seen: HashMap::new() }
    }
}

impl<S: MemorySource> MemorySource for Blind<'_, S> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.source.read_batch(requests, arena);
        for request in requests.iter().filter(|request| request.outcome == ReadOutcome::Read) {
            let Some(target) = request.target_range(arena.len()) else { continue };
            for (address, byte) in (request.address.0..).zip(&mut arena[target]) {
                *byte = *self.seen.entry(address).or_insert(*byte);
            }
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        self.source.next_data(from)
    }
}
