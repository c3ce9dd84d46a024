//! SIGHUP: reads the configuration and its SBOMs again while systems are watched.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use panoptes_engine::container_config::ContainerConfig;
use panoptes_engine::watch::Attestation;
use panoptes_sinks::record::system_activity::SystemActivityDetails;

use super::Control;
use super::candidate::Phase;
use super::threads::nanoseconds;
use crate::config::{Configuration, ContainerFilter, Reference, Thresholds};
use crate::exit::{Exit, Failure};
use crate::request::{Refusal, WatchRequest};
use crate::sbom::Sboms;
use crate::watch::scanner::Command;
use crate::watch::system_events::because;

impl Control {
    /// Reads the SBOMs of the configuration, or reports all their faults.
    pub(super) fn read_sboms(&mut self) -> Result<(), Failure> {
        self.sboms = self.load_sboms(&self.request.configuration.clone())?;
        Ok(())
    }

    fn load_sboms(&mut self, configuration: &Configuration) -> Result<Sboms, Failure> {
        let faults = match Sboms::load(configuration) {
            Ok(sboms) => return Ok(sboms),
            Err(faults) => faults,
        };
        for fault in &faults {
            let path = fault.path.to_string_lossy();
            let details =
                SystemActivityDetails { path: Some((&*path).into()), ..because(&fault.reason) };
            self.system_events.service(fault.activity(), &details);
        }
        let reason = match faults.as_slice() {
            [fault] => fault.to_string(),
            faults => {
                for fault in faults {
                    self.messages.error(fault);
                }
                format!("{} SBOMs of the configuration can't be used", faults.len())
            }
        };
        Err(Failure::new(Exit::Configuration, reason))
    }

    /// Reads the configuration again, and applies the settings that can change while running.
    pub(super) fn reload(&mut self) {
        let new = match self.request.reload() {
            Ok(new) => new,
            Err(refusal) => {
                let reason = match refusal {
                    Refusal::Failure(failure) => failure.to_string(),
                    Refusal::Report(report) => report.to_string(),
                };
                self.messages
                    .error(format_args!("the configuration is refused and not changed: {reason}"));
                return;
            }
        };
        // The SBOMs first, since they may be refused.
        match self.load_sboms(&new.configuration) {
            Ok(sboms) => self.take_sboms(&new, sboms),
            Err(failure) => {
                self.messages
                    .error(format_args!("the SBOMs are refused and not changed: {failure}"));
            }
        }
        self.take_containers(&new);
        self.take_thresholds(&new);
        let interval = new.configuration.service.scan_interval;
        self.shared.interval_ns.store(nanoseconds(interval), Ordering::Relaxed);
        self.messages.set_level(new.configuration.service.log_level);
        if fixed(&new) == fixed(&self.request) {
            self.messages.info("the configuration was read again");
        } else {
            self.messages.warning(
                "the scan interval, the log level, the SBOMs, the settings of containers and the \
                 thresholds of connections were read again; the other changes of the \
                 configuration need a restart",
            );
        }
        self.request.configuration.service.scan_interval = interval;
        self.request.configuration.service.log_level = new.configuration.service.log_level;
    }

    /// Sets the new SBOMs of every system. If their contents differ, or the images of containers
    /// differ, all running programs are checked again.
    fn take_sboms(&mut self, new: &WatchRequest, sboms: Sboms) {
        let old = std::mem::replace(&mut self.sboms, sboms);
        let default = &new.configuration.default.sbom;
        let of = |name: &str, list: &mut Vec<Reference>| {
            let named = new.systems.iter().find(|system| system.name == name);
            list.clone_from(named.map_or(default, |system| &system.settings.sbom));
        };
        let request = &mut self.request;
        request.configuration.default.sbom.clone_from(default);
        for system in request.systems.iter_mut().chain(&mut request.configuration.systems) {
            of(&system.name, &mut system.settings.sbom);
        }
        for candidate in &mut self.candidates {
            let system = &mut candidate.system;
            let named = new.systems.iter().find(|one| one.name == system.name);
            let settings = named.map_or(&new.configuration.default, |system| &system.settings);
            let is_other = old.fingerprint(&system.settings.sbom)
                != self.sboms.fingerprint(&settings.sbom)
                || system.settings.containers.images != settings.containers.images;
            system.settings.sbom.clone_from(&settings.sbom);
            if let Phase::Scanned(scanned) = &candidate.phase
                && is_other
            {
                scanned.shared.attest_by(Box::new(Attestation::new(
                    &system.settings.limits,
                    self.sboms.of(&settings.sbom),
                    ContainerConfig::from(&settings.containers).images,
                    crate::random::hash_key(),
                )));
                let name = &system.name;
                self.messages.info(format_args!("{name}: all running programs are checked again"));
            }
        }
    }

    /// Sets the new filters of containers.
    fn take_containers(&mut self, new: &WatchRequest) {
        let of = |name: &str| {
            let named = new.systems.iter().find(|system| system.name == name);
            &named.map_or(&new.configuration.default, |system| &system.settings).containers
        };
        let request = &mut self.request;
        request.configuration.default.containers.clone_from(&new.configuration.default.containers);
        for system in request.systems.iter_mut().chain(&mut request.configuration.systems) {
            system.settings.containers.clone_from(of(&system.name));
        }
        for (index, candidate) in self.candidates.iter_mut().enumerate() {
            let system = &mut candidate.system;
            let containers = of(&system.name);
            if system.settings.containers == *containers {
                continue;
            }
            system.settings.containers.clone_from(containers);
            let config = Arc::new(ContainerConfig::from(containers));
            self.scanners.send(index, Command::Containers(index, config));
        }
    }

    /// Sets the new thresholds of connections.
    fn take_thresholds(&mut self, new: &WatchRequest) {
        let of = |name: &str| {
            let named = new.systems.iter().find(|system| system.name == name);
            let settings = named.map_or(&new.configuration.default, |system| &system.settings);
            settings.events.thresholds
        };
        let request = &mut self.request;
        request.configuration.default.events.thresholds =
            new.configuration.default.events.thresholds;
        for system in request.systems.iter_mut().chain(&mut request.configuration.systems) {
            system.settings.events.thresholds = of(&system.name);
        }
        for (index, candidate) in self.candidates.iter_mut().enumerate() {
            let system = &mut candidate.system;
            let thresholds = of(&system.name);
            if system.settings.events.thresholds == thresholds {
                continue;
            }
            system.settings.events.thresholds = thresholds;
            self.scanners.send(index, Command::Thresholds(index, (&thresholds).into()));
        }
    }
}

/// The settings that can't change while running.
fn fixed(request: &WatchRequest) -> (Configuration, Vec<crate::config::System>) {
    let (mut configuration, mut systems) = (request.configuration.clone(), request.systems.clone());
    let unset = Configuration::defaults(request.mode).service;
    configuration.service.scan_interval = unset.scan_interval;
    configuration.service.log_level = unset.log_level;
    configuration.default.sbom.clear();
    configuration.default.containers = ContainerFilter::default();
    configuration.default.events.thresholds = Thresholds::default();
    for system in systems.iter_mut().chain(&mut configuration.systems) {
        system.settings.sbom.clear();
        system.settings.containers = ContainerFilter::default();
        system.settings.events.thresholds = Thresholds::default();
    }
    (configuration, systems)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::cli::Arguments;
    use crate::config::{Key, RELOADED, keys};
    use crate::request::{Request, resolve};

    fn request(path: &str, value: &str) -> WatchRequest {
        let set = format!("{path}={value}");
        let arguments = Arguments::try_parse_from(["panoptes", "run", "--set", &set]).unwrap();
        match resolve(arguments, Path::new("/missing")) {
            Ok(Request::Watch(request)) => *request,
            other => panic!("{set}: {other:?}"),
        }
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
