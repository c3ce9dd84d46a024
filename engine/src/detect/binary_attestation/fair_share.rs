//! Shares of the room for files: a program that maps very many takes no room of others.
//!
//! Room is divided among users and containers, and then among their programs
//! ([`panoptes_tables::Shares`]), when much of it is used. A program above its share loses its
//! latest files, which are checked again when there is room. The last part of each table is for
//! programs below an equal share, so that a new program finds room in the scan that shows it first.

use panoptes_tables::{RowId, Shares};

use super::BinaryAttestation;
use super::program::{NO_ITEM, TrackedProgram, Version};

/// The fraction of the room that only programs below an equal share get.
const PROGRAM_SPARE_PART: usize = 8;

/// How much of the room each program may use.
#[derive(Debug)]
pub(super) struct ProgramShares {
    /// Shares of the room for open files (`open`), and for all files (`files`).
    open: Shares,
    files: Shares,
    /// The program of which was last asked whether it makes room.
    next: u32,
}

impl ProgramShares {
    /// Allocates for so many programs.
    pub(super) fn new(programs: usize) -> Self {
        Self { open: Shares::new(programs), files: Shares::new(programs), next: 0 }
    }
}

impl BinaryAttestation {
    /// Divides the room if much of it is used, and takes from programs what is above their shares.
    pub(super) fn divide_room(&mut self) {
        let is_much = |used: usize, room: usize| used >= room - room / PROGRAM_SPARE_PART;
        let (open, files) = (self.waiting.capacity(), self.items.capacity());
        self.shares.open.begin();
        self.shares.files.begin();
        if !is_much(self.waiting.len(), open) && !is_much(self.items.len(), files) {
            return;
        }
        for id in self.programs.ids() {
            let Some(program) = self.programs.get(id) else { continue };
            let group = program.group;
            self.shares.open.want(group, id.0, program.open.saturating_add(program.refused));
            self.shares.files.want(group, id.0, program.files.saturating_add(program.refused));
        }
        self.shares.open.divide(open);
        self.shares.files.divide(files);
        if !self.shares.open.is_crowded() && !self.shares.files.is_crowded() {
            return;
        }
        for number in 0..self.programs.end() {
            let id = RowId(number);
            let Some(program) = self.programs.get(id) else { continue };
            // Its executable, the first of its files, stays.
            let allowed = |shares: &Shares| shares.allowed(number).max(1);
            let most = (allowed(&self.shares.open), allowed(&self.shares.files));
            if program.open > most.0 || program.files > most.1 {
                self.cut(id, most);
            }
        }
    }

    /// Removes a program's latest files until it has at most so many open ones, and so many in all.
    fn cut(&mut self, id: RowId, (open, files): (u32, u32)) {
        let Some(program) = self.programs.get(id) else { return };
        let (process_id, is_gone) = (program.key.process.process_id, program.is_gone);
        let mut at = program.first_item;
        let mut lost = 0;
        while let Some(program) = self.programs.get(id)
            && (program.open > open || program.files > files)
            && let Some(item) = self.items.get(RowId(at))
            && item.next != NO_ITEM
        {
            let (next, waiting, is_removed) = (item.next, item.waiting, program.files > files);
            if is_removed || waiting.is_some() {
                lost += 1;
            }
            if let Some(waiting) = waiting {
                self.drop_waiting(waiting.position());
            }
            if is_removed
                && self.items.remove(RowId(at)).is_some()
                && let Some(program) = self.programs.get_mut(id)
            {
                (program.first_item, program.files) = (next, program.files - 1);
            }
            at = next;
        }
        if is_gone {
            self.lost.add(lost, Some(process_id));
        }
        let again = self.scan.after(super::look::AGAIN_SCANS);
        if let Some(program) = self.programs.get_mut(id) {
            program.refused = program.refused.saturating_add(lost as u32);
            program.again.get_or_insert(again);
        }
    }

    /// Drops an open pair without a decision.
    fn drop_waiting(&mut self, at: usize) {
        let Some(&waiting) = self.waiting.get(at) else { return };
        self.take_waiting(at);
        self.forget(&waiting, false);
        if let Some(item) = self.items.get_mut(waiting.item) {
            item.version = Version::NONE;
        }
    }

    /// Whether a program has room for one more file, and for one that is open.
    pub(super) fn has_room(&self, id: RowId, needs_file: bool, needs_open: bool) -> bool {
        let Some(program) = self.programs.get(id) else { return false };
        let programs = self.programs.len().max(1);
        let has = |shares: &Shares, own: u32, used: usize, room: usize| {
            let is_below = (own as usize) < (room / programs).max(1);
            let is_reserved = used >= room - room / PROGRAM_SPARE_PART;
            used < room && own < shares.allowed(id.0).max(1) && (is_below || !is_reserved)
        };
        let (open, files) = (self.waiting.capacity(), self.items.capacity());
        (!needs_file || has(&self.shares.files, program.files, self.items.len(), files))
            && (!needs_open || has(&self.shares.open, program.open, self.waiting.len(), open))
    }

    /// Counts a file of a program that found no room.
    pub(super) fn count_refused(&mut self, id: RowId) {
        if let Some(program) = self.programs.get_mut(id) {
            program.refused = program.refused.saturating_add(1);
        }
    }

    /// Adds a program. If all places are taken, one that has ended makes room: its open files are
    /// not decided any more.
    pub(super) fn insert_program(&mut self, program: TrackedProgram) -> Option<RowId> {
        if self.programs.len() == self.programs.capacity() {
            let (end, first) = (self.programs.end(), self.shares.next);
            let in_turn = (first..end).chain(0..first.min(end)).map(RowId);
            let gone = |id: &RowId| self.programs.get(*id).is_some_and(|it| it.is_gone);
            if let Some(id) = in_turn.into_iter().find(gone) {
                self.shares.next = id.0 + 1;
                self.give_up(id);
            }
        }
        self.programs.insert(program, self.scan)
    }

    /// Removes an ended program with its open files.
    fn give_up(&mut self, id: RowId) {
        let Some(program) = self.programs.get(id) else { return };
        let (open, process_id) = (program.open, program.key.process.process_id);
        let mut next = program.first_item;
        while let Some(item) = self.items.get(RowId(next)) {
            let waiting = item.waiting;
            next = item.next;
            if let Some(waiting) = waiting {
                self.drop_waiting(waiting.position());
            }
        }
        self.lost.add(open.into(), Some(process_id));
        self.remove(id);
    }
}
