//! `struct module` (include/linux/module.h): a kernel module, with what leads to it and from it.

use crate::address::KernelVa;
use crate::layout::{PackedField, View, c_string, u32_at, u64_at};
use crate::maybe::MaybeU32;

crate::layout! {
    /// `struct module` (include/linux/module.h).
    pub struct ModuleStructure("module") {
        /// `enum module_state`
        state: ["state"],
        /// Link in the list `modules`.
        list: ["list"],
        /// Name, 56 bytes with its NUL.
        name: ["name"],
        /// `struct kset *` of its object in sysfs: `module_kset`.
        kobj_kset: ["mkobj.kobj.kset"],
        /// Link in the list of that.
        kobj_entry: ["mkobj.kobj.entry"],
        /// `struct kernfs_node *`: its directory /sys/module/NAME.
        kobj_sd: ["mkobj.kobj.sd"],
        /// A C string; null if it has none, as the next one.
        srcversion: ["srcversion"],
        version: ["version"],
        /// Bits of `taint_flags` (kernel/panic.c).
        taints: ["taints"],
        /// Whether its signature was verified.
        sig_ok?: ["sig_ok"],
        /// Only with `CONFIG_STACKTRACE_BUILD_ID` (since v5.14).
        build_id?: ["build_id"],
        /// Number of its users and one more. Only with `CONFIG_MODULE_UNLOAD`.
        refcnt?: ["refcnt.counter"],
        /// Head of the list of `struct module_use` of the modules that use it. Only with
        /// `CONFIG_MODULE_UNLOAD`.
        source_list?: ["source_list"],
        /// `struct module_sect_attrs *`. Only with `CONFIG_KALLSYMS`.
        sect_attrs?: ["sect_attrs"],
        /// `struct module_notes_attrs *`. Only with `CONFIG_KALLSYMS`.
        notes_attrs?: ["notes_attrs"],
        /// `struct module_layout` of its memory, and of that which is freed after it has begun.
        /// Since Linux commit ac3b43283923 ("module: replace module_layout with module_memory") (in
        /// v6.4) it has `mem` instead.
        core_layout?: ["core_layout"],
        init_layout?: ["init_layout"],
        /// `struct module_memory` of each of its parts, by `enum mod_mem_type`.
        mem?: ["mem"],
    }
}

crate::layout! {
    /// `struct module_layout` (include/linux/module.h), up to v6.3: the memory of a module.
    pub struct ModuleLayout("module_layout") {
        base: ["base"],
        /// All of it in bytes; then up to the ends of its code, of what is read only, and of what
        /// is read only after the module has begun.
        bytes: ["size"],
        text_size: ["text_size"],
        ro_size: ["ro_size"],
        ro_after_init_size?: ["ro_after_init_size"],
        /// `struct mod_tree_node`. Only with `CONFIG_MODULES_TREE_LOOKUP`.
        mtn?: ["mtn"],
    }
}

crate::layout! {
    /// `struct module_memory` (include/linux/module.h), since v6.4: a part of a module.
    pub struct ModuleMemory("module_memory") {
        base: ["base"],
        /// In bytes.
        bytes: ["size"],
        /// `struct mod_tree_node`. Only with `CONFIG_MODULES_TREE_LOOKUP`.
        mtn?: ["mtn"],
    }
}

crate::layout! {
    /// `struct mod_tree_root` (kernel/module/main.c): all memory of modules, by address. The tree
    /// is there twice, and writers change one after the other (include/linux/rbtree_latch.h).
    pub struct ModTreeRoot("mod_tree_root") {
        /// Counts changes of either. Its lowest bit is the number of the one that is not being
        /// changed. Only with `CONFIG_MODULES_TREE_LOOKUP`, as the next one.
        seq?: ["root.seq.seqcount.sequence", "root.seq.sequence", "root.seq"],
        /// Two `struct rb_root`.
        tree?: ["root.tree"],
    }
}

crate::layout! {
    /// `struct mod_tree_node` (include/linux/module.h). Only with `CONFIG_MODULES_TREE_LOOKUP`.
    pub struct ModTreeNode("mod_tree_node") {
        /// `struct module *`
        module: ["mod"],
        /// Two `struct rb_node`.
        node: ["node.node"],
    }
}

crate::layout! {
    /// `struct module_use` (include/linux/module.h): a module uses another one.
    pub struct ModuleUse("module_use") {
        /// Link in the list of the used one.
        source_list: ["source_list"],
        /// `struct module *` that uses it.
        source: ["source"],
    }
}

crate::layout! {
    /// `struct module_sect_attrs` (kernel/module/sysfs.c): /sys/module/NAME/sections.
    pub struct ModuleSectAttrs("module_sect_attrs") {
        /// `struct bin_attribute **`, null at its end.
        bin_attrs?: ["grp.bin_attrs_new", "grp.bin_attrs"],
    }
}

crate::layout! {
    /// `struct module_sect_attr` (kernel/module/sysfs.c, up to v6.13): begins with a
    /// `struct bin_attribute`. Later kernels have the address in its `private`.
    pub struct ModuleSectAttr("module_sect_attr") {
        address?: ["address"],
    }
}

crate::layout! {
    /// `struct module_notes_attrs` (kernel/module/sysfs.c): /sys/module/NAME/notes.
    pub struct ModuleNotesAttrs("module_notes_attrs") {
        /// Number of `attrs`; up to v6.13.
        notes?: ["notes"],
        /// An array of `struct bin_attribute`.
        attrs?: ["attrs"],
    }
}

/// `MODULE_NAME_LEN` (include/linux/moduleparam.h): bytes of a name with its NUL.
pub const MODULE_NAME_BYTES: usize = 56;
/// `MOD_MEM_NUM_TYPES` (include/linux/module.h).
pub const MODULE_PARTS: usize = 7;
/// `enum mod_mem_type` (include/linux/module.h): the places of the parts.
const TEXT: usize = 0;
const DATA: usize = 1;
const RODATA: usize = 2;
const RO_AFTER_INIT: usize = 3;
const INIT_TEXT: usize = 4;
const INIT_DATA: usize = 5;
const INIT_RODATA: usize = 6;
/// Bytes of a build id: a SHA-1.
pub const MODULE_BUILD_ID_BYTES: usize = 20;
/// Bytes of a note with such a build id.
pub const BUILD_ID_NOTE_BYTES: u32 = (NOTE_HEADER_BYTES + MODULE_BUILD_ID_BYTES) as u32;
/// Bytes of a note before its contents: three numbers, and the name `GNU`.
const NOTE_HEADER_BYTES: usize = 16;

/// `enum module_state` (include/linux/module.h).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ModuleStage {
    #[default]
    Live,
    /// All of it is there, and it begins.
    Coming,
    /// It ends.
    Going,
    /// It is being set up, or taken down.
    Unformed,
}

impl ModuleStage {
    const fn of(state: u64) -> Option<Self> {
        match state {
            0 => Some(Self::Live),
            1 => Some(Self::Coming),
            2 => Some(Self::Going),
            3 => Some(Self::Unformed),
            _ => None,
        }
    }
}

/// A part of a module's memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ModulePart {
    pub base: KernelVa,
    /// In bytes; zero if the module has no such part.
    pub size: u32,
}

/// The layouts of a module and of its memory, of which a kernel has one kind.
#[derive(Clone, Copy, Debug)]
pub struct ModuleLayouts<'a> {
    pub module: &'a ModuleStructure,
    pub layout: Option<&'a ModuleLayout>,
    pub memory: Option<&'a ModuleMemory>,
}

impl ModuleLayouts<'_> {
    /// Offset of the first `struct mod_tree_node` in a `struct module`, if it has any.
    pub fn first_tree_node(&self) -> Option<u64> {
        let part = self.module.mem.zip(self.memory.and_then(|memory| memory.mtn));
        let (start, node) = part
            .or_else(|| self.module.core_layout.zip(self.layout.and_then(|layout| layout.mtn)))?;
        Some(u64::from(start.offset) + u64::from(node.offset))
    }

    /// The parts of the module in a packed copy.
    fn parts(&self, view: View<'_>) -> [ModulePart; MODULE_PARTS] {
        let mut parts = [ModulePart::default(); MODULE_PARTS];
        if let Some((all, memory)) = self.module.mem.zip(self.memory) {
            let one = (memory.size as usize).max(1);
            for (part, bytes) in parts.iter_mut().zip(view.bytes(all).chunks_exact(one)) {
                part.base = KernelVa(number(bytes, memory.base));
                part.size = number(bytes, memory.bytes) as u32;
            }
        } else if let Some(layout) = self.layout {
            let bytes = |field: Option<PackedField>| field.map_or(&[][..], |it| view.bytes(it));
            let core = split(layout, bytes(self.module.core_layout));
            [parts[TEXT], parts[RODATA], parts[RO_AFTER_INIT], parts[DATA]] = core;
            let [text, rodata, more, data] = split(layout, bytes(self.module.init_layout));
            [parts[INIT_TEXT], parts[INIT_RODATA]] = [text, rodata];
            // Nothing of it is made read only later.
            let size = more.size.saturating_add(data.size);
            parts[INIT_DATA] = ModulePart { base: more.base, size };
        }
        parts
    }
}

/// The code, the read-only data, what is read only later, and the other data in a `struct
/// module_layout`. Sizes beyond the whole are cut.
fn split(layout: &ModuleLayout, bytes: &[u8]) -> [ModulePart; 4] {
    let size = |field| number(bytes, field) as u32;
    let (base, whole, read_only) = (number(bytes, layout.base), size(layout.bytes), layout.ro_size);
    let later = layout.ro_after_init_size.unwrap_or(read_only);
    let mut start = 0;
    [size(layout.text_size), size(read_only), size(later), whole].map(|end| {
        let end = end.min(whole).max(start);
        let part = ModulePart { base: KernelVa(base).plus(start.into()), size: end - start };
        start = end;
        part
    })
}

/// A number of a structure that is not packed.
fn number(bytes: &[u8], field: PackedField) -> u64 {
    let offset = field.offset as usize;
    if field.size == 4 { u32_at(bytes, offset).into() } else { u64_at(bytes, offset) }
}

/// The decoded fields of a `struct module`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Module {
    pub stage: ModuleStage,
    /// Its links in the list `modules`.
    pub next: KernelVa,
    pub previous: KernelVa,
    /// Name, padded with NULs.
    pub name: [u8; MODULE_NAME_BYTES],
    /// `struct kset *`
    pub kset: KernelVa,
    /// Its links in the list of that.
    pub kobject_entry: [KernelVa; 2],
    /// `struct kernfs_node *`: another one if the same memory has another module.
    pub kobject_sd: KernelVa,
    /// C strings.
    pub srcversion: KernelVa,
    pub version: KernelVa,
    /// Bits of `taint_flags`.
    pub taints: u64,
    /// Whether its signature was verified; `None` if the kernel does not note that.
    pub is_signed: Option<bool>,
    /// Number of its users, if the kernel counts them.
    pub references: MaybeU32,
    /// `struct module_sect_attrs *`
    pub sections: KernelVa,
    /// `struct module_notes_attrs *`
    pub notes: KernelVa,
    pub build_id: Option<[u8; MODULE_BUILD_ID_BYTES]>,
    /// Its memory, in the order of `enum mod_mem_type`.
    pub parts: [ModulePart; MODULE_PARTS],
    /// The size in /proc/modules.
    pub total_bytes: u64,
    /// Links in its list of `struct module_use`; null if the kernel has none.
    pub users: [KernelVa; 2],
}

impl Default for Module {
    fn default() -> Self {
        Self {
            stage: ModuleStage::default(),
            next: KernelVa::NULL,
            previous: KernelVa::NULL,
            name: [0; MODULE_NAME_BYTES],
            kset: KernelVa::NULL,
            kobject_entry: [KernelVa::NULL; 2],
            kobject_sd: KernelVa::NULL,
            srcversion: KernelVa::NULL,
            version: KernelVa::NULL,
            taints: 0,
            is_signed: None,
            references: MaybeU32::NONE,
            sections: KernelVa::NULL,
            notes: KernelVa::NULL,
            build_id: None,
            parts: [ModulePart::default(); MODULE_PARTS],
            total_bytes: 0,
            users: [KernelVa::NULL; 2],
        }
    }
}

impl Module {
    /// Decodes the packed copy of a `struct module`. `None` if it is none: its state is unknown, or
    /// it has no name. Links in lists may be anything, because what hides a module changes them.
    pub fn decode(layouts: &ModuleLayouts<'_>, bytes: &[u8]) -> Option<Self> {
        let (layout, view) = (layouts.module, View::new(bytes));
        let stage = ModuleStage::of(view.unsigned(layout.state))?;
        let name = name_of(view.bytes(layout.name))?;
        let links = |field| [0, 1].map(|index| KernelVa(view.u64_at(field, index)));
        let pointer = |field: Option<PackedField>| KernelVa(view.optional(field).unwrap_or(0));
        let [next, previous] = links(layout.list);
        let references = layout.refcnt.and_then(|field| view.signed(field).checked_sub(1));
        let build_id: Option<[u8; MODULE_BUILD_ID_BYTES]> =
            layout.build_id.and_then(|field| view.bytes(field).first_chunk().copied());
        let parts = layouts.parts(view);
        Some(Self {
            stage,
            next,
            previous,
            name,
            kset: view.pointer(layout.kobj_kset),
            kobject_entry: links(layout.kobj_entry),
            kobject_sd: view.pointer(layout.kobj_sd),
            srcversion: view.pointer(layout.srcversion),
            version: view.pointer(layout.version),
            taints: view.unsigned(layout.taints),
            is_signed: view.optional(layout.sig_ok).map(|is_verified| is_verified != 0),
            references: MaybeU32::new(references.and_then(|number| u32::try_from(number).ok())),
            sections: pointer(layout.sect_attrs),
            notes: pointer(layout.notes_attrs),
            build_id: build_id.filter(|id| id.iter().any(|&byte| byte != 0)),
            parts,
            total_bytes: sum(&parts),
            users: layout.source_list.map_or([KernelVa::NULL; 2], links),
        })
    }

    /// The name without its NULs.
    pub fn name(&self) -> &[u8] {
        c_string(&self.name)
    }

    /// Its code.
    pub const fn text(&self) -> ModulePart {
        self.parts[TEXT]
    }

    /// The code of its start, until that is freed.
    pub const fn init_text(&self) -> ModulePart {
        self.parts[INIT_TEXT]
    }

    /// Its data, for as long as it is loaded.
    pub const fn data(&self) -> [ModulePart; 3] {
        [self.parts[DATA], self.parts[RODATA], self.parts[RO_AFTER_INIT]]
    }

    /// Whether the address is in its memory.
    pub fn contains(&self, address: KernelVa) -> bool {
        let is_in = |part: &ModulePart| address.0.wrapping_sub(part.base.0) < u64::from(part.size);
        self.parts.iter().any(is_in)
    }

    /// Bytes of the parts that it has for as long as it is loaded.
    pub fn core_bytes(&self) -> u64 {
        sum(&self.parts[..INIT_TEXT])
    }
}

fn sum(parts: &[ModulePart]) -> u64 {
    parts.iter().map(|part| u64::from(part.size)).sum()
}

/// A name of letters that are visible, with its NUL.
fn name_of(bytes: &[u8]) -> Option<[u8; MODULE_NAME_BYTES]> {
    let text = c_string(bytes);
    let is_name = !text.is_empty()
        && text.len() < bytes.len().min(MODULE_NAME_BYTES)
        && text.iter().all(u8::is_ascii_graphic);
    let mut name = [0; MODULE_NAME_BYTES];
    name.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    is_name.then_some(name)
}

/// The build id in a note's bytes, if it is the note with it and the id is not too long.
pub fn build_id_of_note(bytes: &[u8]) -> Option<&[u8]> {
    /// include/uapi/linux/elf.h
    const NT_GNU_BUILD_ID: u32 = 3;
    let length = u32_at(bytes, 4) as usize;
    let is_build_id = u32_at(bytes, 0) == 4
        && u32_at(bytes, 8) == NT_GNU_BUILD_ID
        && bytes.get(12..NOTE_HEADER_BYTES) == Some(b"GNU\0")
        && (1..=MODULE_BUILD_ID_BYTES).contains(&length);
    if is_build_id { bytes.get(NOTE_HEADER_BYTES..NOTE_HEADER_BYTES + length) } else { None }
}

#[cfg(test)]
mod tests;
