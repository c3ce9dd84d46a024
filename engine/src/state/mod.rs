//! Tracks what exists on a machine and reports what changes between scans.
//!
//! [`State::update`] compares one scan with the state and reports every [`Change`], in the order in
//! which it finds them: ended processes, then new ones; of each process its threads, descriptors
//! and areas; connections; limits. Containers come in between. Changes are facts only; the policy
//! decides which ones become records.
//!
//! All memory is allocated at start, by the limits. What finds no room is counted and not tracked;
//! nothing else changes.
//!
//! The rules:
//!
//! * A process is its process id and its start ([`process::ProcessKey`]). It is *created* once and
//!   *terminated* once. Processes that exist when watching starts are recorded as baseline, unless
//!   [`Settings::report_existing`]; their end is reported. A forked process gets a scan to call
//!   exec before it is reported ([`Settings::fork_grace_scans`]), since until then it looks like
//!   its parent. A process that ends before that is reported all the same. A process has ended when
//!   no complete view shows it or any of its threads; if views are never complete, when none has
//!   shown any of these for several scans.
//! * Threads are all but each process's leader, which is the process itself.
//! * Everything that a new process already has is reported: inherited descriptors, libraries. What
//!   ends with its process is not reported separately, nor the memory that an exec drops:
//!   *terminated* and the new program imply it. Connections end by themselves, not with their
//!   holders.
//! * A container exists as long as it has a living process ([`container`]). Its start is reported
//!   after its first process, and its end after the end of its processes.
//! * Memory areas go on as long as anything of them is left ([`memory`]); connections go on under
//!   every socket with their 4-tuple ([`connection`]).
//! * A process that changed while it was read (`stable`), and a table or address space that was not
//!   read completely (`complete`), keep their old state: absence from such a scan proves nothing.
//!
//! Not here: wording, severities, and what is enabled (`policy`). Start reading at
//! [`State::update`].

pub mod change;
pub mod connection;
pub mod container;
pub mod coverage;
mod descriptor;
pub mod facts;
pub mod holders;
pub(crate) mod kept;
pub mod measure;
pub mod memory;
mod names;
pub mod process;
#[cfg(test)]
pub(crate) mod tests;
mod thread;
mod update;

use panoptes_decoders::address::KernelVa;

use crate::limits::Limits;
use crate::walk::{NONE, ProcessRow, Snapshot};

pub use change::{AreaBefore, Change, Changes, ConnectionChange, Limit, Opened, ScanContext};
pub use coverage::Births;
use facts::HeapRule;
pub use measure::{ConnectionThresholds, Exceeded};
use panoptes_tables::{END, LimitGauge, ListPool, RowId, Strings, Table};
use process::{Process, ProcessKey};

/// How scans are compared.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whether to report objects that exist when watching starts as if they were new.
    pub report_existing: bool,
    /// Number of additional scans that a process gets to call exec after its fork was seen.
    pub fork_grace_scans: u32,
    /// Number of additional scans that a connection without a holder gets to be accepted.
    pub accept_grace_scans: u32,
    /// Number of scans in a row in which a view must hide a process, or a process must be a zombie.
    /// At least two.
    pub confirm_scans: u32,
    /// Which areas are called `[heap]`.
    pub heap: HeapRule,
}

impl Default for Settings {
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
pub struct State {
    settings: Settings,
    processes: Table<Process>,
    /// Threads, descriptors and areas of each process, by the number of its row.
    children: Box<[Children]>,
    threads: ListPool<thread::Thread>,
    descriptors: ListPool<descriptor::Descriptor>,
    areas: memory::Areas,
    connections: connection::Connections,
    containers: container::Containers,
    strings: Strings,
    namer: names::Namer,
    /// The row of each process of the current scan.
    rows: Vec<Option<RowId>>,
    /// Range of each process's threads in `by_tid` of the current scan.
    groups: Vec<(u32, u32)>,
    gauges: [LimitGauge; Limit::ALL.len()],
    untracked: [u64; Limit::ALL.len()],
    coverage: coverage::Coverage,
    /// Number of scans so far.
    scan: u32,
    /// The machine's calendar time at the last scan.
    clock_ns: Option<i64>,
    /// Whether the baseline is complete, or as complete as scans allow.
    settled: bool,
    /// Number of scans until then.
    beginning_scans: u32,
    /// Start of the newest baseline process, if some of them found no room.
    late_start: u64,
    /// Start of the newest process when watching started, if known ([`State::note_baseline`]).
    arrival: Option<u64>,
}

/// The threads, descriptors and areas of one process.
#[derive(Clone, Copy, Debug)]
struct Children {
    threads: u32,
    descriptors: u32,
    areas: u32,
    /// Grows with every change of the areas.
    areas_version: u32,
    /// The address space of the areas: its address, and `self_exec_id`.
    space: (KernelVa, u32),
    threads_taken: bool,
    descriptors_taken: bool,
    areas_taken: bool,
}

impl Default for Children {
    fn default() -> Self {
        Self {
            threads: END,
            descriptors: END,
            areas: END,
            areas_version: 0,
            space: (KernelVa::NULL, 0),
            threads_taken: false,
            descriptors_taken: false,
            areas_taken: false,
        }
    }
}

/// One process while its children are compared.
struct Entry<'a> {
    process: &'a Process,
    row: &'a ProcessRow,
    children: &'a mut Children,
    /// Whether the children found with it belong to the baseline.
    silent: bool,
    /// The machine's calendar time at the previous scan.
    clock_ns: Option<i64>,
}

impl Entry<'_> {
    /// Whether new children of one kind belong to the baseline; `taken` if the first of that kind
    /// were recorded before.
    fn quiet(&self, taken: bool) -> bool {
        self.silent && !taken
    }
}

/// Everything needed to report a change.
struct Emitter<'a> {
    snapshot: &'a Snapshot,
    containers: &'a container::Containers,
    strings: &'a mut Strings,
    namer: &'a mut names::Namer,
    now_ns: i64,
    out: &'a mut dyn Changes,
}

/// Reports a change that may borrow the names.
macro_rules! emit {
    ($emitter:expr, $change:expr) => {{
        let scene = $crate::state::change::ScanContext {
            snapshot: $emitter.snapshot,
            containers: $emitter.containers,
            strings: &*$emitter.strings,
            now_ns: $emitter.now_ns,
        };
        $emitter.out.change(&scene, &$change);
    }};
}
use emit;

/// Borrows the parts of a state that a [`Emitter`] needs, and leaves the others free.
macro_rules! emitter {
    ($state:expr, $snapshot:expr, $now_ns:expr, $out:expr) => {
        $crate::state::Emitter {
            snapshot: $snapshot,
            containers: &$state.containers,
            strings: &mut $state.strings,
            namer: &mut $state.namer,
            now_ns: $now_ns,
            out: &mut *$out,
        }
    };
}
use emitter;

impl State {
    /// Allocates for `limits`; `seed` is random and secret from the guests.
    pub fn new(limits: &Limits, settings: Settings, seed: u64) -> Self {
        let processes = limits.processes as usize;
        Self {
            settings,
            processes: Table::new(processes, seed),
            children: vec![Children::default(); processes].into_boxed_slice(),
            threads: ListPool::new(limits.threads as usize),
            descriptors: ListPool::new(limits.file_descriptors as usize),
            areas: memory::Areas::new(limits, settings.heap),
            connections: connection::Connections::new(limits, settings.accept_grace_scans),
            containers: container::Containers::new(limits, seed),
            strings: Strings::new(strings_bytes(limits), seed.rotate_left(32)),
            namer: names::Namer::new(limits),
            rows: Vec::with_capacity(limits.processes_seen_max()),
            groups: Vec::with_capacity(limits.processes_seen_max()),
            gauges: [LimitGauge::default(); Limit::ALL.len()],
            untracked: [0; Limit::ALL.len()],
            coverage: coverage::Coverage::default(),
            scan: 0,
            clock_ns: None,
            settled: false,
            beginning_scans: 0,
            late_start: 0,
            arrival: None,
        }
    }

    /// Sets the thresholds for connections. What was reported is not reported again.
    pub fn set_thresholds(&mut self, thresholds: ConnectionThresholds) {
        self.connections.thresholds = thresholds;
    }

    /// Records which processes exist before the first scan that counts: anything that starts later
    /// is new, however late that scan is. An incomplete scan may miss the newest processes, so it
    /// sets nothing.
    pub fn note_baseline(&mut self, snapshot: &Snapshot) {
        self.arrival = update::newest_of_all(snapshot);
    }

    /// Forgets everything, as if nothing had ever been seen: the machine was lost, or has another
    /// boot.
    pub fn forget(&mut self) {
        self.processes.clear();
        self.children.fill(Children::default());
        self.threads.clear();
        self.descriptors.clear();
        self.areas.rows.clear();
        self.connections.clear();
        self.containers.clear();
        self.strings.clear();
        self.gauges = [LimitGauge::default(); Limit::ALL.len()];
        self.untracked = [0; Limit::ALL.len()];
        self.coverage = coverage::Coverage::default();
        self.clock_ns = None;
        self.settled = false;
        self.beginning_scans = 0;
        self.late_start = 0;
        self.arrival = None;
    }

    /// The context for findings of this scan.
    pub fn scene<'a>(&'a self, snapshot: &'a Snapshot, now_ns: i64) -> ScanContext<'a> {
        ScanContext { snapshot, containers: &self.containers, strings: &self.strings, now_ns }
    }

    /// When a connection of the last scan was first seen, in nanoseconds since 1970. `connection`
    /// is its index in that scan; `None` if it is not tracked.
    pub fn first_seen_ns(&self, connection: u32) -> Option<i64> {
        self.connections.first_seen_ns(connection)
    }

    /// The processes in the last scan that were reported or recorded as baseline.
    pub fn processes(&self) -> impl Iterator<Item = (RowId, &Process)> {
        self.processes.ids().filter_map(|id| {
            let process = self.processes.get(id)?;
            let life = &process.life;
            (life.announced && !life.ended && process.row() != NONE).then_some((id, process))
        })
    }

    /// A tracked process that the last scan did not show.
    pub(crate) fn missed(&self, key: &ProcessKey) -> Option<&Process> {
        let process = self.processes.get(self.processes.find(key)?)?;
        (!process.life.ended && process.row() == NONE).then_some(process)
    }

    /// A tracked process.
    pub fn process(&self, id: RowId) -> Option<&Process> {
        self.processes.get(id)
    }

    /// A number that changes with every change of a process's areas.
    pub fn areas_version(&self, process: RowId) -> u32 {
        self.children.get(process.0 as usize).map_or(0, |children| children.areas_version)
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
            Limit::Strings => (self.strings.used_bytes(), self.strings.capacity()),
        };
        Usage {
            used: used as u64,
            capacity: capacity as u64,
            untracked: self.untracked[limit as usize],
        }
    }
}

/// Bytes for names: a command line and three paths per process, and the paths of open and mapped
/// files, most of which are shared (sockets and pipes need none). A loaded machine of 350 processes
/// with 19,000 descriptors and 35,000 areas took 125 KB.
fn strings_bytes(limits: &Limits) -> usize {
    let (processes, descriptors) = (limits.processes as usize, limits.file_descriptors as usize);
    (processes * 512 + descriptors * 16 + limits.vmas as usize * 4).max(64 * 1024)
}
