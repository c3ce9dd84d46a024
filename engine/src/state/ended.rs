//! Processes that have ended and owned connections that are still tracked.
//!
//! A socket outlives its process, in TIME_WAIT for a minute, and its records still say whose it
//! was. There is room for a part of the processes. Nobody fills it for others: in a full table, a
//! process takes the place of the oldest one of the user or container with most. Of an owner
//! without a place, the connection keeps the name.

use panoptes_tables::{
    CutText, HEADER_BYTES, HashKey, OwnerCounts, Row, RowId, ScanNumber, StringId, StringRoom,
    Strings, Table, room,
};

use super::described::{
    CONTAINER_ID_BYTES, DIRECTORY_BYTES, EXECUTABLE_BYTES, LINE_BYTES, ProcessDescription,
};
use super::facts::ProcessFacts;
use super::keys::ProcessKey;
use crate::limits::Limits;

/// The part of the processes for which there is room after their end.
const PROCESSES_PART: u32 = 4;
/// The part of the open room for names that others may use before long names are cut here.
const OPEN_PART: usize = 2;

/// Number of ended owners for which there is room.
fn owners_max(limits: &Limits) -> usize {
    limits.processes.div_ceil(PROCESSES_PART) as usize
}

/// Room that is always there for the names of ended owners.
pub(super) fn ended_room(limits: &Limits) -> StringRoom {
    let names = [CONTAINER_ID_BYTES, DIRECTORY_BYTES, EXECUTABLE_BYTES, LINE_BYTES];
    let bytes: usize = names.iter().map(|bytes| bytes + HEADER_BYTES).sum();
    let owners = owners_max(limits);
    StringRoom { bytes: owners * bytes, strings: owners * names.len() }
}

/// A process that has ended, as it was last seen.
#[derive(Debug)]
pub struct EndedOwner {
    described: ProcessDescription,
    group: u64,
}

impl EndedOwner {
    pub fn facts<'a>(&'a self, strings: &'a Strings) -> ProcessFacts<'a> {
        self.described.facts(strings)
    }
}

impl Row for EndedOwner {
    type Key = ProcessKey;

    fn key(&self) -> ProcessKey {
        self.described.key
    }
}

/// The ended owners of tracked connections.
#[derive(Debug)]
pub(super) struct EndedOwners {
    rows: Table<EndedOwner>,
    /// Rows by user or container.
    groups: OwnerCounts,
    /// Whether the process of each row has owned a connection.
    owned: Box<[bool]>,
    scan: ScanNumber,
}

impl EndedOwners {
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        let owners = owners_max(limits);
        Self {
            rows: Table::new(owners, key.derive("state: ended owners")),
            groups: OwnerCounts::new(owners, key.derive("state: groups of ended owners")),
            owned: room::copies(false, limits.processes as usize),
            scan: ScanNumber::default(),
        }
    }

    /// Forgets all; the caller forgets their names.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.groups.clear();
        self.owned.fill(false);
    }

    /// Notes that a row has a new process.
    pub(super) fn begin(&mut self, process: RowId) {
        self.set_owned(process, false);
    }

    /// Notes that a process owns a connection.
    pub(super) fn note_owner(&mut self, process: RowId) {
        self.set_owned(process, true);
    }

    fn set_owned(&mut self, process: RowId, owned: bool) {
        if let Some(place) = self.owned.get_mut(process.0 as usize) {
            *place = owned;
        }
    }

    /// Keeps what is known of a process that has ended, if it has owned a connection.
    pub(super) fn keep(
        &mut self,
        process: RowId,
        described: &ProcessDescription,
        strings: &mut Strings,
    ) {
        let has_owned = self.owned.get(process.0 as usize).is_some_and(|owned| *owned);
        if !has_owned || self.rows.find(&described.key).is_some() {
            return;
        }
        let group = described.group();
        if self.rows.len() == self.rows.capacity() && !self.take_place(group, strings) {
            return;
        }
        let described = described.kept(|id, bytes, cut| keep_text(strings, id, bytes, cut));
        self.groups.add(group);
        self.rows.insert(EndedOwner { described, group }, self.scan);
    }

    /// Makes room for a process of a group; `false` if none has more.
    fn take_place(&mut self, group: u64, strings: &mut Strings) -> bool {
        let Some(above) = self.groups.who_makes_room_for(group) else { return false };
        let rows = self.rows.ids().filter_map(|id| Some((id, self.rows.get(id)?)));
        let of_above = rows.filter(|(_, row)| row.group == above);
        let oldest = of_above.min_by_key(|(_, row)| row.described.start_boottime());
        let Some((id, _)) = oldest else { return false };
        self.remove(id, strings);
        true
    }

    fn remove(&mut self, id: RowId, strings: &mut Strings) {
        if let Some(row) = self.rows.remove(id) {
            self.groups.remove(row.group);
            row.described.release(strings);
        }
    }

    /// The ended owner with this key.
    pub(super) fn find(&self, key: &ProcessKey) -> Option<&EndedOwner> {
        self.rows.get(self.rows.find(key)?)
    }

    /// Begins a comparison of all connections.
    pub(super) fn begin_scan(&mut self) {
        self.scan = self.scan.next();
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Notes that a connection of this process is still tracked.
    pub(super) fn see(&mut self, key: &ProcessKey) {
        if let Some(id) = self.rows.find(key) {
            self.rows.see(id, self.scan);
        }
    }

    /// Forgets those without connections, after a comparison of all.
    pub(super) fn forget_unseen(&mut self, strings: &mut Strings) {
        for id in (0..self.rows.end()).map(RowId) {
            if self.rows.last_seen(id).is_some_and(|seen| seen != self.scan) {
                self.remove(id, strings);
            }
        }
    }
}

/// Keeps a name, cut to `bytes` if it is longer and others need the room.
fn keep_text(
    strings: &mut Strings,
    id: StringId,
    bytes: usize,
    cut: fn(&[u8], usize) -> CutText,
) -> Option<StringId> {
    let text = strings.get(id);
    let (open, used) = strings.open_bytes();
    if text.len() <= bytes || used <= open / OPEN_PART {
        strings.retain(id);
        return Some(id);
    }
    let cut = cut(text, bytes);
    strings.intern_reserved(cut.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for two; the processes of all rows have owned connections.
    fn owners() -> EndedOwners {
        let limits = Limits { processes: 8, ..Limits::default() };
        let mut owners = EndedOwners::new(&limits, HashKey::new(1));
        (0..8).for_each(|row| owners.note_owner(RowId(row)));
        owners
    }

    fn strings(bytes: usize) -> Strings {
        let room = StringRoom { bytes, strings: 64 };
        Strings::with_capacity(room, StringRoom { bytes: 4096, strings: 64 }, HashKey::new(2))
    }

    fn process(process_id: u32, uid: u32) -> ProcessDescription {
        ProcessDescription::default().of_process(process_id).began(process_id.into()).of_user(uid)
    }

    fn kept(owners: &EndedOwners, processes: &[ProcessDescription]) -> Vec<u32> {
        let kept = processes.iter().filter(|process| owners.find(&process.key).is_some());
        kept.map(ProcessDescription::process_id).collect()
    }

    #[test]
    fn ended_owners_of_one_user_leave_room_for_those_of_others() {
        let (mut owners, mut strings) = (owners(), strings(4096));
        let all = [(1, 1000), (2, 1000), (3, 1000), (4, 2000), (5, 2000), (6, 1000)];
        let all = all.map(|(process_id, uid)| process(process_id, uid));
        let mut after = Vec::new();
        for (row, process) in (0..).zip(&all) {
            owners.keep(RowId(row), process, &mut strings);
            after.push(kept(&owners, &all));
        }
        // The oldest of the user with most makes room for another user's; nobody's for one's own.
        assert_eq!(after, [vec![1], vec![1, 2], vec![1, 2], vec![2, 4], vec![2, 4], vec![2, 4]]);
    }

    #[test]
    fn a_process_without_a_connection_is_not_kept() {
        let (mut owners, mut strings) = (owners(), strings(4096));
        owners.begin(RowId(3));
        let process = process(1, 1000);
        owners.keep(RowId(3), &process, &mut strings);
        assert!(owners.is_empty());
    }

    #[test]
    fn names_are_kept_until_no_connection_is_left() {
        let (mut owners, mut strings) = (owners(), strings(4096));
        let mut process = process(1, 1000);
        process.program.executable = strings.intern_reserved(b"/usr/bin/curl");
        owners.keep(RowId(1), &process, &mut strings);
        process.release(&mut strings);
        owners.begin_scan();
        owners.see(&process.key);
        owners.forget_unseen(&mut strings);
        let facts = owners.find(&process.key).unwrap().facts(&strings);
        assert_eq!(facts.executable, Some(&b"/usr/bin/curl"[..]));
        owners.begin_scan();
        owners.forget_unseen(&mut strings);
        assert!(owners.is_empty() && strings.is_empty());
    }

    #[test]
    fn long_names_leave_the_room_of_others_and_are_marked_as_cut() {
        let line = [b'x'; 900];
        for (others, is_cut) in [(100, false), (1500, true)] {
            let (mut owners, mut strings) = (owners(), strings(4096));
            strings.intern(&vec![b'o'; others]).unwrap();
            let mut process = process(1, 1000);
            process.program.command_line = strings.intern(&line);
            owners.keep(RowId(1), &process, &mut strings);
            process.release(&mut strings);
            let facts = owners.find(&process.key).unwrap().facts(&strings);
            let kept = facts.command_line.unwrap();
            assert_eq!((facts.command_line_cut, kept.len() == LINE_BYTES), (is_cut, is_cut));
            assert_eq!(kept, &line[..kept.len()]);
        }
    }
}
