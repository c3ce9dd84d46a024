//! Reads the SBOMs at start, and the configuration and its SBOMs again on SIGHUP, while systems are
//! watched.
//!
//! Files are read on other threads: SBOMs are large, and a file system may not answer. A thread
//! that gets no answer is left behind: the settings apply before the SBOMs are read, and a later
//! SIGHUP starts another thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use panoptes_engine::container_config::ContainerConfig;
use panoptes_engine::watch::Attestation;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::text::Text;
use panoptes_sinks::record::system_activity::SystemActivityDetails;
use panoptes_tables::room;

use super::candidate::{Changes, Phase};
use super::threads::{TaskId, Urgency};
use super::{Control, LOOK};
use crate::config::{
    ChangedKey, Configuration, Effect, SystemSettings, changed_keys, keys_with_old,
};
use crate::exit::{Exit, Failure};
use crate::guests;
use crate::request::{Refusal, WatchRequest};
use crate::sbom::{Fault, Sboms};
use crate::watch::clock_watch::{NewSettings, Reattach};
use crate::watch::clocks::nanoseconds;
use crate::watch::problems::Topic;
use crate::watch::system_events::because;

/// Reads all SBOMs of a configuration; a function of this type can replace that in tests.
pub(super) type LoadFn = fn(&Configuration) -> Result<Sboms, Vec<Fault>>;

/// What was read.
#[derive(Debug)]
pub(super) enum Loaded {
    /// The SBOMs at start.
    First(Result<Sboms, Vec<Fault>>),
    /// The configuration again.
    Configuration(Result<Box<WatchRequest>, Refusal>),
    /// The SBOMs of a configuration that was read again, and its keys of SBOMs that have changed.
    Sboms(Box<WatchRequest>, Vec<ChangedKey>, Result<Sboms, Vec<Fault>>),
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
}

impl Control {
    /// Starts to read the SBOMs of the configuration.
    pub(super) fn read_sboms(&mut self) -> Result<(), Failure> {
        let (load, configuration) = (self.work.load, self.request.configuration.clone());
        let run = move |_: &_| Loaded::First(load(&configuration));
        self.loader.start(Urgency::New, run).map(drop)
    }

    /// Uses what was read meanwhile, and reads the configuration again if SIGHUP has requested it.
    ///
    /// # Errors
    ///
    /// The SBOMs can't be used at start.
    pub(super) fn collect_loaded(&mut self) -> Result<(), Failure> {
        while let Some(ended) = self.loader.next_ended() {
            self.reloads.awaited.take_if(|task| *task == ended.id);
            let unexpected = "reading the SBOMs ended unexpectedly; this is a bug in Panoptes";
            match ended.result {
                Ok(Loaded::First(sboms)) if !self.is_ready => {
                    self.sboms = sboms.map_err(|faults| self.report_faults(&faults))?;
                    self.is_ready = true;
                }
                Ok(Loaded::Configuration(new)) if self.reloads.configuration < Some(ended.id) => {
                    self.reloads.configuration = Some(ended.id);
                    self.reload(new);
                }
                Ok(Loaded::Sboms(new, changed, sboms)) if self.reloads.sboms == Some(ended.id) => {
                    self.use_sboms(*new, &changed, sboms);
                }
                // A later request was faster.
                Ok(outdated) => self.other_cores.free(outdated),
                Err(_) if self.is_ready => {
                    self.note_problem(None, Topic::Configuration, Some(unexpected));
                }
                Err(_) => return Err(Failure::new(Exit::Failed, unexpected)),
            }
        }
        if self.wants_reload && self.loader.has_room(Urgency::New) {
            self.wants_reload = false;
            let request = self.request.clone();
            let run = move |_: &_| Loaded::Configuration(request.reload().map(Box::new));
            match self.loader.start(Urgency::New, run) {
                Ok(task) => self.reloads.awaited = Some(task),
                Err(failure) => {
                    self.note_problem(None, Topic::Configuration, Some(&failure.message));
                }
            }
        }
        Ok(())
    }

    /// Whether a request to read the configuration again is not carried out yet.
    pub(super) fn is_reloading(&self) -> bool {
        self.wants_reload || self.reloads.awaited.is_some()
    }

    /// Reports the faults of SBOMs, and returns a failure that stands for all.
    fn report_faults(&mut self, faults: &[Fault]) -> Failure {
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

    /// Uses SBOMs that were read again.
    fn use_sboms(
        &mut self,
        new: WatchRequest,
        changed: &[ChangedKey],
        sboms: Result<Sboms, Vec<Fault>>,
    ) {
        let keys: Vec<Text<'_>> = changed.iter().map(|key| key.path.as_str().into()).collect();
        match sboms {
            Ok(sboms) => {
                let has_changed = self.take_settings(&new, Some(sboms));
                self.is_ready = true;
                let reason = "the SBOMs were read again";
                self.messages.info(reason);
                if has_changed || !keys.is_empty() {
                    let keys = (!keys.is_empty()).then_some(keys.as_slice());
                    let details = SystemActivityDetails { keys, ..because(reason) };
                    self.system_events.service(Activity::ConfigurationReloaded, &details);
                }
                let all = changed_keys(&self.request.keys, &new.keys);
                let stays: Vec<_> = restarts(&all).collect();
                self.request.keys = keys_with_old(&self.request.keys, new.keys, &stays);
            }
            Err(faults) => {
                let failure = self.report_faults(&faults);
                let reason = format!("the SBOMs are refused and not changed: {failure}");
                self.messages.error(&reason);
                self.system_events.service(Activity::ConfigurationRefused, &because(&reason));
            }
        }
    }

    /// Applies the settings that can change while running, and begins to read the SBOMs.
    fn reload(&mut self, new: Result<Box<WatchRequest>, Refusal>) {
        let new = match new {
            Ok(new) => new,
            Err(refusal) => return self.refuse_configuration(&refusal),
        };
        let changed = changed_keys(&self.request.keys, &new.keys);
        self.take_settings(&new, None);
        self.take_service(&new);
        self.report_reloaded(&changed);
        let (sboms, rest): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| key.effect == Effect::Sboms);
        let stays: Vec<&ChangedKey> = sboms.iter().chain(restarts(&rest)).collect();
        self.request.keys = keys_with_old(&self.request.keys, new.keys.clone(), &stays);
        let load = self.work.load;
        let run = move |_: &_| {
            let loaded = load(&new.configuration);
            Loaded::Sboms(new, sboms, loaded)
        };
        match self.loader.start(Urgency::New, run) {
            // Those of an earlier configuration are not used any more.
            Ok(task) => {
                self.reloads.sboms = Some(task);
                // A later SIGHUP is awaited first.
                self.reloads.awaited.get_or_insert(task);
            }
            Err(failure) => {
                self.note_problem(None, Topic::Configuration, Some(&failure.message));
            }
        }
    }

    /// Reports that a configuration has mistakes.
    fn refuse_configuration(&mut self, refusal: &Refusal) {
        let mistakes = refusal.to_string().lines().collect::<Vec<_>>().join("; ");
        let reason = format!("the configuration is refused and not changed: {mistakes}");
        self.messages.error(&reason);
        let file = match refusal {
            Refusal::Report(report) => report.file.as_ref(),
            Refusal::Failure(_) => None,
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

    /// Applies the settings of the service that can change while running.
    fn take_service(&mut self, new: &WatchRequest) {
        let service = &new.configuration.service;
        self.shared.interval_ns.store(nanoseconds(service.scan_interval), Ordering::Relaxed);
        // They may sleep for as long as the old one was.
        self.scanners.wake();
        self.messages.set_level(service.log_level);
        if service.guest_users != self.request.configuration.service.guest_users {
            self.users = guests::Users::of(&service.guest_users);
        }
        adopt_service(&mut self.request.configuration, &new.configuration);
    }

    /// Sets the new SBOMs, filters of containers and events of every system. `sboms` is `None` if
    /// they stay as they are. Returns whether a system has other SBOMs than before.
    fn take_settings(&mut self, new: &WatchRequest, sboms: Option<Sboms>) -> bool {
        let takes_sboms = sboms.is_some();
        let old = sboms.map(|sboms| std::mem::replace(&mut self.sboms, sboms));
        let of = |name: &str| {
            let named = new.systems.iter().find(|system| system.name == name);
            named.map_or(&new.configuration.default, |system| &system.settings)
        };
        let (now, mut is_any_changed) = (Instant::now(), false);
        let has_other_exceptions =
            self.request.configuration.exceptions != new.configuration.exceptions;
        if has_other_exceptions {
            self.silenced.replace(new.configuration.exceptions());
        }
        for candidate in &mut self.candidates {
            let (name, current) = (&candidate.system.name, &mut candidate.system.settings);
            let settings = of(name);
            let has_other_sboms = old.as_ref().is_some_and(|old| {
                old.fingerprint(&current.sbom) != self.sboms.fingerprint(&settings.sbom)
            });
            is_any_changed |= has_other_sboms;
            let before = current.clone();
            adopt(current, settings, takes_sboms);
            let mut changes = Changes::between(&before, current, has_other_sboms);
            changes.policy |= has_other_exceptions;
            match &mut candidate.phase {
                Phase::Scanned(scanned) => scanned.changes |= changes,
                Phase::Attaching(attaching) => attaching.changes |= changes,
                // The user may have repaired what made the attempts fail.
                Phase::Waiting(waiting) => waiting.restart(now),
                Phase::Gone => {}
            }
        }
        let request = &mut self.request;
        adopt_all(&mut request.configuration, &new.configuration, takes_sboms);
        self.system_events.set_events(&request.configuration.default.events);
        for system in request.systems.iter_mut().chain(&mut request.configuration.systems) {
            adopt(&mut system.settings, of(&system.name), takes_sboms);
        }
        // The contents of SBOMs take long to free.
        self.other_cores.free(old);
        self.apply_changes();
        is_any_changed
    }

    /// Passes changed settings to scanners. If that takes long, the others follow in the next
    /// round, so that signals do not wait.
    pub(super) fn apply_changes(&mut self) {
        let begin = Instant::now();
        for candidate in &mut self.candidates {
            let Phase::Scanned(scanned) = &mut candidate.phase else { continue };
            let (name, settings) = (&candidate.system.name, &candidate.system.settings);
            let changes = std::mem::take(&mut scanned.changes);
            if changes.attestation {
                let attestation = room::touch(|| {
                    Attestation::new(
                        &settings.limits,
                        self.sboms.of(&settings.sbom),
                        ContainerConfig::from(&settings.containers).images,
                        crate::random::hash_key(),
                    )
                });
                scanned.shared.attest_by(Box::new(attestation));
                self.messages.info(format_args!("{name}: all running programs are checked again"));
            }
            if changes.containers || changes.policy {
                let containers = || Arc::new(ContainerConfig::from(&settings.containers));
                let policy = || Box::new(settings.events.policy(self.silenced.exceptions()));
                scanned.shared.set_settings(NewSettings {
                    containers: changes.containers.then(containers),
                    policy: changes.policy.then(policy),
                });
            }
            if changes.memory {
                scanned.shared.give_up(Reattach::Settings);
            }
            if begin.elapsed() > LOOK {
                return;
            }
        }
    }
}

/// Copies the settings of a system that can change while running.
fn adopt(into: &mut SystemSettings, from: &SystemSettings, with_sboms: bool) {
    if with_sboms {
        into.sbom.clone_from(&from.sbom);
    }
    into.containers.clone_from(&from.containers);
    // What outputs have changes only with them.
    let preset = into.events.preset;
    into.events.clone_from(&from.events);
    into.events.preset = preset;
}

/// Copies what applies to all systems and can change while running.
fn adopt_all(into: &mut Configuration, from: &Configuration, with_sboms: bool) {
    into.exceptions.clone_from(&from.exceptions);
    adopt(&mut into.default, &from.default, with_sboms);
}

/// Copies the settings of the service that can change while running.
fn adopt_service(into: &mut Configuration, from: &Configuration) {
    let service = &mut into.service;
    service.immediate_shutdown = from.service.immediate_shutdown;
    service.log_level = from.service.log_level;
    service.scan_interval = from.service.scan_interval;
    service.guest_users.clone_from(&from.service.guest_users);
    // For the systems that are attached to from now on.
    into.profile_generation = from.profile_generation;
    into.built_in_profiles = from.built_in_profiles;
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
    use crate::config::{Key, keys};

    fn request(path: &str, value: &str) -> WatchRequest {
        let set = format!("{path}={value}");
        let arguments = Arguments::try_parse_from(["panoptes", "run", "--set", &set]).unwrap();
        let Command::Run(settings) = arguments.command else { panic!("{set}") };
        WatchRequest::run(settings, Path::new("/missing")).unwrap()
    }

    /// A value that differs from the default, for keys that have one without further conditions.
    fn other_value(key: &Key) -> Option<String> {
        let form = key.form.as_deref()?;
        match (form, &key.range) {
            (_, Some((least, _))) => Some(least.clone()),
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

    /// As a reload does, of what is configured.
    fn adopted(mut old: WatchRequest, new: &WatchRequest) -> Configuration {
        adopt_service(&mut old.configuration, &new.configuration);
        adopt_all(&mut old.configuration, &new.configuration, true);
        old.configuration
    }

    #[test]
    fn the_keys_that_are_adopted_are_those_that_need_no_restart() {
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
            let is_adopted = adopted(old, &new) == new.configuration;
            assert_eq!(is_adopted, key.effect() != Effect::Restart, "{}", key.path);
            count += usize::from(is_adopted);
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
