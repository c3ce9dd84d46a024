//! The control thread: finds kernels, passes systems to scanners, receives signals, reports losses.

mod machines;
mod reload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use panoptes_engine::containers::ContainerConfig;
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::watch::{Identity, Setup, Watched};
use panoptes_profiles::{Event, Profile, modules};
use panoptes_sinks::activities::Activity;
use panoptes_sinks::queue::{QueueSize, Waker, queue};
use panoptes_sinks::record::system_activity::SystemActivityDetails;
use panoptes_sinks::writer::{End, Writer};
use panoptes_sources::{AnySource, FileFormat, Format, Placed};

use crate::attach::{KnownProfiles, find_kernel, log_event, open_with, warn_losses};
use crate::config::{Cores, Mode, System};
use crate::dma::Regions;
use crate::exit::{Exit, Failure};
use crate::guests;
use crate::interfaces::{Interfaces, of_this_machine};
use crate::message::Messages;
use crate::request::WatchRequest;
use crate::sbom::Sboms;
use crate::state::{BootKey, StateStore, default_folder};
use crate::watch::clock_watch::{Found, SystemShared};
use crate::watch::finder::Finder;
use crate::watch::outputs;
use crate::watch::scanner::{Assigned, Lost, Order, ScanStats, Scanner, Shared};
use crate::watch::signals::{Signals, StopRequest};
use crate::watch::system_events::{SystemEvents, because};

/// How long `panoptes watch` waits for the first kernel: a guest may still be starting.
const FIRST_KERNEL_WAIT: Duration = Duration::from_secs(20);
/// Pause before a retry of a system; it doubles with each failure, up to the maximum.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(10);
/// Period of the control thread's loop.
const LOOK: Duration = Duration::from_millis(20);
/// Period of the checks whether memory was plugged into guests or out of them.
const MEMORY_LOOK: Duration = Duration::from_secs(2);
/// Room for the records of one burst from one scanner: 32 MiB.
const SCANNER_QUEUE: QueueSize = QueueSize { blocks: 128, block_bytes: 256 * 1024 };
/// Each record of the control thread takes a block, since it is flushed at once.
const CONTROL_QUEUE: QueueSize = QueueSize { blocks: 64, block_bytes: 32 * 1024 };

/// A system and its state.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not states")]
struct Candidate {
    system: System,
    /// When to try it next; `None` while it is scanned.
    due: Option<Instant>,
    pause: Duration,
    /// Whether its failure was reported; it is reported once until the system works again.
    reported: bool,
    /// Whether it was tried before: in a retry, QEMU may still be loading a saved machine.
    tried: bool,
    /// Whether it was found by `auto_scan` rather than named: it is removed when it ends.
    found: bool,
    /// Whether it was removed, so that a new system can take its place.
    gone: bool,
    /// While it is scanned: its kernel's identity, and the state shared with the scanner.
    scanned: Option<(Found, Arc<SystemShared>)>,
    /// Whether the standstill of its clock was reported.
    still: bool,
    /// The layout of its memory in QEMU: when it was opened, and at the last check.
    layout: (Vec<Placed>, Vec<Placed>),
}

impl Candidate {
    fn new(system: System, now: Instant, found: bool) -> Self {
        Self {
            system,
            due: Some(now),
            pause: RETRY_FIRST,
            reported: false,
            tried: false,
            found,
            gone: false,
            scanned: None,
            still: false,
            layout: (Vec::new(), Vec::new()),
        }
    }

    fn remove(&mut self) {
        (self.due, self.gone, self.scanned) = (None, true, None);
    }
}

#[derive(Debug)]
pub(super) struct Control {
    request: WatchRequest,
    messages: Arc<Messages>,
    shared: Arc<Shared>,
    system_events: SystemEvents,
    store: StateStore,
    sboms: Sboms,
    candidates: Vec<Candidate>,
    finder: Option<Finder>,
    /// The users whose guests may be read.
    users: guests::Users,
    /// When the layout of QEMU's memory is checked next.
    next_memory: Instant,
    scanners: Vec<(Sender<Order>, Arc<ScanStats>, JoinHandle<()>)>,
    lost: Receiver<Lost>,
    writer: JoinHandle<End>,
    writer_stop: Arc<AtomicBool>,
    /// Each output, and how many of its lost records were reported.
    outputs: Vec<(outputs::Watched, u64)>,
    /// How many records that did not fit in a queue were reported.
    refused: u64,
    start: Instant,
    /// Whether any system was ever attached.
    attached: bool,
    /// The failure of the first system that failed.
    first_failure: Option<Failure>,
}

impl Control {
    /// Opens the outputs and starts the threads.
    pub(super) fn new(
        request: &WatchRequest,
        messages: &Arc<Messages>,
        start: Instant,
    ) -> Result<Self, Failure> {
        let configuration = &request.configuration;
        let (outputs, watched) = outputs::open(&configuration.output, messages)?;
        let interfaces = of_this_machine().unwrap_or_else(|error| {
            messages.warning(format_args!("cannot read this machine's interfaces: {error}"));
            Interfaces::default()
        });
        let folder = configuration.service.state_dir.clone().or_else(default_folder);
        let store = folder.map_or_else(
            || StateStore::ephemeral(Arc::clone(messages)),
            |folder| StateStore::open(&folder, Arc::clone(messages)),
        );

        let waker = Waker::default();
        let (producer, consumer) = queue(CONTROL_QUEUE, &waker);
        let control_consumer = consumer;
        let mut consumers = Vec::new();
        let system_events = SystemEvents::new(producer, configuration, interfaces);
        let shared = Arc::new(Shared::default());
        let interval = configuration.service.scan_interval;
        shared.interval_ns.store(nanoseconds(interval), Ordering::Relaxed);
        let (lost_sender, lost) = channel();
        let cores: Vec<Option<u32>> = match &configuration.service.cores {
            Cores::Auto => vec![None],
            Cores::Given(cores) => cores.iter().copied().map(Some).collect(),
        };
        let mut scanners = Vec::new();
        // The number of systems that `auto_scan` will find is unknown.
        let most = if request.auto_scan { usize::MAX } else { request.systems.len() };
        for core in cores.into_iter().take(most) {
            let (producer, consumer) = queue(SCANNER_QUEUE, &waker);
            consumers.push(consumer);
            let (sender, orders) = channel();
            let pace = Arc::new(ScanStats::default());
            let scanner = Scanner {
                shared: Arc::clone(&shared),
                pace: Arc::clone(&pace),
                orders,
                lost: lost_sender.clone(),
                producer,
                core,
                messages: Arc::clone(messages),
                start,
            };
            scanners.push((sender, pace, spawn("scanner", move || scanner.run())?));
        }
        // After those of the scanners, so that the last record is the service's.
        consumers.push(control_consumer);
        let mut writer = Writer::new(consumers, outputs);
        let writer_stop = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&writer_stop);
        let writer = spawn("writer", move || writer.run(&|| nanoseconds(start.elapsed()), &stop))?;
        let candidates = request
            .systems
            .iter()
            .map(|system| Candidate::new(system.clone(), start, false))
            .collect();
        let finder = request.auto_scan.then(|| Finder::new(configuration, start));
        Ok(Self {
            request: request.clone(),
            messages: Arc::clone(messages),
            shared,
            system_events,
            store,
            sboms: Sboms::default(),
            candidates,
            finder,
            users: guests::Users::of(&configuration.service.guest_users),
            next_memory: start + MEMORY_LOOK,
            scanners,
            lost,
            writer,
            writer_stop,
            outputs: watched.into_iter().map(|watched| (watched, 0)).collect(),
            refused: 0,
            start,
            attached: false,
            first_failure: None,
        })
    }

    /// Watches until stopped.
    pub(super) fn run(mut self, signals: &Signals) -> Result<Exit, Failure> {
        let count = self.candidates.len();
        let looking =
            if self.finder.is_some() { ", looking for guests of this machine" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        let reason = format!("started with {count} system{plural}{looking}");
        self.system_events.service(Activity::ServiceInitializationStarted, &because(&reason));
        if let Err(failure) = self.read_sboms() {
            self.system_events
                .service(Activity::ServiceInitializationFailed, &because(&failure.message));
            self.stop();
            return Err(failure);
        }
        let mut said_ready = false;
        loop {
            self.find_guests();
            self.try_due_systems();
            if self.attached && !said_ready {
                said_ready = true;
                let reason = "the first system is being watched";
                self.system_events
                    .service(Activity::ServiceInitializationSuccessful, &because(reason));
            }
            if let Some(failure) = self.gives_up() {
                self.system_events
                    .service(Activity::ServiceInitializationFailed, &because(&failure.message));
                self.stop();
                return Err(failure);
            }
            match signals.wait(LOOK) {
                Some(StopRequest::Stop)
                    if self.request.configuration.service.immediate_shutdown =>
                {
                    self.writer_stop.store(true, Ordering::Relaxed);
                    return Ok(Exit::Done);
                }
                Some(StopRequest::Stop) => break,
                Some(StopRequest::Reload) => self.reload(),
                None => {}
            }
            while let Ok(lost) = self.lost.try_recv() {
                self.lose(&lost);
            }
            self.look_again();
            self.look_at_memory();
            self.tell_missed();
            self.report_dropped();
            self.report_refused();
            if self.writer.is_finished() {
                // The reader has closed the output, which is no error.
                self.shared.stop.store(true, Ordering::Relaxed);
                return Ok(Exit::Done);
            }
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        self.report_refused();
        for (sender, pace, scanner) in self.scanners.drain(..) {
            drop(sender);
            while !scanner.is_finished() {
                // A second request stops at once.
                if signals.wait(LOOK) == Some(StopRequest::Stop) {
                    self.writer_stop.store(true, Ordering::Relaxed);
                    return Ok(Exit::Done);
                }
            }
            if scanner.join().is_err() {
                let message = "a scanner thread ended unexpectedly; this is a bug in Panoptes";
                return Err(Failure::new(Exit::Failed, message));
            }
            self.messages.info(&*pace);
        }
        self.report_dropped();
        let reason = "stopped on request";
        self.system_events.service(Activity::ServiceGracefullyShutdown, &because(reason));
        self.finish(signals)
    }

    /// Waits for the writer to write the remaining records; a second request to stop ends that.
    fn finish(self, signals: &Signals) -> Result<Exit, Failure> {
        drop(self.system_events);
        while !self.writer.is_finished() {
            if signals.wait(LOOK) == Some(StopRequest::Stop) {
                self.writer_stop.store(true, Ordering::Relaxed);
                return Ok(Exit::Done);
            }
        }
        for (output, _) in &self.outputs {
            let dropped = output.counters.dropped();
            if dropped == 0 {
                continue;
            }
            if output.counters.errors() > 0 {
                let error = std::io::Error::from_raw_os_error(output.counters.last_error());
                let message = format!("{}: {dropped} records were lost: {error}", output.name);
                return Err(Failure::new(Exit::Output, message));
            }
            let name = &output.name;
            self.messages.warning(format_args!("{name}: {dropped} records were lost in total"));
        }
        Ok(Exit::Done)
    }

    fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        drop(self.system_events);
        drop(self.scanners);
        // Wait until all records are written; the result of the program is already decided.
        let _ = self.writer.join();
    }

    fn try_due_systems(&mut self) {
        let now = Instant::now();
        for index in 0..self.candidates.len() {
            if self.candidates[index].due.is_some_and(|due| due <= now) {
                self.try_system(index);
            }
        }
    }

    fn try_system(&mut self, index: usize) {
        let system = self.candidates[index].system.clone();
        let was_reported = self.candidates[index].reported;
        let is_retry = std::mem::replace(&mut self.candidates[index].tried, true);
        if !was_reported {
            let reason = format!("looking for a kernel in {}", system.address);
            let activity = Activity::HostInitializationStarted;
            self.system_events.host(&system, activity, &because(&reason));
        }
        // A kernel that is still starting does not know its own clock yet, so wait. The wait is
        // bounded, because a kernel may hide that it has started.
        let is_patient = self.candidates[index].pause < RETRY_MOST;
        match self.attach(&system, was_reported, is_patient, is_retry) {
            Ok((assigned, found)) => {
                let candidate = &mut self.candidates[index];
                candidate.due = None;
                candidate.reported = false;
                candidate.still = false;
                candidate.scanned = Some((found, Arc::clone(&assigned.vital)));
                if let AnySource::Guest(memory) = &assigned.source {
                    let plan = memory.planned().to_vec();
                    candidate.layout = (plan.clone(), plan);
                }
                if let AnySource::File(source) = &assigned.source
                    && source.format() == Format::Raw
                {
                    // After the machine has ended, its memory must not be read as a dump.
                    candidate.system.settings.file_format = FileFormat::Raw;
                }
                candidate.pause = RETRY_FIRST;
                self.attached = true;
                let assigned = Assigned { index, ..assigned };
                let scanner = &self.scanners[index % self.scanners.len()].0;
                // If the scanner has ended, the join of its thread reports that.
                let _ = scanner.send(Order::Scan(assigned));
            }
            Err(failure) => {
                let waits = failure.exit == Exit::NoKernel;
                let ends_it =
                    self.request.mode == Mode::Watch && !self.attached && self.finder.is_none();
                if !was_reported && !ends_it {
                    self.messages.error(&failure);
                } else if !was_reported && waits {
                    // A failure that ends the program is reported when it ends.
                    self.messages.info(format_args!(
                        "{failure}; waiting up to {} s for a kernel to start",
                        FIRST_KERNEL_WAIT.as_secs()
                    ));
                }
                let candidate = &mut self.candidates[index];
                candidate.reported = true;
                candidate.due = Some(Instant::now() + candidate.pause);
                candidate.pause = (candidate.pause * 2).min(RETRY_MOST);
                self.first_failure.get_or_insert(failure);
            }
        }
    }

    /// Opens a system, finds its kernel and allocates all memory for watching it.
    fn attach(
        &mut self,
        system: &System,
        quiet: bool,
        is_patient: bool,
        is_retry: bool,
    ) -> Result<(Assigned, Found), Failure> {
        let begin = Instant::now();
        let known = KnownProfiles::of(system, &self.request.configuration, &self.messages)?;
        let service = &self.request.configuration.service;
        let system_events = &mut self.system_events;
        let mut report = |regions: &Regions| {
            if !quiet {
                system_events.regions(system, regions);
            }
        };
        let opened = open_with(&system.address, &system.settings, service, &mut report);
        let mut source = match opened {
            Ok(source) => source,
            Err(failure) => {
                if !quiet {
                    self.system_events.failed(system, &failure);
                }
                return Err(failure);
            }
        };
        if !quiet {
            crate::attach::log_source(&source, system, true, &self.messages);
        }
        self.system_events.search_begins();
        let (system_events, messages) = (&mut self.system_events, &self.messages);
        let found = find_kernel(&mut source, &known, &mut |event: Event<'_>| {
            if !quiet {
                log_event(&event, &system.name, messages);
                system_events.discovery(system, &event);
            }
        });
        if let Err(failure) = crate::attach::still_there(&mut source, system) {
            if !quiet {
                self.system_events.failed(system, &failure);
            }
            return Err(failure);
        }
        let mut profile = match found {
            Ok(profile) => profile,
            Err(error) => {
                if !quiet {
                    warn_losses(&source, &system.name, &self.messages);
                    self.system_events.not_found(system, &error);
                }
                return Err(crate::attach::discovery_failure(system, &error));
            }
        };
        // Add layouts that only loaded modules have. Without them, scans use a fallback.
        modules::bind(&mut source, &mut profile);
        let (watched, has_begun) = self.prepare(system, &profile, &mut source, is_retry);
        if !has_begun && is_patient {
            let release = &profile.release;
            let message = format!("{}: Linux {release} is still starting", system.name);
            let failure = Failure::new(Exit::NoKernel, message);
            if !quiet {
                self.system_events.failed(system, &failure);
            }
            return Err(failure);
        }
        let reason = format!(
            "Linux {} is being watched, found in {:.0} ms",
            profile.release,
            begin.elapsed().as_secs_f64() * 1e3
        );
        let details = SystemActivityDetails {
            profile: profile.build_id.as_deref().map(Into::into),
            ..because(&reason)
        };
        self.system_events.host(system, Activity::HostInitializationSuccessful, &details);
        self.messages.info(format_args!("{}: {reason}", system.name));
        let vital = Arc::new(SystemShared::default());
        let assigned = Assigned { index: 0, watched: Box::new(watched), source, vital };
        Ok((assigned, Found::of(&profile)))
    }

    /// Makes the state for scanning a system; also returns whether its kernel has started.
    fn prepare(
        &self,
        system: &System,
        profile: &Profile,
        source: &mut AnySource,
        is_retry: bool,
    ) -> (Watched, bool) {
        let mut watched = Watched::new(Setup {
            limits: Limits::from(&system.settings.limits),
            key: crate::random::key(),
            message_ids: crate::random::key(),
            policy: PolicyConfig::from(&system.settings.events),
            login_servers: system.settings.events.login_servers(),
            containers: Arc::new(ContainerConfig::from(&system.settings.containers)),
            header: self.system_events.header_for(system),
            identity: Identity {
                name: system.name.clone(),
                os_version: os_version(&profile.release),
                boot_uuid: [0; 16],
            },
            report_existing: false,
            waits_for_clock: is_retry,
            profile,
            shipped: self.sboms.of(&system.settings.sbom),
        });
        let first = watched.first_process(source);
        let key = BootKey {
            build_id: profile.build_id.as_deref().map(decode_hex).unwrap_or_default(),
            kernel_offset: profile.kernel_offset,
            direct_map_base: profile.space.direct_map.start,
            init_start_ns: first.map_or(0, |first| first.start_ns),
        };
        watched.set_boot_uuid(self.store.boot_uuid(&key).into_bytes());
        (watched, first.is_some_and(|first| first.runs_a_program))
    }

    /// For `panoptes watch`: returns the failure that ends the program, instead of endless retries.
    fn gives_up(&mut self) -> Option<Failure> {
        if self.attached || self.request.mode != Mode::Watch || self.finder.is_some() {
            return None;
        }
        let failure = self.first_failure.as_ref()?;
        let patient = failure.exit == Exit::NoKernel && self.start.elapsed() < FIRST_KERNEL_WAIT;
        if patient { None } else { self.first_failure.take() }
    }

    /// Reports the records that outputs lost since the last report.
    fn report_dropped(&mut self) {
        for (output, reported) in &mut self.outputs {
            let dropped = output.counters.dropped();
            if dropped == *reported {
                continue;
            }
            let new = dropped - *reported;
            *reported = dropped;
            self.messages.warning(format_args!("{}: {new} records were lost", output.name));
            let details = SystemActivityDetails {
                output: Some(output.name.as_str().into()),
                dropped: Some(new),
                ..because("an output could not accept records in time")
            };
            self.system_events.service(Activity::RecordsDropped, &details);
        }
    }

    /// Reports the records that did not fit in the queues to the writer.
    fn report_refused(&mut self) {
        let scanners: u64 = self.scanners.iter().map(|(_, pace, _)| pace.refused()).sum();
        let refused = scanners + self.system_events.refused();
        if refused <= self.refused {
            return;
        }
        let new = refused - self.refused;
        self.refused = refused;
        self.messages
            .warning(format_args!("{new} records were lost: the queue to the writer was full"));
        let reason = "the queue to the writer was full";
        let details = SystemActivityDetails { dropped: Some(new), ..because(reason) };
        self.system_events.service(Activity::RecordsDropped, &details);
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    std::thread::Builder::new()
        .name(format!("panoptes-{name}"))
        .spawn(run)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start a thread: {error}")))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Formats `6.1.0-37-amd64` as records name it: `Linux Kernel 6.1`.
fn os_version(release: &str) -> String {
    let mut numbers = release.splitn(3, ['.', '-', '+']);
    let (major, minor) = (numbers.next().unwrap_or(""), numbers.next().unwrap_or(""));
    format!("Linux Kernel {major}.{minor}")
}

fn decode_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks_exact(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_become_versions() {
        assert_eq!(os_version("6.1.0-37-amd64"), "Linux Kernel 6.1");
        assert_eq!(os_version("6.12.107+deb13-amd64"), "Linux Kernel 6.12");
        assert_eq!(os_version(""), "Linux Kernel .");
    }

    #[test]
    fn build_ids_are_bytes() {
        assert_eq!(decode_hex("00ff1"), [0, 0xff]);
    }
}
