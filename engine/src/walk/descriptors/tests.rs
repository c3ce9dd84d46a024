//! Tables made by hand: which of their descriptors a scan has, and how much it reads.

#![allow(clippy::unwrap_used, reason = "a test may")]

use proptest::prelude::*;

use super::*;
use crate::limits::Limits;
use crate::walk::Budget;
use crate::walk::snapshot::{FilesRow, Index, ProcessRow};
use crate::walk::tests::memory::{Sparse, kernel, small, va, walker};

/// Capacity of a table after `dup2(0, 524287)`.
const LARGE: u32 = 1 << 19;

/// One table in memory.
#[derive(Clone, Copy, Debug)]
struct Table {
    address: u64,
    fd: u64,
    open_fds: u64,
    close_on_exec: u64,
}

impl Table {
    fn new(memory: &mut Sparse, max_fds: u32) -> Self {
        let [address, fdtable] = [memory.structure(), memory.structure()];
        let fd = memory.room(u64::from(max_fds) * 8);
        let [open_fds, close_on_exec] = [0; 2].map(|_| memory.room(u64::from(max_fds) / 8));
        memory.set(address, "files_struct", "fdt", fdtable);
        for (field, value) in [
            ("max_fds", max_fds.into()),
            ("fd", fd),
            ("open_fds", open_fds),
            ("close_on_exec", close_on_exec),
        ] {
            memory.set(fdtable, "fdtable", field, value);
        }
        Self { address, fd, open_fds, close_on_exec }
    }

    fn with(memory: &mut Sparse, max_fds: u32, used: impl IntoIterator<Item = u32>) -> Self {
        let table = Self::new(memory, max_fds);
        for index in used {
            table.open(memory, index);
        }
        table
    }

    fn file(&self, index: u32) -> u64 {
        // Any address: what is there is not read here.
        self.fd + (1 << 39) + u64::from(index) * 8
    }

    fn open(&self, memory: &mut Sparse, index: u32) {
        memory.put(self.fd + u64::from(index) * 8, self.file(index));
        memory.set_bit(self.open_fds, index);
    }
}

/// What a scan has of some tables.
#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    /// Descriptors of each table, and whether the table has no others.
    tables: Vec<(Vec<u32>, bool)>,
    dropped: u32,
    unreadable: u32,
    /// Number of files.
    files: usize,
}

/// Adds a row for a table.
fn add(walker: &mut Walker, table: &Table) -> Option<Index<FilesRow>> {
    let address = va(table.address);
    let row = || FilesRow { address, complete: true, ..FilesRow::default() };
    walker.snapshot.files_structs.row_of(address.0, row)
}

fn scan(memory: &mut Sparse, limits: &Limits, tables: &[Table]) -> (Walker, Seen) {
    let mut walker = walker(limits);
    for table in tables {
        add(&mut walker, table);
    }
    (memory.batches, memory.requests, memory.bytes) = (0, 0, 0);
    memory.walk(&mut walker, &kernel(), Walker::read_descriptors);
    let snapshot = &walker.snapshot;
    let mut seen = Seen::default();
    for (row, table) in snapshot.files_structs.iter().zip(tables) {
        let descriptors = snapshot.descriptors.range(row.descriptors);
        for descriptor in descriptors {
            let file = snapshot.files.at(descriptor.file).unwrap();
            assert_eq!(file.address.0, table.file(descriptor.index));
        }
        seen.tables.push((descriptors.iter().map(|row| row.index).collect(), row.complete));
    }
    seen.dropped = snapshot.descriptors.dropped + snapshot.losses.dropped;
    seen.unreadable = snapshot.losses.unreadable;
    seen.files = snapshot.files.len();
    (walker, seen)
}

#[test]
fn a_table_with_one_high_descriptor_costs_its_bitmap() {
    let bytes_of = |count: usize| {
        let mut memory = Sparse::default();
        let tables: Vec<_> =
            (0..count).map(|_| Table::with(&mut memory, LARGE, [0, 1, 2, LARGE - 1])).collect();
        let (_, seen) = scan(&mut memory, &small(), &tables);
        assert_eq!(seen.tables, vec![(vec![0, 1, 2, LARGE - 1], true); count]);
        memory.bytes
    };
    let (some, twice) = (bytes_of(40), bytes_of(80));
    // Its bitmap has 64 KiB, its array 4 MiB.
    assert!(some <= 40 * (80 << 10), "{some}");
    assert!(twice <= 2 * some, "{some}, {twice}");
}

#[test]
fn scattered_descriptors_cost_a_few_slots_each() {
    for apart in [2, 7, 33, 64, 100, 5000] {
        let work_of = |count: u32| {
            let mut memory = Sparse::default();
            let used = (0..count).map(|number| number * apart % LARGE);
            let table = Table::with(&mut memory, LARGE, used);
            let (mut walker, seen) = scan(&mut memory, &small(), &[table]);
            assert!(seen.tables[0].1 && seen.dropped == 0);
            memory.walk(&mut walker, &kernel(), Walker::check_descriptors);
            (memory.bytes, memory.requests)
        };
        let (some, twice) = (work_of(500), work_of(1000));
        assert!(some.0 <= (80 << 10) + 500 * 600, "{apart}: {some:?}");
        assert!(some.1 <= 20 + 500 * 3, "{apart}: {some:?}");
        let few = 20;
        assert!(twice.0 <= 2 * some.0, "{apart}: {some:?}, {twice:?}");
        assert!(twice.1 <= 2 * some.1 + few, "{apart}: {some:?}, {twice:?}");
    }
}

#[test]
fn large_tables_of_some_leave_the_bitmaps_of_others() {
    let mut memory = Sparse::default();
    // Together twice what a scan reads of bitmaps.
    let hogs = 2 * (WORDS_MAX / u64::from(LARGE / 64)) as usize;
    let mut tables: Vec<_> =
        (0..hogs).map(|_| Table::with(&mut memory, LARGE, [0, 1, LARGE - 1])).collect();
    tables.push(Table::with(&mut memory, 1024, [0, 1, 700, 1023]));
    let limits = Limits { processes: 32_768, ..small() };
    let (_, mut seen) = scan(&mut memory, &limits, &tables);
    assert_eq!(seen.tables.pop(), Some((vec![0, 1, 700, 1023], true)));
    assert_eq!(seen.dropped as usize, hogs);
    for table in seen.tables {
        assert_eq!(table, (vec![0, 1], false));
    }
    assert!(memory.bytes <= WORDS_MAX * 8 + 300 * (8 << 10), "{}", memory.bytes);
}

#[test]
fn a_process_with_too_many_descriptors_takes_none_of_others() {
    let room = small().file_descriptors_seen_max() as u32;
    for (place, hogs) in [(0, 1), (30, 1), (59, 1), (0, 5), (20, 40)] {
        let mut memory = Sparse::default();
        let mut tables = Vec::new();
        for number in 0..60 {
            let is_hog = (place..place + hogs).contains(&number);
            let used = if is_hog { room * 3 / 2 } else { 20 };
            tables.push(Table::with(&mut memory, used.next_power_of_two(), 0..used));
        }
        let (_, seen) = scan(&mut memory, &small(), &tables);
        let mut lacking = 0;
        for (number, (descriptors, complete)) in seen.tables.iter().enumerate() {
            let is_hog = (place..place + hogs).contains(&number);
            assert!(descriptors.iter().copied().eq(0..descriptors.len() as u32));
            assert_eq!(*complete, !is_hog, "{number}");
            if is_hog {
                lacking += room * 3 / 2 - descriptors.len() as u32;
                assert!(descriptors.len() as u32 >= room / 2 / 60, "{}", descriptors.len());
            } else {
                assert_eq!(descriptors.len(), 20, "{number}");
            }
        }
        assert_eq!(seen.dropped, lacking);
        let rows: usize = seen.tables.iter().map(|table| table.0.len()).sum();
        assert_eq!(seen.files, rows, "what is cut adds no file");
        assert!(rows >= room as usize / 2, "{rows}");
        // Each row costs at most a few slots, and what has no row only its bit.
        assert!(memory.bytes <= u64::from(room) * 200 + (80 << 10), "{}", memory.bytes);
    }
}

/// The rows may be full exactly where a table begins, and be cut again after it.
#[test]
fn a_table_that_begins_where_the_rows_end_is_read() {
    let room = small().file_descriptors_seen_max() as u32;
    for less in 0..3 {
        let mut memory = Sparse::default();
        let used = [room - less, 5, room / 2, room / 2, 7];
        let tables = used.map(|used| Table::with(&mut memory, used.next_power_of_two(), 0..used));
        let (_, seen) = scan(&mut memory, &small(), &tables);
        let mut lacking = 0;
        for (number, (descriptors, complete)) in seen.tables.iter().enumerate() {
            assert!(descriptors.iter().copied().eq(0..descriptors.len() as u32), "{number}");
            assert_eq!(*complete, descriptors.len() as u32 == used[number], "{number}");
            lacking += used[number] - descriptors.len() as u32;
        }
        assert_eq!((seen.tables[1].0.len(), seen.tables[4].0.len()), (5, 7));
        assert_eq!(seen.dropped, lacking);
    }
}

#[test]
fn an_empty_table_among_tables_that_are_cut_has_no_rows_of_others() {
    let room = small().file_descriptors_seen_max() as u32;
    let mut memory = Sparse::default();
    // The table before it fills the rows, and the one after it needs some of them.
    let used = [room, 0, 5];
    let tables = used.map(|used| Table::with(&mut memory, 1 << 14, 0..used));
    let (walker, seen) = scan(&mut memory, &small(), &tables);
    assert_eq!(seen.tables[1], (vec![], true));
    for table in walker.snapshot.files_structs.iter() {
        assert!(table.descriptors.end() as usize <= walker.snapshot.descriptors.len());
    }
}

/// There may be so many tables that cutting them frees nothing.
#[test]
fn tables_that_cannot_be_cut_are_not_cut_again_and_again() {
    let room = small().file_descriptors_seen_max() as u32;
    let mut memory = Sparse::default();
    let tables: Vec<Table> = (0..room / 2).map(|_| Table::with(&mut memory, 64, 0..4)).collect();
    let (_, seen) = scan(&mut memory, &small(), &tables);
    let rows: usize = seen.tables.iter().map(|table| table.0.len()).sum();
    assert_eq!(rows as u32 + seen.dropped, room / 2 * 4);
    for (descriptors, complete) in &seen.tables {
        assert_eq!(*complete, descriptors.len() == 4);
    }
}

#[test]
fn work_for_descriptors_without_rows_does_not_grow_with_their_number() {
    let work_of = |used: u32| {
        let mut memory = Sparse::default();
        let table = Table::with(&mut memory, LARGE, 0..used);
        let (_, seen) = scan(&mut memory, &small(), &[table]);
        assert_eq!(seen.tables[0].0.len() as u32 + seen.dropped, used);
        memory.bytes
    };
    let (some, twice) = (work_of(20_000), work_of(40_000));
    assert!(twice <= some + 4096, "{some}, {twice}");
}

#[test]
fn a_pointer_decides_and_a_bit_only_shows_where_to_look() {
    let mut memory = Sparse::default();
    let table = Table::with(&mut memory, 1024, [3, 900]);
    // Reserved, with no file yet.
    memory.set_bit(table.open_fds, 4);
    memory.set_bit(table.open_fds, 901);
    // In the first slots, a file counts although its bit is clear.
    memory.put(table.fd + 5 * 8, table.file(5));
    memory.set_bit(table.close_on_exec, 900);
    let (walker, seen) = scan(&mut memory, &small(), &[table]);
    assert_eq!(seen.tables, [(vec![3, 5, 900], true)]);
    let closing = |row: &DescriptorRow| row.close_on_exec.then_some(row.index);
    let closing: Vec<_> = walker.snapshot.descriptors.iter().filter_map(closing).collect();
    assert_eq!(closing, [900]);
}

#[test]
fn a_table_whose_bitmap_cannot_be_read_is_incomplete() {
    let mut memory = Sparse::default();
    let tables = [1024; 2].map(|max_fds| Table::with(&mut memory, max_fds, [0, 255, 256, 1000]));
    memory.missing.push(tables[0].open_fds..tables[0].open_fds + 128);
    let (_, seen) = scan(&mut memory, &small(), &tables);
    assert_eq!(seen.tables, [(vec![0, 255], false), (vec![0, 255, 256, 1000], true)]);
    assert_eq!((seen.unreadable, seen.dropped), (1, 0));
}

#[test]
fn a_slot_that_changes_later_is_noticed_wherever_it_is() {
    let mut memory = Sparse::default();
    let table = Table::with(&mut memory, LARGE, [0, 1, 40, 300, 70_000, LARGE - 1]);
    let (mut walker, _) = scan(&mut memory, &small(), &[table]);
    for index in [40_u32, 70_000] {
        memory.put(table.fd + u64::from(index) * 8, 0);
    }
    memory.walk(&mut walker, &kernel(), Walker::check_descriptors);
    let moved = |row: &DescriptorRow| row.moved.then_some(row.index);
    let moved: Vec<_> = walker.snapshot.descriptors.iter().filter_map(moved).collect();
    assert_eq!(moved, [40, 70_000]);
}

#[test]
fn a_table_that_thousands_share_is_looked_at_for_some_of_them() {
    let looks_of = |sharing: usize| {
        let mut memory = Sparse::default();
        let tables = [(1 << 12, 2000), (256, 10)]
            .map(|(max_fds, used)| Table::with(&mut memory, max_fds, 0..used));
        let mut walker = walker(&small());
        let [hog, other] = tables.map(|table| add(&mut walker, &table));
        // The newest two share a small table.
        for number in 0..sharing {
            let files = if number < sharing - 2 { hog } else { other };
            let leader = Index::new(number).unwrap();
            walker.snapshot.processes.push(ProcessRow { files, ..ProcessRow::new(leader) });
        }
        memory.walk(&mut walker, &kernel(), Walker::read_descriptors);
        let snapshot = &walker.snapshot;
        let of: Vec<_> = snapshot.processes.iter().map(|process| process.files).collect();
        assert_eq!((of[0], &of[sharing - 2..]), (hog, &[other; 2][..]));
        // Those that keep the table are the oldest.
        assert!(of[..sharing - 2].is_sorted_by_key(Option::is_none));
        let count = |files: &Option<Index<FilesRow>>| {
            snapshot.files_structs.at(*files).map_or(0, |table| table.descriptors.len())
        };
        let looks: usize = of.iter().map(count).sum();
        assert_eq!(looks + snapshot.descriptors.dropped as usize, 2000 * (sharing - 2) + 20);
        looks
    };
    let (some, twice) = (looks_of(100), looks_of(200));
    assert_eq!(some, twice);
    assert!(some <= 2 * small().file_descriptors_seen_max(), "{some}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn all_open_descriptors_are_found(
        tables in proptest::collection::vec(
            (0_u32..12, proptest::collection::btree_set(0_u32..4096, 0..40)), 1..6
        )
    ) {
        let mut memory = Sparse::default();
        let mut all = Vec::new();
        let mut expected = Vec::new();
        for (size, used) in tables {
            let max_fds = 64 << size.min(6);
            let used: Vec<u32> = used.into_iter().filter(|&index| index < max_fds).collect();
            all.push(Table::with(&mut memory, max_fds, used.iter().copied()));
            expected.push((used, true));
        }
        let (_, seen) = scan(&mut memory, &small(), &all);
        prop_assert_eq!(seen.tables, expected);
        prop_assert_eq!((seen.dropped, seen.unreadable), (0, 0));
    }
}

#[test]
fn scans_without_a_budget_read_every_slot_in_turn() {
    let mut memory = Sparse::default();
    let used_of = |number: usize| -> Vec<u32> {
        if number == 1 {
            (0..3000).map(|place| place * 101).collect()
        } else {
            vec![0, 1, 2, 5, 63]
        }
    };
    let tables: Vec<_> = (0..300)
        .map(|number| {
            let max_fds = if number == 1 { LARGE } else { 64 };
            Table::with(&mut memory, max_fds, used_of(number))
        })
        .collect();
    let mut budget = Budget::NONE;
    (budget.batches, budget.bytes, budget.rows) = (0, 0, 0);
    let mut walker = walker(&small());
    let mut unseen: Vec<(usize, u32)> = (0..tables.len())
        .flat_map(|number| used_of(number).into_iter().map(move |index| (number, index)))
        .collect();
    let mut scans = 0;
    while !unseen.is_empty() {
        walker.snapshot.clear();
        for table in &tables {
            add(&mut walker, table);
        }
        memory.walk_within(&mut walker, &kernel(), budget, Walker::read_descriptors);
        let snapshot = &walker.snapshot;
        assert!(snapshot.left.tables > 0);
        let most = PLACES_MIN as usize + tables.len() * KEPT_MIN as usize;
        assert!(snapshot.descriptors.len() <= most, "{}", snapshot.descriptors.len());
        for (number, row) in snapshot.files_structs.iter().enumerate() {
            let descriptors = snapshot.descriptors.range(row.descriptors);
            let found: Vec<_> = descriptors.iter().map(|row| row.index).collect();
            assert!(found.is_sorted_by(|one, next| one < next), "{number}: {found:?}");
            for descriptor in descriptors {
                let file = snapshot.files.at(descriptor.file).unwrap();
                assert_eq!(file.address.0, tables[number].file(descriptor.index));
            }
            // What it has not looked at is not claimed to be closed.
            for index in used_of(number) {
                let is_found = found.binary_search(&index).is_ok();
                assert!(is_found || !row.has_slot(index), "{number}: {index}");
                assert!(is_found || index > 2, "{number}: {index}");
            }
            unseen.retain(|&(of, index)| of != number || found.binary_search(&index).is_err());
        }
        scans += 1;
        assert!(scans < 40, "{unseen:?}");
    }
    assert!(scans > 2, "{scans}");
}
