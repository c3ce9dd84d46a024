//! Divides the tables among processes, users and containers, so that nobody fills them for others.
//!
//! An owner is a process, and its group is its container or its user ([`Shares`]). A process above
//! its share keeps its oldest threads, lowest descriptors and lowest areas. The others are neither
//! reported as closed nor, when there is room again, as opened
//! ([`crate::state::children::UntrackedStart`]). What a process cannot have is counted as its own.
//!
//! Not here: the table of processes itself ([`crate::state::fair_share::processes`]).

use panoptes_tables::{RowId, Shares};

use crate::limits::{Limit, Limits, PerLimit};
use crate::loss::Loss;
use crate::state::children::{Children, RowAllowance};
use crate::state::emit::Update;
use crate::state::process::Process;
use crate::state::{MachineState, descriptor, thread};
use crate::walk::{Index, ProcessRow, Snapshot};

/// The tables that are divided among processes, in the order of their shares.
const DIVIDED: [Limit; 3] = [Limit::Threads, Limit::Descriptors, Limit::Areas];

/// How the tables are divided in this scan, and what was not tracked.
#[derive(Debug)]
pub(in crate::state) struct RowShares {
    shares: [Shares; DIVIDED.len()],
    /// A process to blame for what a table has no room for.
    blamed: PerLimit<Option<u32>>,
    losses: PerLimit<Loss>,
}

impl RowShares {
    pub(in crate::state) fn new(limits: &Limits) -> Self {
        Self {
            shares: DIVIDED.map(|_| Shares::new(limits.processes as usize)),
            blamed: [None; Limit::ALL.len()],
            losses: Limit::ALL.map(|_| Loss::new()),
        }
    }

    pub(in crate::state) fn allowed(&self, process: RowId) -> RowAllowance {
        let [threads, descriptors, areas] = &self.shares;
        RowAllowance {
            threads: threads.allowed(process.0),
            descriptors: descriptors.allowed(process.0),
            areas: areas.allowed(process.0),
        }
    }

    /// Names a process whose group has more than its share of a table.
    pub(in crate::state) fn blame(&mut self, limit: Limit, process_id: u32) {
        self.blamed[limit as usize] = Some(process_id);
    }

    /// Begins to count what a scan cannot track.
    pub(in crate::state) fn begin_scan(&mut self) {
        self.losses.iter_mut().for_each(Loss::begin_scan);
    }

    /// Counts what a table has no room for, and whose it is.
    pub(in crate::state) fn count(&mut self, limit: Limit, count: u32, process_id: Option<u32>) {
        self.losses[limit as usize].stand(count.into(), process_id);
    }

    /// Counts what else a table has no room for, and forgets whom to blame. Returns how much this
    /// scan could not track.
    pub(in crate::state) fn count_rest(&mut self, limit: Limit, count: u32) -> u64 {
        let loss = &mut self.losses[limit as usize];
        let blamed = self.blamed[limit as usize].take();
        if limit == Limit::Strings {
            // A name that found no room is missing from then on, but only now it is noticed.
            loss.add(count.into(), blamed);
            return count.into();
        }
        loss.stand(count.into(), blamed);
        loss.standing()
    }

    /// Returns the losses of each table: entries that are not tracked.
    pub(in crate::state) fn losses(&self) -> &PerLimit<Loss> {
        &self.losses
    }

    pub(in crate::state) fn losses_mut(&mut self) -> &mut PerLimit<Loss> {
        &mut self.losses
    }
}

/// The row of a process that has not ended; an ended one may have that of an earlier scan.
fn present_row(process: &Process) -> Option<Index<ProcessRow>> {
    process.row().filter(|_| !process.life.is_ended())
}

/// How many threads, descriptors and areas a process wants.
fn wanted(snapshot: &Snapshot, process: &Process, children: &Children) -> [u32; DIVIDED.len()] {
    let Children { threads, descriptors, areas, untracked, .. } = children;
    let row = snapshot.processes.at(present_row(process));
    // Without its leader.
    let seen_threads = row.map_or(0, |row| row.threads.len().saturating_sub(1));
    let table = row.and_then(|row| snapshot.files_structs.at(row.files));
    // Its threads may have tables of their own.
    let tables = row.into_iter().flat_map(|row| snapshot.files_structs_of(row));
    let seen_descriptors = tables.map(|table| table.descriptors.len()).sum::<usize>();
    let mm = row.and_then(|row| snapshot.mms.at(row.mm)).filter(|mm| mm.complete);
    // Those that the scan does not show are tracked, too.
    let is_cut =
        untracked.descriptors != crate::state::children::UntrackedStart::default().descriptors;
    let tracked_descriptors = if is_cut && table.is_some() { 0 } else { descriptors.len() };
    [
        seen_threads.max(threads.len()),
        seen_descriptors.max(tracked_descriptors),
        mm.map_or(areas.len(), |mm| mm.vmas.len()),
    ]
    .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

impl MachineState {
    /// Divides the tables of threads, descriptors and areas, and removes rows of each process that
    /// has more than its share.
    pub(in crate::state) fn share_tables(&mut self, update: &mut Update<'_>) {
        if update.must_stop() {
            return;
        }
        self.divide_tables(update.snapshot);
        let is_crowded = self.row_shares.shares.iter().any(Shares::is_crowded);
        if !is_crowded || !self.report_held_above_shares(update) {
            return;
        }
        let Self { processes, children, row_shares, threads, descriptors, areas, names, .. } = self;
        for id in processes.ids() {
            let Some(children) = children.get_mut(id.0 as usize) else { continue };
            let allowed = row_shares.allowed(id);
            let most = allowed.threads as usize;
            if children.threads.len() > most {
                thread::cut(threads, children, most);
            }
            let most = allowed.descriptors as usize;
            if children.descriptors.len() > most {
                descriptor::cut(descriptors, children, most, &mut names.strings);
            }
            let most = allowed.areas as usize;
            if children.areas.len() > most {
                areas.cut(children, most, &mut names.strings);
            }
        }
    }

    /// Divides the tables of threads, descriptors and areas.
    fn divide_tables(&mut self, snapshot: &Snapshot) {
        let Self { processes, children, row_shares, threads, descriptors, areas, .. } = self;
        let capacities = [threads.capacity(), descriptors.capacity(), areas.rows.capacity()];
        let all = || {
            processes.ids().filter_map(|id| {
                let process = processes.get(id)?;
                Some((id, process, wanted(snapshot, process, children.get(id.0 as usize)?)))
            })
        };
        let mut totals = [0_u64; DIVIDED.len()];
        for (_, _, wanted) in all() {
            totals.iter_mut().zip(wanted).for_each(|(total, wanted)| *total += u64::from(wanted));
        }
        for (at, limit) in DIVIDED.into_iter().enumerate() {
            let shares = &mut row_shares.shares[at];
            shares.begin();
            if totals[at] <= capacities[at] as u64 {
                continue;
            }
            for (id, process, wanted) in all() {
                let row = snapshot.processes.at(present_row(process));
                let group = row.map_or(u64::MAX, |row| snapshot.group_of(row));
                shares.want(group, id.0, wanted[at]);
            }
            shares.divide(capacities[at]);
            let above = shares.above().and_then(|above| processes.get(RowId(above.owner)));
            row_shares.blamed[limit as usize] = above.map(Process::process_id);
        }
        // Owners whose rows did not all fit.
        let most = |count: fn(&Snapshot, &ProcessRow) -> u32| {
            let count = |process: &&Process| {
                let row = snapshot.processes.at(present_row(process));
                row.map_or(0, |row| count(snapshot, row))
            };
            let all = processes.ids().filter_map(|id| processes.get(id)).map(|it| (count(&it), it));
            all.filter(|(count, _)| *count > 0).max_by_key(|(count, _)| *count).map(|(_, it)| it)
        };
        let blamed = &mut row_shares.blamed[Limit::Areas as usize];
        if blamed.is_none() && snapshot.vmas.dropped > 0 {
            let most = most(|scan, row| scan.mms.at(row.mm).map_or(0, |mm| mm.map_count));
            *blamed = most.map(Process::process_id);
        }
        let blamed = &mut row_shares.blamed[Limit::Descriptors as usize];
        if blamed.is_none() && snapshot.descriptors.dropped > 0 {
            let dropped = |scan: &Snapshot, row: &ProcessRow| {
                scan.files_structs_of(row).map(|table| table.dropped).max().unwrap_or(0)
            };
            *blamed = most(dropped).map(Process::process_id);
        }
    }
}

#[cfg(test)]
impl MachineState {
    /// Number of tracked rows of a process.
    pub(in crate::state) fn rows_of(&self, process_id: u32, limit: Limit) -> usize {
        let id = self.processes.ids().find(|&id| {
            self.processes.get(id).is_some_and(|process| process.process_id() == process_id)
        });
        let children = id.and_then(|id| self.children.get(id.0 as usize));
        children.map_or(0, |children| match limit {
            Limit::Threads => children.threads.len(),
            Limit::Descriptors => children.descriptors.len(),
            Limit::Areas => children.areas.len(),
            _ => 0,
        })
    }
}
