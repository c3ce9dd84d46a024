//! Reads the configuration again, and makes what it needs before anything changes.
//!
//! All that can fail happens here, on a thread of the loader: files are read, outputs and ports are
//! opened, memory is compared. So a configuration applies whole, or not at all.

use std::sync::Arc;

use panoptes_engine::limits::Limits;
use panoptes_engine::walk::Walker;
use panoptes_tables::room;

use super::ControlThread;
use super::candidate::SystemCandidate;
use super::flows::NewFlows;
use super::metrics_port::bind_metrics;
use super::outputs::NewOutputs;
use crate::config::{Configuration, NetworkAddress, Service, System, SystemAddress};
use crate::exit::{Exit, Failure};
use crate::flow::Ports;
use crate::guests;
use crate::memory::{Growth, MemoryLeft, Plan, PromisedMemory, first_walker, largest};
use crate::message::Messages;
use crate::request::{RequestError, WatchRequest};
use crate::sandbox::GivenUp;
use crate::watch::metrics::Server;
use crate::watch::outputs::{ConfiguredOutput, LogFolder, Receivers, last_number, wanted};

/// Settings and devices in use when the configuration is read again.
#[derive(Debug)]
pub(super) struct Present {
    request: WatchRequest,
    outputs: Vec<ConfiguredOutput>,
    last_receiver: usize,
    folders: Vec<LogFolder>,
    /// The processes whose memory is watched.
    guests: Vec<u32>,
    /// The number of systems that were found.
    found: u64,
    /// What the memory of scanners is enough for, and how many have it.
    limits: Limits,
    scanners: u64,
    promised: PromisedMemory,
    /// Those of the sensor of flows.
    ports: Ports,
    given_up: GivenUp,
    messages: Arc<Messages>,
}

/// A configuration that was read again, and what it needs.
#[derive(Debug)]
pub(super) struct PreparedReload {
    /// As it is in the file.
    pub(super) read: WatchRequest,
    /// As it applies: what needs a restart, and SBOMs, are as before.
    pub(super) request: WatchRequest,
    pub(super) outputs: NewOutputs,
    pub(super) last_receiver: usize,
    pub(super) folder: Option<LogFolder>,
    pub(super) metrics: NewMetrics,
    pub(super) flows: NewFlows,
    pub(super) users: guests::Users,
    /// The watched processes that may be read.
    pub(super) allowed: Vec<u32>,
    /// Larger limits than those of the scanners' memory, and what reads processes within them.
    pub(super) larger: Option<(Limits, Walker)>,
}

/// What becomes of the port for metrics.
#[derive(Debug)]
pub(super) enum NewMetrics {
    Stays,
    Ends,
    /// Another one, which is open.
    Becomes(Server),
}

impl ControlThread {
    /// Settings and devices in use now.
    pub(super) fn present(&self) -> Present {
        let watched = self.systems.candidates.iter().filter(|candidate| !candidate.is_gone());
        let pid = |candidate: &SystemCandidate| match candidate.system.address {
            SystemAddress::Qemu(pid) => Some(pid),
            _ => None,
        };
        Present {
            request: self.cx.request.clone(),
            outputs: self.outputs.wanted(),
            last_receiver: self.last_receiver,
            folders: self.folders.clone(),
            guests: watched.clone().filter_map(pid).collect(),
            found: watched.filter(|one| one.is_found && one.spare_of.is_none()).count() as u64,
            limits: self.systems.limits,
            scanners: self.systems.scanners.states().len() as u64,
            promised: self.systems.promised.clone(),
            ports: self.flows.ports(),
            given_up: self.cx.given_up.clone(),
            messages: Arc::clone(&self.cx.messages),
        }
    }
}

impl Present {
    /// Reads the configuration, and opens what is new in it.
    ///
    /// # Errors
    ///
    /// The mistakes of the file, or the first thing that cannot be had.
    pub(super) fn prepare(self) -> Result<Box<PreparedReload>, RequestError> {
        let read = self.request.reload()?;
        check_outputs(&read.configuration, &self.request.configuration)?;
        let mut request = self.request.reload_as_far_as_possible(&read)?;
        keep_until_restart(&mut request, &self.request);
        let configuration = &request.configuration;
        self.given_up.check(&request.systems, request.auto_scan)?;
        self.given_up.check_flows(&configuration.flows)?;
        if !self.request.auto_scan && !self.request.has_dma() && request.has_dma() {
            let message = "auto_scan: functions of DMA devices need a restart";
            return Err(Failure::new(Exit::Permission, message).into());
        }
        self.check_memory(&request)?;
        let users = guests::Users::of(&configuration.service.guest_users);
        let is_allowed = |pid: &u32| !guests::is_forbidden(*pid, &users);
        let allowed = self.guests.iter().copied().filter(is_allowed).collect();
        let limits = largest(&request.systems, request.auto_scan.then_some(&configuration.default));
        let limits = limits.largest(self.limits);
        let larger =
            (limits != self.limits).then(|| (limits, room::touch(|| first_walker(&limits))));
        let folder = LogFolder::take(&configuration.output, &self.folders)?;
        let metrics = self.metrics(configuration.output.metrics.as_ref())?;
        let flows = NewFlows::prepare(configuration, &self.request.configuration, &self.ports)?;
        let receivers = Receivers { present: &self.outputs, last: self.last_receiver };
        let wanted = wanted(configuration, request.stdout, folder.as_ref(), &receivers)?;
        let last_receiver = last_number(&wanted, &receivers);
        let outputs = NewOutputs::prepare(wanted, &self.outputs, &self.messages)?;
        Ok(Box::new(PreparedReload {
            read,
            request,
            outputs,
            last_receiver,
            folder,
            metrics,
            flows,
            users,
            allowed,
            larger,
        }))
    }

    fn check_memory(&self, request: &WatchRequest) -> Result<(), Failure> {
        let growth = Growth::between(
            &plan(&self.request),
            &plan(request),
            self.found,
            (self.scanners, &self.limits),
        );
        match MemoryLeft::now() {
            Some(left) => growth.check(&left, &self.promised),
            None => Ok(()),
        }
    }

    /// Opens the port for metrics if it is another one.
    fn metrics(&self, new: Option<&NetworkAddress>) -> Result<NewMetrics, Failure> {
        if self.request.configuration.output.metrics.as_ref() == new {
            return Ok(NewMetrics::Stays);
        }
        let old = self.request.configuration.output.metrics.as_ref();
        let is_same_port = old.map(|old| old.port) == new.map(|new| new.port);
        let hint = "the old address has that port until metrics are switched off";
        let explained = |failure: Failure| if is_same_port { failure.with(hint) } else { failure };
        let server = bind_metrics(new, &self.messages).map_err(explained)?;
        Ok(server.map_or(NewMetrics::Ends, NewMetrics::Becomes))
    }
}

fn plan(request: &WatchRequest) -> Plan<'_> {
    let WatchRequest { configuration, systems, auto_scan, .. } = request;
    Plan { configuration, systems, auto_scan: *auto_scan, sboms: None }
}

/// Leaves what needs a restart as it was, and SBOMs, which are read later.
pub(super) fn keep_until_restart(new: &mut WatchRequest, old: &WatchRequest) {
    let (configuration, before) = (&mut new.configuration, &old.configuration);
    let service = &configuration.service;
    configuration.service = Service {
        immediate_shutdown: service.immediate_shutdown,
        log_level: service.log_level,
        scan_interval: service.scan_interval,
        shortcuts: service.shortcuts,
        early_scans: service.early_scans,
        guest_users: service.guest_users.clone(),
        ..before.service.clone()
    };
    configuration.output.stdout = before.output.stdout;
    configuration.output.user_data.clone_from(&before.output.user_data);
    configuration.default.sbom.clone_from(&before.default.sbom);
    keep_sboms(&mut configuration.systems, &before.systems);
    keep_sboms(&mut new.systems, &old.systems);
}

fn keep_sboms(new: &mut [System], old: &[System]) {
    for system in new {
        if let Some(old) = old.iter().find(|old| old.name == system.name) {
            system.settings.sbom.clone_from(&old.settings.sbom);
        }
    }
}

/// Refuses a configuration whose only output needs a restart.
fn check_outputs(new: &Configuration, old: &Configuration) -> Result<(), Failure> {
    let output = &new.output;
    if old.output.stdout || output.log_folder.is_some() || !output.telemetry.is_empty() {
        return Ok(());
    }
    let message = "until a restart, records would go nowhere: `output.stdout` needs one";
    Err(Failure::new(Exit::Configuration, message))
}
