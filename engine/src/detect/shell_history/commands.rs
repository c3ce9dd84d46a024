//! Reports the commands of the known shells, and how their lists were cleared: reads a list, plans
//! ([`super::plan`]), reports, and keeps what the next scan compares with.

use panoptes_decoders::user::bash::wants_more;

use super::changes::{HistoryAlignment, HistoryList, IntervalFacts, KEPT_MAX};
use super::list;
use super::look::{HistoryReporter, send};
use super::memory::ProcessMemory;
use super::plan::{Plan, PlanProgress, PreviousHistoryList, plan};
use super::shell::{KnownHistoryList, LastCommand, Shell};
use super::variables::{CONTROL, SIZE, number};
use super::words::ShellGlobal;
use super::{
    COMMANDS_A_SCAN, HistoryChange, HistoryClearing, ShellHistory, ShellKind, TypedCommand,
    UNREAD_MAX, VARIABLES_EVERY_SCANS, python,
};
use crate::page_cache::MachineMemory;
use panoptes_tables::Strings;

/// A list in the scratch space.
struct ReadHistoryList {
    length: u32,
    base: Option<i32>,
    most: Option<i32>,
    /// Number of commands that were run, where bash counts them.
    run: Option<i32>,
    /// Number of lines so far of a command that is being read; in Python, of the last history file.
    lines: u32,
    /// A number for the prompt of a Python; 0 if there is none.
    prompt: u32,
}

impl ShellHistory {
    /// Reads a shell's list and reports how it has changed.
    pub(super) fn check_list(
        &mut self,
        machine: &mut MachineMemory<'_>,
        at: usize,
        shell: &mut Shell,
        output: &mut HistoryReporter<'_, '_>,
    ) {
        let Some(reading) = self.read_list(machine, at, shell) else { return };
        let plan = self.plan_list(machine, at, shell, &reading);
        if self.waits_for_file(shell, &plan) {
            return;
        }
        let Ok(cleared) = shell.confirm(plan.cleared, output.now()) else { return };
        // The new commands of a list without its old ones were typed after it was cleared.
        let is_after = matches!(plan.cleared, Some(HistoryClearing::Some { .. }));
        if let Some((how, seen)) = cleared.filter(|_| !is_after) {
            self.report_clearing(shell, output, how, seen);
        }
        let progress = self.report_commands(machine, shell, output, &plan);
        if let Some((how, seen)) = cleared.filter(|_| is_after) {
            self.report_clearing(shell, output, how, seen);
        }
        self.keep_list(at, shell, &reading, &plan, &progress);
    }

    /// Whether the next scan has to show that the new entries of a Python are not part of a file
    /// that is being read.
    fn waits_for_file(&self, shell: &mut Shell, plan: &Plan) -> bool {
        let is_first = shell.known.is_none();
        let waits = shell.kind == ShellKind::Python
            && !is_first
            && python::may_be_read(plan.added)
            && shell.waits_since.is_none();
        if waits {
            shell.waits_since = Some(self.scan);
            shell.again = true;
        }
        waits
    }

    /// Reads a shell's list into the scratch space. Returns `None` if it cannot be read or compared
    /// now.
    fn read_list(
        &mut self,
        machine: &mut MachineMemory<'_>,
        at: usize,
        shell: &mut Shell,
    ) -> Option<ReadHistoryList> {
        let words = shell.words;
        let is_unread = shell.places[ShellGlobal::TheHistory as usize] != 0
            && words.pointer(ShellGlobal::TheHistory).is_none();
        if is_unread {
            shell.again = true;
            return None;
        }
        let mut memory = ProcessMemory::of(machine, &mut self.reader, shell.root);
        let by = (self.key, shell.data.is_some());
        let Some(mut length) = list::read(&mut memory, &words, by, &mut self.list) else {
            self.note_unread(at, shell);
            return None;
        };
        shell.unread = 0;
        // A command whose lines are still being read counts when all of them are there.
        let lines = words.lines_begun();
        let last_known = shell.known.map(|known| {
            let last = (known.keys as usize).checked_sub(1);
            last.and_then(|last| self.keys.get(at * KEPT_MAX + last)).copied()
        });
        match last_known {
            // The list may or may not contain the command already.
            None if lines > 0 => {
                shell.again = true;
                return None;
            }
            Some(last) if lines > 0 && self.list.keys.last().copied() != last => {
                self.list.keys.pop();
                length = length.saturating_sub(1);
            }
            _ => {}
        }
        shell.watch_entries(length);
        let is_python = shell.kind == ShellKind::Python;
        let lines_read =
            words.int(ShellGlobal::LINES_READ).and_then(|lines| u32::try_from(lines).ok());
        let mut memory = ProcessMemory::of(machine, &mut self.reader, shell.root);
        let prompt = is_python.then(|| python::prompt(&mut memory, &words, self.key)).flatten();
        Some(ReadHistoryList {
            length,
            base: words.int(ShellGlobal::Base),
            most: words.int(ShellGlobal::MaxEntries).or_else(|| shell.most_by_value()),
            run: words.int(ShellGlobal::CommandNumber),
            lines: if is_python { lines_read.unwrap_or(0) } else { lines },
            prompt: prompt.unwrap_or(0),
        })
    }

    /// Notes that a shell's list cannot be read: it is being changed right now.
    pub(super) fn note_unread(&self, at: usize, shell: &mut Shell) {
        shell.unread = shell.unread.saturating_add(1);
        shell.again = shell.unread < UNREAD_MAX
            || self.scan.after(at as u32).0.is_multiple_of(VARIABLES_EVERY_SCANS);
        if shell.unread == UNREAD_MAX {
            shell.waits_since = None;
        }
    }

    /// Compares a list with the one that was read before.
    fn plan_list(
        &mut self,
        machine: &mut MachineMemory<'_>,
        at: usize,
        shell: &Shell,
        reading: &ReadHistoryList,
    ) -> Plan {
        let ReadHistoryList { length, base, most, run, .. } = *reading;
        let new = HistoryList { length, base, most, keys: &self.list.keys };
        let Some(known) = shell.known else {
            let typed = match shell.kind {
                _ if !shell.is_new => None,
                ShellKind::Python => Some(python::typed_first(length, reading.lines)),
                ShellKind::Bash | ShellKind::Zsh => {
                    let typed = shell.words.int(ShellGlobal::SessionLines);
                    typed.and_then(|typed| usize::try_from(typed).ok())
                }
            };
            return plan(&PreviousHistoryList::Nothing { typed: typed.unwrap_or(0) }, &new);
        };
        let keys = &self.keys[at * KEPT_MAX..][..known.keys as usize];
        let old = HistoryList { length: known.length, base: known.base, most: known.most, keys };
        let aligned = HistoryAlignment::of(old.keys, new.keys);
        let is_same_text = aligned.in_place_of_last(&new).is_some_and(|index| {
            let last = shell.last.map(|last| self.strings.get(last.line));
            let mut is_same = false;
            let mut memory = ProcessMemory::of(machine, &mut self.reader, shell.root);
            let (limit, text, one) = (self.text_bytes, &mut self.text, index..index + 1);
            list::texts(&mut memory, &self.list, one, limit, text, |line, _| {
                is_same = Some(line) == last;
            });
            is_same
        });
        let run = run.zip(known.commands).map(|(new, old)| new.wrapping_sub(old));
        let interval = IntervalFacts {
            replaces: shell.values[CONTROL].text().is_some_and(|control| {
                control.split(|&byte| byte == b':').any(|word| word == b"erasedups")
            }),
            has_no_size: shell.values[SIZE].text().and_then(number) == Some(0),
            run: run.and_then(|run| usize::try_from(run).ok()),
            is_same_text,
        };
        if shell.kind == ShellKind::Python {
            let (run, lines) = python::typed(aligned.added(), known.lines, reading.lines);
            let interval = IntervalFacts { run, ..interval };
            let plan = plan(&PreviousHistoryList::List { old, aligned, interval, lines }, &new);
            let prompts = (known.prompt, reading.prompt);
            let cleared = python::cleared(plan.cleared, prompts, (known.lines, reading.lines));
            return Plan { cleared, ..plan };
        }
        let lines = known.lines.max(shell.words.begun_or_run()).max(1) as usize;
        plan(&PreviousHistoryList::List { old, aligned, interval, lines }, &new)
    }

    /// Reports the commands of a plan, each as its text is read.
    fn report_commands(
        &mut self,
        machine: &mut MachineMemory<'_>,
        shell: &mut Shell,
        output: &mut HistoryReporter<'_, '_>,
        plan: &Plan,
    ) -> PlanProgress {
        let end = self.list.keys.len();
        let may_wait = shell.data.is_some() && !shell.has_waited(self.scan);
        let mut memory = ProcessMemory::of(machine, &mut self.reader, shell.root);
        let mut next = end - plan.added;
        let most = next + plan.reported.min(COMMANDS_A_SCAN);
        while next < most {
            let mut waits = false;
            let mut left = most - next;
            let (limit, text) = (self.text_bytes, &mut self.text);
            let strings = &mut self.strings;
            let take = |line: &[u8], time_s| {
                left -= 1;
                // Without a symbol for that, the text itself must show whether the command is
                // complete.
                waits = left == 0 && most == end && may_wait && wants_more(line);
                if waits {
                    return;
                }
                let command = TypedCommand { line, time_s };
                keep_last(strings, shell, &command);
                let seen = (output.cx.now.real, 1);
                let _ = send(output, shell, &*strings, HistoryChange::Executed(command), seen);
            };
            let read = list::texts(&mut memory, &self.list, next..most, limit, text, take);
            if waits {
                // The complete command will be a new entry.
                return PlanProgress { next: next + read - 1, is_waiting: true };
            }
            if read == 0 {
                break;
            }
            next += read;
        }
        PlanProgress { next, is_waiting: false }
    }

    /// Keeps what the next scan compares with.
    fn keep_list(
        &mut self,
        at: usize,
        shell: &mut Shell,
        reading: &ReadHistoryList,
        plan: &Plan,
        progress: &PlanProgress,
    ) {
        let ReadHistoryList { length, base, most, run, lines, prompt } = *reading;
        let end = self.list.keys.len();
        let kept = plan.keep(end, progress, shell.tries);
        let keys = kept.keys;
        self.lost.add(u64::from(kept.is_skipped), Some(shell.process.process_id));
        shell.tries = kept.tries;
        shell.again = kept.is_behind;
        shell.waits_since = progress.is_waiting.then(|| shell.waits_since.unwrap_or(self.scan));
        self.keys[at * KEPT_MAX..][..keys].copy_from_slice(&self.list.keys[..keys]);
        // The next scan compares the commands that were not reported with the same counters, too.
        let before = shell.known.filter(|_| kept.is_behind);
        // At the first check, as many commands count as run as are reported.
        let is_first = kept.is_behind && before.is_none();
        let run = if is_first { run.map(|run| run.wrapping_sub(plan.added as i32)) } else { run };
        shell.known = Some(KnownHistoryList {
            length: length - (end - keys) as u32,
            base,
            most,
            keys: keys as u32,
            prompt,
            commands: before.map_or(run, |before| before.commands),
            lines: before.map_or(lines, |before| before.lines),
        });
    }
}

/// Keeps the last command: records of alerts contain it.
pub(super) fn keep_last(strings: &mut Strings, shell: &mut Shell, command: &TypedCommand<'_>) {
    if let Some(last) = shell.last.take() {
        strings.release(last.line);
    }
    shell.last =
        strings.intern(command.line).map(|line| LastCommand { line, time_s: command.time_s });
}
