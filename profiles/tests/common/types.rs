//! BTF for a kernel with exactly the fields that the decoders look up, each under its newest name.

use std::cell::RefCell;
use std::collections::BTreeMap;

use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::{Member, Members};

use super::btf_writer::{Writer, kind};

/// Records all look-ups.
#[derive(Default)]
struct Asked {
    structures: RefCell<BTreeMap<String, Tree>>,
}

#[derive(Default)]
struct Tree(BTreeMap<String, Tree>);

impl Members for Asked {
    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let mut structures = self.structures.borrow_mut();
        let mut tree = structures.entry(structure.to_owned()).or_default();
        for name in path.split('.') {
            tree = tree.0.entry(name.to_owned()).or_default();
        }
        Some(Member { offset: 0, size: 8 })
    }

    fn size_of(&self, structure: &str) -> Option<u32> {
        self.structures.borrow_mut().entry(structure.to_owned()).or_default();
        Some(8)
    }
}

/// Sizes of the fields that do not have eight bytes.
fn bytes_of(name: &str) -> u32 {
    match name {
        // With its other fields and the padding, `struct page` has 64 bytes.
        "comm" | "padding" => 16,
        "nodename" | "release" => 72,
        "slots" => 512,
        "numbers" => 32,
        "tasks" | "pid_links" | "thread_node" => 64,
        "pid" | "tgid" | "flags" | "max_fds" | "nr" => 4,
        "shift" | "count" | "offset" => 1,
        _ => 8,
    }
}

/// The BTF, with enough names to reach the minimum size of a kernel's.
pub(crate) fn kernel_btf() -> Vec<u8> {
    write(&structures(), |_| true).finish()
}

/// The BTF of a kernel without overlayfs, and of the module with it.
pub(crate) fn kernel_and_overlay_btf() -> (Vec<u8>, Vec<u8>) {
    let structures = structures();
    let is_overlay = |name: &str| name.starts_with("ovl_");
    let mut writer = write(&structures, |name| !is_overlay(name));
    let position = writer.position();
    for (name, tree) in structures.iter().filter(|(name, _)| is_overlay(name)) {
        structure(&mut writer, name, tree);
    }
    writer.finish_module(position)
}

/// Everything that the decoders and discovery look up.
fn structures() -> BTreeMap<String, Tree> {
    let asked = Asked::default();
    Layouts::bind(&asked).expect("every look-up succeeds");
    for (structure, path) in [
        ("page", "compound_head"),
        ("page", "padding"),
        ("slab", "slab_cache"),
        ("kmem_cache", "name"),
    ] {
        asked.member(structure, path);
    }
    asked.structures.into_inner()
}

fn write(structures: &BTreeMap<String, Tree>, is_wanted: impl Fn(&str) -> bool) -> Writer {
    let mut writer = Writer::new();
    for (name, tree) in structures.iter().filter(|(name, _)| is_wanted(name)) {
        structure(&mut writer, name, tree);
    }
    writer.name(&"x".repeat(300 << 10));
    writer
}

/// Writes a structure after the structures inside it; returns its id and size.
fn structure(writer: &mut Writer, name: &str, tree: &Tree) -> (u32, u32) {
    let mut members = Vec::new();
    // An unused first word, so that no field is at zero by coincidence.
    let mut bytes = 8;
    for (field, inside) in &tree.0 {
        let (id, size) = if inside.0.is_empty() {
            let size = bytes_of(field);
            let byte = writer.int("char", 1);
            let id = if size > 8 { writer.array(byte, size) } else { writer.int("int", size) };
            (id, size)
        } else {
            structure(writer, "", inside)
        };
        members.push((field.as_str(), id, bytes * 8));
        bytes = (bytes + size).next_multiple_of(8);
    }
    (writer.structure(kind::STRUCT, false, name, bytes, &members), bytes)
}
