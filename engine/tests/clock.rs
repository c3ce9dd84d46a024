//! Machines whose clocks stand still, because QEMU loads their memory or they are paused.

mod common;

use std::ops::Range;

use common::recorded::images_or_skip;
use common::{Machine, Watcher};
use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, Request};
use panoptes_engine::limits::Limits;

/// A machine whose clock shows `reading`.
struct Ticking<S> {
    inner: S,
    timekeeper: PhysicalAddress,
    reading: u8,
}

impl<S: MemorySource> MemorySource for Ticking<S> {
    fn read_batch(&mut self, requests: &mut [Request], arena: &mut [u8]) {
        self.inner.read_batch(requests, arena);
        // `tkr_mono.cycle_last` is the third word of the timekeeper's first 48 bytes. The other
        // request for this address is for the wall clock and must stay unchanged.
        for request in requests.iter() {
            if request.address == self.timekeeper && request.length == 48 {
                arena[request.target as usize + 16] = self.reading;
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
        let timekeeper = kernel.space.linear(kernel.roots.timekeeper).expect("it is in the image");
        let mut source = Ticking { inner: memory, timekeeper, reading: 0 };
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
