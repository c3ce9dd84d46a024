//! The arithmetic: intervals, percentiles, and which record belongs to which plant.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::plants::{Kind, Plant};
use crate::records::{Loss, Record, What};
use crate::times::Samples;

/// The bound of an interval's p99, as a factor of what it was before the attack.
pub(crate) const INTERVAL_FACTOR: f64 = 1.2;
/// The most work of a scan, as a factor of its budget.
pub(crate) const WORK_FACTOR: f64 = 1.5;
/// The last record must be written within this time after the request to stop.
pub(crate) const STOP: Duration = Duration::from_millis(100);
/// A loss must be a record within this time.
pub(crate) const RECORD_WITHIN: Duration = Duration::from_secs(1);

/// The value below which this share of the values lies (nearest rank); zero without values.
pub(crate) fn percentile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

/// The index of the median of some values; of an even number of them, of the higher one in the
/// middle. 0 without values.
pub(crate) fn median(values: &[f64]) -> usize {
    let mut order: Vec<_> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    order.get(order.len() / 2).copied().unwrap_or(0)
}

/// Times from one scan of a system to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intervals {
    /// Lengths by the clock on the wall.
    pub(crate) real: Vec<Duration>,
    /// Without the time in which the scanner waited for a processor that other programs used.
    pub(crate) own: Vec<Duration>,
    /// How long scanners ran meanwhile.
    pub(crate) ran: Vec<Duration>,
}

impl Intervals {
    /// The intervals of all systems with scans between `from` and `to`.
    pub(crate) fn of(
        records: &[Record],
        samples: &Samples,
        from: SystemTime,
        to: SystemTime,
    ) -> Self {
        let mut last: HashMap<&str, SystemTime> = HashMap::new();
        let mut intervals = Self::default();
        let scans = records.iter().filter(|record| record.what == What::Scan);
        for record in scans.filter(|record| record.at >= from && record.at <= to) {
            if let Some(before) = last.insert(&record.system, record.at) {
                intervals.add(samples, before, record.at);
            }
        }
        // A system that is not scanned to the end has an interval that lasts until then.
        for before in last.into_values() {
            let real = to.duration_since(before).unwrap_or_default();
            if intervals.real.iter().all(|other| *other < real) {
                intervals.add(samples, before, to);
            }
        }
        intervals
    }

    fn add(&mut self, samples: &Samples, from: SystemTime, to: SystemTime) {
        let real = to.duration_since(from).unwrap_or_default();
        let waited = Duration::from_nanos(samples.waited_ns(from, to));
        self.real.push(real);
        self.own.push(real.saturating_sub(waited));
        self.ran.push(Duration::from_nanos(samples.ran_ns(from, to)));
    }

    pub(crate) fn mean(&self) -> Duration {
        let count = u32::try_from(self.real.len()).unwrap_or(u32::MAX).max(1);
        self.real.iter().sum::<Duration>() / count
    }
}

/// When the record of a plant came, counted from the plant; `None` if there is none.
pub(crate) fn delay(plant: &Plant, records: &[Record]) -> Option<Duration> {
    let is_its = |record: &&Record| {
        record.system == plant.system
            && matches!(&record.what, What::Alert(kind, pids)
                if *kind == plant.kind && pids.contains(&plant.pid))
    };
    let at = records.iter().filter(is_its).map(|record| record.at).min()?;
    // A scan notes its time at its beginning, and may still see what comes later.
    Some(at.duration_since(plant.at).unwrap_or_default())
}

/// The longest delay of each kind of plant.
pub(crate) fn longest(plants: &[Plant], records: &[Record]) -> HashMap<Kind, Duration> {
    let mut longest = HashMap::new();
    for plant in plants {
        if let Some(delay) = delay(plant, records) {
            let most: &mut Duration = longest.entry(plant.kind).or_default();
            *most = delay.max(*most);
        }
    }
    longest
}

/// What became of the plants in quiet systems.
#[derive(Clone, Debug, Default)]
pub(crate) struct Planted {
    pub(crate) count: usize,
    pub(crate) reported: usize,
    /// Number reported later than alone plus three intervals, by other things than the host.
    pub(crate) late: usize,
    pub(crate) worst: Duration,
    /// Kinds that were not reported, or late.
    pub(crate) missed: Vec<Kind>,
}

/// Compares plants with records; `alone` is how long each kind takes alone. What the host took from
/// this machine meanwhile delays nothing.
pub(crate) fn judge(
    (plants, records): (&[Plant], &[Record]),
    samples: &Samples,
    alone: &HashMap<Kind, Duration>,
    interval: Duration,
) -> Planted {
    let mut planted = Planted { count: plants.len(), ..Planted::default() };
    for plant in plants {
        let delay = delay(plant, records);
        let most = alone.get(&plant.kind).copied().unwrap_or(Duration::MAX);
        let stolen = |delay| samples.stolen(plant.at, plant.at + delay);
        let own = delay.map(|delay| delay.saturating_sub(stolen(delay)));
        let is_late = own.is_some_and(|own| own > most.saturating_add(interval * 3));
        planted.reported += usize::from(delay.is_some());
        planted.late += usize::from(is_late);
        planted.worst = planted.worst.max(delay.unwrap_or_default());
        if (delay.is_none() || is_late) && !planted.missed.contains(&plant.kind) {
            planted.missed.push(plant.kind);
        }
    }
    planted
}

/// What the watcher reported about an act under cover.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Shown {
    /// The act itself, after this time.
    Alert(Duration),
    /// That something is not seen, after this time.
    Loss(String, Duration),
    Nothing,
}

impl Shown {
    pub(crate) fn is_good(&self) -> bool {
        match self {
            Self::Alert(_) => true,
            Self::Loss(_, after) => *after <= RECORD_WITHIN,
            Self::Nothing => false,
        }
    }
}

/// A scan notes its time at its beginning, and may still see what comes later.
const SCAN: Duration = Duration::from_millis(100);

/// The name of a loss: the activity, and its gap or limit.
fn name_of((activity, about): &Loss) -> String {
    about.as_ref().map_or_else(|| activity.clone(), |about| format!("{activity} {about}"))
}

/// What the records of the hostile system show about an act: the alert, unless a loss is recorded
/// and the alert comes late. A loss counts if it names the act's process after the act. One of
/// `unnamed` counts without a name, also if it was recorded before and lasts.
pub(crate) fn shown(act: &Plant, records: &[Record], unnamed: &[&str]) -> Shown {
    let alert = delay(act, records);
    let mut losses: Vec<(Duration, String)> = Vec::new();
    // Losses that began before the act and last.
    let mut lasting: Vec<String> = Vec::new();
    for record in records.iter().filter(|record| record.system == act.system) {
        let is_before = record.at + SCAN < act.at;
        match &record.what {
            What::Loss(loss, pids) => {
                let name = name_of(loss);
                if is_before {
                    lasting.push(name);
                } else if pids.contains(&act.pid) || unnamed.contains(&name.as_str()) {
                    losses.push((record.at.duration_since(act.at).unwrap_or_default(), name));
                }
            }
            What::Restored(loss) if is_before => {
                let name = name_of(loss);
                lasting.retain(|other| *other != name);
            }
            _ => {}
        }
    }
    let lasting = lasting.into_iter().filter(|name| unnamed.contains(&name.as_str()));
    losses.extend(lasting.map(|name| (Duration::ZERO, name)));
    match (alert, losses.into_iter().min()) {
        (Some(alert), Some((loss, name))) if alert > RECORD_WITHIN && loss < alert => {
            Shown::Loss(name, loss)
        }
        (Some(alert), _) => Shown::Alert(alert),
        (None, Some((loss, name))) => Shown::Loss(name, loss),
        (None, None) => Shown::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watcher::ThreadTimes;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(number: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + ms(number)
    }

    fn record(at_ms: u64, system: &str, what: What) -> Record {
        Record { at: at(at_ms), system: system.to_owned(), what }
    }

    fn shell(pid: u32, at_ms: u64) -> Plant {
        Plant { kind: Kind::ReverseShell, system: "a".to_owned(), pid, at: at(at_ms) }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<_> = (1..=200).rev().map(ms).collect();
        assert_eq!(percentile(&values, 0.99), ms(198));
        assert_eq!(percentile(&values, 0.5), ms(100));
        assert_eq!(percentile(&values, 1.0), ms(200));
        assert_eq!(percentile(&values[..1], 0.99), ms(200));
        assert_eq!(percentile(&[], 0.99), ms(0));
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(&[1.4, 1.1, 1.3]), 2);
        assert_eq!(median(&[1.1, 1.2, 1.3]), 1);
        assert_eq!(median(&[2.0, 9.0, 9.0]), 1);
        assert_eq!(median(&[1.5]), 0);
        assert_eq!(median(&[]), 0);
    }

    #[test]
    fn intervals_are_those_of_each_system() {
        let scan = |at_ms, system| record(at_ms, system, What::Scan);
        let records = [
            scan(5, "a"),
            scan(10, "a"),
            scan(12, "b"),
            scan(22, "a"),
            scan(30, "b"),
            scan(99, "a"),
        ];
        let mut samples = Samples::default();
        let waits = |waited_ns| vec![(1, ThreadTimes { ran_ns: 0, waited_ns })];
        samples.add(at(0), waits(0));
        samples.add(at(10), waits(0));
        samples.add(at(22), waits(5_000_000));
        let intervals = Intervals::of(&records, &samples, at(10), at(32));
        assert_eq!(intervals.real, [ms(12), ms(18)]);
        assert_eq!(intervals.own[0], ms(7));
        assert_eq!(intervals.mean(), ms(15));
    }

    #[test]
    fn a_system_that_is_scanned_no_more_has_a_long_interval() {
        let records = [10, 20, 30].map(|at_ms| record(at_ms, "a", What::Scan));
        let intervals = Intervals::of(&records, &Samples::default(), at(0), at(1000));
        assert_eq!(intervals.real, [ms(10), ms(10), ms(970)]);
    }

    #[test]
    fn plants_and_their_records_are_paired() {
        let alert = |at_ms, pid| record(at_ms, "a", What::Alert(Kind::ReverseShell, vec![1, pid]));
        let records = [alert(130, 7), alert(120, 7), alert(900, 8), record(5, "b", What::Scan)];
        assert_eq!(delay(&shell(7, 100), &records), Some(ms(20)));
        assert_eq!(delay(&shell(9, 100), &records), None);
        let plants = [shell(7, 100), shell(8, 100), shell(9, 100)];
        let alone = HashMap::from([(Kind::ReverseShell, ms(50))]);
        let mut samples = Samples::default();
        let judged = judge((&plants, &records), &samples, &alone, ms(10));
        assert_eq!((judged.count, judged.reported, judged.late), (3, 2, 1));
        assert_eq!((judged.worst, judged.missed), (ms(800), vec![Kind::ReverseShell]));
        for (at_ms, stolen) in [(0, 0), (500, 720), (999, 720)] {
            samples.add_stolen(at(at_ms), ms(stolen));
        }
        let judged = judge((&plants, &records), &samples, &alone, ms(10));
        assert_eq!((judged.reported, judged.late), (2, 0), "the host delayed it");
        assert_eq!(longest(&plants, &records), HashMap::from([(Kind::ReverseShell, ms(800))]));
    }

    const UNREADABLE: &str = "coverage_degraded unreadable";

    fn unreadable() -> Loss {
        ("coverage_degraded".to_owned(), Some("unreadable".to_owned()))
    }

    /// A loss at a time, in a system, that names a process.
    fn loss(at_ms: u64, system: &str, pid: u32) -> Record {
        record(at_ms, system, What::Loss(unreadable(), vec![pid]))
    }

    fn lost(after_ms: u64) -> Shown {
        Shown::Loss(UNREADABLE.to_owned(), ms(after_ms))
    }

    #[test]
    fn an_act_is_shown_by_its_alert_or_by_a_loss_that_names_its_process() {
        let alert = |at_ms| record(at_ms, "a", What::Alert(Kind::ReverseShell, vec![7]));
        let shown = |records: &[Record]| super::shown(&shell(7, 500), records, &[]);
        assert_eq!(shown(&[alert(550)]), Shown::Alert(ms(50)));
        assert_eq!(shown(&[alert(550), loss(510, "a", 7)]), Shown::Alert(ms(50)));
        assert_eq!(shown(&[alert(3000), loss(900, "a", 7)]), lost(400));
        assert_eq!(shown(&[loss(900, "a", 7), loss(700, "a", 7)]), lost(200));
        assert_eq!(shown(&[loss(700, "a", 8), loss(700, "b", 7)]), Shown::Nothing);
        // Before the act, but in a scan that may have seen it, and too early for that.
        assert_eq!(shown(&[loss(450, "a", 7)]), lost(0));
        assert_eq!(shown(&[loss(350, "a", 7)]), Shown::Nothing);
        assert!(lost(900).is_good() && !lost(1100).is_good());
    }

    #[test]
    fn a_loss_counts_without_a_name_only_where_nobody_can_be_named() {
        let shown = |records: &[Record]| super::shown(&shell(7, 500), records, &[UNREADABLE]);
        let restored = |at_ms| record(at_ms, "a", What::Restored(unreadable()));
        assert_eq!(shown(&[loss(700, "a", 8)]), lost(200));
        assert_eq!(shown(&[loss(100, "a", 8)]), lost(0), "it lasts");
        assert_eq!(shown(&[loss(100, "a", 8), restored(300)]), Shown::Nothing);
        assert_eq!(shown(&[loss(100, "a", 8), restored(300), loss(350, "a", 8)]), lost(0));
        let other = What::Loss(("coverage_degraded".to_owned(), Some("budget".to_owned())), vec![]);
        assert_eq!(shown(&[record(600, "a", other)]), Shown::Nothing);
    }
}
