//! [`MappedMemory`]: memory in a file: a live guest's shared RAM, or a raw dump.
//!
//! The file is mapped once, read-only. Every request is a copy out of the mapping, and requests
//! further ahead in the batch are prefetched: 20 to 60 times cheaper than any system call.
//!
//! Two requirements shape this module:
//!
//! - *Reading must not allocate a page that the guest has never touched.* Reading a hole of a file
//!   in memory (tmpfs, memfd) through a mapping allocates it. So a page is read through the mapping
//!   only once it is known to hold data. For any other page lseek, which touches nothing, finds out
//!   first; a hole reads as zeros. If a balloon frees a page later, the kernel keeps the page free
//!   where the mapping can be guarded ([`super::mapping`]). Elsewhere [`MappedMemory::refresh`]
//!   between two scans makes the source forget which pages hold data.
//! - *A file that shrinks must not end the process.* Reading past its end raises SIGBUS, as a
//!   guarded hole does; see [`super::sigbus`]. The request is then answered by system calls, and
//!   fails past the end of the file. From then on all requests use system calls. On hugetlbfs,
//!   where lseek finds no holes, they do so from the start.
//!
//! Dumps that store memory uncompressed are read here too, once [`super::dump`] has parsed their
//! headers.
//!
//! Not for: compressed formats, or RAM that is not in a file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{
    MachineSource, MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest,
};

use super::extents::{ExtentKind, next_extent, place};
use super::mapping::{FileMapping, Keeper};
use super::open::open_regular;
use super::pages::BitSet;
use super::pieces::answer_pieces;
use super::{LayoutProblem, SourceError};

/// Number of requests to prefetch ahead of the one that is copied. A random request of 64 bytes in
/// 1 GiB takes 36 ns with 0, 15 ns with 16, 13 ns with 32, and no less with 64
/// (`measure_random_requests`, Zen 5).
const REQUESTS_AHEAD: usize = 32;

/// The file offset of a request that no single segment has.
const NOWHERE: u64 = u64::MAX;

/// The largest file: a bit for each of its pages takes 512 MiB.
const FILE_BYTES_MAX: u64 = 1 << 44;

/// A range of physical memory and its place in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segment {
    /// The physical addresses, whole pages.
    pub physical: Range<u64>,
    /// Offset in the file of the first byte, a whole number of pages.
    pub offset: u64,
}

impl Segment {
    /// The layout of a machine whose memory has one hole: the file's first `low_bytes` are at
    /// physical address 0, the rest is at `high_start`. QEMU's machines with much memory have such
    /// a hole; its monitor shows the two numbers (`info mtree`).
    pub fn around_hole(file_bytes: u64, low_bytes: u64, high_start: u64) -> Vec<Self> {
        let low = Self { physical: 0..low_bytes.min(file_bytes), offset: 0 };
        if file_bytes <= low_bytes {
            return vec![low];
        }
        let high_end = high_start.saturating_add(file_bytes - low_bytes);
        vec![low, Self { physical: high_start..high_end, offset: low_bytes }]
    }

    /// The file offset of an address, and the number of bytes in its segment from there on.
    #[inline]
    pub(super) fn locate(segments: &[Self], address: u64) -> Option<(u64, u64)> {
        // Most files have one or two segments; a dump may have very many.
        let segment = match segments {
            [one] => one,
            [low, high] if address < high.physical.start => low,
            [_, high] => high,
            _ => {
                let after = segments.partition_point(|s| s.physical.start <= address);
                &segments[after.checked_sub(1)?]
            }
        };
        let Range { start, end } = segment.physical;
        (start..end).contains(&address).then(|| (segment.offset + (address - start), end - address))
    }
}

/// Counters of a [`MappedMemory`] since it was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct MappedCounts {
    /// Requests that touched a page not known to hold data, so that lseek was needed.
    pub slow: u64,
    /// Holes read as zeros: pages that the guest has not touched, or that a sparse copy left out.
    pub holes: u64,
    /// Requests answered [`ReadOutcome::Failed`].
    pub failed: u64,
    /// Requests read by system calls instead of through the mapping.
    pub by_call: u64,
    /// SIGBUS signals handled: pages that were known to hold data, but are gone.
    pub signals: u64,
}

/// A machine's memory in a file, mapped.
#[derive(Debug)]
pub struct MappedMemory {
    file: File,
    bytes: u64,
    mapping: FileMapping,
    /// Set once the mapping cannot be trusted (the file has shrunk) or must not be touched
    /// (hugetlbfs).
    by_call: bool,
    truncated: bool,
    beginning: LayoutCertainty,
    /// Number of names of the file when it was opened, and as of the last refresh.
    links: (u64, u64),
    /// The file's pages that are known to hold data.
    known: BitSet,
    segments: Vec<Segment>,
    regions: Vec<Range<u64>>,
    forget: Forget,
    stamp: Stamp,
    /// Whether the next refresh forgets even if the stamp is unchanged.
    forget_again: bool,
    counts: MappedCounts,
}

/// When to forget which pages hold data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Forget {
    /// The mapping is guarded, so a wrongly known page only costs a signal; or holes cannot be
    /// found.
    Never,
    /// In memory without a guard: when the file's change time differs. Punching a hole sets it. So
    /// does a guest's first write to a page (fault_dirty_shared_page, mm/memory.c), but no later
    /// one.
    WhenChanged,
    /// On a disk: when the file has fewer blocks. Reading does not fill a hole there, and every
    /// write after a page was written out sets the change time.
    WhenSmaller,
}

/// Whether the physical address of the memory's beginning is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LayoutCertainty {
    /// The caller gave the layout.
    Known,
    /// The file has no headers, so the layout is a guess.
    Assumed,
}

/// The file's metadata at the last refresh.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Stamp {
    bytes: u64,
    blocks: u64,
    changed: (i64, i64),
}

impl MappedMemory {
    /// Opens a file of raw memory in the likeliest of its [`Self::layouts`], which
    /// [`MachineSource::choose_layout`] and [`MemorySource::move_by`] change.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let (file, _) = open_regular(path)?;
        Self::from_flat_file(file, path)
    }

    pub(super) fn from_flat_file(file: File, path: &Path) -> Result<Self, SourceError> {
        let bytes = super::open::check(&file, path)?;
        let layout = layouts_of(bytes).next().unwrap_or_default();
        Ok(Self {
            beginning: LayoutCertainty::Assumed,
            ..Self::new(file, path, bytes, layout, true)?
        })
    }

    /// Uses a file that is open for reading and holds the machine's memory in one or more segments,
    /// in ascending order of their physical addresses. Messages name it `path`. Moves the position
    /// of the descriptor.
    pub fn from_file(file: File, path: &Path, layout: Vec<Segment>) -> Result<Self, SourceError> {
        let bytes = super::open::check(&file, path)?;
        Self::new(file, path, bytes, layout, true)
    }

    fn new(
        file: File,
        path: &Path,
        bytes: u64,
        segments: Vec<Segment>,
        guarded: bool,
    ) -> Result<Self, SourceError> {
        check_layout(&segments, bytes)?;
        let regions = segments.iter().map(|segment| segment.physical.clone()).collect();
        Self::map(file, path, bytes, segments, regions, guarded)
    }

    /// Uses an uncompressed dump. Its segments are in order of physical addresses, at any offsets.
    /// `regions` are the ranges of memory that the dump describes; parts of them may be in no
    /// segment.
    pub(super) fn from_dump(
        file: File,
        path: &Path,
        segments: Vec<Segment>,
        regions: Vec<Range<u64>>,
    ) -> Result<Self, SourceError> {
        let bytes = super::open::check_regular(&file, path)?;
        Self::map(file, path, bytes, segments, regions, true)
    }

    fn map(
        file: File,
        path: &Path,
        bytes: u64,
        segments: Vec<Segment>,
        regions: Vec<Range<u64>>,
        guarded: bool,
    ) -> Result<Self, SourceError> {
        if bytes > FILE_BYTES_MAX {
            return Err(SourceError::TooLarge { bytes });
        }
        let failed = |doing| SourceError::file(path, doing);
        let keeper = Keeper::of(&file).map_err(failed("examine"))?;
        // On hugetlbfs, which pages exist is only known if all do; blocks are 512 bytes.
        let by_call = matches!(keeper, Keeper::HugePages(_))
            && file.metadata().map_err(failed("examine"))?.blocks() < bytes / 512;
        let mapping = FileMapping::new(&file, bytes as usize, keeper, guarded)
            .map_err(failed("map"))?
            .ok_or(SourceError::Mappings)?;
        let forget = match keeper {
            Keeper::Memory if !mapping.is_guarded() => Forget::WhenChanged,
            Keeper::Disk => Forget::WhenSmaller,
            Keeper::Memory | Keeper::HugePages(_) => Forget::Never,
        };
        let mut source = Self {
            file,
            bytes,
            mapping,
            by_call,
            truncated: false,
            beginning: LayoutCertainty::Known,
            links: (0, 0),
            known: BitSet::new(bytes.div_ceil(PAGE_BYTES) as usize),
            regions,
            segments,
            forget,
            stamp: Stamp::default(),
            forget_again: false,
            counts: MappedCounts::default(),
        };
        source.refresh().map_err(failed("examine"))?;
        source.links.0 = source.links.1;
        Ok(source)
    }

    /// Checks with one system call whether pages of the file were freed or the file has shrunk.
    /// Call it between scans: without a guard, a page that a balloon has freed stays free only
    /// after that. Returns whether each page is checked again before it is read.
    pub fn refresh(&mut self) -> io::Result<bool> {
        let facts = self.file.metadata()?;
        let stamp = Stamp {
            bytes: facts.len(),
            blocks: facts.blocks(),
            changed: (facts.ctime(), facts.ctime_nsec()),
        };
        self.links.1 = facts.nlink();
        let before = std::mem::replace(&mut self.stamp, stamp);
        if stamp.bytes < self.bytes {
            self.give_mapping_up();
        }
        let changed = match self.forget {
            Forget::Never => false,
            Forget::WhenChanged => stamp != before,
            Forget::WhenSmaller => stamp.blocks < before.blocks || stamp.bytes < before.bytes,
        };
        // Before 6.13 change times are as coarse as the kernel's tick: a page freed later in the
        // same tick leaves no trace. So forget once more after a change.
        let forget = changed || self.forget_again;
        self.forget_again = changed;
        if forget {
            self.known.clear();
        }
        Ok(forget)
    }

    /// Whether the file has shrunk since it was opened, or a part of it could not be read.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Counters since the file was opened.
    pub fn counts(&self) -> MappedCounts {
        self.counts
    }

    fn give_mapping_up(&mut self) {
        self.truncated = true;
        self.by_call = true;
    }

    /// The file offset of a range that is in one segment.
    #[inline]
    fn locate(&self, address: u64, bytes: u64) -> Option<u64> {
        let (offset, left) = Segment::locate(&self.segments, address)?;
        (bytes <= left).then_some(offset)
    }

    /// Begins to fetch the bytes of a request into the CPU's cache. Returns their file offset, or
    /// [`NOWHERE`] if they are not in one segment.
    #[inline]
    fn begin(&self, request: &ReadRequest) -> u64 {
        let offset = self.locate(request.address.0, u64::from(request.length));
        if let Some(offset) = offset {
            self.mapping.prefetch(offset as usize, request.length as usize);
        }
        offset.unwrap_or(NOWHERE)
    }

    #[inline]
    fn read_ahead<const AHEAD: usize>(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        // The file offsets of the next requests.
        let mut offsets = [NOWHERE; AHEAD];
        if !self.by_call {
            offsets.iter_mut().zip(&*requests).for_each(|(at, request)| *at = self.begin(request));
        }
        for index in 0..requests.len() {
            let offset = if let Some(place) = offsets.get_mut(index % AHEAD.max(1)) {
                let later = requests.get(index + AHEAD).map(|later| self.begin(later));
                core::mem::replace(place, later.unwrap_or(NOWHERE))
            } else {
                let ReadRequest { address, length, .. } = requests[index];
                self.locate(address.0, length.into()).unwrap_or(NOWHERE)
            };
            let request = &mut requests[index];
            request.outcome = match request.target_range(arena.len()) {
                Some(range) => self.answer(request.address.0, offset, &mut arena[range]),
                None => ReadOutcome::Failed,
            };
        }
    }

    /// Answers a request whose bytes are at `offset` of the file.
    #[inline]
    fn answer(&mut self, address: u64, offset: u64, target: &mut [u8]) -> ReadOutcome {
        if target.is_empty() {
            return ReadOutcome::Read;
        }
        if offset != NOWHERE {
            let (first, last) = page_span(offset, target.len());
            if self.known.contains_all(first, last)
                && !self.by_call
                && self.mapping.copy(offset as usize, target)
            {
                return ReadOutcome::Read;
            }
        }
        self.answer_slowly(address, target)
    }

    /// Answers a request that needs more than a copy: one of its pages is not known to hold data,
    /// it is in no segment or in several, or the mapping is broken there.
    #[cold]
    fn answer_slowly(&mut self, address: u64, target: &mut [u8]) -> ReadOutcome {
        let outcome = answer_pieces(address, target, |at, target| {
            let (offset, left) =
                Segment::locate(&self.segments, at).ok_or(ReadOutcome::NotBacked)?;
            // Page by page: a page may exist while its neighbour does not.
            let in_page = left.min(PAGE_BYTES - offset % PAGE_BYTES) as usize;
            let piece = in_page.min(target.len());
            let bytes = &mut target[..piece];
            match self.read_piece(offset, bytes) {
                ReadOutcome::Read => {}
                // A hole in the file is memory that was never written, or zeros that a sparse copy
                // did not store.
                ReadOutcome::NotBacked => bytes.fill(0),
                outcome => return Err(outcome),
            }
            Ok(piece)
        });
        self.counts.failed += u64::from(outcome == ReadOutcome::Failed);
        outcome
    }

    /// Reads bytes of the file that are in one segment.
    fn read_piece(&mut self, offset: u64, target: &mut [u8]) -> ReadOutcome {
        // The copy before this call may have set the mark already.
        if !self.by_call && !self.mapping.is_broken() {
            let there = self.ask(offset, target.len());
            if there != ReadOutcome::Read || self.mapping.copy(offset as usize, target) {
                return there;
            }
        }
        if !self.by_call {
            self.counts.signals += 1;
            let (first, last) = page_span(offset, target.len());
            (first..=last).for_each(|page| self.known.remove(page));
            self.by_call = self.mapping.mend(&self.file).is_err();
        }
        let there = self.ask(offset, target.len());
        if there != ReadOutcome::Read {
            return there;
        }
        self.counts.by_call += 1;
        match self.file.read_exact_at(target, offset) {
            Ok(()) => ReadOutcome::Read,
            Err(error) => {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    self.give_mapping_up();
                }
                ReadOutcome::Failed
            }
        }
    }

    /// Finds out with lseek whether all pages of a range hold data, where that is not known yet.
    /// Returns [`ReadOutcome::Read`] if all do, else the outcome of the first that does not.
    fn ask(&mut self, offset: u64, bytes: usize) -> ReadOutcome {
        let (first, last) = page_span(offset, bytes);
        if self.known.contains_all(first, last) {
            return ReadOutcome::Read;
        }
        self.counts.slow += 1;
        for page in first..=last {
            if self.known.contains(page) {
                continue;
            }
            match place(&self.file, page as u64 * PAGE_BYTES) {
                Ok(ExtentKind::Data) => _ = self.known.insert(page),
                Ok(ExtentKind::Hole) => {
                    self.counts.holes += 1;
                    return ReadOutcome::NotBacked;
                }
                Ok(ExtentKind::PastEnd) => {
                    self.give_mapping_up();
                    return ReadOutcome::Failed;
                }
                Err(_) => return ReadOutcome::Failed,
            }
        }
        ReadOutcome::Read
    }
}

impl MachineSource for MappedMemory {
    fn refresh(&mut self) {
        let _ = Self::refresh(self);
    }

    fn layouts(&self) -> usize {
        // Machines with so little memory that none of it goes around a hole do not differ.
        match self.beginning {
            LayoutCertainty::Known => 1,
            LayoutCertainty::Assumed => layouts_of(self.bytes).count(),
        }
    }

    fn choose_layout(&mut self, index: usize) {
        if self.beginning == LayoutCertainty::Assumed
            && let Some(segments) = layouts_of(self.bytes).nth(index)
        {
            self.regions = segments.iter().map(|segment| segment.physical.clone()).collect();
            self.segments = segments;
        }
    }

    fn is_unlinked(&self) -> bool {
        self.links.0 > 0 && self.links.1 == 0
    }
}

impl MemorySource for MappedMemory {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.read_ahead::<REQUESTS_AHEAD>(requests, arena);
    }

    fn regions(&self) -> &[Range<u64>] {
        &self.regions
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        let first = self.segments.partition_point(|segment| segment.physical.end <= from.0);
        for index in first..self.segments.len() {
            let Segment { physical, offset } = &self.segments[index];
            let (base, start) = (*offset, physical.start);
            let end = base + (physical.end - start);
            let begin = base + (from.0.max(start) - start);
            match next_extent(&self.file, begin, end) {
                Ok(Some(extent)) => {
                    self.known.insert_range(pages(&extent));
                    let found = start + (extent.start - base)..start + (extent.end - base);
                    // A page of a dump may straddle two pages of the file: it counts as data if
                    // either of them does.
                    let whole = found.start / PAGE_BYTES * PAGE_BYTES;
                    return Some(whole.max(start).max(from.0)..found.end);
                }
                Ok(None) => {}
                // The caller meets and reports the error when it reads this range.
                Err(_) => return Some(from.0.max(start)..start + (end - base)),
            }
        }
        None
    }

    fn move_by(&mut self, bytes: u64) -> bool {
        let [segment] = self.segments.as_mut_slice() else { return false };
        let start = segment.physical.start.wrapping_add(bytes);
        let length = segment.physical.end - segment.physical.start;
        let Some(end) = start
            .checked_add(length)
            .filter(|_| self.beginning == LayoutCertainty::Assumed && start % PAGE_BYTES == 0)
        else {
            return false;
        };
        segment.physical = start..end;
        self.regions[0] = start..end;
        true
    }
}

/// Memory splits of machines that put a part of their memory above 4 GiB, to leave room for
/// devices: the least total memory that is split, and how much of it stays below 4 GiB, in bytes.
const LOW_MEMORY: [(u64, u64); 4] = [
    // QEMU's q35 (hw/i386/pc_q35.c, pc_q35_init) without `max-ram-below-4g`.
    (0xb000_0000, 0x8000_0000),
    // QEMU's i440fx from 0xe000_0000 on (hw/i386/pc_piix.c, pc_init1) and Cloud Hypervisor.
    (0xc000_0001, 0xc000_0000),
    // Firecracker.
    (0xd000_0001, 0xd000_0000),
    // `max-ram-below-4g=3.5G`, as on Xen.
    (0xe000_0001, 0xe000_0000),
];

/// The layouts that a file of raw memory may have. Its size does not decide between them; the page
/// tables of the kernel in it do.
fn layouts_of(bytes: u64) -> impl Iterator<Item = Vec<Segment>> {
    let around = LOW_MEMORY.into_iter().filter(move |(least, _)| bytes >= *least);
    let around = around.map(move |(_, low)| Segment::around_hole(bytes, low, 1 << 32));
    around.chain(std::iter::once(vec![Segment { physical: 0..bytes, offset: 0 }]))
}

/// The first and the last page of a range of a file; `bytes` is at least 1.
#[inline]
fn page_span(offset: u64, bytes: usize) -> (usize, usize) {
    let last = offset + (bytes as u64 - 1);
    ((offset / PAGE_BYTES) as usize, (last / PAGE_BYTES) as usize)
}

/// The pages that a range of a file touches.
fn pages(range: &Range<u64>) -> Range<usize> {
    (range.start / PAGE_BYTES) as usize..range.end.div_ceil(PAGE_BYTES) as usize
}

fn check_layout(segments: &[Segment], file_bytes: u64) -> Result<(), SourceError> {
    let wrong = |segment, problem| Err(SourceError::Layout { segment, problem });
    if segments.is_empty() {
        return wrong(0, LayoutProblem::Missing);
    }
    let mut end = 0;
    for (index, Segment { physical, offset }) in segments.iter().enumerate() {
        if physical.start >= physical.end {
            return wrong(index, LayoutProblem::Empty);
        }
        if [physical.start, physical.end, *offset].iter().any(|at| at % PAGE_BYTES != 0) {
            return wrong(index, LayoutProblem::Unaligned);
        }
        if physical.start < end {
            return wrong(index, LayoutProblem::Unordered);
        }
        end = physical.end;
        let stop = offset.checked_add(physical.end - physical.start);
        if stop.is_none_or(|stop| stop > file_bytes) {
            return wrong(index, LayoutProblem::PastEnd);
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of regions with one region")]
mod tests;
