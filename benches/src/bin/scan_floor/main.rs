//! Whole scans of a memory file compared with their lower bounds: copying what a scan reads, and a
//! model of what it must read.
//!
//!     cargo run --release -p panoptes-benches --bin scan_floor -- \
//!         [--runs N] [--core N] [--scans-only] RAM
//!
//! RAM is a raw dump or a paused guest's memory file; the loaded guest of docs/performance/scan.md
//! has 300 processes × 5 threads × 50 descriptors × about 100 areas × 5 connections in 1 GiB.
//! Everything runs on one core (the last, unless `--core` names another), N times each way (40).
//! The ways take turns, so that other load on the host affects all of them alike. *Cold* is after
//! 128 MiB of other memory went through the processor's caches, with the file in the page cache;
//! *warm* right after the same. Times are processor times, which on an idle host equal the clock's;
//! only the time to the first scan is the clock's.
//!
//! Measured, each cold and warm, least and median:
//!
//! - `scan`: the whole scan, as `panoptes scan` makes it, interfaces included;
//! - `reads`: the same requests in the same batches, without decoding: the cost of the source;
//! - `lines`: each cache line that the scan reads once, one request of 64 bytes for each, by
//!   address; `joined`: the same with neighbours in one request; `in-order`: one request for each
//!   in the order in which the scan reads them first;
//! - `pages`: one request of 4096 bytes for each page that the scan reads;
//! - `written`: writing the lines of `panoptes scan`, dropped (warm only).
//!
//! A ratio is of two times of the same turn, so that its spread shows how far other load on the
//! host changes it.
//!
//! Then the model (`panoptes_benches::model`): the fewest lines that this scan must read, by
//! structure, those that it reads, and the floor of the time: the largest of the lines by 64 chains
//! of loads, the bytes by bandwidth, and the rounds by latency, with what this machine's memory
//! took in the same run (`panoptes_benches::chase`).
//!
//! Then the stages of a scan: what each kind of object adds to a warm scan of those before it.
//!
//! Lines and pages are counted in a separate pass. `--scans-only` makes N warm scans and nothing
//! else, for a profiler.

mod loads;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use panoptes_benches::chase::Memory;
use panoptes_benches::model::Model;
use panoptes_benches::one_core::{Caches, pin};
use panoptes_benches::times::Times;
use panoptes_benches::{KEY, LineWriter, write_lines};
use panoptes_decoders::source::MemorySource;
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Kernel, Scope, Walker};
use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_sources::{Detail, FileSource, MeterCounts, SourceMeter};
use panoptes_tables::room;

use loads::{Load, Seen};
use report::{Both, Report, counts, milliseconds};

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

fn measure(arguments: &Arguments) -> Result<(), Error> {
    let core = pin(arguments.core)?;
    let limits = Limits::default();

    let start = Instant::now();
    let mut source = FileSource::open(&arguments.ram)?;
    let opened = start.elapsed();
    let profile = discover(&mut source, &DiscoveryOptions::default(), &mut ())?;
    let discovered = start.elapsed();
    let kernel = kernel_of(&profile);
    // As in the service, no scan waits for its own memory.
    let mut walker = room::touch(|| Walker::new(&limits, KEY));
    let allocated = start.elapsed();
    walker.scan(&mut source, &kernel, Scope::ALL)?;
    let first = start.elapsed();
    let whole = |walker: &mut _, source: &mut _| look(walker, source, &kernel, Scope::ALL);
    if arguments.scans_only {
        return (1..arguments.runs).try_for_each(|_| whole(&mut walker, &mut source));
    }

    let mut lines = LineWriter::new(&limits);
    let seen = Seen::new(&mut walker, &mut source, &kernel, &mut lines)?;
    let mut load = Load::new(&seen);
    let model = Model::of(walker.snapshot(), &kernel, &mut source);
    let (mut caches, mut memory) = (Caches::default(), Memory::default());
    let (mut scan, mut written) = (Both::default(), Times::default());
    let mut copies = COPIES.map(|_| Both::default());
    for _ in 0..arguments.runs {
        memory.measure();
        caches.flush();
        scan.cold.take(|| whole(&mut walker, &mut source))?;
        scan.warm.take(|| whole(&mut walker, &mut source))?;
        written.take(|| write_lines(walker.snapshot(), &kernel, &mut lines));
        for (both, (_, copy)) in copies.iter_mut().zip(COPIES) {
            caches.flush();
            both.cold.take(|| copy(&mut load, &mut source));
            both.warm.take(|| copy(&mut load, &mut source));
        }
    }
    let report = Report {
        ram: &arguments.ram,
        release: &profile.release,
        core,
        runs: arguments.runs,
        counts: counts(walker.snapshot()),
        losses: walker.snapshot().losses,
        read: seen.counts,
        line_runs: load.runs(),
        start: [
            ("open", opened),
            ("find_kernel", discovered.saturating_sub(opened)),
            ("allocate", allocated.saturating_sub(discovered)),
            ("scan", first.saturating_sub(allocated)),
        ],
        scan,
        copies: std::iter::zip(COPIES.map(|(name, _)| name), copies).collect(),
        written,
    };
    report.print();
    report.print_model(&model?, &seen.lines, &memory);
    print_stages(&stages(&mut walker, &mut source, &kernel, arguments.runs)?);
    Ok(())
}

type Copy = fn(&mut Load, &mut FileSource);

/// Other ways to read what a scan reads.
const COPIES: [(&str, Copy); 5] = [
    ("reads", Load::read),
    ("lines", Load::copy_lines),
    ("joined", Load::copy_joined),
    ("in-order", Load::copy_in_order),
    ("pages", Load::copy_pages),
];

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
    counts: MeterCounts,
}

fn stages(
    walker: &mut Walker,
    source: &mut FileSource,
    kernel: &Kernel,
    runs: usize,
) -> Result<Vec<Stage>, Error> {
    let mut stages = Vec::new();
    for (name, scope) in STAGES {
        let mut meter = SourceMeter::new(&mut *source, Detail::Lines)?;
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
    let (mut before, mut seen) = (0.0, MeterCounts::default());
    for Stage { name, times, counts } in stages {
        let until = milliseconds(times.median());
        let (requests, lines) = (counts.requests - seen.requests, counts.lines - seen.lines);
        println!("{name:20}{:>10.2}{requests:>12}{lines:>12}", until - before);
        (before, seen) = (until, *counts);
    }
}
