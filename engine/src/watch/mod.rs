//! One watched machine: scan, compare, report; again and again.
//!
//! [`WatchedMachine`] joins the modules: [`crate::walk`], [`crate::state`], [`crate::detect`] and
//! [`crate::policy`]. After construction nothing here allocates. Time and memory are arguments.
//!
//! Files are hashed in slices ([`WatchedMachine::work`]), mostly between scans; one scan hashes at
//! most one slice.
//!
//! Not here: threads, intervals, finding the kernel, and what happens to the records.

mod clock;
mod code_rounds;
mod early;
mod figures;
mod forks;
mod metered;
mod oldest;
mod parts;
mod policy_settings;
mod run_times;
mod shortcuts;
mod workload;
mod workspace;

use std::sync::Arc;

use panoptes_decoders::source::MemorySource;
use panoptes_profiles::Profile;
use panoptes_records::queue::Producer;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::redact::Redactor;
use panoptes_tables::HashKey;

use crate::container_config::{ContainerConfig, Glob, Images};
use crate::detect::binary_attestation::{BinaryAttestation, ShippedFiles};
use crate::detect::file_content::rules::ContentRules;
use crate::detect::hidden_connections::TrafficLink;
use crate::detect::{Acceptance, DetectorContext, Detectors};
use crate::limits::{Limit, Limits, PerLimit};
use crate::loss::Loss;
use crate::page_cache::{Contents, MachineMemory};
use crate::policy::exceptions::Exceptions;
use crate::policy::gaps::{GAPS_MAX, ScanShortfall};
use crate::policy::{Policy, PolicyConfig, Reporter};
use crate::state::facts::HeapRule;
use crate::state::{Change, Changes as _, MachineState, ScanContext, Usage};
use crate::system::kernel_of;
use crate::time::{Monotonic, Now};
use crate::walk::{
    Budget, DeferredWork, Kernel, MemoryCopyMode, ScanError, Scope, Snapshot, WalkCheckpoint,
    Walker,
};

use clock::{CalendarClock, Clock, Motion};
use code_rounds::CodeRounds;
use early::EarlyScanFilter;
use forks::{Course, Forks};
use metered::MeteredSource;
use oldest::OldestPrograms;
use parts::{MachineParts, PartsSetup};
use shortcuts::{Shortcuts, Waits};

pub use figures::{ScanFigures, ScanStage};
pub use policy_settings::PolicySettings;
pub use workload::KnownMachine;
pub use workspace::Workspace;

/// How records identify a machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MachineIdentity {
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
    pub key: HashKey,
    /// Random, for this machine's message ids.
    pub message_ids: u64,
    /// What to report.
    pub policy: PolicyConfig,
    /// Further login servers, by patterns of their programs' paths
    /// ([`crate::detect::reverse_shells::ReverseShells::with_login_servers`]).
    pub login_servers: Arc<[Glob]>,
    /// Which changes of files are alerts.
    pub content_rules: Arc<ContentRules>,
    /// Which containers to report, and their images.
    pub containers: Arc<ContainerConfig>,
    /// Which alerts are silenced.
    pub exceptions: Arc<Exceptions>,
    /// Whether to report objects that exist when watching starts as if they were new.
    pub report_existing: bool,
    /// Whether to report nothing until the machine's clock was seen to go: QEMU may still be
    /// loading the memory of a saved machine.
    pub waits_for_clock: bool,
    /// The constant parts of its records.
    pub header: RecordHeader,
    /// How records identify it.
    pub identity: MachineIdentity,
    pub profile: &'a Profile,
    /// The SBOM contents that running files are checked against; attestation is off if empty.
    pub shipped: Arc<ShippedFiles>,
}

/// The check of running files, and the file contents known so far. The two belong together: partly
/// known files refer to their place in the index of shipped files.
#[derive(Debug)]
pub struct Attestation {
    contents: Contents,
    attest: BinaryAttestation,
}

impl Attestation {
    pub fn new(limits: &Limits, shipped: Arc<ShippedFiles>, images: Images, key: HashKey) -> Self {
        Self {
            contents: Contents::without_buffers(limits, key),
            attest: BinaryAttestation::new(limits, shipped, images, key),
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

/// How far a machine was watched before contact was lost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastContact {
    pub boot_uuid: [u8; 16],
    /// Start of the newest process, in nanoseconds since boot.
    newest_start: u64,
    oldest: OldestPrograms,
}

/// One watched machine: what is remembered of it. Each scan needs a [`Workspace`].
#[derive(Debug)]
pub struct WatchedMachine {
    kernel: Kernel,
    kept: WalkCheckpoint,
    state: MachineState,
    contents: Contents,
    detectors: Detectors,
    code: CodeRounds,
    policy: Policy,
    workload: KnownMachine,
    /// Start of process 1, which is constant as long as the machine runs.
    init_start_ns: Option<u64>,
    forks: Forks,
    clock: Clock,
    calendar: CalendarClock,
    /// The programs that ran when process 1 was read, before the first scan.
    oldest: OldestPrograms,
    is_partial: bool,
    /// Whether the last scan could be compared.
    is_used: bool,
    shortcuts: Shortcuts,
    early: EarlyScanFilter,
    figures: ScanFigures,
    /// What scans read.
    scope: Scope,
    /// Whether the memory is a copy.
    copied: MemoryCopyMode,
}

/// Bytes of files hashed in a scan that asked for some. Small files are known at once, and larger
/// ones make progress however little time there is between scans.
pub const SLICE_BYTES: usize = 256 << 10;

impl WatchedMachine {
    /// Allocates everything that watching needs beside a [`Workspace`].
    pub fn new(setup: Setup<'_>) -> Self {
        let kernel = kernel_of(setup.profile);
        let heap = if kernel.heap_may_touch() { HeapRule::Touches } else { HeapRule::Overlaps };
        let shortcuts = Shortcuts::new(setup.message_ids);
        let parts = MachineParts::new(PartsSetup {
            limits: &setup.limits,
            heap,
            key: setup.key,
            message_ids: setup.message_ids,
            policy: setup.policy,
            login_servers: setup.login_servers,
            content_rules: setup.content_rules,
            containers: setup.containers,
            exceptions: setup.exceptions,
            report_existing: setup.report_existing,
            waits_for_clock: setup.waits_for_clock,
            header: setup.header,
            identity: setup.identity,
            shipped: setup.shipped,
        });
        let MachineParts { kept, state, contents, detectors, code, policy, workload, clock } =
            parts;
        Self {
            kernel,
            kept,
            state,
            contents,
            detectors,
            code,
            policy,
            workload,
            init_start_ns: None,
            forks: Forks::default(),
            clock,
            calendar: CalendarClock::default(),
            oldest: OldestPrograms::default(),
            is_partial: false,
            is_used: false,
            shortcuts,
            early: EarlyScanFilter::default(),
            figures: ScanFigures::default(),
            scope: Scope::ALL,
            copied: MemoryCopyMode::No,
        }
    }

    /// Reads process 1; `None` if it cannot be read now. Anything that starts after this is new.
    pub fn first_process<S: MemorySource>(
        &mut self,
        walker: &mut Walker,
        source: &mut S,
    ) -> Option<FirstProcess> {
        walker.resume(&mut self.kept);
        let scanned = walker.scan(source, &self.kernel, Scope::LEAST).map(drop);
        walker.keep(&mut self.kept);
        let snapshot = scanned.ok().map(|()| walker.snapshot())?;
        self.clock.begin(&snapshot.machine);
        self.state.note_baseline(snapshot);
        self.oldest = OldestPrograms::of(snapshot);
        self.workload.note_first(&snapshot.machine);
        first_of(snapshot)
    }

    /// Sets the id of the present boot.
    pub fn set_boot_uuid(&mut self, boot_uuid: [u8; 16]) {
        self.workload.set_boot_uuid(boot_uuid);
        self.workload.write(self.policy.header_mut());
    }

    /// Returns the known facts of the machine.
    pub fn known_machine(&self) -> &KnownMachine {
        &self.workload
    }

    /// How far this machine was watched; `None` if no scan was compared.
    pub fn seen(&self) -> Option<LastContact> {
        Some(LastContact {
            boot_uuid: self.workload.boot_uuid(),
            newest_start: self.state.newest_start()?,
            oldest: OldestPrograms::new(self.state.programs()),
        })
    }

    /// Continues an earlier watch, if it was of the same boot: what began meanwhile is new. Call it
    /// after [`Self::first_process`].
    ///
    /// If an earlier state of the machine was restored meanwhile, that is right, too: nothing began
    /// later than what was seen, except what began after the restored state was saved.
    pub fn go_on(&mut self, seen: &LastContact) {
        let has_its_id = seen.boot_uuid == self.workload.boot_uuid();
        if has_its_id || self.oldest.shares(&seen.oldest) {
            self.state.go_on_after(seen.newest_start);
        }
    }

    /// Sets which containers are reported from now on, and their images.
    pub fn set_containers(&mut self, containers: Arc<ContainerConfig>) {
        self.detectors.set_images(&containers.images);
        self.policy.set_containers(containers);
    }

    /// Sets whether scans read the arguments of processes, which are in user memory. To be called
    /// before the first scan.
    pub const fn set_command_lines(&mut self, are_read: bool) {
        self.scope.command_lines = are_read;
    }

    /// Sets whether a scan keeps the rows of the one before if the machine has rested since.
    pub const fn set_shortcuts(&mut self, are_used: bool) {
        self.shortcuts.set_used(are_used);
    }

    /// Sets whether the memory is a copy, which never changes: then nothing is confirmed by a
    /// second scan. If the machine may have run meanwhile, what a tear explains is no finding.
    pub const fn set_copied(&mut self, copied: MemoryCopyMode) {
        self.copied = copied;
    }

    /// Notes that the next scan comes before the interval is over.
    pub const fn set_early(&mut self, is_early: bool) {
        self.early.set_next(is_early);
    }

    /// Sets what finds the secrets in arguments and shell commands.
    pub fn set_redactor(&mut self, redactor: Option<Redactor>) {
        self.policy.set_redactor(redactor);
    }

    /// Sets what it shares with the sensor of the machine's packets.
    pub fn set_traffic_link(&mut self, traffic_link: Arc<TrafficLink>) {
        self.scope.udp_ports = true;
        self.detectors.hidden_connections.set_traffic_link(traffic_link);
    }

    /// Whether it shares something with a sensor of packets. The kernel makes sockets without a
    /// task, so no scan may keep what the one before has read.
    pub const fn has_traffic_link(&self) -> bool {
        self.detectors.hidden_connections.has_traffic_link()
    }

    /// Sets the time from one scan to the next that is wanted, in nanoseconds. The time that is
    /// reached is reported if it is more than twice as long.
    pub fn set_scan_interval(&mut self, ns: u64) {
        self.policy.set_scan_interval(ns);
    }

    /// Scans once and writes a record of every difference into `out`. The workspace then has the
    /// snapshot without its network interfaces. Only a machine beyond its limits meets the budget
    /// ([`Budget::default_for`]).
    pub fn scan<S: MemorySource>(
        &mut self,
        workspace: &mut Workspace,
        source: &mut S,
        now: Now,
        out: &mut Producer,
    ) -> Result<(), ScanError> {
        let budget = Budget::default_for(self.kept.limits());
        self.scan_until(workspace, source, now, &budget, out)
    }

    /// Scans once within a budget, and writes a record of every difference that is certain into
    /// `out`. The next scan begins with what this one leaves.
    ///
    /// # Errors
    ///
    /// There is no snapshot, or it is one of another machine. After [`ScanError::Stopped`], no
    /// other scan may follow.
    pub fn scan_until<S: MemorySource>(
        &mut self,
        workspace: &mut Workspace,
        source: &mut S,
        now: Now,
        budget: &Budget<'_>,
        out: &mut Producer,
    ) -> Result<(), ScanError> {
        self.policy.note_scan(now.monotonic);
        self.policy.offer_undelivered(out);
        self.figures = ScanFigures::begin(budget);
        self.is_used = false;
        let Workspace { walker, .. } = workspace;
        walker.resume(&mut self.kept);
        walker.set_copied(self.copied);
        let is_early = self.early.is_next();
        walker.set_early(self.early.begin_scan(now.monotonic, self.policy.scan_interval()));
        let (kernel, scope) = (&self.kernel, self.scope);
        walker.set_light(self.shortcuts.may_be_light(is_early));
        let scanned = if self.shortcuts.may_keep(now.monotonic) {
            walker.scan_changes(source, kernel, scope, budget).map(drop)
        } else {
            walker.scan_within(source, kernel, scope, budget).map(drop)
        };
        self.figures.end(ScanStage::Walk, budget);
        let snapshot = walker.snapshot();
        self.figures.has_kept = scanned.is_ok() && snapshot.is_kept;
        self.figures.is_early = is_early;
        self.figures.is_light = scanned.is_ok() && snapshot.is_light;
        let compared = scanned.and_then(|()| {
            let snapshot = workspace.snapshot();
            self.is_partial = snapshot.is_partial();
            self.exchange(workspace);
            let work = workspace.snapshot().work;
            let mut source = MeteredSource { source, budget, work };
            let compared = self.compare(workspace.snapshot(), &mut source, now, out);
            let used = budget.percent_of(source.work, workspace.snapshot().count_rows());
            self.policy.note_budget_used(used);
            self.figures.work = source.work;
            self.exchange(workspace);
            compared
        });
        if !self.is_used {
            workspace.walker.note_unused();
        }
        workspace.walker.keep(&mut self.kept);
        compared
    }

    /// Takes what is used only during a scan, and returns it by a second call.
    fn exchange(&mut self, workspace: &mut Workspace) {
        let Workspace { state, detectors, buffers, .. } = workspace;
        self.state.exchange(state);
        self.detectors.exchange(detectors);
        self.contents.exchange(buffers);
    }

    /// Follows the machine's boot and its clock. Returns whether a scan can be compared with the
    /// last.
    fn follow(&mut self, snapshot: &Snapshot, now: Now) -> Result<bool, ScanError> {
        let first = first_of(snapshot).map(|first| first.start_ns);
        let motion = self.clock.read(snapshot, now);
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
            return Ok(false);
        }
        // Before a new kernel is up, it overwrites the old one's memory bit by bit: missing objects
        // did not end.
        if self.init_start_ns.is_some() && first.is_none() {
            return Err(ScanError::NoFirstProcess);
        }
        self.init_start_ns = first;
        // If a saved state was restored, what began after the save did not end: it never was.
        let is_outrun = self.clock.is_outrun(now.monotonic);
        let course = self.forks.follow(&snapshot.machine, is_outrun, now)?;
        Ok(motion != Motion::StandsStill && course == Course::GoesOn)
    }

    /// Compares a scan with the last.
    fn compare(
        &mut self,
        snapshot: &Snapshot,
        source: &mut MeteredSource<'_>,
        now: Now,
        out: &mut Producer,
    ) -> Result<(), ScanError> {
        self.is_used = self.follow(snapshot, now)?;
        if !self.is_used {
            return Ok(());
        }
        self.workload.update(snapshot, self.policy.header_mut());
        if let Some(round) = self.code.last_round() {
            self.policy.note_round(round);
        }
        let mut reporter = self.policy.reporter(out);
        self.contents.begin_scan(now.monotonic);
        if self.calendar.was_set(&snapshot.machine) {
            self.contents.doubt();
        }
        let Self { detectors, contents, kernel, shortcuts, .. } = self;
        detectors.begin_scan();
        shortcuts.begin_scan(snapshot, now.monotonic);
        let budget = source.budget;
        let on_change = &mut |cx: &ScanContext<'_>, change: &Change<'_>| {
            shortcuts.note_change(cx.snapshot, change);
            reporter.change(cx, change);
            let memory = MachineMemory { source: &mut *source, kernel };
            detectors.observe(&mut DetectorContext { memory, cx, out: &mut reporter }, change);
        };
        let must_stop = &|| budget.must_stop();
        if !self.state.update_unless(must_stop, snapshot, now, contents, on_change) {
            return Err(ScanError::Stopped);
        }
        self.figures.end(ScanStage::Compare, budget);
        let cx = self.state.scan_context(snapshot, now);
        let memory = MachineMemory { source: &mut *source, kernel };
        let context = &mut DetectorContext { memory, cx: &cx, out: &mut reporter };
        if !detectors.update_unless(must_stop, context, &self.state, contents) {
            return Err(ScanError::Stopped);
        }
        self.figures.end(ScanStage::Detect, budget);
        if contents.has_work() {
            let shipped = detectors.binary_attestation.shipped();
            contents.work(context.memory.source, kernel, SLICE_BYTES, shipped.as_ref());
            if budget.must_stop() {
                return Err(ScanError::Stopped);
            }
            detectors.settle(context, contents);
        }
        self.figures.end(ScanStage::Hash, budget);
        self.code.note_scan(snapshot, kernel, now.monotonic);
        if snapshot.modules.is_fresh {
            let mut memory = MachineMemory { source: &mut *source, kernel };
            self.code.report(&mut memory, &cx, &mut reporter);
        }
        report_tampering((&mut self.clock, &mut self.forks), &mut reporter, &cx, now);
        reporter.note_found_late(shortcuts.end_scan(waits(detectors, &self.state)));
        reporter.end_scan(&cx, &self.state);
        let (cx, objects, tables) = self.state.losses(snapshot, now);
        let missed = &mut missed(snapshot, (objects, tables), contents.refused(), detectors);
        reporter.report_gaps(&cx, missed);
        self.figures.end(ScanStage::Write, budget);
        Ok(())
    }

    /// Whether an early scan is worth its time: a finding waits for what the last scan has left, or
    /// the kernel has counted a fork since that scan began. It reads only the count.
    pub fn wants_scan<S: MemorySource>(&self, workspace: &mut Workspace, source: &mut S) -> bool {
        if self.detectors.waits_for_next() {
            return true;
        }
        let counted = self.state.forks();
        let now = workspace.walker.read_forks(source, &self.kernel);
        counted.is_some() && now.is_some() && counted != now
    }

    /// Whether the machine runs although its clock stands still.
    pub fn outruns_its_clock(&self, now: Monotonic) -> bool {
        self.clock.is_outrun(now)
    }

    /// Whether the last scan left something for the next one, because its budget was spent.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// What the last scan has cost.
    pub const fn figures(&self) -> &ScanFigures {
        &self.figures
    }

    /// How full the table of a limit is.
    pub fn usage(&self, limit: Limit) -> Usage {
        self.state.usage(limit)
    }

    /// Whether another scan of the same memory would show nothing more.
    pub fn has_settled(&self) -> bool {
        let waits = waits(&self.detectors, &self.state);
        !self.is_partial && !self.contents.has_work() && !waits.urgent && !waits.other
    }

    /// Whether files wait to be hashed, or code to be checked.
    pub fn has_work(&self) -> bool {
        self.contents.has_work() || self.code.has_work()
    }

    /// Hashes files that scans asked for, or checks the kernel's code, reading about `bytes` bytes.
    /// Call it between scans while there is time. The next scan reports the results.
    pub fn work<S: MemorySource>(
        &mut self,
        workspace: &mut Workspace,
        source: &mut S,
        bytes: usize,
    ) {
        if self.code.has_turn(self.contents.has_work()) {
            self.code.work(&mut workspace.code, source, &self.kernel, bytes);
            return;
        }
        let shipped = self.detectors.binary_attestation.shipped();
        self.contents.exchange(&mut workspace.buffers);
        self.contents.work(source, &self.kernel, bytes, shipped.as_ref());
        self.contents.exchange(&mut workspace.buffers);
    }

    /// Checks everything that runs again, with the SBOM contents in `attestation`; swaps the
    /// previous ones into it.
    pub fn attest_anew(&mut self, attestation: &mut Attestation) {
        std::mem::swap(&mut self.contents, &mut attestation.contents);
        std::mem::swap(&mut self.detectors.binary_attestation, &mut attestation.attest);
        let shipped = Arc::clone(self.detectors.binary_attestation.shipped());
        self.policy.set_shipped(Arc::clone(&shipped));
        self.detectors.set_shipped(&shipped);
    }

    /// Returns how much scans missed since each gap began ([`crate::policy::gaps`]).
    pub fn gaps(&self) -> [u64; GAPS_MAX] {
        self.policy.gap_counts()
    }

    /// Writes the last records into `out`: no scan follows, because the watch ends or the machine
    /// is gone. Passes on changes and urgent records that wait, findings that were not accepted,
    /// and sums of floods. Counts what finds no room as lost.
    pub fn finish(&mut self, workspace: &mut Workspace, now: Now, out: &mut Producer) {
        // The last scan may have been one of another system.
        let snapshot = workspace.walker.empty();
        self.state.finish(snapshot, now, &mut self.policy.reporter(out));
        self.policy.offer_undelivered(out);
        self.policy.end_alert_floods();
        let cx = self.state.scan_context(snapshot, now);
        let mut reporter = self.policy.reporter(out);
        let left = self.detectors.finish(&cx, &mut reporter, &self.state, &mut self.contents);
        reporter.finish(&cx, &self.state, left);
    }
}

fn first_of(snapshot: &Snapshot) -> Option<FirstProcess> {
    let init = &snapshot.leader(snapshot.init()?)?.task;
    Some(FirstProcess { start_ns: init.start_boottime, runs_a_program: !init.mm.is_null() })
}

/// What a scan has missed.
fn missed<'a>(
    snapshot: &'a Snapshot,
    ([unstable, modules, ebpf], tables): ([&'a mut Loss; 3], &'a mut PerLimit<Loss>),
    contents: &'a mut Loss,
    detectors: &'a mut Detectors,
) -> ScanShortfall<'a> {
    ScanShortfall {
        scan: &snapshot.losses,
        left: if snapshot.is_partial() { snapshot.left } else { DeferredWork::default() },
        unstable,
        modules,
        ebpf,
        tables,
        contents,
        detectors: detectors.losses(),
    }
}

/// What waits for a scan that leaves nothing.
fn waits(detectors: &Detectors, state: &MachineState) -> Waits {
    Waits {
        urgent: detectors.waits_for_next() || state.waits_for_next(),
        other: detectors.waits_for_all() || state.waits_for_all(),
    }
}

/// Reports a clock that stands still, and a count of forks that was set back.
fn report_tampering(
    (clock, forks): (&mut Clock, &mut Forks),
    reporter: &mut Reporter<'_>,
    cx: &ScanContext<'_>,
    now: Now,
) {
    if let Some(tampering) = clock.tampering(now.monotonic)
        && reporter.clock_tampered(cx, &tampering) == Acceptance::Yes
    {
        clock.set_reported(now.monotonic);
    }
    if let Some(set_back) = forks.set_back()
        && reporter.forks_set_back(cx, &set_back) == Acceptance::Yes
    {
        forks.set_reported();
    }
}
