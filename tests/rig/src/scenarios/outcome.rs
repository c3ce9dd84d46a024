//! The outcome of scenarios: each compared with its expectations, and all of them as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::watcher::Arrival;
use super::{Count, Expected, PATH_CHANGE, PERMISSION_CHANGE, Scenario, is_of_change};
use crate::pairs::Counts;

/// A script's facts: `$NAME` and its value.
pub(super) type Facts = BTreeMap<String, String>;

/// The outcome of one scenario.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub id: &'static str,
    pub name: &'static str,
    /// The activity that was expected first.
    pub activity: &'static str,
    /// The expectations, each with the number of its records.
    pub expected: Vec<Seen>,
    /// Records that were not expected.
    pub extra: Vec<String>,
    /// Time from the announcement of the act until the first required record.
    pub latency: Option<Duration>,
    /// Time from the last fact that the first record names until the record came, if the guest's
    /// kernel noted the fact; slightly too long.
    pub latency_of_fact: Option<Duration>,
    /// Whether that record was an alert: a twin's record may come long after its act.
    pub is_alert: bool,
    /// An error inside the guest.
    pub failure: Option<String>,
    /// What the scripts defined.
    pub(super) facts: Facts,
}

/// One expectation, and how often it was met.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The expectation, as text.
    pub what: String,
    /// Number of matching records.
    pub count: usize,
    /// Whether the number is right.
    pub met: bool,
}

impl Outcome {
    /// Whether every expectation is met, with nothing extra and no failure.
    pub fn is_good(&self) -> bool {
        self.extra.is_empty() && self.is_met()
    }

    /// Fails the scenario if its first record came later, or if that is not known.
    pub(super) fn require(&mut self, within: Duration) {
        let time = self.latency_of_fact.or(self.latency);
        if self.failure.is_none() && time.is_none_or(|time| time > within) {
            let time = time.map_or(f64::INFINITY, milliseconds);
            let within = milliseconds(within);
            self.failure = Some(format!("the record came after {time:.0} ms, not {within:.0} ms"));
        }
    }

    /// Whether every expectation is met, without failure.
    pub fn is_met(&self) -> bool {
        self.failure.is_none() && self.expected.iter().all(|e| e.met)
    }
}

/// The text of a record's field: a string itself, any other value as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The path of the file whose change a record reports, by either activity.
fn changed_path(record: &Value) -> String {
    match name(record) {
        PATH_CHANGE | PERMISSION_CHANGE => field(record, "file.file_path"),
        _ => field(record, "file_descriptor.file_descriptor_name"),
    }
}

/// The value of a list's element: if it is an object with only one kind's details
/// (`process_details`), those.
fn unwrapped(value: &Value) -> &Value {
    match value.as_object() {
        Some(map) if map.len() == 1 => map.values().next().unwrap_or(value),
        _ => value,
    }
}

/// The field of a record that an expectation names, as text.
fn field(record: &Value, name: &str) -> String {
    let (kind, path) = name.split_once('.').unwrap_or((name, ""));
    let details = match kind {
        "record" => record,
        "detection" => &record["detection"],
        "changed" => return changed_path(record),
        "container_context" => &record["workload_information"][kind],
        _ => &record["activity_data"][format!("{kind}_details")],
    };
    let mut value = details;
    for step in path.split('.') {
        value = match (value, step.parse::<usize>()) {
            (Value::Array(all), _) if step == "length" => return all.len().to_string(),
            (Value::Array(_), Ok(index)) => unwrapped(&value[index]),
            _ => &value[step],
        };
    }
    text(value)
}

/// Replaces each `$NAME` by its fact, the longest names first.
pub(super) fn filled(pattern: &str, facts: &Facts) -> String {
    facts
        .iter()
        .rev()
        .fold(pattern.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
}

pub(super) fn name(record: &Value) -> &str {
    record["activity_data"]["name"].as_str().unwrap_or("")
}

/// Whether a record is of an activity (any, if empty) and has these fields.
pub(super) fn fits<'a>(
    record: &Value,
    activity: &str,
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    facts: &Facts,
) -> bool {
    (activity.is_empty() || activity == name(record))
        && fields.into_iter().all(|(key, pattern)| {
            let value = field(record, key);
            match pattern.strip_prefix('~') {
                Some(part) => value.contains(&filled(part, facts)),
                None => value == filled(pattern, facts),
            }
        })
}

/// Counts records, one after the other, until every expectation has enough.
pub(super) struct Tally<'a> {
    wanted: &'a [Expected],
    counts: Vec<usize>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(wanted: &'a [Expected]) -> Self {
        Self { wanted, counts: vec![0; wanted.len()] }
    }

    pub(super) fn count(&mut self, record: &Value, facts: &Facts) {
        for (expected, count) in self.wanted.iter().zip(&mut self.counts) {
            *count += usize::from(expected.matches(record, facts));
        }
    }

    pub(super) fn is_enough(&self) -> bool {
        self.wanted.iter().zip(&self.counts).all(|(expected, count)| {
            let (Count::Exactly(wanted) | Count::AtLeast(wanted)) = expected.count;
            *count >= wanted
        })
    }
}

impl Expected {
    /// Whether a record matches this expectation.
    pub(super) fn matches(&self, record: &Value, facts: &Facts) -> bool {
        fits(record, self.activity, self.fields.iter().copied(), facts)
    }

    fn is_met(&self, count: usize) -> bool {
        match self.count {
            Count::Exactly(wanted) => count == wanted,
            Count::AtLeast(wanted) => count >= wanted,
        }
    }

    fn as_text(&self, facts: &Facts) -> String {
        let mut line = self.activity.to_owned();
        match self.count {
            Count::Exactly(1) => {}
            Count::Exactly(wanted) => _ = write!(line, " ×{wanted}"),
            Count::AtLeast(wanted) => _ = write!(line, " ×{wanted} or more"),
        }
        for (key, pattern) in self.fields {
            let key = key.split_once('.').map_or(*key, |(_, attribute)| attribute);
            match pattern.strip_prefix('~') {
                Some(part) => _ = write!(line, " {key} has {}", filled(part, facts)),
                None => _ = write!(line, " {key}={}", filled(pattern, facts)),
            }
        }
        if let Some(field) = self.distinct {
            let _ = write!(line, ", no two with the same {field}");
        }
        line
    }
}

/// The part of a record that is useful to people.
pub(super) fn shown(record: &Value) -> String {
    let mut activity = record["activity_data"].clone();
    let process = &record["activity_data"]["process_details"];
    let who = format!(
        "{} {} {}",
        text(&process["process_id"]),
        text(&process["process_executable_path"]),
        text(&process["process_command_line_arguments"])
    );
    if let Some(map) = activity.as_object_mut() {
        map.remove("process_details");
        map.remove("name");
    }
    let reason = text(&record["detection"]["reason"]);
    format!("{} by {who}: {reason} {activity}", name(record))
}

/// Compares the records with the expectations.
pub(super) fn evaluate(
    scenario: &'static Scenario,
    arrivals: &[Arrival],
    acted: Option<Instant>,
    facts: &Facts,
) -> Outcome {
    let expected = scenario
        .expect
        .iter()
        .map(|expected| {
            let all = || arrivals.iter().filter(|a| expected.matches(&a.record, facts));
            let mut values = BTreeSet::new();
            let is_new = |a: &Arrival| {
                expected.distinct.is_none_or(|of| values.insert(field(&a.record, of)))
            };
            let met = expected.is_met(all().count()) && all().all(is_new);
            Seen { what: expected.as_text(facts), count: all().count(), met }
        })
        .collect();
    let extra = arrivals
        .iter()
        .filter(|arrival| is_extra(scenario, &arrival.record, facts))
        .map(|arrival| shown(&arrival.record))
        .collect();
    let first = first(scenario, arrivals, facts);
    let is_alert = first.is_some_and(Arrival::is_alert);
    let activity = scenario.expect.first().map_or("", |expected| expected.activity);
    let latency =
        first.zip(acted).map(|(arrival, acted)| arrival.at.saturating_duration_since(acted));
    let (id, name) = (scenario.id, scenario.name);
    Outcome {
        id,
        name,
        activity,
        expected,
        extra,
        latency,
        latency_of_fact: None,
        is_alert,
        failure: None,
        facts: Facts::new(),
    }
}

/// The first record of the first expectation.
pub(super) fn first<'a>(
    scenario: &Scenario,
    arrivals: &'a [Arrival],
    facts: &Facts,
) -> Option<&'a Arrival> {
    let expected = scenario.expect.first()?;
    arrivals.iter().find(|arrival| expected.matches(&arrival.record, facts))
}

/// Whether a record is an alert that is neither expected nor allowed, or a line that is no record.
pub(super) fn is_extra(scenario: &Scenario, record: &Value, facts: &Facts) -> bool {
    if record.is_object() && record["message_type"] != "ALERT" {
        return false;
    }
    let known = scenario.expect.iter().chain(scenario.besides);
    if known.into_iter().any(|expected| expected.matches(record, facts)) {
        return false;
    }
    !(is_of_change(name(record)) || is_sum_of_changes(record))
        || scenario.is_about_changes()
        || !(scenario.stage.is_about_behaviour() || has_file_of(scenario, record))
}

/// Whether a record is about a changed file that only the scenario before names: a sweep may find
/// what that has cleaned up a second later.
pub(super) fn is_of_scenario_before(
    before: &Scenario,
    scenario: &Scenario,
    record: &Value,
) -> bool {
    [PATH_CHANGE, PERMISSION_CHANGE].contains(&name(record))
        && has_file_of(before, record)
        && !has_file_of(scenario, record)
}

/// Whether a record counts alerts on changed files. It may come a minute after their scenario.
fn is_sum_of_changes(record: &Value) -> bool {
    name(record) == "alerts_summed_up" && is_of_change(&field(record, "system_activity.activity"))
}

/// Whether a scenario's scripts name a changed file of a record.
fn has_file_of(scenario: &Scenario, record: &Value) -> bool {
    let scripts = [scenario.prepare, scenario.act, scenario.clean];
    let is_named = |file: &str| {
        let file = file.trim_end_matches(" (deleted)");
        scripts.iter().any(|script| script.contains(file))
    };
    match record["activity_data"]["system_activity_details"]["paths"].as_array() {
        Some(paths) => paths.iter().any(|path| is_named(&text(path))),
        None => is_named(&changed_path(record)),
    }
}

/// The outcomes of all scenarios in one guest.
#[derive(Clone, Debug)]
pub struct Report {
    pub kernel: String,
    pub outcomes: Vec<Outcome>,
    /// Number of records of each activity.
    pub activities: BTreeMap<String, usize>,
    /// Number of incidents, and of later records that belonged to one as they must.
    pub incidents: usize,
    /// See [`Self::incidents`].
    pub members: usize,
    /// What became of all that was reported as new.
    pub pairs: Counts,
}

impl Report {
    /// Whether all outcomes are good.
    pub fn is_good(&self) -> bool {
        self.outcomes.iter().all(Outcome::is_good)
    }

    /// Adds the outcome before a stage's first scenario: once per stage, however often it is
    /// played.
    pub(super) fn add_rest(&mut self, rest: Outcome) {
        let known = self.outcomes.iter_mut().find(|o| (o.id, o.name) == (rest.id, rest.name));
        match known {
            // An error in one guest counts, even if other guests had none.
            Some(known) if known.is_good() => *known = rest,
            Some(_) => {}
            None => self.outcomes.push(rest),
        }
    }

    /// One line per scenario, with the errors under each that is not good.
    pub fn table(&self) -> String {
        let mut out = format!("Linux {}\n", self.kernel);
        let _ = writeln!(
            out,
            "{:<6} {:<52} {:>8} {:>6} {:>6} {:>9} {:>9}",
            "id", "scenario", "expected", "seen", "extra", "act ms", "fact ms"
        );
        for outcome in &self.outcomes {
            out.push_str(&outcome.lines());
        }
        let good = self.outcomes.iter().filter(|outcome| outcome.is_good()).count();
        let _ = writeln!(out, "{good} of {} scenarios as expected", self.outcomes.len());
        let (incidents, members) = (self.incidents, self.members);
        let _ = writeln!(out, "{incidents} incidents with {members} later records");
        out.push_str(&self.pairs.lines());
        let alerts = || self.outcomes.iter().filter(|outcome| outcome.is_alert);
        if let Some(latencies) = Latencies::of(alerts().filter_map(|o| o.latency)) {
            let _ = writeln!(out, "from act to alert: {latencies}");
        }
        let all = || self.outcomes.iter();
        if let Some(latencies) = Latencies::of(all().filter_map(|o| o.latency_of_fact)) {
            let _ = writeln!(out, "from the last fact to its record: {latencies}");
        }
        let activities: BTreeSet<&str> = all().map(|outcome| outcome.activity).collect();
        for activity in activities {
            let of = all().filter(|outcome| outcome.activity == activity);
            if let Some(latencies) = Latencies::of(of.filter_map(|o| o.latency_of_fact)) {
                let _ = writeln!(out, "    {activity}: {latencies}");
            }
        }
        out
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let outcomes: Vec<Value> = self.outcomes.iter().map(Outcome::json).collect();
        json!({ "kernel": self.kernel, "scenarios": outcomes, "activities": self.activities })
    }
}

impl Outcome {
    /// A line of the table, followed by the errors.
    pub fn lines(&self) -> String {
        let met = self.expected.iter().filter(|seen| seen.met).count();
        let shown = |time: Option<Duration>| {
            time.map_or(String::new(), |time| format!("{:.1}", milliseconds(time)))
        };
        let mut out = format!(
            "{:<6} {:<52} {:>8} {:>6} {:>6} {:>9} {:>9}\n",
            self.id,
            self.name,
            self.expected.len(),
            met,
            self.extra.len(),
            shown(self.latency),
            shown(self.latency_of_fact),
        );
        if let Some(failure) = &self.failure {
            let _ = writeln!(out, "       failed: {failure}");
        }
        for seen in self.expected.iter().filter(|seen| !seen.met) {
            let _ = writeln!(out, "       seen {} times: {}", seen.count, seen.what);
        }
        for extra in &self.extra {
            let _ = writeln!(out, "       extra: {extra}");
        }
        out
    }

    fn json(&self) -> Value {
        let expected: Vec<Value> = self
            .expected
            .iter()
            .map(|seen| json!({ "what": seen.what, "seen": seen.count, "met": seen.met }))
            .collect();
        json!({
            "id": self.id, "name": self.name, "good": self.is_good(), "expected": expected,
            "extra": self.extra, "milliseconds": self.latency.map(milliseconds),
            "milliseconds_of_fact": self.latency_of_fact.map(milliseconds), "failure": self.failure,
        })
    }
}

/// The times from act to record, sorted.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn of(all: impl Iterator<Item = Duration>) -> Option<Self> {
        let mut all: Vec<Duration> = all.collect();
        all.sort();
        (!all.is_empty()).then_some(Self(all))
    }

    fn at(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        milliseconds(self.0[index])
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms, of {}",
            self.at(50),
            self.at(99),
            self.at(100),
            self.0.len()
        )
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::super::CONTENT_CHANGE;
    use super::super::Count;
    use super::*;

    const EXECUTED: Expected = Expected {
        activity: "foreign_binary_executed",
        fields: &[("elf_file.elf_file_path", "/tmp/t"), ("process.process_id", "$pid")],
        count: Count::Exactly(1),
        distinct: None,
    };

    static SCENARIO: Scenario =
        Scenario { act: "act\n/tmp/t", expect: &[EXECUTED], ..Scenario::new("T1", "a test") };

    fn arrival(name: &str, path: &str, pid: u64) -> Arrival {
        let record = json!({
            "message_type": "ALERT",
            "activity_data": {
                "name": name,
                "elf_file_details": { "elf_file_path": path },
                "file_descriptor_details": { "file_descriptor_name": path },
                "process_details": { "process_id": pid },
            },
        });
        Arrival { at: Instant::now(), record }
    }

    /// The number of matching records, of extra ones, and whether the outcome is good.
    fn check(arrivals: &[Arrival]) -> (usize, usize, bool) {
        let facts = Facts::from([("pid".to_owned(), "7".to_owned())]);
        let outcome = evaluate(&SCENARIO, arrivals, None, &facts);
        (outcome.expected[0].count, outcome.extra.len(), outcome.is_good())
    }

    #[test]
    fn what_the_scenario_before_has_cleaned_up_is_no_extra_record() {
        const BEFORE: Scenario =
            Scenario { clean: "cp -p /tmp/f10b /usr/bin/ldd", ..Scenario::new("F10b", "before") };
        const AFTER: Scenario = Scenario::new("F14", "after");
        const SAME: Scenario =
            Scenario { act: "printf x >> /usr/bin/ldd", ..Scenario::new("F11", "the same file") };
        let of = |name: &str, path: &str| {
            let file = json!({ "file_path": path });
            json!({ "activity_data": { "name": name, "file_details": file } })
        };
        let record = of("file_content_change", "/usr/bin/ldd");
        assert!(is_of_scenario_before(&BEFORE, &AFTER, &record));
        assert!(!is_of_scenario_before(&BEFORE, &SAME, &record));
        assert!(!is_of_scenario_before(&AFTER, &BEFORE, &record));
        let other = of("file_content_change", "/etc/passwd");
        assert!(!is_of_scenario_before(&BEFORE, &AFTER, &other));
        assert!(!is_of_scenario_before(&BEFORE, &AFTER, &of("process_hidden", "/usr/bin/ldd")));
    }

    #[test]
    fn what_is_distinct_comes_once_for_each_value() {
        static MANY: Scenario = Scenario {
            act: "act\n/tmp/t",
            expect: &[Expected {
                fields: &[],
                count: Count::AtLeast(2),
                distinct: Some("process.process_id"),
                ..EXECUTED
            }],
            ..Scenario::new("T2", "a test")
        };
        let check = |pids: &[u64]| {
            let arrival = |pid: &u64| arrival("foreign_binary_executed", "/tmp/t", *pid);
            let all: Vec<Arrival> = pids.iter().map(arrival).collect();
            evaluate(&MANY, &all, None, &Facts::new()).is_good()
        };
        assert!(check(&[7, 8, 9]));
        assert!(!check(&[7]));
        assert!(!check(&[7, 8, 7]));
    }

    #[test]
    fn what_is_expected_comes_once_and_nothing_else() {
        let good = arrival("foreign_binary_executed", "/tmp/t", 7);
        assert_eq!(check(std::slice::from_ref(&good)), (1, 0, true));
        assert_eq!(check(&[]), (0, 0, false));
        assert_eq!(check(&[good.clone(), good.clone()]), (2, 0, false));
        let other = arrival("foreign_binary_executed", "/tmp/t", 8);
        assert_eq!(check(&[good.clone(), other]), (1, 1, false));
        let written = arrival(CONTENT_CHANGE, "/tmp/t", 8);
        assert_eq!(check(&[good.clone(), written]), (1, 0, true));
        let written = arrival(CONTENT_CHANGE, "/tmp/other", 8);
        assert_eq!(check(&[good, written]), (1, 1, false));
    }
}
