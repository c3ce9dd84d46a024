//! Updates the state from a scan, in a fixed order.

use core::cell::Cell;

use super::absence::{PidOccupant, absence, absent_scans_max, newest, whose};
use super::change::{Change, Changes};
use super::children::{Children, ComparedProcess};
use super::emit::Update;
use super::holders::HolderProcesses;
use super::keys::ProcessKey;
use super::mapped_files::MappedFiles;
use super::process::{self, Confirm, LifeStage, Process, ScannedProcess};
use super::{BEGINNING_SCANS_MAX, MachineState, StateProgress, descriptor, thread};
use crate::limits::Limit;
use crate::page_cache::ContentSource;
use crate::time::{Monotonic, Now};
use crate::walk::{Index, ProcessRow, Snapshot, TaskFate, ThreadRow, Views};
use panoptes_tables::RowId;
use panoptes_tables::{Crossing, ListPool, PoolList};

/// Number of consecutive scans, complete or not, that must show neither a process nor any of its
/// threads for it to have ended. Views may never be complete, and whatever tears them for a moment
/// is over by then.
const UNSEEN_SCANS_MAX: u32 = 8;
/// A process without consistent data for this time is counted. A process that calls exec or ends
/// takes a few scans.
const UNSTABLE_NS: i64 = 500_000_000;

impl MachineState {
    /// Compares one scan with the last and reports every difference to `out`. Allocates nothing.
    pub fn update(&mut self, snapshot: &Snapshot, now: Now, out: &mut dyn Changes) {
        self.update_unless(&|| false, snapshot, now, &mut (), out);
    }

    /// The same as [`MachineState::update`], with a source of file contents: asks for the hashes of
    /// executables. Ends early if `must_stop` returns `true`, which it must then return every time.
    /// It is asked between processes and at least once for each few hundred rows. Returns whether
    /// the comparison is complete. If not, no other may follow.
    pub fn update_unless(
        &mut self,
        must_stop: &dyn Fn() -> bool,
        snapshot: &Snapshot,
        now: Now,
        files: &mut dyn ContentSource,
        out: &mut dyn Changes,
    ) -> bool {
        self.scan = self.scan.next();
        let update = &mut Update {
            snapshot,
            now,
            absent_scans_max: absent_scans_max(snapshot),
            // The first complete scan, and the scans before it, show the baseline, unless `arrival`
            // is known.
            quiet: !self.progress.settled && !self.settings.report_existing,
            must_stop,
            out,
        };
        self.table_searches = 0;
        self.row_shares.begin_scan();
        self.match_processes(snapshot);
        self.containers.match_rows(snapshot, self.scan);
        self.remove_ended(update);
        self.remove_ended_containers(update);
        self.update_containers(update);
        let mut born = self.update_processes(update, files);
        self.report_overdue_containers(update);
        born += self.compare_children(update);
        self.compare_connections(update);
        self.update_modules(update);
        self.update_bpf(update);
        if update.must_stop() {
            return false;
        }
        self.names.end_scan();
        self.check_limits(update);
        self.progress.clock_ns = snapshot.machine.calendar_ns.or(self.progress.clock_ns);
        self.progress.coverage.update(snapshot.machine.total_forks, born);
        let recovered = self.recover(self.progress.coverage.unseen(), update);
        self.progress.coverage.note_recovered(recovered);
        if let Some(births) = self.progress.coverage.report(now.monotonic) {
            let mut emitter = update.emitter(&self.containers, &mut self.names);
            emitter.emit(&Change::BirthsMissed(births));
        }
        if !self.progress.settled {
            self.settle(update);
        }
        true
    }

    /// Reports what would have been reported later: there is no next scan.
    pub fn finish(&mut self, snapshot: &Snapshot, now: Now, out: &mut dyn Changes) {
        self.report_rest(&mut Update {
            snapshot,
            now,
            absent_scans_max: None,
            quiet: false,
            must_stop: &|| false,
            out: &mut *out,
        });
        if let Some(births) = self.progress.coverage.rest() {
            out.change(&self.scan_context(snapshot, now), &Change::BirthsMissed(births));
        }
    }

    /// Ends the baseline if this scan completes it.
    fn settle(&mut self, update: &Update<'_>) {
        let snapshot = update.snapshot;
        self.progress.beginning_scans += u32::from(snapshot.counts());
        self.progress.settled = update.absent_scans_max.is_some()
            || self.progress.beginning_scans >= BEGINNING_SCANS_MAX;
        let is_crowded = self.progress.untracked[Limit::Processes as usize] > 0
            || snapshot.threads.dropped > 0
            || self.progress.untracked[Limit::Containers as usize] > 0;
        if self.progress.settled && update.quiet && is_crowded {
            self.progress.late_start = newest(snapshot);
        }
    }

    /// Finds the row of every process that has one.
    fn match_processes(&mut self, snapshot: &Snapshot) {
        self.rows.clear();
        for (index, process) in snapshot.processes.indexed().take(self.rows.capacity()) {
            let leader = snapshot.leader(process);
            let id = leader.and_then(|row| self.processes.find(&ProcessKey::of(&row.task)));
            let id = id.filter(|&id| self.see(id, index, snapshot));
            self.rows.push(id);
        }
        let rows = snapshot.processes.iter().zip(&self.rows);
        let shown = rows.filter(|(_, id)| id.is_none());
        let shown = shown.filter_map(|(row, _)| Some(ProcessKey::of(&snapshot.leader(row)?.task)));
        self.admission.forget_ended(shown, self.scan, snapshot.counts());
    }

    /// Notes that the scan shows a process, as the row of that index; `false` if it has ended or if
    /// another index of the same scan fits better.
    fn see(&mut self, id: RowId, index: Index<ProcessRow>, snapshot: &Snapshot) -> bool {
        let first = self.processes.see(id, self.scan);
        let Some(row) = self.processes.get_mut(id) else { return false };
        if row.life.is_ended() {
            return false;
        }
        let living = |index: Option<Index<ProcessRow>>| {
            let process = snapshot.processes.at(index);
            let leader = process.and_then(|process| snapshot.leader(process));
            leader.is_some_and(|leader| leader.task.exit_state == 0)
        };
        // While a thread takes its leader's place, a scan may show both as leaders.
        if !first {
            if living(row.row) || !living(Some(index)) {
                return false;
            }
            if let Some(other) = row.row.and_then(|row| self.rows.get_mut(row.position())) {
                *other = None;
            }
        }
        row.row = Some(index);
        true
    }

    /// Reports and removes processes that have ended.
    fn remove_ended(&mut self, update: &mut Update<'_>) {
        let Update { snapshot, absent_scans_max, .. } = *update;
        for number in 0..self.processes.end() {
            if update.must_stop() {
                return;
            }
            let id = RowId(number);
            let seen = self.processes.last_seen(id) == Some(self.scan);
            let Some(row) = self.processes.get_mut(id) else { continue };
            if !seen {
                row.row = None;
                row.life.hidden.scans = 0;
                if row.life.is_ended() {
                    self.processes.remove(id);
                    continue;
                }
                match whose(snapshot, row.process_id()) {
                    // Its leader is being replaced, or was read at a bad time.
                    PidOccupant::ItsThreads => {
                        row.life.unseen_scans = 0;
                        continue;
                    }
                    PidOccupant::Another => {}
                    PidOccupant::NoThread => {
                        row.life.absent_scans += u32::from(absence(absent_scans_max, snapshot));
                        // A scan without any process proves nothing.
                        if !snapshot.processes.is_empty() {
                            row.life.unseen_scans += u32::from(snapshot.counts());
                        }
                        if absent_scans_max.is_none_or(|max| row.life.absent_scans < max)
                            && row.life.unseen_scans < UNSEEN_SCANS_MAX
                        {
                            continue;
                        }
                    }
                }
                if !self.end(id, update) {
                    return;
                }
                self.processes.remove(id);
                continue;
            }
            row.life.absent_scans = 0;
            row.life.unseen_scans = 0;
            let leader = snapshot.processes.at(row.row).and_then(|row| snapshot.leader(row));
            if !row.life.is_ended() && leader.is_some_and(|leader| process::is_dead(&leader.task)) {
                let index = row.row;
                if !self.end(id, update) {
                    return;
                }
                // Keep the row until no scan shows the process, so that the process does not count
                // as new.
                if let Some(place) = index.and_then(|row| self.rows.get_mut(row.position())) {
                    *place = None;
                }
            }
        }
    }

    /// Reports a process's end and frees all that it had; `false` if the comparison must end before
    /// that.
    fn end(&mut self, id: RowId, update: &mut Update<'_>) -> bool {
        let Some(row) = self.processes.get_mut(id) else { return true };
        if !row.life.is_announced() {
            row.life.stage = LifeStage::Announced;
            let mut emitter = update.emitter(&self.containers, &mut self.names);
            emitter.emit(&Change::ProcessCreated(row));
        }
        if !self.report_held(id, update) {
            return false;
        }
        let Some(row) = self.processes.get_mut(id) else { return true };
        row.forget_before(&mut self.names.strings);
        row.life.stage = LifeStage::Ended;
        self.report_exec(id, update);
        let Some(row) = self.processes.get(id) else { return true };
        let mut emitter = update.emitter(&self.containers, &mut self.names);
        emitter.emit(&Change::ProcessTerminated(row));
        self.pass_on_tables_of(id, None, update.snapshot);
        self.release_children(id, update);
        if let Some(row) = self.processes.get_mut(id) {
            self.connections.ended.keep(id, row.described(), &mut self.names.strings);
            row.release(&mut self.names.strings);
        }
        true
    }

    fn release_children(&mut self, id: RowId, update: &mut Update<'_>) {
        if let Some(children) = self.children.get(id.0 as usize)
            && let Some(process) = self.processes.get(id)
        {
            let list = children.descriptors;
            let mut emitter = update.emitter(&self.containers, &mut self.names);
            descriptor::tell_writers(&self.descriptors, list, process, &mut emitter);
        }
        self.free_children(id);
    }

    /// Frees the rows of all that a process has.
    pub(super) fn free_children(&mut self, id: RowId) {
        let Some(children) = self.children.get_mut(id.0 as usize) else { return };
        let mut cursor = ListPool::<thread::Thread>::start(children.threads);
        while self.threads.remove(&mut children.threads, &mut cursor).is_some() {}
        let strings = &mut self.names.strings;
        descriptor::release_all(&mut self.descriptors, &mut children.descriptors, strings);
        self.areas.release_all(&mut children.areas, strings);
    }

    /// Adds rows for new processes, updates all of them and reports changes. Returns the number of
    /// new ones.
    fn update_processes(&mut self, update: &mut Update<'_>, files: &mut dyn ContentSource) -> u64 {
        let snapshot = update.snapshot;
        self.make_room(update);
        let mut born = 0;
        for (index, process) in snapshot.processes.indexed().take(self.rows.len()) {
            if update.must_stop() {
                break;
            }
            let Some(leader) = snapshot.leader(process) else { continue };
            let known = self.rows[index.position()];
            let Some(id) = known.or_else(|| self.admit(index, leader, update)) else {
                continue;
            };
            let is_news =
                known.is_none() && self.processes.get(id).is_some_and(|row| row.life.is_news());
            born += u64::from(is_news);
            let Some(row) = self.processes.get_mut(id) else { continue };
            let container = process.container.and_then(|row| self.containers.key(row));
            let seen = ScannedProcess { snapshot, row: process, leader };
            let was_in_exec = row.in_exec_since().is_some();
            if row.owes_exec_before(&leader.task) {
                // No later scan shows that program.
                self.report_exec(id, update);
            }
            if was_in_exec && !self.report_held_before(id, process, update) {
                break;
            }
            let Some(row) = self.processes.get_mut(id) else { continue };
            row.watch_exec(seen, update.now.monotonic);
            row.refresh(seen, container, self.scan, &mut self.names);
            row.refresh_hashes(seen, files);
            let grace = self.settings.fork_grace_scans;
            let is_first = row.life.note_scan(snapshot.counts());
            let announce = !row.life.is_announced() && row.is_whole_enough(seen, grace);
            if announce {
                row.life.stage = LifeStage::Announced;
            }
            let confirm = Confirm {
                scans: self.settings.confirm_scans.max(2),
                counts: u32::from(snapshot.counts()),
                is_copied: snapshot.copied.is_copy(),
            };
            let hidden = row.begins_to_hide(process, is_first, confirm, update.now.real);
            let row = &*row;
            let begun = process.container.filter(|_| row.life.is_announced());
            let begun = begun.and_then(|at| self.containers.begins_with(at, &row.key));
            let mut emitter = update.emitter(&self.containers, &mut self.names);
            if announce {
                emitter.emit(&Change::ProcessCreated(row));
            }
            if let Some(container) = begun.and_then(|id| self.containers.table.get(id)) {
                emitter.emit(&Change::ContainerStarted { container, process: Some(row) });
            }
            if let Some(missing) = hidden {
                self.report_hidden(id, missing, Views(leader.views), update);
            }
        }
        born
    }

    /// Reports that views hide a process; the next scan does so again if that is not accepted.
    fn report_hidden(&mut self, id: RowId, missing: Views, shown: Views, update: &mut Update<'_>) {
        let Some(process) = self.processes.get(id) else { return };
        let (scans, since_ns) = (process.life.hidden.scans, process.life.hidden.since_ns);
        let is_accepted = &Cell::new(true);
        let mut emitter = update.emitter(&self.containers, &mut self.names);
        emitter.emit(&Change::ProcessHidden {
            process,
            missing,
            shown,
            scans,
            since_ns,
            is_accepted,
        });
        if !is_accepted.get()
            && let Some(row) = self.processes.get_mut(id)
        {
            row.life.hidden.reported = false;
        }
    }

    /// Reports and removes containers without living processes.
    fn remove_ended_containers(&mut self, update: &mut Update<'_>) {
        let snapshot = update.snapshot;
        let whole = update.absent_scans_max.is_some();
        let mut from = 0;
        let processes = &self.processes;
        let is_alive = |key: &ProcessKey| {
            let row = processes.find(key).and_then(|id| processes.get(id));
            row.is_some_and(|row| !row.life.is_ended())
        };
        while !update.must_stop()
            && let Some(gone) =
                self.containers.next_gone(from, snapshot, self.scan, whole, is_alive)
        {
            from = gone.id.0 + 1;
            if let Some(container) = self.containers.table.get(gone.id).filter(|_| gone.is_news) {
                let mut emitter = update.emitter(&self.containers, &mut self.names);
                if gone.unannounced {
                    emitter.emit(&Change::ContainerStarted { container, process: None });
                }
                emitter.emit(&Change::ContainerTerminated { container });
            }
            self.containers.remove(gone.id, &mut self.names.strings);
        }
    }

    fn update_containers(&mut self, update: &Update<'_>) {
        let Update { snapshot, now, quiet, .. } = *update;
        let progress = &self.progress;
        self.containers.update_from(
            snapshot,
            (self.scan, now.monotonic),
            &mut self.names.strings,
            |first| progress.is_baseline(first.start_boottime, quiet),
        );
    }

    /// Reports containers whose first process cannot be reported.
    fn report_overdue_containers(&mut self, update: &mut Update<'_>) {
        let mut from = 0;
        while !update.must_stop()
            && let Some(id) = self.containers.next_overdue(from)
        {
            from = id.0 + 1;
            let Some(container) = self.containers.table.get(id) else { continue };
            let first = self.processes.find(&container.first);
            let process = first.and_then(|id| self.processes.get(id));
            let process = process.filter(|process| process.life.is_announced());
            let mut emitter = update.emitter(&self.containers, &mut self.names);
            emitter.emit(&Change::ContainerStarted { container, process });
        }
    }

    /// The key of a process of the scan that has no row but can have one.
    pub(super) fn newcomer(&self, row: &ProcessRow, snapshot: &Snapshot) -> Option<ProcessKey> {
        let leader = snapshot.leader(row).filter(|row| !process::is_dead(&row.task))?;
        if matches!(row.fate, TaskFate::Replaced | TaskFate::Unfinished) {
            return None;
        }
        let key = ProcessKey::of(&leader.task);
        self.processes.find(&key).is_none().then_some(key)
    }

    /// Adds a row for a process, if it is new and there is room.
    fn admit(
        &mut self,
        index: Index<ProcessRow>,
        leader: &ThreadRow,
        update: &Update<'_>,
    ) -> Option<RowId> {
        let snapshot = update.snapshot;
        let row = snapshot.processes.at(index)?;
        let key = self.newcomer(row, snapshot)?;
        if !self.admission.admits(snapshot, row) {
            self.row_shares.count(Limit::Processes, 1, Some(key.process_id));
            return None;
        }
        let mut new = Process::new(&leader.task, update.now.monotonic);
        new.row = Some(index);
        new.life.existing = self.progress.is_baseline(key.start_boottime, update.quiet);
        if new.life.existing {
            new.life.stage = LifeStage::Announced;
            new.set_program_known();
        } else if self.progress.began_unwatched(key.start_boottime, update.quiet) {
            new.set_began_unwatched();
        }
        let id = self.processes.insert(new, self.scan);
        self.row_shares.count(
            Limit::Processes,
            self.processes.take_newcomers(),
            Some(key.process_id),
        );
        let id = id?;
        if let Some(row) = self.processes.get_mut(id) {
            self.admission.return_to(row);
        }
        self.rows[index.position()] = Some(id);
        let children = &mut self.children[id.0 as usize];
        // Detectors remember versions of the process that had this row before, or of this one.
        let areas_version = children.areas_version.wrapping_add(1);
        *children = Children { areas_version, ..Children::default() };
        self.name_shares.begin(id);
        self.connections.ended.begin(id);
        self.births.note(key.start_boottime);
        Some(id)
    }

    /// Compares the children of each process; returns the number of new threads.
    fn compare_children(&mut self, update: &mut Update<'_>) -> u64 {
        let Update { snapshot, absent_scans_max, .. } = *update;
        self.pass_on_tables(update);
        self.share_tables(update);
        if update.must_stop() {
            return 0;
        }
        self.share_names(snapshot);
        self.open_files.begin_scan();
        self.areas.begin_scan();
        self.unstable.begin_scan();
        let mut born = 0;
        for (index, row) in snapshot.processes.indexed().take(self.rows.len()) {
            if update.must_stop() {
                break;
            }
            let Some(id) = self.rows[index.position()] else { continue };
            let group = snapshot.by_tid.range(row.threads);
            let alone = thread::living(snapshot, group) == 0;
            let is_zombie = self.watch_zombie(id, alone, update);
            self.watch_stability(snapshot, id, row, update.now.monotonic);
            let Some(process) = self.processes.get(id).filter(|row| row.life.is_announced()) else {
                continue;
            };
            if alone && process.exit_state() != 0 {
                // All that it had ended with it.
                if is_zombie {
                    if !self.report_held(id, update) {
                        break;
                    }
                    self.report_exec(id, update);
                    self.release_children(id, update);
                }
                continue;
            }
            let in_exec = process.exec_state(update.now.monotonic);
            if !row.stable {
                self.report_held_after(in_exec, id, update);
                continue;
            }
            let Some(children) = self.children.get_mut(id.0 as usize) else { continue };
            let clock_ns = self.progress.clock_ns;
            let silent = process.life.existing || process.life.returned;
            let allowed = self.row_shares.allowed(id);
            self.names.longest = self.name_shares.longest(id);
            let mut entry =
                ComparedProcess { process, row, children, silent, in_exec, clock_ns, allowed };
            let mut emitter = update.emitter(&self.containers, &mut self.names);
            let threads = &mut self.threads;
            let new = thread::update(threads, &mut entry, group, absent_scans_max, &mut emitter);
            born += u64::from(new);
            if emitter.is_stopped() {
                break;
            }
            if row.files_stable {
                let tables = (&mut self.open_files, &mut self.own_tables);
                descriptor::update(&mut self.descriptors, tables, &mut entry, &mut emitter);
            }
            self.areas.update(&mut entry, &mut emitter);
            let (process_id, version) = (process.process_id(), children.areas_version);
            self.count_refused(process_id);
            self.report_held_after(in_exec, id, update);
            let now = update.now.monotonic;
            if self.processes.get_mut(id).is_some_and(|row| row.has_loaded(version, now)) {
                self.report_exec(id, update);
            }
        }
        born
    }

    /// Counts what of a process found no room.
    fn count_refused(&mut self, process_id: u32) {
        for (limit, refused) in [
            (Limit::Threads, self.threads.take_refused()),
            (Limit::Descriptors, self.descriptors.take_refused()),
            (Limit::Areas, self.areas.rows.take_refused()),
        ] {
            self.row_shares.count(limit, refused, Some(process_id));
        }
    }

    /// Reports that a process runs another program, if that is due.
    pub(super) fn report_exec(&mut self, id: RowId, update: &mut Update<'_>) {
        let row = self.processes.get_mut(id).filter(|row| row.owes_exec());
        let Some(row) = row else { return };
        row.set_program_known();
        let process = &*row;
        // The areas of an earlier program are not those of this one.
        let list = self.children.get(id.0 as usize).map_or_else(PoolList::default, |children| {
            let is_its_own = children.space.1 == process.self_exec_id();
            if is_its_own { children.areas } else { PoolList::default() }
        });
        let rows = &self.areas.rows;
        update.emitter(&self.containers, &mut self.names).emit_named(|names| {
            let before = process.executable_before(&names.strings);
            let mapped = MappedFiles::new(rows, list, &names.strings);
            Change::ProcessExecuted { process, before, mapped }
        });
    }

    fn compare_connections(&mut self, update: &mut Update<'_>) {
        let holding = HolderProcesses { processes: &self.processes, rows: &self.rows };
        // Until a scan had all connections, those of the baseline may still come.
        let quiet = update.quiet || !self.connections.taken && !self.settings.report_existing;
        let mut emitter = update.emitter(&self.containers, &mut self.names);
        let lost = &mut self.row_shares.losses_mut()[Limit::Connections as usize];
        self.connections.update(&holding, quiet, lost, &mut emitter);
        let above = self.connections.shares.above().and_then(|id| self.processes.get(id));
        if let Some(process) = above.map(Process::process_id) {
            self.row_shares.blame(Limit::Connections, process);
        }
    }

    /// Counts a process if no scan of some time has shown consistent data about it: it may change
    /// them on purpose.
    fn watch_stability(
        &mut self,
        snapshot: &Snapshot,
        id: RowId,
        row: &ProcessRow,
        now: Monotonic,
    ) {
        let Some(process) = self.processes.get_mut(id) else { return };
        // Its standard input or output leads elsewhere by the end of each scan.
        let descriptors = snapshot.files_structs.at(row.files).map(|table| table.descriptors);
        let descriptors = descriptors.map_or(&[][..], |span| snapshot.descriptors.range(span));
        let moves = descriptors.iter().take(3).any(|row| row.moved && row.index < 3);
        if row.stable && row.files_stable && !moves {
            process.life.unstable_since = None;
            return;
        }
        let since = *process.life.unstable_since.get_or_insert(now);
        if now.since(since) >= UNSTABLE_NS {
            self.unstable.stand(1, Some(process.key.process_id));
        }
    }

    /// Notes since when a process is a zombie, and reports one that stays so, once. `alone` if none
    /// of its threads is alive. Returns whether it is a zombie.
    fn watch_zombie(&mut self, id: RowId, alone: bool, update: &mut Update<'_>) -> bool {
        let Some(row) = self.processes.get_mut(id) else { return false };
        let is_zombie = alone && row.is_zombie();
        let now = update.now.monotonic;
        let since = row.life.zombie_since.filter(|_| is_zombie);
        row.life.zombie_since = is_zombie.then_some(since.unwrap_or(now));
        let after_ns = i64::try_from(self.zombie_after_ns).unwrap_or(i64::MAX);
        // A scan may show a process between its end and its parent's wait: one scan is none.
        let is_due = since.is_some_and(|since| now.since(since) >= after_ns);
        if is_due
            && row.life.is_announced()
            && !core::mem::replace(&mut row.life.zombie_reported, true)
        {
            let process = &*row;
            let mut emitter = update.emitter(&self.containers, &mut self.names);
            emitter.emit(&Change::ProcessZombie(process));
        }
        is_zombie
    }

    /// Reports limits that were reached, and those that have room again.
    fn check_limits(&mut self, update: &mut Update<'_>) {
        let snapshot = update.snapshot;
        self.progress.untracked = Limit::ALL.map(|limit| {
            // What the scan had no room for, and what the table had none for.
            let (unseen, refused) = match limit {
                Limit::Processes => (snapshot.processes.dropped, 0),
                Limit::Threads => (snapshot.threads.dropped, self.threads.take_refused()),
                Limit::Descriptors => {
                    (snapshot.descriptors.dropped, self.descriptors.take_refused())
                }
                Limit::Areas => (snapshot.vmas.dropped, self.areas.rows.take_refused()),
                Limit::Connections => {
                    (snapshot.connections.dropped, self.connections.rows.take_refused())
                }
                Limit::Containers => {
                    let (refused, process_id) = self.containers.take_newcomers();
                    if let Some(process_id) = process_id {
                        self.row_shares.blame(limit, process_id);
                    }
                    (snapshot.containers.dropped, refused)
                }
                Limit::Strings => (0, self.names.strings.take_refused()),
            };
            self.row_shares.count_rest(limit, unseen.saturating_add(refused))
        });
        for limit in Limit::ALL {
            let super::Usage { used, capacity, untracked } = self.usage(limit);
            let gauge = &mut self.progress.gauges[limit as usize];
            let change = match gauge.update(used, capacity, untracked) {
                Some(Crossing::Reached) => Change::LimitReached { limit, capacity, untracked },
                Some(Crossing::Cleared) => Change::LimitCleared { limit, capacity },
                None => continue,
            };
            let mut emitter = update.emitter(&self.containers, &mut self.names);
            emitter.emit(&change);
        }
    }
}

impl StateProgress {
    /// Whether a process belongs to the baseline: all that this scan shows does (`quiet`), except
    /// later arrivals, or it found no room until now.
    fn is_baseline(&self, start_boottime: u64, quiet: bool) -> bool {
        // If an earlier state of the machine was restored, `arrival` is the earlier one.
        let known = [self.seen_until, self.arrival].into_iter().flatten().min();
        let came_later = known.is_some_and(|known| start_boottime > known);
        quiet && !came_later || start_boottime <= self.late_start
    }

    /// Whether a process began while contact was lost.
    fn began_unwatched(&self, start_boottime: u64, quiet: bool) -> bool {
        self.seen_until.is_some_and(|seen| start_boottime > seen)
            && self.arrival.map_or(quiet, |arrival| start_boottime <= arrival)
    }
}
