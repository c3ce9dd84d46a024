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

/// One machine that is watched.
#[derive(Debug)]
pub struct Watched {
    kernel: Kernel,
    walker: Walker,
    state: State,
    policy: Policy,
    workload: WorkloadTracker,
}

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
        }
    }

    /// Nanoseconds from boot to the start of process 1, which no other boot has the same; `None` where it
    /// cannot be read just now.
    pub fn init_start_ns<S: MemorySource>(&mut self, source: &mut S) -> Option<u64> {
        let scope = Scope { files: false, memory: false, connections: false, interfaces: false };
        let snapshot = self.walker.scan(source, &self.kernel, scope).ok()?;
        let init = snapshot.threads.iter().find(|row| row.task.pid == 1)?;
        Some(init.task.start_boottime)
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
