//! `struct btf_module` and `struct btf` (kernel/bpf/btf.c, v5.11): the types that modules carry.

use crate::address::KernelVa;
use crate::layout::{View, c_string};

crate::layout! {
    /// `struct btf_module` (kernel/bpf/btf.c): an entry of the list `btf_modules`.
    pub struct BtfModule("btf_module") {
        /// Link to the next entry.
        list: ["list.next"],
        /// `struct btf *`
        btf: ["btf"],
    }
}

crate::layout! {
    /// `struct btf` (kernel/bpf/btf.c).
    pub struct BtfObject("btf") {
        /// Address of the BTF data with its header; in vmalloc memory if it is large.
        data: ["data"],
        data_size: ["data_size"],
        /// The module's name.
        name?: ["name"],
    }
}

/// The types of one module.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ModuleTypes {
    /// Address of the BTF data.
    pub data: KernelVa,
    pub bytes: u64,
}

impl ModuleTypes {
    /// Decodes the packed copy of a `struct btf`: its types and the module's name.
    pub fn decode<'a>(layout: &BtfObject, bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let view = View::new(bytes);
        let types =
            Self { data: view.pointer(layout.data), bytes: view.unsigned(layout.data_size) };
        (types, layout.name.map_or(&[], |name| c_string(view.bytes(name))))
    }
}
