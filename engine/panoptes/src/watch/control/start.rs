//! Starts watching: opens the outputs and starts the threads of the scanners and of the writer.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use panoptes_engine::limits::Limits;
use panoptes_engine::watch::Workspace;
use panoptes_sinks::output::folder::FolderLock;
use panoptes_sinks::output::lines::Form;
use panoptes_sinks::queue::{Waker, queue};
use panoptes_sinks::writer::{OutputChange, Writer};
use panoptes_sources::lock_own_memory;
use panoptes_tables::{HashKey, room};

use super::candidate::Candidate;
use super::outputs::Outputs;
use super::reload::Reloads;
use super::scanners::Scanners;
use super::search::{InUse, find_again, search};
use super::threads::{OtherCores, Workers};
use super::{Control, LOADERS, MEMORY_LOOK, Work};
use crate::boot_ids::{BootIds, default_folder};
use crate::config::Configuration;
use crate::exit::{Exit, Failure};
use crate::guests;
use crate::interfaces::{Interface, of_this_machine};
use crate::memory::{
    CONTROL_QUEUE, MemoryLeft, Needed, Plan, Promised, TOO_MUCH, first_walker, largest,
};
use crate::message::Messages;
use crate::request::WatchRequest;
use crate::sandbox::{Role, has_dma};
use crate::sbom::Sboms;
use crate::scanner_cores::ScannerCores;
use crate::watch::clocks::nanoseconds;
use crate::watch::exceptions::Silenced;
use crate::watch::finder::Finder;
use crate::watch::metrics::{self, Figures, Server};
use crate::watch::outputs::{open, options};
use crate::watch::problems::{Problems, Topic};
use crate::watch::scanner::{MakeScratch, Shared, System};
use crate::watch::signals::Signals;
use crate::watch::status_line::show_status;
use crate::watch::system_events::{Notice, SystemEvents};
use crate::watch::system_logs::SystemLogs;

impl Control {
    /// Opens the outputs and starts the threads.
    pub(in crate::watch) fn new(
        request: &WatchRequest,
        messages: &Arc<Messages>,
        signals: &Signals,
        start: Instant,
    ) -> Result<Self, Failure> {
        let configuration = &request.configuration;
        let cores = scanner_cores(request, messages)?;
        let (outputs, watched, lock) = open(configuration, request.stdout, messages)?;
        let server = bind_metrics(configuration, messages)?;
        let waker = Waker::default();
        let (producer, control_consumer) = queue(CONTROL_QUEUE, &waker);
        let notices = channel();
        let interfaces = interfaces(of_this_machine(), &notices.0);
        let (changes, changed_outputs) = channel();
        let logs = system_logs(configuration, lock, changes.clone(), messages);
        let system_events = SystemEvents::new(producer, configuration, interfaces, logs);
        let shared = Arc::new(shared(request));
        // The number of systems that `auto_scan` will find is unknown.
        let most = if request.auto_scan { usize::MAX } else { request.systems.len() };
        let limits = limits(request);
        let wakes = signals.waker();
        let promised = Promised::default();
        let count = Scanners::<System>::count(&cores, most);
        let make = workspaces(limits, &promised, count, &shared.stop);
        let (scanners, mut consumers) =
            Scanners::start((&cores, most), &waker, &shared, wakes, messages, start, make)?;
        // After those of the scanners, so that the last record is the service's.
        consumers.push(control_consumer);
        let writer = Writer::with_changes(consumers, outputs, changed_outputs);
        let silenced = Silenced::new(configuration.exceptions(), start);
        let figures = Arc::new(Figures::new(start, &shared, scanners.states(), &writer, &silenced));
        let outputs = Outputs::start(writer, changes, watched, start, messages)?;
        lock_memory(messages);
        let other_cores = OtherCores::without(&cores.cores);
        show_figures(request, server, &figures, &shared.stop, other_cores, messages)?;
        Ok(Self {
            request: request.clone(),
            messages: Arc::clone(messages),
            shared,
            system_events,
            boot_ids: Arc::new(boot_ids(configuration, messages)),
            in_use: InUse::default(),
            sboms: Sboms::default(),
            is_ready: false,
            wants_reload: false,
            candidates: candidates(request, start),
            finder: request.auto_scan.then(|| Finder::new(start)),
            users: guests::Users::of(&configuration.service.guest_users),
            owners: guests::Owners::default(),
            next_memory: start + MEMORY_LOOK,
            scanners,
            promised,
            walker: Arc::new(Mutex::new(room::touch(|| first_walker(&limits)))),
            workers: Workers::for_searches(other_cores, signals.waker()),
            lookout: Workers::new("lookout", 1, other_cores, signals.waker()),
            loader: Workers::new("loader", LOADERS, other_cores, signals.waker()),
            reloads: Reloads::default(),
            notices,
            problems: Problems::default(),
            other_cores,
            work: Work { search, find_again, load: Sboms::load },
            outputs,
            silenced,
            figures,
            start,
            is_attached: false,
            first_failure: None,
        })
    }
}

/// The cores of scanners, as far as there is memory for them.
fn scanner_cores(request: &WatchRequest, messages: &Messages) -> Result<ScannerCores, Failure> {
    let further = check_memory(request, messages)?;
    Ok(ScannerCores::of(&request.configuration.service.cores).with_further(further))
}

fn shared(request: &WatchRequest) -> Shared {
    let interval = nanoseconds(request.configuration.service.scan_interval);
    let has_dma = has_dma(&request.systems);
    Shared { interval_ns: AtomicU64::new(interval), has_dma, ..Shared::default() }
}

/// The systems that are named.
fn candidates(request: &WatchRequest, start: Instant) -> Vec<Candidate> {
    request.systems.iter().map(|one| Candidate::new(one.clone(), start, false)).collect()
}

/// Opens the port for metrics, if they are wanted.
fn bind_metrics(
    configuration: &Configuration,
    messages: &Messages,
) -> Result<Option<Server>, Failure> {
    let address = configuration.output.metrics.as_ref();
    metrics::bind(address, messages).map_err(|error| {
        let address = address.map(ToString::to_string).unwrap_or_default();
        Failure::io(&error, Exit::Output, format_args!("output.metrics.address: {address}"))
    })
}

/// Starts the thread that answers requests for metrics, and the one that draws the status line if
/// standard output has lines for people above it.
fn show_figures(
    request: &WatchRequest,
    server: Option<Server>,
    figures: &Arc<Figures>,
    stop: &Arc<AtomicBool>,
    cores: OtherCores,
    messages: &Arc<Messages>,
) -> Result<(), Failure> {
    if let Some(server) = server {
        let (figures, messages) = (Arc::clone(figures), Arc::clone(messages));
        cores.spawn("metrics", move || {
            Role::Metrics.enter(&messages);
            figures.serve(&server, &messages);
        })?;
    }
    if matches!(request.stdout.form, Form::ForPeople(style) if style.has_status) {
        let (figures, messages) = (Arc::clone(figures), Arc::clone(messages));
        let stop = Arc::clone(stop);
        cores.spawn("status", move || show_status(&figures, &stop, &messages))?;
    }
    Ok(())
}

/// The interfaces of this machine; none if they can't be read, which is reported.
pub(super) fn interfaces(
    read: io::Result<Vec<Interface>>,
    notices: &Sender<Notice>,
) -> Vec<Interface> {
    read.unwrap_or_else(|error| {
        let reason = Some(format!("cannot read this machine's interfaces: {error}"));
        // The receiver lives as long as the sender.
        let _ = notices.send(Notice::Problem { system: None, topic: Topic::Interfaces, reason });
        Vec::new()
    })
}

/// The logs of single systems, if they are wanted.
fn system_logs(
    configuration: &Configuration,
    lock: Option<Arc<FolderLock>>,
    changes: Sender<OutputChange>,
    messages: &Arc<Messages>,
) -> Option<SystemLogs> {
    let output = &configuration.output;
    let folder = output.log_folder.clone().filter(|_| output.log_per_system)?;
    let name = configuration.service.compatibility.event_log();
    let messages = Arc::clone(messages);
    Some(SystemLogs::new((folder, lock?), name, options(output), changes, messages))
}

/// Limits that are enough for every system.
fn limits(request: &WatchRequest) -> Limits {
    largest(&request.systems, request.auto_scan.then_some(&request.configuration.default))
}

/// Allocates the memory that scans of systems within these limits share on a thread. It is promised
/// to so many scanners until they have it. After `stop`, it is not made resident.
fn workspaces(
    limits: Limits,
    promised: &Promised,
    scanners: usize,
    stop: &Arc<AtomicBool>,
) -> MakeScratch<System> {
    let key = HashKey::new(0);
    let bytes = room::measure(|| Workspace::new(&limits, key)).unwrap_or_default();
    let promises: Vec<_> = (0..scanners).map(|_| promised.add(bytes)).collect();
    let (promises, stop) = (Mutex::new(promises), Arc::clone(stop));
    Arc::new(move || {
        let key = crate::random::hash_key();
        let workspace = room::touch_unless(&stop, || Workspace::new(&limits, key));
        drop(promises.lock().unwrap_or_else(PoisonError::into_inner).pop());
        // A failure was reported at start.
        let _ = lock_own_memory();
        workspace
    })
}

/// Logs how much memory the systems need, and refuses more than this machine has left. Returns the
/// number of further scanners for which there is room.
fn check_memory(request: &WatchRequest, messages: &Messages) -> Result<usize, Failure> {
    let WatchRequest { configuration, systems, auto_scan, .. } = request;
    let plan = Plan { configuration, systems, auto_scan: *auto_scan, sboms: None };
    let Some(needed) = Needed::of(&plan) else {
        return Err(Failure::new(Exit::Configuration, TOO_MUCH));
    };
    messages.info(format_args!("the configuration {needed}"));
    let Some(left) = MemoryLeft::now() else { return Ok(usize::MAX - 1) };
    needed.check(&left)?;
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
    let folder = configuration.service.state_dir.clone().or_else(default_folder);
    folder.map_or_else(
        || BootIds::ephemeral(Arc::clone(messages)),
        |folder| BootIds::open(&folder, Arc::clone(messages)),
    )
}
