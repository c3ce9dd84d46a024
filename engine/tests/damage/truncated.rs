//! A memory file that is cut short before it is opened, between opening and scanning, and while a
//! scan or discovery runs.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use panoptes_decoders::source::MemorySource;
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_sources::{Detail, MappedMemory, SourceError, SourceMeter};

use super::common::Scanner;
use super::fault::{Fault, FaultRates};
use super::{Machine, Watch, scan, small_machines};

/// A raw memory file made from a recorded image; pages that were not recorded are holes.
struct Ram {
    file: tempfile::NamedTempFile,
    bytes: u64,
}

impl Ram {
    fn new(machine: &Machine) -> Self {
        let bytes = machine.memory.regions().last().expect("there is memory").end;
        let ram = Self { file: tempfile::NamedTempFile::new().unwrap(), bytes };
        ram.restore(machine);
        ram
    }

    /// Restores the whole file.
    fn restore(&self, machine: &Machine) {
        self.file.as_file().set_len(self.bytes).unwrap();
        for (at, page) in machine.memory.clone().pages_mut() {
            self.file.as_file().write_all_at(page, at.0).unwrap();
        }
    }

    fn path(&self) -> &Path {
        self.file.path()
    }

    fn open(&self) -> MappedMemory {
        MappedMemory::open(self.path()).unwrap()
    }

    /// A source whose file is cut to `length` before batch number `batch`.
    fn open_to_be_cut(&self, length: u64, batch: u64) -> Fault<MappedMemory> {
        let file: File = self.file.reopen().unwrap();
        Fault::new(self.open(), 0, FaultRates::default()).with_hook(Box::new(move |at| {
            if at == batch {
                file.set_len(length).unwrap();
            }
        }))
    }
}

/// Lengths to which a file is cut: to nothing, to a part, to most of it, also within a page.
fn lengths(bytes: u64) -> [u64; 6] {
    [0, 4096, bytes / 2 + 2048, bytes / 4 * 3, bytes - 4096 * 1024, bytes - 1]
}

#[test]
fn a_file_cut_before_it_is_opened_is_refused_or_holds_less() {
    let Some(machines) = small_machines("scans of cut files") else { return };
    let watch = Watch::new("cut before");
    let mut scanner = Scanner::new(&Limits::default());
    let machine = &machines[0];
    let ram = Ram::new(machine);
    let whole = scan(&mut scanner, ram.open(), &machine.kernel).entities;
    assert!(whole > 0);
    for length in lengths(ram.bytes) {
        watch.next(&format!("{length} bytes"));
        ram.file.as_file().set_len(length).unwrap();
        match MappedMemory::open(ram.path()) {
            Ok(source) => {
                let outcome = scan(&mut scanner, source, &machine.kernel);
                assert!(outcome.entities <= whole || outcome.error.is_some());
            }
            Err(SourceError::Empty { .. }) => assert_eq!(length, 0),
            Err(error) => {
                assert!(matches!(error, SourceError::Ragged { .. }), "{error}");
                assert_ne!(length % 4096, 0);
            }
        }
        ram.restore(machine);
    }
}

#[test]
fn a_file_cut_under_a_scan_only_loses_objects() {
    let Some(machines) = small_machines("scans of files that are cut meanwhile") else { return };
    let watch = Watch::new("cut meanwhile");
    let mut scanner = Scanner::new(&Limits::default());
    let machine = &machines[0];
    let ram = Ram::new(machine);
    let whole = scan(&mut scanner, ram.open(), &machine.kernel);
    let (mut decoded, mut errors) = (0, 0);
    for batch in (0..whole.batches).step_by(if cfg!(debug_assertions) { 7 } else { 1 }) {
        for length in lengths(ram.bytes) {
            watch.next(&format!("cut to {length} before batch {batch}"));
            let mut source = ram.open_to_be_cut(length, batch);
            let outcome = scan(&mut scanner, &mut source, &machine.kernel);
            assert!(outcome.entities <= whole.entities);
            decoded += outcome.entities;
            errors += u64::from(outcome.error.is_some());
            // The file is still cut: a scan may find fewer objects, but not more.
            let after = scan(&mut scanner, &mut source, &machine.kernel);
            assert!(after.entities <= whole.entities);
            ram.restore(machine);
        }
    }
    eprintln!("cut meanwhile: {decoded} entities decoded, {errors} errors");
    assert!(decoded > 0);
}

#[test]
fn a_file_cut_under_discovery_gives_an_error_or_a_kernel() {
    let Some(machines) = small_machines("discovery in files that are cut meanwhile") else {
        return;
    };
    let watch = Watch::new("cut under discovery");
    let mut scanner = Scanner::new(&Limits::default());
    let machine = &machines[0];
    let ram = Ram::new(machine);
    let (mut found, mut refused) = (0, 0);
    let mut meter = SourceMeter::new(ram.open(), Detail::Batches).unwrap();
    discover(&mut meter, &DiscoveryOptions::default(), &mut ()).unwrap();
    let all = meter.counts().batches;
    for batch in [0, 1, 2, 10, 100, all / 4, all / 2, all / 4 * 3, all - 20, all - 1, all + 5] {
        for length in [0, ram.bytes / 2 + 2048] {
            watch.next(&format!("cut to {length} before batch {batch}"));
            let mut source = ram.open_to_be_cut(length, batch);
            match discover(&mut source, &DiscoveryOptions::default(), &mut ()) {
                Ok(profile) => {
                    found += 1;
                    scan(&mut scanner, &mut source, &kernel_of(&profile));
                }
                Err(_) => refused += 1,
            }
            ram.restore(machine);
        }
    }
    eprintln!("cut under discovery: found {found} times, refused {refused} times");
    assert!(found > 0 && refused > 0);
}
