//! Reads the SBOMs at start, and the configuration and its SBOMs again on SIGHUP, while systems are
//! watched.
//!
//! Files are read on other threads: SBOMs are large, and a file system may not answer. A thread
//! that gets no answer is left behind: the settings apply before the SBOMs are read, and a later
//! SIGHUP starts another thread.
//!
//! A key that needs a restart keeps its old value in the list of keys, so each SIGHUP names it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use panoptes_engine::container_config::ContainerConfig;
use panoptes_engine::watch::Attestation;
use panoptes_records::activities::Activity;
use panoptes_records::json::text::Text;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_tables::room;

use super::candidate::{Changes, Phase};
use super::metrics_port::serve_metrics;
use super::prepare::{NewMetrics, PreparedReload};
use super::scanners::workspaces;
use super::{ControlContext, ControlThread, POLL_INTERVAL, Systems};
use crate::config::{ChangedKey, Configuration, Effect, changed_keys, keys_with_old};
use crate::exit::{Exit, Failure};
use crate::request::{RequestError, WatchRequest};
use crate::sandbox::keep_those_of_loader;
use crate::sbom::{SbomFault, Sboms};
use crate::watch::clock_watch::{NewSettings, Reattach};
use crate::watch::missing_facts::Topic;
use crate::watch::outputs::{LogFolder, options};
use crate::watch::system_events::because;
use crate::watch::system_logs::log_place;
use crate::watch::threads::{TaskId, Urgency};

/// Reads all SBOMs of a configuration; a function of this type can replace that in tests.
pub(super) type LoadFn = fn(&Configuration) -> Result<Sboms, Vec<SbomFault>>;

/// What was read.
#[derive(Debug)]
pub(super) enum LoaderResult {
    /// The SBOMs at start.
    First(Result<Sboms, Vec<SbomFault>>),
    /// The configuration again, and how many were applied before.
    Configuration(u64, Result<Box<PreparedReload>, RequestError>),
    /// The SBOMs of a configuration that was read again, and its keys of SBOMs that have changed.
    Sboms(Box<WatchRequest>, Vec<ChangedKey>, Result<Sboms, Vec<SbomFault>>),
}

/// The tasks whose results count.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    /// The one that has read the configuration that applies.
    configuration: Option<TaskId>,
    /// The one that reads the SBOMs of that configuration.
    sboms: Option<TaskId>,
    /// The one that has to end next, for the last SIGHUP.
    awaited: Option<TaskId>,
    /// How many configurations were applied.
    pub(super) generation: u64,
    /// The one that reads the configuration, and since when.
    reading: Option<(TaskId, Instant)>,
    /// A configuration that applies when the sensor of flows has ended.
    waiting: Option<Box<PreparedReload>>,
}

/// How long a SIGHUP waits for the one before it: a file system may not answer.
const READING: Duration = Duration::from_secs(10);

impl ControlThread {
    /// Starts to read the SBOMs of the configuration.
    pub(super) fn read_sboms(&mut self) -> Result<(), Failure> {
        let (load, configuration) = (self.cx.work.load, self.cx.request.configuration.clone());
        self.start_loader(move || LoaderResult::First(load(&configuration))).map(drop)
    }

    /// Reads something on a thread that can do no more than that takes.
    fn start_loader(
        &mut self,
        run: impl FnOnce() -> LoaderResult + Send + 'static,
    ) -> Result<TaskId, Failure> {
        let messages = Arc::clone(&self.cx.messages);
        self.loader.start(Urgency::New, move |_| {
            keep_those_of_loader(&messages);
            run()
        })
    }

    /// Uses what was read meanwhile, and reads the configuration again if SIGHUP has requested it.
    ///
    /// # Errors
    ///
    /// The SBOMs can't be used at start.
    pub(super) fn collect_loaded(&mut self) -> Result<(), Failure> {
        while let Some(ended) = self.loader.next_ended() {
            self.reloads.awaited.take_if(|task| *task == ended.id);
            self.reloads.reading.take_if(|(task, _)| *task == ended.id);
            let unexpected = "reading the SBOMs ended unexpectedly; this is a bug in Panoptes";
            match ended.result {
                Ok(LoaderResult::First(sboms)) if !self.is_ready => {
                    self.cx.sboms = sboms.map_err(|faults| self.cx.report_faults(&faults))?;
                    self.is_ready = true;
                }
                Ok(LoaderResult::Configuration(before, new))
                    if self.reloads.configuration < Some(ended.id) =>
                {
                    self.reloads.configuration = Some(ended.id);
                    if before == self.reloads.generation {
                        self.reload(new);
                    } else {
                        // What it has opened, or could not open, may be in use by now.
                        self.cx.other_cores.free(new);
                        self.wants_reload = true;
                    }
                }
                Ok(LoaderResult::Sboms(new, changed, sboms))
                    if self.reloads.sboms == Some(ended.id) =>
                {
                    self.use_sboms(*new, &changed, sboms);
                }
                // A later request was faster.
                Ok(outdated) => self.cx.other_cores.free(outdated),
                Err(_) if self.is_ready => {
                    self.cx.note_problem(None, Topic::Configuration, Some(unexpected));
                }
                Err(_) => return Err(Failure::new(Exit::Failed, unexpected)),
            }
        }
        let has_ended = self.have_flows_ended();
        if let Some(new) = self.reloads.waiting.take_if(|_| has_ended) {
            self.use_configuration(*new);
        }
        if self.wants_reload && self.may_reload() {
            self.wants_reload = false;
            let present = self.present();
            let before = self.reloads.generation;
            let run = move || LoaderResult::Configuration(before, present.prepare());
            match self.start_loader(run) {
                Ok(task) => {
                    self.reloads.awaited = Some(task);
                    self.reloads.reading = Some((task, Instant::now()));
                }
                Err(failure) => {
                    self.cx.note_problem(None, Topic::Configuration, Some(&failure.message));
                }
            }
        }
        Ok(())
    }

    /// Whether the configuration may be read again now. What is opened for it must not be in use
    /// by the one before: that has to be read, unless that takes long, and its outputs to change.
    fn may_reload(&self) -> bool {
        let is_reading = self.reloads.reading.is_some_and(|(_, since)| since.elapsed() < READING);
        let is_waiting = is_reading || self.reloads.waiting.is_some();
        self.loader.has_room(Urgency::New) && !is_waiting && !self.outputs.are_changing()
    }

    /// Whether a request to read the configuration again is not carried out yet.
    pub(super) fn is_reloading(&self) -> bool {
        let is_waiting = self.reloads.waiting.is_some() || self.reloads.awaited.is_some();
        self.wants_reload || is_waiting
    }

    /// Uses SBOMs that were read again.
    fn use_sboms(
        &mut self,
        new: WatchRequest,
        changed: &[ChangedKey],
        sboms: Result<Sboms, Vec<SbomFault>>,
    ) {
        let keys: Vec<Text<'_>> = changed.iter().map(|key| key.path.as_str().into()).collect();
        match sboms {
            Ok(sboms) => {
                let has_changed = self.systems.take_sboms(&mut self.cx, &new, sboms);
                self.is_ready = true;
                let reason = "the SBOMs were read again";
                self.cx.messages.info(reason);
                if has_changed || !keys.is_empty() {
                    let keys = (!keys.is_empty()).then_some(keys.as_slice());
                    let details = SystemActivityDetails { keys, ..because(reason) };
                    self.cx.system_events.service(Activity::ConfigurationReloaded, &details);
                }
                let all = changed_keys(&self.cx.request.keys, &new.keys);
                let stays: Vec<_> = restarts(&all).collect();
                self.cx.request.keys = keys_with_old(&self.cx.request.keys, new.keys, &stays);
            }
            Err(faults) => {
                let failure = self.cx.report_faults(&faults);
                let without = self.systems.without_sboms(&self.cx);
                let reason = format!("the SBOMs are refused and not changed: {failure}{without}");
                self.cx.messages.error(&reason);
                self.cx.system_events.service(Activity::ConfigurationRefused, &because(&reason));
            }
        }
    }

    /// Applies what can change while running, as soon as the sensor of flows has ended, if it is to
    /// end.
    fn reload(&mut self, new: Result<Box<PreparedReload>, RequestError>) {
        let mut new = match new {
            Ok(new) => new,
            Err(refusal) => return self.cx.refuse_configuration(&refusal),
        };
        if self.is_ready_for(&mut new.flows) {
            self.use_configuration(*new);
        } else {
            self.reloads.waiting = Some(new);
        }
    }

    /// Applies a configuration, reports that, and begins to read its SBOMs.
    fn use_configuration(&mut self, new: PreparedReload) {
        self.reloads.generation += 1;
        let changed = changed_keys(&self.cx.request.keys, &new.read.keys);
        let read = Box::new(new.read.clone());
        self.apply(new);
        self.cx.report_reloaded(&changed);
        let (sboms, rest): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| key.effect == Effect::Sboms);
        let stays: Vec<&ChangedKey> = sboms.iter().chain(restarts(&rest)).collect();
        self.cx.request.keys = keys_with_old(&self.cx.request.keys, read.keys.clone(), &stays);
        let load = self.cx.work.load;
        let run = move || {
            let loaded = load(&read.configuration);
            LoaderResult::Sboms(read, sboms, loaded)
        };
        match self.start_loader(run) {
            // Those of an earlier configuration are not used any more.
            Ok(task) => {
                self.reloads.sboms = Some(task);
                // A later SIGHUP is awaited first.
                self.reloads.awaited.get_or_insert(task);
            }
            Err(failure) => {
                self.cx.note_problem(None, Topic::Configuration, Some(&failure.message));
            }
        }
    }

    /// Applies a configuration, whose outputs are open.
    fn apply(&mut self, mut new: PreparedReload) {
        // Its last records are for the outputs that it had.
        self.finish_flows(&new.flows);
        self.change_outputs(&mut new);
        self.change_metrics(&mut new);
        if let Some((limits, walker)) = new.larger.take() {
            let count = self.systems.scanners.states().len();
            let make = workspaces(limits, &self.systems.promised, count, &self.cx.shared.stop);
            self.systems.scanners.set_scratch(&make);
            self.systems.limits = limits;
            self.systems.walker = Arc::new(Mutex::new(walker));
        }
        let before = &self.cx.request.configuration;
        let after = &new.request.configuration;
        let has_other_exceptions = before.exceptions != after.exceptions;
        let has_other_patterns = before.output.redact != after.output.redact;
        if has_other_exceptions {
            self.cx.silenced.replace(after.exceptions());
            self.cx.figures.set_exceptions(self.cx.silenced.exceptions());
        }
        self.systems.change_systems(&mut self.cx, &new, has_other_exceptions || has_other_patterns);
        let PreparedReload { request, users, flows, .. } = new;
        self.change_flows(flows, &request.configuration);
        self.systems.users = users;
        let service = &request.configuration.service;
        self.cx.shared.set_pace(service);
        self.cx.messages.set_level(service.log_level);
        self.cx.messages.set_options(&options(&request.configuration.output));
        self.cx.system_events.set_default(&request.configuration);
        let keys = std::mem::take(&mut self.cx.request.keys);
        self.cx.request = request;
        self.cx.request.keys = keys;
        self.systems.renew_subjects(&mut self.cx);
        self.systems.apply_changes(&mut self.cx);
        // They may sleep for as long as the old interval was.
        self.systems.scanners.wake();
    }

    /// Has the outputs that the configuration wants from now on.
    fn change_outputs(&mut self, new: &mut PreparedReload) {
        let configuration = &new.request.configuration;
        let folder = new.folder.take();
        let is_known = |new: &LogFolder| self.folders.iter().any(|one| one.path == new.path);
        self.folders.extend(folder.clone().filter(|new| !is_known(new)));
        self.last_receiver = new.last_receiver;
        let place = log_place(configuration, folder.as_ref());
        let has_logs = place.is_some();
        let outputs = std::mem::take(&mut new.outputs);
        let logs = self.cx.system_events.set_outputs(outputs.wanted(), place);
        if !has_logs {
            self.outputs.remove_logs_of_systems();
        }
        self.outputs.apply(outputs, logs);
    }

    /// Answers requests for metrics at another port from now on, if it has changed.
    fn change_metrics(&mut self, new: &mut PreparedReload) {
        let server = match std::mem::replace(&mut new.metrics, NewMetrics::Stays) {
            NewMetrics::Stays => return,
            NewMetrics::Ends => None,
            NewMetrics::Becomes(server) => Some(server),
        };
        self.metrics_stop.store(true, Ordering::Relaxed);
        self.metrics_stop = Arc::default();
        let Some(server) = server else { return };
        let (figures, stop) = (&self.cx.figures, &self.metrics_stop);
        let started = serve_metrics(server, stop, figures, self.cx.other_cores, &self.cx.messages);
        if let Err(failure) = started {
            self.cx.note_problem(None, Topic::Configuration, Some(&failure.message));
        }
    }
}

impl Systems {
    /// Names the systems that are new and whose SBOMs could not be read, if there are any.
    fn without_sboms(&self, cx: &ControlContext) -> String {
        let present = self.candidates.iter().filter(|candidate| !candidate.is_gone());
        let systems = present.map(|candidate| &candidate.system);
        let lacking = systems.filter(|system| cx.sboms.lacks(&system.settings.sbom));
        let names: Vec<&str> = lacking.map(|system| system.name.as_str()).collect();
        if names.is_empty() {
            return String::new();
        }
        format!("; until they can be read, no program is checked of: {}", names.join(", "))
    }

    /// Uses other SBOMs. Returns whether a system has other ones than before.
    fn take_sboms(&mut self, cx: &mut ControlContext, new: &WatchRequest, sboms: Sboms) -> bool {
        let old = std::mem::replace(&mut cx.sboms, sboms);
        let of = |name: &str| {
            let named = new.systems.iter().find(|system| system.name == name);
            named.map_or(&new.configuration.default.sbom, |system| &system.settings.sbom)
        };
        let mut is_any_changed = false;
        for candidate in &mut self.candidates {
            let current = &mut candidate.system.settings.sbom;
            let list = of(&candidate.system.name);
            let changes = Changes {
                attestation: old.fingerprint(current) != cx.sboms.fingerprint(list),
                ..Changes::default()
            };
            is_any_changed |= changes.attestation;
            current.clone_from(list);
            candidate.note_changes(changes);
        }
        let request = &mut cx.request;
        request.configuration.default.sbom.clone_from(&new.configuration.default.sbom);
        for system in request.systems.iter_mut().chain(&mut request.configuration.systems) {
            system.settings.sbom.clone_from(of(&system.name));
        }
        // The contents of SBOMs take long to free.
        cx.other_cores.free(old);
        self.apply_changes(cx);
        is_any_changed
    }

    /// Passes changed settings to scanners. If that takes long, the others follow in the next
    /// round, so that signals do not wait.
    pub(super) fn apply_changes(&mut self, cx: &mut ControlContext) {
        let begin = Instant::now();
        for index in 0..self.candidates.len() {
            self.apply_changes_to(cx, index);
            if begin.elapsed() > POLL_INTERVAL {
                return;
            }
        }
    }

    /// Passes changed settings of a system to its scanner.
    pub(super) fn apply_changes_to(&mut self, cx: &mut ControlContext, index: usize) {
        let candidate = &mut self.candidates[index];
        let Phase::Scanned(scanned) = &mut candidate.phase else { return };
        let (name, settings) = (&candidate.system.name, &candidate.system.settings);
        let changes = std::mem::take(&mut scanned.changes);
        if changes.attestation {
            let attestation = room::touch(|| {
                Attestation::new(
                    &settings.limits,
                    cx.sboms.of(&settings.sbom),
                    ContainerConfig::from(&settings.containers).images,
                    crate::random::hash_key(),
                )
            });
            scanned.shared.attest_by(Box::new(attestation));
            let messages = cx.messages.of(&candidate.system);
            messages.info(format_args!("{name}: all running programs are checked again"));
        }
        if changes.containers || changes.policy {
            let containers = || Arc::new(ContainerConfig::from(&settings.containers));
            let policy = || {
                let redactor = cx.request.configuration.output.redactor();
                Box::new(settings.events.policy(cx.silenced.exceptions(), redactor))
            };
            scanned.shared.set_settings(NewSettings {
                subject: None,
                containers: changes.containers.then(containers),
                policy: changes.policy.then(policy),
            });
        }
        if changes.memory {
            scanned.shared.give_up(Reattach::Settings);
        }
    }
}

impl ControlContext {
    /// Reports the faults of SBOMs, and returns a failure that stands for all.
    fn report_faults(&mut self, faults: &[SbomFault]) -> Failure {
        for fault in faults {
            let path = fault.path.to_string_lossy();
            let details =
                SystemActivityDetails { path: Some((&*path).into()), ..because(&fault.reason) };
            self.system_events.service(fault.activity(), &details);
        }
        let reason = match faults {
            [fault] => fault.to_string(),
            faults => {
                for fault in faults {
                    self.messages.error(fault);
                }
                format!("{} SBOMs of the configuration can't be used", faults.len())
            }
        };
        Failure::new(Exit::Configuration, reason)
    }

    /// Reports that a configuration has mistakes.
    fn refuse_configuration(&mut self, refusal: &RequestError) {
        let mistakes = refusal.to_string().lines().collect::<Vec<_>>().join("; ");
        let reason = format!("the configuration is refused and not changed: {mistakes}");
        self.messages.error(&reason);
        let file = match refusal {
            RequestError::Report(report) => report.file.as_ref(),
            RequestError::Failure(_) => None,
        };
        let path = file.map(|file| file.to_string_lossy());
        let path = path.as_deref().map(Into::into);
        let details = SystemActivityDetails { path, ..because(&reason) };
        self.system_events.service(Activity::ConfigurationRefused, &details);
    }

    /// Reports what has changed, and what needs a restart.
    fn report_reloaded(&mut self, changed: &[ChangedKey]) {
        let of = |effect: Effect| -> Vec<Text<'_>> {
            let keys = changed.iter().filter(|key| key.effect == effect);
            keys.map(|key| key.path.as_str().into()).collect()
        };
        let (now, restart) = (of(Effect::Now), of(Effect::Restart));
        let reason = summary(now.len(), of(Effect::Sboms).len(), restart.len());
        if restart.is_empty() {
            self.messages.info(&reason);
        } else {
            let keys: Vec<&str> = restarts(changed).map(|key| key.path.as_str()).collect();
            self.messages.warning(format_args!("{reason}: {}", keys.join(", ")));
        }
        let details = SystemActivityDetails {
            keys: (!now.is_empty()).then_some(now.as_slice()),
            needs_restart: (!restart.is_empty()).then_some(restart.as_slice()),
            ..because(&reason)
        };
        self.system_events.service(Activity::ConfigurationReloaded, &details);
    }
}

/// The keys that need a restart.
fn restarts(changed: &[ChangedKey]) -> impl Iterator<Item = &ChangedKey> {
    changed.iter().filter(|key| key.effect == Effect::Restart)
}

/// How many keys have changed, in a sentence.
fn summary(now: usize, sboms: usize, restart: usize) -> String {
    let keys = |count: usize, one: &str, more: &str| match count {
        1 => format!("1 key {one}"),
        _ => format!("{count} keys {more}"),
    };
    let parts = [
        (now, keys(now, "has changed", "have changed")),
        (sboms, keys(sboms, "of SBOMs follows", "of SBOMs follow")),
        (restart, keys(restart, "needs a restart", "need a restart")),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text).collect();
    let what = match parts.split_last() {
        None => "nothing has changed".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{}, and {last}", others.join(", ")),
    };
    format!("the configuration was read again: {what}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};
    use crate::config::{ConfigKey, keys};
    use crate::watch::control::prepare::keep_until_restart;

    fn request(path: &str, value: &str) -> WatchRequest {
        let set = format!("{path}={value}");
        let arguments = Arguments::try_parse_from(["panoptes", "run", "--set", &set]).unwrap();
        let Command::Run(settings) = arguments.command else { panic!("{set}") };
        WatchRequest::run(settings, Path::new("/missing")).unwrap()
    }

    /// A value that differs from the default, for keys that have one without further conditions.
    fn other_value(key: &ConfigKey) -> Option<String> {
        let form = key.form.as_deref()?;
        match (form, &key.range) {
            (_, Some((least, greatest))) => {
                Some(if *least == key.default { greatest } else { least }.clone())
            }
            ("true or false", None) => Some((key.default == "false").to_string()),
            ("path" | "path or auto" | "path or none", None) => Some("/other".to_owned()),
            ("level", None) => Some("10".to_owned()),
            ("list: text" | "list: path or hash", None) => Some("[other]".to_owned()),
            ("preset, true or false", None) => Some("true".to_owned()),
            ("full or compact", None) => Some("compact".to_owned()),
            ("alerts, security or everything or auto", None) => Some("alerts".to_owned()),
            (_, None) => form.starts_with("INFO, LOW").then(|| "CRITICAL".to_owned()),
        }
    }

    /// As a reload does, with its SBOMs.
    fn applied(old: &WatchRequest, new: &WatchRequest) -> Configuration {
        let mut applied = new.clone();
        keep_until_restart(&mut applied, old);
        applied.configuration.default.sbom.clone_from(&new.configuration.default.sbom);
        applied.configuration
    }

    #[test]
    fn the_keys_that_apply_are_those_that_need_no_restart() {
        let mut count = 0;
        for key in keys() {
            let Some(value) = other_value(&key) else { continue };
            // Without `auto_scan` there is nothing to watch.
            if key.element().is_some() || key.path == "auto_scan" {
                continue;
            }
            let (old, new) = (request(&key.path, &key.default), request(&key.path, &value));
            let changed = changed_keys(&old.keys, &new.keys);
            let expected = ChangedKey { path: key.path.clone(), effect: key.effect() };
            assert_eq!(changed, [expected], "{value}");
            let is_applied = applied(&old, &new) == new.configuration;
            assert_eq!(is_applied, key.effect() != Effect::Restart, "{}", key.path);
            count += usize::from(is_applied);
        }
        assert!(count > 150, "{count}");
    }

    #[test]
    fn what_has_changed_is_a_sentence() {
        for (counts, expected) in [
            ((0, 0, 0), "nothing has changed"),
            ((2, 0, 0), "2 keys have changed"),
            ((0, 1, 0), "1 key of SBOMs follows"),
            ((2, 0, 1), "2 keys have changed, and 1 key needs a restart"),
            ((1, 2, 3), "1 key has changed, 2 keys of SBOMs follow, and 3 keys need a restart"),
        ] {
            let (now, sboms, restart) = counts;
            let expected = format!("the configuration was read again: {expected}");
            assert_eq!(summary(now, sboms, restart), expected);
        }
    }
}
