//! Plans the copies of a DMA engine for a batch of requests.
//!
//! A copy has a fixed cost, whatever its length, so requests for nearby addresses become one copy:
//! slab neighbours share pages (about 0.17 pages an object), and an array of page-table entries is
//! one page. The bytes between two requests are read too. They are memory of the same region, so
//! reading them does no harm.
//!
//! If a copy of several requests fails, it is retried one request at a time: one bad address must
//! not fail its neighbours.
//!
//! Nothing here allocates after [`Planner::new`]. Overlapping and repeated requests cost nothing
//! extra: each request is in one copy, or alone in several if it is longer than a copy can be.

use std::collections::VecDeque;
use std::ops::Range;

use panoptes_decoders::source::{ReadOutcome, ReadRequest};

/// Largest number of requests planned at a time; a longer batch is planned in parts.
pub(super) const REQUESTS_MAX: usize = 65_536;
/// The widest gap that is read rather than skipped. A copy costs as much as some KiB of a PCIe
/// stream (0.1 to 1 microsecond at 12 GB/s); this was not measured on a card.
const GAP_BYTES: u64 = 2048;

/// One copy: of `length` bytes at `address`, for the requests `first..last` in ascending order of
/// address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct CopyJob {
    pub(super) address: u64,
    pub(super) length: u32,
    /// Index of the region that holds the whole copy.
    pub(super) region: u32,
    first: u32,
    last: u32,
    /// Number of failed attempts.
    pub(super) tries: u32,
}

/// The requests of a batch in order of address, and the state of turning them into jobs.
#[derive(Debug)]
pub(super) struct Planner {
    pub(super) regions: Vec<Range<u64>>,
    copy_bytes: u64,
    order: Vec<u32>,
    next: usize,
    /// Number of bytes of `order[next]` that are in jobs already, if it takes several.
    done: u64,
    /// Requests of failed jobs, to be retried one by one.
    again: VecDeque<Range<u32>>,
}

impl Planner {
    /// A planner of copies of at most `copy_bytes`, `jobs` of them at a time. `regions` are
    /// ascending and do not overlap.
    pub(super) fn new(regions: Vec<Range<u64>>, copy_bytes: u64, jobs: usize) -> Self {
        Self {
            regions,
            copy_bytes,
            order: Vec::with_capacity(REQUESTS_MAX),
            next: 0,
            done: 0,
            again: VecDeque::with_capacity(jobs),
        }
    }

    /// Begins a batch of at most [`REQUESTS_MAX`] requests. Requests that need no copy are answered
    /// at once.
    pub(super) fn prepare(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        debug_assert!(requests.len() <= REQUESTS_MAX);
        self.order.clear();
        self.again.clear();
        self.next = 0;
        self.done = 0;
        for (index, request) in requests.iter_mut().enumerate() {
            request.outcome = match request.target_range(arena.len()) {
                None => ReadOutcome::Failed,
                Some(_) if request.length == 0 => ReadOutcome::Read,
                Some(_) if self.is_backed(request.address.0, u64::from(request.length)) => {
                    self.order.push(index as u32);
                    ReadOutcome::Pending
                }
                Some(target) => {
                    arena[target].fill(0);
                    ReadOutcome::NotBacked
                }
            };
        }
        self.order.sort_unstable_by_key(|index| requests[*index as usize].address.0);
    }

    /// The next job, or `None` if all were returned.
    pub(super) fn next_job(&mut self, requests: &[ReadRequest]) -> Option<CopyJob> {
        if let Some(range) = self.again.front_mut() {
            let at = range.start;
            range.start += 1;
            if range.start >= range.end {
                self.again.pop_front();
            }
            // The request was in a job of several, so it is in one region and short enough.
            let request = &requests[self.order[at as usize] as usize];
            let region = self.region_of(request.address.0)?;
            return Some(CopyJob {
                address: request.address.0,
                length: request.length,
                region: region as u32,
                first: at,
                last: at + 1,
                tries: 0,
            });
        }
        let first = self.next;
        let request = &requests[*self.order.get(first)? as usize];
        let address = request.address.0 + self.done;
        let left = u64::from(request.length) - self.done;
        let region = self.region_of(address)?;
        let end_max = self.regions[region].end.min(address.saturating_add(self.copy_bytes));
        let mut job = CopyJob {
            address,
            length: 0,
            region: region as u32,
            first: first as u32,
            last: first as u32 + 1,
            tries: 0,
        };
        if self.done > 0 || left > end_max - address {
            job.length = left.min(end_max - address) as u32;
            self.done += u64::from(job.length);
            if self.done == u64::from(request.length) {
                self.done = 0;
                self.next += 1;
            }
            return Some(job);
        }
        let mut end = address + left;
        self.next += 1;
        while let Some(index) = self.order.get(self.next) {
            let request = &requests[*index as usize];
            // Regions end below the end of the address space, so the first test keeps the second
            // from wrapping.
            let near = request.address.0 <= end.saturating_add(GAP_BYTES).min(end_max);
            if !near || u64::from(request.length) > end_max - request.address.0 {
                break;
            }
            end = end.max(request.address.0 + u64::from(request.length));
            self.next += 1;
        }
        job.length = (end - address) as u32;
        job.last = self.next as u32;
        Some(job)
    }

    /// The parts of the arena that a job fills, each with its offset in the bytes of the job.
    pub(super) fn pieces<'a>(
        &'a self,
        job: CopyJob,
        requests: &'a [ReadRequest],
    ) -> impl Iterator<Item = (Range<usize>, usize)> + 'a {
        let order = &self.order[job.first as usize..job.last as usize];
        order.iter().map(move |index| {
            let request = &requests[*index as usize];
            // One of the two is zero: a job of several requests begins with the first of them, and
            // a job for a part of a request begins inside of it.
            let skipped = request.address.0.saturating_sub(job.address) as usize;
            let done = job.address.saturating_sub(request.address.0) as usize;
            let length = (request.length as usize - done).min(job.length as usize - skipped);
            let start = request.target as usize + done;
            (start..start + length, skipped)
        })
    }

    /// Gives a job up: several requests are retried one by one, a single one has failed.
    pub(super) fn give_up(&mut self, job: CopyJob, requests: &mut [ReadRequest]) {
        if job.last - job.first > 1 && self.again.len() < self.again.capacity() {
            self.again.push_back(job.first..job.last);
            return;
        }
        self.fail(job, requests);
    }

    /// Marks the requests of a job as failed.
    pub(super) fn fail(&self, job: CopyJob, requests: &mut [ReadRequest]) {
        for index in &self.order[job.first as usize..job.last as usize] {
            requests[*index as usize].outcome = ReadOutcome::Failed;
        }
    }

    /// Marks all requests without a job as failed.
    pub(super) fn fail_rest(&mut self, requests: &mut [ReadRequest]) {
        for range in self.again.drain(..) {
            for index in &self.order[range.start as usize..range.end as usize] {
                requests[*index as usize].outcome = ReadOutcome::Failed;
            }
        }
        for index in &self.order[self.next..] {
            requests[*index as usize].outcome = ReadOutcome::Failed;
        }
        self.next = self.order.len();
        self.done = 0;
    }

    /// Marks all requests that have not failed as read. Call it once all jobs are done.
    pub(super) fn finish(&self, requests: &mut [ReadRequest]) {
        for index in &self.order {
            let outcome = &mut requests[*index as usize].outcome;
            if *outcome == ReadOutcome::Pending {
                *outcome = ReadOutcome::Read;
            }
        }
    }

    fn region_of(&self, address: u64) -> Option<usize> {
        let index = self.regions.partition_point(|region| region.end <= address);
        self.regions.get(index).filter(|region| region.start <= address).map(|_| index)
    }

    /// Whether adjacent regions hold the whole range.
    fn is_backed(&self, address: u64, bytes: u64) -> bool {
        let Some(end) = address.checked_add(bytes) else { return false };
        let Some(mut index) = self.region_of(address) else { return false };
        while self.regions[index].end < end {
            let here = self.regions[index].end;
            index += 1;
            if self.regions.get(index).is_none_or(|region| region.start != here) {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::address::PhysicalAddress;
    use proptest::prelude::*;

    use super::*;

    const COPY: u64 = 0x1000;

    /// Memory in which each byte depends on its address.
    fn byte_at(address: u64) -> u8 {
        (address ^ address >> 8 ^ address >> 16).wrapping_mul(31) as u8
    }

    fn request(address: u64, length: u32, target: u32) -> ReadRequest {
        ReadRequest::new(PhysicalAddress(address), length, target)
    }

    fn regions() -> Vec<Range<u64>> {
        vec![0x1000..0x5000, 0x5000..0x6000, 0x10_0000..0x12_0000]
    }

    /// Answers a batch like a DMA engine that fails jobs for which `is_bad` holds; returns the
    /// jobs.
    fn run(
        requests: &mut [ReadRequest],
        arena: &mut [u8],
        is_bad: impl Fn(Range<u64>) -> bool,
    ) -> Vec<CopyJob> {
        let mut planner = Planner::new(regions(), COPY, 4);
        planner.prepare(requests, arena);
        let mut jobs = Vec::new();
        while let Some(job) = planner.next_job(requests) {
            assert!(jobs.len() < 10_000, "it ends");
            jobs.push(job);
            let range = job.address..job.address + u64::from(job.length);
            let region = &planner.regions[job.region as usize];
            assert!(region.start <= range.start && range.end <= region.end, "{job:?}");
            assert!(job.length > 0 && u64::from(job.length) <= COPY, "{job:?}");
            if is_bad(range.clone()) {
                planner.give_up(job, requests);
                continue;
            }
            let bytes: Vec<u8> = range.map(byte_at).collect();
            for (target, offset) in planner.pieces(job, requests) {
                let length = target.len();
                arena[target].copy_from_slice(&bytes[offset..offset + length]);
            }
        }
        planner.finish(requests);
        jobs
    }

    fn spans(jobs: &[CopyJob]) -> Vec<(u64, u32)> {
        jobs.iter().map(|job| (job.address, job.length)).collect()
    }

    #[test]
    fn only_neighbours_are_read_in_one_copy() {
        let mut requests = [
            request(0x2100, 8, 0),
            request(0x2000, 16, 8),
            request(0x2000 + 0x104 + GAP_BYTES, 4, 24),
            request(0x2000 + 0x109 + 2 * GAP_BYTES, 4, 28),
        ];
        let jobs = run(&mut requests, &mut [0; 32], |_| false);
        let first = (0x104 + GAP_BYTES + 4) as u32;
        assert_eq!(spans(&jobs), [(0x2000, first), (0x2109 + 2 * GAP_BYTES, 4)]);
    }

    #[test]
    fn requests_that_are_long_or_cross_regions_are_split() {
        let mut requests = [request(0x3800, 0x2400, 0)];
        let mut arena = vec![0; 0x2400];
        let jobs = run(&mut requests, &mut arena, |_| false);
        assert_eq!(spans(&jobs), [(0x3800, 0x1000), (0x4800, 0x800), (0x5000, 0xc00)]);
        assert_eq!(requests[0].outcome, ReadOutcome::Read);
        assert!(arena.iter().zip(0x3800..).all(|(byte, at)| *byte == byte_at(at)));
    }

    #[test]
    fn a_bad_address_does_not_fail_its_neighbours() {
        let mut requests = [request(0x2000, 8, 0), request(0x2010, 8, 8), request(0x2020, 8, 16)];
        let jobs = run(&mut requests, &mut [0; 24], |range| range.contains(&0x2010));
        assert_eq!(spans(&jobs), [(0x2000, 0x28), (0x2000, 8), (0x2010, 8), (0x2020, 8)]);
        let outcomes = requests.map(|request| request.outcome);
        assert_eq!(outcomes, [ReadOutcome::Read, ReadOutcome::Failed, ReadOutcome::Read]);
    }

    #[test]
    fn requests_without_a_job_can_be_failed() {
        let mut requests = [request(0x2000, 8, 0), request(0x10_0000, 8, 8), request(0, 8, 16)];
        let mut planner = Planner::new(regions(), COPY, 4);
        planner.prepare(&mut requests, &mut [0; 24]);
        let job = planner.next_job(&requests).unwrap();
        planner.fail_rest(&mut requests);
        assert_eq!(planner.next_job(&requests), None);
        planner.finish(&mut requests);
        assert_eq!((job.address, job.length), (0x2000, 8));
        let outcomes = requests.map(|request| request.outcome);
        assert_eq!(outcomes, [ReadOutcome::Read, ReadOutcome::Failed, ReadOutcome::NotBacked]);
    }

    fn any_request() -> impl Strategy<Value = (u64, u32)> {
        let near = prop_oneof![0x0f00..0x6100_u64, 0xf_ff00..0x12_0100_u64, any::<u64>()];
        let length = prop_oneof![4 => 0..600_u32, 1 => 0..0x3000_u32, 1 => any::<u32>()];
        (near, length)
    }

    proptest! {
        #[test]
        fn every_request_gets_its_own_bytes(
            wanted in prop::collection::vec(any_request(), 0..40),
            bad in prop::option::of(0x1000..0x6000_u64),
        ) {
            let mut target = 0_u32;
            let mut requests = Vec::new();
            for (address, length) in wanted {
                // A request longer than the arena gets a target outside of it.
                let place = if length < 0x3000 { target } else { u32::MAX };
                requests.push(request(address, length, place));
                target += if length < 0x3000 { length } else { 0 };
            }
            let mut arena = vec![0xee; target as usize];
            let is_bad = |range: Range<u64>| bad.is_some_and(|bad| range.contains(&bad));
            run(&mut requests, &mut arena, is_bad);
            for request in &requests {
                let start = request.address.0;
                let end = start.saturating_add(u64::from(request.length));
                // The first two regions touch, so they count as one.
                let backed = [0x1000..0x6000, 0x10_0000..0x12_0000]
                    .iter()
                    .any(|region: &Range<u64>| region.contains(&start) && end <= region.end);
                let expected = match request.target_range(arena.len()) {
                    None => ReadOutcome::Failed,
                    Some(_) if request.length == 0 => ReadOutcome::Read,
                    Some(_) if !backed => ReadOutcome::NotBacked,
                    Some(_) if is_bad(start..end) => ReadOutcome::Failed,
                    Some(_) => ReadOutcome::Read,
                };
                prop_assert_eq!(request.outcome, expected, "{:?}", request);
                let Some(range) = request.target_range(arena.len()) else { continue };
                let got = &arena[range];
                match expected {
                    ReadOutcome::Read => {
                        prop_assert!(
                            got.iter().zip(start..).all(|(byte, at)| *byte == byte_at(at))
                        );
                    }
                    ReadOutcome::NotBacked => prop_assert!(got.iter().all(|byte| *byte == 0)),
                    _ => {}
                }
            }
        }
    }
}
