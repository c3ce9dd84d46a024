//! The scanner's longest pause during a burst of records, compared with that without.
//!
//!     cargo run --release -p panoptes-benches --bin scanner_pause -- \
//!         [--seconds N] [--passes N] [--processes N] [--folder DIR]
//!
//! A thread that is pinned to the first core scans a synthetic machine of 100 processes every 10 ms
//! as the service does. In a burst, it also pushes 10,000 records of 300 bytes after each scan, as
//! if the scan had found them: 1 M records/s. They go the way of the service: a queue of its size,
//! the writer's thread on the other cores, io_uring, a file in DIR (a temporary folder). Bursts and
//! the same time without one take turns, N passes (5) of N seconds (10) each.
//!
//! *Pause* is the longest step of the scanner in an interval of 10 ms, from one batch of reads or
//! one pushed record to the next, in microseconds: the median of all intervals, and so on. *Of
//! pushes* is the longest step to a pushed record. A pause has no time in which the scanner had no
//! core: such gaps of more than a millisecond are counted apart, as other programs run on the same
//! cores. The time that the host of a virtual machine takes is in the pauses, because the kernel
//! counts it as the thread's own. *Stolen* is that time by the kernel's count for the scanner's
//! core, in steps of 10 ms. The time of a push includes one reading of the clock.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use panoptes_benches::KEY;
use panoptes_benches::one_core::{allow_only, allowed_cores, pin};
use panoptes_benches::parts::{DETECTORS, watched};
use panoptes_benches::pauses::Steps;
use panoptes_benches::times::{Times, timed};
use panoptes_decoders::source::{MemorySource, ReadRequest};
use panoptes_engine::limits::Limits;
use panoptes_engine::time::Now;
use panoptes_engine::watch::{SLICE_BYTES, WatchedMachine, Workspace};
use panoptes_records::queue::{Producer, QueueSize, RecordClass, Waker, queue};
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Output as _, OutputCounters, OutputKind};
use panoptes_sinks::writer::Writer;
use panoptes_sources::FileSource;
use panoptes_synthetic::{Machine, Size, profile};
use panoptes_tables::room;

type Error = Box<dyn std::error::Error>;

const RELEASE: &str = "6.1.0-50-amd64";
const BEGIN_NS: i64 = 1_790_000_001_000_000_000;
const INTERVAL: Duration = Duration::from_millis(10);
/// Records after each scan of a burst: 1 M in a second.
const RECORDS: usize = 10_000;
/// The line feed makes it 300 bytes.
const RECORD: [u8; 299] = [b'x'; 299];
/// The queue of a service with one scanner.
const QUEUE: QueueSize = QueueSize { blocks: 128, block_bytes: 256 << 10 };
const USAGE: &str =
    "usage: scanner_pause [--seconds N] [--passes N] [--processes N] [--folder DIR]";

struct Options {
    time: Duration,
    passes: usize,
    processes: u32,
    folder: PathBuf,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scanner_pause: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, Error> {
    let mut options = Options {
        time: Duration::from_secs(10),
        passes: 5,
        processes: 100,
        folder: std::env::temp_dir(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--seconds" => options.time = Duration::from_secs(value.parse()?),
            "--passes" => options.passes = value.parse::<usize>()?.max(1),
            "--processes" => options.processes = value.parse()?,
            "--folder" => options.folder = value.into(),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}

/// Notes the end of each batch.
struct Stepped<'a> {
    source: &'a mut FileSource,
    steps: &'a mut Steps,
}

impl MemorySource for Stepped<'_> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.source.read_batch(requests, arena);
        self.steps.note();
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }
}

/// The machine and what its scanner has.
struct Scanner {
    machine: Machine,
    source: FileSource,
    watched: WatchedMachine,
    workspace: Workspace,
    now: Now,
}

/// What the scanner did in one time.
struct Report {
    steps: Steps,
    scans: Times,
    /// The longest step of each scan, and of the records pushed after it.
    of_scans: Times,
    of_pushes: Times,
    /// Processor time of all pushes.
    pushes: Duration,
    pushed: u64,
    refused: u64,
    late: Duration,
    stolen: u64,
}

fn run(options: &Options) -> Result<(), Error> {
    let cores = allowed_cores()?;
    let core = pin(cores.first().copied())?;
    let folder = tempfile::tempdir()?;
    let mut scanner = Scanner::new(&folder.path().join("memory"), options.processes)?;
    println!(
        "{:>6}{:>9}{:>9}{:>9}{:>10}{:>6}{:>7}{:>8}{:>9}{:>9}{:>9}{:>10}{:>9}{:>8}",
        "burst",
        "median",
        "p99",
        "longest",
        "of pushes",
        "gaps",
        "time",
        "gap ms",
        "scan us",
        "late us",
        "ns/push",
        "written",
        "refused",
        "stolen"
    );
    let mut passes: [Vec<Times>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..options.passes {
        for bursts in [false, true] {
            let pauses = measure(options, &cores, core, &mut scanner, bursts)?;
            passes[usize::from(bursts)].push(pauses);
        }
    }
    for (name, part) in [("median", 0.5), ("p99", 0.99), ("longest", 1.0)] {
        let of = |pauses: &Times| pauses.part(part);
        let [without, with] =
            passes.each_ref().map(|all| Times(all.iter().map(of).collect()).median());
        println!(
            "{name} pause of an interval, median of {} passes: {without:.1?} without a burst, \
             {with:.1?} in one: {:+.0} %",
            options.passes,
            (with.as_secs_f64() / without.as_secs_f64() - 1.0) * 100.0
        );
    }
    Ok(())
}

/// Scans for some time beside a writer; prints what the scanner did, and returns its pauses.
fn measure(
    options: &Options,
    cores: &[usize],
    core: usize,
    scanner: &mut Scanner,
    bursts: bool,
) -> Result<Times, Error> {
    let path = options.folder.join("panoptes-pause.jsonl");
    let transport = TransportSettings { kind: OutputKind::IoUring, ..<_>::default() };
    let file =
        FileOptions { transport, max_files: 0, rotate_size: 1 << 30, ..FileOptions::default() };
    let output = FileOutput::open(&path, file)?;
    let counters = output.counters().clone();
    let (mut producer, consumer) = queue(QUEUE, &Waker::default());
    let mut writer = Writer::new(vec![consumer], vec![Box::new(output)]);
    let others: Vec<_> = cores.iter().copied().filter(|&other| other != core).collect();
    let begin = Instant::now();
    let report = std::thread::scope(|scope| {
        scope.spawn(move || {
            // As in the service: the scanner has its core alone, if there is another one.
            if !others.is_empty() {
                allow_only(&others).expect("the cores are allowed");
            }
            let clock = || begin.elapsed().as_nanos() as u64;
            writer.run(&clock, &AtomicBool::new(false))
        });
        let report = scanner.run(options.time, core, &mut producer, bursts);
        drop(producer);
        report
    });
    print(&report, options, &counters, bursts);
    let _ = std::fs::remove_file(&path);
    Ok(report.pauses())
}

impl Report {
    /// The longest pause of each interval.
    fn pauses(&self) -> Times {
        let both = self.of_scans.0.iter().zip(&self.of_pushes.0);
        Times(both.map(|(scan, push)| *scan.max(push)).collect())
    }
}

fn print(report: &Report, options: &Options, counters: &OutputCounters, bursts: bool) {
    let Report { steps, scans, of_pushes, pushes, pushed, refused, late, stolen, .. } = report;
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let pauses = report.pauses();
    println!(
        "{:>6}{:>9.1}{:>9.1}{:>9.1}{:>10.1}{:>6}{:>7}{:>8.1}{:>9.1}{:>9.0}{:>9.0}{:>10}{:>9}{:>8}",
        if bursts { "yes" } else { "no" },
        us(pauses.median()),
        us(pauses.part(0.99)),
        us(pauses.part(1.0)),
        us(of_pushes.part(1.0)),
        steps.gaps,
        format!("{:.1}%", steps.gaps_sum.as_secs_f64() / options.time.as_secs_f64() * 100.0),
        steps.longest_gap.as_secs_f64() * 1e3,
        us(scans.median()),
        us(*late),
        pushes.as_secs_f64() * 1e9 / (*pushed).max(1) as f64,
        counters.records(),
        refused,
        format!("{} ms", stolen * 10),
    );
}

impl Scanner {
    fn new(path: &Path, processes: u32) -> Result<Self, Error> {
        let size = Size { processes, ..Size::default() };
        let mut machine = Machine::builder(&profile(RELEASE)).size(size).build();
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        machine.memory().mirror_to(file)?;
        machine.memory().flush();
        let found = machine.discover();
        let limits = Limits::default();
        let mut scanner = Self {
            source: FileSource::open(path)?,
            watched: room::touch(|| watched(DETECTORS, &found, &limits, 0)),
            workspace: room::touch(|| Workspace::new(&limits, KEY)),
            machine,
            now: Now::at(BEGIN_NS),
        };
        scanner.settle();
        Ok(scanner)
    }

    /// Makes the first scans, which cost more, and hashes what they have asked for.
    fn settle(&mut self) {
        let (mut producer, mut consumer) = queue(QUEUE, &Waker::default());
        for _ in 0..5 {
            self.advance();
            self.scan(&mut Steps::begin(), &mut producer);
            while self.watched.has_work() {
                self.watched.work(&mut self.workspace, &mut self.source, SLICE_BYTES);
            }
            producer.flush();
            while let Some(block) = consumer.pop() {
                consumer.give_back(block);
            }
        }
    }

    /// Lets time pass in the machine until the next scan.
    fn advance(&mut self) {
        self.machine.tick(INTERVAL.as_nanos() as u64);
        self.machine.memory().flush();
        self.now = self.now.after(INTERVAL.as_nanos() as i64);
    }

    fn scan(&mut self, steps: &mut Steps, producer: &mut Producer) {
        let Self { source, watched, workspace, now, .. } = self;
        steps.resume();
        let source = &mut Stepped { source, steps };
        watched.scan(workspace, source, *now, producer).expect("it can be scanned");
        steps.note();
    }

    /// Scans until the time is over, and pushes records after each scan of a burst.
    fn run(
        &mut self,
        time: Duration,
        core: usize,
        producer: &mut Producer,
        bursts: bool,
    ) -> Report {
        let (begin, stolen, mut due) = (Instant::now(), stolen(core), Duration::ZERO);
        let mut steps = Steps::begin();
        let (mut scans, mut pushes, mut pushed) = (Times::default(), Duration::ZERO, 0);
        let (mut of_scans, mut of_pushes) = (Times::default(), Times::default());
        let mut late = Times::default();
        while due < time {
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
            late.0.push(begin.elapsed().saturating_sub(due));
            due += INTERVAL;
            self.advance();
            steps.take_longest();
            scans.take(|| self.scan(&mut steps, producer));
            of_scans.0.push(steps.take_longest());
            if bursts {
                pushes += timed(|| push(producer, &mut steps)).0;
                pushed += RECORDS as u64;
            }
            producer.flush();
            steps.note();
            of_pushes.0.push(steps.take_longest());
        }
        let stolen = self::stolen(core).saturating_sub(stolen);
        let refused = producer.refused();
        let late = late.median();
        Report { steps, scans, of_scans, of_pushes, pushes, pushed, refused, late, stolen }
    }
}

fn push(producer: &mut Producer, steps: &mut Steps) {
    for _ in 0..RECORDS {
        // One that finds no room is refused and counted: the scanner never waits.
        let _ = producer.try_push(RecordClass::default(), &RECORD);
        steps.note();
    }
}

/// Time that the host took from a core, in steps of 10 ms; 0 if the kernel does not count it.
fn stolen(core: usize) -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let line = text.lines().find(|line| line.starts_with(&name));
    // The eighth number (proc_stat(5)).
    line.and_then(|line| line.split_ascii_whitespace().nth(8)?.parse().ok()).unwrap_or(0)
}
