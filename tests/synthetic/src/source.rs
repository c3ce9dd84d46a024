//! [`Source`]: a machine as the engine reads it, with a hook before each batch.

use std::borrow::BorrowMut;
use std::fmt;
use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MachineSource, MemorySource, ReadOutcome, ReadRequest};

use crate::machine::Machine;

/// What was read from a machine so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub batches: u64,
    /// Requests in all batches.
    pub pieces: u64,
    /// Bytes of all requests.
    pub bytes: u64,
}

/// When a [`Source`] calls its hook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When<'a> {
    /// Before a batch.
    Batch(&'a [ReadRequest]),
    /// Before one request of a batch; the ones before it have been answered.
    Piece(&'a ReadRequest),
}

/// Changes a machine before a read; gets what was read so far.
pub type Hook<'h> = dyn FnMut(&mut Machine, When<'_>, Counts) + Send + 'h;

/// Reads a machine's memory and counts what is read. `M` is a [`Machine`] or a `&mut Machine`.
pub struct Source<'h, M> {
    machine: M,
    hook: Option<Box<Hook<'h>>>,
    counts: Counts,
    region: Range<u64>,
}

impl<M> fmt::Debug for Source<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl<'h, M: BorrowMut<Machine>> Source<'h, M> {
    /// A source without a hook.
    pub fn new(machine: M) -> Self {
        let region = 0..machine.borrow().memory.size();
        Self { machine, hook: None, counts: Counts::default(), region }
    }

    /// A source that calls `hook` before each batch and before each request.
    pub fn with_hook(
        machine: M,
        hook: impl FnMut(&mut Machine, When<'_>, Counts) + Send + 'h,
    ) -> Self {
        Self { hook: Some(Box::new(hook)), ..Self::new(machine) }
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Sets the counts to zero.
    pub fn reset_counts(&mut self) {
        self.counts = Counts::default();
    }

    /// The machine, to change it between scans.
    pub fn machine(&mut self) -> &mut Machine {
        self.machine.borrow_mut()
    }

    fn answer(&mut self, request: &mut ReadRequest, arena: &mut [u8]) {
        self.machine.borrow_mut().memory.note_read();
        self.counts.pieces += 1;
        self.counts.bytes += u64::from(request.length);
        let Some(target) = request.target_range(arena.len()) else {
            request.outcome = ReadOutcome::Failed;
            return;
        };
        let start = usize::try_from(request.address.0).unwrap_or(usize::MAX);
        let found = start.checked_add(target.len());
        let found = found.and_then(|end| self.machine.borrow().memory.bytes().get(start..end));
        request.outcome = if let Some(bytes) = found {
            arena[target].copy_from_slice(bytes);
            ReadOutcome::Read
        } else {
            arena[target].fill(0);
            ReadOutcome::NotBacked
        };
    }
}

impl<M: BorrowMut<Machine>> MemorySource for Source<'_, M> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        if let Some(hook) = &mut self.hook {
            hook(self.machine.borrow_mut(), When::Batch(requests), self.counts);
        }
        self.counts.batches += 1;
        for request in requests {
            if let Some(hook) = &mut self.hook {
                hook(self.machine.borrow_mut(), When::Piece(request), self.counts);
            }
            self.answer(request, arena);
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        std::slice::from_ref(&self.region)
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        let end = self.machine.borrow().memory.used();
        (from.0 < end).then_some(from.0..end)
    }
}

impl<M: BorrowMut<Machine>> MachineSource for Source<'_, M> {}
