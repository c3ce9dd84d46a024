//! Passes the systems that are due to workers, and what these have attached to to scanners.

use std::sync::Arc;
use std::time::Instant;

use panoptes_records::activities::Activity;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_sources::{AnySource, DetectedFormat};

use super::candidate::{AttachAttempt, Changes, Phase, RebootCheck, ScannedSystem, SearchedSystem};
use super::search::{AttachTask, AttachedSystem, NotAttached};
use super::{ControlContext, ControlThread, FIRST_KERNEL_WAIT, GUEST_CHECK_INTERVAL, Systems};
use crate::config::{Mode, System};
use crate::exit::{Exit, Failure};
use crate::watch::clock_watch::{KernelIdentity, SystemShared};
use crate::watch::missing_facts::Topic;
use crate::watch::scanner;
use crate::watch::system_events::{Notice, because};
use crate::watch::threads::{EndedTask, Urgency};

/// The result of a worker's task.
#[derive(Debug)]
pub(super) enum WorkerOutcome {
    Attached(Result<Box<AttachedSystem>, NotAttached>),
    /// The kernel that runs in a system whose clock stands still, or why that is not known.
    Checked(Result<Option<KernelIdentity>, String>),
}

impl ControlThread {
    /// Starts the tasks that are due, as far as there are workers.
    pub(super) fn start_due_tasks(&mut self) {
        let now = Instant::now();
        let candidates = self.systems.candidates.iter().enumerate();
        let mut due: Vec<(Instant, usize)> = candidates
            .filter_map(|(index, candidate)| Some((candidate.due()?, index)))
            .filter(|(due, index)| *due <= now && !self.systems.is_held_back(*index))
            .collect();
        // The system that has waited longest is next.
        due.sort_unstable();
        for (_, index) in due {
            match self.systems.candidates[index].phase {
                Phase::Waiting(waiting)
                    if self.systems.workers.has_room(waiting.urgency())
                        && !self.systems.waits_for_another(index) =>
                {
                    self.start_search(index, waiting);
                }
                Phase::Scanned(_) if self.systems.workers.has_room(Urgency::Again) => {
                    self.systems.start_check(&mut self.cx, index);
                }
                _ => {}
            }
        }
    }

    fn start_search(&mut self, index: usize, waiting: AttachAttempt) {
        let candidate = &mut self.systems.candidates[index];
        let is_retry = std::mem::replace(&mut candidate.is_retry, true);
        let system = Arc::new(candidate.to_attach());
        candidate.address_use = Some(self.systems.in_use.add(&system.address));
        let is_spare = candidate.spare_of.is_some();
        if !is_spare {
            // From now on, metrics show that it is not watched.
            let _ = self.cx.figures.system(&system.name);
            // Another machine may run there now.
            self.cx.system_events.forget_machine(&system.name);
        }
        if !waiting.has_failed {
            let reason = format!("looking for a kernel in {}", system.address);
            let activity = Activity::HostInitializationStarted;
            self.cx.system_events.host(&system, activity, &because(&reason));
        }
        let search = AttachTask {
            configuration: self.cx.request.configuration.clone(),
            shipped: self.cx.sboms.of(&system.settings.sbom),
            exceptions: self.cx.silenced.exceptions(),
            header: self.cx.system_events.header_for(&system),
            boot_ids: Arc::clone(&self.cx.boot_ids),
            in_use: self.systems.in_use.clone(),
            machines: self.systems.functions.machines.clone(),
            traffic_link: self.flows.traffic_link_of(&system.name),
            is_found: candidate.is_found,
            spare_of: candidate.spare_of.clone(),
            owner: candidate.owner.clone(),
            census: Arc::clone(&self.systems.names.census),
            promised: self.systems.promised.clone(),
            walker: Arc::clone(&self.systems.walker),
            messages: Arc::clone(&self.cx.messages),
            notices: self.cx.notices.0.clone(),
            users: self.systems.users.clone(),
            is_retry,
            seen: candidate.seen.clone(),
            is_silent: waiting.has_failed,
            is_patient: waiting.is_patient(),
            is_failure_reported: waiting.is_failure_reported,
            system,
        };
        let run = self.cx.work.search;
        let started = self.systems.workers.start(waiting.urgency(), move |is_cancelled| {
            WorkerOutcome::Attached(run(search, is_cancelled))
        });
        match started {
            Ok(task) => {
                let changes = Changes::default();
                let attaching = SearchedSystem { task, waiting, changes };
                self.systems.candidates[index].phase = Phase::Attaching(attaching);
            }
            Err(failure) => {
                self.systems.report_failure(&mut self.cx, index, waiting, failure.into());
            }
        }
    }
}

impl Systems {
    /// Starts the check whether another kernel runs in a machine whose clock stands still.
    fn start_check(&mut self, cx: &mut ControlContext, index: usize) {
        let candidate = &mut self.candidates[index];
        let system = candidate.to_attach();
        let Phase::Scanned(scanned) = &mut candidate.phase else { return };
        let (configuration, find) = (cx.request.configuration.clone(), cx.work.find_again);
        let started = self.workers.start(Urgency::Again, move |is_cancelled| {
            WorkerOutcome::Checked(find(&system, &configuration, is_cancelled))
        });
        match started {
            Ok(task) => scanned.check = RebootCheck::Running(task),
            Err(failure) => self.fail_task(cx, index, failure.into()),
        }
    }

    /// Handles what workers have reported and the tasks that they have ended.
    pub(super) fn collect_tasks(&mut self, cx: &mut ControlContext) {
        while let Some(ended) = self.workers.next_ended() {
            // What the task reported precedes its result.
            self.report_notices(cx);
            self.collect(cx, ended);
        }
        self.report_notices(cx);
    }

    pub(super) fn report_notices(&mut self, cx: &mut ControlContext) {
        while let Ok(notice) = cx.notices.1.try_recv() {
            // A search that was cancelled may report something of a system that is gone.
            // What it began with may have changed since then.
            let known = notice.system().map(|system| self.known(&system.name).cloned());
            if matches!(known, Some(None)) {
                continue;
            }
            match notice {
                Notice::Activity { system, os_version, activity, reason, profile } => {
                    let profile = profile.as_deref().map(Into::into);
                    let details = SystemActivityDetails { profile, ..because(&reason) };
                    let os_version = os_version.as_deref();
                    let system = known.flatten().unwrap_or_else(|| (*system).clone());
                    cx.system_events.search(&system, os_version, activity, &details);
                }
                Notice::Problem { system, topic, reason } => {
                    cx.note_problem(system.as_deref(), topic, reason.as_deref());
                }
            }
        }
        for reason in cx.boot_ids.take_problems() {
            let activity = Activity::DetailsGatheringFailed;
            cx.system_events.service(activity, &because(&reason));
        }
    }

    fn collect(&mut self, cx: &mut ControlContext, ended: EndedTask<WorkerOutcome>) {
        let index = self.candidates.iter().position(|candidate| candidate.has_task(ended.id));
        let Some(index) = index else {
            // Its system was removed, or attached to again.
            cx.other_cores.free(ended.result.ok());
            return;
        };
        match ended.result {
            Ok(WorkerOutcome::Attached(Ok(attached))) => self.assign(cx, index, *attached),
            Ok(WorkerOutcome::Attached(Err(error))) => self.fail_task(cx, index, error),
            Ok(WorkerOutcome::Checked(found)) => {
                let system = self.candidates[index].system.clone();
                let problem = found.as_ref().err().map(String::as_str);
                cx.note_problem(Some(&system), Topic::Kernel, problem);
                self.compare_kernels(cx, index, found.ok().flatten().as_ref());
            }
            Err(_) => {
                let name = &self.candidates[index].system.name;
                let message =
                    format!("{name}: a worker ended unexpectedly; this is a bug in Panoptes");
                self.fail_task(cx, index, Failure::new(Exit::Failed, message).into());
            }
        }
    }

    fn fail_task(&mut self, cx: &mut ControlContext, index: usize, error: NotAttached) {
        match &mut self.candidates[index].phase {
            Phase::Attaching(attaching) => {
                let waiting = attaching.waiting;
                self.report_failure(cx, index, waiting, error);
            }
            Phase::Scanned(scanned) => {
                scanned.check = RebootCheck::None;
                let system = self.candidates[index].system.clone();
                let reason = about(&system, &error.failure);
                cx.note_problem(Some(&system), Topic::Kernel, Some(reason));
            }
            Phase::Waiting(_) | Phase::Gone => {}
        }
    }

    /// Passes a system to its scanner.
    fn assign(&mut self, cx: &mut ControlContext, index: usize, attached: AttachedSystem) {
        let candidate = &mut self.candidates[index];
        let Phase::Attaching(SearchedSystem { changes, .. }) = candidate.phase else { return };
        let AttachedSystem { watched, source, address, owner, address_use, .. } = attached;
        let AttachedSystem { found, same, release, build_id, process, took, .. } = attached;
        if candidate.guest.is_some() {
            // Until its guest ends, it is this process.
            candidate.address_use = address_use.or_else(|| candidate.address_use.take());
            candidate.system.address = address;
            candidate.owner = owner.or_else(|| candidate.owner.take());
        }
        let took_ms = took.as_secs_f64() * 1e3;
        let of = process.map_or_else(String::new, |process| format!(" of {process}"));
        // Another function of the machine may have been used before.
        let through = if candidate.is_found_function() {
            format!(" through {}", candidate.system.address)
        } else {
            String::new()
        };
        let reason =
            format!("Linux {release}{of} is being watched{through}, found in {took_ms:.0} ms");
        candidate.spare_of = None;
        let details = SystemActivityDetails {
            profile: build_id.as_deref().map(Into::into),
            ..because(&reason)
        };
        let subject = cx.system_events.subject_of(&candidate.system);
        let machine = watched.known_machine().copy();
        let figures = cx.figures.system(&candidate.system.name);
        figures.set_watched(true);
        let shared = Arc::new(SystemShared::of(subject, machine, figures));
        cx.system_events.know(&candidate.system, shared.machine());
        let activity = Activity::HostInitializationSuccessful;
        cx.system_events.host(&candidate.system, activity, &details);
        let messages = cx.messages.of(&candidate.system);
        messages.info(format_args!("{}: {reason}", candidate.system.name));
        let layout = match &source {
            AnySource::Guest(memory) => memory.planned(),
            _ => &[],
        };
        let limits = candidate.system.settings.limits;
        let mut scanned = ScannedSystem::new(found, Arc::clone(&shared), layout);
        // The search began with the settings of that time. The first scan needs those of today.
        scanned.changes = changes;
        candidate.phase = Phase::Scanned(scanned);
        if let AnySource::File(source) = &source
            && source.format() == DetectedFormat::Raw
        {
            candidate.is_raw = true;
        }
        if !std::mem::replace(&mut self.is_attached, true) {
            self.report_first_failure(cx);
        }
        self.apply_changes_to(cx, index);
        if let Some(same) = same {
            self.yield_to_named(&same);
        }
        self.scanners.add(index, scanner::System::new(watched, source, shared, limits));
    }

    /// Reports why a system could not be attached to, and sets the next attempt.
    pub(super) fn report_failure(
        &mut self,
        cx: &mut ControlContext,
        index: usize,
        waiting: AttachAttempt,
        error: NotAttached,
    ) {
        let NotAttached { failure, searched, is_early, instead } = error;
        let address = self.candidates[index].system.address.clone();
        self.candidates[index].address_use = None;
        self.functions.machines.remove(&address);
        if let Some(instead) = instead {
            return self.keep_spare(cx, index, *instead);
        }
        let spare_of = &mut self.candidates[index].spare_of;
        if spare_of.take_if(|used| self.functions.machines.has(used)).is_some() {
            // It was compared, and gives another machine's memory now.
            self.candidates[index].uncompared = 0;
        }
        let ends_it = cx.request.mode == Mode::Watch && !self.is_attached && self.finder.is_none();
        let is_new = !waiting.is_failure_reported && !is_early;
        if is_new {
            let system = &self.candidates[index].system;
            let reason = about(system, &failure);
            cx.system_events.host(system, Activity::HostInitializationFailed, &because(reason));
        }
        let messages = cx.messages.of(&self.candidates[index].system);
        if is_new && !ends_it {
            messages.error(&failure);
        } else if is_early && !waiting.has_failed && !ends_it {
            messages.info(format_args!("{failure}; waiting for a kernel to start"));
        } else if !waiting.has_failed && failure.exit == Exit::NoKernel {
            // A failure that ends the program is reported when it ends.
            messages.info(format_args!(
                "{failure}; waiting up to {} s for a kernel to start",
                FIRST_KERNEL_WAIT.as_secs()
            ));
        }
        let candidate = &mut self.candidates[index];
        let is_reported = waiting.is_failure_reported || is_new;
        candidate.unreported =
            (!is_reported).then(|| about(&candidate.system, &failure).to_owned());
        let took = searched.as_ref().map(|searched| searched.took);
        candidate.searched = searched.and_then(|searched| searched.outside);
        let mut waiting = waiting.next(took, Instant::now());
        waiting.is_failure_reported = is_reported;
        if candidate.guest.is_some() && took.is_none() {
            // The guest may start at any time.
            waiting = waiting.within(GUEST_CHECK_INTERVAL, Instant::now());
        } else if is_early {
            // A kernel may start at any time.
            waiting =
                waiting.within(took.unwrap_or_default().max(GUEST_CHECK_INTERVAL), Instant::now());
        }
        candidate.phase = Phase::Waiting(waiting);
        self.use_spare(cx, index);
        self.first_failure.get_or_insert(failure);
    }

    /// Reports why systems could not be attached to for which the program waits no longer.
    pub(super) fn report_unreported(&mut self, cx: &mut ControlContext) {
        for candidate in &mut self.candidates {
            if let Some(reason) = candidate.unreported.take().filter(|_| candidate.is_waiting()) {
                let (system, activity) = (&candidate.system, Activity::HostInitializationFailed);
                cx.system_events.host(system, activity, &because(&reason));
            }
        }
    }

    /// Reports a failure that was expected to end the program, but another system works.
    fn report_first_failure(&mut self, cx: &mut ControlContext) {
        let ended_it = cx.request.mode == Mode::Watch && self.finder.is_none();
        if let Some(failure) = self.first_failure.take_if(|_| ended_it)
            && failure.exit != Exit::NoKernel
        {
            cx.messages.error(failure);
        }
    }
}

impl ControlContext {
    /// Reports what could not be found out of a system, or of this machine, once until it changes;
    /// without a reason, all is well.
    pub(super) fn note_problem(
        &mut self,
        system: Option<&System>,
        topic: Topic,
        reason: Option<&str>,
    ) {
        let name = system.map_or("", |system| &system.name);
        if !self.problems.is_new((name, topic), reason, Instant::now()) {
            return;
        }
        let (activity, reason) = (Activity::DetailsGatheringFailed, reason.unwrap_or_default());
        if let Some(system) = system {
            self.messages.of(system).warning(format_args!("{name}: {reason}"));
            self.system_events.host(system, activity, &because(reason));
        } else {
            self.messages.warning(reason);
            self.system_events.service(activity, &because(reason));
        }
    }
}

/// The text of a failure without the name of the system that it is about: a record has that.
fn about<'a>(system: &System, failure: &'a Failure) -> &'a str {
    let text = failure.message.strip_prefix(&*system.name);
    text.and_then(|text| text.strip_prefix(": ")).unwrap_or(&failure.message)
}
