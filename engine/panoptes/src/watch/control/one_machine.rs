//! Recognises functions of DMA devices that give the memory of one machine.
//!
//! What a machine states about itself does not prove that: another machine may state the same.
//! So the memory itself is compared, a few times, at the pages that a running kernel changes all
//! the time (around its first task and its timekeeper), and at pages chosen at random. A clone of
//! the machine has another clock. A machine that only poses as another one would have to equal it
//! everywhere and at any time, and the comparison is repeated as long as its function is unused.
//!
//! A machine may choose what is taken for its first task, and where it seems to have memory. So
//! both must have memory at the same addresses, and most pages are chosen at random.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{CACHE_LINE_BYTES, PAGE_BYTES};
use panoptes_profiles::Profile;
use panoptes_sources::{MemorySource, ReadOutcome, ReadRequest};

use crate::config::{System, SystemAddress};

/// Pages that are compared from that of `init_task` on. The kernel's `jiffies` and its timekeeper
/// are near it (include/asm-generic/vmlinux.lds.h).
const NEAR_PAGES: u64 = 64;
/// Pages that are compared at random places. Much of a machine's memory may be unused, and so equal
/// in all machines. Of comparisons with a machine that differs in 1 % of its pages, 0.0034 % do not
/// show it.
const RANDOM_PAGES: u64 = 1024;
/// How often all pages are read. A line that has two values by turns, each half of the time, seems
/// different in a quarter of the rounds, and in all of these once in 65,536 comparisons.
const ROUNDS: usize = 8;
/// Rounds in which a line must differ.
const DIFFERENT_ROUNDS: u8 = 2;

/// A machine that is watched, or about to be, through a function of a DMA device.
#[derive(Clone, Debug)]
pub(super) struct DmaMachine {
    pub(super) system: Arc<System>,
    /// The page of the kernel's first task.
    page: u64,
    /// Its bytes: those of another kernel, or of another place, are quite different.
    sample: Arc<[u8]>,
    /// Pages with the kernel's clock.
    clock: Option<u64>,
    serial: u64,
}

impl DmaMachine {
    /// `None` if the page cannot be read: then it cannot be compared.
    pub(super) fn of(
        system: &Arc<System>,
        profile: &Profile,
        source: &mut impl MemorySource,
    ) -> Option<Self> {
        let page = |address: PhysicalAddress| address.0 / PAGE_BYTES * PAGE_BYTES;
        let linear = |address| profile.space.linear(address).map(page);
        let clock = profile.timekeeper.and_then(linear);
        let page = profile.symbols.init_task.and_then(linear).unwrap_or(page(profile.found_at));
        let mut sample = vec![0; PAGE_BYTES as usize];
        let is_read = source.read_exact(PhysicalAddress(page), &mut sample);
        let known =
            Self { system: Arc::clone(system), page, sample: sample.into(), clock, serial: 0 };
        is_read.then_some(known)
    }

    /// One whose memory was not read.
    #[cfg(test)]
    pub(super) fn unread(system: &Arc<System>) -> Self {
        let system = Arc::clone(system);
        Self { system, page: 0, sample: Arc::default(), clock: None, serial: 0 }
    }

    /// Whether the memory may be this machine's: half of the sample is the same. `None` if it
    /// cannot be read.
    fn resembles(&self, source: &mut impl MemorySource) -> Option<bool> {
        let mut bytes = vec![0; PAGE_BYTES as usize];
        if !source.read_exact(PhysicalAddress(self.page), &mut bytes) {
            return None;
        }
        let pairs = bytes.chunks(CACHE_LINE_BYTES).zip(self.sample.chunks(CACHE_LINE_BYTES));
        let equal = pairs.filter(|(one, other)| one == other).count();
        Some(equal * 2 >= bytes.len() / CACHE_LINE_BYTES)
    }

    /// Compares this machine, as its function `own` gives it, with what another function gives.
    /// `open` opens the former, if it is needed.
    pub(super) fn compare<S: MemorySource>(
        &self,
        other: &mut S,
        open: impl FnOnce(&System) -> Option<S>,
    ) -> MachineMatch {
        match self.resembles(other) {
            Some(true) => {}
            Some(false) => return MachineMatch::Other,
            None => return MachineMatch::Unknown,
        }
        let Some(mut own) = open(&self.system) else { return MachineMatch::Unknown };
        if own.regions() != other.regions() {
            return MachineMatch::Other;
        }
        let near = (0..NEAR_PAGES).map(|index| self.page + index * PAGE_BYTES);
        let clock = self.clock.into_iter().flat_map(|page| [page, page + PAGE_BYTES]);
        let random = random_pages(other.regions());
        let pages: BTreeSet<u64> = near.chain(clock).chain(random).collect();
        compare(&mut own, other, &pages.into_iter().collect::<Vec<_>>())
    }
}

/// Whether two functions give the memory of one machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MachineMatch {
    Same,
    Other,
    /// Too little could be read.
    Unknown,
}

/// Another function of a function's machine is used instead of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct FunctionInUse {
    pub(super) used: SystemAddress,
    /// Whether the memory was compared. Otherwise it could not be read, and was equal before.
    pub(super) is_compared: bool,
}

/// Pages at random places of memory; the same one may occur twice.
fn random_pages(regions: &[Range<u64>]) -> Vec<u64> {
    let pages = |region: &Range<u64>| (region.end - region.start) / PAGE_BYTES;
    let all: u64 = regions.iter().map(pages).sum();
    let place = |_| {
        let mut index = crate::random::key().checked_rem(all)?;
        for region in regions {
            if index < pages(region) {
                return Some(region.start + index * PAGE_BYTES);
            }
            index -= pages(region);
        }
        None
    };
    (0..RANDOM_PAGES).filter_map(place).collect()
}

/// Reads the pages of one, of the other, and of the first again. A line that stayed as it was must
/// be the same in both. It counts as different if it differs in some rounds and fits in none: a
/// machine that runs may change a line and change it back.
fn compare(
    own: &mut impl MemorySource,
    other: &mut impl MemorySource,
    pages: &[u64],
) -> MachineMatch {
    let bytes = pages.len() * PAGE_BYTES as usize;
    let mut lines = vec![Line::default(); bytes / CACHE_LINE_BYTES];
    let mut reads: [ComparedPages; 3] = std::array::from_fn(|_| ComparedPages::new(pages));
    for _ in 0..ROUNDS {
        let [before, between, after] = &mut reads;
        before.run(own);
        between.run(other);
        after.run(own);
        for (index, line) in lines.iter_mut().enumerate() {
            let range = index * CACHE_LINE_BYTES..(index + 1) * CACHE_LINE_BYTES;
            let [before, between, after] =
                [&*before, &*between, &*after].map(|read| read.line(range.clone()));
            let (Some(before), Some(between), Some(after)) = (before, between, after) else {
                continue;
            };
            if between == before || between == after {
                line.fits = true;
                line.has_content |= between.iter().any(|byte| *byte != 0);
            } else if before == after {
                line.differs = line.differs.saturating_add(1);
            }
        }
    }
    if lines.iter().any(|line| line.differs >= DIFFERENT_ROUNDS && !line.fits) {
        return MachineMatch::Other;
    }
    let fitting = lines.iter().filter(|line| line.fits).count();
    let content = lines.iter().filter(|line| line.has_content).count();
    let is_enough = fitting * 2 >= lines.len() && content >= CONTENT_MIN;
    if is_enough { MachineMatch::Same } else { MachineMatch::Unknown }
}

/// Lines that must be the same and hold something: much of a machine's memory may be zeros, but the
/// first task's page is not.
const CONTENT_MIN: usize = 16;

/// What the rounds have shown of a line.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    differs: u8,
    fits: bool,
    has_content: bool,
}

/// Pages to read again and again.
#[derive(Debug)]
struct ComparedPages {
    requests: Vec<ReadRequest>,
    arena: Vec<u8>,
}

impl ComparedPages {
    fn new(pages: &[u64]) -> Self {
        let request = |(index, page): (usize, &u64)| {
            // About a thousand pages, so all offsets fit.
            let target = index as u32 * PAGE_BYTES as u32;
            ReadRequest::new(PhysicalAddress(*page), PAGE_BYTES as u32, target)
        };
        let requests = pages.iter().enumerate().map(request).collect();
        Self { requests, arena: vec![0; pages.len() * PAGE_BYTES as usize] }
    }

    fn run(&mut self, source: &mut impl MemorySource) {
        for request in &mut self.requests {
            request.outcome = ReadOutcome::Pending;
        }
        source.read_batch(&mut self.requests, &mut self.arena);
    }

    /// The bytes of a line; `None` if they were not read.
    fn line(&self, range: Range<usize>) -> Option<&[u8]> {
        let request = self.requests.get(range.start / PAGE_BYTES as usize)?;
        (request.outcome == ReadOutcome::Read).then(|| &self.arena[range])
    }
}

/// The machines that are watched, or about to be, through functions of DMA devices.
#[derive(Clone, Debug, Default)]
pub(super) struct Machines(Arc<Mutex<DmaMachineList>>);

#[derive(Debug, Default)]
struct DmaMachineList {
    known: Vec<DmaMachine>,
    serial: u64,
}

impl Machines {
    /// The first result of `compare` with a machine of another address.
    pub(super) fn find(
        &self,
        address: &SystemAddress,
        compare: impl FnMut(&DmaMachine) -> Option<FunctionInUse>,
    ) -> Option<FunctionInUse> {
        let known = self.lock().known.clone();
        let mut others = known.iter().filter(|one| one.system.address != *address);
        others.find_map(compare)
    }

    /// Adds a machine, unless `compare` has a result with another one: then returns that. Reading
    /// takes long, so nothing is locked meanwhile; what others add is compared, too.
    pub(super) fn add(
        &self,
        mut own: DmaMachine,
        mut compare: impl FnMut(&DmaMachine) -> Option<FunctionInUse>,
    ) -> Option<FunctionInUse> {
        let mut seen = 0;
        loop {
            let others: Vec<DmaMachine> = {
                let mut listed = self.lock();
                let is_new = |one: &&DmaMachine| {
                    one.serial > seen && one.system.address != own.system.address
                };
                let others: Vec<DmaMachine> = listed.known.iter().filter(is_new).cloned().collect();
                if others.is_empty() {
                    listed.serial += 1;
                    own.serial = listed.serial;
                    listed.known.retain(|one| one.system.address != own.system.address);
                    listed.known.push(own);
                    return None;
                }
                others
            };
            seen = others.iter().map(|one| one.serial).max().unwrap_or(seen);
            let instead = others.iter().find_map(&mut compare);
            if instead.is_some() {
                return instead;
            }
        }
    }

    /// Whether a machine is watched through this function.
    pub(super) fn has(&self, address: &SystemAddress) -> bool {
        self.lock().known.iter().any(|one| one.system.address == *address)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().known.is_empty()
    }

    pub(super) fn remove(&self, address: &SystemAddress) {
        self.lock().known.retain(|one| one.system.address != *address);
    }

    fn lock(&self) -> MutexGuard<'_, DmaMachineList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::config::SystemSettings;

    const BYTES: usize = 96 * PAGE_BYTES as usize;

    /// Memory that a kernel changes between reads, if `ticks`.
    #[derive(Clone)]
    struct Memory {
        bytes: Vec<u8>,
        ticks: bool,
        region: Range<u64>,
    }

    impl Memory {
        fn new() -> Self {
            Self::of(BYTES)
        }

        fn of(bytes: usize) -> Self {
            let region = Range { start: 0, end: bytes as u64 };
            let bytes = (0..bytes).map(|at| (at / 64 + at) as u8).collect();
            Self { bytes, ticks: false, region }
        }
    }

    impl MemorySource for Memory {
        fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
            if self.ticks {
                self.bytes[64] = self.bytes[64].wrapping_add(1);
            }
            let bytes = &self.bytes;
            ReadRequest::answer_each(requests, arena, |at, target| {
                let Some(source) = bytes.get(at as usize..at as usize + target.len()) else {
                    return ReadOutcome::NotBacked;
                };
                target.copy_from_slice(source);
                ReadOutcome::Read
            });
        }

        fn regions(&self) -> &[Range<u64>] {
            slice::from_ref(&self.region)
        }
    }

    fn pages() -> Vec<u64> {
        (0..BYTES as u64 / PAGE_BYTES).map(|index| index * PAGE_BYTES).collect()
    }

    #[test]
    fn equal_memory_is_one_machine_and_another_clock_is_not() {
        let memory = Memory::new();
        let check = |change: &dyn Fn(&mut Memory), expected| {
            let mut other = memory.clone();
            change(&mut other);
            assert_eq!(compare(&mut memory.clone(), &mut other, &pages()), expected);
        };
        check(&|_| (), MachineMatch::Same);
        // A clone: one line of all differs.
        check(&|other| other.bytes[70 * 4096 + 8] ^= 1, MachineMatch::Other);
        check(&|other| other.bytes.truncate(4096), MachineMatch::Unknown);
        check(&|other| other.bytes.fill(0), MachineMatch::Other);
    }

    #[test]
    fn a_line_that_changes_between_all_reads_does_not_matter() {
        let (mut own, mut other) = (Memory::new(), Memory::new());
        own.ticks = true;
        other.ticks = true;
        assert_eq!(compare(&mut own, &mut other, &pages()), MachineMatch::Same);
    }

    /// Another machine that has chosen its first task's page so that the memory there is equal.
    #[test]
    fn a_machine_that_poses_as_another_one_is_recognised() {
        let address = SystemAddress::doca_from_parts("dma0", "VF0").unwrap();
        let settings = SystemSettings::default();
        let system = Arc::new(System { name: "a".to_owned(), address, settings });
        let memory = Memory::of(64 * BYTES);
        let sample = memory.bytes[..PAGE_BYTES as usize].into();
        let known = DmaMachine { system, page: 0, sample, clock: None, serial: 0 };
        let check = |change: &dyn Fn(&mut Memory), expected| {
            let mut other = memory.clone();
            change(&mut other);
            assert_eq!(known.compare(&mut other, |_| Some(memory.clone())), expected);
        };
        check(&|_| (), MachineMatch::Same);
        // It shows only the memory that is equal.
        check(&|other| other.region.end /= 2, MachineMatch::Other);
        // One in 100 pages differs.
        let near = NEAR_PAGES as usize * PAGE_BYTES as usize;
        let differ = |other: &mut Memory| {
            other.bytes[near..].iter_mut().step_by(409_600).for_each(|byte| *byte ^= 1);
        };
        check(&differ, MachineMatch::Other);
    }

    #[test]
    fn memory_without_content_says_nothing() {
        let mut memory = Memory::new();
        memory.bytes.fill(0);
        assert_eq!(compare(&mut memory.clone(), &mut memory, &pages()), MachineMatch::Unknown);
    }

    #[test]
    fn random_pages_are_memory() {
        let regions = [0x1000..0x3000, 0x10_0000..0x20_0000];
        let pages = random_pages(&regions);
        assert_eq!(pages.len() as u64, RANDOM_PAGES);
        let is_memory = |page: &u64| regions.iter().any(|region| region.contains(page));
        assert!(pages.iter().all(is_memory), "{pages:x?}");
        assert!(random_pages(&[]).is_empty());
    }
}
