//! [`MemorySource`]: the only way to touch a watched system.
//!
//! It is a scatter read of physical memory. It is a batch because every real transport (a DMA engine,
//! io_uring, `process_vm_readv`, the CPU's own queue of misses) is fast only with many reads in flight.
//! The implementations are in `panoptes-engine`'s `source`.

use core::ops::Range;

use crate::address::PhysicalAddress;

/// Size in bytes of the page in which sources account for memory.
pub const PAGE_BYTES: u64 = 4096;

/// What became of one request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Outcome {
    /// Not answered yet.
    #[default]
    Pending,
    /// All the bytes are in the arena. Memory that the machine has never touched reads as zeros.
    Read,
    /// The machine has no memory there, or the source does not have it; the arena holds zeros.
    NotBacked,
    /// The memory is there but could not be read; the arena's bytes mean nothing.
    Failed,
}

/// One read of a batch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// First byte to read.
    pub address: PhysicalAddress,
    /// Count of bytes; may cross pages, never wraps.
    pub length: u32,
    /// Offset in the arena of the first byte's copy.
    pub target: u32,
    /// Filled in by the source.
    pub outcome: Outcome,
}

impl Request {
    /// A request that has not been answered.
    pub const fn new(address: PhysicalAddress, length: u32, target: u32) -> Self {
        Self { address, length, target, outcome: Outcome::Pending }
    }

    /// The bytes of the arena that this request fills, or `None` if they do not all lie in it.
    pub fn target_range(&self, arena_bytes: usize) -> Option<Range<usize>> {
        let start = self.target as usize;
        let end = start.checked_add(self.length as usize)?;
        (end <= arena_bytes).then_some(start..end)
    }

    /// Answers each of `requests` by itself, for sources that gain nothing by batches: `answer` is given the
    /// address and the bytes to fill.
    pub fn answer_each(
        requests: &mut [Self],
        arena: &mut [u8],
        mut answer: impl FnMut(u64, &mut [u8]) -> Outcome,
    ) {
        for request in requests {
            request.outcome = match request.target_range(arena.len()) {
                Some(range) => answer(request.address.0, &mut arena[range]),
                None => Outcome::Failed,
            };
        }
    }
}

/// A scatter read of a machine's physical memory.
pub trait MemorySource {
    /// Answers every request: its bytes are copied into `arena` at `target` and its `outcome` is set.
    /// A request whose target lies outside the arena is `Failed`. Reading never changes the watched
    /// machine: no page that it has not touched comes into being.
    fn read_batch(&mut self, requests: &mut [Request], arena: &mut [u8]);

    /// The ranges of physical addresses where the machine has memory, ascending, not overlapping.
    fn regions(&self) -> &[Range<u64>];

    /// The first range at or after `from` that may hold anything but zeros, for sweeps over all memory;
    /// `None` when there is no more. A source that cannot know returns the rest of the region.
    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        self.regions()
            .iter()
            .find(|region| region.end > from.0)
            .map(|region| region.start.max(from.0)..region.end)
    }

    /// Moves all memory `bytes` upwards (wrapping, whole pages), so that what was at address 0 is at
    /// `bytes`: for a file that is nothing but memory, whose beginning only the memory itself tells.
    /// `false`, and nothing done, from a source that knows its addresses.
    fn move_by(&mut self, bytes: u64) -> bool {
        let _ = bytes;
        false
    }

    /// Reads one range, for cold paths such as discovery; `false` unless all of it was read.
    fn read_exact(&mut self, address: PhysicalAddress, bytes: &mut [u8]) -> bool {
        let Ok(length) = u32::try_from(bytes.len()) else { return false };
        let mut requests = [Request::new(address, length, 0)];
        self.read_batch(&mut requests, bytes);
        requests[0].outcome == Outcome::Read
    }
}

impl<S: MemorySource + ?Sized> MemorySource for &mut S {
    fn read_batch(&mut self, requests: &mut [Request], arena: &mut [u8]) {
        (**self).read_batch(requests, arena);
    }

    fn regions(&self) -> &[Range<u64>] {
        (**self).regions()
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        (**self).next_data(from)
    }

    fn move_by(&mut self, bytes: u64) -> bool {
        (**self).move_by(bytes)
    }
}
