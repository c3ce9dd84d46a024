//! Kernel modules, as three views show them: the list, the tree of their memory, and /sys/module.
//!
//! Every whole scan reads them. The others do so only if the head of the list, or the tree's
//! counter of changes, differs from the last read, or if that found something unsettled. So a scan
//! sees a module in the moment when it is loaded, and most scans read a few words.
//!
//! A read begins with the modules of the last one, all in one batch. It then follows the views over
//! these rows ([`super::module_views`]), and reads alone only what is new.
//!
//! Not here: which module is hidden. That takes several reads, and knows the rules of the kernel's
//! lock. A kernel without symbols has a way to its modules, too ([`super::module_seeds`]).

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::module::{Module, ModuleLayouts, ModuleStage};
use panoptes_decoders::kernel::mutex::holder_of;
use panoptes_decoders::layout::{PackedField, View, u64_at};
use panoptes_tables::{AddressMap, HashKey, Insertion, room};

use super::copied::MemoryCopyMode;
use super::losses::WalkedStructure;
use super::machine_row::ModuleMarks;
use super::module_loaders::THREADS_ASKED_MAX;
use super::module_rows::{MODULES_MAX, ModuleRow, ModuleScan, ModuleViews, USES_MAX, module_view};
use super::snapshot::{Index, ThreadRow};
use super::{Kernel, ScannedMemory, Scope, Walker, fetch};
use crate::address::MemoryReader;

/// Number of successive scans that read modules because the last read found something unsettled:
/// one that is being loaded or unloaded, or that a view lacks. After them, whole scans do.
const UNSETTLED_SCANS_MAX: u32 = 64;
/// Maximum number of objects of /sys/module that are no modules: parameters of the kernel's parts.
pub(super) const KSET_OTHERS_MAX: usize = 1024;
/// Number of objects that a read may read alone. Each costs some rounds: one, and one for each
/// level of page tables. The next read knows them. The tree shows what is new without that.
const LONE_ROUNDS_MAX: u32 = 64;
/// The same of the first read, which may know none.
const FIRST_LONE_ROUNDS_MAX: u32 = (MODULES_MAX + KSET_OTHERS_MAX) as u32;
/// The row of a module that was found and not yet read.
const NO_ROW: u32 = u32::MAX;

/// Places of modules that scans of a system remember.
#[derive(Debug)]
pub(super) struct KnownModules {
    /// `struct module *` of the last read.
    addresses: Vec<KernelVa>,
    /// Links of the objects of /sys/module that are no modules.
    pub(super) others: Vec<KernelVa>,
    /// The list of modules, where no symbol shows it; null while unknown.
    pub(super) list: KernelVa,
    /// Scans since that was looked for; 0 if the next one does so.
    pub(super) seeds_age: u32,
    /// The marks at the beginning of the last read.
    marks: ModuleMarks,
    is_read: bool,
    /// Number of successive reads that found something unsettled.
    unsettled: u32,
    /// Number of successive reads that found the lock held.
    busy_scans: u32,
    /// The end of the registers in a kernel stack, once it is known.
    pub(super) stack_end: Option<u32>,
}

impl KnownModules {
    pub(super) fn new() -> Self {
        Self {
            addresses: room::list(MODULES_MAX),
            others: room::list(KSET_OTHERS_MAX),
            list: KernelVa::NULL,
            seeds_age: 0,
            marks: ModuleMarks::default(),
            is_read: false,
            unsettled: 0,
            busy_scans: 0,
            stack_end: None,
        }
    }

    pub(super) fn forget(&mut self) {
        self.addresses.clear();
        self.others.clear();
        (self.list, self.seeds_age) = (KernelVa::NULL, 0);
        (self.is_read, self.unsettled, self.busy_scans) = (false, 0, 0);
        self.stack_end = None;
    }

    /// The head of the list of modules; null while it is unknown.
    pub(super) fn list(&self, kernel: &Kernel) -> KernelVa {
        let symbol = kernel.roots.modules;
        if symbol.is_null() { self.list } else { symbol }
    }

    /// Whether the modules with these marks differ from those of the last read, or may soon.
    fn must_read(&self, marks: &ModuleMarks) -> bool {
        !self.is_read
            || !self.marks.is_unchanged(marks)
            || (1..UNSETTLED_SCANS_MAX).contains(&self.unsettled)
    }
}

/// What reads of modules use. Nothing but the known ones has a meaning after a read.
#[derive(Debug)]
pub(super) struct ModuleWalk {
    pub(super) known: KnownModules,
    /// The number of the row of each module, or [`NO_ROW`].
    index: AddressMap,
    /// Modules to be read.
    pub(super) wanted: Vec<KernelVa>,
    /// Objects of /sys/module that are no modules: positions in `other_links`, by their links.
    pub(super) others: AddressMap,
    /// The links behind these; null where the object is none any more.
    pub(super) other_links: Vec<KernelVa>,
    /// Those of them that the directory has.
    pub(super) shown_others: Vec<KernelVa>,
    /// Links of uses of modules, with the modules that are used, and those behind them.
    pub(super) links: Vec<(Index<ModuleRow>, KernelVa)>,
    pub(super) more_links: Vec<(Index<ModuleRow>, KernelVa)>,
    /// Modules, each with one that uses it.
    pub(super) uses: Vec<(Index<ModuleRow>, Index<ModuleRow>)>,
    /// Threads that are asked for their system calls.
    pub(super) asked: Vec<Index<ThreadRow>>,
    /// Number of objects that may still be read alone.
    lone_reads_left: u32,
    /// The first module that a view shows and that is none.
    undecoded: Option<KernelVa>,
}

impl ModuleWalk {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            known: KnownModules::new(),
            index: AddressMap::new(3 * MODULES_MAX, key.derive("walk: modules")),
            wanted: room::list(MODULES_MAX),
            others: AddressMap::new(KSET_OTHERS_MAX, key.derive("walk: module objects")),
            other_links: room::list(KSET_OTHERS_MAX),
            shown_others: room::list(KSET_OTHERS_MAX),
            links: room::list(MODULES_MAX),
            more_links: room::list(MODULES_MAX),
            uses: room::list(USES_MAX),
            asked: room::list(THREADS_ASKED_MAX),
            lone_reads_left: 0,
            undecoded: None,
        }
    }

    fn begin(&mut self) {
        let is_first = !self.known.is_read;
        self.lone_reads_left = if is_first { FIRST_LONE_ROUNDS_MAX } else { LONE_ROUNDS_MAX };
        self.undecoded = None;
        self.index.clear();
        self.wanted.clear();
    }

    /// The row of a module, if it has one.
    pub(super) fn row_of(&self, address: KernelVa) -> Option<Index<ModuleRow>> {
        self.index.get(address.0).filter(|&row| row != NO_ROW).and_then(Index::from_number)
    }

    /// Notes that a view shows the module at an address, which is read later if it has no row.
    pub(super) fn note_view(
        &mut self,
        scan: &mut ModuleScan,
        address: KernelVa,
        view: u16,
    ) -> Result<(), EarlyStop> {
        match self.index.insert(address.0, NO_ROW) {
            Insertion::Old(row) => {
                if let Some(row) = scan.rows.at_mut(Index::from_number(row)) {
                    row.views.add(view);
                }
                Ok(())
            }
            Insertion::New if self.wanted.len() < self.wanted.capacity() => {
                self.wanted.push(address);
                Ok(())
            }
            Insertion::New | Insertion::Full => {
                Err(EarlyStop::NoRoom { rows: self.wanted.len() as u32 })
            }
        }
    }

    /// Makes the row of a module that has none.
    fn add(
        &mut self,
        scan: &mut ModuleScan,
        (address, module): (KernelVa, &Module),
        view: u16,
    ) -> Result<Index<ModuleRow>, EarlyStop> {
        let views = ModuleViews(view);
        let row = ModuleRow { address, module: *module, views, ..ModuleRow::default() };
        let row = scan.rows.push(row).ok_or(EarlyStop::NoRoom { rows: MODULES_MAX as u32 })?;
        if self.index.insert(address.0, row.number()) != Insertion::New {
            self.index.set(address.0, row.number());
        }
        Ok(row)
    }

    /// Counts an object that is read alone.
    pub(super) fn take_lone_read(&mut self) -> Result<(), EarlyStop> {
        let left = self.lone_reads_left.checked_sub(1);
        self.lone_reads_left = left.ok_or(EarlyStop::TooLong { limit: LONE_ROUNDS_MAX })?;
        Ok(())
    }
}

/// The layouts of modules, if the kernel has any.
pub(crate) fn module_layouts(layouts: &Layouts) -> Option<ModuleLayouts<'_>> {
    Some(ModuleLayouts {
        module: layouts.module.as_ref()?,
        layout: layouts.module_layout.as_ref(),
        memory: layouts.module_memory.as_ref(),
    })
}

/// Adds the marks of modules to a batch: the head of the list, the tree's counter, the lock.
pub(crate) fn push_module_marks(
    reader: &mut MemoryReader,
    kernel: &Kernel,
    list: KernelVa,
) -> [Option<u32>; 3] {
    let (layouts, space, roots) = (&kernel.layouts, &kernel.space, &kernel.roots);
    let tree = layouts.mod_tree_root.as_ref().map(|layout| layout.packing).unwrap_or_default();
    let mutex = layouts.mutex.as_ref().map(|layout| layout.packing).unwrap_or_default();
    [
        reader.push_bytes(space, list, 16),
        reader.push(space, roots.mod_tree, &tree),
        reader.push(space, roots.module_mutex, &mutex),
    ]
}

/// The marks that were added to a batch that has run.
pub(crate) fn take_module_marks(
    reader: &MemoryReader,
    kernel: &Kernel,
    pushed: [Option<u32>; 3],
) -> ModuleMarks {
    let layouts = &kernel.layouts;
    let [list, tree, mutex] = pushed.map(|pushed| reader.object(pushed? as usize));
    let seq = layouts.mod_tree_root.as_ref().and_then(|layout| layout.seq);
    let owner = layouts.mutex.as_ref().and_then(|layout| layout.owner);
    let number =
        |bytes: Option<&[u8]>, field: Option<PackedField>| Some(View::new(bytes?).unsigned(field?));
    ModuleMarks {
        list: list.map(|bytes| [u64_at(bytes, 0), u64_at(bytes, 8)]),
        seq: number(tree, seq).map(|seq| seq as u32),
        mutex: number(mutex, owner),
    }
}

impl ModuleMarks {
    /// Whether the list and the tree have not changed since these marks were read.
    fn is_unchanged(&self, later: &Self) -> bool {
        (self.list, self.seq) == (later.list, later.seq)
    }

    /// Whether the lock was held; `None` if that is unknown.
    fn is_locked(&self) -> Option<bool> {
        self.mutex.map(|owner| !holder_of(owner).is_null())
    }
}

/// How following a view ended; `None` if the kernel has no such view.
type ViewEnd = Option<Result<(), EarlyStop>>;

impl Walker {
    /// Makes room for the sections of modules, for scans that read them.
    #[must_use]
    pub fn with_sections(mut self) -> Self {
        self.snapshot.modules.add_room_for_sections();
        self
    }

    /// Whether this scan must read the modules even if it is none that reads everything.
    pub(super) fn must_read_modules(&self, kernel: &Kernel) -> bool {
        let known = &self.modules.known;
        kernel.layouts.module.is_some()
            && !known.list(kernel).is_null()
            && known.must_read(&self.snapshot.machine.module_marks)
    }

    /// Fills the rows of modules, in whole scans and where something has changed.
    pub(super) fn read_modules(&mut self, memory: &mut ScannedMemory<'_>, scope: Scope) {
        let kernel = memory.kernel;
        let is_due = !self.snapshot.is_light || self.must_read_modules(kernel);
        if kernel.layouts.module.is_none() || !is_due {
            return;
        }
        let list = self.find_module_list(memory);
        if list.is_null() {
            return;
        }
        let before = self.read_module_marks(memory, list);
        let Some([first, _]) = before.list else {
            self.snapshot.losses.miss(WalkedStructure::ModuleList, list);
            return;
        };
        self.modules.begin();
        self.read_known_modules(memory);
        let tree = self.read_module_tree(memory);
        let listed = self.follow_module_list(memory, (list, KernelVa(first)));
        let tree = tree.or_else(|| self.read_tree_of_modules(memory));
        let objects = self.read_module_objects(memory);
        let stops = self.note_ends([
            (module_view::LIST, WalkedStructure::ModuleList, Some(listed)),
            (module_view::TREE, WalkedStructure::ModuleTree, tree),
            (module_view::KSET, WalkedStructure::ModuleKset, objects),
        ]);
        self.recheck_modules(memory);
        self.ignore_module_tears(kernel);
        let after = self.read_module_marks(memory, list);
        if memory.is_stopped() {
            self.snapshot.modules.clear();
            return;
        }
        let is_unchanged = before.is_unchanged(&after);
        // What changed while it was followed ends early without a loss: the next scan reads it.
        if is_unchanged {
            for (structure, stop) in stops {
                self.snapshot.losses.stop(structure, stop);
            }
            if let Some(address) = self.modules.undecoded {
                self.snapshot.losses.miss(WalkedStructure::Module, address);
            }
        }
        let has_tree = module_layouts(&kernel.layouts)
            .is_some_and(|layouts| layouts.first_tree_node().is_some());
        let has_counter = before.seq.is_some() || !has_tree;
        let is_free = [before, after].iter().all(|marks| marks.is_locked() == Some(false));
        self.snapshot.modules.quiet = is_unchanged && has_counter && is_free;
        if self.has_loaders(&before) {
            self.find_module_loaders(memory);
        }
        self.end_read(before, is_unchanged);
        self.read_module_texts(memory);
        self.read_build_ids(memory);
        if scope.module_details {
            self.read_module_uses(memory);
            self.read_module_sections(memory);
        }
        self.snapshot.modules.is_fresh = true;
    }

    fn read_module_marks(&mut self, memory: &mut ScannedMemory<'_>, list: KernelVa) -> ModuleMarks {
        self.reader.clear();
        let pushed = push_module_marks(&mut self.reader, memory.kernel, list);
        memory.run(&mut self.reader);
        take_module_marks(&self.reader, memory.kernel, pushed)
    }

    /// Makes rows of the modules of the last read that still look like modules.
    fn read_known_modules(&mut self, memory: &mut ScannedMemory<'_>) {
        let ModuleWalk { known, wanted, .. } = &mut self.modules;
        wanted.extend_from_slice(&known.addresses);
        // There is room for them, and one that was unloaded is no loss.
        let _ = self.read_wanted_modules(memory, 0);
    }

    /// Makes rows of the listed modules, which a view shows. An error is the reason that one of
    /// them found no room.
    pub(super) fn read_wanted_modules(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        view: u16,
    ) -> Result<(), EarlyStop> {
        let Some(layouts) = module_layouts(&memory.kernel.layouts) else { return Ok(()) };
        let scan = &mut self.snapshot.modules;
        let walk = &mut self.modules;
        let wanted = core::mem::take(&mut walk.wanted);
        let mut all = Ok(());
        fetch(&mut self.reader, memory, &layouts.module.packing, &wanted, |index, bytes| {
            let address = wanted[index];
            match bytes.and_then(|bytes| Module::decode(&layouts, bytes)) {
                Some(module) => {
                    let added = walk.add(scan, (address, &module), view);
                    all = all.and(added.map(|_| ()));
                }
                None if view != 0 => walk.undecoded = walk.undecoded.or(Some(address)),
                None => {}
            }
        });
        walk.wanted = wanted;
        walk.wanted.clear();
        all
    }

    /// The row of the module at an address. A module without one is read.
    pub(super) fn module_row(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        address: KernelVa,
    ) -> Result<Index<ModuleRow>, EarlyStop> {
        if let Some(row) = self.modules.row_of(address) {
            return Ok(row);
        }
        let unreadable = EarlyStop::Unreadable { address };
        let layouts = module_layouts(&memory.kernel.layouts).ok_or(unreadable)?;
        self.modules.take_lone_read()?;
        self.reader.clear();
        self.reader.push(&memory.kernel.space, address, &layouts.module.packing);
        memory.run(&mut self.reader);
        let module = self.reader.object(0).and_then(|bytes| Module::decode(&layouts, bytes));
        let module = module.ok_or(unreadable)?;
        self.modules.add(&mut self.snapshot.modules, (address, &module), 0)
    }

    /// Notes which views were followed to their ends. Returns the reasons of the others.
    fn note_ends(
        &mut self,
        views: [(u16, WalkedStructure, ViewEnd); 3],
    ) -> ArrayVec<(WalkedStructure, EarlyStop), 3> {
        let scan = &mut self.snapshot.modules;
        let mut stops = ArrayVec::new();
        for (view, structure, end) in views {
            match end {
                Some(Ok(())) => scan.complete.add(view),
                Some(Err(stop)) => {
                    scan.stopped.add(view);
                    stops.push((structure, stop));
                }
                None => {}
            }
        }
        stops
    }

    /// Reads once more the modules that a view lacks. /sys/module has a lock of its own: a module
    /// may have been removed from it after it was read as a live one. What is no module any more
    /// was unloaded meanwhile.
    fn recheck_modules(&mut self, memory: &mut ScannedMemory<'_>) {
        let Some(layouts) = module_layouts(&memory.kernel.layouts) else { return };
        let scan = &mut self.snapshot.modules;
        let complete = scan.complete;
        let ModuleWalk { wanted, index: rows, .. } = &mut self.modules;
        wanted.clear();
        let suspects = scan.rows.iter().filter(|row| row.lacks(complete));
        wanted.extend(suspects.map(|row| row.address));
        let wanted = &*wanted;
        fetch(&mut self.reader, memory, &layouts.module.packing, wanted, |index, bytes| {
            let row = rows.get(wanted[index].0).and_then(Index::from_number);
            let Some(row) = scan.rows.at_mut(row) else { return };
            match bytes.and_then(|bytes| Module::decode(&layouts, bytes)) {
                Some(module) => row.module = module,
                None => row.views = ModuleViews::NONE,
            }
        });
    }

    /// In a copy that may be torn, lets the views lack what only the copy may have torn apart.
    fn ignore_module_tears(&mut self, kernel: &Kernel) {
        let Some(layout) = &kernel.layouts.module else { return };
        if self.snapshot.copied == MemoryCopyMode::PageByPage {
            for row in self.snapshot.modules.rows.as_mut_slice() {
                row.note_tears(layout);
            }
        }
    }

    /// Whether a thread may be loading or unloading a module, or was since the last read.
    fn has_loaders(&self, marks: &ModuleMarks) -> bool {
        let known = &self.modules.known;
        let rows = &self.snapshot.modules.rows;
        known.is_read && !known.marks.is_unchanged(marks)
            || rows.iter().any(|row| row.module.stage != ModuleStage::Live)
    }

    /// Drops the rows that no view shows, and notes what the next scans must know.
    fn end_read(&mut self, marks: ModuleMarks, is_unchanged: bool) {
        let ModuleWalk { known, index, .. } = &mut self.modules;
        let scan = &mut self.snapshot.modules;
        // A view that ended early may have the others.
        let keeps_all = !scan.stopped.is_empty();
        known.addresses.clear();
        let kept = scan.rows.iter().filter(|row| keeps_all || !row.views.is_empty());
        known.addresses.extend(kept.map(|row| row.address));
        scan.rows.retain(|row| !row.views.is_empty());
        index.clear();
        for (row, module) in scan.rows.indexed() {
            index.insert(module.address.0, row.number());
        }
        let complete = scan.complete;
        let is_settled =
            |row: &ModuleRow| row.module.stage == ModuleStage::Live && !row.lacks(complete);
        let is_settled = is_unchanged && scan.rows.iter().all(is_settled);
        let successive = if known.marks.is_unchanged(&marks) { known.unsettled } else { 0 };
        known.unsettled = if is_settled { 0 } else { successive.saturating_add(1) };
        let is_locked = marks.is_locked() == Some(true);
        known.busy_scans = if is_locked { known.busy_scans.saturating_add(1) } else { 0 };
        scan.busy_scans = known.busy_scans;
        (known.marks, known.is_read) = (marks, true);
    }
}

impl ModuleRow {
    /// Whether one of these views lacks it and must show it.
    fn lacks(&self, complete: ModuleViews) -> bool {
        !self.views.is_empty() && !self.missing(complete).is_empty()
    }
}

#[cfg(test)]
mod tests;
