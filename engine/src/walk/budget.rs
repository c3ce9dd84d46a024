//! How much one scan may read, and where the next one continues.
//!
//! A scan always reads the tasks, the processes with their executables and names, and the first
//! slots of every descriptor table: the limits bound these. It spends the rest of its [`Budget`] on
//! descriptor tables, address spaces, open files and sockets. Each of them asks between two pieces
//! of work whether its part is spent ([`BudgetMeter::is_beyond`]). What is not read then is counted
//! in [`DeferredWork`], and [`Resume`] has where the next scan begins. Each scan reads at least a
//! little of each kind, so that everything is read after finitely many scans.

use std::fmt;

use panoptes_decoders::address::KernelVa;
use panoptes_tables::{AddressedRows, Index};

use crate::address::ReadCost;
use crate::limits::Limits;

/// Bytes that an open file costs, with its inode, its name and what is behind it.
pub(super) const FILE_BYTES: u64 = 512;
/// Rows that it takes: file, inode and name.
pub(super) const FILE_ROWS: u64 = 3;
/// Bytes that an area costs, with its part of the tree's nodes.
pub(super) const AREA_BYTES: u64 = 192;
/// Bytes that a TCP socket costs, with its counters, its route and its open file.
pub(super) const SOCKET_BYTES: u64 = 768;

/// How much one scan may read. Whatever the budget is, a scan reads the tasks and what belongs to
/// each process, which the limits bound, and a little of everything else.
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    /// Batches of reads.
    pub batches: u32,
    /// Bytes of all objects, and of the page-table entries that lead to them.
    pub bytes: u64,
    /// Rows of the snapshot.
    pub rows: u32,
    is_over: Option<&'a dyn Fn() -> bool>,
    must_stop: Option<&'a dyn Fn() -> bool>,
    clock: Option<&'a dyn Fn() -> u64>,
}

impl<'a> Budget<'a> {
    /// No bound.
    pub const NONE: Self = Self {
        batches: u32::MAX,
        bytes: u64::MAX,
        rows: u32::MAX,
        is_over: None,
        must_stop: None,
        clock: None,
    };

    /// A budget that a scan never meets as long as the machine is within its limits: twice what a
    /// scan of a full machine costs.
    pub fn default_for(limits: &Limits) -> Self {
        let count = |count: usize| count as u64;
        let tasks = count(limits.threads_seen_max() + 2 * limits.processes_seen_max()) << 10;
        let files = count(limits.files_seen_max()) * FILE_BYTES;
        let descriptors = count(limits.file_descriptors_seen_max()) * 64;
        let areas = count(limits.vmas_seen_max()) * AREA_BYTES;
        let sockets = count(limits.connections_seen_max()) * SOCKET_BYTES;
        let bytes = 2 * (tasks + files + descriptors + areas + sockets) + (64 << 20);
        let rows = 8 * (tasks >> 10)
            + 4 * (count(limits.files_seen_max()) + count(limits.file_descriptors_seen_max()))
            + 2 * count(limits.vmas_seen_max() + limits.connections_seen_max())
            + (1 << 20);
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        Self { batches: 16_384, bytes, rows, ..Self::NONE }
    }

    /// The same budget, which is also spent as soon as `is_over` returns `true`: a deadline has
    /// passed. It must then return `true` every time. It is called once for each batch of reads.
    #[must_use]
    pub const fn until(self, is_over: &'a dyn Fn() -> bool) -> Self {
        Self { is_over: Some(is_over), ..self }
    }

    /// The same budget for a scan that is given up as soon as `must_stop` returns `true`: nothing
    /// more is read, and nothing is reported. It must then return `true` every time. It is called
    /// before each batch of reads, and while the scan is compared at least once for each process.
    #[must_use]
    pub const fn unless(self, must_stop: &'a dyn Fn() -> bool) -> Self {
        Self { must_stop: Some(must_stop), ..self }
    }

    /// The same budget for a scan whose stages are measured by this clock, in nanoseconds.
    #[must_use]
    pub const fn timed_by(self, clock: &'a dyn Fn() -> u64) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// The time; 0 without a clock.
    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.map_or(0, |clock| clock())
    }

    /// Whether the scan must be given up.
    pub(crate) fn must_stop(&self) -> bool {
        self.must_stop.is_some_and(|must_stop| must_stop())
    }

    /// How much of it so much work and so many rows are, in percent: the largest of the parts.
    pub(crate) fn percent_of(&self, work: ReadCost, rows: u64) -> u32 {
        let percent = |used: u64, all: u64| used.saturating_mul(100) / all.max(1);
        let batches = percent(work.batches, self.batches.into());
        let bytes = percent(work.bytes, self.bytes);
        let most = batches.max(bytes).max(percent(rows, self.rows.into()));
        u32::try_from(most).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Budget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("batches", &self.batches)
            .field("bytes", &self.bytes)
            .field("rows", &self.rows)
            .field("has_deadline", &self.is_over.is_some())
            .field("can_stop", &self.must_stop.is_some())
            .finish()
    }
}

/// What a scan left for the next ones, because its budget was spent, or because it is a light one
/// and their processes rest.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DeferredWork {
    /// Descriptor tables of which it did not look at every slot.
    pub tables: u32,
    pub address_spaces: u32,
    /// Open files that descriptors or areas lead to.
    pub files: u32,
    /// Chains of sockets.
    pub chains: u32,
    /// Tables and address spaces that a light scan skipped. The numbers above include them.
    pub of_resting: u32,
    /// The process with the largest share of descriptors and areas, if that is more than a quarter.
    pub process_id: Option<u32>,
}

impl DeferredWork {
    /// Whether nothing was left.
    pub const fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// Number of tables, address spaces, files and chains.
    pub const fn total(&self) -> u64 {
        self.tables as u64 + self.address_spaces as u64 + self.files as u64 + self.chains as u64
    }
}

/// Up to where one part of a scan may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct BudgetMark {
    batches: u64,
    bytes: u64,
    rows: u64,
}

/// Measures what a scan reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct BudgetMeter<'a> {
    budget: Budget<'a>,
    spent: ReadCost,
    /// Whether the deadline has passed.
    is_late: bool,
    is_stopped: bool,
}

impl<'a> BudgetMeter<'a> {
    pub(super) const fn new(budget: Budget<'a>) -> Self {
        let spent = ReadCost { batches: 0, bytes: 0, failed: 0 };
        Self { budget, spent, is_late: false, is_stopped: false }
    }

    /// Asks whether the scan must be given up.
    pub(super) fn must_stop(&mut self) -> bool {
        self.is_stopped = self.is_stopped || self.budget.must_stop();
        self.is_stopped
    }

    /// Whether that was answered with yes.
    pub(super) const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// What was read so far.
    pub(super) const fn spent(&self) -> ReadCost {
        self.spent
    }

    /// Counts what was read.
    #[inline]
    pub(super) fn add(&mut self, work: ReadCost) {
        self.spent.batches += work.batches;
        self.spent.bytes += work.bytes;
        self.spent.failed += work.failed;
        if let Some(is_over) = self.budget.is_over {
            self.is_late = self.is_late || is_over();
        }
    }

    /// Whether the deadline has passed.
    pub(super) const fn is_late(&self) -> bool {
        self.is_late
    }

    /// Up to where a part may go that gets `part` of `of` parts of the rest, with so many rows in
    /// the snapshot, and files that still have to be read.
    pub(super) fn mark(&self, rows: u64, files: u64, (part, of): (u64, u64)) -> BudgetMark {
        let end = |spent: u64, budget: u64| spent + budget.saturating_sub(spent) / of * part;
        BudgetMark {
            batches: end(self.spent.batches, self.budget.batches.into()),
            bytes: end(self.spent.bytes + files * FILE_BYTES, self.budget.bytes),
            rows: end(rows + files * FILE_ROWS, self.budget.rows.into()),
        }
    }

    /// Whether a part of a scan has spent what it may; `rows` and `files` as in [`Self::mark`].
    pub(super) fn is_beyond(&self, mark: &BudgetMark, rows: u64, files: u64) -> bool {
        self.is_late
            || self.spent.batches >= mark.batches
            || self.spent.bytes + files * FILE_BYTES >= mark.bytes
            || rows + files * FILE_ROWS >= mark.rows
    }

    /// How many objects a part may still read that take so many bytes and one row each; 0 after the
    /// deadline. `rows` and `files` as in [`Self::mark`].
    pub(super) fn room(&self, mark: &BudgetMark, rows: u64, files: u64, bytes: u64) -> usize {
        if self.is_late || self.spent.batches >= mark.batches {
            return 0;
        }
        let spent = self.spent.bytes + files * FILE_BYTES;
        let objects = mark.bytes.saturating_sub(spent) / bytes;
        let objects = objects.min(mark.rows.saturating_sub(rows + files * FILE_ROWS));
        usize::try_from(objects).unwrap_or(usize::MAX)
    }

    /// Number of batches that may still be read.
    pub(super) fn batches_left(&self) -> u64 {
        if self.is_late {
            return 0;
        }
        u64::from(self.budget.batches).saturating_sub(self.spent.batches)
    }
}

/// A row at which the next scan begins: an object in the kernel or, if that is gone, a position.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ResumePoint {
    pub(super) address: KernelVa,
    pub(super) position: usize,
}

impl ResumePoint {
    /// The position of its row in this scan.
    pub(super) fn find<Row>(&self, rows: &AddressedRows<Row>) -> Option<usize> {
        let found = rows.find(self.address.0).map(Index::position);
        found.or(Some(self.position)).filter(|&at| at < rows.len())
    }
}

/// Positions at which a scan continues with what the one before left. After a scan that left
/// nothing, everything begins with the first row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resume {
    /// The first descriptor table, and the first of its slots.
    pub(super) table: ResumePoint,
    pub(super) slot: u32,
    pub(super) address_space: ResumePoint,
    /// Number of the bucket of sockets, counted over all tables.
    pub(super) bucket: u32,
    /// Number of times that all chains of sockets had their turn.
    pub(super) chains_round: u32,
    /// Whether the files of areas come before those of descriptors.
    pub(super) areas_first: bool,
}

/// The order in which rows are read: from one on, and all around.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowRotation {
    begin: usize,
    count: usize,
}

impl RowRotation {
    pub(super) const fn new(begin: usize, count: usize) -> Self {
        Self { begin, count }
    }

    /// The position of the row whose turn it is.
    #[inline]
    pub(super) const fn at(&self, turn: usize) -> usize {
        let at = self.begin + turn;
        if at < self.count || turn >= self.count { at } else { at - self.count }
    }

    /// The positions in order.
    pub(super) fn all(self) -> impl Iterator<Item = usize> {
        (0..self.count).map(move |turn| self.at(turn))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn work(batches: u64, bytes: u64) -> ReadCost {
        ReadCost { batches, bytes, ..ReadCost::default() }
    }

    #[test]
    fn a_part_gets_its_share_of_what_is_left() {
        let budget = Budget { batches: 100, bytes: 10_000, rows: 1000, ..Budget::NONE };
        let mut meter = BudgetMeter::new(budget);
        meter.add(work(20, 6000));
        let half = meter.mark(200, 0, (1, 2));
        assert_eq!((half.batches, half.bytes, half.rows), (60, 8000, 600));
        assert!(!meter.is_beyond(&half, 200, 3));
        assert!(meter.is_beyond(&half, 200, 4), "files that will be read count");
        assert!(meter.is_beyond(&half, 600, 0));
        assert_eq!((meter.room(&half, 200, 0, 100), meter.room(&half, 590, 0, 100)), (20, 10));
        meter.add(work(40, 0));
        assert!(meter.is_beyond(&half, 200, 0));
        // A budget that is spent leaves nothing, and nothing overflows.
        meter.add(work(1 << 40, 1 << 50));
        let none = meter.mark(1 << 40, 1, (1, 2));
        assert!(meter.is_beyond(&none, 1 << 40, 0));
        assert_eq!((meter.room(&none, 1 << 40, 1, 1), meter.batches_left()), (0, 0));
    }

    #[test]
    fn a_deadline_that_has_passed_stays_passed() {
        let asked = Cell::new(0);
        let is_over = || {
            asked.set(asked.get() + 1);
            asked.get() == 2
        };
        let mut meter = BudgetMeter::new(Budget::NONE.until(&is_over));
        let mark = meter.mark(0, 0, (1, 1));
        for is_late in [false, true, true] {
            meter.add(work(1, 1));
            assert_eq!((meter.is_late(), meter.is_beyond(&mark, 0, 0)), (is_late, is_late));
        }
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn the_part_that_is_used_is_the_largest() {
        let budget = Budget { batches: 100, bytes: 10_000, rows: 1000, ..Budget::NONE };
        assert_eq!(budget.percent_of(work(50, 0), 0), 50);
        assert_eq!(budget.percent_of(work(50, 16_000), 0), 160);
        assert_eq!(budget.percent_of(work(50, 16_000), 3000), 300);
        assert_eq!(Budget::NONE.percent_of(work(1 << 20, 1 << 40), 1 << 20), 0);
        let none = Budget { batches: 0, ..budget };
        assert_eq!(none.percent_of(work(1 << 60, 0), 0), u32::MAX);
    }

    #[test]
    fn a_turn_has_every_row_once() {
        for (begin, expected) in [(0, [0, 1, 2]), (2, [2, 0, 1])] {
            let turn = RowRotation::new(begin, 3);
            assert_eq!(turn.all().collect::<Vec<_>>(), expected);
        }
        assert_eq!(RowRotation::new(0, 0).all().count(), 0);
    }

    #[test]
    fn the_default_grows_with_the_limits() {
        let default = Budget::default_for(&Limits::default());
        let small =
            Limits { processes: 100, file_descriptors: 4096, vmas: 8192, ..Limits::default() };
        let small = Budget::default_for(&small);
        assert!(small.bytes < default.bytes && small.rows < default.rows);
        let most = Limits { file_descriptors: 1 << 26, vmas: 1 << 26, ..Limits::default() };
        assert!(Budget::default_for(&most).bytes > default.bytes);
    }
}
