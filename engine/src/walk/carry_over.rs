//! What the walk remembers of one system from scan to scan.
//!
//! A [`Walker`] may scan several systems in turn. It is passed what is kept of a system before each
//! scan of it, and returns that afterwards. Everything else of a walker is valid for one scan, or
//! until it scans another system or a task has run ([`super::unchanged_machine`]).

use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};

use panoptes_decoders::address::KernelVa;
use panoptes_tables::{Rows, room};

use super::bpf_walk::KnownBpf;
use super::budget::Resume;
use super::ended_tasks::TaskPlaces;
use super::modules::KnownModules;
use super::rings::{REMEMBERED_MAX, RingSlot};
use super::snapshot::InterfaceRow;
use super::tables::{INTERFACES_MAX, NETS_MAX};
use super::unchanged_processes::PreviousProcesses;
use super::young_nets::NetAge;
use super::{Snapshot, Walker};
use crate::limits::Limits;

/// Maximum number of run queues: one per processor.
pub(super) const RUN_QUEUES_MAX: usize = 1024;
/// Maximum number of hints for the next scan, beside one for each known process.
pub(super) const HINTS_MAX: usize = 1024;

/// Number of systems since the program began; 0 stands for none. It only tells the rows of one
/// system from those of another.
static SYSTEMS: AtomicU64 = AtomicU64::new(1);

/// Address of a task for the next scan to check, and the views that showed it.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(super) struct Hint {
    pub(super) task: KernelVa,
    pub(super) views: u16,
}

/// What the walk remembers of one system: its limits, where to look, and its network interfaces,
/// which not every scan reads, with the ages of the namespaces that they are in.
#[derive(Debug)]
pub struct WalkCheckpoint {
    limits: Limits,
    /// Differs from that of all other systems.
    system: u64,
    scans: u64,
    /// `struct rq *`, one per processor.
    pub(super) run_queues: Vec<KernelVa>,
    pub(super) run_queues_age: u32,
    pub(super) run_queues_whole: bool,
    /// Tasks that the next scan checks.
    pub(super) tasks: Vec<Hint>,
    /// Positions at which the next scan continues with what the last one left.
    pub(super) resume: Resume,
    places: TaskPlaces,
    resting: PreviousProcesses,
    interfaces: Rows<InterfaceRow>,
    interface_age: u32,
    owner_turn: u32,
    modules: KnownModules,
    bpf: KnownBpf,
    net_ages: Vec<NetAge>,
    ring_slots: Vec<RingSlot>,
}

impl WalkCheckpoint {
    /// The limits of this system.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Allocates for `limits`.
    pub fn new(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            system: SYSTEMS.fetch_add(1, Ordering::Relaxed),
            scans: 0,
            run_queues: room::list(RUN_QUEUES_MAX),
            run_queues_age: 0,
            run_queues_whole: false,
            tasks: room::list(limits.processes_seen_max() + HINTS_MAX),
            resume: Resume::default(),
            places: TaskPlaces::new(),
            resting: PreviousProcesses::with_capacity(limits.processes as usize),
            interfaces: Rows::with_capacity(INTERFACES_MAX),
            interface_age: 0,
            owner_turn: 0,
            modules: KnownModules::new(),
            bpf: KnownBpf::new(),
            net_ages: room::list(NETS_MAX),
            ring_slots: room::list(REMEMBERED_MAX),
        }
    }
}

impl Walker {
    /// Continues with a system: the next scan is one of it, and has its limits. The walker has what
    /// is kept until [`Self::keep`].
    pub fn resume(&mut self, kept: &mut WalkCheckpoint) {
        self.snapshot.admit(&kept.limits);
        self.hints.resume(kept);
        self.exchange(kept);
    }

    /// Keeps what the next scan of the same system needs, after a scan. The snapshot stays, except
    /// for the network interfaces.
    pub fn keep(&mut self, kept: &mut WalkCheckpoint) {
        self.hints.keep(kept);
        self.exchange(kept);
    }

    fn exchange(&mut self, kept: &mut WalkCheckpoint) {
        mem::swap(&mut self.system, &mut kept.system);
        mem::swap(&mut self.scans, &mut kept.scans);
        mem::swap(&mut self.places, &mut kept.places);
        mem::swap(&mut self.resting, &mut kept.resting);
        mem::swap(&mut self.interface_age, &mut kept.interface_age);
        mem::swap(&mut self.owner_turn, &mut kept.owner_turn);
        mem::swap(&mut self.snapshot.interfaces, &mut kept.interfaces);
        mem::swap(&mut self.modules.known, &mut kept.modules);
        mem::swap(&mut self.bpf.known, &mut kept.bpf);
        mem::swap(&mut self.net_ages, &mut kept.net_ages);
        mem::swap(&mut self.ring_slots, &mut kept.ring_slots);
    }

    /// Empties the result of the last scan, which was one of another system.
    pub fn empty(&mut self) -> &Snapshot {
        self.snapshot.clear();
        self.snapshot.interfaces.clear();
        self.snapshot.machine = super::Machine::default();
        self.idle.forget();
        &self.snapshot
    }
}
