//! [`DocaMemory`]: the memory of a host or of a virtual machine on it, read by a BlueField's DMA engine.
//!
//! **None of this has met a BlueField.** It is written from DOCA's public references, guides and samples (2.5 to 3.3)
//! and tested against a stand-in for the library (`tests/doca_standin`). What is documented, and what only assumed:
//!
//! | step | source |
//! |---|---|
//! | devices, their names, DMA capability, representors and VUIDs | documented; App Shield's samples look a system up by the same calls |
//! | a map of the host's memory without help from the host | documented for emulated functions; **assumed** for PFs and VFs ([`window`]) |
//! | that its addresses are physical ones | documented as I/O addresses: the same with `iommu=pt`, as the Argus guide asks for |
//! | buffers, tasks, the progress engine, what callbacks may do | documented |
//! | that a map may begin at any page but the first, and be as large as a region | **assumed** |
//! | which size and depth of copies pays | not measured |
//!
//! Bytes go from the host into buffers that are registered once, and from there to whoever asked ([`buffers`]).
//! Requests that lie close together are one copy ([`plan`]). A copy that fails is tried again a few times; what then
//! still fails is *failed*, is counted, and nothing waits longer than [`DocaOptions::patience`] for it.
//!
//! Start reading at [`DocaMemory`].

#[rustfmt::skip] // bindgen's
mod bindings;
mod buffers;
mod devices;
mod error;
mod handle;
mod library;
mod low_memory;
mod plan;
mod transfer;
mod window;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, Outcome, PAGE_BYTES, Request};

pub use devices::{Device, Function, FunctionKind, devices};
pub use error::DocaError;
pub use library::Library;

use low_memory::Probe;
use plan::{Job, Planner, REQUESTS_MAX};
use transfer::{Made, Submitted, Transfer};
use window::Window;

/// Regions of memory at most: a machine has some dozens.
const REGIONS_MAX: usize = 1024;
/// Physical addresses have at most 52 bits on x86-64 and arm64.
const ADDRESS_END: u64 = 1 << 52;
/// After it stopped answering, a device is tried again this often.
const REVIVAL: Duration = Duration::from_secs(1);
/// How often a device is asked in vain before the thread sleeps between two questions.
const SPINS: u32 = 2000;
/// How long it sleeps.
const NAP: Duration = Duration::from_micros(20);

/// How a DMA engine is used. The defaults are reasoned, not measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DocaOptions {
    /// Copies under way at most; fewer if the device takes fewer.
    pub depth: u32,
    /// Bytes of a copy at most; fewer if the device takes fewer.
    pub copy_bytes: u32,
    /// How often a copy is asked for before it has failed.
    pub tries: u32,
    /// How long nothing may come back before everything under way has failed.
    pub patience: Duration,
}

impl Default for DocaOptions {
    fn default() -> Self {
        // 256 copies of 4 KiB and more hide a latency of microseconds; 4 MiB of buffers hold them.
        Self { depth: 256, copy_bytes: 16 << 10, tries: 3, patience: Duration::from_secs(1) }
    }
}

/// How a [`DocaMemory`] has fared so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct DocaCounts {
    /// Copies that the device made.
    pub copies: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Copies that came back with an error.
    pub errors: u64,
    /// Copies that came back with success and too few bytes.
    pub short: u64,
    /// Times that the device had no room for a copy.
    pub full: u64,
    /// Copies that the library refused to take.
    pub refused: u64,
    /// Copies that did not come back in time.
    pub overdue: u64,
    /// Times that the DMA context was started again.
    pub restarts: u64,
    /// Requests answered [`Outcome::Failed`].
    pub failed: u64,
}

impl DocaCounts {
    /// What was lost, in words; `None` if nothing was.
    pub fn losses(&self) -> Option<String> {
        (self.failed > 0).then(|| {
            format!(
                "{} reads failed in DMA: {} copies came back with an error, {} short, {} not in time, {} were refused; \
                 {} succeeded, and the context was started again {} times",
                self.failed, self.errors, self.short, self.overdue, self.refused, self.copies, self.restarts
            )
        })
    }
}

/// A machine's memory behind a BlueField's DMA engine.
#[derive(Debug)]
pub struct DocaMemory {
    transfer: Transfer,
    planner: Planner,
    /// Jobs that are to be asked for again.
    again: VecDeque<Job>,
    options: DocaOptions,
    copy_bytes: u64,
    example: (usize, u64),
    /// Unset once the device does not answer, until it does again.
    answers: bool,
    revived: Instant,
    counts: DocaCounts,
}

impl DocaMemory {
    /// Opens the memory of the function `vuid` of `device`, and finds out where that machine has memory: x86-64 Linux
    /// leaves it behind in its first mebibyte. [`DocaError::Regions`] where that can't be found.
    pub fn open_anywhere(
        library: &Arc<Library>,
        device: &str,
        vuid: &str,
        options: DocaOptions,
    ) -> Result<Self, DocaError> {
        let mut source = Self::open(library, device, vuid, &[low_memory::CONVENTIONAL], options)?;
        let regions = low_memory::find(&mut source)?;
        source.set_regions(&regions)?;
        source.counts = DocaCounts::default();
        Ok(source)
    }

    /// Opens the memory of the function `vuid` of `device`. `regions` say where that machine has memory, ascending;
    /// nothing else is ever read, since beyond memory lie devices that reading might disturb.
    pub fn open(
        library: &Arc<Library>,
        device: &str,
        vuid: &str,
        regions: &[Range<u64>],
        options: DocaOptions,
    ) -> Result<Self, DocaError> {
        let regions = whole_pages(regions)?;
        let example = (0, regions.first().ok_or(DocaError::Regions)?.start);
        let name = device;
        let device = devices::open_device(library, name)?;
        let copy_bytes =
            u64::from(options.copy_bytes).min(devices::copy_bytes_max(library, &device)?);
        if copy_bytes == 0 {
            return Err(DocaError::NoDma { device: name.to_owned() });
        }
        let representor = devices::open_representor(library, &device, name, vuid)?;
        let engine = handle::progress_engine(library)?;
        let window = Window::new(library, &device, representor, &engine, &regions)?;
        let made = Made { library: library.clone(), device, engine, window, example };
        let transfer = Transfer::new(made, options.depth, copy_bytes)?;
        let jobs = transfer.slots();
        Ok(Self {
            planner: Planner::new(regions, copy_bytes, jobs),
            again: VecDeque::with_capacity(jobs),
            transfer,
            options,
            copy_bytes,
            example,
            answers: true,
            revived: Instant::now(),
            counts: DocaCounts::default(),
        })
    }

    /// Reads from other regions from now on; allocates.
    fn set_regions(&mut self, regions: &[Range<u64>]) -> Result<(), DocaError> {
        let regions = whole_pages(regions)?;
        self.example = (0, regions.first().ok_or(DocaError::Regions)?.start);
        self.transfer.set_regions(&regions)?;
        self.planner = Planner::new(regions, self.copy_bytes, self.transfer.slots());
        Ok(())
    }

    /// How the source has fared so far.
    pub fn counts(&self) -> DocaCounts {
        self.counts
    }

    /// Whether the device answers; if not, all requests fail until it does again.
    pub fn answers(&self) -> bool {
        self.answers
    }

    fn read_part(&mut self, requests: &mut [Request], arena: &mut [u8]) {
        self.planner.prepare(requests, arena);
        self.again.clear();
        let mut heard = Instant::now();
        let mut idle = 0_u32;
        if !self.answers && !self.revive() {
            self.planner.fail_rest(requests);
        }
        loop {
            if self.answers {
                self.hand_out(requests);
            }
            if self.transfer.busy() == 0 && self.again.is_empty() {
                // Nothing is under way, so there is nothing left, or nothing more can be done.
                if self.transfer.has_room() || !self.answers {
                    break;
                }
            }
            self.transfer.poll();
            let mut any = false;
            while let Some(finished) = self.transfer.take() {
                any = true;
                self.settle(&finished, requests, arena);
                self.transfer.release(&finished);
            }
            if any {
                heard = Instant::now();
                idle = 0;
                continue;
            }
            idle = idle.saturating_add(1);
            if idle < SPINS {
                std::hint::spin_loop();
                continue;
            }
            if !self.answers || heard.elapsed() > self.options.patience {
                self.give_up(requests);
                break;
            }
            std::thread::sleep(NAP);
        }
        self.planner.finish(requests);
        let failed = |request: &&Request| request.outcome == Outcome::Failed;
        self.counts.failed += requests.iter().filter(failed).count() as u64;
    }

    /// Hands jobs to the device for as long as it has room and there are any.
    fn hand_out(&mut self, requests: &mut [Request]) {
        while self.transfer.has_room() {
            let next = self.again.pop_front().or_else(|| self.planner.next_job(requests));
            let Some(job) = next else { return };
            match self.transfer.submit(job) {
                Submitted::Yes => {}
                Submitted::Later => {
                    self.counts.full += 1;
                    self.again.push_front(job);
                    return;
                }
                Submitted::Refused => {
                    self.counts.refused += 1;
                    self.try_again(job, requests);
                    if !self.answers {
                        return;
                    }
                }
            }
        }
    }

    /// Passes on what a finished job has read.
    fn settle(
        &mut self,
        finished: &transfer::Finished,
        requests: &mut [Request],
        arena: &mut [u8],
    ) {
        if finished.astray {
            return; // of an earlier batch
        }
        if finished.whole {
            self.counts.copies += 1;
            self.counts.bytes += u64::from(finished.job.length);
            for (target, offset) in self.planner.pieces(finished.job, requests) {
                self.transfer.copy(finished, offset, &mut arena[target]);
            }
            return;
        }
        if finished.short {
            self.counts.short += 1;
        } else {
            self.counts.errors += 1;
        }
        self.try_again(finished.job, requests);
    }

    /// Has a job that failed asked for again, if it was not asked for too often and the device still runs.
    fn try_again(&mut self, mut job: Job, requests: &mut [Request]) {
        if self.answers && !self.transfer.is_running() {
            self.answers = false;
            self.drop_waiting(requests);
        }
        job.tries += 1;
        if !self.answers {
            self.planner.fail(job, requests);
        } else if job.tries < self.options.tries && self.again.len() < self.again.capacity() {
            self.again.push_back(job);
        } else {
            self.planner.give_up(job, requests);
        }
    }

    /// Nothing comes back any more: what is under way has failed, and what was not asked for yet as well.
    fn give_up(&mut self, requests: &mut [Request]) {
        let (planner, counts) = (&self.planner, &mut self.counts);
        self.transfer.give_up(|job| {
            counts.overdue += 1;
            planner.fail(job, requests);
        });
        self.drop_waiting(requests);
        self.answers = false;
    }

    fn drop_waiting(&mut self, requests: &mut [Request]) {
        for job in self.again.drain(..) {
            self.planner.fail(job, requests);
        }
        self.planner.fail_rest(requests);
    }

    /// Tries a device again that did not answer; whether it does.
    #[cold]
    fn revive(&mut self) -> bool {
        if self.revived.elapsed() < REVIVAL {
            return false;
        }
        self.revived = Instant::now();
        self.transfer.poll();
        while let Some(finished) = self.transfer.take() {
            self.transfer.release(&finished);
        }
        if self.transfer.has_lost_any() || !self.transfer.is_running() {
            self.counts.restarts += 1;
            if self.transfer.restart(self.example).is_err() {
                return false;
            }
        }
        self.answers = true;
        true
    }
}

impl MemorySource for DocaMemory {
    fn read_batch(&mut self, requests: &mut [Request], arena: &mut [u8]) {
        for part in requests.chunks_mut(REQUESTS_MAX) {
            self.read_part(part, arena);
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        self.planner.regions()
    }
}

impl Probe for DocaMemory {
    fn read(&mut self, at: &[u64], bytes: &mut [u8]) -> Result<bool, DocaError> {
        let mut pages = at.to_vec();
        pages.sort_unstable();
        pages.dedup();
        let regions: Vec<_> =
            pages.iter().map(|page| *page..page.saturating_add(PAGE_BYTES)).collect();
        self.set_regions(&regions)?;
        let page = |(index, at): (usize, &u64)| {
            Request::new(
                PhysicalAddress(*at),
                PAGE_BYTES as u32,
                (index as u64 * PAGE_BYTES) as u32,
            )
        };
        let mut requests: Vec<Request> = at.iter().enumerate().map(page).collect();
        self.read_batch(&mut requests, bytes);
        Ok(requests.iter().all(|request| request.outcome == Outcome::Read))
    }
}

/// The whole pages of regions, those that touch joined. The first page of all is left out: a map cannot begin at the
/// null address, and firmware keeps kernels from using it. An end that is the last byte's address, as `/proc/iomem` and
/// files made from it have it, is taken for what it means.
fn whole_pages(regions: &[Range<u64>]) -> Result<Vec<Range<u64>>, DocaError> {
    let mut whole: Vec<Range<u64>> = Vec::with_capacity(regions.len());
    let mut before = 0;
    for (index, region) in regions.iter().enumerate() {
        if index >= REGIONS_MAX
            || region.start < before
            || region.end <= region.start
            || region.end > ADDRESS_END
        {
            return Err(DocaError::BadRegions { index });
        }
        before = region.end;
        let start = region.start.next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
        let end = (region.end + 1) / PAGE_BYTES * PAGE_BYTES;
        match whole.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ if start < end => whole.push(start..end),
            _ => {}
        }
    }
    Ok(whole)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of regions with one region")]
#[expect(clippy::reversed_empty_ranges, reason = "regions that cannot be")]
mod tests {
    use super::*;

    #[test]
    fn regions_are_cut_to_pages_and_joined() {
        let check = |given: &[Range<u64>], expected: &[Range<u64>]| {
            assert_eq!(whole_pages(given).unwrap(), expected);
        };
        check(&[0..0x10_0000], &[0x1000..0x10_0000]);
        check(
            &[0x1000..0x9_fbff, 0x10_0000..0x7fff_ffff],
            &[0x1000..0x9_f000, 0x10_0000..0x8000_0000],
        );
        check(&[0x1000..0x2000, 0x2000..0x3000, 0x4000..0x4800], &[0x1000..0x3000]);
        check(&[0..0x1000], &[]);
        check(&[], &[]);
    }

    #[test]
    fn regions_that_cannot_be_are_refused() {
        let lists: [&[Range<u64>]; 4] = [
            &[0x2000..0x1000],
            &[0x1000..0x1000],
            &[0x1000..u64::MAX],
            &[0x3000..0x4000, 0x1000..0x2000],
        ];
        for list in lists {
            let index = list.len() - 1;
            assert_eq!(whole_pages(list), Err(DocaError::BadRegions { index }), "{list:?}");
        }
    }
}
