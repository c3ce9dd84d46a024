//! Whether a machine has rested since the last scan of it.
//!
//! Each run queue counts how often another task began to run on its processor. Where every
//! processor runs its idle task and no count has grown since the last scan began, no task has run
//! since then. So that scan read what is there now, and its rows stay valid. Only interrupts have
//! run meanwhile: they change the clock and TCP sockets, which every scan reads.
//!
//! A module that was loaded or unloaded meanwhile is a reason to read everything, too: code inside
//! the kernel does so without a task.
//!
//! The caller limits how long rows are kept: code inside the kernel can hide from the counts.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::rq::RunQueueState;
use panoptes_tables::room;

use super::carry_over::RUN_QUEUES_MAX;
use super::interfaces::INTERFACES_EVERY_SCANS;
use super::losses::WalkedStructure;
use super::machine_row::Machine;
use super::views::RUN_QUEUES_EVERY_SCANS;
use super::{Kernel, ScanError, ScannedMemory, Scope, Snapshot, Walker};
use crate::address::MemoryReader;

/// Number of scans before which a machine must have rested until one of them reads everything, so
/// that the next ones can keep its rows. Until then, light scans are cheaper.
const RESTED_SCANS: u32 = 4;
/// Number of scans that keep all rows. After them, the rows of one light scan are made and kept.
/// Detectors that look at something several times have done so by then.
const WHOLE_SCANS: u32 = 16;

/// Structures of [`Walker::read_connections`] whose reasons count as no loss.
const TCP_CHAIN_STRUCTURES: [WalkedStructure; 3] = [
    WalkedStructure::SocketBuckets,
    WalkedStructure::SocketRepetition,
    WalkedStructure::VisitedSockets,
];

/// Which scan the rows of a walker are from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ScanOrigin {
    /// The system, and the number of its scan.
    pub(super) system: u64,
    pub(super) scan: u64,
    pub(super) scope: Scope,
}

/// The switches of all processors, as scans have read them.
#[derive(Debug)]
pub(super) struct Idle {
    /// Address and count of each run queue at the beginning of the scan that the rows are from.
    before: Vec<(KernelVa, u64)>,
    now: Vec<(KernelVa, u64)>,
    /// Whether `now` has every processor, and each runs its idle task.
    rests: bool,
    /// The forks and the ticks of the last scan.
    forks: Option<u64>,
    ticks: Option<u64>,
    /// Whether nobody could use the rows: the machine's clock stood still, or was in doubt.
    is_unused: bool,
    /// The scan that the counts in `before` are from; `None` if it has failed.
    counted: Option<ScanOrigin>,
    /// Number of consecutive scans before which the machine has rested.
    rested_scans: u32,
    /// The scan that the rows are from; `None` if they are not worth keeping: that scan has failed,
    /// or left something, and was not the light one that is made to be kept.
    shown: Option<ScanOrigin>,
    /// Number of scans that have kept them.
    kept_scans: u32,
}

impl Idle {
    pub(super) fn new() -> Self {
        Self {
            before: room::list(RUN_QUEUES_MAX),
            now: room::list(RUN_QUEUES_MAX),
            rests: false,
            forks: None,
            ticks: None,
            is_unused: false,
            counted: None,
            rested_scans: 0,
            shown: None,
            kept_scans: 0,
        }
    }

    /// Takes the run queues, which are the objects from `first` on of the first batch of a scan.
    pub(super) fn take(
        &mut self,
        kernel: &Kernel,
        reader: &MemoryReader,
        queues: &[KernelVa],
        first: usize,
    ) {
        self.now.clear();
        self.rests = false;
        let Some(layout) = &kernel.layouts.rq else { return };
        self.rests = !queues.is_empty();
        for (at, &queue) in (first..).zip(queues) {
            let running = reader.object(at).map(|bytes| RunQueueState::decode(layout, bytes));
            let resting = running.filter(|it| it.current == it.idle && !it.idle.is_null());
            match resting.and_then(|it| it.switches) {
                Some(count) => self.now.push((queue, count)),
                None => self.rests = false,
            }
        }
    }

    /// Whether no task has run since `scan`, the last one, began. Something outside may load
    /// another state into a machine whose clock stands still, so rows from then are of use only
    /// until its next tick.
    pub(super) fn has_rested(&mut self, scan: ScanOrigin, snapshot: &Snapshot) -> bool {
        let machine = &snapshot.machine;
        let before = core::mem::replace(&mut self.ticks, machine.ticks);
        let has_rested = self.rests
            && self.counted == Some(scan)
            && self.now == self.before
            && self.forks == machine.total_forks
            && (!self.is_unused || before == machine.ticks);
        let scans = self.rested_scans.saturating_add(snapshot.counts().into());
        self.rested_scans = if has_rested { scans } else { 0 };
        has_rested
    }

    /// Whether the rows are those of `scan`, the last one, and worth keeping.
    fn has_rows(&self, scan: ScanOrigin) -> bool {
        self.shown == Some(scan)
    }

    /// Whether the counts can be compared with those of `scan`, the last one.
    pub(super) fn has_counts(&self, scan: ScanOrigin) -> bool {
        self.counted == Some(scan) && !self.before.is_empty()
    }

    /// Whether the machine has rested for so long that a scan should read everything.
    pub(super) const fn rests_on(&self) -> bool {
        self.rested_scans >= RESTED_SCANS
    }

    /// Notes that a scan begins that makes the rows anew.
    pub(super) fn begin(&mut self) {
        (self.shown, self.counted, self.kept_scans) = (None, None, 0);
        core::mem::swap(&mut self.before, &mut self.now);
    }

    /// Notes the scan that the counts are from.
    pub(super) fn count(&mut self, scan: ScanOrigin, machine: &Machine) {
        (self.counted, self.forks, self.is_unused) = (Some(scan), machine.total_forks, false);
    }

    /// Notes that the rows of a scan are worth keeping: it was whole ([`Walker::is_whole`]).
    pub(super) fn end(&mut self, scan: ScanOrigin) {
        self.shown = Some(scan);
    }

    /// Notes that the rows are of no use any more.
    pub(super) fn forget(&mut self) {
        (self.shown, self.counted) = (None, None);
    }
}

impl Walker {
    /// Notes that nobody could use the last scan: its machine stood still, or was in doubt.
    pub const fn note_unused(&mut self) {
        self.idle.is_unused = true;
    }

    /// Whether the scan has found all it looked for. What could not be read may be readable in the
    /// next scan.
    pub(super) fn is_whole(&self) -> bool {
        let snapshot = &self.snapshot;
        !snapshot.is_partial()
            && snapshot.task_list_closed
            && snapshot.idr_complete
            && snapshot.work.failed == 0
            && snapshot.losses.is_whole()
    }

    /// Sets whether the next scan comes too soon to count ([`Snapshot::is_early`]).
    ///
    /// [`Snapshot::is_early`]: super::Snapshot::is_early
    pub const fn set_early(&mut self, is_early: bool) {
        self.snapshot.is_early = is_early;
    }

    /// Whether all rows were kept for so long that those of a light scan suffice.
    pub(super) fn may_lighten(&self) -> bool {
        self.may_be_light && self.snapshot.has_rested && self.idle.kept_scans >= WHOLE_SCANS
    }

    /// Keeps the rows of the last scan, and returns `true`, if the machine has rested since that
    /// scan began. TCP sockets are read again, because packets change them without a task. What is
    /// read once in a number of scans still is.
    pub(super) fn keep_rows(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        scope: Scope,
    ) -> Result<bool, ScanError> {
        let is_due = self.hints.run_queues_age == 0
            || scope.interfaces && self.interface_age == 0
            || scope.modules && self.must_read_modules(memory.kernel)
            || scope.bpf && self.must_read_bpf(memory.kernel);
        let has_rows = self.idle.has_rows(self.origin(scope));
        let is_wanted =
            if self.snapshot.is_light { self.may_be_light } else { !self.may_lighten() };
        if !self.snapshot.has_rested || is_due || !has_rows || !is_wanted {
            return Ok(false);
        }
        self.idle.kept_scans += u32::from(self.snapshot.counts());
        if scope.interfaces {
            self.interface_age = (self.interface_age + 1) % INTERFACES_EVERY_SCANS;
        }
        self.hints.run_queues_age = (self.hints.run_queues_age + 1) % RUN_QUEUES_EVERY_SCANS;
        self.snapshot.is_kept = true;
        self.snapshot.ended.clear();
        if scope.connections {
            if !self.refresh_connections(memory) {
                self.forget_connections();
                self.read_connections(memory);
            }
            memory.goes_on()?;
            self.snapshot.count_dropped();
        }
        self.snapshot.work = memory.meter.spent();
        if self.snapshot.is_partial() {
            self.idle.forget();
        }
        Ok(true)
    }

    /// Removes what [`Self::read_connections`] makes.
    fn forget_connections(&mut self) {
        let snapshot = &mut self.snapshot;
        snapshot.connections.clear();
        snapshot.sockets.clear();
        snapshot.terminals.clear();
        (snapshot.connections_cut, snapshot.chains_in_turn) = (0, false);
        snapshot.losses.forget_counted();
        snapshot.losses.forget_stops(&TCP_CHAIN_STRUCTURES);
        snapshot.left.chains = 0;
        for net in snapshot.nets.iter_mut() {
            net.connections_cut = false;
        }
        for file in snapshot.files.iter_mut() {
            (file.connection, file.socket, file.terminal) = (None, None, None);
        }
        self.scratch.torn_files.clear();
    }
}
