//! Rows of kernel modules. The module [`super::modules`] finds them.

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::module::{
    MODULE_BUILD_ID_BYTES, Module, ModuleStage, ModuleStructure,
};
use panoptes_decoders::source::PAGE_BYTES;
use panoptes_tables::{Index, Rows, Span};

use super::snapshot::ProcessRow;

/// Maximum number of modules. A distribution's kernel loads 100 to 300.
pub const MODULES_MAX: usize = 1024;
/// Maximum number of users of modules, all modules together.
pub(super) const USES_MAX: usize = 4096;
/// Bytes of a section's name that are read.
pub(super) const SECTION_NAME_BYTES: usize = 32;
/// Maximum number of sections, all modules together.
const SECTION_ROWS_MAX: usize = 64 << 10;
/// Maximum number of threads that load or unload a module in one scan.
const LOADERS_MAX: usize = 8;

/// `LIST_POISON1` (include/linux/poison.h) of x86-64 and arm64: what `list_del` leaves in a link.
const LIST_POISON1: KernelVa = KernelVa(0xdead_0000_0000_0100);

/// The views that show a module, as bits.
pub mod module_view {
    /// The list of modules.
    pub const LIST: u16 = 1;
    /// The tree of the memory of modules.
    pub const TREE: u16 = 1 << 1;
    /// The directory /sys/module.
    pub const KSET: u16 = 1 << 2;
}

/// A set of views of modules: bits of [`module_view`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ModuleViews(pub u16);

impl ModuleViews {
    pub const NONE: Self = Self(0);

    /// Whether the set has no view.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The views in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The views that are not in the other set.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set has one of these [`module_view`]s.
    pub const fn has(self, views: u16) -> bool {
        self.0 & views != 0
    }

    pub(super) const fn add(&mut self, views: u16) {
        self.0 |= views;
    }
}

/// A module's build id, if it is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ModuleBuildId {
    bytes: [u8; MODULE_BUILD_ID_BYTES],
    length: u8,
}

impl ModuleBuildId {
    /// An id of these bytes, as far as there is room.
    pub fn new(id: &[u8]) -> Self {
        let mut bytes = [0; MODULE_BUILD_ID_BYTES];
        bytes.iter_mut().zip(id).for_each(|(to, from)| *to = *from);
        Self { bytes, length: id.len().min(MODULE_BUILD_ID_BYTES) as u8 }
    }

    /// Its bytes; none if it is unknown.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&[])
    }
}

/// One kernel module.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModuleRow {
    /// `struct module *`
    pub address: KernelVa,
    pub module: Module,
    /// The views that show it; one at least.
    pub views: ModuleViews,
    /// Views that a torn copy may show without it, although they had it.
    pub unproven: ModuleViews,
    /// A hash of its source; empty if it has none, or none that can be read.
    pub source_version: ArrayString<40>,
    /// Its own version; empty if it has none.
    pub version: ArrayString<64>,
    pub build_id: ModuleBuildId,
    /// The modules that use it, in [`ModuleScan::holders`].
    pub holders: Span<Index<Self>>,
}

impl ModuleRow {
    /// The views that must show it. The kernel adds a module to the list and to the tree at once,
    /// and to /sys/module before it is live (`load_module`, kernel/module/main.c).
    pub fn must_show(&self) -> ModuleViews {
        let is_live = self.module.stage == ModuleStage::Live;
        let object = if is_live { module_view::KSET } else { 0 };
        ModuleViews(module_view::LIST | module_view::TREE | object).without(self.unproven)
    }

    /// The complete views that must show it and do not.
    pub fn missing(&self, complete: ModuleViews) -> ModuleViews {
        self.must_show().and(complete).without(self.views)
    }

    /// Leaves, of the views that must show it, those that somebody took it out of, as its own links
    /// prove. In a copy that may be torn, nothing else does: what shows the module may have been
    /// copied before an unload, or after a load.
    ///
    /// An unload leaves the link in the list as it is (`list_del_rcu`). It takes the object out of
    /// /sys/module when the module is not live any more: a live state in the same page excludes it.
    pub(super) fn note_tears(&mut self, layout: &ModuleStructure) {
        let [list, object] =
            [layout.list, layout.kobj_entry].map(|field| self.address.plus(field.offset.into()));
        let mut proven = 0;
        if leads_nowhere(self.module.next, list) {
            proven |= module_view::LIST;
        }
        let has_state_beside = self.address.0 / PAGE_BYTES == object.0 / PAGE_BYTES;
        if has_state_beside && leads_nowhere(self.module.kobject_entry[0], object) {
            proven |= module_view::KSET;
        }
        self.unproven = ModuleViews(!proven);
    }
}

/// Whether a link is one that `list_del`, `list_del_init` or something worse has changed. Before a
/// module is loaded, its links are null.
fn leads_nowhere(next: KernelVa, own: KernelVa) -> bool {
    let is_kernel = next.is_null() || next.is_plausible();
    next == own || next == LIST_POISON1 || !is_kernel
}

/// A section of a module.
#[derive(Clone, Copy, Debug)]
pub struct ModuleSection {
    pub module: Index<ModuleRow>,
    /// Name, padded with NULs.
    pub name: [u8; SECTION_NAME_BYTES],
    pub address: u64,
}

/// A thread that is in a system call that loads or unloads a module.
#[derive(Clone, Copy, Debug)]
pub struct ModuleLoader {
    pub process: Index<ProcessRow>,
    pub thread_id: u32,
    pub is_unload: bool,
}

/// What a scan has read of modules.
#[derive(Debug)]
pub struct ModuleScan {
    /// Modules that a view shows. Only a scan that [`Self::is_fresh`] has any.
    pub rows: Rows<ModuleRow>,
    /// Users of modules, grouped by the module that they use, if the scan reads them.
    pub holders: Rows<Index<ModuleRow>>,
    /// Sections, grouped by module, if the scan reads them and [`super::Walker::with_sections`] has
    /// made room.
    pub sections: Rows<ModuleSection>,
    /// The views that were followed to their ends, so that absence from them is meaningful.
    pub complete: ModuleViews,
    /// The views that were not, although the kernel has them.
    pub stopped: ModuleViews,
    /// Whether the scan has read the modules.
    pub is_fresh: bool,
    /// Whether no module was loaded or unloaded meanwhile, as far as the kernel's lock, list and
    /// counter of changes show.
    pub quiet: bool,
    /// Number of successive scans that have read modules and found the lock held.
    pub busy_scans: u32,
    pub users: ArrayVec<ModuleLoader, LOADERS_MAX>,
}

impl Default for ModuleScan {
    fn default() -> Self {
        Self {
            rows: Rows::with_capacity(MODULES_MAX),
            holders: Rows::with_capacity(USES_MAX),
            sections: Rows::with_capacity(0),
            complete: ModuleViews::NONE,
            stopped: ModuleViews::NONE,
            is_fresh: false,
            quiet: false,
            busy_scans: 0,
            users: ArrayVec::new(),
        }
    }
}

impl ModuleScan {
    /// The modules that use a module.
    pub fn holders_of(&self, row: &ModuleRow) -> impl Iterator<Item = &ModuleRow> {
        self.holders.range(row.holders).iter().filter_map(|&holder| self.rows.at(holder))
    }

    pub(super) fn add_room_for_sections(&mut self) {
        self.sections = Rows::with_capacity(SECTION_ROWS_MAX);
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.holders.clear();
        self.sections.clear();
        (self.complete, self.stopped) = (ModuleViews::NONE, ModuleViews::NONE);
        (self.is_fresh, self.quiet, self.busy_scans) = (false, false, 0);
        self.users.clear();
    }
}
