//! Scans of recorded images: the few pages give the lines of the whole memory, nothing is lost, and
//! the number of batches depends on the depth of the kernel's trees and lists, not on the
//! population.

mod common;

use std::ops::Range;

use common::recorded::{MAKE, Seen, images_or_skip};
use common::{Machine, Scanner, entities};
use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::source::{MemorySource, ReadOutcome, ReadRequest};
use panoptes_engine::limits::Limits;
use panoptes_engine::walk::{ConnectionRow, Kernel, PathRef, Scope, Snapshot, UserNamespaceRow};
use panoptes_sources::{Detail, SourceMeter};

/// Generous limit of a scan's batches besides those for each level of a tree or list. Modules take
/// up to 30 of them: they are in `vmalloc`'s memory, whose page tables are read in four rounds.
/// eBPF takes up to 20: three trees, and the way from a link to its place.
const BATCHES_FIXED_MAX: u64 = 100;
/// Objects of /sys/module that are no modules. The first scan reads each of them alone.
const MODULE_OBJECTS_MAX: u64 = 256;
/// Batches by which the scans of two machines may differ besides their levels: for kinds of object
/// that only one of them has, and for lists that are longer than a batch.
const LEVELS_BESIDE_MAX: u64 = 8;
/// Batches for a network interface with a few addresses: each is reached through the previous one.
const BATCHES_PER_INTERFACE_MAX: u64 = 12;

#[test]
fn a_scan_of_the_image_gives_what_the_whole_memory_gave() {
    let Some(images) = images_or_skip("the comparison with whole memory") else { return };
    let mut scanner = Scanner::new(&Limits::default());
    for image in images {
        let mut machine = Machine::open(&image);
        let expected = Seen::read(&image).unwrap_or_else(|why| panic!("{why}"));
        let (snapshot, seen, counts) = scanner.see(&mut machine.memory, &machine.kernel);
        assert_eq!(
            seen, expected,
            "{}: if scans now read or print something else on purpose, make the image again \
             with: {MAKE}",
            machine.name
        );
        let losses = snapshot.losses;
        assert_eq!((losses.unreadable, losses.unbounded, losses.dropped), (0, 0, 0));
        assert_eq!((counts.unnamed, counts.too_long), (0, 0));
        assert!(snapshot.task_list_closed && snapshot.idr_complete);
        assert!(snapshot.processes.iter().all(|process| process.stable));
        eprintln!("{}: {} objects, {} lines", machine.name, entities(snapshot), seen.lines);
    }
}

#[test]
fn repeated_scans_give_the_same() {
    let Some(images) = images_or_skip("the comparison of scans") else { return };
    let mut scanner = Scanner::new(&Limits::default());
    for image in images {
        let mut machine = Machine::open(&image);
        let first = scanner.see(&mut machine.memory, &machine.kernel).1;
        for _ in 0..3 {
            // Scan again without a reset: state kept between scans must not change the result.
            let snapshot =
                scanner.walker.scan(&mut machine.memory, &machine.kernel, Scope::ALL).unwrap();
            let (again, _) = Seen::of(snapshot, &machine.kernel, &mut scanner.lines);
            assert_eq!(again, first, "{}", machine.name);
        }
    }
}

/// The load of the recording (CONTRIBUTING.md, *What a scan costs*): 100 processes of 5 threads, 50
/// descriptors, 50 areas and 5 connections each.
#[test]
fn the_machine_among_the_sources_is_scanned_whole() {
    let mut machine = Machine::in_repository();
    let mut scanner = Scanner::new(&Limits::default());
    let (snapshot, _, counts) = scanner.see(&mut machine.memory, &machine.kernel);
    let losses = snapshot.losses;
    let message = "scans read other pages now; CONTRIBUTING.md says how to record it again";
    assert_eq!((losses.unreadable, losses.unbounded, losses.dropped), (0, 0, 0), "{message}");
    assert!(snapshot.processes.len() >= 100, "{} processes", snapshot.processes.len());
    assert!(snapshot.threads.len() >= 500, "{} threads", snapshot.threads.len());
    assert!(snapshot.connections.len() >= 500, "{} connections", snapshot.connections.len());
    assert!(counts.lines >= 100 * (1 + 5 + 50 + 50 + 5), "{} lines", counts.lines);
}

/// Number of rounds of a machine's scan beyond the fixed ones: one for each level of a tree or
/// list.
fn levels(snapshot: &Snapshot) -> u64 {
    let top = snapshot.by_tid.iter().map(|&at| snapshot.threads[at].task.pid).max().unwrap_or(0);
    let idr = u64::from((32 - top.leading_zeros()).div_ceil(6));
    // A leaf has 16 areas at most, a node above 10 children; half full is the worst.
    let areas = snapshot.mms.iter().map(|mm| mm.vmas.len() as u64).max().unwrap_or(0);
    let mut maple = 1;
    let mut reach = 8;
    while reach < areas {
        reach *= 5;
        maple += 1;
    }
    idr + maple + rounds_of_places(snapshot) + rounds_of_user_namespaces(snapshot)
}

/// Number of rounds that read all user namespaces, from those of processes to the outermost ones.
fn rounds_of_user_namespaces(snapshot: &Snapshot) -> u64 {
    let namespaces = &snapshot.user_namespaces;
    let above = |at: &KernelVa| {
        let row = namespaces.iter().find(|row| row.address == *at)?;
        Some(row.parent).filter(|parent| namespaces.iter().any(|row| row.address == *parent))
    };
    let depth = |row: &UserNamespaceRow| {
        std::iter::successors(Some(row.address), above).take(64).count() as u64
    };
    namespaces.iter().map(depth).max().unwrap_or(0)
}

/// Number of rounds that reach all directories and mounts from the open files and the working
/// directories of processes.
fn rounds_of_places(snapshot: &Snapshot) -> u64 {
    let mut dentries = vec![false; snapshot.dentries.len()];
    let mut mounts = vec![false; snapshot.mounts.len()];
    let mut places: Vec<PathRef> = snapshot.files.iter().map(|file| file.path).collect();
    places.extend(snapshot.processes.iter().map(|process| process.cwd));
    let mut rounds = 0;
    loop {
        let mut next = Vec::new();
        for PathRef { mount, dentry } in places {
            if let Some(seen) =
                dentry.and_then(|at| dentries.get_mut(at.position())).filter(|seen| !**seen)
            {
                *seen = true;
                next.push(PathRef {
                    mount: None,
                    dentry: snapshot.dentries.at(dentry).and_then(|row| row.parent),
                });
            }
            if let Some(seen) =
                mount.and_then(|at| mounts.get_mut(at.position())).filter(|seen| !**seen)
            {
                *seen = true;
                let row = snapshot.mounts.at(mount).expect("it has a place");
                next.push(PathRef { mount: row.parent, dentry: row.root });
                next.push(PathRef { mount: None, dentry: row.mountpoint });
            }
        }
        if next.is_empty() {
            return rounds;
        }
        rounds += 1;
        places = next;
    }
}

/// Number of rounds that read the modules: the depth of the red-black tree of their two memory
/// regions.
fn rounds_of_modules(snapshot: &Snapshot) -> u64 {
    let nodes = 2 * snapshot.modules.rows.len() as u64;
    2 * u64::from((nodes + 1).ilog2())
}

/// Largest depth of a tree of areas if it is a red-black tree: twice the logarithm of its size.
/// Maple trees have about three levels, like everything else.
fn red_black_levels(snapshot: &Snapshot, kernel: &Kernel) -> u64 {
    if kernel.layouts.maple_node.is_some() {
        return 0;
    }
    let areas = snapshot.mms.iter().map(|mm| mm.vmas.len()).max().unwrap_or(0);
    2 * u64::from((areas + 1).ilog2())
}

/// Number of rounds that read all sockets of the hash tables: the length of the longest chain. The
/// kernel hashes with a random key, so a chain of several sockets comes by chance.
fn rounds_of_chains(snapshot: &Snapshot, kernel: &Kernel) -> u64 {
    let link = u64::from(kernel.layouts.sock_common.skc_node.offset);
    let sockets = &snapshot.connections;
    let length = |first: &ConnectionRow| {
        let chain = std::iter::successors(Some(first), |row| {
            let next = KernelVa(row.endpoints.next).minus(link);
            sockets.iter().find(|other| other.address == next)
        });
        // Hostile links could form a circle.
        chain.take(256).count() as u64
    };
    sockets.iter().map(length).max().unwrap_or(0)
}

#[test]
fn batches_are_those_of_the_levels_not_of_the_objects() {
    let Some(images) = images_or_skip("the count of batches") else { return };
    let mut scanner = Scanner::new(&Limits::default());
    let mut costs = Vec::new();
    for image in images {
        let machine = Machine::open(&image);
        let mut meter = SourceMeter::new(machine.memory, Detail::Lines).unwrap();
        let (snapshot, ..) = scanner.see(&mut meter, &machine.kernel);
        let first = meter.counts();
        let (population, interfaces) = (entities(snapshot), snapshot.interfaces.len() as u64);
        let modules = snapshot.modules.rows.len() as u64;
        let levels = levels(snapshot)
            + rounds_of_modules(snapshot)
            + red_black_levels(snapshot, &machine.kernel)
            + rounds_of_chains(snapshot, &machine.kernel);
        meter.reset();
        scanner.walker.scan(&mut meter, &machine.kernel, Scope::ALL).unwrap();
        let second = meter.counts();
        eprintln!(
            "{}: {population} objects, {} batches ({} with interfaces), {} requests, {} levels",
            machine.name, second.batches, first.batches, second.requests, levels
        );
        let alone = (interfaces + 1) * BATCHES_PER_INTERFACE_MAX + modules + MODULE_OBJECTS_MAX;
        assert!(first.batches <= second.batches + alone, "{}", machine.name);
        assert!(second.batches <= BATCHES_FIXED_MAX + levels, "{}", machine.name);
        assert_eq!(second.failed, 0);
        costs.push((population, second.batches.saturating_sub(levels), machine.name));
    }
    costs.sort();
    let (Some(small), Some(large)) = (costs.first(), costs.last()) else { return };
    if large.0 < small.0 * 4 {
        // One of them holds four times as much as the other.
        panoptes_needs::skip::test_for("recorded images", "no two of different sizes");
        return;
    }
    // The same machine with many times the objects may differ only in batches that depend on the
    // depth, and in fixed costs of kinds of object that only one has.
    assert!(
        large.1 <= small.1 + LEVELS_BESIDE_MAX,
        "{} needs {} batches beyond its levels, {} needs {}",
        large.2,
        large.1,
        small.2,
        small.1
    );
}

/// A source that answers only the batches of the walk's own reader, and counts them.
struct BatchOnly<S> {
    source: S,
    batches: u64,
    empty: u64,
}

impl<S: MemorySource> MemorySource for BatchOnly<S> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.batches += 1;
        self.empty += u64::from(requests.is_empty());
        assert!(requests.iter().all(|request| request.outcome == ReadOutcome::Pending));
        assert_eq!(arena.as_ptr().align_offset(8), 0);
        self.source.read_batch(requests, arena);
    }

    fn regions(&self) -> &[Range<u64>] {
        panic!("a scan asks for no regions");
    }

    fn next_data(&mut self, _: PhysicalAddress) -> Option<Range<u64>> {
        panic!("a scan sweeps over nothing");
    }

    fn read_exact(&mut self, _: PhysicalAddress, _: &mut [u8]) -> bool {
        panic!("a request outside a batch");
    }
}

#[test]
fn no_request_is_issued_outside_a_batch() {
    let Some(images) = images_or_skip("the watch over requests") else { return };
    let mut scanner = Scanner::new(&Limits::default());
    for image in images {
        let Machine { memory, kernel, .. } = Machine::open(&image);
        let meter = SourceMeter::new(memory, Detail::Lines).unwrap();
        let mut source = BatchOnly { source: meter, batches: 0, empty: 0 };
        scanner.see(&mut source, &kernel);
        let counts = source.source.counts();
        assert!(counts.requests > 0);
        assert_eq!(counts.batches, source.batches);
        assert_eq!(source.empty, 0, "an empty batch is a round trip for nothing");
    }
}

#[test]
fn objects_beyond_the_limits_are_counted() {
    let Some(images) = images_or_skip("the scan with small limits") else { return };
    let limits = Limits {
        processes: 4,
        threads: 4,
        file_descriptors: 4,
        vmas: 4,
        connections: 4,
        containers: 4,
        string_length: 64,
        ..Limits::DEFAULT
    };
    let mut scanner = Scanner::new(&limits);
    let mut roomy = Scanner::new(&Limits::default());
    for image in images {
        let mut machine = Machine::open(&image);
        let all = entities(roomy.see(&mut machine.memory, &machine.kernel).0);
        let (snapshot, seen, _) = scanner.see(&mut machine.memory, &machine.kernel);
        let (some, dropped) = (entities(snapshot), snapshot.losses.dropped);
        assert!(some <= all);
        assert!(some == all || dropped > 0, "{}: {all} objects, {some} seen", machine.name);
        assert!(seen.lines > 0);
    }
}

/// A machine in which a word changes once it was read.
struct Moving<'a, S> {
    inner: &'a mut S,
    word: PhysicalAddress,
    read: bool,
}

impl<S: MemorySource> MemorySource for Moving<'_, S> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.inner.read_batch(requests, arena);
        let mut was_read = false;
        for request in requests.iter() {
            let end = request.address.0 + u64::from(request.length);
            if request.address.0 <= self.word.0 && self.word.0 + 8 <= end {
                was_read = true;
                if self.read {
                    let at = request.target as usize + (self.word.0 - request.address.0) as usize;
                    arena[at..at + 8].fill(0);
                }
            }
        }
        self.read |= was_read;
    }

    fn regions(&self) -> &[Range<u64>] {
        self.inner.regions()
    }
}

#[test]
fn a_descriptor_that_moves_while_its_file_is_read_is_left_out() {
    let Some(images) = images_or_skip("the descriptor that moves") else { return };
    let mut scanner = Scanner::new(&Limits::default());
    for image in images {
        let mut machine = Machine::open(&image);
        let snapshot = scanner.see(&mut machine.memory, &machine.kernel).0;
        let total = snapshot.descriptors.len();
        // The last descriptor of the largest table, if that is in the direct map.
        let table = snapshot.files_structs.iter().max_by_key(|table| table.descriptors.len());
        let table = table.expect("processes have descriptors");
        let row = table.descriptors.indexes().next_back().expect("a table has descriptors");
        let place = table.fd.plus(u64::from(snapshot.descriptors[row].index) * 8);
        let Some(word) = machine.kernel.space.linear(place) else { continue };
        assert!(snapshot.descriptors.iter().all(|descriptor| !descriptor.moved));
        let mut moving = Moving { inner: &mut machine.memory, word, read: false };
        let snapshot = scanner.see(&mut moving, &machine.kernel).0;
        assert_eq!(snapshot.descriptors.len(), total, "{}", machine.name);
        let moved: Vec<_> =
            snapshot.descriptors.indexes().filter(|&at| snapshot.descriptors[at].moved).collect();
        assert_eq!(moved, [row], "{}", machine.name);
        assert_eq!(snapshot.descriptors[row].file, None);
    }
}
