//! Kernel modules, and how they come and go (kernel/module/main.c).
//!
//! A loaded module is in the list `modules`, its parts are in the tree of addresses
//! (`module_tree`), and its kobject is in `module_kset`. The list and the tree change under
//! `module_mutex`. A module is in the kset from its start to the begin of its end only.

use std::collections::BTreeMap;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::module::ModuleStructure;
use panoptes_decoders::source::PAGE_BYTES;

use crate::machine::Machine;
use crate::module_tree::{AreaSlots, SLOT_BYTES};
use crate::random::Random;

/// `enum module_state` (include/linux/module.h).
const LIVE: u32 = 0;
const COMING: u32 = 1;
const GOING: u32 = 2;
const UNFORMED: u32 = 3;
/// Parts of `enum mod_mem_type` (include/linux/module.h) that a module has here: all but
/// `MOD_INIT_RODATA`. All but the code have a page.
const PARTS: u32 = 6;
/// The first part that is freed when the module has started (`MOD_INIT_TEXT`).
const FIRST_INIT: u32 = 4;
/// Pages of a module beside its code: data, constants, and what is constant after the start.
const PAGES_WITHOUT_CODE: u32 = 3;
const PAGE: u32 = PAGE_BYTES as u32;
/// Where `struct module` begins in the data of a module.
const STRUCTURE_AT: u64 = 64;
/// What Singularity leaves in the list pointers of a module that it has hidden.
const SINGULARITY: u64 = 0x3737_3731;
/// Number of objects of `module_kset` without a module: of code in the image.
const BUILT_IN: u32 = 3;

/// Where an attacker takes a module out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HideModule {
    /// The list `modules`, with `list_del`.
    List,
    /// Both halves of the tree of addresses.
    Tree,
    /// `module_kset`, with `kobject_del`.
    Kset,
}

/// What an attacker writes over in a module.
#[derive(Clone, Copy, Debug)]
pub enum ModuleChange {
    SourceVersion(&'static str),
    Taints(u64),
    /// What the check of its signature gave, if the kernel checks signatures.
    Signed(bool),
}

/// An area of a module.
#[derive(Clone, Debug)]
struct ModuleArea {
    /// `struct module_memory` or `struct module_layout` in its `struct module`.
    at: KernelVa,
    /// Where the module has it, and where the direct map has it.
    base: KernelVa,
    pages: KernelVa,
    bytes: u32,
    /// Whether it is freed when the module has started.
    is_init: bool,
}

/// A kernel module that is loaded.
#[derive(Clone, Debug)]
pub struct Module {
    pub name: String,
    /// `struct module *`
    pub address: KernelVa,
    /// Where its code begins.
    pub text: KernelVa,
    /// Bytes, as /proc/modules has them when it has started.
    pub bytes: u32,
    pub source_version: String,
    pub build_id: [u8; 20],
    /// Names of the modules that use it.
    pub holders: Vec<String>,
    /// Its sections with their addresses.
    pub sections: Vec<(&'static str, KernelVa)>,
    areas: Vec<ModuleArea>,
    /// Objects that end with it, and their bytes.
    objects: Vec<(KernelVa, u32)>,
    /// `struct kernfs_node` of its folder.
    folder: KernelVa,
    is_hidden_from: Vec<HideModule>,
}

/// The modules of a machine.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    loaded: BTreeMap<String, Module>,
    /// `struct module_use` of each use: of which module, by which.
    uses: Vec<(String, String, KernelVa)>,
    slots: AreaSlots,
    kset: KernelVa,
}

impl Machine {
    /// An empty list, a kset with the objects of built-in code, and so many modules. A kernel
    /// whose profile has no modules gets none.
    pub(crate) fn boot_modules(&mut self, count: u32) {
        let layouts = self.layouts();
        let (Some(list), Some(kset), Some(kobject), Some(set)) = (
            self.kernel.find("modules").filter(|_| layouts.module.is_some()),
            layouts.kset,
            layouts.module_kobject,
            self.kernel.find("module_kset"),
        ) else {
            return;
        };
        self.memory.list_init(list);
        self.modules.kset = self.memory.allocate(kset.size);
        let head = self.modules.kset.plus(kset.list.offset.into());
        self.memory.list_init(head);
        self.memory.put_word(set, self.modules.kset.0);
        for _ in 0..BUILT_IN {
            let object = self.memory.allocate(kobject.size);
            self.memory.list_add_tail(object.plus(kobject.entry.offset.into()), head);
        }
        for index in 0..count {
            self.load_module(&format!("module_{index}"), (4 + index % 8) * PAGE);
        }
    }

    /// The modules that are loaded, by name.
    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        self.modules.loaded.values()
    }

    /// A module by its name.
    ///
    /// Panics if it is not loaded.
    pub fn module(&self, name: &str) -> &Module {
        self.modules.loaded.get(name).unwrap_or_else(|| panic!("there is no module {name}"))
    }

    fn module_layout(&self) -> ModuleStructure {
        self.kernel.layouts.module.expect("the profile has modules")
    }

    /// Loads a module of so many bytes, rounded up to pages (`load_module`); returns its `struct
    /// module`. The same name makes the same module.
    pub fn load_module(&mut self, name: &str, bytes: u32) -> KernelVa {
        assert!(!self.modules.loaded.contains_key(name), "{name} is loaded");
        let layout = self.module_layout();
        let mut module = self.new_module(name, bytes);
        self.add_unformed(&module);
        self.fill_module(&mut module);
        self.lock_modules(self.init_task);
        self.memory.put(module.address, layout.state, COMING.into());
        self.lock_modules(KernelVa::NULL);
        self.add_kobject(&mut module);
        self.add_attributes(&mut module);
        // Its own function for the start runs here.
        self.memory.put(module.address, layout.state, LIVE.into());
        self.lock_modules(self.init_task);
        self.put_references(module.address, 0);
        let (init, core): (Vec<_>, Vec<_>) = module.areas.drain(..).partition(|area| area.is_init);
        module.areas = core;
        for area in &init {
            self.tree_remove(area.at);
        }
        for area in &init {
            self.put_area(area, KernelVa::NULL, 0);
        }
        self.lock_modules(KernelVa::NULL);
        self.free_areas(&init);
        let address = module.address;
        self.modules.loaded.insert(name.to_owned(), module);
        address
    }

    /// Its areas, with `struct module` in one of them (`layout_and_allocate`).
    fn new_module(&mut self, name: &str, bytes: u32) -> Module {
        let (layouts, layout) = (self.layouts(), self.module_layout());
        let pages = bytes.div_ceil(PAGE).max(PAGES_WITHOUT_CODE + 1);
        let seed = |sum: u64, byte: u8| sum.wrapping_mul(31).wrapping_add(byte.into());
        let mut random = Random::new(name.bytes().fold(7, seed));
        let code = (pages - PAGES_WITHOUT_CODE) * PAGE;
        let mut areas = Vec::new();
        let (text, data, constants) = if let (Some(memory), Some(parts)) =
            (layouts.module_memory, layout.mem)
        {
            for kind in 0..PARTS {
                let bytes = if kind == 0 { code } else { PAGE };
                let offset = parts.offset + kind * memory.size;
                areas.push(self.new_area(offset.into(), bytes, kind >= FIRST_INIT));
            }
            (areas[0].base, areas[1].base, areas[2].base)
        } else {
            let [core, init] = [layout.core_layout, layout.init_layout]
                .map(|field| u64::from(field.expect("the profile has areas of modules").offset));
            areas.push(self.new_area(core, pages * PAGE, false));
            areas.push(self.new_area(init, 2 * PAGE, true));
            let text = areas[0].base;
            let constants = text.plus(code.into());
            (text, constants.plus(2 * PAGE_BYTES), constants)
        };
        let address = data.plus(STRUCTURE_AT);
        assert!(STRUCTURE_AT + u64::from(layout.size) <= PAGE_BYTES, "it is larger than a page");
        for area in &mut areas {
            area.at = address.plus(area.at.0);
        }
        let mut build_id = [0; 20];
        build_id.fill_with(|| random.below(256) as u8);
        let sections = vec![
            (".data", data.plus(PAGE_BYTES / 2)),
            (".gnu.linkonce.this_module", address),
            (".note.gnu.build-id", constants),
            (".rodata", constants.plus(64)),
            (".text", text),
        ];
        Module {
            name: name.to_owned(),
            address,
            text,
            bytes: pages * PAGE,
            source_version: format!("{:023X}", random.next()),
            build_id,
            holders: Vec::new(),
            sections,
            areas,
            objects: Vec::new(),
            folder: KernelVa::NULL,
            is_hidden_from: Vec::new(),
        }
    }

    /// An area, mapped where modules are; its place is relative to `struct module` for now.
    fn new_area(&mut self, offset: u64, bytes: u32, is_init: bool) -> ModuleArea {
        assert!(u64::from(bytes) < SLOT_BYTES, "{bytes} bytes are too many for a module");
        let base = self.modules.slots.take();
        let pages = self.memory.allocate(bytes.next_power_of_two());
        let root = self.kernel.symbol("init_top_pgt");
        self.memory.map_area(root, base.0, pages, bytes.into());
        ModuleArea { at: KernelVa(offset), base, pages, bytes, is_init }
    }

    /// Stores an area's place and size in `struct module`.
    fn put_area(&mut self, area: &ModuleArea, base: KernelVa, bytes: u32) {
        let layouts = self.layouts();
        if let Some(memory) = &layouts.module_memory {
            self.memory.point(area.at, memory.base, base);
            self.memory.put(area.at, memory.bytes, bytes.into());
            return;
        }
        let Some(layout) = &layouts.module_layout else { return };
        // Code comes first, then constants, then what is constant after the start.
        let code = if area.is_init { bytes / 2 } else { bytes.saturating_sub(3 * PAGE) };
        let constant = if area.is_init { code } else { bytes.saturating_sub(2 * PAGE) };
        let later = if area.is_init { code } else { bytes.saturating_sub(PAGE) };
        self.memory.point(area.at, layout.base, base);
        self.memory.put(area.at, layout.bytes, bytes.into());
        self.memory.put(area.at, layout.text_size, code.into());
        self.memory.put(area.at, layout.ro_size, constant.into());
        self.memory.put_optional(area.at, layout.ro_after_init_size, later.into());
    }

    fn free_areas(&mut self, areas: &[ModuleArea]) {
        let root = self.kernel.symbol("init_top_pgt");
        for area in areas {
            self.memory.unmap_area(root, area.base.0, area.bytes.into());
            self.memory.release(area.pages, area.bytes.next_power_of_two());
            self.modules.slots.give_back(area.base);
        }
    }

    /// `module_mutex` gets an owner, a task; null frees it.
    pub fn lock_modules(&mut self, owner: KernelVa) {
        let field = self.kernel.layouts.mutex.and_then(|mutex| mutex.owner);
        if let (Some(mutex), Some(field)) = (self.kernel.find("module_mutex"), field) {
            self.memory.point(mutex, field, owner);
        }
    }

    /// `add_unformed_module`: nobody else can load one of that name from now on.
    fn add_unformed(&mut self, module: &Module) {
        let layout = self.module_layout();
        let (address, list) = (module.address, self.kernel.symbol("modules"));
        self.put_text(address, layout.name, &module.name);
        for area in &module.areas {
            self.put_area(area, area.base, area.bytes);
        }
        self.memory.put(address, layout.state, UNFORMED.into());
        self.lock_modules(self.init_task);
        self.memory.list_add(address.plus(layout.list.offset.into()), list);
        for area in &module.areas {
            self.tree_insert(area.at, address);
        }
        self.lock_modules(KernelVa::NULL);
    }

    /// What `load_module` sets before the module can start.
    fn fill_module(&mut self, module: &mut Module) {
        let layout = self.module_layout();
        let address = module.address;
        self.memory.put_optional(address, layout.sig_ok, 1);
        if let Some(uses) = layout.source_list {
            self.memory.list_init(address.plus(uses.offset.into()));
        }
        // The load of a module uses it until it has started.
        self.put_references(address, 1);
        if let Some(build_id) = layout.build_id {
            self.memory.write(address.plus(build_id.offset.into()), &module.build_id);
        }
        let text = module.source_version.clone();
        let text = self.text_of(module, &text);
        self.memory.point(address, layout.srcversion, text);
        let note = module.sections.iter().find(|(name, _)| *name == ".note.gnu.build-id");
        if let Some(&(_, at)) = note {
            // The header of a note: length of the name, length of the rest, `NT_GNU_BUILD_ID`.
            let mut bytes = Vec::new();
            for number in [4_u32, 20, 3] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(b"GNU\0");
            bytes.extend(module.build_id);
            self.memory.write(at, &bytes);
        }
    }

    /// A text that ends with the module.
    fn text_of(&mut self, module: &mut Module, text: &str) -> KernelVa {
        let at = self.memory.text(text);
        module.objects.push((at, text.len() as u32 + 1));
        at
    }

    /// An object that ends with the module.
    fn object_of(&mut self, module: &mut Module, bytes: u32) -> KernelVa {
        let at = self.memory.allocate(bytes);
        module.objects.push((at, bytes));
        at
    }

    /// `MODULE_REF_BASE` is 1; 0 uses are left of a module that ends.
    fn put_references(&mut self, module: KernelVa, uses: u32) {
        let field = self.module_layout().refcnt;
        self.memory.put_optional(module, field, u64::from(uses) + 1);
    }

    /// The kobject in a module.
    fn kobject_of(&self, module: KernelVa) -> KernelVa {
        let entry = self.kernel.layouts.module_kobject.map_or(0, |kobject| kobject.entry.offset);
        module.plus(u64::from(self.module_layout().kobj_entry.offset - entry))
    }

    /// `mod_sysfs_init`: the kobject is complete before the kset leads to it.
    fn add_kobject(&mut self, module: &mut Module) {
        let (layouts, layout) = (self.layouts(), self.module_layout());
        let (Some(kobject), Some(kset)) = (layouts.module_kobject, layouts.kset) else { return };
        let (address, object) = (module.address, self.kobject_of(module.address));
        let entry = address.plus(layout.kobj_entry.offset.into());
        self.memory.point(object, kobject.module, address);
        self.memory.point(address, layout.kobj_kset, self.modules.kset);
        self.memory.list_init(entry);
        let head = self.modules.kset.plus(kset.list.offset.into());
        self.memory.list_add_tail(entry, head);
        let bytes = layouts.kernfs_node.map_or(64, |node| node.size);
        module.folder = self.object_of(module, bytes);
        self.memory.point(address, layout.kobj_sd, module.folder);
    }

    /// Removes a module's kobject (`kobject_del`).
    fn delete_kobject(&mut self, module: KernelVa) {
        let layout = self.module_layout();
        self.memory.point(module, layout.kobj_sd, KernelVa::NULL);
        self.memory.list_del_init(module.plus(layout.kobj_entry.offset.into()));
    }

    /// `add_sect_attrs`, `add_notes_attrs`: the files of its sections and notes.
    fn add_attributes(&mut self, module: &mut Module) {
        let (layouts, layout) = (self.layouts(), self.module_layout());
        let (Some(file), Some(all)) = (layouts.bin_attribute, layouts.module_sect_attrs) else {
            return;
        };
        let Some(list) = all.bin_attrs else { return };
        let count = module.sections.len() as u32;
        // Up to v6.13, the address is behind the file's attributes.
        let address = layouts.module_sect_attr.and_then(|of| of.address.map(|at| (of.size, at)));
        let step = address.map_or(file.size, |(bytes, _)| bytes);
        let group = self.object_of(module, all.size + count * step);
        let pointers = self.object_of(module, (count + 1) * 8);
        for (index, (name, section)) in (0..).zip(module.sections.clone()) {
            let name = self.text_of(module, name);
            let at = group.plus(u64::from(all.size + index * step));
            self.memory.point(at, file.name, name);
            match address {
                Some((_, field)) => self.memory.point(at, field, section),
                None => self.memory.point(at, file.private, section),
            }
            self.memory.put_word(pointers.plus(u64::from(index) * 8), at.0);
        }
        self.memory.point(group, list, pointers);
        self.memory.put_optional(module.address, layout.sect_attrs, group.0);
        self.add_note(module);
    }

    fn add_note(&mut self, module: &mut Module) {
        const NAME: &str = ".note.gnu.build-id";
        let (layouts, layout) = (self.layouts(), self.module_layout());
        let (Some(file), Some(all)) = (layouts.bin_attribute, layouts.module_notes_attrs) else {
            return;
        };
        let Some(&(_, note)) = module.sections.iter().find(|(name, _)| *name == NAME) else {
            return;
        };
        let group = self.object_of(module, all.size + file.size);
        let at = group.plus(all.attrs.map_or(all.size, |attributes| attributes.offset).into());
        let name = self.text_of(module, NAME);
        self.memory.point(at, file.name, name);
        self.memory.point(at, file.private, note);
        self.memory.put_optional(group, all.notes, 1);
        self.memory.put_optional(module.address, layout.notes_attrs, group.0);
    }

    /// Unloads a module that no other one uses (`delete_module`, `free_module`).
    pub fn unload_module(&mut self, name: &str) {
        let module = self.module(name).clone();
        assert!(module.holders.is_empty(), "{name} is in use");
        let layout = self.module_layout();
        let is_in = |view| !module.is_hidden_from.contains(&view);
        self.lock_modules(self.init_task);
        self.memory.put_optional(module.address, layout.refcnt, 0);
        self.memory.put(module.address, layout.state, GOING.into());
        self.lock_modules(KernelVa::NULL);
        if is_in(HideModule::Kset) {
            self.delete_kobject(module.address);
        }
        self.lock_modules(self.init_task);
        self.memory.put(module.address, layout.state, UNFORMED.into());
        self.lock_modules(KernelVa::NULL);
        self.end_uses(name);
        self.lock_modules(self.init_task);
        if is_in(HideModule::List) {
            self.memory.list_del(module.address.plus(layout.list.offset.into()));
        }
        for area in module.areas.iter().filter(|_| is_in(HideModule::Tree)) {
            self.tree_remove(area.at);
        }
        self.lock_modules(KernelVa::NULL);
        self.free_areas(&module.areas);
        for &(at, bytes) in &module.objects {
            self.memory.release(at, bytes);
        }
        self.modules.loaded.remove(name);
    }

    /// Lets one module use another one (`ref_module`).
    pub fn use_module(&mut self, of: &str, by: &str) {
        let layouts = self.layouts();
        let (user, used) = (self.module(by).address, self.module(of).address);
        let (Some(layout), Some(list)) = (layouts.module_use, self.module_layout().source_list)
        else {
            return;
        };
        let holders = self.module(of).holders.len() as u32 + 1;
        self.put_references(used, holders);
        let entry = self.memory.allocate(layout.size);
        self.memory.point(entry, layout.source, user);
        let link = entry.plus(layout.source_list.offset.into());
        self.memory.list_add(link, used.plus(list.offset.into()));
        self.modules.uses.push((of.to_owned(), by.to_owned(), entry));
        self.module_mut(of).holders.push(by.to_owned());
    }

    /// Ends the uses by a module (`module_unload_free`).
    fn end_uses(&mut self, by: &str) {
        let Some(layout) = self.kernel.layouts.module_use else { return };
        let all = std::mem::take(&mut self.modules.uses);
        let (ended, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, user, _)| user == by);
        self.modules.uses = left;
        for (of, _, entry) in ended {
            let used = self.module_mut(&of);
            used.holders.retain(|holder| holder != by);
            let (address, holders) = (used.address, used.holders.len() as u32);
            self.put_references(address, holders);
            self.memory.list_del(entry.plus(layout.source_list.offset.into()));
            self.memory.release(entry, layout.size);
        }
    }

    fn module_mut(&mut self, name: &str) -> &mut Module {
        let module = self.modules.loaded.get_mut(name);
        module.unwrap_or_else(|| panic!("there is no module {name}"))
    }

    /// Takes a module out of one view, as an attacker does: without the mutex, and without a word
    /// to readers of the tree.
    pub fn hide_module(&mut self, name: &str, from: HideModule) {
        let module = self.module(name).clone();
        let list = self.module_layout().list;
        match from {
            HideModule::List => {
                self.memory.list_del_poison(module.address.plus(list.offset.into()));
            }
            HideModule::Tree => module.areas.iter().for_each(|area| self.tree_cut(area.at)),
            HideModule::Kset => self.delete_kobject(module.address),
        }
        self.module_mut(name).is_hidden_from.push(from);
    }

    /// Puts a module back where [`Self::hide_module`] took it out.
    pub fn show_module(&mut self, name: &str, from: HideModule) {
        let (module, layout) = (self.module(name).clone(), self.module_layout());
        let (kset, head) = (self.kernel.layouts.kset, self.kernel.symbol("modules"));
        match from {
            HideModule::List => {
                self.memory.list_add(module.address.plus(layout.list.offset.into()), head);
            }
            HideModule::Tree => {
                module.areas.iter().for_each(|area| self.tree_insert(area.at, module.address));
            }
            HideModule::Kset => {
                let list = kset.map_or(0, |kset| kset.list.offset);
                let (entry, head) = (layout.kobj_entry, self.modules.kset.plus(list.into()));
                self.memory.list_add_tail(module.address.plus(entry.offset.into()), head);
                self.memory.point(module.address, layout.kobj_sd, module.folder);
            }
        }
        self.module_mut(name).is_hidden_from.retain(|&view| view != from);
    }

    /// Hides a module as the rootkit Singularity does: its list pointers lead nowhere, it has no
    /// kobject and no state that the kernel shows. The tree still has it.
    pub fn poison_module(&mut self, name: &str) {
        let (address, layout) = (self.module(name).address, self.module_layout());
        self.hide_module(name, HideModule::List);
        self.hide_module(name, HideModule::Kset);
        let list = address.plus(layout.list.offset.into());
        self.memory.put_word(list, SINGULARITY);
        self.memory.put_word(list.plus(8), SINGULARITY);
        self.memory.put(address, layout.state, UNFORMED.into());
    }

    /// Stores the state of a module (`enum module_state`), and nothing else.
    pub fn set_module_stage(&mut self, name: &str, stage: u32) {
        let (address, layout) = (self.module(name).address, self.module_layout());
        self.memory.put(address, layout.state, stage.into());
    }

    /// Writes over an attribute of a module.
    pub fn change_module(&mut self, name: &str, change: ModuleChange) {
        let (address, layout) = (self.module(name).address, self.module_layout());
        match change {
            ModuleChange::SourceVersion(text) => {
                let at = self.memory.text(text);
                self.memory.point(address, layout.srcversion, at);
                text.clone_into(&mut self.module_mut(name).source_version);
            }
            ModuleChange::Taints(taints) => self.memory.put(address, layout.taints, taints),
            ModuleChange::Signed(ok) => {
                self.memory.put_optional(address, layout.sig_ok, ok.into());
            }
        }
    }
}
