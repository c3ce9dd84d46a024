//! One watched machine: scan, compare, report; again and again.
//!
//! [`Watched`] joins the modules: [`crate::walk`], [`crate::state`], [`crate::attest`], the other
//! detectors and [`crate::policy`]. After construction nothing here allocates. Time and memory are
//! arguments.
//!
//! Files are hashed in slices ([`Watched::work`]), mostly between scans; one scan hashes at most
//! one slice.
//!
//! Not here: threads, intervals, finding the kernel, and what happens to the records.

mod clock;
mod workload;

use std::sync::Arc;

use panoptes_decoders::source::MemorySource;
use panoptes_profiles::Profile;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::queue::Producer;
use panoptes_sinks::record::header::Header;

use crate::attest::{Attest, AttestUsage, Shipped};
use crate::containers::{ContainerConfig, Glob, Images};
use crate::history::History;
use crate::limits::Limits;
use crate::page_cache::Contents;
use crate::permissions::Permissions;
use crate::policy::{Policy, PolicyConfig};
use crate::shells::{Shells, ShellsUsage};
use crate::state::facts::HeapRule;
use crate::state::{Change, Changes as _, ConnectionThresholds, ScanContext, Settings, State};
use crate::system::kernel_of;
use crate::walk::{Kernel, ScanError, Scope, Snapshot, Walker};
use crate::written::Written;

use clock::{Clock, Motion};
use workload::WorkloadTracker;

/// How records identify a machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// Its name in the configuration.
    pub name: String,
    /// `Linux Kernel 6.1`
    pub os_version: String,
    /// Panoptes' own id for this boot.
    pub boot_uuid: [u8; 16],
}

/// Everything needed to watch a machine.
#[derive(Debug)]
pub struct Setup<'a> {
    pub limits: Limits,
    /// Random, secret from the guests: tables hash with it.
    pub key: u64,
    /// Random, for this machine's message ids.
    pub message_ids: u64,
    /// What to report.
    pub policy: PolicyConfig,
    /// Further login servers, by patterns of their programs' paths
    /// ([`Shells::with_login_servers`]).
    pub login_servers: Vec<Glob>,
    /// Which containers to report, and their images.
    pub containers: Arc<ContainerConfig>,
    /// Whether to report objects that exist when watching starts as if they were new.
    pub report_existing: bool,
    /// Whether to report nothing until the machine's clock was seen to go: QEMU may still be
    /// loading the memory of a saved machine.
    pub waits_for_clock: bool,
    /// The constant parts of its records.
    pub header: Header,
    /// How records identify it.
    pub identity: Identity,
    pub profile: &'a Profile,
    /// The SBOM contents that running files are checked against; attestation is off if empty.
    pub shipped: Arc<Shipped>,
}

/// The check of running files, and the file contents known so far. The two belong together: partly
/// known files refer to their place in the index of shipped files.
#[derive(Debug)]
pub struct Attestation {
    contents: Contents,
    attest: Attest,
}

impl Attestation {
    /// Allocates everything. `key` is random and secret from the guests.
    pub fn new(limits: &Limits, shipped: Arc<Shipped>, images: Images, key: u64) -> Self {
        Self {
            contents: Contents::new(limits, key.rotate_left(29)),
            attest: Attest::new(limits, shipped, images, key.rotate_left(41)),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FirstProcess {
    /// Its start in nanoseconds since boot, which differs in every boot.
    pub start_ns: u64,
    /// Whether it runs a program yet; until then the kernel is still starting.
    pub runs_a_program: bool,
}

/// One watched machine.
#[derive(Debug)]
pub struct Watched {
    kernel: Kernel,
    walker: Walker,
    state: State,
    contents: Contents,
    attest: Attest,
    shells: Shells,
    written: Written,
    permissions: Permissions,
    history: History,
    policy: Policy,
    workload: WorkloadTracker,
    /// Start of process 1, which is constant as long as the machine runs.
    init_start_ns: Option<u64>,
    /// The kernel's count of forks, which only grows.
    forks: Option<u64>,
    clock: Clock,
}

/// Bytes of files hashed in a scan that asked for some. Small files are known at once, and larger
/// ones make progress however little time there is between scans.
pub const SLICE_BYTES: usize = 256 << 10;

impl Watched {
    /// Allocates everything that watching needs.
    pub fn new(setup: Setup<'_>) -> Self {
        let kernel = kernel_of(setup.profile);
        let heap = if kernel.heap_may_touch() { HeapRule::Touches } else { HeapRule::Overlaps };
        let settings =
            Settings { heap, report_existing: setup.report_existing, ..Settings::default() };
        let mut state = State::new(&setup.limits, settings, setup.key.rotate_left(17));
        state.set_thresholds(setup.policy.wanted(setup.policy.thresholds));
        let wants_written = setup.policy.is_enabled(Activity::FileDescriptorFileContentChange);
        let wants_history = [
            Activity::ShellCommandExecuted,
            Activity::ShellHistoryCleared,
            Activity::ShellHistoryDisabled,
        ]
        .into_iter()
        .any(|activity| setup.policy.is_enabled(activity));
        let wants_shells = setup.policy.is_enabled(Activity::ReverseShellDetected);
        let mut policy = Policy::new(&setup.limits, setup.policy, setup.header, setup.message_ids);
        let images = setup.containers.images.clone();
        policy.set_containers(setup.containers);
        policy.set_shipped(Arc::clone(&setup.shipped));
        let Attestation { contents, attest } =
            Attestation::new(&setup.limits, setup.shipped, images, setup.key);
        Self {
            walker: Walker::new(&setup.limits, setup.key),
            state,
            contents,
            attest,
            shells: Shells::new(&setup.limits, wants_shells, setup.key.rotate_left(5))
                .with_login_servers(setup.login_servers),
            written: Written::new(&setup.limits, wants_written, setup.key.rotate_left(53)),
            permissions: Permissions::new(),
            history: History::new(
                &setup.limits,
                wants_history,
                setup.report_existing,
                setup.key.rotate_left(13),
            ),
            policy,
            workload: WorkloadTracker::new(setup.identity),
            kernel,
            init_start_ns: None,
            forks: None,
            clock: Clock::new(setup.waits_for_clock),
        }
    }

    /// Reads process 1; `None` if it cannot be read now. Anything that starts after this is new.
    pub fn first_process<S: MemorySource>(&mut self, source: &mut S) -> Option<FirstProcess> {
        let scope = Scope { files: false, memory: false, connections: false, interfaces: false };
        let snapshot = self.walker.scan(source, &self.kernel, scope).ok()?;
        self.clock.read(&snapshot.machine, 0);
        self.state.note_baseline(snapshot);
        first_of(snapshot)
    }

    /// Sets the id of the present boot.
    pub fn set_boot_uuid(&mut self, boot_uuid: [u8; 16]) {
        self.workload.set_boot_uuid(boot_uuid);
    }

    /// Sets which containers are reported from now on, and their images.
    pub fn set_containers(&mut self, containers: Arc<ContainerConfig>) {
        self.attest.set_images(containers.images.clone());
        self.policy.set_containers(containers);
    }

    /// Scans once and writes a record of every difference into `out`.
    pub fn scan<S: MemorySource>(
        &mut self,
        source: &mut S,
        now_ns: i64,
        out: &mut Producer,
    ) -> Result<(), ScanError> {
        let snapshot = self.walker.scan(source, &self.kernel, Scope::ALL)?;
        let first = first_of(snapshot).map(|first| first.start_ns);
        let motion = self.clock.read(&snapshot.machine, now_ns);
        let is_other_boot =
            self.init_start_ns.is_some_and(|before| first.is_some_and(|now| before != now));
        if is_other_boot {
            return Err(ScanError::OtherBoot);
        }
        if let Motion::Unproven { went_forward } = motion {
            self.init_start_ns = self.init_start_ns.or(first);
            if !went_forward {
                self.state.note_baseline(snapshot);
            }
            return Ok(());
        }
        // Before a new kernel is up, it overwrites the old one's memory bit by bit: missing objects
        // did not end.
        if self.init_start_ns.is_some() && first.is_none() {
            return Err(ScanError::NoFirstProcess);
        }
        self.init_start_ns = first;
        // A saved state was restored. What began after the save did not end: it never was.
        match (self.forks, snapshot.machine.total_forks) {
            (Some(before), Some(now)) if now < before => return Err(ScanError::WentBack),
            (before, now) => self.forks = now.or(before),
        }
        if motion == Motion::StandsStill {
            return Ok(());
        }
        self.workload.update(snapshot, self.policy.header_mut());
        let mut reporter = self.policy.reporter(out);
        self.contents.begin_scan();
        let written = &mut self.written;
        let (permissions, kernel) = (&mut self.permissions, &self.kernel);
        permissions.begin_scan();
        let on_change = &mut |scene: &ScanContext<'_>, change: &Change<'_>| {
            written.note(scene, change);
            reporter.change(scene, change);
            if let Some(finding) = permissions.judge(source, kernel, scene, change) {
                reporter.permissions(scene, &finding);
            }
        };
        self.state.update_with(snapshot, now_ns, &mut self.contents, on_change);
        let scene = self.state.scene(snapshot, now_ns);
        self.attest.update(&scene, &self.state, &mut self.contents, &mut reporter);
        self.shells.update(&scene, &self.state, &mut self.contents, &mut reporter);
        let contents = &mut self.contents;
        self.written.update(source, &self.kernel, &scene, contents, &mut reporter);
        self.history.update(source, &self.kernel, &scene, &self.state, &mut reporter);
        if self.contents.has_work() {
            self.contents.work(source, &self.kernel, SLICE_BYTES, self.attest.shipped().as_ref());
            self.attest.settle(&scene, &mut self.contents, &mut reporter);
            self.written.settle(&scene, &mut self.contents, &mut reporter);
        }
        Ok(())
    }

    /// Whether files wait to be hashed.
    pub fn has_work(&self) -> bool {
        self.contents.has_work()
    }

    /// Hashes files that scans asked for, reading about `bytes` bytes. Call it between scans while
    /// there is time. The next scan reports the results.
    pub fn work<S: MemorySource>(&mut self, source: &mut S, bytes: usize) {
        self.contents.work(source, &self.kernel, bytes, self.attest.shipped().as_ref());
    }

    /// Checks everything that runs again, with the SBOM contents in `attestation`; swaps the
    /// previous ones into it.
    pub fn attest_anew(&mut self, attestation: &mut Attestation) {
        std::mem::swap(&mut self.contents, &mut attestation.contents);
        std::mem::swap(&mut self.attest, &mut attestation.attest);
        self.policy.set_shipped(Arc::clone(self.attest.shipped()));
    }

    /// The usage of attestation's tables.
    pub fn attest_usage(&self) -> AttestUsage {
        self.attest.usage()
    }

    /// Number of shells and shell commands that were skipped, since there was no room or they could
    /// not be read.
    pub fn shell_history_refused(&self) -> u64 {
        self.history.refused()
    }

    /// Number of permission changes that were not checked because there were too many.
    pub fn permissions_refused(&self) -> u64 {
        self.permissions.refused()
    }

    /// How much the search for reverse shells skipped.
    pub fn shells_usage(&self) -> ShellsUsage {
        self.shells.usage()
    }

    /// The result of the last scan.
    pub fn snapshot(&self) -> &Snapshot {
        self.walker.snapshot()
    }

    /// Sets the thresholds beyond which connections are reported.
    pub fn set_thresholds(&mut self, thresholds: ConnectionThresholds) {
        self.state.set_thresholds(self.policy.config().wanted(thresholds));
    }

    /// Writes the last records into `out`: no scan follows.
    pub fn finish(&mut self, now_ns: i64, out: &mut Producer) {
        let mut reporter = self.policy.reporter(out);
        self.state.finish(self.walker.snapshot(), now_ns, &mut reporter);
    }
}

fn first_of(snapshot: &Snapshot) -> Option<FirstProcess> {
    let init = &snapshot.leader(snapshot.init()?)?.task;
    Some(FirstProcess { start_ns: init.start_boottime, runs_a_program: !init.mm.is_null() })
}
