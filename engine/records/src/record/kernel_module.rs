//! `kernel_module_details`: an addition to the guide, with the two names that newer releases of
//! DOCA Argus write.

use crate::json::text::Text;
use crate::words::words;

use super::macros::details;
use super::value::{Hex, MemoryAddress, Objects};

details! {
    /// A kernel module.
    pub struct KernelModuleDetails<'a> "kernel_module_details" {
        kernel_module_name: Text<'a>,
        /// Bytes, as /proc/modules has them: the memory of its start is part of it until that is
        /// freed.
        kernel_module_size: u64,
        /// As /proc/modules has it; `Unformed` is in no list that the machine shows.
        kernel_module_state: Option<KernelModuleState>,
        /// How many modules, files and the like use it.
        kernel_module_reference_count: Option<u32>,
        /// The modules that use it, sorted by name. Only lines of a scan have them.
        kernel_module_holders: Option<&'a [Text<'a>]>,
        /// The letters of /proc/modules: `O` for a module from outside of the kernel, `E` for one
        /// without a valid signature. Left out if there are none.
        kernel_module_taints: Option<Text<'a>>,
        /// `version` of its file. Only lines of a scan have it.
        kernel_module_version: Option<Text<'a>>,
        /// `srcversion` of its file.
        kernel_module_source_version: Option<Text<'a>>,
        /// The build id of its file.
        kernel_module_build_id: Option<Hex<'a>>,
        /// Left out if the kernel checks no signatures.
        kernel_module_signature: Option<KernelModuleSignature>,
        /// The address of its code, as /proc/modules shows it to root.
        kernel_module_address: Option<MemoryAddress>,
        /// Its sections, sorted by name. Only lines of a scan have them.
        kernel_module_sections: Option<Objects<'a, KernelModuleSection<'a>>>,
        /// The views of the kernel's modules that show it, if one does not.
        kernel_module_views: Option<&'a [KernelModuleView]>,
        /// The complete views that must show it and do not.
        kernel_module_missing_views: Option<&'a [KernelModuleView]>,
        /// The attributes that have changed, by their names.
        kernel_module_changed: Option<&'a [KernelModuleAttribute]>,
        /// The name before it changed.
        kernel_module_previous_name: Option<Text<'a>>,
        /// The letters before they changed; empty if there were none.
        kernel_module_previous_taints: Option<Text<'a>>,
        /// The source version before it changed.
        kernel_module_previous_source_version: Option<Text<'a>>,
    }
}

details! {
    pub struct KernelModuleSection<'a> "kernel_module_section" {
        section_name: Text<'a>,
        section_address: MemoryAddress,
    }
}

words! {
    /// The state of a kernel module.
    pub enum KernelModuleState {
        Live = "Live",
        Loading = "Loading",
        Unloading = "Unloading",
        Unformed = "Unformed",
    }
}

words! {
    /// Whether the kernel has verified a module's signature.
    pub enum KernelModuleSignature {
        Verified = "verified",
        /// There is no valid one.
        Unverified = "none",
    }
}

words! {
    /// A view of the kernel's modules.
    pub enum KernelModuleView {
        /// The list that /proc/modules shows.
        List = "list",
        /// The tree of the addresses of modules.
        Tree = "tree",
        /// The objects of /sys/module.
        Kset = "kset",
    }
}

words! {
    /// An attribute of a kernel module that never changes by itself.
    pub enum KernelModuleAttribute {
        Name = "kernel_module_name",
        Size = "kernel_module_size",
        Address = "kernel_module_address",
        Taints = "kernel_module_taints",
        SourceVersion = "kernel_module_source_version",
        BuildId = "kernel_module_build_id",
        Signature = "kernel_module_signature",
        State = "kernel_module_state",
    }
}
