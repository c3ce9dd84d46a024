//! Owners of executable memory.
//!
//! The kernel's own text and the text of the modules that the list has are known before a round;
//! steps of the round add the rest.

use panoptes_decoders::address::KernelVa;
use panoptes_tables::room;

use crate::walk::{MODULES_MAX, ModuleScan, module_view};

/// Maximum number of ranges: those of modules, of BPF programs and of trampolines.
const CODE_RANGES_MAX: usize = 4096;
/// Number of ranges that may begin before an address and contain it.
const NESTED_MAX: usize = 4;

/// Owner of executable memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Owner {
    /// The kernel's own text.
    Kernel,
    /// A module that the list has: its `struct module *`.
    Module(KernelVa),
    /// A BPF program's image, or a trampoline of BPF.
    Bpf,
    /// A trampoline or slot of ftrace, kprobes or static calls.
    Trampoline,
    /// Other memory that the kernel makes executable by itself.
    System,
    #[default]
    Nobody,
}

/// A range of executable memory with its owner.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CodeRange {
    pub start: u64,
    /// In bytes.
    pub size: u32,
    pub owner: Owner,
}

/// A range with its owner as a number: there are many.
#[derive(Clone, Copy, Debug)]
struct StoredRange {
    start: u64,
    size: u32,
    owner: u32,
}

/// Numbers of owners. Modules have the numbers behind them.
const BPF: u32 = 0;
const TRAMPOLINE: u32 = 1;
const SYSTEM: u32 = 2;
const FIRST_MODULE: u32 = 3;

/// Owners of executable memory, by address. The default one has room for none.
#[derive(Debug, Default)]
pub struct Owners {
    text: core::ops::Range<u64>,
    /// Sorted by their starts, once [`Self::sort`] was called.
    ranges: Vec<StoredRange>,
    /// `struct module *` of each owner that is a module.
    modules: Vec<KernelVa>,
    /// Whether a range found no room.
    is_full: bool,
}

impl Owners {
    pub(super) fn new() -> Self {
        Self {
            text: 0..0,
            ranges: room::list(CODE_RANGES_MAX),
            modules: room::list(MODULES_MAX),
            is_full: false,
        }
    }

    /// Begins with the kernel's text and the text of the modules that the list has.
    pub(super) fn begin(&mut self, text: core::ops::Range<u64>, modules: &ModuleScan) {
        self.text = text;
        self.ranges.clear();
        self.modules.clear();
        self.is_full = false;
        for row in modules.rows.iter().filter(|row| row.views.has(module_view::LIST)) {
            let owner = Owner::Module(row.address);
            for part in [row.module.text(), row.module.init_text()] {
                self.add(CodeRange { start: part.base.0, size: part.size, owner });
            }
        }
        self.sort();
    }

    /// Adds a range. [`Self::sort`] must follow before the next question.
    pub(super) fn add(&mut self, range: CodeRange) {
        let CodeRange { start, size, .. } = range;
        if size == 0 {
            return;
        }
        let Some(owner) = self.number_of(range.owner) else { return };
        if self.ranges.len() < CODE_RANGES_MAX {
            self.ranges.push(StoredRange { start, size, owner });
        } else {
            self.is_full = true;
        }
    }

    /// The number of an owner of a range; `None` if there is no room for it, or if it has none.
    fn number_of(&mut self, owner: Owner) -> Option<u32> {
        match owner {
            Owner::Kernel | Owner::Nobody => None,
            Owner::Bpf => Some(BPF),
            Owner::Trampoline => Some(TRAMPOLINE),
            Owner::System => Some(SYSTEM),
            Owner::Module(module) => {
                if self.modules.last() != Some(&module) {
                    if self.modules.len() == MODULES_MAX {
                        self.is_full = true;
                        return None;
                    }
                    self.modules.push(module);
                }
                Some(FIRST_MODULE + self.modules.len() as u32 - 1)
            }
        }
    }

    /// The module with a number, of those that own memory.
    pub(super) fn module(&self, number: usize) -> Option<KernelVa> {
        self.modules.get(number).copied()
    }

    fn owner_with(&self, number: u32) -> Owner {
        match number {
            BPF => Owner::Bpf,
            TRAMPOLINE => Owner::Trampoline,
            SYSTEM => Owner::System,
            module => {
                let module = self.modules.get((module - FIRST_MODULE) as usize);
                module.map_or(Owner::Nobody, |&module| Owner::Module(module))
            }
        }
    }

    /// Forgets what steps of a round have added.
    pub(super) fn forget_all_but_modules(&mut self) {
        self.ranges.retain(|range| range.owner >= FIRST_MODULE);
    }

    /// Sorts what was added.
    pub(super) fn sort(&mut self) {
        self.ranges.sort_unstable_by_key(|range| range.start);
    }

    /// Whether ranges found no room, so that memory without an owner may have one.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// The owner of the byte at an address.
    pub fn owner_of(&self, address: KernelVa) -> Owner {
        if self.text.contains(&address.0) {
            return Owner::Kernel;
        }
        self.range_of(address).map_or(Owner::Nobody, |range| range.owner)
    }

    /// The innermost range that an address is in; never the kernel's text.
    pub(super) fn range_of(&self, address: KernelVa) -> Option<CodeRange> {
        let after = self.ranges.partition_point(|range| range.start <= address.0);
        // Ranges may be nested: a slot in an area.
        let before = self.ranges.get(after.saturating_sub(NESTED_MAX)..after)?;
        let is_in = |range: &&StoredRange| address.0 - range.start < u64::from(range.size);
        before.iter().rev().find(is_in).map(|range| self.range(range))
    }

    /// The first range that begins at an address or behind it.
    pub(super) fn next_from(&self, address: u64) -> Option<CodeRange> {
        let at = self.ranges.partition_point(|range| range.start < address);
        self.ranges.get(at).map(|range| self.range(range))
    }

    fn range(&self, stored: &StoredRange) -> CodeRange {
        let StoredRange { start, size, owner } = *stored;
        CodeRange { start, size, owner: self.owner_with(owner) }
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::kernel::module::Module;

    use super::*;
    use crate::walk::{ModuleRow, ModuleViews};

    #[test]
    fn the_innermost_range_owns_an_address() {
        let mut owners = Owners::new();
        let mut modules = ModuleScan::default();
        let mut module = Module::default();
        module.parts[0].base = KernelVa(0x5000);
        module.parts[0].size = 0x1000;
        let views = ModuleViews(module_view::LIST);
        let row = ModuleRow { address: KernelVa(1), module, views, ..ModuleRow::default() };
        modules.rows.push(row);
        owners.begin(0x1000..0x2000, &modules);
        let range = |start, size, owner| CodeRange { start, size, owner };
        owners.add(range(0x3000, 0x1000, Owner::System));
        owners.add(range(0x3100, 0x100, Owner::Bpf));
        owners.sort();
        let owner = |at| owners.owner_of(KernelVa(at));
        assert_eq!(owner(0x1fff), Owner::Kernel);
        assert_eq!(owner(0x2000), Owner::Nobody);
        assert_eq!(owner(0x3100), Owner::Bpf);
        assert_eq!(owner(0x3200), Owner::System);
        assert_eq!(owner(0x5fff), Owner::Module(KernelVa(1)));
        assert_eq!(owner(0x6000), Owner::Nobody);
    }

    #[test]
    fn a_module_that_the_list_lacks_owns_nothing() {
        let mut owners = Owners::new();
        let mut modules = ModuleScan::default();
        let mut module = Module::default();
        module.parts[0].base = KernelVa(0x5000);
        module.parts[0].size = 0x1000;
        let views = ModuleViews(module_view::TREE);
        let row = ModuleRow { address: KernelVa(1), module, views, ..ModuleRow::default() };
        modules.rows.push(row);
        owners.begin(0..0, &modules);
        assert_eq!(owners.owner_of(KernelVa(0x5000)), Owner::Nobody);
    }
}
