//! Starts watching: opens the outputs and starts the threads of the scanners and of the writer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use panoptes_sinks::queue::{Consumer, QueueSize, Waker, queue};
use panoptes_sinks::writer::Writer;

use super::candidate::Candidate;
use super::outputs::Outputs;
use super::search::{InUse, search};
use super::threads::{OtherCores, Workers, nanoseconds, spawn};
use super::{Control, MEMORY_LOOK, Work};
use crate::boot_ids::{BootIds, default_folder};
use crate::config::{Configuration, Cores};
use crate::exit::Failure;
use crate::guests;
use crate::interfaces::of_this_machine;
use crate::message::Messages;
use crate::request::WatchRequest;
use crate::sbom::Sboms;
use crate::watch::finder::Finder;
use crate::watch::scanner::{Command, Lost, ScanStats, Scanner, Shared};
use crate::watch::signals::Signals;
use crate::watch::system_events::SystemEvents;

/// Room for the records of one burst from one scanner: 32 MiB.
const SCANNER_QUEUE: QueueSize = QueueSize { blocks: 128, block_bytes: 256 * 1024 };
/// Each record of the control thread takes a block, since it is flushed at once.
const CONTROL_QUEUE: QueueSize = QueueSize { blocks: 64, block_bytes: 32 * 1024 };

/// The threads of the scanners. A system's index selects its scanner.
#[derive(Debug)]
pub(super) struct Scanners(Vec<ScannerHandle>);

/// A scanner thread.
#[derive(Debug)]
pub(super) struct ScannerHandle {
    /// Dropping it ends the thread as soon as that has no systems.
    pub(super) commands: Sender<Command>,
    pub(super) stats: Arc<ScanStats>,
    pub(super) thread: JoinHandle<()>,
}

impl Scanners {
    /// Sends a command to the scanner of a system.
    pub(super) fn send(&self, index: usize, command: Command) {
        let scanner = &self.0[index % self.0.len()];
        // If the scanner has ended, the join of its thread reports that.
        let _ = scanner.commands.send(command);
    }

    /// How many records did not fit in the queues to the writer.
    pub(super) fn refused(&self) -> u64 {
        self.0.iter().map(|scanner| scanner.stats.refused()).sum()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = ScannerHandle> {
        self.0.drain(..)
    }
}

impl Control {
    /// Opens the outputs and starts the threads.
    pub(in crate::watch) fn new(
        request: &WatchRequest,
        messages: &Arc<Messages>,
        signals: &Signals,
        start: Instant,
    ) -> Result<Self, Failure> {
        let configuration = &request.configuration;
        let (outputs, watched) = crate::watch::outputs::open(&configuration.output, messages)?;
        let waker = Waker::default();
        let (producer, control_consumer) = queue(CONTROL_QUEUE, &waker);
        let interfaces = of_this_machine().unwrap_or_else(|error| {
            messages.warning(format_args!("cannot read this machine's interfaces: {error}"));
            Vec::new()
        });
        let boot_ids = boot_ids(configuration, messages);
        let system_events = SystemEvents::new(producer, configuration, interfaces);
        let shared = Arc::new(Shared::default());
        let interval = configuration.service.scan_interval;
        shared.interval_ns.store(nanoseconds(interval), Ordering::Relaxed);
        let (lost_sender, lost) = channel();
        let (scanners, mut consumers) =
            start_scanners(request, &waker, &shared, &lost_sender, messages, start)?;
        // After those of the scanners, so that the last record is the service's.
        consumers.push(control_consumer);
        let outputs = Outputs::start(Writer::new(consumers, outputs), watched, start)?;
        let systems = request.systems.iter();
        let other_cores = OtherCores::of(&configuration.service.cores);
        Ok(Self {
            request: request.clone(),
            messages: Arc::clone(messages),
            shared,
            system_events,
            boot_ids: Arc::new(boot_ids),
            in_use: InUse::default(),
            sboms: Sboms::default(),
            is_ready: false,
            wants_reload: false,
            candidates: systems.map(|one| Candidate::new(one.clone(), start, false)).collect(),
            finder: request.auto_scan.then(|| Finder::new(start)),
            users: guests::Users::of(&configuration.service.guest_users),
            next_memory: start + MEMORY_LOOK,
            scanners,
            lost,
            workers: Workers::for_searches(other_cores, signals.waker()),
            lookout: Workers::new("lookout", 1, other_cores, signals.waker()),
            loader: Workers::new("loader", 1, other_cores, signals.waker()),
            notices: channel(),
            other_cores,
            work: Work { search, load: Sboms::load },
            outputs,
            start,
            is_attached: false,
            first_failure: None,
        })
    }
}

fn boot_ids(configuration: &Configuration, messages: &Arc<Messages>) -> BootIds {
    let folder = configuration.service.state_dir.clone().or_else(default_folder);
    folder.map_or_else(
        || BootIds::ephemeral(Arc::clone(messages)),
        |folder| BootIds::open(&folder, Arc::clone(messages)),
    )
}

/// Starts a scanner on each core that is configured; also returns the ends of their queues.
fn start_scanners(
    request: &WatchRequest,
    waker: &Waker,
    shared: &Arc<Shared>,
    lost: &Sender<Lost>,
    messages: &Arc<Messages>,
    start: Instant,
) -> Result<(Scanners, Vec<Consumer>), Failure> {
    let cores: Vec<Option<u32>> = match &request.configuration.service.cores {
        Cores::Auto => vec![None],
        Cores::Given(cores) => cores.iter().copied().map(Some).collect(),
    };
    // The number of systems that `auto_scan` will find is unknown.
    let most = if request.auto_scan { usize::MAX } else { request.systems.len() };
    let (mut scanners, mut consumers) = (Vec::new(), Vec::new());
    for core in cores.into_iter().take(most) {
        let (producer, consumer) = queue(SCANNER_QUEUE, waker);
        consumers.push(consumer);
        let (sender, commands) = channel();
        let stats = Arc::new(ScanStats::default());
        let scanner = Scanner {
            shared: Arc::clone(shared),
            stats: Arc::clone(&stats),
            commands,
            lost: lost.clone(),
            producer,
            core,
            messages: Arc::clone(messages),
            start,
        };
        let thread = spawn("scanner", move || scanner.run())?;
        scanners.push(ScannerHandle { commands: sender, stats, thread });
    }
    Ok((Scanners(scanners), consumers))
}
