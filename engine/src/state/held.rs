//! Changes that wait for the program of a process inside exec.
//!
//! Exec gives a process the memory of the next program first, counts it as running that
//! (`self_exec_id`, `begin_new_exec`, fs/exec.c), and sets its arguments last (`create_elf_tables`,
//! fs/binfmt_elf.c). What scans show in between is tracked at once, but it is reported when the
//! program is described. So the records name the program that they are about.
//!
//! * Areas of the next program are not compared before the process counts as running it. What is
//!   compared in between waits as a whole: all areas that there are then are reported in its place.
//! * Descriptors that are new wait one by one. A close is not put off, and its opening is reported
//!   before it.
//! * Nothing waits longer than 500 ms, nor beyond the end of the process, another exec, an eviction
//!   or the last scan. A scan that shows less than the one before changes nothing about that.

use panoptes_tables::{ListPool, PoolList, RowId, Tag};

use super::MachineState;
use super::descriptor::{Descriptor, report_first};
use super::emit::{Emitter, Update};
use super::process::{InExec, Process};
use crate::walk::ProcessRow;

impl MachineState {
    /// Reports what waits of a process. Returns whether nothing waits any more: after a request to
    /// stop, the rest waits for the end of the watch.
    pub(super) fn report_held(&mut self, id: RowId, update: &mut Update<'_>) -> bool {
        let Some(children) = self.children.get_mut(id.0 as usize) else { return true };
        if !children.areas_held && !children.descriptors_held {
            return true;
        }
        let Some(process) = self.processes.get(id) else { return true };
        if update.must_stop() {
            return false;
        }
        let mut emitter = update.emitter(&self.containers, &mut self.names);
        if children.descriptors_held {
            let list = children.descriptors;
            report_descriptors(&mut self.descriptors, list, process, &mut emitter);
            children.descriptors_held = emitter.is_stopped();
        }
        if children.areas_held && !emitter.is_stopped() {
            let before = self.areas_reported.filter(|(process, _)| *process == id);
            let before = before.map_or(0, |(_, count)| count);
            let count = self.areas.report_after(before, children.areas, process, &mut emitter);
            children.areas_held = emitter.is_stopped();
            if emitter.is_stopped() {
                self.areas_reported = Some((id, count));
            }
        }
        !emitter.is_stopped()
    }

    /// The same once its exec is over.
    pub(super) fn report_held_after(&mut self, exec: InExec, id: RowId, update: &mut Update<'_>) {
        if exec == InExec::No {
            self.report_held(id, update);
        }
    }

    /// The same as [`Self::report_held`] before the process gets the memory of yet another program,
    /// as this scan shows it.
    pub(super) fn report_held_before(
        &mut self,
        id: RowId,
        row: &ProcessRow,
        update: &mut Update<'_>,
    ) -> bool {
        let Some(children) = self.children.get(id.0 as usize) else { return true };
        let mm = update.snapshot.mms.at(row.mm);
        let is_other = mm.is_some_and(|mm| mm.address != children.space.0);
        !(children.areas_held && is_other) || self.report_held(id, update)
    }

    /// The same as [`Self::report_held`] of each process that has more descriptors or areas than
    /// its share: the rows above that are removed next.
    pub(super) fn report_held_above_shares(&mut self, update: &mut Update<'_>) -> bool {
        (0..self.processes.end()).map(RowId).all(|id| {
            let Some(children) = self.children.get(id.0 as usize) else { return true };
            let allowed = self.row_shares.allowed(id);
            let is_above = children.descriptors.len() > allowed.descriptors as usize
                || children.areas.len() > allowed.areas as usize;
            !is_above || self.report_held(id, update)
        })
    }

    /// What waits, and the execs that wait for their loader, of all processes: no scan follows.
    pub(super) fn report_rest(&mut self, update: &mut Update<'_>) {
        for number in 0..self.processes.end() {
            self.report_held(RowId(number), update);
            self.report_exec(RowId(number), update);
        }
    }
}

/// Reports the descriptors of a process that wait.
fn report_descriptors(
    descriptors: &mut ListPool<Descriptor>,
    list: PoolList,
    process: &Process,
    emitter: &mut Emitter<'_>,
) {
    let threads = process.threads_of_table(emitter.snapshot);
    let mut cursor = ListPool::<Descriptor>::start(list);
    while let Some(row) = descriptors.row_mut(cursor)
        && emitter.goes_on()
    {
        // The sharers of a thread's own table are not known here.
        let threads = if row.table == Tag::NONE { threads } else { &[] };
        report_first(row, process, threads, emitter);
        row.release_held();
        descriptors.advance(&mut cursor);
    }
}
