//! [`MemorySource`]: the only access to a watched system.
//!
//! It reads ranges of physical memory in batches, because every real transport (a DMA engine,
//! io_uring, `process_vm_readv`, the CPU's own queue of misses) is fast only with many reads in
//! flight. The implementations are in `panoptes-sources`.

use core::fmt::Display;
use core::ops::Range;

use crate::address::PhysicalAddress;

/// Page size that sources use to account for memory, in bytes.
pub const PAGE_BYTES: u64 = 4096;
/// Physical addresses are below this: they have at most 52 bits on x86-64 and arm64.
pub const ADDRESS_END: u64 = 1 << 52;
/// Length of a line of the processor's cache in bytes, on every supported host and guest.
pub const CACHE_LINE_BYTES: usize = 64;

const _: () = {
    assert!(ADDRESS_END.is_multiple_of(PAGE_BYTES), "the last page of all is whole");
    assert!(PAGE_BYTES.is_multiple_of(CACHE_LINE_BYTES as u64), "no line is in two pages");
};

/// The result of one request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReadOutcome {
    #[default]
    Pending,
    /// All bytes are in the arena. Memory that the machine has never touched reads as zeros.
    Read,
    /// The machine has no memory there, or the source lacks it; the arena has zeros.
    NotBacked,
    /// The memory exists but could not be read; the arena's bytes are undefined.
    Failed,
}

/// One read of a batch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReadRequest {
    /// First byte to read.
    pub address: PhysicalAddress,
    /// Number of bytes; may cross pages, never wraps.
    pub length: u32,
    /// Offset in the arena of the copy.
    pub target: u32,
    /// Set by the source.
    pub outcome: ReadOutcome,
}

impl ReadRequest {
    /// A pending request.
    pub const fn new(address: PhysicalAddress, length: u32, target: u32) -> Self {
        Self { address, length, target, outcome: ReadOutcome::Pending }
    }

    /// The bytes of the arena that this request fills, or `None` if the arena is too short.
    pub fn target_range(&self, arena_bytes: usize) -> Option<Range<usize>> {
        let start = self.target as usize;
        let end = start.checked_add(self.length as usize)?;
        (end <= arena_bytes).then_some(start..end)
    }

    /// Answers each of `requests` separately, for sources without a gain from batches: `answer`
    /// gets the address and the bytes to fill.
    pub fn answer_each(
        requests: &mut [Self],
        arena: &mut [u8],
        mut answer: impl FnMut(u64, &mut [u8]) -> ReadOutcome,
    ) {
        for request in requests {
            request.outcome = match request.target_range(arena.len()) {
                Some(range) => answer(request.address.0, &mut arena[range]),
                None => ReadOutcome::Failed,
            };
        }
    }
}

/// Reads a machine's physical memory.
pub trait MemorySource {
    /// Answers every request: copies its bytes into `arena` at `target` and sets its `outcome`. A
    /// request whose target is outside the arena is `Failed`. Reading never changes the watched
    /// machine: it allocates no page that the machine has not touched.
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]);

    /// The ranges of physical addresses with memory, ascending, not overlapping.
    fn regions(&self) -> &[Range<u64>];

    /// The first range at or after `from` that may hold anything but zeros, for sweeps over all
    /// memory; `None` if there is none. A source that cannot know returns the rest of the region.
    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        self.regions()
            .iter()
            .find(|region| region.end > from.0)
            .map(|region| region.start.max(from.0)..region.end)
    }

    /// Moves all memory `bytes` up (wrapping, whole pages): the memory at address 0 is then at
    /// `bytes`. For raw memory files, whose start address only the content reveals. A source that
    /// knows its addresses does nothing and returns `false`.
    fn move_by(&mut self, _bytes: u64) -> bool {
        false
    }

    /// Reads one range, for cold paths such as discovery; `false` unless all bytes were read.
    fn read_exact(&mut self, address: PhysicalAddress, bytes: &mut [u8]) -> bool {
        let Ok(length) = u32::try_from(bytes.len()) else { return false };
        let mut requests = [ReadRequest::new(address, length, 0)];
        self.read_batch(&mut requests, bytes);
        requests[0].outcome == ReadOutcome::Read
    }
}

impl<S: MemorySource + ?Sized> MemorySource for &mut S {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
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

/// The memory of a machine that may change, move or end while it is watched. The defaults are those
/// of memory that does none of these, such as a dump.
pub trait MachineSource: MemorySource {
    /// Checks whether the backing file or process has changed. Call it between scans. An error here
    /// occurs again when memory is read.
    fn refresh(&mut self) {}

    /// Number of candidate layouts of physical memory; the likeliest has index 0. The page tables
    /// of the kernel in it show which is right.
    fn layouts(&self) -> usize {
        1
    }

    /// Switches to a layout; the first one is in force initially. A layout that cannot be opened is
    /// ignored.
    fn choose_layout(&mut self, _index: usize) {}

    /// Whether the machine is known to be gone, as of the last [`Self::refresh`].
    fn has_ended(&self) -> bool {
        false
    }

    /// Whether the memory file has been removed since it was opened.
    fn is_unlinked(&self) -> bool {
        false
    }

    /// Passes a description of what the transport has lost so far to `report`, if it has lost
    /// anything.
    fn losses(&self, _report: &mut dyn FnMut(&dyn Display)) {}
}
