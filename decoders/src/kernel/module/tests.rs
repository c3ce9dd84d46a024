//! Modules in the layouts of an old kernel and of a new one.

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
            ("module", "name") | ("module_layout", "mtn") => (24, 56),
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
            ("module_memory", "size") | ("module_layout", "text_size") => (12, 4),
            ("module_layout", "size") => (8, 4),
            ("module_layout", "ro_size") => (16, 4),
            ("module_layout", "ro_after_init_size") => (20, 4),
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
