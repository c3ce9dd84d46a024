//! A `struct module` of any bytes, in the layout of an old kernel and of a new one, with the nodes
//! of the tree of modules and the note in it.
//!
//! The first byte of the input chooses the layout; the rest is the structure.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::module::{
    MODULE_BUILD_ID_BYTES, MODULE_NAME_BYTES, Module, ModuleLayout, ModuleLayouts, ModuleMemory,
    ModuleStructure, build_id_of_note,
};
use panoptes_decoders::kernel::rb_tree::{RbLinks, RbNode};
use panoptes_decoders::layout::{Layout, Member, Members};
use panoptes_fuzz::fuzz_target;

/// Bytes of the structure.
const BYTES: usize = 896;

/// The fields of Debian's kernels: 6.1, or 6.12.
struct Fields {
    is_new: bool,
}

impl Members for Fields {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let (offset, size) = match (structure, path) {
            ("module", "state") => (0, 4),
            ("module", "list") => (8, 16),
            ("module", "name") | ("module_layout", "mtn") => (24, 56),
            ("module", "mkobj.kobj.entry") => (88, 16),
            ("module", "mkobj.kobj.kset") => (112, 8),
            ("module", "mkobj.kobj.sd") => (128, 8),
            ("module", "version") => (184, 8),
            ("module", "srcversion") => (192, 8),
            ("module", "sig_ok") => (297, 1),
            ("module", "core_layout") if !self.is_new => (320, 80),
            ("module", "init_layout") if !self.is_new => (400, 80),
            ("module", "taints") if !self.is_new => (504, 8),
            ("module", "mem") if self.is_new => (320, 7 * 72),
            ("module", "taints") => (848, 8),
            ("module", "refcnt.counter") => (856, 4),
            ("module", "source_list") => (864, 16),
            ("module_layout" | "module_memory", "base") | ("rb_node", "__rb_parent_color") => {
                (0, 8)
            }
            ("module_layout" | "module_memory", "size") => (8, 4),
            ("module_layout", "text_size") => (12, 4),
            ("module_layout", "ro_size") => (16, 4),
            ("module_layout", "ro_after_init_size") => (20, 4),
            ("module_memory", "mtn") => (16, 56),
            ("rb_node", "rb_right") => (8, 8),
            ("rb_node", "rb_left") => (16, 8),
            _ => return None,
        };
        Some(Member { offset, size })
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        match structure {
            "module" => Some(BYTES as u32),
            "module_layout" if !self.is_new => Some(80),
            "module_memory" if self.is_new => Some(72),
            "rb_node" => Some(24),
            _ => None,
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    let fields = Fields { is_new: kind & 1 != 0 };
    let module = ModuleStructure::bind(&fields).expect("all required fields are there");
    let (layout, memory) = (ModuleLayout::bind(&fields).ok(), ModuleMemory::bind(&fields).ok());
    let layouts =
        ModuleLayouts { module: &module, layout: layout.as_ref(), memory: memory.as_ref() };
    let node = layouts.first_tree_node().expect("a module has a node");
    assert!(node < BYTES as u64);

    let mut whole = [0; BYTES];
    whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let mut packed = Vec::new();
    for span in module.packing.spans() {
        let start = span.offset as usize;
        packed.extend(whole.iter().skip(start).take(span.length as usize));
    }
    packed.resize(module.packing.bytes() as usize, 0);
    if let Some(module) = Module::decode(&layouts, &packed) {
        check(&module);
    }
    // A copy that is too short.
    let _ = Module::decode(&layouts, bytes);

    let rb_node = RbNode::bind(&fields).expect("all of its fields are there");
    let links = RbLinks::decode(&rb_node, &whole[node as usize..]);
    assert_eq!(links.parent.0 & 3, 0);
    if let Some(id) = build_id_of_note(bytes) {
        assert!((1..=MODULE_BUILD_ID_BYTES).contains(&id.len()));
    }
});

fn check(module: &Module) {
    assert!(!module.name().is_empty() && module.name().len() < MODULE_NAME_BYTES);
    assert!(module.name().iter().all(u8::is_ascii_graphic));
    assert!(module.core_bytes() <= module.total_bytes);
    assert!(u64::from(module.text().size) <= module.core_bytes());
    let sizes = module.parts.iter().map(|part| u64::from(part.size));
    assert_eq!(sizes.sum::<u64>(), module.total_bytes);
    for part in module.parts.iter().filter(|part| part.size > 0) {
        assert!(module.contains(part.base));
        assert!(module.contains(part.base.plus(u64::from(part.size) - 1)));
    }
    let is_nowhere = module.total_bytes == 0;
    assert!(!is_nowhere || !module.contains(KernelVa::NULL));
}
