//! Figures of the service for Prometheus, at `output.metrics.address`.
//!
//! Scanners and outputs keep their figures in atomics, once a scan or a write; nobody waits for a
//! reader ([`SystemFigures`], `ScannerState`, `OutputCounters`). The control thread notes what
//! there is ([`Figures`]). The thread `panoptes-metrics` renders them ([`page`]) and answers
//! requests ([`server`]). It has a low priority, and none of the scanners' cores if there are
//! others.
//!
//! Names of systems, outputs and exceptions are texts of others: [`text`] escapes and bounds them.

mod flows;
mod page;
mod server;
#[cfg(test)]
pub(super) mod tests;
mod text;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

use panoptes_engine::policy::exceptions::Exceptions;
use panoptes_records::activities::MessageType;
use panoptes_records::record_counts::RecordCounts;
use panoptes_sinks::output::OutputCounters;
use panoptes_sinks::panics::{Restarts, caught};
use panoptes_sinks::writer::Writer;
use rustix::process::{getpriority_process, setpriority_process};

use super::clocks::nanoseconds;
use super::counters::{Sums, SystemFigures};
use super::exceptions::SilencedAlerts;
use super::scanner::{ScannerControls, ScannerState};
use crate::config::NetworkAddress;
use crate::flow::SensorFigures;
use crate::message::Messages;
use server::MetricsResponse;
pub(super) use server::Server;

/// A scanner stands still if it has made no step for so many intervals, and for this time at least:
/// a host may be busy for seconds.
const STANDS_STILL_INTERVALS: u64 = 10;
const STANDS_STILL: Duration = Duration::from_secs(10);
/// The time without a step of the control thread after which a restart may help: that of
/// `WatchdogSec=` in the unit.
pub(super) const STANDS_STILL_FOR_GOOD: Duration = Duration::from_secs(30);
/// Added to the program's nice value, as for the slow scanner.
const NICE: i32 = 10;

/// All that metrics show.
#[derive(Debug)]
pub(super) struct Figures {
    start: Instant,
    shared: Arc<ScannerControls>,
    scanners: Vec<Arc<ScannerState>>,
    records: Arc<RecordCounts>,
    /// When the writer's last step began, in nanoseconds since the start.
    writer_ns: Arc<AtomicU64>,
    exceptions: Mutex<Arc<Exceptions>>,
    /// Figures of each system, by its name.
    systems: Mutex<BTreeMap<String, Arc<SystemFigures>>>,
    /// Each output's name. It goes when the writer and the control thread have dropped its
    /// counters.
    outputs: Mutex<Vec<(String, Weak<OutputCounters>)>>,
    /// Those of the sensor of flows, if there is one.
    flows: Mutex<Option<Arc<SensorFigures>>>,
    /// Whether there should be one that could not be started.
    is_flow_sensor_missing: AtomicBool,
    /// Records that did not fit in the queues to the writer.
    refused: AtomicU64,
    is_ready: AtomicBool,
    /// When the control thread last made a step, and no scanner had ended.
    alive_ns: AtomicU64,
}

impl Figures {
    pub(super) fn new(
        start: Instant,
        shared: &Arc<ScannerControls>,
        scanners: Vec<Arc<ScannerState>>,
        writer: &Writer,
        silenced: &SilencedAlerts,
    ) -> Self {
        Self {
            start,
            shared: Arc::clone(shared),
            scanners,
            records: Arc::clone(writer.record_counts()),
            writer_ns: Arc::clone(writer.last_step()),
            exceptions: Mutex::new(silenced.exceptions()),
            systems: Mutex::default(),
            outputs: Mutex::default(),
            flows: Mutex::default(),
            is_flow_sensor_missing: AtomicBool::default(),
            refused: AtomicU64::default(),
            is_ready: AtomicBool::default(),
            alive_ns: AtomicU64::default(),
        }
    }

    /// Control thread: the figures of the system of this name. They continue when the system is
    /// attached to again.
    pub(super) fn system(&self, name: &str) -> Arc<SystemFigures> {
        let mut systems = lock(&self.systems);
        if let Some(figures) = systems.get(name) {
            return Arc::clone(figures);
        }
        Arc::clone(systems.entry(name.to_owned()).or_default())
    }

    /// Control thread: no system has this name any more.
    pub(super) fn forget(&self, name: &str) {
        lock(&self.systems).remove(name);
    }

    /// Control thread: sets other exceptions.
    pub(super) fn set_exceptions(&self, exceptions: Arc<Exceptions>) {
        *lock(&self.exceptions) = exceptions;
    }

    /// The counters of an output.
    #[cfg(test)]
    pub(super) fn counters(&self, name: &str) -> Option<Arc<OutputCounters>> {
        let outputs = lock(&self.outputs);
        outputs.iter().find(|(output, _)| output == name)?.1.upgrade()
    }

    /// Control thread: sets all outputs.
    pub(super) fn set_outputs(&self, outputs: Vec<(String, Weak<OutputCounters>)>) {
        *lock(&self.outputs) = outputs;
    }

    /// Control thread: sets the figures of the sensor of flows.
    pub(super) fn set_flows(&self, flows: Option<Arc<SensorFigures>>) {
        *lock(&self.flows) = flows;
        self.is_flow_sensor_missing.store(false, Ordering::Relaxed);
    }

    /// Control thread: the sensor of flows could not be started.
    pub(super) fn set_flow_sensor_missing(&self) {
        self.is_flow_sensor_missing.store(true, Ordering::Relaxed);
    }

    /// Control thread: sets how many records did not fit in the queues to the writer.
    pub(super) fn set_refused(&self, records: u64) {
        self.refused.store(records, Ordering::Relaxed);
    }

    /// Control thread: the service is ready.
    pub(super) fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
    }

    /// Control thread: notes that it runs and that no scanner has ended.
    pub(super) fn set_alive(&self) {
        self.alive_ns.store(nanoseconds(self.start.elapsed()), Ordering::Relaxed);
    }

    /// The figures of all systems, as sums.
    pub(super) fn sums(&self) -> Sums {
        let alerts = self.records.all().filter(|(_, kind, _)| *kind == MessageType::Alert);
        let mut sums = Sums { alerts: alerts.map(|(.., count)| count).sum(), ..Sums::default() };
        for system in lock(&self.systems).values() {
            system.add_to(&mut sums);
        }
        sums
    }

    fn interval_ns(&self) -> u64 {
        self.shared.interval_ns.load(Ordering::Relaxed)
    }

    /// What stands still: a scanner, the writer, the sensor of flows, which may not have started,
    /// or an output whose disk does not answer.
    fn trouble(&self) -> Option<String> {
        let now = nanoseconds(self.start.elapsed());
        let intervals = self.interval_ns().saturating_mul(STANDS_STILL_INTERVALS);
        let most = intervals.max(nanoseconds(STANDS_STILL));
        let step = |scanner: &Arc<ScannerState>| scanner.step_ns.load(Ordering::Relaxed);
        if self.scanners.iter().any(|scanner| now.saturating_sub(step(scanner)) > most) {
            return Some("a scanner stands still".to_owned());
        }
        if !self.writes_within(STANDS_STILL) {
            return Some("the writer stands still".to_owned());
        }
        if self.is_flow_sensor_missing.load(Ordering::Relaxed) {
            return Some("the sensor of flows could not be started".to_owned());
        }
        let stands_still = |sensor: &Arc<SensorFigures>| !sensor.goes_on_within(STANDS_STILL);
        if lock(&self.flows).as_ref().is_some_and(stands_still) {
            return Some("the sensor of flows stands still".to_owned());
        }
        let outputs = lock(&self.outputs);
        let is_stalled = |counters: &Weak<OutputCounters>| {
            counters.upgrade().is_some_and(|counters| counters.is_stalled())
        };
        let (name, _) = outputs.iter().find(|(_, counters)| is_stalled(counters))?;
        Some(format!("the disk of an output does not answer: {name}"))
    }

    fn writes_within(&self, most: Duration) -> bool {
        let step = self.writer_ns.load(Ordering::Relaxed);
        nanoseconds(self.start.elapsed()).saturating_sub(step) <= nanoseconds(most)
    }

    /// Whether the writer has made a step for as long as the service manager waits for one.
    pub(super) fn writer_goes_on(&self) -> bool {
        self.writes_within(STANDS_STILL_FOR_GOOD)
    }

    /// Whether a restart is of no use.
    fn is_alive(&self) -> bool {
        let (now, alive) =
            (nanoseconds(self.start.elapsed()), self.alive_ns.load(Ordering::Relaxed));
        now.saturating_sub(alive) <= nanoseconds(STANDS_STILL_FOR_GOOD)
    }

    /// The answer to a request for this path.
    fn answer(&self, path: &str) -> Option<MetricsResponse> {
        let of = |is_good: bool, good: &str, bad: &str| {
            let text = if is_good { good } else { bad };
            Some(MetricsResponse { is_good, body: format!("{text}\n") })
        };
        match path {
            "/metrics" => Some(MetricsResponse { is_good: true, body: page::page(self) }),
            "/healthz" => {
                let trouble = self.trouble();
                of(trouble.is_none(), "ok", trouble.as_deref().unwrap_or_default())
            }
            "/livez" => of(self.is_alive(), "alive", "the service stands still"),
            "/readyz" => of(self.is_ready.load(Ordering::Relaxed), "ready", "starting"),
            _ => None,
        }
    }

    /// Answers requests until the threads must stop, or this server.
    pub(super) fn serve(&self, server: &Server, stop: &AtomicBool, messages: &Messages) {
        let nice = getpriority_process(None).unwrap_or(0).saturating_add(NICE).min(19);
        if let Err(error) = setpriority_process(None, nice) {
            messages.warning(format_args!("cannot lower the priority of metrics: {error}"));
        }
        let mut restarts = Restarts::default();
        let answer = |path: &str| self.answer(path);
        // The server keeps nothing but its socket.
        while let Err(panic) = caught(|| server.run(&[&self.shared.stop, stop], &answer)) {
            messages.error(format_args!("metrics panicked, and are served again: {panic}"));
            sleep(restarts.add(Instant::now()));
        }
    }
}

/// Opens the port for metrics, if they are wanted.
pub(super) fn bind(
    address: Option<&NetworkAddress>,
    messages: &Messages,
) -> io::Result<Option<Server>> {
    let Some(address) = address else { return Ok(None) };
    let server = Server::bind(address)?;
    messages.info(format_args!("metrics are at http://{address}/metrics"));
    if !server.is_local() {
        messages.warning(format_args!(
            "output.metrics.address: {address} can be reached from other machines, and asks for no \
             password"
        ));
    }
    Ok(Some(server))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot leave the value incomplete.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
