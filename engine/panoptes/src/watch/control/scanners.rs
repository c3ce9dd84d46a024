//! The scanner threads: starts them, passes systems to them and between them, and ends them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use panoptes_engine::limits::Limits;
use panoptes_engine::watch::Workspace;
use panoptes_records::queue::{Consumer, QueueSize, Waker, queue};
use panoptes_sources::lock_own_memory;
use panoptes_tables::{HashKey, room};

use crate::exit::Failure;
use crate::memory::{PromisedMemory, SLOW_QUEUE, quick_queue};
use crate::message::Messages;
use crate::sandbox::Role;
use crate::scanner_cores::ScannerCores;
use crate::watch::balance::{Balance, ScannerId};
use crate::watch::clocks::nanoseconds;
use crate::watch::scanner::meter::{is_runnable, runnable_ns};
use crate::watch::scanner::turns::ScannerKind;
use crate::watch::scanner::{
    Common, MakeScratch, MeasuredCost, ReturnReason, ReturnedSystem, ScanFailure, ScanTarget,
    Scanner, ScannerCommand, ScannerControls, ScannerParts, ScannerSlot, ScannerState, System,
};
use crate::watch::signals;
use crate::watch::threads::spawn;

/// Systems that scanners return at once.
const RETURNED_MOST: usize = 256;
/// Systems that move in one period of the control thread.
const MOVES_MOST: usize = 8;
/// A scanner whose scan takes longer does not scan its other systems: memory may not answer.
const SILENT: Duration = Duration::from_secs(3);
/// How often the control thread must have looked meanwhile: the whole program may have been
/// stopped.
const SILENT_LOOKS: u32 = 20;
/// A scan that takes longer is reported.
const STUCK: Duration = Duration::from_secs(10);

/// All scanner threads: the quick ones, and the slow one.
#[derive(Debug)]
pub(super) struct Scanners<S: ScanTarget> {
    quick: Vec<ScannerHandle<S>>,
    slow: Option<ScannerHandle<S>>,
    returned: Receiver<ReturnedSystem<S>>,
    balance: Balance,
    /// What each system costs, by its index in the list of systems.
    measured: BTreeMap<usize, Arc<MeasuredCost>>,
    /// The scanner that has each system, by the same index, or is about to get it.
    holders: BTreeMap<usize, ScannerId>,
    unscanned: Vec<UnscannedSystem>,
    shared: Arc<ScannerControls>,
    start: Instant,
}

/// A scanner thread.
#[derive(Debug)]
pub(super) struct ScannerHandle<S: ScanTarget> {
    commands: Sender<ScannerCommand<S>>,
    pub(super) state: Arc<ScannerState>,
    pub(super) thread: JoinHandle<Scanner<S>>,
    /// The scan that takes too long and was reported, by when it began.
    stuck_ns: u64,
    /// The scan that ran at the last look, by when it began, and the number of looks at it.
    looks: (u64, u32),
    /// How long its thread was runnable ([`crate::watch::scanner::meter::runnable_ns`]), and since
    /// when that stands still.
    still: Option<(u64, u64)>,
}

/// A system that is not scanned, because its scanner waits for memory that does not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct UnscannedSystem {
    pub(super) index: usize,
    /// The system whose memory does not answer.
    pub(super) cause: usize,
    /// How long that scan has lasted, in nanoseconds.
    pub(super) ns: u64,
}

/// A system that no scanner has any more.
#[derive(Debug)]
pub(super) struct LostSystem<S> {
    pub(super) slot: Box<ScannerSlot<S>>,
    pub(super) gone: ScanFailure,
    /// Whether its scan has panicked: then its state is not used again.
    pub(super) has_panicked: bool,
}

impl<S: ScanTarget> ScannerHandle<S> {
    fn start(
        common: &Common<S>,
        kind: ScannerKind,
        cores: Vec<usize>,
        size: QueueSize,
        waker: &Waker,
        has_scratch: bool,
    ) -> Result<(Self, Consumer), Failure> {
        let (producer, consumer) = queue(size, waker);
        let (sender, commands) = channel();
        let state = Arc::new(ScannerState::default());
        let parts = ScannerParts { kind, cores, commands, producer, has_scratch };
        let scanner = Scanner::new(Common::clone(common), parts, Arc::clone(&state));
        let role = Role::Scanner { has_dma: common.shared.has_dma };
        let messages = Arc::clone(&common.messages);
        let thread = spawn("scanner", move || {
            role.enter(&messages);
            scanner.run()
        })?;
        Ok((
            Self { commands: sender, state, thread, stuck_ns: 0, looks: (0, 0), still: None },
            consumer,
        ))
    }

    fn send(&self, command: ScannerCommand<S>) {
        // If the scanner has ended, the join of its thread reports that.
        let _ = self.commands.send(command);
        self.wake();
    }

    fn wake(&self) {
        self.thread.thread().unpark();
    }

    /// How long its thread has had a core or could have used one, in nanoseconds.
    pub(super) fn runnable_ns(&self) -> u64 {
        runnable_ns(self.state.thread_id.load(Ordering::Relaxed))
    }

    /// Whether its thread has a core, or waits for one.
    pub(super) fn is_runnable(&self) -> bool {
        is_runnable(self.state.thread_id.load(Ordering::Relaxed))
    }

    /// How long its present scan has lasted, in nanoseconds.
    fn scans_since(&self, now: u64) -> u64 {
        let since = self.state.scans_since_ns.load(Ordering::Relaxed);
        if since == 0 { 0 } else { now.saturating_sub(since) }
    }

    /// Looks at its present scan; returns whether it has waited so long for memory that other
    /// systems are not scanned. A scan that only takes long (a large system, a core that others
    /// use) may continue.
    fn is_silent(&mut self, now: u64) -> bool {
        let since = self.state.scans_since_ns.load(Ordering::Relaxed);
        let (before, looks) = self.looks;
        self.looks = (since, if since == before { looks.saturating_add(1) } else { 0 });
        if since == 0 || self.looks.1 < SILENT_LOOKS {
            self.still = None;
            return false;
        }
        let runnable = runnable_ns(self.state.thread_id.load(Ordering::Relaxed));
        let still = self.still.filter(|(before, _)| *before == runnable);
        let (_, still_since) = *self.still.insert(still.unwrap_or((runnable, now)));
        now.saturating_sub(still_since) > nanoseconds(SILENT)
    }
}

impl<S: ScanTarget> Scanners<S> {
    /// The number of threads that [`Self::start`] starts.
    pub(super) fn count(cores: &ScannerCores, most: usize) -> usize {
        cores.quick(most) + usize::from(most > 1)
    }

    /// Starts all scanners that may be needed, at most one for each of `most` systems; also returns
    /// the ends of their queues. Those without systems sleep.
    pub(super) fn start(
        (cores, most): (&ScannerCores, usize),
        waker: &Waker,
        shared: &Arc<ScannerControls>,
        signals: signals::Waker,
        messages: &Arc<Messages>,
        start: Instant,
        make_scratch: MakeScratch<S>,
    ) -> Result<(Self, Vec<Consumer>), Failure> {
        let (sender, returned) = sync_channel(RETURNED_MOST);
        let common = Common {
            shared: Arc::clone(shared),
            returned: sender,
            waker: signals,
            messages: Arc::clone(messages),
            start,
            make_scratch,
        };
        let count = cores.quick(most);
        let mut consumers = Vec::new();
        let mut add = |kind, cores: &[usize], size, has_scratch| {
            let cores = cores.to_vec();
            let started = ScannerHandle::start(&common, kind, cores, size, waker, has_scratch);
            started.map(|(handle, consumer)| {
                consumers.push(consumer);
                handle
            })
        };
        let quick = (0..count)
            .map(|at| {
                let cores = cores.cores.get(at..=at).unwrap_or_default();
                // The others may never be needed.
                add(ScannerKind::Quick, cores, quick_queue(count), at == 0)
            })
            .collect::<Result<Vec<_>, _>>()?;
        // A system alone delays nobody.
        let all = &cores.cores[..count.min(cores.cores.len())];
        let slow =
            if most > 1 { Some(add(ScannerKind::Slow, all, SLOW_QUEUE, false)?) } else { None };
        let scanners = Self {
            balance: Balance::new(count, cores.is_auto, slow.is_some()),
            quick,
            slow,
            returned,
            measured: BTreeMap::new(),
            holders: BTreeMap::new(),
            unscanned: Vec::new(),
            shared: Arc::clone(shared),
            start,
        };
        Ok((scanners, consumers))
    }

    /// Passes a new system to a scanner.
    pub(super) fn add(&mut self, index: usize, system: S) {
        let measured = Arc::new(MeasuredCost::default());
        self.measured.insert(index, Arc::clone(&measured));
        let now = self.now_ns();
        self.balance.add(index, now);
        self.pass_on(Box::new(ScannerSlot::new(index, system, measured)));
    }

    /// Moves systems between scanners as far as needed; returns those that can't be scanned any
    /// more.
    pub(super) fn balance(&mut self) -> Vec<LostSystem<S>> {
        let mut lost = Vec::new();
        while let Ok(ReturnedSystem { slot, why }) = self.returned.try_recv() {
            self.holders.remove(&slot.index);
            match why {
                ReturnReason::Gone(gone) => {
                    self.balance.remove(slot.index);
                    self.measured.remove(&slot.index);
                    lost.push(LostSystem { slot, gone, has_panicked: false });
                }
                ReturnReason::Panicked(panic) => {
                    self.balance.remove(slot.index);
                    self.measured.remove(&slot.index);
                    let gone = ScanFailure { reason: panic, has_ended: false };
                    lost.push(LostSystem { slot, gone, has_panicked: true });
                }
                ReturnReason::Overran => {
                    self.balance.overran(slot.index, self.now_ns());
                    self.pass_on(slot);
                }
                ReturnReason::Asked => self.pass_on(slot),
            }
        }
        for (index, measured) in &self.measured {
            let (cost, scans) = measured.get();
            self.balance.measured(*index, cost, scans);
        }
        self.look_at_scans();
        let (now, interval) = (self.now_ns(), self.shared.interval_ns.load(Ordering::Relaxed));
        for _ in 0..MOVES_MOST {
            let Some(moved) = self.balance.next_move(now, interval) else { break };
            if let Some(scanner) = self.handle(moved.from) {
                scanner.send(ScannerCommand::Return(moved.index));
            }
        }
        self.set_limits(interval);
        lost
    }

    /// Notes which scanners wait for memory that does not answer.
    fn look_at_scans(&mut self) {
        let now = self.now_ns();
        self.unscanned.clear();
        let quick = self.quick.iter_mut().enumerate();
        let quick = quick.map(|(number, scanner)| (ScannerId::Quick(number), scanner));
        for (place, scanner) in quick.chain(self.slow.iter_mut().map(|it| (ScannerId::Slow, it))) {
            let is_silent = scanner.is_silent(now);
            self.balance.set_silent(place, is_silent);
            if is_silent {
                let cause = scanner.state.scans.load(Ordering::Relaxed);
                let ns = scanner.scans_since(now);
                // It still has those, too, that are to leave it.
                let holders = self.holders.iter().filter(|(_, holder)| **holder == place);
                let of_it = holders.map(|(&index, _)| UnscannedSystem { index, cause, ns });
                self.unscanned.extend(of_it);
            }
        }
    }

    /// The systems that are not scanned now, as of the last [`Self::balance`].
    pub(super) fn unscanned(&self) -> &[UnscannedSystem] {
        &self.unscanned
    }

    /// Sets what scans may cost, and how many systems share a scanner.
    fn set_limits(&self, interval: u64) {
        let quick = self.quick.iter().enumerate();
        let quick = quick.map(|(number, scanner)| (ScannerId::Quick(number), scanner));
        for (place, scanner) in quick.chain(self.slow.iter().map(|slow| (ScannerId::Slow, slow))) {
            let limit = self.balance.limit(place, interval);
            let is_slow = place == ScannerId::Slow;
            let share = if is_slow { u64::MAX } else { self.balance.share(interval) };
            scanner.state.share_ns.store(share, Ordering::Relaxed);
            scanner.state.limit_ns.store(limit, Ordering::Relaxed);
            scanner.state.systems.store(self.balance.count(place), Ordering::Relaxed);
        }
    }

    fn pass_on(&mut self, slot: Box<ScannerSlot<S>>) {
        let place = self.balance.place(slot.index).unwrap_or(ScannerId::Quick(0));
        self.holders.insert(slot.index, place);
        if let Some(scanner) = self.handle(place) {
            scanner.send(ScannerCommand::Scan(slot));
        }
    }

    /// Has all scanners make other memory for scans, before they scan anything else.
    pub(super) fn set_scratch(&self, make: &MakeScratch<S>) {
        for scanner in self.quick.iter().chain(&self.slow) {
            scanner.send(ScannerCommand::Renew(Arc::clone(make)));
        }
    }

    fn handle(&self, place: ScannerId) -> Option<&ScannerHandle<S>> {
        match place {
            ScannerId::Quick(number) => self.quick.get(number),
            ScannerId::Slow => self.slow.as_ref(),
        }
    }

    /// Lets all scanners notice at once that something has changed.
    pub(super) fn wake(&self) {
        self.quick.iter().chain(&self.slow).for_each(ScannerHandle::wake);
    }

    /// How many records did not fit in the queues to the writer.
    pub(super) fn refused(&self) -> u64 {
        let all = self.quick.iter().chain(&self.slow);
        all.map(|scanner| scanner.state.refused.load(Ordering::Relaxed)).sum()
    }

    /// State of each scanner.
    pub(super) fn states(&self) -> Vec<Arc<ScannerState>> {
        self.quick.iter().chain(&self.slow).map(|scanner| Arc::clone(&scanner.state)).collect()
    }

    /// The next panic of a scanner that was not in the scan of a system.
    pub(super) fn next_panic(&self) -> Option<String> {
        self.quick.iter().chain(&self.slow).find_map(|scanner| scanner.state.take_panic())
    }

    /// The next system whose scan does not end; each scan is returned once.
    pub(super) fn next_stuck(&mut self) -> Option<usize> {
        let now = self.now_ns();
        let mut all = self.quick.iter_mut().chain(&mut self.slow);
        all.find_map(|scanner| {
            let since = scanner.state.scans_since_ns.load(Ordering::Relaxed);
            let is_stuck = scanner.scans_since(now) > nanoseconds(STUCK);
            let is_new = is_stuck && std::mem::replace(&mut scanner.stuck_ns, since) != since;
            is_new.then(|| scanner.state.scans.load(Ordering::Relaxed))
        })
    }

    /// Whether no scanner has ended.
    pub(super) fn are_alive(&self) -> bool {
        self.quick.iter().chain(&self.slow).all(|scanner| !scanner.thread.is_finished())
    }

    /// Whether all scanners have ended.
    pub(super) fn have_ended(&self) -> bool {
        self.quick.iter().chain(&self.slow).all(|scanner| scanner.thread.is_finished())
    }

    /// All scanners, to wait for their ends.
    pub(super) fn drain(&mut self) -> Vec<ScannerHandle<S>> {
        self.quick.drain(..).chain(self.slow.take()).collect()
    }

    /// The next system that was on its way when the scanners stopped.
    pub(super) fn next_returned(&self) -> Option<ReturnedSystem<S>> {
        self.returned.try_recv().ok()
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }
}

/// Allocates the memory that scans of systems within these limits share on a thread. It is promised
/// to so many scanners until they have it. After `stop`, it is not made resident.
pub(super) fn workspaces(
    limits: Limits,
    promised: &PromisedMemory,
    scanners: usize,
    stop: &Arc<AtomicBool>,
) -> MakeScratch<System> {
    let key = HashKey::new(0);
    let bytes = room::measure(|| Workspace::new(&limits, key)).unwrap_or_default();
    let promises: Vec<_> = (0..scanners).map(|_| promised.add(bytes)).collect();
    let (promises, stop) = (Mutex::new(promises), Arc::clone(stop));
    Arc::new(move || {
        let key = crate::random::hash_key();
        let workspace = room::touch_unless(&stop, || Workspace::new(&limits, key));
        drop(promises.lock().unwrap_or_else(PoisonError::into_inner).pop());
        // A failure was reported at start.
        let _ = lock_own_memory();
        workspace
    })
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;
    use crate::config::LogLevel;
    use crate::scanner_cores::allowed_cores;
    use crate::watch::scanner::tests::{Fake, Part};
    use crate::watch::signals::Signals;

    const INTERVAL: Duration = Duration::from_millis(10);

    /// Scans systems for a while on one core, with `look` after each round of the control thread,
    /// and returns the scanners.
    fn scan(
        systems: Vec<Fake>,
        time: Duration,
        mut look: impl FnMut(&Scanners<Fake>),
    ) -> Vec<Scanner<Fake>> {
        let cores = ScannerCores { cores: vec![allowed_cores()[0]], is_auto: true };
        let shared = Arc::new(ScannerControls::default());
        shared.interval_ns.store(nanoseconds(INTERVAL), Ordering::Relaxed);
        let (waker, wakes) = (Waker::default(), Signals::take().unwrap().waker());
        let messages = Arc::new(Messages::new(Box::new(std::io::sink()), false, LogLevel::Error));
        let start = Instant::now();
        let (mut scanners, consumers) = Scanners::start(
            (&cores, usize::MAX),
            &waker,
            &shared,
            wakes,
            &messages,
            start,
            Arc::new(|| ()),
        )
        .unwrap();
        for (index, system) in systems.into_iter().enumerate() {
            scanners.add(index, system);
        }
        while start.elapsed() < time {
            assert!(scanners.balance().is_empty());
            look(&scanners);
            sleep(Duration::from_millis(20));
        }
        shared.stop.store(true, Ordering::Relaxed);
        scanners.wake();
        let begin = Instant::now();
        let ended = scanners.drain().into_iter().map(|one| one.thread.join().unwrap()).collect();
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        drop(consumers);
        ended
    }

    /// The longest of the mean times from scan to scan of the first eight systems, in nanoseconds
    /// of CPU time of the scanner: another program may have the core for a while.
    fn longest(ended: &[Scanner<Fake>]) -> u64 {
        let slots = || ended.iter().flat_map(Scanner::slots);
        for slot in slots() {
            println!("{}: {}", slot.index, slot.stats);
        }
        let quiet = slots().filter(|slot| slot.index < 8);
        quiet.map(|slot| slot.stats.cpu_intervals().mean()).max().unwrap()
    }

    #[test]
    fn a_costly_system_does_not_slow_its_neighbours_down() {
        let quiet = || (0..8).map(|_| Fake::new(Part::Works(100), 4));
        let time = Duration::from_secs(5);
        let alone = longest(&scan(quiet().collect(), time, |_| ()));
        for costly in [Part::Works(1000), Part::Waits(1)] {
            let all = quiet().chain([Fake::new(costly, 200)]).collect();
            let ended = scan(all, time, |_| ());
            let beside = longest(&ended);
            assert!(beside <= alone * 12 / 10, "{costly:?}: {beside} ns instead of {alone} ns");
            let is_slow = |slot: &ScannerSlot<Fake>| slot.index == 8;
            assert!(ended.last().unwrap().slots().any(is_slow), "{costly:?}: it is the slow one");
        }
    }

    /// Memory that does not answer keeps a scanner, and nothing can take its systems away. So each
    /// of them is reported, and systems of other scanners are still scanned.
    #[test]
    fn systems_behind_memory_that_does_not_answer_are_known_in_seconds() {
        // The first one has the quick scanner, and the others begin in the slow one.
        let hangs = Fake::new(Part::WaitsOnce(6000), 1);
        let fine = || Fake::new(Part::Works(10), 1);
        let (mut first, mut all) = (None, Vec::new());
        let begin = Instant::now();
        let ended = scan(vec![fine(), hangs, fine()], Duration::from_secs(9), |scanners| {
            let unscanned: Vec<_> =
                scanners.unscanned().iter().map(|it| (it.index, it.cause)).collect();
            if first.is_none() && !unscanned.is_empty() {
                first = Some(begin.elapsed());
            }
            all.push(unscanned);
        });
        let first = first.expect("the systems are unscanned");
        assert!(first > SILENT, "{first:?}");
        all.dedup();
        let expected = [vec![], vec![(1, 1), (2, 1)], vec![]];
        assert!(all.starts_with(&expected), "{all:?}");
        let scans: Vec<_> = ended.iter().flat_map(Scanner::slots).collect();
        let of = |index| scans.iter().find(|slot| slot.index == index).expect("it is there");
        assert!(of(0).stats.scans() > 2 * of(2).stats.scans(), "the first one is still scanned");
    }
}
