//! SIGHUP: reads the configuration and its SBOMs again while systems are watched.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use panoptes_engine::containers::ContainerConfig;
use panoptes_engine::limits::Limits;
use panoptes_engine::watch::Attestation;
use panoptes_sinks::record::system_activity::SystemActivityDetails;

use super::{Control, nanoseconds};
use crate::config::{Configuration, ContainerFilter, Reference, Thresholds};
use crate::exit::{Exit, Failure};
use crate::request::{Refusal, WatchRequest};
use crate::sbom::Sboms;
use crate::watch::scanner::Order;
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
            if let Some((_, vital)) = &candidate.scanned
                && is_other
            {
                vital.attest_by(Box::new(Attestation::new(
                    &Limits::from(&system.settings.limits),
                    self.sboms.of(&settings.sbom),
                    ContainerConfig::from(&settings.containers).images,
                    crate::random::key(),
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
            let scanner = &self.scanners[index % self.scanners.len()].0;
            // If the scanner has ended, the join of its thread reports that.
            let _ = scanner.send(Order::Containers(index, config));
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
            let scanner = &self.scanners[index % self.scanners.len()].0;
            // If the scanner has ended, the join of its thread reports that.
            let _ = scanner.send(Order::Thresholds(index, (&thresholds).into()));
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
