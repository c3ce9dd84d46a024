//! Starts watching: opens the outputs and starts the threads of the scanners and of the writer.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use panoptes_engine::limits::Limits;
use panoptes_records::queue::{Consumer, Waker, queue};
use panoptes_sinks::output::Output;
use panoptes_sinks::output::lines::LineForm;
use panoptes_sinks::writer::Writer;
use panoptes_sources::lock_own_memory;
use panoptes_tables::room;

use super::candidate::SystemCandidate;
use super::flows::{FlowSensor, NewFlows};
use super::functions::Functions;
use super::in_use::InUse;
use super::machines::GuestNames;
use super::metrics_port::{bind_metrics, serve_metrics};
use super::outputs::{LeftoverBacklogs, Outputs};
use super::reload::Reloads;
use super::scanners::{Scanners, workspaces};
use super::search::{find_again, search};
use super::{
    ControlContext, ControlThread, LEFTOVER_THREADS_MAX, LOADER_THREADS_MAX, MEMORY_CHECK_INTERVAL,
    OUTPUT_OPENER_THREADS_MAX, Systems, WorkerJobs,
};
use crate::boot_ids::{BootIds, folder_of};
use crate::config::Configuration;
use crate::exit::{Exit, Failure};
use crate::interfaces::{HostInterface, of_this_machine};
use crate::memory::{
    CONTROL_QUEUE, MemoryDemand, MemoryLeft, Plan, PromisedMemory, TOO_MUCH, first_walker, largest,
};
use crate::message::Messages;
use crate::request::WatchRequest;
use crate::sandbox::{GivenUp, keep_none};
use crate::sbom::Sboms;
use crate::scanner_cores::ScannerCores;
use crate::size::show;
use crate::watch::exceptions::SilencedAlerts;
use crate::watch::finder::Finder;
use crate::watch::metrics::{Figures, Server};
use crate::watch::missing_facts::{Problems, Topic};
use crate::watch::outputs::{
    ConfiguredOutput, LogFolder, Receivers, WatchedOutput, last_number, wanted,
};
use crate::watch::scanner::{ScannerControls, System};
use crate::watch::signals::{self, Signals};
use crate::watch::status_line::show_status;
use crate::watch::system_events::{Notice, SystemEvents};
use crate::watch::system_logs::{LogPlace, SystemLogs, log_place, openers};
use crate::watch::threads::{OtherCores, Workers};
use crate::{dma, guests};

impl ControlThread {
    /// Opens the outputs and starts the threads.
    pub(in crate::watch) fn new(
        request: &WatchRequest,
        messages: &Arc<Messages>,
        signals: &Signals,
        begin: (Instant, GivenUp),
    ) -> Result<Self, Failure> {
        // Before the outputs: a mistake there leaves no file.
        let sensor = NewFlows::open(&request.configuration.flows, &[])?;
        let mut control = Self::without_flows(request, messages, signals, begin)?;
        if let Some(sensor) = sensor {
            control.start_flows(sensor)?;
        }
        Ok(control)
    }

    fn without_flows(
        request: &WatchRequest,
        messages: &Arc<Messages>,
        signals: &Signals,
        (start, given_up): (Instant, GivenUp),
    ) -> Result<Self, Failure> {
        let configuration = &request.configuration;
        let cores = scanner_cores(request, messages)?;
        let OpenedOutputs { folder, logs, wanted, outputs, watched, server } =
            open(request, messages)?;
        let (waker, other_cores) = (Waker::default(), OtherCores::without(&cores.cores));
        let (producer, control_consumer) = queue(CONTROL_QUEUE, &waker);
        let (notices, (changes, changed_outputs)) = (channel(), channel());
        let openers = openers(other_cores, signals.waker());
        let logs = SystemLogs::new(logs, (changes.clone(), waker.clone()), openers, messages);
        let interfaces = interfaces(of_this_machine(), &notices.0);
        let events = SystemEvents::new(producer, configuration, interfaces, (logs, &*wanted));
        let (shared, promised) = (Arc::new(shared(request)), PromisedMemory::default());
        let (threads, begin) = ((&shared, &waker, signals.waker()), (start, messages));
        let (scanners, mut consumers) = start_scanners(request, &cores, threads, &promised, begin)?;
        // After those of the scanners, so that the last record is the service's.
        consumers.push(control_consumer);
        let writer = Writer::with_changes(consumers, outputs, changed_outputs);
        let silenced = SilencedAlerts::new(configuration.exceptions(), start);
        let figures = Arc::new(Figures::new(start, &shared, scanners.states(), &writer, &silenced));
        let threads = workers_of_outputs(other_cores, signals);
        let outputs = Outputs::start(writer, changes, watched, start, threads, messages)?;
        let stop = show_figures(request, server, (&figures, &shared.stop), other_cores, messages)?;
        let systems = systems(request, (scanners, promised), start, (other_cores, signals));
        let cx = ControlContext {
            given_up: given_up.with_dma(shared.has_dma),
            request: request.clone(),
            messages: Arc::clone(messages),
            shared,
            system_events: events,
            boot_ids: Arc::new(boot_ids(configuration, messages)),
            sboms: Sboms::default(),
            silenced,
            figures,
            notices,
            problems: Problems::default(),
            other_cores,
            work: WorkerJobs { search, find_again, find_functions: dma::find, load: Sboms::load },
            start,
        };
        Ok(Self {
            cx,
            systems,
            is_ready: false,
            wants_reload: false,
            loader: Workers::new("loader", LOADER_THREADS_MAX, other_cores, signals.waker()),
            reloads: Reloads::default(),
            outputs,
            flows: FlowSensor::none(configuration),
            folders: folder.into_iter().collect(),
            last_receiver: last_number(&wanted, &Receivers::NONE),
            metrics_stop: stop,
        })
    }
}

/// Starts the scanners, whose memory is promised to them; also returns the ends of their queues.
fn start_scanners(
    request: &WatchRequest,
    cores: &ScannerCores,
    (shared, waker, wakes): (&Arc<ScannerControls>, &Waker, signals::Waker),
    promised: &PromisedMemory,
    (start, messages): (Instant, &Arc<Messages>),
) -> Result<(Scanners<System>, Vec<Consumer>), Failure> {
    // The number of systems that `auto_scan` will find is unknown.
    let most = if request.auto_scan { usize::MAX } else { request.systems.len() };
    let count = Scanners::<System>::count(cores, most);
    let make = workspaces(limits(request), promised, count, &shared.stop);
    let started = Scanners::start((cores, most), waker, shared, wakes, messages, start, make)?;
    lock_memory(messages);
    Ok(started)
}

/// What the configuration wants to be open.
struct OpenedOutputs {
    folder: Option<LogFolder>,
    /// The place of the logs of single systems.
    logs: Option<LogPlace>,
    wanted: Vec<ConfiguredOutput>,
    outputs: Vec<Box<dyn Output>>,
    watched: Vec<WatchedOutput>,
    /// The port for metrics.
    server: Option<Server>,
}

/// Opens all configured outputs, and the port for metrics.
fn open(request: &WatchRequest, messages: &Messages) -> Result<OpenedOutputs, Failure> {
    let folder = LogFolder::take(&request.configuration.output, &[])?;
    let wanted = wanted(&request.configuration, request.stdout, folder.as_ref(), &Receivers::NONE)?;
    let opened = wanted.iter().map(|output| output.clone().open(messages));
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    let (outputs, watched) = opened.into_iter().unzip();
    let logs = log_place(&request.configuration, folder.as_ref());
    let server = bind_metrics(request.configuration.output.metrics.as_ref(), messages)?;
    Ok(OpenedOutputs { folder, logs, wanted, outputs, watched, server })
}

/// The cores of scanners, as far as there is memory for them.
fn scanner_cores(request: &WatchRequest, messages: &Messages) -> Result<ScannerCores, Failure> {
    let further = check_memory(request, messages)?;
    Ok(ScannerCores::of(&request.configuration.service.cores).with_further(further))
}

fn shared(request: &WatchRequest) -> ScannerControls {
    let shared = ScannerControls { has_dma: request.has_dma(), ..ScannerControls::default() };
    shared.set_pace(&request.configuration.service);
    shared
}

/// The systems that are named.
fn candidates(request: &WatchRequest, start: Instant) -> Vec<SystemCandidate> {
    request.systems.iter().map(|one| SystemCandidate::new(one.clone(), start, false)).collect()
}

/// The workers that open outputs, and those that look at backlogs.
fn workers_of_outputs(
    cores: OtherCores,
    signals: &Signals,
) -> (Workers<io::Result<Box<dyn Output>>>, Workers<LeftoverBacklogs>) {
    let openers = Workers::new("outputs", OUTPUT_OPENER_THREADS_MAX, cores, signals.waker());
    (openers, Workers::new("backlogs", LEFTOVER_THREADS_MAX, cores, signals.waker()))
}

/// Starts the thread that answers requests for metrics, and the one that draws the status line if
/// standard output has lines for people above it. Returns what ends the first one.
fn show_figures(
    request: &WatchRequest,
    server: Option<Server>,
    (figures, stop): (&Arc<Figures>, &Arc<AtomicBool>),
    cores: OtherCores,
    messages: &Arc<Messages>,
) -> Result<Arc<AtomicBool>, Failure> {
    let metrics_stop = Arc::default();
    if let Some(server) = server {
        serve_metrics(server, &metrics_stop, figures, cores, messages)?;
    }
    if matches!(request.stdout.form, LineForm::ForPeople(style) if style.has_status) {
        let (figures, messages) = (Arc::clone(figures), Arc::clone(messages));
        let stop = Arc::clone(stop);
        cores.spawn("status", move || {
            keep_none(&messages);
            show_status(&figures, &stop, &messages);
        })?;
    }
    Ok(metrics_stop)
}

/// The interfaces of this machine; none if they can't be read, which is reported.
pub(super) fn interfaces(
    read: io::Result<Vec<HostInterface>>,
    notices: &Sender<Notice>,
) -> Vec<HostInterface> {
    read.unwrap_or_else(|error| {
        let reason = Some(format!("cannot read this machine's interfaces: {error}"));
        // The receiver lives as long as the sender.
        let _ = notices.send(Notice::Problem { system: None, topic: Topic::Interfaces, reason });
        Vec::new()
    })
}

/// Limits that are enough for every system.
fn limits(request: &WatchRequest) -> Limits {
    largest(&request.systems, request.auto_scan.then_some(&request.configuration.default))
}

/// Logs how much memory the systems need, and refuses more than this machine has left. Returns the
/// number of further scanners for which there is room.
fn check_memory(request: &WatchRequest, messages: &Messages) -> Result<usize, Failure> {
    let WatchRequest { configuration, systems, auto_scan, .. } = request;
    let plan = Plan { configuration, systems, auto_scan: *auto_scan, sboms: None };
    let Some(needed) = MemoryDemand::of(&plan) else {
        return Err(Failure::new(Exit::Configuration, TOO_MUCH));
    };
    messages.info(format_args!("the configuration {needed}"));
    let Some(left) = MemoryLeft::now() else { return Ok(usize::MAX - 1) };
    needed.check(&left).map_err(|failure| match MemoryDemand::fitting_preset(&plan, &left) {
        Some((name, bytes)) => {
            let bytes = show(bytes);
            let message = format!("{failure}; `--limits {name}` would need {bytes}");
            Failure { message, ..failure }
        }
        None => failure,
    })?;
    let fit = needed.further_that_fit(&left);
    if (fit as u64) < needed.further_scanners {
        messages.info(format_args!("there is memory for {fit} of the further scanners"));
    }
    Ok(fit)
}

/// Keeps the memory of scanners in RAM. Without that, watching works, but swap may delay it.
fn lock_memory(messages: &Messages) {
    if let Err(error) = lock_own_memory() {
        messages.warning(format_args!(
            "cannot lock memory ({error}), so the kernel may swap it out; set \
             LimitMEMLOCK=infinity in the service, or `ulimit -l unlimited`"
        ));
    }
}

fn boot_ids(configuration: &Configuration, messages: &Arc<Messages>) -> BootIds {
    folder_of(&configuration.service).map_or_else(
        || BootIds::ephemeral(Arc::clone(messages)),
        |folder| BootIds::open(&folder, Arc::clone(messages)),
    )
}

/// The systems of the configuration, none of which is searched yet.
fn systems(
    request: &WatchRequest,
    (scanners, promised): (Scanners<System>, PromisedMemory),
    start: Instant,
    (other_cores, signals): (OtherCores, &Signals),
) -> Systems {
    Systems {
        in_use: InUse::default(),
        candidates: candidates(request, start),
        finder: request.auto_scan.then(|| Finder::new(start)),
        guests: Vec::new(),
        users: guests::Users::of(&request.configuration.service.guest_users),
        names: GuestNames::default(),
        next_memory: start + MEMORY_CHECK_INTERVAL,
        scanners,
        limits: limits(request),
        promised,
        walker: Arc::new(Mutex::new(room::touch(|| first_walker(&limits(request))))),
        workers: Workers::for_searches(other_cores, signals.waker()),
        lookout: Workers::new("lookout", 1, other_cores, signals.waker()),
        functions: Functions::new(other_cores, signals.waker(), start),
        is_attached: false,
        first_failure: None,
    }
}
