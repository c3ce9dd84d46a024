//! What was there before, and what is different now.
//!
//! [`State::update`] takes in one scan and tells whoever listens of every [`Change`], in the order in which
//! they were found: processes that have gone, then those that are new; of each process its threads,
//! descriptors and areas; connections; limits; in between, containers. Facts only: what is worth a record, the policy decides.
//!
//! All memory is allocated at start, by the limits. What finds no room is not tracked, and counted; nothing
//! else changes.
//!
//! What counts as what:
//!
//! * A process is its number and when it began ([`process::ProcessKey`]); one *created*, one *terminated*.
//!   What is there when we come is taken in silently, unless [`Settings::report_existing`]; its end is told.
//!   One that was only just forked gets a scan to call exec before it is told of
//!   ([`Settings::fork_grace_scans`]), because until then it looks like its parent; one that has gone by
//!   then is told of all the same. It has ended when no whole view shows it or any thread of it; where
//!   views are never whole, when none has shown any of that for several scans.
//! * Threads are all but each process's first, which is the process itself.
//! * What a process has when it is first seen is told of: descriptors that it took over, libraries.
//!   What ends with its process is not told of one by one, nor what an exec leaves behind of memory:
//!   *terminated* and the new program say it all. Connections end by themselves, not with their holders.
//! * A container is there as long as a living process is in it ([`container`]). It is told of behind its first process,
//!   and its end behind theirs.
//! * Memory areas go on as long as anything of them is left ([`memory`]), connections under every socket
//!   that has their 4-tuple ([`connection`]).
//! * A process that changed while it was read (`stable`), a table or address space that was not read whole
//!   (`complete`), are left as they were: nothing is concluded from what such a scan does not show.
//!
//! Not for words, severities or what is on or off (`policy`). Start reading at [`State::update`].

mod chains;
pub mod change;
pub mod connection;
pub mod container;
pub mod coverage;
mod descriptor;
pub mod facts;
mod gauge;
pub mod holders;
mod index;
pub(crate) mod kept;
pub mod measure;
pub mod memory;
mod names;
pub mod process;
pub mod strings;
pub mod table;
#[cfg(test)]
pub(crate) mod tests;
mod thread;
mod update;

use panoptes_decoders::address::KernelVa;

use crate::limits::Limits;
use crate::walk::{NONE, ProcessRow, Snapshot};

pub use change::{AreaBefore, Change, Changes, ConnectionChange, Limit, Opened, Scene};
pub use coverage::Births;
use facts::HeapRule;
pub use measure::{ConnectionThresholds, Exceeded};
use process::{Process, ProcessKey};
use strings::Strings;
use table::{RowId, Table};

/// How differences are taken.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whether what is there when we come is told of as if it were new.
    pub report_existing: bool,
    /// How many more scans a process gets to call exec after its fork was seen.
    pub fork_grace_scans: u32,
    /// How many more scans a connection that nobody holds gets to be accepted.
    pub accept_grace_scans: u32,
    /// In how many scans in a row a view must hide a process, and a zombie stay one. At least two.
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

/// How much is tracked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// How much is in use.
    pub used: u64,
    /// How much fits.
    pub capacity: u64,
    /// How much found no room in the last scan.
    pub untracked: u64,
}

/// Everything that is tracked of one watched machine.
#[derive(Debug)]
pub struct State {
    settings: Settings,
    processes: Table<Process>,
    /// What hangs on each process, by the number of its row.
    children: Box<[Children]>,
    threads: chains::Chains<thread::Thread>,
    descriptors: chains::Chains<descriptor::Descriptor>,
    areas: memory::Areas,
    connections: connection::Connections,
    containers: container::Containers,
    strings: Strings,
    namer: names::Namer,
    /// The row of each process of the scan that is being taken in.
    rows: Vec<Option<RowId>>,
    /// Where the threads of each process of the scan are in its `by_tid`.
    groups: Vec<(u32, u32)>,
    gauges: [gauge::Gauge; Limit::ALL.len()],
    untracked: [u64; Limit::ALL.len()],
    coverage: coverage::Coverage,
    /// Counts the scans that were taken in.
    scan: u32,
    /// The machine's own calendar time at the last of them.
    clock_ns: Option<i64>,
    /// Whether all that is there has been taken in once, or as much of it as can be seen.
    settled: bool,
    /// How many scans there were until then.
    beginning_scans: u32,
    /// When the newest process began that was there then, if some of them found no room.
    late_start: u64,
    /// When the newest process began that was there when we came, if that is known ([`State::arrive`]).
    arrival: Option<u64>,
}

/// What hangs on one process.
#[derive(Clone, Copy, Debug)]
struct Children {
    threads: u32,
    descriptors: u32,
    areas: u32,
    /// Grows with every change of the areas.
    areas_version: u32,
    /// The address space that the areas are of: where it lies, and after how many execs.
    space: (KernelVa, u32),
    threads_taken: bool,
    descriptors_taken: bool,
    areas_taken: bool,
}

impl Default for Children {
    fn default() -> Self {
        Self {
            threads: chains::END,
            descriptors: chains::END,
            areas: chains::END,
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
    /// Whether what it had when it was first seen is no news.
    silent: bool,
    /// The machine's own calendar time at the scan before.
    clock_ns: Option<i64>,
}

impl Entry<'_> {
    /// Whether what is new of one kind is no news; `taken` when its first was taken in before.
    fn quiet(&self, taken: bool) -> bool {
        self.silent && !taken
    }
}

/// What is needed to tell of a change.
struct Telling<'a> {
    snapshot: &'a Snapshot,
    containers: &'a container::Containers,
    strings: &'a mut Strings,
    namer: &'a mut names::Namer,
    now_ns: i64,
    out: &'a mut dyn Changes,
}

/// Tells of a change that may borrow the names.
macro_rules! tell {
    ($telling:expr, $change:expr) => {{
        let scene = $crate::state::change::Scene {
            snapshot: $telling.snapshot,
            containers: $telling.containers,
            strings: &*$telling.strings,
            now_ns: $telling.now_ns,
        };
        $telling.out.change(&scene, &$change);
    }};
}
use tell;

/// A [`Telling`] of a state's own parts, which leaves the others free.
macro_rules! telling {
    ($state:expr, $snapshot:expr, $now_ns:expr, $out:expr) => {
        $crate::state::Telling {
            snapshot: $snapshot,
            containers: &$state.containers,
            strings: &mut $state.strings,
            namer: &mut $state.namer,
            now_ns: $now_ns,
            out: &mut *$out,
        }
    };
}
use telling;

impl State {
    /// Allocates for `limits`; `seed` is random and secret from the guests.
    pub fn new(limits: &Limits, settings: Settings, seed: u64) -> Self {
        let processes = limits.processes as usize;
        Self {
            settings,
            processes: Table::new(processes, seed),
            children: vec![Children::default(); processes].into_boxed_slice(),
            threads: chains::Chains::new(limits.threads as usize),
            descriptors: chains::Chains::new(limits.file_descriptors as usize),
            areas: memory::Areas::new(limits, settings.heap),
            connections: connection::Connections::new(limits, settings.accept_grace_scans),
            containers: container::Containers::new(limits, seed),
            strings: Strings::new(strings_bytes(limits), seed.rotate_left(32)),
            namer: names::Namer::new(limits),
            rows: Vec::with_capacity(limits.processes_seen_max()),
            groups: Vec::with_capacity(limits.processes_seen_max()),
            gauges: [gauge::Gauge::default(); Limit::ALL.len()],
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

    /// Says from when on connections are told of for what they have come to. What was told is not told again.
    pub fn set_thresholds(&mut self, thresholds: ConnectionThresholds) {
        self.connections.thresholds = thresholds;
    }

    /// Takes note of what is there now, before the first scan that is taken in: what begins later is news, however
    /// long that scan lets itself be waited for. A scan that is not whole may miss the newest and says nothing.
    pub fn arrive(&mut self, snapshot: &Snapshot) {
        self.arrival = update::newest_of_all(snapshot);
    }

    /// Forgets everything, as if nothing had ever been seen: the machine was lost, or has another boot.
    pub fn forget(&mut self) {
        self.processes.clear();
        self.children.fill(Children::default());
        self.threads.clear();
        self.descriptors.clear();
        self.areas.rows.clear();
        self.connections.clear();
        self.containers.clear();
        self.strings.clear();
        self.gauges = [gauge::Gauge::default(); Limit::ALL.len()];
        self.untracked = [0; Limit::ALL.len()];
        self.coverage = coverage::Coverage::default();
        self.clock_ns = None;
        self.settled = false;
        self.beginning_scans = 0;
        self.late_start = 0;
        self.arrival = None;
    }

    /// What findings of this scan are told against.
    pub fn scene<'a>(&'a self, snapshot: &'a Snapshot, now_ns: i64) -> Scene<'a> {
        Scene { snapshot, containers: &self.containers, strings: &self.strings, now_ns }
    }

    /// When a connection of the last scan was first seen, in nanoseconds since 1970, by its index there; nothing where it
    /// is not tracked.
    pub fn first_seen_ns(&self, connection: u32) -> Option<i64> {
        self.connections.first_seen_ns(connection)
    }

    /// The processes that the last scan showed and that were told of, or taken in silently.
    pub fn processes(&self) -> impl Iterator<Item = (RowId, &Process)> {
        self.processes.ids().filter_map(|id| {
            let process = self.processes.get(id)?;
            let life = &process.life;
            (life.announced && !life.ended && process.row() != NONE).then_some((id, process))
        })
    }

    /// A process that is tracked, although the last scan did not show it.
    pub(crate) fn missed(&self, key: &ProcessKey) -> Option<&Process> {
        let process = self.processes.get(self.processes.find(key)?)?;
        (!process.life.ended && process.row() == NONE).then_some(process)
    }

    /// A process that is tracked.
    pub fn process(&self, id: RowId) -> Option<&Process> {
        self.processes.get(id)
    }

    /// A number that is another one after every change of a process's areas.
    pub fn areas_version(&self, process: RowId) -> u32 {
        self.children.get(process.0 as usize).map_or(0, |children| children.areas_version)
    }

    /// How much of a limit is in use.
    pub fn usage(&self, limit: Limit) -> Usage {
        let (used, capacity) = match limit {
            Limit::Processes => (self.processes.len(), self.processes.capacity()),
            Limit::Threads => (self.threads.len(), self.threads.capacity()),
            Limit::Descriptors => (self.descriptors.len(), self.descriptors.capacity()),
            Limit::Areas => (self.areas.rows.len(), self.areas.rows.capacity()),
            Limit::Connections => (self.connections.rows.len(), self.connections.rows.capacity()),
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

/// Bytes of names: a command line and three paths a process, and the paths of open and mapped files, which
/// are shared by far (sockets and pipes need none). A loaded machine of 350 processes with 19,000
/// descriptors and 35,000 areas took 125 KB.
fn strings_bytes(limits: &Limits) -> usize {
    let (processes, descriptors) = (limits.processes as usize, limits.file_descriptors as usize);
    (processes * 512 + descriptors * 16 + limits.vmas as usize * 4).max(64 * 1024)
}
