//! The control thread: passes systems to workers and to scanners, receives signals, reports losses.
//!
//! [`start`] starts the threads, [`attach`] passes systems on, [`search`] is what a worker does,
//! [`scanners`] has the scanners, [`machines`] follows the systems that are scanned, [`outputs`]
//! has the writer, and [`flows`] the sensor of flows. [`reload`] reads the SBOMs, and handles
//! SIGHUP: [`prepare`] makes what a changed configuration needs, and [`systems`] changes the
//! systems.
//!
//! This thread only hands out work and collects results. What may take long is done by others, so a
//! signal takes effect at once.
//!
//! Start reading at [`ControlThread::run`].

mod attach;
mod candidate;
mod flows;
mod functions;
mod in_use;
mod machines;
mod metrics_port;
mod one_machine;
mod outputs;
mod prepare;
mod reload;
mod scanners;
mod search;
mod start;
mod systems;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use panoptes_engine::limits::Limits;
use panoptes_engine::walk::Walker;
use panoptes_records::activities::Activity;
use panoptes_sinks::failpoints;
use panoptes_sinks::panics::caught;

use crate::boot_ids::{BootIds, folder_of};
use crate::config::Mode;
use crate::dma;
use crate::exit::{Exit, Failure};
use crate::guests::{self, Guest};
use crate::memory::PromisedMemory;
use crate::message::Messages;
use crate::request::WatchRequest;
use crate::sandbox::GivenUp;
use crate::sbom::Sboms;
use crate::watch::exceptions::SilencedAlerts;
use crate::watch::finder::Finder;
use crate::watch::metrics::Figures;
use crate::watch::missing_facts::Problems;
use crate::watch::notify::{self, Notifier, ServiceStatus};
use crate::watch::outputs::LogFolder;
use crate::watch::scanner::{
    ReturnReason, ReturnedSystem, Scanner, ScannerControls, ScannerState, System,
};
use crate::watch::signals::{Signals, StopRequest};
use crate::watch::system_events::{Notice, SystemEvents, because};
use crate::watch::threads::{OtherCores, Workers};
use attach::WorkerOutcome;
use candidate::{Phase, SystemCandidate};
use flows::FlowSensor;
use functions::Functions;
use in_use::InUse;
use machines::{GuestNames, HostSurvey};
use outputs::{LeftoverPlace, Outputs};
use reload::{LoadFn, LoaderResult, Reloads};
use scanners::{ScannerHandle, Scanners};
use search::{FindFn, SearchFn};

/// How long `panoptes watch` waits for the first kernel: a guest may still be starting.
const FIRST_KERNEL_WAIT: Duration = Duration::from_secs(20);
/// How long scanners may take to end, if other programs have the cores.
const SCANNERS_END_MAX: Duration = Duration::from_secs(10);
/// How long a scanner may neither run nor wait for a core after the request to stop. A scan ends at
/// its next batch of reads, so a longer wait is for memory that does not answer. A busy machine
/// makes threads wait for the locks of their own address space for some tenths of a second.
const SCANNERS_STALL_MAX: Duration = Duration::from_secs(1);
const _: () = assert!(SCANNERS_STALL_MAX.as_nanos() < SCANNERS_END_MAX.as_nanos());
/// Maximum number of threads that read the configuration and SBOMs at once. One that a file system
/// does not answer is left behind.
const LOADER_THREADS_MAX: usize = 8;
/// Maximum number of threads that open outputs at once.
const OUTPUT_OPENER_THREADS_MAX: usize = 4;
/// Maximum number of threads that look for records without a receiver at once.
const LEFTOVER_THREADS_MAX: usize = 2;
/// Period of the control thread's loop.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The same at the end: threads that have ended do not wake the control thread.
const POLL_INTERVAL_AT_END: Duration = Duration::from_millis(1);
const _: () = assert!(POLL_INTERVAL_AT_END.as_nanos() < POLL_INTERVAL.as_nanos());
/// Maximum time between two looks for a guest that is named and does not run.
const GUEST_CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// Period of the checks whether memory was plugged into guests or out of them.
const MEMORY_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The loop, and its rooms.
#[derive(Debug)]
pub(super) struct ControlThread {
    cx: ControlContext,
    systems: Systems,
    /// Whether the SBOMs were read.
    is_ready: bool,
    /// Whether SIGHUP arrived and the configuration is not being read yet.
    wants_reload: bool,
    /// The threads that read the configuration and its SBOMs.
    loader: Workers<LoaderResult>,
    reloads: Reloads,
    outputs: Outputs,
    flows: FlowSensor,
    /// The folder of logs, if there is one, and earlier ones that outputs may still have.
    folders: Vec<LogFolder>,
    /// The number that a receiver was given last.
    last_receiver: usize,
    /// Ends the thread that answers requests for metrics.
    metrics_stop: Arc<AtomicBool>,
}

/// The configuration, and what all rooms report to.
#[derive(Debug)]
struct ControlContext {
    request: WatchRequest,
    messages: Arc<Messages>,
    shared: Arc<ScannerControls>,
    system_events: SystemEvents,
    boot_ids: Arc<BootIds>,
    sboms: Sboms,
    /// The exceptions, and what they silence.
    silenced: SilencedAlerts,
    figures: Arc<Figures>,
    /// What workers report.
    notices: (Sender<Notice>, Receiver<Notice>),
    problems: Problems,
    other_cores: OtherCores,
    work: WorkerJobs,
    given_up: GivenUp,
    start: Instant,
}

/// The systems that are watched or searched, and the threads that search and scan them.
#[derive(Debug)]
struct Systems {
    /// The addresses of the systems that are watched, or about to be.
    in_use: InUse,
    candidates: Vec<SystemCandidate>,
    finder: Option<Finder>,
    /// The guests that can be watched, as of the last look.
    guests: Vec<Guest>,
    /// The users whose guests may be read.
    users: guests::Users,
    names: GuestNames,
    /// When the layout of QEMU's memory is checked next.
    next_memory: Instant,
    scanners: Scanners<System>,
    /// What the memory of scanners is enough for.
    limits: Limits,
    /// Memory that searches, and scanners without systems, are about to use.
    promised: PromisedMemory,
    /// Reads the first process of each system that is found.
    walker: Arc<Mutex<Walker>>,
    /// The threads that search for kernels.
    workers: Workers<WorkerOutcome>,
    /// The thread that looks at this machine's processes and files.
    lookout: Workers<HostSurvey>,
    functions: Functions,
    /// Whether any system was ever attached.
    is_attached: bool,
    /// The failure of the first system that failed.
    first_failure: Option<Failure>,
}

/// How watching ends.
#[derive(Clone, Copy, Debug)]
enum WatchEnd {
    /// All records are written, for this reason.
    Shutdown(&'static str),
    /// Nobody waits for what is not written.
    AtOnce,
    /// The writer has ended: the reader has closed the output, which is no error, or it panics.
    Closed,
}

/// What the other threads do; tests replace it.
#[derive(Clone, Copy, Debug)]
struct WorkerJobs {
    search: SearchFn,
    find_again: FindFn,
    find_functions: fn(Option<&Path>) -> dma::DocaFunctionList,
    load: LoadFn,
}

impl ControlThread {
    /// Watches until stopped.
    pub(super) fn run(mut self, signals: &Signals) -> Result<Exit, Failure> {
        // After a panic, only what reports it is used again.
        match caught(|| self.watch_until_end(signals)) {
            Ok(Ok(WatchEnd::Shutdown(reason))) => self.shut_down(signals, reason),
            Ok(Ok(WatchEnd::AtOnce)) => {
                self.stop_threads();
                self.outputs.stop();
                Ok(Exit::Done)
            }
            Ok(Ok(WatchEnd::Closed)) => {
                self.stop_threads();
                self.outputs.end()
            }
            Ok(Err(failure)) => Err(self.fail(Activity::ServiceInitializationFailed, failure)),
            Err(panic) => {
                let message = format!("the control thread panicked, and the service ends: {panic}");
                let failure = Failure::new(Exit::Failed, message);
                Err(self.fail(Activity::ServiceRuntimeFailure, failure))
            }
        }
    }

    fn watch_until_end(&mut self, signals: &Signals) -> Result<WatchEnd, Failure> {
        self.systems.report_start(&mut self.cx);
        self.look_for_left();
        self.systems.report_notices(&mut self.cx);
        self.read_sboms()?;
        let mut is_readiness_reported = false;
        let mut notifier = Notifier::new();
        loop {
            failpoints::reach("control");
            self.collect_loaded()?;
            if self.is_ready {
                self.systems.collect_sightings(&mut self.cx);
                self.systems.collect_functions(&mut self.cx);
                self.systems.look_for_functions(&mut self.cx);
                self.systems.look_around(&mut self.cx);
                self.systems.collect_tasks(&mut self.cx);
                self.start_due_tasks();
            }
            if !is_readiness_reported && let Some(reason) = self.readiness() {
                is_readiness_reported = true;
                let activity = Activity::ServiceInitializationSuccessful;
                self.cx.system_events.service(activity, &because(reason));
            }
            if let Some(failure) = self.systems.gives_up(&mut self.cx) {
                return Err(failure);
            }
            match signals.wait(POLL_INTERVAL) {
                Some(StopRequest::Stop)
                    if self.cx.request.configuration.service.immediate_shutdown =>
                {
                    return Ok(WatchEnd::AtOnce);
                }
                Some(StopRequest::Stop) => return Ok(WatchEnd::Shutdown("stopped on request")),
                // A person's terminal has gone, and there is no file to read again.
                Some(StopRequest::Reload) if self.cx.request.ends_with_terminal() => {
                    return Ok(WatchEnd::Shutdown("stopped on request"));
                }
                Some(StopRequest::Reload) => self.wants_reload = true,
                Some(StopRequest::Reopen) => {
                    self.cx.messages.reopen();
                    self.outputs.reopen(&self.cx.messages);
                }
                None => {}
            }
            let facts = self.facts();
            notifier.update(facts, Instant::now(), &self.cx.messages);
            if facts.is_alive {
                self.cx.figures.set_alive();
            }
            if facts.is_initialized {
                self.cx.figures.set_ready();
            }
            self.follow_systems();
            if self.systems.have_all_ended(&self.cx) {
                return Ok(WatchEnd::Shutdown("all systems have ended"));
            }
            if self.outputs.is_closed() {
                return Ok(WatchEnd::Closed);
            }
        }
    }

    /// Why the service is ready, if it is: a system is watched, or there is none yet.
    fn readiness(&self) -> Option<&'static str> {
        if self.systems.is_attached {
            return Some("the first system is being watched");
        }
        if self.flows.runs() && self.systems.finder.is_none() && self.systems.candidates.is_empty()
        {
            return Some("the packets of interfaces are being audited");
        }
        let is_idle = self.systems.finder.is_some()
            && self.systems.has_looked(&self.cx)
            && self.systems.candidates.iter().all(SystemCandidate::is_gone);
        is_idle.then_some("no guest that can be watched runs on this machine yet")
    }

    /// Handles what scanners and the writer report.
    fn follow_systems(&mut self) {
        for lost in self.systems.scanners.balance() {
            self.systems.lose(&mut self.cx, lost);
        }
        self.systems.check_stopped_clocks();
        self.systems.check_stalls(&mut self.cx);
        self.systems.check_unscanned(&mut self.cx);
        self.check_waits();
        self.systems.apply_changes(&mut self.cx);
        self.systems.report_missed(&mut self.cx);
        while let Some(panic) = self.systems.scanners.next_panic() {
            let reason = format!("a scanner panicked, and goes on: {panic}");
            self.cx.messages.error(&reason);
            self.cx.system_events.service(Activity::ServiceRuntimeFailure, &because(&reason));
        }
        self.follow_flows();
        self.cx.silenced.report(Instant::now(), &mut self.cx.system_events);
        self.outputs.watch(self.cx.system_events.opened_logs());
        self.outputs.replace(&self.cx.messages, &mut self.cx.system_events);
        if let Some(outputs) = self.outputs.take_changed() {
            self.cx.figures.set_outputs(outputs);
        }
        if self.outputs.report(&self.cx.messages, &mut self.cx.system_events) {
            // A system may have come back meanwhile, and waits for its log.
            self.systems.renew_subjects(&mut self.cx);
        }
        if self.cx.system_events.retry_logs(Instant::now()) {
            self.systems.renew_subjects(&mut self.cx);
        }
        // Outputs have earlier ones until they have ended.
        self.folders.retain(|folder| Arc::strong_count(&folder.lock) > 1);
        self.report_refused(false);
    }

    /// What the service manager has to know.
    fn facts(&self) -> ServiceStatus {
        let has_tried = self.systems.has_looked(&self.cx)
            && !self.systems.candidates.iter().any(SystemCandidate::is_untried);
        ServiceStatus {
            is_initialized: self.systems.is_attached || self.is_ready && has_tried,
            is_reloading: self.is_reloading(),
            is_alive: self.systems.scanners.are_alive()
                && self.cx.figures.writer_goes_on()
                && self.flows.goes_on(),
        }
    }

    /// Requests that scanners and workers end. Nobody waits for workers.
    fn stop_threads(&mut self) {
        self.flows.ask_to_end();
        notify::stopping(&self.cx.messages);
        self.cx.shared.stop.store(true, Ordering::Relaxed);
        self.systems.scanners.wake();
        self.systems.workers.cancel_all();
    }

    /// Has records reported that wait on the disk for receivers of an earlier configuration.
    fn look_for_left(&mut self) {
        if let Some(state_dir) = folder_of(&self.cx.request.configuration.service) {
            self.outputs.look_for_left(LeftoverPlace::All(state_dir));
        }
    }

    fn report_refused(&mut self, is_last: bool) {
        let by_scanners = self.systems.scanners.refused();
        self.cx.figures.set_refused(by_scanners + self.cx.system_events.refused());
        self.outputs.report_refused(
            by_scanners,
            is_last,
            &self.cx.messages,
            &mut self.cx.system_events,
        );
    }

    /// Ends all threads after a failure, which is reported as this activity and returned.
    fn fail(mut self, activity: Activity, failure: Failure) -> Failure {
        self.cx.system_events.service(activity, &because(&failure.message));
        self.stop_threads();
        drop(self.cx.system_events);
        let begin = Instant::now();
        while !self.systems.scanners.have_ended() && begin.elapsed() < SCANNERS_END_MAX {
            sleep(Duration::from_millis(1));
        }
        let have_ended = self.systems.scanners.have_ended();
        drop(self.systems.scanners);
        if have_ended {
            self.outputs.wait();
        } else {
            self.outputs.stop();
        }
        failure
    }

    /// Ends all threads because of `reason`, such as a request to stop; a second request ends the
    /// wait for them.
    fn shut_down(mut self, signals: &Signals, reason: &str) -> Result<Exit, Failure> {
        self.stop_threads();
        self.report_refused(true);
        let handles = self.systems.scanners.drain();
        let states: Vec<_> = handles.iter().map(|handle| Arc::clone(&handle.state)).collect();
        let asked_again = wait_for(&handles, signals).or_else(|| self.end_flows(signals));
        if asked_again == Some(StopRequest::Stop) {
            self.outputs.stop();
            return Ok(Exit::Done);
        }
        let mut ended = Vec::new();
        for scanner in handles {
            if !scanner.thread.is_finished() {
                continue;
            }
            let Ok(scanner) = scanner.thread.join() else {
                let message = "a scanner thread ended unexpectedly; this is a bug in Panoptes";
                return Err(Failure::new(Exit::Failed, message));
            };
            ended.push(scanner);
        }
        self.systems.finish_moves(&mut ended);
        if ended.len() < states.len() {
            return self.leave_scanners(&states, signals);
        }
        for slot in ended.iter().flat_map(Scanner::slots) {
            let system = &self.systems.candidates[slot.index].system;
            let messages = self.cx.messages.of(system);
            messages.info(format_args!("{}: {}", system.name, slot.stats));
        }
        // Freeing memory takes long, so the last records are written first.
        let _memory: Vec<_> = ended.into_iter().map(Scanner::close).collect();
        self.report_last_losses(&states);
        self.cx.system_events.service(Activity::ServiceGracefullyShutdown, &because(reason));
        self.outputs.finish_changes(signals, &self.cx.messages, &mut self.cx.system_events);
        drop(self.cx.system_events);
        self.outputs.finish(signals, &self.cx.messages)
    }

    /// Reports what exceptions silenced, what scanners could not pass on, also of their last
    /// records, and what outputs lost.
    fn report_last_losses(&mut self, states: &[Arc<ScannerState>]) {
        let refused = states.iter().map(|state| state.refused.load(Ordering::Relaxed)).sum();
        self.cx.silenced.finish(&self.cx.messages, &mut self.cx.system_events);
        self.outputs.report_refused(refused, true, &self.cx.messages, &mut self.cx.system_events);
        self.outputs.report_last(&self.cx.messages, &mut self.cx.system_events);
    }

    /// Ends although a scanner waits for memory that does not answer.
    fn leave_scanners(
        mut self,
        states: &[Arc<ScannerState>],
        signals: &Signals,
    ) -> Result<Exit, Failure> {
        self.report_last_losses(states);
        let reason = "stopped on request, but a scanner did not end, which may read memory that \
                      does not answer: the last records of some systems are lost";
        self.cx.messages.warning(reason);
        self.cx.system_events.service(Activity::ServiceGracefullyShutdown, &because(reason));
        self.outputs.finish_changes(signals, &self.cx.messages, &mut self.cx.system_events);
        drop(self.cx.system_events);
        self.outputs.stop();
        self.outputs.result(&self.cx.messages)
    }
}

impl Systems {
    /// Whether guests and functions were looked for once, as far as they are.
    fn has_looked(&self, cx: &ControlContext) -> bool {
        let has_listed = !cx.shared.has_dma || self.functions.has_looked;
        self.finder.as_ref().is_none_or(|finder| finder.has_looked && has_listed)
    }

    fn report_start(&mut self, cx: &mut ControlContext) {
        let count = self.candidates.len();
        let looking =
            if self.finder.is_some() { ", looking for guests of this machine" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        let reason = format!("started with {count} system{plural}{looking}");
        cx.system_events.service(Activity::ServiceInitializationStarted, &because(&reason));
    }

    /// Whether nothing is left to watch, and nothing can come: for `panoptes watch`.
    fn have_all_ended(&self, cx: &ControlContext) -> bool {
        cx.request.mode == Mode::Watch
            && self.finder.is_none()
            && self.is_attached
            && self.candidates.iter().all(SystemCandidate::is_gone)
    }

    /// Writes the last records of systems that were on their way to another scanner.
    fn finish_moves(&self, ended: &mut [Scanner]) {
        while let Some(ReturnedSystem { mut slot, why }) = self.scanners.next_returned() {
            if let (Some(scanner), ReturnReason::Asked | ReturnReason::Overran) =
                (ended.first_mut(), why)
            {
                scanner.finish(&mut slot);
            }
        }
    }

    /// For `panoptes watch`: returns the failure that ends the program, instead of endless retries.
    fn gives_up(&mut self, cx: &mut ControlContext) -> Option<Failure> {
        if self.is_attached || cx.request.mode != Mode::Watch || self.finder.is_some() {
            return None;
        }
        // Each system gets one attempt, and every attempt ends.
        let is_at_work = |candidate: &SystemCandidate| {
            candidate.is_untried() || matches!(candidate.phase, Phase::Attaching(_))
        };
        if self.candidates.iter().any(is_at_work) {
            return None;
        }
        let failure = self.first_failure.as_ref()?;
        let patient = failure.exit == Exit::NoKernel && cx.start.elapsed() < FIRST_KERNEL_WAIT;
        if patient {
            return None;
        }
        self.report_unreported(cx);
        self.first_failure.take()
    }
}

/// Waits until all scanners have ended, or wait for memory that does not answer; returns another
/// request to stop, which ends the wait.
fn wait_for(scanners: &[ScannerHandle<System>], signals: &Signals) -> Option<StopRequest> {
    let begin = Instant::now();
    let runnable: Vec<_> = scanners.iter().map(ScannerHandle::runnable_ns).collect();
    loop {
        let elapsed = begin.elapsed();
        let is_awaited = |(scanner, before): (&ScannerHandle<System>, &u64)| {
            let ran = Duration::from_nanos(scanner.runnable_ns().saturating_sub(*before));
            let may_end = || elapsed < SCANNERS_STALL_MAX + ran || scanner.is_runnable();
            elapsed < SCANNERS_STALL_MAX || elapsed < SCANNERS_END_MAX && may_end()
        };
        let mut left = scanners.iter().zip(&runnable).filter(|(one, _)| !one.thread.is_finished());
        if !left.any(is_awaited) {
            return None;
        }
        if signals.wait(POLL_INTERVAL_AT_END) == Some(StopRequest::Stop) {
            return Some(StopRequest::Stop);
        }
    }
}
