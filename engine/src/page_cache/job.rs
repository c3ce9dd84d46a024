//! Hashes one file, a window at a time: open, survey, then either the whole file or the cached
//! pages, close.
//!
//! The machine keeps running. The places of a window's pages are read before and after its bytes,
//! and the inode at the beginning and at the end; both must be unchanged. A file that keeps
//! changing has no hash after a few attempts.

use core::ops::Range;
use panoptes_tables::room;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_decoders::kernel::super_block::magic;

use super::digest::{Hashers, format_of, of_page};
use super::memory::KernelMemory;
use super::opened::{OpenInode, is_being_written, is_on_a_disk, is_recent};
use super::pages::{COMPOUND_PAGES_MAX, FileAddressSpace, FilePageLocation, WINDOW_PAGES_MAX};
use super::scratch::{HashScratch, NO_RUN, PLACE_BYTES, WINDOW_BYTES, WindowPage};
use super::traits::{self, ShellWordFinder, Traits};
use super::{
    ContentFacts, ContentFormat, FILE_BYTES_MAX, FileIdentity, HashOutcome, PAGE_BYTES, PageDigest,
    PageMatcher, Partial,
};

/// How often the job of a file that changed is restarted.
const ATTEMPTS_MAX: u8 = 4;
/// Maximum number of passes over a recently changed file until two consecutive ones agree.
const PASSES_MAX: u8 = 6;
/// How often a window is read again.
const WINDOW_ATTEMPTS_MAX: u32 = 4;
/// Approximate number of bytes of memory that opening or closing a file reads. A step costs at
/// least that.
const STEP_BYTES: u64 = 4096;
/// Largest huge page, as a power of two: 16 GiB.
const HUGE_PAGE_BITS_MAX: u32 = 34;

/// Maximum number of hole pages of a file, 1 GiB: they cost a guest nothing, but would cost
/// hashing.
const HOLES_MAX: u64 = (1 << 30) / PAGE_BYTES;
const _: () = {
    assert!(COMPOUND_PAGES_MAX * PAGE_BYTES == 1 << HUGE_PAGE_BITS_MAX);
    assert!(FILE_BYTES_MAX / PAGE_BYTES <= u32::MAX as u64, "numbers of pages have 32 bits");
};

static ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

/// A step, and approximately how many bytes of memory it read.
type HashStepResult = Result<(HashStep, u64), EarlyStop>;

/// Result of a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum HashStep {
    /// There is more to do.
    GoesOn,
    /// The job is finished.
    Done(ContentFacts),
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum HashStage {
    #[default]
    Open,
    /// Count the pages that are cached.
    Survey,
    /// All pages are cached: hash the file.
    Whole,
    /// Some pages are cached: compute their digests.
    Pages,
    /// Check that it is still the same file.
    Close,
}

/// The state of hashing one file.
#[derive(Debug, Default)]
pub(super) struct HashJob {
    file: FileIdentity,
    stage: HashStage,
    attempts: u8,
    /// Whether the file changed lately, and if so, how often it was read and with which outcome
    /// last.
    recent: bool,
    passes: u8,
    before: Option<HashOutcome>,
    /// `struct inode *` with the pages; on an overlay, that of a layer.
    real: KernelVa,
    cached: FileAddressSpace,
    /// Size of the kernel's pages, once the file is open.
    page_bytes: u64,
    /// Index of the next page, in the kernel's pages.
    at: u64,
    /// Number of pages of [`PAGE_BYTES`] that are cached.
    resident: u64,
    /// Number of those that are holes, which read as zeros.
    holes: u64,
    /// Whether a cached page cannot be read.
    unreadable: bool,
    /// The reason for which content is missing that is, or may be, in memory.
    stop: Option<EarlyStop>,
    format: ContentFormat,
    traits: Traits,
    words: ShellWordFinder,
    hashers: Hashers,
    digests: Vec<(u32, PageDigest)>,
    outcome: HashOutcome,
}

impl HashJob {
    /// Allocates room for this many page digests. Of a file with more pages, the first ones are
    /// compared.
    pub(super) fn new(digests: usize) -> Self {
        Self { digests: room::list(digests), ..Self::default() }
    }

    /// Starts with another file.
    pub(super) fn begin(&mut self, file: &FileIdentity) {
        self.file = *file;
        self.attempts = 0;
        self.recent = false;
        self.passes = 0;
        self.before = None;
        self.unreadable = false;
        self.stop = None;
        self.traits = Traits::default();
        self.stage = HashStage::Open;
    }

    /// Whether the file changed so lately that its outcome must be checked again later.
    pub(super) const fn is_recent(&self) -> bool {
        self.recent
    }

    /// The reason for which the outcome lacks content that is, or may be, in memory.
    pub(super) const fn stop(&self) -> Option<EarlyStop> {
        self.stop
    }

    /// Does the next step. Returns approximately how many bytes of memory it read.
    pub(super) fn step(
        &mut self,
        memory: &mut KernelMemory<'_>,
        bench: &mut HashScratch,
        judge: &dyn PageMatcher,
    ) -> (HashStep, u64) {
        let worked = match self.stage {
            HashStage::Open => self.open(memory),
            HashStage::Survey => self.survey(memory, bench),
            HashStage::Whole => self.whole(memory, bench),
            HashStage::Pages => self.pages(memory, bench, judge),
            HashStage::Close => self.close(memory),
        };
        let (step, cost) = worked.unwrap_or_else(|stop| (self.again(stop), STEP_BYTES));
        (step, cost.max(STEP_BYTES))
    }

    /// Restarts, unless that was tried often enough.
    fn again(&mut self, stop: EarlyStop) -> HashStep {
        self.attempts += 1;
        if self.attempts >= ATTEMPTS_MAX {
            return self.give_up(stop);
        }
        self.stage = HashStage::Open;
        HashStep::GoesOn
    }

    /// Ends without content for this reason.
    fn give_up(&mut self, stop: EarlyStop) -> HashStep {
        self.stop = Some(stop);
        self.nothing()
    }

    fn known(&self, outcome: HashOutcome) -> ContentFacts {
        ContentFacts { outcome, format: self.format, traits: self.traits }
    }

    /// Searches a piece of the file for the words of [`Traits`].
    fn note_words(&mut self, bytes: &[u8]) {
        if self.file.size <= traits::FILE_BYTES_MAX {
            self.words.add(&mut self.traits, bytes);
        }
    }

    fn nothing(&self) -> HashStep {
        HashStep::Done(self.known(HashOutcome::Nothing))
    }

    /// Reads the inode; an error if it is no longer the file's.
    fn inode(&self, memory: &mut KernelMemory<'_>) -> Result<Attributes, EarlyStop> {
        let layout = &memory.kernel.layouts.inode;
        let unreadable = EarlyStop::Unreadable { address: self.file.inode };
        let inode = memory.object(self.file.inode, &layout.packing).ok_or(unreadable)?;
        let attributes = Attributes::decode(layout, inode);
        let file = &self.file;
        let is_same = attributes.kind() == mode::S_IFREG
            && attributes.ino == file.number
            && attributes.size == file.size
            && attributes.ctime_ns == file.change_time_ns
            && attributes.mtime_ns == file.modify_time_ns;
        if is_same { Ok(attributes) } else { Err(EarlyStop::Changed { address: file.inode }) }
    }

    fn open(&mut self, memory: &mut KernelMemory<'_>) -> HashStepResult {
        (self.format, self.stop) = (ContentFormat::Unknown, None);
        let attributes = self.inode(memory)?;
        let own = self.file.inode;
        let mut opened = OpenInode::read(memory, (own, attributes))?;
        if opened.filesystem.dev != self.file.device {
            return Err(EarlyStop::Changed { address: own });
        }
        opened = match opened.real(memory)? {
            Some(real) => real,
            None => return Ok((self.give_up(EarlyStop::Unreadable { address: own }), STEP_BYTES)),
        };
        let OpenInode { inode: (inode, attributes), mapping, filesystem } = opened;
        self.real = inode;
        if is_being_written(memory, inode)? {
            return Err(EarlyStop::Changed { address: inode });
        }
        let changed = attributes.ctime_ns.max(self.file.change_time_ns);
        self.recent |= is_recent(memory, changed);
        let lives_in_memory = filesystem.lives_in_memory();
        if self.file.size == 0 {
            // Files of /proc and /sys have size 0 too, although they can be read.
            let is_empty = lives_in_memory || is_on_a_disk(memory, filesystem.kind)?;
            self.format = if is_empty { ContentFormat::Other } else { ContentFormat::Unknown };
            let hashes = Hashers::default().finish();
            let outcome =
                if is_empty { HashOutcome::Whole { hashes } } else { HashOutcome::Nothing };
            return Ok((HashStep::Done(self.known(outcome)), STEP_BYTES));
        }
        if self.file.size > FILE_BYTES_MAX {
            let stop = EarlyStop::TooLong { limit: (FILE_BYTES_MAX / PAGE_BYTES) as u32 };
            return Ok((self.give_up(stop), STEP_BYTES));
        }
        self.page_bytes = memory.kernel.space.levels.page_bytes();
        let page_bits = self.page_bytes.trailing_zeros();
        let huge_order = match filesystem.magic {
            magic::HUGETLBFS => u32::from(attributes.block_bits)
                .checked_sub(page_bits)
                .filter(|order| order + page_bits <= HUGE_PAGE_BITS_MAX)
                .ok_or(EarlyStop::Unreadable { address: inode })?,
            _ => 0,
        };
        self.cached = FileAddressSpace {
            mapping: attributes.mapping,
            has_holes: lives_in_memory,
            huge_order,
        };
        if mapping.pages == 0 && !lives_in_memory {
            return Ok((self.nothing(), STEP_BYTES));
        }
        self.go_to(HashStage::Survey);
        Ok((HashStep::GoesOn, STEP_BYTES))
    }

    /// Starts a stage that goes through all pages.
    fn go_to(&mut self, stage: HashStage) {
        self.stage = stage;
        self.at = 0;
        if stage != HashStage::Close {
            self.resident = 0;
        }
        if stage == HashStage::Survey {
            self.holes = 0;
        }
        self.digests.clear();
        self.hashers = Hashers::default();
    }

    /// Number of the file's pages, in the kernel's pages.
    fn page_count(&self) -> u64 {
        self.file.size.div_ceil(self.page_bytes)
    }

    /// Number of pages in the next window.
    fn window(&self) -> u64 {
        let window = (WINDOW_BYTES / self.page_bytes).max(1);
        (self.page_count() - self.at).min(window).min(WINDOW_PAGES_MAX as u64)
    }

    /// Number of the file's pages of [`PAGE_BYTES`] in a range of the kernel's pages.
    fn pieces(&self, range: Range<u64>) -> u64 {
        let byte = |index: u64| index.saturating_mul(self.page_bytes).min(self.file.size);
        byte(range.end).div_ceil(PAGE_BYTES) - byte(range.start).div_ceil(PAGE_BYTES)
    }

    /// Number of bytes of the file in the page at an index.
    fn bytes_at(&self, index: u64) -> u64 {
        self.file.size.saturating_sub(index.saturating_mul(self.page_bytes)).min(self.page_bytes)
    }

    fn survey(&mut self, memory: &mut KernelMemory<'_>, bench: &mut HashScratch) -> HashStepResult {
        let total = self.page_count();
        bench.finder.begin(memory, &self.cached)?;
        let HashScratch { finder, places, .. } = bench;
        let next = finder.skip(memory, self.at, total)?;
        if next > self.at && self.cached.has_holes {
            let pieces = self.pieces(self.at..next);
            self.resident += pieces;
            self.holes += pieces;
        }
        let mut cost = STEP_BYTES;
        self.at = next;
        if self.at < total {
            let count = self.window();
            let places = &mut places[..count as usize];
            finder.find(memory, self.at, places)?;
            for (index, place) in (self.at..).zip(places.iter()) {
                let pieces = self.pieces(index..index + 1);
                match place {
                    FilePageLocation::Missing => continue,
                    FilePageLocation::Hole => self.holes += pieces,
                    FilePageLocation::At(_) => {}
                }
                self.resident += pieces;
            }
            self.at += count;
            cost += count * PLACE_BYTES;
        }
        if self.at < total {
            return Ok((HashStep::GoesOn, cost));
        }
        if self.holes > HOLES_MAX {
            return Ok((self.give_up(EarlyStop::TooLong { limit: HOLES_MAX as u32 }), cost));
        }
        if self.resident == 0 {
            return Ok((self.nothing(), cost));
        }
        let is_whole = self.resident == self.file.size.div_ceil(PAGE_BYTES) && !self.unreadable;
        self.go_to(if is_whole { HashStage::Whole } else { HashStage::Pages });
        Ok((HashStep::GoesOn, cost))
    }

    fn whole(&mut self, memory: &mut KernelMemory<'_>, bench: &mut HashScratch) -> HashStepResult {
        let count = self.read_window(memory, bench)?;
        let mut content = bench.content();
        for index in self.at..self.at + count as u64 {
            let length = self.bytes_at(index) as usize;
            match content.next(length) {
                WindowPage::Missing => {
                    return Err(EarlyStop::Changed { address: self.cached.mapping });
                }
                WindowPage::Unreadable => {
                    self.unreadable = true;
                    return Err(EarlyStop::Unreadable { address: self.cached.mapping });
                }
                WindowPage::Hole => {
                    if index == 0 {
                        self.format = ContentFormat::Other;
                    }
                    let mut left = length;
                    while left > 0 {
                        let zeros = &ZEROS[..left.min(ZEROS.len())];
                        self.hashers.update(zeros);
                        left -= zeros.len();
                    }
                }
                WindowPage::Bytes(bytes) => {
                    if index == 0 {
                        self.format = format_of(bytes);
                    }
                    self.hashers.update(bytes);
                    self.note_words(bytes);
                }
            }
        }
        self.at += count as u64;
        if self.at == self.page_count() {
            self.outcome = HashOutcome::Whole { hashes: self.hashers.finish() };
            self.stage = HashStage::Close;
        }
        Ok((HashStep::GoesOn, WINDOW_BYTES.min(count as u64 * self.page_bytes)))
    }

    fn pages(
        &mut self,
        memory: &mut KernelMemory<'_>,
        bench: &mut HashScratch,
        judge: &dyn PageMatcher,
    ) -> HashStepResult {
        let total = self.page_count();
        bench.finder.begin(memory, &self.cached)?;
        let HashScratch { finder, .. } = bench;
        // In a file that lives in memory a hole is a page too, but a large hole is not worth
        // hashing.
        let next = finder.skip(memory, self.at, total)?;
        if next > self.at && self.cached.has_holes {
            self.resident += self.pieces(self.at..next);
            if self.at == 0 {
                self.format = ContentFormat::Other;
            }
        }
        self.at = next;
        let mut cost = STEP_BYTES;
        if self.at < total {
            let count = self.read_window(memory, bench)?;
            let mut content = bench.content();
            for index in self.at..self.at + count as u64 {
                let length = self.bytes_at(index) as usize;
                let piece = content.next(length);
                let pieces = self.pieces(index..index + 1);
                match piece {
                    WindowPage::Missing => continue,
                    WindowPage::Unreadable => {
                        self.stop = Some(EarlyStop::Unreadable { address: self.cached.mapping });
                        continue;
                    }
                    WindowPage::Hole if index == 0 => self.format = ContentFormat::Other,
                    WindowPage::Hole => {}
                    WindowPage::Bytes(bytes) => {
                        if index == 0 {
                            self.format = format_of(bytes);
                        }
                        self.note_words(bytes);
                        let first = index * self.page_bytes / PAGE_BYTES;
                        for (number, page) in (first..).zip(bytes.chunks(PAGE_BYTES as usize)) {
                            if self.digests.len() < self.digests.capacity() {
                                self.digests.push((number as u32, of_page(page)));
                            }
                        }
                        cost += length as u64;
                    }
                }
                self.resident += pieces;
            }
            self.at += count as u64;
        }
        if self.at < total {
            return Ok((HashStep::GoesOn, cost));
        }
        self.outcome = if self.resident == 0 {
            HashOutcome::Nothing
        } else {
            HashOutcome::Partial(Partial {
                pages: u32::try_from(self.file.size.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX),
                resident: u32::try_from(self.resident).unwrap_or(u32::MAX),
                best_match: judge.best_match(self.file.size, &self.digests),
            })
        };
        self.stage = HashStage::Close;
        Ok((HashStep::GoesOn, cost))
    }

    fn close(&mut self, memory: &mut KernelMemory<'_>) -> HashStepResult {
        // Checked before the inode: a write that begins later changes its time.
        if is_being_written(memory, self.real)? {
            return Err(EarlyStop::Changed { address: self.real });
        }
        let attributes = self.inode(memory)?;
        let address = self.file.inode;
        let own = OpenInode::read(memory, (address, attributes))?;
        let real = own.real(memory)?.ok_or(EarlyStop::Unreadable { address })?;
        let (inode, attributes) = real.inode;
        if inode != self.real || attributes.mapping != self.cached.mapping {
            return Err(EarlyStop::Changed { address });
        }
        if self.recent && self.before.replace(self.outcome) != Some(self.outcome) {
            self.passes += 1;
            self.stage = HashStage::Open;
            let step = if self.passes < PASSES_MAX {
                HashStep::GoesOn
            } else {
                self.give_up(EarlyStop::Changed { address })
            };
            return Ok((step, STEP_BYTES));
        }
        Ok((HashStep::Done(self.known(self.outcome)), STEP_BYTES))
    }

    /// Reads the next window: its places, its bytes, its places again. Returns its number of pages.
    fn read_window(
        &mut self,
        memory: &mut KernelMemory<'_>,
        bench: &mut HashScratch,
    ) -> Result<usize, EarlyStop> {
        let count = self.window() as usize;
        for _ in 0..WINDOW_ATTEMPTS_MAX {
            bench.finder.begin(memory, &self.cached)?;
            let HashScratch { finder, places, .. } = bench;
            finder.find(memory, self.at, &mut places[..count])?;
            self.read_bytes(memory, bench, count)?;
            bench.finder.begin(memory, &self.cached)?;
            let HashScratch { finder, places, again, .. } = bench;
            finder.find(memory, self.at, &mut again[..count])?;
            if places[..count] == again[..count] {
                return Ok(count);
            }
        }
        Err(EarlyStop::Changed { address: self.cached.mapping })
    }

    /// Reads the bytes of the window's pages, adjacent pages in one request.
    fn read_bytes(
        &self,
        memory: &mut KernelMemory<'_>,
        bench: &mut HashScratch,
        count: usize,
    ) -> Result<(), EarlyStop> {
        let HashScratch { bytes, places, runs, .. } = bench;
        bytes.clear();
        runs.fill(NO_RUN);
        let mut at = 0;
        while at < count {
            let FilePageLocation::At(first) = places[at] else {
                at += 1;
                continue;
            };
            let (begin, mut length) = (at, 0_u64);
            while at < count && places[at] == FilePageLocation::At(first.plus(length)) {
                runs[at] = (bytes.len() as u32, length as u32);
                length += self.bytes_at(self.at + at as u64);
                at += 1;
            }
            debug_assert!(at > begin, "the first page starts a request");
            let no_room = EarlyStop::NoRoom { rows: WINDOW_PAGES_MAX as u32 };
            bytes.push_physical(first, length as u32).ok_or(no_room)?;
        }
        if !bytes.is_empty() {
            bytes.run(&mut memory.source, memory.kernel.space.levels);
        }
        Ok(())
    }
}
