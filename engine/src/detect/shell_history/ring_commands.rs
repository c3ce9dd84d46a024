//! Reports the commands of a zsh's ring: reads it ([`super::ring`]), plans
//! ([`super::ring_plan`]), reports, and keeps what the next scan compares with.

use arrayvec::ArrayVec;

use super::changes::KEPT_MAX;
use super::commands::keep_last;
use super::look::{HistoryReporter, send};
use super::memory::ProcessMemory;
use super::ring::{self, HistoryRing, RING_KEPT, RING_MAX, RingCommand};
use super::ring_plan::{BeforeRing, RingPlan, plan};
use super::shell::{KnownHistoryList, Shell};
use super::words::ShellGlobal;
use super::{HistoryChange, ShellHistory, TRIES_MAX, TypedCommand, zsh};
use crate::page_cache::MachineMemory;

impl ShellHistory {
    /// Reads a shell's ring and reports how it has changed.
    pub(super) fn check_ring(
        &mut self,
        machine: &mut MachineMemory<'_>,
        at: usize,
        shell: &mut Shell,
        output: &mut HistoryReporter<'_, '_>,
    ) {
        let words = shell.words;
        let kept = self.kept_keys(at, shell);
        let edited = shell.places[ShellGlobal::EDITED as usize];
        let mut memory = ProcessMemory::of(machine, &mut self.reader, shell.root);
        let Some(ring) = ring::read(&mut memory, &words, edited, self.key, &kept) else {
            self.note_unread(at, shell);
            return;
        };
        shell.unread = 0;
        let known = shell.known;
        let before = BeforeRing {
            length: known.map(|known| known.length),
            newest: known.and_then(|known| known.commands).map_or(0, i64::from),
            has_kept: !kept.is_empty(),
            is_new: shell.is_new,
            floor_s: shell.last.and_then(|last| last.time_s).filter(|_| shell.was_put_aside),
            last_s: shell.last.and_then(|last| last.time_s),
            in_function: !zsh::is_at_prompt(&words),
        };
        let Some(plan) = plan(&before, &ring) else { return };
        let Ok(cleared) = shell.confirm(plan.cleared, output.now()) else { return };
        if let Some((how, seen)) = cleared {
            shell.was_put_aside = true;
            self.report_clearing(shell, output, how, seen);
        }
        self.lost.add(plan.missed, Some(shell.process.process_id));
        let oldest_first: ArrayVec<RingCommand, RING_MAX> =
            ring.entries.iter().rev().copied().collect();
        let done = self.report_ring(machine, shell, output, &plan, &oldest_first);
        let done = oldest_first.get(..done).unwrap_or(&[]);
        self.keep_ring(at, shell, &kept, &ring, done);
    }

    /// The keys that are kept of a shell's ring, oldest first.
    fn kept_keys(&self, at: usize, shell: &Shell) -> ArrayVec<u32, RING_KEPT> {
        let keys = self.keys.get(at * KEPT_MAX..).unwrap_or(&[]);
        let count = shell.known.map_or(0, |known| known.keys as usize);
        keys.iter().take(count).copied().take(RING_KEPT).collect()
    }

    /// Reports the commands of a plan. Returns the number of those that the next scan need not
    /// look at.
    fn report_ring(
        &mut self,
        machine: &mut MachineMemory<'_>,
        shell: &mut Shell,
        output: &mut HistoryReporter<'_, '_>,
        plan: &RingPlan,
        commands: &[RingCommand],
    ) -> usize {
        let mut memory = ProcessMemory::of(machine, &mut self.reader, shell.root);
        let mut done = 0;
        while done < commands.len() {
            let rest = &commands[done..];
            let wanted = rest.iter().take_while(|command| plan.reports(command)).count();
            if wanted == 0 {
                done += 1;
                continue;
            }
            let (limit, text, strings) = (self.text_bytes, &mut self.text, &mut self.strings);
            let rest = &rest[..wanted];
            let read = ring::texts(&mut memory, rest, limit, text, |index, line| {
                let time_s = rest.get(index).map(|command| command.time_s);
                let command = TypedCommand { line, time_s };
                keep_last(strings, shell, &command);
                let seen = (output.cx.now.real, 1);
                let _ = send(output, shell, &*strings, HistoryChange::Executed(command), seen);
            });
            done += read;
            if read > 0 {
                shell.tries = 0;
                continue;
            }
            shell.again = true;
            shell.tries += 1;
            if shell.tries < TRIES_MAX {
                break;
            }
            // An unreadable command must not block those behind it.
            shell.tries = 0;
            self.lost.add(1, Some(shell.process.process_id));
            done += 1;
        }
        done
    }

    /// Keeps what the next scan compares with: `done` are the commands that it need not look at,
    /// oldest first.
    fn keep_ring(
        &mut self,
        at: usize,
        shell: &mut Shell,
        kept: &[u32],
        ring: &HistoryRing,
        done: &[RingCommand],
    ) {
        let before = ring.met.map_or(kept, |(met, _)| kept.get(..=met).unwrap_or(kept));
        let keys = before.iter().copied().chain(done.iter().map(|command| command.key));
        let count = before.len() + done.len();
        let mut number = 0;
        let room = self.keys.get_mut(at * KEPT_MAX..).unwrap_or(&mut []);
        for (to, key) in room.iter_mut().zip(keys.skip(count.saturating_sub(RING_KEPT))) {
            *to = key;
            number += 1;
        }
        let newest = done.last().map(|command| command.number);
        let newest = newest.or(ring.met.map(|(_, number)| number)).unwrap_or(0);
        shell.known = Some(KnownHistoryList {
            length: shell.words.int(ShellGlobal::Length).map_or(0, |length| length.max(0) as u32),
            keys: number,
            commands: Some(newest as i32),
            ..KnownHistoryList::default()
        });
    }
}
