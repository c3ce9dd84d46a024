//! Runs each stage of a scan a few times, to count their instructions under valgrind.
//!
//!     scan_cost --unpack benches/images/6.1.image.xz IMAGE
//!     valgrind --tool=callgrind scan_cost IMAGE
//!
//! IMAGE is a recorded image whose kernel a built-in table describes. Each stage is a function of
//! its own named `stage_…`, so a profile shows its cost. `cargo xtask cost` runs this, and compares
//! the counts with those in `benches/cost.json`. The machine never changes between scans, so a
//! stage costs what an idle machine costs. `black_box` keeps the compiler from merging functions
//! that do the same.

use std::hint::black_box;
use std::process::ExitCode;

use panoptes_benches::parts::{Part, Way};
use panoptes_benches::{KEY, LineWriter, write_lines};
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::time::Now;
use panoptes_engine::walk::{Kernel, Scope, Walker};
use panoptes_profiles::{DiscoveryOptions, Profile, discover};
use panoptes_sources::Replay;

/// Number of times that each stage runs: the count of one run is the sum divided by this.
const RUNS: usize = 4;
/// The time of the first scan, in nanoseconds since 1970, and between two scans.
const BEGIN_NS: i64 = 1_795_000_000_000_000_000;
const INTERVAL_NS: i64 = 10_000_000;

#[inline(never)]
fn stage_discovery(source: &mut Replay) -> Profile {
    let options = DiscoveryOptions { use_builtin: true, ..DiscoveryOptions::default() };
    discover(source, &options, &mut ()).expect("a kernel is found")
}

#[inline(never)]
fn stage_walk(walker: &mut Walker, source: &mut Replay, kernel: &Kernel) {
    walker.scan(source, kernel, Scope::ALL).expect("it can be scanned");
}

#[inline(never)]
fn stage_lines(walker: &Walker, kernel: &Kernel, writer: &mut LineWriter) {
    write_lines(walker.snapshot(), kernel, writer);
}

/// Functions that do the same, so that a profile has the cost of each.
macro_rules! scans {
    ($($name:ident)*) => {
        $(#[inline(never)]
        fn $name(way: &mut Way, source: &mut Replay, now: Now) {
            black_box(stringify!($name));
            way.scan(source, now);
        })*
    };
}

scans! {
    stage_first_scan stage_watch stage_watch_shells stage_watch_history stage_watch_attestation
    stage_watch_paths
}

type Stage = fn(&mut Way, &mut Replay, Now);

const STAGES: [(&[Part], Stage); 5] = [
    (&[], stage_watch),
    (&[Part::ReverseShells], stage_watch_shells),
    (&[Part::ShellHistory], stage_watch_history),
    (&[Part::Attestation], stage_watch_attestation),
    (&[Part::ChangedPaths], stage_watch_paths),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--unpack", packed, image] => unpack(packed, image),
        [image] => run(image),
        _ => {
            eprintln!("usage: scan_cost [--unpack PACKED.xz] IMAGE");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Unpacks an image: under valgrind that would take longer than everything else.
fn unpack(packed: &str, image: &str) {
    let file = std::fs::File::open(packed).expect("the packed image can be read");
    let mut bytes = lzma_rust2::XzReader::new(std::io::BufReader::new(file), false);
    let mut image = std::fs::File::create(image).expect("the image can be written");
    std::io::copy(&mut bytes, &mut image).expect("it is an xz file");
}

fn run(path: &str) {
    let bytes = std::fs::read(path).expect("the image can be read");
    let mut source = Replay::from_bytes(bytes).expect("it is an image");
    let mut profile = stage_discovery(&mut source);
    for _ in 1..RUNS {
        profile = stage_discovery(&mut source);
    }
    let kernel = kernel_of(&profile);
    let limits = Limits::default();
    let mut walker = Walker::new(&limits, KEY);
    let mut writer = LineWriter::new(&limits);
    // The first scan sizes the tables.
    walker.scan(&mut source, &kernel, Scope::ALL).expect("it can be scanned");
    for _ in 0..RUNS {
        stage_walk(&mut walker, &mut source, &kernel);
        stage_lines(&walker, &kernel, &mut writer);
    }
    for _ in 0..RUNS {
        stage_first_scan(&mut Way::new(&[], &profile), &mut source, Now::at(BEGIN_NS));
    }
    for (parts, stage) in STAGES {
        let mut way = Way::new(parts, &profile);
        way.scan(&mut source, Now::at(BEGIN_NS));
        way.hash_all(&mut source);
        for run in 1..=RUNS as i64 {
            stage(&mut way, &mut source, Now::at(BEGIN_NS).after(run * INTERVAL_NS));
        }
    }
    println!("{RUNS} runs of each stage");
}
