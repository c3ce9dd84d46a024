//! Outputs that hang, panic and end, on a thread of their own.

use std::sync::atomic::{AtomicBool, Ordering};

use panoptes_bounded::BOUND;

use super::*;
use crate::output::OutputKind;
use crate::queue::{Class, Consumer, Waker, queue};

/// What a test does with an output.
#[derive(Debug, Default)]
struct Control {
    hangs: AtomicBool,
    panics: AtomicBool,
    written: Mutex<Vec<u8>>,
}

/// An output that hangs in each operation while `hangs` is set.
#[derive(Debug)]
struct Disk {
    control: Arc<Control>,
    counters: Arc<Counters>,
}

impl Disk {
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

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn append(&mut self, block: &Block, range: Range<usize>, _: u64) -> usize {
        self.hang();
        // As one with little room.
        let count = range.len().min(7);
        self.control.written.lock().unwrap().extend(block.slice(range.start, count));
        Counters::add(&self.counters.records, count);
        count
    }

    fn advance(&mut self, _: u64, _: Duration) -> Standing {
        self.hang();
        Standing::Idle
    }

    fn finish(&mut self) {
        self.hang();
    }
}

fn isolated() -> (Isolated, Arc<Control>) {
    let control = Arc::new(Control::default());
    let disk = Disk { control: Arc::clone(&control), counters: Arc::default() };
    (Isolated::start(Box::new(disk), || ()).unwrap(), control)
}

/// Blocks with numbered records.
fn blocks(count: u32) -> (Consumer, Vec<Block>) {
    let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
    for number in 0..count {
        producer.try_push(Class::default(), format!("{number:08}").as_bytes()).unwrap();
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
    control.hangs.store(true, Ordering::Relaxed);
    let (_consumer, blocks) = blocks(200_000);
    let mut taken = 0;
    let begin = Instant::now();
    for block in &blocks {
        taken += output.append(block, 0..block.records(), 0);
        assert_eq!(output.advance(0, Duration::ZERO), Standing::Busy);
    }
    assert!(begin.elapsed() < Duration::from_secs(10));
    // Three or four blocks of 64 KiB, each with at most 4097 records.
    assert!((12_000..=4 * 4097).contains(&taken), "{taken}");
    assert!(!output.counters().is_stalled());
    // When it answers again, nothing of that is lost.
    control.hangs.store(false, Ordering::Relaxed);
    output.finish();
    assert_eq!(output.counters().records(), taken as u64);
    assert_eq!(control.written.lock().unwrap().len(), taken * 9);
}

#[test]
fn the_end_does_not_wait_for_a_disk_that_hangs() {
    let (mut output, control) = isolated();
    control.hangs.store(true, Ordering::Relaxed);
    let (_consumer, blocks) = blocks(100);
    assert_eq!(output.append(&blocks[0], 0..100, 0), 100);
    let begin = Instant::now();
    output.finish();
    assert!(begin.elapsed() < END + Duration::from_secs(5));
    assert_eq!((output.counters().records(), output.counters().dropped()), (0, 100));
    control.hangs.store(false, Ordering::Relaxed);
}

#[test]
fn a_panic_is_raised_on_the_writers_thread() {
    let (mut output, control) = isolated();
    control.panics.store(true, Ordering::Relaxed);
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
