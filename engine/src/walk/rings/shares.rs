//! Which slots of the tables of rings a scan reads.
//!
//! Room is divided among root, containers and users, then among the users of each, then among the
//! processes of each, and at last among the rings of a process. A process with many rings, or with
//! large tables, takes nothing from the rings of others.
//!
//! If a table is larger than its share, half of the share is for its first slots, which every scan
//! reads. The other half goes through the rest of the table, in turns. Used slots that were found
//! there are remembered, and every scan reads them.

use panoptes_decoders::address::KernelVa;
use panoptes_tables::{fair_share, room};

use super::super::fair_share::{Leads, OwnedRow, TableShares, divide_parts};
use super::super::ring_rows::RINGS_MAX;
use super::super::snapshot::Index;
use super::super::tables::Snapshot;
use super::RingFileTable;

/// Number of slots that one scan reads of all rings together.
pub(super) const SLOTS: u32 = 1 << 16;
/// Number of files that one scan has of all rings together.
pub(super) const FILES: usize = 16_384;
/// Number of slots behind the first ones of large tables that are remembered.
pub(in crate::walk) const REMEMBERED_MAX: usize = 256;
/// Number of scans in which a table must be read as a whole: otherwise it is a gap.
pub(super) const WHOLE_SCANS_MAX: u32 = 64;
/// Maximum number of ranges that one scan reads.
pub(super) const RANGES: usize = 2 * RINGS_MAX + REMEMBERED_MAX;

/// A used slot behind the first ones of a large table.
#[derive(Clone, Copy, Debug)]
pub(in crate::walk) struct RingSlot {
    /// The table.
    pub(super) array: KernelVa,
    pub(super) number: u32,
}

/// Slots of a table that a scan reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotRange {
    /// The place of its table in the list of tables.
    pub(super) table: u32,
    /// Address of the table.
    pub(super) array: KernelVa,
    pub(super) first: u32,
    pub(super) count: u32,
}

/// What a table may have in this scan.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub(super) slots: u32,
    pub(super) files: u32,
    pub(super) remembered: u32,
}

/// A table and whose it is.
#[derive(Clone, Copy, Debug)]
struct RingTableClaim {
    /// See [`TableShares::key_of`].
    owner: u64,
    process: Leads,
    /// The place of the table in the list of tables.
    table: u32,
}

/// Divides what a scan reads among the tables.
#[derive(Debug)]
pub(super) struct Shares {
    /// Claims of the tables, sorted by owner and process.
    claims: Vec<RingTableClaim>,
    /// The first claim of each process.
    processes: Vec<OwnedRow<RingTableClaim>>,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self { claims: room::list(RINGS_MAX), processes: room::list(RINGS_MAX) }
    }

    /// Sets the share of each table.
    pub(super) fn divide(
        &mut self,
        tables: &mut [RingFileTable],
        snapshot: &Snapshot,
        shares: &TableShares,
    ) {
        self.claims.clear();
        self.claims.extend((0..).zip(tables.iter()).map(|(at, table)| {
            let process = snapshot.rings[table.ring].process;
            let row = snapshot.processes.at(process);
            let owner = row.map_or(u64::MAX, |row| shares.key_of(row.owner));
            RingTableClaim { owner, process, table: at }
        }));
        self.claims.sort_unstable_by_key(|claim| (claim.owner, claim.process, claim.table));
        self.divide_one(SLOTS.into(), tables, |it| it.slots, |it, most| it.share.slots = most);
        let read = |it: &RingFileTable| it.slots.min(it.share.slots);
        self.divide_one(FILES as u64, tables, read, |it, most| it.share.files = most);
        let rest = |it: &RingFileTable| if it.is_large() { it.slots - it.first_slots() } else { 0 };
        let remember = |it: &mut RingFileTable, most| it.share.remembered = most;
        self.divide_one(REMEMBERED_MAX as u64, tables, rest, remember);
    }

    /// Divides one kind of room among the tables, by what each of them wants.
    fn divide_one(
        &mut self,
        room: u64,
        tables: &mut [RingFileTable],
        wanted: impl Fn(&RingFileTable) -> u32,
        set: impl Fn(&mut RingFileTable, u32),
    ) {
        let Self { claims, processes } = self;
        let is_same = |one: &RingTableClaim, other: &RingTableClaim| {
            (one.owner, one.process) == (other.owner, other.process)
        };
        processes.clear();
        let mut next = 0;
        for of_process in claims.chunk_by(is_same) {
            let wanted = of_process.iter().map(|it| u64::from(wanted(&tables[it.table as usize])));
            let wanted = wanted.sum();
            if let (Some(row), Some(first)) = (Index::new(next), of_process.first()) {
                processes.push(OwnedRow { owner: first.owner, row, wanted });
            }
            next += of_process.len();
        }
        divide_parts(room, processes, |first, share| {
            let rest = &claims[first.position()..];
            let Some(of_process) = rest.chunk_by(is_same).next() else { return };
            let of_table = fair_share(share, || {
                of_process.iter().map(|it| u64::from(wanted(&tables[it.table as usize])))
            });
            for claim in of_process {
                let table = &mut tables[claim.table as usize];
                let most = wanted(table).min(u32::try_from(of_table).unwrap_or(u32::MAX));
                set(table, most);
            }
        });
    }
}

impl RingFileTable {
    /// Whether it has more slots than its share, so that several scans read it.
    pub(super) const fn is_large(&self) -> bool {
        self.slots > self.share.slots
    }

    /// Number of slots that every scan reads of a large table.
    pub(super) const fn first_slots(&self) -> u32 {
        self.share.slots / 2
    }

    /// Lists what this scan reads of it. `remembered` has slots of all tables. Returns whether too
    /// many scans are needed for all of it.
    pub(super) fn list_ranges(
        &self,
        at: u32,
        scans: u64,
        remembered: &[RingSlot],
        ranges: &mut Vec<SlotRange>,
    ) -> bool {
        let mut push = |first: u32, count: u32| {
            if count > 0 && ranges.len() < ranges.capacity() {
                ranges.push(SlotRange { table: at, array: self.array, first, count });
            }
        };
        if !self.is_large() {
            push(0, self.slots);
            return false;
        }
        let first = self.first_slots();
        let step = self.share.slots - first;
        if step == 0 {
            return true;
        }
        let turns = (self.slots - first).div_ceil(step);
        let begin = first + (scans % u64::from(turns)) as u32 * step;
        let turn = begin..self.slots.min(begin + step);
        push(0, first);
        let its = remembered.iter().filter(|slot| slot.array == self.array);
        let its = its.filter(|slot| (first..self.slots).contains(&slot.number));
        for slot in its.filter(|slot| !turn.contains(&slot.number)) {
            push(slot.number, 1);
        }
        push(turn.start, turn.end - turn.start);
        turns > WHOLE_SCANS_MAX
    }
}
