//! One machine, watched: scan, difference, records; again and again.
//!
//! [`Watched`] joins what the modules before it have: the [`crate::walk`], the [`crate::state`], the
//! [`crate::policy`]. After it is made nothing here allocates. Time and memory are arguments.
//!
//! Not here: threads, intervals, finding the kernel, or what becomes of the records.

mod workload;

use panoptes_decoders::source::MemorySource;
use panoptes_profiles::Profile;
use panoptes_sinks::queue::Producer;
use panoptes_sinks::record::header::Header;

use crate::limits::Limits;
use crate::policy::{Policy, PolicyConfig};
use crate::state::facts::HeapRule;
use crate::state::{Births, Settings, State};
use crate::system::kernel_of;
use crate::walk::{Kernel, ScanError, Scope, Snapshot, Walker};

use workload::WorkloadTracker;

/// By what records call a machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// Its name in the configuration.
    pub name: String,
    /// `Linux Kernel 6.1`
    pub os_version: String,
    /// Ours, the same for the whole boot.
    pub boot_uuid: [u8; 16],
}

/// What watching a machine takes.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Capacities.
    pub limits: Limits,
    /// Random, secret from the guests: tables hash with it.
    pub key: u64,
    /// Random, for this machine's message ids.
    pub message_ids: u64,
    /// What is reported.
    pub policy: PolicyConfig,
    /// Whether what is there when we come is reported as if it were new.
    pub report_existing: bool,
    /// The constant parts of its records.
    pub header: Header,
    /// By what records call it.
    pub identity: Identity,
    /// Its kernel.
    pub profile: &'a Profile,
}

/// Process 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FirstProcess {
    /// Nanoseconds from boot to its beginning, which no other boot has the same.
    pub start_ns: u64,
    /// Whether it is a program by now: before that the kernel is still starting.
    pub runs_a_program: bool,
}

/// One machine that is watched.
#[derive(Debug)]
pub struct Watched {
    kernel: Kernel,
    walker: Walker,
    state: State,
    policy: Policy,
    workload: WorkloadTracker,
    /// When process 1 began, which is so as long as the machine runs.
    init_start_ns: Option<u64>,
    /// How many forks its kernel had counted, which only grow.
    forks: Option<u64>,
    /// Its clock, and since when that says so.
    ticks: Option<u64>,
    ticked_ns: i64,
    /// How often the clock was seen to go on, up to a few.
    ticks_seen: u8,
}

/// After so long without a tick a machine is idle, or does not run: a busy one's come every 10 ms at most.
const STILL_NS: i64 = 100_000_000;
/// So often a clock must have gone on before its standing still means anything.
const TICKS_SEEN: u8 = 3;

impl Watched {
    /// Allocates all that watching takes.
    pub fn new(setup: Setup<'_>) -> Self {
        let kernel = kernel_of(setup.profile);
        let heap = if kernel.heap_may_touch() { HeapRule::Touches } else { HeapRule::Overlaps };
        let settings =
            Settings { heap, report_existing: setup.report_existing, ..Settings::default() };
        Self {
            walker: Walker::new(&setup.limits, setup.key),
            state: State::new(&setup.limits, settings, setup.key.rotate_left(17)),
            policy: Policy::new(&setup.limits, setup.policy, setup.header, setup.message_ids),
            workload: WorkloadTracker::new(setup.identity),
            kernel,
            init_start_ns: None,
            forks: None,
            ticks: None,
            ticked_ns: 0,
            ticks_seen: 0,
        }
    }

    /// Looks for the first process; `None` where it cannot be read just now. What begins after this is news.
    pub fn first_process<S: MemorySource>(&mut self, source: &mut S) -> Option<FirstProcess> {
        let scope = Scope { files: false, memory: false, connections: false, interfaces: false };
        let snapshot = self.walker.scan(source, &self.kernel, scope).ok()?;
        self.state.arrive(snapshot);
        first_of(snapshot)
    }

    /// Says which boot this is.
    pub fn set_boot_uuid(&mut self, boot_uuid: [u8; 16]) {
        self.workload.set_boot_uuid(boot_uuid);
    }

    /// Scans once and puts a record of every difference into `out`.
    pub fn scan<S: MemorySource>(
        &mut self,
        source: &mut S,
        now_ns: i64,
        out: &mut Producer,
    ) -> Result<(), ScanError> {
        let snapshot = self.walker.scan(source, &self.kernel, Scope::ALL)?;
        // Before a new kernel is up the old one's memory is overwritten bit by bit: what is not there any more
        // did not end.
        match (self.init_start_ns, first_of(snapshot).map(|first| first.start_ns)) {
            (Some(_), None) => return Err(ScanError::NoFirstProcess),
            (Some(before), Some(now)) if before != now => return Err(ScanError::OtherBoot),
            (_, init) => self.init_start_ns = init,
        }
        // One that was saved before and is restored now: what has happened since did not end, it never was.
        match (self.forks, snapshot.machine.total_forks) {
            (Some(before), Some(now)) if now < before => return Err(ScanError::WentBack),
            (before, now) => self.forks = now.or(before),
        }
        // Nor does anything happen in a machine whose clock stands still. One that was reset, or loads another kernel,
        // has its memory overwritten meanwhile.
        let ticks = snapshot.machine.ticks;
        if ticks.is_none() || ticks != self.ticks {
            // A clock that was never seen to go says nothing by standing still.
            self.ticks_seen = self.ticks_seen.saturating_add(u8::from(ticks.is_some()));
            (self.ticks, self.ticked_ns) = (ticks, now_ns);
        } else if self.ticks_seen > TICKS_SEEN && now_ns.saturating_sub(self.ticked_ns) > STILL_NS {
            return Ok(());
        }
        self.workload.update(snapshot, self.policy.header_mut());
        self.state.update(snapshot, now_ns, &mut self.policy.reporter(out));
        Ok(())
    }

    /// What the last scan saw.
    pub fn snapshot(&self) -> &Snapshot {
        self.walker.snapshot()
    }

    /// Births since this was last asked.
    pub fn take_births(&mut self) -> Option<Births> {
        self.state.take_births()
    }
}

fn first_of(snapshot: &Snapshot) -> Option<FirstProcess> {
    // Only init_task is before it.
    let first = snapshot.by_pid.iter().take(2).filter_map(|&index| snapshot.processes.at(index));
    let leaders = first.filter_map(|process| snapshot.leader(process));
    let init = leaders.map(|leader| &leader.task).find(|task| task.tgid == 1)?;
    Some(FirstProcess { start_ns: init.start_boottime, runs_a_program: !init.mm.is_null() })
}
