//! A request to stop that ends sweeps over memory, which can take minutes on a large machine.

use std::fmt;
use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};

/// Answers whether a search for a kernel must stop.
#[derive(Clone, Copy)]
pub struct Stop<'a>(Option<&'a dyn Fn() -> bool>);

impl<'a> Stop<'a> {
    /// Never stops.
    pub const NEVER: Self = Self(None);

    /// Stops as soon as `is_requested` returns `true`. It must then return `true` every time. It is
    /// called once a step, once a batch of reads, and about once for each MiB of a sweep.
    pub fn when(is_requested: &'a dyn Fn() -> bool) -> Self {
        Self(Some(is_requested))
    }

    pub(super) fn is_requested(self) -> bool {
        self.0.is_some_and(|is_requested| is_requested())
    }
}

impl fmt::Debug for Stop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.0.is_some()).finish()
    }
}

/// A source that has no data after a request to stop, so that every step of a search ends soon.
pub(super) struct Stoppable<'a> {
    pub(super) source: &'a mut dyn MemorySource,
    pub(super) stop: Stop<'a>,
}

impl MemorySource for Stoppable<'_> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        if self.stop.is_requested() {
            for request in requests {
                request.outcome = ReadOutcome::Failed;
            }
            return;
        }
        self.source.read_batch(requests, arena);
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        if self.stop.is_requested() { None } else { self.source.next_data(from) }
    }

    fn move_by(&mut self, bytes: u64) -> bool {
        self.source.move_by(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Memory without an end, which counts how often it is used.
    struct Endless {
        uses: u32,
        regions: [Range<u64>; 1],
    }

    impl MemorySource for Endless {
        fn read_batch(&mut self, requests: &mut [ReadRequest], _: &mut [u8]) {
            self.uses += 1;
            for request in requests {
                request.outcome = ReadOutcome::Read;
            }
        }

        fn regions(&self) -> &[Range<u64>] {
            &self.regions
        }

        fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
            self.uses += 1;
            Some(from.0..from.0 + 4096)
        }
    }

    #[test]
    fn after_a_request_to_stop_memory_is_not_used_any_more() {
        let mut memory = Endless { uses: 0, regions: [Range { start: 0, end: 1 << 40 }] };
        let is_requested = Cell::new(false);
        let has_stop_request = || is_requested.get();
        let stop = Stop::when(&has_stop_request);
        let mut source = Stoppable { source: &mut memory, stop };
        assert!(source.read_exact(PhysicalAddress(0), &mut [0; 8]));
        assert!(source.next_data(PhysicalAddress(0)).is_some());
        is_requested.set(true);
        assert!(!source.read_exact(PhysicalAddress(0), &mut [0; 8]));
        assert!(source.next_data(PhysicalAddress(0)).is_none());
        assert_eq!(memory.uses, 2);
    }
}
