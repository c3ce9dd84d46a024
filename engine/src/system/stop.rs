//! A request to stop that ends sweeps over memory, which can take minutes on a large machine.

use std::fmt;
use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, Request};

/// Answers whether a search for a kernel must stop.
#[derive(Clone, Copy)]
pub struct Stop<'a>(Option<&'a dyn Fn() -> bool>);

impl<'a> Stop<'a> {
    /// Never stops.
    pub const NEVER: Self = Self(None);

    /// Stops as soon as `is_requested` returns `true`. It must then return `true` every time. It is
    /// called once a step, and about once for each MiB of a sweep.
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

/// A source whose sweeps end at a request to stop: every sweep asks it for the next data.
pub(super) struct Stoppable<'a> {
    pub(super) source: &'a mut dyn MemorySource,
    pub(super) stop: Stop<'a>,
}

impl MemorySource for Stoppable<'_> {
    fn read_batch(&mut self, requests: &mut [Request], arena: &mut [u8]) {
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
