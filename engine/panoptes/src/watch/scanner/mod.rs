//! A scanner thread: scans its systems when they are due.
//!
//! Systems are independent of each other, but share a thread. So a scan that costs more than its
//! share ends early, and its system goes to the slow scanner at once ([`ScannerKind`]). The control
//! thread decides where systems are scanned otherwise (`balance`); a scanner returns them to it.
//!
//! [`turns`] decides which system is next. [`system`] scans one. [`meter`] measures, [`stats`]
//! keeps the figures.

mod early;
pub(super) mod meter;
mod stats;
mod system;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use panoptes_engine::time::{Monotonic, Now, RealTime};
use panoptes_records::filter::FilterSubject;
use panoptes_records::queue::Producer;
use panoptes_sinks::failpoints;
use panoptes_sinks::panics::{self, Restarts, caught};

use super::clocks::{nanoseconds, wall_clock_ns};
use super::signals::Waker;
use crate::config::Service;
use crate::message::Messages;
use early::{EarlyScans, INTERVAL_MAX_NS, Stock};
use meter::{RunDelay, ScannerMeter};
pub(super) use stats::{MeasuredCost, ScanStats, ScannerState};
pub(super) use system::{Pace, ScanFailure, ScanStopConditions, ScanTarget, System};
use turns::{Cost, ScannerKind, ScannerStep, ScannerTurn};

/// No slice of hashing starts within this time before the next scan; a slice takes about half of
/// it.
const SLICE_TIME: Duration = Duration::from_millis(3);
/// The part of its time that a scanner without a pause spends on hashing.
const HASHING_PART: u64 = 20;
/// Records wait at most this long for the end of a burst.
const BURST_NS_MAX: u64 = 5_000_000;
/// Capacity for systems that a scanner reserves at start.
const SYSTEMS_USUAL: usize = 64;
/// Maximum wait. Commands and requests to stop wake a scanner.
const NAP: Duration = Duration::from_millis(50);
/// The same without systems.
const IDLE_NAP: Duration = Duration::from_secs(1);

/// State that all threads share.
#[derive(Debug, Default)]
pub(super) struct ScannerControls {
    /// Set when the threads must stop.
    pub(super) stop: Arc<AtomicBool>,
    /// Nanoseconds from the start of one scan to the start of the next.
    pub(super) interval_ns: AtomicU64,
    /// Whether scans may keep the rows of the ones before.
    pub(super) shortcuts: AtomicBool,
    /// Whether systems with new processes are scanned early.
    pub(super) early_scans: AtomicBool,
    /// Whether NVIDIA's library may run on scanners.
    pub(super) has_dma: bool,
}

impl ScannerControls {
    /// Sets how often and how thoroughly systems are scanned.
    pub(super) fn set_pace(&self, service: &Service) {
        self.interval_ns.store(nanoseconds(service.scan_interval), Ordering::Relaxed);
        self.shortcuts.store(service.shortcuts, Ordering::Relaxed);
        self.early_scans.store(service.early_scans, Ordering::Relaxed);
    }
}

/// A system and what its scanner knows of it.
#[derive(Debug)]
pub(super) struct ScannerSlot<S = System> {
    /// Its index in the list of systems.
    pub(super) index: usize,
    pub(super) system: S,
    pub(super) stats: ScanStats,
    measured: Arc<MeasuredCost>,
    turn: ScannerTurn,
    cost: Cost,
    early: EarlyScans,
}

impl<S> ScannerSlot<S> {
    pub(super) fn new(index: usize, system: S, measured: Arc<MeasuredCost>) -> Self {
        Self {
            index,
            system,
            stats: ScanStats::default(),
            measured,
            turn: ScannerTurn::default(),
            cost: Cost::default(),
            early: EarlyScans::default(),
        }
    }
}

/// A command of the control thread to a scanner. The scanner is to be woken afterwards.
pub(super) enum ScannerCommand<S: ScanTarget = System> {
    /// Scan one more system.
    Scan(Box<ScannerSlot<S>>),
    /// Return the system of this index, if the scanner has it.
    Return(usize),
    /// Make other memory for scans: the limits have grown.
    Renew(MakeScratch<S>),
}

/// A system that a scanner returns to the control thread.
#[derive(Debug)]
pub(super) struct ReturnedSystem<S = System> {
    pub(super) slot: Box<ScannerSlot<S>>,
    pub(super) why: ReturnReason,
}

/// Why a scanner returns a system.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ReturnReason {
    /// The control thread has asked for it.
    Asked,
    /// A scan cost more than its share.
    Overran,
    /// It can't be scanned any more. Freeing it takes long, so another thread does that.
    Gone(ScanFailure),
    /// Its scan has panicked: the panic's message and place. Its state is not used again.
    Panicked(String),
}

/// The outcome of a look at a system between scans.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EarlyCheck {
    /// There is nothing to do.
    Nothing,
    /// It waits until early scans may use more.
    Waits,
    /// It is due.
    Scans,
}

/// The state of a scanner thread.
pub(super) struct Scanner<S: ScanTarget = System> {
    pub(super) kind: ScannerKind,
    /// The cores that it may use.
    pub(super) cores: Vec<usize>,
    pub(super) shared: Arc<ScannerControls>,
    pub(super) state: Arc<ScannerState>,
    pub(super) commands: Receiver<ScannerCommand<S>>,
    pub(super) returned: SyncSender<ReturnedSystem<S>>,
    /// Wakes the control thread.
    pub(super) waker: Waker,
    pub(super) producer: Producer,
    pub(super) messages: Arc<Messages>,
    pub(super) start: Instant,
    slots: Vec<Box<ScannerSlot<S>>>,
    /// Systems for which the control thread had no room yet.
    leaving: Vec<ReturnedSystem<S>>,
    /// Memory for scans.
    scratch: Option<S::Scratch>,
    /// Whether that is made at start, and not when the first system arrives.
    has_scratch: bool,
    make_scratch: MakeScratch<S>,
    /// How long this thread has waited for its core.
    run_delay: RunDelay,
    /// Nanoseconds of hashing that scans without a pause have earned.
    hashing_ns: u64,
    /// What early scans may use.
    stock: Stock,
    /// The place of the system that is looked at first.
    early_next: usize,
    /// The place of the system that hashes next.
    hashes_next: usize,
    /// When records were passed on last.
    flushed_ns: u64,
}

/// The parts of a scanner that differ from scanner to scanner.
pub(super) struct ScannerParts<S: ScanTarget = System> {
    pub(super) kind: ScannerKind,
    pub(super) cores: Vec<usize>,
    pub(super) commands: Receiver<ScannerCommand<S>>,
    pub(super) producer: Producer,
    /// Whether it makes the memory for scans at start.
    pub(super) has_scratch: bool,
}

/// Allocates memory for the scans of one scanner.
pub(super) type MakeScratch<S> = Arc<dyn Fn() -> <S as ScanTarget>::Scratch + Send + Sync>;

/// What all scanners have in common.
pub(super) struct Common<S: ScanTarget = System> {
    pub(super) shared: Arc<ScannerControls>,
    pub(super) returned: SyncSender<ReturnedSystem<S>>,
    pub(super) waker: Waker,
    pub(super) messages: Arc<Messages>,
    pub(super) start: Instant,
    pub(super) make_scratch: MakeScratch<S>,
}

impl<S: ScanTarget> Clone for Common<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            returned: self.returned.clone(),
            waker: self.waker.clone(),
            messages: Arc::clone(&self.messages),
            start: self.start,
            make_scratch: Arc::clone(&self.make_scratch),
        }
    }
}

impl<S: ScanTarget> Scanner<S> {
    pub(super) fn new(common: Common<S>, parts: ScannerParts<S>, state: Arc<ScannerState>) -> Self {
        panics::note();
        let Common { shared, returned, waker, messages, start, make_scratch } = common;
        let ScannerParts { kind, cores, commands, producer, has_scratch } = parts;
        Self {
            kind,
            cores,
            shared,
            state,
            commands,
            returned,
            waker,
            producer,
            messages,
            start,
            // Adding a system must not allocate, because others are being scanned.
            slots: Vec::with_capacity(SYSTEMS_USUAL),
            leaving: Vec::with_capacity(SYSTEMS_USUAL),
            scratch: None,
            has_scratch,
            make_scratch,
            run_delay: RunDelay::default(),
            hashing_ns: 0,
            stock: Stock::default(),
            early_next: 0,
            hashes_next: 0,
            flushed_ns: 0,
        }
    }

    /// Scans until the request to stop; returns itself, with its systems.
    pub(super) fn run(mut self) -> Self {
        meter::place(self.kind, &self.cores, &self.messages);
        self.run_delay = RunDelay::of_this_thread();
        self.state.thread_id.store(meter::thread_id(), Ordering::Relaxed);
        if self.has_scratch && !self.must_stop() {
            self.scratch = Some((self.make_scratch)());
        }
        let mut restarts = Restarts::default();
        // What runs a system has its own guard. All else that a panic could leave half changed are
        // figures and the order of systems, which every step makes anew.
        while let Err(panic) = caught(|| self.run_until_stop()) {
            self.restart(&panic, restarts.add(Instant::now()));
        }
        self.receive();
        for mut slot in self.take_unfinished() {
            self.finish(&mut slot);
            self.slots.push(slot);
        }
        self
    }

    fn run_until_stop(&mut self) {
        while !self.must_stop() {
            self.receive();
            self.step();
        }
    }

    /// Reports a panic that was not in the scan of a system, and pauses before the next step.
    fn restart(&mut self, panic: &str, pause: Duration) {
        self.state.ends();
        self.producer.set_subject(FilterSubject::SERVICE);
        self.producer.end_shares();
        self.state.report_panic(panic);
        let due = Instant::now() + pause;
        while Instant::now() < due && !self.must_stop() {
            self.wait_until(due);
        }
    }

    /// The systems whose last records are to be written: those that it has or is about to return.
    fn take_unfinished(&mut self) -> Vec<Box<ScannerSlot<S>>> {
        let has_ended = |one: &ReturnedSystem<S>| {
            matches!(one.why, ReturnReason::Gone(_) | ReturnReason::Panicked(_))
        };
        let (ended, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.leaving).into_iter().partition(has_ended);
        self.leaving = ended;
        let slots = std::mem::take(&mut self.slots).into_iter();
        slots.chain(others.into_iter().map(|one| one.slot)).collect()
    }

    /// Writes the last records of a system when all scanners stop. One that panics has none.
    pub(super) fn finish(&mut self, slot: &mut ScannerSlot<S>) {
        let now = self.now();
        let Self { scratch, make_scratch, producer, .. } = self;
        let memory = scratch.get_or_insert_with(|| make_scratch());
        if let Err(panic) = caught(|| slot.system.finish(memory, now, producer)) {
            *scratch = None;
            self.messages.error(format_args!("the last records of a system are lost: {panic}"));
        }
        self.producer.set_subject(FilterSubject::SERVICE);
        self.flush();
    }

    /// The systems of a scanner that has stopped.
    pub(super) fn slots(&self) -> impl Iterator<Item = &ScannerSlot<S>> {
        let leaving = self.leaving.iter().map(|one| &one.slot);
        self.slots.iter().chain(leaving).map(|slot| &**slot)
    }

    /// Closes its queue to the writer, and returns the memory of a scanner that has stopped: its
    /// systems and that for scans.
    pub(super) fn close(self) -> impl Sized {
        (self.slots, self.leaving, self.scratch)
    }

    fn receive(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                ScannerCommand::Scan(mut slot) => {
                    self.scratch.get_or_insert_with(|| (self.make_scratch)());
                    // It has no debt here, and no claim.
                    let used = self.slots.iter().map(|slot| slot.turn.used).min();
                    (slot.turn.used, slot.turn.pause) = (used.unwrap_or(0), 0);
                    self.slots.push(slot);
                }
                ScannerCommand::Renew(make) => {
                    self.make_scratch = make;
                    if self.scratch.take().is_some() {
                        self.scratch = Some((self.make_scratch)());
                    }
                }
                ScannerCommand::Return(index) => {
                    if let Some(at) = self.slots.iter().position(|slot| slot.index == index) {
                        self.leave(at, ReturnReason::Asked);
                    }
                }
            }
        }
    }

    /// Scans the system that is due, or waits.
    fn step(&mut self) {
        failpoints::reach("loop");
        self.return_leaving();
        let now = self.now_ns();
        self.state.step_ns.store(now, Ordering::Relaxed);
        let turns = self.slots.iter().map(|slot| slot.turn);
        match turns::next(turns, self.kind, now, self.interval_ns()) {
            ScannerStep::Scan(at) => {
                self.scan(at);
                self.hash_a_slice();
            }
            ScannerStep::Wait(due) => {
                self.flush();
                if self.make_early(now, due) {
                    return;
                }
                let due = self.start + Duration::from_nanos(due);
                if !self.hash_before(due) {
                    self.wait_until(due);
                }
            }
            ScannerStep::Nothing => {
                self.flush();
                park_timeout(if self.leaving.is_empty() { IDLE_NAP } else { NAP });
            }
        }
    }

    fn scan(&mut self, at: usize) {
        let (now, begin, interval) = (self.now(), self.now_ns(), self.interval_ns());
        let Self { kind, shared, state, producer, slots, scratch, run_delay, .. } = self;
        let Some(scratch) = scratch else { return };
        let slice = slots[at].cost.slice();
        let limit = || match kind {
            ScannerKind::Quick => state.limit_ns.load(Ordering::Relaxed),
            ScannerKind::Slow => slice,
        };
        state.begins(slots[at].index, begin);
        producer.share(slots.len());
        let (slot, meter) = (&mut slots[at], ScannerMeter::start(run_delay));
        slot.stats.begins(meter::cpu_ns());
        let must_stop = || shared.stop.load(Ordering::Relaxed);
        let is_over = || state.is_shared() && meter.exceeds(limit());
        let ends = ScanStopConditions { is_over: &is_over, must_stop: &must_stop };
        let is_early = slot.turn.is_early();
        let pace = Pace {
            interval_ns: interval,
            shortcuts: shared.shortcuts.load(Ordering::Relaxed),
            is_early,
        };
        let result = caught(|| {
            failpoints::reach("scan");
            slot.system.scan(scratch, now, pace, ends, producer)
        });
        let (cost, took) = (meter.cost_ns(), meter.elapsed_ns());
        let is_partial = slot.system.is_partial();
        let costs = if is_early && !is_partial { &mut slot.early.cost } else { &mut slot.cost };
        costs.add(cost, is_partial);
        slot.measured.set(slot.cost.ns(), slot.cost.scans);
        slot.turn.used = slot.turn.used.saturating_add(cost);
        let end = begin.saturating_add(took);
        let goes_on = is_partial && *kind == ScannerKind::Slow;
        let share = state.share_ns.load(Ordering::Relaxed);
        // The first scan costs more than the next ones.
        let usual = if slot.cost.scans > 1 { slot.cost.ns() } else { 0 };
        let is_late = slot.turn.scanned(begin, end, interval, goes_on);
        let period = interval.max(slot.turn.pause);
        slot.turn.pause = turns::pause(usual, share, interval);
        slot.stats.ended(cost, is_late, is_partial);
        slot.early.end(end);
        if is_early {
            self.stock.take(took);
        }
        producer.set_subject(FilterSubject::SERVICE);
        producer.end_shares();
        state.ends();
        let is_over = *kind == ScannerKind::Quick && state.is_shared() && cost > limit();
        // Early scans come close together, and two of them may be delayed by the host.
        let overruns = is_over && !is_early && slot.cost.overran(end, period);
        self.hashing_ns = self.hashing_ns.saturating_add(took / HASHING_PART);
        match result {
            Err(panic) => self.give_up(at, panic),
            Ok(Err(gone)) => self.abandon(at, gone, now),
            Ok(Ok(())) if overruns => self.leave(at, ReturnReason::Overran),
            Ok(Ok(())) if end.saturating_sub(self.flushed_ns) > BURST_NS_MAX => self.flush(),
            Ok(Ok(())) => {}
        }
    }

    /// While no scan is due before `due`, makes a system due whose machine has started something
    /// or whose findings wait. Systems take turns, and one that waits for the stock keeps it from
    /// the others.
    fn make_early(&mut self, now: u64, due: u64) -> bool {
        if !self.looks_early() {
            return false;
        }
        self.stock.fill(now);
        let count = self.slots.len();
        for step in 0..count {
            let at = (self.early_next + step) % count;
            match self.look(at, now, due) {
                EarlyCheck::Nothing => {}
                EarlyCheck::Waits => return false,
                EarlyCheck::Scans => {
                    self.early_next = at + 1;
                    return true;
                }
            }
        }
        false
    }

    /// Looks at a system's count of forks, and makes the system due if that has grown, or if
    /// findings wait.
    fn look(&mut self, at: usize, now: u64, due: u64) -> EarlyCheck {
        let (begin, is_shared) = (self.now_ns(), self.slots.len() > 1);
        let Self { slots, scratch, state, stock, .. } = self;
        let Some(scratch) = scratch else { return EarlyCheck::Nothing };
        let slot = &mut slots[at];
        let cost = slot.early.cost_ns(slot.cost.ns());
        if slot.cost.scans == 0 || !slot.system.can_look() || !slot.early.may(now, cost, *stock) {
            return EarlyCheck::Nothing;
        }
        if slot.early.is_due(now) && stock.left() > 0 {
            // It reads memory, which may not answer.
            state.begins(slot.index, begin);
            let looked = caught(|| slot.system.wants_scan(scratch));
            state.ends();
            match looked {
                Ok(wants_scan) => {
                    let took = nanoseconds(self.start.elapsed()).saturating_sub(begin);
                    slot.early.looked(now, took, wants_scan);
                    stock.take(took);
                }
                Err(panic) => {
                    self.give_up(at, panic);
                    return EarlyCheck::Waits;
                }
            }
        }
        if !slot.early.is_lively(now) {
            return EarlyCheck::Nothing;
        }
        if cost > stock.left() {
            return EarlyCheck::Waits;
        }
        // It must delay no other system.
        if is_shared && now.saturating_add(cost) > due {
            return EarlyCheck::Nothing;
        }
        slot.turn.advance(now);
        EarlyCheck::Scans
    }

    /// Whether it looks for systems to scan early.
    fn looks_early(&self) -> bool {
        self.kind == ScannerKind::Quick
            && self.shared.early_scans.load(Ordering::Relaxed)
            && self.interval_ns() <= INTERVAL_MAX_NS
    }

    /// Writes the last records of a system that can't be scanned any more, and returns it.
    fn abandon(&mut self, at: usize, gone: ScanFailure, now: Now) {
        let Self { slots, scratch, producer, .. } = self;
        let Some(scratch) = scratch else { return };
        let finished = caught(|| slots[at].system.finish(scratch, now, producer));
        producer.set_subject(FilterSubject::SERVICE);
        match finished {
            Ok(()) => self.leave(at, ReturnReason::Gone(gone)),
            Err(panic) => self.give_up(at, panic),
        }
    }

    /// Returns a system that has panicked. It and the memory for scans may be half changed, so
    /// neither is used again.
    fn give_up(&mut self, at: usize, panic: String) {
        self.producer.set_subject(FilterSubject::SERVICE);
        self.scratch = None;
        self.leave(at, ReturnReason::Panicked(panic));
        if !self.slots.is_empty() {
            self.scratch = Some((self.make_scratch)());
        }
    }

    /// Scans a system no more, and returns it to the control thread.
    fn leave(&mut self, at: usize, why: ReturnReason) {
        // The records of its next scanner follow these.
        self.flush();
        let mut slot = self.slots.remove(at);
        slot.stats.moves();
        self.leaving.push(ReturnedSystem { slot, why });
        self.return_leaving();
    }

    /// Returns systems to the control thread. What that has no room for is offered again.
    fn return_leaving(&mut self) {
        while let Some(returned) = self.leaving.pop() {
            // The control thread outlives the scanners.
            if let Err(TrySendError::Full(returned)) = self.returned.try_send(returned) {
                self.leaving.push(returned);
                self.waker.wake();
                return;
            }
            self.waker.wake();
        }
    }

    fn flush(&mut self) {
        self.producer.flush();
        self.flushed_ns = self.now_ns();
        self.state.refused.store(self.producer.refused(), Ordering::Relaxed);
    }

    fn must_stop(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn interval_ns(&self) -> u64 {
        self.shared.interval_ns.load(Ordering::Relaxed)
    }

    /// Hashes a slice of the files that scans have requested, if there is enough time before `due`;
    /// false if nothing was hashed.
    fn hash_before(&mut self, due: Instant) -> bool {
        let has_time = Instant::now() + SLICE_TIME < due && !self.must_stop();
        if has_time {
            self.hashing_ns = 0;
        }
        has_time && self.hash_next()
    }

    /// Without a pause between scans, hashes nevertheless from time to time.
    fn hash_a_slice(&mut self) {
        if u128::from(self.hashing_ns) < SLICE_TIME.as_nanos() || self.must_stop() {
            return;
        }
        let begin = Instant::now();
        let has_hashed = self.hash_next();
        let used = if has_hashed { nanoseconds(begin.elapsed()) } else { self.hashing_ns };
        self.hashing_ns = self.hashing_ns.saturating_sub(used);
    }

    /// Hashes a slice of the next system that has files to hash; false if there is none.
    fn hash_next(&mut self) -> bool {
        let count = self.slots.len();
        for _ in 0..count {
            self.hashes_next = (self.hashes_next + 1) % count;
            let now = self.now_ns();
            let at = self.hashes_next;
            let ScannerSlot { index, system, .. } = &mut *self.slots[at];
            if system.has_work()
                && let Some(scratch) = &mut self.scratch
            {
                // It reads memory, which may not answer.
                self.state.begins(*index, now);
                let worked = caught(|| {
                    failpoints::reach("hash");
                    system.work(scratch);
                });
                self.state.ends();
                if let Err(panic) = worked {
                    self.give_up(at, panic);
                }
                return true;
            }
        }
        false
    }

    /// Waits until `due`, a command or a request to stop.
    fn wait_until(&self, due: Instant) {
        let left = due.saturating_duration_since(Instant::now());
        let now = self.now_ns();
        let looking = self.slots.iter().filter(|slot| slot.system.can_look());
        let looks = looking.map(|slot| slot.early.pause(now));
        let look = looks.min().filter(|_| self.looks_early()).map(Duration::from_nanos);
        let most = look.unwrap_or(NAP);
        if !left.is_zero() && !self.must_stop() {
            park_timeout(left.min(most));
        }
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }

    /// The time by both clocks; the monotonic one counts from the start.
    fn now(&self) -> Now {
        let since = i64::try_from(self.start.elapsed().as_nanos()).unwrap_or(i64::MAX);
        Now { monotonic: Monotonic::from_ns(since), real: RealTime::from_ns(wall_clock_ns()) }
    }
}
