//! Many systems on a few cores, watched as the service watches them.
//!
//! [`Guest`] is a synthetic machine whose memory is a file. [`Lane`] is what a scanner thread has:
//! a workspace, the systems that it watches in turn, and a queue for their records. [`rounds`] runs
//! one lane on each core. All lanes begin a round together, so they share the memory and the last
//! cache of the processor while they are measured.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use panoptes_engine::limits::Limits;
use panoptes_engine::time::Now;
use panoptes_engine::walk::Budget;
use panoptes_engine::watch::{SLICE_BYTES, ScanFigures, ScanStage, WatchedMachine, Workspace};
use panoptes_profiles::Profile;
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_sources::{FileSource, MachineSource as _};
use panoptes_synthetic::{Machine, Size, profile};
use panoptes_tables::room;

use crate::one_core::{Caches, pin};
use crate::parts::{DETECTORS, watched};
use crate::times::{processor_time, timed};
use crate::{KEY, objects_of};

/// The kernel of all machines.
const RELEASE: &str = "6.1.0-50-amd64";
/// Boot of a synthetic machine, in nanoseconds since 1970, and a second.
const BEGIN_NS: i64 = 1_790_000_001_000_000_000;
/// The time from round to round: 10 Hz.
pub const PERIOD_NS: i64 = 100_000_000;
/// Rounds after the first one that do not count: a new object is certain only after some scans.
const SETTLE: usize = 4;
/// A process among so many changes between two rounds.
const CHANGING: u32 = 10;

/// A synthetic machine and the file with its memory.
#[derive(Debug)]
pub struct Guest {
    machine: Machine,
    profile: Profile,
    path: PathBuf,
    /// Processes of users.
    pids: Vec<u32>,
    /// Descriptors that the last change has opened.
    open: Vec<(u32, u32)>,
    changes: u32,
}

impl Guest {
    /// Boots a machine and writes its memory to a new file.
    pub fn boot(folder: &Path, number: usize, size: Size) -> io::Result<Self> {
        let builder = Machine::builder(&profile(RELEASE)).size(size).seed(number as u64);
        let mut machine = builder.build();
        let path = folder.join(format!("{number}.memory"));
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        machine.memory().mirror_to(file)?;
        machine.memory().flush();
        let profile = machine.discover();
        let of_users = machine.processes().filter(|process| !process.is_kernel);
        let pids = of_users.map(|process| process.pid).filter(|&pid| pid > 1).collect();
        Ok(Self { machine, profile, path, pids, open: Vec::new(), changes: 0 })
    }

    /// Lets time pass until the next round.
    fn tick(&mut self) {
        self.machine.tick(PERIOD_NS.unsigned_abs());
        self.machine.memory().flush();
    }

    /// A tenth of the processes closes a file and opens another one.
    fn change(&mut self) {
        for (pid, descriptor) in self.open.drain(..) {
            self.machine.act_as(pid);
            self.machine.close(pid, descriptor);
        }
        let first = self.changes % CHANGING;
        self.changes += 1;
        for &pid in self.pids.iter().skip(first as usize).step_by(CHANGING as usize) {
            let path = format!("/var/lib/worker/new{}", self.changes % 64);
            self.machine.act_as(pid);
            self.open.push((pid, self.machine.open(pid, &path)));
        }
    }
}

/// What happens in the machines between rounds, and how they are scanned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// Nothing changes, and each scan reads everything.
    Unchanged,
    /// A tenth of the processes changes; shortcuts are allowed.
    Changing,
    /// Nothing changes; shortcuts are allowed.
    AtRest,
}

/// How rounds are measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub life: Life,
    pub limits: Limits,
    /// Whether other memory goes through the processor's caches before each round.
    pub cold: bool,
    /// Rounds that count.
    pub rounds: usize,
}

/// What one lane did in a round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Processor time.
    pub cpu: Duration,
    /// Time that passed.
    pub wall: Duration,
    /// The longest scan, in processor time.
    pub longest: Duration,
    pub records: usize,
    /// Scans that kept the rows of the ones before.
    pub kept: usize,
    /// Processor time of each stage.
    pub stages_ns: [u64; ScanStage::ALL.len()],
}

/// Rounds of all lanes.
#[derive(Debug, Default)]
pub struct Rounds {
    /// Rounds of each lane, in their order.
    pub lanes: Vec<Vec<Round>>,
    /// Objects of all systems.
    pub objects: usize,
}

impl Rounds {
    /// How long each round took: the slowest lane decides.
    pub fn slowest(&self, time: impl Fn(&Round) -> Duration) -> Vec<Duration> {
        let count = self.lanes.iter().map(Vec::len).min().unwrap_or(0);
        let slowest = |at| self.lanes.iter().map(|lane| time(&lane[at])).max();
        (0..count).filter_map(slowest).collect()
    }

    /// The rounds of all lanes.
    pub fn all(&self) -> impl Iterator<Item = &Round> {
        self.lanes.iter().flatten()
    }
}

struct System {
    watched: WatchedMachine,
    source: FileSource,
}

/// A scanner thread's memory and systems.
struct Lane {
    workspace: Workspace,
    systems: Vec<System>,
    producer: Producer,
    consumer: Consumer,
    limits: Limits,
    objects: usize,
    stop: AtomicBool,
}

/// Watches the systems of each group on its core; fails if a memory file cannot be opened.
///
/// A panic in a scan leaves the other lanes at the barrier, so the program must end with it.
pub fn rounds(groups: Vec<Vec<&mut Guest>>, cores: &[usize], plan: &Plan) -> io::Result<Rounds> {
    let barrier = Barrier::new(groups.len());
    let mut opened = Vec::new();
    for group in groups {
        let open = |guest: &&mut Guest| FileSource::open(&guest.path).map_err(io::Error::other);
        let sources = group.iter().map(open).collect::<io::Result<Vec<_>>>()?;
        opened.push((group, sources));
    }
    let mut all = Rounds::default();
    std::thread::scope(|scope| {
        let run = |((group, sources), &core)| {
            let barrier = &barrier;
            scope.spawn(move || {
                pin(Some(core)).expect("the core is allowed");
                run_lane(group, sources, plan, barrier)
            })
        };
        let lanes: Vec<_> = opened.into_iter().zip(cores).map(run).collect();
        for lane in lanes {
            let (objects, rounds) = lane.join().expect("a lane ends without a panic");
            all.objects += objects;
            all.lanes.push(rounds);
        }
    });
    Ok(all)
}

/// Runs one lane; returns its objects and its rounds.
fn run_lane(
    mut guests: Vec<&mut Guest>,
    sources: Vec<FileSource>,
    plan: &Plan,
    barrier: &Barrier,
) -> (usize, Vec<Round>) {
    // As in the service, the thread that scans is the first to write to the memory.
    let mut lane = room::touch(|| Lane::new(&guests, sources, plan));
    let mut caches = plan.cold.then(Caches::default);
    let mut rounds = Vec::with_capacity(plan.rounds);
    let mut now = Now::at(BEGIN_NS);
    for number in 0..=SETTLE + plan.rounds {
        for guest in &mut guests {
            if plan.life == Life::Changing {
                guest.change();
            }
            guest.tick();
        }
        now = now.after(PERIOD_NS);
        if let Some(caches) = &mut caches {
            caches.flush();
        }
        barrier.wait();
        let begin = Instant::now();
        let mut round = lane.round(now, plan.life);
        round.wall = begin.elapsed();
        round.records = lane.drop_records();
        if number == 0 {
            lane.objects = lane.count_objects(now);
            lane.hash_all();
        } else if number > SETTLE {
            rounds.push(round);
        }
    }
    (lane.objects, rounds)
}

impl Lane {
    fn new(guests: &[&mut Guest], sources: Vec<FileSource>, plan: &Plan) -> Self {
        let systems = (0..).zip(guests).zip(sources).map(|((number, guest), source)| System {
            watched: watched(DETECTORS, &guest.profile, &plan.limits, number),
            source,
        });
        let systems = systems.collect();
        let size = QueueSize { blocks: 128, block_bytes: 256 << 10 };
        let (producer, consumer) = queue(size, &Waker::default());
        let workspace = Workspace::new(&plan.limits, KEY);
        let (limits, stop) = (plan.limits, AtomicBool::new(false));
        Self { workspace, systems, producer, consumer, limits, objects: 0, stop }
    }

    /// Scans all systems once.
    fn round(&mut self, now: Now, life: Life) -> Round {
        let mut round = Round::default();
        for index in 0..self.systems.len() {
            let (time, figures) = timed(|| self.scan(index, now, life));
            round.cpu += time;
            round.longest = round.longest.max(time);
            round.kept += usize::from(figures.has_kept);
            for (sum, ns) in round.stages_ns.iter_mut().zip(figures.stages_ns) {
                *sum += ns;
            }
        }
        round.cpu += timed(|| self.producer.flush()).0;
        round
    }

    /// Scans a system as a scanner does; returns what that has cost.
    fn scan(&mut self, index: usize, now: Now, life: Life) -> ScanFigures {
        self.producer.share(self.systems.len());
        let Self { workspace, systems, producer, limits, stop, .. } = self;
        let System { watched, source } = &mut systems[index];
        source.refresh();
        watched.set_scan_interval(PERIOD_NS.unsigned_abs());
        watched.set_shortcuts(life != Life::Unchanged);
        watched.set_early(false);
        let begin = Instant::now();
        let elapsed = || u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // A scan may take its whole period here: a slow machine must not change what is measured.
        let is_over = || elapsed() > PERIOD_NS.unsigned_abs();
        let must_stop = || stop.load(Ordering::Relaxed);
        let budget = Budget::default_for(limits);
        // The stages are by processor time, as all times here; the service's are by the clock.
        let used = || u64::try_from(processor_time().as_nanos()).unwrap_or(u64::MAX);
        let budget = budget.until(&is_over).unless(&must_stop).timed_by(&used);
        watched.scan_until(workspace, source, now, &budget, producer).expect("it can be scanned");
        producer.end_shares();
        *watched.figures()
    }

    /// Drops the records of a round; returns their number.
    fn drop_records(&mut self) -> usize {
        let mut records = 0;
        while let Some(block) = self.consumer.pop() {
            records += block.iter().count();
            self.consumer.give_back(block);
        }
        records
    }

    /// Hashes all files that scans have asked for.
    fn hash_all(&mut self) {
        for System { watched, source } in &mut self.systems {
            while watched.has_work() {
                watched.work(&mut self.workspace, source, SLICE_BYTES);
            }
        }
    }

    /// Number of objects of all systems, by one more scan of each.
    fn count_objects(&mut self, now: Now) -> usize {
        let mut objects = 0;
        for index in 0..self.systems.len() {
            self.scan(index, now, Life::Unchanged);
            objects += objects_of(self.workspace.snapshot()).expect("nothing is missing");
        }
        self.producer.flush();
        self.drop_records();
        objects
    }
}
