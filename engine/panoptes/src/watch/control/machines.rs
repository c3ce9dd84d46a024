//! Follows machines while they are watched: guests start and end, clocks stand still, memory is
//! plugged in.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use panoptes_records::activities::Activity;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_sinks::panics::caught;

use super::candidate::{Outside, Phase, RebootCheck, ScannedSystem, SystemCandidate};
use super::scanners::{LostSystem, UnscannedSystem};
use super::{ControlContext, ControlThread, MEMORY_CHECK_INTERVAL, Systems};
use crate::config::{LogLevel, Mode, System, SystemAddress};
use crate::guests::{self, Guest};
use crate::watch::clock_watch::{KernelIdentity, Reattach};
use crate::watch::clocks::wall_clock_ns;
use crate::watch::finder::{Watchable, is_same};
use crate::watch::gap_messages::GapMessage;
use crate::watch::missing_facts::Topic;
use crate::watch::scanner;
use crate::watch::system_events::because;
use crate::watch::threads::Urgency;
use crate::watch::unscanned::SilenceReport;

/// A search for a kernel that takes longer is reported.
const SEARCH_LONG: Duration = Duration::from_mins(10);
/// The same for looks at processes and files.
const HOST_SURVEY_LONG: Duration = Duration::from_mins(1);

/// State of the names of guests.
#[derive(Debug, Default)]
pub(super) struct GuestNames {
    /// To whom they belong.
    owners: guests::GuestNameOwners,
    /// The guests that run.
    pub(super) census: Arc<Mutex<guests::Census>>,
    /// Guests that the configuration leaves out, if that was reported.
    left_out: BTreeSet<u32>,
}

/// What a look at this machine's processes and files has shown.
#[derive(Debug)]
pub(super) struct HostSurvey {
    /// The guests, if they were looked for.
    guests: Option<io::Result<Vec<Guest>>>,
    /// Comparison of the memory of systems; `None` if nothing is known.
    memory: Vec<(SystemAddress, Option<Outside>)>,
}

impl HostSurvey {
    /// What a look for guests has shown.
    #[cfg(test)]
    pub(super) fn of_guests(guests: io::Result<Vec<Guest>>) -> Self {
        Self { guests: Some(guests), memory: Vec::new() }
    }
}

impl ScannedSystem {
    /// Gives the system up if the layout of its memory in QEMU has changed.
    fn check_layout(&mut self, outside: Option<Outside>) {
        // If the guest has ended, the scanner detects that.
        let Some(Outside::Guest(layout)) = outside else { return };
        // Wait for two equal layouts: while memory is plugged in, more is mapped than is used.
        if layout != self.opened_layout && layout == self.last_layout {
            self.shared.give_up(Reattach::Memory);
        }
        self.last_layout = layout;
    }
}

impl ControlThread {
    /// Reports scans and tasks that do not end: a file system or a process does not answer. Each is
    /// reported once.
    pub(super) fn check_waits(&mut self) {
        while let Some(index) = self.systems.scanners.next_stuck() {
            let Some(candidate) = self.systems.candidates.get(index) else { continue };
            self.cx.report_wait(&candidate.system.clone(), "a scan has not ended for 10 s");
        }
        while let Some(task) = self.systems.workers.next_overdue(SEARCH_LONG) {
            let mut candidates = self.systems.candidates.iter();
            let Some(candidate) = candidates.find(|it| it.has_task(task)) else { continue };
            self.cx.report_wait(&candidate.system.clone(), "a search has not ended for 10 minutes");
        }
        let looks =
            self.systems.lookout.next_overdue(HOST_SURVEY_LONG).map(|_| "looking for guests");
        let loads = self.loader.next_overdue(HOST_SURVEY_LONG).map(|_| "reading the configuration");
        let functions = self.systems.functions.next_overdue();
        for what in looks.into_iter().chain(loads).chain(functions) {
            let reason = format!("{what} has not ended for a minute: something does not answer");
            self.cx.messages.warning(&reason);
            self.cx.system_events.service(Activity::DetailsGatheringFailed, &because(&reason));
        }
    }
}

impl Systems {
    /// Starts a look at guests and at the memory of systems, if it is due. It waits for other
    /// processes, so another thread does it.
    pub(super) fn look_around(&mut self, cx: &mut ControlContext) {
        let now = Instant::now();
        if !self.lookout.has_room(Urgency::New) {
            return;
        }
        let finds = self.finder.as_mut().is_some_and(|finder| finder.begins(now));
        let mut addresses = Vec::new();
        if now >= self.next_memory {
            self.next_memory = now + MEMORY_CHECK_INTERVAL;
            let watched = self.candidates.iter().filter(|candidate| candidate.wants_look());
            addresses.extend(watched.map(|candidate| candidate.system.address.clone()));
        }
        if !finds && addresses.is_empty() {
            return;
        }
        let (users, census) = (self.users.clone(), Arc::clone(&self.names.census));
        let started = self.lookout.start(Urgency::New, move |_| {
            let look = |address: SystemAddress| {
                let outside = Outside::of(&address, &users);
                (address, outside)
            };
            let guests =
                finds.then(|| census.lock().unwrap_or_else(PoisonError::into_inner).renew(&users));
            HostSurvey { guests, memory: addresses.into_iter().map(look).collect() }
        });
        if let Err(failure) = started {
            cx.note_problem(None, Topic::Guests, Some(&failure.message));
        }
    }

    /// Uses what the last look has shown.
    pub(super) fn collect_sightings(&mut self, cx: &mut ControlContext) {
        while let Some(ended) = self.lookout.next_ended() {
            let Ok(sighting) = ended.result else {
                let what = "looking for guests ended unexpectedly; this is a bug in Panoptes";
                cx.note_problem(None, Topic::Guests, Some(what));
                continue;
            };
            self.use_sighting(cx, sighting);
        }
    }

    pub(super) fn use_sighting(&mut self, cx: &mut ControlContext, sighting: HostSurvey) {
        match sighting.guests {
            Some(Ok(guests)) => self.take_guests(cx, guests),
            Some(Err(error)) => {
                let reason = format!("cannot list this machine's processes: {error}");
                cx.note_problem(None, Topic::Guests, Some(&reason));
            }
            None => {}
        }
        for (address, outside) in sighting.memory {
            self.compare_memory(&address, outside);
        }
    }

    /// Uses the guests that a look has found.
    fn take_guests(&mut self, cx: &mut ControlContext, found: Vec<Guest>) {
        cx.note_problem(None, Topic::Guests, None);
        let Some(finder) = &mut self.finder else { return };
        let patterns = &cx.request.configuration.auto_scan_guests;
        let Watchable { guests, obstacles } =
            finder.watchable(found, |guest| patterns.takes(guest));
        for obstacle in obstacles {
            cx.messages.warning(&obstacle);
            cx.system_events.service(Activity::DetailsGatheringFailed, &because(&obstacle));
        }
        self.update_guests(cx, &guests);
    }

    /// Adds new guests, and removes those that ended while they waited to be attached.
    pub(super) fn update_guests(&mut self, cx: &mut ControlContext, guests: &[Guest]) {
        if let Some(finder) = &mut self.finder {
            finder.has_looked = true;
        }
        let now = Instant::now();
        let mut ended = Vec::new();
        for SystemCandidate { system, is_found, phase, .. } in &mut self.candidates {
            let is_guest = *is_found && !matches!(system.address, SystemAddress::Doca { .. });
            if !is_guest || guests.iter().any(|guest| is_same(system, guest)) {
                continue;
            }
            match phase {
                Phase::Waiting(_) => {
                    *phase = Phase::Gone;
                    ended.push(system.name.clone());
                }
                // The worker reports the failure; then the system waits.
                Phase::Attaching(attaching) => self.workers.cancel(attaching.task),
                Phase::Scanned(_) | Phase::Gone => {}
            }
        }
        for name in &ended {
            self.forget(cx, name);
        }
        self.yield_to_names(cx, guests);
        self.names.left_out.retain(|pid| guests.iter().any(|guest| guest.pid == *pid));
        for guest in guests {
            let mut known = self.candidates.iter().filter(|candidate| !candidate.is_gone());
            if known.any(|candidate| candidate.is_guest(guest, guests)) {
                continue;
            }
            if !self.takes(cx, guest) {
                continue;
            }
            let address = SystemAddress::Qemu(guest.pid);
            let named = guests::name_of(guest, guests, &mut self.names.owners, |name| {
                let mut known = self.candidates.iter().filter(|candidate| !candidate.is_gone());
                // A guest that has ended does not keep its name.
                let is_there = |candidate: &SystemCandidate| {
                    let is_it = |guest| is_same(&candidate.system, guest);
                    !candidate.is_found || candidate.is_found_function() || guests.iter().any(is_it)
                };
                known.any(|candidate| candidate.system.name == name && is_there(candidate))
            });
            let name = named.name;
            let settings = cx.request.configuration.default.clone();
            let system = System { name, address, settings };
            let (name, address) = (&system.name, &system.address);
            cx.messages.of(&system).info(format_args!("{name}: found as {address}"));
            let candidate = SystemCandidate::new(system, now, true);
            if let Some(ambiguity) = named.ambiguity {
                self.report_ambiguity(cx, guest, guests, &candidate.system, &ambiguity);
            }
            self.add(candidate);
        }
        self.guests = guests.to_vec();
    }

    /// Whether the configuration takes a guest; says once that it does not.
    fn takes(&mut self, cx: &mut ControlContext, guest: &Guest) -> bool {
        let takes = cx.request.configuration.auto_scan_guests.takes(guest);
        if takes {
            self.names.left_out.remove(&guest.pid);
        } else if self.names.left_out.insert(guest.pid) {
            let name = guest.name.as_deref().unwrap_or("a guest");
            let pid = guest.pid;
            cx.messages.info(format_args!("{name} (qemu:{pid}): auto_scan leaves it out"));
        }
        takes
    }

    /// Ends watching guests that were found and are systems with a name now, and attaches to those
    /// at once: two had the name before, or the guest has just started.
    fn yield_to_names(&mut self, cx: &mut ControlContext, guests: &[Guest]) {
        let mut removed = Vec::new();
        for index in 0..self.candidates.len() {
            let candidate = &self.candidates[index];
            if !matches!(candidate.system.address, SystemAddress::Guest(_)) {
                continue;
            }
            let Some(guest) = guests.iter().find(|guest| candidate.is_guest(guest, guests)) else {
                continue;
            };
            if let Phase::Waiting(waiting) = &mut self.candidates[index].phase {
                waiting.restart(Instant::now());
            }
            let found = |other: &SystemCandidate| {
                other.is_found
                    && !other.is_leaving
                    && !other.is_gone()
                    && is_same(&other.system, guest)
            };
            if let Some(other) = self.candidates.iter().position(found) {
                removed.extend(self.remove(cx, other));
            }
        }
        for name in removed {
            self.forget(cx, &name);
        }
    }

    /// Reports that a new guest has the name of others, for it and for each of them.
    fn report_ambiguity(
        &mut self,
        cx: &mut ControlContext,
        guest: &Guest,
        all: &[Guest],
        new: &System,
        ambiguity: &str,
    ) {
        cx.messages.of(new).warning(ambiguity);
        let has_name = |system: &System| {
            Some(&system.name) == guest.name.as_ref()
                || all.iter().any(|one| one.name == guest.name && is_same(system, one))
        };
        let known = self.candidates.iter().filter(|candidate| !candidate.is_gone());
        let known = known.map(|candidate| &candidate.system).filter(|system| has_name(system));
        for system in known.chain([new]) {
            let activity = Activity::DetailsGatheringFailed;
            cx.system_events.host(system, activity, &because(ambiguity));
        }
    }

    /// Has it checked whether another kernel runs in machines whose clocks stand still.
    pub(super) fn check_stopped_clocks(&mut self) {
        for SystemCandidate { phase, .. } in &mut self.candidates {
            let Phase::Scanned(scanned) = phase else { continue };
            if scanned.shared.take_standstill() && matches!(scanned.check, RebootCheck::None) {
                scanned.check = RebootCheck::Due(Instant::now());
            }
        }
    }

    /// Attaches to a system again if another kernel runs in it now. `found` is `None` if none was
    /// found.
    pub(super) fn compare_kernels(
        &mut self,
        cx: &mut ControlContext,
        index: usize,
        found: Option<&KernelIdentity>,
    ) {
        let SystemCandidate { system, phase, .. } = &mut self.candidates[index];
        let Phase::Scanned(scanned) = phase else { return };
        scanned.check = RebootCheck::None;
        if found.is_some_and(|found| *found != scanned.found) {
            scanned.shared.give_up(Reattach::Kernel);
        } else if !std::mem::replace(&mut scanned.is_standstill_logged, true) {
            cx.messages.of(system).debug(format_args!(
                "{}: its clock stands still: it is paused, or has ended",
                system.name
            ));
        }
    }

    /// Reports guests whose processors run while their clocks stand still: scans do not show what
    /// runs there.
    pub(super) fn check_stalls(&mut self, cx: &mut ControlContext) {
        let now = Instant::now();
        for SystemCandidate { system, phase, .. } in &mut self.candidates {
            let (Phase::Scanned(scanned), SystemAddress::Qemu(pid)) = (phase, &system.address)
            else {
                continue;
            };
            if !scanned.shared.is_still() {
                scanned.stall.clear();
                continue;
            }
            if !scanned.stall.is_due(now) {
                continue;
            }
            // If the guest has ended, the scanner detects that.
            let Ok(cpu_time) = guests::cpu_time::of_processors(*pid) else { continue };
            let Some((used, still)) = scanned.stall.look(cpu_time, now) else { continue };
            let reason = format!(
                "the kernel's clock has stood still for {:.1} s, while the virtual processors used \
                 {:.1} s of CPU time: scans do not show what runs",
                still.as_secs_f64(),
                used.as_secs_f64()
            );
            cx.messages.of(system).warning(format_args!("{}: {reason}", system.name));
            cx.system_events.host(system, Activity::SystemStalled, &because(&reason));
        }
    }

    /// Reports systems that are not scanned because a scan of their scanner does not end: their
    /// scanner cannot do so.
    pub(super) fn check_unscanned(&mut self, cx: &mut ControlContext) {
        let (now, real_ns) = (Instant::now(), wall_clock_ns());
        let interval = cx.shared.interval_ns.load(Ordering::Relaxed).max(1);
        let unscanned = self.scanners.unscanned();
        let mut reports = Vec::new();
        for (index, candidate) in self.candidates.iter_mut().enumerate() {
            let Phase::Scanned(scanned) = &mut candidate.phase else { continue };
            let of_it = unscanned.iter().find(|it| it.index == index).copied();
            let silent_for = of_it.map(|it| Duration::from_nanos(it.ns));
            let report = scanned.silence.look(silent_for, now, real_ns);
            reports.extend(report.map(|report| (index, report, of_it)));
        }
        for (index, report, of_it) in reports {
            let system = self.candidates[index].system.clone();
            let (activity, since_ns, reason) = match (report, of_it) {
                (SilenceReport::Lasts { since_ns }, Some(UnscannedSystem { cause, ns, .. })) => {
                    let cause = self.candidates.get(cause).map_or("", |it| &it.system.name);
                    let seconds = Duration::from_nanos(ns).as_secs_f64();
                    let reason = format!(
                        "not scanned for {seconds:.1} s: the memory of {cause} does not answer"
                    );
                    (Activity::CoverageDegraded, since_ns, reason)
                }
                (SilenceReport::Lasts { since_ns } | SilenceReport::IsOver { since_ns }, _) => {
                    (Activity::CoverageRestored, since_ns, "it is scanned again".to_owned())
                }
            };
            cx.messages.of(&system).warning(format_args!("{}: {reason}", system.name));
            let details = SystemActivityDetails {
                gap: Some("scans"),
                missed: of_it.map(|it| it.ns / interval),
                since_iso_8601_ns: Some(Timestamp::from_ns(since_ns)),
                ..because(&reason)
            };
            cx.system_events.host(&system, activity, &details);
        }
    }

    /// Attaches to a guest again if QEMU has plugged memory in or out. Memory without a kernel is
    /// searched again if it is another, and a search ends with its guest.
    fn compare_memory(&mut self, address: &SystemAddress, outside: Option<Outside>) {
        let mut candidates = self.candidates.iter_mut();
        let candidate = candidates
            .find(|candidate| candidate.system.address == *address && candidate.wants_look());
        let Some(SystemCandidate { phase, searched, .. }) = candidate else { return };
        match phase {
            Phase::Waiting(waiting) if outside != *searched => waiting.restart(Instant::now()),
            Phase::Attaching(attaching) if outside.is_none() => {
                self.workers.cancel(attaching.task);
            }
            Phase::Scanned(scanned) => scanned.check_layout(outside),
            Phase::Waiting(_) | Phase::Attaching(_) | Phase::Gone => {}
        }
    }

    /// Handles a system that can't be scanned any more: reports it, and retries or removes it.
    pub(super) fn lose(&mut self, cx: &mut ControlContext, lost: LostSystem<scanner::System>) {
        let LostSystem { slot, gone, has_panicked } = lost;
        let candidate = &mut self.candidates[slot.index];
        // No other guest gets the process id that a user has named.
        let is_named = cx.request.mode == Mode::Watch && candidate.is_process();
        let is_gone = candidate.is_leaving || (candidate.is_found || is_named) && gone.has_ended;
        let mut is_requested = false;
        if let Phase::Scanned(ScannedSystem { check, shared, .. }) = &candidate.phase {
            is_requested = shared.given_up().is_some_and(Reattach::is_requested) && !has_panicked;
            if let RebootCheck::Running(task) = *check {
                self.workers.cancel(task);
            }
        }
        // What has panicked may be half changed, and is read only here.
        let seen = caught(|| slot.system.watched.seen()).ok().flatten();
        candidate.seen = seen.or_else(|| candidate.seen.take());
        candidate.address_use = None;
        self.functions.machines.remove(&candidate.system.address);
        let system = candidate.system.clone();
        cx.figures.system(&system.name).set_watched(false);
        let reason = if has_panicked {
            format!("its scan panicked, and it is attached to again: {}", gone.reason)
        } else {
            gone.reason
        };
        let messages = cx.messages.of(&system);
        let level = if is_requested { LogLevel::Info } else { LogLevel::Warning };
        messages.say(level, format_args!("{}: {reason}", system.name));
        messages.info(format_args!("{}: {}", system.name, slot.stats));
        let was_silent = match &mut candidate.phase {
            Phase::Scanned(scanned) => scanned.silence.look(None, Instant::now(), wall_clock_ns()),
            _ => None,
        };
        self.release_process(slot.index);
        let goes_on = !has_panicked && self.replace_function(cx, slot.index);
        let is_gone = is_gone && !goes_on;
        let candidate = &mut self.candidates[slot.index];
        if is_gone {
            candidate.phase = Phase::Gone;
            if let Some(finder) = &mut self.finder {
                finder.note_end(&system.address);
            }
        } else if has_panicked {
            let pause = candidate.panics.add(Instant::now());
            candidate.wait_for(pause);
        } else {
            candidate.wait_again();
        }
        if let Some(SilenceReport::IsOver { since_ns }) = was_silent {
            let details = SystemActivityDetails {
                gap: Some("scans"),
                since_iso_8601_ns: Some(Timestamp::from_ns(since_ns)),
                ..because("it is not watched any more")
            };
            cx.system_events.host(&system, Activity::CoverageRestored, &details);
        }
        let activity = if has_panicked {
            Activity::ServiceRuntimeFailure
        } else {
            Activity::DetailsGatheringFailed
        };
        if !is_requested {
            cx.system_events.host(&system, activity, &because(&reason));
        }
        if is_gone {
            self.forget(cx, &system.name);
        }
        cx.other_cores.free(slot);
    }

    /// Forgets the process of a system that is named by its guest, whichever process that has next.
    fn release_process(&mut self, index: usize) {
        let SystemCandidate { system, guest: Some(name), .. } = &mut self.candidates[index] else {
            return;
        };
        let before = std::mem::replace(&mut system.address, SystemAddress::Guest(name.clone()));
        if let Some(finder) = &mut self.finder {
            finder.note_end(&before);
        }
    }

    /// The system of this name, if it is watched, or about to be.
    pub(super) fn known(&self, name: &str) -> Option<&System> {
        let known = self.candidates.iter().find(|one| !one.is_gone() && one.system.name == name);
        known.map(|candidate| &candidate.system)
    }

    /// Ends the log of a system that is gone, and forgets its problems, unless another one has its
    /// name now.
    pub(super) fn forget(&mut self, cx: &mut ControlContext, name: &str) {
        if self.known(name).is_none() {
            cx.system_events.forget(name);
            cx.problems.forget(name);
            cx.figures.forget(name);
        }
    }

    /// Writes messages about what scans begin to miss, and when that is over.
    pub(super) fn report_missed(&mut self, cx: &mut ControlContext) {
        for SystemCandidate { system, phase, .. } in &mut self.candidates {
            let Phase::Scanned(scanned) = phase else { continue };
            let (name, messages) = (&system.name, cx.messages.of(system));
            if let Some(used) = scanned.shared.take_used() {
                cx.other_cores.free(used);
            }
            for message in scanned.gaps.update(&scanned.shared.gaps) {
                match message {
                    GapMessage::Begins(text) => {
                        messages.warning(format_args!("{name}: {text}"));
                    }
                    GapMessage::IsOver(text) => messages.info(format_args!("{name}: {text}")),
                }
            }
        }
    }
}

impl ControlContext {
    fn report_wait(&mut self, system: &System, what: &str) {
        let reason = format!("{what}: its memory is slow, or does not answer");
        self.messages.of(system).warning(format_args!("{}: {reason}", system.name));
        self.system_events.host(system, Activity::DetailsGatheringFailed, &because(&reason));
    }
}
