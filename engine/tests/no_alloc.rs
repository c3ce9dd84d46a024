//! No scan allocates after start: neither of an idle nor of a damaged machine, neither with large
//! nor with small limits.
//!
//! The allocator counts the allocations of the scanning thread while that thread has sealed it. The
//! first scan, which runs most of the code, is counted too: nothing may be allocated lazily.
#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/cached.rs"]
mod cached;
mod common;
#[path = "../sources/tests/common/fault.rs"]
mod fault;

use std::cell::Cell;
use std::sync::Arc;

use cached::Cached;
use common::damage::{Damaged, touched_pages};
use common::recorded::images_or_skip;
use common::{Machine, Scanner, Watcher, entities};
use fault::{Fault, FaultRates};
use panoptes_allocations::{AllocatorCall, HookAllocator};
use panoptes_decoders::address::PhysicalAddress;
use panoptes_engine::limits::Limits;
use panoptes_engine::page_cache::{Contents, FileIdentity};
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::system::kernel_of;
use panoptes_engine::time::Monotonic;
use panoptes_engine::walk::{Kernel, Scope};
use panoptes_engine::watch::{WatchedMachine, Workspace};
use panoptes_records::redact::{Pattern, Redactor};
use panoptes_rig::dump::{self, Packing, Ram};
use panoptes_rig::{Architecture, Random};
use panoptes_sources::{
    Detail, FileSource, Kcore, MappedMemory, MemorySource, ReadOutcome, ReadRequest, SourceMeter,
};
use panoptes_tables::{HashKey, room};

thread_local! {
    static SEALED: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Bytes that are allocated and not freed.
    static LIVE: Cell<i64> = const { Cell::new(0) };
    /// Size of the first allocation, which helps to find it.
    static FIRST: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of a sealed thread, and the bytes of each thread.
fn count(call: AllocatorCall) {
    let (bytes, freed) = match call {
        AllocatorCall::Allocate { bytes } | AllocatorCall::AllocateZeroed { bytes } => (bytes, 0),
        AllocatorCall::Reallocate { from, to } => (to, from),
        AllocatorCall::Free { bytes } => (0, bytes),
    };
    LIVE.set(LIVE.get() + bytes as i64 - freed as i64);
    if SEALED.get() && call.requested().is_some() {
        if COUNT.get() == 0 {
            FIRST.set(bytes);
        }
        COUNT.set(COUNT.get() + 1);
    }
}

#[global_allocator]
static ALLOCATOR: HookAllocator = HookAllocator::new(count);

/// Returns the result of `work`; panics if it allocated.
fn sealed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    COUNT.set(0);
    SEALED.set(true);
    let done = work();
    SEALED.set(false);
    let (count, first) = (COUNT.get(), FIRST.get());
    assert_eq!(count, 0, "{what}: allocations, the first of {first} bytes");
    done
}

fn scan<S: MemorySource>(scanner: &mut Scanner, source: &mut S, kernel: &Kernel) -> u64 {
    let Ok(snapshot) = scanner.walker.scan(source, kernel, Scope::ALL) else { return 0 };
    common::recorded::each_line(snapshot, kernel, &mut scanner.lines, |_| {});
    entities(snapshot)
}

/// Limits that every machine exceeds.
const NARROW: Limits = Limits {
    processes: 4,
    threads: 4,
    file_descriptors: 4,
    vmas: 4,
    connections: 4,
    containers: 2,
    string_length: 64,
    ..Limits::DEFAULT
};

/// Number of scans: fewer for a large machine in a debug build.
fn scans(machine: &Machine) -> u32 {
    if machine.memory.page_count() < 5000 || !cfg!(debug_assertions) { 1000 } else { 10 }
}

#[test]
fn the_seal_notices() {
    COUNT.set(0);
    SEALED.set(true);
    let number = std::hint::black_box(Box::new(7_u64));
    SEALED.set(false);
    assert_eq!((COUNT.get(), *number), (1, 7));
}

#[test]
fn a_thousand_scans_allocate_nothing() {
    let Some(images) = images_or_skip("the count of a thousand scans' allocations") else { return };
    for image in images {
        let Machine { name, mut memory, kernel, .. } = Machine::open(&image);
        let count = scans(&Machine::open(&image));
        for limits in [Limits::default(), NARROW] {
            let mut scanner = Scanner::new(&limits);
            let mut meter = SourceMeter::new(&mut memory, Detail::Lines).unwrap();
            let mut total = 0;
            sealed(&name, || {
                for _ in 0..count {
                    total += scan(&mut scanner, &mut meter, &kernel);
                }
            });
            assert!(total > 0);
            eprintln!("{name}: {count} scans, {total} entities");
        }
    }
}

/// Patterns with and without groups, which match in nearly every command line.
fn redactor() -> Option<Redactor> {
    let patterns = ["[a-z]+[= /]([^ ]+)", "a", "[0-9]{2}"];
    Redactor::new(&patterns.map(|pattern| Arc::new(Pattern::new(pattern).unwrap())))
}

#[test]
fn replacing_secrets_allocates_nothing() {
    let Some(images) = images_or_skip("the count of redaction's allocations") else { return };
    let Machine { name, mut memory, kernel, profile } = Machine::open(&images[0]);
    for limits in [Limits::default(), NARROW] {
        let mut scanner = Scanner::new(&limits);
        scanner.lines.set_redactor(redactor());
        let mut watcher = Watcher::new(&limits, &profile);
        watcher.watched.set_redactor(redactor());
        sealed(&name, || {
            for _ in 0..10 {
                assert!(scan(&mut scanner, &mut memory, &kernel) > 0);
                watcher.scan(&mut memory).unwrap();
            }
        });
    }
}

#[test]
fn scans_of_a_mapped_file_allocate_nothing() {
    let Some(images) = images_or_skip("the count of a mapped file's allocations") else { return };
    let machine = Machine::open(&images[0]);
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(machine.memory.regions().last().unwrap().end).unwrap();
    for (at, page) in machine.memory.clone().pages_mut() {
        std::os::unix::fs::FileExt::write_all_at(file.as_file(), page, at.0).unwrap();
    }
    let mut source = MappedMemory::open(file.path()).unwrap();
    let mut scanner = Scanner::new(&Limits::default());
    sealed("a mapped file", || {
        for _ in 0..20 {
            assert!(scan(&mut scanner, &mut source, &machine.kernel) > 0);
            source.refresh().unwrap();
        }
    });
    // Scans of a file that was cut do not allocate either.
    file.as_file().set_len(0).unwrap();
    sealed("a cut file", || {
        for _ in 0..3 {
            scan(&mut scanner, &mut source, &machine.kernel);
        }
    });
}

/// Files with all, some or no pages in memory, small and larger than a window, requested
/// repeatedly.
#[test]
fn hashing_files_allocates_nothing() {
    let content: Vec<u8> = (0..300 * cached::PAGE + 5).map(|at| (at / 7) as u8).collect();
    let mut partial = Cached::whole(&content, cached::EXT4);
    partial.remove(7);
    partial.plant();
    let machines = vec![
        Cached::whole(&content, cached::EXT4),
        Cached::whole(&content[..100], cached::TMPFS),
        partial,
        Cached::new(1 << 30, cached::EXT4),
    ];
    for mut machine in machines {
        let limits = Limits { processes: 16, ..Limits::default() };
        let (kernel, file) = (machine.kernel.clone(), machine.file);
        let mut contents = Contents::new(&limits, HashKey::new(7));
        sealed("hashing", || {
            for _ in 0..100 {
                contents.begin_scan(Monotonic::default());
                contents.ask(&file);
                // Other files, which do not exist, and more than the limit.
                for number in 0..2 * limits.contents_max() as u64 {
                    contents.ask(&FileIdentity { number, ..file });
                }
                while contents.has_work() {
                    contents.work(&mut machine, &kernel, 256 << 10, &());
                }
            }
        });
        assert!(contents.finished() > 100 && contents.refused().missed() > 0);
    }
}

/// Reads random places, whole pages and pieces, in 5 batches.
fn read_about(what: &str, source: &mut dyn MemorySource, within: u64) {
    let mut random = Random(1);
    let mut arena = vec![0; 16_000];
    let mut batch = || -> Vec<ReadRequest> {
        let request = |index: usize| {
            let address = random.below(within as usize) as u64;
            let (address, length) = match index % 3 {
                0 => (address & !0xfff, 4096),
                _ => (address, random.below(6000) as u32),
            };
            ReadRequest::new(PhysicalAddress(address), length, random.below(8000) as u32)
        };
        (0..2000).map(request).collect()
    };
    let mut batches: Vec<Vec<ReadRequest>> = (0..5).map(|_| batch()).collect();
    sealed(what, || {
        for requests in &mut batches {
            source.read_batch(requests, &mut arena);
        }
    });
    let read = batches.iter().flatten().filter(|request| request.outcome == ReadOutcome::Read);
    assert!(read.count() > 1000, "{what}");
}

/// Blocks are unpacked into memory allocated at start. The decoder of zstd is the exception: it
/// allocates for each block.
#[test]
fn reading_dumps_of_packed_pages_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join("ram"), folder.path().join("dump"));
    let bytes = 4_usize << 20;
    let memory: Vec<u8> = (0..bytes).map(|at| (at / 7 * (at >> 12) % 251) as u8).collect();
    std::fs::write(&file, memory).unwrap();
    let ram = Ram { file: &file, architecture: Architecture::Amd64 };
    for packing in [Packing::Zlib, Packing::Lzo, Packing::Snappy] {
        dump::kdump(ram, &path, packing).unwrap();
        let mut source = FileSource::open(&path).unwrap();
        read_about(&format!("{packing:?}"), &mut source, bytes as u64);
    }
    dump::lime(ram, &path, 2).unwrap();
    read_about("AVML", &mut FileSource::open(&path).unwrap(), bytes as u64);
    dump::lime(ram, &path, 1).unwrap();
    read_about("LiME", &mut FileSource::open(&path).unwrap(), bytes as u64);
}

/// Skipped where /proc/kcore cannot be read.
#[test]
fn reading_the_memory_of_this_machine_allocates_nothing() {
    let mut source = match Kcore::open() {
        Ok(source) => source,
        Err(error) => {
            panoptes_needs::skip::test_for("/proc/kcore", error);
            return;
        }
    };
    let end = source.regions().last().unwrap().end;
    read_about("/proc/kcore", &mut source, end);
}

/// Whatever the device does, unless its context has to be restarted.
#[test]
fn reading_by_a_dma_engine_allocates_nothing() {
    use panoptes_rig::standin::Standin;
    use panoptes_sources::doca::{DocaMemory, Library, PATIENCE};

    let bytes = 1_u64 << 20;
    for faults in
        ["", "error_every 5\nshort_every 7\nagain_every 3\nrefuse_every 11", "error_every 1"]
    {
        let standin = Standin::new("").unwrap();
        let path = standin.folder().join("memory");
        std::fs::write(&path, vec![7; bytes as usize]).unwrap();
        let settings = format!("device d 0000:03:00.0\nfunction V VF {}\n{faults}", path.display());
        std::fs::write(standin.folder().join("standin.conf"), settings).unwrap();
        let library = Library::load(Some(&standin.library())).unwrap();
        let regions = [0x1000..0x8_0000, 0xa_0000..bytes];
        let mut source = DocaMemory::open(&library, "d", "V", &regions, PATIENCE).unwrap();
        let mut random = Random(1);
        let mut requests: Vec<ReadRequest> = (0..20_000)
            .map(|_| {
                let address = PhysicalAddress(random.below(bytes as usize) as u64);
                ReadRequest::new(address, random.below(400) as u32, random.below(8000) as u32)
            })
            .collect();
        let mut arena = vec![0; 8400];
        sealed(faults, || {
            for _ in 0..5 {
                source.read_batch(&mut requests, &mut arena);
            }
        });
        assert!(source.counts().copies > 0 || source.counts().failed > 0);
    }
}

#[test]
fn scans_of_damaged_memory_allocate_nothing() {
    let Some(images) = images_or_skip("the count of damaged scans' allocations") else { return };
    let rounds = if cfg!(debug_assertions) { 100 } else { 3000 };
    let mut machines: Vec<Machine> = images.iter().map(|image| Machine::open(image)).collect();
    machines.retain(|machine| scans(machine) == 1000);
    for machine in &machines {
        let pages = touched_pages(machine);
        let mut damaged = Damaged::new(machine);
        let mut roomy = Scanner::new(&Limits::default());
        let mut narrow = Scanner::new(&NARROW);
        let mut total = 0;
        for seed in 0..rounds {
            let mut random = Random(seed);
            for _ in 0..1 << random.below(7) {
                damaged.strike(&pages, &mut random);
            }
            let rates = FaultRates {
                failed_requests: 1 << random.below(18),
                flipped_requests: 1 << random.below(16),
                ..FaultRates::default()
            };
            let mut fault = Fault::new(&mut damaged.memory, seed, rates);
            let what = format!("{}, seed {seed}", machine.name);
            sealed(&what, || {
                total += scan(&mut roomy, &mut fault, &machine.kernel);
                scan(&mut narrow, &mut fault, &machine.kernel);
            });
            damaged.heal();
        }
        eprintln!("{}: {rounds} damaged scans, {total} entities decoded", machine.name);
        assert!(total > 0);
    }
}

/// Returns what `make` made, and the bytes that it allocated and did not free.
fn counted<T>(make: impl FnOnce() -> T) -> (T, u64) {
    let before = LIVE.get();
    let made = make();
    (made, (LIVE.get() - before) as u64)
}

#[test]
fn what_is_counted_before_is_what_is_allocated() {
    let Some(images) = images_or_skip("the size of what is allocated") else { return };
    let machine = Machine::open(&images[0]);
    let large = Limits { connections: 100_000, vmas: 1 << 20, ..Limits::default() };
    for limits in [Limits::default(), NARROW, large] {
        let (workspace, bytes) = counted(|| Workspace::new(&limits, common::KEY));
        let expected = room::measure(|| Workspace::new(&limits, common::KEY));
        assert_eq!(expected, Some(bytes), "a workspace, {limits:?}");
        drop(workspace);
        let (_kernel, of_kernel) = counted(|| kernel_of(&machine.profile));
        for policy in [PolicyConfig::default(), common::everything()] {
            for shipped in [Arc::default(), Arc::new(common::one_hash())] {
                let expected = WatchedMachine::bytes(&limits, &policy, &shipped);
                let setup = common::setup(&limits, &machine.profile, policy.clone(), shipped);
                // The header was made before, and is freed with the machine.
                let (watched, bytes) = counted(|| WatchedMachine::new(setup));
                assert_eq!(expected, Some(bytes - of_kernel), "a machine, {limits:?}");
                drop(watched);
            }
        }
    }
}

/// A machine whose memory has different damage in each scan changes more than any other: every
/// difference becomes a record.
#[test]
fn watching_memory_that_is_damaged_anew_allocates_nothing() {
    let Some(images) = images_or_skip("the count of a damaged watch's allocations") else { return };
    let rounds = if cfg!(debug_assertions) { 100 } else { 3000 };
    let mut machines: Vec<Machine> = images.iter().map(|image| Machine::open(image)).collect();
    machines.retain(|machine| scans(machine) == 1000);
    for machine in &machines {
        for limits in [Limits::default(), NARROW] {
            let pages = touched_pages(machine);
            let mut damaged = Damaged::new(machine);
            let mut watcher = Watcher::new(&limits, &machine.profile);
            let (mut bytes, mut total) = (0, 0);
            for seed in 0..rounds {
                let mut random = Random(seed);
                for _ in 0..1 << random.below(7) {
                    damaged.strike(&pages, &mut random);
                }
                let what = format!("{}, seed {seed}", machine.name);
                bytes += sealed(&what, || watcher.scan(&mut damaged.memory).unwrap_or(0));
                total += entities(watcher.snapshot());
                // Undo the damage most times, or nothing would be left after a while.
                if random.below(8) > 0 {
                    damaged.heal();
                }
                if seed % 64 == 63 {
                    damaged.heal();
                }
            }
            eprintln!(
                "{}: watched {rounds} times, {total} entities decoded, {bytes} bytes of records",
                machine.name
            );
            assert!(total > 0 && bytes > 0);
        }
    }
}
