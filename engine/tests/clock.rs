//! Machines whose clocks stand still, because QEMU loads their memory or they are paused.

mod common;

use std::ops::Range;
use std::path::Path;

use common::recorded::images_or_skip;
use common::{Machine, Watcher};
use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, ReadRequest};
use panoptes_engine::limits::Limits;
use panoptes_engine::time::{Monotonic, Now, RealTime};
use panoptes_engine::walk::Kernel;

/// A machine whose clock shows `reading`, and which has counted so many forks, if given.
struct Ticking<S> {
    inner: S,
    timekeeper: PhysicalAddress,
    total_forks: PhysicalAddress,
    reading: u8,
    forks: Option<u64>,
}

impl<S: MemorySource> Ticking<S> {
    fn new(inner: S, kernel: &Kernel) -> Self {
        let at = |address| kernel.space.linear(address).expect("it is in the image");
        let (timekeeper, total_forks) = (at(kernel.roots.timekeeper), at(kernel.roots.total_forks));
        Self { inner, timekeeper, total_forks, reading: 0, forks: None }
    }
}

impl<S: MemorySource> MemorySource for Ticking<S> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.inner.read_batch(requests, arena);
        // `tkr_mono.cycle_last` is the third word of the timekeeper's first 48 bytes. The other
        // request for this address is for the wall clock and must stay unchanged.
        for request in requests.iter() {
            if request.address == self.timekeeper && request.length == 48 {
                arena[request.target as usize + 16] = self.reading;
            }
            if let Some(forks) = self.forks.filter(|_| request.address == self.total_forks) {
                arena[request.target as usize..][..8].copy_from_slice(&forks.to_le_bytes());
            }
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        self.inner.regions()
    }
}

#[test]
fn a_machine_that_is_being_loaded_is_not_reported() {
    let Some(images) = images_or_skip("the clock that stands still") else { return };
    for image in images {
        let Machine { name, memory, profile, kernel } = Machine::open(&image);
        let mut source = Ticking::new(memory, &kernel);
        let mut at_once = Watcher::new(&Limits::default(), &profile);
        assert!(at_once.scan(&mut source).unwrap() > 0, "{name}");
        let mut waiting = Watcher::with_clock(&Limits::default(), &profile, true);
        // The load changes the clock once.
        for reading in [0, 0, 9, 9, 9] {
            source.reading = reading;
            assert_eq!(waiting.scan(&mut source), Ok(0), "{name}");
        }
        for reading in [10, 11] {
            source.reading = reading;
            let bytes = waiting.scan(&mut source).unwrap();
            assert_eq!(bytes > 0, reading == 11, "{name}: {bytes} bytes at {reading}");
        }
    }
}

/// The scans of ten seconds in which the clock stands still, and their distance.
const SCANS: u64 = 66;
const STEP_NS: i64 = 150_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;

/// The records of a machine whose clock goes, and stops. Then `forks` processes start in each scan,
/// except in the last two seconds. `real_ns` gives the real time of a scan.
fn records_after_its_clock_stops(
    image: &Path,
    forks: u64,
    real_ns: impl Fn(u64) -> i64,
) -> Vec<String> {
    let Machine { memory, profile, kernel, .. } = Machine::open(image);
    let mut source = Ticking::new(memory, &kernel);
    let mut watcher = Watcher::new(&Limits::default(), &profile);
    source.forks = Some(1_000_000);
    let mut all = Vec::new();
    for scan in 0..8 + SCANS {
        let monotonic = Monotonic::from_ns(scan as i64 * STEP_NS);
        let now = Now { monotonic, real: RealTime::from_ns(real_ns(scan)) };
        source.reading = scan.min(8) as u8;
        let has_forked = (9..SCANS - 5).contains(&scan);
        source.forks = source.forks.map(|before| before + u64::from(has_forked) * forks);
        let mut records = watcher.records(&mut source, now);
        if scan > 8 {
            all.append(&mut records);
        }
    }
    all
}

fn is_of(record: &str, activity: &str) -> bool {
    record.contains(&format!("\"name\":\"{activity}\""))
}

#[test]
fn a_machine_that_runs_without_its_clock_is_reported() {
    let Some(images) = images_or_skip("the clock that was tampered with") else { return };
    for image in images {
        let records = records_after_its_clock_stops(&image, 1000, |_| 0);
        let alerts: Vec<_> = records.iter().filter(|it| is_of(it, "clock_tampered")).collect();
        assert_eq!(alerts.len(), 1, "{records:?}");
        assert!(alerts[0].contains("stood still for 5."), "{alerts:?}");
        // Its scans are compared.
        assert!(records.iter().any(|it| is_of(it, "coverage_report")), "{records:?}");
    }
}

#[test]
fn a_machine_that_stands_still_is_not_reported() {
    let Some(images) = images_or_skip("the clock that stands still") else { return };
    for image in images {
        assert_eq!(records_after_its_clock_stops(&image, 0, |_| 0), [""; 0]);
    }
}

#[test]
fn a_step_of_the_real_time_changes_no_record() {
    let Some(images) = images_or_skip("the time that is set") else { return };
    // All of a record but its time and its id, and the time of its evidence or gap.
    let rest = |record: &String| {
        let activity = record.find("\"activity_data\"").expect("it has one");
        let times = ["\"first_seen\"", "\"since_iso_8601_ns\""];
        let ends = times.iter().filter_map(|time| record.find(time));
        let end = ends.min().unwrap_or(record.len());
        record[activity..end].to_owned()
    };
    for image in images {
        let steady: Vec<_> =
            records_after_its_clock_stops(&image, 1, |_| HOUR_NS).iter().map(rest).collect();
        let forth_and_back = |scan: u64| if scan % 7 < 3 { 0 } else { 2 * HOUR_NS };
        let stepped: Vec<_> =
            records_after_its_clock_stops(&image, 1, forth_and_back).iter().map(rest).collect();
        assert_eq!(stepped, steady);
    }
}
