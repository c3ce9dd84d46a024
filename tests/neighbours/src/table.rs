//! The table of a matrix, for people and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::measure::{Shown, percentile};
use crate::phase::Outcome;

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The heading of the table.
pub(crate) fn heading() -> String {
    format!(
        "{:<6} {:<36} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>5} {:>9} {:>8} {:>6} {:>5} \
         {:>5} {:>5} {:>5}  {:<42} {}",
        "attack",
        "",
        "mean ms",
        "p99 ms",
        "CPU p99",
        "own p99",
        "before",
        "factor",
        "tries",
        "reported",
        "worst ms",
        "stolen",
        "load",
        "stop",
        "end",
        "work",
        "the hostile system's own",
        "missed bounds",
    )
}

/// One line of the table.
pub(crate) fn line(outcome: &Outcome) -> String {
    let Outcome { attack, run, planted, factor, factors, missed } = outcome;
    let mut line = String::new();
    let reported = format!("{}/{}", planted.reported, planted.count);
    let work = run.work.map_or_else(|| "-".to_owned(), |work| format!("{work:.2}"));
    let missed = if missed.is_empty() { "none".to_owned() } else { missed.join(", ") };
    // Writing to a text does not fail.
    let _ = write!(
        line,
        "{:<6} {:<36} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>6.2} {:>5} {reported:>9} \
         {:>8.0} {:>6.0} {:>5.2} {:>5.0} {:>5.0} {work:>5}  {:<42} {missed}",
        attack.id,
        attack.name,
        ms(run.intervals.mean()),
        ms(percentile(&run.intervals.real, 0.99)),
        ms(percentile(&run.intervals.ran, 0.99)),
        ms(percentile(&run.intervals.own, 0.99)),
        ms(percentile(&run.before.own, 0.99)),
        factor,
        factors.len(),
        ms(planted.worst),
        ms(run.stolen),
        run.load,
        ms(run.stopped.last_record),
        ms(run.stopped.end),
        shown(&run.shown),
    );
    line
}

fn shown(shown: &Shown) -> String {
    match shown {
        Shown::Alert(after) => format!("alert after {:.0} ms", ms(*after)),
        Shown::Loss(name, after) => format!("{name}, {:.0} ms", ms(*after)),
        Shown::Nothing => "SILENT".to_owned(),
    }
}

/// What the columns mean.
pub(crate) const LEGEND: &str = "\
mean, p99: a neighbour's interval from scan to scan. CPU: the scanners' CPU time meanwhile. own: the
interval without the time in which the scanner waited for a processor; before: the same, in the same
run before the attack; factor: one by the other, at most 1.2. tries: what else the host does may
change the interval alone by more than that, so a row that misses only this bound is measured twice
more, and is that of the median factor; what any of its runs misses otherwise is missed. reported:
alerts of what was planted in the neighbours, each in the time that it takes without an attack and
three intervals, without what the host took from this machine's processors meanwhile; worst: with
it; stolen: ms that it took beside the attack. load: processors that scanners used. stop: ms from
SIGTERM to the last record, at most 100; end: to the end of the program. work: the most work of a
scan by its budget, at most 1.5 (-: not reported). The hostile system's own act is an alert, or the
record of a loss that names its process within a second after it. Where nobody can be named, the
attack's row in the source code states which losses stand for it, and why.";

/// All outcomes as JSON.
pub(crate) fn json(outcomes: &[Outcome]) -> Value {
    outcomes.iter().map(row).collect()
}

fn row(outcome: &Outcome) -> Value {
    let Outcome { attack, run, planted, factor, factors, missed } = outcome;
    let kinds: Vec<_> = planted.missed.iter().map(|kind| kind.activity()).collect();
    json!({
        "attack": attack.id,
        "name": attack.name,
        "interval_mean_ms": ms(run.intervals.mean()),
        "interval_p99_ms": ms(percentile(&run.intervals.real, 0.99)),
        "interval_cpu_p99_ms": ms(percentile(&run.intervals.ran, 0.99)),
        "interval_own_p99_ms": ms(percentile(&run.intervals.own, 0.99)),
        "interval_before_p99_ms": ms(percentile(&run.before.real, 0.99)),
        "interval_before_own_p99_ms": ms(percentile(&run.before.own, 0.99)),
        "interval_p99_reported_ms": run.reported_p99.map(ms),
        "factor": factor,
        "factors": factors,
        "planted": planted.count,
        "reported": planted.reported,
        "late": planted.late,
        "worst_ms": ms(planted.worst),
        "stolen_ms": ms(run.stolen),
        "not_reported_or_late": kinds,
        "load": run.load,
        "stop_ms": ms(run.stopped.last_record),
        "end_ms": ms(run.stopped.end),
        "work": run.work,
        "hostile": shown(&run.shown),
        "missed": missed,
    })
}
