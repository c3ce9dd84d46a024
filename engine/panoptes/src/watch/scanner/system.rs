//! One system, as its scanner sees it.

use std::sync::Arc;
use std::time::Instant;

use panoptes_engine::limits::Limits;
use panoptes_engine::time::Now;
use panoptes_engine::walk::{Budget, ScanError};
use panoptes_engine::watch::{SLICE_BYTES, WatchedMachine, Workspace};
use panoptes_records::filter::FilterSubject;
use panoptes_records::queue::Producer;
use panoptes_sources::{AnySource, MachineSource as _};

use crate::watch::clock_watch::{ClockWatch, NewSettings, SystemShared};

/// Number of consecutive failed scans after which the scanner returns a system. Memory changes
/// during a scan, so that a single scan can fail by chance.
const FAILURES_MAX: u32 = 5;

/// What a scanner does with a system; tests scan something else.
pub(in crate::watch) trait ScanTarget: Send + 'static {
    /// Memory that a scan uses only while it runs. Systems of a thread share it.
    type Scratch: Send;

    /// Scans once, or continues a scan that has ended early.
    fn scan(
        &mut self,
        scratch: &mut Self::Scratch,
        now: Now,
        pace: Pace,
        ends: ScanStopConditions<'_>,
        out: &mut Producer,
    ) -> Result<(), ScanFailure>;

    /// Whether the last scan has ended early.
    fn is_partial(&self) -> bool;

    /// Whether a look at the machine's count of forks is cheap.
    fn can_look(&self) -> bool;

    /// Whether an early scan is worth its time: the machine has started a process or a thread since
    /// the last scan began, or a finding waits for the next one.
    fn wants_scan(&mut self, scratch: &mut Self::Scratch) -> bool;

    /// Whether files wait to be hashed.
    fn has_work(&self) -> bool;

    /// Hashes some of them.
    fn work(&mut self, scratch: &mut Self::Scratch);

    /// Writes the last records: no scan follows.
    fn finish(&mut self, scratch: &mut Self::Scratch, now: Now, out: &mut Producer);
}

/// How often and how thoroughly a system is scanned.
#[derive(Clone, Copy, Debug)]
pub(in crate::watch) struct Pace {
    /// Nanoseconds from the start of one scan to the start of the next.
    pub(in crate::watch) interval_ns: u64,
    /// Whether a scan may keep the rows of the one before.
    pub(in crate::watch) shortcuts: bool,
    /// Whether the scan comes before the interval is over.
    pub(in crate::watch) is_early: bool,
}

/// When a scan ends before it has read everything.
#[derive(Clone, Copy)]
pub(in crate::watch) struct ScanStopConditions<'a> {
    /// It continues later, and what is certain is reported.
    pub(in crate::watch) is_over: &'a dyn Fn() -> bool,
    /// It is given up: no scan follows.
    pub(in crate::watch) must_stop: &'a dyn Fn() -> bool,
}

/// Why a system can't be scanned any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::watch) struct ScanFailure {
    pub(in crate::watch) reason: String,
    /// Whether the machine itself has ended, so that a retry is useless.
    pub(in crate::watch) has_ended: bool,
}

/// A system that is scanned.
#[derive(Debug)]
pub(in crate::watch) struct System {
    pub(in crate::watch) watched: Box<WatchedMachine>,
    source: AnySource,
    shared: Arc<SystemShared>,
    /// Which outputs take its records.
    subject: FilterSubject,
    limits: Limits,
    failures: u32,
    clock_watch: ClockWatch,
    /// Which changes of the machine the control thread has.
    shown: u64,
}

impl System {
    pub(in crate::watch) fn new(
        watched: Box<WatchedMachine>,
        source: AnySource,
        shared: Arc<SystemShared>,
        limits: Limits,
    ) -> Self {
        Self {
            watched,
            source,
            subject: shared.subject,
            shared,
            limits,
            failures: 0,
            clock_watch: ClockWatch::new(Instant::now()),
            shown: 0,
        }
    }

    /// Uses settings that have changed.
    fn adopt(&mut self) {
        let Self { watched, shared, subject, .. } = self;
        shared.exchange(|attestation| watched.attest_anew(attestation));
        let Some(new) = shared.take_settings() else { return };
        let NewSettings { subject: new_subject, containers, policy } = new;
        *subject = new_subject.unwrap_or(*subject);
        if let Some(containers) = containers {
            watched.set_containers(containers);
        }
        if let Some(policy) = policy {
            watched.set_policy(*policy);
        }
    }

    /// Passes on what the last scan has shown; `ticks` is the machine's clock. If further scans are
    /// useless, returns why.
    fn report(&mut self, ticks: Option<u64>, now: Now) -> Result<(), ScanFailure> {
        let Self { watched, source, shared, .. } = self;
        let outruns = watched.outruns_its_clock(now.monotonic);
        let now = Instant::now();
        shared.gaps.set(watched.gaps());
        let machine = watched.known_machine();
        if machine.changes() != self.shown && shared.show(machine) {
            self.shown = machine.changes();
        }
        let is_due = self.clock_watch.beat(ticks, now);
        shared.set_still(!outruns && self.clock_watch.is_still(now));
        if is_due {
            if !outruns && source.is_unlinked() {
                let reason = "the memory file was removed and the clock in it stands still";
                return Err(ScanFailure {
                    reason: format!("{reason}: the machine is gone"),
                    has_ended: true,
                });
            }
            shared.set_standstill();
        }
        Ok(())
    }
}

impl ScanTarget for System {
    type Scratch = Workspace;

    fn scan(
        &mut self,
        workspace: &mut Workspace,
        now: Now,
        pace: Pace,
        ends: ScanStopConditions<'_>,
        out: &mut Producer,
    ) -> Result<(), ScanFailure> {
        self.source.refresh();
        if self.source.has_ended() {
            // Its memory may still exist. The objects in it did not end one by one.
            return Err(ScanFailure { reason: "the guest has ended".to_owned(), has_ended: true });
        }
        // Before the scan: changes that another kernel made in this memory are no activities.
        if let Some(reattach) = self.shared.given_up() {
            let has_ended = reattach.is_end();
            return Err(ScanFailure { reason: reattach.reason().to_owned(), has_ended });
        }
        self.adopt();
        self.watched.set_scan_interval(pace.interval_ns);
        let has_traffic_link = self.watched.has_traffic_link();
        self.watched.set_shortcuts(pace.shortcuts && !has_traffic_link);
        self.watched.set_early(pace.is_early);
        out.set_subject(self.subject);
        let figures = &self.shared.figures;
        figures.begins(now);
        let begin = Instant::now();
        let clock = || u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let budget = Budget::default_for(&self.limits);
        let budget = budget.until(ends.is_over).unless(ends.must_stop).timed_by(&clock);
        match self.watched.scan_until(workspace, &mut self.source, now, &budget, out) {
            Ok(()) => self.failures = 0,
            Err(ScanError::Stopped) => return Ok(()),
            Err(error) => {
                figures.failed();
                self.failures += 1;
                if self.failures < FAILURES_MAX {
                    return Ok(());
                }
                return Err(ScanFailure { reason: error.to_string(), has_ended: false });
            }
        }
        figures.ended(&self.watched, now);
        self.report(workspace.snapshot().machine.ticks, now)
    }

    fn is_partial(&self) -> bool {
        self.watched.is_partial()
    }

    fn can_look(&self) -> bool {
        self.source.is_quick()
    }

    fn wants_scan(&mut self, workspace: &mut Workspace) -> bool {
        self.watched.wants_scan(workspace, &mut self.source)
    }

    fn has_work(&self) -> bool {
        self.watched.has_work()
    }

    fn work(&mut self, workspace: &mut Workspace) {
        let begin = Instant::now();
        self.watched.work(workspace, &mut self.source, SLICE_BYTES);
        self.shared.figures.hashed(begin.elapsed());
    }

    fn finish(&mut self, workspace: &mut Workspace, now: Now, out: &mut Producer) {
        out.set_subject(self.subject);
        self.watched.finish(workspace, now, out);
    }
}
