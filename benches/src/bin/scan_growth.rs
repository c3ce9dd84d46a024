//! How the time of a scan grows with the number of processes.
//!
//!     cargo run --release -p panoptes-benches --bin scan_growth -- [--most N]
//!
//! Scans synthetic machines of 1,000 processes and more, up to N (30,000), each in a raw memory
//! file that is mapped like a guest's. A process has two threads, six descriptors, a few areas and
//! a connection, so the machine with 100,000 processes takes about 10 GiB of memory while it is
//! made. The file is in the folder for temporary files; in one of memory (`TMPDIR=/dev/shm`) large
//! machines are ready sooner. One core; the median of 15 cold scans in processor time, as
//! `scan_floor` measures them. *Kept* is a cold scan that keeps the rows of the one before, because
//! no task has run. The table is printed as docs/performance has it; `cargo xtask plots` draws the
//! page's table.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use panoptes_benches::one_core::{Caches, pin};
use panoptes_benches::times::Times;
use panoptes_benches::{KEY, objects_of};
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Budget, Kernel, Scope, Walker};
use panoptes_sources::{Detail, FileSource, MachineSource as _, SourceMeter};
use panoptes_synthetic::{Machine, Size, profile};

type Error = Box<dyn std::error::Error>;

const RELEASE: &str = "6.1.0-50-amd64";
const PROCESSES: [u32; 7] = [1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];
const MOST_DEFAULT: u32 = 30_000;
const RUNS: usize = 15;
/// Room for a process with all that it has, and for the kernel.
const PROCESS_BYTES: u64 = 140 << 10;
const KERNEL_BYTES: u64 = 512 << 20;
const USAGE: &str = "usage: scan_growth [--most N]";

/// What scans of one machine cost.
#[derive(Clone, Copy)]
struct Point {
    processes: usize,
    objects: usize,
    lines: u64,
    ms: f64,
    /// Milliseconds of a scan that keeps its rows because no task has run; NaN if none did.
    kept_ms: f64,
}

impl Point {
    /// Nanoseconds of an object.
    fn ns(&self) -> f64 {
        self.ms * 1e6 / self.objects as f64
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scan_growth: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let mut most = MOST_DEFAULT;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word != "--most" {
            return Err(USAGE.into());
        }
        most = words.next().ok_or(USAGE)?.parse()?;
    }
    pin(None)?;
    println!("| processes | objects | lines | ms | ns per object | kept ms |");
    println!("|---|---|---|---|---|---|");
    let mut points = Vec::new();
    for processes in PROCESSES.into_iter().filter(|&processes| processes <= most) {
        let point = measure(processes)?;
        let Point { processes, objects, lines, ms, kept_ms } = point;
        let ns = point.ns();
        println!("| {processes} | {objects} | {lines} | {ms:.1} | {ns:.0} | {kept_ms:.1} |");
        points.push(point);
    }
    let all = || points.iter().map(Point::ns);
    let (least, largest) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    println!("per object: largest / least {:.2}", largest / least);
    Ok(())
}

/// Measures a machine with so many processes.
fn measure(processes: u32) -> Result<Point, Error> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("memory");
    let kernel = write_machine(processes, &path)?;
    scan(processes, &path, &kernel)
}

/// Writes the memory of a machine to a file, and returns its kernel. Its own memory is free again
/// afterwards.
fn write_machine(processes: u32, path: &Path) -> Result<Kernel, Error> {
    // The default has room for twice as many processes, more than many machines can reserve.
    let bytes = u64::from(processes) * PROCESS_BYTES + KERNEL_BYTES;
    let size = Size { processes, ..Size::default() };
    let mut machine = Machine::builder(&profile(RELEASE)).size(size).memory(bytes).build();
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    machine.memory().mirror_to(file)?;
    machine.memory().flush();
    Ok(kernel_of(&machine.discover()))
}

fn scan(processes: u32, path: &Path, kernel: &Kernel) -> Result<Point, Error> {
    let limits = Limits { processes: processes * 2, threads: processes * 4, ..Limits::default() };
    let most = |count: u32, each: u32| count.max(processes * each);
    let limits = Limits {
        file_descriptors: most(limits.file_descriptors, 10),
        vmas: most(limits.vmas, 30),
        connections: most(limits.connections, 2),
        ..limits
    };
    let mut source = FileSource::open(path)?;
    // The machine's memory has no hole below 4 GiB, which is the last of the layouts.
    source.choose_layout(source.layouts().saturating_sub(1));
    let mut walker = Walker::new(&limits, KEY);
    let mut meter = SourceMeter::new(&mut source, Detail::Lines)?;
    let objects = objects_of(walker.scan(&mut meter, kernel, Scope::ALL)?)?;
    let lines = meter.counts().lines;
    let (mut caches, mut times) = (Caches::default(), Times::default());
    for _ in 0..RUNS {
        caches.flush();
        walker.forget();
        times.take(|| walker.scan(&mut source, kernel, Scope::ALL).map(|_| ()))?;
    }
    let mut kept = Times::default();
    for _ in 0..RUNS {
        caches.flush();
        let is_kept = kept.take(|| {
            let snapshot = walker.scan_changes(&mut source, kernel, Scope::ALL, &Budget::NONE);
            snapshot.map(|snapshot| snapshot.is_kept)
        })?;
        if !is_kept {
            kept.0.pop();
        }
    }
    let median = |times: &Times| times.median().as_secs_f64() * 1e3;
    let kept_ms = if kept.0.is_empty() { f64::NAN } else { median(&kept) };
    let processes = walker.snapshot().processes.len();
    Ok(Point { processes, objects, lines, ms: median(&times), kept_ms })
}
