//! [`TimedSource`]: a source that is read by a thread of its own, with a deadline.
//!
//! A read of another process's memory can wait without end: its page may be under a userfaultfd(2)
//! that nobody serves (a live migration that stands still), or in a file on a server that does not
//! answer, which the process has mapped in place of its memory. No signal ends that wait, except
//! SIGKILL for the whole program: the kernel waits killably, not interruptibly
//! (`process_vm_rw_single_vec`, mm/process_vm_access.c; `userfaultfd_get_blocking_state`,
//! fs/userfaultfd.c). So another thread waits.
//!
//! The thread reads into memory of its own, never into the caller's arena, and the answer is copied
//! from there. A request that is overdue has failed, and so have all others until the thread is
//! back: they cost no time. The time to wait for is limited between two calls of
//! [`MachineSource::refresh`], so for a whole scan, whatever the process does in between.
//!
//! The thread runs on the caller's processor: the caller waits anyway, no other processor has to
//! wake up, and what was read is in the cache. Then the change of threads costs some microseconds a
//! batch.
//!
//! Not for: sources whose reads cannot wait.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, Thread};
use std::time::{Duration, Instant};

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MachineSource, MemorySource, ReadOutcome, ReadRequest};
use rustix::thread::{CpuSet, Pid, gettid, sched_getcpu, sched_setaffinity};

use super::pieces::answer_pieces;

/// Bytes of the thread's buffer: a batch is passed on in parts of at most this size.
const BUFFER_BYTES: usize = 1 << 20;
/// Requests that are passed on at once.
const REQUESTS_MAX: usize = 4096;
/// Time of a part of a batch that is not counted: it usually takes less than a millisecond.
const USUAL: Duration = Duration::from_millis(2);
/// Time that all reads between two refreshes may wait for in total: as for a DMA device, since
/// other systems wait for the same thread.
const PATIENCE: Duration = Duration::from_millis(20);
/// The same for one part of a batch while its thread has no processor: that is no fault of the
/// memory.
const LOADED: Duration = Duration::from_millis(200);
/// The same before the first refresh: while a kernel is searched, much is read, also from swap.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// A process, by its number and start time.
pub(crate) type ProcessKey = (u32, u64);

/// The processes for which a thread waits although its source was dropped. They are not opened
/// again meanwhile, so that no process can hold more and more threads.
static WAITED_FOR: Mutex<Vec<ProcessKey>> = Mutex::new(Vec::new());

/// Locks a mutex. A thread that panicked has left whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A source that is read by a thread of its own; see the module.
#[derive(Debug)]
pub(crate) struct TimedSource {
    shared: Arc<TimedSourceState>,
    reader: Thread,
    process: ProcessKey,
    regions: Vec<Range<u64>>,
    /// The processor on which the thread runs.
    processor: Option<usize>,
    /// The time left for waits that exceed [`USUAL`].
    patience: Duration,
    /// Reads that were not answered in time, and requests that have failed for that reason.
    overdue: u64,
    failed: u64,
}

struct TimedSourceState {
    /// Whether the thread has the job. The caller touches the job only otherwise.
    is_asked: AtomicBool,
    /// The kernel's id of the thread; 0 before it runs.
    thread: AtomicI32,
    /// The kernel's state of the thread; not before it runs.
    stat: OnceLock<File>,
    /// Whether the source was dropped.
    is_dropped: AtomicBool,
    /// Whether the thread's process is in [`WAITED_FOR`] because of this thread.
    is_listed: AtomicBool,
    job: Mutex<ReadJob>,
}

impl fmt::Debug for TimedSourceState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The lock may be held for long.
        out.debug_struct("Shared").field("is_asked", &self.is_asked).finish_non_exhaustive()
    }
}

/// Whether a thread runs or waits for a processor, and not for memory.
fn is_runnable(stat: &File) -> bool {
    // Number, name in parentheses, state (proc_pid_stat(5)); the thread has a short name.
    let mut text = [0; 64];
    let bytes = stat.read_at(&mut text, 0).unwrap_or(0);
    let text = &text[..bytes];
    let end = text.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    text.get(end + 2) == Some(&b'R')
}

/// What the thread is to do, and its answer.
struct ReadJob {
    source: Box<dyn MemorySource + Send>,
    kind: ReadJobKind,
    requests: Vec<ReadRequest>,
    bytes: Vec<u8>,
    /// The thread that waits for the answer.
    caller: Thread,
}

#[derive(Clone, Debug)]
enum ReadJobKind {
    Read,
    NextData { from: PhysicalAddress, found: Option<Range<u64>> },
}

impl TimedSource {
    /// Starts a thread for a source that reads the memory of a process. An error if a thread
    /// already waits for that process without end.
    pub(crate) fn new(
        source: Box<dyn MemorySource + Send>,
        process: ProcessKey,
    ) -> io::Result<Self> {
        if lock(&WAITED_FOR).contains(&process) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "an earlier read of its memory has not returned yet: is it in a migration that \
                 stands still?",
            ));
        }
        let regions = source.regions().to_vec();
        let job = ReadJob {
            source,
            kind: ReadJobKind::Read,
            requests: Vec::with_capacity(REQUESTS_MAX),
            bytes: vec![0; BUFFER_BYTES],
            caller: std::thread::current(),
        };
        let shared = Arc::new(TimedSourceState {
            is_asked: AtomicBool::new(false),
            thread: AtomicI32::new(0),
            stat: OnceLock::new(),
            is_dropped: AtomicBool::new(false),
            is_listed: AtomicBool::new(false),
            job: Mutex::new(job),
        });
        let of_thread = Arc::clone(&shared);
        let thread =
            Builder::new().name("reader".to_owned()).spawn(move || serve(&of_thread, process))?;
        Ok(Self {
            shared,
            reader: thread.thread().clone(),
            process,
            regions,
            processor: None,
            patience: FIRST_PATIENCE,
            overdue: 0,
            failed: 0,
        })
    }

    /// Whether the thread still reads for a request that is overdue.
    fn is_waited_for(&self) -> bool {
        self.shared.is_asked.load(Ordering::Acquire)
    }

    /// Passes on the job that `fill` prepares. Returns it with the answer; `None` if there is no
    /// answer in time.
    fn ask(&mut self, fill: impl FnOnce(&mut ReadJob)) -> Option<MutexGuard<'_, ReadJob>> {
        if self.is_waited_for() {
            return None;
        }
        self.follow();
        fill(&mut lock(&self.shared.job));
        self.shared.is_asked.store(true, Ordering::Release);
        self.reader.unpark();
        let begin = Instant::now();
        let mut most = USUAL + self.patience;
        let mut waited = Duration::ZERO;
        while self.is_waited_for() && waited < most {
            std::thread::park_timeout(most.saturating_sub(waited));
            waited = begin.elapsed();
            if waited >= most && waited < LOADED && self.shared.stat.get().is_some_and(is_runnable)
            {
                most = waited + USUAL;
            }
        }
        self.patience = self.patience.saturating_sub(waited.saturating_sub(USUAL));
        if self.is_waited_for() {
            self.patience = Duration::ZERO;
            self.overdue += 1;
            return None;
        }
        Some(lock(&self.shared.job))
    }

    /// Moves the thread to the caller's processor. A scanner stays on one, so this is one call.
    fn follow(&mut self) {
        let here = sched_getcpu();
        if self.processor == Some(here) || here >= CpuSet::MAX_CPU {
            return;
        }
        if let Some(thread) = Pid::from_raw(self.shared.thread.load(Ordering::Relaxed)) {
            let mut processors = CpuSet::new();
            processors.set(here);
            // Refusal only costs speed.
            let _ = sched_setaffinity(Some(thread), &processors);
            self.processor = Some(here);
        }
    }

    /// Reads the first requests of a batch that fit into the buffer; returns their number, and
    /// `None` if there is no answer.
    fn read_part(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) -> Option<usize> {
        let mut count = 0;
        let answer = self.ask(|job| {
            job.kind = ReadJobKind::Read;
            job.caller = std::thread::current();
            job.requests.clear();
            let mut at = 0;
            for request in requests.iter().take(REQUESTS_MAX) {
                let bytes = request.length as usize;
                if at + bytes > BUFFER_BYTES {
                    break;
                }
                job.requests.push(ReadRequest::new(request.address, request.length, at as u32));
                at += bytes;
                count += 1;
            }
        })?;
        for (request, read) in requests.iter_mut().zip(&answer.requests) {
            let source = read.target_range(answer.bytes.len());
            request.outcome = match (request.target_range(arena.len()), source) {
                (Some(target), Some(source)) => {
                    arena[target].copy_from_slice(&answer.bytes[source]);
                    read.outcome
                }
                _ => ReadOutcome::Failed,
            };
        }
        Some(count)
    }

    /// Reads a request that is larger than the buffer.
    #[cold]
    fn read_large(&mut self, address: u64, target: &mut [u8]) -> ReadOutcome {
        answer_pieces(address, target, |at, target| {
            let count = target.len().min(BUFFER_BYTES);
            let mut part = [ReadRequest::new(PhysicalAddress(at), count as u32, 0)];
            match self.read_part(&mut part, &mut target[..count]) {
                Some(_) if part[0].outcome == ReadOutcome::Read => Ok(count),
                Some(_) => Err(part[0].outcome),
                None => Err(ReadOutcome::Failed),
            }
        })
    }
}

impl Drop for TimedSource {
    fn drop(&mut self) {
        let mut waited_for = lock(&WAITED_FOR);
        self.shared.is_dropped.store(true, Ordering::SeqCst);
        if self.shared.is_asked.load(Ordering::SeqCst) {
            waited_for.push(self.process);
            self.shared.is_listed.store(true, Ordering::SeqCst);
        }
        drop(waited_for);
        self.reader.unpark();
    }
}

impl MemorySource for TimedSource {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        let mut done = 0;
        while done < requests.len() {
            let rest = &mut requests[done..];
            let first = rest[0];
            if first.length as usize > BUFFER_BYTES {
                rest[0].outcome = match first.target_range(arena.len()) {
                    Some(target) => self.read_large(first.address.0, &mut arena[target]),
                    None => ReadOutcome::Failed,
                };
                done += 1;
                continue;
            }
            let Some(count) = self.read_part(rest, arena) else {
                self.failed += rest.len() as u64;
                for request in rest {
                    request.outcome = ReadOutcome::Failed;
                }
                return;
            };
            done += count;
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        &self.regions
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        let answer = self.ask(|job| {
            job.kind = ReadJobKind::NextData { from, found: None };
            job.caller = std::thread::current();
        })?;
        match &answer.kind {
            ReadJobKind::NextData { found, .. } => found.clone(),
            ReadJobKind::Read => None,
        }
    }
}

impl MachineSource for TimedSource {
    fn refresh(&mut self) {
        self.patience = PATIENCE;
    }

    fn losses(&self, report: &mut dyn FnMut(&dyn fmt::Display)) {
        let Self { overdue, failed, process: (pid, _), .. } = self;
        if *overdue > 0 {
            report(&format_args!(
                "{overdue} reads of the memory of process {pid} did not return in time, and \
                 {failed} requests have failed: is it in a migration that stands still?"
            ));
        }
    }
}

/// The thread: does one job after the other until the source is dropped.
fn serve(shared: &TimedSourceState, process: ProcessKey) {
    shared.thread.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    if let Ok(stat) = File::open("/proc/thread-self/stat") {
        let _ = shared.stat.set(stat);
    }
    while !shared.is_dropped.load(Ordering::SeqCst) {
        if !shared.is_asked.load(Ordering::Acquire) {
            std::thread::park();
            continue;
        }
        let mut job = lock(&shared.job);
        let ReadJob { source, kind, requests, bytes, caller } = &mut *job;
        match kind {
            ReadJobKind::Read => source.read_batch(requests, bytes),
            ReadJobKind::NextData { from, found } => *found = source.next_data(*from),
        }
        let caller = caller.clone();
        drop(job);
        shared.is_asked.store(false, Ordering::SeqCst);
        caller.unpark();
    }
    // If the source was dropped during a job, its thread holds this lock until the list is right.
    let mut waited_for = lock(&WAITED_FOR);
    if shared.is_listed.load(Ordering::SeqCst)
        && let Some(place) = waited_for.iter().position(|one| *one == process)
    {
        waited_for.swap_remove(place);
    }
}

#[cfg(test)]
mod tests {
    use panoptes_bounded as bounded;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const BYTES: u64 = 16 << 20;

    /// Memory of which each byte is known. A read at [`Self::GATE`] waits for a permit.
    struct Gated {
        begun: Sender<()>,
        permits: Receiver<()>,
        regions: Vec<Range<u64>>,
    }

    impl Gated {
        const GATE: u64 = 0x5000;

        fn byte(address: u64) -> u8 {
            (address / 7) as u8
        }
    }

    impl MemorySource for Gated {
        fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
            for request in requests {
                let address = request.address.0;
                if address == Self::GATE {
                    let _ = self.begun.send(());
                    let _ = bounded::recv(&self.permits);
                }
                let is_inside = address + u64::from(request.length) <= BYTES;
                let target = request.target_range(arena.len()).unwrap();
                for (offset, byte) in arena[target].iter_mut().enumerate() {
                    *byte = if is_inside { Self::byte(address + offset as u64) } else { 0 };
                }
                request.outcome =
                    if is_inside { ReadOutcome::Read } else { ReadOutcome::NotBacked };
            }
        }

        fn regions(&self) -> &[Range<u64>] {
            &self.regions
        }

        fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
            (from.0 < BYTES).then_some(from.0..BYTES)
        }
    }

    #[expect(clippy::single_range_in_vec_init, reason = "one region")]
    fn gated() -> (Gated, Receiver<()>, Sender<()>) {
        let (begun, begins) = channel();
        let (permit, permits) = channel();
        (Gated { begun, permits, regions: vec![0..BYTES] }, begins, permit)
    }

    fn timed(pid: u32) -> (TimedSource, Sender<()>) {
        let (source, _, permit) = gated();
        (TimedSource::new(Box::new(source), (pid, 1)).unwrap(), permit)
    }

    fn read(source: &mut TimedSource, address: u64, bytes: usize) -> (ReadOutcome, Vec<u8>) {
        let mut arena = vec![0xee; bytes];
        let mut requests = [ReadRequest::new(PhysicalAddress(address), bytes as u32, 0)];
        source.read_batch(&mut requests, &mut arena);
        (requests[0].outcome, arena)
    }

    #[test]
    fn a_batch_is_answered_as_by_the_source_itself() {
        let (mut source, _permit) = timed(1);
        // Many more requests than are passed on at once, some larger than the buffer.
        let mut arena = vec![0xee; 12 << 20];
        let mut at = 0_u32;
        let mut requests = Vec::new();
        for index in 0..3 * REQUESTS_MAX as u64 {
            let length = match index % 3000 {
                7 => 3 * BUFFER_BYTES as u32 / 2,
                8 => 0,
                _ => (index % 300) as u32,
            };
            requests.push(ReadRequest::new(PhysicalAddress(index * 613 + 1), length, at));
            at += length;
        }
        requests.push(ReadRequest::new(PhysicalAddress(BYTES - 3), 8, 0));
        requests.push(ReadRequest::new(PhysicalAddress(0), 8, (12 << 20) - 4));
        source.read_batch(&mut requests, &mut arena);
        let (past, outside) = (requests.pop().unwrap(), requests.pop().unwrap());
        assert_eq!((outside.outcome, past.outcome), (ReadOutcome::NotBacked, ReadOutcome::Failed));
        for request in requests.iter().skip(1) {
            assert_eq!(request.outcome, ReadOutcome::Read, "{request:?}");
            for (offset, byte) in arena[request.target_range(12 << 20).unwrap()].iter().enumerate()
            {
                let first = request.target_range(12 << 20).unwrap().start;
                // The request past the end has filled the first bytes with zeros.
                let expected = Gated::byte(request.address.0 + offset as u64);
                assert!(*byte == expected || first + offset < 8, "{request:?} {offset}");
            }
        }
        assert_eq!(source.next_data(PhysicalAddress(5)), Some(5..BYTES));
        assert_eq!(source.next_data(PhysicalAddress(BYTES)), None);
        assert_eq!((source.overdue, source.failed), (0, 0));
    }

    #[test]
    fn a_read_that_waits_fails_once_and_then_costs_nothing() {
        let (mut source, permit) = timed(2);
        source.refresh();
        let begin = Instant::now();
        assert_eq!(read(&mut source, Gated::GATE, 4).0, ReadOutcome::Failed);
        assert!(begin.elapsed() >= PATIENCE, "{:?}", begin.elapsed());
        assert_eq!((source.overdue, source.patience), (1, Duration::ZERO));
        // No request is passed on any more, not even after a refresh: no other read is overdue.
        let begin = Instant::now();
        for _ in 0..1000 {
            source.refresh();
            let (outcome, bytes) = read(&mut source, 0x1000, 4);
            assert_eq!((outcome, bytes), (ReadOutcome::Failed, vec![0xee; 4]));
            assert_eq!(source.next_data(PhysicalAddress(0)), None);
        }
        assert_eq!((source.overdue, source.failed, source.patience), (1, 1001, PATIENCE));
        assert!(begin.elapsed() < PATIENCE, "{:?} for 1000 scans", begin.elapsed());
        let mut losses = String::new();
        source.losses(&mut |one| losses = one.to_string());
        assert!(losses.contains("1 reads of the memory of process 2"), "{losses}");

        permit.send(()).unwrap();
        while source.is_waited_for() {
            std::thread::yield_now();
        }
        let expected: Vec<u8> = (0x1000..0x1004).map(Gated::byte).collect();
        assert_eq!(read(&mut source, 0x1000, 4), (ReadOutcome::Read, expected));
    }

    #[test]
    fn a_thread_that_could_run_is_told_from_one_that_waits() {
        let (mut source, _permit) = timed(5);
        source.refresh();
        assert_eq!(read(&mut source, 0x1000, 4).0, ReadOutcome::Read);
        // It waits for work, as it would for memory.
        while is_runnable(source.shared.stat.get().unwrap()) {
            std::thread::yield_now();
        }
        let own = File::open("/proc/thread-self/stat").unwrap();
        assert!(is_runnable(&own));
    }

    /// A process that delays each read does not get more time than one that never answers.
    #[test]
    fn the_time_of_all_reads_between_two_refreshes_is_limited() {
        let (source, begins, permit) = gated();
        let mut source = TimedSource::new(Box::new(source), (3, 1)).unwrap();
        source.refresh();
        source.patience = Duration::from_millis(30);
        let slow = std::thread::spawn(move || {
            while bounded::recv(&begins).is_ok() {
                std::thread::sleep(Duration::from_millis(12));
                let _ = permit.send(());
            }
        });
        let mut answered = 0;
        while source.overdue == 0 {
            answered += u32::from(read(&mut source, Gated::GATE, 4).0 == ReadOutcome::Read);
        }
        assert!(answered <= 3, "{answered}");
        drop(source);
        slow.join().unwrap();
    }

    #[test]
    fn only_one_thread_waits_for_a_process() {
        let (mut source, permit) = timed(4);
        source.refresh();
        assert_eq!(read(&mut source, Gated::GATE, 4).0, ReadOutcome::Failed);
        drop(source);
        let other = || gated().0;
        let error = TimedSource::new(Box::new(other()), (4, 1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Another process with this number is another one.
        assert!(TimedSource::new(Box::new(other()), (4, 2)).is_ok());
        permit.send(()).unwrap();
        while lock(&WAITED_FOR).contains(&(4, 1)) {
            std::thread::yield_now();
        }
        assert!(TimedSource::new(Box::new(other()), (4, 1)).is_ok());
    }
}
