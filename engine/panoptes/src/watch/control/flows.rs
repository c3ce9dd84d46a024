//! The sensor of flows: starts it, ends it, and reports what happens to it.
//!
//! Its records have a queue of their own to the writer. When a configuration changes it, the rings
//! of another one begin to receive. Then it ends, with the last records of all flows, and the other
//! one reads its rings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use panoptes_engine::detect::hidden_connections::TrafficLink;
use panoptes_packet_rings::MirrorPort;
use panoptes_records::activities::Activity;
use panoptes_records::queue::queue;
use panoptes_sinks::panics::Restarts;
use panoptes_sinks::writer::OutputChange;

use super::candidate::Phase;
use super::{ControlThread, POLL_INTERVAL_AT_END};
use crate::config::{Configuration, Flows};
use crate::exit::Failure;
use crate::flow::{OpenSensor, Ports, QUEUE, Sensor, SensorEvent, ServiceLink, SharedSystem};
use crate::watch::metrics::STANDS_STILL_FOR_GOOD;
use crate::watch::signals::{Signals, StopRequest};
use crate::watch::system_events::because;

/// State of the sensor, as the control thread knows it.
#[derive(Debug)]
pub(super) struct FlowSensor {
    sensor: Option<Sensor>,
    /// The system whose packets it has, by name.
    system: Option<(String, SharedSystem)>,
    happened: (Sender<SensorEvent>, Receiver<SensorEvent>),
    restarts: Restarts,
    /// When it is started again, after a panic or a failure.
    again_at: Option<Instant>,
    /// The last failure to start it again.
    failure: Option<String>,
    /// Whether it ends because it was asked to.
    is_ending: bool,
}

/// What becomes of the sensor.
#[derive(Debug)]
pub(super) enum NewFlows {
    Stays,
    Ends,
    /// Another one, whose interfaces are open.
    Becomes(Box<OpenSensor>),
}

impl NewFlows {
    /// Opens the interfaces of a sensor that is another one than before.
    pub(super) fn prepare(
        new: &Configuration,
        old: &Configuration,
        before: &[MirrorPort],
    ) -> Result<Self, Failure> {
        let limits = |configuration: &Configuration| limits_of(configuration);
        if new.flows == old.flows && limits(new) == limits(old) {
            return Ok(Self::Stays);
        }
        Ok(Self::open(&new.flows, before)?
            .map_or(Self::Ends, |opened| Self::Becomes(Box::new(opened))))
    }

    /// Opens the interfaces of a sensor, if there is one.
    pub(super) fn open(
        flows: &Flows,
        before: &[MirrorPort],
    ) -> Result<Option<OpenSensor>, Failure> {
        flows.are_wanted().then(|| OpenSensor::open(flows, before)).transpose()
    }
}

/// The limits of the system whose packets the sensor has.
fn limits_of(configuration: &Configuration) -> Option<panoptes_engine::limits::Limits> {
    let name = configuration.flows.system.as_ref()?;
    let named = configuration.systems.iter().find(|system| system.name == *name);
    let settings = named.map_or(&configuration.default, |system| &system.settings);
    Some(settings.limits)
}

impl FlowSensor {
    /// None yet. The system of the configuration gets what the sensor shares with its scanner.
    pub(super) fn none(configuration: &Configuration) -> Self {
        Self {
            sensor: None,
            system: shared(configuration),
            happened: channel(),
            restarts: Restarts::default(),
            again_at: None,
            failure: None,
            is_ending: false,
        }
    }

    /// What a system shares with the sensor, if its packets are those.
    pub(super) fn traffic_link_of(&self, system: &str) -> Option<Arc<TrafficLink>> {
        let (_, shared) = self.system.as_ref().filter(|(name, _)| name == system)?;
        Some(Arc::clone(&shared.traffic_link))
    }

    /// Asks it to end.
    pub(super) fn ask_to_end(&mut self) {
        (self.is_ending, self.again_at) = (true, None);
        if let Some(sensor) = &self.sensor {
            sensor.ask_to_end();
        }
    }

    /// The ports of mirrors that it receives from.
    pub(super) fn ports(&self) -> Ports {
        self.sensor.as_ref().map_or_else(Ports::default, |sensor| Arc::clone(sensor.ports()))
    }

    /// Whether there is one.
    pub(super) const fn runs(&self) -> bool {
        self.sensor.is_some()
    }

    /// Whether its thread, if it has one, has made a step for as long as the service manager waits
    /// for one.
    pub(super) fn goes_on(&self) -> bool {
        let goes_on = |sensor: &Sensor| {
            sensor.has_ended() || sensor.figures().goes_on_within(STANDS_STILL_FOR_GOOD)
        };
        self.sensor.as_ref().is_none_or(goes_on)
    }

    /// The figures of the present one.
    #[cfg(test)]
    pub(super) fn figures(&self) -> Option<Arc<crate::flow::SensorFigures>> {
        self.sensor.as_ref().map(|sensor| Arc::clone(sensor.figures()))
    }

    /// Whether there is none that runs.
    fn has_ended(&self) -> bool {
        self.sensor.as_ref().is_none_or(Sensor::has_ended)
    }
}

/// What the system that the configuration names shares with the sensor.
fn shared(configuration: &Configuration) -> Option<(String, SharedSystem)> {
    let name = configuration.flows.system.clone().filter(|_| configuration.flows.are_wanted())?;
    let traffic_link = TrafficLink::new(&limits_of(configuration)?, crate::random::hash_key());
    let shared = SharedSystem { traffic_link: Arc::new(traffic_link), is_attached: Arc::default() };
    Some((name, shared))
}

impl ControlThread {
    /// Starts the sensor, whose interfaces are open.
    pub(super) fn start_flows(&mut self, opened: OpenSensor) -> Result<(), Failure> {
        let (records, consumer) = queue(QUEUE, self.outputs.waker());
        let service = ServiceLink {
            records,
            happened: self.flows.happened.0.clone(),
            system: self.flows.system.as_ref().map(|(_, shared)| shared.clone()),
        };
        let cores = self.cx.other_cores;
        let enter = move || cores.enter();
        let sensor = Sensor::start(opened, service, enter, &self.cx.messages)?;
        self.outputs.change(OutputChange::AddQueue(consumer));
        self.cx.figures.set_flows(Some(Arc::clone(sensor.figures())));
        (self.flows.sensor, self.flows.is_ending) = (Some(sensor), false);
        Ok(())
    }

    /// Whether the configuration can apply now: a sensor that it ends has to end first.
    pub(super) fn is_ready_for(&mut self, new: &mut NewFlows) -> bool {
        if matches!(new, NewFlows::Stays) {
            return true;
        }
        if !self.flows.is_ending {
            if let (NewFlows::Becomes(opened), Some(sensor)) = (new, &self.flows.sensor)
                && !sensor.has_ended()
            {
                opened.follow(sensor, &self.cx.messages);
            }
            self.flows.ask_to_end();
        }
        self.have_flows_ended()
    }

    /// Whether there is no sensor that runs.
    pub(super) fn have_flows_ended(&self) -> bool {
        self.flows.has_ended()
    }

    /// Reports how the sensor has ended that a configuration ends.
    pub(super) fn finish_flows(&mut self, new: &NewFlows) {
        if !matches!(new, NewFlows::Stays) {
            self.join_flows();
        }
    }

    /// Has the sensor of a configuration, whose outputs are there. The one before has ended.
    pub(super) fn change_flows(&mut self, new: NewFlows, configuration: &Configuration) {
        let opened = match new {
            NewFlows::Stays => return,
            NewFlows::Ends => None,
            NewFlows::Becomes(opened) => Some(*opened),
        };
        self.cx.figures.set_flows(None);
        let before = self.flows.system.take();
        let is_same = |(name, _): &(String, SharedSystem)| {
            let old = &self.cx.request.configuration;
            configuration.flows.are_wanted()
                && configuration.flows.system.as_ref() == Some(name)
                && limits_of(configuration) == limits_of(old)
        };
        if before.as_ref().is_some_and(is_same) {
            self.flows.system = before;
        } else {
            self.flows.system = shared(configuration);
            let new = self.flows.system.as_ref().map(|(name, _)| name.clone());
            let names: Vec<String> = before.map(|(name, _)| name).into_iter().chain(new).collect();
            self.systems.attach_again_to(&names);
        }
        (self.flows.restarts, self.flows.failure) = (Restarts::default(), None);
        self.flows.is_ending = false;
        if let Some(failure) = opened.and_then(|opened| self.start_flows(opened).err()) {
            self.retry_flows(&failure);
        }
    }

    /// Reports what has happened to the sensor, and starts it again after a panic.
    pub(super) fn follow_flows(&mut self) {
        self.report_happened();
        if let Some((name, shared)) = &self.flows.system {
            let is_it = |phase: &Phase| matches!(phase, Phase::Scanned(_));
            let mut named = self.systems.candidates.iter().filter(|one| one.system.name == *name);
            let is_attached = named.any(|candidate| is_it(&candidate.phase));
            shared.is_attached.store(is_attached, Ordering::Relaxed);
        }
        if self.flows.is_ending {
            return;
        }
        if self.flows.sensor.as_ref().is_some_and(Sensor::has_ended) {
            self.join_flows();
            self.flows.again_at = Some(Instant::now() + self.flows.restarts.add(Instant::now()));
        }
        if self.flows.again_at.take_if(|at| *at <= Instant::now()).is_some() {
            let opened = NewFlows::open(&self.cx.request.configuration.flows, &[]);
            let started =
                opened.and_then(|opened| opened.map_or(Ok(()), |opened| self.start_flows(opened)));
            match started {
                Ok(()) => self.flows.failure = None,
                Err(failure) => self.retry_flows(&failure),
            }
        }
    }

    /// Reports a sensor that could not be started, once, and starts it after a pause.
    fn retry_flows(&mut self, failure: &Failure) {
        self.cx.figures.set_flow_sensor_missing();
        let pause = self.flows.restarts.add(Instant::now()).max(SENSOR_RETRY);
        self.flows.again_at = Some(Instant::now() + pause);
        if self.flows.failure.as_ref() == Some(&failure.message) {
            return;
        }
        self.flows.failure = Some(failure.message.clone());
        self.cx.messages.error(failure);
        let activity = Activity::DetailsGatheringFailed;
        self.cx.system_events.service(activity, &because(&failure.message));
    }

    /// Reports all that a sensor has reported that has ended, and its failure.
    fn join_flows(&mut self) {
        let ended = self.flows.sensor.take().map(|sensor| {
            let figures = Arc::clone(sensor.figures());
            let ended = sensor.end();
            self.outputs.count_refused_flows(figures.refused());
            ended
        });
        self.report_happened();
        if let Some(Err(failure)) = ended {
            let reason = format!("the sensor of flows has failed, and is started again: {failure}");
            self.cx.messages.error(&reason);
            self.cx.system_events.service(Activity::ServiceRuntimeFailure, &because(&reason));
        }
    }

    fn report_happened(&mut self) {
        while let Ok(happened) = self.flows.happened.1.try_recv() {
            self.cx.system_events.service(happened.activity, &happened.details());
        }
    }

    /// At the end of the service: waits for the last records of all flows. Another request to stop
    /// ends that, and is returned.
    pub(super) fn end_flows(&mut self, signals: &Signals) -> Option<StopRequest> {
        self.flows.ask_to_end();
        while !self.flows.has_ended() {
            if signals.wait(POLL_INTERVAL_AT_END) == Some(StopRequest::Stop) {
                return Some(StopRequest::Stop);
            }
        }
        self.join_flows();
        None
    }
}

/// The shortest pause before a sensor is started again that could not be.
const SENSOR_RETRY: Duration = Duration::from_secs(1);
