//! Many systems on several cores.
//!
//!     cargo run --release -p panoptes-benches --bin scale -- [--systems N] [--cores N] \
//!         [--rounds N] [--passes N] [--loaded] [--default-limits] [--life NAME]
//!
//! Boots N (64) synthetic machines of 100 processes, each with its own memory in a file. Then 1, 2,
//! 4 … N of them are watched on 1, 2, 4 … pinned cores as the service does it. One thread on each
//! core, with its own workspace and queue, compares each scan with the one before, runs the
//! detectors, and writes records. A round scans each system once. Before it, time passes in the
//! machines, and 128 MiB of other memory go through the caches of each core. The numbers of cores
//! take turns in each pass, so that other load affects all of them alike.
//!
//! All times are processor times of the slowest core where nothing else is stated, because other
//! programs run on the same cores. *Passed* is the time that passed, without other programs the
//! same. *Efficiency* is the speed-up by the cores, divided by their number.
//!
//! - `unchanged`: nothing changes in the machines, and each scan reads everything;
//! - `changing`: a tenth of the processes closes and opens a file before each round;
//! - `at-rest`: nothing changes, and scans may keep rows, except for one in a second.
//!
//! `--loaded` gives each process the load of the reference node (docs/performance/scan.md).
//! `--default-limits` uses the limits of the service and not those for so small machines. Then
//! follow the bandwidth of the memory, what a shared line costs, and a model of more cores.

use std::process::ExitCode;
use std::time::Duration;

use panoptes_benches::bandwidth::{Reads, addition_ns, lines_per_second};
use panoptes_benches::cores_model::Model;
use panoptes_benches::fleet::{self, Guest, Life, PERIOD_NS, Plan, Rounds};
use panoptes_benches::model::LINE_BYTES;
use panoptes_benches::one_core::allowed_cores;
use panoptes_benches::times::Times;
use panoptes_engine::limits::Limits;
use panoptes_engine::watch::ScanStage;
use panoptes_synthetic::Size;

type Error = Box<dyn std::error::Error>;

const USAGE: &str = "usage: scale [--systems N] [--cores N] [--rounds N] [--passes N] [--loaded] \
    [--default-limits] [--life unchanged|changing|at-rest]";

const LIVES: [(&str, Life); 3] =
    [("unchanged", Life::Unchanged), ("changing", Life::Changing), ("at-rest", Life::AtRest)];

/// 100 processes, as those of `scan_growth`.
const ORDINARY: Size = Size {
    processes: 100,
    kernel_threads: 8,
    threads: 1,
    descriptors: 3,
    areas: 4,
    connections: 1,
    containers: 2,
    processors: 2,
    modules: 60,
};
/// 100 processes, each with the load of the reference node.
const LOADED: Size = Size { threads: 4, descriptors: 47, areas: 92, connections: 5, ..ORDINARY };
/// Enough for either.
const LIMITS: Limits = Limits {
    processes: 512,
    threads: 2048,
    file_descriptors: 8192,
    vmas: 16_384,
    connections: 2048,
    containers: 64,
    ..Limits::DEFAULT
};
/// Numbers of cores of the model.
const MODELLED: [u32; 5] = [1, 2, 4, 8, 16];

struct Options {
    systems: usize,
    cores: Vec<usize>,
    rounds: usize,
    passes: usize,
    size: Size,
    limits: Limits,
    lives: Vec<(&'static str, Life)>,
}

fn main() -> ExitCode {
    // The other lanes would wait for one that has panicked.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("scale: {panic}");
        std::process::exit(1);
    }));
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, Error> {
    let mut options = Options {
        systems: 64,
        cores: allowed_cores()?,
        rounds: 20,
        passes: 3,
        size: ORDINARY,
        limits: LIMITS,
        lives: LIVES.to_vec(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number =
            || -> Result<usize, Error> { Ok(words.next().ok_or(USAGE)?.parse::<usize>()?.max(1)) };
        match word.as_str() {
            "--systems" => options.systems = number()?,
            "--cores" => options.cores.truncate(number()?),
            "--rounds" => options.rounds = number()?,
            "--passes" => options.passes = number()?,
            "--loaded" => options.size = LOADED,
            "--default-limits" => options.limits = Limits::default(),
            "--life" => {
                let name = words.next().ok_or(USAGE)?;
                options.lives.retain(|(life, _)| *life == name);
                if options.lives.is_empty() {
                    return Err(USAGE.into());
                }
            }
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    eprintln!("scale: booting {} machines …", options.systems);
    let mut guests = (1..=options.systems)
        .map(|number| Guest::boot(folder.path(), number, options.size))
        .collect::<Result<Vec<_>, _>>()?;
    for &(name, life) in &options.lives {
        println!("\n== {name}");
        print_head();
        for systems in powers(options.systems) {
            let one = measure(options, &mut guests[..systems], life)?;
            if systems == options.systems {
                print_stages(&one);
                print_target(&one, systems);
            }
        }
    }
    println!("\n== memory");
    let (stream, lines) = print_memory(&options.cores);
    let model = model(options, &mut guests, lines)?;
    print_model(&model, stream);
    Ok(())
}

/// 1, 2, 4 … up to `most`, and `most` itself.
fn powers(most: usize) -> Vec<usize> {
    let mut all: Vec<_> = (0..usize::BITS).map(|bit| 1 << bit).take_while(|&n| n < most).collect();
    all.push(most);
    all
}

/// The rounds of all passes with one number of cores.
#[derive(Default)]
struct Measured {
    cores: usize,
    cpu: Times,
    passed: Times,
    /// Processor time of all rounds, summed over the lanes.
    sum: Duration,
    objects: usize,
    records: usize,
    kept: usize,
    scans: usize,
    longest: Duration,
    stages_ns: [u64; ScanStage::ALL.len()],
}

impl Measured {
    fn add(&mut self, rounds: &Rounds, systems: usize) {
        self.objects = rounds.objects;
        self.cpu.0.extend(rounds.slowest(|round| round.cpu));
        self.passed.0.extend(rounds.slowest(|round| round.wall));
        let all = || rounds.all();
        self.sum += all().map(|round| round.cpu).sum::<Duration>();
        self.records += all().map(|round| round.records).sum::<usize>();
        self.kept += all().map(|round| round.kept).sum::<usize>();
        for round in all() {
            self.longest = self.longest.max(round.longest);
            for (sum, ns) in self.stages_ns.iter_mut().zip(round.stages_ns) {
                *sum += ns;
            }
        }
        self.scans = self.cpu.0.len() * systems;
    }

    fn mean(&self) -> Duration {
        self.cpu.0.iter().sum::<Duration>() / self.cpu.0.len().max(1) as u32
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn print_head() {
    println!(
        "{:>7}{:>6}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}{:>10}{:>8}{:>11}{:>7}{:>7}{:>9}",
        "systems",
        "cores",
        "median",
        "least",
        "mean",
        "worst",
        "passed",
        "us/system",
        "ns/object",
        "Hz",
        "efficiency",
        "least",
        "kept",
        "records"
    );
}

/// Measures these systems on each number of cores by turns; returns the figures of one core.
fn measure(options: &Options, guests: &mut [Guest], life: Life) -> Result<Measured, Error> {
    let systems = guests.len();
    let plan = Plan { life, limits: options.limits, cold: true, rounds: options.rounds };
    let counts = powers(options.cores.len().min(systems));
    let mut all: Vec<_> =
        counts.into_iter().map(|cores| Measured { cores, ..Measured::default() }).collect();
    for _ in 0..options.passes {
        for measured in &mut all {
            let mut groups: Vec<Vec<&mut Guest>> = (0..measured.cores).map(|_| vec![]).collect();
            for (at, guest) in guests.iter_mut().enumerate() {
                groups[at % measured.cores].push(guest);
            }
            measured.add(&fleet::rounds(groups, &options.cores, &plan)?, systems);
        }
    }
    for measured in &all {
        print_row(systems, measured, &all[0]);
    }
    Ok(all.swap_remove(0))
}

fn print_row(systems: usize, measured: &Measured, one: &Measured) {
    let Measured { cpu, passed, cores, .. } = measured;
    let (median, scans) = (cpu.median(), measured.scans as f64);
    let scan = measured.sum.as_secs_f64() / scans;
    let objects = measured.objects as f64 / systems as f64;
    let efficiency = |one: Duration, more: Duration| {
        one.as_secs_f64() / more.as_secs_f64() / measured.cores as f64
    };
    println!(
        "{systems:>7}{cores:>6}{:>9.3}{:>9.3}{:>9.3}{:>9.3}{:>9.3}{:>10.1}{:>10.1}{:>8.1}{:>11.2}\
         {:>7.2}{:>7.2}{:>9.2}",
        ms(median),
        ms(cpu.least()),
        ms(measured.mean()),
        ms(cpu.0.iter().max().copied().unwrap_or_default()),
        ms(passed.median()),
        scan * 1e6,
        scan * 1e9 / objects,
        1.0 / median.as_secs_f64(),
        efficiency(one.cpu.median(), median),
        efficiency(one.cpu.least(), cpu.least()),
        measured.kept as f64 / scans,
        measured.records as f64 / scans,
    );
}

/// Prints where the time of a scan goes, in microseconds.
fn print_stages(measured: &Measured) {
    let of = |(stage, ns): (&ScanStage, &u64)| {
        format!("{} {:.0}", stage.name(), *ns as f64 / 1e3 / measured.scans as f64)
    };
    let stages: Vec<_> = ScanStage::ALL.iter().zip(&measured.stages_ns).map(of).collect();
    println!("a scan on one core, us: {}", stages.join(", "));
}

/// Prints whether one core scans the systems ten times in a second.
fn print_target(one: &Measured, systems: usize) {
    let period = Duration::from_nanos(PERIOD_NS.unsigned_abs());
    let round = one.cpu.median();
    let verdict = if round <= period { "met" } else { "not met" };
    println!(
        "{systems} systems of {} objects at 10 Hz on one core: {verdict}; a round takes {:.1} of \
         {:.0} ms; the longest scan {:.2} ms",
        one.objects / systems,
        ms(round),
        ms(period),
        ms(one.longest),
    );
}

/// Prints what the memory gives; returns the lines in a second that all cores stream together, and
/// the random ones of one core.
fn print_memory(cores: &[usize]) -> (f64, f64) {
    let (mut streamed, mut random) = (0.0, 0.0);
    for count in powers(cores.len()) {
        let cores = &cores[..count];
        let [stream, lines] =
            [Reads::Stream, Reads::Lines].map(|reads| lines_per_second(cores, reads));
        println!(
            "{count} cores: {:.1} GB/s one line after the other; {:.0} million random lines a \
             second ({:.1} GB/s)",
            stream * LINE_BYTES as f64 / 1e9,
            lines / 1e6,
            lines * LINE_BYTES as f64 / 1e9,
        );
        streamed = stream;
        if count == 1 {
            random = lines;
        }
    }
    if let &[first, second, ..] = cores {
        let [same, apart] = [false, true].map(|is_apart| addition_ns([first, second], is_apart));
        println!(
            "an addition to a counter by each of two cores: {same:.1} ns in one line, {apart:.1} \
             ns in lines of their own",
        );
    }
    (streamed, random)
}

/// Measures the rounds of one core with cold caches, and those of one system whose memory stays in
/// the caches, by turns. The least of each counts: other programs only add to it.
fn model(options: &Options, guests: &mut [Guest], line_rate: f64) -> Result<Model, Error> {
    let systems = guests.len();
    let (mut cold, mut warm) = (Times::default(), Times::default());
    for _ in 0..options.passes {
        for (systems, is_cold, times) in [(systems, true, &mut cold), (1, false, &mut warm)] {
            let (life, limits, rounds) = (Life::Unchanged, options.limits, options.rounds);
            let plan = Plan { life, limits, cold: is_cold, rounds };
            let group = vec![guests.iter_mut().take(systems).collect()];
            let measured = fleet::rounds(group, &options.cores[..1], &plan)?;
            times.0.extend(measured.slowest(|round| round.cpu));
        }
    }
    let round = cold.least().as_secs_f64();
    let warm = warm.least().as_secs_f64() * systems as f64;
    println!(
        "a round of {systems} systems, least: {:.1} ms cold, {:.1} ms if all is in the caches",
        round * 1e3,
        warm * 1e3
    );
    Ok(Model { round, memory: (round - warm).max(0.0), line_rate })
}

/// Prints the speed-up of more cores by the model.
fn print_model(model: &Model, stream: f64) {
    println!("\n== model of more cores: {:.0} thousand lines a round", model.lines() / 1e3);
    println!("{:>6}{:>24}{:>24}{:>16}", "cores", "half of the bandwidth", "the bandwidth", "grows");
    let first = model.speed_up(1, stream);
    for cores in MODELLED {
        let of = |rate| {
            let speed_up = model.speed_up(cores, rate) / first;
            format!("{speed_up:.2} ({:.0} %)", speed_up / f64::from(cores) * 100.0)
        };
        // Each core brings what one of two had.
        let grows = stream / 2.0 * f64::from(cores.max(2));
        println!("{cores:>6}{:>24}{:>24}{:>16}", of(stream / 2.0), of(stream), of(grows));
    }
}
