//! Tracks what exists on a machine and reports what changes between scans.
//!
//! [`MachineState::update`] compares one scan with the state and reports every [`Change`], in the
//! order in which it finds them: ended processes, then new ones; of each process its threads,
//! descriptors and areas; connections; limits. Containers come in between. Changes are facts only;
//! the policy decides which ones become records.
//!
//! All memory is allocated at start, by the limits. What finds no room is counted and not tracked;
//! nothing else changes.
//!
//! The rules:
//!
//! * A process is its process id and its start ([`keys::ProcessKey`]). It is *created* once and
//!   *terminated* once. Processes that exist when watching starts are recorded as baseline, unless
//!   [`StateSettings::report_existing`]; their end is reported. A forked process gets a scan to
//!   call exec before it is reported ([`StateSettings::fork_grace_scans`]), since until then it
//!   looks like its parent. A process that ends before that is reported all the same. A process has
//!   ended when no complete view shows it or any of its threads; if views are never complete, when
//!   none has shown any of these for several scans.
//! * A process *executes* each program that a scan has shown of it, once: when the loader has
//!   finished, or when the process ends or runs another program before that. A program that ran
//!   when watching started was not executed.
//! * Threads are all but each process's leader, which is the process itself.
//! * Everything that a new process already has is reported: inherited descriptors, libraries. What
//!   ends with its process is not reported separately, nor the memory that an exec drops:
//!   *terminated* and the new program imply it. A thread's own table of descriptors ends with the
//!   thread. What finds no room any more is counted ([`fair_share::rows`]) and has no end.
//! * Connections end by themselves, not with their holders. What was known of an ended owner is
//!   kept until then ([`ended`]).
//! * What a process inside exec maps and opens is reported when its program is described, or a
//!   while later ([`held`]).
//! * A container exists as long as it has a living process ([`container`]). Its start is reported
//!   after its first process, and its end after the end of its processes.
//! * A memory area exists as long as anything of it is left ([`memory`]). A connection continues in
//!   every socket that has its 4-tuple ([`connection`]).
//! * Kernel modules are compared when a scan has read them ([`modules`]), and so are programs of
//!   eBPF ([`bpf`]).
//! * A process that changed while it was read (`stable`), and a table or address space that was not
//!   read completely (`complete`), keep their old state: absence from such a scan proves nothing.
//!
//! **Absence.** A scan may leave something for the next ones because its budget is spent
//! ([`crate::walk::DeferredWork`]). Nothing is absent that a scan has not looked at:
//!
//! * Every scan has all tasks that it can reach, so processes and threads need no more rules.
//! * A descriptor is absent if the scan has its slot ([`crate::walk::FilesRow::has_slot`]). One
//!   whose file was left is as it was.
//! * Areas are absent if the scan has all areas of the address space, with their files.
//! * Connections are absent if the scan has all chains of their network namespace. While chains
//!   take turns, a connection is absent when all had their turns without it.
//! * What is found later belongs to the baseline if it may have existed before: descriptors and
//!   areas of its processes until one scan, or one round of scans, had all of them; connections
//!   likewise.
//! * Detectors treat what was left as unknown, and judge when a later scan has it.
//!
//! Not here: wording, severities, and what is enabled (`policy`). Start reading at
//! [`MachineState::update`].

mod absence;
mod area;
mod area_name;
pub mod bpf;
mod bpf_facts;
pub mod change;
mod children;
pub mod connection;
mod connections;
mod connections_scratch;
pub mod container;
pub mod coverage;
pub(crate) mod described;
mod descriptor;
mod emit;
pub mod ended;
pub mod facts;
mod fair_share;
mod file_names;
mod held;
pub mod holders;
pub mod keys;
mod mapped_files;
pub mod memory;
mod module_facts;
pub mod modules;
mod open_files;
mod path_identity;
pub mod process;
mod recovered;
mod scratch;
mod shared_spaces;
mod shared_tables;
#[cfg(test)]
pub(crate) mod tests;
mod thread;
pub mod thresholds;
mod unread_areas;
mod update;

pub use scratch::StateScratch;

pub use crate::limits::Limit;
use crate::limits::{Limits, PerLimit};
use crate::loss::Loss;
use crate::time::{Now, RealTime};
use crate::walk::{ConnectionRow, FilesRow, Index, Snapshot};

pub use area::AreaBefore;
pub use change::{Change, Changes, ConnectionChange, FileAtOpen, ScanContext};
use children::Children;
pub use coverage::Births;
use facts::HeapRule;
use keys::ProcessKey;
pub use mapped_files::{MappedFile, MappedFiles};
use panoptes_tables::{HashKey, LimitGauge, ListPool, RowId, ScanNumber, Table, room};
use process::Process;
pub use thresholds::{ExceededThreshold, Thresholds};

/// Number of scans after which the baseline is complete although no scan had all of it.
pub(crate) const BEGINNING_SCANS_MAX: u32 = 16;
/// Number of rounds of chains after which all chains had a turn.
pub(crate) const BEGINNING_ROUNDS: u32 = 2;

/// How scans are compared.
#[derive(Clone, Copy, Debug)]
pub struct StateSettings {
    /// Whether to report objects that exist when watching starts as if they were new.
    pub report_existing: bool,
    /// Number of additional scans that a process gets to call exec after its fork was seen.
    pub fork_grace_scans: u32,
    /// Number of additional scans that a connection without a holder gets to be accepted.
    pub accept_grace_scans: u32,
    /// Number of consecutive scans in which a view must hide a process. At least two.
    pub confirm_scans: u32,
    /// Which areas are called `[heap]`.
    pub heap: HeapRule,
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            report_existing: false,
            fork_grace_scans: 1,
            accept_grace_scans: 1,
            confirm_scans: 2,
            heap: HeapRule::default(),
        }
    }
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    pub used: u64,
    pub capacity: u64,
    /// Entries that found no room in the last scan.
    pub untracked: u64,
}

/// The tracked state of one watched machine.
#[derive(Debug)]
pub struct MachineState {
    settings: StateSettings,
    processes: Table<Process>,
    /// Threads, descriptors and areas of each process, by the number of its row.
    children: Box<[Children]>,
    threads: ListPool<thread::Thread>,
    descriptors: ListPool<descriptor::Descriptor>,
    open_files: open_files::OpenFiles,
    /// The descriptor tables of threads of the process that is compared.
    own_tables: Vec<Index<FilesRow>>,
    /// Number of searches for tables that processes have left, in this scan.
    table_searches: usize,
    areas: memory::Areas,
    /// The process in whose report of waiting areas a comparison stopped, and the number of areas
    /// that were reported ([`held`]).
    areas_reported: Option<(RowId, u32)>,
    connections: connections::Connections,
    containers: container::Containers,
    modules: modules::Modules,
    bpf: bpf::Bpf,
    names: file_names::FileNames,
    row_shares: fair_share::rows::RowShares,
    name_shares: fair_share::names::NameShares,
    admission: fair_share::processes::Admission,
    /// The row of each process of the current scan.
    rows: Vec<Option<RowId>>,
    births: recovered::Births,
    /// Number of scans so far.
    scan: ScanNumber,
    progress: StateProgress,
    /// The processes of which no scan has shown consistent data for a while.
    unstable: Loss,
    /// How long a process is a zombie before it is reported.
    zombie_after_ns: u64,
}

/// What scans have shown since the state was empty.
#[derive(Debug, Default)]
struct StateProgress {
    gauges: PerLimit<LimitGauge>,
    untracked: PerLimit<u64>,
    coverage: coverage::Coverage,
    /// The machine's calendar time at the last scan.
    clock_ns: Option<i64>,
    /// Whether the baseline is complete, or as complete as scans allow.
    settled: bool,
    /// Number of scans until then.
    beginning_scans: u32,
    /// Start of the newest baseline process, if some of them found no room.
    late_start: u64,
    /// Start of the newest process when watching started, if known
    /// ([`MachineState::note_baseline`]).
    arrival: Option<u64>,
    /// Start of the newest process that was seen before contact was lost
    /// ([`MachineState::go_on_after`]).
    seen_until: Option<u64>,
}

impl MachineState {
    /// Allocates for `limits`, including the scratch space.
    pub fn new(limits: &Limits, settings: StateSettings, key: HashKey) -> Self {
        let mut state = Self::without_scratch(limits, settings, key);
        state.exchange(&mut StateScratch::new(limits));
        state
    }

    /// Allocates for `limits`; each scan needs scratch space ([`Self::exchange`]).
    pub fn without_scratch(limits: &Limits, settings: StateSettings, key: HashKey) -> Self {
        let processes = limits.processes as usize;
        Self {
            settings,
            processes: Table::new(processes, key.derive("state: processes")),
            children: room::copies(Children::default(), processes),
            threads: ListPool::new(limits.threads as usize),
            descriptors: ListPool::new(limits.file_descriptors as usize),
            open_files: open_files::OpenFiles::default(),
            own_tables: Vec::default(),
            table_searches: 0,
            areas: memory::Areas::new(limits, settings.heap, key.derive("state: areas")),
            areas_reported: None,
            connections: connections::Connections::new(limits, settings.accept_grace_scans, key),
            containers: container::Containers::new(limits, key),
            modules: modules::Modules::new(key),
            bpf: bpf::Bpf::new(key),
            names: file_names::FileNames::new(limits, key.derive("state: strings")),
            row_shares: fair_share::rows::RowShares::new(limits),
            name_shares: fair_share::names::NameShares::new(limits),
            admission: fair_share::processes::Admission::new(limits, key),
            rows: Vec::default(),
            births: recovered::Births::new(),
            scan: ScanNumber::default(),
            progress: StateProgress::default(),
            unstable: Loss::new(),
            zombie_after_ns: Thresholds::default().zombie_after_ns,
        }
    }

    /// Sets the thresholds. What was reported is not reported again.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.zombie_after_ns = thresholds.zombie_after_ns;
        self.connections.thresholds = thresholds;
    }

    /// Records which processes exist before the first scan that counts: anything that starts later
    /// is new, however late that scan is. An incomplete scan may miss the newest processes, so it
    /// sets nothing.
    pub fn note_baseline(&mut self, snapshot: &Snapshot) {
        self.progress.arrival = absence::newest_of_all(snapshot);
    }

    /// Start of the newest tracked process, in nanoseconds since boot.
    pub fn newest_start(&self) -> Option<u64> {
        let rows = self.processes.ids().filter_map(|id| self.processes.get(id));
        rows.map(|row| row.key.start_boottime).max()
    }

    /// The tracked processes that run a program.
    pub fn programs(&self) -> impl Iterator<Item = ProcessKey> {
        let rows = self.processes.ids().filter_map(|id| self.processes.get(id));
        rows.filter(|row| row.described().program.executable.is_some()).map(|row| row.key)
    }

    /// Continues an earlier watch of the same boot, which saw no process that started after
    /// `newest_start`: such processes began while contact was lost, and are new.
    pub fn go_on_after(&mut self, newest_start: u64) {
        self.progress.seen_until = Some(newest_start);
    }

    /// Forgets everything, as if nothing had ever been seen: the machine was lost, or has another
    /// boot.
    pub fn forget(&mut self) {
        self.processes.clear();
        self.children.fill(Children::default());
        self.threads.clear();
        self.descriptors.clear();
        self.areas.rows.clear();
        self.areas_reported = None;
        self.connections.clear();
        self.containers.clear();
        self.modules.clear();
        self.bpf.clear();
        self.names.strings.clear();
        self.admission.clear();
        self.births.clear();
        self.progress = StateProgress::default();
    }

    /// The kernel's count of forks at the start of the last scan.
    pub fn forks(&self) -> Option<u64> {
        self.progress.coverage.total()
    }

    /// The context for findings of this scan.
    pub fn scan_context<'a>(&'a self, snapshot: &'a Snapshot, now: Now) -> ScanContext<'a> {
        ScanContext { snapshot, containers: &self.containers, strings: &self.names.strings, now }
    }

    /// When a connection of the last scan was first seen, in nanoseconds since 1970; `None` if it
    /// is not tracked.
    pub fn first_seen_ns(&self, connection: Index<ConnectionRow>) -> Option<RealTime> {
        self.connections.first_seen_ns(connection)
    }

    /// The processes in the last scan that were reported or recorded as baseline.
    pub fn processes(&self) -> impl Iterator<Item = (RowId, &Process)> {
        self.processes.ids().filter_map(|id| {
            let process = self.processes.get(id)?;
            let life = &process.life;
            (life.is_announced() && !life.is_ended() && process.row().is_some())
                .then_some((id, process))
        })
    }

    /// A tracked process that the last scan did not show.
    pub(crate) fn missed(&self, key: &ProcessKey) -> Option<&Process> {
        let process = self.processes.get(self.processes.find(key)?)?;
        (!process.life.is_ended() && process.row().is_none()).then_some(process)
    }

    /// The tracked process with this key.
    pub(crate) fn find(&self, key: &ProcessKey) -> Option<&Process> {
        self.processes.get(self.processes.find(key)?)
    }

    /// A tracked process.
    pub fn process(&self, id: RowId) -> Option<&Process> {
        self.processes.get(id)
    }

    /// A number that changes with every change of a process's areas.
    pub fn areas_version(&self, process: RowId) -> u32 {
        self.children.get(process.0 as usize).map_or(0, |children| children.areas_version)
    }

    /// The processes of which scans show no consistent data.
    pub fn unstable(&self) -> &Loss {
        &self.unstable
    }

    /// What finds no room, by table.
    pub fn untracked(&self) -> &PerLimit<Loss> {
        self.row_shares.losses()
    }

    /// The processes of which scans show no consistent data, the kernel modules and the programs of
    /// eBPF that are not compared, and what finds no room, to be reported; and the context for
    /// that.
    pub fn losses<'a>(
        &'a mut self,
        snapshot: &'a Snapshot,
        now: Now,
    ) -> (ScanContext<'a>, [&'a mut Loss; 3], &'a mut PerLimit<Loss>) {
        let Self { containers, names, row_shares, unstable, modules, bpf, .. } = self;
        let cx = ScanContext { snapshot, containers, strings: &names.strings, now };
        (cx, [unstable, &mut modules.lost, &mut bpf.lost], row_shares.losses_mut())
    }

    /// Whether the next scan must leave nothing. A connection has lost its holder and may have
    /// another one. A kernel module or a program of eBPF is suspected, and another read would
    /// confirm that. While a table is full, its rows are divided by what all processes have.
    pub fn waits_for_next(&self) -> bool {
        let is_full = self.progress.untracked.iter().any(|&untracked| untracked > 0);
        is_full || self.connections.lost_holder || self.modules.waits || self.bpf.waits
    }

    /// Whether a connection waits for a scan that leaves nothing.
    pub const fn waits_for_all(&self) -> bool {
        self.connections.waits_for_holder
    }

    /// How full the table of a limit is.
    pub fn usage(&self, limit: Limit) -> Usage {
        let (used, capacity) = match limit {
            Limit::Processes => (self.processes.len(), self.processes.capacity()),
            Limit::Threads => (self.threads.used(), self.threads.capacity()),
            Limit::Descriptors => (self.descriptors.used(), self.descriptors.capacity()),
            Limit::Areas => (self.areas.rows.used(), self.areas.rows.capacity()),
            Limit::Connections => (self.connections.rows.used(), self.connections.rows.capacity()),
            Limit::Containers => (self.containers.table.len(), self.containers.table.capacity()),
            Limit::Strings => (self.names.strings.used_bytes(), self.names.strings.capacity()),
        };
        let untracked = self.progress.untracked[limit as usize];
        Usage { used: used as u64, capacity: capacity as u64, untracked }
    }
}
