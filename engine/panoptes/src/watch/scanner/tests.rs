//! Scanner threads with systems that need no memory: they cost what a test wants.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{JoinHandle, sleep, spawn};

use panoptes_records::queue::{self, QueueSize, queue};

use super::meter::cpu_ns;
use super::*;
use crate::config::LogLevel;
use crate::scanner_cores::allowed_cores;
use crate::watch::signals::Signals;

/// The parts of which a scan consists, like batches of reads.
#[derive(Clone, Copy, Debug)]
pub(in crate::watch) enum Part {
    /// Microseconds of CPU time.
    Works(u64),
    /// Milliseconds without an answer.
    Waits(u64),
    /// The same in the first part alone.
    WaitsOnce(u64),
    Panics,
}

/// What else panics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bad {
    Nothing,
    /// Hashing.
    Work,
    /// The question whether there is anything to hash, once: no scan of a system.
    Question,
    /// Writing the last records.
    End,
}

/// A system whose scans have a number of equal parts.
#[derive(Debug)]
pub(in crate::watch) struct Fake {
    part: Part,
    count: u32,
    /// Number of parts that the present scan has left.
    left: u32,
    has_work: bool,
    /// Whether its machine always starts something.
    births: bool,
    /// Milliseconds for which hashing waits.
    work_waits_ms: u64,
    /// Parts of all scans.
    parts: Arc<AtomicU64>,
    worked: Arc<AtomicU64>,
    finished: Arc<Mutex<Vec<u32>>>,
    bad: Cell<Bad>,
}

impl Fake {
    pub(in crate::watch) fn new(part: Part, count: u32) -> Self {
        Self {
            part,
            count,
            left: 0,
            has_work: false,
            births: false,
            work_waits_ms: 0,
            parts: Arc::default(),
            worked: Arc::default(),
            finished: Arc::default(),
            bad: Cell::new(Bad::Nothing),
        }
    }

    fn with_bad(self, bad: Bad) -> Self {
        Self { bad: Cell::new(bad), has_work: bad == Bad::Work, ..self }
    }
}

impl ScanTarget for Fake {
    type Scratch = ();

    fn scan(
        &mut self,
        (): &mut (),
        _: Now,
        _: Pace,
        ends: ScanStopConditions<'_>,
        _: &mut Producer,
    ) -> Result<(), ScanFailure> {
        if self.count == 0 {
            return Err(ScanFailure { reason: "it has ended".to_owned(), has_ended: true });
        }
        self.left = if self.left == 0 { self.count } else { self.left };
        while self.left > 0 && !(ends.is_over)() && !(ends.must_stop)() {
            self.left -= 1;
            self.parts.fetch_add(1, Ordering::SeqCst);
            match self.part {
                Part::Works(us) => work(us),
                Part::Waits(ms) => sleep(Duration::from_millis(ms)),
                Part::WaitsOnce(ms) if self.parts.load(Ordering::SeqCst) == 1 => {
                    sleep(Duration::from_millis(ms));
                }
                Part::WaitsOnce(_) => {}
                Part::Panics => panic!("a bad scan"),
            }
        }
        Ok(())
    }

    fn can_look(&self) -> bool {
        true
    }

    fn wants_scan(&mut self, (): &mut ()) -> bool {
        self.births
    }

    fn is_partial(&self) -> bool {
        self.left > 0
    }

    fn has_work(&self) -> bool {
        if self.bad.get() == Bad::Question {
            self.bad.set(Bad::Nothing);
            panic!("a bad question");
        }
        self.has_work
    }

    fn work(&mut self, (): &mut ()) {
        assert_ne!(self.bad.get(), Bad::Work, "bad work");
        work(1500);
        sleep(Duration::from_millis(self.work_waits_ms));
        self.worked.fetch_add(1, Ordering::Relaxed);
    }

    fn finish(&mut self, (): &mut (), _: Now, _: &mut Producer) {
        assert_ne!(self.bad.get(), Bad::End, "a bad end");
        self.finished.lock().unwrap().push(self.count);
    }
}

/// Uses CPU time of this thread.
fn work(us: u64) {
    let (begin, mut sum) = (cpu_ns(), 0_u64);
    while cpu_ns() - begin < us * 1000 {
        for step in 0..100 {
            sum = black_box(sum.wrapping_add(step));
        }
    }
}

/// A scanner thread, and the control thread's ends of its channels.
struct Running {
    shared: Arc<ScannerControls>,
    state: Arc<ScannerState>,
    commands: Sender<ScannerCommand<Fake>>,
    returned: Receiver<ReturnedSystem<Fake>>,
    measured: Vec<Arc<MeasuredCost>>,
    /// How often memory for scans was made.
    scratches: Arc<AtomicU64>,
    thread: JoinHandle<Scanner<Fake>>,
}

impl Running {
    fn start(kind: ScannerKind, interval: Duration, systems: Vec<Fake>) -> Self {
        Self::with_room(kind, interval, systems, 16)
    }

    /// The control thread has room for so many systems that it has not received.
    fn with_room(kind: ScannerKind, interval: Duration, systems: Vec<Fake>, room: usize) -> Self {
        let shared = Arc::new(ScannerControls::default());
        shared.interval_ns.store(interval.as_nanos() as u64, Ordering::Relaxed);
        let (commands, receiver) = channel();
        let (sender, returned) = sync_channel(room);
        let messages = Messages::new(Box::new(std::io::sink()), false, LogLevel::Error);
        let scratches = Arc::new(AtomicU64::default());
        let made = Arc::clone(&scratches);
        let make_scratch = move || {
            made.fetch_add(1, Ordering::SeqCst);
        };
        let common = Common {
            shared: Arc::clone(&shared),
            returned: sender,
            waker: Signals::take().unwrap().waker(),
            messages: Arc::new(messages),
            start: Instant::now(),
            make_scratch: Arc::new(make_scratch),
        };
        let (producer, _) = queue(QueueSize::default(), &queue::Waker::default());
        let cores = allowed_cores().into_iter().take(1).collect();
        let parts = ScannerParts { kind, cores, commands: receiver, producer, has_scratch: false };
        let state = Arc::new(ScannerState::default());
        state.limit_ns.store(5_000_000, Ordering::Relaxed);
        state.systems.store(systems.len(), Ordering::Relaxed);
        let scanner = Scanner::new(common, parts, Arc::clone(&state));
        let measured: Vec<_> = systems.iter().map(|_| Arc::default()).collect();
        for (index, system) in systems.into_iter().enumerate() {
            let slot = ScannerSlot::new(index, system, Arc::clone(&measured[index]));
            commands.send(ScannerCommand::Scan(Box::new(slot))).unwrap();
        }
        let thread = spawn(move || scanner.run());
        Self { shared, state, commands, returned, measured, scratches, thread }
    }

    /// Waits until the first system was scanned this often.
    fn wait(&self, scans: u64) {
        wait_until(|| self.measured[0].get().1 >= scans);
    }

    /// Stops the scanner; returns how long that took, and the scanner.
    fn stop(self) -> (Duration, Scanner<Fake>) {
        let begin = Instant::now();
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        let scanner = self.thread.join().unwrap();
        (begin.elapsed(), scanner)
    }
}

const TEN: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_mins(1);
/// Maximum time until a stop takes effect; it is usually a few milliseconds.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn a_stop_takes_effect_in_the_middle_of_a_scan() {
    // Alone, a system may take as long as it needs: five seconds.
    for (kind, systems) in [(ScannerKind::Quick, 1), (ScannerKind::Slow, 3)] {
        let fakes: Vec<_> = (0..systems).map(|_| Fake::new(Part::Waits(1), 5000)).collect();
        let parts: Vec<_> = fakes.iter().map(|fake| Arc::clone(&fake.parts)).collect();
        let count = || parts.iter().map(|count| count.load(Ordering::SeqCst)).sum::<u64>();
        let running = Running::start(kind, TEN, fakes);
        wait_until(|| running.state.scans_since_ns.load(Ordering::Relaxed) != 0);
        // How long a part takes depends on the machine, but not how many follow: the one that had
        // begun, and no more.
        running.shared.stop.store(true, Ordering::SeqCst);
        let before = count();
        let (took, scanner) = running.stop();
        assert!(count() <= before + 1, "{kind:?}: {} parts followed", count() - before);
        assert!(took < SOON, "{kind:?}: {took:?}");
        let finished = scanner.slots().map(|slot| slot.system.finished.lock().unwrap().len());
        assert_eq!(finished.sum::<usize>(), systems);
    }
}

#[test]
fn a_stop_and_a_shorter_interval_take_effect_during_a_long_one() {
    let fakes = vec![Fake::new(Part::Works(100), 1)];
    let running = Running::start(ScannerKind::Quick, Duration::from_hours(1), fakes);
    running.wait(1);
    running.shared.interval_ns.store(5_000_000, Ordering::Relaxed);
    running.thread.thread().unpark();
    running.wait(10);
    running.shared.interval_ns.store(3_600_000_000_000, Ordering::Relaxed);
    sleep(Duration::from_millis(20));
    let (took, _) = running.stop();
    assert!(took < SOON, "{took:?}");
}

/// Waits until something is done. Fails after [`PATIENCE`].
fn wait_until(is_done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_done() {
        assert!(begin.elapsed() < PATIENCE);
        sleep(Duration::from_millis(1));
    }
}

/// A system that starts processes without end takes early scans from nobody else.
#[test]
fn lively_systems_share_what_early_scans_may_use() {
    let fakes: Vec<_> = [100, 400]
        .map(|us| Fake { births: true, ..Fake::new(Part::Works(us), 1) })
        .into_iter()
        .chain([Fake::new(Part::Works(100), 1)])
        .collect();
    let parts: Vec<_> = fakes.iter().map(|fake| Arc::clone(&fake.parts)).collect();
    let running = Running::start(ScannerKind::Quick, Duration::from_millis(50), fakes);
    running.shared.early_scans.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    wait_until(|| parts[0].load(Ordering::SeqCst) >= 200);
    let ran = begin.elapsed();
    running.stop();
    let scans: Vec<_> = parts.iter().map(|count| count.load(Ordering::SeqCst)).collect();
    // The quiet system has a scan for each interval.
    let intervals = ran.as_millis() as u64 / 50 + 2;
    assert!(scans[2] <= intervals, "{scans:?} in {ran:?}");
    assert!(scans[0] > 2 * intervals && scans[1] > 2 * intervals, "{scans:?} in {ran:?}");
    assert!(scans[0] < 4 * scans[1], "{scans:?}");
    // Early scans take a tenth of the time, beside a full stock.
    let early_us = scans[0].min(10_000) * 100 + scans[1] * 400;
    assert!(u128::from(early_us) < ran.as_micros() / 5 + 20_000, "{scans:?} in {ran:?}");
}

#[test]
fn a_scan_that_costs_more_than_its_share_ends_early_and_its_system_leaves() {
    for part in [Part::Works(1000), Part::Waits(1)] {
        let costly = Fake::new(part, 600);
        let quiet = (0..3).map(|_| Fake::new(Part::Works(100), 1));
        let running = Running::start(ScannerKind::Quick, TEN, quiet.chain([costly]).collect());
        let ReturnedSystem { slot, why } = running.returned.recv_timeout(PATIENCE).unwrap();
        assert_eq!((slot.index, why), (3, ReturnReason::Overran));
        assert!(slot.system.is_partial() && slot.cost.ns() >= 5_000_000);
        assert!(slot.system.left > 500, "it cost little more than 5 ms: {}", slot.system.left);
        running.stop();
    }
}

#[test]
fn a_scanner_returns_what_it_is_asked_for_and_what_has_ended() {
    let fakes = vec![Fake::new(Part::Works(10), 1), Fake::new(Part::Works(10), 1)];
    let running = Running::start(ScannerKind::Quick, TEN, fakes);
    running.commands.send(ScannerCommand::Return(7)).unwrap();
    running.commands.send(ScannerCommand::Return(1)).unwrap();
    let ReturnedSystem { mut slot, why } = running.returned.recv_timeout(PATIENCE).unwrap();
    assert_eq!((slot.index, why), (1, ReturnReason::Asked));
    slot.system.count = 0;
    running.commands.send(ScannerCommand::Scan(slot)).unwrap();
    running.thread.thread().unpark();
    let ReturnedSystem { slot, why } = running.returned.recv_timeout(PATIENCE).unwrap();
    assert!(
        slot.index == 1 && matches!(why, ReturnReason::Gone(ScanFailure { has_ended: true, .. }))
    );
    assert_eq!(slot.system.finished.lock().unwrap().len(), 1, "its last records are written");
    let (_, scanner) = running.stop();
    assert_eq!(scanner.slots().map(|slot| slot.index).collect::<Vec<_>>(), [0]);
}

/// A system for which the control thread had no room stayed, and nobody knew where.
#[test]
fn a_system_is_returned_again_until_there_is_room() {
    let fakes = (0..4).map(|_| Fake::new(Part::Works(10), 1)).collect();
    let running = Running::with_room(ScannerKind::Quick, TEN, fakes, 1);
    running.wait(2);
    for index in [0, 1, 2] {
        running.commands.send(ScannerCommand::Return(index)).unwrap();
    }
    // The first one fills the room until the control thread looks.
    sleep(Duration::from_millis(50));
    let next = || running.returned.recv_timeout(PATIENCE).unwrap();
    let mut returned: Vec<_> = (0..3).map(|_| next()).map(|it| (it.slot.index, it.why)).collect();
    returned.sort_by_key(|(index, _)| *index);
    assert_eq!(returned, [0, 1, 2].map(|index| (index, ReturnReason::Asked)));
    let (_, scanner) = running.stop();
    assert_eq!(scanner.slots().map(|slot| slot.index).collect::<Vec<_>>(), [3]);
}

/// Its last records are written although nobody asks for it any more.
#[test]
fn a_system_that_waits_to_be_returned_is_finished_at_a_stop() {
    let fakes: Vec<_> = (0..2).map(|_| Fake::new(Part::Works(10), 1)).collect();
    let finished: Vec<_> = fakes.iter().map(|fake| Arc::clone(&fake.finished)).collect();
    let running = Running::with_room(ScannerKind::Quick, TEN, fakes, 1);
    running.wait(2);
    for index in [0, 1] {
        running.commands.send(ScannerCommand::Return(index)).unwrap();
    }
    running.thread.thread().unpark();
    sleep(Duration::from_millis(100));
    // The scanner has the other one, or both if it was slow.
    let (_, scanner) = running.stop();
    let count = |index: usize| finished[index].lock().unwrap().len();
    let kept: Vec<_> = scanner.slots().map(|slot| slot.index).collect();
    assert!(!kept.is_empty() && kept.iter().all(|&index| count(index) == 1), "{kept:?}");
}

#[test]
fn hashing_that_waits_for_memory_is_seen_from_outside() {
    let fake = Fake::new(Part::Works(10), 1);
    let running = Running::start(
        ScannerKind::Quick,
        Duration::from_millis(100),
        vec![Fake { has_work: true, work_waits_ms: 500, ..fake }],
    );
    let (begin, mut last, mut since) = (Instant::now(), 0, Instant::now());
    // A scan takes no such time.
    while last == 0 || since.elapsed() < Duration::from_millis(300) {
        assert!(begin.elapsed() < PATIENCE);
        let now = running.state.scans_since_ns.load(Ordering::Relaxed);
        if std::mem::replace(&mut last, now) != now {
            since = Instant::now();
        }
        sleep(Duration::from_millis(1));
    }
    running.stop();
}

#[test]
fn hashing_goes_on_in_turns_although_scans_never_pause() {
    let fakes = (0..3).map(|_| Fake { has_work: true, ..Fake::new(Part::Works(1000), 4) });
    let fakes: Vec<_> = fakes.collect();
    let worked: Vec<_> = fakes.iter().map(|fake| Arc::clone(&fake.worked)).collect();
    let running = Running::start(ScannerKind::Quick, Duration::from_millis(1), fakes);
    running.state.limit_ns.store(u64::MAX, Ordering::Relaxed);
    let begin = Instant::now();
    let slices = || worked.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
    while slices().iter().sum::<u64>() < 15 {
        assert!(begin.elapsed() < PATIENCE);
        sleep(Duration::from_millis(1));
    }
    let elapsed = begin.elapsed();
    running.stop();
    let slices = slices();
    assert!(slices.iter().max().unwrap() - slices.iter().min().unwrap() <= 1, "{slices:?}");
    // A twentieth of the time, at 1.5 ms each.
    assert!(elapsed > Duration::from_millis(300), "{elapsed:?}");
}

#[test]
fn systems_of_a_slow_scanner_get_the_same_time() {
    let costs = [(1000, 400), (1000, 20), (1000, 100)];
    let fakes = costs.map(|(us, parts)| Fake::new(Part::Works(us), parts)).into_iter().collect();
    let running = Running::start(ScannerKind::Slow, TEN, fakes);
    sleep(Duration::from_secs(3));
    let (_, scanner) = running.stop();
    let used: Vec<_> = scanner.slots().map(|slot| slot.turn.used / 1_000_000).collect();
    let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
    // The longest slice, and a little more.
    assert!(most - least <= 200, "{used:?}");
}

#[test]
fn what_panics_leaves_and_the_other_systems_go_on_with_new_memory() {
    let bad_scan = Fake::new(Part::Panics, 1);
    let bad_work = Fake::new(Part::Works(10), 1).with_bad(Bad::Work);
    for (bad, text) in [(bad_scan, "a bad scan ("), (bad_work, "bad work")] {
        let running =
            Running::start(ScannerKind::Quick, TEN, vec![Fake::new(Part::Works(10), 1), bad]);
        let ReturnedSystem { slot, why } = running.returned.recv_timeout(PATIENCE).unwrap();
        let ReturnReason::Panicked(panic) = why else { panic!("{why:?}") };
        assert!(slot.index == 1 && panic.contains(text), "{panic}");
        running.wait(running.measured[0].get().1 + 5);
        assert_eq!(running.scratches.load(Ordering::SeqCst), 2);
        let (_, scanner) = running.stop();
        assert_eq!(scanner.slots().map(|slot| slot.index).collect::<Vec<_>>(), [0]);
    }
}

#[test]
fn a_scanner_that_panics_outside_of_a_scan_goes_on_with_its_systems() {
    let fake = Fake::new(Part::Works(10), 1).with_bad(Bad::Question);
    let running = Running::start(ScannerKind::Quick, TEN, vec![fake]);
    let begin = Instant::now();
    let panic = loop {
        assert!(begin.elapsed() < PATIENCE);
        if let Some(panic) = running.state.take_panic() {
            break panic;
        }
        sleep(Duration::from_millis(1));
    };
    assert!(panic.starts_with("a bad question ("), "{panic}");
    running.wait(running.measured[0].get().1 + 5);
    let (_, scanner) = running.stop();
    assert_eq!(scanner.slots().count(), 1);
}

#[test]
fn last_records_that_panic_cost_no_other_system_its_own() {
    let good = [Fake::new(Part::Works(10), 1), Fake::new(Part::Works(10), 1)];
    let finished = good.each_ref().map(|fake| Arc::clone(&fake.finished));
    let [first, last] = good;
    let bad = Fake::new(Part::Works(10), 1).with_bad(Bad::End);
    let running = Running::start(ScannerKind::Quick, TEN, vec![first, bad, last]);
    running.wait(2);
    let (_, scanner) = running.stop();
    assert_eq!(scanner.slots().count(), 3);
    assert_eq!(finished.map(|list| list.lock().unwrap().len()), [1, 1]);
}
