//! Kernel modules: which ones were loaded, unloaded and changed, and which ones a view hides.
//!
//! A module is its address, its name and its directory in sysfs. Only a scan that has read modules
//! says something about them ([`crate::walk::ModuleScan::is_fresh`]). The rules:
//!
//! * A module is *loaded* once, when the kernel's list has it and its memory is set up. Those that
//!   the first read shows are the baseline. It is *unloaded* when no view has it any more. One that
//!   leaves the list while another view still has it is not unloaded but a suspect.
//! * A module that is loaded anew between two scans, in the same place, is unloaded and loaded. It
//!   has another directory or another name, or is at an earlier stage than it was.
//! * A module *changes* if it lives before and after, and its name, code, marks or identity differ.
//!   `/proc/modules` does not show a module that is not set up. So that is a change too if it has
//!   lived and stays like that for a while.
//! * A module is *hidden* if a complete view that must show it lacks it in several reads. The
//!   kernel adds modules to its list and its tree, and removes them, while it holds `module_mutex`
//!   (kernel/module/main.c). So two reads suffice in which nobody held it and neither changed. With
//!   other reads it takes eight, over a second of the machine's own clock. Those in which somebody
//!   holds it do not count for a module that does not live: it may be on its way.
//!
//! Not here: how the views are read (`walk::modules`), and which records follow (`policy`).

mod hidden;

use core::cell::Cell;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::module::ModuleStage;
use panoptes_tables::{HashKey, Key, Row, RowId, ScanNumber, Table};

use super::MachineState;
use super::change::Change;
use super::emit::Update;
pub use super::module_facts::{ModuleChange, ModuleFacts};
use super::process::Process;
use crate::loss::Loss;
use crate::time::{Monotonic, SECOND_NS};
use crate::walk::{ModuleRow, ModuleScan, ModuleViews, Snapshot, module_view};
use hidden::{HiddenModule, ModuleRead};

/// Maximum number of modules that are tracked. A machine with every driver of a distribution in use
/// has some 250.
pub(super) const MODULES_TRACKED_MAX: usize = 512;
/// How long a module that has lived may seem not to be set up, before that is a change.
const UNFORMED_NS: i64 = SECOND_NS;
/// Number of reads without a module, if not all views are complete, after which it was unloaded.
const ABSENT_READS_MAX: u8 = 3;
/// Number of reads after which the baseline is complete although no list was.
const BEGINNING_READS_MAX: u32 = 16;
/// How long a view may be incomplete, or the lock held while a module is suspected, before that is
/// a gap.
const BLOCKED_NS: i64 = 10 * SECOND_NS;

/// The key of a module: the address of its `struct module`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ModuleKey(u64);

impl Key for ModuleKey {
    fn hash(&self, key: HashKey) -> u64 {
        key.hash_numbers([self.0])
    }
}

/// One module.
#[derive(Clone, Copy, Debug)]
pub struct TrackedModule {
    /// As it was last read.
    pub facts: ModuleFacts,
    /// `struct kernfs_node *` of its directory in sysfs; null until one was seen.
    directory: KernelVa,
    hidden: HiddenModule,
    /// The machine's clock when a read first showed it without a stage although it lived.
    unformed_ns: Option<i64>,
    /// Number of consecutive reads without it.
    absent_reads: u8,
    /// Whether its load was reported, or belongs to the baseline.
    is_announced: bool,
    /// Whether it lives, except for its stage at present.
    has_lived: bool,
}

const _: () = assert!(size_of::<Option<TrackedModule>>() <= 256);

impl Row for TrackedModule {
    type Key = ModuleKey;

    fn key(&self) -> ModuleKey {
        ModuleKey(self.facts.address.0)
    }
}

impl TrackedModule {
    fn new(facts: ModuleFacts, directory: KernelVa) -> Self {
        Self {
            facts,
            directory,
            hidden: HiddenModule::default(),
            unformed_ns: None,
            absent_reads: 0,
            is_announced: false,
            has_lived: facts.stage == ModuleStage::Live,
        }
    }

    /// Whether a read shows another load of a module in this one's place. The kernel may give it
    /// the same directory again.
    fn is_another(&self, facts: &ModuleFacts, directory: KernelVa) -> bool {
        use ModuleStage::{Coming, Going, Live, Unformed};
        let are_known = !self.directory.is_null() && !directory.is_null();
        let has_other_directory = are_known && self.directory != directory;
        let has_same_directory = are_known && self.directory == directory;
        let has_other_name = self.facts.name != facts.name && !has_same_directory;
        let begins_anew = match (self.facts.stage, facts.stage) {
            (Live | Going, Coming) | (Going, Live) => true,
            (Unformed, Coming | Live) => self.is_announced,
            // The kernel makes the directory before a module lives, and it stays until that ends.
            (Coming, Coming) => !self.directory.is_null() && directory.is_null(),
            _ => false,
        };
        has_other_directory || has_other_name || begins_anew
    }

    /// Takes the facts of one more read of the same module. Returns what has changed.
    fn refresh(
        &mut self,
        mut facts: ModuleFacts,
        directory: KernelVa,
        boot_ns: Option<i64>,
    ) -> ModuleChange {
        let before = self.facts;
        facts.keep_known(&before);
        let both_live = before.stage == ModuleStage::Live && facts.stage == ModuleStage::Live;
        let mut what =
            if both_live { facts.changes_since(&before) } else { ModuleChange::default() };
        if !directory.is_null() {
            self.directory = directory;
        }
        self.absent_reads = 0;
        if facts.stage == ModuleStage::Unformed && self.has_lived {
            self.unformed_ns = self.unformed_ns.or(boot_ns);
            let clocks = self.unformed_ns.zip(boot_ns);
            if clocks.is_some_and(|(since, now)| now.saturating_sub(since) >= UNFORMED_NS) {
                // Once only.
                self.has_lived = false;
                what.0 |= ModuleChange::STATE;
            }
        } else {
            self.unformed_ns = None;
            self.has_lived |= facts.stage == ModuleStage::Live;
        }
        self.facts = facts;
        what
    }

    /// Whether its load is to be reported now. A module without a stage is not set up yet.
    fn begins(&self) -> bool {
        let is_set_up = self.facts.stage != ModuleStage::Unformed;
        !self.is_announced && is_set_up && self.facts.views.has(module_view::LIST)
    }
}

/// The kernel modules of one machine.
#[derive(Debug)]
pub(super) struct Modules {
    table: Table<TrackedModule>,
    /// The modules and views that were not compared. No process is to blame.
    pub(super) lost: Loss,
    /// Number of modules that found no room in the last read.
    untracked: u32,
    /// Since when reads do not follow a view to its end, or find the lock held while a module is
    /// suspected.
    blocked_since: Option<Monotonic>,
    /// Whether that is a gap.
    is_blocked: bool,
    /// Number of reads until the baseline was complete.
    beginning_reads: u32,
    has_baseline: bool,
    /// Whether another read would confirm at once what is suspected.
    pub(super) waits: bool,
}

impl Modules {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            table: Table::new(MODULES_TRACKED_MAX, key.derive("state: kernel modules")),
            lost: Loss::default(),
            untracked: 0,
            blocked_since: None,
            is_blocked: false,
            beginning_reads: 0,
            has_baseline: false,
            waits: false,
        }
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.untracked = 0;
        self.blocked_since = None;
        (self.is_blocked, self.waits) = (false, false);
        (self.beginning_reads, self.has_baseline) = (0, false);
    }

    /// Notes which of the tracked modules a read shows.
    fn match_rows(&mut self, modules: &ModuleScan, scan: ScanNumber) {
        self.untracked = modules.rows.dropped;
        for row in modules.rows.as_slice() {
            if let Some(id) = self.table.find(&ModuleKey(row.address.0)) {
                self.table.see(id, scan);
            }
        }
    }

    /// The next module that a read proves to be gone, from a row on. It is removed.
    fn next_gone(
        &mut self,
        from: u32,
        modules: &ModuleScan,
        scan: ScanNumber,
    ) -> Option<(RowId, TrackedModule)> {
        let has_list = modules.complete.has(module_view::LIST);
        let has_all = has_list && modules.stopped.is_empty();
        for number in from..self.table.end() {
            let id = RowId(number);
            if self.table.last_seen(id) == Some(scan) {
                continue;
            }
            let Some(row) = self.table.get_mut(id) else { continue };
            row.absent_reads = row.absent_reads.saturating_add(u8::from(has_list));
            if has_all || row.absent_reads >= ABSENT_READS_MAX {
                return Some((id, self.table.remove(id)?));
            }
        }
        None
    }

    /// The row of a module, which is added if it is new, loaded or suspected, and if there is room.
    fn row_of(
        &mut self,
        facts: &ModuleFacts,
        directory: KernelVa,
        scan: ScanNumber,
    ) -> Option<RowId> {
        if let Some(id) = self.table.find(&ModuleKey(facts.address.0)) {
            return Some(id);
        }
        let new = TrackedModule::new(*facts, directory);
        if !new.begins() && facts.missing.is_empty() {
            return None;
        }
        let id = self.table.insert(new, scan);
        self.untracked = self.untracked.saturating_add(self.table.take_newcomers());
        id
    }

    /// Notes the end of a read: whether the baseline is complete, and what is in the way.
    fn end_read(&mut self, snapshot: &Snapshot, now: Monotonic) {
        let modules = &snapshot.modules;
        self.beginning_reads = self.beginning_reads.saturating_add(1);
        self.has_baseline |=
            modules.complete.has(module_view::LIST) || self.beginning_reads >= BEGINNING_READS_MAX;
        let rows = self.table.ids().filter_map(|id| self.table.get(id));
        let (mut is_suspected, mut waits) = (false, false);
        for row in rows {
            is_suspected |= !row.facts.missing.is_empty();
            waits |= row.hidden.waits();
        }
        // Another read of a copy shows nothing more.
        self.waits = waits && !snapshot.copied.is_copy();
        let is_locked = !modules.quiet && modules.busy_scans > 0;
        let is_blocked = !modules.stopped.is_empty() || is_locked && is_suspected;
        let since = self.blocked_since.filter(|_| is_blocked);
        self.blocked_since = is_blocked.then_some(since.unwrap_or(now));
        self.is_blocked = since.is_some_and(|since| now.since(since) >= BLOCKED_NS);
    }

    /// Counts what is not compared, as of the last read.
    fn count_losses(&mut self) {
        self.lost.begin_scan();
        self.lost.stand(u64::from(self.untracked) + u64::from(self.is_blocked), None);
    }
}

impl MachineState {
    /// The tracked kernel modules.
    pub fn modules(&self) -> impl Iterator<Item = &TrackedModule> {
        self.modules.table.ids().filter_map(|id| self.modules.table.get(id))
    }

    /// Compares the modules of a scan, if it has read them.
    pub(super) fn update_modules(&mut self, update: &mut Update<'_>) {
        let snapshot = update.snapshot;
        let modules = &snapshot.modules;
        if modules.is_fresh {
            let is_quiet = !self.modules.has_baseline && !self.settings.report_existing;
            self.modules.match_rows(modules, self.scan);
            let mut from = 0;
            while let Some((id, gone)) = self.modules.next_gone(from, modules, self.scan) {
                from = id.0 + 1;
                self.report_unloaded(&gone, update);
            }
            for row in modules.rows.as_slice() {
                if update.must_stop() {
                    return;
                }
                self.update_module(row, is_quiet, update);
            }
            self.modules.end_read(snapshot, update.now.monotonic);
        }
        self.modules.count_losses();
    }

    fn update_module(&mut self, row: &ModuleRow, is_quiet: bool, update: &mut Update<'_>) {
        let snapshot = update.snapshot;
        let at = ModuleRead::of(snapshot, update.now.real);
        let (facts, directory) = (ModuleFacts::read(row, at.complete), row.module.kobject_sd);
        let known = self.modules.table.find(&ModuleKey(row.address.0));
        let other = known.filter(|&id| {
            self.modules.table.get(id).is_some_and(|known| known.is_another(&facts, directory))
        });
        if let Some(gone) = other.and_then(|id| self.modules.table.remove(id)) {
            self.report_unloaded(&gone, update);
        }
        let Some(id) = self.modules.row_of(&facts, directory, self.scan) else { return };
        let Some(tracked) = self.modules.table.get_mut(id) else { return };
        let before = tracked.facts;
        let what = tracked.refresh(facts, directory, at.boot_ns);
        let begins = tracked.begins();
        tracked.is_announced |= begins;
        let hidden = tracked.hidden.note(&facts, &at);
        let tracked = &*tracked;
        if begins && !is_quiet {
            let module = &tracked.facts;
            let process = user_of((&self.processes, self.rows.as_slice()), snapshot, false);
            let mut emitter = update.emitter(&self.containers, &mut self.names);
            emitter.emit(&Change::ModuleLoaded { module, process });
        }
        if !what.is_empty() && tracked.is_announced {
            let mut emitter = update.emitter(&self.containers, &mut self.names);
            emitter.emit(&Change::ModuleChanged { module: &tracked.facts, before: &before, what });
        }
        if let Some(missing) = hidden {
            self.report_hidden_module(id, missing, update);
        }
    }

    /// Reports that a module is gone, unless its load was not reported either.
    fn report_unloaded(&mut self, gone: &TrackedModule, update: &mut Update<'_>) {
        if !gone.is_announced {
            return;
        }
        let rows = self.rows.as_slice();
        let process = user_of((&self.processes, rows), update.snapshot, true);
        let mut emitter = update.emitter(&self.containers, &mut self.names);
        emitter.emit(&Change::ModuleUnloaded { module: &gone.facts, process });
    }

    /// Reports that views hide a module; the next read does so again if that is not accepted.
    fn report_hidden_module(&mut self, id: RowId, missing: ModuleViews, update: &mut Update<'_>) {
        let Some(tracked) = self.modules.table.get_mut(id) else { return };
        let HiddenModule { reads, since, reported, .. } = tracked.hidden;
        let is_accepted = &Cell::new(true);
        let module = &tracked.facts;
        let mut emitter = update.emitter(&self.containers, &mut self.names);
        emitter.emit(&Change::ModuleHidden {
            module,
            missing,
            shown: module.views,
            scans: u32::from(reads.max(1)),
            since_ns: since,
            is_accepted,
        });
        if is_accepted.get() {
            tracked.hidden.reported = ModuleViews(reported.0 | missing.0);
        }
    }
}

/// The process that loads modules in this scan, or unloads them, if it is the only one. Processes
/// come with the row of each one of the scan.
fn user_of<'a>(
    (processes, rows): (&'a Table<Process>, &[Option<RowId>]),
    snapshot: &Snapshot,
    is_unload: bool,
) -> Option<&'a Process> {
    let users = snapshot.modules.users.iter().filter(|user| user.is_unload == is_unload);
    let mut positions = users.map(|user| user.process.position());
    let first = positions.next()?;
    if positions.any(|position| position != first) {
        return None;
    }
    let id = rows.get(first).copied().flatten()?;
    processes.get(id).filter(|process| process.life.is_announced())
}
