//! A scanner thread: its systems in turn, at the interval that is configured, on a core of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use panoptes_engine::containers::ContainerConfig;
use panoptes_engine::source::AnySource;
use panoptes_engine::state::ConnectionThresholds;
use panoptes_engine::watch::{SLICE_BYTES, Watched};
use panoptes_sinks::queue::Producer;

use super::losses::Patience;
use super::pulse::{Pulse, Vital};
use crate::message::Messages;

/// How often a system must fail in a row before it is given back: memory changes under us, and one scan
/// can meet it at a bad moment.
const FAILURES_MAX: u32 = 5;
/// So long before the next scan nothing more is begun: a slice of hashing takes about half of it.
const SLICE_TIME: Duration = Duration::from_millis(3);
/// So many systems a scanner has room for from the start.
const SYSTEMS_USUAL: usize = 64;
/// Longest sleep, so that a stop is heard.
const NAP: Duration = Duration::from_millis(50);

/// What all threads look at.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Set when it is time to stop.
    pub(super) stop: AtomicBool,
    /// Nanoseconds from the start of one scan to the start of the next.
    pub(super) interval_ns: AtomicU64,
}

/// How regularly a scanner ran; anyone may read it at any time.
#[derive(Debug, Default)]
pub(super) struct Pace {
    scans: AtomicU64,
    missed: AtomicU64,
    worst_gap_ns: AtomicU64,
    scan_ns: AtomicU64,
    worst_scan_ns: AtomicU64,
    gaps: AtomicU64,
    gaps_ns: AtomicU64,
    /// When the last round began; 0 when there is none to count from.
    last_ns: AtomicU64,
    refused: AtomicU64,
}

impl Pace {
    fn begins(&self, since_start_ns: u64) {
        let last = self.last_ns.swap(since_start_ns, Ordering::Relaxed);
        self.scans.fetch_add(1, Ordering::Relaxed);
        if last != 0 {
            self.gaps.fetch_add(1, Ordering::Relaxed);
            self.gaps_ns.fetch_add(since_start_ns - last, Ordering::Relaxed);
            self.worst_gap_ns.fetch_max(since_start_ns - last, Ordering::Relaxed);
        }
    }

    /// There is nothing to scan for a while, which is no gap.
    fn rests(&self) {
        self.last_ns.store(0, Ordering::Relaxed);
    }

    /// How many records found no room in the queue to the writer.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn took(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.scan_ns.fetch_add(ns, Ordering::Relaxed);
        self.worst_scan_ns.fetch_max(ns, Ordering::Relaxed);
    }
}

impl std::fmt::Display for Pace {
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

/// A system on its way between the threads.
#[derive(Debug)]
pub(super) struct Assigned {
    /// Its place in the list of systems.
    pub(super) index: usize,
    /// What scans it.
    pub(super) watched: Box<Watched>,
    /// Its memory.
    pub(super) source: AnySource,
    /// What is said of it meanwhile.
    pub(super) vital: Arc<Vital>,
}

/// What the control thread wants of a scanner.
#[derive(Debug)]
pub(super) enum Order {
    /// Scan one more system.
    Scan(Assigned),
    /// Report the containers of a system by this from now on, if it is scanned here.
    Containers(usize, Arc<ContainerConfig>),
    /// Report the connections of a system by this from now on, if it is scanned here.
    Thresholds(usize, ConnectionThresholds),
}

/// A system that can be scanned no more, and why.
#[derive(Debug)]
pub(super) struct Lost {
    /// Its place in the list of systems.
    pub(super) index: usize,
    /// Why.
    pub(super) reason: String,
    /// Whether the machine itself is gone, so that there is no use in trying again.
    pub(super) has_ended: bool,
}

/// What a scanner thread has.
#[derive(Debug)]
pub(super) struct Scanner {
    pub(super) shared: Arc<Shared>,
    pub(super) pace: Arc<Pace>,
    pub(super) orders: Receiver<Order>,
    pub(super) lost: Sender<Lost>,
    pub(super) producer: Producer,
    pub(super) core: Option<u32>,
    pub(super) messages: Arc<Messages>,
    pub(super) start: Instant,
}

struct Turn {
    assigned: Assigned,
    failures: u32,
    pulse: Pulse,
    patience: Patience,
    ticks: Option<u64>,
}

impl Turn {
    fn new(assigned: Assigned) -> Self {
        let pulse = Pulse::new(Instant::now());
        Self { assigned, failures: 0, pulse, patience: Patience::new(), ticks: None }
    }

    /// Scans once; if it is of no use to go on, why, and whether the machine itself is gone.
    fn scan(&mut self, out: &mut Producer) -> Option<(String, bool)> {
        let Assigned { watched, source, vital, .. } = &mut self.assigned;
        // An error here shows again when memory is read.
        let _ = source.refresh();
        if source.has_ended() {
            // Its memory may still be there. What was in it did not end one by one.
            return Some(("the guest has ended".to_owned(), true));
        }
        // Before the scan: what another kernel has made of this memory is nothing that happened here.
        if let Some(doubt) = vital.given_up() {
            return Some((doubt.reason().to_owned(), false));
        }
        vital.exchange(|attestation| watched.attest_anew(attestation));
        match watched.scan(source, wall_clock_ns(), out) {
            Ok(()) => self.failures = 0,
            Err(error) => {
                self.failures += 1;
                return (self.failures == FAILURES_MAX).then(|| (error.to_string(), false));
            }
        }
        let (snapshot, now) = (watched.snapshot(), Instant::now());
        let ticks = snapshot.machine.ticks;
        // What a machine that does not run is overwritten with is not its own.
        let runs = ticks.is_none() || ticks != std::mem::replace(&mut self.ticks, ticks);
        if runs && let Some(losses) = self.patience.consider(snapshot.losses, now) {
            vital.losses.put(losses);
        }
        vital.shell_history_refused.note(watched.shell_history_refused());
        vital.permissions_refused.note(watched.permissions_refused());
        let shells = watched.shells_usage();
        vital.shells_cut_short.note(shells.cut_short);
        vital.shells_untold.note(shells.untold);
        if self.pulse.beat(ticks, now) {
            if source.is_unlinked() {
                let reason = "the memory file was removed and the clock in it stands still";
                return Some((format!("{reason}: the machine is gone"), true));
            }
            vital.doubt();
        }
        None
    }
}

impl Scanner {
    /// Scans until it is time to stop.
    pub(super) fn run(mut self) {
        pin(self.core, &self.messages);
        // Systems come while others are scanned, which must not wait for memory.
        let mut turns: Vec<Turn> = Vec::with_capacity(SYSTEMS_USUAL);
        self.scan(&mut turns);
        for turn in &mut turns {
            turn.assigned.watched.finish(wall_clock_ns(), &mut self.producer);
        }
        self.producer.flush();
    }

    fn scan(&mut self, turns: &mut Vec<Turn>) {
        let mut next = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            match self.orders.try_recv() {
                Ok(Order::Scan(assigned)) => turns.push(Turn::new(assigned)),
                Ok(Order::Containers(index, config)) => {
                    if let Some(watched) = watched_of(turns, index) {
                        watched.set_containers(config);
                    }
                }
                Ok(Order::Thresholds(index, thresholds)) => {
                    if let Some(watched) = watched_of(turns, index) {
                        watched.set_thresholds(thresholds);
                    }
                }
                Err(TryRecvError::Disconnected) if turns.is_empty() => return,
                Err(_) => {}
            }
            if turns.is_empty() {
                self.pace.rests();
                sleep(Duration::from_millis(1));
                next = Instant::now();
                continue;
            }
            hash_until(next, turns);
            if self.wait_until(next) {
                return;
            }
            let begin = Instant::now();
            self.pace.begins(since(self.start, begin));
            self.round(turns);
            self.pace.took(begin.elapsed());
            next = self.after(next);
        }
    }

    fn round(&mut self, turns: &mut Vec<Turn>) {
        let mut at = 0;
        while at < turns.len() {
            let turn = &mut turns[at];
            let Some((reason, has_ended)) = turn.scan(&mut self.producer) else {
                at += 1;
                continue;
            };
            let lost = Lost { index: turn.assigned.index, reason, has_ended };
            drop(turns.remove(at));
            // The control thread outlives the scanners.
            let _ = self.lost.send(lost);
        }
        self.producer.flush();
        self.pace.refused.store(self.producer.refused(), Ordering::Relaxed);
    }

    /// The start of the next scan: one interval after this one's, or at once when that is past.
    fn after(&self, due: Instant) -> Instant {
        let interval = Duration::from_nanos(self.shared.interval_ns.load(Ordering::Relaxed));
        let next = due + interval;
        let now = Instant::now();
        if next >= now {
            return next;
        }
        self.pace.missed.fetch_add(1, Ordering::Relaxed);
        now
    }

    /// Sleeps until `due`; whether it is time to stop.
    fn wait_until(&self, due: Instant) -> bool {
        loop {
            if self.shared.stop.load(Ordering::Relaxed) {
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

/// What scans the system of that place, if it is scanned here.
fn watched_of(turns: &mut [Turn], index: usize) -> Option<&mut Watched> {
    let turn = turns.iter_mut().find(|turn| turn.assigned.index == index)?;
    Some(&mut turn.assigned.watched)
}

/// Hashes files that the systems' scans asked for, a slice of each system in turn, while there is time.
fn hash_until(due: Instant, turns: &mut [Turn]) {
    loop {
        let mut is_done = true;
        for turn in &mut *turns {
            if Instant::now() + SLICE_TIME >= due {
                return;
            }
            let Assigned { watched, source, .. } = &mut turn.assigned;
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

/// Calendar time in nanoseconds since 1970.
pub(super) fn wall_clock_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn since(start: Instant, now: Instant) -> u64 {
    u64::try_from(now.duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}

/// Binds this thread to a core: the one given, else the last one that it may run on.
pub(crate) fn pin(core: Option<u32>, messages: &Messages) {
    let this = Pid::from_raw(0);
    let allowed = |set: &CpuSet, cpu: usize| set.is_set(cpu).unwrap_or(false);
    let wanted = core.map_or_else(
        || {
            let set = sched_getaffinity(this).ok()?;
            (0..CpuSet::count()).rev().find(|&cpu| allowed(&set, cpu))
        },
        |core| Some(core as usize),
    );
    let Some(cpu) = wanted else { return };
    let mut set = CpuSet::new();
    let pinned = set.set(cpu).and_then(|()| sched_setaffinity(this, &set));
    match pinned {
        Ok(()) => messages.debug(format_args!("scanning on core {cpu}")),
        Err(error) => messages.warning(format_args!(
            "cannot scan on core {cpu} ({error}); scanning wherever there is time"
        )),
    }
}
