//! A scanner thread: scans its systems in turn, at the configured interval, pinned to one core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use panoptes_engine::container_config::ContainerConfig;
use panoptes_engine::state::ConnectionThresholds;
use panoptes_engine::time::{Monotonic, Now, RealTime};
use panoptes_engine::watch::{SLICE_BYTES, Watched};
use panoptes_sinks::queue::Producer;
use panoptes_sources::{AnySource, MachineSource as _};

use super::clock_watch::{ClockWatch, SystemShared};
use super::losses::Patience;
use super::skipped::Skipped;
use crate::message::Messages;

/// How many scans of a system must fail in a row before the scanner returns it: memory changes
/// during a scan, so that a single scan can fail by chance.
const FAILURES_MAX: u32 = 5;
/// No slice of hashing starts within this time before the next scan; a slice takes about half of
/// it.
const SLICE_TIME: Duration = Duration::from_millis(3);
/// Capacity for systems that a scanner reserves at start.
const SYSTEMS_USUAL: usize = 64;
/// Maximum sleep, so that a request to stop is noticed.
const NAP: Duration = Duration::from_millis(50);

/// State that all threads share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Set when the threads must stop.
    pub(super) stop: AtomicBool,
    /// Nanoseconds from the start of one scan to the start of the next.
    pub(super) interval_ns: AtomicU64,
}

/// How regularly a scanner ran; any thread may read it at any time.
#[derive(Debug, Default)]
pub(super) struct ScanStats {
    scans: AtomicU64,
    missed: AtomicU64,
    worst_gap_ns: AtomicU64,
    scan_ns: AtomicU64,
    worst_scan_ns: AtomicU64,
    gaps: AtomicU64,
    gaps_ns: AtomicU64,
    /// When the last round began; 0 if there is none.
    last_ns: AtomicU64,
    refused: AtomicU64,
}

impl ScanStats {
    fn begins(&self, since_start_ns: u64) {
        let last = self.last_ns.swap(since_start_ns, Ordering::Relaxed);
        self.scans.fetch_add(1, Ordering::Relaxed);
        if last != 0 {
            self.gaps.fetch_add(1, Ordering::Relaxed);
            self.gaps_ns.fetch_add(since_start_ns - last, Ordering::Relaxed);
            self.worst_gap_ns.fetch_max(since_start_ns - last, Ordering::Relaxed);
        }
    }

    /// Notes that there is nothing to scan: the time until the next round is no gap.
    fn rests(&self) {
        self.last_ns.store(0, Ordering::Relaxed);
    }

    /// How many records did not fit in the queue to the writer.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn took(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.scan_ns.fetch_add(ns, Ordering::Relaxed);
        self.worst_scan_ns.fetch_max(ns, Ordering::Relaxed);
    }
}

impl std::fmt::Display for ScanStats {
    /// One line for people: how many scans, how far apart, how long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let milliseconds = |ns: u64| ns as f64 / 1e6;
        let scans = load(&self.scans);
        let mean = load(&self.gaps_ns) / load(&self.gaps).max(1);
        write!(
            f,
            "{scans} rounds, {:.2} ms apart on average and {:.2} ms at worst, {} late; \
             a round took {:.2} ms on average and {:.2} ms at worst",
            milliseconds(mean),
            milliseconds(load(&self.worst_gap_ns)),
            load(&self.missed),
            milliseconds(load(&self.scan_ns) / scans.max(1)),
            milliseconds(load(&self.worst_scan_ns)),
        )
    }
}

/// A system that the control thread passes to a scanner.
#[derive(Debug)]
pub(super) struct Assigned {
    /// Its index in the list of systems.
    pub(super) index: usize,
    pub(super) watched: Box<Watched>,
    pub(super) source: AnySource,
    pub(super) shared: Arc<SystemShared>,
}

/// A command of the control thread to a scanner.
#[derive(Debug)]
pub(super) enum Command {
    /// Scan one more system.
    Scan(Assigned),
    /// Use this filter of containers from now on, if the scanner has the system of this index.
    Containers(usize, Arc<ContainerConfig>),
    /// Use these thresholds from now on, if the scanner has the system of this index.
    Thresholds(usize, ConnectionThresholds),
}

/// A system that can't be scanned any more, and why.
#[derive(Debug)]
pub(super) struct Lost {
    /// Its index in the list of systems.
    pub(super) index: usize,
    pub(super) reason: String,
    /// Whether the machine itself has ended, so that a retry is useless.
    pub(super) has_ended: bool,
    /// The system. Freeing it takes long, so another thread does that.
    pub(super) system: Assigned,
}

/// The state of a scanner thread.
#[derive(Debug)]
pub(super) struct Scanner {
    pub(super) shared: Arc<Shared>,
    pub(super) stats: Arc<ScanStats>,
    pub(super) commands: Receiver<Command>,
    pub(super) lost: Sender<Lost>,
    pub(super) producer: Producer,
    pub(super) core: Option<u32>,
    pub(super) messages: Arc<Messages>,
    pub(super) start: Instant,
}

/// A system of this scanner.
struct Slot {
    assigned: Assigned,
    failures: u32,
    clock_watch: ClockWatch,
    patience: Patience,
    ticks: Option<u64>,
}

impl Slot {
    fn new(assigned: Assigned) -> Self {
        let clock_watch = ClockWatch::new(Instant::now());
        Self { assigned, failures: 0, clock_watch, patience: Patience::new(), ticks: None }
    }

    /// Scans once. If further scans are useless, returns why, and whether the machine has ended.
    fn scan(&mut self, now: Now, out: &mut Producer) -> Option<(String, bool)> {
        let Assigned { watched, source, shared, .. } = &mut self.assigned;
        source.refresh();
        if source.has_ended() {
            // Its memory may still exist. The objects in it did not end one by one.
            return Some(("the guest has ended".to_owned(), true));
        }
        // Before the scan: changes that another kernel made in this memory are no activities.
        if let Some(reattach) = shared.given_up() {
            return Some((reattach.reason().to_owned(), false));
        }
        shared.exchange(|attestation| watched.attest_anew(attestation));
        match watched.scan(source, now, out) {
            Ok(()) => self.failures = 0,
            Err(error) => {
                self.failures += 1;
                return (self.failures == FAILURES_MAX).then(|| (error.to_string(), false));
            }
        }
        let outruns = watched.outruns_its_clock(now.monotonic);
        let (snapshot, now) = (watched.snapshot(), Instant::now());
        let ticks = snapshot.machine.ticks;
        let has_ticked = ticks != std::mem::replace(&mut self.ticks, ticks);
        // While the machine stands still, other data may overwrite its memory.
        let runs = ticks.is_none() || has_ticked || outruns;
        if runs && let Some(losses) = self.patience.consider(snapshot.losses, now) {
            shared.losses.put(losses);
        }
        shared.skipped.set(Skipped::of(watched));
        let is_due = self.clock_watch.beat(ticks, now);
        shared.set_still(!outruns && self.clock_watch.is_still(now));
        if is_due {
            if !outruns && source.is_unlinked() {
                let reason = "the memory file was removed and the clock in it stands still";
                return Some((format!("{reason}: the machine is gone"), true));
            }
            shared.set_standstill();
        }
        None
    }
}

impl Scanner {
    /// Scans until the request to stop.
    pub(super) fn run(mut self) {
        pin(self.core, &self.messages);
        // Adding a system must not allocate, because others are being scanned.
        let mut slots: Vec<Slot> = Vec::with_capacity(SYSTEMS_USUAL);
        self.scan(&mut slots);
        for slot in &mut slots {
            slot.assigned.watched.finish(now(self.start), &mut self.producer);
        }
        self.producer.flush();
    }

    fn scan(&mut self, slots: &mut Vec<Slot>) {
        let mut next = Instant::now();
        while !self.must_stop() {
            match self.commands.try_recv() {
                Ok(Command::Scan(assigned)) => slots.push(Slot::new(assigned)),
                Ok(Command::Containers(index, config)) => {
                    if let Some(watched) = watched_of(slots, index) {
                        watched.set_containers(config);
                    }
                }
                Ok(Command::Thresholds(index, thresholds)) => {
                    if let Some(watched) = watched_of(slots, index) {
                        watched.set_thresholds(thresholds);
                    }
                }
                Err(TryRecvError::Disconnected) if slots.is_empty() => return,
                Err(_) => {}
            }
            if slots.is_empty() {
                self.stats.rests();
                sleep(Duration::from_millis(1));
                next = Instant::now();
                continue;
            }
            self.hash_until(next, slots);
            if self.wait_until(next) {
                return;
            }
            let begin = Instant::now();
            self.stats.begins(since(self.start, begin));
            self.round(slots);
            self.stats.took(begin.elapsed());
            next = self.after(next);
        }
    }

    fn round(&mut self, slots: &mut Vec<Slot>) {
        let mut at = 0;
        while at < slots.len() && !self.must_stop() {
            self.producer.share(slots.len() - at);
            let slot = &mut slots[at];
            let Some((reason, has_ended)) = slot.scan(now(self.start), &mut self.producer) else {
                at += 1;
                continue;
            };
            let mut system = slots.remove(at).assigned;
            system.watched.abandon(&mut self.producer);
            // The control thread outlives the scanners.
            let _ = self.lost.send(Lost { index: system.index, reason, has_ended, system });
        }
        self.producer.end_shares();
        self.producer.flush();
        self.stats.refused.store(self.producer.refused(), Ordering::Relaxed);
    }

    /// The start of the next scan: one interval after the last, or now if that time has passed.
    fn after(&self, due: Instant) -> Instant {
        let interval = Duration::from_nanos(self.shared.interval_ns.load(Ordering::Relaxed));
        let next = due + interval;
        let now = Instant::now();
        if next >= now {
            return next;
        }
        self.stats.missed.fetch_add(1, Ordering::Relaxed);
        now
    }

    fn must_stop(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Hashes files that scans have requested, a slice of each system in turn, until shortly before
    /// `due`, or a request to stop.
    fn hash_until(&self, due: Instant, slots: &mut [Slot]) {
        loop {
            let mut is_done = true;
            for slot in &mut *slots {
                if Instant::now() + SLICE_TIME >= due || self.must_stop() {
                    return;
                }
                let Assigned { watched, source, .. } = &mut slot.assigned;
                if watched.has_work() {
                    watched.work(source, SLICE_BYTES);
                    is_done = false;
                }
            }
            if is_done {
                return;
            }
        }
    }

    /// Sleeps until `due`; returns `true` on a request to stop.
    fn wait_until(&self, due: Instant) -> bool {
        loop {
            if self.must_stop() {
                return true;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            sleep(left.min(NAP));
        }
    }
}

/// The system with this index, if this scanner has it.
fn watched_of(slots: &mut [Slot], index: usize) -> Option<&mut Watched> {
    let slot = slots.iter_mut().find(|slot| slot.assigned.index == index)?;
    Some(&mut slot.assigned.watched)
}

/// Calendar time in nanoseconds since 1970.
pub(super) fn wall_clock_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The time by both clocks; the monotonic one counts from `start`.
fn now(start: Instant) -> Now {
    let since = i64::try_from(start.elapsed().as_nanos()).unwrap_or(i64::MAX);
    Now { monotonic: Monotonic::from_ns(since), real: RealTime::from_ns(wall_clock_ns()) }
}

fn since(start: Instant, now: Instant) -> u64 {
    u64::try_from(now.duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}

/// The core of a scanner: the given one, or else the last one that this process may run on.
pub(super) fn core_of(core: Option<u32>) -> Option<usize> {
    core.map_or_else(
        || {
            let set = sched_getaffinity(Pid::from_raw(0)).ok()?;
            (0..CpuSet::count()).rev().find(|&cpu| set.is_set(cpu).unwrap_or(false))
        },
        |core| Some(core as usize),
    )
}

/// Binds this thread to the core of its scanner.
fn pin(core: Option<u32>, messages: &Messages) {
    let Some(cpu) = core_of(core) else { return };
    let mut set = CpuSet::new();
    let pinned = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    match pinned {
        Ok(()) => messages.debug(format_args!("scanning on core {cpu}")),
        Err(error) => messages.warning(format_args!(
            "cannot pin a scanner to core {cpu} ({error}); it will run on any core"
        )),
    }
}
