//! Which files a descriptor table has open, found without a search through all its descriptors.

use crate::limits::Limits;
use crate::walk::{FileRow, FilesRow, Index, ProcessRow, Snapshot};
use panoptes_tables::{ScanNumber, room};

/// The files of the tables that were asked for in this scan. A table is sorted when it is first
/// asked for, so all answers together cost no more than sorting all descriptors once.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    /// Numbers of files, in the place of their descriptors' rows; ascending in each sorted table.
    files: Box<[u32]>,
    /// Scan in which each table was sorted last.
    sorted_in: Box<[ScanNumber]>,
    scan: ScanNumber,
    /// Number of descriptors that were sorted since the start.
    sorted: u64,
}

impl OpenFiles {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            files: room::copies(0, limits.file_descriptors_seen_max()),
            sorted_in: room::copies(ScanNumber::default(), limits.processes_seen_max()),
            scan: ScanNumber::default(),
            sorted: 0,
        }
    }

    /// Forgets the tables of the scan before.
    pub(super) fn begin_scan(&mut self) {
        self.scan = self.scan.next();
        if self.scan == ScanNumber::default() {
            // The numbers begin anew, and no table was sorted in this scan.
            self.sorted_in.fill(ScanNumber::default());
            self.scan = self.scan.next();
        }
    }

    /// Whether a new process inherited a file: its parent has it open too, or may have it where the
    /// scan has not looked.
    pub(super) fn inherits(
        &mut self,
        snapshot: &Snapshot,
        process: &ProcessRow,
        file: Option<Index<FileRow>>,
    ) -> bool {
        let parent = snapshot.process_by_pid(process.parent_pid);
        let is_left = |parent: &ProcessRow| {
            let table = snapshot.files_structs.at(parent.files);
            table.is_some_and(|table| {
                !table.complete && (snapshot.left.tables > 0 || table.is_unknown())
            })
        };
        parent.is_some_and(|parent| self.has(snapshot, parent.files, file) || is_left(parent))
    }

    /// Whether a table of this scan has a file open.
    pub(super) fn has(
        &mut self,
        snapshot: &Snapshot,
        table: Option<Index<FilesRow>>,
        file: Option<Index<FileRow>>,
    ) -> bool {
        let (Some(table), Some(file)) = (table, file) else { return false };
        let Some(row) = snapshot.files_structs.at(table) else { return false };
        let rows = snapshot.descriptors.range(row.descriptors);
        let positions = row.descriptors.positions();
        let (Some(files), Some(sorted_in)) =
            (self.files.get_mut(positions), self.sorted_in.get_mut(table.position()))
        else {
            return false;
        };
        if *sorted_in != self.scan {
            *sorted_in = self.scan;
            self.sorted += rows.len() as u64;
            for (place, row) in files.iter_mut().zip(rows) {
                *place = row.file.map_or(u32::MAX, Index::number);
            }
            files.sort_unstable();
        }
        files.binary_search(&file.number()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::watch::limits;
    use crate::walk::{DescriptorRow, Span};

    /// A scan with tables of `count` descriptors; the files of a table are those of even numbers
    /// from its own number on.
    fn shown(tables: u32, count: u32) -> Snapshot {
        let limits = Limits { file_descriptors: tables * count, ..limits() };
        let mut snapshot = Snapshot::empty(&limits);
        for table in 0..tables {
            let start = table * count;
            for index in 0..count {
                let file = Index::new((table + (count - index) * 2) as usize);
                snapshot.descriptors.push(DescriptorRow {
                    index,
                    file,
                    ..DescriptorRow::default()
                });
            }
            let descriptors = Span::new(start, start + count);
            snapshot
                .files_structs
                .row_of((table + 1).into(), || FilesRow { descriptors, ..FilesRow::default() });
        }
        snapshot
    }

    #[test]
    fn each_table_is_sorted_once_in_a_scan() {
        let sorted_by = |tables: u32, count: u32| {
            let snapshot = shown(tables, count);
            let mut open = OpenFiles::new(&Limits { file_descriptors: tables * count, ..limits() });
            for _ in 0..2 {
                open.begin_scan();
                // Children of different parents take turns.
                for file in 0..count * 2 + 3 {
                    for table in 0..tables {
                        let relative = file.wrapping_sub(table);
                        let expected = (2..=2 * count).contains(&relative) && relative % 2 == 0;
                        let (table, file) = (Index::new(table as usize), Index::new(file as usize));
                        assert_eq!(open.has(&snapshot, table, file), expected);
                    }
                }
            }
            open.sorted
        };
        assert_eq!(sorted_by(3, 50), 2 * 150);
        assert_eq!(sorted_by(3, 100), 2 * 300);
    }

    #[test]
    fn what_does_not_exist_is_not_open() {
        let snapshot = shown(1, 4);
        let mut open = OpenFiles::new(&limits());
        open.begin_scan();
        assert!(!open.has(&snapshot, None, Index::new(2)));
        assert!(!open.has(&snapshot, Index::new(0), None));
        assert!(!open.has(&snapshot, Index::new(7), Index::new(2)));
        assert!(open.has(&snapshot, Index::new(0), Index::new(2)));
    }

    #[test]
    fn numbers_of_scans_may_wrap() {
        let snapshot = shown(1, 4);
        let mut open = OpenFiles::new(&limits());
        open.scan = ScanNumber(u32::MAX - 1);
        for _ in 0..4 {
            open.begin_scan();
            assert!(open.has(&snapshot, Index::new(0), Index::new(2)));
        }
    }
}
