//! Attaching to small synthetic machines: layouts, modules, and machines that end.
#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../../profiles/tests/common/mod.rs"]
mod common;

use std::cell::Cell;
use std::ops::Range;

use common::guest::{Guest, Kind, RELEASE};
use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MachineSource, MemorySource, ReadRequest};
use panoptes_engine::system::{AttachError, Stop, attach, kernel_of};
use panoptes_profiles::{DiscoveryOptions, Profile, discover};

/// A machine with several possible layouts, which may end during the search.
struct Machine {
    layouts: Vec<Guest>,
    chosen: usize,
    ends: bool,
    refreshed: bool,
    /// How often a sweep asked for data.
    sweeps: Cell<u32>,
}

impl Machine {
    fn new(layouts: Vec<Guest>) -> Self {
        Self { layouts, chosen: 0, ends: false, refreshed: false, sweeps: Cell::new(0) }
    }

    fn attach(&mut self) -> Result<Profile, AttachError> {
        attach(self, &DiscoveryOptions::default(), &mut (), Stop::NEVER)
    }
}

impl MemorySource for Machine {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.layouts[self.chosen].read_batch(requests, arena);
    }

    fn regions(&self) -> &[Range<u64>] {
        self.layouts[self.chosen].regions()
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        self.sweeps.set(self.sweeps.get() + 1);
        self.layouts[self.chosen].next_data(from)
    }
}

impl MachineSource for Machine {
    fn refresh(&mut self) {
        self.refreshed = true;
    }

    fn layouts(&self) -> usize {
        self.layouts.len()
    }

    fn choose_layout(&mut self, index: usize) {
        self.chosen = index;
    }

    fn has_ended(&self) -> bool {
        self.ends && self.refreshed
    }
}

/// Without the module's types, files on overlays are found by the shape of memory alone, which
/// fails for a file whose attributes were copied up without its data.
#[test]
fn every_attachment_binds_the_types_of_modules() {
    let guest = Guest::new(Kind { overlay_module: true, ..Kind::default() });
    let mut machine = Machine::new(vec![guest.clone()]);
    let found = discover(&mut machine, &DiscoveryOptions::default(), &mut ()).unwrap();
    assert_eq!(kernel_of(&found).layouts.ovl_inode, None);
    let profile = machine.attach().unwrap();
    let kernel = kernel_of(&profile);
    assert_eq!(profile.release, RELEASE);
    assert!(guest.layouts.ovl_inode.is_some());
    assert_eq!(kernel.layouts.ovl_inode, guest.layouts.ovl_inode);
    assert_eq!(kernel.layouts.ovl_entry, guest.layouts.ovl_entry);
    assert_eq!(kernel.layouts.ovl_path, guest.layouts.ovl_path);
}

#[test]
fn the_layout_with_a_kernel_is_chosen() {
    let guest = Guest::new(Kind::default());
    let mut machine = Machine::new(vec![Guest::empty(), guest, Guest::empty()]);
    assert_eq!(machine.attach().unwrap().release, RELEASE);
    assert_eq!(machine.chosen, 1);

    let mut machine = Machine::new(vec![Guest::empty(), Guest::empty()]);
    assert!(matches!(machine.attach(), Err(AttachError::NoKernel(_))));
    assert_eq!(machine.chosen, 0);
}

#[test]
fn a_machine_that_ended_is_not_used_even_if_a_kernel_was_found() {
    let mut machine = Machine::new(vec![Guest::new(Kind::default())]);
    machine.ends = true;
    let error = machine.attach().unwrap_err();
    assert!(matches!(error, AttachError::Ended), "{error}");
    assert_eq!(error.to_string(), "the machine ended during the search for its kernel");
}

#[test]
fn a_request_to_stop_ends_the_search_within_a_sweep() {
    // A sweep of the whole memory asks for data once a MiB, so it would ask 16 times.
    for after in [0, 1, 5] {
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= after;
        let mut machine = Machine::new(vec![Guest::empty(), Guest::empty()]);
        let stopped =
            attach(&mut machine, &DiscoveryOptions::default(), &mut (), Stop::when(&stop));
        assert!(matches!(stopped, Err(AttachError::Stopped)));
        assert!(machine.sweeps.get() <= after, "{} after {after}", machine.sweeps.get());
    }
    let mut machine = Machine::new(vec![Guest::empty(), Guest::empty()]);
    assert!(machine.attach().is_err());
    assert!(machine.sweeps.get() > 16);
}
