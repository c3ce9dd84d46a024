//! The sensor of flows inside the service (`flows` in its configuration), on a thread of its own,
//! or on several that divide the packets (`threads`).
//!
//! Its interfaces are opened while the process has its privileges ([`OpenSensor::open`]). They
//! receive from [`Sensor::start`] on. [`Sensor::end`] writes the last records of all flows.
//!
//! One that follows another one receives before that ends ([`OpenSensor::follow`]). A time divides
//! the packets between the two: no packet is missed, and none is counted twice.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use panoptes_packet_rings::MirrorPort;
use panoptes_records::queue::Producer;
use panoptes_sinks::panics::caught;

use super::auditor::{Auditor, management};
use super::figures::SensorFigures;
use super::interfaces::Interfaces;
use super::outputs::Outputs;
use super::service_output::{NAME, SensorEvent, ServiceOutput};
use super::service_request::request;
use super::signals::Signals;
use super::system::SharedSystem;
use super::threads;
use crate::config::Flows;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// Ports of mirrors, which the sensor that follows takes over.
pub(crate) type Ports = Arc<[MirrorPort]>;

/// A sensor whose interfaces are open.
#[derive(Debug)]
pub(crate) struct OpenSensor {
    /// Those of each thread.
    all: Vec<Interfaces>,
    /// The ports among them, for the sensor that follows.
    ports: Ports,
    /// What came of beginning to receive; `None`: they receive nothing yet.
    started: Option<Result<(), Failure>>,
    /// While there is such a socket, the kernel stamps each packet once, for all that receive it
    /// (`net_timestamp_check` in net/core/dev.c). Without one, each ring has its own stamp.
    stamps: Option<UdpSocket>,
}

/// How far ahead the time lies that divides the packets between two sensors: rings have begun to
/// receive by then, and the kernel to stamp packets.
const AHEAD: Duration = Duration::from_millis(50);

/// The service, as a sensor sees it.
#[derive(Debug)]
pub(crate) struct ServiceLink {
    /// The queue of its records.
    pub(crate) records: Producer,
    /// Receives what is to be reported of it.
    pub(crate) happened: Sender<SensorEvent>,
    /// The system whose packets these are.
    pub(crate) system: Option<SharedSystem>,
}

/// A sensor that runs.
#[derive(Debug)]
pub(crate) struct Sensor {
    signals: Signals,
    thread: JoinHandle<Result<(), String>>,
    figures: Arc<SensorFigures>,
    ports: Ports,
}

impl OpenSensor {
    /// Opens the interfaces, and compiles the filter for them. Ports of the sensor before are taken
    /// over: what comes there while one ends and the other one starts waits.
    pub(crate) fn open(flows: &Flows, before: &[MirrorPort]) -> Result<Self, Failure> {
        let about = |failure: Failure| failure.about("flows");
        let request = request(flows).map_err(about)?;
        // One that cannot be copied is found in use.
        let ports = before.iter().filter_map(|port| port.again().ok()).collect();
        let all = threads::open(&request, ports).map_err(about)?;
        let ports = all.iter().flat_map(Interfaces::ports).collect();
        Ok(Self { all, ports, started: None, stamps: None })
    }

    /// Begins to receive, while the sensor that it follows still reads packets. That is to be ended
    /// afterwards. A failure is returned by [`Sensor::start`].
    pub(crate) fn follow(&mut self, before: &Sensor, messages: &Messages) {
        self.stamps = UdpSocket::bind("127.0.0.1:0").ok();
        if let Some(stamps) = &self.stamps {
            // Without it, a packet at the border may be missed.
            let _ = setsockopt(stamps, sockopt::ReceiveTimestampns, &true);
        }
        let started = threads::start(&mut self.all, messages);
        if started.is_ok() {
            let ahead_ns = i64::try_from(AHEAD.as_nanos()).unwrap_or(0);
            let border_ns = super::now_ns().saturating_add(ahead_ns);
            for interfaces in &mut self.all {
                interfaces.leave_before(border_ns);
            }
            before.signals.leave_from(border_ns);
        }
        self.started = Some(started);
    }
}

impl Sensor {
    /// Begins to receive packets, unless it does already. `enter` runs on the thread first.
    pub(crate) fn start(
        opened: OpenSensor,
        service: ServiceLink,
        enter: impl FnOnce() + Send + 'static,
        messages: &Messages,
    ) -> Result<Self, Failure> {
        let OpenSensor { mut all, ports, started, stamps } = opened;
        drop(stamps);
        let failed =
            |error| Failure::io(&error, Exit::Failed, "flows: cannot start the sensor's thread");
        let signals = Signals::of_service(messages).map_err(failed)?;
        let threads = if all.len() > 1 { all.len() } else { 0 };
        let names = all.first().map(Interfaces::names).unwrap_or_default();
        let figures = Arc::new(SensorFigures::of(&names, &[NAME], threads));
        for interfaces in &mut all {
            interfaces.show_in(&figures);
        }
        started.unwrap_or_else(|| threads::start(&mut all, messages))?;
        let (its, its_figures, messages) =
            (signals.clone(), Arc::clone(&figures), messages.clone());
        let run = move || {
            enter();
            caught(|| run(all, service, &its_figures, (&its, &messages)))?
        };
        let thread = std::thread::Builder::new().name("panoptes-flows".to_owned());
        let thread = thread.spawn(run).map_err(failed)?;
        Ok(Self { signals, thread, figures, ports })
    }

    /// The ports of mirrors that it receives from.
    pub(crate) const fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) const fn figures(&self) -> &Arc<SensorFigures> {
        &self.figures
    }

    /// Whether its thread has ended, which it does by itself only when it fails or panics.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks it to end. Asked again, it waits for no output any more.
    pub(crate) fn ask_to_end(&self) {
        self.signals.end();
    }

    /// Waits until its last records are in the queue.
    ///
    /// # Errors
    ///
    /// Its panic, or that of another thread of packets, or why one could not be started.
    pub(crate) fn end(self) -> Result<(), String> {
        self.ask_to_end();
        self.thread.join().unwrap_or_else(|_| Err("unknown".to_owned()))
    }
}

/// What the thread does. An error is about another thread of packets.
fn run(
    all: Vec<Interfaces>,
    service: ServiceLink,
    figures: &Arc<SensorFigures>,
    (signals, messages): (&Signals, &Messages),
) -> Result<(), String> {
    let Some(first) = all.first() else { return Ok(()) };
    let begin_ns = super::now_ns();
    let ServiceLink { records, happened, system } = service;
    let service = ServiceOutput::new(records, happened, Arc::clone(figures));
    let request = first.request().clone();
    let common = management(&request, begin_ns, first.link());
    let outputs = Outputs::of_service(&request, common, (service, system), (signals, messages));
    let mut auditor = Auditor::new(&request, outputs, begin_ns);
    let audited = threads::audit(all, &mut auditor, signals, messages);
    let missing = audited.as_ref().map_or_else(|_| auditor.missing(), |missing| *missing);
    // Losses have records.
    let _ = auditor.finish(missing);
    audited.map(drop).map_err(|failure| failure.message)
}
