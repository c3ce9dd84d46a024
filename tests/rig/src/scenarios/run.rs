//! Boots a guest and plays scenarios in it, one after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::moments::{self, Clock, Sync};
use super::outcome::{Facts, Outcome, Report, evaluate, filled, first, is_of_scenario_before};
use super::pace::{self, Answers, PATIENCE, Pace};
use super::watcher::{Keep, Watcher};
use super::{Scenario, Stage, all, stage};
use crate::cache::Scratch;
use crate::death;
use crate::error::{Error, Result};
use crate::flavor::Flavor;
use crate::guest::{Guest, GuestSpec};
use crate::kernel::Kernel;
use crate::pairs::{Counts, Pairs};
use crate::setup;
use crate::story::Story;
use crate::userland::Userland;

/// The scenarios to play, and how.
#[derive(Clone, Debug)]
pub struct Choice {
    pub flavor: Flavor,
    /// The scenarios; one that is to be played several times is here as often.
    pub scenarios: Vec<&'static Scenario>,
    /// How long after the last required record an extra record may still come.
    pub quiet: Duration,
    /// The folder for all records, if any.
    pub log_folder: Option<PathBuf>,
    /// Performs the acts of [`Scenario::host`].
    pub host: Option<HostAct>,
    /// Additional files of guests: their paths in the guest and on the host.
    pub files: Vec<(String, PathBuf)>,
}

/// Performs an act on a machine from outside, given by words.
pub type HostAct = fn(&mut Guest, &str) -> std::result::Result<(), String>;

/// The root and the scenarios' work take room in memory.
const MEMORY_MIB: u64 = 1024;
/// A script that takes longer hangs and is killed, with all its children.
const SCRIPT_SECONDS: u32 = 280;
/// The number of scans after which no extra record can come: a finding may wait for further scans,
/// to be confirmed or hashed.
const SCANS: usize = 3;
/// If a script fails, all its children end with it.
const GUARD: &str = include_str!("../../../scenarios/lib/guard.sh");
/// The beginning of all scripts.
pub(super) const PRELUDE: &str = include_str!("../../../scenarios/lib/facts.sh");

impl Choice {
    /// The scenarios that match one of `names`, by the beginning of the id or a part of the name;
    /// all if `names` is empty.
    pub fn new(flavor: Flavor, names: &[String]) -> Result<Self> {
        let fits = |scenario: &Scenario, name: &str| {
            let lower = name.to_lowercase();
            scenario.id.to_lowercase().starts_with(&lower) || scenario.name.contains(&lower)
        };
        let all = all()?;
        for name in names {
            if !all.iter().any(|scenario| fits(scenario, name)) {
                return Err(Error::new(format!(
                    "no scenario {name:?}; `cargo xtask scenarios --list` names them"
                )));
            }
        }
        let is_chosen = |s: &&Scenario| names.is_empty() || names.iter().any(|name| fits(s, name));
        Ok(Self::of(flavor, all.iter().filter(is_chosen).collect()))
    }

    /// These scenarios, with the usual time for extra records.
    pub fn of(flavor: Flavor, scenarios: Vec<&'static Scenario>) -> Self {
        let quiet = Duration::from_millis(700);
        Self { flavor, scenarios, quiet, log_folder: None, host: None, files: Vec::new() }
    }
}

/// Runs scenarios in one guest after the other, one for each userland; `on_outcome` gets each
/// outcome. If a guest dies by itself, its scenario is played again in another one.
pub fn run(
    choice: &Choice,
    program: &Path,
    mut on_outcome: impl FnMut(&Outcome),
) -> Result<Report> {
    setup::ensure()?;
    let kernel = Kernel::obtain(choice.flavor)?;
    let folder = Scratch::of_process("scenarios")?;
    let mut report = Report {
        kernel: kernel.release().to_owned(),
        outcomes: Vec::new(),
        activities: BTreeMap::new(),
        incidents: 0,
        members: 0,
        pairs: Counts::default(),
    };
    let stages: BTreeSet<Stage> = choice.scenarios.iter().map(|scenario| scenario.stage).collect();
    let mut machine: Option<Machine> = None;
    for stage in stages {
        let mut left: VecDeque<&'static Scenario> =
            choice.scenarios.iter().copied().filter(|scenario| scenario.stage == stage).collect();
        let mut attempt = 1;
        while !left.is_empty() {
            // One guest at a time.
            drop(machine.take_if(|machine| machine.userland != stage.userland()));
            if machine.is_none() {
                let files = &choice.files;
                machine = Machine::boot(&kernel, stage.userland(), MEMORY_MIB, files, &folder)?;
            }
            let show = Show { choice, program, folder: &folder, stage };
            let is_whole = match &mut machine {
                Some(machine) => {
                    match show.play(machine, &mut left, &mut report, &mut on_outcome) {
                        // The guest's death is the cause of the error.
                        Err(_) if machine.guest.has_died() => false,
                        done => done?,
                    }
                }
                None => false,
            };
            if !is_whole {
                machine = None;
                attempt += 1;
                if attempt > death::ATTEMPTS {
                    return Err(Error::new("guests die by themselves again and again"));
                }
            }
        }
    }
    Ok(report)
}

/// A guest for the scenarios of one userland.
pub(super) struct Machine {
    userland: Userland,
    pub(super) guest: Guest,
    clock: Clock,
    pace: Pace,
    /// The scenario that was played last.
    before: Option<&'static Scenario>,
}

impl Machine {
    /// Boots a guest; `None` if it died by itself before it was ready.
    pub(super) fn boot(
        kernel: &Kernel,
        userland: Userland,
        memory_mib: u64,
        more: &[(String, PathBuf)],
        folder: &Path,
    ) -> Result<Option<Self>> {
        let mut files = stage::files()?;
        files.extend_from_slice(more);
        let mut guest = Guest::boot(&GuestSpec {
            memory_mib,
            userland,
            files,
            qemu_arguments: Pace::arguments(folder),
            ..GuestSpec::new(kernel.clone())
        })?;
        let ready = Clock::start(&mut guest)
            .and_then(|clock| Ok((clock, Pace::start(&mut guest, folder)?)));
        match ready {
            Ok((clock, pace)) => Ok(Some(Self { userland, guest, clock, pace, before: None })),
            Err(_) if guest.has_died() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Plays one scenario.
    pub(super) fn play(
        &mut self,
        watcher: &Watcher,
        choice: &Choice,
        scenario: &'static Scenario,
    ) -> Outcome {
        let Self { guest, clock, pace, .. } = self;
        let answers = Answers { pace, watcher, scenario, from: watcher.count() };
        let before = self.before.replace(scenario);
        Play { guest, answers, choice, scenario, before, clock: *clock }.play()
    }
}

/// The scenarios of a stage, with one watcher.
struct Show<'a> {
    choice: &'a Choice,
    program: &'a Path,
    folder: &'a Path,
    stage: Stage,
}

impl Show<'_> {
    /// Plays the remaining scenarios, and returns whether the guest lived until their end.
    fn play(
        &self,
        machine: &mut Machine,
        left: &mut VecDeque<&'static Scenario>,
        report: &mut Report,
        on_outcome: &mut impl FnMut(&Outcome),
    ) -> Result<bool> {
        let Self { choice, program, folder, stage } = *self;
        let log = choice
            .log_folder
            .as_ref()
            .map(|log| log.join(format!("{}-{stage:?}", choice.flavor.name()).to_lowercase()));
        let configuration = stage::configuration(stage, program, folder)?;
        let mut watcher = Watcher::start(
            program,
            &machine.guest,
            &configuration,
            folder,
            log.as_deref(),
            Keep::All,
        )?;
        let rest = at_rest(stage, &watcher, &mut machine.pace, choice.quiet)?;
        if !rest.is_good() && machine.guest.has_died() {
            return Ok(false);
        }
        report.add_rest(rest);
        let (mut story, mut pairs, mut told) = (Story::default(), Pairs::default(), 0);
        while let Some(&scenario) = left.front() {
            let mut outcome = machine.play(&watcher, choice, scenario);
            let records = watcher.records(told);
            told += records.len();
            let errors = records.iter().flat_map(|arrival| story.read(&arrival.record));
            outcome.extra.extend(errors.map(|error| format!("story: {error}")));
            let errors = records.iter().flat_map(|arrival| pairs.read(&arrival.record));
            outcome.extra.extend(errors.map(|error| format!("pairs: {error}")));
            watcher.drop_before(told);
            let guest = &mut machine.guest;
            // A death may show only in missing records.
            if guest.is_dead() || (!outcome.is_good() && guest.has_died()) {
                return Ok(false);
            }
            watcher.check()?;
            left.pop_front();
            on_outcome(&outcome);
            report.outcomes.push(outcome);
        }
        report.incidents += story.incidents;
        report.members += story.members;
        let (errors, counts) = pairs.end();
        report.pairs.add(counts);
        if let Some(last) = report.outcomes.last_mut() {
            last.extra.extend(errors.into_iter().map(|error| format!("pairs: {error}")));
        }
        for (name, volume) in watcher.activities() {
            *report.activities.entry(name).or_insert(0) += volume.records;
        }
        Ok(true)
    }
}

/// Everything that exists when the watcher starts was shipped, so no record is expected.
fn at_rest(stage: Stage, watcher: &Watcher, pace: &mut Pace, quiet: Duration) -> Result<Outcome> {
    static REST: Scenario = Scenario::new("rest", "processes that exist when the watcher starts");
    std::thread::sleep(quiet);
    pace.scanned(watcher, SCANS)?;
    let outcome = evaluate(&REST, &watcher.records(0), None, &Facts::new());
    Ok(Outcome { name: stage.at_rest(), ..outcome })
}

/// A scenario being played.
struct Play<'a> {
    guest: &'a mut Guest,
    answers: Answers<'a>,
    choice: &'a Choice,
    scenario: &'static Scenario,
    /// The one that was played before on this machine.
    before: Option<&'static Scenario>,
    clock: Clock,
}

impl Play<'_> {
    fn play(mut self) -> Outcome {
        let scenario = self.scenario;
        let (mut facts, mut announced) = (Facts::new(), Announced::default());
        let mut done = self.prepare_and_act(&mut facts, &mut announced);
        if done.is_ok() {
            let deadline = Instant::now() + PATIENCE;
            self.answers.all_come(scenario.expect, deadline, &facts);
            done = self.settle();
        }
        let mut arrivals = self.answers.watcher.records(self.answers.from);
        if let Some(before) = self.before {
            arrivals.retain(|it| !is_of_scenario_before(before, scenario, &it.record));
        }
        let first = first(scenario, &arrivals, &facts);
        let latency =
            first.and_then(|first| self.clock.latency(self.guest, first, &announced.syncs));
        let undone = self.outside(scenario.undo, &facts);
        let cleaned = self.clean(&mut facts);
        let failure = done.and(undone).and(cleaned).err().map(|error| error.to_string());
        let outcome = evaluate(scenario, &arrivals, announced.acted, &facts);
        let mut outcome = Outcome { failure, latency_of_fact: latency, facts, ..outcome };
        if let Some(within) = scenario.within {
            outcome.require(within);
        }
        outcome
    }

    /// Waits for late extra records: by the clock, and by the watcher's scans.
    fn settle(&mut self) -> Result<()> {
        std::thread::sleep(self.choice.quiet);
        self.answers.pace.scanned(self.answers.watcher, SCANS)
    }

    /// Ends held processes, then cleans up, and waits until no record of this scenario can count
    /// for the next one.
    fn clean(&mut self, facts: &mut Facts) -> Result<()> {
        let ends = [("hold", "[ ! -e $hold ] || let_all\n"), ("kept", "over $kept\n")];
        let ends = ends.map(|(fact, end)| if facts.contains_key(fact) { end } else { "" });
        let script = format!("{}{}", ends.concat(), self.scenario.clean);
        script_in(self.guest, &script, facts, &mut Announced::default(), Some(&mut self.answers))?;
        self.answers.pace.scanned(self.answers.watcher, SCANS)
    }

    /// Runs `prepare`, then `act`. Records count from the act on.
    fn prepare_and_act(&mut self, facts: &mut Facts, announced: &mut Announced) -> Result<()> {
        let scenario = self.scenario;
        let answers = Some(&mut self.answers);
        script_in(self.guest, scenario.prepare, facts, &mut Announced::default(), answers)?;
        if !scenario.prepare.is_empty() {
            // Records of files written before the act must come before it.
            self.settle()?;
        }
        self.answers.from = self.answers.watcher.count();
        if !scenario.host.is_empty() {
            self.outside(scenario.host, facts)?;
            announced.acted = Some(Instant::now());
        }
        // A script that follows may have an act of its own.
        let outside = announced.acted.take();
        let script = if scenario.act.is_empty() {
            String::new()
        } else {
            format!("{}{}", moments::PRELUDE, scenario.act)
        };
        let done = script_in(self.guest, &script, facts, announced, Some(&mut self.answers));
        announced.acted = announced.acted.or(outside);
        done
    }

    /// Performs acts from outside.
    fn outside(&mut self, acts: &[&str], facts: &Facts) -> Result<()> {
        for act in acts {
            let act = filled(act, facts);
            match (act.strip_prefix("pause "), self.choice.host) {
                (Some(milliseconds), _) => {
                    let pause = milliseconds.parse().map_err(|e| Error::new(format!("{act}: {e}")));
                    self.guest.pause()?;
                    std::thread::sleep(Duration::from_millis(pause?));
                    self.guest.resume()?;
                }
                (None, Some(host)) => {
                    host(self.guest, &act).map_err(|e| Error::new(format!("{act}: {e}")))?;
                }
                (None, None) => return Err(Error::new(format!("no function to {act}"))),
            }
        }
        Ok(())
    }
}

/// What a script announced besides facts, with times.
#[derive(Default)]
pub(super) struct Announced {
    acted: Option<Instant>,
    syncs: Vec<Sync>,
}

/// Runs a script by bash inside and processes its announcements.
pub(super) fn script_in(
    guest: &mut Guest,
    script: &str,
    facts: &mut Facts,
    announced: &mut Announced,
    answers: Option<&mut Answers<'_>>,
) -> Result<()> {
    if script.is_empty() {
        return Ok(());
    }
    // A command is one line, so bash's own quoting encodes the script's lines.
    let text = format!("{GUARD}{PRELUDE}{}{}", pace::PRELUDE, pace::with_facts(script, facts));
    let command = format!(
        "run exec timeout -k 1 {SCRIPT_SECONDS} bash -c \"$(printf %b {})\"",
        escaped(&text)
    );
    let (mut words, mut unanswered) = (Vec::new(), Vec::new());
    // Questions are answered on another thread, so that lines are read, and timed, as they come.
    let done = std::thread::scope(|scope| {
        let (ask, questions) = mpsc::channel();
        let serving = answers.map(|answers| scope.spawn(move || answers.serve(&questions)));
        let done = guest.agent_lines(&command, |line| {
            if line == "@act" {
                announced.acted.get_or_insert_with(Instant::now);
            } else if let Some(number) = line.strip_prefix("@sync ") {
                announced.syncs.extend(number.parse().map(|number| (number, Instant::now())));
            } else if let Some((name, value)) =
                line.strip_prefix("@fact ").and_then(|rest| rest.split_once(' '))
            {
                facts.insert(name.to_owned(), value.to_owned());
            } else if serving.is_some() && pace::is_question(line) {
                // The receiving end lives as long as this one.
                let _ = ask.send((line.to_owned(), facts.clone()));
            } else {
                words.push(line.to_owned());
            }
        });
        drop(ask);
        unanswered = serving.map_or_else(Vec::new, |serving| {
            let gone = |_| vec!["the thread that answers the script panicked".to_owned()];
            serving.join().unwrap_or_else(gone)
        });
        done
    });
    done.map_err(|error| {
        // The command in the middle of the error is of no use to people.
        let error = error.to_string();
        let end = error.rsplit("`: ").next().unwrap_or(&error);
        let words: Vec<String> = words.into_iter().chain(unanswered.iter().cloned()).collect();
        Error::new(format!("{end}; output of the script: {}", words.join(" / ")))
    })?;
    if unanswered.is_empty() {
        return Ok(());
    }
    // A background part of the script may have asked in vain.
    Err(Error::new(unanswered.join(" / ")))
}

pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

/// One word of a shell, from which `printf %b` makes the text.
pub(super) fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t");
    quoted(&text)
}
