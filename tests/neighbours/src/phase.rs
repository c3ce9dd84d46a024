//! One run of the watcher beside one attack.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crate::attacks::Attack;
use crate::hostile::{self, Hostile, Signals};
use crate::measure::{self, Intervals, Planted, Shown};
use crate::plants::{Kind, Plant};
use crate::quiet::Quiets;
use crate::records::{self, Record, What};
use crate::times::{self, Samples};
use crate::watcher::{Setup, Stopped, Threads, Watcher};

/// How long the watcher may take until it scans all systems.
const READY: Duration = Duration::from_mins(3);
/// How long it scans before anything is measured: new systems are with the slow scanner until their
/// cost is known.
const SETTLE: Duration = Duration::from_secs(5);
/// How long records of the last plants are awaited; the attack goes on.
const GRACE: Duration = Duration::from_secs(5);
/// From one sample of the scanners' times to the next.
const SAMPLE: Duration = Duration::from_millis(2);
/// A path of 4,000 directories is made by recursion.
pub(crate) const STACK_BYTES: usize = 256 << 20;

/// What does not change from one attack to the next.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) program: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) sbom: &'a Path,
    pub(crate) cores: &'a str,
    /// How long attacks are planted beside the attack, and half as long before it.
    pub(crate) time: Duration,
    /// From one plant in a system to the next.
    pub(crate) period: Duration,
}

/// What a run has shown.
#[derive(Debug)]
pub(crate) struct Run {
    /// The neighbours' intervals before the attack, in the same run: what else the host does
    /// differs from one run to the next.
    pub(crate) before: Intervals,
    pub(crate) intervals: Intervals,
    /// What was planted before the attack, and beside it.
    pub(crate) planted_before: Vec<Plant>,
    pub(crate) plants: Vec<Plant>,
    pub(crate) records: Vec<Record>,
    pub(crate) shown: Shown,
    /// Whether the record came that the attack must cause.
    pub(crate) caused: bool,
    /// Share of the time in which scanners ran.
    pub(crate) load: f64,
    pub(crate) stopped: Stopped,
    /// Most work of a scan, as a factor of its budget, if the watcher reports that.
    pub(crate) work: Option<f64>,
    /// The p99 that the watcher reports about the neighbours, if it does.
    pub(crate) reported_p99: Option<Duration>,
}

/// Runs the watcher beside an attack.
pub(crate) fn run(plan: &Plan<'_>, quiets: &mut Quiets, attack: &Attack) -> Result<Run, String> {
    let signals = Signals::default();
    let wrong = |why: std::io::Error| format!("{}: {why}", attack.id);
    let host = Hostile::boot(plan.folder, attack.hides, &signals).map_err(wrong)?;
    let hostile_path = host.path().to_owned();
    let systems: Vec<_> =
        quiets.systems().map(|(name, path)| (name.to_owned(), path.to_owned())).collect();
    let setup = Setup {
        program: plan.program,
        folder: plan.folder,
        quiet: systems.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect(),
        hostile: Some((hostile::NAME, &hostile_path)),
        cores: plan.cores,
        sbom: plan.sbom,
    };
    let mut watcher = Watcher::start(&setup).map_err(wrong)?;
    let log = watcher.log().to_owned();
    let threads = watcher.threads();
    let (measured, stopped, samples, began, act) = thread::scope(|scope| {
        let attacking = attack_in(scope, host, *attack).map_err(wrong)?;
        times::take_precedence(true);
        let sampling = scope.spawn(|| sample(threads, &signals.stop));
        let measured = wait(&mut watcher, quiets, systems.len() + 1).and_then(|()| {
            let measured = beside(plan, quiets, &signals);
            let stopped = watcher.stop().map_err(wrong)?;
            Ok((measured, stopped))
        });
        times::take_precedence(false);
        signals.stop.store(true, Ordering::Relaxed);
        let samples = sampling.join().map_err(|_| "the sampler panicked".to_owned())?;
        let attacked = attacking.join().map_err(|_| format!("{} panicked", attack.id))?;
        let (measured, stopped) = measured?;
        Ok::<_, String>((measured, stopped, samples, attacked.0, attacked.1))
    })?;
    quiets.clean();
    let records = records::read(&log).map_err(|why| format!("{}: {why}", log.display()))?;
    let Measured { start, from, to, planted_before, plants } = measured;
    let elapsed = to.duration_since(from).unwrap_or_default();
    let act = act.ok_or_else(|| format!("{} was not ready in time", attack.id))?;
    Ok(Run {
        before: Intervals::of(&records, &samples, start, from),
        intervals: Intervals::of(&records, &samples, from, to),
        shown: measure::shown(&act, &records, began),
        caused: attack.causes.is_none_or(|name| is_caused(&records, name)),
        load: samples.ran_ns(from, to) as f64 / elapsed.as_nanos().max(1) as f64,
        work: records.iter().filter_map(|record| work(&record.what)).reduce(f64::max),
        reported_p99: reported_p99(&records),
        planted_before,
        plants,
        records,
        stopped,
    })
}

/// When the attack began, and its act.
type Attacked = (SystemTime, Option<Plant>);

fn attack_in<'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut host: Hostile<'scope>,
    attack: Attack,
) -> std::io::Result<ScopedJoinHandle<'scope, Attacked>> {
    thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || {
        if host.wait() {
            (attack.run)(&mut host);
        }
        (host.began, host.act.take())
    })
}

fn sample(threads: Threads, stop: &AtomicBool) -> Samples {
    let mut samples = Samples::default();
    while !stop.load(Ordering::Relaxed) {
        samples.add(SystemTime::now(), threads.scanners());
        thread::sleep(SAMPLE);
    }
    samples
}

/// Waits until the watcher has attached to `count` systems and scans all quiet ones: a scanner may
/// begin with a system some time after the record about it.
pub(crate) fn wait(watcher: &mut Watcher, quiets: &mut Quiets, count: usize) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        quiets.run(Instant::now() + Duration::from_millis(200));
        let records = records::read(watcher.log()).unwrap_or_default();
        let attached = records.iter().filter(|record| record.what == What::Ready).count();
        let scans = records.iter().filter(|record| record.what == What::Scan);
        let scanned: HashSet<_> = scans.map(|record| record.system.as_str()).collect();
        if attached >= count && quiets.systems().all(|(name, _)| scanned.contains(name)) {
            return Ok(());
        }
        if !watcher.runs() || begin.elapsed() > READY {
            return Err(format!("the watcher does not scan all systems:\n{}", watcher.messages()));
        }
    }
}

/// The times of a measure and what was planted.
#[derive(Debug)]
struct Measured {
    start: SystemTime,
    /// When the attack began.
    from: SystemTime,
    to: SystemTime,
    planted_before: Vec<Plant>,
    plants: Vec<Plant>,
}

/// Plants attacks in the quiet systems before the attack and beside it.
fn beside(plan: &Plan<'_>, quiets: &mut Quiets, signals: &Signals) -> Measured {
    let before = plan.time / 2;
    let count = |time: Duration| (time.as_secs_f64() / plan.period.as_secs_f64()).ceil() as u32;
    quiets.prepare(count(before) + count(plan.time));
    quiets.run(Instant::now() + SETTLE);
    let start = SystemTime::now();
    let planted_before = quiets.plant(plan.period, Instant::now() + before);
    signals.ready.store(true, Ordering::Relaxed);
    let from = SystemTime::now();
    let plants = quiets.plant(plan.period, Instant::now() + plan.time);
    let to = SystemTime::now();
    // A slow host may not have built the cover yet.
    let latest = Instant::now() + READY;
    while !signals.acted.load(Ordering::Relaxed) && Instant::now() < latest {
        quiets.run(Instant::now() + Duration::from_millis(100));
    }
    quiets.run(Instant::now() + GRACE);
    Measured { start, from, to, planted_before, plants }
}

fn is_caused(records: &[Record], name: &str) -> bool {
    records.iter().filter(|record| record.system == hostile::NAME).any(
        |record| matches!(&record.what, What::Loss(found, _) | What::Other(found) if found == name),
    )
}

/// The most work of a scan in what the watcher reports about a system, as a factor of its budget.
fn work(what: &What) -> Option<f64> {
    let What::Figures(details) = what else { return None };
    Some(details["scan_budget_used_max_percent"].as_f64()? / 100.0)
}

/// The p99 that the watcher itself reports about the intervals of ordinary systems.
fn reported_p99(records: &[Record]) -> Option<Duration> {
    let figures = records.iter().filter(|record| record.system != hostile::NAME);
    let ns = figures.filter_map(|record| match &record.what {
        What::Figures(details) => details["scan_interval_p99_ns"].as_u64(),
        _ => None,
    });
    ns.max().map(Duration::from_nanos)
}

/// A run beside an attack, compared with what was before it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) attack: Attack,
    pub(crate) run: Run,
    pub(crate) planted: Planted,
    /// p99 of the intervals, as a factor of what it was before the attack.
    pub(crate) factor: f64,
}

/// How long the report of each kind of plant takes without an attack, at most.
pub(crate) type Alone = HashMap<Kind, Duration>;

/// Adds how long the reports of these plants took.
pub(crate) fn add_alone(alone: &mut Alone, plants: &[Plant], records: &[Record]) {
    for (kind, delay) in measure::longest(plants, records) {
        let most = alone.entry(kind).or_default();
        *most = delay.max(*most);
    }
}

impl Outcome {
    pub(crate) fn of(attack: Attack, run: Run, alone: &Alone) -> Self {
        let p99 = |times: &[Duration]| measure::percentile(times, 0.99);
        let planted = measure::judge(&run.plants, &run.records, alone, p99(&run.intervals.real));
        let before = p99(&run.before.own).as_secs_f64();
        let factor = p99(&run.intervals.own).as_secs_f64() / before.max(1e-6);
        Self { attack, run, planted, factor }
    }

    /// The bounds that it missed, in words.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let Planted { count, reported, late, .. } = self.planted;
        [
            (self.factor > measure::INTERVAL_FACTOR, "interval"),
            (reported < count, "unreported"),
            (late > 0, "late"),
            (!self.run.shown.is_good(), "act"),
            (!self.run.caused, "cause"),
            (self.run.work.is_some_and(|work| work > measure::WORK_FACTOR), "work"),
            (self.run.stopped.last_record > measure::STOP, "stop"),
        ]
        .into_iter()
        .filter_map(|(is_missed, word)| is_missed.then_some(word))
        .collect()
    }
}
