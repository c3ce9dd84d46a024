//! Files that a program inherits from the one it was forked from: they were checked there.

use super::BinaryAttestation;
use super::program::{ItemKey, TrackedProgram, Version};
use crate::page_cache::FileIdentity;
use crate::walk::{ProcessRow, Snapshot};
use panoptes_tables::{AddressMap, HashKey, Insertion, RowId, ScanNumber, Table};

/// The oldest program of each exec, by which forks of one program are found.
#[derive(Debug)]
pub(super) struct Relatives {
    /// Numbers of rows of programs, by a hash of what the forks of one program have in common.
    oldest: AddressMap,
    key: HashKey,
    /// The scan that they are of.
    scan: Option<ScanNumber>,
    /// Number of programs that were looked at since the start.
    #[cfg(test)]
    pub(super) looked_at: u64,
}

impl Relatives {
    /// Allocates for so many programs.
    pub(super) fn new(programs: usize, key: HashKey) -> Self {
        Self {
            oldest: AddressMap::new(programs, key.derive("attest: relatives")),
            key: key.derive("attest: execs"),
            scan: None,
            #[cfg(test)]
            looked_at: 0,
        }
    }

    fn hash(&self, program: &TrackedProgram) -> u64 {
        let exec = u64::from(program.key.exec) << 1 | u64::from(program.is_inside);
        self.key.hash_numbers([exec, program.arguments])
    }

    /// Adds a program that was admitted in this scan, if the others are known.
    fn add(&mut self, programs: &Table<TrackedProgram>, scan: ScanNumber, id: RowId) {
        if self.scan == Some(scan) {
            self.note(programs, id);
        }
    }

    fn note(&mut self, programs: &Table<TrackedProgram>, id: RowId) {
        #[cfg(test)]
        {
            self.looked_at += 1;
        }
        let Some(program) = programs.get(id) else { return };
        let hash = self.hash(program);
        if let Insertion::Old(known) = self.oldest.insert(hash, id.0) {
            let start = |program: &TrackedProgram| program.key.process.start_boottime;
            if programs.get(RowId(known)).is_none_or(|known| start(program) < start(known)) {
                self.oldest.set(hash, id.0);
            }
        }
    }

    /// The oldest program that may be of the same exec as this one, if it is older.
    fn find<'a>(
        &mut self,
        programs: &'a Table<TrackedProgram>,
        scan: ScanNumber,
        own: &TrackedProgram,
    ) -> Option<&'a TrackedProgram> {
        if self.scan.replace(scan) != Some(scan) {
            self.oldest.clear();
            for id in programs.ids() {
                self.note(programs, id);
            }
        }
        let other = programs.get(RowId(self.oldest.get(self.hash(own))?))?;
        let is_relative = is_of_one_exec(other, own)
            && other.arguments == own.arguments
            && other.key.process.start_boottime < own.key.process.start_boottime;
        is_relative.then_some(other)
    }
}

impl BinaryAttestation {
    /// Whether a program has inherited a file from the program it was forked from, with the same
    /// version. Returns `None` if not, otherwise whether the file was reported there.
    pub(super) fn inherited(
        &self,
        snapshot: &Snapshot,
        row: &ProcessRow,
        program: &TrackedProgram,
        file: &FileIdentity,
    ) -> Option<bool> {
        let item_of = |serial: u32| {
            let key = ItemKey { serial, inode: file.inode, number: file.number };
            let item = self.items.get(self.items.find(&key)?)?;
            let is_the_same =
                item.waiting.is_some() || item.is_reported || item.version == Version::of(file);
            is_the_same.then_some(item.is_reported)
        };
        let parent = self.forked_by(snapshot, row, program);
        parent.map(|it| it.serial).and_then(item_of).or_else(|| item_of(program.relative?))
    }

    /// The parent's program, if this one may have been forked from it.
    fn forked_by(
        &self,
        snapshot: &Snapshot,
        row: &ProcessRow,
        program: &TrackedProgram,
    ) -> Option<&TrackedProgram> {
        let parent = snapshot.process_by_pid(row.parent_pid)?;
        let parent = self.program_of(snapshot, parent)?;
        is_of_one_exec(parent, program).then_some(parent)
    }

    /// Searches for the program that this one was forked from, where that is not its parent's: a
    /// process that starts a daemon may end at once.
    pub(super) fn find_relative(&mut self, snapshot: &Snapshot, row: &ProcessRow, id: RowId) {
        let Some(own) = self.programs.get(id) else { return };
        let is_fork = snapshot.leader(row).is_some_and(|leader| leader.task.is_fork());
        let has_parent = self.forked_by(snapshot, row, own).is_some();
        if is_fork && !has_parent {
            let relative = self.relatives.find(&self.programs, self.scan, own);
            let relative = relative.map(|other| other.serial);
            if let Some(own) = self.programs.get_mut(id) {
                own.relative = relative;
            }
        }
        self.relatives.add(&self.programs, self.scan, id);
    }
}

/// Whether one program may have been forked from the other.
fn is_of_one_exec(one: &TrackedProgram, other: &TrackedProgram) -> bool {
    (one.key.exec, one.is_inside) == (other.key.exec, other.is_inside)
}
