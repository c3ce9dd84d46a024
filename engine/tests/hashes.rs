//! Hashes of files from the page cache of a real kernel match those inside the guest: whole files,
//! partial files, and files on overlays.
//!
//! This is a small selection; `cargo xtask hashes` has all filesystems, more files and more
//! kernels.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use panoptes_engine::limits::Limits;
use panoptes_engine::page_cache::{Contents, FileIdentity, HashOutcome};
use panoptes_engine::path::{PathBuffer, write_path};
use panoptes_engine::system::kernel_of;
use panoptes_engine::time::Monotonic;
use panoptes_engine::walk::{Scope, Walker};
use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_rig::contents::{Course, Phase, Place};
use panoptes_rig::{Flavor, Guest, Kernel, setup};
use panoptes_sources::FileSource;
use panoptes_tables::HashKey;

#[path = "common/contents.rs"]
mod contents;

use contents::{Shipped, Types};

/// Longest time for which a file that is being written is hashed.
const WRITTEN_MAX: Duration = Duration::from_mins(3);
/// Initial length of the pause after every second write, in microseconds.
const ALONE_US: u64 = 600_000;

const PLACES: [Place; 3] = [Place::Ext4, Place::Tmpfs, Place::OverlayMetacopy];

fn files_are_hashed_exactly(flavor: Flavor, types: Types) -> Course {
    setup::ensure().unwrap();
    let mut course = Course::boot(Kernel::obtain(flavor).unwrap(), &PLACES, 60).unwrap();
    let shipped = Shipped::new(course.files());
    for place in PLACES {
        let look = |guest: &_, moment: &_, files: &[_]| {
            contents::look(guest, moment, files, &shipped, types)
        };
        for (phase, compared) in course.visit(place, look).unwrap().unwrap() {
            println!("{}, {}: {compared}", place.name(), phase.name());
            assert!(compared.is_exact(), "{}, {}: {compared}", place.name(), phase.name());
            assert!(compared.truth > 100, "{compared}");
            if phase == Phase::Read {
                assert_eq!(compared.whole, compared.truth, "{compared}");
            }
            if phase == Phase::Evicted {
                assert!(compared.partial > 10 && compared.pages.0 > 100, "{compared}");
            }
            if place.is_overlay() && types == Types::OfModules {
                assert!(compared.knows_overlays, "the module's types were not found");
            }
        }
    }
    course
}

/// Hashes a file that alternates between two contents. Returns how often the hash was that of one
/// of them (`true`), and how often another. Runs for `time`, and then until it has `count` hashes.
fn hashes_while_written(guest: &mut Guest, time: Duration, count: u32) -> BTreeMap<bool, u32> {
    let make = |name| format!("dd if=/dev/urandom of=/tmp/{name} bs=1024k count=1 2>/dev/null;");
    let (one, other) = (make("one"), make("other"));
    guest
        .agent(&format!("run mkdir /tmp/turns; {one} {other} cp /tmp/one /tmp/turns/file"))
        .unwrap();
    let sums = guest.agent("run /bin/busybox sha256sum /tmp/one /tmp/other").unwrap();
    guest.agent("files hold /tmp/turns").unwrap();
    // The pauses alternate: one is short, the next is long enough for reading the whole file.
    let write = |name, microseconds| {
        format!(
            "dd if=/tmp/{name} of=/tmp/turns/file bs=1024k conv=notrunc; usleep {microseconds};"
        )
    };
    let (one, other) = (write("one", "10000"), write("other", "$(cat /tmp/alone)"));
    let mut alone = ALONE_US;
    guest.agent(&format!("run echo {alone} > /tmp/alone")).unwrap();
    guest.agent(&format!("run (while true; do {one} {other} done) > /dev/null 2>&1 &")).unwrap();
    let mut source = FileSource::open(guest.ram_path()).unwrap();
    let profile = discover(&mut source, &DiscoveryOptions::default(), &mut ()).unwrap();
    let kernel = kernel_of(&profile);
    let limits = Limits::default();
    let (mut walker, mut contents) =
        (Walker::new(&limits, HashKey::new(1)), Contents::new(&limits, HashKey::new(2)));
    let (mut path, mut seen) = (PathBuffer::default(), BTreeMap::new());
    let scope = Scope { files: true, ..Scope::LEAST };
    let (begin, mut lengthened) = (Instant::now(), Instant::now());
    while begin.elapsed() < time
        || (seen.values().sum::<u32>() < count && begin.elapsed() < WRITTEN_MAX)
    {
        if lengthened.elapsed() > time {
            // On a slow machine the pause was too short.
            (alone, lengthened) = (alone * 2, Instant::now());
            guest.agent(&format!("run echo {alone} > /tmp/alone")).unwrap();
        }
        contents.begin_scan(Monotonic::from_ns(begin.elapsed().as_nanos() as i64));
        let Ok(snapshot) = walker.scan(&mut source, &kernel, scope) else { continue };
        let file = snapshot.files.iter().find(|file| {
            write_path(snapshot, file.path, &mut path).is_ok() && path.text() == b"/tmp/turns/file"
        });
        let Some(file) = file.and_then(|file| FileIdentity::of_file(snapshot, file)) else {
            continue;
        };
        // The first attempt mostly meets the writer; later ones count.
        contents.ask(&file);
        if !contents.has_work() {
            continue;
        }
        while contents.has_work() {
            contents.work(&mut source, &kernel, 256 << 10, &());
        }
        if let Some(HashOutcome::Whole { hashes }) = contents.get(&file).map(|known| known.outcome)
        {
            let sum = contents::text(&hashes.sha256);
            *seen.entry(sums.iter().any(|line| line.starts_with(&sum))).or_default() += 1;
        }
    }
    guest.agent("kill-all").unwrap();
    seen
}

#[test]
#[ignore = "boots a guest"]
fn files_of_6_12_are_hashed_exactly() {
    let mut course = files_are_hashed_exactly(Flavor::V6_12, Types::OfModules);
    let seen = hashes_while_written(course.guest(), Duration::from_secs(6), 5);
    println!("hashes of a file that is being written: {seen:?}");
    assert!(seen.get(&true).is_some_and(|&right| right > 0), "{seen:?}");
    assert_eq!(seen.get(&false), None, "{seen:?}");
}

/// A kernel whose modules have no types.
#[test]
#[ignore = "boots a guest"]
fn files_of_5_10_are_hashed_exactly() {
    files_are_hashed_exactly(Flavor::V5_10, Types::OfKernel);
}
