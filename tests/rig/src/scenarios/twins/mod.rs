//! The harmless twins of detected activity, again and again, many at once, for a given time: no
//! alert may come.
//!
//! Several lanes run at the same time in one guest, each through some of the twins, while a watcher
//! without knowledge of what should run watches. The guest reports the results of turns
//! ([`Turns`]), so a twin that never ran is detected, too.
//!
//! A record that something was not seen is a failure, too: everyday work must not exceed what the
//! watcher can see.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::outcome::{Facts, shown};
use super::run::{Announced, boot, script_in};
use super::watcher::{Keep, Watcher};
use super::{DEGRADED, Stage, load, stage};
use crate::cache::Scratch;
use crate::error::{Error, Result};
use crate::flavor::Flavor;
use crate::guest::Guest;
use crate::kernel::Kernel;
use crate::setup;

/// The twins to run, and how.
#[derive(Clone, Debug)]
pub struct TwinChoice {
    pub flavor: Flavor,
    /// The twins' names; empty for all.
    pub names: Vec<String>,
    /// How long they run after all servers are up.
    pub time: Duration,
    /// The folder for all records, if any.
    pub log_folder: Option<PathBuf>,
}

/// How many of a twin's turns succeeded and failed.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// Turns with status 0.
    pub good: usize,
    /// Turns with another status.
    pub bad: usize,
    /// The output of the last failed turn, or why the twin could not be prepared.
    pub output: String,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct TwinReport {
    pub kernel: String,
    pub time: Duration,
    pub twins: Vec<(&'static Twin, Turns)>,
    /// Number of records of each activity.
    pub activities: BTreeMap<String, usize>,
    /// Alerts, and records of what was not seen.
    pub alerts: Vec<Value>,
}

/// Memory for all of them at once.
const MEMORY_MIB: u64 = 1536;
/// Number of lanes.
const LANES: usize = 4;
/// How often the results are collected.
const PERIOD: Duration = Duration::from_secs(5);
/// What each lane does: `NAME STATUS` into the log after each turn.
const LANE: &str = include_str!("../../../../scenarios/lib/twin_lane.sh");

/// What all scripts of twins begin with, beside what scripts of scenarios do.
const FUNCTIONS: &str = include_str!("../../../../scenarios/lib/twins.sh");
/// Servers that several twins use; ready before any of them.
const COMMON: &str = include_str!("../../../../scenarios/lib/twin_servers.sh");

/// Something that looks like an attack and is none, again and again.
///
/// Each turn proves itself that it did what its file says, by its exit status.
#[derive(Clone, Copy, Debug)]
pub struct Twin {
    /// One word.
    pub name: &'static str,
    /// For people.
    pub about: &'static str,
    /// bash, once: makes what the turns need, and starts servers.
    pub(super) prepare: &'static str,
    /// bash, again and again: status 0 means that it has done all that it is there for.
    pub(super) turn: &'static str,
}

/// All twins, in the order of their names.
pub fn all() -> Result<&'static [Twin]> {
    load::twins()
}

/// Runs the twins for a while; `report` gets each alert as it comes, and the progress.
pub fn run(
    choice: &TwinChoice,
    program: &Path,
    mut report: impl FnMut(&str),
) -> Result<TwinReport> {
    let chosen = chosen(&choice.names)?;
    setup::ensure()?;
    let kernel = Kernel::obtain(choice.flavor)?;
    let folder = Scratch::of_process("scenarios")?;
    let mut guest = boot(&kernel, Stage::Equipped.userland(), MEMORY_MIB, &[], &folder)?;
    let configuration = stage::configuration(Stage::Equipped, program, &folder)?;
    let log = choice.log_folder.as_deref();
    let mut watcher = Watcher::start(program, &guest, &configuration, &folder, log, Keep::Alerts)?;
    let mut twins: Vec<(&'static Twin, Turns)> = Vec::new();
    script(&mut guest, &format!("mkdir -p /run/twins\n{COMMON}"))?;
    for twin in chosen {
        let install = format!(
            "cat > /run/twins/{} <<'END-OF-TWIN'\n{}{}{}\nEND-OF-TWIN\n{}",
            twin.name,
            super::run::PRELUDE,
            FUNCTIONS,
            twin.turn,
            twin.prepare
        );
        let prepared = script(&mut guest, &install);
        let words = prepared.as_ref().err().map(ToString::to_string).unwrap_or_default();
        report(&format!("{} is ready{}", twin.name, if words.is_empty() { "" } else { ", NOT" }));
        twins.push((twin, Turns { output: words, ..Turns::default() }));
    }
    start(&mut guest, &twins)?;
    let started = Instant::now();
    let (mut reported, mut minutes) = (0, 0);
    while started.elapsed() < choice.time {
        std::thread::sleep(PERIOD.min(choice.time.saturating_sub(started.elapsed())));
        watcher.check()?;
        count(&mut guest, &mut twins)?;
        for arrival in alerts(&watcher).skip(reported) {
            reported += 1;
            report(&format!("ALERT {}", shown(&arrival)));
        }
        if started.elapsed().as_secs() / 60 > minutes {
            minutes = started.elapsed().as_secs() / 60;
            let turns: usize = twins.iter().map(|(_, turns)| turns.good + turns.bad).sum();
            report(&format!("{minutes} min: {turns} turns, {reported} alerts"));
        }
    }
    for (twin, turns) in &mut twins {
        if turns.bad > 0 {
            let ask = format!("run cat /run/twins/{}.bad", twin.name);
            turns.output = guest.agent(&ask)?.join(" / ");
        }
    }
    Ok(TwinReport {
        kernel: kernel.release().to_owned(),
        time: started.elapsed(),
        twins,
        activities: watcher.activities(),
        alerts: alerts(&watcher).collect(),
    })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Twin>> {
    let all = all()?;
    let find = |name: &String| {
        all.iter().find(|twin| twin.name == name).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|twin| twin.name).collect();
            Error::new(format!("no twin {name:?}; there are {}", names.join(", ")))
        })
    };
    if names.is_empty() { Ok(all.iter().collect()) } else { names.iter().map(find).collect() }
}

/// Runs a script inside to its end.
fn script(guest: &mut Guest, text: &str) -> Result<()> {
    let text = format!("{FUNCTIONS}{text}");
    script_in(guest, &text, &mut Facts::new(), &mut Announced::default(), None)
}

fn start(guest: &mut Guest, twins: &[(&'static Twin, Turns)]) -> Result<()> {
    let mut text = format!("cat > /run/twins/.lane <<'END-OF-LANE'\n{LANE}\nEND-OF-LANE\n");
    for lane in 0..LANES {
        let names: Vec<&str> =
            twins.iter().skip(lane).step_by(LANES).map(|(twin, _)| twin.name).collect();
        if !names.is_empty() {
            let names = names.join(" ");
            let _ = writeln!(
                text,
                "setsid bash /run/twins/.lane {names} < /dev/null > /dev/null 2>&1 &"
            );
        }
    }
    script(guest, &text)
}

/// Counts the turns up to now.
fn count(guest: &mut Guest, twins: &mut [(&'static Twin, Turns)]) -> Result<()> {
    let lines = guest.agent("run cat /run/twins/log || true")?;
    for (twin, turns) in twins {
        let of_twin = lines.iter().filter_map(|line| line.split_once(' '));
        let (good, bad): (Vec<_>, Vec<_>) =
            of_twin.filter(|(name, _)| *name == twin.name).partition(|(_, status)| *status == "0");
        (turns.good, turns.bad) = (good.len(), bad.len());
    }
    Ok(())
}

/// The alerts up to now, and the records of what was not seen.
fn alerts(watcher: &Watcher) -> impl Iterator<Item = Value> + use<> {
    watcher.records(0).into_iter().map(|arrival| arrival.record)
}

impl TwinReport {
    /// Whether each twin ran, and no alert came.
    pub fn is_good(&self) -> bool {
        self.alerts.is_empty() && self.twins.iter().all(|(_, turns)| turns.good > 0)
    }

    /// The twins, the records and the alerts, for people.
    pub fn table(&self) -> String {
        let mut out = format!("Linux {}, {} s\n", self.kernel, self.time.as_secs());
        let _ = writeln!(out, "{:<13} {:>5} {:>7}  what", "twin", "turns", "failed");
        for (twin, turns) in &self.twins {
            let _ = writeln!(
                out,
                "{:<13} {:>5} {:>7}  {}",
                twin.name, turns.good, turns.bad, twin.about
            );
            if !turns.output.is_empty() {
                let _ = writeln!(out, "              {}", turns.output);
            }
        }
        for (name, count) in &self.activities {
            let _ = writeln!(out, "{count:>9} {name}");
        }
        for alert in &self.alerts {
            let _ = writeln!(out, "ALERT {}", shown(alert));
        }
        let _ = writeln!(
            out,
            "{} alerts and {DEGRADED}; each twin {}",
            self.alerts.len(),
            if self.twins.iter().all(|(_, turns)| turns.good > 0) { "ran" } else { "did NOT run" }
        );
        out
    }
}
