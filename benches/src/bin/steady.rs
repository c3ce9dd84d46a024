//! What a scan of a machine costs of which only a part has run since the scan before.
//!
//!     cargo run --release -p panoptes-benches --bin steady -- [--runs N] [--case NAME] RAM
//!
//! RAM is a raw dump or a paused guest's memory file. The program copies it into the folder for
//! temporary files and changes the copy between scans as a kernel does: the run times of the first
//! thread of some processes grow, and so does the count of a run queue. What these processes have
//! stays the same, so no scan finds a change. Each scan compares with the one before, with all
//! detectors, after 128 MiB of other memory went through the processor's caches. Times are
//! processor times of one core.
//!
//! - `whole`: every scan reads everything;
//! - `100 %`, `10 %`, `1 %`: so many processes have run; the scans are light ones;
//! - `at rest`: no task has run; the scans keep their rows.
//!
//! In the copy, every processor first comes to run its idle task, and every task that could run
//! sleeps: a machine is seldom recorded while nothing runs.
//!
//! One scan in a second reads everything. It is not counted, except in `whole`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use panoptes_benches::KEY;
use panoptes_benches::one_core::{Caches, pin};
use panoptes_benches::parts::{DETECTORS, EVERYTHING, StageTimes, Way};
use panoptes_benches::times::{Times, timed};
use panoptes_decoders::address::KernelVa;
use panoptes_engine::limits::Limits;
use panoptes_engine::system::kernel_of;
use panoptes_engine::time::Now;
use panoptes_engine::walk::{Kernel, Scope, Snapshot, Walker};
use panoptes_engine::watch::ScanStage;
use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_sources::{Detail, FileSource, MemorySource as _, MeterCounts, SourceMeter};
use tempfile::NamedTempFile;

type Error = Box<dyn std::error::Error>;

const RUNS_DEFAULT: usize = 60;
const USAGE: &str = "usage: steady [--runs N] [--case NAME] RAM";
/// The interval of the service, in nanoseconds.
const INTERVAL_NS: i64 = 10_000_000;
/// A thread that has run, in nanoseconds. No multiple of a millisecond, as with a coarse clock.
const RUN_NS: u64 = 123_457;
/// Name, whether there are shortcuts, and how many of 100 processes run before each scan.
const CASES: [(&str, bool, usize); 5] = [
    ("whole", false, 100),
    ("100 %", true, 100),
    ("10 %", true, 10),
    ("1 %", true, 1),
    ("at rest", true, 0),
];

/// A copy of a machine's memory, which ends with this value.
struct Copy {
    file: NamedTempFile,
    /// The machine's memory, whose ranges follow each other in the file.
    regions: Vec<Range<u64>>,
}

impl Copy {
    fn of(ram: &Path) -> Result<Self, Error> {
        let file = NamedTempFile::new()?;
        let mut command = Command::new("cp");
        command.arg("--sparse=always").arg(ram).arg(file.path());
        if !command.status()?.success() {
            return Err("the memory cannot be copied".into());
        }
        Ok(Self { file, regions: Vec::new() })
    }

    fn open(&self) -> Result<FileSource, Error> {
        Ok(FileSource::open(self.file.path())?)
    }

    /// Where a physical address is in the file.
    fn offset(&self, address: u64) -> Option<u64> {
        let mut before = 0;
        for region in &self.regions {
            if region.contains(&address) {
                return Some(before + address - region.start);
            }
            before += region.end - region.start;
        }
        None
    }

    /// Adds to a number at a physical address.
    fn add(&self, address: u64, more: u64) -> Result<(), Error> {
        let offset = self.offset(address).ok_or("no memory has this address")?;
        let mut bytes = [0; 8];
        self.file.as_file().read_exact_at(&mut bytes, offset)?;
        self.write(address, &u64::from_le_bytes(bytes).wrapping_add(more).to_le_bytes())
    }

    /// Writes bytes at a physical address.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let offset = self.offset(address).ok_or("no memory has this address")?;
        Ok(self.file.as_file().write_all_at(bytes, offset)?)
    }
}

/// Reads eight bytes of the kernel's direct map.
fn read(source: &mut FileSource, kernel: &Kernel, at: KernelVa) -> Result<u64, Error> {
    let mut bytes = [0; 8];
    let at = kernel.space.linear(at).filter(|&at| source.read_exact(at, &mut bytes));
    at.ok_or("something of a run queue cannot be read")?;
    Ok(u64::from_le_bytes(bytes))
}

/// Lets each processor run its idle task, and all other tasks sleep. Returns the run queues.
fn settle(
    copy: &Copy,
    source: &mut FileSource,
    kernel: &Kernel,
    snapshot: &Snapshot,
) -> Result<BTreeSet<u64>, Error> {
    let unknown = "this kernel's run queues are not known";
    let link = kernel.layouts.cfs_rq.and_then(|layout| layout.rq).ok_or(unknown)?;
    let fields = kernel.layouts.rq.and_then(|layout| layout.curr.zip(layout.idle));
    let (current, idle) = fields.ok_or(unknown)?;
    let task = &kernel.layouts.task_struct;
    let place = |at: KernelVa| kernel.space.linear(at).map(|at| at.0).ok_or(unknown);
    let shares = snapshot.threads.iter().map(|row| row.task.cfs_rq);
    let shares: BTreeSet<_> = shares.filter(|share| share.is_plausible()).collect();
    let queues =
        shares.into_iter().map(|share| read(source, kernel, share.plus(link.offset.into())));
    let queues: BTreeSet<u64> = queues.collect::<Result<_, _>>()?;
    for &queue in &queues {
        let idle = read(source, kernel, KernelVa(queue).plus(idle.offset.into()))?;
        copy.write(place(KernelVa(queue).plus(current.offset.into()))?, &idle.to_le_bytes())?;
    }
    for row in snapshot.threads.iter().map(|row| &row.task) {
        let at = |offset: u32| place(row.address.plus(offset.into()));
        if row.state == 0 && row.exit_state == 0 {
            copy.write(at(task.state.offset)?, &1_u32.to_le_bytes())?;
        }
        if let Some(on_cpu) = task.on_cpu.filter(|_| row.on_cpu) {
            copy.write(at(on_cpu.offset)?, &0_u32.to_le_bytes())?;
        }
    }
    Ok(queues)
}

/// Where a kernel counts what has run.
struct OutputCounters {
    /// The switches of a run queue.
    switches: u64,
    /// The run times of the first threads of all processes with user memory.
    runs: Vec<u64>,
}

impl OutputCounters {
    fn find(copy: &Copy, source: &mut FileSource, kernel: &Kernel) -> Result<Self, Error> {
        let mut walker = Walker::new(&Limits::default(), KEY);
        let snapshot = walker.scan(source, kernel, Scope::LEAST)?;
        let queues = settle(copy, source, kernel, snapshot)?;
        let place = |address: KernelVa| kernel.space.linear(address).map(|at| at.0);
        let run_time = u64::from(kernel.layouts.task_struct.sum_exec_runtime.offset);
        let leaders = snapshot.processes.iter().filter_map(|row| snapshot.leader(row));
        let users = leaders.filter(|leader| !leader.task.mm.is_null());
        let runs = users.filter_map(|leader| place(leader.task.address.plus(run_time))).collect();
        let field = kernel.layouts.rq.and_then(|layout| layout.nr_switches);
        let switches = queues.first().copied().zip(field);
        let switches = switches.and_then(|(rq, it)| place(KernelVa(rq).plus(it.offset.into())));
        Ok(Self { switches: switches.ok_or("no run queue was found")?, runs })
    }

    /// Lets a part of the processes run, in percent. Others come in each turn.
    fn run(&self, copy: &Copy, percent: usize, turn: usize) -> Result<(), Error> {
        if percent == 0 {
            return Ok(());
        }
        copy.add(self.switches, 1)?;
        let every = 100 / percent;
        for &place in self.runs.iter().skip(turn % every).step_by(every) {
            copy.add(place, RUN_NS)?;
        }
        Ok(())
    }
}

/// What the scans of one case cost.
#[derive(Default)]
struct Cost {
    times: Times,
    stages: StageTimes,
    counts: MeterCounts,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("steady: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let (mut ram, mut runs, mut only) = (None, RUNS_DEFAULT, None);
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        if word == "--runs" {
            let value = words.next().ok_or(USAGE)?;
            runs = value.to_str().ok_or(USAGE)?.parse()?;
        } else if word == "--case" {
            let name = words.next().ok_or(USAGE)?;
            if !CASES.iter().any(|case| name == case.0) {
                return Err(format!(
                    "no case {}; cases: {}",
                    name.display(),
                    CASES.map(|case| case.0).join(", ")
                )
                .into());
            }
            only = Some(name);
        } else {
            ram = Some(PathBuf::from(word));
        }
    }
    let ram = ram.ok_or(USAGE)?;
    let core = pin(None)?;
    let mut copy = Copy::of(&ram)?;
    let mut source = copy.open()?;
    let profile = discover(&mut source, &DiscoveryOptions::default(), &mut ())?;
    copy.regions = source.regions().to_vec();
    let counters = OutputCounters::find(&copy, &mut source, &kernel_of(&profile))?;
    println!("{}: {}, core {core}, {runs} scans a case", ram.display(), profile.release);
    println!("{} processes can run", counters.runs.len());
    print!("{:>10}{:>14}{:>14}{:>10}", "", "least [ms]", "median [ms]", "lines");
    for stage in ScanStage::ALL {
        print!("{:>14}", stage.name());
    }
    println!();
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    for (name, has_shortcuts, percent) in CASES.into_iter().filter(|it| is_wanted(it.0)) {
        let way = Way::new(if has_shortcuts { EVERYTHING } else { DETECTORS }, &profile);
        let wanted = (has_shortcuts && percent > 0, percent == 0);
        let cost = measure(way, wanted, (percent, runs), (&copy, &counters))?;
        let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
        let (least, median) = (cost.times.least(), cost.times.median());
        print!("{name:>10}{:>14}{:>14}{:>10}", ms(least), ms(median), cost.counts.lines);
        for (_, time) in cost.stages.medians() {
            print!("{:>14}", ms(time));
        }
        println!();
    }
    Ok(())
}

/// Scans again and again while a part of the processes runs, in percent. Only scans count that are
/// light, or keep their rows, as `wanted`.
fn measure(
    mut way: Way,
    wanted: (bool, bool),
    (percent, runs): (usize, usize),
    (copy, counters): (&Copy, &OutputCounters),
) -> Result<Cost, Error> {
    let mut source = copy.open()?;
    let mut now = Now::at(1_795_000_000_000_000_000);
    way.scan(&mut source, now);
    way.hash_all(&mut source);
    let mut caches = Caches::default();
    let mut cost = Cost::default();
    let counts = |way: &Way| {
        let figures = way.figures();
        (figures.is_light && !figures.has_kept, figures.has_kept) == wanted
    };
    for turn in 1..=4 * runs {
        now = now.after(INTERVAL_NS);
        counters.run(copy, percent, turn)?;
        if cost.times.0.len() == runs {
            // Counting lines is slow, so one more scan is for that.
            let mut source = SourceMeter::new(copy.open()?, Detail::Lines)?;
            way.scan(&mut source, now);
            way.drop_records();
            if counts(&way) {
                cost.counts = source.counts();
                return Ok(cost);
            }
            continue;
        }
        caches.flush();
        let (time, stages) = timed(|| way.scan_stages(&mut source, now));
        way.drop_records();
        if counts(&way) {
            cost.times.0.push(time);
            cost.stages.add(stages);
        }
    }
    Err("this machine has no such scans".into())
}
