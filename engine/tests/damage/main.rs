//! Damaged memory gives errors or fewer objects: never a panic, a hang, a signal, or a scan without
//! end.
//!
//! `random` damages recorded machines at random, `crafted` forges structures as a hostile kernel
//! would, `bombs` makes small memories that claim to be huge, `notes` forges VMCOREINFO, and
//! `truncated` cuts the file under a scan.
//!
//! `PANOPTES_ROUNDS` sets the number of randomly damaged machines. The number of a failed one is
//! printed, and `PANOPTES_SEED` runs it alone.
#![allow(clippy::unwrap_used, reason = "all of it is tests")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../../sources/tests/common/fault.rs"]
mod fault;

mod bombs;
mod crafted;
mod notes;
mod random;
mod truncated;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Machine, Scanner, entities};
use panoptes_decoders::source::MemorySource;
use panoptes_engine::walk::{Kernel, ScanError, Scope, Snapshot};
use panoptes_sources::{Detail, SourceMeter};
use rustix::time::{ClockId, clock_gettime};

/// Longest processor time of one scan, whatever the memory holds.
const TIME_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 2 });
/// Most processor time for a check and a line of an entity: a line may have a path of 4 KiB.
const LINE_MAX: Duration = Duration::from_micros(if cfg!(debug_assertions) { 100 } else { 40 });
/// Largest number of batches of one scan. Nested directories and hash chains take thousands.
const BATCHES_MAX: u64 = 20_000;
/// Longest time of a test without progress.
const SILENCE_MAX: Duration = Duration::from_mins(2);

/// Processor time of this thread, without that of other tests.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Result of a scan of damaged memory.
struct Outcome {
    entities: u64,
    batches: u64,
    time: Duration,
    error: Option<ScanError>,
}

/// Scans once and writes the lines; checks the bounds.
fn scan<S: MemorySource>(scanner: &mut Scanner, source: S, kernel: &Kernel) -> Outcome {
    let mut meter = SourceMeter::new(source, Detail::Batches).expect("nothing is needed");
    let begin = processor_time();
    scanner.walker.forget();
    let scanned = scanner.walker.scan(&mut meter, kernel, Scope::ALL);
    let time = processor_time().saturating_sub(begin);
    let (entities, error) = match scanned {
        Ok(snapshot) => {
            check(snapshot);
            common::recorded::each_line(snapshot, kernel, &mut scanner.lines, |line| {
                assert_eq!(line.last(), Some(&b'\n'));
            });
            (entities(snapshot), None)
        }
        Err(error) => (0, Some(error)),
    };
    let both = processor_time().saturating_sub(begin);
    let lines_max = LINE_MAX.saturating_mul(entities.try_into().unwrap_or(u32::MAX));
    let batches = meter.counts().batches;
    assert!(time <= TIME_MAX, "a scan took {time:?} and {batches} batches");
    assert!(both <= time + TIME_MAX + lines_max, "{entities} entities took {both:?}, {time:?}");
    assert!(batches <= BATCHES_MAX, "a scan took {batches} batches");
    Outcome { entities, batches, time, error }
}

/// Checks what must hold for every snapshot.
fn check(snapshot: &Snapshot) {
    assert!(!snapshot.processes.is_empty());
    for process in snapshot.processes.iter() {
        assert!(snapshot.leader(process).is_some());
    }
    for table in snapshot.files_structs.iter() {
        let rows = table.descriptors;
        assert!(rows.start() <= rows.end() && rows.end() as usize <= snapshot.descriptors.len());
        let numbers = snapshot.descriptors.range(rows);
        assert!(numbers.windows(2).all(|pair| pair[0].index < pair[1].index));
    }
    for mm in snapshot.mms.iter() {
        let areas = mm.vmas;
        assert!(areas.start() <= areas.end() && areas.end() as usize <= snapshot.vmas.len());
        assert!(snapshot.vmas.range(mm.vmas).iter().all(|row| row.vma.start < row.vma.end));
    }
}

/// Prints the current step when a test fails, and ends a test that hangs.
struct Watch {
    name: &'static str,
    at: Arc<AtomicU64>,
    what: Arc<Mutex<String>>,
}

impl Watch {
    fn new(name: &'static str) -> Self {
        let watch =
            Self { name, at: Arc::new(AtomicU64::new(0)), what: Arc::new(Mutex::default()) };
        let (at, what) = (Arc::downgrade(&watch.at), watch.what.clone());
        std::thread::spawn(move || {
            let (mut last, mut since) = (u64::MAX, Instant::now());
            while let Some(at) = at.upgrade() {
                let now = at.load(Ordering::Relaxed);
                drop(at);
                if now != last {
                    (last, since) = (now, Instant::now());
                } else if since.elapsed() > SILENCE_MAX {
                    let what = what.lock().map(|what| what.clone()).unwrap_or_default();
                    eprintln!("{name} hangs at {now}: {what}");
                    std::process::abort();
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        watch
    }

    /// Reports progress: `what` is the next step.
    fn next(&self, what: &str) {
        self.at.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut last) = self.what.lock() {
            what.clone_into(&mut last);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = self.what.lock().map(|what| what.clone()).unwrap_or_default();
            eprintln!("{} failed at: {what}", self.name);
        }
    }
}

/// The recorded machines, smallest first; if there are none, prints what is skipped.
fn machines(what: &str) -> Option<Vec<Machine>> {
    let images = common::recorded::images_or_skip(what)?;
    let mut machines: Vec<Machine> = images.iter().map(|image| Machine::open(image)).collect();
    machines.sort_by_key(|machine| machine.memory.page_count());
    Some(machines)
}

/// The machines that are fast to scan, so that thousands of scans are possible.
fn small_machines(what: &str) -> Option<Vec<Machine>> {
    let mut machines = machines(what)?;
    let smallest = machines[0].memory.page_count();
    machines.retain(|machine| machine.memory.page_count() < smallest * 2);
    Some(machines)
}
