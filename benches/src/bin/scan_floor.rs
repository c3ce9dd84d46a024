//! Whole scans of a memory file compared with their lower bound: copying the pages that a scan
//! reads.
//!
//!     cargo run --release -p panoptes-benches --bin scan_floor -- \
//!         [--runs N] [--core N] [--scans-only] RAM
//!
//! RAM is a raw dump or a paused guest's memory file; the loaded guest of PERFORMANCE.md has 300
//! processes × 5 threads × 50 descriptors × about 100 areas × 5 connections in 1 GiB. Everything
//! runs on one core (the last, unless `--core` names another), N times each way (40). The ways take
//! turns, so that other load on the host affects all of them alike. *Cold* is after 128 MiB of
//! other memory went through the processor's caches, with the file in the page cache; *warm* right
//! after the same. Times are processor times, which on an idle host equal the clock's; only the
//! time to the first scan is the clock's.
//!
//! Measured, each cold and warm, least and median:
//!
//! - `scan`: the whole scan, as `panoptes scan` makes it, interfaces included;
//! - `reads`: the same requests in the same batches, without decoding: the cost of the source;
//! - `pages`: the lower bound, one request of 4096 bytes for each page that the scan reads;
//! - `lines`: writing the lines of `panoptes scan`, dropped (warm only).
//!
//! Then the stages of a scan: what each kind of object adds to a warm scan of those before it.
//!
//! Lines and pages are counted in a separate pass. `--scans-only` makes N warm scans and nothing
//! else, for a profiler.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use panoptes_benches::one_core::{Caches, pin};
use panoptes_benches::times::Times;
use panoptes_benches::{KEY, LineWriter, write_lines};
use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES, Request};
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Kernel, Losses, Scope, Snapshot, Walker};
use panoptes_profiles::{Options, discover};
use panoptes_sources::{Counts, Detail, FileSource, Meter};

type Error = Box<dyn std::error::Error>;

const RUNS_DEFAULT: usize = 40;
const RUNS_MIN: usize = 3;

const USAGE: &str = "usage: scan_floor [--runs N] [--core N] [--scans-only] RAM";

#[derive(Debug)]
struct Arguments {
    ram: PathBuf,
    runs: usize,
    core: Option<usize>,
    scans_only: bool,
}

fn arguments() -> Result<Arguments, Error> {
    let mut found =
        Arguments { ram: PathBuf::new(), runs: RUNS_DEFAULT, core: None, scans_only: false };
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<usize, Error> {
            let value = words.next().ok_or(USAGE)?;
            Ok(value.to_str().ok_or(USAGE)?.parse()?)
        };
        match word.to_str() {
            Some("--runs") => found.runs = number()?.max(RUNS_MIN),
            Some("--core") => found.core = Some(number()?),
            Some("--scans-only") => found.scans_only = true,
            Some(option) if option.starts_with("--") => return Err(USAGE.into()),
            _ if found.ram.as_os_str().is_empty() => found.ram = word.into(),
            _ => return Err(USAGE.into()),
        }
    }
    if found.ram.as_os_str().is_empty() {
        return Err(USAGE.into());
    }
    Ok(found)
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| measure(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scan_floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Records every batch that is requested.
struct Tape<S> {
    source: S,
    batches: Vec<Vec<Request>>,
}

impl<S: MemorySource> MemorySource for Tape<S> {
    fn read_batch(&mut self, requests: &mut [Request], arena: &mut [u8]) {
        self.batches.push(requests.to_vec());
        self.source.read_batch(requests, arena);
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }
}

#[derive(Debug, Default)]
struct Both {
    cold: Times,
    warm: Times,
}

/// The requests of a scan to its source.
struct Load {
    batches: Vec<Vec<Request>>,
    pages: Vec<Request>,
    arena: Vec<u8>,
}

impl Load {
    fn new(batches: Vec<Vec<Request>>, pages: &[PhysicalAddress]) -> Self {
        let page = |(index, &at): (usize, &PhysicalAddress)| {
            Request::new(at, PAGE_BYTES as u32, index as u32 * PAGE_BYTES as u32)
        };
        let pages: Vec<Request> = pages.iter().enumerate().map(page).collect();
        let ends = batches.iter().flatten().map(|request| request.target + request.length);
        let end = ends.max().unwrap_or(0) as usize;
        let mut arena = vec![0; end.max(pages.len() * PAGE_BYTES as usize)];
        // Never-written memory of the benchmark itself would cause page faults.
        arena.fill(1);
        Self { batches, pages, arena }
    }

    fn read(&mut self, source: &mut FileSource) {
        for batch in &mut self.batches {
            source.read_batch(batch, &mut self.arena);
        }
    }

    fn copy_pages(&mut self, source: &mut FileSource) {
        source.read_batch(&mut self.pages, &mut self.arena);
    }
}

fn measure(arguments: &Arguments) -> Result<(), Error> {
    let core = pin(arguments.core)?;
    let limits = Limits::default();

    let start = Instant::now();
    let mut source = FileSource::open(&arguments.ram)?;
    let opened = start.elapsed();
    let profile = discover(&mut source, &Options::default(), &mut ())?;
    let discovered = start.elapsed();
    let kernel = kernel_of(&profile);
    let mut walker = Walker::new(&limits, KEY);
    let allocated = start.elapsed();
    walker.scan(&mut source, &kernel, Scope::ALL)?;
    let first = start.elapsed();
    let whole = |walker: &mut _, source: &mut _| look(walker, source, &kernel, Scope::ALL);
    if arguments.scans_only {
        return (1..arguments.runs).try_for_each(|_| whole(&mut walker, &mut source));
    }

    let mut lines = LineWriter::new(&limits);
    let seen = Seen::new(&mut walker, &mut source, &kernel, &mut lines)?;
    let mut load = Load::new(seen.batches, &seen.pages);
    let mut caches = Caches::default();
    let mut flush = || caches.flush();
    let (mut scan, mut reads, mut pages) = (Both::default(), Both::default(), Both::default());
    let mut written = Times::default();
    for _ in 0..arguments.runs {
        flush();
        scan.cold.take(|| whole(&mut walker, &mut source))?;
        scan.warm.take(|| whole(&mut walker, &mut source))?;
        written.take(|| write_lines(walker.snapshot(), &kernel, &mut lines));
        flush();
        reads.cold.take(|| load.read(&mut source));
        reads.warm.take(|| load.read(&mut source));
        flush();
        pages.cold.take(|| load.copy_pages(&mut source));
        pages.warm.take(|| load.copy_pages(&mut source));
    }
    let report = Report {
        ram: &arguments.ram,
        release: &profile.release,
        core,
        runs: arguments.runs,
        counts: counts(walker.snapshot()),
        losses: walker.snapshot().losses,
        reads_counted: seen.counts,
        start: [
            ("open", opened),
            ("find_kernel", discovered.saturating_sub(opened)),
            ("allocate", allocated.saturating_sub(discovered)),
            ("scan", first.saturating_sub(allocated)),
        ],
        ways: [("scan", scan), ("reads", reads), ("pages", pages)],
        lines: written,
    };
    report.print();
    print_stages(&stages(&mut walker, &mut source, &kernel, arguments.runs)?);
    Ok(())
}

fn look(
    walker: &mut Walker,
    source: &mut impl MemorySource,
    kernel: &Kernel,
    scope: Scope,
) -> Result<(), Error> {
    walker.forget();
    walker.scan(source, kernel, scope)?;
    Ok(())
}

/// What a scan reads, one kind of object more in each.
const STAGES: [(&str, Scope); 6] = [
    ("tasks", Scope::LEAST),
    ("command lines", Scope { command_lines: true, ..Scope::LEAST }),
    ("descriptors, files", Scope { files: true, command_lines: true, ..Scope::LEAST }),
    ("memory areas", Scope { connections: false, interfaces: false, ..Scope::ALL }),
    ("connections", Scope { interfaces: false, ..Scope::ALL }),
    ("interfaces", Scope::ALL),
];

/// One stage: the time of scans up to it, and their reads.
struct Stage {
    name: &'static str,
    times: Times,
    counts: Counts,
}

fn stages(
    walker: &mut Walker,
    source: &mut FileSource,
    kernel: &Kernel,
    runs: usize,
) -> Result<Vec<Stage>, Error> {
    let mut stages = Vec::new();
    for (name, scope) in STAGES {
        let mut meter = Meter::new(&mut *source, Detail::Lines)?;
        look(walker, &mut meter, kernel, scope)?;
        stages.push(Stage { name, times: Times::default(), counts: meter.counts() });
    }
    // In turns, and each kind of scan twice: the first one finds the tables of another kind.
    for _ in 0..runs {
        for (stage, (_, scope)) in stages.iter_mut().zip(STAGES) {
            look(walker, source, kernel, scope)?;
            stage.times.take(|| look(walker, source, kernel, scope))?;
        }
    }
    Ok(stages)
}

fn print_stages(stages: &[Stage]) {
    println!("\n{:20}{:>10}{:>12}{:>12}", "stage", "[ms]", "requests", "lines");
    let (mut before, mut seen) = (0.0, Counts::default());
    for Stage { name, times, counts } in stages {
        let until = milliseconds(times.median());
        let (requests, lines) = (counts.requests - seen.requests, counts.lines - seen.lines);
        println!("{name:20}{:>10.2}{requests:>12}{lines:>12}", until - before);
        (before, seen) = (until, *counts);
    }
}

/// The requests of a scan, counted and recorded.
struct Seen {
    counts: Counts,
    pages: Vec<PhysicalAddress>,
    batches: Vec<Vec<Request>>,
}

impl Seen {
    fn new(
        walker: &mut Walker,
        source: &mut FileSource,
        kernel: &Kernel,
        lines: &mut LineWriter,
    ) -> Result<Self, Error> {
        let mut meter = Meter::new(&mut *source, Detail::Lines)?;
        look(walker, &mut meter, kernel, Scope::ALL)?;
        let (counts, pages) = (meter.counts(), meter.pages().collect());
        let mut tape = Tape { source, batches: Vec::new() };
        walker.forget();
        let snapshot = walker.scan(&mut tape, kernel, Scope::ALL)?;
        write_lines(snapshot, kernel, lines);
        Ok(Self { counts, pages, batches: tape.batches })
    }
}

fn counts(snapshot: &Snapshot) -> [(&'static str, usize); 6] {
    [
        ("processes", snapshot.processes.len()),
        ("threads", snapshot.by_tid.len()),
        ("file_descriptors", snapshot.descriptors.len()),
        ("memory_areas", snapshot.vmas.len()),
        ("connections", snapshot.connections.len()),
        ("interfaces", snapshot.interfaces.len()),
    ]
}

struct Report<'a> {
    ram: &'a Path,
    release: &'a str,
    core: usize,
    runs: usize,
    counts: [(&'static str, usize); 6],
    losses: Losses,
    reads_counted: Counts,
    start: [(&'static str, Duration); 4],
    ways: [(&'static str, Both); 3],
    lines: Times,
}

impl Report<'_> {
    /// The scan's median divided by the lower bound's, cold and warm.
    fn ratios(&self) -> [f64; 2] {
        let [(_, scan), _, (_, pages)] = &self.ways;
        let ratio = |scan: &Times, pages: &Times| {
            scan.median().as_secs_f64() / pages.median().as_secs_f64().max(f64::MIN_POSITIVE)
        };
        [ratio(&scan.cold, &pages.cold), ratio(&scan.warm, &pages.warm)]
    }

    fn print(&self) {
        let objects: usize = self.counts.iter().map(|(_, count)| count).sum();
        println!(
            "{}: Linux {}, core {}, {} runs",
            self.ram.display(),
            self.release,
            self.core,
            self.runs
        );
        let counts: Vec<String> =
            self.counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        println!("{objects} objects: {}", counts.join(", "));
        let Counts { batches, requests, bytes, lines, pages, .. } = self.reads_counted;
        println!(
            "{batches} batches, {requests} requests, {:.1} MB; {lines} lines ({:.1} MB) \
             in {pages} pages ({:.1} MB)",
            bytes as f64 / 1e6,
            lines as f64 * 64.0 / 1e6,
            (pages * PAGE_BYTES) as f64 / 1e6,
        );
        println!("losses: {:?}", self.losses);
        let first_scan = self.start.iter().map(|(_, time)| time).sum();
        let parts = self.start.map(|(name, time)| format!("{name} {:.1}", milliseconds(time)));
        println!(
            "from the start to the first whole scan {:.1} ms: {}",
            milliseconds(first_scan),
            parts.join(", ")
        );
        println!("\n{:8}{:>26}{:>26}", "", "cold: least, median [ms]", "warm: least, median [ms]");
        for (name, both) in &self.ways {
            println!("{name:8}{}{}", columns(&both.cold), columns(&both.warm));
        }
        println!("{:8}{:26}{}", "lines", "", columns(&self.lines));
        let [cold, warm] = self.ratios();
        println!("\nscan / pages: cold {cold:.2}, warm {warm:.2} (medians)");
        let [(_, scan), ..] = &self.ways;
        for (name, times) in [("cold", &scan.cold), ("warm", &scan.warm)] {
            let seconds = times.median().as_secs_f64();
            println!(
                "{name}: {:.2} M objects/s, {:.3} µs an object",
                objects as f64 / seconds / 1e6,
                seconds * 1e6 / objects as f64
            );
        }
    }
}

/// The least and the median time.
fn columns(times: &Times) -> String {
    format!("{:>16.3}{:>10.3}", milliseconds(times.least()), milliseconds(times.median()))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
