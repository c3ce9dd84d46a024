//! Outputs that hang, fail, panic and end, on a thread of their own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use panoptes_bounded::BOUND;
use panoptes_records::queue::{Consumer, Producer, RecordClass, Waker, queue};

use super::*;
use crate::output::OutputKind;
use crate::writer::{OutputChange, Writer};

/// What a test does with an output.
#[derive(Debug, Default)]
struct Control {
    hangs: AtomicBool,
    panics: AtomicBool,
    /// It takes nothing, as with a full disk.
    is_full: AtomicBool,
    /// It has writes under way.
    is_busy: AtomicBool,
    reopened: AtomicUsize,
    written: Mutex<Vec<u8>>,
}

impl Control {
    fn set(flag: &AtomicBool, value: bool) {
        flag.store(value, Ordering::Relaxed);
    }
}

/// An output that hangs in each operation while `hangs` is set.
#[derive(Debug)]
struct Disk {
    control: Arc<Control>,
    counters: Arc<OutputCounters>,
}

impl Disk {
    fn new() -> (Self, Arc<Control>) {
        let control = Arc::new(Control::default());
        (Self { control: Arc::clone(&control), counters: Arc::default() }, control)
    }

    fn hang(&self) {
        while self.control.hangs.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!self.control.panics.load(Ordering::Relaxed), "the disk panics");
    }
}

impl Output for Disk {
    fn kind(&self) -> OutputKind {
        OutputKind::Plain
    }

    fn counters(&self) -> &Arc<OutputCounters> {
        &self.counters
    }

    fn append(&mut self, block: &RecordBlock, range: Range<usize>, _: u64) -> usize {
        self.hang();
        if self.control.is_full.load(Ordering::Relaxed) {
            return 0;
        }
        // As one with little room.
        let count = range.len().min(7);
        self.control.written.lock().unwrap().extend(block.slice(range.start, count));
        OutputCounters::add(&self.counters.records, count);
        OutputCounters::add(&self.counters.bytes, count);
        count
    }

    fn advance(&mut self, _: u64, _: Duration) -> OutputStatus {
        self.hang();
        if self.control.is_full.load(Ordering::Relaxed) {
            OutputStatus::Failing
        } else if self.control.is_busy.load(Ordering::Relaxed) {
            OutputStatus::Busy
        } else {
            OutputStatus::Idle
        }
    }

    fn reopen(&mut self) {
        self.control.reopened.fetch_add(1, Ordering::Relaxed);
    }

    fn finish(&mut self) {
        self.hang();
    }

    fn patience_ns(&self) -> u64 {
        DISK_PATIENCE_NS
    }
}

fn isolated() -> (IsolatedOutput, Arc<Control>) {
    let (disk, control) = Disk::new();
    (IsolatedOutput::start(Box::new(disk), || ()).unwrap(), control)
}

/// Blocks with numbered records.
fn blocks(count: u32) -> (Consumer, Vec<RecordBlock>) {
    let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
    for number in 0..count {
        producer.try_push(RecordClass::default(), format!("{number:08}").as_bytes()).unwrap();
    }
    producer.flush();
    let blocks = std::iter::from_fn(|| consumer.pop()).collect();
    (consumer, blocks)
}

fn expected(count: u32) -> Vec<u8> {
    (0..count).flat_map(|number| format!("{number:08}\n").into_bytes()).collect()
}

#[test]
fn records_arrive_in_order() {
    let (mut output, control) = isolated();
    let (_consumer, blocks) = blocks(50_000);
    let begin = Instant::now();
    for block in &blocks {
        let mut at = 0;
        while at < block.records() {
            at += output.append(block, at..block.records(), 0);
            output.advance(0, Duration::from_millis(1));
            assert!(begin.elapsed() < BOUND);
        }
    }
    output.finish();
    assert_eq!(*control.written.lock().unwrap(), expected(50_000));
    assert_eq!((output.counters().records(), output.counters().dropped()), (50_000, 0));
}

#[test]
fn a_disk_that_hangs_takes_what_there_is_room_for() {
    let (mut output, control) = isolated();
    Control::set(&control.hangs, true);
    let (_consumer, blocks) = blocks(200_000);
    let mut taken = 0;
    let begin = Instant::now();
    for block in &blocks {
        taken += output.append(block, 0..block.records(), 0);
        assert_eq!(output.advance(0, Duration::ZERO), OutputStatus::Busy);
    }
    assert!(begin.elapsed() < Duration::from_secs(10));
    // Three or four blocks of 64 KiB, each with at most 4097 records.
    assert!((12_000..=4 * 4097).contains(&taken), "{taken}");
    assert!(!output.counters().is_stalled());
    // When it answers again, nothing of that is lost.
    Control::set(&control.hangs, false);
    output.finish();
    assert_eq!(output.counters().records(), taken as u64);
    assert_eq!(control.written.lock().unwrap().len(), taken * 9);
}

/// A writer with a hung output and one that works, and the queue to it.
fn writer(isolated: Vec<IsolatedOutput>) -> (Writer, Producer, Arc<Control>) {
    let (works, control) = Disk::new();
    let mut outputs: Vec<Box<dyn Output>> = vec![Box::new(works)];
    outputs.extend(isolated.into_iter().map(|output| Box::new(output) as Box<dyn Output>));
    let size = QueueSize { blocks: 8, block_bytes: 4096 };
    let (producer, consumer) = queue(size, &Waker::default());
    (Writer::new(vec![consumer], outputs), producer, control)
}

fn clock() -> impl Fn() -> u64 {
    let start = Instant::now();
    move || start.elapsed().as_nanos() as u64
}

/// The numbers of the records that an output has.
fn numbers(control: &Control) -> Vec<u32> {
    let written = control.written.lock().unwrap();
    let text = str::from_utf8(&written).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn an_output_that_hangs_costs_no_other_a_record_and_counts_what_it_loses() {
    const ROUND: u32 = 100_000;
    let (hung, control) = isolated();
    let counters = Arc::clone(hung.counters());
    let (mut writer, mut producer, works) = writer(vec![hung]);
    let clock = clock();
    for round in 0..3 {
        Control::set(&control.hangs, round == 1);
        for number in round * ROUND..(round + 1) * ROUND {
            producer.try_push(RecordClass::default(), format!("{number:08}").as_bytes()).unwrap();
            if number % 64 == 0 {
                producer.flush();
                writer.step(clock(), Duration::ZERO);
            }
            let is_awaited = round != 1 && number % 4096 == 0;
            let begin = Instant::now();
            while is_awaited && counters.records() + counters.dropped() + 9000 < u64::from(number) {
                writer.step(clock(), SHORT_WAIT);
                assert!(begin.elapsed() < BOUND);
            }
        }
        let lost = counters.dropped();
        assert!(if round == 0 { lost == 0 } else { lost > 50_000 }, "{round}: {lost}");
    }
    producer.flush();
    drop(producer);
    writer.finish(&clock);
    assert_eq!(numbers(&works), (0..3 * ROUND).collect::<Vec<_>>());
    let arrived = numbers(&control);
    assert!(arrived.is_sorted_by(|before, after| before < after));
    assert_eq!(arrived.last(), Some(&(3 * ROUND - 1)), "it continues after it has hung");
    assert_eq!(arrived.len() as u64, counters.records());
    assert_eq!(counters.records() + counters.dropped(), u64::from(3 * ROUND));
}

#[test]
fn the_end_waits_for_all_disks_that_hang_at_once_and_counts_each_record() {
    let (outputs, controls): (Vec<_>, Vec<_>) = (0..4).map(|_| isolated()).unzip();
    let counters: Vec<_> = outputs.iter().map(|one| Arc::clone(one.counters())).collect();
    for control in &controls {
        Control::set(&control.hangs, true);
    }
    let (mut writer, mut producer, works) = writer(outputs);
    for number in 0..20_000 {
        producer.try_push(RecordClass::default(), format!("{number:08}").as_bytes()).unwrap();
        if number % 100 == 99 {
            producer.flush();
            writer.step(0, Duration::ZERO);
        }
    }
    drop(producer);
    // The time for progress is over soon on this clock.
    let looks = AtomicUsize::new(0);
    let clock = || looks.fetch_add(1, Ordering::Relaxed) as u64 * DISK_PATIENCE_NS;
    let begin = Instant::now();
    writer.finish(&clock);
    assert!(begin.elapsed() < 2 * END, "{:?}", begin.elapsed());
    assert_eq!(numbers(&works).len(), 20_000);
    for counters in counters {
        assert!(counters.skipped() > 0 && counters.skipped() < 20_000);
        assert_eq!((counters.records(), counters.dropped()), (0, 20_000));
        assert!(counters.is_stalled());
    }
    for control in &controls {
        Control::set(&control.hangs, false);
    }
}

#[test]
fn what_a_full_disk_does_not_take_at_the_end_is_counted() {
    let (mut output, control) = isolated();
    Control::set(&control.is_full, true);
    let (_consumer, blocks) = blocks(10_000);
    let taken = output.append(&blocks[0], 0..blocks[0].records(), 0);
    output.finish();
    assert_eq!((output.counters().records(), output.counters().dropped()), (0, taken as u64));
    assert!(!output.counters().is_stalled());
}

#[test]
fn files_are_opened_again_while_a_full_disk_takes_nothing() {
    let (mut output, control) = isolated();
    Control::set(&control.is_full, true);
    let (_consumer, blocks) = blocks(10);
    output.append(&blocks[0], 0..10, 0);
    output.reopen();
    let begin = Instant::now();
    while control.reopened.load(Ordering::Relaxed) == 0 {
        assert!(begin.elapsed() < BOUND);
        thread::sleep(Duration::from_millis(1));
    }
    Control::set(&control.is_full, false);
    output.finish();
    assert_eq!(output.counters().records(), 10);
}

#[test]
fn a_disk_stalls_if_an_operation_or_its_writes_make_no_progress() {
    let later = || Instant::now() + STALL;
    let (mut output, control) = isolated();
    let wait_for = |output: &mut IsolatedOutput, standing| {
        let begin = Instant::now();
        while output.advance(0, Duration::from_millis(1)) != standing {
            assert!(begin.elapsed() < BOUND);
        }
    };
    wait_for(&mut output, OutputStatus::Idle);
    let (_consumer, blocks) = blocks(10);
    Control::set(&control.hangs, true);
    output.append(&blocks[0], 0..10, 0);
    assert!(output.shared.lock().has_block || output.shared.lock().is_busy());
    let begin = Instant::now();
    while !output.shared.lock().is_stalled(later()) {
        assert!(begin.elapsed() < BOUND);
    }
    // The kernel writes, and the thread does not wait.
    Control::set(&control.is_busy, true);
    Control::set(&control.hangs, false);
    wait_for(&mut output, OutputStatus::Busy);
    let begin = Instant::now();
    while !output.shared.lock().full.is_empty() || output.counters().records() < 10 {
        assert!(begin.elapsed() < BOUND);
    }
    let progress_at = output.shared.lock().progress_at;
    assert!(!output.shared.lock().is_stalled(progress_at));
    assert!(output.shared.lock().is_stalled(later()));
    Control::set(&control.is_busy, false);
    wait_for(&mut output, OutputStatus::Idle);
    assert!(!output.shared.lock().is_stalled(Instant::now()));
}

/// The writer asked without end whether a sync was over.
#[test]
fn the_writer_sleeps_while_writes_are_under_way() {
    let (mut output, control) = isolated();
    Control::set(&control.is_busy, true);
    let begin = Instant::now();
    while output.advance(0, SHORT_WAIT) != OutputStatus::Busy {
        assert!(begin.elapsed() < BOUND);
    }
    let begin = Instant::now();
    let mut looks = 0;
    while begin.elapsed() < Duration::from_millis(200) {
        output.advance(0, SHORT_WAIT);
        looks += 1;
    }
    assert!(looks < 1000, "{looks}");
}

/// Two outputs never write to one file at the same time.
#[test]
fn no_output_takes_the_place_of_one_that_hangs_and_the_writer_does_not_wait() {
    let (hung, control) = isolated();
    let counters = Arc::clone(hung.counters());
    let (mut producer, consumer) = queue(QueueSize::default(), &Waker::default());
    let (changes, changed) = channel();
    let mut writer = Writer::with_changes(vec![consumer], vec![Box::new(hung)], changed);
    producer.try_push(RecordClass::default(), b"00000000").unwrap();
    producer.flush();
    Control::set(&control.hangs, true);
    writer.step(0, Duration::ZERO);
    let next = writer.waker().next();
    changes.send(OutputChange::Release(Arc::clone(&counters), next, Filter::ALL)).unwrap();
    let clock = clock();
    let begin = Instant::now();
    for _ in 0..100 {
        // Long after all its time is over.
        writer.step(clock() + 100 * DISK_PATIENCE_NS, Duration::ZERO);
    }
    assert!(begin.elapsed() < END, "{:?}", begin.elapsed());
    assert!(!counters.is_released());
    Control::set(&control.hangs, false);
    while !counters.is_released() {
        writer.step(clock() + 100 * DISK_PATIENCE_NS, SHORT_WAIT);
        assert!(begin.elapsed() < BOUND);
    }
    assert_eq!((counters.records(), counters.dropped()), (1, 0));
}

#[test]
fn a_panic_is_raised_on_the_writers_thread() {
    let (mut output, control) = isolated();
    Control::set(&control.panics, true);
    let (_consumer, blocks) = blocks(10);
    output.append(&blocks[0], 0..10, 0);
    let begin = Instant::now();
    let panic = loop {
        match caught(|| output.advance(0, Duration::from_millis(10))) {
            Ok(_) => assert!(begin.elapsed() < BOUND),
            Err(panic) => break panic,
        }
    };
    assert!(panic.contains("the disk panics"), "{panic}");
}

/// A start that fails drops outputs, and reports that in the same files.
#[test]
fn an_output_that_is_dropped_is_closed() {
    let (output, control) = isolated();
    drop(output);
    assert_eq!(Arc::strong_count(&control), 1);
}
