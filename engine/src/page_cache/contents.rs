//! The known contents and the requested ones: a table of fixed size, and three queues.

use arrayvec::ArrayVec;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::source::MemorySource;
use panoptes_tables::{HashIndex, HashKey, ScanNumber, room};

use super::fair_share::EntryShares;
use super::job::{HashJob, HashStep};
use super::memory::KernelMemory;
use super::scratch::{HashBuffers, WINDOW_BYTES};
use super::{Asker, ContentFacts, FileIdentity, HashOutcome, PageMatcher};
use crate::limits::Limits;
use crate::loss::{FREQUENT_STOPS_MAX, FrequentStop, Loss, StopTallies};
use crate::time::Monotonic;
use crate::walk::Kernel;

/// No entry.
const NO_CONTENT: u32 = u32::MAX;

/// Maximum size of the files of each lane, in bytes: a large file delays only others of its lane.
const LANES: [u64; 3] = [1 << 20, 16 << 20, u64::MAX];
/// Maximum number of pages of a partly cached file that each lane compares. In the first two lanes,
/// that covers all pages of a file.
const DIGESTS: [usize; 3] = [256, 4096, 57_344];
/// Number of bytes that a lane reads before a lane of larger files has its turn.
const TURN_BYTES: u64 = 4 * WINDOW_BYTES;
/// Time until a file that was partly cached, or that was being changed, is retried, in nanoseconds;
/// four times as long each time.
const RETRY_NS: i64 = 160_000_000;
const TRIES_MAX: u8 = 6;
/// A file that no caller has asked for in this many scans may be evicted.
const IDLE_SCANS: u32 = 2;
/// A content that was doubted this many consecutive times is not doubted for [`SURE_SCANS`] after
/// it was read. A machine that constantly sets its clock must not keep its files from being judged.
const DOUBTS_MAX: u8 = 3;
const SURE_SCANS: u32 = 4;
/// Maximum number of least recently requested entries that are checked for one to evict.
const EVICTION_CANDIDATES_MAX: usize = 64;
/// Number of files whose reasons to be given up are kept. Two of them may have one place.
const REASONS_KEPT: usize = 64;
/// The fraction of the entries that only users and processes below their share get.
const CONTENT_SPARE_PART: usize = 8;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum HashingState {
    #[default]
    Idle,
    Queued,
    AtWork,
}

#[derive(Clone, Copy, Debug)]
struct ContentEntry {
    file: FileIdentity,
    /// For whom it was first requested.
    asker: Asker,
    known: Option<ContentFacts>,
    /// Whether the file had changed right before `known` was read.
    recent: bool,
    /// Whether another content may have the same identity by now.
    is_doubtful: bool,
    /// Number of consecutive times that it was doubtful, saturating.
    doubts: u8,
    /// The last scan before its content was read, and before it was known.
    begun: ScanNumber,
    finished: ScanNumber,
    state: HashingState,
    /// The last scan in which a caller asked for it.
    asked: ScanNumber,
    /// When it was read last.
    known_at: Monotonic,
    /// How often it was read, saturating.
    tries: u8,
    /// Neighbours in the order of requests.
    newer: u32,
    older: u32,
    /// The next entry in its lane.
    behind: u32,
}

#[derive(Debug)]
struct Lane {
    first: u32,
    last: u32,
    /// The entry that is being hashed.
    current: u32,
    job: HashJob,
    /// Bytes read since a lane of larger files had its turn.
    since_turn: u64,
}

/// The contents of one machine's files: those that are known, and those that were requested.
#[derive(Debug)]
pub struct Contents {
    key: HashKey,
    entries: Vec<ContentEntry>,
    capacity: usize,
    index: HashIndex,
    newest: u32,
    oldest: u32,
    lanes: [Lane; 3],
    buffers: Option<Box<HashBuffers>>,
    /// The number and the time of the last scan.
    scan: ScanNumber,
    now: Monotonic,
    /// The last scan that found the machine's calendar time set: the files that were read before
    /// may have changed without any other times.
    doubted: Option<ScanNumber>,
    finished: u64,
    /// Number of entries of each user, container and process.
    shares: EntryShares,
    refused: Loss,
    /// Reasons of files that were given up since the start, as numbers, which take no more memory
    /// later. Those of the last few, each with the file's hash.
    stops: StopTallies<1>,
    last_stops: [Option<(u64, EarlyStop)>; REASONS_KEPT],
}

impl Contents {
    /// Allocates for `limits`, including the buffers.
    pub fn new(limits: &Limits, key: HashKey) -> Self {
        let buffers = Some(room::boxed(HashBuffers::new()));
        Self { buffers, ..Self::without_buffers(limits, key) }
    }

    /// Allocates for `limits`; work needs buffers ([`Self::exchange`]).
    pub fn without_buffers(limits: &Limits, key: HashKey) -> Self {
        let capacity = limits.contents_max();
        let lane = |digests| Lane {
            first: NO_CONTENT,
            last: NO_CONTENT,
            current: NO_CONTENT,
            job: HashJob::new(digests),
            since_turn: 0,
        };
        Self {
            key: key.derive("contents: files"),
            entries: room::list(capacity),
            capacity,
            index: HashIndex::new(capacity),
            newest: NO_CONTENT,
            oldest: NO_CONTENT,
            lanes: DIGESTS.map(lane),
            buffers: None,
            scan: ScanNumber::default(),
            now: Monotonic::default(),
            doubted: None,
            finished: 0,
            shares: EntryShares::new(capacity, key),
            refused: Loss::new(),
            stops: StopTallies::default(),
            last_stops: [None; REASONS_KEPT],
        }
    }

    /// Takes the buffers before work, and returns them by a second call after it.
    pub fn exchange(&mut self, buffers: &mut Option<Box<HashBuffers>>) {
        core::mem::swap(&mut self.buffers, buffers);
    }

    /// Starts a scan.
    pub fn begin_scan(&mut self, now: Monotonic) {
        (self.scan, self.now) = (self.scan.next(), now);
        self.refused.begin_scan();
    }

    /// Doubts all that is known, because somebody has set the machine's calendar time: other
    /// contents may have the same times. A file is read again when a caller asks for it.
    pub fn doubt(&mut self) {
        self.doubted = Some(self.scan);
    }

    /// Number of files that were processed since the start.
    pub fn finished(&self) -> u64 {
        self.finished
    }

    /// The requests for which there is no room.
    pub fn refused(&mut self) -> &mut Loss {
        &mut self.refused
    }

    /// The most frequent reasons why content that is, or may be, in memory is not known.
    pub fn frequent_stops(&self) -> ArrayVec<FrequentStop, FREQUENT_STOPS_MAX> {
        self.stops.most_frequent(|_, _| Some("content of a file"))
    }

    /// The reason why the content of a file is not known whole, if it was given up lately.
    pub fn stop(&self, file: &FileIdentity) -> Option<EarlyStop> {
        let hash = self.hash_of(file);
        let last = self.last_stops[hash as usize % REASONS_KEPT];
        last.filter(|(other, _)| *other == hash).map(|(_, stop)| stop)
    }

    /// Forgets everything, because the machine was lost or has rebooted.
    pub fn forget(&mut self) {
        self.entries.clear();
        self.index.clear();
        self.shares.clear();
        (self.stops, self.last_stops) = (StopTallies::default(), [None; REASONS_KEPT]);
        (self.newest, self.oldest) = (NO_CONTENT, NO_CONTENT);
        for lane in &mut self.lanes {
            (lane.first, lane.last, lane.current) = (NO_CONTENT, NO_CONTENT, NO_CONTENT);
        }
    }

    /// Returns the known facts of a file, unless they are doubtful. Queues nothing.
    pub fn get(&self, file: &FileIdentity) -> Option<&ContentFacts> {
        self.entry(self.find(file)?)?.certain()
    }

    /// Returns the last known facts of a file, whose content may be another one by now. Queues
    /// nothing.
    pub fn get_last(&self, file: &FileIdentity) -> Option<&ContentFacts> {
        self.entry(self.find(file)?)?.known.as_ref()
    }

    /// Returns the known facts of a file, unless they are doubtful. Queues the file if there are no
    /// certain facts, and retries it now and then if it was partly cached. Files that no caller
    /// asks for any more are evicted first.
    pub fn ask(&mut self, file: &FileIdentity) -> Option<&ContentFacts> {
        self.ask_for(file, Asker::default())
    }

    /// The same on behalf of a process. The last part of the room is for users and processes with
    /// few files.
    pub fn ask_for(&mut self, file: &FileIdentity, asker: Asker) -> Option<&ContentFacts> {
        let known = self.find(file);
        let Some(index) = known.or_else(|| self.admit(file, asker)) else {
            self.refused.stand(1, asker.blamed());
            return None;
        };
        if known.is_some() {
            self.unlink(index);
        }
        self.link(index);
        let (scan, now, doubted) = (self.scan, self.now, self.doubted);
        let entry = self.entries.get_mut(index as usize)?;
        entry.asked = scan;
        entry.doubt(doubted, scan);
        let is_due = match entry.known {
            None => true,
            Some(_) if entry.is_doubtful => true,
            Some(ContentFacts { outcome: HashOutcome::Whole { .. }, .. }) if !entry.recent => false,
            Some(_) => now.since(entry.known_at) >= entry.pause_ns(),
        };
        if is_due && entry.state == HashingState::Idle {
            self.queue(index);
        }
        self.entry(index)?.certain()
    }

    /// Whether [`Contents::work`] has anything to do.
    pub fn has_work(&self) -> bool {
        self.lanes.iter().any(Lane::has_work)
    }

    /// Processes requested files until about `bytes` bytes of memory were read. Returns the number
    /// of files that were finished. Allocates nothing.
    ///
    /// Small files come first, but a large one always gets its turn.
    pub fn work(
        &mut self,
        source: &mut dyn MemorySource,
        kernel: &Kernel,
        bytes: usize,
        judge: &dyn PageMatcher,
    ) -> u64 {
        let before = self.finished;
        let Some(mut buffers) = self.buffers.take() else { return 0 };
        let HashBuffers { reader, scratch } = &mut *buffers;
        // The guest has run since, and its page tables may have changed.
        reader.forget_translations();
        let mut left = bytes as u64;
        while left > 0 {
            let Some(number) = self.next_lane() else { break };
            let lane = &mut self.lanes[number];
            if lane.current == NO_CONTENT {
                let Some(entry) = self.entries.get_mut(lane.first as usize) else { break };
                (entry.state, entry.begun) = (HashingState::AtWork, self.scan);
                lane.current = lane.first;
                lane.first = entry.behind;
                if lane.first == NO_CONTENT {
                    lane.last = NO_CONTENT;
                }
                lane.job.begin(&entry.file);
            }
            let memory = &mut KernelMemory { reader, source, kernel };
            let (step, cost) = lane.job.step(memory, scratch, judge);
            lane.since_turn += cost;
            left = left.saturating_sub(cost);
            if let HashStep::Done(known) = step {
                let current = core::mem::replace(&mut lane.current, NO_CONTENT);
                let (recent, stop) = (lane.job.is_recent(), lane.job.stop());
                self.finish(current, known, recent);
                self.note_stop(current, stop.filter(|_| known.hashes().is_none()));
            }
        }
        self.buffers = Some(buffers);
        self.finished - before
    }

    /// The lane whose turn it is.
    fn next_lane(&mut self) -> Option<usize> {
        for number in 0..self.lanes.len() {
            let (these, larger) = self.lanes.split_at_mut(number + 1);
            let lane = &mut these[number];
            if !lane.has_work() {
                continue;
            }
            if lane.since_turn < TURN_BYTES || !larger.iter().any(Lane::has_work) {
                return Some(number);
            }
            lane.since_turn = 0;
        }
        None
    }

    fn finish(&mut self, index: u32, known: ContentFacts, recent: bool) {
        self.finished += 1;
        let (scan, doubted) = (self.scan, self.doubted);
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        entry.known = Some(known);
        entry.recent = recent;
        (entry.is_doubtful, entry.finished) = (false, scan);
        entry.doubt(doubted, scan);
        entry.state = HashingState::Idle;
        entry.known_at = self.now;
        entry.tries = (entry.tries + 1).min(TRIES_MAX);
    }

    /// Notes why the content of a file is not known whole, or that no reason is known.
    fn note_stop(&mut self, index: u32, stop: Option<EarlyStop>) {
        let Some(hash) = self.entry(index).map(|entry| self.hash_of(&entry.file)) else { return };
        let last = &mut self.last_stops[hash as usize % REASONS_KEPT];
        match stop {
            Some(stop) => {
                *last = Some((hash, stop));
                self.stops.add(0, stop);
            }
            None => *last = last.filter(|(other, _)| *other != hash),
        }
    }

    fn entry(&self, index: u32) -> Option<&ContentEntry> {
        self.entries.get(index as usize)
    }

    fn hash_of(&self, file: &FileIdentity) -> u64 {
        let &FileIdentity { inode, device, number, change_time_ns, modify_time_ns, size } = file;
        let (changed, modified) = (change_time_ns as u64, modify_time_ns as u64);
        self.key.hash_numbers([inode.0, device.into(), number, changed, modified, size])
    }

    fn find(&self, file: &FileIdentity) -> Option<u32> {
        let is = |index| self.entry(index).is_some_and(|entry| entry.file == *file);
        self.index.find(self.hash_of(file), is)
    }

    /// Makes an entry for a new file, in a free place or in that of an idle entry.
    fn admit(&mut self, file: &FileIdentity, asker: Asker) -> Option<u32> {
        let used = self.entries.len();
        let reserve = self.capacity / CONTENT_SPARE_PART;
        let is_above = self.shares.is_above_its_share(asker, self.capacity);
        let is_free = used < self.capacity && (used < self.capacity - reserve || !is_above);
        let idle = if is_free { None } else { Some(self.idle()?) };
        let entry = ContentEntry {
            file: *file,
            asker,
            known: None,
            recent: false,
            is_doubtful: false,
            doubts: 0,
            begun: ScanNumber::default(),
            finished: ScanNumber::default(),
            state: HashingState::Idle,
            asked: self.scan,
            known_at: Monotonic::default(),
            tries: 0,
            newer: NO_CONTENT,
            older: NO_CONTENT,
            behind: NO_CONTENT,
        };
        let index = if let Some(index) = idle {
            self.unlink(index);
            let hash = self.hash_of(&self.entries[index as usize].file);
            self.index.remove(hash, index);
            self.shares.remove(self.entries[index as usize].asker);
            self.entries[index as usize] = entry;
            index
        } else {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        };
        // Without a free slot near its hash it is not found again, and is evicted in its turn.
        let is_found = self.index.insert(self.hash_of(file), index);
        self.refused.stand(u64::from(!is_found), asker.blamed());
        self.shares.add(asker);
        Some(index)
    }

    /// The entry to evict: not requested lately, and not queued.
    fn idle(&self) -> Option<u32> {
        let mut index = self.oldest;
        for _ in 0..EVICTION_CANDIDATES_MAX {
            let entry = self.entry(index)?;
            if self.scan.since(entry.asked) < IDLE_SCANS {
                break;
            }
            if entry.state == HashingState::Idle {
                return Some(index);
            }
            index = entry.newer;
        }
        None
    }

    /// Moves an entry to the front of the order of requests.
    fn link(&mut self, index: u32) {
        let older = core::mem::replace(&mut self.newest, index);
        if let Some(entry) = self.entries.get_mut(index as usize) {
            (entry.newer, entry.older) = (NO_CONTENT, older);
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = index,
            None => self.oldest = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(entry) = self.entry(index) else { return };
        let (newer, older) = (entry.newer, entry.older);
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Appends an entry to its lane.
    fn queue(&mut self, index: u32) {
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        let number = LANES.iter().position(|&bytes| entry.file.size <= bytes).unwrap_or(0);
        entry.state = HashingState::Queued;
        entry.behind = NO_CONTENT;
        let lane = &mut self.lanes[number];
        let last = core::mem::replace(&mut lane.last, index);
        match self.entries.get_mut(last as usize) {
            Some(entry) => entry.behind = index,
            None => lane.first = index,
        }
    }
}

impl ContentEntry {
    /// How long it waits until it is read again, in nanoseconds, unless its whole content is known.
    fn pause_ns(&self) -> i64 {
        RETRY_NS << (2 * self.tries.saturating_sub(1))
    }

    /// Doubts what is known if the clock was set after reading began; `doubted` is when.
    fn doubt(&mut self, doubted: Option<ScanNumber>, scan: ScanNumber) {
        let Some(doubted) = doubted.filter(|_| self.known.is_some() && !self.is_doubtful) else {
            return;
        };
        if !doubted.is_after(self.begun) {
            if doubted != scan {
                self.doubts = 0;
            }
        } else if self.doubts < DOUBTS_MAX || scan.since(self.finished) >= SURE_SCANS {
            (self.is_doubtful, self.doubts) = (true, self.doubts.saturating_add(1));
        }
    }

    fn certain(&self) -> Option<&ContentFacts> {
        self.known.as_ref().filter(|_| !self.is_doubtful)
    }
}

impl Lane {
    fn has_work(&self) -> bool {
        self.current != NO_CONTENT || self.first != NO_CONTENT
    }
}
