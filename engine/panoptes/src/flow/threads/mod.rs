//! Several threads that divide the packets of live interfaces: `--threads`, and `flows.threads` of
//! a service.
//!
//! Each thread has its own rings, its own tables, and all packets between the addresses that are
//! its part ([`Division`]). Where the kernel gives a packet to another thread, that one passes it
//! on (`passed`). Records go to the main thread (`reported`), which merges them in the order of
//! time (`merge`), and writes them as it does without threads.
//!
//! No thread waits for another one, but at the end, when all that was received is written.

mod batches;
mod merge;
pub(super) mod option;
mod passed;
mod reported;
mod worker;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use panoptes_packet_rings::{Division, Group, MirrorPort};
use panoptes_sinks::panics::caught;

use self::batches::{ThreadBatch as _, circle};
use self::merge::Merge;
use self::passed::{PACKET_BATCH_BYTES, PassedBatch};
use self::reported::{BATCH_RECORDS, RecordSender, Records};
use self::worker::{
    EndGuard, FlowThreadProgress, FlowThreadsState, PendingErrorMessages, ReadingGuard, Worker,
};
use super::audit::{Audit as _, PacketSourceLosses};
use super::auditor::Auditor;
use super::clocks::Clocks;
use super::interfaces::{self, Interfaces};
use super::part::InterfacePart;
use super::receiver::{self, failure};
use super::request::FlowRequest;
use super::signals::Signals;
use super::tables::Tables;
use super::thread_counts::ThreadCounts;
use crate::config::FLOW_THREADS_MAX;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::random;

/// Batches of records of all threads together: 32,768 records.
const RECORD_BATCHES: usize = 128;
/// Batches of packets from one thread to all others together, and the fewest to each of them.
const PACKET_BATCHES: usize = 128;
const PACKET_BATCHES_MIN: usize = 8;
/// Records that are merged before the outputs have their turn.
const RECORDS_IN_TURN: usize = 4096;
const _: () = {
    let others = FLOW_THREADS_MAX as usize - 1;
    assert!(PACKET_BATCHES_MIN * others <= PACKET_BATCHES, "all threads have their batches");
    // docs/limits.txt has both.
    assert!(RECORD_BATCHES * BATCH_RECORDS == 32_768);
    assert!(PACKET_BATCHES * PACKET_BATCH_BYTES == 4 << 20);
};
/// The longest wait of the main thread, in milliseconds.
const WAIT_MS: u16 = 5;
/// How long a thread that ends, or waits for others to end, sleeps before it looks again.
const PAUSE: Duration = Duration::from_millis(1);

/// Opens all interfaces, once for each thread. They receive nothing yet. `ports` are those of
/// another sensor, which a single thread takes over.
pub(super) fn open(
    request: &FlowRequest,
    ports: Vec<MirrorPort>,
) -> Result<Vec<Interfaces>, Failure> {
    if request.interfaces.threads <= 1 {
        return Ok(vec![Interfaces::open(request, ports)?]);
    }
    let streams = interfaces::streams(request)?;
    let mut request = request.clone();
    request.interfaces.streams = streams;
    let division = Division::new(request.interfaces.threads, random::key());
    let mut all: Vec<_> =
        (0..request.interfaces.threads).map(|_| Interfaces::none(&request)).collect();
    for (stream, interfaces) in request.interfaces.streams.iter().enumerate() {
        for named in &interfaces.interfaces {
            let group = Arc::new(Group::default());
            let options = interfaces::options(named, &request);
            let receivers = receiver::Receiver::open_parts(&options, named.means, &division);
            let receivers = receivers.map_err(|error| failure(&error))?;
            for (number, (its, receiver)) in all.iter_mut().zip(receivers).enumerate() {
                let part = InterfacePart { number, division, group: Arc::clone(&group), joined: 0 };
                its.add((stream, named), receiver, part)?;
            }
        }
    }
    Ok(all)
}

/// Batches of packets from one of so many threads to another one.
fn packet_batches(threads: usize) -> usize {
    (PACKET_BATCHES / threads).max(PACKET_BATCHES_MIN)
}

/// Bytes of all batches between so many threads once they are full.
pub(super) fn batch_bytes(threads: usize) -> usize {
    if threads <= 1 {
        return 0;
    }
    let pairs = threads * (threads - 1);
    RECORD_BATCHES * Records::BYTES + pairs * packet_batches(threads) * PassedBatch::BYTES
}

/// Begins to receive.
pub(super) fn start(all: &mut [Interfaces], messages: &Messages) -> Result<(), Failure> {
    all.iter_mut().try_for_each(|interfaces| interfaces.start(messages))
}

/// A thread, which returns what it has counted, or its panic.
type FlowThreadHandle = JoinHandle<Result<ThreadCounts, String>>;

/// The threads, as the main thread has them.
struct Threads {
    all: Vec<(FlowThreadHandle, Arc<FlowThreadProgress>)>,
    shared: Arc<FlowThreadsState>,
    _guard: EndGuard,
    merge: Merge,
    failed: Sender<String>,
    failures: Receiver<String>,
}

/// Counts packets on this thread, or has threads do so and writes their records, until a signal or
/// the outputs need no more of them. What all interfaces have missed.
pub(super) fn audit(
    mut all: Vec<Interfaces>,
    auditor: &mut Auditor,
    signals: &Signals,
    messages: &Messages,
) -> Result<PacketSourceLosses, Failure> {
    let Some(first) = all.first() else { return Ok(PacketSourceLosses::default()) };
    let role = first.role();
    if let [interfaces] = &mut all[..] {
        role.enter(messages);
        interfaces.audit(auditor, signals, messages);
        return Ok(interfaces.missing());
    }
    let mut threads = Threads::none();
    let started = threads.start(all, signals, messages);
    role.enter(messages);
    while started.is_ok()
        && !auditor.has_ended()
        && !signals.have_ended()
        && !threads.has_one_ended()
    {
        if !threads.pass_on(auditor) {
            wait(signals);
        }
    }
    let missing = threads.end(auditor, messages)?;
    started.map(|()| missing)
}

impl Threads {
    fn none() -> Self {
        let (failed, failures) = channel();
        let (shared, merge) = (Arc::<FlowThreadsState>::default(), Merge::default());
        let guard = EndGuard(Arc::clone(&shared));
        Self { all: Vec::new(), shared, _guard: guard, merge, failed, failures }
    }

    /// Starts all. If one cannot be started, those before it run, and must be ended.
    fn start(
        &mut self,
        all: Vec<Interfaces>,
        signals: &Signals,
        messages: &Messages,
    ) -> Result<(), Failure> {
        let clocks = Clocks::start();
        let workers = self.workers(&all);
        for (worker, interfaces) in workers.into_iter().zip(all) {
            let shown = Arc::clone(&worker.shown);
            let reading = ReadingGuard::begin(&self.shared);
            let (clocks, signals, messages) = (clocks.clone(), signals.clone(), messages.clone());
            let run = move || {
                caught(|| {
                    interfaces.role().enter(&messages);
                    worker.run(interfaces, clocks, reading, (&signals, &messages))
                })
            };
            let name = format!("packets-{}", self.all.len());
            let thread = std::thread::Builder::new().name(name).spawn(run);
            let thread = thread
                .map_err(|error| Failure::io(&error, Exit::Failed, "cannot start a thread"))?;
            self.all.push((thread, shown));
        }
        Ok(())
    }

    /// What the threads have, before they start.
    fn workers(&mut self, all: &[Interfaces]) -> Vec<Worker> {
        let count = all.len();
        let mut to: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        let mut from: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for fillers in &mut to {
            for emptiers in &mut from {
                let (filler, emptier) = circle(packet_batches(count));
                fillers.push(filler);
                emptiers.push(emptier);
            }
        }
        let ends = to.into_iter().zip(from);
        let parts = all.iter().filter_map(|interfaces| Some((interfaces, interfaces.part()?)));
        let workers = parts.zip(ends).map(|((interfaces, part), (to, from))| {
            let request = interfaces.request();
            let (filler, emptier) = circle(RECORD_BATCHES / count);
            let until_ns = Arc::new(AtomicI64::new(i64::MIN));
            self.merge.add(emptier, Arc::clone(&until_ns));
            Worker {
                number: part.number,
                division: part.division,
                tables: Tables::new(request, part.number),
                records: RecordSender::new(filler),
                to,
                from,
                shared: Arc::clone(&self.shared),
                shown: Arc::new(FlowThreadProgress { until_ns, counted: Mutex::default() }),
                failures: self.failed.clone(),
                interval: Duration::from_secs(request.records.management_interval_s.max(1).into()),
                passed: 0,
                lost: 0,
                missing: PacketSourceLosses::default(),
                taken: PendingErrorMessages::default(),
                last_pass: Instant::now(),
            }
        });
        workers.collect()
    }

    /// Whether one has ended before it must.
    fn has_one_ended(&self) -> bool {
        self.all.iter().any(|(thread, _)| thread.is_finished())
    }

    /// Writes records, and what has happened. Whether there may be more records.
    fn pass_on(&mut self, auditor: &mut Auditor) -> bool {
        let has_passed = self.merge.pass(RECORDS_IN_TURN, |stream, reported| {
            auditor.reported(stream, reported);
        });
        for reason in self.failures.try_iter() {
            auditor.report_failure(&reason);
        }
        let mut counted = ThreadCounts::default();
        for (_, shown) in &self.all {
            counted.add(&shown.counted.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let missing = counted.missing;
        auditor.set_thread_counts(counted);
        auditor.step(|| missing);
        has_passed
    }

    /// Has all threads end, and writes what they have reported. What the interfaces have missed.
    fn end(
        mut self,
        auditor: &mut Auditor,
        messages: &Messages,
    ) -> Result<PacketSourceLosses, Failure> {
        self.shared.must_end.store(true, Ordering::Release);
        auditor.wait_for_outputs();
        while !self.all.iter().all(|(thread, _)| thread.is_finished()) {
            if !self.pass_on(auditor) {
                std::thread::sleep(PAUSE);
            }
        }
        while self.pass_on(auditor) {}
        let mut counted = ThreadCounts::default();
        for (thread, _) in self.all {
            let its = thread.join().unwrap_or_else(|_| Err("unknown".to_owned()));
            let panicked = |panic| {
                Failure::new(Exit::Failed, format!("a thread of packets has panicked: {panic}"))
            };
            counted.add(&its.map_err(panicked)?);
        }
        let (passed, missing) = (counted.passed, counted.missing);
        messages.debug(format_args!("{passed} packets came to another thread than their own"));
        auditor.set_thread_counts(counted);
        Ok(missing)
    }
}

/// Waits for a signal, or until threads may have records.
fn wait(signals: &Signals) {
    let mut polled = [PollFd::new(signals.descriptor(), PollFlags::POLLIN)];
    // An error here is an interrupted wait.
    let _ = poll(&mut polled, PollTimeout::from(WAIT_MS));
}
