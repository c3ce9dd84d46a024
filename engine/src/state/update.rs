//! Taking in a scan: the order of things.

use super::change::{Change, Changes, Limit};
use super::connection::Holding;
use super::gauge::Crossing;
use super::process::{self, Process, ProcessKey};
use super::table::RowId;
use super::{Children, Entry, State, descriptor, tell, telling, thread};
use crate::page_cache::Knower;
use crate::walk::{NONE, Snapshot, ThreadRow, Views};

/// In how many scans in a row something must be absent that was absent from a scan with unreadable parts.
const ABSENT_SCANS_MAX: u32 = 2;
/// In how many scans in a row no view may show a process or any thread of it for it to be gone although no
/// scan was whole: views may never be, and what tears them for a moment is over by then.
const UNSEEN_SCANS_MAX: u32 = 8;
/// After how many scans what is there is taken for what was there when we came, although none was whole.
const BEGINNING_SCANS_MAX: u32 = 16;

impl State {
    /// Takes in one scan and tells `out` of every difference to the last. Allocates nothing.
    pub fn update(&mut self, snapshot: &Snapshot, now_ns: i64, out: &mut dyn Changes) {
        self.update_with(snapshot, now_ns, &mut (), out);
    }

    /// The same, where somebody knows what files hold: what processes execute is asked for.
    pub fn update_with(
        &mut self,
        snapshot: &Snapshot,
        now_ns: i64,
        files: &mut dyn Knower,
        out: &mut dyn Changes,
    ) {
        self.scan = self.scan.wrapping_add(1);
        let whole = views_are_whole(snapshot);
        // What is there at the first whole scan, and before it, was there when we came, if there is one and nothing
        // better is known.
        let quiet = !self.settled && !self.settings.report_existing;
        self.match_processes(snapshot);
        self.containers.match_rows(snapshot, self.scan);
        self.let_go(snapshot, whole, now_ns, out);
        self.let_go_of_containers(snapshot, whole.is_some(), now_ns, out);
        self.take_in_containers(snapshot, quiet, now_ns);
        let mut born = self.take_in(snapshot, quiet, now_ns, files, out);
        self.tell_of_overdue_containers(snapshot, now_ns, out);
        self.group_threads(snapshot);
        born += self.compare_children(snapshot, whole, now_ns, out);
        let holding = Holding { processes: &self.processes, rows: &self.rows };
        let mut telling = telling!(self, snapshot, now_ns, out);
        self.connections.update(&holding, quiet, &mut telling);
        self.namer.end_scan(&mut self.strings);
        self.check_limits(snapshot, now_ns, out);
        self.clock_ns = snapshot.machine.calendar_ns.or(self.clock_ns);
        self.coverage.update(snapshot.machine.total_forks, born);
        if let Some(births) = self.coverage.report(now_ns) {
            let telling = telling!(self, snapshot, now_ns, out);
            tell!(telling, Change::BirthsMissed(births));
        }
        if !self.settled {
            self.settle(snapshot, whole, quiet);
        }
    }

    /// Tells of what would have been told later: there is no next scan.
    pub fn finish(&mut self, snapshot: &Snapshot, now_ns: i64, out: &mut dyn Changes) {
        if let Some(births) = self.coverage.rest() {
            let telling = telling!(self, snapshot, now_ns, out);
            tell!(telling, Change::BirthsMissed(births));
        }
    }

    /// Ends the beginning, if this scan does.
    fn settle(&mut self, snapshot: &Snapshot, whole: Option<u32>, quiet: bool) {
        self.beginning_scans += 1;
        self.settled = whole.is_some() || self.beginning_scans >= BEGINNING_SCANS_MAX;
        let is_crowded = self.untracked[Limit::Processes as usize] > 0
            || snapshot.threads.dropped > 0
            || self.untracked[Limit::Containers as usize] > 0;
        if self.settled && quiet && is_crowded {
            self.late_start = newest(snapshot);
        }
    }

    /// Finds the row of every process that has one.
    fn match_processes(&mut self, snapshot: &Snapshot) {
        self.rows.clear();
        for (index, process) in snapshot.processes.iter().enumerate().take(self.rows.capacity()) {
            let leader = snapshot.leader(process);
            let id = leader.and_then(|row| self.processes.find(&ProcessKey::of(&row.task)));
            let id = id.filter(|&id| self.see(id, index, snapshot));
            self.rows.push(id);
        }
    }

    /// Notes that the scan shows a process, as the row of that index; `false` when it has ended or another
    /// index of the same scan is better.
    fn see(&mut self, id: RowId, index: usize, snapshot: &Snapshot) -> bool {
        let first = self.processes.see(id, self.scan);
        let Some(row) = self.processes.get_mut(id) else { return false };
        if row.life.ended {
            return false;
        }
        let living = |index: u32| {
            let process = snapshot.processes.at(index);
            let leader = process.and_then(|process| snapshot.leader(process));
            leader.is_some_and(|leader| leader.task.exit_state == 0)
        };
        // While a thread takes its leader's place both may be seen as first threads.
        if !first {
            if living(row.row) || !living(index as u32) {
                return false;
            }
            if let Some(other) = self.rows.get_mut(row.row as usize) {
                *other = None;
            }
        }
        row.row = index as u32;
        true
    }

    /// Lets go of processes that have ended.
    fn let_go(
        &mut self,
        snapshot: &Snapshot,
        whole: Option<u32>,
        now_ns: i64,
        out: &mut dyn Changes,
    ) {
        for number in 0..self.processes.end() {
            let id = RowId(number);
            let seen = self.processes.last_seen(id) == Some(self.scan);
            let Some(row) = self.processes.get_mut(id) else { continue };
            if !seen {
                row.row = NONE;
                row.life.hidden_scans = 0;
                if row.life.ended {
                    self.processes.remove(id);
                    continue;
                }
                match whose(snapshot, row.process_id()) {
                    // Its first thread is being replaced, or was read at a bad time.
                    Whose::ItsThreads => {
                        row.life.unseen_scans = 0;
                        continue;
                    }
                    Whose::Another => {}
                    Whose::Nobodys => {
                        row.life.absent_scans += u32::from(whole.is_some());
                        // A scan that shows no process at all shows nothing.
                        row.life.unseen_scans += u32::from(!snapshot.processes.is_empty());
                        if whole.is_none_or(|max| row.life.absent_scans < max)
                            && row.life.unseen_scans < UNSEEN_SCANS_MAX
                        {
                            continue;
                        }
                    }
                }
                self.end(id, snapshot, now_ns, out);
                self.processes.remove(id);
                continue;
            }
            row.life.absent_scans = 0;
            row.life.unseen_scans = 0;
            let leader = snapshot.processes.at(row.row).and_then(|row| snapshot.leader(row));
            if !row.life.ended && leader.is_some_and(|leader| process::is_dead(&leader.task)) {
                let index = row.row as usize;
                self.end(id, snapshot, now_ns, out);
                // It stays until no scan shows it, so that it is not taken for new.
                if let Some(place) = self.rows.get_mut(index) {
                    *place = None;
                }
            }
        }
    }

    /// Tells of a process's end and gives back all that it had.
    fn end(&mut self, id: RowId, snapshot: &Snapshot, now_ns: i64, out: &mut dyn Changes) {
        let Some(row) = self.processes.get_mut(id) else { return };
        row.forget_before(&mut self.strings);
        row.life.ended = true;
        let unannounced = !core::mem::replace(&mut row.life.announced, true);
        let row = &*row;
        let telling = telling!(self, snapshot, now_ns, out);
        if unannounced {
            tell!(telling, Change::ProcessCreated(row));
        }
        tell!(telling, Change::ProcessTerminated(row));
        self.release_children(id, snapshot, now_ns, out);
        if let Some(row) = self.processes.get_mut(id) {
            row.release(&mut self.strings);
        }
    }

    fn release_children(
        &mut self,
        id: RowId,
        snapshot: &Snapshot,
        now_ns: i64,
        out: &mut dyn Changes,
    ) {
        let Some(children) = self.children.get_mut(id.0 as usize) else { return };
        if let Some(process) = self.processes.get(id) {
            let head = children.descriptors;
            let mut telling = telling!(self, snapshot, now_ns, out);
            descriptor::tell_writers(&self.descriptors, head, process, &mut telling);
        }
        let mut cursor = super::chains::Chains::<thread::Thread>::start(children.threads);
        while self.threads.remove(&mut children.threads, &mut cursor).is_some() {}
        let strings = &mut self.strings;
        descriptor::release_all(&mut self.descriptors, &mut children.descriptors, strings);
        self.areas.release_all(&mut children.areas, strings);
    }

    /// Gives newcomers rows, takes in what is known of every process, and tells of what it is. Gives how
    /// many are new.
    fn take_in(
        &mut self,
        snapshot: &Snapshot,
        quiet: bool,
        now_ns: i64,
        files: &mut dyn Knower,
        out: &mut dyn Changes,
    ) -> u64 {
        let mut born = 0;
        for (index, process) in snapshot.processes.iter().enumerate().take(self.rows.len()) {
            let Some(leader) = snapshot.leader(process) else { continue };
            let known = self.rows[index];
            let Some(id) = known.or_else(|| self.admit(index, leader, quiet, now_ns)) else {
                continue;
            };
            let is_news =
                known.is_none() && self.processes.get(id).is_some_and(|row| !row.life.existing);
            born += u64::from(is_news);
            let Some(row) = self.processes.get_mut(id) else { continue };
            let container = self.containers.key(process.container);
            let buffer = &mut self.namer.buffer;
            row.watch_exec(snapshot, process, now_ns);
            row.refresh(snapshot, process, container, self.scan, &mut self.strings, buffer);
            row.refresh_hashes(snapshot, process, files);
            let grace = self.settings.fork_grace_scans;
            let announce = !row.life.announced && row.is_whole_enough(snapshot, process, grace);
            row.life.pending_scans = row.life.pending_scans.saturating_add(1);
            row.life.announced |= announce;
            let confirm_scans = self.settings.confirm_scans.max(2);
            let hidden = row.watch_views(process, confirm_scans, now_ns);
            let hidden = hidden.filter(|_| row.life.announced && !row.life.hidden_reported);
            row.life.hidden_reported |= hidden.is_some();
            let row = &*row;
            let begun = row.life.announced.then_some(process.container);
            let begun = begun.and_then(|at| self.containers.begins_with(at, &row.key));
            let telling = telling!(self, snapshot, now_ns, out);
            if announce {
                tell!(telling, Change::ProcessCreated(row));
            }
            if let Some(container) = begun.and_then(|id| self.containers.table.get(id)) {
                tell!(telling, Change::ContainerStarted { container, process: Some(row) });
            }
            if let Some(missing) = hidden {
                let (scans, since_ns) = (row.life.hidden_scans, row.life.hidden_since_ns);
                let shown = Views(leader.views);
                let process = row;
                tell!(telling, Change::ProcessHidden { process, missing, shown, scans, since_ns });
            }
        }
        born
    }

    /// Lets go of containers in which nothing is left.
    fn let_go_of_containers(
        &mut self,
        snapshot: &Snapshot,
        whole: bool,
        now_ns: i64,
        out: &mut dyn Changes,
    ) {
        let mut from = 0;
        let processes = &self.processes;
        let is_alive = |key: &ProcessKey| {
            let row = processes.find(key).and_then(|id| processes.get(id));
            row.is_some_and(|row| !row.life.ended)
        };
        while let Some(gone) = self.containers.next_gone(from, snapshot, self.scan, whole, is_alive)
        {
            from = gone.id.0 + 1;
            if let Some(container) = self.containers.table.get(gone.id).filter(|_| gone.is_news) {
                let telling = telling!(self, snapshot, now_ns, out);
                if gone.unannounced {
                    tell!(telling, Change::ContainerStarted { container, process: None });
                }
                tell!(telling, Change::ContainerTerminated { container });
            }
            self.containers.remove(gone.id, &mut self.strings);
        }
    }

    fn take_in_containers(&mut self, snapshot: &Snapshot, quiet: bool, now_ns: i64) {
        let (arrival, late_start) = (self.arrival, self.late_start);
        self.containers.take_in(snapshot, (self.scan, now_ns), &mut self.strings, |first| {
            was_there(first.start_boottime, quiet, arrival, late_start)
        });
    }

    /// Tells of containers whose first process cannot be told of.
    fn tell_of_overdue_containers(
        &mut self,
        snapshot: &Snapshot,
        now_ns: i64,
        out: &mut dyn Changes,
    ) {
        let mut from = 0;
        while let Some(id) = self.containers.next_overdue(from) {
            from = id.0 + 1;
            let Some(container) = self.containers.table.get(id) else { continue };
            let first = self.processes.find(&container.first());
            let process = first.and_then(|id| self.processes.get(id));
            let process = process.filter(|process| process.life.announced);
            let telling = telling!(self, snapshot, now_ns, out);
            tell!(telling, Change::ContainerStarted { container, process });
        }
    }

    /// Gives a process a row, if it is new and there is room.
    fn admit(
        &mut self,
        index: usize,
        leader: &ThreadRow,
        quiet: bool,
        now_ns: i64,
    ) -> Option<RowId> {
        let key = ProcessKey::of(&leader.task);
        if process::is_dead(&leader.task) || self.processes.find(&key).is_some() {
            return None;
        }
        let mut new = Process::new(&leader.task, now_ns);
        new.row = index as u32;
        new.life.existing = was_there(key.start_boottime, quiet, self.arrival, self.late_start);
        new.life.announced = new.life.existing;
        let id = self.processes.insert(new, self.scan)?;
        self.rows[index] = Some(id);
        self.children[id.0 as usize] = Children::default();
        Some(id)
    }

    /// Finds where each process's threads are.
    fn group_threads(&mut self, snapshot: &Snapshot) {
        self.groups.clear();
        self.groups.resize(self.rows.len(), (0, 0));
        let mut start = 0;
        while let Some(row) = snapshot.by_tid.get(start).and_then(|&at| snapshot.threads.at(at)) {
            let tgid = row.task.tgid;
            let rest = snapshot.by_tid[start..].iter();
            let count = rest
                .take_while(|&&at| snapshot.threads.at(at).is_some_and(|row| row.task.tgid == tgid))
                .count()
                .max(1);
            if let Some(group) = self.groups.get_mut(row.process as usize) {
                *group = (start as u32, (start + count) as u32);
            }
            start += count;
        }
    }

    /// Compares what hangs on each process; gives how many threads are new.
    fn compare_children(
        &mut self,
        snapshot: &Snapshot,
        whole: Option<u32>,
        now_ns: i64,
        out: &mut dyn Changes,
    ) -> u64 {
        let mut born = 0;
        for index in 0..self.rows.len() {
            let Some(id) = self.rows[index] else { continue };
            let Some(row) = snapshot.processes.at(index as u32) else { continue };
            let (start, end) = self.groups[index];
            let group = snapshot.by_tid.get(start as usize..end as usize).unwrap_or(&[]);
            let alone = thread::living(snapshot, group) == 0;
            let is_zombie = self.watch_zombie(id, alone, snapshot, now_ns, out);
            let Some(process) = self.processes.get(id).filter(|row| row.life.announced) else {
                continue;
            };
            if alone && process.exit_state() != 0 {
                // All that it had ended with it.
                if is_zombie {
                    self.release_children(id, snapshot, now_ns, out);
                }
                continue;
            }
            if !row.stable {
                continue;
            }
            let Some(children) = self.children.get_mut(id.0 as usize) else { continue };
            let clock_ns = self.clock_ns;
            let silent = process.life.existing;
            let mut entry = Entry { process, row, children, silent, clock_ns };
            let mut telling = telling!(self, snapshot, now_ns, out);
            let threads = &mut self.threads;
            born += u64::from(thread::update(threads, &mut entry, group, whole, &mut telling));
            descriptor::update(&mut self.descriptors, &mut entry, group, &mut telling);
            self.areas.update(&mut entry, &mut telling);
        }
        born
    }

    /// Counts the scans in a row in which a process is a zombie, and tells of it once; `alone` when none of
    /// its threads goes on. Gives whether it is one.
    fn watch_zombie(
        &mut self,
        id: RowId,
        alone: bool,
        snapshot: &Snapshot,
        now_ns: i64,
        out: &mut dyn Changes,
    ) -> bool {
        let Some(row) = self.processes.get_mut(id) else { return false };
        let is_zombie = alone && row.is_zombie();
        row.life.zombie_scans = if is_zombie { row.life.zombie_scans.saturating_add(1) } else { 0 };
        let scans = row.life.zombie_scans;
        let told = scans >= self.settings.confirm_scans.max(2) && row.life.announced;
        if told && !core::mem::replace(&mut row.life.zombie_reported, true) {
            let process = &*row;
            let telling = telling!(self, snapshot, now_ns, out);
            tell!(telling, Change::ProcessZombie { process, scans });
        }
        is_zombie
    }

    /// Tells of limits that were reached, and of those that were and are not any more.
    fn check_limits(&mut self, snapshot: &Snapshot, now_ns: i64, out: &mut dyn Changes) {
        let unseen = |dropped: u32| u64::from(dropped);
        self.untracked = [
            unseen(snapshot.processes.dropped) + u64::from(self.processes.take_newcomers()),
            unseen(snapshot.threads.dropped) + u64::from(self.threads.take_refused()),
            unseen(snapshot.descriptors.dropped) + u64::from(self.descriptors.take_refused()),
            unseen(snapshot.vmas.dropped) + u64::from(self.areas.rows.take_refused()),
            unseen(snapshot.connections.dropped) + u64::from(self.connections.rows.take_refused()),
            unseen(snapshot.containers.dropped) + u64::from(self.containers.table.take_newcomers()),
            u64::from(self.strings.take_refused()),
        ];
        for limit in Limit::ALL {
            let super::Usage { used, capacity, untracked } = self.usage(limit);
            let change = match self.gauges[limit as usize].update(used, capacity, untracked) {
                Some(Crossing::Reached) => Change::LimitReached { limit, capacity, untracked },
                Some(Crossing::Cleared) => Change::LimitCleared { limit, capacity },
                None => continue,
            };
            let telling = telling!(self, snapshot, now_ns, out);
            tell!(telling, change);
        }
    }
}

/// Whether what began then was there when we came, if all that this scan shows was (`quiet`) or it found no room until
/// now.
fn was_there(start_boottime: u64, quiet: bool, arrival: Option<u64>, late_start: u64) -> bool {
    let came_later = arrival.is_some_and(|arrival| start_boottime > arrival);
    quiet && !came_later || start_boottime <= late_start
}

/// In how many scans in a row something must be absent to be gone, as of this scan: in one, if it could
/// read everything; nothing at all if a view of it is not whole.
fn views_are_whole(snapshot: &Snapshot) -> Option<u32> {
    let whole = snapshot.task_list_closed
        && snapshot.idr_whole
        && snapshot.threads.dropped == 0
        && snapshot.processes.dropped == 0;
    whole.then_some(if snapshot.losses.unreadable == 0 { 1 } else { ABSENT_SCANS_MAX })
}

/// When the newest process began, if the scan shows them all.
pub(super) fn newest_of_all(snapshot: &Snapshot) -> Option<u64> {
    views_are_whole(snapshot).map(|_| newest(snapshot))
}

/// When the newest process of a scan began.
fn newest(snapshot: &Snapshot) -> u64 {
    let leaders = snapshot.processes.iter().filter_map(|process| snapshot.leader(process));
    leaders.map(|leader| leader.task.start_boottime).max().unwrap_or(0)
}

/// Whose a number is that no process of the scan has which had it before.
enum Whose {
    /// No thread's.
    Nobodys,
    /// That of threads without their first.
    ItsThreads,
    /// Another process's.
    Another,
}

fn whose(snapshot: &Snapshot, process_id: u32) -> Whose {
    let tgid = |at: u32| snapshot.threads.at(at).map(|row| row.task.tgid);
    let at = snapshot.by_tid.partition_point(|&at| tgid(at) < Some(process_id));
    let mut threads = snapshot.by_tid[at..]
        .iter()
        .filter_map(|&at| snapshot.threads.at(at))
        .take_while(|row| row.task.tgid == process_id)
        .peekable();
    if threads.peek().is_none() {
        Whose::Nobodys
    } else if threads.any(|row| row.task.is_leader() && !process::is_dead(&row.task)) {
        Whose::Another
    } else {
        Whose::ItsThreads
    }
}
