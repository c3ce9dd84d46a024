//! Finds the processes that are shells, each once, and gives them places.

use panoptes_decoders::kernel::task_struct::Task;
use panoptes_tables::RowId;

use super::locate::{ShellLayout, ShellVerdict, locate, locate_readline};
use super::memory::ProcessMemory;
use super::{
    CheckedProgram, FileUse, KnownFile, LATER_DOUBLINGS, LATER_SCANS, MODULES_DOUBLINGS,
    ProcessCheck, Shell, ShellHistory, UNMATCHED_ATTEMPTS, UNMATCHED_DOUBLINGS,
    UNMATCHED_PROCESSES, forget, python,
};
use crate::page_cache::{FileIdentity, MachineMemory, MissingPage};
use crate::state::facts::executable_of;
use crate::state::process::{Process, ProcessKey};
use crate::walk::{Kernel, MmRow, ProcessRow, Snapshot};

impl ShellHistory {
    /// Checks whether a process is a shell, unless that is known.
    pub(super) fn check_process(
        &mut self,
        machine: &mut MachineMemory<'_>,
        snapshot: &Snapshot,
        id: RowId,
        process: &Process,
        files_left: &mut u32,
    ) {
        let Some(row) = snapshot.processes.at(process.row()) else { return };
        let Some(leader) = snapshot.leader(row) else { return };
        let Some(mm) = snapshot.mms.at(row.mm) else { return };
        let task = &leader.task;
        let is_known = self.looked.get(id.0 as usize).is_some_and(|looked| {
            looked.process == Some(process.key)
                && looked.self_exec_id == task.self_exec_id
                && looked.mm == mm.address
        });
        // A row that is not stable may mix two programs; the next scan checks it again.
        if !is_known && !row.stable {
            return;
        }
        if !is_known {
            self.forget_program(id, process, task, mm);
        }
        let Some(looked) = self.looked.get_mut(id.0 as usize) else { return };
        match looked.program {
            CheckedProgram::Other => return,
            CheckedProgram::Later(due) | CheckedProgram::Modules(due)
                if due.is_after(self.scan) =>
            {
                return;
            }
            CheckedProgram::Shell(at) => {
                match self.shells.get_mut(at as usize) {
                    Some(Some(shell)) if shell.process == process.key => {
                        if row.stable && task.exit_state == 0 {
                            shell.seen = self.scan;
                            shell.fs = task.fs;
                            shell.root = machine.kernel.space.linear(mm.pgd).unwrap_or_default();
                        }
                        return;
                    }
                    // It was not seen for long. Its list may hold commands that were already
                    // reported.
                    _ => {
                        looked.program = CheckedProgram::Unknown;
                        looked.is_new = false;
                    }
                }
            }
            CheckedProgram::Unknown | CheckedProgram::Later(_) | CheckedProgram::Modules(_) => {}
        }
        // What the scan left is checked when it was read.
        if !row.stable || mm.left {
            return;
        }
        let (is_new, attempts) = (looked.is_new, looked.attempts);
        let found = self.find_out(machine, snapshot, (row, mm), id, attempts, files_left);
        let how = (is_new, attempts);
        let program = match found {
            Ok(found) => self.admit(machine.kernel, (snapshot, mm), (id, process), &found, how),
            Err(None) => return,
            Err(Some(program)) => program,
        };
        if let Some(looked) = self.looked.get_mut(id.0 as usize) {
            looked.is_refused &= matches!(program, CheckedProgram::Later(_));
            looked.program = program;
            looked.attempts = looked.attempts.saturating_add(1);
        }
    }

    /// Counts a process if it is a shell that is not watched.
    pub(super) fn count_refused(&mut self, snapshot: &Snapshot, id: RowId, process: &Process) {
        let looked = self.looked.get(id.0 as usize);
        let is_its =
            |looked: &&ProcessCheck| looked.is_refused && looked.process == Some(process.key);
        let row = snapshot.processes.at(process.row());
        let is_running = row.is_some_and(|row| snapshot.mms.at(row.mm).is_some());
        if looked.as_ref().is_some_and(is_its) && is_running {
            self.lost.stand(1, Some(process.key.process_id));
        }
    }

    /// Begins anew with a process that runs another program, or with a row of another process.
    fn forget_program(&mut self, id: RowId, process: &Process, task: &Task, mm: &MmRow) {
        let Some(looked) = self.looked.get_mut(id.0 as usize) else { return };
        let is_known = looked.process == Some(process.key);
        // The row may have belonged to a process that has ended.
        if let CheckedProgram::Shell(at) = looked.program
            && is_of(&self.shells, at, looked.process)
        {
            forget(&mut self.shells, &mut self.strings, at);
        }
        *looked = ProcessCheck {
            process: Some(process.key),
            self_exec_id: task.self_exec_id,
            mm: mm.address,
            is_new: self.report_existing || is_known || !process.preexisting(),
            attempts: 0,
            is_refused: false,
            program: if task.is_fork() { CheckedProgram::Other } else { CheckedProgram::Unknown },
        };
    }

    /// Finds the places of a shell in a program. Returns what the program is otherwise, or
    /// `Err(None)` if that has to wait for the next scan.
    fn find_out(
        &mut self,
        machine: &mut MachineMemory<'_>,
        snapshot: &Snapshot,
        (row, mm): (&ProcessRow, &MmRow),
        id: RowId,
        attempts: u8,
        files_left: &mut u32,
    ) -> Result<ShellLayout, Option<CheckedProgram>> {
        let looked = self.looked.get(id.0 as usize);
        if looked.is_some_and(|looked| matches!(looked.program, CheckedProgram::Modules(_))) {
            return self.find_in_modules(machine, (snapshot, row, mm), id, attempts, files_left);
        }
        let Some(file) = executable_of(snapshot, row) else {
            return Err(Some(self.later(attempts, LATER_DOUBLINGS)));
        };
        let known = self.known_file(file, FileUse::Program);
        if let Some(known) = known.filter(|known| known.is_certain()) {
            return match known.found {
                Some(found) => Ok(found),
                None => {
                    self.find_in_modules(machine, (snapshot, row, mm), id, attempts, files_left)
                }
            };
        }
        if !self.takes_file(id, files_left) {
            return Err(None);
        }
        let root = machine.kernel.space.linear(mm.pgd).unwrap_or_default();
        let mut memory = ProcessMemory::of(machine, &mut self.reader, root);
        let (files, pointers) = (&mut self.file_reader, &mut self.pointers);
        let found = match locate(&mut memory, files, (snapshot, mm), pointers) {
            Err(MissingPage) => return Err(Some(self.later(attempts, LATER_DOUBLINGS))),
            Ok(ShellVerdict::Silent) if attempts < UNMATCHED_ATTEMPTS => {
                return Err(Some(self.later(attempts, UNMATCHED_DOUBLINGS)));
            }
            Ok(ShellVerdict::Silent) => {
                self.note_unmatched(file);
                return Err(Some(CheckedProgram::Other));
            }
            Ok(ShellVerdict::Other) => None,
            Ok(ShellVerdict::Shell(found)) => Some(found),
        };
        if found.as_ref().is_none_or(ShellLayout::is_whole) {
            let used_as = FileUse::Program;
            self.keep(KnownFile { file, used_as, found, unmatched: 0 });
        }
        match found {
            Some(found) => Ok(found),
            None => self.find_in_modules(machine, (snapshot, row, mm), id, attempts, files_left),
        }
    }

    /// Finds the places of a history in a library that a program may have loaded.
    fn find_in_modules(
        &mut self,
        machine: &mut MachineMemory<'_>,
        (snapshot, row, mm): (&Snapshot, &ProcessRow, &MmRow),
        id: RowId,
        attempts: u8,
        files_left: &mut u32,
    ) -> Result<ShellLayout, Option<CheckedProgram>> {
        if self.areas_left == 0 {
            self.begin_next_at(id);
            return Err(None);
        }
        let later =
            CheckedProgram::Modules(self.scan.after(wait_after(attempts, MODULES_DOUBLINGS)));
        let (library, searched) = python::library(snapshot, mm);
        self.areas_left = self.areas_left.saturating_sub(searched);
        let Some(file) = FileIdentity::of(snapshot, library) else { return Err(Some(later)) };
        if !python::reads_from_terminal(snapshot, row) {
            return Err(Some(later));
        }
        if let Some(known) = self.known_file(file, FileUse::Library) {
            return known.found.ok_or(Some(CheckedProgram::Other));
        }
        if !self.takes_file(id, files_left) {
            return Err(None);
        }
        match locate_readline(machine, &mut self.file_reader, (snapshot, library)) {
            Err(MissingPage) => Err(Some(later)),
            Ok(found) => {
                let used_as = FileUse::Library;
                self.keep(KnownFile { file, used_as, found, unmatched: 0 });
                found.ok_or(Some(CheckedProgram::Other))
            }
        }
    }

    /// Whether the present scan may check one more file. If not, the next scan starts with this
    /// row.
    fn takes_file(&mut self, id: RowId, files_left: &mut u32) -> bool {
        if *files_left == 0 {
            self.begin_next_at(id);
        }
        let takes_it = *files_left > 0;
        *files_left = files_left.saturating_sub(1);
        takes_it
    }

    /// Lets the next scan start with the first row that had to wait.
    fn begin_next_at(&mut self, id: RowId) {
        if self.first_row == 0 {
            self.first_row = id.0;
        }
    }

    /// A program that is checked again after so many failed attempts.
    fn later(&self, attempts: u8, doublings: u8) -> CheckedProgram {
        CheckedProgram::Later(self.scan.after(wait_after(attempts, doublings)))
    }

    /// Begins to watch a shell, if there is room.
    fn admit(
        &mut self,
        kernel: &Kernel,
        (snapshot, mm): (&Snapshot, &MmRow),
        (id, process): (RowId, &Process),
        found: &ShellLayout,
        (is_new, attempts): (bool, u8),
    ) -> CheckedProgram {
        let Some(places) = found.place(snapshot, mm) else {
            return self.later(attempts, LATER_DOUBLINGS);
        };
        let group = snapshot.processes.at(process.row()).map_or(0, |row| snapshot.group_of(row));
        let Some(at) = self.free_place().or_else(|| self.take_place(group)) else {
            if let Some(looked) = self.looked.get_mut(id.0 as usize) {
                looked.is_refused = true;
            }
            return self.later(attempts, LATER_DOUBLINGS);
        };
        self.shells[at] = Some(Shell {
            places,
            kind: found.kind(),
            data: found.data(snapshot, mm),
            is_new,
            root: kernel.space.linear(mm.pgd).unwrap_or_default(),
            ..Shell::new(id, process.key, group, self.scan)
        });
        CheckedProgram::Shell(at as u32)
    }

    /// Index of a free place for a shell. If there is none, frees that of a shell that is gone or
    /// idle.
    pub(super) fn free_place(&mut self) -> Option<usize> {
        if let Some(at) = self.shells.iter().position(Option::is_none) {
            return Some(at);
        }
        let scan = self.scan;
        let at = self
            .shells
            .iter()
            .position(|shell| shell.as_ref().is_some_and(|shell| scan.since(shell.seen) > 1))
            .or_else(|| {
                self.shells.iter().position(|shell| shell.as_ref().is_some_and(Shell::is_idle))
            })?;
        self.leave(at);
        Some(at)
    }

    /// Counts a process of a file without any sign of a bash.
    pub(super) fn note_unmatched(&mut self, file: FileIdentity) {
        let used_as = FileUse::Program;
        match self.files.iter_mut().find(|known| known.is_of(file, used_as)) {
            Some(known) => known.unmatched = known.unmatched.saturating_add(1),
            None => self.keep(KnownFile { file, used_as, found: None, unmatched: 1 }),
        }
    }

    /// Returns the entry of a file in one use, if it is known.
    fn known_file(&self, file: FileIdentity, used_as: FileUse) -> Option<&KnownFile> {
        self.files.iter().find(|known| known.is_of(file, used_as))
    }

    pub(super) fn keep(&mut self, known: KnownFile) {
        if let Some(place) = self.files.iter_mut().find(|old| old.is_of(known.file, known.used_as))
        {
            *place = known;
        } else {
            self.files.push(known);
        }
    }
}

impl KnownFile {
    /// Whether it is about this use of a file.
    fn is_of(&self, file: FileIdentity, used_as: FileUse) -> bool {
        self.file == file && self.used_as == used_as
    }

    /// Whether no more of its processes need to be checked.
    pub(super) fn is_certain(&self) -> bool {
        self.found.is_some() || self.unmatched == 0 || self.unmatched >= UNMATCHED_PROCESSES
    }
}

/// Number of scans until a program is checked again after so many failed attempts.
pub(super) fn wait_after(attempts: u8, doublings: u8) -> u32 {
    LATER_SCANS << attempts.min(doublings)
}

/// Whether a place still holds this process's shell.
fn is_of(shells: &[Option<Shell>], at: u32, process: Option<ProcessKey>) -> bool {
    let shell = shells.get(at as usize).and_then(Option::as_ref);
    shell.is_some_and(|shell| Some(shell.process) == process)
}
