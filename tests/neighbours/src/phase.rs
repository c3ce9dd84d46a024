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
/// How long records of the last plants are awaited; the attack continues.
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
    /// What the host took from this machine beside the attack.
    pub(crate) stolen: Duration,
    pub(crate) samples: Samples,
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
    let (measured, stopped, samples, act) = thread::scope(|scope| {
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
        let act = attacking.join().map_err(|_| format!("{} panicked", attack.id))?;
        let (measured, stopped) = measured?;
        Ok::<_, String>((measured, stopped, samples, act))
    })?;
    quiets.clean();
    let records = records::read(&log).map_err(|why| format!("{}: {why}", log.display()))?;
    let Measured { start, from, to, planted_before, plants } = measured;
    let elapsed = to.duration_since(from).unwrap_or_default();
    let act = act.ok_or_else(|| format!("{} was not ready in time", attack.id))?;
    Ok(Run {
        before: Intervals::of(&records, &samples, start, from),
        intervals: Intervals::of(&records, &samples, from, to),
        shown: measure::shown(&act, &records, attack.unnamed),
        caused: attack.causes.is_none_or(|name| is_caused(&records, name)),
        load: samples.ran_ns(from, to) as f64 / elapsed.as_nanos().max(1) as f64,
        work: records.iter().filter_map(|record| work(&record.what)).reduce(f64::max),
        reported_p99: reported_p99(&records),
        stolen: samples.stolen(from, to),
        planted_before,
        plants,
        records,
        samples,
        stopped,
    })
}

fn attack_in<'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut host: Hostile<'scope>,
    attack: Attack,
) -> std::io::Result<ScopedJoinHandle<'scope, Option<Plant>>> {
    thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || {
        if host.wait_until_ready() {
            (attack.run)(&mut host);
        }
        host.act.take()
    })
}

fn sample(threads: Threads, stop: &AtomicBool) -> Samples {
    let mut samples = Samples::default();
    for number in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        samples.add(SystemTime::now(), threads.scanners());
        // The kernel counts stolen time in ticks of 10 ms.
        if number.is_multiple_of(4)
            && let Ok(stolen) = times::stolen_since_boot()
        {
            samples.add_stolen(SystemTime::now(), stolen);
        }
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
    let of_it = records.iter().filter(|record| record.system == hostile::NAME);
    let mut names = of_it.filter_map(|record| match &record.what {
        What::Loss((found, _), _) | What::Other(found) => Some(found),
        _ => None,
    });
    names.any(|found| found == name)
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

/// What a row of the table shows: a run beside an attack, compared with what was before it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) attack: Attack,
    pub(crate) run: Run,
    pub(crate) planted: Planted,
    /// p99 of the intervals, as a factor of what it was before the attack.
    pub(crate) factor: f64,
    /// The factors of all runs beside this attack, in their order.
    pub(crate) factors: Vec<f64>,
    /// The bounds that it missed, in words.
    pub(crate) missed: Vec<&'static str>,
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
        let interval = p99(&run.intervals.real);
        let found = (&run.plants[..], &run.records[..]);
        let planted = measure::judge(found, &run.samples, alone, interval);
        let before = p99(&run.before.own).as_secs_f64();
        let factor = p99(&run.intervals.own).as_secs_f64() / before.max(1e-6);
        let missed = missed(&run, &planted, factor);
        Self { attack, run, planted, factor, factors: vec![factor], missed }
    }

    /// Whether chance may have decided: what else the host does changes the intervals alone.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.missed == [INTERVAL]
    }

    /// One outcome of several runs beside one attack: the run with the median factor. What another
    /// run missed is missed, except for the interval.
    ///
    /// Panics without a run.
    pub(crate) fn of_tries(tries: Vec<Self>) -> Self {
        let factors: Vec<_> = tries.iter().map(|run| run.factor).collect();
        let misses: Vec<_> = tries.iter().flat_map(|run| run.missed.iter().copied()).collect();
        let median = measure::median(&factors);
        let mut outcome = tries.into_iter().nth(median).expect("a row has a run");
        for word in misses {
            if word != INTERVAL && !outcome.missed.contains(&word) {
                outcome.missed.push(word);
            }
        }
        Self { factors, ..outcome }
    }
}

/// The bound of the intervals, in the list of those that were missed.
const INTERVAL: &str = "interval";

/// The bounds that a run missed, in words.
fn missed(run: &Run, planted: &Planted, factor: f64) -> Vec<&'static str> {
    [
        (factor > measure::INTERVAL_FACTOR, INTERVAL),
        (planted.reported < planted.count, "unreported"),
        (planted.late > 0, "late"),
        (!run.shown.is_good(), "act"),
        (!run.caused, "cause"),
        (run.work.is_some_and(|work| work > measure::WORK_FACTOR), "work"),
        (run.stopped.last_record > measure::STOP, "stop"),
    ]
    .into_iter()
    .filter_map(|(is_missed, word)| is_missed.then_some(word))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::ALONE;

    /// A run without plants, whose interval grows from 10 ms to `interval_ms`.
    fn outcome(interval_ms: u64, shown: Shown) -> Outcome {
        let intervals = |ms| {
            let own = vec![Duration::from_millis(ms)];
            Intervals { real: own.clone(), own, ran: Vec::new() }
        };
        let run = Run {
            before: intervals(10),
            intervals: intervals(interval_ms),
            planted_before: Vec::new(),
            plants: Vec::new(),
            records: Vec::new(),
            shown,
            caused: true,
            load: 0.0,
            stopped: Stopped::default(),
            work: None,
            reported_p99: None,
            stolen: Duration::ZERO,
            samples: Samples::default(),
        };
        Outcome::of(ALONE, run, &Alone::new())
    }

    fn alert() -> Shown {
        Shown::Alert(Duration::ZERO)
    }

    #[test]
    fn a_row_is_in_doubt_if_it_misses_the_interval_alone() {
        assert!(!outcome(12, alert()).is_doubtful());
        assert!(outcome(13, alert()).is_doubtful());
        assert!(!outcome(13, Shown::Nothing).is_doubtful());
    }

    #[test]
    fn of_several_runs_the_median_counts_and_whatever_else_was_missed() {
        // Factors in tenths.
        let of = |tries: Vec<Outcome>| {
            let Outcome { factor, factors, missed, .. } = Outcome::of_tries(tries);
            let tenths = |factor: f64| (factor * 10.0).round() as u32;
            (tenths(factor), factors.into_iter().map(tenths).collect::<Vec<_>>(), missed)
        };
        let good = of(vec![outcome(30, alert()), outcome(11, alert()), outcome(10, alert())]);
        assert_eq!(good, (11, vec![30, 11, 10], vec![]));
        let slow = of(vec![outcome(30, alert()), outcome(11, alert()), outcome(20, alert())]);
        assert_eq!(slow, (20, vec![30, 11, 20], vec![INTERVAL]));
        let silent = outcome(10, Shown::Nothing);
        let silent = of(vec![outcome(30, alert()), outcome(11, alert()), silent]);
        assert_eq!(silent, (11, vec![30, 11, 10], vec!["act"]));
        assert_eq!(of(vec![outcome(10, alert())]), (10, vec![10], vec![]));
    }
}
