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
use panoptes_sinks::record::system_activity::SystemActivityDetails;
use panoptes_tables::room;

use super::candidate::{Changes, Phase};
use super::threads::{TaskId, Urgency, nanoseconds};
use super::{Control, LOOK};
use crate::config::{Configuration, System, SystemSettings};
use crate::exit::{Exit, Failure};
use crate::request::{Refusal, WatchRequest};
use crate::sbom::{Fault, Sboms};
use crate::watch::clock_watch::NewSettings;
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
    /// The SBOMs of a configuration that was read again.
    Sboms(Box<WatchRequest>, Result<Sboms, Vec<Fault>>),
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
                Ok(Loaded::Sboms(new, sboms)) if self.reloads.sboms == Some(ended.id) => {
                    self.use_sboms(&new, sboms);
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
    fn use_sboms(&mut self, new: &WatchRequest, sboms: Result<Sboms, Vec<Fault>>) {
        match sboms {
            Ok(sboms) => {
                self.take_settings(new, Some(sboms));
                self.is_ready = true;
                self.messages.info("the SBOMs were read again");
            }
            Err(faults) => {
                let failure = self.report_faults(&faults);
                self.messages
                    .error(format_args!("the SBOMs are refused and not changed: {failure}"));
            }
        }
    }

    /// Applies the settings that can change while running, and begins to read the SBOMs.
    fn reload(&mut self, new: Result<Box<WatchRequest>, Refusal>) {
        let new = match new {
            Ok(new) => new,
            Err(refusal) => {
                self.messages
                    .error(format_args!("the configuration is refused and not changed: {refusal}"));
                return;
            }
        };
        self.take_settings(&new, None);
        let interval = new.configuration.service.scan_interval;
        self.shared.interval_ns.store(nanoseconds(interval), Ordering::Relaxed);
        // They may sleep for as long as the old one was.
        self.scanners.wake();
        self.messages.set_level(new.configuration.service.log_level);
        if fixed(&new) == fixed(&self.request) {
            self.messages.info("the configuration was read again");
        } else {
            self.messages.warning(
                "the scan interval, the log level, the settings of containers and the thresholds \
                 of connections were read again, and the SBOMs follow; the other changes of the \
                 configuration need a restart",
            );
        }
        self.request.configuration.service.scan_interval = interval;
        self.request.configuration.service.log_level = new.configuration.service.log_level;
        let load = self.work.load;
        let run = move |_: &_| {
            let sboms = load(&new.configuration);
            Loaded::Sboms(new, sboms)
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

    /// Sets the new SBOMs, filters of containers and thresholds of every system. `sboms` is `None`
    /// if they stay as they are.
    fn take_settings(&mut self, new: &WatchRequest, sboms: Option<Sboms>) {
        let takes_sboms = sboms.is_some();
        let old = sboms.map(|sboms| std::mem::replace(&mut self.sboms, sboms));
        let of = |name: &str| {
            let named = new.systems.iter().find(|system| system.name == name);
            named.map_or(&new.configuration.default, |system| &system.settings)
        };
        let now = Instant::now();
        for candidate in &mut self.candidates {
            let (name, current) = (&candidate.system.name, &mut candidate.system.settings);
            let settings = of(name);
            let has_other_sboms = old.as_ref().is_some_and(|old| {
                old.fingerprint(&current.sbom) != self.sboms.fingerprint(&settings.sbom)
            });
            let changes = Changes::between(current, settings, has_other_sboms);
            adopt(current, settings, takes_sboms);
            match &mut candidate.phase {
                Phase::Scanned(scanned) => scanned.changes |= changes,
                Phase::Attaching(attaching) => attaching.changes |= changes,
                // The user may have repaired what made the attempts fail.
                Phase::Waiting(waiting) => waiting.restart(now),
                Phase::Gone => {}
            }
        }
        let request = &mut self.request;
        adopt(&mut request.configuration.default, &new.configuration.default, takes_sboms);
        for system in request.systems.iter_mut().chain(&mut request.configuration.systems) {
            adopt(&mut system.settings, of(&system.name), takes_sboms);
        }
        // The contents of SBOMs take long to free.
        self.other_cores.free(old);
        self.apply_changes();
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
            if changes.containers || changes.thresholds {
                let containers = || Arc::new(ContainerConfig::from(&settings.containers));
                scanned.shared.set_settings(NewSettings {
                    containers: changes.containers.then(containers),
                    thresholds: changes.thresholds.then_some(settings.events.thresholds),
                });
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
    into.events.thresholds = from.events.thresholds;
}

/// The settings that can't change while running.
fn fixed(request: &WatchRequest) -> (Configuration, Vec<System>) {
    let (mut configuration, mut systems) = (request.configuration.clone(), request.systems.clone());
    let unset = Configuration::defaults(request.mode);
    configuration.service.scan_interval = unset.service.scan_interval;
    configuration.service.log_level = unset.service.log_level;
    adopt(&mut configuration.default, &unset.default, true);
    for system in systems.iter_mut().chain(&mut configuration.systems) {
        adopt(&mut system.settings, &unset.default, true);
    }
    (configuration, systems)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};
    use crate::config::{Key, RELOADED, keys};

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

    #[test]
    fn the_keys_that_are_read_again_are_the_documented_ones() {
        let mut count = 0;
        for key in keys() {
            let Some(value) = other_value(&key) else { continue };
            // Without `auto_scan` there is nothing to watch.
            let is_of_one = key.path.starts_with("systems.") || key.path.contains("[0]");
            if is_of_one || key.path == "auto_scan" {
                continue;
            }
            let (old, new) = (request(&key.path, &key.default), request(&key.path, &value));
            assert_ne!(old.configuration, new.configuration, "{}", key.path);
            let is_documented = RELOADED.iter().any(|path| key.path.starts_with(path));
            assert_eq!(fixed(&old) == fixed(&new), is_documented, "{}", key.path);
            count += usize::from(is_documented);
        }
        // `containers` is two keys here.
        assert_eq!(count, RELOADED.len() + 1);
    }
}
