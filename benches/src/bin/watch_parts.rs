//! The cost of each part of watching: the same machine scanned with and without it, in turns.
//!
//!     cargo run --release -p panoptes-benches --bin watch_parts -- [--runs N] [--only PARTS] RAM
//!
//! RAM is a paused guest's memory, a dump, or a recorded image (`*.image`). No file's content is
//! known there, so every file stays unverified: the worst case of attestation. The list of shipped
//! content is one hash, so everything that runs is foreign. `cargo xtask bench` runs it on its
//! loaded guests, with fifty bashes that wait for their users. Times are processor times; the first
//! scan, in which everything is new, is shown separately. The walk alone is what `scan_floor`
//! measures, warm. *All, kept rows* has the shortcut: it makes no new rows if the machine rests.
//! `--only "all, kept rows"` measures only that, for a profiler.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use panoptes_benches::KEY;
use panoptes_benches::parts::{Part, StageTimes, Way};
use panoptes_benches::times::{Times, timed};
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::time::Now;
use panoptes_engine::walk::{Scope, Walker};
use panoptes_profiles::{DiscoveryOptions, Profile, discover};
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
    stages: StageTimes,
}

impl Timed {
    fn new(name: &'static str, parts: &[Part], profile: &Profile) -> Self {
        let (times, stages) = <_>::default();
        Self { name, way: Way::new(parts, profile), times, stages }
    }

    fn scan<S: MemorySource>(&mut self, source: &mut S, now: Now) -> Duration {
        let (time, stages) = timed(|| self.way.scan_stages(source, now));
        self.way.drop_records();
        self.stages.add(stages);
        time
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut path, mut runs, mut only) = (None, 100, None);
    while let Some(argument) = arguments.next() {
        if argument == "--runs" {
            runs = arguments.next().and_then(|runs| runs.parse().ok()).unwrap_or(runs).max(3);
        } else if argument == "--only" {
            only = arguments.next();
            if only.as_ref().is_none_or(|only| !WAYS.iter().any(|(name, _)| name == only)) {
                eprintln!("watch_parts: PARTS is one of {}", WAYS.map(|way| way.0).join("; "));
                return ExitCode::from(2);
            }
        } else {
            path = Some(argument);
        }
    }
    let Some(path) = path else {
        eprintln!("usage: watch_parts [--runs N] [--only PARTS] RAM");
        return ExitCode::from(2);
    };
    if Path::new(&path).extension().is_some_and(|extension| extension == "image") {
        let bytes = std::fs::read(&path).expect("the image can be read");
        measure(&mut Replay::from_bytes(bytes).expect("it is an image"), runs, only.as_deref());
    } else {
        measure(
            &mut FileSource::open(path.as_ref()).expect("it can be opened"),
            runs,
            only.as_deref(),
        );
    }
    ExitCode::SUCCESS
}

fn measure<S: MemorySource>(source: &mut S, runs: usize, only: Option<&str>) {
    let options = DiscoveryOptions { use_builtin: true, ..DiscoveryOptions::default() };
    let profile = discover(source, &options, &mut ()).expect("a kernel is found");
    let is_wanted = |name: &str| only.is_none_or(|only| only == name);
    let ways = WAYS.into_iter().filter(|(name, _)| is_wanted(name));
    let mut ways: Vec<_> = ways.map(|(name, parts)| Timed::new(name, parts, &profile)).collect();
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
        if only.is_none() {
            walks.take(|| {
                walker.scan(source, &kernel, Scope::ALL).expect("it can be scanned");
            });
        }
        // Each way finds the processor's caches as another has left them.
        for turn in 0..ways.len() {
            let index = (run + turn) % ways.len();
            let time = ways[index].scan(source, now);
            ways[index].times.0.push(time);
        }
    }
    let walk = walks.median();
    println!("{:>15}: median {walk:.2?}", "the walk alone");
    let none = ways.first().map_or(walk, |way| way.times.median());
    for way in &ways {
        let time = way.times.median();
        let more = (time.as_secs_f64() / none.as_secs_f64() - 1.0) * 100.0;
        println!("{:>15}: median {time:.2?} ({more:+.1} %), {} records", way.name, way.way.records);
    }
    for way in &ways {
        print!("{:>15}:", way.name);
        for (stage, time) in way.stages.medians() {
            print!("  {stage} {time:.2?}");
        }
        println!();
    }
}
