//! Alerts of `panoptes scan`: runs every detector until nothing is left to do, and names what was
//! not checked, with the reason.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use panoptes_engine::policy::gaps::words_of;
use panoptes_engine::time::{Monotonic, Now, RealTime};
use panoptes_engine::walk::{Losses, Scope};
use panoptes_engine::watch::{SLICE_BYTES, Setup, WatchedMachine, Workspace};
use panoptes_profiles::Profile;
use panoptes_records::activities::{Activity, MessageType};
use panoptes_records::filter::Filter;
use panoptes_records::people::{LineStyle, line};
use panoptes_records::queue::{Consumer, QueueSize, Waker, queue};
use panoptes_sources::{AnySource, MachineSource as _};
use serde_json::Value;

use super::damage::Damage;
use super::{SCAN_ATTEMPTS_MAX, ScanLog, attach_to, verdict};
use crate::attach::warn_losses;
use crate::exit::{Exit, Failure, print};
use crate::message::{Messages, wants_colour};
use crate::random;
use crate::record_header::header_of_system;
use crate::request::ScanRequest;
use crate::sbom::Sboms;
use crate::watched::{kind_of_copy, setup};

/// Least number of scans: the first one remembers what there is, and a forked process gets one more
/// scan to execute a program.
const SCANS_MIN: u32 = 3;
/// Most scans. A live machine may always have something left to do.
const SCANS_MAX: u32 = 32;
/// The longest pause between two scans of a live machine. A user waits, so what takes longer is
/// left to `panoptes watch`.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// The records that are printed.
const ALERTS: Filter = Filter { alerts_only: true, ..Filter::ALL };

/// What the detectors reported, and what they could not see.
pub(super) struct Detection {
    /// Records with their line feeds.
    alerts: Vec<Vec<u8>>,
    pub(super) damage: Damage,
    pub(super) losses: Losses,
    /// What was not checked, and why, beside the damage.
    not_checked: Vec<String>,
}

/// Prints the alerts of a system, and messages about what was not found.
pub(super) fn print_alerts(request: &ScanRequest, messages: &Messages) -> Result<Exit, Failure> {
    let sboms = sboms(request)?;
    let log =
        request.configuration.output.log_folder.as_deref().map(ScanLog::create).transpose()?;
    let (mut source, profile) = attach_to(request, Instant::now(), messages)?;
    let found = check(request, (&mut source, &profile), &sboms)?;
    if let Some(mut log) = log {
        log.write(&found.alerts.concat());
        log.end()?;
    }
    print(&found.text(request))?;
    warn_losses(&source, &request.system, messages);
    let name = &request.system.name;
    if found.alerts.is_empty() {
        messages.info(format_args!("{name}: no alerts"));
    }
    for what in &found.not_checked {
        messages.info(format_args!("{name}: not checked: {what}"));
    }
    Ok(verdict(&found.losses, &found.damage, request, messages))
}

impl Detection {
    /// The alerts: lines on a terminal or on request, else records.
    fn text(&self, request: &ScanRequest) -> Vec<u8> {
        let is_terminal = io::stdout().is_terminal();
        if request.json || !is_terminal && !request.lines {
            return self.alerts.concat();
        }
        let style = LineStyle { has_colours: wants_colour(is_terminal), ..LineStyle::default() };
        let lines = self.records().map(|record| line(&record, style) + "\n");
        lines.collect::<String>().into_bytes()
    }

    fn records(&self) -> impl Iterator<Item = Value> {
        self.alerts.iter().map(|record| serde_json::from_slice(record).unwrap_or_default())
    }

    /// What was not checked, and why, with what could not be read.
    pub(super) fn not_checked(&self) -> Vec<String> {
        let damage = (!self.damage.is_none()).then(|| self.damage.text());
        damage.into_iter().chain(self.not_checked.iter().cloned()).collect()
    }

    /// The number of alerts of each activity.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for record in self.records() {
            let name = record["activity_data"]["name"].as_str().unwrap_or_default();
            *counts.entry(name.to_owned()).or_default() += 1;
        }
        counts
    }
}

/// Reads the SBOMs that the configuration names for the system.
pub(super) fn sboms(request: &ScanRequest) -> Result<Sboms, Failure> {
    Sboms::load(&request.configuration).map_err(|faults| {
        let first = faults.first().map(ToString::to_string).unwrap_or_default();
        Failure::new(Exit::Configuration, first)
    })
}

/// Runs the detectors.
pub(super) fn check(
    request: &ScanRequest,
    (source, profile): (&mut AnySource, &Profile),
    sboms: &Sboms,
) -> Result<Detection, Failure> {
    let mut watched = watched(request, (source, profile), sboms);
    let mut workspace = Workspace::new(&request.system.settings.limits, random::hash_key());
    let (mut producer, mut consumer) = queue(QueueSize::default(), &Waker::default());
    let start = Instant::now();
    let (mut scans, mut failures) = (0, 0);
    let mut alerts = Vec::new();
    while scans < SCANS_MIN || scans < SCANS_MAX && !watched.has_settled() {
        while watched.has_work() {
            watched.work(&mut workspace, source, SLICE_BYTES);
        }
        if scans > 0 && !source.is_still() {
            sleep(request.configuration.service.scan_interval.min(PAUSE_MAX));
        }
        source.refresh();
        let scanned = watched.scan(&mut workspace, source, now(start), &mut producer);
        producer.flush();
        take_alerts(&mut consumer, &mut alerts);
        match scanned {
            Ok(()) => scans += 1,
            Err(error) => {
                failures += 1;
                if source.is_still() || failures == SCAN_ATTEMPTS_MAX {
                    let message = format!("{}: {error}", request.system.name);
                    return Err(Failure::new(Exit::NoKernel, message));
                }
            }
        }
    }
    let snapshot = workspace.snapshot();
    let damage = Damage::of(snapshot, Scope::ALL);
    let losses = snapshot.losses;
    let mut not_checked = unsuited(request);
    not_checked.insert(0, unseen(source.is_still(), scans, start.elapsed()));
    not_checked.extend(gaps(&watched));
    watched.finish(&mut workspace, now(start), &mut producer);
    producer.flush();
    take_alerts(&mut consumer, &mut alerts);
    Ok(Detection { alerts, damage, losses, not_checked })
}

fn watched(
    request: &ScanRequest,
    (source, profile): (&AnySource, &Profile),
    sboms: &Sboms,
) -> WatchedMachine {
    let ScanRequest { system, configuration, .. } = request;
    let settings = &system.settings;
    let header = header_of_system(configuration, system);
    let exceptions = Arc::new(configuration.exceptions());
    let shipped = sboms.of(&settings.sbom);
    let mut watched =
        WatchedMachine::new(Setup { shipped, ..setup(system, header, exceptions, profile) });
    watched.set_copied(kind_of_copy(source));
    watched.set_command_lines(settings.user_memory.command_lines);
    watched.set_redactor(configuration.output.redactor());
    watched
}

fn now(start: Instant) -> Now {
    let passed = i64::try_from(start.elapsed().as_nanos()).unwrap_or(i64::MAX);
    let since_1970 = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let real = i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX);
    Now { monotonic: Monotonic::from_ns(passed), real: RealTime::from_ns(real) }
}

/// Takes the alerts among the records that wait.
fn take_alerts(consumer: &mut Consumer, alerts: &mut Vec<Vec<u8>>) {
    while let Some(block) = consumer.pop() {
        let mut run = block.next_wanted(&ALERTS, 0);
        while !run.is_empty() {
            alerts.extend(run.clone().map(|index| block.slice(index, 1).to_vec()));
            run = block.next_wanted(&ALERTS, run.end);
        }
        consumer.give_back(block);
    }
}

/// What the detectors would see in a longer time.
fn unseen(is_still: bool, scans: u32, elapsed: Duration) -> String {
    if is_still {
        return "what changes (contents of files, executable permissions, the clock, shells that \
                take turns with a peer): that needs a machine that runs"
            .to_owned();
    }
    let seconds = elapsed.as_secs_f64();
    format!("what happens later: these were {scans} scans in {seconds:.1} s; use `panoptes watch`")
}

/// What the detectors cannot check with what is configured.
fn unsuited(request: &ScanRequest) -> Vec<String> {
    let settings = &request.system.settings;
    let mut not_checked = Vec::new();
    not_checked.push(
        "connections that the kernel hides: that needs the machine's packets (`panoptes flow \
         --system`)"
            .to_owned(),
    );
    if settings.sbom.is_empty() {
        not_checked.push(
            "programs and libraries against what was shipped: no SBOM is configured (`sbom`; \
             `panoptes sbom build` makes one)"
                .to_owned(),
        );
    }
    if !settings.user_memory.shell_history {
        not_checked.push("histories of shells: `user_memory.shell_history` is off".to_owned());
    }
    let off: Vec<&str> = Activity::ALL
        .iter()
        .filter(|one| one.info().message_type == MessageType::Alert)
        .filter(|one| !settings.events.is_enabled(**one))
        .map(|one| one.name())
        .collect();
    if !off.is_empty() {
        not_checked.push(format!("{}: off under `events`", off.join(", ")));
    }
    not_checked
}

/// What scans missed, with its number.
fn gaps(watched: &WatchedMachine) -> impl Iterator<Item = String> {
    let gaps = watched.gaps().into_iter().enumerate().filter(|&(_, count)| count > 0);
    gaps.map(|(gap, count)| format!("{count} {}", words_of(gap)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_machine_is_said_to_be_checked_for_its_time_only() {
        let live = unseen(false, 3, Duration::from_millis(240));
        assert_eq!(live, "what happens later: these were 3 scans in 0.2 s; use `panoptes watch`");
        assert!(unseen(true, 3, Duration::ZERO).contains("a machine that runs"));
    }
}
