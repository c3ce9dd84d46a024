//! The harmless twins of detected activity, again and again, many at once, for a given time: no
//! alert may come.
//!
//! Several lanes run at the same time in one guest, each through some of the twins; others come in
//! from the host, each in a lane of its own. A watcher, with or without knowledge of what should
//! run, watches from when everything is set up. The guest reports the results of turns ([`Turns`]),
//! so a twin that never ran is detected, too.
//!
//! Scenarios can be played meanwhile: attacks that must be reported, and nothing else.
//!
//! A record that something was not seen is a failure, too: everyday work must not exceed what the
//! watcher can see.

mod attacks;
mod package;
mod report;
mod visits;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::attacks::Attacks;
pub use self::report::TwinReport;
use self::visits::Visits;
use super::outcome::{Facts, shown};
use super::run::{Announced, Machine, script_in};
use super::watcher::{Keep, Watcher};
use super::{load, stage};
use crate::cache::Scratch;
use crate::error::{Error, Result};
use crate::flavor::Flavor;
use crate::guest::Guest;
use crate::kernel::Kernel;
use crate::setup;
use crate::userland::{self, Userland};

/// The twins to run, and how.
#[derive(Clone, Debug)]
pub struct TwinChoice {
    pub flavor: Flavor,
    /// The twins' names; empty for all.
    pub names: Vec<String>,
    /// How long they run at least after all servers are up.
    pub time: Duration,
    /// The folder for all records, if any.
    pub log_folder: Option<PathBuf>,
    /// Whether the watcher knows what should run.
    pub sbom: bool,
    /// Ids of scenarios, all of them attacks that only alerts follow: one is played each minute,
    /// again and again.
    pub attacks: &'static [&'static str],
}

/// How many of a twin's turns succeeded and failed.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// Turns with status 0.
    pub good: usize,
    /// Turns with another status.
    pub bad: usize,
    /// Why the twin could not be prepared, or the output of the last failed turn.
    pub output: String,
}

impl Turns {
    /// Whether the twin ran: one good turn shows it.
    fn has_good(&self) -> bool {
        self.good > 0
    }
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
    /// The same, on the host: with `$port` of the guest's ssh, and the file `$key`.
    pub(super) visit: &'static str,
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
    let mut attacks = Attacks::new(choice)?;
    setup::ensure()?;
    let kernel = Kernel::obtain(choice.flavor)?;
    let folder = Scratch::of_process("scenarios")?;
    let packages = package::build(&folder)?;
    let booted = Machine::boot(&kernel, Userland::Equipped, MEMORY_MIB, &packages, &folder)?;
    let mut machine = booted.ok_or_else(|| Error::new("the guest died by itself"))?;
    let mut twins = prepare(&mut machine.guest, chosen, choice.sbom, &mut report)?;
    let mut lists = Vec::new();
    if choice.sbom {
        lists.push(userland::equipped()?);
        lists.extend(packages.into_iter().map(|(_, path)| path));
    }
    let configuration = stage::of_twins(&lists, program, &folder)?;
    let log = choice.log_folder.as_deref();
    let mut watcher =
        Watcher::start(program, &machine.guest, &configuration, &folder, log, Keep::Findings)?;
    start(&mut machine.guest, &twins)?;
    let visits = Visits::start(&mut machine.guest, &twins, &folder)?;
    let started = Instant::now();
    let (mut reported, mut minutes) = (0, 0);
    while is_on(started.elapsed(), choice.time, &twins) {
        std::thread::sleep(PERIOD);
        watcher.check()?;
        if let Some(outcome) = attacks.play_next(started.elapsed(), &mut machine, &watcher) {
            report(outcome.lines().trim_end());
        }
        count(&mut machine.guest, &visits, &mut twins)?;
        for alert in attacks.others(watcher.records(0)).iter().skip(reported) {
            reported += 1;
            report(&format!("ALERT {}", shown(alert)));
        }
        if started.elapsed().as_secs() / 60 > minutes {
            minutes = started.elapsed().as_secs() / 60;
            let turns: usize = twins.iter().map(|(_, turns)| turns.good + turns.bad).sum();
            let waits = if started.elapsed() < choice.time { String::new() } else { waits(&twins) };
            report(&format!("{minutes} min: {turns} turns, {reported} alerts{waits}"));
        }
    }
    let failed =
        |twin: &Twin, turns: &Turns| runs_inside(twin) && turns.bad > 0 && turns.output.is_empty();
    for (twin, turns) in twins.iter_mut().filter(|(twin, turns)| failed(twin, turns)) {
        let ask = format!("run cat /run/twins/{}.bad", twin.name);
        turns.output = machine.guest.agent(&ask)?.join(" / ");
    }
    Ok(TwinReport {
        kernel: kernel.release().to_owned(),
        sbom: choice.sbom,
        time: started.elapsed(),
        twins,
        activities: watcher.activities(),
        alerts: attacks.others(watcher.records(0)),
        attacks: attacks.into_outcomes(),
    })
}

/// Whether to continue: for the given time, and on a slow host for up to twice as long, until
/// each twin ran.
fn is_on(elapsed: Duration, time: Duration, twins: &[(&'static Twin, Turns)]) -> bool {
    elapsed < time || (elapsed < time * 2 && twins.iter().any(|(_, turns)| !turns.has_good()))
}

/// The twins that the end of the run waits for, for people; empty for none.
fn waits(twins: &[(&'static Twin, Turns)]) -> String {
    let waiting = twins.iter().filter(|(_, turns)| !turns.has_good()).map(|(twin, _)| twin.name);
    let names: Vec<&str> = waiting.collect();
    if names.is_empty() {
        return String::new();
    }
    format!("; no good turn yet: {}", names.join(", "))
}

/// Starts what the twins need.
fn prepare(
    guest: &mut Guest,
    chosen: Vec<&'static Twin>,
    sbom: bool,
    report: &mut impl FnMut(&str),
) -> Result<Vec<(&'static Twin, Turns)>> {
    let mut twins = Vec::new();
    script(guest, &format!("mkdir -p /run/twins\n{COMMON}"))?;
    for twin in chosen {
        let install = format!(
            "cat > /run/twins/{} <<'END-OF-TWIN'\n{}{}sbom={}\n{}\nEND-OF-TWIN\n{}",
            twin.name,
            super::run::PRELUDE,
            FUNCTIONS,
            if sbom { "yes" } else { "" },
            twin.turn,
            twin.prepare
        );
        let prepared = script(guest, &install);
        let words = prepared.as_ref().err().map(ToString::to_string).unwrap_or_default();
        report(&format!("{} is ready{}", twin.name, if words.is_empty() { "" } else { ", NOT" }));
        twins.push((twin, Turns { output: words, ..Turns::default() }));
    }
    Ok(twins)
}

/// Whether its turns are in the guest.
const fn runs_inside(twin: &Twin) -> bool {
    !twin.turn.is_empty()
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

/// Starts the lanes.
fn start(guest: &mut Guest, twins: &[(&'static Twin, Turns)]) -> Result<()> {
    let inside = || twins.iter().map(|(twin, _)| twin).filter(|twin| runs_inside(twin));
    let mut text = format!("cat > /run/twins/.lane <<'END-OF-LANE'\n{LANE}\nEND-OF-LANE\n");
    for lane in 0..LANES {
        let names: Vec<&str> = inside().skip(lane).step_by(LANES).map(|twin| twin.name).collect();
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
fn count(guest: &mut Guest, visits: &Visits, twins: &mut [(&'static Twin, Turns)]) -> Result<()> {
    let lines = guest.agent("run cat /run/twins/log || true")?;
    for (twin, turns) in twins {
        if let Some(of_visits) = visits.turns(twin) {
            *turns = of_visits;
            continue;
        }
        let of_twin = lines.iter().filter_map(|line| line.split_once(' '));
        let (good, bad): (Vec<_>, Vec<_>) =
            of_twin.filter(|(name, _)| *name == twin.name).partition(|(_, status)| *status == "0");
        (turns.good, turns.bad) = (good.len(), bad.len());
    }
    Ok(())
}
