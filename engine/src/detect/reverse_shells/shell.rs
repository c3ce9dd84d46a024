//! A process as a command interpreter: what it is, and where it reads and writes.

use panoptes_decoders::kernel::task_struct::PF_KTHREAD;

use super::graph::{ChannelEnd, object_of};
use super::interpreter::{self, Commands, Interpreter, InterpreterKind};
use super::rows::{line, name_of, parent_of, short_name};
use crate::state::process::ProcessKey;
use crate::walk::{DescriptorRow, FilesRow, Index, ProcessRow, Snapshot};

/// Descriptors at which shells keep the script that they read: the first free one from number 10 on
/// or, in bash, the last free one of these.
const SCRIPT_DESCRIPTORS: core::ops::Range<u32> = 10..256;
const INPUT: Commands = Commands::Input { interactive: false };

/// A process of a scan that takes commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shell<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) process: Index<ProcessRow>,
    /// Its table of descriptors.
    pub(super) table: Index<FilesRow>,
    /// What it is; `None` until its file's content decides.
    pub(super) interpreter: Option<Interpreter>,
    /// Its standard input, output and error.
    pub(super) stdio: [Option<Index<DescriptorRow>>; 3],
    /// The descriptor from which it reads its script, if that is a FIFO: a process that
    /// writes to it commands the shell.
    pub(super) script: Option<Index<DescriptorRow>>,
}

/// A process of a scan that has a program and does not change.
#[derive(Clone, Copy, Debug)]
pub(super) struct StableProcess<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) index: Index<ProcessRow>,
    pub(super) row: &'a ProcessRow,
    /// What it is by its name.
    pub(super) interpreter: Option<Interpreter>,
}

impl<'a> StableProcess<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, index: Index<ProcessRow>) -> Option<Self> {
        let row = snapshot.processes.at(index)?;
        let leader = snapshot.leader(row)?;
        let is_stable = row.stable && row.files_stable;
        if !is_stable || leader.task.exit_state != 0 || leader.task.flags & PF_KTHREAD != 0 {
            return None;
        }
        let name = name_of(snapshot, row);
        let interpreter = interpreter::recognise(name, line(snapshot, row), leader.task.name());
        Some(Self { snapshot, index, row, interpreter })
    }
}

impl<'a> Shell<'a> {
    /// A program as an interpreter whose input may come from a peer, if it is one.
    pub(super) fn of(program: &StableProcess<'a>) -> Option<Self> {
        let StableProcess { snapshot, index, row: process, interpreter } = *program;
        if let Some(Interpreter { kind: InterpreterKind::Language, commands }) = interpreter
            && !matches!(commands, Commands::Input { .. })
        {
            return None;
        }
        let table = process.files?;
        let descriptors = snapshot.files_structs.at(table)?.descriptors;
        let rows = snapshot.descriptors.range(descriptors);
        let mut stdio = [None; 3];
        for (row, at) in rows.iter().zip(descriptors.indexes()).take(3) {
            if let Some(place) = stdio.get_mut(row.index as usize) {
                *place = Some(at);
            }
        }
        let is_script = interpreter.is_some_and(|it| it.commands == Commands::Script);
        let script = is_script.then(|| fifo_of_script(snapshot, process)).flatten();
        let leads = |at: Option<_>| {
            let row = snapshot.descriptors.at(at);
            let object = row.and_then(|row| object_of(snapshot, row.file));
            object.is_some_and(|it| !matches!(it, ChannelEnd::AnyPeer(_)))
        };
        let [input, output, error] = stdio.map(leads);
        let is_fed = input && (output || error);
        let interpreter = match interpreter {
            None if is_fed && is_run_by_awk(snapshot, process) => {
                Some(Interpreter { kind: InterpreterKind::Shell, commands: Commands::Argument })
            }
            other => other,
        };
        // A possible shell is searched only if nothing but its recognition is missing.
        let is_promising = if interpreter.is_some() { input || output || error } else { is_fed };
        is_promising.then_some(Self { snapshot, process: index, table, interpreter, stdio, script })
    }

    pub(super) fn process_id(&self) -> Option<u32> {
        Some(self.key()?.process_id)
    }

    pub(super) fn key(&self) -> Option<ProcessKey> {
        let process = self.snapshot.processes.at(self.process)?;
        Some(ProcessKey::of(&self.snapshot.leader(process)?.task))
    }

    /// The owner of its process ([`Snapshot::group_of`]).
    pub(super) fn group(&self) -> u64 {
        let process = self.snapshot.processes.at(self.process);
        process.map_or(0, |process| self.snapshot.group_of(process))
    }

    /// Whether it has run no program of its own since it was forked. A shell that forks for a part
    /// of a pipeline takes no commands from its input (`nc A P | while read line; do …`).
    pub(super) fn is_fork(&self) -> bool {
        let process = self.snapshot.processes.at(self.process);
        let leader = process.and_then(|process| self.snapshot.leader(process));
        leader.is_none_or(|leader| leader.task.is_fork())
    }

    /// The same with its script as input, if that is a FIFO.
    pub(super) fn fed_by_script(self) -> Option<Self> {
        let ([_, output, error], input) = (self.stdio, Some(self.script?));
        let interpreter = self.interpreter.map(|it| Interpreter { commands: INPUT, ..it });
        Some(Self { interpreter, stdio: [input, output, error], script: None, ..self })
    }
}

/// The descriptor from which a shell reads its script, if that is a pipe or a FIFO.
///
/// The file has the script's name from the command line. Under another name (a link, `/dev/fd/63`),
/// it is at a descriptor where shells keep scripts, and closes on exec because the shell opened it
/// itself. bash uses the last descriptor; all others use the first, before they save redirected
/// descriptors there.
fn fifo_of_script(snapshot: &Snapshot, process: &ProcessRow) -> Option<Index<DescriptorRow>> {
    let name = interpreter::script_name(name_of(snapshot, process), line(snapshot, process)?)?;
    let table = snapshot.files_structs.at(process.files)?;
    let rows = snapshot.descriptors.range(table.descriptors);
    let first = rows.partition_point(|row| row.index < SCRIPT_DESCRIPTORS.start);
    let rows = rows.iter().zip(table.descriptors.indexes()).skip(first);
    let rows = || rows.clone().take_while(|(row, _)| row.index < SCRIPT_DESCRIPTORS.end);
    let is_pipe =
        |row: &DescriptorRow| matches!(object_of(snapshot, row.file), Some(ChannelEnd::Pipe(_)));
    let is_called_so = |row: &DescriptorRow| {
        let path = snapshot.files.at(row.file).map(|file| file.path);
        path.and_then(|path| short_name(snapshot, path)) == Some(name)
    };
    let named = rows().find(|(row, _)| is_pipe(row) && is_called_so(row));
    let kept = || {
        let mut own = rows().filter(|(row, _)| row.close_on_exec);
        let first = own.clone().next();
        let last = own.find(|(row, _)| row.index == SCRIPT_DESCRIPTORS.end - 1);
        last.or(first).filter(|(row, _)| is_pipe(row))
    };
    named.or_else(kept).map(|(_, at)| at)
}

/// Whether an awk one-liner runs this process: awk runs commands, whatever they are.
fn is_run_by_awk(snapshot: &Snapshot, process: &ProcessRow) -> bool {
    parent_of(snapshot, process).is_some_and(|parent| {
        interpreter::is_awk_one_liner(name_of(snapshot, parent), line(snapshot, parent))
    })
}
