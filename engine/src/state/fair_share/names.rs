//! Divides the room for names of files and areas, so that no process fills it with long ones.
//!
//! Once a name found no room, and until half of the room is free, each process pays for its names;
//! a name costs each of its users an equal part. The names of a process above its share are cut
//! ([`CutText`]), and so are its new ones; if that does not suffice, its last ones are removed, and
//! it gets no new ones. Names that were cut stay so until their rows change. Those that are missing
//! are made when there is room again ([`crate::state::file_names::FileNames::is_late_due`]).

use panoptes_tables::{
    CUT_BYTES_MIN, CutText, HEADER_BYTES, ListPool, PoolList, RowId, Shares, Strings, room,
};

use crate::limits::{Limit, Limits};
use crate::state::MachineState;
use crate::state::children::Children;
use crate::state::descriptor::Descriptor;
use crate::state::file_names::{CUT_BYTES, NamedRow};
use crate::state::memory::Areas;
use crate::state::process::Process;
use crate::walk::Snapshot;

/// While names are crowded, they are counted anew after so many scans, or when one was refused.
const COUNTED_SCANS: u32 = 16;

/// How long the names of each process may be.
#[derive(Debug)]
pub(in crate::state) struct NameShares {
    shares: Shares,
    /// Bytes of the longest name that each process may have, by the number of the process's row.
    longest: Box<[u32]>,
    is_crowded: bool,
}

impl NameShares {
    pub(in crate::state) fn new(limits: &Limits) -> Self {
        let processes = limits.processes as usize;
        Self {
            shares: Shares::new(processes),
            longest: room::copies(u32::MAX, processes),
            is_crowded: false,
        }
    }

    /// Begins a process that takes the row of another one.
    pub(in crate::state) fn begin(&mut self, process: RowId) {
        if let Some(longest) = self.longest.get_mut(process.0 as usize) {
            *longest = u32::MAX;
        }
    }

    /// Bytes of the longest name that a process may have; 0 if it gets no new ones.
    pub(in crate::state) fn longest(&self, process: RowId) -> usize {
        let longest = self.longest.get(process.0 as usize).filter(|_| self.is_crowded);
        longest.map_or(usize::MAX, |&longest| longest as usize)
    }
}

/// Bytes and number of the names in a list, with those that are missing.
fn cost<T: NamedRow + Clone + Default>(
    rows: &ListPool<T>,
    list: PoolList,
    strings: &Strings,
) -> (usize, usize) {
    let mut cursor = ListPool::<T>::start(list);
    let mut cost = (0, 0);
    while let Some(row) = rows.row(cursor) {
        if let Some(id) = *row.clone().name() {
            cost = (cost.0 + strings.cost(id), cost.1 + 1);
        } else if row.lacks_name() {
            cost = (cost.0 + strings.place_bytes(), cost.1 + 1);
        }
        rows.advance(&mut cursor);
    }
    cost
}

/// Cuts the names in a list that are longer than `longest` bytes, and removes those that cost more
/// than is `left`. Returns whether it removed any.
fn cut<T: NamedRow + Clone + Default>(
    rows: &mut ListPool<T>,
    list: PoolList,
    (longest, left): (usize, &mut usize),
    strings: &mut Strings,
) -> bool {
    let mut removes = false;
    let mut cursor = ListPool::<T>::start(list);
    while let Some(row) = rows.row_mut(cursor) {
        let name = row.name();
        if let Some(id) = *name
            && strings.get(id).len() > longest
        {
            let text = CutText::new(strings.get(id), longest);
            *name = strings.intern(text.bytes());
            strings.release(id);
        }
        if let Some(id) = *name {
            if let Some(rest) = left.checked_sub(strings.cost(id)) {
                *left = rest;
            } else {
                *name = None;
                strings.release(id);
                removes = true;
            }
        }
        rows.advance(&mut cursor);
    }
    removes
}

/// Bytes and number of the names of all that a process has.
fn cost_of(
    descriptors: &ListPool<Descriptor>,
    areas: &Areas,
    children: &Children,
    strings: &Strings,
) -> (usize, usize) {
    let (files, of_files) = cost(descriptors, children.descriptors, strings);
    let (mapped, of_mapped) = cost(&areas.rows, children.areas, strings);
    (files + mapped, of_files + of_mapped)
}

impl MachineState {
    /// Limits the names of each process that has more than its share.
    pub(in crate::state) fn share_names(&mut self, snapshot: &Snapshot) {
        let is_refused = self.progress.untracked[Limit::Strings as usize] > 0;
        let Self {
            processes, children, row_shares, name_shares, descriptors, areas, names, ..
        } = self;
        let strings = &mut names.strings;
        let (room, used) = strings.open_bytes();
        let before = name_shares.is_crowded;
        name_shares.is_crowded = is_refused || before && used > room / 2;
        if !name_shares.is_crowded {
            return;
        }
        let shares = &mut name_shares.shares;
        if before && !is_refused && !self.scan.0.is_multiple_of(COUNTED_SCANS) {
            return;
        }
        shares.begin();
        for id in processes.ids() {
            let Some(children) = children.get(id.0 as usize) else { continue };
            let (bytes, _) = cost_of(descriptors, areas, children, strings);
            let row = processes.get(id).and_then(|process| snapshot.processes.at(process.row()));
            let group = row.map_or(u64::MAX, |row| snapshot.group_of(row));
            shares.want(group, id.0, bytes.try_into().unwrap_or(u32::MAX));
        }
        // A part stays free for what opens next.
        shares.divide(room / 4 * 3);
        let above = shares.above().and_then(|above| processes.get(RowId(above.owner)));
        if let Some(process) = above.map(Process::process_id) {
            row_shares.blame(Limit::Strings, process);
        }
        for id in processes.ids() {
            let (Some(longest), Some(children)) =
                (name_shares.longest.get_mut(id.0 as usize), children.get(id.0 as usize))
            else {
                continue;
            };
            *longest = u32::MAX;
            let allowed = shares.allowed(id.0) as usize;
            if allowed >= u32::MAX as usize {
                continue;
            }
            let (bytes, count) = cost_of(descriptors, areas, children, strings);
            if bytes <= allowed {
                continue;
            }
            let part = (allowed / count.max(1)).saturating_sub(HEADER_BYTES);
            let part = part.clamp(CUT_BYTES_MIN, CUT_BYTES);
            let mut left = allowed;
            let removes = cut(descriptors, children.descriptors, (part, &mut left), strings)
                | cut(&mut areas.rows, children.areas, (part, &mut left), strings);
            *longest = if removes { 0 } else { part as u32 };
        }
    }
}
