//! The sensor of flows inside the service (`flows` in its configuration), on a thread of its own.
//!
//! Its interfaces are opened while the process has its privileges ([`OpenSensor::open`]). They
//! receive from [`Sensor::start`] on. [`Sensor::end`] writes the last records of all flows.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use panoptes_sinks::panics::caught;
use panoptes_sinks::queue::Producer;

use super::auditor::{Auditor, management};
use super::figures::SensorFigures;
use super::live::Interfaces;
use super::outputs::Outputs;
use super::service_output::{Happened, NAME, ServiceOutput};
use super::service_request::request;
use super::signals::Signals;
use super::system::SharedSystem;
use crate::config::Flows;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// A sensor whose interfaces are open, and receive nothing yet.
#[derive(Debug)]
pub(crate) struct OpenSensor(Interfaces);

/// What a sensor has of the service.
#[derive(Debug)]
pub(crate) struct OfService {
    /// The queue of its records.
    pub(crate) records: Producer,
    /// Receives what is to be reported of it.
    pub(crate) happened: Sender<Happened>,
    /// The system whose packets these are.
    pub(crate) system: Option<SharedSystem>,
}

/// A sensor that runs.
#[derive(Debug)]
pub(crate) struct Sensor {
    signals: Signals,
    thread: JoinHandle<Result<(), String>>,
    figures: Arc<SensorFigures>,
}

impl OpenSensor {
    /// Opens the interfaces, and compiles the filter for them.
    pub(crate) fn open(flows: &Flows) -> Result<Self, Failure> {
        let about = |failure: Failure| failure.about("flows");
        let request = request(flows).map_err(about)?;
        Interfaces::open(&request).map(Self).map_err(about)
    }
}

impl Sensor {
    /// Begins to receive packets. `enter` runs on the thread first.
    pub(crate) fn start(
        opened: OpenSensor,
        of_service: OfService,
        enter: impl FnOnce() + Send + 'static,
        messages: &Messages,
    ) -> Result<Self, Failure> {
        let OpenSensor(mut interfaces) = opened;
        let failed =
            |error| Failure::io(&error, Exit::Failed, "flows: cannot start the sensor's thread");
        let signals = Signals::of_service(messages).map_err(failed)?;
        let figures = Arc::new(SensorFigures::of(&interfaces.names(), &[NAME]));
        interfaces.start(messages)?;
        let (its, its_figures, messages) =
            (signals.clone(), Arc::clone(&figures), messages.clone());
        let run = move || {
            enter();
            caught(|| run(interfaces, of_service, &its_figures, (&its, &messages)))
        };
        let thread = std::thread::Builder::new().name("panoptes-flows".to_owned());
        let thread = thread.spawn(run).map_err(failed)?;
        Ok(Self { signals, thread, figures })
    }

    pub(crate) const fn figures(&self) -> &Arc<SensorFigures> {
        &self.figures
    }

    /// Whether its thread has ended, which it does by itself only when it panics.
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
    /// Its panic.
    pub(crate) fn end(self) -> Result<(), String> {
        self.ask_to_end();
        self.thread.join().unwrap_or_else(|_| Err("unknown".to_owned()))
    }
}

/// What the thread does.
fn run(
    mut interfaces: Interfaces,
    of_service: OfService,
    figures: &Arc<SensorFigures>,
    (signals, messages): (&Signals, &Messages),
) {
    let begin_ns = super::now_ns();
    let OfService { records, happened, system } = of_service;
    let service = ServiceOutput::new(records, happened, Arc::clone(figures));
    let request = interfaces.request().clone();
    let common = management(&request, begin_ns, interfaces.link());
    let outputs = Outputs::of_service(&request, common, (service, system), (signals, messages));
    let mut auditor = Auditor::new(&request, outputs, begin_ns);
    interfaces.role().enter(messages);
    interfaces.audit(&mut auditor, signals, messages);
    let missing = interfaces.missing(Some(figures));
    // What is lost has records.
    let _ = auditor.finish(missing);
}
