//! What tests of several detectors share.

use core::ops::Range;

use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};

/// A machine whose memory cannot be read.
pub(crate) struct Unreadable;

impl MemorySource for Unreadable {
    fn read_batch(&mut self, requests: &mut [ReadRequest], _: &mut [u8]) {
        for request in requests {
            request.outcome = ReadOutcome::Failed;
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        &[]
    }
}
