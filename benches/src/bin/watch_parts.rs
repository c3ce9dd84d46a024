//! The cost of each part of watching: the same machine scanned with and without it, in turns.
//!
//!     cargo run --release -p panoptes-benches --bin watch_parts -- [--runs N] RAM
//!
//! RAM is a paused guest's memory, a dump, or a recorded image (`*.image`). No file's content is
//! known there, so every file stays unverified: the worst case of attestation. The list of shipped
//! content is one hash, so everything that runs is foreign. `cargo xtask bench` runs it on its
//! loaded guests, with fifty bashes that wait for their users. Times are processor times; the first
//! scan, in which everything is new, is shown separately. The walk alone is what `scan_floor`
//! measures, warm. *All, kept rows* has the shortcut: it makes no new rows if the machine rests.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use panoptes_benches::KEY;
use panoptes_benches::parts::{Part, Way};
use panoptes_benches::times::{Times, timed};
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::time::Now;
use panoptes_engine::walk::{Scope, Walker};
use panoptes_profiles::{Options, discover};
use panoptes_sources::{FileSource, MemorySource, Replay};

const ALL: &[Part] = &[Part::ReverseShells, Part::ShellHistory, Part::Attestation];

/// All parts, and rows that are kept where the machine rests.
const AT_REST: &[Part] =
    &[Part::ReverseShells, Part::ShellHistory, Part::Attestation, Part::Shortcuts];

const WAYS: [(&str, &[Part]); 6] = [
    ("none", &[]),
    ("reverse shells", &[Part::ReverseShells]),
    ("shell history", &[Part::ShellHistory]),
    ("attestation", &[Part::Attestation]),
    ("all", ALL),
    ("all, kept rows", AT_REST),
];

/// One combination of parts, and how long its scans took.
struct Timed {
    name: &'static str,
    way: Way,
    times: Times,
}

impl Timed {
    fn scan<S: MemorySource>(&mut self, source: &mut S, now: Now) -> Duration {
        let (time, ()) = timed(|| self.way.scan(source, now));
        self.way.drop_records();
        time
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut path, mut runs) = (None, 100);
    while let Some(argument) = arguments.next() {
        if argument == "--runs" {
            runs = arguments.next().and_then(|runs| runs.parse().ok()).unwrap_or(runs).max(3);
        } else {
            path = Some(argument);
        }
    }
    let Some(path) = path else {
        eprintln!("usage: watch_parts [--runs N] RAM");
        return ExitCode::from(2);
    };
    if Path::new(&path).extension().is_some_and(|extension| extension == "image") {
        let bytes = std::fs::read(&path).expect("the image can be read");
        measure(&mut Replay::from_bytes(bytes).expect("it is an image"), runs);
    } else {
        measure(&mut FileSource::open(path.as_ref()).expect("it can be opened"), runs);
    }
    ExitCode::SUCCESS
}

fn measure<S: MemorySource>(source: &mut S, runs: usize) {
    let options = Options { use_builtin: true, ..Options::default() };
    let profile = discover(source, &options, &mut ()).expect("a kernel is found");
    let mut ways = WAYS.map(|(name, parts)| Timed {
        name,
        way: Way::new(parts, &profile),
        times: Times::default(),
    });
    let mut now = Now::at(1_795_000_000_000_000_000);
    for way in &mut ways {
        let first = way.scan(source, now);
        let (hashing, ()) = timed(|| way.way.hash_all(source));
        println!("{:>15}: the first scan {first:.2?}, then hashing {hashing:.2?}", way.name);
    }
    let kernel = kernel_of(&profile);
    let mut walker = Walker::new(&Limits::default(), KEY);
    let mut walks = Times::default();
    for run in 0..runs {
        now = now.after(10_000_000);
        walks.take(|| {
            walker.scan(source, &kernel, Scope::ALL).expect("it can be scanned");
        });
        // Each way finds the processor's caches as another has left them.
        for turn in 0..ways.len() {
            let index = (run + turn) % ways.len();
            let time = ways[index].scan(source, now);
            ways[index].times.0.push(time);
        }
    }
    let walk = walks.median();
    println!("{:>15}: median {walk:.2?}", "the walk alone");
    let none = ways[0].times.median();
    for way in &ways {
        let time = way.times.median();
        let more = (time.as_secs_f64() / none.as_secs_f64() - 1.0) * 100.0;
        println!("{:>15}: median {time:.2?} ({more:+.1} %), {} records", way.name, way.way.records);
    }
}
