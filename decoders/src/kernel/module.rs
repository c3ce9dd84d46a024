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
    /// By `enum mod_mem_type`.
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
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::layout::{Layout, Member, Members};

    /// The fields of an old kernel, or of a new one.
    struct Fields {
        is_new: bool,
    }

    impl Members for Fields {
        fn member(&self, structure: &str, path: &str) -> Option<Member> {
            let (offset, size) = match (structure, path) {
                ("module", "state") => (0, 4),
                ("module", "list") => (8, 16),
                ("module", "name") => (24, 56),
                ("module", "mkobj.kobj.entry") => (88, 16),
                ("module", "mkobj.kobj.kset") => (112, 8),
                ("module", "mkobj.kobj.sd") => (128, 8),
                ("module", "version") => (184, 8),
                ("module", "srcversion") => (192, 8),
                ("module", "sig_ok") => (297, 1),
                ("module", "core_layout") if !self.is_new => (384, 80),
                ("module", "init_layout") if !self.is_new => (464, 80),
                ("module", "mem") if self.is_new => (384, 7 * 24),
                ("module", "taints") => (560, 8),
                ("module", "build_id") if self.is_new => (568, 20),
                ("module", "source_list") => (600, 16),
                ("module", "refcnt.counter") => (616, 4),
                ("module_layout" | "module_memory", "base") => (0, 8),
                ("module_memory", "size") => (12, 4),
                ("module_layout", "size") => (8, 4),
                ("module_layout", "text_size") => (12, 4),
                ("module_layout", "ro_size") => (16, 4),
                ("module_layout", "ro_after_init_size") => (20, 4),
                ("module_layout", "mtn") => (24, 56),
                _ => return None,
            };
            Some(Member { offset, size })
        }

        fn size_of(&self, structure: &str) -> Option<u32> {
            match structure {
                "module" => Some(640),
                "module_layout" if !self.is_new => Some(80),
                "module_memory" if self.is_new => Some(24),
                _ => None,
            }
        }
    }

    /// A module named `loop`, as the kernel has it.
    struct Scene {
        module: ModuleStructure,
        layout: Option<ModuleLayout>,
        memory: Option<ModuleMemory>,
        bytes: [u8; 640],
    }

    impl Scene {
        fn new(is_new: bool) -> Self {
            let fields = Fields { is_new };
            let mut scene = Self {
                module: ModuleStructure::bind(&fields).unwrap(),
                layout: ModuleLayout::bind(&fields).ok(),
                memory: ModuleMemory::bind(&fields).ok(),
                bytes: [0; 640],
            };
            scene.bytes[24..28].copy_from_slice(b"loop");
            scene
        }

        fn put(&mut self, at: usize, value: u64) {
            self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }

        fn sizes(&mut self, at: usize, sizes: [u32; 4]) {
            for (index, size) in sizes.iter().enumerate() {
                self.bytes[at + 4 * index..][..4].copy_from_slice(&size.to_le_bytes());
            }
        }

        fn packed(&self, bytes: &[u8]) -> Vec<u8> {
            let spans = self.module.packing.spans();
            let span = |at: u32, length: u32| &bytes[at as usize..(at + length) as usize];
            spans.iter().flat_map(|it| span(it.offset, it.length)).copied().collect()
        }

        fn decode(&self) -> Option<Module> {
            self.decode_bytes(&self.packed(&self.bytes))
        }

        fn decode_bytes(&self, packed: &[u8]) -> Option<Module> {
            let (layout, memory) = (self.layout.as_ref(), self.memory.as_ref());
            Module::decode(&ModuleLayouts { module: &self.module, layout, memory }, packed)
        }
    }

    const BASE: u64 = 0xffff_ffff_c000_0000;

    fn sizes(module: &Module) -> [u32; MODULE_PARTS] {
        module.parts.map(|part| part.size)
    }

    #[test]
    fn the_parts_of_an_old_layout_are_split() {
        let mut scene = Scene::new(false);
        scene.put(384, BASE);
        scene.sizes(392, [0x5000, 0x1000, 0x3000, 0x3800]);
        scene.put(464, BASE + 0x10_0000);
        scene.sizes(472, [0x2000, 0x800, 0x900, 0x900]);
        let module = scene.decode().unwrap();
        assert_eq!(sizes(&module), [0x1000, 0x1800, 0x2000, 0x800, 0x800, 0x1700, 0x100]);
        assert_eq!(module.parts[1].base.0, BASE + 0x3800);
        assert_eq!(module.parts[5].base.0, BASE + 0x10_0900);
        assert_eq!((module.total_bytes, module.core_bytes()), (0x7000, 0x5000));
        assert_eq!(module.text(), ModulePart { base: KernelVa(BASE), size: 0x1000 });
        let layouts =
            ModuleLayouts { module: &scene.module, layout: scene.layout.as_ref(), memory: None };
        assert_eq!(layouts.first_tree_node(), Some(384 + 24));
    }

    #[test]
    fn sizes_beyond_the_whole_are_cut() {
        let mut scene = Scene::new(false);
        scene.put(384, u64::MAX);
        scene.sizes(392, [0x1000, u32::MAX, 7, u32::MAX]);
        assert_eq!(sizes(&scene.decode().unwrap()), [0x1000, 0, 0, 0, 0, 0, 0]);
        let mut scene = Scene::new(true);
        for part in 0..MODULE_PARTS {
            scene.put(384 + part * 24 + 8, u64::MAX);
        }
        let module = scene.decode().unwrap();
        assert_eq!(module.total_bytes, 7 * u64::from(u32::MAX));
    }

    #[test]
    fn the_fields_of_a_new_layout_are_read() {
        let mut scene = Scene::new(true);
        scene.put(384, BASE);
        scene.put(384 + 8, 0x3000 << 32);
        scene.put(384 + 4 * 24 + 8, 0x1000 << 32);
        scene.put(560, 1 << 12);
        scene.bytes[568] = 0xab;
        scene.bytes[616] = 3;
        scene.bytes[297] = 1;
        let module = scene.decode().unwrap();
        assert_eq!(module.name(), b"loop");
        assert_eq!((module.total_bytes, module.core_bytes()), (0x4000, 0x3000));
        assert_eq!(module.text(), ModulePart { base: KernelVa(BASE), size: 0x3000 });
        assert!(module.contains(KernelVa(BASE + 0x2fff)));
        assert!(!module.contains(KernelVa(BASE + 0x3000)) && !module.contains(KernelVa(BASE - 1)));
        assert_eq!(module.build_id.map(|id| id[0]), Some(0xab));
        assert_eq!((module.references.get(), module.is_signed), (Some(2), Some(true)));
        // Its users are gone, and the kernel has taken its own reference.
        scene.bytes[616] = 0;
        assert_eq!(scene.decode().unwrap().references.get(), None);
    }

    #[test]
    fn what_has_no_state_or_no_name_is_no_module() {
        let mut scene = Scene::new(true);
        for (state, stage) in [
            (0, ModuleStage::Live),
            (1, ModuleStage::Coming),
            (2, ModuleStage::Going),
            (3, ModuleStage::Unformed),
        ] {
            scene.bytes[0] = state;
            assert_eq!(scene.decode().unwrap().stage, stage);
        }
        scene.bytes[0] = 4;
        assert_eq!(scene.decode(), None);
        scene.bytes[0] = 0;
        scene.bytes[25] = 7;
        assert_eq!(scene.decode(), None);
        scene.bytes[24] = 0;
        assert_eq!(scene.decode(), None);
        scene.bytes[24..80].fill(b'a');
        assert_eq!(scene.decode(), None, "it has no end");
    }

    #[test]
    fn a_build_id_is_found_in_its_note_alone() {
        let note = |length: u8, kind: u8| {
            let mut bytes = [0xcd; BUILD_ID_NOTE_BYTES as usize];
            bytes[..16].copy_from_slice(b"\x04\0\0\0\0\0\0\0\0\0\0\0GNU\0");
            (bytes[4], bytes[8]) = (length, kind);
            bytes
        };
        assert_eq!(build_id_of_note(&note(20, 3)), Some(&[0xcd; 20][..]));
        assert_eq!(build_id_of_note(&note(16, 3)), Some(&[0xcd; 16][..]));
        assert_eq!(build_id_of_note(&note(20, 1)), None);
        assert_eq!(build_id_of_note(&note(21, 3)), None);
        assert_eq!(build_id_of_note(&note(20, 3)[..30]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_sums_of_parts(bytes in prop::collection::vec(any::<u8>(), 0..640)) {
            for is_new in [false, true] {
                let scene = Scene::new(is_new);
                let mut whole = scene.bytes;
                whole[80..].iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
                let module = scene.decode_bytes(&scene.packed(&whole)).unwrap();
                prop_assert!(module.core_bytes() <= module.total_bytes);
                let _ = scene.decode_bytes(&bytes);
                let _ = build_id_of_note(&bytes);
            }
        }
    }
}
