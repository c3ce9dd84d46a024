//! The memory of a machine during the comparison of a scan: counts what detectors read, and ends
//! that when the scan must be given up.

use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};

use crate::address::ReadCost;
use crate::walk::Budget;

/// A source that counts what is read, and reads nothing any more once the scan must stop.
pub(super) struct MeteredSource<'a> {
    pub(super) source: &'a mut dyn MemorySource,
    pub(super) budget: &'a Budget<'a>,
    pub(super) work: ReadCost,
}

impl MemorySource for MeteredSource<'_> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        if self.budget.must_stop() {
            for request in requests {
                request.outcome = ReadOutcome::Failed;
            }
            return;
        }
        self.work.batches += 1;
        self.work.bytes += requests.iter().map(|request| u64::from(request.length)).sum::<u64>();
        self.source.read_batch(requests, arena);
        let failed = requests.iter().filter(|request| request.outcome != ReadOutcome::Read);
        self.work.failed += failed.count() as u64;
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        self.source.next_data(from)
    }
}
