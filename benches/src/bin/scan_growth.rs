//! How the time of a scan grows with the number of processes.
//!
//!     cargo run --release -p panoptes-benches --bin scan_growth -- [--most N] [--plot FILE]
//!
//! Scans synthetic machines of 1,000 processes and more, up to N (30,000), each in a raw memory
//! file that is mapped like a guest's. A process has two threads, six descriptors, a few areas and
//! a connection, so the machine with 100,000 processes takes about 10 GiB of memory while it is
//! made. The file is in the folder for temporary files; in one of memory (`TMPDIR=/dev/shm`) large
//! machines are ready sooner. One core; the median of 15 cold scans in processor time, as
//! `scan_floor` measures them. *Kept* is a cold scan that keeps the rows of the one before, because
//! no task has run. `--plot` also draws the time per object as an SVG.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
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
const USAGE: &str = "usage: scan_growth [--most N] [--plot FILE]";

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
    let (mut most, mut plot) = (MOST_DEFAULT, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--most" => most = value.parse()?,
            "--plot" => plot = Some(PathBuf::from(value)),
            _ => return Err(USAGE.into()),
        }
    }
    pin(None)?;
    println!(
        "{:>10}{:>10}{:>12}{:>10}{:>12}{:>12}",
        "processes", "objects", "lines", "[ms]", "[ns/object]", "kept [ms]"
    );
    let mut points = Vec::new();
    for processes in PROCESSES.into_iter().filter(|&processes| processes <= most) {
        let point = measure(processes)?;
        let Point { processes, objects, lines, ms, kept_ms } = point;
        println!(
            "{processes:>10}{objects:>10}{lines:>12}{ms:>10.2}{:>12.1}{kept_ms:>12.3}",
            point.ns()
        );
        points.push(point);
    }
    let all = || points.iter().map(Point::ns);
    let (least, largest) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    println!("per object: largest / least {:.2}", largest / least);
    if let Some(plot) = plot {
        std::fs::write(plot, draw(&points))?;
    }
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

/// Size of the plot, and of the room for its axes, in pixels.
const PLOT: (f64, f64) = (640.0, 320.0);
const MARGIN: f64 = 56.0;

/// Draws the time per object by the number of processes, the latter on a logarithmic scale.
fn draw(points: &[Point]) -> String {
    let (width, height) = PLOT;
    let decades = |processes: usize| (processes as f64 / 1000.0).log10();
    let last = points.last().map_or(1.0, |point| decades(point.processes)).max(0.1);
    let top = points.iter().map(Point::ns).fold(1.0, f64::max) * 1.25;
    let x = |processes| MARGIN + decades(processes) / last * (width - 2.0 * MARGIN);
    let y = |ns: f64| height - MARGIN - ns / top * (height - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <path d=\"M{MARGIN} {MARGIN}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>\n\
         <text x=\"{MARGIN}\" y=\"30\">Nanoseconds of a scan per object, by processes (cold, one \
         core)</text>\n",
        bottom = height - MARGIN,
        right = width - MARGIN,
    );
    let mut path = String::new();
    for point in points {
        let (at, level) = (x(point.processes), y(point.ns()));
        let command = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{command}{at:.1} {level:.1}");
        let _ = writeln!(
            svg,
            "<circle cx=\"{at:.1}\" cy=\"{level:.1}\" r=\"3\"/>\n\
             <text x=\"{at:.1}\" y=\"{label:.1}\" text-anchor=\"middle\">{ns:.0}</text>\n\
             <text x=\"{at:.1}\" y=\"{axis:.1}\" text-anchor=\"middle\">{processes}</text>",
            label = level - 10.0,
            ns = point.ns(),
            axis = height - MARGIN + 18.0,
            processes = point.processes,
        );
    }
    let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"#1f77b4\"/>\n</svg>");
    svg
}
