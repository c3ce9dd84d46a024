//! [`DocaMemory`]: the memory of a host or of a virtual machine on it, read by a BlueField's DMA
//! engine.
//!
//! **None of this was tested on a BlueField.** It is written from DOCA's public references, guides
//! and samples (2.5 to 3.3) and tested with a stand-in for the library (`tests/doca_standin`).
//! Documented and assumed steps:
//!
//! | step | source |
//! |---|---|
//! | devices, names, DMA capability, representors, VUIDs | documented; App Shield's samples do so |
//! | a map of the host's memory | documented for emulated functions, **assumed** for PFs and VFs |
//! | addresses in the map are physical | documented for `iommu=pt`, as I/O addresses ([`window`]) |
//! | buffers, tasks, the progress engine, what callbacks may do | documented |
//! | a map may begin at any page but the first, and be as large as a region | **assumed** |
//! | the best size and depth of copies | not measured |
//!
//! Bytes go from the host into buffers that are registered once, and from there to the caller
//! ([`buffers`]). Requests for nearby addresses become one copy ([`plan`]). A copy that fails is
//! retried a few times. If it still fails, its requests are *failed* and counted. No batch waits
//! longer than [`PATIENCE`] for a device that does not answer. While a machine is watched, all
//! batches of a scan together wait no longer than [`TURN`], since other systems wait for the same
//! thread. A device that did not answer for [`PATIENCE`] is restarted step by step, without
//! waiting.
//!
//! Start reading at [`DocaMemory`].

#[rustfmt::skip] // bindgen's
mod bindings;
mod buffers;
mod devices;
mod error;
mod handle;
mod leftover;
mod library;
mod low_memory;
mod plan;
mod transfer;
mod window;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{
    ADDRESS_END, MachineSource, MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest,
};

pub use devices::{DocaDevice, Function, FunctionKind, devices};
pub use error::DocaError;
pub use library::Library;

use leftover::FunctionName;
use low_memory::PageProbe;
use plan::{CopyJob, Planner, REQUESTS_MAX};
use transfer::{CopySubmission, Transfer};
use window::Window;

/// Largest number of regions of memory: a machine has some dozens.
const DMA_REGIONS_MAX: usize = 1024;
/// Time between two refreshes for which batches wait for a device in total. A copy usually takes
/// some ten microseconds.
const TURN: Duration = Duration::from_millis(20);
/// The same for a batch, if the device has completed no copy since its restart: a search for a
/// kernel has as many batches as the memory has mebibytes.
const PROOF: Duration = Duration::from_millis(1);
/// Shortest time between two attempts to revive a device that stopped answering.
const REVIVAL: Duration = Duration::from_secs(1);
/// Number of polls without a result before the thread sleeps between two polls. A poll takes some
/// 25 ns, a copy up to 60 µs, and a sleep longer than a copy: the kernel's timers have a slack of
/// 50 µs (PR_SET_TIMERSLACK).
const SPINS: u32 = 8000;
/// Length of such a sleep.
const NAP: Duration = Duration::from_micros(20);
/// Largest number of pending copies; fewer if the device allows fewer. Reasoned, not measured: 256
/// copies of 4 KiB and more hide a latency of microseconds; 4 MiB of buffers hold them.
const DEPTH: u32 = 256;
/// Largest size of a copy in bytes; less if the device allows less.
const COPY_BYTES: u64 = 16 << 10;
/// Number of attempts before a copy has failed.
const TRIES: u32 = 3;
/// The usual time without any completed copy after which all pending copies have failed.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Counters of a [`DocaMemory`] since it was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct DocaCounts {
    /// Successful copies.
    pub copies: u64,
    /// Bytes of the successful copies.
    pub bytes: u64,
    /// Copies that completed with an error.
    pub errors: u64,
    /// Copies that completed with success but too few bytes.
    pub short: u64,
    /// Number of times that the device had no room for a copy.
    pub full: u64,
    /// Copies that the library refused.
    pub refused: u64,
    /// Copies that did not complete in time.
    pub overdue: u64,
    /// Restarts of the DMA context.
    pub restarts: u64,
    /// Requests answered [`ReadOutcome::Failed`].
    pub failed: u64,
}

/// A machine's memory behind a BlueField's DMA engine.
#[derive(Debug)]
pub struct DocaMemory {
    transfer: Transfer,
    planner: Planner,
    /// Jobs to submit again.
    again: VecDeque<CopyJob>,
    /// Time without any completed copy after which all pending copies have failed.
    patience: Duration,
    /// The rest of [`TURN`]; `None` before the first refresh, when no other system waits.
    turn: Option<Duration>,
    /// Whether this scan has not tried yet to revive the device.
    may_revive: bool,
    /// Whether the device answers.
    answers: bool,
    /// Whether it has completed a copy since its restart, if it was restarted.
    is_proven: bool,
    /// When the device last completed a copy, or was restarted.
    heard: Instant,
    revived: Instant,
    counts: DocaCounts,
}

impl DocaMemory {
    /// Opens the memory of the function `vuid` of `device`, and finds its regions from the first
    /// mebibyte of x86-64 Linux. [`DocaError::Regions`] if they cannot be found.
    pub fn open_anywhere(
        library: &Arc<Library>,
        device: &str,
        vuid: &str,
        patience: Duration,
    ) -> Result<Self, DocaError> {
        let mut source = Self::open(library, device, vuid, &[low_memory::CONVENTIONAL], patience)?;
        let regions = low_memory::find(&mut source)?;
        source.set_regions(&regions)?;
        source.counts = DocaCounts::default();
        Ok(source)
    }

    /// Opens the memory of the function `vuid` of `device`. `regions` are the memory of that
    /// machine, ascending. Nothing else is ever read, since reading might disturb devices.
    pub fn open(
        library: &Arc<Library>,
        device: &str,
        vuid: &str,
        regions: &[Range<u64>],
        patience: Duration,
    ) -> Result<Self, DocaError> {
        let regions = whole_pages(regions)?;
        let name = device;
        let function = FunctionName::new(library, name, vuid);
        function.check()?;
        let device = devices::open_device(library, name)?;
        let copy_bytes = COPY_BYTES.min(devices::copy_bytes_max(library, &device)?);
        if copy_bytes == 0 {
            return Err(DocaError::NoDma { device: name.to_owned() });
        }
        let representor = devices::open_representor(library, &device, name, vuid)?;
        let engine = handle::progress_engine(library)?;
        let window = Window::new(library, &device, representor, &engine, &regions)?;
        let transfer =
            Transfer::new(library.clone(), function, device, engine, window, DEPTH, copy_bytes)?;
        let jobs = transfer.slots();
        Ok(Self {
            planner: Planner::new(regions, copy_bytes, jobs),
            again: VecDeque::with_capacity(jobs),
            transfer,
            patience,
            turn: None,
            may_revive: true,
            answers: true,
            is_proven: true,
            heard: Instant::now(),
            revived: Instant::now(),
            counts: DocaCounts::default(),
        })
    }

    /// Changes the regions; allocates.
    fn set_regions(&mut self, regions: &[Range<u64>]) -> Result<(), DocaError> {
        let regions = whole_pages(regions)?;
        self.transfer.set_regions(&regions)?;
        self.planner.regions = regions;
        Ok(())
    }

    /// Counters since the source was opened.
    pub fn counts(&self) -> DocaCounts {
        self.counts
    }

    /// Whether the device answers. If not, all requests fail until it answers again.
    pub fn answers(&self) -> bool {
        self.answers
    }

    fn read_part(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.planner.prepare(requests, arena);
        self.again.clear();
        let mut idle = 0_u32;
        if !self.answers && !self.revive() {
            self.planner.fail_rest(requests);
        }
        // Since when the batch waits, and for how long it may.
        let mut silent = Instant::now();
        let mut most = self.most();
        loop {
            if self.answers {
                self.hand_out(requests);
            }
            if self.transfer.busy() == 0 && self.again.is_empty() {
                // No copy is pending, so the batch is done, or nothing more can be done.
                if self.transfer.has_room() || !self.answers {
                    break;
                }
            }
            self.transfer.poll();
            let mut any = false;
            while let Some(finished) = self.transfer.take() {
                any = true;
                if !std::mem::replace(&mut self.is_proven, true) {
                    most = self.most();
                }
                self.settle(&finished, requests, arena);
                self.transfer.release(&finished);
            }
            if any {
                if idle >= SPINS
                    && let Some(turn) = &mut self.turn
                {
                    *turn = turn.saturating_sub(silent.elapsed());
                    most = most.min(*turn);
                }
                silent = Instant::now();
                self.heard = silent;
                idle = 0;
                continue;
            }
            idle = idle.saturating_add(1);
            if idle < SPINS {
                std::hint::spin_loop();
                continue;
            }
            if !self.answers || silent.elapsed() > most {
                self.turn = self.turn.map(|turn| turn.saturating_sub(silent.elapsed()));
                self.give_up(requests);
                break;
            }
            std::thread::sleep(NAP);
        }
        self.planner.finish(requests);
        let failed = |request: &&ReadRequest| request.outcome == ReadOutcome::Failed;
        self.counts.failed += requests.iter().filter(failed).count() as u64;
    }

    /// How long a batch may wait without a completed copy.
    fn most(&self) -> Duration {
        let most = if self.is_proven { self.patience } else { PROOF };
        self.turn.map_or(most, |turn| turn.min(most))
    }

    /// Submits jobs while there are any and the device has room.
    fn hand_out(&mut self, requests: &mut [ReadRequest]) {
        while self.transfer.has_room() {
            let next = self.again.pop_front().or_else(|| self.planner.next_job(requests));
            let Some(job) = next else { return };
            match self.transfer.submit(job) {
                CopySubmission::Yes => {}
                CopySubmission::Later => {
                    self.counts.full += 1;
                    self.again.push_front(job);
                    return;
                }
                CopySubmission::Refused => {
                    self.counts.refused += 1;
                    self.try_again(job, requests);
                    if !self.answers {
                        return;
                    }
                }
            }
        }
    }

    /// Copies the bytes of a finished job to the arena, or handles its failure.
    fn settle(
        &mut self,
        finished: &transfer::CopyCompletion,
        requests: &mut [ReadRequest],
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

    /// Queues a failed job again, unless it was tried too often or the device does not run.
    fn try_again(&mut self, mut job: CopyJob, requests: &mut [ReadRequest]) {
        if self.answers && !self.transfer.is_running() {
            self.answers = false;
            self.drop_waiting(requests);
        }
        job.tries += 1;
        if !self.answers {
            self.planner.fail(job, requests);
        } else if job.tries < TRIES && self.again.len() < self.again.capacity() {
            self.again.push_back(job);
        } else {
            self.planner.give_up(job, requests);
        }
    }

    /// Gives up on a device that does not answer: all pending and waiting jobs have failed.
    fn give_up(&mut self, requests: &mut [ReadRequest]) {
        let (planner, counts) = (&self.planner, &mut self.counts);
        self.transfer.give_up(|job| {
            counts.overdue += 1;
            planner.fail(job, requests);
        });
        self.drop_waiting(requests);
        self.answers = false;
    }

    fn drop_waiting(&mut self, requests: &mut [ReadRequest]) {
        for job in self.again.drain(..) {
            self.planner.fail(job, requests);
        }
        self.planner.fail_rest(requests);
    }

    /// Finds out whether a device that did not answer answers again, and else continues its
    /// restart. Returns whether it answers. Never waits, and tries it once a scan.
    #[cold]
    fn revive(&mut self) -> bool {
        if self.turn.is_some() && !std::mem::take(&mut self.may_revive) {
            return false;
        }
        if !self.transfer.is_restarting() {
            self.transfer.poll();
            while let Some(finished) = self.transfer.take() {
                self.transfer.release(&finished);
                self.heard = Instant::now();
            }
            let is_running = self.transfer.is_running();
            if is_running && !self.transfer.has_lost_any() {
                // All copies came back, only late.
                (self.answers, self.is_proven) = (true, true);
                return true;
            }
            // A device may be slow, but one that is stopped does not start by itself.
            let is_silent = self.heard.elapsed() >= self.patience;
            if (is_running && !is_silent) || self.revived.elapsed() < REVIVAL {
                return false;
            }
            self.revived = Instant::now();
            self.counts.restarts += 1;
        }
        if self.transfer.restart() == Ok(true) {
            self.heard = Instant::now();
            (self.answers, self.is_proven) = (true, false);
        }
        self.answers
    }
}

impl MachineSource for DocaMemory {
    fn refresh(&mut self) {
        self.turn = Some(TURN);
        self.may_revive = true;
    }

    fn losses(&self, report: &mut dyn FnMut(&dyn fmt::Display)) {
        let DocaCounts { failed, errors, short, overdue, refused, copies, restarts, .. } =
            self.counts;
        if failed > 0 {
            report(&format_args!(
                "{failed} reads failed in DMA: {errors} copies completed with an error, {short} \
                 were too short, {overdue} timed out, {refused} were refused; {copies} succeeded, \
                 and the context was restarted {restarts} times"
            ));
        }
    }
}

impl MemorySource for DocaMemory {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        for part in requests.chunks_mut(REQUESTS_MAX) {
            self.read_part(part, arena);
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        &self.planner.regions
    }
}

impl PageProbe for DocaMemory {
    fn read(&mut self, at: &[u64], bytes: &mut [u8]) -> Result<bool, DocaError> {
        let mut pages = at.to_vec();
        pages.sort_unstable();
        pages.dedup();
        let regions: Vec<_> =
            pages.iter().map(|page| *page..page.saturating_add(PAGE_BYTES)).collect();
        self.set_regions(&regions)?;
        let page = |(index, at): (usize, &u64)| {
            ReadRequest::new(
                PhysicalAddress(*at),
                PAGE_BYTES as u32,
                (index as u64 * PAGE_BYTES) as u32,
            )
        };
        let mut requests: Vec<ReadRequest> = at.iter().enumerate().map(page).collect();
        self.read_batch(&mut requests, bytes);
        Ok(requests.iter().all(|request| request.outcome == ReadOutcome::Read))
    }
}

/// Cuts regions to whole pages and joins those that touch. The page at address 0 is left out: a map
/// cannot begin at the null address, and firmware keeps kernels from using that page. An end may
/// also be the address of the last byte, as in `/proc/iomem` and files made from it.
fn whole_pages(regions: &[Range<u64>]) -> Result<Vec<Range<u64>>, DocaError> {
    let mut whole: Vec<Range<u64>> = Vec::with_capacity(regions.len());
    let mut before = 0;
    for (index, region) in regions.iter().enumerate() {
        if index >= DMA_REGIONS_MAX
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
    if whole.is_empty() { Err(DocaError::Regions) } else { Ok(whole) }
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
        assert_eq!(whole_pages(&[0..0x1000]), Err(DocaError::Regions));
        assert_eq!(whole_pages(&[]), Err(DocaError::Regions));
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
